"""Maxout: the reduction over the axis of the pieces, and its gradient, for arrays of any layout.

Contract: nothing outside the result is written, whatever `which` holds and whatever other threads
do to its memory meanwhile.  The kernels compare which piece won with the number of each piece, or
read it once and compare it with the number of pieces.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_CheckExact
from libc.string cimport memcmp, memset
from relu_ext._dispatch cimport active_table
from relu_ext._tensors cimport is_tensor, new_result
from relu_ext._walk cimport (
    GIL_BYTES, MOST_AXES, Plan, is_apart, lay_axes, memory_order, size_of, walk_panels,
)
from relu_ext._operand cimport Operand
from relu_ext._scalar cimport int64, uint8
from relu_ext._table cimport MOST_LAST, OUT, PARAMETER, UINT8, A, B
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, is_bfloat16, native_dtype,
    new_array, remember_bfloat16,
)

import numpy as np

from relu_ext._exporters import array_over, writeable_array

cnp.import_array()

cdef extern from "numpy/ndarrayobject.h":
    int PyArray_PyIntAsInt(object) except? -1
    Py_ssize_t PyArray_PyIntAsIntp(object) except? -1

cdef extern from "_tiles.h" nogil:
    void move_pieces "relu_ext_move"(
        size_t itemsize, char *to, Py_ssize_t to_piece_step, Py_ssize_t to_step, const char *a,
        Py_ssize_t piece_step, Py_ssize_t step, int pieces, Py_ssize_t n)

cdef enum:
    C_ORDER = cnp.NPY_ARRAY_C_CONTIGUOUS
    WRITEABLE = cnp.NPY_ARRAY_WRITEABLE
    # Where a layout has no kernel of its own, BLOCK elements of ROWS pieces are gathered into rows
    # at a time.  They take 16 KiB of the largest dtype, which is half of a first-level cache.
    BLOCK = 128
    ROWS = 8
    LARGEST_ITEM = 16
    # A byte can number NUMBERED pieces.  Where there are more, a window of WINDOW pieces at a time
    # is numbered from a base.
    NUMBERED = 256
    WINDOW = 248
    NOWHERE = 255

cdef enum:  # the arrays of a job as roles of the walker's plan; its axes are in the order of X
    X = OUT
    Y = A
    WHICH = B

cdef object uint8_dtype = np.dtype(np.uint8)


cdef struct Job:
    # x has one axis more than y: the axis of the pieces.  The forward pass computes y and which
    # from x, and the backward pass computes x from y and which.
    bint backward
    bint wide  # an element of `which` is an int64 instead of a byte
    int dtype
    Py_ssize_t pieces
    Py_ssize_t piece_step  # in bytes
    Plan laid  # the first piece of x, y and, if there is one, which


cdef struct Scratch:
    char rows[ROWS * BLOCK * LARGEST_ITEM]
    char values[BLOCK * LARGEST_ITEM]  # of y
    uint8 numbers[BLOCK]


# Movements.

cdef inline void move(char *to, Py_ssize_t to_step, const char *source, Py_ssize_t step,
                      Py_ssize_t itemsize, Py_ssize_t n) noexcept nogil:
    move_pieces(itemsize, to, 0, to_step, source, 0, step, 1, n)


cdef void gather(char *rows, Py_ssize_t row_step, const char *x, Py_ssize_t piece_step,
                 Py_ssize_t step, Py_ssize_t itemsize, int pieces, Py_ssize_t n) noexcept nogil:
    cdef int piece = 0
    cdef int many
    while piece < pieces:
        many = min(pieces - piece, 4)
        if many < 4 and pieces > 4:
            # Moving four pieces, some of them for a second time, is cheaper than moving fewer
            # pieces one by one.
            piece = pieces - 4
            many = 4
        move_pieces(itemsize, rows + piece * row_step, row_step, itemsize,
                    x + piece * piece_step, piece_step, step, many, n)
        piece += many


cdef void scatter(char *x, Py_ssize_t piece_step, Py_ssize_t step, const char *rows,
                  Py_ssize_t row_step, Py_ssize_t itemsize, int pieces,
                  Py_ssize_t n) noexcept nogil:
    cdef int piece = 0
    while piece < pieces:
        move_pieces(itemsize, x + piece * piece_step, piece_step, step,
                    rows + piece * row_step, row_step, itemsize, min(pieces - piece, 4), n)
        piece += 4


cdef void number_from(char *which, Py_ssize_t step, const uint8 *numbers, Py_ssize_t base,
                      Py_ssize_t n) noexcept nogil:
    """Write to `which` the winners of a window of pieces that begins at `base`."""
    cdef Py_ssize_t i
    for i in range(n):
        if numbers[i] != NOWHERE:
            (<int64 *>(which + i * step))[0] = base + numbers[i]


cdef void number_within(uint8 *numbers, const char *which, Py_ssize_t step, Py_ssize_t base,
                        Py_ssize_t n) noexcept nogil:
    """Read from `which` the pieces of a window that begins at `base`, or NOWHERE for others."""
    cdef int64 number
    cdef Py_ssize_t i
    for i in range(n):
        number = (<const int64 *>(which + i * step))[0]
        numbers[i] = number - base if (number >= base) & (number < base + WINDOW) else NOWHERE


# The runs: the elements along the innermost axis.

cdef inline bint has_last(const Job *job) noexcept nogil:
    """Whether the pieces lie side by side and there is a kernel for their number."""
    if job.pieces > MOST_LAST or job.piece_step != job.laid.itemsize:
        return False
    if job.backward:
        return active_table.maxout_backward_last[job.pieces][job.dtype] != NULL
    return active_table.maxout_last[job.pieces][job.dtype] != NULL


cdef void reduce_block(const Plan *this, Scratch *scratch, const char *x, char *y, char *which,
                       Py_ssize_t count) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t itemsize = this.itemsize
    cdef Py_ssize_t unit = job.pieces * itemsize
    cdef Py_ssize_t piece = 0
    cdef int many
    cdef uint8 *numbers = NULL if which == NULL else scratch.numbers
    if has_last(job):
        move(scratch.rows, unit, x, this.step[X][0], unit, count)
        active_table.maxout_last[job.pieces][job.dtype](
            scratch.values, numbers, scratch.rows, count)
        piece = job.pieces
    while piece < job.pieces:
        many = <int>min(<Py_ssize_t>ROWS, job.pieces - piece)
        gather(scratch.rows, BLOCK * itemsize, x + piece * job.piece_step, job.piece_step,
               this.step[X][0], itemsize, many, count)
        if job.wide and piece > 0 and piece % WINDOW == 0:
            number_from(which, this.step[WHICH][0], numbers, piece - WINDOW, count)
            memset(numbers, NOWHERE, count)
        active_table.maxout_rows[job.dtype](
            scratch.values, numbers, scratch.rows, BLOCK * itemsize,
            <int>(piece % WINDOW if job.wide else piece % NUMBERED), many, piece > 0, count)
        piece += many
    move(y, this.step[Y][0], scratch.values, itemsize, itemsize, count)
    if job.wide:
        number_from(which, this.step[WHICH][0], numbers, (job.pieces - 1) // WINDOW * WINDOW, count)
    elif which != NULL:
        move(which, this.step[WHICH][0], <char *>numbers, 1, 1, count)


cdef inline void spread_last(const Job *job, void *x, const void *y, const uint8 *which,
                             Py_ssize_t n) noexcept nogil:
    """The gradient of pieces that lie side by side."""
    if has_last(job):
        active_table.maxout_backward_last[job.pieces][job.dtype](x, y, which, n)
    else:
        active_table.maxout_backward_placed[job.dtype](x, y, which, <int>job.pieces, n)


cdef void spread_block(const Plan *this, Scratch *scratch, char *x, const char *y,
                       const char *which, Py_ssize_t count) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t itemsize = this.itemsize
    cdef Py_ssize_t unit = job.pieces * itemsize
    cdef Py_ssize_t piece = 0
    cdef int many
    move(scratch.values, itemsize, y, this.step[Y][0], itemsize, count)
    if not job.wide:
        move(<char *>scratch.numbers, 1, which, this.step[WHICH][0], 1, count)
    if job.piece_step == itemsize and job.pieces <= ROWS:
        spread_last(job, scratch.rows, scratch.values, scratch.numbers, count)
        move(x, this.step[X][0], scratch.rows, unit, unit, count)
        piece = job.pieces
    while piece < job.pieces:
        many = <int>min(<Py_ssize_t>ROWS, job.pieces - piece)
        if job.wide and piece % WINDOW == 0:
            number_within(scratch.numbers, which, this.step[WHICH][0], piece, count)
        active_table.maxout_backward_rows[job.dtype](
            scratch.rows, BLOCK * itemsize, scratch.values, scratch.numbers,
            <int>(piece % WINDOW if job.wide else piece), many, count)
        scatter(x + piece * job.piece_step, job.piece_step, this.step[X][0],
                scratch.rows, BLOCK * itemsize, itemsize, many, count)
        piece += many


cdef void run_gathered(const Plan *this, char *x, char *y, char *which) noexcept nogil:
    cdef Scratch scratch
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t count
    while n > 0:
        count = min(n, <Py_ssize_t>BLOCK)
        if (<const Job *>this.job).backward:
            spread_block(this, &scratch, x, y, which, count)
        else:
            reduce_block(this, &scratch, x, y, which, count)
        x += count * this.step[X][0]
        y += count * this.step[Y][0]
        if which != NULL:
            which += count * this.step[WHICH][0]
        n -= count


cdef inline void run(const Plan *this, char *x, char *y, char *which) noexcept nogil:
    """Compute one run by the kernel for its layout, or gather it into rows if there is none."""
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t n = this.shape[0]
    cdef bint contiguous = (
        job.pieces <= NUMBERED and this.step[Y][0] == this.itemsize
        and (which == NULL or this.step[WHICH][0] == 1))
    cdef bint side_by_side = (
        job.piece_step == this.itemsize and this.step[X][0] == job.pieces * this.itemsize)
    if contiguous and this.step[X][0] == this.itemsize:
        if job.backward:
            active_table.maxout_backward_rows[job.dtype](
                x, job.piece_step, y, <uint8 *>which, 0, <int>job.pieces, n)
        else:
            active_table.maxout_rows[job.dtype](
                y, <uint8 *>which, x, job.piece_step, 0, <int>job.pieces, False, n)
    elif contiguous and side_by_side and job.backward:
        spread_last(job, x, y, <uint8 *>which, n)
    elif contiguous and side_by_side and has_last(job):
        active_table.maxout_last[job.pieces][job.dtype](y, <uint8 *>which, x, n)
    else:
        run_gathered(this, x, y, which)


cdef void run_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    cdef char *x = start[X]
    cdef char *y = start[Y]
    cdef char *which = start[WHICH] if this.has[WHICH] else NULL
    run(this, x, y, which)
    while rows > 1:
        x += this.step[X][1]
        y += this.step[Y][1]
        if which != NULL:
            which += this.step[WHICH][1]
        run(this, x, y, which)
        rows -= 1


cdef inline void perform(Job *job) noexcept:
    cdef Py_ssize_t bytes = size_of(&job.laid) * job.pieces * job.laid.itemsize
    job.laid.panel = run_panel
    job.laid.job = job
    if bytes == 0:
        return
    if bytes >= GIL_BYTES:
        with nogil:
            walk_panels(&job.laid, bytes)
    elif job.laid.axes == 1:  # This is a single run, and walking it would cost 70 instructions.
        run(&job.laid, job.laid.data[X], job.laid.data[Y],
            job.laid.data[WHICH] if job.laid.has[WHICH] else NULL)
    else:
        walk_panels(&job.laid, bytes)


# Jobs.

cdef struct Piece:
    # The first of the pieces of x, which is x without an axis.
    Operand operand
    Py_ssize_t shape[MOST_AXES]
    Py_ssize_t strides[MOST_AXES]


cdef inline void describe_piece(Piece *piece, object x, int axis) noexcept:
    cdef Operand *operand = &piece.operand
    cdef int i
    describe_ndarray(x, 0, operand)
    operand.axes -= 1
    for i in range(operand.axes):
        piece.shape[i] = operand.shape[i if i < axis else i + 1]
        piece.strides[i] = operand.strides[i if i < axis else i + 1]
    operand.shape = piece.shape
    operand.strides = piece.strides


cdef inline void add_axis(Plan *this, Py_ssize_t length, Py_ssize_t x_step, Py_ssize_t y_step,
                          Py_ssize_t which_step) noexcept:
    this.shape[this.axes] = length
    this.step[X][this.axes] = x_step
    this.step[Y][this.axes] = y_step
    this.step[WHICH][this.axes] = which_step
    this.step[PARAMETER][this.axes] = 0
    this.axes += 1


cdef inline void lay(Job *job, cnp.ndarray x, int axis, cnp.ndarray y, object which) noexcept:
    cdef Plan *this = &job.laid
    cdef Piece piece
    cdef Operand operands[2]
    cdef Py_ssize_t outer = 1
    cdef Py_ssize_t inner = 1
    cdef int i
    job.pieces = cnp.PyArray_DIM(x, axis)
    job.piece_step = cnp.PyArray_STRIDE(x, axis)
    if not (cnp.PyArray_FLAGS(x) & cnp.PyArray_FLAGS(y) & C_ORDER and not job.wide
            and (which is None or cnp.PyArray_FLAGS(<cnp.ndarray>which) & C_ORDER
                 and cnp.PyArray_SAMESHAPE(y, <cnp.ndarray>which))):
        describe_piece(&piece, x, axis)
        describe_ndarray(y, job.dtype, &operands[0])
        if which is not None:
            describe_ndarray(which, UINT8, &operands[1])
        lay_axes(this, active_table.itemsize[job.dtype], &piece.operand, &operands[0],
                 NULL if which is None else &operands[1], NULL)
        return
    # All arrays lie in C's order.  This is the common case, and needs no search for an order.
    for i in range(axis):
        outer *= cnp.PyArray_DIM(y, i)
    for i in range(axis, cnp.PyArray_NDIM(y)):
        inner *= cnp.PyArray_DIM(y, i)
    this.itemsize = active_table.itemsize[job.dtype]
    this.has[WHICH] = which is not None
    this.data[X] = this.data[PARAMETER] = <char *>cnp.PyArray_DATA(x)
    this.data[Y] = <char *>cnp.PyArray_DATA(y)
    this.data[WHICH] = NULL if which is None else <char *>cnp.PyArray_DATA(<cnp.ndarray>which)
    this.axes = 0
    job.piece_step = inner * this.itemsize  # The stride of an axis of length 1 may be anything.
    if inner != 1 or outer == 1:
        add_axis(this, inner, this.itemsize, this.itemsize, 1)
    if outer != 1:
        add_axis(this, outer, job.pieces * job.piece_step, job.piece_step, inner)


# Arguments.

cdef inline int normal_axis(str name, axis, int axes) except -1:
    cdef int number
    if PyLong_CheckExact(axis):
        number = axis
    else:
        number = PyArray_PyIntAsInt(axis)
    if number < -axes or number >= axes:
        raise np.exceptions.AxisError(number, axes, name)
    return number if number >= 0 else number + axes


cdef as_array(str name, x):
    """Return an exact ndarray: over the memory of a tensor, or what NumPy makes of another object.
    """
    return np.asarray(array_over(name, x) if is_tensor(x) else x)


cdef native(str name, array, int *dtype):
    """Return the array in the machine's byte order, and write the kernels' dtype for it."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype[0] = native_dtype(PyArray_DESCR(<PyArrayObject *>array))
    if dtype[0] < 0 and is_bfloat16(array.dtype):
        remember_bfloat16(array.dtype)
        dtype[0] = native_dtype(PyArray_DESCR(<PyArrayObject *>array))
    if dtype[0] < 0:
        raise TypeError(f"{name}: dtype {array.dtype.type.__name__} is not supported")
    return array


