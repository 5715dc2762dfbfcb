/* Moves the pieces of maxout between memory and vectors, and a gradient to the piece that won.
 * Numbers are items of 1, 2, 4, 8 or 16 bytes here; nothing is computed. */
#ifndef RELU_EXT_PIECES_H
#define RELU_EXT_PIECES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define RELU_EXT_ALWAYS static __forceinline
#else
#define RELU_EXT_ALWAYS static inline __attribute__((always_inline))
#endif

/* Whether vectors are permuted. Clang has no shuffle by a computed mask. */
#if defined(__GNUC__) && !defined(__clang__) && (defined(__SSSE3__) || defined(__aarch64__))
#define RELU_EXT_SHUFFLES 1
#else
#define RELU_EXT_SHUFFLES 0
#endif

/* The bytes of a vector, and of its parts that are permuted each for itself: AVX2 permutes poorly
 * across its halves, and AVX-512 single bytes not at all without VBMI. */
#if RELU_EXT_SHUFFLES && defined(__AVX512BW__)
#define RELU_EXT_WIDE 64
#elif RELU_EXT_SHUFFLES && defined(__AVX2__)
#define RELU_EXT_WIDE 32
#else
#define RELU_EXT_WIDE 16
#endif
#if RELU_EXT_WIDE > 16 || (RELU_EXT_SHUFFLES && defined(__SSE4_1__))
#include <immintrin.h>
#endif
#define RELU_EXT_BYTES(size) \
    ((size) > 8 ? (size) : (size) == 1 && RELU_EXT_WIDE == 64 ? 32 : RELU_EXT_WIDE)
#define RELU_EXT_LANES(size) ((int)(RELU_EXT_BYTES(size) / (size)))

/* A loop that stays one until the vectoriser has seen it: GCC 12 unrolls short loops before, and
 * vectorises what is left of them badly or not at all. */
#if defined(__GNUC__) && !defined(__clang__)
#define RELU_EXT_LOOP(lane, lanes) \
    _Pragma("GCC unroll 1") for ((lane) = 0; (lane) < (lanes); (lane)++)
#define RELU_EXT_UNROLLED _Pragma("GCC unroll 8")
#else
#define RELU_EXT_LOOP(lane, lanes) for ((lane) = 0; (lane) < (lanes); (lane)++)
#define RELU_EXT_UNROLLED
#endif
/* For Cython, which has no macros: a statement in each lane. */
#define RELU_EXT_EACH_LANE(lane, lanes, statement) \
    do {                                           \
        RELU_EXT_LOOP(lane, lanes) statement;      \
    } while (0)

/* Where a vector begins: the last one of a row overlaps the one before it, if there is one. */
RELU_EXT_ALWAYS ptrdiff_t relu_ext_place_of(ptrdiff_t start, ptrdiff_t n, const int lanes)
{
    return start > n - lanes && start > 0 ? n - lanes : start;
}

