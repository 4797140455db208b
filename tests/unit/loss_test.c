/* loss_test.c - derivatives of every setting against central differences of the reported loss, the
 * corners of the clip, and what must not happen for absurd log-probs. */
#include "trainer/loss.h"

#include "base/rng.h"
#include "tests/test.h"

enum { TOKENS = 40 };

/* Floats are too coarse to difference: log-probs are drawn on a grid of 2^-12 and moved by it. */
static const float grid = 1.0F / 4096;

static float draw(uint64_t key, uint64_t a, uint64_t b, double width) {
    return (float)round(-2 * 4096 + width * 4096 * (rng_uniform(key, a, b) - 0.5)) * grid;
}

static void check_setting(const struct loss_config *cfg, uint64_t key) {
    struct loss_token t[TOKENS];
    float lp[TOKENS], ent[TOKENS], g_lp[TOKENS], g_ent[TOKENS];
    for (uint64_t i = 0; i < TOKENS; i++) {
        lp[i] = draw(key, 0, i, 1);
        ent[i] = -draw(key, 1, i, 1);
        t[i].behaviour = draw(key, 2, i, 1);
        t[i].reference = draw(key, 3, i, 1);
        t[i].advantage = rng_normal(key, 4, i);
        t[i].weight = 0.1 + rng_uniform(key, 5, i);
    }
    loss_gradient(cfg, t, NULL, lp, TOKENS, g_lp, g_ent);
    for (int i = 0; i < TOKENS; i++) {
        struct loss_sums up, down;
        float keep = lp[i];
        double ratio = exp((double)(lp[i] - t[i].behaviour));
        if (fabs(ratio - 1.28) < 1e-3 || fabs(ratio - 0.8) < 1e-3) continue; /* the kinks */
        lp[i] = keep + grid;
        loss_sum(cfg, t, lp, ent, TOKENS, &up);
        lp[i] = keep - grid;
        loss_sum(cfg, t, lp, ent, TOKENS, &down);
        lp[i] = keep;
        CHECK_NEAR((up.loss - down.loss) / (2 * (double)grid), g_lp[i], 2e-6);
        ent[i] += 0.5F;
        loss_sum(cfg, t, lp, ent, TOKENS, &up);
        ent[i] -= 1;
        loss_sum(cfg, t, lp, ent, TOKENS, &down);
        ent[i] += 0.5F;
        CHECK_NEAR(up.loss - down.loss, g_ent[i], 1e-7);
    }
}

TEST(loss_gradient_is_the_derivative) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (int kl = 0; kl < 3; kl++)
        for (int coef = 0; coef < 2; coef++)
            for (int ent = 0; ent < 2; ent++) {
                struct loss_config cfg = {.clip_low = 0.2,
                                          .clip_high = 0.28,
                                          .kl_coef = coef * 0.3,
                                          .kl = (enum recipe_kl)kl,
                                          .entropy_coef = ent * 0.05};
                check_setting(&cfg, key + (uint64_t)(kl * 4 + coef * 2 + ent));
            }
    struct loss_config sft = {.supervised = true};
    check_setting(&sft, key);
}

static float slope(double log_ratio, double advantage) {
    const struct loss_config cfg = {.clip_low = 0.2, .clip_high = 0.28};
    struct loss_token t = {.weight = 1, .advantage = advantage, .behaviour = -3};
    float lp = (float)(-3 + log_ratio), g, ge;
    loss_gradient(&cfg, &t, NULL, &lp, 1, &g, &ge);
    return g;
}

TEST(loss_clip_has_four_corners) {
    CHECK_NEAR(slope(0, 2), -2, 1e-6);
    CHECK(slope(0.3, 1) == 0);                  /* good and already likelier: no push */
    CHECK_NEAR(slope(0.3, -1), exp(0.3), 1e-5); /* bad and likelier: pushed back in full */
    CHECK(slope(-0.3, -1) == 0);
    CHECK_NEAR(slope(0.22, 1), -exp(0.22), 1e-5); /* between 1 + low and 1 + high */
    CHECK_NEAR(slope(-0.3, 1), -exp(-0.3), 1e-5);
}

TEST(loss_report_by_hand) {
    const struct loss_config cfg = {
        .clip_low = 0.2, .clip_high = 0.28, .kl_coef = 0.5, .kl = RECIPE_KL_K1};
    struct loss_token t[2] = {
        {.weight = 0.5, .advantage = 1, .behaviour = -2, .reference = -1.5F},
        {.weight = 0.5, .advantage = -1, .behaviour = -1, .reference = -1},
    };
    const float lp[2] = {-1, -1}, ent[2] = {0.25F, 0.75F};
    struct loss_sums s;
    loss_sum(&cfg, t, lp, ent, 2, &s);
    CHECK_NEAR(s.pg_loss, 0.5 * (-1.28 + 1), 1e-12);
    CHECK_NEAR(s.kl, 0.25, 1e-12);
    CHECK_NEAR(s.kl_loss, 0.25, 1e-12);
    CHECK_NEAR(s.loss, 0.5 * (-1.28 + 1) + 0.125, 1e-12);
    CHECK_NEAR(s.entropy, 0.5, 1e-12);
    CHECK_NEAR(s.clip_fraction, 0.5, 0);
    CHECK_NEAR(s.ratio_max, exp(1), 1e-12);
    double e = exp(1);
    CHECK_NEAR(s.ess, (e + 1) * (e + 1) / (2 * (e * e + 1)), 1e-12);
}

TEST(loss_absurd_logprobs_stay_finite) {
    const struct loss_config cfg = {
        .clip_low = 0.2, .clip_high = 0.2, .kl_coef = 0.1, .kl = RECIPE_KL_K3};
    struct loss_token t = {.weight = 1, .advantage = -1, .behaviour = -1000, .reference = -0.5F};
    const float lp = -900, ent = 1;
    float g, ge;
    struct loss_sums s;
    loss_gradient(&cfg, &t, NULL, &lp, 1, &g, &ge);
    loss_sum(&cfg, &t, &lp, &ent, 1, &s);
    CHECK(isfinite(g) && isfinite(s.loss) && isfinite(s.ess));
}

TEST(loss_flat_tokens) {
    struct loss_config cfg = {.clip_low = 0.2, .clip_high = 0.2};
    struct loss_token t = {.weight = 1};
    CHECK(loss_is_flat(&cfg, &t));
    t.advantage = -0.1;
    CHECK(!loss_is_flat(&cfg, &t));
    t.advantage = 0;
    cfg.entropy_coef = 0.1;
    CHECK(!loss_is_flat(&cfg, &t));
    cfg = (struct loss_config){.kl_coef = 0.1};
    CHECK(!loss_is_flat(&cfg, &t));
    t.weight = 0;
    CHECK(loss_is_flat(&cfg, &t));
}
