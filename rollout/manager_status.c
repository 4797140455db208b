/* manager_status.c - what the manager knows, for people: the status object and, when nothing moves,
 * one line that says who waits for what and since when. A run that hangs must say where. */
#include "base/log.h"
#include "rollout/manager_impl.h"
#include "rollout/manager_level.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { WAITS_MAX = 8 };

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
static void explain_batch(struct manager *m, struct buf *b) {
    struct groups_counts n = groups_counts(m->groups);
    const struct groups_group *g = groups_blocker(m->groups);
    int64_t size = m->size;
    if (m->ask.step > n.done) {
        buf_printf(b, "the end of step %" PRId64, n.done + 1);
        return;
    }
    buf_printf(b, "the batch of step %" PRId64 ": %" PRId64 " of %" PRId64 " groups finished",
               n.formed + 1, n.finished, m->recipe->trainer.batch.groups);
    if (!g) return;
    int64_t running = 0, waiting = 0, unscored = 0;
    const char *at = "nobody";
    for (int64_t i = 0; i < size; i++) {
        const struct groups_traj *t = groups_traj(m->groups, g->id * (uint64_t)size + (uint64_t)i);
        running += t->state == GROUPS_LEASED;
        waiting += t->state == GROUPS_WAITING;
        unscored += t->state == GROUPS_GENERATED;
        if (t->state == GROUPS_LEASED) at = m->client[t->rollout].name;
    }
    buf_printf(b,
               "; first needed: group %" PRIu64 " (until step %" PRId64 "), %" PRId64
               " running (at %s), %" PRId64 " not started, %" PRId64 " without score",
               g->id, groups_deadline(m->groups, g->id) + 1, running, at, waiting, unscored);
}

