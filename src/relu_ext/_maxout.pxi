# The loops of maxout, included by _kernels.pyx.
#
# There is one for each dtype: the vector maximum of pieces that lie in rows, up to four at a time,
# or side by side, in blocks whose results stay in the first-level cache.  The gradient is moved by
# functions that know the size of an item alone (_pieces.h).

from relu_ext._scalar cimport uint8
from relu_ext._table cimport MOST_SIDE, MaxoutRows, Pieces

cdef extern from "_pieces.h" nogil:
    int lanes_of "RELU_EXT_LANES"(int size)
    Py_ssize_t place_of "relu_ext_place_of"(Py_ssize_t start, Py_ssize_t n, int lanes)
    void copy_vector "relu_ext_copy_vector"(void *to, const void *source, int bytes)
    void take "relu_ext_take"(void *rows, const char *x, const Py_ssize_t *offset, int pieces,
                              int layout, int size, int lanes, Py_ssize_t step, int width)
    enum:
        ROWS "RELU_EXT_ROWS"  # each piece in a row of its own
        SIDE "RELU_EXT_SIDE"  # pieces side by side, and next to those of the next element
        APART "RELU_EXT_APART"  # pieces side by side
        GATHERED "RELU_EXT_GATHERED"  # in any other way, and rows of any length
    void each_lane "RELU_EXT_EACH_LANE"(int lane, int lanes, int statement)
    void spread_pieces "relu_ext_spread"(
        char *x, const Py_ssize_t *offset, int pieces, int side, Py_ssize_t step,
        Py_ssize_t row_step, const char *grad, const uint8 *which, Py_ssize_t n, Py_ssize_t rows,
        Py_ssize_t size)

cdef enum:
    MOST_LANES = 32
    ROW_BLOCK = 512  # elements


cdef inline void meet(number x, number rank, number piece, number *best, number *best_rank,
                      number *best_piece) noexcept nogil:
    """Let a later piece compete with the best of those before.  Its number counts in the format of
    x, so that all vectors are of one width, and keeps its lowest 8 bits there."""
    cdef number other = best_rank[0]
    best[0] = _scalar.winner(other, rank, best[0], x)
    best_rank[0] = _scalar.winner(other, rank, other, rank)
    best_piece[0] = _scalar.winner(other, rank, best_piece[0], piece)


cdef inline void meet_pair(const number *items, int stride, int first, const bint pair, number *x,
                           number *rank, number *piece) noexcept nogil:
    """The better of two neighbours, or a piece alone."""
    x[0] = items[0]
    rank[0] = _scalar.rank(x[0])
    piece[0] = <number>first
    if pair:
        meet(items[stride], _scalar.rank(items[stride]), <number>(first + 1), x, rank, piece)


cdef inline int meet_all(int lane, number *best, number *winner, const number *items, int first,
                         const int pieces, const bint champion, const bint counted,
                         const int lanes) noexcept nogil:
    """Pairs meet first, and the champion last, so that few comparisons wait for each other."""
    cdef number x, rank, piece, best_x, best_rank, best_piece
    meet_pair(items + lane, lanes, first, True, &best_x, &best_rank, &best_piece)
    if pieces > 2:
        meet_pair(items + 2 * lanes + lane, lanes, first + 2, pieces > 3, &x, &rank, &piece)
        meet(x, rank, piece, &best_x, &best_rank, &best_piece)
    if pieces > 4:
        meet_pair(items + 4 * lanes + lane, lanes, first + 4, False, &x, &rank, &piece)
        meet(x, rank, piece, &best_x, &best_rank, &best_piece)
    if champion:
        x, rank, piece = best_x, best_rank, best_piece
        best_x = best[lane]
        best_rank = _scalar.rank(best_x)
        if counted:
            best_piece = winner[lane]
        meet(x, rank, piece, &best_x, &best_rank, &best_piece)
    best[lane] = best_x
    if counted:
        winner[lane] = best_piece
    return 0


cdef inline void compare_group(const Py_ssize_t *offset, number *best, number *winner,
                               const char *x, int first, const int some, const int layout,
                               const bint counted, const int lanes, Py_ssize_t step,
                               int width) noexcept nogil:
    cdef number items[MOST_SIDE * MOST_LANES]
    cdef int lane = 0
    take(items, x, offset, some, layout, sizeof(number), lanes, step, width)
    each_lane(lane, lanes, meet_all(lane, best, winner, items, first, some, True, counted, lanes))


cdef inline void compare(const Pieces *pieces, number *out, number *winners, const char *x,
                         Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step, const int some,
                         const int layout, const int groups, const bint counted,
                         const int lanes) noexcept nogil:
    """`some` pieces at a time, of which there are `groups`, or, if that is 0, any number; then the
    last ones may meet again."""
    cdef int width = <int>min(n, lanes) if layout == GATHERED else lanes
    cdef int bytes = width * sizeof(number)
    cdef number best[MOST_LANES]
    cdef number winner[MOST_LANES]
    cdef Py_ssize_t step = pieces.step
    cdef Py_ssize_t place, start, row, i
    cdef Py_ssize_t offset[9]
    cdef number items[MOST_SIDE * MOST_LANES]
    cdef int next, first
    cdef int lane = 0
    if layout == ROWS or layout == SIDE:
        step = sizeof(number) * (some if layout == SIDE else 1)
    for next in range(max(groups, 1) * some):
        offset[next] = pieces.offset[next]
    for row in range(rows):
        i = 0
        while i < n:
            place = place_of(i, n, lanes)
            start = row * row_step + place * step
            place += row * n
            take(items, x + start, offset, some, layout, sizeof(number), lanes, step, width)
            if groups == 2:
                take(items + some * lanes, x + start, offset + some, some, layout, sizeof(number),
                     lanes, step, width)
            each_lane(lane, lanes, meet_all(lane, best, winner, items, 0,
                                            2 * some if groups == 2 else some, False, counted,
                                            lanes))
            if groups == 3:  # written out: float32 with `which` takes 1.25 times as long in a loop
                compare_group(offset + 3, best, winner, x + start, 3, some, layout, counted,
                              lanes, step, width)
                compare_group(offset + 6, best, winner, x + start, 6, some, layout, counted,
                              lanes, step, width)
            next = some
            while groups == 0 and next < pieces.count:
                first = min(next, pieces.count - some)
                compare_group(pieces.offset + first, best, winner, x + start, first, some, layout,
                              counted, lanes, step, width)
                next += some
            copy_vector(out + place, best, bytes)
            if counted:
                copy_vector(winners + place, winner, bytes)
            i += lanes


