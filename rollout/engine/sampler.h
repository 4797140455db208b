/* sampler.h - logits -> tokens: the random numbers, and the arrays of one sampling call. */
#ifndef ROLLOUT_ENGINE_SAMPLER_H
#define ROLLOUT_ENGINE_SAMPLER_H

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
    int32_t row;    /* whose logits it draws from: for whoever makes them, see sampler_rows_at */
};

struct sampler_token {
    int32_t token;
    float logprob, kept; /* as struct engine_token */
};

/* Inputs and results of a call, at places that the caller owns: sampler_bytes(rows) on the host
 * (kern_alloc_host) and on the backend, aligned to 64. The inputs come first. */
struct sampler_slab {
    int32_t rows; /* that it has room for */
    void *host, *device;
};

struct sampler; /* opaque; one thread */

/* rows: of its own slab. Everything is allocated here. */
MUST_CHECK int sampler_open(struct sampler **out, const struct kern_backend *b, int32_t rows,
                            uint64_t seed);
void sampler_close(struct sampler **s);
const struct sampler_slab *sampler_own(const struct sampler *s);
size_t sampler_bytes(int32_t rows);       /* on the backend and on the host, each */
size_t sampler_input_bytes(int32_t rows); /* of these, what comes first */

/* A call in parts. Fill: the host's inputs; *forced: some row is. Put: sends them. Issue: draws
 * rows first .. first + n - 1 from their logits[n, vocab]; it follows from its arguments alone, so
 * it can be recorded. Get: fetches the results. Put and get do not wait; somebody has to before
 * read, which is ERR_CORRUPT when a log-prob is not a finite number. */
void sampler_fill(const struct sampler *s, const struct sampler_slab *to,
                  const struct sampler_row *rows, int32_t n, bool *forced);
MUST_CHECK int sampler_put(const struct sampler *s, struct kern_stream *stream,
                           const struct sampler_slab *slab);
MUST_CHECK int sampler_issue(const struct sampler *s, struct kern_stream *stream,
                             const struct sampler_slab *slab, const struct kern_tensor *logits,
                             int32_t first, int32_t n, bool forced);
MUST_CHECK int sampler_get(const struct sampler *s, struct kern_stream *stream,
                           const struct sampler_slab *slab);
MUST_CHECK int sampler_read(const struct sampler_slab *slab, const struct sampler_row *rows,
                            int32_t n, struct sampler_token *out);
/* Where `row` of rows first, first + 1, ... stands on the backend, as i32. */
void *sampler_rows_at(const struct sampler_slab *slab, int32_t first);

/* All of it with its own slab: logits[n, vocab] on the backend -> out[n]. */
MUST_CHECK int sampler_draw(struct sampler *s, struct kern_stream *stream,
                            const struct kern_tensor *logits, const struct sampler_row *rows,
                            int32_t n, struct sampler_token *out);

#endif
