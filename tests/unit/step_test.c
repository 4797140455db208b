/* step_test.c - what a step promises beside its numbers (those are in tests/golden): repetition,
 * refusals that change nothing, the mismatch check, supervised steps. */
#include "trainer/learn/step.h"

#include "base/mem.h"
#include "tests/test.h"
#include "tests/unit/trainer_fixture.h"

TEST(step_repeats_bit_for_bit) {
    struct hash h[2];
    struct step_report r[2];
    for (int k = 0; k < 2; k++) {
        struct step *s = trainer_fixture_open(NULL);
        for (int64_t v = 0; v < 3; v++) {
            struct batch *b = trainer_fixture_batch(test_seed() + (uint64_t)v, 3, v);
            CHECK_OK(step_run(s, b, &r[k]));
            CHECK_INT(r[k].step, v);
            batch_close(&b);
        }
        CHECK_INT(step_version(s), 3);
        h[k] = trainer_fixture_hash(s);
        CHECK(hash_equal(h[k], r[k].weights_hash));
        step_close(&s);
    }
    CHECK(hash_equal(h[0], h[1]));
    CHECK(r[0].loss == r[1].loss && r[0].grad_norm == r[1].grad_norm);
    CHECK(!isnan(r[0].gac_cosine));
}

TEST(step_refuses_stale_and_changes_nothing) {
    const char *const sets[] = {"trainer.staleness.max=1", NULL};
    struct step *s = trainer_fixture_open(sets);
    struct batch *b = trainer_fixture_batch(test_seed(), 3, 3);
    struct step_report r;
    step_set_version(s, 5);
    struct hash before = trainer_fixture_hash(s);
    CHECK_ERR(step_run(s, b, &r), ERR_STALE, "staleness.max 1");
    for (uint32_t i = 0; i < b->n; i++)
        for (int32_t k = 0; k < b->traj[i].n_response; k++)
            b->traj[i].version[k] = 4;
    b->traj[7].version[0] = 3; /* one token is enough */
    CHECK_ERR(step_run(s, b, &r), ERR_STALE, "trajectory 7");
    CHECK(hash_equal(before, trainer_fixture_hash(s)));
    CHECK_INT(step_version(s), 5);
    b->traj[7].mask[0] = 0; /* unless it is not trained */
    CHECK_OK(step_run(s, b, &r));
    CHECK_INT(step_version(s), 6);
    CHECK_NEAR(r.staleness_max, 1, 0);
    batch_close(&b);
    step_close(&s);
}

/* A skipped step: same weights, same version; the trainer service counts it (step_advance). */
TEST(step_skip_changes_nothing) {
    const char *const sets[] = {"trainer.alignment.mode=on", "trainer.alignment.c_low=0",
                                "trainer.alignment.c_high=0.5", "trainer.optimizer.lr=1e-7", NULL};
    struct step *s = trainer_fixture_open(sets);
    struct batch *b = trainer_fixture_batch(test_seed(), 3, 0);
    struct step_report r;
    CHECK_OK(step_run(s, b, &r));
    CHECK_STR(r.gac_action, "invalid");
    struct hash before = trainer_fixture_hash(s);
    for (int64_t skips = 1; skips <= 2; skips++) { /* the same batch again: the same gradient */
        CHECK_OK(step_run(s, b, &r));
        CHECK_STR(r.gac_action, "skip");
        CHECK(r.gac_cosine > 0.99 && r.gac_removed == 1);
        CHECK_INT(r.gac_skips, skips);
        CHECK_INT(step_version(s), 1);
        CHECK(hash_equal(before, trainer_fixture_hash(s)));
    }
    CHECK_OK(step_run(s, b, &r));
    CHECK_STR(r.gac_action, "scale");
    CHECK_INT(r.gac_skips, 0);
    CHECK_INT(step_version(s), 2);
    batch_close(&b);
    step_close(&s);
}

/* A batch of another run: its version 0 is not these weights, so nothing is compared at equal
 * version; the step itself is the same. */
