/* backend.h - the ABI of a compute backend: one table of operations over explicit shapes, and the
 * contract of each.
 *
 * `ref` is naive with double accumulation (the definition), `cpu` is fast, `cuda` is a plugin with
 * the same table. Callers use the kern_x() functions of call.h, which check dtype, rank, shape and
 * bytes once for all backends and then call the table; they include kernels.h.
 *
 * Rules of an op: returns 0 or a negative ERR_*; runs in order on its stream (CPU backends execute
 * inline); keeps no state; allocates nothing (scratch comes from the stream, sized at stream_open);
 * never reads what it has not been given. Ops marked [BI] are batch-invariant (invariant I6): the
 * bits of row i of the result depend on row i of the inputs (and, for attention, on that row's own
 * keys and values) only, not on the number of other rows, on where in the batch the row stands or
 * on how its keys are paged. All ops give the same bits when repeated.
 *
 * Letters: n rows (tokens) of the batch, d model width, H query heads, Hkv key/value heads (H % Hkv
 * == 0), D head width, f feed-forward width, V vocabulary. Matrices are row-major and dense.
 * Weights are stored [out, in].
 *
 * Types. Activations, weights, their K/V pools and gradients of activations have one type, f32 or
 * bf16, within a call; sums are f32 or wider and each store rounds once, to nearest even. Always
 * f32: gradients of weights (gtable, gw, gbias) and of pools, lse, cos and sin, all of logprob,
 * logprob_bwd and sample, and the optimizer. matmul from bf16 may store y as f32 (logits). */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include "base/err.h"
#include "base/hash.h"
#include "kernels/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KERN_ABI = 6,
    KERN_PACK_ROWS = 64,
    KERN_HASH_MIN = 256,
    KERN_DEVICE_ID = 16,
    KERN_HANDLE = 64
};

struct kern_stream; /* opaque; one thread at a time */
struct kern_coll;   /* opaque communicator of one rank */
struct kern_graph;  /* opaque; what was recorded of a stream */

/* of the batches that a stream will see */
struct kern_limits {
    int64_t rows, width_max; /* largest n; largest in or out of any matmul, V included */
    int64_t heads, head_width, kv_max;
    int64_t bf16_width; /* largest width of bf16 rows, the vocabulary apart; 0: f32 only */
};

struct kern_shared { /* what another process needs to open device memory; no pointers inside */
    uint8_t device[KERN_DEVICE_ID]; /* the physical one */
    uint8_t handle[KERN_HANDLE];    /* the driver's */
    uint64_t offset, bytes;         /* of the memory, from where the handle leads */
};

struct kern_backend {
    uint32_t abi, size; /* KERN_ABI and sizeof(struct kern_backend): checked when opened */
    const char *name;   /* "ref", "cpu", "cuda": for people; code asks for what follows */
    /* The processor computes: memory of alloc is read by its address, an op is done when it
     * returns, and it costs this process's time. */
    bool on_host;
    bool numbered; /* has several devices: "name:N" is the N-th */

