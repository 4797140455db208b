/* attention_test.c - invariant I6 for attention: the bits of a row depend on its own keys and
 * values only, not on chunks, pages, neighbours or threads. One long sequence is computed whole as
 * the measure, then again in many ways. */
#include "base/mem.h"
#include "base/rng.h"
#include "tests/op/op.h"
#include "tests/shared.h"

enum { ROWS = 201, H = 6, KV = 2, D_MAX = 40, PAGES_MAX = 420, OTHERS = 3 };
static int32_t D; /* head width: narrow ones have kernels of their own */

struct layout {
    int32_t page, first, rows; /* rows first.. of the sequence, its keys up to there */
    int32_t before;            /* sequences in front of it in the batch */
    int32_t window;
    uint64_t shuffle; /* of the page table */
};

/* Made once: the layouts differ in where a number lies, not in the number. */
static float number(uint64_t stream, int64_t i) {
    static float made[2 * OTHERS + 3][ROWS * H * D_MAX];
    static bool done;
    for (uint64_t q = 0; !done && q < 2 * OTHERS + 3; q++)
        for (uint64_t k = 0; k < ROWS * H * D_MAX; k++)
            made[q][k] = (float)rng_normal(rng_key(test_seed(), RNG_TEST), 77000 + q, k);
    done = true;
    return made[stream][i];
}

static void *device_copy(const struct kern_backend *b, struct kern_stream *s, const void *host,
                         size_t bytes) {
    void *p = NULL;
    CHECK_OK(kern_alloc(b, &p, bytes));
    CHECK_OK(kern_put(b, s, p, host, bytes));
    return p;
}

