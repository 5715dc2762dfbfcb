from relu_ext._operand cimport Operand

# Fills in `operand` for an object whose library describes it to C (_memory.pyx says which), False
# for any other, which array_over may still take; `name` is for errors.  Raises, with nothing filled
# in, where the memory is not the tensor's value.  The shape and the strides are the tensor's own:
# they last until it is resized or let go of, so the caller holds a reference, describes all
# operands first and runs no Python before it is done.
cdef bint describe(str name, object x, Operand *operand) except -1

# An uninitialised tensor like one that `describe` takes, None for any other object.
cdef object new_tensor(object x)

# Whether `x` is a tensor of PyTorch, of whatever subclass.
cdef bint is_tensor(object x) except -1

# A new result: as a tensor where an operand is one.
cdef object new_result(object result, tuple operands)
