/* tokenizer.c - the public face: open, encode, decode, stream.
 *
 * Encoding goes through the reference's stages: added tokens that are matched in the raw text, the
 * normalizer on what lies between them, added tokens that are matched in normalized text, the
 * pre-tokenizer, then byte-pair encoding of each pre-token, and the post-processor's frame around
 * it all. Everything an encoding writes lives in its own workspace, so that the tokenizer itself is
 * never written after opening and needs no lock. */
#include "actor/text/tokenizer.h"

#include "actor/text/tokenizer_json.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

enum {
    FILE_MAX = 256 << 20,  /* bytes of tokenizer.json */
    CONFIG_MAX = 16 << 20, /* bytes of tokenizer_config.json */
    TEXT_MAX = 1 << 30     /* bytes of one text */
};

struct tokenizer {
    struct tokenizer_json parts;
    int32_t bos, eos;
};

int tokenizer_open_text(struct tokenizer **out, const char *json, size_t bytes, const char *name) {
    struct tokenizer_json parts;
    TRY(tokenizer_json_read(&parts, json, bytes, name));
    struct tokenizer *t = mem_alloc(sizeof *t);
    *t = (struct tokenizer){.parts = parts, .bos = -1, .eos = -1};
    *out = t;
    return 0;
}

/* "bos_token": "<s>" or {"content": "<s>", ...}; -1 where absent or no token. */
static int32_t config_token(const struct tokenizer *t, const struct json *config, const char *key) {
    const struct json *v = json_get(config, key);
    if (json_is(v, JSON_OBJECT)) v = json_get(v, "content");
    return json_str(v) ? tokenizer_id(t, json_str(v)) : -1;
}

static int read_config(struct tokenizer *t, const char *dir) {
    struct json_doc *doc;
    char *path = file_join(dir, "tokenizer_config.json");
    int rc = file_exists(path) ? json_parse_file_as(&doc, path, CONFIG_MAX, JSON_NUL) : 1;
    mem_free(path);
    if (rc != 0) return rc < 0 ? rc : 0;
    t->bos = config_token(t, json_root(doc), "bos_token");
    t->eos = config_token(t, json_root(doc), "eos_token");
    json_close(&doc);
    return 0;
}

/* Older kinds of tokenizers that a folder may have instead. */
static int explain_no_tokenizer(int rc, const char *dir) {
    static const char *const others[] = {"tokenizer.model", "vocab.json", "vocab.txt",
                                         "tekken.json", "spiece.model"};
    char *path = file_join(dir, "tokenizer.json");
    bool there = file_exists(path);
    mem_free(path);
    for (size_t i = 0; !there && i < sizeof others / sizeof others[0]; i++) {
        path = file_join(dir, others[i]);
        bool other = file_exists(path);
        mem_free(path);
        if (other)
            return FAIL(rc,
                        "%s has no tokenizer.json, but %s: transformers writes one: "
                        "AutoTokenizer.from_pretrained(IN).save_pretrained(OUT)",
                        dir, others[i]);
    }
    return rc;
}

int tokenizer_open(struct tokenizer **out, const char *dir) {
    char *path = file_join(dir, "tokenizer.json"), *text = NULL;
    struct tokenizer *t = NULL;
    size_t n;
    int rc;
    rc = file_read(&text, &n, path, FILE_MAX);
    TRY_OUT(rc < 0 ? explain_no_tokenizer(rc, dir) : rc);
    TRY_OUT(tokenizer_open_text(&t, text, n, path));
    TRY_OUT(read_config(t, dir));
    *out = t;
    t = NULL;
out:
    tokenizer_close(&t);
    mem_free(text);
    mem_free(path);
    return rc;
}

void tokenizer_close(struct tokenizer **t) {
    if (!*t) return;
    tokenizer_json_close(&(*t)->parts);
    mem_free(*t);
    *t = NULL;
}

