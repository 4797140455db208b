/* attention_bf16_test.c - attention in bf16: near `ref` on the same numbers in f32, and invariant
 * I6 bit by bit: a row gives the same alone, in company, in chunks of any size, on any pages, by
 * the decode kernel and by the tile kernel.
 *
 * A text is a fixed run of keys, values and queries; a call feeds pieces of texts, each as one
 * sequence of the batch. Pieces of one text share its pages. */
#include "base/mem.h"
#include "base/rng.h"
#include "tests/op/op.h"
#include "tests/shared.h"

enum { TEXTS = 2, LENGTH = 330, H = 6, KV = 2, WIDTH_MAX = 128, PIECES = 6 };

struct piece {
    int32_t text, first, rows; /* positions first.. of the text; keys up to the last of them */
};

struct call {
    int32_t width, page, window;
    uint64_t shuffle;           /* of the page table */
    struct piece piece[PIECES]; /* rows == 0 ends them */
    size_t scratch;             /* 0: what the backend asks for */
    bool reverse, inexact;      /* inexact: on a stream that is not exact */
};

struct result { /* of all rows, in order; gradients of keys by text and position */
    float out[LENGTH * H * WIDTH_MAX], lse[LENGTH * H];
    float gq[LENGTH * H * WIDTH_MAX];
    float gk[TEXTS][LENGTH * KV * WIDTH_MAX], gv[TEXTS][LENGTH * KV * WIDTH_MAX];
};

