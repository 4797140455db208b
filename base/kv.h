/* kv.h - an ordered key-value store (RocksDB) with atomic write batches: the rollout log. kv.c is
 * the only file that includes rocksdb. One writer process; readers may open read-only beside it. A
 * full disk is ERR_IO naming the path. */
#ifndef BASE_KV_H
#define BASE_KV_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KV_PARTS_MAX = 8 };

struct kv;
struct kv_batch;
struct kv_iter;

/* Waits up to ten seconds for another process that holds the store. */
MUST_CHECK int kv_open(struct kv **out, const char *dir, bool create);
MUST_CHECK int kv_open_readonly(struct kv **out, const char *dir);
/* Of a damaged store as much as can be read: damaged parts of its log of writes are passed over, a
 * list of tables that is lost is made anew from the tables. Changes the files in dir, so dir must
 * be a copy. */
MUST_CHECK int kv_open_damaged(struct kv **out, const char *dir);
/* A store in memory, which it borrows. name: for messages. */
struct kv_memory;
struct kv *kv_open_memory(struct kv_memory *memory, const char *name);
void kv_close(struct kv **k);

/* *value: mem_free. ERR_NOTFOUND. */
MUST_CHECK int kv_get(struct kv *k, const void *key, size_t n_key, char **value, size_t *bytes);

struct kv_batch *kv_batch_open(void);
void kv_batch_close(struct kv_batch **b);
void kv_batch_put(struct kv_batch *b, const void *key, size_t n_key, const void *value,
                  size_t bytes);
void kv_batch_delete(struct kv_batch *b, const void *key, size_t n_key);
struct kv_part {
    const void *data;
    size_t bytes;
};
/* The value is the parts one after the other, 1 to KV_PARTS_MAX. */
void kv_batch_put_parts(struct kv_batch *b, const void *key, size_t n_key,
                        const struct kv_part *parts, size_t n);
size_t kv_batch_count(const struct kv_batch *b);
size_t kv_batch_bytes(const struct kv_batch *b);
/* All or nothing; sync: on disk before it returns. The batch is empty afterwards, on failure it is
 * kept. */
MUST_CHECK int kv_write(struct kv *k, struct kv_batch *b, bool sync);

/* Keys that start with prefix, ascending, from `from` (>= prefix; NULL: prefix) on. key and value
 * are valid until the next call. kv_iter_next: 1 there is one, 0 the end, negative an error. */
MUST_CHECK int kv_iter_open(struct kv_iter **out, struct kv *k, const void *prefix, size_t n_prefix,
                            const void *from, size_t n_from);
MUST_CHECK int kv_iter_next(struct kv_iter *it, const char **key, size_t *n_key, const char **value,
                            size_t *bytes);
void kv_iter_close(struct kv_iter **it);

#endif
