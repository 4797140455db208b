/* gpu.h - what the benchmarks of a device share (gpu*_bench.c): published shapes, device memory,
 * and times taken in turn with a ceiling that was measured in the same run. */
#ifndef BENCH_GPU_H
#define BENCH_GPU_H

#include "actor/shape.h"
#include "bench/bench.h"
#include "kernels/kernels.h"

#include <stdbool.h>

struct gpu {
    const struct kern_backend *b;
    struct kern_stream *s;
    enum kern_dtype t; /* of activations and weights: bf16 if the ops take it */
    const char *type;
    int pairs;
};

struct gpu_model {
    const char *name;
    int32_t d, layers, heads, kv_heads, head_width, ffn, vocab;
    bool tied, qk_norm;
};

/* Qwen3-0.6B, 1.7B, 4B and Llama-3-8B; tiny ones in a quick run. NULL behind the last. */
const struct gpu_model *gpu_model(int i);
/* f32; bf16: bf16 */
struct shape gpu_shape(const struct gpu_model *m, int32_t layers, int32_t context, bool bf16);

void gpu_open(struct gpu *g, const struct kern_limits *l);
void gpu_close(struct gpu *g);
/* Memory of the device, filled with small numbers that differ (zeros would be faster than life). */
struct kern_tensor gpu_tensor(const struct gpu *g, enum kern_dtype t, int64_t n, int64_t m);
void gpu_fill(const struct gpu *g, const struct kern_tensor *t);
struct kern_tensor gpu_ints(const struct gpu *g, const int32_t *x, int64_t n, int64_t m);
void gpu_free(const struct gpu *g, struct kern_tensor *t);

struct gpu_work { /* something that can be timed: issued on the stream, not waited for */
    bench_fn *run;
    void *ctx;
    double amount; /* operations or bytes of one call */
};

/* The ceilings: a square matrix product of g->t, and a copy. */
struct gpu_ceiling {
    struct gpu *g;
    struct kern_tensor a, b, c;
    struct gpu_work work;
};
void gpu_product_open(struct gpu_ceiling *c, struct gpu *g);
void gpu_copy_open(struct gpu_ceiling *c, struct gpu *g);
void gpu_ceiling_close(struct gpu_ceiling *c);

struct gpu_result {
    double share, share_min, share_max; /* rate of the work / rate of the ceiling */
    double us, rate, ceiling_rate;      /* rates: operations or bytes a microsecond */
    int n;
};
/* In turn: the work, the ceiling, the work ... */
struct gpu_result gpu_against(struct gpu *g, const struct gpu_work *work,
                              const struct gpu_ceiling *ceiling);
/* The same work on stream s (its own; NULL: g's) without exactness (kern_exact), after r was taken
 * with it, and a line {"bench": "gpu exact cost", "of": ...} with the ratio. Nothing on a backend
 * that is always exact. */
void gpu_print_cost(struct gpu *g, struct kern_stream *s, const char *of,
                    const struct gpu_work *work, const struct gpu_ceiling *ceiling,
                    const struct gpu_result *r);
/* That line alone: exact and fast, each as a share of the same ceiling. */
void gpu_print_ratio(const char *of, const struct gpu_result *exact, const struct gpu_result *fast);
/* Ends a JSON line that was begun: shares, time and rates; unit: TFLOP/s (1e6) or GB/s (1e3). */
void gpu_print_end(const struct gpu_result *r, const char *against, const char *unit, double per);

#endif
