/* engine.c - generation: plan -> forward -> sample -> commit, once per engine_step.
 *
 * The engine decides nothing itself: scheduler.c says which rows run and where their keys go,
 * actor.c runs the same forward as training, sampler.c turns logits into tokens, seq.c says when a
 * response ends. What is left here is the translation of a plan into one batch of rows, and the
 * order of commits: keys of all sequences are published before any sequence may end and give its
 * pages back.
 *
 * A backend that records gets the rows that decode apart, as one recorded operation, and the rest
 * of the step behind it on the same stream: the host prepares the one while the device does the
 * other, and waits once. That order is always right: what a sequence reads of others was published
 * after an earlier step, so no row reads a key that another sequence's row writes in the same step,
 * and copies of pages come first. The bits are those of one forward of all rows (I6), which is what
 * host backends do.
 *
 * Everything is allocated when the engine is opened; a request brings its own bounded memory. */
#include "rollout/engine/engine.h"

#include "actor/actor.h"
#include "base/mem.h"
#include "rollout/engine/decode.h"
#include "rollout/engine/sampler.h"
#include "rollout/engine/scheduler.h"
#include "rollout/engine/seq.h"

#include <inttypes.h>

enum { SEQS_LIMIT = 1 << 16, CHUNK_LIMIT = 1 << 20, PAGE_LIMIT = 1 << 12 };
enum { HEAD_ROWS = 64, HEAD_ROWS_DEVICE = 256 /* logits at a time */ };

struct engine {
    struct engine_config cfg; /* pages filled in */
    int32_t pages_max;        /* of one sequence */
    struct actor *actor;
    struct sampler *sampler;
    struct decode *decode; /* NULL: all rows in one forward */
    struct scheduler *plan;
    bool has_weights;
    const void *weights; /* their memory */
    int64_t version;

    /* The batch of one step. */
    int32_t *ids, *pos, *slot; /* [rows_max] */
    int32_t *q_start, *kv_len; /* [seqs_max + 1] */
    int32_t *page_table;       /* [seqs_max * pages_max] */
    int32_t *part;             /* [seqs_max] items of the step that are in the batch */
    int32_t *last_row;         /* [seqs_max] of an item, in the batch */

    /* What draws a token, rows of `decode` first, and what came of it. */
    int32_t *logit_rows; /* [seqs_max] of a call */
    struct seq **drawing;
    struct sampler_row *draws;
    struct sampler_token *drawn;
    struct engine_token *events;

    int64_t prefill_tokens, decode_tokens, steps;
};

/* --- opening -------------------------------------------------------------------------------- */

static int check_range(const char *name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return 0;
    return FAIL(ERR_CONFIG, "engine: %s is %" PRId64 ", allowed are %" PRId64 " to %" PRId64, name,
                value, min, max);
}

static int32_t pages_of_one(const struct engine_config *cfg) {
    return (cfg->context + cfg->page - 1) / cfg->page;
}

/* Checks cfg and fills in the number of pages. */
static int resolve_config(struct engine_config *cfg) {
    if (!cfg->backend) return FAIL(ERR_CONFIG, "engine: no backend");
    TRY(check_range("seqs_max", cfg->seqs_max, 1, SEQS_LIMIT));
    TRY(check_range("context", cfg->context, 2, cfg->shape.context));
    TRY(check_range("chunk_tokens", cfg->chunk_tokens, 1, CHUNK_LIMIT));
    TRY(check_range("page", cfg->page, 1, PAGE_LIMIT));
    TRY(check_range("waiting_max", cfg->waiting_max, 1, INT32_MAX));
    int64_t one = pages_of_one(cfg);
    if (cfg->pages == 0) cfg->pages = one * cfg->seqs_max;
    if (cfg->pages < one)
        return FAIL(ERR_CONFIG,
                    "engine: %" PRId64 " pages of %d keys cannot hold one sequence of %d tokens "
                    "(%" PRId64 " pages)",
                    cfg->pages, (int)cfg->page, (int)cfg->context, one);
    return check_range("pages", cfg->pages, one, INT32_MAX / 2 / cfg->page);
}

