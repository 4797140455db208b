/* kv_memory.c - see kv_memory.h. A sorted array: a simulated run has some hundred records, which
 * are mostly written in order of their keys within a kind. */
#include "base/kv_memory.h"

#include "base/mem.h"

#include <string.h>

struct kv_memory {
    struct kv_pair *pair;
    size_t n, cap;
};

struct kv_memory *kv_memory_open(void) {
    return mem_zalloc(sizeof(struct kv_memory));
}

void kv_memory_close(struct kv_memory **memory) {
    struct kv_memory *m = *memory;
    if (!m) return;
    for (size_t i = 0; i < m->n; i++) {
        mem_free(m->pair[i].key);
        mem_free(m->pair[i].value);
    }
    mem_free(m->pair);
    mem_free(m);
    *memory = NULL;
}

static int compare_key(const struct kv_pair *p, const char *key, size_t n_key) {
    int c = memcmp(p->key, key, p->n_key < n_key ? p->n_key : n_key);
    return c != 0 ? c : (p->n_key > n_key) - (p->n_key < n_key);
}

/* Index of the first pair that is not below the key. */
static size_t find(const struct kv_memory *m, const char *key, size_t n_key) {
    size_t low = 0, high = m->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare_key(&m->pair[mid], key, n_key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool is_at(const struct kv_memory *m, size_t i, const char *key, size_t n_key) {
    return i < m->n && compare_key(&m->pair[i], key, n_key) == 0;
}

static char *copy(const char *data, size_t n) {
    char *out = mem_alloc(n + 1);
    if (n > 0) memcpy(out, data, n);
    out[n] = '\0';
    return out;
}

void kv_memory_put(struct kv_memory *m, const char *key, size_t n_key, const char *value,
                   size_t bytes) {
    size_t i = find(m, key, n_key);
    if (is_at(m, i, key, n_key)) {
        mem_free(m->pair[i].value);
    } else {
        mem_grow(&m->pair, &m->cap, m->n + 1, sizeof *m->pair);
        memmove(&m->pair[i + 1], &m->pair[i], (m->n - i) * sizeof *m->pair);
        m->pair[i] = (struct kv_pair){.key = copy(key, n_key), .n_key = n_key};
        m->n++;
    }
    m->pair[i].value = copy(value, bytes);
    m->pair[i].bytes = bytes;
}

void kv_memory_delete(struct kv_memory *m, const char *key, size_t n_key) {
    size_t i = find(m, key, n_key);
    if (!is_at(m, i, key, n_key)) return;
    mem_free(m->pair[i].key);
    mem_free(m->pair[i].value);
    memmove(&m->pair[i], &m->pair[i + 1], (m->n - i - 1) * sizeof *m->pair);
    m->n--;
}

const struct kv_pair *kv_memory_seek(const struct kv_memory *m, const char *key, size_t n_key) {
    size_t i = find(m, key, n_key);
    return i < m->n ? &m->pair[i] : NULL;
}
