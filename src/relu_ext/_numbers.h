/* The C types of the buffers, and what compilers do badly by themselves:
 * - products and sums of float16 and bfloat16: in float32, rounded once to nearest even,
 *   bit for bit as in NumPy and ml_dtypes, a block at a time. */
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
/* setup.py puts it before a loop whose arrays are one or apart. */
#define RELU_EXT_NO_ALIASES _Pragma("GCC ivdep")
#else
#define RELU_EXT_SEES_ONE_ARRAY 0
#define RELU_EXT_NO_ALIASES
#endif
/* And this before a loop of an operation: relu_ of 4,096 float32 1.36 times as fast (v4), 493 calls
 * 1.03 (v4, v3); four vectors gain no more. v2 would gain 1.05 for 41 KB (Zen 5). */
#if RELU_EXT_SEES_ONE_ARRAY && defined(__AVX2__)
#define RELU_EXT_TWO_VECTORS _Pragma("GCC unroll 2")
#else
#define RELU_EXT_TWO_VECTORS
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
RELU_EXT_ANYWHERE(long double, relu_ext_longdouble);
RELU_EXT_ANYWHERE(int8_t, relu_ext_int8);
RELU_EXT_ANYWHERE(int16_t, relu_ext_int16);
RELU_EXT_ANYWHERE(int32_t, relu_ext_int32);
RELU_EXT_ANYWHERE(int64_t, relu_ext_int64);
RELU_EXT_ANYWHERE(uint8_t, relu_ext_uint8);
RELU_EXT_ANYWHERE(uint16_t, relu_ext_uint16);
RELU_EXT_ANYWHERE(uint32_t, relu_ext_uint32);
RELU_EXT_ANYWHERE(uint64_t, relu_ext_uint64);

/* a * b; if both are NaN, b quieted. */
#define RELU_EXT_SCALED(a, b) ((b) != (b) ? (b) + (b) : (a) * (b))

/* a * b, for a that is no NaN. Of x < 0 ? x * b : x Clang makes x * (x < 0 ? b : 1), which quiets a
 * signalling NaN, unless the product is a choice itself. */
#if defined(__clang__)
#define RELU_EXT_PRODUCT(a, b) RELU_EXT_SCALED(a, b)
#else
#define RELU_EXT_PRODUCT(a, b) ((a) * (b))
#endif

/* a + b; if both are NaN, a quieted. With AVX-512 GCC makes a load of b that waits for the
 * comparison out of a choice between b and a, and out of a choice between sums, unless a barrier,
 * which is no instruction, hides that the sum is one: add_leaky_relu_ on 16 MiB of float32 takes
 * 1.39 ms with such a load, 0.67 without (Zen 5). With AVX2 the choice between sums takes up to 1.2
 * times as long. */
#if !defined(__AVX512F__)
#define RELU_EXT_TOTAL(a, b) ((a) + ((a) != (a) ? (a) : (b)))
#elif defined(__clang__) || __GNUC__ < 12
#define RELU_EXT_TOTAL(a, b) ((a) == (a) ? (a) + (b) : (a) + (a))
#else
#define RELU_EXT_TOTAL(a, b) ((a) == (a) ? __builtin_assoc_barrier((a) + (b)) : (a) + (a))
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

/* The positive quiet NaN. */
#define RELU_EXT_NAN relu_ext_float_from_bits(0x7fc00000)

/* Products and sums are made a block at a time: relu_ext_<format>_expand gives the float32 of a
 * block, _multiply and _add take a block and such float32. Where both numbers are NaN, `nan_first`
 * of _scalar.pxd decides. */
#define RELU_EXT_BLOCK 64

/* float16 in blocks, because compilers vectorise no scalar conversion. A NaN is quieted. */
#if !defined(__F16C__) && !(defined(__ARM_NEON) && defined(__aarch64__))
/* Exponent and mantissa move up by 13 bits and the bias grows by 112. A subnormal number is what a
 * normal one with its mantissa has beyond 2^-14: no float32 on the way is subnormal, which the CPU
 * may take for 0. Infinity and NaN (quieted, as the hardware does) need all exponent bits set. */
static inline float relu_ext_float_from_float16(uint16_t x)
{
    const uint32_t magnitude = (uint32_t)(x & 0x7fff) << 13;
    const uint32_t subnormal =
        relu_ext_bits_of_float(relu_ext_float_from_bits(magnitude + 0x38800000) - 0x1p-14f);
    const uint32_t finite = magnitude < 0x00800000 ? subnormal : magnitude + 0x38000000;
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

/* A vector of float32, how it is loaded, and how it comes from as many float16 and becomes them; of
 * these two vectors are stored at once, because stores are as wide as the loads that will follow in
 * the kernels: a load cannot be served from two stores still on their way. With AVX-512 this is 1.3
 * to 2.4 times as fast as with F16C (Zen 5). */
#if defined(__AVX512F__)
typedef __m512 relu_ext_floats;
#define RELU_EXT_LOAD_FLOATS(b) _mm512_loadu_ps(b)
#define RELU_EXT_LOAD_HALVES(a) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(a)))
#define RELU_EXT_NARROW(x) _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)
#define RELU_EXT_STORE_HALVES(out, low, high) \
    _mm512_storeu_si512(out, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1))
