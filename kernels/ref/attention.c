/* attention.c - causal attention over paged keys and values, and its reverse.
 *
 * Forward: with z_j = scale q.k_j over the visible keys, p = softmax(z), out = sum p_j v_j,
 * lse = log sum exp z. Reverse, with p_j = exp(z_j - lse) and t = gout.out:
 *   gv_j += p_j gout,  gz_j = p_j (gout.v_j - t),  gq = scale sum gz_j k_j,  gk_j += scale gz_j q.
 * A sequence without rows touches nothing. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>

struct head {                 /* one query row of one head and the keys it sees */
    int64_t row, first, last; /* row * H + h; keys first..last */
    const int32_t *pages;
    int64_t page, stride, offset; /* keys per page; floats from key to key; of this key head */
    int64_t width;
    double scale;
};

static int64_t at(const struct head *h, int64_t key) { /* offset of a key in its pool */
    return (h->pages[key / h->page] * h->page + key % h->page) * h->stride + h->offset;
}

static double product(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
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
    float *out, *lse;
    const float *q, *k, *v;
    double *z, *sum;
};

static void forward_head(const struct head *h, void *ctx) {
    struct forward *f = ctx;
    const float *q = f->q + h->row * h->width;
    double max = -INFINITY, total = 0;
    for (int64_t j = h->first; j <= h->last; j++) {
        f->z[j] = h->scale * product(q, f->k + at(h, j), h->width);
        if (f->z[j] > max) max = f->z[j];
    }
    for (int64_t i = 0; i < h->width; i++)
        f->sum[i] = 0;
    for (int64_t j = h->first; j <= h->last; j++) {
        double p = exp(f->z[j] - max);
        const float *v = f->v + at(h, j);
        total += p;
        for (int64_t i = 0; i < h->width; i++)
            f->sum[i] += p * (double)v[i];
    }
    for (int64_t i = 0; i < h->width; i++)
        f->out[h->row * h->width + i] = (float)(f->sum[i] / total);
    if (f->lse) f->lse[h->row] = (float)(max + log(total));
}

int ref_attention(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                  const struct kern_attn *a) {
    double *scratch = NULL;
    TRY(host_check_attn("attention", a, q->dim[0], pool_k->dim[0]));
    TRY(host_scratch(&scratch, s, "attention", (size_t)(a->kv_max + q->dim[2]) * sizeof *scratch));
    struct forward f = {.out = host_f32(out),
                        .lse = host_f32(lse),
                        .q = host_f32(q),
                        .k = host_f32(pool_k),
                        .v = host_f32(pool_v),
                        .sum = scratch,
                        .z = scratch + q->dim[2]};
    each_head(q, pool_k, a, forward_head, &f);
    return 0;
}

struct reverse {
    float *gq, *gk, *gv;
    const float *gout, *out, *lse, *q, *k, *v;
    double *sum; /* one head's gq */
};

static void reverse_head(const struct head *h, void *ctx) {
    struct reverse *f = ctx;
    const int64_t row = h->row * h->width, width = h->width;
    const float *q = f->q + row, *gout = f->gout + row;
    double t = product(gout, f->out + row, width), lse = f->lse[h->row];
    for (int64_t i = 0; i < width; i++)
        f->sum[i] = 0;
    for (int64_t j = h->first; j <= h->last; j++) {
        int64_t o = at(h, j);
        double p = exp(h->scale * product(q, f->k + o, width) - lse);
        double gz = h->scale * p * (product(gout, f->v + o, width) - t);
        for (int64_t i = 0; i < width; i++) {
            f->sum[i] += gz * (double)f->k[o + i];
            f->gk[o + i] = (float)((double)f->gk[o + i] + gz * (double)q[i]);
            f->gv[o + i] = (float)((double)f->gv[o + i] + p * (double)gout[i]);
        }
    }
    for (int64_t i = 0; i < width; i++)
        f->gq[row + i] = (float)f->sum[i];
}

int ref_attention_bwd(ops_s s, kern_arg gq, kern_arg gpool_k, kern_arg gpool_v, kern_arg gout,
                      kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                      const struct kern_attn *a) {
    double *sum = NULL;
    TRY(host_check_attn("attention_bwd", a, q->dim[0], pool_k->dim[0]));
    TRY(host_scratch(&sum, s, "attention_bwd", (size_t)q->dim[2] * sizeof *sum));
    struct reverse f = {.gq = host_f32(gq),
                        .gk = host_f32(gpool_k),
                        .gv = host_f32(gpool_v),
                        .gout = host_f32(gout),
                        .out = host_f32(out),
                        .lse = host_f32(lse),
                        .q = host_f32(q),
                        .k = host_f32(pool_k),
                        .v = host_f32(pool_v),
                        .sum = sum};
    each_head(q, pool_k, a, reverse_head, &f);
    return 0;
}
