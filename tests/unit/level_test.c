/* level_test.c - the level against fixed bounds, in virtual time: rollouts that share their speed
 * among their sequences, lengths with a tail, a trainer whose steps vary, all of it changing in the
 * middle of a run. Admission, batches and staleness are the real state machine's. */
#include "rollout/manager/level.h"

#include "base/mem.h"
#include "base/rng.h"
#include "rollout/manager/groups.h"
#include "tests/test.h"

enum { SEATS_MAX = 512, STEPS = 200, CHANGE = 100, SETTLED = 20, RUNS = 3, BOUNDS = 8 };

struct scene {
    int64_t batch, eta, seats;
    double rate, rate_each; /* tokens a second: of all sequences together at most, of one */
    double train_s, jitter, length, sigma;
    double rate_after, length_after; /* factors from step CHANGE on */
    int64_t burst_every, burst;      /* so many of so many steps, evaluation takes ... */
    double burst_takes;              /* this share of rollouts' speed */
};

struct outcome { /* over the settled steps before the change, and after it */
    double idle[2], staleness[2];
};

struct sequence {
    uint64_t id;
    double left;
    int64_t version;
};

struct world {
    const struct scene *scene;
    struct groups *g;
    struct level level;
    bool hold; /* the level is fixed */
    struct sequence at_work[SEATS_MAX];
    int64_t n;
    double now, asked, answered, held, held_since;
    int64_t finished; /* groups, when the trainer asked */
    bool training;
    double train_end;
    int64_t step;
    double idle[2], busy[2], staleness[2];
    int64_t counted[2];
};

static uint64_t run; /* several runs of a scene differ by it */

static double draw(uint64_t what, uint64_t i) {
    return rng_normal(rng_key(test_seed() + run, RNG_TEST), what, i);
}

static bool after(const struct world *w) {
    return w->step >= CHANGE;
}

static double rate(const struct world *w) {
    const struct scene *s = w->scene;
    double all = s->rate * (after(w) ? s->rate_after : 1);
    if (s->burst_every && w->step % s->burst_every < s->burst) all *= 1 - s->burst_takes;
    double one = all / (double)w->n;
    return one < s->rate_each ? one : s->rate_each;
}

static void start_work(struct world *w) {
    const struct scene *s = w->scene;
    struct groups_item item[SEATS_MAX];
    int64_t version = groups_counts(w->g).done, want;
    uint32_t free = (uint32_t)(s->seats - w->n);
    uint32_t n = free ? groups_dispatch(w->g, 0, version, free, item, &want) : 0;
    for (uint32_t i = 0; i < n; i++) {
        double mean = s->length * (after(w) ? s->length_after : 1);
        double length = mean * exp(s->sigma * draw(1, item[i].trajectory));
        w->at_work[w->n++] = (struct sequence){item[i].trajectory, length, version};
    }
}

static void pass(struct world *w, double seconds) {
    double done = w->n > 0 ? rate(w) * seconds : 0;
    for (int64_t i = 0; i < w->n; i++)
        w->at_work[i].left -= done;
    w->held += seconds * (double)(w->scene->seats - w->n) / (double)w->scene->seats;
    w->now += seconds;
}

static void finish_work(struct world *w) {
    for (int64_t i = 0; i < w->n;) {
        struct sequence *q = &w->at_work[i];
        uint32_t known = 0;
        if (q->left > 1e-9) {
            i++;
            continue;
        }
        CHECK_INT(groups_tokens(w->g, 0, q->id, 0, 1, &q->version, true, &known), GROUPS_TAKE);
        CHECK(groups_score(w->g, q->id, 0));
        *q = w->at_work[--w->n];
    }
}

static void count(struct world *w, double wait, double train, double staleness) {
    int half = after(w);
    if (w->step % CHANGE < SETTLED) return;
    w->idle[half] += wait;
    w->busy[half] += train;
    w->staleness[half] += staleness;
    w->counted[half]++;
}

static void train(struct world *w) {
    const struct scene *s = w->scene;
    uint64_t ids[SEATS_MAX];
    double staleness = 0, turn = w->now - w->answered;
    if (!groups_form(w->g, ids)) return;
    for (int64_t i = 0; i < s->batch; i++)
        staleness += (double)(w->step - (groups_deadline(w->g, ids[i]) - s->eta));
    groups_train(w->g, ids);
    struct level_batch seen = {.wait_s = w->now - w->asked,
                               .train_s = w->asked - w->answered,
                               .held = turn > 0 ? (w->held - w->held_since) / turn : 0,
                               .finished = w->finished,
                               .rollouts = after(w) && s->rate_after != 1 ? 2 : 1};
    count(w, seen.wait_s, seen.train_s, staleness / (double)s->batch);
    if (!w->hold) groups_set_level(w->g, level_next(&w->level, &seen));
    w->answered = w->now;
    w->held_since = w->held;
    w->training = true;
    w->train_end = w->now + s->train_s * exp(s->jitter * draw(2, (uint64_t)w->step));
}

