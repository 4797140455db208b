/* grad_test.c - reverse ops of ref against central differences of its forward ops; the fast
 * backends are held to ref by op_test.c. The loss is a fixed random combination of the outputs,
 * summed in double; the step is divided out as it was rounded. What remains is the rounding of the
 * outputs to float (about 1e-7 * sqrt(n) / 2e-2) and the third derivative. */
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/test.h"

enum { N_MAX = 600, IN_MAX = 3, OUT_MAX = 2 };

struct grad { /* an op with some inputs, its outputs, and the derivatives of the loss by both */
    const struct kern_backend *b;
    struct kern_stream *s;
    float in[IN_MAX][N_MAX], g_in[IN_MAX][N_MAX], out[OUT_MAX][N_MAX], g_out[OUT_MAX][N_MAX];
    int64_t n_in[IN_MAX], n_out[OUT_MAX];
};

typedef void grad_fn(struct grad *g);

static struct kern_tensor mat(float *x, int64_t n, int64_t d) {
    return kern_view2(x, KERN_F32, n, d);
}

static struct kern_tensor vec(float *x, int64_t n) {
    return kern_view1(x, KERN_F32, n);
}

static double loss(struct grad *g, grad_fn *forward) {
    double sum = 0;
    forward(g);
    for (int o = 0; o < OUT_MAX; o++)
        for (int64_t i = 0; i < g->n_out[o]; i++)
            sum += (double)g->out[o][i] * (double)g->g_out[o][i];
    return sum;
}

static void fill(float *x, int64_t n, uint64_t stream) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(rng_key(test_seed(), RNG_TEST), 5000 + stream, (uint64_t)i);
}

/* n_in and n_out are set; fills, runs both ways, compares every derivative. */
static void check_grad(struct grad *g, grad_fn *forward, grad_fn *reverse) {
    const float h = 0.01f;
    CHECK_OK(kern_open(&g->b, "ref", 1));
    CHECK_OK(kern_stream_open(g->b, &g->s, 1 << 16));
    for (int i = 0; i < IN_MAX; i++)
        fill(g->in[i], g->n_in[i], (uint64_t)i);
    for (int o = 0; o < OUT_MAX; o++)
        fill(g->g_out[o], g->n_out[o], 10 + (uint64_t)o);
    forward(g);
    reverse(g);
    for (int i = 0; i < IN_MAX; i++)
        for (int64_t k = 0; k < g->n_in[i]; k++) {
            const float x = g->in[i][k], up = x + h, down = x - h;
            g->in[i][k] = up;
            double high = loss(g, forward);
            g->in[i][k] = down;
            double low = loss(g, forward);
            g->in[i][k] = x;
            double want = (high - low) / ((double)up - (double)down), got = (double)g->g_in[i][k];
            if (!(fabs(want - got) <= 3e-3 + 3e-3 * fabs(want)))
                test_fail(__FILE__, __LINE__, "input %d[%lld]: derivative %.6g, difference %.6g", i,
                          (long long)k, got, want);
        }
    kern_stream_close(g->b, g->s);
    kern_close(g->b);
}

enum { N = 3, D = 10, O = 7 };

static void norm_forward(struct grad *g) {
    struct kern_tensor y = mat(g->out[0], N, D), x = mat(g->in[0], N, D), w = vec(g->in[1], D);
    CHECK_OK(kern_rmsnorm(g->b, g->s, &y, &x, &w, 1e-5f));
}

static void norm_reverse(struct grad *g) {
    struct kern_tensor gx = mat(g->g_in[0], N, D), gw = vec(g->g_in[1], D);
    struct kern_tensor gy = mat(g->g_out[0], N, D), x = mat(g->in[0], N, D), w = vec(g->in[1], D);
    CHECK_OK(kern_rmsnorm_bwd(g->b, g->s, &gx, &gw, &gy, &x, &w, 1e-5f, false));
}

TEST(grad_rmsnorm) {
    struct grad g = {.n_in = {N * D, D}, .n_out = {N * D}};
    check_grad(&g, norm_forward, norm_reverse);
}

