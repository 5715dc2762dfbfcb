"""What a user's type checker makes of relu_ext; test_types.py has it checked, and runs it.

Where an ignored error is no longer one, mypy reports the ignore.
"""

import array
from typing import Any, Protocol, assert_type

import numpy as np
import relu_ext
from numpy.typing import NDArray
from relu_ext import ufuncs

float32: NDArray[np.float32] = np.array([-2, -0.0, 3], np.float32)
float64: NDArray[np.float64] = np.array([1.0, 2, 3])
int8: NDArray[np.int8] = np.array([-1, 0, 1], np.int8)
mask: NDArray[np.bool] = np.array([True, False, True])


def accepted() -> None:
    # Without a parameter every dtype stays; floating dtypes stay with any Python number.
    assert_type(relu_ext.relu(float32), NDArray[np.float32])
    assert_type(relu_ext.relu(int8), NDArray[np.int8])
    assert_type(relu_ext.relu(mask), NDArray[np.bool])
    assert_type(relu_ext.relu_subgradient(float32), NDArray[np.float32])
    assert_type(relu_ext.relu_subgradient(float32, at_zero=0.5), NDArray[np.float32])
    assert_type(relu_ext.relu_backward(float32, float32, at_zero=1), NDArray[np.float32])
    assert_type(relu_ext.leaky_relu(float32), NDArray[np.float32])
    assert_type(relu_ext.leaky_relu(float64, 0.2), NDArray[np.float64])
    assert_type(relu_ext.leaky_relu_subgradient(float32, 0.2), NDArray[np.float32])
    assert_type(
        relu_ext.leaky_relu_backward(float32, float32, negative_slope=2), NDArray[np.float32]
    )

    assert_type(relu_ext.add_relu(float32, float32), NDArray[np.float32])
    assert_type(relu_ext.add_leaky_relu(float64, float64, 0.2), NDArray[np.float64])

    # What NumPy promotes by value, or what may be a scalar, has no static type; nor have integers,
    # which stay with an int and become float64 with a float, as the default slope is.
    assert_type(relu_ext.leaky_relu(int8), Any)
    assert_type(relu_ext.relu_subgradient(int8), Any)
    assert_type(relu_ext.leaky_relu(float32, np.int64(2)), Any)
    assert_type(relu_ext.leaky_relu(float32, float64), Any)
    assert_type(relu_ext.relu_backward(float32, float32, at_zero=np.int8(0)), Any)
    assert_type(relu_ext.relu(-3), Any)
    assert_type(relu_ext.relu([[-1, 2], [3, 4]]), Any)
    assert_type(relu_ext.relu_subgradient(float32, dtype=np.float64), Any)

    # `out` comes back.
    out: NDArray[np.float64] = np.empty(3)
    assert_type(relu_ext.relu(float32, out=out), NDArray[np.float64])
    assert_type(relu_ext.leaky_relu(float32, 0.1, out=(out,), where=mask), NDArray[np.float64])
    assert_type(relu_ext.relu_backward(float32, float64, out=out), NDArray[np.float64])

    # So does what is written in place.
    assert_type(relu_ext.relu_(float32.copy()), NDArray[np.float32])
    assert_type(relu_ext.leaky_relu_(float64.copy(), 0.2), NDArray[np.float64])
    assert_type(relu_ext.relu_backward_(float32.copy(), float64, at_zero=1), NDArray[np.float32])
    assert_type(relu_ext.add_relu_(float64.copy(), 1.0), NDArray[np.float64])
    assert_type(relu_ext.relu_(array.array("f", [-1, 2])), "array.array[float]")
    assert_type(relu_ext.relu_(memoryview(bytearray(8)).cast("f")), "memoryview[float]")

    # A maximum over one axis may be a scalar; its gradient is an array.
    assert_type(relu_ext.maxout(float32), Any)
    assert_type(relu_ext.maxout(np.eye(3), 0, out=out), NDArray[np.float64])
    values, which = relu_ext.maxout([[1.0, 2.0]], axis=-1, return_which=True)
    assert_type(values, Any)
    assert_type(relu_ext.maxout_backward(float32, np.zeros_like(int8), 3), NDArray[np.float32])
    assert_type(relu_ext.maxout(np.ones((3, 2, 2)), (1, 2), out=out), NDArray[np.float64])
    assert_type(
        relu_ext.maxout_backward(float32, np.zeros_like(int8), (2, 2), axis=(1, -1)),
        NDArray[np.float32],
    )
    pieces: NDArray[np.float64] = np.empty((1, 2))
    assert_type(relu_ext.maxout_backward(values, which, 2, out=pieces), NDArray[np.float64])

    # The gradients of a layer and of what it learns have the dtypes of grad, and of bias and slope.
    grad_x, grad_bias = relu_ext.add_relu_backward(float32, float32, float64)
    assert_type(grad_x, NDArray[np.float32])
    assert_type(grad_bias, NDArray[np.float64])
    grad_x, grad_slope = relu_ext.prelu_backward_(float32.copy(), float32, float64)
    assert_type(grad_x, NDArray[np.float32])
    assert_type(grad_slope, NDArray[np.float64])
    assert_type(relu_ext.add_relu_backward(float32, float32, 0.5)[0], Any)
    grad_x, grad_bias = relu_ext.add_leaky_relu_backward(float32, float32, float64, 0.2)
    assert_type(grad_x, NDArray[np.float32])
    assert_type(grad_bias, NDArray[np.float64])
    assert_type(relu_ext.add_leaky_relu_backward(float32, float32, float32, float64)[0], Any)
    assert_type(relu_ext.maxout(np.eye(2), out=(out[:2], None), return_which=True)[1], Any)

    assert_type(ufuncs.leaky_relu, np.ufunc)
    assert_type(relu_ext.cpu_levels().active, str)
    assert_type(relu_ext.get_num_threads(), int)
    relu_ext.set_num_threads(np.int8(1))


