#!/usr/bin/env python3
"""Measure relu_ext against what a user would write instead.

Results go to standard output and, every number of them, into a JSON file; progress goes to
standard error. Ctrl-C keeps what has been measured.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import relu_ext
from relu_ext import _dispatch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import cases
import cli
import digits
import machine
import tables
from cases import FIGURES, IN_PLACE, MODES, NEW, OPERATIONS, OURS, ROOFLINE, Cell, Contender
from measure import Experiment
from results import Measured
from worker import Worker

TABLE_SIZES = (64, 16_384, 2**20)
SWEEP_SIZES = tuple(2**power for power in range(4, 25, 2))
SECONDS = {"quick": 8.5, "default": 85.0, "self-check": 15.0}
SECONDS_PER_FULL_CELL = 2.6
SWEEPS = {"quick": 3, "default": 5, "self-check": 5, "full": 7}
SWEEPING = 0.6
"""The share of the time in which every cell gets the same."""
LIBRARIES = {"quick": ("numpy",), "default": ("numpy", "scipy", "torch"), "full": cases.LIBRARIES}
UNTAKEN = "no operation that was asked for takes a dtype that was asked for"
SELF_CHECK_MEDIAN, SELF_CHECK_CELL = 0.01, 0.10


def size(text: str) -> int:
    """An array's length: 16384, 16_384, 16,384 or 2^14."""
    match = re.fullmatch(r"2(?:\^|\*\*)(\d\d?)|([\d_,]*\d)", text)
    value = match and (1 << int(match[1]) if match[1] else int(re.sub("[_,]", "", match[2])))
    if not value:
        raise ValueError(text)
    return value


def arguments(argv: list[str]) -> Any:
    names = sorted({name for operation in OPERATIONS.values() for name in operation.spellings})
    parser = cli.Parser(prog="run.py", description=__doc__)
    extents = parser.add_mutually_exclusive_group()
    for extent, text in (
        ("quick", "float32 against NumPy, within 20 seconds"),
        ("full", "every dtype, size, mode and contender"),
        ("self-check", "contenders against themselves, fresh input against rectified"),
    ):
        extents.add_argument(
            f"--{extent}", dest="extent", action="store_const", const=extent, help=text
        )
    parser.set_defaults(extent="default")
    parser.add_argument("--op", nargs="+", metavar="OP", help=", ".join(OPERATIONS))
    parser.add_argument("--dtype", nargs="+", metavar="DTYPE", help=", ".join(cases.DTYPES))
    parser.add_argument("--size", nargs="+", metavar="N", help="such as 16384 or 2^20")
    against = f"a library ({', '.join(cases.LIBRARIES)}) or a spelling ({', '.join(names)})"
    parser.add_argument("--against", nargs="+", metavar="WHO", help=against)
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="for every library")
    parser.add_argument("--level", help="the CPU level of relu_ext's kernels")
    last = Path(__file__).with_name("last.json")
    json_help = f"the file for every number (default: {last.name} beside {Path(__file__).name})"
    parser.add_argument("--json", type=Path, metavar="FILE", default=last, help=json_help)
    args = parser.parse_args(argv)
    parser.one_of("operation", args.op or (), OPERATIONS)
    parser.one_of("dtype", args.dtype or (), cases.DTYPES)
    parser.one_of("contender", args.against or (), dict.fromkeys((*cases.LIBRARIES, *names)))
    try:
        args.size = args.size and [size(text) for text in args.size]
    except ValueError as error:
        parser.error(f"unknown size '{error}'; valid: a number of elements such as 16384 or 2^20")
    if not 1 <= args.threads <= machine.processors():
        parser.error(f"unknown number of threads; valid: 1 to {machine.processors()}")
    levels = relu_ext.cpu_levels()
    args.level = args.level or levels.active
    parser.one_of("level", (args.level,), levels.available)
    parser.output(args.json)
    args.narrowed = bool(args.op or args.dtype or args.size)
    shown = [text for text in argv if not text.startswith("--json") and text != str(args.json)]
    args.command = ["run.py", *shown]
    return args


