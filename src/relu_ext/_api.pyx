"""The front door: a call reaches its kernel in tens of nanoseconds, or goes to its ufunc.

Contract: a shortcut, never a second meaning.  The shortcut takes

- exact ndarrays (no subclass) of one dtype, in the machine's byte order.  They may have any strides
  and any shapes that broadcast to the result's.  Each input is the output itself or disjoint from
  it, and no two elements of the output share memory;
- a Python int or float (no subclass) instead of an input other than the first, or a NumPy scalar of
  an array's own dtype; in place, float64 beside float32, too;
- tensors that DLPack's C functions describe, if a new result has the shape of the first one;
- `out`, and NumPy's other keywords at their defaults;
- with ndarrays only, booleans for `where`, and in a backward function an x of another dtype that
  grad's takes in without loss, or of any real dtype where grad or 0 is written over a floating
  grad; then a signalling NaN in grad stays, which a cast by the ufunc would quiet.

Everything else (lists, subclasses, casts, a new result without dimensions, partial overlap) goes to
the ufunc.
"""

cimport numpy as cnp
from cpython.exc cimport PyErr_Clear
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.ref cimport Py_TYPE, PyObject
from libc.math cimport fabs, isinf
from libc.string cimport memcpy, memset
from relu_ext._dispatch cimport active_table
from relu_ext._docs cimport fill_doc
from relu_ext._ndarrays cimport (
    PyArray_DESCR, PyArray_Descr, PyArrayObject, describe_ndarray, is_writeable, native_dtype,
    new_array,
)
from relu_ext._operand cimport Operand, count, is_number, read_number
from relu_ext._table cimport (
    ADD_LEAKY_RELU, ADD_RELU, BFLOAT16, FLOAT16, FLOAT32, FLOAT64, LEAKY_RELU, LEAKY_RELU_BACKWARD,
    LEAKY_RELU_SUBGRADIENT, LONGDOUBLE, OUT, PARAMETER, RELU, RELU_BACKWARD, RELU_SUBGRADIENT,
    ROLES, UINT8, A, B,
)
from relu_ext._sums cimport choice_at_zero
from relu_ext._tensors cimport borrow, is_value, new_tensor
from relu_ext._walk cimport (
    GIL_BYTES, MASK, MOST_AXES, SMALL_BYTES, WALKED, Plan, is_safe, order_result, pass_grad,
    run_large, settle, size_of, start_plan, walk,
)

from importlib import import_module

from relu_ext import ufuncs
from relu_ext._operations import Operation

cnp.import_array()
cnp.import_ufunc()

cdef extern from "Python.h":
    int PyFloat_Pack2(double, char *, int little_endian) noexcept
    int LITTLE_ENDIAN "PY_LITTLE_ENDIAN"

cdef extern from "numpy/ndarrayobject.h":
    int PyArray_Pack(PyArray_Descr *, void *, object)

cdef extern from "numpy/arrayscalars.h":
    """
    /* The number in one of NumPy's own scalars.  PyArray_ScalarAsCtype finds the same place by way
     * of a dtype object, which takes as long as the rest of a small call. */
    #define RELU_EXT_NUMBER_IN(scalar, itemsize)                                            \\
        ((char *)(scalar) + ((itemsize) <= 4   ? offsetof(PyFloatScalarObject, obval)       \\
                             : (itemsize) == 8 ? offsetof(PyDoubleScalarObject, obval)      \\
                                               : offsetof(PyLongDoubleScalarObject, obval)))
    """
    char *number_in "RELU_EXT_NUMBER_IN"(object scalar, Py_ssize_t itemsize) noexcept

cdef extern from "numpy/ufuncobject.h":
    int PyUFunc_GiveFloatingpointErrors(const char *name, int exceptions) except -1

cdef enum:
    ORDERS = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS

cdef double LARGEST_FLOAT16 = 65504.0
cdef double LARGEST_BFLOAT16 = 3.3895313892515355e38
cdef double SMALLEST_BFLOAT16 = 1.1754943508222875e-38  # below, its cast may report an underflow
cdef double MOST_EXACT = 9007199254740992.0  # of the integers up to here a double holds each
cdef object ZERO = 0
cdef object FLOAT64_SCALAR = ufuncs.np.float64
cdef str SAME_KIND = "same_kind"
cdef str K_ORDER = "K"
cdef tuple UFUNC_KEYWORDS = ("out", "where", "casting", "order", "dtype", "subok")
cdef tuple DEFAULTS = (None, True, SAME_KIND, K_ORDER, None, True)
cdef tuple ufunc_names = tuple([one.ufunc_name for one in ufuncs.in_order])
cdef tuple names = tuple([one.name for one in ufuncs.in_order])
cdef tuple in_place_names = tuple([f"{name}_" for name in names])
__all__ = sorted({*names, *in_place_names, "prelu", "prelu_"})

ctypedef union Number:
    unsigned short half
    unsigned int bits  # of float32
    float float32
    double float64
    long double largest


def _empty(x, /):
    """An empty call: the benchmarks take its time as the least that any call can take."""
    return x


# The common call: contiguous ndarrays of one shape.

