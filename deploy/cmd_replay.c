/* cmd_replay.c - `weir replay RUN list|show|stats|export|verify|retrain|compare`: reads a run's
 * log, also while the run goes on. */
#include "actor/policy.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "deploy/args.h"
#include "deploy/compare.h"
#include "deploy/progress.h"
#include "deploy/replay.h"
#include "deploy/retrain.h"
#include "deploy/rundir.h"
#include "deploy/staleness.h"
#include "deploy/verbs.h"
#include "proto/recipe.h"
#include "rollout/engine.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct options {
    const char *run;
    const char *const *more; /* words after the action: runs to compare with */
    int n_more;
    int64_t step, trajectory, group, every; /* step: the version that it trains */
    const char *recipe, *out;
    struct args_list sets, compare, metrics;
    bool all, json, eval, logprobs;
};

struct replay { /* an opened run */
    struct recipe *recipe;
    struct runlog *log;
    struct tokenizer *tokenizer; /* NULL until asked for */
};

static int open_run(struct replay *p, const char *run) {
    char *recipe = file_join(run, "recipe.yaml"), *dir = file_join(run, "log");
    int rc;
    TRY_OUT(rundir_check(run));
    TRY_OUT(err_wrap(recipe_load(&p->recipe, recipe, NULL, 0), "%s is not a run", run));
    TRY_OUT(runlog_open_readonly(&p->log, dir));
out:
    mem_free(recipe);
    mem_free(dir);
    return rc;
}

static void close_run(struct replay *p) {
    tokenizer_close(&p->tokenizer);
    runlog_close(&p->log);
    recipe_close(&p->recipe);
}

static int text_of(struct replay *p, const int32_t *ids, int32_t n, char **text) {
    size_t bytes;
    if (!p->tokenizer) TRY(tokenizer_open(&p->tokenizer, p->recipe->model.path));
    return tokenizer_decode(p->tokenizer, ids, (size_t)n, false, text, &bytes);
}

static double field(const struct json *o, const char *key) {
    return json_num(json_get(o, key), 0);
}

/* --- list: one line per step --------------------------------------------------------------------
 */

static int list_step(struct replay *p, const struct runlog_batch *b, bool json) {
    char hash[HASH_HEX];
    struct runlog_record report = {0};
    struct json_doc *doc = NULL;
    const struct json *o = NULL;
    hash_hex(b->after, hash);
    int rc = runlog_get(p->log, RUNLOG_REPORT, (uint64_t)b->step, &report);
    if (rc == 0 && json_parse(&doc, report.u.report.json, report.u.report.bytes, "report") == 0)
        o = json_root(doc);
    if (json)
        printf("{\"step\": %" PRId64 ", \"trajectories\": %u, \"staleness_max\": %" PRId64
               ", \"done\": %s, \"weights_hash\": \"%s\", \"reward/mean\": %.9g}\n",
               b->step + 1, b->n, b->staleness_max, b->done ? "true" : "false", b->done ? hash : "",
               field(o, "reward/mean"));
    else
        printf("step %5" PRId64 "  %4u trajectories  staleness max %2" PRId64
               "  reward %7.3f  grad_norm %9.3g  %s\n",
               b->step + 1, b->n, b->staleness_max, field(o, "reward/mean"),
               field(o, "actor/grad_norm"), b->done ? hash : "not done");
    json_close(&doc);
    runlog_free(&report);
    return rc == ERR_NOTFOUND ? 0 : rc;
}

static int list(struct replay *p, const struct options *o) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int rc;
    TRY(runlog_scan_open(&scan, p->log, RUNLOG_BATCH, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        rc = list_step(p, &record->u.batch, o->json);
        if (rc < 0) break;
    }
    runlog_scan_close(&scan);
    return rc;
}

/* --- trajectories
 * ------------------------------------------------------------------------------------ */

static const char *finish_name(uint32_t finish) {
    return finish == ENGINE_STOP ? "stop" : finish == ENGINE_LENGTH ? "length" : "partial";
}