static bool is_recorded(const struct engine_config *cfg) {
    return kern_records(cfg->backend) && !cfg->plain;
}

static struct actor_config actor_of(const struct engine_config *cfg) {
    bool recorded = is_recorded(cfg);
    int32_t head_rows = recorded ? HEAD_ROWS_DEVICE : HEAD_ROWS;
    int32_t spare = recorded ? decode_spare_pages(cfg->seqs_max, cfg->page) : 0;
    return (struct actor_config){
        .backend = cfg->backend,
        .shape = cfg->shape,
        .rows_max = cfg->seqs_max + cfg->chunk_tokens,
        .seqs_max = cfg->seqs_max,
        .context = cfg->context,
        .pages = (int32_t)cfg->pages + spare,
        .page = cfg->page,
        .head_rows = cfg->seqs_max < head_rows ? cfg->seqs_max : head_rows,
        .pack = true,
        .spare = cfg->spare,
        .inexact = cfg->inexact,
    };
}

static struct scheduler_config plan_of(const struct engine_config *cfg) {
    return (struct scheduler_config){
        .seqs_max = cfg->seqs_max,
        .waiting_max = cfg->waiting_max,
        .chunk_tokens = cfg->chunk_tokens,
        .page = cfg->page,
        .pages = (int32_t)cfg->pages,
    };
}

static struct seq_limits limits_of(const struct engine_config *cfg) {
    return (struct seq_limits){
        .context = cfg->context,
        .vocab = cfg->shape.vocab,
        .page = cfg->page,
        .tokenizer = cfg->tokenizer,
    };
}

static size_t batch_bytes(const struct engine_config *cfg) {
    size_t rows = (size_t)cfg->seqs_max + (size_t)cfg->chunk_tokens, seqs = (size_t)cfg->seqs_max;
    size_t per_seq = 5 * sizeof(int32_t) + sizeof(struct seq *) + sizeof(struct sampler_row) +
                     sizeof(struct sampler_token) + sizeof(struct engine_token) +
                     (size_t)pages_of_one(cfg) * sizeof(int32_t);
    return rows * 3 * sizeof(int32_t) + seqs * per_seq + sizeof(struct engine);
}

size_t engine_bytes(const struct engine_config *cfg) {
    struct engine_config c = *cfg;
    if (resolve_config(&c) < 0) return 0;
    struct actor_config a = actor_of(&c);
    struct scheduler_config p = plan_of(&c);
    struct seq_limits l = limits_of(&c);
    size_t actor = actor_bytes(&a);
    size_t requests = ((size_t)c.seqs_max + (size_t)c.waiting_max) * seq_bytes(&l);
    if (actor == SIZE_MAX) return SIZE_MAX;
    size_t decode = is_recorded(&c) ? decode_bytes(&a) : 0;
    return actor + 2 * (sampler_bytes(c.seqs_max) + decode) + scheduler_bytes(&p) +
           batch_bytes(&c) + requests;
}

static void open_batch(struct engine *e) {
    size_t seqs = (size_t)e->cfg.seqs_max, rows = seqs + (size_t)e->cfg.chunk_tokens;
    e->pages_max = pages_of_one(&e->cfg);
    e->ids = mem_array(rows, sizeof *e->ids);
    e->pos = mem_array(rows, sizeof *e->pos);
    e->slot = mem_array(rows, sizeof *e->slot);
    e->q_start = mem_array(seqs + 1, sizeof *e->q_start);
    e->kv_len = mem_array(seqs + 1, sizeof *e->kv_len);
    e->page_table = mem_array(seqs, (size_t)e->pages_max * sizeof *e->page_table);
    e->part = mem_array(seqs, sizeof *e->part);
    e->last_row = mem_array(seqs, sizeof *e->last_row);
    e->logit_rows = mem_array(seqs, sizeof *e->logit_rows);
    e->drawing = mem_array(seqs, sizeof(struct seq *));
    e->draws = mem_array(seqs, sizeof *e->draws);
    e->drawn = mem_array(seqs, sizeof *e->drawn);
    e->events = mem_array(seqs, sizeof *e->events);
}

