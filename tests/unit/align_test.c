/* align_test.c - the decision on explicit vectors: what it does to a gradient is measured, not
 * recomputed by the same formula. */
#include "trainer/optim/align.h"

#include "base/rng.h"
#include "tests/test.h"

enum { DIM = 50 };

static double dot(const double *a, const double *b) {
    double s = 0;
    for (int i = 0; i < DIM; i++)
        s += a[i] * b[i];
    return s;
}

/* g with cosine exactly about c to p, of another length. */
static void vectors(uint64_t seed, double c, double *g, double *p) {
    double q[DIM];
    uint64_t key = rng_key(seed, RNG_TEST);
    for (int i = 0; i < DIM; i++) {
        p[i] = rng_normal(key, 0, (uint64_t)i);
        q[i] = rng_normal(key, 1, (uint64_t)i);
    }
    double along = dot(p, q) / dot(p, p);
    for (int i = 0; i < DIM; i++)
        q[i] -= along * p[i];
    double np = sqrt(dot(p, p)), nq = sqrt(dot(q, q));
    for (int i = 0; i < DIM; i++)
        g[i] = 3.7 * (c * p[i] / np + sqrt(1 - c * c) * q[i] / nq);
}

static struct align_decision decide(const struct align_config *cfg, const double *g,
                                    const double *p, int64_t skips) {
    return align_decide(cfg, dot(g, p), dot(g, g), dot(p, p), true, skips);
}

static const struct align_config on = {.on = true, .c_low = 0.1, .c_high = 0.5};

TEST(align_passes_below_c_low) {
    const double cs[] = {-1, -0.9, -0.2, 0, 0.05, 0.0999999};
    for (size_t k = 0; k < sizeof cs / sizeof cs[0]; k++) {
        double g[DIM], p[DIM];
        vectors(test_seed() + k, cs[k], g, p);
        struct align_decision r = decide(&on, g, p, 0);
        CHECK_INT(r.action, ALIGN_PASS);
        CHECK(r.parallel == 0 && r.square == dot(g, g));
        CHECK_NEAR(r.cosine, cs[k], 1e-12);
    }
}

TEST(align_scales_to_exactly_c_low) {
    const double cs[] = {0.1001, 0.2, 0.35, 0.4999};
    for (size_t k = 0; k < sizeof cs / sizeof cs[0]; k++) {
        double g[DIM], p[DIM];
        vectors(test_seed() + k, cs[k], g, p);
        struct align_decision r = decide(&on, g, p, 1);
        CHECK_INT(r.action, ALIGN_SCALE);
        CHECK_NEAR(r.cosine, cs[k], 1e-12);
        for (int i = 0; i < DIM; i++)
            g[i] += r.parallel * p[i];
        CHECK_NEAR(dot(g, p) / sqrt(dot(g, g) * dot(p, p)), 0.1, 1e-12);
        CHECK_NEAR(r.square / dot(g, g), 1, 1e-12);
    }
}

TEST(align_skips_twice_then_removes) {
    double g[DIM], p[DIM];
    vectors(test_seed(), 0.9, g, p);
    CHECK_INT(decide(&on, g, p, 0).action, ALIGN_SKIP);
    CHECK_INT(decide(&on, g, p, 1).action, ALIGN_SKIP);
    struct align_decision r = decide(&on, g, p, 2);
    CHECK_INT(r.action, ALIGN_SCALE);
    for (int i = 0; i < DIM; i++)
        g[i] += r.parallel * p[i];
    CHECK_NEAR(dot(g, p) / sqrt(dot(g, g) * dot(p, p)), 0, 1e-12);
    CHECK_NEAR(r.square / dot(g, g), 1, 1e-12);
}

TEST(align_off_still_measures) {
    const struct align_config off = {.on = false, .c_low = 0.1, .c_high = 0.5};
    double g[DIM], p[DIM];
    vectors(test_seed(), 0.9, g, p);
    struct align_decision r = decide(&off, g, p, 0);
    CHECK_INT(r.action, ALIGN_OFF);
    CHECK_NEAR(r.cosine, 0.9, 1e-12);
    CHECK(r.parallel == 0);
}

