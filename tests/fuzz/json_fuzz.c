/* json_fuzz.c - any bytes as JSON. What is accepted is written again, read back and must be the
 * same. */
#include "base/buf.h"
#include "base/json.h"
#include "base/json_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void write(struct buf *b, const struct json *v) {
    struct json_write w = json_write_to(b, JSON_COMPACT);
    json_write_value(&w, NULL, v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct json_doc *doc, *again;
    struct buf first = {0}, second = {0};
    if (json_parse(&doc, (const char *)data, n, "fuzz") < 0) return 0;
    write(&first, json_root(doc));
    int rc = json_parse(&again, first.data, first.len, "again");
    ASSERT(rc == 0);
    write(&second, json_root(again));
    ASSERT(first.len == second.len && __builtin_memcmp(first.data, second.data, first.len) == 0);
    json_close(&again);
    json_close(&doc);
    buf_close(&first);
    buf_close(&second);
    return 0;
}
