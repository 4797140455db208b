/* op_cases.c - the table of ops and shapes: sizes of one, odd sizes, tails of every vector width,
 * grouped heads, windows, several sequences, page sizes, permuted page tables. */
#include "tests/op/op.h"

#include "base/mem.h"
#include "base/rng.h"

#include <string.h>

typedef struct kern_tensor *arg;

static void embed(struct op_run *r, const int64_t *p) { /* n, d, vocabulary */
    arg out = op_rows(r, "out", OP_NAN, p[0], p[1], 0);
    arg table = op_whole(r, "table", OP_NORMAL, p[2], p[1], 0, 0);
    CHECK_OK(kern_embed(r->b, r->s, out, table, op_index(r, "ids", p[0], p[2], false)));
}

static void gather(struct op_run *r, const int64_t *p) { /* n, d, rows of x */
    arg out = op_rows(r, "out", OP_NAN, p[0], p[1], 0);
    arg x = op_whole(r, "x", OP_NORMAL, p[2], p[1], 0, 0);
    CHECK_OK(kern_gather(r->b, r->s, out, x, op_index(r, "rows", p[0], p[2], true)));
}

static void embed_bwd(struct op_run *r, const int64_t *p) {
    arg table = op_whole(r, "gtable", OP_KEEP, p[2], p[1], 0, 0);
    arg g = op_rows(r, "gout", OP_NORMAL, p[0], p[1], 0);
    CHECK_OK(kern_embed_bwd(r->b, r->s, table, g, op_index(r, "ids", p[0], p[2], false)));
}

static void scatter_add(struct op_run *r, const int64_t *p) {
    arg x = op_whole(r, "x", OP_KEEP, p[2], p[1], 0, 0);
    arg g = op_rows(r, "g", OP_NORMAL, p[0], p[1], 0);
    CHECK_OK(kern_scatter_add(r->b, r->s, x, g, op_index(r, "rows", p[0], p[2], true)));
}

static void kv_write(struct op_run *r, const int64_t *p) { /* n, Hkv, D, pages, page */
    arg pk = op_whole(r, "pool_k", OP_KEEP, p[3], p[4], p[1], p[2]);
    arg pv = op_whole(r, "pool_v", OP_KEEP, p[3], p[4], p[1], p[2]);
    arg k = op_rows(r, "k", OP_NORMAL, p[0], p[1], p[2]);
    arg v = op_rows(r, "v", OP_NORMAL, p[0], p[1], p[2]);
    CHECK_OK(kern_kv_write(r->b, r->s, pk, pv, k, v, op_index(r, "slot", p[0], p[3] * p[4], true)));
}

static void kv_read(struct op_run *r, const int64_t *p) {
    arg pk = op_whole(r, "pool_k", OP_NORMAL, p[3], p[4], p[1], p[2]);
    arg pv = op_whole(r, "pool_v", OP_NORMAL, p[3], p[4], p[1], p[2]);
    arg k = op_rows(r, "k", OP_NAN, p[0], p[1], p[2]);
    arg v = op_rows(r, "v", OP_NAN, p[0], p[1], p[2]);
    CHECK_OK(kern_kv_read(r->b, r->s, k, v, pk, pv, op_index(r, "slot", p[0], p[3] * p[4], true)));
}

static void rmsnorm(struct op_run *r, const int64_t *p) { /* n, d */
    arg out = op_rows(r, "out", OP_NAN, p[0], p[1], 0);
    arg x = op_rows(r, "x", OP_NORMAL, p[0], p[1], 0);
    CHECK_OK(kern_rmsnorm(r->b, r->s, out, x, op_whole(r, "w", OP_POSITIVE, p[1], 0, 0, 0), 1e-5f));
}

static void rmsnorm_bwd(struct op_run *r, const int64_t *p) { /* n, d, accumulate */
    arg gx = op_rows(r, "gx", p[2] ? OP_KEEP : OP_NAN, p[0], p[1], 0);
    arg gw = op_whole(r, "gw", OP_KEEP, p[1], 0, 0, 0);
    arg g = op_rows(r, "gout", OP_NORMAL, p[0], p[1], 0);
    arg x = op_rows(r, "x", OP_NORMAL, p[0], p[1], 0);
    arg w = op_whole(r, "w", OP_POSITIVE, p[1], 0, 0, 0);
    CHECK_OK(kern_rmsnorm_bwd(r->b, r->s, gx, gw, g, x, w, 1e-5f, p[2] != 0));
}

