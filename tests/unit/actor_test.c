/* actor_test.c - what surrounds the arithmetic: the trust boundary for batches, the memory plan,
 * and misuse. The arithmetic is judged in tests/golden. */
#include "actor/actor.h"

#include "base/mem.h"
#include "tests/golden/rig.h"
#include "tests/test.h"

enum { ROWS = 6 };

struct fixture { /* two sequences: 4 rows at keys 0..3, 2 rows at keys 3..4; pages of 4 */
    int32_t ids[ROWS], pos[ROWS], slot[ROWS], q_start[3], kv_len[2], pages[4];
    struct actor_batch batch;
};

static void good(struct fixture *f) {
    *f = (struct fixture){.ids = {1, 2, 3, 4, 5, 6},
                          .pos = {0, 1, 2, 3, 3, 4},
                          .slot = {20, 21, 22, 23, 11, 4},
                          .q_start = {0, 4, 6},
                          .kv_len = {4, 5},
                          .pages = {5, -1, 2, 1}};
    f->batch = (struct actor_batch){.n_rows = ROWS,
                                    .n_seqs = 2,
                                    .pages_max = 2,
                                    .ids = f->ids,
                                    .pos = f->pos,
                                    .slot = f->slot,
                                    .q_start = f->q_start,
                                    .kv_len = f->kv_len,
                                    .pages = f->pages};
}

static const struct shape small = {.family = SHAPE_LLAMA,
                                   .d = 8,
                                   .layers = 2,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .head_width = 4,
                                   .ffn = 10,
                                   .vocab = 11,
                                   .context = 32,
                                   .norm_eps = 1e-6f,
                                   .rope_theta = 10000,
                                   .rope_attn = 1,
                                   .bos = -1};

static struct actor_config config(const struct kern_backend *b) {
    return (struct actor_config){.backend = b,
                                 .shape = small,
                                 .rows_max = 8,
                                 .seqs_max = 3,
                                 .context = 16,
                                 .pages = 6,
                                 .page = 4,
                                 .head_rows = 3,
                                 .train = true};
}

static struct actor *opened(struct params **w) {
    const struct kern_backend *b;
    struct actor *a;
    CHECK_OK(kern_open(&b, "ref", 1));
    struct actor_config cfg = config(b);
    CHECK_OK(params_open(w, b, &small));
    CHECK_OK(params_init(*w, 3));
    CHECK_OK(actor_open(&a, &cfg));
    return a;
}

TEST(actor_refuses_bad_batches) {
    struct params *w;
    struct actor *a = opened(&w);
    struct fixture f;
    good(&f);
    CHECK_ERR(actor_forward(a, &f.batch), ERR_CONFIG, "no weights");
    CHECK_OK(actor_use(a, w));
    CHECK_OK(actor_forward(a, &f.batch));
#define BAD(change, text)                                                                          \
    do {                                                                                           \
        good(&f);                                                                                  \
        change;                                                                                    \
        CHECK_ERR(actor_forward(a, &f.batch), ERR_CONFIG, text);                                   \
    } while (0)
    BAD(f.ids[2] = 11, "ids[2] is 11, allowed is 0..10");
    BAD(f.ids[5] = -1, "ids[5] is -1");
    BAD(f.pos[1] = 16, "pos[1] is 16, allowed is 0..15");
    BAD(f.slot[3] = 24, "slot[3] is 24, but key 3 of sequence 0 lies at 23");
    BAD(f.slot[0] = -1, "slot[0] is -1");
    BAD(f.q_start[0] = 1, "q_start[0] is 1");
    BAD(f.q_start[1] = 7, "q_start[1] is 7, allowed is 0..6");
    BAD(f.q_start[2] = 5, "q_start[2] is 5, allowed is 6..6");
    BAD(f.q_start[1] = -1, "q_start[1] is -1");
    BAD(f.kv_len[0] = 3, "kv_len[0] is 3, allowed is 4..8");
    BAD(f.kv_len[1] = 9, "kv_len[1] is 9");
    BAD(f.pages[0] = 6, "pages[0] is 6, allowed is 0..5");
    BAD(f.pages[3] = -1, "pages[3] is -1");
    BAD(f.batch.n_rows = 9, "n_rows is 9, allowed is 1..8");
    BAD(f.batch.n_rows = 0, "n_rows is 0");
    BAD(f.batch.n_seqs = 4, "n_seqs is 4, allowed is 1..3");
    BAD(f.batch.pages_max = 5, "pages_max is 5, allowed is 1..4");
    BAD(f.kv_len[1] = INT32_MAX, "kv_len[1] is 2147483647");
    struct kern_tensor logits;
    CHECK_ERR(actor_logits(a, (int32_t[]){0}, 1, &logits), ERR_CONFIG, "no forward");
    actor_close(&a);
    params_close(&w);
}

