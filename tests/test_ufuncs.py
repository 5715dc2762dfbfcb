"""The second door: true NumPy ufuncs, with every method and every promotion."""

import copy
import inspect
import itertools
import pickle
import re

import numpy as np
import pytest
from relu_ext import ufuncs

import reference
import samples
from samples import (
    OPERATIONS,
    assert_same_bits,
    each_of_two_arrays,
    each_operation,
    each_with_parameter,
    run_python,
)

BINARY = [operation for operation in OPERATIONS if operation.ufunc.nin == 2]
each_binary = pytest.mark.parametrize("operation", BINARY, ids=str)


def test_the_oracle_knows_every_operation():
    assert set(reference.OPERATIONS) == {str(operation) for operation in OPERATIONS}
    public = [o.name for o in OPERATIONS if o.description.at_zero is None]
    assert sorted(public) == sorted(ufuncs.__all__)


@each_operation
def test_a_ufunc_of_numpy(operation):
    ufunc = operation.ufunc
    assert isinstance(ufunc, np.ufunc)
    assert ufunc.__name__ == operation.description.ufunc_name
    assert (ufunc.nout, ufunc.identity, ufunc.signature) == (1, None, None)


@each_operation
def test_a_docstring_says_what_each_operand_is(operation):
    """NumPy calls them x, or x1, x2 and x3; the function has the names that say more."""
    nin, docstring = operation.ufunc.nin, operation.ufunc.__doc__
    described = re.findall(r"^(x\d?) : array_like\n    `(\w+)`: \w", docstring, re.MULTILINE)
    numbers = [f"x{i}" for i in range(1, nin + 1)] if nin > 1 else ["x"]
    names = list(inspect.signature(operation.function_in_place).parameters)[:nin]
    assert described == list(zip(numbers, names, strict=True))


def test_the_module_lists_ufuncs_alone():
    assert dir(ufuncs) == sorted(ufuncs.__all__)
    assert all(isinstance(getattr(ufuncs, name), np.ufunc) for name in dir(ufuncs))


@each_operation
def test_a_loop_per_dtype(operation):
    """One dtype in, the same out. bool stays bool in relu alone."""
    dtypes = "bBhHiIlLqQefdg" + "?" * (operation.name == "relu")  # stated apart from the library
    loops = {f"{c * operation.ufunc.nin}->{c}" for c in dtypes}
    assert set(operation.ufunc.types) == loops


@each_operation
def test_pickle_and_copy_keep_identity(operation):
    functions = [operation.ufunc]
    if operation.description.at_zero is None:
        functions += [operation.function, operation.function_in_place]
    for f in functions:
        assert pickle.loads(pickle.dumps(f)) is f
        assert copy.deepcopy(f) is f


@each_with_parameter
def test_promotion_of_pairs(operation):
    """Every pair of dtypes in the first two operands: the dtype of their product in NumPy."""
    dtypes = dict.fromkeys(np.dtype(c) for c in "?bBhHiIlLqQefdg")
    for one, other in itertools.product([*dtypes, reference.bfloat16], repeat=2):
        first, second = samples.values(one, 40), samples.values(other, 40, seed=1)
        rest = [second.dtype.type(1)] * (operation.ufunc.nin - 2)
        if one.kind == other.kind == "b":
            continue  # two bools promote to bool, in which only relu computes
        *inputs, parameter = first, second, *rest
        expected = operation.expected(*inputs, parameter=parameter)
        with np.errstate(invalid="ignore"):  # NumPy's casts report signalling NaNs
            assert_same_bits(operation.ufunc(first, second, *rest), expected, f"{one} {other}")
            if operation.arity == 2:
                expected = operation.expected(first, second, parameter=0)
                assert_same_bits(operation.front(first, second, parameter=0), expected)


@each_of_two_arrays
def test_mixed_pair_in_place(operation):
    """The first array is written in its own dtype, computed in the common one, as `out=` does, but
    for NaNs that relu_backward_ does not cast."""
    for one, other in (("f4", "f8"), ("f8", "f4"), ("f4", "i1"), ("f2", "f4"), ("i8", "i4")):
        grad, x = samples.values(np.dtype(one), 100), samples.values(np.dtype(other), 100, seed=1)
        with np.errstate(all="ignore"):  # NumPy's casts to and fro report what they lose
            parameter = operation.parameter and 1
            values = operation.expected(grad, x, parameter=parameter).astype(one)
            assert operation.in_place(grad, x, parameter=parameter) is grad
        assert_same_bits(samples.quiet(grad), samples.quiet(values), f"{one} {other}")


def chain(operation, row, start=None):
    """The reduction of `row` from the left, one number at a time."""
    result = row[0] if start is None else start
    for number in row[1:] if start is None else row:
        result = operation.expected(result, parameter=number)[()]
        yield result


MATRIX = np.array([[-2, 0.5, -0.0, 3], [np.inf, -1, 2, -4], [0, -3, 7, 0.25]], "f4")


@each_binary
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i4"])
@pytest.mark.parametrize("transpose", [False, True])
def test_reduce_and_accumulate(operation, dtype, transpose):
    matrix = np.nan_to_num(MATRIX, posinf=9).astype(dtype)
    matrix = matrix.T.copy().T if transpose else matrix
    for axis in (0, 1):
        rows = np.moveaxis(matrix, axis, 1)
        chains = [[row[0], *chain(operation, row)] for row in rows]
        expected = np.moveaxis(np.array(chains, dtype), 1, axis)
        assert_same_bits(operation.ufunc.accumulate(matrix, axis=axis), expected)
        assert_same_bits(operation.ufunc.reduce(matrix, axis=axis), expected.take(-1, axis))
    kept = operation.ufunc.reduce(matrix, axis=1, keepdims=True, initial=2)
    expected = [[[*chain(operation, row, matrix.dtype.type(2))][-1]] for row in matrix]
    assert_same_bits(kept, np.array(expected, dtype))


