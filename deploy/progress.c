/* progress.c - see progress.h. The metrics file is the truth: the manager appends a line per step
 * and per evaluation, and rewrites the file from the log when it restarts, so this follows it by
 * step numbers, not by bytes. */
#include "deploy/progress.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
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
    int64_t steps, eta, step; /* step: done */
    int64_t eval_version;     /* newest shown, -1: none */
    uint64_t started_us, step_us, drawn_us, shown_us, waited_us;
    int64_t first_step;
    double reward, first_reward, stale_mean, stale_max, rollout_rate, trainer_rate;
    double eval_first, eval_last;
    bool any_eval, any_step, drawn;
    char align[24]; /* alignment control's cosine and action; "" when it is off */
};

struct progress *progress_open(const char *run_dir, int64_t steps, int64_t eta,
                               enum progress_form form) {
    struct progress *p = mem_zalloc(sizeof *p);
    p->metrics.path = file_join(run_dir, "metrics.jsonl");
    p->steps = steps;
    p->eta = eta;
    p->form = form;
    p->eval_version = -1;
    p->started_us = clock_us();
    return p;
}

void progress_close(struct progress **p) {
    if (!*p) return;
    mem_free((*p)->metrics.path);
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

static double number(const struct json *o, const char *key) {
    return json_num(json_get(o, key), 0);
}

static void take_alignment(struct progress *p, const struct json *o) {
    const char *action = json_str(json_get(o, "gac/action"));
    bool first = action && strcmp(action, "invalid") == 0; /* which thresholds tell from off */
    bool on = action && strcmp(action, "off") != 0 &&
              (!first || json_is(json_get(o, "gac/c_low"), JSON_NUMBER));
    double cosine = number(o, "gac/cosine");
    snprintf(p->align, sizeof p->align, "%s", on ? action : "");
    if (on && !first) snprintf(p->align, sizeof p->align, "%.2f %s", cosine, action);
}

/* Not every step of a quick run: the file has them all. The first and the last are always shown. */
static void show_step(struct progress *p, const struct json *o) {
    char align[48] = "";
    uint64_t now_us = clock_us();
    if (p->form != PROGRESS_LINES) return;
    if (p->step < p->steps && p->shown_us && now_us - p->shown_us < LINE_EVERY_US) return;
    p->shown_us = now_us;
    if (p->align[0]) snprintf(align, sizeof align, "  cosine %s", p->align);
    printf("step %" PRId64 "/%" PRId64
           "  reward %.3f  staleness %.2f max %.0f  grad_norm %.3g  entropy %.3f%s  rollout %.0f "
           "tok/s  trainer %.0f tok/s\n",
           p->step, p->steps, p->reward, p->stale_mean, p->stale_max, number(o, "actor/grad_norm"),
           number(o, "actor/entropy"), align, p->rollout_rate, p->trainer_rate);
}

static void take_step(struct progress *p, const struct json *o, int64_t step) {
    if (step <= p->step) return;
    p->step = step;
    p->reward = number(o, "reward/mean");
    p->stale_mean = number(o, "off_policy/mean");
    p->stale_max = number(o, "off_policy/max");
    p->rollout_rate = number(o, "perf/rollout_tokens_per_s");
    p->trainer_rate = number(o, "perf/tokens_per_s");
    take_alignment(p, o);
    if (!p->any_step) {
        p->first_reward = p->reward;
        p->first_step = step - 1;
        p->started_us = clock_us();
    }
    p->any_step = true;
    p->step_us = clock_us();
    show_step(p, o);
}

/* A set is what has a number of answers. */
void progress_show_sets(const struct json *evaluation) {
    const char *comma = "";
    for (const struct json *at = json_first(evaluation); at; at = json_next(at)) {
        size_t n;
        const char *key = json_key(at, &n);
        if (n < 8 || strncmp(key, "eval/", 5) != 0 || strcmp(key + n - 2, "/n") != 0) continue;
        char *set = mem_strndup(key, n - 2), *pass = mem_printf("%s/pass@", set);
        printf("%s%s %.3f", comma, set + 5, number(evaluation, set));
        for (const struct json *p = json_first(evaluation); p; p = json_next(p))
            if (strncmp(json_key(p, &n), pass, strlen(pass)) == 0)
                printf(" %s %.3f", strrchr(json_key(p, &n), '/') + 1, json_num(p, 0));
        printf(" (%.0f answers)", json_num(at, 0));
        mem_free(set);
        mem_free(pass);
        comma = ", ";
    }
}

static void take_eval(struct progress *p, const struct json *o, int64_t version) {
    if (version <= p->eval_version) return;
    p->eval_version = version;
    p->eval_last = number(o, "eval/accuracy");
    if (!p->any_eval) p->eval_first = p->eval_last;
    p->any_eval = true;
    if (p->form == PROGRESS_JSON) return;
    clear_live(p);
    printf("eval at version %" PRId64 ": ", version);
    progress_show_sets(o);
    if (number(o, "eval/skipped") > 0)
        printf("; %.0f due before it skipped (%.0f to %.0f): training was faster",
               number(o, "eval/skipped"), number(o, "eval/skipped_first"),
               number(o, "eval/skipped_last"));
    printf("\n");
}

static void take_line(struct progress *p, const char *line, size_t n) {
    struct json_doc *doc;
    int64_t step, version;
    if (json_parse(&doc, line, n, "metrics") < 0)
        return; /* a line still being written is read again later */
    const struct json *o = json_root(doc);
    bool fresh = false;
    if (json_int(json_get(o, "eval/version"), &version)) {
        fresh = version > p->eval_version;
        take_eval(p, o, version);
    } else if (json_int(json_get(o, "step"), &step)) {
        fresh = step > p->step;
        take_step(p, o, step);
    }
    if (fresh && p->form == PROGRESS_JSON) printf("%.*s\n", (int)n, line);
    json_close(&doc);
}

static int read_lines(struct progress *p, struct follow *f) {
    struct file_map map;
    int rc = file_map_open(&map, f->path);
    if (rc == ERR_NOTFOUND) return 0; /* nothing was written yet */
    TRY(rc);
    if (map.bytes < f->offset) f->offset = 0; /* rewritten */
    const char *text = (const char *)map.data;
    while (f->offset < map.bytes) {
        const char *line = text + f->offset, *nl = memchr(line, '\n', map.bytes - f->offset);
        if (!nl) break;
        take_line(p, line, (size_t)(nl - line));
        f->offset += (size_t)(nl - line) + 1;
    }
    file_map_close(&map);
    return 0;
}

static void draw(struct progress *p, uint64_t now_us) {
    char line[256], eta[32] = "-", eval[32] = "eval -";
    struct winsize ws = {0};
    int64_t done = p->step - p->first_step;
    if (p->any_step && done > 1) {
        double left = (double)(p->step_us - p->started_us) * 1e-6 / (double)(done - 1) *
                      (double)(p->steps - p->step);
        snprintf(eta, sizeof eta, "%d:%02d", (int)left / 60, (int)left % 60);
    }
    if (p->any_eval) snprintf(eval, sizeof eval, "eval %.2f", p->eval_last);
    if (p->align[0]) /* in its place: evaluations have lines of their own */
        snprintf(eval, sizeof eval, "cos %s", p->align);
    int n = snprintf(line, sizeof line, /* fits 80 columns */
                     "step %" PRId64 "/%" PRId64 " reward %.2f %s stale %.1f/%" PRId64
                     " tok/s %.1fk gen %.1fk train ETA %s",
                     p->step, p->steps, p->reward, eval, p->stale_mean, p->eta,
                     p->rollout_rate / 1000, p->trainer_rate / 1000, eta);
    int width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 1 ? ws.ws_col - 1 : 100;
    printf("\r\033[K%.*s", n < width ? n : width, line);
    fflush(stdout);
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
        if (who && what) printf("%s waits for %s, %.0f s\n", who, what, number(w, "since_s"));
    }
    json_close(&doc);
}

