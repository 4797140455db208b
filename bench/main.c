/* main.c - weir-bench NAME...: runs the named benchmarks (all without arguments), JSON lines on
 * stdout. */
#include "bench/bench.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct entry {
    const char *name;
    bench_main *run;
} entries[] = {
    {"engine", bench_engine},
    {"kernels", bench_kernels},
    {"train", bench_train},
};
enum { N_ENTRIES = sizeof entries / sizeof entries[0], PAIRS_MAX = 64 };

double bench_time_us(bench_fn *f, void *ctx, uint64_t turn_us) {
    uint64_t start = clock_us(), now = start, calls = 0;
    do {
        f(ctx);
        calls++;
        now = clock_us();
    } while (now - start < turn_us);
    return (double)(now - start) / (double)calls;
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

struct bench_pair bench_pairs(bench_fn *a, void *a_ctx, bench_fn *b, void *b_ctx, int pairs,
                              uint64_t turn_us) {
    double ratio[PAIRS_MAX], at[PAIRS_MAX], bt[PAIRS_MAX];
    if (pairs > PAIRS_MAX) pairs = PAIRS_MAX;
    a(a_ctx);
    b(b_ctx);
    for (int i = 0; i < pairs; i++) {
        at[i] = bench_time_us(a, a_ctx, turn_us);
        bt[i] = bench_time_us(b, b_ctx, turn_us);
        ratio[i] = bt[i] / at[i];
    }
    struct bench_pair p = {.ratio = median(ratio, pairs)};
    p.ratio_min = ratio[0];
    p.ratio_max = ratio[pairs - 1];
    p.a_us = median(at, pairs);
    p.b_us = median(bt, pairs);
    return p;
}

int main(int argc, char **argv) {
    int rc = 0;
    for (int i = 1; i < argc; i++) {
        int known = 0;
        for (int k = 0; k < N_ENTRIES; k++)
            known |= strcmp(argv[i], entries[k].name) == 0;
        if (!known) {
            fprintf(stderr, "weir-bench: no benchmark \"%s\"; known:", argv[i]);
            for (int k = 0; k < N_ENTRIES; k++)
                fprintf(stderr, " %s", entries[k].name);
            fprintf(stderr, "\n");
            return 64;
        }
    }
    for (int k = 0; k < N_ENTRIES; k++) {
        int wanted = argc == 1;
        for (int i = 1; i < argc; i++)
            wanted |= strcmp(argv[i], entries[k].name) == 0;
        if (wanted && (rc = entries[k].run()) != 0) return rc;
    }
    return rc;
}
