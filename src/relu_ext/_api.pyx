"""The front door: a call reaches its kernel in tens of nanoseconds, or goes to its ufunc.

Contract: a shortcut, never a second meaning.  The shortcut takes

- exact ndarrays (no subclass) of one dtype, in the machine's byte order.  They may have any strides
  and any shapes that broadcast to the result's.  Each input is the output itself or disjoint from
  it, and no two elements of the output share memory;
- a Python int or float (no subclass) instead of an input other than the first;
- tensors that DLPack's C functions describe, if a new result has the shape of the first one;
- `out`, and NumPy's other keywords at their defaults.

Everything else (lists, subclasses, casts, `where`, a new result without dimensions, partial
overlap) goes to the ufunc.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from libc.math cimport fabs, isinf
from libc.string cimport memcmp, memset
from relu_ext._dispatch cimport active_table
from relu_ext._walk cimport (
    GIL_BYTES, MOST_AXES, Plan, broadcast, is_safe, memory_order, plan, run, size_of, walk,
)
from relu_ext._memory cimport describe, new_tensor
from relu_ext._operand cimport Operand
from relu_ext._table cimport (
    ADD_LEAKY_RELU, ADD_RELU, BFLOAT16, FLOAT16, FLOAT32, FLOAT64, LEAKY_RELU, LEAKY_RELU_BACKWARD,
    LEAKY_RELU_SUBGRADIENT, LONGDOUBLE, RELU, RELU_BACKWARD, RELU_SUBGRADIENT,
)
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, native_dtype, new_array,
)

from relu_ext import ufuncs
from relu_ext._memory import arrays_of, call_ufunc, is_sparse, write_sparse, writeable_array

cnp.import_array()

cdef extern from "Python.h":
    double PyLong_AsDouble(object) noexcept  # -1 and an exception set; Cython's own raises it

cdef extern from "numpy/ndarrayobject.h":
    int PyArray_Pack(PyArray_Descr *, void *, object)

cdef enum:
    ORDERS = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS
    WRITEABLE = cnp.NPY_ARRAY_WRITEABLE

cdef double LARGEST_FLOAT16 = 65504.0
cdef double LARGEST_BFLOAT16 = 3.3895313892515355e38
cdef str SAME_KIND = "same_kind"
cdef str K_ORDER = "K"
cdef tuple operations = ufuncs.in_order
cdef tuple names = tuple([ufunc.__name__ for ufunc in operations])
cdef tuple in_place_names = tuple([f"{name}_" for name in names])
__all__ = sorted(names + in_place_names)

ctypedef union Number:
    float float32
    double float64
    long double largest


def _empty(x, /):
    """An empty call: the benchmarks take its time as the least that any call can take."""
    return x


# Which operands an operation has.  The compiler makes constants of these once they are inlined.

cdef inline bint has_second(int operation) noexcept:
    return (operation == RELU_BACKWARD or operation == LEAKY_RELU_BACKWARD or operation == ADD_RELU
            or operation == ADD_LEAKY_RELU)


cdef inline bint has_parameter(int operation) noexcept:
    return operation != RELU and operation != ADD_RELU


# The common call: contiguous ndarrays of one shape.

cdef inline int array_dtype(int operation, object x) noexcept:
    """The kernels' dtype for an ndarray, -1 if the operation has no kernel for it."""
    if operation != RELU and cnp.PyArray_ISBOOL(<cnp.ndarray>x):
        return -1  # only relu takes bool, as uint8
    return native_dtype(PyArray_DESCR(<PyArrayObject *>x))


cdef inline int contiguous_dtype(int operation, object x) noexcept:
    """The kernels' dtype for a contiguous, exact ndarray, -1 for anything else."""
    if not (cnp.PyArray_CheckExact(x) and cnp.PyArray_FLAGS(<cnp.ndarray>x) & ORDERS):
        return -1
    return array_dtype(operation, x)


cdef inline bint is_writeable(object x) noexcept:
    return cnp.PyArray_FLAGS(<cnp.ndarray>x) & WRITEABLE


