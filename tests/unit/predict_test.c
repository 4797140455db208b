/* predict_test.c - both regimes, the bound, the published in-flight term, nonsense. */
#include "rollout/manager/predict.h"

#include "tests/test.h"

TEST(predict_slow_rollouts) {
    double c = 128, b = 128, m = 1.44;
    struct predict_input in = {.open = c * m / b, .rho = 0.5, .bound = 8, .steps = INFINITY};
    CHECK_NEAR(predict_staleness(&in), 1.94, 1e-9); /* as published for rho < 1 */
    in.open = c / 2 * m / b;
    CHECK_NEAR(predict_staleness(&in), 1.22, 1e-9);
    in.bound = 1; /* admission holds it */
    CHECK_NEAR(predict_staleness(&in), 1, 1e-9);
    in.bound = 0;
    CHECK_NEAR(predict_staleness(&in), 0, 0);
}

TEST(predict_fast_rollouts_fill_the_bound) {
    struct predict_input in = {.open = 0.5, .rho = 1.25, .bound = 8, .steps = INFINITY};
    CHECK_NEAR(predict_staleness(&in), 8, 0);
    in.steps = 4; /* on the way there */
    CHECK_NEAR(predict_staleness(&in), 0.5 + 1, 1e-9);
    in.waiting = 2;
    CHECK_NEAR(predict_staleness(&in), 0.5 + 2 + 0.25 * 2 / 1.25, 1e-9);
    in.steps = 1; /* what is trained now joined before counting began */
    CHECK_NEAR(predict_staleness(&in), 0.5 + 2, 1e-9);
    in.rho = 0.5; /* slow again: the line gets shorter */
    in.steps = 3;
    CHECK_NEAR(predict_staleness(&in), 0.5 + 1, 1e-9);
    in.steps = 30;
    CHECK_NEAR(predict_staleness(&in), 0.5 + 0.5, 1e-9);
    in.waiting = 7.5; /* the bound is full, and stays so whatever rho is */
    in.rho = 4;
    in.steps = 4;
    CHECK_NEAR(predict_staleness(&in), 8, 1e-9);
    in.waiting = 2;
    in.rho = 1;
    in.steps = INFINITY;
    CHECK_NEAR(predict_staleness(&in), 0.5 + 2, 1e-9);
}

TEST(predict_nonsense) {
    struct predict_input in = {.open = 1, .rho = 1, .bound = 1};
    CHECK(!isnan(predict_staleness(&in)));
    in.rho = 0;
    CHECK(isnan(predict_staleness(&in)));
    in.rho = INFINITY;
    CHECK(isnan(predict_staleness(&in)));
    in.rho = 1;
    in.open = NAN;
    CHECK(isnan(predict_staleness(&in)));
}
