/* call.h - the checked calls: one kern_x() for each entry of the table, in the table's order.
 *
 * Each checks that the backend has the op (else ERR_UNSUP naming op and backend), then dtype, rank,
 * shape and bytes of every argument (else ERR_CONFIG naming op, argument, what it is and what was
 * wanted), and calls the table. Batches of no rows succeed without reaching the backend. Shapes and
 * meaning stand beside the entries in backend.h. */
#ifndef KERNELS_CALL_H
#define KERNELS_CALL_H

#include "kernels/backend.h"

#define KERN_CALL MUST_CHECK int

KERN_CALL kern_alloc(kern_on b, void **out, size_t bytes);
void kern_release(kern_on b, void *p); /* accepts NULL */
KERN_CALL kern_stream_open(kern_on b, struct kern_stream **out, size_t scratch_bytes);
void kern_stream_close(kern_on b, struct kern_stream *s); /* accepts NULL */
KERN_CALL kern_sync(kern_on b, struct kern_stream *s);
KERN_CALL kern_put(kern_on b, struct kern_stream *s, void *dst, const void *host_src, size_t bytes);
KERN_CALL kern_get(kern_on b, struct kern_stream *s, void *host_dst, const void *src, size_t bytes);
KERN_CALL kern_copy(kern_on b, struct kern_stream *s, void *dst, const void *src, size_t bytes);
KERN_CALL kern_zero(kern_on b, struct kern_stream *s, void *dst, size_t bytes);
KERN_CALL kern_after(kern_on b, struct kern_stream *s, struct kern_stream *other);
KERN_CALL kern_alloc_host(kern_on b, void **out, size_t bytes);
void kern_release_host(kern_on b, void *p); /* accepts NULL */
bool kern_records(kern_on b);               /* whether it has the next four */
KERN_CALL kern_record_begin(kern_on b, struct kern_stream *s);
KERN_CALL kern_record_end(kern_on b, struct kern_stream *s, struct kern_graph **out);
KERN_CALL kern_replay(kern_on b, struct kern_stream *s, struct kern_graph *g);
void kern_graph_close(kern_on b, struct kern_graph *g); /* accepts NULL */
bool kern_has_memory(kern_on b);                        /* of its own: kern_memory says how much */
KERN_CALL kern_memory(kern_on b, size_t *left, size_t *total);
bool kern_always_exact(kern_on b); /* kern_exact has no choice to give */
KERN_CALL kern_exact(kern_on b, struct kern_stream *s, bool exact);

bool kern_can_share(kern_on b); /* whether it has the next three */
KERN_CALL kern_share(kern_on b, struct kern_shared *out, void *p, size_t bytes);
/* ERR_MISMATCH: it is on another device, or not of `bytes`. */
KERN_CALL kern_open_shared(kern_on b, void **out, const struct kern_shared *m, size_t bytes);
void kern_close_shared(kern_on b, void *p, const struct kern_shared *m); /* accepts NULL */

KERN_CALL kern_embed(kern_on b, struct kern_stream *s, kern_arg out, kern_arg table, kern_arg ids);
KERN_CALL kern_rmsnorm(kern_on b, struct kern_stream *s, kern_arg out, kern_arg x, kern_arg w,
                       float eps);
KERN_CALL kern_matmul(kern_on b, struct kern_stream *s, kern_arg y, kern_arg x, kern_arg w,
                      kern_arg packed, kern_arg bias);
KERN_CALL kern_rope(kern_on b, struct kern_stream *s, kern_arg x, kern_arg pos, kern_arg cos,
                    kern_arg sin, bool inverse);
KERN_CALL kern_kv_write(kern_on b, struct kern_stream *s, kern_arg pool_k, kern_arg pool_v,
                        kern_arg k, kern_arg v, kern_arg slot);
KERN_CALL kern_attention(kern_on b, struct kern_stream *s, kern_arg out, kern_arg lse, kern_arg q,
                         kern_arg pool_k, kern_arg pool_v, const struct kern_attn *a);
KERN_CALL kern_swiglu(kern_on b, struct kern_stream *s, kern_arg out, kern_arg gate, kern_arg up);
KERN_CALL kern_add(kern_on b, struct kern_stream *s, kern_arg out, kern_arg x, kern_arg y);
KERN_CALL kern_gather(kern_on b, struct kern_stream *s, kern_arg out, kern_arg x, kern_arg rows);
KERN_CALL kern_logprob(kern_on b, struct kern_stream *s, kern_arg logprob, kern_arg entropy,
                       kern_arg lse, kern_arg logits, kern_arg target, kern_arg inv_temp);
