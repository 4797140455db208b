/* cmd_run.c - `weir run RECIPE`: checks everything that can be checked before a process is started,
 * says what will happen, then starts the services, watches them and shows the progress until the
 * run is complete, stopped or broken. It holds no state of the run: killed at any moment, `weir run
 * --resume RUN` continues. */
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/net.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/preflight/limits.h"
#include "deploy/preflight/preflight.h"
#include "deploy/preflight/start_report.h"
#include "deploy/progress/progress.h"
#include "deploy/progress/samples.h"
#include "deploy/supervise/process_end.h"
#include "deploy/supervise/resumable.h"
#include "deploy/supervise/resume.h"
#include "deploy/supervise/rundir.h"
#include "deploy/supervise/rundir_watch.h"
#include "deploy/supervise/supervise.h"
#include "proto/control.pb-c.h"
#include "proto/link.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STATUS_EVERY_US = 400000, WAIT_US = 50000, GRACE_MS = 20000, EVALUATOR_NICE = 19 };
enum { SILENT_US = 5000000, SILENT_EVERY_US = 30000000, HURRY_US = 500000 };

struct options {
    const char *recipe, *out, *resume;
    struct args_list sets;
    int64_t samples;
    bool json, print_config, dry_run, document;
};

struct run {
    struct recipe *recipe;
    struct recipe *former; /* a continued run's, where the recipe was changed; NULL: it was not */
    struct buf changed;    /* a line for each change */
    struct rundir *dir;
    struct net *net;
    struct net_sock *manager;
    struct supervise *services;
    struct rundir_watch *places;
    struct progress *progress;
    struct samples *samples;
    char *status;          /* newest answer of the manager */
    struct json_doc *said; /* the same; NULL: none */
    uint64_t started_us, asked_us, answered_us, silence_said_us, stopping_us;
    bool stopped;
};

/* --- before the start ------------------------------------------------------------------------- */

/* --dry-run is asked for the whole plan; a run that starts leaves room on the screen. */
static void announce(const struct recipe *r, const struct preflight *f, const struct options *o,
                     const char *run_dir) {
    struct buf text = {0};
    if (o->json)
        start_report_json(&text, r, &f->shape, &f->plan, &f->notes);
    else if (o->dry_run)
        start_report_text(&text, r, &f->shape, &f->plan, &f->notes);
    else
        start_brief(&text, r, &f->shape, &f->plan, &f->notes, run_dir);
    printf("%s\n", text.data);
    fflush(stdout);
    buf_close(&text);
}

/* --- services ------------------------------------------------------------------------------- */

static int add(struct run *run, const char *verb, const char *name, int nice) {
    const char *args[] = {verb, "--run", rundir_path(run->dir), "--name", name, NULL};
    return supervise_add(run->services, name, args, nice);
}

static int start_services(struct run *run) {
    char *log = rundir_file(run->dir, "weir.log");
    int rc = supervise_open(&run->services, log);
    mem_free(log);
    TRY(rc);
    TRY(add(run, "manager", "manager", 0));
    TRY(add(run, "relay", "relay", 0));
    TRY(add(run, "reward", "reward", 0));
    TRY(add(run, "trainer", "trainer", 0));
    for (int64_t i = 0; i < run->recipe->rollout.workers; i++) {
        char name[32];
        snprintf(name, sizeof name, "rollout-%" PRId64, i + 1);
        TRY(add(run, "rollout", name, 0));
    }
    if (run->recipe->data.n_eval > 0) TRY(add(run, "evaluator", "evaluator", EVALUATOR_NICE));
    return 0;
}

static int connect_manager(struct run *run) {
    char *endpoint;
    TRY(net_endpoint(&endpoint, run->net, rundir_path(run->dir), "manager"));
    int rc = net_connect(&run->manager, run->net, endpoint, "run", (size_t)2 << 20);
    mem_free(endpoint);
    return rc;
}

/* --- while it runs -------------------------------------------------------------------------- */

static void ask_status(struct run *run, uint64_t now_us) {
    if (now_us - run->asked_us < STATUS_EVERY_US) return;
    run->asked_us = now_us;
    Weir__StatusRequest request = WEIR__STATUS_REQUEST__INIT;
    err_ignore(link_send(run->manager, NULL, WIRE_STATUS_REQUEST, &request, NULL, 0, 0),
               "asked again soon; the manager may be restarting");
}

