/* tokenizer_split.c - pre-tokenizers, see tokenizer_split.h.
 *
 * As in the reference, each step sees each piece as a text of its own (look-behind ends at the
 * piece), first cuts it into matches and gaps, then applies one of five behaviours to that list.
 * Steps that only cut leave the text where it is and make a new list of pieces; steps that rewrite
 * (byte-level, Metaspace) also make a new text. */
#include "actor/text/tokenizer_split.h"

#include "actor/text/tokenizer_tables.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

void tokenizer_split_close(struct tokenizer_split *sp) {
    for (size_t i = 0; i < sp->n; i++)
        tokenizer_regex_close(&sp->v[i].pattern);
    mem_free(sp->v);
    *sp = (struct tokenizer_split){0};
}

void tokenizer_split_work_close(struct tokenizer_split_work *w) {
    buf_close(&w->pieces.text);
    buf_close(&w->next.text);
    mem_free(w->pieces.v);
    mem_free(w->next.v);
    mem_free(w->cuts.v);
    *w = (struct tokenizer_split_work){0};
}

static void add_piece(struct tokenizer_split_pieces *out, size_t start, size_t end, size_t origin) {
    if (start >= end) return; /* empty pieces are dropped, as in the reference */
    if (out->n == out->cap) mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v);
    out->v[out->n++] = (struct tokenizer_split_piece){start, end, origin};
}

/* Bytes from the input's start in [start, end) of a stretch with `origin` of them. */
static size_t origin_of(size_t origin, size_t start, size_t end) {
    if (origin <= start) return 0;
    return (origin < end ? origin : end) - start;
}

typedef bool char_test(uint32_t cp);

static void cut_chars(const char *s, size_t n, char_test *test, struct tokenizer_cuts *out) {
    size_t gap = 0;
    out->n = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        int len = utf8_decode(s + i, n - i, &cp);
        ASSERT(len > 0);
        size_t end = i + (size_t)len;
        if (test(cp)) {
            if (gap < i) tokenizer_regex_cuts_add(out, gap, i, false);
            tokenizer_regex_cuts_add(out, i, end, true);
            gap = end;
        }
        i = end;
    }
    if (gap < n) tokenizer_regex_cuts_add(out, gap, n, false);
}

/* \w+|[^\w\s]+ : hits are words and runs of what is neither word nor space. */
static void cut_words(const char *s, size_t n, struct tokenizer_cuts *out) {
    size_t start = 0;
    int kind = -1; /* 0 space, 1 word, 2 other */
    out->n = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        int len = utf8_decode(s + i, n - i, &cp);
        ASSERT(len > 0);
        int k = tokenizer_unicode_is_word(cp) ? 1 : tokenizer_unicode_is_space(cp) ? 0 : 2;
        if (k != kind && i > start) {
            tokenizer_regex_cuts_add(out, start, i, kind != 0);
            start = i;
        }
        kind = k;
        i += (size_t)len;
    }
    if (start < n) tokenizer_regex_cuts_add(out, start, n, kind != 0);
}

static void cut_replacement(const struct tokenizer_split_step *st, const char *s, size_t n,
                            struct tokenizer_cuts *out) {
    size_t gap = 0;
    const char *hit;
    out->n = 0;
    while (gap < n && (hit = memmem(s + gap, n - gap, st->replacement, st->replacement_len))) {
        size_t at = (size_t)(hit - s);
        if (gap < at) tokenizer_regex_cuts_add(out, gap, at, false);
        gap = at + st->replacement_len;
        tokenizer_regex_cuts_add(out, at, gap, true);
    }
    if (gap < n) tokenizer_regex_cuts_add(out, gap, n, false);
}

/* Joins the cuts into pieces; in place, since a piece never comes before its cuts. Returns how many
 * pieces, all of them kept. */
