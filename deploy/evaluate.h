/* evaluate.h - the accuracy of a policy on a recipe's held-out prompts: the engine generates, the
 * recipe's verifiers score, nothing is trained. Used by `weir eval` and by the evaluation service
 * of a run, which never shares a rollout with training. */
#ifndef DEPLOY_EVALUATE_H
#define DEPLOY_EVALUATE_H

#include "actor/params.h"
#include "actor/policy.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe.h"

#include <stdbool.h>

struct evaluate;

struct evaluate_report {
    int64_t version, n, tokens, truncated,
        errors;      /* errors: responses whose verifier failed; not in the means */
    double accuracy; /* mean of the first verifier's score */
    double reward;   /* mean weighted sum */
    double seconds;
};

/* Opens data.eval of the recipe, an engine and the verifiers. policy and b are borrowed. */
MUST_CHECK int evaluate_open(struct evaluate **out, const struct recipe *r,
                             const struct policy *policy, const struct kern_backend *b);
void evaluate_close(struct evaluate **e);
/* *stop (may be NULL) is looked at between engine steps through should_stop(ctx); then ERR_CLOSED.
 */
typedef bool evaluate_stop_fn(void *ctx);
MUST_CHECK int evaluate_run(struct evaluate *e, const struct params *weights, int64_t version,
                            evaluate_stop_fn *should_stop, void *ctx, struct evaluate_report *out);
/* {"version": ..., "accuracy": ..., "reward": ..., "n": ..., "tokens": ..., ...} */
void evaluate_json(const struct evaluate_report *r, struct buf *out);

#endif