int engine_open(struct engine **out, const struct engine_config *cfg) {
    int rc = 0;
    struct engine *e = mem_zalloc(sizeof *e);
    e->cfg = *cfg;
    TRY_OUT(resolve_config(&e->cfg));
    struct actor_config actor = actor_of(&e->cfg);
    struct scheduler_config plan = plan_of(&e->cfg);
    TRY_OUT(actor_open(&e->actor, &actor));
    TRY_OUT(sampler_open(&e->sampler, cfg->backend, cfg->seqs_max, cfg->seed));
    struct decode_config decode = {.actor = e->actor,
                                   .sampler = e->sampler,
                                   .seqs_max = cfg->seqs_max,
                                   .pages = (int32_t)e->cfg.pages,
                                   .keys = cfg->graph_keys};
    if (is_recorded(cfg)) TRY_OUT(decode_open(&e->decode, &decode));
    e->plan = scheduler_open(&plan);
    open_batch(e);
    *out = e;
    e = NULL;
out:
    engine_close(&e);
    return rc;
}

void engine_close(struct engine **pe) {
    struct engine *e = *pe;
    if (!e) return;
    scheduler_close(&e->plan);
    decode_close(&e->decode);
    sampler_close(&e->sampler);
    actor_close(&e->actor);
    mem_free(e->ids);
    mem_free(e->pos);
    mem_free(e->slot);
    mem_free(e->q_start);
    mem_free(e->kv_len);
    mem_free(e->page_table);
    mem_free(e->part);
    mem_free(e->last_row);
    mem_free(e->logit_rows);
    mem_free(e->drawing);
    mem_free(e->draws);
    mem_free(e->drawn);
    mem_free(e->events);
    mem_free(e);
    *pe = NULL;
}

/* --- requests and weights ------------------------------------------------------------------- */

int engine_swap(struct engine *e, const struct params *weights, int64_t version) {
    if (version < 0) return FAIL(ERR_CONFIG, "engine: version is %" PRId64, version);
    e->has_weights = false;
    TRY(actor_use(e->actor, weights));
    e->has_weights = true;
    e->weights = params_slab(weights).data;
    e->version = version;
    scheduler_use(e->plan, version);
    return 0;
}

int engine_prepare(struct engine *e, const struct params *next, bool first, size_t bytes,
                   bool *done) {
    return actor_prepare(e->actor, next, first, bytes, done);
}

int engine_add(struct engine *e, const struct engine_request *r) {
    int rc = 0;
    struct seq_limits limits = limits_of(&e->cfg);
    struct seq *s = NULL;
    TRY_OUT(seq_open(&s, r, &limits));
    TRY_OUT(scheduler_add_take(e->plan, s));
    s = NULL;
out:
    seq_close(&s);
    return rc;
}

void engine_abort(struct engine *e, uint64_t id) {
    scheduler_remove(e->plan, id);
}

bool engine_idle(const struct engine *e) {
    struct scheduler_counts c;
    scheduler_counts(e->plan, &c);
    return c.running + c.waiting == 0;
}

void engine_stats(const struct engine *e, struct engine_stats *out) {
    struct scheduler_counts c;
    struct decode_counts d = {0};
    scheduler_counts(e->plan, &c);
    if (e->decode) decode_counts(e->decode, &d);
    const struct pages *pages = scheduler_pages(e->plan);
    *out = (struct engine_stats){
        .running = c.running,
        .waiting = c.waiting,
        .pages_used = pages_total(pages) - pages_available(pages),
        .pages_total = pages_total(pages),
        .preemptions = c.preemptions,
        .prefill_tokens = e->prefill_tokens,
        .decode_tokens = e->decode_tokens,
        .cached_tokens = c.cached_tokens,
        .steps = e->steps,
        .graph_steps = d.replays,
        .graph_records = d.records,
        .waits = actor_waits(e->actor),
    };
}

/* --- a step --------------------------------------------------------------------------------- */

/* Makes the next token of sequence s the n-th that the sampler draws in this step, from `row` of
 * the logits. */
