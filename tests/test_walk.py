"""Whole buffers: alignment heads, cache blocks, streaming stores, threads, forks."""

import importlib.util
import itertools
import math
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import relu_ext
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from relu_ext import _threads

import samples
from samples import VECTOR, Guarded, assert_same_bits, each_operation, run_python

MIB = 1 << 20
# Around every size at which a buffer may be treated otherwise, and some in between.
SIZES = [4096, 32 << 10, 300_000, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 64 * MIB]
DTYPES = [np.dtype("f4"), np.dtype("i1"), np.dtype("f2"), np.dtype("f8"), np.dtype("g")]


def repeated(part, count):
    """`part` over and over: large, and yet cheap to know the answer for."""
    return np.resize(part, count)


@each_operation
def test_sizes(level, threads, operation):
    """A value never depends on where in how large a buffer it stands, and by which thread."""
    last = level == samples.LEVELS[-1]
    for dtype in DTYPES if last else DTYPES[:1]:
        period = 997  # prime: every element meets every position within a block
        parts = samples.arrays(operation, dtype, period)
        parameters = samples.parameters(operation, dtype)[:1]
        sizes = (SIZES if last else SIZES[:-1]) if dtype == np.float32 else [16 * MIB]
        if last and dtype == np.float32 and operation.parameter:
            parameters.append(samples.values(dtype, period, seed=7))
        for parameter, size in itertools.product(parameters, sizes):
            expected = operation.expected(*parts, parameter=parameter)
            for extra in (-1, 0, 1, 77) if size < MIB else (-1, 77):
                count = size // dtype.itemsize + extra
                arrays = [repeated(part, count) for part in parts]
                one_each = isinstance(parameter, np.ndarray)
                given = repeated(parameter, count) if one_each else parameter
                wanted = repeated(expected, count)
                context = f"{dtype} {count=} {one_each=}"
                assert_equal(operation.front(*arrays, parameter=given), wanted, context)
                out = np.empty(count, dtype)
                operation.front(*arrays, parameter=given, out=out)
                assert_equal(out, wanted, context)
                operation.in_place(*arrays, parameter=given)
                assert_equal(arrays[0], wanted, context)


def assert_equal(actual, expected, context):
    """As `assert_same_bits`, in one pass where all is well."""
    if actual.dtype.char == "g" or not np.array_equal(
        actual.view(f"u{actual.itemsize}"), expected.view(f"u{actual.itemsize}")
    ):
        assert_same_bits(actual, expected, context)


@each_operation
def test_every_alignment_of_every_buffer(level, operation):
    """The elements before the first cache line are a call of their own."""
    for dtype in DTYPES:
        count = 2048 // dtype.itemsize + 77  # small ones go to the kernel as they are
        sources = samples.arrays(operation, dtype, count)
        parameter = samples.parameters(operation, dtype)[0]
        expected = operation.expected(*sources, parameter=parameter)
        for offset in range(VECTOR):
            inputs = [Guarded(s, (offset * (i + 3)) % VECTOR) for i, s in enumerate(sources)]
            out = Guarded(np.zeros(count, dtype), offset)
            arrays = [buffer.array for buffer in inputs]
            operation.front(*arrays, parameter=parameter, out=out.array)
            assert_same_bits(out.array, expected, f"{dtype} {offset=}")
            operation.in_place(*arrays, parameter=parameter)
            assert_same_bits(arrays[0], expected, f"{dtype} {offset=}")
            for buffer in (*inputs, out):
                buffer.assert_guarded(f"{dtype} {offset=}")


@pytest.mark.parametrize(
    "operation", [o for o in samples.OPERATIONS if o.arity == 2 or o.parameter], ids=str
)
def test_one_row_or_number_for_all_rows(level, operation):
    """Rows that lie end to end are computed as one run, in pieces that begin anywhere in a row."""
    for dtype, columns, offset in itertools.product(DTYPES, (1, 3, 50, 100, 257), (0, 1, 16)):
        rows = 3 * 4096 // (columns * dtype.itemsize) + 2
        shape = (rows, columns)
        for width in (columns, 1):
            context = f"{dtype} {columns=} {width=} {offset=}"
            sources = [s.reshape(shape) for s in samples.arrays(operation, dtype, rows * columns)]
            sources[1:] = [source[:1, :width] for source in sources[1:]]
            parameter = operation.parameter and samples.values(dtype, width, seed=7)
            whole = [np.broadcast_to(source, shape) for source in sources]
            expected = operation.expected(*whole, parameter=parameter)
            out = Guarded(np.zeros(rows * columns, dtype), offset)
            operation.front(*sources, parameter=parameter, out=out.array.reshape(shape))
            assert_same_bits(out.array.reshape(shape), expected, context)
            first = Guarded(sources[0].ravel(), offset)
            operation.in_place(first.array.reshape(shape), *sources[1:], parameter=parameter)
            assert_same_bits(first.array.reshape(shape), expected, context)
            out.assert_guarded(context)
            first.assert_guarded(context)


