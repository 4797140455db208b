/* health_test.c - series of step metrics with one thing the matter, and healthy ones that look
 * nearly like it. */
#include "deploy/progress/health.h"

#include "base/rng.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

static struct health *series(int64_t steps, bool relative) {
    struct health_config cfg = {.steps = steps, .group_size = 8, .relative = relative};
    return health_open(&cfg);
}

/* A step like any: 4 groups of 8, rewards 0 and 1. */
static struct health_step usual(int64_t step) {
    return (struct health_step){.step = step,
                                .reward = 0.4 + 0.01 * (double)(step % 3),
                                .reward_std = 0.49,
                                .sequences = 32,
                                .entropy = 0.5,
                                .grad_norm = 1,
                                .truncated = 0.1,
                                .equal_groups = 1,
                                .groups = NAN,
                                .finite = true};
}

static const struct health_finding *find(const struct health *h, enum health_kind kind) {
    static struct health_finding f[HEALTH_KINDS];
    size_t n = health_find(h, f);
    for (size_t i = 0; i < n; i++)
        if (f[i].kind == kind) return &f[i];
    return NULL;
}

static bool warns(const struct health *h, enum health_kind kind) {
    const struct health_finding *f = find(h, kind);
    return f && f->warning;
}

TEST(a_usual_run_has_nothing) {
    struct health_finding f[HEALTH_KINDS];
    struct health *h = series(400, true);
    CHECK_INT(health_find(h, f), 0);
    for (int64_t i = 0; i < 400; i++) {
        struct health_step s = usual(i);
        s.reward += 0.004 * (double)i;
        s.entropy -= 0.001 * (double)i; /* a fifth is left at the end */
        health_take(h, &s);
        CHECK_INT(health_find(h, f), 0);
    }
    health_close(&h);
}

TEST(equal_rewards) {
    struct health *h = series(100, true);
    for (int64_t i = 0; i < 20; i++) {
        struct health_step s = usual(i);
        if (i >= 10) s.equal_groups = 4, s.reward = s.grad_norm = 0;
        health_take(h, &s);
        CHECK(warns(h, HEALTH_EQUAL) == (i >= 17));
        CHECK(!find(h, HEALTH_NO_GRADIENT)); /* the same thing, said once */
    }
    const struct health_finding *f = find(h, HEALTH_EQUAL);
    CHECK_STR(f->text, "all groups scored equal (reward 0) for 10 steps: no gradient");
    CHECK_INT(f->since, 10);
    CHECK_INT(f->step, 19);
    struct health_step s = usual(20); /* one group with a signal ends it */
    health_take(h, &s);
    CHECK(!find(h, HEALTH_EQUAL));
    health_close(&h);
}

/* remax, gae and reinforce++ learn from a group of equal rewards. */
/* Rewards that hardly ever pay: a lucky group or two in a batch of many is nothing to learn from.
 */
TEST(a_lucky_group_does_not_hide_equal_rewards) {
    struct health *h = series(100, true);
    for (int64_t i = 0; i < 30; i++) {
        struct health_step s = usual(i);
        s.sequences = 256; /* 32 groups */
        s.equal_groups = i == 10 || i == 24 ? 30 : i % 5 == 0 ? 31 : 32;
        s.reward = s.equal_groups < 32 ? 0.01 : 0;
        health_take(h, &s);
        CHECK(warns(h, HEALTH_EQUAL) == (i >= 7));
    }
    const struct health_finding *f = find(h, HEALTH_EQUAL);
    CHECK_STR(f->text, "nearly all groups scored equal (reward 0.0025) for 30 steps: "
                       "hardly any gradient");
    struct health_step s = usual(30); /* 15 of the window's 256 groups are not equal */
    s.sequences = 256;
    s.equal_groups = 20;
    health_take(h, &s);
    CHECK(!find(h, HEALTH_EQUAL));
    health_close(&h);
}

