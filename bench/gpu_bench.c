/* gpu_bench.c - single ops of a device (weir-bench --device cuda:0 gpu-ops) against what the same
 * device did in the same run: matrix products and attention against one large square product, what
 * is bound by memory against a copy. Published shapes, random numbers. The figures of a simulated
 * device mean nothing; it shows that the benchmark works. */
#include "bench/gpu.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { FILL = 1 << 16, PAIRS_MAX = 16, TURN_US = 20000 };

static const struct gpu_model models[] = {
    {"qwen3-0.6b", 1024, 28, 16, 8, 128, 3072, 151936, true, true},
    {"qwen3-1.7b", 2048, 28, 16, 8, 128, 6144, 151936, true, true},
    {"qwen3-4b", 2560, 36, 32, 8, 128, 9728, 151936, true, true},
    {"llama3-8b", 4096, 32, 32, 8, 128, 14336, 128256, false, false},
};
static const struct gpu_model tiny[] = {{"tiny", 32, 2, 2, 1, 16, 64, 96, true, true}};

const struct gpu_model *gpu_model(int i) {
    const int n = bench_quick ? 1 : (int)(sizeof models / sizeof models[0]);
    return i >= n ? NULL : bench_quick ? &tiny[i] : &models[i];
}

struct shape gpu_shape(const struct gpu_model *m, int32_t layers, int32_t context, bool bf16) {
    return (struct shape){.family = m->qk_norm ? SHAPE_QWEN3 : SHAPE_LLAMA,
                          .d = m->d,
                          .layers = layers,
                          .heads = m->heads,
                          .kv_heads = m->kv_heads,
                          .head_width = m->head_width,
                          .ffn = m->ffn,
                          .vocab = m->vocab,
                          .context = context,
                          .norm_eps = 1e-6F,
                          .rope_theta = 1e6,
                          .rope_factor = 1,
                          .rope_attn = 1,
                          .qk_norm = m->qk_norm,
                          .tied_head = m->tied,
                          .bf16 = bf16,
                          .bos = -1};
}

/* Whether the ops take bf16: asked with a product of one element. */
static enum kern_dtype type_of(const struct gpu *g) {
    void *p = NULL;
    bench_must(kern_alloc(g->b, &p, 4096), "alloc");
    struct kern_tensor x = kern_view2(p, KERN_BF16, 1, 8), w = kern_view2(p, KERN_BF16, 8, 8);
    struct kern_tensor y = kern_view2((char *)p + 2048, KERN_BF16, 1, 8);
    int rc = kern_matmul(g->b, g->s, &y, &x, &w, NULL, NULL);
    bench_must(kern_sync(g->b, g->s), "sync");
    kern_release(g->b, p);
    return rc == 0 ? KERN_BF16 : KERN_F32;
}

void gpu_open(struct gpu *g, const struct kern_limits *l) {
    *g = (struct gpu){.pairs = bench_quick ? 1 : 5};
    bench_must(kern_open(&g->b, bench_device, 0), bench_device);
    bench_must(kern_stream_open(g->b, &g->s, kern_scratch_bytes(g->b, l)), "stream");
    g->t = type_of(g);
    g->type = kern_dtype_name(g->t);
}

void gpu_close(struct gpu *g) {
    kern_stream_close(g->b, g->s);
    kern_close(g->b);
}

void gpu_fill(const struct gpu *g, const struct kern_tensor *t) {
    static uint16_t block[FILL];
    size_t all = (size_t)kern_elements(t) * kern_dtype_bytes(t->dtype), have = sizeof block;
    for (uint32_t i = 0; i < FILL; i++) { /* the upper half of floats in +-[0.0078, 0.0313) */
        uint32_t r = i * 2654435761U >> 16;
        block[i] = (uint16_t)(r & 0x80ffU) | 0x3c00U;
    }
    if (have > all) have = all;
    bench_must(kern_put(g->b, g->s, t->data, block, have), "put");
    for (size_t n; have < all; have += n) {
        n = all - have < have ? all - have : have;
        bench_must(kern_copy(g->b, g->s, (char *)t->data + have, t->data, n), "copy");
    }
}

struct kern_tensor gpu_tensor(const struct gpu *g, enum kern_dtype t, int64_t n, int64_t m) {
    void *p = NULL;
    bench_must(kern_alloc(g->b, &p, (size_t)(n * m) * kern_dtype_bytes(t)), "alloc");
    struct kern_tensor x = kern_view2(p, t, n, m);
    gpu_fill(g, &x);
    return x;
}

