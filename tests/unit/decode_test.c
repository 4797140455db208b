/* decode_test.c - steps done by recordings give the tokens and the bits of steps issued plainly, on
 * the simulated device: in every bucket, beside prefill, under preemption, across versions. */
#include "rollout/engine/decode.h"

#include "base/mem.h"
#include "base/rng.h"
#include "rollout/engine/engine.h"
#include "tests/test.h"
#include "tests/tiny.h"

enum { IDS = 40, NEW = 24, STEPS_MAX = 3000 };

/* The simulated device's fibers take twenty times as long under a sanitizer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

struct answer {
    int32_t n, tokens[NEW];
    float logprob[NEW], kept[NEW];
    int64_t version[NEW];
    enum engine_finish finish;
};

struct world {
    struct kern_backend table; /* a copy, whose entries tests replace */
    const struct kern_backend *device;
    struct shape shape;
    struct params *weights, *other;
    struct engine_config cfg;
    struct engine *engine;
    struct answer answers[IDS];
};

static struct kern_calls {
    const struct kern_backend *real;
    int puts, gets, syncs, replays, matmuls;
    bool fail_end;
} calls;

static int count_put(struct kern_stream *s, void *dst, const void *src, size_t n) {
    calls.puts++;
    return calls.real->put(s, dst, src, n);
}
static int count_get(struct kern_stream *s, void *dst, const void *src, size_t n) {
    calls.gets++;
    return calls.real->get(s, dst, src, n);
}
static int count_sync(struct kern_stream *s) {
    calls.syncs++;
    return calls.real->sync(s);
}
static int count_replay(struct kern_stream *s, struct kern_graph *g) {
    calls.replays++;
    return calls.real->replay(s, g);
}
static int count_matmul(struct kern_stream *s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed,
                        kern_arg bias) {
    calls.matmuls++;
    return calls.real->matmul(s, y, x, w, packed, bias);
}
static int end_or_fail(struct kern_stream *s, struct kern_graph **out) {
    struct kern_graph *g = NULL;
    TRY(calls.real->record_end(s, &g));
    if (calls.fail_end) {
        calls.real->graph_close(g);
        return FAIL(ERR_NOMEM, "no memory for a graph");
    }
    *out = g;
    return 0;
}

static void open_world(struct world *w, const char *device, bool bf16) {
    *w = (struct world){.shape = tiny_shape(bf16)};
    CHECK_OK(kern_open(&w->device, device, 1));
    w->table = *w->device;
    calls = (struct kern_calls){.real = w->device};
    w->table.put = count_put;
    w->table.get = count_get;
    w->table.sync = count_sync;
    w->table.matmul = count_matmul;
    if (kern_records(w->device)) w->table.replay = count_replay;
    if (kern_records(w->device)) w->table.record_end = end_or_fail;
    w->shape.bf16 = bf16;
    w->weights = tiny_params(&w->table, &w->shape, 11);
    w->other = tiny_params(&w->table, &w->shape, 12);
    w->cfg = (struct engine_config){.backend = &w->table,
                                    .shape = w->shape,
                                    .seqs_max = 9,
                                    .context = 64,
                                    .chunk_tokens = 6,
                                    .page = 4,
                                    .waiting_max = 64,
                                    .graph_keys = 8,
                                    .seed = 5};
}

static void close_world(struct world *w) {
    engine_close(&w->engine);
    params_close(&w->weights);
    params_close(&w->other);
    kern_close(w->device);
}

static void start(struct world *w, bool plain) {
    engine_close(&w->engine);
    memset(w->answers, 0, sizeof w->answers);
    w->cfg.plain = plain;
    CHECK_OK(engine_open(&w->engine, &w->cfg));
    CHECK_OK(engine_swap(w->engine, w->weights, 3));
}

/* A prompt that is a function of `which`. */
static void add(struct world *w, uint64_t id, uint64_t which, int32_t n_prompt, int32_t n_new) {
    static const int32_t stop[] = {7}, forced[NEW] = {5, 9, 5, 9, 1, 2, 3, 4, 5, 6, 7, 8};
    int32_t ids[64];
    for (int32_t i = 0; i < n_prompt; i++)
        ids[i] = (int32_t)rng_below(rng_key(3, RNG_TEST), which, (uint64_t)i, 61);
    struct engine_request r = {.id = id,
                               .prompt = ids,
                               .n_prompt = n_prompt,
                               .max_new_tokens = n_new,
                               .temperature = id % 4 == 1   ? 0
                                              : id % 4 == 2 ? 0.7F
                                                            : 1.0F,
                               .top_p = id % 5 == 3 ? 0.8F : 1.0F,
                               .top_k = id % 7 == 4 ? 9 : 0,
                               .stop_ids = stop,
                               .n_stop_ids = id % 3 == 0,
                               .forced = id % 11 == 10 ? forced : NULL};
    CHECK_OK(engine_add(w->engine, &r));
}

