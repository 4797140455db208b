/* groups_test.c - random runs of the state machine with rollouts that are slow, late, dead or
 * undead, a trainer that publishes before it reports, and a manager that is rebuilt from its
 * records at any moment. The simulation keeps its own records, as the log does, and judges by them:
 * I2, I3, and that the oldest go first.
 *
 * The log is one of write batches. What a manager recorded and had not committed is gone when it
 * dies, and nobody was told of it; after a power cut the log ends with any commit since the last
 * synced one. So records can be undone: a journal has what each was before, and marks where the
 * commits are. */
#include "rollout/manager/groups.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

enum { ROLLOUTS = 4, SEATS = 6, TOKENS = 8, IDS = 4096, GROUP_MAX = 4, BATCH_MAX = 8, STEPS = 8 };

struct run { /* a trajectory inside a rollout */
    uint64_t id;
    int32_t n;
    int64_t version[TOKENS];
};

struct worker {
    bool stranger; /* must say hello before anything else */
    int64_t version;
    int32_t n;
    struct run run[SEATS];
};

struct saved_traj { /* what the log would hold */
    int32_t received, writer;
    int64_t version[TOKENS];
    bool complete, scored;
    float reward;
};

struct saved_group {
    int64_t slot, floor, step;
    enum groups_state state;
    enum groups_reason reason;
};

struct undo {
    bool is_group;
    uint64_t id;
    struct saved_group group;
    struct saved_traj traj;
};

struct mark { /* a commit: what counts as recorded up to it */
    size_t undo;
    uint64_t next;
    int64_t rejected;
};

enum { UNDO_MAX = 4096, MARKS_MAX = 512, ACKS_MAX = 4096 };

struct sim {
    struct groups_config cfg;
    struct groups *g;
    uint64_t seed, draws, next;
    bool token_update, deaths, errors;
    struct worker w[ROLLOUTS];
    struct saved_group group[IDS];
    struct saved_traj traj[IDS * GROUP_MAX];
    int64_t formed, done, published, rejected;
    struct undo undo[UNDO_MAX]; /* since the last synced commit */
    size_t n_undo;
    struct mark mark[MARKS_MAX]; /* [0]: the synced one */
    size_t n_marks;
    struct {
        int32_t worker;
        uint64_t id;
    } ack[ACKS_MAX]; /* that it is complete: said after the next commit */
    size_t n_acks;
    int64_t crashes, cuts;
};

static uint64_t below(struct sim *s, uint64_t n) {
    return rng_below(rng_key(s->seed, RNG_TEST), 1, s->draws++, n);
}

static bool chance(struct sim *s, uint64_t percent) {
    return below(s, 100) < percent;
}

static uint64_t first(const struct sim *s, uint64_t group) {
    return group * (uint64_t)s->cfg.size;
}

static int32_t length(const struct sim *s, uint64_t id) {
    return 1 + (int32_t)rng_below(rng_key(s->seed, RNG_DATA), 2, id, (uint64_t)s->cfg.tokens_max);
}

static void forget(struct worker *w, int32_t i) {
    w->run[i] = w->run[--w->n];
}

/* Before each change of a record. */
static void journal(struct sim *s, bool is_group, uint64_t id) {
    CHECK(s->n_undo < UNDO_MAX);
    struct undo *u = &s->undo[s->n_undo++];
    *u = (struct undo){.is_group = is_group, .id = id};
    if (is_group)
        u->group = s->group[id];
    else
        u->traj = s->traj[id];
}

static void commit(struct sim *s, bool sync) {
    if (sync || s->n_marks == MARKS_MAX || s->n_undo > UNDO_MAX / 2) s->n_marks = s->n_undo = 0;
    s->mark[s->n_marks++] = (struct mark){s->n_undo, s->next, s->rejected};
    for (size_t i = 0; i < s->n_acks; i++) {
        struct worker *w = &s->w[s->ack[i].worker];
        for (int32_t k = w->n - 1; k >= 0; k--)
            if (w->run[k].id == s->ack[i].id) forget(w, k);
    }
    s->n_acks = 0;
}

