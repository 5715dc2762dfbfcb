"""Maxout: the reduction over the axes of the pieces, and its gradient, for arrays of any layout.

Contract: nothing outside the result is written, whatever `which` holds and whatever other threads
do to its memory meanwhile: the kernels read each number once, and every byte is the number of some
piece.  All Python of the arguments has run before an array is looked at: from there to the end of
the kernels only C runs, or NumPy on arrays that nobody else has.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport PyObject
from libc.string cimport memcmp, memmove, memset
from relu_ext._dispatch cimport active_table
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, is_bfloat16, native_dtype,
    new_array, remember_bfloat16,
)
from relu_ext._operand cimport Operand
from relu_ext._scalar cimport BFLOAT16_INFINITY, FLOAT16_INFINITY, uint8
from relu_ext._table cimport (
    BFLOAT16, COMPARED, FLOAT16, NUMBERED, OUT, PARAMETER, UINT8, A, B, Pieces,
)
from relu_ext._tensors cimport check_memory, new_result_of
from relu_ext._walk cimport (
    GIL_BYTES, MASK, MOST_AXES, Plan, new_layout, row_step, size_of, walk_panels,
)

from math import prod
from operator import index

import numpy as np

cnp.import_array()

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object, PyObject *) except? -1

cdef enum:
    PACKED = 1 << 14  # bytes, which stay in the first-level cache
    WIDEST = 64  # bytes of a vector at any level
    DENSE = cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_C_CONTIGUOUS  # flags of an `out`

cdef enum:  # the arrays of a job as roles of the walker's plan, whose axes are in the order of Y
    Y = OUT
    X = A
    WHICH = B

cdef object uint8_dtype = np.dtype(np.uint8)


cdef struct Job:
    # x has the axes of the pieces besides those of y.  The forward pass computes y and which from
    # x, and the backward pass computes x from y and which.
    int dtype
    int pooled  # how many axes the pieces have
    int order[MOST_AXES]  # the axes of x, with those of the pieces last
    Pieces pieces
    Operand first  # the first pieces: x without the axes of the pieces
    Py_ssize_t shape[MOST_AXES]  # of x, in that order
    Py_ssize_t strides[MOST_AXES]
    Py_ssize_t steps[MOST_AXES]  # of y and which, in elements
    const char *last  # of the first pieces in memory
    Plan laid


# Panels: some rows of n elements, along axes 0 and 1 of the plan.  Those of y and which lie end to
# end.

cdef void reduce_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    """In blocks.  Where the kernels do not take the pieces as they lie, or vectors of short rows
    would reach beyond the memory of x, pieces are packed into rows of a buffer."""
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t size = this.itemsize
    cdef Py_ssize_t step = job.pieces.step
    cdef Py_ssize_t next_row = row_step(this, X)
    cdef Py_ssize_t block = PACKED // (job.pieces.count * size)
    cdef Py_ssize_t row = 0
    cdef Py_ssize_t column = 0
    cdef bint is_inside = True
    cdef Py_ssize_t together, some, room, piece
    cdef char memory[PACKED + WIDEST]
    cdef Pieces packed
    cdef char *y
    cdef uint8 *which
    cdef const char *x
    packed.count, packed.infinity = job.pieces.count, job.pieces.infinity
    packed.step, packed.run, packed.side = size, 1, 1
    while row < rows:
        y = start[Y] + (row * n + column) * size
        which = <uint8 *>start[WHICH] + row * n + column if this.has[WHICH] else NULL
        x = start[X] + row * next_row + column * step
        some = n - column if n - column <= COMPARED else COMPARED - WIDEST
        together = min(rows - row, max(<Py_ssize_t>1, COMPARED // n))
        if n * size < WIDEST:
            room = job.last - x - (WIDEST // size - 1) * step
            is_inside = room >= 0 and step >= 0
            if is_inside and next_row > 0:
                together = min(together, room // next_row + 1)
        if not is_inside or not active_table.maxout_rows[job.dtype](
                y, which, x, &job.pieces, some, together, next_row):
            some = min(some, block)
            together = min(together, max(<Py_ssize_t>1, block // n))
            for piece in range(packed.count):
                packed.offset[piece] = piece * block * size
                active_table.copy(memory + packed.offset[piece], size, some * size,
                                  x + job.pieces.offset[piece], step, next_row, some, together,
                                  size)
            active_table.maxout_rows[job.dtype](y, which, memory, &packed, some * together, 1, 0)
        column += some
        if column == n:
            column = 0
            row += together


cdef void spread_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    active_table.spread_rows[this.itemsize](start[X], start[Y], <const uint8 *>start[WHICH],
                                            &job.pieces, this.shape[0], rows, row_step(this, X))


# Jobs.

cdef Py_ssize_t describe_pieces(Job *job, x) noexcept:
    """Describe the first pieces, and where up to NUMBERED others lie.  Return their number."""
    cdef Operand *first = &job.first
    cdef Py_ssize_t *offset = job.pieces.offset
    cdef Py_ssize_t pieces = 1
    cdef Py_ssize_t piece
    cdef int axis
    describe_ndarray(x, job.dtype, first)
    for axis in range(first.axes):
        job.shape[axis] = first.shape[job.order[axis]]
        job.strides[axis] = first.strides[job.order[axis]]
    first.shape, first.strides = job.shape, job.strides
    first.axes -= job.pooled
    offset[0] = offset[1] = 0
    for axis in range(first.axes + job.pooled - 1, first.axes - 1, -1):
        if pieces * job.shape[axis] <= NUMBERED:
            for piece in range(pieces, pieces * job.shape[axis]):
                offset[piece] = offset[piece - pieces] + job.strides[axis]
        pieces *= job.shape[axis]
    return pieces


cdef inline void set_axis(Plan *this, int axis, Py_ssize_t length, Py_ssize_t x_step,
                          Py_ssize_t y_step, Py_ssize_t which_step) noexcept:
    this.shape[axis] = length
    this.step[X][axis], this.step[Y][axis], this.step[WHICH][axis] = x_step, y_step, which_step
    this.step[PARAMETER][axis] = this.step[MASK][axis] = 0


cdef void lay(Job *job, bint in_c_order) noexcept:
    """Lay out y and which, dense and in C's order or in that of x in memory, and the walk.
    `settle` lays out arrays of any layout, in 4 times as many instructions."""
    cdef Plan *this = &job.laid
    cdef Py_ssize_t size = active_table.itemsize[job.dtype]
    cdef Py_ssize_t elements = 1
    cdef Py_ssize_t shape[MOST_AXES]
    cdef int order[MOST_AXES]  # the axes of y, innermost first
    cdef int last = -1
    cdef int i, k, axis
    if not in_c_order:
        new_layout(shape, job.steps, 1, &job.first, NULL)
    for i in range(job.first.axes):
        axis = job.first.axes - 1 - i
        if in_c_order:
            job.steps[axis] = elements
            elements *= job.shape[axis]
        k = i
        while k > 0 and job.steps[order[k - 1]] > job.steps[axis]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = axis
    set_axis(this, 0, 1, size, size, 1)
    for i in range(job.first.axes):
        axis = order[i]
        if job.shape[axis] == 1:
            continue
        if last >= 0 and job.strides[axis] == this.step[X][last] * this.shape[last]:
            this.shape[last] *= job.shape[axis]  # y and which are dense
        else:
            last += 1
            set_axis(this, last, job.shape[axis], job.strides[axis], job.steps[axis] * size,
                     job.steps[axis])
    this.axes = max(last, 0) + 1
    this.itemsize = size
    this.stream = False


cdef void perform(Job *job, y, which, Py_ssize_t count, bint backward) noexcept:
    """Compute, after all has been laid out.  `which` may be None."""
    cdef Plan *this = &job.laid
    cdef Pieces *pieces = &job.pieces
    cdef Py_ssize_t bytes = size_of(this) * count * this.itemsize
    cdef Py_ssize_t side
    cdef int axis
    this.data[X], this.data[Y] = job.first.data, <char *>cnp.PyArray_DATA(<cnp.ndarray>y)
    this.has[WHICH] = which is not None
    this.data[WHICH] = <char *>cnp.PyArray_DATA(<cnp.ndarray>which) if this.has[WHICH] else NULL
    this.data[PARAMETER] = this.data[MASK] = NULL
    job.last = this.data[X]
    for axis in range(this.axes):
        job.last += max(<Py_ssize_t>0, (this.shape[axis] - 1) * this.step[X][axis])
    pieces.infinity = BFLOAT16_INFINITY if job.dtype == BFLOAT16 else FLOAT16_INFINITY
    pieces.step = this.step[X][0]
    pieces.run = 1
    while pieces.run < count and (
            pieces.offset[pieces.run] == pieces.offset[pieces.run - 1] + this.itemsize):
        pieces.run += 1
    side = pieces.step // this.itemsize
    pieces.side = <int>side if (side >= 1 and side * this.itemsize == pieces.step
                                and pieces.run % side == 0) else 0
    pieces.count = <int>count
    if backward:  # what `which` may hold while others change it
        memset(pieces.offset + count, 0, (NUMBERED - count) * sizeof(Py_ssize_t))
    elif count == 1:  # compared with itself
        pieces.count = 2
    this.panel = spread_panel if backward else reduce_panel
    this.job = job
    if bytes >= GIL_BYTES:
        with nogil:
            walk_panels(this, bytes)
    elif bytes and this.axes <= 2:  # one panel: walking to it takes 80 instructions
        this.panel(this, this.data, this.shape[1] if this.axes > 1 else 1)
    elif bytes:
        walk_panels(this, bytes)


# Arguments.

cdef tuple as_numbers(str name, str what, numbers):
    """Return a tuple of ints, after all Python in it has run."""
    if PyLong_CheckExact(numbers):
        return (numbers,)
    several = numbers if isinstance(numbers, tuple) else (numbers,)
    if not several:
        raise ValueError(f"{name}: {what} is an empty tuple; name at least one axis of pieces")
    try:
        return tuple([index(None if isinstance(one, bool) else one) for one in several])
    except TypeError:
        kinds = ", ".join([type(one).__name__ for one in several])
        raise TypeError(f"{name}: {what} has to be an integer or a tuple of integers, one for each "
                        f"axis of the pieces, not {kinds}") from None


cdef int find_axes(str name, tuple numbers, int axes, Job *job) except -1:
    cdef int overflow = 0
    cdef int i
    cdef long axis
    job.pooled = 0
    for i in range(axes):
        job.order[i] = i
    for number in numbers:
        axis = PyLong_AsLongAndOverflow(number, &overflow)
        if overflow or not -axes <= axis < axes:
            raise np.exceptions.AxisError(number, axes, name)
        axis += axes if axis < 0 else 0
        i = 0
        while job.order[i] != axis:
            i += 1
        if i >= axes - job.pooled:
            raise ValueError(f"{name}: axis {numbers} names axis {axis} twice")
        memmove(&job.order[i], &job.order[i + 1], (axes - 1 - i) * sizeof(int))
        job.order[axes - 1] = axis
        job.pooled += 1
    return 0


cdef object ordered(const Job *job, x):
    """A view of x, with the axes of the pieces last."""
    return x.transpose([job.order[axis] for axis in range(x.ndim)])


cdef as_array(str name, str argument, x):
    if cnp.PyArray_CheckExact(x):
        return x
    from relu_ext._exporters import array_of  # when it is first needed: that takes 0.3 ms
    return array_of(name, argument, x)


cdef native_array(str name, str argument, x, int *dtype):
    """Return an array in the machine's byte order, and write the kernels' dtype for it."""
    array = as_array(name, argument, x)
    dtype[0] = native_dtype(PyArray_DESCR(<PyArrayObject *>array))
    if dtype[0] < 0:
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if is_bfloat16(array.dtype):
            remember_bfloat16(array.dtype)
        dtype[0] = native_dtype(PyArray_DESCR(<PyArrayObject *>array))
    if dtype[0] < 0:
        raise TypeError(f"{name}: dtype {array.dtype.type.__name__} of {argument} is not "
                        "supported; use a floating, integer or bool dtype")
    return array


# Results.

cdef output(str name, out, int i, int number):
    """Array `i` of the `number` that `out` has, or None."""
    if not isinstance(out, tuple):
        return out if i == 0 else None
    if len(<tuple>out) != number:
        raise ValueError(f"{name}: expected {number} arrays in out, not {len(out)}")
    return (<tuple>out)[i] if i < number else None


cdef inline bint has_shape(array, const Py_ssize_t *shape, int axes) noexcept:
    return cnp.PyArray_NDIM(<cnp.ndarray>array) == axes and (axes == 0 or memcmp(
        cnp.PyArray_DIMS(<cnp.ndarray>array), shape, axes * sizeof(Py_ssize_t)) == 0)


cdef void find_span(array, char **ends) noexcept:
    cdef Py_ssize_t reach
    cdef int axis
    ends[0] = <char *>cnp.PyArray_DATA(<cnp.ndarray>array)
    ends[1] = ends[0] + cnp.PyArray_ITEMSIZE(<cnp.ndarray>array)
    for axis in range(cnp.PyArray_NDIM(<cnp.ndarray>array)):
        reach = cnp.PyArray_STRIDES(<cnp.ndarray>array)[axis] * (
            cnp.PyArray_DIMS(<cnp.ndarray>array)[axis] - 1)
        ends[0] += min(reach, <Py_ssize_t>0)
        ends[1] += max(reach, <Py_ssize_t>0)


cdef bint may_share(one, other) noexcept:
    """As np.may_share_memory, which takes 0.3 us and may run Python."""
    cdef char *ends[2]
    cdef char *others[2]
    find_span(one, ends)
    find_span(other, others)
    return ends[0] < others[1] and others[0] < ends[1]


cdef bint fits(out, int flags, PyArray_Descr *dtype, const Py_ssize_t *shape, int axes, input,
               other) noexcept:
    """Whether a result can be computed in `out`, which shares no memory with the other arrays, or
    there is none to compute it in."""
    return out is None or (
        cnp.PyArray_CheckExact(out) and PyArray_DESCR(<PyArrayObject *>out) == dtype
        and cnp.PyArray_FLAGS(<cnp.ndarray>out) & flags == flags and has_shape(out, shape, axes)
        and not may_share(out, input) and (other is None or not may_share(out, other)))


cdef object target_of(str name, out, result):
    """An array over the memory of `out`, if the result has to be copied there."""
    if out is None or out is result:
        return None
    from relu_ext._exporters import result_array
    return result_array(name, "out", out, result.shape, result.dtype, "SUTmMV")


cdef object delivered(result, out, target, tuple operands):
    """Return what the caller gets: `out`, after copying the result to its target if there is one,
    or a new result."""
    if out is None:
        return new_result_of(result if result.ndim else result[()], operands)
    if target is not None:
        np.copyto(target, result, casting="unsafe")  # result_array has allowed the cast
    return out


# Forward.

cdef object new_result(const Job *job, PyArray_Descr *dtype, Py_ssize_t size, bint in_c_order):
    """A new array as `lay` laid it out."""
    cdef Py_ssize_t strides[MOST_AXES]
    cdef int axis
    for axis in range(job.first.axes):
        strides[axis] = job.steps[axis] * size
    return new_array(dtype, job.first.axes, job.shape, NULL if in_c_order else strides, False)


cdef tuple reduce_many(x, int pooled, Py_ssize_t count, bint is_half):
    """More pieces than a byte can number, by NumPy."""
    shape = x.shape[:-pooled]
    pieces = x.reshape(prod(shape), count)
    # ml_dtypes has no argmax, and NumPy's of float16 is slow; widened, both keep their order.
    which = (pieces.astype(np.float32) if is_half else pieces).argmax(1)
    return (pieces[np.arange(len(pieces)), which].reshape(shape),
            which.reshape(shape).astype(np.min_scalar_type(count - 1)))


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
        ``np.max``, the first NaN wins.  Zeros are equal, and the first of equal pieces wins; in
        ``np.max`` the sign of a zero depends on the zeros' positions.
    which : ndarray, scalar or tensor
        Only with `return_which`: the number of the piece that won, as in ``np.argmax``, in C's
        order of the axes as they are named: with ``axis=(3, 5)``, along axis 5 fastest.  Its dtype
        is the smallest unsigned one that can number all pieces: uint8 up to 256.  Widen it before
        arithmetic, which would wrap: ``which.astype(np.intp)``.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object), NumPy makes no
        array of `x`, `out` is no ndarray or tensor or cannot hold the result, or `axis` is neither
        an integer nor a tuple of them; None is not, so name all axes.
    BufferError
        If a tensor requires a gradient, is sparse or lazily negated, or has a tangent.
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

        pooled = relu_ext.maxout(x.reshape(n, h // 2, 2, w // 2, 2, c), axis=(2, 4))  # NHWC

    Of odd sizes, pool a slice: ``x[:, :, :24, :24].reshape(n, c, 12, 2, 12, 2)`` copies nothing.
    Pad with -inf, or integers with ``np.iinfo(dtype).min``.  Windows that overlap are views by
    ``sliding_window_view``.  Of several NaN in a window PyTorch's ``max_pool2d`` returns the last
    and we the first.  Up to 256 pieces a new result lies in memory in the order of the axes of `x`;
    of more it is in C's order.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> x = np.array([[1.0, 5.0, 5.0], [-2.0, np.nan, 3.0]])
    >>> relu_ext.maxout(x, return_which=True)
    (array([ 5., nan]), array([1, 1], dtype=uint8))
    >>> image = np.array([[1, 2, 5, 6], [3, 4, 8, 7]])
    >>> relu_ext.maxout(image.reshape(1, 2, 2, 2), axis=(1, 3), return_which=True)
    (array([[4, 8]]), array([[3, 2]], dtype=uint8))
    """
    cdef Job job
    cdef bint counted = return_which
    cdef bint in_c_order
    cdef Py_ssize_t pieces
    cdef PyArray_Descr *dtype
    cdef PyArray_Descr *numbered
    cdef tuple numbers = as_numbers("maxout", "axis", axis)
    array = native_array("maxout", "x", x, &job.dtype)
    find_axes("maxout", numbers, cnp.PyArray_NDIM(<cnp.ndarray>array), &job)
    pieces = describe_pieces(&job, array)
    if pieces <= 0:
        raise ValueError(f"maxout: axis {axis} has length 0, so there is no maximum")
    y_out = output("maxout", out, 0, 1 + counted)
    which_out = output("maxout", out, 1, 1 + counted)
    if pieces > NUMBERED:
        y, which = reduce_many(ordered(&job, array), job.pooled, pieces,
                               job.dtype in (FLOAT16, BFLOAT16))
    else:
        y, which = y_out, which_out
        dtype = PyArray_DESCR(<PyArrayObject *>array)
        numbered = <PyArray_Descr *>uint8_dtype
        if not (fits(y, DENSE, dtype, job.shape, job.first.axes, array, None)
                and fits(which, DENSE, numbered, job.shape, job.first.axes, array, y)):
            y = which = None
        in_c_order = out is not None or (
            cnp.PyArray_FLAGS(<cnp.ndarray>array) & cnp.NPY_ARRAY_C_CONTIGUOUS)
        lay(&job, in_c_order)
        if y is None:
            y = new_result(&job, dtype, job.laid.itemsize, in_c_order)
        if counted and which is None:
            which = new_result(&job, numbered, 1, in_c_order)
        perform(&job, y, which, pieces, False)
    if out is not None or x is not array or cnp.PyArray_NDIM(<cnp.ndarray>y) == 0:
        y_target = target_of("maxout", y_out, y)
        which_target = target_of("maxout", which_out, which)
        if y_target is not None and which_target is not None:
            check_memory("maxout", (y_target, which_target))
        if which_target is not None and (which_target.dtype.kind not in "iu"
                                         or np.iinfo(which_target.dtype).max < pieces - 1):
            raise TypeError(f"maxout: out of dtype {which_target.dtype} for which cannot number "
                            f"{pieces} pieces")
        y = delivered(y, y_out, y_target, (x,))
        which = delivered(which, which_out, which_target, (x,)) if counted else None
    return (y, which) if counted else y


