/* decode_bench.c - few sequences decoded on the host: is a step as fast as the machine reads the
 * weights?
 *
 * One sequence needs every weight once a step and next to nothing else, so the rate at which this
 * machine reads memory is the limit. f32, bf16 and that rate are measured in turn, and each share
 * or ratio is the median of those of the turns. */
#include "bench/bench.h"
#include "bench/dims.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "rollout/engine/engine.h"

#include <stdio.h>
#include <string.h>

enum { PROMPT = 32, STEPS = 16, BATCH_MAX = 8, TURNS = 9, TYPES = 2 };

struct side {
    struct shape shape;
    struct params *weights;
    struct engine *engine;
    double bytes;   /* of the matrices, which a step reads */
    double step_us; /* of the last turn */
};

struct rig {
    const struct kern_backend *b;
    struct kern_stream *stream;
    struct side side[TYPES];
    void *memory; /* as much as the weights of f32 */
    size_t bytes;
    int threads;
};

/* --- the engine ----------------------------------------------------------------------------- */

static void open_side(struct rig *r, struct side *s, bool bf16, const struct params *from) {
    s->shape = (struct shape)DIMS_LLAMA(768, 12, 12, 12, 64, 2048, 50304, 1024);
    s->shape.bf16 = bf16;
    bench_must(params_open(&s->weights, r->b, &s->shape), "weights");
    if (from)
        bench_must(params_cast(s->weights, from, r->stream), "weights");
    else
        bench_must(params_init(s->weights, 1), "weights");
    for (size_t i = 0; i < params_count(s->weights); i++) {
        const struct params_entry *e = params_entry(s->weights, i);
        if (e->is_matrix) s->bytes += (double)e->n * (bf16 ? 2 : 4);
    }
}

static void open_rig(struct rig *r) {
    *r = (struct rig){.threads = bench_threads()};
    bench_must(kern_open(&r->b, "cpu", r->threads), "backend");
    bench_must(kern_stream_open(r->b, &r->stream, 0), "stream");
    open_side(r, &r->side[0], false, NULL);
    open_side(r, &r->side[1], true, r->side[0].weights);
    r->bytes = (size_t)r->side[0].bytes;
    bench_must(kern_alloc(r->b, &r->memory, r->bytes), "memory");
    memset(r->memory, 1, r->bytes);
}

static void close_rig(struct rig *r) {
    for (int i = 0; i < TYPES; i++)
        params_close(&r->side[i].weights);
    kern_release(r->b, r->memory);
    kern_stream_close(r->b, r->stream);
    kern_close(r->b);
}

static void open_engine(const struct rig *r, struct side *s, int32_t batch) {
    struct engine_config cfg = {.backend = r->b,
                                .shape = s->shape,
                                .seqs_max = batch,
                                .context = PROMPT + STEPS + 1,
                                .chunk_tokens = batch * PROMPT,
                                .page = 16,
                                .waiting_max = batch};
    bench_must(engine_open(&s->engine, &cfg), "engine");
    bench_must(engine_swap(s->engine, s->weights, 1), "engine");
}

static void add_prompts(struct side *s, int32_t batch, uint64_t turn) {
    int32_t ids[PROMPT];
    for (int32_t i = 0; i < batch; i++) {
        for (int32_t k = 0; k < PROMPT; k++)
            ids[k] = (int32_t)rng_below(rng_key(turn, RNG_TEST), (uint64_t)i, (uint64_t)k,
                                        (uint64_t)s->shape.vocab);
        struct engine_request q = {.id = turn * BATCH_MAX + (uint64_t)i,
                                   .prompt = ids,
                                   .n_prompt = PROMPT,
                                   .max_new_tokens = STEPS + 1,
                                   .temperature = 1,
                                   .top_p = 1};
        bench_must(engine_add(s->engine, &q), "add");
    }
}

/* The prompts in one step, which is not timed, and STEPS decode steps, which are. */
static void take_turn(struct side *s, int32_t batch, uint64_t turn) {
    const struct engine_token *events;
    int32_t n = 0;
    add_prompts(s, batch, turn);
    bench_must(engine_step(s->engine, &events, &n), "step");
    uint64_t start = clock_us();
    for (int i = 0; i < STEPS; i++)
        bench_must(engine_step(s->engine, &events, &n), "step");
    s->step_us = (double)(clock_us() - start) / STEPS;
    while (!engine_idle(s->engine))
        bench_must(engine_step(s->engine, &events, &n), "step");
}

/* --- printing ------------------------------------------------------------------------------- */

static void print_side(const struct rig *r, const char *type, int32_t batch, double *step_us,
                       double *read_gb_s, double *share) {
    double step = bench_median(step_us, TURNS), rate = bench_median(read_gb_s, TURNS);
    double median = bench_median(share, TURNS);
    printf("{\"bench\": \"decode\", \"shape\": \"125M\", \"dtype\": \"%s\", \"threads\": %d, "
           "\"batch\": %d, \"tokens_per_s\": %.1f, \"step_us\": %.0f, \"read_gb_per_s\": %.1f, "
           "\"share_of_read\": %.3f, \"min\": %.3f, \"max\": %.3f, \"n\": %d}\n",
           type, r->threads, (int)batch, (double)batch / step * 1e6, step, rate, median, share[0],
           share[TURNS - 1], TURNS);
    fflush(stdout);
}

static void print_ratio(const struct rig *r, int32_t batch, double *f32_us, double *bf16_us) {
    struct bench_pair p = bench_summary(bf16_us, f32_us, TURNS);
    printf("{\"bench\": \"decode\", \"shape\": \"125M\", \"threads\": %d, \"batch\": %d, "
           "\"against\": \"f32\", \"bf16_over_f32\": %.3f, \"min\": %.3f, \"max\": %.3f, \"n\": "
           "%d}\n",
           r->threads, (int)batch, p.ratio, p.ratio_min, p.ratio_max, p.n);
    fflush(stdout);
}

static void run_batch(struct rig *r, int32_t batch) {
    static const char *const name[TYPES] = {"f32", "bf16"};
    double step[TYPES][TURNS], rate[TYPES][TURNS], share[TYPES][TURNS];
    for (int k = 0; k < TYPES; k++)
        open_engine(r, &r->side[k], batch);
    for (int i = -1; i < TURNS; i++) /* one turn more, for caches and pages */
        for (int k = 0; k < TYPES; k++) {
            struct side *s = &r->side[k];
            double before = bench_read_gb_s(r->memory, r->bytes, r->threads);
            take_turn(s, batch, (uint64_t)(i + 1));
            double gb_s = (before + bench_read_gb_s(r->memory, r->bytes, r->threads)) / 2;
            if (i < 0) continue;
            step[k][i] = s->step_us;
            rate[k][i] = gb_s;
            share[k][i] = s->bytes / s->step_us / 1e3 / gb_s;
        }
    double f32_us[TURNS], bf16_us[TURNS];
    memcpy(f32_us, step[0], sizeof f32_us);
    memcpy(bf16_us, step[1], sizeof bf16_us);
    for (int k = 0; k < TYPES; k++) {
        print_side(r, name[k], batch, step[k], rate[k], share[k]);
        engine_close(&r->side[k].engine);
    }
    print_ratio(r, batch, f32_us, bf16_us);
}

int bench_decode(void) {
    static const int32_t batches[] = {1, BATCH_MAX};
    struct rig *r = mem_zalloc(sizeof *r);
    open_rig(r);
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
        run_batch(r, batches[i]);
    close_rig(r);
    mem_free(r);
    return 0;
}