cdef inline int array_dtype(object x, bint takes_bool) noexcept:
    """The kernels' dtype for an ndarray, -1 if there is none; a bool is a uint8."""
    if not takes_bool and cnp.PyArray_ISBOOL(<cnp.ndarray>x):
        return -1
    return native_dtype(PyArray_DESCR(<PyArrayObject *>x))


cdef inline char *data_of(object x) noexcept:
    return <char *>cnp.PyArray_DATA(<cnp.ndarray>x)


cdef inline bint match(object x, object other, Py_ssize_t size) noexcept:
    """Whether `other` is an exact ndarray with the shape, memory order, dtype and byte order of x,
    which is contiguous and has `size` elements, and shares all of its memory with x or none."""
    if not cnp.PyArray_CheckExact(other):
        return False
    cdef cnp.ndarray a = <cnp.ndarray>x
    cdef cnp.ndarray b = <cnp.ndarray>other
    cdef PyArray_Descr *dtype = PyArray_DESCR(<PyArrayObject *>x)
    cdef PyArray_Descr *other_dtype = PyArray_DESCR(<PyArrayObject *>other)
    cdef Py_ssize_t distance = data_of(b) - data_of(a)
    cdef Py_ssize_t bytes = size * cnp.PyArray_ITEMSIZE(a)
    cdef int i
    if (not cnp.PyArray_FLAGS(a) & cnp.PyArray_FLAGS(b) & ORDERS
            or cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b)
            or dtype != other_dtype and (
                dtype.type_num != other_dtype.type_num
                or cnp.PyArray_ISNOTSWAPPED(a) != cnp.PyArray_ISNOTSWAPPED(b))
            or distance != 0 and -bytes < distance < bytes):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[i] != cnp.PyArray_DIMS(b)[i]:
            return False
    return True


cdef inline void compute(int operation, int dtype, void *out, const void *x, const void *y,
                         const void *parameter, Py_ssize_t n, bint fresh) noexcept:
    if n * active_table.itemsize[dtype] <= SMALL_BYTES:
        active_table.kernel[operation][dtype](out, x, y, parameter, n, NULL)
    elif n * active_table.itemsize[dtype] < GIL_BYTES:
        run_large(operation, dtype, out, x, y, parameter, n, fresh)
    else:
        with nogil:
            run_large(operation, dtype, out, x, y, parameter, n, fresh)


cdef inline object new_like(object x):
    cdef cnp.ndarray array = <cnp.ndarray>x
    return new_array(
        PyArray_DESCR(<PyArrayObject *>x), cnp.PyArray_NDIM(array),
        <const Py_ssize_t *>cnp.PyArray_DIMS(array), NULL,
        not cnp.PyArray_FLAGS(array) & cnp.NPY_ARRAY_C_CONTIGUOUS)


cdef inline int scalar_dtype(object value, object x, int dtype) noexcept:
    """The kernels' dtype for one of NumPy's own scalars, if it is float64 or that of x; else -1."""
    if type(value) is FLOAT64_SCALAR:
        return FLOAT64
    # A scalar of bfloat16 is another package's.
    is_like_x = Py_TYPE(value) == PyArray_DESCR(<PyArrayObject *>x).typeobj and dtype != BFLOAT16
    return dtype if is_like_x else -1


cdef bint pack_any(object value, int dtype, object x, Number *number) noexcept:
    """`pack` for the numbers and dtypes that are not the most common."""
    cdef bint is_int = PyLong_CheckExact(value)
    cdef double real
    if not is_number(value):
        if scalar_dtype(value, x, dtype) != dtype:
            return False
        memcpy(number, number_in(value, active_table.itemsize[dtype]), active_table.itemsize[dtype])
        return True
    if not read_number(value, &real):
        return False
    if dtype == FLOAT32:
        number.float32 = <float>real
        return not isinf(number.float32) or isinf(real)
    if dtype == FLOAT64:
        number.float64 = real
        return True
    if dtype == FLOAT16:
        return ((fabs(real) <= LARGEST_FLOAT16 or isinf(real))
                and PyFloat_Pack2(real, <char *>number, LITTLE_ENDIAN) == 0)
    if dtype == BFLOAT16:  # by way of float32, as ml_dtypes
        number.float32 = <float>real
        number.half = (number.bits + 0x7fff + (number.bits >> 16 & 1)) >> 16
        return (real == 0 or isinf(real)
                or SMALLEST_BFLOAT16 <= fabs(real) <= (MOST_EXACT if is_int else LARGEST_BFLOAT16))
    if not cnp.PyArray_CheckExact(x) or dtype != LONGDOUBLE and not is_int:
        return False
    if PyArray_Pack(PyArray_DESCR(<PyArrayObject *>x), number, value) < 0:
        PyErr_Clear()
        return False
    return True


cdef inline bint pack(object value, int dtype, object x, Number *number) noexcept:
    """Write a Python number, or NumPy's scalar of the dtype of an ndarray x, in a dtype, that of x
    or a wider one, as NumPy would.

    Return False to leave any other value to the ufunc: a float that promotes integers, a number out
    of range, about which NumPy warns or raises, a NaN of half precision, and, beside a tensor,
    integers but 0.  If the answer is True, no Python has run.
    """
    if value is ZERO:  # which `at_zero` is by default
        memset(number, 0, sizeof(Number))
        return True
    if dtype == FLOAT32 and PyFloat_CheckExact(value):
        number.float32 = <float>PyFloat_AS_DOUBLE(value)
        if not isinf(number.float32):
            return True
    return pack_any(value, dtype, x, number)