TEST(equal_rewards_are_a_signal_for_others) {
    struct health *h = series(100, false);
    for (int64_t i = 0; i < 20; i++) {
        struct health_step s = usual(i);
        s.equal_groups = 4;
        health_take(h, &s);
    }
    CHECK(!find(h, HEALTH_EQUAL));
    for (int64_t i = 20; i < 40; i++) {
        struct health_step s = usual(i);
        s.equal_groups = 4, s.grad_norm = 0;
        health_take(h, &s);
    }
    CHECK(warns(h, HEALTH_NO_GRADIENT));
    health_close(&h);
}

TEST(a_short_run_needs_all_of_its_steps) {
    for (int64_t steps = 1; steps < 8; steps++) {
        struct health *h = series(steps, true);
        for (int64_t i = 0; i < steps; i++) {
            struct health_step s = usual(i);
            s.equal_groups = 4;
            health_take(h, &s);
            CHECK(warns(h, HEALTH_EQUAL) == (i + 1 == steps && steps >= 3));
        }
        health_close(&h);
    }
}

/* Solved: equal rewards, no gradient and no entropy are what one hopes for. */
TEST(a_solved_task_is_a_note) {
    struct health *h = series(100, true);
    for (int64_t i = 0; i < 60; i++) {
        struct health_step s = usual(i);
        if (i >= 30) {
            s.reward = 1;
            s.reward_std = s.grad_norm = 0;
            s.entropy = 0.001;
            s.equal_groups = 4;
        }
        health_take(h, &s);
    }
    const struct health_finding *f = find(h, HEALTH_EQUAL);
    CHECK(f && !f->warning && strstr(f->text, "nothing is left"));
    CHECK(find(h, HEALTH_ENTROPY) && !warns(h, HEALTH_ENTROPY));
    health_close(&h);
}

TEST(entropy_collapsed_without_a_rise) {
    struct health *h = series(100, true);
    for (int64_t i = 0; i < 60; i++) {
        struct health_step s = usual(i);
        if (i >= 30) s.entropy = 0.02;
        health_take(h, &s);
    }
    CHECK(warns(h, HEALTH_ENTROPY));
    CHECK(strstr(find(h, HEALTH_ENTROPY)->text, "0.5 to 0.02"));
    health_close(&h);
}

static void rewards(struct health *h, int64_t from, int64_t to, double reward, double std) {
    for (int64_t i = from; i < to; i++) {
        struct health_step s = usual(i);
        s.reward = reward, s.reward_std = std;
        health_take(h, &s);
    }
}

