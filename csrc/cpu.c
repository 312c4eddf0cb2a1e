/* What the processor and the system offer: instruction sets, threads, denormals. */
#define _GNU_SOURCE
#include "cpu.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "threads.h"
#include "tinyconv.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* __builtin_cpu_supports asks cpuid and also, through xgetbv, whether the system
 * saves the wide registers. */
int tc_cpu_has_avx2(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 0;
#endif
}

int tc_cpu_has_avx512(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
#else
    return 0;
#endif
}

/* Products of tiny numbers would take a slow path of many cycles on some processors;
 * inside the library they count as zero.  The caller's mode is put back. */
unsigned tc_denormals_off(void) {
#if defined(__x86_64__)
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (1u << 24)));
    return (unsigned)mode;
#else
    return 0;
#endif
}

void tc_denormals_restore(unsigned mode) {
#if defined(__x86_64__)
    _mm_setcsr(mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode));
#else
    (void)mode;
#endif
}

/* ---- threads ---------------------------------------------------------------------- */

static atomic_int chosen;   /* by tc_set_threads; 0: the default */
static atomic_int forked;   /* this process is a fork of one that used the library */

#if defined(__unix__) || defined(__APPLE__)
/* OpenMP's threads do not survive a fork and starting them again would wait for the
 * dead ones, so the child stays on one thread. */
static void after_fork_in_child(void) { atomic_store(&forked, 1); }

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork_in_child); }
#endif

#ifdef TC_OPENMP
/* The processors that a container's CPU quota amounts to, rounded up; 0 for no limit. */
static int cgroup_limit(void) {
    double quota = 0, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (file) {
        if (fscanf(file, "%lf %lf", &quota, &period) != 2) quota = 0;
        fclose(file);
    } else if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(file, "%lf", &quota) != 1) quota = 0;
        fclose(file);
        if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
            if (fscanf(file, "%lf", &period) != 1) period = 0;
            fclose(file);
        }
    }
    if (quota <= 0 || period <= 0) return 0;
    int whole = (int)(quota / period);
    return whole + (quota > whole * period);
}

static int default_threads(void) {
    static atomic_int known;
    int threads = atomic_load(&known);
    if (threads) return threads;
    threads = omp_get_max_threads(); /* OMP_NUM_THREADS, or the processors of the affinity mask */
    if (!getenv("OMP_NUM_THREADS")) {
        int limit = cgroup_limit();
        if (limit > 0 && limit < threads) threads = limit;
    }
    if (threads < 1) threads = 1;
    atomic_store(&known, threads);
    return threads;
}
#endif

void tc_set_threads(int threads) { atomic_store(&chosen, threads > 0 ? threads : 0); }

int tc_threads(void) {
#ifdef TC_OPENMP
    if (atomic_load(&forked)) return 1;
    int threads = atomic_load(&chosen);
    return threads ? threads : default_threads();
#else
    return 1;
#endif
}

/* Multiply-adds a thread should have, for its start to pay. */
#define THREAD_WORK 4e5

int tc_threads_for(double work, ptrdiff_t pieces) {
    ptrdiff_t threads = tc_threads();
    if (threads > pieces) threads = pieces;
    if ((double)threads > work / THREAD_WORK + 1) threads = (ptrdiff_t)(work / THREAD_WORK) + 1;
    return (int)threads;
}

int tc_has_openmp(void) {
#ifdef TC_OPENMP
    return 1;
#else
    return 0;
#endif
}
