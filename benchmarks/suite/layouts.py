"""How the operands of a cell lie in memory: as whole arrays, or as views of larger arrays.

A layout has the shape with which operands are allocated, and the index that a user writes behind
them. Only what the index selects is computed, but all of it is allocated and refilled.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Shape = tuple[int, ...]

CONTIGUOUS, TENSORS = SIZED = "contiguous", "tensors"
"""The kinds that can have any size: NumPy's arrays, and PyTorch's tensors handed to relu_ext."""

KINDS = {
    CONTIGUOUS: "whole arrays",
    "rows": "the first columns of a matrix",
    "inside": "padded images without their padding",
    "steps": "elements that lie apart: every second, third or fourth, or a column",
    "columns": "a slope per column",
    "channels": "a slope per channel",
    "transposed": "a gradient in the other memory order",
    "conv output": "a convolution's output, NHWC in memory, seen as NCHW beside arrays in C order",
    "bias": "a bias added to every row",
    "pieces": "pieces along one axis, for Maxout",
    "windows": "windows in a view of images, for max-pooling",
    "mask": "a mask of bool or int8 as x of a backward function",
    "mixed": "a second array of another dtype",
    "where": "a random mask as `where`",
    "scalar": "a slope that is a NumPy scalar",
    TENSORS: "PyTorch's tensors handed to relu_ext",
}


@dataclass(frozen=True)
class Layout:
    """Where operands lie; the fields after `index` are for the kinds that need them."""

    kind: str
    shape: Shape
    index: str = ""
    slopes: Shape = ()
    bias: Shape = ()
    """The shape of the operand y."""
    transposed: str = ""
    """The operand that is transposed."""
    channels_last: str = ""
    """The operand whose channels come last in memory, and second in its shape."""
    axis: int | tuple[int, ...] | None = None
    """The axis of the pieces, or several."""
    other: tuple[str, str] = ("", "")
    """An operand, or the slope, whose dtype is not the cell's, and that dtype."""

    @property
    def label(self) -> str:
        details = {"slopes": self.slopes or None, "bias": self.bias or None, "axis": self.axis}
        text = "".join(f", {name} {value}" for name, value in details.items() if value is not None)
        text += f", {self.transposed}.T" if self.transposed else ""
        text += f", {self.channels_last} NHWC" if self.channels_last else ""
        text += f", {' '.join(self.other)}" if self.other[0] else ""
        return f"{self.shape}{self.index}{text}".replace(str(2**20), "2^20")

    @property
    def pieces(self) -> int:
        return 1 if self.axis is None else int(np.prod(np.take(self.shape, self.axis)))

    @property
    def lengths(self) -> int | tuple[int, ...]:
        """The pieces along each axis, as `maxout_backward` takes them."""
        if isinstance(self.axis, tuple):
            return tuple(self.shape[at] for at in self.axis)
        return self.pieces

    def view(self, operand: str, array: np.ndarray) -> np.ndarray:
        """Select the operand from the array that was allocated for it."""
        if self.channels_last and operand == self.channels_last:
            images, channels, *sides = self.shape
            return np.moveaxis(array.reshape(images, *sides, channels), -1, 1)
        return array.T if operand == self.transposed else eval(f"array{self.index}")

    @cached_property
    def computed(self) -> Shape:
        """The shape of the result, which lacks the axis of the pieces."""
        if self.axis is not None:
            return tuple(np.delete(self.shape, self.axis).tolist())
        return self.view("x", np.broadcast_to(np.uint8(0), self.shape)).shape

    @property
    def dense(self) -> "Layout":
        """The same elements in contiguous arrays, with one slope and nothing to broadcast."""
        return Layout(CONTIGUOUS, self.computed)


_VIEWS = (
    Layout("rows", (64, 128), "[:, :100]"),
    Layout("rows", (256, 512), "[:, :256]"),
    Layout("rows", (2048, 128), "[:, :64]"),
    Layout("rows", (1000, 1024), "[:, :1000]"),
    Layout("inside", (8, 16, 34, 34), "[:, :, 1:-1, 1:-1]"),
    Layout("steps", (2**20,), "[::2]"),
    Layout("steps", (64, 128), "[:, ::2]"),
    Layout("steps", (2**20,), "[::3]"),
    Layout("steps", (2**20,), "[::4]"),
    Layout("steps", (4096, 64), "[:, 0]"),
    Layout("columns", (64, 128), slopes=(128,)),
    Layout("columns", (128, 256), slopes=(256,)),
    Layout("columns", (1000, 1000), slopes=(1000,)),
    Layout("channels", (8, 32, 28, 28), slopes=(32, 1, 1)),
    Layout("channels", (50, 30, 24, 24), slopes=(30, 1, 1)),
    Layout("transposed", (1000, 1000), transposed="g"),
    Layout("conv output", (50, 30, 24, 24), channels_last="x"),
    Layout("conv output", (8, 32, 14, 14), channels_last="x"),
    Layout("bias", (64, 128), bias=(128,)),
    Layout("bias", (64, 10), bias=(10,)),
    Layout("bias", (256, 512), bias=(512,)),
    Layout("bias", (1000, 1000), bias=(1000,)),
    Layout("pieces", (64, 50, 4), axis=-1),
    Layout("pieces", (64, 128, 2), axis=-1),
    Layout("pieces", (64, 128, 3), axis=-1),
    Layout("pieces", (256, 300, 5), axis=-1),
    Layout("pieces", (4, 64, 50), axis=0),
    Layout("windows", (50, 30, 12, 2, 12, 2), axis=(3, 5)),
    Layout("windows", (8, 32, 14, 2, 14, 2), axis=(3, 5)),
    Layout("windows", (1, 64, 56, 2, 56, 2), axis=(3, 5)),
    Layout("windows", (50, 12, 2, 12, 2, 30), axis=(2, 4)),
    Layout("windows", (50, 30, 8, 3, 8, 3), axis=(3, 5)),
    Layout("mask", (100, 100), other=("x", "bool")),
    Layout("mask", (256, 512), other=("x", "bool")),
    Layout("mask", (256, 512), other=("x", "int8")),
    Layout("mixed", (256, 512), other=("x", "float64")),
    Layout("mixed", (128, 256), bias=(256,), other=("y", "float64")),
    Layout("where", (16_384,), other=("m", "bool")),
    Layout("where", (2**20,), other=("m", "bool")),
    Layout("scalar", (64,), other=("slope", "float32")),
    Layout("scalar", (64,), other=("slope", "float64")),
    Layout("scalar", (64, 128), other=("slope", "float64")),
)
VIEWS = {layout.label: layout for layout in _VIEWS}
"""The layouts that have a size of their own, by label."""
LAYOUTS = VIEWS | {view.dense.label: view.dense for view in VIEWS.values()}


def layout(label: str, size: int) -> Layout:
    """The layout of that label; `size` is for the kinds that can have any."""
    return Layout(label, (size,)) if label in SIZED else LAYOUTS[label]


def size_of(label: str) -> int:
    """The number of elements that a layout computes."""
    return math.prod(LAYOUTS[label].computed)
