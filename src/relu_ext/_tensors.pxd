from relu_ext._operand cimport Operand

# Whether `x` is a tensor of PyTorch that `borrow` takes, and its memory is its value.  Raises, for
# the function `name`, if it is such a tensor and its memory is not its value.  May run Python.
# Beside another tensor that was asked in the same call, what is asked of PyTorch as a whole, such
# as whether it records its operations, is not asked again.
cdef bint is_value(str name, object x, bint beside_another) except -1

# Whether `borrow` can be asked about `x`, whatever becomes of its memory.  May run Python.
cdef bint has_exchange_table(object x) except -1

# Fills in `operand` for such a tensor.  Returns False if the kernels cannot take it.  Runs no
# Python.  The shape and the strides are the tensor's own: they last until the tensor is resized or
# released, so the caller holds a reference and runs no Python before it is done.
cdef bint borrow(object x, Operand *operand) noexcept

# Returns an uninitialised tensor like one that `borrow` takes.  Runs Python.
cdef object new_tensor(str name, object x)

# Whether `x` is a tensor of PyTorch, of whatever subclass.
cpdef bint is_torch_tensor(object x) except -1

# Raises, for the function `name`, if the memory of a tensor below one of the arrays is gone: Python
# of another argument may have taken it.  Other objects are ignored.  Runs no Python.
cpdef int check_memory(str name, tuple arrays) except -1

# Returns a new result, as a tensor if an operand is one.
cpdef object new_result_of(object result, tuple operands)
