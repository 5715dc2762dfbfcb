"""The registry: what can be measured, and the statements that compute the same.

A cell is one operation on one dtype, size, layout and mode. A contender is a statement that a user
would write. LEGEND says what the names in a statement mean. Where the layout has an array of
slopes, `slope` and `s` are that array.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import product
from typing import Any

import ml_dtypes  # noqa: F401  NumPy knows bfloat16 by name once this is imported
import numpy as np
from relu_ext import _operations

from suite.layouts import CONTIGUOUS, SIZED, TENSORS, Layout, Shape, layout, size_of

Spelling = str | tuple[str, str] | tuple[str, str, str]
"""One template for all modes, or one for an output that exists and one for a new array, or one for
each of MODES. It is empty where there is no such statement.

`{out}` becomes `, out=x`, `, out=o` or nothing, `{to}` becomes `x[...] = `, `o[...] = ` or nothing,
and `{o}` becomes the output that exists.
"""
Spellings = dict[str, Spelling]

DESCRIBED = {operation.name: operation for operation in _operations.OPERATIONS}
ELEMENTWISE = tuple(DESCRIBED)
IN_PLACE, OUT, NEW = MODES = ("in place", "out=", "new array")
OURS, FLOOR, ROOFLINE = "relu_ext", "empty call", "roofline: "
TORCH, OWN_TENSORS = "torch", "torch, own tensors"
"""PyTorch over NumPy's memory, and over memory as PyTorch aligns it, in inference mode."""
ONE_THREAD, DENSE, ONE_SLOPE, WITHOUT_ADDING, NDARRAY, COPIED_FIRST, PYTHON_NUMBER = SELVES = (
    "one thread", "contiguous", "one slope", "without adding", "ndarray", "copied first",
    "Python number",
)  # fmt: skip
"""relu_ext itself under other conditions, which tells what the conditions of the cell cost."""
LEGEND = (
    "x, y, g: inputs and gradient, fresh; o: an existing output; m: a mask; w: the pieces that won;"
    " slope: a Python number; zero, one, s: 0, 1 and the slope as scalars of the array's dtype; "
    "along, subscripts: the axes that are summed."
)
LOOP = "loop in numba"
SMALL = 1024
"""Up to so many elements the empty call is timed too, and the roofline beyond."""
LIBRARIES = ("scipy", "numba", TORCH, "jax", "thinc", "numpy")


def _select(condition: str, value: str, otherwise: str) -> dict[str, Spelling]:
    return {
        "where": f"{{to}}np.where({condition}, {value}, {otherwise})",
        "numba": f"out[i] = {value} if {condition} else {otherwise}",
    }


def _jax(expression: str) -> dict[str, Spelling]:
    return {"jax": ("", f"{expression}.block_until_ready()")}


