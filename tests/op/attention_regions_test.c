/* attention_regions_test.c - attention over a shared region of keys and a region of one's own, and
 * its reverse, in double: what frames and waves compute is dense attention, to 1e-12.
 *
 * Three computations of a prompt and its unequal responses: dense, each response with its own copy
 * of the prompt; by schedule, the prompt's rows, then all responses over its keys through page
 * tables, then the prompt's reverse with the key gradients that they left; and by regions, where a
 * row's two softmaxes are merged by their log-sum-exp. The first two run the reference kernel's own
 * source, compiled for double. */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/host.h"
#include "kernels/ref/ref.h"
#include "tests/test.h"

#include <math.h>
#include <string.h>

int twice_attention(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k,
                    kern_arg pool_v, const struct kern_attn *a);
int twice_attention_bwd(ops_s s, kern_arg gq, kern_arg gpool_k, kern_arg gpool_v, kern_arg gout,
                        kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                        const struct kern_attn *a);
#define ref_attention twice_attention
#define ref_attention_bwd twice_attention_bwd
#define host_load(t, i) (((const double *)(t)->data)[i])
#define host_store(t, i, x) (((double *)(t)->data)[i] = (x))
#include "kernels/ref/attention.c"
#undef host_load
#undef host_store

enum { P = 75, N = 7, ROWS_MAX = P + N * 40, H = 4, KV = 2, D = 16, Q = H * D, K = KV * D };

struct numbers { /* by row: the prompt's, then response after response */
    double q[ROWS_MAX * Q], k[ROWS_MAX * K], v[ROWS_MAX * K], gout[ROWS_MAX * Q];
    double gprompt[N][P * Q]; /* what each response's loss leaves at the prompt's rows */
    double out[ROWS_MAX * Q], lse[ROWS_MAX * H];
    double gq[ROWS_MAX * Q], gk[ROWS_MAX * K], gv[ROWS_MAX * K];
    int32_t start[N + 1]; /* rows of response i: start[i] .. */
};