static int32_t step(struct world *w) {
    const struct engine_token *t;
    int32_t n;
    CHECK_OK(engine_step(w->engine, &t, &n));
    for (int32_t i = 0; i < n; i++) {
        struct answer *a = &w->answers[t[i].id];
        CHECK(a->n < NEW && a->n == t[i].position && a->finish == ENGINE_RUNNING);
        a->tokens[a->n] = t[i].token;
        a->logprob[a->n] = t[i].logprob;
        a->kept[a->n] = t[i].kept;
        a->version[a->n++] = t[i].version;
        a->finish = t[i].finish;
    }
    return n;
}

static void finish(struct world *w) {
    for (int i = 0; !engine_idle(w->engine); i++) {
        CHECK(i < STEPS_MAX);
        step(w);
    }
}

static void same_tokens(const struct answer *got, const struct answer *want) {
    for (int i = 0; i < IDS; i++) {
        CHECK_INT(got[i].n, want[i].n);
        CHECK_INT(got[i].finish, want[i].finish);
        for (int32_t k = 0; k < want[i].n; k++) {
            CHECK_INT(got[i].tokens[k], want[i].tokens[k]);
            CHECK_INT(got[i].version[k], want[i].version[k]);
        }
    }
}

static void same_bits(const struct answer *got, const struct answer *want) {
    same_tokens(got, want);
    for (int i = 0; i < IDS; i++) {
        CHECK(memcmp(got[i].logprob, want[i].logprob, sizeof got[i].logprob) == 0);
        CHECK(memcmp(got[i].kept, want[i].kept, sizeof got[i].kept) == 0);
    }
}

/* As many run as there are requests, fewer and fewer. */
static void shrinking(struct world *w) {
    for (uint64_t i = 0; i < 9; i++)
        add(w, i, i, 1 + (int32_t)i * 3 % 17, 3 + (int32_t)i);
    finish(w);
}

/* Nine at once, then one less every second step: each bucket twice at least. */
static void one_by_one(struct world *w) {
    for (uint64_t i = 0; i < 9; i++)
        add(w, i, i, 1, 3 + (int32_t)i * 2);
    finish(w);
}

/* Groups with a common prompt, requests that come while others decode, and a long one. */
static void arriving(struct world *w) {
    for (uint64_t i = 0; i < 15; i++) {
        add(w, i, i / 3, 2 + (int32_t)(i / 3) * 4 % 31, 4 + (int32_t)i % 6);
        if (i % 2) step(w);
    }
    finish(w);
}

/* Versions change while sequences run, there and back. */
static void changing(struct world *w) {
    for (uint64_t i = 0; i < 8; i++)
        add(w, i, i, 3, 13);
    for (int i = 0; i < 11; i++) {
        if (i == 4) CHECK_OK(engine_swap(w->engine, w->other, 4));
        if (i == 8) CHECK_OK(engine_swap(w->engine, w->weights, 5));
        step(w);
    }
    finish(w);
}

typedef void script(struct world *w);

static struct engine_stats recorded_equals_plain(struct world *w, script *run) {
    struct engine_stats plain, stats;
    struct answer want[IDS];
    start(w, true);
    run(w);
    engine_stats(w->engine, &plain);
    CHECK_INT(plain.graph_steps + plain.graph_records, 0);
    CHECK_INT(plain.waits, plain.steps);
    memcpy(want, w->answers, sizeof want);
    start(w, false);
    run(w);
    engine_stats(w->engine, &stats);
    same_bits(w->answers, want);
    CHECK_INT(stats.waits, stats.steps);
    CHECK_INT(stats.steps, plain.steps);
    CHECK_INT(stats.decode_tokens, plain.decode_tokens);
    CHECK_INT(stats.preemptions, plain.preemptions);
    CHECK_INT(stats.pages_used, 0);
    CHECK(stats.graph_records > 0 && stats.graph_steps >= stats.graph_records);
    return stats;
}

static void all_scripts(const char *device, bool bf16) {
    struct world w;
    struct engine_stats stats;
    open_world(&w, device, bf16);
    if (sanitized) {
        recorded_equals_plain(&w, shrinking);
        close_world(&w);
        return;
    }
    w.cfg.graph_keys = 64; /* one width */
    stats = recorded_equals_plain(&w, one_by_one);
    CHECK_INT(stats.graph_records, 5); /* of 9, 8, 4, 2 and 1 rows */
    recorded_equals_plain(&w, changing);
    w.cfg.graph_keys = 8;
    recorded_equals_plain(&w, arriving);
    w.cfg.context = 48; /* few pages, so that sequences run out of them */
    w.cfg.pages = 12;
    stats = recorded_equals_plain(&w, changing);
    CHECK(stats.preemptions > 0);
    close_world(&w);
}

