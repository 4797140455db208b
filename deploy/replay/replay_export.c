/* replay_export.c - see replay_export.h. */
#include "deploy/replay/replay_export.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void add_version(void *ctx, int64_t version, const struct replay_content *c) {
    struct buf *line = ctx;
    char hex[HASH_HEX];
    if (!c->known) return;
    hash_hex(c->hash, hex);
    bool inner = line->data[line->len - 1] != '{';
    buf_printf(line, "%s\"%" PRId64 "\": \"%s\"", inner ? ", " : "", version, hex);
}

static void add_group(struct buf *out, const struct trajectory *t, const struct runlog_score *s,
                      const struct runlog_group *g) {
    buf_printf(out,
               "{\"trajectory\": %" PRIu64 ", \"group\": \"g%" PRIu64
               "\", \"state\": \"%s\", \"step\": ",
               t->id, t->group, replay_view_state(g, s, t->id));
    if (g->step >= 0)
        buf_printf(out, "%" PRId64, g->step + 1);
    else
        buf_str(out, "null");
    buf_printf(out, ", \"row\": %" PRIu64, g->row);
    if (g->state == GROUPS_REJECTED)
        buf_printf(out, ", \"reason\": \"%s\"", groups_reason_name(g->reason));
}

/* Which tokens are trained and who said them, where not all are and not one did. */
static void add_structure(struct buf *out, const struct trajectory *t) {
    for (int32_t k = 0; t->mask && k < t->n_response; k++)
        buf_printf(out, "%s%d", k ? ", " : ", \"loss_mask\": [", t->mask[k]);
    if (t->mask && t->n_response > 0) buf_str(out, "]");
    for (int32_t k = 0; k < t->n_turns; k++)
        buf_printf(out, "%s{\"start\": %d, \"role\": \"%s\", \"trained\": %s}",
                   k ? ", " : ", \"turns\": [", t->turn[k].start,
                   trajectory_role_name((enum trajectory_role)t->turn[k].role),
                   t->turn[k].trained ? "true" : "false");
    if (t->n_turns > 0) buf_str(out, "]");
}

static int add_tokens(struct replay_view *v, struct buf *out, const struct trajectory *t) {
    buf_str(out, ", \"prompt_ids\": ");
    buf_json_ids(out, t->prompt, (size_t)t->n_prompt);
    buf_str(out, ", \"response_ids\": ");
    buf_json_ids(out, t->response, (size_t)t->n_response);
    buf_str(out, ", \"logprobs\": ");
    buf_json_f32s(out, t->logprob, (size_t)t->n_response);
    buf_printf(out, ", \"version\": %" PRId64 ", \"versions\": [",
               t->n_response ? t->version[0] : 0);
    for (int32_t i = 0; i < t->n_response; i++)
        buf_printf(out, "%s%" PRId64, i ? ", " : "", t->version[i]);
    buf_str(out, "]");
    add_structure(out, t);
    buf_str(out, ", \"weights\": {");
    TRY(replay_view_versions(v, t, out, add_version));
    buf_str(out, "}");
    return 0;
}

/* A reward that failed is null and says why; it is never a zero. */
static void add_reward(struct buf *out, const struct runlog_score *s,
                       const struct runlog_score *baseline) {
    buf_str(out, ", \"reward\": ");
    if (s && s->error == 0)
        buf_json_num(out, s->total);
    else
        buf_str(out, "null");
    if (s && s->error) {
        buf_str(out, ", \"reward_error\": ");
        buf_json_str(out, err_name(s->error), strlen(err_name(s->error)));
    }
    if (baseline && baseline->error == 0) {
        buf_str(out, ", \"baseline\": ");
        buf_json_num(out, baseline->total);
    }
    for (size_t i = 0; s && i < s->n; i++) {
        buf_str(out, i ? ", " : ", \"scores\": {");
        buf_json_str(out, s->name[i], strlen(s->name[i]));
        buf_str(out, ": ");
        buf_json_num(out, s->value[i]);
        if (i + 1 == s->n) buf_str(out, "}");
    }
    if (!s) return;
    buf_str(out, ", \"reasons\": ");
    buf_json_str(out, s->reason, strlen(s->reason));
}

static int add_text(struct replay_view *v, struct buf *out, const char *key, const int32_t *ids,
                    int32_t n) {
    char *text = NULL;
    size_t bytes = 0;
    TRY(replay_view_text(v, ids, n, &text, &bytes));
    buf_printf(out, ", \"%s\": ", key);
    buf_json_str(out, text, bytes);
    mem_free(text);
    return 0;
}

int replay_export_line(struct replay_view *v, const struct trajectory *t,
                       const struct runlog_group *g, struct buf *out) {
    struct runlog_record score = {0}, greedy = {0};
    const struct runlog_score *s = NULL, *baseline = NULL;
    int rc;
    TRY_OUT(replay_view_score(v, t->id, &score, &s));
    if (g->greedy > 0 && g->greedy != t->id + 1)
        TRY_OUT(replay_view_score(v, g->greedy - 1, &greedy, &baseline));
    add_group(out, t, s, g);
    TRY_OUT(add_tokens(v, out, t));
    add_reward(out, s, baseline);
    buf_printf(out, ", \"finish\": \"%s\"", trajectory_finish_name(t->finish));
    TRY_OUT(add_text(v, out, "prompt", t->prompt, t->n_prompt));
    buf_str(out, ", \"answer\": ");
    buf_json_str(out, g->answer ? g->answer : "", g->n_answer);
    TRY_OUT(add_text(v, out, "text", t->response, t->n_response));
    buf_str(out, "}");
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
        const struct trajectory *t = &record->u.traj;
        struct runlog_record group = {0};
        rc = runlog_get(v->log, RUNLOG_GROUP, t->group, &group);
        const struct runlog_group *g = &group.u.group;
        bool wanted = step < 0 || (g->step == step && g->greedy != t->id + 1);
        if (rc == 0 && wanted) {
            buf_reset(&line);
            rc = replay_export_line(v, t, g, &line);
            if (rc == 0) printf("%s\n", line.data);
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
