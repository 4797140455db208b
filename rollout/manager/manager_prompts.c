/* manager_prompts.c - what belongs to groups and trajectories of the pool beside their state:
 * prompts, tokens streamed so far, records. Kept by place in the pool, so that memory is bounded by
 * the pool; a place that got a new owner is recognised by the id in it.
 *
 * Which row a group gets is sampling.h's business and is in its record from the start. */
#include "rollout/manager/manager_prompts.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "rollout/manager/manager_clients.h"
#include "rollout/manager/manager_counts.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    FAILED_BATCHES = 4,
    FAILED_MIN = 32,
    FAILED_WORDS = 1024,
    KEEP_BYTES = 64 << 20 /* of finished trajectories in memory */
};

struct manager_prompts {
    struct manager_tokens *tokens; /* [groups_capacity] by groups_index */
    struct manager_prompt *prompt; /* [groups_capacity / group size] by place */
    size_t kept_bytes;             /* of finished trajectories in memory */
    char failure[FAILED_WORDS];    /* why a group was rejected last, for a reward or aborted */
};

static void take_row(struct manager_prompt *p, uint64_t group, uint64_t row, uint64_t epoch) {
    mem_free(p->text);
    mem_free(p->ids);
    *p = (struct manager_prompt){.used = true, .group = group, .row = row, .epoch = epoch};
}

static void release(struct manager *m, struct manager_tokens *t) {
    if (t->kept) m->prompts->kept_bytes -= trajectory_owned(&t->traj);
    trajectory_free(&t->traj);
    mem_free(t->partial);
    *t = (struct manager_tokens){0};
}

void manager_prompts_open(struct manager *m) {
    struct manager_prompts *k = m->prompts = mem_zalloc(sizeof *k);
    size_t n = (size_t)groups_capacity(m->groups);
    k->tokens = mem_array(n, sizeof *k->tokens);
    k->prompt = mem_array(n / (size_t)m->size, sizeof *k->prompt);
}

void manager_prompts_close(struct manager *m) {
    struct manager_prompts *k = m->prompts;
    if (!k) return;
    for (int64_t i = 0; i < groups_capacity(m->groups); i++)
        release(m, &k->tokens[i]);
    ASSERT(k->kept_bytes == 0);
    for (int64_t i = 0; i < groups_capacity(m->groups) / m->size; i++)
        take_row(&k->prompt[i], 0, 0, 0);
    mem_free(k->tokens);
    mem_free(k->prompt);
    mem_free(k);
}

