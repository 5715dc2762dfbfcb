"""The only file that knows CPUs: which kernel levels were built, run here, and are in use, and how
large the last-level cache is."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from relu_ext._table cimport KernelTable

import os
from collections import namedtuple
from importlib import import_module

cdef extern from *:
    """
    /* This module asks the CPU, because it is compiled for any: even initialising a level's own
     * module executes that level's instructions.  By four CPUID instructions, because a virtual
     * machine is left for each: those of __builtin_cpu_supports take 0.13 ms in one.  Besides,
     * compilers know the levels' names only since GCC 12 and Clang 18. */
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <cpuid.h>
    #define HAS(features, all) (((features) & (all)) == (all))
    static int relu_ext_x86_64_level(void)
    {
        unsigned basic, structured, extended, states, eax, ebx, ecx, edx;
        __cpuid(1, eax, ebx, basic, edx);
        if (!HAS(basic, bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT))
            return 1;
        if (!HAS(basic, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_MOVBE))
            return 2;
        /* Asks also for the highest leaf, which a BIOS may hold below 7. */
        if (!__get_cpuid_count(7, 0, &eax, &structured, &ecx, &edx))
            return 2;
        __cpuid(0x80000001, eax, ebx, extended, edx);
        /* Which registers the system saves: 1 and 2 are those of AVX, 5 to 7 those of AVX-512. */
        __asm__("xgetbv" : "=a"(states), "=d"(edx) : "c"(0));
        if (!HAS(states, 0x06) || !HAS(structured, bit_AVX2 | bit_BMI | bit_BMI2)
            || !HAS(extended, bit_LZCNT))
            return 2;
        if (!HAS(states, 0xe0) || !HAS(structured, bit_AVX512F | bit_AVX512BW | bit_AVX512CD
                                                       | bit_AVX512DQ | bit_AVX512VL))
            return 3;
        return 4;
    }
    #undef HAS
    #else
    #define relu_ext_x86_64_level() 0
    #endif
    """
    int x86_64_level "relu_ext_x86_64_level"()
    const char *RELU_EXT_LEVELS
    const char *RELU_EXT_LEVELS_MISSING

cdef tuple built = tuple(RELU_EXT_LEVELS.decode().split())
cdef int highest = x86_64_level()
cdef tuple available = tuple(
    [level for level in built if level == "base" or int(level[1:]) <= highest])
cdef str active = None

# Why each other level is missing, as setup.py found it: {level: reason}.
missing = dict(
    [line.split(": ", 1) for line in RELU_EXT_LEVELS_MISSING.decode().split("; ") if line])


CPULevels = namedtuple("CPULevels", ["built", "available", "active"], module=__name__)
CPULevels.__doc__ = "The CPU levels of the kernels: built, available on this machine, active."


def cpu_levels():
    """The CPU levels of the kernels.

    Returns
    -------
    CPULevels
        A named tuple of ``built`` (levels compiled into this installation), ``available`` (those
        that this CPU runs) and ``active`` (the one in use: the last available one, unless the
        environment variable ``RELU_EXT_CPU_LEVEL`` named another when relu_ext was imported).

    Examples
    --------
    >>> import relu_ext
    >>> levels = relu_ext.cpu_levels()
    >>> levels.active in levels.available
    True
    """
    return CPULevels(built, available, active)


cdef Py_ssize_t read_last_level_cache() except -1:
    """The size in bytes of the first core's third-level cache or, where there is none, of its
    second-level cache; 0 if Linux does not tell."""
    for level in (3, 2):
        try:
            with open(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size", "rb") as file:
                return int(file.read().strip().removesuffix(b"K")) << 10
        except (OSError, ValueError):
            continue
    return 0


def use(level):
    """Make `level` the active one, for tests and benchmarks.

    A call that another thread runs meanwhile computes with the old or the new level's table.  Both
    stay in place for as long as the process runs.
    """
    global active, active_table
    if level not in available:
        reason = ("is built, but this CPU does not run it" if level in built
                  else f"was not built ({missing[level]})" if level in missing
                  else "is not a CPU level of this machine")
        raise ValueError(f"{str(level)!r} {reason}; valid here: {', '.join(map(repr, available))}")
    # A level that was built and runs here but cannot be imported is a broken installation: the
    # ImportError says so.
    module = import_module(f"relu_ext._kernels_{level}")
    active_table = <KernelTable *>PyCapsule_GetPointer(module.kernel_table, "relu_ext.KernelTable")
    # This string belongs to the tuple, so it stays alive while another thread reads it.
    active = available[available.index(level)]


cdef start():
    global last_level_cache
    if not available:
        raise ImportError(
            "relu_ext needs a CPU that runs x86-64-v2 (SSE4.2 and POPCNT); this one does not")
    last_level_cache = read_last_level_cache() or 32 << 20
    try:
        use(os.environ.get("RELU_EXT_CPU_LEVEL") or available[-1])
    except ValueError as error:
        raise ValueError(f"environment variable RELU_EXT_CPU_LEVEL: {error}") from None


start()
