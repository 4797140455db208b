/* runset.h - the trajectories that a rollout has: tokens generated so far, how many the manager has
 * confirmed, what is still to be sent. A trajectory leaves only when the manager confirmed its end
 * or said to forget it, so nothing is lost when the manager dies. No sockets, no engine. */
#ifndef ROLLOUT_RUNSET_H
#define ROLLOUT_RUNSET_H

#include "rollout/engine/engine.h"

#include <stddef.h>

enum { RUNSET_MAX = 1 << 16, RUNSET_RESEND_US = 5 * 1000 * 1000 };

struct runset;

struct runset_traj {
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

struct runset *runset_open(void);
void runset_close(struct runset **s);

/* A new trajectory that starts with n tokens which the manager has. NULL: RUNSET_MAX are there. */
struct runset_traj *runset_add(struct runset *s, uint64_t id, const int32_t *token,
                               const float *logprob, const int64_t *version, int32_t n);
struct runset_traj *runset_find(struct runset *s, uint64_t id); /* NULL; valid until add or drop */
/* Appends a token that the engine generated; a token of a forgotten trajectory is ignored. */
void runset_append(struct runset *s, const struct engine_token *t);
void runset_drop(struct runset *s, uint64_t id);
size_t runset_count(const struct runset *s); /* trajectories, those waiting for confirmation too */

/* The manager has `received` tokens of it, or wants it forgotten (-1). True: it was running and is
 * gone now: abort it in the engine. again: it was lost on the way, send from there on again. */
bool runset_ack(struct runset *s, uint64_t id, int32_t received, bool again);
/* What was sent and not confirmed for RUNSET_RESEND_US is to be sent again. */
void runset_expire(struct runset *s, uint64_t now_us);

struct runset_piece { /* of one Tokens message */
    uint64_t id;
    uint32_t offset, n;
    enum engine_finish finish;
};

struct runset_out { /* a Tokens message to be; arrays owned by the runset, valid until its change */
    const struct runset_piece *piece;
    const int32_t *token;
    const float *logprob;
    const int64_t *version;
    size_t n_pieces, n_tokens;
};

/* Fills *out with unsent tokens, as many as a message should have; ended: only of trajectories that
 * ended. False: nothing. Unless runset_sent follows, the next call gives the same again. */
bool runset_collect(struct runset *s, bool ended, struct runset_out *out);
void runset_sent(struct runset *s, uint64_t now_us); /* the collected pieces left */
/* For a Hello: ids and counts of all, valid until a change. */
size_t runset_list(struct runset *s, const uint64_t **ids, const int32_t **received);

#endif
