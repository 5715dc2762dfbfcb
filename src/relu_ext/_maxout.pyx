"""Maxout: the reduction over the axes of the pieces, and its gradient, for arrays of any layout.

Contract: nothing outside the result is written, whatever `which` holds and whatever other threads
do to its memory meanwhile: the kernels read each number once, and every byte is the number of some
piece.  What the axes are is decided before an array is looked at, and the shape and the strides of
an array are read again once everything is allocated, because Python may run until then.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_CheckExact
from libc.string cimport memcmp, memcpy, memset
from relu_ext._dispatch cimport active_table
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, is_bfloat16, is_writeable,
    native_dtype, new_array, remember_bfloat16,
)
from relu_ext._operand cimport Operand
from relu_ext._scalar cimport uint8
from relu_ext._table cimport BFLOAT16, FLOAT16, MOST_SIDE, OUT, UINT8, A, B, Pieces
from relu_ext._tensors cimport is_torch_tensor, new_result_of
from relu_ext._walk cimport (
    GIL_BYTES, MOST_AXES, Plan, lay_axes, new_layout, row_step, size_of, walk_panels,
)

from importlib import import_module
from math import prod
from operator import index

import numpy as np

cnp.import_array()

cdef extern from *:
    unsigned char load_number "*(const volatile unsigned char *)"(const uint8 *number) nogil

cdef enum:
    NUMBERED = 256  # pieces that a byte can number; NumPy reduces more of them
    # Where no kernel knows how pieces lie, up to ROWS of them at a time are moved to rows that take
    # 16 KiB together, half of a first-level cache.  Neighbouring rows must not begin at the same
    # place in a page.
    ROWS = 8
    ROW_BYTES = 2048
    ROW_STEP = ROW_BYTES + 64
    LONGEST_VECTOR = 64  # bytes
    BLOCK_BYTES = 4096  # of pieces that are cleared before the gradient is placed among them

cdef enum:  # the arrays of a job as roles of the walker's plan, whose axes are in the order of Y
    Y = OUT
    X = A
    WHICH = B

cdef object uint8_dtype = np.dtype(np.uint8)

cdef Py_ssize_t row_offset[ROWS]
cdef int row
for row in range(ROWS):
    row_offset[row] = row * ROW_STEP


cdef struct Axes:
    int count
    int axis[MOST_AXES]


cdef struct Job:
    # x has the axes of the pieces besides those of y.  The forward pass computes y and which from
    # x, and the backward pass computes x from y and which.
    int dtype
    Pieces pieces
    Py_ssize_t offset[NUMBERED]
    Operand first  # the first pieces: x without the axes of the pieces
    Py_ssize_t shape[MOST_AXES]
    Py_ssize_t strides[MOST_AXES]
    Plan laid  # y, the first pieces and, if there is one, which


# Panels: some rows of n elements, along axes 0 and 1 of the plan.

cdef inline bint is_dense(const Plan *this, int role, Py_ssize_t size) noexcept nogil:
    """Whether the items of y or which follow each other, through all rows of a panel."""
    return (this.shape[0] == 1 or this.step[role][0] == size) and (
        this.axes == 1 or row_step(this, role) == this.shape[0] * size)


cdef inline int side_by_side(const Job *job, int first, int most) noexcept nogil:
    """How many pieces, from one on and at most `most`, lie side by side."""
    cdef int count = 1
    while count < most and (job.offset[first + count]
                            == job.offset[first] + count * job.laid.itemsize):
        count += 1
    return count


cdef void take_pieces(const Plan *this, char *to, const char *x, int first, int pieces,
                      Py_ssize_t n, Py_ssize_t rows) noexcept nogil:
    """Move some pieces to rows of their own."""
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t size = this.itemsize
    cdef int piece = 0
    cdef int together
    cdef Py_ssize_t row
    while piece < pieces:
        together = side_by_side(job, first + piece, pieces - piece)
        for row in range(rows):
            active_table.copy(to + piece * ROW_STEP + row * n * size, size, ROW_STEP,
                              x + job.offset[first + piece] + row * row_step(this, X),
                              this.step[X][0], size, n, together, size)
        piece += together


cdef void reduce_moved(const Plan *this, char *y, uint8 *which, const char *x, Py_ssize_t n,
                       Py_ssize_t rows) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t count = n * rows
    cdef Py_ssize_t lanes = active_table.lanes[job.dtype]
    cdef char moved[ROWS * ROW_STEP]
    cdef char values[LONGEST_VECTOR]
    cdef uint8 numbers[LONGEST_VECTOR]
    cdef Pieces some
    cdef int piece = 0
    some.side, some.lanes, some.step, some.offset = 1, <int>lanes, this.itemsize, row_offset
    while piece < job.pieces.count:
        some.first, some.count = piece, min(ROWS, job.pieces.count - piece)
        some.champion = piece > 0
        if piece > 0 and some.count < 4:  # the fewest
            some.first, some.count = job.pieces.count - 4, 4
        take_pieces(this, moved, x, some.first, some.count, n, rows)
        active_table.maxout_rows[job.dtype](
            y if count >= lanes else values,
            NULL if which == NULL else which if count >= lanes else numbers, moved, &some,
            max(count, lanes), 1, 0)
        piece += ROWS
    if count < lanes:
        memcpy(y, values, count * this.itemsize)
        if which != NULL:
            memcpy(which, numbers, count)


cdef inline Py_ssize_t rows_in_place(const Plan *this, Py_ssize_t rows) noexcept nogil:
    """How many rows a kernel may reduce where they are, and read and write at least a vector long,
    without leaving the panel."""
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t step = this.step[X][0]
    cdef Py_ssize_t more = job.pieces.lanes - n
    if job.pieces.side < 0:
        return 0
    if more <= 0:
        return rows
    if job.pieces.side == 0 or row_step(this, X) < n * step:
        return 0
    more = rows - 1 - max((more * step - 1) // row_step(this, X), (more - 1) // n)
    return max(<Py_ssize_t>0, more)


cdef void reduce_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t room = ROW_BYTES // this.itemsize
    cdef Py_ssize_t row = rows_in_place(this, rows)
    cdef uint8 *which = <uint8 *>start[WHICH] if this.has[WHICH] else NULL
    cdef Py_ssize_t at, count
    active_table.maxout_rows[job.dtype](start[Y], which, start[X], &job.pieces, n, row,
                                        row_step(this, X))
    while row < rows:
        count = max(<Py_ssize_t>1, min(rows - row, room // n))
        at = 0
        while at < n:
            reduce_moved(this, start[Y] + (row * n + at) * this.itemsize,
                         NULL if which == NULL else which + row * n + at,
                         start[X] + row * row_step(this, X) + at * this.step[X][0],
                         min(room, n - at), count)
            at += room
        row += count


cdef inline void place(const Plan *this, char *x, const char *grad, const uint8 *which,
                       const Py_ssize_t size) noexcept nogil:
    """The gradient of a row: clear all pieces, and place grad, in blocks that stay in the
    first-level cache.  A number that another thread may be changing is read once."""
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t step = this.step[X][0]
    cdef Py_ssize_t most = max(<Py_ssize_t>1, BLOCK_BYTES // (job.pieces.count * size))
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t count, i
    cdef int piece, together
    while start < this.shape[0]:
        count = min(most, this.shape[0] - start)
        piece = 0
        while piece < job.pieces.count:
            together = side_by_side(job, piece, job.pieces.count - piece)
            if together * size == step:
                memset(x + job.offset[piece] + start * step, 0, count * step)
            else:
                for i in range(start, start + count):
                    memset(x + job.offset[piece] + i * step, 0, together * size)
            piece += together
        for i in range(start, start + count):
            memcpy(x + i * step + job.offset[load_number(which + i)], grad + i * size, size)
        start += count


cdef void spread_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef const uint8 *which = <const uint8 *>start[WHICH]
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t size = this.itemsize
    cdef char *x
    cdef const char *grad
    cdef Py_ssize_t row
    if active_table.spread_pieces(start[X], job.offset, job.pieces.count, job.pieces.side,
                                  this.step[X][0], row_step(this, X), start[Y], which, n, rows,
                                  size):
        return
    for row in range(rows):
        x = start[X] + row * row_step(this, X)
        grad = start[Y] + row * n * size
        if size == 1:
            place(this, x, grad, which + row * n, 1)
        elif size == 2:
            place(this, x, grad, which + row * n, 2)
        elif size == 4:
            place(this, x, grad, which + row * n, 4)
        elif size == 8:
            place(this, x, grad, which + row * n, 8)
        else:
            place(this, x, grad, which + row * n, size)


# Jobs.

cdef Py_ssize_t describe_pieces(Job *job, cnp.ndarray x, const Axes *axes) noexcept:
    """Describe the first pieces, and where up to NUMBERED others lie.  Return their number, or -1
    if x does not have the axes."""
    cdef bint pooled[MOST_AXES]
    cdef Operand whole
    cdef Py_ssize_t pieces = 1
    cdef Py_ssize_t length, step, offset, i, j
    cdef int kept = 0
    cdef int k
    describe_ndarray(x, job.dtype, &whole)
    job.first = whole
    job.first.shape = job.shape
    job.first.strides = job.strides
    memset(pooled, 0, sizeof(pooled))
    for k in range(axes.count):
        if axes.axis[k] >= whole.axes:
            return -1
        pooled[axes.axis[k]] = True
        pieces *= whole.shape[axes.axis[k]]
    for k in range(whole.axes):
        if not pooled[k]:
            job.shape[kept] = whole.shape[k]
            job.strides[kept] = whole.strides[k]
            kept += 1
    job.first.axes = kept
    if not 0 < pieces <= NUMBERED:
        return pieces
    job.offset[0] = 0
    pieces = 1
    for k in range(axes.count):
        length = whole.shape[axes.axis[k]]
        step = whole.strides[axes.axis[k]]
        for i in range(pieces - 1, -1, -1):  # from the end, so that none is overwritten unread
            offset = job.offset[i]
            for j in range(length):
                job.offset[i * length + j] = offset + j * step
        pieces *= length
    return pieces


cdef bint lie_side_by_side(const Job *job, int side) noexcept nogil:
    cdef int first = 0
    while first < job.pieces.count and side_by_side(job, first, side) == side:
        first += side
    return first == job.pieces.count


cdef int side_of(const Job *job) noexcept nogil:
    """As the kernels count it."""
    cdef int count = job.pieces.count
    cdef Py_ssize_t side = job.laid.step[X][0] // job.laid.itemsize
    if (side * job.laid.itemsize == job.laid.step[X][0] and 1 <= side <= MOST_SIDE
            and (side % 2 == 1 and side < MOST_SIDE and count % side == 0 or count == side
                 or side == 2 and count == 4) and lie_side_by_side(job, <int>side)):
        return <int>side
    return 0 if count >= 4 and (lie_side_by_side(job, count)
                                or count % 4 == 0 and lie_side_by_side(job, 4)) else -1


cdef int lanes_of(const Job *job) noexcept nogil:
    """As few lanes as hold the rows of windows: with 8 lanes, rows of 8 take 0.74 (int32) and 0.78
    (int16) of the time with 16 (3 by 3, AMD EPYC, Zen 5)."""
    cdef int lanes = active_table.lanes[job.dtype]
    cdef Py_ssize_t size = job.laid.itemsize
    if (job.pieces.side == 2 and job.pieces.count == 4
            or job.pieces.side == 3 and job.pieces.count == 9):
        while lanes * size >= 32 and lanes // 2 >= job.laid.shape[0]:
            lanes //= 2
    return lanes


cdef int perform(str name, Job *job, cnp.ndarray x, const Axes *axes, cnp.ndarray y, object which,
                 bint backward) except -1:
    """Describe all arrays, when no more Python will run, and compute."""
    cdef Operand operands[2]
    cdef Plan *this = &job.laid
    cdef Py_ssize_t pieces = job.pieces.count
    cdef Py_ssize_t bytes, i
    cdef bint valid = describe_pieces(job, x, axes) == pieces
    describe_ndarray(y, job.dtype, &operands[0])
    if which is not None:
        describe_ndarray(which, UINT8, &operands[1])
    for i in range(pieces, NUMBERED):  # what `which` may hold while others change it
        job.offset[i] = 0
    valid = valid and native_dtype(PyArray_DESCR(<PyArrayObject *>x)) == job.dtype
    valid = valid and lay_axes(this, active_table.itemsize[job.dtype], &operands[0], &job.first,
                               NULL if which is None else &operands[1], NULL)
    valid = valid and (size_of(this) == 0 or is_dense(this, Y, this.itemsize) and (
        which is None or is_dense(this, WHICH, 1)))
    if not valid:
        raise RuntimeError(f"{name}: an array changed its shape or its dtype during the call")
    bytes = size_of(this) * pieces * this.itemsize
    job.pieces.side = side_of(job)
    job.pieces.lanes = lanes_of(job)
    # A single piece is compared with itself.
    job.pieces.count = <int>pieces if pieces > 1 or backward else 2
    job.pieces.first, job.pieces.champion = 0, False
    job.pieces.step, job.pieces.offset = this.step[X][0], job.offset
    this.panel = spread_panel if backward else reduce_panel
    this.job = job
    if bytes >= GIL_BYTES:
        with nogil:
            walk_panels(this, bytes)
    elif bytes:
        walk_panels(this, bytes)
    return 0


# Arguments.

cdef tuple as_numbers(str name, str what, numbers):
    """Return a tuple of ints, after all Python in it has run."""
    several = numbers if isinstance(numbers, tuple) else (numbers,)
    if numbers is None:
        raise TypeError(f"{name}: {what} is None; name the axes of the pieces")
    if not several:
        raise ValueError(f"{name}: {what} is an empty tuple; name at least one axis of pieces")
    try:
        return tuple([index(None if isinstance(one, bool) else one) for one in several])
    except TypeError:
        kinds = ", ".join([type(one).__name__ for one in several])
        raise TypeError(
            f"{name}: {what} has to be an integer or a tuple of integers, not {kinds}") from None


cdef int find_axes(str name, tuple numbers, int axes, Axes *found) except -1:
    cdef int i
    cdef int overflow = 0
    cdef long axis
    found.count = 0
    for number in numbers:
        axis = PyLong_AsLongAndOverflow(number, &overflow)
        if overflow or not -axes <= axis < axes:
            raise np.exceptions.AxisError(number, axes, name)
        axis += axes if axis < 0 else 0
        for i in range(found.count):
            if found.axis[i] == axis:
                raise ValueError(f"{name}: axis {numbers} names axis {axis} twice")
        found.axis[found.count] = axis
        found.count += 1
    return 0


cdef exporters():
    """The module _exporters, which is imported when it is first needed: that takes 0.3 ms."""
    return import_module("relu_ext._exporters")


cdef as_array(str name, x):
    """Return an exact ndarray: over the memory of a tensor, or what NumPy makes of x."""
    if cnp.PyArray_CheckExact(x):
        return x
    array = np.asarray(exporters().array_over(name, x) if is_torch_tensor(x) else x)
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name}: NumPy makes no array of numbers of a {type(x).__name__}; "
                        "convert it first")
    return array


cdef native_array(str name, x, int *dtype):
    """Return an array in the machine's byte order, and write the kernels' dtype for it."""
    array = as_array(name, x)
    dtype[0] = native_dtype(PyArray_DESCR(<PyArrayObject *>array))
    if dtype[0] >= 0:
        return array
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if is_bfloat16(array.dtype):
        remember_bfloat16(array.dtype)
    dtype[0] = native_dtype(PyArray_DESCR(<PyArrayObject *>array))
    if dtype[0] < 0:
        raise TypeError(f"{name}: dtype {array.dtype.type.__name__} is not supported")
    return array


cdef tuple outputs(str name, out, int number):
    """Return the two arrays of `out`, each of which may be None."""
    if not isinstance(out, tuple):
        return out, None
    if len(<tuple>out) != number:
        raise ValueError(f"{name}: expected {number} arrays in out, not {len(out)}")
    return (<tuple>out + (None,))[:2]


cdef inline bint has_shape(cnp.ndarray array, int axes, const Py_ssize_t *shape) noexcept:
    return cnp.PyArray_NDIM(array) == axes and (  # without axes the dimensions are NULL
        axes == 0 or memcmp(cnp.PyArray_DIMS(array), shape, axes * sizeof(Py_ssize_t)) == 0)


cdef checked_out(str name, out, dtype, int axes, const Py_ssize_t *shape):
    """Return an exact ndarray over the memory of `out`, which holds a result of `dtype`."""
    cdef int axis
    if out is None or cnp.PyArray_CheckExact(out) and out.dtype is dtype and is_writeable(out) and (
            has_shape(<cnp.ndarray>out, axes, shape)):
        return out
    return exporters().result_array(name, "out", out, tuple([shape[axis] for axis in range(axes)]),
                                    dtype, "SUmMV")


cdef bint takes(out, dtype, input, other) except -1:
    """Whether a result can be computed directly into `out`: `out` is not None, has the dtype of the
    result and shares no memory with the other arrays."""
    return not (out is None or out.dtype != dtype or np.may_share_memory(out, input)
                or other is not None and np.may_share_memory(out, other))


cdef object delivered(result, out, array, tuple operands):
    """Return what the caller gets: `out`, after copying the result to `array` if it is not there
    already, or a new result.  `array` lies over the memory of `out`."""
    if out is None:
        return new_result_of(result if result.ndim else result[()], operands)
    if result is not array:
        np.copyto(array, result, casting="unsafe")  # checked_out has allowed the cast
    return out


# Forward.

cdef object target(const Job *job, out, PyArray_Descr *dtype, Py_ssize_t itemsize, bint any_out, x,
                   other):
    """Where y or which is computed: `out`, or a new array, which lies in memory in the order of
    x, or in C's order as `out` does."""
    cdef Py_ssize_t shape[MOST_AXES]
    cdef Py_ssize_t strides[MOST_AXES]
    if out is not None and takes(out, <object>dtype, x, other) and out.flags.c_contiguous:
        return out
    new_layout(shape, strides, itemsize, &job.first, NULL)
    return new_array(dtype, job.first.axes, shape, NULL if any_out else strides,
                     False)


