from typing import Any, Literal, SupportsIndex, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Out = TypeVar("_Out", bound=NDArray[Any])
_Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...]
_Which = TypeVar("_Which", bound=NDArray[np.integer[Any]])

@overload
def maxout(
    x: ArrayLike,
    /,
    axis: _Axis = -1,
    *,
    out: _Out | tuple[_Out],
    return_which: Literal[False] = False,
) -> _Out: ...
@overload
def maxout(
    x: ArrayLike,
    /,
    axis: _Axis = -1,
    *,
    out: tuple[_Out, _Which],
    return_which: Literal[True],
) -> tuple[_Out, _Which]: ...
@overload
def maxout(
    x: ArrayLike,
    /,
    axis: _Axis = -1,
    *,
    out: tuple[NDArray[Any] | None, NDArray[np.integer[Any]] | None] | None = None,
    return_which: Literal[True],
) -> tuple[Any, Any]: ...
@overload
def maxout(
    x: ArrayLike, /, axis: _Axis = -1, *, out: None = None, return_which: bool = False
) -> Any: ...
@overload
def maxout_backward(
    grad: NDArray[_Scalar],
    which: NDArray[np.integer[Any]],
    pieces: _Axis,
    /,
    axis: _Axis = -1,
    *,
    out: None = None,
) -> NDArray[_Scalar]: ...
@overload
def maxout_backward(
    grad: ArrayLike,
    which: ArrayLike,
    pieces: _Axis,
    /,
    axis: _Axis = -1,
    *,
    out: _Out | tuple[_Out],
) -> _Out: ...
@overload
def maxout_backward(
    grad: ArrayLike,
    which: ArrayLike,
    pieces: _Axis,
    /,
    axis: _Axis = -1,
    *,
    out: None = None,
) -> NDArray[Any]: ...