/* level below 0: by the rule; else fixed. */
static struct outcome play(const struct scene *s, int64_t level) {
    struct world *w = mem_zalloc(sizeof *w);
    struct groups_config cfg = {.groups = s->batch,
                                .size = 1,
                                .eta = s->eta,
                                .concurrency = s->seats,
                                .steps = STEPS,
                                .tokens_max = 1};
    w->scene = s;
    w->level = level_start(s->batch, s->eta * s->batch);
    w->hold = level >= 0;
    if (w->hold) w->level.groups = level;
    CHECK_OK(groups_open(&w->g, &cfg));
    groups_set_level(w->g, w->level.groups);
    while (w->step < STEPS) {
        start_work(w);
        double next = w->training ? w->train_end - w->now : INFINITY;
        for (int64_t i = 0; i < w->n; i++)
            next = fmin(next, w->at_work[i].left / rate(w));
        CHECK(isfinite(next)); /* nothing stands still */
        pass(w, fmax(next, 0));
        finish_work(w);
        if (w->training && w->now >= w->train_end - 1e-9) {
            CHECK_OK(groups_step_done(w->g, w->step++));
            w->training = false;
            w->asked = w->now;
            w->finished = groups_counts(w->g).finished;
        }
        if (!w->training && w->step < STEPS) train(w);
    }
    struct outcome o = {0};
    for (int h = 0; h < 2; h++) {
        double n = (double)w->counted[h];
        o.idle[h] = w->idle[h] / (w->idle[h] + w->busy[h]);
        o.staleness[h] = w->staleness[h] / n;
    }
    groups_close(&w->g);
    mem_free(w);
    return o;
}

static struct outcome play_runs(const struct scene *s, int64_t level) {
    struct outcome all = {0};
    for (run = 0; run < RUNS; run++) {
        struct outcome o = play(s, level);
        for (int h = 0; h < 2; h++) {
            all.idle[h] += o.idle[h] / RUNS;
            all.staleness[h] += o.staleness[h] / RUNS;
        }
    }
    return all;
}

/* With the level by the rule the trainer idles by at most `idle` more than with the bound, and mean
 * staleness is at most `staleness` above the least fixed bound that idles by at most 0.03 more. */
static void check_within(const struct scene *s, double idle, double staleness) {
    struct outcome o = play_runs(s, -1), fixed[BOUNDS + 1];
    CHECK(s->eta <= BOUNDS);
    for (int64_t bound = 0; bound <= s->eta; bound++)
        fixed[bound] = play_runs(s, bound * s->batch);
    for (int half = 0; half < 2; half++) {
        double most = fixed[s->eta].idle[half];
        int64_t least = 0;
        while (fixed[least].idle[half] > most + 0.03)
            least++;
        if (o.idle[half] > most + idle || o.staleness[half] > (double)least + staleness)
            test_fail(__FILE__, __LINE__,
                      "half %d, rate %.0f: idle %.3f, with the bound %.3f; staleness %.2f, a fixed "
                      "bound of %d would do",
                      half, s->rate, o.idle[half], most, o.staleness[half], (int)least);
    }
}

static void check_scene(const struct scene *s) {
    check_within(s, 0.05, 0.6);
}

/* 500 sequences at once, faster than the trainer by a half; nothing changes on the way. */
static const struct scene usual = {.batch = 64,
                                   .eta = 8,
                                   .seats = 512,
                                   .rate = 1000,
                                   .rate_each = 20,
                                   .train_s = 1,
                                   .jitter = 0.1,
                                   .length = 10,
                                   .sigma = 0.5,
                                   .rate_after = 1,
                                   .length_after = 1};

TEST(level_rollouts_far_ahead) {
    struct scene s = usual;
    s.batch = 16;
    s.rate_each = 1000;
    check_scene(&s);
    struct outcome o = play(&s, -1);
    CHECK(o.staleness[1] < 1.1 && play(&s, 8 * 16).staleness[1] > 7.9); /* what it is for */
}

TEST(level_near_balance) {
    struct scene s = usual;
    s.eta = 4;
    s.seats = 256;
    s.sigma = 0.3;
    for (s.rate = 600; s.rate < 1300; s.rate += 100)
        check_scene(&s);
}

