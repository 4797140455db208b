/* replay_export.c - see replay_export.h. */
#include "deploy/replay/replay_export.h"

#include "base/json_write.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void write_version(void *ctx, int64_t version, const struct replay_content *c) {
    struct json_write *w = ctx;
    char hex[HASH_HEX], key[24];
    if (!c->known) return;
    hash_hex(c->hash, hex);
    snprintf(key, sizeof key, "%" PRId64, version);
    json_write_str(w, key, hex);
}

static void write_group(struct json_write *w, const struct runlog_traj *t,
                        const struct runlog_score *s, const struct runlog_group *g) {
    char group[24];
    snprintf(group, sizeof group, "g%" PRIu64, t->group);
    json_write_uint(w, "trajectory", t->id);
    json_write_str(w, "group", group);
    json_write_str(w, "state", replay_view_state(g, s, t->id));
    if (g->step >= 0)
        json_write_int(w, "step", g->step + 1);
    else
        json_write_null(w, "step");
    json_write_uint(w, "row", g->row);
    if (g->state == GROUPS_REJECTED) json_write_str(w, "reason", groups_reason_name(g->reason));
}

static int write_tokens(struct replay_view *v, struct json_write *w, const struct runlog_traj *t) {
    json_write_ids(w, "prompt_ids", t->prompt, (size_t)t->n_prompt);
    json_write_ids(w, "response_ids", t->response, (size_t)t->n_response);
    json_write_f32s(w, "logprobs", t->logprob, (size_t)t->n_response);
    json_write_int(w, "version", t->n_response ? t->version[0] : 0);
    json_write_ints(w, "versions", t->version, (size_t)t->n_response);
    json_write_object(w, "weights");
    TRY(replay_view_versions(v, t, w, write_version));
    json_write_end(w);
    return 0;
}

/* A reward that failed is null and says why; it is never a zero. */
static void write_reward(struct json_write *w, const struct runlog_score *s,
                         const struct runlog_score *baseline) {
    json_write_num(w, "reward", s && s->error == 0 ? s->total : (double)NAN);
    if (s && s->error) json_write_str(w, "reward_error", err_name(s->error));
    if (baseline && baseline->error == 0) json_write_num(w, "baseline", baseline->total);
    if (s && s->n > 0) {
        json_write_object(w, "scores");
        for (size_t i = 0; i < s->n; i++)
            json_write_num(w, s->name[i], s->value[i]);
        json_write_end(w);
    }
    if (s) json_write_str(w, "reasons", s->reason);
}

static int write_text(struct replay_view *v, struct json_write *w, const char *key,
                      const int32_t *ids, int32_t n) {
    char *text = NULL;
    size_t bytes = 0;
    TRY(replay_view_text(v, ids, n, &text, &bytes));
    json_write_text(w, key, text, bytes);
    mem_free(text);
    return 0;
}

int replay_export_line(struct replay_view *v, const struct runlog_traj *t,
                       const struct runlog_group *g, const char *event, struct buf *out) {
    struct json_write w = json_write_to(out, JSON_LINE);
    struct runlog_record score = {0}, greedy = {0};
    const struct runlog_score *s = NULL, *baseline = NULL;
    int rc;
    TRY_OUT(replay_view_score(v, t->id, &score, &s));
    if (g->greedy > 0 && g->greedy != t->id + 1)
        TRY_OUT(replay_view_score(v, g->greedy - 1, &greedy, &baseline));
    json_write_object(&w, NULL);
    if (event) json_write_str(&w, "event", event);
    write_group(&w, t, s, g);
    TRY_OUT(write_tokens(v, &w, t));
    write_reward(&w, s, baseline);
    json_write_str(&w, "finish", replay_view_finish(t->finish));
    TRY_OUT(write_text(v, &w, "prompt", t->prompt, t->n_prompt));
    json_write_text(&w, "answer", g->answer, g->answer ? g->n_answer : 0);
    TRY_OUT(write_text(v, &w, "text", t->response, t->n_response));
    json_write_end(&w);
    json_write_newline(&w);
out:
    runlog_free(&score);
    runlog_free(&greedy);
    return rc;
}

int replay_export(struct replay_view *v, int64_t step, const char *run) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    struct buf line = {0};
    int64_t lines = 0;
    int rc;
    TRY(runlog_scan_open(&scan, v->log, RUNLOG_TRAJ, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_traj *t = &record->u.traj;
        struct runlog_record group = {0};
        rc = runlog_get(v->log, RUNLOG_GROUP, t->group, &group);
        const struct runlog_group *g = &group.u.group;
        bool wanted = step < 0 || (g->step == step && g->greedy != t->id + 1);
        if (rc == 0 && wanted) {
            buf_reset(&line);
            rc = replay_export_line(v, t, g, NULL, &line);
            if (rc == 0) printf("%s", line.data);
            lines++;
        }
        runlog_free(&group);
        if (rc < 0) break;
    }
    runlog_scan_close(&scan);
    buf_close(&line);
    if (rc == 0 && lines == 0 && step >= 0)
        return FAIL(ERR_NOTFOUND, "%s has no step %" PRId64, run, step + 1);
    return rc;
}
