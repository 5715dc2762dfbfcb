from relu_ext._table cimport LEAKY_RELU_SUBGRADIENT, LEAKY_RELU_SUBGRADIENT_0_AT_ZERO

# Returns 0 or 1: what an argument of the function `name` chooses for the derivative at 0.
cdef int chosen_at_zero(str name, object at_zero) except -1


cdef inline int choice_at_zero(str name, int operation, object at_zero) except -1:
    """The operation, which has the slope at 0, or the one instead of it that was chosen."""
    if at_zero is None:
        return operation
    return (LEAKY_RELU_SUBGRADIENT_0_AT_ZERO + 2 * (operation - LEAKY_RELU_SUBGRADIENT)
            + chosen_at_zero(name, at_zero))
