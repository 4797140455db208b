/* cublaslt.cu - products through cuBLASLt, loaded with dlopen so that the plugin loads without it.
 *
 * Batch invariance (I6): the library's heuristic is asked once for each (op, N, K, dtypes), with a
 * fixed number of rows and without workspace, so that no algorithm that splits K is offered; the
 * algorithm is kept and used for any M. An element's sum is then made by one tile in one order
 * whatever M is. What was chosen is logged once. f32 products are f32, never TF32.
 *
 * A stream that is not exact (kern_exact) asks for each power of two of M, with the stream's
 * scratch as workspace: tiles for that M, and K split where M alone does not fill the device. Only
 * reductions that add parts in a fixed order are allowed, and the choice is a function of the call,
 * so repetition gives the same bits. */
#include "kernels/cuda/gemm.h"

#if CUDA_ON_DEVICE
#include <cublasLt.h>
#include <dlfcn.h>

extern "C" {
#include "base/log.h"
}

#define LT_CALLS(X)                                                                                \
    X(cublasLtCreate)                                                                              \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmulAlgoConfigGetAttribute)

struct lt { /* the library, once per process */
    void *so;
    cublasLtHandle_t handle;
#define LT_MEMBER(name) decltype(&name) p_##name;
    LT_CALLS(LT_MEMBER)
#undef LT_MEMBER
};

static const int LT_ROWS = 256, LT_CACHE = 1024;
static const size_t LT_WORKSPACE = 32 << 20;

struct lt_key { /* column-major as the library sees it: D[m,n] = op(A)[m,k] op(B)[k,n]; 0: the rows
                   of the batch, any number */
    int64_t m, n, k;
    cublasOperation_t ta, tb;
    cudaDataType_t in, out;
    bool bias;
    int64_t rows;     /* 0: one algorithm for any; else for about so many */
    size_t workspace; /* with rows */
};

struct lt_entry {
    struct lt_key key;
    cublasLtMatmulAlgo_t algo;
    bool usable;
};

static struct lt lt;
static struct lt_entry cache[LT_CACHE];
static int n_cached, oldest, state; /* state: 0: not tried, 1: there, -1: not */

static bool lt_load(void) {
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    if (state) return state > 0;
    state = -1;
    for (int i = 0; !lt.so && i < 3; i++)
        lt.so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!lt.so) {
        LOG(WARN, KERN, "cublaslt=absent products=own because=\"%s\"", dlerror());
        return false;
    }
#define LT_FIND(name)                                                                              \
    lt.p_##name = reinterpret_cast<decltype(&name)>(dlsym(lt.so, #name));                          \
    if (!lt.p_##name) return false;
    LT_CALLS(LT_FIND)
#undef LT_FIND
    if (lt.p_cublasLtCreate(&lt.handle) != CUBLAS_STATUS_SUCCESS) return false;
    state = 1;
    return true;
}

struct lt_call { /* descriptors of one product */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
};

static void call_close(struct lt_call *c) {
    if (c->desc) lt.p_cublasLtMatmulDescDestroy(c->desc);
    if (c->a) lt.p_cublasLtMatrixLayoutDestroy(c->a);
    if (c->b) lt.p_cublasLtMatrixLayoutDestroy(c->b);
    if (c->d) lt.p_cublasLtMatrixLayoutDestroy(c->d);
}

