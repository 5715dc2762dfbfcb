/* The C types of the buffers, and what compilers do badly by themselves:
 * - 64-bit comparisons in SSE2, which they do not vectorise;
 * - the order of float16, bfloat16 and x87's long double, from their bits;
 * - products and sums of float16 and bfloat16: in float32, rounded once to nearest even,
 *   bit for bit as in NumPy and ml_dtypes, a block at a time;
 * - choices between long doubles, which in x87 become branches. */
#ifndef RELU_EXT_NUMBERS_H
#define RELU_EXT_NUMBERS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Whether the compiler vectorises a loop that gets one array by two pointers, as input and output.
 * GCC does. Clang does only if the arrays lie apart: relu_ on 16,384 float32 takes 5.2 us by two
 * pointers and 0.66 by one (AMD EPYC, Zen 4, Clang 19 with AVX2 or AVX-512). With AVX2, Clang 22
 * makes masked stores of the latter, which take 6.9 us (LLVM issue 213195). */
#if defined(__GNUC__) && !defined(__clang__)
#define RELU_EXT_SEES_ONE_ARRAY 1
#else
#define RELU_EXT_SEES_ONE_ARRAY 0
#endif

/* Types of numbers that stand at any address, in memory of any type. In two steps: a type that is
 * made to alias and loses its alignment at once is one of its own, with no alignment to fall back
 * on, and passing it by value ends GCC 14 for aarch64 in an internal error. */
#if defined(__GNUC__)
#define RELU_EXT_ANYWHERE(TYPE, NAME)                         \
    typedef TYPE __attribute__((may_alias)) NAME##_aliasing; \
    typedef NAME##_aliasing __attribute__((aligned(1))) NAME
#else
#define RELU_EXT_ANYWHERE(TYPE, NAME) typedef TYPE NAME
#endif
RELU_EXT_ANYWHERE(uint16_t, relu_ext_float16);
RELU_EXT_ANYWHERE(uint16_t, relu_ext_bfloat16);
RELU_EXT_ANYWHERE(float, relu_ext_float32);
RELU_EXT_ANYWHERE(double, relu_ext_float64);
#if defined(__x86_64__) && defined(__SIZEOF_INT128__) && __LDBL_MANT_DIG__ == 64
#define RELU_EXT_X87 1
RELU_EXT_ANYWHERE(unsigned __int128, relu_ext_longdouble);
#else
#define RELU_EXT_X87 0
RELU_EXT_ANYWHERE(long double, relu_ext_longdouble);
#endif
RELU_EXT_ANYWHERE(int8_t, relu_ext_int8);
RELU_EXT_ANYWHERE(int16_t, relu_ext_int16);
RELU_EXT_ANYWHERE(int32_t, relu_ext_int32);
RELU_EXT_ANYWHERE(int64_t, relu_ext_int64);
RELU_EXT_ANYWHERE(uint8_t, relu_ext_uint8);
RELU_EXT_ANYWHERE(uint16_t, relu_ext_uint16);
RELU_EXT_ANYWHERE(uint32_t, relu_ext_uint32);
RELU_EXT_ANYWHERE(uint64_t, relu_ext_uint64);

#define RELU_EXT_FLOAT16_ONE ((relu_ext_float16)0x3c00)
#define RELU_EXT_BFLOAT16_ONE ((relu_ext_bfloat16)0x3f80)

/* On the bits: 1 to infinity is positive, the same with the sign bit is negative, above is NaN. */
#define RELU_EXT_HALF_COMPARISONS(FORMAT, INFINITY_BITS)                          \
    static inline int relu_ext_##FORMAT##_rectifies_to_zero(uint16_t x)           \
    {                                                                             \
        return (uint16_t)(x - 0x8000) <= INFINITY_BITS;                           \
    }                                                                             \
    static inline int relu_ext_##FORMAT##_is_positive(uint16_t x)                 \
    {                                                                             \
        return (uint16_t)(x - 1) < INFINITY_BITS;                                 \
    }                                                                             \
    static inline int relu_ext_##FORMAT##_is_negative(uint16_t x)                 \
    {                                                                             \
        return (uint16_t)(x - 0x8001) < INFINITY_BITS;                            \
    }
