"""The registry: what can be measured, and the statements that compute the same.

A cell is one operation on one dtype, size, layout and mode. A contender is a statement that a user
would write. In a statement, x, y and the gradient g are inputs, w holds the pieces that won in
Maxout, o is an output that exists, `slope` is a Python number, and zero, one and s are 0, 1 and the
slope as scalars of the array's dtype. Where the layout has an array of slopes, `slope` and `s` are
that array. `{out}` becomes nothing, `, out=o` or, in place, `, out=x`; `{to}` becomes nothing,
`o[...] = ` or `x[...] = `.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import relu_ext
from relu_ext import _operations, ufuncs

from suite.layouts import CONTIGUOUS, SIZED, TENSORS, Layout, Shape, layout, size_of, size_text

Spellings = Mapping[str, str | Mapping[str, str]]

DESCRIBED = {operation.name: operation for operation in _operations.OPERATIONS}
IN_PLACE, OUT, NEW = MODES = ("in place", "out=", "new array")
OURS, FLOOR, ROOFLINE = "relu_ext", "empty call", "roofline: "
TORCH, OWN_TENSORS = "torch", "torch, own tensors"
"""PyTorch over NumPy's memory, and over memory as PyTorch aligns it, in inference mode."""
ONE_THREAD, DENSE, ONE_SLOPE, WITHOUT_ADDING, NDARRAY = SELVES = (
    "one thread", "contiguous", "one slope", "without adding", "ndarray",
)  # fmt: skip
"""relu_ext itself under other conditions: its time tells what the condition of the cell costs."""
SMALL, LARGE = 1024, 2**24
"""Up to SMALL elements the empty call is timed too; from LARGE bytes, the roofline."""
SLOPE = 2.0**-7
"""Exact in every floating dtype: rounding the slope before the product or after is the same."""


def _modes(in_place: str, out: str, new: str) -> dict[str, str]:
    return dict(zip(MODES, (in_place, out, new), strict=True))


def _select(condition: str, value: str, otherwise: str) -> dict[str, str]:
    return {
        "where": f"{{to}}np.where({condition}, {value}, {otherwise})",
        "numexpr": f"numexpr.evaluate('where({condition}, {value}, {otherwise})'{{out}})",
        "numba": f"out[i] = {value} if {condition} else {otherwise}",
    }


def _torch_where(condition: str, value: str, otherwise: str, target: str) -> dict[str, str]:
    start = f"torch.where({condition}, {value}, {otherwise}"
    return _modes(f"{start}, out={target})", f"{start}, out=o)", f"{start})")


@dataclass(frozen=True)
class Operation:
    """How one operation of relu_ext is called, and what a user could write instead.

    The first spelling is the one that NumPy's users write.
    """

    operands: str
    arguments: str
    """What follows the operands in a call."""
    kinds: tuple[str, ...]
    """The kinds of layouts in which it is measured."""
    spellings: Spellings
    function: str = ""
    """The function's name, where it is not the operation's."""
    reduced: str = ""
    """The operands that lack the axis of the pieces."""

    @property
    def target(self) -> str:
        """The operand that is overwritten in place."""
        return self.operands[0]

    def modes(self, kind: str) -> tuple[str, ...]:
        """The modes of a kind of layout: those of the first spelling; of tensors, in place."""
        first = next(iter(self.spellings.values()))
        found = MODES if isinstance(first, str) else tuple(first)
        return (IN_PLACE,) if kind == TENSORS else found

    @property
    def slope(self) -> bool:
        return "slope" in self.arguments

    def ours(self, name: str) -> dict[str, str]:
        arguments = ", ".join(self.operands) + self.arguments
        name = self.function or name
        return _modes(
            f"{name}_({arguments})", f"{name}({arguments}, out=o)", f"{name}({arguments})"
        )


def _operands(name: str) -> str:
    """By their first letters."""
    return "".join(array[0] for array in DESCRIBED[name].arrays)


def _arguments(name: str) -> str:
    return ", slope" if DESCRIBED[name].parameter == "negative_slope" else ""


