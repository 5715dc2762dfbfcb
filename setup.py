"""Builds the extension modules. The only file that knows compiler flags."""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

PACKAGE = Path("src/relu_ext")


class Level(NamedTuple):
    """A CPU level: its psABI name, which the CPU is asked for, the flags that target it, and those
    that Clang does not know."""

    cpu: str | None
    flags: list[str]
    gcc_flags: tuple[str, ...] = ()


LEVELS = {
    "base": Level(None, []),
    # Where AVX2 is missing: Intel's CPUs before 2013 and small cores to 2021, virtual machines of
    # type x86-64-v2. Against base, GCC 14 on an EPYC (Zen 4), 8,192 elements: 64-bit integers are
    # 1.4 to 3.9 times as fast (SSE2 does not compare them), products of 32 bits 1.3 to 1.6 times,
    # float32 and float64 1.1 to 1.3 times, float16 1.1 to 1.2 times.
    "v2": Level("x86-64-v2", ["-march=x86-64-v2"]),
    # Two vectors in each turn of a loop, so that more of them are on their way from the third-level
    # cache.  In place on 8 MiB (AMD EPYC, Zen 3, GCC 12): relu_ 1.2 times as fast, leaky_relu_ 1.3,
    # relu_subgradient_ 1.1, add_relu_ as before; smaller arrays and rows 0.96 to 1.07, rows of 64
    # int8 0.9.  With four vectors, rows of 100 float32 take 1.5 times as long.  -fweb, which
    # unrolling turns on, makes GCC load x twice.
    "v3": Level(
        "x86-64-v3",
        ["-march=x86-64-v3"],
        ("-funroll-loops", "--param=max-unroll-times=2", "-fno-web"),
    ),
    "v4": Level("x86-64-v4", ["-march=x86-64-v4", "-mprefer-vector-width=512"]),
}
X86_64 = {"x86_64", "amd64"}

# Comparisons may become selects, and results are the same at every level. None of these flags
# changes a value; -ffast-math would, because it loses NaN.
# Always inline: a block of float16 called through its pointer takes 1.5 times as long.
KERNEL_FLAGS = [
    "-fno-trapping-math",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-DCYTHON_INLINE=inline __attribute__((always_inline))",
]
# Clang knows none of these. Threaded jumps would merge the selects of maxout into branches: with
# them, GCC 12 vectorises neither three pieces of float32 nor any gradient of three. The cost model
# leaves 3 (GCC 14) to 5 (GCC 16) kernels of 64-bit integers at the level base as they are;
# vectorised they are 1.06 to 1.27 times as fast, and no other kernel changes its time. Clang's
# scalar products of 64 bits beat its vectors there (1.04 to 1.15). Sinking would move a product
# behind the test of its sign, as a branch in what is left of a row after the last vector:
# leaky_relu_ on fresh signs in 64 rows of 100 float32 takes 2.0 us with it and 1.3 us without
# (GCC 12, AMD EPYC, Zen 4).
GCC_KERNEL_FLAGS = ["-fno-thread-jumps", "-fvect-cost-model=unlimited", "-fno-tree-sink"]
# -O3, because GCC 12 vectorises no ReLU at -O2.
# Clang would warn of 69 inline helpers of Cython that modules do not use.
UNIX_FLAGS = ["-O3", "-g0", "-Wno-unused-function"]
OPENMP_FLAGS = ["-fopenmp"]

# For tests: RELU_EXT_SANITIZE=address,undefined. What they find ends the process.
if sanitizers := os.environ.get("RELU_EXT_SANITIZE"):
    UNIX_FLAGS += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-g"]

DIRECTIVES = {
    "language_level": 3,
    "cdivision": True,
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "freethreading_compatible": True,  # what threads share: CONTRIBUTING
}


def extension(name: str) -> Extension:
    return Extension(
        f"relu_ext.{name}",
        [str(PACKAGE / f"{name}.pyx")],
        include_dirs=[str(PACKAGE), np.get_include()],
        depends=[str(header) for header in PACKAGE.glob("*.h")],
        define_macros=[("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
    )


class BuildExtensions(build_ext):
    """Builds each CPU level that the compiler can build and detect, and tells _dispatch which."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.cython_c_in_temp = True
        self.cython_directives = DIRECTIVES

    def build_extensions(self) -> None:
        missing = {name: why for name in LEVELS if (why := self.obstacle(name))}
        self.extensions = [
            extension
            for extension in self.extensions
            if extension.name.removeprefix("relu_ext._kernels_") not in missing
        ]
        for extension in self.extensions:
            self.configure(extension, missing)
        super().build_extensions()

    def configure(self, extension: Extension, missing: dict[str, str]) -> None:
        name = extension.name.removeprefix("relu_ext.")
        unix = self.compiler.compiler_type == "unix"
        if unix:
            extension.extra_compile_args += UNIX_FLAGS
        if name.startswith("_kernels_") and unix:
            level = LEVELS[name.removeprefix("_kernels_")]
            extension.extra_compile_args += KERNEL_FLAGS + level.flags
            gcc_flags = [*GCC_KERNEL_FLAGS, *level.gcc_flags]
            if self.compiles("", gcc_flags):
                extension.extra_compile_args += gcc_flags
        elif name == "_threads" and self.compiles("#include <omp.h>", OPENMP_FLAGS):
            extension.extra_compile_args += OPENMP_FLAGS
            extension.extra_link_args += OPENMP_FLAGS
        elif name == "_dispatch":
            built = [name for name in LEVELS if name not in missing]
            above_base = [f'LEVEL("{name}", "{LEVELS[name].cpu}")' for name in built[1:]]
            reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
            extension.define_macros += [
                ("RELU_EXT_LEVELS", f'"{" ".join(built)}"'),
                ("RELU_EXT_LEVELS_ABOVE_BASE", " ".join(above_base)),
                ("RELU_EXT_LEVELS_MISSING", f'"{reasons}"'),
            ]

    def obstacle(self, name: str) -> str | None:
        """Why a level cannot be built here, or None."""
        level = LEVELS[name]
        if level.cpu is None:
            return None
        if (machine := self.plat_name.rpartition("-")[2]) not in X86_64:
            return f"this is {machine}, not x86-64"
        if self.compiler.compiler_type != "unix":
            return f"no flags are known for the {self.compiler.compiler_type} compiler"
        if not self.compiles("", level.flags):
            return f"the compiler does not take {' '.join(level.flags)}"
        if not self.compiles(f'int yes(void) {{ return __builtin_cpu_supports("{level.cpu}"); }}'):
            return f"the compiler cannot detect {level.cpu} (GCC 12 and Clang 18 can)"
        return None

    def compiles(self, code: str, flags: list[str] | None = None) -> bool:
        """Whether the compiler makes a shared library of some code under some flags."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(f"{code}\nint main(void) {{ return 0; }}\n")
            try:
                objects = self.compiler.compile(
                    [str(source)], output_dir=folder, extra_preargs=flags
                )
                self.compiler.link_shared_object(
                    objects, str(Path(folder, "probe")), extra_preargs=flags
                )
            except (CompileError, LinkError):
                return False
            return True


setup(
    ext_modules=[
        extension(name)
        for name in (
            *(f"_kernels_{level}" for level in LEVELS),
            "_dispatch",
            "_threads",
            "_walk",
            "_ndarrays",
            "ufuncs",
            "_dlpack",
            "_tensors",
            "_api",
            "_maxout",
        )
    ],
    cmdclass={"build_ext": BuildExtensions},
)
