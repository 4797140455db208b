/* inflight.c - see inflight.h. An array that is searched from where the last search ended: the
 * engine reports its sequences in a stable order, so the next one wanted is nearly always the next
 * one there, and no index has to be kept right.
 *
 * "Sent" and "confirmed" are two counts: tokens are sent once, sent again from the confirmed count
 * when no confirmation came for INFLIGHT_RESEND_US or a new manager asks, and the manager
 * recognises by the offset what it has. So neither side needs to know how the other died. */
#include "rollout/inflight.h"

#include "base/mem.h"
#include "proto/trajectory.pb-c.h"

#include <math.h>
#include <string.h>

enum { PARTS_MAX = 4096, TOKENS_MAX = 1 << 18 };

struct inflight {
    struct inflight_traj *traj;
    size_t n, cap, hint;
    struct trajectory_list out; /* the collected parts */
    uint64_t *ids;              /* of the list */
    int32_t *received;
    size_t ids_cap, received_cap;
};

struct inflight *inflight_open(void) {
    return mem_zalloc(sizeof(struct inflight));
}

void inflight_close(struct inflight **s) {
    struct inflight *r = *s;
    if (!r) return;
    for (size_t i = 0; i < r->n; i++)
        trajectory_free(&r->traj[i].traj);
    trajectory_list_free(&r->out);
    mem_free(r->traj);
    mem_free(r->ids);
    mem_free(r->received);
    mem_free(r);
    *s = NULL;
}

struct inflight_traj *inflight_add(struct inflight *s, const struct trajectory *from) {
    if (s->n == INFLIGHT_MAX) return NULL;
    mem_grow(&s->traj, &s->cap, s->n + 1, sizeof *s->traj);
    struct inflight_traj *t = &s->traj[s->n++];
    *t = (struct inflight_traj){.traj = {.id = from->id, .group = from->group, .baseline = NAN}};
    trajectory_append(&t->traj, from);
    t->sent = t->acked = from->n_response;
    return t;
}

struct inflight_traj *inflight_find(struct inflight *s, uint64_t id) {
    for (size_t i = 0; i < s->n; i++) {
        size_t at = s->hint + i < s->n ? s->hint + i : s->hint + i - s->n;
        if (s->traj[at].traj.id != id) continue;
        s->hint = at + 1 < s->n ? at + 1 : 0;
        return &s->traj[at];
    }
    return NULL;
}

void inflight_append(struct inflight *s, const struct engine_token *e) {
    struct inflight_traj *t = inflight_find(s, e->id);
    if (!t) return;
    struct trajectory part = {.offset = e->position, .n_response = 1};
    part.response = &e->token;
    part.logprob = &e->logprob;
    part.version = &e->version;
    ASSERT(t->traj.finish == TRAJECTORY_RUNNING);
    trajectory_append(&t->traj, &part);
    t->traj.finish = e->finish;
}

void inflight_drop(struct inflight *s, uint64_t id) {
    struct inflight_traj *t = inflight_find(s, id);
    if (!t) return;
    trajectory_free(&t->traj);
    size_t at = (size_t)(t - s->traj);
    memmove(t, t + 1, (s->n - at - 1) * sizeof *t);
    s->n--;
    s->hint = 0;
    trajectory_list_reset(&s->out);
}

size_t inflight_count(const struct inflight *s) {
    return s->n;
}

bool inflight_ack(struct inflight *s, uint64_t id, int32_t received, bool again) {
    struct inflight_traj *t = inflight_find(s, id);
    if (!t) return false;
    bool running = t->traj.finish == TRAJECTORY_RUNNING;
    if (received < 0 || received > t->traj.n_response) {
        inflight_drop(s, id);
        return running;
    }
    t->acked = received;
    if (again) {
        t->sent = received;
        t->finish_sent = false;
    } else if (t->finish_sent && received == t->traj.n_response) {
        inflight_drop(s, id);
    }
    return false;
}

void inflight_expire(struct inflight *s, uint64_t now_us) {
    for (size_t i = 0; i < s->n; i++) {
        struct inflight_traj *t = &s->traj[i];
        bool open = t->acked < t->sent || t->finish_sent;
        if (!open || now_us < t->sent_us + INFLIGHT_RESEND_US) continue;
        t->sent = t->acked;
        t->finish_sent = false;
    }
}

const struct trajectory_list *inflight_collect(struct inflight *s, bool ended) {
    size_t n_tokens = 0;
    trajectory_list_reset(&s->out);
    for (size_t i = 0; i < s->n && s->out.n < PARTS_MAX; i++) {
        const struct inflight_traj *t = &s->traj[i];
        size_t n = (size_t)(t->traj.n_response - t->sent);
        bool end = t->traj.finish != TRAJECTORY_RUNNING && !t->finish_sent;
        if ((n == 0 && !end) || (ended && !end)) continue;
        if (n_tokens > 0 && n_tokens + n > TOKENS_MAX) break;
        struct trajectory part = trajectory_slice(&t->traj, t->sent, t->traj.n_response);
        trajectory_list_add(&s->out, &part);
        n_tokens += n;
    }
    trajectory_list_end(&s->out);
    return s->out.n > 0 ? &s->out : NULL;
}

void inflight_sent(struct inflight *s, uint64_t now_us) {
    for (size_t i = 0; i < s->out.n; i++) {
        const Weir__Trajectory *x = s->out.items[i];
        struct inflight_traj *t = inflight_find(s, x->trajectory);
        ASSERT(t != NULL);
        t->sent = (int32_t)(x->offset + x->n_response);
        t->finish_sent = x->finish != TRAJECTORY_RUNNING;
        t->sent_us = now_us;
    }
    trajectory_list_reset(&s->out);
}

size_t inflight_list(struct inflight *s, const uint64_t **ids, const int32_t **received) {
    mem_grow(&s->ids, &s->ids_cap, s->n + 1, sizeof *s->ids);
    mem_grow(&s->received, &s->received_cap, s->n + 1, sizeof *s->received);
    for (size_t i = 0; i < s->n; i++) {
        s->ids[i] = s->traj[i].traj.id;
        s->received[i] = s->traj[i].traj.n_response;
    }
    *ids = s->ids;
    *received = s->received;
    return s->n;
}
