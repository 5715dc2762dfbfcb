"""Tensors, read and written in place: PyTorch's through DLPack's table of C functions, and any
others as ndarrays over DLPack's capsules.

Contract: from the moment a pointer is read to the end of the kernel no Python may run, because it
could give a tensor other memory.  Therefore there are two steps.  `is_value` asks a tensor for what
can make its memory differ from its value, which the table does not tell: a gradient, which autograd
would compute for values that no longer exist; a pending change of sign; a tangent of forward-mode
differentiation; PyTorch's recording of its own operations, in which ours would be missing.  This
may run Python, so all operands are asked first.  `borrow` then reads the pointers, and runs none.

For the types of other libraries we do not know what to ask, so their tables are not used.
"""

cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.exc cimport PyErr_Clear
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.ref cimport Py_INCREF, Py_TYPE, PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint64_t
from relu_ext._dlpack cimport (
    BFLOAT, CPU, DIMENSIONS, FLOAT, INT, IS_COPIED, LEAST_ADDRESS, READ_ONLY, UINT, ExchangeTable,
    Tensor, VersionedTensor, has_memory,
)
from relu_ext._ndarrays cimport (
    PyArray_Descr, PyArray_NewFromDescr, PyArray_Type, load, store,
)
from relu_ext._operand cimport Operand
from relu_ext._table cimport BFLOAT16, FLOAT16, FLOAT32, INT8, UINT8

import sys
from _thread import allocate_lock  # threading.Lock, but threading takes 0.6 ms to import

import numpy as np

cnp.import_array()

cdef extern from "Python.h":
    unsigned long Py_TPFLAGS_HEAPTYPE
    bint PyType_HasFeature(PyTypeObject *, unsigned long) noexcept


# PyTorch has tensors of zeros that have no memory, and a part of one begins some bytes past NULL.
cdef size_t FAR_FROM_NULL = <size_t>1 << 32
cdef const char *TABLE = "dlpack_exchange_api"


# What PyTorch offers.

cdef const ExchangeTable *exchange = NULL
cdef object is_tracing  # by torch.jit.trace
cdef object is_neg
cdef dict dispatch_modes  # the names of the module that counts them
cdef dict forward_ad  # the names of its module
cdef object empty_like
cdef PyTypeObject *parameter_type
cdef PyTypeObject *tensor_type
cdef int is_published = False  # an atomic, set once, under the lock; then nothing above changes
cdef object publishing = allocate_lock()


cdef int publish_exchange_table() except -1:
    """Publish PyTorch's table, if PyTorch is imported and has all that `is_value` asks."""
    global exchange, is_tracing, is_neg, dispatch_modes, forward_ad, empty_like
    global parameter_type, tensor_type
    try:
        torch = sys.modules["torch"]
        tensor, parameter = torch.Tensor, torch.nn.Parameter
        is_tracing, is_neg, empty_like = torch._C._is_tracing, tensor.is_neg, torch.empty_like
        dispatch_modes = vars(sys.modules["torch.utils._python_dispatch"])
        forward_ad = vars(sys.modules["torch.autograd.forward_ad"])
        if not (isinstance(tensor, type) and isinstance(parameter, type) and callable(is_tracing)
                and hasattr(tensor, "requires_grad")
                and isinstance(dispatch_modes["_is_in_torch_dispatch_mode"], bool)
                and isinstance(forward_ad["_current_level"], int)):
            return 0
        capsule = vars(tensor)["__dlpack_c_exchange_api__"]
    except (AttributeError, KeyError, TypeError):
        return 0
    if sizeof(int64_t) != sizeof(Py_ssize_t) or not PyCapsule_IsValid(capsule, TABLE):
        return 0
    exchange = <const ExchangeTable *>PyCapsule_GetPointer(capsule, TABLE)
    while exchange != NULL and exchange.major != 1:
        exchange = exchange.previous
    if exchange == NULL or exchange.borrow == NULL:
        return 0
    for immortal in (tensor, parameter, capsule):
        Py_INCREF(immortal)
    parameter_type = <PyTypeObject *>parameter
    tensor_type = <PyTypeObject *>tensor
    store(is_published, True)
    return 0


