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
    # The numbers of NumPy's legacy dtypes lie below; others are -1 or, as those that another
    # package registers, from 256.
    TYPES = 24

cdef signed char kernel_dtypes[TYPES]
cdef int bfloat16_number

cdef bint is_bfloat16(dtype) except -1
cdef int remember_bfloat16(dtype) except -1


cdef inline int native_dtype(const PyArray_Descr *dtype) noexcept nogil:
    """The kernels' dtype for numbers in the machine's byte order, -1 where there is none."""
    if dtype.byteorder == NPY_OPPBYTE or dtype.type_num < 0:
        return -1
    if dtype.type_num < TYPES:
        return kernel_dtypes[dtype.type_num]
    return BFLOAT16 if dtype.type_num == bfloat16_number else -1
