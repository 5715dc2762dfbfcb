#!/usr/bin/env python3
"""Fit scikit-learn's MLPClassifier on handwritten digits with its own ReLU and with relu_ext's.

The loss curves are the same bit for bit, and the times of the fits are printed side by side, which
takes one to two minutes.
"""

import time
import warnings
from collections.abc import Callable
from itertools import product
from unittest.mock import patch

import numpy as np
import relu_ext
from rich.console import Console
from rich.progress import track
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, _base

from suite import files, machine
from suite.experiment import summary
from suite.programs import dense_digits

LAYERS = ((100,), (256, 256), (64, 64, 64))
SOLVERS = ("adam", "sgd")
Functions = tuple[Callable[..., object], Callable[..., object]]
THEIRS: Functions = _base.ACTIVATIONS["relu"], _base.DERIVATIVES["relu"]
OURS: Functions = relu_ext.relu_, lambda z, delta: relu_ext.relu_backward_(delta, z)
"""What scikit-learn calls forward and backward."""


def fit(
    relu: Functions, hidden: tuple[int, ...], dtype: str, solver: str, epochs: int
) -> tuple[float, list[float]]:
    """The seconds that a fit with this ReLU takes, and its loss curve."""
    images, labels = dense_digits.digits()
    model = MLPClassifier(hidden, solver=solver, random_state=0, max_iter=epochs)
    forward = patch.dict(_base.ACTIVATIONS, relu=relu[0])
    backward = patch.dict(_base.DERIVATIVES, relu=relu[1])
    with forward, backward, warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        start = time.perf_counter()
        model.fit(images.astype(dtype), labels)
        return time.perf_counter() - start, model.loss_curve_


def compare(
    hidden: tuple[int, ...], dtype: str, solver: str, epochs: int, repeats: int
) -> np.ndarray:
    """Fits in turn: rows of both times and their ratio."""
    rows, setting = [], (hidden, dtype, solver, epochs)
    for repeat in range(repeats + 1):
        order = (THEIRS, OURS) if repeat % 2 else (OURS, THEIRS)
        runs = {relu: fit(relu, *setting) for relu in order}
        (theirs, expected), (ours, curve) = runs[THEIRS], runs[OURS]
        assert curve == expected, f"the loss curves differ: {setting}"
        if repeat:  # the first pair has warmed the caches
            rows.append((theirs, ours, theirs / ours))
    return np.array(rows)


def main(argv: list[str] | None = None) -> int:
    parser = files.Parser(prog="sklearn_mlp.py", description=__doc__)
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--repeats", type=int, default=7, metavar="N")
    args = parser.parse_args(argv)
    if args.epochs < 1 or args.repeats < 1:
        parser.error("out of range; valid: epochs and repeats from 1")
    machine.equalise(1)
    print(f"MLPClassifier.fit, one thread, {args.epochs} epochs: identical loss curves asserted")
    print("| solver | dtype | hidden layers | scikit-learn | relu_ext | times as fast |")
    print("|---|---|---|--:|--:|--:|", flush=True)
    rng, settings = np.random.default_rng(0), [*product(SOLVERS, ("float32", "float64"), LAYERS)]
    for solver, dtype, hidden in track(settings, console=Console(stderr=True)):
        found = compare(hidden, dtype, solver, args.epochs, args.repeats)
        theirs, ours, _ = np.median(found, axis=0)
        ratio, low, high = summary(found[:, 2:], rng)
        print(f"| {solver} | {dtype} | {hidden} | {1e3 * theirs:.0f} ms | {1e3 * ours:.0f} ms "
              f"| {ratio:.2f}× ({low:.2f}–{high:.2f}) |", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    files.run(main)
