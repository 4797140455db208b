/* sampler_test.c - the number that draws a token, and what is reported about it. */
#include "rollout/engine/sampler.h"

#include "base/rng.h"
#include "tests/test.h"

enum { VOCAB = 40, ROWS = 20, SEED = 9 };

struct world {
    const struct kern_backend *b;
    struct kern_stream *stream;
    struct sampler *sampler;
    struct kern_tensor logits;
    float host[ROWS * VOCAB];
};

static void open_world(struct world *w) {
    void *data;
    struct kern_limits l = {
        .rows = ROWS, .width_max = VOCAB, .heads = 1, .head_width = 2, .kv_max = 1};
    CHECK_OK(kern_open(&w->b, "cpu", 1));
    CHECK_OK(kern_stream_open(w->b, &w->stream, kern_scratch_bytes(w->b, &l)));
    CHECK_OK(kern_alloc(w->b, &data, sizeof w->host));
    CHECK_OK(sampler_open(&w->sampler, w->b, ROWS, SEED));
    w->logits = kern_view2(data, KERN_F32, ROWS, VOCAB);
    for (int i = 0; i < ROWS * VOCAB; i++)
        w->host[i] = 0;
}

static void put(struct world *w) {
    CHECK_OK(kern_put(w->b, w->stream, w->logits.data, w->host, sizeof w->host));
}

static void close_world(struct world *w) {
    sampler_close(&w->sampler);
    kern_release(w->b, w->logits.data);
    kern_stream_close(w->b, w->stream);
    kern_close(w->b);
}

TEST(sampler_number_depends_on_seed_id_and_position_only) {
    struct world w;
    struct sampler_row rows[ROWS];
    struct sampler_token out[ROWS];
    uint64_t key = rng_key(SEED, RNG_SAMPLE);
    open_world(&w);
    put(&w);
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct sampler_row){.id = (uint64_t)(i % 7) + (i % 2 ? (uint64_t)1 << 40 : 0),
                                       .position = i / 3,
                                       .temperature = 1,
                                       .top_p = 1,
                                       .forced = SAMPLER_SAMPLED};
    CHECK_OK(sampler_draw(w.sampler, w.stream, &w.logits, rows, ROWS, out));
    for (int i = 0; i < ROWS; i++) {
        double u = rng_uniform(key, rows[i].id, (uint64_t)rows[i].position);
        CHECK_INT(out[i].token, (int)(u * VOCAB));
        CHECK_NEAR(out[i].logprob, -log(VOCAB), 1e-5);
        CHECK(out[i].kept == 1);
    }
    close_world(&w);
}

TEST(sampler_forced_rows_report_the_given_token) {
    struct world w;
    struct sampler_row rows[ROWS];
    struct sampler_token drawn[ROWS], forced[ROWS];
    open_world(&w);
    for (int i = 0; i < ROWS * VOCAB; i++)
        w.host[i] = (float)rng_normal(rng_key(3, RNG_TEST), 0, (uint64_t)i) * 4;
    put(&w);
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct sampler_row){.id = (uint64_t)i,
                                       .temperature = i % 3 == 0 ? 0 : 0.5F + 0.1F * (float)i,
                                       .top_p = i % 4 == 0 ? 0.5F : 1,
                                       .forced = SAMPLER_SAMPLED};
    CHECK_OK(sampler_draw(w.sampler, w.stream, &w.logits, rows, ROWS, drawn));
    for (int i = 0; i < ROWS; i++)
        rows[i].forced = i % 2 ? drawn[i].token : SAMPLER_SAMPLED;
    CHECK_OK(sampler_draw(w.sampler, w.stream, &w.logits, rows, ROWS, forced));
    for (int i = 0; i < ROWS; i++) {
        CHECK_INT(forced[i].token, drawn[i].token);
        CHECK(memcmp(&forced[i].logprob, &drawn[i].logprob, sizeof(float)) == 0);
    }
    rows[1].forced = (drawn[1].token + 1) % VOCAB;
    CHECK_OK(sampler_draw(w.sampler, w.stream, &w.logits, rows, ROWS, forced));
    CHECK_INT(forced[1].token, rows[1].forced);
    CHECK(forced[1].logprob < drawn[1].logprob || forced[1].logprob > drawn[1].logprob);
    close_world(&w);
}

TEST(sampler_reports_what_is_no_distribution) {
    struct world w;
    struct sampler_row rows[2] = {
        {.temperature = 1, .top_p = 1, .forced = SAMPLER_SAMPLED},
        {.id = 12, .position = 4, .temperature = 1, .top_p = 1, .forced = SAMPLER_SAMPLED}};
    struct sampler_token out[2];
    open_world(&w);
    w.host[VOCAB + 3] = NAN;
    put(&w);
    w.logits.dim[0] = 2;
    CHECK_ERR(sampler_draw(w.sampler, w.stream, &w.logits, rows, 2, out), ERR_CORRUPT,
              "trajectory 12, position 4");
    close_world(&w);
}
