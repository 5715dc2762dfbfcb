"""The operations as true NumPy ufuncs: every dtype, stride, shape and array type.

The parameter of an operation (the slope, the value at zero) is an ordinary operand here, so an
array of slopes broadcasts; it has no default.  Dtypes promote as in ``x * parameter``.

>>> import numpy as np
>>> from relu_ext import ufuncs
>>> x = np.array([[-1.0, 2.0], [-3.0, -4.0]])
>>> ufuncs.leaky_relu(x, np.array([0.5, 0.25]))  # PReLU: one slope per column
array([[-0.5,  2. ],
       [-1.5, -1. ]])
"""

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport PyObject
from libc.string cimport memcpy
from relu_ext._dispatch cimport active_table
from relu_ext._driver cimport run
from relu_ext._scalar cimport uint8, uint16, uint32, uint64
from relu_ext._table cimport (
    BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, LEAKY_RELU,
    LEAKY_RELU_BACKWARD, LEAKY_RELU_SUBGRADIENT, LONGDOUBLE, OPERATIONS, RELU, RELU_BACKWARD,
    RELU_SUBGRADIENT, UINT8, UINT16, UINT32, UINT64,
)

import sys

import numpy as np

cnp.import_array()
cnp.import_ufunc()

cdef extern from "fenv.h" nogil:
    int FE_ALL_EXCEPT
    int fetestexcept(int)
    int feclearexcept(int)

cdef extern from "numpy/ufuncobject.h":
    int PyUFunc_AddPromoter(object ufunc, object dtypes, object promoter) except -1

cdef extern from "numpy/dtype_api.h":
    """
    #define RELU_EXT_PY_FLOAT ((PyObject *)&PyArray_PyFloatDType)
    #define RELU_EXT_PY_LONG ((PyObject *)&PyArray_PyLongDType)
    static PyObject *relu_ext_promote_dtypes(npy_intp length, PyObject **dtypes)
    {
        return (PyObject *)PyArray_PromoteDTypeSequence(length, (PyArray_DTypeMeta **)dtypes);
    }
    """
    object promote_dtypes "relu_ext_promote_dtypes"(cnp.npy_intp length, PyObject **dtypes)
    PyObject *PY_FLOAT "RELU_EXT_PY_FLOAT"
    PyObject *PY_LONG "RELU_EXT_PY_LONG"


# The dtypes: where NumPy's types and the kernels' meet.

bfloat16_number = -1
cdef str NUMBERS = "efdgbBhHiIlLqQ"


cdef fill_kernel_dtypes():
    # By name, because two of C's integers are one dtype; longdouble's name differs by platform.
    # relu keeps a bool as it does any uint8; no other operation has a loop for bool.
    cdef dict dtypes = {
        "bool": UINT8,
        "float16": FLOAT16, "float32": FLOAT32, "float64": FLOAT64,
        "int8": INT8, "int16": INT16, "int32": INT32, "int64": INT64,
        "uint8": UINT8, "uint16": UINT16, "uint32": UINT32, "uint64": UINT64,
    }
    cdef int number
    for number in range(TYPES):
        kernel_dtypes[number] = -1
    for character in "?" + NUMBERS:
        dtype = np.dtype(character)
        number = dtype.num
        kernel_dtypes[number] = dtypes.get(dtype.name, LONGDOUBLE)


fill_kernel_dtypes()


# The loop: one for all operations and dtypes.

cdef struct Loop:
    int operation
    int dtype
    int arrays
    int parameters

cdef Loop loops[OPERATIONS][DTYPES]

cdef enum:
    GATHERED_BYTES = 4096


cdef inline bint is_same_or_disjoint(const char *out, const char *operand,
                                     Py_ssize_t bytes) noexcept nogil:
    return out == operand or out + bytes <= operand or operand + bytes <= out


cdef bint feeds_back(const char *out, Py_ssize_t out_step, const char *operand,
                     Py_ssize_t step, Py_ssize_t itemsize, Py_ssize_t n) noexcept nogil:
    """Whether writing out[i] may change operand[j] for another j: `reduce` and `accumulate` hand
    a loop its own output, one element back; for everything else NumPy has made a copy."""
    cdef Py_ssize_t offset = operand - out
    cdef Py_ssize_t out_low = min(<Py_ssize_t>0, out_step * (n - 1))
    cdef Py_ssize_t out_high = max(<Py_ssize_t>0, out_step * (n - 1)) + itemsize
    cdef Py_ssize_t low = offset + min(<Py_ssize_t>0, step * (n - 1))
    cdef Py_ssize_t high = offset + max(<Py_ssize_t>0, step * (n - 1)) + itemsize
    if high <= out_low or out_high <= low:
        return False
    if step != out_step or step == 0:
        return True
    # Equal steps: the same elements, or fields that lie side by side, as in x[::2] and x[1::2].
    cdef Py_ssize_t stride = step if step > 0 else -step
    offset %= stride
    if offset < 0:
        offset += stride
    return not (operand == out or itemsize <= offset <= stride - itemsize)