TEST(the_reward_has_fallen) {
    static const struct {
        double before, best, after, std;
        bool fallen;
    } cases[] = {
        {0.3, 0.8, 0.3, 0.4, true},
        {0.3, 0.8, 0.7, 0.4, false},
        {-0.5, -0.1, -0.9, 0.5, true},
        {-0.5, -0.1, -0.2, 0.5, false},
        {10.2, 10.8, 10.2, 0.45, true},
        {10.2, 10.8, 10.6, 0.45, false},
        {0.05, 0.06, 0.04, 0.2, false}, /* chance */
        {0, 0, 0, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct health *h = series(200, true);
        rewards(h, 0, 20, cases[i].before, cases[i].std);
        rewards(h, 20, 40, cases[i].best, cases[i].std);
        rewards(h, 40, 60, cases[i].after, cases[i].std);
        CHECK(warns(h, HEALTH_FALLEN) == cases[i].fallen);
        rewards(h, 60, 80, cases[i].best, cases[i].std); /* and came back */
        CHECK(!find(h, HEALTH_FALLEN));
        health_close(&h);
    }
}

TEST(responses_are_cut) {
    struct health *h = series(100, true);
    for (int64_t i = 0; i < 40; i++) {
        struct health_step s = usual(i);
        s.truncated = i < 20 ? 0.89 : 0.97;
        health_take(h, &s);
        CHECK(warns(h, HEALTH_TRUNCATED) == (i >= 27));
    }
    health_close(&h);
}

TEST(groups_are_rejected) {
    struct health *h = series(100, true);
    for (int64_t i = 0; i < 40; i++) {
        struct health_step s = usual(i);
        s.rejected[0] = i < 20 ? 3 : 4; /* of reward errors; 4 are trained */
        s.rejected[3] = i == 5;
        health_take(h, &s);
        CHECK(warns(h, HEALTH_REJECTED) == (i >= 27));
    }
    const char *text = find(h, HEALTH_REJECTED)->text;
    CHECK(strstr(text, "50 % of the groups") && strstr(text, "their reward failed"));
    health_close(&h);
}

TEST(numbers_that_are_none) {
    static const char bad[] = "{\"step\": 3, \"actor/loss\": null, \"actor/grad_norm\": null, "
                              "\"batch/sequences\": 16, \"gac/action\": \"off\"}";
    static const char skipped[] = "{\"step\": 3, \"actor/loss\": 1, \"actor/grad_norm\": 2, "
                                  "\"gac/action\": \"skip\"}";
    struct json_doc *doc;
    struct health_step s;
    CHECK_OK(json_parse(&doc, bad, strlen(bad), "bad"));
    health_step_read(&s, json_root(doc));
    json_close(&doc);
    CHECK(!s.finite && !s.skipped && s.step == 3 && isnan(s.reward) && isnan(s.groups));
    struct health *h = series(100, true);
    for (s.step = 0; s.step < 8; s.step++)
        health_take(h, &s);
    CHECK(warns(h, HEALTH_NOT_FINITE));
    health_close(&h);
    CHECK_OK(json_parse(&doc, skipped, strlen(skipped), "skipped"));
    health_step_read(&s, json_root(doc));
    json_close(&doc);
    CHECK(s.finite && s.skipped);
    h = series(100, true);
    for (s.step = 0; s.step < 8; s.step++)
        health_take(h, &s);
    CHECK(warns(h, HEALTH_SKIPPED));
    health_close(&h);
}

TEST(a_flat_reward_is_a_note) {
    struct health *h = series(1000, true);
    rewards(h, 0, 49, 0.4, 0.49);
    CHECK(!find(h, HEALTH_FLAT));
    rewards(h, 49, 60, 0.41, 0.49);
    CHECK(find(h, HEALTH_FLAT) && !warns(h, HEALTH_FLAT));
    rewards(h, 60, 80, 0.8, 0.4);
    CHECK(!find(h, HEALTH_FLAT));
    health_close(&h);
}

/* Batches of few trajectories are noisy; nothing but "flat" may come of that. */
TEST(noise_is_no_finding) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    struct health_finding f[HEALTH_KINDS];
    for (uint64_t run = 0; run < 200; run++) {
        struct health *h = series(500, true);
        double p = 0.1 + 0.8 * rng_uniform(key, run, 1 << 20);
        for (int64_t i = 0; i < 500; i++) {
            struct health_step s = usual(i);
            double right = 0;
            for (uint64_t k = 0; k < 32; k++)
                right += rng_uniform(key, run, (uint64_t)i * 32 + k) < p;
            s.reward = right / 32;
            s.reward_std = sqrt(s.reward * (1 - s.reward));
            s.equal_groups = (double)rng_below(key, run, (uint64_t)i + (1 << 21), 4);
            health_take(h, &s);
            size_t n = health_find(h, f);
            for (size_t k = 0; k < n; k++)
                if (f[k].kind != HEALTH_FLAT)
                    test_fail(__FILE__, __LINE__, "p %g step %lld: %s", p, (long long)i, f[k].text);
        }
        health_close(&h);
    }
}

TEST(steps_once) {
    struct health *h = series(100, true);
    struct health_step s = usual(0);
    s.equal_groups = 4;
    for (int i = 0; i < 20; i++) /* a file that was rewritten */
        health_take(h, &s);
    CHECK(!find(h, HEALTH_EQUAL));
    s.step = -1;
    health_take(h, &s);
    health_close(&h);
}
