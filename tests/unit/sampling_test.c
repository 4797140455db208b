/* sampling_test.c - which rows groups get, what is learned about rows, and dynamic sampling in the
 * state machine: random interleavings with deaths and restores against an oracle that looks at the
 * groups in the order of their ids only (I8), and against I2 and I3. */
#include "rollout/manager/sampling.h"

#include "base/mem.h"
#include "base/rng.h"
#include "rollout/manager/groups.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>

/* --- rows ----------------------------------------------------------------------------------- */

static struct dataset *rows(int64_t n) {
    struct dataset *d = NULL;
    struct dataset_config cfg = {.path = "builtin:addition", .limit = n, .seed = 5};
    CHECK_OK(dataset_open(&d, &cfg));
    return d;
}

static struct sampling *open_vade(struct dataset *d, int64_t candidates) {
    struct sampling *s = NULL;
    struct sampling_config cfg = {.seed = 5,
                                  .shuffle = true,
                                  .vade = true,
                                  .candidates = candidates,
                                  .visited = 0.7,
                                  .unvisited = 0.98};
    sampling_open(&s, d, &cfg);
    return s;
}

TEST(sampling_plain_is_the_permutation) {
    struct dataset *d = rows(7);
    struct sampling *s = NULL;
    struct sampling_config cfg = {.seed = 5, .shuffle = true};
    uint64_t epoch = 0;
    sampling_open(&s, d, &cfg);
    for (uint64_t g = 0; g < 30; g++) {
        CHECK_INT(sampling_row(s, g, 3, &epoch), dataset_row_at(d, g, 5, true));
        CHECK_INT(epoch, g / 7);
    }
    sampling_close(&s);
    dataset_close(&d);
}

TEST(sampling_decays_as_documented) {
    struct dataset *d = rows(10);
    struct sampling *s = open_vade(d, 2);
    struct sampling_beta b = sampling_posterior(s, 4, 9);
    CHECK(b.alpha == 1 && b.beta == 1);
    b = sampling_learn(s, 4, 2, 3, 5);
    CHECK(b.alpha == 4 && b.beta == 6);
    b = sampling_posterior(s, 4, 3); /* the next batch: nothing was missed */
    CHECK(b.alpha == 4 && b.beta == 6);
    b = sampling_posterior(s, 4, 5);
    CHECK_NEAR(b.alpha, 1 + 0.98 * 0.98 * 3, 1e-12);
    b = sampling_learn(s, 4, 5, 1, 0);
    CHECK_NEAR(b.alpha, 1 + 0.7 * 0.98 * 0.98 * 3 + 1, 1e-12);
    CHECK_NEAR(b.beta, 1 + 0.7 * 0.98 * 0.98 * 5, 1e-12);
    CHECK_INT(sampling_visited(s), 1);
    CHECK_ERR(sampling_restore(s, 10, 5, b), ERR_CORRUPT, "row 10");
    CHECK_ERR(sampling_restore(s, 1, 5, (struct sampling_beta){0, 3}), ERR_CORRUPT, "posterior");
    sampling_close(&s);
    dataset_close(&d);
}

/* Mean and variance of the draws, seen through choices between rows: with two candidates of the
 * same posterior each wins half; the better one wins more often the surer it is. */
TEST(sampling_prefers_informative_rows) {
    enum { N = 4000 };
    struct dataset *d = rows(N);
    struct sampling *s = open_vade(d, 4);
    int64_t chosen[3] = {0}, there[3] = {0};
    uint64_t epoch = 0;
    for (uint64_t r = 0; r < N; r++) { /* a third is hopeless, a third easy, a third right for us */
        static const double rate[3] = {0.02, 0.98, 0.33};
        sampling_learn(s, r, 0, 60 * rate[r % 3], 60 * (1 - rate[r % 3]));
        there[r % 3]++;
    }
    for (uint64_t g = 0; g < N / 4; g++) {
        uint64_t r = sampling_row(s, g, 1, &epoch);
        bool candidate = false;
        for (uint64_t i = 0; i < 4; i++)
            candidate = candidate || dataset_row_at(d, 4 * g + i, 5, true) == r;
        CHECK(candidate && epoch == 0);
        chosen[r % 3]++;
    }
    CHECK(there[2] == N / 3);
    CHECK(chosen[2] > 750); /* 4 of 5 windows have one: 1 - (2/3)^4 */
    CHECK(chosen[1] < chosen[0] + 120);
    CHECK_NEAR(sampling_score(1.0 / 3), 4.0 / 27, 1e-15);
    CHECK(sampling_score(0.3) < 4.0 / 27 && sampling_score(0.36) < 4.0 / 27);
    sampling_close(&s);
    dataset_close(&d);
}

