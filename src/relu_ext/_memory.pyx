"""Lets C and NumPy read and write, in place, the memory that other objects own.

Contract: what is written is the object's own memory and never a copy of it.  Where that is not
possible there is an error.

`describe` reads a PyTorch tensor by DLPack's table of C functions; every other object is read by
`__dlpack__` or the buffer protocol.  The table does not tell whether the memory of a tensor
differs from its value, so `describe` first asks for what can make it differ: a gradient, which
autograd would compute for values that no longer exist; a pending change of sign; a tangent of
forward-mode differentiation.  For the types of other libraries we do not know what to ask, so
their tables are not used.
"""

cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.exc cimport PyErr_Clear
from cpython.pycapsule cimport (
    PyCapsule_Destructor, PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New,
)
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject, PyTypeObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from relu_ext._operand cimport Operand
from relu_ext._table cimport (
    BFLOAT16, FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64,
)

import sys
from _thread import allocate_lock  # threading.Lock, but threading takes 0.6 ms to import

import numpy as np

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PyGetSetDef:
        PyObject *(*get)(PyObject *, void *) noexcept
        void *closure
    ctypedef struct PyMethodDef:
        PyObject *(*ml_meth)(PyObject *, PyObject *) noexcept
        int ml_flags
    ctypedef struct PyGetSetDescrObject:
        PyGetSetDef *d_getset
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    PyTypeObject PyGetSetDescr_Type
    PyTypeObject PyMethodDescr_Type
    int METH_NOARGS
    unsigned long Py_TPFLAGS_HEAPTYPE
    bint PyType_HasFeature(PyTypeObject *, unsigned long) noexcept
    PyTypeObject *Py_TYPE(object) noexcept
    PyObject *Py_False

cdef extern from *:
    """
    #ifdef __GNUC__
    #define RELU_EXT_LOAD(pointer) __atomic_load_n(pointer, __ATOMIC_ACQUIRE)
    #define RELU_EXT_STORE(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELEASE)
    #else  /* x86 orders loads and stores itself; volatile keeps the compiler to it */
    #define RELU_EXT_LOAD(pointer) (*(PyTypeObject *volatile *)(pointer))
    #define RELU_EXT_STORE(pointer, value) (*(PyTypeObject *volatile *)(pointer) = (value))
    #endif
    """
    PyTypeObject *load "RELU_EXT_LOAD"(PyTypeObject **) noexcept
    void store "RELU_EXT_STORE"(PyTypeObject **, PyTypeObject *) noexcept

cdef extern from "numpy/ndarrayobject.h":
    PyTypeObject PyArray_Type
    object PyArray_NewFromDescr(
        PyTypeObject *, cnp.dtype, int, cnp.npy_intp *, cnp.npy_intp *, void *, int, PyObject *)

# The structures of the DLPack specification (dmlc.github.io/dlpack), versions 0.x and 1.x.

cdef enum:
    CPU = 1
    READ_ONLY = 1
    IS_COPIED = 2
    DIMENSIONS = 64  # the most that NumPy and PyTorch have
    LEAST_ADDRESS = 1 << 16  # the lowest that Linux and Windows map

cdef enum:  # dtype codes
    INT = 0
    UINT = 1
    FLOAT = 2
    BFLOAT = 4

cdef struct Tensor:
    char *data
    int32_t device_type
    int32_t device_id
    int32_t ndim
    uint8_t dtype_code
    uint8_t dtype_bits
    uint16_t dtype_lanes
    int64_t *shape
    int64_t *strides
    uint64_t byte_offset

cdef struct VersionedTensor:
    uint32_t major
    uint32_t minor
    void *manager_context
    void (*deleter)(VersionedTensor *) noexcept
    uint64_t flags
    Tensor tensor

cdef struct ExchangeTable:
    uint32_t major
    uint32_t minor
    const ExchangeTable *previous
    void *allocate
    int (*own)(PyObject *, VersionedTensor **) noexcept
    void *import_
    int (*borrow)(PyObject *, Tensor *) noexcept
    void *stream