static void matmul_forward(struct grad *g) {
    struct kern_tensor y = mat(g->out[0], N, O), x = mat(g->in[0], N, D), w = mat(g->in[1], O, D);
    struct kern_tensor bias = vec(g->in[2], O);
    CHECK_OK(kern_matmul(g->b, g->s, &y, &x, &w, NULL, &bias));
}

static void matmul_reverse(struct grad *g) {
    struct kern_tensor gx = mat(g->g_in[0], N, D), gw = mat(g->g_in[1], O, D);
    struct kern_tensor gb = vec(g->g_in[2], O), gy = mat(g->g_out[0], N, O);
    struct kern_tensor x = mat(g->in[0], N, D), w = mat(g->in[1], O, D);
    CHECK_OK(kern_matmul_dx(g->b, g->s, &gx, &gy, &w, false));
    CHECK_OK(kern_matmul_dw(g->b, g->s, &gw, &gb, &gy, &x));
}

TEST(grad_matmul) {
    struct grad g = {.n_in = {N * D, O * D, O}, .n_out = {N * O}};
    check_grad(&g, matmul_forward, matmul_reverse);
}

static void swiglu_forward(struct grad *g) {
    struct kern_tensor y = mat(g->out[0], N, D), a = mat(g->in[0], N, D), b = mat(g->in[1], N, D);
    CHECK_OK(kern_swiglu(g->b, g->s, &y, &a, &b));
}

static void swiglu_reverse(struct grad *g) {
    struct kern_tensor ga = mat(g->g_in[0], N, D), gb = mat(g->g_in[1], N, D);
    struct kern_tensor gy = mat(g->g_out[0], N, D), a = mat(g->in[0], N, D),
                       b = mat(g->in[1], N, D);
    CHECK_OK(kern_swiglu_bwd(g->b, g->s, &ga, &gb, &gy, &a, &b));
}

TEST(grad_swiglu) {
    struct grad g = {.n_in = {N * D, N * D}, .n_out = {N * D}};
    check_grad(&g, swiglu_forward, swiglu_reverse);
}

static float rope_tables[2][5 * D / 2];
static int32_t rope_pos[N] = {4, 0, 2};

static void rope_run(struct grad *g, float *x, bool inverse) {
    struct kern_tensor t = kern_view3(x, KERN_F32, N, 2, D),
                       pos = kern_view1(rope_pos, KERN_I32, N);
    struct kern_tensor c = mat(rope_tables[0], 5, D / 2), s = mat(rope_tables[1], 5, D / 2);
    for (int i = 0; i < 5 * D / 2; i++) {
        rope_tables[0][i] = cosf(0.7f * (float)i);
        rope_tables[1][i] = sinf(0.7f * (float)i);
    }
    CHECK_OK(kern_rope(g->b, g->s, &t, &pos, &c, &s, inverse));
}

static void rope_forward(struct grad *g) {
    memcpy(g->out[0], g->in[0], sizeof g->out[0]);
    rope_run(g, g->out[0], false);
}

static void rope_reverse(struct grad *g) {
    memcpy(g->g_in[0], g->g_out[0], sizeof g->g_in[0]);
    rope_run(g, g->g_in[0], true);
}

TEST(grad_rope) {
    struct grad g = {.n_in = {N * 2 * D}, .n_out = {N * 2 * D}};
    check_grad(&g, rope_forward, rope_reverse);
}

enum { ROWS = 6, KEYS = 10, H = 4, KV = 2, W = 5, PAGE = 3, PAGES = 4 };

/* Two sequences of 4 and 2 rows with 7 and 3 keys; they share their first page. */
static struct kern_attn attn(void) {
    static int32_t start[] = {0, 4, 6}, len[] = {7, 3}, pages[] = {2, 0, 3, 2, -1, -1};
    return (struct kern_attn){.q_start = kern_view1(start, KERN_I32, 3),
                              .kv_len = kern_view1(len, KERN_I32, 2),
                              .pages = kern_view2(pages, KERN_I32, 2, 3),
                              .n_seqs = 2,
                              .page = PAGE,
                              .q_max = 4,
                              .kv_max = 7,
                              .window = 4,
                              .scale = 0.4f};
}

