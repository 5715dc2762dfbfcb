"""The front door: the common call in tens of nanoseconds, every other call through the ufuncs.

Contract: a shortcut, never a second meaning.  The short cut is for ndarrays proper of one shape,
one dtype and the machine's byte order, contiguous in one order, each input being the output
itself or disjoint from it, and for a parameter that is exactly a Python int or float.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject
from libc.math cimport fabs, isinf
from libc.string cimport memcmp, memset
from relu_ext._dispatch cimport active_table
from relu_ext._driver cimport run
from relu_ext._table cimport (
    BFLOAT16, FLOAT16, FLOAT32, FLOAT64, LEAKY_RELU, LEAKY_RELU_BACKWARD,
    LEAKY_RELU_SUBGRADIENT, LONGDOUBLE, RELU, RELU_BACKWARD, RELU_SUBGRADIENT,
)
from relu_ext.ufuncs cimport PyArray_DESCR, PyArray_Descr, PyArrayObject, native_dtype

from relu_ext import ufuncs
from relu_ext._memory import array_over, writeable_array

cnp.import_array()

cdef extern from "Python.h":
    double PyLong_AsDouble(object) noexcept  # -1 and an exception set; Cython's own raises it

cdef extern from "numpy/ndarrayobject.h":
    PyTypeObject PyArray_Type
    object PyArray_NewFromDescr(
        PyTypeObject *, PyArray_Descr *, int, cnp.npy_intp *, cnp.npy_intp *, void *, int,
        PyObject *)
    int PyArray_Pack(PyArray_Descr *, void *, object)

cdef enum:
    ORDERS = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS
    WRITEABLE = cnp.NPY_ARRAY_WRITEABLE
    # Releasing the GIL and taking it again costs 54 ns alone (AMD EPYC, CPython 3.11) and the
    # waking of a thread where another waits: two threads in place on an array each were together
    # 0.8 to 1.3 times as fast as one after the other at 512 KiB, 1.1 times at 1 MiB, 1.5 at 4 MiB.
    GIL_BYTES = 1 << 20

cdef double LARGEST_FLOAT16 = 65504.0
cdef double LARGEST_BFLOAT16 = 3.3895313892515355e38
cdef str SAME_KIND = "same_kind"
cdef str K_ORDER = "K"

ctypedef union Parameter:
    float float32
    double float64
    long double largest


def _empty(x, /):
    """What a call costs before it does anything: the floor of the benchmarks."""
    return x


# The short cut.

cdef inline int shortcut_dtype(object x) noexcept:
    """The kernels' dtype for a contiguous ndarray proper, -1 for anything else."""
    if not (cnp.PyArray_CheckExact(x) and cnp.PyArray_FLAGS(<cnp.ndarray>x) & ORDERS):
        return -1
    return native_dtype(PyArray_DESCR(<PyArrayObject *>x))


cdef inline bint is_writeable(object x) noexcept:
    return cnp.PyArray_FLAGS(<cnp.ndarray>x) & WRITEABLE


cdef inline Py_ssize_t size_of(object x) noexcept:
    cdef Py_ssize_t size = 1
    cdef int i
    for i in range(cnp.PyArray_NDIM(<cnp.ndarray>x)):
        size *= cnp.PyArray_DIMS(<cnp.ndarray>x)[i]
    return size


cdef inline char *data_of(object x) noexcept:
    return <char *>cnp.PyArray_DATA(<cnp.ndarray>x)


cdef bint match(object x, object y) noexcept:
    """Whether two ndarrays proper agree in shape, memory order, dtype and byte order, and share all
    of their memory or none."""
    cdef cnp.ndarray a = <cnp.ndarray>x
    cdef cnp.ndarray b = <cnp.ndarray>y
    cdef Py_ssize_t bytes = size_of(b) * cnp.PyArray_ITEMSIZE(b)
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


