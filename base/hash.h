/* hash.h - content hashes (XXH3, 128 bit). Not cryptographic: they catch torn, mixed and damaged
 * data, not an attacker.
 *
 * The hash of a slab of weights is a tree of two levels: the hash of the hashes of its blocks and
 * of its length. So blocks can be hashed in any order, in slices, by several threads, and while
 * they are copied. */
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
/* The 16 bytes of a hash in messages and records: hi, then lo, little endian. */
void hash_put(uint8_t out[16], struct hash h);
struct hash hash_get(const uint8_t in[16]);
bool hash_from_hex(struct hash *out, const char *hex); /* false unless exactly 32 hex digits */

enum { HASH_BLOCK = 1 << 18 };    /* bytes of a block; the last one may be shorter */
size_t hash_blocks(size_t bytes); /* how many blocks a slab has */
/* Hashes blocks first..first+n-1 of the slab into leaf[first].. and, unless `to` is NULL, copies
 * them to the same place there, in one pass over the memory. What is hashed is what was read: a
 * copy is whole if its hashes are right and nobody wrote to `to`. */
void hash_leaves(struct hash *leaf, void *to, const void *data, size_t bytes, size_t first,
                 size_t n);
struct hash hash_root(const struct hash *leaf, size_t bytes);
/* All of it, by at most `threads` threads (0: one for each core, at most 4): fewer for small ones.
 */
struct hash hash_slab(void *to, const void *data, size_t bytes, int threads);

struct hash_stream; /* the same value as hash_bytes over the concatenation */
struct hash_stream *hash_stream_open(void);
void hash_stream_add(struct hash_stream *s, const void *data, size_t bytes);
struct hash hash_stream_value(const struct hash_stream *s);
void hash_stream_close(struct hash_stream **s);

#endif
