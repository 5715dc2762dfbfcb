# Written by tools/stubs.py.

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import TypeVar

from relu_ext._api import DLPack, Float, Written

Learned = TypeVar("Learned", bound=np.floating[Any])
First = TypeVar("First", bound=NDArray[Any] | DLPack, default=Any)
Second = TypeVar("Second", bound=NDArray[Any] | DLPack, default=Any)

def add(grad: NDArray[Any], x: NDArray[Any], learned: NDArray[Any], of_slope: bool) -> bool: ...
@overload
def add_leaky_relu_backward(
    grad: NDArray[Float],
    output: NDArray[Float],
    y: NDArray[Learned],
    /,
    negative_slope: float = 0.01,
) -> tuple[NDArray[Float], NDArray[Learned]]:
    """The gradients of a loss through `add_leaky_relu`, in one pass: of x, and of a bias y.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output: floating (ml_dtypes' bfloat16 included), of any
        shape.  It may be a PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain
        array; a mask is ignored.
    output : array_like
        The output of the forward pass, of grad's shape.  The gradient at a sum of 0 is that at a
        negative one.
    y : scalar or array_like
        What was added.  Only its shape and its floating dtype count.  Its memory is not read: it may
        have been overwritten, and a tensor may require a gradient.
    negative_slope : scalar or array_like, default 0.01
        The slope of the forward pass, at least 0.
    out : tuple of two ndarrays or tensors, optional
        Where to write the results; either may be None.  They may overlap the operands but not each
        other, and are overwritten: to accumulate, add the results to a total.  With ``out=(grad,
        buffer)`` nothing is allocated.
    """

@overload
def add_leaky_relu_backward(
    grad: ArrayLike,
    output: ArrayLike,
    y: ArrayLike,
    /,
    negative_slope: ArrayLike = 0.01,
    *,
    out: tuple[First | None, Second | None] | None = None,
) -> tuple[First, Second]: ...
@overload
def add_leaky_relu_backward_(
    grad: Written, output: ArrayLike, y: NDArray[Learned], /, negative_slope: ArrayLike = 0.01
) -> tuple[Written, NDArray[Learned]]:
    """The gradients through `add_leaky_relu` in place: that of x is written over `grad`.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        The gradient with respect to the output; that of x is written over it without a copy.
    output : array_like
        The output of the forward pass, of grad's shape.  The gradient at a sum of 0 is that at a
        negative one.
    y : scalar or array_like
        What was added.  Only its shape and its floating dtype count.  Its memory is not read: it may
        have been overwritten, and a tensor may require a gradient.
    negative_slope : scalar or array_like, default 0.01
        The slope of the forward pass, at least 0.
    """

@overload
def add_leaky_relu_backward_(
    grad: Written, output: ArrayLike, y: ArrayLike, /, negative_slope: ArrayLike = 0.01
) -> tuple[Written, Any]: ...
@overload
def add_relu_backward(
    grad: NDArray[Float], output: NDArray[Float], y: NDArray[Learned], /
) -> tuple[NDArray[Float], NDArray[Learned]]:
    """The gradients of a loss through `add_relu`, in one pass: of x, and of a bias or residual y.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output: floating (ml_dtypes' bfloat16 included), of any
        shape.  It may be a PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain
        array; a mask is ignored.
    output : array_like
        The output of the forward pass, of grad's shape.  The gradient at a sum of 0 is that at a
        negative one.
    y : scalar or array_like
        What was added.  Only its shape and its floating dtype count.  Its memory is not read: it may
        have been overwritten, and a tensor may require a gradient.
    out : tuple of two ndarrays or tensors, optional
        Where to write the results; either may be None.  They may overlap the operands but not each
        other, and are overwritten: to accumulate, add the results to a total.  With ``out=(grad,
        buffer)`` nothing is allocated.
    """

@overload
def add_relu_backward(
    grad: ArrayLike,
    output: ArrayLike,
    y: ArrayLike,
    /,
    *,
    out: tuple[First | None, Second | None] | None = None,
) -> tuple[First, Second]: ...
@overload
def add_relu_backward_(
    grad: Written, output: ArrayLike, y: NDArray[Learned], /
) -> tuple[Written, NDArray[Learned]]:
    """The gradients through `add_relu` in place: that of x is written over `grad`.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        The gradient with respect to the output; that of x is written over it without a copy.
    output : array_like
        The output of the forward pass, of grad's shape.  The gradient at a sum of 0 is that at a
        negative one.
    y : scalar or array_like
        What was added.  Only its shape and its floating dtype count.  Its memory is not read: it may
        have been overwritten, and a tensor may require a gradient.
    """

@overload
def add_relu_backward_(
    grad: Written, output: ArrayLike, y: ArrayLike, /
) -> tuple[Written, Any]: ...
@overload
def prelu_backward(
    grad: NDArray[Float],
    x: NDArray[Float],
    slope: NDArray[Learned],
    /,
    *,
    at_zero: Literal[0, 1] | None = None,
) -> tuple[NDArray[Float], NDArray[Learned]]:
    """The gradients of PReLU, whose slope broadcasts as ONNX's, not as torch.nn.functional.prelu.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the output: floating (ml_dtypes' bfloat16 included), of any
        shape.  It may be a PyTorch tensor on the CPU.  A subclass of ndarray is taken as a plain
        array; a mask is ignored.
    x : array_like
        The input of `prelu`, of grad's shape.
    slope : scalar or array_like
        One slope for all, for each column, for each channel or for each element.
    at_zero : None, 0 or 1, default None
        The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.  It does not
        change the gradient of the slope.
    out : tuple of two ndarrays or tensors, optional
        Where to write the results; either may be None.  They may overlap the operands but not each
        other, and are overwritten: to accumulate, add the results to a total.  With ``out=(grad,
        buffer)`` nothing is allocated.
    """

@overload
def prelu_backward(
    grad: ArrayLike,
    x: ArrayLike,
    slope: ArrayLike,
    /,
    *,
    at_zero: Literal[0, 1] | None = None,
    out: tuple[First | None, Second | None] | None = None,
) -> tuple[First, Second]: ...
@overload
def prelu_backward_(
    grad: Written,
    x: ArrayLike,
    slope: NDArray[Learned],
    /,
    *,
    at_zero: Literal[0, 1] | None = None,
) -> tuple[Written, NDArray[Learned]]:
    """The gradients of PReLU in place, whose slope broadcasts as ONNX's: `grad` is overwritten.

    Parameters
    ----------
    grad : ndarray, or any writeable typed buffer or DLPack tensor on the CPU
        The gradient with respect to the output; that of x is written over it without a copy.
    x : array_like
        The input of `prelu`, of grad's shape.
    slope : scalar or array_like
        One slope for all, for each column, for each channel or for each element.
    at_zero : None, 0 or 1, default None
        The derivative at x = ±0: the slope if None (PyTorch and ONNX), or 1 (JAX), or 0.  It does not
        change the gradient of the slope.
    """

@overload
def prelu_backward_(
    grad: Written,
    x: ArrayLike,
    slope: ArrayLike,
    /,
    *,
    at_zero: Literal[0, 1] | None = None,
) -> tuple[Written, Any]: ...
