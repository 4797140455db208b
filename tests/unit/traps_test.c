/* traps_test.c - recipes with wrong combinations: which are refused, which are warned about, and
 * that a plain recipe is neither. */
#include "proto/recipe/traps.h"

#include "base/buf.h"
#include "base/mem.h"
#include "proto/recipe/recipe.h"
#include "tests/test.h"

#include <string.h>

#define A "trainer.algorithm."

static int parse(struct recipe **r, const char *const *sets) {
    size_t n = 0;
    while (sets[n])
        n++;
    return recipe_parse(r, "", 0, "t", sets, n);
}

/* Warnings and notes; also that of a run include those of a step. */
static char *warnings(const char *const *sets) {
    struct recipe *r = NULL;
    struct buf step = {0}, run = {0};
    CHECK_OK(parse(&r, sets));
    traps_warn(&step, r, TRAPS_STEP);
    traps_warn(&run, r, TRAPS_RUN);
    buf_str(&step, "");
    buf_str(&run, "");
    if (step.len && !strstr(run.data, step.data))
        test_fail(__FILE__, __LINE__, "a run does not say: %s", step.data);
    char *text = mem_strdup(run.data ? run.data : "");
    buf_close(&step);
    buf_close(&run);
    recipe_close(&r);
    return text;
}

TEST(traps_plain_recipes_are_quiet) {
    static const char *const quiet[][6] = {
        {NULL},
        {A "loss=gspo", A "aggregation=sequence-mean", NULL},
        {A "loss=cispo", NULL},
        {A "loss=dppo", NULL},
        {A "loss=topr", A "advantage=rloo", NULL},
        {A "loss=decoupled", A "proximal=interpolate", NULL},
        {A "advantage=reinforce++", "rollout.group_size=1", NULL},
        {A "correction.mask=token", NULL},
        {A "correction.mask=m2po", NULL},
        {A "ess_lr=true", A "optimal_baseline=true", NULL},
        {"trainer.ranks=8", NULL},
        {A "aggregation=constant", A "advantage=grpo-nostd", A "kl.coef=0.1", NULL},
    };
    for (size_t i = 0; i < sizeof quiet / sizeof quiet[0]; i++) {
        char *text = warnings(quiet[i]);
        CHECK_STR(text, "");
        mem_free(text);
    }
}

struct trap_case {
    const char *sets[6], *says;
};

