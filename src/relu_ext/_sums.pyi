from typing import Any, Literal, TypeVar

from numpy.typing import ArrayLike, NDArray
from typing_extensions import Buffer

from relu_ext._api import DLPack

_Written = TypeVar("_Written", bound=NDArray[Any] | Buffer | DLPack)

def add_relu_backward(
    grad: ArrayLike,
    output: ArrayLike,
    y: ArrayLike,
    /,
    *,
    out: tuple[NDArray[Any] | DLPack | None, NDArray[Any] | DLPack | None] | None = None,
) -> tuple[Any, Any]: ...
def add_relu_backward_(
    grad: _Written, output: ArrayLike, y: ArrayLike, /
) -> tuple[_Written, Any]: ...
def add_leaky_relu_backward(
    grad: ArrayLike,
    output: ArrayLike,
    y: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: tuple[NDArray[Any] | DLPack | None, NDArray[Any] | DLPack | None] | None = None,
) -> tuple[Any, Any]: ...
def add_leaky_relu_backward_(
    grad: _Written, output: ArrayLike, y: ArrayLike, /, negative_slope: ArrayLike = 0.01
) -> tuple[_Written, Any]: ...
def prelu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    slope: ArrayLike,
    /,
    *,
    at_zero: Literal[0, 1] | None = None,
    out: tuple[NDArray[Any] | DLPack | None, NDArray[Any] | DLPack | None] | None = None,
) -> tuple[Any, Any]: ...
def prelu_backward_(
    grad: _Written, x: ArrayLike, slope: ArrayLike, /, *, at_zero: Literal[0, 1] | None = None
) -> tuple[_Written, Any]: ...
