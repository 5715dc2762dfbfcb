"""Walks arrays: the order of axes, alignment, tiles, streaming stores.

Contract: raw pointers and no Python objects, with the GIL or without.

`start_plan` and `settle` lay out a call, `is_safe` says whether its elements may be computed in any
order, and `walk` computes them.  It calls the kernel on one run, on rows, on elements one by one,
or on tiles.  Rows that lie end to end are one run, even if a bias repeats for each of them.
Elements that lie apart are computed where they lie.  Where an input's memory order is not the
output's, or the kernels cannot take its rows for another reason, a tile of it is first copied to a
scratch buffer; a result is computed in one and copied back.  Bytes between the elements of an array
are never written.

Maxout has `walk_panels` call a function of its own; the sums lay out their arrays by themselves,
and compute tiles of them by `run_columns`.
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy
from relu_ext._dispatch cimport active_table, last_level_cache
from relu_ext._operand cimport Operand
from relu_ext._operand cimport count as count_elements
from relu_ext._table cimport OUT, PARAMETER, ROLES, SLOPE_AT_ZERO, A, B, Rows
from relu_ext._threads cimport Part, effective_threads, share

cdef extern from "_copies.h" nogil:
    enum:
        CACHE_LINE "RELU_EXT_CACHE_LINE"
    void prefetch_for_read "relu_ext_prefetch_for_read"(const char *address, Py_ssize_t bytes)
    void stream_fence "relu_ext_stream_fence"()

# Tiles of 8 KiB against 4 KiB (Zen 5): with a mask as the x of a gradient in place 1.06 to 1.3,
# with float64 as that x 1.1, with a bias of float64 1.12 to 1.25.
cdef extern from *:
    """
    typedef struct { RELU_EXT_LINE_ALIGNED char bytes[RELU_EXT_BOX_BYTES]; } relu_ext_tile;
    """
    enum:
        TILE_BYTES "RELU_EXT_BOX_BYTES"
    ctypedef struct Tile "relu_ext_tile":
        char *bytes

cdef struct Box:
    # A part of the axes that tiles span, as large as a tile.
    Py_ssize_t size
    Py_ssize_t shape[BOX_AXES]
    Py_ssize_t tile_step[BOX_AXES]
    Py_ssize_t code_step[BOX_AXES]  # in a tile of codes
    const Py_ssize_t *step[ROLES]  # of what the kernel takes: a tile, or the array itself

# Ratios are medians of interleaved runs of float32: 1.20 means faster, 0.95 slower.
cdef enum:
    # An existing output that is no input is streamed past the caches from half of the last-level
    # cache on, where it outgrows the cache together with an input.  Below that, the next reader of
    # the output would miss it there.  AMD EPYC with 32 MiB: Zen 5 1.25 times as fast at 8 MiB of
    # output, 1.27 at 16, 1.38 at 32, 1.34 at 64; Zen 4 with two inputs 1.30 at 16 MiB, 1.27 at 128.
    STREAM_CACHES = 2
    # How far ahead of a streamed block a single input is requested.  Two inputs are requested where
    # they are computed: a line that one load of 64 bytes asks for does not train the prefetcher of
    # Zen 5, and older cores stall on requests for many lines far ahead.  In ms: 32 MiB (Zen 5), two
    # inputs take 3.55 without requests, 1.75 with them, and 1.71 where loads have 32 bytes.
    # 128 MiB (Zen 4): one input takes 6.4 with 2 KiB, 7.0 with 4 KiB and 6.8 without requests; two
    # take 10.9 without them and 12.2 with 2 KiB.  Intel Xeon (Ice Lake), in blocks of 512 bytes:
    # one input takes 13.7 with 1 to 8 KiB.  Zen 3: two inputs take 16.2 without them and 18.3 with
    # 1 to 4 KiB.
    STREAM_AHEAD = 2 << 10
    LARGEST_BLOCK = 512  # bytes that are streamed at a time
    # From this size on threads share a call.  Two threads in place (Zen 5): 512 KiB 0.95 times as
    # fast as one, 1 MiB 1.26, 4 MiB 1.71, 8 MiB 1.91, 32 MiB 1.32, and 256 MiB 1.06, where one
    # thread nearly fills the memory bus.  With both cores already busy, 4 MiB took 7.6 ms instead
    # of 47 us, because the call waits for a thread that does not run.  Therefore threads are off by
    # default.
    THREAD_BYTES = 1 << 20
    # Rows shorter than this are computed column by column where elements lie apart.
    SHORT_ROW = 16
    # How much of a row, repeated, serves a run of rows that lie end to end.
    REPEATED_BYTES = 4 << 10
    # Below this many elements a call of a kernel costs as much as the elements.
    SHORT_RUN = 128
    # As many elements are computed one by one where they lie: with a step of 2, 64 float32 or int8
    # take half as long as by way of tiles, 256 0.6 to 1.0, 512 0.8 to 1.6 (Zen 5).
    FEW = 256


cdef inline Py_ssize_t distance(Py_ssize_t step) noexcept nogil:
    return -step if step < 0 else step


# One table of axes for all operands, innermost first: lengths, and the steps of each array.

cdef bint tabulate(Plan *this, Py_ssize_t itemsize, const Operand **operands) noexcept nogil:
    cdef Py_ssize_t length, own
    cdef int axis, role
    this.itemsize = itemsize
    this.encode = NULL
    this.rounds = False
    this.axes = 0
    for role in range(WALKED):
        this.size[role] = 1 if role == MASK else itemsize
        this.has[role] = operands[role] != NULL
        if this.has[role]:
            this.data[role] = operands[role].data
            this.axes = max(this.axes, operands[role].axes)
    if this.axes > MOST_AXES or this.has[OUT] and operands[OUT].axes != this.axes:
        return False
    for axis in range(this.axes):
        length = 1
        for role in range(WALKED):
            own = look_up(operands[role], axis, &this.step[role][axis])
            if own == 1 or own == length:
                continue
            if length != 1 or role != OUT and this.has[OUT]:
                return False
            length = own
        this.shape[axis] = length
    return True


cdef void order_result(Plan *this, Py_ssize_t *shape, Py_ssize_t *strides) noexcept nogil:
    """Lay out an array for the result in the order "K", as NumPy's iterator would allocate it.
    Write its shape and strides.

    An insertion sort orders the axes from the innermost outwards.  Of two axes, the one with the
    shorter steps goes further in.  An array counts only if it broadcasts along neither of them.
    Where the arrays disagree or none counts, the order is C's.
    """
    cdef int order[MOST_AXES]
    cdef int i, k, position, role
    cdef Py_ssize_t step, other
    cdef bint stays, swaps
    for i in range(this.axes):
        order[i] = i
    for i in range(1, this.axes):
        position = i
        for k in range(i - 1, -1, -1):
            stays = swaps = False
            for role in range(A, WALKED):
                step = distance(this.step[role][i])
                other = distance(this.step[role][order[k]])
                stays |= step != 0 and 0 < other <= step
                swaps |= 0 < step < other
            if stays:
                break
            if swaps:
                position = k
        for k in range(i, position, -1):
            order[k] = order[k - 1]
        order[position] = i
    step = this.itemsize
    for i in range(this.axes):
        this.step[OUT][order[i]] = step
        step *= this.shape[order[i]]
    for i in range(this.axes):
        shape[this.axes - 1 - i] = this.shape[i]
        strides[this.axes - 1 - i] = this.step[OUT][i]


cdef void swap_axes(Plan *this, int one, int other) noexcept nogil:
    cdef int role
    this.shape[one], this.shape[other] = this.shape[other], this.shape[one]
    for role in range(WALKED):
        this.step[role][one], this.step[role][other] = this.step[role][other], this.step[role][one]


cdef void settle(Plan *this) noexcept nogil:
    """Bring the axes into the order of out's memory, and merge them."""
    cdef int axes = this.axes
    cdef int axis, role, position
    for role in range(WALKED):
        if not this.has[role]:
            this.data[role] = this.data[OUT]
    this.axes = 0
    for axis in range(axes):
        if this.shape[axis] == 1:
            continue
        if this.step[OUT][axis] < 0 and this.shape[axis] > 0:
            for role in range(WALKED):
                this.data[role] += this.step[role][axis] * (this.shape[axis] - 1)
                this.step[role][axis] = -this.step[role][axis]
        position = this.axes
        this.axes += 1
        if position < axis:
            swap_axes(this, position, axis)
        while position > 0 and this.step[OUT][position - 1] > this.step[OUT][position]:
            swap_axes(this, position - 1, position)
            position -= 1
    merge_axes(this)
    this.parameter_step = this.step[PARAMETER][0] != 0