struct work {
    struct tokenizer_added_pieces raw, normal;
    struct tokenizer_norm_text norm;
    struct buf tmp;
    struct tokenizer_split_work split;
    struct tokenizer_regex_scan *scan;
    struct tokenizer_word *word;
    struct tokenizer_ids ids;
};

static void work_close(struct work *w) {
    mem_free(w->raw.v);
    mem_free(w->normal.v);
    buf_close(&w->norm.b);
    buf_close(&w->tmp);
    tokenizer_split_work_close(&w->split);
    tokenizer_regex_scan_close(&w->scan);
    tokenizer_bpe_word_close(&w->word);
    mem_free(w->ids.v);
}

static int encode_normal(const struct tokenizer_json *p, struct work *w, const char *s, size_t n,
                         size_t origin) {
    TRY(tokenizer_split_apply(&p->split, &w->split, w->scan, s, n, origin));
    const struct tokenizer_split_pieces *pieces = &w->split.pieces;
    for (size_t i = 0; i < pieces->n; i++) {
        struct tokenizer_split_piece piece = pieces->v[i];
        TRY(tokenizer_bpe_encode(&p->bpe, w->word, pieces->text.data + piece.start,
                                 piece.end - piece.start, &w->ids));
    }
    return 0;
}

/* First token that is matched in normalized text and stands in a span of s[0..n), which is at byte
 * `at` of the guarded text. */
static const struct tokenizer_added_token *find_normalized(const struct tokenizer_added *a,
                                                           const struct tokenizer_guard *g,
                                                           const char *s, size_t n, size_t at) {
    for (size_t i = 0; i < a->n; i++) {
        const struct tokenizer_added_token *t = &a->v[i];
        if (!t->normalize || !tokenizer_added_guarded(g, t)) continue;
        for (size_t k = 0; k < g->n; k++) {
            size_t from = g->span[k].start > at ? g->span[k].start - at : 0;
            size_t to = g->span[k].end > at ? g->span[k].end - at : 0;
            if (to > n) to = n;
            if (from < to && memmem(s + from, to - from, t->content, t->content_len)) return t;
        }
    }
    return NULL;
}

/* Sets the guard for the normalized form of s: where nothing changed, the spans are right; else
 * none is needed, or nobody knows where they are. */
static int guard_normalized(const struct tokenizer_guard **out, const struct tokenizer_json *p,
                            const struct work *w, const struct tokenizer_guard *g, const char *s,
                            size_t n, size_t at) {
    *out = g;
    if (!g || (w->norm.b.len == n && memcmp(w->norm.b.data, s, n) == 0)) return 0;
    const struct tokenizer_added_token *t = find_normalized(&p->added, g, s, n, at);
    *out = NULL;
    if (!t) return 0;
    return FAIL(ERR_UNSUP,
                "the text holds %s, which tokenizer.json matches after normalization: it cannot be "
                "told there from one that belongs to the format",
                t->content);
}

/* Text between added tokens, at byte `at` of the input. */
static int encode_raw(const struct tokenizer_json *p, struct work *w, const char *s, size_t n,
                      size_t at, const struct tokenizer_guard *guard) {
    uint32_t cp;
    int len = utf8_decode(s, n, &cp);
    buf_reset(&w->norm.b);
    buf_add(&w->norm.b, s, n);
    w->norm.origin = at == 0 && len > 0 ? (size_t)len : 0;
    TRY(tokenizer_norm_apply(&p->norm, &w->norm, &w->tmp, &w->split.cuts, w->scan));
    TRY(guard_normalized(&guard, p, w, guard, s, n, at));
    tokenizer_added_split(&p->added, 1, w->norm.b.data, w->norm.b.len, guard, at, &w->normal);
    for (size_t i = 0; i < w->normal.n; i++) {
        struct tokenizer_added_piece piece = w->normal.v[i];
        size_t origin = w->norm.origin > piece.start ? w->norm.origin - piece.start : 0;
        if (origin > piece.end - piece.start) origin = piece.end - piece.start;
        if (piece.id >= 0)
            tokenizer_bpe_ids_add(&w->ids, piece.id);
        else
            TRY(encode_normal(p, w, w->norm.b.data + piece.start, piece.end - piece.start, origin));
    }
    return 0;
}