RELU_EXT_HALF_COMPARISONS(float16, 0x7c00)
RELU_EXT_HALF_COMPARISONS(bfloat16, 0x7f80)

static inline int relu_ext_half_is_zero(uint16_t x)
{
    return (uint16_t)(x << 1) == 0;
}

/* Numbers in their order as two's complement, ±0 as 0 and every NaN on top. */
#define RELU_EXT_HALF_RANK(FORMAT, INFINITY_BITS)                                 \
    static inline uint16_t relu_ext_##FORMAT##_rank(uint16_t x)                   \
    {                                                                             \
        const uint16_t magnitude = x & 0x7fff, sign = (uint16_t)(0 - (x >> 15));  \
        const uint16_t number = (uint16_t)((magnitude ^ sign) - sign);            \
        return magnitude > INFINITY_BITS ? 0x7fff : number;                       \
    }
RELU_EXT_HALF_RANK(float16, 0x7c00)
RELU_EXT_HALF_RANK(bfloat16, 0x7f80)

static inline int relu_ext_half_rank_exceeds(uint16_t a, uint16_t b)
{
    return (int16_t)a > (int16_t)b;
}

/* 64-bit integers: SSE2 does not compare them, but shifts and masks them. */
#if defined(__SSE2__) && !defined(__SSE4_2__)
static inline int relu_ext_int64_is_negative(uint64_t x)
{
    return (int)(x >> 63);
}

static inline int relu_ext_int64_is_positive(uint64_t x)
{
    return (int)((~x & (0 - x)) >> 63);
}

static inline int relu_ext_int64_is_zero(uint64_t x)
{
    return (int)(~(x | (0 - x)) >> 63);
}

/* The sign of b - a, which is right unless the operands' highest bits differ. */
static inline int relu_ext_int64_exceeds(uint64_t a, uint64_t b)
{
    return (int)(((b & ~a) | (~(a ^ b) & (b - a))) >> 63);
}

static inline int relu_ext_uint64_exceeds(uint64_t a, uint64_t b)
{
    return (int)(((a & ~b) | (~(a ^ b) & (b - a))) >> 63);
}

static inline uint64_t relu_ext_int64_choose(int condition, uint64_t a, uint64_t b)
{
    const uint64_t mask = 0 - (uint64_t)condition;
    return (a & mask) | (b & ~mask);
}
#else
static inline int relu_ext_int64_is_negative(int64_t x)
{
    return x < 0;
}

static inline int relu_ext_int64_is_positive(int64_t x)
{
    return x > 0;
}

static inline int relu_ext_int64_is_zero(int64_t x)
{
    return x == 0;
}

static inline int relu_ext_int64_exceeds(int64_t a, int64_t b)
{
    return a > b;
}

static inline int relu_ext_uint64_exceeds(uint64_t a, uint64_t b)
{
    return a > b;
}

static inline uint64_t relu_ext_int64_choose(int condition, uint64_t a, uint64_t b)
{
    return condition ? a : b;
}
#endif

/* a * b; if both are NaN, b quieted. */
#define RELU_EXT_SCALED(a, b) ((b) != (b) ? (b) + (b) : (a) * (b))

/* a * b, for a that is no NaN. Of x < 0 ? x * b : x Clang makes x * (x < 0 ? b : 1), which quiets a
 * signalling NaN, unless the product is a choice itself. */
#if defined(__clang__)
#define RELU_EXT_PRODUCT(a, b) RELU_EXT_SCALED(a, b)
#else
#define RELU_EXT_PRODUCT(a, b) ((a) * (b))
#endif

#if RELU_EXT_X87
/* long double as its bits, because a choice between x87 registers compiles to a branch, which costs
 * 4 to 6 ns at random signs. There are 64 bits of mantissa, whose leading bit is stored, 15 of
 * exponent, the sign, and 48 of padding. An exponent without the leading bit is no number: like
 * NaN, no comparison holds for it. */
