/* salvage_log.h - the records of a damaged log that still make a run, written into a new one. */
#ifndef DEPLOY_REPLAY_SALVAGE_LOG_H
#define DEPLOY_REPLAY_SALVAGE_LOG_H

#include "base/buf.h"
#include "proto/recipe/recipe.h"
#include "rollout/log/runlog.h"

enum { SALVAGE_PARTIAL = RUNLOG_KINDS, SALVAGE_KINDS };

struct salvage_log {
    const int64_t *checkpoint; /* versions from which the trainer can go on, newest first */
    size_t n_checkpoints;
    /* results */
    int64_t done, had; /* steps done in the new log; in the damaged one */
    int64_t from;      /* version from which all steps to `done` can be executed again */
    int64_t holes;     /* steps before that which cannot */
    int64_t rebuilt;   /* batch records that follow from other records */
    int64_t given_up;  /* unfinished groups, rejected as `lost` */
    int64_t kept[SALVAGE_KINDS], lost[SALVAGE_KINDS];
    struct buf names; /* of the first records that are lost */
};

/* from: runlog_open_damaged; to: empty. Whole means: its checksum and content are right. */
MUST_CHECK int salvage_log(struct salvage_log *s, struct runlog *from, struct runlog *to,
                           const struct recipe *r);

#endif
