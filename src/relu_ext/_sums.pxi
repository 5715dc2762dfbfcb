# The kernels of the sums, included by _kernels.pxi: one per dtype in which terms are added.
#
# Contract: `Terms`, `FoldRows`, `AddRun`, `AddRow` and `Settle` in _table.pxd.
# No order of adding depends on the length of a vector: each loop adds numbers to as many others,
# or keeps to one order along the rows.

cdef extern from "_numbers.h" nogil:
    float bfloat16_widened "relu_ext_bfloat16_widened"(bfloat16 x)
    bfloat16 bfloat16_narrowed "relu_ext_bfloat16_narrowed"(float x)
    float32 QUIET_NAN "RELU_EXT_NAN"

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
    while n > 0:
        widen_some(<float *>terms, grad, n)
        terms += BLOCK
        grad += BLOCK
        n -= BLOCK


cdef void slope_terms(accumulator *terms, const summand *grad, const summand *x,
                      Py_ssize_t n) noexcept nogil:
    cdef float wide_grad[BLOCK]
    cdef float wide_x[BLOCK]
    cdef Py_ssize_t i
    if summand is float16 or summand is bfloat16:
        while n > 0:
            widen_some(wide_grad, grad, n)
            widen_some(wide_x, x, n)
            for i in range(BLOCK):
                terms[i] = _scalar.slope_term(
                    <accumulator>wide_x[i],
                    product(<accumulator>wide_x[i], <accumulator>wide_grad[i]))
            terms += BLOCK
            grad += BLOCK
            x += BLOCK
            n -= BLOCK
    elif summand is accumulator:
        for i in range(n):
            terms[i] = _scalar.slope_term(x[i], product(x[i], grad[i]))


# Both results in one pass.

cdef extern from "_four_rows.h" nogil:
    const char *zeros "relu_ext_zeros"  # a row of them
    bint float32_rows "relu_ext_float32_learn_rows"(
        float32 *sums, char **at, const Py_ssize_t *steps, Py_ssize_t slope_step, Py_ssize_t n,
        float32 (*learn)(float32 *, float32, float32, float32, int) noexcept nogil, int call)
    bint float64_rows "relu_ext_float64_learn_rows"(
        float64 *sums, char **at, const Py_ssize_t *steps, Py_ssize_t slope_step, Py_ssize_t n,
        float64 (*learn)(float64 *, float64, float64, float64, int) noexcept nogil, int call)
    bint float32_run "relu_ext_float32_learn_run"(
        float32 *sums, char **at, Py_ssize_t n,
        float32 (*learn)(float32 *, float32, float32, float32, int) noexcept nogil, int call)
    bint float64_run "relu_ext_float64_learn_run"(
        float64 *sums, char **at, Py_ssize_t n,
        float64 (*learn)(float64 *, float64, float64, float64, int) noexcept nogil, int call)


cdef inline accumulator learn_one(accumulator *term, accumulator grad, accumulator x,
                                  accumulator slope, int call) noexcept nogil:
    """Return what becomes of grad, and write what is added.  The slope is not NaN."""
    if call == ADD_RELU_BACKWARD:
        term[0] = _scalar.relu_backward(grad, x, <accumulator>0)
        return term[0]
    term[0] = _scalar.slope_term(x, product(x, grad))
    return _scalar.leaky_relu_backward(
        grad, x, product(slope, grad), call - PRELU_BACKWARD_0_AT_ZERO)


cdef inline bint learn_as(accumulator *sums, char **at, const Py_ssize_t *steps,
                          Py_ssize_t slope_step, Py_ssize_t n, int call) noexcept nogil:
    if accumulator is float32:
        if steps != NULL:
            return float32_rows(sums, at, steps, slope_step, n, learn_one[float32], call)
        return float32_run(sums, at, n, learn_one[float32], call)
    elif accumulator is float64:
        if steps != NULL:
            return float64_rows(sums, at, steps, slope_step, n, learn_one[float64], call)
        return float64_run(sums, at, n, learn_one[float64], call)


cdef bint learn(accumulator *sums, char **at, const Py_ssize_t *steps, Py_ssize_t slope_step,
                Py_ssize_t n, int call) noexcept nogil:
    if call == PRELU_BACKWARD:
        return learn_as(sums, at, steps, slope_step, n, PRELU_BACKWARD)
    if call == ADD_RELU_BACKWARD:
        return learn_as(sums, at, steps, 0, n, ADD_RELU_BACKWARD)
    if call == PRELU_BACKWARD_0_AT_ZERO:
        return learn_as(sums, at, steps, slope_step, n, PRELU_BACKWARD_0_AT_ZERO)
    return learn_as(sums, at, steps, slope_step, n, PRELU_BACKWARD_1_AT_ZERO)


# Sums.

cdef inline const accumulator *row(const char *rows, Py_ssize_t step, int count, int i,
                                   const accumulator *unused) noexcept nogil:
    return <const accumulator *>(rows + i * step if i < count else zeros)


cdef inline void fold_eight_row(accumulator *sums, const char *rows, Py_ssize_t step, int count,
                                Py_ssize_t n, int first) noexcept nogil:
    """Fold the even rows to the sums, or add the odd ones: there are registers for the addresses of
    eight."""
    cdef const accumulator *a = row(rows, step, count, first, sums)
    cdef const accumulator *b = row(rows, step, count, first + 8, sums)
    cdef const accumulator *c = row(rows, step, count, first + 4, sums)
    cdef const accumulator *d = row(rows, step, count, first + 12, sums)
    cdef const accumulator *e = row(rows, step, count, first + 2, sums)
    cdef const accumulator *f = row(rows, step, count, first + 10, sums)
    cdef const accumulator *g = row(rows, step, count, first + 6, sums)
    cdef const accumulator *h = row(rows, step, count, first + 14, sums)
    cdef accumulator folded
    cdef Py_ssize_t i
    for i in range(n):
        folded = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]))
        sums[i] = folded if first == 0 else sums[i] + folded


cdef void fold_rows(accumulator *sums, const char *rows, Py_ssize_t step, int count,
                    Py_ssize_t n) noexcept nogil:
    fold_eight_row(sums, rows, step, count, n, 0)
    fold_eight_row(sums, rows, step, count, n, 1)


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
    cdef float16 halves[BLOCK]
    cdef float values[BLOCK]
    cdef Py_ssize_t i, count
    if summand is float16:
        memset(values, 0, sizeof(values))
        while n > 0:
            count = min(n, <Py_ssize_t>BLOCK)
            for i in range(count):
                values[i] = settled(sums[i])
            memset(halves, 0, sizeof(halves))
            FLOAT16_FORMAT.add(halves, halves, values)
            memcpy(out, halves, count * sizeof(float16))
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
        table.learn[dtype] = <Learn>learn[accumulator]
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
