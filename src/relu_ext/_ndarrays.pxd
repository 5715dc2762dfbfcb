cimport numpy as cnp
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject
from relu_ext._operand cimport Operand
from relu_ext._table cimport BFLOAT16

cdef extern from "numpy/ndarraytypes.h":
    ctypedef struct PyArrayObject:
        pass
    ctypedef struct PyArray_Descr:
        PyTypeObject *typeobj  # of its scalars
        char byteorder
        int type_num
    PyArray_Descr *PyArray_DESCR(PyArrayObject *array) noexcept nogil
    char NPY_OPPBYTE

cdef extern from "numpy/ndarrayobject.h":
    PyTypeObject PyArray_Type
    object PyArray_NewFromDescr(
        PyTypeObject *, PyArray_Descr *, int, cnp.npy_intp *, cnp.npy_intp *, void *, int,
        PyObject *)

cdef extern from "_atomic.h" nogil:
    int load "RELU_EXT_LOAD"(int number)
    void store "RELU_EXT_STORE"(int number, int value)

cdef enum:
    # NumPy's legacy dtypes have numbers below this.  Others have -1 or, if another package
    # registers them, 256 and more.
    TYPES = 24

cdef signed char kernel_dtypes[TYPES]
cdef int bfloat16_number  # an atomic

cdef bint is_bfloat16(dtype) except -1
cdef int remember_bfloat16(dtype) except -1


cdef inline int native_dtype(const PyArray_Descr *dtype) noexcept nogil:
    """The kernels' dtype for numbers in the machine's byte order, -1 where there is none."""
    if dtype.byteorder == NPY_OPPBYTE or dtype.type_num < 0:
        return -1
    if dtype.type_num < TYPES:
        return kernel_dtypes[dtype.type_num]
    return BFLOAT16 if dtype.type_num == load(bfloat16_number) else -1


cdef inline bint is_writeable(object x) noexcept:
    return cnp.PyArray_FLAGS(<cnp.ndarray>x) & cnp.NPY_ARRAY_WRITEABLE


cdef inline void describe_ndarray(object x, int dtype, Operand *operand) noexcept:
    cdef cnp.ndarray array = <cnp.ndarray>x
    operand.data = <char *>cnp.PyArray_DATA(array)
    operand.axes = cnp.PyArray_NDIM(array)
    operand.shape = <const Py_ssize_t *>cnp.PyArray_DIMS(array)
    operand.strides = <const Py_ssize_t *>cnp.PyArray_STRIDES(array)
    operand.stride_unit = 1
    operand.dtype = dtype
    operand.writeable = is_writeable(x)


cdef inline object new_array(PyArray_Descr *dtype, int axes, const Py_ssize_t *shape,
                             const Py_ssize_t *strides, bint fortran):
    """A new ndarray; in C's order, or Fortran's, if `strides` is NULL."""
    Py_INCREF(<object>dtype)  # PyArray_NewFromDescr steals it
    return PyArray_NewFromDescr(
        # The flags: anything but 0 asks for Fortran's order.
        &PyArray_Type, dtype, axes, <cnp.npy_intp *>shape, <cnp.npy_intp *>strides, NULL, fortran,
        NULL)