#define RELU_EXT_LONGDOUBLE_ONE ((relu_ext_longdouble)0x3fff << 64 | (uint64_t)1 << 63)

static inline int relu_ext_longdouble_is_zero(unsigned __int128 x)
{
    return ((uint64_t)x | ((uint64_t)(x >> 64) & 0x7fff)) == 0;
}

static inline int relu_ext_longdouble_is_one(unsigned __int128 x)
{
    return x << 48 == RELU_EXT_LONGDOUBLE_ONE << 48;
}

static inline int relu_ext_longdouble_is_number(unsigned __int128 x)
{
    const uint64_t mantissa = (uint64_t)x, exponent = (uint64_t)(x >> 64) & 0x7fff;
    return ((exponent == 0) | (int)(mantissa >> 63)) & ((exponent != 0x7fff) | !(mantissa << 1));
}

static inline int relu_ext_longdouble_rectifies_to_zero(unsigned __int128 x)
{
    return (int)(x >> 79 & 1) & relu_ext_longdouble_is_number(x);
}

static inline int relu_ext_longdouble_is_positive(unsigned __int128 x)
{
    return (int)(~x >> 79 & 1) & relu_ext_longdouble_is_number(x) &
           !relu_ext_longdouble_is_zero(x);
}

static inline int relu_ext_longdouble_is_negative(unsigned __int128 x)
{
    return relu_ext_longdouble_rectifies_to_zero(x) & !relu_ext_longdouble_is_zero(x);
}

/* As for the halves above. A pseudo-denormal, exponent 0 with the leading bit, is the number of
 * exponent 1. */
static inline unsigned __int128 relu_ext_longdouble_rank(unsigned __int128 x)
{
    const uint64_t mantissa = (uint64_t)x, exponent = (uint64_t)(x >> 64) & 0x7fff;
    const uint64_t carry = (exponent == 0) & mantissa >> 63;
    const unsigned __int128 magnitude = (unsigned __int128)(exponent + carry) << 64 | mantissa;
    const unsigned __int128 sign = 0 - (x >> 79 & 1);
    const unsigned __int128 is_nan = !relu_ext_longdouble_is_number(x);
    return (((magnitude ^ sign) - sign) & (is_nan - 1)) | is_nan << 80;
}

static inline int relu_ext_longdouble_outranks(unsigned __int128 a, unsigned __int128 b)
{
    return (__int128)a > (__int128)b;
}

static inline unsigned __int128 relu_ext_longdouble_choose(int condition, unsigned __int128 a,
                                                           unsigned __int128 b)
{
    const unsigned __int128 mask = 0 - (unsigned __int128)condition;
    return (a & mask) | (b & ~mask);
}

