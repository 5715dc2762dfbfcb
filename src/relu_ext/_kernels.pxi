# The only loops: one per operation, fused over dtypes, compiled once per CPU level by the shims
# that include this file.
#
# Contract: out is an input or disjoint from it; any alignment; any n >= 0; no Python.
# The parameter is read from its array or, where one serves all, held in a register: two loops,
# because a stride that is not known defeats the vectoriser.

from cpython.pycapsule cimport PyCapsule_New
from libc.string cimport memcpy

from relu_ext cimport _scalar
from relu_ext._scalar cimport float16, number, one, product
from relu_ext._table cimport (
    BFLOAT16, FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, LEAKY_RELU,
    LEAKY_RELU_BACKWARD, LEAKY_RELU_SUBGRADIENT, LONGDOUBLE, RELU, RELU_BACKWARD,
    RELU_SUBGRADIENT, UINT8, UINT16, UINT32, UINT64, Kernel, KernelTable,
)


cdef extern from "_numbers.h" nogil:
    enum: BLOCK "RELU_EXT_HALF_BLOCK"
    void float16_multiply "relu_ext_float16_multiply"(
        float16 *out, const float16 *a, const float16 *b)


cdef inline void multiply_block(float16 *out, const float16 *a, const float16 *parameter,
                                Py_ssize_t step, Py_ssize_t count) noexcept nogil:
    """Products of up to BLOCK numbers; a short block is padded, so that no number's product
    depends on its place."""
    cdef float16 padded[BLOCK]
    cdef float16 parameters[BLOCK]
    cdef Py_ssize_t i
    if count < BLOCK:
        for i in range(BLOCK):
            padded[i] = 0
        memcpy(padded, a, count * sizeof(float16))
        a = padded
    if step == 0:
        for i in range(BLOCK):
            parameters[i] = parameter[0]
        parameter = parameters
    elif count < BLOCK:
        for i in range(BLOCK):
            parameters[i] = 0
        memcpy(parameters, parameter, count * sizeof(float16))
        parameter = parameters
    float16_multiply(out, a, parameter)


