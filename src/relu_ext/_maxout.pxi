# The loops of maxout, included by _kernels.pxi.
#
# There is one loop for each dtype: the vector maximum of rows, one row for each piece, up to four
# at a time, in blocks whose results stay in the first-level cache.  What lies otherwise is first
# moved to rows, and the gradient is moved as a whole, by functions that know the size of an item
# alone (_pieces.h).

from relu_ext._scalar cimport uint8
from relu_ext._table cimport LANES_BYTES, MaxoutRows

cdef extern from "_pieces.h" nogil:
    void take_pieces "relu_ext_take"(
        char *to, Py_ssize_t to_step, const char *x, const Py_ssize_t *offset, int pieces,
        Py_ssize_t step, Py_ssize_t n, Py_ssize_t row_step, Py_ssize_t rows, Py_ssize_t size)
    void spread_pieces "relu_ext_spread"(
        char *x, const Py_ssize_t *offset, int pieces, Py_ssize_t step, Py_ssize_t row_step,
        const char *grad, Py_ssize_t grad_row_step, const uint8 *which, Py_ssize_t which_row_step,
        Py_ssize_t n, Py_ssize_t rows, Py_ssize_t size, Py_ssize_t fill)

cdef enum:
    ROW_BLOCK = 512  # elements


cdef inline void meet(number x, int piece, number *best, number *best_rank,
                      number *best_piece) noexcept nogil:
    """Let the next piece compete with the best so far.  Its number counts in the format of x, so
    that all vectors are of one width, and keeps its lowest 8 bits there."""
    cdef number rank = _scalar.rank(x)
    cdef number other = best_rank[0]
    best[0] = _scalar.winner(other, rank, best[0], x)
    best_rank[0] = _scalar.winner(other, rank, other, rank)
    best_piece[0] = _scalar.winner(other, rank, best_piece[0], <number>piece)


cdef inline void compare_rows(number *out, number *which, const number *champion, const number *a,
                              const number *b, const number *c, const number *d, int piece,
                              Py_ssize_t n, const int rows, const bint counted) noexcept nogil:
    """The champion against `rows` of a, b, c and d, which are numbered from `piece`."""
    cdef number best, best_rank
    cdef number best_piece = <number>0
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


cdef inline void compare_block(number *out, number *which, const char *x, const Py_ssize_t *offset,
                               int first, int rows, bint champion, Py_ssize_t n,
                               const bint counted) noexcept nogil:
    cdef const number *best = out
    cdef const number *a
    cdef const number *b
    cdef const number *c
    cdef int row = 0
    cdef Py_ssize_t i
    if not champion:
        if counted:
            for i in range(n):
                which[i] = <number>0
        best = <const number *>(x + offset[0])
        row = 1
        if rows == 1:
            memcpy(out, best, n * sizeof(number))
    while row < rows:
        a = <const number *>(x + offset[row])
        b = <const number *>(x + offset[row + 1]) if rows - row > 1 else a
        c = <const number *>(x + offset[row + 2]) if rows - row > 2 else a
        if rows - row >= 4:
            compare_rows(out, which, best, a, b, c, <const number *>(x + offset[row + 3]),
                         first + row, n, 4, counted)
        elif rows - row == 3:
            compare_rows(out, which, best, a, b, c, c, first + row, n, 3, counted)
        elif rows - row == 2:
            compare_rows(out, which, best, a, b, b, b, first + row, n, 2, counted)
        else:
            compare_rows(out, which, best, a, a, a, a, first + row, n, 1, counted)
        best = out
        row += 4


cdef void maxout_rows(number *out, uint8 *which, const char *x, const Py_ssize_t *offset,
                      int first, int rows, bint champion, Py_ssize_t n) noexcept nogil:
    """Whole vectors alone: what is left at the end is computed with elements before it, which may
    meet a piece twice."""
    cdef Py_ssize_t whole = LANES_BYTES // sizeof(number)
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t count
    # A local array and not the caller's, because compilers know that no row overlaps a local one.
    cdef number pieces[ROW_BLOCK]
    cdef Py_ssize_t i
    while start < n:
        count = min(n - start, <Py_ssize_t>ROW_BLOCK) // whole * whole
        if count == 0:
            start = n - whole
            count = whole
        if which == NULL:
            compare_block(out + start, NULL, x + start * sizeof(number), offset, first, rows,
                          champion, count, False)
        else:
            if champion:
                for i in range(count):
                    pieces[i] = <number>which[start + i]
            compare_block(out + start, pieces, x + start * sizeof(number), offset, first, rows,
                          champion, count, True)
            for i in range(count):
                which[start + i] = <uint8>pieces[i]
        start += count


cdef void fill_maxout(KernelTable *table, const number *dtype_marker, int dtype) noexcept:
    table.maxout_rows[dtype] = <MaxoutRows>maxout_rows[number]
    table.take_pieces = take_pieces
    table.spread_pieces = spread_pieces