cdef dict dtype_kinds = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


# PyTorch's C door.

cdef const ExchangeTable *exchange = NULL
cdef PyGetSetDef *requires_grad
cdef PyMethodDef *is_neg
cdef PyMethodDef *is_zerotensor
cdef dict forward_ad  # the names of its module
cdef object empty_like
# These two are published last and once, under the lock.  Nothing above changes afterwards.
cdef PyTypeObject *parameter_type = NULL
cdef PyTypeObject *tensor_type = NULL
cdef object door_lock = allocate_lock()


cdef bint is_question(method, kind) except -1:
    """Whether a method of `kind` is written in C and takes nothing but `self`."""
    return (Py_TYPE(method) == &PyMethodDescr_Type and issubclass(kind, method.__objclass__)
            and (<PyMethodDescrObject *>method).d_method.ml_flags == METH_NOARGS)


cdef int open_door() except -1:
    """Publish PyTorch's table, if PyTorch is imported and has all that `describe` asks."""
    global exchange, requires_grad, is_neg, is_zerotensor, forward_ad, empty_like
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    parameter = getattr(getattr(torch, "nn", None), "Parameter", None)
    autograd = sys.modules.get("torch.autograd.forward_ad")
    if not (isinstance(tensor, type) and isinstance(parameter, type)
            and isinstance(getattr(autograd, "_current_level", None), int)):
        return 0
    capsule = vars(tensor).get("__dlpack_c_exchange_api__")
    gradient, negative, zero = [
        getattr(tensor, name, None) for name in ("requires_grad", "is_neg", "_is_zerotensor")]
    if not (PyCapsule_IsValid(capsule, "dlpack_exchange_api")
            and Py_TYPE(gradient) == &PyGetSetDescr_Type
            and issubclass(tensor, gradient.__objclass__)
            and is_question(negative, tensor) and is_question(zero, tensor)
            and sizeof(int64_t) == sizeof(Py_ssize_t)):
        return 0
    table = <const ExchangeTable *>PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
    while table != NULL and table.major != 1:
        table = table.previous
    if table == NULL or table.own == NULL or table.borrow == NULL:
        return 0
    for immortal in (tensor, parameter, capsule, gradient, negative, zero):
        Py_INCREF(immortal)
    exchange = table
    requires_grad = (<PyGetSetDescrObject *>gradient).d_getset
    is_neg = (<PyMethodDescrObject *>negative).d_method
    is_zerotensor = (<PyMethodDescrObject *>zero).d_method
    forward_ad = vars(autograd)
    empty_like = getattr(torch, "empty_like", None)
    store(&parameter_type, <PyTypeObject *>parameter)
    store(&tensor_type, <PyTypeObject *>tensor)
    return 0


cdef inline bint has_door(object x) except -1:
    """Whether `x` is a tensor of PyTorch that can be asked by its C door.

    Its type is exactly Tensor or Parameter: another subclass inherits the table, but may keep its
    values elsewhere (FakeTensor).  A Parameter made of such a subclass has the type of the
    subclass.
    """
    cdef PyTypeObject *known = load(&tensor_type)
    if known == NULL and PyType_HasFeature(Py_TYPE(x), Py_TPFLAGS_HEAPTYPE):
        with door_lock:
            if tensor_type == NULL:
                open_door()
        known = load(&tensor_type)
    return known != NULL and (Py_TYPE(x) == known or Py_TYPE(x) == load(&parameter_type))


cdef inline bint is_false(PyObject *answer) except -1:
    """Whether PyTorch answered False; raise the error that it raised."""
    if answer == NULL:
        return -1
    Py_XDECREF(answer)
    return answer == Py_False