cdef tuple outputs(str name, out, int number):
    """Return the arrays of `out`, each of which may be None."""
    if not isinstance(out, tuple):
        return (out, None)[:number]
    if len(out) != number:
        raise ValueError(f"{name}: expected {number} arrays in out, not {len(out)}")
    return out


cdef checked_out(str name, out, tuple shape):
    """Return an exact ndarray over the memory of `out`, or None if `out` is None."""
    if out is None:
        return None
    if is_tensor(out):
        out = writeable_array(name, out)
    elif not cnp.PyArray_Check(out):  # not isinstance, which believes what an object says it is
        raise TypeError(f"{name}: out is a {type(out).__name__}, neither ndarray nor tensor")
    array = np.asarray(out)
    if array.shape != shape:
        raise ValueError(f"{name}: expected an out of shape {shape}, not {array.shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name}: out is read-only")
    return array


cdef check_cast(str name, dtype, out_dtype):
    # NumPy also allows a cast of a number to text and to any structure.
    if (not np.can_cast(dtype, out_dtype, "same_kind") or out_dtype.kind in "SUmM"
            or out_dtype.kind == "V" and not is_bfloat16(out_dtype)):
        raise TypeError(f"{name}: out of dtype {out_dtype} does not hold {dtype}")


cdef bint takes(out, dtype, input, other) except -1:
    """Whether a result can be computed directly into `out`: `out` is not None, has the dtype of the
    result and shares no memory with the other arrays."""
    return not (out is None or out.dtype != dtype or np.may_share_memory(out, input)
                or other is not None and np.may_share_memory(out, other))


