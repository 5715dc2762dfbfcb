"""The calls that the front door does not take: through the ufunc, on any array_like.

Contract: the ufunc decides every value.  Here operands that NumPy would not take become ndarrays,
results become tensors where an operand is one, and errors say what to mend.
"""

from itertools import combinations
from typing import Any

import numpy as np

from relu_ext._exporters import array_over, needs_dlpack, writeable_array
from relu_ext._operations import AT_ZERO, OPERATIONS
from relu_ext._sparse import call_on_sparse, is_sparse, write_sparse
from relu_ext._tensors import check_memory, is_torch_tensor, new_result_of

_DESCRIBED = {operation.ufunc_name: operation for operation in (*OPERATIONS, *AT_ZERO)}


def arrays_of(name: str, operands: tuple[Any, ...], like: object = None) -> tuple[Any, ...]:
    """Return the operands of a ufunc, with ndarrays instead of those that NumPy would not take.

    Every tensor is replaced, because NumPy takes no tensor of bfloat16, and warns when it turns the
    result into a tensor.  Other exporters are replaced if NumPy would take them for Python objects,
    or if they have the type of `like`, the object that is written.
    """
    kind = type(like) if hasattr(type(like), "__dlpack__") else None
    return tuple(
        array_over(name, x) if is_torch_tensor(x) or type(x) is kind or needs_dlpack(x) else x
        for x in operands
    )