struct kern_tensor gpu_ints(const struct gpu *g, const int32_t *x, int64_t n, int64_t m) {
    void *p = NULL;
    size_t bytes = (size_t)(n * (m ? m : 1)) * sizeof *x;
    bench_must(kern_alloc(g->b, &p, bytes), "alloc");
    bench_must(kern_put(g->b, g->s, p, x, bytes), "put");
    return m ? kern_view2(p, KERN_I32, n, m) : kern_view1(p, KERN_I32, n);
}

void gpu_free(const struct gpu *g, struct kern_tensor *t) {
    kern_release(g->b, t->data);
    t->data = NULL;
}

/* --- ceilings and times --------------------------------------------------------------------- */

static void product_once(void *ctx) {
    struct gpu_ceiling *c = ctx;
    bench_must(kern_matmul(c->g->b, c->g->s, &c->c, &c->a, &c->b, NULL, NULL), "matmul");
}

void gpu_product_open(struct gpu_ceiling *c, struct gpu *g) {
    const int64_t n = bench_quick ? 32 : 8192;
    *c = (struct gpu_ceiling){.g = g};
    c->a = gpu_tensor(g, g->t, n, n);
    c->b = gpu_tensor(g, g->t, n, n);
    c->c = gpu_tensor(g, g->t, n, n);
    c->work = (struct gpu_work){product_once, c, 2.0 * (double)n * (double)n * (double)n};
}

static void copy_once(void *ctx) {
    struct gpu_ceiling *c = ctx;
    bench_must(kern_copy(c->g->b, c->g->s, c->b.data, c->a.data, c->a.bytes), "copy");
}

void gpu_copy_open(struct gpu_ceiling *c, struct gpu *g) {
    const int64_t n = bench_quick ? 1 << 12 : 1 << 28;
    *c = (struct gpu_ceiling){.g = g};
    c->a = gpu_tensor(g, KERN_F32, 1, n);
    c->b = gpu_tensor(g, KERN_F32, 1, n);
    c->work = (struct gpu_work){copy_once, c, 8.0 * (double)n};
}

void gpu_ceiling_close(struct gpu_ceiling *c) {
    gpu_free(c->g, &c->a);
    gpu_free(c->g, &c->b);
    gpu_free(c->g, &c->c);
}

/* One call in a row of calls that are waited for together. */
static double time_us(struct gpu *g, const struct gpu_work *w, int calls) {
    bench_must(kern_sync(g->b, g->s), "sync");
    uint64_t start = clock_us();
    for (int i = 0; i < calls; i++)
        w->run(w->ctx);
    bench_must(kern_sync(g->b, g->s), "sync");
    return ((double)(clock_us() - start) + 1e-3) / calls; /* never 0: it divides */
}

static int calls_of(struct gpu *g, const struct gpu_work *w) {
    double once = time_us(g, w, 1); /* the first also chooses algorithms */
    if (bench_quick) return 1;
    once = time_us(g, w, 1);
    return once >= TURN_US ? 1 : 1 + (int)(TURN_US / (once + 1));
}

struct gpu_result gpu_against(struct gpu *g, const struct gpu_work *work,
                              const struct gpu_ceiling *ceiling) {
    double own[PAIRS_MAX], peer[PAIRS_MAX];
    const int own_calls = calls_of(g, work), peer_calls = calls_of(g, &ceiling->work);
    for (int i = 0; i < g->pairs; i++) {
        own[i] = time_us(g, work, own_calls);
        peer[i] = time_us(g, &ceiling->work, peer_calls);
    }
    struct bench_pair p = bench_summary(own, peer, g->pairs);
    const double scale = work->amount / ceiling->work.amount;
    return (struct gpu_result){.share = p.ratio * scale,
                               .share_min = p.ratio_min * scale,
                               .share_max = p.ratio_max * scale,
                               .us = p.a_us,
                               .rate = work->amount / p.a_us,
                               .ceiling_rate = ceiling->work.amount / p.b_us,
                               .n = p.n};
}

