/* Moves numbers between elements whose pieces lie side by side and rows of one piece each. Four
 * pieces of four elements at a time are loaded, transposed and stored as vectors. Moved one by
 * one, each number would cost a store. */
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

/* Transposes four vectors of four numbers, which lie `step` bytes apart. */
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

/* Copies an array of `pieces` by n elements to another. It goes by tiles where four pieces lie
 * side by side in one of the arrays, and the elements lie side by side in the other. */
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
        RELU_EXT_ONE_BY_ONE(8)
    } else if (itemsize == 16) {
        RELU_EXT_ONE_BY_ONE(16)
    } else if (itemsize == 6) { /* from here on an item is several pieces */
        RELU_EXT_ONE_BY_ONE(6)
    } else if (itemsize == 12) {
        RELU_EXT_ONE_BY_ONE(12)
    } else if (itemsize == 20) {
        RELU_EXT_ONE_BY_ONE(20)
    } else if (itemsize == 24) {
        RELU_EXT_ONE_BY_ONE(24)
    } else if (itemsize == 32) {
        RELU_EXT_ONE_BY_ONE(32)
    } else {
        RELU_EXT_ONE_BY_ONE(itemsize)
    }
#undef RELU_EXT_TILES
#undef RELU_EXT_ONE_BY_ONE
}

/* The functions below take any number of pieces apart, or put them together, by permutations of
 * two vectors, RELU_EXT_APART elements at a time. */
#if defined(__AVX512BW__) && defined(__GNUC__) && !defined(__clang__)
#define RELU_EXT_TAKES_APART 1
#else
#define RELU_EXT_TAKES_APART 0
#endif
#define RELU_EXT_APART 64

#if RELU_EXT_TAKES_APART
#include <immintrin.h>
/* GCC 12 computes __builtin_convertvector number by number, so these are intrinsics. */
#define RELU_EXT_WIDEN_WHICH16(which) _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(which)))
#define RELU_EXT_WIDEN_WHICH32(which) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(which)))
#define RELU_EXT_WIDEN_WHICH64(which) _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(which)))
#define RELU_EXT_DEFINE_APART(BITS, ...)                                                        \
    typedef uint##BITS##_t relu_ext_vector##BITS __attribute__((vector_size(64)));              \
                                                                                                \
    static inline __attribute__((always_inline)) void relu_ext_take_apart##BITS(                \
        char *rows, const char *x, const int pieces)                                            \
    {                                                                                           \
        const relu_ext_vector##BITS lane = {__VA_ARGS__};                                       \
        const int lanes = 512 / BITS;                                                           \
        int piece, i;                                                                           \
        for (piece = 0; piece < pieces; piece++) {                                              \
            const relu_ext_vector##BITS place = lane * (uint##BITS##_t)pieces +                 \
                                                (uint##BITS##_t)piece;                          \
            relu_ext_vector##BITS row, next;                                                    \
            memcpy(&row, x, sizeof row);                                                        \
            memcpy(&next, x + 64, sizeof next);                                                 \
            row = __builtin_shuffle(row, next, place);                                          \
            for (i = 2; i < pieces; i++) {                                                      \
                const relu_ext_vector##BITS here = place - (uint##BITS##_t)(i * lanes);         \
                const relu_ext_vector##BITS is_here =                                           \
                    (relu_ext_vector##BITS)(here < (uint##BITS##_t)lanes);                      \
                memcpy(&next, x + 64 * i, sizeof next);                                         \
                row = __builtin_shuffle(                                                        \
                    row, next, (is_here & (here + (uint##BITS##_t)lanes)) | (~is_here & lane)); \
            }                                                                                   \
            memcpy(rows + piece * (RELU_EXT_APART * BITS / 8), &row, sizeof row);               \
        }                                                                                       \
    }                                                                                           \
                                                                                                \
    static inline __attribute__((always_inline)) void relu_ext_spread_apart##BITS(              \
        char *x, const char *grad, const uint8_t *which, const int pieces)                      \
    {                                                                                           \
        const relu_ext_vector##BITS lane = {__VA_ARGS__};                                       \
        const int lanes = 512 / BITS;                                                           \
        relu_ext_vector##BITS g, w, out;                                                        \
        int i;                                                                                  \
        memcpy(&g, grad, sizeof g);                                                             \
        w = (relu_ext_vector##BITS)RELU_EXT_WIDEN_WHICH##BITS(which);                                 \
        for (i = 0; i < pieces; i++) {                                                          \
            const relu_ext_vector##BITS place = lane + (uint##BITS##_t)(i * lanes);             \
            const relu_ext_vector##BITS element = place / (uint##BITS##_t)pieces;               \
            const relu_ext_vector##BITS piece = place % (uint##BITS##_t)pieces;                 \
            out = __builtin_shuffle(g, element) &                                               \
                  (relu_ext_vector##BITS)(__builtin_shuffle(w, element) == piece);              \
            memcpy(x + 64 * i, &out, sizeof out);                                               \
        }                                                                                       \
    }
RELU_EXT_DEFINE_APART(16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                      21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31)
RELU_EXT_DEFINE_APART(32, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
RELU_EXT_DEFINE_APART(64, 0, 1, 2, 3, 4, 5, 6, 7)
#else
#define relu_ext_take_apart16(rows, x, pieces)
#define relu_ext_take_apart32(rows, x, pieces)
#define relu_ext_take_apart64(rows, x, pieces)
#define relu_ext_spread_apart16(x, grad, which, pieces)
#define relu_ext_spread_apart32(x, grad, which, pieces)
#define relu_ext_spread_apart64(x, grad, which, pieces)
#endif

/* rows[piece][i] = x[i * pieces + piece], APART of them. */
static inline void relu_ext_take_apart(size_t itemsize, void *rows, const void *x,
                                       const int pieces)
{
    int i;
    for (i = 0; i < RELU_EXT_APART; i += 64 / (int)itemsize) {
        char *to = (char *)rows + i * itemsize;
        const char *from = (const char *)x + i * pieces * itemsize;
        if (itemsize == 2) {
            relu_ext_take_apart16(to, from, pieces);
        } else if (itemsize == 4) {
            relu_ext_take_apart32(to, from, pieces);
        } else {
            relu_ext_take_apart64(to, from, pieces);
        }
        (void)to, (void)from;
    }
}

/* x[i * pieces + piece] = maxout_backward(grad[i], which[i], piece) of _scalar.pxd, for APART
 * elements. A vector cannot be passed to that function, so this restates it: all bits of grad where
 * which is the piece, +0 elsewhere. A test compares the two, bit for bit
 * (test_shuffles_mean_what_one_number_means). */
static inline void relu_ext_spread_apart(size_t itemsize, void *x, const void *grad,
                                         const uint8_t *which, const int pieces)
{
    int i;
    for (i = 0; i < RELU_EXT_APART; i += 64 / (int)itemsize) {
        char *to = (char *)x + i * pieces * itemsize;
        const char *from = (const char *)grad + i * itemsize;
        if (itemsize == 2) {
            relu_ext_spread_apart16(to, from, which + i, pieces);
        } else if (itemsize == 4) {
            relu_ext_spread_apart32(to, from, which + i, pieces);
        } else {
            relu_ext_spread_apart64(to, from, which + i, pieces);
        }
        (void)to, (void)from;
    }
}

/* A number that another thread may be changing, read once: what is checked is what is used. */
static inline uint8_t relu_ext_read_once(const uint8_t *number)
{
    return *(const volatile uint8_t *)number;
}

#endif
