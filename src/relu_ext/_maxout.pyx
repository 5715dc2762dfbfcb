"""Maxout: the reduction over the axis of the pieces, and its gradient, for arrays of any layout.

Contract: no index out of an array is ever an address.  Where a piece wins is compared with the
number of each piece, so that whatever other threads do to the memory, nothing else is written.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_CheckExact
from libc.string cimport memcmp, memset
from relu_ext._dispatch cimport active_table
from relu_ext._driver cimport GIL_BYTES, MOST_AXES, share
from relu_ext._memory cimport is_tensor, new_result
from relu_ext._scalar cimport int64, uint8
from relu_ext._table cimport MOST_LAST
from relu_ext.ufuncs cimport (
    PyArray_DESCR, PyArrayObject, is_bfloat16, native_dtype, new_array, remember_bfloat16,
)

import numpy as np

from relu_ext._memory import array_over, writeable_array

cnp.import_array()

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "numpy/ndarrayobject.h":
    int PyArray_PyIntAsInt(object) except? -1
    Py_ssize_t PyArray_PyIntAsIntp(object) except? -1

cdef extern from "_tiles.h" nogil:
    void move_pieces "relu_ext_move"(
        size_t itemsize, char *to, Py_ssize_t to_piece_step, Py_ssize_t to_step, const char *a,
        Py_ssize_t piece_step, Py_ssize_t step, int pieces, Py_ssize_t n)

cdef enum:
    C_ORDER = cnp.NPY_ARRAY_C_CONTIGUOUS
    WRITEABLE_C_ORDER = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_WRITEABLE
    # Where a layout has no kernel of its own, so many elements of so many pieces are gathered into
    # rows at a time: 16 KiB of the largest dtype, half of a first-level cache.
    BLOCK = 128
    ROWS = 8
    LARGEST_ITEM = 16
    # With more pieces than a byte can number, so many at a time are numbered by one, from a base.
    NUMBERED = 256
    WINDOW = 248
    NOWHERE = 255


cdef struct Axis:
    Py_ssize_t length
    Py_ssize_t x_step  # bytes, as all steps
    Py_ssize_t y_step
    Py_ssize_t which_step


cdef struct Job:
    # x has an axis more than y: the pieces.  Forward, y and which are computed from x; backward, x
    # from y and which.
    bint backward
    int dtype
    Py_ssize_t itemsize
    Py_ssize_t pieces
    Py_ssize_t piece_step
    char *x
    char *y
    char *which  # NULL, or a byte or, if wide, an int64 for each element
    bint wide
    int axes  # of y, at least 1
    Axis axis[MOST_AXES]


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
            # Four again, some of them twice: cheaper than fewer one by one.
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
    """The winners of a window of pieces, which begins at `base`, to where all winners are kept."""
    cdef Py_ssize_t i
    for i in range(n):
        if numbers[i] != NOWHERE:
            (<int64 *>(which + i * step))[0] = base + numbers[i]


cdef void number_within(uint8 *numbers, const char *which, Py_ssize_t step, Py_ssize_t base,
                        Py_ssize_t n) noexcept nogil:
    """The reverse: which of a window's pieces is meant, if any."""
    cdef int64 number
    cdef Py_ssize_t i
    for i in range(n):
        number = (<const int64 *>(which + i * step))[0]
        numbers[i] = number - base if (number >= base) & (number < base + WINDOW) else NOWHERE


# The runs: n elements along the innermost axis.

cdef inline bint has_last(const Job *job) noexcept nogil:
    """Whether there is a kernel for so many pieces that lie side by side."""
    if job.pieces > MOST_LAST or job.piece_step != job.itemsize:
        return False
    if job.backward:
        return active_table.maxout_backward_last[job.pieces][job.dtype] != NULL
    return active_table.maxout_last[job.pieces][job.dtype] != NULL


