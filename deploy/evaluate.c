/* evaluate.c - see evaluate.h. Rows are fed to the engine as places become free; each response is
 * scored when it ends. The row number is the sampling key, so sampled evaluations repeat exactly
 * too. */
#include "deploy/evaluate.h"

#include "actor/dataset.h"
#include "base/clock.h"
#include "base/mem.h"
#include "reward/spec.h"
#include "rollout/engine.h"
#include "rollout/setup.h"

#include <inttypes.h>
#include <string.h>

enum { EVALUATE_SEQS = 64 };

struct answer { /* one row in work */
    uint64_t row;
    int32_t *ids;
    int32_t n;
    bool used;
};

struct evaluate {
    const struct policy *policy;
    const struct recipe *recipe;
    struct dataset *data;
    struct engine *engine;
    struct verify *verify;
    struct answer answers[EVALUATE_SEQS];
    int32_t max_new_tokens;
    uint64_t next_row;
};

static int open_engine(struct evaluate *e, const struct kern_backend *b) {
    struct engine_config cfg = setup_engine(e->recipe, &e->policy->shape, e->policy->tokenizer, b);
    int64_t context = e->recipe->rollout.max_prompt_tokens + e->max_new_tokens;
    cfg.context =
        (int32_t)(context < e->policy->shape.context ? context : e->policy->shape.context);
    cfg.seqs_max = cfg.waiting_max = EVALUATE_SEQS;
    cfg.pages = 0;
    return engine_open(&e->engine, &cfg);
}

int evaluate_open(struct evaluate **out, const struct recipe *r, const struct policy *policy,
                  const struct kern_backend *b) {
    const struct recipe_data *d = &r->data.eval;
    if (!d->path) return FAIL(ERR_CONFIG, "the recipe has no data.eval.path to evaluate on");
    struct evaluate *e = mem_zalloc(sizeof *e);
    e->policy = policy;
    e->recipe = r;
    e->max_new_tokens =
        (int32_t)(r->eval.max_new_tokens ? r->eval.max_new_tokens : r->rollout.max_new_tokens);
    struct dataset_config cfg = {.path = d->path,
                                 .prompt = d->prompt,
                                 .answer = d->answer,
                                 .system = d->system,
                                 .template_ = d->template_,
                                 .limit = d->limit,
                                 .skip = d->skip,
                                 .seed = r->seed};
    int rc;
    TRY_OUT(dataset_open(&e->data, &cfg));
    TRY_OUT(spec_open(&e->verify, r));
    TRY_OUT(open_engine(e, b));
    *out = e;
    e = NULL;
out:
    evaluate_close(&e);
    return rc;
}

void evaluate_close(struct evaluate **e) {
    if (!*e) return;
    for (int i = 0; i < EVALUATE_SEQS; i++)
        mem_free((*e)->answers[i].ids);
    engine_close(&(*e)->engine);
    verify_close(&(*e)->verify);
    dataset_close(&(*e)->data);
    mem_free(*e);
    *e = NULL;
}

static int add_row(struct evaluate *e, struct answer *a) {
    int32_t *ids = NULL;
    size_t n = 0;
    const struct recipe *r = e->recipe;
    TRY(dataset_render(e->data, e->next_row, e->policy->chat, e->policy->tokenizer, NULL, &ids,
                       &n));
    struct engine_request q = {.id = e->next_row,
                               .prompt = ids,
                               .n_prompt = (int32_t)n,
                               .max_new_tokens = e->max_new_tokens,
                               .temperature = (float)r->eval.temperature,
                               .top_p = 1.0f,
                               .stop_ids = e->policy->stop_ids,
                               .n_stop_ids = e->policy->n_stop_ids,
                               .stop = (const char *const *)r->rollout.stop,
                               .n_stop = (int32_t)r->rollout.n_stop};
    int rc = engine_add(e->engine, &q);
    mem_free(ids);
    if (rc < 0) return err_wrap(rc, "%s row %" PRIu64, r->data.eval.path, e->next_row);
    if (!a->ids) a->ids = mem_array((size_t)e->max_new_tokens, sizeof *a->ids);
    a->row = e->next_row++;
    a->n = 0;
    a->used = true;
    return 0;
}

