/* setup_engine.c - see setup_engine.h. */
#include "rollout/setup/setup_engine.h"

#include "actor/params.h"
#include "base/log.h"

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
                                .inexact = !r->model.exact};
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

size_t setup_kv_bytes(const struct engine_config *cfg) {
    int64_t one = (cfg->context + cfg->page - 1) / cfg->page;
    return (size_t)(cfg->pages ? cfg->pages : one * cfg->seqs_max) *
           page_bytes(&cfg->shape, cfg->page);
}