TEST(step_compares_no_log_probs_of_foreign_versions) {
    struct hash h[2];
    struct step_report r[2];
    for (int k = 0; k < 2; k++) {
        struct step *s = trainer_fixture_open(NULL);
        struct batch *b = trainer_fixture_batch(5, 3, 0);
        b->foreign = k == 1;
        CHECK_OK(step_run(s, b, &r[k]));
        h[k] = trainer_fixture_hash(s);
        batch_close(&b);
        step_close(&s);
    }
    CHECK(r[0].mismatch_kl > 0 && r[0].logprob_engine.max > 0);
    CHECK(isnan(r[1].mismatch_kl) && isnan(r[1].logprob_engine.max));
    CHECK(hash_equal(h[0], h[1]));
}

/* The staleness that the rate is divided by is that of the batch being trained. */
TEST(step_lr_loop_sees_the_staleness) {
    const char *const sets[] = {"trainer.alignment.lr_loop=true", "trainer.optimizer.lr=1e-7",
                                NULL};
    struct step *s = trainer_fixture_open(sets);
    struct batch *b = trainer_fixture_batch(test_seed(), 3, 0);
    struct step_report r;
    step_set_version(s, 3);
    CHECK_OK(step_run(s, b, &r));
    CHECK(r.gac_lr_factor == 1);  /* no cosine yet */
    CHECK_OK(step_run(s, b, &r)); /* the same gradient again, staleness 4 */
    CHECK_NEAR(r.gac_lr_factor, 0.2, 1e-2);
    CHECK_NEAR(r.lr, 1e-7 * r.gac_lr_factor, 1e-15);
    batch_close(&b);
    step_close(&s);
}

static void refuse(struct step *s, struct batch *b, int code, const char *part) {
    struct step_report r;
    struct hash before = trainer_fixture_hash(s);
    CHECK_ERR(step_run(s, b, &r), code, part);
    CHECK(hash_equal(before, trainer_fixture_hash(s)));
    batch_close(&b);
}

TEST(step_refuses_bad_batches) {
    struct step *s = trainer_fixture_open(NULL);
    struct batch *b = trainer_fixture_batch(1, 3, 1);
    refuse(s, b, ERR_MISMATCH, "a token of version 1, but the weights are version 0");
    b = trainer_fixture_batch(1, 3, 0);
    b->traj[5].ids[0] = 32;
    refuse(s, b, ERR_CORRUPT, "trajectory 5: token id 32");
    b = trainer_fixture_batch(1, 3, 0);
    b->traj[5].ids[0] = -1;
    refuse(s, b, ERR_CORRUPT, "token id -1");
    b = trainer_fixture_batch(1, 3, 0);
    b->traj[2].logprob[0] = NAN;
    refuse(s, b, ERR_CORRUPT, "log-prob 0 is not finite");
    b = trainer_fixture_batch(1, 3, 0);
    b->traj[2].reward = INFINITY;
    refuse(s, b, ERR_CORRUPT, "reward is not finite");
    b = trainer_fixture_batch(1, 3, 0);
    b->traj[2].group = 3;
    refuse(s, b, ERR_CORRUPT, "group 3 of 3");
    b = trainer_fixture_batch(1, 3, 0);
    for (uint32_t i = 0; i < b->n; i++)
        memset(b->traj[i].mask, 0, (size_t)b->traj[i].n_response);
    refuse(s, b, ERR_CORRUPT, "no trained token");
    b = trainer_fixture_batch(1, 3, 0);
    int32_t ids[40] = {0};
    float logprob[20] = {0};
    batch_set(b, 0, ids, 20, ids, 20, logprob, NULL, NULL, 0);
    refuse(s, b, ERR_CONFIG, "has 20 + 20 tokens");
    step_close(&s);
}

/* Also where no advantage asks for a gradient. */
TEST(step_refuses_broken_weights) {
    for (int signal = 0; signal < 2; signal++) {
        struct step *s = trainer_fixture_open(NULL);
        struct batch *b = trainer_fixture_batch(test_seed(), 3, 0);
        const struct params *w = step_weights(s);
        float *norm = params_view(w, params_find(w, "model.norm.weight")).data;
        for (uint32_t i = 0; i < b->n && !signal; i++)
            b->traj[i].reward = 0.1F;
        norm[0] = NAN;
        refuse(s, b, ERR_CORRUPT, "weights are broken");
        CHECK_INT(step_version(s), 0);
        step_close(&s);
    }
}

/* I6 as the trainer sees it: log-probs of the very weights come back with the same bits, in any
 * packing, and older tokens do not count. */