cdef object delivered(result, out, array, tuple operands):
    """Return what the caller gets: `out`, after copying the result to `array` if it is not there
    already, or a new result.  `array` lies over the memory of `out`."""
    if out is None:
        return new_result(result if result.ndim else result[()], operands)
    if result is not array:
        np.copyto(array, result, casting="unsafe")  # check_cast has allowed the cast
    return out


# Forward.  `reduce_at_once` is the short cut for exact ndarrays and at most 256 pieces.

cdef bint fits(object out, int number_type, int axes, const Py_ssize_t *shape) noexcept:
    """Whether `out` is a writeable exact ndarray of the dtype and the shape of a result."""
    return (
        cnp.PyArray_CheckExact(out) and cnp.PyArray_FLAGS(<cnp.ndarray>out) & WRITEABLE
        and cnp.PyArray_TYPE(<cnp.ndarray>out) == number_type
        and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>out)
        and cnp.PyArray_NDIM(<cnp.ndarray>out) == axes
        and memcmp(cnp.PyArray_DIMS(<cnp.ndarray>out), shape, axes * sizeof(Py_ssize_t)) == 0)


cdef bint is_apart_from_pieces(const Job *job, int role) noexcept:
    """Whether the array of this role, y or which, shares no byte with x."""
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = job.laid.itemsize
    cdef int axis
    if job.piece_step > 0:
        high += (job.pieces - 1) * job.piece_step
    else:
        low += (job.pieces - 1) * job.piece_step
    for axis in range(job.laid.axes):
        high += (job.laid.shape[axis] - 1) * job.laid.step[X][axis]
    return is_apart(&job.laid, role, low, high)


