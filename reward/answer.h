/* answer.h - where in a response the final answer stands: what math and choice share. */
#ifndef REWARD_ANSWER_H
#define REWARD_ANSWER_H

#include "base/arena.h"
#include "reward/formula.h"
#include "reward/prose.h"

/* Inside the last \boxed{} (or \fbox{}) with its braces closed. */
struct formula_span answer_boxed(const char *text);
/* Inside the last <answer> element, to the end of the text if it is not closed; else the text. */
const char *answer_element(struct arena *arena, const char *text);
/* The line behind the last #### that an answer follows; other ones are Markdown's headings. */
struct formula_span answer_marked(const char *text);
/* The token where the last answer that the text states begins ("the answer is", "Answer:", in the
 * languages that models use, maybe on the next line), p->n if none is: "the answer is not 7" states
 * none. */
size_t answer_stated(const struct prose *p);
/* Whether the tokens before t deny it: "not 7", "rather than 7", "isn't equal to 7". */
bool answer_denied(const struct prose *p, size_t t);

/* Without white space, spacing commands, emphasis, dollar signs, \( \) and a full stop around it.
 * An escape is never cut: \% and \} stay, "\," goes whole. */
struct formula_span answer_strip(struct formula_span a);

/* The final answer of a response that may be mathematics, stripped; NULL if there is none. In this
 * order: box, mark, statement, the last formula or number that the text concludes with. */
const char *answer_find(struct arena *arena, const char *response);

#endif