/* Why a line has a reward or not, and whether it was trained. */
static const char *state_name(const struct runlog_group *g, const struct runlog_score *s,
                              uint64_t id) {
    if (g->greedy == id + 1) return "baseline";
    if (g->state == GROUPS_TRAINED) return "trained";
    if (g->state == GROUPS_REJECTED) return "rejected";
    return !s ? "unscored" : s->error ? "reward-error" : "waiting";
}

/* The content of a version: hash of what the rollouts had, and whether the trainer published it. */
struct content {
    bool known, published, equal;
    struct hash hash;
    char rollout[RUNLOG_NAME_MAX + 1];
};

static int content_of(struct replay *p, int64_t version, struct content *out) {
    struct runlog_record loaded = {0}, step = {0};
    struct content c = {.known = false};
    bool first = version == 0; /* then no step made it, and step 0 names it */
    int rc = runlog_get(p->log, RUNLOG_WEIGHTS, (uint64_t)version, &loaded);
    if (rc < 0 && rc != ERR_NOTFOUND) return rc;
    if (rc == 0) {
        c.known = true;
        c.hash = loaded.u.weights.hash;
        snprintf(c.rollout, sizeof c.rollout, "%s", loaded.u.weights.rollout);
    }
    runlog_free(&loaded);
    rc = runlog_get(p->log, RUNLOG_BATCH, (uint64_t)(first ? 0 : version - 1), &step);
    if (rc < 0 && rc != ERR_NOTFOUND) return rc;
    if (rc == 0 && step.u.batch.done) {
        struct hash h = first ? step.u.batch.before : step.u.batch.after;
        c.published = true;
        c.equal = hash_equal(h, c.hash);
    }
    runlog_free(&step);
    *out = c;
    return 0;
}

/* Each version once, as often as it changes: responses have one or two. */
static int each_version(struct replay *p, const struct runlog_traj *t, void *ctx,
                        void (*each)(void *ctx, int64_t version, const struct content *c)) {
    struct content c;
    for (int32_t i = 0; i < t->n_response; i++) {
        bool seen = false;
        for (int32_t k = 0; k < i && !seen; k++)
            seen = t->version[k] == t->version[i];
        if (seen) continue;
        TRY(content_of(p, t->version[i], &c));
        each(ctx, t->version[i], &c);
    }
    return 0;
}

static void export_version(void *ctx, int64_t version, const struct content *c) {
    struct buf *line = ctx;
    char hex[HASH_HEX];
    if (!c->known) return;
    hash_hex(c->hash, hex);
    bool inner = line->data[line->len - 1] != '{';
    buf_printf(line, "%s\"%" PRId64 "\": \"%s\"", inner ? ", " : "", version, hex);
}

static void show_version(void *ctx, int64_t version, const struct content *c) {
    char hex[HASH_HEX];
    (void)ctx;
    hash_hex(c->hash, hex);
    if (!c->known)
        printf("version %" PRId64 ": its weights' hash is not in the log\n", version);
    else
        printf("version %" PRId64 ": weights %s in the memory of %s, %s\n", version, hex,
               c->rollout,
               !c->published ? "not reported by the trainer yet"
               : c->equal    ? "as published"
                             : "OTHERS THAN PUBLISHED");
}

