/* setup.c - see setup.h. */
#include "rollout/setup.h"

#include "actor/params.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/recipe/recipe_change.h"

#include <inttypes.h>
#include <string.h>

/* Of a device's memory, this part is for the driver, libraries, recordings and what else is on it.
 */
enum { KEPT_BACK = 16, MIB = 1 << 20 };

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Bytes of one page in all layers. */
static size_t page_bytes(const struct shape *s, int64_t page) {
    return (size_t)page * (size_t)s->layers * 2 * (size_t)s->kv_heads * (size_t)s->head_width *
           (s->bf16 ? 2 : sizeof(float));
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
                                .seed = r->seed,
                                .fast = !r->model.exact};
    if (r->rollout.kv_memory) {
        int64_t one = (context + cfg.page - 1) / cfg.page; /* pages of a full sequence */
        cfg.pages = (int64_t)(r->rollout.kv_memory / page_bytes(s, cfg.page));
        if (cfg.pages < one) cfg.pages = one;
        if (cfg.pages > one * seqs) cfg.pages = 0;
    }
    return cfg;
}

/* The rollouts share what is not kept back and not the trainer's, if it is on the same device: what
 * its limit says, or half. It does not matter what other rollouts have taken already, as long as it
 * is not more than theirs. */
static size_t share_of(const struct recipe *r, size_t left, size_t total) {
    size_t all = total - total / KEPT_BACK, trainer = 0;
    if (strcmp(r->rollout.device, r->trainer.device) == 0)
        trainer = r->trainer.memory ? r->trainer.memory : all / 2;
    all = all > trainer ? (all - trainer) / (size_t)r->rollout.workers : 0;
    return all < left ? all : left;
}

int setup_fit_within(struct engine_config *cfg, const struct recipe *r, size_t left, size_t total) {
    int64_t one = (cfg->context + cfg->page - 1) / cfg->page, most = one * cfg->seqs_max;
    struct engine_config least = *cfg;
    least.pages = one;
    size_t each = page_bytes(&cfg->shape, cfg->page), weights = 2 * params_slab_bytes(&cfg->shape);
    size_t engine = engine_bytes(&least), share = share_of(r, left, total);
    if (engine == 0 || engine == SIZE_MAX) return 0; /* engine_open will say what is wrong */
    engine -= (size_t)one * each;
    int64_t pages = share > weights + engine ? (int64_t)((share - weights - engine) / each) : 0;
    if (pages < one)
        return FAIL(ERR_CONFIG,
                    "rollout: of %s's %zu MiB, %zu MiB left, a rollout's share is %zu MiB; two "
                    "versions of the weights take %zu MiB, activations and logits %zu MiB, keys "
                    "and values of one sequence of %d tokens %zu MiB",
                    r->rollout.device, total / MIB, left / MIB, share / MIB, weights / MIB,
                    engine / MIB, (int)cfg->context, (size_t)one * each / MIB);
    cfg->pages = pages < most ? pages : most;
    LOG(INFO, ROLLOUT,
        "memory device=%s total_mib=%zu left_mib=%zu share_mib=%zu weights_mib=%zu engine_mib=%zu "
        "kv_mib=%zu pages=%" PRId64 " of=%" PRId64,
        r->rollout.device, total / MIB, left / MIB, share / MIB, weights / MIB, engine / MIB,
        (size_t)cfg->pages * each / MIB, cfg->pages, most);
    return 0;
}

int setup_fit(struct engine_config *cfg, const struct recipe *r) {
    size_t left, total;
    if (r->rollout.kv_memory || !kern_has_memory(cfg->backend)) return 0;
    TRY(kern_memory(cfg->backend, &left, &total));
    return setup_fit_within(cfg, r, left, total);
}

struct groups_config setup_groups(const struct recipe *r) {
    return (struct groups_config){.groups = r->trainer.batch.groups,
                                  .size = recipe_generated(r),
                                  .eta = r->trainer.staleness.max,
                                  .concurrency = r->rollout.concurrency,
                                  .steps = r->trainer.steps,
                                  .tokens_max = r->rollout.max_new_tokens,
                                  .drop = r->trainer.staleness.late == RECIPE_LATE_DROP,
                                  .dynamic = r->rollout.sampling.policy == RECIPE_SAMPLING_DAPO};
}

int setup_candidates(const struct recipe *r, uint64_t rows) {
    int64_t k = r->rollout.sampling.candidates, most = (int64_t)rows / r->trainer.batch.groups;
    if (r->rollout.sampling.policy != RECIPE_SAMPLING_VADE || k <= most) return 0;
    return FAIL(ERR_CONFIG,
                "rollout.sampling.candidates is %" PRId64 ", at most %" PRId64
                " are possible: %s has %" PRIu64 " rows and each of the %" PRId64
                " groups of a batch needs its own",
                k, most, r->data.train.path, rows, r->trainer.batch.groups);
}

size_t setup_kv_bytes(const struct engine_config *cfg) {
    int64_t one = (cfg->context + cfg->page - 1) / cfg->page;
    return (size_t)(cfg->pages ? cfg->pages : one * cfg->seqs_max) *
           page_bytes(&cfg->shape, cfg->page);
}

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

int setup_log(struct runlog_meta *out, const char *run_dir, const struct recipe *r) {
    char *path = file_join(run_dir, "recipe.yaml"), *text = NULL;
    size_t bytes = 0;
    int rc = file_read(&text, &bytes, path, SIZE_MAX);
    if (rc == 0)
        *out = (struct runlog_meta){
            .seed = r->seed, .text = hash_bytes(text, bytes), .format = RUNLOG_FORMAT};
    mem_free(text);
    mem_free(path);
    return rc < 0 ? rc : recipe_identity(&out->recipe, r);
}