static void take_status(struct run *run, uint64_t now_us) {
    struct link_msg m;
    for (int rc; (rc = link_recv(run->manager, &m, NULL)) != ERR_AGAIN;) {
        if (rc < 0) continue; /* a damaged answer: there will be another */
        if (m.wire.type == WIRE_STATUS) {
            json_close(&run->said);
            mem_free(run->status);
            run->status = mem_strdup(((const Weir__Status *)m.wire.body)->json);
            run->answered_us = now_us;
            if (json_parse(&run->said, run->status, strlen(run->status), "status") < 0)
                run->said = NULL;
        }
        link_free(&m);
    }
}

static bool model_is_there(const struct run *run) {
    char *hf = rundir_file(run->dir, "hf"), *file = file_join(hf, "model.safetensors");
    bool there = file_exists(file);
    mem_free(file);
    mem_free(hf);
    return there;
}

/* Who left with exit code 0 is finished if the manager says that all steps are done; the trainer,
 * if its model is there too. */
static int settle(struct run *run, uint64_t now_us) {
    bool done = run->said && json_bool(json_get(json_root(run->said), "done"), false);
    for (size_t i = 0; i < supervise_count(run->services); i++) {
        struct supervise_child c = supervise_child(run->services, i);
        if (c.state != SUPERVISE_LEFT) continue;
        bool trainer = strcmp(c.name, "trainer") == 0;
        TRY(supervise_settle(run->services, i, now_us, done && (!trainer || model_is_there(run))));
    }
    return 0;
}

static bool finished(const struct run *run) {
    if (!supervise_finished(run->services, "trainer")) return false;
    return run->recipe->data.n_eval == 0 || supervise_finished(run->services, "evaluator");
}

static void show_samples(struct run *run) {
    struct buf text = {0};
    samples_tick(run->samples, progress_step(run->progress), clock_us(), &text);
    if (text.len > 0) progress_put(run->progress, text.data);
    buf_close(&text);
}

static void say_client(const struct json *client, struct buf *out) {
    const char *name = json_str(json_get(client, "name"));
    double heard = json_num(json_get(client, "heard_s"), 0);
    if (!name || json_bool(json_get(client, "alive"), true) || heard < 1) return;
    buf_printf(out, "%s has been silent for %.0f s; its work goes to others\n", name, heard);
}

/* Who does not answer, since when: a run that stands still says why. */
static void say_silent(struct run *run, uint64_t now_us) {
    struct buf text = {0};
    uint64_t since = run->answered_us ? run->answered_us : run->started_us;
    if (now_us < run->silence_said_us + SILENT_EVERY_US) return;
    for (size_t i = 0; i < supervise_count(run->services); i++) {
        struct supervise_child c = supervise_child(run->services, i);
        if (c.frozen_us && now_us > c.frozen_us + SILENT_US)
            buf_printf(&text,
                       "%s (pid %d) has been frozen for %.0f s; kill -CONT %d lets it go on\n",
                       c.name, (int)c.pid, (double)(now_us - c.frozen_us) * 1e-6, (int)c.pid);
    }
    if (now_us > since + SILENT_US)
        buf_printf(&text, "the manager has not answered for %.0f s\n",
                   (double)(now_us - since) * 1e-6);
    else if (run->said)
        for (const struct json *c = json_first(json_get(json_root(run->said), "clients")); c;
             c = json_next(c))
            say_client(c, &text);
    if (text.len > 0) {
        run->silence_said_us = now_us;
        progress_say(run->progress, text.data);
    }
    buf_close(&text);
}

static int watch(struct run *run) {
    run->started_us = clock_us();
    while (!finished(run)) {
        uint64_t now_us = clock_us();
        int rc = supervise_tick(run->services, now_us);
        /* Services fail in many ways when their files are gone: that is said instead. */
        TRY(rundir_watch_check(run->places, rc < 0 ? UINT64_MAX : now_us,
                               supervise_child(run->services, 0).pid));
        TRY(rc);
        ask_status(run, now_us);
        take_status(run, now_us);
        TRY(settle(run, now_us));
        const char *news = supervise_news(run->services);
        if (news) progress_say(run->progress, news);
        say_silent(run, now_us);
        TRY(progress_tick(run->progress, now_us, run->status));
        show_samples(run);
        TRY(net_wait(run->net, WAIT_US, NULL, 0, &run->stopped));
        if (run->stopped) return 0;
    }
    if (!model_is_there(run))
        return FAIL(ERR_IO, "%s/hf is gone, which the trainer had written", rundir_path(run->dir));
    return 0;
}

/* A second signal, unless it belongs to the first: schedulers send one to a process and its group.
 */