static void matmul(struct op_run *r, const int64_t *p) { /* n, out, in, bias, f32 result */
    arg y = op_rows(r, p[4] ? "y32" : "y", OP_NAN, p[0], p[1], 0);
    arg x = op_rows(r, "x", OP_NORMAL, p[0], p[2], 0);
    arg w = op_whole(r, "w", OP_NORMAL, p[1], p[2], 0, 0);
    arg bias = p[3] ? op_whole(r, "bias", OP_NORMAL, p[1], 0, 0, 0) : NULL;
    const size_t bytes = kern_pack_bytes(r->b, w->dtype, p[1], p[2]);
    struct kern_tensor packed = kern_view1(NULL, KERN_F32, (int64_t)(bytes / 4)), shape = *w;
    if (!r->packed || bytes == 0) {
        CHECK_OK(kern_matmul(r->b, r->s, y, x, w, NULL, bias));
        return;
    }
    CHECK_OK(kern_alloc(r->b, &packed.data, bytes));
    CHECK_OK(kern_pack_weight(r->b, r->s, &packed, w));
    shape.data = NULL;
    CHECK_OK(kern_matmul(r->b, r->s, y, x, &shape, &packed, bias));
    CHECK_OK(kern_sync(r->b, r->s));
    kern_release(r->b, packed.data);
}

static void matmul_dx(struct op_run *r, const int64_t *p) { /* n, out, in, accumulate */
    arg gx = op_rows(r, "gx", p[3] ? OP_KEEP : OP_NAN, p[0], p[2], 0);
    arg gy = op_rows(r, "gy", OP_NORMAL, p[0], p[1], 0);
    arg w = op_whole(r, "w", OP_NORMAL, p[1], p[2], 0, 0);
    CHECK_OK(kern_matmul_dx(r->b, r->s, gx, gy, w, p[3] != 0));
}

static void matmul_dw(struct op_run *r, const int64_t *p) { /* n, out, in, bias */
    arg gw = op_whole(r, "gw", OP_KEEP, p[1], p[2], 0, 0);
    arg gb = p[3] ? op_whole(r, "gbias", OP_KEEP, p[1], 0, 0, 0) : NULL;
    arg gy = op_rows(r, "gy", OP_NORMAL, p[0], p[1], 0);
    arg x = op_rows(r, "x", OP_NORMAL, p[0], p[2], 0);
    CHECK_OK(kern_matmul_dw(r->b, r->s, gw, gb, gy, x));
}

static void rope(struct op_run *r, const int64_t *p) { /* n, H, D, positions, inverse */
    arg x = op_rows(r, "x", OP_KEEP, p[0], p[1], p[2]);
    arg c = op_whole(r, "cos", OP_NORMAL, p[3], p[2] / 2, 0, 0);
    arg s = op_whole(r, "sin", OP_NORMAL, p[3], p[2] / 2, 0, 0);
    CHECK_OK(kern_rope(r->b, r->s, x, op_index(r, "pos", p[0], p[3], false), c, s, p[4] != 0));
}

static void add_rmsnorm(struct op_run *r, const int64_t *p) { /* n, d, sum: 0 apart, 1 x, 2 r */
    arg out = op_rows(r, "out", OP_NAN, p[0], p[1], 0);
    arg x = op_rows(r, "x", p[2] == 1 ? OP_KEEP : OP_NORMAL, p[0], p[1], 0);
    arg y = op_rows(r, "r", p[2] == 2 ? OP_KEEP : OP_NORMAL, p[0], p[1], 0);
    arg sum = p[2] == 1 ? x : p[2] == 2 ? y : op_rows(r, "sum", OP_NAN, p[0], p[1], 0);
    arg w = op_whole(r, "w", OP_POSITIVE, p[1], 0, 0, 0);
    CHECK_OK(kern_add_rmsnorm(r->b, r->s, out, sum, x, y, w, 1e-5f));
}

static void norm_rope(struct op_run *r, const int64_t *p) { /* n, H, D, positions, w, in place */
    arg q0 = op_rows(r, "q0", p[5] ? OP_KEEP : OP_NORMAL, p[0], p[1], p[2]);
    arg q = p[5] ? q0 : op_rows(r, "q", OP_NAN, p[0], p[1], p[2]);
    arg w = p[4] ? op_whole(r, "w", OP_POSITIVE, p[2], 0, 0, 0) : NULL;
    arg c = op_whole(r, "cos", OP_NORMAL, p[3], p[2] / 2, 0, 0);
    arg s = op_whole(r, "sin", OP_NORMAL, p[3], p[2] / 2, 0, 0);
    arg pos = op_index(r, "pos", p[0], p[3], false);
    CHECK_OK(kern_norm_rope(r->b, r->s, q, q0, w, 1e-5f, pos, c, s));
}