/* One trajectory as a line that `weir step` reads, with what else is known of it. */
static int export_line(struct replay *p, const struct runlog_traj *t, const struct runlog_score *s,
                       const struct runlog_score *baseline, const struct runlog_group *g) {
    struct buf line = {0};
    char *text = NULL;
    TRY(text_of(p, t->response, t->n_response, &text));
    buf_printf(&line,
               "{\"trajectory\": %" PRIu64 ", \"group\": \"g%" PRIu64
               "\", \"state\": \"%s\", \"step\": ",
               t->id, t->group, state_name(g, s, t->id));
    if (g->step >= 0)
        buf_printf(&line, "%" PRId64, g->step + 1);
    else
        buf_str(&line, "null");
    buf_printf(&line, ", \"row\": %" PRIu64, g->row);
    if (g->state == GROUPS_REJECTED)
        buf_printf(&line, ", \"reason\": \"%s\"", groups_reason_name(g->reason));
    buf_str(&line, ", \"prompt_ids\": ");
    buf_json_ids(&line, t->prompt, (size_t)t->n_prompt);
    buf_str(&line, ", \"response_ids\": ");
    buf_json_ids(&line, t->response, (size_t)t->n_response);
    buf_str(&line, ", \"logprobs\": ");
    buf_json_f32s(&line, t->logprob, (size_t)t->n_response);
    buf_printf(&line, ", \"version\": %" PRId64 ", \"versions\": [",
               t->n_response ? t->version[0] : 0);
    for (int32_t i = 0; i < t->n_response; i++)
        buf_printf(&line, "%s%" PRId64, i ? ", " : "", t->version[i]);
    buf_str(&line, "], \"weights\": {");
    TRY(each_version(p, t, &line, export_version));
    buf_str(&line, "}, \"reward\": ");
    if (s && s->error == 0)
        buf_json_num(&line, s->total);
    else
        buf_str(&line, "null");
    if (baseline && baseline->error == 0) {
        buf_str(&line, ", \"baseline\": ");
        buf_json_num(&line, baseline->total);
    }
    for (size_t i = 0; s && i < s->n; i++) {
        buf_str(&line, i ? ", " : ", \"scores\": {");
        buf_json_str(&line, s->name[i], strlen(s->name[i]));
        buf_str(&line, ": ");
        buf_json_num(&line, s->value[i]);
        if (i + 1 == s->n) buf_str(&line, "}");
    }
    buf_printf(&line, ", \"finish\": \"%s\", \"text\": ", finish_name(t->finish));
    buf_json_str(&line, text, strlen(text));
    printf("%s}\n", line.data);
    buf_close(&line);
    mem_free(text);
    return 0;
}

/* *out: NULL while there is no score. */
static int score_of(struct replay *p, uint64_t id, struct runlog_record *hold,
                    const struct runlog_score **out) {
    int rc = runlog_get(p->log, RUNLOG_SCORE, id, hold);
    if (rc == 0) *out = &hold->u.score;
    return rc == ERR_NOTFOUND ? 0 : rc;
}

static int export_traj(struct replay *p, const struct runlog_traj *t,
                       const struct runlog_group *g) {
    struct runlog_record score = {0}, greedy = {0};
    const struct runlog_score *of = NULL, *base = NULL;
    int rc = 0;
    TRY_OUT(score_of(p, t->id, &score, &of));
    if (g->greedy > 0 && g->greedy != t->id + 1)
        TRY_OUT(score_of(p, g->greedy - 1, &greedy, &base));
    TRY_OUT(export_line(p, t, of, base, g));
out:
    runlog_free(&score);
    runlog_free(&greedy);
    return rc;
}

static int export(struct replay *p, const struct options *o) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int64_t lines = 0;
    int rc;
    TRY(runlog_scan_open(&scan, p->log, RUNLOG_TRAJ, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_traj *t = &record->u.traj;
        struct runlog_record group = {0};
        rc = runlog_get(p->log, RUNLOG_GROUP, t->group, &group);
        bool trained = group.u.group.step == o->step && group.u.group.greedy != t->id + 1;
        if (rc == 0 && (o->step < 0 || trained)) {
            rc = export_traj(p, t, &group.u.group);
            lines++;
        }
        runlog_free(&group);
        if (rc < 0) break;
    }
    runlog_scan_close(&scan);
    if (rc == 0 && lines == 0 && o->step >= 0)
        return FAIL(ERR_NOTFOUND, "%s has no step %" PRId64, o->run, o->step + 1);
    return rc;
}

