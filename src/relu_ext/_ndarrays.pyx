"""Where NumPy's arrays and dtypes meet the kernels': an ndarray as an operand, and back."""

cimport numpy as cnp
from libc.string cimport memset
from relu_ext._table cimport (
    FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, LONGDOUBLE, UINT8, UINT16, UINT32, UINT64,
)

import sys

import numpy as np

from relu_ext._operations import OPERATIONS

cnp.import_array()

bfloat16_number = -1


cdef fill_kernel_dtypes():
    # By kind and size, because two of C's integers are one dtype, and longdouble's size differs by
    # platform.  relu keeps a bool as it does any uint8; no other operation has a loop for it.
    cdef dict dtypes = {
        "b1": UINT8, "f2": FLOAT16, "f4": FLOAT32, "f8": FLOAT64,
        "i1": INT8, "i2": INT16, "i4": INT32, "i8": INT64,
        "u1": UINT8, "u2": UINT16, "u4": UINT32, "u8": UINT64,
    }
    memset(kernel_dtypes, -1, sizeof(kernel_dtypes))
    for character in OPERATIONS[0].dtypes:  # relu has all of them
        dtype = np.dtype(character)
        kernel_dtypes[<int>dtype.num] = dtypes.get(dtype.str[1:], LONGDOUBLE)


fill_kernel_dtypes()


cdef bint is_bfloat16(dtype) except -1:
    ml_dtypes = sys.modules.get("ml_dtypes")
    # This is None also while another thread imports ml_dtypes.
    bfloat16 = getattr(ml_dtypes, "bfloat16", None)
    return bfloat16 is not None and dtype.type is bfloat16


cdef int remember_bfloat16(dtype) except -1:
    """Let `native_dtype` know the dtype; return its number, which never changes."""
    cdef int number = dtype.num
    store(bfloat16_number, number)
    return number