cdef bint has_exchange_table(object x) except -1:
    """Whether `x` is a tensor of PyTorch that the table describes.

    Its type is exactly Tensor or Parameter: another subclass inherits the table, but may keep its
    values elsewhere (FakeTensor).  A Parameter made of such a subclass has the type of the
    subclass.
    """
    if not load(is_published) and PyType_HasFeature(Py_TYPE(x), Py_TPFLAGS_HEAPTYPE):
        with publishing:
            if not is_published:
                publish_exchange_table()
    return load(is_published) and (Py_TYPE(x) == tensor_type or Py_TYPE(x) == parameter_type)


# The two steps.

cdef bint is_value(str name, object x, bint beside_another) except -1:
    if not has_exchange_table(x):
        return False
    if not (x.requires_grad is False and is_neg(x) is False
            and forward_ad["_current_level"] == -1  # no dual tensors live
            and (beside_another or is_tracing() is False
                 and dispatch_modes["_is_in_torch_dispatch_mode"] is False)):
        refuse(name, x)  # It returns if nothing is wrong with the tensor after all.
    return True


cdef bint borrow(object x, Operand *operand) noexcept:
    cdef Tensor tensor
    if exchange.borrow(<PyObject *>x, &tensor) != 0:
        PyErr_Clear()
        return False
    operand.dtype = kernel_dtype(&tensor)
    if (operand.dtype < 0 or tensor.device_type != CPU or not 0 <= tensor.ndim <= DIMENSIONS
            or tensor.ndim > 0 and (tensor.shape == NULL or tensor.strides == NULL)
            or not has_memory(&tensor, FAR_FROM_NULL)):
        return False
    operand.data = tensor.data + tensor.byte_offset
    operand.axes = tensor.ndim
    operand.shape = <const Py_ssize_t *>tensor.shape
    operand.strides = <const Py_ssize_t *>tensor.strides
    operand.stride_unit = tensor.dtype_bits // 8
    operand.writeable = True  # as every tensor is
    return True


cdef inline int kernel_dtype(const Tensor *tensor) noexcept:
    """The kernels' dtype, or -1 where there is none.  There is none for bool, because only relu
    takes it."""
    cdef int size
    for size in range(4):
        if tensor.dtype_bits != 8 << size or tensor.dtype_lanes != 1:
            continue
        if tensor.dtype_code == INT:
            return INT8 + size
        if tensor.dtype_code == UINT:
            return UINT8 + size
        if tensor.dtype_code == BFLOAT and size == 1:
            return BFLOAT16
        if tensor.dtype_code == FLOAT and size > 0:
            return FLOAT16 if size == 1 else FLOAT32 + size - 2
    return -1


# Refusals.

cpdef bint is_torch_tensor(object x) except -1:
    """Whether `x` is a tensor of PyTorch, of whatever subclass."""
    if not PyType_HasFeature(Py_TYPE(x), Py_TPFLAGS_HEAPTYPE):
        return False  # Its type is written in C, and Tensor is not.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return isinstance(tensor, type) and issubclass(type(x), tensor)


cdef int refuse(str name, object x) except -1:
    from relu_ext._exporters import refuse_tensor  # when it is first needed
    refuse_tensor(name, x)
    return 0


def check_tensor(str name, x):
    """Raise if the memory of a tensor of PyTorch does not hold its value."""
    cdef Operand operand
    if not (is_value(name, x, False) and borrow(x, &operand)):
        refuse(name, x)


# ndarrays over the memory of tensors.

cdef dict dtype_kinds = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


def has_buffer(x):
    """Whether `x` has the buffer protocol, which Python code cannot ask before 3.12."""
    return bool(PyObject_CheckBuffer(x))


