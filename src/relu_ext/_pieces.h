/* Moves the pieces of maxout from memory to vectors, and a gradient to the piece that won. Numbers
 * are items of 1, 2, 4, 8 or 16 bytes here; nothing is computed. */
#ifndef RELU_EXT_PIECES_H
#define RELU_EXT_PIECES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "_copies.h"

/* GCC permutes vectors by what it computes from constants; Clang has no such shuffle. AVX2 permutes
 * poorly across its halves, and AVX-512 single bytes not at all without VBMI: each part of a vector
 * is permuted for itself. RELU_EXT_2 to 32 list lanes. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__SSE4_1__)
#include <immintrin.h>
#define RELU_EXT_SHUFFLES 1
#else
#define RELU_EXT_SHUFFLES 0
#endif
#define RELU_EXT_2 0, 1
#define RELU_EXT_4 RELU_EXT_2, 2, 3
#define RELU_EXT_8 RELU_EXT_4, 4, 5, 6, 7
#define RELU_EXT_16 RELU_EXT_8, 8, 9, 10, 11, 12, 13, 14, 15
#define RELU_EXT_32 RELU_EXT_16, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
#define RELU_EXT_TAKES_16(DEFINE)                                             \
    DEFINE(8, 16, RELU_EXT_16)                                                \
    DEFINE(16, 16, RELU_EXT_8) DEFINE(32, 16, RELU_EXT_4) DEFINE(64, 16, RELU_EXT_2)
#define RELU_EXT_TAKES_32(DEFINE)                                             \
    RELU_EXT_TAKES_16(DEFINE) DEFINE(8, 32, RELU_EXT_32)                      \
    DEFINE(16, 32, RELU_EXT_16) DEFINE(32, 32, RELU_EXT_8) DEFINE(64, 32, RELU_EXT_4)
/* RELU_EXT_BYTES is the longest vector of items of a size. */
#if RELU_EXT_SHUFFLES && defined(__AVX512BW__)
#define RELU_EXT_BYTES(size) ((size) == 1 ? 32 : (size) > 8 ? 16 : 64)
#define RELU_EXT_TAKES(DEFINE)                                                \
    RELU_EXT_TAKES_32(DEFINE)                                                 \
    DEFINE(16, 64, RELU_EXT_32) DEFINE(32, 64, RELU_EXT_16) DEFINE(64, 64, RELU_EXT_8)
#elif RELU_EXT_SHUFFLES && defined(__AVX2__)
#define RELU_EXT_BYTES(size) ((size) > 8 ? 16 : 32)
#define RELU_EXT_TAKES RELU_EXT_TAKES_32
#else
#define RELU_EXT_BYTES(size) 16
#define RELU_EXT_TAKES RELU_EXT_TAKES_16
#endif
#define RELU_EXT_LANES(size) ((int)(RELU_EXT_BYTES(size) / (size)))

/* Loops, some turns of which are unrolled. A statement in each lane is a loop that stays one until
 * the vectoriser has seen it (1): GCC 12 unrolls short loops before, and vectorises what is left of
 * them badly or not at all. */
#if defined(__GNUC__) && !defined(__clang__)
#define RELU_EXT_PRAGMA(text) _Pragma(#text)
#define RELU_EXT_UNROLL(turns) RELU_EXT_PRAGMA(GCC unroll turns)
/* A pointer in one register, to which loads and stores add constants. GCC would keep all the sums,
 * in vectors where registers run out, so that 3 by 3 windows take 1.3 times as long; and it would
 * gather items by vectors, which takes longer than one by one. */
#define RELU_EXT_KEEP(pointer) __asm__("" : "+r"(pointer))
#else
#define RELU_EXT_UNROLL(turns)
#define RELU_EXT_KEEP(pointer) (void)(pointer)
#endif
#define RELU_EXT_EACH(i, n) RELU_EXT_UNROLL(9) for (i = 0; i < (n); i++)
#define RELU_EXT_LOOP(turns, i, first, end, statement)                                    \
    do {                                                                                  \
        RELU_EXT_UNROLL(turns) for ((i) = (first); (i) < (end); (i)++) statement;         \
    } while (0)

