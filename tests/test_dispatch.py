"""CPU levels and the environment variables that choose them."""

import pickle
import platform
import subprocess
import sys

import numpy as np
import pytest
import relu_ext
from relu_ext import _dispatch, _threads, ufuncs

import samples
from samples import run_python

X86_64 = platform.machine() in ("x86_64", "AMD64")
LEVELS = ("v2", "v3", "v4") if X86_64 else ("base",)


def test_cpu_levels():
    levels = relu_ext.cpu_levels()
    built, available, active = levels
    assert levels._fields == ("built", "available", "active")
    assert built[0] == available[0] == LEVELS[0]
    assert set(available) <= set(built) <= set(LEVELS)
    assert [x for x in LEVELS if x in built] == list(built)
    assert [x for x in built if x in available] == list(available)
    assert active in available


def test_pickle():
    levels = relu_ext.cpu_levels()
    assert pickle.loads(pickle.dumps(levels)) == levels


def test_the_last_available_level_is_the_default():
    for environment in ({}, {"RELU_EXT_CPU_LEVEL": ""}):
        finished = run_python("import relu_ext; print(relu_ext.cpu_levels().active)", **environment)
        assert finished.stdout.strip() == relu_ext.cpu_levels().available[-1], finished.stderr


def test_use():
    before = relu_ext.cpu_levels().active
    for level in samples.LEVELS:
        with samples.at_level(level):
            assert relu_ext.cpu_levels().active == level
    assert relu_ext.cpu_levels().active == before
    for bad in ("v5", "", "V3", "v3 ", None, 3, b"v3", "../v3"):
        with pytest.raises(ValueError) as error:
            _dispatch.use(bad)
        assert all(level in str(error.value) for level in samples.LEVELS)
    assert relu_ext.cpu_levels().active == before


@pytest.mark.parametrize("level", LEVELS)
def test_level_from_the_environment(level):
    """Chosen where it is available; a level's own module is not even loaded where it is not."""
    program = """
import sys, numpy, relu_ext
print(relu_ext.cpu_levels().active, *sorted(m for m in sys.modules if "._kernels_" in m))
assert relu_ext.relu(numpy.float32([-1, 2])).tolist() == [0, 2]
"""
    finished = run_python(program, RELU_EXT_CPU_LEVEL=level)
    if level in relu_ext.cpu_levels().available:
        assert finished.stdout.split() == [level, f"relu_ext._kernels_{level}"], finished.stderr
    else:
        assert_names(finished, "RELU_EXT_CPU_LEVEL", level, *relu_ext.cpu_levels().available)


def assert_names(finished, *words):
    """The import failed, with an error that names all of `words`."""
    assert finished.returncode == 1, finished.stdout
    message = finished.stderr.strip().splitlines()[-1]
    assert "Error" in message.split(":")[0]
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    "value", ["v1", "avx2", "V4", "v2,v3", " ", "0", "base" if X86_64 else "v2"]
)
def test_bad_level(value):
    assert_names(
        run_python("import relu_ext", RELU_EXT_CPU_LEVEL=value),
        "RELU_EXT_CPU_LEVEL",
        repr(value),
        *relu_ext.cpu_levels().available,
    )


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "two", "1.5", "1e3", "65537", "100000", "9" * 30, " ", "0x2", "2,4"],
)
def test_bad_number_of_threads(value):
    assert_names(
        run_python("import relu_ext", RELU_EXT_NUM_THREADS=value), "RELU_EXT_NUM_THREADS", value
    )


def test_number_of_threads_from_the_environment():
    program = "import relu_ext; print(relu_ext.get_num_threads())"
    assert run_python(program).stdout == "1\n"
    most = 2 if _threads.has_openmp() else 1
    for text, asked in {"": 1, "1": 1, "2": 2, " 2 ": 2, "02": 2, "65536": 65_536}.items():
        finished = run_python(program, RELU_EXT_NUM_THREADS=text, OMP_NUM_THREADS="2")
        assert finished.stdout == f"{min(asked, most)}\n", finished.stderr
    openmp = "import relu_ext; relu_ext.set_num_threads(2); print(relu_ext.get_num_threads())"
    assert run_python(program, RELU_EXT_NUM_THREADS="2").stdout == run_python(openmp).stdout


def test_show_config(capsys):
    assert relu_ext.show_config() is None
    shown = capsys.readouterr().out
    for word in (relu_ext.__version__, *LEVELS, relu_ext.cpu_levels().active, "OpenMP", "threads:"):
        assert word in shown, word


def test_show_config_from_the_command_line():
    shown = run_python("import relu_ext; relu_ext.show_config()").stdout
    command = [sys.executable, "-m", "relu_ext"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == shown


def test_a_broken_level_is_loud():
    """A level that is built and runs here, but whose module does not load, is no reason to fall
    back in silence."""
    level = relu_ext.cpu_levels().available[-1]
    finished = run_python(
        f"import sys; sys.modules['relu_ext._kernels_{level}'] = None; import relu_ext"
    )
    assert_names(finished, f"_kernels_{level}")


def test_the_active_table_computes():
    """With two operations exchanged in one level's table, calls at that level are wrong, and no
    others."""
    one, other = (ufuncs.__all__.index(name) for name in ("leaky_relu", "leaky_relu_subgradient"))
    x = np.array([-2, 3], "f4")

    def exchange(level):
        kernels, _ = samples.slots(level)
        kernels[[one, other]] = kernels[[other, one]]

    for exchanged in samples.LEVELS:
        exchange(exchanged)
        try:
            wrong = []
            for level in samples.LEVELS:
                with samples.at_level(level):
                    if relu_ext.leaky_relu(x, 0.5).tolist() != [-1, 3]:
                        wrong.append(level)
        finally:
            exchange(exchanged)
        assert wrong == [exchanged]
