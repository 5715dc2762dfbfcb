"""ndarrays over memory that belongs to others, so that it can be written in place.

Contract: an ndarray over the object's own memory, or an error; never a copy.
"""

cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

cnp.import_array()

cdef extern from "numpy/ndarrayobject.h":
    PyTypeObject PyArray_Type
    object PyArray_NewFromDescr(
        PyTypeObject *, cnp.dtype, int, cnp.npy_intp *, cnp.npy_intp *, void *, int, PyObject *)

# The structures of the DLPack specification (dmlc.github.io/dlpack), versions 0.x and 1.x.

cdef enum:
    CPU = 1
    READ_ONLY = 1
    IS_COPIED = 2
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
    void *deleter
    uint64_t flags
    Tensor tensor

cdef dict dtype_kinds = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


cdef not_in_place(str name, target):
    return TypeError(
        f"{name}_: {type(target).__name__} cannot be written in place; "
        f"use {name}, which returns a new array, or pass a writeable ndarray")


def array_over(str name, target):
    """An ndarray over the memory of `target`, for `name`, an operation in place."""
    if isinstance(target, np.ndarray):
        return target
    if hasattr(type(target), "__dlpack__") and not isinstance(target, np.generic):
        return over_dlpack(name, target)
    if PyObject_CheckBuffer(target) and not isinstance(target, np.generic):
        return over_buffer(name, target)
    raise not_in_place(name, target)


def writeable_array(str name, target):
    """The ndarray that `name` is to write into in the place of `target`."""
    array = array_over(name, target)
    if not array.flags.writeable:
        raise ValueError(f"{name}_: this {type(target).__name__} is read-only")
    return array


cdef over_buffer(str name, target):
    view = memoryview(target)
    if view.format.lstrip("@=<>!") in ("B", "c") and not view.readonly:
        raise TypeError(
            f"{name}_: the bytes of {type(target).__name__} carry no dtype; "
            f"use {name}_(np.frombuffer(x, dtype))")
    return np.array(view, copy=False)


cdef over_dlpack(str name, target):
    cdef Tensor *tensor
    cdef uint64_t flags = 0
    cdef cnp.npy_intp shape[64]
    cdef cnp.npy_intp strides[64]
    cdef int i
    device, _ = target.__dlpack_device__()
    if device != CPU:
        raise not_in_place(name, target)
    try:
        capsule = target.__dlpack__(max_version=(1, 0))
    except TypeError:
        capsule = target.__dlpack__()  # an exporter from before version 1
    # The capsule is not consumed but kept as the array's base: its destructor frees the tensor.
    if PyCapsule_IsValid(capsule, "dltensor_versioned"):
        versioned = <VersionedTensor *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        if versioned.major != 1:
            raise BufferError(f"{name}_: DLPack version {versioned.major} is not known")
        flags = versioned.flags
        tensor = &versioned.tensor
    else:
        tensor = <Tensor *>PyCapsule_GetPointer(capsule, "dltensor")
    if flags & IS_COPIED or tensor.device_type != CPU:
        raise not_in_place(name, target)
    if tensor.ndim < 0 or tensor.ndim > 64:
        raise BufferError(f"{name}_: a tensor of {tensor.ndim} dimensions is not supported")
    dtype = dlpack_dtype(name, tensor)
    step = <cnp.npy_intp>dtype.itemsize
    for i in range(tensor.ndim - 1, -1, -1):
        shape[i] = tensor.shape[i]
        strides[i] = tensor.strides[i] * dtype.itemsize if tensor.strides != NULL else step
        step *= tensor.shape[i]
    if step == 0:
        return np.empty([shape[i] for i in range(tensor.ndim)], dtype)
    if tensor.data == NULL:
        raise BufferError(f"{name}_: the tensor has no memory")
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
        raise TypeError(f"{name}_: a tensor of bfloat16 needs the package ml_dtypes") from None
    except TypeError:
        pass  # NumPy has no dtype of this width
    raise TypeError(
        f"{name}_: DLPack dtype of code {tensor.dtype_code}, {tensor.dtype_bits} bits and "
        f"{tensor.dtype_lanes} lanes is not supported")