TEST(align_invalid_is_not_zero) {
    CHECK(isnan(align_decide(&on, 0, 1, 0, false, 0).cosine)); /* first step */
    CHECK(isnan(align_decide(&on, 0, 1, 0, true, 0).cosine));  /* zero norm before */
    CHECK(isnan(align_decide(&on, 0, 0, 1, true, 0).cosine));
    struct align_decision r = align_decide(&on, NAN, INFINITY, 1, true, 0);
    CHECK(isnan(r.cosine));
    CHECK_INT(r.action, ALIGN_INVALID);
    CHECK_STR(align_name(r.action), "invalid");
    CHECK_STR(align_name(ALIGN_SCALE), "scale");
}

TEST(align_thresholds_of_known_samples) {
    double c[101], low, high;
    for (int i = 0; i <= 100; i++)
        c[i] = (double)((i * 37) % 101) / 1000; /* 0 .. 0.1 in another order */
    align_thresholds(&low, &high, c, 101);
    CHECK_NEAR(low, 0.095, 1e-12);
    CHECK_NEAR(high, 0.3, 1e-12); /* 3 c_low is less */
    for (int i = 0; i < 10; i++)
        c[i] = 0.1 * i;
    align_thresholds(&low, &high, c, 10); /* between the ninth and the tenth */
    CHECK_NEAR(low, 0.855, 1e-12);
    CHECK_NEAR(high, 1, 1e-12);
    for (int i = 0; i < 10; i++)
        c[i] = -0.1 * i;
    align_thresholds(&low, &high, c, 10);
    CHECK(low == 0 && high == 0.3);
    align_thresholds(&low, &high, c, 1);
    CHECK(low == 0);
    double same[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    align_thresholds(&low, &high, same, 9);
    CHECK(low < 1 && high == 1); /* never a division by zero */
}

TEST(align_reports_the_share_removed) {
    double g[DIM], p[DIM];
    vectors(test_seed(), 0.05, g, p);
    CHECK(decide(&on, g, p, 0).removed == 0);
    vectors(test_seed(), 0.3, g, p);
    struct align_decision r = decide(&on, g, p, 0);
    CHECK_NEAR(1 - r.removed, 0.1 * sqrt(1 - 0.09) / (0.3 * sqrt(1 - 0.01)), 1e-9);
    vectors(test_seed(), 0.9, g, p);
    CHECK(decide(&on, g, p, 0).removed == 1);
    CHECK(decide(&on, g, p, 2).removed == 1);
}

TEST(align_lr_factor_divides_the_blind_distance) {
    CHECK(align_lr_factor(0, 0.9) == 1); /* fresh data: the schedule's rate, whatever the cosine */
    CHECK(align_lr_factor(16, 0) == 1 && align_lr_factor(16, -0.5) == 1);
    CHECK(align_lr_factor(16, NAN) == 1); /* before the first cosine */
    CHECK_NEAR(align_lr_factor(16, 0.25), 0.2, 1e-15);
    CHECK_NEAR(align_lr_factor(4, 1), 0.2, 1e-15);
}

TEST(align_mean_fades) {
    struct align_mean m = {0};
    CHECK(isnan(align_mean(&m)));
    align_mean_add(&m, 0.4);
    CHECK_NEAR(align_mean(&m), 0.4, 1e-15); /* no bias towards 0 at the start */
    align_mean_add(&m, NAN);
    CHECK_NEAR(align_mean(&m), 0.4, 1e-15);
    align_mean_add(&m, 0.1);
    CHECK_NEAR(align_mean(&m), (0.9 * 0.4 + 0.1) / 1.9, 1e-15);
    for (int i = 0; i < 200; i++)
        align_mean_add(&m, -0.3);
    CHECK_NEAR(align_mean(&m), -0.3, 1e-8);
    CHECK(m.weight <= 1);
}
