/* gpu_model_bench.c - the policy network on a device (weir-bench --device cuda:0 gpu-model): a
 * training step and a decode step at published shapes, and the schedule of shared prefixes against
 * the dense pass.
 *
 * In bf16 where the ops take it, with f32 masters that AdamW's pass rounds. The training step is
 * forward, loss, reverse, the scalars of the norm and of alignment control, and AdamW, on 8k
 * tokens. Its operations are those of the model (6 for each parameter of a matrix and token, 12 for
 * each key that a query sees, a head and an element), whatever is recomputed. The decode step is
 * forward, logits and sampling over sequences whose keys are in the pool already, issued op by op
 * and, where the backend records, as the engine does it: one replay and one wait; its bytes are the
 * matrices once and the keys and values once. Both are put beside a large square product and a copy
 * of the same minute, and timed again without exactness (gpu_print_cost). Weights are random; where
 * the whole model does not fit in `memory` the number of layers is cut, and the line says so. */
#include "bench/gpu.h"

#include "actor/actor.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "rollout/engine/decode.h"
#include "trainer/learn/step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t memory = (size_t)52 << 30; /* for one benchmark, on an 80 GB device */
enum { PAGE = 64 };

static double matrix_params(const struct gpu_model *m, int32_t layers, bool head) {
    double q = (double)m->heads * m->head_width, kv = (double)m->kv_heads * m->head_width;
    double layer = (double)m->d * (2 * q + 2 * kv + 3.0 * m->ffn);
    return layers * layer + (head ? (double)m->vocab * m->d : 0);
}

static struct params *random_params(const struct gpu *g, const struct shape *s) {
    struct params *p = NULL;
    bench_must(params_open(&p, g->b, s), "weights");
    struct kern_tensor slab = params_slab(p);
    gpu_fill(g, &slab);
    return p;
}

/* --- training ------------------------------------------------------------------------------- */

struct training {
    struct gpu *g;
    struct actor *actor;
    struct params *w, *rounded, *grads, *m, *v, *previous; /* rounded NULL: computes in f32 */
    struct kern_tensor changed;
    struct actor_batch batch;
    int32_t *rows, *targets;
    int64_t step;
};

static int constant_loss(void *ctx, int64_t first, const struct loss_rows *rows) {
    (void)ctx, (void)first;
    for (int64_t i = 0; i < rows->n; i++) {
        rows->g_logprob[i] = -1e-4F;
        rows->g_entropy[i] = 0;
    }
    return 0;
}

static void train_once(void *ctx) {
    struct training *t = ctx;
    const struct gpu *g = t->g;
    struct kern_stream *s = actor_stream(t->actor);
    struct kern_tensor w = params_slab(t->w), m = params_slab(t->m), v = params_slab(t->v);
    struct kern_tensor grad = params_slab(t->grads), previous = params_slab(t->previous);
    struct kern_adamw p = {.lr = 1e-6F,
                           .beta1 = 0.9F,
                           .beta2 = 0.95F,
                           .eps = 1e-8F,
                           .step = ++t->step,
                           .grad_scale = 1};
    double scalars[3];
    if (t->rounded) {
        p.rounded = params_slab(t->rounded);
        p.changed = t->changed;
    }
    bench_must(params_zero(t->grads), "zero");
    bench_must(actor_use(t->actor, t->rounded ? t->rounded : t->w), "use");
    bench_must(actor_forward(t->actor, &t->batch), "forward");
    bench_must(actor_backward(t->actor, &t->batch, t->rows, t->targets, t->batch.n_rows, 1,
                              constant_loss, NULL, t->grads),
               "backward");
    bench_must(kern_dot(g->b, s, scalars, &grad, &previous), "dot");
    bench_must(kern_adamw(g->b, s, &w, &m, &v, &grad, &p), "adamw");
    bench_must(kern_sync(g->b, s), "sync");
}

static struct actor_config train_config(const struct gpu *g, const struct shape *s, int32_t seqs,
                                        int32_t length) {
    const int32_t page = bench_quick ? 4 : PAGE;
    return (struct actor_config){.backend = g->b,
                                 .shape = *s,
                                 .rows_max = seqs * length,
                                 .seqs_max = seqs,
                                 .context = length,
                                 .pages = seqs * ((length + page - 1) / page),
                                 .page = page,
                                 .head_rows = bench_quick ? 4 : 1024,
                                 .train = true};
}

