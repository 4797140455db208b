/* evaluate.h - how good a policy is on a recipe's held-out prompts: the engine generates, the
 * recipe's verifiers score, nothing is trained. Used by `weir eval`, by `weir replay retrain
 * --eval` and by the evaluation service of a run, which never shares a rollout with training.
 *
 * An answer is a function of (seed, set, row of its file, sample index, weights): the other rows,
 * the other sets, their order and the batch do not change it (I5, I6). */
#ifndef DEPLOY_EVALUATE_EVALUATE_H
#define DEPLOY_EVALUATE_EVALUATE_H

#include "actor/params.h"
#include "actor/policy.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/metrics/metrics.h"
#include "proto/recipe/recipe.h"

#include <stdbool.h>

struct evaluate;

/* Means over prompts, of each prompt the mean over its answers. Standard errors count prompts, not
 * answers: answers to one prompt are not independent. */
struct evaluate_set {
    const char *name;              /* the recipe's */
    int64_t prompts;               /* with at least one scored answer: what the means are over */
    int64_t n, tokens;             /* answers, and their tokens */
    int64_t truncated;             /* answers that ended at the token limit */
    int64_t errors;                /* answers whose verifier failed; not in the means */
    double accuracy, reward;       /* first score; weighted sum */
    double accuracy_se, reward_se; /* NAN with one prompt */
    const struct recipe_ints *k;   /* the recipe's */
    double pass[RECIPE_INTS_MAX];  /* pass@k[i]; NAN if no prompt has k scored answers */
};

struct evaluate_report {
    int64_t version, prompts, n, tokens, truncated, errors; /* of all sets */
    double accuracy, reward;                                /* over the prompts of all sets */
    double seconds;
    int64_t n_sets;
    struct evaluate_set set[RECIPE_EVAL_MAX];
};

/* Opens the sets of the recipe, an engine and the verifiers. r, policy and b are borrowed.
 * ERR_CONFIG: no set; pass@k of scores that are not right or wrong. */
MUST_CHECK int evaluate_open(struct evaluate **out, const struct recipe *r,
                             const struct policy *policy, const struct kern_backend *b);
/* What evaluate_open would refuse in r without looking at rows. */
MUST_CHECK int evaluate_check(const struct recipe *r);
void evaluate_close(struct evaluate **e);
/* *stop (may be NULL) is looked at between engine steps through should_stop(ctx); then ERR_CLOSED.
 */
typedef bool evaluate_stop_fn(void *ctx);
MUST_CHECK int evaluate_run(struct evaluate *e, const struct params *weights, int64_t version,
                            evaluate_stop_fn *should_stop, void *ctx, struct evaluate_report *out);
/* {"version": ..., "accuracy": ..., "n": ..., "tokens": ..., ..., "sets": {NAME: {...}}}; with a
 * single set its "pass@k" stand at the top too. */
void evaluate_json(const struct evaluate_report *r, struct buf *out);
/* The same as metrics: eval/version, eval/accuracy, ..., eval/NAME/pass@4. */
void evaluate_metrics(const struct evaluate_report *r, struct metrics *m);

#endif