/* On failure there is nothing of it. */
static int render(struct manager *m, struct manager_prompt *p) {
    const struct recipe *r = m->recipe;
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    TRY(dataset_render(m->data, p->row, m->chat, m->tokenizer, &text, &ids, &n));
    if (n >= 1 && n <= (size_t)r->rollout.max_prompt_tokens) {
        p->text = text;
        p->ids = ids;
        p->n = n;
        return 0;
    }
    mem_free(text);
    mem_free(ids);
    return FAIL(ERR_CONFIG,
                "%s row %" PRIu64
                " is a prompt of %zu tokens, rollout.max_prompt_tokens is %" PRId64,
                r->data.train.path, p->row, n, r->rollout.max_prompt_tokens);
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

static struct manager_prompt *place_of(struct manager *m, uint64_t group) {
    ASSERT(groups_group(m->groups, group));
    int64_t at = groups_index(m->groups, manager_trajectory(m, group, 0));
    return &m->prompts->prompt[at / m->size];
}

int manager_prompts_get(struct manager *m, uint64_t group, const struct manager_prompt **out) {
    struct manager_prompt *p = place_of(m, group);
    if (!p->used || p->group != group) {
        uint64_t epoch = 0;
        uint64_t row = sampling_row(m->sampling, group, groups_counts(m->groups).formed, &epoch);
        take_row(p, group, row, epoch);
    }
    if (!p->text) TRY(render(m, p));
    *out = p;
    return 0;
}

void manager_prompts_restore(struct manager *m, const struct runlog_group *g) {
    take_row(place_of(m, g->id), g->id, g->row, g->epoch);
}

struct manager_tokens *manager_prompts_tokens(struct manager *m, uint64_t trajectory) {
    int64_t i = groups_index(m->groups, trajectory);
    ASSERT(i >= 0);
    struct manager_tokens *t = &m->prompts->tokens[i];
    if (t->traj.id != trajectory || t->traj.started == 0) {
        release(m, t);
        t->traj = (struct trajectory){.id = trajectory,
                                      .group = manager_group_of(m, trajectory),
                                      .started = m->wall_us,
                                      .baseline = NAN};
    }
    return t;
}

void manager_prompts_keep(struct manager *m, struct manager_tokens *t) {
    if (m->prompts->kept_bytes + trajectory_owned(&t->traj) > KEEP_BYTES) {
        release(m, t);
        return;
    }
    t->kept = true;
    m->prompts->kept_bytes += trajectory_owned(&t->traj);
}

int manager_prompts_load(struct manager *m, uint64_t id, struct trajectory *out,
                         struct runlog_record *hold) {
    int64_t i = groups_index(m->groups, id);
    const struct manager_tokens *t = i >= 0 ? &m->prompts->tokens[i] : NULL;
    const struct manager_prompt *p = NULL;
    if (!t || t->traj.id != id || !t->kept) {
        TRY(runlog_get(m->log, RUNLOG_TRAJ, id, hold));
        *out = hold->u.traj;
        return 0;
    }
    TRY(manager_prompts_get(m, t->traj.group, &p));
    *out = trajectory_slice(&t->traj, 0, t->traj.n_response);
    out->n_prompt = (int32_t)p->n;
    out->prompt = p->ids;
    out->rollout = manager_clients_name(m, t->writer);
    return 0;
}

uint64_t manager_prompts_greedy(const struct manager *m, uint64_t group) {
    int64_t sampled = m->recipe->rollout.group_size;
    return m->size > sampled ? manager_trajectory(m, group, sampled) + 1 : 0;
}

/* The record of a group of the pool, whose prompt is in memory. */
static int put_group(struct manager *m, const struct groups_group *g, enum groups_state state,
                     enum groups_reason reason, int64_t step) {
    const struct manager_prompt *p = NULL;
    TRY(manager_prompts_get(m, g->id, &p));
    const char *answer = dataset_answer(m->data, p->row);
    struct sampling_beta b = {0, 0};
    if (state == GROUPS_TRAINED && sampling_learns(m->sampling))
        b = sampling_posterior(m->sampling, p->row, step + 1);
    struct runlog_group r = {.id = g->id,
                             .row = p->row,
                             .epoch = p->epoch,
                             .slot = g->slot,
                             .floor = g->floor,
                             .step = step,
                             .before = reason == GROUPS_ZERO ? groups_counts(m->groups).formed : 0,
                             .greedy = manager_prompts_greedy(m, g->id),
                             .alpha = b.alpha,
                             .beta = b.beta,
                             .state = state,
                             .reason = reason,
                             .prompt = p->text,
                             .n_prompt = strlen(p->text),
                             .answer = answer,
                             .n_answer = strlen(answer)};
    return runlog_put_group(m->log, &r);
}

int manager_prompts_record(struct manager *m, uint64_t group) {
    return put_group(m, groups_group(m->groups, group), GROUPS_RUNNING, GROUPS_KEPT, -1);
}

/* A group whose prompt cannot be used has no record yet. */
static int put_useless(struct manager *m, uint64_t group, int64_t slot, int64_t floor) {
    const struct manager_prompt *p = place_of(m, group);
    struct runlog_group r = {.id = group,
                             .row = p->row,
                             .epoch = p->epoch,
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
static int check_failures(struct manager *m) {
    int64_t n = groups_counts(m->groups).failed_in_row;
    int64_t limit = FAILED_BATCHES * m->recipe->trainer.batch.groups;
    if (limit < FAILED_MIN) limit = FAILED_MIN;
    if (n < limit) return 0;
    return FAIL(ERR_CONFIG,
                "%" PRId64 " groups in a row were rejected and none finished; the last one: %s", n,
                m->prompts->failure);
}

/* The state machine gave the group up already: its record is read back. */
static int put_gone(struct manager *m, uint64_t group, enum groups_state state,
                    enum groups_reason reason, int64_t step) {
    struct runlog_record old = {0};
    TRY(runlog_get(m->log, RUNLOG_GROUP, group, &old));
    old.u.group.state = state;
    old.u.group.reason = reason;
    old.u.group.step = step;
    int rc = runlog_put_group(m->log, &old.u.group);
    runlog_free(&old);
    return rc;
}

int manager_prompts_leave(struct manager *m, uint64_t group, enum groups_state state,
                          enum groups_reason reason, int64_t step) {
    int64_t at = groups_index(m->groups, manager_trajectory(m, group, 0));
    const struct groups_group *g = groups_group(m->groups, group);
    if (reason == GROUPS_PROMPT)
        TRY(put_useless(m, group, g->slot, g->floor));
    else if (g)
        TRY(put_group(m, g, state, reason, step));
    else
        TRY(put_gone(m, group, state, reason, step));
    for (int64_t i = 0; g && i < m->size; i++)
        release(m, &m->prompts->tokens[at + i]);
    if (state != GROUPS_REJECTED) return 0;
    groups_reject(m->groups, group, reason); /* unless the state machine did */
    manager_counts_rejected(m, reason);
    manager_progress(m);
    return check_failures(m);
}

int manager_prompts_fail(struct manager *m, uint64_t group, enum groups_reason reason,
                         const char *fmt, ...) {
    char *words = m->prompts->failure;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, FAILED_WORDS, fmt, ap);
    va_end(ap);
    LOG_LIMITED(WARN, MANAGER, "group=%" PRIu64 " rejected: %s", group, words);
    return manager_prompts_leave(m, group, GROUPS_REJECTED, reason, -1);
}