cdef inline int kernel_dtype(const Tensor *tensor) noexcept:
    """The kernels' dtype, or -1 where there is none.  There is none for bool, because only relu
    takes it."""
    if tensor.dtype_lanes != 1:
        return -1
    if tensor.dtype_code == FLOAT:
        if tensor.dtype_bits == 32:
            return FLOAT32
        return FLOAT64 if tensor.dtype_bits == 64 else FLOAT16 if tensor.dtype_bits == 16 else -1
    if tensor.dtype_code == BFLOAT:
        return BFLOAT16 if tensor.dtype_bits == 16 else -1
    if tensor.dtype_code == INT:
        return (INT8 if tensor.dtype_bits == 8 else INT16 if tensor.dtype_bits == 16
                else INT32 if tensor.dtype_bits == 32 else INT64 if tensor.dtype_bits == 64 else -1)
    if tensor.dtype_code == UINT:
        return (UINT8 if tensor.dtype_bits == 8 else UINT16 if tensor.dtype_bits == 16
                else UINT32 if tensor.dtype_bits == 32
                else UINT64 if tensor.dtype_bits == 64 else -1)
    return -1


cdef bint has_memory(const Tensor *tensor) noexcept:
    """Whether the tensor has no elements, or their address is not a small offset from NULL."""
    cdef int i
    if <uintptr_t>tensor.data >= LEAST_ADDRESS:
        return True
    for i in range(tensor.ndim):
        if tensor.shape[i] == 0:
            return True
    return False


cdef bint describe(str name, object x, Operand *operand) except -1:
    cdef Tensor tensor
    if not has_door(x):
        return False
    # The table is asked last, because under a TorchFunctionMode the other questions run Python.
    if not (is_false(requires_grad.get(<PyObject *>x, requires_grad.closure))
            and is_false(is_neg.ml_meth(<PyObject *>x, NULL))
            and forward_ad["_current_level"] == -1):  # no dual tensors live
        refuse_tensor(name, x)  # It returns if the tensor has no tangent after all.
    if exchange.borrow(<PyObject *>x, &tensor) != 0:
        PyErr_Clear()
        refuse_tensor(name, x)
        return False
    # PyTorch has tensors of zeros that have no memory, and a part of one begins some bytes past
    # NULL.
    if <uintptr_t>tensor.data < <uintptr_t>1 << 32 and not is_false(
            is_zerotensor.ml_meth(<PyObject *>x, NULL)):
        refuse_tensor(name, x)
    operand.dtype = kernel_dtype(&tensor)
    if (operand.dtype < 0 or tensor.device_type != CPU or not 0 <= tensor.ndim <= DIMENSIONS
            or tensor.ndim > 0 and (tensor.shape == NULL or tensor.strides == NULL)
            or not has_memory(&tensor)):
        return False
    operand.data = tensor.data + tensor.byte_offset
    operand.axes = tensor.ndim
    operand.shape = <const Py_ssize_t *>tensor.shape
    operand.strides = <const Py_ssize_t *>tensor.strides
    operand.stride_unit = tensor.dtype_bits // 8
    operand.writeable = True  # as every tensor is
    return True


cdef object new_tensor(str name, object x):
    if not has_door(x):
        return None
    try:
        return empty_like(x)
    except Exception:
        refuse_tensor(name, x)  # what cannot be allocated alike is refused by its own message
        raise


cdef bint is_tensor(object x) except -1:
    """Whether `x` is a tensor of PyTorch, of whatever subclass."""
    if not PyType_HasFeature(Py_TYPE(x), Py_TPFLAGS_HEAPTYPE):
        return False  # Its type is written in C, and Tensor is not.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return isinstance(tensor, type) and issubclass(type(x), tensor)


cdef int refuse_tensor(str name, object x) except -1:
    """Raise if the memory of a tensor does not hold its value, or something else depends on it."""
    torch = sys.modules["torch"]
    with torch._C.DisableTorchFunctionSubclass():  # Otherwise each question would run Python.
        refuse_plain_tensor(name, x, torch)
    return 0


