/* memplan.h - the trainer's memory: what each part takes, to the byte, before anything is taken,
 * and how many layers run again in the backward pass so that it fits (trainer.recompute: auto). */
#ifndef TRAINER_LEARN_MEMPLAN_H
#define TRAINER_LEARN_MEMPLAN_H

#include "actor/actor.h"
#include "base/buf.h"
#include "base/json_write.h"
#include "proto/recipe/recipe.h"

enum { MEMPLAN_HANDOVER_SLABS = 2 }; /* versions handed over within the device */

/* Bytes of one rank. `policy` holds the passes of the policy; `reference` is the frozen network of
 * the KL term, which is read and never changed. */
struct memplan {
    size_t weights;           /* f32 master, rounded copy */
    size_t optimizer;         /* gradient, moments, previous gradient: on the device */
    size_t reference;         /* weights and forward pass of the reference network */
    size_t exchange;          /* between ranks */
    struct actor_plan policy; /* forward and backward pass */
    size_t device, host;      /* all of the above; host: optimizer, segments, inputs, batches */
    size_t limit;             /* of device: trainer.memory, or what is left; 0: unknown, none */
    size_t handover;          /* beside device: relay.device_handover, the slabs; 0: not used */
    int32_t layers, recomputed;
    size_t all; /* device and host, all ranks */
};

/* ERR_NOMEM with the numbers and what to change, when it does not fit. */
MUST_CHECK int memplan_plan(struct memplan *out, const struct kern_backend *b,
                            const struct shape *shape, const struct recipe *r);
/* Layers that the recipe alone says; auto: 0. */
int32_t memplan_recomputed(const struct recipe *r, int32_t layers);
/* One line: the parts of the device's memory, recomputed layers, what waits on the host. */
void memplan_text(struct buf *out, const struct memplan *m);
void memplan_json(struct json_write *w, const char *key, const struct memplan *m); /* one object */

#endif
