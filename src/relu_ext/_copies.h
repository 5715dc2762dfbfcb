/* Copies of memory, strided or past the caches, and prefetching; in plain C where a compiler or CPU
 * has no instruction for it. Compiled once per CPU level. */
#ifndef RELU_EXT_COPIES_H
#define RELU_EXT_COPIES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RELU_EXT_CACHE_LINE 64
#ifdef _MSC_VER
#define RELU_EXT_LINE_ALIGNED __declspec(align(RELU_EXT_CACHE_LINE))
#else
#define RELU_EXT_LINE_ALIGNED __attribute__((aligned(RELU_EXT_CACHE_LINE)))
#endif

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#if defined(__GNUC__)
#define RELU_EXT_PREFETCH(address) __builtin_prefetch((address), 0)
#else
#define RELU_EXT_PREFETCH(address) ((void)(address))
#endif

/* Keeps the loop that holds it from the vectoriser, which would gather what lies apart. */
#if defined(__GNUC__)
#define RELU_EXT_KEEP_SCALAR() __asm__ volatile("")
#else
#define RELU_EXT_KEEP_SCALAR() ((void)0)
#endif

#define RELU_EXT_BOX_BYTES 8192 /* of a box, at most */

static inline void relu_ext_prefetch_for_read(const char *address, ptrdiff_t bytes)
{
    ptrdiff_t i;
    for (i = 0; i < bytes; i += RELU_EXT_CACHE_LINE)
        RELU_EXT_PREFETCH(address + i);
}

/* How many bytes of items of 4 and 8 bytes are computed before they are streamed. With 256, against
 * 512, 64 MiB of float32 are 1.2 times as fast from one input and 1.06 times from two where a store
 * has 64 bytes (AMD EPYC, Zen 4). Where it has 32 (Zen 3), 16 to 128 MiB take 1.03 to 1.19 times as
 * long from one input and 1.02 to 1.14 times from two. */
#if defined(__AVX512F__)
#define RELU_EXT_STREAM_BLOCK 256
#else
#define RELU_EXT_STREAM_BLOCK 512
#endif

/* Copies whole cache lines past the caches. Both addresses are aligned to a cache line. */
static inline void relu_ext_stream_copy(char *to, const char *from, ptrdiff_t bytes)
{
#if defined(__AVX512F__)
    ptrdiff_t i;
    for (i = 0; i < bytes; i += (ptrdiff_t)sizeof(__m512i))
        _mm512_stream_si512((__m512i *)(to + i), _mm512_load_si512((const __m512i *)(from + i)));
#elif defined(__AVX__)
    ptrdiff_t i;
    for (i = 0; i < bytes; i += (ptrdiff_t)sizeof(__m256i))
        _mm256_stream_si256((__m256i *)(to + i), _mm256_load_si256((const __m256i *)(from + i)));
#elif defined(__SSE2__)
    ptrdiff_t i;
    for (i = 0; i < bytes; i += (ptrdiff_t)sizeof(__m128i))
        _mm_stream_si128((__m128i *)(to + i), _mm_load_si128((const __m128i *)(from + i)));
#else
    memcpy(to, from, (size_t)bytes);
#endif
}

/* Makes streamed stores visible in order to other threads. */
static inline void relu_ext_stream_fence(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/* Every second item with AVX-512, whose masked loads and stores skip the bytes between, and which
 * narrows and widens the items in registers. The loads come from 1 KiB ahead: of 2^20 elements in
 * place, 4 MiB apart, float32 take 164 us instead of 209 (AMD EPYC, Zen 5). */
#if defined(__AVX512F__) && defined(__AVX512BW__)
#define RELU_EXT_VECTOR_STEP 2
#define RELU_EXT_SECOND(BITS, MASK, NARROW, WIDEN, LOAD, STORE)                                   \
    static inline ptrdiff_t relu_ext_gather_second##BITS(char *to, const char *from, ptrdiff_t n) \
    {                                                                                             \
        ptrdiff_t i;                                                                              \
        const ptrdiff_t items = 256 / BITS;                                                       \
        for (i = 0; i + items <= n; i += items) {                                                 \
            RELU_EXT_PREFETCH(from + i * (BITS / 4) + 1024);                                      \
            _mm256_storeu_si256((__m256i *)(to + i * (BITS / 8)),                                 \
                                NARROW(LOAD(MASK, from + i * (BITS / 4))));                       \
        }                                                                                         \
        return i;                                                                                 \
    }                                                                                             \
    static inline ptrdiff_t relu_ext_scatter_second##BITS(char *to, const char *from,             \
                                                          ptrdiff_t n)                            \
    {                                                                                             \
        ptrdiff_t i;                                                                              \
        const ptrdiff_t items = 256 / BITS;                                                       \
        for (i = 0; i + items <= n; i += items)                                                   \
            STORE(to + i * (BITS / 4), MASK,                                                      \
                  WIDEN(_mm256_loadu_si256((const __m256i *)(from + i * (BITS / 8)))));           \
        return i;                                                                                 \
    }
