/* Floating-point exceptions, of which NumPy warns. */
#ifndef RELU_EXT_EXCEPTIONS_H
#define RELU_EXT_EXCEPTIONS_H

/* Tell which floating-point exceptions were raised, and take back those raised since. Reading
 * MXCSR takes 1 ns; fenv.h takes 10, because it also reads x87's status. */
#include <fenv.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
static inline int relu_ext_raised(int x87)
{
    return x87 ? fetestexcept(FE_ALL_EXCEPT) : (int)(_mm_getcsr() & _MM_EXCEPT_MASK);
}
static inline void relu_ext_take_back(int before, int x87)
{
    const int raised = relu_ext_raised(x87) & ~before;
    if (raised && x87)
        feclearexcept(raised);
    else if (raised)
        _mm_setcsr(_mm_getcsr() & ~(unsigned)raised);
}
#else
static inline int relu_ext_raised(int x87)
{
    (void)x87;
    return fetestexcept(FE_ALL_EXCEPT);
}
static inline void relu_ext_take_back(int before, int x87)
{
    const int raised = relu_ext_raised(x87) & ~before;
    if (raised)
        feclearexcept(raised);
}
#endif

#endif