static uint16_t to_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static float from_bf16(uint16_t x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

enum { QUERY, KEY, VALUE, GOUT, NUMBERS };

/* Element i of a text's row: a bf16 number, the same in every call. */
static float number(int what, int32_t text, int64_t row, int64_t i) {
    static float made[NUMBERS][TEXTS][LENGTH][H * WIDTH_MAX];
    static bool done;
    for (uint64_t n = 0; !done && n < NUMBERS * TEXTS * LENGTH; n++)
        for (uint64_t k = 0; k < H * WIDTH_MAX; k++)
            made[n / TEXTS / LENGTH][n / LENGTH % TEXTS][n % LENGTH][k] =
                from_bf16(to_bf16((float)rng_normal(rng_key(test_seed(), RNG_TEST), 91000 + n, k)));
    done = true;
    return made[what][text][row][i];
}

struct device {
    const struct kern_backend *b;
    struct kern_stream *s;
    enum kern_dtype dtype;
};

static struct device device_open(const char *name, enum kern_dtype dtype, size_t scratch) {
    struct device d = {.b = op_device(name, 1), .dtype = dtype};
    struct kern_limits l = {
        .rows = 512, .width_max = 512, .heads = H, .head_width = WIDTH_MAX, .kv_max = LENGTH};
    CHECK_OK(kern_stream_open(d.b, &d.s, scratch ? scratch : kern_scratch_bytes(d.b, &l)));
    return d;
}

static void device_close(struct device *d) {
    kern_stream_close(d->b, d->s);
    kern_close(d->b);
}

/* A tensor of the dtype with these numbers, or of NaNs (x null). */
static struct kern_tensor tensor(const struct device *d, enum kern_dtype dtype, const float *x,
                                 const int64_t dim[4]) {
    struct kern_tensor t = kern_view4(NULL, dtype, dim[0], dim[1], dim[2], dim[3]);
    t.rank = dim[3] ? 4 : dim[2] ? 3 : 2;
    if (!dim[3]) t.bytes = (size_t)(dim[0] * dim[1] * (dim[2] ? dim[2] : 1)) * 4;
    const int64_t n = kern_elements(&t);
    t.bytes = (size_t)n * kern_dtype_bytes(dtype);
    CHECK_OK(kern_alloc(d->b, &t.data, t.bytes));
    char *host = mem_alloc(t.bytes);
    for (int64_t i = 0; i < n; i++) {
        const float f = x ? x[i] : NAN;
        const uint16_t bf16 = x ? to_bf16(f) : 0x7fff;
        memcpy(host + (size_t)i * kern_dtype_bytes(dtype),
               dtype == KERN_F32 ? (const void *)&f : &bf16, kern_dtype_bytes(dtype));
    }
    CHECK_OK(kern_put(d->b, d->s, t.data, host, t.bytes));
    mem_free(host);
    return t;
}

static void fetch(const struct device *d, float *x, const struct kern_tensor *t) {
    char *host = mem_alloc(t->bytes);
    CHECK_OK(kern_get(d->b, d->s, host, t->data, t->bytes));
    for (int64_t i = 0; i < kern_elements(t); i++) {
        uint16_t bf16;
        memcpy(&bf16, host + i * 2, 2);
        if (t->dtype == KERN_BF16)
            x[i] = from_bf16(bf16);
        else
            memcpy(&x[i], host + i * 4, 4);
    }
    mem_free(host);
}

/* [rows, H, width] of the call's pieces. */
static struct kern_tensor queries(const struct device *d, const struct call *c, int what,
                                  int32_t rows) {
    float *x = mem_array((size_t)rows * H * (size_t)c->width, sizeof *x);
    int64_t n = 0;
    for (const struct piece *p = c->piece; p < c->piece + PIECES && p->rows; p++)
        for (int32_t r = 0; r < p->rows; r++)
            for (int64_t i = 0; i < H * c->width; i++)
                x[n++] = number(what, p->text, p->first + r, i);
    struct kern_tensor t = tensor(d, d->dtype, x, (int64_t[]){rows, H, c->width, 0});
    mem_free(x);
    return t;
}

/* A pool with the texts' rows on their pages, NaNs where no text lies; or (what < 0) all ones. */
static struct kern_tensor pool(const struct device *d, const struct call *c, int what,
                               const int32_t *pages, int32_t per) {
    const int64_t n_pages = (int64_t)TEXTS * per, row = (int64_t)KV * c->width;
    float *x = mem_array((size_t)(n_pages * c->page * row), sizeof *x);
    for (int64_t i = 0; i < n_pages * c->page * row; i++)
        x[i] = what < 0 ? 1 : NAN;
    for (int32_t t = 0; what >= 0 && t < TEXTS; t++)
        for (int64_t j = 0; j < LENGTH; j++)
            for (int64_t i = 0; i < row; i++)
                x[(pages[t * per + j / c->page] * c->page + j % c->page) * row + i] =
                    number(what, t, j, i);
    struct kern_tensor t =
        tensor(d, what < 0 ? KERN_F32 : d->dtype, x, (int64_t[]){n_pages, c->page, KV, c->width});
    mem_free(x);
    return t;
}

static void fetch_pool(const struct device *d, const struct call *c, float *x,
                       const struct kern_tensor *t, const int32_t *pages, int32_t text,
                       int32_t per) {
    const int64_t row = (int64_t)KV * c->width;
    float *all = mem_array((size_t)kern_elements(t), sizeof *all);
    fetch(d, all, t);
    for (int64_t j = 0; j < LENGTH; j++)
        memcpy(x + j * row, all + (pages[text * per + j / c->page] * c->page + j % c->page) * row,
               (size_t)row * sizeof *x);
    mem_free(all);
}

static struct kern_tensor ints(const struct device *d, const int32_t *x, int64_t n, int64_t m) {
    struct kern_tensor t = m ? kern_view2(NULL, KERN_I32, n, m) : kern_view1(NULL, KERN_I32, n);
    CHECK_OK(kern_alloc(d->b, &t.data, t.bytes));
    CHECK_OK(kern_put(d->b, d->s, t.data, x, t.bytes));
    return t;
}

static void reverse(const struct device *d, const struct call *c, struct result *r,
                    const struct kern_tensor f[5], const struct kern_attn *a, const int32_t *pages,
                    int32_t per) {
    const int32_t rows = (int32_t)f[0].dim[0];
    struct kern_tensor gq = tensor(d, d->dtype, NULL, f[0].dim), gout = queries(d, c, GOUT, rows);
    struct kern_tensor gk = pool(d, c, -1, pages, per), gv = pool(d, c, -1, pages, per);
    CHECK_OK(d->b->attention_bwd(d->s, &gq, &gk, &gv, &gout, &f[3], &f[4], &f[0], &f[1], &f[2], a));
    fetch(d, r->gq, &gq);
    for (int32_t t = 0; t < TEXTS; t++) {
        fetch_pool(d, c, r->gk[t], &gk, pages, t, per);
        fetch_pool(d, c, r->gv[t], &gv, pages, t, per);
    }
    const struct kern_tensor *all[] = {&gq, &gout, &gk, &gv};
    for (size_t i = 0; i < 4; i++)
        kern_release(d->b, all[i]->data);
}

static int32_t compute(const struct device *d, const struct call *c, struct result *r) {
    const int32_t per = (LENGTH + c->page - 1) / c->page;
    int32_t start[PIECES + 1] = {0}, len[PIECES], n = 0, table[PIECES * LENGTH];
    int32_t pages[TEXTS * LENGTH];
    struct kern_attn a = {.page = c->page, .window = c->window, .scale = 0.1f};
    rng_permutation(rng_key(test_seed(), RNG_TEST), c->shuffle, (uint32_t *)pages,
                    (uint32_t)(TEXTS * per));
    for (const struct piece *p = c->piece; n < PIECES && p->rows; p++, n++) {
        start[n + 1] = start[n] + p->rows;
        len[n] = p->first + p->rows;
        if (p->rows > a.q_max) a.q_max = p->rows;
        if (len[n] > a.kv_max) a.kv_max = len[n];
        memcpy(table + n * per, pages + p->text * per, (size_t)per * 4);
    }
    const int32_t rows = start[n];
    a.n_seqs = n;
    a.q_start = ints(d, start, n + 1, 0);
    a.kv_len = ints(d, len, n, 0);
    a.pages = ints(d, table, n, per);
    if (c->inexact) CHECK_OK(kern_exact(d->b, d->s, false));
    struct kern_tensor f[5] = {queries(d, c, QUERY, rows), pool(d, c, KEY, pages, per),
                               pool(d, c, VALUE, pages, per)};
    f[3] = tensor(d, d->dtype, NULL, f[0].dim);
    f[4] = tensor(d, KERN_F32, NULL, (int64_t[]){rows, H, 0, 0});
    CHECK_OK(d->b->attention(d->s, &f[3], &f[4], &f[0], &f[1], &f[2], &a));
    fetch(d, r->out, &f[3]);
    fetch(d, r->lse, &f[4]);
    if (c->reverse) reverse(d, c, r, f, &a, pages, per);
    for (size_t i = 0; i < 5; i++)
        kern_release(d->b, f[i].data);
    kern_release(d->b, a.q_start.data);
    kern_release(d->b, a.kv_len.data);
    kern_release(d->b, a.pages.data);
    return rows;
}

static struct result whole, part;

/* Rows of text 0 in the call have the bits they have in `whole`, which has rows from first on. */
static void check_call(const char *device, const struct call *c, int32_t first) {
    struct device d = device_open(device, KERN_BF16, c->scratch);
    const size_t row = (size_t)(H * c->width);
    compute(&d, c, &part);
    size_t at = 0;
    for (const struct piece *p = c->piece; p < c->piece + PIECES && p->rows; p++)
        for (int32_t r = 0; r < p->rows; r++, at++) {
            const size_t in = (size_t)(p->first + r - first);
            if (p->text == 0 && (memcmp(part.out + at * row, whole.out + in * row, row * 4) != 0 ||
                                 memcmp(part.lse + at * H, whole.lse + in * H, H * 4) != 0))
                test_fail(__FILE__, __LINE__,
                          "width %d, page %d, window %d: position %d as row %zu differs: %.9g, "
                          "%.9g; lse %.9g, %.9g",
                          c->width, c->page, c->window, p->first + r, at,
                          (double)part.out[at * row], (double)whole.out[in * row],
                          (double)part.lse[at * H], (double)whole.lse[in * H]);
        }
    device_close(&d);
}

/* Positions 200.. as one tile call, then in other ways. */
static void any_layout(const char *device, int32_t width, int32_t window) {
    enum { FIRST = 200 };
    const struct call all = {width, 16, window, 1, {{0, FIRST, LENGTH - FIRST}}, 0, false, false};
    const struct call other[] = {
        {width, 64, window, 2, {{0, LENGTH - 1, 1}}, 0, false, false},
        {width, 7, window, 3, {{0, 255, 1}, {1, 70, 1}, {0, 256, 1}, {0, 257, 1}}, 0, false, false},
        {width, 1, window, 4, {{0, 250, 10}, {1, 0, 1}, {0, FIRST, 3}}, 0, false, false},
        {width,
         256,
         window,
         5,
         {{1, 3, 2}, {0, 210, 47}, {0, 300, 1}, {0, 315, 11}},
         0,
         false,
         false},
        {width, 16, window, 6, {{0, 300, 1}, {1, 20, 5}, {0, 320, 2}}, 128 << 10, false, false},
        {width, 32, window, 7, {{0, 300, 1}, {1, 20, 5}, {0, 320, 2}}, 1024, false, false}};
    struct device d = device_open(device, KERN_BF16, 0);
    compute(&d, &all, &whole);
    device_close(&d);
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        check_call(device, &other[i], FIRST);
}

static double rms(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)(n ? n : 1));
}