VIEWED = (CONTIGUOUS, "rows", "inside", "steps")
CASES: dict[str, tuple[tuple[str, ...], Spellings]] = {
    "relu": ((*VIEWED, TENSORS), {
        "maximum": "np.maximum(x, {zero}{out})",
        "zeros": "np.maximum(x, zeros{out})",
        "clip": "np.clip(x, {zero}, {top}{out})",
        **_select("x > 0", "x", "zero"),
        "multiply": _modes("x *= x > 0", "np.multiply(x, x > 0, out=o)", "x * (x > 0)"),
        "mask": {IN_PLACE: "x[x < 0] = 0"},
        TORCH: _modes("torch.relu_(x)", "torch.clamp_min(x, 0, out=o)", "torch.relu(x)"),
        "jax": {NEW: "jax.nn.relu(x).block_until_ready()"},
        "sigmoid": "scipy.special.expit(x{out})",
        "tanh": "np.tanh(x{out})",
    }),
    "relu_subgradient": ((CONTIGUOUS,), {
        "greater": _modes("np.greater(x, 0, out=x)", "np.greater(x, 0, out=o)",
                          "(x > 0).astype(x.dtype)"),
        "heaviside": "np.heaviside(x, 0{out})",
        **_select("x > 0", "one", "zero"),
        TORCH: _modes("x.gt_(0)", "torch.gt(x, 0, out=o)", "(x > 0).to(x.dtype)"),
        "jax": {NEW: "(x > 0).astype(x.dtype).block_until_ready()"},
    }),
    "relu_backward": ((*VIEWED, "transposed", TENSORS), {
        "multiply": _modes("np.multiply(g, x > 0, out=g)", "np.multiply(g, x > 0, out=o)",
                           "g * (x > 0)"),
        **_select("x > 0", "g", "zero"),
        "mask": {IN_PLACE: "g[x <= 0] = 0"},
        TORCH: _modes("torch.ops.aten.threshold_backward.grad_input(g, x, 0, grad_input=g)",
                      "torch.ops.aten.threshold_backward.grad_input(g, x, 0, grad_input=o)",
                      "torch.ops.aten.threshold_backward(g, x, 0)"),
        "jax": {NEW: "jax.numpy.where(x > 0, g, zero).block_until_ready()"},
        # x stands for the forward's output, in which these derivatives are written.
        "sigmoid": "np.multiply(g, x * (1 - x){out})",
        "tanh": "np.multiply(g, 1 - x * x{out})",
    }),
    "leaky_relu": ((*VIEWED, "columns", "channels", TENSORS), {
        "maximum": "np.maximum(x, x * slope{out})",
        "typed": "np.maximum(x, x * s{out})",
        **_select("x < 0", "x * s", "x"),
        "mask": {IN_PLACE: "x[x < 0] *= s"},
        "masked": {IN_PLACE: "np.multiply(x, s, out=x, where=x < 0)"},
        TORCH: _modes("F.leaky_relu_(x, slope)",
                      "torch.ops.aten.leaky_relu.out(x, slope, out=o)",
                      "F.leaky_relu(x, slope)"),
        "jax": {NEW: "jax.nn.leaky_relu(x, slope).block_until_ready()"},
    }),
    "leaky_relu_subgradient": ((CONTIGUOUS,), {
        "maximum": _modes("np.maximum(x > 0, s, out=x)", "np.maximum(x > 0, s, out=o)",
                          "np.maximum(x > 0, s)"),
        **_select("x > 0", "one", "s"),
        TORCH: _torch_where("x > 0", "one", "s", "x"),
        "jax": {NEW: "jax.numpy.where(x > 0, one, s).block_until_ready()"},
    }),
    "leaky_relu_backward": ((*VIEWED, "columns", "channels"), {
        **_select("x > 0", "g", "g * s"),
        "mask": {IN_PLACE: "g[x <= 0] *= s"},
        "masked": {IN_PLACE: "np.multiply(g, s, out=g, where=x <= 0)"},
        TORCH: _modes(
            "torch.ops.aten.leaky_relu_backward.grad_input(g, x, slope, False, grad_input=g)",
            "torch.ops.aten.leaky_relu_backward.grad_input(g, x, slope, False, grad_input=o)",
            "torch.ops.aten.leaky_relu_backward(g, x, slope, False)"),
        "jax": {NEW: "jax.numpy.where(x > 0, g, g * s).block_until_ready()"},
    }),
    "add_relu": ((CONTIGUOUS, "bias"), {
        "add": _modes("np.add(x, y, out=x); np.maximum(x, 0, out=x)",
                      "np.add(x, y, out=o); np.maximum(o, 0, out=o)", "np.maximum(x + y, 0)"),
        "zeros": _modes("np.add(x, y, out=x); np.maximum(x, zeros, out=x)",
                        "np.add(x, y, out=o); np.maximum(o, zeros, out=o)",
                        "np.maximum(x + y, zeros)"),
        "numexpr": "numexpr.evaluate('where(x + y > 0, x + y, zero)'{out})",
        "numba": "out[i] = number(x + y) if number(x + y) > 0 else zero",
        TORCH: _modes("torch.relu_(x.add_(y))", "torch.clamp_min(torch.add(x, y, out=o), 0, out=o)",
                      "torch.relu(x + y)"),
        "torch fused": _modes("torch.ops.aten._add_relu_(x, y)",
                              "torch.ops.aten._add_relu.out(x, y, out=o)",
                              "torch.ops.aten._add_relu(x, y)"),
        "jax": {NEW: "jax.nn.relu(x + y).block_until_ready()"},
    }),
    "add_leaky_relu": ((CONTIGUOUS, "bias"), {
        "add": _modes("np.add(x, y, out=x); np.maximum(x, x * slope, out=x)",
                      "np.add(x, y, out=o); np.maximum(o, o * slope, out=o)",
                      "np.maximum(z := x + y, z * slope)"),
        "numexpr": "numexpr.evaluate('where(x + y < 0, (x + y) * s, x + y)'{out})",
        "numba": "out[i] = number(x + y) * s if number(x + y) < 0 else number(x + y)",
        TORCH: _modes("F.leaky_relu_(x.add_(y), slope)",
                      "torch.ops.aten.leaky_relu.out(torch.add(x, y, out=o), slope, out=o)",
                      "F.leaky_relu(x + y, slope)"),
        "jax": {NEW: "jax.nn.leaky_relu(x + y, slope).block_until_ready()"},
    }),
}  # fmt: skip
"""Of each elementwise operation: the kinds of layouts in which it is measured, the spellings."""
OPERATIONS = {
    name: Operation(_operands(name), _arguments(name), *case) for name, case in CASES.items()
} | {
    "maxout": Operation("x", ", axis", ("pieces",), {
        "max": {OUT: "x.max(axis, out=o)", NEW: "x.max(axis)"},
        "chain": {OUT: "{chain}", NEW: "{chain}"},
        TORCH: {OUT: "torch.amax(x, axis, out=o)", NEW: "torch.amax(x, axis)"},
        "torch.max": {NEW: "torch.max(x, axis).values"},
        "jax": {NEW: "x.max(axis).block_until_ready()"},
    }, reduced="o"),
    "maxout_which": Operation("x", ", axis, return_which=True", ("pieces",), {
        "max": {NEW: "(x.max(axis), x.argmax(axis))"},
        "take": {NEW: "(np.take_along_axis(x, w := x.argmax(axis, keepdims=True), axis)"
                      ".squeeze(axis), w.squeeze(axis))"},
        TORCH: {NEW: "torch.max(x, axis)"},
        "thinc": {NEW: "thinc_ops.maxout(x)"},
    }, function="maxout", reduced="o"),
    "maxout_backward": Operation("gw", ", pieces, axis", ("pieces",), {
        "where": dict.fromkeys((OUT, NEW), "{to}np.where(np.expand_dims(w, axis) == numbers, "
                                           "np.expand_dims(g, axis), zero)"),
        "put": {OUT: "o.fill(0); np.put_along_axis(o, np.expand_dims(w, axis), "
                     "np.expand_dims(g, axis), axis)"},
        TORCH: {
            OUT: "o.zero_().scatter_(axis, w.unsqueeze(axis).long(), g.unsqueeze(axis))",
            NEW: "torch.zeros(shape, dtype=g.dtype).scatter_(axis, w.unsqueeze(axis).long(), "
                 "g.unsqueeze(axis))"},
        "thinc": {NEW: "thinc_ops.backprop_maxout(g, w, pieces)"},
    }, reduced="gw"),
}  # fmt: skip