int progress_tick(struct progress *p, uint64_t now_us, const char *status) {
    TRY(read_lines(p, &p->metrics));
    if (p->step < p->steps) show_waiting(p, now_us, status);
    if (p->form == PROGRESS_LIVE && now_us - p->drawn_us > LIVE_EVERY_US)
        draw(p, now_us);
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

/* "weir VERB", the program as it was called, to be called again. */
static void command(struct buf *out, const char *verb) {
    buf_shell(out, program_invocation_name);
    buf_printf(out, " %s ", verb);
}

void progress_resume(struct buf *out, const char *run_dir) {
    command(out, "run --resume");
    buf_shell(out, run_dir);
}

static void summary_json(struct progress *p, const struct progress_end *e) {
    static const char *const events[] = {"complete", "stopped", "failed"};
    struct buf line = {0}, resume = {0};
    buf_printf(&line,
               "{\"event\": \"%s\", \"step\": %" PRId64 ", \"steps\": %" PRId64 ", \"run\": ",
               events[e->rc == 0             ? 0
                      : e->rc == ERR_STOPPED ? 1
                                             : 2],
               p->step, p->steps);
    buf_json_str(&line, e->run_dir, strlen(e->run_dir));
    buf_str(&line, ", \"restarts\": {");
    for (size_t i = 0; i < e->n_restarts; i++)
        buf_printf(&line, "%s\"%s\": %d", i ? ", " : "", e->restarts[i].name, e->restarts[i].n);
    buf_printf(&line, "}, \"exit\": %d", e->exit_code);
    if (e->signal) buf_printf(&line, ", \"signal\": %d", e->signal);
    if (e->rc < 0) {
        buf_str(&line, ", \"error\": ");
        buf_json_str(&line, err_text(), strlen(err_text()));
        progress_resume(&resume, e->run_dir);
        buf_str(&line, ", \"resume\": ");
        buf_json_str(&line, resume.data, resume.len);
    }
    printf("%s}\n", line.data);
    buf_close(&resume);
    buf_close(&line);
}

static void next_commands(const struct progress_end *e) {
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
    if (e->rc < 0) {
        buf_str(&text, "  ");
        progress_resume(&text, e->run_dir);
        buf_str(&text, "\n");
    }
    printf("\n\nnext:\n%s", text.data);
    mem_free(hf);
    buf_close(&text);
}

void progress_summary(struct progress *p, const struct progress_end *e) {
    clear_live(p);
    if (p->form == PROGRESS_JSON) {
        summary_json(p, e);
        return;
    }
    const char *how = e->rc == 0 ? "complete" : e->rc == ERR_STOPPED ? "stopped" : "failed";
    printf("%s", how);
    if (e->signal) printf(" by signal %d (%s)", e->signal, strsignal(e->signal));
    printf(" after %" PRId64 " of %" PRId64 " steps", p->step, p->steps);
    if (p->any_step) printf("; reward %.3f -> %.3f", p->first_reward, p->reward);
    if (p->any_eval) printf("; eval accuracy %.3f -> %.3f", p->eval_first, p->eval_last);
    for (size_t i = 0; i < e->n_restarts; i++)
        printf("%s%s %d", i ? ", " : "; restarts: ", e->restarts[i].name, e->restarts[i].n);
    next_commands(e);
}
