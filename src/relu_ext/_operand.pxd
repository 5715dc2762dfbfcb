"""Operands as C sees them: arrays, whoever owns their memory, and Python numbers."""

from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact

cdef extern from "Python.h":
    double PyLong_AsDouble(object) noexcept  # -1 and an exception set; Cython's own raises it

cdef struct Operand:
    # A pointer, a shape and strides; the element i, j, ... is at data + (i * strides[0] +
    # j * strides[1] + ...) * stride_unit bytes.  The shape and the strides belong to whoever
    # described the array and last as long as the call.
    char *data
    int axes
    const Py_ssize_t *shape
    const Py_ssize_t *strides
    Py_ssize_t stride_unit  # 1 for an ndarray, whose strides count bytes; the itemsize for DLPack
    int dtype  # of _table.pxd
    bint writeable


cdef inline Py_ssize_t count(const Py_ssize_t *shape, int axes) noexcept nogil:
    """The number of elements."""
    cdef Py_ssize_t size = 1
    cdef int axis
    for axis in range(axes):
        size *= shape[axis]
    return size


cdef inline bint is_number(object x) noexcept:
    """Whether x is a Python int or float, and no subclass."""
    return PyFloat_CheckExact(x) or PyLong_CheckExact(x)


cdef inline bint read_number(object value, double *number) noexcept:
    """Read a Python number; False for an int that no double holds."""
    if PyFloat_CheckExact(value):
        number[0] = PyFloat_AS_DOUBLE(value)
        return True
    number[0] = PyLong_AsDouble(value)
    if number[0] == -1 and PyErr_Occurred() != NULL:
        PyErr_Clear()
        return False
    return True
