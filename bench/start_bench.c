/* start_bench.c - how soon something happens: from exec of `weir run` to the first sampled token
 * and to the first training step, and of a process that only prints its version.
 *
 * Neither is watched from outside, which would take time from it: the manager's log holds when it
 * got the last token of each trajectory (a run with one token per response: so of the first token),
 * and metrics.jsonl when the step's report arrived. Both are the wall clock of this machine. The
 * PyTorch script does less (one step on a given batch, one process) and is timed until it says so.
 */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "bench/child.h"
#include "rollout/log/runlog.h"

#include <stdlib.h>
#include <string.h>

enum { RUNS = 5, JSON_MAX = 1 << 20 };

static double first_token_us(const char *dir, uint64_t start) {
    char *log = file_join(dir, "log");
    struct runlog *l = NULL;
    struct runlog_scan *s = NULL;
    const struct runlog_record *r = NULL;
    uint64_t first = 0;
    bench_must(runlog_open_readonly(&l, log), "log");
    bench_must(runlog_scan_open(&s, l, RUNLOG_TRAJ, 0), "log");
    while (runlog_scan_next(s, &r) == 1)
        if (first == 0 || r->u.traj.finished < first) first = r->u.traj.finished;
    runlog_scan_close(&s);
    runlog_close(&l);
    mem_free(log);
    if (first < start) bench_must(FAIL(ERR_CORRUPT, "no trajectory in the log"), dir);
    return (double)(first - start);
}

/* Evaluations have lines of their own; a step's has the moment when it was over. */
static double first_step_us(const char *dir, uint64_t start) {
    char *path = file_join(dir, "metrics.jsonl"), *text = NULL;
    size_t bytes = 0;
    double at = 0;
    bench_must(file_read(&text, &bytes, path, JSON_MAX), "metrics");
    for (char *line = text, *end; at <= 0 && (end = strchr(line, '\n')); line = end + 1) {
        struct json_doc *doc = NULL;
        bench_must(json_parse(&doc, line, (size_t)(end - line), path), "metrics");
        at = 1e6 * json_num(json_get(json_root(doc), "time/wall"), 0);
        json_close(&doc);
    }
    if (at <= 0) bench_must(FAIL(ERR_CORRUPT, "no step in %s", path), dir);
    mem_free(text);
    mem_free(path);
    return at - (double)start;
}

static double weir_run_us(const char *dir, int max_new, double *peak_mib) {
    char *out = file_join(dir, "run"), *tokens = mem_printf("rollout.max_new_tokens=%d", max_new);
    const char *argv[] = {
        bench_weir, "run",   "tests/e2e/small.yaml", "--json", "--out", out, "--set",
        tokens,     "--set", "trainer.steps=1",      NULL};
    uint64_t start = clock_wall_us();
    struct child c = child_start(argv, 0);
    if (child_end(&c, 0, peak_mib) != 0) bench_must(FAIL(ERR_IO, "weir run failed"), bench_weir);
    double us = max_new == 1 ? first_token_us(out, start) : first_step_us(out, start);
    bench_must(file_remove_tree(out), "remove");
    mem_free(out);
    mem_free(tokens);
    return us;
}

static double version_us(void) {
    uint64_t start = clock_us();
    struct child c = child_start((const char *[]){bench_weir, "version", NULL}, 0);
    child_end(&c, 0, NULL);
    return (double)(clock_us() - start);
}

static double torch_us(double *peak_mib) {
    char line[64];
    const char *argv[] = {bench_python, "bench/torch_train.py", "--first-step", NULL};
    uint64_t start = clock_us();
    struct child c = child_start(argv, 1);
    if (!fgets(line, sizeof line, c.from)) bench_must(FAIL(ERR_IO, "it printed nothing"), "torch");
    double us = (double)(clock_us() - start);
    child_end(&c, 0, peak_mib);
    return us;
}

static void print_one(const char *what, double *us) {
    double middle = bench_median(us, RUNS);
    printf("{\"bench\": \"start\", \"until\": \"%s\", \"ms\": %.2f, \"min\": %.2f, \"max\": %.2f, "
           "\"n\": %d}\n",
           what, middle / 1e3, us[0] / 1e3, us[RUNS - 1] / 1e3, RUNS);
    fflush(stdout);
}

int bench_start(void) {
    char dir[] = "/tmp/weir-bench-XXXXXX";
    double version[RUNS], token[RUNS], step[RUNS], torch[RUNS], own_mib = 0, torch_mib = 0;
    if (!mkdtemp(dir)) return fprintf(stderr, "weir-bench: no directory in /tmp\n"), 73;
    weir_run_us(dir, 24, NULL);
    if (bench_python) torch_us(NULL); /* both read from disk once */
    for (int i = 0; i < RUNS; i++) {
        version[i] = version_us();
        token[i] = weir_run_us(dir, 1, NULL);
        step[i] = weir_run_us(dir, 24, &own_mib);
        if (bench_python) torch[i] = torch_us(&torch_mib);
    }
    bench_must(file_remove_tree(dir), "remove");
    if (bench_python) {
        double own[RUNS], peer[RUNS];
        memcpy(own, step, sizeof own);
        memcpy(peer, torch, sizeof peer);
        struct bench_pair p = bench_summary(own, peer, RUNS);
        printf("{\"bench\": \"start\", \"until\": \"first training step\", \"against\": "
               "\"pytorch\", \"time_share\": %.4f, \"ratio\": %.2f, \"min\": %.2f, \"max\": %.2f, "
               "\"n\": %d, \"own_ms\": %.2f, \"peer_ms\": %.2f, \"own_largest_process_mib\": %.1f, "
               "\"peer_mib\": %.1f}\n",
               1 / p.ratio, p.ratio, p.ratio_min, p.ratio_max, p.n, p.a_us / 1e3, p.b_us / 1e3,
               own_mib, torch_mib);
    }
    print_one("weir version ends", version);
    print_one("first token", token);
    print_one("first training step", step);
    return 0;
}
