/* inflight.c - see inflight.h. An array that is searched from where the last search ended: the
 * engine reports its sequences in a stable order, so the next one wanted is nearly always the next
 * one there, and no index has to be kept right.
 *
 * "Sent" and "confirmed" are two counts: tokens are sent once, sent again from the confirmed count
 * when no confirmation came for INFLIGHT_RESEND_US or a new manager asks, and the manager
 * recognises by the offset what it has. So neither side needs to know how the other died. */
#include "rollout/inflight.h"

#include "base/mem.h"

#include <string.h>

enum { PIECES_MAX = 4096, TOKENS_MAX = 1 << 18 };

struct inflight {
    struct inflight_traj *traj;
    size_t n, cap, hint;
    struct inflight_piece piece[PIECES_MAX];
    size_t n_pieces;
    int32_t *token; /* of the collected pieces */
    float *logprob;
    int64_t *version;
    size_t token_cap, logprob_cap, version_cap;
    uint64_t *ids; /* of the list */
    int32_t *received;
    size_t ids_cap, received_cap;
};

struct inflight *inflight_open(void) {
    return mem_zalloc(sizeof(struct inflight));
}

static void free_traj(struct inflight_traj *t) {
    mem_free(t->token);
    mem_free(t->logprob);
    mem_free(t->version);
}

void inflight_close(struct inflight **s) {
    struct inflight *r = *s;
    if (!r) return;
    for (size_t i = 0; i < r->n; i++)
        free_traj(&r->traj[i]);
    mem_free(r->traj);
    mem_free(r->token);
    mem_free(r->logprob);
    mem_free(r->version);
    mem_free(r->ids);
    mem_free(r->received);
    mem_free(r);
    *s = NULL;
}

static void add_tokens(struct inflight_traj *t, const int32_t *token, const float *logprob,
                       const int64_t *version, int32_t n) {
    size_t have = (size_t)t->n, more = (size_t)n;
    if (n == 0) return;
    mem_grow(&t->token, &t->cap[0], have + more, sizeof *t->token);
    mem_grow(&t->logprob, &t->cap[1], have + more, sizeof *t->logprob);
    mem_grow(&t->version, &t->cap[2], have + more, sizeof *t->version);
    memcpy(t->token + have, token, more * sizeof *token);
    memcpy(t->logprob + have, logprob, more * sizeof *logprob);
    memcpy(t->version + have, version, more * sizeof *version);
    t->n += n;
}

struct inflight_traj *inflight_add(struct inflight *s, uint64_t id, const int32_t *token,
                                   const float *logprob, const int64_t *version, int32_t n) {
    if (s->n == INFLIGHT_MAX) return NULL;
    mem_grow(&s->traj, &s->cap, s->n + 1, sizeof *s->traj);
    struct inflight_traj *t = &s->traj[s->n++];
    *t = (struct inflight_traj){.id = id};
    add_tokens(t, token, logprob, version, n);
    t->sent = t->acked = n;
    return t;
}

struct inflight_traj *inflight_find(struct inflight *s, uint64_t id) {
    for (size_t i = 0; i < s->n; i++) {
        size_t at = s->hint + i < s->n ? s->hint + i : s->hint + i - s->n;
        if (s->traj[at].id != id) continue;
        s->hint = at + 1 < s->n ? at + 1 : 0;
        return &s->traj[at];
    }
    return NULL;
}

void inflight_append(struct inflight *s, const struct engine_token *e) {
    struct inflight_traj *t = inflight_find(s, e->id);
    if (!t) return;
    ASSERT(t->finish == ENGINE_RUNNING && e->position == t->n);
    add_tokens(t, &e->token, &e->logprob, &e->version, 1);
    t->finish = e->finish;
}

void inflight_drop(struct inflight *s, uint64_t id) {
    struct inflight_traj *t = inflight_find(s, id);
    if (!t) return;
    free_traj(t);
    size_t at = (size_t)(t - s->traj);
    memmove(t, t + 1, (s->n - at - 1) * sizeof *t);
    s->n--;
    s->hint = 0;
    s->n_pieces = 0;
}

size_t inflight_count(const struct inflight *s) {
    return s->n;
}

bool inflight_ack(struct inflight *s, uint64_t id, int32_t received, bool again) {
    struct inflight_traj *t = inflight_find(s, id);
    if (!t) return false;
    bool running = t->finish == ENGINE_RUNNING;
    if (received < 0 || received > t->n) {
        inflight_drop(s, id);
        return running;
    }
    t->acked = received;
    if (again) {
        t->sent = received;
        t->finish_sent = false;
    } else if (t->finish_sent && received == t->n) {
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

bool inflight_collect(struct inflight *s, bool ended, struct inflight_out *out) {
    size_t n_tokens = 0;
    s->n_pieces = 0;
    for (size_t i = 0; i < s->n && s->n_pieces < PIECES_MAX; i++) {
        const struct inflight_traj *t = &s->traj[i];
        size_t n = (size_t)(t->n - t->sent);
        bool end = t->finish != ENGINE_RUNNING && !t->finish_sent;
        if ((n == 0 && !end) || (ended && !end)) continue;
        if (n_tokens > 0 && n_tokens + n > TOKENS_MAX) break;
        mem_grow(&s->token, &s->token_cap, n_tokens + n, sizeof *s->token);
        mem_grow(&s->logprob, &s->logprob_cap, n_tokens + n, sizeof *s->logprob);
        mem_grow(&s->version, &s->version_cap, n_tokens + n, sizeof *s->version);
        if (n > 0) {
            memcpy(s->token + n_tokens, t->token + t->sent, n * sizeof *s->token);
            memcpy(s->logprob + n_tokens, t->logprob + t->sent, n * sizeof *s->logprob);
            memcpy(s->version + n_tokens, t->version + t->sent, n * sizeof *s->version);
        }
        s->piece[s->n_pieces++] =
            (struct inflight_piece){t->id, (uint32_t)t->sent, (uint32_t)n, t->finish};
        n_tokens += n;
    }
    *out = (struct inflight_out){s->piece, s->token, s->logprob, s->version, s->n_pieces, n_tokens};
    return s->n_pieces > 0;
}

void inflight_sent(struct inflight *s, uint64_t now_us) {
    for (size_t i = 0; i < s->n_pieces; i++) {
        const struct inflight_piece *p = &s->piece[i];
        struct inflight_traj *t = inflight_find(s, p->id);
        ASSERT(t != NULL);
        t->sent = (int32_t)(p->offset + p->n);
        t->finish_sent = p->finish != ENGINE_RUNNING;
        t->sent_us = now_us;
    }
    s->n_pieces = 0;
}

size_t inflight_list(struct inflight *s, const uint64_t **ids, const int32_t **received) {
    mem_grow(&s->ids, &s->ids_cap, s->n + 1, sizeof *s->ids);
    mem_grow(&s->received, &s->received_cap, s->n + 1, sizeof *s->received);
    for (size_t i = 0; i < s->n; i++) {
        s->ids[i] = s->traj[i].id;
        s->received[i] = s->traj[i].n;
    }
    *ids = s->ids;
    *received = s->received;
    return s->n;
}
