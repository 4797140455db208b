/* worker_pool.h - verifiers in processes that can be killed. Untrusted text meets patterns and
 * parsers there; a job that runs too long, asks for too much memory or crashes costs its worker,
 * which is replaced, and ends as a typed error (never as a score). Everything is non-blocking and
 * bounded, for an event loop: poll worker_pool_fd until worker_pool_wake_us, call worker_pool_step,
 * take results.
 *
 *     job ends with    when
 *     0 or ERR_*       the verifier answered (its own error included)
 *     ERR_TIMEOUT      its CPU or wall deadline passed; the worker was killed
 *     ERR_CLOSED       its worker died twice under it (a death of the machine's making is retried)
 */
#ifndef REWARD_WORKER_POOL_H
#define REWARD_WORKER_POOL_H

#include "reward/verify/verify.h"

enum { WORKER_POOL_MAX = 256, WORKER_POOL_JOBS_MAX = 65536, WORKER_POOL_ERRORS = 16 };

struct worker_pool_config {
    uint32_t n; /* processes, 1..WORKER_POOL_MAX */
    /* Jobs accepted and not yet taken, 1..WORKER_POOL_JOBS_MAX; 0: 4 per process */
    uint32_t jobs_max;
    uint32_t cpu_ms;     /* CPU time of one job; 0: 1000 */
    uint32_t wall_ms;    /* wall time of one job; 0: 5 * cpu_ms. Wider than CPU, so that a busy
                            machine does not change scores */
    uint32_t memory_mib; /* address space a worker may add to what it starts with; 0: 256 */
    uint32_t text_max;   /* bytes of prompt, response and answer together; 0: 4 MiB */
};

struct worker_pool_stats {
    uint64_t submitted, finished, respawned;
    uint64_t error[WORKER_POOL_ERRORS]; /* finished jobs by kind: index is -ERR_*; 0: no error */
};

struct worker_pool;

/* Starts the processes. verify is copied by the fork: it may be closed after the call. Call it from
 * the main thread before other threads exist: the processes end when that thread or this process
 * dies, and new ones are forked from a keeper process that never has threads. */
MUST_CHECK int worker_pool_open(struct worker_pool **out, const struct worker_pool_config *cfg,
                                const struct verify *verify);
/* Kills and reaps every process; jobs that were not taken are forgotten. Accepts NULL inside. */
void worker_pool_close(struct worker_pool **w);

/* Copies the input. ERR_AGAIN: jobs_max jobs are in the pool, take some first. ERR_CORRUPT: the
 * texts are longer than text_max. id is the caller's and comes back with the result. */
MUST_CHECK int worker_pool_submit(struct worker_pool *w, uint64_t id,
                                  const struct verify_input *in);

/* Readable when worker_pool_step has something to do. Level-triggered; valid until close. */
int worker_pool_fd(const struct worker_pool *w);
/* When worker_pool_step must be called at the latest (clock_us); UINT64_MAX: no deadline is
 * running. */
uint64_t worker_pool_wake_us(const struct worker_pool *w);
/* Moves bytes, starts jobs, enforces deadlines; never blocks. ERR_CLOSED: the keeper died; every
 * job that was in the pool can still be taken as an error, but nothing more will run. */
MUST_CHECK int worker_pool_step(struct worker_pool *w, uint64_t now_us);
/* The next finished job, in the order of finishing; false if there is none. */
bool worker_pool_take(struct worker_pool *w, uint64_t *id, struct verify_result *out);

struct worker_pool_stats worker_pool_stats(const struct worker_pool *w);

#endif
