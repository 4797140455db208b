/* cmd_bench.c - `weir bench`: how fast this machine decodes and trains one model, in a few seconds,
 * as JSON lines; or with --fit-prefix what trainer.prefix_cost is for it here, as a line of a
 * recipe. The benchmarks against ceilings and peers are in bench/ (`make bench`). */
#include "base/clock.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/rng.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/evaluate/model.h"
#include "proto/recipe/recipe.h"
#include "rollout/engine/engine.h"
#include "trainer/learn/prefix_cost.h"
#include "trainer/learn/step.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct options {
    const char *model, *device, *dtype;
    int64_t threads, prompt, tokens;
    bool prefix_cost_measure;
};

/* Prompt token i of sequence s: any id that ends nothing. */
static int32_t some_id(const struct policy *p, uint64_t s, uint64_t i) {
    uint64_t key = rng_key(1, RNG_DATA);
    for (uint64_t k = 0;; k++) {
        int32_t id = (int32_t)rng_below(key, s, i * 64 + k, (uint64_t)p->shape.vocab);
        if (!policy_stops(p, id)) return id;
    }
}

static int add_requests(struct engine *e, const struct policy *p, const struct options *o,
                        int32_t n) {
    int32_t *ids = mem_array((size_t)o->prompt, sizeof *ids);
    int rc = 0;
    for (int32_t s = 0; rc == 0 && s < n; s++) {
        for (int64_t i = 0; i < o->prompt; i++)
            ids[i] = some_id(p, (uint64_t)s, (uint64_t)i);
        struct engine_request r = {.id = (uint64_t)s,
                                   .prompt = ids,
                                   .n_prompt = (int32_t)o->prompt,
                                   .max_new_tokens = (int32_t)o->tokens,
                                   .temperature = 1.0f,
                                   .top_p = 1.0f};
        rc = engine_add(e, &r);
    }
    mem_free(ids);
    return rc;
}

static int print_line(struct buf *line) {
    int rc = printf("%s\n", line->data) >= 0 && fflush(stdout) == 0
                 ? 0
                 : FAIL(ERR_IO, "cannot write to stdout");
    buf_close(line);
    return rc;
}

static int bench_decode(const struct options *o, const struct policy *p, const struct params *w,
                        const struct kern_backend *b, int32_t batch) {
    struct engine *e;
    const struct engine_token *events;
    struct engine_stats before, after;
    int32_t n;
    struct engine_config cfg = {.backend = b,
                                .shape = p->shape,
                                .seqs_max = batch,
                                .context = (int32_t)(o->prompt + o->tokens),
                                .chunk_tokens = 256,
                                .page = 16,
                                .waiting_max = batch,
                                .seed = 1};
    TRY(engine_open(&e, &cfg));
    int rc = engine_swap(e, w, 0);
    if (rc == 0) rc = add_requests(e, p, o, batch);
    uint64_t start = clock_us(), first = 0;
    engine_stats(e, &before);
    while (rc == 0 && !engine_idle(e)) {
        rc = engine_step(e, &events, &n);
        if (first == 0 && n > 0) first = clock_us();
        if (first != 0 && before.decode_tokens == 0) engine_stats(e, &before);
    }
    uint64_t end = clock_us();
    engine_stats(e, &after);
    engine_close(&e);
    TRY(rc);
    double seconds = (double)(end - first) * 1e-6;
    struct buf line = {0};
    struct json_write json = json_write_to(&line, JSON_LINE);
    json_write_object(&json, NULL);
    json_write_str(&json, "bench", "decode");
    json_write_int(&json, "batch", batch);
    json_write_int(&json, "prompt_tokens", o->prompt);
    json_write_int(&json, "new_tokens", o->tokens);
    json_write_fixed(&json, "tokens_per_s",
                     (double)(after.decode_tokens - before.decode_tokens) / seconds, 1);
    json_write_fixed(&json, "first_token_s", (double)(first - start) * 1e-6, 4);
    json_write_end(&json);
    return print_line(&line);
}

static struct batch *random_batch(const struct policy *p, uint32_t n, int32_t n_prompt,
                                  int32_t n_response) {
    struct batch *b = batch_open(n);
    int32_t *ids = mem_array((size_t)(n_prompt + n_response), sizeof *ids);
    float *logprob = mem_array((size_t)n_response, sizeof *logprob);
    for (uint32_t s = 0; s < n; s++) {
        for (int32_t i = 0; i < n_prompt + n_response; i++)
            ids[i] = some_id(p, s, (uint64_t)i);
        batch_set(b, s, ids, n_prompt, ids + n_prompt, n_response, logprob, NULL, NULL, 0);
        b->traj[s].id = s;
        b->traj[s].group = s / 4;
        b->traj[s].reward = (float)(s % 2);
    }
    b->n_groups = (n + 3) / 4;
    mem_free(ids);
    mem_free(logprob);
    return b;
}

