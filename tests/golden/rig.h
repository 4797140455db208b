/* rig.h - what the golden tests of the actor share: a model folder on a backend, sequences laid out
 * in a page pool, and the golden file beside the model. */
#ifndef TESTS_GOLDEN_RIG_H
#define TESTS_GOLDEN_RIG_H

#include "actor/actor.h"
#include "actor/safetensors.h"

enum { RIG_SEQS = 8, RIG_ROWS = 256 };

struct rig_config {
    const char *backend, *dir; /* "DEVICE" or "DEVICE bf16"; of the model */
    int32_t page, head_rows;   /* 0: 4 and 16 */
    bool train, pack, offload_inputs;
    int32_t recompute; /* layers, at most all */
};

struct rig {
    const struct kern_backend *b;
    struct shape shape;
    struct params *weights, *grads;
    struct actor *actor;
    int32_t page, pages_max; /* of a sequence */
    int32_t done[RIG_SEQS];  /* keys of sequence s that are in the pool */
    /* the batch being built */
    int32_t n, n_seqs, seq[RIG_SEQS];
    int32_t ids[RIG_ROWS], pos[RIG_ROWS], slot[RIG_ROWS], q_start[RIG_SEQS + 1], kv_len[RIG_SEQS];
    int32_t *pages; /* [RIG_SEQS, pages_max] */
};

/* Fails the test if anything fails. Skips it when the backend cannot be had. */
void rig_open(struct rig *r, const struct rig_config *cfg);
void rig_close(struct rig *r);
void rig_start(struct rig *r); /* a new batch */
/* Adds the next n tokens of sequence seq to the batch; its pages are scattered over the pool. */
void rig_add(struct rig *r, int32_t seq, const int32_t *ids, int32_t n);
struct actor_batch rig_batch(const struct rig *r);
/* Runs the batch; logits (may be NULL): host [n, vocab] of all rows. */
void rig_forward(struct rig *r, float *logits);

/* tests/golden/models/NAME, and a tensor of its golden.safetensors as f32 or i32; freed with
 * mem_free. */
const char *rig_model(const char *name);
struct safetensors *rig_golden(const char *name);
float *rig_f32(const struct safetensors *f, const char *name, int64_t *n);
int32_t *rig_i32(const struct safetensors *f, const char *name, int64_t *n);

#endif
