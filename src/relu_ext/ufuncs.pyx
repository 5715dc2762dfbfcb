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
from relu_ext._ndarrays cimport TYPES, is_bfloat16, kernel_dtypes, remember_bfloat16
from relu_ext._operand cimport Operand
from relu_ext._table cimport BFLOAT16, DTYPES, OUT, PARAMETER, ROLES, A, B
from relu_ext._walk cimport (
    FE_ALL_EXCEPT, MASK, WALKED, Plan, fetestexcept, is_safe, settle, start_plan,
    take_back_exceptions, walk,
)

from functools import reduce

import numpy as np

from relu_ext._operations import OPERANDS
from relu_ext._operations import AT_ZERO as choices
from relu_ext._operations import OPERATIONS as descriptions

cnp.import_array()
cnp.import_ufunc()

cdef extern from "numpy/ufuncobject.h":
    int PyUFunc_AddPromoter(object ufunc, object dtypes, object promoter) except -1

cdef extern from "numpy/dtype_api.h":
    """
    #define RELU_EXT_PY_FLOAT ((PyObject *)&PyArray_PyFloatDType)
    #define RELU_EXT_PY_LONG ((PyObject *)&PyArray_PyLongDType)
    """
    PyObject *PY_FLOAT "RELU_EXT_PY_FLOAT"
    PyObject *PY_LONG "RELU_EXT_PY_LONG"


# The loop: one for all operations and dtypes.

cdef struct Loop:
    int operation
    int dtype
    int arrays
    int inputs  # the arrays and the parameter

cdef void loop(char **operands, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps,
               void *data) noexcept nogil:
    cdef const Loop *this = <const Loop *>data
    cdef char *at[ROLES]
    cdef Py_ssize_t step[ROLES]
    cdef char one_parameter[16]  # of the largest itemsize
    cdef int before = fetestexcept(FE_ALL_EXCEPT)  # raised by NumPy's casts, of which NumPy warns
    cdef Operand described[ROLES]
    cdef const Operand *by_role[WALKED]
    cdef Plan laid
    cdef Py_ssize_t i, _element
    cdef int role
    at[B] = at[PARAMETER] = operands[0]  # not read where the operation has no such array
    step[B] = step[PARAMETER] = 0
    by_role[B] = by_role[PARAMETER] = by_role[MASK] = NULL
    for i in range(this.inputs + 1):
        role = OUT if i == this.inputs else PARAMETER if i == this.arrays else B if i == 1 else A
        at[role], step[role] = operands[i], steps[i]
        if role == PARAMETER and step[role] == 0:
            # What the loop writes cannot reach this copy.
            at[role] = one_parameter
            memcpy(one_parameter, operands[i], active_table.itemsize[this.dtype])
        described[role] = Operand(at[role], 1, <const Py_ssize_t *>dimensions, &step[role], 1,
                                  this.dtype, True)
        by_role[role] = &described[role]
    start_plan(&laid, this.operation, this.dtype, by_role, True)
    settle(&laid)
    if is_safe(&laid):
        walk(&laid)
    else:
        # One by one: `reduce` and `accumulate` pass a loop its own output, one element back.  For
        # any other overlap NumPy has made a copy.
        for _element in range(dimensions[0]):
            active_table.kernel[this.operation][this.dtype](
                at[OUT], at[A], at[B], at[PARAMETER], 1, NULL)
            for role in range(ROLES):
                at[role] += step[role]
    # No value warns: neither a comparison with NaN nor a product that overflows.
    take_back_exceptions(before)


cdef class _Operation:
    """What a ufunc points to for as long as the process runs."""
    cdef object description
    cdef bytes name, doc, types
    cdef set dtypes
    cdef Loop loops[DTYPES]
    cdef cnp.PyUFuncGenericFunction functions[TYPES]
    cdef void *data[TYPES]


cdef dict operations = {}  # ufunc: _Operation


# Promotion.

cdef register_bfloat16(ufunc, _Operation this, dtype):
    """Give a ufunc its bfloat16 loop: ml_dtypes may be imported long after this module.

    Each ufunc's promoter registers its own.  Without the GIL, NumPy calls the promoter under that
    ufunc's lock, so that no thread searches the loops meanwhile.
    """
    cdef int numbers[4]
    numbers[:] = [remember_bfloat16(np.dtype(dtype.type))] * 4
    cnp.PyUFunc_RegisterLoopForType(
        ufunc, numbers[0], <cnp.PyUFuncGenericFunction>loop, numbers, &this.loops[BFLOAT16])
    this.dtypes.add(dtype)


# relu has all of them.
cdef set supported = {type(np.dtype(character)) for character in descriptions[0].dtypes}
cdef dict numbers = {<object>PY_FLOAT: 0.0, <object>PY_LONG: 0}


cdef bint is_supported(dtype) except -1:
    return dtype in supported or dtype in numbers or is_bfloat16(dtype)


def product(one, other):
    """An instance of the dtype of a product: with some, ml_dtypes promotes in ufuncs only."""
    return np.multiply.resolve_dtypes((one, other, None))[2]