cdef list axes_to_end(const Axes *axes, int count):
    """The axes of an array, those of the pieces last."""
    cdef int i
    pooled = [axes.axis[i] for i in range(axes.count)]
    return [i for i in range(count) if i not in pooled] + pooled


cdef tuple reduce_many(array, const Axes *axes, Py_ssize_t pieces, bint is_half):
    """More pieces than a byte can number, by NumPy."""
    array = array.transpose(axes_to_end(axes, array.ndim))
    shape = array.shape[:array.ndim - axes.count]
    rows = array.reshape(prod(shape), pieces)
    # ml_dtypes has no argmax, and NumPy's of float16 is slow; widened, both keep their order.
    which = (rows.astype(np.float32) if is_half else rows).argmax(1)
    return rows[np.arange(len(rows)), which].reshape(shape), which.reshape(shape)


def maxout(x, /, axis=-1, *, out=None, return_which=False):
    """The maximum of linear pieces: a maxout layer's activation, and max-pooling.

    A unit of a maxout layer is the greatest of several linear functions of its input (Goodfellow,
    Warde-Farley, Mirza, Courville and Bengio, 2013); ReLU is the case of two, one of which is 0.
    Max-pooling is the same over windows, which are a view of the image with more axes.

    Parameters
    ----------
    x : array_like
        Floating (ml_dtypes' bfloat16 included), integer or bool.  It may be a PyTorch tensor on the
        CPU.  A subclass of ndarray is taken as a plain array; a mask is ignored.
    axis : int or tuple of int, default -1
        The axis of the pieces, of length 1 or more, or several of them.
    out : ndarray or tensor, or tuple of them, optional
        Where to write the maximum; with `return_which` a pair, either of which may be None.  It may
        overlap `x`.
    return_which : bool, default False
        Whether to tell which piece won, for `maxout_backward`.

    Returns
    -------
    maximum : ndarray, scalar or tensor
        A tensor if `x` is one, with the dtype of `x` and its shape without `axis`.  As in
        ``np.max``, the first NaN wins.  +0.0 and -0.0 are equal, and the first of equal pieces
        wins; in ``np.max`` the sign of a zero depends on the zeros' positions.
    which : ndarray, scalar or tensor
        Only with `return_which`: the number of the piece that won, as in ``np.argmax``.  Several
        axes number the pieces in C's order of the axes as they are named: with ``axis=(3, 5)``,
        along axis 5 fastest.  Its dtype is the smallest unsigned one that can number all pieces:
        uint8 up to 256.  Widen it before arithmetic, which would wrap: ``which.astype(np.intp)``.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object), NumPy makes no
        array of `x`, `out` is no ndarray or tensor or cannot hold the result, or `axis` is neither
        an integer nor a tuple of them; None is not, so name all axes.
    BufferError
        If the memory of a tensor is not its value, or something else depends on it: if it requires
        a gradient, has a tangent, is sparse, or is a lazy negation.
    ValueError
        If there are no pieces, `axis` is empty or names an axis twice, or `out` is read-only or of
        another shape.
    numpy.exceptions.AxisError
        If `x` has no such axis.

    See Also
    --------
    maxout_backward : The gradient with respect to `x`.

    Notes
    -----
    Pooling images of the shape (images, channels, height, width), or NHWC, by windows of 2 by 2::

        windows = x.reshape(n, c, h // 2, 2, w // 2, 2)
        pooled, which = relu_ext.maxout(windows, axis=(3, 5), return_which=True)

        windows = x.reshape(n, h // 2, 2, w // 2, 2, c)
        pooled, which = relu_ext.maxout(windows, axis=(2, 4), return_which=True)

    Of odd sizes, pool a slice: ``x[:, :, :24, :24].reshape(n, c, 12, 2, 12, 2)`` copies nothing.
    Pad with -inf.  Windows that overlap are views by ``sliding_window_view``.  Of several NaN in a
    window PyTorch's ``max_pool2d`` returns the last and we the first.

    Up to 256 pieces a new result lies in memory in the order of the axes of `x`; of more it is in
    C's order.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> x = np.array([[1.0, 5.0, 5.0], [-2.0, np.nan, 3.0]])
    >>> relu_ext.maxout(x)
    array([ 5., nan])
    >>> relu_ext.maxout(x, return_which=True)[1]
    array([1, 1], dtype=uint8)

    >>> image = np.array([[1, 2, 5, 6], [3, 4, 8, 7]])
    >>> relu_ext.maxout(image.reshape(1, 2, 2, 2), axis=(1, 3), return_which=True)
    (array([[4, 8]]), array([[3, 2]], dtype=uint8))
    """
    cdef Job job
    cdef Axes axes
    cdef bint counted = return_which
    cdef Py_ssize_t pieces
    cdef tuple numbers = (axis,) if PyLong_CheckExact(axis) else as_numbers("maxout", "axis", axis)
    array = native_array("maxout", x, &job.dtype)
    find_axes("maxout", numbers, cnp.PyArray_NDIM(<cnp.ndarray>array), &axes)
    pieces = describe_pieces(&job, <cnp.ndarray>array, &axes)
    if pieces <= 0:
        raise ValueError(f"maxout: axis {axis} has length 0, so there is no maximum")

    y_out = which_out = y_given = which_given = None
    if out is not None:
        y_given, which_given = outputs("maxout", out, 1 + counted)
        y_out = checked_out("maxout", y_given, array.dtype, job.first.axes, job.shape)
        which_out = checked_out("maxout", which_given, uint8_dtype, job.first.axes, job.shape)
        if which_out is not None and (which_out.dtype.kind not in "iu"
                                      or np.iinfo(which_out.dtype).max < pieces - 1):
            raise TypeError(f"maxout: out of dtype {which_out.dtype} for which cannot number "
                            f"{pieces} pieces")
    if pieces > NUMBERED:
        y, which = reduce_many(array, &axes, pieces, job.dtype in (FLOAT16, BFLOAT16))
        if which_given is None:
            which = which.astype(np.min_scalar_type(pieces - 1))
    else:
        y = target(&job, y_out, PyArray_DESCR(<PyArrayObject *>array),
                   active_table.itemsize[job.dtype], out is not None, array, which_out)
        which = None
        if counted:
            which = target(&job, which_out, <PyArray_Descr *>uint8_dtype, 1, out is not None, array,
                           y_out)
        job.pieces.count = <int>pieces
        perform("maxout", &job, <cnp.ndarray>array, &axes, <cnp.ndarray>y, which, False)
    if out is not None or x is not array or cnp.PyArray_NDIM(<cnp.ndarray>y) == 0:
        y = delivered(y, y_given, y_out, (x,))
        if counted:
            which = delivered(which, which_given, which_out, (x,))
    return (y, which) if counted else y


