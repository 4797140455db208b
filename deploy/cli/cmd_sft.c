/* cmd_sft.c - `weir sft`: supervised fine-tuning on a data set's answers, with the trainer's own
 * step. The warm start of reinforcement learning: a policy that never produces an answer has
 * nothing that could be reinforced. The prompt is rendered exactly as a rollout renders it, and the
 * target ends with the token that ends a response there.
 *
 * DIR holds, besides the model at the end: sft.yaml (the effective recipe), metrics.jsonl (a line
 * per step and per evaluation, under the names of a run) and checkpoints. A step is a function of
 * weights, rows and recipe, and the rows follow from seed and number; so continued from a
 * checkpoint it gives the weights that it would have given without the interruption. */
#include "actor/policy.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "deploy/cli/args.h"
#include "deploy/cli/sft_rows.h"
#include "deploy/cli/verbs.h"
#include "deploy/preflight/preflight.h"
#include "deploy/progress/pace.h"
#include "deploy/progress/status_line.h"
#include "deploy/supervise/resume.h"
#include "deploy/supervise/rundir.h"
#include "proto/metrics/metrics.h"
#include "proto/recipe/recipe.h"
#include "rollout/setup/setup_policy.h"
#include "trainer/checkpoint/export.h"
#include "trainer/learn/step.h"
#include "trainer/learn/step_metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EVAL_ROWS = 64, SETS_MAX = RECIPE_EVAL_MAX + 1 }; /* rows made at a time */

struct set { /* rows that give an evaluation loss */
    const char *name;
    struct sft_rows *rows; /* of data.train: those held out */
    bool held;
};

struct sft {
    const char *recipe_path, *model, *out, *resume;
    struct args_list sets;
    bool json, overwrite;

    struct recipe *recipe;
    struct policy policy;
    struct sft_rows *rows;
    struct set set[SETS_MAX];
    size_t n_sets;
    struct step *step;
    struct buf effective; /* sft.yaml */
    char *checkpoints, *metrics;
    int fd;               /* of metrics.jsonl, -1 */
    int64_t first, saved; /* step that this session began with; newest checkpoint, -1 */
    int64_t evaluated;    /* newest version evaluated, -1 */
    struct pace pace;
    int64_t tokens;          /* trained on in this session */
    double loss[2], eval[2]; /* first and newest of this session; NAN: none */
    double least;            /* of this session's evaluations, after least_step steps */
    int64_t least_step;
};

/* --- signals: the step is finished and kept ------------------------------------------------- */

static volatile sig_atomic_t stop_signal;

static void on_signal(int signal) {
    stop_signal = signal;
}

/* A second one ends the process at once. */
static void catch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
}

/* --- before the first step ------------------------------------------------------------------ */