/* bf16 keeps 8 bits of a number, of a weight and of its gradient. Their errors are a few parts in a
 * thousand of a typical element taken together; a row that sees few keys may have ten times that,
 * as its terms are large and cancel. */
static void near(const char *what, const float *x, const float *y, int64_t n, double typical) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double diff = fabs((double)x[i] - (double)y[i]);
        if (!(diff <= typical / 10 + fabs((double)y[i]) / 100))
            test_fail(__FILE__, __LINE__, "%s[%lld] = %.9g, ref %.9g, typical %.3g", what,
                      (long long)i, (double)x[i], (double)y[i], typical);
        sum += diff * diff;
    }
    const double off = sqrt(sum / (double)n);
    if (off > typical / 100)
        test_fail(__FILE__, __LINE__, "%s is off by %.3g, typical %.3g", what, off, typical);
}

static const struct call calls[] = {
    {64, 1, 0, 1, {{0, 40, 33}, {1, 0, 9}, {0, 100, 1}, {1, 299, 1}}, 0, true, false},
    {128, 64, 0, 2, {{0, 0, 50}, {1, 60, 20}}, 0, true, false},
    {128, 5, 50, 3, {{1, 5, 70}, {0, 200, 1}, {0, 100, 1}}, 0, true, false},
    {40, 128, 0, 4, {{0, 100, 60}, {1, 128, 30}, {0, 128, 20}}, 0, true, false},
    {8, 64, 3, 5, {{0, 0, 1}, {1, 0, 100}, {0, 200, 1}, {0, 100, 1}}, 0, true, false},
};

