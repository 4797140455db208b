/* preflight_rows.h - the rows of one data set, each looked at once. */
#ifndef DEPLOY_PREFLIGHT_PREFLIGHT_ROWS_H
#define DEPLOY_PREFLIGHT_PREFLIGHT_ROWS_H

#include "actor/policy.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe/recipe.h"
#include "reward/verify/verify.h"

struct preflight_rows {
    const char *section; /* "data.train", for texts */
    const struct recipe_data *rows;
    const struct policy *policy;
    const struct verify *verify; /* NULL: references are not looked at */
    uint64_t seed;
    int64_t longest;   /* tokens a prompt may have */
    const char *limit; /* where that comes from: "rollout.max_prompt_tokens" */
    int64_t at_least;  /* rows that have to be usable: trainer.batch.groups */
    int64_t room;      /* longest prompt that the model's context leaves room for */
    uint64_t n;        /* out: rows of the set */
};

/* Appends the warnings of the set to notes. Rows that cannot be used are an error, or with
 * bad_rows: skip a warning, that says how many, why, and names the first three. */
MUST_CHECK int preflight_rows(struct buf *notes, struct preflight_rows *q);

#endif
