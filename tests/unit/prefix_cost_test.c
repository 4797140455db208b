/* prefix_cost_test.c - the measured cost model gives numbers that a recipe takes; what they are is
 * not tested, because it is time. */
#include "trainer/learn/prefix_cost.h"

#include "tests/golden/rig.h"
#include "tests/test.h"

#include <math.h>

TEST(prefix_cost_prefix_gives_costs) {
    const struct kern_backend *k;
    struct shape shape;
    struct params *w;
    struct prefix_cost_measure fit;
    CHECK_OK(kern_open(&k, "cpu", 1));
    CHECK_OK(shape_read(&shape, rig_model("llama-gqa")));
    shape.value_head = true;
    CHECK(shape.context > 64);
    CHECK_OK(params_open(&w, k, &shape));
    CHECK_OK(params_init(w, 1));
    CHECK_OK(prefix_cost_measure(&fit, w, 1));
    CHECK(isfinite(fit.row_us) && fit.row_us > 0);
    CHECK(fit.pass >= 0 && fit.pass < 1e6 && fit.attention >= 0 && fit.attention < 1e6);
    params_close(&w);
    shape.context = 64;
    CHECK_OK(params_open(&w, k, &shape));
    CHECK_ERR(prefix_cost_measure(&fit, w, 1), ERR_CONFIG, "context");
    params_close(&w);
    kern_close(k);
}