cdef void copy_strided(char *to, Py_ssize_t to_step, const char *source, Py_ssize_t step,
                       Py_ssize_t itemsize, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if itemsize == 1:
        for i in range(n):
            (<uint8 *>(to + i * to_step))[0] = (<const uint8 *>(source + i * step))[0]
    elif itemsize == 2:
        for i in range(n):
            (<uint16 *>(to + i * to_step))[0] = (<const uint16 *>(source + i * step))[0]
    elif itemsize == 4:
        for i in range(n):
            (<uint32 *>(to + i * to_step))[0] = (<const uint32 *>(source + i * step))[0]
    elif itemsize == 8:
        for i in range(n):
            (<uint64 *>(to + i * to_step))[0] = (<const uint64 *>(source + i * step))[0]
    else:
        for i in range(n):
            memcpy(to + i * to_step, source + i * step, itemsize)


cdef void loop(char **operands, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps,
               void *data) noexcept nogil:
    cdef const Loop *this = <const Loop *>data
    cdef Py_ssize_t n = dimensions[0]
    cdef Py_ssize_t itemsize = active_table.itemsize[this.dtype]
    cdef Py_ssize_t bytes = n * itemsize
    cdef int inputs = this.arrays + this.parameters
    cdef char *out = operands[inputs]
    cdef Py_ssize_t out_step = steps[inputs]
    cdef bint contiguous = out_step == itemsize
    cdef bint one_by_one = False
    cdef Py_ssize_t step = 0
    cdef Py_ssize_t start, count
    cdef int reported = fetestexcept(FE_ALL_EXCEPT)  # by NumPy's casts, and NumPy's to warn of
    cdef int raised
    cdef int i
    cdef char parameter[16]  # of the largest itemsize
    cdef char gathered[3][GATHERED_BYTES]
    cdef char *inner[3]
    for i in range(inputs):
        inner[i] = operands[i]
        if i == this.arrays and steps[i] == 0:
            # One parameter for all: out of the reach of what the loop writes.
            memcpy(parameter, operands[i], itemsize)
            inner[i] = parameter
            continue
        contiguous &= steps[i] == itemsize and is_same_or_disjoint(out, operands[i], bytes)
        one_by_one |= feeds_back(out, out_step, operands[i], steps[i], itemsize, n)
        step |= i == this.arrays
    if contiguous:
        run(this.operation, this.dtype, out, inner[0], inner[1] if this.arrays == 2 else NULL,
            inner[this.arrays] if this.parameters else NULL, step, n, True)
    else:
        start = 0
        while start < n:
            count = 1 if one_by_one else min(n - start, GATHERED_BYTES // itemsize)
            for i in range(inputs):
                if inner[i] != parameter:
                    copy_strided(gathered[i], itemsize, operands[i] + start * steps[i], steps[i],
                                 itemsize, count)
                    inner[i] = gathered[i]
            run(this.operation, this.dtype, gathered[0], inner[0],
                inner[1] if this.arrays == 2 else NULL,
                inner[this.arrays] if this.parameters else NULL, step, count, True)
            copy_strided(out + start * out_step, out_step, gathered[0], itemsize, itemsize, count)
            start += count
    # No value warns: neither a comparison with NaN nor a product that overflows.
    raised = fetestexcept(FE_ALL_EXCEPT) & ~reported
    if raised:
        feclearexcept(raised)


cdef class _Operation:
    """What a ufunc points to for as long as the process runs."""
    cdef bytes name, doc, types
    cdef int operation, arrays, parameters
    cdef set dtypes
    cdef cnp.PyUFuncGenericFunction functions[TYPES]
    cdef void *data[TYPES]


cdef dict operations = {}  # ufunc: _Operation
__all__ = []


# Promotion.

cdef str name_of(dtype):
    return (getattr(dtype, "type", None) or dtype).__name__


cdef is_bfloat16(dtype):
    ml_dtypes = sys.modules.get("ml_dtypes")
    # None, too, while another thread is still importing it.
    bfloat16 = getattr(ml_dtypes, "bfloat16", None)
    return bfloat16 is not None and dtype.type is bfloat16


cdef register_bfloat16(dtype):
    """Give every ufunc its bfloat16 loop: ml_dtypes may be imported long after this module."""
    global bfloat16_number
    cdef _Operation this
    cdef int numbers[4]
    cdef int number
    cdef int i
    if bfloat16_number >= 0:
        return
    number = np.dtype(dtype.type).num
    for i in range(4):
        numbers[i] = number
    for ufunc, this in operations.items():
        cnp.PyUFunc_RegisterLoopForType(
            ufunc, number, <cnp.PyUFuncGenericFunction>loop, numbers,
            &loops[this.operation][BFLOAT16])
        this.dtypes.add(dtype)
    bfloat16_number = number


cdef set supported = {type(np.dtype(character)) for character in "?" + NUMBERS}
supported |= {<object>PY_FLOAT, <object>PY_LONG}


cdef numpy_promotion(list dtypes):
    cdef PyObject *c_dtypes[3]
    for i, dtype in enumerate(dtypes):
        c_dtypes[i] = <PyObject *>dtype
    return promote_dtypes(len(dtypes), c_dtypes)


cdef common_dtype(list dtypes):
    """NumPy's promotion; a Python number takes bfloat16, as it does any other float dtype."""
    defaults = {<object>PY_FLOAT: type(np.dtype(float)), <object>PY_LONG: type(np.dtype(int))}
    arrays = [dtype for dtype in dtypes if dtype not in defaults]
    numbers = [dtype for dtype in dtypes if dtype in defaults]
    if arrays:
        arrays = [numpy_promotion(arrays)]
        if is_bfloat16(arrays[0]):
            return arrays[0]
    common = numpy_promotion(arrays + numbers)
    return defaults.get(common, common)


cdef int promote(PyObject *c_ufunc, PyObject **operand_dtypes, PyObject **fixed,
                 PyObject **chosen) except -1 with gil:
    """Choose one dtype for all operands, as NumPy does for `multiply`.

    NumPy asks when no loop has exactly the operands' dtypes.  Its own search, by safe casting,
    would take float32 for bfloat16 with a Python float.
    """
    ufunc = <object>c_ufunc
    cdef _Operation this = operations[ufunc]
    cdef int inputs = this.arrays + this.parameters
    cdef int first = 0 if operand_dtypes[0] != NULL else 1  # `reduce` leaves the first open
    cdef int i
    dtypes = [<object>operand_dtypes[i] for i in range(first, inputs)]
    try:
        dtype = <object>fixed[inputs] if fixed[inputs] != NULL else common_dtype(dtypes)
    except TypeError:
        dtype = None
    if dtype is not None and is_bfloat16(dtype):
        register_bfloat16(dtype)
    if dtype not in this.dtypes:
        # Where each is supported, it is what they promote to that is not.
        unsupported = [d for d in dtypes if not (d in supported or is_bfloat16(d))] or dtypes
        names = ", ".join(dict.fromkeys(map(name_of, unsupported)))
        raise TypeError(f"{ufunc.__name__}: dtype {names} is not supported")
    for i in range(inputs + 1):
        chosen[i] = fixed[i] if fixed[i] != NULL else <PyObject *>dtype
        cnp.Py_INCREF(<object>chosen[i])
    return 0


# The ufuncs.

cdef define(int operation, str name, str arrays, str parameter, str characters):
    cdef _Operation this = _Operation()
    cdef int dtype, number, i
    this.operation = operation
    this.arrays = len(arrays.split())
    this.parameters = len(parameter.split())
    operands = (arrays + " " + parameter).split()
    this.name = name.encode()
    this.doc = (f"The ufunc behind `relu_ext.{name}`, which documents its values; "
                f"its operands are {', '.join(operands)}.").encode()
    this.types = bytes(
        np.dtype(character).num for character in characters for _ in [*operands, "out"])
    this.dtypes = {type(np.dtype(character)) for character in characters}
    for dtype in range(DTYPES):
        loops[operation][dtype] = Loop(operation, dtype, this.arrays, this.parameters)
    for i, character in enumerate(characters):
        number = np.dtype(character).num
        dtype = kernel_dtypes[number]
        this.functions[i] = <cnp.PyUFuncGenericFunction>loop
        this.data[i] = &loops[operation][dtype]
    ufunc = cnp.PyUFunc_FromFuncAndData(
        this.functions, this.data, this.types, len(characters), len(operands), 1,
        cnp.PyUFunc_None, this.name, this.doc, 0)
    PyUFunc_AddPromoter(
        ufunc, (np.dtype,) * (len(operands) + 1),
        PyCapsule_New(<void *>promote, "numpy._ufunc_promoter", NULL))
    try:
        ufunc.__module__ = __name__
        ufunc.__qualname__ = name
    except AttributeError:
        pass  # NumPy before 2.2; pickle then finds the ufunc by searching for it
    operations[ufunc] = this
    cnp.Py_INCREF(this)  # for good: a ufunc may outlive this module's dictionary
    __all__.append(name)
    return ufunc


relu = define(RELU, "relu", "x", "", "?" + NUMBERS)
relu_subgradient = define(RELU_SUBGRADIENT, "relu_subgradient", "x", "at_zero", NUMBERS)
relu_backward = define(RELU_BACKWARD, "relu_backward", "grad x", "at_zero", NUMBERS)
leaky_relu = define(LEAKY_RELU, "leaky_relu", "x", "negative_slope", NUMBERS)
leaky_relu_subgradient = define(
    LEAKY_RELU_SUBGRADIENT, "leaky_relu_subgradient", "x", "negative_slope", NUMBERS)
leaky_relu_backward = define(
    LEAKY_RELU_BACKWARD, "leaky_relu_backward", "grad x", "negative_slope", NUMBERS)
