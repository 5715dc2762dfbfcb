# Returns 0 or 1: what an argument of the function `name` chooses for the derivative at 0.
cdef int chosen_at_zero(str name, object at_zero) except -1
