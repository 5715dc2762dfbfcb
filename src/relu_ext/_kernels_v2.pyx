"""The kernels at level v2: x86-64-v2 (SSE4.2). The flags are in setup.py."""
include "_kernels.pxi"
