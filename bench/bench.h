/* bench.h - the frame of weir-bench: named benchmarks that print JSON lines, and paired timing.
 *
 * Machines drift by a factor of two within a minute, so a figure is never compared with one from
 * another minute: two things are timed in turn, A B A B, and the median of the pairwise ratios is
 * the result. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef int bench_main(void); /* 0, or the exit status */
int bench_decode(void);       /* decode_bench.c: few sequences, f32 and bf16 */
int bench_engine(void);       /* engine_bench.c */
int bench_gpu_exact(void);    /* gpu_exact_bench.c */
int bench_gpu_model(void);    /* gpu_model_bench.c */
int bench_gpu_ops(void);      /* gpu_bench.c */
int bench_kernels(void);      /* kernels_bench.c */
int bench_manager(void);      /* manager_bench.c */
int bench_prefix(void);       /* prefix_bench.c */
int bench_prefix_grid(void);  /* on request: takes minutes */
int bench_publish(void);      /* publish_bench.c */
int bench_start(void);        /* start_bench.c */
int bench_train(void);        /* train_bench.c: whole steps */
int bench_trainer(void);      /* trainer_bench.c: head and optimizer alone */

extern const char *bench_weir;   /* the binary, --weir */
extern const char *bench_python; /* a python3 that has torch, --python; NULL: none, no peer */
extern const char *bench_device; /* of the gpu-* benchmarks, --device */
extern bool bench_quick;         /* gpu-*: tiny shapes, --quick: shows that they work */

typedef void bench_fn(void *ctx);

struct bench_pair {
    double ratio, ratio_min, ratio_max; /* time of b / time of a: how many times faster a is */
    double a_us, b_us;                  /* medians of one call */
    int n;
};

/* Clocks: of the wall, or with bench_by_cpu of this process's processors, which does not see what
 * other processes take. The latter is right only for work of one thread that waits for nothing. */
extern bool bench_by_cpu;
uint64_t bench_now_us(void);
uint64_t bench_cpu_us(void);

/* Times a and b alternately, each turn repeating the call for at least turn_us. */
struct bench_pair bench_pairs(bench_fn *a, void *a_ctx, bench_fn *b, void *b_ctx, int pairs,
                              uint64_t turn_us);
double bench_time_us(bench_fn *f, void *ctx, uint64_t turn_us); /* of one call */
double bench_median(double *x, int n);                          /* sorts x */
/* The summary of times that were taken elsewhere, in turn. Sorts all but keeps pairs together. */
struct bench_pair bench_summary(double *a_us, double *b_us, int n);
int bench_threads(void); /* one for each processor */
/* Of `bytes` of memory, aligned to 16, read once by so many threads (read.c). */
double bench_read_gb_s(const void *memory, size_t bytes, int threads);
void bench_must(int rc, const char *what); /* ends the benchmark, naming what failed */

#endif