RELU_EXT_SECOND(8, 0x5555555555555555, _mm512_cvtepi16_epi8, _mm512_cvtepu8_epi16,
                _mm512_maskz_loadu_epi8, _mm512_mask_storeu_epi8)
RELU_EXT_SECOND(16, 0x55555555, _mm512_cvtepi32_epi16, _mm512_cvtepu16_epi32,
                _mm512_maskz_loadu_epi16, _mm512_mask_storeu_epi16)
RELU_EXT_SECOND(32, 0x5555, _mm512_cvtepi64_epi32, _mm512_cvtepu32_epi64,
                _mm512_maskz_loadu_epi32, _mm512_mask_storeu_epi32)
#else
#define RELU_EXT_VECTOR_STEP 1
#define relu_ext_gather_second8(to, from, n) 0
#define relu_ext_gather_second16(to, from, n) 0
#define relu_ext_gather_second32(to, from, n) 0
#define relu_ext_scatter_second8(to, from, n) 0
#define relu_ext_scatter_second16(to, from, n) 0
#define relu_ext_scatter_second32(to, from, n) 0
#endif
#define relu_ext_gather_second64(to, from, n) 0 /* as fast one by one */
#define relu_ext_scatter_second64(to, from, n) 0

/* Transposes square blocks of as many items as a vector holds: from[i, j] at `from + j * size + i *
 * column` goes to `to + i * size + j * to_row`. Interleaving the first half of the vectors with the
 * second half moves one bit of the place within a vector to the number of the vector, so that
 * as many rounds as there are such bits exchange the two. The last block of a row or column
 * overlaps the one before it. Returns whether both sides are long enough for a block. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define RELU_EXT_LOWER16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define RELU_EXT_UPPER16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define RELU_EXT_LOWER8 0, 8, 1, 9, 2, 10, 3, 11
#define RELU_EXT_UPPER8 4, 12, 5, 13, 6, 14, 7, 15
#define RELU_EXT_LOWER4 0, 4, 1, 5
#define RELU_EXT_UPPER4 2, 6, 3, 7
#define RELU_EXT_LOWER2 0, 2
#define RELU_EXT_UPPER2 1, 3
#define RELU_EXT_TRANSPOSE(BITS, ITEMS, ROUNDS)                                                   \
    static inline int relu_ext_transpose##BITS(char *to, ptrdiff_t to_row, const char *from,      \
                                               ptrdiff_t column, ptrdiff_t columns,               \
                                               ptrdiff_t rows)                                    \
    {                                                                                             \
        typedef uint##BITS##_t items __attribute__((vector_size(ITEMS * BITS / 8)));              \
        const ptrdiff_t size = BITS / 8;                                                          \
        ptrdiff_t i, j, start, first;                                                             \
        int k, round;                                                                             \
        if (columns < ITEMS || rows < ITEMS)                                                      \
            return 0;                                                                             \
        for (start = 0; start < columns; start += ITEMS) {                                        \
            i = start < columns - ITEMS ? start : columns - ITEMS;                                \
            for (first = 0; first < rows; first += ITEMS) {                                       \
                items x[ITEMS], y[ITEMS];                                                         \
                j = first < rows - ITEMS ? first : rows - ITEMS;                                  \
                for (k = 0; k < ITEMS; k++)                                                       \
                    memcpy(&x[k], from + (i + k) * column + j * size, sizeof x[k]);               \
                for (round = 0; round < ROUNDS; round++) {                                        \
                    for (k = 0; k < ITEMS / 2; k++) {                                             \
                        y[2 * k] = __builtin_shufflevector(x[k], x[k + ITEMS / 2],                \
                                                           RELU_EXT_LOWER##ITEMS);                \
                        y[2 * k + 1] = __builtin_shufflevector(x[k], x[k + ITEMS / 2],            \
                                                               RELU_EXT_UPPER##ITEMS);            \
                    }                                                                             \
                    for (k = 0; k < ITEMS; k++)                                                   \
                        x[k] = y[k];                                                              \
                }                                                                                 \
                for (k = 0; k < ITEMS; k++)                                                       \
                    memcpy(to + (j + k) * to_row + i * size, &x[k], sizeof x[k]);                 \
            }                                                                                     \
        }                                                                                         \
        return 1;                                                                                 \
    }
RELU_EXT_TRANSPOSE(8, 16, 4)
RELU_EXT_TRANSPOSE(16, 8, 3)
RELU_EXT_TRANSPOSE(32, 4, 2)
/* Of 64-bit items AVX2 has no such interleaving of four: 2.6 times as slow (Zen 5, GCC 12). */
#if defined(__AVX512VL__)
RELU_EXT_TRANSPOSE(64, 4, 2)
#else
RELU_EXT_TRANSPOSE(64, 2, 1)
#endif
#else
#define relu_ext_transpose8(to, to_row, from, column, columns, rows) 0
#define relu_ext_transpose16(to, to_row, from, column, columns, rows) 0
#define relu_ext_transpose32(to, to_row, from, column, columns, rows) 0
#define relu_ext_transpose64(to, to_row, from, column, columns, rows) 0
#endif

