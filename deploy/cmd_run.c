/* cmd_run.c - `weir run RECIPE`: checks everything that can be checked before a process is started,
 * says what will happen, then starts the services, watches them and shows the progress until the
 * run is complete, stopped or broken. It holds no state of the run: killed at any moment, `weir run
 * --resume RUN` continues. */
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/net.h"
#include "deploy/announce.h"
#include "deploy/args.h"
#include "deploy/preflight.h"
#include "deploy/progress.h"
#include "deploy/rundir.h"
#include "deploy/supervise.h"
#include "deploy/verbs.h"
#include "proto/control.pb-c.h"
#include "proto/link.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STATUS_EVERY_US = 400000, WAIT_US = 50000, GRACE_MS = 20000, EVALUATOR_NICE = 19 };

struct options {
    const char *recipe, *out, *resume;
    struct args_list sets;
    bool json, print_config, dry_run, document;
};

struct run {
    struct recipe *recipe;
    struct rundir *dir;
    struct net *net;
    struct net_sock *manager;
    struct supervise *services;
    struct progress *progress;
    char *status; /* newest answer of the manager */
    uint64_t asked_us;
    bool stopped;
};

static void announce(const struct recipe *r, const struct preflight *f, bool json) {
    struct buf text = {0};
    if (json)
        announce_json(&text, r, &f->shape, &f->plan, &f->notes);
    else
        announce_text(&text, r, &f->shape, &f->plan, &f->notes);
    printf("%s\n", text.data);
    fflush(stdout);
    buf_close(&text);
}

/* --- services ------------------------------------------------------------------------------------
 */

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
    TRY(net_open(&run->net));
    TRY(net_endpoint(&endpoint, run->net, rundir_path(run->dir), "manager"));
    int rc = net_connect(&run->manager, run->net, endpoint, "run", (size_t)2 << 20);
    mem_free(endpoint);
    return rc;
}

/* --- while it runs
 * --------------------------------------------------------------------------------- */

static void ask_status(struct run *run, uint64_t now_us) {
    if (now_us - run->asked_us < STATUS_EVERY_US) return;
    run->asked_us = now_us;
    Weir__StatusRequest request = WEIR__STATUS_REQUEST__INIT;
    err_ignore(link_send(run->manager, NULL, WIRE_STATUS_REQUEST, &request, NULL, 0, 0),
               "asked again soon; the manager may be restarting");
}

static void take_status(struct run *run) {
    struct link_msg m;
    for (int rc; (rc = link_recv(run->manager, &m, NULL)) != ERR_AGAIN;) {
        if (rc < 0) continue; /* a damaged answer: there will be another */
        if (m.wire.type == WIRE_STATUS) {
            mem_free(run->status);
            run->status = mem_strdup(((const Weir__Status *)m.wire.body)->json);
        }
        link_free(&m);
    }
}

static bool finished(const struct run *run) {
    if (!supervise_finished(run->services, "trainer")) return false;
    return run->recipe->data.n_eval == 0 || supervise_finished(run->services, "evaluator");
}

static int watch(struct run *run) {
    while (!finished(run)) {
        uint64_t now_us = clock_us();
        TRY(supervise_tick(run->services, now_us));
        ask_status(run, now_us);
        take_status(run);
        TRY(progress_tick(run->progress, now_us, run->status));
        TRY(net_wait(run->net, WAIT_US, NULL, 0, &run->stopped));
        if (run->stopped) return 0;
    }
    return 0;
}

static int run_services(struct run *run, bool json) {
    bool live = !json && isatty(STDOUT_FILENO);
    run->progress = progress_open(rundir_path(run->dir), run->recipe->trainer.steps,
                                  run->recipe->trainer.staleness.max,
                                  json   ? PROGRESS_JSON
                                  : live ? PROGRESS_LIVE
                                         : PROGRESS_LINES);
    if (!json)
        printf(
            "writes     %s: metrics.jsonl (every step), weir.log, checkpoints; at the end hf\n\n",
            rundir_path(run->dir));
    TRY(connect_manager(run));
    TRY(start_services(run));
    int rc = watch(run);
    supervise_stop(run->services, GRACE_MS);
    if (rc < 0) return rc;
    TRY(progress_tick(run->progress, clock_us(), run->status));
    progress_summary(run->progress, rundir_path(run->dir), !run->stopped);
    return 0;
}

static void run_reset(struct run *run) {
    char *ipc = run->dir ? rundir_file(run->dir, "ipc") : NULL;
    supervise_close(&run->services);
    net_sock_close(&run->manager);
    net_close(&run->net);
    if (ipc) err_ignore(file_remove_tree(ipc), "a leftover socket is replaced by the next run");
    progress_close(&run->progress);
    rundir_close(&run->dir);
    recipe_close(&run->recipe);
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
        "weir run RECIPE [--set KEY=VALUE]... [--out RUN] [--json] | weir run --resume RUN",
        "Starts manager, relay, reward, trainer, rollouts and evaluator on this machine and\n"
        "supervises them. Ctrl-C stops the run; --resume continues it.",
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
    if (o->resume && (o->sets.n || o->out))
        return FAIL(ERR_CONFIG,
                    "--resume continues a run as it was; --set and --out go with a new one");
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
        TRY_OUT(rundir_resume(&run.dir, o.resume, &run.recipe));
    else
        TRY_OUT(recipe_load(&run.recipe, o.recipe, o.sets.at, o.sets.n));
    if (o.print_config) {
        struct buf text = {0};
        recipe_print(run.recipe, &text);
        printf("%s", text.data);
        buf_close(&text);
        goto out;
    }
    TRY_OUT(preflight(&checked, run.recipe, o.resume != NULL));
    announce(run.recipe, &checked, o.json);
    if (o.dry_run) goto out;
    if (!run.dir) TRY_OUT(rundir_create(&run.dir, o.out, run.recipe));
    rc = run_services(&run, o.json);
out:
    preflight_close(&checked);
    run_reset(&run);
    return rc;
}
