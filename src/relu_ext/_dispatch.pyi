from typing import NamedTuple

class CPULevels(NamedTuple):
    built: tuple[str, ...]
    available: tuple[str, ...]
    active: str

missing: dict[str, str]

def cpu_levels() -> CPULevels:
    """The CPU levels of the kernels."""

def use(level: str) -> None: ...
