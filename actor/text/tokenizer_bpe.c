/* tokenizer_bpe.c - byte-pair encoding of one pre-token, see tokenizer_bpe.h.
 *
 * The rule: while some adjacent pair of symbols has a merge, apply the one of lowest rank, leftmost
 * first. Pre-tokens are mostly a few characters, where scanning an array of ranks beats any queue;
 * but sentencepiece-style files have no pre-tokenizer, so that a whole document, or 100,000 equal
 * letters, is one word: from SCAN_MAX symbols on, a heap of candidate pairs over a linked list does
 * it in n log n. Both give the same symbols, since both always apply the least (rank, position).
 *
 * All look-ups are open addressing with linear probing at a load below 0.6: strings by their hash,
 * merges by the pair of ids, and characters of the basic plane through a direct table. */
#include "actor/text/tokenizer_bpe.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { SCAN_MAX = 40, CHAR_TABLE = 65536 };
static const uint32_t NO_RANK = UINT32_MAX;

static uint32_t table_size(size_t n) {
    uint32_t size = 16;
    while (size < n + n / 2 + n / 4 + 1)
        size *= 2;
    return size;
}

void tokenizer_bpe_vocab_init(struct tokenizer_vocab *v, int32_t size, size_t tokens,
                              size_t bytes) {
    ASSERT(size >= 0 && size <= TOKENIZER_IDS_MAX && bytes + tokens < UINT32_MAX);
    *v = (struct tokenizer_vocab){.size = size};
    v->text = mem_alloc(bytes + tokens + 1);
    v->start = mem_alloc((size_t)size * sizeof *v->start + 1);
    v->len = mem_array((size_t)size + 1, sizeof *v->len);
    memset(v->start, 0xFF, (size_t)size * sizeof *v->start);
    uint32_t slots = table_size(tokens);
    v->mask = slots - 1;
    v->slot = mem_alloc(slots * sizeof *v->slot);
    memset(v->slot, 0xFF, slots * sizeof *v->slot);
}

void tokenizer_bpe_vocab_close(struct tokenizer_vocab *v) {
    mem_free(v->text);
    mem_free(v->start);
    mem_free(v->len);
    mem_free(v->slot);
    *v = (struct tokenizer_vocab){0};
}

/* The slot of this text, or the empty one where it would go. */
static int32_t *vocab_slot(const struct tokenizer_vocab *v, const char *s, size_t n) {
    uint32_t i = (uint32_t)hash64(s, n, 0) & v->mask;
    while (v->slot[i] >= 0) {
        int32_t id = v->slot[i];
        if (v->len[id] == n && memcmp(v->text + v->start[id], s, n) == 0) break;
        i = (i + 1) & v->mask;
    }
    return &v->slot[i];
}

int tokenizer_bpe_vocab_add(struct tokenizer_vocab *v, const char *s, size_t n, int32_t id,
                            const char *name) {
    ASSERT(id >= 0 && id < v->size);
    if (v->start[id] != UINT32_MAX)
        return FAIL(ERR_CORRUPT, "%s: model.vocab: id %d is given to \"%s\" and to \"%s\"", name,
                    id, v->text + v->start[id], s);
    int32_t *slot = vocab_slot(v, s, n);
    if (*slot >= 0)
        return FAIL(ERR_CORRUPT, "%s: model.vocab: token \"%s\" is there twice, with ids %d and %d",
                    name, s, *slot, id);
    *slot = id;
    v->start[id] = (uint32_t)v->used;
    v->len[id] = (uint32_t)n;
    memcpy(v->text + v->used, s, n);
    v->text[v->used + n] = '\0';
    v->used += n + 1;
    v->count++;
    return 0;
}

int32_t tokenizer_bpe_vocab_find(const struct tokenizer_vocab *v, const char *s, size_t n) {
    return v->slot ? *vocab_slot(v, s, n) : -1;
}

