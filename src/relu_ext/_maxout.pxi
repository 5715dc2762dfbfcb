# The loops of maxout, included by _kernels.pxi.
#
# With few pieces last, each number of pieces has a loop in which it is a constant: compilers take
# the pieces apart with permutations.  Everything else is rows: the vector maximum of up to four at
# a time, in blocks whose results stay in the first-level cache.

from relu_ext._scalar cimport uint8
from relu_ext._table cimport (
    MaxoutBackwardLast, MaxoutBackwardPlaced, MaxoutBackwardRows, MaxoutLast, MaxoutRows,
)

cdef extern from "_tiles.h" nogil:
    const bint TAKES_APART "RELU_EXT_TAKES_APART"
    enum:
        APART "RELU_EXT_APART"
    void take_apart "relu_ext_take_apart"(size_t itemsize, void *rows, const void *x, int pieces)
    void spread_apart "relu_ext_spread_apart"(
        size_t itemsize, void *x, const void *grad, const uint8 *which, int pieces)
    uint8 read_once "relu_ext_read_once"(const uint8 *number)

cdef enum:
    ROW_BLOCK = 512  # elements
    PLACED_BYTES = 1024


cdef inline void meet(number x, uint8 piece, number *best, number *best_rank,
                      uint8 *best_piece) noexcept nogil:
    """Let the next piece compete with the best so far."""
    cdef number rank = _scalar.rank(x)
    cdef number other = best_rank[0]
    best[0] = _scalar.winner(other, rank, best[0], x)
    best_rank[0] = _scalar.winner(other, rank, other, rank)
    best_piece[0] = _scalar.winning_piece(other, rank, best_piece[0], piece)


cdef inline void compare_last(number *out, uint8 *which, const number *x, Py_ssize_t n,
                              const int pieces, const bint counted) noexcept nogil:
    # Written out, because GCC 12 unrolls an inner loop after it vectorises, too late.
    cdef number best, best_rank
    cdef uint8 best_piece
    cdef Py_ssize_t i
    for i in range(n):
        best = x[i * pieces]
        best_rank = _scalar.rank(best)
        best_piece = 0
        meet(x[i * pieces + 1], 1, &best, &best_rank, &best_piece)
        if pieces > 2:
            meet(x[i * pieces + 2], 2, &best, &best_rank, &best_piece)
        if pieces > 3:
            meet(x[i * pieces + 3], 3, &best, &best_rank, &best_piece)
        if pieces > 4:
            meet(x[i * pieces + 4], 4, &best, &best_rank, &best_piece)
        if pieces > 5:
            meet(x[i * pieces + 5], 5, &best, &best_rank, &best_piece)
            meet(x[i * pieces + 6], 6, &best, &best_rank, &best_piece)
            meet(x[i * pieces + 7], 7, &best, &best_rank, &best_piece)
        out[i] = best
        if counted:
            which[i] = best_piece


cdef inline void maxout_last(number *out, uint8 *which, const number *x, Py_ssize_t n,
                             const int pieces) noexcept nogil:
    if which == NULL:
        compare_last(out, which, x, n, pieces, False)
    else:
        compare_last(out, which, x, n, pieces, True)


cdef void maxout_2(number *out, uint8 *which, const number *x, Py_ssize_t n) noexcept nogil:
    maxout_last(out, which, x, n, 2)


cdef void maxout_3(number *out, uint8 *which, const number *x, Py_ssize_t n) noexcept nogil:
    maxout_last(out, which, x, n, 3)


cdef void maxout_4(number *out, uint8 *which, const number *x, Py_ssize_t n) noexcept nogil:
    maxout_last(out, which, x, n, 4)


cdef void maxout_8(number *out, uint8 *which, const number *x, Py_ssize_t n) noexcept nogil:
    maxout_last(out, which, x, n, 8)


cdef inline void spread_last(number *out, const number *grad, const uint8 *which, Py_ssize_t n,
                             const int pieces) noexcept nogil:
    cdef number g
    cdef uint8 w
    cdef Py_ssize_t i
    for i in range(n):
        g = grad[i]
        w = which[i]
        out[i * pieces] = _scalar.maxout_backward(g, w, 0)
        out[i * pieces + 1] = _scalar.maxout_backward(g, w, 1)
        if pieces > 2:
            out[i * pieces + 2] = _scalar.maxout_backward(g, w, 2)
        if pieces > 3:
            out[i * pieces + 3] = _scalar.maxout_backward(g, w, 3)
        if pieces > 4:
            out[i * pieces + 4] = _scalar.maxout_backward(g, w, 4)
        if pieces > 5:
            out[i * pieces + 5] = _scalar.maxout_backward(g, w, 5)
            out[i * pieces + 6] = _scalar.maxout_backward(g, w, 6)
            out[i * pieces + 7] = _scalar.maxout_backward(g, w, 7)


