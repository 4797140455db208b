/* tokenizer_json.c - reading tokenizer.json, see tokenizer_json.h.
 *
 * The file may be hostile: ids, texts and counts are bounded before anything is sized by them, and
 * what contradicts itself (an id given twice, a merge of unknown tokens, an added token whose id
 * the reference would not give it) is an error with the field, where the reference warns, panics or
 * picks one. Truncation and padding are left alone: they are settings of a batch, which
 * transformers overrides on every call, and no part of what a text encodes to. */
#include "actor/text/tokenizer_json.h"

#include "base/json.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

enum { FRAME_MAX = 1024 };

static int read_vocab(struct tokenizer_bpe *m, const struct json *vocab, const char *name) {
    int64_t id, id_max = -1;
    size_t n, bytes = 0;
    if (!json_is(vocab, JSON_OBJECT))
        return FAIL(ERR_CORRUPT, "%s: model.vocab must be an object", name);
    for (const struct json *e = json_first(vocab); e; e = json_next(e)) {
        const char *text = json_key(e, &n);
        if (n > TOKENIZER_TOKEN_BYTES_MAX)
            return FAIL(ERR_CORRUPT, "%s: model.vocab: a token of %zu bytes, the limit is %d", name,
                        n, TOKENIZER_TOKEN_BYTES_MAX);
        if (!json_int(e, &id) || id < 0 || id >= TOKENIZER_IDS_MAX)
            return FAIL(ERR_CORRUPT, "%s: model.vocab: the id of \"%s\" must be in 0..%d", name,
                        text, TOKENIZER_IDS_MAX - 1);
        bytes += n;
        if (id > id_max) id_max = id;
    }
    if (id_max < 0) return FAIL(ERR_CORRUPT, "%s: model.vocab is empty", name);
    tokenizer_bpe_vocab_init(&m->vocab, (int32_t)id_max + 1, json_len(vocab), bytes);
    for (const struct json *e = json_first(vocab); e; e = json_next(e)) {
        const char *text = json_key(e, &n);
        if (!json_int(e, &id)) id = 0; /* checked above */
        TRY(tokenizer_bpe_vocab_add(&m->vocab, text, n, (int32_t)id, name));
    }
    return 0;
}

struct half {
    const char *s;
    size_t n;
};

/* "a b" or ["a", "b"] */
static int merge_halves(const struct json *e, struct half *a, struct half *b, size_t i,
                        const char *name) {
    const struct json *first = json_first(e), *second = json_next(first);
    if (json_str(e)) {
        const char *space = memchr(json_str(e), ' ', json_len(e));
        *a = (struct half){json_str(e), space ? (size_t)(space - json_str(e)) : 0};
        if (space) *b = (struct half){space + 1, json_len(e) - a->n - 1};
        if (space && !memchr(b->s, ' ', b->n)) return 0;
        return FAIL(ERR_CORRUPT, "%s: model.merges[%zu]: \"%s\" is not two tokens", name, i,
                    json_str(e));
    }
    if (json_len(e) != 2 || !json_str(first) || !json_str(second))
        return FAIL(ERR_CORRUPT, "%s: model.merges[%zu] must be \"a b\" or [\"a\", \"b\"]", name,
                    i);
    *a = (struct half){json_str(first), json_len(first)};
    *b = (struct half){json_str(second), json_len(second)};
    return 0;
}

static int read_merge(struct tokenizer_bpe *m, const struct json *e, size_t i, uint32_t rank,
                      char *joined, const char *name) {
    struct half a = {0}, b = {0};
    TRY(merge_halves(e, &a, &b, i, name));
    int32_t left = tokenizer_bpe_vocab_find(&m->vocab, a.s, a.n);
    int32_t right = tokenizer_bpe_vocab_find(&m->vocab, b.s, b.n);
    if (left < 0 || right < 0)
        return FAIL(ERR_CORRUPT, "%s: model.merges[%zu]: \"%.*s\" is not in the vocabulary", name,
                    i, (int)(left < 0 ? a.n : b.n), left < 0 ? a.s : b.s);
    if (b.n < m->prefix_len)
        return FAIL(ERR_CORRUPT, "%s: model.merges[%zu]: \"%s\" lacks the prefix \"%s\"", name, i,
                    b.s, m->prefix);
    size_t tail = b.n - m->prefix_len;
    memcpy(joined, a.s, a.n); /* both are tokens, so they fit */
    memcpy(joined + a.n, b.s + m->prefix_len, tail);
    int32_t merged = tokenizer_bpe_vocab_find(&m->vocab, joined, a.n + tail);
    if (merged < 0)
        return FAIL(ERR_CORRUPT, "%s: model.merges[%zu] makes \"%.*s\", not in the vocabulary",
                    name, i, (int)(a.n + tail), joined);
    tokenizer_bpe_merges_add(m, left, right, rank, merged);
    return 0;
}