static void add_frame(const struct tokenizer_json *p, struct tokenizer_ids *ids, bool special) {
    struct tokenizer_ids out = {0};
    for (size_t i = 0; i < p->frame_n; i++) {
        if (p->frame[i] >= 0 && special) tokenizer_bpe_ids_add(&out, p->frame[i]);
        for (size_t k = 0; p->frame[i] < 0 && k < ids->n; k++)
            tokenizer_bpe_ids_add(&out, ids->v[k]);
    }
    mem_free(ids->v);
    *ids = out;
}

int tokenizer_encode_guarded(const struct tokenizer *t, const char *text, size_t bytes,
                             bool special, const struct tokenizer_guard *guard, int32_t **ids,
                             size_t *n) {
    const struct tokenizer_json *p = &t->parts;
    if (bytes > TEXT_MAX)
        return FAIL(ERR_CONFIG, "text of %zu bytes, the limit is %d", bytes, TEXT_MAX);
    size_t valid = utf8_valid_prefix(text, bytes);
    if (valid < bytes) return FAIL(ERR_CORRUPT, "text: invalid UTF-8 at byte %zu", valid);
    struct work w = {.scan = tokenizer_regex_scan_open(), .word = tokenizer_bpe_word_open()};
    int rc = 0;
    tokenizer_added_split(&p->added, 0, text, bytes, guard, 0, &w.raw);
    for (size_t i = 0; i < w.raw.n; i++) {
        struct tokenizer_added_piece piece = w.raw.v[i];
        if (piece.id >= 0)
            tokenizer_bpe_ids_add(&w.ids, piece.id);
        else
            TRY_OUT(
                encode_raw(p, &w, text + piece.start, piece.end - piece.start, piece.start, guard));
    }
    if (p->frame) add_frame(p, &w.ids, special);
    if (!w.ids.v) w.ids.v = mem_alloc(sizeof *w.ids.v);
    *ids = w.ids.v;
    *n = w.ids.n;
    w.ids.v = NULL;
out:
    work_close(&w);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, bool special,
                     int32_t **ids, size_t *n) {
    return tokenizer_encode_guarded(t, text, bytes, special, NULL, ids, n);
}

int32_t tokenizer_find_guarded(const struct tokenizer *t, const char *text,
                               const struct tokenizer_guard *guard) {
    struct tokenizer_added_pieces pieces = {0};
    const struct tokenizer_added *a = &t->parts.added;
    int32_t id = -1;
    for (size_t i = 0; i < guard->n && id < 0; i++) {
        const char *s = text + guard->span[i].start;
        size_t n = guard->span[i].end - guard->span[i].start;
        tokenizer_added_split(a, 0, s, n, NULL, 0, &pieces);
        for (size_t k = 0; k < pieces.n && id < 0; k++)
            if (pieces.v[k].id >= 0 &&
                tokenizer_added_guarded(guard, tokenizer_added_get(a, pieces.v[k].id)))
                id = pieces.v[k].id;
    }
    mem_free(pieces.v);
    if (id >= 0 || guard->n == 0 || a->sorted_n[1] == 0) return id;
    const struct tokenizer_added_token *found =
        find_normalized(a, guard, text, guard->span[guard->n - 1].end, 0);
    return found ? found->id : -1;
}

/* Of ASCII no normal form changes the length, and an id takes at least one byte. Replace may make
 * more of it, and where something is put in front of each piece between added tokens, three bytes
 * at most come to at least one. */
