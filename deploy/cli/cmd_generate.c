/* cmd_generate.c - `weir generate`: the completion of one prompt, on standard output and nothing
 * else.
 *
 * One sample is written as it comes. Several share the prompt's keys as a group does in a rollout,
 * and are written in their order, each as soon as it and all before it are complete. The trajectory
 * id of a sample is its number, so `--seed S --n 8` gives the same eight on any machine with the
 * same backend, and the first of them is what `--n 1` gives. */
#include "base/json_write.h"
#include "base/mem.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/evaluate/model.h"
#include "rollout/engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    SAMPLES_MAX = 1 << 16,
    RUNNING_MAX = 64,
    CHUNK = 256,
    PAGE = 16,
    TOKENS_DEFAULT = 512,
    STOPS_MAX = 16
};

static const char SEPARATOR[] = "\n---\n";

struct sample {
    struct model_text text;
    struct buf out;
    int32_t *tokens, n;
    float *logprobs;
    enum engine_finish finish;
};

struct generate {
    const char *model, *prompt, *chat, *device, *dtype, *system;
    int64_t max_tokens, top_k, seed, n, threads;
    double temperature, top_p;
    bool raw, json;
    struct args_list stop;

    struct model loaded;
    struct engine *engine;
    int32_t *ids, n_ids; /* the prompt */
    struct sample *samples;
    int64_t added, written;
};

static int encode_prompt(struct generate *g) {
    const struct policy *p = &g->loaded.policy;
    struct buf text = {0};
    size_t n = 0;
    int rc;
    bool special = true;
    if (g->raw) {
        buf_str(&text, g->prompt);
    } else {
        struct chat_message messages[2] = {{"system", g->system}, {"user", g->prompt}};
        const struct chat_message *first = g->system ? messages : messages + 1;
        TRY_OUT(chat_render(&text, p->chat, first, g->system ? 2 : 1, true));
        special = chat_wants_special(p->chat);
    }
    TRY_OUT(
        tokenizer_encode(p->tokenizer, text.data ? text.data : "", text.len, special, &g->ids, &n));
    if (n == 0) TRY_OUT(FAIL(ERR_CONFIG, "--prompt: it has no tokens"));
    if (n >= (size_t)p->shape.context)
        TRY_OUT(FAIL(ERR_CONFIG, "--prompt: %zu tokens leave no room in the model's context of %d",
                     n, (int)p->shape.context));
    g->n_ids = (int32_t)n;
    int64_t room = p->shape.context - g->n_ids;
    if (g->max_tokens == 0) g->max_tokens = room < TOKENS_DEFAULT ? room : TOKENS_DEFAULT;
    if (g->max_tokens > room)
        TRY_OUT(FAIL(ERR_CONFIG,
                     "--max-tokens %lld: the prompt's %d tokens leave %lld in the model's context "
                     "of %d",
                     (long long)g->max_tokens, (int)g->n_ids, (long long)room,
                     (int)p->shape.context));
out:
    buf_close(&text);
    return rc;
}

static int open_engine(struct generate *g) {
    int32_t running = g->n < RUNNING_MAX ? (int32_t)g->n : RUNNING_MAX;
    struct engine_config cfg = {
        .backend = g->loaded.backend,
        .shape = g->loaded.policy.shape,
        .tokenizer = g->loaded.policy.tokenizer,
        .seqs_max = running,
        .context = g->n_ids + (int32_t)g->max_tokens,
        .chunk_tokens = g->n_ids < CHUNK ? g->n_ids : CHUNK,
        .page = PAGE,
        .waiting_max = running,
        .seed = (uint64_t)g->seed,
    };
    TRY(engine_open(&g->engine, &cfg));
    TRY(engine_swap(g->engine, g->loaded.weights, 0));
    g->samples = mem_array((size_t)g->n, sizeof *g->samples);
    for (int64_t i = 0; i < g->n; i++) {
        struct sample *s = &g->samples[i];
        s->tokens = mem_array((size_t)g->max_tokens, sizeof *s->tokens);
        s->logprobs = mem_array((size_t)g->max_tokens, sizeof *s->logprobs);
        TRY(model_text_open(&s->text, &g->loaded.policy, g->ids, g->n_ids));
    }
    return 0;
}