static int parse(struct sft *f, int argc, char **argv) {
    struct args_option options[] = {
        {"recipe", ARGS_STR, &f->recipe_path, "R",
         "data.train, data.eval, model, sft, trainer.steps, trainer.batch, optimizer", 0, 0},
        {"set", ARGS_LIST, &f->sets, "KEY=VALUE", "overrides a value of the recipe", 0, 0},
        {"model", ARGS_STR, &f->model, "DIR", "instead of the recipe's model.path", 0, 0},
        {"overwrite", ARGS_FLAG, &f->overwrite, NULL, "write over a model that is in --out", 0, 0},
        {"out", ARGS_STR, &f->out, "DIR", "where the model is written", 0, 0},
        {"resume", ARGS_STR, &f->resume, "DIR",
         "continue what --out DIR began, from its newest checkpoint", 0, 0},
        {"json", ARGS_FLAG, &f->json, NULL, "one JSON object per step and evaluation on stdout", 0,
         0},
    };
    struct args_verb verb = {
        "weir sft --recipe R --out DIR [--model DIR] [--set KEY=VALUE]... [--json]\n"
        "       [--overwrite] |\n"
        "       weir sft --resume DIR [--set trainer.steps=N]... [--json]",
        "Trains on the answers of data.train: the loss is the mean negative log-prob of the\n"
        "answer's tokens and of the token that ends it. One step takes trainer.batch.groups rows\n"
        "in microbatches of at most trainer.batch.tokens tokens. The same loss of the rows of\n"
        "data.eval and of sft.held_out rows is evaluated before the first step, every eval.every\n"
        "steps and after the last. Writes a Hugging Face folder, with metrics.jsonl and, every\n"
        "trainer.checkpoint.every steps, checkpoints.",
        options,
        sizeof options / sizeof options[0],
        0,
        0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc;
    if (f->resume && (f->recipe_path || f->out || f->model || f->overwrite))
        return FAIL(ERR_CONFIG, "--resume DIR goes on where it is, with its recipe and model: only "
                                "--set and --json go with it");
    if (f->resume) {
        f->out = f->resume;
        return 0;
    }
    if (!f->recipe_path) return FAIL(ERR_CONFIG, "--recipe R is missing");
    if (!f->out) return FAIL(ERR_CONFIG, "--out DIR is missing");
    return 0;
}

static int32_t end_of(const struct policy *p) {
    const char *text = chat_end_of_turn(p->chat);
    int32_t end = text ? tokenizer_id(p->tokenizer, text) : -1;
    if (end < 0 && p->shape.n_eos > 0) end = p->shape.eos[0];
    if (end < 0) end = tokenizer_eos(p->tokenizer);
    if (end < 0)
        LOG(WARN, DEPLOY, "the model names no token that ends a response: targets are not ended");
    return end;
}

/* Warnings of what prompts are made of, as a run has them. */
static int say_of_prompts(const struct recipe *r, const struct recipe_data *rows,
                          const char *section, const struct policy *p) {
    struct buf notes = {0};
    int rc = preflight_sft(&notes, r, rows, section, p);
    if (rc == 0 && notes.len) fprintf(stderr, "%s", notes.data);
    buf_close(&notes);
    return rc;
}

/* Says first what is left out, and why. */
static int open_rows(struct sft *f) {
    const struct recipe *r = f->recipe;
    struct buf text = {0};
    int rc = 0;
    struct sft_rows_config cfg = {.recipe = r,
                                  .data = &r->data.train,
                                  .section = "data.train",
                                  .policy = &f->policy,
                                  .end = end_of(&f->policy),
                                  .held_out = r->sft.held_out};
    if (!r->data.train.answer) return FAIL(ERR_CONFIG, "data.train.answer is missing");
    TRY(say_of_prompts(r, &r->data.train, "data.train", &f->policy));
    TRY(sft_rows_open(&f->rows, &cfg));
    sft_rows_text(f->rows, &text);
    if (sft_rows_held(f->rows) > 0) f->set[f->n_sets++] = (struct set){"held_out", f->rows, true};
    for (int64_t i = 0; i < r->data.n_eval; i++) {
        struct set *s = &f->set[f->n_sets];
        *s = (struct set){.name = r->data.eval[i].name};
        cfg.data = &r->data.eval[i].rows;
        cfg.section = s->name;
        cfg.held_out = 0;
        TRY_OUT(sft_rows_open(&s->rows, &cfg));
        f->n_sets++;
        buf_str(&text, "\n           ");
        sft_rows_text(s->rows, &text);
    }
    fprintf(stderr, "rows       %s\n", text.data);
out:
    buf_close(&text);
    return rc;
}

static int load_new(struct sft *f) {
    struct recipe *given = NULL;
    char *file = file_join(f->out, "sft.yaml");
    int rc;
    if (file_exists(file) && !f->overwrite)
        TRY_OUT(FAIL(ERR_CONFIG,
                     "%s holds a model already, or what was done of one (sft.yaml): `weir sft "
                     "--resume %s` goes on, --overwrite begins anew",
                     f->out, f->out));
    TRY_OUT(recipe_load(&given, f->recipe_path, f->sets.at, f->sets.n));
    if (f->model) {
        mem_free(given->model.path);
        given->model.path = mem_strdup(f->model);
    }
    if (!given->model.path) TRY_OUT(FAIL(ERR_CONFIG, "%s: model.path is missing", f->recipe_path));
    TRY_OUT(rundir_resolve(&f->recipe, given));
out:
    recipe_close(&given);
    mem_free(file);
    return rc;
}

static int load_resumed(struct sft *f) {
    struct recipe *was = NULL, *given = NULL;
    struct buf changed = {0};
    char *file = file_join(f->out, "sft.yaml");
    int rc;
    if (!file_exists(file))
        TRY_OUT(FAIL(ERR_NOTFOUND, "%s: there is no sft.yaml, nothing that could go on", f->out));
    TRY_OUT(recipe_load(&was, file, NULL, 0));
    TRY_OUT(recipe_load(&given, file, f->sets.at, f->sets.n));
    TRY_OUT(rundir_resolve(&f->recipe, given));
    /* How many steps are done does not matter: without one, start anew. */
    TRY_OUT(resume_check(was, f->recipe, 1, f->out, &changed));
    if (changed.len > 0) fprintf(stderr, "changed    %s", changed.data);
out:
    recipe_close(&was);
    recipe_close(&given);
    buf_close(&changed);
    mem_free(file);
    return rc;
}

/* The step takes memory for the longest row: prompt and answer are one there. */
static void size_step(struct recipe *r) {
    if (r->sft.max_tokens == 0) return;
    r->rollout.max_prompt_tokens = r->sft.max_tokens;
    r->rollout.max_new_tokens = 1;
}

static int open_all(struct sft *f) {
    TRY(f->resume ? load_resumed(f) : load_new(f));
    TRY(setup_policy(&f->policy, f->recipe, f->recipe->model.path));
    TRY(open_rows(f));
    recipe_print(f->recipe, &f->effective);
    size_step(f->recipe);
    TRY(step_open(&f->step, f->recipe, f->recipe->model.path));
    f->checkpoints = file_join(f->out, "checkpoints");
    f->metrics = file_join(f->out, "metrics.jsonl");
    if (!f->resume) return 0;
    int rc = step_load(f->step, f->checkpoints, -1);
    if (rc == ERR_NOTFOUND) rc = 0; /* interrupted before the first one */
    TRY(rc);
    f->first = step_version(f->step);
    f->saved = f->first > 0 ? f->first : -1;
    sft_rows_skip(f->rows, (uint64_t)(f->first * f->recipe->trainer.batch.groups));
    fprintf(stderr, "resumes after step %" PRId64 " of %" PRId64 "\n", f->first,
            f->recipe->trainer.steps);
    if (f->recipe->trainer.steps < f->first)
        return FAIL(ERR_CONFIG, "trainer.steps: %" PRId64 " asked for, %" PRId64 " are done",
                    f->recipe->trainer.steps, f->first);
    return 0;
}

/* --- metrics -------------------------------------------------------------------------------- */

/* A line stays if it is of a step before the checkpoint, or an evaluation up to it. */
static bool is_kept(struct sft *f, const char *line, size_t n) {
    struct json_doc *doc;
    int64_t step;
    if (json_parse(&doc, line, n, "metrics") < 0) return false;
    const struct json *o = json_root(doc);
    bool kept = json_int(metrics_get(o, METRIC_STEP), &step) && step <= f->first;
    if (json_int(metrics_get(o, METRIC_EVAL_VERSION), &step) && step <= f->first) {
        kept = true;
        f->evaluated = step;
    }
    json_close(&doc);
    return kept;
}

/* What the steps after the checkpoint wrote is written again by them. */
static int open_metrics(struct sft *f) {
    struct buf kept = {0};
    char *text = NULL;
    size_t bytes = 0;
    int rc = file_read(&text, &bytes, f->metrics, (size_t)1 << 32);
    if (rc < 0 && rc != ERR_NOTFOUND) return rc;
    for (size_t at = 0; rc == 0 && f->resume && at < bytes;) {
        const char *line = text + at, *end = memchr(line, '\n', bytes - at);
        if (!end) break;
        size_t n = (size_t)(end - line);
        if (is_kept(f, line, n)) buf_add(&kept, line, n + 1);
        at += n + 1;
    }
    rc = file_write_atomic(f->metrics, kept.data ? kept.data : "", kept.len);
    buf_close(&kept);
    mem_free(text);
    TRY(rc);
    f->fd = open(f->metrics, O_WRONLY | O_APPEND | O_CLOEXEC);
    return f->fd < 0 ? FAIL(ERR_IO, "cannot open %s: %s", f->metrics, strerror(errno)) : 0;
}

/* Ends the object and puts it into metrics.jsonl. */
static int put_line(struct sft *f, struct json_write *w) {
    json_write_end(w);
    json_write_newline(w);
    return file_write_all(f->fd, w->out->data, w->out->len, f->metrics);
}

static int put_step(struct sft *f, const struct step_report *r, double seconds) {
    struct buf line = {0};
    struct json_write w = json_write_to(&line, JSON_LINE);
    struct metrics m = {.json = &w};
    json_write_object(&w, NULL);
    metrics_int(&m, METRIC_STEP, r->step + 1); /* step n makes version n */
    metrics_num(&m, METRIC_ACTOR_LOSS, r->loss);
    metrics_num(&m, METRIC_ACTOR_GRAD_NORM, r->grad_norm);
    metrics_num(&m, METRIC_ACTOR_LR, r->lr);
    metrics_num(&m, METRIC_ACTOR_ENTROPY, r->entropy);
    metrics_int(&m, METRIC_BATCH_SEQUENCES, r->sequences);
    metrics_int(&m, METRIC_BATCH_TOKENS, r->tokens);
    metrics_int(&m, METRIC_BATCH_TRAINED_TOKENS, r->trained_tokens);
    metrics_num(&m, METRIC_PERF_TOKENS_PER_S, seconds > 0 ? (double)r->tokens / seconds : 0);
    metrics_num(&m, METRIC_TIME_STEP, seconds);
    metrics_num(&m, METRIC_TIME_WALL, (double)clock_wall_us() * 1e-6);
    int rc = put_line(f, &w);
    buf_close(&line);
    return rc;
}

/* --- evaluation ----------------------------------------------------------------------------- */

struct sum {
    double loss; /* minus the log-probs */
    int64_t rows, tokens;
};

static int score_batch(struct sft *f, const struct batch *b, uint32_t n, struct sum *sum) {
    float *logprob = NULL;
    size_t cap = 0;
    int rc = 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        size_t tokens = (size_t)b->traj[i].n_response;
        mem_grow(&logprob, &cap, tokens, sizeof *logprob);
        rc = step_score(f->step, b, i, 1, logprob);
        for (size_t k = 0; rc == 0 && k < tokens; k++)
            sum->loss -= (double)logprob[k];
        sum->tokens += (int64_t)tokens;
        sum->rows++;
    }
    mem_free(logprob);
    return rc;
}