# Backward.

cdef tuple spreadable(grad, which, const Py_ssize_t *shape, int axes, Py_ssize_t pieces):
    """Return copies that are dense and of that shape, as the kernels take them, or NumPy if there
    are more pieces; None where the arrays are.  All of `which` is in range."""
    cdef const uint8 *numbers = <const uint8 *>cnp.PyArray_DATA(<cnp.ndarray>which)
    cdef uint8 greatest = 0
    cdef Py_ssize_t i
    if (cnp.PyArray_TYPE(<cnp.ndarray>which) == cnp.NPY_UINT8
            and cnp.PyArray_FLAGS(<cnp.ndarray>grad) & cnp.PyArray_FLAGS(<cnp.ndarray>which)
            & cnp.NPY_ARRAY_C_CONTIGUOUS
            and has_shape(grad, shape, axes) and has_shape(which, shape, axes)):
        for i in range(cnp.PyArray_SIZE(<cnp.ndarray>which)):
            greatest = max(greatest, numbers[i])
        if greatest < pieces <= NUMBERED:
            return None
    whole = tuple([shape[i] for i in range(axes)])
    for wrong in (which.min(), which.max()) if which.size and prod(whole) else ():
        if not 0 <= wrong < pieces:
            raise IndexError(f"maxout_backward: which has {wrong}, "
                             f"out of bounds for {pieces} pieces")
    return (np.broadcast_to(grad, whole).copy(), np.broadcast_to(which, whole).astype(
        np.uint8 if pieces <= NUMBERED else np.intp, order="C"))


