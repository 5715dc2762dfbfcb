"""How many calls two Python threads finish for each call of one, on an array of their own each.

Without the GIL that is 2 where the threads share nothing that is written: not even the reference
count of the function they call. `_empty` does nothing but be called, `len` is Python's own. Needs
two idle cores.
"""

import statistics
import sys
import threading
import time

import numpy as np
import relu_ext
from relu_ext import _api

SECONDS = 0.1
VISITS = 15


def calls_in_a_second(function, size, threads):
    """Of all threads together."""
    ready, counts, stop = threading.Barrier(threads + 1), [], threading.Event()

    # What the loop uses is passed, because threads lock the cells of a closure that they share.
    def run(function, stop):
        x, count = np.ones(size, np.float32), 0
        ready.wait()
        while not stop.is_set():
            for _ in range(100):
                function(x)
            count += 100
        counts.append(count)

    running = [threading.Thread(target=run, args=(function, stop)) for _ in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    time.sleep(SECONDS)
    stop.set()
    took = time.perf_counter() - start
    for thread in running:
        thread.join()
    return sum(counts) / took


def main():
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, {'with' if gil else 'without'} the GIL")
    for name, function in (
        ("relu_", relu_ext.relu_), ("_empty", _api._empty), ("len", len)
    ):  # fmt: skip
        for size in (64, 16_384) if name == "relu_" else (64,):
            visits = [
                [calls_in_a_second(function, size, threads) for threads in (1, 2)]
                for _ in range(VISITS)
            ]
            ratios = sorted(two / one for one, two in visits)
            ns = 1e9 / statistics.median(one for one, _ in visits)
            print(
                f"{name:7}{size:7} float32: {statistics.median(ratios):.2f} times the calls of one "
                f"thread ({ratios[1]:.2f} to {ratios[-2]:.2f}), whose calls take {ns:.0f} ns"
            )


if __name__ == "__main__":
    main()
