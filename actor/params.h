/* params.h - the weights of a policy: one slab of backend memory and a flat table of name, shape
 * and offset. The table is a function of the shape alone, so two slabs of one shape (weights,
 * gradients, moments, a version in shared memory) have the same layout. Names are Hugging Face's
 * ("model.layers.0.self_attn.q_proj.weight").
 *
 * A shape with a value head has one more entry, "value_head.weight" [1, d], at the end: what comes
 * before it is the policy, laid out as without one. Only the policy is hashed, published and
 * written as model.safetensors; the head goes into a file of its own beside it. */
#ifndef ACTOR_PARAMS_H
#define ACTOR_PARAMS_H

#include "actor/shape.h"
#include "base/hash.h"
#include "kernels/kernels.h"

struct params_entry {
    char name[96];
    int64_t offset, n;  /* elements from the start of the slab; n = rows * cols */
    int64_t rows, cols; /* a vector has rows 1 */
    bool is_matrix;     /* decayed by AdamW; vectors (norms, biases) are not */
};

struct params; /* opaque: the table and the slab */

/* A zeroed slab of this shape in the backend's memory, f32 or, if shape.bf16, bf16; the table has
 * alignment gaps (zero) so that every entry starts at a multiple of 16 elements. */
MUST_CHECK int params_open(struct params **out, const struct kern_backend *b,
                           const struct shape *s);
void params_close(struct params **p);

/* Reads DIR/model.safetensors or DIR/model.safetensors.index.json + shards (F32, F16, BF16 -> f32,
 * or rounded to nearest even to bf16).
 * Every tensor of the table must be there with its shape; tensors the table does not know are an
 * error, except rotary_emb.inv_freq buffers and, in a tied model, an lm_head with the values of the
 * embedding (others: ERR_MISMATCH). A value head is read from
 * DIR/value_head.safetensors; without that file it is zero. */
MUST_CHECK int params_load(struct params *p, const char *dir);
/* What params_load would refuse, without reading the weights; s as shape_read gives it. */
MUST_CHECK int params_check(const struct shape *s, const char *dir);
/* Writes DIR/model.safetensors (F32 or BF16), sharded with an index above shard_bytes (0: never).
 * Atomic per file. A value head: DIR/value_head.safetensors, F32. */
MUST_CHECK int params_save(const struct params *p, const char *dir, enum kern_dtype dtype,
                           size_t shard_bytes);
/* Normal(0, 0.02) matrices (residual outputs scaled by 1/sqrt(2*layers)), ones for norms, zeros for
 * biases and the value head; a function of (seed, shape). */
MUST_CHECK int params_init(struct params *p, uint64_t seed);

const struct shape *params_shape(const struct params *p);
const struct kern_backend *params_backend(const struct params *p);
size_t params_count(const struct params *p); /* entries */
const struct params_entry *params_entry(const struct params *p, size_t i);
const struct params_entry *params_find(const struct params *p,
                                       const char *name); /* NULL: not in the table */
struct kern_tensor params_slab(const struct params *p);   /* [slab elements] */
struct kern_tensor params_view(const struct params *p,
                               const struct params_entry *e); /* [rows, cols] or [cols] */
int64_t params_slab_elements(const struct shape *s);          /* without opening anything */
int64_t params_policy_elements(const struct shape *s);        /* of them, the policy's: the first */
size_t params_slab_bytes(const struct shape *s);
size_t params_policy_bytes(const struct shape *s);

/* to = from, which may be of the other type; ordered on the stream. */
MUST_CHECK int params_cast(struct params *to, const struct params *from, struct kern_stream *s);
/* Copies host memory of slab layout in or out (all of it; getting as many bytes as the policy has
 * gives the policy). */
MUST_CHECK int params_put(struct params *p, const void *host, size_t bytes);
MUST_CHECK int params_get(const struct params *p, void *host, size_t bytes);
MUST_CHECK int params_zero(struct params *p);
/* hash_slab of the policy's bytes: the content hash of a version. */
MUST_CHECK int params_hash(struct hash *out, const struct params *p);
/* params_get of the policy and params_hash in one pass over the memory, on stream s (NULL: p's
 * own): with one of its own another thread may do it while this one reads the same weights. */
MUST_CHECK int params_get_hashed(struct hash *out, const struct params *p, struct kern_stream *s,
                                 void *host, size_t bytes);
/* Copies blocks first..first+n-1 (hash.h) of a policy in host memory in and writes the hashes of
 * what it copied into leaf: a version is taken over in slices, and was whole if hash_root agrees.
 */
MUST_CHECK int params_put_blocks(struct params *p, const void *host, size_t bytes, size_t first,
                                 size_t n, struct hash *leaf);
/* The same from memory of p's own backend: the leaves are those of what p has then. */
MUST_CHECK int params_copy_blocks(struct params *p, const void *there, size_t bytes, size_t first,
                                  size_t n, struct hash *leaf);
/* All of it. ERR_CORRUPT: what was copied has another hash; the slab's content is of no use. */
MUST_CHECK int params_put_hashed(struct params *p, const void *host, size_t bytes,
                                 struct hash hash);

#endif
