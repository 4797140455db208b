/* sft_rows.c - see sft_rows.h. A byte a row is all that is kept; tokens are made again when a row
 * is trained on. */
#include "deploy/cli/sft_rows.h"

#include "base/mem.h"
#include "base/rng.h"
#include "rollout/setup/setup_policy.h"

#include <inttypes.h>
#include <string.h>

enum kind { USED, HELD, LONG_PROMPT, LONG_ANSWER, LONG_ROW, LONG_CONTEXT, KINDS };

struct sft_rows {
    struct sft_rows_config cfg;
    struct dataset *data;
    uint8_t *kind; /* of each row */
    uint64_t count[KINDS], next, first_left;
    size_t first_tokens; /* of the first row left out */
};

/* The tokens to be learned: the answer and the end. *ids: mem_free. */
static int target_of(const struct sft_rows *s, uint64_t row, int32_t **ids, size_t *n) {
    size_t cap;
    TRY(dataset_target(s->data, row, s->cfg.policy->tokenizer, ids, n));
    if (s->cfg.end < 0) return 0;
    cap = *n;
    mem_grow(ids, &cap, *n + 1, sizeof **ids);
    (*ids)[(*n)++] = s->cfg.end;
    return 0;
}

struct tokens { /* of a row; mem_free */
    int32_t *prompt, *target;
    size_t n_prompt, n_target;
};

static void tokens_free(struct tokens *t) {
    mem_free(t->prompt);
    mem_free(t->target);
}

static int row_tokens(const struct sft_rows *s, uint64_t row, struct tokens *t) {
    const struct policy *p = s->cfg.policy;
    TRY(dataset_render(s->data, row, p->chat, p->tokenizer, NULL, &t->prompt, &t->n_prompt));
    TRY(target_of(s, row, &t->target, &t->n_target));
    if (t->n_prompt > 0 && t->n_target > 0) return 0;
    return FAIL(ERR_CORRUPT, "%s row %" PRIu64 ": the %s has no tokens", s->cfg.data->path, row,
                t->n_prompt ? "answer" : "prompt");
}

static enum kind judge_row(const struct sft_rows *s, const struct tokens *t) {
    const struct recipe *r = s->cfg.recipe;
    size_t all = t->n_prompt + t->n_target;
    if (all > (size_t)s->cfg.policy->shape.context) return LONG_CONTEXT;
    if (r->sft.max_tokens > 0) return all > (size_t)r->sft.max_tokens ? LONG_ROW : USED;
    if (t->n_prompt > (size_t)r->rollout.max_prompt_tokens) return LONG_PROMPT;
    return t->n_target > (size_t)r->rollout.max_new_tokens ? LONG_ANSWER : USED;
}

static int measure_row(struct sft_rows *s) {
    uint64_t rows = dataset_rows(s->data);
    s->first_left = rows;
    s->kind = mem_alloc((size_t)rows);
    for (uint64_t row = 0; row < rows; row++) {
        struct tokens t = {0};
        int rc = row_tokens(s, row, &t);
        enum kind k = rc == 0 ? judge_row(s, &t) : USED;
        s->kind[row] = (uint8_t)k;
        s->count[k]++;
        if (k != USED && s->first_left == rows) {
            s->first_left = row;
            s->first_tokens = t.n_prompt + t.n_target;
        }
        tokens_free(&t);
        TRY(rc);
    }
    return 0;
}

/* Whatever the order of training, whichever part of the file: a random sample by the seed. */
static int hold_out(struct sft_rows *s) {
    uint64_t rows = dataset_rows(s->data), want = (uint64_t)s->cfg.held_out;
    if (want >= s->count[USED])
        return FAIL(ERR_CONFIG,
                    "sft.held_out: %" PRIu64 " rows, but only %" PRIu64
                    " rows of %s fit; at least one must be left to train on",
                    want, s->count[USED], s->cfg.section);
    if (want == 0) return 0;
    uint64_t key = rng_key(s->cfg.recipe->seed, RNG_CHOOSE);
    uint32_t *order = mem_array((size_t)rows, sizeof *order);
    rng_permutation(key, 0, order, (uint32_t)rows);
    for (uint64_t i = 0; s->count[HELD] < want; i++) {
        if (s->kind[order[i]] != USED) continue;
        s->kind[order[i]] = HELD;
        s->count[HELD]++;
        s->count[USED]--;
    }
    mem_free(order);
    return 0;
}

/* A section without a usable row is refused with the limit that left them out and how long the
 * first is: the number that the user has to set. */
