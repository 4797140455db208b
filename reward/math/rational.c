/* rational.c - schoolbook arithmetic on fixed arrays of 32-bit words. Answers are almost always a
 * few digits long, so the only speed that matters is the common case: the greatest common divisor
 * goes through 64-bit arithmetic when both sides fit. The general path (binary gcd, bitwise long
 * division) costs some ten microseconds at full size, which bounds what hostile text can burn.
 *
 * Every operation works on a copy and stores the result last, so that out may alias an operand and
 * a refused operation changes nothing. */
#include "reward/math/rational.h"

#include <ctype.h>
#include <string.h>

static void trim_zeros(struct rational_nat *a) {
    while (a->n > 0 && a->w[a->n - 1] == 0)
        a->n--;
}

static struct rational_nat nat_small(uint64_t x) {
    struct rational_nat a = {.n = 2, .w = {(uint32_t)x, (uint32_t)(x >> 32)}};
    trim_zeros(&a);
    return a;
}

static uint64_t nat_low(const struct rational_nat *a) {
    uint64_t hi = a->n > 1 ? a->w[1] : 0;
    return hi << 32 | (a->n > 0 ? a->w[0] : 0);
}

static bool is_one(const struct rational_nat *a) {
    return a->n == 1 && a->w[0] == 1;
}

static int nat_cmp(const struct rational_nat *a, const struct rational_nat *b) {
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (uint32_t i = a->n; i-- > 0;)
        if (a->w[i] != b->w[i]) return a->w[i] < b->w[i] ? -1 : 1;
    return 0;
}

static bool nat_add(struct rational_nat *out, const struct rational_nat *a,
                    const struct rational_nat *b) {
    struct rational_nat r = {0};
    uint32_t n = a->n > b->n ? a->n : b->n;
    uint64_t carry = 0;
    for (uint32_t i = 0; i < n; i++) {
        carry += (uint64_t)(i < a->n ? a->w[i] : 0) + (i < b->n ? b->w[i] : 0);
        r.w[i] = (uint32_t)carry;
        carry >>= 32;
    }
    r.n = n;
    if (carry) {
        if (n == RATIONAL_WORDS) return false;
        r.w[r.n++] = (uint32_t)carry;
    }
    *out = r;
    return true;
}

/* a -= b; a >= b */
static void nat_sub(struct rational_nat *a, const struct rational_nat *b) {
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        borrow += (int64_t)a->w[i] - (i < b->n ? b->w[i] : 0);
        a->w[i] = (uint32_t)borrow;
        borrow >>= 32;
    }
    trim_zeros(a);
}

