/* Loops over four rows at once, or one.
 *
 * Contract: no row overlaps another one, and each input is the output itself or apart from it.  So
 * no turn of the loop depends on another one, for which compilers have a pragma and Cython none. */
#ifndef RELU_EXT_FOUR_ROWS_H
#define RELU_EXT_FOUR_ROWS_H

#include "_copies.h"
#include "_numbers.h"

#if defined(__clang__)
#define RELU_EXT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define RELU_EXT_INDEPENDENT _Pragma("GCC ivdep")
#elif defined(_MSC_VER)
#define RELU_EXT_INDEPENDENT __pragma(loop(ivdep))
#else
#define RELU_EXT_INDEPENDENT
#endif

static const RELU_EXT_LINE_ALIGNED char relu_ext_zeros[RELU_EXT_LEARNED * sizeof(float)];

#define RELU_EXT_ROW(TYPE, NUMBER)                                                        \
    TYPE *out##NUMBER = (TYPE *)(out + (NUMBER) * out_step);                              \
    const TYPE *grad##NUMBER = (const TYPE *)(grad + (NUMBER) * grad_step);               \
    const TYPE *x##NUMBER = (const TYPE *)(x + (NUMBER) * x_step);                        \
    TYPE t##NUMBER

/* All is read before anything is written, so that nothing is read twice, and a row is written before
 * the next one is computed: GCC makes no loads that wait for a comparison beyond a store. */
#define RELU_EXT_EACH_COLUMN(TYPE, SLOPE)                                                 \
    RELU_EXT_INDEPENDENT                                                                  \
    for (i = 0; i < n; i++) {                                                             \
        const TYPE own = SLOPE;                                                           \
        const TYPE g0 = grad0[i], g1 = grad1[i], g2 = grad2[i], g3 = grad3[i];            \
        const TYPE v0 = x0[i], v1 = x1[i], v2 = x2[i], v3 = x3[i];                        \
        out0[i] = learn(&t0, g0, v0, own, call);                                          \
        out1[i] = learn(&t1, g1, v1, own, call);                                          \
        out2[i] = learn(&t2, g2, v2, own, call);                                          \
        out3[i] = learn(&t3, g3, v3, own, call);                                          \
        terms[i] = (t0 + t2) + (t1 + t3);                                                 \
    }

/* FOLDED rows, or a run of one slope in lanes.  Both return 0, and write nothing, where a slope is
 * NaN.  `learn` returns what becomes of a number and writes its term. */
#define RELU_EXT_DEFINE_LEARN(TYPE)                                                       \
    static CYTHON_INLINE void TYPE##_four_rows(                                           \
        TYPE *terms, char *out, const char *grad, const char *x, const TYPE *slope,       \
        Py_ssize_t out_step, Py_ssize_t grad_step, Py_ssize_t x_step,                     \
        Py_ssize_t slope_step, Py_ssize_t n,                                              \
        TYPE (*learn)(TYPE *, TYPE, TYPE, TYPE, int), int call)                           \
    {                                                                                     \
        const TYPE factor = slope[0];                                                     \
        Py_ssize_t i;                                                                     \
        RELU_EXT_ROW(TYPE, 0);                                                            \
        RELU_EXT_ROW(TYPE, 1);                                                            \
        RELU_EXT_ROW(TYPE, 2);                                                            \
        RELU_EXT_ROW(TYPE, 3);                                                            \
        if (slope_step == 0) {                                                            \
            RELU_EXT_EACH_COLUMN(TYPE, factor)                                            \
        } else {                                                                          \
            RELU_EXT_EACH_COLUMN(TYPE, slope[i])                                          \
        }                                                                                 \
    }                                                                                     \
    static CYTHON_INLINE int TYPE##_learn_rows(                                           \
        TYPE *sums, char **at, const Py_ssize_t *steps, Py_ssize_t slope_step,            \
        Py_ssize_t n, TYPE (*learn)(TYPE *, TYPE, TYPE, TYPE, int), int call)             \
    {                                                                                     \
        TYPE terms[4 * RELU_EXT_LEARNED];                                                 \
        const TYPE *slopes = (const TYPE *)at[3];                                         \
        Py_ssize_t i;                                                                     \
        int k, any_nan = 0;                                                               \
        for (i = 0; i < (slope_step == 0 ? 1 : n); i++)                                   \
            any_nan |= slopes[i] != slopes[i];                                            \
        if (any_nan)                                                                      \
            return 0;                                                                     \
        for (k = 0; k < 4; k++) {                                                         \
            char *out = at[0] + k * steps[0];                                             \
            const char *grad = at[1] + k * steps[1], *x = at[2] + k * steps[2];           \
            if (grad == out) /* by one pointer, or there are more than registers */       \
                TYPE##_four_rows(terms + k * n, out, out, x, slopes, 4 * steps[0],        \
                                 4 * steps[0], 4 * steps[2], slope_step, n, learn, call); \
            else                                                                          \
                TYPE##_four_rows(terms + k * n, out, grad, x, slopes, 4 * steps[0],       \
                                 4 * steps[1], 4 * steps[2], slope_step, n, learn, call); \
        }                                                                                 \
        for (i = 0; i < n; i++)                                                           \
            sums[i] = (terms[i] + terms[2 * n + i]) + (terms[n + i] + terms[3 * n + i]);  \
        return 1;                                                                         \
    }                                                                                     \
    static CYTHON_INLINE void TYPE##_add_lanes(                                           \
        TYPE *lanes, TYPE *out, const TYPE *grad, const TYPE *x, TYPE slope,              \
        Py_ssize_t n, TYPE (*learn)(TYPE *, TYPE, TYPE, TYPE, int), int call)             \
    {                                                                                     \
        TYPE term;                                                                        \
        Py_ssize_t i;                                                                     \
        RELU_EXT_INDEPENDENT                                                              \
        for (i = 0; i < n; i++) {                                                         \
            out[i] = learn(&term, grad[i], x[i], slope, call);                            \
            lanes[i] += term;                                                             \
        }                                                                                 \
    }                                                                                     \
    static CYTHON_INLINE int TYPE##_learn_run(                                           \
        TYPE *sums, char **at, Py_ssize_t n, TYPE (*learn)(TYPE *, TYPE, TYPE, TYPE, int), \
        int call)                                                                         \
    {                                                                                     \
        TYPE lanes[RELU_EXT_RUN_LANES] = {0}; /* in registers */                          \
        TYPE *out = (TYPE *)at[0];                                                        \
        const TYPE *grad = (const TYPE *)at[1], *x = (const TYPE *)at[2];                 \
        const TYPE factor = *(const TYPE *)at[3];                                         \
        Py_ssize_t i;                                                                     \
        if (factor != factor)                                                             \
            return 0;                                                                     \
        for (i = 0; i + RELU_EXT_RUN_LANES <= n; i += RELU_EXT_RUN_LANES)                 \
            TYPE##_add_lanes(lanes, out + i, grad + i, x + i, factor, RELU_EXT_RUN_LANES, \
                             learn, call);                                                \
        memcpy(sums, lanes, sizeof(lanes));                                               \
        TYPE##_add_lanes(sums, out + i, grad + i, x + i, factor, n - i, learn, call);     \
        return 1;                                                                         \
    }
RELU_EXT_DEFINE_LEARN(relu_ext_float32)
RELU_EXT_DEFINE_LEARN(relu_ext_float64)

#endif
