/* rational_test.c - exact fractions against 128-bit arithmetic on random small values, against
 * algebraic laws on large ones, and at the limits. */
#include "reward/math/rational.h"

#include "base/rng.h"
#include "tests/test.h"

static uint64_t draw(uint64_t i, uint64_t j, uint64_t below) {
    return rng_below(rng_key(test_seed(), RNG_TEST), i, j, below);
}

static struct rational fraction(int64_t a, int64_t b) {
    struct rational x = rational_int(a), y = rational_int(b);
    CHECK(rational_div(&x, &x, &y));
    return x;
}

static struct rational read_all(const char *s) {
    struct rational x;
    CHECK_INT(rational_read(&x, s, true), strlen(s));
    return x;
}

TEST(rational_small_arithmetic) {
    for (uint64_t i = 0; i < 20000; i++) {
        int64_t a = (int64_t)draw(i, 0, 20001) - 10000, b = (int64_t)draw(i, 1, 999) + 1;
        int64_t c = (int64_t)draw(i, 2, 20001) - 10000, d = (int64_t)draw(i, 3, 999) + 1;
        struct rational x = fraction(a, b), y = fraction(c, d), z, want;
        CHECK(rational_equal(&x, &y) == (a * d == b * c));
        want = fraction(a * d + b * c, b * d);
        CHECK(rational_add(&z, &x, &y) && rational_equal(&z, &want));
        want = fraction(a * c, b * d);
        CHECK(rational_mul(&z, &x, &y) && rational_equal(&z, &want));
        CHECK(rational_div(&z, &x, &y) == (c != 0));
        if (c == 0) continue;
        want = fraction(a * d, b * c);
        CHECK(rational_equal(&z, &want));
    }
}

/* A number of up to 14 words, so that products of two fit. */
static struct rational large(uint64_t i, uint64_t salt) {
    struct rational x = rational_int((int64_t)draw(i, salt, 1000) + 1);
    struct rational base = rational_int(1 + (int64_t)draw(i, salt + 1, 1u << 31));
    CHECK(rational_pow(&base, &base, (int64_t)draw(i, salt + 2, 7)));
    CHECK(rational_mul(&x, &x, &base));
    if (draw(i, salt + 3, 2)) rational_negate(&x);
    return x;
}

TEST(rational_large_laws) {
    for (uint64_t i = 0; i < 2000; i++) {
        struct rational a = large(i, 0), b = large(i, 10), c = large(i, 20), p, q, r;
        CHECK(rational_div(&p, &a, &b) && rational_mul(&p, &p, &b) && rational_equal(&p, &a));
        CHECK(rational_add(&p, &a, &b) && rational_add(&q, &b, &a) && rational_equal(&p, &q));
        CHECK(rational_mul(&p, &p, &c));
        CHECK(rational_mul(&q, &a, &c) && rational_mul(&r, &b, &c) && rational_add(&q, &q, &r));
        CHECK(rational_equal(&p, &q));
        CHECK(rational_div(&p, &a, &b) && rational_div(&q, &b, &a));
        CHECK(rational_mul(&p, &p, &q));
        q = rational_int(1);
        CHECK(rational_equal(&p, &q));
    }
}

TEST(rational_limits) {
    struct rational x = rational_int(2), y;
    int64_t i;
    CHECK(rational_pow(&y, &x, 1023));
    CHECK(!rational_pow(&y, &x, 1024));
    CHECK(!rational_mul(&x, &y, &y));
    CHECK(rational_pow(&x, &x, -1023));
    CHECK(rational_mul(&y, &x, &y));
    CHECK(rational_to_int(&i, &y));
    CHECK_INT(i, 1);
    x = rational_int(-1);
    CHECK(rational_pow(&y, &x, INT64_MIN) && rational_to_int(&i, &y));
    CHECK_INT(i, 1);
    CHECK(rational_pow(&y, &x, INT64_MAX) && rational_to_int(&i, &y));
    CHECK_INT(i, -1);
    x = rational_int(0);
    CHECK(!rational_pow(&y, &x, -1));
    CHECK(!rational_div(&y, &x, &x));
    x = rational_int(INT64_MIN);
    CHECK(!rational_to_int(&i, &x));
    x = rational_int(INT64_MAX);
    CHECK(rational_to_int(&i, &x) && i == INT64_MAX);
    x = fraction(1, 2);
    CHECK(!rational_to_int(&i, &x));
}

TEST(rational_read_forms) {
    struct rational a, b;
    a = read_all("1,234,567.50"), b = fraction(2469135, 2);
    CHECK(rational_equal(&a, &b));
    a = read_all(".25"), b = fraction(1, 4);
    CHECK(rational_equal(&a, &b));
    a = read_all("007"), b = rational_int(7);
    CHECK(rational_equal(&a, &b));
    CHECK_INT(rational_read(&a, "1,23", true), 1);
    CHECK_INT(rational_read(&a, "1234,567", true), 4);
    CHECK_INT(rational_read(&a, "1,234", false), 1);
    CHECK_INT(rational_read(&a, "1,2345", true), 1);
    CHECK_INT(rational_read(&a, "5.", true), 1);
    CHECK_INT(rational_read(&a, "", true), 0);
    CHECK_INT(rational_read(&a, ".", true), 0);
    CHECK_INT(rational_read(&a, "-5", true), 0);
    CHECK_INT(rational_read(&a, "x", true), 0);
}
