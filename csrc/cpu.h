#ifndef TC_CPU_H
#define TC_CPU_H

#include <stddef.h>

int tc_cpu_has_avx2(void);
int tc_cpu_has_avx512(void);
/* Flushes denormal numbers to zero on this thread; restore with what it returned. */
unsigned tc_denormals_off(void);
void tc_denormals_restore(unsigned mode);
/* Threads for so many multiply-adds in so many independent pieces. */
int tc_threads_for(double work, ptrdiff_t pieces);

#endif
