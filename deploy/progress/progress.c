/* progress.c - see progress.h. The metrics file is the truth: the manager appends a line per step
 * and per evaluation, and rewrites the file from the log when it restarts, so this follows it by
 * step numbers, not by bytes. */
#include "deploy/progress/progress.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "deploy/progress/balance.h"
#include "deploy/progress/health.h"
#include "deploy/progress/pace.h"
#include "deploy/progress/status_line.h"
#include "proto/metrics/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    METRICS_BYTES_MAX = 1 << 30,
    LIVE_EVERY_US = 200000,
    LINE_EVERY_US = 1000000,
    STALLED_US = 5000000
};

struct progress {
    struct follow {
        char *path;
        size_t offset; /* bytes that were read */
    } metrics;
    enum progress_form form;
    char *run_dir;
    int64_t steps, eta, step; /* step: done */
    int64_t eval_version;     /* newest shown, -1: none */
    uint64_t started_us, step_us, drawn_us, shown_us, waited_us;
    double reward, first_reward, stale_mean, stale_max;
    double eval_first, eval_last;
    bool any_eval, many_evals, any_step, drawn;
    bool past;  /* reading what was there before this session: it is not shown again */
    bool exact; /* the recipe's model.exact */
    double compared, unequal; /* log-probs, of the steps seen */
    char align[24];           /* alignment control's cosine and action; "" when it is off */
    struct pace pace;
    struct balance balance;
    struct health *health;
    bool warned[HEALTH_KINDS]; /* told already */
};

static int read_metrics(struct progress *p, struct follow *f);

/* Advantages that compare a response with the others of its group. */
static bool is_relative(const struct recipe *r) {
    enum recipe_advantage a = r->trainer.algorithm.advantage;
    return a == RECIPE_ADV_GRPO || a == RECIPE_ADV_GRPO_NOSTD || a == RECIPE_ADV_RLOO ||
           a == RECIPE_ADV_REINFORCE_PP_BASELINE;
}

struct progress *progress_open(const char *run_dir, const struct recipe *r,
                               enum progress_form form) {
    struct progress *p = mem_zalloc(sizeof *p);
    struct health_config health = {
        .steps = r->trainer.steps, .group_size = r->rollout.group_size, .relative = is_relative(r)};
    p->metrics.path = file_join(run_dir, "metrics.jsonl");
    p->run_dir = mem_strdup(run_dir);
    p->steps = r->trainer.steps;
    p->eta = r->trainer.staleness.max;
    p->exact = r->model.exact;
    p->balance.eta = p->eta;
    p->balance.workers = r->rollout.workers;
    p->form = form;
    p->eval_version = -1;
    p->started_us = clock_us();
    p->health = health_open(&health);
    pace_start(&p->pace, (double)clock_wall_us() * 1e-6);
    if (form == PROGRESS_JSON) return p; /* whoever reads it gets the whole run's lines */
    p->past = true;
    err_ignore(read_metrics(p, &p->metrics), "it is read again and then reported");
    p->past = false;
    return p;
}

void progress_close(struct progress **p) {
    if (!*p) return;
    mem_free((*p)->metrics.path);
    mem_free((*p)->run_dir);
    health_close(&(*p)->health);
    mem_free(*p);
    *p = NULL;
}

int64_t progress_step(const struct progress *p) {
    return p->step;
}

static void clear_live(struct progress *p) {
    if (p->drawn) printf("\r\033[K");
    p->drawn = false;
}

static double number(const struct json *o, enum metric id) {
    return metrics_get_num(o, id, 0);
}

static void take_alignment(struct progress *p, const struct json *o) {
    const char *action = json_str(metrics_get(o, METRIC_GAC_ACTION));
    bool first = action && strcmp(action, "invalid") == 0; /* which thresholds tell from off */
    bool on = action && strcmp(action, "off") != 0 &&
              (!first || json_is(metrics_get(o, METRIC_GAC_C_LOW), JSON_NUMBER));
    double cosine = number(o, METRIC_GAC_COSINE);
    snprintf(p->align, sizeof p->align, "%s", on ? action : "");
    if (on && !first) snprintf(p->align, sizeof p->align, "%.2f %s", cosine, action);
}