const char *tokenizer_bpe_vocab_text(const struct tokenizer_vocab *v, int32_t id, size_t *n) {
    if (id < 0 || id >= v->size || v->start[id] == UINT32_MAX) return NULL;
    *n = v->len[id];
    return v->text + v->start[id];
}

void tokenizer_bpe_merges_init(struct tokenizer_bpe *m, size_t n) {
    uint32_t slots = table_size(n);
    m->merges = mem_alloc(slots * sizeof *m->merges);
    memset(m->merges, 0xFF, slots * sizeof *m->merges);
    m->merges_mask = slots - 1;
}

static struct tokenizer_merge *merge_slot(const struct tokenizer_bpe *m, int32_t left,
                                          int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t h = key * 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio (Knuth, TAOCP 6.4) */
    uint32_t i = (uint32_t)(h >> 32) & m->merges_mask;
    while (m->merges[i].left >= 0 && (m->merges[i].left != left || m->merges[i].right != right))
        i = (i + 1) & m->merges_mask;
    return &m->merges[i];
}

void tokenizer_bpe_merges_add(struct tokenizer_bpe *m, int32_t left, int32_t right, uint32_t rank,
                              int32_t merged) {
    *merge_slot(m, left, right) = (struct tokenizer_merge){left, right, rank, merged};
}

static uint32_t merge_rank(const struct tokenizer_bpe *m, int32_t left, int32_t right,
                           int32_t *merged) {
    const struct tokenizer_merge *e = merge_slot(m, left, right);
    if (e->left < 0) return NO_RANK;
    *merged = e->merged;
    return e->rank;
}

void tokenizer_bpe_ready(struct tokenizer_bpe *m) {
    if (!m->merges) tokenizer_bpe_merges_init(m, 0);
    m->char_id = mem_alloc(CHAR_TABLE * sizeof *m->char_id);
    memset(m->char_id, 0xFF, CHAR_TABLE * sizeof *m->char_id);
    for (int32_t id = 0; id < m->vocab.size; id++) {
        size_t n;
        uint32_t cp;
        const char *s = tokenizer_bpe_vocab_text(&m->vocab, id, &n);
        if (!s || n == 0 || n > 3) continue;
        if (utf8_decode(s, n, &cp) == (int)n && cp < CHAR_TABLE) m->char_id[cp] = id;
    }
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        m->byte_id[b] = tokenizer_bpe_vocab_find(&m->vocab, name, 6);
    }
}

void tokenizer_bpe_close(struct tokenizer_bpe *m) {
    tokenizer_bpe_vocab_close(&m->vocab);
    mem_free(m->merges);
    mem_free(m->char_id);
    mem_free(m->prefix);
    mem_free(m->suffix);
    mem_free(m->unk);
    mem_free(m->name);
    *m = (struct tokenizer_bpe){0};
}

void tokenizer_bpe_ids_add(struct tokenizer_ids *ids, int32_t id) {
    if (ids->n == ids->cap) mem_grow(&ids->v, &ids->cap, ids->n + 1, sizeof *ids->v);
    ids->v[ids->n++] = id;
}

struct link {
    uint32_t prev, next; /* index of the neighbour; UINT32_MAX: none */
};
struct candidate {
    uint32_t rank, pos;
    int32_t merged;
};
struct tokenizer_word {
    struct tokenizer_ids sym; /* symbols of the word; -1: merged into one to the left */
    struct link *links;
    size_t links_cap;
    struct candidate *heap;
    size_t heap_n, heap_cap;
    char *text; /* a character with prefix and suffix */
    size_t text_cap;
};

struct tokenizer_word *tokenizer_bpe_word_open(void) {
    return mem_zalloc(sizeof(struct tokenizer_word));
}

void tokenizer_bpe_word_close(struct tokenizer_word **w) {
    if (!*w) return;
    mem_free((*w)->sym.v);
    mem_free((*w)->links);
    mem_free((*w)->heap);
    mem_free((*w)->text);
    mem_free(*w);
    *w = NULL;
}

