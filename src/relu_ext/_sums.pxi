# The kernels of the sums, included by _kernels.pxi: one per dtype in which terms are added.
#
# Contract: `Terms`, `Learn`, `Adders` and `KernelTable.settle` in _table.pxd.
# No order of adding depends on the length of a vector: each loop adds numbers to as many others,
# or keeps to one order along the rows.

cdef extern from "_numbers.h" nogil:
    float bfloat16_widened "relu_ext_bfloat16_widened"(bfloat16 x)
    bfloat16 bfloat16_narrowed "relu_ext_bfloat16_narrowed"(float x)
    float32 QUIET_NAN "RELU_EXT_NAN"

cdef enum:
    # From so many bytes on the vectors of a row begin at a cache line, where all arrays have one at
    # the same place.  16 bytes behind one, as NumPy's large arrays begin, prelu_backward_ on
    # (64, 48) takes 1.3 times as long so, on (64, 128) 1.13 times, on (256, 512) as long, and on
    # (1000, 1000) 0.9 times (float32, Zen 5).
    ALIGNED = 1024
    FEW = BLOCK // 2

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


cdef inline void widen_halves(float32 *out, const half *a, Py_ssize_t n) noexcept nogil:
    """All blocks of n numbers: up to BLOCK - 1 numbers more are written."""
    cdef Py_ssize_t start = 0
    while start < n:
        widen_some(<float *>out + start, a + start, n - start)
        start += BLOCK


cdef void slope_terms(accumulator *terms, const summand *grad, const summand *x,
                      Py_ssize_t n) noexcept nogil:
    """Without x, the terms are grad itself: of halves."""
    cdef float wide_grad[BLOCK]
    cdef float wide_x[BLOCK]
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t i
    if summand is float16 or summand is bfloat16:
        if x == NULL:
            widen_halves(<float32 *>terms, grad, n)
            return
        while start < n:
            widen_some(wide_grad, grad + start, n - start)
            widen_some(wide_x, x + start, n - start)
            for i in range(BLOCK):
                terms[start + i] = _scalar.slope_term(
                    <accumulator>wide_x[i],
                    product(<accumulator>wide_x[i], <accumulator>wide_grad[i]))
            start += BLOCK
    elif summand is accumulator:
        for i in range(n):
            terms[i] = _scalar.slope_term(x[i], product(x[i], grad[i]))


# Both results in one pass.

cdef inline summand gradient_of(summand grad, summand x, summand slope,
                                int operation) noexcept nogil:
    """The slope is not NaN."""
    if operation == RELU_BACKWARD:
        return _scalar.relu_backward(grad, x, <summand>0)
    return _scalar.leaky_relu_backward(
        grad, x, product(slope, grad),
        SLOPE_AT_ZERO if operation == LEAKY_RELU_BACKWARD
        else operation - LEAKY_RELU_BACKWARD_0_AT_ZERO)


cdef inline summand term_of(summand grad, summand x, int operation) noexcept nogil:
    if operation == RELU_BACKWARD:
        return _scalar.relu_backward(grad, x, <summand>0)
    return _scalar.slope_term(x, product(x, grad))


# The name of a function that ends in _row: setup.py says there that no turn of a loop depends on
# another one.

cdef inline void learn_four_row(summand *terms, char *out, const char *grad, const char *x,
                                const summand *slopes, Py_ssize_t out_step,
                                Py_ssize_t grad_step, Py_ssize_t x_step, Py_ssize_t n,
                                int operation) noexcept nogil:
    """Four rows at once, of halves FEW numbers, whose terms are not added.  All is read before
    anything is written, so that nothing is read twice, and a number is written before its term and
    the next row are computed: GCC makes no loads that wait for a comparison beyond a store.  In
    one row after the other, halves on (256, 512) take 1.4 times as long at v4, 1.8 at v3 (Zen 5).
    """
    cdef summand slope, g0, g1, g2, g3, x0, x1, x2, x3, t0, t1, t2, t3
    cdef Py_ssize_t i
    for i in range(n):
        slope = slopes[i]
        g0 = (<const summand *>grad)[i]
        g1 = (<const summand *>(grad + grad_step))[i]
        g2 = (<const summand *>(grad + 2 * grad_step))[i]
        g3 = (<const summand *>(grad + 3 * grad_step))[i]
        x0 = (<const summand *>x)[i]
        x1 = (<const summand *>(x + x_step))[i]
        x2 = (<const summand *>(x + 2 * x_step))[i]
        x3 = (<const summand *>(x + 3 * x_step))[i]
        (<summand *>out)[i] = gradient_of(g0, x0, slope, operation)
        t0 = term_of(g0, x0, operation)
        (<summand *>(out + out_step))[i] = gradient_of(g1, x1, slope, operation)
        t1 = term_of(g1, x1, operation)
        (<summand *>(out + 2 * out_step))[i] = gradient_of(g2, x2, slope, operation)
        t2 = term_of(g2, x2, operation)
        (<summand *>(out + 3 * out_step))[i] = gradient_of(g3, x3, slope, operation)
        t3 = term_of(g3, x3, operation)
        if summand is float16 or summand is bfloat16:
            terms[i], terms[FEW + i] = t0, t1
            terms[2 * FEW + i], terms[3 * FEW + i] = t2, t3
        else:
            terms[i] = (t0 + t2) + (t1 + t3)


