/* kernels_bench.c - matrix products of the cpu backend against libraries.
 *
 * Weights packed once (as decoding uses them) and packed on the fly, against
 * OpenBLAS and oneDNN if their shared libraries are on the machine; they are looked up at run time
 * and are no dependency. All on one thread and by processor time: idle threads of these libraries
 * spin for a while, which would take a core from whatever is timed next. */
#include "bench/bench.h"

#include "base/mem.h"
#include "kernels/kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 9, TURN_US = 20000 };

typedef void sgemm_fn(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef int dnnl_fn(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

static struct libs {
    sgemm_fn *openblas;
    dnnl_fn *dnnl;
} libs;

struct job {
    const struct kern_backend *b;
    struct kern_stream *s;
    struct kern_tensor x, w, y, packed;
    bool use_packed;
    enum what { FORWARD, DX, DW } what;
};

/* ISO C has no conversion between object and function pointers. */
static void look_up(void *out, size_t size, const char *lib, const char *symbol) {
    void *so = dlopen(lib, RTLD_NOW | RTLD_LOCAL);
    void *p = so ? dlsym(so, symbol) : NULL;
    memcpy(out, &p, size);
}

static struct kern_tensor matrix(const struct kern_backend *b, int64_t n, int64_t m) {
    void *p = NULL;
    bench_must(kern_alloc(b, &p, (size_t)(n * m) * sizeof(float)), "alloc");
    for (int64_t i = 0; i < n * m; i++)
        ((float *)p)[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f;
    return kern_view2(p, KERN_F32, n, m);
}

static void own(void *ctx) {
    struct job *j = ctx;
    if (j->what == FORWARD)
        bench_must(
            kern_matmul(j->b, j->s, &j->y, &j->x, &j->w, j->use_packed ? &j->packed : NULL, NULL),
            "matmul");
    else if (j->what == DX)
        bench_must(kern_matmul_dx(j->b, j->s, &j->x, &j->y, &j->w, false), "matmul_dx");
    else
        bench_must(kern_matmul_dw(j->b, j->s, &j->w, NULL, &j->y, &j->x), "matmul_dw");
}

static void openblas(void *ctx) {
    struct job *j = ctx;
    const int m = (int)j->y.dim[0], n = (int)j->y.dim[1], k = (int)j->x.dim[1];
    float *x = j->x.data, *w = j->w.data, *y = j->y.data;
    if (j->what == FORWARD)
        libs.openblas(101, 111, 112, m, n, k, 1, x, k, w, k, 0, y, n);
    else if (j->what == DX)
        libs.openblas(101, 111, 111, m, k, n, 1, y, n, w, k, 0, x, k);
    else
        libs.openblas(101, 112, 111, n, k, m, 1, y, n, x, k, 1, w, k);
}

static void dnnl(void *ctx) {
    struct job *j = ctx;
    const int64_t m = j->y.dim[0], n = j->y.dim[1], k = j->x.dim[1];
    float *x = j->x.data, *w = j->w.data, *y = j->y.data;
    int rc = 0;
    if (j->what == FORWARD)
        rc = libs.dnnl('N', 'T', m, n, k, 1, x, k, w, k, 0, y, n);
    else if (j->what == DX)
        rc = libs.dnnl('N', 'N', m, k, n, 1, y, n, w, k, 0, x, k);
    else
        rc = libs.dnnl('T', 'N', n, k, m, 1, y, n, x, k, 1, w, k);
    if (rc) fprintf(stderr, "weir-bench: oneDNN failed: %d\n", rc);
}

static void against(struct job *j, const char *name, bench_fn *peer) {
    static const char *const what[] = {"matmul", "matmul_dx", "matmul_dw"};
    struct bench_pair p = bench_pairs(own, j, peer, j, PAIRS, TURN_US);
    double flops = 2.0 * (double)j->y.dim[0] * (double)j->y.dim[1] * (double)j->x.dim[1];
    printf("{\"bench\": \"%s\", \"m\": %lld, \"n\": %lld, \"k\": %lld, \"packed\": %s, "
           "\"against\": \"%s\", \"ratio\": %.3f, \"min\": %.3f, \"max\": %.3f, \"pairs\": %d, "
           "\"own_gflops\": %.1f, \"peer_gflops\": %.1f}\n",
           what[j->what], (long long)j->y.dim[0], (long long)j->y.dim[1], (long long)j->x.dim[1],
           j->use_packed ? "true" : "false", name, p.ratio, p.ratio_min, p.ratio_max, p.n,
           flops / p.a_us / 1e3, flops / p.b_us / 1e3);
    fflush(stdout);
}

static void gemm(const struct kern_backend *b, struct kern_stream *s, int64_t m, int64_t n,
                 int64_t k, enum what what, bool packed) {
    struct job j = {.b = b, .s = s, .use_packed = packed};
    j.what = what;
    j.x = matrix(b, m, k);
    j.w = matrix(b, n, k);
    j.y = matrix(b, m, n);
    j.packed = matrix(b, 1, (int64_t)(kern_pack_bytes(b, KERN_F32, n, k) / sizeof(float)));
    if (packed) bench_must(kern_pack_weight(b, s, &j.packed, &j.w), "pack");
    if (libs.openblas) against(&j, "openblas", openblas);
    if (libs.dnnl) against(&j, "onednn", dnnl);
    if (!libs.openblas && !libs.dnnl) against(&j, "itself", own);
    kern_release(b, j.x.data);
    kern_release(b, j.w.data);
    kern_release(b, j.y.data);
    kern_release(b, j.packed.data);
}

int bench_kernels(void) {
    static const int64_t small[] = {1, 8, 16, 32, 64};
    static const int64_t large[][3] = {
        {512, 768, 768}, {512, 2048, 768}, {512, 32000, 768}, {2048, 2048, 2048}};
    struct kern_limits l = {.rows = 4096, .width_max = 32000, .heads = 32, .head_width = 64};
    const struct kern_backend *b = NULL;
    struct kern_stream *s = NULL;
    bench_by_cpu = true;
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    look_up(&libs.openblas, sizeof libs.openblas, "libopenblas.so.0", "cblas_sgemm");
    look_up(&libs.dnnl, sizeof libs.dnnl, "libdnnl.so.2", "dnnl_sgemm");
    bench_must(kern_open(&b, "cpu", 1), "cpu");
    bench_must(kern_stream_open(b, &s, kern_scratch_bytes(b, &l)), "stream");
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        gemm(b, s, small[i], 2048, 768, FORWARD, true);
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        gemm(b, s, large[i][0], large[i][1], large[i][2], FORWARD, true);
        gemm(b, s, large[i][0], large[i][1], large[i][2], FORWARD, false);
        gemm(b, s, large[i][0], large[i][1], large[i][2], DX, false);
        gemm(b, s, large[i][0], large[i][1], large[i][2], DW, false);
    }
    kern_stream_close(b, s);
    kern_close(b);
    return 0;
}