cdef inline object new_like(PyArray_Descr *dtype, Py_ssize_t itemsize, const Piece *piece,
                            bint in_c_order):
    """Return a new array of the shape of a piece, in the memory order that NumPy's reductions keep.
    """
    cdef Py_ssize_t strides[MOST_AXES]
    if in_c_order:
        return new_array(dtype, piece.operand.axes, piece.shape, NULL, False)
    memory_order(strides, itemsize, piece.operand.axes, piece.shape, &piece.operand, NULL, NULL)
    return new_array(dtype, piece.operand.axes, piece.shape, strides, False)


cdef object reduce_at_once(cnp.ndarray x, int dtype, axis, out, bint counted):
    """Reduce into new arrays, or into an `out` that fits.  Return None if this does not apply."""
    cdef Job job
    cdef Piece piece
    cdef int number = normal_axis("maxout", axis, cnp.PyArray_NDIM(x))
    cdef bint in_c_order = cnp.PyArray_FLAGS(x) & C_ORDER
    if not 0 < cnp.PyArray_DIM(x, number) <= NUMBERED:
        return None
    describe_piece(&piece, x, number)
    if out is None:
        y = new_like(PyArray_DESCR(<PyArrayObject *>x), active_table.itemsize[dtype], &piece,
                     in_c_order)
    elif not counted and fits(out, cnp.PyArray_TYPE(x), piece.operand.axes, piece.shape):
        y = out
    else:
        return None
    which = new_like(<PyArray_Descr *>uint8_dtype, 1, &piece, in_c_order) if counted else None
    job.backward = job.wide = False
    job.dtype = dtype
    lay(&job, x, number, <cnp.ndarray>y, which)
    if out is not None and not is_apart_from_pieces(&job, Y):
        return None
    perform(&job)
    return (y, which) if counted else y


