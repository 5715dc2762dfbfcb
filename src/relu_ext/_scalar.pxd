"""What each operation means for one number: the only place where a value is decided.

Kernels, walker, ufuncs and front door apply these functions and add no case of their own.

The functions take values, not pointers, and are written as selects with `|` and `&`: a load inside
a conditional, `or`, `and` and chained comparisons become branches, which no compiler vectorises.
An operation that multiplies or adds is handed the product or the sum, so that the same definition
serves the dtypes whose product is one instruction, and float16 and bfloat16, for which the kernels
make products and sums a block at a time.
"""

from libc.math cimport NAN
from relu_ext._table cimport SLOPE_AT_ZERO

cdef extern from "_numbers.h" nogil:
    # Unaligned, aliasing typedefs: a buffer may start at any byte and hold another type's memory.
    # Cython merges members of a fused type that share a base type, so float16, bfloat16 and uint16
    # are given bases that differ for Cython alone; the C compiler sees the types of _numbers.h.
    ctypedef long float16 "relu_ext_float16"
    ctypedef unsigned long bfloat16 "relu_ext_bfloat16"
    ctypedef float float32 "relu_ext_float32"
    ctypedef double float64 "relu_ext_float64"
    ctypedef long double longdouble "relu_ext_longdouble"
    ctypedef signed char int8 "relu_ext_int8"
    ctypedef short int16 "relu_ext_int16"
    ctypedef int int32 "relu_ext_int32"
    ctypedef long long int64 "relu_ext_int64"
    ctypedef unsigned char uint8 "relu_ext_uint8"
    ctypedef unsigned short uint16 "relu_ext_uint16"
    ctypedef unsigned int uint32 "relu_ext_uint32"
    ctypedef unsigned long long uint64 "relu_ext_uint64"

    float32 float32_product "RELU_EXT_PRODUCT"(float32 a, float32 b)
    float64 float64_product "RELU_EXT_PRODUCT"(float64 a, float64 b)
    longdouble longdouble_product "RELU_EXT_PRODUCT"(longdouble a, longdouble b)
    float32 float32_scaled "RELU_EXT_SCALED"(float32 a, float32 b)
    float64 float64_scaled "RELU_EXT_SCALED"(float64 a, float64 b)
    longdouble longdouble_scaled "RELU_EXT_SCALED"(longdouble a, longdouble b)
    float32 float32_total "RELU_EXT_TOTAL"(float32 a, float32 b)
    float64 float64_total "RELU_EXT_TOTAL"(float64 a, float64 b)
    longdouble longdouble_total "RELU_EXT_TOTAL"(longdouble a, longdouble b)
    bint float16_rectifies_to_zero "relu_ext_float16_rectifies_to_zero"(float16 x)
    bint bfloat16_rectifies_to_zero "relu_ext_bfloat16_rectifies_to_zero"(bfloat16 x)
    bint float16_is_positive "relu_ext_float16_is_positive"(float16 x)
    bint float16_is_negative "relu_ext_float16_is_negative"(float16 x)
    bint bfloat16_is_positive "relu_ext_bfloat16_is_positive"(bfloat16 x)
    bint bfloat16_is_negative "relu_ext_bfloat16_is_negative"(bfloat16 x)
    bint float16_is_nan "relu_ext_float16_is_nan"(float16 x)
    bint bfloat16_is_nan "relu_ext_bfloat16_is_nan"(bfloat16 x)
    bint half_is_zero "relu_ext_half_is_zero"(unsigned short x)
    unsigned short half_rank "relu_ext_half_rank"(unsigned short x, unsigned short infinity)
    bint half_rank_exceeds "relu_ext_half_rank_exceeds"(unsigned short a, unsigned short b)
    float16 FLOAT16_ONE "RELU_EXT_FLOAT16_ONE"
    bfloat16 BFLOAT16_ONE "RELU_EXT_BFLOAT16_ONE"
    unsigned short FLOAT16_INFINITY "RELU_EXT_FLOAT16_INFINITY"
    unsigned short BFLOAT16_INFINITY "RELU_EXT_BFLOAT16_INFINITY"

ctypedef fused number:
    float16
    bfloat16
    float32
    float64
    longdouble
    int8
    int16
    int32
    int64
    uint8
    uint16
    uint32
    uint64


# The number formats: comparison with zero (false for NaN), choice, one, product, sum.

cdef inline bint is_positive(number x) noexcept nogil:
    if number is float16:
        return float16_is_positive(x)
    elif number is bfloat16:
        return bfloat16_is_positive(x)
    else:
        return x > 0


