/* loss_test.c - derivatives of every setting against central differences of the reported loss, each
 * policy loss against its formula worked out by hand on both sides of every bound, and what must
 * not happen for absurd log-probs. */
#include "trainer/learn/loss.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

enum { TOKENS = 40 };

/* Floats are too coarse to difference: log-probs are drawn on a grid of 2^-12 and moved by it. */
static const float grid = 1.0F / 4096;

static float draw(uint64_t key, uint64_t a, uint64_t b, double width) {
    return (float)round(-2 * 4096 + width * 4096 * (rng_uniform(key, a, b) - 0.5)) * grid;
}

static void fill(struct loss_token *t, float *lp, float *ent, float *val, uint64_t key) {
    for (uint64_t i = 0; i < TOKENS; i++) {
        lp[i] = draw(key, 0, i, 1);
        ent[i] = -draw(key, 1, i, 1);
        val[i] = draw(key, 6, i, 2);
        t[i] = (struct loss_token){.behaviour = draw(key, 2, i, 1),
                                   .reference = draw(key, 3, i, 1),
                                   .current = lp[i],
                                   .value = val[i] + draw(key, 7, i, 2) + 2,
                                   .goal = draw(key, 8, i, 2),
                                   .advantage = rng_normal(key, 4, i),
                                   .weight = 0.1 + rng_uniform(key, 5, i),
                                   .correction = 0.5 + rng_uniform(key, 9, i),
                                   .sequence = 0.5 * (rng_uniform(key, 10, i) - 0.5)};
        t[i].old = i % 2 ? t[i].behaviour : draw(key, 11, i, 1);
        t[i].share = i % 5 ? t[i].weight : 0.3;
        if (i % 7 == 0) t[i].weight = 0; /* rejected */
    }
}

/* The tokens t[n] as columns. */
struct columns_of {
    double d[5][TOKENS];
    float f[7][TOKENS];
    struct loss_table table;
};

static const struct loss_table *table_of(struct columns_of *c, const struct loss_token *t, int n) {
    for (int i = 0; i < n; i++) {
        const double d[5] = {t[i].weight, t[i].share, t[i].advantage, t[i].correction,
                             t[i].sequence};
        const float f[7] = {t[i].behaviour, t[i].old,   t[i].current, t[i].reference,
                            t[i].alpha,     t[i].value, t[i].goal};
        for (int k = 0; k < 5; k++)
            c->d[k][i] = d[k];
        for (int k = 0; k < 7; k++)
            c->f[k][i] = f[k];
    }
    c->table = (struct loss_table){c->d[0], c->d[1], c->d[2], c->d[3], c->d[4], c->f[0],
                                   c->f[1], c->f[2], c->f[3], c->f[4], c->f[5], c->f[6]};
    return &c->table;
}

static void add(struct loss_sums *s, const struct loss_config *cfg, const struct loss_token *t,
                const float *lp, const float *ent, const float *val, int n) {
    struct columns_of c;
    struct loss_rows rows = {.n = n, .logprob = lp, .entropy = ent, .value = val};
    loss_add(s, cfg, table_of(&c, t, n), 0, &rows);
}

/* g: derivatives by log-prob, entropy and value; val NULL: no critic. */
static void gradient(const struct loss_config *cfg, const struct loss_token *t, const float *lp,
                     const float *val, int n, float *g[3]) {
    struct columns_of c;
    struct loss_rows rows = {n, lp, NULL, val, g[0], g[1], val ? g[2] : NULL};
    loss_gradient(cfg, table_of(&c, t, n), 0, NULL, &rows);
}

static double total(const struct loss_config *cfg, const struct loss_token *t, const float *lp,
                    const float *ent, const float *val) {
    struct loss_sums s = {0};
    add(&s, cfg, t, lp, ent, val, TOKENS);
    loss_finish(&s);
    return s.loss;
}

/* Of the loss when x moves by `by` in both directions. */
static double slope_at(const struct loss_config *cfg, const struct loss_token *t, const float *lp,
                       const float *ent, const float *val, float *x, float by) {
    float keep = *x;
    *x = keep + by;
    double up = total(cfg, t, lp, ent, val);
    *x = keep - by;
    double down = total(cfg, t, lp, ent, val);
    *x = keep;
    return (up - down) / (2 * (double)by);
}

/* Derivatives of token i by log-prob and value where they are moved by `by`. */
static void derivatives(const struct loss_config *cfg, const struct loss_token *t, float lp,
                        float val, float by, double out[2]) {
    float at_lp = lp + by, at_val = val + by, g[3];
    gradient(cfg, t, &at_lp, &at_val, 1, (float *[]){&g[0], &g[1], &g[2]});
    out[0] = (double)g[0];
    out[1] = (double)g[2];
}

