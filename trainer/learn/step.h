/* step.h - one optimizer step: advantages -> plan -> forward, loss, backward per microbatch ->
 * alignment -> clip -> AdamW. A function of (weights and optimizer state, batch, recipe): repeating
 * it gives the same bits (I7). Used by the trainer service, `weir step`, `weir replay verify` and
 * `weir sft` alike.
 *
 * With recipe.trainer.ranks above 1 step_open starts the other ranks as processes (ranks.h) and
 * step_close ends them; in between they do what the calls say. A rank that fails or dies is named
 * by the error of the next call that needs it, and after that the step can only be closed. */
#ifndef TRAINER_LEARN_STEP_H
#define TRAINER_LEARN_STEP_H

#include "actor/params.h"
#include "base/err.h"
#include "proto/recipe/recipe.h"
#include "trainer/batch/batch.h"
#include "trainer/learn/memplan.h"
#include "trainer/learn/step_report.h"

struct step; /* weights, gradients, moments, previous gradient, actor; one thread */

/* model_dir: HF folder of the initial weights (recipe.model.weights may ask for random ones). */
MUST_CHECK int step_open(struct step **out, const struct recipe *r, const char *model_dir);
void step_close(struct step **s);
/* Another rank's life: fd is RANKS_FD. Returns when rank 0 wants no more, or has been told why this
 * rank cannot go on. */
MUST_CHECK int step_serve(int fd);
/* Work that goes on beside a step, such as publishing the version before it. The step calls
 * `between` before each microbatch and `before_update` before it changes the weights; an error of
 * either ends the step with it. Only rank 0 calls them. */
struct step_watch {
    int (*between)(void *ctx);
    int (*before_update)(void *ctx);
    void *ctx;
};
void step_watch(struct step *s, const struct step_watch *w);
struct kern_stream *step_stream(const struct step *s);   /* that the weights are changed on */
const struct memplan *step_memory(const struct step *s); /* the memory that was taken at open */
/* The same before anything is opened: the memory plan. */
MUST_CHECK int step_plan(struct memplan *out, const struct recipe *r, const struct shape *shape);
/* ERR_STALE if any trajectory is staler than the bound: nothing was changed (I2's second check). */
MUST_CHECK int step_run(struct step *s, struct batch *b, struct step_report *out);
/* Supervised: response tokens with mask 1 are the targets; reward and log-probs are ignored. */
MUST_CHECK int step_run_sft(struct step *s, struct batch *b, struct step_report *out);
/* Log-probs of the response tokens by the current weights: logprob[n_response] of trajectory i of
 * the batch. */
MUST_CHECK int step_score(struct step *s, const struct batch *b, uint32_t i, float inv_temp,
                          float *logprob);

/* f32: what the optimizer changes. With several ranks and model.dtype bf16 it is whole after
 * step_gather_weights (and step_save) only. */
const struct params *step_weights(const struct step *s);
MUST_CHECK int step_gather_weights(struct step *s);
const struct params *step_policy(const struct step *s); /* what is computed with and published */
int64_t step_version(const struct step *s);
/* Counts a version without changing the weights. A run numbers batches and versions alike, so after
 * a step that was skipped the next version is these same weights. */
void step_advance(struct step *s);
/* Renames the version of the weights (0 when opened); it never goes back. */
void step_set_version(struct step *s, int64_t version);
MUST_CHECK int step_hash(struct hash *out, const struct step *s); /* of the current weights */

/* Checkpoints (ckpt.c): DIR/step-N/ written as tmp, fsynced, renamed; whole state; the newest
 * `keep` stay. */
MUST_CHECK int step_save(struct step *s, const char *dir, int64_t keep);
/* What ckpt_save wants, to be read before the next step. */
struct ckpt;
MUST_CHECK int step_checkpoint(struct step *s, struct ckpt *out);
/* Loads the newest complete checkpoint of DIR; ERR_NOTFOUND if there is none. at >= 0: exactly that
 * one. */
MUST_CHECK int step_load(struct step *s, const char *dir, int64_t at);

#endif
