/* adv_test.c - group advantages against values worked out by hand, and their invariances. */
#include "trainer/adv.h"

#include "tests/test.h"

TEST(adv_grpo_values) {
    /* groups interleaved: {1, 0, 0, 1} and {2, 4} */
    const double r[] = {1, 2, 0, 0, 4, 1};
    const int32_t g[] = {0, 1, 0, 0, 1, 0};
    double a[6];
    adv_grpo(a, r, g, 6, 2, true);
    double s0 = sqrt(1.0 / 3), s1 = sqrt(2.0);
    CHECK_NEAR(a[0], 0.5 / (s0 + 1e-6), 1e-15);
    CHECK_NEAR(a[2], -0.5 / (s0 + 1e-6), 1e-15);
    CHECK_NEAR(a[1], -1 / (s1 + 1e-6), 1e-15);
    CHECK_NEAR(a[4], 1 / (s1 + 1e-6), 1e-15);
    adv_grpo(a, r, g, 6, 2, false);
    CHECK_NEAR(a[0], 0.5, 0);
    CHECK_NEAR(a[4], 1, 0);
}

TEST(adv_group_of_one_and_empty_group) {
    const double r[] = {5, 7};
    const int32_t g[] = {0, 2};
    double a[2] = {9, 9};
    adv_grpo(a, r, g, 2, 3, true);
    CHECK_NEAR(a[0], 0, 0);
    CHECK_NEAR(a[1], 0, 0);
}

/* Equal rewards must give exactly 0, not a rounding divided by 1e-6. */
TEST(adv_equal_rewards_are_exactly_zero) {
    double r[7], a[7];
    const int32_t g[7] = {0};
    for (int i = 0; i < 7; i++)
        r[i] = 0.1;
    adv_grpo(a, r, g, 7, 1, true);
    for (int i = 0; i < 7; i++)
        CHECK(a[i] == 0);
}