# Every other call that is walked: any layout, broadcasting, tensors.

cdef enum:  # what an argument is
    OTHER
    ARRAY  # an exact ndarray
    TENSOR  # one that `borrow` takes
    NUMBER  # a Python int or float
    SCALAR  # NumPy's


cdef inline int kind_of(str name, object x, bint beside_tensor) except -1:
    if cnp.PyArray_CheckExact(x):
        return ARRAY  # `describe` judges its dtype
    if is_number(x):
        return NUMBER
    if cnp.PyArray_CheckScalar(x):
        return SCALAR
    return TENSOR if is_value(name, x, beside_tensor) else OTHER


cdef bint describe(int kind, object x, object first, bint takes_bool, Operand *operand) noexcept:
    """Describe an array, a tensor, or a scalar beside a first argument.  No Python runs."""
    if kind == TENSOR:
        return borrow(x, operand)
    if kind == ARRAY:
        describe_ndarray(x, array_dtype(x, takes_bool), operand)
        return operand.dtype >= 0
    if not cnp.PyArray_CheckExact(first):
        return False
    operand.dtype = scalar_dtype(x, first, array_dtype(first, takes_bool))
    if operand.dtype < 0:
        return False
    operand.data = number_in(x, active_table.itemsize[operand.dtype])
    operand.axes = 0
    return True


cdef inline bint is_bool(object x) noexcept:
    return cnp.PyArray_CheckExact(x) and cnp.PyArray_ISBOOL(<cnp.ndarray>x)


cdef bint agree(object x, const Operand *a, object y, const Operand *b) noexcept:
    """Whether two operands have one dtype: the kernels compute bool as uint8."""
    return a.dtype == b.dtype and is_bool(x) == is_bool(y)


cdef bint is_sign(object x, const Operand *described, object grad, const Operand *first,
                  bint chooses_in_place) noexcept:
    """Whether only the sign of the x of a backward function, of another dtype than grad, decides.

    That is so if grad's dtype takes in that of x without loss, so that the result has grad's, and
    wherever grad or 0 is chosen and written over a floating grad: then the result of any real dtype
    is cast back without loss.
    """
    return (cnp.PyArray_CheckExact(x) and cnp.PyArray_CheckExact(grad)
            and described.dtype != first.dtype and (
                chooses_in_place and first.dtype <= LONGDOUBLE and BFLOAT16 != first.dtype
                and BFLOAT16 != described.dtype
                or cnp.PyArray_CanCastSafely(
                    cnp.PyArray_TYPE(<cnp.ndarray>x), cnp.PyArray_TYPE(<cnp.ndarray>grad))))


cdef bint is_one_run(const Operand *out, const Operand *x) noexcept:
    """Whether an input lies as `out` does, from the first byte to the last, and is `out` itself or
    disjoint from it."""
    cdef Py_ssize_t bytes = active_table.itemsize[out.dtype]
    cdef int i
    if out.axes != x.axes:
        return False
    for i in range(out.axes - 1, -1, -1):
        if out.shape[i] != x.shape[i] or out.shape[i] != 1 and (
                out.strides[i] * out.stride_unit != bytes
                or x.strides[i] * x.stride_unit != bytes):
            return False
        bytes *= out.shape[i]
    return out.data == x.data or not -bytes < x.data - out.data < bytes


