from typing import SupportsIndex

def set_num_threads(num_threads: SupportsIndex, /) -> None:
    """Let several threads share a call on large arrays.

    Parameters
    ----------
    num_threads : int
        At least 1.
    """

def get_num_threads() -> int:
    """The number of threads that a call on a large array would use now."""

def has_openmp() -> bool: ...
def why_one_thread() -> str | None: ...