/* Not every step of a quick run: the file has them all. The first and the last are always shown. */
static void show_step(struct progress *p, const struct json *o) {
    char align[48] = "";
    uint64_t now_us = clock_us();
    if (p->form != PROGRESS_LINES || p->past) return;
    if (p->step < p->steps && p->shown_us && now_us - p->shown_us < LINE_EVERY_US) return;
    p->shown_us = now_us;
    if (p->align[0]) snprintf(align, sizeof align, "  cosine %s", p->align);
    printf("step %" PRId64 "/%" PRId64
           "  reward %.3f  staleness %.2f max %.0f  grad_norm %.3g  entropy %.3f%s  rollout %.0f "
           "tok/s  trainer %.0f tok/s\n",
           p->step, p->steps, p->reward, p->stale_mean, p->stale_max,
           number(o, METRIC_ACTOR_GRAD_NORM), number(o, METRIC_ACTOR_ENTROPY), align,
           fmax(pace_rollout(&p->pace), 0), fmax(pace_trainer(&p->pace), 0));
}

/* Lines of sessions before have older times, which the pace ignores. */
static void take_pace(struct progress *p, const struct json *o) {
    double now = (double)clock_wall_us() * 1e-6, trainer = number(o, METRIC_PERF_TOKENS_PER_S);
    struct pace_part part = {.seconds = number(o, METRIC_TIME_STEP_S),
                             .trained = number(o, METRIC_TIME_STEP)};
    part.rollout = number(o, METRIC_PERF_ROLLOUT_TOKENS_PER_S) * part.seconds;
    part.trainer = trainer * part.trained;
    pace_step(&p->pace, metrics_get_num(o, METRIC_TIME_WALL, now), &part);
}

static void show_balance(const struct progress *p) {
    struct buf text = {0};
    balance_text(&text, &p->balance);
    if (text.len > 0) printf("%s\n", text.data);
    buf_close(&text);
}

static void take_step_metrics(struct progress *p, const struct json *o, int64_t step) {
    if (step <= p->step) return;
    p->step = step;
    p->reward = number(o, METRIC_REWARD_MEAN);
    p->stale_mean = number(o, METRIC_OFF_POLICY_MEAN);
    p->stale_max = number(o, METRIC_OFF_POLICY_MAX);
    p->compared += number(o, METRIC_LOGPROB_DIFF_CHECKED_TOKENS);
    p->unequal += number(o, METRIC_LOGPROB_DIFF_UNEQUAL_TOKENS);
    take_alignment(p, o);
    take_pace(p, o);
    if (!p->past) balance_step(&p->balance, o, step);
    bool early =
        balance_became_known(&p->balance) && 2 * step < p->steps; /* else the end says it soon */
    struct health_step health;
    health_step_read(&health, o);
    health_take(p->health, &health);
    if (!p->any_step) p->first_reward = p->reward;
    p->any_step = true;
    p->step_us = clock_us();
    show_step(p, o);
    if (!early || p->past || p->form == PROGRESS_JSON) return;
    clear_live(p);
    show_balance(p);
}

/* A set is what has a number of answers. */
void progress_show_sets(const struct json *evaluation) {
    const char *comma = "";
    for (const struct json *at = json_first(evaluation); at; at = json_next(at)) {
        size_t n;
        const char *key = json_key(at, &n);
        if (metrics_find(key) != METRIC_EVAL_SET_N) continue;
        char *set = mem_strndup(key, (size_t)(strrchr(key, '/') - key)); /* eval/NAME */
        printf("%s%s %.3f", comma, strchr(set, '/') + 1, json_num(json_get(evaluation, set), 0));
        for (const struct json *p = json_first(evaluation); p; p = json_next(p)) {
            const char *pass = json_key(p, &n), *last = strrchr(pass, '/');
            bool same = last && strlen(set) == (size_t)(last - pass) &&
                        strncmp(pass, set, strlen(set)) == 0;
            if (same && metrics_find(pass) == METRIC_EVAL_SET_PASS)
                printf(" %s %.3f", last + 1, json_num(p, 0));
        }
        printf(" (%.0f answers)", json_num(at, 0));
        mem_free(set);
        comma = ", ";
    }
}