/* As many of the samples not added yet as the engine takes. */
static int add_samples(struct generate *g) {
    while (g->added < g->n) {
        struct engine_request r = {
            .id = (uint64_t)g->added,
            .prompt = g->ids,
            .n_prompt = g->n_ids,
            .max_new_tokens = (int32_t)g->max_tokens,
            .temperature = (float)g->temperature,
            .top_p = (float)g->top_p,
            .top_k = (int32_t)g->top_k,
            .stop_ids = g->loaded.policy.stop_ids,
            .n_stop_ids = g->loaded.policy.n_stop_ids,
            .stop = g->stop.at,
            .n_stop = (int32_t)g->stop.n,
        };
        int rc = engine_add(g->engine, &r);
        if (rc == ERR_AGAIN) return 0;
        if (rc < 0) return rc;
        g->added++;
    }
    return 0;
}

static void json_sample(const struct generate *g, int64_t i, struct buf *out) {
    const struct sample *s = &g->samples[i];
    struct json_write w = json_write_to(out, JSON_LINE);
    json_write_object(&w, NULL);
    json_write_int(&w, "sample", i);
    json_write_text(&w, "text", s->out.data, s->out.len);
    json_write_ids(&w, "tokens", s->tokens, (size_t)s->n);
    json_write_f32s(&w, "logprobs", s->logprobs, (size_t)s->n);
    json_write_int(&w, "prompt_tokens", g->n_ids);
    json_write_str(&w, "finish", s->finish == ENGINE_STOP ? "stop" : "length");
    json_write_end(&w);
    json_write_newline(&w);
}

static int write_out(const struct buf *b) {
    if (b->len > 0 && fwrite(b->data, 1, b->len, stdout) != b->len)
        return FAIL(ERR_IO, "standard output: cannot write");
    return fflush(stdout) == 0 ? 0 : FAIL(ERR_IO, "standard output: cannot write");
}

/* Writes every sample that is complete and whose turn it is. */
static int write_complete(struct generate *g) {
    while (g->written < g->n && g->samples[g->written].finish != ENGINE_RUNNING) {
        struct sample *s = &g->samples[g->written];
        if (g->json) {
            struct buf line = {0};
            json_sample(g, g->written, &line);
            int rc = write_out(&line);
            buf_close(&line);
            TRY(rc);
        } else {
            TRY(write_out(&s->out));
            if (g->written + 1 < g->n)
                TRY(write_out(&(struct buf){.data = (char *)(uintptr_t)SEPARATOR,
                                            .len = sizeof SEPARATOR - 1}));
        }
        buf_reset(&s->out);
        g->written++;
    }
    return 0;
}

static int take_events(struct generate *g, const struct engine_token *events, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const struct engine_token *t = &events[i];
        struct sample *s = &g->samples[t->id];
        ASSERT(s->n == t->position && s->n < g->max_tokens);
        s->tokens[s->n] = t->token;
        s->logprobs[s->n++] = t->logprob;
        s->finish = t->finish;
        TRY(model_text_add(&s->text, t->token, t->finish != ENGINE_RUNNING, &s->out));
        if (g->n == 1 && !g->json) {
            TRY(write_out(&s->out));
            buf_reset(&s->out);
        }
    }
    return write_complete(g);
}

/* A shell's prompt belongs on a line of its own; a file or a pipe gets the completion and nothing
 * else. */
static int end_line(const struct generate *g) {
    struct buf end = {.data = (char *)(uintptr_t) "\n", .len = 1};
    return g->json || !isatty(STDOUT_FILENO) ? 0 : write_out(&end);
}

