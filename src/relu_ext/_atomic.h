/* Atomics: integers that several threads read and write, never half of one.  Who reads what a thread
 * stored also reads what that thread wrote before it. */
#ifndef RELU_EXT_ATOMIC_H
#define RELU_EXT_ATOMIC_H

#ifdef __GNUC__
#define RELU_EXT_LOAD(number) __atomic_load_n(&(number), __ATOMIC_ACQUIRE)
#define RELU_EXT_STORE(number, value) __atomic_store_n(&(number), (value), __ATOMIC_RELEASE)
#else  /* x86 orders loads and stores itself; volatile keeps the compiler to it */
#define RELU_EXT_LOAD(number) (*(volatile int *)&(number))
#define RELU_EXT_STORE(number, value) (*(volatile int *)&(number) = (value))
#endif

#endif