#if defined(__GNUC__)
/* GCC copies a whole vector through registers where it is typed as one, but not by memcpy. */
#define RELU_EXT_DEFINE_COPY(BYTES)                                                         \
    typedef uint8_t relu_ext_bytes##BYTES                                                   \
        __attribute__((vector_size(BYTES), aligned(1), may_alias));                         \
    RELU_EXT_ALWAYS void relu_ext_copy##BYTES(void *to, const void *from)                   \
    {                                                                                       \
        *(relu_ext_bytes##BYTES *)to = *(const relu_ext_bytes##BYTES *)from;                \
    }
#else
#define RELU_EXT_DEFINE_COPY(BYTES)                                       \
    RELU_EXT_ALWAYS void relu_ext_copy##BYTES(void *to, const void *from) \
    {                                                                     \
        memcpy(to, from, BYTES);                                          \
    }
#endif
RELU_EXT_DEFINE_COPY(16)
RELU_EXT_DEFINE_COPY(32)
RELU_EXT_DEFINE_COPY(64)

RELU_EXT_ALWAYS void relu_ext_copy_vector(void *to, const void *from, const int bytes)
{
    if (bytes == 64)
        relu_ext_copy64(to, from);
    else if (bytes == 32)
        relu_ext_copy32(to, from);
    else if (bytes == 16)
        relu_ext_copy16(to, from);
    else
        memcpy(to, from, (size_t)bytes);
}

#define RELU_EXT_2 0, 1
#define RELU_EXT_4 RELU_EXT_2, 2, 3
#define RELU_EXT_8 RELU_EXT_4, 4, 5, 6, 7
#define RELU_EXT_16 RELU_EXT_8, 8, 9, 10, 11, 12, 13, 14, 15
#define RELU_EXT_32 RELU_EXT_16, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

#if RELU_EXT_SHUFFLES
/* Four items of each of some elements `step` bytes apart: the 16 bytes numbered `part` of those. */
#if defined(__SSE4_1__)
RELU_EXT_ALWAYS __m128i relu_ext_part(const char *x, int part, ptrdiff_t step, const int size)
{
    uint64_t wide[2];
    uint32_t narrow[4];
    int i;
    if (size == 8)
        return _mm_loadu_si128((const __m128i *)(x + part / 2 * step + part % 2 * 16));
    if (size == 4)
        return _mm_loadu_si128((const __m128i *)(x + part * step));
    if (size == 2) {
        for (i = 0; i < 2; i++)
            memcpy(&wide[i], x + (part * 2 + i) * step, 8);
        return _mm_set_epi64x((long long)wide[1], (long long)wide[0]);
    }
    for (i = 0; i < 4; i++)
        memcpy(&narrow[i], x + (part * 4 + i) * step, 4);
    return _mm_set_epi32((int)narrow[3], (int)narrow[2], (int)narrow[1], (int)narrow[0]);
}
#define RELU_EXT_JOIN2(low, high) \
    _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)
#define RELU_EXT_JOIN4(a, b, c, d) \
    _mm512_inserti64x4(_mm512_castsi256_si512(RELU_EXT_JOIN2(a, b)), RELU_EXT_JOIN2(c, d), 1)
#define RELU_EXT_LOAD128(x) _mm_loadu_si128((const __m128i *)(x))
#define RELU_EXT_TWO_PARTS(to, x, i, pieces, step, size) \
    to = (vector)RELU_EXT_JOIN2(RELU_EXT_LOAD128(x + (i) * 16), \
                                RELU_EXT_LOAD128(x + ((pieces) + (i)) * 16))
#define RELU_EXT_APART16(to, x, i, pieces, step, size) to = (vector)relu_ext_part(x, i, step, size)
#define RELU_EXT_APART32(to, x, i, pieces, step, size) \
    to = (vector)RELU_EXT_JOIN2(relu_ext_part(x, i, step, size), \
                                relu_ext_part(x, 4 + (i), step, size))
#define RELU_EXT_APART64(to, x, i, pieces, step, size) \
    to = (vector)RELU_EXT_JOIN4( \
        relu_ext_part(x, i, step, size), relu_ext_part(x, 4 + (i), step, size), \
        relu_ext_part(x, 8 + (i), step, size), relu_ext_part(x, 12 + (i), step, size))
#endif
#define RELU_EXT_WHOLE(to, x, i, pieces, step, size) \
    relu_ext_copy_vector(&(to), x + (i) * (int)sizeof(to), sizeof(to))

/* Takes apart a vector of elements of `pieces` items that lie side by side. The parts of vectors
 * hold successive elements. Of two or four pieces, the even and the odd items are parted again and
 * again. Of an odd number, the items of a piece lie at different places of the vectors, so that they
 * are first chosen and then permuted. */
