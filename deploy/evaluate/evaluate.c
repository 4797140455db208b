/* evaluate.c - see evaluate.h. Answers are fed to the engine as places become free, all sets in one
 * stream, so that only the end of the last set leaves places empty; the answers to one prompt
 * follow each other and share its prefill. What an answer scored is kept by prompt, and sums run
 * over prompts in their order when all is done: the order in which answers end leaves no trace. */
#include "deploy/evaluate/evaluate.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "deploy/evaluate/passk.h"
#include "reward/verify/verify_spec.h"
#include "rollout/engine/engine.h"
#include "rollout/setup/setup_engine.h"
#include "rollout/setup/setup_policy.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { EVALUATE_SEQS = 64 };
/* The sampling key of an answer: 16 bits of its set's name, 36 of its row in the file, 12 of its
 * index among the prompt's answers. The set's bits are never 0: trajectories of a run count from 0
 * and do not come this far. */
enum { SAMPLE_BITS = 12, ROW_BITS = 36 };
_Static_assert(RECIPE_SAMPLES_MAX <= 1 << SAMPLE_BITS, "a sample's index has SAMPLE_BITS");

struct tally { /* what is known of one prompt */
    double score, reward;
    int32_t scored, right;
};

struct set {
    const struct recipe_eval *recipe;
    struct dataset *data;
    uint64_t key; /* of its first row's first answer */
    double right; /* least score of a right answer */
    struct tally *tally;
    int64_t n, tokens, truncated, errors;
};

struct answer { /* one in work */
    struct set *set;
    uint64_t id, row;
    int32_t *ids;
    int32_t n;
    bool used;
};

struct evaluate {
    const struct policy *policy;
    const struct recipe *recipe;
    struct engine *engine;
    struct verify *verify;
    struct set set[RECIPE_EVAL_MAX];
    int64_t n_sets;
    struct answer answers[EVALUATE_SEQS];
    int32_t max_new_tokens;
    /* the next answer to be asked for; at == n_sets: all were */
    int64_t at, sample;
    uint64_t row;
};

/* --- opening ------------------------------------------------------------------------------- */

static int open_engine(struct evaluate *e, const struct kern_backend *b) {
    struct engine_config cfg = setup_engine(e->recipe, &e->policy->shape, e->policy->tokenizer, b);
    int64_t context = e->recipe->rollout.max_prompt_tokens + e->max_new_tokens;
    cfg.context =
        (int32_t)(context < e->policy->shape.context ? context : e->policy->shape.context);
    cfg.seqs_max = cfg.waiting_max = EVALUATE_SEQS;
    cfg.pages = 0;
    return engine_open(&e->engine, &cfg);
}

/* By the name, so that another set before it changes nothing. Two names may share their 16 bits;
 * then the later one takes the next free ones. */
static uint64_t key_of(const struct evaluate *e, const char *name) {
    uint64_t bits = hash64(name, strlen(name), 0) & 0xFFFF;
    for (bool again = true; again;) {
        again = bits == 0;
        for (int64_t i = 0; i < e->n_sets; i++)
            again |= e->set[i].key >> (SAMPLE_BITS + ROW_BITS) == bits;
        if (again) bits = (bits + 1) & 0xFFFF;
    }
    return bits << (SAMPLE_BITS + ROW_BITS);
}

/* pass@k needs to know what a right answer is: the recipe says it, or the verifier knows only right
 * and wrong. */
static int right_of(double *out, const struct recipe *r, int64_t i) {
    const struct recipe_eval *v = &r->data.eval[i];
    if (isnan(v->pass) && v->k.n > 0 && verify_is_graded(r->reward[0].type))
        return FAIL(ERR_CONFIG,
                    "data.eval[%" PRId64 "].k: pass@k needs to know which scores of reward[0] (%s) "
                    "are right; set data.eval[%" PRId64 "].pass",
                    i, r->reward[0].type, i);
    *out = isnan(v->pass) ? 1 : v->pass;
    return 0;
}

int evaluate_check(const struct recipe *r) {
    double right;
    for (int64_t i = 0; i < r->data.n_eval; i++)
        TRY(right_of(&right, r, i));
    return 0;
}

static int open_set(struct evaluate *e, int64_t i) {
    const struct recipe_eval *v = &e->recipe->data.eval[i];
    struct set *s = &e->set[i];
    TRY(right_of(&s->right, e->recipe, i));
    TRY(setup_dataset(&s->data, &v->rows, "data.eval", e->recipe->seed));
    uint64_t rows = dataset_rows(s->data);
    if ((uint64_t)v->rows.skip + rows > 1ull << ROW_BITS)
        return FAIL(ERR_CONFIG, "data.eval[%" PRId64 "].skip: rows after %llu cannot be evaluated",
                    i, 1ull << ROW_BITS);
    s->recipe = v;
    s->key = key_of(e, v->name);
    s->tally = mem_array(rows, sizeof *s->tally);
    return 0;
}

