/* manager_rollouts.c - work out, tokens in. A work request is credit: it is kept until admission
 * lets something start and answered once. Whatever a rollout sends about a trajectory that is not
 * its own is answered with "forget it", which is also the answer for a trajectory of a rejected
 * group: rollouts need no separate message for that. */
#include "rollout/manager/manager_rollouts.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"
#include "proto/rollout.pb-c.h"
#include "relay/sealed.h"
#include "rollout/engine/engine.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_prompts.h"
#include "rollout/manager/manager_refuse.h"
#include "rollout/manager/manager_scores.h"
#include "rollout/manager/manager_weights.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    ACKS_MAX = 1 << 14,
    EVENT_BYTES = 1 << 17, /* of an event: then it goes to the log's writer */
    WORK_MAX = 1024,       /* items of one Work */
    WORK_BYTES = 128 << 20 /* of one Work's frames, with room to the limit of the type */
};

struct ack { /* for tokens that are in the log batch, not yet written */
    struct manager_client *client;
    uint64_t trajectory;
    int32_t received;
};

struct manager_rollouts {
    struct ack *acks; /* of this turn */
    size_t n_acks, acks_cap;
};

void manager_rollouts_open(struct manager *m) {
    m->rollouts = mem_zalloc(sizeof *m->rollouts);
}

void manager_rollouts_close(struct manager *m) {
    if (!m->rollouts) return;
    mem_free(m->rollouts->acks);
    mem_free(m->rollouts);
}

static int send_work(struct manager *m, struct manager_client *c, Weir__Work *w,
                     const struct wire_frame *frames) {
    c->credit = 0;
    return manager_clients_send(m, c, WIRE_WORK, w, frames, frames ? 4 : 0);
}

void manager_rollouts_request(struct manager *m, struct manager_client *c,
                              const struct wire_msg *msg) {
    const Weir__WorkRequest *q = msg->body;
    if (q->version > groups_counts(m->groups).formed) {
        manager_warn(m, &c->id, "work request", "holds a version that cannot exist");
        return;
    }
    c->version = c->credit_version = q->version;
    c->credit = q->trajectories;
    c->places = q->places;
    c->credit_us = m->now_us;
    m->work_changed = true;
    if (q->trajectories > 0) return;
    Weir__Work nothing = WEIR__WORK__INIT;
    nothing.min_version = q->version;
    err_ignore(send_work(m, c, &nothing, NULL), "it asked for nothing");
}

struct work { /* a Work message being built */
    Weir__Work body;
    Weir__WorkItem *items, **list;
    struct buf prompts, resume, logprob, version;
};

static int add_item(struct manager *m, struct work *w, const struct groups_item *it) {
    const struct manager_prompt *p = NULL;
    const struct manager_tokens *t = manager_prompts_tokens(m, it->trajectory);
    TRY(manager_prompts_get(m, it->group, &p));
    size_t i = w->body.n_items++, n = (size_t)t->n;
    if (i == 0 || w->items[i - 1].group != it->group)
        buf_add(&w->prompts, p->ids, p->n * sizeof *p->ids);
    w->items[i] = (Weir__WorkItem)WEIR__WORK_ITEM__INIT;
    w->items[i].trajectory = it->trajectory;
    w->items[i].group = it->group;
    w->items[i].n_prompt = (uint32_t)p->n;
    w->items[i].n_resume = (uint32_t)n;
    w->items[i].max_new_tokens = (uint32_t)m->recipe->rollout.max_new_tokens;
    w->items[i].greedy = manager_prompts_greedy(m, it->group) == it->trajectory + 1;
    w->list[i] = &w->items[i];
    buf_add(&w->resume, t->response, n * sizeof *t->response);
    buf_add(&w->logprob, t->logprob, n * sizeof *t->logprob);
    buf_add(&w->version, t->version, n * sizeof *t->version);
    return 0;
}

static void work_free(struct work *w) {
    mem_free(w->items);
    mem_free(w->list);
    buf_close(&w->prompts);
    buf_close(&w->resume);
    buf_close(&w->logprob);
    buf_close(&w->version);
}

static struct wire_frame frame_of(const struct buf *b) {
    return (struct wire_frame){b->len ? b->data : "", b->len};
}