static void say_complete(struct sim *s, int32_t r, uint64_t id) {
    CHECK(s->n_acks < ACKS_MAX);
    s->ack[s->n_acks].worker = r;
    s->ack[s->n_acks++].id = id;
}

/* The log as it was at its mark number i. */
static void roll_back(struct sim *s, size_t i) {
    const struct mark *m = &s->mark[i];
    while (s->n_undo > m->undo) {
        const struct undo *u = &s->undo[--s->n_undo];
        if (u->is_group)
            s->group[u->id] = u->group;
        else
            s->traj[u->id] = u->traj;
    }
    s->next = m->next;
    s->rejected = m->rejected;
    s->n_marks = i + 1;
    s->n_acks = 0;
}

static void reject(struct sim *s, uint64_t group, enum groups_reason why) {
    journal(s, true, group);
    CHECK_INT(s->group[group].state, GROUPS_RUNNING);
    s->group[group].state = GROUPS_REJECTED;
    s->group[group].reason = why;
    s->rejected++;
}

/* Nothing that could run by these weights was passed over for a younger group. */
static void check_order(const struct sim *s, int64_t version, const struct groups_item *items,
                        uint32_t n) {
    const struct groups_group *p;
    for (uint32_t i = 1; i < n; i++)
        CHECK(items[i].group >= items[i - 1].group);
    for (int64_t i = 0; n > 0 && (p = groups_at(s->g, i)); i++)
        CHECK(p->waiting == 0 || p->floor > version || p->id >= items[n - 1].group);
}

static void request(struct sim *s, int32_t r) {
    struct worker *w = &s->w[r];
    struct groups_item items[SEATS];
    int64_t want = 0;
    uint32_t room = (uint32_t)(SEATS - w->n);
    if (room == 0) return;
    room = 1 + (uint32_t)below(s, room);
    commit(s, false); /* the end of a turn */
    room = room < (uint32_t)(SEATS - w->n) ? room : (uint32_t)(SEATS - w->n);
    uint32_t n = groups_dispatch(s->g, r, w->version, room, items, &want);
    CHECK(n <= room && (n > 0 || want >= w->version));
    for (uint32_t i = 0; i < n; i++) {
        const struct groups_group *p = groups_group(s->g, items[i].group);
        CHECK(p && w->version >= p->floor);
        if (items[i].starts) {
            CHECK_INT(p->id, s->next);
            CHECK(p->id < IDS && p->slot < (s->done + s->cfg.eta + 1) * s->cfg.groups);
            s->next++;
            journal(s, true, p->id);
            for (uint64_t k = 0; k < (uint64_t)s->cfg.size; k++) {
                journal(s, false, first(s, p->id) + k);
                s->traj[first(s, p->id) + k] = (struct saved_traj){0};
            }
            s->group[p->id] =
                (struct saved_group){p->slot, p->floor, -1, GROUPS_RUNNING, GROUPS_KEPT};
        }
        const struct saved_traj *t = &s->traj[items[i].trajectory];
        CHECK(!t->complete);
        struct run *run = &w->run[w->n++];
        *run = (struct run){.id = items[i].trajectory, .n = t->received};
        memcpy(run->version, t->version, sizeof run->version);
    }
    check_order(s, w->version, items, n);
    commit(s, false); /* groups are on record before anybody hears of them */
    if (n == 0 && want > w->version && (w->n == 0 || s->token_update)) {
        CHECK(want <= s->published); /* never asks for what does not exist */
        w->version = s->published;
    }
}