cdef void merge_axes(Plan *this) noexcept nogil:
    """Merge neighbouring axes that together are contiguous in every array."""
    cdef int merged = 0
    cdef int axis, role
    cdef bint together
    if this.axes == 0:
        this.shape[0] = 1
        for role in range(WALKED):
            this.step[role][0] = 0
        this.step[OUT][0] = this.step[A][0] = this.itemsize
        this.step[B][0] = this.itemsize if this.has[B] else 0
    for axis in range(1, this.axes):
        together = True
        for role in range(WALKED):
            together &= this.step[role][axis] == this.step[role][merged] * this.shape[merged]
        if together:
            this.shape[merged] *= this.shape[axis]
            continue
        merged += 1
        if merged < axis:
            swap_axes(this, merged, axis)
    this.axes = merged + 1


cdef int new_layout(Py_ssize_t *shape, Py_ssize_t *strides, Py_ssize_t itemsize, const Operand *a,
                    const Operand *b) noexcept nogil:
    cdef const Operand *operands[WALKED]
    cdef Plan this
    operands[OUT] = operands[PARAMETER] = operands[MASK] = NULL
    operands[A], operands[B] = a, b
    if not tabulate(&this, itemsize, operands):
        return -1
    order_result(&this, shape, strides)
    return this.axes