cdef inline Py_ssize_t count(object x) noexcept:
    cdef Py_ssize_t size = 1
    cdef int i
    for i in range(cnp.PyArray_NDIM(<cnp.ndarray>x)):
        size *= cnp.PyArray_DIMS(<cnp.ndarray>x)[i]
    return size


cdef inline char *data_of(object x) noexcept:
    return <char *>cnp.PyArray_DATA(<cnp.ndarray>x)


cdef bint match(object x, object other) noexcept:
    """Whether `other` is an exact ndarray with the shape, memory order, dtype and byte order of x,
    which is contiguous, and shares all of its memory with x or none."""
    if not cnp.PyArray_CheckExact(other):
        return False
    cdef cnp.ndarray a = <cnp.ndarray>x
    cdef cnp.ndarray b = <cnp.ndarray>other
    cdef Py_ssize_t bytes = count(a) * cnp.PyArray_ITEMSIZE(a)
    return (
        cnp.PyArray_FLAGS(a) & cnp.PyArray_FLAGS(b) & ORDERS
        and cnp.PyArray_NDIM(a) == cnp.PyArray_NDIM(b)
        and (cnp.PyArray_NDIM(a) == 0  # whose dimensions are NULL
             or memcmp(cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b),
                       cnp.PyArray_NDIM(a) * sizeof(cnp.npy_intp)) == 0)
        and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b)
        and cnp.PyArray_ISNOTSWAPPED(a) == cnp.PyArray_ISNOTSWAPPED(b)
        and (data_of(a) == data_of(b) or data_of(a) + bytes <= data_of(b)
             or data_of(b) + bytes <= data_of(a)))


cdef inline void compute(int operation, int dtype, object out, object a, object b,
                         const Number *parameter, bint fresh) noexcept:
    cdef Py_ssize_t n = count(a)
    cdef char *to = data_of(out)
    cdef const char *first = data_of(a)
    cdef const char *second = data_of(b) if has_second(operation) else NULL
    if n * active_table.itemsize[dtype] < GIL_BYTES:
        run(operation, dtype, to, first, second, parameter, 0, n, fresh)
    else:
        with nogil:
            run(operation, dtype, to, first, second, parameter, 0, n, fresh)


cdef inline object new_like(object x):
    cdef cnp.ndarray array = <cnp.ndarray>x
    return new_array(
        PyArray_DESCR(<PyArrayObject *>x), cnp.PyArray_NDIM(array),
        <const Py_ssize_t *>cnp.PyArray_DIMS(array), NULL,
        not cnp.PyArray_FLAGS(array) & cnp.NPY_ARRAY_C_CONTIGUOUS)


cdef bint pack(object value, int dtype, object x, Number *number) noexcept:
    """Write a Python number in the dtype of x, as NumPy would.

    Return False to leave the value to the ufunc: a value of another type, a float that promotes
    integers, or a number out of range, about which NumPy warns or raises.
    """
    cdef double real
    if PyFloat_CheckExact(value):
        if dtype > LONGDOUBLE:
            return False
        real = PyFloat_AS_DOUBLE(value)
    elif PyLong_CheckExact(value):
        real = PyLong_AsDouble(value)
        if real == -1 and PyErr_Occurred() != NULL:
            PyErr_Clear()
            return False
    else:
        return False
    if dtype == FLOAT32:
        number.float32 = <float>real
        return not isinf(number.float32) or isinf(real)
    if dtype == FLOAT64:
        number.float64 = real
        return True
    if real == 0 and PyLong_CheckExact(value):
        memset(number, 0, sizeof(Number))
        return True
    if not cnp.PyArray_Check(x):
        return False  # x is a tensor, which has no NumPy dtype
    if dtype == FLOAT16 and LARGEST_FLOAT16 < fabs(real) and not isinf(real):
        return False
    if dtype == BFLOAT16 and LARGEST_BFLOAT16 < fabs(real) and not isinf(real):
        return False
    if PyArray_Pack(PyArray_DESCR(<PyArrayObject *>x), number, value) < 0:
        PyErr_Clear()
        return False
    return True