/* Without evidence a draw is uniform: its mean score is the integral of p(1-p)^2, 1/12; the best of
 * two has another. A wrong gamma or a shared counter shows in the share that each place wins. */
TEST(sampling_draws_are_fair) {
    enum { N = 30000 };
    struct dataset *d = rows(N);
    struct sampling *s = open_vade(d, 3);
    int64_t wins[3] = {0};
    uint64_t epoch = 0;
    for (uint64_t g = 0; g < N / 3; g++) {
        uint64_t r = sampling_row(s, g, 0, &epoch);
        for (uint64_t i = 0; i < 3; i++)
            wins[i] += dataset_row_at(d, 3 * g + i, 5, true) == r;
    }
    for (int i = 0; i < 3; i++)
        CHECK(llabs(wins[i] - N / 9) < 250); /* five standard deviations */
    sampling_close(&s);
    dataset_close(&d);
}

struct visit {
    uint64_t row;
    int64_t step;
    struct sampling_beta b;
};

/* A restart: what was recorded, told in another order, gives the same choices bit for bit. */
TEST(sampling_restores_exactly) {
    enum { STEPS = 40, B = 3, K = 4 };
    struct dataset *d = rows(50);
    struct sampling *s = open_vade(d, K);
    struct visit log[STEPS * B];
    uint64_t key = rng_key(test_seed(), RNG_TEST), group = 0, epoch = 0, other = 0;
    for (int64_t v = 0; v < STEPS; v++) {
        uint64_t row[B];
        for (int i = 0; i < B; i++) {
            row[i] = sampling_row(s, group, v, &epoch);
            CHECK_INT(epoch, group * K / 50);
            group++;
        }
        struct sampling *again = open_vade(d, K);
        for (int64_t i = v * B - 1; i >= 0; i--) { /* newest first, but those of a step in order */
            int64_t k = i / B * B + (B - 1 - i % B);
            CHECK_OK(sampling_restore(again, log[k].row, log[k].step, log[k].b));
        }
        CHECK_INT(sampling_visited(again), sampling_visited(s));
        for (int i = 0; i < B; i++)
            CHECK_INT(sampling_row(again, group - B + (uint64_t)i, v, &other), row[i]);
        sampling_close(&again);
        for (int i = 0; i < B; i++) {
            double hits = (double)rng_below(key, 1, group + (uint64_t)i, 5) / 3;
            log[v * B + i] = (struct visit){row[i], v, {0, 0}};
            log[v * B + i].b = sampling_learn(s, row[i], v, hits, 4 - hits);
        }
    }
    sampling_close(&s);
    dataset_close(&d);
}

/* --- dynamic sampling in the state machine -------------------------------------------------- */

enum { ROLLOUTS = 3, SEATS = 6, IDS = 4096, SIZE_MAX_ = 4, BATCH_MAX = 5, STEPS_MAX = 6 };

struct seat {
    uint64_t id;
    int64_t version;
};

struct saved {
    int64_t slot, floor, step;
    enum groups_state state;
    enum groups_reason reason;
    int64_t version[SIZE_MAX_]; /* -1: not generated */
    bool scored[SIZE_MAX_];
};

struct sim {
    struct groups_config cfg;
    struct groups *g;
    uint64_t rewards, events, draws; /* rewards: what the run is; events: what happens to it */
    int32_t rollouts, n[ROLLOUTS];
    int64_t version[ROLLOUTS], formed, done, published, rejected;
    struct seat seat[ROLLOUTS][SEATS];
    struct saved group[IDS];
    uint64_t batch[STEPS_MAX][BATCH_MAX];
};

static uint64_t below(struct sim *s, uint64_t n) {
    return rng_below(rng_key(s->events, RNG_TEST), 1, s->draws++, n);
}

/* A function of the trajectory only, and mostly the same within a group. */
static float reward_of(const struct sim *s, uint64_t id) {
    uint64_t key = rng_key(s->rewards, RNG_TEST), group = id / (uint64_t)s->cfg.size;
    uint64_t luck = rng_below(key, 2, group, 3);
    return luck < 2 ? (float)luck : (float)rng_below(key, 3, id, 2);
}

static bool zero(const struct sim *s, uint64_t group) {
    uint64_t size = (uint64_t)s->cfg.size;
    for (uint64_t i = 1; i < size; i++)
        if (reward_of(s, group * size + i) != reward_of(s, group * size)) return false;
    return true;
}

