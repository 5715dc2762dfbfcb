"""The table that a CPU level exports: one kernel per operation and dtype."""

cdef enum:  # operations, in the order of _operations.py
    RELU
    RELU_SUBGRADIENT
    RELU_BACKWARD
    LEAKY_RELU
    LEAKY_RELU_SUBGRADIENT
    LEAKY_RELU_BACKWARD
    ADD_RELU
    ADD_LEAKY_RELU
    LEAKY_RELU_SUBGRADIENT_0_AT_ZERO  # as `choice_at_zero` numbers them
    LEAKY_RELU_SUBGRADIENT_1_AT_ZERO
    LEAKY_RELU_BACKWARD_0_AT_ZERO
    LEAKY_RELU_BACKWARD_1_AT_ZERO
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

cdef enum:  # the derivative of Leaky ReLU at ±0, beside 0 and 1
    SLOPE_AT_ZERO = 2

cdef enum:  # roles: the arrays of a kernel, in the order of its arguments
    OUT
    A
    B
    PARAMETER
    ROLES

cdef struct Rows:
    Py_ssize_t parameter_step  # in items: 1 for an array of parameters (PReLU), 0 for a single one
    Py_ssize_t count  # at least 1
    Py_ssize_t steps[ROLES]  # in bytes, from one row of an array to the next; unread for one row

# out[i] = operation(a[i], b[i], parameter[i * parameter_step]) for n elements of each row, in the
# dtype's own type throughout.  rows is NULL for one row with a single parameter: then all arguments
# are in registers.  Operations of one array ignore b, and those without a parameter ignore
# parameter.  Each input is out itself or disjoint from it; any alignment; any n >= 0; no Python.
ctypedef void (*Kernel)(void *out, const void *a, const void *b, const void *parameter,
                        Py_ssize_t n, const Rows *rows) noexcept nogil

# Copies a matrix of items, of `itemsize` bytes each, between any steps.
ctypedef void (*Copy)(char *to, Py_ssize_t to_column, Py_ssize_t to_row,
                      const char *source, Py_ssize_t column, Py_ssize_t row,
                      Py_ssize_t columns, Py_ssize_t rows, Py_ssize_t itemsize) noexcept nogil

# The same for a box of four axes, of which one side is a contiguous tile.
ctypedef void (*CopyBox)(char *to, const Py_ssize_t *to_step, const char *source,
                         const Py_ssize_t *step, const Py_ssize_t *shape,
                         Py_ssize_t itemsize) noexcept nogil

# As for a box, but only where the byte of a mask is not 0: nothing is written elsewhere.
ctypedef void (*CopyWhere)(char *to, const Py_ssize_t *to_step, const char *source,
                           const Py_ssize_t *step, const char *mask, const Py_ssize_t *mask_step,
                           const Py_ssize_t *shape, Py_ssize_t itemsize) noexcept nogil

# The signs of n numbers as -1, 0 and 1, and 2 for NaN; and numbers that have these signs, faster
# where there is no NaN.  If at_zero is 0 or 1 instead of SLOPE_AT_ZERO, 0 where relu's gradient is
# 0, and `passed`, which is not 0, where it is grad.  That is a variable, because of a constant GCC
# makes vectors as wide as x, which it narrows.
ctypedef void (*Encode)(signed char *codes, const void *x, int at_zero, signed char passed,
                        Py_ssize_t n) noexcept nogil
ctypedef void (*Decode)(void *out, const signed char *codes, bint any_nan,
                        Py_ssize_t n) noexcept nogil

# relu's gradient from the latter is a kernel whose b is such codes.  It ignores the parameter, and
# is the same one for all dtypes of a size.

# The numbers of float32 as float64, and back, rounded once.
ctypedef void (*Widen)(double *out, const void *a, Py_ssize_t n) noexcept nogil
ctypedef void (*Narrow)(void *out, const double *a, Py_ssize_t n) noexcept nogil

# Copies whole cache lines past the caches; both addresses are aligned to one.
ctypedef void (*StreamCopy)(char *to, const char *source, Py_ssize_t bytes) noexcept nogil

cdef enum:
    NUMBERED = 256  # pieces that a byte can number
    # Elements that maxout_rows takes at once, at most.  With 576, vectors of 64 bytes take 1.02
    # times as long, and of bytes and int16 up to 1.2 times (Zen 5).
    COMPARED = 1088

# Maxout.  Piece p of element i lies `offset[p] + i * step` bytes from its row of x.  Each `run`
# successive pieces lie side by side, and `side` of them, unless it is 0, next to as many of the
# next element.
cdef struct Pieces:
    int count  # up to NUMBERED, of which maxout_rows needs at least 2
    int run
    int side
    Py_ssize_t step
    Py_ssize_t offset[NUMBERED]  # for the gradient, 0 behind `count`
    unsigned short infinity  # its bits in float16 or bfloat16, which share kernels