KERN_CALL kern_sample(kern_on b, struct kern_stream *s, kern_arg token, kern_arg logprob,
                      kern_arg kept, kern_arg logits, kern_arg temperature, kern_arg top_p,
                      kern_arg top_k, kern_arg uniform);
KERN_CALL kern_add_rmsnorm(kern_on b, struct kern_stream *s, kern_arg out, kern_arg sum, kern_arg x,
                           kern_arg r, kern_arg w, float eps);
KERN_CALL kern_norm_rope(kern_on b, struct kern_stream *s, kern_arg q, kern_arg q0, kern_arg w,
                         float eps, kern_arg pos, kern_arg cos, kern_arg sin);

/* Scratch that ops need from their stream within these limits. */
size_t kern_scratch_bytes(kern_on b, const struct kern_limits *l);
/* Of a weight of type t; 0: this backend does not pack. */
size_t kern_pack_bytes(kern_on b, enum kern_dtype t, int64_t out, int64_t in);
KERN_CALL kern_pack_weight(kern_on b, struct kern_stream *s, kern_arg packed, kern_arg w);
KERN_CALL kern_cast(kern_on b, struct kern_stream *s, kern_arg dst, kern_arg src);
KERN_CALL kern_hash_leaves(kern_on b, struct kern_stream *s, struct hash *leaf, const void *data,
                           size_t bytes);

KERN_CALL kern_embed_bwd(kern_on b, struct kern_stream *s, kern_arg gtable, kern_arg gout,
                         kern_arg ids);
KERN_CALL kern_rmsnorm_bwd(kern_on b, struct kern_stream *s, kern_arg gx, kern_arg gw,
                           kern_arg gout, kern_arg x, kern_arg w, float eps, bool accumulate);
KERN_CALL kern_matmul_dx(kern_on b, struct kern_stream *s, kern_arg gx, kern_arg gy, kern_arg w,
                         bool accumulate);
KERN_CALL kern_matmul_dw(kern_on b, struct kern_stream *s, kern_arg gw, kern_arg gbias, kern_arg gy,
                         kern_arg x);
KERN_CALL kern_attention_bwd(kern_on b, struct kern_stream *s, kern_arg gq, kern_arg gpool_k,
                             kern_arg gpool_v, kern_arg gout, kern_arg out, kern_arg lse,
                             kern_arg q, kern_arg pool_k, kern_arg pool_v,
                             const struct kern_attn *a);
KERN_CALL kern_kv_read(kern_on b, struct kern_stream *s, kern_arg k, kern_arg v, kern_arg pool_k,
                       kern_arg pool_v, kern_arg slot);
KERN_CALL kern_swiglu_bwd(kern_on b, struct kern_stream *s, kern_arg ggate, kern_arg gup,
                          kern_arg gout, kern_arg gate, kern_arg up);
KERN_CALL kern_scatter_add(kern_on b, struct kern_stream *s, kern_arg x, kern_arg g, kern_arg rows);
KERN_CALL kern_logprob_bwd(kern_on b, struct kern_stream *s, kern_arg logits, kern_arg g_logprob,
                           kern_arg g_entropy, kern_arg entropy, kern_arg lse, kern_arg target,
                           kern_arg inv_temp);

KERN_CALL kern_adamw(kern_on b, struct kern_stream *s, kern_arg w, kern_arg m, kern_arg v,
                     kern_arg g, const struct kern_adamw *p);
KERN_CALL kern_dot(kern_on b, struct kern_stream *s, double out[3], kern_arg x, kern_arg y);
KERN_CALL kern_axpby(kern_on b, struct kern_stream *s, kern_arg y, float alpha, kern_arg x,
                     float beta);
KERN_CALL kern_count_bits(kern_on b, struct kern_stream *s, int64_t *out, kern_arg words);

KERN_CALL kern_coll_open(kern_on b, struct kern_coll **out, const char *name, int rank, int n_ranks,
                         int deadline_ms);
void kern_coll_close(kern_on b, struct kern_coll *c); /* accepts NULL */
KERN_CALL kern_coll_all_reduce(kern_on b, struct kern_coll *c, struct kern_stream *s, kern_arg x);
KERN_CALL kern_coll_reduce_scatter(kern_on b, struct kern_coll *c, struct kern_stream *s,
                                   kern_arg shard, kern_arg x);
KERN_CALL kern_coll_all_gather(kern_on b, struct kern_coll *c, struct kern_stream *s, kern_arg x,
                               kern_arg shard);
KERN_CALL kern_coll_broadcast(kern_on b, struct kern_coll *c, struct kern_stream *s, kern_arg x,
                              int root);
KERN_CALL kern_coll_barrier(kern_on b, struct kern_coll *c);

#endif