int evaluate_open(struct evaluate **out, const struct recipe *r, const struct policy *policy,
                  const struct kern_backend *b) {
    if (r->data.n_eval == 0)
        return FAIL(ERR_CONFIG, "the recipe has no data.eval.path to evaluate on");
    struct evaluate *e = mem_zalloc(sizeof *e);
    int rc;
    e->policy = policy;
    e->recipe = r;
    e->max_new_tokens =
        (int32_t)(r->eval.max_new_tokens ? r->eval.max_new_tokens : r->rollout.max_new_tokens);
    TRY_OUT(verify_spec_open(&e->verify, r));
    for (; e->n_sets < r->data.n_eval; e->n_sets++)
        TRY_OUT(open_set(e, e->n_sets));
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
    for (int64_t i = 0; i < RECIPE_EVAL_MAX; i++) {
        dataset_close(&(*e)->set[i].data);
        mem_free((*e)->set[i].tally);
    }
    engine_close(&(*e)->engine);
    verify_close(&(*e)->verify);
    mem_free(*e);
    *e = NULL;
}

/* --- answers ------------------------------------------------------------------------------- */

static void reset(struct evaluate *e) {
    e->at = e->sample = 0;
    e->row = 0;
    for (int64_t i = 0; i < e->n_sets; i++) {
        struct set *s = &e->set[i];
        s->n = s->tokens = s->truncated = s->errors = 0;
        memset(s->tally, 0, dataset_rows(s->data) * sizeof *s->tally);
    }
}

static void advance(struct evaluate *e) {
    const struct set *s = &e->set[e->at];
    if (++e->sample < s->recipe->samples) return;
    e->sample = 0;
    if (++e->row < dataset_rows(s->data)) return;
    e->row = 0;
    e->at++;
}

/* A prompt that cannot be asked is one answer that counts as an error, if the recipe wants that. */
static int leave_out(struct evaluate *e, int rc) {
    struct set *s = &e->set[e->at];
    if (s->recipe->rows.bad_rows != RECIPE_BAD_ROWS_SKIP) return rc;
    if (rc != ERR_CONFIG && rc != ERR_CORRUPT) return rc;
    s->errors++;
    advance(e);
    return 0;
}

/* Asks for the next answer. */
static int ask(struct evaluate *e, struct answer *a) {
    int32_t *ids = NULL;
    size_t n = 0;
    const struct recipe *r = e->recipe;
    struct set *s = &e->set[e->at];
    int rc = dataset_render(s->data, e->row, e->policy->chat, e->policy->tokenizer, NULL, &ids, &n);
    if (rc < 0) return leave_out(e, rc);
    uint64_t row = e->row + (uint64_t)s->recipe->rows.skip;
    struct engine_request q = {.id = s->key | row << SAMPLE_BITS | (uint64_t)e->sample,
                               .prompt = ids,
                               .n_prompt = (int32_t)n,
                               .max_new_tokens = e->max_new_tokens,
                               .temperature = (float)s->recipe->temperature,
                               .top_p = (float)s->recipe->top_p,
                               .top_k = (int32_t)s->recipe->top_k,
                               .stop_ids = e->policy->stop_ids,
                               .n_stop_ids = e->policy->n_stop_ids,
                               .stop = (const char *const *)r->rollout.stop,
                               .n_stop = (int32_t)r->rollout.n_stop};
    rc = engine_add(e->engine, &q);
    mem_free(ids);
    if (rc < 0) return leave_out(e, err_wrap(rc, "%s row %" PRIu64, s->recipe->rows.path, row));
    if (!a->ids) a->ids = mem_array((size_t)e->max_new_tokens, sizeof *a->ids);
    a->set = s;
    a->id = q.id;
    a->row = e->row;
    a->n = 0;
    a->used = true;
    advance(e);
    return 0;
}

static void count(const struct answer *a, bool truncated, const struct verify_result *result) {
    struct set *s = a->set;
    struct tally *t = &s->tally[a->row];
    s->n++;
    s->tokens += a->n;
    s->truncated += truncated;
    s->errors += result->error != 0;
    if (result->error != 0) return;
    t->scored++;
    t->right += result->scores[0].value >= s->right;
    t->score += result->scores[0].value;
    t->reward += result->total;
}

