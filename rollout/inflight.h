/* inflight.h - the trajectories that a rollout has: tokens generated so far, how many the manager
 * has confirmed, what is still to be sent. A trajectory leaves only when the manager confirmed its
 * end or said to forget it, so nothing is lost when the manager dies. No sockets, no engine. */
#ifndef ROLLOUT_INFLIGHT_H
#define ROLLOUT_INFLIGHT_H

#include "rollout/engine/engine.h"

#include <stddef.h>

enum { INFLIGHT_MAX = 1 << 16, INFLIGHT_RESEND_US = 5 * 1000 * 1000 };

struct inflight;

struct inflight_traj {
    uint64_t id;
    int32_t *token;
    float *logprob;
    int64_t *version;
    size_t cap[3];
    int32_t n, sent, acked; /* tokens: there, sent, confirmed */
    enum engine_finish finish;
    bool finish_sent;
    uint64_t sent_us; /* when anything was sent last */
};

struct inflight *inflight_open(void);
void inflight_close(struct inflight **s);

/* A new trajectory that starts with n tokens which the manager has. NULL: INFLIGHT_MAX are there.
 */
struct inflight_traj *inflight_add(struct inflight *s, uint64_t id, const int32_t *token,
                                   const float *logprob, const int64_t *version, int32_t n);
struct inflight_traj *inflight_find(struct inflight *s,
                                    uint64_t id); /* NULL; valid until add or drop */
/* Appends a token that the engine generated; a token of a forgotten trajectory is ignored. */
void inflight_append(struct inflight *s, const struct engine_token *t);
void inflight_drop(struct inflight *s, uint64_t id);
size_t
inflight_count(const struct inflight *s); /* trajectories, those waiting for confirmation too */

/* The manager has `received` tokens of it, or wants it forgotten (-1). True: it was running and is
 * gone now: abort it in the engine. again: it was lost on the way, send from there on again. */
bool inflight_ack(struct inflight *s, uint64_t id, int32_t received, bool again);
/* What was sent and not confirmed for INFLIGHT_RESEND_US is to be sent again. */
void inflight_expire(struct inflight *s, uint64_t now_us);

struct inflight_piece { /* of one Tokens message */
    uint64_t id;
    uint32_t offset, n;
    enum engine_finish finish;
};

struct inflight_out { /* a Tokens message to be; arrays owned by the runset, valid until its change
                       */
    const struct inflight_piece *piece;
    const int32_t *token;
    const float *logprob;
    const int64_t *version;
    size_t n_pieces, n_tokens;
};

/* Fills *out with unsent tokens, as many as a message should have; ended: only of trajectories that
 * ended. False: nothing. Unless inflight_sent follows, the next call gives the same again. */
bool inflight_collect(struct inflight *s, bool ended, struct inflight_out *out);
void inflight_sent(struct inflight *s, uint64_t now_us); /* the collected pieces left */
/* For a Hello: ids and counts of all, valid until a change. */
size_t inflight_list(struct inflight *s, const uint64_t **ids, const int32_t **received);

#endif