void gpu_print_end(const struct gpu_result *r, const char *against, const char *unit, double per) {
    printf(", \"device\": \"%s\", \"against\": \"%s\", \"share\": %.4f, \"min\": %.4f, "
           "\"max\": %.4f, \"n\": %d, \"ms\": %.4f, \"unit\": \"%s\", \"own\": %.2f, "
           "\"ceiling\": %.2f}\n",
           bench_device, against, r->share, r->share_min, r->share_max, r->n, r->us / 1e3, unit,
           r->rate / per, r->ceiling_rate / per);
    fflush(stdout);
}

void gpu_print_ratio(const char *of, const struct gpu_result *exact,
                     const struct gpu_result *fast) {
    printf("{\"bench\": \"gpu exact cost\", \"of\": \"%s\", \"device\": \"%s\", "
           "\"exact_ms\": %.4f, \"fast_ms\": %.4f, \"exact_cost\": %.4f, \"n\": %d}\n",
           of, bench_device, exact->us / 1e3, fast->us / 1e3, fast->share / exact->share, fast->n);
    fflush(stdout);
}

void gpu_print_cost(struct gpu *g, struct kern_stream *s, const char *of,
                    const struct gpu_work *work, const struct gpu_ceiling *ceiling,
                    const struct gpu_result *r) {
    if (kern_always_exact(g->b)) return;
    bench_must(kern_exact(g->b, s ? s : g->s, false), "exact");
    struct gpu_result fast = gpu_against(g, work, ceiling);
    bench_must(kern_exact(g->b, s ? s : g->s, true), "exact");
    gpu_print_ratio(of, r, &fast);
}

static void print_flops(const struct gpu_result *r) {
    gpu_print_end(r, "a large square product", "TFLOP/s", 1e6);
}

static void print_bytes(const struct gpu_result *r) {
    gpu_print_end(r, "a copy", "GB/s", 1e3);
}

/* --- matrix products of a layer ------------------------------------------------------------- */

enum { MATS = 7 };
enum pass { FORWARD, DX, DW, PASSES };

struct layer {
    struct gpu *g;
    int64_t rows;
    struct kern_tensor x, y, w[MATS], gw[MATS];
    enum pass pass;
};

static void layer_once(void *ctx) {
    struct layer *l = ctx;
    const struct gpu *g = l->g;
    for (int i = 0; i < MATS; i++) {
        const struct kern_tensor *w = &l->w[i];
        struct kern_tensor x = kern_view2(l->x.data, g->t, l->rows, w->dim[1]);
        struct kern_tensor y = kern_view2(l->y.data, g->t, l->rows, w->dim[0]);
        int rc = l->pass == FORWARD ? kern_matmul(g->b, g->s, &y, &x, w, NULL, NULL)
                 : l->pass == DX    ? kern_matmul_dx(g->b, g->s, &x, &y, w, false)
                                    : kern_matmul_dw(g->b, g->s, &l->gw[i], NULL, &y, &x);
        bench_must(rc, "product");
    }
}

/* Forward of a few rows, as decode has them: bound by reading the weights. */
static void bench_few_rows(struct layer *l, const struct gpu_model *m, double bytes,
                           const struct gpu_ceiling *copy) {
    static const int64_t few[] = {1, 64, 256};
    struct gpu_work w = {layer_once, l, bytes};
    const int64_t rows = l->rows;
    char of[96];
    l->pass = FORWARD;
    for (int i = 0; i < (bench_quick ? 1 : 3); i++) {
        l->rows = few[i];
        struct gpu_result r = gpu_against(l->g, &w, copy);
        snprintf(of, sizeof of, "layer products of %lld rows, %s", (long long)few[i], m->name);
        printf("{\"bench\": \"gpu layer products\", \"model\": \"%s\", \"pass\": \"forward\", "
               "\"dtype\": \"%s\", \"rows\": %lld",
               m->name, l->g->type, (long long)few[i]);
        gpu_print_end(&r, "a copy", "GB/s", 1e3);
        gpu_print_cost(l->g, NULL, of, &w, copy, &r);
    }
    l->rows = rows;
}