static void set_draw(struct engine *e, int32_t n, struct seq *s, int32_t row) {
    int32_t position = s->n - s->n_prompt;
    e->drawing[n] = s;
    e->draws[n] = (struct sampler_row){
        .id = s->id,
        .position = position,
        .temperature = s->temperature,
        .top_p = s->top_p,
        .top_k = s->top_k,
        .forced = s->forced ? s->forced[position] : SAMPLER_SAMPLED,
        .row = row,
    };
}

/* True if the item decodes: it has one row, and its sequence is past the prompt. The members of a
 * group wait for the logits of their prompt's last row; nobody but its own sequence waits for a
 * row behind the prompt, so such a row may be computed apart. */
static bool decodes(const struct scheduler_item *it) {
    return it->samples && it->rows == 1 && it->s->n > it->s->n_prompt;
}

/* Sets the draws of the items that are decoded apart and lists the others. Returns the number of
 * the first; *n_part: of the second. */
static int32_t divide(struct engine *e, const struct scheduler_step *st, int32_t *n_part) {
    int32_t n = 0, others = 0;
    for (int32_t i = 0; i < st->n_items; i++)
        if (e->decode && decodes(&st->items[i]))
            set_draw(e, n++, st->items[i].s, 0);
        else
            e->part[others++] = i;
    *n_part = others;
    return n;
}

static int32_t widest(const struct engine *e, const struct scheduler_step *st, int32_t n_part) {
    int32_t pages_max = 1;
    for (int32_t i = 0; i < n_part; i++) {
        const struct seq *s = st->items[e->part[i]].s;
        if (s->n_pages > pages_max) pages_max = s->n_pages;
    }
    return pages_max;
}

/* Rows, positions, slots and page tables of the listed items. */
static struct actor_batch build_batch(struct engine *e, const struct scheduler_step *st,
                                      int32_t n_part) {
    int32_t page = e->cfg.page, width = widest(e, st, n_part), row = 0;
    for (int32_t i = 0; i < n_part; i++) {
        const struct scheduler_item *it = &st->items[e->part[i]];
        const struct seq *s = it->s;
        int32_t *table = e->page_table + (size_t)i * (size_t)width;
        e->q_start[i] = row;
        e->kv_len[i] = it->first + it->rows;
        for (int32_t k = it->first; k < it->first + it->rows; k++, row++) {
            e->ids[row] = s->tokens[k];
            e->pos[row] = k;
            e->slot[row] = s->pages[k / page] * page + k % page;
        }
        e->last_row[e->part[i]] = row - 1;
        for (int32_t k = 0; k < width; k++)
            table[k] = k < s->n_pages ? s->pages[k] : 0;
    }
    e->q_start[n_part] = row;
    return (struct actor_batch){.n_rows = row,
                                .n_seqs = n_part,
                                .pages_max = width,
                                .ids = e->ids,
                                .pos = e->pos,
                                .slot = e->slot,
                                .q_start = e->q_start,
                                .kv_len = e->kv_len,
                                .pages = e->page_table};
}

/* Which rows of the batch draw a token, as draws n and on. Returns the number of all draws, at most
 * one for each running sequence. */
static int32_t collect_draws(struct engine *e, const struct scheduler_step *st, int32_t n_part,
                             const struct scheduler_joins *joins, int32_t n) {
    for (int32_t i = 0; i < n_part; i++) {
        const struct scheduler_item *it = &st->items[e->part[i]];
        if (it->samples) set_draw(e, n++, it->s, e->last_row[e->part[i]]);
    }
    for (int32_t i = 0; i < joins->n_joins; i++)
        set_draw(e, n++, joins->joins[i].s, e->last_row[joins->joins[i].item]);
    ASSERT(n <= e->cfg.seqs_max);
    return n;
}