cdef void maxout_backward_2(number *out, const number *grad, const uint8 *which,
                            Py_ssize_t n) noexcept nogil:
    spread_last(out, grad, which, n, 2)


cdef void maxout_backward_3(number *out, const number *grad, const uint8 *which,
                            Py_ssize_t n) noexcept nogil:
    spread_last(out, grad, which, n, 3)


cdef void maxout_backward_4(number *out, const number *grad, const uint8 *which,
                            Py_ssize_t n) noexcept nogil:
    spread_last(out, grad, which, n, 4)


cdef inline bint takes_apart(number marker) noexcept nogil:
    return TAKES_APART and (sizeof(number) == 2 or sizeof(number) == 4 or sizeof(number) == 8)


cdef inline bint interleaving_pays(number marker, int pieces) noexcept nogil:
    """Whether a kernel of its own for this number of pieces beats `maxout_backward_placed`.  With
    AVX2 (AMD EPYC, Zen 3, GCC 12) 4 pieces of float32 take as long in either, 8 of int8 in their
    own 0.45 times as long, and 4 of float64 2.9 times.  Nobody has measured it with AVX-512."""
    return takes_apart(marker) or pieces * sizeof(number) <= 16


cdef inline void spread_wide(number *out, const number *grad, const uint8 *which, Py_ssize_t n,
                             const int pieces) noexcept nogil:
    """Spread many pieces, for which permuting grad once for each vector of the result costs less
    than interleaving: 8 pieces of float32 take 0.85 of the time (AMD EPYC, Zen 4)."""
    cdef Py_ssize_t start = 0
    if takes_apart(<number>0):
        while start + APART <= n:
            spread_apart(sizeof(number), out + start * pieces, grad + start, which + start, pieces)
            start += APART
    spread_last(out + start * pieces, grad + start, which + start, n - start, pieces)


cdef void maxout_backward_5(number *out, const number *grad, const uint8 *which,
                            Py_ssize_t n) noexcept nogil:
    spread_wide(out, grad, which, n, 5)


cdef void maxout_backward_8(number *out, const number *grad, const uint8 *which,
                            Py_ssize_t n) noexcept nogil:
    spread_wide(out, grad, which, n, 8)