cdef inline object new_like(object x):
    cdef cnp.ndarray array = <cnp.ndarray>x
    cdef PyArray_Descr *dtype = PyArray_DESCR(<PyArrayObject *>array)
    Py_INCREF(<object>dtype)  # PyArray_NewFromDescr steals it
    return PyArray_NewFromDescr(
        &PyArray_Type, dtype, cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), NULL, NULL,
        # As flags: anything but 0 asks for Fortran's order.
        not cnp.PyArray_FLAGS(array) & cnp.NPY_ARRAY_C_CONTIGUOUS, NULL)


cdef inline void compute(int operation, int dtype, object out, object a, const void *b,
                         const Parameter *parameter, bint fresh) noexcept:
    cdef Py_ssize_t n = size_of(a)
    cdef char *to = data_of(out)
    cdef const char *source = data_of(a)
    if n * active_table.itemsize[dtype] < GIL_BYTES:
        run(operation, dtype, to, source, b, parameter, 0, n, fresh)
    else:
        with nogil:
            run(operation, dtype, to, source, b, parameter, 0, n, fresh)


cdef object compute_into(object out, int operation, int dtype, object a, object b,
                         const Parameter *parameter):
    """The operation into `out`, or a new array for None; None where there is no short cut."""
    if cnp.PyArray_NDIM(<cnp.ndarray>a) == 0:
        return None  # the result is a scalar
    if b is not None and not (cnp.PyArray_CheckExact(b) and match(a, b)):
        return None
    fresh = out is None
    if fresh:
        out = new_like(a)
    elif not (cnp.PyArray_CheckExact(out) and is_writeable(out) and match(out, a)
              and (b is None or match(out, b))):
        return None
    compute(operation, dtype, out, a, NULL if b is None else data_of(b), parameter, fresh)
    return out


cdef inline bint is_plain(where, casting, order, dtype, subok) noexcept:
    return (where is True and casting is SAME_KIND and order is K_ORDER and dtype is None
            and subok is True)


cdef bint pack(object value, int dtype, object x, Parameter *parameter) noexcept:
    """Write a Python number in the array's dtype, as NumPy would.

    False leaves the number to the ufunc: another type; a float for integers, which promotes; what
    is out of range, for NumPy's own warning or error.
    """
    cdef double number
    if PyFloat_CheckExact(value):
        if dtype > LONGDOUBLE:
            return False
        number = PyFloat_AS_DOUBLE(value)
    elif PyLong_CheckExact(value):
        number = PyLong_AsDouble(value)
        if number == -1 and PyErr_Occurred() != NULL:
            PyErr_Clear()
            return False
    else:
        return False
    if dtype == FLOAT32:
        parameter.float32 = <float>number
        return not isinf(parameter.float32) or isinf(number)
    if dtype == FLOAT64:
        parameter.float64 = number
        return True
    if cnp.PyArray_ISBOOL(<cnp.ndarray>x):
        return False  # promotes, as in x * value; only relu keeps bool, which it takes as uint8
    if number == 0 and PyLong_CheckExact(value):
        memset(parameter, 0, sizeof(Parameter))
        return True
    if dtype == FLOAT16 and LARGEST_FLOAT16 < fabs(number) and not isinf(number):
        return False
    if dtype == BFLOAT16 and LARGEST_BFLOAT16 < fabs(number) and not isinf(number):
        return False
    if PyArray_Pack(PyArray_DESCR(<PyArrayObject *>x), parameter, value) < 0:
        PyErr_Clear()
        return False
    return True


# The long way.

cdef object call(ufunc, tuple operands, out, where, casting, order, dtype, subok):
    """Hand a call on, with the keywords that were given: other people's `__array_ufunc__` may
    refuse one that it does not know, even at its default."""
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
    return ufunc(*operands, **keywords)


cdef object call_in_place(ufunc, target, tuple others):
    array = writeable_array(ufunc.__name__, target)
    if array is not target and hasattr(type(target), "__dlpack__"):
        # Of its own kind too, because np.asarray does not take every tensor: none of bfloat16.
        others = tuple([
            array_over(ufunc.__name__, other) if type(other) is type(target) else other
            for other in others])
    if ufunc(array, *others, out=array) is not array:
        raise TypeError(
            f"{ufunc.__name__}_: an __array_ufunc__ or __array_wrap__ of the operands returned "
            f"another object than the one to write in, which may have been written")
    return target


