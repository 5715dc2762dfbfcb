# Returns 0 or 1: what an argument of the function `name` chooses for the derivative at 0.
cdef int chosen_at_zero(str name, object at_zero) except -1


cdef inline int choice_at_zero(str name, object at_zero, int by_slope, int by_0) except -1:
    """What computes with the slope at 0, or the one of two successive ones that was chosen."""
    return by_slope if at_zero is None else by_0 + chosen_at_zero(name, at_zero)
