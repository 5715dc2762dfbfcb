"""The only loops: one per operation, fused over dtypes, compiled once per CPU level by setup.py.

The level's name follows that of this module: relu_ext._kernels_v3.
"""

# Contract: `Kernel` in _table.pxd.
# One loop reads the parameter from its array, another holds a single one in a register, because a
# stride that is not known defeats the vectoriser.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uintptr_t
from libc.string cimport memcmp, memcpy, memset

from relu_ext cimport _scalar
from relu_ext._scalar cimport (
    bfloat16, choose, float16, float32, float64, half, int8, longdouble, number, product, scaled,
    total,
)
from relu_ext._table cimport (
    A, ADD_LEAKY_RELU, ADD_RELU, ADD_RELU_BACKWARD, B, BFLOAT16, FLOAT16, FLOAT32, FLOAT64, INT16,
    INT32, INT64, INT8, LANES, LEAKY_RELU, LEAKY_RELU_BACKWARD, LEAKY_RELU_BACKWARD_0_AT_ZERO,
    LEAKY_RELU_BACKWARD_1_AT_ZERO, LEAKY_RELU_SUBGRADIENT, LEAKY_RELU_SUBGRADIENT_0_AT_ZERO,
    LEAKY_RELU_SUBGRADIENT_1_AT_ZERO, LEARNED, LONGDOUBLE, OUT, PARAMETER, PRELU_BACKWARD,
    PRELU_BACKWARD_0_AT_ZERO, PRELU_BACKWARD_1_AT_ZERO, RELU, RELU_BACKWARD, RELU_SUBGRADIENT,
    SLOPE_AT_ZERO, UINT16, UINT32, UINT64, UINT8, AddRow, AddRun, Copy, CopyBox, CopyWhere, Decode,
    Encode, FoldLanes, FoldRows, Kernel, KernelTable, Learn, Narrow, Rows, Settle, StreamCopy,
    Terms, Widen,
)


cdef extern from "_numbers.h" nogil:
    enum:
        BLOCK "RELU_EXT_BLOCK"
    bint SEES_ONE_ARRAY "RELU_EXT_SEES_ONE_ARRAY"
    ctypedef struct HalfFormat "relu_ext_half_format":
        void (*expand)(float *out, const void *a) noexcept nogil
        void (*multiply)(void *out, const void *a, const float *b) noexcept nogil
        void (*add)(void *out, const void *a, const float *b) noexcept nogil
    const HalfFormat FLOAT16_FORMAT "relu_ext_float16_format"
    const HalfFormat BFLOAT16_FORMAT "relu_ext_bfloat16_format"

cdef extern from "_copies.h" nogil:
    enum:
        CACHE_LINE "RELU_EXT_CACHE_LINE"
        STREAM_BLOCK "RELU_EXT_STREAM_BLOCK"
        VECTOR_STEP "RELU_EXT_VECTOR_STEP"
    Copy copy_matrix "relu_ext_copy"
    CopyBox copy_box "relu_ext_copy_box"
    CopyWhere copy_where "relu_ext_copy_where"
    StreamCopy stream_copy "relu_ext_stream_copy"
    void keep_scalar "RELU_EXT_KEEP_SCALAR"()

cdef enum:
    SUMS = 1024  # numbers of half precision that are added before a kernel reads the sums

# What a kernel does to one row.  at_zero is a constant, for operations that choose.
ctypedef void (*Row)(void *out, const void *a, const void *b, const void *parameter,
                     Py_ssize_t step, Py_ssize_t n, int at_zero) noexcept nogil

# Half precision, a block at a time: an operation on BLOCK numbers.  `factors` are the parameters in
# float32, `any_nan` says whether one of them may be NaN.  The pointers are to one type of `half`.
ctypedef void (*BlockFunction)(void *out, const void *a, const void *b, const void *parameters,
                               const float *factors, bint any_nan, int at_zero) noexcept nogil


cdef inline const HalfFormat *format_of(const half *unused) noexcept nogil:
    return &FLOAT16_FORMAT if half is float16 else &BFLOAT16_FORMAT


cdef inline void nans_first(half *results, const half *firsts) noexcept nogil:
    cdef int i
    for i in range(BLOCK):
        results[i] = _scalar.nan_first(firsts[i], results[i])