/* Copies rows of bytes by loads and stores that overlap, without a call. */
static inline void relu_ext_copy_rows(char *to, ptrdiff_t to_row, const char *from, ptrdiff_t row,
                                      ptrdiff_t bytes, ptrdiff_t rows)
{
    ptrdiff_t i, j;
#define RELU_EXT_OVERLAP(SIZE)                                                                    \
    if (bytes >= SIZE) {                                                                          \
        for (j = 0; j < rows; j++, to += to_row, from += row) {                                   \
            for (i = 0; i < bytes - SIZE; i += SIZE) {                                            \
                RELU_EXT_KEEP_SCALAR();                                                           \
                memcpy(to + i, from + i, SIZE);                                                   \
            }                                                                                     \
            memcpy(to + bytes - SIZE, from + bytes - SIZE, SIZE);                                 \
        }                                                                                         \
        return;                                                                                   \
    }
    RELU_EXT_OVERLAP(64)
    RELU_EXT_OVERLAP(16)
    RELU_EXT_OVERLAP(8)
    RELU_EXT_OVERLAP(4)
    RELU_EXT_OVERLAP(2)
    RELU_EXT_OVERLAP(1)
#undef RELU_EXT_OVERLAP
}

static inline ptrdiff_t relu_ext_distance(ptrdiff_t step)
{
    return step < 0 ? -step : step;
}

/* Copies a matrix of items, of which one side is a contiguous tile. The inner loop runs along the
 * tile (1.1 to 1.5 times as fast, Zen 5), unless so many columns of the source share a few sets of
 * the first-level cache, of 4 KiB each, that a line would have left it before its next item is read
 * (0.5). Out of a tile the inner loop runs along the axis in which its items lie closer together.
 * Where the tile is written, its step is a constant. */
