"""Processes to measure in: each is a fresh interpreter that visits a cell once.

Where code, heap and hash seeds lie differs from one start of Python to the next and stays the same
while it runs: within one process its effect cannot be told from what is measured.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from suite.experiment import Experiment
from suite.files import BENCHMARKS

Visit = Callable[[Experiment, float, int], None]


@contextmanager
def worker(settings: Mapping[str, str]) -> Iterator[Visit]:
    """`Experiment.visit` in a fresh interpreter with additional environment variables.

    The process is in a session of its own, so that Ctrl-C reaches its parent alone.
    """
    path = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", "from suite import worker; worker.serve()"],
        env=os.environ | settings | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    requests, replies = process.stdin, process.stdout

    def visit(experiment: Experiment, seconds: float, seed: int) -> None:
        try:
            pickle.dump((replace(experiment, visits=[]), seconds, seed), requests)
            requests.flush()
            found = pickle.load(replies)
            vars(experiment).update(vars(found), visits=experiment.visits + found.visits)
        except (EOFError, BrokenPipeError) as error:
            text = f"the process that visited {experiment.cell} ended with {process.wait()}"
            raise RuntimeError(text) from error

    try:
        yield visit
    finally:
        process.kill()
        process.communicate()


def serve() -> None:
    """Visit the experiments that arrive on standard input, and reply on standard output."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the replies
    with suppress(EOFError):
        while True:
            experiment, seconds, seed = pickle.load(requests)
            experiment.visit(seconds, seed)
            pickle.dump(experiment, replies)
            replies.flush()
