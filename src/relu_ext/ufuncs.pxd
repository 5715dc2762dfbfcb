from relu_ext._table cimport BFLOAT16

cdef extern from "numpy/ndarraytypes.h":
    ctypedef struct PyArrayObject:
        pass
    ctypedef struct PyArray_Descr:
        char byteorder
        int type_num
    PyArray_Descr *PyArray_DESCR(PyArrayObject *array) noexcept nogil
    char NPY_OPPBYTE

cdef enum:
    TYPES = 24  # NumPy's own type numbers lie below, those of other packages from 256

cdef signed char kernel_dtypes[TYPES]
cdef int bfloat16_number


cdef inline int native_dtype(const PyArray_Descr *dtype) noexcept nogil:
    """The kernels' dtype for numbers in the machine's byte order, -1 where there is none."""
    if dtype.byteorder == NPY_OPPBYTE:
        return -1
    if dtype.type_num < TYPES:
        return kernel_dtypes[dtype.type_num]
    return BFLOAT16 if dtype.type_num == bfloat16_number else -1