static void take_eval(struct progress *p, const struct json *o, int64_t version) {
    if (version <= p->eval_version) return;
    p->eval_version = version;
    p->eval_last = number(o, METRIC_EVAL_ACCURACY);
    if (!p->any_eval) p->eval_first = p->eval_last;
    p->many_evals = p->any_eval;
    p->any_eval = true;
    if (p->form == PROGRESS_JSON || p->past) return;
    clear_live(p);
    printf("eval at version %" PRId64 ": ", version);
    progress_show_sets(o);
    if (number(o, METRIC_EVAL_SKIPPED) > 0)
        printf("; %.0f due before it skipped (%.0f to %.0f): training was faster",
               number(o, METRIC_EVAL_SKIPPED), number(o, METRIC_EVAL_SKIPPED_FIRST),
               number(o, METRIC_EVAL_SKIPPED_LAST));
    printf("\n");
}

static void take_metrics_line(struct progress *p, const char *line, size_t n) {
    struct json_doc *doc;
    int64_t step, version;
    if (json_parse(&doc, line, n, "metrics") < 0)
        return; /* a line still being written is read again later */
    const struct json *o = json_root(doc);
    bool fresh = false;
    if (json_int(metrics_get(o, METRIC_EVAL_VERSION), &version)) {
        fresh = version > p->eval_version;
        take_eval(p, o, version);
    } else if (json_int(metrics_get(o, METRIC_STEP), &step)) {
        fresh = step > p->step;
        take_step_metrics(p, o, step);
    }
    if (fresh && p->form == PROGRESS_JSON) printf("%.*s\n", (int)n, line);
    json_close(&doc);
}

static int read_metrics(struct progress *p, struct follow *f) {
    struct file_map map;
    int rc = file_map_open(&map, f->path);
    if (rc == ERR_NOTFOUND) return 0; /* nothing was written yet */
    TRY(rc);
    if (map.bytes < f->offset) f->offset = 0; /* rewritten */
    const char *text = (const char *)map.data;
    while (f->offset < map.bytes) {
        const char *line = text + f->offset, *nl = memchr(line, '\n', map.bytes - f->offset);
        if (!nl) break;
        take_metrics_line(p, line, (size_t)(nl - line));
        f->offset += (size_t)(nl - line) + 1;
    }
    file_map_close(&map);
    return 0;
}

/* --- what is wrong with it ------------------------------------------------------------------- */

/* "weir VERB", the program as it was called, to be called again. */
static void command(struct buf *out, const char *verb) {
    buf_shell(out, program_invocation_name);
    buf_printf(out, " %s ", verb);
}

void progress_resume(struct buf *out, const char *run_dir) {
    command(out, "run --resume");
    buf_shell(out, run_dir);
}

/* The text, and what to look at: the command as this program was called. */
static void warning_text(const struct progress *p, const struct health_finding *f,
                         struct buf *out) {
    buf_printf(out, "%s; look at `", f->text);
    command(out, "replay");
    buf_shell(out, p->run_dir);
    buf_printf(out, " show --step %" PRId64 "`, %s", f->step, f->advice);
}

/* Each kind once, above the live line. */
static void show_warnings(struct progress *p) {
    struct health_finding found[HEALTH_KINDS];
    size_t n = health_find(p->health, found);
    for (size_t i = 0; i < n; i++) {
        struct buf text = {0};
        if (!found[i].warning || p->warned[found[i].kind]) continue;
        p->warned[found[i].kind] = true;
        warning_text(p, &found[i], &text);
        if (p->form == PROGRESS_JSON) {
            struct buf line = {0};
            struct json_write w = json_write_to(&line, JSON_LINE);
            json_write_object(&w, NULL);
            json_write_str(&w, "event", "warning");
            json_write_str(&w, "kind", found[i].name);
            json_write_int(&w, "since", found[i].since);
            json_write_int(&w, "step", found[i].step);
            json_write_text(&w, "text", text.data, text.len);
            json_write_end(&w);
            printf("%s\n", line.data);
            buf_close(&line);
        } else {
            clear_live(p);
            printf("warning: %s\n", text.data);
        }
        buf_close(&text);
    }
}

