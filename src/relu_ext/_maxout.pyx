"""Maxout: the reduction over the axes of the pieces, and its gradient, for arrays of any layout.

Contract: nothing outside the result is written, whatever `which` holds and whatever other threads
do to its memory meanwhile: the kernels read each number once, and every byte is the number of some
piece.  What the axes are is decided before an array is looked at, and the shape and the strides of
an array are read again once everything is allocated, because Python may run until then.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_CheckExact
from libc.string cimport memcmp, memset
from relu_ext._dispatch cimport active_table
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, is_bfloat16, native_dtype,
    new_array, remember_bfloat16,
)
from relu_ext._operand cimport Operand
from relu_ext._scalar cimport uint8
from relu_ext._table cimport BFLOAT16, FLOAT16, LANES_BYTES, OUT, UINT8, A, B
from relu_ext._tensors cimport is_tensor, new_result
from relu_ext._walk cimport (
    GIL_BYTES, MOST_AXES, Plan, lay_axes, new_layout, size_of, walk_panels,
)

from operator import index

import numpy as np

from relu_ext._exporters import array_over, writeable_array

cnp.import_array()

cdef enum:
    WRITEABLE = cnp.NPY_ARRAY_WRITEABLE
    NUMBERED = 256  # pieces that a byte can number; NumPy reduces more of them
    # Where pieces do not lie in rows, up to ROWS of them at a time are moved to rows that take
    # 16 KiB together, half of a first-level cache.  Neighbouring rows must not begin at the same
    # place in a page.
    ROWS = 8
    ROW_BYTES = 2048
    ROW_STEP = ROW_BYTES + 64
    CLEAR_BYTES = 4096  # of a gradient that are set to 0 before the winners are placed

cdef enum:  # the arrays of a job as roles of the walker's plan; its axes are in the order of X
    X = OUT
    Y = A
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
    bint backward
    bint dense  # x is contiguous
    int dtype
    Py_ssize_t pieces
    Py_ssize_t offset[NUMBERED]  # of each piece from the first one, in bytes; else 0
    Operand first  # the first pieces: x without the axes of the pieces
    Py_ssize_t shape[MOST_AXES]
    Py_ssize_t strides[MOST_AXES]
    Plan laid  # the first pieces, y and, if there is one, which


cdef struct Scratch:
    char rows[ROWS * ROW_STEP]
    char values[ROW_BYTES]  # of y
    uint8 numbers[ROW_BYTES]


# Panels: some rows of elements, along axes 0 and 1 of the plan.

cdef inline void move(char *to, Py_ssize_t to_step, Py_ssize_t to_row, const char *source,
                      Py_ssize_t step, Py_ssize_t row, Py_ssize_t n, Py_ssize_t rows,
                      Py_ssize_t itemsize) noexcept nogil:
    active_table.copy(to, to_step, to_row, source, step, row, n, rows, itemsize)


cdef inline Py_ssize_t second_step(const Plan *this, int role) noexcept nogil:
    return this.step[role][1] if this.axes > 1 else 0


cdef void reduce_block(const Plan *this, Scratch *scratch, const char *x, char *y, char *which,
                       Py_ssize_t n, Py_ssize_t rows) noexcept nogil:
    """Move the pieces of n elements in each of some rows to rows of their own, and reduce those."""
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t itemsize = this.itemsize
    cdef Py_ssize_t count = n * rows
    cdef Py_ssize_t least = LANES_BYTES // itemsize
    cdef Py_ssize_t y_row = second_step(this, Y)
    cdef Py_ssize_t which_row = second_step(this, WHICH)
    cdef bint y_lies_right = (
        count >= least and this.step[Y][0] == itemsize and (rows == 1 or y_row == n * itemsize))
    cdef bint which_lies_right = (
        count >= least and this.step[WHICH][0] == 1 and (rows == 1 or which_row == n))
    cdef char *values = y if y_lies_right else scratch.values
    cdef uint8 *numbers = <uint8 *>which if which_lies_right else scratch.numbers
    cdef Py_ssize_t piece = 0
    cdef int many
    if which == NULL:
        numbers = NULL
    while piece < job.pieces:
        many = <int>min(<Py_ssize_t>ROWS, job.pieces - piece)
        active_table.take_pieces(
            scratch.rows, ROW_STEP, x, job.offset + piece, many, this.step[X][0], n,
            second_step(this, X), rows, itemsize)
        active_table.maxout_rows[job.dtype](
            values, numbers, scratch.rows, row_offset, <int>piece, many, piece > 0,
            max(count, least))
        piece += many
    if not y_lies_right:
        move(y, this.step[Y][0], y_row, values, itemsize, n * itemsize, n, rows, itemsize)
    if which != NULL and not which_lies_right:
        move(which, this.step[WHICH][0], which_row, <char *>numbers, 1, n, n, rows, 1)


cdef void reduce_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef Scratch scratch
    cdef char *x = start[X]
    cdef char *y = start[Y]
    cdef char *which = start[WHICH] if this.has[WHICH] else NULL
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t itemsize = this.itemsize
    cdef Py_ssize_t room = ROW_BYTES // itemsize
    cdef Py_ssize_t at, count
    cdef bint in_rows = (
        this.step[X][0] == itemsize and this.step[Y][0] == itemsize
        and (which == NULL or this.step[WHICH][0] == 1) and n >= LANES_BYTES // itemsize)
    while rows > 0:
        count = 1
        if in_rows:
            active_table.maxout_rows[job.dtype](
                y, <uint8 *>which, x, job.offset, 0, <int>job.pieces, False, n)
        elif n > room // 2:
            at = 0
            while at < n:
                reduce_block(this, &scratch, x + at * this.step[X][0], y + at * this.step[Y][0],
                             NULL if which == NULL else which + at * this.step[WHICH][0],
                             min(room, n - at), 1)
                at += room
        else:
            count = min(rows, room // n)
            reduce_block(this, &scratch, x, y, which, n, count)
        x += count * second_step(this, X)
        y += count * second_step(this, Y)
        if which != NULL:
            which += count * second_step(this, WHICH)
        rows -= count


cdef void spread_block(const Plan *this, Scratch *scratch, char *x, const char *y,
                       const char *which, Py_ssize_t n, Py_ssize_t rows,
                       Py_ssize_t fill) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t itemsize = this.itemsize
    cdef Py_ssize_t y_row = second_step(this, Y)
    cdef Py_ssize_t which_row = second_step(this, WHICH)
    if this.step[Y][0] != itemsize:
        move(scratch.values, itemsize, n * itemsize, y, this.step[Y][0], y_row, n, rows, itemsize)
        y = scratch.values
        y_row = n * itemsize
    if this.step[WHICH][0] != 1:
        move(<char *>scratch.numbers, 1, n, which, this.step[WHICH][0], which_row, n, rows, 1)
        which = <const char *>scratch.numbers
        which_row = n
    active_table.spread_pieces(
        x, job.offset, <int>job.pieces, this.step[X][0], second_step(this, X), y, y_row,
        <const uint8 *>which, which_row, n, rows, itemsize, fill)


cdef void spread_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    cdef Scratch scratch
    cdef char *x = start[X]
    cdef char *y = start[Y]
    cdef char *which = start[WHICH]
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t itemsize = this.itemsize
    cdef Py_ssize_t row_bytes = n * job.pieces * itemsize
    cdef Py_ssize_t room = ROW_BYTES // itemsize
    cdef Py_ssize_t at, count
    # Whether the pieces of a row fill the memory up to the next row.
    cdef bint fills = (
        job.dense and this.step[X][0] != itemsize and row_bytes <= CLEAR_BYTES and n <= room
        and (rows == 1 or second_step(this, X) == row_bytes)
        and job.offset[job.pieces - 1] + (n - 1) * this.step[X][0] + itemsize == row_bytes)
    if this.step[X][0] != itemsize:
        room = min(room, max(<Py_ssize_t>1, CLEAR_BYTES // (job.pieces * itemsize)))
    while rows > 0:
        count = 1
        if fills:
            count = min(rows, CLEAR_BYTES // row_bytes, room // n)
            spread_block(this, &scratch, x, y, which, n, count, row_bytes)
        else:
            at = 0
            while at < n:
                spread_block(this, &scratch, x + at * this.step[X][0], y + at * this.step[Y][0],
                             which + at * this.step[WHICH][0], min(room, n - at), 1, 0)
                at += room
        x += count * second_step(this, X)
        y += count * second_step(this, Y)
        which += count * second_step(this, WHICH)
        rows -= count


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
    job.dense = cnp.PyArray_FLAGS(x) & cnp.NPY_ARRAY_C_CONTIGUOUS
    return pieces


cdef int perform(str name, Job *job, cnp.ndarray x, const Axes *axes, cnp.ndarray y,
                 object which) except -1:
    """Describe all arrays, when no more Python will run, and compute."""
    cdef Operand operands[2]
    cdef Plan *this = &job.laid
    cdef Py_ssize_t bytes, i
    cdef bint valid = describe_pieces(job, x, axes) == job.pieces
    describe_ndarray(y, job.dtype, &operands[0])
    if which is not None:
        describe_ndarray(which, UINT8, &operands[1])
    for i in range(job.pieces, NUMBERED):  # what `which` may hold while others change it
        job.offset[i] = 0
    valid = valid and native_dtype(PyArray_DESCR(<PyArrayObject *>x)) == job.dtype
    valid = valid and lay_axes(this, active_table.itemsize[job.dtype], &job.first, &operands[0],
                               NULL if which is None else &operands[1], NULL)
    if not valid:
        raise RuntimeError(f"{name}: an array changed its shape or its dtype during the call")
    bytes = size_of(this) * job.pieces * this.itemsize
    this.panel = spread_panel if job.backward else reduce_panel
    this.job = job
    if bytes >= GIL_BYTES:
        with nogil:
            walk_panels(this, bytes)
    elif bytes:
        walk_panels(this, bytes)
    return 0


# Arguments.

cdef as_number(str name, what, number):
    try:
        return index(number if number is not True and number is not False else None)
    except TypeError:
        raise TypeError(f"{name}: {what} has to be an integer or a tuple of integers, "
                        f"not {type(number).__name__}") from None


cdef as_numbers(str name, what, numbers):
    """Return an int, or a tuple of them, after all Python in it has run."""
    if not isinstance(numbers, tuple):
        if numbers is None:
            raise TypeError(f"{name}: {what} is None; name the axes of the pieces")
        return as_number(name, what, numbers)
    if not numbers:
        raise ValueError(f"{name}: {what} is an empty tuple; name at least one axis of pieces")
    return tuple([as_number(name, what, number) for number in numbers])


cdef int normal_axis(str name, number, int axes) except -1:
    cdef int overflow = 0
    cdef long axis = PyLong_AsLongAndOverflow(number, &overflow)
    if overflow or axis < -axes or axis >= axes:
        raise np.exceptions.AxisError(number, axes, name)
    return axis if axis >= 0 else axis + axes


cdef int find_axes(str name, numbers, int axes, Axes *found) except -1:
    cdef int i
    if not isinstance(numbers, tuple):
        found.count = 1
        found.axis[0] = normal_axis(name, numbers, axes)
        return 0
    found.count = 0
    for number in numbers:
        axis = normal_axis(name, number, axes)
        for i in range(found.count):
            if found.axis[i] == axis:
                raise ValueError(f"{name}: axis {numbers} names axis {axis} twice")
        found.axis[found.count] = axis
        found.count += 1
    return 0


cdef as_array(str name, x):
    """Return an exact ndarray: over the memory of a tensor, or what NumPy makes of another object.
    """
    array = np.asarray(array_over(name, x) if is_tensor(x) else x)
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name}: NumPy makes no array of numbers of a {type(x).__name__}; "
                        "convert it first")
    return array


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


cdef inline native_array(str name, x, int *dtype):
    if cnp.PyArray_CheckExact(x):
        dtype[0] = native_dtype(PyArray_DESCR(<PyArrayObject *>x))
        if dtype[0] >= 0:
            return x
        return native(name, x, dtype)
    return native(name, as_array(name, x), dtype)


cdef tuple outputs(str name, out, int number):
    """Return the arrays of `out`, each of which may be None."""
    if not isinstance(out, tuple):
        return (out, None)[:number]
    if len(out) != number:
        raise ValueError(f"{name}: expected {number} arrays in out, not {len(out)}")
    return out


cdef bint fits(object out, int number_type, int axes, const Py_ssize_t *shape) noexcept:
    """Whether `out` is a writeable exact ndarray of the dtype and the shape of a result."""
    return (
        cnp.PyArray_CheckExact(out) and cnp.PyArray_FLAGS(<cnp.ndarray>out) & WRITEABLE
        and cnp.PyArray_TYPE(<cnp.ndarray>out) == number_type
        and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>out)
        and cnp.PyArray_NDIM(<cnp.ndarray>out) == axes
        and (axes == 0  # whose dimensions are NULL
             or memcmp(cnp.PyArray_DIMS(<cnp.ndarray>out), shape,
                       axes * sizeof(Py_ssize_t)) == 0))


cdef checked_out(str name, out, dtype, int axes, const Py_ssize_t *shape):
    """Return an exact ndarray over the memory of `out`, which holds a result of `dtype`."""
    cdef int axis
    if out is None or fits(out, dtype.num, axes, shape):
        return out
    if is_tensor(out):
        out = writeable_array(name, out)
    elif not cnp.PyArray_Check(out):  # not isinstance, which believes what an object says it is
        raise TypeError(f"{name}: out is a {type(out).__name__}, neither ndarray nor tensor")
    array = np.asarray(out)
    expected = tuple([shape[axis] for axis in range(axes)])
    if array.shape != expected:
        raise ValueError(f"{name}: expected an out of shape {expected}, not {array.shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name}: out is read-only")
    # NumPy also allows a cast of a number to text and to any structure.
    if (not np.can_cast(dtype, array.dtype, "same_kind") or array.dtype.kind in "SUmM"
            or array.dtype.kind == "V" and not is_bfloat16(array.dtype)):
        raise TypeError(f"{name}: out of dtype {array.dtype} does not hold {dtype}")
    return array


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
        np.copyto(array, result, casting="unsafe")  # checked_out has allowed the cast
    return out


# Forward.

cdef inline object new_like(PyArray_Descr *dtype, Py_ssize_t itemsize, const Operand *first):
    """Return a new array of the shape of the first pieces, in the order of their axes in memory."""
    cdef Py_ssize_t shape[MOST_AXES]
    cdef Py_ssize_t strides[MOST_AXES]
    new_layout(shape, strides, itemsize, first, NULL)
    return new_array(dtype, first.axes, shape, strides, False)


cdef tuple reduce_many(array, const Job *job, const Axes *axes):
    """More pieces than a byte can number, by NumPy."""
    cdef int i
    pooled = [axes.axis[i] for i in range(axes.count)]
    kept = [i for i in range(array.ndim) if i not in pooled]
    shape = tuple([array.shape[i] for i in kept])
    if kept + pooled != list(range(array.ndim)):
        array = array.transpose(kept + pooled)
    rows = array.reshape(-1, job.pieces) if array.size else array.reshape(0, job.pieces)
    # ml_dtypes has no argmax, and NumPy's of float16 is slow; widened, both keep their order.
    is_half = job.dtype in (FLOAT16, BFLOAT16)
    which = (rows.astype(np.float32) if is_half else rows).argmax(1)
    return rows[np.arange(len(rows)), which].reshape(shape), which.reshape(shape)


def maxout(x, /, axis=-1, *, out=None, return_which=False):
    """The maximum of linear pieces: a maxout layer's activation, and max-pooling.

    A unit of a maxout layer is the greatest of several linear functions of its input (Goodfellow,
    Warde-Farley, Mirza, Courville and Bengio, 2013).  ReLU is the case of two pieces, one of which
    is 0.  Max-pooling is the same over windows: split each axis of an image into windows and what
    lies in one, which is a view, and name the axes of the latter.

    Parameters
    ----------
    x : array_like
        At least one axis; floating (ml_dtypes' bfloat16 included), integer or bool.  It may be a
        PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain array; a mask is
        ignored.
    axis : int or tuple of int, default -1
        The axis of the pieces, of length 1 or more, or several of them.
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
        Only with `return_which`: the number of the piece that won, as in ``np.argmax``.  Several
        axes number the pieces in C's order of the axes as they are named: with ``axis=(3, 5)``,
        along axis 5 fastest.  Its dtype is the smallest unsigned one that can number all pieces:
        uint8 up to 256.  Widen it before arithmetic, which would wrap: ``which.astype(np.intp)``.

    Raises
    ------
    TypeError
        If the dtype is not supported (complex, datetime, structured, str, object), if NumPy makes
        no array of `x`, if `out` is no ndarray or tensor or its dtype cannot hold the result, or if
        `axis` is neither an integer nor a tuple of them; None is not, so name all axes.
    BufferError
        If the memory of a tensor does not hold its value, or if something else depends on it: if
        the tensor requires a gradient, has a tangent, is sparse, or is a lazy negation.  The
        message says what to call.
    ValueError
        If there are no pieces, if `axis` is empty or names an axis twice, or if `out` is read-only
        or of another shape.
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

    Where the size is odd, pool a slice: ``x[:, :, :24, :24].reshape(n, c, 12, 2, 12, 2)`` copies
    nothing.  Pad with -inf.  Windows that overlap are views by ``sliding_window_view``.  Of several
    NaN in a window PyTorch's ``max_pool2d`` returns the last and we the first.

    Up to 256 pieces the result lies in memory in the order of the axes of `x`; of more it is in C's
    order.

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
    numbers = axis if PyLong_CheckExact(axis) else as_numbers("maxout", "axis", axis)
    array = native_array("maxout", x, &job.dtype)
    find_axes("maxout", numbers, cnp.PyArray_NDIM(<cnp.ndarray>array), &axes)
    job.backward = False
    job.pieces = describe_pieces(&job, <cnp.ndarray>array, &axes)
    if job.pieces <= 0:
        raise ValueError(f"maxout: axis {numbers} has length 0, so there is no maximum")

    y_out = which_out = y_given = which_given = None
    if out is not None:
        outs = outputs("maxout", out, 1 + counted)
        y_given = outs[0]
        y_out = checked_out("maxout", y_given, array.dtype, job.first.axes, job.shape)
        if counted and outs[1] is not None:
            which_given = outs[1]
            which_out = checked_out("maxout", which_given, uint8_dtype, job.first.axes, job.shape)
            if (which_out.dtype.kind not in "iu"
                    or np.iinfo(which_out.dtype).max < job.pieces - 1):
                raise TypeError(f"maxout: out of dtype {which_out.dtype} for which cannot number "
                                f"{job.pieces} pieces")
    if job.pieces > NUMBERED:
        y, which = reduce_many(array, &job, &axes)
        if which_given is None:
            which = which.astype(np.min_scalar_type(job.pieces - 1))
    else:
        y = y_out
        if y_out is None or not takes(y_out, array.dtype, array, which_out):
            y = new_like(PyArray_DESCR(<PyArrayObject *>array), active_table.itemsize[job.dtype],
                         &job.first)
        which = which_out if counted else None
        if counted and (which_out is None or not takes(which_out, uint8_dtype, array, y_out)):
            which = new_like(<PyArray_Descr *>uint8_dtype, 1, &job.first)
        perform("maxout", &job, <cnp.ndarray>array, &axes, <cnp.ndarray>y, which)
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


cdef object spread_many(grad, which, const Job *job, lengths, const Axes *axes):
    """The gradient of more pieces than a byte can number, by NumPy; in C's order."""
    cdef int i
    kept = [job.shape[i] for i in range(job.first.axes)]
    size = int(np.prod(kept, dtype=object))
    x = np.zeros(size * job.pieces, grad.dtype)
    place = np.broadcast_to(which, kept).astype(np.intp).reshape(-1)
    place += np.arange(0, size * job.pieces, job.pieces)
    x[place] = np.broadcast_to(grad, kept).reshape(-1)
    pooled = [axes.axis[i] for i in range(axes.count)]
    x = x.reshape(tuple(kept) + lengths)
    others = [i for i in range(x.ndim) if i not in pooled]
    return np.ascontiguousarray(x.transpose(np.argsort(others + pooled)))


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
    pieces : int or tuple of int
        The number of pieces, or one number for each axis.
    axis : int or tuple of int, default -1
        The axis of the pieces in the result, or several, as for `maxout`; a tuple if `pieces` is
        one, of the same length.
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
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object), if that of `which`
        is not an integer one, if NumPy makes no array of an argument, if `out` is no ndarray or
        tensor or its dtype cannot hold the result, or if `pieces` and `axis` are not both integers
        or both tuples of integers.
    BufferError
        As for `maxout`.
    ValueError
        If the shapes of `grad` and `which` do not broadcast, if `pieces` is negative or has another
        length than `axis`, if `axis` is empty or names an axis twice, or if `out` is read-only or
        of another shape.
    numpy.exceptions.AxisError
        If the result has no such axis.

    See Also
    --------
    maxout : The forward pass.

    Notes
    -----
    The gradient of windows of 2 by 2 in images of the shape (images, channels, height, width)::

        dx = relu_ext.maxout_backward(grad, which, (2, 2), axis=(3, 5)).reshape(n, c, h, w)

    Where the size is odd, give a slice of zeros, reshaped to windows, as `out`.  The gradient of
    overlapping windows is not included.

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
    cdef int count, number, i
    numbers = as_numbers("maxout_backward", "axis", axis)
    lengths = as_numbers("maxout_backward", "pieces", pieces)
    if isinstance(numbers, tuple) != isinstance(lengths, tuple):
        raise TypeError("maxout_backward: pieces and axis have to be both integers or both tuples")
    if not isinstance(lengths, tuple):
        lengths = (lengths,)
    elif len(lengths) != len(numbers):
        raise ValueError(f"maxout_backward: {len(lengths)} numbers of pieces for "
                         f"{len(numbers)} axes")
    total = 1
    for length in lengths:
        if length < 0:
            raise ValueError(f"maxout_backward: expected at least 0 pieces, not {length}")
        total *= length
    grad_array = native_array("maxout_backward", grad, &job.dtype)
    which_array = which if cnp.PyArray_CheckExact(which) else as_array("maxout_backward", which)
    if which_array.dtype.kind not in "iu":
        raise TypeError("maxout_backward: which has dtype "
                        f"{which_array.dtype.type.__name__}, not an integer one")
    describe_ndarray(grad_array, job.dtype, &operands[0])
    describe_ndarray(which_array, UINT8, &operands[1])
    count = new_layout(kept, shape, 1, &operands[0], &operands[1])
    if count < 0:
        raise ValueError(f"maxout_backward: grad of shape {grad_array.shape} and "
                         f"which of shape {which_array.shape} do not broadcast")
    if count + len(lengths) > MOST_AXES:
        raise ValueError(f"maxout_backward: the result would have {count + len(lengths)} axes; "
                         f"NumPy has at most {MOST_AXES}")
    find_axes("maxout_backward", numbers, count + <int>len(lengths), &axes)
    if total * max(cnp.PyArray_SIZE(grad_array), cnp.PyArray_SIZE(which_array)) >= 1 << 62:
        raise ValueError(f"maxout_backward: a result of {total} pieces is too large")
    job.backward = True
    job.pieces = total
    # The shape of the result, axis by axis.
    number = 0
    for i in range(count + axes.count):
        shape[i] = -1
    for i in range(axes.count):
        shape[axes.axis[i]] = lengths[i]
    for i in range(count + axes.count):
        if shape[i] < 0:
            shape[i] = kept[number]
            number += 1
    for i in range(count):
        job.shape[i] = kept[i]
    job.first.axes = count
    is_empty = any(kept[i] == 0 for i in range(count))
    if not is_empty:
        which_array = numbered(which_array, job.pieces)

    given, = outputs("maxout_backward", out, 1)
    x_out = checked_out("maxout_backward", given, grad_array.dtype, count + axes.count, shape)
    x = x_out
    if x_out is None or not takes(x_out, grad_array.dtype, grad_array, which_array):
        if job.pieces <= NUMBERED or is_empty:
            x = new_array(PyArray_DESCR(<PyArrayObject *>grad_array), count + axes.count, shape,
                          NULL, False)
    if job.pieces > NUMBERED and not is_empty:
        x = spread_many(grad_array, which_array, &job, lengths, &axes)
    elif not is_empty:
        perform("maxout_backward", &job, <cnp.ndarray>x, &axes, <cnp.ndarray>grad_array,
                which_array)
    if given is None and grad is grad_array and cnp.PyArray_CheckExact(which):
        return x
    return delivered(x, given, x_out, (grad, which))
