"""ndarrays over the memory of objects that export it by `__dlpack__`.

The capsule is not consumed but kept as the array's base: its destructor frees the tensor.  NumPy's
own `from_dlpack` marks what it makes as read-only if the exporter is older than DLPack 1.
"""

cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t
from relu_ext._ndarrays cimport PyArray_Descr, PyArray_NewFromDescr, PyArray_Type

import numpy as np

cnp.import_array()

cdef dict dtype_kinds = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


def has_buffer(x):
    """Whether `x` has the buffer protocol, which Python code cannot ask before 3.12."""
    return bool(PyObject_CheckBuffer(x))


def array_over_capsule(str name, capsule, kept=None):
    """Return an ndarray over the memory of a DLPack capsule, and whether the exporter copied it.
    It keeps the capsule and, if there is one, a tensor of its memory, which `check_memory` asks.

    Return None instead of an array whose memory is not the CPU's.  `name` is for errors.
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
    is_copied = bool(flags & IS_COPIED)
    if tensor.device_type != CPU:
        return None, is_copied
    if tensor.ndim < 0 or tensor.ndim > DIMENSIONS:
        raise BufferError(f"{name}: a tensor of {tensor.ndim} dimensions is not supported")
    dtype = dlpack_dtype(name, tensor)
    step = <cnp.npy_intp>dtype.itemsize
    for i in range(tensor.ndim - 1, -1, -1):
        shape[i] = tensor.shape[i]
        strides[i] = tensor.strides[i] * dtype.itemsize if tensor.strides != NULL else step
        step *= tensor.shape[i]
    if step == 0:
        return np.empty([shape[i] for i in range(tensor.ndim)], dtype), is_copied
    if not has_memory(tensor, LEAST_ADDRESS):
        raise BufferError(f"{name}: the tensor has no memory")
    Py_INCREF(dtype)  # PyArray_NewFromDescr steals it
    array = PyArray_NewFromDescr(
        &PyArray_Type, <PyArray_Descr *>dtype, tensor.ndim, shape, strides,
        tensor.data + tensor.byte_offset, 0 if flags & READ_ONLY else cnp.NPY_ARRAY_WRITEABLE, NULL)
    cnp.PyArray_UpdateFlags(array, cnp.NPY_ARRAY_UPDATE_ALL)
    cnp.set_array_base(array, capsule if kept is None else (capsule, kept))
    return array, is_copied


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