# The public functions.

def relu(x, /, *, out=None, where=True, casting="same_kind", order="K", dtype=None, subok=True):
    """Rectified linear unit: max(0, x) for each element.

    Parameters
    ----------
    x : array_like
        Any shape; floating (bfloat16 of ml_dtypes too), integer or bool.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.

    Returns
    -------
    ndarray or scalar
        x where x > 0 and +0 where x <= 0, -0.0 included, as in ``np.maximum(x, 0)``; NaN stays as
        it is.  The dtype is that of `x`.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object) or not castable.
    ValueError
        If shapes do not broadcast, or `out` is read-only or of another shape.

    See Also
    --------
    relu_ : The same in place, several times as fast.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.relu(np.array([-2.0, -0.0, 3.0, np.nan]))
    array([ 0.,  0.,  3., nan])
    """
    cdef int kernel_dtype = shortcut_dtype(x)
    if kernel_dtype >= 0 and is_plain(where, casting, order, dtype, subok):
        result = compute_into(out, RELU, kernel_dtype, x, None, NULL)
        if result is not None:
            return result
    return call(ufuncs.relu, (x,), out, where, casting, order, dtype, subok)


def relu_(x, /):
    """Rectified linear unit in place: `relu` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        Overwritten; nothing is copied.  Any shape and layout.

    Returns
    -------
    object
        `x` itself: +0 where it was <= 0, -0.0 included; NaN stays as it is.

    Raises
    ------
    TypeError
        If `x` cannot be written in place (a list, raw bytes), if a dtype is not supported, or if
        the result's dtype does not cast to that of `x`.
    ValueError
        If `x` is read-only or smaller than the other operands.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> x = np.array([-2.0, 3.0])
    >>> relu_ext.relu_(x) is x
    True
    >>> x
    array([0., 3.])
    """
    cdef int kernel_dtype = shortcut_dtype(x)
    if kernel_dtype < 0 or not is_writeable(x):
        return call_in_place(ufuncs.relu, x, ())
    compute(RELU, kernel_dtype, x, x, NULL, NULL, False)
    return x


def relu_subgradient(x, /, *, at_zero=0, out=None, where=True, casting="same_kind", order="K",
                     dtype=None, subok=True):
    """A subgradient of `relu` at each element.

    Parameters
    ----------
    x : array_like
        Any shape; floating (bfloat16 of ml_dtypes too), integer or bool.
    at_zero : scalar or array_like, default 0
        The value at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
        scikit-learn take 0, some textbooks 1.  A Python number keeps a floating dtype.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.

    Returns
    -------
    ndarray or scalar
        1 where x > 0, 0 where x < 0, `at_zero` where x is +0 or -0, and NaN where x is NaN.
        The dtype is that of ``x * at_zero``.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object) or not castable.
    ValueError
        If shapes do not broadcast, or `out` is read-only or of another shape.

    See Also
    --------
    relu_backward : The product with a gradient, in one pass.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.relu_subgradient(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 1.])
    >>> relu_ext.relu_subgradient(np.array([-2.0, 0.0, 3.0]), at_zero=0.5)
    array([0. , 0.5, 1. ])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(x)
    if (kernel_dtype >= 0 and is_plain(where, casting, order, dtype, subok)
            and pack(at_zero, kernel_dtype, x, &parameter)):
        result = compute_into(out, RELU_SUBGRADIENT, kernel_dtype, x, None, &parameter)
        if result is not None:
            return result
    return call(ufuncs.relu_subgradient, (x, at_zero), out, where, casting, order, dtype, subok)


def relu_subgradient_(x, /, *, at_zero=0):
    """A subgradient of `relu` in place: `relu_subgradient` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        Overwritten; nothing is copied.  Any shape and layout.
    at_zero : scalar or array_like, default 0
        The value at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
        scikit-learn take 0, some textbooks 1.  A Python number keeps a floating dtype.

    Returns
    -------
    object
        `x` itself: 1 where it was > 0, 0 where < 0, `at_zero` where ±0; NaN stays as it is.

    Raises
    ------
    TypeError
        If `x` cannot be written in place (a list, raw bytes), if a dtype is not supported, or if
        the result's dtype does not cast to that of `x`.
    ValueError
        If `x` is read-only or smaller than the other operands.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.relu_subgradient_(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 1.])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(x)
    if kernel_dtype < 0 or not is_writeable(x) or not pack(at_zero, kernel_dtype, x, &parameter):
        return call_in_place(ufuncs.relu_subgradient, x, (at_zero,))
    compute(RELU_SUBGRADIENT, kernel_dtype, x, x, NULL, &parameter, False)
    return x


