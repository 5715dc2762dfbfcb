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


@dataclass(frozen=True)
class Layout:
    """Where operands lie; the fields after `index` are for the kinds that need them."""

    kind: str
    """What it is for. A `conv output` is NHWC in memory, seen as NCHW beside arrays in C order."""
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
    *(Layout("steps", (2**20,), f"[::{step}]") for step in (2, 3, 4)),
    Layout("steps", (64, 128), "[:, ::2]"),
    Layout("steps", (4096, 64), "[:, 0]"),
    *(Layout("columns", (n, m), slopes=(m,)) for n, m in ((64, 128), (128, 256), (1000, 1000))),
    Layout("channels", (8, 32, 28, 28), slopes=(32, 1, 1)),
    Layout("channels", (50, 30, 24, 24), slopes=(30, 1, 1)),
    Layout("transposed", (1000, 1000), transposed="g"),
    Layout("conv output", (50, 30, 24, 24), channels_last="x"),
    Layout("conv output", (8, 32, 14, 14), channels_last="x"),
    *(Layout("bias", at, bias=at[1:]) for at in ((64, 128), (64, 10), (256, 512), (1000, 1000))),
    *(Layout("pieces", shape, axis=-1)
      for shape in ((64, 50, 4), (64, 128, 2), (64, 128, 3), (256, 300, 5), (64, 900, 9))),
    Layout("pieces", (4, 64, 50), axis=0),
    *(Layout("many pieces", shape, axis=-1) for shape in ((1, 10**6), (64, 1000), (2000, 300))),
    *(Layout("windows", (n, c, h, k, w, k), axis=(3, 5))
      for n, c, h, w, k in ((50, 30, 12, 12, 2), (8, 32, 14, 14, 2), (1, 64, 56, 56, 2),
                            (50, 30, 8, 8, 3))),
    Layout("windows", (50, 12, 2, 12, 2, 30), axis=(2, 4)),
    Layout("mask", (100, 100), other=("x", "bool")),
    *(Layout("mask", (256, 512), other=("x", dtype)) for dtype in ("bool", "int8")),
    Layout("wider x", (256, 512), other=("x", "float64")),
    Layout("wider bias", (128, 256), bias=(256,), other=("y", "float64")),
    *(Layout("where", (size,), other=("m", "bool")) for size in (16_384, 2**20)),
    *(Layout("scalar", (64,), other=("slope", dtype)) for dtype in ("float32", "float64")),
    Layout("scalar", (64, 128), other=("slope", "float64")),
)  # fmt: skip
VIEWS = {layout.label: layout for layout in _VIEWS}
"""The layouts that have a size of their own, by label."""
KINDS = tuple(dict.fromkeys((*SIZED, *(view.kind for view in _VIEWS))))
LAYOUTS = VIEWS | {view.dense.label: view.dense for view in VIEWS.values()}


def layout(label: str, size: int) -> Layout:
    """The layout of that label; `size` is for the kinds that can have any."""
    return Layout(label, (size,)) if label in SIZED else LAYOUTS[label]


def size_of(label: str) -> int:
    """The number of elements that a layout computes."""
    return math.prod(LAYOUTS[label].computed)
