/* tokenizer_fuzz.c - a tokenizer.json, a NUL, a text. The file may lie in any way; with one that is
 * accepted, encoding and decoding end, ids are in range, and streaming equals decoding. Without a
 * NUL in the input the whole of it is the text of a small tokenizer of each kind. */
#include "actor/text/tokenizer.h"
#include "base/buf.h"
#include "base/mem.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char sentencepiece[] =
    "{\"added_tokens\": [{\"id\": 3, \"content\": \"<s>\", \"single_word\": false, \"lstrip\": "
    "true,"
    "\"rstrip\": true, \"normalized\": false, \"special\": true}],"
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"},"
    "{\"type\": \"Prepend\", \"prepend\": \"_\"}]}, \"pre_tokenizer\": {\"type\": \"Metaspace\","
    "\"replacement\": \"_\", \"prepend_scheme\": \"first\"}, \"decoder\": {\"type\": \"Sequence\","
    "\"decoders\": [{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}]},"
    "\"model\": {\"type\": \"BPE\", \"unk_token\": \"a\", \"byte_fallback\": true,"
    "\"vocab\": {\"a\": 0, \"_\": 1, \"_a\": 2, \"<0xC3>\": 4, \"<0xA9>\": 5, \"<s>\": 3},"
    "\"merges\": [\"_ a\"]}}";
static const char byte_level[] =
    "{\"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\","
    "\"add_prefix_space\": true}, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\":"
    "\"BPE\", \"vocab\": {\"a\": 0, \"\xC4\xA0\": 1, \"\xC4\xA0"
    "a\": 2, \"\xC3\x83\": 3, \"\xC2\xA9\": 4},"
    "\"merges\": [[\"\xC4\xA0\", \"a\"]]}}";

static void stream(const struct tokenizer *t, const int32_t *ids, size_t n) {
    struct tokenizer_stream *s = tokenizer_stream_open(t);
    struct buf all = {0};
    const char *piece;
    char *whole;
    size_t bytes;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = tokenizer_stream_add(s, ids[i], &piece, &bytes);
        if (rc == 0) buf_add(&all, piece, bytes);
    }
    if (rc == 0) rc = tokenizer_stream_flush(s, &piece, &bytes);
    if (rc == 0) buf_add(&all, piece, bytes);
    if (rc == 0 && tokenizer_decode(t, ids, n, true, &whole, &bytes) == 0) {
        ASSERT(all.len == bytes && memcmp(all.data ? all.data : "", whole, bytes) == 0);
        mem_free(whole);
    }
    tokenizer_stream_close(&s);
    buf_close(&all);
}

static void use(const char *json, size_t json_bytes, const char *text, size_t bytes) {
    struct tokenizer *t;
    int32_t *ids;
    size_t n;
    if (tokenizer_open_text(&t, json, json_bytes, "fuzz") < 0) return;
    if (tokenizer_encode(t, text, bytes, true, &ids, &n) == 0) {
        for (size_t i = 0; i < n; i++)
            ASSERT(ids[i] >= 0 && ids[i] < tokenizer_size(t));
        stream(t, ids, n);
        mem_free(ids);
    }
    tokenizer_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *text = (const char *)data, *nul = n ? memchr(text, '\0', n) : NULL;
    if (nul) {
        size_t json = (size_t)(nul - text);
        use(text, json, nul + 1, n - json - 1);
    } else {
        use(sentencepiece, sizeof sentencepiece - 1, text, n);
        use(byte_level, sizeof byte_level - 1, text, n);
    }
    return 0;
}
