/* tokenizer_test.c - tokenizer.json files against encodings of the reference. Large released
 * tokenizers lie outside the repository (tests/shared.h); those are skipped where absent. */
#include "actor/text/tokenizer.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tests/shared.h"
#include "tests/test.h"

static void check_ids(const struct tokenizer *t, const struct json *line, bool special,
                      const char *key, const char *where) {
    const struct json *text = json_get(line, "text"), *want = json_get(line, key);
    int32_t *ids;
    size_t n, i = 0;
    CHECK_OK(tokenizer_encode(t, json_str(text), json_len(text), special, &ids, &n));
    for (const struct json *e = json_first(want); e; e = json_next(e), i++) {
        int64_t id;
        CHECK(json_int(e, &id));
        if (i >= n || ids[i] != id)
            test_fail(__FILE__, __LINE__, "%s: %s[%zu] is %d, wanted %d: %s", where, key, i,
                      i < n ? ids[i] : -1, (int)id, json_str(text));
    }
    CHECK_INT(n, i);
    CHECK(n <= tokenizer_most(t, json_str(text), json_len(text)));
    mem_free(ids);
}

static size_t read_ids(const struct json *list, int32_t *ids, size_t max) {
    size_t n = 0;
    for (const struct json *e = json_first(list); e; e = json_next(e)) {
        int64_t id;
        CHECK(n < max && json_int(e, &id));
        ids[n++] = (int32_t)id;
    }
    return n;
}

static void check_text(const char *text, size_t n, const struct json *want, const char *where,
                       const char *what) {
    if (n != json_len(want) || memcmp(text, json_str(want), n) != 0)
        test_fail(__FILE__, __LINE__, "%s: %s is \"%s\", wanted \"%s\"", where, what, text,
                  json_str(want));
}

/* Decoded at once, and token by token: the pieces are whole characters and join to the same. */
static void check_decoded(const struct tokenizer *t, const struct json *line, const char *where) {
    int32_t ids[1024];
    size_t n = read_ids(json_get(line, "special"), ids, 1024), bytes;
    char *text;
    CHECK_OK(tokenizer_decode(t, ids, n, false, &text, &bytes));
    check_text(text, bytes, json_get(line, "decoded"), where, "decoded");
    mem_free(text);
    CHECK_OK(tokenizer_decode(t, ids, n, true, &text, &bytes));
    check_text(text, bytes, json_get(line, "skipped"), where, "skipped");
    mem_free(text);

    struct tokenizer_stream *s = tokenizer_stream_open(t);
    struct buf all = {0};
    const char *piece;
    for (int again = 0; again < 2; again++) { /* a flushed stream starts anew */
        buf_reset(&all);
        for (size_t i = 0; i < n; i++) {
            CHECK_OK(tokenizer_stream_add(s, ids[i], &piece, &bytes));
            CHECK_INT(utf8_valid_prefix(piece, bytes), bytes);
            buf_add(&all, piece, bytes);
        }
        CHECK_OK(tokenizer_stream_flush(s, &piece, &bytes));
        buf_add(&all, piece, bytes);
        check_text(all.data, all.len, json_get(line, "skipped"), where, "streamed");
    }
    buf_close(&all);
    tokenizer_stream_close(&s);
}

static struct tokenizer *open_golden(const char *name) {
    char *path = mem_printf("tests/golden/tokenizers/%s.json", name), *text;
    struct tokenizer *t;
    size_t n;
    CHECK_OK(file_read(&text, &n, path, 1 << 20));
    CHECK_OK(tokenizer_open_text(&t, text, n, path));
    mem_free(text);
    mem_free(path);
    return t;
}

/* Every line of a golden file; returns how many. */
static int64_t check_file(const struct tokenizer *t, const char *path, bool whole) {
    struct lines *in;
    const char *line;
    size_t n;
    CHECK_OK(lines_open(&in, path, 1 << 20));
    for (;;) {
        struct json_doc *doc;
        CHECK_OK(lines_next(in, &line, &n));
        if (!line) break;
        char *where = mem_printf("%s:%lld", path, (long long)lines_number(in));
        CHECK_OK(json_parse_as(&doc, line, n, where, JSON_NUL));
        check_ids(t, json_root(doc), false, "ids", where);
        if (whole) {
            check_ids(t, json_root(doc), true, "special", where);
            check_decoded(t, json_root(doc), where);
        }
        json_close(&doc);
        mem_free(where);
    }
    int64_t count = lines_number(in);
    lines_close(&in);
    return count;
}

static void check_golden(const char *name) {
    struct tokenizer *t = open_golden(name);
    char *path = mem_printf("tests/golden/tokenizers/%s.jsonl", name);
    CHECK_INT(check_file(t, path, true), 21);
    mem_free(path);
    tokenizer_close(&t);
}