static void swiglu(struct op_run *r, const int64_t *p) { /* n, f */
    arg out = op_rows(r, "out", OP_NAN, p[0], p[1], 0);
    arg gate = op_rows(r, "gate", OP_NORMAL, p[0], p[1], 0);
    CHECK_OK(kern_swiglu(r->b, r->s, out, gate, op_rows(r, "up", OP_NORMAL, p[0], p[1], 0)));
}

static void swiglu_bwd(struct op_run *r, const int64_t *p) { /* n, f, in place */
    arg gate = op_rows(r, "gate", p[2] ? OP_KEEP : OP_NORMAL, p[0], p[1], 0);
    arg up = op_rows(r, "up", p[2] ? OP_KEEP : OP_NORMAL, p[0], p[1], 0);
    arg gout = op_rows(r, "gout", OP_NORMAL, p[0], p[1], 0);
    arg ggate = p[2] ? gate : op_rows(r, "ggate", OP_NAN, p[0], p[1], 0);
    arg gup = p[2] ? up : op_rows(r, "gup", OP_NAN, p[0], p[1], 0);
    CHECK_OK(kern_swiglu_bwd(r->b, r->s, ggate, gup, gout, gate, up));
}

static void add(struct op_run *r, const int64_t *p) { /* n, d, in place */
    arg a = op_rows(r, "a", p[2] ? OP_KEEP : OP_NORMAL, p[0], p[1], 0);
    arg b = op_rows(r, "b", OP_NORMAL, p[0], p[1], 0);
    CHECK_OK(kern_add(r->b, r->s, p[2] ? a : op_rows(r, "out", OP_NAN, p[0], p[1], 0), a, b));
}

static void logprob(struct op_run *r, const int64_t *p) { /* n, V, entropy */
    arg logits = op_rows(r, "logits", OP_NORMAL, p[0], p[1], 0);
    arg target = op_index(r, "target", p[0], p[1], false);
    arg inv = op_rows(r, "inv_temp", OP_POSITIVE, p[0], 0, 0);
    arg lp = op_rows(r, "logprob", OP_NAN, p[0], 0, 0), lse = op_rows(r, "lse", OP_NAN, p[0], 0, 0);
    arg h = p[2] ? op_rows(r, "entropy", OP_NAN, p[0], 0, 0) : NULL;
    CHECK_OK(kern_logprob(r->b, r->s, lp, h, lse, logits, target, inv));
}

static void logprob_bwd(struct op_run *r, const int64_t *p) { /* n, V, entropy */
    arg logits = op_rows(r, "logits", OP_KEEP, p[0], p[1], 0);
    arg target = op_index(r, "target", p[0], p[1], false);
    arg inv = op_rows(r, "inv_temp", OP_POSITIVE, p[0], 0, 0);
    arg glp = op_rows(r, "g_logprob", OP_NORMAL, p[0], 0, 0);
    arg lse = op_rows(r, "lse", OP_POSITIVE, p[0], 0, 0);
    arg gh = p[2] ? op_rows(r, "g_entropy", OP_NORMAL, p[0], 0, 0) : NULL;
    arg h = p[2] ? op_rows(r, "entropy", OP_POSITIVE, p[0], 0, 0) : NULL;
    CHECK_OK(kern_logprob_bwd(r->b, r->s, logits, glp, gh, h, lse, target, inv));
}

static void sample(struct op_run *r, const int64_t *p) { /* n, V, temperature %, top_p %, top_k */
    const int64_t n = p[0];
    arg token = op_ints_out(r, "token", n), lp = op_rows(r, "logprob", OP_NAN, n, 0, 0);
    arg kept = op_rows(r, "kept", OP_NAN, n, 0, 0);
    arg logits = op_rows(r, "logits", OP_NORMAL, n, p[1], 0);
    arg temp = op_rows(r, "temperature", OP_NORMAL, n, 0, 0);
    arg top_p = op_rows(r, "top_p", OP_NORMAL, n, 0, 0);
    arg u = op_rows(r, "uniform", OP_UNIFORM, n, 2, 0);
    float *x = mem_array((size_t)n * 2, sizeof *x);
    int32_t *k = mem_array((size_t)n, sizeof *k);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)p[2] / 100;
        k[i] = (int32_t)p[4];
    }
    op_set(r, temp, x, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)p[3] / 100;
    op_set(r, top_p, x, n);
    for (int64_t i = 0; i < n; i++) { /* a double as high and low part */
        double d = op_random(r, 901, (uint64_t)i);
        x[2 * i] = (float)d;
        x[2 * i + 1] = (float)(d - (double)x[2 * i]);
    }
    op_set(r, u, x, 2 * n);
    arg top_k = op_ints(r, "top_k", k, n, 0);
    CHECK_OK(kern_sample(r->b, r->s, token, lp, kept, logits, temp, top_p, top_k, u));
    mem_free(x);
    mem_free(k);
}

