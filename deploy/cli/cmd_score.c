/* cmd_score.c - `weir score`: log-probs of given responses by a policy.
 *
 * Lines are read and scored in windows, so that a file of any length takes bounded memory and a
 * window fills the batch. What a line says is checked completely before it may reach a forward. */
#include "actor/shape.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/lines.h"
#include "base/mem.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/evaluate/model.h"
#include "deploy/evaluate/score.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES_MAX = 64 << 20, WINDOW_LINES = 4096, WINDOW_TOKENS = 1 << 20 };

struct score {
    const char *model, *engine, *file, *device, *dtype;
    int64_t threads, batch, chunk, page, pages;
    double temperature;

    struct shape shape;
    const struct kern_backend *backend;
    struct params *weights;
    struct lines *in;
    struct score_item items[WINDOW_LINES];
    int64_t n, tokens;
};

/* Appends the ids under key; name is "FILE line N". */
static int read_ids(const struct score *c, const struct json *line, const char *key,
                    const char *name, int32_t *ids) {
    int32_t i = 0;
    for (const struct json *v = json_first(json_get(line, key)); v; v = json_next(v), i++) {
        int64_t id;
        if (!json_int(v, &id) || id < 0 || id >= c->shape.vocab)
            return FAIL(ERR_CORRUPT,
                        "%s: %s[%d] must be a token id, allowed are whole numbers from 0 to %d",
                        name, key, (int)i, (int)c->shape.vocab - 1);
        ids[i] = (int32_t)id;
    }
    return 0;
}

