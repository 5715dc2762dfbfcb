"""The backward pass of a layer with what the layer learns: gradients of biases and slopes.

A bias or a slope broadcasts in the forward pass, so that its gradient is a sum over the axes along
which it does.  A tile of the gradient is computed by the elementwise kernel, and added while it is
in the cache.

Contract: the order of adding follows from the shapes and from the order of the axes in grad_x's
memory.  Take the axes that are summed, without those of length 1.  If the innermost axis of all is
one of them, then it and those that follow it without another one between them make a run.  Each run
is cut into pieces: as few of at most RUN numbers as there can be, and all but the last one of one
length, the shortest multiple of LANES that will do.  The numbers of a piece are dealt to LANES
lanes in turn, and each lane adds its own one after the other; these sums are a row.  If the
innermost axis is not summed, each element is a row.  The rows are numbered in the order of memory,
the outermost axis first.  FOLDED of them at a time are folded into a block (_table.pxd), lane by
lane, and then the lanes are folded.  The blocks are added in a binary tree: the first and the
second, the third and the fourth, and so on.  What lacks is +0.

Here are the calls that the kernels take as they are: exact ndarrays or tensors of one dtype, whose
axes are one of columns or of a run, one of rows and one of groups.  _sum_calls.py makes such
ndarrays of all others.
"""

cimport numpy as cnp
from libc.math cimport fabs
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from relu_ext._dispatch cimport active_table
from relu_ext._docs cimport fill_doc
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, bfloat16_number, describe_ndarray, load,
    native_dtype, new_array,
)
from relu_ext._operand cimport Operand, count, is_number, read_number
from relu_ext._table cimport (
    BFLOAT16, FLOAT32, FLOATS, FOLDED, LANES, LEAKY_RELU_BACKWARD, OUT, PARAMETER, RELU_BACKWARD,
    ROLES, RUN, A, B, Add, Adders, Learn, Rows, Terms,
)
from relu_ext._tensors cimport borrow, has_exchange_table, is_value, new_tensor
from relu_ext._threads cimport Part, share
from relu_ext._walk cimport (
    GIL_BYTES, MASK, MOST_AXES, WALKED, Plan, is_same_or_apart, look_up, parts_of, run_columns,
    size_of, swap_axes,
)

import numpy as np

cnp.import_array()

cdef extern from "_copies.h":
    """
    #define RELU_EXT_TILE_BYTES 65536
    typedef struct { RELU_EXT_LINE_ALIGNED char bytes[RELU_EXT_TILE_BYTES + 256]; } relu_ext_tile;
    """
    enum:
        # The terms of FOLDED rows, which stay in the second-level cache.  In place on 1000 x 1000
        # float32 (AMD EPYC, Zen 5), PReLU takes 1.19 times as long with 16 KiB, 1.12 times with 32
        # and as long with 128; a bias 1.14, 1.09 and 1.01 times.
        TILE_BYTES "RELU_EXT_TILE_BYTES"
    ctypedef struct Tile "relu_ext_tile":
        char *bytes

cdef extern from "numpy/ndarrayobject.h":
    int PyArray_Pack(PyArray_Descr *, void *, object) except -1
    object PyArray_NewLikeArray(PyArrayObject *, int order, PyArray_Descr *, int subok)

cdef enum:
    SUMS = MASK  # the walker's plan has no mask here; in its place is what is learned
    LARGEST_ITEM = 16
    ROW_BYTES = TILE_BYTES // FOLDED
    # Up to this size blocks whose rows lie end to end are computed as one run, and then added.
    FLAT_BYTES = 32768
    # Shorter rows of a bias are computed end to end, and then added.
    LEARN_BYTES = 2048
    SMALL_SCRATCH = 8192  # bytes, on the stack


# The layout.

cdef char[LARGEST_ITEM] zero  # in every dtype