cdef object compute_walked(int operation, object x, PyObject *y, PyObject *parameter, object out,
                           object where):
    """Compute into `out`, which may be x, or into a new array if it is None.  Return the result, or
    None if this call is not walked."""
    cdef Operand described[WALKED]
    cdef const Operand *operands[WALKED]
    cdef Number numbers[ROLES]
    cdef PyObject *given[ROLES]
    cdef int kinds[ROLES]
    cdef Plan laid
    cdef Py_ssize_t shape[MOST_AXES]
    cdef Py_ssize_t strides[MOST_AXES]
    cdef bint fresh = out is None
    cdef bint in_place = out is x
    cdef str name = (in_place_names if in_place else names)[operation]
    cdef bint is_tensor, new_is_array, one_run
    cdef bint chooses = False  # between grad and 0, by signs alone
    cdef bint by_signs = False
    cdef double number = 0
    cdef int dtype, role, raised
    cdef bint backward = y != NULL and operation != ADD_RELU and operation != ADD_LEAKY_RELU
    given[A], given[B], given[PARAMETER] = <PyObject *>x, y, parameter

    # First what may run Python: questions to tensors, a new tensor.
    kinds[A] = kinds[OUT] = kind_of(name, x, False)
    is_tensor = kinds[A] == TENSOR
    new_is_array = fresh and not is_tensor
    if kinds[A] != ARRAY and not is_tensor or where is not True and not is_bool(where):
        return None
    for role in range(B, ROLES):
        if given[role] != NULL:
            kinds[role] = kind_of(name, <object>given[role], is_tensor)
            if kinds[role] == OTHER or new_is_array and kinds[role] == TENSOR:
                return None
    if fresh and is_tensor:
        out = new_tensor(name, x)
    if not new_is_array and not in_place:
        kinds[OUT] = kind_of(name, out, is_tensor)
        if kinds[OUT] != ARRAY and kinds[OUT] != TENSOR:
            return None

    # From here on no Python runs: it could give an operand other memory, shape or dtype.
    if not describe(kinds[A], x, x, operation == RELU, &described[A]):
        return None
    dtype = described[A].dtype
    one_run = is_tensor and where is True
    operands[OUT] = operands[MASK] = NULL
    operands[A] = &described[A]
    for role in range(B, ROLES):
        operands[role] = NULL if given[role] == NULL else &described[role]
        if given[role] == NULL or kinds[role] == NUMBER:
            continue
        if not describe(kinds[role], <object>given[role], x, role == B and backward,
                        &described[role]):
            return None
        one_run &= role == B
        if (kinds[role] == SCALAR and in_place and operation != ADD_LEAKY_RELU
                and (role == PARAMETER or parameter == NULL)
                and described[A].dtype == FLOAT32 and described[role].dtype == FLOAT64):
            # Float32, if that holds it: a product of two float32 is exact in float64, and a sum is
            # rounded there so late that rounding it again changes nothing.  That is not so of a sum
            # that takes part in a product, nor of an x beside a number, which is then a float64.
            number = (<double *>described[role].data)[0]
            if <float>number == number:
                numbers[role].float32 = <float>number
                described[role].data, described[role].dtype = <char *>&numbers[role], FLOAT32
        if agree(x, &described[A], <object>given[role], &described[role]):
            continue
        if role == B and backward:
            chooses = (operation == RELU_BACKWARD and kinds[PARAMETER] == NUMBER
                       and read_number(<object>parameter, &number)
                       and (number == 0 or number == 1))
            if is_sign(<object>y, &described[B], x, &described[A], chooses and in_place):
                by_signs = chooses
                continue
        if not (in_place and where is True and kinds[A] == ARRAY and described[A].dtype == FLOAT32
                and described[role].dtype == FLOAT64):
            return None
        dtype = FLOAT64
    for role in range(B, ROLES):
        if given[role] != NULL and kinds[role] == NUMBER:
            described[role].data = <char *>&numbers[role]
            described[role].axes = 0
            described[role].dtype = dtype
            if not pack(<object>given[role], dtype, x, &numbers[role]):
                return None
    if dtype != described[A].dtype and given[B] != NULL and described[B].dtype != FLOAT32 and (
            described[B].dtype != FLOAT64):
        return None  # what is computed in float64 is widened from float32 alone
    if where is not True:
        operands[MASK] = &described[MASK]
        describe_ndarray(where, UINT8, &described[MASK])
    if not new_is_array:
        # By its own pointer: a copy would wait until the fields just written are in the cache.
        operands[OUT] = &described[A if in_place else OUT]
        if not in_place and not (describe(kinds[OUT], out, x, operation == RELU, &described[OUT])
                                 and agree(x, &described[A], out, &described[OUT])):
            return None
        if not operands[OUT].writeable:
            return None
        if (one_run and is_one_run(operands[OUT], &described[A])
                and (given[B] == NULL or is_one_run(operands[OUT], &described[B]))):
            # What contiguous ndarrays get: 276 ns instead of 356 with a plan, for 64 float32.
            compute(operation, dtype, operands[OUT].data, described[A].data,
                    described[B].data if given[B] != NULL else NULL,
                    described[PARAMETER].data if given[PARAMETER] != NULL else NULL,
                    count(operands[OUT].shape, operands[OUT].axes), fresh)
            return out
    if not start_plan(&laid, operation, dtype, operands, fresh):
        return None
    if by_signs:
        pass_grad(&laid, <int>number)
    if new_is_array:
        if laid.axes == 0:
            return None  # The ufunc makes a scalar.
        order_result(&laid, shape, strides)
        # An ndarray runs no Python when it is made: the garbage collector does not know its type.
        out = new_array(PyArray_DESCR(<PyArrayObject *>x), laid.axes, shape, strides, False)
        laid.data[OUT] = data_of(out)
        laid.has[OUT] = True
    settle(&laid)
    if not (fresh or is_safe(&laid)):
        return None
    if laid.rounds:
        cnp.PyUFunc_clearfperr()
    if size_of(&laid) * laid.itemsize < GIL_BYTES:
        walk(&laid)
    else:
        with nogil:
            walk(&laid)
    if laid.rounds:
        # What the ufunc would warn of: its result is rounded, too.
        raised = cnp.PyUFunc_getfperr()  # and clears them
        if raised:
            PyUFunc_GiveFloatingpointErrors((<str>names[operation]).encode(), raised)
    return out


# The two bodies of the public functions.  y and parameter are NULL where the operation has none, as
# the compiler sees where it makes a body of its own for each function.

