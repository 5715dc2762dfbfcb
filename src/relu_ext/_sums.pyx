"""The backward pass of a layer with what the layer learns: gradients of biases and slopes.

A bias or a slope broadcasts in the forward pass, so that its gradient is a sum over the axes along
which it does.  A tile of the gradient is computed by the elementwise kernel, and added while it is
in the first-level cache.

Contract: the order of adding follows from the shapes and from the order of the axes in grad_x's
memory.  Take the axes that are summed, without those of length 1.  If the innermost axis of all is
one of them, then it and those that follow it without a gap make a run, and each run is cut into
pieces of RUN numbers, which are folded (_table.pxd); these sums are the rows.  If it is not, each
element is a row of its own.  The rows are numbered in the order of memory, the outermost axis
first.  FOLDED of them at a time are folded into a block, and the blocks are added in a binary
tree: the first and the second, the third and the fourth, and so on.  What lacks is +0.
"""

cimport numpy as cnp
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from libc.math cimport isinf
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from relu_ext._dispatch cimport active_table
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, is_bfloat16, native_dtype,
    new_array, remember_bfloat16,
)
from relu_ext._operand cimport Operand
from relu_ext._table cimport (
    FLOAT32, FLOAT64, FLOATS, FOLDED, LEAKY_RELU_BACKWARD, LEAKY_RELU_BACKWARD_0_AT_ZERO,
    LEAKY_RELU_BACKWARD_1_AT_ZERO, OUT, PARAMETER, RELU_BACKWARD, ROLES, RUN, A, B, AddRow,
    FoldRows, FoldRun, Kernel, Learn, Settle, Terms,
)
from relu_ext._tensors cimport is_tensor, new_result
from relu_ext._threads cimport Part, share
from relu_ext._walk cimport GIL_BYTES, MOST_AXES, SMALL_BYTES, parts_of

import numpy as np

from relu_ext._exporters import array_over, writeable_array
from relu_ext._sparse import is_sparse

cnp.import_array()

cdef extern from "_copies.h" nogil:
    enum:
        CACHE_LINE "RELU_EXT_CACHE_LINE"

cdef extern from *:
    """
    #ifdef _MSC_VER
    #define RELU_EXT_LINE_ALIGNED __declspec(align(RELU_EXT_CACHE_LINE))
    #else
    #define RELU_EXT_LINE_ALIGNED __attribute__((aligned(RELU_EXT_CACHE_LINE)))
    #endif
    #define RELU_EXT_TILE_BYTES 65536
    typedef struct { RELU_EXT_LINE_ALIGNED char bytes[RELU_EXT_TILE_BYTES]; } relu_ext_tile;
    """
    enum:
        # The terms of FOLDED rows, which stay in the second-level cache.  In place on 1000 x 1000
        # float32 (AMD EPYC, Zen 5): PReLU 213 us with 16 KiB, 126 to 147 with 32 and 131 to 135
        # with 64; a bias 120 to 128, 120 to 130 and 101 to 104.
        TILE_BYTES "RELU_EXT_TILE_BYTES"
    ctypedef struct Tile "relu_ext_tile":
        char *bytes

cdef enum:
    SUMS = ROLES  # the role of what is learned, after those of the elementwise kernel
    ARRAYS
    HALF_FOLDED = FOLDED // 2
    LARGEST_ITEM = 16
    ORDERS = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS
    # Rows that lie end to end are computed as one run, up to this size of a block of them.
    FLAT_BYTES = 65536
    SPAN_BYTES = 8192  # of a run are computed before they are added, in the first-level cache
    CELLS = 64  # runs whose sums are kept until there is a block of them
    SMALL_SCRATCH = 8192  # bytes, on the stack


# The layout.

cdef struct Axes:
    int count
    Py_ssize_t shape[MOST_AXES]
    Py_ssize_t step[ARRAYS][MOST_AXES]  # in bytes; 0 where an array broadcasts


cdef struct Job:
    Kernel kernel  # NULL: `out` is already computed
    Learn learn  # NULL: the kernel and the terms are computed one after the other
    Terms terms  # NULL: `out` itself is added
    bint before  # the terms are made of grad and x, which the kernel may overwrite
    FoldRows fold_rows
    FoldRun fold_run
    AddRow add_row
    Settle settle
    Py_ssize_t itemsize
    Py_ssize_t sum_size  # of the dtype in which the terms are added
    Py_ssize_t result_size
    char *data[ARRAYS]
    Py_ssize_t parameter_step  # as the kernels count it
    bint along  # the innermost axis is summed: a run
    bint flat  # rows lie end to end, and are computed so
    Py_ssize_t length  # of the innermost axis
    Py_ssize_t result_step  # of the innermost axis
    Axes kept  # but the innermost one
    Axes summed  # likewise
    Py_ssize_t outer  # elements of the kept axes but the innermost one
    Py_ssize_t cells  # sums
    Py_ssize_t pieces  # of a run
    Py_ssize_t rows
    Py_ssize_t blocks


cdef inline Py_ssize_t distance(Py_ssize_t step) noexcept nogil:
    return -step if step < 0 else step


cdef inline void append(Axes *axes, const Axes *source, int axis) noexcept nogil:
    cdef int role
    axes.shape[axes.count] = source.shape[axis]
    for role in range(ARRAYS):
        axes.step[role][axes.count] = source.step[role][axis]
    axes.count += 1


cdef inline Py_ssize_t size_of(const Axes *axes) noexcept nogil:
    cdef Py_ssize_t size = 1
    cdef int axis
    for axis in range(axes.count):
        size *= axes.shape[axis]
    return size