static void draw_line(struct progress *p, uint64_t now_us) {
    struct health_finding found[HEALTH_KINDS];
    struct winsize ws = {0};
    struct buf line = {0};
    size_t n = health_find(p->health, found);
    struct status_line l = {
        .step = p->step,
        .steps = p->steps,
        .left_s = pace_left(&p->pace, p->steps - p->step, (double)clock_wall_us() * 1e-6),
        .mark = n > 0 && found[0].warning ? found[0].mark : NULL,
        .reward = p->any_step ? p->reward : (double)NAN,
        .eval = p->any_eval ? p->eval_last : (double)NAN,
        .align = p->align[0] ? p->align : NULL,
        .stale = p->stale_mean,
        .bound = p->eta,
        .rollout = pace_rollout(&p->pace),
        .trainer = pace_trainer(&p->pace)};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 1;
    status_line(&line, &l, known ? ws.ws_col : STATUS_LINE_WIDTH);
    printf("\r\033[K%s", line.data);
    fflush(stdout);
    buf_close(&line);
    p->drawn = true;
    p->drawn_us = now_us;
}

/* When no step came for a while: who waits for what, since when, as the manager sees it. */
static void show_waiting(struct progress *p, uint64_t now_us, const char *status) {
    uint64_t since = p->step_us > p->waited_us ? p->step_us : p->waited_us;
    struct json_doc *doc;
    if (since == 0) since = p->started_us;
    if (p->form == PROGRESS_JSON || !status || now_us < since + STALLED_US) return;
    p->waited_us = now_us;
    if (json_parse(&doc, status, strlen(status), "status") < 0) return;
    const struct json *w = json_first(json_get(json_root(doc), "waiting_for"));
    clear_live(p);
    for (; w; w = json_next(w)) {
        const char *who = json_str(json_get(w, "who")), *what = json_str(json_get(w, "what"));
        if (who && what)
            printf("%s waits for %s, %.0f s\n", who, what, json_num(json_get(w, "since_s"), 0));
    }
    json_close(&doc);
}

int progress_tick(struct progress *p, uint64_t now_us, const char *status) {
    TRY(read_metrics(p, &p->metrics));
    show_warnings(p);
    if (p->step < p->steps) show_waiting(p, now_us, status);
    if (p->form == PROGRESS_LIVE && now_us - p->drawn_us > LIVE_EVERY_US)
        draw_line(p, now_us);
    else if (p->form != PROGRESS_LIVE)
        fflush(stdout);
    return 0;
}

void progress_say(struct progress *p, const char *lines) {
    if (p->form == PROGRESS_JSON) return;
    clear_live(p);
    printf("%s", lines);
    fflush(stdout);
}

void progress_put(struct progress *p, const char *lines) {
    clear_live(p);
    printf("%s", lines);
    fflush(stdout);
}

/* --- the end --------------------------------------------------------------------------------- */

/* A run that did all of its steps and learnt nothing is not reported as a success. */
static void show_verdict(const struct progress *p, const struct progress_end *e,
                         const struct health_finding *f, size_t n) {
    const char *how = e->rc == 0 ? "complete" : e->rc == ERR_STOPPED ? "stopped" : "failed";
    if (e->rc == 0 && n > 0 && f[0].warning)
        printf("all %" PRId64 " steps are done, but %s", p->steps, f[0].verdict);
    else
        printf("%s", how);
    if (e->signal) printf(" by signal %d (%s)", e->signal, strsignal(e->signal));
    if (e->rc < 0 || n == 0 || !f[0].warning)
        printf(" after %" PRId64 " of %" PRId64 " steps", p->step, p->steps);
    if (p->any_step) printf("; reward %.3f -> %.3f", p->first_reward, p->reward);
    if (p->any_eval) printf("; eval accuracy %.3f", p->eval_first);
    if (p->many_evals) printf(" -> %.3f", p->eval_last);
    for (size_t i = 0; i < e->n_restarts; i++)
        printf("%s%s %d", i ? ", " : "; restarts: ", e->restarts[i].name, e->restarts[i].n);
    printf("\n");
    for (size_t i = 0; i < n; i++) {
        struct buf text = {0};
        warning_text(p, &f[i], &text);
        printf("%s: %s\n", f[i].warning ? "warning" : "note", text.data);
        buf_close(&text);
    }
}

