/* Threads: how many the user asked for, and whether this process may use those of OpenMP. Only
 * _threads.pyx includes this file. */
#ifndef RELU_EXT_THREADS_H
#define RELU_EXT_THREADS_H

#include <stddef.h>

#include "_atomic.h"

/* Any thread may ask for threads while others compute. */
static int relu_ext_asked = 1;

static inline int relu_ext_threads_asked(void)
{
    return RELU_EXT_LOAD(relu_ext_asked);
}

static inline void relu_ext_ask_threads(int threads)
{
    RELU_EXT_STORE(relu_ext_asked, threads);
}

#if RELU_EXT_OPENMP
#include <unistd.h>

/* The threads of libgomp belong to the thread that uses them, and a fork does not copy them. In the
 * child, the next parallel region on the thread that forked therefore waits for them for ever. A
 * trial region would not show this in time, because it returns on any other thread of the child. So
 * a process that may have inherited such threads uses one thread only: every fork of the process
 * that imported this module, and an importing process that is itself a fork and loaded the OpenMP
 * runtime before this module. */
static pid_t relu_ext_importing_process;
static int relu_ext_inherited_runtime;

#ifdef __linux__
#include <link.h>
#include <stdint.h>

static int relu_ext_holds(const struct dl_phdr_info *object, uintptr_t address)
{
    int i;
    for (i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_LOAD &&
            address - (object->dlpi_addr + object->dlpi_phdr[i].p_vaddr) <
                object->dlpi_phdr[i].p_memsz)
            return 1;
    return 0;
}

/* Returns 2 if the OpenMP runtime was loaded first and 1 if this module was: objects are visited in
 * the order of their loading. They are recognised by an address in them, because wheels rename the
 * runtimes that they bring. */
static int relu_ext_first_loaded(struct dl_phdr_info *object, size_t size, void *runtime)
{
    (void)size;
    if (relu_ext_holds(object, (uintptr_t)runtime))
        return 2;
    return relu_ext_holds(object, (uintptr_t)&relu_ext_asked);
}

static int relu_ext_may_inherit(void *runtime, int is_fork)
{
    return is_fork && dl_iterate_phdr(relu_ext_first_loaded, runtime) == 2;
}
#else
static int relu_ext_may_inherit(void *runtime, int is_fork)
{
    (void)runtime;
    (void)is_fork;
    return 0; /* the runtimes of other systems start anew after a fork */
}
#endif

/* Is called once, when this module is imported. */
static void relu_ext_start_threads(void)
{
    relu_ext_importing_process = getpid();
}

/* Is called with an address in the OpenMP runtime, before the runtime is used. */
static void relu_ext_meet_runtime(void *runtime, int is_fork)
{
    relu_ext_inherited_runtime = relu_ext_may_inherit(runtime, is_fork);
}

/* Returns why this process may use only one thread, or NULL if it may use several. */
static const char *relu_ext_one_thread_because(void)
{
    if (getpid() != relu_ext_importing_process)
        return "this process was forked from the one that imported relu_ext";
    if (relu_ext_inherited_runtime)
        return "this process was forked, and had OpenMP before it imported relu_ext";
    return NULL;
}
#else
static void relu_ext_start_threads(void)
{
}

static void relu_ext_meet_runtime(void *runtime, int is_fork)
{
    (void)runtime;
    (void)is_fork;
}

static const char *relu_ext_one_thread_because(void)
{
    return "it was built without OpenMP";
}
#endif

#endif
