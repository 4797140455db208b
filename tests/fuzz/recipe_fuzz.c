/* recipe_fuzz.c - any bytes as a recipe; each 0xFF ends the text before it and starts one more
 * "key=value" of --set. What is accepted must be usable without further checks of its pointers,
 * and its effective form, printed, must read back to the same. */
#include "base/mem.h"
#include "proto/recipe/recipe.h"

#include <string.h>

enum { SETS_MAX = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_pointers(const struct recipe *r) {
    ASSERT(r->rollout.n_stop >= 0 && r->rollout.n_stop <= RECIPE_STOP_MAX);
    for (int64_t i = 0; i < r->rollout.n_stop; i++)
        ASSERT(r->rollout.stop[i]);
    ASSERT(r->n_reward >= 0 && r->n_reward <= RECIPE_REWARD_MAX);
    for (int64_t i = 0; i < r->n_reward; i++)
        ASSERT(r->reward[i].type);
    ASSERT(r->name && r->model.chat && r->rollout.device && r->trainer.device);
    ASSERT(r->data.train.prompt && r->data.train.answer && r->data.train.template_);
    ASSERT(r->data.n_eval >= 0 && r->data.n_eval <= RECIPE_EVAL_MAX);
    for (int64_t i = 0; i < r->data.n_eval; i++) {
        const struct recipe_eval *e = &r->data.eval[i];
        ASSERT(e->name && e->rows.path && e->rows.prompt && e->rows.answer && e->rows.template_);
        for (int64_t k = 0; k < e->k.n; k++)
            ASSERT(e->k.at[k] >= 1 && e->k.at[k] <= e->samples);
    }
}

static void check_printed(const struct recipe *r) {
    struct buf first = {0}, second = {0};
    struct recipe *again = NULL;
    recipe_print(r, &first);
    int rc = recipe_parse(&again, first.data, first.len, "printed", NULL, 0);
    ASSERT(rc == 0);
    recipe_print(again, &second);
    ASSERT(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
    recipe_close(&again);
    buf_close(&first);
    buf_close(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char *sets[SETS_MAX];
    size_t n_sets = 0;
    const uint8_t *cut = n ? memchr(data, 0xFF, n) : NULL;
    size_t first = cut ? (size_t)(cut - data) : n, at = first;
    while (at < n && n_sets < SETS_MAX) {
        const uint8_t *start = data + at + 1, *end = memchr(start, 0xFF, n - at - 1);
        size_t len = end ? (size_t)(end - start) : n - at - 1;
        sets[n_sets++] = mem_strndup((const char *)start, len);
        at += 1 + len;
    }
    struct recipe *r = NULL;
    if (recipe_parse(&r, n ? (const char *)data : "", first, "fuzz", (const char *const *)sets,
                     n_sets) == 0) {
        check_pointers(r);
        check_printed(r);
    } else {
        ASSERT(err_text()[0] != '\0' && !r);
    }
    recipe_close(&r);
    while (n_sets > 0)
        mem_free(sets[--n_sets]);
    return 0;
}