# out and which are `rows` rows of n elements, end to end; which may be NULL.  Rows of x begin
# row_step bytes apart; up to 64 bytes of items are read at a time, also behind the end of a row.
# False, with nothing written, where no kernel takes the pieces as they lie; rows are always taken.
ctypedef bint (*MaxoutRows)(void *out, unsigned char *which, const char *x, const Pieces *pieces,
                            Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step) noexcept nogil

# The gradient: in each row, the item at x + offset[which[i]] + i * step is grad[i], and the other
# pieces are 0, whatever which holds.  Rows of grad and which lie end to end.
ctypedef void (*SpreadRows)(void *x, const void *grad, const unsigned char *which,
                            const Pieces *pieces, Py_ssize_t n, Py_ssize_t rows,
                            Py_ssize_t row_step) noexcept nogil

# In all of these, no buffer overlaps another, and any alignment will do.

# Sums.  The terms of a dtype below FLOAT32 are added in float32, all others in their own dtype.
# Numbers are folded: the upper half of them is added to the lower one, again and again, until one
# is left.  Where they are no power of two, +0 takes the place of those that lack.
cdef enum:
    FLOATS = 5  # the floating dtypes, which are the first ones
    FOLDED = 16  # rows
    LEARNED = 1024  # columns whose terms are held at a time, at most
    RUN = 512  # numbers of a piece of a run, at most
    LANES = 32  # sums of a piece

# terms[i] is what an element adds to the gradient of a slope, in the dtype in which it is added.
# There is room for up to 63 terms more, which may be written.  Without x, it is what an element of
# half precision, which is grad's, adds to the gradient of a bias.
ctypedef void (*Terms)(void *terms, const void *grad, const void *x, Py_ssize_t n) noexcept nogil

# Both results, all in one dtype: of RELU_BACKWARD and a bias, or of a slope and LEAKY_RELU_BACKWARD
# or another choice at 0.  `out` of FOLDED rows of at most LEARNED elements, and sums[i] = what
# those of column i add to the gradient of the bias or the slope, folded.  Rows begin `at` an
# address, by role; the slopes of all of them are the same, and their count is not read.  Without
# rows, out of one row of at most RUN elements, which has one slope, and LANES sums as by add_run.
# False, with nothing written, where a slope is NaN, where all columns of rows share one, and of
# halves but for a bias of at least 64 columns, not over x.  `sums` overlaps no other array; for the
# others, see the kernel for rows.
ctypedef bint (*Learn)(void *sums, char **at, const Rows *rows, Py_ssize_t n,
                       int operation) noexcept nogil

# sums[i] = rows[i] in each of up to FOLDED rows, `step` bytes apart, folded.  A row has at most
# LEARNED numbers, and as many bytes as LEARNED float32.
ctypedef void (*FoldRows)(void *sums, const void *rows, Py_ssize_t step, int count,
                          Py_ssize_t n) noexcept nogil

ctypedef void (*Add)(void *sums, void *numbers, Py_ssize_t n) noexcept nogil

cdef struct Adders:
    FoldRows fold_rows
    Add fold_lanes  # sums[i] = numbers[i * LANES] to the next one, folded, which overwrites them
    Add add_run  # sums[k] = 0 + numbers[k] + numbers[k + LANES] + ..., for each k < LANES
    Add add_row  # sums[i] = numbers[i] + sums[i]

cdef struct KernelTable:
    Kernel kernel[OPERATIONS][DTYPES]
    Py_ssize_t itemsize[DTYPES]
    bint one_by_one[OPERATIONS][DTYPES]  # whether rows of one element are computed fast
    int vector_step  # in items; the only one beside 1 that `copy` gathers and scatters by vectors
    Copy copy
    CopyBox copy_box
    CopyWhere copy_where
    Encode encode[DTYPES]
    Decode decode[DTYPES]
    Kernel pass_grad[17]  # by the itemsize
    Widen widen
    Narrow narrow
    StreamCopy stream_copy
    Py_ssize_t stream_block  # bytes of items of 4 and 8 bytes that are streamed at a time
    MaxoutRows maxout_rows[DTYPES]
    SpreadRows spread_rows[17]  # by the size of an item
    Terms slope_terms[FLOATS]
    Learn learn[FLOATS]  # NULL for longdouble; not for the bias of a Leaky ReLU
    Adders adders[FLOATS]  # by the dtype in which terms are added
    Add settle[FLOATS]  # writes numbers[i] in a dtype, without the sign of 0 and NaN