cdef object reduce_any(x, axis, out, bint counted):
    cdef Job job
    cdef int number
    cdef Py_ssize_t pieces
    array = as_array("maxout", x)
    number = normal_axis("maxout", axis, array.ndim)
    array = native("maxout", array, &job.dtype)
    pieces = array.shape[number]
    shape = array.shape[:number] + array.shape[number + 1:]
    if pieces == 0:
        raise ValueError(f"maxout: axis {number} has length 0, so there is no maximum")

    out = outputs("maxout", out, 1 + counted)
    y_out = checked_out("maxout", out[0], shape)
    if y_out is not None:
        check_cast("maxout", array.dtype, y_out.dtype)
    which_out = checked_out("maxout", out[1], shape) if counted else None
    if which_out is not None and (
            which_out.dtype.kind not in "iu" or np.iinfo(which_out.dtype).max < pieces - 1):
        raise TypeError(
            f"maxout: out of dtype {which_out.dtype} for which cannot number {pieces} pieces")

    like = array[(slice(None),) * number + (0,)]
    numbers = np.min_scalar_type(pieces - 1)
    job.backward = False
    job.wide = counted and pieces > NUMBERED
    y = y_out
    if not takes(y_out, array.dtype, array, which_out):
        y = np.empty_like(like, subok=False)
    which = which_out
    if counted:
        width = np.dtype(np.int64) if job.wide else numbers
        if not takes(which_out, width, array, y_out):
            which = np.empty_like(like, width, subok=False)
    lay(&job, array, number, y, which)
    perform(&job)

    y = delivered(y, out[0], y_out, (x,))
    if not counted:
        return y
    if which_out is None:
        which = which.astype(numbers, copy=False)
    return y, delivered(which, out[1], which_out, (x,))


