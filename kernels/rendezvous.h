/* rendezvous.h - ranks of one machine meet: memory that they share, a barrier, and agreement on
 * what they do together. Private to this folder; the CUDA plugin calls it in the executable. */
#ifndef KERNELS_RENDEZVOUS_H
#define KERNELS_RENDEZVOUS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct rendezvous; /* of one rank; one thread at a time */

enum rendezvous_op { /* a collective of backend.h */
                     RENDEZVOUS_BARRIER = 1,
                     RENDEZVOUS_ALL_REDUCE,
                     RENDEZVOUS_REDUCE_SCATTER,
                     RENDEZVOUS_ALL_GATHER,
                     RENDEZVOUS_BROADCAST,
                     RENDEZVOUS_OPS
};

enum { RENDEZVOUS_RANKS_MAX = 256 };

/* All ranks call with the same name, n_ranks and bytes; returns when all are there. deadline_ms is
 * the longest wait in any call (30 s in this one), after which ERR_TIMEOUT names a rank that is
 * missing. One that has ended, or closed, is ERR_CLOSED as soon as somebody waits for it. */
MUST_CHECK int rendezvous_open(struct rendezvous **out, const char *name, int rank, int n_ranks,
                               int deadline_ms, size_t bytes);
void rendezvous_close(struct rendezvous **m);
void *rendezvous_memory(struct rendezvous *m); /* the `bytes`, zeroed at first, 64-byte aligned */

MUST_CHECK int rendezvous_barrier(struct rendezvous *m);
/* A barrier at which all mean the same: ERR_MISMATCH names one that does not. After any failure
 * the ranks' positions are unknown: ERR_CLOSED from then on. */
MUST_CHECK int rendezvous_begin(struct rendezvous *m, enum rendezvous_op op, int64_t n);
/* As after a failure: the caller's part of a collective failed */
void rendezvous_break(struct rendezvous *m);

/* Between rendezvous_begin and rendezvous_done a rank that waits for something outside (a device)
 * shows that it is there by rendezvous_beat, at least every few milliseconds. rendezvous_silent
 * looks for a while (beating itself) and returns a rank that neither is done nor beats, -1 if there
 * is none. */
void rendezvous_beat(struct rendezvous *m);
void rendezvous_done(struct rendezvous *m);
int rendezvous_silent(struct rendezvous *m);
/* ERR_CLOSED names a rank that went away before it was done. */
MUST_CHECK int rendezvous_check(struct rendezvous *m);

#endif