static void generate(struct sim *s, int32_t r) {
    for (int32_t i = 0; i < s->w[r].n; i++) {
        struct run *run = &s->w[r].run[i];
        int32_t more = 1 + (int32_t)below(s, 3), max = length(s, run->id);
        while (more-- > 0 && run->n < max)
            run->version[run->n++] = s->w[r].version;
    }
}

/* Streams one trajectory, sometimes repeating or skipping tokens. */
static void stream(struct sim *s, int32_t r, bool clean) {
    struct worker *w = &s->w[r];
    if (w->n == 0) return;
    int32_t i = (int32_t)below(s, (uint64_t)w->n);
    struct run *run = &w->run[i];
    if (run->n == 0) return;
    struct saved_traj *t = &s->traj[run->id];
    int32_t offset = t->received < run->n ? t->received : run->n - 1;
    if (!clean) offset = (int32_t)below(s, (uint64_t)run->n);
    bool last = run->n == length(s, run->id);
    uint32_t known = 0;
    switch (groups_tokens(s->g, r, run->id, (uint32_t)offset, (uint32_t)(run->n - offset),
                          run->version + offset, last, &known)) {
    case GROUPS_TAKE:
        CHECK_INT(offset + (int32_t)known, t->received);
        CHECK(!t->complete);
        journal(s, false, run->id);
        memcpy(t->version, run->version, sizeof t->version);
        t->received = run->n;
        t->writer = r;
        t->complete = last;
        if (last) say_complete(s, r, run->id);
        break;
    case GROUPS_KNOWN:
        if (t->complete) say_complete(s, r, run->id);
        break;
    case GROUPS_FORGET: forget(w, i); break;
    case GROUPS_MALFORMED: test_fail(__FILE__, __LINE__, "%s", err_text());
    }
}

static void pull(struct sim *s, int32_t r) {
    struct worker *w = &s->w[r];
    if (w->n > 0 && !s->token_update) return;
    if (s->published > w->version)
        w->version += 1 + (int64_t)below(s, (uint64_t)(s->published - w->version));
}

static void score(struct sim *s) {
    uint64_t wait[64];
    uint64_t n = 0;
    const struct groups_group *p;
    for (int64_t i = 0; (p = groups_at(s->g, i)); i++)
        for (uint64_t k = 0; k < (uint64_t)s->cfg.size && n < 64; k++)
            if (groups_traj(s->g, first(s, p->id) + k)->state == GROUPS_GENERATED)
                wait[n++] = first(s, p->id) + k;
    if (n == 0) return;
    uint64_t id = wait[below(s, n)];
    if (s->errors && chance(s, 3)) {
        uint64_t group = id / (uint64_t)s->cfg.size;
        CHECK(groups_reject(s->g, group, GROUPS_REWARD));
        CHECK(!groups_reject(s->g, group, GROUPS_REWARD));
        reject(s, group, GROUPS_REWARD);
        return;
    }
    journal(s, false, id);
    s->traj[id].scored = true;
    s->traj[id].reward = (float)below(s, 2);
    CHECK(groups_score(s->g, id, s->traj[id].reward));
    CHECK(!groups_score(s->g, id, 7)); /* a duplicate */
}

/* I2, I3 and, with eta 0, the one possible batch. */
static void judge(struct sim *s, const uint64_t *ids) {
    for (int64_t i = 0; i < s->cfg.groups; i++) {
        struct saved_group *p = &s->group[ids[i]];
        CHECK_INT(p->state, GROUPS_RUNNING);
        CHECK(i == 0 || ids[i] > ids[i - 1]);
        journal(s, true, ids[i]);
        p->state = GROUPS_TRAINED;
        p->step = s->formed;
        for (uint64_t k = 0; k < (uint64_t)s->cfg.size; k++) {
            const struct saved_traj *t = &s->traj[first(s, ids[i]) + k];
            CHECK(t->complete && t->scored && t->received == length(s, first(s, ids[i]) + k));
            for (int32_t j = 0; j < t->received; j++)
                CHECK(s->formed - t->version[j] <= s->cfg.eta && t->version[j] <= s->formed);
        }
        if (s->cfg.eta == 0 && s->rejected == 0) CHECK_INT(ids[i], s->formed * s->cfg.groups + i);
    }
}

