/* main.c - weir-bench [--weir BINARY] [--python PYTHON] [--device DEVICE] [--quick] [NAME...]: runs
 * the named benchmarks (without names all but those that take long or are a GPU's), JSON lines on
 * stdout. Each runs in a process of its own: what one leaves in memory, threads or caches is not
 * the next one's. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *bench_weir = "./weir", *bench_python, *bench_device = "cuda:0";
bool bench_quick;

static const struct entry {
    const char *name;
    bench_main *run;
    bool on_request; /* takes minutes, or a device */
} entries[] = {
    {"start", bench_start, false},        {"manager", bench_manager, false},
    {"publish", bench_publish, false},    {"kernels", bench_kernels, false},
    {"engine", bench_engine, false},      {"decode", bench_decode, false},
    {"train", bench_train, false},        {"trainer", bench_trainer, false},
    {"prefix", bench_prefix, false},      {"prefix-grid", bench_prefix_grid, true},
    {"gpu-ops", bench_gpu_ops, true},     {"gpu-model", bench_gpu_model, true},
    {"gpu-exact", bench_gpu_exact, true},
};
enum { N_ENTRIES = sizeof entries / sizeof entries[0], PAIRS_MAX = 64 };

bool bench_by_cpu;

uint64_t bench_cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t bench_now_us(void) {
    return bench_by_cpu ? bench_cpu_us() : clock_us();
}

double bench_time_us(bench_fn *f, void *ctx, uint64_t turn_us) {
    uint64_t start = bench_now_us(), now = start, calls = 0;
    do {
        f(ctx);
        calls++;
        now = bench_now_us();
    } while (now - start < turn_us);
    return (double)(now - start) / (double)calls;
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double bench_median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

void bench_must(int rc, const char *what) {
    if (rc >= 0) return;
    fprintf(stderr, "weir-bench: %s: %s\n", what, err_text());
    exit(err_exit_code(rc));
}

struct bench_pair bench_summary(double *a_us, double *b_us, int n) {
    double ratio[PAIRS_MAX];
    for (int i = 0; i < n; i++)
        ratio[i] = b_us[i] / a_us[i];
    struct bench_pair p = {.ratio = bench_median(ratio, n), .n = n};
    p.ratio_min = ratio[0];
    p.ratio_max = ratio[n - 1];
    p.a_us = bench_median(a_us, n);
    p.b_us = bench_median(b_us, n);
    return p;
}

struct bench_pair bench_pairs(bench_fn *a, void *a_ctx, bench_fn *b, void *b_ctx, int pairs,
                              uint64_t turn_us) {
    double at[PAIRS_MAX], bt[PAIRS_MAX];
    if (pairs > PAIRS_MAX) pairs = PAIRS_MAX;
    a(a_ctx);
    b(b_ctx);
    for (int i = 0; i < pairs; i++) {
        at[i] = bench_time_us(a, a_ctx, turn_us);
        bt[i] = bench_time_us(b, b_ctx, turn_us);
    }
    return bench_summary(at, bt, pairs);
}

static const struct entry *find(const char *name) {
    for (int k = 0; k < N_ENTRIES; k++)
        if (strcmp(name, entries[k].name) == 0) return &entries[k];
    fprintf(stderr, "weir-bench: no benchmark \"%s\"; known:", name);
    for (int k = 0; k < N_ENTRIES; k++)
        fprintf(stderr, " %s", entries[k].name);
    fprintf(stderr, "\n");
    return NULL;
}

static int run(const struct entry *e) {
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int rc = e->run();
        fflush(NULL);
        _exit(rc);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return 71;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 70;
}

int main(int argc, char **argv) {
    const struct entry *wanted[PAIRS_MAX];
    int n = 0, rc = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--weir") == 0 && i + 1 < argc)
            bench_weir = argv[++i];
        else if (strcmp(argv[i], "--python") == 0 && i + 1 < argc)
            bench_python = argv[++i];
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            bench_device = argv[++i];
        else if (strcmp(argv[i], "--quick") == 0)
            bench_quick = true;
        else if (n == PAIRS_MAX || !(wanted[n++] = find(argv[i])))
            return 64;
    }
    for (int k = 0; n == 0 && k < N_ENTRIES && rc == 0; k++)
        if (!entries[k].on_request) rc = run(&entries[k]);
    for (int k = 0; k < n && rc == 0; k++)
        rc = run(wanted[k]);
    return rc;
}
