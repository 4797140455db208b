/* cmd_plan.c - `weir plan RECIPE`: what a run would take, to the byte, before anything is started;
 * what the run would refuse is refused here. */
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/preflight/preflight.h"
#include "deploy/preflight/start_report.h"

#include <stdbool.h>
#include <stdio.h>

int cmd_plan(int argc, char **argv) {
    struct args_list sets = {0};
    bool json = false;
    const char *recipe = NULL;
    struct args_option options[] = {
        {"set", ARGS_LIST, &sets, "KEY=VALUE", "override a setting of the recipe", 0, 0},
        {"json", ARGS_FLAG, &json, NULL, "one JSON object; sizes in bytes", 0, 0},
    };
    struct args_verb verb = {
        "weir plan RECIPE [--set KEY=VALUE]... [--json]",
        "Prints the batch arithmetic and the memory every service will allocate.",
        options,
        2,
        1,
        1};
    struct recipe *r;
    struct preflight checked = {0};
    struct buf text = {0};
    int rc = args_parse(&verb, argc, argv, &recipe, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    TRY(recipe_load(&r, recipe, sets.at, sets.n));
    TRY_OUT(err_wrap(preflight(&checked, r, false), "%s", recipe));
    if (json)
        start_report_json(&text, r, &checked.shape, &checked.plan, &checked.notes);
    else
        start_report_text(&text, r, &checked.shape, &checked.plan, &checked.notes);
    printf("%s\n", text.data);
out:
    buf_close(&text);
    preflight_close(&checked);
    recipe_close(&r);
    return rc;
}
