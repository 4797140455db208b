/* shard.h - which part of a slab this rank of the trainer keeps, and the collectives around it: the
 * gradient is summed into the parts, the optimizer works on its part alone, the new weights are
 * gathered from all (ZeRO stage 1 and 2: moments and reduced gradient exist once).
 *
 * The slab is cut into n equal parts at multiples of 64 bytes; what is left over at its end belongs
 * to the last rank. So no slab needs padding, and the parts cover it exactly. */
#ifndef TRAINER_RANKS_SHARD_H
#define TRAINER_RANKS_SHARD_H

#include "kernels/kernels.h"

/* Which rank of how many; NULL where one is asked for: one rank. */
struct shard_ranks {
    struct kern_coll *coll;
    int rank, n;
};

struct shard {
    const struct kern_backend *backend;
    struct shard_ranks ranks;
    int64_t elements, part; /* of the slab; of the equal parts */
    int64_t offset, n;      /* what this rank keeps */
    void *bits;             /* backend memory of shard_sum; NULL with one rank */
};

enum { SHARD_SUMS_MAX = 8 };

/* shard_close gives back what shard_open took; the communicator stays the caller's. */
MUST_CHECK int shard_open(struct shard *out, const struct kern_backend *b,
                          const struct shard_ranks *ranks, int64_t elements);
void shard_close(struct shard *s);
/* How many elements the rank keeps, and where they begin, without opening anything. */
int64_t shard_elements(const struct shard_ranks *ranks, int64_t elements);
int64_t shard_offset(const struct shard_ranks *ranks, int64_t elements);

/* own[n] = this rank's part of the sum over ranks of whole[elements], f32; the end of whole may be
 * changed. */
MUST_CHECK int shard_reduce_scatter(const struct shard *s, struct kern_stream *stream, void *own,
                                    const struct kern_tensor *whole);
/* Every rank's part of whole, f32 or bf16, in place, to every rank. */
MUST_CHECK int shard_all_gather(const struct shard *s, struct kern_stream *stream,
                                const struct kern_tensor *whole);
/* x[n] = the sum over ranks, in rank order and in double: the same bits on every rank. */
MUST_CHECK int shard_sum(const struct shard *s, struct kern_stream *stream, double *x, int n);

#endif