static bool layout(cublasLtMatrixLayout_t *out, cudaDataType_t t, cublasOperation_t op, int64_t r,
                   int64_t c) {
    uint64_t rows = (uint64_t)(op == CUBLAS_OP_T ? c : r);
    uint64_t cols = (uint64_t)(op == CUBLAS_OP_T ? r : c);
    return lt.p_cublasLtMatrixLayoutCreate(out, t, rows, cols, (int64_t)rows) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool lt_set(struct lt_call *c, cublasLtMatmulDescAttributes_t what, const void *v,
                   size_t n) {
    return lt.p_cublasLtMatmulDescSetAttribute(c->desc, what, v, n) == CUBLAS_STATUS_SUCCESS;
}

/* rows: of the batch, in place of the key's 0. */
static bool call_open(struct lt_call *c, const struct lt_key *k, int64_t rows, const void *bias) {
    int64_t n = k->n ? k->n : rows, depth = k->k ? k->k : rows;
    *c = lt_call{};
    if (lt.p_cublasLtMatmulDescCreate(&c->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) !=
        CUBLAS_STATUS_SUCCESS)
        return false;
    bool ok = lt_set(c, CUBLASLT_MATMUL_DESC_TRANSA, &k->ta, sizeof k->ta) &&
              lt_set(c, CUBLASLT_MATMUL_DESC_TRANSB, &k->tb, sizeof k->tb) &&
              layout(&c->a, k->in, k->ta, k->m, depth) && layout(&c->b, k->in, k->tb, depth, n) &&
              layout(&c->d, k->out, CUBLAS_OP_N, k->m, n);
    if (!ok || !k->bias) return ok;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    return lt_set(c, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           lt_set(c, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias) &&
           lt_set(c, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &k->in, sizeof k->in);
}

static void say_choice(const struct lt_key *k, const cublasLtMatmulAlgo_t *algo) {
    int id = -1, tile = -1, split = -1;
    size_t n;
    lt.p_cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &n);
    lt.p_cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile,
                                              sizeof tile, &n);
    lt.p_cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                              sizeof split, &n);
    LOG(INFO, KERN, "cublaslt m=%lld n=%lld k=%lld rows=%lld algo=%d tile=%d splitk=%d",
        (long long)k->m, (long long)k->n, (long long)k->k, (long long)k->rows, id, tile, split);
}

/* The library's first choice for this product. On an exact stream it is asked for LT_ROWS rows,
 * whatever the batch has, and may not split the sum: a row's bits depend on neither then. */
static bool choose_algorithm(struct lt_entry *e) {
    struct lt_call c;
    cublasLtMatmulPreference_t pref = nullptr;
    cublasLtMatmulHeuristicResult_t r = {};
    const struct lt_key *k = &e->key;
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    if (k->rows) reduction |= CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int found = 0;
    bool ok =
        call_open(&c, k, k->rows ? k->rows : LT_ROWS, nullptr) &&
        lt.p_cublasLtMatmulPreferenceCreate(&pref) == CUBLAS_STATUS_SUCCESS &&
        lt.p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &k->workspace,
                                                  sizeof k->workspace) == CUBLAS_STATUS_SUCCESS &&
        lt.p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &reduction,
                                                  sizeof reduction) == CUBLAS_STATUS_SUCCESS &&
        lt.p_cublasLtMatmulAlgoGetHeuristic(lt.handle, c.desc, c.a, c.b, c.d, c.d, pref, 1, &r,
                                            &found) == CUBLAS_STATUS_SUCCESS;
    if (pref) lt.p_cublasLtMatmulPreferenceDestroy(pref);
    call_close(&c);
    e->algo = r.algo;
    if (ok && found > 0) say_choice(&e->key, &e->algo);
    return ok && found > 0;
}

static struct lt_entry *entry_of(const struct lt_key *k) {
    for (int i = 0; i < n_cached; i++) {
        const struct lt_key *have = &cache[i].key;
        if (have->m == k->m && have->n == k->n && have->k == k->k && have->ta == k->ta &&
            have->tb == k->tb && have->in == k->in && have->out == k->out &&
            have->bias == k->bias && have->rows == k->rows && have->workspace == k->workspace)
            return &cache[i];
    }
    /* A full cache forgets: what it would have said is found again. */
    struct lt_entry *e = &cache[n_cached < LT_CACHE ? n_cached++ : oldest++ % LT_CACHE];
    e->key = *k;
    e->usable = choose_algorithm(e);
    return e;
}