static bool older(const struct sim *s, uint64_t a, uint64_t b) {
    int64_t x = groups_deadline(s->g, a), y = groups_deadline(s->g, b);
    return x < y || (x == y && a < b);
}

/* The oldest of the finished ones are in the batch. */
static void check_oldest(const struct sim *s, const uint64_t *ids) {
    const struct groups_group *p;
    for (int64_t i = 0; (p = groups_at(s->g, i)); i++) {
        bool in = p->state != GROUPS_FINISHED;
        for (int64_t k = 0; k < s->cfg.groups; k++)
            in |= ids[k] == p->id;
        for (int64_t k = 0; !in && k < s->cfg.groups; k++)
            CHECK(older(s, ids[k], p->id));
    }
}

static void train(struct sim *s) {
    uint64_t ids[BATCH_MAX], stale = 0;
    if (s->formed > s->done) { /* in training: published first, reported then */
        if (s->published == s->done) {
            s->published++;
            return;
        }
        CHECK_OK(groups_step_done(s->g, s->done));
        s->done++;
        commit(s, true);
        return;
    }
    if (!groups_form(s->g, ids)) return;
    check_oldest(s, ids);
    judge(s, ids);
    groups_train(s->g, ids);
    s->formed++;
    while (groups_expire(s->g, &stale)) {
        CHECK(s->cfg.drop);
        reject(s, stale, GROUPS_STALE);
    }
    commit(s, true); /* before the trainer sees it */
}

static void hello(struct sim *s, int32_t r) {
    struct worker *w = &s->w[r];
    w->stranger = false;
    for (int32_t i = w->n - 1; i >= 0; i--) {
        struct saved_traj *t = &s->traj[w->run[i].id];
        if (t->received > 0 && t->writer != r) { /* the manager's rule: somebody else went on */
            forget(w, i);
            continue;
        }
        int32_t received = groups_adopt(s->g, r, w->run[i].id);
        if (received < 0) {
            forget(w, i);
            continue;
        }
        CHECK_INT(received, t->received);
        CHECK(received <= w->run[i].n);
        CHECK(memcmp(t->version, w->run[i].version, (size_t)received * sizeof *t->version) == 0);
    }
}

static void die(struct sim *s, int32_t r) {
    groups_release(s->g, r);
    if (chance(s, 50)) { /* really dead; else only thought to be, and it goes on */
        s->w[r].n = 0;
        s->w[r].version = -1;
    } else {
        s->w[r].stranger = true;
    }
}

static bool same(struct groups_counts a, struct groups_counts b) {
    return a.done == b.done && a.formed == b.formed && a.next == b.next && a.live == b.live &&
           a.running == b.running && a.finished == b.finished && a.unscored == b.unscored &&
           a.leased + a.waiting == b.leased + b.waiting &&
           memcmp(a.rejected, b.rejected, sizeof a.rejected) == 0;
}

/* exact: nothing was lost, so the counters must be what they were. */
static void restore(struct sim *s, bool exact) {
    struct groups_counts before = groups_counts(s->g);
    groups_close(&s->g);
    CHECK_OK(groups_open(&s->g, &s->cfg));
    groups_restore_batches(s->g, s->formed, s->done);
    for (uint64_t i = 0; i < s->next; i++) {
        const struct saved_group *p = &s->group[i];
        CHECK_OK(groups_restore_group(s->g, i, p->slot, p->floor, p->state, p->reason));
        for (uint64_t k = 0; p->state == GROUPS_RUNNING && k < (uint64_t)s->cfg.size; k++) {
            const struct saved_traj *t = &s->traj[first(s, i) + k];
            int64_t oldest = INT64_MAX;
            for (int32_t j = 0; j < t->received; j++)
                if (t->version[j] < oldest) oldest = t->version[j];
            CHECK_OK(groups_restore_traj(s->g, first(s, i) + k, t->received, oldest, t->complete,
                                         t->scored, t->reward));
        }
    }
    CHECK_OK(groups_restore_end(s->g));
    CHECK(!exact || same(before, groups_counts(s->g)));
    for (int32_t r = 0; r < ROLLOUTS; r++)
        s->w[r].stranger = true; /* each says hello before its next message */
}

