# Written by tools/stubs.py.
#
# The overloads of an operation: plain calls on arrays, which keep their dtype; all others.  With a
# parameter only floating dtypes are kept, and to a type checker np.float64 is a float, although it
# promotes float32.  Without, there is one more, because mypy would else take a result of the wrong
# dtype for Any.

from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Buffer, TypeVar

class DLPack(Protocol):
    def __dlpack__(self, *arguments: Any, **keywords: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...

T = TypeVar("T")
Scalar = TypeVar("Scalar", bound=np.generic)
Float = TypeVar("Float", bound=np.floating[Any])
Out = TypeVar("Out", bound=NDArray[Any] | DLPack, default=Any)
Written = TypeVar("Written", bound=NDArray[Any] | Buffer | DLPack)

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
    "prelu",
    "prelu_",
    "relu",
    "relu_",
    "relu_backward",
    "relu_backward_",
    "relu_subgradient",
    "relu_subgradient_",
]

def _empty(x: T, /) -> T: ...
@overload
def relu(x: NDArray[Scalar], /) -> NDArray[Scalar]:
    """Rectified linear unit: max(0, x) for each element.

    Parameters
    ----------
    x : array_like
        Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def relu(x: NDArray[Any], /) -> NDArray[np.generic]: ...
@overload
def relu(
    x: ArrayLike,
    /,
    *,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def relu_(x: Written, /) -> Written:
    """Rectified linear unit in place: `relu` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    """

@overload
def relu_subgradient(x: NDArray[Float], /, *, at_zero: float = 0) -> NDArray[Float]:
    """A subgradient of `relu` at each element.

    Parameters
    ----------
    x : array_like
        Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.
    at_zero : scalar or array_like, default 0
        The subgradient at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
        scikit-learn use 0, some textbooks 1.  A Python number keeps a floating dtype.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def relu_subgradient(
    x: ArrayLike,
    /,
    *,
    at_zero: ArrayLike = 0,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def relu_subgradient_(x: Written, /, *, at_zero: ArrayLike = 0) -> Written:
    """A subgradient of `relu` in place: `relu_subgradient` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    at_zero : scalar or array_like, default 0
        The subgradient at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
        scikit-learn use 0, some textbooks 1.  A Python number keeps a floating dtype.
    """

@overload
def relu_backward(
    grad: NDArray[Float], x: NDArray[Float], /, *, at_zero: float = 0
) -> NDArray[Float]:
    """The gradient of a loss through `relu`: `grad` where x > 0, in one pass.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output, of any shape and any floating (ml_dtypes' bfloat16
        included) or integer dtype.
    x : array_like
        The input of the forward pass, of any real dtype: only whether it is > 0, < 0, ±0 or NaN is
        read, in its own dtype, which takes part in promotion.  It may be a mask; False is 0, so that
        `at_zero` decides there.
    at_zero : scalar or array_like, default 0
        The subgradient at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
        scikit-learn use 0, some textbooks 1.  A Python number keeps a floating dtype.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def relu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    /,
    *,
    at_zero: ArrayLike = 0,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def relu_backward_(grad: Written, x: ArrayLike, /, *, at_zero: ArrayLike = 0) -> Written:
    """The gradient through `relu` in place, written over `grad`.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    x : array_like
        The input of the forward pass, of any real dtype: only whether it is > 0, < 0, ±0 or NaN is
        read, in its own dtype, which takes part in promotion.  It may be a mask; False is 0, so that
        `at_zero` decides there.
    at_zero : scalar or array_like, default 0
        The subgradient at x = ±0.  Every value from 0 to 1 is a subgradient; PyTorch, JAX and
        scikit-learn use 0, some textbooks 1.  A Python number keeps a floating dtype.
    """

@overload
def leaky_relu(x: NDArray[Float], /, negative_slope: float = 0.01) -> NDArray[Float]:
    """Leaky rectified linear unit: x, multiplied by `negative_slope` where x is negative.

    Parameters
    ----------
    x : array_like
        Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def leaky_relu(
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def leaky_relu_(x: Written, /, negative_slope: ArrayLike = 0.01) -> Written:
    """Leaky rectified linear unit in place: `leaky_relu` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    """

@overload
def leaky_relu_subgradient(
    x: NDArray[Float], /, negative_slope: float = 0.01, *, at_zero: Literal[0, 1] | None = None
) -> NDArray[Float]:
    """A subgradient of `leaky_relu` at each element.

    Parameters
    ----------
    x : array_like
        Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    at_zero : None, 0 or 1, default None
        The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def leaky_relu_subgradient(
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    at_zero: Literal[0, 1] | None = None,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def leaky_relu_subgradient_(
    x: Written, /, negative_slope: ArrayLike = 0.01, *, at_zero: Literal[0, 1] | None = None
) -> Written:
    """A subgradient of `leaky_relu` in place, written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    at_zero : None, 0 or 1, default None
        The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.
    """

@overload
def leaky_relu_backward(
    grad: NDArray[Float],
    x: NDArray[Float],
    /,
    negative_slope: float = 0.01,
    *,
    at_zero: Literal[0, 1] | None = None,
) -> NDArray[Float]:
    """The gradient of a loss through `leaky_relu`, in one pass.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output, of any shape and any floating (ml_dtypes' bfloat16
        included) or integer dtype.
    x : array_like
        The input of the forward pass, of any real dtype: only whether it is > 0, < 0, ±0 or NaN is
        read, in its own dtype, which takes part in promotion.  It may be a mask; False is 0, so that
        `at_zero` decides there.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    at_zero : None, 0 or 1, default None
        The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def leaky_relu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    at_zero: Literal[0, 1] | None = None,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def leaky_relu_backward_(
    grad: Written,
    x: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    at_zero: Literal[0, 1] | None = None,
) -> Written:
    """The gradient through `leaky_relu` in place, written over `grad`.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    x : array_like
        The input of the forward pass, of any real dtype: only whether it is > 0, < 0, ±0 or NaN is
        read, in its own dtype, which takes part in promotion.  It may be a mask; False is 0, so that
        `at_zero` decides there.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    at_zero : None, 0 or 1, default None
        The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.
    """

@overload
def add_relu(x: NDArray[Scalar], y: NDArray[Scalar], /) -> NDArray[Scalar]:
    """ReLU of a sum in one pass: max(0, x + y), for a bias or a residual.

    Parameters
    ----------
    x : array_like
        Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.
    y : scalar or array_like
        A bias, a residual or a number; it broadcasts.  A Python number keeps the dtype of x.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def add_relu(x: NDArray[Any], y: NDArray[Any], /) -> NDArray[np.generic]: ...
@overload
def add_relu(
    x: ArrayLike,
    y: ArrayLike,
    /,
    *,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def add_relu_(x: Written, y: ArrayLike, /) -> Written:
    """ReLU of a sum in place: `add_relu` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    y : scalar or array_like
        A bias, a residual or a number; it broadcasts.  A Python number keeps the dtype of x.
    """

@overload
def add_leaky_relu(
    x: NDArray[Float], y: NDArray[Float], /, negative_slope: float = 0.01
) -> NDArray[Float]:
    """Leaky ReLU of a sum in one pass, for a bias or a residual.

    Parameters
    ----------
    x : array_like
        Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.
    y : scalar or array_like
        A bias, a residual or a number; it broadcasts.  A Python number keeps the dtype of x.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def add_leaky_relu(
    x: ArrayLike,
    y: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def add_leaky_relu_(x: Written, y: ArrayLike, /, negative_slope: ArrayLike = 0.01) -> Written:
    """Leaky ReLU of a sum in place: `add_leaky_relu` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    y : scalar or array_like
        A bias, a residual or a number; it broadcasts.  A Python number keeps the dtype of x.
    negative_slope : scalar or array_like, default 0.01
        The slope for negative values (0.01 in PyTorch, JAX and ONNX).  A Python number keeps a
        floating dtype; a NumPy scalar of another dtype promotes, so write ``float(slope)``.  An array
        broadcasts: for the channels of (N, C, H, W), write ``slope[:, np.newaxis, np.newaxis]``,
        because with W == C a bare slope applies along W in silence.
    """

@overload
def prelu(x: NDArray[Float], slope: float, /) -> NDArray[Float]:
    """Parametric ReLU, whose slope broadcasts as ONNX's PRelu, not as torch.nn.functional.prelu.

    Parameters
    ----------
    x : array_like
        Any shape, and any floating (ml_dtypes' bfloat16 included) or integer dtype.
    slope : scalar or array_like
        The slope for negative values.  A Python number keeps a floating dtype; an array broadcasts.
    out, where, casting, order, dtype, subok
        As for any NumPy ufunc.  Where `where` is False, a new array stays uninitialised.
    """

@overload
def prelu(
    x: ArrayLike,
    slope: ArrayLike,
    /,
    *,
    out: Out | tuple[Out] | None = None,
    where: ArrayLike = True,
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "same_kind",
    order: Literal["K", "A", "C", "F"] = "K",
    dtype: DTypeLike | None = None,
    subok: bool = True,
) -> Out: ...
def prelu_(x: Written, slope: ArrayLike, /) -> Written:
    """Parametric ReLU in place, whose slope broadcasts as ONNX's PRelu: `prelu` written over `x`.

    Parameters
    ----------
    x : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        It is overwritten without a copy, in any shape and layout.  PyTorch's autograd does not notice
        the change; if it may have saved the tensor, call ``torch.autograd.graph.increment_version``.
    slope : scalar or array_like
        The slope for negative values.  A Python number keeps a floating dtype; an array broadcasts.
    """