cdef inline void compare_windows(const Pieces *pieces, number *out, number *winners, const char *x,
                                 Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step,
                                 const int some, const bint counted) noexcept nogil:
    """Of `some` by `some`, in rows that may be as short as half a vector, or 8 items of 2 bytes."""
    cdef int lanes = lanes_of(sizeof(number))
    if pieces.lanes == lanes:
        compare(pieces, out, winners, x, n, rows, row_step, some, SIDE, some, counted, lanes)
    elif lanes * sizeof(number) >= 32 and pieces.lanes == lanes // 2:
        compare(pieces, out, winners, x, n, rows, row_step, some, SIDE, some, counted, lanes // 2)
    elif lanes == 32 and sizeof(number) == 2:
        compare(pieces, out, winners, x, n, rows, row_step, some, SIDE, some, counted, 8)


cdef inline void compare_all(const Pieces *pieces, number *out, number *winners, const char *x,
                             Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step,
                             const bint counted) noexcept nogil:
    """Each layout that is a kernel of its own, and the others by any number of groups."""
    cdef int lanes = lanes_of(sizeof(number))
    cdef int count = pieces.count
    if pieces.side == 0:
        compare(pieces, out, winners, x, n, rows, row_step, 4, APART, 0, counted, lanes)
    elif pieces.side == 1 and count == 2:
        compare(pieces, out, winners, x, n, rows, row_step, 2, ROWS, 1, counted, lanes)
    elif pieces.side == 1 and count == 3:
        compare(pieces, out, winners, x, n, rows, row_step, 3, ROWS, 1, counted, lanes)
    elif pieces.side == 1 and count == 4:
        compare(pieces, out, winners, x, n, rows, row_step, 4, ROWS, 1, counted, lanes)
    elif pieces.side == 1:
        compare(pieces, out, winners, x, n, rows, row_step, 4, ROWS, 0, counted, lanes)
    elif pieces.side == 2 and count == 2:
        compare(pieces, out, winners, x, n, rows, row_step, 2, SIDE, 1, counted, lanes)
    elif pieces.side == 2:
        compare_windows(pieces, out, winners, x, n, rows, row_step, 2, counted)
    elif pieces.side == 3 and count == 3:
        compare(pieces, out, winners, x, n, rows, row_step, 3, SIDE, 1, counted, lanes)
    elif pieces.side == 3 and count == 9:
        compare_windows(pieces, out, winners, x, n, rows, row_step, 3, counted)
    elif pieces.side == 3:
        compare(pieces, out, winners, x, n, rows, row_step, 3, SIDE, 0, counted, lanes)
    elif pieces.side == 4:
        compare(pieces, out, winners, x, n, rows, row_step, 4, SIDE, 1, counted, lanes)
    else:
        compare(pieces, out, winners, x, n, rows, row_step, 5, SIDE, 1, counted, lanes)


cdef void maxout_rows(number *out, uint8 *which, const char *x, const Pieces *pieces,
                      Py_ssize_t n, Py_ssize_t rows, Py_ssize_t row_step) noexcept nogil:
    # A local array and not the caller's, because compilers know that no row overlaps a local one.
    cdef number winners[ROW_BLOCK + MOST_LANES]
    cdef Py_ssize_t together, start, count, i
    while rows > 0:
        together = min(rows, max(<Py_ssize_t>1, ROW_BLOCK // n))
        start = 0
        while start < n:
            # What is left for the next block is never less than a vector.
            count = n - start if n - start <= ROW_BLOCK + MOST_LANES else ROW_BLOCK
            if pieces.side < 0 or number is longdouble:
                compare(pieces, out + start, winners, x + start * pieces.step, count, together,
                        row_step, 2, GATHERED, 0, True, lanes_of(sizeof(number)))
            elif which == NULL:
                compare_all(pieces, out + start, winners, x + start * pieces.step, count, together,
                            row_step, False)
            else:
                compare_all(pieces, out + start, winners, x + start * pieces.step, count, together,
                            row_step, True)
            if which != NULL:
                for i in range(together * count):
                    which[start + i] = <uint8>winners[i]
            start += count
        out += together * n
        x += together * row_step
        if which != NULL:
            which += together * n
        rows -= together


cdef void fill_maxout(KernelTable *table, const number *dtype_marker, int dtype) noexcept:
    table.maxout_rows[dtype] = <MaxoutRows>maxout_rows[number]
    table.lanes[dtype] = lanes_of(sizeof(number))
    table.spread_pieces = spread_pieces
