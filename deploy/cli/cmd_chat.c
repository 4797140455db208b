/* cmd_chat.c - `weir chat`: a conversation at the terminal.
 *
 * Every turn is one request whose prompt is the whole conversation. The engine's prefix cache still
 * holds the keys of the turns before, so only the new words are computed; no state has to be kept
 * in step with the history, and /clear or an error cannot leave the two apart. */
#include "base/lines.h"
#include "base/mem.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/evaluate/model.h"
#include "rollout/engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    MESSAGES_MAX = 1024,
    LINE_MAX_BYTES = 1 << 20,
    CONTEXT_DEFAULT = 8192,
    CHUNK = 256,
    PAGE = 16
};

struct chat {
    const char *model, *system, *format, *device, *dtype;
    int64_t max_tokens, top_k, seed, threads, context;
    double temperature, top_p;

    struct model loaded;
    struct engine *engine;
    struct lines *in;
    struct chat_message messages[MESSAGES_MAX]; /* contents owned */
    size_t n_messages;
    uint64_t turn;
    bool terminal;
};

static void say(struct chat *c, const char *role, const char *content) {
    c->messages[c->n_messages++] = (struct chat_message){role, mem_strdup(content)};
}

/* Forgets the newest messages until n are left. */
static void forget(struct chat *c, size_t n) {
    while (c->n_messages > n)
        mem_free((char *)(uintptr_t)c->messages[--c->n_messages].content);
}

static int open_all(struct chat *c) {
    bool bf16;
    TRY(model_dtype(&bf16, c->dtype));
    TRY(model_open(&c->loaded, c->model, c->format, c->device, c->threads, bf16));
    int32_t context = c->loaded.policy.shape.context;
    if (c->context > context)
        return FAIL(ERR_CONFIG, "--context %lld: the model's is %d", (long long)c->context,
                    (int)context);
    if (c->context == 0) c->context = context < CONTEXT_DEFAULT ? context : CONTEXT_DEFAULT;
    struct engine_config cfg = {
        .backend = c->loaded.backend,
        .shape = c->loaded.policy.shape,
        .tokenizer = c->loaded.policy.tokenizer,
        .seqs_max = 1,
        .context = (int32_t)c->context,
        .chunk_tokens = CHUNK,
        .page = PAGE,
        .waiting_max = 1,
        .seed = (uint64_t)c->seed,
    };
    TRY(engine_open(&c->engine, &cfg));
    TRY(engine_swap(c->engine, c->loaded.weights, 0));
    TRY(lines_open(&c->in, NULL, LINE_MAX_BYTES));
    if (c->system) say(c, "system", c->system);
    return 0;
}

/* The whole conversation as ids, with the opening of the answer. */
static int encode(struct chat *c, int32_t **ids, int32_t *n_ids) {
    const struct policy *p = &c->loaded.policy;
    struct buf text = {0};
    size_t n;
    int rc;
    TRY_OUT(chat_render(&text, p->chat, c->messages, c->n_messages, true));
    TRY_OUT(tokenizer_encode(p->tokenizer, text.data ? text.data : "", text.len,
                             chat_wants_special(p->chat), ids, &n));
    if (n == 0 || n >= (size_t)c->context) {
        mem_free(*ids);
        *ids = NULL;
        TRY_OUT(FAIL(ERR_AGAIN,
                     "%zu tokens do not fit into the context of %lld; /clear begins anew", n,
                     (long long)c->context));
    }
    *n_ids = (int32_t)n;
out:
    buf_close(&text);
    return rc;
}

