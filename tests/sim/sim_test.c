/* sim_test.c - a whole run in one process on virtual time: the real manager with its log in memory,
 * real rollouts with a model of the engine, models of the trainer and the reward service, through
 * delays, deaths and restarts of all of them. One seed is one history, always the same.
 *
 * Checked at every batch: I1, I2 and I3 (sim_model.c). After every turn of the manager: no group of
 * the pool is beyond its deadline. At the end: every trajectory was trained once, or its group left
 * with a reason, or was never needed. Progress: once nothing dies any more, steps go on. */
#include "base/file.h"
#include "base/kv_memory.h"
#include "base/log.h"
#include "base/mem.h"
#include "rollout/log/runlog_identity.h"
#include "rollout/manager/manager.h"
#include "rollout/manager/manager_state.h"
#include "rollout/rollout.h"
#include "tests/sim/sim_model.h"
#include "tests/test.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum {
    SEEDS = 1000,
    ROLLOUTS_MAX = 3,
    NODES = 3 + ROLLOUTS_MAX,
    STUCK_US = 60 * 1000 * 1000, /* without a step, while nothing dies */
};

enum kind { MANAGER, REWARD, TRAINER, ROLLOUT };

struct node { /* a process */
    enum kind kind;
    char name[16];
    bool alive;
    struct env env;
    uint64_t wake_us, death_us; /* wake_us: next turn, or its start when it is dead */
    struct manager *manager;
    struct rollout *rollout;
    struct sim_engine *engine;
    struct sim_peer *peer;
};

struct sim {
    struct sim_facts facts;
    struct sim_net *net;
    struct kv_memory *log;
    struct recipe *recipe;
    struct node node[NODES];
    size_t n_nodes;
    int64_t checkpoint, seen_done;
    uint64_t write_us; /* when the log's next event is written, 0: none waits */
    uint64_t calm_us;  /* from here on nothing dies */
    uint64_t life_us;  /* of a process until then: about */
    uint64_t step_us;  /* the newest step was done, or something died */
    int64_t turns, deaths;
};

static void must(struct sim *s, int rc, const char *who) {
    if (rc < 0) sim_wrong(&s->facts, "%s ends: %s", who, err_text());
}

static uint64_t below(struct sim *s, uint64_t n) {
    return sim_net_below(s->net, n);
}

/* --- processes ----------------------------------------------------------------------------- */

static void write_recipe(const struct sim_facts *f, uint64_t seed) {
    bool drop = seed % 5 == 0;
    char *path = file_join(f->dir, "recipe.yaml");
    char *text = mem_printf(
        "name: sim\n"
        "model: {path: recipes/tiny, chat: plain}\n"
        "data: {train: {path: 'builtin:addition', limit: 40}}\n"
        "rollout: {group_size: %d, max_new_tokens: %d, max_prompt_tokens: 16, concurrency: %d, "
        "heartbeat_ms: 100, stream_every: 4}\n"
        "reward: [{type: exact}]\n"
        "trainer: {steps: %d, batch: {groups: %d}, staleness: {max: %d, late: %s}}\n",
        (int)f->size, (int)f->max_new, (int)(4 + seed % 13), (int)f->steps, (int)f->groups,
        (int)f->eta, drop && f->eta > 0 ? "drop" : "wait");
    CHECK_OK(file_write_atomic(path, text, strlen(text)));
    mem_free(text);
    mem_free(path);
}

static void start(struct sim *s, struct node *d) {
    d->env = sim_net_env(s->net);
    d->alive = true;
    d->wake_us = sim_net_now(s->net);
    d->death_us = d->wake_us + 1000 + below(s, 2 * s->life_us);
    if (d->kind == MANAGER) {
        struct manager_config cfg = {s->facts.dir, &d->env, s->log};
        must(s, manager_open(&d->manager, &cfg), d->name);
    } else if (d->kind == ROLLOUT) {
        d->engine = sim_engine_open(&s->facts);
        struct rollout_config cfg = {s->facts.dir, d->name, s->recipe, &d->env,
                                     sim_engine_generator(d->engine)};
        CHECK_OK(rollout_open(&d->rollout, &cfg));
    } else if (d->kind == REWARD) {
        d->peer = sim_reward_open(&s->facts, &d->env);
    } else {
        d->peer = sim_trainer_open(&s->facts, &d->env, &s->checkpoint);
    }
}

/* What the manager had not written yet is gone with it. */
static void kill_node(struct sim *s, struct node *d) {
    d->alive = false;
    manager_close(&d->manager);
    rollout_close(&d->rollout);
    if (d->engine) sim_engine_close(&d->engine);
    sim_peer_close(&d->peer);
    env_close(&d->env);
    if (d->kind == MANAGER) s->write_us = 0;
    d->wake_us = sim_net_now(s->net) + 1000 + below(s, 400000);
    s->step_us = sim_net_now(s->net);
    s->deaths++;
}