static void findings_json(const struct progress *p, struct json_write *w) {
    struct health_finding f[HEALTH_KINDS];
    size_t n = health_find(p->health, f);
    json_write_array(w, "findings");
    for (size_t i = 0; i < n; i++) {
        json_write_object(w, NULL);
        json_write_str(w, "kind", f[i].name);
        json_write_bool(w, "warning", f[i].warning);
        json_write_int(w, "since", f[i].since);
        json_write_str(w, "text", f[i].text);
        json_write_end(w);
    }
    json_write_end(w);
}

static void summary_json(struct progress *p, const struct progress_end *e) {
    struct buf line = {0}, resume = {0};
    struct json_write w = json_write_to(&line, JSON_LINE);
    json_write_object(&w, NULL);
    json_write_str(&w, "event",
                   e->rc == 0             ? "complete"
                   : e->rc == ERR_STOPPED ? "stopped"
                                          : "failed");
    json_write_int(&w, "step", p->step);
    json_write_int(&w, "steps", p->steps);
    json_write_str(&w, "run", e->run_dir);
    json_write_object(&w, "restarts");
    for (size_t i = 0; i < e->n_restarts; i++)
        json_write_int(&w, e->restarts[i].name, e->restarts[i].n);
    json_write_end(&w);
    json_write_int(&w, "exit", e->exit_code);
    if (e->signal) json_write_int(&w, "signal", e->signal);
    if (e->rc < 0) {
        progress_resume(&resume, e->run_dir);
        json_write_str(&w, "error", err_text());
        json_write_text(&w, "resume", resume.data, resume.len);
    }
    findings_json(p, &w);
    json_write_end(&w);
    printf("%s\n", line.data);
    buf_close(&resume);
    buf_close(&line);
}

/* A run that promises equal bits says whether any were compared. */
static void show_compared(const struct progress *p) {
    if (!p->exact || !p->any_step) return;
    if (p->unequal > 0)
        printf("warning: %.0f of %.0f log-probs that were compared are not those of the weights "
               "the rollouts name (weir.log says which rollout, trajectory and version)\n",
               p->unequal, p->compared);
    else if (p->compared <= 0)
        printf("warning: no log-prob of a rollout was compared with the weights it names: "
               "`replay RUN verify --logprobs` compares them all\n");
}

static void next_commands(const struct progress *p, const struct progress_end *e) {
    struct buf text = {0};
    char *hf = file_join(e->run_dir, "hf");
    if (e->rc == 0) {
        buf_str(&text, "  ");
        command(&text, "chat --model");
        buf_shell(&text, hf);
        buf_str(&text, "\n");
    }
    buf_str(&text, "  ");
    command(&text, "replay");
    buf_shell(&text, e->run_dir);
    buf_str(&text, " stats\n  ");
    command(&text, "replay");
    buf_shell(&text, e->run_dir);
    buf_str(&text, " verify --all\n");
    buf_str(&text, "  ");
    progress_resume(&text, e->run_dir);
    if (e->rc == 0) buf_printf(&text, " --set trainer.steps=%" PRId64, 2 * p->steps);
    buf_str(&text, "\n");
    printf("\nnext:\n%s", text.data);
    mem_free(hf);
    buf_close(&text);
}

void progress_summary(struct progress *p, const struct progress_end *e) {
    struct health_finding f[HEALTH_KINDS];
    size_t n = health_find(p->health, f);
    clear_live(p);
    if (p->form == PROGRESS_JSON) {
        summary_json(p, e);
        return;
    }
    show_verdict(p, e, f, n);
    show_compared(p);
    show_balance(p);
    next_commands(p, e);
}
