/* lr_test.c - the schedule at its corners. */
#include "trainer/optim/lr.h"

#include "tests/test.h"

TEST(lr_warmup_then_constant) {
    const struct lr_config c = {.lr = 1e-3, .warmup = 4, .steps = 10};
    CHECK_NEAR(lr_at(&c, 0), 0.25e-3, 1e-18);
    CHECK_NEAR(lr_at(&c, 3), 1e-3, 1e-18);
    CHECK_NEAR(lr_at(&c, 4), 1e-3, 0);
    CHECK_NEAR(lr_at(&c, 1000), 1e-3, 0);
}

TEST(lr_cosine) {
    const struct lr_config c = {.lr = 1, .min_lr = 0.1, .warmup = 2, .steps = 12, .cosine = true};
    CHECK_NEAR(lr_at(&c, 1), 1, 0);
    CHECK_NEAR(lr_at(&c, 2), 1, 0);
    CHECK_NEAR(lr_at(&c, 7), 0.55, 1e-15);
    CHECK_NEAR(lr_at(&c, 12), 0.1, 1e-15);
    CHECK_NEAR(lr_at(&c, 500), 0.1, 1e-15);
}

TEST(lr_cosine_with_only_warmup) {
    const struct lr_config c = {.lr = 1, .min_lr = 0.5, .warmup = 3, .steps = 3, .cosine = true};
    CHECK_NEAR(lr_at(&c, 2), 1, 0);
    CHECK_NEAR(lr_at(&c, 3), 0.5, 1e-15);
}