TEST(traps_are_refused) {
    static const struct trap_case cases[] = {
        {{A "dual_clip=1"}, "dual_clip must be above 1"},
        {{A "dual_clip=3", A "loss=cispo"}, "dual_clip belongs to"},
        {{A "kl.place=reward"}, "needs trainer.algorithm.kl.coef above 0"},
        {{A "loss=dppo", A "denominator=recomputed"}, "denominator must be behaviour"},
        {{A "optimal_baseline=true", A "advantage=gae"}, "must be grpo or grpo-nostd"},
        {{A "proximal=interpolate"}, "belongs to trainer.algorithm.loss: decoupled"},
        {{A "proximal=interpolate", A "loss=decoupled", A "correction.tis=sequence"},
         "needs proximal: recompute"},
        {{A "correction.mask=token", A "correction.low=3", A "correction.high=2"},
         "correction.low must be below"},
        {{A "correction.mask=geometric", A "correction.low=1.01", A "correction.high=2"},
         "must contain 1"},
        {{"trainer.batch.minibatches=9"}, "split by groups"},
        {{A "advantage=dr-grpo"}, "in Weir this is called grpo-nostd"},
        {{"rollout.sampling.policy=dynamic"}, "in Weir this is called dapo"},
        {{"algorithm.filter_groups.enable=true"}, "in Weir this is rollout.sampling.policy"},
        {{"actor_rollout_ref.actor.optim.lr=1e-6"}, "in Weir this is trainer.optimizer.lr"},
        {{"critic.optim.lr=1e-6"}, "in Weir this is trainer.algorithm.critic.lr"},
        {{"temperature=1"}, "in Weir this is rollout.temperature"},
        {{"actor_rollout_ref.rollout.val_kwargs.temperature=1"},
         "in Weir this is eval.temperature"},
        {{"per_device_train_batch_size=8"}, "in Weir this is trainer.batch.groups"},
        {{"rollout.max_num_gen_batches=10"}, "in Weir this is rollout.sampling.max_rejected"},
        {{A "aggregation=seq-mean-token-mean"}, "in Weir this is called sequence-mean"},
        {{A "tis_imp_ratio_cap=2"}, "in Weir this is trainer.algorithm.correction.cap"},
        {{A "loss=ppoclip"}, "must be one of: ppo-clip, gspo"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct recipe *r = NULL;
        CHECK_ERR(parse(&r, cases[i].sets), ERR_CONFIG, cases[i].says);
        CHECK(!r);
    }
}

TEST(traps_are_warned_about) {
    static const struct trap_case cases[] = {
        {{A "denominator=recomputed"}, "warning: denominator: recomputed with one step per batch"},
        {{A "denominator=recomputed", "trainer.batch.minibatches=2"}, "lag behind the rollouts"},
        {{A "loss=decoupled"}, "warning: loss: decoupled with one step per batch"},
        {{A "correction.tis=token"}, "corrects twice"},
        {{A "loss=gspo", A "correction.tis=token"}, "gspo with correction.tis: token"},
        {{A "loss=gspo", A "clip_low=0.2", A "clip_high=0.28"}, "the clip never acts"},
        {{A "loss=gspo"}, "long responses count more"},
        {{A "correction.mask=sequence"}, "length filter"},
        {{A "correction.mask=geometric", A "correction.low=0.5", A "correction.high=2"},
         "never acts"},
        {{A "correction.mask=m2po", A "denominator=recomputed"}, "m2po bounds the second moment"},
        {{A "correction.mask=token", "trainer.staleness.max=0"}, "have no effect"},
        {{A "loss=decoupled", A "proximal=interpolate", "trainer.staleness.max=1"},
         "behaviour policy itself"},
        {{A "correction.tis=token", A "correction.cap=0.5"}, "cap below 1"},
        {{"rollout.group_size=1"}, "every advantage is 0"},
        {{"rollout.top_p=0.9"}, "biased by the kept mass"},
        {{"rollout.top_k=5"}, "biased by the kept mass"},
        {{A "kl.coef=0.1", A "kl.type=k1"}, "expected gradient"},
        {{A "advantage=gae", A "critic.coef=0"}, "never trained"},
        {{A "ess_lr=true", A "denominator=recomputed"}, "weights which the loss does not use"},
        {{A "advantage=gae"}, "note: critic.clip"},
        {{"trainer.ranks=5", "trainer.batch.minibatches=2"}, "some ranks have nothing to do"},
        {{"trainer.batch.minibatches=2"}, "note: trainer.batch.minibatches above 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = warnings(cases[i].sets);
        if (!strstr(text, cases[i].says))
            test_fail(__FILE__, __LINE__, "case %zu: \"%s\" is not in \"%s\"", i, cases[i].says,
                      text);
        mem_free(text);
    }
}

/* What exactness gives up is said, and corrections then have something to correct. */
TEST(traps_without_exactness) {
    static const char *const sets[] = {"model.exact=false",           A "correction.tis=token",
                                       A "denominator=recomputed",    "trainer.staleness.max=0",
                                       "trainer.batch.minibatches=2", NULL};
    char *text = warnings(sets);
    CHECK(strstr(text, "note: model.exact: false: on cuda"));
    CHECK(strstr(text, "replay verify works there"));
    CHECK(!strstr(text, "agree bit for bit"));
    mem_free(text);
}

TEST(traps_that_only_a_run_has) {
    struct recipe *r = NULL;
    static const char *const alone[] = {"rollout.sampling.policy=dapo", "rollout.group_size=1",
                                        NULL};
    CHECK_OK(parse(&r, alone));
    CHECK_OK(traps_check(r, TRAPS_STEP));
    CHECK_ERR(traps_check(r, TRAPS_RUN), ERR_CONFIG, "every group would be rejected");
    CHECK_INT(r->rollout.sampling.max_rejected, 10 * 5 * 8);
    recipe_close(&r);
    static const char *const learns[] = {"rollout.sampling.policy=dapo", A "advantage=reinforce++",
                                         NULL};
    struct buf text = {0};
    CHECK_OK(parse(&r, learns));
    traps_warn(&text, r, TRAPS_RUN);
    CHECK(text.len && strstr(text.data, "this one learns from them"));
    buf_close(&text);
    recipe_close(&r);
}

/* Bounds by the loss and the mask, and that they survive printing. */
TEST(traps_default_bounds) {
    static const char *const sets[] = {A "loss=gspo", A "correction.mask=token",
                                       A "aggregation=sequence-mean", NULL};
    struct recipe *r = NULL, *again = NULL;
    struct buf text = {0};
    CHECK_OK(parse(&r, sets));
    CHECK_NEAR(r->trainer.algorithm.clip_low, 3e-4, 0);
    CHECK_NEAR(r->trainer.algorithm.correction.high, 5, 0);
    recipe_print(r, &text);
    CHECK_OK(recipe_parse(&again, text.data, text.len, "again", NULL, 0));
    CHECK_NEAR(again->trainer.algorithm.clip_high, 4e-4, 0);
    CHECK_NEAR(again->trainer.algorithm.correction.low, 0.5, 0);
    recipe_close(&again);
    recipe_close(&r);
    buf_close(&text);
}
