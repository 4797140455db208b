/* dataset.h - rows of a data set as prompt records. A data set is a JSONL file (raw GSM8K rows,
 * verl rows with a list of messages, or any keys named in the recipe) or a generated task
 * ("builtin:NAME"), whose rows are a function of the row number and the seed. Rows are read once,
 * kept in memory as text, and rendered when asked for. */
#ifndef ACTOR_DATASET_H
#define ACTOR_DATASET_H

#include "actor/chat.h"
#include "actor/tokenizer.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct dataset;

struct dataset_config {    /* borrowed until dataset_open returns */
    const char *path;      /* file, or builtin:NAME */
    const char *prompt;    /* key of the prompt; dots descend */
    const char *answer;    /* key of the answer; may be absent in the rows only if it is NULL */
    const char *system;    /* NULL: none */
    const char *template_; /* user message with "{prompt}" in it; NULL: the prompt itself */
    int64_t limit, skip;   /* rows used (0: all), rows left out first */
    uint64_t seed;         /* of generated tasks */
};

/* ERR_CORRUPT names file, line and field. Every row is checked here, not in the middle of a run. */
MUST_CHECK int dataset_open(struct dataset **out, const struct dataset_config *cfg);
void dataset_close(struct dataset **d);
uint64_t dataset_rows(const struct dataset *d);
const char *dataset_answer(const struct dataset *d, uint64_t row); /* "" if there is none */

/* The row's prompt as text in the chat format (for the reward and the log) and as ids. *text, *ids:
 * mem_free; either may be NULL when not wanted. */
MUST_CHECK int dataset_render(const struct dataset *d, uint64_t row, enum chat_format chat,
                              const struct tokenizer *t, char **text, int32_t **ids, size_t *n);
/* Row of the i-th prompt of the run: each epoch is a permutation by the seed, or the file's order.
 * The permutation of the newest epoch is cached: not for two threads at once. */
uint64_t dataset_row_at(struct dataset *d, uint64_t i, uint64_t seed, bool shuffle);

#endif