#define GOLDEN(name)                                                                               \
    TEST(golden_##name) {                                                                          \
        check_golden(#name);                                                                       \
    }
GOLDEN(gpt2)
GOLDEN(llama3)
GOLDEN(qwen2)
GOLDEN(cl100k)
GOLDEN(o200k)
GOLDEN(digits)
GOLDEN(words)
GOLDEN(llama2)
GOLDEN(mistral)
GOLDEN(metaspace)
GOLDEN(unknown)
GOLDEN(suffix)

TEST(llama3_released) {
    char *path = mem_strdup(test_shared_path("tokenizers/llama3/golden.jsonl"));
    struct tokenizer *t;
    CHECK_OK(tokenizer_open(&t, test_shared_path("tokenizers/llama3")));
    CHECK(check_file(t, path, false) > 200);
    CHECK_INT(tokenizer_size(t), 128011);
    CHECK_INT(tokenizer_id(t, "<|begin_of_text|>"), 128000);
    CHECK(tokenizer_is_special(t, 128000) && !tokenizer_is_special(t, 1000));
    tokenizer_close(&t);
    mem_free(path);
}

TEST(stories_released) {
    struct tokenizer *t;
    int32_t *ids;
    size_t n;
    CHECK_OK(tokenizer_open(&t, test_shared_path("models/stories260k")));
    CHECK_INT(tokenizer_bos(t), 1);
    CHECK_INT(tokenizer_eos(t), 2);
    CHECK_OK(tokenizer_encode(t, "Once upon a time", 16, true, &ids, &n));
    CHECK_INT(ids[0], 1);
    mem_free(ids);
    tokenizer_close(&t);
}

/* 100,000 equal characters are one word; the square of that would be felt. */
TEST_TIMEOUT(long_words, 20) {
    static const char *const names[] = {"gpt2", "llama3", "llama2", "qwen2"};
    static const char units[][4] = {"e", " ", "\n", "1", "\xCC\x81", "\xE4\xBD\xA0", "a\xCC\x81"};
    for (size_t i = 0; i < 4; i++) {
        struct tokenizer *t = open_golden(names[i]);
        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            struct buf b = {0};
            int32_t *ids;
            char *back;
            size_t n, bytes;
            while (b.len < 100000)
                buf_str(&b, units[u]);
            CHECK_OK(tokenizer_encode(t, b.data, b.len, false, &ids, &n));
            CHECK_OK(tokenizer_decode(t, ids, n, false, &back, &bytes));
            CHECK(bytes > 30000);
            mem_free(back);
            mem_free(ids);
            buf_close(&b);
        }
        tokenizer_close(&t);
    }
}

TEST(bad_arguments) {
    struct tokenizer *t = open_golden("llama3");
    int32_t *ids, bad[] = {5, -1}, far = tokenizer_size(t);
    char *text;
    size_t n;
    const char *piece;
    CHECK_ERR(tokenizer_encode(t, "ab\xFF", 3, false, &ids, &n), ERR_CORRUPT, "at byte 2");
    CHECK_ERR(tokenizer_encode(t, "\xED\xA0\x80", 3, false, &ids, &n), ERR_CORRUPT, "at byte 0");
    CHECK_ERR(tokenizer_decode(t, bad, 2, false, &text, &n), ERR_CONFIG, "id -1");
    CHECK_OK(tokenizer_decode(t, &far, 1, false, &text, &n)); /* padding has no text */
    CHECK_INT(n, 0);
    mem_free(text);
    struct tokenizer_stream *s = tokenizer_stream_open(t);
    CHECK_OK(tokenizer_stream_add(s, far, &piece, &n));
    CHECK_INT(n, 0);
    tokenizer_stream_close(&s);
    CHECK_INT(tokenizer_id(t, "no such token"), -1);
    CHECK_INT(tokenizer_bos(t), -1);
    tokenizer_close(&t);
    CHECK_ERR(tokenizer_open(&t, "/nonexistent"), ERR_NOTFOUND, "tokenizer.json");
}

/* Characters are never cut: byte tokens of one come out together, a lone one at the end. */
TEST(stream_waits_for_whole_characters) {
    struct tokenizer *t = open_golden("gpt2");
    struct tokenizer_stream *s = tokenizer_stream_open(t);
    const char *piece;
    size_t n;
    static const char *const bytes[] = {"\xC3\xB0", "\xC5\x81", "\xC4\xBA", "\xC4\xA2"};
    for (int i = 0; i < 4; i++) { /* F0 9F 98 80 in byte-level writing */
        int32_t id = tokenizer_id(t, bytes[i]);
        CHECK(id >= 0);
        CHECK_OK(tokenizer_stream_add(s, id, &piece, &n));
        CHECK_INT(n, i < 3 ? 0 : 4);
    }
    CHECK_STR(piece, "\xF0\x9F\x98\x80");
    CHECK_OK(tokenizer_stream_add(s, tokenizer_id(t, bytes[0]), &piece, &n));
    CHECK_INT(n, 0);
    CHECK_OK(tokenizer_stream_add(s, tokenizer_id(t, "a"), &piece, &n));
    CHECK_STR(piece, "\xEF\xBF\xBD"
                     "a");
    CHECK_OK(tokenizer_stream_add(s, tokenizer_id(t, bytes[0]), &piece, &n));
    CHECK_OK(tokenizer_stream_flush(s, &piece, &n));
    CHECK_STR(piece, "\xEF\xBF\xBD");
    tokenizer_stream_close(&s);
    tokenizer_close(&t);
}