# Every other call that is walked: any layout, broadcasting, tensors.

cdef bint describe_array(int operation, object x, Operand *operand) noexcept:
    """Describe an exact ndarray; False if the operation has no kernel for its dtype."""
    if not cnp.PyArray_CheckExact(x):
        return False
    describe_ndarray(x, array_dtype(operation, x), operand)
    return operand.dtype >= 0


cdef inline bint describe_any(int operation, str name, object x, Operand *operand) except -1:
    """Describe an exact ndarray or a tensor; False for anything else."""
    if cnp.PyArray_CheckExact(x):
        return describe_array(operation, x, operand)
    return describe(name, x, operand)


cdef inline bint is_bool(object x) noexcept:
    return cnp.PyArray_CheckExact(x) and cnp.PyArray_ISBOOL(<cnp.ndarray>x)


cdef bint agree(object x, const Operand *a, object y, const Operand *b) noexcept:
    """Whether two arrays have one dtype.  The kernels' dtypes do not tell: bool is computed as
    uint8, and several of NumPy's integers are computed as one."""
    if cnp.PyArray_CheckExact(x) and cnp.PyArray_CheckExact(y):
        return cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.PyArray_TYPE(<cnp.ndarray>y)
    return a.dtype == b.dtype and not is_bool(x) and not is_bool(y)


cdef bint describe_input(int operation, str name, object x, object first, const Operand *described,
                         Operand *operand, Number *number, bint new_is_array) except -1:
    """Describe an input other than the first one, which is `described`.

    The input is an array of the same dtype, or a Python number, which is packed into `number`.  A
    tensor is taken unless the result is a new ndarray.
    """
    if not cnp.PyArray_CheckExact(x):
        operand.data = <char *>number
        operand.axes = 0
        if pack(x, described.dtype, first, number):
            return True
        if new_is_array:
            return False
    return describe_any(operation, name, x, operand) and agree(first, described, x, operand)


cdef bint is_contiguous(const Operand *operand) noexcept:
    cdef Py_ssize_t step = active_table.itemsize[operand.dtype]
    cdef int i
    for i in range(operand.axes - 1, -1, -1):
        if operand.strides[i] * operand.stride_unit != step and operand.shape[i] != 1:
            return False
        step *= operand.shape[i]
    return True


cdef void run_in_place(int operation, const Operand *x, const Number *parameter) noexcept:
    cdef Py_ssize_t n = 1
    cdef int i
    for i in range(x.axes):
        n *= x.shape[i]
    if n * active_table.itemsize[x.dtype] < GIL_BYTES:
        run(operation, x.dtype, x.data, x.data, NULL, parameter, 0, n, False)
    else:
        with nogil:
            run(operation, x.dtype, x.data, x.data, NULL, parameter, 0, n, False)


