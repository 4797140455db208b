/* length.c - soft overlong punishment of DAPO (Yu et al., "DAPO: an open-source LLM reinforcement
 * learning system at scale", arXiv 2503.14476, equation 13). With L the most tokens and C the
 * buffer before it, a response of n tokens scores
 *     0                  n <= L - C
 *     ((L - C) - n) / C  L - C < n <= L
 *     -1                 n > L
 * times `penalty`. The other end is ours: below min_tokens (m) the score is (n - m) / m times
 * penalty, so that "answer at once" can be discouraged with the same tool. The two ranges must not
 * overlap. Nothing here looks at the text. */
#include "reward/verify/verify_type.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

struct state {
    int64_t min, max, buffer;
    double penalty;
};

static int check_length_limits(int64_t min, int64_t max, int64_t buffer) {
    if (buffer > max || min > max - buffer)
        return FAIL(ERR_CONFIG,
                    "min_tokens %" PRId64 " + buffer_tokens %" PRId64
                    " must not be above max_tokens %" PRId64,
                    min, buffer, max);
    return 0;
}

static int open_length(void **state, const struct verify_spec *s) {
    struct state st = {s->min_tokens, s->max_tokens, s->buffer_tokens, s->penalty};
    if (st.min < 0 || st.max < 0 || st.buffer < 0 || st.min > INT32_MAX || st.max > INT32_MAX ||
        st.buffer > INT32_MAX)
        return FAIL(ERR_CONFIG,
                    "min_tokens, max_tokens and buffer_tokens must be from 0 to 2147483647");
    if (st.min == 0 && st.buffer == 0)
        return FAIL(ERR_CONFIG, "buffer_tokens or min_tokens must be above 0");
    if (!(st.penalty >= 0) || !isfinite(st.penalty))
        return FAIL(ERR_CONFIG, "penalty must be a finite number, 0 or above");
    if (st.penalty <= 0) st.penalty = 1;
    if (st.max > 0) TRY(check_length_limits(st.min, st.max, st.buffer));
    struct state *p = mem_alloc(sizeof *p);
    *p = st;
    *state = p;
    return 0;
}

/* The two ranges do not overlap (open_length), so whichever applies is the score. */
static int score_length(const void *state, const struct verify_input *in, double *value,
                        char *reason) {
    const struct state *s = state;
    int64_t n = in->n_tokens, max = s->max ? s->max : in->max_tokens, soft = max - s->buffer;
    double score = 0;
    if (n < 0) return FAIL(ERR_CORRUPT, "the response has %" PRId64 " tokens", n);
    if (s->buffer > 0) {
        if (max <= 0) return FAIL(ERR_CONFIG, "max_tokens is neither set nor known");
        TRY(check_length_limits(s->min, max, s->buffer));
        if (n > max)
            score = -1;
        else if (n > soft)
            score = (double)(soft - n) / (double)s->buffer;
    }
    if (n < s->min) score = (double)(n - s->min) / (double)s->min;
    *value = s->penalty * score;
    if (score < 0)
        snprintf(reason, VERIFY_REASON, "%" PRId64 " tokens is too %s", n,
                 n < s->min ? "short" : "long");
    return 0;
}

const struct verify_type length_type = {
    .name = "length",
    .graded = true,
    .doc = "0, falling to -penalty over the last buffer_tokens before max_tokens (DAPO)",
    .uses = VERIFY_USES_TOKENS,
    .open = open_length,
    .close = mem_free,
    .run = score_length,
};

static int run_finished(const void *state, const struct verify_input *in, double *value,
                        char *reason) {
    (void)state;
    *value = in->truncated ? 0 : 1;
    if (in->truncated) snprintf(reason, VERIFY_REASON, "cut off at %d tokens", in->n_tokens);
    return 0;
}

const struct verify_type length_finished_type = {
    .name = "finished",
    .doc = "1 if the response ended by itself within its token limit",
    .run = run_finished,
};
