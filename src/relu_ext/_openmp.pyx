"""The threads of OpenMP.  Importing this module loads the runtime, where there is one."""

from cpython.pycapsule cimport PyCapsule_New
from cython.parallel cimport prange
from relu_ext._threads cimport Part, Team

cdef extern from "<omp.h>" nogil:
    int omp_get_max_threads()

cdef extern from "<fenv.h>" nogil:
    ctypedef struct fenv_t:
        pass
    int fegetenv(fenv_t *)
    int fesetenv(const fenv_t *)


cdef int most_threads() noexcept nogil:
    return omp_get_max_threads()


cdef void share(Part part_of, const void *whole, int parts) noexcept nogil:
    cdef int part
    cdef fenv_t caller
    fegetenv(&caller)
    for part in prange(parts, num_threads=parts, schedule="static"):
        run_as(&caller, part_of, whole, part, parts)


cdef void run_as(const fenv_t *caller, Part part_of, const void *whole, int part,
                 int parts) noexcept nogil:
    """Compute a part on an OpenMP thread under the caller's floating-point settings: the rounding
    mode and the flags that flush subnormal numbers to zero belong to each thread."""
    cdef fenv_t own
    fegetenv(&own)
    fesetenv(caller)
    part_of(whole, part, parts)
    fesetenv(&own)


cdef Team exported
exported.most_threads = most_threads
exported.share = share
exported.runtime = <void *>omp_get_max_threads

team = PyCapsule_New(&exported, "relu_ext.Team", NULL)
