from relu_ext._operand cimport Operand

# Fills in `operand` for an object whose library describes it to C (_memory.pyx says which).
# Returns False for any other object, which array_over may still take.  `name` is for errors.
# Raises, with nothing filled in, if the memory is not the tensor's value.  The shape and the
# strides are the tensor's own.  They last until the tensor is resized or released, so the caller
# holds a reference, describes all operands first and runs no Python before it is done.
cdef bint describe(str name, object x, Operand *operand) except -1

# Returns an uninitialised tensor like one that `describe` takes, or None for any other object.
cdef object new_tensor(str name, object x)

# Whether `x` is a tensor of PyTorch, of whatever subclass.
cdef bint is_tensor(object x) except -1

# Returns a new result, as a tensor if an operand is one.
cdef object new_result(object result, tuple operands)