static void cast(struct op_run *r, const int64_t *p) { /* n: there and back */
    arg x = op_rows(r, "x", OP_NORMAL, p[0], 0, 0), y = op_rows(r, "y", OP_NAN, p[0], 0, 0);
    arg rounded = op_whole(r, "rounded", OP_KEEP, p[0], 0, 0, 0);
    struct kern_tensor h = *rounded;
    h.dtype = KERN_BF16;
    CHECK_OK(kern_cast(r->b, r->s, &h, x));
    CHECK_OK(kern_cast(r->b, r->s, y, &h));
}

/* Normal numbers as bf16, in the first half of the buffer. */
static struct kern_tensor bf16_of(struct op_run *r, const char *name, int64_t n) {
    arg x = op_whole(r, "wide", OP_NORMAL, n, 0, 0, 0);
    struct kern_tensor bf16 = *op_whole(r, name, OP_KEEP, n, 0, 0, 0);
    bf16.dtype = KERN_BF16;
    CHECK_OK(kern_cast(r->b, r->s, &bf16, x));
    return bf16;
}

static uint32_t bits_of(float x, bool rounded) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return rounded ? (u + 0x7fff + (u >> 16 & 1)) >> 16 : u;
}

static void *fetch(struct op_run *r, const void *from, size_t bytes) {
    void *x = mem_alloc(bytes);
    CHECK_OK(kern_get(r->b, r->s, x, from, bytes));
    return x;
}

/* Memory with content, outside what is compared between backends. */
static struct kern_tensor give(struct op_run *r, const void *x, enum kern_dtype t, int64_t n) {
    struct kern_tensor view = kern_view1(NULL, t, n);
    CHECK_OK(kern_alloc(r->b, &view.data, view.bytes));
    CHECK_OK(kern_put(r->b, r->s, view.data, x, view.bytes));
    return view;
}

static void check_rounded(struct op_run *r, const struct kern_tensor *rounded, const float *now) {
    uint16_t *x = fetch(r, rounded->data, rounded->bytes);
    for (int64_t i = 0; i < rounded->dim[0]; i++)
        CHECK_INT(x[i], bits_of(now[i], true));
    mem_free(x);
}

/* Every bit of the map is what the weights before and after say; those of other calls are as they
 * were. */
static void check_map(struct op_run *r, const struct kern_adamw *a, const float *was,
                      const float *now, int64_t n, const uint32_t *map_was) {
    const bool rounded = a->rounded.data != NULL;
    uint32_t *map = fetch(r, a->changed.data, a->changed.bytes);
    for (int64_t bit = 0; bit < 32 * a->changed.dim[0]; bit++) {
        int64_t i = bit - a->changed_at;
        bool before = map_was[bit / 32] >> bit % 32 & 1, ours = i >= 0 && i < (n + 15) / 16 * 16;
        bool want = !ours || a->changed_or ? before : false;
        if (i >= 0 && i < n) want |= bits_of(was[i], rounded) != bits_of(now[i], rounded);
        if ((map[bit / 32] >> bit % 32 & 1) == want) continue;
        test_fail(__FILE__, __LINE__, "adamw on %s: bit %lld of changed is %d", r->b->name,
                  (long long)bit, !want);
    }
    mem_free(map);
}

/* Rounded weights and bitmap are functions of the weights before and after; backends round those
 * differently, so they are held against the backend's own. */
static void adamw_policy(struct op_run *r, arg w, arg m, arg v, arg g, struct kern_adamw *a,
                         int64_t what) {
    const int64_t n = kern_elements(w), words = (a->changed_at + n) / 32 + 2;
    uint32_t *map = mem_array((size_t)words, sizeof *map);
    float *was = fetch(r, w->data, (size_t)n * sizeof *was);
    for (int64_t i = 0; i < words; i++)
        map[i] = (uint32_t)(op_random(r, 903, (uint64_t)i) * 4294967296.0);
    if (what != 2) a->rounded = give(r, was, KERN_BF16, n);
    if (what != 1) a->changed = give(r, map, KERN_I32, words);
    CHECK_OK(kern_adamw(r->b, r->s, w, m, v, g, a));
    float *now = fetch(r, w->data, (size_t)n * sizeof *now);
    if (what != 2) check_rounded(r, &a->rounded, now);
    if (what != 1) check_map(r, a, was, now, n, map);
    kern_release(r->b, a->rounded.data);
    kern_release(r->b, a->changed.data);
    mem_free(map);
    mem_free(was);
    mem_free(now);
}