static cudaDataType_t type_of(kern_arg t) {
    return t->dtype == KERN_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

struct lt_operands {
    const void *a, *b, *bias;
    void *d;
    bool accumulate;
};

static int lt_multiply(ops_s s, const struct lt_key *k, int64_t rows, const struct lt_operands *x) {
    struct lt_call c;
    float one = 1, beta = x->accumulate ? 1 : 0;
    struct lt_entry *e = entry_of(k);
    if (!e->usable) return ERR_UNSUP;
    cublasStatus_t rc = CUBLAS_STATUS_NOT_SUPPORTED;
    if (call_open(&c, k, rows, x->bias))
        rc = lt.p_cublasLtMatmul(lt.handle, c.desc, &one, x->a, c.a, x->b, c.b, &beta, x->d, c.d,
                                 x->d, c.d, &e->algo, k->workspace ? s->scratch : nullptr,
                                 k->workspace, s->on);
    call_close(&c);
    if (rc == CUBLAS_STATUS_SUCCESS) return 0;
    if (k->rows) return ERR_UNSUP; /* chosen for another M, which this one cannot have */
    return FAIL(ERR_DEVICE, "cublasLtMatmul: status %d", (int)rc);
}

static int lt_run(ops_s s, const struct lt_key *k, int64_t rows, const struct lt_operands *x) {
    if (!lt_load()) return ERR_UNSUP;
    struct lt_key fast = *k;
    for (fast.rows = 1; fast.rows < rows;)
        fast.rows *= 2;
    fast.workspace = s->bytes < LT_WORKSPACE ? s->bytes : LT_WORKSPACE;
    int rc = s->inexact ? lt_multiply(s, &fast, rows, x) : ERR_UNSUP;
    return rc == ERR_UNSUP ? lt_multiply(s, k, rows, x) : rc;
}

/* Row-major C[n,o] = X W^T is column-major C^T[o,n] = (W^T as stored)^T X^T. */
int cublaslt_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg bias) {
    struct lt_key k = {.m = y->dim[1],
                       .n = 0,
                       .k = x->dim[1],
                       .ta = CUBLAS_OP_T,
                       .tb = CUBLAS_OP_N,
                       .in = type_of(x),
                       .out = type_of(y),
                       .bias = bias != nullptr,
                       .rows = 0,
                       .workspace = 0};
    struct lt_operands o = {w->data, x->data, bias ? bias->data : nullptr, y->data, false};
    return lt_run(s, &k, y->dim[0], &o);
}

int cublaslt_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate) {
    struct lt_key k = {.m = gx->dim[1],
                       .n = 0,
                       .k = gy->dim[1],
                       .ta = CUBLAS_OP_N,
                       .tb = CUBLAS_OP_N,
                       .in = type_of(gy),
                       .out = type_of(gx),
                       .bias = false,
                       .rows = 0,
                       .workspace = 0};
    struct lt_operands o = {w->data, gy->data, nullptr, gx->data, accumulate};
    return lt_run(s, &k, gx->dim[0], &o);
}

int cublaslt_matmul_dw(ops_s s, kern_arg gw, kern_arg gy, kern_arg x) {
    struct lt_key k = {.m = gw->dim[1],
                       .n = gw->dim[0],
                       .k = 0,
                       .ta = CUBLAS_OP_N,
                       .tb = CUBLAS_OP_T,
                       .in = type_of(gy),
                       .out = type_of(gw),
                       .bias = false,
                       .rows = 0,
                       .workspace = 0};
    struct lt_operands o = {x->data, gy->data, nullptr, gw->data, true};
    return lt_run(s, &k, gy->dim[0], &o);
}

#else

int cublaslt_matmul(ops_s, kern_arg, kern_arg, kern_arg, kern_arg) {
    return ERR_UNSUP;
}

int cublaslt_matmul_dx(ops_s, kern_arg, kern_arg, kern_arg, bool) {
    return ERR_UNSUP;
}

int cublaslt_matmul_dw(ops_s, kern_arg, kern_arg, kern_arg) {
    return ERR_UNSUP;
}

#endif