static size_t join_pieces(struct tokenizer_cuts *c, enum tokenizer_split_behavior behavior) {
    size_t n = 0;
    bool before = false;
    for (size_t i = 0; i < c->n; i++) {
        struct tokenizer_cut cut = c->v[i];
        bool glue = behavior == TOKENIZER_SPLIT_CONTIGUOUS             ? cut.hit == before
                    : behavior == TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS ? cut.hit && !before
                                                                       : false;
        before = cut.hit;
        if (behavior == TOKENIZER_SPLIT_REMOVED && cut.hit) continue;
        if (glue && n > 0)
            c->v[n - 1].end = cut.end;
        else
            c->v[n++] = cut;
    }
    return n;
}

/* MergedWithNext looks from the end: a hit goes to what follows it unless that is a hit. */
static size_t join_next(struct tokenizer_cuts *c) {
    size_t n = c->n;
    bool after = false;
    for (size_t i = c->n; i-- > 0;) {
        struct tokenizer_cut cut = c->v[i];
        if (cut.hit && !after && n < c->n)
            c->v[n].start = cut.start;
        else
            c->v[--n] = cut;
        after = cut.hit;
    }
    memmove(c->v, c->v + n, (c->n - n) * sizeof *c->v);
    return c->n - n;
}

static void add_cuts(struct tokenizer_cuts *c, enum tokenizer_split_behavior behavior, bool invert,
                     size_t base, size_t origin, struct tokenizer_split_pieces *out) {
    for (size_t i = 0; invert && i < c->n; i++)
        c->v[i].hit = !c->v[i].hit;
    size_t n =
        behavior == TOKENIZER_SPLIT_MERGED_WITH_NEXT ? join_next(c) : join_pieces(c, behavior);
    for (size_t i = 0; i < n; i++)
        add_piece(out, base + c->v[i].start, base + c->v[i].end,
                  origin_of(origin, c->v[i].start, c->v[i].end));
}

/* Steps that only cut. */
static int cut_step(const struct tokenizer_split_step *st, struct tokenizer_split_work *w,
                    struct tokenizer_regex_scan *scan) {
    const struct tokenizer_split_pieces *in = &w->pieces;
    w->next.n = 0;
    for (size_t i = 0; i < in->n; i++) {
        struct tokenizer_split_piece p = in->v[i];
        const char *s = in->text.data + p.start;
        size_t n = p.end - p.start;
        enum tokenizer_split_behavior behavior = st->behavior;
        bool invert = st->invert;
        switch (st->kind) {
        case TOKENIZER_SPLIT_PATTERN:
            TRY(tokenizer_regex_cut(st->pattern, scan, s, n, &w->cuts));
            break;
        case TOKENIZER_SPLIT_DIGITS: cut_chars(s, n, tokenizer_unicode_is_numeric, &w->cuts); break;
        case TOKENIZER_SPLIT_PUNCTUATION:
            cut_chars(s, n, tokenizer_unicode_is_punctuation, &w->cuts);
            break;
        case TOKENIZER_SPLIT_WHITESPACE:
            cut_words(s, n, &w->cuts);
            invert = true;
            behavior = TOKENIZER_SPLIT_REMOVED;
            break;
        default:
            cut_chars(s, n, tokenizer_unicode_is_space, &w->cuts);
            behavior = TOKENIZER_SPLIT_REMOVED;
        }
        add_cuts(&w->cuts, behavior, invert, p.start, p.origin, &w->next);
    }
    struct tokenizer_split_piece *v = w->pieces.v;
    size_t cap = w->pieces.cap;
    w->pieces.v = w->next.v;
    w->pieces.n = w->next.n;
    w->pieces.cap = w->next.cap;
    w->next.v = v;
    w->next.cap = cap;
    return 0;
}

static void split_byte_level(struct tokenizer_split_work *w, struct tokenizer_split_piece p) {
    struct buf *out = &w->next.text;
    const char *s = w->pieces.text.data + p.start;
    size_t start = out->len;
    tokenizer_norm_byte_level(out, s, p.origin);
    size_t origin = out->len - start;
    tokenizer_norm_byte_level(out, s + p.origin, p.end - p.start - p.origin);
    add_piece(&w->next, start, out->len, origin);
}

