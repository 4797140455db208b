/* segments.h - the stack of prefix segments: rows whose backward pass waits (actor_push,
 * actor_pop). Private to actor/.
 *
 * Invariants (segments_check): segment i's keys begin where those of segment i - 1 end, the first
 * at 0; the pass's keys are where the last ends, and its base is too, or 0 where segments wait in
 * host memory. */
#ifndef ACTOR_SEGMENTS_H
#define ACTOR_SEGMENTS_H

#include "actor/actor_layers.h"

struct segment {
    int32_t rows, key; /* key: place of its first key in the pool */
    bool keys_only;
};

struct actor_segments {
    struct actor_pass *pass;
    struct actor_layers *layers;
    struct segment *at; /* [n], the newest last */
    int32_t n;
    size_t cap;
    char *host; /* offload_segments: activations, segment after segment */
};

size_t segments_bytes(const struct actor_config *cfg); /* in host memory */
MUST_CHECK int segments_open(struct actor_segments *s, struct actor_pass *pass,
                             struct actor_layers *layers);
void segments_close(struct actor_segments *s);

/* The newest pass becomes the newest segment. */
MUST_CHECK int segments_push(struct actor_segments *s);
/* The newest segment, which was this batch, becomes the newest pass again, for its backward pass:
 * its activations are there, the head's input too. n: rows of the head that are wanted. */
MUST_CHECK int segments_pop(struct actor_segments *s, const struct actor_batch *b, int64_t n);
/* Forgets all, and the newest pass. */
void segments_reset(struct actor_segments *s);

#endif
