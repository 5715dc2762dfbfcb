"""ReLU, Leaky ReLU, PReLU, Maxout and max-pooling for NumPy arrays, with their gradients.

The elementwise functions, such as `relu`, `leaky_relu` and `relu_backward`, return new arrays, or
write into ``out=``; with a trailing underscore, as in `relu_`, they overwrite their first argument
and return it.  `relu_ext.ufuncs` has them as NumPy ufuncs.

`maxout` is the maximum over an axis of pieces, and `maxout_backward` its gradient.

`set_num_threads`, or the environment variable ``RELU_EXT_NUM_THREADS``, lets several threads share
large arrays.  `cpu_levels` tells which CPU level is in use (``RELU_EXT_CPU_LEVEL`` chooses another
at import), and `show_config` prints what was built and what runs.
"""

import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec


class _Core:
    """Finds the extension modules that lie in one file, where Python's own finders look for a file
    of each name: that took 1.4 times as long to import, and 50 KB more of a wheel."""

    names = frozenset(f"{__name__}.{name}" for name in (
        "_api", "_dispatch", "_maxout", "_ndarrays", "_sums", "_tensors", "_threads", "_walk",
        "ufuncs",
    ))  # fmt: skip
    file = f"{__path__[0]}/_core{EXTENSION_SUFFIXES[0]}"

    @classmethod
    def find_spec(cls, name: str, *_: object) -> ModuleSpec | None:
        if name not in cls.names:
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, cls.file), origin=cls.file)
        spec.has_location = True
        return spec


if "ufuncs" not in globals():  # which a reload keeps
    sys.meta_path.append(_Core)

from relu_ext import ufuncs
from relu_ext._api import *
from relu_ext._dispatch import cpu_levels
from relu_ext._maxout import maxout, maxout_backward
from relu_ext._sums import (
    add_leaky_relu_backward,
    add_leaky_relu_backward_,
    add_relu_backward,
    add_relu_backward_,
    prelu_backward,
    prelu_backward_,
)
from relu_ext._threads import get_num_threads, set_num_threads

__version__ = "0.2.0"  # nowhere else

__all__ = [
    "__version__",
    "add_leaky_relu",
    "add_leaky_relu_",
    "add_leaky_relu_backward",
    "add_leaky_relu_backward_",
    "add_relu",
    "add_relu_",
    "add_relu_backward",
    "add_relu_backward_",
    "cpu_levels",
    "get_num_threads",
    "leaky_relu",
    "leaky_relu_",
    "leaky_relu_backward",
    "leaky_relu_backward_",
    "leaky_relu_subgradient",
    "leaky_relu_subgradient_",
    "maxout",
    "maxout_backward",
    "prelu",
    "prelu_",
    "prelu_backward",
    "prelu_backward_",
    "relu",
    "relu_",
    "relu_backward",
    "relu_backward_",
    "relu_subgradient",
    "relu_subgradient_",
    "set_num_threads",
    "show_config",
    "ufuncs",
]


def show_config() -> None:
    """
    Print the version, the CPU levels and why one is missing, OpenMP and the number of threads.

    Examples
    --------
    >>> import relu_ext
    >>> relu_ext.show_config()  # doctest: +ELLIPSIS
    relu_ext ...
    """
    from relu_ext._dispatch import missing
    from relu_ext._threads import has_openmp, why_one_thread

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
