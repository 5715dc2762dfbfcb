/* Moves the pieces of maxout: between windows and rows of one piece each, and a gradient to the
 * piece that won. Numbers are items of 1, 2, 4, 8 or 16 bytes here; nothing is computed. */
#ifndef RELU_EXT_PIECES_H
#define RELU_EXT_PIECES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t parts[2];
} relu_ext_item16;

#if defined(_MSC_VER) && !defined(__clang__)
#define RELU_EXT_ALWAYS static __forceinline
#else
#define RELU_EXT_ALWAYS static inline __attribute__((always_inline))
#endif

/* Whether whole vectors are taken apart by permutations. Clang has no shuffle by a computed mask. */
#if defined(__GNUC__) && !defined(__clang__) && (defined(__SSSE3__) || defined(__aarch64__))
#define RELU_EXT_SHUFFLES 1
#else
#define RELU_EXT_SHUFFLES 0
#endif

#define RELU_EXT_2 0, 1
#define RELU_EXT_4 RELU_EXT_2, 2, 3
#define RELU_EXT_8 RELU_EXT_4, 4, 5, 6, 7
#define RELU_EXT_16 RELU_EXT_8, 8, 9, 10, 11, 12, 13, 14, 15
#define RELU_EXT_32 RELU_EXT_16, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

#if RELU_EXT_SHUFFLES
/* Takes apart one vector of elements of `pieces` items that lie side by side. For a power of two,
 * the even and the odd items are parted again and again; for others, each row is put together from
 * all vectors. */