    /* --- device, memory, streams ------------------------------------------------------------ */
    int (*open)(int device, int threads); /* threads: CPU backends; 0 = all cores */
    void (*close)(void);
    int (*alloc)(void **out, size_t bytes); /* 64-byte aligned, zeroed */
    void (*release)(void *p);
    size_t (*scratch_bytes)(const struct kern_limits *l); /* that any op needs within l */
    int (*stream_open)(struct kern_stream **out, size_t scratch_bytes);
    void (*stream_close)(struct kern_stream *s);
    int (*sync)(struct kern_stream *s); /* waits for everything issued on s */
    int (*put)(struct kern_stream *s, void *dst, const void *host_src, size_t bytes);
    /* Done on return. */
    int (*get)(struct kern_stream *s, void *host_dst, const void *src, size_t bytes);
    int (*copy)(struct kern_stream *s, void *dst, const void *src, size_t bytes);
    int (*zero)(struct kern_stream *s, void *dst, size_t bytes);
    /* What is issued on s from now on waits for everything issued on other so far. */
    int (*after)(struct kern_stream *s, struct kern_stream *other);
    /* Host memory, zeroed, that a device reaches by itself. put from it and get into it do not
     * wait: they join the stream, and the memory is left alone until the next sync. */
    int (*alloc_host)(void **out, size_t bytes);
    void (*release_host)(void *p);
    /* Recording: what is issued on s between begin and end is not done but kept, with its arguments
     * and addresses as they were given; replay then does all of it, in order, as one operation. In
     * between only ops, copy, zero and put and get of alloc_host memory are allowed; end, which
     * must be called also after a failure, says what broke it. NULL on host backends. */
    int (*record_begin)(struct kern_stream *s);
    int (*record_end)(struct kern_stream *s, struct kern_graph **out);
    int (*replay)(struct kern_stream *s, struct kern_graph *g);
    void (*graph_close)(struct kern_graph *g);
    /* Bytes of device memory that are left and that there are. NULL on host backends. */
    int (*memory)(size_t *left, size_t *total);
    /* leaf[hash_blocks(bytes)] (host) = hashes of the blocks of data, as hash_leaves of base/hash.h
     * gives them; done on return. Takes sizeof(struct hash) of scratch a block where the data are
     * not in host memory. The backend never sees a last block of less than KERN_HASH_MIN bytes:
     * the checked call hashes that on the host. */
    int (*hash_leaves)(struct kern_stream *, struct hash *leaf, const void *data, size_t bytes);
    /* exact false: the ops of s may choose how they compute by the number of rows, which ends [BI]
     * but not repetition: the same calls give the same bits on the same kind of device. Streams
     * open exact. NULL: this backend always is. */
    int (*exact)(struct kern_stream *s, bool exact);
    /* Memory that alloc gave here, for other processes on the same device: they read it between
     * open and close, while it is there; what it holds is the processes' own agreement. NULL on
     * host backends, all four. */
    int (*device_id)(uint8_t out[KERN_DEVICE_ID]);
    int (*share)(struct kern_shared *out, void *p, size_t bytes);
    int (*open_shared)(void **out, const struct kern_shared *m);
    void (*close_shared)(void *p, const struct kern_shared *m);

    /* --- forward ops; all [BI] -------------------------------------------------------------- */
    /* out[n,d] = table[ids[n], d] */
    int (*embed)(struct kern_stream *, const struct kern_tensor *out,
                 const struct kern_tensor *table, const struct kern_tensor *ids);
    /* out[n,d] = x[n,d] * rsqrt(mean_d(x^2) + eps) * w[d] */
    int (*rmsnorm)(struct kern_stream *, const struct kern_tensor *out, const struct kern_tensor *x,
                   const struct kern_tensor *w, float eps);
    /* y[n,o] = x[n,i] w[o,i]^T (+ bias[o]). packed: NULL, or pack_weight's result for this w (then
     * w->data may be NULL). The bits do not depend on whether packed is given. */
    int (*matmul)(struct kern_stream *, const struct kern_tensor *y, const struct kern_tensor *x,
                  const struct kern_tensor *w, const struct kern_tensor *packed,
                  const struct kern_tensor *bias);
    /* x[n,H,D] rotated in place by the angle whose cos and sin are row pos[n] of cos, sin [P, D/2];
     * pairs are (j, j + D/2) as in Hugging Face's Llama. inverse: by the negative angle (the
     * reverse pass). */
    int (*rope)(struct kern_stream *, const struct kern_tensor *x, const struct kern_tensor *pos,
                const struct kern_tensor *cos, const struct kern_tensor *sin, bool inverse);
    /* pool_k[slot[n]] = k[n,Hkv,D], pool_v likewise; pools are [pages, page, Hkv, D], slot =
     * page_index*page + offset */
    int (*kv_write)(struct kern_stream *, const struct kern_tensor *pool_k,
                    const struct kern_tensor *pool_v, const struct kern_tensor *k,
                    const struct kern_tensor *v, const struct kern_tensor *slot);
    /* out[n,H,D] = softmax(scale * q K^T) V per head over the keys of struct kern_attn; lse[n,H]
     * (may be NULL) = log of the softmax's denominator including the maximum. Query head h reads
     * key head h / (H/Hkv). */
    int (*attention)(struct kern_stream *, const struct kern_tensor *out,
                     const struct kern_tensor *lse, const struct kern_tensor *q,
                     const struct kern_tensor *pool_k, const struct kern_tensor *pool_v,
                     const struct kern_attn *a);
    /* out[n,f] = silu(gate[n,f]) * up[n,f] */
    int (*swiglu)(struct kern_stream *, const struct kern_tensor *out,
                  const struct kern_tensor *gate, const struct kern_tensor *up);
    /* out[n,d] = x[n,d] + y[n,d]; out may be x or y */
    int (*add)(struct kern_stream *, const struct kern_tensor *out, const struct kern_tensor *x,
               const struct kern_tensor *y);
    /* out[n,d] = x[rows[n], d] */
    int (*gather)(struct kern_stream *, const struct kern_tensor *out, const struct kern_tensor *x,
                  const struct kern_tensor *rows);
    /* Per row of logits[n,V], with z = logits * inv_temp[n]: lse[n] = log sum exp z; logprob[n] =
     * z[target[n]] - lse; entropy[n] (may be NULL) = -sum p log p. */
    int (*logprob)(struct kern_stream *, const struct kern_tensor *logprob,
                   const struct kern_tensor *entropy, const struct kern_tensor *lse,
                   const struct kern_tensor *logits, const struct kern_tensor *target,
                   const struct kern_tensor *inv_temp);
    /* Draws token[n] from softmax(logits/temperature) cut to the top_k most likely and then to the
     * smallest set of mass >= top_p (ties: lower id first), by inverting the cumulative sum at
     * uniform[n] in [0,1). temperature[n] == 0: the first largest logit. logprob[n]: log-softmax
     * over the whole vocabulary at the temperature (1 if it is 0), the same bits as the logprob op
     * gives for that token; kept[n]: mass of the kept set (1 when nothing is cut). temperature,
     * top_p, logprob, kept: f32[n]; top_k (0 = off), token: i32[n]; uniform: f32[n, 2] = high and
     * low part of a double (value = hi + lo). */
    int (*sample)(struct kern_stream *, const struct kern_tensor *token,
                  const struct kern_tensor *logprob, const struct kern_tensor *kept,
                  const struct kern_tensor *logits, const struct kern_tensor *temperature,
                  const struct kern_tensor *top_p, const struct kern_tensor *top_k,
                  const struct kern_tensor *uniform);
    /* sum[n,d] = x[n,d] + r[n,d], out[n,d] = rmsnorm(sum) * w[d]: the bits of add and then rmsnorm,
     * so the norm reads what was stored. sum may be x or r; out is neither of the three. */
    int (*add_rmsnorm)(struct kern_stream *, const struct kern_tensor *out,
                       const struct kern_tensor *sum, const struct kern_tensor *x,
                       const struct kern_tensor *r, const struct kern_tensor *w, float eps);
    /* q[n,H,D] = rope(rmsnorm of each head of q0[n,H,D] * w[D]): the bits of rmsnorm over rows of D
     * and then rope, so the rotation reads rounded numbers. w NULL: rope only. q may be q0. */
    int (*norm_rope)(struct kern_stream *, const struct kern_tensor *q,
                     const struct kern_tensor *q0, const struct kern_tensor *w, float eps,
                     const struct kern_tensor *pos, const struct kern_tensor *cos,
                     const struct kern_tensor *sin);