static int send_items(struct manager *m, struct manager_client *c, const struct groups_item *items,
                      uint32_t n) {
    struct work w = {.items = mem_array(n, sizeof *w.items), .list = mem_array(n, sizeof *w.list)};
    int rc = 0;
    w.body = (Weir__Work)WEIR__WORK__INIT;
    w.body.items = w.list;
    w.body.min_version = c->credit_version;
    for (uint32_t i = 0; i < n; i++)
        TRY_OUT(add_item(m, &w, &items[i]));
    struct wire_frame frames[4] = {frame_of(&w.prompts), frame_of(&w.resume), frame_of(&w.logprob),
                                   frame_of(&w.version)};
    TRY_OUT(send_work(m, c, &w.body, frames));
out:
    work_free(&w);
    return rc;
}

/* New groups get their record, and their prompt, before anybody hears of them. A row that cannot be
 * used costs its group; the rest of the items move up. */
static int start_groups(struct manager *m, struct groups_item *items, uint32_t *n) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *n; i++) {
        const struct manager_prompt *p = NULL;
        if (!groups_group(m->groups, items[i].group)) continue; /* rejected just now */
        int rc = manager_prompts_get(m, items[i].group, &p);
        if (rc == ERR_CONFIG || rc == ERR_CORRUPT) {
            LOG_LIMITED(WARN, MANAGER, "group=%" PRIu64 " rejected: %s", items[i].group,
                        err_text());
            TRY(manager_prompts_leave(m, items[i].group, GROUPS_REJECTED, GROUPS_PROMPT, -1));
            continue;
        }
        TRY(rc);
        if (items[i].starts) TRY(manager_prompts_record(m, items[i].group));
        items[kept++] = items[i];
    }
    *n = kept;
    return 0;
}

/* Items of one message: its frames stay far below the type's limit whatever the lengths are. */
static uint32_t items_max(const struct manager *m, uint32_t credit) {
    int64_t bytes =
        4 * m->recipe->rollout.max_prompt_tokens + 16 * m->recipe->rollout.max_new_tokens;
    int64_t n = WORK_BYTES / bytes;
    if (n > WORK_MAX) n = WORK_MAX;
    if (n > (int64_t)credit) n = (int64_t)credit;
    return n < 1 ? 1 : (uint32_t)n;
}

/* Places of the request that are still free: one that crossed the answer to the request before it
 * on the way counts those that this answer fills. */
static uint32_t places_free(const struct manager *m, const struct manager_client *c) {
    if (c->places == 0) return c->credit;
    uint32_t has = groups_leased(m->groups, manager_clients_number(m, c));
    uint32_t free = c->places > has ? c->places - has : 0;
    return c->credit < free ? c->credit : free;
}

static int serve(struct manager *m, struct manager_client *c) {
    uint32_t free = places_free(m, c);
    if (free == 0) return 0; /* it is kept until something ends there */
    uint32_t max = items_max(m, free), n = 0;
    struct groups_item *items = mem_array(max, sizeof *items);
    int64_t want = 0;
    int rc = 0;
    do { /* again while all that was found was rejected at once */
        n = groups_dispatch(m->groups, manager_clients_number(m, c), c->credit_version, max, items,
                            &want);
        if (n == 0) break;
        TRY_OUT(start_groups(m, items, &n));
    } while (n == 0);
    if (n > 0) {
        TRY_OUT(send_items(m, c, items, n));
    } else if (want > c->credit_version) {
        Weir__Work pull = WEIR__WORK__INIT;
        pull.min_version = want;
        TRY_OUT(send_work(m, c, &pull, NULL));
    }
out:
    mem_free(items);
    return rc;
}

static int by_age(const void *a, const void *b) {
    const struct manager_client *const *x = a, *const *y = b;
    if ((*x)->credit_us != (*y)->credit_us) return (*x)->credit_us < (*y)->credit_us ? -1 : 1;
    return *x < *y ? -1 : *x > *y;
}

int manager_rollouts_dispatch(struct manager *m) {
    struct manager_client *list[MANAGER_CLIENTS_MAX], *c;
    size_t n = 0;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        if (c->alive && c->credit > 0) list[n++] = c;
    qsort(list, n, sizeof list[0], by_age); /* who waits longest first */
    for (size_t i = 0; i < n; i++)
        TRY(serve(m, list[i]));
    return 0;
}

