/* manager_status.c - what the manager knows, for people: the status object and, when nothing moves,
 * one line that says who waits for what and since when. A run that hangs must say where. */
#include "rollout/manager/manager_status.h"

#include "base/log.h"
#include "base/mem.h"
#include "proto/metrics/metrics.h"
#include "rollout/manager/manager_clients.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_level.h"
#include "rollout/manager/manager_predict.h"
#include "rollout/manager/manager_trainer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { WAITS_MAX = 8, STALL_US = 30000000 };

struct manager_status {
    uint64_t started_us, stall_said_us;
};

void manager_status_open(struct manager *m) {
    m->status = mem_zalloc(sizeof *m->status);
    m->status->started_us = m->progress_us = m->now_us;
}

void manager_status_close(struct manager *m) {
    mem_free(m->status);
}

struct waits {
    struct buf text[WAITS_MAX];
    uint64_t since_us[WAITS_MAX];
    const char *who[WAITS_MAX];
    size_t n;
};

static struct buf *add_wait(struct waits *w, const char *who, uint64_t since_us) {
    ASSERT(w->n < WAITS_MAX);
    w->who[w->n] = who;
    w->since_us[w->n] = since_us;
    return &w->text[w->n++];
}

/* What keeps the next batch from being formed. */
static void explain_batch(struct manager *m, int64_t step, struct buf *b) {
    struct groups_counts n = groups_counts(m->groups);
    const struct groups_group *g = groups_blocker(m->groups);
    if (step > n.done) {
        buf_printf(b, "the end of step %" PRId64, n.done + 1);
        return;
    }
    buf_printf(b, "the batch of step %" PRId64 ": %" PRId64 " of %" PRId64 " groups finished",
               n.formed + 1, n.finished, m->recipe->trainer.batch.groups);
    if (!g) return;
    int64_t running = 0, waiting = 0, unscored = 0;
    const char *at = "nobody";
    for (int64_t i = 0; i < m->size; i++) {
        const struct groups_traj *t = groups_traj(m->groups, manager_trajectory(m, g->id, i));
        running += t->state == GROUPS_LEASED;
        waiting += t->state == GROUPS_WAITING;
        unscored += t->state == GROUPS_GENERATED;
        if (t->state == GROUPS_LEASED) at = manager_clients_at(m, (size_t)t->rollout)->name;
    }
    buf_printf(b,
               "; first needed: group %" PRIu64 " (until step %" PRId64 "), %" PRId64
               " running (at %s), %" PRId64 " not started, %" PRId64 " without score",
               g->id, groups_deadline(m->groups, g->id) + 1, running, at, waiting, unscored);
}

static void collect(struct manager *m, struct waits *w) {
    struct groups_counts n = groups_counts(m->groups);
    uint64_t kept = 0, since = UINT64_MAX, rollouts = 0, asked_us;
    const struct manager_client *c;
    int64_t step;
    bool asked = manager_trainer_waits(m, &step, &asked_us);
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++) {
        rollouts += c->alive && c->role == MANAGER_ROLLOUT;
        if (!c->alive || c->credit == 0) continue;
        kept++;
        if (c->credit_us < since) since = c->credit_us;
    }
    if (n.done >= m->recipe->trainer.steps) return;
    if (asked) explain_batch(m, step, add_wait(w, "trainer", asked_us));
    if (kept > 0)
        buf_printf(add_wait(w, "rollouts", since),
                   "%" PRIu64 " of them for admission: %" PRId64 " groups live of %" PRId64
                   " after step %" PRId64 ", %" PRId64 " trajectories running of %" PRId64,
                   kept, n.live,
                   (n.done + 1) * m->recipe->trainer.batch.groups + groups_level(m->groups), n.done,
                   n.leased, m->recipe->rollout.concurrency);
    if (rollouts == 0)
        buf_str(add_wait(w, "manager", m->progress_us), "a rollout: none is connected");
    if (n.unscored > 0 && !manager_clients_reward(m))
        buf_printf(add_wait(w, "manager", m->progress_us),
                   "the reward service: not connected, %" PRId64 " trajectories without score",
                   n.unscored);
    else if (n.unscored > 0)
        buf_printf(add_wait(w, "manager", m->progress_us), "%" PRId64 " scores", n.unscored);
    if (n.leased > 0)
        buf_printf(add_wait(w, "manager", m->progress_us), "tokens of %" PRId64 " trajectories",
                   n.leased);
    if (!asked && n.formed > n.done)
        buf_printf(add_wait(w, "manager", manager_counts_batch(m)->answered_us),
                   "step %" PRId64 " to be done", n.done + 1);
    else if (!asked)
        buf_str(add_wait(w, "manager", m->progress_us), "the trainer to ask for a batch");
}

static void waits_free(struct waits *w) {
    for (size_t i = 0; i < w->n; i++)
        buf_close(&w->text[i]);
}

static double age(const struct manager *m, uint64_t since_us) {
    return m->now_us > since_us ? (double)(m->now_us - since_us) * 1e-6 : 0;
}

static void write_waits(struct json_write *out, struct manager *m) {
    struct waits w = {.n = 0};
    collect(m, &w);
    json_write_array(out, "waiting_for");
    for (size_t i = 0; i < w.n; i++) {
        json_write_object(out, NULL);
        json_write_str(out, "who", w.who[i]);
        json_write_text(out, "what", w.text[i].data, w.text[i].len);
        json_write_fixed(out, "since_s", age(m, w.since_us[i]), 1);
        json_write_end(out);
    }
    json_write_end(out);
    waits_free(&w);
}

