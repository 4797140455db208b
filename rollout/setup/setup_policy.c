/* setup_policy.c - see setup_policy.h. */
#include "rollout/setup/setup_policy.h"

static int apply_kwargs(enum chat_format *f, const struct recipe *r) {
    if (r->model.thinking == RECIPE_THINKING_AUTO) return 0;
    return err_wrap(chat_set_thinking(f, r->model.thinking == RECIPE_THINKING_TRUE),
                    "model.chat_template_kwargs");
}

int setup_chat(enum chat_format *out, const struct recipe *r, const char *dir) {
    TRY(chat_choose(out, r->model.chat, dir ? dir : r->model.path));
    return apply_kwargs(out, r);
}

int setup_policy(struct policy *out, const struct recipe *r, const char *dir) {
    struct policy p;
    TRY(policy_open(&p, dir ? dir : r->model.path, r->model.chat));
    int rc = apply_kwargs(&p.chat, r);
    if (rc < 0)
        policy_close(&p);
    else
        *out = p;
    return rc;
}

int setup_dataset(struct dataset **out, const struct recipe_data *d, const char *section,
                  uint64_t seed) {
    struct dataset_config cfg = {.path = d->path,
                                 .prompt = d->prompt,
                                 .answer = d->answer,
                                 .system = d->system,
                                 .template_ = d->template_,
                                 .limit = d->limit,
                                 .skip = d->skip,
                                 .seed = seed,
                                 .special = (enum dataset_special)d->special};
    if (!d->path) return FAIL(ERR_CONFIG, "%s.path is missing", section);
    return dataset_open(out, &cfg);
}
