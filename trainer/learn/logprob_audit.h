/* logprob_audit.h - whether rollouts report the log-probs that their weights give (I6), in the run
 * itself. In an asynchronous run hardly a trained token is of the version that is trained, and
 * older weights give other log-probs by right; so the trainer keeps its newest versions and scores
 * some trajectories of each batch again by the version of their tokens. Per version and rollout at
 * least one trajectory is compared, as long as the versions are kept and the batch has one. */
#ifndef TRAINER_LEARN_LOGPROB_AUDIT_H
#define TRAINER_LEARN_LOGPROB_AUDIT_H

#include "actor/params.h"
#include "proto/recipe/recipe.h"
#include "trainer/batch/batch.h"

struct logprob_audit; /* the versions kept, a network to score with */

/* Of one batch: the tokens of older versions than the one that is trained. */
struct logprob_audit_result {
    int64_t tokens, trajectories;
    int64_t unequal; /* tokens whose log-prob is not the one recorded, bit for bit */
    double sum, max; /* of |difference|; INFINITY: a NaN */
};

/* How many versions are kept: as many as a batch can be behind, within a quarter of the memory that
 * the trainer takes anyhow (device: bytes of that) and, on a device, an eighth of what it has left.
 * 0: none, and then nothing is compared. */
MUST_CHECK int logprob_audit_versions(int *out, const struct kern_backend *b,
                                      const struct shape *shape, const struct recipe *r,
                                      size_t device);
/* policy: of the shape that will be kept. */
MUST_CHECK int logprob_audit_open(struct logprob_audit **out, const struct params *policy,
                                  const struct recipe *r, size_t device);
void logprob_audit_close(struct logprob_audit **a);
/* The policy as it is now is this version; in place of the oldest one. */
MUST_CHECK int logprob_audit_keep(struct logprob_audit *a, const struct params *policy,
                                  int64_t version);
/* Compares trajectories of the batch that version `version` is about to train. What differs is
 * logged by rollout, trajectory, token and version. */
MUST_CHECK int logprob_audit_batch(struct logprob_audit *a, const struct batch *b, int64_t version,
                                   struct logprob_audit_result *out);

#endif