#define RELU_EXT_COPY(BITS)                                                                       \
    static inline void relu_ext_copy_row##BITS(char *to, ptrdiff_t to_column, const char *from,   \
                                               ptrdiff_t column, ptrdiff_t i, ptrdiff_t columns)  \
    {                                                                                             \
        for (; i < columns; i++) {                                                                \
            RELU_EXT_KEEP_SCALAR();                                                               \
            memcpy(to + i * to_column, from + i * column, BITS / 8);                              \
        }                                                                                         \
    }                                                                                             \
    static inline void relu_ext_copy##BITS(                                                       \
        char *to, ptrdiff_t to_column, ptrdiff_t to_row, const char *from, ptrdiff_t column,      \
        ptrdiff_t row, ptrdiff_t columns, ptrdiff_t rows)                                         \
    {                                                                                             \
        const ptrdiff_t size = BITS / 8;                                                          \
        ptrdiff_t i, j;                                                                           \
        if (to_column == size && row == size && column != size &&                                 \
            relu_ext_transpose##BITS(to, to_row, from, column, columns, rows))                    \
            return;                                                                               \
        if (rows >= 8 && row != 0 && relu_ext_distance(row) < relu_ext_distance(column) &&        \
            (to_column != size || columns * (column & -column) > 8 * 4096)) {                     \
            const ptrdiff_t to_step = to_column, step = column, count = columns;                  \
            to_column = to_row, column = row, columns = rows;                                     \
            to_row = to_step, row = step, rows = count;                                           \
        }                                                                                         \
        if (to_column == size && column == size) {                                                \
            relu_ext_copy_rows(to, to_row, from, row, columns * size, rows);                      \
            return;                                                                               \
        }                                                                                         \
        for (j = 0; j < rows; j++, to += to_row, from += row) {                                   \
            i = 0;                                                                                \
            if (to_column == size && column == 0) {                                               \
                uint##BITS##_t item;                                                              \
                memcpy(&item, from, size);                                                        \
                for (; i < columns; i++)                                                          \
                    memcpy(to + i * size, &item, size);                                           \
                continue;                                                                         \
            }                                                                                     \
            if (to_column == size && column == 2 * size)                                          \
                i = relu_ext_gather_second##BITS(to, from, columns);                              \
            else if (column == size && to_column == 2 * size)                                     \
                i = relu_ext_scatter_second##BITS(to, from, columns);                             \
            if (to_column == size)                                                                \
                relu_ext_copy_row##BITS(to, size, from, column, i, columns);                      \
            else                                                                                  \
                relu_ext_copy_row##BITS(to, to_column, from, column, i, columns);                 \
        }                                                                                         \
    }
RELU_EXT_COPY(8)
RELU_EXT_COPY(16)
RELU_EXT_COPY(32)
RELU_EXT_COPY(64)

static inline void relu_ext_copy(char *to, ptrdiff_t to_column, ptrdiff_t to_row,
                                 const char *from, ptrdiff_t column, ptrdiff_t row,
                                 ptrdiff_t columns, ptrdiff_t rows, ptrdiff_t itemsize)
{
    ptrdiff_t i, j;
    if (itemsize == 1)
        relu_ext_copy8(to, to_column, to_row, from, column, row, columns, rows);
    else if (itemsize == 2)
        relu_ext_copy16(to, to_column, to_row, from, column, row, columns, rows);
    else if (itemsize == 4)
        relu_ext_copy32(to, to_column, to_row, from, column, row, columns, rows);
    else if (itemsize == 8)
        relu_ext_copy64(to, to_column, to_row, from, column, row, columns, rows);
    else
        for (j = 0; j < rows; j++)
            for (i = 0; i < columns; i++)
                memcpy(to + j * to_row + i * to_column, from + j * row + i * column,
                       (size_t)itemsize);
}

typedef struct {
    ptrdiff_t length, to, from; /* steps in bytes */
} relu_ext_axis;

static inline void relu_ext_swap(relu_ext_axis *one, relu_ext_axis *other)
{
    const relu_ext_axis kept = *one;
    *one = *other;
    *other = kept;
}

/* Copies a box of four axes, of which one side is a contiguous tile, matrix by matrix. Neighbouring
 * axes that lie together on both sides are one. The matrix has the two axes along which the items
 * of the one side and those of the other are next to each other, or else the longest. */
static inline void relu_ext_copy_box(char *to, const ptrdiff_t *to_step, const char *from,
                                     const ptrdiff_t *step, const ptrdiff_t *shape,
                                     ptrdiff_t itemsize)
{
    relu_ext_axis box[4] = {{1, 0, 0}, {1, 0, 0}, {1, 0, 0}, {1, 0, 0}};
    ptrdiff_t i, k;
    int axis, other, axes = 0, near_to = -1, near_from = -1;
    for (axis = 0; axis < 4; axis++) {
        relu_ext_axis *const last = &box[axes > 0 ? axes - 1 : 0];
        if (shape[axis] == 1)
            continue;
        if (axes > 0 && to_step[axis] == last->to * last->length &&
            step[axis] == last->from * last->length)
            last->length *= shape[axis];
        else {
            box[axes].length = shape[axis];
            box[axes].to = to_step[axis];
            box[axes++].from = step[axis];
        }
    }
    for (axis = 0; axis < axes; axis++) {
        if (box[axis].to == itemsize && box[axis].from != 0 && box[axis].length >= 4)
            near_to = axis;
        if (box[axis].from == itemsize && box[axis].length >= 4)
            near_from = axis;
    }
    if (near_to >= 0 && near_from >= 0 && near_to != near_from) {
        relu_ext_swap(&box[0], &box[near_to]);
        relu_ext_swap(&box[1], &box[near_from == 0 ? near_to : near_from]);
    } else
        for (axis = box[0].to == box[0].from || box[0].from == 0; axis < 2; axis++)
            for (other = axis + 1; other < axes; other++)
                if (box[other].length > box[axis].length)
                    relu_ext_swap(&box[axis], &box[other]);
    for (k = 0; k < box[3].length; k++)
        for (i = 0; i < box[2].length; i++)
            relu_ext_copy(to + i * box[2].to + k * box[3].to, box[0].to, box[1].to,
                          from + i * box[2].from + k * box[3].from, box[0].from, box[1].from,
                          box[0].length, box[1].length, itemsize);
}

/* Contiguous items with AVX-512, whose masked stores write nothing where the mask is 0. On Zen 5
 * they take 0.05 ns for a float32 in the first-level cache, against 0.5 one by one; relu of 16,384
 * float32 takes 0.99 us instead of 1.39 since whole vectors need no mask of their own. The masked
 * stores of AVX2 are no way: they have no narrower items, and before Zen 4 AMD's CPUs take a
 * microprogram for them. */
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define RELU_EXT_STORE_WHERE(BITS, MASK, LOAD_MASK, TEST, LOAD, STORE)                            \
    static inline void relu_ext_store_some##BITS(char *to, const char *from, const char *mask,    \
                                                 MASK within)                                     \
    {                                                                                             \
        const MASK chosen = TEST(LOAD_MASK(within, mask));                                        \
        STORE(to, chosen, LOAD(chosen, from));                                                    \
    }                                                                                             \
    static inline ptrdiff_t relu_ext_store_where##BITS(char *to, const char *from,                \
                                                       const char *mask, ptrdiff_t n)             \
    {                                                                                             \
        const ptrdiff_t items = 512 / BITS, size = BITS / 8;                                      \
        ptrdiff_t i;                                                                              \
        for (i = 0; i + items <= n; i += items)                                                   \
            relu_ext_store_some##BITS(to + i * size, from + i * size, mask + i, (MASK)-1);        \
        if (i < n)                                                                                \
            relu_ext_store_some##BITS(to + i * size, from + i * size, mask + i,                   \
                                      (MASK)(UINT64_MAX >> (64 - (n - i))));                      \
        return n;                                                                                 \
    }
