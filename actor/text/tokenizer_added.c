/* tokenizer_added.c - finding added tokens in a text, see tokenizer_added.h.
 *
 * Leftmost-longest: at each position the longest text that starts there wins, then the search goes
 * on behind it. Texts are sorted, so walking a candidate byte by byte only narrows a range of the
 * sorted array; positions whose byte starts no text cost one look at a table. The flags are applied
 * to a match afterwards and in the reference's order, quirks included: a match that single_word
 * rejects still hides what it overlaps, and rstrip may reach into the next match. */
#include "actor/text/tokenizer_added.h"

#include "actor/text/tokenizer_tables.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

const char *tokenizer_added_text(const struct tokenizer_added_token *t, size_t *n) {
    *n = t->normalized ? t->normalized_len : t->content_len;
    return t->normalized ? t->normalized : t->content;
}

void tokenizer_added_init(struct tokenizer_added *a, size_t n, size_t bytes) {
    tokenizer_bpe_vocab_init(&a->index, (int32_t)n, n, bytes);
    a->v = mem_array(n + 1, sizeof *a->v);
}

int tokenizer_added_take(struct tokenizer_added *a, struct tokenizer_added_token t,
                         const char *name) {
    int at = (int)a->n;
    a->v[a->n++] = t;
    TRY(tokenizer_bpe_vocab_add(&a->index, t.content, t.content_len, at, name));
    return at;
}

static int compare_text(const char *a, size_t na, const char *b, size_t nb) {
    int c = memcmp(a, b, na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static int by_text(const void *x, const void *y, void *ctx) {
    const struct tokenizer_added *a = ctx;
    size_t nx, ny;
    const char *tx = tokenizer_added_text(&a->v[*(const int32_t *)x], &nx);
    const char *ty = tokenizer_added_text(&a->v[*(const int32_t *)y], &ny);
    return compare_text(tx, nx, ty, ny);
}

/* Sorts the texts of one set and notes where each first byte begins, so that a split looks only at
 * bytes that can begin a token. Empty and equal texts are refused: they would match anywhere, or
 * two ids at one place. */
static int index_set(struct tokenizer_added *a, int set, const char *name) {
    int32_t *v = a->sorted[set] = mem_array(a->n + 1, sizeof *v);
    size_t n = 0, len, other;
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].normalize == (set == 1)) v[n++] = (int32_t)i;
    a->sorted_n[set] = n;
    qsort_r(v, n, sizeof *v, by_text, a);
    uint32_t at = 0;
    for (int byte = 0; byte <= 256; byte++) {
        a->first[set][byte] = at;
        while (at < n && (unsigned char)*tokenizer_added_text(&a->v[v[at]], &len) == byte)
            at++;
    }
    for (size_t i = 0; i < n; i++) {
        const char *t = tokenizer_added_text(&a->v[v[i]], &len);
        if (len == 0)
            return FAIL(ERR_CORRUPT, "%s: added_tokens: \"%s\" is empty after normalization", name,
                        a->v[v[i]].content);
        if (i == 0) continue;
        const char *u = tokenizer_added_text(&a->v[v[i - 1]], &other);
        if (compare_text(t, len, u, other) == 0)
            return FAIL(ERR_CORRUPT, "%s: added_tokens: ids %d and %d both have the text \"%s\"",
                        name, a->v[v[i - 1]].id, a->v[v[i]].id, t);
    }
    return 0;
}

/* As in the reference, decoding compares texts: a token is left out if what it decodes to is the
 * content of some special token. */
static void mark_skipped(struct tokenizer_added *a) {
    for (size_t i = 0; i < a->n; i++) {
        size_t n;
        const char *text = tokenizer_added_text(&a->v[i], &n);
        if (!a->v[i].normalized) {
            a->v[i].skipped = a->v[i].special;
            continue;
        }
        const struct tokenizer_added_token *t = tokenizer_added_find(a, text, n);
        a->v[i].skipped = t && t->special;
    }
}

int tokenizer_added_ready(struct tokenizer_added *a, const char *name) {
    if (a->n == 0) return 0;
    int32_t lo = a->v[0].id, hi = lo;
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].id < lo) lo = a->v[i].id;
        if (a->v[i].id > hi) hi = a->v[i].id;
    }
    a->by_id_first = lo;
    a->by_id_n = hi - lo + 1;
    a->by_id = mem_alloc((size_t)a->by_id_n * sizeof *a->by_id);
    memset(a->by_id, 0xFF, (size_t)a->by_id_n * sizeof *a->by_id);
    for (size_t i = 0; i < a->n; i++)
        a->by_id[a->v[i].id - lo] = (int32_t)i;
    TRY(index_set(a, 0, name));
    TRY(index_set(a, 1, name));
    mark_skipped(a);
    return 0;
}

void tokenizer_added_close(struct tokenizer_added *a) {
    for (size_t i = 0; i < a->n; i++) {
        mem_free(a->v[i].content);
        mem_free(a->v[i].normalized);
    }
    tokenizer_bpe_vocab_close(&a->index);
    mem_free(a->v);
    mem_free(a->by_id);
    mem_free(a->sorted[0]);
    mem_free(a->sorted[1]);
    *a = (struct tokenizer_added){0};
}