static void near_ref(const char *device) {
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        const struct call *c = &calls[i];
        struct device d = device_open(device, KERN_BF16, 0), ref = device_open("ref", KERN_F32, 0);
        const int64_t rows = compute(&d, c, &part), n = rows * H * c->width;
        const int64_t keys = (int64_t)LENGTH * KV * c->width;
        compute(&ref, c, &whole);
        near("out", part.out, whole.out, n, rms(whole.out, n));
        near("lse", part.lse, whole.lse, rows * H, 0.1);
        near("gq", part.gq, whole.gq, n, rms(whole.gq, n));
        for (int32_t t = 0; t < TEXTS; t++) {
            near("gk", part.gk[t], whole.gk[t], keys, rms(whole.gk[t], keys));
            near("gv", part.gv[t], whole.gv[t], keys, rms(whole.gv[t], keys));
        }
        device_close(&d);
        device_close(&ref);
    }
}

/* The bits of a second run, and of threads in the other order: a barrier too few shows there. */
static void same_bits(const char *device, const char *again) {
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        memset(&whole, 0, sizeof whole);
        memset(&part, 0, sizeof part);
        struct device d = device_open(device, KERN_BF16, 0);
        compute(&d, &calls[i], &whole);
        device_close(&d);
        d = device_open(again, KERN_BF16, 0);
        compute(&d, &calls[i], &part);
        device_close(&d);
        CHECK(memcmp(&whole, &part, sizeof whole) == 0);
    }
}

