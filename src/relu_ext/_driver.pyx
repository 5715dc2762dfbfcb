"""Walks whole buffers: alignment, cache blocks, streaming stores, threads.

Contract: whole buffers, GIL released or not; raw pointers, no Python objects.
"""

from cython.parallel cimport prange
from libc.stdint cimport uintptr_t
from relu_ext._dispatch cimport active_table
from relu_ext._table cimport Kernel

import os
from operator import index

cdef extern from "_stream.h" nogil:
    enum:
        CACHE_LINE "RELU_EXT_CACHE_LINE"
    void prefetch_for_read "relu_ext_prefetch_for_read"(const char *address, Py_ssize_t bytes)
    void prefetch_for_write "relu_ext_prefetch_for_write"(const char *address, Py_ssize_t bytes)
    void stream_copy "relu_ext_stream_copy"(char *to, const char *source, Py_ssize_t bytes)
    void stream_fence "relu_ext_stream_fence"()

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #include <unistd.h>
    #define RELU_EXT_OPENMP 1
    #else
    #define RELU_EXT_OPENMP 0
    #define omp_get_max_threads() 1
    #define getpid() 0
    #endif
    #ifdef _MSC_VER
    #define RELU_EXT_LINE_ALIGNED __declspec(align(RELU_EXT_CACHE_LINE))
    #else
    #define RELU_EXT_LINE_ALIGNED __attribute__((aligned(RELU_EXT_CACHE_LINE)))
    #endif
    #define RELU_EXT_STREAM_BLOCK 2048
    typedef struct { RELU_EXT_LINE_ALIGNED char bytes[RELU_EXT_STREAM_BLOCK]; } relu_ext_scratch;
    """
    bint OPENMP "RELU_EXT_OPENMP"
    int omp_get_max_threads() nogil
    int getpid() nogil
    enum:
        STREAM_BLOCK "RELU_EXT_STREAM_BLOCK"
    ctypedef struct Scratch "relu_ext_scratch":
        char *bytes

# Measured on an AMD EPYC (Zen 5; 48 KiB, 1 MiB and 32 MiB of cache), float32, medians of paired
# ratios; 1.20 is faster, 0.95 slower.
cdef enum:
    # In place, prefetching for write pays where the buffer just outgrows the last-level cache:
    # 8 MiB 0.85 times, 16 MiB 1.20, 32 MiB 1.24, 64 MiB 1.00, 128 MiB 0.94.  4 KiB ahead gives 0.98
    # at 16 MiB, 32 KiB 1.06.  With a second input it loses at every size, 0.72 to 0.93 times.
    PREFETCH_FROM_BYTES = 16 << 20
    PREFETCH_BELOW_BYTES = 64 << 20
    PREFETCH_AHEAD = 16 << 10
    PREFETCH_BLOCK = 4 << 10
    # Out of place, streaming: 8 MiB 1.25 times, 16 MiB 1.27, 32 MiB 1.38, 64 MiB 1.34.  From 16,
    # because below it input and output fit the cache together, and whoever reads the output
    # next would miss it there.  Blocks of 4 KiB lose (0.99 times at 64 MiB), of 1 KiB are as good
    # as STREAM_BLOCK.
    STREAM_BYTES = 16 << 20
    STREAM_AHEAD = 16 << 10
    # Two threads in place: 512 KiB 0.95 times, 1 MiB 1.26, 4 MiB 1.71, 8 MiB 1.91, 32 MiB 1.32,
    # 256 MiB 1.06, where one thread nearly fills the memory bus.  With both cores busy already,
    # 4 MiB took 7.6 ms in the place of 47 us, because the team waits for a thread that does not
    # run: which is why threads have to be asked for.
    THREAD_BYTES = 1 << 20
    MOST_THREADS = 1 << 16  # more than any machine has, and within C's int

cdef int threads_asked = 1
cdef int process_at_import = getpid()


cdef struct Job:
    Kernel kernel
    char *out
    const char *a
    const char *b
    const char *parameter
    Py_ssize_t parameter_itemsize
    Py_ssize_t itemsize
    bint prefetch
    bint stream


cdef inline void apply(const Job *job, char *out, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """The kernel on elements start ... start + n, the result going to `out`."""
    job.kernel(
        out, job.a + start * job.itemsize,
        job.b + start * job.itemsize if job.b != NULL else NULL,
        job.parameter + start * job.parameter_itemsize,
        job.parameter_itemsize != 0, n)


cdef void apply_prefetched(const Job *job, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t block = PREFETCH_BLOCK // job.itemsize
    cdef Py_ssize_t stop = start + n
    cdef Py_ssize_t count
    cdef char *out
    while start < stop:
        count = min(block, stop - start)
        out = job.out + start * job.itemsize
        prefetch_for_write(out + PREFETCH_AHEAD, PREFETCH_BLOCK)
        apply(job, out, start, count)
        start += count


cdef void apply_streamed(const Job *job, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """Compute into a scratch that stays in the first-level cache, then stream it past the caches:
    one routine for every operation, dtype and level."""
    cdef Scratch scratch
    cdef Py_ssize_t block = STREAM_BLOCK // job.itemsize
    cdef Py_ssize_t blocks = n // block
    cdef Py_ssize_t _
    for _ in range(blocks):
        prefetch_for_read(job.a + start * job.itemsize + STREAM_AHEAD, STREAM_BLOCK)
        if job.b != NULL:
            prefetch_for_read(job.b + start * job.itemsize + STREAM_AHEAD, STREAM_BLOCK)
        apply(job, scratch.bytes, start, block)
        stream_copy(job.out + start * job.itemsize, scratch.bytes, STREAM_BLOCK)
        start += block
    stream_fence()
    apply(job, job.out + start * job.itemsize, start, n - blocks * block)


cdef void run_part(const Job *job, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """Elements start ... start + n on one thread.

    First the elements up to the next cache line, so that no later store splits one: NumPy's data
    lies at 16 modulo 64, and in a prototype 2**20 float32 in place went from 47.8 to 35.6 us.
    """
    cdef char *out = job.out + start * job.itemsize
    cdef Py_ssize_t head = -<uintptr_t>out % CACHE_LINE
    if head % job.itemsize != 0 or STREAM_BLOCK % job.itemsize != 0:
        apply(job, out, start, n)
        return
    head = min(head // job.itemsize, n)
    if head:
        apply(job, out, start, head)
        start += head
        n -= head
    if job.prefetch:
        apply_prefetched(job, start, n)
    elif job.stream:
        apply_streamed(job, start, n)
    else:
        apply(job, job.out + start * job.itemsize, start, n)


cdef void run_large(int operation, int dtype, void *out, const void *a, const void *b,
                    const void *parameter, Py_ssize_t step, Py_ssize_t n,
                    bint fresh) noexcept nogil:
    cdef Job job
    cdef Py_ssize_t bytes = n * active_table.itemsize[dtype]
    cdef bint in_place = out == a or out == b
    cdef Py_ssize_t part, i
    cdef int threads = 1
    job.kernel = active_table.kernel[operation][dtype]
    job.itemsize = active_table.itemsize[dtype]
    job.out = <char *>out
    job.a = <const char *>a
    job.b = <const char *>b
    job.parameter = <const char *>parameter
    job.parameter_itemsize = step * job.itemsize
    # By the whole, not by a thread's part: the threads share the last-level cache.
    job.prefetch = in_place and b == NULL and PREFETCH_FROM_BYTES <= bytes < PREFETCH_BELOW_BYTES
    job.stream = not in_place and not fresh and bytes >= STREAM_BYTES
    if bytes >= THREAD_BYTES:
        # Each gets at least what each of two gets at the threshold.
        threads = <int>min(<Py_ssize_t>effective_threads(), bytes // (THREAD_BYTES // 2))
    if threads == 1:
        run_part(&job, 0, n)
        return
    part = (n + threads - 1) // threads
    for i in prange(threads, num_threads=threads, schedule="static"):
        run_part(&job, min(i * part, n), min(part, n - min(i * part, n)))


cdef int effective_threads() noexcept nogil:
    # libgomp's team does not survive a fork: a parallel region in the child would wait for
    # threads that do not exist.
    if threads_asked == 1 or getpid() != process_at_import:
        return 1
    return min(threads_asked, omp_get_max_threads())


def set_num_threads(num_threads, /):
    """Let large arrays be computed by several threads.

    One thread is the default: nothing starts threads unasked.  A call on 1 MiB or more is shared
    by up to `num_threads`, each taking at least 512 KiB.  On an idle machine that pays; where the
    cores are busy already it hurts, because the call waits for its last thread.  A smaller
    ``OMP_NUM_THREADS``, CPU affinity or `threadpoolctl` limit prevails.  After a fork the child
    uses one thread.

    Parameters
    ----------
    num_threads : int
        At least 1.

    Raises
    ------
    ValueError
        If `num_threads` is less than 1 or more than 65,536.
    TypeError
        If it is no integer.

    Examples
    --------
    >>> import relu_ext
    >>> relu_ext.set_num_threads(1)
    >>> relu_ext.get_num_threads()
    1
    """
    global threads_asked
    number = index(num_threads)
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"set_num_threads: expected a number of threads from 1 to "
                         f"{MOST_THREADS}, not {num_threads!r}")
    threads_asked = number


def get_num_threads():
    """The number of threads that a call on a large array would use now.

    Returns
    -------
    int
        The number asked for, or fewer where OpenMP, its settings or a fork allow fewer.

    See Also
    --------
    set_num_threads

    Examples
    --------
    >>> import relu_ext
    >>> relu_ext.get_num_threads() >= 1
    True
    """
    return effective_threads()


def has_openmp():
    return bool(OPENMP)


cdef start():
    text = os.environ.get("RELU_EXT_NUM_THREADS") or "1"
    try:
        set_num_threads(int(text))
    except ValueError:
        raise ValueError("environment variable RELU_EXT_NUM_THREADS: expected a number of threads "
                         f"from 1 to {MOST_THREADS}, not {text!r}") from None


start()
