from relu_ext._dispatch cimport active_table
from relu_ext._operand cimport Operand
from relu_ext._table cimport ROLES, Kernel, RowsKernel

cdef enum:
    # Up to here the kernel is called on the whole buffer: aligning and blocking cost more than
    # they save.
    SMALL_BYTES = 1024
    MOST_AXES = 64  # as in NumPy
    # From this size on callers release the GIL.  Releasing it and taking it again costs 54 ns (AMD
    # EPYC, CPython 3.11), and more if another thread waits for it and has to be woken.  Two
    # threads, in place on an array each, were together 0.8 to 1.3 times as fast as one after the
    # other at 512 KiB, 1.1 times at 1 MiB and 1.5 times at 4 MiB.
    GIL_BYTES = 1 << 20

cdef struct Plan:
    # One call, laid out for the walk: axes in the order of out's memory, innermost first, none of
    # them of length 1, and those that are contiguous together merged into one.
    Kernel kernel
    RowsKernel rows_kernel
    Py_ssize_t itemsize
    Py_ssize_t parameter_step  # as the kernels count it
    bint has[ROLES]  # where there is no such array, its pointer is out's and its steps are 0
    bint fresh  # out was just allocated, or may have been
    bint stream
    bint end_to_end
    bint tiled
    Py_ssize_t tile_columns
    Py_ssize_t tile_rows
    int axes
    Py_ssize_t shape[MOST_AXES]
    char *data[ROLES]
    Py_ssize_t step[ROLES][MOST_AXES]  # in bytes; 0 where an array broadcasts

cdef bint plan(Plan *this, int operation, int dtype, const Operand *out, const Operand *a,
               const Operand *b, const Operand *parameter, bint fresh) noexcept nogil
cdef int broadcast(Py_ssize_t *shape, const Operand *a, const Operand *b,
                   const Operand *parameter) noexcept nogil
cdef void memory_order(Py_ssize_t *strides, Py_ssize_t itemsize, int axes, const Py_ssize_t *shape,
                       const Operand *a, const Operand *b, const Operand *parameter) noexcept nogil
cdef bint is_safe(const Plan *this) noexcept nogil
cdef Py_ssize_t size_of(const Plan *this) noexcept nogil
cdef void walk(Plan *this) noexcept nogil

# One of `parts` parts of a job.
ctypedef void (*Part)(const void *job, int part, int parts) noexcept nogil

cdef void share(Part function, const void *job, Py_ssize_t bytes) noexcept nogil

cdef void run_large(int operation, int dtype, void *out, const void *a, const void *b,
                    const void *parameter, Py_ssize_t step, Py_ssize_t n,
                    bint fresh) noexcept nogil


cdef inline void run(int operation, int dtype, void *out, const void *a, const void *b,
                     const void *parameter, Py_ssize_t step, Py_ssize_t n,
                     bint fresh) noexcept nogil:
    """Apply an operation to whole buffers: the kernels' contract (_table.pxd), any size."""
    if n * active_table.itemsize[dtype] <= SMALL_BYTES:
        active_table.kernel[operation][dtype](out, a, b, parameter, step, n)
    else:
        run_large(operation, dtype, out, a, b, parameter, step, n, fresh)