static void bench_layer(struct gpu *g, const struct gpu_model *m, const struct gpu_ceiling *ceiling,
                        const struct gpu_ceiling *copy) {
    static const char *const names[PASSES] = {"forward", "dx", "dw"};
    const int64_t q = (int64_t)m->heads * m->head_width, kv = (int64_t)m->kv_heads * m->head_width;
    const int64_t dims[MATS][2] = {{q, m->d},      {kv, m->d},     {kv, m->d},    {m->d, q},
                                   {m->ffn, m->d}, {m->ffn, m->d}, {m->d, m->ffn}};
    const int64_t wide = m->ffn > q ? m->ffn : q;
    struct layer l = {.g = g, .rows = bench_quick ? 8 : 8192};
    double flops = 0, bytes = 0;
    char of[96];
    l.x = gpu_tensor(g, g->t, l.rows, wide > m->d ? wide : m->d);
    l.y = gpu_tensor(g, g->t, l.rows, wide > m->d ? wide : m->d);
    for (int i = 0; i < MATS; i++) {
        l.w[i] = gpu_tensor(g, g->t, dims[i][0], dims[i][1]);
        l.gw[i] = gpu_tensor(g, KERN_F32, dims[i][0], dims[i][1]);
        flops += 2.0 * (double)l.rows * (double)dims[i][0] * (double)dims[i][1];
        bytes += (double)l.w[i].bytes;
    }
    for (int pass = 0; pass < PASSES; pass++) {
        l.pass = (enum pass)pass;
        struct gpu_work w = {layer_once, &l, flops};
        struct gpu_result r = gpu_against(g, &w, ceiling);
        printf("{\"bench\": \"gpu layer products\", \"model\": \"%s\", \"pass\": \"%s\", "
               "\"dtype\": \"%s\", \"rows\": %lld",
               m->name, names[pass], g->type, (long long)l.rows);
        print_flops(&r);
        snprintf(of, sizeof of, "layer products, %s, %s", names[pass], m->name);
        gpu_print_cost(g, NULL, of, &w, ceiling, &r);
    }
    bench_few_rows(&l, m, bytes, copy);
    gpu_free(g, &l.x);
    gpu_free(g, &l.y);
    for (int i = 0; i < MATS; i++) {
        gpu_free(g, &l.w[i]);
        gpu_free(g, &l.gw[i]);
    }
}

/* --- attention ------------------------------------------------------------------------------ */

enum { PAGE = 64 };

struct attention {
    struct gpu *g;
    struct kern_tensor q, out, lse, gq, gout, pool_k, pool_v, gpool_k, gpool_v;
    struct kern_attn a;
};

static void attention_once(void *ctx) {
    struct attention *x = ctx;
    bench_must(
        kern_attention(x->g->b, x->g->s, &x->out, &x->lse, &x->q, &x->pool_k, &x->pool_v, &x->a),
        "attention");
}

static void attention_bwd_once(void *ctx) {
    struct attention *x = ctx;
    bench_must(kern_attention_bwd(x->g->b, x->g->s, &x->gq, &x->gpool_k, &x->gpool_v, &x->gout,
                                  &x->out, &x->lse, &x->q, &x->pool_k, &x->pool_v, &x->a),
               "attention_bwd");
}

/* n_seqs sequences of kv keys each, of which the last q_rows are rows of the batch. */
static void attention_open(struct attention *x, struct gpu *g, int32_t n_seqs, int32_t kv,
                           int32_t q_rows, const struct gpu_model *m) {
    const int32_t h = m->heads, hkv = m->kv_heads, d = m->head_width;
    const int32_t page = bench_quick ? 4 : PAGE, each = (kv + page - 1) / page;
    const int64_t rows = (int64_t)n_seqs * q_rows, pages = (int64_t)n_seqs * each;
    int32_t *start = mem_array((size_t)n_seqs + 1, sizeof *start);
    int32_t *len = mem_array((size_t)n_seqs, sizeof *len);
    int32_t *table = mem_array((size_t)pages, sizeof *table);
    for (int32_t s = 0; s <= n_seqs; s++)
        start[s] = s * q_rows;
    for (int32_t s = 0; s < n_seqs; s++)
        len[s] = kv;
    for (int64_t p = 0; p < pages; p++)
        table[p] = (int32_t)p;
    *x = (struct attention){.g = g};
    x->a = (struct kern_attn){.q_start = gpu_ints(g, start, n_seqs + 1, 0),
                              .kv_len = gpu_ints(g, len, n_seqs, 0),
                              .pages = gpu_ints(g, table, n_seqs, each),
                              .n_seqs = n_seqs,
                              .page = page,
                              .q_max = q_rows,
                              .kv_max = kv,
                              .scale = 0.088F};
    struct kern_tensor *rowwise[] = {&x->q, &x->out, &x->gq, &x->gout};
    struct kern_tensor *pools[] = {&x->pool_k, &x->pool_v, &x->gpool_k, &x->gpool_v};
    for (int i = 0; i < 4; i++) {
        *rowwise[i] = gpu_tensor(g, g->t, rows, (int64_t)h * d);
        *rowwise[i] = kern_view3(rowwise[i]->data, g->t, rows, h, d);
        enum kern_dtype t = i < 2 ? g->t : KERN_F32;
        *pools[i] = gpu_tensor(g, t, pages * page, (int64_t)hkv * d);
        *pools[i] = kern_view4(pools[i]->data, t, pages, page, hkv, d);
    }
    x->lse = gpu_tensor(g, KERN_F32, rows, h);
    mem_free(start);
    mem_free(len);
    mem_free(table);
}

