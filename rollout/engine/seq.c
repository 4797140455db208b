/* seq.c - one sample: validated, copied, extended token by token.
 *
 * A sequence is one allocation made when the request is accepted and sized by it (tokens, page
 * table, stop ids, stop strings), so that running costs no allocation and a waiting request costs
 * only what it needs.
 *
 * Stop strings are looked for in the text, not in the ids: a string may begin and end inside
 * tokens. The streaming detokenizer gives the text of each token once it is certain, and only the
 * last longest-stop-minus-one bytes can still be the beginning of a match, so only those are kept.
 */
#include "rollout/engine/seq.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { PRIME_TOKENS = 8 }; /* prompt tokens shown to the detokenizer, for the space at the seam */

static int check_ids(const int32_t *ids, int32_t n, int32_t vocab, const char *name) {
    for (int32_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return FAIL(ERR_CONFIG, "%s[%d] is %d, allowed are 0 to %d", name, (int)i, (int)ids[i],
                        (int)vocab - 1);
    return 0;
}

static int check_sizes(const struct engine_request *r, const struct seq_limits *l) {
    if (!r->prompt || r->n_prompt < 1) return FAIL(ERR_CONFIG, "the prompt is empty");
    if (r->n_prompt >= l->context)
        return FAIL(ERR_CONFIG,
                    "the prompt has %d tokens, the context of %d leaves no room to answer",
                    (int)r->n_prompt, (int)l->context);
    if (r->max_new_tokens < 1)
        return FAIL(ERR_CONFIG, "max_new_tokens is %d, must be at least 1", (int)r->max_new_tokens);
    if (r->max_new_tokens > l->context - r->n_prompt)
        return FAIL(ERR_CONFIG, "prompt (%d) + max_new_tokens (%d) exceed the context of %d tokens",
                    (int)r->n_prompt, (int)r->max_new_tokens, (int)l->context);
    if (r->n_resume < 0 || (r->n_resume > 0 && !r->resume))
        return FAIL(ERR_CONFIG, "n_resume is %d", (int)r->n_resume);
    if (r->n_resume >= r->max_new_tokens)
        return FAIL(ERR_CONFIG, "%d resumed tokens leave nothing of max_new_tokens %d",
                    (int)r->n_resume, (int)r->max_new_tokens);
    return 0;
}

static int check_sampling(const struct engine_request *r) {
    if (!isfinite(r->temperature) || r->temperature < 0)
        return FAIL(ERR_CONFIG, "temperature is %g, must be 0 (greedy) or positive",
                    (double)r->temperature);
    if (r->temperature > 0 && !isfinite(1.0F / r->temperature))
        return FAIL(ERR_CONFIG, "temperature %g is too small, use 0 for greedy",
                    (double)r->temperature);
    if (!(r->top_p > 0 && r->top_p <= 1))
        return FAIL(ERR_CONFIG, "top_p is %g, allowed are values above 0 up to 1",
                    (double)r->top_p);
    if (r->top_k < 0)
        return FAIL(ERR_CONFIG, "top_k is %d, must be 0 (off) or positive", (int)r->top_k);
    return 0;
}

static int check_stops(const struct engine_request *r, const struct seq_limits *l) {
    if (r->n_stop_ids < 0 || r->n_stop_ids > SEQ_STOP_IDS_MAX)
        return FAIL(ERR_CONFIG, "%d stop ids, the limit is %d", (int)r->n_stop_ids,
                    (int)SEQ_STOP_IDS_MAX);
    TRY(check_ids(r->stop_ids, r->n_stop_ids, l->vocab, "stop_ids"));
    if (r->n_stop < 0 || r->n_stop > SEQ_STOPS_MAX)
        return FAIL(ERR_CONFIG, "%d stop strings, the limit is %d", (int)r->n_stop,
                    (int)SEQ_STOPS_MAX);
    if (r->n_stop > 0 && !l->tokenizer)
        return FAIL(ERR_CONFIG, "stop strings need a tokenizer, this engine has none");
    for (int32_t i = 0; i < r->n_stop; i++) {
        size_t n = strlen(r->stop[i]);
        if (n < 1 || n > SEQ_STOP_BYTES_MAX)
            return FAIL(ERR_CONFIG, "stop string %d has %zu bytes, allowed are 1 to %d", (int)i, n,
                        (int)SEQ_STOP_BYTES_MAX);
    }
    return 0;
}

static int check_request(const struct engine_request *r, const struct seq_limits *l) {
    TRY(check_sizes(r, l));
    TRY(check_ids(r->prompt, r->n_prompt, l->vocab, "prompt"));
    TRY(check_ids(r->resume, r->n_resume, l->vocab, "resume"));
    if (r->forced) TRY(check_ids(r->forced, r->max_new_tokens, l->vocab, "forced"));
    TRY(check_sampling(r));
    return check_stops(r, l);
}

/* --- memory ---------------------------------------------------------------------------------- */

static size_t align16(size_t n) {
    return (n + 15) & ~(size_t)15;
}

struct layout { /* offsets inside the one allocation */
    size_t tokens, forced, pages, stop_ids, stop, text, total;
};

static struct layout layout_of(int32_t n_max, int32_t n_forced, int32_t page, int32_t n_stop_ids,
                               int32_t n_stop, size_t text_bytes) {
    struct layout y;
    int32_t pages = n_max / page + 1;
    y.tokens = align16(sizeof(struct seq));
    y.forced = y.tokens + align16((size_t)n_max * sizeof(int32_t));
    y.pages = y.forced + align16((size_t)n_forced * sizeof(int32_t));
    y.stop_ids = y.pages + align16((size_t)pages * sizeof(int32_t));
    y.stop = y.stop_ids + align16((size_t)n_stop_ids * sizeof(int32_t));
    y.text = y.stop + align16((size_t)n_stop * sizeof(char *));
    y.total = y.text + align16(text_bytes);
    return y;
}

size_t seq_bytes(const struct seq_limits *l) {
    return layout_of(l->context, l->context, l->page, SEQ_STOP_IDS_MAX, SEQ_STOPS_MAX,
                     (size_t)SEQ_STOPS_MAX * (SEQ_STOP_BYTES_MAX + 1))
        .total;
}

static void copy_ids(int32_t *to, const int32_t *from, int32_t n) {
    if (n > 0) memcpy(to, from, (size_t)n * sizeof *to);
}

static struct seq *seq_copy(const struct engine_request *r, const struct seq_limits *l) {
    size_t text_bytes = 0;
    for (int32_t i = 0; i < r->n_stop; i++)
        text_bytes += strlen(r->stop[i]) + 1;
    int32_t n_max = r->n_prompt + r->max_new_tokens;
    struct layout y = layout_of(n_max, r->forced ? r->max_new_tokens : 0, l->page, r->n_stop_ids,
                                r->n_stop, text_bytes);
    char *at = mem_zalloc(y.total);
    struct seq *s = (struct seq *)(void *)at;
    int32_t *forced = (int32_t *)(void *)(at + y.forced);
    int32_t *stop_ids = (int32_t *)(void *)(at + y.stop_ids);
    const char **stop = (const char **)(void *)(at + y.stop);
    char *text = at + y.text;
    s->tokens = (int32_t *)(void *)(at + y.tokens);
    s->pages = (int32_t *)(void *)(at + y.pages);
    copy_ids(s->tokens, r->prompt, r->n_prompt);
    copy_ids(s->tokens + r->n_prompt, r->resume, r->n_resume);
    copy_ids(stop_ids, r->stop_ids, r->n_stop_ids);
    if (r->forced) copy_ids(forced, r->forced, r->max_new_tokens);
    for (int32_t i = 0; i < r->n_stop; i++) {
        size_t n = strlen(r->stop[i]);
        memcpy(text, r->stop[i], n + 1);
        stop[i] = text;
        text += n + 1;
        if ((int32_t)n > s->stop_bytes_max) s->stop_bytes_max = (int32_t)n;
    }
    s->id = r->id;
    s->n = r->n_prompt + r->n_resume;
    s->n_prompt = r->n_prompt;
    s->n_max = n_max;
    s->forced = r->forced ? forced : NULL;
    s->temperature = r->temperature;
    s->top_p = r->top_p;
    s->top_k = r->top_k;
    s->prompt_key = hash_bytes(r->prompt, (size_t)r->n_prompt * sizeof *r->prompt);
    s->n_stop_ids = r->n_stop_ids;
    s->n_stop = r->n_stop;
    s->stop_ids = stop_ids;
    s->stop = stop;
    return s;
}

/* --- what ends it --------------------------------------------------------------------------- */

static bool is_stop_id(const struct seq *s, int32_t token) {
    for (int32_t i = 0; i < s->n_stop_ids; i++)
        if (s->stop_ids[i] == token) return true;
    return false;
}

static bool holds_stop(const struct seq *s) {
    for (int32_t i = 0; i < s->n_stop; i++)
        if (s->tail.len > 0 && memmem(s->tail.data, s->tail.len, s->stop[i], strlen(s->stop[i])))
            return true;
    return false;
}

/* Adds the token's text to the tail; *found says whether a stop string is complete in it. */
static int look_for_stop(struct seq *s, int32_t token, bool *found) {
    const char *text = NULL;
    size_t bytes = 0;
    *found = false;
    TRY(tokenizer_stream_add(s->stream, token, &text, &bytes));
    buf_add(&s->tail, text, bytes);
    *found = holds_stop(s);
    size_t keep = (size_t)s->stop_bytes_max - 1;
    if (s->tail.len > keep) {
        memmove(s->tail.data, s->tail.data + s->tail.len - keep, keep);
        s->tail.len = keep;
    }
    return 0;
}

/* Opens the detokenizer and shows it the end of the prompt and the resumed tokens. */
static int start_text(struct seq *s, const struct tokenizer *tokenizer) {
    if (s->n_stop == 0 || s->forced) return 0;
    s->stream = tokenizer_stream_open(tokenizer);
    int32_t first = s->n_prompt > PRIME_TOKENS ? s->n_prompt - PRIME_TOKENS : 0;
    for (int32_t i = first; i < s->n_prompt; i++) {
        const char *text;
        size_t bytes;
        TRY(tokenizer_stream_add(s->stream, s->tokens[i], &text, &bytes));
    }
    for (int32_t i = s->n_prompt; i < s->n; i++) {
        bool found;
        TRY(look_for_stop(s, s->tokens[i], &found));
        if (found)
            return FAIL(ERR_CONFIG, "resumed token %d completes a stop string: nothing to resume",
                        (int)(i - s->n_prompt));
    }
    return 0;
}

int seq_open(struct seq **out, const struct engine_request *r, const struct seq_limits *l) {
    int rc = 0;
    struct seq *s = NULL;
    TRY_OUT(check_request(r, l));
    s = seq_copy(r, l);
    if (s->n > s->n_prompt && !s->forced && is_stop_id(s, s->tokens[s->n - 1]))
        TRY_OUT(FAIL(ERR_CONFIG, "the last resumed token is a stop id: nothing to resume"));
    TRY_OUT(start_text(s, l->tokenizer));
    *out = s;
    s = NULL;
out:
    seq_close(&s);
    rc = err_wrap(rc, "request %" PRIu64, r->id);
    return rc;
}

void seq_close(struct seq **s) {
    if (!*s) return;
    ASSERT((*s)->n_pages == 0);
    if ((*s)->stream) tokenizer_stream_close(&(*s)->stream);
    buf_close(&(*s)->tail);
    mem_free(*s);
    *s = NULL;
}

int seq_push(struct seq *s, int32_t token, enum engine_finish *finish) {
    ASSERT(s->n < s->n_max);
    bool found = false;
    if (s->stream) TRY(look_for_stop(s, token, &found));
    s->tokens[s->n++] = token;
    if (!s->forced && (found || is_stop_id(s, token)))
        *finish = ENGINE_STOP;
    else
        *finish = s->n == s->n_max ? ENGINE_LENGTH : ENGINE_RUNNING;
    return 0;
}