/* A bound is crossed between the two ends: no derivative to compare with. */
static bool is_kink(double g[3][2], int which) {
    return fabs((g[0][which] + g[2][which]) / 2 - g[1][which]) > 2e-6;
}

static void check_setting(const struct loss_config *cfg, uint64_t key) {
    struct loss_token t[TOKENS];
    float lp[TOKENS], ent[TOKENS], val[TOKENS], g_lp[TOKENS], g_ent[TOKENS], g_val[TOKENS];
    int kinks = 0;
    fill(t, lp, ent, val, key);
    gradient(cfg, t, lp, val, TOKENS, (float *[]){g_lp, g_ent, g_val});
    for (int i = 0; i < TOKENS; i++) {
        double g[3][2];
        for (int k = 0; k < 3; k++)
            derivatives(cfg, &t[i], lp[i], val[i], (float)(k - 1) * grid, g[k]);
        CHECK(g[1][0] == (double)g_lp[i] && g[1][1] == (double)g_val[i]);
        kinks += is_kink(g, 0) + is_kink(g, 1);
        if (!is_kink(g, 0)) CHECK_NEAR(slope_at(cfg, t, lp, ent, val, &lp[i], grid), g_lp[i], 5e-6);
        if (!is_kink(g, 1))
            CHECK_NEAR(slope_at(cfg, t, lp, ent, val, &val[i], grid), g_val[i], 5e-6);
        CHECK_NEAR(slope_at(cfg, t, lp, ent, val, &ent[i], 0.5F), g_ent[i], 1e-7);
        if (loss_is_flat(cfg, &t[i])) CHECK(g_lp[i] == 0 && g_ent[i] == 0 && g_val[i] == 0);
    }
    CHECK(kinks < 5);
}

static const struct loss_config plain = {.clip_low = 0.2,
                                         .clip_high = 0.28,
                                         .dppo_low = 0.05,
                                         .dppo_high = 0.04,
                                         .dppo_kl = 0.01,
                                         .value_coef = 0.5,
                                         .value_clip = 0.2};

/* Losses without a factor that is taken as given: the derivative is that of the reported value. */
TEST(loss_gradient_is_the_derivative) {
    static const enum recipe_loss kinds[] = {RECIPE_LOSS_PPO_CLIP, RECIPE_LOSS_GSPO,
                                             RECIPE_LOSS_DPPO, RECIPE_LOSS_DECOUPLED};
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++)
        for (int kl = 0; kl < 3; kl++)
            for (int more = 0; more < 2; more++) {
                struct loss_config cfg = plain;
                cfg.loss = kinds[kind];
                cfg.kl = (enum recipe_kl)kl;
                cfg.reference = true;
                cfg.kl_coef = more * 0.3;
                cfg.entropy_coef = more * 0.05;
                cfg.dual_clip = more * 1.4;
                cfg.value_clip = more * 0.2;
                check_setting(&cfg, key + kind * 16 + (uint64_t)(kl * 2 + more));
            }
    struct loss_config sft = {.supervised = true};
    check_setting(&sft, key);
}

/* Slope of one token by log-prob lp, with behaviour and old log-prob -3. */
static double slope(const struct loss_config *cfg, double log_ratio, double advantage) {
    struct loss_token t = {
        .weight = 1, .correction = 1, .advantage = advantage, .behaviour = -3, .old = -3};
    float lp = (float)(-3 + log_ratio), g, ge;
    t.current = lp;
    t.alpha = 0.5F;
    t.sequence = log_ratio;
    gradient(cfg, &t, &lp, NULL, 1, (float *[]){&g, &ge, NULL});
    return (double)g;
}

TEST(loss_clip_has_four_corners) {
    struct loss_config cfg = {.clip_low = 0.2, .clip_high = 0.28};
    for (int gspo = 0; gspo < 2; gspo++) {
        cfg.loss = gspo ? RECIPE_LOSS_GSPO : RECIPE_LOSS_PPO_CLIP;
        CHECK_NEAR(slope(&cfg, 0, 2), -2, 1e-6);
        CHECK(slope(&cfg, 0.3, 1) == 0);                  /* good and already likelier: no push */
        CHECK_NEAR(slope(&cfg, 0.3, -1), exp(0.3), 1e-5); /* bad and likelier: pushed back */
        CHECK(slope(&cfg, -0.3, -1) == 0);
        CHECK_NEAR(slope(&cfg, 0.22, 1), -exp(0.22), 1e-5); /* between 1 + low and 1 + high */
        CHECK_NEAR(slope(&cfg, -0.3, 1), -exp(-0.3), 1e-5);
    }
    cfg.dual_clip = 3;
    CHECK_NEAR(slope(&cfg, 1, -1), exp(1), 1e-5);
    CHECK(slope(&cfg, 1.2, -1) == 0); /* exp(1.2) > 3 */
    CHECK(slope(&cfg, 1.2, 1) == 0);  /* by the clip */
}

