"""The structures of the DLPack specification (dmlc.github.io/dlpack), versions 0.x and 1.x."""

from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CPU = 1  # a device type
    READ_ONLY = 1  # flags
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


cdef inline bint has_memory(const Tensor *tensor, size_t least_address) noexcept:
    """Whether the tensor has no elements, or its address is not below another."""
    cdef int i
    if <size_t>tensor.data >= least_address:
        return True
    for i in range(tensor.ndim):
        if tensor.shape[i] == 0:
            return True
    return False