static void open_sim(struct sim *s, uint64_t seed) {
    *s = (struct sim){.net = sim_net_open(seed), .log = kv_memory_open()};
    char *path;
    s->facts = (struct sim_facts){.net = s->net,
                                  .dir = test_dir(),
                                  .steps = 3 + (int64_t)below(s, SIM_STEPS_MAX - 6),
                                  .groups = 1 + (int64_t)below(s, 4),
                                  .size = 2 + (int64_t)below(s, 3),
                                  .eta = (int64_t)below(s, 4),
                                  .max_new = 4 + (int32_t)below(s, 37),
                                  .published = -1};
    write_recipe(&s->facts, seed);
    path = file_join(s->facts.dir, "recipe.yaml");
    CHECK_OK(recipe_load(&s->recipe, path, NULL, 0));
    mem_free(path);
    s->life_us = UINT64_C(20000) << below(s, 8);
    s->calm_us = sim_net_now(s->net) + below(s, 4000000);
    s->step_us = sim_net_now(s->net);
    s->n_nodes = 4 + below(s, ROLLOUTS_MAX);
    for (size_t i = 0; i < s->n_nodes; i++) {
        static const char *const name[] = {"manager", "reward", "trainer"};
        struct node *d = &s->node[i];
        d->kind = i < 3 ? (enum kind)i : ROLLOUT;
        d->wake_us = sim_net_now(s->net) + below(s, 100000);
        if (i < 3)
            snprintf(d->name, sizeof d->name, "%s", name[i]);
        else
            snprintf(d->name, sizeof d->name, "rollout-%zu", i - 2);
    }
}

static void close_sim(struct sim *s) {
    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->node[i].alive) kill_node(s, &s->node[i]);
    recipe_close(&s->recipe);
    kv_memory_close(&s->log);
    sim_net_close(&s->net);
}

/* --- what must hold ------------------------------------------------------------------------ */

static void check_manager(struct sim *s, const struct manager *m) {
    struct groups_counts n = groups_counts(m->groups);
    const struct groups_group *g;
    for (int64_t i = 0; (g = groups_at(m->groups, i)) != NULL; i++)
        if (groups_deadline(m->groups, g->id) < n.formed)
            sim_wrong(&s->facts, "I2: group %" PRIu64 " is in the pool after step %" PRId64, g->id,
                      n.formed);
    if (n.done < s->facts.done)
        sim_wrong(&s->facts, "I3: step %" PRId64 " was confirmed and is not in the log", n.done);
}

static void check_progress(struct sim *s) {
    uint64_t now_us = sim_net_now(s->net);
    if (s->facts.done > s->seen_done) s->step_us = now_us;
    s->seen_done = s->facts.done;
    if (now_us > s->step_us + STUCK_US)
        sim_wrong(&s->facts, "progress: step %" PRId64 " of %" PRId64 " does not come",
                  s->facts.done + 1, s->facts.steps);
}

/* I3 by the log alone, and against what the trainer saw. */
static void check_log(struct sim *s) {
    struct runlog *l = NULL;
    struct runlog_scan *scan = NULL;
    const struct runlog_record *r = NULL;
    struct sim_facts *f = &s->facts;
    struct runlog_meta meta;
    char trained[SIM_IDS_MAX] = {0};
    int rc;
    CHECK_OK(runlog_identity(&meta, f->dir, s->recipe));
    CHECK_OK(runlog_open_memory(&l, s->log, &meta));
    CHECK_OK(runlog_scan_open(&scan, l, RUNLOG_GROUP, 0));
    while ((rc = runlog_scan_next(scan, &r)) > 0) {
        const struct runlog_group *g = &r->u.group;
        for (int64_t i = 0; i < f->size; i++) {
            uint64_t id = g->id * (uint64_t)f->size + (uint64_t)i;
            bool in = g->state == GROUPS_TRAINED;
            trained[id] = in;
            if (in ? f->trained[id] != (uint64_t)g->step + 1 : f->trained[id] != 0)
                sim_wrong(f, "I3: trajectory %" PRIu64 ": %s in the log, trained in step %" PRId64,
                          id, in ? "trained" : "not trained", (int64_t)f->trained[id] - 1);
        }
        if (g->state == GROUPS_REJECTED && g->reason == GROUPS_KEPT)
            sim_wrong(f, "I3: group %" PRIu64 " was rejected without a reason", g->id);
    }
    CHECK_OK(rc);
    for (int i = 0; i < SIM_IDS_MAX; i++)
        if (f->trained[i] != 0 && !trained[i])
            sim_wrong(f, "I3: trajectory %d was trained and has no group in the log", i);
    runlog_scan_close(&scan);
    runlog_close(&l);
}