static int show_one(struct replay *p, uint64_t id) {
    struct runlog_record traj = {0}, score = {0}, group = {0};
    char *prompt = NULL, *piece = NULL;
    int rc;
    int found = runlog_get(p->log, RUNLOG_TRAJ, id, &traj);
    if (found == ERR_NOTFOUND)
        TRY_OUT(FAIL(ERR_NOTFOUND, "the log has no finished trajectory %" PRIu64, id));
    TRY_OUT(found);
    const struct runlog_traj *t = &traj.u.traj;
    int scored = runlog_get(p->log, RUNLOG_SCORE, id, &score),
        known = runlog_get(p->log, RUNLOG_GROUP, t->group, &group);
    printf("trajectory %" PRIu64 "  group %" PRIu64 "  by %s  finish %s  %.3f s\n", id, t->group,
           t->rollout, finish_name(t->finish), (double)(t->finished - t->started) * 1e-6);
    if (known == 0)
        printf("row %" PRIu64 "  trained by step %" PRId64 "  answer %.*s\n", group.u.group.row,
               group.u.group.step + (group.u.group.step >= 0), (int)group.u.group.n_answer,
               group.u.group.answer);
    if (scored == 0 && score.u.score.error)
        printf("reward error %s: %s\n", err_name(score.u.score.error), score.u.score.reason);
    else if (scored == 0)
        printf("reward %g  %s\n", score.u.score.total, score.u.score.reason);
    TRY_OUT(text_of(p, t->prompt, t->n_prompt, &prompt));
    printf("prompt: %s\n%8s %8s %10s %8s  text\n", prompt, "position", "token", "logprob",
           "version");
    for (int32_t i = 0; i < t->n_response; i++) {
        struct buf quoted = {0};
        TRY_OUT(text_of(p, &t->response[i], 1, &piece));
        buf_json_str(&quoted, piece, strlen(piece));
        printf("%8d %8d %10.4f %8" PRId64 "  %s\n", i, t->response[i], (double)t->logprob[i],
               t->version[i], quoted.data);
        buf_close(&quoted);
        mem_free(piece);
        piece = NULL;
    }
    TRY_OUT(each_version(p, t, NULL, show_version));
out:
    mem_free(prompt);
    mem_free(piece);
    runlog_free(&traj);
    runlog_free(&score);
    runlog_free(&group);
    return rc;
}

static int show(struct replay *p, const struct options *o) {
    int64_t G = recipe_generated(p->recipe);
    if (o->trajectory >= 0) return show_one(p, (uint64_t)o->trajectory);
    if (o->group < 0) return FAIL(ERR_CONFIG, "show needs --trajectory N or --group N");
    for (int64_t i = 0; i < G; i++)
        TRY(err_wrap(show_one(p, (uint64_t)(o->group * G + i)), "group %" PRId64, o->group));
    return 0;
}

/* --- stats
 * ------------------------------------------------------------------------------------------- */

struct stats {
    int64_t groups[GROUPS_REJECTED + 1], rejected[GROUPS_REASONS];
    int64_t trajectories, tokens, truncated, mixed, steps, errors, scored;
    double reward;
};

static int scan_all(struct runlog *log, enum runlog_kind kind,
                    void (*each)(struct stats *, const struct runlog_record *), struct stats *s) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int rc;
    TRY(runlog_scan_open(&scan, log, kind, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1)
        each(s, record);
    runlog_scan_close(&scan);
    return rc;
}

static void count_group(struct stats *s, const struct runlog_record *r) {
    s->groups[r->u.group.state]++;
    if (r->u.group.state == GROUPS_REJECTED) s->rejected[r->u.group.reason]++;
}

static void count_traj(struct stats *s, const struct runlog_record *r) {
    const struct runlog_traj *t = &r->u.traj;
    s->trajectories++;
    s->tokens += t->n_response;
    s->truncated += t->finish == ENGINE_LENGTH;
    for (int32_t i = 1; i < t->n_response; i++)
        if (t->version[i] != t->version[0]) {
            s->mixed++;
            break;
        }
}

