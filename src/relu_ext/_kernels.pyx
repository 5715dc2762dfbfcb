"""The only loops: one per operation, fused over dtypes, compiled once per CPU level by setup.py.

The level's name follows that of this module: relu_ext._kernels_v3.
"""

# Contract: `Kernel` in _table.pxd.
# All is inlined into the kernels, where an operation is a constant.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uintptr_t
from libc.string cimport memcmp, memcpy, memset

from relu_ext cimport _scalar
from relu_ext._scalar cimport (
    bfloat16, choose, float16, float32, float64, half, int8, longdouble, number, product, scaled,
    total,
)
from relu_ext._table cimport (
    A, ADD_LEAKY_RELU, ADD_RELU, B, BFLOAT16, FLOAT16, FLOAT32, FLOAT64, INT16, INT32, INT64,
    INT8, LANES, LEAKY_RELU, LEAKY_RELU_BACKWARD, LEAKY_RELU_BACKWARD_0_AT_ZERO,
    LEAKY_RELU_BACKWARD_1_AT_ZERO, LEAKY_RELU_SUBGRADIENT, LEAKY_RELU_SUBGRADIENT_0_AT_ZERO,
    LEAKY_RELU_SUBGRADIENT_1_AT_ZERO, LEARNED, LONGDOUBLE, OPERATIONS, OUT, PARAMETER, RELU,
    RELU_BACKWARD, RELU_SUBGRADIENT, SLOPE_AT_ZERO, UINT16, UINT32, UINT64, UINT8, Add, Copy,
    CopyBox, CopyWhere, Decode, Encode, FoldRows, Kernel, KernelTable, Learn, Narrow, Rows,
    StreamCopy, Terms, Widen,
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
    PASS_GRAD = OPERATIONS  # relu's gradient, where b is codes
    ADD  # halves
    SUMS = 1024  # that are computed before an operation reads them

# What a kernel does to one row.
ctypedef void (*Row)(int operation, int at_zero, void *out, const void *a, const void *b,
                     const void *parameter, Py_ssize_t step, Py_ssize_t n) noexcept nogil


# Operations.  `at_zero` is 0 or 1 where that is the derivative at ±0, and SLOPE_AT_ZERO where the
# parameter tells it.

cdef inline bint is_on_sums(int operation) noexcept nogil:
    return operation in (ADD_RELU, ADD_LEAKY_RELU)


cdef inline bint is_leaky(int operation) noexcept nogil:
    """Whether the product is not used where x is NaN."""
    return operation in (LEAKY_RELU, ADD_LEAKY_RELU)


cdef inline bint has_two(int operation) noexcept nogil:
    """Whether there is a `b`."""
    return is_on_sums(operation) or operation in (RELU_BACKWARD, LEAKY_RELU_BACKWARD, PASS_GRAD)


cdef inline bint has_parameter(int operation, int at_zero) noexcept nogil:
    if operation in (RELU_SUBGRADIENT, RELU_BACKWARD):
        return at_zero == SLOPE_AT_ZERO
    return operation not in (RELU, ADD_RELU, PASS_GRAD, ADD)


cdef inline number choice(int operation, int at_zero, number a, number b, number parameter,
                          number a_times_parameter) noexcept nogil:
    """The result of an operation that is given its product, and in place of `a` its sum."""
    if operation == RELU or operation == ADD_RELU:
        return _scalar.relu(a)
    if is_leaky(operation):
        return _scalar.leaky_relu(a, a_times_parameter)
    if operation == RELU_SUBGRADIENT:
        return (_scalar.relu_subgradient(a, parameter) if at_zero == SLOPE_AT_ZERO
                else _scalar.relu_subgradient_0_at_zero(a))
    if operation == LEAKY_RELU_SUBGRADIENT:
        return _scalar.leaky_relu_subgradient(a, parameter, at_zero)
    if operation == LEAKY_RELU_BACKWARD:
        return _scalar.leaky_relu_backward(a, b, a_times_parameter, at_zero)
    if at_zero != SLOPE_AT_ZERO:
        return choose(_scalar.stops(b, at_zero), <number>0, a)
    return _scalar.relu_backward(a, b, _scalar.grad_at_zero(a, parameter, a_times_parameter))


cdef inline number operate(int operation, int at_zero, number a, number b,
                           number parameter) noexcept nogil:
    """The result for one number, which is none of half precision if it is added or multiplied."""
    if is_on_sums(operation):
        a = total(a, b)
    if is_leaky(operation):
        return choice(operation, at_zero, a, b, parameter, product(a, parameter))
    return choice(operation, at_zero, a, b, parameter, scaled(a, parameter))


# Half precision, a block at a time.

cdef inline bint is_in_blocks(int operation, int at_zero) noexcept nogil:
    """Whether numbers are added or multiplied, which is done in blocks in half precision."""
    if operation == RELU_BACKWARD:
        return at_zero == SLOPE_AT_ZERO
    return operation not in (RELU, RELU_SUBGRADIENT, LEAKY_RELU_SUBGRADIENT, PASS_GRAD)


cdef inline const HalfFormat *format_of(const half *unused) noexcept nogil:
    return &FLOAT16_FORMAT if half is float16 else &BFLOAT16_FORMAT


cdef inline void nans_first(half *results, const half *firsts) noexcept nogil:
    cdef int i
    for i in range(BLOCK):
        results[i] = _scalar.nan_first(firsts[i], results[i])


cdef inline void operate_block(int operation, int at_zero, half *out, const half *a, const half *b,
                               const half *parameters, const float *factors,
                               bint any_nan) noexcept nogil:
    """`factors` are the parameters in float32; `any_nan` says whether one of them may be NaN."""
    cdef half products[BLOCK]
    cdef float addends[BLOCK]
    cdef int i
    if operation == ADD:
        format_of(b).expand(addends, b)
        format_of(a).add(out, a, addends)
        nans_first(out, a)
        return
    format_of(a).multiply(products, a, factors)
    # Of one NaN a CPU makes what NumPy does in float16, but not bfloat16's own.  A gradient may be
    # NaN beside a parameter that is.
    if any_nan and half is bfloat16 or operation != LEAKY_RELU and (any_nan or half is bfloat16):
        nans_first(products, parameters)
    for i in range(BLOCK):
        out[i] = choice(operation, at_zero, a[i], b[i], parameters[i], products[i])


cdef inline void run_blocks(int operation, int at_zero, half *out, const half *a, const half *b,
                            const half *parameter, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """A row, block by block.

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
            parameters[i] = parameter[0] if has_parameter(operation, at_zero) else 0
        parameter = parameters
        format_of(parameter).expand(factors, parameter)
        any_nan = factors[0] != factors[0]
    else:
        memset(factors, 0, sizeof(factors))  # GCC does not see that each block sets them
    while start + BLOCK <= n:
        if step != 0:
            format_of(parameter).expand(factors, parameter + start)
        operate_block(operation, at_zero, out + start, a + start, b + start,
                      parameter + start * step, factors, any_nan)
        start += BLOCK
    if count > 0:
        memset(last, 0, sizeof(last))
        memcpy(last[1], a + start, count * sizeof(half))
        memcpy(last[2], b + start, count * sizeof(half))
        if step != 0:
            memcpy(last[3], parameter + start, count * sizeof(half))
            parameter = last[3]
            format_of(parameter).expand(factors, parameter)
        operate_block(operation, at_zero, last[0], last[1], last[2], parameter, factors, any_nan)
        memcpy(out + start, last[0], count * sizeof(half))


cdef inline void run_on_sums(int operation, half *out, const half *x, const half *y,
                             const half *parameter, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """A piece at a time, so that the sums are still in the cache: in one pass over each block the
    Leaky ReLU of float16 takes 1.28 times as long at v3, 1.12 times at v4 (Zen 5)."""
    cdef half sums[SUMS]
    cdef Py_ssize_t count, i
    while n > 0:
        count = min(n, <Py_ssize_t>SUMS)
        run_blocks(ADD, SLOPE_AT_ZERO, sums, x, y, x, 0, count)
        if operation == ADD_RELU:
            for i in range(count):
                out[i] = _scalar.relu(sums[i])
        else:
            run_blocks(LEAKY_RELU, SLOPE_AT_ZERO, out, sums, sums, parameter, step, count)
        out += count
        x += count
        y += count
        parameter += step * count
        n -= count


# Rows.  One loop reads the parameter from its array, another holds a single one in a register,
# because a stride that is not known defeats the vectoriser.

cdef inline void operate_row(int operation, int at_zero, number *out, const number *a,
                             const number *b, const number *parameter, Py_ssize_t step,
                             Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    if number is float16 or number is bfloat16:
        if is_on_sums(operation):
            run_on_sums(operation, out, a, b, parameter, step, n)
            return
        if is_in_blocks(operation, at_zero):
            run_blocks(operation, at_zero, out, a, b, parameter, step, n)
            return
    if operation == PASS_GRAD:
        for i in range(n):
            out[i] = choose((<const int8 *>b)[i] != 0, a[i], <number>0)
    elif _scalar.is_unsigned(<number>0) and (operation == RELU or operation == LEAKY_RELU):
        if out != a:  # no number is negative
            memcpy(out, a, n * sizeof(number))
    elif step == 0:
        value = parameter[0] if has_parameter(operation, at_zero) else 0
        for i in range(n):
            out[i] = operate(operation, at_zero, a[i], b[i], value)
    else:
        for i in range(n):
            out[i] = operate(operation, at_zero, a[i], b[i], parameter[i])


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


cdef void decode(number *out, const int8 *codes, bint any_nan, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if any_nan and _scalar.is_nan(_scalar.not_a_number(<number>0)):  # which integers have not
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

cdef inline void each_element(Row row, int operation, int at_zero, char *out, const char *a,
                              const char *b, const char *parameter,
                              const Rows *rows) noexcept nogil:
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
        row(operation, at_zero, out, a, b, parameter, 0, 1)
        row(operation, at_zero, out + out_step, a + a_step, b + b_step, parameter + parameter_step,
            0, 1)
        out += 2 * out_step
        a += 2 * a_step
        b += 2 * b_step
        parameter += 2 * parameter_step
        row(operation, at_zero, out, a, b, parameter, 0, 1)
        row(operation, at_zero, out + out_step, a + a_step, b + b_step, parameter + parameter_step,
            0, 1)
        out += 2 * out_step
        a += 2 * a_step
        b += 2 * b_step
        parameter += 2 * parameter_step
        count -= 4
    while count > 0:
        keep_scalar()
        row(operation, at_zero, out, a, b, parameter, 0, 1)
        out += out_step
        a += a_step
        b += b_step
        parameter += parameter_step
        count -= 1


cdef inline void each_row(Row row, int operation, int at_zero, bint one_by_one, char *out,
                          const char *a, const char *b, const char *parameter, Py_ssize_t n,
                          const Rows *rows) noexcept nogil:
    """Inlined, so that a short row need not wait for the call of a function: with one, 64 rows of
    64 to 128 float32 take 1.1 to 1.4 times as long, of int8 1.2 to 2.1 times (Zen 5)."""
    cdef Py_ssize_t step = 0
    cdef Py_ssize_t count = 1
    if rows != NULL:
        if one_by_one and n == 1 and rows.count > 1:
            each_element(row, operation, at_zero, out, a, b, parameter, rows)
            return
        if has_parameter(operation, at_zero):
            step = rows.parameter_step
        count = rows.count
    while True:
        # Each array by one pointer, where the compiler needs that.
        if SEES_ONE_ARRAY or a != out and b != out:
            row(operation, at_zero, out, a, b, parameter, step, n)
        elif a != out:
            row(operation, at_zero, out, a, out, parameter, step, n)
        elif b != out:
            row(operation, at_zero, out, out, b, parameter, step, n)
        else:
            row(operation, at_zero, out, out, out, parameter, step, n)
        count -= 1
        if count <= 0:
            return
        out += rows.steps[OUT]
        a += rows.steps[A]
        b += rows.steps[B]
        parameter += rows.steps[PARAMETER]


cdef inline bint is_one_by_one(int operation, int at_zero, const number *unused) noexcept nogil:
    """Whether rows of one element are computed fast."""
    if number is float16 or number is bfloat16:
        return not is_in_blocks(operation, at_zero)
    else:
        return operation != PASS_GRAD


cdef inline void run(int operation, int at_zero, number *out, const number *a, const number *b,
                     const number *parameter, Py_ssize_t n, const Rows *rows) noexcept nogil:
    each_row(<Row>operate_row[number], operation, at_zero, is_one_by_one(operation, at_zero, out),
             <char *>out, <const char *>a, <const char *>(b if has_two(operation) else a),
             <const char *>parameter, n, rows)


cdef inline bint has_one_parameter(const Rows *rows) noexcept nogil:
    """For all rows.  What it is can be asked for once: in a loop over elements that would be a
    branch."""
    return rows == NULL or rows.parameter_step == 0 and (
        rows.count == 1 or rows.steps[PARAMETER] == 0)


# The kernels.

cdef void relu(number *out, const number *a, const number *b, const number *parameter,
               Py_ssize_t n, const Rows *rows) noexcept nogil:
    run(RELU, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void relu_subgradient(number *out, const number *a, const number *b, const number *parameter,
                           Py_ssize_t n, const Rows *rows) noexcept nogil:
    cdef number zero
    memset(&zero, 0, sizeof(number))  # with the padding of a longdouble
    if has_one_parameter(rows) and memcmp(parameter, &zero, sizeof(number)) == 0:
        run(RELU_SUBGRADIENT, 0, out, a, b, parameter, n, rows)
    else:
        run(RELU_SUBGRADIENT, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void relu_backward(number *out, const number *a, const number *b, const number *parameter,
                        Py_ssize_t n, const Rows *rows) noexcept nogil:
    if has_one_parameter(rows) and _scalar.is_zero(parameter[0]):
        run(RELU_BACKWARD, 0, out, a, b, parameter, n, rows)
    elif has_one_parameter(rows) and _scalar.is_one(parameter[0]):
        run(RELU_BACKWARD, 1, out, a, b, parameter, n, rows)
    else:
        run(RELU_BACKWARD, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void leaky_relu(number *out, const number *a, const number *b, const number *parameter,
                     Py_ssize_t n, const Rows *rows) noexcept nogil:
    run(LEAKY_RELU, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void leaky_relu_subgradient(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    run(LEAKY_RELU_SUBGRADIENT, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void leaky_relu_backward(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    run(LEAKY_RELU_BACKWARD, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void add_relu(number *out, const number *a, const number *b, const number *parameter,
                   Py_ssize_t n, const Rows *rows) noexcept nogil:
    run(ADD_RELU, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void add_leaky_relu(number *out, const number *a, const number *b, const number *parameter,
                         Py_ssize_t n, const Rows *rows) noexcept nogil:
    run(ADD_LEAKY_RELU, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


cdef void pass_grad(number *out, const number *a, const number *b, const number *parameter,
                    Py_ssize_t n, const Rows *rows) noexcept nogil:
    run(PASS_GRAD, SLOPE_AT_ZERO, out, a, b, parameter, n, rows)


# The two choices at zero share their machine code; `!= 0` says that there is no third one.

cdef void leaky_relu_subgradient_at_zero(
        number *out, const number *a, const number *b, const number *parameter, Py_ssize_t n,
        const Rows *rows, bint at_zero) noexcept nogil:
    run(LEAKY_RELU_SUBGRADIENT, at_zero != 0, out, a, b, parameter, n, rows)


cdef void leaky_relu_subgradient_0_at_zero(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    leaky_relu_subgradient_at_zero(out, a, b, parameter, n, rows, 0)


cdef void leaky_relu_subgradient_1_at_zero(
        number *out, const number *a, const number *b, const number *parameter,
        Py_ssize_t n, const Rows *rows) noexcept nogil:
    leaky_relu_subgradient_at_zero(out, a, b, parameter, n, rows, 1)


cdef void leaky_relu_backward_at_zero(
        number *out, const number *a, const number *b, const number *parameter, Py_ssize_t n,
        const Rows *rows, bint at_zero) noexcept nogil:
    run(LEAKY_RELU_BACKWARD, at_zero != 0, out, a, b, parameter, n, rows)


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


cdef void fill(const number *dtype_marker, int dtype) noexcept:
    # A kernel is called with void pointers to its own type: the same call in every C ABI.
    cdef int operation
    table.itemsize[dtype] = sizeof(number)
    table.encode[dtype] = <Encode>encode[number]
    table.decode[dtype] = <Decode>decode[number]
    if _scalar.is_unsigned(<number>0) or number is longdouble:
        table.pass_grad[sizeof(number)] = <Kernel>pass_grad[number]
    table.kernel[RELU][dtype] = <Kernel>relu[number]
    table.kernel[RELU_SUBGRADIENT][dtype] = <Kernel>relu_subgradient[number]
    table.kernel[RELU_BACKWARD][dtype] = <Kernel>relu_backward[number]
    table.kernel[LEAKY_RELU][dtype] = <Kernel>leaky_relu[number]
    table.kernel[LEAKY_RELU_SUBGRADIENT][dtype] = <Kernel>leaky_relu_subgradient[number]
    table.kernel[LEAKY_RELU_BACKWARD][dtype] = <Kernel>leaky_relu_backward[number]
    table.kernel[ADD_RELU][dtype] = <Kernel>add_relu[number]
    table.kernel[ADD_LEAKY_RELU][dtype] = <Kernel>add_leaky_relu[number]
    table.kernel[LEAKY_RELU_SUBGRADIENT_0_AT_ZERO][dtype] = (
        <Kernel>leaky_relu_subgradient_0_at_zero[number])
    table.kernel[LEAKY_RELU_SUBGRADIENT_1_AT_ZERO][dtype] = (
        <Kernel>leaky_relu_subgradient_1_at_zero[number])
    table.kernel[LEAKY_RELU_BACKWARD_0_AT_ZERO][dtype] = (
        <Kernel>leaky_relu_backward_0_at_zero[number])
    table.kernel[LEAKY_RELU_BACKWARD_1_AT_ZERO][dtype] = (
        <Kernel>leaky_relu_backward_1_at_zero[number])
    for operation in range(OPERATIONS):
        table.one_by_one[operation][dtype] = is_one_by_one(operation, SLOPE_AT_ZERO, dtype_marker)
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