SPELLINGS: dict[str, Spellings] = {
    "relu": {
        "maximum": "np.maximum(x, {zero}{out})",
        "zeros": "np.maximum(x, zeros{out})",
        "clip": "np.clip(x, {zero}, {top}{out})",
        **_select("x > 0", "x", "zero"),
        "multiply": ("x *= x > 0", "np.multiply(x, x > 0, out=o)", "x * (x > 0)"),
        "mask": ("x[x < 0] = 0", "", ""),
        TORCH: ("torch.relu_(x)", "torch.clamp_min(x, 0, out=o)", "torch.relu(x)"),
        **_jax("jax.nn.relu(x)"),
    },
    "relu_subgradient": {
        "greater": ("np.greater(x, 0{out})", "(x > 0).astype(x.dtype)"),
        "heaviside": "np.heaviside(x, 0{out})",
        **_select("x > 0", "one", "zero"),
        TORCH: ("x.gt_(0)", "torch.gt(x, 0, out=o)", "(x > 0).to(x.dtype)"),
        **_jax("(x > 0).astype(x.dtype)"),
    },
    "relu_backward": {
        "multiply": ("np.multiply(g, x > 0{out})", "g * (x > 0)"),
        **_select("x > 0", "g", "zero"),
        "mask": ("g[x <= 0] = 0", "", ""),
        TORCH: ("torch.ops.aten.threshold_backward.grad_input(g, x, 0, grad_input={o})",
                "torch.ops.aten.threshold_backward(g, x, 0)"),
        **_jax("jax.numpy.where(x > 0, g, zero)"),
    },
    "leaky_relu": {
        "maximum": "np.maximum(x, x * slope{out})",
        "typed": "np.maximum(x, x * s{out})",
        **_select("x < 0", "x * s", "x"),
        "mask": ("x[x < 0] *= s", "", ""),
        "masked": ("np.multiply(x, s, out=x, where=x < 0)", "", ""),
        TORCH: ("F.leaky_relu_(x, slope)", "torch.ops.aten.leaky_relu.out(x, slope, out=o)",
                "F.leaky_relu(x, slope)"),
        **_jax("jax.nn.leaky_relu(x, slope)"),
    },
    "leaky_relu_subgradient": {
        "maximum": "np.maximum(x > 0, s{out})",
        **_select("x > 0", "one", "s"),
        TORCH: "torch.where(x > 0, one, s{out})",
        **_jax("jax.numpy.where(x > 0, one, s)"),
    },
    "leaky_relu_backward": {
        **_select("x > 0", "g", "g * s"),
        "mask": ("g[x <= 0] *= s", "", ""),
        "masked": ("np.multiply(g, s, out=g, where=x <= 0)", "", ""),
        TORCH: ("torch.ops.aten.leaky_relu_backward.grad_input(g, x, slope, False, grad_input={o})",
                "torch.ops.aten.leaky_relu_backward(g, x, slope, False)"),
        **_jax("jax.numpy.where(x > 0, g, g * s)"),
    },
    "add_relu": {
        "add": ("np.add(x, y{out}); np.maximum({o}, 0{out})", "np.maximum(x + y, 0)"),
        "zeros": ("np.add(x, y{out}); np.maximum({o}, zeros{out})", "np.maximum(x + y, zeros)"),
        "numba": "out[i] = number(x + y) if number(x + y) > 0 else zero",
        TORCH: ("torch.relu_(x.add_(y))", "torch.clamp_min(torch.add(x, y, out=o), 0, out=o)",
                "torch.relu(x + y)"),
        **_jax("jax.nn.relu(x + y)"),
    },
    "add_leaky_relu": {
        "add": ("np.add(x, y{out}); np.maximum({o}, {o} * slope{out})",
                "np.maximum(z := x + y, z * slope)"),
        "numba": "out[i] = number(x + y) * s if number(x + y) < 0 else number(x + y)",
        TORCH: ("F.leaky_relu_(x.add_(y), slope)",
                "torch.ops.aten.leaky_relu.out(torch.add(x, y, out=o), slope, out=o)",
                "F.leaky_relu(x + y, slope)"),
        **_jax("jax.nn.leaky_relu(x + y, slope)"),
    },
}  # fmt: skip
"""What a user would write instead of each elementwise operation.

The first statement is what NumPy's users write.
"""

PRELU: dict[str, Spellings] = {
    "leaky_relu": {
        TORCH: "torch.where(x < 0, x * s, x{out})",
        "torch prelu": ("x = F.prelu(x, weight)", "", "F.prelu(x, weight)"),
    },
    "leaky_relu_backward": {
        TORCH: "torch.where(x > 0, g, g * s{out})",
        "torch prelu": ("g = torch.ops.aten._prelu_kernel_backward(g, x, s)[0]", "",
                        "torch.ops.aten._prelu_kernel_backward(g, x, s)[0]"),
    },
}  # fmt: skip
"""PyTorch's spellings where each column or channel has a slope of its own.

`F.prelu` has no form in place: its user rebinds the name. Its backward also has the products whose
sum is the gradient of the slopes."""


@dataclass(frozen=True)
class Operation:
    """How one operation of relu_ext is called, and what a user could write instead."""

    function: str
    operands: str
    """Their first letters; the first is overwritten in place."""
    arguments: str  # behind the operands
    spellings: Spellings
    reduced: str = ""
    """The operands that lack the axis of the pieces."""

    @property
    def call(self) -> Spelling:
        name, given = self.function, ", ".join(self.operands) + self.arguments
        return f"{name}_({given})", f"{name}({given}, out=o)", f"{name}({given})"


def form(spelling: Spelling, mode: str) -> str:
    """The template for a mode, which may be empty."""
    if isinstance(spelling, str):
        return spelling
    return (spelling[0], *spelling)[-3:][MODES.index(mode)]


