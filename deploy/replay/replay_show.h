/* replay_show.h - trajectories of a run's log for reading: what was asked, what was said, what it
 * was paid and why. */
#ifndef DEPLOY_REPLAY_REPLAY_SHOW_H
#define DEPLOY_REPLAY_REPLAY_SHOW_H

#include "deploy/replay/replay_view.h"

struct replay_show {
    int64_t trajectory, group;   /* one of them or step; -1: not given */
    int64_t step;                /* the version that it trains */
    int64_t best, worst, random; /* of a step: how many of each; all 0: every one */
    bool tokens;                 /* also token by token: log-prob, version */
    bool json;                   /* lines as replay_export_line gives them */
    const char *event;           /* of these lines; NULL: none */
};

/* Prints to stdout, every text made harmless for a terminal. Which ones --random names follows from
 * the run's seed and the step. ERR_NOTFOUND names what is not there. */
MUST_CHECK int replay_show(struct replay_view *v, const struct replay_show *s);
/* The same, appended to out. */
MUST_CHECK int replay_show_add(struct replay_view *v, const struct replay_show *s, struct buf *out);

#endif
