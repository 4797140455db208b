/* engine_request.h - what is asked of the engine for one trajectory. */
#ifndef ROLLOUT_ENGINE_ENGINE_REQUEST_H
#define ROLLOUT_ENGINE_ENGINE_REQUEST_H

#include <stdint.h>

struct engine_request { /* host memory, copied */
    uint64_t id;        /* trajectory id: the sampling key */
    const int32_t *prompt;
    int32_t n_prompt;         /* >= 1 */
    int32_t n_resume;         /* tokens generated earlier (elsewhere) */
    const int32_t *resume;    /* [n_resume] */
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