TEST_TIMEOUT(decode_recorded_equals_plain, 120) {
    all_scripts("cudasim:0", false);
}

TEST_TIMEOUT(decode_recorded_equals_plain_in_bf16, 120) {
    all_scripts("cudasim:1", true);
}

TEST_TIMEOUT(decode_recorded_equals_plain_on_cuda, 120) {
    const struct kern_backend *b = NULL;
    if (kern_open(&b, "cuda:0", 1) < 0) test_skip(err_text());
    kern_close(b);
    all_scripts("cuda:0", false);
    all_scripts("cuda:0", true);
}

/* Several chunks of keys in attention: the launch's reach does not show. */
TEST_TIMEOUT(decode_over_many_keys, 120) {
    struct world w;
    struct answer want[IDS];
    int32_t ids[540];
    if (sanitized) test_skip("too slow under a sanitizer");
    open_world(&w, "cudasim:0", true);
    params_close(&w.weights);
    w.shape.context = 1200;
    w.shape.layers = 1;
    w.weights = tiny_params(&w.table, &w.shape, 11);
    w.cfg.shape = w.shape;
    w.cfg.context = 1100;
    w.cfg.seqs_max = 3;
    w.cfg.chunk_tokens = 512;
    w.cfg.page = 16;
    w.cfg.graph_keys = 0;
    for (int pass = 0; pass < 2; pass++) {
        start(&w, pass == 0);
        for (int32_t i = 0; i < 540; i++)
            ids[i] = (int32_t)rng_below(rng_key(4, RNG_TEST), 1, (uint64_t)i, 61);
        for (uint64_t id = 0; id < 3; id++) {
            struct engine_request r = {.id = id,
                                       .prompt = ids,
                                       .n_prompt = id == 0   ? 508
                                                   : id == 1 ? 250
                                                             : 9,
                                       .max_new_tokens = 9,
                                       .temperature = 1,
                                       .top_p = 1};
            CHECK_OK(engine_add(w.engine, &r));
        }
        finish(&w);
        if (pass == 0) memcpy(want, w.answers, sizeof want);
        same_bits(w.answers, want);
    }
    close_world(&w);
}

TEST_TIMEOUT(decode_tokens_are_the_cpus, 120) {
    struct world w;
    struct answer want[IDS];
    open_world(&w, "cpu", false);
    start(&w, false);
    arriving(&w);
    memcpy(want, w.answers, sizeof want);
    struct engine_stats stats;
    engine_stats(w.engine, &stats);
    CHECK_INT(stats.graph_steps + stats.graph_records, 0);
    close_world(&w);
    open_world(&w, "cudasim:0", false);
    start(&w, false);
    arriving(&w);
    same_tokens(w.answers, want);
    close_world(&w);
}

/* What a step costs the host: one replay and one wait, nothing else. */
TEST(decode_step_is_one_replay_and_one_wait) {
    struct world w;
    open_world(&w, "cudasim:0", false);
    start(&w, false);
    for (uint64_t i = 0; i < 5; i++)
        add(&w, i, i, 5, 20);
    while (step(&w) < 5) {
    }
    step(&w);
    step(&w); /* of 8 rows and 16 keys: issued, recorded */
    memset(&calls.puts, 0, sizeof calls - offsetof(struct kern_calls, puts));
    CHECK_INT(step(&w), 5);
    CHECK(calls.puts == 0 && calls.gets == 0 && calls.matmuls == 0);
    CHECK(calls.replays == 1 && calls.syncs == 1);
    /* beside prefill: the replay, then the rest, with its own transfers, and one wait */
    add(&w, 20, 20, 9, 4);
    memset(&calls.puts, 0, sizeof calls - offsetof(struct kern_calls, puts));
    CHECK_INT(step(&w), 5);
    CHECK(calls.replays == 1 && calls.syncs == 1 && calls.matmuls > 0);
    CHECK(calls.puts == 1 && calls.gets == 0); /* nobody of the rest draws yet */
    close_world(&w);
}

/* Recordings are of the weights they were made with; those of two slabs are kept. */
TEST(decode_records_once_for_each_slab) {
    struct world w;
    struct engine_stats a, b, c;
    open_world(&w, "cudasim:0", false);
    w.cfg.graph_keys = 64; /* one width */
    start(&w, false);
    for (uint64_t i = 0; i < 4; i++)
        add(&w, 1 + 4 * i, i, 3, 20);
    for (int i = 0; i < 6; i++)
        step(&w);
    engine_stats(w.engine, &a);
    CHECK_INT(a.graph_records, 1);
    CHECK_OK(engine_swap(w.engine, w.other, 4));
    for (int i = 0; i < 4; i++)
        step(&w);
    engine_stats(w.engine, &b);
    CHECK_INT(b.graph_records, 2);
    CHECK_INT(b.graph_steps, a.graph_steps + 3);
    CHECK_OK(engine_swap(w.engine, w.weights, 5));
    for (int i = 0; i < 4; i++)
        step(&w);
    engine_stats(w.engine, &c);
    CHECK_INT(c.graph_records, 2);
    CHECK_INT(c.graph_steps, b.graph_steps + 4);
    close_world(&w);
}