static void ask(struct sim *s, int32_t r) {
    struct groups_item items[SEATS];
    int64_t want = 0;
    uint32_t room = (uint32_t)(SEATS - s->n[r]);
    if (room == 0) return;
    uint32_t n =
        groups_dispatch(s->g, r, s->version[r], 1 + (uint32_t)below(s, room), items, &want);
    for (uint32_t i = 0; i < n; i++) {
        const struct groups_group *p = groups_group(s->g, items[i].group);
        CHECK(p->id < IDS);
        s->seat[r][s->n[r]++] = (struct seat){items[i].trajectory, s->version[r]};
        if (!items[i].starts) continue;
        s->group[p->id] = (struct saved){.slot = p->slot,
                                         .floor = p->floor,
                                         .step = -1,
                                         .state = GROUPS_RUNNING,
                                         .version = {-1, -1, -1, -1}};
    }
    if (n == 0 && s->n[r] == 0) s->version[r] = s->published;
}

static void finish(struct sim *s, int32_t r) {
    if (s->n[r] == 0) return;
    int32_t i = (int32_t)below(s, (uint64_t)s->n[r]);
    struct seat x = s->seat[r][i];
    uint32_t known = 0;
    s->seat[r][i] = s->seat[r][--s->n[r]];
    if (groups_tokens(s->g, r, x.id, 0, 1, &x.version, true, &known) != GROUPS_TAKE) return;
    s->group[x.id / (uint64_t)s->cfg.size].version[x.id % (uint64_t)s->cfg.size] = x.version;
}

static void score(struct sim *s) {
    uint64_t wait[128], n = 0, size = (uint64_t)s->cfg.size;
    const struct groups_group *p;
    for (int64_t i = 0; (p = groups_at(s->g, i)); i++)
        for (uint64_t k = 0; k < size && n < 128; k++)
            if (groups_traj(s->g, p->id * size + k)->state == GROUPS_GENERATED)
                wait[n++] = p->id * size + k;
    if (n == 0) return;
    uint64_t id = wait[below(s, n)], group = id / size;
    struct saved *to = &s->group[group];
    CHECK(groups_score(s->g, id, reward_of(s, id)));
    to->scored[id % size] = true;
    bool last = groups_group(s->g, group)->state == GROUPS_FINISHED;
    CHECK_INT(groups_refused(s->g, group), last && zero(s, group));
    if (!groups_refused(s->g, group)) return;
    int64_t before = groups_counts(s->g).zero_rejected;
    to->state = GROUPS_REJECTED;
    to->reason = GROUPS_ZERO;
    to->step = s->formed;
    s->rejected++;
    CHECK(groups_reject(s->g, group, GROUPS_ZERO));
    CHECK_INT(groups_counts(s->g).zero_rejected, before + 1);
    CHECK_INT(groups_counts(s->g).failed_in_row, 0);
}

/* I2, I3; and that nothing without a signal is trained. */
static void train(struct sim *s) {
    uint64_t *ids = s->batch[s->formed], stale = 0;
    if (s->formed > s->done) {
        s->published = s->formed;
        if (below(s, 2)) CHECK_OK(groups_step_done(s->g, s->done++));
        return;
    }
    if (!groups_form(s->g, ids)) return;
    for (int64_t i = 0; i < s->cfg.groups; i++) {
        struct saved *p = &s->group[ids[i]];
        CHECK_INT(p->state, GROUPS_RUNNING);
        CHECK(!zero(s, ids[i]));
        p->state = GROUPS_TRAINED;
        p->step = s->formed;
        for (int64_t k = 0; k < s->cfg.size; k++)
            CHECK(p->scored[k] && p->version[k] >= s->formed - s->cfg.eta &&
                  p->version[k] <= s->formed);
    }
    groups_train(s->g, ids);
    s->formed++;
    while (groups_expire(s->g, &stale)) {
        s->group[stale].state = GROUPS_REJECTED;
        s->group[stale].reason = GROUPS_STALE;
        s->rejected++;
    }
}