    /* --- weights ---------------------------------------------------------------------------- */
    /* Rows of w lie one after another in packed: packing rows r..r+n-1 on their own (r a multiple
     * of KERN_PACK_ROWS) to packed + pack_bytes(t, r, in) gives the bytes that packing all of w
     * does.
     */
    size_t (*pack_bytes)(enum kern_dtype t, int64_t out, int64_t in); /* 0: does not pack */
    int (*pack_weight)(struct kern_stream *, const struct kern_tensor *packed,
                       const struct kern_tensor *w);
    /* dst = src with another dtype (f32 <-> bf16, round to nearest even) */
    int (*cast)(struct kern_stream *, const struct kern_tensor *dst, const struct kern_tensor *src);

    /* --- reverse ops; deterministic, not batch-invariant. "+=" accumulates ------------------ */
    /* gtable[ids[n]] += gout[n,d], in row order */
    int (*embed_bwd)(struct kern_stream *, const struct kern_tensor *gtable,
                     const struct kern_tensor *gout, const struct kern_tensor *ids);
    /* gx[n,d] (= or, if accumulate, +=), gw[d] +=; from gout[n,d] and the op's inputs */
    int (*rmsnorm_bwd)(struct kern_stream *, const struct kern_tensor *gx,
                       const struct kern_tensor *gw, const struct kern_tensor *gout,
                       const struct kern_tensor *x, const struct kern_tensor *w, float eps,
                       bool accumulate);
    /* gx[n,i] (= or, if accumulate, +=) gy[n,o] w[o,i] */
    int (*matmul_dx)(struct kern_stream *, const struct kern_tensor *gx,
                     const struct kern_tensor *gy, const struct kern_tensor *w, bool accumulate);
    /* gw[o,i] += gy[n,o]^T x[n,i]; gbias[o] += sum_n gy (gbias may be NULL) */
    int (*matmul_dw)(struct kern_stream *, const struct kern_tensor *gw,
                     const struct kern_tensor *gbias, const struct kern_tensor *gy,
                     const struct kern_tensor *x);
    /* gq[n,H,D] =; gpool_k, gpool_v [pages,page,Hkv,D] += (fixed order); from gout and the
     * forward's out and lse */
    int (*attention_bwd)(struct kern_stream *, const struct kern_tensor *gq,
                         const struct kern_tensor *gpool_k, const struct kern_tensor *gpool_v,
                         const struct kern_tensor *gout, const struct kern_tensor *out,
                         const struct kern_tensor *lse, const struct kern_tensor *q,
                         const struct kern_tensor *pool_k, const struct kern_tensor *pool_v,
                         const struct kern_attn *a);
    /* k[n,Hkv,D], v[n,Hkv,D] = pools at slot[n] */
    int (*kv_read)(struct kern_stream *, const struct kern_tensor *k, const struct kern_tensor *v,
                   const struct kern_tensor *pool_k, const struct kern_tensor *pool_v,
                   const struct kern_tensor *slot);
    /* ggate[n,f] =, gup[n,f] = from gout; outputs may be the inputs' memory (gate and up) */
    int (*swiglu_bwd)(struct kern_stream *, const struct kern_tensor *ggate,
                      const struct kern_tensor *gup, const struct kern_tensor *gout,
                      const struct kern_tensor *gate, const struct kern_tensor *up);
    /* x[rows[n], d] += g[n,d]; rows are distinct */
    int (*scatter_add)(struct kern_stream *, const struct kern_tensor *x,
                       const struct kern_tensor *g, const struct kern_tensor *rows);
    /* In place logits[n,V] := d loss / d logits, given g_logprob[n] and g_entropy[n] (may be NULL,
     * then entropy too): inv_temp * (g_logprob*(1[j=target] - p_j) - g_entropy * p_j*(log p_j +
     * entropy)). */
    int (*logprob_bwd)(struct kern_stream *, const struct kern_tensor *logits,
                       const struct kern_tensor *g_logprob, const struct kern_tensor *g_entropy,
                       const struct kern_tensor *entropy, const struct kern_tensor *lse,
                       const struct kern_tensor *target, const struct kern_tensor *inv_temp);

