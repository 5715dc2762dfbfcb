/* Loops over four rows at once, or one.
 *
 * Contract: no row overlaps another one, and each input is the output itself or apart from it.  So
 * no turn of the loop depends on another one, for which compilers have a pragma and Cython none. */
#ifndef RELU_EXT_FOUR_ROWS_H
#define RELU_EXT_FOUR_ROWS_H

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

#define RELU_EXT_ROW(TYPE, NUMBER)                                                        \
    TYPE *out##NUMBER = (TYPE *)(at[0] + (NUMBER) * steps[0]);                            \
    const TYPE *grad##NUMBER = (const TYPE *)(at[1] + (NUMBER) * steps[1]);               \
    const TYPE *x##NUMBER = (const TYPE *)(at[2] + (NUMBER) * steps[2]);                  \
    TYPE t##NUMBER

/* All is read before anything is written, so that nothing is read twice. */
#define RELU_EXT_EACH_COLUMN(TYPE, SLOPE)                                                 \
    RELU_EXT_INDEPENDENT                                                                  \
    for (i = 0; i < n; i++) {                                                             \
        const TYPE own = SLOPE;                                                           \
        const TYPE g0 = grad0[i], g1 = grad1[i], g2 = grad2[i], g3 = grad3[i];            \
        const TYPE v0 = x0[i], v1 = x1[i], v2 = x2[i], v3 = x3[i];                        \
        const TYPE y0 = learn(&t0, g0, v0, own, call);                                    \
        const TYPE y1 = learn(&t1, g1, v1, own, call);                                    \
        const TYPE y2 = learn(&t2, g2, v2, own, call);                                    \
        const TYPE y3 = learn(&t3, g3, v3, own, call);                                    \
        out0[i] = y0;                                                                     \
        out1[i] = y1;                                                                     \
        out2[i] = y2;                                                                     \
        out3[i] = y3;                                                                     \
        terms[i] = (t0 + t2) + (t1 + t3);                                                 \
    }

/* One row with one slope, whose terms are added in lanes; or four rows.  `learn` returns what
 * becomes of a number and writes its term. */
#define RELU_EXT_DEFINE_FOUR_ROWS(TYPE)                                                   \
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
    static CYTHON_INLINE void TYPE##_four_rows(                                           \
        TYPE *terms, char **at, const Py_ssize_t *steps, Py_ssize_t slope_step,           \
        Py_ssize_t n, int rows, TYPE (*learn)(TYPE *, TYPE, TYPE, TYPE, int), int call)   \
    {                                                                                     \
        TYPE *out = (TYPE *)at[0];                                                        \
        const TYPE *grad = (const TYPE *)at[1], *x = (const TYPE *)at[2];                 \
        const TYPE *slope = (const TYPE *)at[3];                                          \
        const TYPE factor = slope[0];                                                     \
        Py_ssize_t i;                                                                     \
        if (rows == 1) {                                                                  \
            TYPE lanes[RELU_EXT_RUN_LANES] = {0}; /* in registers */                      \
            for (i = 0; i + RELU_EXT_RUN_LANES <= n; i += RELU_EXT_RUN_LANES)             \
                TYPE##_add_lanes(lanes, out + i, grad + i, x + i, factor,                 \
                                 RELU_EXT_RUN_LANES, learn, call);                        \
            memcpy(terms, lanes, sizeof(lanes));                                          \
            TYPE##_add_lanes(terms, out + i, grad + i, x + i, factor, n - i, learn, call);\
            return;                                                                       \
        }                                                                                 \
        RELU_EXT_ROW(TYPE, 0);                                                            \
        RELU_EXT_ROW(TYPE, 1);                                                            \
        RELU_EXT_ROW(TYPE, 2);                                                            \
        RELU_EXT_ROW(TYPE, 3);                                                            \
        if (slope_step == 0) {                                                            \
            RELU_EXT_EACH_COLUMN(TYPE, factor)                                            \
        } else {                                                                          \
            RELU_EXT_EACH_COLUMN(TYPE, slope[i])                                          \
        }                                                                                 \
    }
RELU_EXT_DEFINE_FOUR_ROWS(relu_ext_float32)
RELU_EXT_DEFINE_FOUR_ROWS(relu_ext_float64)

#endif