static void restore(struct sim *s) {
    struct groups_counts before = groups_counts(s->g), after;
    uint64_t size = (uint64_t)s->cfg.size;
    groups_close(&s->g);
    CHECK_OK(groups_open(&s->g, &s->cfg));
    groups_restore_batches(s->g, s->formed, s->done);
    for (uint64_t i = 0; i < before.next; i++) {
        const struct saved *p = &s->group[i];
        CHECK_OK(groups_restore_group(s->g, i, p->slot, p->floor, p->state, p->reason));
        if (p->state == GROUPS_REJECTED && p->reason == GROUPS_ZERO)
            groups_restore_zero(s->g, p->step);
        for (uint64_t k = 0; p->state == GROUPS_RUNNING && k < size; k++) {
            bool there = p->version[k] >= 0;
            CHECK_OK(groups_restore_traj(s->g, i * size + k, there, there ? p->version[k] : 0,
                                         there, p->scored[k], reward_of(s, i * size + k)));
        }
    }
    CHECK_OK(groups_restore_end(s->g));
    after = groups_counts(s->g);
    CHECK(after.live == before.live && after.finished == before.finished &&
          after.zero_rejected == before.zero_rejected &&
          after.rejected[GROUPS_ZERO] == before.rejected[GROUPS_ZERO]);
    for (int32_t r = 0; r < ROLLOUTS; r++) /* those that come back were given to others, or not */
        for (int32_t i = s->n[r] - 1; i >= 0; i--)
            if (below(s, 2) || groups_adopt(s->g, r, s->seat[r][i].id) < 0)
                s->seat[r][i] = s->seat[r][--s->n[r]];
}

static void event(struct sim *s, bool deaths) {
    int32_t r = (int32_t)below(s, (uint64_t)s->rollouts);
    uint64_t x = below(s, 100);
    if (x < 25)
        ask(s, r);
    else if (x < 55)
        finish(s, r);
    else if (x < 80)
        score(s);
    else if (x < 90)
        train(s);
    else if (x < 96 && s->n[r] == 0)
        s->version[r] = s->published;
    else if (x == 98 && deaths) {
        groups_release(s->g, r);
        s->n[r] = 0;
        s->version[r] = -1;
    } else if (x == 99 && deaths)
        restore(s);
}

/* The batches of one run under one order of events. */
static void play(struct sim *s, uint64_t run, uint64_t events) {
    memset(s, 0, sizeof *s);
    s->events = s->rewards = run;
    s->cfg = (struct groups_config){.groups = 1 + (int64_t)below(s, BATCH_MAX),
                                    .size = 2 + (int64_t)below(s, SIZE_MAX_ - 1),
                                    .eta = below(s, 2) ? 0 : (int64_t)below(s, 5),
                                    .concurrency = 4 + (int64_t)below(s, ROLLOUTS * SEATS),
                                    .steps = 1 + (int64_t)below(s, STEPS_MAX),
                                    .tokens_max = 4,
                                    .drop = below(s, 3) == 0,
                                    .dynamic = true};
    s->events = events;
    s->rollouts = 1 + (int32_t)below(s, ROLLOUTS);
    bool deaths = below(s, 2);
    CHECK_OK(groups_open(&s->g, &s->cfg));
    for (int i = 0; s->done < s->cfg.steps; i++) {
        if (i > 200000) test_fail(__FILE__, __LINE__, "no progress: deadlock");
        event(s, deaths && i < 100000);
    }
    struct groups_counts n = groups_counts(s->g);
    CHECK_INT(n.next, (uint64_t)(s->cfg.steps * s->cfg.groups + s->rejected));
    CHECK(n.live == s->cfg.steps * s->cfg.groups && n.running == 0 && n.finished == 0);
    for (uint64_t i = 0; i < n.next; i++)
        CHECK(s->group[i].state == GROUPS_TRAINED || s->group[i].state == GROUPS_REJECTED);
    groups_close(&s->g);
}

/* With eta 0: batch v is the next B groups with a signal, in the order of their ids. */
static void judge(const struct sim *s) {
    uint64_t id = 0;
    for (int64_t v = 0; v < s->cfg.steps; v++)
        for (int64_t i = 0; i < s->cfg.groups; i++, id++) {
            while (zero(s, id))
                id++;
            CHECK_INT(s->batch[v][i], id);
        }
}

TEST(sampling_dynamic_random_runs) {
    struct sim *s = mem_zalloc(sizeof *s);
    int64_t synchronous = 0, rejected = 0;
    for (uint64_t i = 0; i < 1500; i++) {
        err_set("", 0, "run %llu", (unsigned long long)i);
        play(s, test_seed() + i / 3, 7 * test_seed() + 1000 + i);
        rejected += s->rejected;
        if (s->cfg.eta > 0) continue;
        judge(s);
        synchronous++;
    }
    CHECK(synchronous > 300 && rejected > 5000);
    mem_free(s);
}
