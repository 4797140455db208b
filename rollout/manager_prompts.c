/* manager_prompts.c - what belongs to groups and trajectories of the pool beside their state:
 * prompts, tokens streamed so far, records. Kept by place in the pool, so that memory is bounded by
 * the pool; a place that got a new owner is recognised by the id in it.
 *
 * Which row a group gets is a function of its id, the seed and the data alone: nothing about the
 * data set's cursor has to be stored. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "rollout/manager_impl.h"

#include <inttypes.h>
#include <string.h>

enum { FAILED_BATCHES = 4, FAILED_MIN = 32 };

static int render(struct manager *m, struct manager_prompt *p) {
    const struct recipe *r = m->recipe;
    TRY(dataset_render(m->data, p->row, m->chat, m->tokenizer, &p->text, &p->ids, &p->n));
    if (p->n >= 1 && p->n <= (size_t)r->rollout.max_prompt_tokens) return 0;
    return FAIL(ERR_CONFIG,
                "%s row %" PRIu64
                " is a prompt of %zu tokens, rollout.max_prompt_tokens is %" PRId64,
                r->data.train.path, p->row, p->n, r->rollout.max_prompt_tokens);
}

/* Reads rows only until one is good, so that a large data set costs nothing when it is usable. */
int manager_prompts_check(struct manager *m) {
    const struct recipe *r = m->recipe;
    uint64_t rows = dataset_rows(m->data);
    size_t shortest = SIZE_MAX;
    if (rows < (uint64_t)r->trainer.batch.groups)
        return FAIL(ERR_CONFIG,
                    "%s has %" PRIu64 " rows, trainer.batch.groups is %" PRId64
                    ": a batch takes a row once, so it needs at least as many rows as groups",
                    r->data.train.path, rows, r->trainer.batch.groups);
    for (uint64_t i = 0; i < rows; i++) {
        char *text = NULL;
        int32_t *ids = NULL;
        size_t n = 0;
        int rc = dataset_render(m->data, i, m->chat, m->tokenizer, &text, &ids, &n);
        mem_free(text);
        mem_free(ids);
        if (rc == 0 && n >= 1 && n <= (size_t)r->rollout.max_prompt_tokens) return 0;
        if (rc < 0 && rc != ERR_CONFIG && rc != ERR_CORRUPT) return rc;
        if (rc == 0 && n >= 1 && n < shortest) shortest = n;
    }
    if (shortest == SIZE_MAX)
        return FAIL(ERR_CONFIG, "none of the %" PRIu64 " rows of %s gives a prompt: %s", rows,
                    r->data.train.path, err_text());
    return FAIL(ERR_CONFIG,
                "none of the %" PRIu64 " rows of %s gives a prompt of 1 to %" PRId64
                " tokens (rollout.max_prompt_tokens); the shortest has %zu",
                rows, r->data.train.path, r->rollout.max_prompt_tokens, shortest);
}

int manager_prompts_get(struct manager *m, uint64_t group, const struct manager_prompt **out) {
    uint64_t size = (uint64_t)m->recipe->rollout.group_size;
    int64_t place = groups_index(m->groups, group * size) / (int64_t)size;
    ASSERT(groups_group(m->groups, group));
    struct manager_prompt *p = &m->prompt[place];
    if (!p->used || p->group != group) {
        uint64_t rows = dataset_rows(m->data);
        mem_free(p->text);
        mem_free(p->ids);
        *p = (struct manager_prompt){.group = group, .epoch = group / rows};
        p->row = dataset_row_at(m->data, group, m->recipe->seed, m->recipe->data.train.shuffle);
        TRY(render(m, p));
        p->used = true;
    }
    *out = p;
    return 0;
}

struct manager_tokens *manager_prompts_tokens(struct manager *m, uint64_t trajectory) {
    int64_t i = groups_index(m->groups, trajectory);
    ASSERT(i >= 0);
    struct manager_tokens *t = &m->tokens[i];
    if (t->id != trajectory || t->started_us == 0) {
        manager_prompts_release(t);
        t->id = trajectory;
        t->started_us = clock_wall_us();
    }
    return t;
}