static void count_score(struct stats *s, const struct runlog_record *r) {
    s->errors += r->u.score.error != 0;
    s->scored += r->u.score.error == 0;
    if (r->u.score.error == 0) s->reward += r->u.score.total;
}

static void count_batch(struct stats *s, const struct runlog_record *r) {
    s->steps += r->u.batch.done;
}

/* The evaluations as they were reported: ", "evals": [{...}, ...]", or a line for each. */
static int show_evals(struct replay *p, bool json) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    const char *comma = "";
    int rc;
    TRY(runlog_scan_open(&scan, p->log, RUNLOG_EVAL, 0));
    if (json) printf(", \"evals\": [");
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_report *r = &record->u.report;
        struct json_doc *doc;
        if (json) {
            printf("%s%.*s", comma, (int)r->bytes, r->json);
            comma = ", ";
            continue;
        }
        rc = json_parse(&doc, r->json, r->bytes, "evaluation");
        if (rc < 0) break;
        printf("eval          version %" PRId64 ": ", r->step);
        progress_show_sets(json_root(doc));
        printf("\n");
        json_close(&doc);
    }
    runlog_scan_close(&scan);
    if (json && rc == 0) printf("]");
    return rc;
}

static int stats(struct replay *p, const struct options *o) {
    struct stats s = {0};
    TRY(scan_all(p->log, RUNLOG_GROUP, count_group, &s));
    TRY(scan_all(p->log, RUNLOG_TRAJ, count_traj, &s));
    TRY(scan_all(p->log, RUNLOG_SCORE, count_score, &s));
    TRY(scan_all(p->log, RUNLOG_BATCH, count_batch, &s));
    double mean_tokens = s.trajectories ? (double)s.tokens / (double)s.trajectories : 0;
    double mean_reward = s.scored ? s.reward / (double)s.scored : 0;
    if (o->json) {
        printf("{\"steps\": %" PRId64 ", \"groups_trained\": %" PRId64
               ", \"groups_rejected\": %" PRId64 ", \"trajectories\": %" PRId64
               ", \"tokens\": %" PRId64 ", \"truncated\": %" PRId64 ", \"mixed_versions\": %" PRId64
               ", \"reward_errors\": %" PRId64 ", \"reward_mean\": %.9g",
               s.steps, s.groups[GROUPS_TRAINED], s.groups[GROUPS_REJECTED], s.trajectories,
               s.tokens, s.truncated, s.mixed, s.errors, mean_reward);
        TRY(staleness_print(p->log, p->recipe->trainer.staleness.max, o->every, true));
        TRY(show_evals(p, true));
        printf("}\n");
        return 0;
    }
    printf("steps         %" PRId64 "\n", s.steps);
    printf("groups        %" PRId64 " trained, %" PRId64 " finished, %" PRId64 " running, %" PRId64
           " rejected\n",
           s.groups[GROUPS_TRAINED], s.groups[GROUPS_FINISHED], s.groups[GROUPS_RUNNING],
           s.groups[GROUPS_REJECTED]);
    for (int i = 1; i < GROUPS_REASONS; i++)
        if (s.rejected[i])
            printf("  rejected    %" PRId64 " %s\n", s.rejected[i],
                   groups_reason_name((enum groups_reason)i));
    printf("trajectories  %" PRId64 ", %.1f tokens each, %" PRId64 " truncated, %" PRId64
           " of mixed versions\n",
           s.trajectories, mean_tokens, s.truncated, s.mixed);
    printf("reward        mean %.4f over %" PRId64 ", %" PRId64 " errors\n", mean_reward, s.scored,
           s.errors);
    TRY(staleness_print(p->log, p->recipe->trainer.staleness.max, o->every, false));
    return show_evals(p, false);
}

/* --- verify
 * ------------------------------------------------------------------------------------------ */

