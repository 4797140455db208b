/* tokenizer_norm.c - normalizers, see tokenizer_norm.h.
 *
 * Unicode normalization is put together from utf8proc's per-character decomposition, an ordering of
 * marks of our own (stable and linear: a text of 100,000 marks must not cost their square) and
 * utf8proc's composition. The reference's tables are older than utf8proc's: what it does not know
 * is copied and separates what stands before it from what comes after.
 *
 * Text that no normalization form changes, which is nearly all text, is recognised by its largest
 * character and not touched. */
#include "actor/text/tokenizer_norm.h"

#include "actor/text/tokenizer_tables.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

void tokenizer_norm_close(struct tokenizer_norm *nm) {
    for (size_t i = 0; i < nm->n; i++) {
        tokenizer_regex_close(&nm->v[i].pattern);
        mem_free(nm->v[i].text);
    }
    mem_free(nm->v);
    *nm = (struct tokenizer_norm){0};
}

static void add_char(struct buf *b, uint32_t cp) {
    char c[4];
    buf_add(b, c, (size_t)utf8_encode(cp, c));
}

/* GPT-2's mapping: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and on. */
uint32_t tokenizer_norm_byte_char(unsigned char byte) {
    if ((byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD)) return byte;
    if (byte <= ' ') return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int tokenizer_norm_char_byte(uint32_t cp) {
    if ((cp >= '!' && cp <= '~') || (cp >= 0xA1 && cp <= 0xFF && cp != 0xAD)) return (int)cp;
    if (cp < 0x100 || cp > 0x143) return -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    return cp == 0x143 ? 0xAD : (int)(cp - 0x121 + 0x7F);
}

void tokenizer_norm_byte_level(struct buf *out, const char *s, size_t n) {
    mem_grow(&out->data, &out->cap, out->len + 2 * n + 1, 1);
    for (size_t i = 0; i < n; i++) {
        uint32_t cp = tokenizer_norm_byte_char((unsigned char)s[i]);
        out->len += (size_t)utf8_encode(cp, out->data + out->len);
    }
    out->data[out->len] = '\0';
}

/* Code points of one stretch of text, decomposed. */
struct marks {
    int32_t *v;
    size_t n, cap;
};

static int combining(int32_t cp) {
    return utf8proc_get_property(cp)->combining_class;
}

/* Stable counting sort of v[0..n) by combining class. */
static void order_run(int32_t *v, size_t n, struct marks *tmp) {
    size_t at[257] = {0};
    mem_grow(&tmp->v, &tmp->cap, n, sizeof *tmp->v);
    for (size_t i = 0; i < n; i++)
        at[(combining(v[i]) & 0xFF) + 1]++;
    for (size_t c = 1; c < 257; c++)
        at[c] += at[c - 1];
    for (size_t i = 0; i < n; i++)
        tmp->v[at[combining(v[i]) & 0xFF]++] = v[i];
    memcpy(v, tmp->v, n * sizeof *v);
}

static void order(struct marks *m, struct marks *tmp) {
    for (size_t i = 0; i < m->n;) {
        size_t end = i;
        while (end < m->n && combining(m->v[end]) != 0)
            end++;
        if (end - i > 1) order_run(m->v + i, end - i, tmp);
        i = end > i ? end : i + 1;
    }
}

static void finish_stretch(struct buf *out, struct marks *m, struct marks *tmp, int options) {
    order(m, tmp);
    utf8proc_ssize_t n = (utf8proc_ssize_t)m->n;
    if (n && (options & UTF8PROC_COMPOSE))
        n = utf8proc_normalize_utf32(m->v, n, (utf8proc_option_t)options);
    ASSERT(n >= 0);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        add_char(out, (uint32_t)m->v[i]);
    m->n = 0;
}

static void decompose(struct marks *m, uint32_t cp, int options) {
    int boundary = 0;
    mem_grow(&m->v, &m->cap, m->n + 32, sizeof *m->v); /* the longest decomposition has 18 */
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, m->v + m->n, 32,
                                                 (utf8proc_option_t)options, &boundary);
    ASSERT(n >= 0 && n <= 32);
    m->n += (size_t)n;
}