def cells(args: Any) -> list[Cell]:
    """What was asked for, or what the extent of the run stands for."""
    full, quick = args.extent == "full", args.extent == "quick"
    figures = not quick and not args.narrowed and args.threads == 1
    chosen = dict.fromkeys(FIGURES) if figures else {}
    usual = cases.DTYPES if full else ("float32",) if quick else ("float32", "float64")
    for operation in args.op or OPERATIONS:
        for dtype in args.dtype or usual:
            sizes = SWEEP_SIZES if full and dtype == "float32" else TABLE_SIZES
            for mode in MODES if full or args.narrowed else (IN_PLACE, NEW):
                for length in args.size or sizes:
                    if dtype in cases.dtypes(operation):
                        chosen[Cell(operation, dtype, length, mode, args.threads)] = None
    return list(chosen)


def taking_part(cell: Cell, args: Any, large: bool) -> Iterator[Contender]:
    """relu_ext, who was asked for, and what a figure needs."""
    asked = {*(args.against or LIBRARIES[args.extent])}
    named = {name for names in FIGURES.get(cell, ()) for name in names}
    few = large and named and args.extent == "default"
    alone = cell.threads != args.threads  # relu_ext against itself
    for contender in cell.contenders(large=large):
        if contender.name in (OURS, cases.FLOOR, cases.ONE_THREAD):
            yield contender
        elif alone or (contender.library in ("torch", "jax") and contender.library not in asked):
            continue
        elif contender.name.startswith(ROOFLINE) or (
            {contender.name, contender.library} & asked
            and not (few and contender.name not in named)
        ):
            yield contender


def experiments(args: Any, left_out: list[str]) -> list[Experiment]:
    """The cells with their contenders, less what the machine cannot hold."""
    caches, _ = machine.caches()
    memory, found = machine.available_memory(), []
    for cell in cells(args):
        # operands, the pool of fresh numbers, the oracle, and the temporaries of a contender
        needed = 10 * cell.nbytes
        if cell.threads > machine.processors():
            left_out.append(f"left out: {cell}: there is {machine.processors()} CPU")
        elif needed > memory:
            left_out.append(f"left out: {cell}: needs {needed / 1e9:.1f} GB of memory")
        else:
            part = taking_part(cell, args, large=cell.traffic > max(caches.values()))
            found.append(Experiment(cell, list(part), caches))
    return found


def within_reach(plan: Iterable[Experiment], seconds: float) -> list[Experiment]:
    """Whose intervals can be made narrow in so many seconds; first where least is missing."""
    needed = {experiment: experiment.seconds_to_good() for experiment in plan}
    wide = sorted((e for e in plan if needed[e]), key=needed.__getitem__)
    enough = sum(total <= seconds for total in accumulate(needed[e] for e in wide))
    return wide[: max(enough, 1)] if seconds > 0 else []


def measure(plan: list[Experiment], extent: str) -> bool:
    """Visit every cell once in each of some processes, in shuffled order; and, in the time that is
    left, those again whose intervals are wide, once more in each of further processes.
    False if Ctrl-C ended it."""
    rng, began = np.random.default_rng(0), time.perf_counter()
    seconds = SECONDS.get(extent, SECONDS_PER_FULL_CELL * len(plan))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    screen = Progress(*columns, console=Console(stderr=True), refresh_per_second=2)
    with TemporaryDirectory() as kernels, screen as progress:
        level = relu_ext.cpu_levels().active
        settings = {"RELU_EXT_CPU_LEVEL": level, "NUMBA_CACHE_DIR": kernels}
        task = progress.add_task("", total=seconds)

        def left(share: float) -> float:
            return share * seconds - (time.perf_counter() - began)

        def sweep(experiments: Sequence[Experiment], share: float, visits: int) -> None:
            """Once each, in a process of its own; so many visits are to come, of equal length."""
            with Worker(settings) as worker:
                for done, experiment in enumerate(experiments):
                    if left(share) < 0 and experiment.visits:
                        break
                    text = f"{experiment.cell}, visit {len(experiment.visits) + 1}"
                    progress.update(task, completed=seconds - left(1), description=text)
                    length = max(left(share), 0) / (visits - done)
                    worker.visit(experiment, length, int(rng.integers(2**32)))

        try:
            for number in range(SWEEPS[extent]):
                if number and left(SWEEPING) < 0:
                    break
                shuffled = [plan[i] for i in rng.permutation(len(plan))]
                sweep(shuffled, SWEEPING, (SWEEPS[extent] - number) * len(plan))
            while wide := within_reach(plan, left(1)):
                sweep(wide, 1, len(wide))
        except KeyboardInterrupt:
            return False
        progress.update(task, completed=seconds, description=f"{len(plan)} cells measured")
    return True