/* A stream that is not exact: other sums (some bits differ, so the choice is taken), as near to
 * ref, the same bits on repetition, in any scratch; exact again gives the exact bits again. */
static void inexact(const char *device) {
    static const struct call many[] = {
        {64, 16, 0, 1, {{0, 300, 1}, {1, 200, 1}, {0, 329, 1}}, 0, false, true},
        {128, 7, 0, 2, {{0, 320, 2}}, 0, false, true},
        {64, 16, 100, 3, {{0, 328, 1}, {1, 10, 1}}, 0, false, true},
        {128, 16, 0, 4, {{0, 320, 2}, {1, 300, 2}}, 1024, false, true},
        {64, 32, 0, 5, {{0, 250, 60}, {1, 300, 1}}, 0, false, true},
        {128, 64, 0, 6, {{0, 0, 330}}, 0, false, true},
    };
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++) {
        const struct call *c = &many[i];
        struct call exact = *c;
        exact.inexact = false;
        struct device d = device_open(device, KERN_BF16, c->scratch);
        memset(&whole, 0, sizeof whole);
        memset(&part, 0, sizeof part);
        const int64_t n = compute(&d, c, &whole) * H * c->width;
        compute(&d, c, &part);
        CHECK(memcmp(&whole, &part, sizeof whole) == 0);
        CHECK_OK(kern_exact(d.b, d.s, true));
        compute(&d, &exact, &part);
        if (c->piece[0].first + c->piece[0].rows > 256 && !c->window && !c->scratch)
            CHECK(memcmp(&whole, &part, sizeof whole) != 0);
        device_close(&d);
        d = device_open("ref", KERN_F32, 0);
        CHECK_ERR(kern_exact(d.b, d.s, false), ERR_UNSUP, "backend ref has no exact");
        CHECK(kern_always_exact(d.b));
        compute(&d, &exact, &part);
        near("out", whole.out, part.out, n, rms(part.out, n));
        near("lse", whole.lse, part.lse, n / c->width, 0.1);
        device_close(&d);
    }
}

TEST_TIMEOUT(attention_bf16_cudasim_not_exact, 300) {
    inexact("cudasim:0");
    inexact("cudasim:1");
}

TEST(attention_bf16_cpu_any_layout) {
    any_layout("cpu", 64, 0);
    any_layout("cpu", 40, 90);
    any_layout("cpu", 16, 50); /* narrow heads have kernels of their own */
    any_layout("cpu", 8, 0);
}

TEST(attention_bf16_cpu_near_ref) {
    near_ref("cpu");
}

TEST_TIMEOUT(attention_bf16_cudasim_any_layout, 300) {
    any_layout("cudasim:0", 64, 0);
    any_layout("cudasim:1", 128, 90);
}

TEST_TIMEOUT(attention_bf16_cudasim_near_ref, 300) {
    near_ref("cudasim:0");
}

TEST_TIMEOUT(attention_bf16_cudasim_any_thread_order, 300) {
    same_bits("cudasim:0", "cudasim:1");
}

TEST_TIMEOUT(attention_bf16_cuda, 300) {
    const int32_t step = test_device_is_slow() ? 88 : 8;
    for (int32_t width = 40; width <= 128; width += step) {
        any_layout(test_device(), width, 0);
        any_layout(test_device(), width, width);
    }
    near_ref(test_device());
    same_bits(test_device(), test_device());
}