static int read_merges(struct tokenizer_bpe *m, const struct json *merges, const char *name) {
    if (!json_is(merges, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: model.merges must be an array", name);
    tokenizer_bpe_merges_init(m, json_len(merges));
    char *joined = mem_alloc(2 * TOKENIZER_TOKEN_BYTES_MAX);
    size_t i = 0;
    uint32_t rank = 0;
    int rc = 0;
    for (const struct json *e = json_first(merges); e && rc == 0; e = json_next(e), i++) {
        const char *s = json_str(e); /* a header line of merges.txt */
        if (s && strncmp(s, "#version", 8) == 0) continue;
        rc = read_merge(m, e, i, rank++, joined, name);
    }
    mem_free(joined);
    return rc;
}

static int option_str(char **out, size_t *len, const struct json *model, const char *key,
                      const char *name) {
    const struct json *v = json_get(model, key);
    if (json_type(v) == JSON_NULL) return 0;
    if (!json_str(v)) return FAIL(ERR_CORRUPT, "%s: model.%s must be a string", name, key);
    if (json_len(v) > TOKENIZER_TOKEN_BYTES_MAX)
        return FAIL(ERR_CORRUPT, "%s: model.%s is longer than %d bytes", name, key,
                    TOKENIZER_TOKEN_BYTES_MAX);
    *out = mem_strndup(json_str(v), json_len(v));
    *len = json_len(v);
    return 0;
}

/* BPE only, and no dropout: an encoding must be a function of the text. */
static int read_model(struct tokenizer_bpe *m, const struct json *model, const char *name) {
    const struct json *type = json_get(model, "type");
    if (!json_is(model, JSON_OBJECT)) return FAIL(ERR_CORRUPT, "%s: model is missing", name);
    if (type && (!json_str(type) || strcmp(json_str(type), "BPE") != 0))
        return FAIL(ERR_UNSUP, "%s: model.type \"%s\" is not supported, only BPE", name,
                    json_str(type) ? json_str(type) : "?");
    if (json_num(json_get(model, "dropout"), 0) != 0)
        return FAIL(ERR_UNSUP, "%s: model.dropout makes encoding random", name);
    m->name = mem_strdup(name);
    m->ignore_merges = json_bool(json_get(model, "ignore_merges"), false);
    m->byte_fallback = json_bool(json_get(model, "byte_fallback"), false);
    m->fuse_unk = json_bool(json_get(model, "fuse_unk"), false);
    TRY(option_str(&m->unk, &m->unk_len, model, "unk_token", name));
    TRY(option_str(&m->prefix, &m->prefix_len, model, "continuing_subword_prefix", name));
    TRY(option_str(&m->suffix, &m->suffix_len, model, "end_of_word_suffix", name));
    TRY(read_vocab(m, json_get(model, "vocab"), name));
    TRY(read_merges(m, json_get(model, "merges"), name));
    tokenizer_bpe_ready(m);
    return 0;
}

static int normalize_added(const struct tokenizer_norm *nm, struct tokenizer_added_token *t) {
    struct tokenizer_norm_text text = {0};
    struct tokenizer_cuts cuts = {0};
    struct buf tmp = {0};
    struct tokenizer_regex_scan *scan = tokenizer_regex_scan_open();
    buf_add(&text.b, t->content, t->content_len);
    int rc = tokenizer_norm_apply(nm, &text, &tmp, &cuts, scan);
    if (rc == 0 &&
        (text.b.len != t->content_len || memcmp(text.b.data, t->content, text.b.len) != 0)) {
        mem_free(t->normalized);
        t->normalized = mem_strndup(text.b.len ? text.b.data : "", text.b.len);
        t->normalized_len = text.b.len;
    }
    buf_close(&text.b);
    buf_close(&tmp);
    mem_free(cuts.v);
    tokenizer_regex_scan_close(&scan);
    return rc;
}

static int added_flags(struct tokenizer_added_token *t, const struct json *e, const char *where) {
    TRY(json_read_bool(&t->single_word, e, "single_word", where));
    TRY(json_read_bool(&t->lstrip, e, "lstrip", where));
    TRY(json_read_bool(&t->rstrip, e, "rstrip", where));
    TRY(json_read_bool(&t->normalize, e, "normalized", where));
    return json_read_bool(&t->special, e, "special", where);
}

/* The id is the vocabulary's if the text is there, else the next free one after it. A file that
 * says otherwise was made for another vocabulary. */
static int read_added(struct tokenizer_json *t, const struct json *e, int32_t *next,
                      const char *where) {
    struct tokenizer_added_token tok = {0};
    const char *content;
    int64_t id;
    TRY(json_read_int(&id, e, "id", 0, TOKENIZER_IDS_MAX - 1, where));
    TRY(json_read_str(&content, e, "content", where));
    TRY(added_flags(&tok, e, where));
    size_t n = json_len(json_get(e, "content"));
    if (n == 0) return 0; /* ignored, as in the reference */
    if (n > TOKENIZER_TOKEN_BYTES_MAX)
        return FAIL(ERR_CORRUPT, "%s: content has %zu bytes, the limit is %d", where, n,
                    TOKENIZER_TOKEN_BYTES_MAX);
    const struct tokenizer_added_token *old = tokenizer_added_find(&t->added, content, n);
    tok.id = old ? old->id : tokenizer_bpe_vocab_find(&t->bpe.vocab, content, n);
    if (tok.id < 0) tok.id = (*next)++;
    if (tok.id != id)
        return FAIL(ERR_CORRUPT, "%s: \"%s\" has the id %" PRId64 ", by the vocabulary it is %d",
                    where, content, id, tok.id);
    int at = 0;
    if (!old) {
        tok.content = mem_strndup(content, n);
        tok.content_len = n;
        at = tokenizer_added_take(&t->added, tok, where);
        if (at < 0) return at;
    } else { /* given again: the later flags count */
        at = (int)(old - t->added.v);
        tok.content = old->content;
        tok.content_len = n;
        tok.normalized = old->normalized;
        tok.normalized_len = old->normalized_len;
        tok.special = tok.special || old->special;
        t->added.v[at] = tok;
    }
    return tok.normalize ? normalize_added(&t->norm, &t->added.v[at]) : 0;
}

/* Ids may lie beyond the vocabulary: the tokenizer is as large as the highest of either. */
static int read_added_tokens(struct tokenizer_json *t, const struct json *list, const char *name) {
    int32_t next = t->bpe.vocab.count;
    int i = 0, rc = 0;
    if (json_type(list) != JSON_NULL && !json_is(list, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: added_tokens must be an array", name);
    size_t bytes = 0;
    for (const struct json *e = json_first(list); e; e = json_next(e))
        bytes += json_len(json_get(e, "content"));
    if (json_len(list) > TOKENIZER_IDS_MAX)
        return FAIL(ERR_CORRUPT, "%s: added_tokens has %zu entries, the limit is %d", name,
                    json_len(list), TOKENIZER_IDS_MAX);
    tokenizer_added_init(&t->added, json_len(list), bytes);
    for (const struct json *e = json_first(list); e && rc == 0; e = json_next(e)) {
        char *where = mem_printf("%s: added_tokens[%d]", name, i++);
        rc = read_added(t, e, &next, where);
        mem_free(where);
    }
    TRY(rc);
    t->size = t->bpe.vocab.size;
    for (size_t k = 0; k < t->added.n; k++)
        if (t->added.v[k].id >= t->size) t->size = t->added.v[k].id + 1;
    return tokenizer_added_ready(&t->added, name);
}

static int frame_add(struct tokenizer_json *t, const struct json *id, const char *where) {
    int64_t v;
    if (!json_int(id, &v) || v < 0 || v >= t->size)
        return FAIL(ERR_CORRUPT, "%s: a token id must be in 0..%d", where, t->size - 1);
    if (t->frame_n >= FRAME_MAX)
        return FAIL(ERR_CORRUPT, "%s: more than %d tokens", where, FRAME_MAX);
    t->frame[t->frame_n++] = (int32_t)v;
    return 0;
}

/* {"SpecialToken": {"id": name}} looks its ids up in special_tokens; {"Sequence": {"id": "A"}} is
 * the text. */
static int read_template(struct tokenizer_json *t, const struct json *v, const char *where) {
    const struct json *single = json_get(v, "single"), *known = json_get(v, "special_tokens");
    if (!json_is(single, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: single must be an array", where);
    for (const struct json *e = json_first(single); e; e = json_next(e)) {
        const char *text = json_str(json_get(json_get(e, "Sequence"), "id"));
        const char *token = json_str(json_get(json_get(e, "SpecialToken"), "id"));
        if (text) {
            if (strcmp(text, "A") != 0)
                return FAIL(ERR_CORRUPT, "%s: single has the sequence \"%s\"", where, text);
            if (t->frame_n >= FRAME_MAX)
                return FAIL(ERR_CORRUPT, "%s: more than %d tokens", where, FRAME_MAX);
            t->frame[t->frame_n++] = -1;
            continue;
        }
        const struct json *ids = token ? json_get(json_get(known, token), "ids") : NULL;
        if (!json_is(ids, JSON_ARRAY))
            return FAIL(ERR_CORRUPT, "%s: single names \"%s\", special_tokens has no ids for it",
                        where, token ? token : "?");
        for (const struct json *id = json_first(ids); id; id = json_next(id))
            TRY(frame_add(t, id, where));
    }
    return 0;
}

/* BertProcessing, RobertaProcessing: cls, text, sep; each token is [name, id]. */
static int read_bert(struct tokenizer_json *t, const struct json *v, const char *where) {
    TRY(frame_add(t, json_next(json_first(json_get(v, "cls"))), where));
    t->frame[t->frame_n++] = -1;
    return frame_add(t, json_next(json_first(json_get(v, "sep"))), where);
}

static int read_post(struct tokenizer_json *t, const struct json *v, const char *where) {
    const char *type;
    if (json_type(v) == JSON_NULL) return 0;
    TRY(json_read_str(&type, v, "type", where));
    if (strcmp(type, "ByteLevel") == 0) return 0; /* concerns offsets only */
    if (strcmp(type, "Sequence") == 0) {
        int i = 0, rc = 0;
        const struct json *list = json_get(v, "processors");
        for (const struct json *e = json_first(list); e && rc == 0; e = json_next(e)) {
            char *path = mem_printf("%s.processors[%d]", where, i++);
            rc = read_post(t, e, path);
            mem_free(path);
        }
        return rc;
    }
    if (t->frame) return FAIL(ERR_UNSUP, "%s: a second template is not supported", where);
    t->frame = mem_array(FRAME_MAX + 4, sizeof *t->frame);
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, v, where);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return read_bert(t, v, where);
    return FAIL(ERR_UNSUP, "%s: the post-processor \"%s\" is not supported", where, type);
}

/* Calls the reader of a field with "FILE: FIELD". */
#define READ_FIELD(reader, target, field)                                                          \
    do {                                                                                           \
        char *where_ = mem_printf("%s: %s", name, field);                                          \
        int rc_ = reader(target, json_get(root, field), where_);                                   \
        mem_free(where_);                                                                          \
        if (rc_ < 0) return rc_;                                                                   \
    } while (0)

static int read_tokenizer(struct tokenizer_json *t, const struct json *root, const char *name) {
    const struct json *version = json_get(root, "version");
    if (!json_is(root, JSON_OBJECT)) return FAIL(ERR_CORRUPT, "%s: not an object", name);
    if (json_type(version) != JSON_NULL &&
        (!json_str(version) || strcmp(json_str(version), "1.0") != 0))
        return FAIL(ERR_UNSUP, "%s: version is not \"1.0\"", name);
    READ_FIELD(tokenizer_steps_norm, &t->norm, "normalizer");
    READ_FIELD(tokenizer_steps_split, &t->split, "pre_tokenizer");
    READ_FIELD(tokenizer_steps_decode, &t->decode, "decoder");
    TRY(read_model(&t->bpe, json_get(root, "model"), name));
    TRY(read_added_tokens(t, json_get(root, "added_tokens"), name));
    READ_FIELD(read_post, t, "post_processor");
    return 0;
}

int tokenizer_json_read(struct tokenizer_json *out, const char *text, size_t n, const char *name) {
    struct json_doc *doc;
    *out = (struct tokenizer_json){0};
    TRY(json_parse_as(&doc, text, n, name, JSON_NUL));
    int rc = read_tokenizer(out, json_root(doc), name);
    json_close(&doc);
    if (rc < 0) tokenizer_json_close(out);
    return rc;
}

void tokenizer_json_close(struct tokenizer_json *t) {
    tokenizer_bpe_close(&t->bpe);
    tokenizer_added_close(&t->added);
    tokenizer_norm_close(&t->norm);
    tokenizer_split_close(&t->split);
    tokenizer_decode_close(&t->decode);
    mem_free(t->frame);
    *t = (struct tokenizer_json){0};
}