def relu_backward(grad, x, /, *, at_zero=0, out=None, where=True, casting="same_kind", order="K",
                  dtype=None, subok=True):
    """The gradient of a loss through `relu`: `grad` where x > 0, in one pass.

    Parameters
    ----------
    grad : array_like
        Gradient with respect to the output of `relu`.
    x : array_like
        What `relu` was given.  Its output will do instead only for ``at_zero=0``, because it is
        0 wherever x <= 0.
    at_zero : scalar or array_like, default 0
        The share of grad that passes at x = ±0.  Every value from 0 to 1 is a subgradient;
        PyTorch, JAX and scikit-learn take 0, some textbooks 1.  A Python number keeps a floating
        dtype.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.

    Returns
    -------
    ndarray or scalar
        grad where x > 0; 0 where x < 0, even where grad is infinite or NaN; where x is ±0, 0 for
        ``at_zero=0``, grad for ``at_zero=1`` and ``at_zero * grad`` for other values; grad where
        x is NaN (PyTorch's rule).  The dtype is that of ``grad * x * at_zero``.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object) or not castable.
    ValueError
        If shapes do not broadcast, or `out` is read-only or of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> grad = np.array([5.0, np.inf, 7.0])
    >>> relu_ext.relu_backward(grad, np.array([2.0, -1.0, 0.0]))
    array([5., 0., 0.])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(grad)
    if (kernel_dtype >= 0 and is_plain(where, casting, order, dtype, subok)
            and pack(at_zero, kernel_dtype, grad, &parameter)):
        result = compute_into(out, RELU_BACKWARD, kernel_dtype, grad, x, &parameter)
        if result is not None:
            return result
    return call(
        ufuncs.relu_backward, (grad, x, at_zero), out, where, casting, order, dtype, subok)


def relu_backward_(grad, x, /, *, at_zero=0):
    """The gradient through `relu` in place: `relu_backward` written over `grad`.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        Gradient with respect to the output of the forward pass.  Overwritten; nothing is copied.
    x : array_like
        What `relu` was given; its output will do instead only for ``at_zero=0``.
    at_zero : scalar or array_like, default 0
        The share of grad that passes at x = ±0.  Every value from 0 to 1 is a subgradient;
        PyTorch, JAX and scikit-learn take 0, some textbooks 1.  A Python number keeps a floating
        dtype.

    Returns
    -------
    object
        `grad` itself: kept where x > 0 or NaN, 0 where x < 0, its share `at_zero` where x is ±0.

    Raises
    ------
    TypeError
        If `grad` cannot be written in place (a list, raw bytes), if a dtype is not supported, or if
        the result's dtype does not cast to that of `grad`.
    ValueError
        If `grad` is read-only or smaller than the other operands.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.relu_backward_(np.array([5.0, 6.0]), np.array([2.0, -1.0]))
    array([5., 0.])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(grad)
    if (kernel_dtype < 0 or not is_writeable(grad) or not cnp.PyArray_CheckExact(x)
            or not match(grad, x) or not pack(at_zero, kernel_dtype, grad, &parameter)):
        return call_in_place(ufuncs.relu_backward, grad, (x, at_zero))
    compute(RELU_BACKWARD, kernel_dtype, grad, grad, data_of(x), &parameter, False)
    return grad


