# The kernels of the sums, included by _kernels.pxi: one per dtype in which terms are added.
#
# Contract: `Terms`, `FoldRows`, `AddRun`, `AddRow` and `Settle` in _table.pxd.
# No order of adding depends on the length of a vector: each loop adds numbers to as many others,
# or keeps to one order along the rows.

cdef extern from "_numbers.h" nogil:
    float bfloat16_widened "relu_ext_bfloat16_widened"(bfloat16 x)
    bfloat16 bfloat16_narrowed "relu_ext_bfloat16_narrowed"(float x)
    float32 QUIET_NAN "RELU_EXT_NAN"

cdef enum:
    CHUNK = 256  # columns of which the rows are added at a time

ctypedef fused accumulator:
    float32
    float64
    longdouble

# What floats have sums: the accumulators, and the halves, which are added in float32.
ctypedef fused summand:
    float16
    bfloat16
    float32
    float64
    longdouble


# Terms.

cdef inline void widen_some(float *out, const half *a, Py_ssize_t n) noexcept nogil:
    """n <= BLOCK numbers in float32, in their own order, which bfloat16_expand does not keep.  The
    rest of the block is 0."""
    cdef half last[BLOCK]
    cdef int i
    if n < BLOCK:
        memset(last, 0, sizeof(last))
        memcpy(last, a, n * sizeof(half))
        a = last
    if half is float16:
        FLOAT16_FORMAT.expand(out, a)
    else:
        for i in range(BLOCK):
            out[i] = bfloat16_widened(a[i])


cdef void gradient_terms(float32 *terms, const half *grad, const half *unused_array,
                         Py_ssize_t n) noexcept nogil:
    cdef float last[BLOCK]
    while n >= BLOCK:
        widen_some(<float *>terms, grad, BLOCK)
        terms += BLOCK
        grad += BLOCK
        n -= BLOCK
    if n > 0:
        widen_some(last, grad, n)
        memcpy(terms, last, n * sizeof(float))


cdef inline void slope_block(float *terms, const half *grad, const half *x,
                             Py_ssize_t n) noexcept nogil:
    cdef float widened_grad[BLOCK]
    cdef float widened_x[BLOCK]
    cdef int i
    widen_some(widened_grad, grad, n)
    widen_some(widened_x, x, n)
    for i in range(BLOCK):
        terms[i] = _scalar.slope_term(
            <float32>widened_x[i], product(<float32>widened_x[i], <float32>widened_grad[i]))


cdef void slope_terms(accumulator *terms, const summand *grad, const summand *x,
                      Py_ssize_t n) noexcept nogil:
    cdef float last[BLOCK]
    cdef Py_ssize_t i
    if summand is float16 or summand is bfloat16:
        while n >= BLOCK:
            slope_block(<float *>terms, grad, x, BLOCK)
            terms += BLOCK
            grad += BLOCK
            x += BLOCK
            n -= BLOCK
        if n > 0:
            slope_block(last, grad, x, n)
            memcpy(terms, last, n * sizeof(float))
    elif summand is accumulator:
        for i in range(n):
            terms[i] = _scalar.slope_term(x[i], product(x[i], grad[i]))


# Both results in one pass.

cdef extern from "_four_rows.h" nogil:
    void four_rows_of_float32 "relu_ext_float32_four_rows"(
        float32 *terms, char **at, const Py_ssize_t *steps, Py_ssize_t slope_step, Py_ssize_t n,
        int rows, float32 (*learn)(float32 *, float32, float32, float32, int) noexcept nogil,
        int call)
    void four_rows_of_float64 "relu_ext_float64_four_rows"(
        float64 *terms, char **at, const Py_ssize_t *steps, Py_ssize_t slope_step, Py_ssize_t n,
        int rows, float64 (*learn)(float64 *, float64, float64, float64, int) noexcept nogil,
        int call)


cdef inline accumulator learn_one(accumulator *term, accumulator grad, accumulator x,
                                  accumulator slope, int call) noexcept nogil:
    """Return what becomes of grad, and write what is added."""
    cdef accumulator share = scaled(grad, slope)
    if call == ADD_RELU_BACKWARD:
        term[0] = _scalar.relu_backward(grad, x, <accumulator>0)
        return term[0]
    term[0] = _scalar.slope_term(x, product(x, grad))
    return _scalar.leaky_relu_backward(grad, x, share, call - PRELU_BACKWARD_0_AT_ZERO)


