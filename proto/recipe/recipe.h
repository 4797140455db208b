/* recipe.h - a recipe: the YAML file that says everything about a run, validated. Unknown keys are
 * errors that name the nearest known key, and where the key is a peer's name, ours for it. The
 * effective recipe (defaults filled in) is what services receive, what a run directory stores and
 * what `--print-config` shows. */
#ifndef PROTO_RECIPE_RECIPE_H
#define PROTO_RECIPE_RECIPE_H

#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe/recipe_settings.h"

/* sets: n "key=value" strings applied over the file, in order. Relative paths in the recipe stay as
 * written (relative to the working directory). Errors name file, line, key, value and what is
 * allowed. *out: recipe_close. */
MUST_CHECK int recipe_load(struct recipe **out, const char *path, const char *const *sets,
                           size_t n_sets);
/* From memory (a message, a checkpoint); name is used in errors. */
MUST_CHECK int recipe_parse(struct recipe **out, const char *yaml, size_t bytes, const char *name,
                            const char *const *sets, size_t n_sets);
void recipe_close(struct recipe **r);
/* The effective recipe as YAML that recipe_parse reads back to the same recipe. */
void recipe_print(const struct recipe *r, struct buf *out);
/* Every key with type, default, range and meaning, as Markdown. */
void recipe_document(struct buf *out);
const char *recipe_word(const struct recipe *r, const char *key); /* of a setting: "ppo-clip" */

#endif