cdef inline bint is_negative(number x) noexcept nogil:
    if number is float16:
        return float16_is_negative(x)
    elif number is bfloat16:
        return bfloat16_is_negative(x)
    else:
        return x < 0


cdef inline bint rectifies_to_zero(number x) noexcept nogil:
    """x < 0 or x = -0.0.  A format may also count +0.0, whose result is +0.0 either way, so
    that one comparison is enough."""
    if number is float16:
        return float16_rectifies_to_zero(x)
    elif number is bfloat16:
        return bfloat16_rectifies_to_zero(x)
    else:
        return x <= 0


cdef inline bint is_zero(number x) noexcept nogil:
    if number is float16 or number is bfloat16:
        return half_is_zero(x)
    else:
        return x == 0


cdef inline number choose(bint condition, number a, number b) noexcept nogil:
    """a where the condition holds, b elsewhere."""
    return a if condition else b


cdef inline number nan_or(number x, number other) noexcept nogil:
    """x where it is NaN and `other` where it is at most 0, by one comparison: the faster one in
    each format."""
    if number is float16:
        return choose(float16_is_nan(x), x, other)
    elif number is bfloat16:
        return choose(bfloat16_is_nan(x), x, other)
    else:
        return choose(x <= 0, other, x)


cdef inline number one(number x) noexcept nogil:
    """1 in the format of x."""
    if number is float16:
        return FLOAT16_ONE
    elif number is bfloat16:
        return BFLOAT16_ONE
    else:
        return 1


cdef inline bint is_unsigned(number x) noexcept nogil:
    """Whether the format has no numbers below 0."""
    return number is uint8 or number is uint16 or number is uint32 or number is uint64


cdef inline bint is_one(number x) noexcept nogil:
    return x == one(x)


cdef inline int8 sign(number x) noexcept nogil:
    """-1, 0 or 1; 2 for NaN."""
    cdef int8 nan_or_zero = choose(is_zero(x), <int8>0, <int8>2)
    cdef int8 not_positive = choose(is_negative(x), <int8>-1, nan_or_zero)
    return choose(is_positive(x), <int8>1, not_positive)


cdef inline number of_sign(int8 code, number unused) noexcept nogil:
    """A number with the sign -1, 0 or 1."""
    if number is float16:
        return choose(code == 0, <number>0,
                      FLOAT16_ONE | choose(code < 0, <number>0x8000, <number>0))
    elif number is bfloat16:
        return choose(code == 0, <number>0,
                      BFLOAT16_ONE | choose(code < 0, <number>0x8000, <number>0))
    else:
        return <number>code


cdef inline number not_a_number(number unused) noexcept nogil:
    """A NaN; in the integers, which have none, any number."""
    if number is float16:
        return 0x7e00
    elif number is bfloat16:
        return 0x7fc0
    elif number is float32 or number is float64 or number is longdouble:
        return NAN
    else:
        return 0


cdef inline number product(number a, number b) noexcept nogil:
    """a * b, rounded once; a must be no NaN, or the result must not be used: compilers commute a
    product, and of two NaN CPUs return the one that comes first.

    Integers wrap, as NumPy's do: in unsigned arithmetic, because in C a signed overflow, to which
    a product of two uint16 is promoted, is undefined.  float16 and bfloat16 have no product of one
    number.
    """
    if number is float32:
        return float32_product(a, b)
    elif number is float64:
        return float64_product(a, b)
    elif number is longdouble:
        return longdouble_product(a, b)
    elif number is int8 or number is int16 or number is int32 or number is uint16:
        return <number>(<unsigned int>a * <unsigned int>b)
    elif number is int64:
        return <number>(<uint64>a * <uint64>b)
    else:
        return a * b


cdef inline number scaled(number grad, number factor) noexcept nogil:
    """grad * factor, as `product`, for any grad; if both are NaN, factor quieted."""
    if number is float32:
        return float32_scaled(grad, factor)
    elif number is float64:
        return float64_scaled(grad, factor)
    elif number is longdouble:
        return longdouble_scaled(grad, factor)
    else:
        return product(grad, factor)


cdef inline number total(number a, number b) noexcept nogil:
    """a + b, rounded once; if both are NaN, a quieted.

    Integers wrap, as NumPy's do: in unsigned arithmetic, because in C a signed overflow is
    undefined.  float16 and bfloat16 have no sum of one number.
    """
    if number is float32:
        return float32_total(a, b)
    elif number is float64:
        return float64_total(a, b)
    elif number is longdouble:
        return longdouble_total(a, b)
    elif number is int8 or number is int16 or number is int32:
        return <number>(<unsigned int>a + <unsigned int>b)
    elif number is int64:
        return <number>(<uint64>a + <uint64>b)
    else:
        return a + b


