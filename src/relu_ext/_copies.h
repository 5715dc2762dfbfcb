/* Copies of memory, strided or past the caches, and prefetching; in plain C where a compiler or CPU
 * has no instruction for it. Compiled once per CPU level. */
#ifndef RELU_EXT_COPIES_H
#define RELU_EXT_COPIES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RELU_EXT_CACHE_LINE 64

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

/* Every second item. The bytes between are never written, and with AVX-512 not read either: its
 * masked loads and stores skip them, and it narrows and widens the items in registers. */
#if defined(__AVX512F__) && defined(__AVX512BW__)
#define RELU_EXT_SECOND(BITS, MASK, NARROW, WIDEN, LOAD, STORE)                                   \
    static inline ptrdiff_t relu_ext_gather_second##BITS(char *to, const char *from, ptrdiff_t n) \
    {                                                                                             \
        ptrdiff_t i;                                                                              \
        const ptrdiff_t items = 256 / BITS;                                                       \
        for (i = 0; i + items <= n; i += items)                                                   \
            _mm256_storeu_si256((__m256i *)(to + i * (BITS / 8)),                                 \
                                NARROW(LOAD(MASK, from + i * (BITS / 4))));                       \
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
#define RELU_EXT_NARROW64(x) \
    _mm512_castsi512_si256(_mm512_maskz_compress_epi64(0x55, x))
#define RELU_EXT_WIDEN64(x) _mm512_maskz_expand_epi64(0x55, _mm512_castsi256_si512(x))
RELU_EXT_SECOND(8, 0x5555555555555555, _mm512_cvtepi16_epi8, _mm512_cvtepu8_epi16,
                _mm512_maskz_loadu_epi8, _mm512_mask_storeu_epi8)
RELU_EXT_SECOND(16, 0x55555555, _mm512_cvtepi32_epi16, _mm512_cvtepu16_epi32,
                _mm512_maskz_loadu_epi16, _mm512_mask_storeu_epi16)
RELU_EXT_SECOND(32, 0x5555, _mm512_cvtepi64_epi32, _mm512_cvtepu32_epi64,
                _mm512_maskz_loadu_epi32, _mm512_mask_storeu_epi32)
RELU_EXT_SECOND(64, 0x55, RELU_EXT_NARROW64, RELU_EXT_WIDEN64, _mm512_maskz_loadu_epi64,
                _mm512_mask_storeu_epi64)
#else
/* A loop whose steps are constants, which compilers vectorise. */
#define RELU_EXT_SECOND(NAME, BITS, TO_STEP, FROM_STEP)                                           \
    static inline ptrdiff_t relu_ext_##NAME##_second##BITS(char *to, const char *from,            \
                                                           ptrdiff_t n)                           \
    {                                                                                             \
        ptrdiff_t i;                                                                              \
        for (i = 0; i < n; i++)                                                                   \
            memcpy(to + i * (TO_STEP), from + i * (FROM_STEP), BITS / 8);                         \
        return i;                                                                                 \
    }
RELU_EXT_SECOND(scatter, 8, 2, 1)
RELU_EXT_SECOND(scatter, 16, 4, 2)
RELU_EXT_SECOND(scatter, 32, 8, 4)
RELU_EXT_SECOND(scatter, 64, 16, 8)
RELU_EXT_SECOND(gather, 8, 1, 2)
RELU_EXT_SECOND(gather, 16, 2, 4)
#if defined(__SSE2__)
/* Two vectors at a time. The array's last item is left to another loop: the load that holds it would
 * end behind it, where there need not be memory. */
#define RELU_EXT_GATHER_SECOND(BITS, TYPE, LOAD, SHUFFLE, STORE)                                  \
    static inline ptrdiff_t relu_ext_gather_second##BITS(char *to, const char *from, ptrdiff_t n) \
    {                                                                                             \
        ptrdiff_t i;                                                                              \
        const ptrdiff_t items = 128 / BITS;                                                       \
        for (i = 0; i + 2 * items < n; i += 2 * items) {                                          \
            const TYPE *const x = (const TYPE *)from + 2 * i;                                     \
            TYPE *const out = (TYPE *)to + i;                                                     \
            STORE(out, SHUFFLE(LOAD(x), LOAD(x + items)));                                        \
            STORE(out + items, SHUFFLE(LOAD(x + 2 * items), LOAD(x + 3 * items)));                \
        }                                                                                         \
        return i;                                                                                 \
    }
