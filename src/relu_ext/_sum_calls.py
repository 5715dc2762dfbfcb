"""The gradients of biases and slopes for calls that the kernels do not take as they are.

Contract: `_sums` decides every sum, and the ufuncs every gradient that is not summed as it is
computed.  Here other objects become ndarrays of one dtype and order, results go where they belong,
and errors say what to mend.
"""

from math import prod
from typing import Any

import numpy as np

from relu_ext import ufuncs
from relu_ext._exporters import array_over, result_array, writeable_array
from relu_ext._sparse import is_sparse
from relu_ext._sums import compute
from relu_ext._tensors import is_torch_tensor, new_result_of

Array = np.ndarray[Any, Any]
DType = np.dtype[Any]
Shape = tuple[int, ...]

_UFUNCS = (ufuncs.relu_backward, ufuncs.leaky_relu_backward)
_ADD_RELU, _PRELU = 0, 2  # the numbers of the calls, as in _sums.pyx


@np.errstate(all="ignore")
def backward(
    call: int, name: str, grad: Any, x: Any, parameter: Any, y: Any, out: Any
) -> tuple[Any, Any]:
    """Return both gradients.  The arguments are those of `_sums.backward`."""
    in_place = name.endswith("_")
    of_slope = call >= _PRELU
    second, third = ("x", "slope") if of_slope else ("output", "y")
    fourth = "slope" if of_slope else "negative_slope"
    outs = (None, None) if in_place else _pair(name, out)

    target = np.asarray(writeable_array(name, _no_sparse(name, "grad", grad))) if in_place else None
    arrays = [_array(name, "grad", grad if target is None else target), _array(name, second, x)]
    like = _array(name, third, _likeness(y, of_slope, arrays[0].dtype))
    if call == _ADD_RELU:
        parameter = 0
    if not _is_number(parameter):
        arrays.append(like if of_slope else _array(name, fourth, parameter))
    own_dtype = arrays[0].dtype
    dtype = _common_dtype(name, *(array.dtype for array in arrays))
    if len(arrays) == 2:
        arrays.append(_number(name, fourth, parameter, dtype))
    grad_array, x_array, parameter = (array.astype(dtype, copy=False) for array in arrays)

    shape = grad_array.shape
    if x_array.shape != shape:
        raise ValueError(
            f"{name}: grad of shape {shape} and {second} of shape {x_array.shape} differ"
        )
    for argument, array in ((third, like), (fourth, parameter)):
        if not _broadcasts(array.shape, shape):
            raise ValueError(
                f"{name}: {argument} of shape {array.shape} does not broadcast to the shape "
                f"{shape} of grad"
            )
    if not of_slope and np.any(parameter < 0):
        raise ValueError(
            f"{name}: negative_slope is less than 0, so that the output does not tell the sign of "
            f"the sum; keep the sum and call leaky_relu_backward"
        )
    if in_place:
        result_array(name, "grad", target, shape, dtype)
    else:
        target = result_array(name, "out[0]", outs[0], shape, dtype)
    learned_target = result_array(name, "out[1]", outs[1], like.shape, like.dtype)
    if target is not None and learned_target is not None and _share(target, learned_target):
        raise ValueError(f"{name}: out[0] and out[1] share memory")

    final = dtype if target is None else target.dtype
    is_summed = of_slope or prod(like.shape) != grad_array.size
    widest = wide = np.result_type(dtype, np.float32)
    if not of_slope:
        widest = _common_dtype(name, np.dtype(np.float32), final, own_dtype, like.dtype)
    if of_slope or (is_summed and final == dtype and widest == wide):
        grad_x = target if target is not None and final == dtype else None
        if grad_x is None:
            grad_x = np.empty_like(grad_array if target is None else target, dtype)
        learned = np.empty(like.shape, wide)
        _sum(call, grad_x, grad_array, x_array, parameter, learned)
        if target is not None and grad_x is not target:
            np.copyto(target, grad_x, casting="unsafe")
    else:
        grad_x = np.empty_like(grad_array) if target is None else target
        _UFUNCS[call](grad_array, x_array, parameter, out=grad_x, casting="unsafe")
        learned = grad_x.reshape(like.shape) if not is_summed else np.empty(like.shape, widest)
        if is_summed:
            terms = grad_x.astype(widest)
            zero = np.zeros((), widest)
            _sum(_ADD_RELU, terms, terms, np.ones_like(terms), zero, learned)
    learned = _rounded_once(learned, like.dtype)
    if learned_target is not None:
        np.copyto(learned_target, learned, casting="unsafe")
    operands = (grad, x, y)
    return (
        grad
        if in_place
        else _result(grad_x, outs[0], operands, any(map(is_torch_tensor, operands))),
        _result(learned, outs[1], operands, is_torch_tensor(y)),
    )