def maxout(x, /, axis=-1, *, out=None, return_which=False):
    """The maximum of linear pieces: a maxout layer's activation.

    A unit of a maxout layer is the greatest of several linear functions of its input (Goodfellow,
    Warde-Farley, Mirza, Courville and Bengio, 2013).  ReLU is the case of two pieces, one of which
    is 0.

    Parameters
    ----------
    x : array_like
        At least one axis; floating (ml_dtypes' bfloat16 included), integer or bool.  It may be a
        PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain array; a mask is
        ignored.
    axis : int, default -1
        The axis of the pieces, of length 1 or more.
    out : ndarray or tensor, or tuple of them, optional
        Where to write the maximum.  With `return_which` it may be a pair, for the maximum and for
        `which`, either of which may be None.  It may overlap `x`.
    return_which : bool, default False
        Whether to tell which piece won, for `maxout_backward`.

    Returns
    -------
    maximum : ndarray, scalar or tensor
        A tensor if `x` is one, with the dtype of `x` and its shape without `axis`.  As in
        ``np.max``, the first NaN wins.  +0.0 and -0.0 are equal, and the first of equal pieces
        wins, so that a zero has the sign of the first; in ``np.max`` its sign depends on the zeros'
        positions.
    which : ndarray, scalar or tensor
        Only with `return_which`: the number of the piece that won, as in ``np.argmax``.  Its dtype
        is the smallest unsigned one that can number all pieces: uint8 up to 256.

    Raises
    ------
    TypeError
        If the dtype is not supported (complex, datetime, structured, str, object), if `out` is
        no ndarray or tensor or its dtype cannot hold the result, or if `axis` is not an integer.
    BufferError
        If the memory of a tensor does not hold its value, or if something else depends on it: if
        the tensor requires a gradient, has a tangent, is sparse, or is a lazy negation.  The
        message says what to call.
    ValueError
        If `axis` has length 0, or `out` is read-only or of another shape.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    See Also
    --------
    maxout_backward : The gradient with respect to `x`.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> x = np.array([[1.0, 5.0, 5.0], [-2.0, np.nan, 3.0]])
    >>> relu_ext.maxout(x)
    array([ 5., nan])
    >>> relu_ext.maxout(x, return_which=True)[1]
    array([1, 1], dtype=uint8)
    """
    cdef bint counted = return_which
    cdef int dtype
    if cnp.PyArray_CheckExact(x) and cnp.PyArray_NDIM(<cnp.ndarray>x) > 1:
        dtype = native_dtype(PyArray_DESCR(<PyArrayObject *>x))
        if dtype >= 0:
            result = reduce_at_once(<cnp.ndarray>x, dtype, axis, out, counted)
            if result is not None:
                return result
    return reduce_any(x, axis, out, counted)