/* n, step; along: 0 no, 1 f32, 2 bf16, 3 m; policy: 0 nothing, 1 rounded, 2 bitmap, 3 both, 4 both
 * and bits that were set stay; bitmap from bit 16 * p[4] on; learning rate in 1e-6 (0: 1e-2) */
static void adamw(struct op_run *r, const int64_t *p) {
    struct kern_adamw a = {.lr = p[5] ? (float)p[5] * 1e-6f : 1e-2f,
                           .beta1 = 0.9f,
                           .beta2 = 0.95f,
                           .eps = 1e-8f,
                           .weight_decay = 0.1f,
                           .step = p[1],
                           .grad_scale = 0.5f};
    arg w = op_whole(r, "w", OP_KEEP, p[0], 0, 0, 0), m = op_whole(r, "m", OP_KEEP, p[0], 0, 0, 0);
    arg v = op_whole(r, "v", OP_KEEP, p[0], 0, 0, 0),
        g = op_whole(r, "g", OP_NORMAL, p[0], 0, 0, 0);
    float *x = mem_array((size_t)p[0], sizeof *x);
    for (int64_t i = 0; i < p[0]; i++)
        x[i] = (float)op_random(r, 902, (uint64_t)i);
    op_set(r, v, x, p[0]); /* second moments are not negative */
    mem_free(x);
    a.along_scale = -0.75f;
    if (p[2] == 1) a.along = *op_whole(r, "along", OP_NORMAL, p[0], 0, 0, 0);
    if (p[2] == 2) a.keep = a.along = bf16_of(r, "along", p[0]); /* the gradient takes its place */
    if (p[2] == 3) a.along = *m;
    a.changed_at = 16 * p[4];
    a.changed_or = p[3] == 4;
    if (p[3] > 0)
        adamw_policy(r, w, m, v, g, &a, p[3]);
    else
        CHECK_OK(kern_adamw(r->b, r->s, w, m, v, g, &a));
}

static void count_bits(struct op_run *r, const int64_t *p) { /* n */
    int64_t bits = -1;
    float back;
    arg out = op_whole(r, "bits", OP_KEEP, 1, 0, 0, 0);
    CHECK_OK(kern_count_bits(r->b, r->s, &bits, op_index(r, "words", p[0], 65536, false)));
    back = (float)bits;
    op_set(r, out, &back, 1);
}

static void dot(struct op_run *r, const int64_t *p) { /* n, second vector: 0 no, 1 f32, 2 bf16 */
    double out[3] = {0};
    arg a = op_whole(r, "a", OP_NORMAL, p[0], 0, 0, 0),
        b = op_whole(r, "b", OP_NORMAL, p[0], 0, 0, 0);
    arg to = op_whole(r, "sums", OP_KEEP, 6, 0, 0, 0);
    struct kern_tensor bf16 = {0};
    if (p[1] == 2) bf16 = bf16_of(r, "bf16", p[0]);
    CHECK_OK(kern_dot(r->b, r->s, out, a, p[1] == 2 ? &bf16 : p[1] ? b : NULL));
    float x[6];
    for (int i = 0; i < 3; i++) { /* both halves, so that a comparison of bits sees the double */
        x[2 * i] = (float)out[i];
        x[2 * i + 1] = (float)(out[i] - (double)x[2 * i]);
    }
    CHECK_OK(kern_put(r->b, r->s, to->data, x, sizeof x));
}

static void axpby(struct op_run *r, const int64_t *p) { /* n */
    arg y = op_whole(r, "y", OP_KEEP, p[0], 0, 0, 0);
    CHECK_OK(kern_axpby(r->b, r->s, y, 0.3f, op_whole(r, "x", OP_NORMAL, p[0], 0, 0, 0), -1.7f));
}

/* n_seqs, rows of the largest sequence, H, Hkv, D, page, window: sequence s has about
 * rows / (s + 1) rows and some keys before them; the page table is a permutation. */
struct attn_inputs {
    struct kern_attn a;
    arg q, k, v;
    int64_t rows;
};