cdef inline void learn_lanes_row(accumulator *lanes, accumulator *out, const accumulator *grad,
                                 const accumulator *x, accumulator slope, Py_ssize_t n,
                                 int operation) noexcept nogil:
    """As `learn_four_row`.  Term first, channels of 28 x 28 take 1.2 times as long (v4, Zen 5)."""
    cdef accumulator g, v
    cdef Py_ssize_t i
    for i in range(n):
        g, v = grad[i], x[i]
        out[i] = gradient_of(g, v, slope, operation)
        lanes[i] += term_of(g, v, operation)


cdef inline int bytes_before_line(const char *out, const char *grad, const char *x) noexcept nogil:
    """How much of a row comes before a cache line of each array; 0 if they have none in common."""
    cdef uintptr_t apart = (<uintptr_t>grad - <uintptr_t>out) | (<uintptr_t>x - <uintptr_t>out)
    return 0 if apart % CACHE_LINE else <int>(-<uintptr_t>out % CACHE_LINE)


cdef inline void learn_four(accumulator *terms, char *out, char *grad, char *x,
                            const accumulator *slopes, const Py_ssize_t *steps, Py_ssize_t n,
                            int operation) noexcept nogil:
    if grad == out:  # by one pointer, or there are more than registers
        learn_four_row(terms, out, out, x, slopes, 4 * steps[OUT], 4 * steps[OUT], 4 * steps[B], n,
                       operation)
    else:
        learn_four_row(terms, out, grad, x, slopes, 4 * steps[OUT], 4 * steps[A], 4 * steps[B], n,
                       operation)


cdef inline void learn_rows(accumulator *sums, char **at, const Py_ssize_t *steps,
                            const accumulator *slopes, Py_ssize_t n, int operation) noexcept nogil:
    cdef accumulator terms[4 * LEARNED]
    cdef char *out
    cdef char *grad
    cdef char *x
    cdef Py_ssize_t i, start, some
    for i in range(4):
        out, grad, x = at[OUT] + i * steps[OUT], at[A] + i * steps[A], at[B] + i * steps[B]
        some = n
        if n * <Py_ssize_t>sizeof(accumulator) >= ALIGNED:
            some = bytes_before_line(out, grad, x) // sizeof(accumulator) or n
        start = 0
        while start < n:  # a second call would have the compiler copy the loops: 2 % of the wheel
            learn_four(terms + i * n + start, out, grad, x, slopes + start, steps, some, operation)
            out += some * sizeof(accumulator)
            grad += some * sizeof(accumulator)
            x += some * sizeof(accumulator)
            start, some = start + some, n - start - some
    for i in range(n):
        sums[i] = (terms[i] + terms[2 * n + i]) + (terms[n + i] + terms[3 * n + i])


cdef inline void learn_run(accumulator *sums, accumulator *out, const accumulator *grad,
                           const accumulator *x, accumulator slope, Py_ssize_t n,
                           int operation) noexcept nogil:
    cdef accumulator lanes[LANES]  # in registers
    memset(lanes, 0, sizeof(lanes))
    while n >= LANES:
        learn_lanes_row(lanes, out, grad, x, slope, LANES, operation)
        out += LANES
        grad += LANES
        x += LANES
        n -= LANES
    memcpy(sums, lanes, sizeof(lanes))
    learn_lanes_row(sums, out, grad, x, slope, n, operation)


cdef inline bint learn_as(accumulator *sums, char **at, const Rows *rows, Py_ssize_t n,
                          int operation) noexcept nogil:
    cdef const accumulator *slopes = <const accumulator *>at[PARAMETER]
    cdef bint one_slope = rows == NULL or operation == RELU_BACKWARD or rows.parameter_step == 0
    cdef bint any_nan = False
    cdef Py_ssize_t i
    for i in range(1 if one_slope else n):
        any_nan |= slopes[i] != slopes[i]
    if any_nan or rows != NULL and one_slope and operation != RELU_BACKWARD:
        return False
    if rows == NULL:
        learn_run(sums, <accumulator *>at[OUT], <const accumulator *>at[A],
                  <const accumulator *>at[B], slopes[0], n, operation)
    else:
        learn_rows(sums, at, rows.steps, slopes, n, operation)
    return True