static int score(struct evaluate *e, const struct answer *a, bool truncated) {
    char *text, *prompt;
    size_t bytes;
    struct verify_result result;
    TRY(tokenizer_decode(e->policy->tokenizer, a->ids, (size_t)a->n, true, &text, &bytes));
    int rc = dataset_render(a->set->data, a->row, e->policy->chat, NULL, &prompt, NULL, NULL);
    if (rc == 0) {
        struct verify_input in = {.prompt = prompt,
                                  .response = text,
                                  .answer = dataset_answer(a->set->data, a->row),
                                  .n_tokens = a->n,
                                  .max_tokens = e->max_new_tokens,
                                  .truncated = truncated};
        verify_run(e->verify, &in, &result);
        count(a, truncated, &result);
        mem_free(prompt);
    }
    mem_free(text);
    return rc;
}

static struct answer *find(struct evaluate *e, uint64_t id) {
    for (int i = 0; i < EVALUATE_SEQS; i++)
        if (e->answers[i].used && e->answers[i].id == id) return &e->answers[i];
    return NULL;
}

static int take_events(struct evaluate *e) {
    const struct engine_token *events;
    int32_t n;
    TRY(engine_step(e->engine, &events, &n));
    for (int32_t i = 0; i < n; i++) {
        struct answer *a = find(e, events[i].id);
        ASSERT(a && a->n < e->max_new_tokens);
        a->ids[a->n++] = events[i].token;
        if (events[i].finish == ENGINE_RUNNING) continue;
        a->used = false;
        TRY(score(e, a, events[i].finish == ENGINE_LENGTH));
    }
    return 0;
}

/* After a failure or a stop: nothing stays in the engine. */
static void abandon(struct evaluate *e) {
    for (int i = 0; i < EVALUATE_SEQS; i++) {
        if (e->answers[i].used) engine_abort(e->engine, e->answers[i].id);
        e->answers[i].used = false;
    }
}

/* --- results ------------------------------------------------------------------------------- */

/* Standard error of a mean of n numbers by their sum and the sum of their squares about it. */
static double standard_error(double squares, int64_t n) {
    return n > 1 ? sqrt(squares / ((double)(n - 1) * (double)n)) : (double)NAN;
}

static void means(const struct set *s, struct evaluate_set *out) {
    uint64_t rows = dataset_rows(s->data);
    double accuracy = 0, reward = 0, n = 0;
    for (uint64_t i = 0; i < rows; i++) {
        const struct tally *t = &s->tally[i];
        if (t->scored == 0) continue;
        n++;
        accuracy += t->score / t->scored;
        reward += t->reward / t->scored;
    }
    out->prompts = (int64_t)n;
    out->accuracy = n > 0 ? accuracy / n : 0;
    out->reward = n > 0 ? reward / n : 0;
    accuracy = reward = 0;
    for (uint64_t i = 0; i < rows; i++) {
        const struct tally *t = &s->tally[i];
        if (t->scored == 0) continue;
        double a = t->score / t->scored - out->accuracy, b = t->reward / t->scored - out->reward;
        accuracy += a * a;
        reward += b * b;
    }
    out->accuracy_se = standard_error(accuracy, out->prompts);
    out->reward_se = standard_error(reward, out->prompts);
}

/* A prompt with fewer than k scored answers says nothing about pass@k. */
static double pass_at(const struct set *s, int64_t k) {
    double sum = 0, n = 0;
    for (uint64_t i = 0; i < dataset_rows(s->data); i++) {
        const struct tally *t = &s->tally[i];
        if (t->scored < k) continue;
        n++;
        sum += passk(t->scored, t->right, k);
    }
    return n > 0 ? sum / n : (double)NAN;
}

static void report_set(const struct set *s, struct evaluate_report *out) {
    struct evaluate_set *r = &out->set[out->n_sets++];
    *r = (struct evaluate_set){.name = s->recipe->name,
                               .n = s->n,
                               .tokens = s->tokens,
                               .truncated = s->truncated,
                               .errors = s->errors,
                               .k = &s->recipe->k};
    means(s, r);
    for (int64_t i = 0; i < r->k->n; i++)
        r->pass[i] = pass_at(s, r->k->at[i]);
    out->n += r->n;
    out->tokens += r->tokens;
    out->truncated += r->truncated;
    out->errors += r->errors;
    out->prompts += r->prompts;
    out->accuracy += r->accuracy * (double)r->prompts;
    out->reward += r->reward * (double)r->prompts;
}