static size_t train_bytes(const struct gpu *g, const struct gpu_model *m, int32_t layers,
                          int32_t seqs, int32_t length) {
    struct shape s = gpu_shape(m, layers, length, g->t == KERN_BF16);
    struct actor_config c = train_config(g, &s, seqs, length);
    size_t n = (size_t)params_slab_elements(&s);
    return actor_bytes(&c) + 5 * sizeof(float) * n + (s.bf16 ? 2 * n + n / 8 : 0);
}

/* Rows of each sequence one after another, its keys in pages of its own. */
static void make_batch(struct actor_batch *b, int32_t seqs, int32_t length, int32_t first_row,
                       int32_t page, int32_t vocab) {
    const int32_t each = (length + page - 1) / page, q = length - first_row, n = seqs * q;
    int32_t *ids = mem_array((size_t)n, sizeof *ids), *pos = mem_array((size_t)n, sizeof *pos);
    int32_t *slot = mem_array((size_t)n, sizeof *slot);
    int32_t *start = mem_array((size_t)seqs + 1, sizeof *start);
    int32_t *len = mem_array((size_t)seqs, sizeof *len);
    int32_t *pages = mem_array((size_t)(seqs * each), sizeof *pages);
    for (int32_t s = 0; s < seqs; s++) {
        len[s] = length;
        for (int32_t i = 0; i < q; i++) {
            int32_t r = s * q + i;
            ids[r] = (int32_t)rng_below(1, (uint64_t)s, (uint64_t)i, (uint64_t)vocab);
            pos[r] = first_row + i;
            slot[r] = (s * each + pos[r] / page) * page + pos[r] % page;
        }
    }
    for (int32_t s = 0; s <= seqs; s++)
        start[s] = s * q;
    for (int32_t p = 0; p < seqs * each; p++)
        pages[p] = p;
    *b = (struct actor_batch){.n_rows = n,
                              .n_seqs = seqs,
                              .pages_max = each,
                              .ids = ids,
                              .pos = pos,
                              .slot = slot,
                              .q_start = start,
                              .kv_len = len,
                              .pages = pages};
}

static void free_batch(struct actor_batch *b) {
    mem_free((void *)(uintptr_t)b->ids);
    mem_free((void *)(uintptr_t)b->pos);
    mem_free((void *)(uintptr_t)b->slot);
    mem_free((void *)(uintptr_t)b->q_start);
    mem_free((void *)(uintptr_t)b->kv_len);
    mem_free((void *)(uintptr_t)b->pages);
}

static void train_open(struct training *t, struct gpu *g, const struct shape *s, int32_t seqs,
                       int32_t length) {
    struct actor_config c = train_config(g, s, seqs, length);
    struct shape f32 = *s;
    f32.bf16 = false;
    *t = (struct training){.g = g};
    t->w = random_params(g, &f32);
    if (s->bf16) {
        int32_t words = (int32_t)((params_slab_elements(s) + 31) / 32);
        int32_t *zeros = mem_zalloc((size_t)words * sizeof *zeros);
        t->rounded = random_params(g, s);
        t->changed = gpu_ints(g, zeros, words, 0);
        mem_free(zeros);
    }
    t->grads = random_params(g, &f32);
    t->previous = random_params(g, &f32);
    t->m = random_params(g, &f32);
    t->v = random_params(g, &f32);
    bench_must(params_zero(t->v), "zero");
    bench_must(actor_open(&t->actor, &c), "actor");
    make_batch(&t->batch, seqs, length, 0, c.page, s->vocab);
    t->rows = mem_array((size_t)t->batch.n_rows, sizeof *t->rows);
    t->targets = mem_array((size_t)t->batch.n_rows, sizeof *t->targets);
    for (int32_t i = 0; i < t->batch.n_rows; i++) {
        t->rows[i] = i;
        t->targets[i] = t->batch.ids[(i + 1) % t->batch.n_rows];
    }
}

