/* rng.h - counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random numbers: as
 * easy as 1, 2, 3", SC'11). A value is a pure function of (key, counter): no state to save, share
 * or seed (invariant I5). */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* What a number is for; mixed into the key so that no two uses share a sequence. */
enum rng_purpose { RNG_INIT = 1, RNG_SAMPLE, RNG_SHUFFLE, RNG_DATA, RNG_TEST, RNG_CHOOSE };

uint64_t rng_key(uint64_t seed, enum rng_purpose purpose);
void rng_block(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint32_t out[4]);
double rng_uniform(uint64_t key, uint64_t counter_hi, uint64_t counter_lo); /* [0, 1), 53 bits */
double rng_normal(uint64_t key, uint64_t counter_hi, uint64_t counter_lo);  /* mean 0, variance 1 */
uint64_t rng_below(uint64_t key, uint64_t counter_hi, uint64_t counter_lo,
                   uint64_t n); /* [0, n), n > 0 */
/* Fisher-Yates: out becomes a permutation of 0..n-1 that depends on (key, epoch) only. */
void rng_permutation(uint64_t key, uint64_t epoch, uint32_t *out, uint32_t n);

#endif