static int evaluate_set(struct sft *f, const struct set *s, struct sum *sum) {
    uint64_t row = sft_rows_find(s->rows, s->held, 0);
    int rc = 0;
    while (rc == 0 && row != UINT64_MAX && !stop_signal) {
        struct batch *b = batch_open(EVAL_ROWS);
        uint32_t n = 0;
        b->n_groups = b->n;
        for (; rc == 0 && n < b->n && row != UINT64_MAX; n++) {
            rc = sft_rows_fill(s->rows, row, b, n, step_version(f->step));
            row = sft_rows_find(s->rows, s->held, row + 1);
        }
        if (rc == 0) rc = score_batch(f, b, n, sum);
        batch_close(&b);
    }
    return rc;
}

/* The mean over all tokens of all sets, and what it says of the run so far. */
static void note_loss(struct sft *f, double loss) {
    f->eval[1] = loss;
    if (isnan(f->eval[0])) f->eval[0] = f->least = loss;
    if (loss > f->least) return;
    f->least = loss;
    f->least_step = step_version(f->step);
}

static int put_evaluation(struct sft *f, const struct sum *each) {
    struct buf line = {0};
    struct json_write w = json_write_to(&line, JSON_LINE);
    struct metrics m = {.json = &w};
    json_write_object(&w, NULL);
    metrics_int(&m, METRIC_EVAL_VERSION, step_version(f->step));
    metrics_num(&m, METRIC_EVAL_LOSS, f->eval[1]);
    for (size_t i = 0; i < f->n_sets; i++) {
        m.label = f->set[i].name;
        metrics_int(&m, METRIC_EVAL_SET_ROWS, each[i].rows);
        metrics_int(&m, METRIC_EVAL_SET_TOKENS, each[i].tokens);
        metrics_num(&m, METRIC_EVAL_SET_LOSS, each[i].loss / (double)each[i].tokens);
    }
    int rc = put_line(f, &w);
    if (rc == 0 && f->json) printf("%s", line.data);
    if (rc == 0 && f->json) fflush(stdout);
    buf_close(&line);
    return rc;
}