cdef void reduce_gathered(const Job *job, const char *x, char *y, char *which,
                          Py_ssize_t n) noexcept nogil:
    cdef char rows[ROWS * BLOCK * LARGEST_ITEM]
    cdef char best[BLOCK * LARGEST_ITEM]
    cdef uint8 numbers[BLOCK]
    cdef const Axis *inner = &job.axis[job.axes - 1]
    cdef Py_ssize_t itemsize = job.itemsize
    cdef Py_ssize_t unit = job.pieces * itemsize
    cdef bint packed = has_last(job)
    cdef Py_ssize_t count, piece
    cdef int many
    while n > 0:
        count = min(n, <Py_ssize_t>BLOCK)
        piece = 0
        if packed:
            move(rows, unit, x, inner.x_step, unit, count)
            active_table.maxout_last[job.pieces][job.dtype](
                best, NULL if which == NULL else numbers, rows, count)
            piece = job.pieces
        while piece < job.pieces:
            many = <int>min(<Py_ssize_t>ROWS, job.pieces - piece)
            gather(rows, BLOCK * itemsize, x + piece * job.piece_step, job.piece_step, inner.x_step,
                   itemsize, many, count)
            if job.wide and piece > 0 and piece % WINDOW == 0:
                number_from(which, inner.which_step, numbers, piece - WINDOW, count)
                memset(numbers, NOWHERE, count)
            active_table.maxout_rows[job.dtype](
                best, NULL if which == NULL else numbers, rows, BLOCK * itemsize,
                <int>(piece % WINDOW if job.wide else piece % NUMBERED), many, piece > 0, count)
            piece += many
        move(y, inner.y_step, best, itemsize, itemsize, count)
        if job.wide:
            number_from(which, inner.which_step, numbers,
                        (job.pieces - 1) // WINDOW * WINDOW, count)
        elif which != NULL:
            move(which, inner.which_step, <char *>numbers, 1, 1, count)
        if which != NULL:
            which += count * inner.which_step
        x += count * inner.x_step
        y += count * inner.y_step
        n -= count


cdef void spread_gathered(const Job *job, char *x, const char *y, const char *which,
                          Py_ssize_t n) noexcept nogil:
    cdef char rows[ROWS * BLOCK * LARGEST_ITEM]
    cdef char grad[BLOCK * LARGEST_ITEM]
    cdef uint8 numbers[BLOCK]
    cdef const Axis *inner = &job.axis[job.axes - 1]
    cdef Py_ssize_t itemsize = job.itemsize
    cdef Py_ssize_t unit = job.pieces * itemsize
    cdef bint packed = has_last(job)
    cdef Py_ssize_t count, piece
    cdef int many
    while n > 0:
        count = min(n, <Py_ssize_t>BLOCK)
        move(grad, itemsize, y, inner.y_step, itemsize, count)
        if not job.wide:
            move(<char *>numbers, 1, which, inner.which_step, 1, count)
        piece = 0
        if packed:
            active_table.maxout_backward_last[job.pieces][job.dtype](rows, grad, numbers, count)
            move(x, inner.x_step, rows, unit, unit, count)
            piece = job.pieces
        while piece < job.pieces:
            many = <int>min(<Py_ssize_t>ROWS, job.pieces - piece)
            if job.wide and piece % WINDOW == 0:
                number_within(numbers, which, inner.which_step, piece, count)
            active_table.maxout_backward_rows[job.dtype](
                rows, BLOCK * itemsize, grad, numbers,
                <int>(piece % WINDOW if job.wide else piece), many, count)
            scatter(x + piece * job.piece_step, job.piece_step, inner.x_step,
                    rows, BLOCK * itemsize, itemsize, many, count)
            piece += many
        x += count * inner.x_step
        y += count * inner.y_step
        which += count * inner.which_step
        n -= count


cdef void run(const Job *job, char *x, char *y, char *which) noexcept nogil:
    """The innermost axis: by the kernel for its layout, or gathered."""
    cdef const Axis *inner = &job.axis[job.axes - 1]
    cdef Py_ssize_t n = inner.length
    cdef bint contiguous = (
        job.pieces <= NUMBERED and inner.y_step == job.itemsize
        and (which == NULL or inner.which_step == 1))
    if contiguous and inner.x_step == job.itemsize:
        if job.backward:
            active_table.maxout_backward_rows[job.dtype](
                x, job.piece_step, y, <uint8 *>which, 0, <int>job.pieces, n)
        else:
            active_table.maxout_rows[job.dtype](
                y, <uint8 *>which, x, job.piece_step, 0, <int>job.pieces, False, n)
        return
    if contiguous and has_last(job) and inner.x_step == job.pieces * job.itemsize:
        if job.backward:
            active_table.maxout_backward_last[job.pieces][job.dtype](x, y, <uint8 *>which, n)
        else:
            active_table.maxout_last[job.pieces][job.dtype](y, <uint8 *>which, x, n)
    elif job.backward:
        spread_gathered(job, x, y, which, n)
    else:
        reduce_gathered(job, x, y, which, n)


cdef void run_all(const Job *job) noexcept nogil:
    cdef Py_ssize_t place[MOST_AXES]
    cdef char *x = job.x
    cdef char *y = job.y
    cdef char *which = job.which
    cdef const Axis *axis
    cdef int i
    for i in range(job.axes):
        place[i] = 0
        if job.axis[i].length == 0:
            return
    while True:
        run(job, x, y, which)
        i = job.axes - 2
        while i >= 0:
            axis = &job.axis[i]
            place[i] += 1
            x += axis.x_step
            y += axis.y_step
            if which != NULL:
                which += axis.which_step
            if place[i] < axis.length:
                break
            x -= axis.length * axis.x_step
            y -= axis.length * axis.y_step
            if which != NULL:
                which -= axis.length * axis.which_step
            place[i] = 0
            i -= 1
        if i < 0:
            return


cdef void run_part(const void *whole, int part, int parts) noexcept nogil:
    """One of equal parts along the first axis that is long enough, or else the longest."""
    cdef Job job = (<const Job *>whole)[0]
    cdef Axis *split = &job.axis[0]
    cdef Py_ssize_t length, start
    cdef int i
    for i in range(job.axes):
        if job.axis[i].length > split.length:
            split = &job.axis[i]
        if split.length >= parts:
            break
    length = (split.length + parts - 1) // parts
    start = min(part * length, split.length)
    split.length = min(length, split.length - start)
    job.x += start * split.x_step
    job.y += start * split.y_step
    if job.which != NULL:
        job.which += start * split.which_step
    run_all(&job)


cdef void perform(const Job *job) noexcept:
    cdef Py_ssize_t bytes = job.pieces * job.itemsize
    cdef int i
    for i in range(job.axes):
        bytes *= job.axis[i].length
    if bytes < GIL_BYTES:
        run_all(job)
    else:
        with nogil:
            share(run_part, job, bytes)


# Jobs.

cdef inline void describe_contiguous(Job *job, int axis, int axes, const cnp.npy_intp *shape,
                                     Py_ssize_t pieces) noexcept:
    """Everything in C's order, the axis of the pieces lying before axis `axis` of the shape."""
    cdef Py_ssize_t outer = 1
    cdef Py_ssize_t inner = 1
    cdef int i
    for i in range(axis):
        outer *= shape[i]
    for i in range(axis, axes):
        inner *= shape[i]
    job.pieces = pieces
    job.piece_step = inner * job.itemsize
    if inner == 1 or outer == 1:
        job.axes = 1
        job.axis[0] = Axis(outer * inner, pieces * job.itemsize if inner == 1 else job.itemsize,
                           job.itemsize, 1)
        return
    job.axes = 2
    job.axis[0] = Axis(outer, pieces * inner * job.itemsize, inner * job.itemsize, inner)
    job.axis[1] = Axis(inner, job.itemsize, job.itemsize, 1)


cdef void add_axis(Job *job, Axis axis) noexcept:
    """Insert an axis where its step in x places it: the shortest innermost."""
    cdef int i = job.axes
    while i > 0 and abs(job.axis[i - 1].x_step) < abs(axis.x_step):
        job.axis[i] = job.axis[i - 1]
        i -= 1
    job.axis[i] = axis
    job.axes += 1


cdef void merge_axes(Job *job) noexcept:
    """Neighbours that are one run for every array become one axis."""
    cdef Axis *last = &job.axis[0]
    cdef Axis axis
    cdef int kept = 1
    cdef int i
    for i in range(1, job.axes):
        axis = job.axis[i]
        if (last.x_step == axis.length * axis.x_step and last.y_step == axis.length * axis.y_step
                and (job.which == NULL or last.which_step == axis.length * axis.which_step)):
            axis.length *= last.length
        else:
            last = &job.axis[kept]
            kept += 1
        last[0] = axis
    job.axes = kept


cdef void describe(Job *job, int axis, cnp.ndarray x, cnp.ndarray y, cnp.ndarray which) noexcept:
    cdef int i
    cdef int x_axis
    job.x = <char *>cnp.PyArray_DATA(x)
    job.y = <char *>cnp.PyArray_DATA(y)
    job.which = NULL if which is None else <char *>cnp.PyArray_DATA(which)
    job.pieces = cnp.PyArray_DIM(x, axis)
    job.piece_step = cnp.PyArray_STRIDE(x, axis)
    job.itemsize = active_table.itemsize[job.dtype]
    job.axes = 0
    for i in range(cnp.PyArray_NDIM(y)):
        x_axis = i if i < axis else i + 1
        if cnp.PyArray_DIM(y, i) != 1:
            add_axis(job, Axis(
                cnp.PyArray_DIM(y, i), cnp.PyArray_STRIDE(x, x_axis), cnp.PyArray_STRIDE(y, i),
                0 if which is None else cnp.PyArray_STRIDE(which, i)))
    if job.axes == 0:
        add_axis(job, Axis(1, job.itemsize, job.itemsize, 1))
    merge_axes(job)


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
    """An ndarray proper: over the memory of a tensor, of anything else as NumPy makes it."""
    return np.asarray(array_over(name, x) if is_tensor(x) else x)


cdef native(str name, array, int *dtype):
    """The array in the machine's byte order, and the kernels' dtype for it."""
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
    """The arrays of `out`, each of which may be None."""
    if not isinstance(out, tuple):
        return (out, None)[:number]
    if len(out) != number:
        raise ValueError(f"{name}: out has {len(out)} arrays in the place of {number}")
    return out


cdef checked_out(str name, out, tuple shape):
    """An ndarray proper over the memory of `out`, if any."""
    if out is None:
        return None
    if is_tensor(out):
        out = writeable_array(name, out)
    elif not cnp.PyArray_Check(out):  # not isinstance, which believes what an object says it is
        raise TypeError(f"{name}: out is a {type(out).__name__}, neither ndarray nor tensor")
    array = np.asarray(out)
    if array.shape != shape:
        raise ValueError(f"{name}: out of shape {array.shape} in the place of {shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name}: out is read-only")
    return array


cdef check_cast(str name, dtype, out_dtype):
    # To NumPy a number casts to text and to any structure.
    if (not np.can_cast(dtype, out_dtype, "same_kind") or out_dtype.kind in "SUmM"
            or out_dtype.kind == "V" and not is_bfloat16(out_dtype)):
        raise TypeError(f"{name}: out of dtype {out_dtype} does not hold {dtype}")


cdef bint takes(out, dtype, input, other) except -1:
    """Whether `out`, if any, takes a result as it is: of its dtype, apart from the other arrays."""
    return not (out is None or out.dtype != dtype or np.may_share_memory(out, input)
                or other is not None and np.may_share_memory(out, other))


cdef object delivered(result, out, array, tuple operands):
    """The result as the caller gets it: in `out`, over whose memory `array` lies, or new."""
    if out is None:
        return new_result(result if result.ndim else result[()], operands)
    if result is not array:
        np.copyto(array, result, casting="unsafe")  # what may be cast has been checked
    return out


# Forward.

cdef bint fits(object out, cnp.ndarray x, int axes, const cnp.npy_intp *shape, int number_type):
    """Whether `out` takes a result as it is: of that shape, in C's order, apart from x."""
    cdef cnp.ndarray array
    cdef char *x_data = <char *>cnp.PyArray_DATA(x)
    cdef char *data
    if not cnp.PyArray_CheckExact(out):
        return False
    array = <cnp.ndarray>out
    data = <char *>cnp.PyArray_DATA(array)
    return (
        cnp.PyArray_FLAGS(array) & WRITEABLE_C_ORDER == WRITEABLE_C_ORDER
        and cnp.PyArray_TYPE(array) == number_type and cnp.PyArray_ISNOTSWAPPED(array)
        and cnp.PyArray_NDIM(array) == axes
        and memcmp(cnp.PyArray_DIMS(array), shape, axes * sizeof(cnp.npy_intp)) == 0
        and (data + cnp.PyArray_NBYTES(array) <= x_data
             or x_data + cnp.PyArray_NBYTES(x) <= data))


cdef bint is_ordered(cnp.ndarray x, int axis) noexcept:
    """Whether the axes of x other than one lie in C's order, so that the result does."""
    cdef Py_ssize_t outer = PY_SSIZE_T_MAX
    cdef int i
    for i in range(cnp.PyArray_NDIM(x)):
        if i != axis and cnp.PyArray_DIM(x, i) != 1:
            if abs(cnp.PyArray_STRIDE(x, i)) > outer:
                return False
            outer = abs(cnp.PyArray_STRIDE(x, i))
    return True


cdef object reduce_at_once(cnp.ndarray x, int dtype, axis, out, bint counted):
    """The short cut: into a result in C's order, or None."""
    cdef Job job
    cdef cnp.npy_intp shape[MOST_AXES]
    cdef int axes = cnp.PyArray_NDIM(x)
    cdef int number = normal_axis("maxout", axis, axes)
    cdef Py_ssize_t pieces = cnp.PyArray_DIM(x, number)
    cdef bint contiguous = cnp.PyArray_FLAGS(x) & C_ORDER
    cdef int i
    if pieces == 0 or pieces > NUMBERED or not (contiguous or is_ordered(x, number)):
        return None
    for i in range(axes - 1):
        shape[i] = cnp.PyArray_DIM(x, i if i < number else i + 1)
    if out is None:
        y = new_array(PyArray_DESCR(<PyArrayObject *>x), axes - 1, <Py_ssize_t *>shape, NULL, False)
    elif contiguous and not counted and fits(out, x, axes - 1, shape, cnp.PyArray_TYPE(x)):
        y = out
    else:
        return None
    which = cnp.PyArray_EMPTY(axes - 1, shape, cnp.NPY_UINT8, 0) if counted else None
    job.backward = False
    job.dtype = dtype
    job.wide = False
    if contiguous:
        job.itemsize = active_table.itemsize[dtype]
        job.x = <char *>cnp.PyArray_DATA(x)
        job.y = <char *>cnp.PyArray_DATA(<cnp.ndarray>y)
        job.which = <char *>cnp.PyArray_DATA(<cnp.ndarray>which) if counted else NULL
        describe_contiguous(&job, number, axes - 1, shape, pieces)
    else:
        describe(&job, number, x, <cnp.ndarray>y, which)
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
        raise ValueError(f"maxout: axis {number} has length 0, and no pieces have no maximum")

    out = outputs("maxout", out, 1 + counted)
    y_out = checked_out("maxout", out[0], shape)
    if y_out is not None:
        check_cast("maxout", array.dtype, y_out.dtype)
    which_out = checked_out("maxout", out[1], shape) if counted else None
    if which_out is not None and (
            which_out.dtype.kind not in "iu" or np.iinfo(which_out.dtype).max < pieces - 1):
        raise TypeError(
            f"maxout: out of dtype {which_out.dtype} for which does not number {pieces} pieces")

    # In the order of x, as NumPy's own reductions.
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
    describe(&job, number, array, y, which)
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
    Warde-Farley, Mirza, Courville and Bengio, 2013).  ReLU is its case of two pieces of which one
    is 0.

    Parameters
    ----------
    x : array_like
        At least one axis; floating (bfloat16 of ml_dtypes too), integer or bool; a tensor of
        PyTorch on the CPU too.  A subclass of ndarray is taken as a plain array; a mask is not
        looked at.
    axis : int, default -1
        The axis of the pieces: one or more of them.
    out : ndarray or tensor, or tuple of them, optional
        Where to write the maximum; with `return_which` also a pair, for the maximum and the
        numbers of the pieces, either of which may be None.  It may overlap `x`.
    return_which : bool, default False
        Whether to tell which piece won, for `maxout_backward`.

    Returns
    -------
    maximum : ndarray, scalar or tensor
        A tensor where `x` is one.  The shape of `x` without `axis`, and its dtype.  As in
        ``np.max``, NaN wins, the first of them.  +0.0 and -0.0 are equal, and of equal pieces the
        first wins, so that a zero has the sign of the first; in ``np.max`` its sign depends on the
        zeros' positions.
    which : ndarray, scalar or tensor
        With `return_which` alone: the number of the piece that won, as in ``np.argmax``, in the
        smallest unsigned integer that numbers them all: uint8 up to 256 pieces.

    Raises
    ------
    TypeError
        If the dtype is not supported (complex, datetime, structured, str, object), if `out` is no
        ndarray or tensor or its dtype does not hold the result, or if `axis` is no integer.
    BufferError
        If the memory of a tensor is not its value, or not all that depends on it: it requires a
        gradient, is to be negated yet, is sparse, has a tangent.  The message says what to call.
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
    """The short cut: for two arrays in C's order and a result in the same, or None."""
    cdef Job job
    cdef cnp.npy_intp shape[MOST_AXES]
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
        x = new_array(PyArray_DESCR(<PyArrayObject *>grad), axes + 1, <Py_ssize_t *>shape, NULL,
                      False)
    elif (fits(out, grad, axes + 1, shape, cnp.PyArray_TYPE(grad))
          and fits(out, which, axes + 1, shape, cnp.PyArray_TYPE(grad))):
        x = out
    else:
        return None
    job.backward = True
    job.dtype = dtype
    job.itemsize = active_table.itemsize[dtype]
    job.x = <char *>cnp.PyArray_DATA(<cnp.ndarray>x)
    job.y = <char *>cnp.PyArray_DATA(grad)
    job.which = <char *>cnp.PyArray_DATA(which)
    job.wide = False
    describe_contiguous(&job, number, axes, cnp.PyArray_DIMS(grad), pieces)
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
        raise ValueError(f"maxout_backward: {pieces} pieces")
    if grad_array.shape != which_array.shape:
        try:
            grad_array, which_array = np.broadcast_arrays(grad_array, which_array)
        except ValueError:
            raise ValueError(f"maxout_backward: grad of shape {grad_array.shape} and "
                             f"which of shape {which_array.shape} do not fit") from None
    number = normal_axis("maxout_backward", axis, grad_array.ndim + 1)
    shape = grad_array.shape
    shape = (*shape[:number], pieces, *shape[number:])
    if which_array.size:
        least, most = int(which_array.min()), int(which_array.max())
        if least < 0 or most >= pieces:
            raise index_error(least if least < 0 else most, pieces)

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
    describe(&job, number, x, grad_array, which_array)
    perform(&job)
    return delivered(x, out, x_out, (grad, which))