# Backward.

cdef index_error(which, Py_ssize_t pieces):
    return IndexError(f"maxout_backward: which has {which}, out of bounds for {pieces} pieces")


cdef Py_ssize_t highest(const uint8 *which, Py_ssize_t n) noexcept nogil:
    cdef uint8 most = 0
    cdef Py_ssize_t i
    for i in range(n):
        most = which[i] if which[i] > most else most
    return most


cdef object spread_at_once(cnp.ndarray grad, int dtype, cnp.ndarray which, Py_ssize_t pieces,
                           axis, out):
    """Spread two arrays in C's order into a new array, or into an `out` that fits.  Return None if
    `out` does not fit."""
    cdef Job job
    cdef Py_ssize_t shape[MOST_AXES]
    cdef int axes = cnp.PyArray_NDIM(grad)
    cdef int number = normal_axis("maxout_backward", axis, axes + 1)
    cdef Py_ssize_t most = highest(<uint8 *>cnp.PyArray_DATA(which), cnp.PyArray_SIZE(which))
    cdef int i
    if most >= pieces:
        raise index_error(most, pieces)
    for i in range(axes):
        shape[i if i < number else i + 1] = cnp.PyArray_DIM(grad, i)
    shape[number] = pieces
    if out is None:
        x = new_array(PyArray_DESCR(<PyArrayObject *>grad), axes + 1, shape, NULL, False)
    elif fits(out, cnp.PyArray_TYPE(grad), axes + 1, shape):
        x = out
    else:
        return None
    job.backward = True
    job.wide = False
    job.dtype = dtype
    lay(&job, <cnp.ndarray>x, number, grad, which)
    if out is not None and not (
            is_apart_from_pieces(&job, Y) and is_apart_from_pieces(&job, WHICH)):
        return None
    perform(&job)
    return x


