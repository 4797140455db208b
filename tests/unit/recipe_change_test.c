/* recipe_change_test.c - what a continued run may change does not change what its log belongs to;
 * everything else does. */
#include "proto/recipe/recipe_change.h"
#include "proto/recipe/recipe_table.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

static const char *const base = "model: {path: m}\ndata: {train: {path: p}, eval: {path: q}}\n"
                                "reward: [{type: exact}]\n";

static struct hash identity(const char *set) {
    struct recipe *r;
    struct hash h;
    CHECK_OK(recipe_parse(&r, base, strlen(base), "r", &set, set ? 1 : 0));
    CHECK_OK(recipe_identity(&h, r));
    recipe_close(&r);
    return h;
}

static bool same(const char *set) {
    return hash_equal(identity(NULL), identity(set));
}

TEST(identity_is_of_what_may_not_change) {
    static const char *const may[] = {"trainer.steps=700",
                                      "trainer.checkpoint.every=7",
                                      "trainer.checkpoint.keep=7",
                                      "eval.every=3",
                                      "data.eval=[]",
                                      "data.eval[0].limit=5",
                                      "rollout.workers=9",
                                      "rollout.threads=3",
                                      "trainer.threads=3",
                                      "trainer.memory=1GiB",
                                      "trainer.recompute=layers",
                                      "reward_service.timeout_ms=77",
                                      "relay.anchor_every=3",
                                      "monitor.http=x"};
    static const char *const may_not[] = {"seed=9",
                                          "name=other",
                                          "model.path=n",
                                          "model.dtype=bf16",
                                          "data.train.path=other",
                                          "data.train.limit=5",
                                          "rollout.temperature=0.5",
                                          "rollout.group_size=3",
                                          "rollout.max_new_tokens=3",
                                          "rollout.device=ref",
                                          "reward[0].weight=2",
                                          "trainer.optimizer.lr=1",
                                          "trainer.batch.groups=3",
                                          "trainer.batch.tokens=99",
                                          "trainer.device=ref",
                                          "trainer.ranks=2",
                                          "trainer.staleness.max=1",
                                          "trainer.algorithm.loss=gspo"};
    for (size_t i = 0; i < sizeof may / sizeof may[0]; i++)
        if (!same(may[i])) test_fail(__FILE__, __LINE__, "%s is another run", may[i]);
    for (size_t i = 0; i < sizeof may_not / sizeof may_not[0]; i++)
        if (same(may_not[i])) test_fail(__FILE__, __LINE__, "%s is the same run", may_not[i]);
}

TEST(a_section_is_not_a_prefix) {
    CHECK(recipe_change_allowed("eval.every") && recipe_change_allowed("data.eval[0].k[1]"));
    CHECK(recipe_change_allowed("trainer.recompute_layers"));
    CHECK(!recipe_change_allowed("trainer") && !recipe_change_allowed("trainer.steps_more"));
    CHECK(!recipe_change_allowed("reward[0].type") && !recipe_change_allowed("evaluation"));
    CHECK(!recipe_change_allowed("rollout") && !recipe_change_allowed(""));
}

/* Whatever keys come: nothing of the optimizer, the loss, the data or the sampling is among them.
 */
TEST(no_key_that_weights_depend_on) {
    /* trainer.staleness.hold only decides when groups start, as rollout.workers does. */
    static const char *const never[] = {"trainer.optimizer",
                                        "trainer.algorithm",
                                        "trainer.batch",
                                        "trainer.alignment",
                                        "trainer.staleness.max",
                                        "trainer.staleness.late",
                                        "trainer.prefix",
                                        "data.train",
                                        "rollout.sampling",
                                        "reward[]",
                                        "model"};
    for (size_t i = 0; i < recipe_table_count(); i++)
        for (size_t k = 0; k < sizeof never / sizeof never[0]; k++)
            if (recipe_key_below(recipe_table_field(i)->path, never[k]))
                CHECK(!recipe_change_allowed(recipe_table_field(i)->path));
}

/* So a key that a later version adds, with its default in the recipe or not, is the same run. */
TEST(a_default_is_no_part_of_the_identity) {
    CHECK(same("rollout.temperature=1"));
    CHECK(!same("rollout.temperature=0.5"));
    CHECK(same("trainer.staleness.hold=max"));
}
