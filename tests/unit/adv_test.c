/* adv_test.c - advantages against values worked out by hand, and their invariances. */
#include "trainer/learn/adv.h"

#include "tests/test.h"

TEST(adv_grpo_values) {
    /* groups interleaved: {1, 0, 0, 1} and {2, 4} */
    const double r[] = {1, 2, 0, 0, 4, 1};
    const int32_t g[] = {0, 1, 0, 0, 1, 0};
    double a[6];
    adv_group(a, r, g, NULL, 6, 2, RECIPE_ADV_GRPO);
    double s0 = sqrt(1.0 / 3), s1 = sqrt(2.0);
    CHECK_NEAR(a[0], 0.5 / (s0 + 1e-6), 1e-15);
    CHECK_NEAR(a[2], -0.5 / (s0 + 1e-6), 1e-15);
    CHECK_NEAR(a[1], -1 / (s1 + 1e-6), 1e-15);
    CHECK_NEAR(a[4], 1 / (s1 + 1e-6), 1e-15);
    adv_group(a, r, g, NULL, 6, 2, RECIPE_ADV_GRPO_NOSTD);
    CHECK_NEAR(a[0], 0.5, 0);
    CHECK_NEAR(a[4], 1, 0);
}

TEST(adv_group_of_one_and_empty_group) {
    const double r[] = {5, 7};
    const int32_t g[] = {0, 2};
    double a[2] = {9, 9};
    adv_group(a, r, g, NULL, 2, 3, RECIPE_ADV_GRPO);
    CHECK_NEAR(a[0], 0, 0);
    CHECK_NEAR(a[1], 0, 0);
}

/* Equal rewards must give exactly 0, not a rounding divided by 1e-6. */
TEST(adv_equal_rewards_are_exactly_zero) {
    double r[7], a[7];
    const int32_t g[7] = {0};
    for (int i = 0; i < 7; i++)
        r[i] = 0.1;
    adv_group(a, r, g, NULL, 7, 1, RECIPE_ADV_GRPO);
    for (int i = 0; i < 7; i++)
        CHECK(a[i] == 0);
}

TEST(adv_rloo_leaves_its_own_out) {
    const double r[] = {1, 0, 0, 1, 7};
    const int32_t g[] = {0, 0, 0, 0, 1};
    double a[5];
    adv_group(a, r, g, NULL, 5, 2, RECIPE_ADV_RLOO);
    CHECK_NEAR(a[0], 1 - 1.0 / 3, 1e-15);
    CHECK_NEAR(a[1], 0 - 2.0 / 3, 1e-15);
    CHECK_NEAR(a[4], 0, 0);
}

TEST(adv_weighted_baseline) {
    const double r[] = {1, 0, 4, 2, 2}, w[] = {3, 1, 0, 0, 0};
    const int32_t g[] = {0, 0, 0, 1, 1};
    double a[5];
    adv_group(a, r, g, w, 5, 2, RECIPE_ADV_GRPO_NOSTD);
    CHECK_NEAR(a[0], 0.25, 1e-15);
    CHECK_NEAR(a[2], 3.25, 1e-15);
    CHECK(a[3] == 0 && a[4] == 0);
    adv_group(a, r, g, w, 5, 2, RECIPE_ADV_GRPO);
    CHECK_NEAR(a[0], 0.25 / (sqrt(13.0 / 3) + 1e-6), 1e-12);
}

TEST(adv_returns_and_gae) {
    const double r[] = {0.5, 0, 2};
    const float v[] = {1, -1, 0.5F};
    double a[3];
    float goal[3];
    adv_returns(a, r, 3, 0.5);
    CHECK_NEAR(a[2], 2, 0);
    CHECK_NEAR(a[1], 1, 0);
    CHECK_NEAR(a[0], 1, 0);
    adv_gae(a, goal, r, v, 3, 0.5, 0.5);
    double d2 = 2 - 0.5, d1 = 0 + 0.5 * 0.5 + 1, d0 = 0.5 - 0.5 - 1;
    CHECK_NEAR(a[2], d2, 1e-15);
    CHECK_NEAR(a[1], d1 + 0.25 * d2, 1e-15);
    CHECK_NEAR(a[0], d0 + 0.25 * (d1 + 0.25 * d2), 1e-15);
    CHECK_NEAR(goal[0], a[0] + 1, 1e-6);
    adv_gae(a, goal, r, v, 3, 1, 1); /* lambda 1: returns minus values */
    CHECK_NEAR(a[0], 2.5 - 1, 1e-15);
    CHECK_NEAR(goal[1], 2, 1e-6);
}

TEST(adv_whiten_values) {
    double x[] = {1, 2, 3, 6}, same[] = {0.1, 0.1, 0.1}, one[] = {5};
    adv_whiten(x, 4);
    double sd = sqrt((4 + 1 + 0 + 9) / 3.0 + 1e-8);
    CHECK_NEAR(x[0], -2 / sd, 1e-12);
    CHECK_NEAR(x[3], 3 / sd, 1e-12);
    adv_whiten(same, 3);
    adv_whiten(one, 1);
    adv_whiten(one, 0);
    CHECK(same[0] == 0 && same[2] == 0 && one[0] == 0);
}