/* The manager dies: what it had not committed is lost. */
static void crash(struct sim *s) {
    bool exact = s->n_undo == s->mark[s->n_marks - 1].undo;
    s->crashes++;
    roll_back(s, s->n_marks - 1);
    restore(s, exact);
}

/* The machine dies, rollouts and all; the log keeps what was synced, and more or less of the rest.
 */
static void power_cut(struct sim *s) {
    s->cuts++;
    roll_back(s, below(s, s->n_marks));
    for (int32_t r = 0; r < ROLLOUTS; r++)
        s->w[r] = (struct worker){.version = -1};
    restore(s, false);
}

/* Counters against the pool, and the claim of groups.c that keeps I2. */
static void audit(const struct sim *s) {
    struct groups_counts n = groups_counts(s->g);
    const struct groups_group *p;
    int64_t running = 0, leased = 0, waiting = 0, lost = 0, unscored = 0, pool = 0;
    for (int64_t i = 0; (p = groups_at(s->g, i)); i++) {
        running += p->state == GROUPS_RUNNING;
        pool++;
        for (uint64_t k = 0; k < (uint64_t)s->cfg.size; k++) {
            const struct groups_traj *t = groups_traj(s->g, first(s, p->id) + k);
            leased += t->state == GROUPS_LEASED;
            waiting += t->state == GROUPS_WAITING;
            lost += t->state == GROUPS_WAITING && t->lost;
            unscored += t->state == GROUPS_GENERATED;
        }
    }
    CHECK(running == n.running && pool - running == n.finished && leased == n.leased);
    CHECK(waiting == n.waiting && lost == n.lost && unscored == n.unscored);
    CHECK_INT(n.live, n.formed * s->cfg.groups + pool);
    CHECK(n.leased <= s->cfg.concurrency);
    for (int64_t u = n.formed; !s->cfg.drop && u < n.formed + s->cfg.eta + 2; u++) {
        int64_t due = 0;
        for (int64_t i = 0; (p = groups_at(s->g, i)); i++)
            due += groups_deadline(s->g, p->id) <= u;
        CHECK(due <= (u - n.formed + 1) * s->cfg.groups);
    }
}

static void event(struct sim *s) {
    int32_t r = (int32_t)below(s, ROLLOUTS);
    uint64_t x = below(s, 100);
    if ((x < 20 || (x >= 40 && x < 65)) && s->w[r].stranger) hello(s, r);
    if (x < 20)
        request(s, r);
    else if (x < 40)
        generate(s, r);
    else if (x < 65)
        stream(s, r, x < 55);
    else if (x < 75)
        score(s);
    else if (x < 85)
        train(s);
    else if (x < 96)
        pull(s, r);
    else if (x < 98 && s->deaths)
        die(s, r);
    else if (x < 99 && s->deaths && chance(s, 20))
        power_cut(s);
    else if (s->deaths)
        crash(s);
    if (chance(s, 10)) /* the level may be anything, from one event to the next */
        groups_set_level(s->g, (int64_t)below(s, (uint64_t)(s->cfg.eta * s->cfg.groups) + 1));
    if (chance(s, 30)) commit(s, false);
}

