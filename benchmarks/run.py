#!/usr/bin/env python3
"""Measure relu_ext against what a user would write instead.

Results go to standard output and to a JSON file, progress to standard error. After Ctrl-C, what has
been measured so far is still reported.
"""

import os
import re
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import accumulate, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import relu_ext
from relu_ext import _dispatch
from rich.console import Console
from rich.progress import Progress

from suite import cases, files, layouts, machine, plan, programs, tables
from suite.cases import OPERATIONS
from suite.experiment import Experiment, worker

SECONDS = {"quick": 8.0, "default": 85.0, "programs": 400.0}
SECONDS_PER_FULL_CELL = 2.1
"""With 550 cells a full run takes 19 minutes."""
SWEEPS = {"quick": 3, "default": 5, "full": 7, "programs": 6}
SWEEPING = 0.6
"""The share of the time for the sweeps over every cell; the rest is for wide intervals."""


def size(text: str) -> int:
    """An array's length: 16384, 16_384, 16,384 or 2^14."""
    match = re.fullmatch(r"2(?:\^|\*\*)(\d\d?)|([\d_,]*\d)", text)
    value = match and (1 << int(match[1]) if match[1] else int(re.sub("[_,]", "", match[2])))
    if not value:
        raise ArgumentTypeError(f"{text!r} is not a number of elements such as 16384 or 2^20")
    return value


def arguments(argv: list[str]) -> Any:
    parser = files.Parser(prog="run.py", description=__doc__)
    parser.set_defaults(extent="default")
    extents = parser.add_mutually_exclusive_group()
    for extent, text in (
        ("quick", "measure float32 against NumPy, within 20 seconds"),
        ("full", "measure everything against every library, in about 20 minutes"),
        ("programs", "measure whole programs with NumPy alone and in PyTorch, within five minutes"),
    ):
        extents.add_argument(
            f"--{extent}", dest="extent", action="store_const", const=extent, help=text
        )
    add = parser.add_argument
    dtypes, libraries = cases.DTYPES, cases.LIBRARIES
    add("--op", nargs="+", choices=OPERATIONS, metavar="OP", help=", ".join(OPERATIONS))
    add("--dtype", nargs="+", choices=dtypes, metavar="DTYPE", help=", ".join(dtypes))
    add("--size", nargs="+", type=size, metavar="N", help="such as 16384 or 2^20")
    valid = (*layouts.KINDS, *layouts.VIEWS)
    text = f"{', '.join(layouts.KINDS)}; or one of them, such as '{plan.FIRST_ROWS}'"
    add("--layout", nargs="+", choices=valid, metavar="LAYOUT", help=text)
    names = sorted({name for operation in OPERATIONS.values() for name in operation.spellings})
    text = f"a library ({', '.join(libraries)}) or a spelling ({', '.join(names)})"
    add("--against", nargs="+", choices=[*libraries, *names], metavar="WHO", help=text)
    processors, levels = range(1, machine.processors() + 1), relu_ext.cpu_levels()
    text = "the number of threads of every library"
    add("--threads", type=int, default=1, choices=processors, metavar="N", help=text)
    text = "the CPU level of relu_ext's kernels"
    add("--level", default=levels.active, choices=levels.available, metavar="LEVEL", help=text)
    text = "the results file (default: last.json, but results/<this CPU>.json for --full alone)"
    add("--json", type=Path, metavar="FILE", help=text)
    text = "print what other libraries do differently, or not at all"
    add("--differences", action="store_true", help=text)
    args = parser.parse_args(argv)
    for name in args.against or ():
        library = next((library for library in libraries if library in name), "numpy")
        if not find_spec(library):
            parser.error(f"{library} is not installed; valid: what is installed")
    hidden = files.Parser(add_help=False)  # what is recorded is the command without the file
    hidden.add_argument("--json")
    args.command = ["run.py", *hidden.parse_known_args(argv)[1]]
    args.narrowed = bool(args.op or args.dtype or args.size or args.layout)
    if args.extent == "programs" and (args.narrowed or args.against or args.threads > 1):
        parser.error("--programs measures all programs on one thread; valid: --json and --level")
    if args.json is None:
        folder = files.RESULTS if args.extent == "full" else files.PROGRAMS
        published = folder / machine.file_name(machine.processor_name())
        whole = args.extent in ("full", "programs") and len(argv) == 1
        args.json = published if whole else files.LAST
        args.json.parent.mkdir(exist_ok=True)
    parser.output(args.json)
    return args