static int report(const struct evaluate *e, struct evaluate_report *out) {
    for (int64_t i = 0; i < e->n_sets; i++) {
        report_set(&e->set[i], out);
        if (out->set[i].prompts == 0)
            return FAIL(ERR_CORRUPT,
                        "data.eval %s: no answer could be scored: all %" PRId64
                        " verifier calls failed",
                        out->set[i].name, out->set[i].n);
    }
    out->accuracy /= (double)out->prompts;
    out->reward /= (double)out->prompts;
    return 0;
}

int evaluate_run(struct evaluate *e, const struct params *weights, int64_t version,
                 evaluate_stop_fn *should_stop, void *ctx, struct evaluate_report *out) {
    struct evaluate_report r = {.version = version};
    uint64_t start = clock_us();
    int rc;
    reset(e);
    TRY_OUT(engine_swap(e->engine, weights, version));
    while (e->at < e->n_sets || !engine_idle(e->engine)) {
        for (int i = 0; i < EVALUATE_SEQS && e->at < e->n_sets; i++)
            if (!e->answers[i].used) TRY_OUT(ask(e, &e->answers[i]));
        TRY_OUT(take_events(e));
        if (should_stop && should_stop(ctx)) {
            rc = FAIL(ERR_CLOSED, "evaluation was stopped");
            goto out;
        }
    }
    TRY_OUT(report(e, &r));
    r.seconds = (double)(clock_us() - start) * 1e-6;
    *out = r;
out:
    abandon(e);
    return rc;
}

/* --- as text ------------------------------------------------------------------------------- */

/* Of one set, but for its accuracy. */
static void write_set(struct metrics *m, const struct evaluate_set *s) {
    m->label = s->name;
    metrics_num(m, METRIC_EVAL_SET_ACCURACY_SE, s->accuracy_se);
    metrics_num(m, METRIC_EVAL_SET_REWARD, s->reward);
    metrics_num(m, METRIC_EVAL_SET_REWARD_SE, s->reward_se);
    metrics_int(m, METRIC_EVAL_SET_PROMPTS, s->prompts);
    metrics_int(m, METRIC_EVAL_SET_N, s->n);
    metrics_int(m, METRIC_EVAL_SET_TOKENS, s->tokens);
    metrics_int(m, METRIC_EVAL_SET_TRUNCATED, s->truncated);
    metrics_int(m, METRIC_EVAL_SET_ERRORS, s->errors);
}

static void write_pass(struct metrics *m, const struct evaluate_set *s) {
    m->label = s->name;
    for (int64_t i = 0; i < s->k->n; i++) {
        m->k = s->k->at[i];
        metrics_num(m, METRIC_EVAL_SET_PASS, s->pass[i]);
    }
}

static void write_all(struct metrics *m, const struct evaluate_report *r) {
    metrics_int(m, METRIC_EVAL_VERSION, r->version);
    metrics_num(m, METRIC_EVAL_ACCURACY, r->accuracy);
    metrics_num(m, METRIC_EVAL_REWARD, r->reward);
    metrics_int(m, METRIC_EVAL_PROMPTS, r->prompts);
    metrics_int(m, METRIC_EVAL_N, r->n);
    metrics_int(m, METRIC_EVAL_TOKENS, r->tokens);
    metrics_int(m, METRIC_EVAL_TRUNCATED, r->truncated);
    metrics_int(m, METRIC_EVAL_ERRORS, r->errors);
}

void evaluate_json(const struct evaluate_report *r, struct buf *out) {
    struct json_write w = json_write_to(out, JSON_LINE);
    struct metrics m = {.json = &w, .leaf = true};
    json_write_object(&w, NULL);
    write_all(&m, r);
    if (r->n_sets == 1) {
        metrics_num(&m, METRIC_EVAL_SET_REWARD_SE, r->set[0].reward_se);
        write_pass(&m, &r->set[0]);
    }
    json_write_num(&w, "seconds", r->seconds);
    json_write_object(&w, "sets");
    for (int64_t i = 0; i < r->n_sets; i++) {
        json_write_object(&w, r->set[i].name);
        metrics_num(&m, METRIC_EVAL_ACCURACY, r->set[i].accuracy);
        write_set(&m, &r->set[i]);
        write_pass(&m, &r->set[i]);
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_end(&w);
}

void evaluate_metrics(const struct evaluate_report *r, struct metrics *m) {
    write_all(m, r);
    metrics_num(m, METRIC_TIME_EVAL, r->seconds);
    for (int64_t i = 0; i < r->n_sets; i++) {
        m->label = r->set[i].name;
        metrics_num(m, METRIC_EVAL_SET, r->set[i].accuracy);
        write_set(m, &r->set[i]);
        write_pass(m, &r->set[i]);
    }
}
