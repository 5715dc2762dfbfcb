"""ReLU, its subgradient and Leaky ReLU for NumPy arrays, in place and fast.

The elementwise functions, such as `relu`, `leaky_relu` and `relu_backward`, return new arrays, or
write into ``out=``; with a trailing underscore, as in `relu_`, they overwrite their first argument
and return it.  `relu_ext.ufuncs` has them as NumPy ufuncs.

`maxout` is the maximum over an axis of pieces, and `maxout_backward` its gradient.

`set_num_threads`, or the environment variable ``RELU_EXT_NUM_THREADS``, lets several threads share
large arrays.  `cpu_levels` tells which CPU level is in use (``RELU_EXT_CPU_LEVEL`` chooses another
at import), and `show_config` prints what was built and what runs.
"""

from relu_ext import _api, ufuncs
from relu_ext._api import *  # noqa: F403  its __all__ comes from the operations' descriptions
from relu_ext._config import show_config
from relu_ext._dispatch import cpu_levels
from relu_ext._maxout import maxout, maxout_backward
from relu_ext._threads import get_num_threads, set_num_threads
from relu_ext._version import __version__

__all__ = [
    "__version__",
    "cpu_levels",
    "get_num_threads",
    "maxout",
    "maxout_backward",
    "set_num_threads",
    "show_config",
    "ufuncs",
]
__all__ += _api.__all__