cdef inline int common_dtype(int operation, bint in_place, object x, PyObject *y,
                             PyObject *parameter, object out, Number *number,
                             Py_ssize_t *size) noexcept:
    """The kernels' dtype of the common call, or -1 for any other.  Write its parameter and size."""
    if not (cnp.PyArray_CheckExact(x) and cnp.PyArray_FLAGS(<cnp.ndarray>x) & ORDERS):
        return -1
    cdef int dtype = array_dtype(x, operation == RELU)
    cdef bint fresh = not in_place and out is None
    size[0] = count(<const Py_ssize_t *>cnp.PyArray_DIMS(<cnp.ndarray>x),
                    cnp.PyArray_NDIM(<cnp.ndarray>x))
    if (dtype >= 0 and (in_place or cnp.PyArray_NDIM(<cnp.ndarray>x) > 0) and (
            fresh or (in_place or match(x, out, size[0])) and is_writeable(out))
            and (y == NULL or match(x, <object>y, size[0])
                 and (fresh or in_place or match(out, <object>y, size[0])))
            and (parameter == NULL or pack(<object>parameter, dtype, x, number))):
        return dtype
    return -1


cdef object evaluate(int operation, object x, PyObject *y, PyObject *parameter, object out, where,
                     casting, order, dtype, subok):
    cdef Number number
    cdef Py_ssize_t size
    cdef int common = -1
    if casting is SAME_KIND and order is K_ORDER and dtype is None and subok is True:
        if where is True:
            common = common_dtype(operation, False, x, y, parameter, out, &number, &size)
        if common >= 0:
            result = new_like(x) if out is None else out
            compute(operation, common, data_of(result), data_of(x),
                    NULL if y == NULL else data_of(<object>y),
                    NULL if parameter == NULL else &number, size, out is None)
            return result
        result = compute_walked(operation, x, y, parameter, out, where)
        if result is not None:
            return result
    return call(operation, False, x, y, parameter, out, where, casting, order, dtype, subok)


cdef inline object evaluate_in_place(int operation, object x, PyObject *y, PyObject *parameter):
    cdef Number number
    cdef Py_ssize_t size
    cdef int common = common_dtype(operation, True, x, y, parameter, x, &number, &size)
    if common >= 0:
        compute(operation, common, data_of(x), data_of(x),
                NULL if y == NULL else data_of(<object>y),
                NULL if parameter == NULL else &number, size, False)
        return x
    if compute_walked(operation, x, y, parameter, x, True) is not None:
        return x
    return call(operation, True, x, y, parameter, x, True, SAME_KIND, K_ORDER, None, True)


# Every other call.

cdef object call(int operation, bint in_place, object x, PyObject *y, PyObject *parameter,
                 object out, where, casting, order, dtype, subok):
    """Call the ufunc, with only the keywords that were given: the `__array_ufunc__` of an operand
    may refuse a keyword that it does not know, even at its default."""
    # Whether NumPy alone decides what all operands are: no tensor, nothing sparse.
    cdef bint plain = out is None or cnp.PyArray_CheckExact(out)
    cdef int i
    keywords = {}
    for i, value in enumerate((out, where, casting, order, dtype, subok)):
        if value is not DEFAULTS[i]:
            keywords[UFUNC_KEYWORDS[i]] = value
    if where is not True:
        keywords["out"] = out  # where it is None, it says that the rest may be left as it is
    ufunc = getattr(ufuncs, ufunc_names[operation])
    operands = (x,) if y == NULL else (x, <object>y)
    if parameter != NULL:
        operands += (<object>parameter,)
    for one in operands:
        plain = plain and (cnp.PyArray_CheckExact(one) or is_number(one) or type(one) is list
                           or cnp.PyArray_CheckScalar(one))
    if plain:
        try:
            result = ufunc(*operands, **keywords)
            if not in_place or result is x:  # a subclass of a scalar may return anything
                return result
        except (TypeError, ValueError):
            pass  # _calls says what to mend
    calls = import_module("relu_ext._calls")  # only now: an import takes 0.3 ms
    if in_place:
        return calls.call_ufunc_in_place(ufunc, operands)
    return calls.call_ufunc(ufunc, operands, keywords)


# The public functions.  `fill_docs` writes what their docstrings share.  Those of the functions in
# place get what the others say about the result.

def relu(x, /, *, out=None, where=True, casting="same_kind", order="K", dtype=None, subok=True):
    """Rectified linear unit: max(0, x) for each element.

    {parameters_and_returns}

    See Also
    --------
    relu_ : The same in place, up to three times as fast.
    add_relu : ReLU of a sum, in one pass.

    {examples}
    >>> relu_ext.relu(np.array([-2.0, -0.0, 3.0, np.nan]))
    array([ 0.,  0.,  3., nan])
    """
    return evaluate(RELU, x, NULL, NULL, out, where, casting, order, dtype, subok)


def relu_(x, /):
    """Rectified linear unit in place: `relu` written over `x`.

    {in_place}
    >>> x = np.array([-2.0, 3.0])
    >>> relu_ext.relu_(x) is x
    True
    >>> x
    array([0., 3.])
    """
    return evaluate_in_place(RELU, x, NULL, NULL)


def relu_subgradient(x, /, *, at_zero=0, out=None, where=True, casting="same_kind", order="K",
                     dtype=None, subok=True):
    """A subgradient of `relu` at each element.

    {parameters_and_returns}

    See Also
    --------
    relu_backward : The product with a gradient, in one pass.

    {examples}
    >>> relu_ext.relu_subgradient(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 1.])
    >>> relu_ext.relu_subgradient(np.array([-2.0, 0.0, 3.0]), at_zero=0.5)
    array([0. , 0.5, 1. ])
    """
    return evaluate(RELU_SUBGRADIENT, x, NULL, <PyObject *>at_zero, out, where, casting, order,
                    dtype, subok)


