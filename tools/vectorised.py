"""Fail where a kernel lost its vector instructions: disassemble every kernel at every level built.

Each loop of a kernel that was vectorised stores whole vector registers to memory; the stores found
must be at least as many as the loops that the kernel has.

    python tools/vectorised.py
    python tools/vectorised.py --objdump aarch64-linux-gnu-objdump FOLDER

The first looks at the installed modules, the second at those, or object files, in a folder.
"""

import argparse
import importlib.util
import itertools
import re
import subprocess
import sys
from pathlib import Path

from relu_ext import cpu_levels
from relu_ext._operations import OPERATIONS

# The vectorised loops of each operation's kernel: two where one serves a single parameter and one
# an array of them; of float16 and bfloat16, one over blocks serves both where the operation
# multiplies.
LOOPS = {
    "relu": 1,
    "relu_subgradient": 3,
    "relu_backward": 4,
    "leaky_relu": 2,
    "leaky_relu_subgradient": 2,
    "leaky_relu_backward": 2,
    "add_relu": 1,
    "add_leaky_relu": 2,
}
HALF_LOOPS = {
    "relu": 1,
    "relu_subgradient": 3,
    "relu_backward": 3,
    "leaky_relu": 1,
    "leaky_relu_subgradient": 2,
    "leaky_relu_backward": 1,
    "add_relu": 1,
    "add_leaky_relu": 1,
}

# Of maxout, one with and one without the winners' numbers for each of one to four rows. Vectors of
# any width count there: the widest are not always the fastest (tools/levels.py compares levels).
# The kernel of float16 is bfloat16's too.
MAXOUT_LOOPS = {"maxout_rows": 8}

# In the order of the fused type, by which Cython numbers the functions.
DTYPES = (
    "float16 bfloat16 float32 float64 longdouble int8 int16 int32 int64 uint8 uint16 uint32 uint64"
).split()

# Whole registers, by machine and level, or several of them interleaved (ARM's st2 to st4); what is
# in the function's own stack frame, or a part of a register, is no result of a loop.
X86_STORE = r"\sv?mov(?!(?:ss|sd|d|q|[hl]p[sd]) )\S+ +%{register}\d+,(?!.*\(%rsp|-0x\w+\(%rbp).*\("
ARM_STORE = r"\s(?:st[rp]|stur|st[1-4][bhwd]?)\s+\{?[qvz]\d+\b(?!.*\[(?:sp|x29)\b).*\["
STORES = {
    ("x86-64", "v2"): X86_STORE.format(register="xmm"),
    ("x86-64", "v3"): X86_STORE.format(register="ymm"),
    ("x86-64", "v4"): X86_STORE.format(register="zmm"),
    ("littleaarch64", "base"): ARM_STORE,
}

# Without numbers below 0 these copy, which is the C library's work.
COPIES = {"relu", "leaky_relu"}

# No CPU has vectors of x87's longdouble, nor of aarch64's, which is computed in software.
EXEMPT = "longdouble"

# Neither SSE nor NEON has a product of 64 bits (SVE has). GCC makes one out of parts for SSE;
# Clang multiplies one by one there, which is faster, and so do both for NEON.
LOOPS_WITHOUT_PRODUCTS = {
    "relu_backward": 2,
    "leaky_relu": 0,
    "leaky_relu_backward": 0,
    "add_leaky_relu": 0,
}

FUNCTION = re.compile(r"<(\w[\w.]*)>:\n((?:.+\n)+)")
# GCC and Clang append .isra.0 and the like to the names of what they changed.
KERNEL = re.compile(r"__pyx_fuse_(\d+)\w*_kernels_[a-z0-9]+_([a-z_]+)(?:\.[\w.]+)?")
CALL = re.compile(r"\s(?:call|jmp|bl?)\s+[0-9a-f]+ <(\w[\w.]*)>")


def installed() -> list[Path]:
    specs = [importlib.util.find_spec(f"relu_ext._kernels_{level}") for level in cpu_levels().built]
    return [Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None]


def module_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*_kernels_*") if path.suffix in (".so", ".o")]


def level_of(path: Path) -> str:
    return path.name.partition("_kernels_")[2].partition(".")[0]


def kernels(objdump: str, path: Path) -> tuple[str, dict[tuple[str, str], str]]:
    """The machine, and the code of each kernel and of what it calls, by operation and dtype."""
    listing = subprocess.run(
        [objdump, "--disassemble", "--no-show-raw-insn", path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    machine = re.search(r"file format elf64-(\S+)", listing)
    assert machine, listing[:200]
    functions = dict(FUNCTION.findall(listing))
    found: dict[tuple[str, str], str] = {}
    for name in functions:
        if kernel := KERNEL.fullmatch(name):
            key = kernel[2], DTYPES[int(kernel[1])]
            found[key] = found.get(key, "") + "".join(reached(name, functions).values())
    return machine[1], found


def reached(name: str, functions: dict[str, str]) -> dict[str, str]:
    """A function and those that it calls, directly or not, in the same file."""
    found: dict[str, str] = {}
    ahead = [name]
    while ahead:
        name = ahead.pop()
        if name in functions and name not in found:
            found[name] = functions[name]
            ahead += CALL.findall(functions[name])
    return found


def by_clang(path: Path) -> bool:
    return b"clang version" in path.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objdump", default="objdump", help="of the machine that runs the modules")
    parser.add_argument("folder", type=Path, nargs="?", help="the installed package by default")
    arguments = parser.parse_args()
    files = module_files(arguments.folder) if arguments.folder else installed()
    if not files:
        print("no kernels found")
        return 1
    names = [operation.name for operation in OPERATIONS]
    lost = checked = 0
    for path in files:
        level = level_of(path)
        machine, found = kernels(arguments.objdump, path)
        store = re.compile(STORES[machine, level])
        any_store = re.compile(
            store.pattern.replace("%ymm", "%[xyz]mm").replace("%zmm", "%[xyz]mm")
        )
        clang = by_clang(path)
        vector_products = (machine, level) != ("x86-64", "v2") or not clang
        vector_products &= machine != "littleaarch64"
        for operation, dtype in itertools.product([*names, *MAXOUT_LOOPS], DTYPES):
            if dtype == EXEMPT or (operation in MAXOUT_LOOPS and dtype == "bfloat16"):
                continue
            if operation in COPIES and dtype.startswith("uint"):
                continue
            checked += 1
            loops = HALF_LOOPS if dtype in ("float16", "bfloat16") else LOOPS
            expected = (loops | MAXOUT_LOOPS)[operation]
            if dtype in ("int64", "uint64") and not vector_products:
                expected = LOOPS_WITHOUT_PRODUCTS.get(operation, expected)
            body = found.get((operation, dtype), "")
            vector = any_store if operation in MAXOUT_LOOPS else store
            stores = sum(bool(vector.search(line)) for line in body.splitlines())
            if stores < expected:
                lost += 1
                print(f"{level} {operation} {dtype}: {stores} vector stores, not {expected}")
    print(f"{checked} kernels checked, {lost} not vectorised")
    return min(lost, 1)


if __name__ == "__main__":
    sys.exit(main())