static int run(struct generate *g) {
    const struct engine_token *events;
    int32_t n;
    bool bf16;
    TRY(model_dtype(&bf16, g->dtype));
    TRY(model_open(&g->loaded, g->model, g->raw ? "plain" : g->chat, g->device, g->threads, bf16));
    TRY(encode_prompt(g));
    TRY(open_engine(g));
    while (g->written < g->n) {
        TRY(add_samples(g));
        TRY(engine_step(g->engine, &events, &n));
        TRY(take_events(g, events, n));
    }
    return end_line(g);
}

static void close_all(struct generate *g) {
    for (int64_t i = 0; g->samples && i < g->n; i++) {
        model_text_close(&g->samples[i].text);
        buf_close(&g->samples[i].out);
        mem_free(g->samples[i].tokens);
        mem_free(g->samples[i].logprobs);
    }
    mem_free(g->samples);
    mem_free(g->ids);
    engine_close(&g->engine);
    model_close(&g->loaded);
}

int cmd_generate(int argc, char **argv) {
    struct generate g = {
        .chat = "auto", .device = "auto", .n = 1, .temperature = 1, .top_p = 1, .seed = 0};
    struct args_option options[] = {
        {"model", ARGS_STR, &g.model, "DIR", "Hugging Face folder", 0, 0},
        {"prompt", ARGS_STR, &g.prompt, "TEXT", "what to complete or answer", 0, 0},
        {"system", ARGS_STR, &g.system, "TEXT", "system message", 0, 0},
        {"raw", ARGS_FLAG, &g.raw, NULL, "complete the text itself, without a chat format", 0, 0},
        {"chat", ARGS_STR, &g.chat, "FORMAT",
         "auto, plain, chatml, qwen3, llama3, ...: docs/data.md", 0, 0},
        {"max-tokens", ARGS_INT, &g.max_tokens, "N", "longest completion (512, or what fits)", 1,
         INT32_MAX},
        {"temperature", ARGS_NUM, &g.temperature, "T", "0: greedy (1)", 0, 1e6},
        {"top-p", ARGS_NUM, &g.top_p, "P", "smallest set of this mass (1)", 1e-9, 1},
        {"top-k", ARGS_INT, &g.top_k, "K", "the K most likely, 0: all (0)", 0, INT32_MAX},
        {"stop", ARGS_LIST, &g.stop, "TEXT", "ends the completion; may be repeated", 0, 0},
        {"seed", ARGS_INT, &g.seed, "S", "of the sampling (0)", 0, 9e15},
        {"n", ARGS_INT, &g.n, "N", "number of samples (1)", 1, SAMPLES_MAX},
        {"device", ARGS_STR, &g.device, "D", "auto, cpu, ref, cuda:N", 0, 0},
        {"threads", ARGS_INT, &g.threads, "N", "of a CPU device, 0: all cores", 0, 4096},
        {"dtype", ARGS_STR, &g.dtype, "T", "fp32 (default) or bf16", 0, 0},
        {"json", ARGS_FLAG, &g.json, NULL, "one JSON object per sample", 0, 0},
    };
    struct args_verb verb = {
        "weir generate --model DIR --prompt TEXT [options]",
        "Writes the completion to standard output and nothing else (on a terminal a line end\n"
        "after it); one sample as it comes,\n"
        "several in order with a line \"---\" between them. With --json each is one line with\n"
        "text, tokens, logprobs and finish (stop or length).",
        options,
        sizeof options / sizeof options[0],
        0,
        0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (!g.model || !g.prompt)
        return FAIL(ERR_CONFIG, "--%s is missing", g.model ? "prompt" : "model");
    if (g.stop.n > STOPS_MAX)
        return FAIL(ERR_CONFIG, "--stop is given %zu times, the limit is %d", g.stop.n, STOPS_MAX);
    rc = run(&g);
    close_all(&g);
    return rc;
}
