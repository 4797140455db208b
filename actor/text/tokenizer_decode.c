/* tokenizer_decode.c - decoding as a chain of stages, see tokenizer_decode.h.
 *
 * The reference decodes a finished list of tokens, stage after stage. Here every stage takes one
 * token at a time and passes on what no later token can change; decoding a whole list is the same
 * chain run to its end. So a streamed text is equal to a decoded one by construction.
 *
 * Behind a stage that joins everything (Fuse, ByteLevel) there is one single token, which arrives
 * in fragments; a stage there either works on fragments (Strip) or waits for the end. A run of
 * ByteFallback bytes is certain only when it ends: one bad byte turns the whole run into U+FFFD. */
#include "actor/text/tokenizer_decode.h"

#include "actor/text/tokenizer_norm.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

static const char replacement_char[] = "\xEF\xBF\xBD";

struct stage {
    const struct tokenizer_decode_step *step;
    bool fused;       /* input is one token in fragments */
    size_t tokens;    /* that arrived */
    struct buf held;  /* bytes that wait */
    struct buf token; /* of this stage, being made */
    size_t stripped;  /* STRIP on fragments: characters cut so far */
    bool past;        /* STRIP on fragments: something else was seen */
};

struct tokenizer_decode_run {
    struct stage *v;
    size_t n;
    struct buf *out;
    struct tokenizer_cuts cuts;
    struct tokenizer_regex_scan *scan;
};

void tokenizer_decode_close(struct tokenizer_decode *d) {
    for (size_t i = 0; i < d->n; i++) {
        tokenizer_regex_close(&d->v[i].pattern);
        mem_free(d->v[i].text);
    }
    mem_free(d->v);
    *d = (struct tokenizer_decode){0};
}

struct tokenizer_decode_run *tokenizer_decode_run_open(const struct tokenizer_decode *d,
                                                       struct buf *out) {
    struct tokenizer_decode_run *run = mem_zalloc(sizeof *run);
    run->v = mem_array(d->n + 1, sizeof *run->v);
    run->n = d->n;
    run->out = out;
    run->scan = tokenizer_regex_scan_open();
    bool fused = false;
    for (size_t i = 0; i < d->n; i++) {
        run->v[i].step = &d->v[i];
        run->v[i].fused = fused;
        fused = fused || d->v[i].kind == TOKENIZER_DECODE_FUSE ||
                d->v[i].kind == TOKENIZER_DECODE_BYTE_LEVEL;
    }
    return run;
}

void tokenizer_decode_run_close(struct tokenizer_decode_run **run) {
    if (!*run) return;
    for (size_t i = 0; i < (*run)->n; i++) {
        buf_close(&(*run)->v[i].held);
        buf_close(&(*run)->v[i].token);
    }
    tokenizer_regex_scan_close(&(*run)->scan);
    mem_free((*run)->cuts.v);
    mem_free((*run)->v);
    mem_free(*run);
    *run = NULL;
}

static int push(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n);

/* Bytes of s that are one ill-formed sequence (Unicode's "maximal subpart"); 0 if s starts with a
 * character. *open: more bytes could still make it one. */
static size_t bad_bytes(const char *s, size_t n, bool *open) {
    uint32_t cp;
    int len = utf8_decode(s, n, &cp);
    *open = len < 0;
    if (len > 0) return 0;
    if (len < 0) return n;
    for (size_t k = n < 4 ? n : 4; k > 1; k--)
        if (utf8_decode(s, k - 1, &cp) < 0) return k - 1;
    return 1;
}

/* Passes on the characters of held; ill-formed bytes become U+FFFD. What could still become a
 * character waits unless at_end. */