static void write_clients(struct metrics *out, const struct manager *m) {
    json_write_array(out->json, "clients");
    const struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++) {
        if (!c->used) continue;
        json_write_object(out->json, NULL);
        json_write_str(out->json, "name", c->name);
        json_write_str(out->json, "service", c->service);
        metrics_flag(out, METRIC_CLIENT_ALIVE, c->alive);
        metrics_int(out, METRIC_CLIENT_VERSION, c->version);
        metrics_int(out, METRIC_CLIENT_RUNNING, c->running);
        metrics_int(out, METRIC_CLIENT_KV_USED, c->kv_used);
        metrics_int(out, METRIC_CLIENT_KV_TOTAL, c->kv_total);
        metrics_int(out, METRIC_CLIENT_TOKENS, c->tokens);
        metrics_num(out, METRIC_CLIENT_HEARD_S, age(m, c->heard_us));
        metrics_num(out, METRIC_CLIENT_BUSY, c->busy);
        metrics_num(out, METRIC_CLIENT_TOKENS_PER_S, c->alive ? c->tokens_per_s : 0);
        json_write_end(out->json);
    }
    json_write_end(out->json);
}

static void write_rejected(struct metrics *out, const struct groups_counts *n) {
    json_write_object(out->json, "rejected");
    for (int i = 1; i < GROUPS_REASONS; i++) {
        out->label = group_reason_name((enum groups_reason)i);
        metrics_int(out, METRIC_REJECTED_REASON, n->rejected[i]);
    }
    json_write_end(out->json);
}

static void write_staleness(struct metrics *out, const struct manager *m) {
    const struct manager_batch_facts *f = manager_counts_batch(m);
    double rho = 0;
    json_write_object(out->json, "staleness");
    metrics_int(out, METRIC_STEP, f->step + (f->n > 0));
    metrics_int(out, METRIC_OFF_POLICY_MAX, f->staleness_max);
    metrics_cells(out, METRIC_OFF_POLICY_HISTOGRAM, f->histogram,
                  sizeof f->histogram / sizeof f->histogram[0]);
    metrics_num(out, METRIC_OFF_POLICY_PREDICTED, manager_predict(m, &rho));
    json_write_end(out->json);
}

static void write_level(struct metrics *whole, struct metrics *leaf, const struct manager *m) {
    bool follows = m->recipe->trainer.staleness.hold == RECIPE_HOLD_AUTO;
    struct manager_level_view v = manager_level_view(m);
    json_write_object(leaf->json, "level");
    json_write_int(leaf->json, "groups", v.now.groups);
    json_write_int(leaf->json, "bound", v.now.bound);
    json_write_int(leaf->json, "target", level_target(&v.now));
    json_write_str(leaf->json, "why",
                   follows ? level_reason(v.now.why) : "trainer.staleness.hold: max");
    metrics_num(whole, METRIC_IDLE_ROLLOUT, v.held);
    json_write_end(leaf->json);
}

static void write_queue(struct metrics *out, const struct groups_counts *n) {
    json_write_object(out->json, "queue");
    metrics_int(out, METRIC_QUEUE_RUNNING, n->leased);
    metrics_int(out, METRIC_QUEUE_WAITING, n->waiting);
    metrics_int(out, METRIC_QUEUE_LOST, n->lost);
    metrics_int(out, METRIC_QUEUE_UNSCORED, n->unscored);
    metrics_int(out, METRIC_QUEUE_RUNNING_GROUPS, n->running);
    metrics_int(out, METRIC_QUEUE_FINISHED_GROUPS, n->finished);
    metrics_int(out, METRIC_QUEUE_LIVE, n->live);
    json_write_end(out->json);
}

void manager_status_json(struct manager *m, struct buf *out) {
    struct groups_counts n = groups_counts(m->groups);
    const struct manager_window *w = manager_counts_window(m);
    struct json_write json = json_write_to(out, JSON_COMPACT);
    struct metrics whole = {.json = &json}, leaf = {.json = &json, .leaf = true};
    json_write_object(&json, NULL);
    json_write_str(&json, "name", m->recipe->name);
    metrics_int(&whole, METRIC_STEP, n.done);
    json_write_int(&json, "steps", m->recipe->trainer.steps);
    json_write_bool(&json, "done", n.done >= m->recipe->trainer.steps);
    metrics_num(&leaf, METRIC_TIME_UPTIME_S, age(m, m->status->started_us));
    metrics_num(&whole, METRIC_REWARD_MEAN, manager_counts_reward_mean(m));
    write_queue(&leaf, &n);
    metrics_num(&whole, METRIC_PERF_ROLLOUT_TOKENS_PER_S,
                (double)w->tokens / fmax(age(m, w->start_us), 1e-6));
    write_rejected(&leaf, &n);
    write_staleness(&leaf, m);
    write_level(&whole, &leaf, m);
    write_clients(&leaf, m);
    write_waits(&json, m);
    json_write_end(&json);
}

void manager_status_watch(struct manager *m) {
    struct waits w = {.n = 0};
    uint64_t said = m->status->stall_said_us;
    uint64_t quiet = m->progress_us > said ? m->progress_us : said;
    if (m->now_us < quiet + STALL_US) return;
    m->status->stall_said_us = m->now_us;
    collect(m, &w);
    for (size_t i = 0; i < w.n; i++)
        LOG(WARN, MANAGER, "nothing moved for %.0f s: %s waits for %s, since %.0f s",
            age(m, m->progress_us), w.who[i], w.text[i].data, age(m, w.since_us[i]));
    waits_free(&w);
}