cdef bint lay(Job *job, const Operand *operands) noexcept nogil:
    """Lay out at least one element of operands that broadcast to the shape of the first one.

    Return False if the kernels cannot take the arrays as they lie, but only copies without gaps in
    the same order of axes.
    """
    cdef Axes all
    cdef bint summed[MOST_AXES]
    cdef const Operand *first = &operands[OUT]
    cdef Py_ssize_t step[ARRAYS]
    cdef Py_ssize_t length
    cdef bint is_summed, together
    cdef int axis, role, own, position
    cdef int merged = -1
    all.count = 0
    for role in range(ARRAYS):
        job.data[role] = operands[role].data
    for axis in range(first.axes - 1, -1, -1):
        length = first.shape[axis]
        if length == 1:
            continue
        for role in range(ARRAYS):
            own = operands[role].axes - first.axes + axis
            step[role] = 0
            if own >= 0 and operands[role].shape[own] != 1:
                step[role] = operands[role].strides[own] * operands[role].stride_unit
        own = operands[SUMS].axes - first.axes + axis
        is_summed = own < 0 or operands[SUMS].shape[own] == 1
        position = all.count
        while position > 0 and distance(all.step[OUT][position - 1]) > distance(step[OUT]):
            summed[position] = summed[position - 1]
            all.shape[position] = all.shape[position - 1]
            for role in range(ARRAYS):
                all.step[role][position] = all.step[role][position - 1]
            position -= 1
        summed[position] = is_summed
        all.shape[position] = length
        for role in range(ARRAYS):
            all.step[role][position] = step[role]
        all.count += 1
    if all.count == 0:
        all.count = 1
        all.shape[0] = 1
        summed[0] = False
        for role in range(ARRAYS):
            all.step[role][0] = job.itemsize
    for axis in range(all.count):
        together = merged >= 0 and summed[axis] == summed[merged]
        if together:
            for role in range(ARRAYS):
                together &= all.step[role][axis] == all.step[role][merged] * all.shape[merged]
        if together:
            all.shape[merged] *= all.shape[axis]
            continue
        merged += 1
        if merged != axis:
            summed[merged] = summed[axis]
            all.shape[merged] = all.shape[axis]
            for role in range(ARRAYS):
                all.step[role][merged] = all.step[role][axis]
    all.count = merged + 1

    job.along = summed[0]
    job.length = all.shape[0]
    job.result_step = all.step[SUMS][0]
    for role in range(PARAMETER):
        if all.step[role][0] != job.itemsize:
            return False
    if (job.along and all.count > 1 and summed[1]
            or all.step[PARAMETER][0] != 0 and all.step[PARAMETER][0] != job.itemsize):
        return False
    job.parameter_step = all.step[PARAMETER][0] != 0
    job.kept.count = job.summed.count = 0
    for axis in range(1, all.count):
        append(&job.summed if summed[axis] else &job.kept, &all, axis)
    job.outer = size_of(&job.kept)
    job.cells = job.outer if job.along else job.outer * job.length
    job.pieces = (job.length + RUN - 1) // RUN if job.along else 1
    job.rows = size_of(&job.summed) * job.pieces
    job.blocks = (job.rows + FOLDED - 1) // FOLDED
    if job.summed.count > 1 and not job.along:
        job.learn = NULL  # which takes rows at equal distances
    job.flat = (
        job.kernel != NULL and not job.along and not job.before and job.summed.count == 1
        and job.kept.count == 0 and job.parameter_step == 0
        and job.length * job.itemsize * FOLDED <= FLAT_BYTES)
    if job.flat:
        job.flat = job.summed.step[PARAMETER][0] == 0
        for role in range(PARAMETER):
            job.flat &= job.summed.step[role][0] == job.length * job.itemsize
    return True


cdef inline void move_along(const Axes *axes, Py_ssize_t number, char **at) noexcept nogil:
    """Move the pointers from the first element of the axes to the one of this number."""
    cdef Py_ssize_t position
    cdef int axis, role
    for axis in range(axes.count):
        if number == 0:
            return
        position = number % axes.shape[axis] if axis < axes.count - 1 else number
        number //= axes.shape[axis]
        for role in range(ROLES):
            at[role] += position * axes.step[role][axis]


# Tiles.

cdef inline void compute(const Job *job, char **at, Py_ssize_t n) noexcept nogil:
    """Compute n elements that are contiguous in every array.

    First come those up to the next cache line, so that no later store crosses a line.
    """
    cdef Py_ssize_t head, step
    cdef char *rest[ROLES]
    cdef int role
    if n * job.itemsize > SMALL_BYTES:
        head = -<uintptr_t>at[OUT] % CACHE_LINE
        if head != 0 and head % job.itemsize == 0:
            head = head // job.itemsize
            job.kernel(at[OUT], at[A], at[B], at[PARAMETER], job.parameter_step, head, 1, NULL)
            for role in range(ROLES):
                step = job.itemsize if role != PARAMETER or job.parameter_step else 0
                rest[role] = at[role] + head * step
            job.kernel(rest[OUT], rest[A], rest[B], rest[PARAMETER], job.parameter_step, n - head,
                       1, NULL)
            return
    job.kernel(at[OUT], at[A], at[B], at[PARAMETER], job.parameter_step, n, 1, NULL)


cdef void compute_rows(const Job *job, char **start, Py_ssize_t columns, Py_ssize_t rows,
                       const Py_ssize_t *steps) noexcept nogil:
    cdef char *at[ROLES]
    cdef int role
    cdef Py_ssize_t _
    if columns * job.itemsize <= SMALL_BYTES:
        job.kernel(start[OUT], start[A], start[B], start[PARAMETER], job.parameter_step, columns,
                   rows, steps)
        return
    for role in range(ROLES):
        at[role] = start[role]
    for _ in range(rows):
        compute(job, at, columns)
        for role in range(ROLES):
            at[role] += steps[role]


cdef inline void add_blocks(const Job *job, char *slots, Py_ssize_t number, Py_ssize_t first,
                            Py_ssize_t n) noexcept nogil:
    """Add to a block, which lies in the slot of its level, the blocks that end where it begins.

    A binary counter: slot i holds the sum of 2**i blocks where bit i of the number is set.
    """
    cdef Py_ssize_t level = 0
    cdef Py_ssize_t slot = job.cells * job.sum_size
    cdef char *block
    cdef Py_ssize_t i
    while number >> level & 1:
        level += 1
    block = slots + level * slot + first * job.sum_size
    for i in range(level):
        job.add_row(block, slots + i * slot + first * job.sum_size, n)


cdef inline char *slot_of(const Job *job, char *slots, Py_ssize_t number) noexcept nogil:
    """Where the block of this number goes: the first slot that the blocks before it left free."""
    while number & 1:
        slots += job.cells * job.sum_size
        number >>= 1
    return slots


cdef void add_tile(const Job *job, char **start, Py_ssize_t first_row, Py_ssize_t rows,
                   Py_ssize_t columns, char *sums, bint computed) noexcept nogil:
    """Compute and fold up to FOLDED rows of a tile, whose first row is at `start` plus what the
    number of that row adds."""
    cdef Tile terms
    cdef char *at[ROLES]
    cdef Py_ssize_t steps[ROLES]
    cdef Py_ssize_t width = columns * job.sum_size
    cdef Py_ssize_t row = 0
    cdef Py_ssize_t count, i
    cdef int role
    # One stretch of rows at equal distances, or several of them.
    cdef Py_ssize_t stretch = job.summed.shape[0] if job.summed.count else 1
    cdef bint scattered = (first_row % stretch) + rows > stretch
    for role in range(ROLES):
        steps[role] = job.summed.step[role][0] if job.summed.count else 0
    if job.learn != NULL:
        for role in range(ROLES):
            at[role] = start[role]
        move_along(&job.summed, first_row, at)
        job.learn(terms.bytes, at[OUT], at[A], at[B], at[PARAMETER], job.parameter_step, columns,
                  rows, steps)
        job.fold_rows(sums, terms.bytes, width, min(rows, <Py_ssize_t>HALF_FOLDED), columns)
        return
    while row < rows:
        count = min(rows - row, stretch - (first_row + row) % stretch)
        for role in range(ROLES):
            at[role] = start[role]
        move_along(&job.summed, first_row + row, at)
        if job.before:
            for i in range(count):
                job.terms(terms.bytes + (row + i) * width, at[A] + i * steps[A],
                          at[B] + i * steps[B], columns)
        if not computed:
            compute_rows(job, at, columns, count, steps)
        if job.before:
            pass
        elif job.terms != NULL:
            for i in range(count):
                job.terms(terms.bytes + (row + i) * width, at[OUT] + i * steps[OUT], NULL, columns)
        elif scattered:
            for i in range(count):
                memcpy(terms.bytes + (row + i) * width, at[OUT] + i * steps[OUT], width)
        else:
            job.fold_rows(sums, at[OUT], steps[OUT], rows, columns)
            return
        row += count
    job.fold_rows(sums, terms.bytes, width, rows, columns)