void manager_prompts_add(struct manager_tokens *t, int32_t n, const int32_t *response,
                         const float *logprob, const int64_t *version) {
    size_t at = (size_t)t->n, k = (size_t)n;
    mem_grow(&t->response, &t->cap[0], at + k, sizeof *response);
    mem_grow(&t->logprob, &t->cap[1], at + k, sizeof *logprob);
    mem_grow(&t->version, &t->cap[2], at + k, sizeof *version);
    if (k > 0) {
        memcpy(t->response + at, response, k * sizeof *response);
        memcpy(t->logprob + at, logprob, k * sizeof *logprob);
        memcpy(t->version + at, version, k * sizeof *version);
    }
    t->n += n;
}

void manager_prompts_release(struct manager_tokens *t) {
    mem_free(t->response);
    mem_free(t->logprob);
    mem_free(t->version);
    *t = (struct manager_tokens){0};
}

uint64_t manager_prompts_writer(const char *name) {
    return hash64(name, strlen(name), 0);
}

int manager_prompts_record(struct manager *m, uint64_t group) {
    const struct groups_group *g = groups_group(m->groups, group);
    const struct manager_prompt *p = NULL;
    TRY(manager_prompts_get(m, group, &p));
    const char *answer = dataset_answer(m->data, p->row);
    struct runlog_group r = {.id = group,
                             .row = p->row,
                             .epoch = p->epoch,
                             .slot = g->slot,
                             .floor = g->floor,
                             .step = -1,
                             .state = GROUPS_RUNNING,
                             .prompt = p->text,
                             .n_prompt = strlen(p->text),
                             .answer = answer,
                             .n_answer = strlen(answer)};
    return runlog_put_group(m->log, &r);
}

/* A group whose prompt cannot be used has no record yet. */
static int put_useless(struct manager *m, uint64_t group, int64_t slot, int64_t floor) {
    struct runlog_group r = {
        .id = group,
        .row = dataset_row_at(m->data, group, m->recipe->seed, m->recipe->data.train.shuffle),
        .epoch = group / dataset_rows(m->data),
        .slot = slot,
        .floor = floor,
        .step = -1,
        .state = GROUPS_REJECTED,
        .reason = GROUPS_PROMPT,
        .prompt = "",
        .answer = ""};
    return runlog_put_group(m->log, &r);
}

/* A verifier that cannot work fails every group, and new ones would start for ever. Four batches'
 * worth in a row with not one finished between them is no accident; a few groups never are. */
static int still_hopeful(struct manager *m) {
    int64_t n = groups_counts(m->groups).failed_in_row;
    int64_t limit = FAILED_BATCHES * m->recipe->trainer.batch.groups;
    if (limit < FAILED_MIN) limit = FAILED_MIN;
    if (n < limit) return 0;
    return FAIL(ERR_CONFIG,
                "%" PRId64 " groups in a row were rejected and none finished; the last one: %s", n,
                m->failure.data);
}

int manager_prompts_leave(struct manager *m, uint64_t group, enum groups_state state,
                          enum groups_reason reason, int64_t step) {
    const struct groups_group *g = groups_group(m->groups, group);
    struct groups_group before = g ? *g : (struct groups_group){0};
    if (state == GROUPS_REJECTED) {
        groups_reject(m->groups, group, reason); /* unless the state machine did */
        m->window.rejected[reason]++;
        manager_progress(m);
        TRY(still_hopeful(m));
    }
    if (reason == GROUPS_PROMPT) return put_useless(m, group, before.slot, before.floor);
    struct runlog_record old = {0};
    TRY(runlog_get(m->log, RUNLOG_GROUP, group, &old));
    old.u.group.state = state;
    old.u.group.reason = reason;
    old.u.group.step = step;
    int rc = runlog_put_group(m->log, &old.u.group);
    runlog_free(&old);
    return rc;
}