static void unicode(struct buf *out, const char *s, size_t n, int options) {
    struct marks m = {0}, tmp = {0};
    int split = (options & ~UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        int len = utf8_decode(s + i, n - i, &cp);
        ASSERT(len > 0);
        i += (size_t)len;
        if (tokenizer_unicode_is_unnormalized(cp)) {
            finish_stretch(out, &m, &tmp, options);
            add_char(out, cp);
        } else {
            decompose(&m, cp, split);
        }
    }
    finish_stretch(out, &m, &tmp, options);
    mem_free(m.v);
    mem_free(tmp.v);
}

/* First code point that the form may change or reorder; below it the text is in the form. */
static uint32_t form_limit(enum tokenizer_norm_kind kind) {
    if (kind == TOKENIZER_NORM_NFC) return 0x300;
    return kind == TOKENIZER_NORM_NFD ? 0xC0 : 0xA0;
}

static bool is_below(const char *s, size_t n, uint32_t limit) {
    for (size_t i = 0; i < n;) {
        uint32_t cp = (unsigned char)s[i];
        int len = 1;
        if (cp >= 0x80) len = utf8_decode(s + i, n - i, &cp);
        if (len <= 0 || cp >= limit) return false;
        i += (size_t)len;
    }
    return true;
}

static size_t norm_first_char(const char *s, size_t n) {
    uint32_t cp;
    int len = utf8_decode(s, n, &cp);
    return len > 0 ? (size_t)len : 0;
}

/* The first characters of valid UTF-8, at most max of them. */
static struct extent { size_t chars, bytes; } extent_of(const struct buf *b, size_t max) {
    struct extent e = {0};
    for (; e.bytes < b->len && e.chars < max; e.chars++)
        e.bytes += norm_first_char(b->data + e.bytes, b->len - e.bytes);
    return e;
}

/* Leaves the form in tmp; false if the text is in it already. */
static bool unicode_form(const struct tokenizer_norm_step *st, struct tokenizer_norm_text *t,
                         struct buf *tmp) {
    if (is_below(t->b.data, t->b.len, form_limit(st->kind))) return false;
    bool compose = st->kind == TOKENIZER_NORM_NFC || st->kind == TOKENIZER_NORM_NFKC;
    bool compat = st->kind == TOKENIZER_NORM_NFKC || st->kind == TOKENIZER_NORM_NFKD;
    int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (compat ? UTF8PROC_COMPAT : 0);
    size_t from_start = 0; /* characters that become of those from the start */
    if (t->origin) {
        unicode(tmp, t->b.data, t->origin, options);
        from_start = extent_of(tmp, SIZE_MAX).chars;
        buf_reset(tmp);
    }
    unicode(tmp, t->b.data, t->b.len, options);
    t->origin = extent_of(tmp, from_start).bytes; /* one may have composed with what follows */
    return true;
}

static void lowercase(struct tokenizer_norm_text *t, struct buf *tmp) {
    size_t origin = 0;
    for (size_t i = 0; i < t->b.len;) {
        uint32_t cp = 0, out[2];
        int len = utf8_decode(t->b.data + i, t->b.len - i, &cp);
        ASSERT(len > 0);
        i += (size_t)len;
        int n = tokenizer_unicode_lower(cp, out);
        for (int k = 0; k < n; k++)
            add_char(tmp, out[k]);
        if (i <= t->origin) origin = tmp->len;
    }
    t->origin = origin;
}

