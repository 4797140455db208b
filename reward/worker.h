/* worker.h - one verifier process: its limits, its loop, and the frames between it and the pool. */
#ifndef REWARD_WORKER_H
#define REWARD_WORKER_H

#include "base/buf.h"
#include "reward/verify/verify.h"

/* A request is this header, then prompt, response and answer, each with its NUL. */
struct worker_request {
    uint64_t id;
    uint32_t prompt, response, answer; /* bytes without the NUL */
    int32_t n_tokens, max_tokens;
    uint32_t truncated;
};

struct worker_reply {
    uint64_t id;
    struct verify_result result;
};

struct worker_context {
    const struct verify *verify;
    uint32_t cpu_ms, memory_mib, text_max;
};

/* Appends a request. ERR_CORRUPT if the texts together are longer than text_max. */
MUST_CHECK int worker_encode(struct buf *out, uint64_t id, const struct verify_input *in,
                             uint32_t text_max);
/* Whether a reply can be what verify_run wrote: a worker that corrupted its memory is not believed.
 */
bool worker_reply_is_sane(const struct worker_reply *r, uint64_t id);
/* The life of a worker (a spawner_child): answers requests on fd until it is closed. */
void worker_main(int fd, const void *context);

#endif