static bool hurry(void *ctx) {
    struct run *run = ctx;
    bool stop = false;
    int before = net_stop_count();
    err_ignore(net_wait(run->net, 0, NULL, 0, &stop), "a signal is all that is looked for");
    return net_stop_count() > before && before > 0 && clock_us() > run->stopping_us + HURRY_US;
}

/* The end in words and as an exit code. Its text: what happened, and how to go on. */
static int conclude(struct run *run, int rc) {
    struct progress_restarts *restarts =
        mem_array(supervise_count(run->services), sizeof *restarts);
    struct progress_end end = {.run_dir = rundir_path(run->dir), .restarts = restarts};
    struct buf resume = {0};
    for (size_t i = 0; i < supervise_count(run->services); i++) {
        struct supervise_child c = supervise_child(run->services, i);
        if (c.restarts > 0)
            restarts[end.n_restarts++] = (struct progress_restarts){c.name, c.restarts};
    }
    progress_resume(&resume, end.run_dir);
    if (rc == 0 && !finished(run)) {
        rc = net_stopped();
        end.signal = net_stop_signal();
        rc = FAIL(rc, "%s; to continue: %s", err_text(), resume.data);
    }
    end.rc = rc;
    end.exit_code = process_end_code(rc, false);
    LOG(INFO, DEPLOY, "run ended step=%" PRId64 " exit=%d %s", progress_step(run->progress),
        end.exit_code, rc < 0 ? err_text() : "complete");
    progress_summary(run->progress, &end);
    mem_free(restarts);
    buf_close(&resume);
    return rc;
}

/* The newest lines of the metrics; what is wrong with them does not change how the run ended. */
static void last_progress(struct run *run) {
    char *text = mem_strdup(err_text());
    if (progress_tick(run->progress, clock_us(), run->status) < 0)
        LOG(WARN, DEPLOY, "%s", err_text());
    err_set(__FILE__, __LINE__, "%s", text);
    mem_free(text);
}

static int run_services(struct run *run, int64_t samples, bool json) {
    bool live = !json && isatty(STDOUT_FILENO);
    run->progress = progress_open(rundir_path(run->dir), run->recipe,
                                  json   ? PROGRESS_JSON
                                  : live ? PROGRESS_LIVE
                                         : PROGRESS_LINES);
    log_rename("run");
    run->samples = samples_open(rundir_path(run->dir), samples, run->recipe->trainer.steps, json);
    int64_t done = progress_step(run->progress);
    if (!json && done > 0)
        printf("resumes after step %" PRId64 " of %" PRId64 "\n", done, run->recipe->trainer.steps);
    TRY(connect_manager(run));
    TRY(start_services(run));
    run->places = rundir_watch_open(rundir_path(run->dir));
    int rc = watch(run);
    run->stopping_us = clock_us();
    if (rc == 0) rc = rundir_watch_check(run->places, UINT64_MAX, 0);
    supervise_stop(run->services, GRACE_MS, hurry, run);
    if (rc == 0 && finished(run)) rc = resumable_check(rundir_path(run->dir));
    last_progress(run);
    show_samples(run);
    return conclude(run, rc);
}

static void run_reset(struct run *run) {
    char *ipc = run->dir ? rundir_file(run->dir, "ipc") : NULL;
    supervise_close(&run->services);
    net_sock_close(&run->manager);
    net_close(&run->net);
    if (ipc) err_ignore(file_remove_tree(ipc), "a leftover socket is replaced by the next run");
    progress_close(&run->progress);
    samples_close(&run->samples);
    rundir_watch_close(&run->places);
    rundir_close(&run->dir);
    recipe_close(&run->recipe);
    recipe_close(&run->former);
    buf_close(&run->changed);
    json_close(&run->said);
    mem_free(run->status);
    mem_free(ipc);
}