/* Unicode's blanks, at the sides that the step names; origin moves with the text. */
static void strip_blanks(const struct tokenizer_norm_step *st, struct tokenizer_norm_text *t,
                         struct buf *tmp) {
    const char *s = t->b.data;
    size_t start = 0, end = t->b.len;
    uint32_t cp;
    int len;
    while (st->left && start < end && (len = utf8_decode(s + start, end - start, &cp)) > 0 &&
           tokenizer_unicode_is_space(cp))
        start += (size_t)len;
    while (st->right && end > start) {
        size_t at = end - 1;
        while (((unsigned char)s[at] & 0xC0) == 0x80)
            at--;
        if (utf8_decode(s + at, end - at, &cp) <= 0 || !tokenizer_unicode_is_space(cp)) break;
        end = at;
    }
    buf_add(tmp, s + start, end - start);
    t->origin = t->origin > start ? t->origin - start : 0;
    if (t->origin > tmp->len) t->origin = tmp->len;
}

static void prepend(const struct tokenizer_norm_step *st, struct tokenizer_norm_text *t,
                    struct buf *tmp) {
    buf_add(tmp, st->text, st->text_len);
    buf_add(tmp, t->b.data, t->b.len);
    size_t first = norm_first_char(t->b.data, t->b.len);
    if (t->origin) t->origin = st->text_len + (t->origin > first ? t->origin : first);
}

static int replace(const struct tokenizer_norm_step *st, struct tokenizer_norm_text *t,
                   struct buf *tmp, struct tokenizer_cuts *cuts,
                   struct tokenizer_regex_scan *scan) {
    size_t origin = 0;
    TRY(tokenizer_regex_cut(st->pattern, scan, t->b.data, t->b.len, cuts));
    for (size_t i = 0; i < cuts->n; i++) {
        struct tokenizer_cut c = cuts->v[i];
        size_t at = tmp->len;
        if (c.hit)
            buf_add(tmp, st->text, st->text_len);
        else
            buf_add(tmp, t->b.data + c.start, c.end - c.start);
        /* New text belongs to the last byte that it replaces. */
        if (c.end <= t->origin)
            origin = tmp->len;
        else if (!c.hit && c.start < t->origin)
            origin = at + t->origin - c.start;
    }
    t->origin = t->origin ? origin : 0;
    return 0;
}

static void norm_byte_level(struct tokenizer_norm_text *t, struct buf *tmp) {
    tokenizer_norm_byte_level(tmp, t->b.data, t->origin);
    size_t origin = tmp->len;
    tokenizer_norm_byte_level(tmp, t->b.data + t->origin, t->b.len - t->origin);
    t->origin = origin;
}

int tokenizer_norm_apply(const struct tokenizer_norm *nm, struct tokenizer_norm_text *t,
                         struct buf *tmp, struct tokenizer_cuts *cuts,
                         struct tokenizer_regex_scan *scan) {
    for (size_t i = 0; i < nm->n; i++) {
        const struct tokenizer_norm_step *st = &nm->v[i];
        if (t->b.len == 0) return 0; /* no step makes something of nothing */
        buf_reset(tmp);
        switch (st->kind) {
        case TOKENIZER_NORM_NFC:
        case TOKENIZER_NORM_NFD:
        case TOKENIZER_NORM_NFKC:
        case TOKENIZER_NORM_NFKD:
            if (!unicode_form(st, t, tmp)) continue;
            break;
        case TOKENIZER_NORM_LOWERCASE: lowercase(t, tmp); break;
        case TOKENIZER_NORM_STRIP: strip_blanks(st, t, tmp); break;
        case TOKENIZER_NORM_PREPEND: prepend(st, t, tmp); break;
        case TOKENIZER_NORM_REPLACE: TRY(replace(st, t, tmp, cuts, scan)); break;
        case TOKENIZER_NORM_BYTE_LEVEL: norm_byte_level(t, tmp); break;
        }
        struct buf swap = t->b;
        t->b = *tmp;
        *tmp = swap;
    }
    return 0;
}
