/* Threads: the only place that knows OpenMP.  Without it everything runs serially. */
#ifndef TC_THREADS_H
#define TC_THREADS_H

#ifdef TC_OPENMP
#include <omp.h>
#define TC_PRAGMA(text) _Pragma(#text)
static inline int tc_thread_number(void) { return omp_get_thread_num(); }
#else
#define TC_PRAGMA(text)
static inline int tc_thread_number(void) { return 0; }
#endif

#endif
