/* traps.h - combinations of recipe settings that do not do what they seem to: what makes no sense
 * is an error, what is known to hurt is a warning, what should be known is a note. One table, so
 * that `weir run`, `weir plan` and `weir step` say the same, and docs/losses.md can list it. */
#ifndef PROTO_RECIPE_TRAPS_H
#define PROTO_RECIPE_TRAPS_H

#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe/recipe_settings.h"

enum traps_where { TRAPS_STEP, TRAPS_RUN }; /* RUN: also what only a whole run cannot do */

/* ERR_CONFIG with the first error that the recipe walks into. */
MUST_CHECK int traps_check(const struct recipe *r, enum traps_where where);
/* Appends a line "warning: ..." or "note: ..." for each of the others. */
void traps_warn(struct buf *out, const struct recipe *r, enum traps_where where);

#endif