static void print_verified(void *ctx, const struct replay_step *s) {
    const struct options *o = ctx;
    char w[HASH_HEX], g[HASH_HEX];
    bool same = hash_equal(s->want, s->got);
    hash_hex(s->want, w);
    hash_hex(s->got, g);
    if (o->json) {
        printf("{\"step\": %" PRId64 ", \"recorded\": \"%s\", \"replayed\": \"%s\", \"equal\": %s",
               s->step + 1, w, g, same ? "true" : "false");
        if (o->logprobs)
            printf(", \"logprobs\": {\"tokens\": %" PRId64 ", \"unequal\": %" PRId64
                   ", \"mean\": %.9g, \"max\": %.9g}",
                   s->tokens, s->unequal, s->mean, s->max);
        printf("}\n");
        return;
    }
    if (same)
        printf("step %5" PRId64 "  %s  equal", s->step + 1, w);
    else
        printf("step %5" PRId64 "  recorded %s  replayed %s  DIFFERENT", s->step + 1, w, g);
    if (o->logprobs)
        printf("  %6" PRId64 " tokens by version %" PRId64 ": log-probs differ by %.3g, max %.3g",
               s->tokens, s->step, s->mean, s->max);
    printf("\n");
}

static int verify(const struct options *o) {
    struct replay_verify v = {.first = o->step >= 0 ? o->step : 0,
                              .last = o->step,
                              .logprobs = o->logprobs,
                              .each = print_verified,
                              .ctx = (void *)(uintptr_t)o};
    TRY(replay_verify(&v, o->run));
    if (v.failed)
        return FAIL(ERR_MISMATCH,
                    "%" PRId64 " of %" PRId64 " steps gave other weights than recorded", v.failed,
                    v.checked);
    if (v.unequal && v.exact)
        return FAIL(ERR_MISMATCH,
                    "%" PRId64 " of %" PRId64 " log-probs are not those of their version's weights",
                    v.unequal, v.tokens);
    if (o->json) return 0;
    printf("%" PRId64 " steps re-executed, all hashes equal\n", v.checked);
    if (o->logprobs && v.unequal)
        printf("%" PRId64 " log-probs recomputed by the version of their token, %" PRId64
               " are others (model.exact: false)\n",
               v.tokens, v.unequal);
    else if (o->logprobs)
        printf("%" PRId64 " log-probs recomputed by the version of their token, all equal\n",
               v.tokens);
    return 0;
}

/* --- retrain, compare ----------------------------------------------------------------------- */

static void print_start(void *ctx, const char *out, const char *note) {
    const struct options *o = ctx;
    if (o->json) return;
    printf("retrain    %s -> %s\n%s"
           "what is    trajectories, rewards, lengths, behaviour log-probs and versions are the "
           "logged ones and do not respond;\n"
           "           loss, ratios, ESS, KL, gradient norms, cosine and entropy do, and --eval "
           "shows the weights\n\n",
           o->run, out, note);
    fflush(stdout);
}

static void print_step(void *ctx, const struct retrain_step *s) {
    const struct options *o = ctx;
    const struct step_report *r = s->report;
    char hex[HASH_HEX];
    hash_hex(s->hash, hex);
    if (o->json) {
        printf("%s\n", s->line);
    } else if (r) {
        printf("step %5" PRId64 "  loss %10.5f  grad_norm %9.3g  ess %6.4f  entropy %6.3f",
               s->step + 1, r->loss, r->grad_norm, r->ess, r->entropy);
        if (s->rejected) printf("  %" PRId64 " groups too stale", s->rejected);
        printf("%s  %s%s\n", s->skipped ? "  skipped" : "", hex, s->as_logged ? " as logged" : "");
    } else {
        printf("step %5" PRId64 "  all %" PRId64 " groups too stale: not trained  %s\n",
               s->step + 1, s->rejected, hex);
    }
    fflush(stdout);
}