static struct attn_inputs attn_inputs(struct op_run *r, const int64_t *p) {
    enum { SEQS = 16 };
    int32_t start[SEQS + 1] = {0}, len[SEQS], n = (int32_t)p[0], per = 0;
    struct attn_inputs in = {.a = {.n_seqs = n,
                                   .page = (int32_t)p[5],
                                   .window = (int32_t)p[6],
                                   .scale = 1 / sqrtf((float)p[4])}};
    for (int32_t s = 0; s < n; s++) {
        int32_t rows = (int32_t)p[1] / (s + 1), before = s * 37 % 150;
        if (s == 3) rows = 1;
        start[s + 1] = start[s] + rows;
        len[s] = rows + before;
        if (rows > in.a.q_max) in.a.q_max = rows;
        if (len[s] > in.a.kv_max) in.a.kv_max = len[s];
    }
    per = (in.a.kv_max + in.a.page - 1) / in.a.page;
    int32_t *pages = mem_array((size_t)(n * per) + 1, sizeof *pages);
    rng_permutation(rng_key(test_seed(), RNG_TEST), 7, (uint32_t *)pages, (uint32_t)(n * per));
    in.rows = start[n];
    in.q = op_whole(r, "q", OP_NORMAL, in.rows, p[2], p[4], 0);
    in.k = op_whole(r, "pool_k", OP_NORMAL, n * per, p[5], p[3], p[4]);
    in.v = op_whole(r, "pool_v", OP_NORMAL, n * per, p[5], p[3], p[4]);
    in.a.q_start = *op_ints(r, "q_start", start, n + 1, 0);
    in.a.kv_len = *op_ints(r, "kv_len", len, n, 0);
    in.a.pages = *op_ints(r, "pages", pages, n, per);
    mem_free(pages);
    return in;
}

static void attention(struct op_run *r, const int64_t *p) {
    struct attn_inputs in = attn_inputs(r, p);
    arg out = op_whole(r, "out", OP_NAN, in.rows, p[2], p[4], 0);
    arg lse = op_whole(r, "lse", OP_NAN, in.rows, p[2], 0, 0);
    CHECK_OK(kern_attention(r->b, r->s, out, lse, in.q, in.k, in.v, &in.a));
}

static void attention_bwd(struct op_run *r, const int64_t *p) {
    struct attn_inputs in = attn_inputs(r, p);
    const int64_t *pool = in.k->dim;
    arg gq = op_whole(r, "gq", OP_NAN, in.rows, p[2], p[4], 0);
    arg gk = op_whole(r, "gpool_k", OP_KEEP, pool[0], pool[1], pool[2], pool[3]);
    arg gv = op_whole(r, "gpool_v", OP_KEEP, pool[0], pool[1], pool[2], pool[3]);
    arg gout = op_whole(r, "gout", OP_NORMAL, in.rows, p[2], p[4], 0);
    arg out = op_whole(r, "out", OP_NAN, in.rows, p[2], p[4], 0);
    arg lse = op_whole(r, "lse", OP_NAN, in.rows, p[2], 0, 0);
    CHECK_OK(kern_attention(r->b, r->s, out, lse, in.q, in.k, in.v, &in.a));
    CHECK_OK(kern_attention_bwd(r->b, r->s, gq, gk, gv, gout, out, lse, in.q, in.k, in.v, &in.a));
}

