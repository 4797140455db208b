/* engine_request.h - what is asked of the engine for one trajectory, and how a response ends. */
#ifndef ROLLOUT_ENGINE_ENGINE_REQUEST_H
#define ROLLOUT_ENGINE_ENGINE_REQUEST_H

#include <stdint.h>

enum engine_finish { ENGINE_RUNNING, ENGINE_STOP, ENGINE_LENGTH, ENGINE_ABORTED };

struct engine_request { /* host memory, copied */
    uint64_t id;        /* trajectory id: the sampling key */
    const int32_t *prompt;
    int32_t n_prompt; /* >= 1 */
    /* tokens generated earlier (elsewhere), with their log-probs and versions */
    const int32_t *resume;
    const float *resume_logprob;   /* may be NULL: the engine reports only what it generates, */
    const int64_t *resume_version; /* recorded values of earlier tokens stay with the caller */
    int32_t n_resume;
    const int32_t *forced;    /* NULL, or max_new_tokens ids: not drawn but taken from here, their
                                 log-probs reported as if drawn (scoring); nothing else ends it */
    int32_t max_new_tokens;   /* resumed ones included */
    float temperature, top_p; /* temperature 0: greedy */
    int32_t top_k;            /* 0: off */
    const int32_t *stop_ids;  /* any of these ends the response (kept as its last token) */
    int32_t n_stop_ids;
    const char *const *stop; /* strings; the response ends with the token that completes one */
    int32_t n_stop;
};

#endif