/* Loads as narrow as the store before them, for the reason given at the float16 blocks below. */
static inline long double relu_ext_longdouble_of_bits(unsigned __int128 bits)
{
    long double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline unsigned __int128 relu_ext_bits_of_longdouble(long double value)
{
    uint64_t mantissa;
    uint16_t sign_and_exponent;
    memcpy(&mantissa, &value, sizeof mantissa);
    memcpy(&sign_and_exponent, (const char *)&value + sizeof mantissa, sizeof sign_and_exponent);
    return (unsigned __int128)sign_and_exponent << 64 | mantissa;
}

static inline unsigned __int128 relu_ext_longdouble_product(unsigned __int128 a,
                                                            unsigned __int128 b)
{
    return relu_ext_bits_of_longdouble(relu_ext_longdouble_of_bits(a) *
                                       relu_ext_longdouble_of_bits(b));
}

static inline unsigned __int128 relu_ext_longdouble_scaled(unsigned __int128 a,
                                                           unsigned __int128 b)
{
    const long double x = relu_ext_longdouble_of_bits(a), y = relu_ext_longdouble_of_bits(b);
    return relu_ext_bits_of_longdouble(RELU_EXT_SCALED(x, y));
}

static inline unsigned __int128 relu_ext_longdouble_total(unsigned __int128 a,
                                                          unsigned __int128 b)
{
    const long double x = relu_ext_longdouble_of_bits(a), y = relu_ext_longdouble_of_bits(b);
    return relu_ext_bits_of_longdouble(x != x ? x + x : x + y);
}
#else
#define RELU_EXT_LONGDOUBLE_ONE 1
#define relu_ext_longdouble_is_zero(x) ((x) == 0)
#define relu_ext_longdouble_is_one(x) ((x) == 1)
#define relu_ext_longdouble_rectifies_to_zero(x) ((x) <= 0)
#define relu_ext_longdouble_is_positive(x) ((x) > 0)
#define relu_ext_longdouble_is_negative(x) ((x) < 0)
#define relu_ext_longdouble_rank(x) (x)
#define relu_ext_longdouble_outranks(a, b) (((a) > (b)) | (((a) != (a)) & ((b) == (b))))
#define relu_ext_longdouble_choose(condition, a, b) ((condition) ? (a) : (b))
#define relu_ext_longdouble_product(a, b) RELU_EXT_PRODUCT(a, b)
#define relu_ext_longdouble_scaled(a, b) RELU_EXT_SCALED(a, b)
#define relu_ext_longdouble_total(a, b) ((a) != (a) ? (a) + (a) : (a) + (b))
#endif

static inline float relu_ext_float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t relu_ext_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Products and sums are made a block at a time: relu_ext_<format>_expand gives the float32 of a
 * block, _multiply and _add take a block and such float32, and _nan_first makes of two numbers and
 * of their product or sum the result where the first of them may be NaN. */
#define RELU_EXT_BLOCK 64

/* float16 in blocks, because compilers vectorise no scalar conversion. A NaN is quieted. */
static inline relu_ext_float16 relu_ext_float16_nan_first(uint16_t first, uint16_t result)
{
    return (first & 0x7fff) > 0x7c00 ? first | 0x0200 : result;
}

#if !defined(__F16C__) && !(defined(__ARM_NEON) && defined(__aarch64__))
/* Exponent and mantissa move up by 13 bits and the bias grows by 112; 2^112 does both at once for
 * normal and subnormal numbers alike. Infinity and NaN (quieted, as the hardware does) need all
 * exponent bits set. */
static inline float relu_ext_float_from_float16(uint16_t x)
{
    const uint32_t magnitude = (uint32_t)(x & 0x7fff) << 13;
    const uint32_t finite = relu_ext_bits_of_float(relu_ext_float_from_bits(magnitude) * 0x1p112f);
    const uint32_t quiet = magnitude > 0x0f800000 ? 0x00400000 : 0;
    const uint32_t special = magnitude | 0x7f800000 | quiet;
    return relu_ext_float_from_bits((magnitude >= 0x0f800000 ? special : finite) |
                                    (uint32_t)(x & 0x8000) << 16);
}

/* Normal results: rebias by -112 and round the 13 lowest bits to nearest even, as for bfloat16
 * above; a carry into the exponent is right, up to infinity. Subnormal results (below 2^-14):
 * adding 0.5 leaves the rounded mantissa in the lowest bits of the sum. Above 65519: infinity. */
static inline uint16_t relu_ext_float16_from_float(float value)
{
    const uint32_t bits = relu_ext_bits_of_float(value);
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    const uint32_t subnormal =
        relu_ext_bits_of_float(relu_ext_float_from_bits(magnitude) + 0.5f) - 0x3f000000;
    const uint32_t nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
    uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
    result = magnitude >= 0x477ff000 ? 0x7c00 : result;
    result = magnitude > 0x7f800000 ? nan : result;
    return (uint16_t)(result | (bits >> 16 & 0x8000));
}
#endif

/* out[i] = a[i], out[i] = a[i] * b[i] and out[i] = a[i] + b[i], for a block; b of a product and the
 * addends are float32. Stores are as wide as the loads that will follow in the kernels: a load
 * cannot be served from two stores still on their way. */
static inline void relu_ext_float16_expand(float *out, const relu_ext_float16 *a)
{
    int i;
#if defined(__AVX512F__)
    for (i = 0; i < RELU_EXT_BLOCK; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(a + i))));
