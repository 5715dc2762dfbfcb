"""The version, and what this installation is made of."""

from relu_ext._dispatch import cpu_levels, missing
from relu_ext._threads import get_num_threads, has_openmp, why_one_thread

__version__ = "0.2.0"  # nowhere else


def show_config() -> None:
    """
    Print the version, the CPU levels and why one is missing, OpenMP and the number of threads.

    Examples
    --------
    >>> import relu_ext
    >>> relu_ext.show_config()  # doctest: +ELLIPSIS
    relu_ext ...
    """
    levels = cpu_levels()
    print(f"relu_ext {__version__}")
    for level in levels.built:
        state = "active" if level == levels.active else "available"
        print(f"CPU level {level}: {state if level in levels.available else 'not run by this CPU'}")
    for level, why in missing.items():
        print(f"CPU level {level}: not built: {why}")
    print(f"OpenMP: {'yes' if has_openmp() else 'no'}")
    because = f", no more because {reason}" if (reason := why_one_thread()) else ""
    print(f"threads: {get_num_threads()}{because}")
