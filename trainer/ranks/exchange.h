/* exchange.h - what the ranks of a trainer tell each other beside gradients and weights: arrays of
 * the host, carried through the backend's collectives as bits that nobody adds or rounds on the
 * way. Every call is made by all ranks, in the same order, with the same sizes. */
#ifndef TRAINER_RANKS_EXCHANGE_H
#define TRAINER_RANKS_EXCHANGE_H

#include "base/hash.h"
#include "trainer/ranks/shard.h"

struct exchange {
    const struct kern_backend *backend;
    struct kern_stream *stream;
    struct shard_ranks ranks;
    void *own, *all; /* backend memory: a piece of one rank, the pieces of all */
};

/* ranks: more than one. The communicator stays the caller's. */
MUST_CHECK int exchange_open(struct exchange *out, const struct kern_backend *b,
                             const struct shard_ranks *ranks);
void exchange_close(struct exchange *x);
/* Backend memory that exchange_open takes. */
size_t exchange_bytes(int n_ranks);

/* all[n_ranks][bytes] = own[bytes] of each rank. */
MUST_CHECK int exchange_gather(const struct exchange *x, void *all, const void *own, size_t bytes);
/* data[bytes] = that of rank root. */
MUST_CHECK int exchange_broadcast(const struct exchange *x, void *data, size_t bytes, int root);
/* v[n] = the sum over ranks, in rank order: the same bits on all. */
MUST_CHECK int exchange_sum(const struct exchange *x, double *v, size_t n);
/* ERR_MISMATCH, on all ranks, naming a rank whose hash is not rank 0's. */
MUST_CHECK int exchange_agree(const struct exchange *x, struct hash h, const char *what);

#endif