def test_one_row_for_all_rows_past_the_caches(level, threads):
    x = np.resize(samples.values(np.dtype("f4"), 997), (64 * MIB // 400, 100))
    for row in (samples.values(np.dtype("f4"), 100, seed=7), np.float32(0.5)):
        expected = samples.NAMED["add_relu"].expected(x, np.broadcast_to(row, x.shape))
        assert_equal(relu_ext.add_relu(x, row, out=np.empty_like(x)), expected, f"{np.size(row)=}")


def test_large_buffers_are_guarded(level, threads):
    source = repeated(samples.values(np.dtype("f4"), 997), 4 * MIB + 100)
    expected = samples.OPERATIONS[0].expected(source)
    for offset in (0, 4, 16, 3):
        x, out = Guarded(source, offset), Guarded(np.zeros_like(source), (offset + 8) % VECTOR)
        relu_ext.relu(x.array, out=out.array)
        relu_ext.relu_(x.array)
        for buffer in (x, out):
            assert_equal(buffer.array, expected, f"{offset=}")
            buffer.assert_guarded(f"{offset=}")


def test_number_of_threads():
    before = relu_ext.get_num_threads()
    try:
        relu_ext.set_num_threads(65_536)
        most = relu_ext.get_num_threads()
        for asked in (1, 2, 64, np.int64(2)):
            assert relu_ext.set_num_threads(asked) is None
            assert relu_ext.get_num_threads() == min(asked, most)
        relu_ext.set_num_threads(1)
        for bad, error in (
            (0, ValueError), (-1, ValueError), (65_537, ValueError), (2**40, ValueError),
            (2**100, ValueError), (1.5, TypeError), (2.0, TypeError), ("2", TypeError),
            (None, TypeError),
        ):  # fmt: skip
            with pytest.raises(error):
                relu_ext.set_num_threads(bad)
            assert relu_ext.get_num_threads() == 1
    finally:
        relu_ext.set_num_threads(before)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in Linux's /proc")
@pytest.mark.parametrize(
    "call",
    [
        "relu(x)",
        "leaky_relu_(x[:, ::2])",
        "add_relu_(x, y[:1024])",
        "add_relu_backward(x, x, y[:1024])",
        "maxout(x.reshape(-1, 4))",
        "maxout(x.reshape(512, 2, 512, 2), (1, 3), return_which=True)",
        "maxout_backward(y, y.astype(np.uint8), 4)",
    ],
)
def test_large_calls_are_shared(call):
    """The first one that two threads share starts the second one."""
    finished = run_python(
        f"""
import os, numpy as np, relu_ext
relu_ext.set_num_threads(2)
x, y = np.ones((1024, 1024), np.float32), np.ones(1 << 18, np.float32)
alone = len(os.listdir("/proc/self/task"))
relu_ext.{call}
print(relu_ext.get_num_threads(), len(os.listdir("/proc/self/task")) - alone)
"""
    )
    assert finished.stdout in ("2 1\n", "1 0\n"), (finished.stdout, finished.stderr)
    if finished.stdout == "1 0\n":
        pytest.skip("no OpenMP, or its settings allow one thread only")


def test_openmp_settings_prevail():
    """OMP_NUM_THREADS and threadpoolctl are upper bounds."""
    program = "import relu_ext; relu_ext.set_num_threads(8); print(relu_ext.get_num_threads())"
    for limit in (1, 2, 3):
        finished = run_python(program, OMP_NUM_THREADS=str(limit))
        assert finished.returncode == 0, finished.stderr
        assert int(finished.stdout) == (limit if _threads.has_openmp() else 1)
    threadpoolctl = pytest.importorskip("threadpoolctl")
    relu_ext.set_num_threads(8)
    try:
        with threadpoolctl.threadpool_limits(1, user_api="openmp"):
            assert relu_ext.get_num_threads() == 1
    finally:
        relu_ext.set_num_threads(1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.skipif(not _threads.has_openmp(), reason="no OpenMP")
@pytest.mark.parametrize("limit", ["RLIMIT_NPROC", "RLIMIT_AS"])
def test_threads_that_cannot_start(limit):
    """An error, where OpenMP would end the process."""
    program = f"""
import os, resource, numpy as np, relu_ext
import relu_ext._openmp  # which another user need not be able to read
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
if "{limit}" == "RLIMIT_NPROC" and os.getuid() == 0:
    os.setuid(65534)  # root has no such limit
most = 1 if "{limit}" == "RLIMIT_NPROC" else used + (6 << 20)
resource.setrlimit(resource.{limit}, (most, most))
try:
    relu_ext.set_num_threads(2)
except RuntimeError as error:
    print(error)
assert relu_ext.get_num_threads() == 1
relu_ext.relu_(np.ones(1 << 18, "f4"))
"""
    finished = run_python(program, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    assert "cannot start 2 threads" in finished.stdout


@pytest.mark.skipif(not _threads.has_openmp(), reason="no OpenMP")
@pytest.mark.parametrize("size", ["16k", "24k", " 262143 B", "0"])
def test_stacks_that_are_too_small(size):
    program = """
import numpy as np, relu_ext
try:
    relu_ext.set_num_threads(2)
except RuntimeError as error:
    print(error)
x = np.ones(1 << 20, "f4")
relu_ext.add_relu(x, x[::-1])
"""
    finished = run_python(program, OMP_NUM_THREADS="2", OMP_STACKSIZE=size)
    assert finished.returncode == 0, finished.stderr
    assert "give the threads at least 256K" in finished.stdout


@pytest.mark.skipif(not _threads.has_openmp(), reason="no OpenMP")
@pytest.mark.parametrize("size", ["256k", "262144b", "1M", "nonsense", ""])
def test_stacks_that_suffice(size):
    program = """
import numpy as np, relu_ext
relu_ext.set_num_threads(2)
x = np.ones(1 << 20, "f4")
assert (relu_ext.add_relu(x, x[::-1]) == 2).all()
assert (relu_ext.maxout(np.ones((1 << 17, 9), "f4")) == 1).all()
for shape in ((1000,), (1000, 1), (1, 1)):
    for dtype in ("f4", "f2", "g"):
        x = np.ones((1000, 1000), dtype)
        _, sums = relu_ext.add_relu_backward(x, x, np.ones(shape, dtype))
        relu_ext.prelu_backward_(x, -x, np.ones(shape, dtype))
print(relu_ext.get_num_threads())
"""
    finished = run_python(program, OMP_NUM_THREADS="2", OMP_STACKSIZE=size)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "2\n"


STARTED = """
import os, numpy, relu_ext
def started():
    before = len(os.listdir("/proc/self/task"))
    relu_ext.relu_(numpy.ones(4 << 20, "i1"))
    return len(os.listdir("/proc/self/task")) - before
print(started())
relu_ext.set_num_threads(2)
print(started())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in Linux's /proc")
def test_no_thread_starts_unasked():
    finished = run_python(STARTED, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")
    assert finished.stdout == f"0\n{int(_threads.has_openmp())}\n", finished.stderr


FORKS = """
import os, signal, sys, time, warnings
import numpy as np, relu_ext
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point here
relu_ext.set_num_threads(2)
x = np.resize(np.array([-1, 2], "f4"), 1 << 21)
assert relu_ext.relu(x).sum() == x.size
children = []
for i in range(100):
    child = os.fork()
    if not child:
        right = relu_ext.relu_(x.copy()).sum() == x.size and relu_ext.get_num_threads() == 1
        os._exit(0 if right else 1)
    children.append(child)
    if len(children) == 4 or i == 99:
        for child in children:
            deadline = time.monotonic() + 30
            while True:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    break
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    sys.exit("a child hangs")
                time.sleep(0.001)
            if status:
                sys.exit(f"a child ended with {status}")
        children.clear()
assert relu_ext.relu(x).sum() == x.size
print("all")
"""


def test_a_hundred_forks_after_threads_were_used():
    """libgomp deadlocks in the child of a process that has used it, unless the child is serial."""
    finished = run_python(FORKS)
    assert finished.stdout == "all\n", finished.stdout + finished.stderr


OPENMP_USER = """
int use_openmp(void)
{
    int threads = 0;
    #pragma omp parallel num_threads(2) reduction(+ : threads)
    threads += 1;
    return threads;
}
"""
FORK_BEFORE_IMPORT = """
import os, signal, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point here
{use_openmp}
child = os.fork()
if not child:
    import numpy as np, relu_ext
    relu_ext.set_num_threads(2)
    x = np.resize(np.array([-1, 2], "f4"), 1 << 20)
    right = relu_ext.relu_(x.copy()).sum() == x.size
    relu_ext.show_config()
    sys.stdout.flush()
    os._exit(0 if right else 1)
deadline = time.monotonic() + 60
while not (ended := os.waitpid(child, os.WNOHANG))[0]:
    if time.monotonic() > deadline:
        os.kill(child, signal.SIGKILL)
        sys.exit("the child hangs")
    time.sleep(0.01)
print("ended with", ended[1])
"""
FORKED = "threads: 1, no more because this process was forked, and had OpenMP before"


@pytest.fixture(scope="module")
def openmp_user(tmp_path_factory):
    """A library that uses the compiler's OpenMP, which need not be the one that this uses."""
    folder = tmp_path_factory.mktemp("openmp")
    (folder / "user.c").write_text(OPENMP_USER)
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]):
        pytest.skip(f"needs a compiler: {compiler[0]}")
    command = [*compiler, "-shared", "-fPIC", "-fopenmp", "user.c", "-o", "user.so"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if finished.returncode:
        pytest.skip(f"the compiler has no OpenMP: {finished.stderr.splitlines()[0]}")
    return folder / "user.so"


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
def test_a_fork_before_the_import(openmp_user):
    """What the child inherits of another library's threads makes no call wait for ever."""
    if not _threads.has_openmp():
        pytest.skip("built without OpenMP")
    use = f"import ctypes\nassert ctypes.CDLL({str(openmp_user)!r}).use_openmp() == 2"
    finished = run_python(FORK_BEFORE_IMPORT.format(use_openmp=use))
    assert finished.stdout.endswith("ended with 0\n"), finished.stdout + finished.stderr
    ours = importlib.util.find_spec("relu_ext._openmp").origin
    if openmp_runtime(openmp_user) == openmp_runtime(ours):
        assert FORKED in finished.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
def test_a_fork_of_what_has_no_openmp_keeps_its_threads():
    if not _threads.has_openmp():
        pytest.skip("built without OpenMP")
    finished = run_python(FORK_BEFORE_IMPORT.format(use_openmp=""), OMP_NUM_THREADS="2")
    assert "threads: 2\nended with 0\n" in finished.stdout, finished.stdout + finished.stderr


def openmp_runtime(library):
    """The file of the OpenMP runtime that a library loads."""
    program = f"""
import ctypes
ctypes.CDLL({str(library)!r})
print(*{{line.split()[-1] for line in open("/proc/self/maps") if "omp" in line.split("/")[-1]}})
"""
    names = run_python(program).stdout.split()
    return next(name for name in names if Path(name) != Path(library))


def test_a_fork_after_numba_used_openmp():
    pytest.importorskip("numba")
    use = """
import numba, numpy as np
@numba.njit(parallel=True)
def double(x):
    for i in numba.prange(x.size):
        x[i] *= 2
try:
    double(np.ones(1 << 16))
except ValueError as error:
    sys.exit(f"numba: {error}")
"""
    finished = run_python(FORK_BEFORE_IMPORT.format(use_openmp=use), NUMBA_THREADING_LAYER="omp")
    if finished.stderr.startswith("numba: "):
        pytest.skip(finished.stderr)
    assert finished.stdout.endswith("ended with 0\n"), finished.stdout + finished.stderr


# Two ways to change what arithmetic gives: by C's environment of floating point, whose first words
# (aarch64) or last (x86-64) are the register that also flushes subnormal numbers to zero.
SETTINGS = """
import ctypes, ctypes.util, platform
libm = ctypes.CDLL(ctypes.util.find_library("m"))
environment = (ctypes.c_uint32 * 16)()
word, flush, upward = {
    "x86_64": (7, 0x8040, 0x800), "aarch64": (0, 1 << 24, 0x400000)}[platform.machine()]
def set_flush():
    libm.fegetenv(environment)
    environment[word] |= flush
    libm.fesetenv(environment)
def set_upward():
    assert libm.fesetround(upward) == 0
def restore():
    assert libm.fesetround(0) == 0
    libm.fegetenv(environment)
    environment[word] &= ~flush
    libm.fesetenv(environment)
"""
UNDER_SETTINGS = """
import numpy as np, relu_ext
# Divided, so that aarch64 rounds products of longdouble too: it holds those of two float64.
x = np.resize(-np.geomspace(1e-44, 1, 10007).astype({dtype!r}) / 3, 1 << 20)
def compute(threads):
    relu_ext.set_num_threads(threads)
    y = relu_ext.leaky_relu(x, 0.3)
    return y.view("u2").reshape(y.size, -1)[:, :5].tobytes()  # the rest may be padding
plain = compute(1)
assert compute(2) == plain
{change}
one, two = compute(1), compute(2)
{restore}
relu_ext.set_num_threads(2)
assert relu_ext.get_num_threads() == {threads}
assert one != plain, "the settings change nothing"
assert one == two, "two threads give other bits than one"
assert compute(2) == plain, "the settings stay with the threads"
print("all")
"""
CHANGES = {
    "flush": (SETTINGS + "set_flush()", "restore()"),
    "upward": (SETTINGS + "set_upward()", "restore()"),
    "torch": (
        "import torch; assert torch.set_flush_denormal(True)",
        "torch.set_flush_denormal(False)",
    ),
}


@pytest.mark.parametrize(
    ("change", "dtype"),
    [("flush", "f4"), ("upward", "f4"), ("upward", "f8"), ("upward", "g"), ("torch", "f4")],
)
def test_threads_compute_under_the_callers_settings(change, dtype):
    """Of floating point: rounding, flushing to zero."""
    if change == "torch":
        pytest.importorskip("torch")
    elif platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip(f"the test does not know where {platform.machine()} keeps its settings")
    first, last = CHANGES[change]
    threads = 2 if _threads.has_openmp() else 1
    program = UNDER_SETTINGS.format(change=first, restore=last, dtype=dtype, threads=threads)
    finished = run_python(program, OMP_NUM_THREADS="2")
    assert finished.stdout == "all\n", finished.stdout + finished.stderr


HALVES_UNDER_FLUSH = (
    SETTINGS
    + """
import numpy as np, relu_ext
x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
grad = np.resize(x[::-7], x.shape).copy()
compute = lambda: (relu_ext.leaky_relu(x, 0.3).tobytes(), relu_ext.add_relu(x, grad).tobytes(),
                   relu_ext.leaky_relu_backward(grad, x, 0.3).tobytes())
plain = compute()
set_flush()
flushed = compute()
restore()
assert flushed == plain
print(relu_ext.cpu_levels().active)
"""
)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="knows no other")
@pytest.mark.parametrize("level", relu_ext.cpu_levels().available)
def test_float16_where_subnormal_numbers_are_flushed(level):
    """No float32 on the way is subnormal, at any level."""
    finished = run_python(HALVES_UNDER_FLUSH, RELU_EXT_CPU_LEVEL=level)
    assert finished.stdout == f"{level}\n", finished.stderr


def test_several_python_threads(threads):
    """Each on its part of one array, with threads of the library or without."""
    part = samples.values(np.dtype("f4"), 997)
    expected_part = samples.OPERATIONS[0].expected(part)
    for size in (100, 5000, 700_000):
        x = repeated(part, 8 * size)
        barrier = threading.Barrier(8)

        def call(piece, barrier=barrier):
            barrier.wait()
            for _ in range(5):
                relu_ext.relu_(piece)

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(call, piece) for piece in np.split(x, 8)]:
                future.result()
        assert_equal(x, repeated(expected_part, 8 * size), f"{size=}")


def test_setting_threads_while_others_compute():
    x = np.resize(np.array([-1, 2], "f4"), 1 << 20)
    stop = threading.Event()

    def switch():
        while not stop.is_set():
            relu_ext.set_num_threads(2)
            relu_ext.set_num_threads(1)

    switcher = threading.Thread(target=switch)
    switcher.start()
    try:
        for _ in range(20):
            assert relu_ext.relu(x).sum() == x.size
    finally:
        stop.set()
        switcher.join()
        relu_ext.set_num_threads(1)


def test_the_gil_is_released_for_large_arrays():
    """Another Python thread runs while one long call does."""
    x = np.ones(1 << 24, np.float32)
    ticks, stop, started = [], threading.Event(), threading.Event()

    def tick():
        started.set()
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(1e-4)

    ticker = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)  # now nobody gets the GIL unless it is let go of
    try:
        ticker.start()
        started.wait()
        during = 0
        for _ in range(100):  # a busy machine may let the other thread sleep through some
            before = len(ticks)
            relu_ext.leaky_relu_(x, 0.5)
            during += len(ticks) - before
            if during:
                break
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        ticker.join()
    assert during > 0