cdef void add_columns(const Job *job, char *slots, Py_ssize_t number, Py_ssize_t first_row,
                      Py_ssize_t rows, Py_ssize_t first, Py_ssize_t last, Py_ssize_t *computed,
                      Py_ssize_t end) noexcept nogil:
    """Add a block of rows in the columns from `first` to `last`.  Where rows are computed end to
    end, `computed` counts the elements that are done, and `end` those that may be."""
    cdef char *at[ROLES]
    cdef char *slot = slot_of(job, slots, number)
    cdef Py_ssize_t most = (
        TILE_BYTES // job.sum_size // (FOLDED if job.learn == NULL else HALF_FOLDED))
    cdef Py_ssize_t column, columns, ready, cell, i
    cdef int role
    if job.flat:
        # Whole cache lines, also where a block ends within one.
        ready = (first_row + rows) * job.length
        ready += -<uintptr_t>(job.data[OUT] + ready * job.itemsize) % CACHE_LINE // job.itemsize
        ready = min(ready, end)
        for role in range(PARAMETER):
            at[role] = job.data[role] + computed[0] * job.itemsize
        at[PARAMETER] = job.data[PARAMETER]
        compute(job, at, ready - computed[0])
        computed[0] = ready
    if job.terms == NULL and (job.flat or job.kernel == NULL and job.summed.count <= 1):
        most = last  # There is no tile.
    for i in range(job.outer):
        column = first
        while column < last:
            columns = min(most, last - column)
            for role in range(ROLES):
                at[role] = job.data[role] + column * job.itemsize
            if job.parameter_step == 0:
                at[PARAMETER] = job.data[PARAMETER]
            move_along(&job.kept, i, at)
            cell = i * job.length + column
            add_tile(job, at, first_row, rows, columns, slot + cell * job.sum_size,
                     job.flat or job.kernel == NULL)
            add_blocks(job, slots, number, cell, columns)
            column += columns


cdef void add_run(const Job *job, char **at, Py_ssize_t n, char *sums,
                  Py_ssize_t step) noexcept nogil:
    """Compute a part of a run and fold each of its pieces into a sum."""
    cdef Tile terms
    cdef Py_ssize_t span, start, count
    cdef int role
    while n > 0:
        span = min(n, max(<Py_ssize_t>RUN, SPAN_BYTES // job.itemsize))
        if job.kernel != NULL and not job.before:
            compute(job, at, span)
        start = 0
        while start < span:
            count = min(span - start, <Py_ssize_t>RUN)
            if job.learn != NULL:
                job.learn(terms.bytes, at[OUT] + start * job.itemsize,
                          at[A] + start * job.itemsize, at[B] + start * job.itemsize,
                          at[PARAMETER] + start * job.parameter_step * job.itemsize,
                          job.parameter_step, count, 1, NULL)
                job.fold_run(sums, terms.bytes, count)
            elif job.terms != NULL:
                job.terms(terms.bytes, at[A if job.before else OUT] + start * job.itemsize,
                          at[B] + start * job.itemsize, count)
                job.fold_run(sums, terms.bytes, count)
            else:
                job.fold_run(sums, at[OUT] + start * job.itemsize, count)
            sums += step
            start += count
        if job.before and job.learn == NULL:
            compute(job, at, span)
        for role in range(ROLES):
            if role != PARAMETER or job.parameter_step:
                at[role] += span * job.itemsize
        n -= span


cdef void add_runs(const Job *job, char *slots, Py_ssize_t number, Py_ssize_t first_row,
                   Py_ssize_t rows, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Add a block of pieces of runs to the sums from `first` to `last`."""
    cdef char sums[FOLDED * CELLS * LARGEST_ITEM]
    cdef char *at[ROLES]
    cdef char *slot = slot_of(job, slots, number)
    cdef Py_ssize_t cell, cells, row, piece, pieces, i
    cdef int role
    cell = first
    while cell < last:
        cells = min(<Py_ssize_t>CELLS, last - cell)
        row = first_row
        while row < first_row + rows:
            piece = row % job.pieces
            pieces = min(job.pieces - piece, first_row + rows - row)
            for i in range(cells):
                for role in range(ROLES):
                    at[role] = job.data[role]
                    if role != PARAMETER or job.parameter_step:
                        at[role] += piece * RUN * job.itemsize
                move_along(&job.summed, row // job.pieces, at)
                move_along(&job.kept, cell + i, at)
                add_run(job, at, min(job.length - piece * RUN, pieces * RUN),
                        sums + ((row - first_row) * cells + i) * job.sum_size,
                        cells * job.sum_size)
            row += pieces
        job.fold_rows(slot + cell * job.sum_size, sums, cells * job.sum_size, rows, cells)
        add_blocks(job, slots, number, cell, cells)
        cell += cells


# The whole.

cdef char *add_all(const Job *job, char *slots, Py_ssize_t first_block, Py_ssize_t blocks,
                   Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Compute and add some blocks: the columns from `first` to `last`, or of runs these sums.
    Return the slot that holds the sums."""
    cdef Py_ssize_t computed = first_block * FOLDED * job.length
    cdef Py_ssize_t end = min((first_block + blocks) * FOLDED, job.rows) * job.length
    cdef Py_ssize_t slot = job.cells * job.sum_size
    cdef Py_ssize_t number, row, rows, i
    cdef char *lower = NULL
    for number in range(blocks):
        row = (first_block + number) * FOLDED
        rows = min(<Py_ssize_t>FOLDED, job.rows - row)
        if job.along:
            add_runs(job, slots, number, row, rows, first, last)
        else:
            add_columns(job, slots, number, row, rows, first, last, &computed, end)
    while blocks:
        if blocks & 1:
            if lower != NULL:
                for i in range(1 if job.along else job.outer):
                    job.add_row(slots + (i * job.length + first) * job.sum_size,
                                lower + (i * job.length + first) * job.sum_size, last - first)
            lower = slots
        slots += slot
        blocks >>= 1
    return lower


cdef struct Parts:
    # How threads share a job: units of blocks whose size does not depend on the number of threads
    # in what they add up to, or, if there is one unit, columns or sums.
    const Job *job
    char *slots  # of each thread, or of all
    char *units  # the sums of each unit
    Py_ssize_t unit  # in blocks, a power of two
    int levels


cdef void add_part(const Parts *this, int part, int parts) noexcept nogil:
    cdef const Job *job = this.job
    cdef Py_ssize_t slot = job.cells * job.sum_size
    cdef Py_ssize_t units = (job.blocks + this.unit - 1) // this.unit
    cdef Py_ssize_t last = job.cells if job.along else job.length
    cdef Py_ssize_t some = (last + parts - 1) // parts
    cdef Py_ssize_t unit
    cdef char *slots = this.slots
    if units == 1:
        if part * some < last:
            add_all(job, slots, 0, job.blocks, part * some, min(last, (part + 1) * some))
        return
    slots += part * this.levels * slot
    for unit in range(units * part // parts, units * (part + 1) // parts):
        memcpy(this.units + unit * slot,
               add_all(job, slots, unit * this.unit,
                       min(this.unit, job.blocks - unit * this.unit), 0, last), slot)


cdef inline int levels_of(Py_ssize_t blocks) noexcept nogil:
    cdef int levels = 0
    while blocks:
        levels += 1
        blocks >>= 1
    return levels


cdef void deliver(const Job *job, const char *sums) noexcept nogil:
    """Write the sums, in their own dtype, to the array of the result."""
    cdef char settled[SPAN_BYTES]
    cdef char *at[ARRAYS]
    cdef Py_ssize_t columns = 1 if job.along else job.length
    cdef Py_ssize_t step = columns * job.result_size
    cdef Py_ssize_t most = SPAN_BYTES // LARGEST_ITEM
    cdef bint dense = columns == 1 or job.result_step == job.result_size
    cdef Py_ssize_t i, column, count, number, position
    cdef int axis
    for axis in range(job.kept.count):
        dense &= job.kept.step[SUMS][axis] == step
        step *= job.kept.shape[axis]
    if dense:
        job.settle(job.data[SUMS], sums, job.cells)
        return
    for i in range(job.outer):
        at[SUMS] = job.data[SUMS]
        number = i
        for axis in range(job.kept.count):
            position = number % job.kept.shape[axis]
            number //= job.kept.shape[axis]
            at[SUMS] += position * job.kept.step[SUMS][axis]
        column = 0
        while column < columns:
            count = min(most, columns - column)
            job.settle(settled, sums + (i * columns + column) * job.sum_size, count)
            active_table.copy(at[SUMS] + column * job.result_step, job.result_step, 0, settled,
                              job.result_size, 0, count, 1, job.result_size)
            column += count


cdef void compute_twice(const Job *job) noexcept nogil:
    """Nothing is summed: the result is a copy of what is computed."""
    cdef char *at[ARRAYS]
    cdef Py_ssize_t number, position, i
    cdef int axis, role
    for i in range(job.outer):
        for role in range(ARRAYS):
            at[role] = job.data[role]
        move_along(&job.kept, i, at)
        number = i
        for axis in range(job.kept.count):
            position = number % job.kept.shape[axis]
            number //= job.kept.shape[axis]
            at[SUMS] += position * job.kept.step[SUMS][axis]
        compute(job, at, job.length)
        active_table.copy(at[SUMS], job.result_step, 0, at[OUT], job.itemsize, 0, job.length, 1,
                          job.itemsize)


cdef bint perform(Job *job) noexcept nogil:
    """Compute everything.  Return False, with nothing written, if there is no memory for sums."""
    cdef char small[SMALL_SCRATCH]
    cdef Py_ssize_t slot = job.cells * job.sum_size
    cdef Py_ssize_t bytes = job.rows * job.cells * job.itemsize
    cdef Py_ssize_t units, step, i
    cdef Parts this
    cdef int parts, threads
    if job.rows == 1 and not job.along and not job.before and job.kernel != NULL:
        compute_twice(job)
        return True
    if job.along:
        bytes = bytes // job.pieces * job.length
    threads = parts = parts_of(bytes)
    this.job = job
    this.unit = job.blocks
    if parts > 1 and job.blocks >= 2 * parts:
        # Several units for each thread, so that none of them has much less to do.
        this.unit = 1
        while job.blocks // (2 * this.unit) >= 4 * parts:
            this.unit *= 2
    units = (job.blocks + this.unit - 1) // this.unit
    this.levels = levels_of(this.unit)
    if units == 1:
        threads = 1
        job.flat &= parts == 1  # Threads that share rows compute their own columns.
    bytes = ((threads * this.levels) + (units if units > 1 else 0)) * slot
    this.slots = small
    if bytes > SMALL_SCRATCH:
        this.slots = <char *>malloc(bytes)
        if this.slots == NULL:
            return False
    this.units = this.slots + threads * this.levels * slot
    if parts > 1:
        share(<Part>add_part, &this, parts)
    else:
        add_part(&this, 0, 1)
    if units == 1:
        deliver(job, this.slots + (this.levels - 1) * slot)
    else:
        step = 1
        while step < units:
            i = 0
            while i + step < units:
                job.add_row(this.units + i * slot, this.units + (i + step) * slot, job.cells)
                i += 2 * step
            step *= 2
        deliver(job, this.units)
    if this.slots != small:
        free(this.slots)
    return True


# The calls.

cdef struct Call:
    # What a function computes, whatever its operands are.
    const char *name
    int operation
    bint of_slope  # what is learned is the slope
    int at_zero  # as in the table


ctypedef union Number:
    float float32
    double float64
    char bytes[LARGEST_ITEM]


cdef extern from "numpy/ndarrayobject.h":
    int PyArray_Pack(PyArray_Descr *, void *, object) except -1


cdef inline int float_dtype(object x) noexcept:
    """The kernels' dtype for an exact ndarray of floats, -1 for anything else."""
    cdef int dtype
    if not cnp.PyArray_CheckExact(x):
        return -1
    dtype = native_dtype(PyArray_DESCR(<PyArrayObject *>x))
    return dtype if dtype < FLOATS else -1


cdef inline bint is_like(object x, object other) noexcept:
    """Whether two exact ndarrays have one shape and one dtype."""
    return (cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.PyArray_TYPE(<cnp.ndarray>other)
            and cnp.PyArray_SAMESHAPE(<cnp.ndarray>x, <cnp.ndarray>other))


cdef inline bint is_contiguous(object x) noexcept:
    return cnp.PyArray_FLAGS(<cnp.ndarray>x) & ORDERS


cdef inline bint is_writeable(object x) noexcept:
    return cnp.PyArray_FLAGS(<cnp.ndarray>x) & cnp.NPY_ARRAY_WRITEABLE


cdef inline bint is_apart(object x, object other) noexcept:
    """Whether two arrays share no memory; those that are not contiguous may, says False."""
    cdef char *first = <char *>cnp.PyArray_DATA(<cnp.ndarray>x)
    cdef char *second = <char *>cnp.PyArray_DATA(<cnp.ndarray>other)
    return (is_contiguous(x) and is_contiguous(other)
            and (first + cnp.PyArray_NBYTES(<cnp.ndarray>x) <= second
                 or second + cnp.PyArray_NBYTES(<cnp.ndarray>other) <= first))


cdef inline bint is_same_or_apart(object x, object other) noexcept:
    return is_apart(x, other) or (
        cnp.PyArray_DATA(<cnp.ndarray>x) == cnp.PyArray_DATA(<cnp.ndarray>other)
        and is_contiguous(x) and is_contiguous(other)
        and (cnp.PyArray_NDIM(<cnp.ndarray>x) == 0  # whose strides are NULL
             or memcmp(cnp.PyArray_STRIDES(<cnp.ndarray>x),
                       cnp.PyArray_STRIDES(<cnp.ndarray>other),
                       cnp.PyArray_NDIM(<cnp.ndarray>x) * sizeof(cnp.npy_intp)) == 0))


cdef bint broadcasts(object y, object x) noexcept:
    """Whether y broadcasts to the shape of x."""
    cdef int lacking = cnp.PyArray_NDIM(<cnp.ndarray>x) - cnp.PyArray_NDIM(<cnp.ndarray>y)
    cdef Py_ssize_t length
    cdef int axis
    if lacking < 0:
        return False
    for axis in range(cnp.PyArray_NDIM(<cnp.ndarray>y)):
        length = cnp.PyArray_DIM(<cnp.ndarray>y, axis)
        if length != 1 and length != cnp.PyArray_DIM(<cnp.ndarray>x, lacking + axis):
            return False
    return True


cdef inline int summing_dtype(int dtype) noexcept nogil:
    return max(dtype, <int>FLOAT32)


cdef inline bint pack(object value, int dtype, object x, Number *number) except -1:
    """Write a Python float in the dtype of x.  Return False for one that is out of range there,
    and for anything else, which may promote."""
    cdef double real
    if not PyFloat_CheckExact(value):
        return False
    real = PyFloat_AS_DOUBLE(value)
    if dtype == FLOAT32:
        number.float32 = <float>real
        return not isinf(number.float32) or isinf(real)
    if dtype == FLOAT64:
        number.float64 = real
        return True
    return False


cdef int run(const Call *call, int dtype, int result_dtype, object grad_x, object grad, object x,
             object parameter, Number *number, object learned) except -1:
    """Compute on exact ndarrays that suit each other.  Return 1, or 0 with nothing written if the
    kernels cannot take them as they lie."""
    cdef Job job
    cdef Operand operands[ARRAYS]
    cdef bint done
    job.itemsize = active_table.itemsize[dtype]
    job.sum_size = active_table.itemsize[summing_dtype(dtype)]
    job.result_size = active_table.itemsize[result_dtype]
    job.kernel = NULL
    if call != NULL:
        job.kernel = active_table.kernel[call.operation][dtype]
    job.before = call != NULL and call.of_slope
    job.terms = active_table.gradient_terms[dtype]
    job.learn = NULL
    if job.before:
        job.terms = active_table.slope_terms[dtype]
        job.learn = active_table.learn[call.at_zero][dtype]
    job.fold_rows = active_table.fold_rows[summing_dtype(dtype)]
    job.fold_run = active_table.fold_run[summing_dtype(dtype)]
    job.add_row = active_table.add_row[summing_dtype(dtype)]
    job.settle = active_table.settle[result_dtype]
    # From here on nothing runs Python until all is computed.
    describe_ndarray(grad_x, dtype, &operands[OUT])
    describe_ndarray(grad, dtype, &operands[A])
    describe_ndarray(x, dtype, &operands[B])
    describe_ndarray(learned, result_dtype, &operands[SUMS])
    if parameter is None:
        operands[PARAMETER].data = <char *>number
        operands[PARAMETER].axes = 0
    else:
        describe_ndarray(parameter, dtype, &operands[PARAMETER])
    if cnp.PyArray_SIZE(<cnp.ndarray>grad_x) == 0:
        return fill_empty(learned)
    if not lay(&job, operands):
        return 0
    if cnp.PyArray_NBYTES(<cnp.ndarray>grad_x) < GIL_BYTES:
        done = perform(&job)
    else:
        with nogil:
            done = perform(&job)
    if not done:
        raise MemoryError
    return 1


cdef int fill_empty(learned) except -1:
    """A sum over nothing is +0."""
    learned.fill(0)
    return 1


cdef object at_once(const Call *call, object grad, object x, object parameter, object y,
                    object out, bint in_place):
    """Compute on arrays that need no preparation.  Return None, with nothing written, for others.

    `parameter` is a slope, or None where there is none; y is what is learned, if it is an array.
    """
    cdef Number number
    cdef int dtype = float_dtype(grad)
    cdef int result_dtype = dtype
    cdef cnp.ndarray like = None  # what is learned
    cdef object array = None
    cdef bint is_new = False
    if (dtype < 0 or not cnp.PyArray_CheckExact(x) or not is_like(grad, x)
            or not cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>x)
            or not is_contiguous(grad) or not is_contiguous(x)
            or cnp.PyArray_NDIM(<cnp.ndarray>grad) == 0):
        return None
    if cnp.PyArray_CheckExact(y):
        like = <cnp.ndarray>y
        result_dtype = float_dtype(like)
        if (result_dtype < 0 or summing_dtype(result_dtype) != summing_dtype(dtype)
                or not broadcasts(like, grad)
                or not call.of_slope and result_dtype != dtype
                and cnp.PyArray_SIZE(like) == cnp.PyArray_SIZE(<cnp.ndarray>grad)):
            return None
    elif y is not parameter or not call.of_slope:
        return None
    if parameter is None:
        if call.of_slope:
            return None
        memset(&number, 0, sizeof(number))
    elif cnp.PyArray_CheckExact(parameter):
        if float_dtype(parameter) != dtype or not call.of_slope:
            return None
        array = parameter
    elif not pack(parameter, dtype, grad, &number):
        return None
    grad_x = grad if in_place else None
    learned = None
    if out is not None:
        if type(out) is not tuple or len(<tuple>out) != 2:
            return None
        grad_x, learned = <tuple>out
    if grad_x is None:
        grad_x = new_array(
            PyArray_DESCR(<PyArrayObject *>grad), cnp.PyArray_NDIM(<cnp.ndarray>grad),
            <const Py_ssize_t *>cnp.PyArray_DIMS(<cnp.ndarray>grad), NULL,
            not cnp.PyArray_FLAGS(<cnp.ndarray>grad) & cnp.NPY_ARRAY_C_CONTIGUOUS)
    elif not (float_dtype(grad_x) == dtype and is_like(grad_x, grad) and is_writeable(grad_x)
              and (grad_x is grad or is_same_or_apart(grad_x, grad))
              and is_same_or_apart(grad_x, x)
              and (array is None or is_apart(grad_x, array))):
        return None
    if learned is None:
        learned = new_array(
            PyArray_DESCR(<PyArrayObject *>(grad if like is None else like)),
            0 if like is None else cnp.PyArray_NDIM(like),
            <const Py_ssize_t *>(NULL if like is None else cnp.PyArray_DIMS(like)), NULL, False)
        is_new = True
    elif not (float_dtype(learned) == result_dtype and is_writeable(learned)
              and (cnp.PyArray_NDIM(<cnp.ndarray>learned) == 0 if like is None
                   else cnp.PyArray_SAMESHAPE(<cnp.ndarray>learned, like))
              and is_apart(learned, grad_x)
              and (call.of_slope or is_apart(learned, grad) and is_apart(learned, x))):
        return None
    if not run(call, dtype, result_dtype, grad_x, grad, x, array, &number, learned):
        return None
    if is_new and cnp.PyArray_NDIM(<cnp.ndarray>learned) == 0:
        learned = (<cnp.ndarray>learned)[()]  # a scalar, as NumPy's sums return
    return grad_x, learned


# Every other call: other dtypes, layouts and kinds of arrays, overlapping operands, errors.

cdef object as_array(str name, str argument, x):
    """Return an exact ndarray of floats in the machine's byte order: over the memory of a tensor,
    or what NumPy makes of another object."""
    if is_sparse(x):
        raise TypeError(f"{name}: {argument} is sparse; use x.toarray()")
    array = np.asarray(array_over(name, x) if is_tensor(x) else x)
    check_dtype(name, argument, array.dtype)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array


cdef int check_dtype(str name, str argument, dtype) except -1:
    if not (dtype.kind == "f" or is_bfloat16(dtype)):
        raise TypeError(f"{name}: dtype {dtype.type.__name__} of {argument} is not supported; "
                        f"use a floating dtype")
    if is_bfloat16(dtype):
        remember_bfloat16(dtype)
    return 0


cdef object likeness(str name, str argument, y):
    """Return an exact ndarray with the shape and the dtype of y, whose memory will not be read."""
    if is_tensor(y):
        empty = y.detach().new_empty(0)
        return np.broadcast_to(np.empty((), as_array(name, argument, empty).dtype), tuple(y.shape))
    return as_array(name, argument, y)


cdef inline bint is_number(x) except -1:
    """Whether x is a Python number, which takes the dtype of an array."""
    return isinstance(x, (int, float)) and not isinstance(x, (np.generic, bool))


cdef object common_dtype(str name, arrays):
    try:
        return np.result_type(*arrays)
    except TypeError:
        names = ", ".join([array.dtype.type.__name__ for array in arrays])
        raise TypeError(f"{name}: dtypes {names} have no common dtype; convert one") from None


cdef object number_array(str name, str argument, value, dtype):
    """A Python number as an array of a dtype; one that is out of range is infinite there."""
    try:
        return np.asarray(float(value)).astype(dtype)
    except OverflowError:
        raise OverflowError(f"{name}: {argument} is out of range") from None


cdef object checked_out(str name, out, int position, tuple shape, dtype, bint whole):
    """Return an exact ndarray over the memory of `out`, or None if `out` is None."""
    cdef str which = f"out[{position}]"
    if out is None:
        return None
    if is_tensor(out):
        array = writeable_array(name, out)
    elif not cnp.PyArray_Check(out):  # not isinstance, which believes what an object says it is
        raise TypeError(f"{name}: {which} is a {type(out).__name__}, neither ndarray nor tensor")
    else:
        array = np.asarray(out)
    if array.shape != shape:
        raise ValueError(f"{name}: expected {which} of shape {shape}, not {array.shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name}: {which} is read-only")
    # NumPy also allows a cast of a number to text and to any structure.
    if (not np.can_cast(dtype, array.dtype, "same_kind") or array.dtype.kind in "SUmMO"
            or array.dtype.kind == "V" and not is_bfloat16(array.dtype)):
        raise TypeError(f"{name}: {which} of dtype {array.dtype} does not hold {dtype}")
    return array


cdef object narrowed(sums, dtype):
    """Round sums to a dtype once, whatever lies in between.

    NumPy rounds a longdouble to float64 on the way to float16, and ml_dtypes a float64 to float32
    on the way to bfloat16.  Rounded to odd there, a number is no tie that was none before.
    """
    if is_bfloat16(dtype) and sums.dtype.itemsize > 4:
        if sums.dtype.itemsize > 8:
            sums = rounded_to_odd(sums, np.float64, np.int64)
        sums = rounded_to_odd(sums, np.float32, np.int32)
    elif dtype == np.float16 and sums.dtype.itemsize > 8:
        sums = rounded_to_odd(sums, np.float64, np.int64)
    return sums.astype(dtype, copy=False)


cdef object rounded_to_odd(sums, dtype, integer):
    """Round towards 0 and set the last bit, where a number is not exact in a dtype."""
    rounded = sums.astype(dtype, order="C")
    bits = rounded.view(integer)
    wrong = (rounded != sums) & (sums == sums)
    bits = np.where(wrong, (bits - (abs(rounded.astype(sums.dtype)) > abs(sums))) | 1, bits)
    return bits.astype(integer).view(dtype)


cdef bint is_read_safely(array, target) except -1:
    """Whether an input may be read while `target` is written: it is the same array, or apart."""
    if not np.may_share_memory(array, target):
        return True
    return (cnp.PyArray_DATA(<cnp.ndarray>array) == cnp.PyArray_DATA(<cnp.ndarray>target)
            and array.strides == target.strides and array.shape == target.shape)


cdef bint overlaps_itself(array) except -1:
    """Whether two elements of an array may share memory."""
    extent = array.itemsize
    for step, length in sorted((abs(step), length)
                               for step, length in zip(array.strides, array.shape) if length > 1):
        if step < extent:
            return True
        extent += step * (length - 1)
    return False


cdef int run_any(const Call *call, object grad_x, object grad, object x, object parameter,
                 object learned) except -1:
    """Compute on arrays of one dtype, of any layout; grad_x is neither partly an input nor does it
    overlap itself."""
    cdef Number number
    cdef int dtype = float_dtype(grad_x)
    memset(&number, 0, sizeof(number))
    if parameter is not None and parameter.ndim == 0:
        parameter = parameter.copy()
    if run(call, dtype, float_dtype(learned), grad_x, grad, x, parameter, &number, learned):
        return 0
    dense = np.empty_like(grad_x)
    grad_copy, x_copy = np.empty_like(dense), np.empty_like(dense)
    np.copyto(grad_copy, grad)
    np.copyto(x_copy, x)
    if parameter is not None and parameter.ndim:
        whole = np.empty_like(dense)
        np.copyto(whole, parameter)
        parameter = whole
    if not run(call, dtype, float_dtype(learned), dense, grad_copy, x_copy, parameter, &number,
               learned):
        raise SystemError("the sums were not laid out")
    if grad_x is not grad or call != NULL:
        np.copyto(grad_x, dense)
    return 0


cdef tuple pair_of(str name, out):
    """The two arrays of `out`, each of which may be None."""
    if out is None:
        return None, None
    if not isinstance(out, tuple):
        raise TypeError(f"{name}: out is a {type(out).__name__}, not a tuple of two arrays")
    if len(out) != 2:
        raise ValueError(f"{name}: expected 2 arrays in out, not {len(out)}")
    return out


cdef object compute_any(const Call *call, object grad, object x, object parameter, object y,
                        object out, bint in_place):
    with np.errstate(all="ignore"):
        return compute_quietly(call, grad, x, parameter, y, out, in_place)


cdef tuple compute_quietly(const Call *call, object grad, object x, object parameter, object y,
                           object out, bint in_place):
    cdef str name = call.name.decode() + ("_" if in_place else "")
    cdef str second = "x" if call.of_slope else "output"
    cdef str third = "slope" if call.of_slope else "y"
    cdef bint whole, direct
    cdef tuple operands = (grad, x, y)
    grad_out, learned_out = (grad, None) if in_place else pair_of(name, out)
    target = None
    if in_place:
        if is_sparse(grad):
            raise TypeError(f"{name}: grad is sparse; use x.toarray()")
        target = np.asarray(writeable_array(name, grad))
    grad_array = as_array(name, "grad", grad if target is None else target)
    x_array = as_array(name, second, x)
    arrays = [grad_array, x_array]
    if is_number(y):
        like = np.broadcast_to(np.empty((), grad_array.dtype), ())
    else:
        like = likeness(name, third, y)
        if call.of_slope:
            like = as_array(name, third, y)
    if parameter is not None and not is_number(parameter):
        parameter = like if call.of_slope else as_array(name, "negative_slope", parameter)
        arrays.append(parameter)
    dtype = common_dtype(name, arrays)
    check_dtype(name, "the operands", dtype)
    if parameter is not None:
        if is_number(parameter):
            parameter = number_array(name, "slope" if call.of_slope else "negative_slope",
                                     parameter, dtype)
        parameter = parameter.astype(dtype, copy=False)

    if grad_array.shape != x_array.shape:
        raise ValueError(f"{name}: grad of shape {grad_array.shape} and {second} of shape "
                         f"{x_array.shape} differ")
    if not broadcasts(like, grad_array):
        raise ValueError(f"{name}: {third} of shape {like.shape} does not broadcast to the shape "
                         f"{grad_array.shape} of grad")
    if parameter is not None and not call.of_slope:
        if not broadcasts(parameter, grad_array):
            raise ValueError(f"{name}: negative_slope of shape {parameter.shape} does not "
                             f"broadcast to the shape {grad_array.shape} of grad")
        check_slope(name, parameter)
    if in_place:
        if not np.can_cast(dtype, target.dtype, "same_kind"):
            raise TypeError(f"{name}: grad of dtype {target.dtype} does not hold {dtype}")
    else:
        target = checked_out(name, grad_out, 0, grad_array.shape, dtype, True)
    learned_target = checked_out(name, learned_out, 1, like.shape, like.dtype, True)
    if target is not None and learned_target is not None and shares(target, learned_target):
        raise ValueError(f"{name}: out[0] and out[1] share memory")

    direct = target is not None and target.dtype == dtype and not overlaps_itself(target)
    for array in (grad_array, x_array):
        direct = direct and is_read_safely(array, target)
    if direct and parameter is not None:
        direct = not np.may_share_memory(parameter, target)
    grad_x = target
    if not direct:
        grad_x = np.empty_like(grad_array if target is None else target, dtype, subok=False)
    final = grad_x.dtype if target is None else target.dtype
    common = common_dtype(name, [np.empty(0, np.float32), np.empty(0, dtype)])
    if not call.of_slope:
        common = common_dtype(name, [np.empty(0, d) for d in (
            final, grad_array.dtype, like.dtype, np.float32)])
    once = call.of_slope or final == dtype and summing_dtype(
        native_dtype(<PyArray_Descr *>dtype)) == native_dtype(<PyArray_Descr *>common)
    whole = not call.of_slope and like.size == grad_array.size
    learned = np.empty(like.shape, common)
    if once and summing_dtype(native_dtype(<PyArray_Descr *>like.dtype)) == native_dtype(
            <PyArray_Descr *>common) and not whole:
        learned = np.empty(like.shape, like.dtype.newbyteorder("="))
    run_any(call, grad_x, grad_array.astype(dtype, copy=False), x_array.astype(dtype, copy=False),
            parameter, learned if once and not whole else np.empty(
                like.shape, np.float32 if dtype.itemsize < 4 else dtype))
    if target is not None and not direct:
        np.copyto(target, grad_x, casting="unsafe")
    if whole:
        learned = narrowed((grad_x if target is None else target).reshape(like.shape), like.dtype)
        if learned.base is not None or learned is grad_x or learned is target:
            learned = learned.copy()
    elif not once:
        values = (grad_x if target is None else target).astype(common)
        run_any(NULL, values, values, values, None, learned)
    learned = narrowed(learned, like.dtype)
    if learned_target is not None:
        np.copyto(learned_target, learned, casting="unsafe")
    return (finished(grad_x, grad_out, operands, any(map(is_tensor, operands))),
            finished(learned, learned_out, operands, is_tensor(y)))


cdef object finished(result, out, tuple operands, bint as_tensor):
    """What the caller gets: `out`, or a new result; without dimensions, a scalar."""
    if out is not None:
        return out
    if result.ndim == 0 and not as_tensor:
        return result[()]
    return new_result(result, operands)


cdef bint shares(array, other) except -1:
    try:
        return np.shares_memory(array, other, max_work=1 << 20)
    except np.exceptions.TooHardError:
        return True


cdef int check_slope(str name, slope) except -1:
    if np.any(slope < 0):
        raise ValueError(f"{name}: negative_slope is less than 0, so that the output does not tell "
                         f"the sign of the sum; keep the sum and call leaky_relu_backward")
    return 0


cdef object backward(const Call *call, object grad, object x, object parameter, object y,
                     object out, bint in_place):
    result = at_once(call, grad, x, parameter, y, out, in_place)
    if result is None:
        result = compute_any(call, grad, x, parameter, y, out, in_place)
    return result


cdef Call add_relu_call = Call("add_relu_backward", RELU_BACKWARD, False, 0)
cdef Call add_leaky_relu_call = Call("add_leaky_relu_backward", LEAKY_RELU_BACKWARD, False, 2)
cdef Call prelu_call[3]
prelu_call[0] = Call("prelu_backward", LEAKY_RELU_BACKWARD_0_AT_ZERO, True, 0)
prelu_call[1] = Call("prelu_backward", LEAKY_RELU_BACKWARD_1_AT_ZERO, True, 1)
prelu_call[2] = Call("prelu_backward", LEAKY_RELU_BACKWARD, True, 2)


cdef inline const Call *prelu_call_of(str name, at_zero) except NULL:
    return &prelu_call[2 if at_zero is None else chosen_at_zero(name, at_zero)]


cdef int chosen_at_zero(str name, at_zero) except -1:
    if isinstance(at_zero, (int, float, np.number, np.bool_)) and at_zero in (0, 1):
        return <int>at_zero
    raise ValueError(f"{name}: expected an at_zero of None, 0 or 1, not {at_zero!r}")


def add_relu_backward(grad, output, y, /, *, out=None):
    """The gradients of a loss through `add_relu`, in one pass: of x, and of a bias or residual y.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output: floating (ml_dtypes' bfloat16 included), of any
        shape.  It may be a PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain
        array; a mask is ignored.
    output : array_like
        The output of `add_relu`, of grad's shape.  It does not tell a sum that is 0 from a negative
        one, so that both let no gradient pass.
    y : scalar or array_like
        What was added.  Only its shape and its floating dtype count.  Its memory is not read: it
        may have been overwritten, and a tensor may require a gradient.
    out : tuple of two ndarrays or tensors, optional
        Where to write the results; either may be None.  They may overlap the operands but not each
        other, and are overwritten: to accumulate, add the results to a total.  With ``out=(grad,
        buffer)`` nothing is allocated.

    Returns
    -------
    grad_x : ndarray, scalar or tensor
        What ``relu_backward(grad, output)`` returns.
    grad_y : ndarray, scalar or tensor
        The sum of grad_x over the axes along which y broadcasts, with the shape and the dtype of y.
        The dtype of a Python number is that of grad.  It shares no memory with grad_x.

    Raises
    ------
    TypeError
        If a dtype is not floating, or if `out` is no tuple or has no dtype for a result.
    ValueError
        If grad and output differ in shape, if y does not broadcast to it, or if an array of `out`
        is read-only, of another shape, or shares memory with the other one.
    BufferError
        If the memory of a tensor does not hold its value, or if something else depends on it.

    See Also
    --------
    add_relu_backward_ : The same in place, for the smallest layers several times as fast as NumPy.
    prelu_backward : The gradient of a slope.

    Notes
    -----
    The terms are added in the widest dtype of grad, y and float32, and the sum is rounded once.
    The order of adding depends only on the shapes and on the order of the axes in memory, and the
    bits of the sum with it, whatever the steps between elements, the CPU and the number of threads.
    The error is at most (32 + log2 n) eps times the sum of the terms' magnitudes, for n terms.  A
    sum that is NaN is the positive quiet NaN; a sum is never -0.0, and over nothing +0.0.  Where
    nothing is summed, grad_y has the bits of grad_x.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> output = np.array([[0.0, 3.0], [1.5, 2.0]])
    >>> grad = np.array([[5.0, 6.0], [7.0, 8.0]])
    >>> grad_x, grad_bias = relu_ext.add_relu_backward(grad, output, np.zeros(2))
    >>> grad_x
    array([[0., 6.],
           [7., 8.]])
    >>> grad_bias
    array([ 7., 14.])
    """
    return backward(&add_relu_call, grad, output, None, y, out, False)


def add_relu_backward_(grad, output, y, /):
    """The gradients through `add_relu` in place: that of x is written over `grad`.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        The gradient with respect to the output; it is overwritten without a copy.
    output, y
        As for `add_relu_backward`.

    Returns
    -------
    grad : object
        The argument itself.
    grad_y : ndarray, scalar or tensor
        A new array, as from `add_relu_backward`.

    Raises
    ------
    TypeError
        If a dtype is not floating, or if `grad` cannot be written in place.
    ValueError
        If grad and output differ in shape, if y does not broadcast to it, or if grad is read-only.
    BufferError
        As for `add_relu_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> grad = np.array([[5.0, 6.0], [7.0, 8.0]])
    >>> output = np.array([[0.0, 3.0], [1.5, 2.0]])
    >>> grad_x, grad_bias = relu_ext.add_relu_backward_(grad, output, np.zeros(2))
    >>> grad_x is grad
    True
    >>> grad_bias
    array([ 7., 14.])
    """
    return backward(&add_relu_call, grad, output, None, y, None, True)


def add_leaky_relu_backward(grad, output, y, /, negative_slope=0.01, *, out=None):
    """The gradients of a loss through `add_leaky_relu`, in one pass: of x, and of a bias y.

    Parameters
    ----------
    grad, output, y
        As for `add_relu_backward`.
    negative_slope : scalar or array_like, default 0.01
        The slope of the forward pass, at least 0.
    out : tuple of two ndarrays or tensors, optional
        As for `add_relu_backward`.

    Returns
    -------
    grad_x : ndarray, scalar or tensor
        What ``leaky_relu_backward(grad, output, negative_slope)`` returns.
    grad_y : ndarray, scalar or tensor
        Its sum, as for `add_relu_backward`.

    Raises
    ------
    TypeError, BufferError
        As for `add_relu_backward`.
    ValueError
        As for `add_relu_backward`, and if a slope is negative: the output does not tell then which
        sums were.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> output = np.array([[-0.5, 3.0], [1.5, 2.0]])
    >>> grad = np.array([[5.0, 6.0], [7.0, 8.0]])
    >>> grad_x, grad_bias = relu_ext.add_leaky_relu_backward(grad, output, np.zeros(2), 0.5)
    >>> grad_bias
    array([ 9.5, 14. ])
    """
    if type(negative_slope) is float and negative_slope < 0:
        check_slope("add_leaky_relu_backward", negative_slope)
    return backward(&add_leaky_relu_call, grad, output, negative_slope, y, out, False)


def add_leaky_relu_backward_(grad, output, y, /, negative_slope=0.01):
    """The gradients through `add_leaky_relu` in place: that of x is written over `grad`.

    Parameters
    ----------
    grad, output, y
        As for `add_relu_backward_`.
    negative_slope : scalar or array_like, default 0.01
        The slope of the forward pass, at least 0.

    Returns
    -------
    grad : object
        The argument itself.
    grad_y : ndarray, scalar or tensor
        A new array, as from `add_leaky_relu_backward`.

    Raises
    ------
    TypeError, BufferError
        As for `add_relu_backward_`.
    ValueError
        As for `add_relu_backward_`, and if a slope is negative.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> grad = np.array([[5.0, 6.0], [7.0, 8.0]])
    >>> output = np.array([[-0.5, 3.0], [1.5, 2.0]])
    >>> grad_x, grad_bias = relu_ext.add_leaky_relu_backward_(grad, output, np.zeros(2), 0.5)
    >>> grad_x is grad
    True
    """
    if type(negative_slope) is float and negative_slope < 0:
        check_slope("add_leaky_relu_backward_", negative_slope)
    return backward(&add_leaky_relu_call, grad, output, negative_slope, y, None, True)


def prelu_backward(grad, x, slope, /, *, at_zero=None, out=None):
    """The gradients of PReLU, whose slope broadcasts as ONNX's, not as torch.nn.functional.prelu.

    PyTorch's weight lies along axis 1; here one slope for each channel of (N, C, H, W) is
    ``slope[:, None, None]``.  Where W equals C, a slope of shape (C,) applies along W without an
    error.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output: floating (ml_dtypes' bfloat16 included), of any
        shape.  It may be a PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain
        array; a mask is ignored.
    x : array_like
        The input of `prelu`, of grad's shape.
    slope : scalar or array_like
        One slope for all, for each column, for each channel or for each element.
    at_zero : None, 0 or 1, default None
        The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.  It does
        not change the gradient of the slope.
    out : tuple of two ndarrays or tensors, optional
        As for `add_relu_backward`.

    Returns
    -------
    grad_x : ndarray, scalar or tensor
        What ``leaky_relu_backward(grad, x, slope, at_zero=at_zero)`` returns.
    grad_slope : ndarray, scalar or tensor
        The sum of grad * x where x < 0, over the axes along which the slope broadcasts, with the
        shape and the dtype of the slope.  That of a Python number is a scalar of grad's dtype.
        Where x is > 0 or ±0 nothing is added, whatever grad is; where x is NaN, NaN is.

    Raises
    ------
    TypeError, BufferError
        As for `add_relu_backward`.
    ValueError
        As for `add_relu_backward`, and if `at_zero` is anything else.

    See Also
    --------
    prelu : The forward pass.
    add_relu_backward : The order of adding and its error, which are the same here.

    Notes
    -----
    The terms are added in the widest dtype of grad, x, the slope and float32.  The product of two
    float16 or bfloat16 is exact there.

    A layer whose bias and slope both learn keeps the sum z of its input and its bias, calls
    ``prelu_backward_(grad, z, slope)``, and then sums grad for the bias.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> x = np.array([[-1.0, 2.0], [-3.0, -4.0]])
    >>> grad = np.array([[5.0, 6.0], [7.0, 8.0]])
    >>> grad_x, grad_slope = relu_ext.prelu_backward(grad, x, np.array([0.5, 0.25]))
    >>> grad_x
    array([[2.5, 6. ],
           [3.5, 2. ]])
    >>> grad_slope
    array([-26., -32.])
    """
    return backward(prelu_call_of("prelu_backward", at_zero), grad, x, slope, slope, out, False)


def prelu_backward_(grad, x, slope, /, *, at_zero=None):
    """The gradients of PReLU in place, whose slope broadcasts as ONNX's: `grad` is overwritten.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        The gradient with respect to the output; that of x is written over it without a copy.
    x, slope, at_zero
        As for `prelu_backward`.

    Returns
    -------
    grad : object
        The argument itself.
    grad_slope : ndarray, scalar or tensor
        A new array, as from `prelu_backward`.

    Raises
    ------
    TypeError, BufferError
        As for `add_relu_backward_`.
    ValueError
        As for `add_relu_backward_`, and if `at_zero` is none of the three.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> grad = np.array([[5.0, 6.0], [7.0, 8.0]])
    >>> x = np.array([[-1.0, 2.0], [-3.0, -4.0]])
    >>> grad_x, grad_slope = relu_ext.prelu_backward_(grad, x, np.array([0.5, 0.25]))
    >>> grad_x is grad
    True
    >>> grad_slope
    array([-26., -32.])
    """
    return backward(prelu_call_of("prelu_backward_", at_zero), grad, x, slope, slope, None, True)