/* An interrupted one is not reported. */
static int evaluate(struct sft *f) {
    struct sum each[RECIPE_EVAL_MAX] = {0}, all = {0};
    if (f->n_sets == 0) return 0;
    ASSERT(f->n_sets <= RECIPE_EVAL_MAX);
    for (size_t i = 0; i < f->n_sets; i++) {
        TRY(evaluate_set(f, &f->set[i], &each[i]));
        if (stop_signal) return 0;
        all.loss += each[i].loss;
        all.tokens += each[i].tokens;
    }
    note_loss(f, all.loss / (double)all.tokens);
    TRY(put_evaluation(f, each));
    fprintf(stderr, "%ssft evaluation at version %" PRId64 ": loss %.4f over %" PRId64 " tokens\n",
            isatty(STDERR_FILENO) ? "\r\033[K" : "", step_version(f->step), f->eval[1], all.tokens);
    return 0;
}

/* --- training ------------------------------------------------------------------------------- */

static void show(const struct sft *f, const struct step_report *r) {
    int64_t steps = f->recipe->trainer.steps, done = r->step + 1;
    bool live = isatty(STDERR_FILENO) != 0;
    char left[24];
    if (f->json) {
        struct buf line = {0};
        step_metrics_line(&line, r);
        printf("%s", line.data);
        fflush(stdout);
        buf_close(&line);
    }
    if (!live && done % (steps > 20 ? steps / 20 : 1) != 0 && done != steps) return;
    if (f->json && !live) return;
    status_line_time(left, pace_left(&f->pace, steps - done, (double)clock_wall_us() * 1e-6));
    fprintf(stderr, "%ssft step %" PRId64 "/%" PRId64 " loss %.4f %.0f tokens/s ETA %s%s",
            live ? "\r\033[K" : "", done, steps, r->loss, pace_trainer(&f->pace), left,
            live && done < steps ? "" : "\n");
}

