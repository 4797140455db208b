/* train_bench.c - a whole training step against its matrix products alone.
 *
 * The step is what the trainer runs: forward, loss, reverse, alignment scalars, clip, AdamW, hash
 * of the weights. The replay does the same matrix products of the same shapes on the same backend
 * and nothing else: the ceiling for any implementation on these kernels. Where there is PyTorch,
 * the same step of the same shape there (bench/torch_train.py). Both are timed in turn. */
#include "bench/bench.h"
#include "bench/dims.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/child.h"
#include "trainer/learn/step.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MATS = 7 };

static const struct setting {
    const char *name;
    int32_t d, layers, heads, kv_heads, ffn, vocab, seqs, tokens;
    int pairs;
} settings[] = {
    {"0.26M", 64, 5, 8, 4, 172, 512, 4, 256, 7},
    {"10M", 288, 6, 6, 6, 768, 12288, 4, 256, 5},
    {"125M", 768, 12, 12, 12, 2048, 50304, 4, 256, 3},
};

struct run {
    struct step *step;
    struct batch *batch;
    const struct kern_backend *b;
    struct kern_stream *s;
    struct shape shape;
    int64_t rows, trained;
    struct kern_tensor x, y, logits, w[MATS + 1], g[MATS + 1], packed[MATS + 1];
};

static struct kern_tensor tensor(const struct run *r, int64_t n, int64_t m) {
    void *p = NULL;
    bench_must(kern_alloc(r->b, &p, (size_t)(n * m) * sizeof(float)), "alloc");
    for (int64_t i = 0; i < n * m; i++)
        ((float *)p)[i] = (float)(i * 2654435761U % 1000) / 1000 - 0.5F;
    return kern_view2(p, KERN_F32, n, m);
}

static struct kern_tensor narrow(struct kern_tensor t, int64_t n, int64_t m) {
    return kern_view2(t.data, KERN_F32, n, m);
}

static void step_once(void *ctx) {
    struct run *r = ctx;
    struct step_report report;
    bench_must(step_run(r->step, r->batch, &report), "step");
}

/* Forward, gradient by input, gradient by weight of product i for n rows. */
static void product(struct run *r, int i, int64_t n, int passes) {
    int64_t out = r->w[i].dim[0], in = r->w[i].dim[1];
    struct kern_tensor x = narrow(r->x, n, in);
    struct kern_tensor y = narrow(i == MATS ? r->logits : r->y, n, out);
    if (passes & 1)
        bench_must(kern_matmul(r->b, r->s, &y, &x, &r->w[i],
                               r->packed[i].data ? &r->packed[i] : NULL, NULL),
                   "matmul");
    if (!(passes & 2)) return;
    bench_must(kern_matmul_dx(r->b, r->s, &x, &y, &r->w[i], false), "matmul_dx");
    bench_must(kern_matmul_dw(r->b, r->s, &r->g[i], NULL, &y, &x), "matmul_dw");
}

static void products_once(void *ctx) {
    struct run *r = ctx;
    for (int32_t l = 0; l < r->shape.layers; l++)
        for (int i = 0; i < MATS; i++)
            product(r, i, r->rows, 1);
    product(r, MATS, r->trained, 3); /* at once, where the trainer saves memory */
    for (int32_t l = 0; l < r->shape.layers; l++)
        for (int i = MATS; i-- > 0;)
            product(r, i, r->rows, 2);
}

static void open_products(struct run *r) {
    const struct shape *s = &r->shape;
    int64_t q = (int64_t)s->heads * s->head_width, kv = (int64_t)s->kv_heads * s->head_width;
    const int64_t dims[MATS + 1][2] = {{q, s->d},      {kv, s->d},      {kv, s->d},
                                       {s->d, q},      {s->ffn, s->d},  {s->ffn, s->d},
                                       {s->d, s->ffn}, {s->vocab, s->d}};
    int64_t width = s->ffn > s->d ? s->ffn : s->d;
    struct kern_limits l = {.rows = r->rows,
                            .width_max = s->vocab > width ? s->vocab : width,
                            .heads = s->heads,
                            .head_width = s->head_width,
                            .kv_max = s->context};
    bench_must(kern_stream_open(r->b, &r->s, kern_scratch_bytes(r->b, &l)), "stream");
    r->x = tensor(r, r->rows, width);
    r->y = tensor(r, r->rows, width);
    r->logits = tensor(r, r->trained, s->vocab);
    for (int i = 0; i <= MATS; i++) {
        r->w[i] = tensor(r, dims[i][0], dims[i][1]);
        r->g[i] = tensor(r, dims[i][0], dims[i][1]);
        size_t bytes = kern_pack_bytes(r->b, KERN_F32, dims[i][0], dims[i][1]);
        r->packed[i] = (struct kern_tensor){0};
        if (bytes == 0) continue;
        void *p = NULL;
        bench_must(kern_alloc(r->b, &p, bytes), "alloc");
        r->packed[i] = kern_view1(p, KERN_F32, (int64_t)(bytes / sizeof(float)));
        bench_must(kern_pack_weight(r->b, r->s, &r->packed[i], &r->w[i]), "pack");
    }
}