# Overlap.

cdef bint is_safe(const Plan *this) noexcept nogil:
    """Whether any order of computing the elements gives the result that copied inputs would give.

    That is so if no two elements of out share memory, and every input is out itself or shares no
    byte with it.  Layouts that are too intricate to decide count as unsafe.
    """
    cdef Py_ssize_t extent = this.size[OUT]
    cdef int axis, role
    if size_of(this) == 0:
        return True
    for axis in range(this.axes):
        if this.step[OUT][axis] < extent and this.shape[axis] > 1:
            return False
        extent += this.step[OUT][axis] * (this.shape[axis] - 1)
    for role in range(A, WALKED):
        if this.has[role] and not is_same_or_apart(this, role, extent):
            return False
    return True


cdef bint is_same_or_apart(const Plan *this, int role, Py_ssize_t out_extent) noexcept nogil:
    # Distances in bytes from out's first element.
    cdef Py_ssize_t offset = this.data[role] - this.data[OUT]
    cdef Py_ssize_t first = offset
    cdef Py_ssize_t end = offset + this.size[role]
    cdef bint same_steps = this.size[role] == this.size[OUT]
    cdef Py_ssize_t reach
    cdef int axis
    for axis in range(this.axes):
        same_steps &= this.step[role][axis] == this.step[OUT][axis]
    if same_steps and offset == 0:
        return True
    for axis in range(this.axes):
        reach = this.step[role][axis] * (this.shape[axis] - 1)
        first += min(reach, <Py_ssize_t>0)
        end += max(reach, <Py_ssize_t>0)
    return (end <= 0 or out_extent <= first
            or same_steps and this.axes <= 8 and not meets(this, offset, this.axes - 1))


cdef bint meets(const Plan *this, Py_ssize_t offset, int axis) noexcept nogil:
    """Whether an array that is laid out as out, `offset` bytes away from it, shares a byte with it.
    For example, two groups of columns of one matrix share none.

    Only two distances have to be checked in each axis, because `is_safe` has found that the inner
    axes extend no further than one step of it.
    """
    cdef Py_ssize_t step, steps
    offset = distance(offset)
    if axis < 0:
        return offset < this.size[OUT]
    step = this.step[OUT][axis]
    steps = offset // step
    return (steps < this.shape[axis] and meets(this, offset - steps * step, axis - 1)
            or steps + 1 < this.shape[axis] and meets(this, offset - (steps + 1) * step, axis - 1))


# One run of elements, contiguous in every array.

cdef inline void apply(const Plan *this, char **at, char *out, Py_ssize_t n) noexcept nogil:
    """Call the kernel on n elements, with the result in `out`."""
    cdef Rows row
    row.parameter_step = this.parameter_step
    row.count = 1
    this.kernel(out, at[A], at[B], at[PARAMETER], n, &row)


cdef inline void advance(const Plan *this, char **at, int axis, Py_ssize_t count) noexcept nogil:
    cdef int role
    for role in range(WALKED):
        at[role] += count * this.step[role][axis]


cdef void apply_streamed(const Plan *this, char **at, Py_ssize_t n) noexcept nogil:
    """Compute block by block into a scratch buffer that stays in the first-level cache, and stream
    each block past the caches.  This one routine serves every operation and dtype.

    A block is as short as the cost of calling a kernel allows, which each level decides for items
    of 4 and 8 bytes.  float16, whose products take long, is 0.84 times as fast in blocks of 256
    bytes on Zen 4.  On Ice Lake, 128 MiB take 13.7 ms in blocks of 512 bytes, 14.4 in 1 KiB, 15.4
    in 2 KiB, and 18.6 with stores of 16 bytes instead of 64.
    """
    cdef Tile scratch
    cdef bint has_two = this.step[B][0] != 0
    cdef Py_ssize_t ahead = 0 if has_two else STREAM_AHEAD
    cdef Py_ssize_t bytes = active_table.stream_block if 4 <= this.itemsize <= 8 else LARGEST_BLOCK
    cdef Py_ssize_t block = bytes // this.itemsize
    while n >= block:
        prefetch_for_read(at[A] + ahead, bytes)
        if has_two:
            prefetch_for_read(at[B], bytes)
        apply(this, at, scratch.bytes, block)
        active_table.stream_copy(at[OUT], scratch.bytes, bytes)
        advance(this, at, 0, block)
        n -= block
    apply(this, at, at[OUT], n)