static int parse(struct options *o, int argc, char **argv) {
    const char *positional[1] = {NULL};
    int n;
    struct args_option options[] = {
        {"set", ARGS_LIST, &o->sets, "KEY=VALUE", "override a setting of the recipe", 0, 0},
        {"out", ARGS_STR, &o->out, "RUN", "directory of the run; default runs/NAME-DATE-TIME", 0,
         0},
        {"resume", ARGS_STR, &o->resume, "RUN", "continue this run instead of starting one", 0, 0},
        {"samples", ARGS_INT, &o->samples, "N",
         "print N trajectories of the newest step, at most every 10 s, and of the last", 0, 1000},
        {"json", ARGS_FLAG, &o->json, NULL,
         "JSON lines on stdout: start, one per step and evaluation, end", 0, 0},
        {"print-config", ARGS_FLAG, &o->print_config, NULL, "print the effective recipe and exit",
         0, 0},
        {"document", ARGS_FLAG, &o->document, NULL,
         "print every key of a recipe as Markdown and exit", 0, 0},
        {"dry-run", ARGS_FLAG, &o->dry_run, NULL, "check everything, print the plan and exit", 0,
         0},
    };
    struct args_verb verb = {
        "weir run RECIPE [--set KEY=VALUE]... [--out RUN] [--json] |\n"
        "       weir run --resume RUN [--set trainer.steps=N]... [--json]",
        "Starts manager, relay, reward, trainer, rollouts and evaluator on this machine and\n"
        "supervises them. Ctrl-C stops the run; --resume continues it, also beyond its end with\n"
        "more trainer.steps.",
        options,
        sizeof options / sizeof options[0],
        0,
        1};
    int rc = args_parse(&verb, argc, argv, positional, &n);
    if (rc != 0) return rc;
    o->recipe = positional[0];
    if (o->document) return 0;
    if (!o->recipe == !o->resume)
        return FAIL(ERR_CONFIG, "give a recipe or --resume RUN; usage: %s", verb.usage);
    if (o->resume && o->out)
        return FAIL(ERR_CONFIG, "--resume continues a run where it is; --out goes with a new one");
    return 0;
}

/* The run's own recipe, with what --set changes of it. */
static int open_resumed(struct run *run, const struct options *o) {
    struct recipe *is = NULL;
    TRY(rundir_resume(&run->dir, o->resume, &run->recipe));
    if (o->sets.n == 0) return 0;
    TRY(resume_recipe(&is, run->dir, run->recipe, o->sets.at, o->sets.n, &run->changed));
    run->former = run->recipe;
    run->recipe = is;
    return 0;
}

/* Whether log, checkpoints and recipe belong together: write: and make it so of an older log. */
static int check_resumed(struct run *run, bool write) {
    const char *dir = rundir_path(run->dir);
    if (!write) TRY(resumable_check(dir));
    return resumable_adopt(dir, run->former ? run->former : run->recipe, write);
}

/* After everything else was checked. */
static int commit_resumed(struct run *run, bool json) {
    if (!run->former || run->changed.len == 0) return 0;
    TRY(check_resumed(run, true));
    TRY(resume_commit(run->dir, run->former, run->recipe, &run->changed));
    if (json) {
        struct buf text = {0};
        struct json_write w = json_write_to(&text, JSON_LINE);
        json_write_object(&w, NULL);
        json_write_str(&w, "event", "changed");
        json_write_text(&w, "text", run->changed.data, run->changed.len);
        json_write_end(&w);
        printf("%s\n", text.data);
        buf_close(&text);
    } else {
        printf("changed    ");
        for (const char *at = run->changed.data; *at; at++) {
            putchar(*at);
            if (*at == '\n' && at[1]) printf("           ");
        }
    }
    return 0;
}

static int document(void) {
    struct buf text = {0};
    recipe_document(&text);
    printf("%s", text.data);
    buf_close(&text);
    return 0;
}

int cmd_run(int argc, char **argv) {
    struct options o = {0};
    struct run run = {0};
    struct preflight checked = {0};
    int rc = parse(&o, argc, argv);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (o.document) return document();
    if (o.resume)
        TRY_OUT(open_resumed(&run, &o));
    else
        TRY_OUT(recipe_load(&run.recipe, o.recipe, o.sets.at, o.sets.n));
    if (o.print_config) {
        struct buf text = {0};
        recipe_print(run.recipe, &text);
        printf("%s", text.data);
        buf_close(&text);
        goto out;
    }
    if (o.resume) TRY_OUT(check_resumed(&run, false));
    TRY_OUT(preflight(&checked, run.recipe, o.resume != NULL));
    TRY_OUT(limits_check(run.recipe, &checked.plan));
    if (o.dry_run && o.out && !o.resume) TRY_OUT(rundir_check_free(o.out));
    /* From here on a stop signal is answered with how to go on. */
    if (!o.dry_run) TRY_OUT(net_open(&run.net));
    if (!run.dir && !o.dry_run) TRY_OUT(rundir_create(&run.dir, o.out, run.recipe));
    announce(run.recipe, &checked, &o, run.dir ? rundir_path(run.dir) : NULL);
    if (o.dry_run) goto out;
    TRY_OUT(commit_resumed(&run, o.json));
    rc = run_services(&run, o.samples, o.json);
out:
    preflight_close(&checked);
    run_reset(&run);
    return rc;
}
