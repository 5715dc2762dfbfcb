from relu_ext._dispatch cimport active_table
from relu_ext._operand cimport Operand, count
from relu_ext._table cimport (
    LONGDOUBLE, OUT, PARAMETER, ROLES, SLOPE_AT_ZERO, A, B, Decode, Encode, Kernel,
)

cdef extern from "<fenv.h>" nogil:
    int FE_ALL_EXCEPT, FE_INEXACT
    int fetestexcept(int exceptions)
    int feclearexcept(int exceptions)

cdef enum:
    # Up to here the kernel is called on the whole buffer: aligning and blocking cost more than
    # they save.
    SMALL_BYTES = 1024
    MOST_AXES = 64  # as in NumPy
    BOX_AXES = 4
    MASK = ROLES  # the bytes that say where to write: not among a kernel's arrays
    WALKED
    # From this size on callers release the GIL.  Releasing it and taking it again costs 54 ns (AMD
    # EPYC, CPython 3.11), and more if another thread waits for it and has to be woken.  Two
    # threads, each in place on its own array, were 0.8 to 1.3 times as fast as one after the other
    # at 512 KiB, 1.1 times at 1 MiB and 1.5 times at 4 MiB.
    GIL_BYTES = 1 << 20

cdef struct Plan

# What is computed on each panel of a plan: axes 0 and 1, of which axis 1 has `rows` elements,
# or more of them if the plan says so.
ctypedef void (*Panel)(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil

cdef struct Plan:
    # One call, laid out for the walk: axes in the order of out's memory, innermost first, none of
    # them of length 1, and those that are contiguous together merged into one.
    Kernel kernel
    Py_ssize_t itemsize
    Py_ssize_t parameter_step  # as the kernels count it
    bint has[WALKED]  # where there is no such array, its pointer is out's and its steps are 0
    Py_ssize_t size[WALKED]  # of an item in memory
    bint converted[ROLES]  # tiles are in another dtype than the memory
    bint rounds  # a result of float64 is rounded to float32
    # NULL, or how tiles of b get their numbers: from the signs of items of another dtype.
    Encode encode
    Decode decode
    int at_zero  # SLOPE_AT_ZERO, or what tiles of b are codes for, instead
    bint encodes_nan
    bint fresh  # out was just allocated, or may have been
    bint stream
    Panel panel  # NULL: rows, as the walker computes them
    const void *job  # for a panel that is not the walker's
    bint one_by_one  # whether the kernel takes rows of one element
    bint copied[ROLES]  # to or from a tile
    Py_ssize_t box[BOX_AXES]  # how far a tile reaches along each of them
    int axes
    Py_ssize_t shape[MOST_AXES]
    char *data[WALKED]
    Py_ssize_t step[WALKED][MOST_AXES]  # in bytes; 0 where an array broadcasts

# Tabulates the axes of operands, by role, of which all but A may be NULL: the length of each axis
# and the step of each array along it.  False if the operands do not broadcast, or not to the shape
# of `out` where there is one.  The table becomes a plan by `settle`; without `out`, `order_result`
# comes before it, and the caller sets data[OUT].
cdef bint tabulate(Plan *this, Py_ssize_t itemsize, const Operand **operands) noexcept nogil
cdef void order_result(Plan *this, Py_ssize_t *shape, Py_ssize_t *strides) noexcept nogil
cdef void settle(Plan *this) noexcept nogil

# Writes the shape to which one or two operands broadcast, and the strides of a new array.  Returns
# the number of its axes, or -1 if they do not broadcast.
cdef int new_layout(Py_ssize_t *shape, Py_ssize_t *strides, Py_ssize_t itemsize, const Operand *a,
                    const Operand *b) noexcept nogil

cdef bint is_safe(const Plan *this) noexcept nogil
cdef bint is_same_or_apart(const Plan *this, int role, Py_ssize_t out_extent) noexcept nogil
cdef void walk(Plan *this) noexcept nogil

# Computes the first columns of `rows` rows, along axes 0 and 1, on one thread.  The kernels have to
# take them as they lie.
cdef void run_columns(const Plan *this, char **start, Py_ssize_t columns,
                      Py_ssize_t rows) noexcept nogil
cdef void swap_axes(Plan *this, int one, int other) noexcept nogil

# How many threads share a call on `bytes` of memory.
cdef int parts_of(Py_ssize_t bytes) noexcept nogil

# The walk of a plan whose `panel` is set, on `bytes` of memory and at least one element.
cdef void walk_panels(const Plan *this, Py_ssize_t bytes) noexcept nogil

# Applies an operation with a single parameter to whole buffers, whatever their size.
cdef void run_large(int operation, int dtype, void *out, const void *a, const void *b,
                    const void *parameter, Py_ssize_t n, bint fresh) noexcept nogil


cdef inline Py_ssize_t look_up(const Operand *operand, int axis, Py_ssize_t *step) noexcept nogil:
    """The length along an axis, counted from the innermost, and the step in bytes.  They are 1 and
    0 where the operand broadcasts: where it lacks the axis, has a single element along it, or is
    NULL."""
    step[0] = 0
    if operand == NULL or axis >= operand.axes or operand.shape[operand.axes - 1 - axis] == 1:
        return 1
    step[0] = operand.strides[operand.axes - 1 - axis] * operand.stride_unit
    return operand.shape[operand.axes - 1 - axis]


cdef inline bint start_plan(Plan *this, int operation, int dtype, const Operand **operands,
                            bint fresh) noexcept nogil:
    """`tabulate` the operands of an operation, by role.

    Where the byte of the mask is 0, nothing is written, not even the value that is there.

    The kernel is that of `dtype`.  If that is FLOAT64, each array may hold float32: inputs are
    widened, the result is rounded once.  Then the walk stays on the caller's thread, and of the
    floating-point exceptions that it raises there, only those of the conversions are left behind.
    Any other `b` of another dtype is the x of a backward function: only whether it is > 0, < 0, 0
    or NaN is read, in its own dtype.  A negative one needs a `dtype` that has negative numbers, and
    a NaN one that has NaN.
    """
    cdef int role
    if not tabulate(this, active_table.itemsize[dtype], operands):
        return False
    this.kernel = active_table.kernel[operation][dtype]
    this.one_by_one = active_table.one_by_one[operation][dtype]
    this.fresh = fresh
    this.at_zero = SLOPE_AT_ZERO
    for role in range(ROLES):
        this.converted[role] = operands[role] != NULL and operands[role].dtype != dtype
        if this.converted[role]:
            this.size[role] = active_table.itemsize[operands[role].dtype]
    this.rounds = this.converted[OUT]
    if this.converted[B] and not this.rounds:
        this.encode = active_table.encode[operands[B].dtype]
        this.decode = active_table.decode[dtype]
        this.encodes_nan = operands[B].dtype <= LONGDOUBLE
    return True


cdef inline void pass_grad(Plan *this, int at_zero) noexcept nogil:
    """Have relu's gradient, of an x of another dtype, chosen by codes; `at_zero` is 0 or 1."""
    this.kernel = active_table.pass_grad[this.itemsize]
    this.at_zero = at_zero


cdef inline Py_ssize_t row_step(const Plan *this, int role) noexcept nogil:
    """From one row along axis 0 to the next one, or where that would be."""
    return this.step[role][1] if this.axes > 1 else this.step[role][0] * this.shape[0]


cdef inline Py_ssize_t size_of(const Plan *this) noexcept nogil:
    """The number of elements."""
    return count(this.shape, this.axes)


cdef inline void take_back_exceptions(int before) noexcept nogil:
    """Clear the floating-point exceptions that were raised since, of which NumPy would warn."""
    cdef int raised = fetestexcept(FE_ALL_EXCEPT) & ~before
    if raised:  # clearing takes 10 ns
        feclearexcept(raised)
