/* reasoning.h - where in a response the answer begins: behind the model's reasoning. */
#ifndef REWARD_VERIFY_REASONING_H
#define REWARD_VERIFY_REASONING_H

#include <stdbool.h>
#include <stddef.h>

enum { REASONING_MARK = 128 }; /* bytes of a closing mark of the recipe's, with the NUL */

/* The text behind the last closing mark of reasoning (</think> and the like), the whole response if
 * it holds no reasoning, NULL if reasoning was begun, in the response or by the end of the prompt,
 * and is not closed: then there is no answer. after: one more closing mark, NULL for none, "" to
 * know no marks at all. A mark that has no opening one ("<|channel|>final") must be there. */
const char *reasoning_end(const char *prompt, const char *response, const char *after);

/* Whether this is why reasoning_end gives NULL: after has no opening mark and is not there. */
bool reasoning_lacks(const char *response, const char *after);

/* Whether a pattern speaks of a closing mark itself, so that it must see the whole response.
 * Backslashes aside: a pattern may write <\/think>. */
bool reasoning_is_named(const char *pattern, const char *after);

#endif
