/* cmd_replay.c - `weir replay RUN list|show|stats|export|verify|retrain|compare`: reads a run's
 * log, also while the run goes on. */
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/progress/progress.h"
#include "deploy/replay/compare.h"
#include "deploy/replay/reject.h"
#include "deploy/replay/replay.h"
#include "deploy/replay/replay_export.h"
#include "deploy/replay/replay_show.h"
#include "deploy/replay/replay_view.h"
#include "deploy/replay/retrain.h"
#include "deploy/replay/salvage.h"
#include "deploy/replay/staleness_report.h"
#include "deploy/supervise/rundir.h"
#include "proto/metrics/metrics.h"
#include "rollout/engine/engine.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct options {
    const char *run;
    const char *const *more; /* words after the action: runs to compare with */
    int n_more;
    int64_t step; /* the version that it trains: one less than what was given; -1: none */
    int64_t trajectory, group, every, best, worst, random;
    const char *recipe, *out;
    struct args_list sets, compare, metrics;
    bool all, json, eval, logprobs, tokens;
};

static double field(const struct json *o, enum metric id) {
    return metrics_get_num(o, id, 0);
}

/* The writer's buffer as one line. */
static void print_json(struct json_write *w) {
    json_write_newline(w);
    printf("%s", w->out->data);
    buf_close(w->out);
}

/* --- list: one line per step ---------------------------------------------------------------- */

static int list_step(struct replay_view *p, const struct runlog_batch *b, bool json) {
    char hash[HASH_HEX];
    struct runlog_record report = {0};
    struct json_doc *doc = NULL;
    const struct json *o = NULL;
    hash_hex(b->after, hash);
    int rc = runlog_get(p->log, RUNLOG_REPORT, (uint64_t)b->step, &report);
    if (rc == 0 && json_parse(&doc, report.u.report.json, report.u.report.bytes, "report") == 0)
        o = json_root(doc);
    if (json) {
        struct buf line = {0};
        struct json_write w = json_write_to(&line, JSON_LINE);
        struct metrics m = {.json = &w};
        json_write_object(&w, NULL);
        metrics_int(&m, METRIC_STEP, b->step + 1);
        json_write_uint(&w, "trajectories", b->n);
        json_write_int(&w, "staleness_max", b->staleness_max);
        json_write_bool(&w, "done", b->done);
        metrics_text(&m, METRIC_WEIGHTS_HASH, b->done ? hash : "");
        metrics_num(&m, METRIC_REWARD_MEAN, field(o, METRIC_REWARD_MEAN));
        json_write_end(&w);
        print_json(&w);
    } else
        printf("step %5" PRId64 "  %4u trajectories  staleness max %2" PRId64
               "  reward %7.3f  grad_norm %9.3g  %s\n",
               b->step + 1, b->n, b->staleness_max, field(o, METRIC_REWARD_MEAN),
               field(o, METRIC_ACTOR_GRAD_NORM), b->done ? hash : "not done");
    json_close(&doc);
    runlog_free(&report);
    return rc == ERR_NOTFOUND ? 0 : rc;
}

