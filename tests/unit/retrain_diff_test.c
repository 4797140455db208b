/* retrain_diff_test.c - what differs between two recipes is found whatever its kind, and only what
 * is known to be harmless may differ. */
#include "base/buf.h"
#include "deploy/replay/retrain.h"
#include "proto/recipe/recipe_change.h"
#include "tests/test.h"

#include <stdio.h>

static const char *const base = "model: {path: m}\ndata: {train: {path: p}, eval: {path: q}}\n"
                                "reward: [{type: exact}]\n";

static int note(void *ctx, const char *key, const char *was, const char *is) {
    buf_printf(ctx, "%s:%s>%s ", key, was, is);
    return 0;
}

/* "key:was>is ..." for an override, in both directions. */
static void check_diff(const char *set, const char *want, const char *back) {
    struct recipe *a, *b;
    struct buf there = {0}, again = {0};
    CHECK_OK(recipe_parse(&a, base, strlen(base), "a", NULL, 0));
    CHECK_OK(recipe_parse(&b, base, strlen(base), "b", &set, 1));
    CHECK_OK(recipe_changes(a, b, note, &there));
    CHECK_OK(recipe_changes(b, a, note, &again));
    CHECK_STR(there.len ? there.data : "", want);
    CHECK_STR(again.len ? again.data : "", back);
    buf_close(&there);
    buf_close(&again);
    recipe_close(&a);
    recipe_close(&b);
}

TEST(finds_every_difference) {
    check_diff("trainer.steps=100", "", ""); /* the default */
    check_diff("trainer.steps=7", "trainer.steps:100>7 ", "trainer.steps:7>100 ");
    check_diff("trainer.optimizer.betas=[0.9, 0.5]", "trainer.optimizer.betas[1]:0.95>0.5 ",
               "trainer.optimizer.betas[1]:0.5>0.95 ");
    check_diff("data.train.system=be brief", "data.train.system:null>be brief ",
               "data.train.system:be brief>null ");
    check_diff("rollout.stop=[x]", "rollout.stop:[]>absent rollout.stop[0]:absent>x ",
               "rollout.stop[0]:x>absent rollout.stop:absent>[] ");
}

TEST(only_the_harmless_may_differ) {
    static const char *const may[] = {"name",
                                      "model.path",
                                      "data.eval[0].limit",
                                      "eval.every",
                                      "trainer.optimizer.lr",
                                      "trainer.batch.tokens",
                                      "trainer.algorithm.loss",
                                      "rollout.threads",
                                      "reward_service.workers"};
    static const char *const may_not[] = {"seed",
                                          "model.chat",
                                          "model.weights",
                                          "data.train.path",
                                          "rollout.group_size",
                                          "rollout.workers",
                                          "rollout.temperature",
                                          "reward[0].type",
                                          "reward",
                                          "trainer.batch.groups",
                                          "a_key_of_tomorrow",
                                          "rollout.threads_of_tomorrow"};
    for (size_t i = 0; i < sizeof may / sizeof may[0]; i++)
        CHECK_OK(retrain_allows(may[i], "1", "2"));
    for (size_t i = 0; i < sizeof may_not / sizeof may_not[0]; i++)
        CHECK_ERR(retrain_allows(may_not[i], "1", "2"), ERR_CONFIG, may_not[i]);
}
