"""Print what the package weighs, and fail where that is more than it may be.

    python tools/weight.py            import, wheel, lines
    python tools/weight.py --build    also the time that a build takes
    python tools/weight.py --calls    also the instructions of small calls; needs valgrind

Each time is taken in processes of its own: of an import the median of 15, after NumPy's, and as a
ratio to that of a package with one empty extension, which is built here.
"""

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

import relu_ext

ROOT = Path(__file__).parents[1]
PACKAGE = Path(relu_ext.__file__).parent

# What each may be at most: a little more than what 0.2.0 weighs, so that growth is noticed.  The
# goal for the source is 6,000 lines.  The times are those of two idle cores; a busy machine takes
# longer, so that only the ratio has a limit that must hold anywhere.
LIMITS = {
    "import, ratio to an empty extension": 7.0,
    "CPU seconds of a build": 150.0,
    "wheel, stripped, bytes": 1_000_000,
    "installed, stripped, bytes": 2_220_000,
    "source lines": 8_315,
    # Valgrind runs x86-64-v3.
    "instructions of relu_(x)": 163,
    "instructions of leaky_relu_(x)": 238,
    "instructions of relu(x)": 355,
    "instructions of add_relu_(x, y)": 286,
    "instructions of add_relu_(rows, bias)": 2_700,
    "instructions of relu_(x[::2])": 1_600,
    "instructions of maxout(rows)": 2_900,
}

EMPTY = """
#include <Python.h>
static PyModuleDef_Slot slots[] = {{0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "module", NULL, 0, NULL, slots};
PyMODINIT_FUNC PyInit_module(void) { return PyModuleDef_Init(&definition); }
"""
IMPORT = """
import sys, time
import numpy
sys.path.insert(0, {path!r})
start = time.perf_counter()
import {name}
print(time.perf_counter() - start)
"""
# Small calls: on 64 float32, on rows of 10, and on a view.
CALL = """
import numpy as np, relu_ext
x, y, bias = (np.ones(size, np.float32) for size in (64, 64, 10))
rows = np.ones((64, 10), np.float32)
for _ in range({count}):
    relu_ext.{call}
"""
CALLS = (
    "relu_(x)",
    "leaky_relu_(x)",
    "relu(x)",
    "add_relu_(x, y)",
    "add_relu_(rows, bias)",
    "relu_(x[::2])",
    "maxout(rows)",
)


def run(*command: object) -> str:
    words = [str(word) for word in command]
    # An import reads compiled modules, as it does after an installation.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(
        words, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def empty_extension(folder: Path) -> None:
    """A package of one extension that does nothing."""
    package = folder / "empty"
    package.mkdir()
    (package / "module.c").write_text(EMPTY)
    (package / "__init__.py").write_text("from empty import module\n")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    run(
        *compiler, "-O2", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}",
        package / "module.c", "-o", package / f"module{sysconfig.get_config_var('EXT_SUFFIX')}",
    )  # fmt: skip


def import_seconds(folder: Path) -> tuple[float, float]:
    """Of relu_ext and of an empty extension, in turn."""
    empty_extension(folder)
    seconds: dict[str, list[float]] = {"relu_ext": [], "empty": []}
    for _ in range(16):
        for name, path in (("relu_ext", PACKAGE.parent), ("empty", folder)):
            program = IMPORT.format(name=name, path=str(path))
            seconds[name].append(float(run(sys.executable, "-c", program)))
    # The first may have compiled the modules.
    ours, empty = (statistics.median(found[1:]) for found in seconds.values())
    return ours, empty


def wheel_bytes(folder: Path) -> tuple[int, int]:
    """Of a wheel of the installed files with stripped modules, and of these files."""
    wheel = folder / "relu_ext.whl"
    total = 0
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(PACKAGE.iterdir()):
            if file.suffix not in (".so", ".py", ".pyi", ".typed"):
                continue
            stripped = folder / file.name
            stripped.write_bytes(file.read_bytes())
            if file.suffix == ".so":
                run("strip", stripped)
            total += stripped.stat().st_size
            archive.write(stripped, f"relu_ext/{file.name}")
    return wheel.stat().st_size, total


def source_lines() -> int:
    """Those of the package, without its stubs, most of which tools/stubs.py writes."""
    files = (ROOT / "src/relu_ext").iterdir()
    sources = [file for file in files if file.suffix in (".py", ".pyx", ".pxd", ".pxi", ".h")]
    return sum(len(file.read_text().splitlines()) for file in sources)


def build_seconds(folder: Path) -> tuple[float, float]:
    """Of `pip wheel` on a clock, with what it downloads, and of all CPUs."""
    tree = folder / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder / "wheels", tree)
    clock = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def instructions(call: str, folder: Path) -> float:
    """The package's own, by callgrind; what NumPy and Python execute is not ours."""
    count, out = 100_000, folder / "callgrind"
    program = CALL.format(call=call, count=count)
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    subprocess.run([*command, sys.executable, "-c", program], check=True, stderr=subprocess.PIPE)
    listing = run("callgrind_annotate", "--threshold=100", out)
    own = re.findall(r"^ *([\d,]+) .*/relu_ext/\S+\.so\]", listing, re.MULTILINE)
    return sum(int(number.replace(",", "")) for number in own) / count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", action="store_true", help="also build the package, in a folder")
    parser.add_argument("--calls", action="store_true", help="also count instructions of calls")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours, empty = import_seconds(folder)
        figures["import after NumPy, ms"] = 1e3 * ours
        figures["import, ratio to an empty extension"] = ours / empty
        figures["wheel, stripped, bytes"], figures["installed, stripped, bytes"] = wheel_bytes(
            folder
        )
        figures["source lines"] = source_lines()
        if arguments.build:
            figures["seconds of a build"], figures["CPU seconds of a build"] = build_seconds(folder)
        if arguments.calls:
            for call in CALLS:
                figures[f"instructions of {call}"] = instructions(call, folder)
    failed = 0
    for name, figure in figures.items():
        limit = LIMITS.get(name)
        over = limit is not None and figure > limit
        failed += over
        shown = f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"
        most = "" if limit is None else f"  (at most {limit:,.0f})" + " TOO MUCH" * over
        print(f"{name:42}{shown:>12}{most}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
