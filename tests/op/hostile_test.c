/* hostile_test.c - what the ops say to contents they cannot accept, that logprob and sample agree
 * in their bits, and that draws follow the distribution. On both host backends. */
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/test.h"

struct on {
    const struct kern_backend *b;
    struct kern_stream *s;
};

static struct on open_on(const char *device) {
    struct on o = {0};
    CHECK_OK(kern_open(&o.b, device, 1));
    CHECK_OK(kern_stream_open(o.b, &o.s, 4 << 20));
    return o;
}

static void close_on(struct on *o) {
    kern_stream_close(o->b, o->s);
    kern_close(o->b);
}

static const char *const devices[] = {"ref", "cpu"};

static struct kern_tensor f(float *x, int64_t n, int64_t m) {
    return kern_view2(x, KERN_F32, n, m);
}

TEST(hostile_indices_are_errors) {
    for (int d = 0; d < 2; d++) {
        struct on o = open_on(devices[d]);
        float x[64] = {0}, y[64] = {0};
        int32_t bad[] = {0, -1}, big[] = {0, 4}, page0[] = {0, 0}, q[] = {0, 2}, len[] = {2};
        struct kern_tensor t = f(x, 4, 4), out = f(y, 2, 4), i = kern_view1(bad, KERN_I32, 2);
        CHECK_ERR(kern_embed(o.b, o.s, &out, &t, &i), ERR_CONFIG, "embed: ids[1] = -1");
        CHECK_ERR(kern_embed_bwd(o.b, o.s, &t, &out, &i), ERR_CONFIG, "embed_bwd: ids[1] = -1");
        i.data = big;
        CHECK_ERR(kern_gather(o.b, o.s, &out, &t, &i), ERR_CONFIG, "rows[1] = 4, wanted 0..3");
        CHECK_ERR(kern_scatter_add(o.b, o.s, &t, &out, &i), ERR_CONFIG, "rows[1] = 4");
        struct kern_tensor pool = kern_view4(x, KERN_F32, 2, 2, 1, 4), pool2 = pool;
        struct kern_tensor k = kern_view3(y, KERN_F32, 2, 1, 4), v = k, head = k;
        CHECK_ERR(kern_kv_write(o.b, o.s, &pool, &pool2, &k, &v, &i), ERR_CONFIG, "slot[1] = 4");
        CHECK_ERR(kern_kv_read(o.b, o.s, &k, &v, &pool, &pool2, &i), ERR_CONFIG, "slot[1] = 4");
        struct kern_tensor c = f(x, 4, 2), s = f(x + 8, 4, 2);
        CHECK_ERR(kern_rope(o.b, o.s, &k, &i, &c, &s, false), ERR_CONFIG, "pos[1] = 4");
        struct kern_attn a = {.q_start = kern_view1(q, KERN_I32, 2),
                              .kv_len = kern_view1(len, KERN_I32, 1),
                              .pages = kern_view2(page0, KERN_I32, 1, 1),
                              .n_seqs = 1,
                              .page = 2,
                              .q_max = 2,
                              .kv_max = 2,
                              .scale = 1};
        struct kern_tensor to = kern_view3(x + 32, KERN_F32, 2, 1, 4);
        CHECK_OK(kern_attention(o.b, o.s, &to, NULL, &head, &pool, &pool2, &a));
        page0[0] = 2;
        CHECK_ERR(kern_attention(o.b, o.s, &to, NULL, &head, &pool, &pool2, &a), ERR_CONFIG,
                  "pages[0, 0] = 2, wanted 0..1");
        page0[0] = 0;
        len[0] = 1;
        CHECK_ERR(kern_attention(o.b, o.s, &to, NULL, &head, &pool, &pool2, &a), ERR_CONFIG,
                  "sequence 0 has 2 rows");
        len[0] = 2;
        q[1] = 3;
        CHECK_ERR(kern_attention(o.b, o.s, &to, NULL, &head, &pool, &pool2, &a), ERR_CONFIG,
                  "q_start");
        a.kv_max = 3;
        CHECK_ERR(kern_attention(o.b, o.s, &to, NULL, &head, &pool, &pool2, &a), ERR_CONFIG,
                  "kv_max 3 exceeds 1 pages of 2");
        close_on(&o);
    }
}

TEST(hostile_scratch_too_small_is_an_error) {
    struct on o = {0};
    float x[4] = {0}, w[4] = {0}, y[4] = {0};
    struct kern_tensor tx = f(x, 2, 2), tw = f(w, 2, 2), ty = f(y, 2, 2);
    CHECK_OK(kern_open(&o.b, "cpu", 1));
    CHECK_OK(kern_stream_open(o.b, &o.s, 64));
    CHECK_ERR(kern_matmul(o.b, o.s, &ty, &tx, &tw, NULL, NULL), ERR_CONFIG, "bytes of scratch");
    close_on(&o);
}

TEST(hostile_empty_batches_succeed) {
    for (int d = 0; d < 2; d++) {
        struct on o = open_on(devices[d]);
        float x[4] = {0};
        struct kern_tensor none = f(NULL, 0, 2), w = f(x, 2, 2),
                           ids = kern_view1(NULL, KERN_I32, 0);
        CHECK_OK(kern_matmul(o.b, o.s, &none, &none, &w, NULL, NULL));
        CHECK_OK(kern_embed(o.b, o.s, &none, &w, &ids));
        CHECK_OK(kern_matmul_dw(o.b, o.s, &w, NULL, &none, &none));
        CHECK(x[0] == 0 && x[3] == 0);
        close_on(&o);
    }
}

