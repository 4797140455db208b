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
#include "proto/trajectory_wire.h"
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
                     const struct wire_frame *frames, size_t n) {
    c->credit = 0;
    return manager_clients_send(m, c, WIRE_WORK, w, frames, n);
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
    err_ignore(send_work(m, c, &nothing, NULL, 0), "it asked for nothing");
}

/* What a rollout needs to know to start a trajectory, or to go on with what others made of it. */
static int add_item(struct manager *m, struct trajectory_list *l, const struct groups_item *it) {
    const struct manager_prompt *p = NULL;
    struct trajectory t = manager_prompts_tokens(m, it->trajectory)->traj;
    TRY(manager_prompts_get(m, it->group, &p));
    t.n_prompt = (int32_t)p->n;
    t.prompt = p->ids;
    t.max_new_tokens = (int32_t)m->recipe->rollout.max_new_tokens;
    t.greedy = manager_prompts_greedy(m, it->group) == it->trajectory + 1;
    trajectory_list_add(l, &t);
    return 0;
}

static int send_items(struct manager *m, struct manager_client *c, const struct groups_item *items,
                      uint32_t n) {
    struct trajectory_list l = {.n = 0};
    Weir__Work w = WEIR__WORK__INIT;
    int rc = 0;
    for (uint32_t i = 0; i < n; i++)
        TRY_OUT(add_item(m, &l, &items[i]));
    trajectory_list_end(&l);
    w.n_items = l.n;
    w.items = l.items;
    w.min_version = c->credit_version;
    TRY_OUT(send_work(m, c, &w, l.frames, l.n_frames));
out:
    trajectory_list_free(&l);
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
        TRY_OUT(send_work(m, c, &pull, NULL, 0));
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
                          enum trajectory_finish finish, struct manager_tokens *t) {
    const struct manager_prompt *p = NULL;
    struct trajectory *traj = &t->traj;
    TRY(manager_prompts_get(m, traj->group, &p));
    traj->finish = finish;
    traj->finished = m->wall_us;
    traj->step = groups_counts(m->groups).done;
    struct trajectory record = *traj;
    record.n_prompt = (int32_t)p->n;
    record.prompt = p->ids;
    record.rollout = c->name;
    TRY(runlog_put_traj(m->log, &record));
    for (size_t i = 0; i < t->n_partials; i++)
        runlog_drop_partial(m->log, traj->id, t->partial[i]);
    if (t->restored) TRY(runlog_drop_partials(m->log, traj->id));
    manager_counts_finished(m, traj->n_response);
    manager_scores_add(m, traj->id);
    manager_prompts_keep(m, t);
    return 0;
}

/* New tokens: all of the part but the first `known`. */
static int store(struct manager *m, const struct manager_client *c, const struct trajectory *part,
                 uint32_t known) {
    struct manager_tokens *t = manager_prompts_tokens(m, part->id);
    struct trajectory fresh = trajectory_slice(part, (int32_t)known, part->n_response);
    trajectory_append(&t->traj, &fresh);
    t->writer = c->writer;
    t->life = c->incarnation;
    manager_counts_tokens(m, (uint32_t)fresh.n_response);
    manager_progress(m);
    if (part->finish != TRAJECTORY_RUNNING) return store_finished(m, c, part->finish, t);
    mem_grow(&t->partial, &t->partials_cap, t->n_partials + 1, sizeof *t->partial);
    t->partial[t->n_partials++] = (uint32_t)fresh.offset;
    fresh.group = t->traj.group;
    fresh.rollout = c->name;
    fresh.started = t->traj.started;
    fresh.finished = m->wall_us;
    fresh.step = groups_counts(m->groups).done;
    return runlog_put_partial(m->log, &fresh);
}

/* The rollout cannot or must not go on with it: somebody else tries. */
static int give_back(struct manager *m, const struct manager_client *c, uint64_t id) {
    m->work_changed = true;
    if (!groups_abort(m->groups, manager_clients_number(m, c), id)) return 0;
    return manager_prompts_fail(m, manager_group_of(m, id), GROUPS_ABORTED,
                                "trajectory %" PRIu64 " was given back by rollouts %d times", id,
                                GROUPS_ABORTS_MAX);
}

/* One part; *ack: the answer for it. */
static int take_part(struct manager *m, struct manager_client *c, const struct trajectory *part,
                     int32_t *ack) {
    bool ends = part->finish != TRAJECTORY_RUNNING;
    uint32_t known = 0;
    *ack = -1;
    if (part->finish == TRAJECTORY_ABORTED) return give_back(m, c, part->id);
    if (manager_refuse_part(m, c, part) < 0) {
        manager_refuse(m, c, "tokens refused", err_text());
        return give_back(m, c, part->id);
    }
    switch (groups_tokens(m->groups, manager_clients_number(m, c), part->id, (uint32_t)part->offset,
                          (uint32_t)part->n_response, part->version, ends, &known)) {
    case GROUPS_TAKE: TRY(store(m, c, part, known)); break;
    case GROUPS_KNOWN: break;
    case GROUPS_FORGET: return 0;
    case GROUPS_MALFORMED:
        manager_refuse(m, c, "tokens refused", err_text());
        return give_back(m, c, part->id);
    }
    *ack = groups_traj(m->groups, part->id)->received;
    return 0;
}

static int take_hash(struct manager *m, struct manager_client *c, const Weir__TokensWeights *w) {
    int rc = manager_weights_loaded(m, w->version, hash_get(w->hash.data), c->name);
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
    struct trajectory_reader r = trajectory_read(msg->frame);
    TRY(take_weights(m, c, t));
    for (size_t i = 0; i < t->n_items && !c->banned; i++) {
        struct trajectory part = trajectory_next(&r, t->items[i]);
        mem_grow(&k->acks, &k->acks_cap, k->n_acks + 1, sizeof *k->acks);
        struct ack *ack = &k->acks[k->n_acks++];
        *ack = (struct ack){c, part.id, -1};
        TRY(take_part(m, c, &part, &ack->received));
        if (runlog_pending(m->log) >= EVENT_BYTES) TRY(manager_rollouts_flush(m));
    }
    return 0;
}

/* Acknowledges n parts of one client in one message. */
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
    const uint64_t *ids = msg->frame[FRAME_IDS].data;
    const int32_t *has = msg->frame[FRAME_RECEIVED].data;
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
    struct wire_frame frames[FRAMES_HELLO] = {
        [FRAME_IDS] = msg->frame[FRAME_IDS],
        [FRAME_RECEIVED] = {keep, h->n_running * sizeof *keep}};
    int rc = manager_clients_send(m, c, WIRE_WELCOME, &w, frames, FRAMES_HELLO);
    mem_free(keep);
    LOG_LIMITED(INFO, MANAGER,
                "hello %s service=%s pid=%" PRId64 " version=%" PRId64 " running=%" PRIu32
                " kept=%" PRIu32,
                c->name, c->service, h->pid, h->version, h->n_running, kept);
    return rc;
}
