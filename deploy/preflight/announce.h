/* announce.h - what a run says before it starts: batch arithmetic in trajectories and tokens, the
 * memory plan, the staleness bound with its unit, the loss by name and formula, and warnings about
 * known traps. */
#ifndef DEPLOY_PREFLIGHT_ANNOUNCE_H
#define DEPLOY_PREFLIGHT_ANNOUNCE_H

#include "actor/shape.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe/recipe.h"
#include "trainer/learn/room.h"

#include <stdbool.h>
#include <stddef.h>

struct announce_plan {          /* bytes, exact: what the services allocate before the first step */
    size_t weights;             /* one version, f32 */
    size_t rollout, rollout_kv; /* one rollout process: everything; of it keys and values */
    size_t trainer;             /* everything, handover too */
    size_t handover;            /* versions in its device memory */
    struct room room;           /* one rank in parts */
    size_t relay;               /* versions kept in shared memory */
    size_t total;
    int64_t parameters;
    bool on_host; /* the rollouts' device is the CPU */
};

/* Refuses a recipe whose longest trajectory does not fit into the model's context. */
MUST_CHECK int announce_plan(struct announce_plan *out, const struct recipe *r,
                             const struct shape *s);
/* Human text, several lines; notes: lines "warning: ..." about the data. */
void announce_text(struct buf *out, const struct recipe *r, const struct shape *s,
                   const struct announce_plan *p, const struct buf *notes);
/* What of it a person reads at every start: at most 20 lines of at most 80 columns, so that it
 * stays on the screen beside the line that follows; the rest is announce_text's. run_dir: where it
 * writes, NULL: not known yet. */
void announce_brief(struct buf *out, const struct recipe *r, const struct shape *s,
                    const struct announce_plan *p, const struct buf *notes, const char *run_dir);
/* The notes, and a line for each trap that the recipe walks into. */
void announce_warnings(struct buf *out, const struct recipe *r, const struct announce_plan *p,
                       const struct buf *notes);
void announce_size(struct buf *out, size_t bytes); /* "1.5 GiB" */
/* The same as one JSON object. */
void announce_json(struct buf *out, const struct recipe *r, const struct shape *s,
                   const struct announce_plan *p, const struct buf *notes);

#endif
