/* inflight.h - the trajectories that a rollout has: tokens generated so far, how many the manager
 * has confirmed, what is still to be sent. A trajectory leaves only when the manager confirmed its
 * end or said to forget it, so nothing is lost when the manager dies. No sockets, no engine. */
#ifndef ROLLOUT_INFLIGHT_H
#define ROLLOUT_INFLIGHT_H

#include "proto/trajectory_wire.h"
#include "rollout/engine/engine.h"

#include <stddef.h>

enum { INFLIGHT_MAX = 1 << 16, INFLIGHT_RESEND_US = 5 * 1000 * 1000 };

struct inflight;

struct inflight_traj {
    struct trajectory traj; /* its tokens, owned */
    int32_t sent, acked;    /* tokens that were sent, that were confirmed */
    bool finish_sent;
    uint64_t sent_us; /* when anything was sent last */
};

struct inflight *inflight_open(void);
void inflight_close(struct inflight **s);

/* A new trajectory that starts with the tokens of `from`, which the manager has. NULL: INFLIGHT_MAX
 * are there. */
struct inflight_traj *inflight_add(struct inflight *s, const struct trajectory *from);
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

/* Unsent tokens as the items of a Tokens message, as many as one should have, or NULL: nothing.
 * ended: only of trajectories that ended. Valid until a change; unless inflight_sent follows, the
 * next call gives the same again. */
const struct trajectory_list *inflight_collect(struct inflight *s, bool ended);
void inflight_sent(struct inflight *s, uint64_t now_us); /* what was collected left */
/* For a Hello: ids and counts of all, valid until a change. */
size_t inflight_list(struct inflight *s, const uint64_t **ids, const int32_t **received);

#endif