cdef struct Job:
    # Axis 0 of the plan has columns, or is a run; axis 1 has the rows, which are summed (or of runs
    # what is cut to pieces); axis 2 has groups, whose sums are apart.
    Plan plan
    Rows folded  # how the rows of a block lie
    int operation  # that computes grad_x
    Learn learn  # of FOLDED rows or a run; NULL: the kernel computes, then the terms are added
    Terms terms  # NULL: `out` itself is added
    bint of_slope  # terms are made of grad and x, which the kernel may overwrite, not of `out`
    const Adders *adders
    Add settle
    Py_ssize_t sum_size  # of the dtype in which the terms are added
    bint whole  # nothing is summed: the result is a copy of what is computed, as its bits are
    bint along  # axis 0 is a run
    Py_ssize_t chunk  # blocks that are computed as one run, because all rows lie end to end, or 0
    Py_ssize_t cells  # sums
    Py_ssize_t pieces  # of a run
    Py_ssize_t piece  # its length, but for the last one
    Py_ssize_t rows
    Py_ssize_t blocks
    # Threads share units of blocks, whose size does not change what they add up to.
    Py_ssize_t unit  # in blocks, a power of two
    Py_ssize_t units
    char *sums  # of each unit
    Py_ssize_t step  # from one unit's sums to the next one's: what is complete, and a block