cdef int refuse_plain_tensor(str name, object x, object torch) except -1:
    if x.layout is not torch.strided:
        raise BufferError(f"{name}: the tensor is {x.layout}; use x.to_dense()")
    if x.is_nested:
        raise BufferError(f"{name}: the tensor is nested; use its parts, x.unbind()")
    if x.device.type != "cpu":
        raise TypeError(f"{name}: the tensor is on the device {x.device}; use x.cpu()")
    if x.is_quantized:
        raise TypeError(
            f"{name}: dtype {x.dtype} is not supported; use x.dequantize() or x.int_repr()")
    if x._is_zerotensor():
        raise BufferError(f"{name}: the zeros of this tensor are not in memory; use x.clone()")
    try:
        nowhere = x.untyped_storage().device.type != "cpu" or x.data_ptr() == 0 and x.numel() > 0
    except RuntimeError:
        nowhere = True
    if nowhere:
        raise BufferError(
            f"{name}: the tensor has no memory of its own (as under torch.func, torch.compile or a "
            f"FakeTensorMode); use torch.nn.functional")
    if x.requires_grad:
        raise BufferError(f"{name}: the tensor requires a gradient; use x.detach()")
    if x.is_conj():
        raise BufferError(f"{name}: the tensor is a lazy conjugation; use x.resolve_conj()")
    if x.is_neg():
        raise BufferError(f"{name}: the tensor is a lazy negation; use x.resolve_neg()")
    if x.is_complex():
        raise TypeError(f"{name}: dtype {x.dtype} is not supported; use torch.view_as_real(x)")
    if x.is_floating_point() and x.element_size() == 1:
        raise TypeError(f"{name}: dtype {x.dtype} is not supported; use x.float()")
    unpack_dual = sys.modules["torch.autograd.forward_ad"].unpack_dual
    if unpack_dual(x).tangent is not None:
        raise BufferError(
            f"{name}: the tensor has a tangent; use torch.autograd.forward_ad.unpack_dual(x)")
    return 0


cdef object tensor_capsule(x):
    """Return what `x.__dlpack__` returns, without a call of Python."""
    cdef VersionedTensor *managed = NULL
    if exchange.own(<PyObject *>x, &managed) != 0 or managed == NULL:
        PyErr_Clear()
        return x.__dlpack__(max_version=(1, 0))
    try:
        return PyCapsule_New(managed, "dltensor_versioned", <PyCapsule_Destructor>free_tensor)
    except MemoryError:
        managed.deleter(managed)
        raise


cdef void free_tensor(object capsule) noexcept:
    managed = <VersionedTensor *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
    if managed.deleter != NULL:
        managed.deleter(managed)


# ndarrays over the memory of other objects.

cdef not_in_place(str name, target):
    return TypeError(
        f"{name}: {type(target).__name__} cannot be written in place; "
        f"use {name.rstrip('_')}, which returns a new array, or pass a writeable ndarray")


def array_over(str name, target):
    """Return an ndarray over the memory of `target`, for the function `name` to read."""
    return over_memory(name, target, False)


def writeable_array(str name, target):
    """Return an ndarray over the memory of `target`, for the function `name` to write."""
    array = over_memory(name, target, True)
    if not array.flags.writeable or array is not target and is_shown_read_only(target, array):
        raise ValueError(
            f"{name}: this {type(target).__name__} is read-only; "
            f"use {name.rstrip('_')}, which returns a new array, or pass a writeable ndarray")
    if array.size and is_tensor(target) and any(  # PyTorch refuses this too; NumPy allows it
            step == 0 and length > 1 for step, length in zip(array.strides, array.shape)):
        raise ValueError(
            f"{name}: elements of this {type(target).__name__} share their memory; use a copy")
    return array


cdef bint is_shown_read_only(target, array) except -1:
    """Whether `target` shows the same memory to NumPy as read-only.  An array of JAX does, but its
    DLPack export hides that."""
    if is_tensor(target) or not array.size or not (
            PyObject_CheckBuffer(target)
            or any(hasattr(type(target), protocol) for protocol in ARRAY_PROTOCOLS)):
        return False
    try:
        shown = np.asarray(target)
    except Exception:
        return False  # NumPy makes no array of it and so does not tell.
    return not shown.flags.writeable and (
        cnp.PyArray_DATA(<cnp.ndarray>shown) == cnp.PyArray_DATA(<cnp.ndarray>array))