static void close_products(struct run *r) {
    kern_release(r->b, r->x.data);
    kern_release(r->b, r->y.data);
    kern_release(r->b, r->logits.data);
    for (int i = 0; i <= MATS; i++) {
        kern_release(r->b, r->w[i].data);
        kern_release(r->b, r->g[i].data);
        kern_release(r->b, r->packed[i].data);
    }
    kern_stream_close(r->b, r->s);
}

/* seqs trajectories of different prompts of one token; every other token is trained. */
static struct batch *make_batch(const struct setting *k) {
    struct batch *b = batch_open((uint32_t)k->seqs);
    uint64_t key = rng_key(1, RNG_TEST);
    int32_t n = k->tokens, *ids = mem_array((size_t)n, sizeof *ids);
    float *logprob = mem_array((size_t)n, sizeof *logprob);
    b->n_groups = (uint32_t)k->seqs / 2;
    for (uint32_t i = 0; i < b->n; i++) {
        for (int32_t t = 0; t < n; t++) {
            ids[t] = (int32_t)rng_below(key, i, (uint64_t)t, (uint64_t)k->vocab);
            logprob[t] = -(float)log((double)k->vocab);
        }
        batch_set(b, i, ids, 1, ids + 1, n - 1, logprob, NULL, NULL, 0);
        b->traj[i].group = i / 2;
        b->traj[i].reward = (float)(i % 2);
    }
    mem_free(ids);
    mem_free(logprob);
    return b;
}

static struct shape shape_of(const struct setting *k) {
    struct shape s = DIMS_LLAMA(k->d, k->layers, k->heads, k->kv_heads, k->d / k->heads, k->ffn,
                                k->vocab, k->tokens);
    s.bos = 1;
    s.n_eos = 1;
    s.eos[0] = 2;
    return s;
}

static void open_run(struct run *r, const struct setting *k, const char *dir) {
    struct recipe *recipe = NULL;
    char yaml[512];
    snprintf(yaml, sizeof yaml,
             "model: {weights: random}\n"
             "rollout: {group_size: 2, max_prompt_tokens: 1, max_new_tokens: %d}\n"
             "trainer: {device: cpu, threads: 1, batch: {groups: %d, tokens: %d},\n"
             "          staleness: {max: 1024}}\n",
             k->tokens - 1, k->seqs / 2, k->seqs * k->tokens);
    struct shape s = shape_of(k);
    bench_must(shape_write(&s, dir, "float32"), "shape");
    bench_must(recipe_parse(&recipe, yaml, strlen(yaml), "bench", NULL, 0), "recipe");
    bench_must(step_open(&r->step, recipe, dir), "step");
    recipe_close(&recipe);
    r->shape = s;
    r->b = params_backend(step_weights(r->step));
    r->batch = make_batch(k);
    r->rows = (int64_t)k->seqs * (k->tokens - 1); /* the last token predicts nothing */
    r->trained = r->rows;
    open_products(r);
}

static void torch_once(void *ctx) {
    char line[64];
    snprintf(line, sizeof line, "train %s 1", (const char *)ctx);
    if (child_torch_ms(line) < 0) bench_must(FAIL(ERR_CONFIG, "unknown shape"), "torch");
}

static void print_one(const struct setting *k, const struct run *r, const char *against,
                      const struct bench_pair *p) {
    double tokens = (double)k->seqs * k->tokens;
    printf("{\"bench\": \"train\", \"shape\": \"%s\", \"parameters\": %" PRId64
           ", \"tokens\": \"%dx%d\", \"threads\": 1, \"against\": \"%s\", \"ratio\": %.3f, "
           "\"min\": %.3f, \"max\": %.3f, \"n\": %d, \"tokens_per_s\": %.0f, "
           "\"step_ms\": %.2f, \"peer_ms\": %.2f}\n",
           k->name, shape_params(&r->shape), k->seqs, k->tokens, against, p->ratio, p->ratio_min,
           p->ratio_max, p->n, tokens / p->a_us * 1e6, p->a_us / 1e3, p->b_us / 1e3);
    fflush(stdout);
}

static void bench_one(const struct setting *k, const char *dir) {
    struct run r = {0};
    open_run(&r, k, dir);
    struct bench_pair p = bench_pairs(step_once, &r, products_once, &r, k->pairs, 1);
    print_one(k, &r, "its matrix products", &p);
    if (child_has_torch()) {
        p = bench_pairs(step_once, &r, torch_once, (void *)(uintptr_t)k->name, k->pairs, 1);
        print_one(k, &r, "pytorch", &p);
    }
    close_products(&r);
    batch_close(&r.batch);
    step_close(&r.step);
}

int bench_train(void) {
    char dir[] = "/tmp/weir-bench-XXXXXX";
    if (!mkdtemp(dir)) return fprintf(stderr, "weir-bench: no directory in /tmp\n"), 73;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        bench_one(&settings[i], dir);
    bench_must(file_remove_tree(dir), "remove");
    return 0;
}
