/* gpu_exact_bench.c - invariant I6 at the published shapes (weir-bench gpu-exact): rows of every
 * product, and of the head's log-probs, have the same bits alone, in batches of a decode and in a
 * training forward. Where products come from a library, this is the test that its algorithms keep
 * the order of their sums whatever the number of rows. A difference is an error. */
#include "bench/gpu.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { ROWS = 1024, QUICK_ROWS = 12 };

struct exact {
    struct gpu g;
    int64_t rows;
    int failed;
};

/* Rows first..first+n-1 of x through w, compared with those rows of `whole` (on the host). */
static bool same(const struct exact *e, const struct kern_tensor *x, const struct kern_tensor *w,
                 struct kern_tensor *y, const char *whole, int64_t first, int64_t n) {
    const struct gpu *g = &e->g;
    size_t in = (size_t)x->dim[1] * kern_dtype_bytes(g->t);
    size_t out = (size_t)w->dim[0] * kern_dtype_bytes(y->dtype);
    struct kern_tensor part = kern_view2((char *)x->data + (size_t)first * in, g->t, n, x->dim[1]);
    struct kern_tensor into = kern_view2(y->data, y->dtype, n, w->dim[0]);
    char *host = mem_alloc((size_t)n * out);
    bench_must(kern_zero(g->b, g->s, y->data, (size_t)n * out), "zero");
    bench_must(kern_matmul(g->b, g->s, &into, &part, w, NULL, NULL), "matmul");
    bench_must(kern_get(g->b, g->s, host, y->data, (size_t)n * out), "get");
    bool equal = memcmp(host, whole + (size_t)first * out, (size_t)n * out) == 0;
    mem_free(host);
    return equal;
}

/* to: f32 for logits. */
static void check_product(struct exact *e, const struct gpu_model *m, int64_t out, int64_t in,
                          enum kern_dtype to) {
    const struct gpu *g = &e->g;
    static const int64_t sizes[] = {1, 2, 7, 16, 64, 100, 256, 777};
    struct kern_tensor x = gpu_tensor(g, g->t, e->rows, in), w = gpu_tensor(g, g->t, out, in);
    struct kern_tensor y = gpu_tensor(g, to, e->rows, out);
    size_t bytes = (size_t)(e->rows * out) * kern_dtype_bytes(to);
    char *whole = mem_alloc(bytes);
    int64_t wrong = 0, tried = 0;
    bench_must(kern_matmul(g->b, g->s, &y, &x, &w, NULL, NULL), "matmul");
    bench_must(kern_get(g->b, g->s, whole, y.data, bytes), "get");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t n = sizes[i], at[] = {0, e->rows / 3, e->rows - n};
        for (int k = 0; k < 3 && n <= e->rows; k++) {
            if (at[k] + n > e->rows) continue;
            tried++;
            if (!same(e, &x, &w, &y, whole, at[k], n) && !wrong++)
                fprintf(stderr, "weir-bench: %s [%lld, %lld]: rows %lld+%lld differ\n", m->name,
                        (long long)out, (long long)in, (long long)at[k], (long long)n);
        }
    }
    printf("{\"bench\": \"gpu exact\", \"device\": \"%s\", \"model\": \"%s\", \"dtype\": \"%s\", "
           "\"to\": \"%s\", \"out\": %lld, \"in\": %lld, \"rows\": %lld, \"windows\": %lld, "
           "\"different\": %lld}\n",
           bench_device, m->name, g->type, kern_dtype_name(to), (long long)out, (long long)in,
           (long long)e->rows, (long long)tried, (long long)wrong);
    fflush(stdout);
    e->failed += wrong > 0;
    mem_free(whole);
    gpu_free(g, &x);
    gpu_free(g, &w);
    gpu_free(g, &y);
}

int bench_gpu_exact(void) {
    const struct kern_limits l = {.rows = ROWS,
                                  .width_max = 151936,
                                  .heads = 32,
                                  .head_width = 128,
                                  .kv_max = 64,
                                  .bf16_width = 16384};
    struct exact e = {.rows = bench_quick ? QUICK_ROWS : ROWS};
    gpu_open(&e.g, &l);
    for (int i = 0; gpu_model(i); i++) {
        const struct gpu_model *m = gpu_model(i);
        const int64_t q = (int64_t)m->heads * m->head_width,
                      kv = (int64_t)m->kv_heads * m->head_width;
        check_product(&e, m, q, m->d, e.g.t);
        check_product(&e, m, kv, m->d, e.g.t);
        check_product(&e, m, m->d, q, e.g.t);
        check_product(&e, m, m->ffn, m->d, e.g.t);
        check_product(&e, m, m->d, m->ffn, e.g.t);
        check_product(&e, m, m->vocab, m->d, KERN_F32);
    }
    gpu_close(&e.g);
    return e.failed ? err_exit_code(ERR_MISMATCH) : 0;
}