class Tensor(Protocol):
    """As PyTorch's are to a type checker."""

    def __array__(self) -> NDArray[np.float32]: ...
    def __dlpack__(self, *, stream: None = None) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


def of_tensors(tensor: Tensor, out: Tensor) -> None:
    assert_type(relu_ext.relu_(tensor), Tensor)
    assert_type(relu_ext.relu(tensor), Any)
    assert_type(relu_ext.relu(tensor, out=out), Tensor)
    assert_type(relu_ext.add_relu(tensor, tensor, out=out), Tensor)
    assert_type(relu_ext.maxout(tensor, out=out), Tensor)


def refused() -> None:
    relu_ext.relu()  # type: ignore[call-overload]
    relu_ext.relu(float32, float32)  # type: ignore[call-overload]
    relu_ext.relu(x=float32)  # type: ignore[call-overload]
    relu_ext.relu(float32, casting="same")  # type: ignore[call-overload]
    relu_ext.relu(float32, order="c")  # type: ignore[call-overload]
    relu_ext.relu_subgradient(float32, 0.5)  # type: ignore[call-overload]
    relu_ext.relu_backward(float32)  # type: ignore[call-overload]
    relu_ext.leaky_relu(float32, slope=0.1)  # type: ignore[call-overload]
    relu_ext.leaky_relu(float32, 0.1, float64)  # type: ignore[call-overload]

    relu_ext.maxout(float32, [0, 1])  # type: ignore[call-overload]
    relu_ext.maxout_backward(float32, int8)  # type: ignore[call-overload]

    relu_ext.relu_([-1.0, 2.0])  # type: ignore[type-var]
    relu_ext.relu_(-1.0)  # type: ignore[type-var]
    relu_ext.relu_(float32, out=float64)  # type: ignore[call-arg]
    relu_ext.leaky_relu_("negative")  # type: ignore[type-var]
    relu_ext.relu_backward_(float32)  # type: ignore[call-arg]

    wrong: NDArray[np.float64] = relu_ext.relu(float32)  # type: ignore[assignment]
    wrong = relu_ext.leaky_relu_(float32, 0.1)  # type: ignore[arg-type]
    relu_ext.set_num_threads("2")  # type: ignore[arg-type]
    relu_ext.cpu_levels().active = "v3"  # type: ignore[misc]
    relu_ext.no_such_function()  # type: ignore[attr-defined]
    print(wrong)
