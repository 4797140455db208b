/* ops.h - the prototypes of one host backend's ops and its table, for a symbol prefix: private to
 * this folder. OPS_DECLARE(ref) declares ref_embed ... with the types of struct kern_backend;
 * OPS_TABLE(ref) names them in an initializer. A new op is added here once for both backends. */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "kernels/backend.h"

typedef struct kern_stream *ops_s;

#define OPS_DECLARE(P)                                                                             \
    int P##_embed(ops_s, kern_arg out, kern_arg table, kern_arg ids);                              \
    int P##_rmsnorm(ops_s, kern_arg out, kern_arg x, kern_arg w, float eps);                       \
    int P##_matmul(ops_s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias);     \
    int P##_rope(ops_s, kern_arg x, kern_arg pos, kern_arg cos, kern_arg sin, bool inverse);       \
    int P##_kv_write(ops_s, kern_arg pool_k, kern_arg pool_v, kern_arg k, kern_arg v,              \
                     kern_arg slot);                                                               \
    int P##_attention(ops_s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k,              \
                      kern_arg pool_v, const struct kern_attn *a);                                 \
    int P##_swiglu(ops_s, kern_arg out, kern_arg gate, kern_arg up);                               \
    int P##_add(ops_s, kern_arg out, kern_arg x, kern_arg y);                                      \
    int P##_gather(ops_s, kern_arg out, kern_arg x, kern_arg rows);                                \
    int P##_logprob(ops_s, kern_arg logprob, kern_arg entropy, kern_arg lse, kern_arg logits,      \
                    kern_arg target, kern_arg inv_temp);                                           \
    int P##_sample(ops_s, kern_arg token, kern_arg logprob, kern_arg kept, kern_arg logits,        \
                   kern_arg temperature, kern_arg top_p, kern_arg top_k, kern_arg uniform);        \
    int P##_add_rmsnorm(ops_s, kern_arg out, kern_arg sum, kern_arg x, kern_arg r, kern_arg w,     \
                        float eps);                                                                \
    int P##_norm_rope(ops_s, kern_arg q, kern_arg q0, kern_arg w, float eps, kern_arg pos,         \
                      kern_arg cos, kern_arg sin);                                                 \
    size_t P##_pack_bytes(enum kern_dtype t, int64_t out, int64_t in);                             \
    int P##_pack_weight(ops_s, kern_arg packed, kern_arg w);                                       \
    int P##_cast(ops_s, kern_arg dst, kern_arg src);                                               \
    int P##_embed_bwd(ops_s, kern_arg gtable, kern_arg gout, kern_arg ids);                        \
    int P##_rmsnorm_bwd(ops_s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,    \
                        float eps, bool accumulate);                                               \
    int P##_matmul_dx(ops_s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate);               \
    int P##_matmul_dw(ops_s, kern_arg gw, kern_arg gbias, kern_arg gy, kern_arg x);                \
    int P##_attention_bwd(ops_s, kern_arg gq, kern_arg gpool_k, kern_arg gpool_v, kern_arg gout,   \
                          kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k,                 \
                          kern_arg pool_v, const struct kern_attn *a);                             \
    int P##_kv_read(ops_s, kern_arg k, kern_arg v, kern_arg pool_k, kern_arg pool_v,               \
                    kern_arg slot);                                                                \
    int P##_swiglu_bwd(ops_s, kern_arg ggate, kern_arg gup, kern_arg gout, kern_arg gate,          \
                       kern_arg up);                                                               \
    int P##_scatter_add(ops_s, kern_arg x, kern_arg g, kern_arg rows);                             \
    int P##_logprob_bwd(ops_s, kern_arg logits, kern_arg g_logprob, kern_arg g_entropy,            \
                        kern_arg entropy, kern_arg lse, kern_arg target, kern_arg inv_temp);       \
    int P##_adamw(ops_s, kern_arg w, kern_arg m, kern_arg v, kern_arg g,                           \
                  const struct kern_adamw *p);                                                     \
    int P##_dot(ops_s, double out[3], kern_arg x, kern_arg y);                                     \
    int P##_axpby(ops_s, kern_arg y, float alpha, kern_arg x, float beta);                         \
    int P##_count_bits(ops_s, int64_t *out, kern_arg words)

#define OPS_TABLE(P)                                                                               \
    .embed = P##_embed, .rmsnorm = P##_rmsnorm, .matmul = P##_matmul, .rope = P##_rope,            \
    .kv_write = P##_kv_write, .attention = P##_attention, .swiglu = P##_swiglu, .add = P##_add,    \
    .gather = P##_gather, .logprob = P##_logprob, .sample = P##_sample,                            \
    .add_rmsnorm = P##_add_rmsnorm, .norm_rope = P##_norm_rope, .pack_bytes = P##_pack_bytes,      \
    .pack_weight = P##_pack_weight, .cast = P##_cast, .embed_bwd = P##_embed_bwd,                  \
    .rmsnorm_bwd = P##_rmsnorm_bwd, .matmul_dx = P##_matmul_dx, .matmul_dw = P##_matmul_dw,        \
    .attention_bwd = P##_attention_bwd, .kv_read = P##_kv_read, .swiglu_bwd = P##_swiglu_bwd,      \
    .scatter_add = P##_scatter_add, .logprob_bwd = P##_logprob_bwd, .adamw = P##_adamw,            \
    .dot = P##_dot, .axpby = P##_axpby, .count_bits = P##_count_bits

/* Collectives, likewise. */
#define OPS_DECLARE_COLL(P)                                                                        \
    int P##_coll_open(struct kern_coll **out, const char *name, int rank, int n_ranks,             \
                      int deadline_ms);                                                            \
    void P##_coll_close(struct kern_coll *c);                                                      \
    int P##_coll_all_reduce(struct kern_coll *, ops_s, kern_arg x);                                \
    int P##_coll_reduce_scatter(struct kern_coll *, ops_s, kern_arg shard, kern_arg x);            \
    int P##_coll_all_gather(struct kern_coll *, ops_s, kern_arg x, kern_arg shard);                \
    int P##_coll_broadcast(struct kern_coll *, ops_s, kern_arg x, int root);                       \
    int P##_coll_barrier(struct kern_coll *)

#define OPS_TABLE_COLL(P)                                                                          \
    .coll_open = P##_coll_open, .coll_close = P##_coll_close,                                      \
    .coll_all_reduce = P##_coll_all_reduce, .coll_reduce_scatter = P##_coll_reduce_scatter,        \
    .coll_all_gather = P##_coll_all_gather, .coll_broadcast = P##_coll_broadcast,                  \
    .coll_barrier = P##_coll_barrier

#endif
