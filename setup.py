"""Builds the extension modules. The only file that knows compiler flags."""

import logging
import os
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import setuptools

if int(setuptools.__version__.partition(".")[0]) < 77:
    raise SystemExit(f"relu_ext needs setuptools 77 to build; this is {setuptools.__version__}")

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

PACKAGE = Path("src/relu_ext")


# The flags of each CPU level.  The last available one runs; `_dispatch.pyx` knows how to ask the
# CPU.
X86_64_LEVELS = {
    # Where AVX2 is missing: Intel's CPUs before 2013 and small cores to 2021, virtual machines of
    # type x86-64-v2.  NumPy's wheels need as much since 2.4.
    "v2": ["-msse4.2", "-mpopcnt"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
OTHER_LEVELS: dict[str, list[str]] = {"base": []}
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
# leaves 3 (GCC 14) to 5 (GCC 16) kernels of 64-bit integers with SSE2 as they are;
# vectorised they are 1.06 to 1.27 times as fast, and no other kernel changes its time. Clang's
# scalar products of 64 bits beat its vectors there (1.04 to 1.15). Sinking would move a product
# behind the test of its sign, as a branch in what is left of a row after the last vector:
# leaky_relu_ on fresh signs in 64 rows of 100 float32 takes 2.0 us with it and 1.3 us without
# (GCC 12, AMD EPYC, Zen 4).
# Split paths would do the same in loops of int8 and int16: add_leaky_relu_ on 64 rows of 10 int8
# takes 2.2 us with them and 0.3 us without (Zen 5).  Versions for steps of 1 count bytes, so that
# no array has them.  What is left of a row after the last vector is unrolled up to 50 instructions
# instead of 200: a sixth less of machine code, and as fast.  Clones of a function for each constant
# would take apart again what two kernels share.
GCC_KERNEL_FLAGS = [
    "-fno-thread-jumps",
    "-fvect-cost-model=unlimited",
    "-fno-tree-sink",
    "-fno-split-paths",
    "-fno-version-loops-for-strides",
    "--param=max-completely-peeled-insns=50",
    "-fno-ipa-cp-clone",
]
# What is left of a row after the last vector is not taken by vectors of 8 bytes: a fifteenth less
# of machine code, and as fast.
GCC_V2_FLAGS = ["--param=vect-epilogues-nomask=0"]
# -O3, because GCC 12 vectorises no ReLU at -O2; there, small calls, too, take 1.02 to 1.1 times as
# long.  Clang would warn of 69 inline helpers of Cython that modules do not use.  Nothing unwinds a
# frame of ours for an exception, and a call through the table of addresses is as fast as one
# through a stub: 45 KB of the wheel.
UNIX_FLAGS = [
    "-O3",
    "-g0",
    "-Wno-unused-function",
    "-fno-asynchronous-unwind-tables",
    "-fno-plt",
]
# The modules that `relu_ext/__init__.py` finds in one file, `_core`.
MODULES = ["_walk", "_tensors", "_api", "_maxout", "_sums", "_dispatch", "_threads", "_ndarrays",
           "ufuncs"]  # fmt: skip
# Those that are compiled for three fifths of the size.  A call with a small array runs the loop of
# `ufuncs` alone: 1,023 instructions instead of 1,016.  The front door would run 274 instead of 191;
# maxout of (64, 32, 4) float32 would take 1.1 times as long, its gradient 1.8 times, and a call
# with a tensor of 64 float32 1.1 times.
COLD = {"_dispatch", "_threads", "_ndarrays", "ufuncs"}
COLD_FLAGS = ["-Os"]
# The bodies of the front door's functions in place, inlined, so that each knows its operands:
# add_relu_ takes 270 instructions instead of 300.
GCC_CORE_FLAGS = ["--param=max-inline-insns-single=1000"]
OPENMP_FLAGS = ["-fopenmp"]
# Constants in the pages of the code, as before binutils 2.31: half as many maps of files.  Of an
# import of 1.9 ms that saves 0.12, of the installed files 0.1 MB.
LINK_FLAGS = ["-Wl,-z,noseparate-code"]

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


def extension(name: str, modules: list[str]) -> Extension:
    return Extension(
        f"relu_ext.{name}",
        [str(PACKAGE / f"{module}.pyx") for module in modules],
        include_dirs=[str(PACKAGE), np.get_include()],
        depends=[str(header) for header in PACKAGE.glob("*.h")],
        define_macros=[
            ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
            # A wheel is compressed anyway, and an import need not expand them.
            ("CYTHON_COMPRESS_STRINGS", "0"),
        ],
    )


def with_pragmas(text: str) -> str:
    """Say before each loop over a row that its arrays are one or apart, which is the contract, and
    before those of the operations that two vectors may be computed in each turn.

    Cython has no words for it.  GCC then compares no addresses before a loop and keeps no other
    loop for arrays that overlap: a twelfth less of machine code, and rows of 10 float32 take 0.73
    (v4) to 0.88 (v3) of the time (Zen 5).
    """
    row = re.compile(
        r"^static CYTHON_INLINE void \w+_row\([^;\n]*\{\n.*?^\}", re.MULTILINE | re.DOTALL
    )
    loop = re.compile(r"^ +for \(__pyx_t_\d+ = [^;]+; __pyx_t_\d+ < ", re.MULTILINE)

    def marked(function: re.Match[str]) -> str:
        is_operation = "operate_row(" in function[0].partition("{")[0]
        pragmas = "RELU_EXT_NO_ALIASES\n" + "RELU_EXT_TWO_VECTORS\n" * is_operation
        return loop.sub(pragmas + r"\g<0>", function[0])

    text = row.sub(marked, text)
    if "RELU_EXT_TWO_VECTORS" not in text:
        raise SystemExit("relu_ext: this Cython writes loops in a way that setup.py does not know")
    return text


class BuildExtensions(build_ext):
    """Builds the CPU levels that the compiler knows, and tells _dispatch which.

    Several compilers run at once unless the environment variable RELU_EXT_BUILD_JOBS is 1.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            affinity = getattr(os, "sched_getaffinity", None)
            cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
            self.parallel = int(os.environ.get("RELU_EXT_BUILD_JOBS") or cpus)

    def build_extensions(self) -> None:
        if self.verbose <= 1:  # a line for each part is enough
            logging.disable(logging.INFO)
        unix = self.compiler.compiler_type == "unix"
        if unix and not self.compiles("#include <stdlib.h>"):
            raise SystemExit(
                "relu_ext is compiled from C: install a C compiler (Debian and Ubuntu: "
                "`apt install gcc libc6-dev`; Fedora: `dnf install gcc`), or name yours in CC"
            )
        if unix and not self.compiles("#include <Python.h>"):
            raise SystemExit(
                "relu_ext needs Python's headers to build: install them (Debian and Ubuntu: "
                "`apt install python3-dev`; Fedora: `dnf install python3-devel`)"
            )
        levels = X86_64_LEVELS if self.plat_name.rpartition("-")[2] in X86_64 else OTHER_LEVELS
        missing = {
            name: f"the compiler does not take {' '.join(flags)}"
            for name, flags in levels.items()
            if unix and not self.compiles("", flags)
        }
        built = {name: flags for name, flags in levels.items() if name not in missing}
        wanted = {*(f"_kernels_{level}" for level in built), "_core"}
        if unix and self.compiles("#include <omp.h>", OPENMP_FLAGS):
            wanted.add("_openmp")
        self.extensions = [
            extension
            for extension in self.extensions
            if extension.name.removeprefix("relu_ext.") in wanted
        ]
        self.translate()
        for extension in self.extensions:
            extension.extra_link_args += self.known(LINK_FLAGS)
            self.configure(extension, built, missing)
        # What takes longest comes first.
        self.extensions.sort(
            key=lambda one: sum(Path(source).stat().st_size for source in one.sources), reverse=True
        )
        super().build_extensions()
        for name, why in missing.items():
            print(f"relu_ext was built without the CPU level {name}: {why}")

    def translate(self) -> None:
        """Let Cython write the C files, of the kernels one for all levels but for its name."""
        sources = {source: None for extension in self.extensions for source in extension.sources}
        jobs = self.parallel or 1
        translated = cythonize(  # type: ignore[no-untyped-call]
            [Extension(f"relu_ext.{Path(source).stem}", [source]) for source in sources],
            nthreads=jobs if jobs > 1 else 0,
            quiet=True,
            force=self.force,
            build_dir=self.build_temp,
            compiler_directives=DIRECTIVES,
        )
        written = {extension.name: Path(extension.sources[0]) for extension in translated}
        for extension in self.extensions:
            package, _, name = extension.name.partition(".")
            if name.startswith("_kernels_"):
                text = with_pragmas(written[f"{package}._kernels"].read_text())
                text = text.replace("_kernels", name)
                source = written[f"{package}._kernels"].with_stem(name)
                if not source.exists() or source.read_text() != text:
                    source.write_text(text)
                extension.sources = [str(source)]
            else:
                extension.sources = [
                    str(written[f"{package}.{Path(source).stem}"]) for source in extension.sources
                ]

    def configure(
        self, extension: Extension, levels: dict[str, list[str]], missing: dict[str, str]
    ) -> None:
        name = extension.name.removeprefix("relu_ext.")
        unix = self.compiler.compiler_type == "unix"
        if unix:
            extension.extra_compile_args += UNIX_FLAGS
        if name.startswith("_kernels_") and unix:
            level = name.removeprefix("_kernels_")
            extension.extra_compile_args += KERNEL_FLAGS + levels[level]
            extension.extra_compile_args += self.known(GCC_KERNEL_FLAGS)
            if level == "v2":
                extension.extra_compile_args += self.known(GCC_V2_FLAGS)
        elif name == "_openmp":
            extension.extra_compile_args += OPENMP_FLAGS + COLD_FLAGS
            extension.extra_link_args += OPENMP_FLAGS
        elif name == "_core":
            extension.extra_compile_args += self.known(GCC_CORE_FLAGS)
            openmp = any(other.name == "relu_ext._openmp" for other in self.extensions)
            reasons = "; ".join(f"{level}: {why}" for level, why in missing.items())
            extension.define_macros += [
                ("RELU_EXT_OPENMP", str(int(openmp))),
                ("RELU_EXT_LEVELS", f'"{" ".join(levels)}"'),
                ("RELU_EXT_LEVELS_MISSING", f'"{reasons}"'),
            ]

    def build_extension(self, extension: Extension) -> None:
        start = time.monotonic()
        if self.compiler.compiler_type == "unix":
            cold = [str(source) for source in extension.sources if Path(source).stem in COLD]
            extension.sources = [source for source in extension.sources if source not in cold]
            extension.depends += cold
            extension.extra_objects += self.compiler.compile(
                cold,
                output_dir=self.build_temp,
                macros=extension.define_macros,
                include_dirs=extension.include_dirs,
                extra_postargs=extension.extra_compile_args + COLD_FLAGS,
                depends=extension.depends,
            )
        super().build_extension(extension)
        if self.verbose:
            print(f"built {extension.name} in {time.monotonic() - start:.0f} s", flush=True)

    def known(self, flags: list[str]) -> list[str]:
        """These flags, or none if the compiler does not know them."""
        unix = self.compiler.compiler_type == "unix"
        return flags if unix and self.compiles("", flags) else []

    def compiles(self, code: str, flags: list[str] | None = None) -> bool:
        """Whether the compiler makes a shared library of some code under some flags."""
        with TemporaryDirectory() as folder:
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


if __name__ == "__main__":  # not in the processes of `cythonize`
    setup(
        ext_modules=[
            *(
                extension(f"_kernels_{level}", ["_kernels"])
                for level in X86_64_LEVELS | OTHER_LEVELS
            ),
            extension("_openmp", ["_openmp"]),
            extension("_core", MODULES),
        ],
        cmdclass={"build_ext": BuildExtensions},
    )