enum { ROWS = 40, VOCAB = 3001 };
static float logits[ROWS * VOCAB], uniform[2 * ROWS], drawn[ROWS], kept[ROWS], again[ROWS];
static float temperature[ROWS], top_p[ROWS], inverse[ROWS], lse[ROWS];
static int32_t top_k[ROWS], token[ROWS];

static void sample_rows(struct on *o) {
    struct kern_tensor t = kern_view1(token, KERN_I32, ROWS), l = f(logits, ROWS, VOCAB);
    struct kern_tensor lp = kern_view1(drawn, KERN_F32, ROWS), k = kern_view1(kept, KERN_F32, ROWS);
    struct kern_tensor te = kern_view1(temperature, KERN_F32, ROWS), u = f(uniform, ROWS, 2);
    struct kern_tensor tp = kern_view1(top_p, KERN_F32, ROWS),
                       tk = kern_view1(top_k, KERN_I32, ROWS);
    CHECK_OK(kern_sample(o->b, o->s, &t, &lp, &k, &l, &te, &tp, &tk, &u));
}

static void random_rows(void) {
    const uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (int64_t i = 0; i < ROWS * VOCAB; i++)
        logits[i] = 3 * (float)rng_normal(key, 1, (uint64_t)i);
    for (int64_t i = 0; i < ROWS; i++) {
        double u = rng_uniform(key, 2, (uint64_t)i);
        uniform[2 * i] = (float)u;
        uniform[2 * i + 1] = (float)(u - (double)uniform[2 * i]);
        temperature[i] = 0.25f * (float)(i % 5);
        top_p[i] = i % 3 ? 1 : 0.7f;
        top_k[i] = i % 4 ? 0 : 20;
    }
}

/* Invariant I6 at the head: what sample reports, logprob gives again, in the same bits. */
TEST(sample_and_logprob_agree_in_bits) {
    for (int d = 0; d < 2; d++) {
        struct on o = open_on(devices[d]);
        random_rows();
        sample_rows(&o);
        for (int i = 0; i < ROWS; i++)
            inverse[i] = temperature[i] > 0 ? 1.0f / temperature[i] : 1;
        struct kern_tensor t = kern_view1(token, KERN_I32, ROWS), l = f(logits, ROWS, VOCAB);
        struct kern_tensor lp = kern_view1(again, KERN_F32, ROWS), ls = lp;
        struct kern_tensor inv = kern_view1(inverse, KERN_F32, ROWS);
        ls.data = lse;
        CHECK_OK(kern_logprob(o.b, o.s, &lp, NULL, &ls, &l, &t, &inv));
        CHECK(memcmp(again, drawn, sizeof drawn) == 0);
        close_on(&o);
    }
}

/* Words of probability 1/2, 1/4, 1/8, 1/8 at ids 2000, 5, 1500, 2999; -inf elsewhere. */
TEST(sample_inverts_the_cumulative_sum) {
    static const struct want {
        float u, top_p;
        int32_t top_k, token;
        double kept;
    } wants[] = {
        {0, 1, 0, 5, 1},
        {0.2499f, 1, 0, 5, 1},
        {0.2501f, 1, 0, 1500, 1},
        {0.376f, 1, 0, 2000, 1},
        {0.874f, 1, 0, 2000, 1},
        {0.876f, 1, 0, 2999, 1},
        {0.9999999f, 1, 0, 2999, 1},
        {0.9f, 1, 1, 2000, 0.5},
        {0.3f, 0.7f, 0, 5, 0.75},
        {0.34f, 0.7f, 0, 2000, 0.75},
        {0.999f, 0.8f, 0, 2000, 0.875},
        {0.3f, 0, 0, 2000, 0.5},
        {0.3f, 1, 2, 5, 0.75},
        {0.5f, 0.5f, 3, 2000, 0.5},
        {0.99f, 1, 3, 2000, 0.875},
    };
    enum { WANTS = sizeof wants / sizeof wants[0] };
    for (int d = 0; d < 2; d++) {
        struct on o = open_on(devices[d]);
        for (int64_t i = 0; i < ROWS * VOCAB; i++)
            logits[i] = -INFINITY;
        for (int i = 0; i < ROWS; i++) {
            const struct want *w = &wants[i % WANTS];
            float *row = logits + (int64_t)i * VOCAB;
            row[2000] = logf(0.5f);
            row[5] = logf(0.25f);
            row[1500] = row[2999] = logf(0.125f);
            uniform[2 * i] = w->u;
            uniform[2 * i + 1] = 0;
            temperature[i] = 1;
            top_p[i] = w->top_p;
            top_k[i] = w->top_k;
        }
        sample_rows(&o);
        for (int i = 0; i < ROWS; i++) {
            if (token[i] != wants[i % WANTS].token)
                test_fail(__FILE__, __LINE__, "%s row %d: token %d, wanted %d", devices[d], i,
                          (int)token[i], (int)wants[i % WANTS].token);
            CHECK_NEAR(kept[i], wants[i % WANTS].kept, 1e-6);
            CHECK_NEAR(drawn[i], logits[(int64_t)i * VOCAB + token[i]], 1e-6);
        }
        close_on(&o);
    }
}