_SLOPES = {
    "where": "np.where(x > 0, 0, g * x).sum(along).reshape(s.shape)",
    "einsum": "np.einsum(subscripts, g, np.minimum(x, 0)).reshape(s.shape)",
}
OPERATIONS = {
    name: Operation(
        name,
        operands="".join(array[0] for array in described.arrays),
        arguments=", slope" if described.parameter == "negative_slope" else "",
        spellings=SPELLINGS[name],
    )
    for name, described in DESCRIBED.items()
} | {
    "maxout": Operation("maxout", "x", ", axis", {
        "max": "x.max(axis{out})",
        "chain": "{chain}",
        TORCH: "torch.amax(x, axis{out})",
        "torch.max": ("", "torch.max(x, axis).values"),
        **_jax("x.max(axis)"),
    }, reduced="o"),
    "relu_where": Operation("relu", "x", ", where=m", {
        "maximum": ("", "np.maximum(x, 0, out=o, where=m)", ""),
        "copyto": ("", "np.copyto(o, np.maximum(x, zeros), where=m)", ""),
        "numba": ("", "if m: out[i] = x if x > 0 else zero", ""),
        TORCH: ("", "torch.where(m, torch.relu(x), o, out=o)", ""),
    }),
    "maxout_which": Operation("maxout", "x", ", axis, return_which=True", {
        "max": ("", "(x.max(axis), x.argmax(axis))"),
        "take": ("", ("(np.take_along_axis(x, w := x.argmax(axis, keepdims=True), axis)"
                      ".squeeze(axis), w.squeeze(axis))")),
        TORCH: ("", "torch.max(x, axis)"),
        "thinc": ("", "thinc_ops.maxout(x)"),
    }, reduced="o"),
    "maxout_backward": Operation("maxout_backward", "gw", ", pieces, axis", {
        "where": "{to}np.where(np.expand_dims(w, axis) == numbers, np.expand_dims(g, axis), zero)",
        "put": (("o.fill(0); np.put_along_axis(o, np.expand_dims(w, axis), "
                 "np.expand_dims(g, axis), axis)"), ""),
        TORCH: ("o.zero_().scatter_(axis, w.unsqueeze(axis).long(), g.unsqueeze(axis))",
                ("torch.zeros(shape, dtype=g.dtype).scatter_(axis, w.unsqueeze(axis).long(), "
                 "g.unsqueeze(axis))")),
        "thinc": ("", "thinc_ops.backprop_maxout(g, w, pieces)"),
    }, reduced="gw"),
    "add_relu_backward": Operation("add_relu_backward", "gxy", "", {
        "multiply": ("(np.multiply(g, x > 0, out=g), g.sum(axis=0))", "",
                     "(h := g * (x > 0), h.sum(axis=0))"),
        "numba": "out[i] = g if x > 0 else zero; total += out[i]",
        TORCH: ("(torch.ops.aten.threshold_backward.grad_input(g, x, 0, grad_input=g), g.sum(0))",
                "", "(h := torch.ops.aten.threshold_backward(g, x, 0), h.sum(0))"),
    }),
    "add_leaky_relu_backward": Operation("add_leaky_relu_backward", "gxy", ", slope", {
        "where": ("(np.multiply(g, s, out=g, where=x <= 0), g.sum(axis=0))", "",
                  "(h := np.where(x > 0, g, g * s), h.sum(axis=0))"),
        "numba": "out[i] = g if x > 0 else g * s; total += out[i]",
        TORCH: (("(torch.ops.aten.leaky_relu_backward.grad_input(g, x, slope, False, "
                 "grad_input=g), g.sum(0))"), "",
                "(h := torch.ops.aten.leaky_relu_backward(g, x, slope, False), h.sum(0))"),
    }),
    "prelu_backward": Operation("prelu_backward", "gx", ", slope", {
        **{name: (f"({text}, np.multiply(g, s, out=g, where=x <= 0))[::-1]", "",
                  f"(np.where(x > 0, g, g * s), {text})") for name, text in _SLOPES.items()},
        "numba": "total += zero if x > 0 else g * x; out[i] = g if x > 0 else g * s",
        TORCH: ("((h := torch.ops.aten._prelu_kernel_backward(g, x, s))[0], "
                "h[1].sum(along).reshape(s.shape))"),
    }),
}  # fmt: skip
SUMS = ("add_relu_backward", "add_leaky_relu_backward", "prelu_backward")
"""The operations that also return sums, which other libraries add in another order."""