# Backward.

cdef Py_ssize_t highest(const uint8 *which, Py_ssize_t n) noexcept nogil:
    cdef uint8 most = 0
    cdef Py_ssize_t i
    for i in range(n):
        most = which[i] if which[i] > most else most
    return most


cdef object numbered(cnp.ndarray which, Py_ssize_t pieces):
    """Return `which` as uint8, or as it is where there are more pieces, if all of it is in range.
    """
    least = 0
    if (cnp.PyArray_TYPE(which) == cnp.NPY_UINT8
            and cnp.PyArray_FLAGS(which) & cnp.NPY_ARRAY_C_CONTIGUOUS):
        most = highest(<uint8 *>cnp.PyArray_DATA(which), cnp.PyArray_SIZE(which))
    else:
        least, most = int(which.min()), int(which.max())
    if least < 0 or most >= pieces:
        raise IndexError(f"maxout_backward: which has {least if least < 0 else most}, "
                         f"out of bounds for {pieces} pieces")
    if cnp.PyArray_TYPE(which) == cnp.NPY_UINT8 or pieces > NUMBERED:
        return which
    return which.astype(np.uint8)


cdef object spread_many(grad, which, tuple lengths, const Axes *axes):
    """The gradient of more pieces than a byte can number, by NumPy; in C's order."""
    x = np.zeros((grad.size, prod(lengths)), grad.dtype)
    x[np.arange(grad.size), which.reshape(-1).astype(np.intp)] = grad.reshape(-1)
    x = x.reshape(grad.shape + lengths)
    return np.ascontiguousarray(x.transpose(np.argsort(axes_to_end(axes, x.ndim))))