#define RELU_EXT_DEFINE_TAKE(NAME, BITS, BYTES, PART, LOAD, ...)                                   \
    RELU_EXT_ALWAYS void relu_ext_##NAME##BITS(char *rows, const char *x, const int pieces,        \
                                               ptrdiff_t step)                                     \
    {                                                                                              \
        typedef uint##BITS##_t item;                                                               \
        typedef item vector __attribute__((vector_size(BYTES)));                                   \
        const vector lane = {__VA_ARGS__};                                                         \
        const int lanes = BYTES * 8 / BITS, items = PART * 8 / BITS;                               \
        const vector place = lane & (item)(items - 1), part = lane - place;                        \
        vector all[8], rest[8];                                                                    \
        int i, piece, parted;                                                                      \
        (void)step;                                                                                \
        RELU_EXT_UNROLLED for (i = 0; i < pieces; i++)                                             \
            LOAD(all[i], x, i, pieces, step, BITS / 8);                                            \
        if (pieces % 2 == 0) {                                                                     \
            const vector even = place * 2, odd = place * 2 + 1;                                    \
            const vector evens = part + (even & (item)(items - 1)) +                               \
                                 ((vector)(even >= (item)items) & (item)lanes);                    \
            const vector odds = part + (odd & (item)(items - 1)) +                                 \
                                ((vector)(odd >= (item)items) & (item)lanes);                      \
            RELU_EXT_UNROLLED for (parted = 1; parted < pieces; parted *= 2) {                     \
                RELU_EXT_UNROLLED for (i = 0; i < pieces / 2; i++) {                               \
                    rest[i] = __builtin_shuffle(all[2 * i], all[2 * i + 1], evens);                \
                    rest[i + pieces / 2] = __builtin_shuffle(all[2 * i], all[2 * i + 1], odds);    \
                }                                                                                  \
                RELU_EXT_UNROLLED for (i = 0; i < pieces; i++) all[i] = rest[i];                   \
            }                                                                                      \
        } else {                                                                                   \
            RELU_EXT_UNROLLED for (piece = 0; piece < pieces; piece++) {                           \
                rest[piece] = all[0];                                                              \
                RELU_EXT_UNROLLED for (i = 1; i < pieces; i++) {                                   \
                    const vector here =                                                            \
                        (vector)((place + (item)(i * items)) % (item)pieces == (item)piece);       \
                    rest[piece] =                                                                  \
                        __builtin_shuffle(rest[piece], all[i], lane + (here & (item)lanes));       \
                }                                                                                  \
                rest[piece] = __builtin_shuffle(                                                   \
                    rest[piece],                                                                   \
                    part + ((place * (item)pieces + (item)piece) & (item)(items - 1)));            \
            }                                                                                      \
            RELU_EXT_UNROLLED for (i = 0; i < pieces; i++) all[i] = rest[i];                       \
        }                                                                                          \
        RELU_EXT_UNROLLED for (i = 0; i < pieces; i++)                                             \
            relu_ext_copy##BYTES(rows + i * BYTES, &all[i]);                                       \
    }
