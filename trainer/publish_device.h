/* publish_device.h - the newest versions in the trainer's device memory, for rollouts on the same
 * device: they copy from there instead of through host memory. Beside the versions in shared
 * memory, which all others read, and under the same rule: a slab is written again when nobody reads
 * it. */
#ifndef TRAINER_PUBLISH_DEVICE_H
#define TRAINER_PUBLISH_DEVICE_H

#include "actor/params.h"
#include "relay/sealed.h"

struct publish_device;

/* bytes: of a policy; MEMPLAN_HANDOVER_SLABS of them are taken, which the trainer's memory plan
 * reserves where a rollout has the same device (struct memplan, handover). */
MUST_CHECK int publish_device_open(struct publish_device **out, const struct kern_backend *b,
                                   size_t bytes);
void publish_device_close(struct publish_device **h);
/* A slab for the next version; NULL: all are being read, this version does without. */
void *publish_device_begin(struct publish_device *h);
/* What the slab was filled with is there for readers; *out: where, for push_note. */
MUST_CHECK int publish_device_finish(struct publish_device *h, int64_t version, struct hash hash,
                                     struct sealed_note *out);

#endif
