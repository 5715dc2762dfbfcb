"""Where NumPy's arrays and dtypes meet the kernels': an ndarray as an operand, and back."""

cimport numpy as cnp
from relu_ext._table cimport (
    FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, LONGDOUBLE, UINT8, UINT16, UINT32, UINT64,
)

import sys

import numpy as np

from relu_ext._operations import OPERATIONS

cnp.import_array()

bfloat16_number = -1


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
    for character in OPERATIONS[0].dtypes:  # relu has all of them
        dtype = np.dtype(character)
        number = dtype.num
        kernel_dtypes[number] = dtypes.get(dtype.name, LONGDOUBLE)


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
