/* What the processor can do at best, measured. */
#define _GNU_SOURCE
#include <time.h>

#include "program.h"
#include "threads.h"

/* Seconds from one look at the clock to the next: long against the start of the threads,
 * short against what else runs on the machine. */
#define STRETCH 0.01

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Operations done by `threads` threads in `rounds` steps each. */
static double run(const tc_kernels *k, int threads, ptrdiff_t rounds) {
    double operations = 0;
    (void)threads;
    TC_PRAGMA(omp parallel num_threads(threads) reduction(+ : operations) if (threads > 1))
    {
        float sink;
        operations += k->peak(rounds, &sink);
    }
    return operations;
}

double tc_measure_peak(double seconds) {
    const tc_kernels *k = tc_selected_kernels();
    int threads = tc_threads();
    ptrdiff_t rounds = 10000;
    double best = 0, start = now(), before, taken;
    do { /* on one thread: several may have to wait for a busy processor */
        rounds *= 2;
        before = now();
        run(k, 1, rounds);
    } while (now() - before < STRETCH);
    do {
        before = now();
        double operations = run(k, threads, rounds);
        taken = now() - before;
        if (operations > best * taken) best = operations / taken;
    } while (now() - start < seconds);
    return best;
}
