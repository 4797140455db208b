/* rank_comm.h - what the ranks of a trainer tell each other beside gradients and weights: arrays of
 * the host, carried through the backend's collectives as bits that nobody adds or rounds on the
 * way. Every call is made by all ranks, in the same order, with the same sizes. */
#ifndef TRAINER_RANKS_RANK_COMM_H
#define TRAINER_RANKS_RANK_COMM_H

#include "base/hash.h"
#include "trainer/ranks/shard.h"

struct rank_comm {
    const struct kern_backend *backend;
    struct kern_stream *stream;
    struct shard_ranks ranks;
    void *own, *all; /* backend memory: a piece of one rank, the pieces of all */
};

/* ranks: more than one. The communicator stays the caller's. */
MUST_CHECK int rank_comm_open(struct rank_comm *out, const struct kern_backend *b,
                              const struct shard_ranks *ranks);
void rank_comm_close(struct rank_comm *x);
/* Backend memory that rank_comm_open takes. */
size_t rank_comm_bytes(int n_ranks);

/* all[n_ranks][bytes] = own[bytes] of each rank. */
MUST_CHECK int rank_comm_all_gather(const struct rank_comm *x, void *all, const void *own,
                                    size_t bytes);
/* data[bytes] = that of rank root. */
MUST_CHECK int rank_comm_broadcast(const struct rank_comm *x, void *data, size_t bytes, int root);
/* v[n] = the sum over ranks, in rank order: the same bits on all. */
MUST_CHECK int rank_comm_sum(const struct rank_comm *x, double *v, size_t n);
/* ERR_MISMATCH, on all ranks, naming a rank whose hash is not rank 0's. */
MUST_CHECK int rank_comm_check_equal(const struct rank_comm *x, struct hash h, const char *what);

#endif
