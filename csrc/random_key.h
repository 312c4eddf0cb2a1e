/* Keys of the counter-based random numbers; see random_key in tinyconv/engine/program.py. */
#ifndef TC_RANDOM_KEY_H
#define TC_RANDOM_KEY_H

#include <stdint.h>

static inline uint64_t tc_splitmix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The low half is the first key, the high half the second. */
static inline uint64_t tc_random_key(uint64_t seed, uint64_t step, uint64_t stream, uint64_t image) {
    uint64_t z = tc_splitmix64(seed);
    z = tc_splitmix64(z ^ step);
    z = tc_splitmix64(z ^ stream);
    return tc_splitmix64(z ^ image);
}

/* random_bits in tinyconv/engine/program.py, of one image. */
static inline uint32_t tc_random_bits(uint64_t key, uint32_t element) {
    uint32_t x = (uint32_t)key + element;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x ^= (uint32_t)(key >> 32);
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

/* A number from range[0] to range[1], by an element's. */
static inline double tc_random_between(uint64_t key, uint32_t element, const float *range) {
    return range[0] + ((double)range[1] - range[0]) * ((tc_random_bits(key, element) >> 8) * 0x1p-24);
}

#endif