def maxout_backward(grad, which, pieces, /, axis=-1, *, out=None):
    """The gradient of a loss through `maxout`: `grad` at the piece that won, 0 at the others.

    Parameters
    ----------
    grad : array_like
        Gradient with respect to the output of `maxout`: floating (bfloat16 of ml_dtypes too),
        integer or bool; a tensor of PyTorch on the CPU too.
    which : array_like
        The number of the piece that won, from ``maxout(x, axis, return_which=True)``: of any
        integer dtype, and of a shape that broadcasts with that of `grad`; a tensor too.
    pieces : int
        How many there were.
    axis : int, default -1
        The axis of the pieces in the result.
    out : ndarray or tensor, optional
        Where to write the result.  It may overlap `grad` and `which`.

    Returns
    -------
    ndarray or tensor
        The gradient with respect to the input of `maxout`, a tensor where `grad` or `which` is one:
        the shape of `grad` with `axis`, of length `pieces`, inserted; of grad's dtype.  Every bit
        of grad is kept, that of NaN and -0.0 too; elsewhere it is +0.0, also where grad is infinite
        or NaN.

    Raises
    ------
    IndexError
        If `which` has a negative number or one that is not below `pieces`.
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object), if that of `which`
        is no integer, if `out` is no ndarray or tensor or its dtype does not hold the result, or if
        `pieces` or `axis` is no integer.
    BufferError
        As `maxout`.
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
