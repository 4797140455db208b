/* step_stats.h - numbers of a step that follow from the batch and its log-probs alone, into the
 * step's report. All in the order of the batch, so that they do not depend on how it was packed. */
#ifndef TRAINER_LEARN_STEP_STATS_H
#define TRAINER_LEARN_STEP_STATS_H

#include "trainer/batch/batch.h"
#include "trainer/learn/step_report.h"

void step_stats_rewards(struct step_report *out, const struct batch *b);
/* version: of the weights that are trained. */
void step_stats_lengths(struct step_report *out, const struct batch *b, int64_t version);
/* Log-probs of the rollouts against those of the trainer: at equal weights, where the same bits are
 * expected (I6) and a difference is logged if `exact`; and at older or another run's weights, where
 * the difference is their lag. logprob: by trained token, of the first n trajectories. */
void step_stats_mismatch(struct step_report *out, const struct batch *b, int64_t version,
                         const float *logprob, uint32_t n, bool exact);
/* Groups of equal rewards: nothing to learn from them. */
int64_t step_stats_zero_groups(const struct batch *b);

#endif