/* Everybody does what he can, in turn: the run must come to its end. */
static void drain(struct sim *s) {
    for (int round = 0; s->done < s->cfg.steps; round++) {
        if (round > 20000) test_fail(__FILE__, __LINE__, "no progress: deadlock");
        for (int32_t r = 0; r < ROLLOUTS; r++) {
            if (s->w[r].stranger) hello(s, r);
            request(s, r);
            generate(s, r);
            for (int i = 0; i < SEATS; i++)
                stream(s, r, true);
            if (s->w[r].version < 0) pull(s, r);
        }
        for (int i = 0; i < 8; i++)
            score(s);
        commit(s, false);
        train(s);
    }
}

static void configure(struct sim *s, uint64_t seed) {
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->cfg = (struct groups_config){.groups = 1 + (int64_t)below(s, BATCH_MAX),
                                    .size = 1 + (int64_t)below(s, GROUP_MAX),
                                    .eta = chance(s, 30) ? 0 : (int64_t)below(s, 9),
                                    .concurrency = 1 + (int64_t)below(s, ROLLOUTS * SEATS),
                                    .steps = 1 + (int64_t)below(s, STEPS),
                                    .tokens_max = TOKENS,
                                    .drop = chance(s, 30)};
    s->token_update = chance(s, 40);
    s->deaths = chance(s, 70);
    s->errors = chance(s, 40);
    CHECK_OK(groups_open(&s->g, &s->cfg));
    commit(s, true);
}

static void simulate(struct sim *s, uint64_t seed) {
    configure(s, seed);
    for (int i = 0; i < 3000 && s->done < s->cfg.steps; i++) {
        event(s);
        if (i % 16 == 0) audit(s);
    }
    drain(s);
    audit(s);
    struct groups_counts n = groups_counts(s->g);
    CHECK_INT(n.live, s->cfg.steps * s->cfg.groups);
    CHECK(s->cfg.drop || n.rejected[GROUPS_STALE] == 0);
    for (uint64_t i = 0; i < s->next; i++) /* none lost, none left */
        CHECK(s->group[i].state == GROUPS_TRAINED || s->group[i].state == GROUPS_REJECTED);
    CHECK_INT(n.next, (uint64_t)n.live + (uint64_t)s->rejected);
    groups_close(&s->g);
}

TEST(groups_random_runs) {
    struct sim *s = mem_zalloc(sizeof *s);
    int64_t crashes = 0, cuts = 0;
    for (uint64_t i = 0; i < 3000; i++) {
        err_set("", 0, "run %llu", (unsigned long long)i);
        simulate(s, test_seed() * 1000003 + i);
        crashes += s->crashes;
        cuts += s->cuts;
    }
    CHECK(crashes > 10000 && cuts > 500);
    mem_free(s);
}