static int open_parts(struct sft_rows *s) {
    const struct recipe *r = s->cfg.recipe;
    TRY(setup_dataset(&s->data, s->cfg.data, s->cfg.section, r->seed));
    if (dataset_rows(s->data) > UINT32_MAX)
        return FAIL(ERR_CONFIG, "%s: more than %u rows", s->cfg.section, UINT32_MAX);
    TRY(measure_row(s));
    if (s->count[USED] > 0) return hold_out(s);
    if (r->sft.max_tokens > 0)
        return FAIL(ERR_CONFIG,
                    "%s: no row fits into sft.max_tokens %" PRId64
                    "; the first has %zu tokens, the model's context is %d",
                    s->cfg.data->path, r->sft.max_tokens, s->first_tokens,
                    s->cfg.policy->shape.context);
    return FAIL(ERR_CONFIG,
                "%s: no row fits into rollout.max_prompt_tokens %" PRId64
                " and rollout.max_new_tokens %" PRId64
                " (sft.max_tokens sets a limit of its own); the first has %zu tokens",
                s->cfg.data->path, r->rollout.max_prompt_tokens, r->rollout.max_new_tokens,
                s->first_tokens);
}

int sft_rows_open(struct sft_rows **out, const struct sft_rows_config *cfg) {
    struct sft_rows *s = mem_zalloc(sizeof *s);
    s->cfg = *cfg;
    int rc = open_parts(s);
    if (rc < 0)
        sft_rows_close(&s);
    else
        *out = s;
    return rc;
}

void sft_rows_close(struct sft_rows **s) {
    if (!*s) return;
    dataset_close(&(*s)->data);
    mem_free((*s)->kind);
    mem_free(*s);
    *s = NULL;
}

uint64_t sft_rows_used(const struct sft_rows *s) {
    return s->count[USED];
}

uint64_t sft_rows_held(const struct sft_rows *s) {
    return s->count[HELD];
}

/* Every row is accounted for: used, held out, or left out by a limit that is named. */
void sft_rows_text(const struct sft_rows *s, struct buf *out) {
    const struct recipe *r = s->cfg.recipe;
    uint64_t rows = dataset_rows(s->data), left = rows - s->count[USED] - s->count[HELD];
    const char *comma = ": ";
    buf_printf(out, "%" PRIu64 " of %" PRIu64 " rows of %s used", s->count[USED], rows,
               s->cfg.section);
    if (s->count[HELD]) buf_printf(out, ", %" PRIu64 " held out", s->count[HELD]);
    if (left == 0) return;
    buf_printf(out, "; %" PRIu64 " left out", left);
    const struct {
        enum kind kind;
        const char *what;
        int64_t limit;
    } reasons[] = {
        {LONG_CONTEXT, "longer than the model's context of", s->cfg.policy->shape.context},
        {LONG_ROW, "longer than sft.max_tokens", r->sft.max_tokens},
        {LONG_PROMPT, "with a prompt above rollout.max_prompt_tokens",
         r->rollout.max_prompt_tokens},
        {LONG_ANSWER, "with an answer above rollout.max_new_tokens", r->rollout.max_new_tokens}};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (s->count[reasons[i].kind] == 0) continue;
        buf_printf(out, "%s%" PRIu64 " %s %" PRId64, comma, s->count[reasons[i].kind],
                   reasons[i].what, reasons[i].limit);
        comma = ", ";
    }
    buf_printf(out, "; the first is row %" PRIu64 " with %zu tokens", s->first_left,
               s->first_tokens);
}

int sft_rows_fill(struct sft_rows *s, uint64_t row, struct batch *b, uint32_t i, int64_t version) {
    struct tokens t = {0};
    int rc = row_tokens(s, row, &t);
    if (rc == 0)
        batch_set(b, i, t.prompt, (int32_t)t.n_prompt, t.target, (int32_t)t.n_target, NULL, NULL,
                  NULL, version);
    b->traj[i].id = row;
    b->traj[i].group = i;
    tokens_free(&t);
    return rc;
}

static uint64_t next_row(struct sft_rows *s) {
    const struct recipe *r = s->cfg.recipe;
    uint64_t row;
    do
        row = dataset_row_at(s->data, s->next++, r->seed, s->cfg.data->shuffle);
    while (s->kind[row] != USED);
    return row;
}

int sft_rows_next(struct sft_rows *s, struct batch *b, uint32_t i, int64_t version) {
    return sft_rows_fill(s, next_row(s), b, i, version);
}

void sft_rows_skip(struct sft_rows *s, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        next_row(s);
}

uint64_t sft_rows_find(const struct sft_rows *s, bool held, uint64_t from) {
    for (uint64_t row = from; row < dataset_rows(s->data); row++)
        if (s->kind[row] == (held ? HELD : USED)) return row;
    return UINT64_MAX;
}
