/* cmd_step.c - `weir step`: optimizer steps on given trajectories, one per file. What the trainer
 * service does, without the services: for comparing Weir's update with another system's on the same
 * batch, and for looking at a step that went wrong. */
#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "proto/recipe/recipe.h"
#include "proto/recipe/traps.h"
#include "trainer/checkpoint/export.h"
#include "trainer/learn/step.h"
#include "trainer/learn/step_metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

struct cmd_step_args {
    const char *model, *recipe, *out;
    struct args_list batches, sets;
    int64_t version; /* -1: from the batches */
    bool json, overwrite;
};

static int parse(struct cmd_step_args *a, int argc, char **argv) {
    struct args_option options[] = {
        {"model", ARGS_STR, &a->model, "DIR", "Hugging Face folder with the weights before", 0, 0},
        {"batch", ARGS_LIST, &a->batches, "F.jsonl",
         "trajectories of one step; may be given several times", 0, 0},
        {"recipe", ARGS_STR, &a->recipe, "R", "algorithm, optimizer and limits", 0, 0},
        {"set", ARGS_LIST, &a->sets, "KEY=VALUE", "overrides a value of the recipe", 0, 0},
        {"overwrite", ARGS_FLAG, &a->overwrite, NULL, "write over a model that is in --out", 0, 0},
        {"out", ARGS_STR, &a->out, "DIR", "where the updated model is written", 0, 0},
        {"version", ARGS_INT, &a->version, "N",
         "version of the given weights; a newer token is an error then (default: the newest "
         "version in the first file, and a later file with newer tokens raises it)",
         0, 9e15},
        {"json", ARGS_FLAG, &a->json, NULL, "accepted; the output is JSON in any case", 0, 0},
    };
    struct args_verb verb = {
        "weir step --model DIR --batch F.jsonl [--batch F2.jsonl]... --recipe R --out DIR\n"
        "       [--overwrite]",
        "One optimizer step per batch file; prints one JSON object per step and writes the model\n"
        "as a Hugging Face folder. A line of a batch file is one trajectory:\n"
        "{\"group\": \"g0\", \"prompt_ids\": [..], \"response_ids\": [..], \"logprobs\": [..],\n"
        " \"reward\": 1.0, \"version\": 3}, and optionally \"loss_mask\", \"versions\" by token,\n"
        "\"truncated\" (cut at the length limit), \"baseline\" (score of the greedy response).",
        options,
        sizeof options / sizeof options[0],
        0,
        0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc;
    if (!a->model) return FAIL(ERR_CONFIG, "--model DIR is missing");
    if (!a->recipe) return FAIL(ERR_CONFIG, "--recipe R is missing");
    if (!a->out) return FAIL(ERR_CONFIG, "--out DIR is missing");
    if (a->batches.n == 0) return FAIL(ERR_CONFIG, "--batch F.jsonl is missing");
    return 0;
}

/* On stderr: stdout is JSON. */
static void warn(const struct recipe *r) {
    struct buf text = {0};
    traps_warn(&text, r, TRAPS_STEP);
    if (text.len) fprintf(stderr, "%s", text.data);
    buf_close(&text);
}

static int run_file(struct step *s, const char *path, bool version_given) {
    struct batch *b = NULL;
    struct step_report report;
    struct buf line = {0};
    const struct shape *shape = params_shape(step_weights(s));
    int rc;
    TRY_OUT(batch_read(&b, path, shape->vocab, shape->context));
    if (!version_given && b->step > step_version(s)) step_set_version(s, b->step);
    TRY_OUT(err_wrap(step_run(s, b, &report), "%s", path));
    step_metrics_line(&line, &report);
    printf("%s", line.data);
    if (fflush(stdout) != 0) rc = FAIL(ERR_IO, "cannot write to stdout");
out:
    buf_close(&line);
    batch_close(&b);
    return rc;
}

int cmd_step(int argc, char **argv) {
    struct cmd_step_args a = {.version = -1};
    struct recipe *r = NULL;
    struct step *s = NULL;
    int rc = parse(&a, argc, argv);
    if (rc != 0) return rc < 0 ? rc : 0;
    TRY_OUT(recipe_load(&r, a.recipe, a.sets.at, a.sets.n));
    r->model.weights = RECIPE_WEIGHTS_LOAD; /* --model has them */
    warn(r);
    TRY_OUT(export_prepare(a.out, a.overwrite));
    TRY_OUT(step_open(&s, r, a.model));
    if (a.version >= 0) step_set_version(s, a.version);
    for (size_t i = 0; i < a.batches.n; i++)
        TRY_OUT(run_file(s, a.batches.at[i], a.version >= 0));
    TRY_OUT(step_gather_weights(s));
    TRY_OUT(export_hf(step_weights(s), a.model, a.out, KERN_F32, 0));
out:
    if (rc < 0 && a.out) rmdir(a.out); /* only an empty folder goes: one made here for nothing */
    step_close(&s);
    recipe_close(&r);
    return rc;
}
