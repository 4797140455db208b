/* sampler.h - logits -> tokens: the random numbers, and the arrays of one sampling call. */
#ifndef ROLLOUT_SAMPLER_H
#define ROLLOUT_SAMPLER_H

#include "base/err.h"
#include "kernels/kernels.h"

#include <stdint.h>

enum { SAMPLER_SAMPLED = -1 };

struct sampler_row {
    uint64_t id;      /* trajectory */
    int32_t position; /* in the response: with id and the seed, the random number (I5) */
    float temperature, top_p;
    int32_t top_k;
    int32_t forced; /* SAMPLER_SAMPLED, or the token to report instead of drawing one */
};

struct sampler_token {
    int32_t token;
    float logprob, kept; /* as struct engine_token */
};

struct sampler; /* opaque; one thread */

/* rows: of one call. Everything is allocated here. */
MUST_CHECK int sampler_open(struct sampler **out, const struct kern_backend *b, int32_t rows,
                            uint64_t seed);
void sampler_close(struct sampler **s);
size_t sampler_bytes(int32_t rows); /* on the backend and on the host, each */

/* logits[n, vocab] on the backend -> out[n]. ERR_CORRUPT when a log-prob is not a finite number. */
MUST_CHECK int sampler_draw(struct sampler *s, struct kern_stream *stream,
                            const struct kern_tensor *logits, const struct sampler_row *rows,
                            int32_t n, struct sampler_token *out);

#endif
