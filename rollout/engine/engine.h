/* engine.h - generates: continuous batching over one policy version at a time. Each engine_step
 * runs one forward over the decode rows of all running sequences plus a chunk of prefill rows,
 * samples, and reports events. No sockets, no clock.
 *
 * Sampling is a function of (seed, trajectory id, position, logits) only (I5). Every generated
 * token carries the log-prob by the weights that produced it and their version (I1). Prompts are
 * prefilled once and their pages shared (reference counted, copied on write) among the sequences of
 * a group; full pages are kept in a prefix cache keyed by (version, tokens). When pages run out,
 * the youngest sequence is preempted and recomputed later: same tokens, same bits (I6). */
#ifndef ROLLOUT_ENGINE_ENGINE_H
#define ROLLOUT_ENGINE_ENGINE_H

#include "actor/params.h"
#include "actor/text/tokenizer.h"
#include "base/err.h"
#include "rollout/engine/engine_request.h"

#include <stdbool.h>
#include <stdint.h>

struct engine; /* opaque; one thread */

struct engine_config {
    const struct kern_backend *backend;
    struct shape shape;
    const struct tokenizer *tokenizer; /* for stop strings; may be NULL when there are none */
    int32_t seqs_max;                  /* running sequences */
    int32_t context;                   /* tokens per sequence, prompt included */
    int32_t chunk_tokens;              /* prefill rows per step */
    int32_t page;                      /* keys per page */
    int64_t pages;                     /* 0: enough for seqs_max full sequences */
    int32_t waiting_max;               /* queued sequences */
    uint64_t seed;
    bool spare;         /* room for preparing the next weights */
    bool plain;         /* decode steps are never recorded, whatever the backend can */
    int32_t graph_keys; /* least keys of a recording, 0: a default (decode.h) */
    bool inexact;       /* as in struct actor_config: a token's bits may depend on its company */
};

struct engine_token { /* one generated token, reported by engine_step */
    uint64_t id;
    int32_t token, position; /* position: 0 for the first token of the response */
    float logprob, kept;     /* kept: mass of the top-k/top-p set, 1 when not cut */
    int64_t version;
    enum engine_finish finish; /* not RUNNING on the last token */
};

struct engine_stats {
    int32_t running, waiting;
    int64_t pages_used, pages_total, preemptions;
    int64_t prefill_tokens, decode_tokens, cached_tokens, steps; /* since open */
    /* Steps whose decode rows were one replay; recordings made; waits for the device. */
    int64_t graph_steps, graph_records, waits;
};

/* The memory plan, weights excluded: what engine_open takes and what requests may take on top. 0:
 * engine_open will refuse cfg; SIZE_MAX: more than can be addressed. */
size_t engine_bytes(const struct engine_config *cfg);
MUST_CHECK int engine_open(struct engine **out, const struct engine_config *cfg);
void engine_close(struct engine **e);

/* Uses these weights from the next step on. With running sequences their K/V stay and their later
 * tokens carry the new version (`update: token`, kv keep); callers with `update: trajectory` swap
 * only when engine_idle(). Borrowed until the next swap or close; the content must not change. */
MUST_CHECK int engine_swap(struct engine *e, const struct params *weights, int64_t version);

/* Does about `bytes` more of what swapping to these weights will need, so that engine_swap takes no
 * time once *done. first: their content is new. Until then it must not change. Needs cfg.spare. */
MUST_CHECK int engine_prepare(struct engine *e, const struct params *next, bool first, size_t bytes,
                              bool *done);

/* ERR_AGAIN when the waiting list is full; ERR_CONFIG when prompt + max_new_tokens exceeds the
 * context, an id is out of range, a limit is broken. Requests with equal prompts that are added one
 * after another share its prefill. */
MUST_CHECK int engine_add(struct engine *e, const struct engine_request *r);
void engine_abort(struct engine *e, uint64_t id); /* forgets it; no further events */
bool engine_idle(const struct engine *e);         /* nothing running or waiting */

/* One forward, of all rows; on a backend that records, first that of the rows that decode, as one
 * operation (decode.h), then that of the rest, and one wait. After a failure the sequences are
 * still there and a later step computes them again. *events points into the engine (valid until the
 * next call), *n tokens. 0 events is possible while prefilling. */
MUST_CHECK int engine_step(struct engine *e, const struct engine_token **events, int32_t *n);
void engine_stats(const struct engine *e, struct engine_stats *out);

#endif