static int list(struct replay_view *p, const struct options *o) {
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

/* A trajectory or a group is looked at closely: its tokens come without being asked for. */
static int show(struct replay_view *p, const struct options *o) {
    struct replay_show s = {.trajectory = o->trajectory,
                            .group = o->group,
                            .step = o->step,
                            .best = o->best,
                            .worst = o->worst,
                            .random = o->random,
                            .tokens = o->tokens || o->step < 0,
                            .json = o->json};
    return err_wrap(replay_show(p, &s), "%s", o->run);
}

/* --- stats ---------------------------------------------------------------------------------- */

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

/* The evaluations as they were reported: elements of an array, or a line for each. */
static int show_evals(struct replay_view *p, struct json_write *json) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int rc;
    TRY(runlog_scan_open(&scan, p->log, RUNLOG_EVAL, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_report *r = &record->u.report;
        struct json_doc *doc;
        if (json) {
            json_write_raw(json, NULL, r->json, r->bytes);
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
    return rc;
}

static int stats_json(struct replay_view *p, const struct stats *s, double reward, int64_t every) {
    struct buf line = {0};
    struct json_write w = json_write_to(&line, JSON_LINE);
    int rc;
    json_write_object(&w, NULL);
    json_write_int(&w, "steps", s->steps);
    json_write_int(&w, "groups_trained", s->groups[GROUPS_TRAINED]);
    json_write_int(&w, "groups_rejected", s->groups[GROUPS_REJECTED]);
    json_write_int(&w, "trajectories", s->trajectories);
    json_write_int(&w, "tokens", s->tokens);
    json_write_int(&w, "truncated", s->truncated);
    json_write_int(&w, "mixed_versions", s->mixed);
    json_write_int(&w, "reward_errors", s->errors);
    json_write_num(&w, "reward_mean", reward);
    TRY_OUT(staleness_report_json(p->log, p->recipe->trainer.staleness.max, every, &w));
    json_write_array(&w, "evals");
    TRY_OUT(show_evals(p, &w));
    json_write_end(&w);
    json_write_end(&w);
    print_json(&w);
out:
    buf_close(&line);
    return rc;
}

static int stats(struct replay_view *p, const struct options *o) {
    struct stats s = {0};
    TRY(scan_all(p->log, RUNLOG_GROUP, count_group, &s));
    TRY(scan_all(p->log, RUNLOG_TRAJ, count_traj, &s));
    TRY(scan_all(p->log, RUNLOG_SCORE, count_score, &s));
    TRY(scan_all(p->log, RUNLOG_BATCH, count_batch, &s));
    double mean_tokens = s.trajectories ? (double)s.tokens / (double)s.trajectories : 0;
    double mean_reward = s.scored ? s.reward / (double)s.scored : 0;
    if (o->json) return stats_json(p, &s, mean_reward, o->every);
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
    TRY(staleness_report_print(p->log, p->recipe->trainer.staleness.max, o->every));
    return show_evals(p, NULL);
}

/* --- verify --------------------------------------------------------------------------------- */

static void print_verified(void *ctx, const struct replay_step *s) {
    const struct options *o = ctx;
    char w[HASH_HEX], g[HASH_HEX];
    bool same = hash_equal(s->want, s->got);
    hash_hex(s->want, w);
    hash_hex(s->got, g);
    if (o->json) {
        struct buf line = {0};
        struct json_write json = json_write_to(&line, JSON_LINE);
        json_write_object(&json, NULL);
        json_write_int(&json, "step", s->step + 1);
        json_write_str(&json, "recorded", w);
        json_write_str(&json, "replayed", g);
        json_write_bool(&json, "equal", same);
        if (o->logprobs) {
            json_write_object(&json, "logprobs");
            json_write_int(&json, "tokens", s->tokens);
            json_write_int(&json, "unequal", s->unequal);
            json_write_num(&json, "mean", s->mean);
            json_write_num(&json, "max", s->max);
            json_write_end(&json);
        }
        json_write_end(&json);
        print_json(&json);
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
        printf("%s", s->line);
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
        printf("%s", line);
    } else if (json_parse(&doc, line, strlen(line), "evaluation") == 0) {
        printf("eval at version %.0f: ", field(json_root(doc), METRIC_EVAL_VERSION));
        progress_show_sets(json_root(doc));
        printf("\n");
        json_close(&doc);
    }
}

static void print_end(const struct options *o, const struct retrain *t) {
    char hex[HASH_HEX];
    hash_hex(t->hash, hex);
    if (o->json) {
        struct buf line = {0};
        struct json_write w = json_write_to(&line, JSON_LINE);
        json_write_object(&w, NULL);
        json_write_str(&w, "event", "complete");
        json_write_str(&w, "run", t->dir);
        retrain_summary(t, &w);
        json_write_end(&w);
        print_json(&w);
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

static int reject(const struct options *o) {
    struct reject_report r;
    if (o->trajectory < 0) return FAIL(ERR_CONFIG, "reject needs --trajectory N");
    TRY(reject_group(&r, o->run, (uint64_t)o->trajectory));
    printf("group %" PRIu64 " (trajectories %" PRIu64 " to %" PRIu64 ") is rejected: manual\n",
           r.group, r.first, r.last);
    if (r.batch >= 0)
        printf("batch %" PRId64 " was not trained: it is formed anew from its other groups\n",
               r.batch);
    printf("weir run --resume %s continues\n", o->run);
    return 0;
}

static int unknown_action(const char *word) {
    static const char *const known[] = {"list",    "show",    "stats",  "export", "verify",
                                        "retrain", "compare", "reject", "salvage"};
    return FAIL(ERR_CONFIG,
                "unknown action \"%s\"; the nearest is %s; known are: list, show, stats, export, "
                "verify, retrain, compare, reject, salvage",
                word, nearest_word(word, known, sizeof known / sizeof known[0]));
}

static int run_action(const char *action, const struct options *o) {
    struct replay_view p = {0};
    bool compares = strcmp(action, "compare") == 0 || o->compare.n > 0;
    if (o->n_more > 0 && !compares)
        return FAIL(ERR_CONFIG, "unexpected word \"%s\" after %s", o->more[0], action);
    if (strcmp(action, "verify") == 0) return verify(o);
    if (strcmp(action, "retrain") == 0) return retrain(o);
    if (strcmp(action, "compare") == 0) return compare_with(o, NULL);
    if (strcmp(action, "reject") == 0) return reject(o);
    if (strcmp(action, "salvage") == 0) return salvage_run(o->run, o->out);
    int rc = replay_view_open(&p, o->run);
    if (rc == 0) {
        if (strcmp(action, "list") == 0)
            rc = list(&p, o);
        else if (strcmp(action, "show") == 0)
            rc = show(&p, o);
        else if (strcmp(action, "stats") == 0)
            rc = stats(&p, o);
        else if (strcmp(action, "export") == 0)
            rc = replay_export(&p, o->step, o->run);
        else
            rc = unknown_action(action);
    }
    replay_view_close(&p);
    return rc;
}

int cmd_replay(int argc, char **argv) {
    struct options o = {.step = -1, .trajectory = -1, .group = -1};
    const char *positional[2 + COMPARE_RUNS_MAX];
    int n;
    struct args_option options[] = {
        {"step", ARGS_INT, &o.step, "N",
         "show, export, verify: this step only; step N makes version N", 1, 1e15},
        {"best", ARGS_COUNT, &o.best, "[K]", "show --step: the K of highest reward (1)", 1, 1e9},
        {"worst", ARGS_COUNT, &o.worst, "[K]", "show --step: the K of lowest reward (1)", 1, 1e9},
        {"random", ARGS_COUNT, &o.random, "[K]", "show --step: K others, the same each time (1)", 1,
         1e9},
        {"tokens", ARGS_FLAG, &o.tokens, NULL, "show --step: log-prob and version of each token", 0,
         0},
        {"all", ARGS_FLAG, &o.all, NULL, "verify: every finished step (the default)", 0, 0},
        {"logprobs", ARGS_FLAG, &o.logprobs, NULL,
         "verify: also log-probs of trained tokens, each by the version that generated it", 0, 0},
        {"trajectory", ARGS_INT, &o.trajectory, "N", "show, reject: this trajectory", 0, 1e15},
        {"group", ARGS_INT, &o.group, "N", "show: every trajectory of this group", 0, 1e15},
        {"recipe", ARGS_STR, &o.recipe, "R2", "retrain: its trainer section (default: the run's)",
         0, 0},
        {"set", ARGS_LIST, &o.sets, "KEY=VALUE", "retrain: override a setting of the recipe", 0, 0},
        {"out", ARGS_STR, &o.out, "RUN2",
         "retrain, salvage: new directory; default runs/NAME-DATE-TIME; the run itself", 0, 0},
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
        "weir replay RUN list|show|stats|export|verify|retrain|compare|reject|salvage [RUN2...] "
        "[options]",
        "list     one line per step: trajectories, staleness, reward, hash of the weights\n"
        "show     prompt, response, reward with reasons, staleness: of a --step (all, --best, "
        "--worst,\n"
        "         --random), a --group or a --trajectory; these two with log-prob and version of\n"
        "         each token\n"
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
        "compare  metrics of RUN, RUN2, ... side by side\n"
        "reject   takes the group of a --trajectory out of a run that stopped because of it\n"
        "salvage  of a damaged log keeps what is whole, says what is lost; the old one stays",
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