#define RELU_EXT_TEST64(x) _mm512_test_epi8_mask(x, x)
#define RELU_EXT_TEST32(x) _mm256_test_epi8_mask(x, x)
#define RELU_EXT_TEST16(x) (__mmask16)_mm_test_epi8_mask(x, x)
#define RELU_EXT_TEST8(x) (__mmask8)_mm_test_epi8_mask(x, x)
RELU_EXT_STORE_WHERE(8, __mmask64, _mm512_maskz_loadu_epi8, RELU_EXT_TEST64,
                     _mm512_maskz_loadu_epi8, _mm512_mask_storeu_epi8)
RELU_EXT_STORE_WHERE(16, __mmask32, _mm256_maskz_loadu_epi8, RELU_EXT_TEST32,
                     _mm512_maskz_loadu_epi16, _mm512_mask_storeu_epi16)
RELU_EXT_STORE_WHERE(32, __mmask16, _mm_maskz_loadu_epi8, RELU_EXT_TEST16,
                     _mm512_maskz_loadu_epi32, _mm512_mask_storeu_epi32)
RELU_EXT_STORE_WHERE(64, __mmask8, _mm_maskz_loadu_epi8, RELU_EXT_TEST8,
                     _mm512_maskz_loadu_epi64, _mm512_mask_storeu_epi64)
