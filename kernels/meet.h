/* meet.h - ranks of one machine meet: memory that they share, a barrier, and agreement on what they
 * do together. Private to this folder; the CUDA plugin calls it in the executable. */
#ifndef KERNELS_MEET_H
#define KERNELS_MEET_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct meet; /* of one rank; one thread at a time */

enum meet_op { /* a collective of kernels.h */
               MEET_BARRIER = 1,
               MEET_ALL_REDUCE,
               MEET_REDUCE_SCATTER,
               MEET_ALL_GATHER,
               MEET_BROADCAST,
               MEET_OPS
};

enum { MEET_RANKS_MAX = 256 };

/* All ranks call with the same name, n_ranks and bytes; returns when all are there. deadline_ms is
 * the longest wait in any call (30 s in this one), after which ERR_TIMEOUT names a rank that is
 * missing. One that has ended, or closed, is ERR_CLOSED as soon as somebody waits for it. */
MUST_CHECK int meet_open(struct meet **out, const char *name, int rank, int n_ranks,
                         int deadline_ms, size_t bytes);
void meet_close(struct meet **m);
void *meet_memory(struct meet *m); /* the `bytes`, zeroed at first, 64-byte aligned */

MUST_CHECK int meet_barrier(struct meet *m);
/* A barrier at which all mean the same: ERR_MISMATCH names one that does not. After any failure
 * the ranks' positions are unknown: ERR_CLOSED from then on. */
MUST_CHECK int meet_begin(struct meet *m, enum meet_op op, int64_t n);
void meet_break(struct meet *m); /* as after a failure: the caller's part of a collective failed */

/* Between meet_begin and meet_done a rank that waits for something outside (a device) shows that it
 * is there by meet_beat, at least every few milliseconds. meet_silent looks for a while (beating
 * itself) and returns a rank that neither is done nor beats, -1 if there is none. */
void meet_beat(struct meet *m);
void meet_done(struct meet *m);
int meet_silent(struct meet *m);
/* ERR_CLOSED names a rank that went away before it was done. */
MUST_CHECK int meet_check(struct meet *m);

#endif