# Arrays as they come


def lay_out(draw, dtype, shape, memory, start, *, broadcasts):
    """A view of `shape` into `memory` from byte `start` on, and how many bytes it spans.

    Axes in any order, steps of either sign, gaps between elements and rows, and axes that broadcast
    where that is allowed.
    """
    order = draw(st.permutations(range(len(shape))), "order")
    steps = [0] * len(shape)
    extent, first = dtype.itemsize, 0
    for axis in order:
        if broadcasts and draw(st.integers(0, 4), "broadcasts") == 0:
            continue
        gap = draw(st.sampled_from([0, 0, 0, 1, 2, 5]), "gap") * dtype.itemsize
        step = extent + gap + draw(st.sampled_from([0, 0, 0, 0, 3]), "odd bytes")
        extent += step * max(shape[axis] - 1, 0)
        if draw(st.integers(0, 3), "backwards") == 0:
            first += step * max(shape[axis] - 1, 0)
            step = -step
        steps[axis] = step
    assume(start + extent <= memory.size)
    return np.ndarray(shape, dtype, memory.data, start + first, steps), extent


def random_shape(draw):
    axes = draw(st.integers(0, 5), "axes")
    small = st.sampled_from([0, 1, 1, 2, 2, 3, 3, 4, 5])
    shape = [draw(small) for _ in range(axes)]
    if axes and draw(st.booleans()):
        shape[draw(st.integers(0, axes - 1))] = draw(st.integers(1, 70), "row")
    return tuple(shape)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_views(data):
    """The oracle's bits for any shape, order, step, gap and broadcast axis of every array, at every
    level, and not a byte changed but the elements of the output."""
    draw = data.draw
    operation = draw(st.sampled_from(samples.OPERATIONS))
    dtype = draw(st.sampled_from([np.dtype(c) for c in "efdgbhq"]))
    shape = random_shape(draw)
    memory = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, 1 << 17, "u1")
    views, start = [], draw(st.sampled_from([0, 16, 64, 1, 7]), "offset")
    apart = operation.parameter is not None and draw(st.booleans(), "array of parameters")
    for i in range(operation.arity + apart + 1):
        is_written = i == 0
        view, extent = lay_out(draw, dtype, shape, memory, start, broadcasts=not is_written)
        view[...] = samples.values(dtype, view.size, seed=i).reshape(shape)
        views.append(view)
        start += extent + draw(st.sampled_from([0, 0, 1, 60]), "distance")
    out, *inputs = views
    parameter = None
    if apart:
        parameter = inputs.pop()
    elif operation.parameter is not None:
        parameter = draw(st.sampled_from(samples.parameters(operation, dtype)), "parameter")
    in_place = draw(st.booleans(), "in place")
    if in_place:
        inputs[0] = out
    expected = operation.expected(*(a.copy() for a in inputs), parameter=parameter)
    before = memory.copy()
    untouched = np.ones(memory.size, bool)
    strides = (*out.strides, 1)
    first = out.__array_interface__["data"][0] - memory.ctypes.data
    np.ndarray((*shape, dtype.itemsize), bool, untouched.data, first, strides)[...] = False
    with samples.at_level(draw(st.sampled_from(samples.LEVELS), "level")):
        if not in_place:
            new = operation.front(*inputs, parameter=parameter)
            assert_same_bits(np.asarray(new), expected)
            number = parameter if parameter is None or apart else dtype.type(parameter)
            direct = operation.direct(*inputs, parameter=number)
            assert np.shape(new) == np.shape(direct)
            assert np.squeeze(new).strides == np.squeeze(direct).strides
            assert operation.front(*inputs, parameter=parameter, out=out) is out
        else:
            assert operation.in_place(*inputs, parameter=parameter) is out
    assert_same_bits(out, expected)
    np.testing.assert_array_equal(memory[untouched], before[untouched])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_views_that_overlap(data):
    """Of inputs that lie anywhere in the output's memory the answer is that of a copy."""
    draw = data.draw
    operation = draw(st.sampled_from([o for o in samples.OPERATIONS if o.arity == 2]))
    dtype = draw(st.sampled_from([np.dtype(c) for c in "fh"]))
    shape = random_shape(draw)
    room = np.resize(samples.values(dtype, 997), 1 << 16).view(np.uint8)
    out, extent = lay_out(draw, dtype, shape, room, 1 << 12, broadcasts=False)
    shift = draw(st.integers(-extent, extent), "shift")
    start = (1 << 12) + max(shift, -(1 << 12))
    if draw(st.booleans(), "same layout"):
        assume(shift >= -(1 << 12) and (1 << 12) + shift + extent <= room.size)
        first = out.__array_interface__["data"][0] - room.ctypes.data
        other = np.ndarray(shape, dtype, room.data, first + shift, out.strides)
    else:
        other, _ = lay_out(draw, dtype, shape, room, start, broadcasts=True)
    parameter = operation.parameter and 1
    expected = operation.expected(out.copy(), other.copy(), parameter=parameter)
    assert operation.in_place(out, other, parameter=parameter) is out
    assert_same_bits(out, expected)