def array_over_capsule(str name, capsule, bint writing, kept=None):
    """Return an ndarray over the memory of a DLPack capsule, or None if that is not the CPU's, or
    if it is a copy and to be written.  `name` is for errors, and `kept` is a tensor of that memory,
    which `check_memory` asks.

    The capsule is not consumed but kept as the array's base: its destructor frees the tensor.
    NumPy's own `from_dlpack` marks what it makes as read-only if the exporter is older than
    DLPack 1.
    """
    cdef Tensor *tensor
    cdef VersionedTensor *versioned
    cdef uint64_t flags = 0
    cdef cnp.npy_intp shape[DIMENSIONS]
    cdef cnp.npy_intp strides[DIMENSIONS]
    cdef cnp.npy_intp step
    cdef int i
    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <VersionedTensor *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        if versioned.major != 1:
            raise BufferError(f"{name}: DLPack version {versioned.major} is not known")
        flags = versioned.flags
        tensor = &versioned.tensor
    else:
        tensor = <Tensor *>PyCapsule_GetPointer(capsule, "dltensor")
    if tensor.device_type != CPU or writing and flags & IS_COPIED:
        return None
    if tensor.ndim < 0 or tensor.ndim > DIMENSIONS:
        raise BufferError(f"{name}: a tensor of {tensor.ndim} dimensions is not supported")
    dtype = dlpack_dtype(name, tensor.dtype_code, tensor.dtype_bits, tensor.dtype_lanes)
    step = <cnp.npy_intp>dtype.itemsize
    for i in range(tensor.ndim - 1, -1, -1):
        shape[i] = tensor.shape[i]
        strides[i] = tensor.strides[i] * dtype.itemsize if tensor.strides != NULL else step
        step *= tensor.shape[i]
    if step == 0:
        return np.empty([shape[i] for i in range(tensor.ndim)], dtype)
    if not has_memory(tensor, LEAST_ADDRESS):
        raise BufferError(f"{name}: the tensor has no memory")
    Py_INCREF(dtype)  # PyArray_NewFromDescr steals it
    array = PyArray_NewFromDescr(
        &PyArray_Type, <PyArray_Descr *>dtype, tensor.ndim, shape, strides,
        tensor.data + tensor.byte_offset, 0 if flags & READ_ONLY else cnp.NPY_ARRAY_WRITEABLE, NULL)
    cnp.PyArray_UpdateFlags(array, cnp.NPY_ARRAY_UPDATE_ALL)
    cnp.set_array_base(array, capsule if kept is None else (capsule, kept))
    return array


cdef dlpack_dtype(str name, code, bits, lanes):
    try:
        if code == BFLOAT and bits == 16 and lanes == 1:
            from ml_dtypes import bfloat16
            return np.dtype(bfloat16)
        if code in dtype_kinds and bits % 8 == 0 and lanes == 1:
            return np.dtype(f"{dtype_kinds[code]}{bits // 8}")
    except ImportError:
        raise TypeError(f"{name}: a tensor of bfloat16 needs the package ml_dtypes") from None
    except TypeError:
        pass  # NumPy has no dtype of this width
    raise TypeError(
        f"{name}: DLPack dtype of code {code}, {bits} bits and {lanes} lanes is not supported")


cpdef int check_memory(str name, tuple arrays) except -1:
    cdef Tensor tensor
    for array in arrays:
        base = cnp.get_array_base(array) if cnp.PyArray_CheckExact(array) else None
        if type(base) is not tuple or not has_exchange_table(base[-1]):
            continue
        if exchange.borrow(<PyObject *>base[-1], &tensor) != 0:
            PyErr_Clear()
        elif cnp.PyArray_SIZE(array) > 0 and (
                tensor.data + tensor.byte_offset != <char *>cnp.PyArray_DATA(array)):
            raise BufferError(f"{name}: another argument took the memory of a tensor")
    return 0


# New tensors.

cdef object new_tensor(str name, object x):
    try:
        return empty_like(x)
    except Exception:
        refuse(name, x)  # What cannot be allocated alike is refused by its own message.
        raise


cpdef object new_result_of(object result, tuple operands):
    for x in operands:
        if is_torch_tensor(x):
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