cdef object spread_any(grad, which, Py_ssize_t pieces, axis, out):
    cdef Job job
    cdef int number
    grad_array = as_array("maxout_backward", grad)
    which_array = as_array("maxout_backward", which)
    grad_array = native("maxout_backward", grad_array, &job.dtype)
    if which_array.dtype.kind not in "iu":
        raise TypeError("maxout_backward: which has dtype "
                        f"{which_array.dtype.type.__name__}, not an integer one")
    if pieces < 0:
        raise ValueError(f"maxout_backward: expected at least 0 pieces, not {pieces}")
    try:
        shape = np.broadcast_shapes(grad_array.shape, which_array.shape)
    except ValueError:
        raise ValueError(f"maxout_backward: grad of shape {grad_array.shape} and "
                         f"which of shape {which_array.shape} do not broadcast") from None
    number = normal_axis("maxout_backward", axis, len(shape) + 1)
    if 0 not in shape:
        least, most = int(which_array.min()), int(which_array.max())
        if least < 0 or most >= pieces:
            raise index_error(least if least < 0 else most, pieces)
    shape = (*shape[:number], pieces, *shape[number:])

    out, = outputs("maxout_backward", out, 1)
    x_out = checked_out("maxout_backward", out, shape)
    if x_out is not None:
        check_cast("maxout_backward", grad_array.dtype, x_out.dtype)
    x = x_out
    if not takes(x_out, grad_array.dtype, grad_array, which_array):
        x = np.empty(shape, grad_array.dtype)
    job.backward = True
    job.wide = pieces > NUMBERED
    which_array = which_array.astype(np.int64 if job.wide else np.uint8, copy=False)
    lay(&job, x, number, grad_array, which_array)
    perform(&job)
    return delivered(x, out, x_out, (grad, which))


def maxout_backward(grad, which, pieces, /, axis=-1, *, out=None):
    """The gradient of a loss through `maxout`: `grad` at the piece that won, 0 at the others.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output of `maxout`: floating (ml_dtypes' bfloat16
        included), integer or bool.  It may be a PyTorch tensor on the CPU.
    which : array_like
        The number of the piece that won, from ``maxout(x, axis, return_which=True)``, in any
        integer dtype and any shape that broadcasts with that of `grad`.  It may be a tensor.
    pieces : int
        The number of pieces.
    axis : int, default -1
        The axis of the pieces in the result.
    out : ndarray or tensor, optional
        Where to write the result.  It may overlap `grad` and `which`.

    Returns
    -------
    ndarray or tensor
        The gradient with respect to the input of `maxout`: a tensor if `grad` or `which` is one,
        with grad's dtype, and its shape with `axis`, of length `pieces`, inserted.  Every bit of
        grad is kept, also of NaN and -0.0.  At the other pieces the result is +0.0, even where grad
        is infinite or NaN.

    Raises
    ------
    IndexError
        If `which` has a negative number or one that is not below `pieces`.
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object), if that of `which`
        is not an integer one, if `out` is no ndarray or tensor or its dtype cannot hold the
        result, or if `pieces` or `axis` is not an integer.
    BufferError
        As for `maxout`.
    ValueError
        If the shapes of `grad` and `which` do not broadcast, if `pieces` is negative, or if `out`
        is read-only or of another shape.
    numpy.exceptions.AxisError
        If the result has no such axis.

    See Also
    --------
    maxout : The forward pass.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> y, which = relu_ext.maxout(np.array([[1.0, 5.0], [4.0, 3.0]]), return_which=True)
    >>> relu_ext.maxout_backward(np.array([0.5, -2.0]), which, 2)
    array([[ 0. ,  0.5],
           [-2. ,  0. ]])
    """
    cdef Py_ssize_t count = PyArray_PyIntAsIntp(pieces)
    cdef int dtype
    if (cnp.PyArray_CheckExact(grad) and cnp.PyArray_CheckExact(which)
            and cnp.PyArray_FLAGS(<cnp.ndarray>grad) & cnp.PyArray_FLAGS(<cnp.ndarray>which)
            & C_ORDER
            and cnp.PyArray_TYPE(<cnp.ndarray>which) == cnp.NPY_UINT8
            and cnp.PyArray_NDIM(<cnp.ndarray>grad) < MOST_AXES
            and cnp.PyArray_SAMESHAPE(<cnp.ndarray>grad, <cnp.ndarray>which)
            and 0 < count <= NUMBERED):
        dtype = native_dtype(PyArray_DESCR(<PyArrayObject *>grad))
        if dtype >= 0:
            result = spread_at_once(
                <cnp.ndarray>grad, dtype, <cnp.ndarray>which, count, axis, out)
            if result is not None:
                return result
    return spread_any(grad, which, count, axis, out)