_NOT_OUT = (IN_PLACE, NEW)
_SLOPED: dict[str, tuple[str, ...]] = {**dict.fromkeys(PRELU, MODES), "prelu_backward": _NOT_OUT}
_MAXOUT: dict[str, tuple[str, ...]] = {"maxout": (OUT, NEW), "maxout_which": (NEW,)}
_BACKWARD = ("relu_backward", "leaky_relu_backward")
_MODES: dict[str, dict[str, tuple[str, ...]]] = {
    "columns": _SLOPED,
    "channels": _SLOPED,
    "transposed": dict.fromkeys(_BACKWARD, MODES),
    "conv output": {"relu": (OUT,), "leaky_relu": (OUT,), **dict.fromkeys(_BACKWARD, (IN_PLACE,))},
    "bias": {**dict.fromkeys(("add_relu", "add_leaky_relu"), MODES),
             **dict.fromkeys(("add_relu_backward", "add_leaky_relu_backward"), _NOT_OUT)},
    "pieces": _MAXOUT | {"maxout_backward": (OUT, NEW)},
    "windows": _MAXOUT | {"maxout_backward": (NEW,)},
    "many pieces": {"maxout_which": (NEW,)},
    "mask": {"relu_backward": _NOT_OUT},
    "wider x": {"relu_backward": (IN_PLACE,)},
    "wider bias": {"add_relu": (IN_PLACE,)},
    "scalar": {"leaky_relu": (IN_PLACE,)},
    "where": {"relu_where": (OUT,)},
    TENSORS: dict.fromkeys(ELEMENTWISE, (IN_PLACE,)),
}  # fmt: skip


def modes(operation: str, kind: str) -> tuple[str, ...]:
    """The modes in which an operation is measured in a kind of layouts."""
    return _MODES.get(kind, dict.fromkeys(ELEMENTWISE, MODES)).get(operation, ())


_PIECES = "p := np.moveaxis(x, axis, (-2, -1)).reshape(*computed, -1)"
SPECIAL: dict[tuple[str, str], Spellings] = {
    ("windows", "maxout"): {
        "max": "x.max(axis{out})",
        "chain": "{chain}",
        TORCH: ("torch.amax(x, axis, out=o)",
                "F.max_pool2d(x.reshape(images){channels_first}, pieces){back}"),
    },
    ("windows", "maxout_which"): {
        "max": ("", f"(({_PIECES}).max(-1), p.argmax(-1))"),
        "take": ("", (f"(np.take_along_axis({_PIECES}, (w := p.argmax(-1))[..., None], -1)"
                      "[..., 0], w)")),
        TORCH: ("", ("F.max_pool2d(x.reshape(images){channels_first}, pieces, "
                     "return_indices=True)[0]{back}")),
    },
    ("windows", "maxout_backward"): {
        "put": ("", ("np.moveaxis((z := np.zeros((*computed, numbers.size), g.dtype), "
                     "np.put_along_axis(z, w[..., None], g[..., None], -1))[0]"
                     ".reshape(*computed, *pieces), (-2, -1), axis)")),
        TORCH: ("", ("torch.ops.aten.max_pool2d_with_indices_backward(g{channels_first}, "
                     "image{channels_first}, pieces, pieces, [0, 0], [1, 1], False, "
                     "w{channels_first}){back}.reshape(shape)")),
    },
    ("mask", "relu_backward"): {
        "multiply": ("np.multiply(g, x{out})", "g * x"),
        **_select("x > 0", "g", "zero"),
        TORCH: ("g.mul_(x)", "g * x"),
    },
    ("wider x", "relu_backward"): SPELLINGS["relu_backward"] | {TORCH: ("g.mul_(x > 0)", "", "")},
}  # fmt: skip
"""What replaces the spellings of an operation in a kind of layouts.

PyTorch counts the positions of its windows in the plane of the image: of its pooling the maxima
alone are compared, and its backward gets such positions, made beforehand.
"""

ROOFLINES: dict[int, Spellings] = {
    0: {"fill": ("", "np.full(shape, zero)")},
    1: {
        LOOP: "out[i] = x + one",
        "scale": ("np.multiply(x, s, out=x)", "", ""),
        "torch scale": ("x.mul_(slope)", "", ""),
        "copy": ("", "np.copyto(o, x)", "x.copy()"),
        "torch copy": ("", "o.copy_(x)", ""),
    },
    2: {
        LOOP: "out[i] = number({a} + {b})",
        "add": ("np.add({a}, {b}{out})", "{a} + {b}"),
        "torch add": ("{a}.add_({b})", "torch.add({a}, {b}, out=o)", ""),
    },
}
"""By the number of inputs, statements that move as many bytes with little arithmetic; 0 for the
gradient of maxout. A LOOP is for operands that do not lie in whole arrays."""