cdef object compute_walked(int operation, object x, object y, object parameter, object out):
    """Compute into `out`, which may be x, or into a new array if it is None.  Return the result, or
    None if this call is not walked."""
    cdef Operand operands[4]  # x, y, the parameter, out
    cdef const Operand *second = NULL
    cdef const Operand *third = NULL
    cdef Number numbers[2]
    cdef Plan laid
    cdef Py_ssize_t shape[MOST_AXES]
    cdef Py_ssize_t strides[MOST_AXES]
    cdef int axes
    cdef bint fresh = out is None
    cdef str name = <str>(in_place_names if out is x else names)[operation]
    cdef bint new_is_array = fresh and cnp.PyArray_CheckExact(x)
    if fresh and not new_is_array:
        # Before any operand is described: its allocation may run a finalizer that releases x.
        out = new_tensor(name, x)
    if not describe_any(operation, name, x, &operands[0]):
        return None
    if (out is x and not has_second(operation) and operands[0].writeable
            and is_contiguous(&operands[0])
            and (not has_parameter(operation)
                 or pack(parameter, operands[0].dtype, x, &numbers[1]))):
        run_in_place(operation, &operands[0], &numbers[1])  # 25 ns less than with a plan
        return out
    if has_second(operation):
        if not describe_input(
                operation, name, y, x, &operands[0], &operands[1], &numbers[0],
                new_is_array):
            return None
        second = &operands[1]
    if has_parameter(operation):
        if not describe_input(
                operation, name, parameter, x, &operands[0], &operands[2], &numbers[1],
                new_is_array):
            return None
        third = &operands[2]
    if new_is_array:
        axes = broadcast(shape, &operands[0], second, third)
        if axes <= 0:
            return None  # the ufunc raises an error or makes a scalar
        memory_order(strides, active_table.itemsize[operands[0].dtype], axes, shape,
                     &operands[0], second, third)
        out = new_array(PyArray_DESCR(<PyArrayObject *>x), axes, shape, strides, False)
    if out is x:
        operands[3] = operands[0]
    elif not (describe_any(operation, name, out, &operands[3])
              and agree(x, &operands[0], out, &operands[3])):
        return None
    if not (operands[3].writeable
            and plan(&laid, operation, operands[0].dtype, &operands[3], &operands[0], second, third,
                     fresh)
            and (fresh or is_safe(&laid))):
        return None
    if size_of(&laid) * laid.itemsize < GIL_BYTES:
        walk(&laid)
    else:
        with nogil:
            walk(&laid)
    return out


# The two bodies of the public functions.

cdef inline object evaluate(int operation, object x, object y, object parameter, object out, where,
                            casting, order, dtype, subok):
    cdef Number number
    cdef int kernel_dtype
    if (where is True and casting is SAME_KIND and order is K_ORDER and dtype is None
            and subok is True):
        kernel_dtype = contiguous_dtype(operation, x)
        if (kernel_dtype >= 0 and (out is None or match(x, out) and is_writeable(out))
                and cnp.PyArray_NDIM(<cnp.ndarray>x) > 0
                and (not has_second(operation)
                     or match(x, y) and (out is None or match(out, y)))
                and (not has_parameter(operation) or pack(parameter, kernel_dtype, x, &number))):
            result = new_like(x) if out is None else out
            compute(operation, kernel_dtype, result, x, y,
                    &number if has_parameter(operation) else NULL, out is None)
            return result
        result = compute_walked(operation, x, y, parameter, out)
        if result is not None:
            return result
    return call(operation, x, y, parameter, out, where, casting, order, dtype, subok)


cdef inline object evaluate_in_place(int operation, object x, object y, object parameter):
    cdef Number number
    cdef int kernel_dtype = contiguous_dtype(operation, x)
    if (kernel_dtype >= 0 and is_writeable(x)
            and (not has_second(operation) or match(x, y))
            and (not has_parameter(operation) or pack(parameter, kernel_dtype, x, &number))):
        compute(operation, kernel_dtype, x, x, y,
                &number if has_parameter(operation) else NULL, False)
        return x
    if compute_walked(operation, x, y, parameter, x) is not None:
        return x
    return call_in_place(operation, x, y, parameter)


# Through the ufunc.

cdef object operands_of(int operation, object x, object y, object parameter):
    if has_second(operation):
        return (x, y, parameter) if has_parameter(operation) else (x, y)
    return (x, parameter) if has_parameter(operation) else (x,)


cdef object call(int operation, object x, object y, object parameter, object out, where, casting,
                 order, dtype, subok):
    """Call the ufunc, with only the keywords that were given: the `__array_ufunc__` of an operand
    may refuse a keyword that it does not know, even at its default."""
    keywords = {}
    if out is not None:
        keywords["out"] = out
    if where is not True:
        keywords["where"] = where
    if casting is not SAME_KIND:
        keywords["casting"] = casting
    if order is not K_ORDER:
        keywords["order"] = order
    if dtype is not None:
        keywords["dtype"] = dtype
    if subok is not True:
        keywords["subok"] = subok
    return call_ufunc(operations[operation], operands_of(operation, x, y, parameter), keywords)