def _sum(
    call: int,
    grad_x: Array,
    grad: Array,
    x: Array,
    parameter: Array,
    learned: Array,
) -> None:
    """Fill `grad_x` and `learned`; where the kernels do not take the arrays as they lie, from and
    to copies whose summed axes follow each other."""
    shape = grad.shape
    if grad.size == 0:
        learned.fill(0)
    elif not compute(call, grad_x, grad, x, parameter, learned):
        kept = (1,) * (grad.ndim - learned.ndim) + learned.shape
        order = sorted(range(grad.ndim), key=lambda axis: -abs(grad_x.strides[axis]))
        start_of_run = len(order)
        while start_of_run and kept[order[start_of_run - 1]] == 1:
            start_of_run -= 1
        order[:start_of_run] = sorted(order[:start_of_run], key=lambda axis: kept[axis] != 1)

        def copy(array: Array, shape: Shape) -> Array:
            result = np.empty([shape[axis] for axis in order], array.dtype)
            result = result.transpose(np.argsort(order))
            result[...] = array
            return result

        result, sums = copy(grad, shape), copy(learned.reshape(kept), kept)
        parameter = copy(parameter, shape) if parameter.ndim else parameter.copy()
        if not compute(call, result, copy(grad, shape), copy(x, shape), parameter, sums):
            raise SystemError("the sums were not laid out")
        np.copyto(grad_x, result)
        np.copyto(learned, sums.reshape(learned.shape))


# Arguments.


def _pair(name: str, out: Any) -> tuple[Any, Any]:
    """The two arrays of `out`, each of which may be None."""
    if out is None:
        return None, None
    if not isinstance(out, tuple):
        raise TypeError(f"{name}: out is a {type(out).__name__}, not a tuple of two arrays")
    if len(out) != 2:
        raise ValueError(f"{name}: expected 2 arrays in out, not {len(out)}")
    return out


def _no_sparse(name: str, argument: str, x: Any) -> Any:
    if is_sparse(x):
        raise TypeError(f"{name}: {argument} is sparse; use x.toarray()")
    return x


def _array(name: str, argument: str, x: Any) -> Array:
    """Return an exact ndarray of floats in the machine's byte order: over the memory of a tensor,
    or what NumPy makes of another object."""
    x = _no_sparse(name, argument, x)
    array = np.asarray(array_over(name, x) if is_torch_tensor(x) else x)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"{name}: dtype {array.dtype.type.__name__} of {argument} is not supported; "
            f"use a floating dtype"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _likeness(y: Any, of_slope: bool, dtype: DType) -> Any:
    """Something that has the shape and the dtype of y: a Python number takes that of an array, and
    a bias that is a tensor may require a gradient, because it is not read."""
    if _is_number(y):
        return np.empty((), dtype)
    if not of_slope and is_torch_tensor(y):
        return y.detach().new_empty(()).expand(y.shape)
    return y


def _is_number(x: object) -> bool:
    """Whether x is a Python number, which takes the dtype of an array."""
    return isinstance(x, (int, float)) and not isinstance(x, (np.generic, bool))


def _number(name: str, argument: str, value: Any, dtype: DType) -> Array:
    """A Python number as an array of a dtype; one that is out of range is infinite there."""
    try:
        return np.asarray(float(value)).astype(dtype)
    except OverflowError:
        raise OverflowError(f"{name}: {argument} is out of range") from None


def _common_dtype(name: str, *dtypes: DType) -> DType:
    try:
        return np.result_type(*dtypes)
    except TypeError:
        names = ", ".join([dtype.type.__name__ for dtype in dtypes])
        raise TypeError(f"{name}: dtypes {names} have no common dtype; convert one") from None


def _broadcasts(own: Shape, shape: Shape) -> bool:
    return len(own) <= len(shape) and all(
        length in (1, whole) for length, whole in zip(own[::-1], shape[::-1], strict=False)
    )


# Results.


def _share(one: Array, other: Array) -> bool:
    try:
        return np.shares_memory(one, other, max_work=1 << 20)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _rounded_once(sums: Array, dtype: DType) -> Array:
    """Return a copy in a dtype, as if the sums were rounded to it at once.

    NumPy rounds a longdouble to float64 on the way to float16, and ml_dtypes a float64 to float32
    on the way to bfloat16.  Rounded to odd there, a number is no tie that was none before.
    """
    between = {"float16": (np.float64,), "bfloat16": (np.float64, np.float32)}
    for step in map(np.dtype, between.get(dtype.name, ())):
        if sums.dtype.itemsize > step.itemsize:
            rounded = sums.astype(step)
            other = np.nextafter(rounded, np.where(sums > rounded, np.inf, -np.inf).astype(step))
            is_even = rounded.view(f"i{step.itemsize}") % 2 == 0
            sums = np.where(is_even & (rounded != sums), other, rounded)
    return sums.astype(dtype)


def _result(result: Array, out: Any, operands: tuple[Any, ...], as_tensor: bool) -> Any:
    """What the caller gets: `out`, or a new result; without dimensions, a scalar."""
    if out is not None:
        return out
    return new_result_of(result if result.ndim or as_tensor else result[()], operands)