#if RELU_EXT_WIDE == 64
RELU_EXT_DEFINE_TAKE(take, 8, 32, 16, RELU_EXT_TWO_PARTS, RELU_EXT_32)
RELU_EXT_DEFINE_TAKE(take, 16, 64, 64, RELU_EXT_WHOLE, RELU_EXT_32)
RELU_EXT_DEFINE_TAKE(take, 32, 64, 64, RELU_EXT_WHOLE, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(take, 64, 64, 64, RELU_EXT_WHOLE, RELU_EXT_8)
RELU_EXT_DEFINE_TAKE(apart, 8, 32, 16, RELU_EXT_APART32, RELU_EXT_32)
RELU_EXT_DEFINE_TAKE(apart, 16, 64, 16, RELU_EXT_APART64, RELU_EXT_32)
RELU_EXT_DEFINE_TAKE(apart, 32, 64, 16, RELU_EXT_APART64, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(apart, 64, 64, 16, RELU_EXT_APART64, RELU_EXT_8)
#elif RELU_EXT_WIDE == 32
RELU_EXT_DEFINE_TAKE(take, 8, 32, 16, RELU_EXT_TWO_PARTS, RELU_EXT_32)
RELU_EXT_DEFINE_TAKE(take, 16, 32, 16, RELU_EXT_TWO_PARTS, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(take, 32, 32, 16, RELU_EXT_TWO_PARTS, RELU_EXT_8)
RELU_EXT_DEFINE_TAKE(take, 64, 32, 16, RELU_EXT_TWO_PARTS, RELU_EXT_4)
RELU_EXT_DEFINE_TAKE(apart, 8, 32, 16, RELU_EXT_APART32, RELU_EXT_32)
RELU_EXT_DEFINE_TAKE(apart, 16, 32, 16, RELU_EXT_APART32, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(apart, 32, 32, 16, RELU_EXT_APART32, RELU_EXT_8)
RELU_EXT_DEFINE_TAKE(apart, 64, 32, 16, RELU_EXT_APART32, RELU_EXT_4)
#else
RELU_EXT_DEFINE_TAKE(take, 8, 16, 16, RELU_EXT_WHOLE, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(take, 16, 16, 16, RELU_EXT_WHOLE, RELU_EXT_8)
RELU_EXT_DEFINE_TAKE(take, 32, 16, 16, RELU_EXT_WHOLE, RELU_EXT_4)
RELU_EXT_DEFINE_TAKE(take, 64, 16, 16, RELU_EXT_WHOLE, RELU_EXT_2)
#if defined(__SSE4_1__)
RELU_EXT_DEFINE_TAKE(apart, 8, 16, 16, RELU_EXT_APART16, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(apart, 16, 16, 16, RELU_EXT_APART16, RELU_EXT_8)
RELU_EXT_DEFINE_TAKE(apart, 32, 16, 16, RELU_EXT_APART16, RELU_EXT_4)
RELU_EXT_DEFINE_TAKE(apart, 64, 16, 16, RELU_EXT_APART16, RELU_EXT_2)
#endif
#endif
#endif

/* rows[piece][i] = the pieces of a vector of elements: each piece at its offset from x, or side by
 * side, the elements `step` bytes apart, which may be more than they have. */
enum { RELU_EXT_ROWS, RELU_EXT_SIDE, RELU_EXT_APART };
RELU_EXT_ALWAYS void relu_ext_take(void *rows, const char *x, const ptrdiff_t *offset,
                                   const int pieces, const int layout, const int size,
                                   ptrdiff_t step)
{
    const int lanes = RELU_EXT_LANES(size);
    char *to = (char *)rows;
    int piece, i;
    if (layout == RELU_EXT_ROWS) {
        RELU_EXT_UNROLLED for (piece = 0; piece < pieces; piece++)
            relu_ext_copy_vector(to + piece * lanes * size, x + offset[piece], lanes * size);
        return;
    }
    x += offset[0];
#if RELU_EXT_SHUFFLES
#define RELU_EXT_TAKE(NAME)                                                    \
    switch (size) {                                                            \
    case 1: relu_ext_##NAME##8(to, x, pieces, step); return;                   \
    case 2: relu_ext_##NAME##16(to, x, pieces, step); return;                  \
    case 4: relu_ext_##NAME##32(to, x, pieces, step); return;                  \
    case 8: relu_ext_##NAME##64(to, x, pieces, step); return;                  \
    }
    if (layout == RELU_EXT_SIDE)
        RELU_EXT_TAKE(take)
#if defined(__SSE4_1__)
    if (layout == RELU_EXT_APART)
        RELU_EXT_TAKE(apart)
#endif
#undef RELU_EXT_TAKE
#endif
    for (i = 0; i < lanes; i++)
        for (piece = 0; piece < pieces; piece++)
            memcpy(to + (piece * lanes + i) * size, x + i * step + piece * size, (size_t)size);
}

/* The gradient of pieces that lie in rows: all bits of grad where the piece won, 0 elsewhere. */
#define RELU_EXT_DEFINE_SPREAD(BITS)                                                              \
    static void relu_ext_spread_rows##BITS(char *x, const ptrdiff_t *offset, int pieces,          \
                                           const char *grad, const uint8_t *which, ptrdiff_t n)   \
    {                                                                                             \
        int piece;                                                                                \
        ptrdiff_t i;                                                                              \
        for (piece = 0; piece < pieces; piece++) {                                                \
            char *to = x + offset[piece];                                                         \
            for (i = 0; i < n; i++) {                                                             \
                uint##BITS##_t g;                                                                 \
                memcpy(&g, grad + i * (BITS / 8), BITS / 8);                                      \
                g = which[i] == piece ? g : 0;                                                    \
                memcpy(to + i * (BITS / 8), &g, BITS / 8);                                        \
            }                                                                                     \
        }                                                                                         \
    }
RELU_EXT_DEFINE_SPREAD(8)
RELU_EXT_DEFINE_SPREAD(16)
RELU_EXT_DEFINE_SPREAD(32)
RELU_EXT_DEFINE_SPREAD(64)

#if RELU_EXT_SHUFFLES && defined(__SSE4_1__)
#define RELU_EXT_PUTS 1
/* That of pieces of which `side` lie side by side, in several places: each vector of the result
 * takes grad where the piece won. AVX-512 writes a part of a vector, so that rows may be of any
 * length. GCC 12 widens which number by number unless told how. */
#if RELU_EXT_WIDE == 64
#define RELU_EXT_MASK(bytes) \
    _bzhi_u64(~0ull, (unsigned)((bytes) < 0 ? 0 : (bytes) < 64 ? (bytes) : 64))
#define RELU_EXT_READ(to, from, bytes) \
    to = (vector)_mm512_maskz_loadu_epi8(RELU_EXT_MASK(bytes), from)
#define RELU_EXT_WRITE(to, vector, bytes) \
    _mm512_mask_storeu_epi8(to, RELU_EXT_MASK(bytes), (__m512i)(vector))
#define RELU_EXT_WHICH16(which, n)                  \
    _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8((__mmask32)RELU_EXT_MASK(n), which))
#define RELU_EXT_WHICH32(which, n)                  \
    _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8((__mmask16)RELU_EXT_MASK(n), which))
#define RELU_EXT_WHICH64(which, n)                  \
    _mm512_cvtepu8_epi64(_mm_maskz_loadu_epi8((__mmask16)RELU_EXT_MASK((n) < 8 ? (n) : 8), which))
#else
RELU_EXT_ALWAYS __m128i relu_ext_few(const uint8_t *which, const int lanes)
{
    uint64_t few = 0;
    memcpy(&few, which, (size_t)lanes);
    return _mm_cvtsi64_si128((long long)few);
}
#define RELU_EXT_READ(to, from, bytes) relu_ext_copy_vector(&(to), from, sizeof(to))
#define RELU_EXT_WRITE(to, vector, bytes) relu_ext_copy_vector(to, &(vector), sizeof(vector))
#define RELU_EXT_WHICH16(which, n) _mm_cvtepu8_epi16(relu_ext_few(which, 8))
#if RELU_EXT_WIDE == 32
#define RELU_EXT_WHICH32(which, n) _mm256_cvtepu8_epi32(relu_ext_few(which, 8))
#define RELU_EXT_WHICH64(which, n) _mm256_cvtepu8_epi64(relu_ext_few(which, 4))
#else
#define RELU_EXT_WHICH32(which, n) _mm_cvtepu8_epi32(relu_ext_few(which, 4))
#define RELU_EXT_WHICH64(which, n) _mm_cvtepu8_epi64(relu_ext_few(which, 2))
#endif
#endif
#define RELU_EXT_DEFINE_PUT(BITS, BYTES, ...)                                                     \
    RELU_EXT_ALWAYS void relu_ext_put##BITS(char *x, const ptrdiff_t *offset, int pieces,         \
                                            const char *grad, const uint8_t *which,               \
                                            const int side, ptrdiff_t n)                          \
    {                                                                                             \
        typedef uint##BITS##_t vector __attribute__((vector_size(BYTES)));                        \
        typedef uint##BITS##_t item;                                                              \
        const vector lane = {__VA_ARGS__};                                                        \
        const int lanes = BYTES * 8 / BITS;                                                       \
        ptrdiff_t next;                                                                           \
        for (next = 0; next < n; next += lanes) {                                                 \
            const ptrdiff_t start = RELU_EXT_WIDE == 64 ? next : relu_ext_place_of(next, n, lanes); \
            const ptrdiff_t bytes = (n - start) * (BITS / 8);                                     \
            const vector w = (vector)RELU_EXT_WHICH##BITS(which + start, n - start);              \
            char *to = x + start * side * (BITS / 8);                                             \
            vector g, gs[4], ws[4];                                                               \
            int i, piece;                                                                         \
            RELU_EXT_READ(g, grad + start * (BITS / 8), bytes);                                   \
            RELU_EXT_UNROLLED for (i = 0; i < side; i++) {                                        \
                const vector place = lane + (item)(i * lanes), element = place / (item)side;      \
                gs[i] = __builtin_shuffle(g, element);                                            \
                ws[i] = __builtin_shuffle(w, element) - place % (item)side;                       \
            }                                                                                     \
            for (piece = 0; piece < pieces; piece += side)                                        \
                RELU_EXT_UNROLLED for (i = 0; i < side; i++) {                                    \
                    const vector out = gs[i] & (vector)(ws[i] == (item)piece);                    \
                    RELU_EXT_WRITE(to + offset[piece] + i * BYTES, out, bytes * side - i * BYTES); \
                }                                                                                 \
        }                                                                                         \
    }
#if RELU_EXT_WIDE == 64
RELU_EXT_DEFINE_PUT(16, 64, RELU_EXT_32)
RELU_EXT_DEFINE_PUT(32, 64, RELU_EXT_16)
RELU_EXT_DEFINE_PUT(64, 64, RELU_EXT_8)
#define RELU_EXT_PUT_FEWEST(size) 1
#else
RELU_EXT_DEFINE_PUT(16, 16, RELU_EXT_8)
#if RELU_EXT_WIDE == 32
RELU_EXT_DEFINE_PUT(32, 32, RELU_EXT_8)
RELU_EXT_DEFINE_PUT(64, 32, RELU_EXT_4)
#else
RELU_EXT_DEFINE_PUT(32, 16, RELU_EXT_4)
RELU_EXT_DEFINE_PUT(64, 16, RELU_EXT_2)
#endif
#define RELU_EXT_PUT_FEWEST(size) ((size) > 2 ? RELU_EXT_WIDE / (size) : 16 / (size))
#endif
#else
#define RELU_EXT_PUTS 0
#endif

/* A number that another thread may be changing is read once. */
RELU_EXT_ALWAYS void relu_ext_place(const int size, char *x, const ptrdiff_t *offset, int pieces,
                                    ptrdiff_t step, const char *grad, const uint8_t *which,
                                    ptrdiff_t n)
{
    ptrdiff_t i;
    int piece, together;
    for (piece = 0; piece < pieces; piece += together) {
        for (together = 1; piece + together < pieces; together++)
            if (offset[piece + together] != offset[piece] + together * size)
                break;
        if (together * size == step)
            memset(x + offset[piece], 0, (size_t)(n * step));
        else
            for (i = 0; i < n; i++)
                memset(x + offset[piece] + i * step, 0, (size_t)(together * size));
    }
    for (i = 0; i < n; i++)
        memcpy(x + i * step + offset[*(const volatile uint8_t *)(which + i)], grad + i * size,
               (size_t)size);
}

/* x[offset[which[i]] + i * step] = grad[i] in each row, and 0 at the other pieces, of which `side`
 * fill a step, or none. */
static void relu_ext_spread(char *x, const ptrdiff_t *offset, int pieces, int side, ptrdiff_t step,
                            ptrdiff_t row_step, const char *grad, const uint8_t *which,
                            ptrdiff_t n, ptrdiff_t rows, ptrdiff_t size)
{
#define RELU_EXT_EACH_ROW(STATEMENT)                                                 \
    {                                                                                \
        for (; rows > 0; rows--, x += row_step, grad += n * size, which += n)        \
            STATEMENT;                                                               \
        return;                                                                      \
    }
/* Beyond 64 bytes, clearing and placing costs less than a choice for each piece. */
#if RELU_EXT_PUTS
#define RELU_EXT_PUT(BITS, SIDE)                                                         \
    if (side == SIDE && n >= RELU_EXT_PUT_FEWEST(BITS / 8) && pieces * (BITS / 8) <= 64) \
        RELU_EXT_EACH_ROW(relu_ext_put##BITS(x, offset, pieces, grad, which, SIDE, n))
#else
#define RELU_EXT_PUT(BITS, SIDE)
#endif
#define RELU_EXT_PUT_SOME(BITS) RELU_EXT_PUT(BITS, 2) RELU_EXT_PUT(BITS, 3) RELU_EXT_PUT(BITS, 4)
#define RELU_EXT_SIZED(BITS, PUT_SOME)                                                       \
    case BITS / 8:                                                                       \
        if (side == 1)                                                                   \
            RELU_EXT_EACH_ROW(                                                           \
                relu_ext_spread_rows##BITS(x, offset, pieces, grad, which, n))           \
        PUT_SOME                                                                         \
        RELU_EXT_EACH_ROW(relu_ext_place(BITS / 8, x, offset, pieces, step, grad, which, n))
    switch (size) {
        RELU_EXT_SIZED(8, )
        RELU_EXT_SIZED(16, RELU_EXT_PUT_SOME(16))
        RELU_EXT_SIZED(32, RELU_EXT_PUT_SOME(32))
        RELU_EXT_SIZED(64, RELU_EXT_PUT_SOME(64))
    default:
        RELU_EXT_EACH_ROW(
            relu_ext_place((int)size, x, offset, pieces, step, grad, which, n))
    }
#undef RELU_EXT_SIZED
#undef RELU_EXT_PUT
#undef RELU_EXT_PUT_SOME
#undef RELU_EXT_EACH_ROW
}

#endif