static void print_eval(void *ctx, const char *line) {
    const struct options *o = ctx;
    struct json_doc *doc;
    if (o->json) {
        printf("%s\n", line);
    } else if (json_parse(&doc, line, strlen(line), "evaluation") == 0) {
        printf("eval at version %.0f: ", field(json_root(doc), "eval/version"));
        progress_show_sets(json_root(doc));
        printf("\n");
        json_close(&doc);
    }
}

static void print_end(const struct options *o, const struct retrain *t) {
    char hex[HASH_HEX];
    hash_hex(t->hash, hex);
    if (o->json) {
        struct buf dir = {0};
        buf_json_str(&dir, t->dir, strlen(t->dir));
        printf("{\"event\": \"complete\", \"run\": %s, \"steps\": %" PRId64
               ", \"empty_steps\": %" PRId64 ", \"skipped_steps\": %" PRId64
               ", \"groups_rejected\": %" PRId64 ", \"trajectories\": %" PRId64
               ", \"as_logged\": %" PRId64 ", \"weights_hash\": \"%s\"}\n",
               dir.data, t->steps, t->empty, t->skipped, t->groups_rejected, t->trajectories,
               t->as_logged, hex);
        buf_close(&dir);
        return;
    }
    printf("%" PRId64 " steps, %" PRId64 " trajectories; ", t->steps, t->trajectories);
    if (t->groups_rejected)
        printf("%" PRId64 " groups rejected (stale), %" PRId64 " steps without a group; ",
               t->groups_rejected, t->empty);
    if (t->as_logged == t->steps)
        printf("all weights as logged; ");
    else
        printf("weights as logged for %" PRId64 " steps; ", t->as_logged);
    printf("final %s\n%s/hf, %s/metrics.jsonl\n", hex, t->dir, t->dir);
}

static int compare_with(const struct options *o, const char *retrained) {
    struct compare c = {.every = o->every, .json = o->json};
    TRY(compare_add(&c, o->run));
    if (retrained) TRY(compare_add(&c, retrained));
    for (size_t i = 0; i < o->compare.n; i++)
        TRY(compare_add(&c, o->compare.at[i]));
    for (int i = 0; i < o->n_more; i++)
        TRY(compare_add(&c, o->more[i]));
    if (o->metrics.n > COMPARE_METRICS_MAX)
        return FAIL(ERR_CONFIG, "--metric is given more than %d times", COMPARE_METRICS_MAX);
    for (size_t i = 0; i < o->metrics.n; i++)
        c.metric[c.n_metrics++] = o->metrics.at[i];
    if (c.n_runs < 2 && !retrained)
        return FAIL(ERR_CONFIG, "compare needs another run: weir replay %s compare RUN2", o->run);
    return compare_print(&c);
}

/* --compare without anything to change only compares. */
static int retrain(const struct options *o) {
    bool compare = o->compare.n > 0;
    if (compare && !o->recipe && !o->out && o->sets.n == 0) return compare_with(o, NULL);
    struct retrain t = {.run = o->run,
                        .recipe = o->recipe,
                        .sets = o->sets.at,
                        .n_sets = o->sets.n,
                        .out = o->out,
                        .eval = o->eval,
                        .on_start = print_start,
                        .on_step = print_step,
                        .on_eval = print_eval,
                        .ctx = (void *)(uintptr_t)o};
    TRY(rundir_check(o->run));
    int rc = retrain_run(&t);
    if (rc == 0) print_end(o, &t);
    if (rc == 0 && compare) {
        if (!o->json) printf("\n");
        rc = compare_with(o, t.dir);
    }
    mem_free(t.dir);
    return rc;
}

