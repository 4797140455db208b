/* setup.c - see setup.h. */
#include "rollout/setup.h"

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Bytes of one page in all layers. */
static size_t page_bytes(const struct shape *s, int64_t page) {
    return (size_t)page * (size_t)s->layers * 2 * (size_t)s->kv_heads * (size_t)s->head_width *
           (s->half ? 2 : sizeof(float));
}

struct engine_config setup_engine(const struct recipe *r, const struct shape *s,
                                  const struct tokenizer *tokenizer, const struct kern_backend *b) {
    int64_t G = recipe_generated(r),
            share = (r->rollout.concurrency + r->rollout.workers - 1) / r->rollout.workers;
    int64_t seqs = (share + G - 1) / G * G; /* whole groups */
    int64_t context = min64(s->context, r->rollout.max_prompt_tokens + r->rollout.max_new_tokens);
    struct engine_config cfg = {.backend = b,
                                .shape = *s,
                                .tokenizer = tokenizer,
                                .seqs_max = (int32_t)seqs,
                                .context = (int32_t)context,
                                .chunk_tokens = (int32_t)r->rollout.chunk_tokens,
                                .page = (int32_t)r->rollout.page,
                                .waiting_max = (int32_t)seqs,
                                .seed = r->seed};
    if (r->rollout.kv_memory) {
        int64_t one = (context + cfg.page - 1) / cfg.page; /* pages of a full sequence */
        cfg.pages = (int64_t)(r->rollout.kv_memory / page_bytes(s, cfg.page));
        if (cfg.pages < one) cfg.pages = one;
        if (cfg.pages > one * seqs) cfg.pages = 0;
    }
    return cfg;
}

size_t setup_kv_bytes(const struct engine_config *cfg) {
    int64_t one = (cfg->context + cfg->page - 1) / cfg->page;
    return (size_t)(cfg->pages ? cfg->pages : one * cfg->seqs_max) *
           page_bytes(&cfg->shape, cfg->page);
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
                                 .seed = seed};
    if (!d->path) return FAIL(ERR_CONFIG, "%s.path is missing", section);
    return dataset_open(out, &cfg);
}
