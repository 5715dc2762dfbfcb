# Written by tools/stubs.py.
#
# The overloads of an operation: calls with a NumPy scalar, which promotes, although np.float64 is a
# float to a type checker; plain calls, whose dtype is known; of other dtypes, an array, without
# which mypy would take a result of the wrong dtype for Any; `out`, which is returned; all others.

from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Buffer

class _DLPack(Protocol):
    def __dlpack__(self, *arguments: Any, **keywords: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...

_T = TypeVar("_T")
_Scalar = TypeVar("_Scalar", bound=np.generic)
_Float = TypeVar("_Float", bound=np.floating[Any])
_Int = TypeVar("_Int", bound=np.integer[Any])
_Out = TypeVar("_Out", bound=NDArray[Any])
_Written = TypeVar("_Written", bound=NDArray[Any] | Buffer | _DLPack)
_Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe"]
_Order: TypeAlias = Literal["K", "A", "C", "F"]

__all__ = [
    "add_leaky_relu",
    "add_leaky_relu_",
    "add_relu",
    "add_relu_",
    "leaky_relu",
    "leaky_relu_",
    "leaky_relu_backward",
    "leaky_relu_backward_",
    "leaky_relu_subgradient",
    "leaky_relu_subgradient_",
    "relu",
    "relu_",
    "relu_backward",
    "relu_backward_",
    "relu_subgradient",
    "relu_subgradient_",
]

def _empty(x: _T, /) -> _T: ...
@overload
def relu(x: NDArray[_Scalar], /) -> NDArray[_Scalar]: ...
@overload
def relu(x: NDArray[Any], /) -> NDArray[np.generic]: ...
@overload
def relu(
    x: ArrayLike,
    /,
    *,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def relu(
    x: ArrayLike,
    /,
    *,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def relu_(x: _Written, /) -> _Written: ...
@overload
def relu_subgradient(x: ArrayLike, /, *, at_zero: np.generic) -> Any: ...
@overload
def relu_subgradient(x: NDArray[_Float], /, *, at_zero: float = 0) -> NDArray[_Float]: ...
@overload
def relu_subgradient(x: NDArray[_Int], /, *, at_zero: int = 0) -> NDArray[_Int]: ...
@overload
def relu_subgradient(x: NDArray[Any], /, *, at_zero: float = 0) -> NDArray[np.generic]: ...
@overload
def relu_subgradient(
    x: ArrayLike,
    /,
    *,
    at_zero: ArrayLike = 0,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def relu_subgradient(
    x: ArrayLike,
    /,
    *,
    at_zero: ArrayLike = 0,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def relu_subgradient_(x: _Written, /, *, at_zero: ArrayLike = 0) -> _Written: ...
@overload
def relu_backward(grad: ArrayLike, x: ArrayLike, /, *, at_zero: np.generic) -> Any: ...
@overload
def relu_backward(
    grad: NDArray[_Float], x: NDArray[_Float], /, *, at_zero: float = 0
) -> NDArray[_Float]: ...
@overload
def relu_backward(
    grad: NDArray[_Int], x: NDArray[_Int], /, *, at_zero: int = 0
) -> NDArray[_Int]: ...
@overload
def relu_backward(
    grad: NDArray[Any], x: NDArray[Any], /, *, at_zero: float = 0
) -> NDArray[np.generic]: ...
@overload
def relu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    /,
    *,
    at_zero: ArrayLike = 0,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def relu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    /,
    *,
    at_zero: ArrayLike = 0,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def relu_backward_(grad: _Written, x: ArrayLike, /, *, at_zero: ArrayLike = 0) -> _Written: ...
@overload
def leaky_relu(x: ArrayLike, /, negative_slope: np.generic) -> Any: ...
@overload
def leaky_relu(x: NDArray[_Float], /, negative_slope: float = 0.01) -> NDArray[_Float]: ...
@overload
def leaky_relu(x: NDArray[_Int], /, negative_slope: int) -> NDArray[_Int]: ...
@overload
def leaky_relu(
    x: NDArray[np.integer[Any]], /, negative_slope: float = 0.01
) -> NDArray[np.float64]: ...
@overload
def leaky_relu(x: NDArray[Any], /, negative_slope: float = 0.01) -> NDArray[np.generic]: ...
@overload
def leaky_relu(
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def leaky_relu(
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def leaky_relu_(x: _Written, /, negative_slope: ArrayLike = 0.01) -> _Written: ...
@overload
def leaky_relu_subgradient(x: ArrayLike, /, negative_slope: np.generic) -> Any: ...
@overload
def leaky_relu_subgradient(
    x: NDArray[_Float], /, negative_slope: float = 0.01
) -> NDArray[_Float]: ...
@overload
def leaky_relu_subgradient(x: NDArray[_Int], /, negative_slope: int) -> NDArray[_Int]: ...
@overload
def leaky_relu_subgradient(
    x: NDArray[np.integer[Any]], /, negative_slope: float = 0.01
) -> NDArray[np.float64]: ...
@overload
def leaky_relu_subgradient(
    x: NDArray[Any], /, negative_slope: float = 0.01
) -> NDArray[np.generic]: ...
@overload
def leaky_relu_subgradient(
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def leaky_relu_subgradient(
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def leaky_relu_subgradient_(x: _Written, /, negative_slope: ArrayLike = 0.01) -> _Written: ...
@overload
def leaky_relu_backward(grad: ArrayLike, x: ArrayLike, /, negative_slope: np.generic) -> Any: ...
@overload
def leaky_relu_backward(
    grad: NDArray[_Float], x: NDArray[_Float], /, negative_slope: float = 0.01
) -> NDArray[_Float]: ...
@overload
def leaky_relu_backward(
    grad: NDArray[_Int], x: NDArray[_Int], /, negative_slope: int
) -> NDArray[_Int]: ...
@overload
def leaky_relu_backward(
    grad: NDArray[np.integer[Any]], x: NDArray[np.integer[Any]], /, negative_slope: float = 0.01
) -> NDArray[np.float64]: ...
@overload
def leaky_relu_backward(
    grad: NDArray[Any], x: NDArray[Any], /, negative_slope: float = 0.01
) -> NDArray[np.generic]: ...
@overload
def leaky_relu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def leaky_relu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def leaky_relu_backward_(
    grad: _Written, x: ArrayLike, /, negative_slope: ArrayLike = 0.01
) -> _Written: ...
@overload
def add_relu(x: NDArray[_Scalar], y: NDArray[_Scalar], /) -> NDArray[_Scalar]: ...
@overload
def add_relu(x: NDArray[Any], y: NDArray[Any], /) -> NDArray[np.generic]: ...
@overload
def add_relu(
    x: ArrayLike,
    y: ArrayLike,
    /,
    *,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def add_relu(
    x: ArrayLike,
    y: ArrayLike,
    /,
    *,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def add_relu_(x: _Written, y: ArrayLike, /) -> _Written: ...
@overload
def add_leaky_relu(x: ArrayLike, y: ArrayLike, /, negative_slope: np.generic) -> Any: ...
@overload
def add_leaky_relu(
    x: NDArray[_Float], y: NDArray[_Float], /, negative_slope: float = 0.01
) -> NDArray[_Float]: ...
@overload
def add_leaky_relu(x: NDArray[_Int], y: NDArray[_Int], /, negative_slope: int) -> NDArray[_Int]: ...
@overload
def add_leaky_relu(
    x: NDArray[np.integer[Any]], y: NDArray[np.integer[Any]], /, negative_slope: float = 0.01
) -> NDArray[np.float64]: ...
@overload
def add_leaky_relu(
    x: NDArray[Any], y: NDArray[Any], /, negative_slope: float = 0.01
) -> NDArray[np.generic]: ...
@overload
def add_leaky_relu(
    x: ArrayLike,
    y: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: _Out | tuple[_Out],
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> _Out: ...
@overload
def add_leaky_relu(
    x: ArrayLike,
    y: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: None = None,
    where: ArrayLike = True,
    casting: _Casting = "same_kind",
    order: _Order = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Any: ...
def add_leaky_relu_(x: _Written, y: ArrayLike, /, negative_slope: ArrayLike = 0.01) -> _Written: ...