cdef object contiguous(array, int axes, const Py_ssize_t *shape):
    """Return the array, broadcast and in C's order."""
    cdef int axis
    if (cnp.PyArray_FLAGS(<cnp.ndarray>array) & cnp.NPY_ARRAY_C_CONTIGUOUS
            and has_shape(<cnp.ndarray>array, axes, shape)):
        return array
    return np.broadcast_to(array, tuple([shape[axis] for axis in range(axes)])).copy()


def maxout_backward(grad, which, pieces, /, axis=-1, *, out=None):
    """The gradient of a loss through `maxout`: `grad` at the piece that won, 0 at the others.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output of `maxout`, of any dtype of its input.  It may be a
        PyTorch tensor on the CPU.
    which : array_like
        The number of the piece that won, from ``maxout(x, axis, return_which=True)``, in any
        integer dtype and any shape that broadcasts with that of `grad`.  It may be a tensor.
    pieces : int or tuple of int
        The number of pieces, or one number for each axis.
    axis : int or tuple of int, default -1
        The axis of the pieces in the result, or a tuple of as many as there are `pieces`.
    out : ndarray or tensor, optional
        Where to write the result.  It may overlap `grad` and `which`.

    Returns
    -------
    ndarray or tensor
        The gradient with respect to the input of `maxout`: a tensor if `grad` or `which` is one,
        with grad's dtype, and its shape with ``axis[i]``, of length ``pieces[i]``, inserted.  A new
        one is in C's order, so that a reshape to an image is a view.  Every bit of grad is kept,
        also of NaN and -0.0.  At the other pieces the result is +0.0, even where grad is infinite
        or NaN.

    Raises
    ------
    IndexError
        If `which` has a negative number or one that is not below the number of pieces.
    TypeError, BufferError
        As for `maxout`; also if `which` is not of integers, or `pieces` and `axis` are not both
        integers or both tuples of integers.
    ValueError
        If `grad` and `which` do not broadcast, `pieces` is negative or has another length than
        `axis`, `axis` is empty or names an axis twice, or `out` is read-only or of another shape.
    numpy.exceptions.AxisError
        If the result has no such axis.

    See Also
    --------
    maxout : The forward pass.

    Notes
    -----
    The gradient of windows of 2 by 2 in images of the shape (images, channels, height, width)::

        dx = relu_ext.maxout_backward(grad, which, (2, 2), axis=(3, 5)).reshape(n, c, h, w)

    Of odd sizes, give a slice of zeros, reshaped to windows, as `out`.  The gradient of overlapping
    windows is not included.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> y, which = relu_ext.maxout(np.array([[1.0, 5.0], [4.0, 3.0]]), return_which=True)
    >>> relu_ext.maxout_backward(np.array([0.5, -2.0]), which, 2)
    array([[ 0. ,  0.5],
           [-2. ,  0. ]])
    >>> relu_ext.maxout_backward([[0.5, -2.0]], [[3, 2]], (2, 2), axis=(1, 3)).reshape(2, 4)
    array([[ 0. ,  0. ,  0. ,  0. ],
           [ 0. ,  0.5, -2. ,  0. ]])
    """
    cdef Job job
    cdef Axes axes
    cdef Operand operands[2]
    cdef Py_ssize_t shape[MOST_AXES]
    cdef Py_ssize_t kept[MOST_AXES]
    cdef int count, i
    cdef int number = 0
    cdef tuple numbers = as_numbers("maxout_backward", "axis", axis)
    cdef tuple lengths = as_numbers("maxout_backward", "pieces", pieces)
    if isinstance(axis, tuple) != isinstance(pieces, tuple):
        raise TypeError("maxout_backward: pieces and axis have to be both integers or both tuples")
    if len(lengths) != len(numbers):
        raise ValueError(f"maxout_backward: {len(lengths)} numbers of pieces for "
                         f"{len(numbers)} axes")
    if min(lengths) < 0:
        raise ValueError(f"maxout_backward: expected at least 0 pieces, not {min(lengths)}")
    total = prod(lengths)
    grad_array = native_array("maxout_backward", grad, &job.dtype)
    which_array = as_array("maxout_backward", which)
    is_plain = grad is grad_array and which is which_array
    if which_array.dtype.kind not in "iu":
        raise TypeError("maxout_backward: which has dtype "
                        f"{which_array.dtype.type.__name__}, not an integer one")
    describe_ndarray(grad_array, job.dtype, &operands[0])
    describe_ndarray(which_array, UINT8, &operands[1])
    count = new_layout(kept, shape, 1, &operands[0], &operands[1])
    if count < 0:
        raise ValueError(f"maxout_backward: grad of shape {grad_array.shape} and "
                         f"which of shape {which_array.shape} do not broadcast")
    if count + len(numbers) > MOST_AXES:
        raise ValueError(f"maxout_backward: the result would have {count + len(numbers)} axes; "
                         f"NumPy has at most {MOST_AXES}")
    find_axes("maxout_backward", numbers, count + <int>len(numbers), &axes)
    if total * max(cnp.PyArray_SIZE(grad_array), cnp.PyArray_SIZE(which_array)) >= 1 << 62:
        raise ValueError(f"maxout_backward: a result of {total} pieces is too large")
    # The shape of the result, axis by axis.
    memset(shape, -1, sizeof(shape))
    for i in range(axes.count):
        shape[axes.axis[i]] = lengths[i]
    for i in range(count + axes.count):
        if shape[i] < 0:
            shape[i] = kept[number]
            number += 1
    is_empty = any([kept[i] == 0 for i in range(count)])
    if not is_empty:
        which_array = contiguous(numbered(which_array, total), count, kept)
        grad_array = contiguous(grad_array, count, kept)

    given = outputs("maxout_backward", out, 1)[0]
    x_out = checked_out("maxout_backward", given, grad_array.dtype, count + axes.count, shape)
    x = x_out
    if total > NUMBERED and not is_empty:
        x = spread_many(grad_array, which_array, lengths, &axes)
    else:
        if not takes(x_out, grad_array.dtype, grad_array, which_array):
            x = new_array(PyArray_DESCR(<PyArrayObject *>grad_array), count + axes.count, shape,
                          NULL, False)
        if not is_empty:
            job.pieces.count = total
            perform("maxout_backward", &job, <cnp.ndarray>x, &axes, <cnp.ndarray>grad_array,
                    which_array, True)
    if given is None and is_plain:
        return x
    return delivered(x, given, x_out, (grad, which))