static void train_close(struct training *t) {
    free_batch(&t->batch);
    mem_free(t->rows);
    mem_free(t->targets);
    actor_close(&t->actor);
    params_close(&t->w);
    params_close(&t->rounded);
    gpu_free(t->g, &t->changed);
    params_close(&t->grads);
    params_close(&t->previous);
    params_close(&t->m);
    params_close(&t->v);
}

static void bench_training(struct gpu *g, const struct gpu_model *m, int32_t seqs, int32_t length,
                           const struct gpu_ceiling *ceiling) {
    int32_t layers = m->layers;
    while (layers > 1 && train_bytes(g, m, layers, seqs, length) > memory)
        layers--;
    struct shape s = gpu_shape(m, layers, length, g->t == KERN_BF16);
    struct training t;
    char of[96];
    const double rows = (double)seqs * length, pairs = rows * length / 2;
    const double flops = 6 * matrix_params(m, layers, true) * rows +
                         12.0 * layers * m->heads * m->head_width * pairs;
    train_open(&t, g, &s, seqs, length);
    struct gpu_work work = {train_once, &t, flops};
    struct gpu_result r = gpu_against(g, &work, ceiling);
    printf("{\"bench\": \"gpu train\", \"dtype\": \"%s\", \"model\": \"%s\", \"layers\": %d, "
           "\"of_layers\": %d, "
           "\"tokens\": \"%dx%d\", \"tokens_per_s\": %.0f",
           g->type, m->name, (int)layers, (int)m->layers, (int)seqs, (int)length,
           rows / r.us * 1e6);
    gpu_print_end(&r, "a large square product", "TFLOP/s", 1e6);
    snprintf(of, sizeof of, "train, %s, %dx%d", m->name, (int)seqs, (int)length);
    gpu_print_cost(g, actor_stream(t.actor), of, &work, ceiling, &r);
    train_close(&t);
}

/* --- decoding ------------------------------------------------------------------------------- */

struct decoding {
    struct gpu *g;
    struct actor *actor;
    struct params *w;
    struct actor_batch batch;
    int32_t *rows, *ids;
    struct kern_tensor temperature, top_p, top_k, uniform, token, logprob, kept;

    /* as the engine does it */
    struct sampler *sampler;
    struct decode *decode;
    struct seq *seqs, **order;
    struct sampler_row *draws;
    struct sampler_token *drawn;
};

static void decode_once(void *ctx) {
    struct decoding *d = ctx;
    const struct gpu *g = d->g;
    struct kern_tensor logits;
    bench_must(actor_forward(d->actor, &d->batch), "forward");
    bench_must(actor_logits(d->actor, d->rows, d->batch.n_rows, &logits), "logits");
    bench_must(kern_sample(g->b, actor_stream(d->actor), &d->token, &d->logprob, &d->kept, &logits,
                           &d->temperature, &d->top_p, &d->top_k, &d->uniform),
               "sample");
    bench_must(kern_get(g->b, actor_stream(d->actor), d->ids, d->token.data,
                        (size_t)d->batch.n_rows * sizeof *d->ids),
               "get");
}

static void decode_replay(void *ctx) {
    struct decoding *d = ctx;
    int32_t n = d->batch.n_rows;
    bench_must(decode_issue(d->decode, d->order, d->draws, n, params_slab(d->w).data), "issue");
    bench_must(actor_wait(d->actor), "wait");
    bench_must(decode_read(d->decode, d->draws, n, d->drawn), "read");
}

static struct actor_config decoding_config(const struct gpu *g, const struct shape *s,
                                           int32_t batch, int32_t context) {
    const int32_t page = bench_quick ? 4 : PAGE;
    return (struct actor_config){.backend = g->b,
                                 .shape = *s,
                                 .rows_max = batch,
                                 .seqs_max = batch,
                                 .context = context,
                                 .pages = batch * ((context + page - 1) / page) +
                                          decode_spare_pages(batch, page),
                                 .page = page,
                                 .head_rows = batch,
                                 .pack = true};
}

static size_t decoding_bytes(const struct gpu *g, const struct gpu_model *m, int32_t layers,
                             int32_t batch, int32_t context) {
    struct shape s = gpu_shape(m, layers, context, g->t == KERN_BF16);
    struct actor_config c = decoding_config(g, &s, batch, context);
    return actor_bytes(&c) + params_slab_bytes(&s);
}

