/* retrain.h - counterfactual replay: a run's logged batches, in their order, trained again from the
 * initial model under another trainer section. Nothing is generated: trajectories, rewards,
 * behaviour log-probs and versions are the logged ones. The result is a function of the log and the
 * recipe (I7); with the run's own recipe it is the run's weights, bit for bit. */
#ifndef DEPLOY_REPLAY_RETRAIN_H
#define DEPLOY_REPLAY_RETRAIN_H

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json_write.h"
#include "proto/recipe/recipe.h"
#include "trainer/learn/step.h"

#include <stdbool.h>
#include <stddef.h>

/* What became of one logged step */
struct retrain_step {
    int64_t step;                     /* the version that it trains */
    const struct step_report *report; /* NULL: no group was left, nothing was trained */
    int64_t rejected;                 /* groups staler than the bound */
    bool skipped;                     /* by alignment control: trained, but the weights stayed */
    struct hash hash;                 /* of the weights after it */
    bool as_logged;                   /* the run had the same after it */
    const char *line;                 /* of metrics.jsonl, with its newline */
};

struct retrain {
    const char *run;    /* directory of the logged run */
    const char *recipe; /* file; NULL: the run's own */
    const char *const *sets;
    size_t n_sets;
    const char *out; /* new directory; NULL: runs/NAME-DATE-TIME */
    bool eval;       /* evaluate the weights as the recipe's eval section says */
    /* Each may be NULL. start: what is compared is known, nothing was trained yet; note: lines of
     * text. eval: a line of metrics.jsonl, with its newline. */
    void (*on_start)(void *ctx, const char *out, const char *note);
    void (*on_step)(void *ctx, const struct retrain_step *s);
    void (*on_eval)(void *ctx, const char *line);
    void *ctx;
    /* results */
    char *dir;                             /* absolute; mem_free */
    int64_t steps, empty, skipped;         /* steps: all; of them without a group; by control */
    int64_t groups_rejected, trajectories; /* trajectories: trained */
    int64_t as_logged;                     /* first steps whose weights are all the logged ones */
    struct hash hash;                      /* at the end */
};

/* ERR_CONFIG names the first key that would need new trajectories; ERR_MISMATCH: another initial
 * model; ERR_NOTFOUND: no finished step. Writes recipe.yaml, retrain.json, metrics.jsonl, hf/. */
MUST_CHECK int retrain_run(struct retrain *t);
/* The results as members of the open object. */
void retrain_summary(const struct retrain *t, struct json_write *w);

/* (retrain_diff.c) ERR_CONFIG if key cannot differ between a run and its retraining. */
MUST_CHECK int retrain_allows(const char *key, const char *was, const char *is);

#endif
