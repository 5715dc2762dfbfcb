"""The oracle: the contract of values in plain NumPy, written apart from the library.

The operations take arrays of one dtype (the parameter too) and return that dtype; `evaluate`
promotes first.
"""

import functools

import ml_dtypes
import numpy as np
from relu_ext import _operations

bfloat16 = np.dtype(ml_dtypes.bfloat16)


def is_floating(dtype):
    return dtype == bfloat16 or np.issubdtype(dtype, np.floating)


def _table(x, positive, negative, zero, nan):
    """One column of the contract's table."""
    result = np.empty_like(x)
    for where, value in ((x > 0, positive), (x < 0, negative), (x == 0, zero), (x != x, nan)):
        np.copyto(result, np.asarray(value, x.dtype), where=where)
    return result


def _product(a, parameter):
    """Of two NaNs, the parameter's; in NumPy it depends on the order of the machine's operands."""
    return np.where(parameter != parameter, parameter + parameter, a * parameter)


def _total(x, y):
    """Of two NaNs, x's; in NumPy it depends on the order of the machine's operands."""
    return np.where(x != x, x + x, x + y)


def _share(grad, at_zero):
    share = np.where(at_zero == 1, grad, _product(grad, at_zero))
    return np.where(at_zero == 0, np.zeros_like(share), share)


def relu(x):
    return _table(x, positive=x, negative=0, zero=0, nan=x)


def relu_subgradient(x, at_zero):
    return _table(x, positive=1, negative=0, zero=at_zero, nan=x)


def relu_backward(grad, x, at_zero):
    return _table(x, positive=grad, negative=0, zero=_share(grad, at_zero), nan=grad)


def leaky_relu(x, negative_slope):
    return _table(x, positive=x, negative=_product(x, negative_slope), zero=x, nan=x)


def leaky_relu_subgradient(x, negative_slope):
    return _table(x, positive=1, negative=negative_slope, zero=negative_slope, nan=x)


def leaky_relu_backward(grad, x, negative_slope):
    product = _product(grad, negative_slope)
    return _table(x, positive=grad, negative=product, zero=product, nan=product)


def add_relu(x, y):
    return relu(_total(x, y))


def add_leaky_relu(x, y, negative_slope):
    return leaky_relu(_total(x, y), negative_slope)


OPERATIONS = {operation.name: globals()[operation.name] for operation in _operations.OPERATIONS}


def is_weak(operand):
    """Whether a Python number takes the dtype of a floating array, as NumPy versions differ about
    subclasses of int and float."""
    python = isinstance(operand, (int, float)) and not isinstance(operand, np.generic)
    return python and np.result_type(np.float16, operand) == np.float16


def result_dtype(operands):
    """The dtype in which everything is computed: that of NumPy's product or sum of the operands,
    except that a Python number leaves bfloat16, too, as it is."""
    arrays = [np.asarray(operand) for operand in operands if not is_weak(operand)]
    try:
        dtype = np.result_type(*arrays) if arrays else None
    except TypeError:  # ml_dtypes promotes bfloat16 and some dtypes in products only
        dtype = functools.reduce(lambda a, b: a[:0] * b[:0], map(np.ravel, arrays)).dtype
    if arrays and is_floating(dtype):
        return dtype
    return np.result_type(*(o if is_weak(o) else np.asarray(o) for o in operands))


def evaluate(operation, arrays, parameter=None):
    """What `operation` makes of `arrays` and of the `parameter`, if it has one."""
    operands = [*arrays] if parameter is None else [*arrays, parameter]
    dtype = result_dtype(operands)
    with np.errstate(all="ignore"):
        operands = [array.astype(dtype) for array in np.broadcast_arrays(*operands)]
        return OPERATIONS[operation](*operands)


def _pieces_last(x, axis):
    """The pieces along the last axis, in C's order of the axes as they are named."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    moved = np.moveaxis(np.asarray(x), axes, range(-len(axes), 0))
    return moved.reshape(*moved.shape[: -len(axes)], np.prod(moved.shape[-len(axes) :]))


def maxout(x, axis):
    """The greatest of the pieces and its number: the first NaN, else the first of the greatest.
    np.argmax finds it, and zeros of both signs are equal there too."""
    pieces = _pieces_last(x, axis)
    # ml_dtypes has no argmax of its own; widened, bfloat16 keeps its order.
    which = np.argmax(pieces.astype("f4") if x.dtype == bfloat16 else pieces, -1)
    return np.take_along_axis(pieces, which[..., None], -1)[..., 0], which


def maxout_backward(grad, which, pieces, axis):
    axes, lengths = (given if isinstance(given, tuple) else (given,) for given in (axis, pieces))
    result = np.zeros((*grad.shape, np.prod(lengths, dtype=int)), grad.dtype)
    if grad.size:
        np.put_along_axis(result, which[..., None], grad[..., None], -1)
    result = result.reshape(*grad.shape, *lengths)
    return np.moveaxis(result, range(-len(axes), 0), axes)