static struct kern_tensor vector(const struct gpu *g, float x, int64_t n, int64_t m) {
    float *host = mem_array((size_t)(n * (m ? m : 1)), sizeof *host);
    for (int64_t i = 0; i < n * (m ? m : 1); i++)
        host[i] = x;
    struct kern_tensor t = gpu_tensor(g, KERN_F32, n, m ? m : 1);
    bench_must(kern_put(g->b, g->s, t.data, host, (size_t)(n * (m ? m : 1)) * sizeof *host), "put");
    mem_free(host);
    return m ? t : kern_view1(t.data, KERN_F32, n);
}

/* The same batch as sequences of the engine. */
static void open_replay(struct decoding *d, int32_t batch, int32_t context) {
    struct decode_config c = {.actor = d->actor, .seqs_max = batch};
    c.pages =
        actor_config(d->actor)->pages - decode_spare_pages(batch, actor_config(d->actor)->page);
    bench_must(sampler_open(&d->sampler, d->g->b, batch, 1), "sampler");
    c.sampler = d->sampler;
    bench_must(decode_open(&d->decode, &c), "decode");
    d->seqs = mem_zalloc((size_t)batch * sizeof *d->seqs);
    d->order = mem_array((size_t)batch, sizeof(struct seq *));
    d->draws = mem_zalloc((size_t)batch * sizeof *d->draws);
    d->drawn = mem_array((size_t)batch, sizeof *d->drawn);
    for (int32_t i = 0; i < batch; i++) {
        d->seqs[i].n = context;
        d->seqs[i].tokens = mem_zalloc((size_t)context * sizeof(int32_t));
        d->seqs[i].n_pages = d->batch.pages_max;
        d->seqs[i].pages = (int32_t *)d->batch.pages + (size_t)i * (size_t)d->batch.pages_max;
        d->order[i] = &d->seqs[i];
        d->draws[i] = (struct sampler_row){
            .id = (uint64_t)i, .temperature = 1, .top_p = 1, .forced = SAMPLER_SAMPLED};
    }
    decode_replay(d); /* issued, then recorded */
    decode_replay(d);
}

static void close_replay(struct decoding *d) {
    for (int32_t i = 0; i < d->batch.n_seqs; i++)
        mem_free(d->seqs[i].tokens);
    mem_free(d->seqs);
    mem_free(d->order);
    mem_free(d->draws);
    mem_free(d->drawn);
    decode_close(&d->decode);
    sampler_close(&d->sampler);
}

static void decoding_open(struct decoding *d, struct gpu *g, const struct shape *s, int32_t batch,
                          int32_t context) {
    struct actor_config c = decoding_config(g, s, batch, context);
    *d = (struct decoding){.g = g};
    d->w = random_params(g, s);
    bench_must(actor_open(&d->actor, &c), "actor");
    bench_must(actor_use(d->actor, d->w), "use");
    make_batch(&d->batch, batch, context, context - 1, c.page, s->vocab);
    d->rows = mem_array((size_t)batch, sizeof *d->rows);
    d->ids = mem_zalloc((size_t)batch * sizeof *d->ids);
    for (int32_t i = 0; i < batch; i++)
        d->rows[i] = i;
    d->temperature = vector(g, 1, batch, 0);
    d->top_p = vector(g, 1, batch, 0);
    d->uniform = vector(g, 0.25F, batch, 2);
    d->logprob = vector(g, 0, batch, 0);
    d->kept = vector(g, 0, batch, 0);
    d->top_k = gpu_ints(g, d->ids, batch, 0);
    d->token = gpu_ints(g, d->ids, batch, 0);
}

static void decoding_close(struct decoding *d) {
    struct kern_tensor *all[] = {&d->temperature, &d->top_p, &d->uniform, &d->logprob,
                                 &d->kept,        &d->top_k, &d->token};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        gpu_free(d->g, all[i]);
    if (d->decode) close_replay(d);
    free_batch(&d->batch);
    mem_free(d->rows);
    mem_free(d->ids);
    actor_close(&d->actor);
    params_close(&d->w);
}

