/* align_previous.h - the reference direction of alignment control: where the previous gradient is
 * kept.
 *
 *   fp32      backend memory, 4 bytes a parameter; no copy: gradient and previous change roles
 *   bf16      backend memory, 2 bytes, rounded to nearest even
 *   host      host memory, 4 bytes, moved in pieces
 *   momentum  nothing is kept: AdamW's first moment is the reference, a direction of longer memory
 *             (the cosine does not feel its bias correction)
 *
 * All are of this rank's part of the slab (shard.h). */
#ifndef TRAINER_OPTIM_ALIGN_PREVIOUS_H
#define TRAINER_OPTIM_ALIGN_PREVIOUS_H

#include "kernels/kernels.h"
#include "proto/recipe/recipe.h"

struct align_previous {
    const struct kern_backend *backend;
    enum recipe_previous kind;
    int64_t n;
    void *kept;  /* bf16: backend memory, used in place; host: host memory; else NULL */
    void *piece; /* host: backend memory, f32: a piece of it while it is looked at */
};

MUST_CHECK int align_previous_open(struct align_previous *out, const struct kern_backend *b,
                                   enum recipe_previous kind, int64_t n);
void align_previous_close(struct align_previous *p);
size_t align_previous_bytes(enum recipe_previous kind,
                            int64_t n);                     /* backend and host memory of open */
size_t align_previous_size(const struct align_previous *p); /* of an element of what is kept */

/* What follows: host only. */

/* Elements that are worked on at a time; other kinds: all. */
int64_t align_previous_piece(const struct align_previous *p);
/* Elements [at, at + n), n <= align_previous_piece; borrowed until the next call. */
MUST_CHECK int align_previous_load(const struct align_previous *p, struct kern_stream *s,
                                   struct kern_tensor *out, int64_t at, int64_t n);
/* Keeps g[n] as elements [at, at + n). */
MUST_CHECK int align_previous_keep(const struct align_previous *p, struct kern_stream *s,
                                   const struct kern_tensor *g, int64_t at);
/* {<g,p>, |g|^2, |p|^2} over all n elements of g. */
MUST_CHECK int align_previous_dot(const struct align_previous *p, struct kern_stream *s,
                                  double sums[3], const struct kern_tensor *g);
/* Bytes [at, at + bytes), for checkpoints. */
void align_previous_get(const struct align_previous *p, void *out, size_t at, size_t bytes);
void align_previous_put(const struct align_previous *p, const void *from, size_t at, size_t bytes);

#endif