cdef bint learn(accumulator *sums, char **at, const Rows *rows, Py_ssize_t n,
                int operation) noexcept nogil:
    if operation == LEAKY_RELU_BACKWARD:
        return learn_as(sums, at, rows, n, LEAKY_RELU_BACKWARD)
    if operation == RELU_BACKWARD:
        return learn_as(sums, at, rows, n, RELU_BACKWARD)
    if operation == LEAKY_RELU_BACKWARD_0_AT_ZERO:
        return learn_as(sums, at, rows, n, LEAKY_RELU_BACKWARD_0_AT_ZERO)
    return learn_as(sums, at, rows, n, LEAKY_RELU_BACKWARD_1_AT_ZERO)


cdef bint learn_half(float32 *sums, half **at, const Rows *folded, Py_ssize_t n,
                     int operation) noexcept nogil:
    """In place, and a copy of grad out of place: by two pointers it takes 1.15 times as long.  The
    last numbers may begin among those before them, because what the gradient makes of itself is
    itself; but not if that is written over x."""
    cdef float32 terms[4][LEARNED]
    cdef float32 rows[4 * FEW]
    cdef half results[4 * FEW]
    cdef char *out = <char *>at[OUT]
    cdef const char *x = <const char *>at[B]
    cdef Py_ssize_t out_step, x_step, start, shift, i
    cdef int k
    if operation != RELU_BACKWARD or folded == NULL or n < BLOCK or at[OUT] == at[B]:
        return False
    out_step, x_step = folded.steps[OUT], folded.steps[B]
    for k in range(4):
        if at[A] != at[OUT]:
            for i in range(4):
                memcpy(out + 4 * i * out_step,
                       <const char *>at[A] + (4 * i + k) * folded.steps[A], n * sizeof(half))
        start = 0
        while start < n:
            start = min(start, n - FEW)
            shift = start * sizeof(half)
            learn_four_row(results, out + shift, out + shift, x + shift, <const half *>out,
                           4 * out_step, 4 * out_step, 4 * x_step, FEW, RELU_BACKWARD)
            widen_halves(rows, results, 4 * FEW)
            for i in range(FEW):
                terms[k][start + i] = (
                    (rows[i] + rows[2 * FEW + i]) + (rows[FEW + i] + rows[3 * FEW + i]))
            start += FEW
        out += out_step
        x += x_step
    for i in range(n):
        sums[i] = (terms[0][i] + terms[2][i]) + (terms[1][i] + terms[3][i])
    return True


# Sums.

cdef float32[LEARNED] zeros  # a row of them


cdef inline const accumulator *row(const char *rows, Py_ssize_t step, int count, int i,
                                   const accumulator *unused) noexcept nogil:
    return <const accumulator *>(rows + i * step if i < count else <const char *>zeros)


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


cdef void fold_lanes(accumulator *sums, accumulator *lanes, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int width, k
    for i in range(n):
        width = LANES // 2
        while width > 0:
            for k in range(width):
                lanes[k] += lanes[width + k]
            width //= 2
        sums[i] = lanes[0]
        lanes += LANES


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
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t i, count
    if summand is float16:
        memset(values, 0, sizeof(values))
        while start < n:
            count = min(n - start, <Py_ssize_t>BLOCK)
            for i in range(count):
                values[i] = settled(sums[start + i])
            FLOAT16_FORMAT.add(halves, <const float16 *>zeros, values)
            memcpy(out + start, halves, count * sizeof(float16))
            start += BLOCK
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
    table.adders[dtype].add_run = <Add>add_run[accumulator]
    table.adders[dtype].fold_lanes = <Add>fold_lanes[accumulator]
    table.adders[dtype].add_row = <Add>add_row[accumulator]
    table.settle[dtype] = <Add>settle[accumulator, accumulator]


cdef inline void fill_half(KernelTable *table, int dtype, half unused) noexcept:
    table.learn[dtype] = <Learn>learn_half[half]
    table.slope_terms[dtype] = <Terms>slope_terms[float32, half]
    table.settle[dtype] = <Add>settle[half, float32]


cdef void fill_sums(KernelTable *table) noexcept:
    fill_half(table, FLOAT16, <float16>0)
    fill_half(table, BFLOAT16, <bfloat16>0)
    fill_accumulator(table, FLOAT32, <float32>0)
    fill_accumulator(table, FLOAT64, <float64>0)
    fill_accumulator(table, LONGDOUBLE, <longdouble>0)
