/* seq.h - one sample in the engine: its tokens, its pages, and what ends it. */
#ifndef ROLLOUT_ENGINE_SEQ_H
#define ROLLOUT_ENGINE_SEQ_H

#include "actor/text/tokenizer.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "rollout/engine/engine_request.h"

#include <stdbool.h>
#include <stddef.h>

enum { SEQ_STOP_IDS_MAX = 64, SEQ_STOPS_MAX = 16, SEQ_STOP_BYTES_MAX = 256 };

struct seq {
    struct seq *prev, *next; /* in the waiting list of scheduler.c */
    uint64_t id, order;      /* order: age, smaller is older */
    int32_t *tokens;         /* prompt, then response */
    int32_t n, n_prompt, n_max;
    const int32_t *forced; /* [n_max - n_prompt], inside this object; NULL: sampled */
    float temperature, top_p;
    int32_t top_k;
    struct hash prompt_key; /* equal for equal prompts */

    /* Owned by scheduler.c: what of it lies in the pool. */
    int32_t computed; /* tokens[0 .. computed-1] have their keys and values there */
    int32_t *pages, n_pages;
    int32_t n_chained; /* full pages whose key is known: chain is the key of the last */
    struct hash chain;
    bool shareable, prompt_published; /* shareable: all keys are of the version in use */

    /* What ends it. */
    int32_t n_stop_ids, n_stop, stop_bytes_max;
    const int32_t *stop_ids;
    const char *const *stop; /* NUL-terminated, inside this object */
    struct tokenizer_stream *stream;
    struct buf tail; /* end of the response's text: enough to find a stop string in */
};

struct seq_limits {
    int32_t context, vocab, page;
    const struct tokenizer *tokenizer; /* may be NULL */
};

/* Checks the request against the limits and copies it. ERR_CONFIG names field and limit. */
MUST_CHECK int seq_open(struct seq **out, const struct engine_request *r,
                        const struct seq_limits *l);
void seq_close(struct seq **s);
size_t seq_bytes(const struct seq_limits *l); /* host memory of the largest sequence */

/* Appends a generated token; *finish says whether it ends the response. */
MUST_CHECK int seq_push(struct seq *s, int32_t token, enum engine_finish *finish);

#endif
