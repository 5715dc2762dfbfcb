"""The oracle: the contract of values in plain NumPy, written apart from the library.

The operations take arrays of one dtype (the parameter too) and return that dtype. `evaluate`
promotes first and also says where the contract asks for a NaN but leaves open which one.
"""

from typing import NamedTuple

import ml_dtypes
import numpy as np

bfloat16 = np.dtype(ml_dtypes.bfloat16)


class Expected(NamedTuple):
    values: np.ndarray
    any_nan: np.ndarray  # where every NaN is right


def is_floating(dtype):
    return dtype == bfloat16 or np.issubdtype(dtype, np.floating)


def _table(x, positive, negative, zero, nan):
    """One column of the contract's table."""
    result = np.empty_like(x)
    for where, value in ((x > 0, positive), (x < 0, negative), (x == 0, zero), (x != x, nan)):
        np.copyto(result, np.asarray(value, x.dtype), where=where)
    return result


def _share(grad, at_zero):
    share = np.where(at_zero == 1, grad, grad * at_zero)
    return np.where(at_zero == 0, np.zeros_like(share), share)


def relu(x):
    return _table(x, positive=x, negative=0, zero=0, nan=x)


def relu_subgradient(x, at_zero):
    return _table(x, positive=1, negative=0, zero=at_zero, nan=x)


def relu_backward(grad, x, at_zero):
    return _table(x, positive=grad, negative=0, zero=_share(grad, at_zero), nan=grad)


def leaky_relu(x, negative_slope):
    return _table(x, positive=x, negative=x * negative_slope, zero=x, nan=x)


def leaky_relu_subgradient(x, negative_slope):
    return _table(x, positive=1, negative=negative_slope, zero=negative_slope, nan=x)


def leaky_relu_backward(grad, x, negative_slope):
    product = grad * negative_slope
    return _table(x, positive=grad, negative=product, zero=product, nan=product)


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        relu, relu_subgradient, relu_backward,
        leaky_relu, leaky_relu_subgradient, leaky_relu_backward,
    )
}  # fmt: skip


def result_dtype(arrays, parameter):
    """The dtype in which everything is computed: that of ``x * parameter``, except that a Python
    number leaves every floating dtype as it is (in NumPy, it widens bfloat16)."""
    dtype = np.result_type(*arrays)
    if parameter is None or (type(parameter) in (int, float) and is_floating(dtype)):
        return dtype
    return np.result_type(dtype, parameter)


def evaluate(operation, arrays, parameter=None):
    """What `operation` makes of `arrays` (x, or grad and x) and the `parameter`, if it has one."""
    arrays = [np.asarray(array) for array in arrays]
    dtype = result_dtype(arrays, parameter)
    with np.errstate(all="ignore"):
        arrays = [array.astype(dtype) for array in np.broadcast_arrays(*arrays)]
        if parameter is None:
            values = OPERATIONS[operation](*arrays)
            return Expected(values, np.zeros(values.shape, bool))
        parameter = np.asarray(parameter).astype(dtype)
        *arrays, parameters = np.broadcast_arrays(*arrays, parameter)
        values = OPERATIONS[operation](*arrays, parameters)
        # Of two NaNs multiplied, one survives: which, is the order of the machine's operands.
        is_product = {
            "relu_backward": lambda grad, x: (x == 0) & (parameters != 0) & (parameters != 1),
            "leaky_relu": lambda x: x < 0,
            "leaky_relu_backward": lambda grad, x: ~(x > 0),
        }.get(operation, lambda *arrays: np.zeros(values.shape, bool))
        return Expected(values, is_product(*arrays) & (parameters != parameters))
