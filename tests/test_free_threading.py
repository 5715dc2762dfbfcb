"""Several Python threads at once in everything that is shared: the package itself, the ufuncs'
loops, the active level, the number of threads. With the GIL and without."""

import sys
import sysconfig
import threading

import numpy as np
import pytest
import relu_ext
from relu_ext import _dispatch, ufuncs

import samples
from samples import assert_same_bits, each_kernel, run_python

THREADS = 8


def together(function, *, meanwhile=None):
    """Run `function(i)` in eight threads that start at once, `meanwhile` over and over beside them;
    what one raises is raised."""
    barrier, errors, stop = threading.Barrier(THREADS), [], threading.Event()

    def run(i):
        try:
            barrier.wait()
            function(i)
        except BaseException as error:
            errors.append(error)

    def repeat():
        while not stop.is_set():
            meanwhile()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    other = threading.Thread(target=repeat if meanwhile else lambda: None)
    for thread in (*threads, other):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    other.join()
    if errors:
        raise errors[0]


@each_kernel
def test_own_arrays_and_shared_inputs(operation, dtype):
    """Every door, on what a short call and one through the ufunc take."""
    count = 1003
    shared = samples.arrays(operation, dtype, count)
    parameter = samples.parameters(operation, dtype)[0]
    number = parameter if parameter is None else dtype.type(parameter)
    expected = operation.expected(*shared, parameter=parameter)
    for x in shared:
        x.flags.writeable = False

    def call(i):
        own = [x.copy() for x in shared]
        out = np.empty(count, dtype)
        for _ in range(5):
            assert_same_bits(operation.front(*shared, parameter=parameter), expected)
            assert operation.front(*shared, parameter=parameter, out=out) is out
            assert_same_bits(out, expected)
            assert_same_bits(operation.direct(*shared, parameter=number), expected)
            own[0][:] = shared[0]
            assert operation.in_place(*own, parameter=parameter) is own[0]
            assert_same_bits(own[0], expected)
            strided = [x[::2] for x in shared]
            assert_same_bits(operation.front(*strided, parameter=parameter), expected[::2])

    together(call)


def test_maxout_of_shared_and_own():
    x = samples.values(np.dtype("f4"), 3 * 2003).reshape(2003, 3)
    grad = samples.values(np.dtype("f4"), 2003, seed=1)
    expected, which = relu_ext.maxout(x, return_which=True)
    spread = relu_ext.maxout_backward(grad, which, 3)
    for shared in (x, grad, which):
        shared.flags.writeable = False

    def call(i):
        for _ in range(20):
            got, index = relu_ext.maxout(x, return_which=True)
            assert_same_bits(got, expected)
            assert_same_bits(index, which)
            assert_same_bits(relu_ext.maxout(x.T.copy(), axis=0), expected)
            assert_same_bits(relu_ext.maxout_backward(grad, which, 3), spread)

    together(call)


def test_one_array_that_all_write():
    """As with NumPy's own functions each element is somebody's result; relu's is the same whoever
    writes it last, and whether it was there before."""
    source = samples.values(np.dtype("f4"), 100_003)
    expected = samples.OPERATIONS[0].expected(source)
    x = source.copy()
    together(lambda i: [relu_ext.relu_(x) for _ in range(20)])
    assert_same_bits(x, expected)


def test_the_number_of_threads_changes_meanwhile():
    before = relu_ext.get_num_threads()
    x = np.resize(samples.values(np.dtype("f4"), 997), 1 << 19)
    expected = samples.OPERATIONS[0].expected(x)

    def switch():
        relu_ext.set_num_threads(2)
        relu_ext.set_num_threads(1)

    def call(i):
        for _ in range(10):
            assert_same_bits(relu_ext.relu(x), expected)
            assert relu_ext.get_num_threads() in (1, 2)

    try:
        together(call, meanwhile=switch)
    finally:
        relu_ext.set_num_threads(before)


def test_the_level_changes_meanwhile():
    active = relu_ext.cpu_levels().active
    x = samples.values(np.dtype("f4"), 1003)
    expected = samples.OPERATIONS[0].expected(x)

    def switch():
        for level in samples.LEVELS:
            _dispatch.use("".join(level))  # another object than the library's own

    def call(i):
        for _ in range(300):
            assert_same_bits(relu_ext.relu(x), expected)
            assert relu_ext.cpu_levels().active in samples.LEVELS

    try:
        together(call, meanwhile=switch)
    finally:
        _dispatch.use(active)


FIRST = """
import itertools, sys, threading
{before}
barrier, errors = threading.Barrier(8), []
def run(i):
    try:
        barrier.wait()
        import relu_ext, ml_dtypes, numpy as np
        from relu_ext import ufuncs
        from relu_ext._operations import OPERATIONS
        x = np.array([-1, 2] * 500, ml_dtypes.bfloat16)
        for description in OPERATIONS[i % 3 :] + OPERATIONS[: i % 3]:
            name = description.name
            ufunc = getattr(ufuncs, name)
            arrays = [x[::2]] * len(description.arrays)
            parameters = [0.5] * (ufunc.nin - len(arrays))
            relu_ext.set_num_threads(1 + i % 2)
            result = ufunc(*arrays, *parameters)
            assert result.dtype == ml_dtypes.bfloat16, (name, result.dtype)
            for call in (getattr(relu_ext, name), getattr(relu_ext, name + "_")):
                assert call(*[a.copy() for a in arrays]).dtype == ml_dtypes.bfloat16, name
    except BaseException as error:
        errors.append(repr(error))
threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*errors or ["all"])
"""


@pytest.mark.parametrize("before", ["", "import ml_dtypes, relu_ext"], ids=["import", "bfloat16"])
def test_first_use(before):
    """Eight threads meet the package, or bfloat16, for the first time; each ufunc gets its loop
    once, whoever comes first."""
    for _ in range(5):
        finished = run_python(FIRST.format(before=before))
        assert finished.stdout == "all\n", finished.stdout + finished.stderr


def test_every_ufunc_learns_bfloat16_by_itself():
    program = """
import ml_dtypes, numpy as np
from relu_ext import ufuncs
x = np.array([-1, 2], ml_dtypes.bfloat16)
for name in {names}:
    ufunc = getattr(ufuncs, name)
    assert ufunc(*[x] * ufunc.nin).dtype == ml_dtypes.bfloat16
print("all")
"""
    for names in (ufuncs.__all__, ufuncs.__all__[::-1]):
        finished = run_python(program.format(names=names))
        assert finished.stdout == "all\n", finished.stderr


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has its GIL for good"
)
def test_the_import_leaves_the_gil_off():
    program = "import relu_ext, sys; print(sys._is_gil_enabled())"
    finished = run_python(program, PYTHON_GIL="")
    assert finished.stdout == "False\n", finished.stderr


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="with the GIL, counting is for free"
)
def test_functions_are_not_counted():
    """Or the threads that call one would write its count by turns."""
    for name in ufuncs.__all__:
        for function in (getattr(relu_ext, name), getattr(relu_ext, name + "_")):
            before = sys.getrefcount(function)
            kept = [function] * 100
            assert sys.getrefcount(function) == before, name
            del kept
