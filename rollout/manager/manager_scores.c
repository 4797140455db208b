/* manager_scores.c - finished trajectories to the reward service, scores back. At most
 * OUT_MAX requests are with the service; the rest wait here, as ids only. A request
 * without an answer is sent again when the service is back, and after a long time in any case;
 * answers are recognised by the trajectory's id, so a second one does no harm.
 *
 * An error is an error, never a zero: the whole group is rejected with that reason, because the
 * advantages of the others would be computed against a hole. */
#include "rollout/manager/manager_scores.h"

#include "base/buf.h"
#include "base/mem.h"
#include "proto/reward.pb-c.h"
#include "rollout/engine/engine.h"
#include "rollout/manager/manager_clients.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_prompts.h"
#include "rollout/manager/manager_sampling.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    OUT_MAX = 512, /* trajectories that the service holds at a time */
    AGAIN_US = 100000,
    LOST_US = 30000000,
    SWEEP_US = 100000,
    REQUEST_ITEMS = 128,      /* of one message, so that all workers get some of a burst */
    REQUEST_BYTES = 16 << 20, /* and of its texts: then it is sent, whatever is missing */
};

struct job { /* a finished trajectory without a score */
    uint64_t id;
    uint64_t sent_us; /* 0: not with the reward service */
};

struct manager_scores {
    struct job *job;        /* [groups_capacity] in the order of finishing */
    size_t n, n_sent, next; /* next: all before it are sent, or need not be */
    uint64_t sweep_us;      /* when jobs were swept last */
    uint64_t pause_us;      /* the service said "not now": nothing before this */
    uint64_t session;       /* of the service that has what was sent */
};

void manager_scores_open(struct manager *m) {
    m->scores = mem_zalloc(sizeof *m->scores);
    m->scores->job = mem_array((size_t)groups_capacity(m->groups), sizeof *m->scores->job);
}

void manager_scores_close(struct manager *m) {
    if (!m->scores) return;
    mem_free(m->scores->job);
    mem_free(m->scores);
}

/* Forgets jobs that nobody waits for any more: scored, or of a rejected group. Now and then is
 * enough: a job that is done is skipped wherever it is met. */
static void sweep(struct manager *m) {
    /* Even if every request before it took all of its time, an answer would be here by then. */
    uint64_t limit = LOST_US + (uint64_t)m->recipe->reward_service.timeout_ms * 1000 * OUT_MAX;
    struct manager_scores *k = m->scores;
    size_t kept = 0;
    k->n_sent = k->next = 0;
    for (size_t i = 0; i < k->n; i++) {
        struct job j = k->job[i];
        const struct groups_traj *t = groups_traj(m->groups, j.id);
        if (!t || t->state != GROUPS_GENERATED) continue;
        if (j.sent_us > 0 && m->now_us > j.sent_us + limit) j.sent_us = 0;
        k->n_sent += j.sent_us > 0;
        k->job[kept++] = j;
    }
    k->n = kept;
    k->sweep_us = m->now_us;
}

void manager_scores_add(struct manager *m, uint64_t trajectory) {
    struct manager_scores *k = m->scores;
    if ((int64_t)k->n == groups_capacity(m->groups)) sweep(m);
    ASSERT((int64_t)k->n < groups_capacity(m->groups));
    k->job[k->n++] = (struct job){.id = trajectory};
}

/* Another service, or the same one after it was lost, has nothing of what was sent before. */
static void follow_service(struct manager_scores *k, const struct manager_client *c) {
    if (k->session == c->session) return;
    k->session = c->session;
    for (size_t i = 0; i < k->n; i++)
        k->job[i].sent_us = 0;
    k->next = k->n_sent = 0;
}

struct request { /* a ScoreRequest being built */
    Weir__ScoreItem item[REQUEST_ITEMS], *list[REQUEST_ITEMS];
    struct job *job[REQUEST_ITEMS];
    struct buf text;
    size_t n;
};

static int add_item(struct manager *m, struct request *q, struct job *j) {
    const struct manager_prompt *p = NULL;
    struct runlog_record hold = {0};
    struct runlog_traj t = {0};
    char *text = NULL;
    size_t bytes = 0;
    int rc = 0;
    TRY_OUT(manager_prompts_get(m, manager_group_of(m, j->id), &p));
    TRY_OUT(manager_prompts_load(m, j->id, &t, &hold));
    TRY_OUT(tokenizer_decode(m->tokenizer, t.response, (size_t)t.n_response, true, &text, &bytes));
    const char *answer = dataset_answer(m->data, p->row);
    size_t n_prompt = strlen(p->text), n_answer = strlen(answer);
    Weir__ScoreItem *x = q->list[q->n] = &q->item[q->n];
    *x = (Weir__ScoreItem)WEIR__SCORE_ITEM__INIT;
    x->trajectory = j->id;
    x->prompt = (uint32_t)n_prompt;
    x->response = (uint32_t)bytes;
    x->answer = (uint32_t)n_answer;
    x->n_tokens = (uint32_t)t.n_response;
    x->max_tokens = (uint32_t)m->recipe->rollout.max_new_tokens;
    x->truncated = t.finish == ENGINE_LENGTH;
    buf_add(&q->text, p->text, n_prompt);
    buf_add(&q->text, text, bytes);
    buf_add(&q->text, answer, n_answer);
    q->job[q->n++] = j;
out:
    mem_free(text);
    runlog_free(&hold);
    return rc;
}

