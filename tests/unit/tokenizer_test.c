/* tokenizer_test.c - tokenizer.json files against encodings of the reference. Large released
 * tokenizers lie outside the repository (tests/shared.h); those are skipped where absent. */
#include "actor/tokenizer.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/mem.h"
#include "tests/shared.h"
#include "tests/test.h"

static void check_ids(const struct tokenizer *t, const char *text, size_t bytes, bool special,
                      const struct json *want, const char *where) {
    int32_t *ids;
    size_t n, i = 0;
    CHECK_OK(tokenizer_encode(t, text, bytes, special, &ids, &n));
    for (const struct json *e = json_first(want); e; e = json_next(e), i++) {
        int64_t id;
        CHECK(json_int(e, &id));
        if (i >= n || ids[i] != id)
            test_fail(__FILE__, __LINE__, "%s: id %zu is %d, wanted %d: %s", where, i,
                      i < n ? ids[i] : -1, (int)id, text);
    }
    CHECK_INT(n, i);
    mem_free(ids);
}

TEST(llama3_golden) {
    char *path = mem_strdup(test_shared_path("tokenizers/llama3/golden.jsonl"));
    const char *dir = test_shared_path("tokenizers/llama3"), *line;
    struct tokenizer *t;
    struct lines *in;
    size_t n;
    CHECK_OK(tokenizer_open(&t, dir));
    CHECK_OK(lines_open(&in, path, 1 << 20));
    for (;;) {
        struct json_doc *doc;
        CHECK_OK(lines_next(in, &line, &n));
        if (!line) break;
        CHECK_OK(json_parse(&doc, line, n, lines_name(in)));
        const struct json *text = json_get(json_root(doc), "text");
        check_ids(t, json_str(text), json_len(text), false, json_get(json_root(doc), "ids"),
                  lines_name(in));
        json_close(&doc);
    }
    CHECK(lines_number(in) > 200);
    CHECK_INT(tokenizer_size(t), 128011);
    lines_close(&in);
    tokenizer_close(&t);
    mem_free(path);
}