TEST(level_slow_rollouts_are_not_run_ahead) {
    struct scene s = usual;
    s.rate = 5000;
    s.sigma = 0.7;
    check_scene(&s);
}

TEST(level_follows_a_rollout_that_dies_or_joins) {
    struct scene s = usual;
    s.rate = 2000;
    s.rate_after = 0.5;
    check_scene(&s);
    s.rate = 1000;
    s.rate_after = 2;
    check_scene(&s);
}

TEST(level_follows_lengths) {
    struct scene s = usual;
    s.rate = 5000;
    s.length = 1;
    s.length_after = 10;
    check_scene(&s);
    s.length = 10;
    s.length_after = 0.1;
    check_scene(&s);
}

TEST(level_follows_responses_three_times_as_long) {
    struct scene s = usual;
    s.rate = 4000;
    s.sigma = 0.4;
    s.jitter = 0.2;
    s.length_after = 3;
    check_within(&s, 0.09, 0.5); /* each batch of level is a trial of its own: 20 steps are few */
    s.length = 30;
    s.length_after = 1.0 / 3;
    check_within(&s, 0.08, 0.6);
    s.batch = 8;
    s.seats = 64;
    s.rate = 400;
    s.sigma = 0.2;
    check_within(&s, 0.08, 0.6);
    s.length = 10;
    s.length_after = 3;
    check_within(&s, 0.08, 0.6);
}

/* As many sequences at once as a batch has, which evaluation slows down now and then. */
TEST(level_bursts_of_evaluation) {
    struct scene s = usual;
    s.eta = 4;
    s.batch = s.seats = 32;
    s.rate_each = 30;
    s.sigma = 0.1;
    s.jitter = 0.3;
    s.burst_every = 25;
    s.burst = 3;
    s.burst_takes = 0.7;
    for (s.rate = 450; s.rate <= 600; s.rate += 150)
        check_within(&s, 0.08, 0.5);
}

/* The trainer waits at any level; the level must not rise for nothing. */
TEST(level_rollouts_are_the_slower_side) {
    struct scene s = usual;
    s.eta = 4;
    s.seats = 256;
    s.rate_after = 2;
    for (s.rate = 300; s.rate <= 500; s.rate += 100)
        check_within(&s, 0.05, 1.75);
    s.rate = 1000;
    s.rate_after = 0.5;
    check_within(&s, 0.05, 1.75);
    s.eta = 8;
    s.seats = 512;
    s.jitter = 0.3;
    check_within(&s, 0.05, 1.75);
}

TEST(level_few_groups_and_steps_that_vary) {
    struct scene s = usual;
    s.batch = s.seats = 8;
    s.eta = 4;
    s.rate = 2000;
    s.jitter = 0.3;
    s.rate_after = 0.5;
    check_scene(&s);
}

/* The trainer waits for a tenth of its time, and a batch more would end that. */
TEST(level_price_follows_how_far_a_version_moves_the_policy) {
    static const double nats[] = {0, 0.01, 0.05};
    for (int c = 0; c < 3; c++) {
        struct level l = level_start(4, 16);
        struct level_batch waits = {.wait_s = 0.1, .train_s = 0.9, .held = 0.5};
        for (int i = 0; i < 5 && l.groups == 4; i++) {
            level_moved(&l, (double)NAN); /* a batch without stale tokens says nothing */
            if (c > 0) level_moved(&l, nats[c]);
            level_next(&l, &waits);
        }
        CHECK_INT(l.groups, c < 2 ? 8 : 4);
    }
}

TEST(level_stays_within_the_bound) {
    struct level_batch hungry = {.wait_s = 1, .train_s = 1, .held = 0.5};
    struct level_batch full = {.train_s = 1, .held = 0.5, .finished = 1000};
    struct level l = level_start(4, 0);
    CHECK_INT(level_next(&l, &hungry), 0);
    for (int64_t bound = 1; bound < 40; bound += 3) {
        l = level_start(4, bound);
        CHECK_INT(l.groups, bound < 4 ? bound : 4);
        for (int i = 0; i < 200; i++) {
            const struct level_batch *b = i / 50 % 2 ? &full : &hungry;
            int64_t level = level_next(&l, b);
            CHECK(level >= (bound < 4 ? 1 : 4) && level <= bound);
        }
        CHECK_INT(l.groups, bound < 4 ? bound : 4); /* less would be synchronous in part */
    }
}

TEST(level_steps_that_vary_much) {
    struct scene s = usual;
    s.jitter = 0.5;
    s.seats = 256;
    s.eta = 4;
    for (s.rate = 800; s.rate < 1700; s.rate += 200)
        check_within(&s, 0.06, 0.6);
}