static void print_decoding(const struct gpu *g, const char *how, const struct gpu_model *m,
                           const struct decoding *d, int32_t layers, const struct gpu_result *r) {
    const int32_t batch = d->batch.n_seqs;
    printf("{\"bench\": \"gpu decode\", \"dtype\": \"%s\", \"how\": \"%s\", \"model\": \"%s\", "
           "\"layers\": %d, \"of_layers\": %d, \"batch\": %d, \"context\": %d, "
           "\"tokens_per_s\": %.0f",
           g->type, how, m->name, (int)layers, (int)m->layers, (int)batch, (int)d->batch.kv_len[0],
           batch / r->us * 1e6);
    gpu_print_end(r, "a copy", "GB/s", 1e3);
}

/* A recording keeps the algorithms that it was made with: one is made for each mode. */
static void bench_replays(struct decoding *d, const struct gpu_model *m, int32_t layers,
                          double bytes, const struct gpu_ceiling *ceiling) {
    struct gpu *g = d->g;
    const int32_t batch = d->batch.n_seqs, context = d->batch.kv_len[0];
    struct gpu_work work = {decode_replay, d, bytes};
    char of[96];
    open_replay(d, batch, context);
    struct gpu_result r = gpu_against(g, &work, ceiling), fast;
    print_decoding(g, "graph", m, d, layers, &r);
    if (kern_always_exact(g->b)) return;
    close_replay(d);
    bench_must(kern_exact(g->b, actor_stream(d->actor), false), "exact");
    open_replay(d, batch, context);
    fast = gpu_against(g, &work, ceiling);
    snprintf(of, sizeof of, "decode, %s, batch %d, context %d", m->name, (int)batch, (int)context);
    gpu_print_ratio(of, &r, &fast);
}

static void bench_decoding(struct gpu *g, const struct gpu_model *m, int32_t batch, int32_t context,
                           const struct gpu_ceiling *ceiling) {
    int32_t layers = m->layers;
    while (layers > 1 && decoding_bytes(g, m, layers, batch, context) > memory)
        layers--;
    struct shape s = gpu_shape(m, layers, context, g->t == KERN_BF16);
    struct decoding d;
    const double each = s.bf16 ? 2 : 4; /* of the actor's weights and keys */
    const double bytes = each * matrix_params(m, layers, true) + each * 2.0 * layers * m->kv_heads *
                                                                     m->head_width * (double)batch *
                                                                     context;
    decoding_open(&d, g, &s, batch, context);
    struct gpu_work work = {decode_once, &d, bytes};
    struct gpu_result r = gpu_against(g, &work, ceiling);
    print_decoding(g, "ops", m, &d, layers, &r);
    if (kern_records(g->b)) bench_replays(&d, m, layers, bytes, ceiling);
    decoding_close(&d);
}

/* --- shared prefixes ------------------------------------------------------------------------ */

struct prefix_run {
    struct step *step;
    struct batch *batch;
};

static void prefix_open(struct prefix_run *r, const char *mode, const struct gpu_model *m,
                        const struct gpu *g, const int32_t size[3], const char *dir) {
    const int32_t prompt = size[0], response = size[1], n = size[2];
    struct recipe *recipe = NULL;
    char yaml[512];
    struct shape s = gpu_shape(m, m->layers, prompt + response, false);
    snprintf(yaml, sizeof yaml,
             "model: {weights: random, dtype: %s}\n"
             "rollout: {group_size: %d, max_prompt_tokens: %d, max_new_tokens: %d}\n"
             "trainer: {device: \"%s\", prefix: %s, batch: {groups: 1, tokens: %d},\n"
             "          staleness: {max: 1024}}\n",
             g->t == KERN_BF16 ? "bf16" : "fp32", (int)n, (int)prompt, (int)response, bench_device,
             mode, (int)(2 * (prompt + response)));
    bench_must(shape_write(&s, dir, "float32"), "shape");
    bench_must(recipe_parse(&recipe, yaml, strlen(yaml), "bench", NULL, 0), "recipe");
    bench_must(step_open(&r->step, recipe, dir), "step");
    recipe_close(&recipe);
    r->batch = batch_open((uint32_t)n);
    r->batch->n_groups = 1;
    int32_t *ids = mem_array((size_t)(prompt + response), sizeof *ids);
    float *logprob = mem_array((size_t)response, sizeof *logprob);
    for (uint32_t i = 0; i < r->batch->n; i++) {
        for (int32_t t = 0; t < prompt + response; t++)
            ids[t] = (int32_t)rng_below(1, t < prompt ? 0 : i + 1, (uint64_t)t, (uint64_t)s.vocab);
        for (int32_t t = 0; t < response; t++)
            logprob[t] = -(float)log((double)s.vocab);
        batch_set(r->batch, i, ids, prompt, ids + prompt, response, logprob, NULL, NULL, 0);
        r->batch->traj[i].reward = (float)(i % 2);
    }
    mem_free(ids);
    mem_free(logprob);
}

