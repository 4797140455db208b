/* replay.h - a run's log as training batches again, and the re-execution of its steps (invariant
 * I7). */
#ifndef DEPLOY_REPLAY_REPLAY_H
#define DEPLOY_REPLAY_REPLAY_H

#include "base/err.h"
#include "rollout/log/runlog.h"
#include "trainer/batch/batch.h"

#include <stdint.h>

/* The batch of a recorded step, exactly as the trainer got it. *out: batch_close. */
MUST_CHECK int replay_batch(struct batch **out, struct runlog *log,
                            const struct runlog_batch *record);

struct replay_step { /* one that was compared */
    int64_t step;
    struct hash want, got; /* of the weights after it */
    /* Trained tokens that the weights before it generated: |recorded - recomputed log-prob|. */
    int64_t tokens, unequal;
    double mean, max;
};

struct replay_verify {
    int64_t first, last;     /* steps asked for; last -1: all that were done */
    bool logprobs;           /* recompute log-probs by the version of each token */
    int64_t checked, failed; /* results: hashes compared, hashes that differ */
    int64_t tokens, unequal; /* log-probs compared, those with other bits */
    bool exact;              /* result: none may be unequal; false: the run's model.exact was */
    /* Called after each compared step; may be NULL. */
    void (*each)(void *ctx, const struct replay_step *s);
    void *ctx;
};

/* Also compares each version's hash as the rollouts had it, where the log has one (I1): another one
 * counts as a hash that differs. Re-executes the steps of RUN from the initial model, or from the
 * newest checkpoint at or before `first`. Returns 0 if it could be done, whatever the hashes say;
 * ERR_NOTFOUND when the run has no such step. */
MUST_CHECK int replay_verify(struct replay_verify *v, const char *run_dir);

#endif