/* Draws n tokens from the rows of the batch, without waiting. */
static int issue_draws(struct engine *e, const struct sampler_row *draws, int32_t n) {
    const struct sampler_slab *slab = sampler_own(e->sampler);
    struct kern_stream *s = actor_stream(e->actor);
    int32_t head_rows = actor_config(e->actor)->head_rows;
    bool forced;
    if (n == 0) return 0;
    sampler_fill(e->sampler, slab, draws, n, &forced);
    for (int32_t i = 0; i < n; i++)
        e->logit_rows[i] = draws[i].row;
    TRY(sampler_put(e->sampler, s, slab));
    for (int32_t at = 0; at < n; at += head_rows) {
        int32_t rows = n - at < head_rows ? n - at : head_rows;
        struct kern_tensor logits;
        TRY(actor_logits_at(e->actor, e->logit_rows + at, sampler_rows_at(slab, at), rows,
                            &logits));
        TRY(sampler_issue(e->sampler, s, slab, &logits, at, rows, forced));
    }
    return sampler_get(e->sampler, s, slab);
}

/* Appends the drawn tokens and ends what is complete. */
static int push_tokens(struct engine *e, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        struct seq *s = e->drawing[i];
        const struct sampler_token *t = &e->drawn[i];
        enum engine_finish finish;
        TRY(seq_push(s, t->token, &finish));
        e->events[i] = (struct engine_token){
            .id = s->id,
            .token = t->token,
            .position = e->draws[i].position,
            .logprob = t->logprob,
            .kept = t->kept,
            .version = e->version,
            .finish = finish,
        };
        if (finish != ENGINE_RUNNING) ASSERT(scheduler_remove(e->plan, s->id));
    }
    return 0;
}

static void count_rows(struct engine *e, const struct scheduler_step *st) {
    for (int32_t i = 0; i < st->n_items; i++) {
        const struct scheduler_item *it = &st->items[i];
        *(decodes(it) ? &e->decode_tokens : &e->prefill_tokens) += it->rows;
    }
    e->steps++;
}

static int copy_pages(struct engine *e, const struct scheduler_copy *copies, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        TRY(actor_copy_page(e->actor, copies[i].dst, copies[i].src, copies[i].keys));
    return 0;
}

/* Issues all of a step; *n_decode of the draws are of `decode`. */
static int issue_step(struct engine *e, const struct scheduler_step *st, int32_t *n_decode,
                      int32_t *n_draws) {
    struct scheduler_joins joins;
    int32_t n_part, n = divide(e, st, &n_part);
    TRY(copy_pages(e, st->copies, st->n_copies));
    if (n > 0) TRY(decode_issue(e->decode, e->drawing, e->draws, n, e->weights));
    struct actor_batch batch = build_batch(e, st, n_part);
    if (n_part > 0) TRY(actor_forward(e->actor, &batch));
    count_rows(e, st);
    scheduler_done(e->plan, st, &joins);
    TRY(copy_pages(e, joins.copies, joins.n_copies));
    *n_decode = n;
    *n_draws = collect_draws(e, st, n_part, &joins, n);
    return issue_draws(e, e->draws + n, *n_draws - n);
}

/* Whatever was issued is waited for, or memory that is used again would still be read. */
static int run_step(struct engine *e, const struct scheduler_step *st, int32_t *n_draws) {
    int32_t n;
    int rc = issue_step(e, st, &n, n_draws);
    if (rc < 0) {
        err_ignore(actor_wait(e->actor), "what failed first is what counts");
        return rc;
    }
    TRY(actor_wait(e->actor));
    if (n > 0) TRY(decode_read(e->decode, e->draws, n, e->drawn));
    return sampler_read(sampler_own(e->sampler), e->draws + n, *n_draws - n, e->drawn + n);
}

int engine_step(struct engine *e, const struct engine_token **events, int32_t *n) {
    struct scheduler_step st;
    int32_t n_draws = 0;
    if (!e->has_weights) return FAIL(ERR_CONFIG, "engine: no weights");
    scheduler_next(e->plan, &st);
    int rc = st.n_items > 0 ? run_step(e, &st, &n_draws) : 0;
    if (rc < 0) {
        scheduler_restart(e->plan); /* what the pool holds is not known; the tokens are */
        return rc;
    }

    TRY(push_tokens(e, n_draws));
    *events = e->events;
    *n = n_draws;
    return 0;
}