/* More recordings than are kept: those that went are made again. */
TEST_TIMEOUT(decode_keeps_so_many_recordings, 120) {
    enum { SLABS = 66, TOKENS = 2 * SLABS + 3 };
    struct world w;
    struct params *slab[SLABS];
    float logprob[2][TOKENS];
    if (sanitized) test_skip("too slow under a sanitizer");
    open_world(&w, "cudasim:0", false);
    w.shape.layers = 1;
    w.cfg.shape = w.shape;
    w.cfg.context = w.cfg.graph_keys = 160; /* one width */
    params_close(&w.weights);
    for (int i = 0; i < SLABS; i++)
        slab[i] = tiny_params(&w.table, &w.shape, (uint64_t)(11 + i));
    w.weights = slab[0];
    for (int pass = 0; pass < 2; pass++) {
        const struct engine_token *t;
        struct engine_stats stats;
        int32_t n = 0, id = 9;
        struct engine_request r = {
            .prompt = &id, .n_prompt = 1, .max_new_tokens = TOKENS, .temperature = 1, .top_p = 1};
        start(&w, pass == 0);
        CHECK_OK(engine_add(w.engine, &r));
        for (int32_t i = 0; i < TOKENS; i++) { /* the first prefills, the last two are slab 0's */
            int32_t which = i == 0 ? 0 : (i - 1) / 2 % SLABS;
            if (i % 2) CHECK_OK(engine_swap(w.engine, slab[which], 3 + i));
            CHECK_OK(engine_step(w.engine, &t, &n));
            CHECK_INT(n, 1);
            logprob[pass][i] = t[0].logprob;
        }
        engine_stats(w.engine, &stats);
        CHECK_INT(stats.graph_records, pass ? SLABS + 1 : 0);
        CHECK_INT(stats.graph_steps, stats.graph_records);
    }
    CHECK(memcmp(logprob[0], logprob[1], sizeof logprob[0]) == 0);
    for (int i = 1; i < SLABS; i++)
        params_close(&slab[i]);
    close_world(&w);
}

/* A driver that cannot record: a line in the log, and the same tokens. */
TEST(decode_goes_on_plainly) {
    struct world w;
    struct answer want[IDS];
    struct engine_stats stats;
    open_world(&w, "cudasim:0", false);
    start(&w, true);
    shrinking(&w);
    memcpy(want, w.answers, sizeof want);
    start(&w, false);
    calls.fail_end = true;
    shrinking(&w);
    same_bits(w.answers, want);
    engine_stats(w.engine, &stats);
    CHECK_INT(stats.graph_steps, 0);
    close_world(&w);
}

TEST(decode_reports_what_is_no_distribution) {
    struct world w;
    struct answer want[IDS];
    const struct engine_token *events;
    int32_t n_events;
    open_world(&w, "cudasim:0", false);
    start(&w, false);
    shrinking(&w);
    memcpy(want, w.answers, sizeof want);
    size_t n = (size_t)params_slab_elements(&w.shape);
    float *host = mem_array(n, sizeof *host);
    for (size_t i = 0; i < n; i++)
        host[i] = NAN;
    CHECK_OK(params_put(w.other, host, n * sizeof *host));
    mem_free(host);
    start(&w, false);
    for (uint64_t i = 0; i < 9; i++)
        add(&w, i, i, 1 + (int32_t)i * 3 % 17, 3 + (int32_t)i);
    for (int i = 0; i < 4; i++)
        step(&w);
    CHECK_OK(engine_swap(w.engine, w.other, 4));
    CHECK_ERR(engine_step(w.engine, &events, &n_events), ERR_CORRUPT, "finite");
    CHECK_OK(engine_swap(w.engine, w.weights, 3));
    finish(&w);
    same_bits(w.answers, want);
    close_world(&w);
}

TEST(decode_spare_pages_hold_the_largest_gap) {
    CHECK_INT(decode_spare_pages(1, 16), 0);
    CHECK_INT(decode_spare_pages(2, 16), 0);
    CHECK_INT(decode_spare_pages(4, 16), 1);  /* 3 of 4 */
    CHECK_INT(decode_spare_pages(64, 1), 31); /* 33 of 64 */
    CHECK_INT(decode_spare_pages(64, 16), 2);
    CHECK_INT(decode_spare_pages(9, 1), 3); /* 5 of 8 */
}
