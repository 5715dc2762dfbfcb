"""How the operands of a cell lie in memory: contiguous, or as views of larger arrays.

A layout names the shape with which operands are allocated and the index that a user writes behind
them. Only what the index selects is computed; all of it is allocated and refilled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]

CONTIGUOUS, TENSORS = SIZED = "contiguous", "tensors"
"""Arrays of `size` elements: NumPy's, or PyTorch's tensors handed to relu_ext itself."""

KINDS = {
    CONTIGUOUS: "whole arrays",
    "rows": "the first columns of a matrix",
    "inside": "padded images without their padding",
    "steps": "every second element",
    "columns": "a slope per column",
    "channels": "a slope per channel",
    "transposed": "a gradient in the other memory order",
    "bias": "a bias added to every row",
    "pieces": "pieces along one axis, for Maxout",
    TENSORS: "PyTorch's tensors handed to relu_ext",
}


@dataclass(frozen=True)
class Layout:
    """Where operands lie; the fields after `index` are for the kinds that need them."""

    kind: str
    shape: Shape
    index: str = ""
    slopes: Shape | None = None
    y: Shape | None = None
    transposed: str | None = None
    """The operand that is transposed."""
    axis: int | None = None
    """The axis of the pieces."""

    @property
    def label(self) -> str:
        details = {"slopes": self.slopes, "bias": self.y, "axis": self.axis}
        text = "".join(f", {name} {value}" for name, value in details.items() if value is not None)
        text += f", {self.transposed}.T" if self.transposed else ""
        return f"{self.shape}{self.index}{text}".replace(str(2**20), "2^20")

    @property
    def pieces(self) -> int:
        return 1 if self.axis is None else self.shape[self.axis]

    def allocated(self, operand: str, *, reduced: bool = False) -> Shape:
        """The shape of the array behind an operand; reduced: without the axis of the pieces."""
        if operand == "y" and self.y:
            return self.y
        if reduced and self.axis is not None:
            return tuple(n for at, n in enumerate(self.shape) if at != self.axis % len(self.shape))
        return self.shape

    def view(self, operand: str, array: np.ndarray) -> np.ndarray:
        """The operand, out of its array."""
        if operand == self.transposed:
            return array.T
        return eval(f"array{self.index}") if array.shape == self.shape else array

    @property
    def computed(self) -> Shape:
        """The shape of what is computed."""
        shape = self.view("", np.broadcast_to(np.uint8(0), self.shape)).shape
        return self.allocated("", reduced=True) if self.axis is not None else shape

    @property
    def dense(self) -> Layout:
        """The same elements in contiguous arrays, with one slope and nothing to broadcast."""
        return Layout(CONTIGUOUS, self.computed)


def _layouts() -> Iterator[Layout]:
    for shape, index in (
        ((64, 128), "[:, :100]"),
        ((256, 512), "[:, :256]"),
        ((2048, 128), "[:, :64]"),
        ((1000, 1024), "[:, :1000]"),
    ):
        yield Layout("rows", shape, index)
    yield Layout("inside", (8, 16, 34, 34), "[:, :, 1:-1, 1:-1]")
    yield Layout("steps", (2**20,), "[::2]")
    yield Layout("steps", (64, 128), "[:, ::2]")
    yield Layout("columns", (256, 512), slopes=(512,))
    yield Layout("channels", (8, 32, 28, 28), slopes=(32, 1, 1))
    yield Layout("transposed", (1000, 1000), transposed="g")
    for shape in ((64, 128), (200, 100), (32, 4096), (1000, 1000)):
        yield Layout("bias", shape, y=shape[1:])
    for pieces in ((64, 50, 4), (64, 128, 2), (64, 128, 3), (256, 300, 5)):
        yield Layout("pieces", pieces, axis=-1)
    yield Layout("pieces", (4, 64, 50), axis=0)


VIEWS = {layout.label: layout for layout in _layouts()}
"""Every layout but the ones of `size` elements, by its label."""
LAYOUTS = VIEWS | {view.dense.label: view.dense for view in VIEWS.values()}


def size_text(size: int) -> str:
    power = size.bit_length() - 1
    return f"2^{power}" if size > 2**16 and size == 2**power else f"{size:,}"


def layout(label: str, size: int) -> Layout:
    """The layout of that label; `size` matters where the label leaves it open."""
    return Layout(label, (size,)) if label in SIZED else LAYOUTS[label]


def size_of(label: str) -> int:
    """How many elements a layout computes."""
    return math.prod(LAYOUTS[label].computed)