static void attention_close(struct attention *x) {
    struct kern_tensor *all[] = {&x->q,       &x->out,      &x->lse,     &x->gq,
                                 &x->gout,    &x->pool_k,   &x->pool_v,  &x->gpool_k,
                                 &x->gpool_v, &x->a.kv_len, &x->a.pages, &x->a.q_start};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        gpu_free(x->g, all[i]);
}

/* 16k tokens, causal. Reverse: 2.5 times the operations of the forward. */
static void bench_attention(struct gpu *g, const struct gpu_model *m, int32_t length,
                            const struct gpu_ceiling *ceiling) {
    const int32_t n_seqs = bench_quick ? 2 : 16384 / length;
    struct attention x;
    char of[96];
    double flops = 2.0 * m->heads * m->head_width * (double)n_seqs * length * (double)length;
    attention_open(&x, g, n_seqs, length, length, m);
    for (int reverse = 0; reverse < 2; reverse++) {
        struct gpu_work w = {reverse ? attention_bwd_once : attention_once, &x,
                             reverse ? 2.5 * flops : flops};
        struct gpu_result r = gpu_against(g, &w, ceiling);
        printf("{\"bench\": \"gpu attention\", \"model\": \"%s\", \"pass\": \"%s\", "
               "\"dtype\": \"%s\", \"tokens\": \"%dx%d\"",
               m->name, reverse ? "reverse" : "forward", g->type, (int)n_seqs, (int)length);
        print_flops(&r);
        snprintf(of, sizeof of, "attention, %s, %dx%d", reverse ? "reverse" : "forward",
                 (int)n_seqs, (int)length);
        gpu_print_cost(g, NULL, of, &w, ceiling, &r);
    }
    attention_close(&x);
}

/* One row for each sequence: the keys and values are read once. */
static void bench_decode_attention(struct gpu *g, const struct gpu_model *m, int32_t batch,
                                   int32_t context, const struct gpu_ceiling *ceiling) {
    struct attention x;
    double bytes = 2.0 * batch * (double)context * m->kv_heads * m->head_width *
                   (double)kern_dtype_bytes(g->t);
    char of[96];
    attention_open(&x, g, batch, context, 1, m);
    struct gpu_work w = {attention_once, &x, bytes};
    struct gpu_result r = gpu_against(g, &w, ceiling);
    printf("{\"bench\": \"gpu decode attention\", \"model\": \"%s\", \"dtype\": \"%s\", "
           "\"batch\": %d, \"context\": %d",
           m->name, g->type, (int)batch, (int)context);
    print_bytes(&r);
    snprintf(of, sizeof of, "decode attention, batch %d, context %d", (int)batch, (int)context);
    gpu_print_cost(g, NULL, of, &w, ceiling, &r);
    attention_close(&x);
}

/* --- head, optimizer, publication ----------------------------------------------------------- */

struct head {
    struct gpu *g;
    struct kern_tensor x, w, gw, gx, logits, g_logits, logprob, lse, ids, ones;
};

/* Log-probs of a chunk of rows and their reverse: three products and two passes over logits. */
static void head_once(void *ctx) {
    struct head *h = ctx;
    const struct gpu *g = h->g;
    bench_must(kern_matmul(g->b, g->s, &h->logits, &h->x, &h->w, NULL, NULL), "matmul");
    bench_must(kern_logprob(g->b, g->s, &h->logprob, NULL, &h->lse, &h->logits, &h->ids, &h->ones),
               "logprob");
    bench_must(kern_logprob_bwd(g->b, g->s, &h->logits, &h->logprob, NULL, NULL, &h->lse, &h->ids,
                                &h->ones),
               "logprob_bwd");
    if (g->t != KERN_F32) bench_must(kern_cast(g->b, g->s, &h->g_logits, &h->logits), "cast");
    bench_must(kern_matmul_dx(g->b, g->s, &h->gx, &h->g_logits, &h->w, false), "matmul_dx");
    bench_must(kern_matmul_dw(g->b, g->s, &h->gw, NULL, &h->g_logits, &h->x), "matmul_dw");
}