static bool nat_mul(struct rational_nat *out, const struct rational_nat *a,
                    const struct rational_nat *b) {
    uint32_t w[2 * RATIONAL_WORDS] = {0};
    struct rational_nat r = {.n = a->n + b->n};
    for (uint32_t i = 0; i < a->n; i++) {
        uint64_t carry = 0;
        for (uint32_t j = 0; j < b->n; j++) {
            carry += (uint64_t)a->w[i] * b->w[j] + w[i + j];
            w[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        w[i + b->n] = (uint32_t)carry;
    }
    while (r.n > 0 && w[r.n - 1] == 0)
        r.n--;
    if (r.n > RATIONAL_WORDS) return false;
    memcpy(r.w, w, r.n * sizeof w[0]);
    *out = r;
    return true;
}

static void nat_half(struct rational_nat *a) {
    for (uint32_t i = 0; i < a->n; i++)
        a->w[i] = a->w[i] >> 1 | (i + 1 < a->n ? a->w[i + 1] << 31 : 0);
    trim_zeros(a);
}

/* a = 2a + bit; false if a bit falls off */
static bool nat_double(struct rational_nat *a, uint32_t bit) {
    uint32_t carry = bit;
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t next = a->w[i] >> 31;
        a->w[i] = a->w[i] << 1 | carry;
        carry = next;
    }
    if (!carry) return true;
    if (a->n == RATIONAL_WORDS) return false;
    a->w[a->n++] = carry;
    return true;
}

static uint64_t gcd64(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* a, b > 0 */
static struct rational_nat nat_gcd(struct rational_nat a, struct rational_nat b) {
    uint32_t twos = 0;
    if (a.n <= 2 && b.n <= 2) return nat_small(gcd64(nat_low(&a), nat_low(&b)));
    for (; !(a.w[0] & 1) && !(b.w[0] & 1); twos++) {
        nat_half(&a);
        nat_half(&b);
    }
    while (a.n > 0) {
        while (!(a.w[0] & 1))
            nat_half(&a);
        while (!(b.w[0] & 1))
            nat_half(&b);
        if (nat_cmp(&a, &b) < 0) {
            struct rational_nat t = a;
            a = b;
            b = t;
        }
        nat_sub(&a, &b);
    }
    while (twos-- > 0)
        (void)nat_double(&b, 0); /* never overflows: the gcd is not above its operands */
    return b;
}

/* a / b without the remainder; b > 0 */
static struct rational_nat nat_quotient(const struct rational_nat *a,
                                        const struct rational_nat *b) {
    struct rational_nat q = {.n = a->n}, rest = {0};
    if (a->n <= 2 && b->n <= 2) return nat_small(nat_low(a) / nat_low(b));
    for (uint32_t i = a->n * 32; i-- > 0;) {
        (void)nat_double(&rest, a->w[i / 32] >> (i % 32) & 1); /* rest < b before: it fits */
        if (nat_cmp(&rest, b) < 0) continue;
        nat_sub(&rest, b);
        q.w[i / 32] |= 1u << (i % 32);
    }
    trim_zeros(&q);
    return q;
}

static void reduce(struct rational *x) {
    if (x->num.n == 0) {
        *x = rational_int(0);
        return;
    }
    if (is_one(&x->den)) return;
    struct rational_nat g = nat_gcd(x->num, x->den);
    if (is_one(&g)) return;
    x->num = nat_quotient(&x->num, &g);
    x->den = nat_quotient(&x->den, &g);
}

struct rational rational_int(int64_t x) {
    uint64_t magnitude = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    return (struct rational){.negative = x < 0, .num = nat_small(magnitude), .den = nat_small(1)};
}

bool rational_add(struct rational *out, const struct rational *a, const struct rational *b) {
    struct rational r = {.negative = a->negative};
    struct rational_nat x, y;
    if (!nat_mul(&x, &a->num, &b->den) || !nat_mul(&y, &b->num, &a->den) ||
        !nat_mul(&r.den, &a->den, &b->den))
        return false;
    if (a->negative == b->negative) {
        if (!nat_add(&r.num, &x, &y)) return false;
    } else {
        bool swap = nat_cmp(&x, &y) < 0;
        r.negative = swap ? b->negative : a->negative;
        r.num = swap ? y : x;
        nat_sub(&r.num, swap ? &x : &y);
    }
    reduce(&r);
    *out = r;
    return true;
}

bool rational_mul(struct rational *out, const struct rational *a, const struct rational *b) {
    struct rational r = {.negative = a->negative != b->negative};
    if (!nat_mul(&r.num, &a->num, &b->num) || !nat_mul(&r.den, &a->den, &b->den)) return false;
    reduce(&r);
    *out = r;
    return true;
}

bool rational_div(struct rational *out, const struct rational *a, const struct rational *b) {
    struct rational inverse = {.negative = b->negative, .num = b->den, .den = b->num};
    return b->num.n > 0 && rational_mul(out, a, &inverse);
}

bool rational_pow(struct rational *out, const struct rational *a, int64_t exponent) {
    struct rational r = rational_int(1), square = *a;
    uint64_t e = exponent < 0 ? 0 - (uint64_t)exponent : (uint64_t)exponent;
    bool unit = a->num.n == 0 || (is_one(&a->num) && is_one(&a->den));
    if (unit && e > 2) e = 2 + e % 2; /* 0, 1 and -1: parity is all that matters */
    while (e > 0) {
        if ((e & 1) && !rational_mul(&r, &r, &square)) return false;
        e >>= 1;
        if (e && !rational_mul(&square, &square, &square)) return false;
    }
    if (exponent < 0) {
        struct rational one = rational_int(1);
        return rational_div(out, &one, &r);
    }
    *out = r;
    return true;
}

void rational_negate(struct rational *x) {
    if (x->num.n > 0) x->negative = !x->negative;
}

bool rational_equal(const struct rational *a, const struct rational *b) {
    return a->negative == b->negative && nat_cmp(&a->num, &b->num) == 0 &&
           nat_cmp(&a->den, &b->den) == 0;
}

bool rational_is_zero(const struct rational *x) {
    return x->num.n == 0;
}

bool rational_to_int(int64_t *out, const struct rational *x) {
    if (!is_one(&x->den) || x->num.n > 2 || nat_low(&x->num) > INT64_MAX) return false;
    *out = (int64_t)nat_low(&x->num);
    if (x->negative) *out = -*out;
    return true;
}

/* a = a * 10 + digit */
static bool append_digit(struct rational_nat *a, unsigned digit) {
    struct rational_nat ten = nat_small(10), d = nat_small(digit);
    return nat_mul(a, a, &ten) && nat_add(a, a, &d);
}

/* Bytes of the integer part at s, commas included; 0 if there is none. */
static size_t integer_length(const char *s, bool commas) {
    size_t n = strspn(s, "0123456789");
    if (!commas || n == 0 || n > 3) return n;
    while (s[n] == ',' && strspn(s + n + 1, "0123456789") == 3)
        n += 4;
    return n;
}

size_t rational_read(struct rational *out, const char *s, bool commas) {
    struct rational r = {.den = nat_small(1)};
    size_t n = integer_length(s, commas);
    for (size_t i = 0; i < n; i++)
        if (s[i] != ',' && !append_digit(&r.num, (unsigned)(s[i] - '0'))) return 0;
    if (s[n] == '.' && isdigit((unsigned char)s[n + 1])) {
        for (n++; isdigit((unsigned char)s[n]); n++)
            if (!append_digit(&r.num, (unsigned)(s[n] - '0')) || !append_digit(&r.den, 0)) return 0;
    }
    if (n > 0) {
        reduce(&r);
        *out = r;
    }
    return n;
}

static double nat_double_value(const struct rational_nat *a) {
    double x = 0;
    for (uint32_t i = a->n; i-- > 0;)
        x = x * 0x1p32 + a->w[i];
    return x;
}

double rational_to_double(const struct rational *x) {
    double v = nat_double_value(&x->num) / nat_double_value(&x->den);
    return x->negative ? -v : v;
}

bool rational_floor(struct rational *out, const struct rational *x) {
    struct rational r = {.num = nat_quotient(&x->num, &x->den), .den = nat_small(1)};
    struct rational minus_one = rational_int(-1);
    r.negative = x->negative && r.num.n > 0;
    if (x->negative && !is_one(&x->den) && !rational_add(&r, &r, &minus_one)) return false;
    *out = r;
    return true;
}

bool rational_less(const struct rational *a, const struct rational *b) {
    struct rational_nat x, y;
    if (a->negative != b->negative) return a->negative;
    if (!nat_mul(&x, &a->num, &b->den) || !nat_mul(&y, &b->num, &a->den)) return false;
    return nat_cmp(&x, &y) * (a->negative ? -1 : 1) < 0;
}
