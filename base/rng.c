/* rng.c - see rng.h. Ten rounds of Philox on the four words of the counter. Whatever is drawn uses
 * one block and throws the rest away: a number must depend on its own counter only, never on how
 * many were drawn before it. rng_normal depends on the C library's log and cos; it makes initial
 * weights and tests, never a sampled token. */
#include "base/rng.h"

#include "base/err.h"
#include "base/hash.h"

#include <math.h>

uint64_t rng_key(uint64_t seed, enum rng_purpose purpose) {
    uint64_t words[2] = {seed, (uint64_t)purpose};
    return hash64(words, sizeof words, 0);
}

void rng_block(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint32_t out[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter_lo, c1 = (uint32_t)(counter_lo >> 32);
    uint32_t c2 = (uint32_t)counter_hi, c3 = (uint32_t)(counter_hi >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static double unit(uint32_t a, uint32_t b) {
    return (double)(((uint64_t)a << 32 | b) >> 11) * 0x1p-53;
}

double rng_uniform(uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
    uint32_t w[4];
    rng_block(key, counter_hi, counter_lo, w);
    return unit(w[0], w[1]);
}

double rng_normal(uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
    uint32_t w[4];
    rng_block(key, counter_hi, counter_lo, w);
    double u = 1.0 - unit(w[0], w[1]), v = unit(w[2], w[3]); /* u in (0, 1] */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v); /* Box-Muller */
}

uint64_t rng_below(uint64_t key, uint64_t counter_hi, uint64_t counter_lo, uint64_t n) {
    ASSERT(n > 0);
    uint32_t w[4];
    rng_block(key, counter_hi, counter_lo, w);
    uint64_t x = (uint64_t)w[0] << 32 | w[1];
    return x % n; /* bias below n / 2^64 */
}

void rng_permutation(uint64_t key, uint64_t epoch, uint32_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(key, epoch, i, i);
        uint32_t t = out[i - 1];
        out[i - 1] = out[j];
        out[j] = t;
    }
}