static double product(const double *x, const double *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void fill(double *x, int64_t n, uint64_t stream) {
    for (int64_t i = 0; i < n; i++)
        x[i] = rng_normal(rng_key(test_seed(), RNG_TEST), 9100 + stream, (uint64_t)i);
}

static struct numbers *numbers(void) {
    struct numbers *x = mem_zalloc(sizeof *x);
    x->start[0] = P;
    for (int i = 0; i < N; i++) {
        x->start[i + 1] = x->start[i] + 1 + i * 37 % 40;
        fill(x->gprompt[i], P * Q, 10 + (uint64_t)i);
    }
    fill(x->q, ROWS_MAX * Q, 0);
    fill(x->k, ROWS_MAX * K, 1);
    fill(x->v, ROWS_MAX * K, 2);
    fill(x->gout + P * Q, (ROWS_MAX - P) * Q, 3);
    for (int i = 0; i < N; i++) /* the prompt's own reverse comes once, with the sum */
        for (int64_t j = 0; j < P * Q; j++)
            x->gout[j] += x->gprompt[i][j];
    return x;
}

/* --- the kernel ---------------------------------------------------------------------------- */

struct run { /* n sequences of rows first .., page tables [n, most] of one key each */
    int32_t n, most, first, rows;
    int32_t start[N + 1], len[N], pages[N * ROWS_MAX];
};

static struct kern_attn attn_of(struct run *r) {
    int32_t q_max = 0;
    for (int32_t i = 0; i < r->n; i++)
        q_max = r->start[i + 1] - r->start[i] > q_max ? r->start[i + 1] - r->start[i] : q_max;
    return (struct kern_attn){.q_start = kern_view1(r->start, KERN_I32, r->n + 1),
                              .kv_len = kern_view1(r->len, KERN_I32, r->n),
                              .pages = kern_view2(r->pages, KERN_I32, r->n, r->most),
                              .n_seqs = r->n,
                              .page = 1,
                              .q_max = q_max,
                              .kv_max = r->most,
                              .scale = 0.25F};
}

/* Views are only shapes and addresses here: the dtype is not looked at behind the checked calls. */
static struct kern_tensor rows_view(double *x, const struct run *r, int64_t heads) {
    return kern_view3(x + r->first * heads * D, KERN_F32, r->rows, heads, D);
}

static void kernel(struct numbers *x, struct run *r, bool reverse) {
    static double scratch[ROWS_MAX + D];
    struct kern_stream s = {.scratch = (char *)scratch, .bytes = sizeof scratch};
    struct kern_attn a = attn_of(r);
    struct kern_tensor q = rows_view(x->q, r, H), out = rows_view(x->out, r, H);
    struct kern_tensor gq = rows_view(x->gq, r, H), gout = rows_view(x->gout, r, H);
    struct kern_tensor lse = kern_view2(x->lse + r->first * H, KERN_F32, r->rows, H);
    struct kern_tensor k = kern_view4(x->k, KERN_F32, ROWS_MAX, 1, KV, D), v = k, gk = k, gv = k;
    v.data = x->v;
    gk.data = x->gk;
    gv.data = x->gv;
    if (reverse)
        CHECK_OK(twice_attention_bwd(&s, &gq, &gk, &gv, &gout, &out, &lse, &q, &k, &v, &a));
    else
        CHECK_OK(twice_attention(&s, &out, &lse, &q, &k, &v, &a));
}

/* Rows and keys of the prompt alone. */
static void prompt_run(struct run *r) {
    *r = (struct run){.n = 1, .most = P, .rows = P, .start = {0, P}, .len = {P}};
    for (int32_t j = 0; j < P; j++)
        r->pages[j] = j;
}

/* All responses, each over the prompt's keys and its own. */
static void responses_run(struct run *r, const struct numbers *x) {
    *r = (struct run){.n = N, .most = P + 40, .first = P, .rows = x->start[N] - P};
    for (int32_t i = 0; i < N; i++) {
        r->start[i + 1] = x->start[i + 1] - P;
        r->len[i] = P + x->start[i + 1] - x->start[i];
        for (int32_t j = 0; j < r->len[i]; j++)
            r->pages[i * r->most + j] = j < P ? j : x->start[i] + j - P;
    }
}

static void by_schedule(struct numbers *x) {
    static struct run prompt, responses;
    prompt_run(&prompt);
    responses_run(&responses, x);
    kernel(x, &prompt, false);
    kernel(x, &responses, false);
    kernel(x, &responses, true);
    kernel(x, &prompt, true);
}

static void copy_rows(double *to, const double *from, int64_t width, int64_t at, int64_t n) {
    memcpy(to, from, (size_t)(P * width) * sizeof *to);
    memcpy(to + P * width, from + at * width, (size_t)(n * width) * sizeof *to);
}

static void add_rows(double *to, const double *from, int64_t width, int64_t at, int64_t n) {
    for (int64_t j = 0; j < P * width; j++)
        to[j] += from[j];
    for (int64_t j = 0; j < n * width; j++)
        to[at * width + j] += from[P * width + j];
}

/* Each response behind a copy of the prompt; gradients of the copies are added up. */
static void by_copies(struct numbers *x) {
    static struct run r;
    for (int32_t i = 0; i < N; i++) {
        int32_t at = x->start[i], n = x->start[i + 1] - at;
        struct numbers *y = mem_zalloc(sizeof *y);
        copy_rows(y->q, x->q, Q, at, n);
        copy_rows(y->k, x->k, K, at, n);
        copy_rows(y->v, x->v, K, at, n);
        copy_rows(y->gout, x->gout, Q, at, n);
        memcpy(y->gout, x->gprompt[i], sizeof x->gprompt[i]);
        r = (struct run){.n = 1, .most = P + n, .rows = P + n, .start = {0, P + n}};
        r.len[0] = P + n;
        for (int32_t j = 0; j < P + n; j++)
            r.pages[j] = j;
        kernel(y, &r, false);
        kernel(y, &r, true);
        memcpy(x->out, y->out, P * Q * sizeof *x->out);
        memcpy(x->out + at * Q, y->out + P * Q, (size_t)n * Q * sizeof *x->out);
        add_rows(x->gq, y->gq, Q, at, n);
        add_rows(x->gk, y->gk, K, at, n);
        add_rows(x->gv, y->gv, K, at, n);
        mem_free(y);
    }
}

/* --- two regions --------------------------------------------------------------------------- */

struct part { /* softmax over one region */
    double lse, out[D];
};

static struct part region(const struct numbers *x, const double *q, int64_t o, int32_t from,
                          int32_t to) {
    struct part r = {.lse = -INFINITY};
    double sum = 0, max = -INFINITY;
    for (int32_t j = from; j < to; j++)
        max = fmax(max, 0.25 * product(q, x->k + j * K + o, D));
    for (int32_t j = from; j < to; j++) {
        double p = exp(0.25 * product(q, x->k + j * K + o, D) - max);
        sum += p;
        for (int i = 0; i < D; i++)
            r.out[i] += p * x->v[j * K + o + i];
    }
    for (int i = 0; i < D && to > from; i++)
        r.out[i] /= sum;
    if (to > from) r.lse = max + log(sum);
    return r;
}

static void region_bwd(struct numbers *x, int64_t row, int64_t o, int32_t from, int32_t to,
                       double lse, double t) {
    const double *q = x->q + row, *gout = x->gout + row;
    for (int32_t j = from; j < to; j++) {
        int64_t key = j * K + o;
        double p = exp(0.25 * product(q, x->k + key, D) - lse);
        double gs = 0.25 * p * (product(gout, x->v + key, D) - t);
        for (int i = 0; i < D; i++) {
            x->gq[row + i] += gs * x->k[key + i];
            x->gk[key + i] += gs * q[i];
            x->gv[key + i] += p * gout[i];
        }
    }
}

/* A row that sees the prompt's keys before `shared` and keys from .. to-1 of its own. */
static void by_regions_row(struct numbers *x, int32_t r, int32_t shared, int32_t from, int32_t to) {
    for (int h = 0; h < H; h++) {
        int64_t row = (int64_t)r * Q + h * D, o = h / (H / KV) * D;
        struct part a = region(x, x->q + row, o, 0, shared);
        struct part b = region(x, x->q + row, o, from, to);
        double lse = fmax(a.lse, b.lse), t = 0;
        lse += log(exp(a.lse - lse) + exp(b.lse - lse));
        for (int i = 0; i < D; i++) {
            x->out[row + i] = exp(a.lse - lse) * a.out[i] + exp(b.lse - lse) * b.out[i];
            t += x->out[row + i] * x->gout[row + i];
        }
        region_bwd(x, row, o, 0, shared, lse, t);
        region_bwd(x, row, o, from, to, lse, t);
    }
}

static void by_regions(struct numbers *x) {
    for (int32_t r = 0; r < P; r++)
        by_regions_row(x, r, r + 1, 0, 0);
    for (int32_t i = 0; i < N; i++)
        for (int32_t r = x->start[i]; r < x->start[i + 1]; r++)
            by_regions_row(x, r, P, x->start[i], r + 1);
}

/* --- comparison ---------------------------------------------------------------------------- */

static void near(const char *what, const double *x, const double *y, int64_t n) {
    double worst = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs(x[i] - y[i]));
        size = fmax(size, fabs(y[i]));
    }
    if (!(size > 0 && worst <= 1e-12 * size))
        test_fail(__FILE__, __LINE__, "%s: off by %g of %g", what, worst, size);
}

static void same(const struct numbers *x, const struct numbers *dense) {
    int64_t rows = x->start[N];
    near("out", x->out, dense->out, rows * Q);
    near("gq", x->gq, dense->gq, rows * Q);
    near("gk", x->gk, dense->gk, rows * K);
    near("gv", x->gv, dense->gv, rows * K);
}

TEST(attention_regions_are_dense_in_double) {
    struct numbers *dense = numbers(), *schedule = numbers(), *regions = numbers();
    by_copies(dense);
    by_schedule(schedule);
    by_regions(regions);
    same(schedule, dense);
    same(regions, dense);
    mem_free(dense);
    mem_free(schedule);
    mem_free(regions);
}