/* Streams the answer to stdout and appends it to the conversation. */
static int answer(struct chat *c, const int32_t *ids, int32_t n_ids) {
    const struct engine_token *event;
    struct model_text text = {0};
    struct buf all = {0};
    int32_t n = 0;
    int64_t room = c->context - n_ids;
    enum engine_finish finish = ENGINE_RUNNING;
    struct engine_request r = {
        .id = c->turn++,
        .prompt = ids,
        .n_prompt = n_ids,
        .max_new_tokens = (int32_t)(c->max_tokens < room ? c->max_tokens : room),
        .temperature = (float)c->temperature,
        .top_p = (float)c->top_p,
        .top_k = (int32_t)c->top_k,
        .stop_ids = c->loaded.policy.stop_ids,
        .n_stop_ids = c->loaded.policy.n_stop_ids,
    };
    int rc;
    TRY_OUT(model_text_open(&text, &c->loaded.policy, ids, n_ids));
    TRY_OUT(engine_add(c->engine, &r));
    while (finish == ENGINE_RUNNING) {
        TRY_OUT(engine_step(c->engine, &event, &n));
        if (n == 0) continue;
        finish = event->finish;
        size_t before = all.len;
        TRY_OUT(model_text_add(&text, event->token, finish != ENGINE_RUNNING, &all));
        if (all.len > before) fwrite(all.data + before, 1, all.len - before, stdout);
        fflush(stdout);
    }
    printf("\n");
    say(c, "assistant", all.data ? all.data : "");
out:
    model_text_close(&text);
    buf_close(&all);
    return rc;
}

static int take_turn(struct chat *c, const char *line) {
    int32_t *ids = NULL, n_ids = 0;
    size_t before = c->n_messages;
    if (before + 2 > MESSAGES_MAX)
        return FAIL(ERR_AGAIN, "%d messages are the limit; /clear begins anew", MESSAGES_MAX);
    say(c, "user", line);
    int rc = encode(c, &ids, &n_ids);
    if (rc == 0) rc = answer(c, ids, n_ids);
    if (rc < 0) forget(c, before);
    mem_free(ids);
    return rc;
}

static int converse(struct chat *c) {
    const char *line;
    size_t bytes;
    if (c->terminal) fprintf(stderr, "/clear forgets the conversation, /exit or Ctrl-D ends\n");
    for (;;) {
        if (c->terminal) fprintf(stderr, "> ");
        TRY(lines_next(c->in, &line, &bytes));
        if (!line || strcmp(line, "/exit") == 0) return 0;
        if (bytes == 0) continue;
        if (strcmp(line, "/clear") == 0) {
            forget(c, c->system ? 1 : 0);
            continue;
        }
        int rc = take_turn(c, line);
        if (rc == ERR_AGAIN)
            fprintf(stderr, "%s\n", err_text());
        else if (rc < 0)
            return rc;
    }
}

int cmd_chat(int argc, char **argv) {
    struct chat c = {
        .format = "auto", .device = "auto", .temperature = 1, .top_p = 1, .max_tokens = 1024};
    struct args_option options[] = {
        {"model", ARGS_STR, &c.model, "DIR", "Hugging Face folder", 0, 0},
        {"system", ARGS_STR, &c.system, "TEXT", "system message", 0, 0},
        {"chat", ARGS_STR, &c.format, "FORMAT",
         "auto, plain, chatml, qwen3, llama3, ...: docs/data.md", 0, 0},
        {"max-tokens", ARGS_INT, &c.max_tokens, "N", "longest answer (1024)", 1, INT32_MAX},
        {"context", ARGS_INT, &c.context, "N",
         "longest conversation in tokens (8192, or the model's)", 2, INT32_MAX},
        {"temperature", ARGS_NUM, &c.temperature, "T", "0: greedy (1)", 0, 1e6},
        {"top-p", ARGS_NUM, &c.top_p, "P", "smallest set of this mass (1)", 1e-9, 1},
        {"top-k", ARGS_INT, &c.top_k, "K", "the K most likely, 0: all (0)", 0, INT32_MAX},
        {"seed", ARGS_INT, &c.seed, "S", "of the sampling (0)", 0, 9e15},
        {"device", ARGS_STR, &c.device, "D", "auto, cpu, ref, cuda:N", 0, 0},
        {"threads", ARGS_INT, &c.threads, "N", "of a CPU device, 0: all cores", 0, 4096},
        {"dtype", ARGS_STR, &c.dtype, "T", "fp32 (default) or bf16", 0, 0},
    };
    struct args_verb verb = {"weir chat --model DIR [options]",
                             "Reads a message per line, streams the answers.",
                             options,
                             sizeof options / sizeof options[0],
                             0,
                             0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (!c.model) return FAIL(ERR_CONFIG, "--model is missing");
    c.terminal = isatty(STDIN_FILENO);
    rc = open_all(&c);
    if (rc == 0) rc = converse(&c);
    forget(&c, 0);
    lines_close(&c.in);
    engine_close(&c.engine);
    model_close(&c.loaded);
    return rc;
}