TEST(actor_refuses_bad_rows) {
    struct params *w;
    struct actor *a = opened(&w);
    struct fixture f;
    struct kern_tensor logits;
    float lp[ROWS];
    int32_t rows[] = {0, 1, 2, 3, 6}, targets[] = {0, 1, 2, 11, 3};
    good(&f);
    CHECK_OK(actor_use(a, w));
    CHECK_OK(actor_forward(a, &f.batch));
    CHECK_OK(actor_logits(a, rows, 3, &logits));
    CHECK_INT(logits.dim[0], 3);
    CHECK_INT(logits.dim[1], 11);
    CHECK_ERR(actor_logits(a, rows, 4, &logits), ERR_CONFIG, "4 rows of logits, the limit");
    CHECK_ERR(actor_logits(a, rows + 4, 1, &logits), ERR_CONFIG, "rows[0] is 6, allowed is 0..5");
    CHECK_ERR(actor_logprobs(a, rows, targets, 4, 1, lp, NULL), ERR_CONFIG,
              "targets[3] is 11, allowed is 0..10");
    CHECK_ERR(actor_logprobs(a, rows, targets, 3, 0, lp, NULL), ERR_CONFIG, "inv_temp is 0");
    CHECK_ERR(actor_logprobs(a, rows, targets, 3, NAN, lp, NULL), ERR_CONFIG, "inv_temp is nan");
    CHECK_OK(actor_logprobs(a, rows, targets, 0, 1, lp, NULL));
    actor_close(&a);
    params_close(&w);
}

static int flat(void *ctx, int64_t first, const struct loss_rows *rows) {
    (void)first;
    for (int64_t i = 0; i < rows->n; i++) {
        rows->g_logprob[i] = rows->g_entropy[i] = 1;
        if (rows->g_value) rows->g_value[i] = 0;
    }
    return ctx ? FAIL(ERR_STALE, "the loss says no") : 0;
}

TEST(actor_refuses_bad_backwards) {
    struct params *w, *g;
    struct actor *a = opened(&w);
    struct fixture f;
    int32_t rows[] = {0, 1, 2, 1}, targets[] = {0, 1, 2, 3};
    CHECK_OK(params_open(&g, actor_config(a)->backend, &small));
    good(&f);
    CHECK_OK(actor_use(a, w));
    CHECK_ERR(actor_backward(a, &f.batch, rows, targets, 3, 1, flat, NULL, g), ERR_CONFIG,
              "no forward");
    CHECK_OK(actor_forward(a, &f.batch));
    CHECK_ERR(actor_backward(a, &f.batch, rows, targets, 3, 1, flat, NULL, g), ERR_CONFIG,
              "key 0 of sequence 1 is of no row");
    f.kv_len[1] = 2;
    f.slot[4] = 8;
    f.slot[5] = 9;
    CHECK_OK(actor_forward(a, &f.batch));
    CHECK_ERR(actor_backward(a, &f.batch, rows, targets, 4, 1, flat, NULL, g), ERR_CONFIG,
              "rows[3] = 1 is there twice");
    CHECK_ERR(actor_backward(a, &f.batch, rows, targets, 3, 1, flat, a, g), ERR_STALE, "says no");
    CHECK_OK(actor_backward(a, &f.batch, rows, targets, 3, 1, flat, NULL, g));
    CHECK_ERR(actor_backward(a, &f.batch, rows, targets, 3, 1, flat, NULL, g), ERR_CONFIG,
              "used up");
    struct shape other = small;
    struct params *wrong;
    other.ffn++;
    CHECK_OK(params_open(&wrong, actor_config(a)->backend, &other));
    CHECK_OK(actor_forward(a, &f.batch));
    CHECK_ERR(actor_backward(a, &f.batch, rows, targets, 3, 1, flat, NULL, wrong), ERR_MISMATCH,
              "another shape");
    CHECK_ERR(actor_use(a, wrong), ERR_MISMATCH, "another shape");
    params_close(&wrong);
    params_close(&g);
    params_close(&w);
    actor_close(&a);
}