static size_t split_first_char(const char *s) {
    unsigned char c = (unsigned char)*s;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* Where the text is prepended to, the first character of it shares its origin. */
static size_t prepended(size_t origin, size_t added, size_t first) {
    if (origin == 0) return 0;
    return added + (origin > first ? origin : first);
}

static void prefix_space(struct tokenizer_split_work *w, struct tokenizer_split_piece p) {
    struct buf *out = &w->next.text;
    const char *s = w->pieces.text.data + p.start;
    size_t start = out->len, origin = p.origin;
    if (*s != ' ') {
        buf_add(out, " ", 1);
        origin = prepended(origin, 1, split_first_char(s));
    }
    buf_add(out, s, p.end - p.start);
    add_piece(&w->next, start, out->len, origin);
}

/* Blanks become the replacement, and one stands in front where the scheme wants it and none is;
 * then pieces begin at each. origin, the bytes that were there before, moves with what is added. */
static void metaspace(const struct tokenizer_split_step *st, struct tokenizer_split_work *w,
                      struct tokenizer_split_piece p) {
    struct buf *out = &w->next.text;
    const char *s = w->pieces.text.data + p.start;
    size_t n = p.end - p.start, start = out->len, origin = p.origin, len = st->replacement_len;
    bool has = *s == ' ' || (n >= len && memcmp(s, st->replacement, len) == 0);
    bool wanted = st->prepend == TOKENIZER_SPLIT_PREPEND_ALWAYS ||
                  (st->prepend == TOKENIZER_SPLIT_PREPEND_FIRST && p.origin > 0);
    size_t added = 0;
    if (wanted && !has) {
        buf_add(out, st->replacement, len);
        added = len;
        origin = prepended(origin, added, split_first_char(s));
    }
    for (size_t i = 0; i < n; i++) {
        if (s[i] == ' ') {
            buf_add(out, st->replacement, len);
            if (i < p.origin) origin += len - 1;
        } else {
            buf_add(out, s + i, 1);
        }
    }
    if (!st->split) {
        add_piece(&w->next, start, out->len, origin);
        return;
    }
    cut_replacement(st, out->data + start, out->len - start, &w->cuts);
    add_cuts(&w->cuts, TOKENIZER_SPLIT_MERGED_WITH_NEXT, false, start, origin, &w->next);
}

/* Steps that rewrite. */
static void rewrite_step(const struct tokenizer_split_step *st, struct tokenizer_split_work *w) {
    w->next.n = 0;
    buf_reset(&w->next.text);
    for (size_t i = 0; i < w->pieces.n; i++) {
        if (st->kind == TOKENIZER_SPLIT_BYTE_LEVEL)
            split_byte_level(w, w->pieces.v[i]);
        else if (st->kind == TOKENIZER_SPLIT_PREFIX_SPACE)
            prefix_space(w, w->pieces.v[i]);
        else
            metaspace(st, w, w->pieces.v[i]);
    }
    struct tokenizer_split_pieces swap = w->pieces;
    w->pieces = w->next;
    w->next = swap;
}

int tokenizer_split_apply(const struct tokenizer_split *sp, struct tokenizer_split_work *w,
                          struct tokenizer_regex_scan *scan, const char *s, size_t n,
                          size_t origin) {
    w->pieces.n = 0;
    buf_reset(&w->pieces.text);
    buf_add(&w->pieces.text, s, n);
    add_piece(&w->pieces, 0, n, origin);
    for (size_t i = 0; i < sp->n; i++) {
        enum tokenizer_split_kind k = sp->v[i].kind;
        if (k == TOKENIZER_SPLIT_BYTE_LEVEL || k == TOKENIZER_SPLIT_METASPACE ||
            k == TOKENIZER_SPLIT_PREFIX_SPACE)
            rewrite_step(&sp->v[i], w);
        else
            TRY(cut_step(&sp->v[i], w, scan));
    }
    return 0;
}