static int send_request(struct manager *m, struct manager_client *c, struct request *q) {
    Weir__ScoreRequest body = WEIR__SCORE_REQUEST__INIT;
    struct wire_frame frame = {q->text.data, q->text.len};
    body.n_items = q->n;
    body.items = q->list;
    TRY(manager_clients_send(m, c, WIRE_SCORE_REQUEST, &body, &frame, 1));
    for (size_t i = 0; i < q->n; i++)
        q->job[i]->sent_us = m->now_us;
    m->scores->n_sent += q->n;
    q->n = 0;
    buf_reset(&q->text);
    return 0;
}

static int send_all(struct manager *m, struct manager_client *c, struct request *q) {
    struct manager_scores *k = m->scores;
    while (c->alive && k->next < k->n && k->n_sent + q->n < OUT_MAX) {
        struct job *j = &k->job[k->next++];
        const struct groups_traj *t = groups_traj(m->groups, j->id);
        if (j->sent_us > 0 || !t || t->state != GROUPS_GENERATED) continue;
        TRY(add_item(m, q, j));
        if (q->n == REQUEST_ITEMS || q->text.len >= REQUEST_BYTES) TRY(send_request(m, c, q));
    }
    return q->n > 0 ? send_request(m, c, q) : 0;
}

int manager_scores_send(struct manager *m) {
    struct manager_scores *k = m->scores;
    struct manager_client *c = manager_clients_reward(m);
    if (m->now_us >= k->sweep_us + SWEEP_US) sweep(m);
    if (c) follow_service(k, c);
    if (!c || m->now_us < k->pause_us || k->next == k->n) return 0;
    if (k->n_sent >= OUT_MAX) return 0;
    struct request *q = mem_zalloc(sizeof *q);
    int rc = send_all(m, c, q);
    buf_close(&q->text);
    mem_free(q);
    return rc;
}

static int put_score(struct manager *m, const Weir__ScoreRecord *s) {
    struct runlog_score r = {
        .id = s->trajectory, .error = s->error, .reason = s->reason, .total = s->total};
    for (size_t i = 0; i < s->n_scores && i < RUNLOG_SCORES_MAX; i++) {
        r.name[i] = s->scores[i]->name;
        r.value[i] = s->scores[i]->value;
        r.n = i + 1;
    }
    return runlog_put_score(m->log, &r);
}

static int32_t longest_of(struct manager *m, uint64_t group) {
    int32_t longest = 0;
    for (int64_t i = 0; i < m->size; i++) {
        int32_t n = groups_traj(m->groups, manager_trajectory(m, group, i))->received;
        if (n > longest) longest = n;
    }
    return longest;
}

static int group_finished(struct manager *m, uint64_t group) {
    bool zero = groups_group(m->groups, group)->zero;
    manager_counts_group(m, zero, longest_of(m, group));
    return manager_sampling_finished(m, group);
}

/* Sent again after a pause, not with the next turn. */
static void put_off(struct manager *m, uint64_t trajectory) {
    struct manager_scores *k = m->scores;
    for (size_t i = 0; i < k->n; i++)
        if (k->job[i].id == trajectory) k->job[i].sent_us = 0;
    k->pause_us = m->now_us + AGAIN_US;
    k->sweep_us = 0;
}

static int take_score(struct manager *m, const Weir__ScoreRecord *s);

/* The trainer takes rewards as floats: a number beyond them is an error like others. */
static int take_too_large(struct manager *m, const Weir__ScoreRecord *s) {
    Weir__ScoreRecord error = *s;
    char reason[64];
    snprintf(reason, sizeof reason, "the score %g is not a 32-bit number", s->total);
    error.error = ERR_CORRUPT;
    error.reason = reason;
    error.total = 0;
    return take_score(m, &error);
}

static int take_score(struct manager *m, const Weir__ScoreRecord *s) {
    uint64_t group = manager_group_of(m, s->trajectory);
    const struct groups_traj *t = groups_traj(m->groups, s->trajectory);
    if (!t || t->state != GROUPS_GENERATED) return 0; /* a duplicate, or a rejected group */
    if (s->error == 0 && !isfinite((float)s->total)) return take_too_large(m, s);
    if (s->error == ERR_AGAIN) {
        put_off(m, s->trajectory);
        return 0;
    }
    if (m->scores->n_sent > 0) m->scores->n_sent--;
    TRY(put_score(m, s));
    manager_progress(m);
    if (s->error == 0) {
        groups_score(m->groups, s->trajectory, (float)s->total);
        bool finished = groups_group(m->groups, group)->state == GROUPS_FINISHED;
        return finished ? group_finished(m, group) : 0;
    }
    return manager_prompts_fail(m, group, GROUPS_REWARD,
                                "trajectory=%" PRIu64 " reward error %s: %s", s->trajectory,
                                err_name(s->error), s->reason);
}

int manager_scores_reply(struct manager *m, const struct wire_msg *msg) {
    const Weir__ScoreReply *r = msg->body;
    for (size_t i = 0; i < r->n_items; i++)
        TRY(take_score(m, r->items[i]));
    return 0;
}