TEST(actor_refuses_bad_configs) {
    const struct kern_backend *b;
    struct actor *a = NULL;
    struct actor_config c;
    CHECK_OK(kern_open(&b, "ref", 1));
#define BAD_CONFIG(change, text)                                                                   \
    do {                                                                                           \
        c = config(b);                                                                             \
        change;                                                                                    \
        CHECK_ERR(actor_open(&a, &c), ERR_CONFIG, text);                                           \
        CHECK(!a);                                                                                 \
    } while (0)
    BAD_CONFIG(c.rows_max = 0, "rows_max is 0");
    BAD_CONFIG(c.seqs_max = -1, "seqs_max is -1");
    BAD_CONFIG(c.context = 33, "context is 33, allowed is 1..32");
    BAD_CONFIG(c.page = 0, "page is 0");
    BAD_CONFIG(c.pages = INT32_MAX, "pages is 2147483647");
    BAD_CONFIG(c.head_rows = -1, "head_rows is -1");
}

/* --- the memory plan ------------------------------------------------------------------------ */

static const struct kern_backend *inner;
static size_t taken, calls;

static int counting_alloc(void **out, size_t bytes) {
    taken += bytes;
    calls++;
    return inner->alloc(out, bytes);
}

static int counting_stream(struct kern_stream **out, size_t scratch) {
    taken += scratch;
    calls++;
    return inner->stream_open(out, scratch);
}

/* What is planned is what is taken, and nothing more is taken while working. */
static void check_plan(const char *name, const struct actor_config *base) {
    CHECK_OK(kern_open(&inner, name, 1));
    struct kern_backend counting = *inner;
    struct actor_config cfg = *base;
    struct params *w, *g;
    struct actor *a;
    struct fixture f;
    int32_t rows[] = {0, 1, 2, 3}, targets[] = {1, 2, 3, 4};
    float lp[4];
    counting.alloc = counting_alloc;
    counting.stream_open = counting_stream;
    cfg.backend = &counting;
    CHECK_OK(params_open(&w, &counting, &cfg.shape));
    CHECK_OK(params_open(&g, &counting, &cfg.shape));
    CHECK_OK(params_init(w, 1));
    taken = calls = 0;
    CHECK_OK(actor_open(&a, &cfg));
    CHECK_INT(taken, actor_bytes(&cfg));
    calls = 0;
    good(&f);
    f.batch.n_rows = 4;
    f.batch.n_seqs = 1;
    CHECK_OK(actor_use(a, w));
    CHECK_OK(actor_forward(a, &f.batch));
    CHECK_OK(actor_logprobs(a, rows, targets, 4, 1, lp, NULL));
    CHECK_OK(actor_copy_page(a, 0, 5, actor_config(a)->page));
    if (cfg.train) CHECK_OK(actor_backward(a, &f.batch, rows, targets, 4, 1, flat, NULL, g));
    CHECK_INT(calls, 0);
    actor_close(&a);
    params_close(&w);
    params_close(&g);
}

TEST(actor_plan_is_what_is_taken) {
    static const char *const names[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        struct actor_config cfg = config(NULL);
        for (int way = 0; way < 8; way++) {
            cfg.train = way & 1;
            cfg.recompute = way & 2 ? 1 + (way & 1) : 0;
            cfg.pack = way & 4;
            cfg.shape.qk_norm = way & 2;
            cfg.shape.tied_head = way & 1;
            check_plan(names[i], &cfg);
        }
    }
}

static int failing_at;

static int failing_alloc(void **out, size_t bytes) {
    return failing_at-- == 0 ? FAIL(ERR_NOMEM, "no memory left") : inner->alloc(out, bytes);
}

static int failing_stream(struct kern_stream **out, size_t scratch) {
    return failing_at-- == 0 ? FAIL(ERR_NOMEM, "no memory left") : inner->stream_open(out, scratch);
}

/* Whichever allocation fails, opening says so and leaves nothing (the leak sanitizer looks). */
TEST(actor_open_without_memory) {
    CHECK_OK(kern_open(&inner, "ref", 1));
    struct kern_backend failing = *inner;
    struct actor_config cfg = config(&failing);
    struct params *p = NULL;
    struct actor *a = NULL;
    failing.alloc = failing_alloc;
    failing.stream_open = failing_stream;
    for (int k = 0; k < 2; k++) {
        failing_at = k;
        CHECK_ERR(actor_open(&a, &cfg), ERR_NOMEM, "no memory left");
        failing_at = k;
        CHECK_ERR(params_open(&p, &failing, &small), ERR_NOMEM, "no memory left");
        CHECK(!a && !p);
    }
    failing_at = 2;
    CHECK_OK(actor_open(&a, &cfg));
    actor_close(&a);
}

