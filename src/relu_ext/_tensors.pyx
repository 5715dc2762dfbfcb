"""PyTorch's tensors, read and written in place through DLPack's table of C functions.

Contract: from the moment a pointer is read to the end of the kernel no Python may run, because it
could give a tensor other memory.  Therefore there are two steps.  `is_value` asks a tensor for what
can make its memory differ from its value, which the table does not tell: a gradient, which autograd
would compute for values that no longer exist; a pending change of sign; a tangent of forward-mode
differentiation; PyTorch's recording of its own operations, in which ours would be missing.  This
may run Python, so all operands are asked first.  `borrow` then reads the pointers, and runs none.

For the types of other libraries we do not know what to ask, so their tables are not used.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_Clear
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.ref cimport Py_INCREF, Py_TYPE, PyObject, PyTypeObject
from libc.stdint cimport int64_t
from relu_ext._dlpack cimport (
    BFLOAT, CPU, DIMENSIONS, FLOAT, INT, UINT, ExchangeTable, Tensor, has_memory,
)
from relu_ext._ndarrays cimport load, store
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
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    parameter = getattr(getattr(torch, "nn", None), "Parameter", None)
    autograd = sys.modules.get("torch.autograd.forward_ad")
    modes = sys.modules.get("torch.utils._python_dispatch")
    tracing = getattr(getattr(torch, "_C", None), "_is_tracing", None)
    if not (isinstance(tensor, type) and isinstance(parameter, type) and callable(tracing)
            and isinstance(getattr(autograd, "_current_level", None), int)
            and isinstance(getattr(modes, "_is_in_torch_dispatch_mode", None), bool)):
        return 0
    capsule = vars(tensor).get("__dlpack_c_exchange_api__")
    if not (PyCapsule_IsValid(capsule, "dlpack_exchange_api")
            and hasattr(tensor, "requires_grad") and hasattr(tensor, "is_neg")
            and sizeof(int64_t) == sizeof(Py_ssize_t)):
        return 0
    table = <const ExchangeTable *>PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
    while table != NULL and table.major != 1:
        table = table.previous
    if table == NULL or table.borrow == NULL:
        return 0
    for immortal in (tensor, parameter, capsule):
        Py_INCREF(immortal)
    exchange = table
    is_tracing = tracing
    is_neg = tensor.is_neg
    dispatch_modes = vars(modes)
    forward_ad = vars(autograd)
    empty_like = getattr(torch, "empty_like", None)
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

cdef bint is_value(str name, object x, bint beside_another=False) except -1:
    if not has_exchange_table(x):
        return False
    if not (x.requires_grad is False and is_neg(x) is False
            and forward_ad["_current_level"] == -1  # no dual tensors live
            and (beside_another or is_tracing() is False
                 and dispatch_modes["_is_in_torch_dispatch_mode"] is False)):
        refuse_tensor(name, x)  # It returns if nothing is wrong with the tensor after all.
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


cdef object call_plainly(function, tuple arguments):
    """Call a function of PyTorch while no subclass of Tensor runs Python of its own."""
    # Cython's `with` crashes where an error gets no traceback because there is no memory for one.
    plainly = sys.modules["torch"]._C.DisableTorchFunctionSubclass()
    plainly.__enter__()
    try:
        return function(*arguments)
    finally:
        plainly.__exit__(None, None, None)


cdef int refuse_tensor(str name, object x) except -1:
    """Raise if the memory of a tensor does not hold its value, or something else depends on it."""
    from relu_ext._exporters import refuse_plain_tensor  # when it is first needed
    call_plainly(refuse_plain_tensor, (name, x))
    return 0


# Capsules and new tensors.

def capsule_of(str name, x):
    """Return the DLPack capsule of a tensor of PyTorch and a tensor that keeps its memory, or None
    for any other object.  Somebody may give other memory to the tensor, but not to that one."""
    cdef Operand operand
    if not is_torch_tensor(x):
        return None
    if not (is_value(name, x) and borrow(x, &operand)):
        refuse_tensor(name, x)
    torch = sys.modules["torch"]
    kept = call_plainly(torch.Tensor.detach, (x,))
    return call_plainly(torch.utils.dlpack.to_dlpack, (kept,)), kept


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


cdef object new_tensor(str name, object x):
    try:
        return empty_like(x)
    except Exception:
        refuse_tensor(name, x)  # What cannot be allocated alike is refused by its own message.
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
