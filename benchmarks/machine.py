"""What the numbers were measured on, and threads given to everyone in equal number."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import relu_ext

SYSTEM = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
ASSUMED_CACHES = {"L1": 32 * 2**10, "L2": 2**20, "L3": 32 * 2**20}
"""Where the system names none: typical sizes of an x86-64 core of the 2020s."""


def caches() -> tuple[dict[str, int], str]:
    """Bytes of each data cache that one core reaches, and where the numbers come from."""
    found = {}
    with suppress(OSError, ValueError, KeyError):
        for index in sorted(SYSTEM.glob("index*")):
            kind, level, size = ((index / f).read_text().strip() for f in ("type", "level", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size[:-1]) * UNITS[size[-1]]
    if found:
        return found, "sysfs"
    names = {"L1": "LEVEL1_DCACHE", "L2": "LEVEL2_CACHE", "L3": "LEVEL3_CACHE"}
    with suppress(OSError, ValueError, AttributeError):
        sizes = {level: os.sysconf(f"SC_{name}_SIZE") for level, name in names.items()}
        found = {level: size for level, size in sizes.items() if size > 0}
    return (found, "sysconf") if found else (ASSUMED_CACHES, "assumed")


def processors() -> int:
    """The CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**32


def processor_name() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the working tree that this file lies in."""
    git = ["git", "-C", str(Path(__file__).parent)]
    with suppress(OSError, subprocess.CalledProcessError):
        revision = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=-3)
        changes = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True)
        return revision.strip() + (" with local changes" if changes else "")
    return None


def describe() -> dict[str, object]:
    """Everything that a reader needs to judge a number, or to measure it again."""
    sizes, source = caches()
    levels = relu_ext.cpu_levels()
    versions = {}
    for name in ("numpy", "scipy", "scikit-learn", "numexpr", "numba", "torch", "jax", "ml_dtypes"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": processor_name(),
        "cpus": processors(),
        "caches": sizes,
        "caches_from": source,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler_of_python": platform.python_compiler(),
        "relu_ext": relu_ext.__version__,
        "levels": levels._asdict(),
        "numpy_simd": np.show_config(mode="dicts").get("SIMD Extensions"),
        "versions": versions,
    }


def equalise(threads: int) -> None:
    """The same number of threads for every library that has been loaded."""
    relu_ext.set_num_threads(threads)
    os.environ["NPROC"] = str(threads)  # the size of XLA's pool, read when JAX is imported
    for name in ("torch", "numexpr", "numba"):
        if library := sys.modules.get(name):
            library.set_num_threads(threads)
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