#define RELU_EXT_DEFINE_TAKE(BITS, BYTES, ...)                                                 \
    typedef uint##BITS##_t relu_ext_vector##BITS##_##BYTES __attribute__((vector_size(BYTES))); \
    RELU_EXT_ALWAYS void relu_ext_take##BITS##_##BYTES(                                        \
        char *rows, ptrdiff_t row_step, const char *x, const int pieces)                       \
    {                                                                                          \
        typedef relu_ext_vector##BITS##_##BYTES vector;                                        \
        const vector lane = {__VA_ARGS__};                                                     \
        const int lanes = BYTES * 8 / BITS;                                                    \
        vector all[8], half[8];                                                                \
        int i, piece, parted;                                                                  \
        for (i = 0; i < pieces; i++)                                                           \
            memcpy(&all[i], x + i * BYTES, BYTES);                                             \
        if ((pieces & (pieces - 1)) == 0) {                                                    \
            for (parted = 1; parted < pieces; parted *= 2) {                                   \
                for (i = 0; i < pieces / 2; i++) {                                             \
                    half[i] = __builtin_shuffle(all[2 * i], all[2 * i + 1], lane * 2);         \
                    half[i + pieces / 2] =                                                     \
                        __builtin_shuffle(all[2 * i], all[2 * i + 1], lane * 2 + 1);           \
                }                                                                              \
                for (i = 0; i < pieces; i++)                                                   \
                    all[i] = half[i];                                                          \
            }                                                                                  \
        } else {                                                                               \
            for (piece = 0; piece < pieces; piece++) {                                         \
                const vector place = lane * (uint##BITS##_t)pieces + (uint##BITS##_t)piece;    \
                vector row = __builtin_shuffle(all[0], all[1], place);                         \
                for (i = 2; i < pieces; i++) {                                                 \
                    const vector here = place - (uint##BITS##_t)(i * lanes);                   \
                    const vector is_here = (vector)(here < (uint##BITS##_t)lanes);             \
                    row = __builtin_shuffle(                                                   \
                        row, all[i],                                                           \
                        (is_here & (here + (uint##BITS##_t)lanes)) | (~is_here & lane));       \
                }                                                                              \
                half[piece] = row;                                                             \
            }                                                                                  \
            for (i = 0; i < pieces; i++)                                                       \
                all[i] = half[i];                                                              \
        }                                                                                      \
        for (i = 0; i < pieces; i++)                                                           \
            memcpy(rows + i * row_step, &all[i], BYTES);                                       \
    }
RELU_EXT_DEFINE_TAKE(8, 16, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(16, 16, RELU_EXT_8)
RELU_EXT_DEFINE_TAKE(32, 16, RELU_EXT_4)
RELU_EXT_DEFINE_TAKE(64, 16, RELU_EXT_2)
#if defined(__AVX512BW__)
RELU_EXT_DEFINE_TAKE(16, 32, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(32, 32, RELU_EXT_8)
RELU_EXT_DEFINE_TAKE(64, 32, RELU_EXT_4)
RELU_EXT_DEFINE_TAKE(16, 64, RELU_EXT_32)
RELU_EXT_DEFINE_TAKE(32, 64, RELU_EXT_16)
RELU_EXT_DEFINE_TAKE(64, 64, RELU_EXT_8)
#endif
/* What is left at the end is moved with items before it. */
#define RELU_EXT_TAKE_VECTORS(BITS, BYTES)                                                     \
    if (n >= BYTES * 8 / BITS) {                                                               \
        for (i = 0; i + BYTES * 8 / BITS <= n; i += BYTES * 8 / BITS)                          \
            relu_ext_take##BITS##_##BYTES(to + i * (BITS / 8), to_step,                        \
                                          x + i * pieces * (BITS / 8), pieces);                \
        if (i < n) {                                                                           \
            i = n - BYTES * 8 / BITS;                                                          \
            relu_ext_take##BITS##_##BYTES(to + i * (BITS / 8), to_step,                        \
                                          x + i * pieces * (BITS / 8), pieces);                \
        }                                                                                      \
        return;                                                                                \
    }
#endif

/* to[piece][i] = x[i * pieces + piece] in items of `size`. */
RELU_EXT_ALWAYS void relu_ext_take_apart(const int size, char *to, ptrdiff_t to_step,
                                         const char *x, const int pieces, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    int piece;
#if RELU_EXT_SHUFFLES
#if defined(__AVX512BW__)
    /* Of 4 and 8 pieces 512-bit vectors take 1.2 times as long (float32, AMD EPYC, Zen 5). */
    if (pieces == 4 || pieces == 8) {
        ;
    } else if (size == 2) {
        RELU_EXT_TAKE_VECTORS(16, 64)
        RELU_EXT_TAKE_VECTORS(16, 32)
    } else if (size == 4) {
        RELU_EXT_TAKE_VECTORS(32, 64)
        RELU_EXT_TAKE_VECTORS(32, 32)
    } else if (size == 8) {
        RELU_EXT_TAKE_VECTORS(64, 64)
        RELU_EXT_TAKE_VECTORS(64, 32)
    }
#endif
    if (size == 1) {
        RELU_EXT_TAKE_VECTORS(8, 16)
    } else if (size == 2) {
        RELU_EXT_TAKE_VECTORS(16, 16)
    } else if (size == 4) {
        RELU_EXT_TAKE_VECTORS(32, 16)
    } else if (size == 8) {
        RELU_EXT_TAKE_VECTORS(64, 16)
    }
#endif
    for (; i < n; i++)
        for (piece = 0; piece < pieces; piece++)
            memcpy(to + piece * to_step + i * size, x + (i * pieces + piece) * size, size);
}

/* Four items of each of n elements `step` bytes apart, to four rows: tiles of four elements. */
RELU_EXT_ALWAYS void relu_ext_take_four(const int size, char *to, ptrdiff_t to_step, const char *x,
                                        ptrdiff_t step, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    int piece;
#if RELU_EXT_SHUFFLES
    /* Whole vectors are stored to the tile, because CPUs forward no store to a wider load. */
    typedef uint64_t two __attribute__((vector_size(16)));
    typedef uint32_t four __attribute__((vector_size(16)));
    char tile[64];
    uint64_t wide[2];
    uint32_t narrow[4];
    two pair;
    four quad;
    int k, lane;
    if (size == 8) {
        for (; i + 2 <= n; i += 2) {
            for (k = 0; k < 2; k++)
                memcpy(tile + k * 32, x + (i + k) * step, 32);
            relu_ext_take64_16(to + i * 8, to_step, tile, 4);
        }
    } else if (size == 4) {
        for (; i + 4 <= n; i += 4) {
            for (k = 0; k < 4; k++)
                memcpy(tile + k * 16, x + (i + k) * step, 16);
            relu_ext_take32_16(to + i * 4, to_step, tile, 4);
        }
    } else if (size == 2) {
        for (; i + 8 <= n; i += 8) {
            for (k = 0; k < 4; k++) {
                for (lane = 0; lane < 2; lane++)
                    memcpy(&wide[lane], x + (i + k * 2 + lane) * step, 8);
                pair = (two){wide[0], wide[1]};
                memcpy(tile + k * 16, &pair, 16);
            }
            relu_ext_take16_16(to + i * 2, to_step, tile, 4);
        }
    } else if (size == 1) {
        for (; i + 16 <= n; i += 16) {
            for (k = 0; k < 4; k++) {
                for (lane = 0; lane < 4; lane++)
                    memcpy(&narrow[lane], x + (i + k * 4 + lane) * step, 4);
                quad = (four){narrow[0], narrow[1], narrow[2], narrow[3]};
                memcpy(tile + k * 16, &quad, 16);
            }
            relu_ext_take8_16(to + i, to_step, tile, 4);
        }
    }
#endif
    for (; i < n; i++)
        for (piece = 0; piece < 4; piece++)
            memcpy(to + piece * to_step + i * size, x + i * step + piece * size, size);
}

RELU_EXT_ALWAYS void relu_ext_take_sized(const int size, char *to, ptrdiff_t to_step, const char *x,
                                         const ptrdiff_t *offset, int pieces, ptrdiff_t step,
                                         ptrdiff_t n, ptrdiff_t row_step, ptrdiff_t rows)
{
    const ptrdiff_t run = n * size;
    ptrdiff_t row, i;
    int piece = 0, together;
    while (piece < pieces) {
        const char *from = x + offset[piece];
        char *first = to + piece * to_step;
        for (together = 1; piece + together < pieces; together++)
            if (offset[piece + together] != offset[piece] + together * size)
                break;
#define RELU_EXT_TAKE(PIECES)                                                             \
    for (row = 0; row < rows; row++)                                                      \
        relu_ext_take_apart(size, first + row * run, to_step, from + row * row_step, PIECES, n);
        if (together == 2 && step == 2 * size) {
            RELU_EXT_TAKE(2)
        } else if (together == 3 && step == 3 * size) {
            RELU_EXT_TAKE(3)
        } else if (together == 4 && step == 4 * size) {
            RELU_EXT_TAKE(4)
        } else if (together == 8 && step == 8 * size) {
            RELU_EXT_TAKE(8)
#if defined(__AVX512BW__)
        } else if (together == 5 && step == 5 * size) {
            RELU_EXT_TAKE(5)
#endif
        } else if (together >= 4) {
            together = 4;
            for (row = 0; row < rows; row++)
                relu_ext_take_four(size, first + row * run, to_step, from + row * row_step, step, n);
        } else {
            together = 1;
            for (row = 0; row < rows; row++)
                if (step == size)
                    memcpy(first + row * run, from + row * row_step, run);
                else
                    for (i = 0; i < n; i++)
                        memcpy(first + row * run + i * size, from + row * row_step + i * step, size);
        }
        piece += together;
    }
#undef RELU_EXT_TAKE
}

/* rows[piece][row * n + i] = the item at offset[piece] + row * row_step + i * step bytes of x. */
static void relu_ext_take(char *to, ptrdiff_t to_step, const char *x, const ptrdiff_t *offset,
                          int pieces, ptrdiff_t step, ptrdiff_t n, ptrdiff_t row_step,
                          ptrdiff_t rows, ptrdiff_t size)
{
#define RELU_EXT_SIZED(SIZE) \
    relu_ext_take_sized(SIZE, to, to_step, x, offset, pieces, step, n, row_step, rows)
    switch (size) {
    case 1: RELU_EXT_SIZED(1); break;
    case 2: RELU_EXT_SIZED(2); break;
    case 4: RELU_EXT_SIZED(4); break;
    case 8: RELU_EXT_SIZED(8); break;
    case 16: RELU_EXT_SIZED(16); break;
    default: RELU_EXT_SIZED((int)size); break;
    }
#undef RELU_EXT_SIZED
}

/* The gradient of pieces that lie in rows: all bits of grad where the piece won, 0 elsewhere. */
#define RELU_EXT_DEFINE_SPREAD(SIZE, TYPE)                                                      \
    static void relu_ext_spread_rows##SIZE(char *x, const ptrdiff_t *offset, int pieces,        \
                                           const char *grad, const uint8_t *which, ptrdiff_t n) \
    {                                                                                           \
        int piece;                                                                              \
        ptrdiff_t i;                                                                            \
        for (piece = 0; piece < pieces; piece++) {                                              \
            char *to = x + offset[piece];                                                       \
            for (i = 0; i < n; i++) {                                                           \
                TYPE g;                                                                         \
                memcpy(&g, grad + i * SIZE, SIZE);                                              \
                g = which[i] == piece ? g : 0;                                                  \
                memcpy(to + i * SIZE, &g, SIZE);                                                \
            }                                                                                   \
        }                                                                                       \
    }
RELU_EXT_DEFINE_SPREAD(1, uint8_t)
RELU_EXT_DEFINE_SPREAD(2, uint16_t)
RELU_EXT_DEFINE_SPREAD(4, uint32_t)
RELU_EXT_DEFINE_SPREAD(8, uint64_t)

/* A number that another thread may be changing is read once. */
RELU_EXT_ALWAYS void relu_ext_place(const int size, char *x, const ptrdiff_t *offset,
                                    ptrdiff_t step, const char *grad, const uint8_t *which,
                                    ptrdiff_t n)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++)
        memcpy(x + i * step + offset[*(const volatile uint8_t *)(which + i)], grad + i * size, size);
}

static void relu_ext_clear(char *x, const ptrdiff_t *offset, int pieces, ptrdiff_t step,
                           ptrdiff_t n, ptrdiff_t size)
{
    ptrdiff_t i;
    int piece, together;
    for (piece = 0; piece < pieces; piece += together) {
        char *to = x + offset[piece];
        for (together = 1; piece + together < pieces; together++)
            if (offset[piece + together] != offset[piece] + together * size)
                break;
        if (together * size == step)
            memset(to, 0, n * step);
        else
            for (i = 0; i < n; i++)
                memset(to + i * step, 0, together * size);
    }
}

#if RELU_EXT_SHUFFLES && defined(__SSE4_1__)
#define RELU_EXT_PUTS 1
#include <immintrin.h>
/* Elements whose `side` pieces lie side by side, in several places: each vector of the result takes
 * grad where the piece won. GCC 12 computes __builtin_convertvector number by number, so which is
 * widened by intrinsics. */
#define RELU_EXT_DEFINE_PUT(BITS, BYTES, WIDEN, ...)                                              \
    RELU_EXT_ALWAYS void relu_ext_put##BITS(char *x, const ptrdiff_t *offset, int pieces,         \
                                            const char *grad, const uint8_t *which,               \
                                            const int side)                                       \
    {                                                                                             \
        typedef uint##BITS##_t vector __attribute__((vector_size(BYTES)));                        \
        const vector lane = {__VA_ARGS__};                                                        \
        const int lanes = BYTES * 8 / BITS;                                                       \
        uint64_t few = 0;                                                                         \
        vector g, w, gs[4], ws[4];                                                                \
        int i, piece;                                                                             \
        memcpy(&g, grad, BYTES);                                                                  \
        if (lanes < 16)                                                                           \
            memcpy(&few, which, lanes < 8 ? lanes : 8);                                           \
        w = (vector)WIDEN(lanes == 16 ? _mm_loadu_si128((const __m128i *)which)                   \
                                      : _mm_cvtsi64_si128((long long)few));                       \
        _Pragma("GCC unroll 4") for (i = 0; i < side; i++) {                                      \
            const vector place = lane + (uint##BITS##_t)(i * lanes);                              \
            const vector element = place / (uint##BITS##_t)side;                                  \
            gs[i] = __builtin_shuffle(g, element);                                                \
            ws[i] = __builtin_shuffle(w, element) - place % (uint##BITS##_t)side;                 \
        }                                                                                         \
        for (piece = 0; piece < pieces; piece += side)                                            \
            _Pragma("GCC unroll 4") for (i = 0; i < side; i++) {                                  \
                const vector out = gs[i] & (vector)(ws[i] == (uint##BITS##_t)piece);              \
                memcpy(x + offset[piece] + i * BYTES, &out, BYTES);                               \
            }                                                                                     \
    }
RELU_EXT_DEFINE_PUT(16, 16, _mm_cvtepu8_epi16, RELU_EXT_8)
#if defined(__AVX2__)
RELU_EXT_DEFINE_PUT(32, 32, _mm256_cvtepu8_epi32, RELU_EXT_8)
RELU_EXT_DEFINE_PUT(64, 32, _mm256_cvtepu8_epi64, RELU_EXT_4)
#else
RELU_EXT_DEFINE_PUT(32, 16, _mm_cvtepu8_epi32, RELU_EXT_4)
RELU_EXT_DEFINE_PUT(64, 16, _mm_cvtepu8_epi64, RELU_EXT_2)
#endif
#if defined(__AVX2__)
#define RELU_EXT_PUT_LANES(SIZE) (SIZE == 2 ? 8 : 32 / SIZE)
#else
#define RELU_EXT_PUT_LANES(SIZE) (16 / SIZE)
#endif

/* What is left of a row at the end is written with elements before it. */
RELU_EXT_ALWAYS void relu_ext_put(const int size, const int side, char *x, const ptrdiff_t *offset,
                                  int pieces, const char *grad, const uint8_t *which, ptrdiff_t n)
{
    const ptrdiff_t lanes = RELU_EXT_PUT_LANES(size);
    ptrdiff_t i;
#define RELU_EXT_PUT_AT(BITS)                                                       \
    relu_ext_put##BITS(x + i * side * (BITS / 8), offset, pieces, grad + i * (BITS / 8), which + i, \
                       side)
#define RELU_EXT_PUT_ALL(BITS)                    \
    for (i = 0; i + lanes <= n; i += lanes)       \
        RELU_EXT_PUT_AT(BITS);                    \
    if (i < n) {                                  \
        i = n - lanes;                            \
        RELU_EXT_PUT_AT(BITS);                    \
    }
    if (size == 2) {
        RELU_EXT_PUT_ALL(16)
    } else if (size == 4) {
        RELU_EXT_PUT_ALL(32)
    } else {
        RELU_EXT_PUT_ALL(64)
    }
#undef RELU_EXT_PUT_AT
#undef RELU_EXT_PUT_ALL
}
#else
#define RELU_EXT_PUTS 0
#define RELU_EXT_PUT_LANES(SIZE) 1
#define relu_ext_put(size, side, x, offset, pieces, grad, which, n) (void)0
#endif

/* The number of pieces that lie side by side, if all do, and elements side by side too; else 0. */
static int relu_ext_side(const ptrdiff_t *offset, int pieces, ptrdiff_t step, ptrdiff_t size)
{
    const ptrdiff_t side = step / size;
    int piece;
    if (side < 2 || side > pieces || side * size != step || pieces % side != 0)
        return 0;
    for (piece = 0; piece < pieces; piece++)
        if (offset[piece] != offset[piece - piece % side] + piece % side * size)
            return 0;
    return (int)side;
}

/* x[offset[which[i]] + i * step] = grad[i] in each row, and 0 at the other pieces. Where the pieces
 * of all rows fill the memory, of `fill` bytes a row, they are cleared together. */
static void relu_ext_spread(char *x, const ptrdiff_t *offset, int pieces, ptrdiff_t step,
                            ptrdiff_t row_step, const char *grad, ptrdiff_t grad_row_step,
                            const uint8_t *which, ptrdiff_t which_row_step, ptrdiff_t n,
                            ptrdiff_t rows, ptrdiff_t size, ptrdiff_t fill)
{
    /* Beyond MOST_PUT bytes, clearing and placing costs less than a choice for each piece. */
    enum { MOST_PUT = 64 };
    const int side = pieces * size <= MOST_PUT && size <= 8 && size >= 2 &&
                             n >= RELU_EXT_PUT_LANES(size)
                         ? relu_ext_side(offset, pieces, step, size)
                         : 0;
    const int in_rows = step == size && size <= 8;
    const int puts = RELU_EXT_PUTS && side >= 2 && side <= 4;
    const int clears = !puts && !in_rows;
    if (clears && fill)
        memset(x, 0, rows * fill);
#define RELU_EXT_EACH_ROW(STATEMENT)                                                          \
    for (; rows > 0; rows--, x += row_step, grad += grad_row_step, which += which_row_step) { \
        if (clears && !fill)                                                                  \
            relu_ext_clear(x, offset, pieces, step, n, size);                                 \
        STATEMENT;                                                                            \
    }                                                                                         \
    break
#define RELU_EXT_PUT(SIZE, SIDE)                                                    \
    if (SIZE > 1 && puts && side == SIDE) {                                         \
        RELU_EXT_EACH_ROW(relu_ext_put(SIZE, SIDE, x, offset, pieces, grad, which, n)); \
    }
#define RELU_EXT_SIZED(SIZE)                                                                  \
    case SIZE:                                                                                \
        if (in_rows) {                                                                        \
            RELU_EXT_EACH_ROW(relu_ext_spread_rows##SIZE(x, offset, pieces, grad, which, n)); \
        }                                                                                     \
        RELU_EXT_PUT(SIZE, 2)                                                                 \
        RELU_EXT_PUT(SIZE, 3)                                                                 \
        RELU_EXT_PUT(SIZE, 4)                                                                 \
        RELU_EXT_EACH_ROW(relu_ext_place(SIZE, x, offset, step, grad, which, n))
    switch (size) {
    RELU_EXT_SIZED(1);
    RELU_EXT_SIZED(2);
    RELU_EXT_SIZED(4);
    RELU_EXT_SIZED(8);
    default: RELU_EXT_EACH_ROW(relu_ext_place((int)size, x, offset, step, grad, which, n));
    }
#undef RELU_EXT_SIZED
#undef RELU_EXT_PUT
#undef RELU_EXT_EACH_ROW
}

#endif
