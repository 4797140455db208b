/* handover.h - the newest versions in the trainer's device memory, for rollouts on the same device:
 * they copy from there instead of through host memory. Beside the versions in shared memory, which
 * all others read, and under the same rule: a slab is written again when nobody reads it. */
#ifndef TRAINER_HANDOVER_H
#define TRAINER_HANDOVER_H

#include "actor/params.h"
#include "proto/recipe/recipe.h"
#include "relay/sealed.h"

enum { HANDOVER_SLABS = 2 };

struct handover;

/* Whether this recipe asks for it on the trainer's backend: some rollout has the same device, and
 * the backend can share memory. It takes HANDOVER_SLABS policies of device memory. */
bool handover_wanted(const struct recipe *r, const struct kern_backend *b);
MUST_CHECK int handover_open(struct handover **out, const struct kern_backend *b, size_t bytes);
void handover_close(struct handover **h);
/* A slab for the next version; NULL: all are being read, this version does without. */
void *handover_begin(struct handover *h);
/* What the slab was filled with is there for readers; *out: where, for push_note. */
MUST_CHECK int handover_finish(struct handover *h, int64_t version, struct hash hash,
                               struct sealed_note *out);

#endif