cdef void run_row(const Plan *this, char **at, Py_ssize_t n) noexcept nogil:
    """n elements along axis 0, on one thread.  The addresses move.

    The elements up to the next cache line come first, so that no later store crosses a line.
    NumPy's data starts 16 bytes into a line.  In a prototype, 2**20 float32 in place went from 47.8
    to 35.6 us.
    """
    cdef Py_ssize_t head = -<uintptr_t>at[OUT] % CACHE_LINE
    cdef bint aligned = head % this.itemsize == 0 and LARGEST_BLOCK % this.itemsize == 0
    if aligned and head > 0:
        head = min(head // this.itemsize, n)
        apply(this, at, at[OUT], head)
        advance(this, at, 0, head)
        n -= head
    if aligned and this.stream:
        apply_streamed(this, at, n)
    else:
        apply(this, at, at[OUT], n)


# Panels: axes 0 and 1.

cdef inline void apply_rows(const Plan *this, char **at, Py_ssize_t n, Py_ssize_t count,
                            Rows *rows) noexcept nogil:
    """Call the kernel on some rows, whose steps are set."""
    rows.parameter_step = this.parameter_step
    rows.count = count
    this.kernel(at[OUT], at[A], at[B], at[PARAMETER], n, rows)


cdef void run_columns(const Plan *this, char **start, Py_ssize_t columns,
                      Py_ssize_t rows) noexcept nogil:
    cdef char *at[WALKED]
    cdef Rows short
    cdef Py_ssize_t row
    cdef int role
    if columns * this.itemsize <= SMALL_BYTES:
        for role in range(ROLES):
            short.steps[role] = this.step[role][1] if rows > 1 else 0
        apply_rows(this, start, columns, rows, &short)
        return
    for row in range(rows):
        for role in range(WALKED):
            at[role] = start[role] + row * row_step(this, role)
        run_row(this, at, columns)


cdef inline bint is_repeated(const Plan *this, int role) noexcept nogil:
    """Whether each row of an array is the same one; the kernels take one parameter as it is."""
    return (this.has[role] and row_step(this, role) == 0
            and (role != PARAMETER or this.step[role][0] != 0))


cdef inline bint is_special(const Plan *this) noexcept nogil:
    """Whether the arrays have several dtypes, or a mask."""
    return this.encode != NULL or this.rounds or this.has[MASK]


cdef inline bint has_codes(const Plan *this) noexcept nogil:
    """Whether the tiles of b have codes, of a byte each, instead of numbers."""
    return this.encode != NULL and this.at_zero != SLOPE_AT_ZERO


cdef bint is_end_to_end(const Plan *this) noexcept nogil:
    """Whether at least one array repeats a single row, and the rows of all others lie end to
    end."""
    cdef Py_ssize_t row = this.shape[0] * this.itemsize
    cdef Py_ssize_t step
    cdef bint any_repeats = False
    cdef int role
    if is_special(this):
        return False
    for role in range(ROLES):
        step = this.step[role][0]
        if is_repeated(this, role):
            if step != 0 and (step != this.itemsize or row > REPEATED_BYTES // 2):
                return False
            any_repeats = True
        elif ((step != 0 or row_step(this, role) != 0)
              and (step != this.itemsize or row_step(this, role) != row)):
            return False
    return any_repeats


cdef void run_end_to_end(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    """Compute rows that lie end to end as one run, a piece at a time.

    An array that repeats a single row is copied, row after row, to a tile that serves every piece.
    So the result is aligned to cache lines, and no row ends with less than a vector.  In place with
    a bias on Zen 4, against a kernel for rows: 200 rows of 100 float32 1.41, 256 of 512 1.21, and
    64 of 128 0.89 on one buffer that fills the first-level cache, 1.04 on fresh ones; with a slope
    for each column 256 of 512 1.02.  Tiles of 2 KiB and 8 KiB are slower.
    """
    cdef Tile tiles[ROLES]
    cdef char *at[WALKED]
    cdef Py_ssize_t columns = this.shape[0]
    cdef Py_ssize_t size = columns * rows
    cdef Py_ssize_t items = REPEATED_BYTES // this.itemsize
    cdef Py_ssize_t head = -<uintptr_t>start[OUT] % CACHE_LINE
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t offset, count
    cdef bint repeated[ROLES]
    cdef bint aligned = head % this.itemsize == 0 and LARGEST_BLOCK % this.itemsize == 0
    cdef int role
    head = head // this.itemsize if aligned else 0
    at[MASK] = NULL
    for role in range(ROLES):
        at[role] = start[role]
        repeated[role] = is_repeated(this, role)
        if repeated[role]:
            repeat(tiles[role].bytes, start[role], columns if this.step[role][0] != 0 else 1,
                   min(items, size), this.itemsize)
    while position < size:
        offset = position % columns if columns <= items else 0
        count = size - position
        if position == 0 and 0 < head < count and size * this.itemsize > SMALL_BYTES:
            count = head
        elif count > items - offset:
            # Whole cache lines, and whole blocks of the kernels that work block by block.
            count = (items - offset) // CACHE_LINE * CACHE_LINE
        for role in range(ROLES):
            if repeated[role]:
                at[role] = tiles[role].bytes + offset * this.itemsize
            elif this.step[role][0] != 0:
                at[role] = start[role] + position * this.itemsize
        if this.stream and aligned:
            apply_streamed(this, at, count)
        else:
            apply(this, at, at[OUT], count)
        position += count


cdef inline void repeat(char *to, const char *row, Py_ssize_t columns, Py_ssize_t items,
                        Py_ssize_t itemsize) noexcept nogil:
    """Fill `items` places with a row, again and again."""
    cdef Py_ssize_t filled = min(columns, items)
    cdef Py_ssize_t more
    memcpy(to, row, filled * itemsize)
    while filled < items:
        more = min(filled, items - filled)
        memcpy(to + filled * itemsize, to, more * itemsize)
        filled += more


cdef inline int run_axes(const Py_ssize_t *step, const Py_ssize_t *shape) noexcept nogil:
    """How many axes of a box are a single run in an array or a tile."""
    cdef Py_ssize_t run = shape[0]
    cdef int axis = 1
    while axis < BOX_AXES and (shape[axis] == 1 or step[axis] == run * step[0]):
        run *= shape[axis]
        axis += 1
    return axis


cdef void run_box(const Plan *this, char **start, const Box *box, int runs,
                  int axis) noexcept nogil:
    """Compute a box up to `axis`, of which `runs` axes are a single run in all that the kernel
    takes.  The rows are along the next one."""
    cdef char *at[ROLES]
    cdef Rows rows
    cdef Py_ssize_t i
    cdef int role
    if axis > 0 and axis > runs:  # `runs` is 1 at least, which GCC does not see
        for i in range(box.shape[axis]):
            for role in range(ROLES):
                at[role] = start[role] + i * box.step[role][axis]
            run_box(this, at, box, runs, axis - 1)
        return
    for role in range(ROLES):
        rows.steps[role] = box.step[role][runs]
    apply_rows(this, start, count_elements(box.shape, runs), box.shape[runs], &rows)


cdef void run_tiles(const Plan *this, char **start, Py_ssize_t rows) noexcept nogil:
    """Compute box by box, with a tile for each array that the kernel cannot take as it lies.

    In a tile the elements lie in the order of out's memory without gaps.
    """
    cdef Tile tiles[ROLES]
    cdef Box box
    cdef char *at[WALKED]
    cdef char *out
    cdef Py_ssize_t place[BOX_AXES]
    cdef const char *held[ROLES]  # what a tile is a copy of
    cdef bint same
    cdef Py_ssize_t count, beyond
    cdef int before = 0
    cdef int axis, role, runs
    for axis in range(BOX_AXES):
        place[axis] = box.shape[axis] = 0
    for role in range(ROLES):
        held[role] = NULL
        box.step[role] = &this.step[role][0]
        if this.copied[role]:
            box.step[role] = (&box.code_step[0] if role == B and has_codes(this)
                              else &box.tile_step[0])
    while True:
        for role in range(WALKED):
            at[role] = start[role]
            for axis in range(BOX_AXES):
                at[role] += place[axis] * this.step[role][axis]
        box.size = 1
        same = True
        beyond = (<uintptr_t>at[OUT] % CACHE_LINE) // this.size[OUT]
        for axis in range(BOX_AXES):
            count = this.box[axis]
            if axis == 0 and beyond < count < this.shape[0]:
                count -= beyond  # up to a cache line, from where on no store crosses one
            count = min(count, this.shape[axis] - place[axis])
            same &= box.shape[axis] == count
            box.shape[axis] = count
            box.tile_step[axis] = box.size * this.itemsize
            box.code_step[axis] = box.size
            box.size *= count
        out = at[OUT]
        runs = BOX_AXES
        for role in range(ROLES):
            if this.has[role]:
                runs = min(runs, run_axes(box.step[role], box.shape))
            if this.copied[role]:
                if role != OUT and not (same and at[role] == held[role]):
                    held[role] = at[role]
                    load_tile(this, role, tiles[role].bytes, at[role], &box)
                at[role] = tiles[role].bytes
        if this.rounds:
            before = fetestexcept(FE_ALL_EXCEPT)
        if runs == BOX_AXES:
            apply(this, at, at[OUT], box.size)
        else:
            run_box(this, at, &box, runs, BOX_AXES - 1)
        if this.rounds:
            # Inexact results are left behind, because NumPy does not warn of them and almost every
            # box has some.
            take_back_exceptions(before | FE_INEXACT)
        if this.copied[OUT]:
            store_tile(this, out, tiles[OUT].bytes, at[MASK], &box)
        axis = 0
        while axis < BOX_AXES:
            place[axis] += box.shape[axis]
            if place[axis] < this.shape[axis]:
                break
            place[axis] = 0
            axis += 1
        if axis == BOX_AXES:
            return


cdef bint lies_as_a_tile(const Plan *this, int role, const Box *box,
                         Py_ssize_t *step) noexcept nogil:
    """Whether an array's part of a box lies in memory as in a tile of its own dtype, whose steps
    are written to `step`."""
    cdef int axis
    for axis in range(BOX_AXES):
        step[axis] = box.code_step[axis] * this.size[role]
    return (this.step[role][0] == step[0]
            and run_axes(this.step[role], box.shape) == BOX_AXES)


cdef void load_tile(const Plan *this, int role, char *to, const char *source,
                    const Box *box) noexcept nogil:
    """Fill a tile with an array's numbers in the kernel's dtype, or with numbers that have their
    signs."""
    cdef Tile raw
    cdef Tile codes
    cdef Py_ssize_t step[BOX_AXES]
    if not this.converted[role]:
        active_table.copy_box(to, box.tile_step, source, this.step[role], box.shape, this.itemsize)
        return
    if not lies_as_a_tile(this, role, box, step):
        active_table.copy_box(raw.bytes, step, source, this.step[role], box.shape, this.size[role])
        source = raw.bytes
    if this.rounds:
        active_table.widen(<double *>to, source, box.size)
    elif has_codes(this):
        this.encode(<signed char *>to, source, this.at_zero, True, box.size)
    else:
        this.encode(<signed char *>codes.bytes, source, SLOPE_AT_ZERO, True, box.size)
        this.decode(to, <const signed char *>codes.bytes, this.encodes_nan, box.size)


cdef void store_tile(const Plan *this, char *to, const char *tile, const char *mask,
                     const Box *box) noexcept nogil:
    """Copy a tile to its place, rounded to out's dtype, or only where a mask is not 0."""
    cdef Tile raw
    cdef Py_ssize_t step[BOX_AXES]
    if this.has[MASK]:
        active_table.copy_where(to, this.step[OUT], tile, box.tile_step, mask, this.step[MASK],
                                box.shape, this.itemsize)
    elif not this.rounds:
        active_table.copy_box(to, this.step[OUT], tile, box.tile_step, box.shape, this.itemsize)
    elif lies_as_a_tile(this, OUT, box, step):
        active_table.narrow(to, <const double *>tile, box.size)
    else:
        active_table.narrow(raw.bytes, <const double *>tile, box.size)
        active_table.copy_box(to, this.step[OUT], raw.bytes, step, box.shape, this.size[OUT])


# The whole walk.

cdef void walk_part(const Plan *this) noexcept nogil:
    """Walk all of a plan, which has at least one element, on one thread."""
    cdef char *at[WALKED]
    cdef Py_ssize_t position[MOST_AXES]
    cdef Py_ssize_t rows = this.shape[1] if this.axes > 1 else 1
    cdef int spanned = BOX_AXES if this.panel == run_tiles else 2
    cdef int axis, role
    for role in range(WALKED):
        at[role] = this.data[role]
    for axis in range(spanned, this.axes):
        position[axis] = 0
    while True:
        if this.panel == NULL:
            run_columns(this, at, this.shape[0], rows)
        else:
            this.panel(this, at, rows)
        axis = spanned
        while axis < this.axes:
            position[axis] += 1
            if position[axis] < this.shape[axis]:
                advance(this, at, axis, 1)
                break
            position[axis] = 0
            advance(this, at, axis, 1 - this.shape[axis])
            axis += 1
        if axis >= this.axes:
            break
    if this.stream:
        # Once for all, because a fence waits for the stores before it: after each piece of 4 KiB
        # it took half the time of 64 MiB with a bias (Zen 5).
        stream_fence()


cdef bint takes_elements(const Plan *this) noexcept nogil:
    """Whether it pays to compute the elements where they lie, one by one: where they are further
    apart than a level gathers by vectors, or have 8 bytes.  Of float64 two apart, gathering takes
    2.2 to 2.7 times as long (Zen 5)."""
    cdef Py_ssize_t step
    cdef int role
    for role in range(ROLES):
        step = this.step[role][0]
        if (this.has[role] and step != 0 and step != this.itemsize
                and (step != active_table.vector_step * this.itemsize or this.itemsize == 8)):
            return True
    return False


cdef inline bint is_short(const Plan *this, Py_ssize_t row) noexcept nogil:
    """Whether a row had better be put together with others: it is shorter than a vector, or what
    remains behind its last whole vector takes longer than a copy of the row."""
    cdef Py_ssize_t bytes = row * this.itemsize
    return bytes < CACHE_LINE or (
        this.itemsize <= 2 and row < SHORT_RUN and bytes % CACHE_LINE != 0)


cdef inline Py_ssize_t transposed_at_once(const Plan *this) noexcept nogil:
    """As many elements of an input that lie together are in a tile, if that can be, so that blocks
    of them are transposed."""
    return max(16 // this.itemsize, <Py_ssize_t>4)


cdef int next_axis(const Plan *this, int role, int last) noexcept nogil:
    """Behind `last`, or -1, the axis along which an array's elements lie closest, or -1."""
    cdef Py_ssize_t beyond = distance(this.step[role][last]) if last >= 0 else 0
    cdef Py_ssize_t step
    cdef int nearest = -1
    cdef int axis
    for axis in range(this.axes):
        step = distance(this.step[role][axis])
        if step == 0 or step < beyond or step == beyond and axis <= last:
            continue
        if nearest < 0 or step < distance(this.step[role][nearest]):
            nearest = axis
    return nearest


cdef Py_ssize_t reach_along(const Plan *this, int role, Py_ssize_t *reach, Py_ssize_t enough,
                            Py_ssize_t most, Py_ssize_t room, int axes) noexcept nogil:
    """Have a tile reach along a run of an array's memory, axis by axis: until it holds `enough`
    elements of it, and for `most` of them where there are as many.  Return how many it holds.

    The tile has `room` for as many elements, and spans up to `axes` axes.
    """
    cdef Py_ssize_t line = CACHE_LINE // this.itemsize
    cdef Py_ssize_t block = transposed_at_once(this)
    cdef Py_ssize_t run = 1
    cdef Py_ssize_t length
    cdef int axis = -1
    cdef int k
    for k in range(this.axes):
        room //= reach[k]
        axes -= reach[k] > 1
    while run < enough:
        axis = next_axis(this, role, axis)
        if axis < 0 or reach[axis] == 1 and axes == 0:
            break
        axes -= reach[axis] == 1
        room *= reach[axis]
        length = min(this.shape[axis], room, (most + run - 1) // run)
        if block < length < this.shape[axis]:
            length -= length % (line if length > line else block)
        reach[axis] = max(reach[axis], length)
        room //= reach[axis]
        run *= reach[axis]
        if reach[axis] < this.shape[axis]:
            break
    return run


cdef bint has_gaps(const Plan *this, int role) noexcept nogil:
    """Whether the kernel cannot take an array's part in a box as it lies, because its rows there
    are too short."""
    cdef int runs = run_axes(this.step[role], this.box)
    return runs < BOX_AXES and is_short(this, count_elements(this.box, runs))


cdef Panel lay_tiles(Plan *this) noexcept nogil:
    """Choose how to walk arrays whose rows the kernels cannot take as they lie, and the shape of
    the tiles.  Return NULL if there is no such array.

    A tile holds a run of out's memory.  If that would part elements of an input that lie together,
    because its memory order differs from out's, it holds runs of both, of that input for two cache
    lines.
    """
    cdef Py_ssize_t step, room, block
    cdef Py_ssize_t reach[MOST_AXES]
    cdef bint tiled = False
    cdef int other = OUT  # an input whose order differs
    cdef int role, axis, k, spanned
    for role in range(ROLES):
        step = this.step[role][0]
        # The kernels take rows without gaps, and a single parameter.
        this.copied[role] = (this.converted[role] or role == OUT and this.has[MASK]
                             or this.has[role] and step != this.itemsize
                             and (step != 0 or role != PARAMETER))
        tiled |= this.copied[role]
        if (role != OUT and other == OUT and this.copied[role] and step != 0
                and this.axes > 1 and next_axis(this, role, -1) != 0):
            other = role
    # The rows of inputs, if they are short and out's lie end to end, are put together.
    if not tiled and not (this.axes > 1 and is_short(this, this.shape[0])
                          and this.step[OUT][1] == this.shape[0] * this.itemsize):
        return NULL
    if not is_special(this) and this.one_by_one and (
            size_of(this) <= FEW or other == OUT and takes_elements(this)):
        if this.axes > 1 and this.shape[0] < SHORT_ROW and this.shape[1] > this.shape[0]:
            swap_axes(this, 0, 1)
        # As rows of one element.
        for axis in range(this.axes, 0, -1):
            this.shape[axis] = this.shape[axis - 1]
            for role in range(WALKED):
                this.step[role][axis] = this.step[role][axis - 1]
        this.shape[0] = 1
        this.axes += 1
        return NULL
    room = TILE_BYTES // max(this.itemsize, this.size[B])
    block = transposed_at_once(this)
    if (this.axes == 1 and has_codes(this) and not this.copied[OUT] and not this.copied[A]
            and this.step[B][0] == this.size[B]):
        # Codes alone lie in a tile: relu_backward_ on (256, 512) float32 with booleans takes 5.4 us
        # instead of 6.4 (Zen 5).
        room = TILE_BYTES
    while this.axes < BOX_AXES:
        this.shape[this.axes] = 1
        for role in range(WALKED):
            this.step[role][this.axes] = 0
        this.axes += 1
    for axis in range(this.axes):
        reach[axis] = 1
    reach_along(this, OUT, reach, room, room, room, BOX_AXES)
    if other != OUT and reach_along(this, other, reach, block, 0, room, 0) < block:
        for axis in range(this.axes):
            reach[axis] = 1
        reach_along(this, other, reach, block, 2 * CACHE_LINE // this.itemsize, room, BOX_AXES - 1)
        reach_along(this, OUT, reach, SHORT_RUN, room, room, BOX_AXES)
    # The axes of a tile come first.
    spanned = 0
    for axis in range(this.axes):
        if axis < BOX_AXES:
            this.box[axis] = 1
        if reach[axis] > 1:
            for k in range(axis, spanned, -1):
                swap_axes(this, k, k - 1)
            this.box[spanned] = reach[axis]
            spanned += 1
    for role in range(ROLES):
        this.copied[role] |= this.has[role] and has_gaps(this, role)
    if this.copied[PARAMETER]:
        this.parameter_step = 1
    return run_tiles


cdef void walk(Plan *this) noexcept nogil:
    cdef Py_ssize_t size = size_of(this)
    if size > 0:
        walk_as(this, run_end_to_end if is_end_to_end(this) else lay_tiles(this),
                size * this.itemsize)


cdef inline void walk_as(Plan *this, Panel panel, Py_ssize_t bytes) noexcept nogil:
    cdef bint in_place = this.data[OUT] == this.data[A] or (
        this.has[B] and this.data[OUT] == this.data[B])
    this.panel = panel
    # The size of the whole array decides, not that of a part: threads share the cache.
    this.stream = (not in_place and not this.fresh
                   and bytes >= last_level_cache // STREAM_CACHES)
    walk_panels(this, 0 if this.rounds else bytes)  # on one thread, as `start_plan` promises


cdef void walk_share(const Plan *whole, int part, int parts) noexcept nogil:
    """Walk one of `parts` parts, split along the outermost axis that is long enough for them.

    Rows that lie end to end stay whole, because parts of them would not.
    """
    cdef int lowest = whole.panel == run_end_to_end and whole.axes > 1
    cdef Plan this
    cdef Py_ssize_t length, start
    cdef int axis = whole.axes - 1
    while axis > lowest and whole.shape[axis] < parts:
        axis -= 1
    length = (whole.shape[axis] + parts - 1) // parts
    start = min(part * length, whole.shape[axis])
    if start < whole.shape[axis]:
        this = whole[0]
        this.shape[axis] = min(length, whole.shape[axis] - start)
        advance(&this, this.data, axis, start)
        walk_part(&this)


cdef void run_large(int operation, int dtype, void *out, const void *a, const void *b,
                    const void *parameter, Py_ssize_t n, bint fresh) noexcept nogil:
    cdef Plan this
    this.kernel = active_table.kernel[operation][dtype]
    this.itemsize = active_table.itemsize[dtype]
    this.parameter_step = 0
    this.rounds = False
    this.has[B] = b != NULL
    this.fresh = fresh
    this.axes = 1
    this.shape[0] = n
    this.data[OUT] = this.data[MASK] = <char *>out
    this.data[A] = <char *>a
    this.data[B] = <char *>(b if b != NULL else a)
    this.data[PARAMETER] = <char *>(parameter if parameter != NULL else a)
    this.step[OUT][0] = this.step[A][0] = this.itemsize
    this.step[B][0] = this.itemsize if b != NULL else 0
    this.step[PARAMETER][0] = this.step[MASK][0] = 0
    walk_as(&this, NULL, n * this.itemsize)


# Threads.

cdef int parts_of(Py_ssize_t bytes) noexcept nogil:
    if bytes < THREAD_BYTES:
        return 1
    # Each part is at least half of the threshold, as it is with two threads at the threshold.
    return <int>min(<Py_ssize_t>effective_threads(), bytes // (THREAD_BYTES // 2))


cdef void walk_panels(const Plan *this, Py_ssize_t bytes) noexcept nogil:
    """Split a walk of `bytes` of memory into as many parts as pay off, each on its own thread."""
    cdef int parts = parts_of(bytes)
    if parts == 1:
        walk_part(this)
    else:
        share(<Part>walk_share, this, parts)