cdef inline void multiply_block(half *out, const half *a, const half *parameters,
                                const float *factors, bint any_nan) noexcept nogil:
    """`product` of _scalar.  Of one NaN a CPU makes what NumPy does in float16, but not bfloat16's
    own."""
    format_of(a).multiply(out, a, factors)
    if any_nan and half is bfloat16:
        nans_first(out, parameters)


cdef inline void scale_block(half *out, const half *grad, const half *parameters,
                             const float *factors, bint any_nan) noexcept nogil:
    """`scaled` of _scalar.  grad may be NaN, too."""
    format_of(grad).multiply(out, grad, factors)
    if any_nan or half is bfloat16:
        nans_first(out, parameters)


cdef inline void add_block(half *out, const half *a, const half *b, const half *unused_parameters,
                           const float *unused_factors, bint unused_nan,
                           int unused_choice) noexcept nogil:
    """`total` of _scalar."""
    cdef float addends[BLOCK]
    format_of(b).expand(addends, b)
    format_of(a).add(out, a, addends)
    nans_first(out, a)


cdef inline void run_blocks(BlockFunction function, half *out, const half *a, const half *b,
                            const half *parameter, Py_ssize_t step, Py_ssize_t n,
                            int at_zero) noexcept nogil:
    """A row of half precision, block by block.

    The last block is copied to where a whole one fits, so that no result depends on its place.
    """
    cdef half last[4][BLOCK]
    cdef half parameters[BLOCK]
    cdef float factors[BLOCK]
    cdef bint any_nan = True
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t count = n % BLOCK
    cdef int i
    if step == 0:
        for i in range(BLOCK):
            parameters[i] = parameter[0]
        parameter = parameters
        format_of(parameter).expand(factors, parameter)
        any_nan = factors[0] != factors[0]
    else:
        memset(factors, 0, sizeof(factors))  # GCC does not see that each block sets them
    while start + BLOCK <= n:
        if step != 0:
            format_of(parameter).expand(factors, parameter + start)
        function(out + start, a + start, b + start, parameter + start * step, factors, any_nan,
                 at_zero)
        start += BLOCK
    if count > 0:
        memset(last, 0, sizeof(last))
        memcpy(last[1], a + start, count * sizeof(half))
        memcpy(last[2], b + start, count * sizeof(half))
        if step != 0:
            memcpy(last[3], parameter + start, count * sizeof(half))
            parameter = last[3]
            format_of(parameter).expand(factors, parameter)
        function(last[0], last[1], last[2], parameter, factors, any_nan, at_zero)
        memcpy(out + start, last[0], count * sizeof(half))