cdef void maxout_backward_placed(number *out, const number *grad, const uint8 *which, int pieces,
                                 Py_ssize_t n) noexcept nogil:
    """The gradient as zeros, over which each element of grad is placed where its piece is.  Zeros
    for 4 KiB instead of 1 KiB at a time take 1.2 times as long in all."""
    cdef Py_ssize_t most = max(PLACED_BYTES // (pieces * <Py_ssize_t>sizeof(number)), <Py_ssize_t>1)
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t end
    cdef uint8 piece
    while start < n:
        end = min(start + most, n)
        memset(out + start * pieces, 0, (end - start) * pieces * sizeof(number))
        while start < end:
            piece = read_once(which + start)
            if piece < pieces:
                out[start * pieces + piece] = grad[start]
            start += 1


cdef inline void compare_rows(number *out, uint8 *which, const number *champion, const number *a,
                              const number *b, const number *c, const number *d, int piece,
                              Py_ssize_t n, const int rows, const bint counted) noexcept nogil:
    """The champion against `rows` of a, b, c and d, which are numbered from `piece`."""
    cdef number best, best_rank
    cdef uint8 best_piece = 0
    cdef Py_ssize_t i
    for i in range(n):
        best = champion[i]
        best_rank = _scalar.rank(best)
        if counted:
            best_piece = which[i]
        meet(a[i], piece, &best, &best_rank, &best_piece)
        if rows > 1:
            meet(b[i], piece + 1, &best, &best_rank, &best_piece)
        if rows > 2:
            meet(c[i], piece + 2, &best, &best_rank, &best_piece)
        if rows > 3:
            meet(d[i], piece + 3, &best, &best_rank, &best_piece)
        out[i] = best
        if counted:
            which[i] = best_piece


cdef inline void compare_block(number *out, uint8 *which, const char *x, Py_ssize_t step,
                               int first, int rows, bint champion, Py_ssize_t n,
                               const bint counted) noexcept nogil:
    cdef const number *best = out
    cdef const number *a
    cdef const number *b
    cdef const number *c
    cdef int row = 0
    if not champion:
        if counted:
            memset(which, first, n)
        best = <const number *>x
        row = 1
        if rows == 1:
            memcpy(out, x, n * sizeof(number))
    while row < rows:
        a = <const number *>(x + row * step)
        b = <const number *>(x + (row + 1) * step)
        c = <const number *>(x + (row + 2) * step)
        if rows - row >= 4:
            compare_rows(out, which, best, a, b, c, <const number *>(x + (row + 3) * step),
                         first + row, n, 4, counted)
        elif rows - row == 3:
            compare_rows(out, which, best, a, b, c, c, first + row, n, 3, counted)
        elif rows - row == 2:
            compare_rows(out, which, best, a, b, b, b, first + row, n, 2, counted)
        else:
            compare_rows(out, which, best, a, a, a, a, first + row, n, 1, counted)
        best = out
        row += 4


cdef inline void compare_apart(number *out, uint8 *which, const number *x, Py_ssize_t n,
                               const bint counted) noexcept nogil:
    """Five pieces, which no compiler takes apart: as rows, APART elements at a time."""
    cdef number rows[5][APART]
    cdef uint8 winners[APART]
    cdef Py_ssize_t start = 0
    while start + APART <= n:
        take_apart(sizeof(number), rows, x + start * 5, 5)
        memset(winners, 0, APART)
        compare_rows(out + start, winners, rows[0], rows[1], rows[2], rows[3], rows[4], 1, APART,
                     4, counted)
        if counted:
            memcpy(which + start, winners, APART)
        start += APART
    compare_last(out + start, which + start if counted else NULL, x + start * 5, n - start, 5,
                 counted)


cdef void maxout_5(number *out, uint8 *which, const number *x, Py_ssize_t n) noexcept nogil:
    if which == NULL:
        compare_apart(out, which, x, n, False)
    else:
        compare_apart(out, which, x, n, True)


cdef void maxout_rows(number *out, uint8 *which, const number *x, Py_ssize_t step, int first,
                      int rows, bint champion, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t count
    # A local array and not the caller's, because compilers know that no row overlaps a local one.
    cdef uint8 pieces[ROW_BLOCK]
    while start < n:
        count = min(n - start, <Py_ssize_t>ROW_BLOCK)
        if which == NULL:
            compare_block(out + start, NULL, <const char *>(x + start), step, first, rows,
                          champion, count, False)
        else:
            if champion:
                memcpy(pieces, which + start, count)
            compare_block(out + start, pieces, <const char *>(x + start), step, first, rows,
                          champion, count, True)
            memcpy(which + start, pieces, count)
        start += count


cdef void maxout_backward_rows(number *out, Py_ssize_t step, const number *grad,
                               const uint8 *which, int first, int rows,
                               Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t count, i
    cdef number *to
    cdef uint8 piece
    cdef int row
    while start < n:
        count = min(n - start, <Py_ssize_t>ROW_BLOCK)
        for row in range(rows):
            to = <number *>(<char *>(out + start) + row * step)
            piece = first + row
            for i in range(count):
                to[i] = _scalar.maxout_backward(grad[start + i], which[start + i], piece)
        start += count


cdef void fill_maxout(KernelTable *table, const number *dtype_marker, int dtype) noexcept:
    table.maxout_last[2][dtype] = <MaxoutLast>maxout_2[number]
    table.maxout_last[3][dtype] = <MaxoutLast>maxout_3[number]
    table.maxout_last[4][dtype] = <MaxoutLast>maxout_4[number]
    table.maxout_last[8][dtype] = <MaxoutLast>maxout_8[number]
    if takes_apart(<number>0):
        table.maxout_last[5][dtype] = <MaxoutLast>maxout_5[number]
        table.maxout_backward_last[5][dtype] = <MaxoutBackwardLast>maxout_backward_5[number]
    if interleaving_pays(<number>0, 2):
        table.maxout_backward_last[2][dtype] = <MaxoutBackwardLast>maxout_backward_2[number]
    if interleaving_pays(<number>0, 3):
        table.maxout_backward_last[3][dtype] = <MaxoutBackwardLast>maxout_backward_3[number]
    if interleaving_pays(<number>0, 4):
        table.maxout_backward_last[4][dtype] = <MaxoutBackwardLast>maxout_backward_4[number]
    if interleaving_pays(<number>0, 8):
        table.maxout_backward_last[8][dtype] = <MaxoutBackwardLast>maxout_backward_8[number]
    table.maxout_backward_placed[dtype] = <MaxoutBackwardPlaced>maxout_backward_placed[number]
    table.maxout_rows[dtype] = <MaxoutRows>maxout_rows[number]
    table.maxout_backward_rows[dtype] = <MaxoutBackwardRows>maxout_backward_rows[number]