def relu_subgradient_(x, /, *, at_zero=0):
    """A subgradient of `relu` in place: `relu_subgradient` written over `x`.

    {in_place}
    >>> relu_ext.relu_subgradient_(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 1.])
    """
    return evaluate_in_place(RELU_SUBGRADIENT, x, NULL, <PyObject *>at_zero)


def relu_backward(grad, x, /, *, at_zero=0, out=None, where=True, casting="same_kind", order="K",
                  dtype=None, subok=True):
    """The gradient of a loss through `relu`: `grad` where x > 0, in one pass.

    {parameters_and_returns}

    Notes
    -----
    If `at_zero` is 0, the output of `relu` may be given instead of its input, because it is 0
    wherever x <= 0.  A mask of booleans may be given, too: False is 0, so with ``at_zero=1`` the
    result is `grad` everywhere.

    {examples}
    >>> grad, x = np.array([5.0, 6.0, 7.0]), np.array([2.0, -1.0, 0.0])
    >>> relu_ext.relu_backward(grad, x)
    array([5., 0., 0.])
    >>> relu_ext.relu_backward(grad, x, at_zero=0.5)
    array([5. , 0. , 3.5])
    """
    return evaluate(RELU_BACKWARD, grad, <PyObject *>x, <PyObject *>at_zero, out, where, casting,
                    order, dtype, subok)


def relu_backward_(grad, x, /, *, at_zero=0):
    """The gradient through `relu` in place, written over `grad`.

    {in_place}
    >>> grad = np.array([5.0, 6.0])
    >>> relu_ext.relu_backward_(grad, np.array([2.0, -1.0]))
    array([5., 0.])
    """
    return evaluate_in_place(RELU_BACKWARD, grad, <PyObject *>x, <PyObject *>at_zero)


def leaky_relu(x, /, negative_slope=0.01, *, out=None, where=True, casting="same_kind", order="K",
               dtype=None, subok=True):
    """Leaky rectified linear unit: x, multiplied by `negative_slope` where x is negative.

    {parameters_and_returns}

    Notes
    -----
    A slope other than 0 solves the dying-ReLU problem: a unit whose input is negative for every
    sample still receives a gradient.

    {examples}
    >>> relu_ext.leaky_relu(np.array([-2.0, -0.0, 3.0]), 0.5)
    array([-1., -0.,  3.])
    """
    return evaluate(LEAKY_RELU, x, NULL, <PyObject *>negative_slope, out, where, casting, order,
                    dtype, subok)


def leaky_relu_(x, /, negative_slope=0.01):
    """Leaky rectified linear unit in place: `leaky_relu` written over `x`.

    {in_place}
    >>> relu_ext.leaky_relu_(np.array([-2.0, 3.0]), 0.5)
    array([-1.,  3.])
    """
    return evaluate_in_place(LEAKY_RELU, x, NULL, <PyObject *>negative_slope)


def leaky_relu_subgradient(x, /, negative_slope=0.01, *, at_zero=None, out=None, where=True,
                           casting="same_kind", order="K", dtype=None, subok=True):
    """A subgradient of `leaky_relu` at each element.

    {parameters_and_returns}

    {examples}
    >>> relu_ext.leaky_relu_subgradient(np.array([-2.0, 0.0, 3.0]), 0.5)
    array([0.5, 0.5, 1. ])
    """
    cdef int operation = choice_at_zero("leaky_relu_subgradient", LEAKY_RELU_SUBGRADIENT, at_zero)
    return evaluate(operation, x, NULL, <PyObject *>negative_slope, out, where, casting, order,
                    dtype, subok)


def leaky_relu_subgradient_(x, /, negative_slope=0.01, *, at_zero=None):
    """A subgradient of `leaky_relu` in place, written over `x`.

    {in_place}
    >>> relu_ext.leaky_relu_subgradient_(np.array([-2.0, 3.0]), 0.5)
    array([0.5, 1. ])
    """
    cdef int operation = choice_at_zero("leaky_relu_subgradient_", LEAKY_RELU_SUBGRADIENT, at_zero)
    return evaluate_in_place(operation, x, NULL, <PyObject *>negative_slope)


def leaky_relu_backward(grad, x, /, negative_slope=0.01, *, at_zero=None, out=None, where=True,
                        casting="same_kind", order="K", dtype=None, subok=True):
    """The gradient of a loss through `leaky_relu`, in one pass.

    {parameters_and_returns}

    Notes
    -----
    If the slope is >= 0 and `at_zero` is None, the output of `leaky_relu` may be given instead of
    its input: where the output is 0, the slope multiplies the gradient, too.

    `prelu_backward` computes the gradient of the slope, too.

    {examples}
    >>> relu_ext.leaky_relu_backward(np.array([5.0, 6.0]), np.array([2.0, -1.0]), 0.5)
    array([5., 3.])
    """
    cdef int operation = choice_at_zero("leaky_relu_backward", LEAKY_RELU_BACKWARD, at_zero)
    return evaluate(operation, grad, <PyObject *>x, <PyObject *>negative_slope, out, where, casting,
                    order, dtype, subok)


