/* aggregate_test.c - what a token counts under each aggregation. */
#include "trainer/learn/aggregate.h"

#include "tests/test.h"

TEST(aggregate_each_aggregation) {
    const int64_t first[] = {10, 13, 13, 14}; /* three tokens, none, one; not from 0 */
    double w[4];
    aggregate_tokens(w, first, 3, RECIPE_TOKEN_MEAN, 0);
    for (int i = 0; i < 4; i++)
        CHECK_NEAR(w[i], 0.25, 0);
    aggregate_tokens(w, first, 3, RECIPE_SEQUENCE_MEAN, 0);
    CHECK_NEAR(w[0], 1.0 / 6, 1e-16);
    CHECK_NEAR(w[3], 0.5, 0);
    aggregate_tokens(w, first, 3, RECIPE_SEQUENCE_SUM, 0);
    CHECK_NEAR(w[0], 0.5, 0);
    CHECK_NEAR(w[3], 0.5, 0);
    aggregate_tokens(w, first, 3, RECIPE_AGGREGATE_CONSTANT, 100);
    CHECK_NEAR(w[1], 0.005, 1e-18);
    aggregate_tokens(w, first, 0, RECIPE_TOKEN_MEAN, 0); /* nothing */
}