static int store_finished(struct manager *m, const struct manager_client *c,
                          const struct manager_span *s, struct manager_tokens *t) {
    const struct manager_prompt *p = NULL;
    uint64_t group = manager_group_of(m, s->id);
    TRY(manager_prompts_get(m, group, &p));
    t->finish = s->finish;
    t->step = groups_counts(m->groups).done;
    struct runlog_traj r = {.id = s->id,
                            .group = group,
                            .n_prompt = (int32_t)p->n,
                            .n_response = t->n,
                            .finish = s->finish,
                            .rollout = c->name,
                            .started = t->started_us,
                            .finished = m->wall_us,
                            .step = t->step,
                            .prompt = p->ids,
                            .response = t->response,
                            .logprob = t->logprob,
                            .version = t->version};
    TRY(runlog_put_traj(m->log, &r));
    for (size_t i = 0; i < t->n_partials; i++)
        runlog_drop_partial(m->log, s->id, t->partial[i]);
    if (t->restored) TRY(runlog_drop_partials(m->log, s->id));
    manager_counts_finished(m, t->n);
    manager_prompts_keep(m, t);
    manager_scores_add(m, s->id);
    return 0;
}

/* New tokens: all of the span but the first `known`. */
static int store(struct manager *m, const struct manager_client *c, const struct manager_span *s,
                 uint32_t known) {
    struct manager_tokens *t = manager_prompts_tokens(m, s->id);
    int32_t offset = t->n, n = (int32_t)(s->n - known);
    manager_prompts_add(t, n, s->response + known, s->logprob + known, s->version + known);
    t->writer = c->writer;
    t->life = c->incarnation;
    manager_counts_tokens(m, (uint32_t)n);
    manager_progress(m);
    if (s->finish != ENGINE_RUNNING) return store_finished(m, c, s, t);
    mem_grow(&t->partial, &t->partials_cap, t->n_partials + 1, sizeof *t->partial);
    t->partial[t->n_partials++] = (uint32_t)offset;
    struct runlog_traj r = {.id = s->id,
                            .group = manager_group_of(m, s->id),
                            .n_response = n,
                            .rollout = c->name,
                            .started = t->started_us,
                            .finished = m->wall_us,
                            .step = groups_counts(m->groups).done,
                            .response = t->response + offset,
                            .logprob = t->logprob + offset,
                            .version = t->version + offset};
    return runlog_put_partial(m->log, &r, offset);
}

/* The rollout cannot or must not go on with it: somebody else tries. */
static int give_back(struct manager *m, const struct manager_client *c, uint64_t id) {
    m->work_changed = true;
    if (!groups_abort(m->groups, manager_clients_number(m, c), id)) return 0;
    return manager_prompts_fail(m, manager_group_of(m, id), GROUPS_ABORTED,
                                "trajectory %" PRIu64 " was given back by rollouts %d times", id,
                                GROUPS_ABORTS_MAX);
}

/* One span; *ack: the answer for it. */
static int take_span(struct manager *m, struct manager_client *c, const struct manager_span *s,
                     int32_t *ack) {
    uint32_t known = 0;
    *ack = -1;
    if (s->finish == ENGINE_ABORTED) return give_back(m, c, s->id);
    if (manager_refuse_span(m, c, s) < 0) {
        manager_refuse(m, c, "tokens refused", err_text());
        return give_back(m, c, s->id);
    }
    switch (groups_tokens(m->groups, manager_clients_number(m, c), s->id, s->offset, s->n,
                          s->version, s->finish != ENGINE_RUNNING, &known)) {
    case GROUPS_TAKE: TRY(store(m, c, s, known)); break;
    case GROUPS_KNOWN: break;
    case GROUPS_FORGET: return 0;
    case GROUPS_MALFORMED:
        manager_refuse(m, c, "tokens refused", err_text());
        return give_back(m, c, s->id);
    }
    *ack = groups_traj(m->groups, s->id)->received;
    return 0;
}

static int take_hash(struct manager *m, struct manager_client *c, const Weir__TokensWeights *w) {
    int rc = manager_weights_loaded(m, w->version, sealed_hash_get(w->hash.data), c->name);
    if (rc != ERR_MISMATCH || !manager_weights_confirmed(m, w->version)) return rc;
    manager_refuse_ban(m, c, "weights refused", err_text(), rc);
    return 0;
}

/* Others than the trainer's are this rollout's fault, and everything it made by them is void. Which
 * of two rollouts is right before the trainer spoke, nobody knows: that ends the run. */
static int take_weights(struct manager *m, struct manager_client *c, const Weir__Tokens *t) {
    for (size_t i = 0; i < t->n_weights && !c->banned; i++) {
        const Weir__TokensWeights *w = t->weights[i];
        if (w->version > groups_counts(m->groups).formed)
            manager_refuse(m, c, "weights refused", "of a version that cannot exist");
        else
            TRY(take_hash(m, c, w));
    }
    return 0;
}

