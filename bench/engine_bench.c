/* engine_bench.c - tokens per second of the whole engine (plan, forward, sampling, commit) at three
 * sizes, beside two limits measured in the same minute: the same matrix products and nothing else,
 * and reading the weights once per step at the rate at which this machine reads memory. Where there
 * is PyTorch: sampling with a KV cache there, at the same shape, batch and lengths. */
#include "bench/bench.h"
#include "bench/dims.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/child.h"
#include "rollout/engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 512 << 20 }; /* more than any cache has */
enum { SEQS_MAX = 64, PROMPT_MAX = 32, MATRICES_MAX = 256, PAIRS_MAX = 16 };

static const struct model {
    const char *name;
    int32_t d, layers, heads, kv_heads, head_width, ffn, vocab;
    int32_t prompt, new_tokens, pairs, threads; /* threads 0: all */
} models[] = {
    {"0.26M", 64, 5, 8, 4, 8, 172, 512, 32, 24, 9, 1},
    {"0.26M", 64, 5, 8, 4, 8, 172, 512, 32, 24, 9, 0},
    {"10M", 288, 6, 6, 6, 48, 768, 12288, 32, 24, 3, 0},
    {"125M", 768, 12, 12, 12, 64, 2048, 50304, 8, 6, 3, 0},
};

struct rig {
    const struct model *model;
    const struct kern_backend *b;
    struct kern_stream *stream;
    struct params *weights;
    struct kern_tensor w[MATRICES_MAX], packed[MATRICES_MAX];
    bool has_packed[MATRICES_MAX];
    int32_t n_matrices;
    float *x, *y; /* backend memory */
    void *big;
    char *slab;   /* of the packed matrices */
    double bytes; /* of the matrices */
};

static struct shape shape_of(const struct model *m) {
    return (struct shape)DIMS_LLAMA(m->d, m->layers, m->heads, m->kv_heads, m->head_width, m->ffn,
                                    m->vocab, 1024);
}

static void *take(const struct rig *r, size_t bytes) {
    void *p = NULL;
    bench_must(kern_alloc(r->b, &p, bytes), "memory");
    return p;
}

static void open_rig(struct rig *r, const struct model *m) {
    struct shape s = shape_of(m);
    struct kern_limits l = {.rows = SEQS_MAX,
                            .width_max = m->vocab > m->ffn ? m->vocab : m->ffn,
                            .heads = m->heads,
                            .head_width = m->head_width,
                            .kv_max = s.context};
    *r = (struct rig){.model = m};
    bench_must(kern_open(&r->b, "cpu", m->threads), "backend");
    bench_must(kern_stream_open(r->b, &r->stream, kern_scratch_bytes(r->b, &l)), "stream");
    bench_must(params_open(&r->weights, r->b, &s), "weights");
    bench_must(params_init(r->weights, 1), "weights");
    size_t all = 0, used = 0; /* one slab, as the actor has: large pages matter */
    for (size_t i = 0; i < params_count(r->weights); i++) {
        const struct params_entry *e = params_entry(r->weights, i);
        if (e->is_matrix) all += kern_pack_bytes(r->b, KERN_F32, e->rows, e->cols);
    }
    if (all > 0) r->slab = take(r, all);
    for (size_t i = 0; i < params_count(r->weights); i++) {
        const struct params_entry *e = params_entry(r->weights, i);
        if (!e->is_matrix) continue;
        int32_t k = r->n_matrices++;
        size_t bytes = kern_pack_bytes(r->b, KERN_F32, e->rows, e->cols);
        r->w[k] = params_view(r->weights, e);
        r->has_packed[k] = bytes > 0;
        r->bytes += (double)e->n * sizeof(float);
        if (bytes == 0) continue;
        r->packed[k] = kern_view1(r->slab + used, KERN_F32, (int64_t)(bytes / sizeof(float)));
        used += bytes;
        bench_must(kern_pack_weight(r->b, r->stream, &r->packed[k], &r->w[k]), "pack");
    }
    r->x = take(r, (size_t)SEQS_MAX * (size_t)l.width_max * sizeof(float));
    r->y = take(r, (size_t)SEQS_MAX * (size_t)l.width_max * sizeof(float));
    r->big = take(r, READ_BYTES);
    memset(r->big, 1, READ_BYTES);
}

static void close_rig(struct rig *r) {
    kern_release(r->b, r->slab);
    kern_release(r->b, r->x);
    kern_release(r->b, r->y);
    kern_release(r->b, r->big);
    params_close(&r->weights);
    kern_stream_close(r->b, r->stream);
    kern_close(r->b);
}

/* --- the limits ----------------------------------------------------------------------------- */

static double products_us(const struct rig *r, int32_t rows, int repeat) {
    uint64_t start = clock_us();
    for (int n = 0; n < repeat; n++)
        for (int32_t i = 0; i < r->n_matrices; i++) {
            struct kern_tensor x = kern_view2(r->x, KERN_F32, rows, r->w[i].dim[1]);
            struct kern_tensor y = kern_view2(r->y, KERN_F32, rows, r->w[i].dim[0]);
            bench_must(kern_matmul(r->b, r->stream, &y, &x, &r->w[i],
                                   r->has_packed[i] ? &r->packed[i] : NULL, NULL),
                       "matmul");
        }
    bench_must(kern_sync(r->b, r->stream), "sync");
    return (double)(clock_us() - start) / repeat;
}