# The operations.

cdef inline number relu(number x) noexcept nogil:
    """max(0, x): NaN stays, and -0.0 becomes +0.0."""
    return choose(rectifies_to_zero(x), <number>0, x)


cdef inline number relu_subgradient_0_at_zero(number x) noexcept nogil:
    """NaN stays."""
    return choose(is_positive(x), one(x), relu(x))


cdef inline number relu_subgradient(number x, number at_zero) noexcept nogil:
    return choose(is_zero(x), at_zero, relu_subgradient_0_at_zero(x))


cdef inline number relu_backward(number grad, number x, number grad_at_zero) noexcept nogil:
    """A choice, never a product with a mask: inf * 0 must not appear.  NaN lets grad pass."""
    cdef number y = choose(is_zero(x), grad_at_zero, grad)
    return choose(is_negative(x), <number>0, y)


cdef inline bint stops(number x, bint at_zero) noexcept nogil:
    """Whether `relu_backward` is 0 where at_zero is 0 or 1; it is grad elsewhere."""
    return is_negative(x) if at_zero else is_negative(x) | is_zero(x)


cdef inline number grad_at_zero(number grad, number at_zero,
                                number grad_times_at_zero) noexcept nogil:
    """The gradient that `relu_backward` lets pass at x = 0: none, all of it, or a share."""
    cdef number y = choose(is_one(at_zero), grad, grad_times_at_zero)
    return choose(is_zero(at_zero), <number>0, y)


cdef inline number leaky_relu(number x, number x_times_slope) noexcept nogil:
    """-0.0 and NaN are not negative: they stay, and their product is not used."""
    return choose(is_negative(x), x_times_slope, x)


cdef inline number leaky_relu_subgradient(number x, number slope, int at_zero) noexcept nogil:
    """NaN stays."""
    cdef number y = choose(is_positive(x), one(x), nan_or(x, slope))
    return at_zero_or(at_zero, x, one(x), y)


cdef inline number leaky_relu_backward(number grad, number x, number grad_times_slope,
                                       int at_zero) noexcept nogil:
    """Zero and NaN are not positive: they take the slope, zero unless `at_zero` is another."""
    return at_zero_or(at_zero, x, grad, choose(is_positive(x), grad, grad_times_slope))


cdef inline number at_zero_or(int at_zero, number x, number whole, number y) noexcept nogil:
    """y, but at x = 0 nothing or the whole, if `at_zero` is 0 or 1; it is a constant."""
    if at_zero == SLOPE_AT_ZERO:
        return y
    return choose(is_zero(x), whole if at_zero == 1 else <number>0, y)


cdef inline number slope_term(number x, number grad_times_x) noexcept nogil:
    """What an element adds to the gradient of the slope that multiplies it: nothing where x is
    positive or zero, whatever grad is, and NaN where x is NaN."""
    return choose(is_positive(x) | is_zero(x), <number>0, grad_times_x)


# Maxout: the later of two pieces wins only where it outranks the other.  NaN outranks every number
# but no NaN; +0.0 and -0.0 are equal, and equal pieces do not outrank each other.  So the first NaN
# wins, or else the first of the greatest pieces.  Ranks decide, computed once per piece.

cdef inline number rank(number x, uint16 infinity) noexcept nogil:
    """The place of x in that order, in a form that `winner` compares.  By the bits of infinity one
    kernel tells the NaN of float16 and bfloat16; the other formats do not need them."""
    if number is float16 or number is bfloat16:
        return <number>half_rank(x, infinity)
    else:
        return x


cdef inline bint exceeds(number a, number b) noexcept nogil:
    """Whether rank a is above rank b."""
    if number is float16 or number is bfloat16:
        return half_rank_exceeds(a, b)
    else:
        return a > b


cdef inline number winner(number first_rank, number later_rank,
                          number first, number later) noexcept nogil:
    """`later` where its rank is above the first one's, `first` elsewhere."""
    if number is float32 or number is float64 or number is longdouble:
        # Two selects, because GCC 12 makes branches of one condition with `&`.
        return choose(first_rank != first_rank, first,
                      choose(later_rank <= first_rank, first, later))
    else:
        return choose(exceeds(later_rank, first_rank), later, first)