cdef tuple ARRAY_PROTOCOLS = ("__array__", "__array_interface__", "__array_struct__")


cdef object over_memory(str name, target, bint writing):
    if cnp.PyArray_Check(target):  # isinstance would believe what the object says it is
        return target
    if hasattr(type(target), "__dlpack__") and not isinstance(target, np.generic):
        return over_dlpack(name, target, writing)
    if PyObject_CheckBuffer(target) and not isinstance(target, np.generic):
        return over_buffer(name, target)
    raise not_in_place(name, target)


cdef over_buffer(str name, target):
    view = memoryview(target)
    if view.format.lstrip("@=<>!") in ("B", "c") and not view.readonly:
        raise TypeError(
            f"{name}: the bytes of {type(target).__name__} carry no dtype; "
            f"use {name}(np.frombuffer(x, dtype))")
    return np.array(view, copy=False)


cdef over_dlpack(str name, target, bint writing):
    cdef Operand operand
    cdef Tensor *tensor
    cdef uint64_t flags = 0
    cdef cnp.npy_intp shape[DIMENSIONS]
    cdef cnp.npy_intp strides[DIMENSIONS]
    cdef int i
    if describe(name, target, &operand):
        capsule = tensor_capsule(target)
    else:
        if is_tensor(target):
            refuse_tensor(name, target)
        device, _ = target.__dlpack_device__()
        if device != CPU:
            raise not_in_place(name, target)
        try:
            capsule = target.__dlpack__(max_version=(1, 0))
        except TypeError:
            capsule = target.__dlpack__()  # for exporters older than DLPack 1
    # The capsule is not consumed but kept as the array's base: its destructor frees the tensor.
    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <VersionedTensor *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        if versioned.major != 1:
            raise BufferError(f"{name}: DLPack version {versioned.major} is not known")
        flags = versioned.flags
        tensor = &versioned.tensor
    else:
        tensor = <Tensor *>PyCapsule_GetPointer(capsule, "dltensor")
    if writing and flags & IS_COPIED or tensor.device_type != CPU:
        raise not_in_place(name, target)
    if tensor.ndim < 0 or tensor.ndim > DIMENSIONS:
        raise BufferError(f"{name}: a tensor of {tensor.ndim} dimensions is not supported")
    dtype = dlpack_dtype(name, tensor)
    step = <cnp.npy_intp>dtype.itemsize
    for i in range(tensor.ndim - 1, -1, -1):
        shape[i] = tensor.shape[i]
        strides[i] = tensor.strides[i] * dtype.itemsize if tensor.strides != NULL else step
        step *= tensor.shape[i]
    if step == 0:
        return np.empty([shape[i] for i in range(tensor.ndim)], dtype)
    if not has_memory(tensor):
        raise BufferError(f"{name}: the tensor has no memory")
    Py_INCREF(dtype)  # PyArray_NewFromDescr steals it
    array = PyArray_NewFromDescr(
        &PyArray_Type, dtype, tensor.ndim, shape, strides, tensor.data + tensor.byte_offset,
        0 if flags & READ_ONLY else cnp.NPY_ARRAY_WRITEABLE, NULL)
    cnp.PyArray_UpdateFlags(array, cnp.NPY_ARRAY_UPDATE_ALL)
    cnp.set_array_base(array, capsule)
    return array


cdef dlpack_dtype(str name, const Tensor *tensor):
    kind = dtype_kinds.get(tensor.dtype_code)
    try:
        if tensor.dtype_lanes == 1 and tensor.dtype_code == BFLOAT and tensor.dtype_bits == 16:
            from ml_dtypes import bfloat16
            return np.dtype(bfloat16)
        if tensor.dtype_lanes == 1 and kind is not None and tensor.dtype_bits % 8 == 0:
            return np.dtype(f"{kind}{tensor.dtype_bits // 8}")
    except ImportError:
        raise TypeError(f"{name}: a tensor of bfloat16 needs the package ml_dtypes") from None
    except TypeError:
        pass  # NumPy has no dtype of this width
    raise TypeError(
        f"{name}: DLPack dtype of code {tensor.dtype_code}, {tensor.dtype_bits} bits and "
        f"{tensor.dtype_lanes} lanes is not supported")


