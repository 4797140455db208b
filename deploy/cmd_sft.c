/* cmd_sft.c - `weir sft`: supervised fine-tuning on a data set's answers, with the trainer's own
 * step. The warm start of reinforcement learning: a policy that never produces an answer has
 * nothing that could be reinforced. The prompt is rendered exactly as a rollout renders it, and the
 * target ends with the token that ends a response there. */
#include "actor/policy.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "deploy/args.h"
#include "deploy/verbs.h"
#include "proto/recipe.h"
#include "rollout/setup.h"
#include "trainer/export.h"
#include "trainer/report.h"
#include "trainer/step.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct sft {
    const char *recipe_path, *model, *out;
    struct args_list sets;
    bool json, overwrite;

    struct recipe *recipe;
    struct policy policy;
    struct dataset *data;
    struct step *step;
    int32_t end;        /* token that ends a response; -1: none */
    uint64_t next;      /* rows taken */
    int64_t left_out;   /* rows too long */
    int64_t tokens;     /* trained on so far */
    uint64_t opened_us; /* when the first step began */
};

static int parse(struct sft *f, int argc, char **argv) {
    struct args_option options[] = {
        {"recipe", ARGS_STR, &f->recipe_path, "R",
         "data.train, model, trainer.steps, trainer.batch, optimizer", 0, 0},
        {"set", ARGS_LIST, &f->sets, "KEY=VALUE", "overrides a value of the recipe", 0, 0},
        {"model", ARGS_STR, &f->model, "DIR", "instead of the recipe's model.path", 0, 0},
        {"overwrite", ARGS_FLAG, &f->overwrite, NULL, "write over a model that is in --out", 0, 0},
        {"out", ARGS_STR, &f->out, "DIR", "where the model is written", 0, 0},
        {"json", ARGS_FLAG, &f->json, NULL, "one JSON object per step on stdout", 0, 0},
    };
    struct args_verb verb = {
        "weir sft --recipe R --out DIR [--model DIR] [--set KEY=VALUE]... [--json]\n"
        "       [--overwrite]",
        "Trains on the answers of data.train: the loss is the mean negative log-prob of the\n"
        "answer's tokens and of the token that ends it. One step takes trainer.batch.groups rows\n"
        "in microbatches of at most trainer.batch.tokens tokens. Writes a Hugging Face folder.",
        options,
        sizeof options / sizeof options[0],
        0,
        0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc;
    if (!f->recipe_path) return FAIL(ERR_CONFIG, "--recipe R is missing");
    if (!f->out) return FAIL(ERR_CONFIG, "--out DIR is missing");
    return 0;
}

static int open_data(struct sft *f) {
    const struct recipe *r = f->recipe;
    const struct recipe_data *d = &r->data.train;
    if (!d->answer) return FAIL(ERR_CONFIG, "%s: data.train.answer is missing", f->recipe_path);
    return err_wrap(setup_dataset(&f->data, d, "data.train", r->seed), "%s", f->recipe_path);
}

static void choose_end(struct sft *f) {
    const char *end = chat_end_of_turn(f->policy.chat);
    f->end = end ? tokenizer_id(f->policy.tokenizer, end) : -1;
    if (f->end < 0 && f->policy.shape.n_eos > 0) f->end = f->policy.shape.eos[0];
    if (f->end < 0) f->end = tokenizer_eos(f->policy.tokenizer);
    if (f->end < 0)
        LOG(WARN, DEPLOY, "the model names no token that ends a response: targets are not ended");
}

static int open_all(struct sft *f) {
    TRY(recipe_load(&f->recipe, f->recipe_path, f->sets.at, f->sets.n));
    if (!f->model) f->model = f->recipe->model.path;
    if (!f->model) return FAIL(ERR_CONFIG, "%s: model.path is missing", f->recipe_path);
    TRY(setup_policy(&f->policy, f->recipe, f->model));
    choose_end(f);
    TRY(open_data(f));
    return step_open(&f->step, f->recipe, f->model);
}

/* The tokens to be learned: the answer and the end. *ids: mem_free. */
static int target_of(const struct sft *f, uint64_t row, int32_t **ids, size_t *n) {
    size_t cap;
    TRY(dataset_target(f->data, row, f->policy.tokenizer, ids, n));
    if (f->end < 0) return 0;
    cap = *n;
    mem_grow(ids, &cap, *n + 1, sizeof **ids);
    (*ids)[(*n)++] = f->end;
    return 0;
}

/* Fills trajectory i from the row; *fits false if it is longer than the recipe's limits. */
static int set_row(struct sft *f, struct batch *b, uint32_t i, uint64_t row, bool *fits) {
    int32_t *prompt = NULL, *target = NULL;
    size_t n_prompt = 0, n_target = 0;
    const struct recipe *r = f->recipe;
    int rc;
    TRY_OUT(dataset_render(f->data, row, f->policy.chat, f->policy.tokenizer, NULL, &prompt,
                           &n_prompt));
    TRY_OUT(target_of(f, row, &target, &n_target));
    if (n_prompt == 0 || n_target == 0) {
        rc = FAIL(ERR_CORRUPT, "%s row %" PRIu64 ": the %s has no tokens", r->data.train.path, row,
                  n_prompt ? "answer" : "prompt");
        goto out;
    }
    *fits = n_prompt <= (size_t)r->rollout.max_prompt_tokens &&
            n_target <= (size_t)r->rollout.max_new_tokens &&
            n_prompt + n_target <= (size_t)f->policy.shape.context;
    if (*fits)
        batch_set(b, i, prompt, (int32_t)n_prompt, target, (int32_t)n_target, NULL, NULL, NULL,
                  step_version(f->step));
    b->traj[i].id = row;
    b->traj[i].group = i;
out:
    mem_free(prompt);
    mem_free(target);
    return rc;
}

/* The next trainer.batch.groups rows that fit. */
static int fill_batch(struct sft *f, struct batch *b) {
    const struct recipe *r = f->recipe;
    uint64_t tried = 0;
    b->n_groups = b->n;
    b->step = step_version(f->step);
    for (uint32_t i = 0; i < b->n;) {
        bool fits = false;
        uint64_t row = dataset_row_at(f->data, f->next++, r->seed, r->data.train.shuffle);
        TRY(set_row(f, b, i, row, &fits));
        if (fits) {
            i++;
            tried = 0;
            continue;
        }
        f->left_out++;
        if (++tried >= dataset_rows(f->data))
            return FAIL(ERR_CONFIG,
                        "%s: no row fits into rollout.max_prompt_tokens %" PRId64
                        " and rollout.max_new_tokens %" PRId64,
                        r->data.train.path, r->rollout.max_prompt_tokens,
                        r->rollout.max_new_tokens);
    }
    return 0;
}

static void show(const struct sft *f, const struct step_report *r) {
    int64_t steps = f->recipe->trainer.steps, done = r->step + 1;
    double seconds = (double)(clock_us() - f->opened_us) * 1e-6;
    bool live = isatty(STDERR_FILENO) != 0;
    if (f->json) {
        struct buf line = {0};
        struct step_report shown = *r;
        shown.step = done; /* as it is counted on the terminal */
        report_json(&line, &shown);
        printf("%s\n", line.data);
        fflush(stdout);
        buf_close(&line);
    }
    if (!live && done % (steps > 20 ? steps / 20 : 1) != 0 && done != steps) return;
    if (f->json && !live) return;
    fprintf(stderr, "%ssft step %" PRId64 "/%" PRId64 " loss %.4f %.0f tokens/s eta %.0f s%s",
            live ? "\r\033[K" : "", done, steps, r->loss, (double)f->tokens / seconds,
            seconds / (double)done * (double)(steps - done), live && done < steps ? "" : "\n");
}

static int train(struct sft *f) {
    struct batch *b = NULL;
    struct step_report report;
    int rc = 0;
    f->opened_us = clock_us();
    for (int64_t s = 0; s < f->recipe->trainer.steps; s++) {
        b = batch_open((uint32_t)f->recipe->trainer.batch.groups);
        TRY_OUT(fill_batch(f, b));
        TRY_OUT(step_run_sft(f->step, b, &report));
        f->tokens += report.tokens;
        show(f, &report);
        batch_close(&b);
    }
    if (f->left_out > 0)
        LOG(WARN, DEPLOY,
            "rows left out because they exceed max_prompt_tokens or max_new_tokens: %" PRId64
            " of %" PRIu64 " drawn",
            f->left_out, f->next);
out:
    batch_close(&b);
    return rc;
}

int cmd_sft(int argc, char **argv) {
    struct sft f = {0};
    int rc = parse(&f, argc, argv);
    if (rc != 0) return rc < 0 ? rc : 0;
    TRY_OUT(open_all(&f));
    TRY_OUT(export_prepare(f.out, f.overwrite));
    TRY_OUT(train(&f));
    TRY_OUT(step_gather(f.step));
    TRY_OUT(export_hf(step_weights(f.step), f.model, f.out, KERN_F32, 0));
out:
    if (rc < 0 && f.out) rmdir(f.out); /* only an empty folder goes: one made here for nothing */
    step_close(&f.step);
    dataset_close(&f.data);
    policy_close(&f.policy);
    recipe_close(&f.recipe);
    return rc;
}
