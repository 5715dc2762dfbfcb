"""Describe the machine, and give every library the same number of threads."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import relu_ext
from threadpoolctl import threadpool_limits

SYSTEM = Path("/sys/devices/system/cpu/cpu0/cache")
ASSUMED_CACHES = {"L1": 32 * 2**10, "L2": 2**20, "L3": 32 * 2**20}
"""The sizes that are typical of an x86-64 core of the 2020s, for systems that tell none."""


def caches() -> dict[str, int]:
    """The bytes of each data cache of one core."""
    found = {}
    with suppress(OSError, ValueError):
        for index in sorted(SYSTEM.glob("index*")):
            kind, level, size = ((index / f).read_text().strip() for f in ("type", "level", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = 1024 * int(size.removesuffix("K"))
    return found or ASSUMED_CACHES


def processors() -> int:
    """The CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def microarchitecture(vendor: str, family: int, model: int) -> str:
    """The name behind a CPU's family and model, for CPUs on which the suite is likely to run."""
    intel = {85: "Skylake", 106: "Ice Lake", 143: "Sapphire Rapids", 207: "Emerald Rapids"}
    if vendor == "AuthenticAMD" and family in (25, 26):
        zen_3 = model in (*range(0x10), *range(0x20, 0x60))  # of family 25
        return "Zen 5" if family == 26 else "Zen 3" if zen_3 else "Zen 4"
    if vendor == "GenuineIntel" and family == 6 and model in intel:
        return intel[model]
    return f"family {family}, model {model}"


def processor_name() -> str:
    """The processor's name with its microarchitecture, because cloud providers hide the model."""
    with suppress(OSError, KeyError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        found = {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in lines)}
        name = re.sub(r"\((R|TM)\)|@.*|\b(CPU|Processor)\b", "", found["model name"])
        kind = (found["vendor_id"], int(found["cpu family"]), int(found["model"]))
        return f"{' '.join(name.split())} ({microarchitecture(*kind)})"
    return platform.processor() or platform.machine()


def file_name(processor: str) -> str:
    """The file of a CPU's results, such as amd-epyc-zen-5.json."""
    return "-".join(re.findall(r"[a-z0-9]+", processor.lower())) + ".json"


def commit() -> str | None:
    """The commit of the working tree that contains this file."""
    options = ("--always", "--exclude=*", "--abbrev=10", "--dirty= with local changes")
    git = ["git", "-C", str(Path(__file__).parent), "describe", *options]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.check_output(git, text=True, stderr=subprocess.DEVNULL).strip()
    return None


def describe() -> dict[str, object]:
    """What a reader needs to judge a number or to measure it again."""
    levels = relu_ext.cpu_levels()
    versions = {}
    for name in "numpy scipy scikit-learn numba torch jax thinc ml_dtypes".split():
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": processor_name(),
        "cpus": processors(),
        "caches": caches(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "relu_ext": relu_ext.__version__,
        "levels": levels._asdict(),
        "versions": versions,
    }


def equalise(threads: int) -> None:
    """Give every library that has been loaded the same number of threads."""
    relu_ext.set_num_threads(threads)
    os.environ["NPROC"] = str(threads)  # the size of XLA's pool, read when JAX is imported
    for name in ("torch", "numba"):
        if library := sys.modules.get(name):
            library.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")
