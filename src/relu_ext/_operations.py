"""Describes each operation once, for the code, the tests and the benchmarks.

The position of an operation is its number in `_table.pxd`.  `_scalar.pxd` says what it means for
one number.
"""

_NUMBERS = "efdgbBhHiIlLqQ"


class Operation:
    """An elementwise operation and how it is called.

    A plain class, because importing relu_ext waits for it: a NamedTuple takes 0.13 ms.
    """

    keyword_only = False
    """Whether the parameter is passed by its name only."""
    dtypes = _NUMBERS
    """The characters of NumPy's dtypes that it computes in, narrow before wide."""
    at_zero: int | None = None
    """What is chosen as the derivative at ±0."""
    chooses = False
    """Whether the function takes `at_zero` besides, which chooses another operation."""

    def __init__(
        self,
        name: str,
        arrays: tuple[str, ...],
        parameter: str | None = None,
        default: float | None = None,
        **others: object,
    ) -> None:
        self.name = name
        self.arrays = arrays  # the first is overwritten in place
        self.parameter = parameter  # the name of the number that it takes besides its arrays
        self.default = default
        vars(self).update(others)

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of the ufunc's operands: the arrays and the parameter."""
        return self.arrays if self.parameter is None else (*self.arrays, self.parameter)

    @property
    def ufunc_name(self) -> str:
        """The name in `relu_ext.ufuncs`, which is private for a choice."""
        return self.name if self.at_zero is None else f"_{self.name}_{self.at_zero}_at_zero"


OPERATIONS = (
    Operation("relu", ("x",), dtypes="?" + _NUMBERS),
    Operation("relu_subgradient", ("x",), "at_zero", 0, keyword_only=True),
    Operation("relu_backward", ("grad", "x"), "at_zero", 0, keyword_only=True),
    Operation("leaky_relu", ("x",), "negative_slope", 0.01),
    Operation("leaky_relu_subgradient", ("x",), "negative_slope", 0.01, chooses=True),
    Operation("leaky_relu_backward", ("grad", "x"), "negative_slope", 0.01, chooses=True),
    Operation("add_relu", ("x", "y")),
    Operation("add_leaky_relu", ("x", "y"), "negative_slope", 0.01),
)

AT_ZERO = (
    Operation("leaky_relu_subgradient", ("x",), "negative_slope", 0.01, at_zero=0),
    Operation("leaky_relu_subgradient", ("x",), "negative_slope", 0.01, at_zero=1),
    Operation("leaky_relu_backward", ("grad", "x"), "negative_slope", 0.01, at_zero=0),
    Operation("leaky_relu_backward", ("grad", "x"), "negative_slope", 0.01, at_zero=1),
)
"""Operations with another derivative at ±0 than the slope; their numbers follow."""

OPERANDS = {
    "x": "the input of the activation",
    "y": "a bias or a residual",
    "grad": "the gradient with respect to the output",
    "at_zero": "the subgradient at ±0",
    "negative_slope": "the slope for negative values",
}
"""What the operands are."""
