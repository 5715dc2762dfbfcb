# The loops of maxout, included by _kernels.pyx.
#
# There is one for each dtype: the vector maximum of pieces that lie in rows, or side by side, up to
# five at a time.  The gradient is moved by functions that know the size of an item alone
# (_pieces.h).

from relu_ext._scalar cimport float32, uint8, uint16
from relu_ext._table cimport COMPARED, MaxoutRows, Pieces, SpreadRows

cdef extern from "_pieces.h" nogil:
    int lanes_of "RELU_EXT_LANES"(int size)
    void copy_vector "relu_ext_copy_vector"(void *to, const void *source, int bytes)
    void take "relu_ext_take"(void *rows, const char *x, const Py_ssize_t *offset, int pieces,
                              int layout, int size, int lanes, Py_ssize_t step)
    enum:
        ROWS "RELU_EXT_ROWS"  # each piece in a row of its own
        SIDE "RELU_EXT_SIDE"  # pieces side by side, and next to those of the next element
        APART "RELU_EXT_APART"  # pieces side by side
    void loop "RELU_EXT_LOOP"(int turns, Py_ssize_t i, Py_ssize_t first, Py_ssize_t end,
                              int statement)
    void keep "RELU_EXT_KEEP"(void *pointer)
    int put "relu_ext_put"(char *x, const Py_ssize_t *offset, int pieces, Py_ssize_t side,
                           Py_ssize_t row_step, const char *grad, const uint8 *which, Py_ssize_t n,
                           Py_ssize_t rows, Py_ssize_t stride, int first, int size)

cdef enum:
    MOST_SIDE = 9
    MOST_LANES = 32


cdef inline int meet(number x, number rank, number piece, number *best, number *best_rank,
                     number *best_piece) noexcept nogil:
    """Let a later piece compete with the best of those before.  Its number counts in the format of
    x, so that all vectors are of one width, and keeps its lowest 8 bits there."""
    cdef number other = best_rank[0]
    best[0] = _scalar.winner(other, rank, best[0], x)
    best_rank[0] = _scalar.winner(other, rank, other, rank)
    best_piece[0] = _scalar.winner(other, rank, best_piece[0], piece)
    return 0


cdef inline int meet_all(number *best, number *winner, const number *items, int first,
                         const int pieces, const bint champion, const bint counted,
                         const int lanes, uint16 infinity) noexcept nogil:
    """In one lane.  The champion of the pieces before comes last, so that few comparisons wait for
    each other."""
    cdef number x = items[0]
    cdef number rank = _scalar.rank(x, infinity)
    cdef number piece = <number>first
    cdef number later, later_rank, later_piece
    cdef int next = 0
    loop(9, next, 1, pieces, meet(
        items[next * lanes], _scalar.rank(items[next * lanes], infinity), <number>(first + next),
        &x, &rank, &piece))
    if champion:
        later, later_rank, later_piece = x, rank, piece
        x = best[0]
        rank = _scalar.rank(x, infinity)
        piece = winner[0] if counted else <number>0
        meet(later, later_rank, later_piece, &x, &rank, &piece)
    best[0] = x
    if counted:
        winner[0] = piece
    return 0


cdef inline int compare_group(const Py_ssize_t *offset, number *best, number *winner,
                              const char *x, int first, const int some, const int layout,
                              const bint champion, const bint counted, const int lanes,
                              Py_ssize_t step, uint16 infinity) noexcept nogil:
    cdef number items[MOST_SIDE * MOST_LANES]
    cdef int lane = 0
    take(items, x, offset + first, some, layout, sizeof(number), lanes, step)
    loop(1, lane, 0, lanes, meet_all(best + lane, winner + lane, items + lane, first,
                                     min(some, 5), champion, counted, lanes, infinity))
    if some > 5:  # in two halves, so that fewer comparisons wait for each other
        loop(1, lane, 0, lanes, meet_all(best + lane, winner + lane, items + 5 * lanes + lane,
                                         first + 5, some - 5, True, counted, lanes, infinity))
    return 0


