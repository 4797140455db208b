/* attention.c - causal attention over paged keys and values, and its reverse.
 *
 * Forward: with z_j = scale q.k_j over the visible keys, p = softmax(z), out = sum p_j v_j,
 * lse = log sum exp z. Reverse, with p_j = exp(z_j - lse) and t = gout.out:
 *   gv_j += p_j gout,  gz_j = p_j (gout.v_j - t),  gq = scale sum gz_j k_j,  gk_j += scale gz_j q.
 * A sequence without rows touches nothing. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>

/* One query row of one head and the keys it sees */
struct head {
    int64_t row, first, last; /* row * H + h; keys first..last */
    const int32_t *pages;
    int64_t page, stride, offset; /* keys per page; elements from key to key; of this key head */
    int64_t width;
    double scale;
};

static int64_t head_at(const struct head *h, int64_t key) { /* offset of a key in its pool */
    return (h->pages[key / h->page] * h->page + key % h->page) * h->stride + h->offset;
}

/* Of n elements of a from element i on and of b from element j on. */
static double inner(kern_arg a, int64_t i, kern_arg b, int64_t j, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += host_load(a, i + k) * host_load(b, j + k);
    return sum;
}

typedef void head_fn(const struct head *h, void *ctx);

/* Calls fn for every row and head, in order. */
static void each_head(kern_arg q, kern_arg pool_k, const struct kern_attn *a, head_fn *fn,
                      void *ctx) {
    const int64_t heads = q->dim[1], kv_heads = pool_k->dim[2], width = q->dim[2];
    const int32_t *start = host_i32(&a->q_start), *len = host_i32(&a->kv_len);
    for (int32_t s = 0; s < a->n_seqs; s++)
        for (int64_t r = start[s]; r < start[s + 1]; r++)
            for (int64_t h = 0; h < heads; h++) {
                struct head x = {.row = r * heads + h,
                                 .last = len[s] - start[s + 1] + r,
                                 .pages = host_i32(&a->pages) + s * a->pages.dim[1],
                                 .page = a->page,
                                 .stride = kv_heads * width,
                                 .offset = h / (heads / kv_heads) * width,
                                 .width = width,
                                 .scale = (double)a->scale};
                if (a->window && x.last - a->window + 1 > 0) x.first = x.last - a->window + 1;
                fn(&x, ctx);
            }
}

struct forward {
    kern_arg out, lse, q, k, v;
    double *z, *sum;
};

/* One row and head: scores, softmax, values, as the formula reads. */
static void forward_head(const struct head *h, void *ctx) {
    struct forward *f = ctx;
    const int64_t row = h->row * h->width;
    double max = -INFINITY, total = 0;
    for (int64_t j = h->first; j <= h->last; j++) {
        f->z[j] = h->scale * inner(f->q, row, f->k, head_at(h, j), h->width);
        if (f->z[j] > max) max = f->z[j];
    }
    for (int64_t i = 0; i < h->width; i++)
        f->sum[i] = 0;
    for (int64_t j = h->first; j <= h->last; j++) {
        double p = exp(f->z[j] - max);
        const int64_t o = head_at(h, j);
        total += p;
        for (int64_t i = 0; i < h->width; i++)
            f->sum[i] += p * host_load(f->v, o + i);
    }
    for (int64_t i = 0; i < h->width; i++)
        host_store(f->out, row + i, f->sum[i] / total);
    if (f->lse) host_store(f->lse, h->row, max + log(total));
}

int ref_attention(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                  const struct kern_attn *a) {
    double *scratch = NULL;
    TRY(host_check_attn("attention", a, q->dim[0], pool_k->dim[0]));
    TRY(host_scratch(&scratch, s, "attention", (size_t)(a->kv_max + q->dim[2]) * sizeof *scratch));
    struct forward f = {.out = out,
                        .lse = lse,
                        .q = q,
                        .k = pool_k,
                        .v = pool_v,
                        .sum = scratch,
                        .z = scratch + q->dim[2]};
    each_head(q, pool_k, a, forward_head, &f);
    return 0;
}

struct reverse {
    kern_arg gq, gk, gv, gout, out, lse, q, k, v;
    double *sum; /* one head's gq */
};

static void add_to(kern_arg t, int64_t i, double x) {
    host_store(t, i, host_load(t, i) + x);
}

static void reverse_head(const struct head *h, void *ctx) {
    struct reverse *f = ctx;
    const int64_t row = h->row * h->width, width = h->width;
    double t = inner(f->gout, row, f->out, row, width), lse = host_load(f->lse, h->row);
    for (int64_t i = 0; i < width; i++)
        f->sum[i] = 0;
    for (int64_t j = h->first; j <= h->last; j++) {
        int64_t o = head_at(h, j);
        double p = exp(h->scale * inner(f->q, row, f->k, o, width) - lse);
        double gz = h->scale * p * (inner(f->gout, row, f->v, o, width) - t);
        for (int64_t i = 0; i < width; i++) {
            f->sum[i] += gz * host_load(f->k, o + i);
            add_to(f->gk, o + i, gz * host_load(f->q, row + i));
            add_to(f->gv, o + i, p * host_load(f->gout, row + i));
        }
    }
    for (int64_t i = 0; i < width; i++)
        host_store(f->gq, row + i, f->sum[i]);
}

int ref_attention_bwd(ops_s s, kern_arg gq, kern_arg gpool_k, kern_arg gpool_v, kern_arg gout,
                      kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                      const struct kern_attn *a) {
    double *sum = NULL;
    TRY(host_check_attn("attention_bwd", a, q->dim[0], pool_k->dim[0]));
    TRY(host_scratch(&sum, s, "attention_bwd", (size_t)q->dim[2] * sizeof *sum));
    struct reverse f = {.gq = gq,
                        .gk = gpool_k,
                        .gv = gpool_v,
                        .gout = gout,
                        .out = out,
                        .lse = lse,
                        .q = q,
                        .k = pool_k,
                        .v = pool_v,
                        .sum = sum};
    each_head(q, pool_k, a, reverse_head, &f);
    return 0;
}