static bool candidate_less(struct candidate a, struct candidate b) {
    return a.rank < b.rank || (a.rank == b.rank && a.pos < b.pos);
}

static void heap_push(struct tokenizer_word *w, struct candidate c) {
    if (w->heap_n == w->heap_cap) mem_grow(&w->heap, &w->heap_cap, w->heap_n + 1, sizeof *w->heap);
    size_t i = w->heap_n++;
    while (i > 0 && candidate_less(c, w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static struct candidate heap_pop(struct tokenizer_word *w) {
    struct candidate top = w->heap[0], last = w->heap[--w->heap_n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_n) break;
        if (child + 1 < w->heap_n && candidate_less(w->heap[child + 1], w->heap[child])) child++;
        if (!candidate_less(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->heap_n) w->heap[i] = last;
    return top;
}

static void propose(const struct tokenizer_bpe *m, struct tokenizer_word *w, uint32_t pos,
                    uint32_t next) {
    struct candidate c = {.pos = pos};
    c.rank = merge_rank(m, w->sym.v[pos], w->sym.v[next], &c.merged);
    if (c.rank != NO_RANK) heap_push(w, c);
}

/* Long words: heap of candidates; an entry whose pair has changed meanwhile is skipped. */
static void merge_long(const struct tokenizer_bpe *m, struct tokenizer_word *w) {
    int32_t *sym = w->sym.v;
    uint32_t n = (uint32_t)w->sym.n;
    mem_grow(&w->links, &w->links_cap, n, sizeof *w->links);
    struct link *link = w->links;
    for (uint32_t i = 0; i < n; i++)
        link[i] = (struct link){i ? i - 1 : UINT32_MAX, i + 1 < n ? i + 1 : UINT32_MAX};
    w->heap_n = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        propose(m, w, i, i + 1);
    while (w->heap_n) {
        struct candidate c = heap_pop(w);
        uint32_t next = link[c.pos].next;
        int32_t merged = -1;
        if (sym[c.pos] < 0 || next == UINT32_MAX) continue;
        if (merge_rank(m, sym[c.pos], sym[next], &merged) == NO_RANK || merged != c.merged)
            continue;
        sym[c.pos] = merged;
        sym[next] = -1;
        link[c.pos].next = link[next].next;
        if (link[c.pos].next != UINT32_MAX) link[link[c.pos].next].prev = c.pos;
        if (link[c.pos].prev != UINT32_MAX) propose(m, w, link[c.pos].prev, c.pos);
        if (link[c.pos].next != UINT32_MAX) propose(m, w, c.pos, link[c.pos].next);
    }
}

/* Short words: the rank of every pair in an array, the least one found by scanning. */
static void merge_short(const struct tokenizer_bpe *m, struct tokenizer_word *w) {
    uint32_t rank[SCAN_MAX];
    int32_t merged[SCAN_MAX], *sym = w->sym.v;
    size_t n = w->sym.n;
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = merge_rank(m, sym[i], sym[i + 1], &merged[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NO_RANK) break;
        sym[best] = merged[best];
        size_t tail = n - best - 2; /* symbols after the merged pair */
        memmove(sym + best + 1, sym + best + 2, tail * sizeof *sym);
        if (tail) {
            memmove(rank + best + 1, rank + best + 2, (tail - 1) * sizeof *rank);
            memmove(merged + best + 1, merged + best + 2, (tail - 1) * sizeof *merged);
        }
        n--;
        if (best + 1 < n) rank[best] = merge_rank(m, sym[best], sym[best + 1], &merged[best]);
        if (best) rank[best - 1] = merge_rank(m, sym[best - 1], sym[best], &merged[best - 1]);
    }
    w->sym.n = n;
}

/* Id of one character, with the prefix of inner and the suffix of last characters; *s, *n become
 * the text that was looked up. */
static int32_t char_id(const struct tokenizer_bpe *m, struct tokenizer_word *w, const char **s,
                       size_t *n, bool first, bool last) {
    bool prefix = m->prefix_len && !first, suffix = m->suffix_len && last;
    if (!prefix && !suffix) {
        uint32_t cp;
        utf8_decode(*s, *n, &cp);
        if (cp < CHAR_TABLE) return m->char_id[cp];
        return tokenizer_bpe_vocab_find(&m->vocab, *s, *n);
    }
    size_t len = 0;
    mem_grow(&w->text, &w->text_cap, m->prefix_len + *n + m->suffix_len, 1);
    if (prefix) memcpy(w->text, m->prefix, len = m->prefix_len);
    memcpy(w->text + len, *s, *n);
    len += *n;
    if (suffix) {
        memcpy(w->text + len, m->suffix, m->suffix_len);
        len += m->suffix_len;
    }
    *s = w->text;
    *n = len;
    return tokenizer_bpe_vocab_find(&m->vocab, *s, *n);
}

/* True if every byte has its token; then they are added. */
static bool add_bytes(const struct tokenizer_bpe *m, struct tokenizer_word *w, const char *s,
                      size_t n) {
    for (size_t i = 0; i < n; i++)
        if (m->byte_id[(unsigned char)s[i]] < 0) return false;
    for (size_t i = 0; i < n; i++)
        tokenizer_bpe_ids_add(&w->sym, m->byte_id[(unsigned char)s[i]]);
    return true;
}

/* Characters to symbols. An unknown character waits in `unk`, so that fuse_unk can join the next
 * one to it; as in the reference, byte tokens overtake a waiting one. */
static int symbols(const struct tokenizer_bpe *m, struct tokenizer_word *w, const char *s,
                   size_t n) {
    int32_t unk = -1;
    w->sym.n = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int len = utf8_decode(s + i, n - i, &cp);
        ASSERT(len > 0);
        const char *text = s + i;
        size_t bytes = (size_t)len;
        int32_t id = char_id(m, w, &text, &bytes, i == 0, i + (size_t)len == n);
        i += (size_t)len;
        if (id >= 0) {
            if (unk >= 0) tokenizer_bpe_ids_add(&w->sym, unk);
            unk = -1;
            tokenizer_bpe_ids_add(&w->sym, id);
            continue;
        }
        if (m->byte_fallback && add_bytes(m, w, text, bytes)) continue;
        if (!m->unk) continue;
        if (unk >= 0 && m->fuse_unk) continue;
        if (unk >= 0) tokenizer_bpe_ids_add(&w->sym, unk);
        unk = tokenizer_bpe_vocab_find(&m->vocab, m->unk, m->unk_len);
        if (unk < 0)
            return FAIL(ERR_CORRUPT,
                        "%s: character U+%04X is unknown and model.unk_token \"%s\" is not in the "
                        "vocabulary",
                        m->name, cp, m->unk);
    }
    if (unk >= 0) tokenizer_bpe_ids_add(&w->sym, unk);
    return 0;
}

int tokenizer_bpe_encode(const struct tokenizer_bpe *m, struct tokenizer_word *w, const char *s,
                         size_t n, struct tokenizer_ids *out) {
    if (m->ignore_merges) {
        int32_t id = tokenizer_bpe_vocab_find(&m->vocab, s, n);
        if (id >= 0) {
            tokenizer_bpe_ids_add(out, id);
            return 0;
        }
    }
    TRY(symbols(m, w, s, n));
    if (w->sym.n <= SCAN_MAX)
        merge_short(m, w);
    else
        merge_long(m, w);
    for (size_t i = 0; i < w->sym.n; i++)
        if (w->sym.v[i] >= 0) tokenizer_bpe_ids_add(out, w->sym.v[i]);
    return 0;
}
