"""Describes each operation once, for the code, the tests and the benchmarks.

The position of an operation is its number in `_table.pxd`.  `_scalar.pxd` says what it means for
one number.
"""

import inspect
from typing import Any, NamedTuple

_NUMBERS = "efdgbBhHiIlLqQ"


_parsed: dict[str, tuple[tuple[str, ...], str | None, Any]] = {}


def _parse(signature: str) -> tuple[tuple[str, ...], str | None, Any]:
    """The names of the arrays, and the name and the default of the parameter."""
    if signature not in _parsed:
        operands = inspect.signature(eval(f"lambda {signature[1:-1]}: None")).parameters.values()
        arrays = tuple(p.name for p in operands if p.default is p.empty)
        parameters = [(p.name, p.default) for p in operands if p.default is not p.empty]
        _parsed[signature] = arrays, *(parameters[0] if parameters else (None, None))
    return _parsed[signature]


class Operation(NamedTuple):
    """An elementwise operation and how it is called."""

    name: str
    signature: str
    """That of the function in place; the other one also takes the ufunc's keywords."""
    dtypes: str = _NUMBERS
    """The characters of NumPy's dtypes that it computes in, narrow before wide."""
    loops: int = 2
    """The vectorised loops of a kernel: one for a single parameter, one for an array of them."""
    half_loops: int = 1
    """The same for float16 and bfloat16, where one loop over blocks serves both if the operation
    multiplies."""

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays; the first is overwritten in place."""
        return _parse(self.signature)[0]

    @property
    def parameter(self) -> str | None:
        """The name of the number that it takes besides its arrays."""
        return _parse(self.signature)[1]

    @property
    def default(self) -> Any:
        """The default of the parameter."""
        return _parse(self.signature)[2]


OPERATIONS = (
    Operation("relu", "(x, /)", dtypes="?" + _NUMBERS, loops=1),
    Operation("relu_subgradient", "(x, /, *, at_zero=0)", loops=3, half_loops=3),
    Operation("relu_backward", "(grad, x, /, *, at_zero=0)", loops=4, half_loops=3),
    Operation("leaky_relu", "(x, /, negative_slope=0.01)"),
    Operation("leaky_relu_subgradient", "(x, /, negative_slope=0.01)", half_loops=2),
    Operation("leaky_relu_backward", "(grad, x, /, negative_slope=0.01)"),
    Operation("add_relu", "(x, y, /)", loops=1),
    Operation("add_leaky_relu", "(x, y, /, negative_slope=0.01)"),
)