def self_check(out: Console) -> bool:
    """Whether nothing beats itself, nor itself on input that is rectified already."""
    caches, _ = machine.caches()
    plan = []
    for operation in ("relu", "relu_backward", "leaky_relu"):
        for length in TABLE_SIZES:
            cell = Cell(operation, "float32", length, IN_PLACE)
            ours, usual, *_ = cell.contenders(large=False)
            again = [replace(ours, name="itself")]
            if operation == "relu":
                again.append(replace(ours, name="itself, rectified input", rectified=True))
            plan.append(Experiment(cell, [ours, *again], caches))
            theirs = [replace(usual, name=name) for name in (OURS, "itself")]
            plan.append(Experiment(cell, theirs, caches))
    if not measure(plan, "self-check"):
        return False
    rng, medians = np.random.default_rng(1), []
    for experiment in plan:
        for name, rival in Measured(experiment.cell, experiment.results(rng)).contenders.items():
            if name != OURS:
                medians.append(rival["ratio"]["median"])
                out.print(f"{medians[-1]:.3f}  {experiment.cell}: {rival['statement']} by {name}")
    centre, worst = statistics.median(medians), max(medians, key=lambda ratio: abs(ratio - 1))
    good = abs(centre - 1) <= SELF_CHECK_MEDIAN and abs(worst - 1) <= SELF_CHECK_CELL
    verdict = "passed" if good else "FAILED"
    out.print(f"{verdict}: median of {len(medians)} ratios {centre:.4f}, worst {worst:.3f}")
    return good


def import_times(count: int) -> list[float]:
    """Milliseconds that `import relu_ext` takes after NumPy, each in a process of its own.

    Without the threads that NumPy's OpenBLAS starts: on a virtual machine with two CPUs they
    delayed every second load of a shared library, whosever it was, by 10 ms and more.
    """
    code = (
        "import time, numpy; start = time.perf_counter(); import relu_ext; "
        "print(1e3 * (time.perf_counter() - start))"
    )
    run = [sys.executable, "-P", "-c", code]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return [float(subprocess.check_output(run, text=True, env=alone)) for _ in range(count)]


def main(argv: list[str] | None = None) -> int:
    args = arguments(sys.argv[1:] if argv is None else argv)
    _dispatch.use(args.level)
    machine.equalise(args.threads)
    out = Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False)
    if args.extent == "self-check":
        return 0 if self_check(out) else 1
    left_out: list[str] = []
    plan = experiments(args, left_out)
    if not plan:
        cli.Parser(prog="run.py").error(f"nothing to measure: {'; '.join(left_out) or UNTAKEN}")
    described = machine.describe()
    complete = measure(plan, args.extent)
    ending, quick = complete and not args.narrowed, args.extent == "quick"
    settings = ("extent", "threads", "level", "command")
    data: dict[str, Any] = {
        "schema": cli.SCHEMA,
        "machine": described,
        "settings": {name: getattr(args, name) for name in settings},
        "complete": complete,
        "left_out": left_out,
        "import_ms": [],
        "digits": None,
    }
    try:
        if ending:
            data["import_ms"] = import_times(3 if quick else 15)
            data["digits"] = digits.compare(3 if quick else 25)
    except KeyboardInterrupt:
        data["complete"] = False
    rng = np.random.default_rng(1)
    data["cells"] = [experiment.results(rng) for experiment in plan]
    # Before anything is printed: who reads it may close the pipe.
    try:
        cli.write(args.json, cli.dumps(data))
    except OSError as error:
        print(f"run.py: error: cannot write {args.json}: {error.strerror}", file=sys.stderr)
        return 2
    tables.print_all(out, data)
    if data["digits"]:
        out.print(digits.describe(data["digits"]))
    return 0 if data["complete"] else 130


if __name__ == "__main__":
    sys.exit(main())