#else
#define relu_ext_store_where8(to, from, mask, n) 0
#define relu_ext_store_where16(to, from, mask, n) 0
#define relu_ext_store_where32(to, from, mask, n) 0
#define relu_ext_store_where64(to, from, mask, n) 0
#endif

/* Where the mask is 0, the item goes to a place of its own. A branch would be mispredicted, a walk
 * over the set bits of the mask ends at an unpredictable place in each word. */
#define RELU_EXT_COPY_WHERE(BITS)                                                                 \
    static inline void relu_ext_where##BITS(                                                      \
        char *to, ptrdiff_t to_column, const char *from, ptrdiff_t column, const char *mask,      \
        ptrdiff_t mask_column, ptrdiff_t i, ptrdiff_t columns)                                    \
    {                                                                                             \
        char elsewhere[BITS / 8];                                                                 \
        for (; i < columns; i++) {                                                                \
            const uintptr_t place = (uintptr_t)(to + i * to_column);                              \
            const uintptr_t other = (uintptr_t)elsewhere;                                         \
            const uintptr_t chosen = 0 - (uintptr_t)(mask[i * mask_column] != 0);                 \
            RELU_EXT_KEEP_SCALAR();                                                               \
            memcpy((char *)(other ^ ((other ^ place) & chosen)), from + i * column, BITS / 8);    \
        }                                                                                         \
    }                                                                                             \
    static inline void relu_ext_copy_where##BITS(                                                 \
        char *to, ptrdiff_t to_column, const char *from, ptrdiff_t column, const char *mask,      \
        ptrdiff_t mask_column, ptrdiff_t columns)                                                 \
    {                                                                                             \
        const ptrdiff_t size = BITS / 8;                                                          \
        if (to_column == size && column == size && mask_column == 1)                              \
            relu_ext_where##BITS(to, size, from, size, mask, 1,                                   \
                                 relu_ext_store_where##BITS(to, from, mask, columns), columns);   \
        else                                                                                      \
            relu_ext_where##BITS(to, to_column, from, column, mask, mask_column, 0, columns);     \
    }
RELU_EXT_COPY_WHERE(8)
RELU_EXT_COPY_WHERE(16)
RELU_EXT_COPY_WHERE(32)
RELU_EXT_COPY_WHERE(64)

static inline void relu_ext_copy_where(char *to, const ptrdiff_t *to_step, const char *from,
                                       const ptrdiff_t *step, const char *mask,
                                       const ptrdiff_t *mask_step, const ptrdiff_t *shape,
                                       ptrdiff_t itemsize)
{
    ptrdiff_t i, j, k, l;
    for (l = 0; l < shape[3]; l++)
        for (k = 0; k < shape[2]; k++)
            for (j = 0; j < shape[1]; j++) {
                char *const t = to + j * to_step[1] + k * to_step[2] + l * to_step[3];
                const char *const f = from + j * step[1] + k * step[2] + l * step[3];
                const char *const m =
                    mask + j * mask_step[1] + k * mask_step[2] + l * mask_step[3];
                if (itemsize == 1)
                    relu_ext_copy_where8(t, to_step[0], f, step[0], m, mask_step[0], shape[0]);
                else if (itemsize == 2)
                    relu_ext_copy_where16(t, to_step[0], f, step[0], m, mask_step[0], shape[0]);
                else if (itemsize == 4)
                    relu_ext_copy_where32(t, to_step[0], f, step[0], m, mask_step[0], shape[0]);
                else if (itemsize == 8)
                    relu_ext_copy_where64(t, to_step[0], f, step[0], m, mask_step[0], shape[0]);
                else
                    for (i = 0; i < shape[0]; i++)
                        if (m[i * mask_step[0]])
                            memcpy(t + i * to_step[0], f + i * step[0], (size_t)itemsize);
            }
}

#endif
