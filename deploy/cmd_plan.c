/* cmd_plan.c - `weir plan RECIPE`: what a run would take, to the byte, before anything is started.
 */
#include "actor/shape.h"
#include "deploy/announce.h"
#include "deploy/args.h"
#include "deploy/verbs.h"

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
    struct shape shape;
    struct announce_plan plan;
    struct buf text = {0};
    int rc = args_parse(&verb, argc, argv, &recipe, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    TRY(recipe_load(&r, recipe, sets.at, sets.n));
    if (!r->model.path) rc = FAIL(ERR_CONFIG, "%s: model.path is missing", recipe);
    if (rc == 0) rc = shape_read(&shape, r->model.path);
    if (rc == 0) shape.half = r->model.dtype == RECIPE_DTYPE_BF16;
    if (rc == 0) rc = announce_plan(&plan, r, &shape);
    if (rc == 0) {
        if (json)
            announce_json(&text, r, &shape, &plan);
        else
            announce_text(&text, r, &shape, &plan);
        printf("%s\n", text.data);
    }
    buf_close(&text);
    recipe_close(&r);
    return rc;
}
