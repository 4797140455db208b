/* predict_test.c - the published example, the limits, and nonsense. */
#include "rollout/predict.h"

#include "tests/test.h"

TEST(predict_published_example) {
    struct predict_input in = {
        .concurrency = 128, .batch = 128, .tail = 1.44, .rollout = 1.07, .train = 1, .queue = 2};
    CHECK_NEAR(predict_staleness(&in), 3.25, 0.06); /* published: 3.29 predicted, 3.09 measured */
    in.queue = 1;
    CHECK(predict_staleness(&in) < 2.4);
    in.rollout = 0.5;
    CHECK_NEAR(predict_staleness(&in), 1.94, 1e-9);
    in.concurrency = 64; /* halving it halves the first term */
    CHECK_NEAR(predict_staleness(&in), 1.22, 1e-9);
    in.train = 0;
    CHECK(isnan(predict_staleness(&in)));
    in.train = 1;
    in.tail = NAN;
    CHECK(isnan(predict_staleness(&in)));
}