/* One step by hand: what a batch waits for, and what is left out of it. */
TEST(groups_feasibility) {
    struct groups_config cfg = {
        .groups = 1, .size = 1, .eta = 1, .concurrency = 4, .steps = 4, .tokens_max = 4};
    struct groups *g = NULL;
    struct groups_item items[4];
    int64_t want = 0, v0[1] = {0};
    uint64_t ids[1];
    uint32_t known = 0;
    CHECK_OK(groups_open(&g, &cfg));
    CHECK_INT(groups_dispatch(g, 0, -1, 4, items, &want), 0);
    CHECK_INT(want, 0);                                      /* take weights first */
    CHECK_INT(groups_dispatch(g, 0, 0, 4, items, &want), 2); /* (0 + 1 + 1) * 1 slots */
    CHECK(items[0].starts && items[1].starts);
    CHECK_INT(groups_dispatch(g, 1, 0, 4, items, &want), 0);
    CHECK_INT(want, 0); /* wait, no newer weights needed */
    CHECK_INT(groups_tokens(g, 0, 1, 0, 1, v0, true, &known), GROUPS_TAKE);
    CHECK(groups_score(g, 1, 1.0F));
    /* Group 1 alone may go first: group 0 has deadline 1 and one batch left before it passes. */
    CHECK(groups_form(g, ids));
    groups_train(g, ids);
    CHECK_INT(ids[0], 1);
    CHECK_OK(groups_step_done(g, 0));
    CHECK_ERR(groups_step_done(g, 1), ERR_CONFIG, "never given out");
    /* Slot 2 needs version 1. Finished before group 0, it must not go before it. */
    CHECK_INT(groups_dispatch(g, 1, 0, 4, items, &want), 0);
    CHECK_INT(want, 1);
    CHECK_INT(groups_dispatch(g, 1, 1, 4, items, &want), 1);
    int64_t v1[1] = {1}, v2[1] = {2};
    CHECK_INT(groups_tokens(g, 1, 2, 0, 1, v0, true, &known), GROUPS_MALFORMED);
    CHECK_INT(groups_tokens(g, 1, 2, 0, 1, v2, true, &known), GROUPS_MALFORMED);
    CHECK_INT(groups_tokens(g, 1, 2, 0, 1, v1, true, &known), GROUPS_TAKE);
    CHECK(groups_score(g, 2, 1.0F));
    CHECK(!groups_form(g, ids));
    CHECK_INT(groups_blocker(g)->id, 0);
    CHECK_INT(groups_tokens(g, 0, 0, 0, 1, v0, true, &known), GROUPS_TAKE);
    CHECK(groups_score(g, 0, 1.0F));
    CHECK(groups_form(g, ids));
    CHECK_INT(ids[0], 0);
    groups_close(&g);
}

TEST(groups_tokens_rules) {
    struct groups_config cfg = {
        .groups = 1, .size = 2, .eta = 0, .concurrency = 4, .steps = 1, .tokens_max = 4};
    struct groups *g = NULL;
    struct groups_item items[4];
    int64_t want = 0, v[5] = {0};
    uint32_t known = 9;
    CHECK_OK(groups_open(&g, &cfg));
    CHECK_INT(groups_dispatch(g, 3, 0, 1, items, &want), 1);
    CHECK_INT(groups_tokens(g, 2, 0, 0, 1, v, false, &known), GROUPS_FORGET);
    CHECK_INT(groups_tokens(g, 3, 77, 0, 1, v, false, &known), GROUPS_FORGET);
    CHECK_INT(groups_tokens(g, 3, 0, 0, 5, v, false, &known), GROUPS_MALFORMED);
    CHECK_INT(groups_tokens(g, 3, 0, UINT32_MAX, 2, v, false, &known), GROUPS_MALFORMED);
    CHECK_INT(groups_tokens(g, 3, 0, 0, 0, v, true, &known), GROUPS_MALFORMED);
    CHECK_INT(groups_tokens(g, 3, 0, 1, 1, v, false, &known), GROUPS_KNOWN); /* a gap */
    CHECK_INT(groups_tokens(g, 3, 0, 0, 2, v, false, &known), GROUPS_TAKE);
    CHECK_INT(groups_tokens(g, 3, 0, 1, 1, v, false, &known), GROUPS_KNOWN); /* again */
    CHECK_INT(groups_tokens(g, 3, 0, 1, 2, v, false, &known), GROUPS_TAKE);
    CHECK_INT(known, 1);
    CHECK_INT(groups_traj(g, 0)->received, 3);
    CHECK_INT(groups_adopt(g, 3, 0), 3);
    CHECK_INT(groups_adopt(g, 2, 0), -1);
    CHECK_INT(groups_adopt(g, 2, 1), 0);
    CHECK_INT(groups_tokens(g, 3, 0, 3, 0, v, true, &known), GROUPS_TAKE); /* the end, late */
    CHECK_INT(groups_tokens(g, 3, 0, 0, 3, v, true, &known), GROUPS_KNOWN);
    CHECK_INT(groups_adopt(g, 3, 0), -1);
    for (int i = 1; i <= GROUPS_ABORTS_MAX; i++) {
        CHECK_INT(groups_abort(g, 2, 1), i == GROUPS_ABORTS_MAX);
        CHECK(i == GROUPS_ABORTS_MAX || groups_adopt(g, 2, 1) == 0);
    }
    CHECK_INT(groups_counts(g).rejected[GROUPS_ABORTED], 1);
    CHECK_INT(groups_counts(g).live, 0);
    groups_close(&g);
}

