/* json_fuzz.c - any bytes as JSON. What is accepted is written again, read back and must be the
 * same. */
#include "base/buf.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void write(struct buf *b, const struct json *v) {
    int64_t i;
    size_t key_len;
    switch (json_type(v)) {
    case JSON_NULL: buf_str(b, "null"); return;
    case JSON_BOOL: buf_str(b, json_bool(v, false) ? "true" : "false"); return;
    case JSON_STRING: buf_json_str(b, json_str(v), json_len(v)); return;
    case JSON_NUMBER:
        if (json_int(v, &i))
            buf_printf(b, "%lld", (long long)i);
        else
            buf_json_num(b, json_num(v, 0) + 0.0); /* -0 written without point is the integer 0 */
        return;
    case JSON_ARRAY:
    case JSON_OBJECT: break;
    }
    bool object = json_is(v, JSON_OBJECT);
    buf_str(b, object ? "{" : "[");
    for (const struct json *e = json_first(v); e; e = json_next(e)) {
        if (e != json_first(v)) buf_str(b, ",");
        if (object) {
            const char *key = json_key(e, &key_len);
            buf_json_str(b, key, key_len);
            buf_str(b, ":");
            ASSERT(json_get(v, key) != NULL || key_len != __builtin_strlen(key));
        }
        write(b, e);
    }
    buf_str(b, object ? "}" : "]");
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
