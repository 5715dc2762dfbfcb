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


def leaky_relu_subgradient_0_at_zero(x, negative_slope):
    return _table(x, positive=1, negative=negative_slope, zero=0, nan=x)


def leaky_relu_subgradient_1_at_zero(x, negative_slope):
    return _table(x, positive=1, negative=negative_slope, zero=1, nan=x)


def leaky_relu_backward_0_at_zero(grad, x, negative_slope):
    product = _product(grad, negative_slope)
    return _table(x, positive=grad, negative=product, zero=0, nan=product)


def leaky_relu_backward_1_at_zero(grad, x, negative_slope):
    product = _product(grad, negative_slope)
    return _table(x, positive=grad, negative=product, zero=grad, nan=product)


def add_relu(x, y):
    return relu(_total(x, y))


def add_leaky_relu(x, y, negative_slope):
    return leaky_relu(_total(x, y), negative_slope)


_NAMES = [
    operation.ufunc_name.removeprefix("_")
    for operation in (*_operations.OPERATIONS, *_operations.AT_ZERO)
]
OPERATIONS = {name: globals()[name] for name in _NAMES}


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


# Sums: the documented order, one addition of NumPy at a time.

FOLDED = 16  # rows
RUN = 512  # numbers of a piece of a run, at most
LANES = 32  # its sums


def fold(terms):
    """Add the upper half to the lower one until one is left, with +0 for what lacks."""
    while len(terms) > 1:
        half = 1 << (len(terms) - 1).bit_length() - 1
        terms = np.concatenate([terms[: len(terms) - half] + terms[half:],
                                terms[len(terms) - half : half]])  # fmt: skip
    return terms[0]


def lanes(terms):
    """Add each number to those that lie a multiple of LANES before it, one after the other."""
    sums = terms[:LANES]
    for start in range(LANES, len(terms), LANES):
        last = terms[start : start + LANES]
        sums = np.concatenate([sums[: len(last)] + last, sums[len(last) :]])
    return sums


def summed_axes(shape, kept_shape):
    """The axes along which an array of `kept_shape` broadcasts to `shape`."""
    kept = (1,) * (len(shape) - len(kept_shape)) + tuple(kept_shape)
    return [i for i in range(len(shape)) if kept[i] == 1 != shape[i]]


def summed(terms, kept_shape, strides):
    """The sums over all axes along which an array of `kept_shape` broadcasts, of terms in the dtype
    in which they are added; `strides` are those of the gradient."""
    summed = summed_axes(terms.shape, kept_shape)
    order = sorted(range(terms.ndim), key=lambda i: -abs(strides[i]))
    long = [i for i in order if terms.shape[i] != 1]
    run = []
    while long and long[-1] in summed:
        run.insert(0, long.pop())
    rows = [i for i in order if i in summed and i not in run]
    kept = [i for i in order if i not in summed]
    kept_lengths = [terms.shape[i] for i in kept]
    if 0 in terms.shape:
        return np.zeros(kept_shape, terms.dtype)
    length = int(np.prod([terms.shape[i] for i in run]))
    terms = terms.transpose(rows + run + kept).reshape(-1, length, *kept_lengths)
    missing = np.zeros((-length % LANES * (length > LANES), *kept_lengths), terms.dtype)
    pieces = -(-length // RUN)
    piece = -(-length // (pieces * LANES)) * LANES
    terms = np.stack([lanes(np.concatenate([row, missing])[start : start + piece])
                      for row in terms for start in range(0, length, piece)])  # fmt: skip
    blocks = [terms[start : start + FOLDED] for start in range(0, len(terms), FOLDED)]
    sums = [fold(fold(block)) for block in blocks]
    while len(sums) > 1:
        sums = [sum(sums[i + 1 : i + 2], start=sums[i]) for i in range(0, len(sums), 2)]
    total = sums[0]
    total = np.where(total != total, np.array(np.nan, total.dtype), np.where(total == 0, 0, total))
    total = total.astype(terms.dtype).transpose(np.argsort(kept))
    return total.reshape(kept_shape)


def add_backward(operation, grad, output, y, parameter):
    """Both gradients of `add_relu` or `add_leaky_relu`."""
    grad_x = evaluate(operation, [grad, output], parameter)
    return grad_x, learned_bias(grad_x, grad.dtype, y, grad.strides)


def learned_bias(grad_x, grad_dtype, y, strides):
    """The gradient of y, which is summed as grad_x was rounded; `strides` are those of grad_x."""
    with np.errstate(all="ignore"):
        if not summed_axes(grad_x.shape, y.shape):
            return grad_x.reshape(y.shape).astype(y.dtype)
        widened = (np.promote_types(d, np.float32) for d in (grad_x.dtype, grad_dtype, y.dtype))
        wide = np.result_type(*widened)
        return summed(grad_x.astype(wide), y.shape, strides).astype(y.dtype)


def prelu_backward(grad, x, slope, at_zero=None, strides=None):
    """Both gradients of `prelu`; `strides` are those of the first one."""
    grad_x = evaluate("leaky_relu_backward", [grad, x], slope)
    if at_zero is not None:
        with np.errstate(all="ignore"):
            share = grad.astype(grad_x.dtype) if at_zero else np.zeros_like(grad_x)
            grad_x = np.where(x == 0, share, grad_x)
    wide = np.result_type(grad, x, slope, np.float32)
    with np.errstate(all="ignore"):
        terms = grad.astype(wide) * x.astype(wide)
        terms = np.where((x > 0) | (x == 0), np.zeros_like(terms), terms)
        learned = summed(terms, slope.shape, grad.strides if strides is None else strides)
        return grad_x, learned.astype(slope.dtype)
