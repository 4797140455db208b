/* decode.h - one token for each of many sequences, as one recorded operation: forward, head and
 * sampling of a decode step, for backends that record (kern_records). */
#ifndef ROLLOUT_ENGINE_DECODE_H
#define ROLLOUT_ENGINE_DECODE_H

#include "actor/actor.h"
#include "rollout/engine/sampler.h"
#include "rollout/engine/seq.h"

struct decode_config {
    struct actor *actor; /* whose pool has decode_spare_pages behind the first `pages` */
    const struct sampler *sampler;
    int32_t seqs_max, pages;
    int32_t keys; /* least number of keys that a recording is made for, 0: a default */
};

struct decode_counts {
    int64_t replays, records; /* steps done by a recording; recordings made */
};

struct decode; /* opaque; one thread */

/* Pages that rows without a sequence write to. */
int32_t decode_spare_pages(int32_t seqs_max, int32_t page);
size_t decode_bytes(const struct actor_config *actor); /* on the backend and the host, each */
MUST_CHECK int decode_open(struct decode **out, const struct decode_config *cfg);
void decode_close(struct decode **d);

/* Issues the step that feeds the last token of each of n sequences and draws the next; rows[i] says
 * how of seqs[i]. weights: the memory of those in use; what was recorded of others is not used.
 * Nothing waits: after the next wait for the actor's stream, decode_read has the tokens. */
MUST_CHECK int decode_issue(struct decode *d, struct seq *const *seqs,
                            const struct sampler_row *rows, int32_t n, const void *weights);
MUST_CHECK int decode_read(const struct decode *d, const struct sampler_row *rows, int32_t n,
                           struct sampler_token *out);
void decode_counts(const struct decode *d, struct decode_counts *out);

#endif