TEST(actor_plan_of_absurd_sizes) {
    const struct kern_backend *b;
    struct actor *a = NULL;
    CHECK_OK(kern_open(&b, "ref", 1));
    struct actor_config cfg = config(b);
    cfg.shape.ffn = 1 << 21;
    cfg.shape.layers = 1024;
    cfg.shape.vocab = 1 << 24;
    cfg.rows_max = 1 << 22;
    cfg.head_rows = 1 << 22;
    CHECK(actor_bytes(&cfg) > (size_t)1 << 50);
    CHECK_ERR(actor_open(&a, &cfg), ERR_NOMEM, "");
    CHECK(!a);
}

/* A copied page serves as well as the original: the next token's logits have the same bits. */
TEST(actor_copies_pages) {
    struct params *w;
    struct actor *a = opened(&w);
    struct fixture f;
    struct kern_tensor logits;
    float before[11];
    int32_t last[] = {1};
    good(&f);
    CHECK_OK(actor_use(a, w));
    f.q_start[1] = f.kv_len[0] = f.batch.n_rows = 4; /* prefill 4 rows into page 5 */
    f.batch.n_seqs = 1;
    CHECK_OK(actor_forward(a, &f.batch));
    for (int copied = 0; copied < 2; copied++) { /* then keys 4, 5 in page 0 */
        good(&f);
        f.batch.n_seqs = 1;
        f.batch.n_rows = f.q_start[1] = 2;
        f.kv_len[0] = 6;
        f.pages[0] = copied ? 3 : 5;
        f.pages[1] = 0;
        f.slot[0] = 0;
        f.slot[1] = 1;
        f.pos[0] = 4;
        f.pos[1] = 5;
        if (copied) CHECK_OK(actor_copy_page(a, 3, 5, actor_config(a)->page));
        CHECK_OK(actor_forward(a, &f.batch));
        CHECK_OK(actor_logits(a, last, 1, &logits));
        if (copied) CHECK(memcmp(before, logits.data, sizeof before) == 0);
        memcpy(before, logits.data, sizeof before);
    }
    CHECK_ERR(actor_copy_page(a, 6, 0, 1), ERR_CONFIG, "page to copy to is 6");
    CHECK_ERR(actor_copy_page(a, 0, 1, actor_config(a)->page + 1), ERR_CONFIG, "keys to copy");
    CHECK_ERR(actor_copy_page(a, 0, -1, 1), ERR_CONFIG, "page to copy is -1");
    actor_close(&a);
    params_close(&w);
}

/* NaN weights are data, not an error: the log-probs are NaN and nothing else happens. */
TEST(actor_lets_nan_through) {
    struct params *w, *g;
    struct actor *a = opened(&w);
    struct fixture f;
    int32_t rows[] = {0, 1}, targets[] = {0, 1};
    float lp[2];
    size_t n = (size_t)params_slab_elements(&small);
    float *x = mem_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
    CHECK_OK(params_put(w, x, n * sizeof *x));
    CHECK_OK(params_open(&g, actor_config(a)->backend, &small));
    good(&f);
    f.batch.n_rows = 4;
    f.batch.n_seqs = 1;
    CHECK_OK(actor_use(a, w));
    CHECK_OK(actor_forward(a, &f.batch));
    CHECK_OK(actor_logprobs(a, rows, targets, 2, 1, lp, NULL));
    CHECK(isnan(lp[0]) && isnan(lp[1]));
    CHECK_OK(actor_backward(a, &f.batch, rows, targets, 2, 1, flat, NULL, g));
    mem_free(x);
    params_close(&g);
    params_close(&w);
    actor_close(&a);
}

/* One sequence of n rows at keys first.. whose page table is the pool's own order. */
static struct actor_batch straight(int32_t first, int32_t n) {
    static int32_t ids[16], pos[16], pages[4] = {0, 1, 2, 3}, q_start[2], kv_len[1];
    for (int32_t i = 0; i < n; i++) {
        ids[i] = 1 + i;
        pos[i] = first + i;
    }
    q_start[1] = n;
    kv_len[0] = first + n;
    return (struct actor_batch){.n_rows = n,
                                .n_seqs = 1,
                                .pages_max = 4,
                                .ids = ids,
                                .pos = pos,
                                .slot = pos,
                                .q_start = q_start,
                                .kv_len = kv_len,
                                .pages = pages};
}