cdef object call_in_place(int operation, object x, object y, object parameter):
    name = in_place_names[operation]
    ufunc = operations[operation]
    if is_sparse(x):
        write_sparse(name, ufunc, operands_of(operation, x, y, parameter))
        return x
    array = writeable_array(name, x)
    others = arrays_of(name, operands_of(operation, array, y, parameter), x)
    if ufunc(*others, out=array) is not array:
        raise TypeError(
            f"{name}: an __array_ufunc__ or __array_wrap__ of the operands returned "
            f"an object other than the one to write, which may have been written")
    return x


# The public functions.  `fill_docs` writes what their docstrings share.  Those of the functions in
# place get what the others say about the result.

def relu(x, /, *, out=None, where=True, casting="same_kind", order="K", dtype=None, subok=True):
    """Rectified linear unit: max(0, x) for each element.

    {parameters}

    Returns
    -------
    ndarray or scalar
        x where x > 0 and +0 where x <= 0, -0.0 included, as in ``np.maximum(x, 0)``; NaN stays as
        it is.  The dtype is that of `x`.

    See Also
    --------
    relu_ : The same in place, several times as fast.
    add_relu : ReLU of a sum, in one pass.

    Examples
    --------
    {imports}
    >>> relu_ext.relu(np.array([-2.0, -0.0, 3.0, np.nan]))
    array([ 0.,  0.,  3., nan])
    """
    return evaluate(RELU, x, None, None, out, where, casting, order, dtype, subok)


def relu_(x, /):
    """Rectified linear unit in place: `relu` written over `x`.

    {in_place}

    Examples
    --------
    {imports}
    >>> x = np.array([-2.0, 3.0])
    >>> relu_ext.relu_(x) is x
    True
    >>> x
    array([0., 3.])
    """
    return evaluate_in_place(RELU, x, None, None)


def relu_subgradient(x, /, *, at_zero=0, out=None, where=True, casting="same_kind", order="K",
                     dtype=None, subok=True):
    """A subgradient of `relu` at each element.

    {parameters}

    Returns
    -------
    ndarray or scalar
        1 where x > 0, 0 where x < 0, `at_zero` where x is +0 or -0, and NaN where x is NaN.
        The dtype is that of ``x * at_zero``.

    See Also
    --------
    relu_backward : The product with a gradient, in one pass.

    Examples
    --------
    {imports}
    >>> relu_ext.relu_subgradient(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 1.])
    >>> relu_ext.relu_subgradient(np.array([-2.0, 0.0, 3.0]), at_zero=0.5)
    array([0. , 0.5, 1. ])
    """
    return evaluate(RELU_SUBGRADIENT, x, None, at_zero, out, where, casting, order, dtype, subok)


def relu_subgradient_(x, /, *, at_zero=0):
    """A subgradient of `relu` in place: `relu_subgradient` written over `x`.

    {in_place}

    Examples
    --------
    {imports}
    >>> relu_ext.relu_subgradient_(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 1.])
    """
    return evaluate_in_place(RELU_SUBGRADIENT, x, None, at_zero)


def relu_backward(grad, x, /, *, at_zero=0, out=None, where=True, casting="same_kind", order="K",
                  dtype=None, subok=True):
    """The gradient of a loss through `relu`: `grad` where x > 0, in one pass.

    {parameters}

    Returns
    -------
    ndarray or scalar
        grad where x > 0 and 0 where x < 0, even if grad is inf or NaN.  At x = ±0: 0 if `at_zero`
        is 0, grad if it is 1, else ``at_zero * grad``.  Where x is NaN: grad (PyTorch's rule).
        The dtype is that of ``grad * x * at_zero``.

    Notes
    -----
    If `at_zero` is 0, the output of `relu` may be given instead of its input, because it is 0
    wherever x <= 0.

    Examples
    --------
    {imports}
    >>> grad, x = np.array([5.0, 6.0, 7.0]), np.array([2.0, -1.0, 0.0])
    >>> relu_ext.relu_backward(grad, x)
    array([5., 0., 0.])
    >>> relu_ext.relu_backward(grad, x, at_zero=0.5)
    array([5. , 0. , 3.5])
    """
    return evaluate(RELU_BACKWARD, grad, x, at_zero, out, where, casting, order, dtype, subok)