/* GCC halves a memcpy of 32 bytes, by way of memory. */
static CYTHON_INLINE void relu_ext_copy_vector(void *to, const void *from, const int bytes)
{
#if RELU_EXT_SHUFFLES && defined(__AVX2__)
    if (bytes == 32) {
        _mm256_storeu_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
        return;
    }
#endif
    memcpy(to, from, (size_t)bytes);
}

/* The gradient of pieces of which `side` lie side by side, in several places: each vector of the
 * result takes grad where the piece won. GCC 12 widens which number by number unless told how. */
#if RELU_EXT_SHUFFLES
static CYTHON_INLINE __m128i relu_ext_few(const uint8_t *which, const int lanes)
{
    uint64_t few = 0;
    memcpy(&few, which, lanes < 8 ? (size_t)lanes : 8);
    return lanes > 8 ? _mm_loadu_si128((const __m128i *)which) : _mm_cvtsi64_si128((long long)few);
}
#define RELU_EXT_DEFINE_PUT(BITS, BYTES, WIDEN, ...)                                              \
    static CYTHON_INLINE void relu_ext_put##BITS##_##BYTES(char *x, const ptrdiff_t *offset,      \
                                                 const char *grad, const uint8_t *which,          \
                                                 const int side, const int groups, ptrdiff_t n,   \
                                                 int first)                                       \
    {                                                                                             \
        typedef uint##BITS##_t item;                                                              \
        typedef item vector __attribute__((vector_size(BYTES)));                                  \
        const vector lane = {__VA_ARGS__};                                                        \
        const int lanes = BYTES * 8 / BITS;                                                       \
        const ptrdiff_t last = n - lanes;                                                         \
        vector pieces[9];                                                                         \
        ptrdiff_t at[4], next;                                                                    \
        int group, i;                                                                             \
        RELU_EXT_EACH(group, groups) at[group] = offset[group * side];                            \
        RELU_EXT_EACH(i, side)                                                                    \
        {                                                                                         \
            const vector piece = (lane + (item)(i * lanes)) % (item)side;                         \
            RELU_EXT_EACH(group, groups)                                                          \
            pieces[group * side + i] = piece + (item)(first + group * side);                      \
        }                                                                                         \
        for (next = 0; next < n; next += lanes) {                                                 \
            const ptrdiff_t start = next < last ? next : last;                                    \
            const vector w = (vector)WIDEN(relu_ext_few(which + start, lanes));                   \
            char *to = x + start * side * (BITS / 8);                                             \
            vector g, gs[9], ws[9];                                                               \
            memcpy(&g, grad + start * (BITS / 8), BYTES);                                         \
            RELU_EXT_EACH(i, side)                                                                \
            {                                                                                     \
                const vector place = lane + (item)(i * lanes), element = place / (item)side;      \
                gs[i] = __builtin_shuffle(g, element);                                            \
                ws[i] = __builtin_shuffle(w, element);                                            \
            }                                                                                     \
            RELU_EXT_EACH(group, groups)                                                          \
            {                                                                                     \
                char *there = to + at[group];                                                     \
                if (side > 1) RELU_EXT_KEEP(there);                                               \
                RELU_EXT_EACH(i, side)                                                            \
                {                                                                                 \
                    vector out = (vector)(ws[i] == pieces[group * side + i]);                     \
                    if (BYTES < 64) __asm__("" : "+x"(out)); /* or a mask, which takes longer */  \
                    out &= gs[i];                                                                 \
                    relu_ext_copy_vector(there + i * BYTES, &out, BYTES);                         \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
    }
RELU_EXT_DEFINE_PUT(8, 16, , RELU_EXT_16)
RELU_EXT_DEFINE_PUT(16, 16, _mm_cvtepu8_epi16, RELU_EXT_8)
#if defined(__AVX2__)
RELU_EXT_DEFINE_PUT(32, 32, _mm256_cvtepu8_epi32, RELU_EXT_8)
RELU_EXT_DEFINE_PUT(64, 32, _mm256_cvtepu8_epi64, RELU_EXT_4)
#if defined(__AVX512BW__)
RELU_EXT_DEFINE_PUT(16, 32, _mm256_cvtepu8_epi16, RELU_EXT_16)
RELU_EXT_DEFINE_PUT(64, 64, _mm512_cvtepu8_epi64, RELU_EXT_8)
#endif
#else
RELU_EXT_DEFINE_PUT(32, 16, _mm_cvtepu8_epi32, RELU_EXT_4)
RELU_EXT_DEFINE_PUT(64, 16, _mm_cvtepu8_epi64, RELU_EXT_2)
#endif
#endif

/* Rows of the gradient, `stride` items apart, of as many of the pieces from `first` on as there is a
 * kernel for, without leaving a single one. Returns their number. */
static CYTHON_INLINE int relu_ext_put(char *x, const ptrdiff_t *offset, int pieces, ptrdiff_t side,
                                      ptrdiff_t row_step, const char *grad, const uint8_t *which,
                                      ptrdiff_t n, ptrdiff_t rows, ptrdiff_t stride, int first,
                                      const int size)
{
#if RELU_EXT_SHUFFLES
#define RELU_EXT_PUT(BITS, BYTES, SIDE, GROUPS)                                               \
    if (side == SIDE && pieces >= SIDE * GROUPS && pieces != SIDE * GROUPS + 1) {             \
        for (; rows > 0; rows--, x += row_step, grad += stride * size, which += stride)       \
            relu_ext_put##BITS##_##BYTES(x, offset, grad, which, SIDE, GROUPS, n, first);     \
        return SIDE * GROUPS;                                                                 \
    }
#define RELU_EXT_PUTS(BITS, BYTES)                                                            \
    if (size == BITS / 8 && n >= BYTES / size) {                                              \
        RELU_EXT_PUT(BITS, BYTES, 1, 4) RELU_EXT_PUT(BITS, BYTES, 1, 3)                       \
        RELU_EXT_PUT(BITS, BYTES, 1, 2) RELU_EXT_PUT(BITS, BYTES, 2, 2)                       \
        RELU_EXT_PUT(BITS, BYTES, 2, 1) RELU_EXT_PUT(BITS, BYTES, 3, 3)                       \
        RELU_EXT_PUT(BITS, BYTES, 3, 1) RELU_EXT_PUT(BITS, BYTES, 4, 1)                       \
    }
#define RELU_EXT_PUTS_32(BYTES)                                                               \
    RELU_EXT_PUTS(32, BYTES)                                                                  \
    if (size == 4 && n >= BYTES / size) {                                                     \
        RELU_EXT_PUT(32, BYTES, 5, 1) RELU_EXT_PUT(32, BYTES, 6, 1)                           \
        RELU_EXT_PUT(32, BYTES, 7, 1) RELU_EXT_PUT(32, BYTES, 8, 1)                           \
        RELU_EXT_PUT(32, BYTES, 9, 1)                                                         \
    }
#if defined(__AVX512BW__)
    RELU_EXT_PUTS(16, 32) /* 1.05 to 1.45 times as fast as 16 bytes (Zen 5) */
    RELU_EXT_PUTS(64, 64) /* 1.1 to 1.4 times as fast as 32 bytes; 32-bit items 0.9 to 1.1 (Zen 5) */
#endif
    RELU_EXT_PUTS(8, 16) RELU_EXT_PUTS(16, 16)
#if defined(__AVX2__)
    RELU_EXT_PUTS_32(32) RELU_EXT_PUTS(64, 32)
#else
    RELU_EXT_PUTS_32(16) RELU_EXT_PUTS(64, 16)
#endif
#endif
    return 0;
}

#if RELU_EXT_SHUFFLES
/* 16 bytes of four items of each of some elements that are `step` bytes apart. */
static CYTHON_INLINE __m128i relu_ext_part(const char *x, int part, ptrdiff_t step, const int size)
{
    uint64_t wide[2];
    uint32_t narrow[4];
    int i;
    if (size >= 4) {
        x += part * 4 / size * step + part * 16 % (4 * size);
        return _mm_loadu_si128((const __m128i *)x);
    }
    if (size == 2) {
        RELU_EXT_EACH(i, 2) memcpy(&wide[i], x + (part * 2 + i) * step, 8);
        return _mm_set_epi64x((long long)wide[1], (long long)wide[0]);
    }
    RELU_EXT_EACH(i, 4) memcpy(&narrow[i], x + (part * 4 + i) * step, 4);
    return _mm_set_epi32((int)narrow[3], (int)narrow[2], (int)narrow[1], (int)narrow[0]);
}

#define RELU_EXT_JOIN_16(parts) (parts)[0]
#define RELU_EXT_JOIN_32(parts) _mm256_set_m128i((parts)[1], (parts)[0])
#define RELU_EXT_JOIN_64(parts)                                                       \
    _mm512_inserti64x4(_mm512_castsi256_si512(RELU_EXT_JOIN_32(parts)),               \
                       RELU_EXT_JOIN_32((parts) + 2), 1)

/* Takes apart a vector of elements of `pieces` items that lie side by side, or of four items each
 * and `step` bytes apart. Successive elements fill a part of each vector before the next part. Of
 * two or four pieces, the even and the odd items are parted again and again. Of an odd number, the
 * items of a piece lie at different places of the vectors: they are chosen, then permuted. */
#define RELU_EXT_FROM(index) (part + (index) % (item)items + (index) / (item)items * LANES)
#define RELU_EXT_DEFINE_TAKE(BITS, BYTES, ...)                                                    \
    static CYTHON_INLINE void relu_ext_take##BITS##_##BYTES(                                      \
        char *rows, const char *x, const int pieces, const int apart, ptrdiff_t step,             \
        const int every)                                                                          \
    {                                                                                             \
        enum { LANES = BYTES * 8 / BITS };                                                        \
        typedef uint##BITS##_t item;                                                              \
        typedef item vector __attribute__((vector_size(BYTES)));                                  \
        /* shufps instead of six instructions: 4 float32 last 1.3 to 1.4 times as fast (v3) */    \
        typedef __typeof__(__builtin_choose_expr(BITS == 32 && BYTES == 32, 1.0f, (item)1))       \
            shuffled __attribute__((vector_size(BYTES)));                                         \
        const int bytes = apart || BYTES < 64 ? 16 : 64, items = bytes * 8 / BITS;                \
        const vector lane = {__VA_ARGS__}, place = lane % (item)items, part = lane - place;       \
        const vector evens = RELU_EXT_FROM(place * 2), odds = RELU_EXT_FROM(place * 2 + 1);       \
        vector all[5], rest[5];                                                                   \
        int i, k, piece, parted;                                                                  \
        RELU_EXT_EACH(i, pieces)                                                                  \
        {                                                                                         \
            __m128i parts[BYTES / 16];                                                            \
            vector one;                                                                           \
            if (!apart && bytes == BYTES)                                                         \
                memcpy(&one, x + i * BYTES, BYTES);                                               \
            else {                                                                                \
                RELU_EXT_EACH(k, BYTES / 16)                                                      \
                parts[k] = apart ? relu_ext_part(x, k * 4 + i, step, BITS / 8)                    \
                                 : _mm_loadu_si128((const __m128i *)(x + (k * pieces + i) * 16)); \
                one = (vector)RELU_EXT_JOIN_##BYTES(parts);                                       \
            }                                                                                     \
            __asm__("" : "+x"(one)); /* GCC would load a vector again for each shuffle. */        \
            all[i] = one;                                                                         \
        }                                                                                         \
        if (pieces % 2 == 0)                                                                      \
            RELU_EXT_UNROLL(8) for (parted = 1; parted < pieces; parted *= 2)                     \
            {                                                                                     \
                RELU_EXT_EACH(i, pieces / 2)                                                      \
                {                                                                                 \
                    const shuffled a = (shuffled)all[2 * i], b = (shuffled)all[2 * i + 1];        \
                    rest[i] = (vector)__builtin_shuffle(a, b, evens);                             \
                    rest[i + pieces / 2] = (vector)__builtin_shuffle(a, b, odds);                 \
                }                                                                                 \
                RELU_EXT_EACH(i, pieces) all[i] = rest[i];                                        \
            }                                                                                     \
        else                                                                                      \
            RELU_EXT_EACH(piece, pieces)                                                          \
            {                                                                                     \
                rest[piece] = all[0];                                                             \
                RELU_EXT_UNROLL(8) for (i = 1; i < pieces; i++)                                   \
                    rest[piece] = __builtin_shuffle(                                              \
                        rest[piece], all[i],                                                      \
                        lane + ((vector)((place + (item)(i * items)) % (item)pieces ==            \
                                         (item)piece) & (item)LANES));                            \
                rest[piece] = __builtin_shuffle(                                                  \
                    rest[piece], part + (place * (item)pieces + (item)piece) % (item)items);      \
            }                                                                                     \
        RELU_EXT_EACH(i, pieces)                                                                  \
        relu_ext_copy_vector(rows + i * every * BYTES, pieces % 2 ? &rest[i] : &all[i], BYTES);   \
    }
RELU_EXT_TAKES(RELU_EXT_DEFINE_TAKE)
#endif

/* rows[piece][i] = piece `piece` of element i, at x + offset[piece] + i * step. */
enum { RELU_EXT_ROWS, RELU_EXT_SIDE, RELU_EXT_APART };
static CYTHON_INLINE void relu_ext_take(void *rows, const char *x, const ptrdiff_t *offset,
                                        const int pieces, const int layout, const int size,
                                        const int lanes, ptrdiff_t step)
{
    char *to = (char *)rows;
    const char *from = x + offset[0];
    int piece, i;
    if (layout == RELU_EXT_ROWS) {
        RELU_EXT_EACH(piece, pieces)
        relu_ext_copy_vector(to + piece * lanes * size, x + offset[piece], lanes * size);
        return;
    }
#if RELU_EXT_SHUFFLES
    if (layout == RELU_EXT_SIDE && pieces % 2) RELU_EXT_KEEP(from);
#define RELU_EXT_TAKE(BITS, BYTES, ...)                                                           \
    if (size == BITS / 8 && lanes == BYTES / size) {                                              \
        char thirds[9 * BYTES];                                                                   \
        if (pieces < 9)                                                                           \
            relu_ext_take##BITS##_##BYTES(to, from, pieces, layout == RELU_EXT_APART, step, 1);   \
        else {                                                                                    \
            RELU_EXT_EACH(i, 3)                                                                   \
            relu_ext_take##BITS##_##BYTES(thirds + i * BYTES, from + i * 3 * BYTES, 3, 0, 0, 3);  \
            RELU_EXT_EACH(i, 3)                                                                   \
            relu_ext_take##BITS##_##BYTES(to + i * BYTES, thirds + i * 3 * BYTES, 3, 0, 0, 3);    \
        }                                                                                         \
        return;                                                                                   \
    }
    RELU_EXT_TAKES(RELU_EXT_TAKE)
#endif
    for (i = 0; i < lanes; i++)
        for (piece = 0; piece < pieces; piece++)
            memcpy(to + (piece * lanes + i) * size, from + i * step + piece * size, (size_t)size);
}

#endif
