/* recipe_change.h - what of a run's recipe may change when the run is continued. */
#ifndef PROTO_RECIPE_RECIPE_CHANGE_H
#define PROTO_RECIPE_RECIPE_CHANGE_H

#include "base/err.h"
#include "base/hash.h"
#include "proto/recipe/recipe.h"

#include <stdbool.h>

/* path is key, or lies in the section that key names. */
bool recipe_key_below(const char *path, const char *key);
/* True for settings that no step done so far depends on, so that replaying the log with the changed
 * recipe still gives the recorded weights: how many steps, how often something is written or
 * evaluated, and resources that change no bit. A new key may not, until it is listed. */
bool recipe_change_allowed(const char *key);
/* Hash of the settings that may not change: what a run's log belongs to. */
MUST_CHECK int recipe_identity(struct hash *out, const struct recipe *r);

/* Called for each setting that differs: its path, both values as text, "absent" if one has none. */
typedef int recipe_change_fn(void *ctx, const char *key, const char *was, const char *is);
/* Ends with the first error of `each`. */
MUST_CHECK int recipe_changes(const struct recipe *was, const struct recipe *is,
                              recipe_change_fn *each, void *ctx);

#endif
