/* batch.h - the trajectories of one training step, as the trainer sees them. */
#ifndef TRAINER_BATCH_BATCH_H
#define TRAINER_BATCH_BATCH_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct batch_traj { /* one trajectory; arrays owned by the batch */
    uint64_t id;
    /* Index of its group within the batch: equal for the trajectories of one prompt */
    uint32_t group;
    int32_t n_prompt, n_response;
    int32_t *ids;     /* [n_prompt + n_response] */
    float *logprob;   /* [n_response] behaviour log-probs */
    uint8_t *mask;    /* [n_response] 1: trained */
    int64_t *version; /* [n_response] */
    float reward;
    float baseline;      /* score of the prompt's greedy response (remax); NAN: not there */
    float advantage;     /* filled by the step: mean over its trained tokens */
    bool truncated;      /* cut at the length limit */
    const char *rollout; /* that reported it; borrowed, NULL: not known. Only for messages */
};

struct batch {
    int64_t step; /* version of the weights that it updates */
    uint32_t n, n_groups;
    bool foreign; /* versions name another run's weights: equal version is not equal weights */
    struct batch_traj *traj; /* in a fixed order: by group, then id */
};

/* n empty trajectories; batch_close frees them and their arrays. */
struct batch *batch_open(uint32_t n);
void batch_close(struct batch **b);
/* Fills trajectory i, copying; mask NULL: all ones; versions NULL: all `version`. */
void batch_set(struct batch *b, uint32_t i, const int32_t *prompt, int32_t n_prompt,
               const int32_t *response, int32_t n_response, const float *logprob,
               const uint8_t *mask, const int64_t *versions, int64_t version);
/* Oldest version among trained tokens; INT64_MAX if none */
int64_t batch_oldest(const struct batch_traj *t);
int64_t batch_trained(const struct batch *b); /* trained tokens */

/* The batch as bytes, appended to out, and back: all but what the step fills. ERR_CORRUPT where
 * lengths do not fit; ids and values are not looked at. batch_bytes.c */
void batch_pack(struct buf *out, const struct batch *b);
MUST_CHECK int batch_unpack(struct batch **out, const void *data, size_t bytes);

/* Batch files of `weir step`: JSON lines
 * {"group","prompt_ids","response_ids","logprobs","reward","version"} with optional "loss_mask",
 * "versions" (per token; then "version" may be absent), "truncated" (cut at the length limit),
 * "baseline" (score of the prompt's greedy response); other keys are ignored. Ids are checked
 * against vocab, lengths against context. Errors name file, line, field. id = number of the line,
 * step = the newest version in the file. */
MUST_CHECK int batch_read(struct batch **out, const char *path, int32_t vocab, int32_t context);

#endif
