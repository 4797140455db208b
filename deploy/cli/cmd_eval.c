/* cmd_eval.c - `weir eval`: a model folder on a recipe's held-out prompts, as one JSON object.
 * The same code as a run's evaluator, so a number of the run can be had again from its folder. */
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/evaluate/evaluate.h"
#include "deploy/evaluate/model.h"
#include "deploy/preflight/preflight.h"
#include "rollout/setup/setup_policy.h"

#include <stdbool.h>
#include <stdio.h>

/* The recipe's data, reward and sampling, with the weights of `model` instead of the recipe's. */
static int evaluate_model_folder(const char *model, const struct recipe *r) {
    struct model l = {0};
    struct evaluate *e = NULL;
    struct evaluate_report report;
    struct buf notes = {0};
    int rc;
    TRY_OUT(model_open(&l, model, r->model.chat, r->rollout.device, r->rollout.threads,
                       r->model.dtype == RECIPE_DTYPE_BF16));
    TRY_OUT(setup_chat(&l.policy.chat, r, model));
    TRY_OUT(preflight_eval(&notes, r, &l.policy));
    if (notes.len) fprintf(stderr, "%s", notes.data);
    TRY_OUT(evaluate_open(&e, r, &l.policy, l.backend));
    TRY_OUT(evaluate_run(e, l.weights, 0, NULL, NULL, &report));
    struct buf line = {0};
    evaluate_json(&report, &line);
    printf("%s\n", line.data);
    buf_close(&line);
out:
    buf_close(&notes);
    evaluate_close(&e);
    model_close(&l);
    return rc;
}

int cmd_eval(int argc, char **argv) {
    const char *model = NULL, *recipe = NULL;
    bool json = false;
    struct args_list sets = {0};
    struct args_option options[] = {
        {"model", ARGS_STR, &model, "DIR", "Hugging Face folder; default: the recipe's model.path",
         0, 0},
        {"recipe", ARGS_STR, &recipe, "FILE",
         "its data.eval, reward, eval and rollout sections are used", 0, 0},
        {"set", ARGS_LIST, &sets, "KEY=VALUE", "override a setting of the recipe", 0, 0},
        {"json", ARGS_FLAG, &json, NULL, "accepted; the output is JSON in any case", 0, 0},
    };
    struct args_verb verb = {
        "weir eval --model DIR --recipe FILE [--set KEY=VALUE]...",
        "Generates data.eval[].samples answers to every held-out prompt and scores them. Prints "
        "one\n"
        "JSON object: accuracy (mean of the first reward), reward (mean weighted sum), n "
        "(answers),\n"
        "tokens, pass@k for the k of data.eval[].k, and the same for each set by its name.",
        options,
        sizeof options / sizeof options[0],
        0,
        0};
    struct recipe *r;
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (!recipe) return FAIL(ERR_CONFIG, "--recipe FILE is missing");
    TRY(recipe_load(&r, recipe, sets.at, sets.n));
    if (!model && !r->model.path)
        rc = FAIL(ERR_CONFIG, "--model DIR is missing, and %s has no model.path", recipe);
    else
        rc = evaluate_model_folder(model ? model : r->model.path, r);
    recipe_close(&r);
    return rc;
}