    /* --- optimizer -------------------------------------------------------------------------- */
    /* w, m, v, g: f32, same element count, any rank; w, m, v in place */
    int (*adamw)(struct kern_stream *, const struct kern_tensor *w, const struct kern_tensor *m,
                 const struct kern_tensor *v, const struct kern_tensor *g,
                 const struct kern_adamw *p);
    /* out (host) = {<x,y>, |x|^2, |y|^2} in double, in a fixed order; y: f32, bf16, or NULL: {0,
     * |x|^2, 0} */
    int (*dot)(struct kern_stream *, double out[3], const struct kern_tensor *x,
               const struct kern_tensor *y);
    /* y = alpha * x + beta * y (f32) */
    int (*axpby)(struct kern_stream *, const struct kern_tensor *y, float alpha,
                 const struct kern_tensor *x, float beta);
    /* *out (host) = the bits that are set in words, i32 of any rank */
    int (*count_bits)(struct kern_stream *, int64_t *out, const struct kern_tensor *words);

    /* --- collectives over the ranks of a trainer; fixed reduction order (rank 0 first) ------ */
    /* All ranks call with the same name; deadline_ms is the longest wait in any call, after which
     * ERR_TIMEOUT names the rank that is missing. */
    int (*coll_open)(struct kern_coll **out, const char *name, int rank, int n_ranks,
                     int deadline_ms);
    void (*coll_close)(struct kern_coll *c);
    int (*coll_all_reduce)(struct kern_coll *, struct kern_stream *,
                           const struct kern_tensor *x); /* sum, in place */
    int (*coll_reduce_scatter)(struct kern_coll *, struct kern_stream *,
                               const struct kern_tensor *shard,
                               const struct kern_tensor *x); /* x has n_ranks equal shards */
    int (*coll_all_gather)(struct kern_coll *, struct kern_stream *, const struct kern_tensor *x,
                           const struct kern_tensor *shard);
    int (*coll_broadcast)(struct kern_coll *, struct kern_stream *, const struct kern_tensor *x,
                          int root);
    int (*coll_barrier)(struct kern_coll *);
};

typedef const struct kern_backend *kern_on; /* that a call runs on */

#endif
