/* hash.c - see hash.h. The only file that includes xxhash.
 *
 * Hashing and copying a slab at once is limited by the memory, not by either: steps of a kilobyte
 * are small enough that the processor hashes one while the stores of another leave. The stores go
 * past the cache, because a slab is larger than it and nobody reads it here next. Where the library
 * was built to choose its instructions at run time, that is used: twice as fast as SSE2. */
#include "base/hash.h"

#include "base/err.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

enum {
    STEP = 1024,           /* bytes hashed and copied at a time */
    AHEAD = 3 * STEP,      /* and fetched before */
    STREAM_MIN = 2 << 20,  /* smaller slabs are copied through the cache */
    THREAD_MIN = 16 << 20, /* bytes that are worth another thread */
    THREADS_MAX = 4
};

struct hash hash_bytes(const void *data, size_t bytes) {
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    return (struct hash){.hi = h.high64, .lo = h.low64};
}

uint64_t hash64(const void *data, size_t bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(data, bytes, seed);
}

bool hash_equal(struct hash a, struct hash b) {
    return a.hi == b.hi && a.lo == b.lo;
}

bool hash_is_zero(struct hash h) {
    return h.hi == 0 && h.lo == 0;
}

void hash_hex(struct hash h, char out[HASH_HEX]) {
    snprintf(out, HASH_HEX, "%016llx%016llx", (unsigned long long)h.hi, (unsigned long long)h.lo);
}

static bool hex_word(uint64_t *out, const char *s) {
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        char c = s[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a' + 10);
        else
            return false;
        v = v << 4 | digit;
    }
    *out = v;
    return true;
}

bool hash_from_hex(struct hash *out, const char *hex) {
    struct hash h;
    if (!hex_word(&h.hi, hex) || !hex_word(&h.lo, hex + 16) || hex[32] != '\0') return false;
    *out = h;
    return true;
}

/* --- slabs --------------------------------------------------------------------------------- */

size_t hash_blocks(size_t bytes) {
    return (bytes + HASH_BLOCK - 1) / HASH_BLOCK;
}

#if defined(__x86_64__)
/* Stores past the cache. n: a multiple of 64; `to` aligned to 32. */
__attribute__((target("avx"))) static void stream_step(char *to, const char *from, size_t n) {
    for (size_t i = 0; i < n; i += 64) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(from + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + i + 32));
        _mm_prefetch(from + i + AHEAD, _MM_HINT_T0);
        _mm256_stream_si256((__m256i *)(void *)(to + i), a);
        _mm256_stream_si256((__m256i *)(void *)(to + i + 32), b);
    }
}

static bool can_stream(const void *to, size_t bytes) {
    return bytes >= STREAM_MIN && (uintptr_t)to % 32 == 0 && __builtin_cpu_supports("avx");
}

static void stream_end(void) {
    _mm_sfence();
}
#else
static void stream_step(char *to, const char *from, size_t n) {
    memcpy(to, from, n);
}

static bool can_stream(const void *to, size_t bytes) {
    (void)to, (void)bytes;
    return false;
}

static void stream_end(void) {
}
#endif

static struct hash hash_value(const XXH3_state_t *s) {
    XXH128_hash_t h = XXH3_128bits_digest(s);
    return (struct hash){.hi = h.high64, .lo = h.low64};
}

/* With `to`, copy and hash in one pass, in steps that stay in the cache between the two. */
void hash_leaves(struct hash *leaf, void *to, const void *data, size_t bytes, size_t first,
                 size_t n) {
    bool stream = to && can_stream(to, bytes);
    XXH3_state_t *s = XXH3_createState();
    ASSERT(s);
    for (size_t b = first; b < first + n; b++) {
        size_t at = b * HASH_BLOCK, end = bytes - at < HASH_BLOCK ? bytes : at + HASH_BLOCK;
        const char *from = data;
        if (!to) {
            leaf[b] = hash_bytes(from + at, end - at);
            continue;
        }
        XXH3_128bits_reset(s);
        for (size_t step; at < end; at += step) {
            step = end - at < STEP ? end - at : STEP;
            XXH3_128bits_update(s, from + at, step);
            if (stream && step % 64 == 0)
                stream_step((char *)to + at, from + at, step);
            else
                memcpy((char *)to + at, from + at, step);
        }
        leaf[b] = hash_value(s);
    }
    XXH3_freeState(s);
    if (stream) stream_end();
}

struct hash hash_root(const struct hash *leaf, size_t bytes) {
    XXH3_state_t *s = XXH3_createState();
    ASSERT(s);
    XXH3_128bits_reset(s);
    for (size_t b = 0; b < hash_blocks(bytes) + 1; b++) {
        struct hash h = b ? leaf[b - 1] : (struct hash){.hi = 0, .lo = bytes};
        uint8_t text[16]; /* little endian whatever the machine */
        for (int i = 0; i < 8; i++) {
            text[i] = (uint8_t)(h.hi >> (8 * i));
            text[8 + i] = (uint8_t)(h.lo >> (8 * i));
        }
        XXH3_128bits_update(s, text, sizeof text);
    }
    struct hash h = hash_value(s);
    XXH3_freeState(s);
    return h;
}

struct part { /* a thread's share of a slab */
    struct hash *leaf;
    void *to;
    const void *data;
    size_t bytes, first, n;
    pthread_t thread;
    bool started;
};

static void *run_part(void *arg) {
    struct part *p = arg;
    hash_leaves(p->leaf, p->to, p->data, p->bytes, p->first, p->n);
    return NULL;
}

static size_t threads_for(size_t bytes, int threads) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = threads > 0 ? (size_t)threads : cores > 0 ? (size_t)cores : 1;
    if (n > THREADS_MAX) n = THREADS_MAX;
    return n > 1 + bytes / THREAD_MIN ? 1 + bytes / THREAD_MIN : n;
}

/* A thread that cannot be had is not missed: its share is done here. */
struct hash hash_slab(void *to, const void *data, size_t bytes, int threads) {
    size_t blocks = hash_blocks(bytes), n = threads_for(bytes, threads);
    struct hash *leaf = mem_array(blocks, sizeof *leaf);
    struct part part[THREADS_MAX];
    for (size_t i = 0; i < n; i++) {
        size_t first = blocks * i / n;
        part[i] = (struct part){.leaf = leaf,
                                .to = to,
                                .data = data,
                                .bytes = bytes,
                                .first = first,
                                .n = blocks * (i + 1) / n - first};
        if (i > 0) part[i].started = pthread_create(&part[i].thread, NULL, run_part, &part[i]) == 0;
    }
    for (size_t i = 0; i < n; i++)
        if (!part[i].started) run_part(&part[i]);
    for (size_t i = 0; i < n; i++)
        if (part[i].started) pthread_join(part[i].thread, NULL);
    struct hash h = hash_root(leaf, bytes);
    mem_free(leaf);
    return h;
}

/* --- streams ------------------------------------------------------------------------------- */

struct hash_stream *hash_stream_open(void) {
    XXH3_state_t *s = XXH3_createState();
    ASSERT(s);
    XXH3_128bits_reset(s);
    return (struct hash_stream *)s; /* the opaque type is xxhash's own state */
}

void hash_stream_add(struct hash_stream *s, const void *data, size_t bytes) {
    XXH3_128bits_update((XXH3_state_t *)s, data, bytes);
}

struct hash hash_stream_value(const struct hash_stream *s) {
    return hash_value((const XXH3_state_t *)s);
}

void hash_stream_close(struct hash_stream **s) {
    if (!*s) return;
    XXH3_freeState((XXH3_state_t *)*s);
    *s = NULL;
}
