# One part of a call that `parts` threads share.
ctypedef void (*Part)(const void *whole, int part, int parts) noexcept nogil

# How many threads a large call may use now.
cdef int effective_threads() noexcept nogil

# Computes all parts, each on a thread of its own, and returns when all are done.
cdef void share(Part part_of, const void *whole, int parts) noexcept nogil

# What _openmp exports.
cdef struct Team:
    int (*most_threads)() noexcept nogil
    void (*share)(Part part_of, const void *whole, int parts) noexcept nogil
    bint (*can_start)(int threads) noexcept nogil