TEST(actor_refuses_bad_segments) {
    static const int32_t rows[] = {1}, targets[] = {2};
    const struct kern_backend *b;
    struct params *w, *g;
    struct actor *a;
    CHECK_OK(kern_open(&b, "ref", 1));
    struct actor_config cfg = config(b);
    cfg.segment_keys = 6;
    CHECK_ERR(actor_open(&a, &cfg), ERR_CONFIG, "multiple of the page");
    cfg.segment_keys = 28;
    CHECK_ERR(actor_open(&a, &cfg), ERR_CONFIG, "segment_keys is 28, allowed is 0..24");
    cfg.segment_keys = 8;
    cfg.train = false;
    CHECK_ERR(actor_open(&a, &cfg), ERR_CONFIG, "segment_keys");
    cfg.train = true;
    CHECK_OK(params_open(&w, b, &small));
    CHECK_OK(params_init(w, 3));
    CHECK_OK(params_open(&g, b, &small));
    CHECK_OK(actor_open(&a, &cfg));
    CHECK_OK(actor_use(a, w));
    struct actor_batch one = straight(0, 4), two = straight(0, 3);
    CHECK_ERR(actor_push(a), ERR_CONFIG, "no training forward");
    CHECK_ERR(actor_pop(a, &one, NULL, NULL, 0, 1, flat, NULL, g), ERR_CONFIG, "no segment");
    CHECK_OK(actor_forward(a, &two));
    CHECK_ERR(actor_push(a), ERR_CONFIG, "multiples of 4");
    one = straight(4, 4);
    CHECK_OK(actor_forward(a, &one));
    CHECK_ERR(actor_push(a), ERR_CONFIG, "slots from 0 on");
    CHECK_ERR(actor_backward(a, &one, rows, targets, 1, 1, flat, NULL, g), ERR_CONFIG,
              "of no row of this batch");
    one = straight(0, 4);
    one.keys_only = true;
    CHECK_OK(actor_forward(a, &one));
    CHECK_ERR(actor_logprobs(a, rows, targets, 1, 1, NULL, NULL), ERR_CONFIG, "keys only");
    CHECK_ERR(actor_backward(a, &one, rows, targets, 1, 1, flat, NULL, g), ERR_CONFIG,
              "not pushed");
    CHECK_OK(actor_push(a));
    CHECK_ERR(actor_push(a), ERR_CONFIG, "no training forward");
    CHECK_ERR(actor_pop(a, &one, rows, targets, 1, 1, flat, NULL, g), ERR_CONFIG, "has no head");
    one = straight(4, 5);
    CHECK_ERR(actor_forward(a, &one), ERR_CONFIG, "allowed is 1..4"); /* 8 rows, 4 are taken */
    one = straight(4, 2);
    CHECK_OK(actor_forward(a, &one));
    CHECK_OK(actor_backward(a, &one, rows, targets, 1, 1, flat, NULL, g)); /* keys of the segment */
    one = straight(0, 4);
    CHECK_ERR(actor_pop(a, &one, NULL, NULL, 0, 1, flat, NULL, g), ERR_CONFIG, "another batch");
    one.keys_only = true;
    CHECK_OK(actor_pop(a, &one, NULL, NULL, 0, 1, flat, NULL, g));
    CHECK_OK(actor_forward(a, &one));
    CHECK_OK(actor_push(a));
    actor_unwind(a);
    CHECK_ERR(actor_pop(a, &one, NULL, NULL, 0, 1, flat, NULL, g), ERR_CONFIG, "no segment");
    actor_close(&a);
    params_close(&w);
    params_close(&g);
    kern_close(b);
}

TEST(actor_plan_counts_segments) {
    const struct kern_backend *b;
    CHECK_OK(kern_open(&b, "ref", 1));
    struct actor_config cfg = config(b);
    size_t none = actor_bytes(&cfg);
    CHECK_INT(actor_host_bytes(&cfg), 0);
    cfg.segment_keys = 8;
    CHECK_INT(actor_bytes(&cfg) - none, 2 * 2 * 8 * 4 * 4); /* layers, k and v, keys, width */
    cfg.offload_segments = true;
    CHECK_INT(actor_bytes(&cfg) - none, 2 * 2 * 8 * 4 * 4);
    /* per layer x0, h1, x1, h2, q, att, lse, gate, up; once x2 */
    CHECK_INT(actor_host_bytes(&cfg), 8 * (2 * (4 * 8 + 8 + 8 + 2 + 10 + 10) + 8) * 4);
    kern_close(b);
}