static void collect(struct manager *m, struct waits *w) {
    struct groups_counts n = groups_counts(m->groups);
    uint64_t kept = 0, since = UINT64_MAX, rollouts = 0;
    for (size_t i = 0; i < m->n_clients; i++) {
        const struct manager_client *c = &m->client[i];
        rollouts += c->alive && c->role == MANAGER_ROLLOUT;
        if (!c->alive || c->credit == 0) continue;
        kept++;
        if (c->credit_us < since) since = c->credit_us;
    }
    if (n.done >= m->recipe->trainer.steps) return;
    if (m->ask.pending) explain_batch(m, add_wait(w, "trainer", m->ask.since_us));
    if (kept > 0)
        buf_printf(add_wait(w, "rollouts", since),
                   "%" PRIu64 " of them for admission: %" PRId64 " groups live of %" PRId64
                   " after step %" PRId64 ", %" PRId64 " trajectories running of %" PRId64,
                   kept, n.live,
                   (n.done + 1) * m->recipe->trainer.batch.groups + m->level.now.groups, n.done,
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
    if (!m->ask.pending && n.formed > n.done)
        buf_printf(add_wait(w, "manager", m->facts.answered_us), "step %" PRId64 " to be done",
                   n.done + 1);
    else if (!m->ask.pending)
        buf_str(add_wait(w, "manager", m->progress_us), "the trainer to ask for a batch");
}

static void waits_free(struct waits *w) {
    for (size_t i = 0; i < w->n; i++)
        buf_close(&w->text[i]);
}

static double age(const struct manager *m, uint64_t since_us) {
    return m->now_us > since_us ? (double)(m->now_us - since_us) * 1e-6 : 0;
}

static void waiting_json(struct manager *m, struct buf *out) {
    struct waits w = {.n = 0};
    collect(m, &w);
    buf_str(out, "\"waiting_for\":[");
    for (size_t i = 0; i < w.n; i++) {
        buf_printf(out, "%s{\"who\":\"%s\",\"what\":", i ? "," : "", w.who[i]);
        buf_json_str(out, w.text[i].data, w.text[i].len);
        buf_printf(out, ",\"since_s\":%.1f}", age(m, w.since_us[i]));
    }
    buf_str(out, "]");
    waits_free(&w);
}

static void clients_json(struct manager *m, struct buf *out) {
    bool first = true;
    buf_str(out, "\"clients\":[");
    for (size_t i = 0; i < m->n_clients; i++) {
        const struct manager_client *c = &m->client[i];
        if (!c->used) continue;
        buf_str(out, first ? "{\"name\":" : ",{\"name\":");
        first = false;
        buf_json_str(out, c->name, strlen(c->name));
        buf_str(out, ",\"service\":");
        buf_json_str(out, c->service, strlen(c->service));
        buf_printf(out,
                   ",\"alive\":%s,\"version\":%" PRId64 ",\"running\":%" PRId64
                   ",\"kv_used\":%" PRId64 ",\"kv_total\":%" PRId64 ",\"tokens\":%" PRId64
                   ",\"heard_s\":%.1f,\"busy\":",
                   c->alive ? "true" : "false", c->version, c->running, c->kv_used, c->kv_total,
                   c->tokens, age(m, c->heard_us));
        buf_json_num(out, c->busy);
        buf_str(out, ",\"tokens_per_s\":");
        buf_json_num(out, c->alive ? c->tokens_per_s : 0);
        buf_str(out, "}");
    }
    buf_str(out, "]");
}

static void rejected_json(const struct groups_counts *n, struct buf *out) {
    buf_str(out, "\"rejected\":{");
    for (int i = 1; i < GROUPS_REASONS; i++)
        buf_printf(out, "%s\"%s\":%" PRId64, i > 1 ? "," : "",
                   groups_reason_name((enum groups_reason)i), n->rejected[i]);
    buf_str(out, "}");
}

static void staleness_json(const struct manager *m, struct buf *out) {
    const struct manager_batch_facts *f = &m->facts;
    int64_t last = 0, cells = (int64_t)(sizeof f->histogram / sizeof f->histogram[0]);
    for (int64_t i = 0; i < cells; i++)
        if (f->histogram[i] > 0) last = i;
    buf_printf(out, "\"staleness\":{\"step\":%" PRId64 ",\"max\":%" PRId64 ",\"histogram\":",
               f->step + (f->n > 0), f->staleness_max);
    for (int64_t i = 0; i <= last; i++)
        buf_printf(out, "%s%" PRId64, i ? "," : "[", f->histogram[i]);
    buf_str(out, "],\"predicted\":");
    double rho = 0;
    buf_json_num(out, manager_predict(m, &rho));
    buf_str(out, "}");
}

static void level_json(const struct manager *m, struct buf *out) {
    bool follows = m->recipe->trainer.staleness.hold == RECIPE_HOLD_AUTO;
    const char *why = follows ? level_reason(m->level.now.why) : "trainer.staleness.hold: max";
    buf_printf(out, "\"level\":{\"groups\":%" PRId64 ",\"bound\":%" PRId64 ",\"why\":\"%s\"",
               m->level.now.groups, m->level.now.bound, why);
    buf_printf(out, ",\"target\":%" PRId64 ",\"idle/rollout\":%.3f}", level_target(&m->level.now),
               m->level.held);
}

void manager_status_json(struct manager *m, struct buf *out) {
    struct groups_counts n = groups_counts(m->groups);
    bool done = n.done >= m->recipe->trainer.steps;
    buf_str(out, "{\"name\":");
    buf_json_str(out, m->recipe->name, strlen(m->recipe->name));
    buf_printf(out, ",\"step\":%" PRId64 ",\"steps\":%" PRId64 ",\"done\":%s,\"uptime_s\":%.1f",
               n.done, m->recipe->trainer.steps, done ? "true" : "false", age(m, m->started_us));
    buf_str(out, ",\"reward/mean\":");
    buf_json_num(out, m->last.reward_mean);
    buf_printf(out,
               ",\"queue\":{\"running\":%" PRId64 ",\"waiting\":%" PRId64 ",\"lost\":%" PRId64
               ",\"unscored\":%" PRId64 ",\"running_groups\":%" PRId64
               ",\"finished_groups\":%" PRId64 ",\"live\":%" PRId64 "},",
               n.leased, n.waiting, n.lost, n.unscored, n.running, n.finished, n.live);
    buf_str(out, "\"perf/rollout_tokens_per_s\":");
    buf_json_num(out, (double)m->window.tokens / fmax(age(m, m->window.start_us), 1e-6));
    buf_str(out, ",");
    rejected_json(&n, out);
    buf_str(out, ",");
    staleness_json(m, out);
    buf_str(out, ",");
    level_json(m, out);
    buf_str(out, ",");
    clients_json(m, out);
    buf_str(out, ",");
    waiting_json(m, out);
    buf_str(out, "}");
}

void manager_status_watch(struct manager *m) {
    struct waits w = {.n = 0};
    uint64_t quiet = m->progress_us > m->stall_said_us ? m->progress_us : m->stall_said_us;
    manager_predict_tick(m);
    if (m->now_us < quiet + MANAGER_STALL_US) return;
    m->stall_said_us = m->now_us;
    collect(m, &w);
    for (size_t i = 0; i < w.n; i++)
        LOG(WARN, MANAGER, "nothing moved for %.0f s: %s waits for %s, since %.0f s",
            age(m, m->progress_us), w.who[i], w.text[i].data, age(m, w.since_us[i]));
    waits_free(&w);
}