static int bench_train(const struct options *o, const struct policy *p) {
    enum { STEPS = 3, SEQS = 8 };
    struct buf line = {0};
    struct json_write w = json_write_to(&line, JSON_LINE);
    struct recipe *r;
    struct step *s = NULL;
    struct step_report report;
    char *yaml = mem_printf("model: {dtype: %s}\nrollout: {max_prompt_tokens: %" PRId64
                            ", max_new_tokens: %" PRId64 "}\n"
                            "trainer: {device: %s, threads: %" PRId64 ", batch: {tokens: %" PRId64
                            "}, staleness: {max: 1000}}\n",
                            o->dtype ? o->dtype : "fp32", o->prompt, o->tokens, o->device,
                            o->threads, SEQS * (o->prompt + o->tokens));
    struct batch *b = random_batch(p, SEQS, (int32_t)o->prompt, (int32_t)o->tokens);
    int rc;
    TRY_OUT(recipe_parse(&r, yaml, strlen(yaml), "bench", NULL, 0));
    rc = step_open(&s, r, o->model);
    recipe_close(&r);
    uint64_t start = 0;
    for (int i = 0; rc == 0 && i <= STEPS; i++) { /* the first one warms up */
        if (i == 1) start = clock_us();
        b->step = step_version(s);
        rc = step_run_sft(s, b, &report);
    }
    TRY_OUT(rc);
    double seconds = (double)(clock_us() - start) * 1e-6;
    json_write_object(&w, NULL);
    json_write_str(&w, "bench", "train");
    json_write_int(&w, "sequences", SEQS);
    json_write_int(&w, "tokens", report.tokens);
    json_write_fixed(&w, "tokens_per_s", (double)STEPS * (double)report.tokens / seconds, 1);
    json_write_end(&w);
    rc = print_line(&line);
out:
    step_close(&s);
    batch_close(&b);
    mem_free(yaml);
    return rc;
}

/* With random weights: a trained model's attention on random tokens is so sharp that its reverse
 * ends in denormal numbers, which are slow and not what training sees. */
static int print_fit(struct params *w) {
    enum { ROUNDS = 9 };
    struct prefix_cost_measure fit;
    TRY(params_init(w, 1));
    TRY(prefix_cost_measure(&fit, w, ROUNDS));
    printf("trainer: {prefix_cost: [%.1f, %.2f]} # a row takes %.2f us\n", fit.pass, fit.attention,
           fit.row_us);
    return fflush(stdout) == 0 ? 0 : FAIL(ERR_IO, "cannot write to stdout");
}

static int bench(const struct options *o) {
    struct model l;
    int rc;
    bool bf16;
    TRY(model_dtype(&bf16, o->dtype));
    TRY(model_open(&l, o->model, "plain", o->device, o->threads, bf16));
    if (o->prefix_cost_measure) {
        rc = print_fit(l.weights);
        goto out;
    }
    if (o->prompt + o->tokens > l.policy.shape.context)
        TRY_OUT(FAIL(ERR_CONFIG, "--prompt + --tokens = %" PRId64 ", the model's context is %d",
                     o->prompt + o->tokens, l.policy.shape.context));
    for (int32_t batch = 1; batch <= 64; batch *= 8)
        TRY_OUT(bench_decode(o, &l.policy, l.weights, l.backend, batch));
    TRY_OUT(bench_train(o, &l.policy));
out:
    model_close(&l);
    return rc;
}

int cmd_bench(int argc, char **argv) {
    struct options o = {.device = "auto", .prompt = 32, .tokens = 64};
    struct args_option options[] = {
        {"model", ARGS_STR, &o.model, "DIR", "Hugging Face folder", 0, 0},
        {"device", ARGS_STR, &o.device, "D", "auto, cpu, ref or cuda:N", 0, 0},
        {"threads", ARGS_INT, &o.threads, "N", "CPU threads, 0: all cores", 0, 1024},
        {"dtype", ARGS_STR, &o.dtype, "T", "fp32 (default) or bf16", 0, 0},
        {"prompt", ARGS_INT, &o.prompt, "N", "prompt tokens, default 32", 1, 1 << 20},
        {"tokens", ARGS_INT, &o.tokens, "N", "new tokens, default 64", 1, 1 << 20},
        {"fit-prefix", ARGS_FLAG, &o.prefix_cost_measure, NULL,
         "measure trainer.prefix_cost instead", 0, 0},
    };
    struct args_verb verb = {
        "weir bench --model DIR [options]",
        "Decodes at batch 1, 8 and 64 and trains on random tokens; JSON lines.",
        options,
        sizeof options / sizeof options[0],
        0,
        0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (!o.model) return FAIL(ERR_CONFIG, "--model DIR is missing");
    return bench(&o);
}