static void bench_head(struct gpu *g, const struct gpu_model *m,
                       const struct gpu_ceiling *ceiling) {
    const int64_t rows = bench_quick ? 4 : 2048;
    int32_t *ids = mem_zalloc((size_t)rows * sizeof *ids);
    struct head h = {.g = g};
    h.x = gpu_tensor(g, g->t, rows, m->d);
    h.gx = gpu_tensor(g, g->t, rows, m->d);
    h.w = gpu_tensor(g, g->t, m->vocab, m->d);
    h.gw = gpu_tensor(g, KERN_F32, m->vocab, m->d);
    h.logits = gpu_tensor(g, KERN_F32, rows, m->vocab);
    h.g_logits = g->t == KERN_F32 ? h.logits : gpu_tensor(g, g->t, rows, m->vocab);
    struct kern_tensor *vectors[] = {&h.logprob, &h.lse, &h.ones};
    for (int i = 0; i < 3; i++) {
        *vectors[i] = gpu_tensor(g, KERN_F32, rows, 1);
        *vectors[i] = kern_view1(vectors[i]->data, KERN_F32, rows);
    }
    h.ids = gpu_ints(g, ids, rows, 0);
    double flops = 6.0 * (double)rows * m->d * (double)m->vocab;
    struct gpu_result r = gpu_against(g, &(struct gpu_work){head_once, &h, flops}, ceiling);
    printf("{\"bench\": \"gpu head\", \"model\": \"%s\", \"dtype\": \"%s\", \"rows\": %lld",
           m->name, g->type, (long long)rows);
    print_flops(&r);
    if (g->t != KERN_F32) gpu_free(g, &h.g_logits);
    struct kern_tensor *all[] = {&h.x,       &h.w,   &h.gw,  &h.gx,  &h.logits,
                                 &h.logprob, &h.lse, &h.ids, &h.ones};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        gpu_free(g, all[i]);
    mem_free(ids);
}

struct optimizer {
    struct gpu *g;
    struct kern_tensor w, m, v, grad, previous, rounded, changed;
};

/* As a step does: the scalars of alignment control, then one pass that projects, updates, keeps the
 * gradient for the next step in bf16, rounds the policy and notes which of its values changed. */
static void optimizer_once(void *ctx) {
    struct optimizer *o = ctx;
    const struct gpu *g = o->g;
    double scalars[3];
    struct kern_adamw p = {
        .lr = 1e-6F, .beta1 = 0.9F, .beta2 = 0.95F, .eps = 1e-8F, .step = 10, .grad_scale = 1};
    p.along = p.keep = o->previous;
    p.along_scale = -1e-3F;
    p.changed = o->changed;
    if (g->t != KERN_F32) p.rounded = o->rounded;
    bench_must(kern_dot(g->b, g->s, scalars, &o->grad, &o->previous), "dot");
    bench_must(kern_adamw(g->b, g->s, &o->w, &o->m, &o->v, &o->grad, &p), "adamw");
}

static void bench_optimizer(struct gpu *g, const struct gpu_ceiling *ceiling) {
    const int64_t n = bench_quick ? 1 << 10 : 1 << 28;
    struct optimizer o = {.g = g};
    struct kern_tensor *f32[] = {&o.w, &o.m, &o.v, &o.grad};
    int32_t *zeros = mem_zalloc((size_t)n / 8);
    for (int i = 0; i < 4; i++)
        *f32[i] = gpu_tensor(g, KERN_F32, 1, n);
    o.previous = gpu_tensor(g, KERN_BF16, 1, n);
    o.changed = gpu_ints(g, zeros, n / 32, 0);
    mem_free(zeros);
    bench_must(kern_axpby(g->b, g->s, &o.v, 0, &o.w, 0), "axpby"); /* squares are not negative */
    o.rounded = g->t == KERN_F32 ? o.w : gpu_tensor(g, g->t, 1, n);
    /* the scalars read 6; the pass reads 16 + 2, writes 12 + 2, the policy 2, a bit of the map */
    double bytes = (6.0 + 32.0 + 0.125 + (g->t == KERN_F32 ? 0 : 2.0)) * (double)n;
    struct gpu_result r = gpu_against(g, &(struct gpu_work){optimizer_once, &o, bytes}, ceiling);
    printf("{\"bench\": \"gpu adamw with control\", \"n\": %lld, \"bytes_each\": %.3f",
           (long long)n, bytes / (double)n);
    print_bytes(&r);
    if (g->t != KERN_F32) gpu_free(g, &o.rounded);
    gpu_free(g, &o.previous);
    gpu_free(g, &o.changed);
    for (int i = 0; i < 4; i++)
        gpu_free(g, f32[i]);
}

