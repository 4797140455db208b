/* correct_test.c - weights, masks and effective sample sizes against values worked out by hand. */
#include "trainer/learn/correct.h"

#include "tests/test.h"

enum { N = 6 };

/* Three trajectories: of 3, 1 and 2 tokens. */
static const int64_t first[] = {0, 3, 4, 6};
static const double x[N] = {0.1, -0.4, 0.2, 1.5, -0.001, 0.0005};

static double weight[N];
static bool keep[N];
static struct correct_sums sums;

static void run(const struct correct_config *cfg) {
    correct_tokens(cfg, x, first, 3, weight, keep, &sums);
}

static void kept(int a, int b, int c, int d, int e, int f) {
    const int want[N] = {a, b, c, d, e, f};
    double rejected = 0;
    for (int i = 0; i < N; i++) {
        CHECK_INT(keep[i], want[i]);
        rejected += !want[i];
    }
    CHECK_NEAR(sums.rejected, rejected / N, 1e-15);
}

TEST(correct_weights) {
    struct correct_config cfg = {.cap = 2};
    run(&cfg);
    for (int i = 0; i < N; i++)
        CHECK(weight[i] == 1);
    kept(1, 1, 1, 1, 1, 1);
    cfg.tis = RECIPE_TIS_TOKEN;
    run(&cfg);
    CHECK_NEAR(weight[1], exp(-0.4), 1e-15);
    CHECK(weight[3] == 2);
    CHECK_NEAR(sums.capped, 1.0 / N, 1e-15);
    CHECK_NEAR(sums.weight_max, 2, 0);
    cfg.tis = RECIPE_TIS_SEQUENCE;
    run(&cfg);
    CHECK_NEAR(weight[0], exp(-0.1), 1e-12);
    CHECK(weight[0] == weight[1] && weight[1] == weight[2] && weight[3] == 2);
    CHECK_NEAR(weight[4], exp(-0.0005), 1e-12);
    cfg = (struct correct_config){.cap = 2, .always = true}; /* decoupled: not capped */
    run(&cfg);
    CHECK_NEAR(weight[3], exp(1.5), 1e-12);
    CHECK(sums.capped == 0);
}

TEST(correct_masks) {
    struct correct_config cfg = {.mask = RECIPE_MASK_TOKEN, .low = 0.9, .high = 1.2};
    run(&cfg);
    kept(1, 0, 0, 0, 1, 1); /* exp(0.2) = 1.22 */
    cfg.mask = RECIPE_MASK_SEQUENCE;
    run(&cfg);
    kept(1, 1, 1, 0, 1, 1); /* exp(-0.1) = 0.905 */
    cfg = (struct correct_config){.mask = RECIPE_MASK_GEOMETRIC, .low = 0.97, .high = 1.001};
    run(&cfg);
    kept(0, 0, 0, 0, 1, 1); /* exp(-0.1 / 3) = 0.967 */
    cfg.low = 0.96;
    run(&cfg);
    kept(1, 1, 1, 0, 1, 1);
}

/* Squares: 0.01, 0.16, 0.04, 2.25, 1e-6, 2.5e-7; means of the smallest k: 2.5e-7, 6.25e-7, 0.0033,
 * 0.0125, 0.042, 0.41. */
TEST(correct_m2po_drops_the_largest) {
    struct correct_config cfg = {.mask = RECIPE_MASK_M2PO, .m2 = 0.04};
    run(&cfg);
    kept(1, 0, 1, 0, 1, 1);
    cfg.m2 = 0.05;
    run(&cfg);
    kept(1, 1, 1, 0, 1, 1);
    cfg.m2 = 0.012;
    run(&cfg);
    kept(1, 0, 0, 0, 1, 1);
    cfg.m2 = 5;
    run(&cfg);
    kept(1, 1, 1, 1, 1, 1);
    cfg.m2 = 0;
    run(&cfg);
    kept(0, 0, 0, 0, 0, 0);
}

TEST(correct_effective_sample_size) {
    double w[3];
    const double big[] = {1000};
    const int64_t one[] = {0, 1};
    correct_sequences(w, x, first, 3);
    CHECK_NEAR(w[0], exp(-0.1), 1e-12);
    CHECK_NEAR(w[1], exp(1.5), 1e-12);
    double sum = w[0] + w[1] + w[2], squares = w[0] * w[0] + w[1] * w[1] + w[2] * w[2];
    CHECK_NEAR(correct_ess(w, 3), sum * sum / (3 * squares), 1e-15);
    CHECK_NEAR(correct_ess(w, 1), 1, 1e-15);
    CHECK_NEAR(correct_ess(w, 0), 1, 0);
    correct_sequences(w, big, one, 1);
    CHECK_NEAR(w[0], exp(20), 1); /* limited */
}
