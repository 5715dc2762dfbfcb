# Written by tools/stubs.py.

from typing import Any, Literal, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import TypeVar

from relu_ext._api import Out, Scalar

Which = TypeVar("Which", bound=NDArray[np.integer[Any]], default=Any)
Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...]

@overload
def maxout(
    x: ArrayLike,
    /,
    axis: Axis = -1,
    *,
    out: Out | tuple[Out] | None = None,
    return_which: Literal[False] = False,
) -> Out:
    """The maximum of linear pieces: a maxout layer's activation, and max-pooling.

    Parameters
    ----------
    x : array_like
        Floating (ml_dtypes' bfloat16 included), integer or bool.  It may be a PyTorch tensor on the
        CPU.  A subclass of ndarray is taken as a plain array; a mask is ignored.
    axis : int or tuple of int, default -1
        The axis of the pieces, of length 1 or more, or several of them.
    out : ndarray or tensor, or tuple of them, optional
        Where to write the maximum; with `return_which` a pair, either of which may be None.  It may
        overlap `x`.
    return_which : bool, default False
        Whether to tell which piece won, for `maxout_backward`.
    """

@overload
def maxout(
    x: ArrayLike,
    /,
    axis: Axis = -1,
    *,
    out: tuple[Out | None, Which | None] | None = None,
    return_which: Literal[True],
) -> tuple[Out, Which]: ...
@overload
def maxout(
    x: ArrayLike,
    /,
    axis: Axis = -1,
    *,
    out: None = None,
    return_which: bool = False,
) -> Any: ...
@overload
def maxout_backward(
    grad: NDArray[Scalar],
    which: NDArray[np.integer[Any]],
    pieces: Axis,
    /,
    axis: Axis = -1,
    *,
    out: None = None,
) -> NDArray[Scalar]:
    """The gradient of a loss through `maxout`: `grad` at the piece that won, 0 at the others.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output of `maxout`, of any dtype of its input.  It may be a
        PyTorch tensor on the CPU.
    which : array_like
        The number of the piece that won, from ``maxout(x, axis, return_which=True)``, in any
        integer dtype and any shape that broadcasts with that of `grad`.  It may be a tensor.
    pieces : int or tuple of int
        The number of pieces, or one number for each axis.
    axis : int or tuple of int, default -1
        The axis of the pieces in the result, or a tuple of as many as there are `pieces`.
    out : ndarray or tensor, optional
        Where to write the result.  It may overlap `grad` and `which`.
    """

@overload
def maxout_backward(
    grad: ArrayLike,
    which: ArrayLike,
    pieces: Axis,
    /,
    axis: Axis = -1,
    *,
    out: Out | tuple[Out],
) -> Out: ...
@overload
def maxout_backward(
    grad: ArrayLike,
    which: ArrayLike,
    pieces: Axis,
    /,
    axis: Axis = -1,
    *,
    out: None = None,
) -> NDArray[Any]: ...