@dataclass(frozen=True)
class Contender:
    """One statement that takes part in a cell."""

    name: str
    statement: str
    cell: "Cell | None" = None
    """The cell whose operands it is given, if not those of the cell in which it takes part."""

    @property
    def computes(self) -> bool:
        """Whether it has an answer to check, unlike an empty call or a pass of the roofline."""
        return self.name != FLOOR and not self.name.startswith(ROOFLINE)

    @cached_property
    def library(self) -> str:
        if self.name in (OURS, *SELVES):
            return OURS
        text = f"{self.name} {self.statement}"
        return next((name for name in LIBRARIES if name in text), "numpy")

    @property
    def where(self) -> str:
        """What tells it from other contenders with the same statement."""
        if self.name in SELVES:
            return f", {self.name}"
        loop = ", a loop in numba" if self.library == "numba" else ""
        return loop or (", own tensors" if self.name == OWN_TENSORS else "")

    def __str__(self) -> str:
        return self.statement + self.where


@dataclass(frozen=True)
class Cell:
    """One experiment, whose contenders are timed in turn over the same buffers."""

    operation: str
    dtype: str
    size: int
    mode: str
    threads: int = 1
    layout: str = CONTIGUOUS

    @classmethod
    def of(cls, operation: str, dtype: str, label: str, mode: str, threads: int = 1) -> "Cell":
        """A cell whose layout determines its size."""
        return cls(operation, dtype, size_of(label), mode, threads, label)

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.operation} {self.mode}, {self.array}{threads}"

    @property
    def array(self) -> str:
        """What the operation is given, in words."""
        if self.layout not in SIZED:
            return f"{self.layout} {self.dtype}"
        power = self.size.bit_length() - 1
        size = f"2^{power}" if self.size > 2**16 and self.size == 2**power else f"{self.size:,}"
        return f"{size} {self.dtype}{' tensor' if self.layout == TENSORS else ''}"

    @property
    def usual(self) -> str:
        """The name of the contender that NumPy's users write."""
        return next(iter(self.spellings))

    @property
    def spellings(self) -> Spellings:
        """What a user could write instead."""
        prelu = PRELU.get(self.operation, {}) if self.where.slopes else {}
        found = OPERATIONS[self.operation].spellings | prelu
        return dict(SPECIAL.get((self.where.kind, self.operation), found))

    @property
    def operands(self) -> str:
        """The variables of a statement: the inputs, and the output if there is one."""
        masked = "m" if self.where.kind == "where" else ""
        return OPERATIONS[self.operation].operands + ("o" if self.mode == OUT else "") + masked

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """The dtype of an operand, or of the slope."""
        other, dtype = self.where.other
        return np.dtype(dtype if name == other else self.dtype)

    @property
    def written(self) -> str:
        """The operand that receives the result."""
        return "o" if self.mode == OUT else self.operands[0]

    @property
    def where(self) -> Layout:
        return layout(self.layout, self.size)

    def allocated(self, operand: str) -> Shape:
        """The shape of the array behind an operand."""
        if operand in OPERATIONS[self.operation].reduced:
            return self.where.computed
        return self.where.bias if operand == "y" and self.where.bias else self.where.shape

    @property
    def nbytes(self) -> int:
        """The bytes of the largest array."""
        return int(np.prod(self.where.shape)) * np.dtype(self.dtype).itemsize

    def contenders(self) -> list[Contender]:
        """Everything that can be timed in this cell, relu_ext first."""
        operation, where, spellings = OPERATIONS[self.operation], self.where, self.spellings
        ours = Contender(OURS, form(operation.call, self.mode))
        found = [ours, *self._selves(ours)]
        if math.prod(where.shape) <= SMALL:
            spellings[FLOOR] = f"_empty({operation.operands[0]})"
        elif where.axis is None or operation.reduced == "gw":
            passes = ROOFLINES[len(operation.operands[:2]) if where.axis is None else 0]
            whole = self.layout in SIZED or where.axis is not None
            spellings |= {ROOFLINE + name: spelling for name, spelling in passes.items()
                          if whole != (name == LOOP)}  # fmt: skip
        for name, spelling in spellings.items():
            text = form(spelling, self.mode)
            if (
                not text
                or (name == "numba" and self.threads > 1 and self.operation in SUMS)
                or (name == "thinc" and where.axis != -1)
                or (name in ("mask", "typed") and where.slopes)
                or (self.layout == TENSORS and name not in (TORCH, FLOOR))
            ):
                continue
            found.append(Contender(name, self._fill(text)))
            if name == TORCH:
                found.append(replace(found[-1], name=OWN_TENSORS))
        return found

    def _selves(self, ours: Contender) -> Iterator[Contender]:
        """relu_ext under other conditions than those of the cell."""
        where = self.where
        dense = replace(self, layout=where.dense.label)
        if self.threads > 1:
            yield replace(ours, name=ONE_THREAD)
        if where.channels_last:
            operation = OPERATIONS[self.operation]
            copy, x = ("", "np.ascontiguousarray(x)")
            if self.mode == OUT:
                copy, x = ("np.copyto(o, x); ", "o")
            given = ", ".join(x if name == "x" else name for name in operation.operands)
            statement = f"{copy}{operation.function}_({given}{operation.arguments})"
            yield replace(ours, name=COPIED_FIRST, statement=statement)
        if where.index or where.transposed or where.channels_last:
            yield replace(ours, name=DENSE, cell=dense)
        if where.slopes and self.operation not in SUMS:
            yield replace(ours, name=ONE_SLOPE, cell=dense)
        if where.kind == "scalar":
            yield replace(ours, name=PYTHON_NUMBER, cell=dense)
        if where.bias or self.operation in SUMS:
            name = self.operation.removeprefix("add_").replace("prelu", "leaky_relu")
            alone = replace(dense if where.bias else self, operation=name)
            statement = form(OPERATIONS[alone.operation].call, self.mode)
            yield replace(ours, name=WITHOUT_ADDING, statement=statement, cell=alone)
        if where.kind == TENSORS:
            yield replace(ours, name=NDARRAY, cell=replace(self, layout=CONTIGUOUS))

    def _fill(self, template: str) -> str:
        dtype, operands = np.dtype(self.dtype), OPERATIONS[self.operation].operands
        existing = self.mode != NEW
        return template.format(
            a=operands[0],
            b=operands[:2][-1],
            o=self.written,
            out=f", out={self.written}" if existing else "",
            to=f"{self.written}[...] = " if existing else "",
            zero="False" if dtype.kind == "b" else "0",
            top=np.iinfo(dtype).max if dtype.kind in "iu" else "np.inf",
            chain=self._chain() if "{chain}" in template else "",
            channels_first=".permute(0, 3, 1, 2)" if self.where.axis == (2, 4) else "",
            back=".permute(0, 2, 3, 1)" if self.where.axis == (2, 4) else "",
        )

    def _chain(self) -> str:
        """The maximum over the pieces as calls of np.maximum, each but the first in place."""
        axis, shape = self.where.axis, self.where.shape
        if isinstance(axis, tuple):
            ranges = [range(length) if at in axis else ":" for at, length in enumerate(shape)]
            places = [", ".join(map(str, at)) for at in product(*ranges)]
        else:
            places = [f"{'..., ' if axis else ''}{at}" for at in range(self.where.pieces)]
        first, second, *others = [f"x[{at}]" for at in places]
        into = ", out=o" if self.mode == OUT else ""
        chain = f"np.maximum({first}, {second}{into})"
        if others and not into:
            chain, into = f"z := {chain}", ", out=z"
        return reduce(lambda chain, piece: f"np.maximum({chain}, {piece}{into})", others, chain)


def dtypes(operation: str) -> tuple[str, ...]:
    """The dtypes of an operation, by kind and by size."""
    chars = DESCRIBED[operation].dtypes if operation in DESCRIBED else "efd"
    narrowest, *others = sorted(map(np.dtype, chars), key=lambda dtype: "fiub".index(dtype.kind))
    return tuple(dict.fromkeys((narrowest.name, "bfloat16", *(dtype.name for dtype in others))))


DTYPES = tuple(dict.fromkeys(name for operation in OPERATIONS for name in dtypes(operation)))