def call_ufunc(ufunc: np.ufunc, operands: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Return ``ufunc(*operands, **keywords)``, whose operands and `out` may also be tensors or
    sparse.

    A new result is a tensor if an operand is one.
    """
    name = _DESCRIBED[ufunc.__name__].name
    if any(map(is_sparse, operands)):
        return call_on_sparse(name, ufunc, arrays_of(name, operands), keywords)
    out, where, dtype = keywords.get("out"), keywords.get("where"), keywords.get("dtype")
    target = _target_of(out)
    if not any(map(is_torch_tensor, (*operands, target, where))):
        return _call(name, ufunc, operands, arrays_of(name, operands), keywords)
    mask: Any = None
    if where is not None:
        keywords["where"] = mask = _mask(name, where)
    # An object may have a dtype, which NumPy asks for; a class of dtypes is no dtype.
    if not isinstance(dtype, (type(None), str, type(np.dtype))) and not any(
        map(_decides_itself, operands)
    ):
        keywords["dtype"] = np.dtype(dtype)
    arrays = arrays_of(name, tuple(map(_settled, operands)))
    array = writeable_array(name, target) if is_torch_tensor(target) else None
    if array is not None:
        keywords["out"] = array
    check_memory(name, (*arrays, mask, array))
    if is_torch_tensor(where):
        keywords["where"] = mask.astype(bool, copy=False)
    result = _call(name, ufunc, operands, arrays, keywords)
    if array is not None:
        return target if result is array else result
    return result if out is not None else new_result_of(result, operands)


def _settled(x: Any) -> Any:
    """Return what NumPy would make of an operand beside a tensor, whose memory the Python that runs
    for it could take: after this none runs, but that of an operand with an `__array_ufunc__`."""
    if (
        type(x) in (bool, int, float, complex)
        or isinstance(x, (np.ndarray, np.generic))
        or is_torch_tensor(x)
        or needs_dlpack(x)
        or _decides_itself(x)
    ):
        return x
    return np.asarray(x)


def _mask(name: str, where: Any) -> Any:
    """Return what NumPy would make of `where`, of which it takes the truth, if it is no array."""
    if is_torch_tensor(where) or needs_dlpack(where):
        return array_over(name, where)
    if hasattr(type(where), "__array__"):
        return _settled(where)
    return where if isinstance(where, bool) else np.asarray(where, bool)


def _target_of(out: Any) -> Any:
    """What `out` names, alone or as a tuple of one, as NumPy takes it."""
    return out[0] if type(out) is tuple and len(out) == 1 else out


def call_ufunc_in_place(ufunc: np.ufunc, operands: tuple[Any, ...]) -> Any:
    """Write the ufunc of the operands over the first of them, and return that one."""
    name = f"{_DESCRIBED[ufunc.__name__].name}_"
    target = operands[0]
    if any(map(is_sparse, operands)):
        write_sparse(name, ufunc, (target, *arrays_of(name, operands[1:])))
        return target
    array = writeable_array(name, target)
    others = operands[1:]
    if any(map(is_torch_tensor, operands)):
        others = tuple(map(_settled, others))
    arrays = arrays_of(name, (array, *others), target)
    check_memory(name, arrays)
    if _call(name, ufunc, operands, arrays, {"out": array}) is array:
        return target
    raise TypeError(
        f"{name}: an __array_ufunc__ or __array_wrap__ of the operands returned "
        f"an object other than the one to write, which may have been written"
    )


# Errors.


def _call(
    name: str,
    ufunc: np.ufunc,
    given: tuple[Any, ...],
    operands: tuple[Any, ...],
    keywords: dict[str, Any],
) -> Any:
    """Call the ufunc; where NumPy's error does not say which argument to mend, say it, by what was
    given."""
    try:
        return ufunc(*operands, **keywords)
    except (TypeError, ValueError) as error:
        if any(map(_decides_itself, operands)):
            raise
        shown = [
            x if type(array) is np.ndarray and array.dtype.kind == "O" else array
            for x, array in zip(given, operands, strict=True)
        ]
        arguments = dict(zip(_DESCRIBED[ufunc.__name__].operands, shown, strict=True))
        try:
            message = _explanation(name, ufunc.__name__, arguments, keywords, error)
        except Exception:  # of an operand that is asked once more
            message = None
        if message is None:
            raise
        raise (ValueError if isinstance(error, ValueError) else TypeError)(message) from None


def _decides_itself(x: object) -> bool:
    """Whether an operand computes ufuncs by code of its own, whose errors are its own too."""
    own = getattr(type(x), "__array_ufunc__", np.ndarray.__array_ufunc__)
    return own is not np.ndarray.__array_ufunc__


def _explanation(
    name: str,
    ufunc_name: str,
    arguments: dict[str, Any],
    keywords: dict[str, Any],
    error: Exception,
) -> str | None:
    """What to say instead of an error of NumPy, or None if that says enough."""
    for argument, value in arguments.items():
        if (what := _no_number(value)) is not None:
            return f"{name}: {argument} {what}; it must be a number or an array of numbers"
    if isinstance(error, ValueError):
        return _shapes_that_differ(name, arguments) or _out_that_does_not_fit(
            name, arguments, keywords
        )
    words = str(error)
    if "ArrayType" in words:
        kind = type(keywords.get("out")).__name__
        return f"{name}: out is of type {kind}; it must be an ndarray"
    if name.endswith("_") and hasattr(error, "from_") and hasattr(error, "to"):
        return _dtype_that_does_not_fit(name, arguments, error.from_, error.to)
    public = name.rstrip("_")
    if name != public and words.startswith(f"{public}:"):
        return name + words.removeprefix(public)
    if ufunc_name != public and repr(ufunc_name) in words:  # which is private
        return f"{name}: {words.replace(ufunc_name, name)}"
    return None


def _no_number(value: object) -> str | None:
    """What an argument is, if NumPy takes it for a Python object."""
    if hasattr(type(value), "__array__"):
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.dtype.kind != "O":
        return None
    if value is None:
        return "is None"
    return f"is a {type(value).__name__}" if array.ndim == 0 else "has dtype object"


def _dtype_that_does_not_fit(
    name: str, arguments: dict[str, Any], result: np.dtype[Any], dtype: np.dtype[Any]
) -> str:
    first, *_, last = arguments
    value = arguments[last]
    new = name.rstrip("_")
    if last in ("at_zero", "negative_slope") and result.kind == "f" and np.ndim(value) == 0:
        return (
            f"{name}: {dtype} with {last} {value} gives {result}; use {new}, "
            f"an integer {last}, or {first}.astype(np.float32)"
        )
    return (
        f"{name}: the result has dtype {result}, which {first}, of dtype {dtype}, cannot hold; "
        f"use {new}, or {first}.astype(np.{result})"
    )


def _shapes_that_differ(name: str, arguments: dict[str, Any]) -> str | None:
    shapes = {argument: np.shape(value) for argument, value in arguments.items()}
    for (one, shape), (other, other_shape) in combinations(shapes.items(), 2):
        if _broadcast(shape, other_shape) is None:
            hint = ""
            if len(shape) > 2 and other_shape == shape[1:2]:
                hint = f"; for one per channel, use {other}[:{', np.newaxis' * (len(shape) - 2)}]"
            return f"{name}: {one} {shape} and {other} {other_shape} do not broadcast{hint}"
    first, *others = shapes
    for other in others:
        if name.endswith("_") and _broadcast(shapes[first], shapes[other]) != shapes[first]:
            return (
                f"{name}: {other} {shapes[other]} does not broadcast to the shape of {first}, "
                f"{shapes[first]}"
            )
    return None


def _out_that_does_not_fit(
    name: str, arguments: dict[str, Any], keywords: dict[str, Any]
) -> str | None:
    target = _target_of(keywords.get("out"))
    if not isinstance(target, np.ndarray):
        return None
    if not target.flags.writeable:
        return f"{name}: out is read-only"
    inputs = [*arguments.values(), keywords.get("where", True)]
    shape = _broadcast(*[np.shape(x) for x in inputs])
    if shape is None or _broadcast(shape, target.shape) == target.shape:
        return None
    return f"{name}: out has shape {target.shape}, and the result has shape {shape}"


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None