static double prefix_once(struct prefix_run *r) {
    struct step_report report;
    uint64_t start = clock_us();
    bench_must(step_run(r->step, r->batch, &report), "step");
    return (double)(clock_us() - start);
}

/* One group of N trajectories with a common prompt; both ways give the same gradients. */
static void bench_prefixes(const struct gpu *g) {
    const struct gpu_model m = bench_quick
                                   ? (struct gpu_model){"tiny", 16, 1, 2, 1, 8, 32, 64, true, true}
                                   : (struct gpu_model){"2 layers of qwen3-0.6b, vocabulary 8192",
                                                        1024,
                                                        2,
                                                        16,
                                                        8,
                                                        128,
                                                        3072,
                                                        8192,
                                                        true,
                                                        true};
    const int32_t size[3] = {bench_quick ? 12 : 10240, bench_quick ? 4 : 2048,
                             bench_quick ? 3 : 32};
    struct prefix_run shared, dense;
    char dir[] = "/tmp/weir-bench-XXXXXX";
    double a[8], b[8];
    int n = bench_quick ? 1 : 3;
    if (!mkdtemp(dir)) bench_must(FAIL(ERR_IO, "no directory in /tmp"), "mkdtemp");
    prefix_open(&shared, "schedule", &m, g, size, dir);
    prefix_open(&dense, "off", &m, g, size, dir);
    for (int i = -1; i < n; i++) {
        double x = prefix_once(&shared), y = prefix_once(&dense);
        if (i >= 0) a[i] = x, b[i] = y;
    }
    struct bench_pair p = bench_summary(a, b, n);
    printf("{\"bench\": \"gpu prefix\", \"dtype\": \"%s\", \"device\": \"%s\", \"model\": \"%s\", "
           "\"prompt\": %d, "
           "\"response\": %d, \"group\": %d, \"against\": \"dense\", \"ratio\": %.3f, "
           "\"min\": %.3f, \"max\": %.3f, \"n\": %d, \"ms\": %.2f, \"dense_ms\": %.2f}\n",
           g->type, bench_device, m.name, (int)size[0], (int)size[1], (int)size[2], p.ratio,
           p.ratio_min, p.ratio_max, p.n, p.a_us / 1e3, p.b_us / 1e3);
    fflush(stdout);
    step_close(&shared.step);
    step_close(&dense.step);
    batch_close(&shared.batch);
    batch_close(&dense.batch);
    bench_must(file_remove_tree(dir), "remove");
}

int bench_gpu_model(void) {
    static const int32_t batches[] = {1, 64, 256};
    const struct kern_limits l = {
        .rows = 64, .width_max = 8192, .heads = 8, .head_width = 128, .bf16_width = 8192};
    struct gpu g;
    struct gpu_ceiling product, copy;
    gpu_open(&g, &l);
    gpu_product_open(&product, &g);
    gpu_copy_open(&copy, &g);
    for (int i = 0; gpu_model(i); i++) {
        for (int k = 0; k < (bench_quick ? 1 : 3); k++)
            bench_decoding(&g, gpu_model(i), bench_quick ? 3 : batches[k], bench_quick ? 10 : 1024,
                           &copy);
        bench_training(&g, gpu_model(i), bench_quick ? 2 : 4, bench_quick ? 6 : 2048, &product);
    }
    bench_prefixes(&g);
    for (int i = 0; !bench_quick && gpu_model(i); i++) {
        bench_decoding(&g, gpu_model(i), 64, 8192, &copy);
        bench_training(&g, gpu_model(i), 1, 8192, &product);
    }
    gpu_ceiling_close(&product);
    gpu_ceiling_close(&copy);
    gpu_close(&g);
    return 0;
}