cdef void relu(number *out, const number *x, const number *unused_array,
               const number *unused_parameter, Py_ssize_t unused_step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = _scalar.relu(x[i])


cdef void relu_subgradient(number *out, const number *x, const number *unused_array,
                           const number *at_zero, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    if step == 0:
        value = at_zero[0]
        for i in range(n):
            out[i] = _scalar.relu_subgradient(x[i], value)
    else:
        for i in range(n):
            out[i] = _scalar.relu_subgradient(x[i], at_zero[i])


cdef void relu_backward(number *out, const number *grad, const number *x,
                        const number *at_zero, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, block, start, count
    cdef number value
    cdef float16 products[BLOCK]
    if step == 0:
        value = at_zero[0]
        if _scalar.is_zero(value):
            for i in range(n):
                out[i] = _scalar.relu_backward(
                    grad[i], x[i], _scalar.grad_at_zero(grad[i], <number>0, <number>0))
            return
        if _scalar.is_one(value):
            for i in range(n):
                out[i] = _scalar.relu_backward(
                    grad[i], x[i], _scalar.grad_at_zero(grad[i], one(value), <number>0))
            return
    if number is float16:
        for block in range((n + BLOCK - 1) // BLOCK):
            start = block * BLOCK
            count = min(<Py_ssize_t>BLOCK, n - start)
            multiply_block(products, grad + start, at_zero + start * step, step, count)
            for i in range(count):
                value = at_zero[(start + i) * step]
                out[start + i] = _scalar.relu_backward(
                    grad[start + i], x[start + i],
                    _scalar.grad_at_zero(grad[start + i], value, products[i]))
    elif step == 0:
        value = at_zero[0]
        for i in range(n):
            out[i] = _scalar.relu_backward(
                grad[i], x[i],
                _scalar.grad_at_zero(grad[i], value, product(grad[i], value)))
    else:
        for i in range(n):
            out[i] = _scalar.relu_backward(
                grad[i], x[i],
                _scalar.grad_at_zero(grad[i], at_zero[i], product(grad[i], at_zero[i])))


cdef void leaky_relu(number *out, const number *x, const number *unused_array,
                     const number *slope, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, block, start, count
    cdef number value
    cdef float16 products[BLOCK]
    if number is float16:
        for block in range((n + BLOCK - 1) // BLOCK):
            start = block * BLOCK
            count = min(<Py_ssize_t>BLOCK, n - start)
            multiply_block(products, x + start, slope + start * step, step, count)
            for i in range(count):
                out[start + i] = _scalar.leaky_relu(x[start + i], products[i])
    elif step == 0:
        value = slope[0]
        for i in range(n):
            out[i] = _scalar.leaky_relu(x[i], product(x[i], value))
    else:
        for i in range(n):
            out[i] = _scalar.leaky_relu(x[i], product(x[i], slope[i]))


cdef void leaky_relu_subgradient(number *out, const number *x, const number *unused_array,
                                 const number *slope, Py_ssize_t step,
                                 Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef number value
    if step == 0:
        value = slope[0]
        for i in range(n):
            out[i] = _scalar.leaky_relu_subgradient(x[i], value)
    else:
        for i in range(n):
            out[i] = _scalar.leaky_relu_subgradient(x[i], slope[i])


cdef void leaky_relu_backward(number *out, const number *grad, const number *x,
                              const number *slope, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, block, start, count
    cdef number value
    cdef float16 products[BLOCK]
    if number is float16:
        for block in range((n + BLOCK - 1) // BLOCK):
            start = block * BLOCK
            count = min(<Py_ssize_t>BLOCK, n - start)
            multiply_block(products, grad + start, slope + start * step, step, count)
            for i in range(count):
                out[start + i] = _scalar.leaky_relu_backward(
                    grad[start + i], x[start + i], products[i])
    elif step == 0:
        value = slope[0]
        for i in range(n):
            out[i] = _scalar.leaky_relu_backward(grad[i], x[i], product(grad[i], value))
    else:
        for i in range(n):
            out[i] = _scalar.leaky_relu_backward(grad[i], x[i], product(grad[i], slope[i]))


cdef KernelTable table


cdef void fill(const number *dtype_marker, int dtype) noexcept:
    # A kernel is called with void pointers to its own type: the same call in every C ABI.
    table.itemsize[dtype] = sizeof(number)
    table.kernel[RELU][dtype] = <Kernel>relu[number]
    table.kernel[RELU_SUBGRADIENT][dtype] = <Kernel>relu_subgradient[number]
    table.kernel[RELU_BACKWARD][dtype] = <Kernel>relu_backward[number]
    table.kernel[LEAKY_RELU][dtype] = <Kernel>leaky_relu[number]
    table.kernel[LEAKY_RELU_SUBGRADIENT][dtype] = <Kernel>leaky_relu_subgradient[number]
    table.kernel[LEAKY_RELU_BACKWARD][dtype] = <Kernel>leaky_relu_backward[number]


fill(<const _scalar.float16 *>NULL, FLOAT16)
fill(<const _scalar.bfloat16 *>NULL, BFLOAT16)
fill(<const _scalar.float32 *>NULL, FLOAT32)
fill(<const _scalar.float64 *>NULL, FLOAT64)
fill(<const _scalar.longdouble *>NULL, LONGDOUBLE)
fill(<const _scalar.int8 *>NULL, INT8)
fill(<const _scalar.int16 *>NULL, INT16)
fill(<const _scalar.int32 *>NULL, INT32)
fill(<const _scalar.int64 *>NULL, INT64)
fill(<const _scalar.uint8 *>NULL, UINT8)
fill(<const _scalar.uint16 *>NULL, UINT16)
fill(<const _scalar.uint32 *>NULL, UINT32)
fill(<const _scalar.uint64 *>NULL, UINT64)

kernel_table = PyCapsule_New(&table, "relu_ext.KernelTable", NULL)