cdef bint lay(Job *job, const Operand **operands) noexcept nogil:
    """Lay out operands by role, of which grad and x have the shape of grad_x: its axes from the
    innermost of its memory on.  Return False if the kernels do not take them as they lie."""
    cdef Plan *plan = &job.plan
    cdef const Operand *out = operands[OUT]
    cdef Py_ssize_t result_size = active_table.itemsize[operands[SUMS].dtype]
    cdef Py_ssize_t step[WALKED]
    cdef Py_ssize_t extent, columns, length, own
    cdef int order[MOST_AXES]
    cdef int last = -1
    cdef int axis, role, i, k
    cdef bint merges
    if operands[PARAMETER].axes > out.axes or operands[SUMS].axes > out.axes:
        return False
    plan.kernel = active_table.kernel[job.operation][out.dtype]
    plan.itemsize = extent = active_table.itemsize[out.dtype]
    plan.stream = False
    for role in range(WALKED):
        plan.data[role] = operands[role].data
        plan.size[role] = plan.itemsize
        for axis in range(3):
            plan.shape[axis] = 1
            plan.step[role][axis] = 0
    plan.size[SUMS] = result_size
    for i in range(out.axes):
        k, axis = i, out.axes - 1 - i
        while k > 0 and out.strides[order[k - 1]] > out.strides[axis]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = axis
    for i in range(out.axes):
        length = out.shape[order[i]]
        for role in range(WALKED):
            own = look_up(operands[role], out.axes - 1 - order[i], &step[role])
            if own != 1 and own != length:
                return False
        if length == 1:
            continue
        merges = last >= 0
        for role in range(WALKED):
            merges = merges and step[role] == plan.step[role][last] * plan.shape[last]
        if merges:
            plan.shape[last] *= length
        else:
            last += 1
            if last == 3 or step[OUT] < extent:  # elements share memory, or it is reversed
                return False
            plan.shape[last] = length
            for role in range(WALKED):
                plan.step[role][last] = step[role]
        extent += step[OUT] * (length - 1)
    plan.axes = last + 1
    if size_of(plan) == 0 or plan.data[SUMS] == plan.data[OUT]:
        return False
    for role in range(A, WALKED):
        if operands[role] != out and not is_same_or_apart(plan, role, extent):
            return False
    plan.axes = 3
    plan.parameter_step = plan.step[PARAMETER][0] != 0
    for role in range(ROLES):
        if (plan.step[role][0] != plan.itemsize and plan.shape[0] > 1
                and (role != PARAMETER or plan.parameter_step)):
            return False
    job.along = plan.step[SUMS][0] == 0
    if plan.step[SUMS][1] != 0:
        swap_axes(plan, 1, 2)
    elif job.along and plan.shape[1] > 1:
        return False
    columns = 1 if job.along else plan.shape[0]
    if (plan.step[SUMS][1] != 0 or columns > 1 and plan.step[SUMS][0] != result_size
            or plan.shape[2] > 1 and plan.step[SUMS][2] != columns * result_size):
        return False
    job.folded.parameter_step = plan.parameter_step
    for role in range(ROLES):
        job.folded.steps[role] = plan.step[role][1]
    # What it is divided into.
    job.cells = columns * plan.shape[2]
    if job.cells != count(operands[SUMS].shape, operands[SUMS].axes):  # of which some share memory
        return False
    job.whole = not job.of_slope and job.cells == size_of(plan)
    if job.whole and (plan.shape[2] > 1 or operands[SUMS].dtype != out.dtype):
        return False
    job.pieces = 1
    if job.along:
        job.pieces = (plan.shape[0] + RUN - 1) // RUN
        job.piece = (plan.shape[0] + job.pieces * LANES - 1) // (job.pieces * LANES) * LANES
    job.rows = plan.shape[1] * job.pieces
    job.blocks = (job.rows + FOLDED - 1) // FOLDED
    if not job.of_slope and not job.along and plan.shape[0] * job.sum_size < LEARN_BYTES:
        job.learn = NULL
    job.chunk = 0
    if not (job.along or job.of_slope or job.learn != NULL or plan.shape[2] > 1):
        job.chunk = max(FLAT_BYTES // (FOLDED * plan.shape[0] * plan.itemsize), <Py_ssize_t>1)
        for role in range(PARAMETER):
            if plan.step[role][1] != plan.shape[0] * plan.itemsize:
                job.chunk = 0
    return True


cdef inline void place(const Job *job, Py_ssize_t column, Py_ssize_t row, Py_ssize_t group,
                       char **at) noexcept nogil:
    cdef const Plan *plan = &job.plan
    cdef int role
    for role in range(WALKED):
        at[role] = (plan.data[role] + column * plan.step[role][0] + row * plan.step[role][1]
                    + group * plan.step[role][2])


# Blocks.

cdef inline char *compute_terms(const Job *job, char *terms, char **at, Py_ssize_t columns,
                                Py_ssize_t rows) noexcept nogil:
    """Compute some rows, if they are not yet computed.  Return where their terms are."""
    cdef const Plan *plan = &job.plan
    cdef int source = A if job.of_slope else OUT
    cdef const char *x = at[B] if job.of_slope else NULL
    cdef Py_ssize_t step = plan.step[source][1]
    cdef Py_ssize_t x_step = plan.step[B][1] if job.of_slope else 0
    cdef Py_ssize_t bytes = columns * plan.itemsize
    cdef Py_ssize_t n = columns
    cdef Py_ssize_t i
    if not (job.of_slope or job.chunk > 0):
        run_columns(plan, at, columns, rows)
    if job.terms == NULL:
        return at[OUT]
    if step == bytes and (x == NULL or x_step == bytes):
        n *= rows  # Row by row, (64, 10) float16 takes 3.2 times as long.
    for i in range(columns * rows // n):
        job.terms(terms + i * n * job.sum_size, at[source] + i * step, x + i * x_step, n)
    if job.of_slope:
        run_columns(plan, at, columns, rows)
    return terms


cdef void add_rows(const Job *job, char *sums, Py_ssize_t row, Py_ssize_t rows) noexcept nogil:
    """Compute a block of up to FOLDED rows, and fold it."""
    cdef Tile tile
    cdef char *at[WALKED]
    cdef char *terms
    cdef Py_ssize_t columns, column, group, step
    for group in range(job.plan.shape[2]):
        column = 0
        while column < job.plan.shape[0]:
            columns = min(ROW_BYTES // job.sum_size, job.plan.shape[0] - column)
            place(job, column, row, group, at)
            if (job.learn == NULL or rows < FOLDED
                    or not job.learn(sums, at, &job.folded, columns, job.operation)):
                terms = compute_terms(job, tile.bytes, at, columns, rows)
                step = job.folded.steps[OUT] if job.terms == NULL else columns * job.sum_size
                job.adders.fold_rows(sums, terms, step, rows, columns)
            sums += columns * job.sum_size
            column += columns


cdef void add_runs(const Job *job, char *sums, Py_ssize_t row, Py_ssize_t rows) noexcept nogil:
    """Add a block of pieces of runs, in the order of memory."""
    cdef Tile tile
    cdef Tile folded
    cdef char terms[RUN * LARGEST_ITEM]
    cdef char *at[WALKED]
    cdef char *lanes
    cdef char *added
    cdef Py_ssize_t cells, run, start, n, i, k
    cdef Py_ssize_t width = LANES * job.sum_size
    cdef Py_ssize_t first = 0
    while first < job.cells:
        cells = min(ROW_BYTES // width, job.cells - first)
        for run in range(row // job.pieces, (row + rows - 1) // job.pieces + 1):
            for k in range(cells):
                for i in range(max(row, run * job.pieces), min(row + rows, (run + 1) * job.pieces)):
                    start = (i - run * job.pieces) * job.piece
                    n = min(job.piece, job.plan.shape[0] - start)
                    lanes = tile.bytes + ((i - row) * cells + k) * width
                    place(job, start, run, first + k, at)
                    if job.learn == NULL or not job.learn(lanes, at, NULL, n, job.operation):
                        added = compute_terms(job, terms, at, n, 1)
                        job.adders.add_run(lanes, added, n)
        job.adders.fold_rows(folded.bytes, tile.bytes, cells * width, rows, cells * LANES)
        job.adders.fold_lanes(sums + first * job.sum_size, folded.bytes, cells)
        first += cells


# The whole.

cdef void add_part(const Job *job, int part, int parts) noexcept nogil:
    """Add the blocks of some units, each in a binary tree: its sums hold what is complete, the
    largest part first, and then the next block."""
    cdef const Plan *plan = &job.plan
    cdef char *at[WALKED]
    cdef char *sums
    cdef Py_ssize_t slot = job.cells * job.sum_size
    cdef Py_ssize_t computed = 0
    cdef Py_ssize_t unit, block, last, row, rows, added
    for unit in range(job.units * part // parts, job.units * (part + 1) // parts):
        sums = job.sums + unit * job.step
        last = min((unit + 1) * job.unit, job.blocks) - 1
        for block in range(unit * job.unit, last + 1):
            row = block * FOLDED
            rows = min(<Py_ssize_t>FOLDED, job.rows - row)
            if job.chunk > 0 and block >= computed:
                # Row by row, (2000, 32) float16 takes 1.4 times as long.
                computed = min(block + job.chunk, last + 1)
                place(job, 0, row, 0, at)
                run_columns(plan, at, min((computed - block) * FOLDED, job.rows - row) * job.cells,
                            1)
            if job.along:
                add_runs(job, sums, row, rows)
            elif job.chunk > 0 and job.terms == NULL and slot <= ROW_BYTES:
                # By `add_rows`, (64, 10) float32 takes 1.1 times as long.
                job.adders.fold_rows(sums, plan.data[OUT] + row * plan.step[OUT][1],
                                     plan.step[OUT][1], rows, job.cells)
            else:
                add_rows(job, sums, row, rows)
            added = block - unit * job.unit + 1
            while sums > job.sums + unit * job.step and (added % 2 == 0 or block == last):
                sums -= slot
                job.adders.add_row(sums, sums + slot, job.cells)
                added //= 2
            sums += slot


cdef bint perform(Job *job) noexcept nogil:
    """Compute everything.  Return False, with nothing written, if there is no memory for sums."""
    cdef char small[SMALL_SCRATCH]
    cdef int parts = parts_of(size_of(&job.plan) * job.plan.itemsize)
    cdef Py_ssize_t slot = job.cells * job.sum_size
    cdef Py_ssize_t half = 1
    cdef Py_ssize_t i
    if job.whole:
        run_columns(&job.plan, job.plan.data, job.cells, 1)
        memcpy(job.plan.data[SUMS], job.plan.data[OUT], job.cells * job.plan.itemsize)
        return True
    # Several units for each thread, so that none of them has much less to do.
    job.unit, job.step = 1, slot
    while job.unit < job.blocks and (parts == 1 or job.blocks // (2 * job.unit) >= 4 * parts):
        job.unit *= 2
        job.step += slot
    job.units = (job.blocks + job.unit - 1) // job.unit
    job.sums = small
    if job.units * job.step > SMALL_SCRATCH:
        job.sums = <char *>malloc(job.units * job.step)
        if job.sums == NULL:
            return False
    if parts > 1:
        share(<Part>add_part, job, parts)
    else:
        add_part(job, 0, 1)
    while half < job.units:
        i = 0
        while i + half < job.units:
            job.adders.add_row(job.sums + i * job.step, job.sums + (i + half) * job.step, job.cells)
            i += 2 * half
        half *= 2
    job.settle(job.plan.data[SUMS], job.sums, job.cells)
    if job.sums != small:
        free(job.sums)
    return True


# The calls.

cdef int numpy_dtypes[FLOATS]
numpy_dtypes[:] = [cnp.NPY_FLOAT16, -1, cnp.NPY_FLOAT, cnp.NPY_DOUBLE, cnp.NPY_LONGDOUBLE]
cdef object numpy_scalar = np.generic
cdef tuple REAL = (int, float, np.integer, np.floating, np.bool_)
cdef double LARGEST = 65504.0  # of float16
cdef double SMALLEST = 1.1754943508222875e-38  # below, a cast to bfloat16 may report an underflow


cdef inline bint is_taken(str name, object x, bint beside_tensor) except -1:
    """Whether `describe` takes an array or a tensor.  May run Python."""
    return cnp.PyArray_CheckExact(x) or is_value(name, x, beside_tensor)


cdef inline bint describe(object x, Operand *operand) noexcept:
    """Describe an array or a tensor of floats.  Return False for any other one.  No Python runs."""
    if cnp.PyArray_CheckExact(x):
        describe_ndarray(x, native_dtype(PyArray_DESCR(<PyArrayObject *>x)), operand)
    elif not borrow(x, operand):
        return False
    return 0 <= operand.dtype < FLOATS


cdef inline bint are_alike(const Operand *x, const Operand *other) noexcept nogil:
    """Whether two arrays have one shape and one dtype."""
    cdef int axis
    if x.axes != other.axes or x.dtype != other.dtype:
        return False
    for axis in range(x.axes):
        if x.shape[axis] != other.shape[axis]:
            return False
    return True


cdef bint run(int operation, bint of_slope, object grad_x, object grad, object x,
              object parameter, object y, object learned) except -1:
    """Compute on arrays or tensors, of which `learned` has to be like y.  A parameter of None is 0.
    Return False, with nothing written, if the kernels do not take them as they lie."""
    cdef Job job
    cdef Operand described[WALKED]
    cdef Operand like
    cdef const Operand *operands[WALKED]
    cdef int role, dtype, sums
    cdef bint done
    for role in range(WALKED):
        operands[role] = &described[role]
    if grad is grad_x:
        operands[A] = operands[OUT]
    # From here on nothing runs Python until all is computed.
    if not (describe(grad_x, &described[OUT]) and describe(x, &described[B])
            and (grad is grad_x or describe(grad, &described[A]))
            and (parameter is None or describe(parameter, &described[PARAMETER]))
            and describe(learned, &described[SUMS])
            and (y is learned or describe(y, &like) and are_alike(&like, operands[SUMS]))):
        return False
    dtype = described[OUT].dtype
    sums = max(dtype, <int>FLOAT32)  # the dtype in which terms are added
    if parameter is None:
        described[PARAMETER] = Operand(&zero[0], 0, NULL, NULL, 1, dtype, False)
    if not (are_alike(operands[OUT], operands[A]) and are_alike(operands[OUT], operands[B])
            and described[OUT].writeable and described[SUMS].writeable
            and described[PARAMETER].dtype == dtype
            and max(described[SUMS].dtype, <int>FLOAT32) == sums):
        return False
    job.operation, job.of_slope = operation, of_slope
    job.adders = &active_table.adders[sums]
    job.sum_size = active_table.itemsize[sums]
    job.terms = active_table.slope_terms[dtype] if of_slope or dtype != sums else NULL
    job.learn = active_table.learn[dtype] if of_slope or operation == RELU_BACKWARD else NULL
    job.settle = active_table.settle[described[SUMS].dtype]
    if not lay(&job, operands):
        return False
    if size_of(&job.plan) * job.plan.itemsize < GIL_BYTES:
        done = perform(&job)
    else:
        with nogil:
            done = perform(&job)
    if not done:
        raise MemoryError
    return True


def add(grad, x, learned, bint of_slope):
    """Add grad * x where x < 0, or grad where x > 0, of ndarrays in the dtype of `learned`, where
    the kernels take them as they lie; return whether they do.  The terms of a slope are lost."""
    return run(LEAKY_RELU_BACKWARD if of_slope else RELU_BACKWARD, of_slope, grad, grad, x, None,
               learned, learned)


cdef object number_array(object value, int dtype):
    """A number as an ndarray without dimensions: a Python number in a dtype, NumPy's own in its
    own.  Return None for anything else, and for numbers about whose cast NumPy may warn."""
    cdef int number = load(bfloat16_number) if dtype == BFLOAT16 else numpy_dtypes[dtype]
    cdef double real
    if not is_number(value):
        return np.asarray(value) if isinstance(value, numpy_scalar) else None
    if number < 0 or not read_number(value, &real) or (
            real != 0 and not SMALLEST <= fabs(real) <= LARGEST):
        return None
    descr = cnp.PyArray_DescrFromType(number)
    array = new_array(<PyArray_Descr *>descr, 0, NULL, NULL, False)
    PyArray_Pack(<PyArray_Descr *>descr, cnp.PyArray_DATA(<cnp.ndarray>array), value)
    return array


cdef object at_once(str name, int operation, bint of_slope, object grad, object x,
                    object parameter, object y, object out, bint in_place):
    """Compute on arrays or tensors that need no preparation.  Return None, with nothing written,
    for others.

    `parameter` is a slope, or None where there is none; y is what is learned.
    """
    cdef Operand whole, like
    cdef bint are_arrays = cnp.PyArray_CheckExact(grad)
    cdef Py_ssize_t size
    grad_x, learned = (grad if in_place else None), None
    if out is not None:
        if type(out) is not tuple or len(<tuple>out) != 2:
            return None
        grad_x, learned = <tuple>out
    cdef bint is_new = learned is None

    # First what may run Python: questions to tensors, and new ones.
    if not (is_taken(name, grad, False) and is_taken(name, x, not are_arrays)
            and describe(grad, &whole)) or cnp.PyArray_CheckExact(x) != are_arrays:
        return None
    # Before Python may change the shape.
    size = count(whole.shape, whole.axes) if whole.axes > 0 else 0
    if not (cnp.PyArray_CheckExact(y) if are_arrays else has_exchange_table(y)):
        y = number_array(y, whole.dtype)
    if of_slope:
        parameter = y
    elif operation != RELU_BACKWARD:
        # NaN, which NumPy's comparison may warn of, goes the other way.
        if not isinstance(parameter, REAL) or parameter != parameter or parameter < 0:
            return None
        parameter = number_array(parameter, whole.dtype)
        if parameter is None:
            return None
    if y is None or not describe(y, &like) or count(like.shape, like.axes) > size:
        return None
    if is_new:
        learned = (new_array(PyArray_DESCR(<PyArrayObject *>y), like.axes, like.shape, NULL, False)
                   if cnp.PyArray_CheckExact(y) else new_tensor(name, y))
    if grad_x is None:
        grad_x = PyArray_NewLikeArray(
            <PyArrayObject *>grad, cnp.NPY_KEEPORDER, NULL, 0
        ) if are_arrays else new_tensor(name, grad)
    if not ((grad_x is grad or is_taken(name, grad_x, not are_arrays))
            and is_taken(name, learned, not are_arrays)
            and (not of_slope or is_taken(name, y, not are_arrays))
            and run(operation, of_slope, grad_x, grad, x, parameter, learned if is_new else y,
                    learned)):
        return None
    if is_new and cnp.PyArray_CheckExact(learned) and cnp.PyArray_NDIM(<cnp.ndarray>learned) == 0:
        learned = (<cnp.ndarray>learned)[()]  # a scalar, as NumPy's sums return
    return grad_x, learned


cdef object backward(str name, int operation, bint of_slope, object grad, object x,
                     object parameter, object y, object out, bint in_place):
    result = at_once(name, operation, of_slope, grad, x, parameter, y, out, in_place)
    if result is not None:
        return result
    from relu_ext._sum_calls import backward as by_ufuncs  # when it is first needed
    return by_ufuncs(operation, name, grad, x, parameter, y, out)


cdef int chosen_at_zero(str name, at_zero) except -1:
    if isinstance(at_zero, REAL) and (at_zero == 0 or at_zero == 1):
        return at_zero == 1
    raise ValueError(f"{name}: expected an at_zero of None, 0 or 1, not {at_zero!r}")


def add_relu_backward(grad, output, y, /, *, out=None):
    """The gradients of a loss through `add_relu`, in one pass: of x, and of a bias or residual y.

    {sections}
    """
    return backward("add_relu_backward", RELU_BACKWARD, False, grad, output, None, y, out, False)


def add_relu_backward_(grad, output, y, /):
    """The gradients through `add_relu` in place: that of x is written over `grad`.

    {sections}
    """
    return backward("add_relu_backward_", RELU_BACKWARD, False, grad, output, None, y, None, True)


def add_leaky_relu_backward(grad, output, y, /, negative_slope=0.01, *, out=None):
    """The gradients of a loss through `add_leaky_relu`, in one pass: of x, and of a bias y.

    {sections}
    """
    return backward("add_leaky_relu_backward", LEAKY_RELU_BACKWARD, False, grad, output,
                    negative_slope, y, out, False)


def add_leaky_relu_backward_(grad, output, y, /, negative_slope=0.01):
    """The gradients through `add_leaky_relu` in place: that of x is written over `grad`.

    {sections}
    """
    return backward("add_leaky_relu_backward_", LEAKY_RELU_BACKWARD, False, grad, output,
                    negative_slope, y, None, True)


def prelu_backward(grad, x, slope, /, *, at_zero=None, out=None):
    """The gradients of PReLU, whose slope broadcasts as ONNX's, not as torch.nn.functional.prelu.

    PyTorch's weight lies along axis 1; here one slope for each channel of (N, C, H, W) is
    ``slope[:, None, None]``.  Where W equals C, a slope of shape (C,) applies along W without an
    error.  A layer whose bias and slope both learn keeps the sum z of its input and its bias, calls
    ``prelu_backward_(grad, z, slope)``, and then sums grad for the bias.

    {sections}
    """
    cdef int operation = choice_at_zero("prelu_backward", LEAKY_RELU_BACKWARD, at_zero)
    return backward("prelu_backward", operation, True, grad, x, slope, slope, out, False)


def prelu_backward_(grad, x, slope, /, *, at_zero=None):
    """The gradients of PReLU in place, whose slope broadcasts as ONNX's: `grad` is overwritten.

    {sections}
    """
    cdef int operation = choice_at_zero("prelu_backward_", LEAKY_RELU_BACKWARD, at_zero)
    return backward("prelu_backward_", operation, True, grad, x, slope, slope, None, True)


# What docstrings say of an operand.
cdef dict OPERANDS = {
    "grad": """\
grad : array_like
    The gradient with respect to the output: floating (ml_dtypes' bfloat16 included), of any
    shape.  It may be a PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain
    array; a mask is ignored.""",
    "target": """\
grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
    The gradient with respect to the output; that of x is written over it without a copy.""",
    "output": """\
output : array_like
    The output of the forward pass, of grad's shape.  The gradient at a sum of 0 is that at a
    negative one.""",
    "x": """\
x : array_like
    The input of `prelu`, of grad's shape.""",
    "y": """\
y : scalar or array_like
    What was added.  Only its shape and its floating dtype count.  Its memory is not read: it may
    have been overwritten, and a tensor may require a gradient.""",
    "slope": """\
slope : scalar or array_like
    One slope for all, for each column, for each channel or for each element.""",
    "negative_slope": """\
negative_slope : scalar or array_like, default 0.01
    The slope of the forward pass, at least 0.""",
    "at_zero": """\
at_zero : None, 0 or 1, default None
    The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.  It does not
    change the gradient of the slope.""",
    "out": """\
out : tuple of two ndarrays or tensors, optional
    Where to write the results; either may be None.  They may overlap the operands but not each
    other, and are overwritten: to accumulate, add the results to a total.  With ``out=(grad,
    buffer)`` nothing is allocated.""",
    "grad_x": """\
grad_x : ndarray, scalar or tensor
    What ``{elementwise}`` returns.""",
    "itself": """\
grad : object
    The argument itself, with what ``{elementwise}`` returns.""",
    "grad_y": """\
grad_y : ndarray, scalar or tensor
    The sum of grad_x over the axes along which y broadcasts, with the shape and the dtype of y.
    The dtype of a Python number is that of grad.  It shares no memory with grad_x, and where
    nothing is summed, it has the bits of grad_x.""",
    "grad_slope": """\
grad_slope : ndarray, scalar or tensor
    The sum of grad * x where x < 0, over the axes along which the slope broadcasts, with the shape
    and the dtype of the slope.  That of a Python number is a scalar of grad's dtype.  Where x is
    > 0 or ±0 nothing is added, whatever grad is; where x is NaN, NaN is.""",
}
cdef str SECTIONS = """\
Parameters
----------
{parameters}

Returns
-------
{returns}

Raises
------
TypeError
    If a dtype is not floating, or if `{written}` cannot be written.
ValueError
    If grad and {second} differ in shape, if {third} does not broadcast to it{choice}, or if an
    array to write is read-only, of another shape, or shares memory with the other one.
BufferError
    If a tensor requires a gradient, is sparse or lazily negated, or has a tangent.

See Also
--------
{other} : The same {where}.
{forward} : The forward pass.

Notes
-----
The terms are added in the widest dtype of grad, {third}, {second} and float32, where a product of
two float16 or bfloat16 is exact, and the sum is rounded once.  The order of adding depends only on
the shapes and on the order of the axes in memory, and the bits of the sum with it, whatever the
steps between elements, the CPU and the number of threads.  The error is at most (32 + log2 n) eps
times the sum of the terms' magnitudes, for n terms.  A sum that is NaN is the positive quiet NaN;
before it is rounded, a sum is never -0.0, and over nothing it is +0.0.

Examples
--------
>>> import numpy as np
>>> import relu_ext
>>> {second} = np.array([[-1.0, 3.0], [1.5, -2.0]])
>>> grad = np.array([[5.0, 6.0], [7.0, 8.0]])
>>> {first}, {learned} = relu_ext.{name}(grad, {second}, np.array([0.5, 0.25]))
>>> {learned}
array({sums})"""


cdef fill_docs():
    for name, operands, learned, elementwise, choice, sums in (
            ("add_relu_backward", ["output", "y"], "grad_y", "relu_backward(grad, output)", "",
             "[7., 6.]"),
            ("add_leaky_relu_backward", ["output", "y", "negative_slope"], "grad_y",
             "leaky_relu_backward(grad, output, negative_slope)", ", if a slope is negative",
             "[7.05, 6.08]"),
            ("prelu_backward", ["x", "slope", "at_zero"], "grad_slope",
             "leaky_relu_backward(grad, x, slope, at_zero=at_zero)",
             ", if `at_zero` is not None, 0 or 1", "[ -5., -16.]")):
        forward = name.removesuffix("_backward")
        for mark, other_mark, where, first, arguments, returned in (
                ("", "_", "in place", "grad_x", ["grad", *operands, "out"], "grad_x"),
                ("_", "", "out of place", "grad", ["target", *operands], "itself")):
            sections = SECTIONS.format(
                parameters="\n".join([OPERANDS[argument] for argument in arguments]),
                returns="\n".join([OPERANDS[returned].format(elementwise=elementwise),
                                   OPERANDS[learned]]),
                written="grad" if mark else "out", second=operands[0], third=operands[1],
                choice=choice, name=name + mark, other=name + other_mark, where=where,
                forward=forward + mark, first=first, learned=learned, sums=sums)
            fill_doc(globals()[name + mark], {"sections": sections})


fill_docs()