#define CASE(op, ...)                                                                              \
    { #op, op, {__VA_ARGS__ }, false, false }
#define CASE_BI(op, ...)                                                                           \
    { #op, op, {__VA_ARGS__ }, true, false }
#define BF16(op, ...)                                                                              \
    { #op, op, {__VA_ARGS__ }, false, true }
#define BF16_BI(op, ...)                                                                           \
    { #op, op, {__VA_ARGS__ }, true, true }

const struct op_case op_cases[] = {
    CASE_BI(embed, 1, 1, 1),
    CASE_BI(embed, 7, 33, 11),
    CASE_BI(gather, 5, 48, 9),
    CASE(embed_bwd, 9, 37, 4),
    CASE(embed_bwd, 300, 288, 50),
    CASE(scatter_add, 5, 33, 9),
    CASE(kv_write, 6, 2, 5, 4, 3),
    CASE(kv_read, 6, 2, 5, 4, 3),
    CASE(kv_write, 9, 3, 64, 4, 16),
    CASE_BI(rmsnorm, 1, 1),
    CASE_BI(rmsnorm, 3, 17),
    CASE_BI(rmsnorm, 67, 288),
    CASE_BI(rmsnorm, 5, 1031),
    CASE(rmsnorm_bwd, 1, 1, 0),
    CASE(rmsnorm_bwd, 7, 65, 1),
    CASE(rmsnorm_bwd, 70, 288, 0),
    CASE(rmsnorm_bwd, 4200, 3, 1),
    CASE_BI(matmul, 1, 1, 1, 0),
    CASE_BI(matmul, 3, 5, 7, 1),
    CASE_BI(matmul, 9, 33, 65, 1),
    CASE_BI(matmul, 1, 97, 1030, 1),
    CASE_BI(matmul, 2, 31, 2049, 0),
    CASE_BI(matmul, 5, 64, 1033, 1),
    CASE_BI(matmul, 8, 160, 515, 0),
    CASE_BI(matmul, 70, 96, 288, 0),
    CASE_BI(matmul, 65, 70, 515, 1),
    CASE_BI(matmul, 130, 100, 1024, 1),
    CASE_BI(matmul, 300, 47, 259, 0),
    CASE(matmul_dx, 1, 1, 1, 0),
    CASE(matmul_dx, 7, 33, 19, 1),
    CASE(matmul_dx, 70, 300, 129, 0),
    CASE(matmul_dx, 40, 1024, 96, 1),
    CASE(matmul_dw, 1, 1, 1, 1),
    CASE(matmul_dw, 7, 33, 19, 1),
    CASE(matmul_dw, 300, 70, 129, 0),
    CASE(matmul_dw, 129, 290, 64, 1),
    CASE_BI(rope, 1, 1, 2, 1, 0),
    CASE_BI(rope, 9, 3, 10, 20, 0),
    CASE_BI(rope, 33, 4, 64, 50, 1),
    CASE_BI(add_rmsnorm, 1, 1, 0),
    CASE_BI(add_rmsnorm, 3, 17, 1),
    CASE_BI(add_rmsnorm, 67, 288, 0),
    CASE_BI(add_rmsnorm, 5, 1031, 2),
    CASE_BI(norm_rope, 1, 1, 2, 1, 1, 0),
    CASE_BI(norm_rope, 9, 3, 10, 20, 1, 1),
    CASE_BI(norm_rope, 9, 3, 10, 20, 0, 0),
    CASE_BI(norm_rope, 33, 4, 64, 50, 1, 0),
    CASE_BI(norm_rope, 5, 2, 128, 50, 0, 1),
    CASE_BI(swiglu, 1, 1),
    CASE_BI(swiglu, 7, 45),
    CASE_BI(swiglu, 70, 768),
    CASE(swiglu_bwd, 1, 1, 0),
    CASE(swiglu_bwd, 9, 45, 1),
    CASE(swiglu_bwd, 40, 768, 0),
    CASE_BI(add, 1, 1, 0),
    CASE_BI(add, 9, 45, 1),
    CASE_BI(add, 70, 768, 0),
    CASE_BI(logprob, 1, 1, 1),
    CASE_BI(logprob, 3, 17, 1),
    CASE_BI(logprob, 66, 1025, 0),
    CASE_BI(logprob, 5, 32000, 1),
    CASE(logprob_bwd, 1, 1, 1),
    CASE(logprob_bwd, 3, 17, 1),
    CASE(logprob_bwd, 66, 1025, 0),
    CASE(logprob_bwd, 5, 4099, 1),
    CASE_BI(sample, 1, 1, 100, 100, 0),
    CASE_BI(sample, 70, 50, 100, 100, 0),
    CASE_BI(sample, 66, 1025, 70, 100, 0),
    CASE_BI(sample, 9, 333, 0, 100, 0),
    CASE_BI(sample, 40, 333, 100, 90, 0),
    CASE_BI(sample, 40, 2100, 130, 100, 7),
    CASE_BI(sample, 40, 2100, 80, 50, 40),
    CASE_BI(sample, 20, 333, 100, 0, 1),
    CASE(cast, 1),
    CASE(cast, 5003),
    CASE(adamw, 1, 1),
    CASE(adamw, 40007, 10),
    CASE(adamw, 40007, 2, 1),
    CASE(adamw, 40007, 2, 2),
    CASE(adamw, 40007, 2, 3),
    CASE(adamw, 40007, 2, 1, 1, 0, 100),
    CASE(adamw, 40007, 2, 2, 2, 3, 0),
    CASE(adamw, 33, 2, 0, 3, 1, 100),
    CASE(adamw, 40007, 2, 3, 3, 1, 100),
    CASE(adamw, 20001, 2, 0, 4, 5, 1000),
    CASE(count_bits, 1),
    CASE(count_bits, 70001),
    CASE(dot, 1, 1),
    CASE(dot, 100003, 1),
    CASE(dot, 5000, 0),
    CASE(dot, 5003, 2),
    CASE(axpby, 1),
    CASE(axpby, 33333),
    CASE(attention, 1, 1, 1, 1, 1, 1, 0),
    CASE(attention, 1, 70, 4, 4, 16, 8, 0),
    CASE(attention, 3, 90, 6, 2, 48, 16, 0),
    CASE(attention, 5, 130, 8, 2, 64, 5, 0),
    CASE(attention, 5, 200, 3, 1, 20, 64, 33),
    CASE(attention, 4, 70, 4, 2, 128, 256, 100),
    CASE(attention, 2, 300, 2, 2, 32, 1, 1),
    CASE(attention, 3, 150, 8, 4, 8, 1, 0),
    CASE(attention, 4, 90, 6, 2, 12, 16, 40),
    CASE(attention, 2, 130, 4, 4, 16, 64, 3),
    CASE(attention_bwd, 1, 1, 1, 1, 1, 1, 0),
    CASE(attention_bwd, 3, 150, 8, 4, 8, 1, 0),
    CASE(attention_bwd, 4, 90, 6, 2, 12, 16, 40),
    CASE(attention_bwd, 2, 130, 4, 4, 16, 64, 3),
    CASE(attention_bwd, 3, 40, 4, 2, 6, 16, 0),
    CASE(attention_bwd, 1, 70, 4, 4, 16, 8, 0),
    CASE(attention_bwd, 3, 90, 6, 2, 48, 16, 0),
    CASE(attention_bwd, 5, 100, 3, 1, 20, 64, 33),
    CASE(attention_bwd, 3, 70, 4, 2, 128, 256, 100),
    BF16_BI(embed, 7, 33, 11),
    BF16_BI(gather, 5, 48, 9),
    BF16(embed_bwd, 9, 37, 4),
    BF16(scatter_add, 5, 33, 9),
    BF16(kv_write, 6, 2, 5, 4, 3),
    BF16(kv_read, 6, 2, 5, 4, 3),
    BF16_BI(rmsnorm, 3, 17),
    BF16_BI(rmsnorm, 67, 288),
    BF16(rmsnorm_bwd, 7, 65, 1),
    BF16(rmsnorm_bwd, 70, 288, 0),
    BF16_BI(matmul, 1, 1, 1, 0, 0),
    BF16_BI(matmul, 9, 33, 65, 1, 0),
    BF16_BI(matmul, 130, 100, 515, 1, 1),
    BF16_BI(matmul, 70, 150, 288, 0, 0),
    BF16_BI(matmul, 1, 97, 1030, 1, 0), /* rows of a decode step: few, and blocks of depth */
    BF16_BI(matmul, 1, 64, 768, 0, 1),
    BF16_BI(matmul, 2, 31, 17, 1, 0),
    BF16_BI(matmul, 3, 33, 2049, 0, 0),
    BF16_BI(matmul, 4, 16, 1023, 1, 1),
    BF16_BI(matmul, 5, 95, 31, 0, 0),
    BF16_BI(matmul, 6, 129, 513, 1, 0),
    BF16_BI(matmul, 7, 1, 385, 1, 0),
    BF16_BI(matmul, 8, 160, 515, 1, 0),
    BF16_BI(matmul, 300, 800, 400, 1, 0), /* more panels than are packed at a time */
    BF16(matmul_dx, 7, 33, 19, 1),
    BF16(matmul_dx, 70, 150, 129, 0),
    BF16(matmul_dw, 7, 33, 19, 1),
    BF16(matmul_dw, 129, 150, 64, 1),
    BF16(matmul_dw, 400, 31, 810, 1),
    BF16(matmul_dx, 40, 810, 97, 1),
    BF16(matmul_dx, 3, 5, 1000, 0),
    BF16_BI(rope, 9, 3, 10, 20, 0),
    BF16_BI(rope, 33, 4, 64, 50, 1),
    BF16_BI(add_rmsnorm, 3, 17, 0),
    BF16_BI(add_rmsnorm, 67, 288, 1),
    BF16_BI(norm_rope, 9, 3, 10, 20, 1, 0),
    BF16_BI(norm_rope, 33, 4, 64, 50, 1, 1),
    BF16_BI(norm_rope, 9, 3, 10, 20, 0, 0),
    BF16_BI(swiglu, 7, 45),
    BF16(swiglu_bwd, 9, 45, 1),
    BF16(swiglu_bwd, 9, 45, 0),
    BF16_BI(add, 9, 45, 1),
    BF16_BI(add, 9, 45, 0),
    BF16(attention, 1, 1, 1, 1, 1, 1, 0),
    BF16(attention, 3, 90, 6, 2, 48, 16, 0),
    BF16(attention, 5, 60, 3, 1, 20, 64, 33),
    BF16(attention, 9, 40, 4, 2, 8, 16, 0), /* narrow heads, as lanes and as rows */
    BF16(attention, 2, 50, 8, 4, 16, 1, 0),
    BF16(attention, 4, 70, 6, 1, 10, 16, 21),
    BF16(attention, 2, 200, 2, 2, 128, 16, 0),
    BF16(attention_bwd, 3, 40, 4, 2, 6, 16, 0),
    BF16(attention_bwd, 3, 60, 4, 2, 48, 16, 33),
    BF16(attention_bwd, 9, 40, 4, 2, 8, 16, 0),
    BF16(attention_bwd, 2, 50, 8, 4, 16, 1, 0),
    BF16(attention_bwd, 4, 70, 6, 1, 10, 16, 21),
};
const int op_n_cases = sizeof op_cases / sizeof op_cases[0];
