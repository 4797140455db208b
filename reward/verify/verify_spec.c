/* verify_spec.c - see verify_spec.h. The recipe knows verifiers as settings, verify.h as specs;
 * this is the one place between. */
#include "reward/verify/verify_spec.h"

int verify_spec_open(struct verify **out, const struct recipe *r) {
    struct verify_spec specs[RECIPE_REWARD_MAX];
    for (int64_t i = 0; i < r->n_reward; i++) {
        const struct recipe_reward *w = &r->reward[i];
        specs[i] = (struct verify_spec){.type = w->type,
                                        .name = w->name,
                                        .weight = w->weight,
                                        .pattern = w->pattern,
                                        .after = w->after,
                                        .flexible = w->flexible,
                                        .ignore_case = w->ignore_case,
                                        .whole_word = w->whole_word,
                                        .min_tokens = w->min_tokens,
                                        .max_tokens = w->max_tokens,
                                        .buffer_tokens = w->buffer_tokens,
                                        .penalty = w->penalty};
    }
    if (r->n_reward == 0)
        return FAIL(ERR_CONFIG,
                    "the recipe has no reward; add for example: reward: [{type: math}]");
    return err_wrap(verify_open(out, specs, (size_t)r->n_reward), "reward");
}