cdef int spread_many(x, grad, which, Py_ssize_t count) except -1:
    """The gradient of more pieces than a byte can number, by NumPy."""
    pieces = x.reshape(grad.size, count)  # a view if x allows it
    pieces[...] = 0
    pieces[np.arange(grad.size), which.reshape(-1)] = grad.reshape(-1)
    x[...] = pieces.reshape(x.shape)
    return 0


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
    cdef Operand operands[2]
    cdef Py_ssize_t kept[MOST_AXES]
    cdef Py_ssize_t shape[MOST_AXES]
    cdef Py_ssize_t total = 1
    cdef Py_ssize_t length
    cdef double bytes = 1
    cdef int rest, axes, i
    cdef tuple numbers = as_numbers("maxout_backward", "axis", axis)
    cdef tuple lengths = as_numbers("maxout_backward", "pieces", pieces)
    if isinstance(axis, tuple) != isinstance(pieces, tuple):
        raise TypeError("maxout_backward: pieces and axis have to be both integers or both tuples")
    if len(lengths) != len(numbers):
        raise ValueError(f"maxout_backward: {len(lengths)} numbers of pieces for "
                         f"{len(numbers)} axes")
    for number in lengths:
        if number < 0:
            raise ValueError(f"maxout_backward: expected at least 0 pieces, not {min(lengths)}")
    grad_array = native_array("maxout_backward", "grad", grad, &job.dtype)
    which_array = as_array("maxout_backward", "which", which)
    if which is not which_array:  # as that has left it
        grad_array = native_array("maxout_backward", "grad", grad_array, &job.dtype)
    if grad is not grad_array and which is not which_array:
        check_memory("maxout_backward", (grad_array, which_array))
    if not cnp.PyArray_ISINTEGER(<cnp.ndarray>which_array):
        raise TypeError("maxout_backward: which has dtype "
                        f"{which_array.dtype.type.__name__}, not an integer one")
    rest = cnp.PyArray_NDIM(<cnp.ndarray>grad_array)
    for i in range(rest):
        kept[i] = cnp.PyArray_DIM(<cnp.ndarray>grad_array, i)
    if not has_shape(which_array, kept, rest):
        describe_ndarray(grad_array, job.dtype, &operands[0])
        describe_ndarray(which_array, UINT8, &operands[1])
        rest = new_layout(kept, shape, 1, &operands[0], &operands[1])
        if rest < 0:
            raise ValueError(f"maxout_backward: grad of shape {grad_array.shape} and "
                             f"which of shape {which_array.shape} do not broadcast")
    axes = rest + <int>len(numbers)
    if axes > MOST_AXES:
        raise ValueError(f"maxout_backward: the result would have {axes} axes; NumPy has at most "
                         f"{MOST_AXES}")
    find_axes("maxout_backward", numbers, axes, &job)
    for i in range(axes):
        # At most what it holds.
        length = kept[i] if i < rest else PyNumber_AsSsize_t(lengths[i - rest], NULL)
        shape[job.order[i]] = length
        bytes *= max(length, 1)
        if bytes >= 1 << 62:
            raise ValueError(
                f"maxout_backward: a result of {prod(lengths)} pieces is too large")
        total *= length if i >= rest else 1
    copies = spreadable(grad_array, which_array, kept, rest, total)
    if copies is not None:
        grad_array, which_array = copies
        grad_array = native_array("maxout_backward", "grad", grad_array, &job.dtype)
    x = x_out = output("maxout_backward", out, 0, 1)
    if total > NUMBERED or x is None or not fits(
            x, cnp.NPY_ARRAY_WRITEABLE, PyArray_DESCR(<PyArrayObject *>grad_array), shape, axes,
            grad_array, which_array):
        x = new_array(PyArray_DESCR(<PyArrayObject *>grad_array), axes, shape, NULL, False)
    if total > NUMBERED:
        spread_many(ordered(&job, x), grad_array, which_array, total)
    else:
        describe_pieces(&job, x)
        lay(&job, True)
        perform(&job, grad_array, which_array, total, True)
    if x is x_out or out is None and grad is grad_array and which is which_array:
        return x
    return delivered(x, x_out, target_of("maxout_backward", x_out, x), (grad, which))
