/* score.c - the two ways to run a policy, side by side on the same responses.
 *
 * The rollout way goes through the engine exactly as generation does, only that each token is given
 * instead of drawn. The trainer way packs whole sequences into one forward, each with pages of its
 * own, as a training step does. Memory is sized by the longest response that was asked for, not by
 * the model's context. */
#include "deploy/evaluate/score.h"

#include "actor/actor.h"
#include "base/mem.h"
#include "rollout/engine/engine.h"

static int32_t length_of(const struct score_item *it) {
    return it->n_prompt + it->n_response;
}

static int32_t longest_item(const struct score_item *items, int64_t n) {
    int32_t longest = 2;
    for (int64_t i = 0; i < n; i++)
        if (length_of(&items[i]) > longest) longest = length_of(&items[i]);
    return longest;
}

static int32_t pages_of_tokens(int32_t tokens, int32_t page) {
    return (tokens + page - 1) / page;
}

/* --- rollout -------------------------------------------------------------------------------- */

static int add_pack_items(struct engine *e, const struct score_config *cfg,
                          const struct score_item *items, int64_t n, int64_t *added) {
    for (; *added < n; ++*added) {
        const struct score_item *it = &items[*added];
        if (it->n_response == 0) continue;
        struct engine_request r = {
            .id = (uint64_t)*added,
            .prompt = it->ids,
            .n_prompt = it->n_prompt,
            .forced = it->ids + it->n_prompt,
            .max_new_tokens = it->n_response,
            .temperature = cfg->temperature,
            .top_p = 1,
        };
        int rc = engine_add(e, &r);
        if (rc == ERR_AGAIN) return 0;
        if (rc < 0) return rc;
    }
    return 0;
}

/* The response goes in as forced tokens, so the path that samples computes the log-probs. */
int score_rollout(const struct score_config *cfg, struct score_item *items, int64_t n) {
    const struct engine_token *events;
    int32_t n_events;
    int64_t added = 0;
    int rc;
    struct engine *e = NULL;
    struct engine_config engine = {
        .backend = cfg->backend,
        .shape = *params_shape(cfg->weights),
        .seqs_max = cfg->batch,
        .context = longest_item(items, n),
        .chunk_tokens = cfg->chunk,
        .page = cfg->page,
        .pages = cfg->pages,
        .waiting_max = cfg->batch,
    };
    TRY_OUT(engine_open(&e, &engine));
    TRY_OUT(engine_swap(e, cfg->weights, 0));
    do {
        TRY_OUT(add_pack_items(e, cfg, items, n, &added));
        TRY_OUT(engine_step(e, &events, &n_events));
        for (int32_t i = 0; i < n_events; i++)
            items[events[i].id].logprobs[events[i].position] = events[i].logprob;
    } while (added < n || !engine_idle(e));
out:
    engine_close(&e);
    return rc;
}

/* --- trainer -------------------------------------------------------------------------------- */

struct pack { /* whole sequences in one forward */
    const struct score_config *cfg;
    struct actor *actor;
    int32_t rows_max, pages_max; /* pages_max: of one sequence */
    int32_t *ids, *pos, *slot, *q_start, *kv_len, *pages, *rows, *targets;
    float *logprobs;
    int32_t n_rows, n_seqs, n_pages, n_targets;
};

/* A pack has room for at least the longest item; shorter ones fill it up to the chunk. */
static int pack_open(struct pack *p, const struct score_config *cfg, int32_t longest) {
    int32_t rows = cfg->chunk > longest ? cfg->chunk : longest;
    size_t n = (size_t)rows, seqs = (size_t)cfg->batch;
    *p = (struct pack){
        .cfg = cfg, .rows_max = rows, .pages_max = pages_of_tokens(longest, cfg->page)};
    p->ids = mem_array(n, sizeof *p->ids);
    p->pos = mem_array(n, sizeof *p->pos);
    p->slot = mem_array(n, sizeof *p->slot);
    p->rows = mem_array(n, sizeof *p->rows);
    p->targets = mem_array(n, sizeof *p->targets);
    p->logprobs = mem_array(n, sizeof *p->logprobs);
    p->q_start = mem_array(seqs + 1, sizeof *p->q_start);
    p->kv_len = mem_array(seqs, sizeof *p->kv_len);
    p->pages = mem_array(seqs, (size_t)p->pages_max * sizeof *p->pages);
    struct actor_config actor = {
        .backend = cfg->backend,
        .shape = *params_shape(cfg->weights),
        .rows_max = rows,
        .seqs_max = cfg->batch,
        .context = longest,
        .pages = rows / cfg->page + cfg->batch,
        .page = cfg->page,
        .pack = true,
    };
    TRY(actor_open(&p->actor, &actor));
    return actor_use(p->actor, cfg->weights);
}

