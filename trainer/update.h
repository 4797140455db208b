/* update.h - the optimizer: gradient -> alignment control -> norm clipping -> AdamW. Owns the
 * gradient, the previous gradient and the two moments, all of the weights' layout.
 *
 *   clip: the gradient is multiplied by min(1, clip_norm / (norm + 1e-6)); clip_norm 0: never
 *   AdamW: bias-corrected, decay lr * weight_decay * w on matrices only
 *
 * The learning rate and the bias correction count the steps that were taken, not those skipped. */
#ifndef TRAINER_UPDATE_H
#define TRAINER_UPDATE_H

#include "actor/params.h"
#include "proto/recipe.h"
#include "trainer/align.h"

struct update; /* opaque; one thread */

struct update_state {   /* what a checkpoint holds beside the slabs */
    int64_t steps;      /* optimizer steps taken */
    int64_t skips;      /* steps skipped in a row by alignment control */
    int64_t not_finite; /* steps in a row whose gradient was not finite */
    bool have_previous;
};

struct update_report {
    double grad_norm; /* of the raw gradient */
    double cosine;    /* NAN: invalid */
    double lr;        /* of this step */
    enum align_action action;
    bool applied; /* false: nothing but the previous gradient changed */
};

enum { UPDATE_SLABS = 3 }; /* m, v, previous gradient: what update_slab gives */

MUST_CHECK int update_open(struct update **out, const struct kern_backend *b, const struct shape *s,
                           const struct recipe *r);
void update_close(struct update **u);
size_t update_bytes(const struct shape *s);

/* Zeroed gradient to add to. */
MUST_CHECK int update_begin(struct update *u, struct params **grads);
/* Uses what was added. control: alignment control may act (else it only measures). A gradient that
 * is not finite is never used: the step is not applied, and the third in a row is ERR_CORRUPT. */
MUST_CHECK int update_apply(struct update *u, struct kern_stream *s, struct params *weights,
                            bool control, struct update_report *out);

struct update_state update_state(const struct update *u);
/* Slab i for checkpoints, and its name. */
struct params *update_slab(const struct update *u, int i);
const char *update_slab_name(int i);
void update_restore(struct update *u, const struct update_state *state); /* after filling slabs */

#endif