def relu_backward_(grad, x, /, *, at_zero=0):
    """The gradient through `relu` in place, written over `grad`.

    {in_place}

    Examples
    --------
    {imports}
    >>> grad = np.array([5.0, 6.0])
    >>> relu_ext.relu_backward_(grad, np.array([2.0, -1.0]))
    array([5., 0.])
    """
    return evaluate_in_place(RELU_BACKWARD, grad, x, at_zero)


def leaky_relu(x, /, negative_slope=0.01, *, out=None, where=True, casting="same_kind", order="K",
               dtype=None, subok=True):
    """Leaky rectified linear unit: x, multiplied by `negative_slope` where x is negative.

    {parameters}

    Returns
    -------
    ndarray or scalar
        x where x >= 0 (-0.0 keeps its sign) and ``negative_slope * x`` where x < 0; NaN stays as
        it is.  The dtype is that of ``x * negative_slope``.

    Notes
    -----
    A slope other than 0 solves the dying-ReLU problem: a unit whose input is negative for every
    sample still receives a gradient.

    Examples
    --------
    {imports}
    >>> relu_ext.leaky_relu(np.array([-2.0, -0.0, 3.0]), 0.5)
    array([-1., -0.,  3.])
    """
    return evaluate(LEAKY_RELU, x, None, negative_slope, out, where, casting, order, dtype, subok)


def leaky_relu_(x, /, negative_slope=0.01):
    """Leaky rectified linear unit in place: `leaky_relu` written over `x`.

    {in_place}

    Examples
    --------
    {imports}
    >>> relu_ext.leaky_relu_(np.array([-2.0, 3.0]), 0.5)
    array([-1.,  3.])
    """
    return evaluate_in_place(LEAKY_RELU, x, None, negative_slope)


def leaky_relu_subgradient(x, /, negative_slope=0.01, *, out=None, where=True, casting="same_kind",
                           order="K", dtype=None, subok=True):
    """A subgradient of `leaky_relu` at each element.

    {parameters}

    Returns
    -------
    ndarray or scalar
        1 where x > 0, `negative_slope` where x <= 0 (PyTorch's choice at ±0; JAX takes 1), and NaN
        where x is NaN.  The dtype is that of ``x * negative_slope``.

    Examples
    --------
    {imports}
    >>> relu_ext.leaky_relu_subgradient(np.array([-2.0, 0.0, 3.0]), 0.5)
    array([0.5, 0.5, 1. ])
    """
    return evaluate(LEAKY_RELU_SUBGRADIENT, x, None, negative_slope, out, where, casting, order,
                    dtype, subok)


def leaky_relu_subgradient_(x, /, negative_slope=0.01):
    """A subgradient of `leaky_relu` in place, written over `x`.

    {in_place}

    Examples
    --------
    {imports}
    >>> relu_ext.leaky_relu_subgradient_(np.array([-2.0, 3.0]), 0.5)
    array([0.5, 1. ])
    """
    return evaluate_in_place(LEAKY_RELU_SUBGRADIENT, x, None, negative_slope)


def leaky_relu_backward(grad, x, /, negative_slope=0.01, *, out=None, where=True,
                        casting="same_kind", order="K", dtype=None, subok=True):
    """The gradient of a loss through `leaky_relu`, in one pass.

    {parameters}

    Returns
    -------
    ndarray or scalar
        grad where x > 0, and ``negative_slope * grad`` where x is < 0, ±0 or NaN (PyTorch's rule).
        The dtype is that of ``grad * x * negative_slope``.

    Notes
    -----
    If the slope is > 0, the output of `leaky_relu` may be given instead of its input, because it
    has the same sign.

    Examples
    --------
    {imports}
    >>> relu_ext.leaky_relu_backward(np.array([5.0, 6.0]), np.array([2.0, -1.0]), 0.5)
    array([5., 3.])
    """
    return evaluate(LEAKY_RELU_BACKWARD, grad, x, negative_slope, out, where, casting, order,
                    dtype, subok)