PRELU = {
    "leaky_relu": {
        TORCH: _torch_where("x < 0", "x * s", "x", "x"),
        "torch prelu": _modes("x = F.prelu(x, weight)", "", "F.prelu(x, weight)"),
    },
    "leaky_relu_backward": {
        TORCH: _torch_where("x > 0", "g", "g * s", "g"),
        "torch prelu": _modes("g = torch.ops.aten._prelu_kernel_backward(g, x, s)[0]", "",
                              "torch.ops.aten._prelu_kernel_backward(g, x, s)[0]"),
    },
}  # fmt: skip
"""What replaces PyTorch's spellings where each column or channel has a slope of its own.

`F.prelu` has no form in place: its user rebinds the name. Its backward computes what the gradient
of the slopes is the sum of, too.
"""

ELEMENTWISE = tuple(CASES)
OTHERS = {
    "__version__", "cpu_levels", "get_num_threads", "set_num_threads", "show_config", "ufuncs",
}  # fmt: skip
_public = {name.removesuffix("_") for name in {*relu_ext.__all__} - OTHERS}
if missing := _public ^ {case.function or name for name, case in OPERATIONS.items()}:
    raise LookupError(f"no case, or no such function: {sorted(missing)}")
if missing := set(ufuncs.__all__) ^ set(ELEMENTWISE):
    raise LookupError(f"no case, or no such ufunc: {sorted(missing)}")

