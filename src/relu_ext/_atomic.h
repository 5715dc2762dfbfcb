/* Relaxed atomics: integers that several threads read and write, never half of one. */
#ifndef RELU_EXT_ATOMIC_H
#define RELU_EXT_ATOMIC_H

#ifdef __GNUC__
#define RELU_EXT_LOAD(number) __atomic_load_n(&(number), __ATOMIC_RELAXED)
#define RELU_EXT_STORE(number, value) __atomic_store_n(&(number), (value), __ATOMIC_RELAXED)
#else
#define RELU_EXT_LOAD(number) (*(volatile int *)&(number))
#define RELU_EXT_STORE(number, value) (*(volatile int *)&(number) = (value))
#endif

#endif