# Calls of ufuncs on what they do not take by themselves.

def arrays_of(str name, tuple operands, like=None):
    """Return the operands of a ufunc, with ndarrays instead of those that NumPy would not take.

    Every tensor is replaced, because NumPy takes no tensor of bfloat16, and warns when it turns the
    result into a tensor.  Other exporters are replaced if they have the type of `like`, the object
    that is written.
    """
    kind = type(like) if hasattr(type(like), "__dlpack__") else None
    return tuple([array_over(name, x) if is_tensor(x) or type(x) is kind else x for x in operands])


def call_ufunc(ufunc, tuple operands, dict keywords):
    """Return ``ufunc(*operands, **keywords)``, whose operands and `out` may also be tensors or
    sparse.

    A new result is a tensor if an operand is one.
    """
    name = ufunc.__name__
    if any(map(is_sparse, operands)):
        return call_on_sparse(name, ufunc, operands, keywords)
    out = keywords.get("out")
    target = out[0] if type(out) is tuple and len(out) == 1 else out
    if is_tensor(target):
        keywords["out"] = array = writeable_array(name, target)
        result = ufunc(*arrays_of(name, operands), **keywords)
        return target if result is array else result
    if not any(is_tensor(x) for x in operands):
        return ufunc(*operands, **keywords)
    result = ufunc(*arrays_of(name, operands), **keywords)
    return result if out is not None else new_result(result, operands)


cdef object new_result(object result, tuple operands):
    for x in operands:
        if is_tensor(x):
            return tensor_of(result, x)
    return result


cdef tensor_of(result, owner):
    """Return a new result as a tensor of the type of `owner`, or as it is if it is no ndarray."""
    if not isinstance(result, np.generic) and type(result) is not np.ndarray:
        return result
    torch = sys.modules["torch"]
    array = np.asarray(result)
    if array.dtype.name == "bfloat16":  # from_numpy does not know it
        tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    kind = type(owner)
    if kind is torch.Tensor or kind is torch.nn.Parameter:
        return tensor
    return tensor.as_subclass(kind)


# scipy.sparse: 0 stays 0, so only the stored elements change.

def is_sparse(x):
    """Whether `x` is an array or matrix of scipy.sparse."""
    module = sys.modules.get("scipy.sparse")
    return module is not None and module.issparse(x)


cdef int refuse_sparse(str name, tuple operands, dict keywords) except -1:
    matrix = operands[0]
    if (name.rstrip("_") not in ("relu", "leaky_relu") or not is_sparse(matrix)
            or any(is_sparse(x) or np.ndim(x) > 0 for x in operands[1:])
            or not keywords.keys() <= {"casting", "dtype"}):
        raise TypeError(
            f"{name}: only relu and leaky_relu with a single slope take a sparse array, without "
            f"`out` or `where`; use x.toarray(), or x.data for the stored elements")
    if matrix.format in ("lil", "dok"):
        raise TypeError(f"{name}: a sparse array of format {matrix.format} is not supported; "
                        f"use x.tocsr()")
    return 0


cdef int sum_duplicates(matrix) except -1:
    """Add up elements that are stored twice, because the function acts on their sum."""
    if matrix.format != "dia":  # It stores nothing twice.
        matrix.sum_duplicates()
    return 0


cdef call_on_sparse(str name, ufunc, tuple operands, dict keywords):
    refuse_sparse(name, operands, keywords)
    result = operands[0].copy()
    sum_duplicates(result)
    result.data = ufunc(result.data, *operands[1:], **keywords)
    return result


def write_sparse(str name, ufunc, tuple operands):
    """Write a function of a sparse array over the elements that the array stores."""
    refuse_sparse(name, operands, {})
    matrix, others = operands[0], operands[1:]
    none = matrix.data[:0]
    ufunc(none, *others, out=none)  # an error comes before duplicates are summed
    sum_duplicates(matrix)
    ufunc(matrix.data, *others, out=matrix.data)
