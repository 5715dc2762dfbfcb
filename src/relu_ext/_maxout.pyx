"""Maxout: the reduction over the axes of the pieces, and its gradient, for arrays of any layout.

Contract: nothing outside the result is written, whatever `which` holds and whatever other threads
do to its memory meanwhile: the kernels read each number once, and every byte is the number of some
piece.  What the axes are is decided before an array is looked at, and the shape and the strides of
an array are read again once everything is allocated, because Python may run until then.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport PyObject
from libc.string cimport memcmp, memset
from relu_ext._dispatch cimport active_table
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, is_bfloat16, is_writeable,
    native_dtype, new_array, remember_bfloat16,
)
from relu_ext._operand cimport Operand
from relu_ext._scalar cimport BFLOAT16_INFINITY, FLOAT16_INFINITY, uint8
from relu_ext._table cimport BFLOAT16, FLOAT16, FLOAT32, LONGDOUBLE, OUT, UINT8, A, B, Pieces
from relu_ext._tensors cimport is_torch_tensor, new_result_of
from relu_ext._walk cimport (
    GIL_BYTES, MOST_AXES, WALKED, Plan, lay_axes, new_layout, row_step, size_of, walk_panels,
)

from importlib import import_module
from math import prod
from operator import index

import numpy as np

cnp.import_array()

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object, PyObject *) except? -1

cdef enum:
    NUMBERED = 256  # pieces that a byte can number; NumPy reduces more of them
    PACKED = 1 << 14  # bytes, which stay in the first-level cache
    WIDEST = 64  # bytes of a vector at any level

cdef enum:  # the arrays of a job as roles of the walker's plan, whose axes are in the order of Y
    Y = OUT
    X = A
    WHICH = B

cdef object uint8_dtype = np.dtype(np.uint8)


cdef struct Job:
    # x has the axes of the pieces besides those of y.  The forward pass computes y and which from
    # x, and the backward pass computes x from y and which.
    int dtype
    int axes
    int axis[MOST_AXES]  # of the pieces
    Pieces pieces
    Py_ssize_t offset[NUMBERED]
    const char *last  # of the first pieces in memory
    Operand first  # the first pieces: x without the axes of the pieces
    Py_ssize_t shape[MOST_AXES]
    Py_ssize_t strides[MOST_AXES]
    Plan laid  # y, the first pieces and, if there is one, which


# Panels: some rows of n elements, along axes 0 and 1 of the plan.

cdef inline bint is_dense(const Plan *this, int role, Py_ssize_t size) noexcept nogil:
    """Whether the items of y or which follow each other, through all rows of a panel."""
    return (this.shape[0] == 1 or this.step[role][0] == size) and (
        this.axes == 1 or row_step(this, role) == this.shape[0] * size)


cdef void reduce_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    """Of rows that are shorter than a vector the kernels take those whose vectors lie in the memory
    of x."""
    cdef const Job *job = <const Job *>this.job
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t next_row = row_step(this, X)
    cdef Py_ssize_t fitting = 0 if job.pieces.side < 0 else rows
    cdef Py_ssize_t room
    if fitting and n * this.itemsize < WIDEST:
        room = job.last - start[X] - (WIDEST // this.itemsize - 1) * job.pieces.step
        if room < 0 or job.pieces.step < 0:
            fitting = 0
        elif next_row > 0:
            fitting = min(rows, room // next_row + 1)
    if fitting:
        active_table.maxout_rows[job.dtype](
            start[Y], <uint8 *>start[WHICH] if this.has[WHICH] else NULL, start[X], &job.pieces, n,
            fitting, next_row)
    if fitting < rows:
        reduce_packed(this, start, fitting * n, rows * n)


cdef void reduce_packed(const Plan *this, char **start, Py_ssize_t done,
                        Py_ssize_t all) noexcept nogil:
    """The elements of a panel from some one on, whose pieces are packed into rows."""
    cdef const Job *job = <const Job *>this.job
    cdef char memory[PACKED + WIDEST]
    cdef Py_ssize_t offset[NUMBERED]
    cdef Pieces packed = job.pieces
    cdef Py_ssize_t n = this.shape[0]
    cdef Py_ssize_t size = this.itemsize
    cdef Py_ssize_t block = PACKED // (packed.count * size)
    cdef Py_ssize_t together, some, piece
    cdef const char *x
    packed.step, packed.run, packed.side, packed.offset = size, 1, 1, offset
    while done < all:
        x = start[X] + done // n * row_step(this, X) + done % n * job.pieces.step
        together = min(all // n - done // n, max(<Py_ssize_t>1, block // n))
        some = min(n - done % n, block)
        for piece in range(packed.count):
            offset[piece] = piece * block * size
            active_table.copy(memory + offset[piece], size, some * size,
                              x + job.pieces.offset[piece], job.pieces.step, row_step(this, X),
                              some, together, size)
        active_table.maxout_rows[job.dtype](
            start[Y] + done * size, <uint8 *>start[WHICH] + done if this.has[WHICH] else NULL,
            memory, &packed, some * together, 1, 0)
        done += some * together


cdef void spread_panel(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    cdef const Job *job = <const Job *>this.job
    active_table.spread_rows[job.dtype](start[X], start[Y], <const uint8 *>start[WHICH],
                                        &job.pieces, this.shape[0], rows, row_step(this, X))


# Jobs.

cdef int side_of(const Pieces *pieces, Py_ssize_t size, int dtype) noexcept nogil:
    """Pieces.side.  There is a kernel for 9 of float32 alone, and for rows alone of LONGDOUBLE."""
    cdef Py_ssize_t side = pieces.step // size
    if dtype == LONGDOUBLE:
        return -1
    if side * size == pieces.step and side >= 1 and pieces.run % side == 0 and (
            side == 1 or side == pieces.count and (side <= 5 or side == 9 and dtype == FLOAT32)
            or side * side == pieces.count and side <= 3):
        return <int>side
    return 0 if pieces.count >= 4 and (pieces.run == pieces.count or pieces.run % 4 == 0) else -1


cdef Py_ssize_t describe_pieces(Job *job, x) noexcept:
    """Describe the first pieces, and where up to NUMBERED others lie.  Return their number, or -1
    if x does not have the axes."""
    cdef Operand *first = &job.first
    cdef Py_ssize_t pieces = 1
    cdef Py_ssize_t piece, length
    cdef int axis, k
    cdef bint pooled
    describe_ndarray(x, job.dtype, first)
    shape, strides, axes = first.shape, first.strides, first.axes
    first.axes, first.shape, first.strides = 0, job.shape, job.strides
    for axis in range(axes):
        pooled = False
        for k in range(job.axes):
            pooled |= job.axis[k] == axis
        if not pooled:
            job.shape[first.axes], job.strides[first.axes] = shape[axis], strides[axis]
            first.axes += 1
    if first.axes + job.axes != axes:
        return -1
    job.offset[0] = 0
    for k in range(job.axes - 1, -1, -1):
        length = shape[job.axis[k]]
        for piece in range(pieces, pieces * length if pieces * length <= NUMBERED else 0):
            job.offset[piece] = job.offset[piece - pieces] + strides[job.axis[k]]
        pieces *= length
    return pieces


cdef int perform(str name, Job *job, x, y, which, bint backward, bint is_described) except -1:
    """Describe all arrays, when no more Python will run, and compute.  The pieces may be described,
    if no Python has run since."""
    cdef Operand operands[2]
    cdef Plan *this = &job.laid
    cdef Pieces *pieces = &job.pieces
    cdef Py_ssize_t bytes
    cdef int axis
    cdef bint valid
    if backward:  # what `which` may hold while others change it
        memset(job.offset + pieces.count, 0, (NUMBERED - pieces.count) * sizeof(Py_ssize_t))
    valid = is_described or describe_pieces(job, x) == pieces.count
    describe_ndarray(y, job.dtype, &operands[0])
    if which is not None:
        describe_ndarray(which, UINT8, &operands[1])
    valid = (
        valid and native_dtype(PyArray_DESCR(<PyArrayObject *>x)) == job.dtype
        and lay_axes(this, active_table.itemsize[job.dtype], &operands[0], &job.first,
                     NULL if which is None else &operands[1], NULL)
        and (size_of(this) == 0 or is_dense(this, Y, this.itemsize) and (
            which is None or is_dense(this, WHICH, 1))))
    if not valid:
        raise RuntimeError(f"{name}: an array changed its shape or its dtype during the call")
    bytes = size_of(this) * pieces.count * this.itemsize
    pieces.infinity = BFLOAT16_INFINITY if job.dtype == BFLOAT16 else FLOAT16_INFINITY
    pieces.step, pieces.offset = this.step[X][0], job.offset
    job.last = this.data[X]
    for axis in range(this.axes):
        job.last += max(<Py_ssize_t>0, (this.shape[axis] - 1) * this.step[X][axis])
    pieces.run = 1
    while pieces.run < pieces.count and (
            job.offset[pieces.run] == job.offset[pieces.run - 1] + this.itemsize):
        pieces.run += 1
    if pieces.count == 1 and not backward:  # compared with itself
        pieces.count, job.offset[1] = 2, 0
    pieces.side = side_of(pieces, this.itemsize, job.dtype)
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
    job.axes = 0
    for number in numbers:
        axis = PyLong_AsLongAndOverflow(number, &overflow)
        if overflow or not -axes <= axis < axes:
            raise np.exceptions.AxisError(number, axes, name)
        axis += axes if axis < 0 else 0
        for i in range(job.axes):
            if job.axis[i] == axis:
                raise ValueError(f"{name}: axis {numbers} names axis {axis} twice")
        job.axis[job.axes] = axis
        job.axes += 1
    return 0


cdef tuple as_tuple(const Py_ssize_t *shape, int axes):
    cdef int axis
    return tuple([shape[axis] for axis in range(axes)])


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
    if dtype[0] < 0 and not array.dtype.isnative:
        return native_array(name, array.astype(array.dtype.newbyteorder("=")), dtype)
    if dtype[0] < 0 and is_bfloat16(array.dtype):
        remember_bfloat16(array.dtype)
        dtype[0] = BFLOAT16
    if dtype[0] < 0:
        raise TypeError(f"{name}: dtype {array.dtype.type.__name__} is not supported")
    return array


# Results.

cdef tuple outputs(str name, out, int number):
    """Return the two arrays of `out`, each of which may be None."""
    if not isinstance(out, tuple):
        return out, None
    if len(<tuple>out) != number:
        raise ValueError(f"{name}: expected {number} arrays in out, not {len(out)}")
    return (<tuple>out + (None,))[:2]


cdef inline bint has_shape(array, const Py_ssize_t *shape, int axes) noexcept:
    return cnp.PyArray_NDIM(<cnp.ndarray>array) == axes and (axes == 0 or memcmp(
        cnp.PyArray_DIMS(<cnp.ndarray>array), shape, axes * sizeof(Py_ssize_t)) == 0)


cdef checked_out(str name, out, dtype, const Py_ssize_t *shape, int axes):
    """Return an exact ndarray over the memory of `out`, which holds a result of `dtype`."""
    if out is None or cnp.PyArray_CheckExact(out) and out.dtype is dtype and is_writeable(out) and (
            has_shape(out, shape, axes)):
        return out
    return exporters().result_array(name, "out", out, as_tuple(shape, axes), dtype, "SUTmMV")


cdef inline void find_span(array, char **low, char **high) noexcept:
    cdef Py_ssize_t reach
    cdef int axis
    low[0] = <char *>cnp.PyArray_DATA(<cnp.ndarray>array)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(<cnp.ndarray>array)
    for axis in range(cnp.PyArray_NDIM(<cnp.ndarray>array)):
        reach = cnp.PyArray_STRIDES(<cnp.ndarray>array)[axis] * (
            cnp.PyArray_DIMS(<cnp.ndarray>array)[axis] - 1)
        low[0] += min(reach, <Py_ssize_t>0)
        high[0] += max(reach, <Py_ssize_t>0)


cdef bint may_share(one, other) noexcept:
    """As np.may_share_memory, which takes 0.3 us."""
    cdef char *low
    cdef char *high
    cdef char *other_low
    cdef char *other_high
    find_span(one, &low, &high)
    find_span(other, &other_low, &other_high)
    return low < other_high and other_low < high


cdef bint takes(out, dtype, bint dense, input, other) except -1:
    """Whether a result of the dtype can be computed in `out`, which shares no memory with the other
    arrays, and is dense if it has to be."""
    return (out is not None and out.dtype == dtype
            and (not dense or cnp.PyArray_FLAGS(<cnp.ndarray>out) & cnp.NPY_ARRAY_C_CONTIGUOUS)
            and not may_share(out, input) and (other is None or not may_share(out, other)))


cdef object delivered(result, out, array, tuple operands):
    """Return what the caller gets: `out`, after copying the result to `array` if it is not there
    already, or a new result.  `array` lies over the memory of `out`."""
    if out is None:
        return new_result_of(result if result.ndim else result[()], operands)
    if result is not array:
        np.copyto(array, result, casting="unsafe")  # checked_out has allowed the cast
    return out


# Forward.

cdef object new_result(const Job *job, PyArray_Descr *dtype, Py_ssize_t size, bint in_c_order):
    """A new array in the order of x in memory, or in C's as `out` is."""
    cdef Py_ssize_t shape[MOST_AXES]
    cdef Py_ssize_t strides[MOST_AXES]
    if in_c_order:
        return new_array(dtype, job.first.axes, job.shape, NULL, False)
    new_layout(shape, strides, size, &job.first, NULL)
    return new_array(dtype, job.first.axes, shape, strides, False)