static float attn_lse[ROWS * H];

static struct kern_tensor heads(float *x) {
    return kern_view3(x, KERN_F32, ROWS, H, W);
}

static struct kern_tensor pool(float *x) {
    return kern_view4(x, KERN_F32, PAGES, PAGE, KV, W);
}

static void attention_forward(struct grad *g) {
    struct kern_attn a = attn();
    struct kern_tensor out = heads(g->out[0]), lse = mat(attn_lse, ROWS, H), q = heads(g->in[0]);
    struct kern_tensor k = pool(g->in[1]), v = pool(g->in[2]);
    CHECK_OK(kern_attention(g->b, g->s, &out, &lse, &q, &k, &v, &a));
}

static void attention_reverse(struct grad *g) {
    struct kern_attn a = attn();
    struct kern_tensor out = heads(g->out[0]), lse = mat(attn_lse, ROWS, H), q = heads(g->in[0]);
    struct kern_tensor k = pool(g->in[1]), v = pool(g->in[2]), gout = heads(g->g_out[0]);
    struct kern_tensor gq = heads(g->g_in[0]), gk = pool(g->g_in[1]), gv = pool(g->g_in[2]);
    CHECK_OK(kern_attention_bwd(g->b, g->s, &gq, &gk, &gv, &gout, &out, &lse, &q, &k, &v, &a));
}

TEST(grad_attention) {
    const int64_t p = PAGES * PAGE * KV * W;
    struct grad g = {.n_in = {ROWS * H * W, p, p}, .n_out = {ROWS * H * W}};
    check_grad(&g, attention_forward, attention_reverse);
}

enum { V = 11 };
static int32_t targets[N] = {3, 10, 0};
static float inv_temps[N] = {1, 0.5f, 2}, lses[N];

static void logprob_forward(struct grad *g) {
    struct kern_tensor lp = vec(g->out[0], N), h = vec(g->out[1], N), lse = vec(lses, N);
    struct kern_tensor x = mat(g->in[0], N, V), t = kern_view1(targets, KERN_I32, N);
    struct kern_tensor inv = vec(inv_temps, N);
    CHECK_OK(kern_logprob(g->b, g->s, &lp, &h, &lse, &x, &t, &inv));
}

static void logprob_reverse(struct grad *g) {
    memcpy(g->g_in[0], g->in[0], sizeof g->g_in[0]);
    struct kern_tensor x = mat(g->g_in[0], N, V), t = kern_view1(targets, KERN_I32, N);
    struct kern_tensor inv = vec(inv_temps, N), lse = vec(lses, N), h = vec(g->out[1], N);
    struct kern_tensor gl = vec(g->g_out[0], N), gh = vec(g->g_out[1], N);
    CHECK_OK(kern_logprob_bwd(g->b, g->s, &x, &gl, &gh, &h, &lse, &t, &inv));
}

TEST(grad_logprob_and_entropy) {
    struct grad g = {.n_in = {N * V}, .n_out = {N, N}};
    check_grad(&g, logprob_forward, logprob_reverse);
}

static int32_t embed_ids[N] = {2, 0, 2};

static void embed_forward(struct grad *g) {
    struct kern_tensor y = mat(g->out[0], N, D), t = mat(g->in[0], 4, D);
    struct kern_tensor ids = kern_view1(embed_ids, KERN_I32, N);
    CHECK_OK(kern_embed(g->b, g->s, &y, &t, &ids));
}

static void embed_reverse(struct grad *g) {
    struct kern_tensor gy = mat(g->g_out[0], N, D), gt = mat(g->g_in[0], 4, D);
    struct kern_tensor ids = kern_view1(embed_ids, KERN_I32, N);
    CHECK_OK(kern_embed_bwd(g->b, g->s, &gt, &gy, &ids));
}

TEST(grad_embed) {
    struct grad g = {.n_in = {4 * D}, .n_out = {N * D}};
    check_grad(&g, embed_forward, embed_reverse);
}
