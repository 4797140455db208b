/* update.h - the optimizer: gradient -> sum over ranks -> alignment control -> norm clipping ->
 * AdamW -> weights to all ranks. Owns the gradient, the previous gradient and the two moments.
 *
 *   clip: the gradient is multiplied by min(1, clip_norm / (norm + 1e-6)); clip_norm 0: never
 *   AdamW: bias-corrected, decay lr * weight_decay * w on matrices only
 *
 * The learning rate and the bias correction count the steps that were taken, not those skipped.
 * With several ranks each holds the whole gradient of its own trajectories, but moments, reduced
 * and previous gradient of its shard only (shard.h).
 *
 * Where the policy is bf16, AdamW's pass also rounds the new weights and notes which values of the
 * policy became others: a delta to the version before has to send these alone. */
#ifndef TRAINER_OPTIM_UPDATE_H
#define TRAINER_OPTIM_UPDATE_H

#include "actor/params.h"
#include "proto/recipe/recipe.h"
#include "trainer/optim/align.h"
#include "trainer/ranks/shard.h"

enum { UPDATE_SAMPLES_MAX = 256, UPDATE_SLABS_MAX = 3 };

struct update; /* opaque; one thread */

/* What a checkpoint holds beside the slabs; the same on every rank. */
struct update_state {
    int64_t steps;      /* optimizer steps taken */
    int64_t skips;      /* steps skipped in a row by alignment control */
    int64_t not_finite; /* steps in a row whose gradient was not finite */
    bool have_previous;
    double c_low, c_high;   /* thresholds in force; NAN: off, or not calibrated yet */
    struct align_mean mean; /* of the cosine */
    int64_t samples;        /* cosines measured by calibration so far */
    double sample[UPDATE_SAMPLES_MAX];
};

/* What the step knows of this gradient. */
struct update_turn {
    bool control;     /* alignment control may act and calibrate, else it only measures */
    double staleness; /* mean of its trajectories */
    double lr_factor; /* on top of the schedule's learning rate; 1 unless a method asks for it */
    struct params *rounded; /* model.dtype bf16: takes the new weights rounded, of all ranks */
    bool more;              /* belongs to the same version as the update before it */
};

struct update_report {
    double grad_norm; /* of the raw gradient */
    double cosine;    /* NAN: invalid */
    double removed;   /* share of the parallel part that was taken out */
    double lr;        /* of this step, all factors included */
    double lr_factor; /* of alignment control */
    double c_low, c_high;
    int64_t skips; /* steps skipped in a row, this one included */
    enum align_action action;
    double changed; /* share of the bf16 policy's values that this version changed; NAN: f32 */
    bool applied;   /* false: nothing but the previous gradient changed */
};

/* ranks NULL: one rank. */
MUST_CHECK int update_open(struct update **out, const struct kern_backend *b, const struct shape *s,
                           const struct recipe *r, const struct shard_ranks *ranks);
void update_close(struct update **u);
/* Backend and host memory that update_open takes. */
size_t update_bytes(const struct shape *s, const struct recipe *r, const struct shard_ranks *ranks);

/* Zeroed gradient to add to. */
MUST_CHECK int update_begin(struct update *u, struct params **grads);
/* Uses what was added; with several ranks all call it, and all take the same decision. A
 * gradient that is not finite is never used: the step is not applied, and the third in a row is
 * ERR_CORRUPT. */
MUST_CHECK int update_apply(struct update *u, struct kern_stream *s, struct params *weights,
                            const struct update_turn *turn, struct update_report *out);

/* Gathers the f32 weights: with turn.rounded update_apply gathers the rounded ones alone, and each
 * rank has only its part of the others. All ranks call it; with one there is nothing to do. */
MUST_CHECK int update_gather_weights(struct update *u, struct kern_stream *s,
                                     struct params *weights);
/* model.dtype bf16: bit i says whether the newest version changed element shard offset + i of the
 * slab from the version before (an update of several that changed it and one that changed it back:
 * set). Backend memory of u, until the next update_apply. data NULL: f32. */
struct kern_tensor update_changed(const struct update *u);

struct update_state update_state(const struct update *u);
void update_restore(struct update *u, const struct update_state *state); /* after filling slabs */

/* What a checkpoint holds of the optimizer: elements [offset, offset + n) of a slab of the weights'
 * layout, `size` bytes each (4: f32, 2: bf16). */
struct update_slab {
    const char *name;
    int64_t offset, n;
    size_t size;
};
int update_slabs(const struct update *u); /* how many: momentum keeps no previous gradient */
struct update_slab update_slab(const struct update *u, int i);
/* Bytes [at, at + bytes) of what is kept here, n * size in all. */
MUST_CHECK int update_get(const struct update *u, int i, void *out, size_t at, size_t bytes);
MUST_CHECK int update_put(struct update *u, int i, const void *from, size_t at, size_t bytes);

#endif
