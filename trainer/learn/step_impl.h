/* step_impl.h - struct step, for the three files that are the step and nobody else: step.c (one
 * step), step_ranks.c (the same on several ranks) and step_checkpoint.c (its state on disk). */
#ifndef TRAINER_LEARN_STEP_IMPL_H
#define TRAINER_LEARN_STEP_IMPL_H

#include "trainer/learn/memplan.h"
#include "trainer/learn/objective.h"
#include "trainer/learn/passes.h"
#include "trainer/learn/step_report.h"
#include "trainer/optim/update.h"
#include "trainer/ranks/rank_comm.h"
#include "trainer/ranks/ranks.h"

struct step {
    const struct kern_backend *backend;
    struct shape shape;
    struct params *weights;   /* f32; with rounded, other ranks' parts as of the last gather */
    struct params *rounded;   /* model.dtype bf16: the weights rounded, NULL: used as they are */
    struct params *reference; /* only where KL is used */
    struct passes *passes;
    struct update *update;
    struct objective *objective;
    char *model_dir;
    struct memplan memory; /* taken at open */
    int64_t version, staleness_max;
    bool exact;          /* the rollouts' log-probs are expected to the bit (I6) */
    struct ranks *ranks; /* NULL: one */
    struct rank_comm comm;
    int (*before_update)(void *ctx); /* step_watch; NULL: nobody */
    void *watch_ctx;
};

/* Bytes [at, at + bytes) of slab i of the optimizer's state (struct update_slab), of which rank
 * `owner` keeps all. */
struct step_piece {
    int slab, owner;
    size_t at, bytes;
};

/* --- step.c: what every rank does ---------------------------------------------------------- */

struct step *step_new(const struct recipe *r, const char *model_dir);
MUST_CHECK int step_open_backend(struct step *s, const struct recipe *r);
MUST_CHECK int step_open_model(struct step *s, const struct recipe *r); /* the ranks connect */
/* The passes compute with the weights as they are now: after they were loaded. */
MUST_CHECK int step_use_weights(struct step *s);
/* The last look at the batch: after it nothing is refused. */
MUST_CHECK int step_check_batch(const struct step *s, const struct batch *b, bool supervised);
MUST_CHECK int step_train(struct step *s, struct batch *b, bool supervised,
                          struct step_report *out);

/* --- step_checkpoint.c: the same ----------------------------------------------------------- */

/* out = the piece, on all ranks. */
MUST_CHECK int step_broadcast_piece(struct step *s, const struct step_piece *piece, void *out);
MUST_CHECK int step_gather_on_rank(struct step *s);
MUST_CHECK int step_load_on_rank(struct step *s, const char *dir, int64_t at);

/* --- step_ranks.c -------------------------------------------------------------------------- */

/* All ranks: opens their communicator. *place: which of them this one is. */
MUST_CHECK int step_ranks_connect(struct step *s, struct shard_ranks *place);
/* All ranks: ERR_MISMATCH where they do not have the same hash, or the same f32 weights. */
MUST_CHECK int step_ranks_check_equal(const struct step *s, struct hash h, const char *what);
MUST_CHECK int step_ranks_check_weights(const struct step *s, const char *what);
/* Rank 0, before it does the same: commands the others to do it. Nothing happens where there are
 * none. */
MUST_CHECK int step_ranks_command_train(struct step *s, const struct batch *b, bool supervised);
MUST_CHECK int step_ranks_command_piece(struct step *s, const struct step_piece *piece);
MUST_CHECK int step_ranks_command_gather(struct step *s);
MUST_CHECK int step_ranks_command_load(struct step *s, const char *dir);

#endif