cdef common_dtype(list dtypes):
    """NumPy's promotion; a Python number takes bfloat16, as it does any other float dtype."""
    arrays = [np.dtype(dtype.type) for dtype in dtypes if dtype not in numbers]
    if arrays:
        try:
            arrays = [np.result_type(*arrays)]
        except TypeError:
            arrays = [reduce(product, arrays)]
        if is_bfloat16(arrays[0]):
            return type(arrays[0])
    return type(np.result_type(*arrays, *[numbers[dtype] for dtype in dtypes if dtype in numbers]))


cdef int promote(PyObject *c_ufunc, PyObject **operand_dtypes, PyObject **fixed,
                 PyObject **chosen) except -1 with gil:
    """Choose one dtype for all operands, as NumPy does for `multiply`.

    NumPy calls this if no loop has exactly the operands' dtypes.  Its own search, by safe casting,
    would take float32 for bfloat16 with a Python float.
    """
    ufunc = <object>c_ufunc
    cdef _Operation this = operations[ufunc]
    cdef tuple operands = this.description.operands
    cdef int inputs = len(operands)
    cdef int first = 0 if operand_dtypes[0] != NULL else 1  # `reduce` leaves the first open
    cdef int i
    if fixed[inputs] != NULL:
        dtypes = {"": <object>fixed[inputs]}  # that was asked for
    else:
        dtypes = {f" of {operands[i]}": <object>operand_dtypes[i] for i in range(first, inputs)}
    unsupported = {operand: dtype for operand, dtype in dtypes.items() if not is_supported(dtype)}
    try:
        dtype = None if unsupported else common_dtype(list(dtypes.values()))
    except TypeError:
        dtype = None
    if dtype is not None and is_bfloat16(dtype) and dtype not in this.dtypes:
        register_bfloat16(ufunc, this, dtype)
    if dtype not in this.dtypes:
        # If each of them is supported, the dtype to which they promote is not.
        names = [(getattr(dtype, "type", None) or dtype).__name__ + operand
                 for operand, dtype in (unsupported or dtypes).items()]
        raise TypeError(f"{this.description.name}: dtype {', '.join(names)} is not supported; "
                        "use a floating or an integer dtype")
    for i in range(inputs + 1):
        chosen[i] = fixed[i] if fixed[i] != NULL else <PyObject *>dtype
        cnp.Py_INCREF(<object>chosen[i])
    return 0


# The ufuncs.

def __dir__():
    return __all__


cdef str documentation(str name, tuple operands):
    """NumPy puts a signature before it, which has x for one operand, and x1, x2 and x3 for more."""
    lines = [f"The ufunc behind `relu_ext.{name}`, which documents its values.", "",
             "Parameters", "----------"]
    for i, operand in enumerate(operands, 1):
        lines.append(f"x{i if len(operands) > 1 else ''} : array_like")
        lines.append(f"    `{operand}`: {OPERANDS[operand]}.")
    lines += ["out, where, casting, order, dtype, subok, signature", "    As for any NumPy ufunc."]
    return "\n".join(lines)


in_order = (*descriptions, *choices)
"""What describes each operation, at its number in `_table.pxd`."""
cdef dict positions = {description.ufunc_name: i for i, description in enumerate(in_order)}
__all__ = [description.ufunc_name for description in descriptions]


cdef define(int operation, description):
    cdef _Operation this = _Operation()
    cdef int inputs = len(description.operands)
    cdef int i
    this.description = description
    this.name = description.ufunc_name.encode()
    this.doc = documentation(description.name, description.operands).encode()
    dtypes = [np.dtype(character) for character in description.dtypes]
    this.types = bytes([dtype.num for dtype in dtypes for _ in range(inputs + 1)])
    this.dtypes = {type(dtype) for dtype in dtypes}
    for i in range(DTYPES):
        this.loops[i] = Loop(operation, i, len(description.arrays), inputs)
    for i, dtype in enumerate(dtypes):
        this.functions[i] = <cnp.PyUFuncGenericFunction>loop
        this.data[i] = &this.loops[kernel_dtypes[<int>dtype.num]]
    ufunc = cnp.PyUFunc_FromFuncAndData(
        this.functions, this.data, this.types, len(dtypes), inputs, 1,
        cnp.PyUFunc_None, this.name, this.doc, 0)
    PyUFunc_AddPromoter(
        ufunc, (np.dtype,) * (inputs + 1),
        PyCapsule_New(<void *>promote, "numpy._ufunc_promoter", NULL))
    try:
        ufunc.__module__ = __name__
        ufunc.__qualname__ = description.ufunc_name
    except AttributeError:
        pass  # NumPy before 2.2; pickle then finds the ufunc by searching for it
    operations[ufunc] = this
    cnp.Py_INCREF(this)  # for good: a ufunc may outlive this module's dictionary
    return ufunc


def __getattr__(name):
    """A ufunc, made when it is first needed: an import of them all takes 0.4 ms longer.

    Where two threads make one, the first to enter it gives it to both.
    """
    position = positions.get(name)
    if position is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, define(position, in_order[position]))
