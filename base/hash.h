/* hash.h - content hashes (XXH3, 128 bit). Not cryptographic: they catch torn, mixed and damaged
 * data, not an attacker. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_HEX = 33 }; /* characters of a hash in hex, with the final NUL */

struct hash {
    uint64_t hi, lo;
};

struct hash hash_bytes(const void *data, size_t bytes);
uint64_t hash64(const void *data, size_t bytes, uint64_t seed);
bool hash_equal(struct hash a, struct hash b);
bool hash_is_zero(struct hash h);
void hash_hex(struct hash h, char out[HASH_HEX]);
bool hash_from_hex(struct hash *out, const char *hex); /* false unless exactly 32 hex digits */

struct hash_stream; /* the same value as hash_bytes over the concatenation */
struct hash_stream *hash_stream_open(void);
void hash_stream_add(struct hash_stream *s, const void *data, size_t bytes);
struct hash hash_stream_value(const struct hash_stream *s);
void hash_stream_close(struct hash_stream **s);

#endif
