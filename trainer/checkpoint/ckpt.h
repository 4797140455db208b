/* ckpt.h - checkpoints: everything that the next step depends on, as a directory that is whole or
 * not there.
 *
 *   DIR/step-N/config.json, model.safetensors (f32), tokenizer files    a Hugging Face folder
 *   DIR/step-N/adam_m.bin, adam_v.bin, previous_gradient.bin            f32, the slab's layout,
 *                                                                       parts of all ranks
 *   DIR/step-N/state.json                                               counters, weights' hash
 *   DIR/step-N/manifest.json                                            size and hash of each file
 *
 * Written as DIR/.tmp-step-N with every file synced, then renamed, then DIR synced. Nothing random
 * is saved because nothing of a step is random (I7). */
#ifndef TRAINER_CHECKPOINT_CKPT_H
#define TRAINER_CHECKPOINT_CKPT_H

#include "trainer/optim/update.h"

struct ckpt {
    int64_t version;
    struct update_state state;
    const char *model_dir;  /* where the tokenizer's files come from; only for saving */
    struct params *weights; /* read, or filled by ckpt_load */
    struct update *update;  /* its slabs are read or filled; not its state */
    /* Only for saving: bytes [at, at + bytes) of the whole slab i, whoever keeps them. */
    int (*read_slab)(void *ctx, int i, void *out, size_t at, size_t bytes);
    void *ctx;
};

/* The versions that DIR holds, newest first, whole or not; none without DIR. The caller frees
 * *versions. */
MUST_CHECK int ckpt_list(int64_t **versions, size_t *n, const char *dir);
size_t ckpt_slab_bytes(const struct ckpt *c, int i); /* of the whole slab, all ranks' parts */
/* Writes DIR/step-VERSION, then removes all but the newest `keep` versions (at least 1) and what
 * crashes left behind. On failure (a full disk) what was there before is still there. */
MUST_CHECK int ckpt_save(const struct ckpt *c, const char *dir, int64_t keep);
/* Newest checkpoint of DIR that is whole, or exactly version `at` if at >= 0. One that is torn or
 * damaged is skipped with a warning. ERR_NOTFOUND if there is none at all, ERR_CORRUPT if there are
 * but none is good. On ERR_NOTFOUND and ERR_CORRUPT nothing was changed. */
MUST_CHECK int ckpt_load(struct ckpt *c, const char *dir, int64_t at);

#endif