/* What publishing a version costs the device: its bytes to host memory, as kern_get brings them. */
static void bench_publish_bytes(struct gpu *g) {
    const size_t bytes = bench_quick ? 1 << 16 : (size_t)1 << 30;
    struct kern_tensor x = gpu_tensor(g, KERN_F32, 1, (int64_t)(bytes / sizeof(float)));
    char *host = mem_alloc(bytes), *other = mem_alloc(bytes);
    double get[PAIRS_MAX], move[PAIRS_MAX];
    memset(host, 1, bytes);
    memset(other, 1, bytes);
    for (int i = -1; i < g->pairs; i++) {
        uint64_t start = clock_us(), middle;
        bench_must(kern_get(g->b, g->s, host, x.data, bytes), "get");
        middle = clock_us();
        memcpy(other, host, bytes);
        if (i < 0) continue;
        get[i] = (double)(middle - start) + 1e-3;
        move[i] = (double)(clock_us() - middle) + 1e-3;
    }
    struct bench_pair p = bench_summary(get, move, g->pairs);
    printf("{\"bench\": \"gpu publish\", \"device\": \"%s\", \"bytes\": %zu, \"against\": "
           "\"memcpy on the host\", \"ratio\": %.3f, \"min\": %.3f, \"max\": %.3f, \"n\": %d, "
           "\"gb_s\": %.2f, \"memcpy_gb_s\": %.2f}\n",
           bench_device, bytes, p.ratio, p.ratio_min, p.ratio_max, p.n,
           (double)bytes / p.a_us / 1e3, (double)bytes / p.b_us / 1e3);
    fflush(stdout);
    gpu_free(g, &x);
    mem_free(host);
    mem_free(other);
}

static struct kern_limits limits(void) {
    struct kern_limits l = {.rows = 16384,
                            .width_max = 151936,
                            .heads = 32,
                            .head_width = 128,
                            .kv_max = 8192,
                            .bf16_width = 16384};
    if (bench_quick)
        l = (struct kern_limits){.rows = 64,
                                 .width_max = 128,
                                 .heads = 8,
                                 .head_width = 32,
                                 .kv_max = 64,
                                 .bf16_width = 128};
    return l;
}

int bench_gpu_ops(void) {
    const struct kern_limits l = limits();
    struct gpu g;
    struct gpu_ceiling product, copy;
    gpu_open(&g, &l);
    gpu_product_open(&product, &g);
    gpu_copy_open(&copy, &g);
    for (int i = 0; gpu_model(i); i++)
        bench_layer(&g, gpu_model(i), &product, &copy);
    for (int i = 0; gpu_model(i); i++)
        bench_head(&g, gpu_model(i), &product);
    bench_optimizer(&g, &copy);
    const struct gpu_model *last = gpu_model(bench_quick ? 0 : 3);
    static const int32_t batches[] = {1, 64, 256};
    for (int i = 0; i < (bench_quick ? 1 : 3); i++)
        for (int32_t context = bench_quick ? 1024 + 8 : 1024; context <= 8192; context *= 8)
            if (batches[i] * (int64_t)context <= 64 * 8192) /* memory */
                bench_decode_attention(&g, last, batches[i], context, &copy);
    bench_publish_bytes(&g);
    bench_attention(&g, last, bench_quick ? 8 : 2048, &product);
    if (!bench_quick) bench_attention(&g, last, 8192, &product);
    gpu_ceiling_close(&product);
    gpu_ceiling_close(&copy);
    gpu_close(&g);
    return 0;
}
