#!/usr/bin/env python3
"""Processes to measure in: each is an interpreter of its own, and visits a cell once.

Where code, heap and hash seeds come to lie differs from one start of Python to the next and stays
for as long as it runs: within one process it cannot be told from what is measured.
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

from measure import Experiment


class Worker:
    """A fresh interpreter with some variables in its environment, for a `with` statement.

    It is in a session of its own, so that Ctrl-C is for its parent to act upon.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | settings,
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
        """`experiment.visit(seconds, seed)`, over there."""
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
    """Visit what arrives on standard input, until its end; reply on standard output."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the replies
    with suppress(EOFError):
        while True:
            experiment, seconds, seed = pickle.load(requests)
            experiment.visit(seconds, seed)
            pickle.dump(experiment, replies)
            replies.flush()


if __name__ == "__main__":
    serve()