/* A pool where key j of sequence q lies in its page; sequence 0 is the measured one. */
static float *pool(const int32_t *pages, int32_t per, const struct layout *l, uint64_t stream) {
    const int64_t width = (int64_t)KV * D, n = (int64_t)(OTHERS + 1) * per * l->page * width;
    float *x = mem_array((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = NAN; /* what no row may read */
    for (int32_t q = 0; q <= OTHERS; q++)
        for (int64_t j = 0; j < (q ? ROWS : l->first + l->rows); j++)
            for (int64_t i = 0; i < width; i++)
                x[(pages[q * per + j / l->page] * l->page + j % l->page) * width + i] =
                    number(stream + 2 * (uint64_t)q, j * width + i);
    return x;
}

/* out [rows, H, D] and lse [rows, H] of the layout's rows. */
static void compute(const struct kern_backend *b, struct kern_stream *s, const struct layout *l,
                    float *out, float *lse) {
    const int32_t per = (ROWS + l->page - 1) / l->page, n_pages = (OTHERS + 1) * per;
    const int32_t n = l->before + 1, lead = 5 * l->before, rows = lead + l->rows;
    int32_t start[OTHERS + 2] = {0}, len[OTHERS + 1], *table = mem_array((size_t)n_pages, 4);
    int32_t *pages = mem_array((size_t)n_pages, 4);
    rng_permutation(rng_key(test_seed(), RNG_TEST), l->shuffle, (uint32_t *)pages,
                    (uint32_t)n_pages);
    for (int32_t q = 0; q < n; q++) { /* the measured sequence stands last */
        const int32_t id = q == n - 1 ? 0 : q + 1;
        start[q + 1] = q == n - 1 ? rows : 5 * (q + 1);
        len[q] = id ? 40 + 30 * id : l->first + l->rows;
        memcpy(table + q * per, pages + id * per, (size_t)per * 4);
    }
    float *k = pool(pages, per, l, 0), *v = pool(pages, per, l, 1);
    float *q = mem_array((size_t)rows * H * (size_t)D, sizeof *q);
    for (int64_t i = 0; i < (int64_t)rows * H * D; i++)
        q[i] = i < lead * H * D
                   ? 1
                   : number(2 * OTHERS + 2, i - lead * H * D + (int64_t)l->first * H * D);
    const size_t pool_bytes = (size_t)n_pages * (size_t)l->page * KV * (size_t)D * 4;
    struct kern_tensor tk =
        kern_view4(device_copy(b, s, k, pool_bytes), KERN_F32, n_pages, l->page, KV, D);
    struct kern_tensor tv =
        kern_view4(device_copy(b, s, v, pool_bytes), KERN_F32, n_pages, l->page, KV, D);
    struct kern_tensor tq =
        kern_view3(device_copy(b, s, q, (size_t)rows * H * (size_t)D * 4), KERN_F32, rows, H, D);
    struct kern_tensor to = tq, tl = kern_view2(NULL, KERN_F32, rows, H);
    CHECK_OK(kern_alloc(b, &to.data, to.bytes));
    CHECK_OK(kern_alloc(b, &tl.data, tl.bytes));
    struct kern_attn a = {.n_seqs = n,
                          .page = l->page,
                          .q_max = ROWS,
                          .kv_max = ROWS,
                          .window = l->window,
                          .scale = 0.15f};
    a.q_start = kern_view1(device_copy(b, s, start, sizeof start), KERN_I32, n + 1);
    a.kv_len = kern_view1(device_copy(b, s, len, sizeof len), KERN_I32, n);
    a.pages = kern_view2(device_copy(b, s, table, (size_t)n_pages * 4), KERN_I32, n, per);
    CHECK_OK(kern_attention(b, s, &to, &tl, &tq, &tk, &tv, &a));
    const size_t row = H * (size_t)D * sizeof(float);
    CHECK_OK(kern_get(b, s, out, (char *)to.data + (size_t)lead * row, (size_t)l->rows * row));
    CHECK_OK(kern_get(b, s, lse, (float *)tl.data + lead * H, (size_t)l->rows * H * 4));
    void *all[] = {tk.data, tv.data,        tq.data,       to.data,
                   tl.data, a.q_start.data, a.kv_len.data, a.pages.data};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        kern_release(b, all[i]);
    void *host[] = {table, pages, k, v, q};
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++)
        mem_free(host[i]);
}

static struct measure { float out[ROWS * H * D_MAX], lse[ROWS * H]; } whole, part;

static void check_layout(const struct kern_backend *b, struct kern_stream *s,
                         const struct layout *l) {
    compute(b, s, l, part.out, part.lse);
    for (int64_t i = 0; i < (int64_t)l->rows * H * D; i++)
        if (memcmp(&part.out[i], &whole.out[(int64_t)l->first * H * D + i], 4) != 0)
            test_fail(__FILE__, __LINE__,
                      "page %d, rows %d+%d, %d before, window %d: row %lld differs: %.9g, %.9g",
                      l->page, l->first, l->rows, l->before, l->window,
                      (long long)(l->first + i / (H * D)), (double)part.out[i],
                      (double)whole.out[(int64_t)l->first * H * D + i]);
    for (int64_t i = 0; i < (int64_t)l->rows * H; i++) /* finite: nothing unseen was read */
        CHECK(isfinite(part.lse[i]) && isfinite(part.out[i * D]) && part.out[i * D] != 0);
    CHECK(memcmp(part.lse, whole.lse + l->first * H, (size_t)l->rows * H * 4) == 0);
}

static void any_layout(const char *device, int32_t window, int32_t width) {
    D = width;
    static const int32_t pages[] = {1, 7, 16, 64, 256}, chunks[] = {1, 2, 37, 64, 100};
    for (int threads = 1; threads <= 2; threads++) {
        const struct kern_backend *b = op_device(device, threads);
        struct kern_stream *s = NULL;
        CHECK_OK(kern_stream_open(b, &s, 4 << 20));
        struct layout l = {.page = 16, .rows = ROWS, .window = window, .shuffle = 1};
        if (threads == 1)
            compute(b, s, &l, whole.out, whole.lse);
        else
            check_layout(b, s, &l);
        for (int32_t i = 0; i < 5; i++) {
            l = (struct layout){pages[i], 0, ROWS, i % 3, window, (uint64_t)i + 2};
            check_layout(b, s, &l);
            for (l.first = 0; l.first < ROWS; l.first += l.rows + (chunks[i] == 1 ? 9 : 0)) {
                l.rows = chunks[i] < ROWS - l.first ? chunks[i] : ROWS - l.first;
                check_layout(b, s, &l);
            }
        }
        kern_stream_close(b, s);
        kern_close(b);
    }
}

TEST(attention_cpu_any_layout) {
    any_layout("cpu", 0, 40);
}

TEST(attention_cpu_any_layout_with_window) {
    any_layout("cpu", 50, 40);
}

TEST(attention_cpu_any_layout_of_narrow_heads) {
    any_layout("cpu", 0, 8);
    any_layout("cpu", 0, 16);
    any_layout("cpu", 50, 12);
    any_layout("cpu", 3, 4);
}

TEST_TIMEOUT(attention_ref_any_layout, 120) {
    any_layout("ref", 50, 40);
}

TEST_TIMEOUT(attention_cuda_any_layout, 300) {
    any_layout(test_device(), 0, 40);
}
