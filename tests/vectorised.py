"""Fail where a kernel lost its vector instructions: disassemble every kernel at every level built.

Each loop of a kernel that was vectorised stores whole vector registers to memory; the stores found
must be at least as many as the loops that the kernel has.
"""

import importlib.machinery
import importlib.util
import re
import subprocess
import sys

import relu_ext
from relu_ext import ufuncs

# The loops of each operation: one for a single parameter and one for an array of them, and for
# relu_backward two more, for at_zero = 0 and 1. float16 makes products in one loop of blocks.
LOOPS = {
    "relu": 1,
    "relu_subgradient": 3,
    "relu_backward": 4,
    "leaky_relu": 2,
    "leaky_relu_subgradient": 2,
    "leaky_relu_backward": 2,
}
FLOAT16_LOOPS = LOOPS | {"relu_backward": 3, "leaky_relu": 1, "leaky_relu_backward": 1}

# In the order of the fused type, by which Cython numbers the functions.
DTYPES = (
    "float16 bfloat16 float32 float64 longdouble int8 int16 int32 int64 uint8 uint16 uint32 uint64"
).split()

REGISTERS = {"base": "xmm", "v3": "ymm", "v4": "zmm"}

# No CPU has vectors of x87's longdouble.
EXEMPT = "longdouble"

FUNCTION = re.compile(r"<__pyx_fuse_(\d+)\w*_kernels_[a-z0-9]+_([a-z_]+)>:\n((?:.+\n)+)")


def kernels(level: str) -> dict[tuple[str, str], str]:
    """The disassembly of each kernel, by operation and dtype."""
    spec = importlib.util.find_spec(f"relu_ext._kernels_{level}")
    assert isinstance(spec.loader, importlib.machinery.ExtensionFileLoader), spec
    listing = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", spec.origin],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {
        (operation, DTYPES[int(number)]): body
        for number, operation, body in FUNCTION.findall(listing)
        if operation in LOOPS
    }


def vector_stores(body: str, register: str) -> int:
    """Stores of whole registers to memory that is not the function's own stack frame."""
    store = rf"\sv?mov\S+ +%{register}\d+,(?!.*%r[sb]p).*\("
    scalar = r"\sv?mov(?:ss|sd|d|q|[hl]p[sd]) "
    return sum(
        bool(re.search(store, line)) and not re.search(scalar, line) for line in body.splitlines()
    )


def main() -> int:
    if set(LOOPS) != set(ufuncs.__all__):
        print(f"LOOPS says nothing of {sorted(set(ufuncs.__all__) ^ set(LOOPS))}")
        return 1
    lost = checked = 0
    for level in relu_ext.cpu_levels().built:
        found = kernels(level)
        for operation in LOOPS:
            for dtype in DTYPES:
                if dtype == EXEMPT:
                    continue
                checked += 1
                expected = (FLOAT16_LOOPS if dtype == "float16" else LOOPS)[operation]
                stores = vector_stores(found.get((operation, dtype), ""), REGISTERS[level])
                if stores < expected:
                    lost += 1
                    print(f"{level} {operation} {dtype}: {stores} vector stores, not {expected}")
    print(f"{checked} kernels checked, {lost} not vectorised")
    return min(lost, 1)


if __name__ == "__main__":
    sys.exit(main())
