"""Threads: how many share a large call, whether this process may use them, and their work.

The number belongs to the process.  Each call asks for it anew, because a fork, `threadpoolctl` or
another thread may have changed it since the last one.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer

import os
import sys
from importlib import import_module
from operator import index

cdef extern from "_atomic.h" nogil:
    int load "RELU_EXT_LOAD"(int number)
    void store "RELU_EXT_STORE"(int number, int value)

cdef extern from *:
    """
    #if RELU_EXT_OPENMP
    #include <unistd.h>
    #else
    #define getpid() 0
    #endif
    """
    bint OPENMP "RELU_EXT_OPENMP"
    int getpid() nogil

cdef enum:
    MOST_THREADS = 1 << 16  # more than any machine has, and within C's int
    # Of each thread, in KiB.  The walker's tiles take up to 50 of them, and sums about 150.
    LEAST_STACK = 256

cdef int asked = 1  # any thread may ask for threads while others compute
cdef int importing_process = getpid()
cdef bint inherited_runtime = False
cdef Team *team = NULL


cdef load_team():
    """Load OpenMP, which takes 0.3 ms, when someone asks for threads."""
    global inherited_runtime, team
    if OPENMP and team == NULL:
        inherited_runtime = may_inherit_runtime()
        module = import_module("relu_ext._openmp")
        team = <Team *>PyCapsule_GetPointer(module.team, "relu_ext.Team")


cdef bint may_inherit_runtime() except -1:
    """Whether this process was forked, has executed no other program since, and has an OpenMP
    runtime already, under its own name or under that which a wheel gave it; or Linux does not tell.
    The flag is PF_FORKNOEXEC.  The runtimes of other systems start anew after a fork."""
    if sys.platform != "linux":
        return False
    try:
        with open("/proc/self/stat", "rb") as file:
            if not int(file.read().rpartition(b")")[2].split()[6]) & 0x40:
                return False
        with open("/proc/self/maps", "rb") as file:
            for line in file:
                if os.path.basename(line).startswith((b"libgomp", b"libomp", b"libiomp")):
                    return True
        return False
    except (OSError, IndexError, ValueError):
        return True


cdef const char *one_thread_because() noexcept nogil:
    """Why this process may use only one thread, or NULL if it may use several.

    The threads of libgomp belong to the thread that uses them, and a fork does not copy them.  In
    the child, the next parallel region on the thread that forked therefore waits for them for ever.
    A trial region would not show this in time, because it returns on any other thread of the child.
    """
    if not OPENMP:
        return "it was built without OpenMP"
    if getpid() != importing_process:
        return "this process was forked from the one that imported relu_ext"
    if inherited_runtime:
        return "this process was forked, and had OpenMP before relu_ext used it"
    return NULL


cdef void share(Part part_of, const void *whole, int parts) noexcept nogil:
    team.share(part_of, whole, parts)


cdef int effective_threads() noexcept nogil:
    cdef int threads = load(asked)
    if threads == 1 or team == NULL or one_thread_because() != NULL:
        return 1
    return min(threads, team.most_threads())


def set_num_threads(num_threads, /):
    """Let several threads share a call on large arrays.

    The default is one thread.  A call on 1 MiB or more is shared by up to `num_threads`, each of
    which takes at least 512 KiB.  That is faster on an idle machine, but slower where the cores are
    busy, because the call waits for its last thread.  ``OMP_NUM_THREADS``, CPU affinity and
    ``threadpoolctl`` may lower the number.  After a fork the child uses one thread.  So does a
    forked process that had OpenMP before relu_ext used it; `show_config` says so.
    The threads compute under the floating-point settings of the calling thread.

    Parameters
    ----------
    num_threads : int
        At least 1.

    Raises
    ------
    ValueError
        If `num_threads` is less than 1 or more than 65,536.
    TypeError
        If it is not an integer.
    RuntimeError
        If the system does not let this process start as many threads, or if ``OMP_STACKSIZE`` gives
        them less than 256 KiB each.  Where limits are lowered later, OpenMP ends the process.

    Examples
    --------
    >>> import relu_ext
    >>> relu_ext.set_num_threads(1)
    >>> relu_ext.get_num_threads()
    1
    """
    cdef int before = load(asked)
    try:
        number = index(num_threads)
    except TypeError:
        raise TypeError("set_num_threads: num_threads has to be an integer, not "
                        f"{type(num_threads).__name__}") from None
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"set_num_threads: expected a number of threads from 1 to "
                         f"{MOST_THREADS}, not {num_threads!r}")
    if number > 1:
        load_team()
        check_stack()
    store(asked, number)
    if effective_threads() > 1 and not team.can_start(effective_threads()):
        store(asked, before)
        raise RuntimeError(f"set_num_threads: this process cannot start {num_threads} threads; "
                           "its limits of processes or of memory are too low")


cdef check_stack():
    """Raise if OpenMP's threads get a stack that the walker would outgrow."""
    text = os.environ.get("OMP_STACKSIZE", os.environ.get("GOMP_STACKSIZE", "")).strip().upper()
    digits = text.rstrip("BKMG ")
    if not digits.isdecimal():
        return  # OpenMP's own default, which is the system's
    unit = text[len(digits):].strip()
    kib = int(digits) * {"B": 1, "M": 1 << 20, "G": 1 << 30}.get(unit, 1 << 10) >> 10
    if kib < LEAST_STACK:
        raise RuntimeError(f"set_num_threads: OMP_STACKSIZE={text} is too small; give the threads "
                           f"at least {LEAST_STACK}K")


def get_num_threads():
    """The number of threads that a call on a large array would use now.

    Returns
    -------
    int
        The number set, or fewer if OpenMP, its settings or a fork allow only fewer.

    See Also
    --------
    set_num_threads

    Examples
    --------
    >>> import relu_ext
    >>> relu_ext.get_num_threads() >= 1
    True
    """
    return effective_threads()


def has_openmp():
    return bool(OPENMP)


def why_one_thread():
    """Why this process uses only one thread, or None if it may use several."""
    cdef const char *reason
    load_team()
    reason = one_thread_because()
    return None if reason == NULL else reason.decode()


cdef start():
    text = os.environ.get("RELU_EXT_NUM_THREADS") or "1"
    try:
        set_num_threads(int(text))
    except ValueError:
        raise ValueError("environment variable RELU_EXT_NUM_THREADS: expected a number of threads "
                         f"from 1 to {MOST_THREADS}, not {text!r}") from None


start()
