"""Measure in fresh interpreters, each of which visits a cell at most once.

The addresses of code and heap and the hashes of strings differ between two starts of Python, but
not while it runs. Within one process, their effect cannot be told from what is measured.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from suite.experiment import Experiment
from suite.files import BENCHMARKS

Visit = Callable[[Experiment, float, int], None]
PATH = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})"


@contextmanager
def worker(level: str, kernels: str) -> Iterator[Visit]:
    """`Experiment.visit` in a fresh interpreter, given the CPU level and numba's cache.

    The process is in a session of its own, so that Ctrl-C reaches its parent alone.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", f"{PATH}; from suite import worker; worker.serve()"],
        env=os.environ | {"RELU_EXT_CPU_LEVEL": level, "NUMBA_CACHE_DIR": kernels},
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
        except (EOFError, BrokenPipeError) as error:
            text = f"the process that visited {experiment.cell} ended with {process.wait()}"
            raise RuntimeError(text) from error
        vars(experiment).update(vars(found), visits=experiment.visits + found.visits)

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
