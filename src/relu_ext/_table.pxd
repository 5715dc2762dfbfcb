"""The table that a CPU level exports: one kernel per operation and dtype."""

cdef enum:  # operations
    RELU
    RELU_SUBGRADIENT
    RELU_BACKWARD
    LEAKY_RELU
    LEAKY_RELU_SUBGRADIENT
    LEAKY_RELU_BACKWARD
    OPERATIONS

cdef enum:  # dtypes
    FLOAT16
    BFLOAT16
    FLOAT32
    FLOAT64
    LONGDOUBLE
    INT8
    INT16
    INT32
    INT64
    UINT8
    UINT16
    UINT32
    UINT64
    DTYPES

# out[i] = operation(a[i], b[i], parameter[i * step]), in the dtype's own type throughout.
# Operations of one array leave b aside; `relu` the parameter too.  step is 1 for an array of
# parameters (PReLU), 0 for one that serves all.  Each input is out itself or disjoint from it; any
# alignment; any n >= 0; no Python.
ctypedef void (*Kernel)(void *out, const void *a, const void *b,
                        const void *parameter, Py_ssize_t step, Py_ssize_t n) noexcept nogil

cdef struct KernelTable:
    Kernel kernel[OPERATIONS][DTYPES]
    Py_ssize_t itemsize[DTYPES]
