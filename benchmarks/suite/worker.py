"""Processes to measure in: each is a fresh interpreter that visits a cell once.

Where code, heap and hash seeds lie differs from one start of Python to the next and stays the same
while it runs: within one process its effect cannot be told from what is measured.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Self, cast

from suite.experiment import Experiment
from suite.files import BENCHMARKS


class Worker:
    """A fresh interpreter with additional environment variables, for a `with` statement.

    It is in a session of its own, so that Ctrl-C reaches its parent alone.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from suite import worker; worker.serve()"],
            env=os.environ | settings | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def visit(self, experiment: Experiment, seconds: float, seed: int) -> None:
        """`experiment.visit(seconds, seed)` in the other process."""
        requests, replies = (
            cast(IO[bytes], self.process.stdin),
            cast(IO[bytes], self.process.stdout),
        )
        try:
            pickle.dump((experiment.without_visits(), seconds, seed), requests)
            requests.flush()
            experiment.absorb(pickle.load(replies))
        except (EOFError, BrokenPipeError) as error:
            text = f"the process that visited {experiment.cell} ended with {self.process.wait()}"
            raise RuntimeError(text) from error


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