static int pass_utf8(struct tokenizer_decode_run *run, size_t i, bool at_end) {
    struct stage *st = &run->v[i];
    struct buf *b = &st->held;
    size_t done = 0;
    int rc = 0;
    buf_reset(&st->token);
    while (done < b->len) {
        bool open;
        size_t good = utf8_valid_prefix(b->data + done, b->len - done);
        buf_add(&st->token, b->data + done, good);
        done += good;
        if (done == b->len) break;
        size_t bad = bad_bytes(b->data + done, b->len - done, &open);
        if (open && !at_end) break;
        buf_str(&st->token, replacement_char);
        done += bad;
    }
    if (st->token.len) rc = push(run, i + 1, st->token.data, st->token.len);
    if (done) {
        memmove(b->data, b->data + done, b->len - done);
        b->len -= done;
    }
    return rc;
}

static int add_byte_level(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    struct buf *b = &run->v[i].held;
    size_t before = b->len;
    for (size_t k = 0; k < n;) {
        uint32_t cp = 0;
        int len = utf8_decode(s + k, n - k, &cp);
        int byte = len > 0 ? tokenizer_norm_char_byte(cp) : -1;
        if (byte < 0) { /* a token with any other character stands for itself */
            b->len = before;
            buf_add(b, s, n);
            break;
        }
        char c = (char)byte;
        buf_add(b, &c, 1);
        k += (size_t)len;
    }
    return pass_utf8(run, i, false);
}