@each_operation
def test_columns_of_one_matrix(operation):
    """Gates side by side in one array, as in an LSTM, are walked without a copy."""
    for rows, width in ((7, 5), (64, 100)):
        whole = samples.values(np.dtype("f4"), rows * 4 * width).reshape(rows, 4 * width)
        gates = np.split(whole, 4, axis=1)
        parameter = operation.parameter and 0.5
        inputs = gates[: operation.arity]
        expected = operation.expected(*(a.copy() for a in inputs), parameter=parameter)
        rest = whole[:, width:].copy()
        assert operation.in_place(*inputs, parameter=parameter) is gates[0]
        assert_same_bits(gates[0], expected)
        np.testing.assert_array_equal(whole[:, width:].view("u4"), rest.view("u4"))


ORDERED_SHAPES = [(33, 18, 37), (100, 3, 70), (5, 17, 3, 20), (3, 6, 2, 7, 18)]


@pytest.mark.parametrize("shape", ORDERED_SHAPES, ids=str)
def test_pairs_of_memory_orders(level, threads, shape):
    """Inputs in another order of axes than the output, with or without one number per channel."""
    size = math.prod(shape)
    orders = list(itertools.permutations(range(len(shape))))
    channels = (shape[1], *[1] * (len(shape) - 2))
    for position, order in enumerate(orders[:: max(1, len(orders) // 12)]):
        dtype = np.dtype("fdhbeg"[position % 6])
        for operation in samples.OPERATIONS:
            context = f"{operation} {dtype} {order=}"
            sources = [a.reshape(shape) for a in samples.arrays(operation, dtype, size)]
            if operation.name.startswith("add"):
                sources[1] = sources[1].ravel()[: shape[1]].reshape(channels)
            parameter = samples.parameters(operation, dtype)[-1]
            if operation.parameter == "negative_slope":
                parameter = samples.values(dtype, shape[1], seed=7).reshape(channels)
            whole = [np.broadcast_to(source, shape) for source in sources]
            expected = operation.expected(*whole, parameter=parameter)
            inputs = [
                source.transpose(order).copy().transpose(np.argsort(order))
                if source.shape == shape else source
                for source in sources
            ]  # fmt: skip
            out = Guarded(np.zeros(size, dtype), 16)
            operation.front(*inputs, parameter=parameter, out=out.array.reshape(shape))
            assert_same_bits(out.array.reshape(shape), expected, context)
            first = Guarded(sources[0].ravel(), 4)
            operation.in_place(first.array.reshape(shape), *inputs[1:], parameter=parameter)
            assert_same_bits(first.array.reshape(shape), expected, context)
            out.assert_guarded(context)
            first.assert_guarded(context)


@pytest.mark.parametrize("sides", [(16, 20), (4, 5), (3, 3), (40, 33)], ids=str)
def test_three_channels(level, sides):
    """Three items side by side are read as four, and apart from those of another axis."""
    shape = (2, 3, *sides)
    for dtype in "bhfd":
        x = samples.values(np.dtype(dtype), math.prod(shape)).reshape(shape)
        for order in itertools.permutations(range(4)):
            if order[-1] != 1:
                continue
            source = Guarded(x.transpose(order).ravel(), 4)
            in_order = source.array.reshape([shape[axis] for axis in order])
            in_order = in_order.transpose(np.argsort(order))
            out = Guarded(np.zeros(x.size, dtype), 16)
            relu_ext.relu(in_order, out=out.array.reshape(shape))
            expected = np.where((x > 0) | (x != x), x, 0).astype(dtype)
            assert_same_bits(out.array.reshape(shape), expected, f"{dtype} {order}")
            out.assert_guarded(f"{dtype} {order}")


def test_memory_orders_of_a_large_array(level, threads):
    shape = (8, 64, 48, 50)
    for dtype in (np.dtype("f4"), np.dtype("e")):
        x = repeated(samples.values(dtype, 997), math.prod(shape)).reshape(shape)
        expected = samples.NAMED["relu"].expected(x)
        for order in ((0, 2, 3, 1), (1, 2, 3, 0), (3, 2, 1, 0)):
            other = x.transpose(order).copy().transpose(np.argsort(order))
            out = np.empty(shape, dtype)
            relu_ext.relu(other, out=out)
            assert_equal(out, expected, f"{dtype} {order=}")


@pytest.mark.parametrize("shape", [(20, 513), (70, 1025), (5, 31, 96)], ids=str)
def test_wide_numbers_in_another_memory_order(level, shape):
    """The part of a tile before a cache line of grad may be longer than the tile is."""
    size = math.prod(shape)
    numbers = np.resize([-1, 0, 2], size).reshape(shape)
    for kept, narrow in itertools.product("dgqfi", "ebhf"):
        try:
            x = numbers.astype(kept, order="F")
            relu_ext.relu_backward_(np.ones(0, narrow), x.ravel()[:0])
        except TypeError:  # grad's dtype has to hold both
            continue
        for offset in range(0, VECTOR, 2 * np.dtype(narrow).itemsize):
            grad = Guarded(np.ones(size, narrow), offset)
            relu_ext.relu_backward_(grad.array.reshape(shape), x)
            assert_same_bits(grad.array.reshape(shape), (numbers > 0).astype(narrow))
            grad.assert_guarded(f"{narrow} {kept} {offset=}")


@each_operation
def test_any_step(level, operation):
    """Elements any number of bytes apart, in either direction, in rows that may be short."""
    for dtype, shape in itertools.product(DTYPES, ((300,), (40, 3), (3, 40))):
        size = math.prod(shape)
        sources = samples.arrays(operation, dtype, size)
        parameter = samples.parameters(operation, dtype)[0]
        expected = operation.expected(*sources, parameter=parameter)
        for gap in (1, dtype.itemsize, 2 * dtype.itemsize, 3 * dtype.itemsize, 7 * 64):
            step = dtype.itemsize + gap
            for direction in (1, -1):
                context = f"{dtype} {shape=} {gap=} {direction=}"
                views, between = [], []
                for source in (*sources, np.zeros_like(expected)):
                    memory = Guarded(np.full(size * step, 0xA5, np.uint8), 3)
                    records = memory.array.reshape(*shape, step)
                    view = records[..., : dtype.itemsize].view(dtype)[..., 0]
                    if direction < 0:
                        view = view[tuple(np.s_[::-1] for _ in shape)]
                    view[...] = source.reshape(shape)
                    views.append(view)
                    between.append(records[..., dtype.itemsize :])
                *inputs, out = views
                assert operation.front(*inputs, parameter=parameter, out=out) is out
                assert_same_bits(out.ravel(), expected, context)
                new = operation.front(*inputs, parameter=parameter)
                assert_same_bits(new.ravel(), expected, context)
                operation.in_place(*inputs, parameter=parameter)
                assert_same_bits(inputs[0].ravel(), expected, context)
                assert all((part == 0xA5).all() for part in between), context


@pytest.mark.parametrize(
    "view",
    [np.s_[::2], np.s_[:, :1000], np.s_[:, ::2], np.s_[:, ::3], np.s_[:, 5], np.s_[:, 1:1999:999]],
    ids=str,
)
def test_bytes_between_belong_to_others(level, view):
    """Another thread writes them meanwhile; none of its numbers is lost."""
    memory = np.full((1024, 2048), -1, "f4")
    between = np.ones(memory.shape, bool)
    between[view] = False
    flat = np.flatnonzero(between)[::97]
    with samples.written_meanwhile(memory.reshape(-1), flat):
        for _ in range(60):
            relu_ext.relu_(memory[view])
    assert not memory[view].any()