/* Failures count until a group finishes; what is dropped as stale is no failure. */
TEST(groups_failures_in_a_row) {
    struct groups_config cfg = {
        .groups = 2, .size = 1, .eta = 1, .concurrency = 4, .steps = 9, .tokens_max = 4};
    struct groups *g = NULL;
    struct groups_item items[4];
    int64_t want = 0, v[1] = {0};
    uint32_t known = 0;
    CHECK_OK(groups_open(&g, &cfg));
    CHECK_INT(groups_dispatch(g, 0, 0, 4, items, &want), 4);
    CHECK(groups_reject(g, 0, GROUPS_REWARD) && groups_reject(g, 1, GROUPS_ABORTED));
    CHECK_INT(groups_counts(g).failed_in_row, 2);
    CHECK(groups_reject(g, 2, GROUPS_STALE));
    CHECK_INT(groups_counts(g).failed_in_row, 2);
    CHECK_INT(groups_tokens(g, 0, 3, 0, 1, v, true, &known), GROUPS_TAKE);
    CHECK_INT(groups_counts(g).failed_in_row, 2);
    CHECK(groups_score(g, 3, 1));
    CHECK_INT(groups_counts(g).failed_in_row, 0);
    groups_close(&g);
}

TEST(groups_config_limits) {
    struct groups_config cfg = {
        .groups = 1, .size = 2, .eta = 0, .concurrency = 4, .steps = 1, .tokens_max = 4};
    struct groups *g = NULL;
    cfg.groups = 0;
    CHECK_ERR(groups_open(&g, &cfg), ERR_CONFIG, "trainer.batch.groups");
    cfg.groups = 65536;
    cfg.eta = 1024;
    CHECK_ERR(groups_open(&g, &cfg), ERR_CONFIG, "trajectories in flight");
    CHECK(!g);
}

/* A log that cannot have come from this machine is refused. */
TEST(groups_restore_refuses) {
    struct groups_config cfg = {
        .groups = 1, .size = 1, .eta = 0, .concurrency = 4, .steps = 4, .tokens_max = 4};
    struct groups *g = NULL;
    CHECK_OK(groups_open(&g, &cfg));
    groups_restore_batches(g, 1, 1);
    CHECK_ERR(groups_restore_group(g, 1, 0, 0, GROUPS_TRAINED, GROUPS_KEPT), ERR_CORRUPT,
              "expected 0");
    CHECK_OK(groups_restore_group(g, 0, 0, 0, GROUPS_TRAINED, GROUPS_KEPT));
    CHECK_ERR(groups_restore_group(g, 1, 1, 0, GROUPS_RUNNING, GROUPS_KEPT), ERR_CORRUPT, "floor");
    groups_close(&g);
    CHECK_OK(groups_open(&g, &cfg));
    groups_restore_batches(g, 1, 0);
    CHECK_OK(groups_restore_group(g, 0, 0, 0, GROUPS_RUNNING, GROUPS_KEPT));
    CHECK_ERR(groups_restore_traj(g, 0, 2, 3, true, false, 0), ERR_CORRUPT, "version 3");
    CHECK_ERR(groups_restore_traj(g, 0, 2, 0, false, true, 0), ERR_CORRUPT, "scored 1");
    CHECK_ERR(groups_restore_traj(g, 9, 2, 0, false, true, 0), ERR_CORRUPT, "not running");
    CHECK_ERR(groups_restore_end(g), ERR_CORRUPT, "deadline 0");
    groups_close(&g);
}