cdef inline void compare(const Pieces *pieces, number *out, number *winners, const char *x,
                         Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step, const int some,
                         const int layout, const int groups, const bint counted,
                         const int lanes) noexcept nogil:
    """`some` pieces at a time, of which there are `groups`, or, if that is 0, any number; then the
    last ones may meet again."""
    cdef int bytes = lanes * sizeof(number)
    cdef number best[MOST_LANES]
    cdef number winner[MOST_LANES]
    cdef Py_ssize_t step = pieces.step
    cdef Py_ssize_t last = max(<Py_ssize_t>0, n - lanes)
    cdef Py_ssize_t place, row, i
    cdef Py_ssize_t offset[9]  # where compilers know that no result is written
    cdef int count = pieces.count
    cdef uint16 infinity = pieces.infinity
    cdef int next
    cdef int group = 0
    if layout == ROWS or layout == SIDE:
        step = sizeof(number) * (some if layout == SIDE else 1)
    for next in range(max(groups, 1) * some):
        offset[next] = pieces.offset[next]
    for row in range(rows):
        i = 0
        while i < n:
            place = min(i, last)  # the last vector overlaps the one before it, if there is one
            compare_group(offset, best, winner, x + place * step, 0, some, layout, False, counted,
                          lanes, step, infinity)
            loop(4, group, 1, groups, compare_group(
                offset, best, winner, x + place * step, group * some, some, layout, True, counted,
                lanes, step, infinity))
            next = some
            while groups == 0 and next < count:
                compare_group(pieces.offset, best, winner, x + place * step,
                              min(next, count - some), some, layout, True, counted, lanes, step,
                              infinity)
                next += some
            copy_vector(out + place, best, bytes)
            if counted:
                copy_vector(winners + place, winner, bytes)
            i += lanes
        x += row_step
        out += n
        winners += n


cdef inline bint compare_all(const Pieces *pieces, number *out, number *winners, const char *x,
                             Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step,
                             const bint counted) noexcept nogil:
    """Each layout that is a kernel of its own, and others by any number of groups.  False where
    there is no kernel."""
    cdef int lanes = lanes_of(sizeof(number))
    cdef int count = pieces.count
    cdef int side = pieces.side
    # For windows in short rows: 4 windows of 32-bit numbers take 0.7 (2 by 2) and 0.8 (3 by 3) of
    # the time with 4 lanes instead of 8 (v4), and 12 of 2 by 2 take 0.75 to 0.85 of it with three
    # times 4 instead of twice 8 (v3, Zen 5).
    cdef int few = 16 // sizeof(number)
    cdef bint is_short = sizeof(number) < 8 and lanes > few and n <= few
    cdef bint is_one_and_a_half = (sizeof(number) == 1 or sizeof(number) == 4) and (
        lanes * sizeof(number) == 32 and lanes < n <= lanes + few)
    if number is longdouble:
        if side != 1:
            return False
        compare(pieces, out, winners, x, n, rows, row_step, 2, ROWS, 0, counted, lanes)
    elif side == 1 and count == 2:
        compare(pieces, out, winners, x, n, rows, row_step, 2, ROWS, 1, counted, lanes)
    elif side == 1 and count == 3:
        compare(pieces, out, winners, x, n, rows, row_step, 3, ROWS, 1, counted, lanes)
    elif side == 1 and count == 4:
        compare(pieces, out, winners, x, n, rows, row_step, 2, ROWS, 2, counted, lanes)
    elif side == 1:
        compare(pieces, out, winners, x, n, rows, row_step, 3, ROWS, 0, counted, lanes)
    elif side == 2 and count == 2:
        compare(pieces, out, winners, x, n, rows, row_step, 2, SIDE, 1, counted, lanes)
    elif side == 2 and count == 4 and (is_short or is_one_and_a_half):
        compare(pieces, out, winners, x, n, rows, row_step, 2, SIDE, 2, counted, few)
    elif side == 2 and count == 4:
        compare(pieces, out, winners, x, n, rows, row_step, 2, SIDE, 2, counted, lanes)
    elif side == 3 and count == 3:
        compare(pieces, out, winners, x, n, rows, row_step, 3, SIDE, 1, counted, lanes)
    elif side == 3 and count == 9 and is_short:
        compare(pieces, out, winners, x, n, rows, row_step, 3, SIDE, 3, counted, few)
    elif side == 3 and count == 9:
        compare(pieces, out, winners, x, n, rows, row_step, 3, SIDE, 3, counted, lanes)
    elif side == 4 and count == 4:
        compare(pieces, out, winners, x, n, rows, row_step, 4, SIDE, 1, counted, lanes)
    elif side == 5 and count == 5:
        compare(pieces, out, winners, x, n, rows, row_step, 5, SIDE, 1, counted, lanes)
    elif number is float32 and side == 9 and count == 9:
        compare(pieces, out, winners, x, n, rows, row_step, 9, SIDE, 1, counted, lanes)
    elif count >= 4 and (pieces.run == count or pieces.run % 4 == 0):
        compare(pieces, out, winners, x, n, rows, row_step, 4, APART, 0, counted, lanes)
    else:
        return False
    return True