def leaky_relu(x, /, negative_slope=0.01, *, out=None, where=True, casting="same_kind",
               order="K", dtype=None, subok=True):
    """Leaky rectified linear unit: x where x >= 0, negative_slope * x where x < 0.

    A unit whose input is negative for every sample still passes a gradient, so that it can
    recover: the answer to the dying ReLU (Maas, Hannun and Ng, 2013).

    Parameters
    ----------
    x : array_like
        Any shape; floating (bfloat16 of ml_dtypes too), integer or bool.
    negative_slope : scalar or array_like, default 0.01
        The slope for x < 0 (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a floating
        dtype; an array broadcasts (PReLU).
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.

    Returns
    -------
    ndarray or scalar
        As ``np.where(x < 0, x * negative_slope, x)``: -0.0 and NaN stay as they are.  Overflow and
        underflow are silent.  The dtype is that of ``x * negative_slope``.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object) or not castable.
    ValueError
        If shapes do not broadcast, or `out` is read-only or of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.leaky_relu(np.array([-2.0, -0.0, 3.0]), 0.5)
    array([-1., -0.,  3.])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(x)
    if (kernel_dtype >= 0 and is_plain(where, casting, order, dtype, subok)
            and pack(negative_slope, kernel_dtype, x, &parameter)):
        result = compute_into(out, LEAKY_RELU, kernel_dtype, x, None, &parameter)
        if result is not None:
            return result
    return call(ufuncs.leaky_relu, (x, negative_slope), out, where, casting, order, dtype, subok)


def leaky_relu_(x, /, negative_slope=0.01):
    """Leaky rectified linear unit in place: `leaky_relu` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        Overwritten; nothing is copied.  Any shape and layout.
    negative_slope : scalar or array_like, default 0.01
        The slope for x < 0 (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a floating
        dtype; an array broadcasts (PReLU).

    Returns
    -------
    object
        `x` itself: multiplied by `negative_slope` where it was < 0; -0.0 and NaN stay as they are.

    Raises
    ------
    TypeError
        If `x` cannot be written in place (a list, raw bytes), if a dtype is not supported, or if
        the result's dtype does not cast to that of `x`.
    ValueError
        If `x` is read-only or smaller than the other operands.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.leaky_relu_(np.array([-2.0, 3.0]), 0.5)
    array([-1.,  3.])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(x)
    if (kernel_dtype < 0 or not is_writeable(x)
            or not pack(negative_slope, kernel_dtype, x, &parameter)):
        return call_in_place(ufuncs.leaky_relu, x, (negative_slope,))
    compute(LEAKY_RELU, kernel_dtype, x, x, NULL, &parameter, False)
    return x


def leaky_relu_subgradient(x, /, negative_slope=0.01, *, out=None, where=True,
                           casting="same_kind", order="K", dtype=None, subok=True):
    """A subgradient of `leaky_relu` at each element.

    Parameters
    ----------
    x : array_like
        Any shape; floating (bfloat16 of ml_dtypes too), integer or bool.
    negative_slope : scalar or array_like, default 0.01
        The slope for x < 0 (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a floating
        dtype; an array broadcasts (PReLU).
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.

    Returns
    -------
    ndarray or scalar
        1 where x > 0, `negative_slope` where x <= 0 (PyTorch's choice at ±0; JAX takes 1), and NaN
        where x is NaN.  The dtype is that of ``x * negative_slope``.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object) or not castable.
    ValueError
        If shapes do not broadcast, or `out` is read-only or of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.leaky_relu_subgradient(np.array([-2.0, 0.0, 3.0]), 0.5)
    array([0.5, 0.5, 1. ])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(x)
    if (kernel_dtype >= 0 and is_plain(where, casting, order, dtype, subok)
            and pack(negative_slope, kernel_dtype, x, &parameter)):
        result = compute_into(out, LEAKY_RELU_SUBGRADIENT, kernel_dtype, x, None, &parameter)
        if result is not None:
            return result
    return call(ufuncs.leaky_relu_subgradient, (x, negative_slope), out, where, casting, order,
                dtype, subok)


def leaky_relu_subgradient_(x, /, negative_slope=0.01):
    """A subgradient of `leaky_relu` in place, written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        Overwritten; nothing is copied.  Any shape and layout.
    negative_slope : scalar or array_like, default 0.01
        The slope for x < 0 (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a floating
        dtype; an array broadcasts (PReLU).

    Returns
    -------
    object
        `x` itself: 1 where it was > 0, `negative_slope` where <= 0, ±0 included; NaN stays.

    Raises
    ------
    TypeError
        If `x` cannot be written in place (a list, raw bytes), if a dtype is not supported, or if
        the result's dtype does not cast to that of `x`.
    ValueError
        If `x` is read-only or smaller than the other operands.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.leaky_relu_subgradient_(np.array([-2.0, 3.0]), 0.5)
    array([0.5, 1. ])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(x)
    if (kernel_dtype < 0 or not is_writeable(x)
            or not pack(negative_slope, kernel_dtype, x, &parameter)):
        return call_in_place(ufuncs.leaky_relu_subgradient, x, (negative_slope,))
    compute(LEAKY_RELU_SUBGRADIENT, kernel_dtype, x, x, NULL, &parameter, False)
    return x


def leaky_relu_backward(grad, x, /, negative_slope=0.01, *, out=None, where=True,
                        casting="same_kind", order="K", dtype=None, subok=True):
    """The gradient of a loss through `leaky_relu`, in one pass.

    Parameters
    ----------
    grad : array_like
        Gradient with respect to the output of `leaky_relu`.
    x : array_like
        What `leaky_relu` was given.  Its output will do instead only for a slope > 0, which keeps
        the sign.
    negative_slope : scalar or array_like, default 0.01
        The slope for x < 0 (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a floating
        dtype; an array broadcasts (PReLU).
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.

    Returns
    -------
    ndarray or scalar
        grad where x > 0 and ``negative_slope * grad`` elsewhere: where x < 0, ±0 or NaN
        (PyTorch's rule).  The dtype is that of ``grad * x * negative_slope``.

    Raises
    ------
    TypeError
        If a dtype is not supported (complex, datetime, structured, str, object) or not castable.
    ValueError
        If shapes do not broadcast, or `out` is read-only or of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.leaky_relu_backward(np.array([5.0, 6.0]), np.array([2.0, -1.0]), 0.5)
    array([5., 3.])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(grad)
    if (kernel_dtype >= 0 and is_plain(where, casting, order, dtype, subok)
            and pack(negative_slope, kernel_dtype, grad, &parameter)):
        result = compute_into(out, LEAKY_RELU_BACKWARD, kernel_dtype, grad, x, &parameter)
        if result is not None:
            return result
    return call(ufuncs.leaky_relu_backward, (grad, x, negative_slope), out, where, casting,
                order, dtype, subok)


def leaky_relu_backward_(grad, x, /, negative_slope=0.01):
    """The gradient through `leaky_relu` in place, written over `grad`.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        Gradient with respect to the output of the forward pass.  Overwritten; nothing is copied.
    x : array_like
        What `leaky_relu` was given; its output will do instead only for a slope > 0.
    negative_slope : scalar or array_like, default 0.01
        The slope for x < 0 (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a floating
        dtype; an array broadcasts (PReLU).

    Returns
    -------
    object
        `grad` itself: kept where x > 0, multiplied by `negative_slope` elsewhere (x NaN too).

    Raises
    ------
    TypeError
        If `grad` cannot be written in place (a list, raw bytes), if a dtype is not supported, or if
        the result's dtype does not cast to that of `grad`.
    ValueError
        If `grad` is read-only or smaller than the other operands.

    Examples
    --------
    >>> import numpy as np
    >>> import relu_ext
    >>> relu_ext.leaky_relu_backward_(np.array([5.0, 6.0]), np.array([2.0, -1.0]), 0.5)
    array([5., 3.])
    """
    cdef Parameter parameter
    cdef int kernel_dtype = shortcut_dtype(grad)
    if (kernel_dtype < 0 or not is_writeable(grad) or not cnp.PyArray_CheckExact(x)
            or not match(grad, x) or not pack(negative_slope, kernel_dtype, grad, &parameter)):
        return call_in_place(ufuncs.leaky_relu_backward, grad, (x, negative_slope))
    compute(LEAKY_RELU_BACKWARD, kernel_dtype, grad, grad, data_of(x), &parameter, False)
    return grad