int manager_rollouts_tokens(struct manager *m, struct manager_client *c,
                            const struct wire_msg *msg) {
    struct manager_rollouts *k = m->rollouts;
    const Weir__Tokens *t = msg->body;
    size_t at = 0;
    TRY(take_weights(m, c, t));
    for (size_t i = 0; i < t->n_items && !c->banned; i++) {
        const Weir__TokensItem *x = t->items[i];
        struct manager_span s = {.id = x->trajectory,
                                 .offset = x->offset,
                                 .n = x->n,
                                 .finish = x->finish,
                                 .response = (const int32_t *)msg->frame[0].data + at,
                                 .logprob = (const float *)msg->frame[1].data + at,
                                 .version = (const int64_t *)msg->frame[2].data + at};
        mem_grow(&k->acks, &k->acks_cap, k->n_acks + 1, sizeof *k->acks);
        struct ack *ack = &k->acks[k->n_acks++];
        *ack = (struct ack){c, x->trajectory, -1};
        TRY(take_span(m, c, &s, &ack->received));
        at += x->n;
        if (runlog_pending(m->log) >= EVENT_BYTES) TRY(manager_rollouts_flush(m));
    }
    return 0;
}

/* Acknowledges n spans of one client in one message. */
static int send_acks(struct manager *m, const struct ack *acks, size_t n) {
    Weir__TokensAckItem *items = mem_array(n, sizeof *items), **list = mem_array(n, sizeof *list);
    Weir__TokensAck a = WEIR__TOKENS_ACK__INIT;
    for (size_t i = 0; i < n; i++) {
        items[i] = (Weir__TokensAckItem)WEIR__TOKENS_ACK_ITEM__INIT;
        items[i].trajectory = acks[i].trajectory;
        items[i].received = acks[i].received;
        list[i] = &items[i];
    }
    a.n_items = n;
    a.items = list;
    int rc = manager_clients_send(m, acks->client, WIRE_TOKENS_ACK, &a, NULL, 0);
    mem_free(items);
    mem_free(list);
    return rc;
}

int manager_rollouts_flush(struct manager *m) {
    struct manager_rollouts *k = m->rollouts;
    size_t n = 0;
    TRY(runlog_commit(m->log, false));
    for (size_t i = 0; i < k->n_acks; i += n) {
        for (n = 1; i + n < k->n_acks && n < ACKS_MAX; n++)
            if (k->acks[i + n].client != k->acks[i].client) break;
        TRY(send_acks(m, &k->acks[i], n));
    }
    k->n_acks = 0;
    return 0;
}

/* What it may keep: unfinished, nobody else's, and continued by nobody else since. */
static int32_t adopt(struct manager *m, struct manager_client *c, uint64_t id, int32_t has) {
    const struct groups_traj *t = groups_traj(m->groups, id);
    if (!t || has < t->received) return -1;
    if (t->received > 0 && manager_prompts_tokens(m, id)->writer != c->writer) return -1;
    return groups_adopt(m->groups, manager_clients_number(m, c), id);
}

int manager_rollouts_welcome(struct manager *m, struct manager_client *c,
                             const struct wire_msg *msg) {
    const Weir__Hello *h = msg->body;
    const uint64_t *ids = msg->frame[0].data;
    const int32_t *has = msg->frame[1].data;
    int32_t *keep = mem_array(h->n_running, sizeof *keep);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->n_running; i++) {
        keep[i] = c->role == MANAGER_ROLLOUT && !c->banned ? adopt(m, c, ids[i], has[i]) : -1;
        kept += keep[i] >= 0;
    }
    struct groups_counts n = groups_counts(m->groups);
    Weir__Welcome w = WEIR__WELCOME__INIT;
    w.incarnation = c->session;
    w.seed = m->recipe->seed;
    w.n_running = h->n_running;
    w.step = n.done;
    w.done = n.done >= m->recipe->trainer.steps;
    struct wire_frame frames[2] = {msg->frame[0], {keep, h->n_running * sizeof *keep}};
    int rc = manager_clients_send(m, c, WIRE_WELCOME, &w, frames, 2);
    mem_free(keep);
    LOG_LIMITED(INFO, MANAGER,
                "hello %s service=%s pid=%" PRId64 " version=%" PRId64 " running=%" PRIu32
                " kept=%" PRIu32,
                c->name, c->service, h->pid, h->version, h->n_running, kept);
    return rc;
}