static int train_step(struct sft *f, struct step_report *report) {
    const struct recipe *r = f->recipe;
    struct batch *b = batch_open((uint32_t)r->trainer.batch.groups);
    uint64_t start = clock_us();
    int rc = 0;
    b->n_groups = b->n;
    b->step = step_version(f->step);
    for (uint32_t i = 0; i < b->n; i++)
        TRY_OUT(sft_rows_next(f->rows, b, i, b->step));
    TRY_OUT(step_run_sft(f->step, b, report));
    double seconds = (double)(clock_us() - start) * 1e-6;
    struct pace_part part = {seconds, 0, (double)report->tokens, seconds};
    pace_step(&f->pace, (double)clock_wall_us() * 1e-6, &part);
    f->tokens += report->tokens;
    f->loss[1] = report->loss;
    if (isnan(f->loss[0])) f->loss[0] = report->loss;
    TRY_OUT(put_step(f, report, seconds));
    show(f, report);
out:
    batch_close(&b);
    return rc;
}

static int save(struct sft *f) {
    if (f->saved == step_version(f->step) || step_version(f->step) == 0) return 0;
    TRY(step_save(f->step, f->checkpoints, f->recipe->trainer.checkpoint.keep));
    f->saved = step_version(f->step);
    return 0;
}

static bool is_due(const struct sft *f, int64_t version) {
    int64_t every = f->recipe->eval.every;
    return version == 0 || version == f->recipe->trainer.steps ||
           (every > 0 && version % every == 0);
}