OTHER_FUNCTIONS: dict[tuple[str, str], Callable[..., np.ndarray]] = {
    ("relu", "sigmoid"): lambda x: 1 / (1 + np.exp(-x)),
    ("relu", "tanh"): lambda x: np.tanh(x),
    ("relu_backward", "sigmoid"): lambda g, x: g * x * (1 - x),
    ("relu_backward", "tanh"): lambda g, x: g * (1 - x * x),
}
"""The activations that ReLU is said to be much faster than: compared in time, not in value."""

ROOFLINES = {  # by mode and number of inputs: the same traffic with little arithmetic
    (IN_PLACE, 1): {"scale": "np.multiply({target}, s, out={target})",
                    "negate": "np.negative({target}, out={target})",
                    "BLAS scale": "scipy.linalg.blas.{blas}scal(slope, {target})",
                    "torch scale": "{target}.mul_(slope)"},
    (OUT, 1): {"copy": "np.copyto(o, x)", "torch copy": "o.copy_(x)"},
    (NEW, 1): {"copy": "x.copy()"},
    (IN_PLACE, 2): {"add": "np.add({a}, {b}, out={a})", "torch add": "{a}.add_({b})"},
    (OUT, 2): {"add": "np.add({a}, {b}, out=o)", "torch add": "torch.add({a}, {b}, out=o)"},
    (NEW, 2): {"add": "{a} + {b}"},
}  # fmt: skip

LIBRARIES = {  # to choose a contender by, and what has to be importable for it
    "scipy": ("scipy", "scipy.special", "scipy.linalg.blas"),
    "numexpr": ("numexpr",),
    "numba": ("numba",),
    TORCH: ("torch", "torch.nn.functional"),
    "jax": ("jax", "jax.nn", "jax.numpy"),
    "thinc": ("thinc", "thinc.api"),
    "numpy": ("numpy",),
}
SERIAL = ("numpy", "scipy", "thinc")
"""The libraries whose elementwise functions use one thread."""


