/* Copies of memory: strided, and past the caches; prefetching. With plain equivalents where a
 * compiler or CPU has none. Compiled once per CPU level. */
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
#define RELU_EXT_PREFETCH_READ(address) __builtin_prefetch((address), 0)
#define RELU_EXT_PREFETCH_WRITE(address) __builtin_prefetch((address), 1)
#else
#define RELU_EXT_PREFETCH_READ(address) ((void)(address))
#define RELU_EXT_PREFETCH_WRITE(address) ((void)(address))
#endif

static inline void relu_ext_prefetch_for_write(const char *address, ptrdiff_t bytes)
{
    ptrdiff_t i;
    for (i = 0; i < bytes; i += RELU_EXT_CACHE_LINE)
        RELU_EXT_PREFETCH_WRITE(address + i);
}

static inline void relu_ext_prefetch_for_read(const char *address, ptrdiff_t bytes)
{
    ptrdiff_t i;
    for (i = 0; i < bytes; i += RELU_EXT_CACHE_LINE)
        RELU_EXT_PREFETCH_READ(address + i);
}

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

/* Defines a copy of a matrix of items. The inner loop runs along the axis in which the source's
 * items lie closer together, so that a cache line is used whole once it is there. */
#define RELU_EXT_COPY_ITEMS(BITS)                                                                 \
    static inline void relu_ext_copy_items##BITS(                                                 \
        char *to, ptrdiff_t to_column, ptrdiff_t to_row, const char *from, ptrdiff_t column,      \
        ptrdiff_t row, ptrdiff_t columns, ptrdiff_t rows)                                         \
    {                                                                                             \
        ptrdiff_t i, j;                                                                           \
        for (j = 0; j < rows; j++, to += to_row, from += row)                                     \
            for (i = 0; i < columns; i++) {                                                       \
                uint##BITS##_t item;                                                              \
                memcpy(&item, from + i * column, sizeof item);                                    \
                memcpy(to + i * to_column, &item, sizeof item);                                   \
            }                                                                                     \
    }
RELU_EXT_COPY_ITEMS(8)
RELU_EXT_COPY_ITEMS(16)
RELU_EXT_COPY_ITEMS(32)
RELU_EXT_COPY_ITEMS(64)

static inline ptrdiff_t relu_ext_distance(ptrdiff_t step)
{
    return step < 0 ? -step : step;
}

static inline void relu_ext_copy(char *to, ptrdiff_t to_column, ptrdiff_t to_row,
                                 const char *from, ptrdiff_t column, ptrdiff_t row,
                                 ptrdiff_t columns, ptrdiff_t rows, ptrdiff_t itemsize)
{
    ptrdiff_t i, j;
    if (rows > 1 && relu_ext_distance(row) < relu_ext_distance(column)) {
        relu_ext_copy(to, to_row, to_column, from, row, column, rows, columns, itemsize);
        return;
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
