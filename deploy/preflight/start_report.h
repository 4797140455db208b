/* start_report.h - what a run says before it starts: batch arithmetic in trajectories and tokens,
 * the memory plan, the staleness bound with its unit, the loss by name and formula, and warnings
 * about known traps. */
#ifndef DEPLOY_PREFLIGHT_START_REPORT_H
#define DEPLOY_PREFLIGHT_START_REPORT_H

#include "actor/shape.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe/recipe.h"
#include "trainer/learn/memplan.h"

#include <stdbool.h>
#include <stddef.h>

/* Bytes, exact: what the services allocate before the first step */
struct start_report_plan {
    size_t weights;             /* one version, f32 */
    size_t rollout, rollout_kv; /* one rollout process: everything; of it keys and values */
    size_t trainer;             /* everything, handover too */
    size_t handover;            /* versions in its device memory */
    struct memplan room;        /* one rank in parts */
    size_t relay;               /* versions kept in shared memory */
    size_t total;
    int64_t parameters;
    bool on_host; /* the rollouts' device is the CPU */
};

/* Refuses a recipe whose longest trajectory does not fit into the model's context. */
MUST_CHECK int start_report_plan(struct start_report_plan *out, const struct recipe *r,
                                 const struct shape *s);
/* Human text, several lines; notes: lines "warning: ..." about the data. */
void start_report_text(struct buf *out, const struct recipe *r, const struct shape *s,
                       const struct start_report_plan *p, const struct buf *notes);
/* What of it a person reads at every start: at most 20 lines of at most 80 columns, so that it
 * stays on the screen beside the line that follows; the rest is start_report_text's. run_dir: where
 * it writes, NULL: not known yet. */
void start_brief(struct buf *out, const struct recipe *r, const struct shape *s,
                 const struct start_report_plan *p, const struct buf *notes, const char *run_dir);
/* The notes, and a line for each trap that the recipe walks into. */
void start_report_warnings(struct buf *out, const struct recipe *r,
                           const struct start_report_plan *p, const struct buf *notes);
void start_report_size(struct buf *out, size_t bytes); /* "1.5 GiB" */
/* The same as one JSON object. */
void start_report_json(struct buf *out, const struct recipe *r, const struct shape *s,
                       const struct start_report_plan *p, const struct buf *notes);

#endif