#elif defined(__F16C__)
typedef __m256 relu_ext_floats;
#define RELU_EXT_LOAD_FLOATS(b) _mm256_loadu_ps(b)
#define RELU_EXT_LOAD_HALVES(a) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(a)))
#define RELU_EXT_NARROW(x) _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)
#define RELU_EXT_STORE_HALVES(out, low, high) \
    _mm256_storeu_si256((__m256i *)(out), _mm256_set_m128i(high, low))
#elif defined(__ARM_NEON) && defined(__aarch64__)
typedef float32x4_t relu_ext_floats;
#define RELU_EXT_LOAD_FLOATS(b) vld1q_f32(b)
#define RELU_EXT_LOAD_HALVES(a) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(a)))
#define RELU_EXT_NARROW(x) vreinterpret_u16_f16(vcvt_f16_f32(x))
#define RELU_EXT_STORE_HALVES(out, low, high) vst1q_u16(out, vcombine_u16(low, high))
#else
typedef float relu_ext_floats;
#define RELU_EXT_LOAD_FLOATS(b) (*(b))
#define RELU_EXT_LOAD_HALVES(a) relu_ext_float_from_float16(*(a))
#define RELU_EXT_NARROW(x) relu_ext_float16_from_float(x)
#define RELU_EXT_STORE_HALVES(out, low, high) ((out)[0] = (low), (out)[1] = (high))
#endif
#define RELU_EXT_FLOATS ((int)(sizeof(relu_ext_floats) / sizeof(float)))

/* out[i] = a[i], out[i] = a[i] * b[i] and out[i] = a[i] + b[i], for a block; b of a product and the
 * addends are float32. */
static inline void relu_ext_float16_expand(float *out, const relu_ext_float16 *a)
{
    int i;
    for (i = 0; i < RELU_EXT_BLOCK; i += RELU_EXT_FLOATS) {
        const relu_ext_floats x = RELU_EXT_LOAD_HALVES(a + i);
        memcpy(out + i, &x, sizeof x);
    }
}

#define RELU_EXT_FLOAT16_BLOCK(NAME, OPERATOR)                                                    \
    static inline void relu_ext_float16_##NAME(relu_ext_float16 *out, const relu_ext_float16 *a,  \
                                               const float *b)                                    \
    {                                                                                             \
        int i;                                                                                    \
        for (i = 0; i < RELU_EXT_BLOCK; i += 2 * RELU_EXT_FLOATS) {                               \
            const int k = i + RELU_EXT_FLOATS;                                                    \
            const relu_ext_floats low = RELU_EXT_LOAD_HALVES(a + i);                              \
            const relu_ext_floats high = RELU_EXT_LOAD_HALVES(a + k);                             \
            RELU_EXT_STORE_HALVES(out + i,                                                        \
                                  RELU_EXT_NARROW(low OPERATOR RELU_EXT_LOAD_FLOATS(b + i)),      \
                                  RELU_EXT_NARROW(high OPERATOR RELU_EXT_LOAD_FLOATS(b + k)));    \
        }                                                                                         \
    }
RELU_EXT_FLOAT16_BLOCK(multiply, *)
RELU_EXT_FLOAT16_BLOCK(add, +)

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

/* What a kernel of half precision does by its format; compilers inline all of it. */
typedef struct {
    void (*expand)(float *out, const relu_ext_float16 *a);
    void (*multiply)(relu_ext_float16 *out, const relu_ext_float16 *a, const float *b);
    void (*add)(relu_ext_float16 *out, const relu_ext_float16 *a, const float *b);
} relu_ext_half_format;

static const relu_ext_half_format relu_ext_float16_format = {
    relu_ext_float16_expand, relu_ext_float16_multiply, relu_ext_float16_add};
static const relu_ext_half_format relu_ext_bfloat16_format = {
    relu_ext_bfloat16_expand, relu_ext_bfloat16_multiply, relu_ext_bfloat16_add};

/* For sums: one number at a time, in place in its order. The value is no NaN but the quiet one. */
static inline float relu_ext_bfloat16_widened(uint16_t x)
{
    return relu_ext_float_from_bits((uint32_t)x << 16);
}

static inline relu_ext_bfloat16 relu_ext_bfloat16_narrowed(float value)
{
    return (relu_ext_bfloat16)(relu_ext_bfloat16_rounded(value) >> 16);
}

#endif