size_t tokenizer_most(const struct tokenizer *t, const char *text, size_t bytes) {
    const struct tokenizer_norm *norm = &t->parts.norm;
    size_t most = bytes;
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] >= 0x80) return SIZE_MAX;
    for (size_t i = 0; i < norm->n; i++) {
        const struct tokenizer_norm_step *step = &norm->v[i];
        if (step->kind == TOKENIZER_NORM_PREPEND) most += (bytes + 1) * step->text_len;
        if (step->kind == TOKENIZER_NORM_REPLACE && step->text_len > 1) most *= step->text_len;
    }
    for (size_t i = 0; i < t->parts.split.n; i++)
        if (t->parts.split.v[i].kind == TOKENIZER_SPLIT_METASPACE ||
            t->parts.split.v[i].kind == TOKENIZER_SPLIT_PREFIX_SPACE)
            most = 4 * most + 4;
    return most + t->parts.frame_n;
}

/* Pushes one id; an id without a token gives nothing, as in the reference: the vocabulary of a
 * model may be padded beyond its tokenizer's. */
static int run_add(const struct tokenizer *t, struct tokenizer_decode_run *run, int32_t id,
                   bool skip_special) {
    if (id < 0) return FAIL(ERR_CONFIG, "token id %d is negative", id);
    if (id >= t->parts.size) return 0;
    size_t n = 0;
    const struct tokenizer_added_token *added = tokenizer_added_get(&t->parts.added, id);
    if (added && skip_special && added->skipped) return 0;
    const char *text = added ? tokenizer_added_text(added, &n)
                             : tokenizer_bpe_vocab_text(&t->parts.bpe.vocab, id, &n);
    return text ? tokenizer_decode_run_add(run, text, n) : 0;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                     char **text, size_t *bytes) {
    struct buf out = {0};
    struct tokenizer_decode_run *run = tokenizer_decode_run_open(&t->parts.decode, &out);
    int rc = 0;
    for (size_t i = 0; i < n; i++)
        TRY_OUT(run_add(t, run, ids[i], skip_special));
    TRY_OUT(tokenizer_decode_run_end(run));
    buf_add(&out, "", 0); /* so that there is a text to give */
    *text = out.data;
    *bytes = out.len;
    out = (struct buf){0};
out:
    tokenizer_decode_run_close(&run);
    buf_close(&out);
    return rc;
}

int32_t tokenizer_size(const struct tokenizer *t) {
    return t->parts.size;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *token) {
    size_t n = strlen(token);
    const struct tokenizer_added_token *added = tokenizer_added_find(&t->parts.added, token, n);
    return added ? added->id : tokenizer_bpe_vocab_find(&t->parts.bpe.vocab, token, n);
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id) {
    const struct tokenizer_added_token *added = tokenizer_added_get(&t->parts.added, id);
    return added && added->special;
}

int32_t tokenizer_bos(const struct tokenizer *t) {
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t) {
    return t->eos;
}

struct tokenizer_stream {
    const struct tokenizer *t;
    struct tokenizer_decode_run *run;
    struct buf out;
};

struct tokenizer_stream *tokenizer_stream_open(const struct tokenizer *t) {
    struct tokenizer_stream *s = mem_zalloc(sizeof *s);
    s->t = t;
    s->run = tokenizer_decode_run_open(&t->parts.decode, &s->out);
    return s;
}

void tokenizer_stream_close(struct tokenizer_stream **s) {
    if (!*s) return;
    tokenizer_decode_run_close(&(*s)->run);
    buf_close(&(*s)->out);
    mem_free(*s);
    *s = NULL;
}

static int give_text(struct tokenizer_stream *s, int rc, const char **text, size_t *bytes) {
    if (rc < 0) return rc;
    *text = s->out.data ? s->out.data : "";
    *bytes = s->out.len;
    return 0;
}

int tokenizer_stream_add(struct tokenizer_stream *s, int32_t id, const char **text, size_t *bytes) {
    buf_reset(&s->out);
    return give_text(s, run_add(s->t, s->run, id, true), text, bytes);
}

int tokenizer_stream_flush(struct tokenizer_stream *s, const char **text, size_t *bytes) {
    buf_reset(&s->out);
    return give_text(s, tokenizer_decode_run_end(s->run), text, bytes);
}