static double read_bytes_per_us(const struct rig *r) {
    return 1e3 * bench_read_gb_s(r->big, READ_BYTES, r->model->threads ? 1 : bench_threads());
}

/* --- the engine ----------------------------------------------------------------------------- */

struct turn {
    double prefill_us, step_us; /* all prompts; one decode step */
};

static void add_prompts(struct engine *e, const struct rig *r, int32_t batch, uint64_t salt) {
    int32_t ids[PROMPT_MAX];
    for (int32_t i = 0; i < batch; i++) {
        for (int32_t k = 0; k < r->model->prompt; k++)
            ids[k] = (int32_t)rng_below(rng_key(salt, RNG_TEST), (uint64_t)i, (uint64_t)k,
                                        (uint64_t)r->model->vocab);
        struct engine_request q = {.id = salt * SEQS_MAX + (uint64_t)i,
                                   .prompt = ids,
                                   .n_prompt = r->model->prompt,
                                   .max_new_tokens = r->model->new_tokens,
                                   .temperature = 1,
                                   .top_p = 1};
        bench_must(engine_add(e, &q), "add");
    }
}

static struct turn run_turn(struct engine *e, const struct rig *r, int32_t batch, uint64_t salt) {
    const struct engine_token *events;
    int32_t n = 0, steps = 0;
    struct turn t;
    add_prompts(e, r, batch, salt);
    uint64_t start = clock_us();
    bench_must(engine_step(e, &events, &n), "step");
    t.prefill_us = (double)(clock_us() - start);
    start = clock_us();
    for (; !engine_idle(e); steps++)
        bench_must(engine_step(e, &events, &n), "step");
    t.step_us = (double)(clock_us() - start) / steps;
    return t;
}

static double torch_step_us(const struct rig *r, int32_t batch) {
    char line[96];
    const struct model *m = r->model;
    long threads = m->threads ? m->threads : sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(line, sizeof line, "decode %s %d %d %d %ld", m->name, (int)batch, (int)m->prompt,
             (int)m->new_tokens, threads);
    return 1e3 * child_torch_ms(line);
}

static void print_batch(const struct rig *r, int32_t batch, const char *against, double *step,
                        double *peer) {
    double own[PAIRS_MAX];
    int n = r->model->pairs;
    memcpy(own, step, (size_t)n * sizeof own[0]);
    struct bench_pair p = bench_summary(own, peer, n);
    printf("{\"bench\": \"engine\", \"shape\": \"%s\", \"threads\": %d, \"batch\": %d, "
           "\"against\": \"%s\", \"ratio\": %.3f, \"min\": %.3f, \"max\": %.3f, \"n\": %d, "
           "\"decode_tokens_per_s\": %.0f, \"step_us\": %.1f, \"peer_us\": %.1f}\n",
           r->model->name, (int)r->model->threads, (int)batch, against, p.ratio, p.ratio_min,
           p.ratio_max, p.n, batch / p.a_us * 1e6, p.a_us, p.b_us);
    fflush(stdout);
}

static void run_batch(const struct rig *r, int32_t batch) {
    double step[PAIRS_MAX], prefill[PAIRS_MAX], products[PAIRS_MAX], weights[PAIRS_MAX];
    double torch[PAIRS_MAX];
    bool has_torch = child_has_torch();
    struct engine *e;
    struct engine_config cfg = {.backend = r->b,
                                .shape = *params_shape(r->weights),
                                .seqs_max = batch,
                                .context = r->model->prompt + r->model->new_tokens,
                                .chunk_tokens = batch * r->model->prompt,
                                .page = 16,
                                .waiting_max = batch};
    bench_must(engine_open(&e, &cfg), "open");
    bench_must(engine_swap(e, r->weights, 1), "swap");
    if (r->model->pairs > 2) run_turn(e, r, batch, 1000); /* caches and pages warm */
    for (int i = 0; i < r->model->pairs; i++) {
        struct turn t = run_turn(e, r, batch, (uint64_t)i);
        step[i] = t.step_us;
        prefill[i] = t.prefill_us;
        products[i] = products_us(r, batch, r->model->new_tokens);
        weights[i] = r->bytes / read_bytes_per_us(r);
        if (has_torch && i == 0) torch_step_us(r, batch); /* warm there too */
        if (has_torch) torch[i] = torch_step_us(r, batch);
    }
    engine_close(&e);
    print_batch(r, batch, "its matrix products", step, products);
    print_batch(r, batch, "reading the weights", step, weights);
    if (has_torch) print_batch(r, batch, "pytorch", step, torch);
    double prefill_us = bench_median(prefill, r->model->pairs);
    printf("{\"bench\": \"prefill\", \"shape\": \"%s\", \"threads\": %d, \"tokens\": \"%dx%d\", "
           "\"n\": %d, \"tokens_per_s\": %.0f}\n",
           r->model->name, (int)r->model->threads, (int)batch, (int)r->model->prompt,
           (int)r->model->pairs, batch * r->model->prompt / prefill_us * 1e6);
    fflush(stdout);
}

int bench_engine(void) {
    static const int32_t batches[] = {1, 8, 32, 64};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct rig *r = mem_zalloc(sizeof *r);
        open_rig(r, &models[i]);
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
            run_batch(r, batches[b]);
        close_rig(r);
        mem_free(r);
    }
    return 0;
}