TEST(step_sees_equal_bits_as_no_mismatch) {
    const char *const sets[] = {"rollout.temperature=0.8", NULL};
    struct step *s = trainer_fixture_open(sets);
    struct batch *b = trainer_fixture_batch(test_seed(), 3, 0);
    struct step_report r;
    for (uint32_t i = 0; i < b->n; i++)
        CHECK_OK(step_score(s, b, i, (float)(1 / 0.8), b->traj[i].logprob));
    CHECK_OK(step_run(s, b, &r));
    CHECK(r.logprob_engine.max == 0 && r.mismatch_kl == 0);
    CHECK(r.logprob_diff.max == 0 && isnan(r.logprob_lag.max));
    CHECK_NEAR(r.ratio_max, 1, 0);
    CHECK_NEAR(r.clip_fraction, 0, 0);
    CHECK_OK(step_run(s, b, &r)); /* now all tokens are one version old */
    CHECK(isnan(r.logprob_engine.max) && isnan(r.mismatch_kl));
    CHECK(r.logprob_lag.max == r.logprob_diff.max && r.logprob_lag.mean == r.logprob_diff.mean);
    CHECK_NEAR(r.staleness_mean, 1, 0);
    batch_close(&b);
    step_close(&s);
}

/* Minibatches: the same bits as the parts one after another (advantages of a group do not look
 * beyond it), under one version. */
TEST(step_minibatches_are_steps_of_parts) {
    const char *const two[] = {"trainer.batch.minibatches=3", NULL};
    struct step *whole = trainer_fixture_open(two), *parts = trainer_fixture_open(NULL);
    struct batch *b = trainer_fixture_batch(11, 3, 0);
    struct step_report r, one;
    for (uint32_t g = 0; g < 3; g++) {
        struct batch part = {.n = 4, .n_groups = 3, .traj = &b->traj[4 * g]};
        CHECK_OK(step_run(parts, &part, &one));
    }
    CHECK_OK(step_run(whole, b, &r));
    CHECK(hash_equal(trainer_fixture_hash(whole), trainer_fixture_hash(parts)));
    CHECK_INT(step_version(whole), 1);
    CHECK_INT(step_version(parts), 3);
    CHECK_INT(r.optimizer_steps, 3);
    batch_close(&b);
    step_close(&whole);
    step_close(&parts);
}

/* Truncated trajectories are masked where the recipe says so, also all of them. */
TEST(step_overlong_responses_are_masked) {
    const char *const mask[] = {"trainer.algorithm.overlong=mask", NULL};
    struct step *s = trainer_fixture_open(mask);
    struct batch *b = trainer_fixture_batch(11, 3, 0);
    struct step_report r;
    b->traj[2].truncated = true;
    int64_t trained = batch_trained(b), cut = b->traj[2].n_response;
    CHECK_OK(step_run(s, b, &r));
    CHECK_INT(r.trained_tokens, trained - cut);
    CHECK_INT(r.truncated, 1);
    batch_close(&b);
    b = trainer_fixture_batch(12, 3, 1);
    for (uint32_t i = 0; i < b->n; i++)
        b->traj[i].truncated = true;
    CHECK_OK(step_run(s, b, &r));
    CHECK(r.trained_tokens == 0 && r.grad_norm == 0 && r.loss == 0);
    batch_close(&b);
    step_close(&s);
}

/* A batch without signal: the reports are there, and only the decay moves the weights. */
TEST(step_without_signal) {
    struct step *s = trainer_fixture_open(NULL);
    struct batch *b = trainer_fixture_batch(test_seed(), 3, 0);
    struct step_report r;
    for (uint32_t i = 0; i < b->n; i++)
        b->traj[i].reward = 0.1F;
    CHECK_OK(step_run(s, b, &r));
    CHECK(r.grad_norm == 0 && r.entropy > 0 && isnan(r.gac_cosine));
    CHECK_STR(r.gac_action, "invalid");
    CHECK_INT(r.zero_groups, 3);
    CHECK_INT(step_version(s), 1);
    CHECK(r.microbatches > 0);
    batch_close(&b);
    step_close(&s);
}

