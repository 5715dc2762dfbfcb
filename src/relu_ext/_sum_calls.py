"""The gradients of biases and slopes for calls that the kernels do not take as they are.

Contract: the ufuncs decide every term, and `_sums` every sum.  Here other objects become ndarrays
of one dtype and order, results go where they belong, and errors say what to mend.
"""

from math import prod
from typing import Any

import numpy as np

from relu_ext import ufuncs
from relu_ext._exporters import array_of, result_array, writeable_array
from relu_ext._operations import AT_ZERO, OPERATIONS
from relu_ext._sums import add
from relu_ext._tensors import check_memory, is_torch_tensor, new_result_of

Array = np.ndarray[Any, Any]
DType = np.dtype[Any]


@np.errstate(all="ignore")
def backward(
    operation: int, name: str, grad: Any, x: Any, parameter: Any, y: Any, out: Any
) -> tuple[Any, Any]:
    """Return both gradients.  The ufunc of an operation computes the first one; the other arguments
    are those of `_sums.backward`."""
    in_place = name.endswith("_")
    of_slope = name.startswith("prelu")
    second, third = ("x", "slope") if of_slope else ("output", "y")
    fourth = "slope" if of_slope else "negative_slope"
    outs = (np.asarray(writeable_array(name, grad)), None) if in_place else _pair(name, out)
    arrays = [_array(name, "grad", outs[0] if in_place else grad), _array(name, second, x)]
    like = _array(name, third, _likeness(y, of_slope, arrays[0].dtype))
    if name.startswith("add_relu"):
        parameter = 0
    if not _is_number(parameter):
        arrays.append(like if of_slope else _array(name, fourth, parameter))
    own_dtype = arrays[0].dtype
    dtype = _common_dtype(name, *(array.dtype for array in arrays))
    if len(arrays) == 2:
        try:  # A number that is out of the dtype's range is infinite there.
            arrays.append(np.asarray(float(parameter)).astype(dtype))
        except OverflowError:
            raise OverflowError(f"{name}: {fourth} is out of range") from None

    shape = arrays[0].shape
    if arrays[1].shape != shape:
        raise ValueError(
            f"{name}: grad of shape {shape} and {second} of shape {arrays[1].shape} differ"
        )
    for argument, array in ((third, like), (fourth, arrays[2])):
        try:
            np.broadcast_to(array, shape)
        except ValueError:
            raise ValueError(
                f"{name}: {argument} of shape {array.shape} does not broadcast to the shape "
                f"{shape} of grad"
            ) from None
    target = result_array(name, "grad" if in_place else "out[0]", outs[0], shape, dtype)
    learned_target = result_array(name, "out[1]", outs[1], like.shape, like.dtype)
    check_memory(name, (*arrays, target, learned_target))
    grad_array, x_array, parameter = (array.astype(dtype, copy=False) for array in arrays)
    if not of_slope and np.any(parameter < 0):
        raise ValueError(
            f"{name}: negative_slope is less than 0, so that the output does not tell the sign of "
            f"the sum; keep the sum and call leaky_relu_backward"
        )
    if target is not None and learned_target is not None and _share(target, learned_target):
        raise ValueError(f"{name}: out[0] and out[1] share memory")

    grad_x = np.empty_like(grad_array) if target is None else target
    widest = np.result_type(dtype, np.float32)
    if of_slope:  # before grad or x is overwritten
        factors = grad_array.astype(widest), x_array.astype(widest)
    ufunc = getattr(ufuncs, (*OPERATIONS, *AT_ZERO)[operation].ufunc_name)
    ufunc(grad_array, x_array, parameter, out=grad_x, casting="unsafe")
    if not of_slope:
        each = (grad_x.dtype, own_dtype, like.dtype)
        widest = np.result_type(*[np.promote_types(dtype, np.float32) for dtype in each])
        factors = grad_x.astype(widest, copy=False), np.ones_like(grad_x, widest)
    if of_slope or prod(like.shape) != grad_array.size:
        learned = _rounded_once(_sum(*factors, grad_x, like.shape, of_slope), like.dtype)
    else:
        learned = grad_x.astype(like.dtype).reshape(like.shape)
    if learned_target is not None:
        np.copyto(learned_target, learned, casting="unsafe")
    of_number = isinstance(y, (int, float, np.generic))  # whose gradient is a scalar
    return (
        grad if in_place else _result(grad_x, outs[0], (grad, x, y)),
        _result(learned, outs[1], () if of_number else (grad, x, y)),
    )


def _sum(grad: Array, x: Array, grad_x: Array, shape: tuple[int, ...], of_slope: bool) -> Array:
    """Sum what `add` adds to a shape that broadcasts, in the order of grad_x's memory: of copies
    whose summed axes follow each other, unless grad lies as grad_x and is taken so."""
    kept = (1,) * (grad.ndim - len(shape)) + shape
    sums = np.zeros(kept, grad.dtype)
    items = [[step // a.itemsize for step in a.strides] for a in (grad, grad_x)]
    if grad.size and not (items[0] == items[1] and add(grad, x, sums, of_slope)):
        order = sorted(range(grad.ndim), key=lambda axis: -abs(grad_x.strides[axis]))
        start_of_run = len(order)
        while start_of_run and kept[order[start_of_run - 1]] == 1:
            start_of_run -= 1
        order[:start_of_run] = sorted(order[:start_of_run], key=lambda axis: kept[axis] != 1)
        back = np.argsort(order)
        grad, x, sums = (a.transpose(order).copy().transpose(back) for a in (grad, x, sums))
        if not add(grad, x, sums, of_slope):
            raise SystemError("the sums were not laid out")
    return sums.reshape(shape)


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


def _array(name: str, argument: str, x: Any) -> Array:
    """Return an exact ndarray of floats in the machine's byte order."""
    array = array_of(name, argument, x)
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
        try:
            return y.detach().new_empty(()).expand(y.shape)
        except RuntimeError:  # of a sparse or a quantised one, which `_array` refuses
            return y
    return y


def _is_number(x: object) -> bool:
    """Whether x is a Python number, which takes the dtype of an array."""
    return isinstance(x, (int, float)) and not isinstance(x, (np.generic, bool))


def _common_dtype(name: str, *dtypes: DType) -> DType:
    try:
        return np.result_type(*dtypes)
    except TypeError:
        names = ", ".join([dtype.type.__name__ for dtype in dtypes])
        raise TypeError(f"{name}: dtypes {names} have no common dtype; convert one") from None


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


def _result(result: Array, out: Any, operands: tuple[Any, ...]) -> Any:
    """What the caller gets: `out`, or a new result; without dimensions, a scalar."""
    if out is not None:
        return out
    return new_result_of(result if result.ndim else result[()], operands)