static int run_action(const char *action, const struct options *o) {
    struct replay p = {0};
    bool compares = strcmp(action, "compare") == 0 || o->compare.n > 0;
    if (o->n_more > 0 && !compares)
        return FAIL(ERR_CONFIG, "unexpected word \"%s\" after %s", o->more[0], action);
    if (strcmp(action, "verify") == 0) return verify(o);
    if (strcmp(action, "retrain") == 0) return retrain(o);
    if (strcmp(action, "compare") == 0) return compare_with(o, NULL);
    int rc = open_run(&p, o->run);
    if (rc == 0) {
        if (strcmp(action, "list") == 0)
            rc = list(&p, o);
        else if (strcmp(action, "show") == 0)
            rc = show(&p, o);
        else if (strcmp(action, "stats") == 0)
            rc = stats(&p, o);
        else if (strcmp(action, "export") == 0)
            rc = export(&p, o);
        else
            rc = FAIL(
                ERR_CONFIG,
                "unknown action \"%s\"; known are: list, show, stats, export, verify, retrain, "
                "compare",
                action);
    }
    close_run(&p);
    return rc;
}

int cmd_replay(int argc, char **argv) {
    struct options o = {.step = -1, .trajectory = -1, .group = -1};
    const char *positional[2 + COMPARE_RUNS_MAX];
    int n;
    struct args_option options[] = {
        {"step", ARGS_INT, &o.step, "N", "export, verify: this step only; step N makes version N",
         1, 1e15},
        {"all", ARGS_FLAG, &o.all, NULL, "verify: every finished step (the default)", 0, 0},
        {"logprobs", ARGS_FLAG, &o.logprobs, NULL,
         "verify: also log-probs of trained tokens, each by the version that generated it", 0, 0},
        {"trajectory", ARGS_INT, &o.trajectory, "N", "show: this trajectory", 0, 1e15},
        {"group", ARGS_INT, &o.group, "N", "show: every trajectory of this group", 0, 1e15},
        {"recipe", ARGS_STR, &o.recipe, "R2", "retrain: its trainer section (default: the run's)",
         0, 0},
        {"set", ARGS_LIST, &o.sets, "KEY=VALUE", "retrain: override a setting of the recipe", 0, 0},
        {"out", ARGS_STR, &o.out, "RUN2", "retrain: new directory; default runs/NAME-DATE-TIME", 0,
         0},
        {"eval", ARGS_FLAG, &o.eval, NULL, "retrain: evaluate the weights on data.eval", 0, 0},
        {"compare", ARGS_LIST, &o.compare, "RUN", "retrain: then print the runs side by side", 0,
         0},
        {"metric", ARGS_LIST, &o.metrics, "NAME",
         "compare: a key of metrics.jsonl; may be repeated", 0, 0},
        {"every", ARGS_INT, &o.every, "N",
         "compare: every Nth step, and the last; stats: staleness of each N steps", 1, 1e9},
        {"json", ARGS_FLAG, &o.json, NULL, "JSON lines", 0, 0},
    };
    struct args_verb verb = {
        "weir replay RUN list|show|stats|export|verify|retrain|compare [RUN2...] [options]",
        "list     one line per step: trajectories, staleness, reward, hash of the weights\n"
        "show     trajectories with per-token log-probs and versions\n"
        "stats    what happened to groups, trajectories and rewards; staleness as measured, in "
        "flight "
        "and in queue, and as predicted\n"
        "export   finished trajectories as JSON lines; those of a --step are a batch for `weir\n"
        "         step`. state: trained, rejected, or not yet either: unscored, reward-error,\n"
        "         waiting (for a batch)\n"
        "verify   executes the steps again and compares the hashes of the weights; exit 0 only if "
        "all are equal\n"
        "retrain  trains again from the initial model on the logged batches under another trainer "
        "section\n"
        "compare  metrics of RUN, RUN2, ... side by side",
        options,
        sizeof options / sizeof options[0],
        2,
        2 + COMPARE_RUNS_MAX};
    int rc = args_parse(&verb, argc, argv, positional, &n);
    if (rc != 0) return rc < 0 ? rc : 0;
    o.step -= o.step > 0; /* from here on the version that the step trains, -1: none given */
    if (o.all && o.step >= 0) return FAIL(ERR_CONFIG, "--all and --step exclude each other");
    o.run = positional[0];
    o.more = positional + 2;
    o.n_more = n - 2;
    return run_action(positional[1], &o);
}
