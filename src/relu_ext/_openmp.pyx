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


cdef extern from *:
    """
    #ifdef _WIN32
    #define relu_ext_can_start(threads) 1
    #else
    #include <pthread.h>
    #include <stdlib.h>
    static void *relu_ext_wait(void *gate)
    {
        pthread_mutex_lock(gate);
        pthread_mutex_unlock(gate);
        return NULL;
    }
    /* Whether so many threads can exist at once: OpenMP ends the process where one cannot. */
    static int relu_ext_can_start(int threads)
    {
        pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
        pthread_t *others = malloc(sizeof *others * threads);
        int started = 0, i;
        if (others == NULL)
            return 0;
        pthread_mutex_lock(&gate);
        while (started < threads - 1 &&
               pthread_create(&others[started], NULL, relu_ext_wait, &gate) == 0)
            started++;
        pthread_mutex_unlock(&gate);
        for (i = 0; i < started; i++)
            pthread_join(others[i], NULL);
        free(others);
        return started == threads - 1;
    }
    #endif
    """
    bint can_start "relu_ext_can_start"(int threads) nogil


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


cdef Team exported = Team(omp_get_max_threads, share, can_start)
team = PyCapsule_New(&exported, "relu_ext.Team", NULL)
