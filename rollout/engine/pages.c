/* pages.c - references and the prefix cache of the K/V pool.
 *
 * Every page has two entries in one hash table of chained lists: its full content and a beginning
 * of it (the end of a prompt, from which the rest of a group copies). Entries are preallocated at
 * index 2 * page + kind, so nothing is allocated after opening and eviction needs no search. Free
 * and kept pages are two doubly linked lists in the same arrays.
 *
 * A key is a 128-bit hash chained over the tokens from the start of the sequence and rooted in the
 * version: equal keys mean equal tokens under equal weights, hence (I6) equal bits in the pool. */
#include "rollout/engine/pages.h"

#include "base/err.h"
#include "base/mem.h"

#include <stddef.h>

enum { NONE = -1, FULL = 0, BEGINNING = 1, KINDS = 2 };

struct entry {
    struct hash key;
    int32_t next; /* in the bucket */
    bool used;
};

struct list { /* of pages, through prev and next; first is given up first */
    int32_t first, last, n;
};

struct pages {
    int32_t n, n_buckets; /* n_buckets: a power of two */
    int32_t *refs, *prev, *next, *bucket;
    struct entry *entry; /* [KINDS * n] */
    struct list free, kept;
};

static void list_append(struct pages *p, struct list *l, int32_t page) {
    p->prev[page] = l->last;
    p->next[page] = NONE;
    if (l->last == NONE)
        l->first = page;
    else
        p->next[l->last] = page;
    l->last = page;
    l->n++;
}

static void list_remove(struct pages *p, struct list *l, int32_t page) {
    int32_t before = p->prev[page], after = p->next[page];
    if (before == NONE)
        l->first = after;
    else
        p->next[before] = after;
    if (after == NONE)
        l->last = before;
    else
        p->prev[after] = before;
    l->n--;
}

static int32_t buckets_for(int32_t n) {
    int32_t buckets = 16;
    while (buckets < KINDS * n && buckets < 1 << 29)
        buckets *= 2;
    return buckets;
}

size_t pages_bytes(int32_t n) {
    size_t page = 3 * sizeof(int32_t) + KINDS * sizeof(struct entry);
    return sizeof(struct pages) + (size_t)n * page + (size_t)buckets_for(n) * sizeof(int32_t);
}

struct pages *pages_open(int32_t n) {
    ASSERT(n > 0);
    struct pages *p = mem_zalloc(sizeof *p);
    p->n = n;
    p->n_buckets = buckets_for(n);
    p->refs = mem_array((size_t)n, sizeof *p->refs);
    p->prev = mem_array((size_t)n, sizeof *p->prev);
    p->next = mem_array((size_t)n, sizeof *p->next);
    p->entry = mem_array((size_t)n * KINDS, sizeof *p->entry);
    p->bucket = mem_array((size_t)p->n_buckets, sizeof *p->bucket);
    for (int32_t i = 0; i < p->n_buckets; i++)
        p->bucket[i] = NONE;
    p->free = p->kept = (struct list){NONE, NONE, 0};
    for (int32_t i = 0; i < n; i++)
        list_append(p, &p->free, i);
    return p;
}

void pages_close(struct pages **p) {
    if (!*p) return;
    mem_free((*p)->refs);
    mem_free((*p)->prev);
    mem_free((*p)->next);
    mem_free((*p)->entry);
    mem_free((*p)->bucket);
    mem_free(*p);
    *p = NULL;
}

/* --- keys ----------------------------------------------------------------------------------- */

struct hash pages_root(int64_t version) {
    return hash_bytes(&version, sizeof version);
}

struct hash pages_key(struct hash parent, const int32_t *tokens, int32_t n) {
    ASSERT(n > 0);
    struct hash own = hash_bytes(tokens, (size_t)n * sizeof *tokens);
    uint64_t words[4] = {parent.hi, parent.lo, own.hi, own.lo};
    return hash_bytes(words, sizeof words);
}

static int32_t *bucket_of(struct pages *p, struct hash key) {
    return &p->bucket[key.lo & (uint64_t)(p->n_buckets - 1)];
}

