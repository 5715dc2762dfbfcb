from relu_ext._dispatch cimport active_table

cdef enum:
    # Up to here the kernel is called on the whole buffer: aligning and blocking cost more than
    # they save.
    SMALL_BYTES = 1024

cdef void run_large(int operation, int dtype, void *out, const void *a, const void *b,
                    const void *parameter, Py_ssize_t step, Py_ssize_t n,
                    bint fresh) noexcept nogil


cdef inline void run(int operation, int dtype, void *out, const void *a, const void *b,
                     const void *parameter, Py_ssize_t step, Py_ssize_t n,
                     bint fresh) noexcept nogil:
    """Apply an operation to whole buffers: the kernels' contract (_table.pxd), any size.

    `fresh` says that out was just allocated, or may have been.
    """
    if n * active_table.itemsize[dtype] <= SMALL_BYTES:
        active_table.kernel[operation][dtype](out, a, b, parameter, step, n)
    else:
        run_large(operation, dtype, out, a, b, parameter, step, n, fresh)