cdef inline void run_on_sums(Row row, half *out, const half *x, const half *y,
                             const half *parameter, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """An operation on x + y, a piece at a time, so that the sums are still in the cache."""
    cdef half sums[SUMS]
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t count
    while start < n:
        count = min(n - start, <Py_ssize_t>SUMS)
        run_blocks(<BlockFunction>add_block[half], sums, x + start, y + start, x, 0, count,
                   SLOPE_AT_ZERO)
        row(out + start, sums, sums, parameter + start * step, step, count, SLOPE_AT_ZERO)
        start += count


cdef void relu_backward_block(half *out, const half *grad, const half *x, const half *at_zero,
                              const float *factors, bint any_nan, int unused_choice) noexcept nogil:
    cdef half products[BLOCK]
    cdef int i
    scale_block(products, grad, at_zero, factors, any_nan)
    for i in range(BLOCK):
        out[i] = _scalar.relu_backward(
            grad[i], x[i], _scalar.grad_at_zero(grad[i], at_zero[i], products[i]))


cdef void leaky_relu_block(half *out, const half *x, const half *unused_array, const half *slopes,
                           const float *factors, bint any_nan, int unused_choice) noexcept nogil:
    cdef half products[BLOCK]
    cdef int i
    multiply_block(products, x, slopes, factors, any_nan)
    for i in range(BLOCK):
        out[i] = _scalar.leaky_relu(x[i], products[i])


cdef void leaky_relu_backward_block(half *out, const half *grad, const half *x, const half *slopes,
                                    const float *factors, bint any_nan, int at_zero) noexcept nogil:
    cdef half products[BLOCK]
    cdef int i
    scale_block(products, grad, slopes, factors, any_nan)
    for i in range(BLOCK):
        out[i] = _scalar.leaky_relu_backward(grad[i], x[i], products[i], at_zero)


cdef inline void copy_row(number *out, const number *x, Py_ssize_t n) noexcept nogil:
    """relu and leaky_relu where no number is negative."""
    if out != x:
        memcpy(out, x, n * sizeof(number))


cdef inline void relu_row(number *out, const number *x, const number *unused_array,
                          const number *unused_parameter, Py_ssize_t unused_step,
                          Py_ssize_t n, int unused_choice) noexcept nogil:
    cdef Py_ssize_t i
    if _scalar.is_unsigned(<number>0):
        copy_row(out, x, n)
    else:
        for i in range(n):
            out[i] = _scalar.relu(x[i])


cdef inline void relu_subgradient_row(number *out, const number *x, const number *unused_array,
                                      const number *at_zero, Py_ssize_t step,
                                      Py_ssize_t n, int unused_choice) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    memset(&value, 0, sizeof(number))  # with the padding of a longdouble
    if step == 0 and memcmp(at_zero, &value, sizeof(number)) == 0:
        for i in range(n):
            out[i] = _scalar.relu_subgradient_0_at_zero(x[i])
    elif step == 0:
        value = at_zero[0]
        for i in range(n):
            out[i] = _scalar.relu_subgradient(x[i], value)
    else:
        for i in range(n):
            out[i] = _scalar.relu_subgradient(x[i], at_zero[i])


cdef inline void relu_backward_choice_row(
        number *out, const number *grad, const number *x, const number *unused_parameter,
        Py_ssize_t unused_step, Py_ssize_t n, int at_zero) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = choose(_scalar.stops(x[i], at_zero), <number>0, grad[i])


cdef inline void relu_backward_row(number *out, const number *grad, const number *x,
                                   const number *at_zero, Py_ssize_t step,
                                   Py_ssize_t n, int unused_choice) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    if number is float16 or number is bfloat16:
        run_blocks(<BlockFunction>relu_backward_block[number], out, grad, x, at_zero, step, n,
                   unused_choice)
    elif step == 0:
        value = at_zero[0]
        for i in range(n):
            out[i] = _scalar.relu_backward(
                grad[i], x[i],
                _scalar.grad_at_zero(grad[i], value, scaled(grad[i], value)))
    else:
        for i in range(n):
            out[i] = _scalar.relu_backward(
                grad[i], x[i],
                _scalar.grad_at_zero(grad[i], at_zero[i], scaled(grad[i], at_zero[i])))


cdef inline void leaky_relu_row(number *out, const number *x, const number *unused_array,
                                const number *slope, Py_ssize_t step, Py_ssize_t n,
                                int unused_choice) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    if _scalar.is_unsigned(<number>0):
        copy_row(out, x, n)
    elif number is float16 or number is bfloat16:
        run_blocks(<BlockFunction>leaky_relu_block[number], out, x, x, slope, step, n,
                   unused_choice)
    elif step == 0:
        value = slope[0]
        for i in range(n):
            out[i] = _scalar.leaky_relu(x[i], product(x[i], value))
    else:
        for i in range(n):
            out[i] = _scalar.leaky_relu(x[i], product(x[i], slope[i]))


cdef inline void leaky_relu_subgradient_row(
        number *out, const number *x, const number *unused_array, const number *slope,
        Py_ssize_t step, Py_ssize_t n, int at_zero) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    if step == 0:
        value = slope[0]
        for i in range(n):
            out[i] = _scalar.leaky_relu_subgradient(x[i], value, at_zero)
    else:
        for i in range(n):
            out[i] = _scalar.leaky_relu_subgradient(x[i], slope[i], at_zero)


cdef inline void leaky_relu_backward_row(number *out, const number *grad, const number *x,
                                         const number *slope, Py_ssize_t step,
                                         Py_ssize_t n, int at_zero) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    if number is float16 or number is bfloat16:
        run_blocks(<BlockFunction>leaky_relu_backward_block[number], out, grad, x, slope, step, n,
                   at_zero)
    elif step == 0:
        value = slope[0]
        for i in range(n):
            out[i] = _scalar.leaky_relu_backward(
                grad[i], x[i], scaled(grad[i], value), at_zero)
    else:
        for i in range(n):
            out[i] = _scalar.leaky_relu_backward(
                grad[i], x[i], scaled(grad[i], slope[i]), at_zero)


cdef inline void add_relu_row(number *out, const number *x, const number *y,
                              const number *unused_parameter, Py_ssize_t unused_step,
                              Py_ssize_t n, int unused_choice) noexcept nogil:
    cdef Py_ssize_t i
    if number is float16 or number is bfloat16:
        run_on_sums(<Row>relu_row[number], out, x, y, x, 0, n)
    else:
        for i in range(n):
            out[i] = _scalar.relu(total(x[i], y[i]))


cdef inline void add_leaky_relu_row(number *out, const number *x, const number *y,
                                    const number *slope, Py_ssize_t step,
                                    Py_ssize_t n, int unused_choice) noexcept nogil:
    cdef Py_ssize_t i
    cdef number z
    cdef number value
    if number is float16 or number is bfloat16:
        run_on_sums(<Row>leaky_relu_row[number], out, x, y, slope, step, n)
    elif step == 0:
        value = slope[0]
        for i in range(n):
            z = total(x[i], y[i])
            out[i] = _scalar.leaky_relu(z, product(z, value))
    else:
        for i in range(n):
            z = total(x[i], y[i])
            out[i] = _scalar.leaky_relu(z, product(z, slope[i]))


# Signs.

cdef void encode(int8 *codes, const number *x, int at_zero, int8 passed,
                 Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if at_zero == SLOPE_AT_ZERO:
        for i in range(n):
            codes[i] = _scalar.sign(x[i])
    else:
        for i in range(n):
            codes[i] = choose(_scalar.stops(x[i], at_zero != 0), <int8>0, passed)


cdef inline void pass_grad_row(number *out, const number *grad, const int8 *codes,
                               const void *unused_parameter, Py_ssize_t unused_step, Py_ssize_t n,
                               int unused_choice) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = choose(codes[i] != 0, grad[i], <number>0)


cdef void pass_grad(number *out, const number *a, const int8 *b, const void *parameter,
                    Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>pass_grad_row[number], SLOPE_AT_ZERO, False, out, a, b, parameter, n, rows)


cdef void decode(number *out, const int8 *codes, bint any_nan, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if any_nan and not _scalar.is_unsigned(<number>0):
        for i in range(n):
            out[i] = choose(
                codes[i] == 2, _scalar.not_a_number(<number>0),
                _scalar.of_sign(codes[i], <number>0))
    else:
        for i in range(n):
            out[i] = _scalar.of_sign(codes[i], <number>0)


# float32 beside float64.

cdef void widen(double *out, const float32 *a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = a[i]


cdef void narrow(float32 *out, const double *a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <float32>a[i]


# From row to row.

cdef inline void each_element(Row row, int at_zero, char *out, const char *a, const char *b,
                              const char *parameter, const Rows *rows) noexcept nogil:
    """Rows of one element.

    Four at a time, and kept from the vectoriser, which would gather them.  16,384 float32 in place,
    three apart, on Zen 5: relu_ 0.19 ns each; leaky_relu_ 0.31, where two at a time take 0.49.
    """
    cdef Py_ssize_t count = rows.count
    cdef Py_ssize_t out_step = rows.steps[OUT]
    cdef Py_ssize_t a_step = rows.steps[A]
    cdef Py_ssize_t b_step = rows.steps[B]
    cdef Py_ssize_t parameter_step = rows.steps[PARAMETER]
    while count >= 4:
        keep_scalar()
        row(out, a, b, parameter, 0, 1, at_zero)
        row(out + out_step, a + a_step, b + b_step, parameter + parameter_step, 0, 1, at_zero)
        out += 2 * out_step
        a += 2 * a_step
        b += 2 * b_step
        parameter += 2 * parameter_step
        row(out, a, b, parameter, 0, 1, at_zero)
        row(out + out_step, a + a_step, b + b_step, parameter + parameter_step, 0, 1, at_zero)
        out += 2 * out_step
        a += 2 * a_step
        b += 2 * b_step
        parameter += 2 * parameter_step
        count -= 4
    while count > 0:
        keep_scalar()
        row(out, a, b, parameter, 0, 1, at_zero)
        out += out_step
        a += a_step
        b += b_step
        parameter += parameter_step
        count -= 1


cdef inline void each_row(Row row, int at_zero, bint one_by_one, void *first_out,
                          const void *first_a, const void *first_b, const void *first_parameter,
                          Py_ssize_t n, const Rows *rows) noexcept nogil:
    """Inlined, so that a short row need not wait for the call of a function: with one, 64 rows of
    64 to 128 float32 take 1.1 to 1.4 times as long, of int8 1.2 to 2.1 times (Zen 5)."""
    cdef char *out = <char *>first_out
    cdef const char *a = <const char *>first_a
    cdef const char *b = <const char *>first_b
    cdef const char *parameter = <const char *>first_parameter
    cdef Py_ssize_t step = 0
    cdef Py_ssize_t count = 1
    if rows != NULL:
        if one_by_one and n == 1 and rows.count > 1:
            each_element(row, at_zero, out, a, b, parameter, rows)
            return
        step = rows.parameter_step
        count = rows.count
    while True:
        # Each array by one pointer, where the compiler needs that.
        if SEES_ONE_ARRAY or a != out and b != out:
            row(out, a, b, parameter, step, n, at_zero)
        elif a != out:
            row(out, a, out, parameter, step, n, at_zero)
        elif b != out:
            row(out, out, b, parameter, step, n, at_zero)
        else:
            row(out, out, out, parameter, step, n, at_zero)
        count -= 1
        if count <= 0:
            return
        out += rows.steps[OUT]
        a += rows.steps[A]
        b += rows.steps[B]
        parameter += rows.steps[PARAMETER]


cdef inline bint is_half(const number *unused) noexcept nogil:
    return number is float16 or number is bfloat16


cdef void relu(number *out, const number *a, const number *b, const number *parameter,
               Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>relu_row[number], SLOPE_AT_ZERO, True, out, a, b, parameter, n, rows)


cdef void relu_subgradient(number *out, const number *a, const number *b, const number *parameter,
                           Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>relu_subgradient_row[number], SLOPE_AT_ZERO, True, out, a, b, parameter, n, rows)


cdef void relu_backward(number *out, const number *a, const number *b, const number *parameter,
                        Py_ssize_t n, const Rows *rows) noexcept nogil:
    # One at_zero for all rows is asked for once: in a loop over elements it would be a branch.
    if rows == NULL or rows.parameter_step == 0 and (
            rows.count == 1 or rows.steps[PARAMETER] == 0):
        if _scalar.is_zero(parameter[0]):
            each_row(<Row>relu_backward_choice_row[number], 0, not is_half(out),
                     out, a, b, parameter, n, rows)
            return
        if _scalar.is_one(parameter[0]):
            each_row(<Row>relu_backward_choice_row[number], 1, not is_half(out),
                     out, a, b, parameter, n, rows)
            return
    each_row(<Row>relu_backward_row[number], SLOPE_AT_ZERO, not is_half(out),
             out, a, b, parameter, n, rows)


cdef void leaky_relu(number *out, const number *a, const number *b, const number *parameter,
                     Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>leaky_relu_row[number], SLOPE_AT_ZERO, not is_half(out),
             out, a, b, parameter, n, rows)


cdef void leaky_relu_subgradient(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>leaky_relu_subgradient_row[number], SLOPE_AT_ZERO, True,
             out, a, b, parameter, n, rows)


cdef void leaky_relu_backward(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>leaky_relu_backward_row[number], SLOPE_AT_ZERO, not is_half(out),
             out, a, b, parameter, n, rows)


cdef void add_relu(number *out, const number *a, const number *b, const number *parameter,
                   Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>add_relu_row[number], SLOPE_AT_ZERO, not is_half(out),
             out, a, b, parameter, n, rows)


cdef void add_leaky_relu(number *out, const number *a, const number *b, const number *parameter,
                         Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>add_leaky_relu_row[number], SLOPE_AT_ZERO, not is_half(out),
             out, a, b, parameter, n, rows)


# The two choices at zero share their machine code; `!= 0` says that there is no third one.

cdef void leaky_relu_subgradient_at_zero(
        number *out, const number *a, const number *parameter, Py_ssize_t n, const Rows *rows,
        bint at_zero) noexcept nogil:
    each_row(<Row>leaky_relu_subgradient_row[number], at_zero != 0, True,
             out, a, a, parameter, n, rows)


cdef void leaky_relu_subgradient_0_at_zero(
        number *out, const number *a, const number *unused_array, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    leaky_relu_subgradient_at_zero(out, a, parameter, n, rows, 0)


cdef void leaky_relu_subgradient_1_at_zero(
        number *out, const number *a, const number *unused_array, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    leaky_relu_subgradient_at_zero(out, a, parameter, n, rows, 1)


cdef void leaky_relu_backward_at_zero(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows, bint at_zero) noexcept nogil:
    each_row(<Row>leaky_relu_backward_row[number], at_zero != 0, not is_half(out),
             out, a, b, parameter, n, rows)


cdef void leaky_relu_backward_0_at_zero(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    leaky_relu_backward_at_zero(out, a, b, parameter, n, rows, 0)


cdef void leaky_relu_backward_1_at_zero(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    leaky_relu_backward_at_zero(out, a, b, parameter, n, rows, 1)


include "_maxout.pxi"
include "_sums.pxi"

cdef KernelTable table
table.copy = copy_matrix
table.copy_box = copy_box
table.copy_where = copy_where
table.widen = <Widen>widen
table.narrow = <Narrow>narrow
table.stream_copy = stream_copy
table.stream_block = STREAM_BLOCK
table.vector_step = VECTOR_STEP


cdef void enter(int dtype, int operation, Kernel kernel) noexcept:
    table.one_by_one[operation][dtype] = (
        operation == RELU or operation == RELU_SUBGRADIENT or operation == LEAKY_RELU_SUBGRADIENT
        or dtype != FLOAT16 and dtype != BFLOAT16)
    table.kernel[operation][dtype] = kernel


cdef void fill_size(const number *size_marker, int dtype) noexcept:
    """What the dtypes of a size share, but that a float has a `decode` of its own."""
    table.decode[dtype] = <Decode>decode[number]
    table.pass_grad[dtype] = <Kernel>pass_grad[number]


cdef void fill(const number *dtype_marker, int dtype) noexcept:
    # A kernel is called with void pointers to its own type: the same call in every C ABI.
    table.itemsize[dtype] = sizeof(number)
    table.encode[dtype] = <Encode>encode[number]
    if sizeof(number) == 1:
        fill_size(<const _scalar.uint8 *>NULL, dtype)
    elif sizeof(number) == 2:
        fill_size(<const _scalar.uint16 *>NULL, dtype)
    elif sizeof(number) == 4:
        fill_size(<const _scalar.uint32 *>NULL, dtype)
    elif sizeof(number) == 8:
        fill_size(<const _scalar.uint64 *>NULL, dtype)
    else:
        fill_size(<const longdouble *>NULL, dtype)
    if number is float16 or number is bfloat16 or number is float32 or number is float64:
        table.decode[dtype] = <Decode>decode[number]
    enter(dtype, RELU, <Kernel>relu[number])
    enter(dtype, RELU_SUBGRADIENT, <Kernel>relu_subgradient[number])
    enter(dtype, RELU_BACKWARD, <Kernel>relu_backward[number])
    enter(dtype, LEAKY_RELU, <Kernel>leaky_relu[number])
    enter(dtype, LEAKY_RELU_SUBGRADIENT, <Kernel>leaky_relu_subgradient[number])
    enter(dtype, LEAKY_RELU_BACKWARD, <Kernel>leaky_relu_backward[number])
    enter(dtype, ADD_RELU, <Kernel>add_relu[number])
    enter(dtype, ADD_LEAKY_RELU, <Kernel>add_leaky_relu[number])
    enter(dtype, LEAKY_RELU_SUBGRADIENT_0_AT_ZERO, <Kernel>leaky_relu_subgradient_0_at_zero[number])
    enter(dtype, LEAKY_RELU_SUBGRADIENT_1_AT_ZERO, <Kernel>leaky_relu_subgradient_1_at_zero[number])
    enter(dtype, LEAKY_RELU_BACKWARD_0_AT_ZERO, <Kernel>leaky_relu_backward_0_at_zero[number])
    enter(dtype, LEAKY_RELU_BACKWARD_1_AT_ZERO, <Kernel>leaky_relu_backward_1_at_zero[number])
    fill_maxout(&table, dtype_marker, dtype)


fill(<const _scalar.float16 *>NULL, FLOAT16)
fill(<const _scalar.bfloat16 *>NULL, BFLOAT16)
fill(<const _scalar.float32 *>NULL, FLOAT32)
fill(<const _scalar.float64 *>NULL, FLOAT64)
fill(<const _scalar.longdouble *>NULL, LONGDOUBLE)
fill(<const _scalar.int8 *>NULL, INT8)
fill(<const _scalar.int16 *>NULL, INT16)
fill(<const _scalar.int32 *>NULL, INT32)
fill(<const _scalar.int64 *>NULL, INT64)
fill(<const _scalar.uint8 *>NULL, UINT8)
fill(<const _scalar.uint16 *>NULL, UINT16)
fill(<const _scalar.uint32 *>NULL, UINT32)
fill(<const _scalar.uint64 *>NULL, UINT64)
fill_sums(&table)

kernel_table = PyCapsule_New(&table, "relu_ext.KernelTable", NULL)