TEST(loss_weights_that_are_taken_as_given) {
    struct loss_config cfg = {.loss = RECIPE_LOSS_CISPO, .clip_low = 1, .clip_high = 0.5};
    CHECK_NEAR(slope(&cfg, 0.2, 2), -2 * exp(0.2), 1e-5);
    CHECK_NEAR(slope(&cfg, 1, 2), -3, 1e-6); /* the weight is cut, the token still counts */
    CHECK_NEAR(slope(&cfg, -1, -2), 2 * exp(-1), 1e-5);
    cfg.clip_low = 0.2;
    CHECK_NEAR(slope(&cfg, -1, -2), 1.6, 1e-6);
    cfg.loss = RECIPE_LOSS_TOPR;
    CHECK_NEAR(slope(&cfg, 1, 2), -2, 1e-6); /* good: weight 1 however likely */
    CHECK_NEAR(slope(&cfg, -1, 2), -2, 1e-6);
    CHECK_NEAR(slope(&cfg, 1, -2), 2, 1e-6);
    CHECK_NEAR(slope(&cfg, -1, -2), 2 * exp(-1), 1e-5);
    cfg = (struct loss_config){.loss = RECIPE_LOSS_DPPO, .dppo_low = 0.02, .dppo_high = 0.03};
    double p = exp(-3);
    CHECK_NEAR(slope(&cfg, log(1 + 0.029 / p), 1), -(1 + 0.029 / p), 1e-5);
    CHECK(slope(&cfg, log(1 + 0.031 / p), 1) == 0);
    CHECK_NEAR(slope(&cfg, log(1 + 0.031 / p), -1), 1 + 0.031 / p, 1e-5);
    CHECK(slope(&cfg, log(1 - 0.021 / p), -1) == 0);
    CHECK_NEAR(slope(&cfg, log(1 - 0.019 / p), -1), 1 - 0.019 / p, 1e-5);
    cfg.dppo_kl = 0.1;
    CHECK_NEAR(slope(&cfg, log(1 + 0.031 / p), 1), 0.2 * log(1 + 0.031 / p), 1e-6);
}

/* A-3PO: half of the log-ratio is the weight, half the ratio that is clipped. */
TEST(loss_interpolated_proximal_policy) {
    struct loss_config cfg = {
        .loss = RECIPE_LOSS_DECOUPLED, .interpolate = true, .clip_low = 0.2, .clip_high = 0.28};
    CHECK_NEAR(slope(&cfg, 0.4, 2), -2 * exp(0.4), 1e-5);
    CHECK(slope(&cfg, 0.5, 2) == 0); /* exp(0.25) > 1.28 */
    CHECK_NEAR(slope(&cfg, 0.5, -2), 2 * exp(0.5), 1e-5);
    cfg.cap = 1.1;
    CHECK_NEAR(slope(&cfg, 0.4, 2), -2 * exp(0.2) * 1.1, 1e-5);
}

TEST(loss_report_by_hand) {
    const struct loss_config cfg = {.clip_low = 0.2,
                                    .clip_high = 0.28,
                                    .kl_coef = 0.5,
                                    .kl = RECIPE_KL_K1,
                                    .reference = true,
                                    .value_coef = 0.25};
    struct loss_token t[3] = {
        {.weight = 0.5, .advantage = 1, .behaviour = -2, .old = -2, .reference = -1.5F},
        {.weight = 0.5, .advantage = -1, .behaviour = -1, .old = -1, .reference = -1},
        {.weight = 0, .advantage = 9, .behaviour = -1, .old = -1, .reference = -1},
    };
    const float lp[3] = {-1, -1, -1}, ent[3] = {0.25F, 0.75F, 0.5F}, val[3] = {1, 2, 3};
    struct loss_sums s = {0};
    for (int i = 0; i < 3; i++) {
        t[i].correction = i == 0 ? 0.5 : 1;
        t[i].share = 0.5;
        t[i].goal = 1;
    }
    add(&s, &cfg, t, lp, ent, val, 3);
    loss_finish(&s);
    CHECK_NEAR(s.pg_loss, 0.5 * (0.5 * -1.28 + 1), 1e-12);
    CHECK_NEAR(s.kl, 0.5 / 3, 1e-12);
    CHECK_NEAR(s.kl_loss, 0.25, 1e-12);
    CHECK_NEAR(s.value_loss, 0.5 * (0.5 + 2), 1e-12);
    CHECK_NEAR(s.loss, 0.5 * (0.5 * -1.28 + 1) + 0.125 + 0.25 * 1.25, 1e-12);
    CHECK_NEAR(s.entropy, 0.5, 1e-12);
    CHECK_NEAR(s.clip_fraction, 0.5, 0); /* the rejected token does not count */
    CHECK_NEAR(s.ratio_max, exp(1), 1e-12);
    double e = exp(1);
    CHECK_NEAR(s.ess, (e + 2) * (e + 2) / (3 * (e * e + 2)), 1e-12);
}