@each_binary
def test_long_reductions(operation):
    """NumPy hands the loop an output with stride 0 that is its own input."""
    for count in (1, 2, 100, 5000):
        row = np.resize(np.array([-0.5, 0.25, -2, 0, -1.5]), count)
        expected = [row[0], *chain(operation, row)]
        assert_same_bits(operation.ufunc.reduce(row), np.array(expected[-1]))
        assert_same_bits(operation.ufunc.accumulate(row), np.array(expected))
        assert_same_bits(operation.ufunc.accumulate(row[::-1])[:1], row[-1:])


@each_binary
def test_reduceat(operation):
    row = np.array([-2, 0.5, -1, 0, 3, -0.25, -4], "f8")
    actual = operation.ufunc.reduceat(row, [0, 3, 5])
    parts = (row[0:3], row[3:5], row[5:])
    expected = [[part[0], *chain(operation, part)][-1] for part in parts]
    assert_same_bits(actual, np.array(expected))


@each_binary
def test_no_identity_to_reduce_nothing(operation):
    with pytest.raises(ValueError, match="identity"):
        operation.ufunc.reduce(np.zeros(0))


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o not in BINARY], ids=str)
def test_reduce_and_outer_need_two_operands(operation):
    with pytest.raises(ValueError, match="binary"):
        operation.ufunc.reduce(np.zeros(3))
    with pytest.raises(ValueError, match="outer"):
        operation.ufunc.outer(np.zeros(3), np.zeros(3))


@each_binary
def test_outer(operation):
    for dtype in ("f2", "f4", "i8"):
        x, parameters = samples.values(np.dtype(dtype), 70), np.array([0, 1, 3, 2], dtype)
        expected = operation.expected(x[:, None], parameter=parameters)
        assert_same_bits(operation.ufunc.outer(x, parameters), expected)


@each_operation
def test_at(operation):
    """Unbuffered and in place: an index that comes twice is computed twice."""
    if operation.ufunc.nin == 3:
        with pytest.raises((ValueError, TypeError)):
            operation.ufunc.at(np.ones(3), [0], np.ones(1))
        return
    x = np.array([-8.0, -4, 5, -0.0, np.nan, -np.inf, 1])
    index, parameter = np.array([0, 2, 0, 5, 3]), None if operation.ufunc.nin == 1 else -0.5
    expected = x.copy()
    for i in index:
        expected[i] = operation.expected(expected[i], parameter=parameter)
    operation.ufunc.at(x, index, *() if parameter is None else (parameter,))
    assert_same_bits(x, expected)


@each_operation
@np.errstate(invalid="ignore")  # the casts are NumPy's, which on aarch64 report signalling NaN
def test_signature_and_dtype_choose_the_loop(operation):
    x = samples.arrays(operation, np.dtype("f2"), 30)
    parameter = None if operation.parameter is None else 1
    wide = operation.expected(*(a.astype("f8") for a in x), parameter=parameter)
    nin = operation.ufunc.nin
    assert_same_bits(operation.direct(*x, parameter=parameter, dtype="f8"), wide)
    assert_same_bits(operation.direct(*x, parameter=parameter, signature="d" * nin + "->d"), wide)
    assert_same_bits(operation.front(*x, parameter=parameter, dtype="f8"), wide)
    with pytest.raises(TypeError):
        operation.direct(*x, parameter=parameter, signature="F" * nin + "->F")


BFLOAT16_PROGRAM = """
{first}
import numpy as np
{second}
x = np.array([-2, -0.0, 0, 3], ml_dtypes.bfloat16)
for result in (relu_ext.relu(x), relu_ext.leaky_relu(x, 0.5), relu_ext.leaky_relu(x[::2], 0.5),
               relu_ext.relu_subgradient(x, at_zero=0.5), relu_ext.relu_backward(x, x),
               relu_ext.leaky_relu_subgradient(x), relu_ext.leaky_relu_backward(x, x),
               relu_ext.leaky_relu_(x)):
    assert result.dtype == ml_dtypes.bfloat16, result.dtype
assert relu_ext.leaky_relu(x, 0.5).view("u2").tolist() == [{bits}]
"""


@pytest.mark.parametrize("order", ["relu_ext first", "ml_dtypes first", "arrays first"])
def test_bfloat16_whichever_is_imported_first(order):
    imports = ["import relu_ext", "import ml_dtypes"]
    if order == "arrays first":
        imports[0:0] = ["import ml_dtypes, numpy; numpy.ones(2, ml_dtypes.bfloat16) * 2"]
    elif order == "ml_dtypes first":
        imports.reverse()
    x = np.array([-2 * 0.01, -0.0, 0, 3], reference.bfloat16)
    halved = np.where(x < 0, x * x.dtype.type(0.5), x).view("u2")
    program = BFLOAT16_PROGRAM.format(
        first="\n".join(imports[:-1]),
        second=imports[-1],
        bits=", ".join(str(int(b)) for b in halved),
    )
    finished = run_python(program)
    assert finished.returncode == 0, finished.stderr


def test_ml_dtypes_is_optional():
    program = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np, relu_ext
assert relu_ext.relu(np.array([-1, 2], "f2")).tolist() == [0, 2]
assert relu_ext.ufuncs.relu(np.array([-1, 2], "f4")[::-1]).tolist() == [2, 0]
"""
    finished = run_python(program)
    assert finished.returncode == 0, finished.stderr