cdef inline void learn(accumulator *terms, char **at, const Py_ssize_t *steps,
                       Py_ssize_t slope_step, Py_ssize_t n, int rows, int call) noexcept nogil:
    if accumulator is float32:
        four_rows_of_float32(terms, at, steps, slope_step, n, rows, learn_one[float32], call)
    elif accumulator is float64:
        four_rows_of_float64(terms, at, steps, slope_step, n, rows, learn_one[float64], call)


cdef void learn_bias(accumulator *terms, char **at, const Py_ssize_t *steps,
                     Py_ssize_t slope_step, Py_ssize_t n, int rows) noexcept nogil:
    learn(terms, at, steps, 0, n, rows, ADD_RELU_BACKWARD)


cdef void learn_slope_0_at_zero(accumulator *terms, char **at, const Py_ssize_t *steps,
                                Py_ssize_t slope_step, Py_ssize_t n, int rows) noexcept nogil:
    learn(terms, at, steps, slope_step, n, rows, PRELU_BACKWARD_0_AT_ZERO)


cdef void learn_slope_1_at_zero(accumulator *terms, char **at, const Py_ssize_t *steps,
                                Py_ssize_t slope_step, Py_ssize_t n, int rows) noexcept nogil:
    learn(terms, at, steps, slope_step, n, rows, PRELU_BACKWARD_1_AT_ZERO)


cdef void learn_slope(accumulator *terms, char **at, const Py_ssize_t *steps,
                      Py_ssize_t slope_step, Py_ssize_t n, int rows) noexcept nogil:
    learn(terms, at, steps, slope_step, n, rows, PRELU_BACKWARD)


# Sums.

cdef inline const accumulator *row(const accumulator *rows, Py_ssize_t step, Py_ssize_t count,
                                   const accumulator *zeros, Py_ssize_t i) noexcept nogil:
    return <const accumulator *>(<const char *>rows + i * step) if i < count else zeros


cdef inline void add_eight(accumulator *sums, const accumulator *rows, Py_ssize_t step,
                           Py_ssize_t count, const accumulator *zeros, Py_ssize_t first,
                           Py_ssize_t n) noexcept nogil:
    """Fold the eight even rows or the eight odd ones, for whose addresses there are registers."""
    cdef const accumulator *a = row(rows, step, count, zeros, first)
    cdef const accumulator *b = row(rows, step, count, zeros, first + 8)
    cdef const accumulator *c = row(rows, step, count, zeros, first + 4)
    cdef const accumulator *d = row(rows, step, count, zeros, first + 12)
    cdef const accumulator *e = row(rows, step, count, zeros, first + 2)
    cdef const accumulator *f = row(rows, step, count, zeros, first + 10)
    cdef const accumulator *g = row(rows, step, count, zeros, first + 6)
    cdef const accumulator *h = row(rows, step, count, zeros, first + 14)
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]))


cdef inline void add_four(accumulator *sums, const accumulator *rows, Py_ssize_t step,
                          Py_ssize_t count, const accumulator *zeros, Py_ssize_t n) noexcept nogil:
    cdef const accumulator *a = rows
    cdef const accumulator *b = row(rows, step, count, zeros, 2)
    cdef const accumulator *c = row(rows, step, count, zeros, 1)
    cdef const accumulator *d = row(rows, step, count, zeros, 3)
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] = (a[i] + b[i]) + (c[i] + d[i])


cdef void fold_rows(accumulator *sums, const accumulator *rows, Py_ssize_t step, Py_ssize_t count,
                    Py_ssize_t n) noexcept nogil:
    """Sums are made in local arrays, so that the compiler need not ask whether they overlap the
    rows."""
    cdef accumulator even[CHUNK]
    cdef accumulator odd[CHUNK]
    cdef accumulator zeros[CHUNK]
    cdef Py_ssize_t columns, i
    if count != FOLDED and count != 4:
        memset(zeros, 0, min(n, <Py_ssize_t>CHUNK) * sizeof(accumulator))
    while n > 0:
        columns = min(n, <Py_ssize_t>CHUNK)
        if count > 4:
            add_eight(even, rows, step, count, zeros, 0, columns)
            add_eight(odd, rows, step, count, zeros, 1, columns)
            for i in range(columns):
                sums[i] = even[i] + odd[i]
        else:
            add_four(even, rows, step, count, zeros, columns)
            memcpy(sums, even, columns * sizeof(accumulator))
        sums += columns
        rows += columns
        n -= columns