cdef bint maxout_rows(number *out, uint8 *which, const char *x, const Pieces *pieces,
                      Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step) noexcept nogil:
    # Local arrays and not the caller's: compilers know that no row overlaps a local one, and a
    # short row may be followed by what is left of a vector.
    cdef number winners[COMPARED + MOST_LANES]
    cdef number short_rows[COMPARED + MOST_LANES]
    cdef bint is_short = n < lanes_of(sizeof(number))
    cdef number *best = &short_rows[0] if is_short else out
    cdef Py_ssize_t i
    keep(best)  # GCC 12, which knows both arrays, takes 1.1 times as long over rows (v2)
    if not (compare_all(pieces, best, winners, x, n, rows, row_step, False) if which == NULL
            else compare_all(pieces, best, winners, x, n, rows, row_step, True)):
        return False
    if is_short:
        memcpy(out, short_rows, rows * n * sizeof(number))
    if which != NULL:
        for i in range(rows * n):
            which[i] = <uint8>winners[i]
    return True


cdef inline int place(number *to, number grad) noexcept nogil:
    keep(to)
    to[0] = grad
    return 0


cdef inline void place_some(char *x, const number *grad, const uint8 *which, const Pieces *pieces,
                            Py_ssize_t n) noexcept nogil:
    """Clear the pieces, those side by side at once, and place grad.  Each number is read once."""
    cdef Py_ssize_t step = pieces.step
    cdef Py_ssize_t run = pieces.run * sizeof(number)
    cdef Py_ssize_t i = 0
    cdef int piece = 0
    while piece < pieces.count:
        if run == step:
            memset(x + pieces.offset[piece], 0, n * run)
        else:
            for i in range(n):
                memset(x + pieces.offset[piece] + i * step, 0, run)
        piece += pieces.run
    loop(8, i, 0, n, place(<number *>(x + pieces.offset[which[i]] + i * step), grad[i]))


cdef void spread_rows(char *x, const number *grad, const uint8 *which, const Pieces *pieces,
                      Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step) noexcept nogil:
    """By vectors where there are kernels for the pieces; in blocks that stay in the first-level
    cache."""
    cdef Py_ssize_t size = sizeof(number)
    # Not pieces.side: windows of 2 by 2 of float64 then take 1.3 to 1.8 times as long (v4, Zen 5).
    cdef Py_ssize_t side = pieces.step // size
    cdef Py_ssize_t block = 512
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t some, row
    cdef int piece, placed
    if size > 8 or not 1 <= side <= MOST_SIDE or side * size != pieces.step or pieces.run % side:
        side, block = 0, 4096 // (pieces.count * size) + 1
    while start < n:
        some = n - start if n - start <= block + MOST_LANES else block
        piece = 0
        while piece < pieces.count:
            placed = put(x + start * pieces.step, pieces.offset + piece, pieces.count - piece, side,
                         row_step, <const char *>(grad + start), which + start, some, rows, n,
                         piece, sizeof(number))
            if placed == 0:
                for row in range(rows):
                    place_some(x + start * pieces.step + row * row_step, grad + start + row * n,
                               which + start + row * n, pieces, some)
                placed = pieces.count
            piece += placed
        start += some


cdef void fill_maxout(KernelTable *table, const number *dtype_marker, int dtype) noexcept:
    if (number is uint8 or number is uint16 or number is _scalar.uint32
            or number is _scalar.uint64 or number is longdouble):
        table.spread_rows[sizeof(number)] = <SpreadRows>spread_rows[number]
    if number is bfloat16:  # the kernel of both
        table.maxout_rows[dtype] = <MaxoutRows>maxout_rows[_scalar.float16]
    else:
        table.maxout_rows[dtype] = <MaxoutRows>maxout_rows[number]
