/* kv_memory.h - what kv.h's store keeps when it is in memory: key and value pairs, ordered. It
 * outlives the handles, as a folder does: a test that lets a process die opens what was written. */
#ifndef BASE_KV_MEMORY_H
#define BASE_KV_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct kv_memory;

struct kv_pair {
    char *key, *value; /* value: one byte more, which is 0 */
    size_t n_key, bytes;
};

struct kv_memory *kv_memory_open(void);
void kv_memory_close(struct kv_memory **m);
void kv_memory_put(struct kv_memory *m, const char *key, size_t n_key, const char *value,
                   size_t bytes); /* copies */
void kv_memory_delete(struct kv_memory *m, const char *key, size_t n_key);
/* The first pair whose key is not below this one; NULL: there is none. Valid until a change. */
const struct kv_pair *kv_memory_seek(const struct kv_memory *m, const char *key, size_t n_key);

#endif