#elif defined(__F16C__)
    for (i = 0; i < RELU_EXT_BLOCK; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(a + i))));
#elif defined(__ARM_NEON) && defined(__aarch64__)
    for (i = 0; i < RELU_EXT_BLOCK; i += 4)
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(a + i))));
#else
    for (i = 0; i < RELU_EXT_BLOCK; i++)
        out[i] = relu_ext_float_from_float16(a[i]);
#endif
}

/* Defines relu_ext_float16_<NAME>, which applies an operation on float32 to float16 a and b. */
#if defined(__AVX512F__)
#define RELU_EXT_FLOAT16_BLOCK(NAME, OPERATOR, AVX512, AVX, NEON)                                   \
    static inline __m256i relu_ext_float16_##NAME##16(const relu_ext_float16 *a, const float *b)   \
    {                                                                                              \
        const __m512 x = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)a));                  \
        return _mm512_cvtps_ph(AVX512(x, _mm512_loadu_ps(b)), _MM_FROUND_TO_NEAREST_INT);          \
    }                                                                                              \
    static inline void relu_ext_float16_##NAME(relu_ext_float16 *out, const relu_ext_float16 *a,   \
                                               const float *b)                                     \
    {                                                                                              \
        int i;                                                                                     \
        for (i = 0; i < RELU_EXT_BLOCK; i += 32) {                                                 \
            const __m256i low = relu_ext_float16_##NAME##16(a + i, b + i);                         \
            const __m256i high = relu_ext_float16_##NAME##16(a + i + 16, b + i + 16);              \
            _mm512_storeu_si512(out + i, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1)); \
        }                                                                                          \
    }
#elif defined(__F16C__)
#define RELU_EXT_FLOAT16_BLOCK(NAME, OPERATOR, AVX512, AVX, NEON)                                   \
    static inline __m128i relu_ext_float16_##NAME##8(const relu_ext_float16 *a, const float *b)    \
    {                                                                                              \
        const __m256 x = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)a));                     \
        return _mm256_cvtps_ph(AVX(x, _mm256_loadu_ps(b)), _MM_FROUND_TO_NEAREST_INT);             \
    }                                                                                              \
    static inline void relu_ext_float16_##NAME(relu_ext_float16 *out, const relu_ext_float16 *a,   \
                                               const float *b)                                     \
    {                                                                                              \
        int i;                                                                                     \
        for (i = 0; i < RELU_EXT_BLOCK; i += 16) {                                                 \
            const __m128i low = relu_ext_float16_##NAME##8(a + i, b + i);                          \
            const __m128i high = relu_ext_float16_##NAME##8(a + i + 8, b + i + 8);                 \
            _mm256_storeu_si256((__m256i *)(out + i), _mm256_set_m128i(high, low));                \
        }                                                                                          \
    }
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define RELU_EXT_FLOAT16_BLOCK(NAME, OPERATOR, AVX512, AVX, NEON)                                   \
    static inline void relu_ext_float16_##NAME(relu_ext_float16 *out, const relu_ext_float16 *a,   \
                                               const float *b)                                     \
    {                                                                                              \
        int i;                                                                                     \
        for (i = 0; i < RELU_EXT_BLOCK; i += 4) {                                                  \
            const float32x4_t x = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(a + i)));             \
            const float32x4_t y = NEON(x, vld1q_f32(b + i));                                       \
            vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(y)));                              \
        }                                                                                          \
    }
#else
#define RELU_EXT_FLOAT16_BLOCK(NAME, OPERATOR, AVX512, AVX, NEON)                                   \
    static inline void relu_ext_float16_##NAME(relu_ext_float16 *out, const relu_ext_float16 *a,   \
                                               const float *b)                                     \
    {                                                                                              \
        int i;                                                                                     \
        for (i = 0; i < RELU_EXT_BLOCK; i++)                                                       \
            out[i] = relu_ext_float16_from_float(relu_ext_float_from_float16(a[i]) OPERATOR b[i]); \
    }