const struct tokenizer_added_token *tokenizer_added_get(const struct tokenizer_added *a,
                                                        int32_t id) {
    if (id < a->by_id_first || id >= a->by_id_first + a->by_id_n) return NULL;
    int32_t i = a->by_id[id - a->by_id_first];
    return i < 0 ? NULL : &a->v[i];
}

const struct tokenizer_added_token *tokenizer_added_find(const struct tokenizer_added *a,
                                                         const char *s, size_t n) {
    int32_t i = tokenizer_bpe_vocab_find(&a->index, s, n);
    return i < 0 ? NULL : &a->v[i];
}

/* Byte at depth of the i-th text of a set, -1 at its end. */
static int byte_at(const struct tokenizer_added *a, int set, size_t i, size_t depth) {
    size_t n;
    const char *t = tokenizer_added_text(&a->v[a->sorted[set][i]], &n);
    return depth < n ? (unsigned char)t[depth] : -1;
}

/* First index in lo..hi whose byte at depth is >= byte; texts there agree before depth. */
static size_t lower_bound(const struct tokenizer_added *a, int set, size_t lo, size_t hi,
                          size_t depth, int byte) {
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (byte_at(a, set, mid, depth) < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool tokenizer_added_guarded(const struct tokenizer_guard *g,
                             const struct tokenizer_added_token *t) {
    if (t->special) return true;
    for (size_t i = 0; i < g->n_also; i++)
        if (g->also[i] == t->id) return true;
    return false;
}

/* How many bytes of a match of t at [from, to) of the guarded text are passed over: 0 where it is a
 * token. Inside the guarded text the match still hides what it overlaps, as in the reference; one
 * that begins there and ends behind it hides nothing. */
static size_t passed_over(const struct tokenizer_guard *g, const struct tokenizer_added_token *t,
                          size_t from, size_t to) {
    if (!g || !tokenizer_added_guarded(g, t)) return 0;
    for (size_t i = 0; i < g->n; i++)
        if (g->span[i].start < to && from < g->span[i].end)
            return from >= g->span[i].start && to <= g->span[i].end ? to - from : 1;
    return 0;
}

/* Longest text of the set that s starts with; NULL if none. */
static const struct tokenizer_added_token *longest(const struct tokenizer_added *a, int set,
                                                   const char *s, size_t n) {
    size_t lo = a->first[set][(unsigned char)s[0]], hi = a->first[set][(unsigned char)s[0] + 1];
    const struct tokenizer_added_token *best = NULL;
    for (size_t depth = 1; lo < hi; depth++) {
        if (byte_at(a, set, lo, depth) < 0) best = &a->v[a->sorted[set][lo++]];
        if (depth >= n) break;
        int byte = (unsigned char)s[depth];
        lo = lower_bound(a, set, lo, hi, depth, byte);
        hi = lower_bound(a, set, lo, hi, depth, byte + 1);
    }
    return best;
}

static uint32_t char_before(const char *s, size_t at, size_t *start) {
    uint32_t cp = 0;
    do
        at--;
    while (((unsigned char)s[at] & 0xC0) == 0x80);
    utf8_decode(s + at, 4, &cp); /* valid UTF-8: the lead byte bounds the read */
    *start = at;
    return cp;
}

static bool is_word_alone(const char *s, size_t n, size_t start, size_t end) {
    uint32_t cp;
    size_t at;
    if (start > 0 && tokenizer_unicode_is_word(char_before(s, start, &at))) return false;
    return end == n || utf8_decode(s + end, n - end, &cp) <= 0 || !tokenizer_unicode_is_word(cp);
}

static size_t strip_left(const char *s, size_t start) {
    size_t at;
    while (start > 0 && tokenizer_unicode_is_space(char_before(s, start, &at)))
        start = at;
    return start;
}

static size_t strip_right(const char *s, size_t n, size_t end) {
    uint32_t cp;
    int len;
    while (end < n && (len = utf8_decode(s + end, n - end, &cp)) > 0 &&
           tokenizer_unicode_is_space(cp))
        end += (size_t)len;
    return end;
}

static void add_token(struct tokenizer_added_pieces *out, size_t start, size_t end, int32_t id) {
    if (start >= end) return;
    mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v);
    out->v[out->n++] = (struct tokenizer_added_piece){start, end, id};
}

void tokenizer_added_split(const struct tokenizer_added *a, int set, const char *s, size_t n,
                           const struct tokenizer_guard *guard, size_t at,
                           struct tokenizer_added_pieces *out) {
    size_t done = 0;
    out->n = 0;
    if (a->n == 0 || a->sorted_n[set] == 0) {
        add_token(out, 0, n, -1);
        return;
    }
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        const struct tokenizer_added_token *t = NULL;
        if (a->first[set][c] != a->first[set][c + 1]) t = longest(a, set, s + i, n - i);
        if (!t) {
            i++;
            continue;
        }
        size_t len, start = i;
        tokenizer_added_text(t, &len);
        size_t over = passed_over(guard, t, at + i, at + i + len);
        if (over > 0) {
            i += over;
            continue;
        }
        size_t end = i += len;
        if (t->single_word && !is_word_alone(s, n, start, end)) continue;
        if (t->lstrip) {
            start = strip_left(s, start);
            if (start < done) start = done;
        }
        if (t->rstrip) end = strip_right(s, n, end);
        add_token(out, done, start, -1);
        add_token(out, start, end, t->id);
        done = end;
    }
    add_token(out, done, n, -1);
}