/* As Rust reads two hexadecimal digits: a plus sign in front of one digit is accepted. */
static int byte_of_token(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int v = 0;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        if (i == 3 && c == '+') continue;
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

static int end_bytes(struct tokenizer_decode_run *run, size_t i) {
    struct buf *b = &run->v[i].held;
    size_t n = b->len;
    b->len = 0; /* the bytes stay where they are until the next one is held */
    if (n == 0) return 0;
    if (utf8_valid_prefix(b->data, n) == n) return push(run, i + 1, b->data, n);
    for (size_t k = 0; k < n; k++)
        TRY(push(run, i + 1, replacement_char, 3));
    return 0;
}

static int add_byte_fallback(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    int byte = byte_of_token(s, n);
    if (byte >= 0) {
        char c = (char)byte;
        buf_add(&run->v[i].held, &c, 1);
        return 0;
    }
    TRY(end_bytes(run, i));
    return push(run, i + 1, s, n);
}

static bool token_starts_with(const char *s, size_t n, const struct tokenizer_decode_step *st) {
    return n >= st->text_len && memcmp(s, st->text, st->text_len) == 0;
}

/* One whole token: up to start characters off its beginning, up to stop off its end. */
static int strip_token(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    const struct tokenizer_decode_step *st = run->v[i].step;
    size_t from = 0, to = n;
    for (size_t k = 0; k < st->start && token_starts_with(s + from, n - from, st); k++)
        from += st->text_len;
    for (size_t k = 0; k < st->stop && to >= st->text_len &&
                       memcmp(s + to - st->text_len, st->text, st->text_len) == 0;
         k++)
        to -= st->text_len;
    return push(run, i + 1, s + (from < to ? from : to), from < to ? to - from : 0);
}

/* The one joined token, by fragments; only characters at its beginning are cut. */
static int strip_fragment(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    struct stage *st = &run->v[i];
    while (!st->past && n > 0) {
        if (st->stripped < st->step->start && token_starts_with(s, n, st->step)) {
            s += st->step->text_len;
            n -= st->step->text_len;
            st->stripped++;
        } else {
            st->past = true;
        }
    }
    return n ? push(run, i + 1, s, n) : 0;
}

static int replace_token(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n,
                         const char *text, size_t text_len) {
    struct stage *st = &run->v[i];
    TRY(tokenizer_regex_cut(st->step->pattern, run->scan, s, n, &run->cuts));
    buf_reset(&st->token);
    for (size_t k = 0; k < run->cuts.n; k++) {
        struct tokenizer_cut c = run->cuts.v[k];
        if (c.hit)
            buf_add(&st->token, text, text_len);
        else
            buf_add(&st->token, s + c.start, c.end - c.start);
    }
    return push(run, i + 1, st->token.data ? st->token.data : "", st->token.len);
}

static int metaspace_token(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    struct stage *st = &run->v[i];
    bool drop = st->tokens == 1 && st->step->prepended;
    buf_reset(&st->token);
    for (size_t k = 0; k < n;) {
        if (token_starts_with(s + k, n - k, st->step)) {
            if (!drop) buf_add(&st->token, " ", 1);
            k += st->step->text_len;
        } else {
            buf_add(&st->token, s + k++, 1);
        }
    }
    return push(run, i + 1, st->token.data ? st->token.data : "", st->token.len);
}

/* The suffix of the newest token is known only when another one follows: one token waits. */
static int suffix_token(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    struct stage *st = &run->v[i];
    if (st->tokens > 1)
        TRY(replace_token(run, i, st->held.data ? st->held.data : "", st->held.len, " ", 1));
    buf_reset(&st->held);
    buf_add(&st->held, s, n);
    return 0;
}

/* Whether the stage works on fragments of one token, rather than wait for all of it. */
static bool takes_fragments(const struct tokenizer_decode_step *st) {
    return st->kind == TOKENIZER_DECODE_FUSE ||
           (st->kind == TOKENIZER_DECODE_STRIP && st->stop == 0 && st->text_len == 1);
}

/* One token, or a fragment of one, through stage i and from there to the next. */
static int stage_token(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    struct stage *st = &run->v[i];
    st->tokens++;
    switch (st->step->kind) {
    case TOKENIZER_DECODE_BYTE_LEVEL: return add_byte_level(run, i, s, n);
    case TOKENIZER_DECODE_BYTE_FALLBACK: return add_byte_fallback(run, i, s, n);
    case TOKENIZER_DECODE_FUSE: return push(run, i + 1, s, n);
    case TOKENIZER_DECODE_STRIP:
        return st->fused && takes_fragments(st->step) ? strip_fragment(run, i, s, n)
                                                      : strip_token(run, i, s, n);
    case TOKENIZER_DECODE_REPLACE:
        return replace_token(run, i, s, n, st->step->text, st->step->text_len);
    case TOKENIZER_DECODE_METASPACE: return metaspace_token(run, i, s, n);
    case TOKENIZER_DECODE_SUFFIX: return suffix_token(run, i, s, n);
    case TOKENIZER_DECODE_SPACES:
        if (st->tokens > 1) TRY(push(run, i + 1, " ", 1));
        return push(run, i + 1, s, n);
    }
    return 0;
}

static int push(struct tokenizer_decode_run *run, size_t i, const char *s, size_t n) {
    if (i == run->n) {
        buf_add(run->out, s, n);
        return 0;
    }
    if (run->v[i].fused && !takes_fragments(run->v[i].step)) {
        buf_add(&run->v[i].token, s, n);
        return 0;
    }
    return stage_token(run, i, s, n);
}

int tokenizer_decode_run_add(struct tokenizer_decode_run *run, const char *token, size_t n) {
    return push(run, 0, token, n);
}

/* The end of the tokens: what stage i still holds goes on, and it is as new again. */
static int end_stage(struct tokenizer_decode_run *run, size_t i) {
    struct stage *st = &run->v[i];
    int rc = 0;
    if (st->fused && !takes_fragments(st->step)) {
        struct buf whole = st->token;
        st->token = (struct buf){0};
        rc = stage_token(run, i, whole.data ? whole.data : "", whole.len);
        buf_close(&whole);
        TRY(rc);
    }
    switch (st->step->kind) {
    case TOKENIZER_DECODE_BYTE_LEVEL: rc = pass_utf8(run, i, true); break;
    case TOKENIZER_DECODE_BYTE_FALLBACK: rc = end_bytes(run, i); break;
    case TOKENIZER_DECODE_SUFFIX:
        if (st->tokens)
            rc = replace_token(run, i, st->held.data ? st->held.data : "", st->held.len, "", 0);
        break;
    default: break;
    }
    buf_reset(&st->held);
    buf_reset(&st->token);
    st->tokens = st->stripped = 0;
    st->past = false;
    return rc;
}

int tokenizer_decode_run_end(struct tokenizer_decode_run *run) {
    for (size_t i = 0; i < run->n; i++)
        TRY(end_stage(run, i));
    return 0;
}