def leaky_relu_backward_(grad, x, /, negative_slope=0.01, *, at_zero=None):
    """The gradient through `leaky_relu` in place, written over `grad`.

    {in_place}
    >>> relu_ext.leaky_relu_backward_(np.array([5.0, 6.0]), np.array([2.0, -1.0]), 0.5)
    array([5., 3.])
    """
    cdef int operation = choice_at_zero("leaky_relu_backward_", LEAKY_RELU_BACKWARD, at_zero)
    return evaluate_in_place(operation, grad, <PyObject *>x, <PyObject *>negative_slope)


def prelu(x, slope, /, *, out=None, where=True, casting="same_kind", order="K", dtype=None,
          subok=True):
    """Parametric ReLU, whose slope broadcasts as ONNX's PRelu, not as torch.nn.functional.prelu.

    This is `leaky_relu` with a slope that has no default.  PyTorch's weight lies along axis 1; here
    one slope for each channel of (N, C, H, W) is ``slope[:, None, None]``.  Where W equals C, a
    slope of shape (C,) applies along W without an error.

    {parameters_and_returns}

    See Also
    --------
    prelu_backward : The gradients of x and of the slope, in one pass.

    {examples}
    >>> relu_ext.prelu(np.array([[-2.0, 4.0], [1.0, -4.0]]), np.array([0.5, 0.25]))
    array([[-1.,  4.],
           [ 1., -1.]])
    """
    try:
        return evaluate(LEAKY_RELU, x, NULL, <PyObject *>slope, out, where, casting, order, dtype,
                        subok)
    except (TypeError, ValueError, BufferError) as error:
        raise as_prelu(error)


def prelu_(x, slope, /):
    """Parametric ReLU in place, whose slope broadcasts as ONNX's PRelu: `prelu` written over `x`.

    {in_place}
    >>> relu_ext.prelu_(np.array([[-2.0, 4.0], [1.0, -4.0]]), np.array([0.5, 0.25]))
    array([[-1.,  4.],
           [ 1., -1.]])
    """
    try:
        return evaluate_in_place(LEAKY_RELU, x, NULL, <PyObject *>slope)
    except (TypeError, ValueError, BufferError) as error:
        raise as_prelu(error)


cdef object as_prelu(error):
    """An error of leaky_relu, whose body prelu shares, with the names that the caller knows."""
    if (type(error) in (TypeError, ValueError, BufferError) and len(error.args) == 1
            and str(error).startswith("leaky_relu")):
        error.args = (
            str(error).replace("leaky_relu", "prelu").replace("negative_slope", "slope"),)
    return error


def add_relu(x, y, /, *, out=None, where=True, casting="same_kind", order="K", dtype=None,
             subok=True):
    """ReLU of a sum in one pass: max(0, x + y), for a bias or a residual.

    {parameters_and_returns}

    Notes
    -----
    The gradient with respect to x, and to a y of the same shape, is
    ``relu_backward(grad, output)``.  Its sum over the rows is the gradient with respect to a bias.

    {examples}
    >>> relu_ext.add_relu(np.array([[-2.0, 1.0], [0.5, -3.0]]), np.array([1.0, 2.0]))
    array([[0. , 3. ],
           [1.5, 0. ]])
    """
    return evaluate(ADD_RELU, x, <PyObject *>y, NULL, out, where, casting, order, dtype, subok)


def add_relu_(x, y, /):
    """ReLU of a sum in place: `add_relu` written over `x`.

    {in_place}
    >>> x = np.array([[-2.0, 1.0], [0.5, -3.0]])
    >>> relu_ext.add_relu_(x, np.array([1.0, 2.0]))
    array([[0. , 3. ],
           [1.5, 0. ]])
    """
    return evaluate_in_place(ADD_RELU, x, <PyObject *>y, NULL)


def add_leaky_relu(x, y, /, negative_slope=0.01, *, out=None, where=True, casting="same_kind",
                   order="K", dtype=None, subok=True):
    """Leaky ReLU of a sum in one pass, for a bias or a residual.

    {parameters_and_returns}

    Notes
    -----
    The gradient with respect to x, and to a y of the same shape, is
    ``leaky_relu_backward(grad, output, negative_slope)`` if the slope is >= 0.  Its sum over the
    rows is the gradient with respect to a bias.

    {examples}
    >>> relu_ext.add_leaky_relu(np.array([-2.0, 1.0]), np.array([1.0, 2.0]), 0.5)
    array([-0.5,  3. ])
    """
    return evaluate(ADD_LEAKY_RELU, x, <PyObject *>y, <PyObject *>negative_slope, out, where,
                    casting, order, dtype, subok)


def add_leaky_relu_(x, y, /, negative_slope=0.01):
    """Leaky ReLU of a sum in place: `add_leaky_relu` written over `x`.

    {in_place}
    >>> relu_ext.add_leaky_relu_(np.array([-2.0, 1.0]), 1.0, 0.5)
    array([-0.5,  2. ])
    """
    return evaluate_in_place(ADD_LEAKY_RELU, x, <PyObject *>y, <PyObject *>negative_slope)


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
    The input of the forward pass, of any real dtype: only whether it is > 0, < 0, ±0 or NaN is
    read, in its own dtype, which takes part in promotion.  It may be a mask; False is 0, so that
    `at_zero` decides there.""",
    "y": """\
y : scalar or array_like
    A bias, a residual or a number; it broadcasts.  A Python number keeps the dtype of x.""",
    "at_zero": """\