#endif
RELU_EXT_FLOAT16_BLOCK(multiply, *, _mm512_mul_ps, _mm256_mul_ps, vmulq_f32)
RELU_EXT_FLOAT16_BLOCK(add, +, _mm512_add_ps, _mm256_add_ps, vaddq_f32)

/* bfloat16 is the upper half of a float32. Two numbers stay where they are in a word of 32 bits,
 * because taking them apart and putting them together would cost more than the arithmetic; of a
 * block in float32, the lower halves of the words come first. */
static inline void relu_ext_bfloat16_expand(float *out, const relu_ext_bfloat16 *a)
{
    int i;
    for (i = 0; i < RELU_EXT_BLOCK / 2; i++) {
        uint32_t pair;
        memcpy(&pair, a + 2 * i, sizeof pair);
        out[i] = relu_ext_float_from_bits(pair << 16);
        out[RELU_EXT_BLOCK / 2 + i] = relu_ext_float_from_bits(pair & 0xffff0000);
    }
}

/* Adding 0x7fff and the lowest bit that stays rounds the upper half to nearest even. A NaN made of
 * bfloat16 numbers has no bits in the lower half, so it stays NaN. */
static inline uint32_t relu_ext_bfloat16_rounded(float value)
{
    const uint32_t bits = relu_ext_bits_of_float(value);
    return bits + 0x7fff + ((bits >> 16) & 1);
}

#define RELU_EXT_BFLOAT16_BLOCK(NAME, OPERATOR)                                                    \
    static inline void relu_ext_bfloat16_##NAME(relu_ext_bfloat16 *out,                            \
                                                const relu_ext_bfloat16 *a, const float *b)        \
    {                                                                                              \
        int i;                                                                                     \
        for (i = 0; i < RELU_EXT_BLOCK / 2; i++) {                                                 \
            uint32_t pair, lower, upper;                                                           \
            memcpy(&pair, a + 2 * i, sizeof pair);                                                 \
            lower = relu_ext_bfloat16_rounded(relu_ext_float_from_bits(pair << 16) OPERATOR b[i]); \
            upper = relu_ext_bfloat16_rounded(relu_ext_float_from_bits(pair & 0xffff0000) OPERATOR \
                                              b[RELU_EXT_BLOCK / 2 + i]);                          \
            pair = lower >> 16 | (upper & 0xffff0000);                                             \
            memcpy(out + 2 * i, &pair, sizeof pair);                                               \
        }                                                                                          \
    }
RELU_EXT_BFLOAT16_BLOCK(multiply, *)
RELU_EXT_BFLOAT16_BLOCK(add, +)

static inline int relu_ext_bfloat16_is_nan(uint16_t x)
{
    return (int16_t)(x & 0x7fff) > 0x7f80;
}

/* Every NaN is the quiet NaN of its sign, as in ml_dtypes. */
static inline relu_ext_bfloat16 relu_ext_bfloat16_nan_first(uint16_t first, uint16_t result)
{
    const uint16_t x = relu_ext_bfloat16_is_nan(first) ? first : result;
    return (relu_ext_bfloat16)(relu_ext_bfloat16_is_nan(x) ? (x & 0x8000) | 0x7fc0 : x);
}

/* A block of bytes times a number, two in each word of 16 bits, because CPUs have no products of
 * bytes and compilers spread the bytes over twice as many registers. */
static inline void relu_ext_bytes_multiply(void *out, const void *a, int factor)
{
    int i;
    for (i = 0; i < RELU_EXT_BLOCK; i += 2) {
        uint16_t pair, products;
        memcpy(&pair, (const char *)a + i, sizeof pair);
        products = (uint16_t)(((unsigned)pair * (uint16_t)factor & 0xff) |
                              ((pair & 0xff00u) * (uint16_t)factor & 0xff00));
        memcpy((char *)out + i, &products, sizeof products);
    }
}

#endif
