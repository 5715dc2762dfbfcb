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

    # Macros, which compute in the type of their arguments.
    longdouble product_of "RELU_EXT_PRODUCT"(longdouble a, longdouble b)
    longdouble scaled_of "RELU_EXT_SCALED"(longdouble a, longdouble b)
    longdouble total_of "RELU_EXT_TOTAL"(longdouble a, longdouble b)

cdef enum:  # bits
    FLOAT16_ONE = 0x3c00
    BFLOAT16_ONE = 0x3f80
    FLOAT16_INFINITY = 0x7c00
    BFLOAT16_INFINITY = 0x7f80

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


ctypedef fused half:
    float16
    bfloat16


# The number formats: comparison with zero (false for NaN), choice, one, product, sum.  The bits of
# float16 and bfloat16 tell: those from 1 to infinity are positive, the same with the sign bit are
# negative, and what is above is NaN.

cdef inline uint16 infinity_of(half x) noexcept nogil:
    return FLOAT16_INFINITY if half is float16 else BFLOAT16_INFINITY


cdef inline bint is_nan(number x) noexcept nogil:
    if number is float16 or number is bfloat16:
        return <int16>(x & 0x7fff) > <int16>infinity_of(x)
    elif number is float32 or number is float64 or number is longdouble:
        return x != x
    else:
        return False


cdef inline bint is_positive(number x) noexcept nogil:
    if number is float16 or number is bfloat16:
        return <uint16>(x - 1) < infinity_of(x)
    else:
        return x > 0


cdef inline bint is_negative(number x) noexcept nogil:
    if number is float16 or number is bfloat16:
        return <uint16>(x - 0x8001) < infinity_of(x)
    else:
        return x < 0


cdef inline bint rectifies_to_zero(number x) noexcept nogil:
    """x < 0 or x = -0.0.  A format may also count +0.0, whose result is +0.0 either way, so
    that one comparison is enough."""
    if number is float16 or number is bfloat16:
        return <uint16>(x - 0x8000) <= infinity_of(x)
    else:
        return x <= 0


cdef inline bint is_zero(number x) noexcept nogil:
    if number is float16 or number is bfloat16:
        return <uint16>(x << 1) == 0
    else:
        return x == 0


cdef inline number choose(bint condition, number a, number b) noexcept nogil:
    """a where the condition holds, b elsewhere."""
    return a if condition else b


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
    if number is float16 or number is bfloat16:
        return choose(code == 0, <number>0,
                      one(unused) | choose(code < 0, <number>0x8000, <number>0))
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
    if number is float32 or number is float64 or number is longdouble:
        return <number>product_of(a, b)
    elif number is int8 or number is int16 or number is int32 or number is uint16:
        return <number>(<unsigned int>a * <unsigned int>b)
    elif number is int64:
        return <number>(<uint64>a * <uint64>b)
    else:
        return a * b


cdef inline number scaled(number grad, number factor) noexcept nogil:
    """grad * factor, as `product`, for any grad; if both are NaN, factor quieted."""
    if number is float32 or number is float64 or number is longdouble:
        return <number>scaled_of(grad, factor)
    else:
        return product(grad, factor)


cdef inline half nan_first(half first, half result) noexcept nogil:
    """The rounded product or sum of two numbers, of which the first may be NaN: then that NaN,
    quieted.  Every NaN of bfloat16 is the quiet NaN of its sign, as in ml_dtypes."""
    cdef half y
    if half is float16:
        return choose(is_nan(first), <half>(first | 0x0200), result)
    else:
        y = choose(is_nan(first), first, result)
        return choose(is_nan(y), <half>((y & 0x8000) | 0x7fc0), y)


cdef inline number total(number a, number b) noexcept nogil:
    """a + b, rounded once; if both are NaN, a quieted.

    Integers wrap, as NumPy's do: in unsigned arithmetic, because in C a signed overflow is
    undefined.  float16 and bfloat16 have no sum of one number.
    """
    if number is float32 or number is float64 or number is longdouble:
        return <number>total_of(a, b)
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
    return choose(is_positive(x), one(x), choose(is_nan(x), x, <number>0))


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
    cdef number y = choose(is_positive(x), one(x), choose(is_nan(x), x, slope))
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
    cdef uint16 magnitude, sign
    if number is float16 or number is bfloat16:
        # Numbers in their order as two's complement, ±0 as 0 and every NaN on top.
        magnitude = x & 0x7fff
        sign = <uint16>(0 - (x >> 15))
        return choose(<int16>magnitude > <int16>infinity, <number>0x7fff,
                      <number>((magnitude ^ sign) - sign))
    else:
        return x


cdef inline number winner(number first_rank, number later_rank,
                          number first, number later) noexcept nogil:
    """`later` where its rank is above the first one's, `first` elsewhere."""
    if number is float32 or number is float64 or number is longdouble:
        # Two selects, because GCC 12 makes branches of one condition with `&`.
        return choose(first_rank != first_rank, first,
                      choose(later_rank <= first_rank, first, later))
    elif number is float16 or number is bfloat16:
        return choose(<int16>later_rank > <int16>first_rank, later, first)
    else:
        return choose(later_rank > first_rank, later, first)