at_zero : scalar or array_like, default 0
    The subgradient at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
    scikit-learn use 0, some textbooks 1.  A Python number keeps a floating dtype.""",
    "slope": """\
slope : scalar or array_like
    The slope for negative values.  A Python number keeps a floating dtype; an array broadcasts.""",
    "negative_slope": """\
negative_slope : scalar or array_like, default 0.01
    The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
    floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
    broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
    because with W == C a bare slope applies along W in silence.""",
}
cdef str CHOICE = """\
at_zero : None, 0 or 1, default None
    The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0."""
# What they return: the elements, and the dtype.
cdef dict RESULTS = {
    "relu": ("""\
    x where x > 0 and +0 where x <= 0, -0.0 included; NaN stays as it is.""", """\
    The dtype is that of `x`."""),
    "relu_subgradient": ("""\
    1 where x > 0, 0 where x < 0, `at_zero` where x is +0 or -0, and NaN where x is NaN.""", """\
    The dtype is that of ``x * at_zero``."""),
    "relu_backward": ("""\
    grad where x > 0 and 0 where x < 0, even if grad is inf or NaN.  At x = ±0: 0 if
    `at_zero` is 0, grad if it is 1, else ``at_zero * grad``.  Where x is NaN: grad
    (PyTorch's rule).""", """\
    The dtype is that of ``grad * x * at_zero``."""),
    "leaky_relu": ("""\
    x where x >= 0 (-0.0 keeps its sign) and ``negative_slope * x`` where x < 0; NaN
    stays as it is.""", """\
    The dtype is that of ``x * negative_slope``."""),
    "leaky_relu_subgradient": ("""\
    1 where x > 0, `negative_slope` where x < 0, and NaN where x is NaN.  At x = ±0:
    `at_zero`, or the slope if that is None.""", """\
    The dtype is that of ``x * negative_slope``."""),
    "leaky_relu_backward": ("""\
    grad where x > 0, and ``negative_slope * grad`` where x is < 0 or NaN (PyTorch's
    rule).  At x = ±0: 0 or grad, as `at_zero` says, or ``negative_slope * grad`` if
    that is None.""", """\
    The dtype is that of ``grad * x * negative_slope``."""),
    "add_relu": ("""\
    ``np.maximum(x + y, 0)`` to the last bit: the sum is rounded to the dtype first, and
    integers wrap.  The result is +0 where the sum is <= 0 and NaN where the sum is NaN;
    where x and y are both NaN, it is x's NaN.""", """\
    The dtype is that of ``x + y``; bool is not supported."""),
    "add_leaky_relu": ("""\
    ``leaky_relu(x + y, negative_slope)`` to the last bit: the sum is rounded to the
    dtype first.  Where x and y are both NaN, the result is x's NaN.""", """\
    The dtype is that of ``(x + y) * negative_slope``; bool is not supported."""),
}
RESULTS["prelu"] = tuple([
    text.replace("negative_slope", "slope") for text in RESULTS["leaky_relu"]])
cdef str UFUNC = """\
out, where, casting, order, dtype, subok
    As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised."""
cdef str TARGET = """\
{} : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
    It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
    the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``."""
cdef str SECTIONS = """\
Parameters
----------
{parameters}

Returns
-------
{returns}

Raises
------
TypeError
    If {unwritable}a dtype is not supported (complex, datetime, structured, string, object), or
    that of the result does not cast to that of `{written}`{promotion}.
BufferError
    If a tensor requires a gradient, is sparse or lazily negated, or has a tangent.  The message
    says what to call.
ValueError
    If `{written}` is read-only{shapes}{choice}."""
cdef str EXAMPLES = """\
Examples
--------
>>> import numpy as np
>>> import relu_ext"""
cdef str OF_OUT = " or has another shape, or the shapes do not broadcast"
cdef str OF_OTHERS = ", or the others do not broadcast to its shape"

cdef fill_docs():
    for one in (*ufuncs.descriptions, Operation("prelu", ("x",), "slope")):
        first, *others = one.operands
        others = [OTHERS[other] for other in others] + [CHOICE] * one.chooses
        choice = ", or if `at_zero` is not None, 0 or 1" if one.chooses else ""
        elements, dtype = RESULTS[one.name]
        new = SECTIONS.format(
            parameters="\n".join([FIRST[first], *others, UFUNC]),
            returns=f"ndarray, scalar or tensor\n{elements}\n{dtype}",
            unwritable="", written="out", promotion="", shapes=OF_OUT, choice=choice)
        in_place = SECTIONS.format(
            parameters="\n".join([TARGET.format(first), *others]),
            returns=f"object\n    `{first}` itself.  Its elements become:\n{elements}",
            unwritable=f"`{first}` cannot be written in place (a list, raw bytes), or if\n    ",
            written=first, promotion=": a float makes integers float64" if one.parameter else "",
            shapes=OF_OTHERS if others else "", choice=choice)
        paragraphs = {"parameters_and_returns": new, "in_place": f"{in_place}\n\n{EXAMPLES}",
                      "examples": EXAMPLES}
        fill_doc(globals()[one.name], paragraphs)
        fill_doc(globals()[f"{one.name}_"], paragraphs)


fill_docs()
