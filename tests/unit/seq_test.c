/* seq_test.c - what a request may ask for, and what ends a response. */
#include "rollout/engine/seq.h"

#include "base/mem.h"
#include "tests/test.h"

static const struct seq_limits limits = {.context = 16, .vocab = 10, .page = 4};
static const int32_t ids[20] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};

static struct engine_request good(void) {
    return (struct engine_request){
        .id = 5, .prompt = ids, .n_prompt = 3, .max_new_tokens = 4, .temperature = 1, .top_p = 1};
}

static void refused(struct engine_request r, const char *part) {
    struct seq *s = NULL;
    CHECK_ERR(seq_open(&s, &r, &limits), ERR_CONFIG, part);
    CHECK(strstr(err_text(), "request 5"));
    CHECK(!s);
}

#define REFUSED(field, value, part)                                                                \
    do {                                                                                           \
        struct engine_request r_ = good();                                                         \
        r_.field = value;                                                                          \
        refused(r_, part);                                                                         \
    } while (0)

TEST(seq_refuses_broken_limits) {
    static const int32_t bad[3] = {1, 10, 2}, negative[3] = {1, 2, -1};
    static const int32_t forced_bad[4] = {1, 2, 3, 10};
    static const char *const empty[1] = {""};
    REFUSED(n_prompt, 0, "empty");
    REFUSED(n_prompt, 16, "context of 16");
    REFUSED(max_new_tokens, 0, "at least 1");
    REFUSED(max_new_tokens, 14, "context of 16");
    REFUSED(max_new_tokens, INT32_MAX, "context of 16");
    REFUSED(prompt, bad, "prompt[1] is 10, allowed are 0 to 9");
    REFUSED(prompt, negative, "prompt[2] is -1");
    REFUSED(temperature, -1.0F, "temperature");
    REFUSED(temperature, NAN, "temperature");
    REFUSED(temperature, 1e-44F, "too small");
    REFUSED(top_p, 0.0F, "top_p");
    REFUSED(top_p, 1.5F, "top_p");
    REFUSED(top_p, NAN, "top_p");
    REFUSED(top_k, -1, "top_k");
    REFUSED(n_stop_ids, 65, "limit is 64");
    REFUSED(n_stop, 17, "limit is 16");
    REFUSED(forced, forced_bad, "forced[3]");
    struct engine_request r = good();
    r.stop_ids = bad, r.n_stop_ids = 3;
    refused(r, "stop_ids[1]");
    r = good();
    r.stop = empty, r.n_stop = 1;
    refused(r, "tokenizer");
    r = good();
    r.resume = bad, r.n_resume = 3;
    refused(r, "resume[1]");
    r.resume = ids, r.n_resume = 4;
    refused(r, "nothing of max_new_tokens");
    r.n_resume = 2, r.stop_ids = ids + 1, r.n_stop_ids = 1;
    refused(r, "stop id");
}

TEST(seq_ends_at_length_or_stop_id) {
    struct engine_request r = good();
    enum engine_finish f;
    struct seq *s;
    r.stop_ids = ids + 6, r.n_stop_ids = 2; /* 7, 8 */
    r.resume = ids + 4, r.n_resume = 1;
    CHECK_OK(seq_open(&s, &r, &limits));
    CHECK_INT(s->n, 4);
    CHECK_OK(seq_push(s, 1, &f));
    CHECK_INT(f, ENGINE_RUNNING);
    CHECK_OK(seq_push(s, 8, &f));
    CHECK_INT(f, ENGINE_STOP);
    CHECK_INT(s->tokens[3], 5);
    CHECK_INT(s->tokens[5], 8);
    seq_close(&s);
    CHECK_OK(seq_open(&s, &r, &limits));
    for (int i = 0; i < 3; i++)
        CHECK_OK(seq_push(s, 1, &f));
    CHECK_INT(f, ENGINE_LENGTH);
    seq_close(&s);
}

TEST(seq_forced_ignores_stops) {
    struct engine_request r = good();
    enum engine_finish f = ENGINE_STOP;
    struct seq *s;
    r.stop_ids = ids, r.n_stop_ids = 9;
    r.forced = ids;
    CHECK_OK(seq_open(&s, &r, &limits));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(seq_push(s, s->forced[i], &f));
        CHECK_INT(f, ENGINE_RUNNING);
    }
    CHECK_OK(seq_push(s, s->forced[3], &f));
    CHECK_INT(f, ENGINE_LENGTH);
    seq_close(&s);
}

/* Feeds the ids of text one by one; returns how many were taken until the response ended. */
static size_t feed_until_stop(const struct tokenizer *t, const char *const *stop, int32_t n_stop,
                              const char *text, size_t n_resume) {
    int32_t *text_ids;
    size_t n, i;
    enum engine_finish f = ENGINE_RUNNING;
    struct seq *s;
    struct seq_limits l = {.context = 128, .vocab = 400, .page = 4, .tokenizer = t};
    struct engine_request r = good();
    CHECK_OK(tokenizer_encode(t, text, strlen(text), false, &text_ids, &n));
    r.stop = stop;
    r.n_stop = n_stop;
    r.max_new_tokens = 100;
    r.resume = text_ids;
    r.n_resume = (int32_t)n_resume;
    CHECK_OK(seq_open(&s, &r, &l));
    CHECK_OK(seq_push(s, 399, &f)); /* in the padding of the vocabulary: no text */
    for (i = n_resume; i < n && f == ENGINE_RUNNING; i++)
        CHECK_OK(seq_push(s, text_ids[i], &f));
    CHECK_INT(f, i < n || n == 0 ? ENGINE_STOP : f);
    seq_close(&s);
    mem_free(text_ids);
    return f == ENGINE_STOP ? i : 0;
}

TEST(seq_stop_strings_across_tokens) {
    static const char *const stops[] = {"END", "\xe2\x82\xac!", "zz"};
    struct tokenizer *t; /* one token per byte: every string is across tokens */
    CHECK_OK(tokenizer_open(&t, "recipes/tiny"));
    CHECK_INT(feed_until_stop(t, stops, 3, "ab ENEND of it", 0), 8);
    CHECK_INT(feed_until_stop(t, stops, 3, "\xe2\x82\xac\xe2\x82\xac!x", 0), 7);
    CHECK_INT(feed_until_stop(t, stops, 1, "\xe2\x82\xac\xe2\x82\xac!x", 0), 0);
    CHECK_INT(feed_until_stop(t, stops, 3, "z zazzz", 0), 6);
    CHECK_INT(feed_until_stop(t, stops, 3, "ab ENEND of it", 7),
              8); /* begun before the resumption */
    struct engine_request r = good();
    struct seq_limits l = {.context = 128, .vocab = 400, .page = 4, .tokenizer = t};
    int32_t *end;
    size_t n;
    struct seq *s = NULL;
    CHECK_OK(tokenizer_encode(t, "END", 3, false, &end, &n));
    r.stop = stops, r.n_stop = 3, r.resume = end, r.n_resume = (int32_t)n;
    CHECK_ERR(seq_open(&s, &r, &l), ERR_CONFIG, "completes a stop string");
    mem_free(end);
    tokenizer_close(&t);
}