/* Flat trajectories leave the gradient alone: with and without them in the reverse pass. */
TEST(step_flat_groups_change_no_bit) {
    const char *const tiny[] = {"trainer.algorithm.entropy=1.0e-30", NULL};
    struct step_report r[2];
    for (int k = 0; k < 2; k++) {
        struct step *s = trainer_fixture_open(k ? tiny : NULL);
        struct batch *b = trainer_fixture_batch(3, 3, 0);
        for (uint32_t i = 4; i < 8; i++)
            b->traj[i].reward = 1;
        CHECK_OK(step_run(s, b, &r[k]));
        CHECK_INT(r[k].zero_groups, 1);
        batch_close(&b);
        step_close(&s);
    }
    CHECK_NEAR(r[0].grad_norm, r[1].grad_norm, 1e-6 * r[0].grad_norm);
    CHECK(r[0].entropy == r[1].entropy);
}

/* Shared prefixes: fewer rows, the same log-probs to the bit (so every report but the norm is
 * equal), the same gradient up to rounding, in every mode. */
TEST(step_shared_prefixes_are_exact) {
    static const char *const modes[][3] = {
        {"trainer.prefix=off", "trainer.batch.tokens=48", "trainer.prefix_cost=[40, 3]"},
        {"trainer.prefix=packed", "trainer.batch.tokens=48", "trainer.prefix_cost=[40, 3]"},
        {"trainer.prefix=schedule", "trainer.batch.tokens=48", "trainer.prefix_cost=[0, 1]"},
        {"trainer.prefix=schedule", "trainer.batch.tokens=5", "trainer.prefix_offload=true"},
        {"trainer.prefix=auto", "trainer.batch.tokens=32", "trainer.prefix_cost=[1, 1]"}};
    struct step_report first, r;
    for (uint64_t k = 0; k < 3; k++)
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
            const char *const sets[] = {modes[i][0],
                                        modes[i][1],
                                        modes[i][2],
                                        "trainer.algorithm.kl.coef=0.1",
                                        "trainer.algorithm.entropy=0.01",
                                        NULL};
            struct step *s = trainer_fixture_open(sets);
            struct batch *b = trainer_fixture_batch(test_seed() + k, 3, 0);
            CHECK_OK(step_run(s, b, &r));
            batch_close(&b);
            step_close(&s);
            if (i == 0) first = r;
            CHECK(r.loss == first.loss && r.entropy == first.entropy);
            CHECK(r.mismatch_kl == first.mismatch_kl && r.kl == first.kl);
            CHECK_NEAR(r.grad_norm, first.grad_norm, 1e-5 * first.grad_norm);
        }
}

TEST(step_supervised_learns) {
    const char *const sets[] = {"trainer.optimizer.lr=0.01", NULL};
    struct step *s = trainer_fixture_open(sets);
    struct batch *b = trainer_fixture_batch(test_seed(), 2, 0);
    struct step_report first, last;
    double sum = 0, n = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        float lp[16];
        CHECK_OK(step_score(s, b, i, 1, lp));
        for (int32_t k = 0; k < b->traj[i].n_response; k++, n++)
            sum -= (double)lp[k];
    }
    CHECK_OK(step_run_sft(s, b, &first));
    CHECK_NEAR(first.loss, sum / n, 1e-6);
    for (int i = 0; i < 20; i++)
        CHECK_OK(step_run_sft(s, b, &last));
    CHECK(last.loss < first.loss - 0.5);
    CHECK_INT(step_version(s), 21);
    batch_close(&b);
    step_close(&s);
}

/* What an opened step counts is what was planned. Where weights outweigh everything else, that is
 * weights, their packed copy, gradient, previous gradient and two moments; a reference network is
 * two slabs more. */
TEST(step_bytes_are_counted) {
    const char *const kl[] = {"trainer.algorithm.kl.coef=0.1", NULL};
    struct step *s = trainer_fixture_open(NULL);
    struct shape shape = *params_shape(step_weights(s));
    struct memplan planned;
    for (int64_t reference = 0; reference < 2; reference++) {
        struct recipe *r = trainer_fixture_recipe(reference ? kl : NULL);
        struct shape large = shape;
        large.d = 4096;
        large.ffn = 65536;
        CHECK_OK(step_plan(&planned, r, &large));
        CHECK_INT(planned.all / 4 / (size_t)params_slab_elements(&large), 6 + 2 * reference);
        CHECK_OK(step_plan(&planned, r, &shape));
        if (!reference) CHECK(memcmp(&planned, step_memory(s), sizeof planned) == 0);
        recipe_close(&r);
    }
    step_close(&s);
}
