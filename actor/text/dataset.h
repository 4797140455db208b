/* dataset.h - rows of a data set as prompt records. A data set is a JSONL file (raw GSM8K rows,
 * verl rows with a list of messages, or any keys named in the recipe) or a generated task
 * ("builtin:NAME"), whose rows are a function of the row number and the seed. Rows are read once,
 * kept in memory as text, and rendered when asked for. */
#ifndef ACTOR_TEXT_DATASET_H
#define ACTOR_TEXT_DATASET_H

#include "actor/text/chat.h"
#include "actor/text/tokenizer.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct dataset;

/* What a special token that is spelled in a row's text becomes: that token, as transformers does;
 * text like any other, so that a row cannot end its turn; or an error. */
enum dataset_special { DATASET_SPECIAL_TOKEN, DATASET_SPECIAL_TEXT, DATASET_SPECIAL_ERROR };

/* Borrowed until dataset_open returns */
struct dataset_config {
    const char *path;      /* file, or builtin:NAME */
    const char *prompt;    /* key of the prompt; dots descend */
    const char *answer;    /* key of the answer, NULL: none; some rows may lack it, not all */
    const char *system;    /* NULL: none */
    const char *template_; /* user message with "{prompt}" in it; NULL: the prompt itself.
                            * Not for rows with lists of messages */
    int64_t limit, skip;   /* rows used (0: all), rows left out first */
    uint64_t seed;         /* of generated tasks */
    enum dataset_special special;
};

/* ERR_CORRUPT names file, line and field. Every row is checked here, not in the middle of a run. */
MUST_CHECK int dataset_open(struct dataset **out, const struct dataset_config *cfg);
void dataset_close(struct dataset **d);
uint64_t dataset_rows(const struct dataset *d);
const char *dataset_answer(const struct dataset *d, uint64_t row); /* "" if there is none */
int64_t dataset_line(const struct dataset *d, uint64_t row);       /* in the file; 0: generated */

/* The row's prompt as text in the chat format (for the reward and the log) and as ids. *text, *ids:
 * mem_free; either may be NULL when not wanted. */
MUST_CHECK int dataset_render(const struct dataset *d, uint64_t row, enum chat_format chat,
                              const struct tokenizer *t, char **text, int32_t **ids, size_t *n);
/* What is worth knowing of a row's prompt before a run. */
struct dataset_look {
    size_t tokens;          /* 0: fewer than `enough`, not counted */
    int32_t special;        /* a special token spelled in the row's own text; -1: none */
    bool bos_twice;         /* the text begins with bos, and it is added once more */
    bool ends_as_assistant; /* the last message is an answer */
    bool empty;             /* there is no text */
};
/* Encodes only where the text is so long that it may have more than `enough` tokens. Fails as
 * dataset_render does. */
MUST_CHECK int dataset_look(struct dataset_look *out, const struct dataset *d, uint64_t row,
                            enum chat_format chat, const struct tokenizer *t, size_t enough);
/* The row's answer as ids, for training on it: no frame, special tokens as in prompts. */
MUST_CHECK int dataset_target(const struct dataset *d, uint64_t row, const struct tokenizer *t,
                              int32_t **ids, size_t *n);
/* Row of the i-th prompt of the run: each epoch is a permutation by the seed, or the file's order.
 * The permutation of the newest epoch is cached: not for two threads at once. */
uint64_t dataset_row_at(struct dataset *d, uint64_t i, uint64_t seed, bool shuffle);

#endif
