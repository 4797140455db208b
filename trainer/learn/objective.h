/* objective.h - what a step minimises: everything that the loss needs of each token of a batch
 * (advantage, denominator of the ratio, correction, weight), written down before the first
 * gradient; then the gradient of one optimizer step after another. The formulas are in adv.h,
 * correct.h, aggregate.h and loss.h; here is their order, and which forward passes they need.
 *
 * Log-probs of the current weights are known before the gradient pass where something asks for
 * them: the forward pass is exact to the bit (I6), so those of an extra pass are those that the
 * gradient pass will see. With several ranks all make the same calls. */
#ifndef TRAINER_LEARN_OBJECTIVE_H
#define TRAINER_LEARN_OBJECTIVE_H

#include "proto/recipe/recipe.h"
#include "trainer/batch/batch.h"
#include "trainer/learn/passes.h"
#include "trainer/learn/step_report.h"
#include "trainer/optim/update.h"

struct objective; /* host memory, grows to the largest batch seen; one thread */

struct objective *objective_open(const struct recipe *r);
void objective_close(struct objective **o);
/* The recipe has a critic: the policy needs a value head. */
bool objective_wants_value_head(const struct recipe *r);

/* Does the batch have what the recipe's advantage needs? ERR_CONFIG names the trajectory. */
MUST_CHECK int objective_check(const struct objective *o, const struct batch *b);
/* Fills the tables for a checked batch, which stays borrowed until the next call; `version` is that
 * of the weights before the step. Masks of trajectories that the recipe does not train become 0.
 * The gradient in `update` is overwritten. */
MUST_CHECK int objective_prepare(struct objective *o, struct passes *p, struct update *update,
                                 struct batch *b, int64_t version);
/* The same for a supervised step: the loss is the mean of -log pi over the trained tokens. */
void objective_prepare_supervised(struct objective *o, struct passes *p, struct batch *b,
                                  int64_t version);

/* Optimizer steps that the batch is split into, by groups. */
uint32_t objective_steps(const struct objective *o);
/* Adds the gradient of step k's loss into grads; in order, each once. */
MUST_CHECK int objective_gradient(struct objective *o, struct passes *p, uint32_t k,
                                  struct params *grads);
/* What step k's learning rate is multiplied by. */
double objective_lr_scale(const struct objective *o, uint32_t k);

/* Log-probs by trained token of the first *n trajectories (those of the first optimizer step), by
 * the weights before the step. */
const float *objective_logprobs(const struct objective *o, uint32_t *n);
/* After the last gradient. */
void objective_report(const struct objective *o, struct step_report *out);

#endif
