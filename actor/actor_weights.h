/* actor_weights.h - the weights in use (or the gradients) as the blocks see them, and their packed
 * copies. Private to actor/.
 *
 * A slab of params is looked at by the names of the blocks' tables once; two slabs of one shape
 * have one table, so afterwards a new version of the weights is a loop over indices.
 *
 * Invariants: has of a tensor follows from the shape alone; has_packed from the configuration; a
 * packed copy is of `w` while bound is set; next is NULL or a slab whose tensors before `tensor`,
 * and whose rows before `row` of that one, are packed into the spares. */
#ifndef ACTOR_ACTOR_WEIGHTS_H
#define ACTOR_ACTOR_WEIGHTS_H

#include "actor/actor_memory.h"
#include "actor/actor_types.h"
#include "actor/block.h"
#include "actor/params.h"

struct actor_weights {
    const struct actor_config *cfg;
    /* Of the layers' blocks in the order of the file, absent ones too, and the head's at the end
     * (tied: the embedding again). */
    struct block_weight *tensors; /* [n + 1] */
    int32_t *index;               /* [n + 1] the entry of params, -1: absent */
    int32_t n;
    struct kern_tensor embed, norm, value; /* value [1, d]: if the shape has a value head */
    int32_t embed_index, norm_index, value_index;
    bool indexed;
    bool bound; /* actor_weights_use succeeded */

    const struct params *next; /* being packed, NULL: none */
    int32_t tensor;
    int64_t row;
};

void actor_weights_open(struct actor_weights *w, const struct actor_config *cfg);
void actor_weights_close(struct actor_weights *w);
/* Room for the packed copies, where the backend packs. w NULL: only counting. */
void actor_weights_carve(struct actor_weights *w, struct actor_carve *c,
                         const struct actor_config *cfg);

static inline const struct block_weight *actor_weights_head(const struct actor_weights *w) {
    return &w->tensors[w->n];
}

/* Looks at this slab from now on; it must be of the shape and backend. */
void actor_weights_bind(struct actor_weights *w, const struct params *p);
/* ERR_MISMATCH: these are not weights that this actor can compute with. */
MUST_CHECK int actor_weights_check(const struct actor_weights *w, const struct params *p);
/* Binds weights that were checked, and packs them unless actor_weights_prepare did. */
MUST_CHECK int actor_weights_use(struct actor_weights *w, struct kern_stream *s,
                                 const struct params *p);
/* See actor_prepare. */
MUST_CHECK int actor_weights_prepare(struct actor_weights *w, struct kern_stream *s,
                                     const struct params *next, bool first, size_t bytes,
                                     bool *done);

#endif
