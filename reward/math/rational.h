/* rational.h - exact fractions for comparing answers: numerator and denominator of up to 1024 bits
 * (308 digits), no allocation. What does not fit is refused, never rounded: 0.333 is not 1/3. */
#ifndef REWARD_MATH_RATIONAL_H
#define REWARD_MATH_RATIONAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RATIONAL_WORDS = 32 };

struct rational_nat { /* natural number, little-endian words, w[n - 1] != 0; zero has n = 0 */
    uint32_t n;
    uint32_t w[RATIONAL_WORDS];
};

struct rational { /* reduced; den > 0; zero is not negative */
    bool negative;
    struct rational_nat num, den;
};

struct rational rational_int(int64_t x);
/* out may be a or b. false: the result does not fit, or is a division by zero; *out is untouched.
 */
bool rational_add(struct rational *out, const struct rational *a, const struct rational *b);
bool rational_mul(struct rational *out, const struct rational *a, const struct rational *b);
bool rational_div(struct rational *out, const struct rational *a, const struct rational *b);
bool rational_pow(struct rational *out, const struct rational *a, int64_t exponent);
void rational_negate(struct rational *x);
bool rational_equal(const struct rational *a, const struct rational *b);
bool rational_is_zero(const struct rational *x);
bool rational_to_int(int64_t *out, const struct rational *x); /* false: no integer, or too large */
double rational_to_double(const struct rational *x);          /* inf or nan where it does not fit */
bool rational_floor(struct rational *out, const struct rational *x); /* out may be x */
/* a < b; false also where the products do not fit. */
bool rational_less(const struct rational *a, const struct rational *b);

/* Reads an unsigned decimal at s: 18, 1,234,567 (if commas), 2.50, .5; neither sign nor exponent.
 * A comma counts only between a group of 1-3 digits and groups of exactly 3, a point only before a
 * digit. Returns the bytes read; 0 if there is no number or it does not fit. */
size_t rational_read(struct rational *out, const char *s, bool commas);

#endif