/* Ends early, with a checkpoint, after a signal. */
static int train(struct sft *f) {
    const struct recipe *r = f->recipe;
    struct step_report report;
    pace_start(&f->pace, (double)clock_wall_us() * 1e-6);
    if (f->evaluated < f->first && is_due(f, f->first)) TRY(evaluate(f));
    while (step_version(f->step) < r->trainer.steps && !stop_signal) {
        TRY(train_step(f, &report));
        int64_t done = step_version(f->step);
        if (done % r->trainer.checkpoint.every == 0 || done == r->trainer.steps) TRY(save(f));
        if (is_due(f, done)) TRY(evaluate(f));
    }
    return save(f);
}

static void summary(const struct sft *f) {
    int64_t done = step_version(f->step), steps = f->recipe->trainer.steps;
    fprintf(stderr, "%ssft %s after %" PRId64 " of %" PRId64 " steps",
            isatty(STDERR_FILENO) ? "\r\033[K" : "", stop_signal ? "stopped" : "complete", done,
            steps);
    if (done == f->first && !stop_signal)
        fprintf(stderr, ", nothing was left to do; --set trainer.steps=N goes on");
    if (!isnan(f->loss[0])) fprintf(stderr, "; loss %.4f -> %.4f", f->loss[0], f->loss[1]);
    if (!isnan(f->eval[0]))
        fprintf(stderr, "; evaluation loss %.4f -> %.4f", f->eval[0], f->eval[1]);
    if (!isnan(f->eval[0]) && f->least < f->eval[1]) /* more steps than the rows are good for */
        fprintf(stderr, " (least %.4f at step %" PRId64 ")", f->least, f->least_step);
    if (f->tokens > 0) fprintf(stderr, "; %" PRId64 " tokens", f->tokens);
    struct buf how = {0};
    buf_shell(&how, program_invocation_name);
    buf_str(&how, " sft --resume ");
    buf_shell(&how, f->out);
    if (stop_signal)
        fprintf(stderr, "\nto go on: %s\n", how.data);
    else
        fprintf(stderr, "\nwrote %s\n", f->out);
    buf_close(&how);
}

static void close_all(struct sft *f) {
    for (size_t i = 0; i < f->n_sets; i++)
        if (!f->set[i].held) sft_rows_close(&f->set[i].rows);
    sft_rows_close(&f->rows);
    step_close(&f->step);
    policy_close(&f->policy);
    recipe_close(&f->recipe);
    buf_close(&f->effective);
    mem_free(f->checkpoints);
    mem_free(f->metrics);
    if (f->fd >= 0) close(f->fd);
}

static int work(struct sft *f) {
    char *file = file_join(f->out, "sft.yaml");
    int rc;
    TRY_OUT(open_all(f));
    TRY_OUT(export_prepare(f->out, f->overwrite || f->resume));
    if (!f->resume) TRY_OUT(file_remove_tree(f->checkpoints)); /* of what is written over */
    TRY_OUT(file_write_atomic(file, f->effective.data, f->effective.len));
    TRY_OUT(open_metrics(f));
    catch_signals();
    TRY_OUT(train(f));
    if (!stop_signal) {
        TRY_OUT(step_gather_weights(f->step));
        TRY_OUT(export_hf(step_weights(f->step), f->recipe->model.path, f->out, KERN_F32, 0));
    }
    summary(f);
out:
    mem_free(file);
    return rc;
}

int cmd_sft(int argc, char **argv) {
    struct sft f = {.fd = -1, .saved = -1, .evaluated = -1, .loss = {NAN, NAN}, .eval = {NAN, NAN}};
    int rc = parse(&f, argc, argv);
    if (rc != 0) return rc < 0 ? rc : 0;
    rc = work(&f);
    int signal_number = (int)stop_signal;
    close_all(&f);
    if (rc == 0 && signal_number) {
        fflush(NULL);
        signal(signal_number, SIG_DFL);
        raise(signal_number); /* whoever started it sees what ended it */
    }
    return rc;
}