cdef void add_run(accumulator *sums, const accumulator *terms, Py_ssize_t n) noexcept nogil:
    cdef accumulator lanes[LANES]
    cdef int k
    memset(lanes, 0, sizeof(lanes))
    while n >= LANES:
        for k in range(LANES):
            lanes[k] += terms[k]
        terms += LANES
        n -= LANES
    for k in range(n):
        lanes[k] += terms[k]
    memcpy(sums, lanes, sizeof(lanes))


cdef void fold_lanes(accumulator *sums, const accumulator *lanes, Py_ssize_t n) noexcept nogil:
    cdef accumulator halves[LANES]
    cdef Py_ssize_t i
    cdef int width, k
    for i in range(n):
        for k in range(LANES // 2):
            halves[k] = lanes[i * LANES + k] + lanes[i * LANES + LANES // 2 + k]
        width = LANES // 4
        while width > 0:
            for k in range(width):
                halves[k] += halves[width + k]
            width //= 2
        sums[i] = halves[0]


cdef void add_row(accumulator *sums, const accumulator *earlier, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sums[i] = earlier[i] + sums[i]


cdef inline accumulator settled(accumulator x) noexcept nogil:
    """NaN becomes the positive quiet NaN, and -0.0 becomes +0.0."""
    return <accumulator>QUIET_NAN if x != x else <accumulator>0 if x == 0 else x


cdef void settle(summand *out, const accumulator *sums, Py_ssize_t n) noexcept nogil:
    cdef float16 ones[BLOCK]
    cdef float16 rounded[BLOCK]
    cdef float values[BLOCK]
    cdef Py_ssize_t i
    cdef Py_ssize_t count
    if summand is float16:
        for i in range(BLOCK):
            ones[i] = one(<float16>0)
        while n > 0:
            count = min(n, <Py_ssize_t>BLOCK)
            memset(values, 0, sizeof(values))
            for i in range(count):
                values[i] = settled(sums[i])
            FLOAT16_FORMAT.multiply(rounded, ones, values)
            memcpy(out, rounded, count * sizeof(float16))
            out += count
            sums += count
            n -= count
    elif summand is bfloat16:
        for i in range(n):
            out[i] = bfloat16_narrowed(settled(sums[i]))
    elif summand is accumulator:
        for i in range(n):
            out[i] = settled(sums[i])


cdef inline void fill_accumulator(KernelTable *table, int dtype, accumulator unused) noexcept:
    if accumulator is not longdouble:
        table.learn[ADD_RELU_BACKWARD][dtype] = <Learn>learn_bias[accumulator]
        table.learn[PRELU_BACKWARD_0_AT_ZERO][dtype] = <Learn>learn_slope_0_at_zero[accumulator]
        table.learn[PRELU_BACKWARD_1_AT_ZERO][dtype] = <Learn>learn_slope_1_at_zero[accumulator]
        table.learn[PRELU_BACKWARD][dtype] = <Learn>learn_slope[accumulator]
    table.slope_terms[dtype] = <Terms>slope_terms[accumulator, accumulator]
    table.adders[dtype].fold_rows = <FoldRows>fold_rows[accumulator]
    table.adders[dtype].add_run = <AddRun>add_run[accumulator]
    table.adders[dtype].fold_lanes = <FoldLanes>fold_lanes[accumulator]
    table.adders[dtype].add_row = <AddRow>add_row[accumulator]
    table.settle[dtype] = <Settle>settle[accumulator, accumulator]


cdef inline void fill_half(KernelTable *table, int dtype, half unused) noexcept:
    table.gradient_terms[dtype] = <Terms>gradient_terms[half]
    table.slope_terms[dtype] = <Terms>slope_terms[float32, half]
    table.settle[dtype] = <Settle>settle[half, float32]


cdef void fill_sums(KernelTable *table) noexcept:
    fill_half(table, FLOAT16, <float16>0)
    fill_half(table, BFLOAT16, <bfloat16>0)
    fill_accumulator(table, FLOAT32, <float32>0)
    fill_accumulator(table, FLOAT64, <float64>0)
    fill_accumulator(table, LONGDOUBLE, <longdouble>0)