def leaky_relu_backward_(grad, x, /, negative_slope=0.01):
    """The gradient through `leaky_relu` in place, written over `grad`.

    {in_place}

    Examples
    --------
    {imports}
    >>> relu_ext.leaky_relu_backward_(np.array([5.0, 6.0]), np.array([2.0, -1.0]), 0.5)
    array([5., 3.])
    """
    return evaluate_in_place(LEAKY_RELU_BACKWARD, grad, x, negative_slope)


def add_relu(x, y, /, *, out=None, where=True, casting="same_kind", order="K", dtype=None,
             subok=True):
    """ReLU of a sum in one pass: max(0, x + y), for a bias or a residual.

    {parameters}

    Returns
    -------
    ndarray or scalar
        ``np.maximum(x + y, 0)`` to the last bit: the sum is rounded to the dtype first, and
        integers wrap.  The result is +0 where the sum is <= 0 and NaN where the sum is NaN; where x
        and y are both NaN, it is x's NaN.  The dtype is that of ``x + y``; bool is not supported.

    Notes
    -----
    The gradient with respect to x, and to a y of the same shape, is
    ``relu_backward(grad, output)``.  Its sum over the rows is the gradient with respect to a bias.

    Examples
    --------
    {imports}
    >>> relu_ext.add_relu(np.array([[-2.0, 1.0], [0.5, -3.0]]), np.array([1.0, 2.0]))
    array([[0. , 3. ],
           [1.5, 0. ]])
    """
    return evaluate(ADD_RELU, x, y, None, out, where, casting, order, dtype, subok)


def add_relu_(x, y, /):
    """ReLU of a sum in place: `add_relu` written over `x`.

    {in_place}

    Examples
    --------
    {imports}
    >>> x = np.array([[-2.0, 1.0], [0.5, -3.0]])
    >>> relu_ext.add_relu_(x, np.array([1.0, 2.0]))
    array([[0. , 3. ],
           [1.5, 0. ]])
    """
    return evaluate_in_place(ADD_RELU, x, y, None)


def add_leaky_relu(x, y, /, negative_slope=0.01, *, out=None, where=True, casting="same_kind",
                   order="K", dtype=None, subok=True):
    """Leaky ReLU of a sum in one pass, for a bias or a residual.

    {parameters}

    Returns
    -------
    ndarray or scalar
        ``leaky_relu(x + y, negative_slope)`` to the last bit: the sum is rounded to the dtype
        first.  Where x and y are both NaN, the result is x's NaN.  The dtype is that of
        ``(x + y) * negative_slope``; bool is not supported.

    Notes
    -----
    The gradient with respect to x, and to a y of the same shape, is
    ``leaky_relu_backward(grad, output, negative_slope)`` if the slope is > 0.  Its sum over the
    rows is the gradient with respect to a bias.

    Examples
    --------
    {imports}
    >>> relu_ext.add_leaky_relu(np.array([-2.0, 1.0]), np.array([1.0, 2.0]), 0.5)
    array([-0.5,  3. ])
    """
    return evaluate(ADD_LEAKY_RELU, x, y, negative_slope, out, where, casting, order, dtype, subok)


def add_leaky_relu_(x, y, /, negative_slope=0.01):
    """Leaky ReLU of a sum in place: `add_leaky_relu` written over `x`.

    {in_place}

    Examples
    --------
    {imports}
    >>> relu_ext.add_leaky_relu_(np.array([-2.0, 1.0]), 1.0, 0.5)
    array([-0.5,  2. ])
    """
    return evaluate_in_place(ADD_LEAKY_RELU, x, y, negative_slope)