/* Several steps: losses are means over the steps, the rest over all tokens. */
TEST(loss_report_of_several_steps) {
    const struct loss_config cfg = {.clip_low = 0.2, .clip_high = 0.28};
    const struct loss_token t = {
        .weight = 1, .correction = 1, .advantage = 1, .behaviour = -1, .old = -1};
    const float lp[2] = {-1, 0}, ent[2] = {1, 3};
    struct loss_sums s = {0};
    add(&s, &cfg, &t, &lp[0], &ent[0], NULL, 1);
    add(&s, &cfg, &t, &lp[1], &ent[1], NULL, 1);
    loss_finish(&s);
    CHECK_NEAR(s.pg_loss, -(1 + 1.28) / 2, 1e-12);
    CHECK_NEAR(s.entropy, 2, 0);
    CHECK_NEAR(s.clip_fraction, 0.5, 0);
    s = (struct loss_sums){0};
    loss_finish(&s); /* nothing at all */
    CHECK(s.loss == 0 && s.ess == 0);
}

TEST(loss_absurd_logprobs_stay_finite) {
    for (int kind = 0; kind < RECIPE_LOSSES_N; kind++) {
        const struct loss_config cfg = {.loss = (enum recipe_loss)kind,
                                        .clip_low = 0.2,
                                        .clip_high = 0.2,
                                        .kl_coef = 0.1,
                                        .reference = true,
                                        .interpolate = true,
                                        .dppo_kl = 0.001,
                                        .dppo_high = 0.2,
                                        .kl = RECIPE_KL_K3};
        struct loss_token t = {.weight = 1, .correction = 1, .advantage = -1, .alpha = 0.7F};
        t.behaviour = t.old = -1000;
        t.reference = -0.5F;
        t.sequence = 500;
        const float lp = -900, ent = 1;
        float g, ge;
        struct loss_sums s = {0};
        gradient(&cfg, &t, &lp, NULL, 1, (float *[]){&g, &ge, NULL});
        add(&s, &cfg, &t, &lp, &ent, NULL, 1);
        loss_finish(&s);
        CHECK(isfinite(g) && isfinite(s.loss) && isfinite(s.ess));
    }
}

/* Each loss has a row in the first table of docs/losses.md. */
TEST(loss_kinds_are_documented) {
#define WORD(name, word, low, high, formula) "\n| `" word "` |",
    static const char *const rows[] = {RECIPE_LOSSES(WORD)};
    char *text;
    size_t bytes;
    CHECK_OK(file_read(&text, &bytes, "docs/losses.md", 1 << 20));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!strstr(text, rows[i]))
            test_fail(__FILE__, __LINE__, "docs/losses.md lacks%s", rows[i]);
    mem_free(text);
}

TEST(loss_flat_tokens) {
    struct loss_config cfg = {.clip_low = 0.2, .clip_high = 0.2};
    struct loss_token t = {.weight = 1, .share = 1};
    CHECK(loss_is_flat(&cfg, &t));
    t.advantage = -0.1;
    CHECK(!loss_is_flat(&cfg, &t));
    t.advantage = 0;
    cfg.entropy_coef = 0.1;
    CHECK(!loss_is_flat(&cfg, &t));
    cfg = (struct loss_config){.kl_coef = 0.1};
    CHECK(!loss_is_flat(&cfg, &t));
    cfg = (struct loss_config){.loss = RECIPE_LOSS_DPPO, .dppo_kl = 0.1};
    CHECK(!loss_is_flat(&cfg, &t));
    t.weight = 0;
    CHECK(loss_is_flat(&cfg, &t));
    cfg.value_coef = 0.1;
    CHECK(!loss_is_flat(&cfg, &t)); /* rejection is about the policy, not the critic */
}
