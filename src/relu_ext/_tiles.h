/* Between elements whose pieces lie side by side and rows of one piece each: four pieces of four
 * elements at a time are loaded, transposed and stored as vectors. One by one, each would cost a
 * store. */
#ifndef RELU_EXT_TILES_H
#define RELU_EXT_TILES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define RELU_EXT_HAS_TILES 1
#endif
#endif

/* Four vectors of four, `step` bytes apart, to the four that are their columns. */
#if defined(RELU_EXT_HAS_TILES)
#define RELU_EXT_DEFINE_TILE(BITS)                                                         \
    typedef uint##BITS##_t relu_ext_four##BITS __attribute__((vector_size(BITS / 2)));     \
    static inline void relu_ext_tile##BITS(char *to, ptrdiff_t to_step, const char *a,     \
                                           ptrdiff_t step)                                 \
    {                                                                                      \
        relu_ext_four##BITS row[4], half[4];                                               \
        int i;                                                                             \
        for (i = 0; i < 4; i++)                                                            \
            memcpy(&row[i], a + i * step, sizeof row[i]);                                  \
        half[0] = __builtin_shufflevector(row[0], row[2], 0, 4, 1, 5);                     \
        half[1] = __builtin_shufflevector(row[1], row[3], 0, 4, 1, 5);                     \
        half[2] = __builtin_shufflevector(row[0], row[2], 2, 6, 3, 7);                     \
        half[3] = __builtin_shufflevector(row[1], row[3], 2, 6, 3, 7);                     \
        row[0] = __builtin_shufflevector(half[0], half[1], 0, 4, 1, 5);                    \
        row[1] = __builtin_shufflevector(half[0], half[1], 2, 6, 3, 7);                    \
        row[2] = __builtin_shufflevector(half[2], half[3], 0, 4, 1, 5);                    \
        row[3] = __builtin_shufflevector(half[2], half[3], 2, 6, 3, 7);                    \
        for (i = 0; i < 4; i++)                                                            \
            memcpy(to + i * to_step, &row[i], sizeof row[i]);                              \
    }
#else
#define RELU_EXT_DEFINE_TILE(BITS) \
    static inline void relu_ext_tile##BITS(char *to, ptrdiff_t to_step, const char *a, \
                                           ptrdiff_t step)                             \
    {                                                                                  \
        int i, j;                                                                      \
        for (i = 0; i < 4; i++)                                                        \
            for (j = 0; j < 4; j++)                                                    \
                memcpy(to + j * to_step + i * (BITS / 8), a + i * step + j * (BITS / 8), \
                       BITS / 8);                                                      \
    }
#endif

RELU_EXT_DEFINE_TILE(16)
RELU_EXT_DEFINE_TILE(32)
RELU_EXT_DEFINE_TILE(64)

/* An array of `pieces` by n elements to another. The tiles are for four pieces that lie side by
 * side on one end, and elements that do on the other. */
static inline void relu_ext_move(size_t itemsize, char *to, ptrdiff_t to_piece_step,
                                 ptrdiff_t to_step, const char *a, ptrdiff_t piece_step,
                                 ptrdiff_t step, int pieces, ptrdiff_t n)
{
    const ptrdiff_t size = (ptrdiff_t)itemsize;
    const int gathers = pieces == 4 && piece_step == size && to_step == size;
    const int scatters = pieces == 4 && to_piece_step == size && step == size;
    ptrdiff_t done = 0, i;
    int piece;
#define RELU_EXT_TILES(BITS)                                                          \
    if (gathers)                                                                      \
        for (; done + 4 <= n; done += 4)                                              \
            relu_ext_tile##BITS(to + done * size, to_piece_step, a + done * step, step); \
    else if (scatters)                                                                \
        for (; done + 4 <= n; done += 4)                                              \
            relu_ext_tile##BITS(to + done * to_step, to_step, a + done * size, piece_step);
#define RELU_EXT_ONE_BY_ONE(SIZE)                                         \
    for (piece = 0; piece < pieces; piece++)                              \
        for (i = done; i < n; i++)                                        \
            memcpy(to + piece * to_piece_step + i * to_step,              \
                   a + piece * piece_step + i * step, SIZE);
    if (itemsize == 1) {
        RELU_EXT_ONE_BY_ONE(1)
    } else if (itemsize == 2) {
        RELU_EXT_TILES(16)
        RELU_EXT_ONE_BY_ONE(2)
    } else if (itemsize == 4) {
        RELU_EXT_TILES(32)
        RELU_EXT_ONE_BY_ONE(4)
    } else if (itemsize == 8) {
        RELU_EXT_TILES(64)
        RELU_EXT_ONE_BY_ONE(8)
    } else {
        RELU_EXT_ONE_BY_ONE(itemsize)
    }
#undef RELU_EXT_TILES
#undef RELU_EXT_ONE_BY_ONE
}

#endif
