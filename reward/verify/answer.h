/* answer.h - where in a response the final answer stands: what math and choice share. */
#ifndef REWARD_VERIFY_ANSWER_H
#define REWARD_VERIFY_ANSWER_H

#include "base/arena.h"
#include "reward/verify/formula.h"
#include "reward/verify/prose.h"

/* Inside the last \boxed{} (or \fbox{}) with its braces closed. */
struct formula_span answer_boxed(const char *text);
/* Inside the last <answer> element, to the end of the text if it is not closed; else the text. */
const char *answer_element(struct arena *arena, const char *text);
/* The line behind the last #### that an answer follows; other ones are Markdown's headings. */
struct formula_span answer_marked(const char *text);
/* The final answer of a response that may be mathematics, stripped; NULL if there is none. In this
 * order: box, mark, statement, the last formula or number that the text concludes with. */
const char *answer_find(struct arena *arena, const char *response);

/* The part of text where an answer without a box is looked for: its last PROSE_BYTES. */
const char *answer_end(const char *text);

#endif