#define RELU_EXT_SHUFFLE32(a, b) _mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0))
#define RELU_EXT_SHUFFLE64(a, b) _mm_shuffle_pd(a, b, _MM_SHUFFLE2(0, 0))
RELU_EXT_GATHER_SECOND(32, float, _mm_loadu_ps, RELU_EXT_SHUFFLE32, _mm_storeu_ps)
RELU_EXT_GATHER_SECOND(64, double, _mm_loadu_pd, RELU_EXT_SHUFFLE64, _mm_storeu_pd)
#else
RELU_EXT_SECOND(gather, 32, 4, 8)
RELU_EXT_SECOND(gather, 64, 8, 16)
#endif
#endif

/* Defines a copy of a matrix of items, of which one side is a contiguous tile. */
#define RELU_EXT_COPY_ITEMS(BITS)                                                                 \
    static inline void relu_ext_copy_items##BITS(                                                 \
        char *to, ptrdiff_t to_column, ptrdiff_t to_row, const char *from, ptrdiff_t column,      \
        ptrdiff_t row, ptrdiff_t columns, ptrdiff_t rows)                                         \
    {                                                                                             \
        const ptrdiff_t size = BITS / 8;                                                          \
        ptrdiff_t i, j;                                                                           \
        for (j = 0; j < rows; j++, to += to_row, from += row) {                                   \
            i = 0;                                                                                \
            if (to_column == size && column == 0) {                                               \
                uint##BITS##_t item;                                                              \
                memcpy(&item, from, size);                                                        \
                for (; i < columns; i++)                                                          \
                    memcpy(to + i * size, &item, size);                                           \
            } else if (to_column == size && column == 2 * size)                                   \
                i = relu_ext_gather_second##BITS(to, from, columns);                              \
            else if (column == size && to_column == 2 * size)                                     \
                i = relu_ext_scatter_second##BITS(to, from, columns);                             \
            for (; i < columns; i++)                                                              \
                memcpy(to + i * to_column, from + i * column, size);                              \
        }                                                                                         \
    }
RELU_EXT_COPY_ITEMS(8)
RELU_EXT_COPY_ITEMS(16)
RELU_EXT_COPY_ITEMS(32)
RELU_EXT_COPY_ITEMS(64)

static inline ptrdiff_t relu_ext_distance(ptrdiff_t step)
{
    return step < 0 ? -step : step;
}

/* The inner loop runs along the axis in which the source's items lie closer together, so that a
 * cache line is used whole once it is there. */
static inline void relu_ext_copy(char *to, ptrdiff_t to_column, ptrdiff_t to_row,
                                 const char *from, ptrdiff_t column, ptrdiff_t row,
                                 ptrdiff_t columns, ptrdiff_t rows, ptrdiff_t itemsize)
{
    ptrdiff_t i, j;
    if (rows > 1 && relu_ext_distance(row) < relu_ext_distance(column)) {
        const ptrdiff_t to_step = to_column, step = column, count = columns;
        to_column = to_row, column = row, columns = rows;
        to_row = to_step, row = step, rows = count;
    }
    if (itemsize == 1)
        relu_ext_copy_items8(to, to_column, to_row, from, column, row, columns, rows);
    else if (itemsize == 2)
        relu_ext_copy_items16(to, to_column, to_row, from, column, row, columns, rows);
    else if (itemsize == 4)
        relu_ext_copy_items32(to, to_column, to_row, from, column, row, columns, rows);
    else if (itemsize == 8)
        relu_ext_copy_items64(to, to_column, to_row, from, column, row, columns, rows);
    else
        for (j = 0; j < rows; j++)
            for (i = 0; i < columns; i++)
                memcpy(to + j * to_row + i * to_column, from + j * row + i * column,
                       (size_t)itemsize);
}

#endif
