"""An array as C sees it: what the walker takes, whoever owns the memory."""

cdef struct Operand:
    # A pointer, a shape and strides; the element i, j, ... is at data + (i * strides[0] +
    # j * strides[1] + ...) * stride_unit bytes.  The shape and the strides belong to whoever
    # described the array and last as long as the call.
    char *data
    int axes
    const Py_ssize_t *shape
    const Py_ssize_t *strides
    Py_ssize_t stride_unit  # 1 for an ndarray, whose strides count bytes; the itemsize for DLPack
    int dtype  # of _table.pxd
    bint writeable


cdef inline Py_ssize_t elements_of(const Operand *x) noexcept nogil:
    cdef Py_ssize_t size = 1
    cdef int axis
    for axis in range(x.axes):
        size *= x.shape[axis]
    return size