static int array_length(const struct json *line, const char *key, const char *name, size_t *n) {
    const struct json *v = json_get(line, key);
    if (!v) return FAIL(ERR_CORRUPT, "%s: %s is missing", name, key);
    if (!json_is(v, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: %s must be an array of token ids, not %s", name, key,
                    json_type_name(json_type(v)));
    *n = json_len(v);
    return 0;
}

static int read_item(const struct score *c, const struct json *line, const char *name,
                     struct score_item *out) {
    size_t n_prompt, n_response;
    struct score_item it = {0};
    int rc;
    if (!json_is(line, JSON_OBJECT))
        TRY_OUT(FAIL(ERR_CORRUPT, "%s: must be an object with prompt_ids and response_ids", name));
    TRY_OUT(array_length(line, "prompt_ids", name, &n_prompt));
    TRY_OUT(array_length(line, "response_ids", name, &n_response));
    if (n_prompt == 0)
        TRY_OUT(FAIL(ERR_CORRUPT, "%s: prompt_ids is empty, at least one token is needed", name));
    if (n_prompt + n_response > (size_t)c->shape.context)
        TRY_OUT(FAIL(ERR_CORRUPT,
                     "%s: prompt_ids (%zu) and response_ids (%zu) exceed the model's context of %d",
                     name, n_prompt, n_response, (int)c->shape.context));
    it.n_prompt = (int32_t)n_prompt;
    it.n_response = (int32_t)n_response;
    it.ids = mem_array(n_prompt + n_response, sizeof *it.ids);
    it.logprobs = mem_array(n_response, sizeof *it.logprobs);
    TRY_OUT(read_ids(c, line, "prompt_ids", name, it.ids));
    TRY_OUT(read_ids(c, line, "response_ids", name, it.ids + n_prompt));
    *out = it;
    it = (struct score_item){0};
out:
    mem_free(it.ids);
    mem_free(it.logprobs);
    return rc;
}

static int parse_line(struct score *c, const char *text, size_t bytes) {
    struct json_doc *doc = NULL;
    char *name = mem_printf("%s line %" PRId64, lines_name(c->in), lines_number(c->in));
    int rc;
    TRY_OUT(json_parse(&doc, text, bytes, name));
    TRY_OUT(read_item(c, json_root(doc), name, &c->items[c->n]));
    c->tokens += c->items[c->n].n_prompt + c->items[c->n].n_response;
    c->n++;
out:
    json_close(&doc);
    mem_free(name);
    return rc;
}

/* JSON has no NaN, and a null in the middle of a list would be found far from its cause. */
static int check_finite(const struct score_item *item) {
    for (int32_t k = 0; k < item->n_response; k++)
        if (!isfinite(item->logprobs[k]))
            return FAIL(ERR_CORRUPT,
                        "the log-prob of response_ids[%d] is not finite: the weights give no "
                        "finite distribution",
                        (int)k);
    return 0;
}

static int print_window(const struct score *c) {
    struct buf line = {0};
    for (int64_t i = 0; i < c->n; i++) {
        int rc = check_finite(&c->items[i]);
        if (rc < 0) {
            buf_close(&line);
            return rc;
        }
        buf_reset(&line);
        struct json_write w = json_write_to(&line, JSON_LINE);
        json_write_object(&w, NULL);
        json_write_f32s(&w, "logprobs", c->items[i].logprobs, (size_t)c->items[i].n_response);
        json_write_end(&w);
        json_write_newline(&w);
        fwrite(line.data, 1, line.len, stdout);
    }
    buf_close(&line);
    return fflush(stdout) == 0 ? 0 : FAIL(ERR_IO, "standard output: cannot write");
}

static void drop_window(struct score *c) {
    for (int64_t i = 0; i < c->n; i++) {
        mem_free(c->items[i].ids);
        mem_free(c->items[i].logprobs);
    }
    c->n = c->tokens = 0;
}

static int score_window(struct score *c) {
    struct score_config cfg = {
        .backend = c->backend,
        .weights = c->weights,
        .batch = (int32_t)c->batch,
        .chunk = (int32_t)c->chunk,
        .page = (int32_t)c->page,
        .pages = c->pages,
        .temperature = (float)c->temperature,
    };
    if (c->n == 0) return 0;
    bool rollout = strcmp(c->engine, "rollout") == 0;
    TRY((rollout ? score_rollout : score_trainer)(&cfg, c->items, c->n));
    TRY(print_window(c));
    drop_window(c);
    return 0;
}

static int run(struct score *c) {
    const char *text;
    size_t bytes;
    bool bf16;
    TRY(model_dtype(&bf16, c->dtype));
    TRY(shape_read(&c->shape, c->model));
    c->shape.bf16 = bf16;
    TRY(lines_open(&c->in, c->file, LINE_BYTES_MAX));
    TRY(kern_open(&c->backend, c->device, (int)c->threads));
    TRY(params_open(&c->weights, c->backend, &c->shape));
    TRY(params_load(c->weights, c->model));
    for (;;) {
        TRY(lines_next(c->in, &text, &bytes));
        if (!text) return score_window(c);
        if (bytes == 0) continue;
        TRY(parse_line(c, text, bytes));
        if (c->n == WINDOW_LINES || c->tokens >= WINDOW_TOKENS) TRY(score_window(c));
    }
}

int cmd_score(int argc, char **argv) {
    struct score *c = mem_zalloc(sizeof *c);
    c->engine = "trainer";
    c->device = "auto";
    c->batch = 64;
    c->page = 16;
    c->temperature = 1;
    struct args_option options[] = {
        {"model", ARGS_STR, &c->model, "DIR", "Hugging Face folder", 0, 0},
        {"engine", ARGS_STR, &c->engine, "NAME", "trainer (default) or rollout", 0, 0},
        {"file", ARGS_STR, &c->file, "F", "JSON lines, default standard input", 0, 0},
        {"temperature", ARGS_NUM, &c->temperature, "T", "of the distribution (1)", 1e-6, 1e6},
        {"batch", ARGS_INT, &c->batch, "N", "sequences at a time (64)", 1, 4096},
        {"chunk", ARGS_INT, &c->chunk, "N",
         "rollout: prefill rows per step (256); trainer: rows per forward (2048)", 1, 1 << 20},
        {"page", ARGS_INT, &c->page, "N", "keys per page (16)", 1, 4096},
        {"pages", ARGS_INT, &c->pages, "N", "rollout: pages, 0: enough for the batch (0)", 0,
         INT32_MAX},
        {"device", ARGS_STR, &c->device, "D", "auto, cpu, ref, cuda:N", 0, 0},
        {"threads", ARGS_INT, &c->threads, "N", "of a CPU device, 0: all cores", 0, 4096},
        {"dtype", ARGS_STR, &c->dtype, "T", "fp32 (default) or bf16", 0, 0},
    };
    struct args_verb verb = {
        "weir score --model DIR [--engine rollout|trainer] [--file F] [options]",
        "Reads {\"prompt_ids\": [...], \"response_ids\": [...]} lines, prints {\"logprobs\": "
        "[...]}\n"
        "lines: natural log-probs of the response's tokens. Both engines, and every batch, chunk,\n"
        "page size and number of threads, give the same digits.",
        options,
        sizeof options / sizeof options[0],
        0,
        0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc == 0) {
        bool rollout = strcmp(c->engine, "rollout") == 0;
        if (c->chunk == 0) c->chunk = rollout ? 256 : 2048;
        if (!c->model)
            rc = FAIL(ERR_CONFIG, "--model is missing");
        else if (!rollout && strcmp(c->engine, "trainer") != 0)
            rc = FAIL(ERR_CONFIG, "--engine %s: allowed are rollout and trainer", c->engine);
        else
            rc = run(c);
    }
    drop_window(c);
    lines_close(&c->in);
    params_close(&c->weights);
    if (c->backend) kern_close(c->backend);
    mem_free(c);
    return rc < 0 ? rc : 0;
}
