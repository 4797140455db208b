/* hash.c - see hash.h. The only file that includes xxhash. */
#include "base/hash.h"

#include "base/err.h"

#include <stdio.h>
#include <xxhash.h>

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
    XXH128_hash_t h = XXH3_128bits_digest((const XXH3_state_t *)s);
    return (struct hash){.hi = h.high64, .lo = h.low64};
}

void hash_stream_close(struct hash_stream **s) {
    if (!*s) return;
    XXH3_freeState((XXH3_state_t *)*s);
    *s = NULL;
}