# What docstrings say of an operand: of the first one, and of the others.
cdef dict FIRST = {
    "x": """\
x : array_like
    Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.""",
    "grad": """\
grad : array_like
    The gradient with respect to the output, of any shape and any floating (ml_dtypes' bfloat16
    included) or integer dtype.""",
}
cdef dict OTHERS = {
    "x": """\
x : array_like
    The input of the forward pass.""",
    "y": """\
y : scalar or array_like
    A bias, a residual or a number; it broadcasts.  A Python number keeps the dtype of x.""",
    "at_zero": """\
at_zero : scalar or array_like, default 0
    The subgradient at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
    scikit-learn use 0, some textbooks 1.  A Python number keeps a floating dtype.""",
    "negative_slope": """\
negative_slope : scalar or array_like, default 0.01
    The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
    floating dtype; an array broadcasts (PReLU).""",
}
cdef str HEADING = "Parameters\n----------"
cdef str KEYWORDS = """\
out, where, casting, order, dtype, subok
    As for any NumPy ufunc."""
cdef str TARGET = """\
{} : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
    It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
    the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``."""
cdef str IN_PLACE = """\
{parameters}

Returns
-------
object
    `{first}` itself.  Its elements become:
{result}

Raises
------
TypeError
    If the argument cannot be written in place (a list, raw bytes), if a dtype is not supported,
    or if the result's dtype does not cast to the argument's.
BufferError
    If writing the memory of a tensor would not change its value correctly: it requires a gradient,
    has a lazy negation, is sparse, or has a tangent.  The message says what to call instead.
ValueError
    If the argument is read-only, or if the others do not broadcast to its shape."""

cdef extern from *:
    """
    static const char *relu_ext_doc(PyObject *function)
    {
        return ((PyCFunctionObject *)function)->m_ml->ml_doc;
    }
    static void relu_ext_set_doc(PyObject *function, const char *doc)
    {
        ((PyCFunctionObject *)function)->m_ml->ml_doc = doc;
    }
    """
    const char *doc_of "relu_ext_doc"(object function)
    void set_doc "relu_ext_set_doc"(object function, const char *doc)

cdef list docs = []  # keeps alive what the functions point to


cdef fill_doc(object function, dict paragraphs):
    docs.append(doc_of(function).decode().format_map(paragraphs).encode())
    set_doc(function, docs[-1])


cdef fill_docs():
    for description in ufuncs.descriptions:
        first, *others = description.arrays
        if description.parameter is not None:
            others.append(description.parameter)
        others = [OTHERS[name] for name in others]
        function = globals()[description.name]
        result = doc_of(function).decode().partition("ndarray or scalar\n")[2].partition("\n\n")[0]
        paragraphs = {
            "parameters": "\n".join([HEADING, FIRST[first], *others, KEYWORDS]),
            "in_place": IN_PLACE.format(
                parameters="\n".join([HEADING, TARGET.format(first), *others]),
                first=first, result=without_dtype(result)),
            "imports": ">>> import numpy as np\n>>> import relu_ext",
        }
        fill_doc(function, paragraphs)
        fill_doc(globals()[description.name + "_"], paragraphs)


cdef str without_dtype(str result):
    """What a docstring says of the elements, before it comes to the dtype."""
    return result[:result.index("The dtype is")].rstrip()


fill_docs()


# Without the GIL, threads that call one function contend for its reference count.  Two threads with
# 64 float32 each made 0.65 times the calls of one thread (CPython 3.13t), and make 2.0 times since
# the functions are immortal.  The module never frees them anyway.

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    /* More than UINT32_MAX: immortal, says the C API. */
    #define RELU_EXT_STOP_COUNTING(function) Py_SET_REFCNT((function), PY_SSIZE_T_MAX)
    #else
    #define RELU_EXT_STOP_COUNTING(function) ((void)(function))
    #endif
    """
    void stop_counting "RELU_EXT_STOP_COUNTING"(object function)


cdef stop_counting_functions():
    for function in list(globals().values()):
        if type(function) is type(relu):
            stop_counting(function)


stop_counting_functions()