static void pack_close(struct pack *p) {
    actor_close(&p->actor);
    mem_free(p->ids);
    mem_free(p->pos);
    mem_free(p->slot);
    mem_free(p->rows);
    mem_free(p->targets);
    mem_free(p->logprobs);
    mem_free(p->q_start);
    mem_free(p->kv_len);
    mem_free(p->pages);
}

static void pack_add(struct pack *p, const struct score_item *it) {
    int32_t n = length_of(it) - 1, page = p->cfg->page; /* the last token is only a target */
    int32_t *table = p->pages + (size_t)p->n_seqs * (size_t)p->pages_max;
    p->q_start[p->n_seqs] = p->n_rows;
    p->kv_len[p->n_seqs++] = n;
    for (int32_t i = 0; i < pages_of_tokens(n, page); i++)
        table[i] = p->n_pages + i;
    for (int32_t i = 0; i < n; i++) {
        p->ids[p->n_rows + i] = it->ids[i];
        p->pos[p->n_rows + i] = i;
        p->slot[p->n_rows + i] = p->n_pages * page + i;
    }
    for (int32_t i = 0; i < it->n_response; i++) {
        p->rows[p->n_targets] = p->n_rows + it->n_prompt - 1 + i;
        p->targets[p->n_targets++] = it->ids[it->n_prompt + i];
    }
    p->n_rows += n;
    p->n_pages += pages_of_tokens(n, page);
    p->q_start[p->n_seqs] = p->n_rows;
}

/* Runs what is packed and hands the log-probs to items, in the order they were added. */
static int pack_run(struct pack *p, struct score_item *items, int64_t n) {
    if (p->n_seqs == 0) return 0;
    struct actor_batch batch = {.n_rows = p->n_rows,
                                .n_seqs = p->n_seqs,
                                .pages_max = p->pages_max,
                                .ids = p->ids,
                                .pos = p->pos,
                                .slot = p->slot,
                                .q_start = p->q_start,
                                .kv_len = p->kv_len,
                                .pages = p->pages};
    float inv_temp = 1.0F / p->cfg->temperature;
    int32_t at = 0;
    TRY(actor_forward(p->actor, &batch));
    TRY(actor_logprobs(p->actor, p->rows, p->targets, p->n_targets, inv_temp, p->logprobs, NULL));
    for (int64_t i = 0; i < n; i++)
        for (int32_t k = 0; k < items[i].n_response; k++)
            items[i].logprobs[k] = p->logprobs[at++];
    ASSERT(at == p->n_targets);
    p->n_rows = p->n_seqs = p->n_pages = p->n_targets = 0;
    return 0;
}

int score_trainer(const struct score_config *cfg, struct score_item *items, int64_t n) {
    struct pack p;
    int64_t first = 0;
    int rc;
    TRY_OUT(pack_open(&p, cfg, longest_item(items, n)));
    for (int64_t i = 0; i < n; i++) {
        if (items[i].n_response == 0) continue;
        if (p.n_rows + length_of(&items[i]) - 1 > p.rows_max || p.n_seqs == cfg->batch) {
            TRY_OUT(pack_run(&p, items + first, i - first));
            first = i;
        }
        pack_add(&p, &items[i]);
    }
    TRY_OUT(pack_run(&p, items + first, n - first));
out:
    pack_close(&p);
    return rc;
}