cdef list pieces_last(int axes, tuple numbers):
    """The axes of an array, those of the pieces last."""
    pooled = [number % axes for number in numbers]
    return [axis for axis in range(axes) if axis not in pooled] + pooled


cdef tuple reduce_many(array, tuple axes, bint is_half):
    """More pieces than a byte can number, by NumPy."""
    pieces = array.transpose(pieces_last(array.ndim, axes))
    shape, lengths = pieces.shape[:-len(axes)], pieces.shape[-len(axes):]
    pieces = pieces.reshape(prod(shape), prod(lengths))
    # ml_dtypes has no argmax, and NumPy's of float16 is slow; widened, both keep their order.
    which = (pieces.astype(np.float32) if is_half else pieces).argmax(1)
    return pieces[np.arange(len(pieces)), which].reshape(shape), which.reshape(shape)


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

        pooled = relu_ext.maxout(x.reshape(n, h // 2, 2, w // 2, 2, c), axis=(2, 4))  # NHWC

    Of odd sizes, pool a slice: ``x[:, :, :24, :24].reshape(n, c, 12, 2, 12, 2)`` copies nothing.
    Pad with -inf.  Windows that overlap are views by ``sliding_window_view``.  Of several NaN in a
    window PyTorch's ``max_pool2d`` returns the last and we the first.  Up to 256 pieces a new
    result lies in memory in the order of the axes of `x`; of more it is in C's order.

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
    cdef tuple numbers = as_numbers("maxout", "axis", axis)
    array = native_array("maxout", x, &job.dtype)
    find_axes("maxout", numbers, cnp.PyArray_NDIM(<cnp.ndarray>array), &job)
    pieces = describe_pieces(&job, array)
    if pieces <= 0:
        raise ValueError(f"maxout: axis {axis} has length 0, so there is no maximum")

    y = which = y_out = which_out = y_given = which_given = None
    if out is not None:
        y_given, which_given = outputs("maxout", out, 1 + counted)
        y_out = checked_out("maxout", y_given, array.dtype, job.shape, job.first.axes)
        which_out = checked_out("maxout", which_given, uint8_dtype, job.shape, job.first.axes)
        if which_out is not None and (which_out.dtype.kind not in "iu"
                                      or np.iinfo(which_out.dtype).max < pieces - 1):
            raise TypeError(f"maxout: out of dtype {which_out.dtype} for which cannot number "
                            f"{pieces} pieces")
        y = y_out if takes(y_out, array.dtype, True, array, which_out) else None
        which = which_out if takes(which_out, uint8_dtype, True, array, y_out) else None
    if pieces > NUMBERED:
        y, which = reduce_many(array, numbers, job.dtype in (FLOAT16, BFLOAT16))
        if which_given is None:
            which = which.astype(np.min_scalar_type(pieces - 1))
    else:
        in_c_order = out is not None or (
            cnp.PyArray_FLAGS(<cnp.ndarray>array) & cnp.NPY_ARRAY_C_CONTIGUOUS)
        if y is None:
            y = new_result(&job, PyArray_DESCR(<PyArrayObject *>array),
                           active_table.itemsize[job.dtype], in_c_order)
        if counted and which is None:
            which = new_result(&job, <PyArray_Descr *>uint8_dtype, 1, in_c_order)
        job.pieces.count = <int>pieces
        perform("maxout", &job, array, y, which if counted else None, False,
                out is None and x is array)
    if out is not None or x is not array or cnp.PyArray_NDIM(<cnp.ndarray>y) == 0:
        y = delivered(y, y_given, y_out, (x,))
        which = delivered(which, which_given, which_out, (x,)) if counted else None
    return (y, which) if counted else y


# Backward.

cdef extern from *:
    """
    /* In C, because GCC may not vectorise the branch that Cython writes: then the gradient of
     * (256, 100, 4) float32 takes 2.5 times as long (Zen 5). */
    static unsigned char relu_ext_highest(const unsigned char *which, Py_ssize_t n)
    {
        unsigned char most = 0;
        Py_ssize_t i;
        for (i = 0; i < n; i++)
            most = which[i] > most ? which[i] : most;
        return most;
    }
    """
    uint8 highest "relu_ext_highest"(const uint8 *which, Py_ssize_t n) noexcept nogil


cdef object numbered(which, Py_ssize_t pieces):
    """Return `which`, as uint8 if that can number the pieces, if all of it is in range."""
    cdef bint is_uint8 = cnp.PyArray_TYPE(<cnp.ndarray>which) == cnp.NPY_UINT8
    if is_uint8 and cnp.PyArray_FLAGS(<cnp.ndarray>which) & cnp.NPY_ARRAY_C_CONTIGUOUS and highest(
            <const uint8 *>cnp.PyArray_DATA(<cnp.ndarray>which),
            cnp.PyArray_SIZE(<cnp.ndarray>which)) < pieces:
        return which
    least, most = int(which.min()), int(which.max())
    if least < 0 or most >= pieces:
        raise IndexError(f"maxout_backward: which has {least if least < 0 else most}, "
                         f"out of bounds for {pieces} pieces")
    return which if is_uint8 or pieces > NUMBERED else which.astype(np.uint8)


cdef object contiguous(array, const Py_ssize_t *shape, int axes):
    """Return the array, broadcast and in C's order."""
    if (cnp.PyArray_FLAGS(<cnp.ndarray>array) & cnp.NPY_ARRAY_C_CONTIGUOUS
            and has_shape(array, shape, axes)):
        return array
    return np.broadcast_to(array, as_tuple(shape, axes)).copy()


cdef object spread_many(grad, which, tuple lengths, tuple axes):
    """The gradient of more pieces than a byte can number, by NumPy; in C's order."""
    x = np.zeros((grad.size, prod(lengths)), grad.dtype)
    x[np.arange(grad.size), which.reshape(-1).astype(np.intp)] = grad.reshape(-1)
    x = x.reshape(grad.shape + lengths)
    return np.ascontiguousarray(x.transpose(np.argsort(pieces_last(x.ndim, axes))))


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
    cdef Py_ssize_t x_shape[MOST_AXES]
    cdef Py_ssize_t length
    cdef Py_ssize_t total = 1
    cdef double size = 1
    cdef double bytes
    cdef int axes, i
    cdef int number = 0
    cdef tuple numbers = as_numbers("maxout_backward", "axis", axis)
    cdef tuple lengths = as_numbers("maxout_backward", "pieces", pieces)
    if isinstance(axis, tuple) != isinstance(pieces, tuple):
        raise TypeError("maxout_backward: pieces and axis have to be both integers or both tuples")
    if len(lengths) != len(numbers):
        raise ValueError(f"maxout_backward: {len(lengths)} numbers of pieces for "
                         f"{len(numbers)} axes")
    for one in lengths:
        if PyNumber_AsSsize_t(one, NULL) < 0:
            raise ValueError(f"maxout_backward: expected at least 0 pieces, not {min(lengths)}")
    grad_array = native_array("maxout_backward", grad, &job.dtype)
    which_array = as_array("maxout_backward", which)
    is_plain = grad is grad_array and which is which_array
    if not cnp.PyArray_ISINTEGER(<cnp.ndarray>which_array):
        raise TypeError("maxout_backward: which has dtype "
                        f"{which_array.dtype.type.__name__}, not an integer one")
    describe_ndarray(grad_array, job.dtype, &operands[0])
    describe_ndarray(which_array, UINT8, &operands[1])
    axes = operands[0].axes
    if has_shape(which_array, operands[0].shape, axes):
        for i in range(axes):
            kept[i] = operands[0].shape[i]
    else:
        axes = new_layout(kept, x_shape, 1, &operands[0], &operands[1])
    if axes < 0:
        raise ValueError(f"maxout_backward: grad of shape {grad_array.shape} and "
                         f"which of shape {which_array.shape} do not broadcast")
    axes += <int>len(numbers)
    if axes > MOST_AXES:
        raise ValueError(f"maxout_backward: the result would have {axes} axes; NumPy has at most "
                         f"{MOST_AXES}")
    find_axes("maxout_backward", numbers, axes, &job)
    for i in range(axes - job.axes):
        size *= kept[i]
    memset(x_shape, -1, sizeof(x_shape))
    bytes = max(size, 1.0)
    for i in range(job.axes):
        length = PyNumber_AsSsize_t(lengths[i], NULL)  # at most what it holds
        bytes *= max(length, 1)
        if bytes >= 1 << 62:
            raise ValueError(
                f"maxout_backward: a result of {prod(lengths)} pieces is too large")
        total *= length
        x_shape[job.axis[i]] = length
    for i in range(axes):
        if x_shape[i] < 0:
            x_shape[i] = kept[number]
            number += 1
    if size:
        which_array = contiguous(numbered(which_array, total), kept, axes - job.axes)
        grad_array = contiguous(grad_array, kept, axes - job.axes)

    given = None if out is None else outputs("maxout_backward", out, 1)[0]
    x_out = None if given is None else checked_out(
        "maxout_backward", given, grad_array.dtype, x_shape, axes)
    if total > NUMBERED and size:
        x = spread_many(grad_array, which_array, lengths, numbers)
    else:
        x = x_out
        if x is None or not takes(x_out, grad_array.dtype, False, grad_array, which_array):
            x = new_array(PyArray_DESCR(<PyArrayObject *>grad_array), axes, x_shape, NULL, False)
        if size:
            job.pieces.count = <int>total
            perform("maxout_backward", &job, x, grad_array, which_array, True, False)
    return x if given is None and is_plain else delivered(x, given, x_out, (grad, which))