/* --- the loop ------------------------------------------------------------------------------ */

static void turn(struct sim *s, struct node *d) {
    uint64_t wait_us = 0, now_us = sim_net_now(s->net), took_us = 10 + below(s, 200);
    s->turns++;
    if (d->kind == MANAGER) {
        must(s, manager_turn(d->manager, &wait_us), d->name);
        check_manager(s, d->manager);
        if (s->write_us == 0) s->write_us = now_us + 50 + below(s, 3000);
    } else if (d->kind == ROLLOUT) {
        must(s, rollout_turn(d->rollout, &wait_us), d->name);
        took_us += sim_engine_took(d->engine);
    } else {
        sim_peer_turn(d->peer, &wait_us);
    }
    d->wake_us = now_us + (wait_us > took_us ? wait_us : took_us);
}

/* A waiting process wakes when a message comes, a busy one reads it when it is through. */
static uint64_t next_of(const struct sim *s, const struct node *d) {
    uint64_t at_us = UINT64_MAX, now_us = sim_net_now(s->net);
    if (d->alive) at_us = sim_net_arrival(s->net, d->kind == MANAGER ? NULL : d->name);
    if (at_us < now_us + 10) at_us = now_us + 10;
    if (d->kind == ROLLOUT) at_us = UINT64_MAX; /* its turns are close together */
    return at_us < d->wake_us ? at_us : d->wake_us;
}

static void write_log(struct sim *s) {
    struct node *d = &s->node[MANAGER];
    bool more = runlog_step(d->manager->log);
    s->write_us = more ? sim_net_now(s->net) + 50 + below(s, 5000) : 0;
    if (more) d->wake_us = sim_net_now(s->net); /* the log has news */
}

static void one_event(struct sim *s) {
    struct node *next = NULL;
    uint64_t at_us = UINT64_MAX;
    for (size_t i = 0; i < s->n_nodes; i++) {
        uint64_t t = next_of(s, &s->node[i]);
        if (t >= at_us) continue;
        at_us = t;
        next = &s->node[i];
    }
    bool write = s->write_us != 0 && s->write_us <= at_us;
    if (write) at_us = s->write_us;
    if (at_us > sim_net_now(s->net)) sim_net_set_now(s->net, at_us);
    if (write)
        write_log(s);
    else if (!next->alive)
        start(s, next);
    else if (sim_net_now(s->net) >= next->death_us && sim_net_now(s->net) < s->calm_us)
        kill_node(s, next);
    else
        turn(s, next);
}

static volatile sig_atomic_t current;

static void say_seed(int signal) {
    char text[128];
    int n = snprintf(text, sizeof text, "  in the simulation of seed %d\n", (int)current);
    if (n > 0 && write(2, text, (size_t)n) < 0) _exit(1);
    (void)signal;
}

static struct sim run_seed(uint64_t seed) {
    struct sim *s = mem_zalloc(sizeof *s);
    current = (sig_atomic_t)seed;
    open_sim(s, seed);
    while (!s->facts.ended && !s->facts.wrong) {
        one_event(s);
        check_progress(s);
    }
    uint64_t took_us = sim_net_now(s->net);
    if (!s->facts.wrong) check_log(s);
    if (s->facts.wrong)
        test_fail(__FILE__, __LINE__,
                  "%s\n  seed %" PRIu64 ", after %.3f s and %" PRId64
                  " turns; again: weir-test --filter simulates_one_seed --seed %" PRIu64,
                  s->facts.wrong, seed, (double)took_us * 1e-6, s->turns, seed);
    struct sim out = *s;
    close_sim(s);
    mem_free(s);
    return out;
}

TEST_TIMEOUT(simulates_one_seed, 600) {
    log_open(LOG_INFO, "sim");
    signal(SIGABRT, say_seed);
    struct sim s = run_seed(test_seed());
    fprintf(stderr, "  steps=%" PRId64 " turns=%" PRId64 " deaths=%" PRId64 "\n", s.facts.steps,
            s.turns, s.deaths);
}

TEST_TIMEOUT(simulates_a_thousand_seeds, 300) {
    int64_t turns = 0, deaths = 0, steps = 0;
    log_open(LOG_ERROR, "sim");
    signal(SIGABRT, say_seed);
    for (uint64_t i = 0; i < SEEDS; i++) {
        struct sim s = run_seed(test_seed() + i);
        turns += s.turns;
        deaths += s.deaths;
        steps += s.facts.steps;
    }
    fprintf(stderr, "  steps=%" PRId64 " turns=%" PRId64 " deaths=%" PRId64 "\n", steps, turns,
            deaths);
    CHECK(deaths > SEEDS); /* else it shows nothing */
}