def experiments(args: Any) -> tuple[list[Experiment], list[str]]:
    """The cells that this machine can hold, with their contenders; why others are left out."""
    caches = machine.caches()
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found, left_out = [], []
    for cell in plan.cells(args):
        # The operands, the fresh numbers, the right answers, and the temporaries of a contender.
        needed = 10 * cell.nbytes
        if cell.threads > machine.processors():
            left_out.append(f"left out: {cell}: there is {machine.processors()} CPU")
        elif needed > memory:
            left_out.append(f"left out: {cell}: needs {needed / 1e9:.1f} GB of memory")
        elif cell.layout == layouts.TENSORS and not find_spec("torch"):
            left_out.append(f"left out: {cell}: PyTorch is not installed")
        else:
            found.append(Experiment(cell, list(plan.taking_part(cell, args)), caches))
    return found, left_out


def within_reach(experiments: Iterable[Any], seconds: float) -> list[Any]:
    """The experiments whose intervals become narrow in that time, those that need least first.

    There is at least one, if any interval is wide and there is time left.
    """
    needed = {experiment: experiment.seconds_to_good() for experiment in experiments}
    wide = sorted((e for e, missing in needed.items() if missing), key=needed.__getitem__)
    enough = sum(total <= seconds for total in accumulate(needed[e] for e in wide))
    return wide[: max(enough, 1)] if seconds > 0 else []


def measure(experiments: Sequence[Experiment | programs.Run], extent: str) -> bool:
    """Visit every cell in several sweeps, then only those with wide intervals until time is up.

    Each sweep visits its cells in a new process, and announces itself on standard error even if
    that is not a terminal. Return False if Ctrl-C ended the run.
    """
    rng, began = np.random.default_rng(0), time.perf_counter()
    seconds = SECONDS.get(extent, SECONDS_PER_FULL_CELL * len(experiments))
    screen = Progress(console=Console(stderr=True), refresh_per_second=2)
    with TemporaryDirectory() as kernels, screen as progress:
        task, sweeps = progress.add_task("", total=seconds), count(1)

        def left(share: float) -> float:
            return share * seconds - (time.perf_counter() - began)

        def sweep(chosen: Sequence[Any], share: float, visits: int) -> None:
            """Visit each chosen cell once; the time left is shared by `visits` visits in all."""
            progress.console.print(f"sweep {next(sweeps)}, {len(chosen)} cells", highlight=False)
            with worker(relu_ext.cpu_levels().active, kernels) as visit:
                for done, experiment in enumerate(chosen):
                    if left(share) < 0 and experiment.visits:
                        break
                    text = f"{experiment.cell}, visit {len(experiment.visits) + 1}"
                    progress.update(task, completed=seconds - left(1), description=text)
                    length = max(left(share), 0) / (visits - done)
                    visit(experiment, length, int(rng.integers(2**32)))

        try:
            for number in range(SWEEPS[extent]):
                if number and left(SWEEPING) < 0:
                    break
                shuffled = [experiments[i] for i in rng.permutation(len(experiments))]
                sweep(shuffled, SWEEPING, (SWEEPS[extent] - number) * len(experiments))
            while wide := within_reach(experiments, left(1)):
                sweep(wide, 1, len(wide))
        except KeyboardInterrupt:
            return False
        progress.update(task, completed=seconds, description=f"{len(experiments)} cells measured")
    return True


def main(argv: list[str] | None = None) -> int:
    args = arguments(sys.argv[1:] if argv is None else argv)
    _dispatch.use(args.level)
    machine.equalise(args.threads)
    out = Console(width=None if sys.stdout.isatty() else 80, markup=False, highlight=False)
    parser, rng = files.Parser(prog="run.py"), np.random.default_rng(1)
    data: dict[str, Any] = {
        "schema": files.SCHEMA,
        "machine": machine.describe(),
        "settings": {key: vars(args)[key] for key in ("extent", "threads", "level", "command")},
        "complete": True,
        "left_out": [],
        "notes": [],
        "cells": [],
    }
    if args.extent == "programs":
        runs = [programs.Run(program) for program in programs.PROGRAMS]
        data["complete"] = measure(runs, args.extent)
        data["programs"] = [run.results(rng) for run in runs if run.visits]
    else:
        found, data["left_out"] = experiments(args)
        if not found:
            why = data["left_out"] or ["none of these operations has such a dtype or layout"]
            parser.error(f"nothing to measure: {'; '.join(why)}")
        data["complete"] = measure(found, args.extent)
        data["notes"] = tables.notes(found)
        data["cells"] = [experiment.results(rng) for experiment in found]
    # Written before anything is printed, because the reader of standard output may close it.
    files.write(args.json, files.dumps(data))
    if args.extent == "programs":
        two_tables = (tables.programs(data["programs"]), tables.parts(data["programs"]))
        for line in (tables.machine_line(data), "", *two_tables[0], "", *two_tables[1]):
            out.print(line, soft_wrap=True)
    else:
        tables.print_all(out, data, args.differences)
    return 0 if data["complete"] else 130


if __name__ == "__main__":
    sys.exit(main())