@dataclass(frozen=True)
class Contender:
    """One statement that takes part in a cell."""

    name: str
    statement: str
    threads: int = 1
    rectified: bool = False
    """Whether it is given input that is rectified already, to show that this changes nothing."""
    cell: Cell | None = None
    """The cell that its operands are those of, where it is not the one it takes part in."""

    @property
    def computes(self) -> bool:
        """Whether it has an answer to check: an empty call or a pass of the roofline has none."""
        return self.name != FLOOR and not self.name.startswith(ROOFLINE)

    @property
    def rival(self) -> bool:
        """Whether another library computes what relu_ext computes."""
        return self.computes and self.library != OURS

    @cached_property
    def library(self) -> str:
        if self.name in (OURS, *SELVES):
            return OURS
        text = f"{self.name} {self.statement}"
        return next((name for name in LIBRARIES if name in text), "numpy")

    @property
    def where(self) -> str:
        """What the statement does not tell."""
        if self.name in SELVES:
            return f", {self.name}"
        return {"numba": ", a loop in numba", OWN_TENSORS: ", own tensors"}.get(self.name, "")

    def __str__(self) -> str:
        return self.statement + self.where


@dataclass(frozen=True)
class Cell:
    """One experiment: contenders that are timed in turn over the same buffers."""

    operation: str
    dtype: str
    size: int
    mode: str
    threads: int = 1
    layout: str = CONTIGUOUS

    @classmethod
    def of(cls, operation: str, dtype: str, label: str, mode: str, threads: int = 1) -> Cell:
        """A cell whose layout determines its size."""
        return cls(operation, dtype, size_of(label), mode, threads, label)

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.operation} {self.mode}, {self.array}{threads}"

    @property
    def array(self) -> str:
        """What the operation is given, in words."""
        if self.layout in SIZED:
            tensors = " tensor" if self.layout == TENSORS else ""
            return f"{size_text(self.size)} {self.dtype}{tensors}"
        return f"{self.layout} {self.dtype}"

    @property
    def usual(self) -> str:
        """The name of the contender that NumPy's users write."""
        return next(iter(OPERATIONS[self.operation].spellings))

    @property
    def operands(self) -> str:
        """The variables of a statement: input, and the output if there is one."""
        return OPERATIONS[self.operation].operands + ("o" if self.mode == OUT else "")

    @property
    def written(self) -> str:
        return "o" if self.mode == OUT else OPERATIONS[self.operation].target

    @property
    def where(self) -> Layout:
        return layout(self.layout, self.size)

    def allocated(self, operand: str) -> Shape:
        """The shape of the array behind an operand."""
        reduced = operand in OPERATIONS[self.operation].reduced
        return self.where.allocated(operand, reduced=reduced)

    @property
    def nbytes(self) -> int:
        """The bytes of the largest array."""
        return int(np.prod(self.where.shape)) * numpy_dtype(self.dtype).itemsize

    @property
    def traffic(self) -> int:
        """The bytes that a call on contiguous arrays has to read and to write."""
        return self.nbytes * (len(OPERATIONS[self.operation].operands) + 1)

    def contenders(self) -> list[Contender]:
        """Everything that can be timed in this cell, relu_ext first."""
        operation, where = OPERATIONS[self.operation], self.where
        dtype = numpy_dtype(self.dtype)
        found = [Contender(OURS, operation.ours(self.operation)[self.mode], self.threads)]
        found += self._selves(found[0])
        spellings = dict(operation.spellings) | (PRELU[self.operation] if where.slopes else {})
        if self.size <= SMALL:
            spellings[FLOOR] = "_empty({target})"
        if self.layout == CONTIGUOUS and self.nbytes >= LARGE:
            rooflines = ROOFLINES[self.mode, len(operation.operands)]
            spellings |= {ROOFLINE + name: text for name, text in rooflines.items()}
        for name, forms in spellings.items():
            text = forms if isinstance(forms, str) else forms.get(self.mode)
            integer = dtype.kind in "biu"
            if (
                not text
                or ("{blas}" in text and dtype.char not in "fd")  # BLAS would convert a copy
                or ((self.operation, name) in OTHER_FUNCTIONS and integer)
                or (name == "numexpr" and integer and "x + y" in text)  # does not wrap
                or (name == "thinc" and where.axis != -1)
                or (name in ("mask", "typed") and where.slopes)
                or (self.layout == TENSORS and name not in (TORCH, FLOOR))
            ):
                continue
            contender = Contender(name, self._fill(text), self.threads)
            serial = self.threads > 1 and contender.library in SERIAL
            found.append(replace(contender, threads=1) if serial else contender)
            if name == TORCH:
                found.append(replace(contender, name=OWN_TENSORS))
        return found

    def _selves(self, ours: Contender) -> Iterator[Contender]:
        """relu_ext under other conditions than those of the cell."""
        if self.threads > 1:
            yield replace(ours, name=ONE_THREAD, threads=1)
        dense = replace(self, layout=self.where.dense.label)
        match self.where.kind:
            case "rows" | "inside" | "steps" | "transposed":
                yield replace(ours, name=DENSE, cell=dense)
            case "columns" | "channels":
                yield replace(ours, name=ONE_SLOPE, cell=dense)
            case "bias":
                alone = replace(dense, operation=self.operation.removeprefix("add_"))
                statement = OPERATIONS[alone.operation].ours(alone.operation)[self.mode]
                yield replace(ours, name=WITHOUT_ADDING, statement=statement, cell=alone)
            case kind if kind == TENSORS:
                yield replace(ours, name=NDARRAY, cell=replace(self, layout=CONTIGUOUS))

    def _fill(self, template: str) -> str:
        dtype, operation = numpy_dtype(self.dtype), OPERATIONS[self.operation]
        destination = {IN_PLACE: operation.target, OUT: "o", NEW: ""}[self.mode]
        return template.format(
            target=operation.target,
            a=operation.operands[0],
            b=operation.operands[-1],
            out=destination and f", out={destination}",
            to=destination and f"{destination}[...] = ",
            zero="False" if dtype.kind == "b" else "0",
            top=np.iinfo(dtype).max if dtype.kind in "iu" else "np.inf",
            blas="d" if dtype == np.float64 else "s",
            chain=self._chain(),
        )

    def _chain(self) -> str:
        """The maximum over the pieces as calls of np.maximum, each but the first in place."""
        axis = self.where.axis
        if axis is None:
            return ""
        pieces = [f"x[..., {at}]" if axis else f"x[{at}]" for at in range(self.where.pieces)]
        out = self.mode == OUT
        chain = f"np.maximum({pieces[0]}, {pieces[1]}{', out=o' if out else ''})"
        chain = chain if out or len(pieces) == 2 else f"z := {chain}"
        for piece in pieces[2:]:
            chain = f"np.maximum({chain}, {piece}, out={'o' if out else 'z'})"
        return chain


def numpy_dtype(name: str) -> np.dtype:
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def slope_of(dtype: np.dtype) -> float:
    """SLOPE; for integers the only slope in [0, 1)."""
    return 0 if dtype.kind in "biu" else SLOPE


@cache
def dtypes(operation: str) -> tuple[str, ...]:
    """The dtypes of an operation, bfloat16 where ml_dtypes is installed, by kind and by size."""
    bfloat16 = ["bfloat16"] if importlib.util.find_spec("ml_dtypes") else []
    if operation not in ELEMENTWISE:
        return ("float16", *bfloat16, "float32", "float64")
    names = [np.dtype(char).name for char in DESCRIBED[operation].dtypes]
    order = {"f": 0, "V": 0, "i": 1, "u": 2, "b": 3}

    def place(name: str) -> tuple[int, int, str]:
        dtype = numpy_dtype(name)
        return order[dtype.kind], dtype.itemsize, name.removeprefix("b")

    return tuple(sorted(dict.fromkeys([*names, *bfloat16]), key=place))


DTYPES = tuple(dict.fromkeys(name for operation in OPERATIONS for name in dtypes(operation)))
