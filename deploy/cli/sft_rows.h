/* sft_rows.h - the rows of supervised fine-tuning: which of a data set fit, which are held out, and
 * each as a trajectory whose response is the answer. Every row is measured before the first step,
 * so that what is left out is known then, and the order of the others is a function of seed and
 * number: a continued fine-tuning takes the rows that an uninterrupted one would. */
#ifndef DEPLOY_CLI_SFT_ROWS_H
#define DEPLOY_CLI_SFT_ROWS_H

#include "actor/policy.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe/recipe.h"
#include "trainer/batch/batch.h"

#include <stdbool.h>
#include <stdint.h>

struct sft_rows;

struct sft_rows_config { /* borrowed until closed */
    const struct recipe *recipe;
    const struct recipe_data *data;
    const char *section; /* "data.train" */
    const struct policy *policy;
    int32_t end;      /* token that ends an answer; -1: none */
    int64_t held_out; /* rows, chosen by the seed */
};

/* ERR_CORRUPT names a row without a prompt's or an answer's tokens; ERR_CONFIG when none fits. */
MUST_CHECK int sft_rows_open(struct sft_rows **out, const struct sft_rows_config *cfg);
void sft_rows_close(struct sft_rows **s);
uint64_t sft_rows_used(const struct sft_rows *s); /* that fit and are not held out */
uint64_t sft_rows_held(const struct sft_rows *s);
/* "7400 of 7473 rows of data.train used, 20 held out; 53 left out: 50 with ...; first ...". */
void sft_rows_text(const struct sft_rows *s, struct buf *out);

/* Fills trajectory i of the batch from the next row in order; passes n of them over. */
MUST_CHECK int sft_rows_next(struct sft_rows *s, struct batch *b, uint32_t i, int64_t version);
void sft_rows_skip(struct sft_rows *s, uint64_t n);
/* The first row from `from` on, in the file's order, of those held out or (held false) of those
 * used; UINT64_MAX: there is none. */
uint64_t sft_rows_find(const struct sft_rows *s, bool held, uint64_t from);
/* Fills trajectory i from that row. */
MUST_CHECK int sft_rows_fill(struct sft_rows *s, uint64_t row, struct batch *b, uint32_t i,
                             int64_t version);

#endif