static int32_t entry_find(struct pages *p, struct hash key) {
    int32_t e = *bucket_of(p, key);
    while (e != NONE && !hash_equal(p->entry[e].key, key))
        e = p->entry[e].next;
    return e;
}

static void entry_remove(struct pages *p, int32_t e) {
    if (!p->entry[e].used) return;
    int32_t *at = bucket_of(p, p->entry[e].key);
    while (*at != e)
        at = &p->entry[*at].next;
    *at = p->entry[e].next;
    p->entry[e].used = false;
}

static void unpublish(struct pages *p, int32_t page) {
    entry_remove(p, KINDS * page + FULL);
    entry_remove(p, KINDS * page + BEGINNING);
}

static bool is_published(const struct pages *p, int32_t page) {
    return p->entry[KINDS * page + FULL].used || p->entry[KINDS * page + BEGINNING].used;
}

void pages_publish(struct pages *p, int32_t page, struct hash key, bool full) {
    ASSERT(page >= 0 && page < p->n && p->refs[page] > 0);
    if (entry_find(p, key) != NONE) return;
    int32_t e = KINDS * page + (full ? FULL : BEGINNING);
    ASSERT(!p->entry[e].used);
    int32_t *head = bucket_of(p, key);
    p->entry[e] = (struct entry){.key = key, .next = *head, .used = true};
    *head = e;
}

void pages_forget(struct pages *p) {
    while (p->kept.first != NONE) {
        int32_t page = p->kept.first;
        list_remove(p, &p->kept, page);
        unpublish(p, page);
        list_append(p, &p->free, page);
    }
    for (int32_t page = 0; page < p->n; page++)
        unpublish(p, page);
}

/* --- references ------------------------------------------------------------------------------ */

int32_t pages_take(struct pages *p) {
    int32_t page = p->free.first;
    if (page != NONE) {
        list_remove(p, &p->free, page);
    } else if (p->kept.first != NONE) {
        page = p->kept.first;
        list_remove(p, &p->kept, page);
        unpublish(p, page);
    } else {
        return NONE;
    }
    ASSERT(p->refs[page] == 0 && !is_published(p, page));
    p->refs[page] = 1;
    return page;
}

int32_t pages_find(struct pages *p, struct hash key) {
    int32_t e = entry_find(p, key);
    if (e == NONE) return NONE;
    int32_t page = e / KINDS;
    if (p->refs[page] == 0) list_remove(p, &p->kept, page);
    p->refs[page]++;
    return page;
}

void pages_put(struct pages *p, int32_t page) {
    ASSERT(page >= 0 && page < p->n && p->refs[page] > 0);
    if (--p->refs[page] > 0) return;
    list_append(p, is_published(p, page) ? &p->kept : &p->free, page);
}

int32_t pages_refs(const struct pages *p, int32_t page) {
    ASSERT(page >= 0 && page < p->n);
    return p->refs[page];
}

int32_t pages_available(const struct pages *p) {
    return p->free.n + p->kept.n;
}

int32_t pages_total(const struct pages *p) {
    return p->n;
}

/* --- checking -------------------------------------------------------------------------------- */

static int32_t check_list(const struct pages *p, const struct list *l, bool published) {
    int32_t n = 0, before = NONE;
    for (int32_t i = l->first; i != NONE; i = p->next[i]) {
        ASSERT(p->refs[i] == 0 && p->prev[i] == before);
        ASSERT(is_published(p, i) == published);
        before = i;
        n++;
    }
    ASSERT(n == l->n && before == l->last);
    return n;
}

void pages_check(const struct pages *p) {
    int32_t idle = check_list(p, &p->free, false) + check_list(p, &p->kept, true);
    int32_t in_use = 0, used = 0, chained = 0;
    for (int32_t i = 0; i < p->n; i++) {
        ASSERT(p->refs[i] >= 0);
        in_use += p->refs[i] > 0;
    }
    ASSERT(idle + in_use == p->n);
    for (int32_t e = 0; e < KINDS * p->n; e++)
        used += p->entry[e].used;
    for (int32_t b = 0; b < p->n_buckets; b++)
        for (int32_t e = p->bucket[b]; e != NONE; e = p->entry[e].next) {
            ASSERT(p->entry[e].used);
            chained++;
        }
    ASSERT(used == chained);
}
