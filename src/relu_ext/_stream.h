/* Prefetching and non-temporal stores, with plain equivalents where a compiler or CPU has none. */
#ifndef RELU_EXT_STREAM_H
#define RELU_EXT_STREAM_H

#include <stddef.h>
#include <string.h>

#define RELU_EXT_CACHE_LINE 64

#if defined(__SSE2__)
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
#if defined(__SSE2__)
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

#endif