static int score(struct evaluate *e, const struct answer *a, bool truncated,
                 struct evaluate_report *out) {
    char *text, *prompt;
    size_t bytes;
    struct verify_result result;
    TRY(tokenizer_decode(e->policy->tokenizer, a->ids, (size_t)a->n, true, &text, &bytes));
    int rc = dataset_render(e->data, a->row, e->policy->chat, NULL, &prompt, NULL, NULL);
    if (rc == 0) {
        struct verify_input in = {.prompt = prompt,
                                  .response = text,
                                  .answer = dataset_answer(e->data, a->row),
                                  .n_tokens = a->n,
                                  .max_tokens = e->max_new_tokens,
                                  .truncated = truncated};
        verify_run(e->verify, &in, &result);
        out->n++;
        out->tokens += a->n;
        out->truncated += truncated;
        out->errors += result.error != 0;
        if (result.error == 0) {
            out->accuracy += result.scores[0].value;
            out->reward += result.total;
        }
        mem_free(prompt);
    }
    mem_free(text);
    return rc;
}

static struct answer *find(struct evaluate *e, uint64_t row) {
    for (int i = 0; i < EVALUATE_SEQS; i++)
        if (e->answers[i].used && e->answers[i].row == row) return &e->answers[i];
    return NULL;
}

static int take_events(struct evaluate *e, struct evaluate_report *out) {
    const struct engine_token *events;
    int32_t n;
    TRY(engine_step(e->engine, &events, &n));
    for (int32_t i = 0; i < n; i++) {
        struct answer *a = find(e, events[i].id);
        ASSERT(a && a->n < e->max_new_tokens);
        a->ids[a->n++] = events[i].token;
        if (events[i].finish == ENGINE_RUNNING) continue;
        a->used = false;
        TRY(score(e, a, events[i].finish == ENGINE_LENGTH, out));
    }
    return 0;
}

/* After a failure or a stop: nothing stays in the engine. */
static void abandon(struct evaluate *e) {
    for (int i = 0; i < EVALUATE_SEQS; i++) {
        if (e->answers[i].used) engine_abort(e->engine, e->answers[i].row);
        e->answers[i].used = false;
    }
}

int evaluate_run(struct evaluate *e, const struct params *weights, int64_t version,
                 evaluate_stop_fn *should_stop, void *ctx, struct evaluate_report *out) {
    struct evaluate_report report = {.version = version};
    uint64_t start = clock_us();
    int rc;
    e->next_row = 0;
    TRY_OUT(engine_swap(e->engine, weights, version));
    while (e->next_row < dataset_rows(e->data) || !engine_idle(e->engine)) {
        for (int i = 0; i < EVALUATE_SEQS && e->next_row < dataset_rows(e->data); i++)
            if (!e->answers[i].used) TRY_OUT(add_row(e, &e->answers[i]));
        TRY_OUT(take_events(e, &report));
        if (should_stop && should_stop(ctx)) {
            rc = FAIL(ERR_CLOSED, "evaluation was stopped");
            goto out;
        }
    }
    int64_t scored = report.n - report.errors;
    report.accuracy = scored ? report.accuracy / (double)scored : 0;
    report.reward = scored ? report.reward / (double)scored : 0;
    report.seconds = (double)(clock_us() - start) * 1e-6;
    if (scored == 0)
        rc = FAIL(ERR_CORRUPT, "no response could be scored: all %" PRId64 " verifier calls failed",
                  report.n);
    else
        *out = report;
out:
    abandon(e);
    return rc;
}

void evaluate_json(const struct evaluate_report *r, struct buf *out) {
    buf_printf(out, "{\"version\": %" PRId64 ", \"accuracy\": ", r->version);
    buf_json_num(out, r->accuracy);
    buf_str(out, ", \"reward\": ");
    buf_json_num(out, r->reward);
    buf_printf(out,
               ", \"n\": %" PRId64 ", \"tokens\": %" PRId64 ", \"truncated\": %" PRId64
               ", \"errors\": %" PRId64,
               r->n, r->tokens, r->truncated, r->errors);
    buf_str(out, ", \"seconds\": ");
    buf_json_num(out, r->seconds);
    buf_str(out, "}");
}
