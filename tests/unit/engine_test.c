/* engine_test.c - the same request gives the same tokens and the same log-prob bits, whatever else
 * happens in the engine (I5, I6), and the bits of the trainer's forward. */
#include "rollout/engine/engine.h"

#include "base/mem.h"
#include "base/rng.h"
#include "deploy/evaluate/score.h"
#include "tests/test.h"
#include "tests/tiny.h"

enum { NEW = 24, CONTEXT = 96, TRACKED = 16, OTHERS = 64, FIRST_OTHER = 1000 };

struct answer {
    int32_t n, tokens[NEW];
    float logprob[NEW], kept[NEW];
    int64_t version[NEW];
    enum engine_finish finish;
};

struct world {
    const struct kern_backend *backend;
    struct shape shape;
    struct params *weights;
    struct engine_config cfg;
    struct engine *engine;
};

static struct world open_world_of(const char *device, int threads, bool qwen, bool bf16) {
    struct world w = {.shape = tiny_shape(qwen)};
    w.shape.bf16 = bf16;
    CHECK_OK(kern_open(&w.backend, device, threads));
    w.weights = tiny_params(w.backend, &w.shape, 11);
    w.cfg = (struct engine_config){.backend = w.backend,
                                   .shape = w.shape,
                                   .seqs_max = 8,
                                   .context = CONTEXT,
                                   .chunk_tokens = 32,
                                   .page = 8,
                                   .waiting_max = 256,
                                   .seed = 5};
    return w;
}

static struct world open_world(void) {
    return open_world_of("cpu", 1, false, false);
}

static void start(struct world *w) {
    CHECK_OK(engine_open(&w->engine, &w->cfg));
    CHECK_OK(engine_swap(w->engine, w->weights, 3));
}

static void close_world(struct world *w) {
    engine_close(&w->engine);
    params_close(&w->weights);
    kern_close(w->backend);
}

/* A function of which: prompts 0 and 1 share their first 20 tokens. */
static int32_t make_prompt(uint64_t which, int32_t *ids) {
    uint64_t key = rng_key(77, RNG_TEST);
    int32_t n = which < 2 ? 29 : 1 + (int32_t)rng_below(key, which, 1000, 45);
    for (int32_t i = 0; i < n; i++) {
        uint64_t from = which < 2 && i < 20 ? 0 : which;
        ids[i] = (int32_t)rng_below(key, from, (uint64_t)i, 61);
    }
    return n;
}

static void add(struct world *w, uint64_t id, uint64_t which, const struct answer *resume,
                int32_t n_resume) {
    int32_t ids[64];
    struct engine_request r = {.id = id,
                               .prompt = ids,
                               .n_prompt = make_prompt(which, ids),
                               .max_new_tokens = NEW,
                               .temperature = which % 3 == 2 ? 0.7F : 1.0F,
                               .top_p = which % 5 == 3 ? 0.8F : 1.0F,
                               .top_k = which % 7 == 4 ? 9 : 0};
    if (resume) {
        r.resume = resume->tokens;
        r.resume_logprob = resume->logprob;
        r.resume_version = resume->version;
        r.n_resume = n_resume;
    }
    CHECK_OK(engine_add(w->engine, &r));
}

static void take(struct answer *answers, const struct engine_token *t) {
    if (t->id >= TRACKED) return;
    struct answer *a = &answers[t->id];
    CHECK_INT(t->position, a->n);
    CHECK(a->finish == ENGINE_RUNNING && a->n < NEW);
    a->tokens[a->n] = t->token;
    a->logprob[a->n] = t->logprob;
    a->kept[a->n] = t->kept;
    a->version[a->n++] = t->version;
    a->finish = t->finish;
}

static void step(struct world *w, struct answer *answers) {
    const struct engine_token *events;
    int32_t n;
    CHECK_OK(engine_step(w->engine, &events, &n));
    for (int32_t i = 0; i < n; i++)
        take(answers, &events[i]);
}

static void finish(struct world *w, struct answer *answers) {
    for (int i = 0; !engine_idle(w->engine); i++) {
        CHECK(i < 20000);
        step(w, answers);
    }
}

static void same(const struct answer *got, const struct answer *want, int32_t from) {
    CHECK_INT(got->n, want->n);
    CHECK_INT(got->finish, want->finish);
    for (int32_t i = from; i < want->n; i++) {
        CHECK_INT(got->tokens[i], want->tokens[i]);
        CHECK(memcmp(&got->logprob[i], &want->logprob[i], sizeof(float)) == 0);
        CHECK(memcmp(&got->kept[i], &want->kept[i], sizeof(float)) == 0);
    }
}

/* Request `which` under trajectory id `id`, alone in a fresh engine. */
static struct answer alone(struct world *w, uint64_t id, uint64_t which) {
    struct answer a[TRACKED] = {0};
    start(w);
    add(w, id, which, NULL, 0);
    finish(w, a);
    engine_close(&w->engine);
    CHECK_INT(a[id].n, NEW);
    CHECK_INT(a[id].finish, ENGINE_LENGTH);
    return a[id];
}

static void run_among_others(struct world *w, struct answer *answers) {
    start(w);
    for (uint64_t i = 0; i < OTHERS; i++) {
        if (i % 8 == 3) add(w, i / 8, i / 8, NULL, 0);
        add(w, FIRST_OTHER + i, 100 + i, NULL, 0);
        if (i % 3 == 0) step(w, answers);
    }
    finish(w, answers);
}

TEST(engine_same_bits_alone_and_among_others) {
    struct world w = open_world();
    struct answer want[8];
    for (uint64_t i = 0; i < 8; i++)
        want[i] = alone(&w, i, i);
    static const struct {
        int32_t seqs, chunk, page;
        int64_t pages;
    } cases[] = {{64, 64, 8, 0}, {8, 1, 8, 0},   {8, 3, 1, 0},   {16, 7, 4, 0},
                 {8, 64, 8, 14}, {32, 5, 4, 25}, {8, 200, 96, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct answer got[TRACKED] = {0};
        struct engine_stats stats;
        w.cfg.seqs_max = cases[c].seqs;
        w.cfg.chunk_tokens = cases[c].chunk;
        w.cfg.page = cases[c].page;
        w.cfg.pages = cases[c].pages;
        run_among_others(&w, got);
        for (uint64_t i = 0; i < 8; i++)
            same(&got[i], &want[i], 0);
        engine_stats(w.engine, &stats);
        CHECK((stats.preemptions > 0) == (cases[c].pages > 0));
        CHECK_INT(stats.pages_used, 0);
        engine_close(&w.engine);
    }
    close_world(&w);
}

TEST(engine_same_bits_with_qk_norm_bias_and_untied_head) {
    struct world w = open_world_of("cpu", 1, true, false);
    struct answer want[8];
    for (uint64_t i = 0; i < 8; i++)
        want[i] = alone(&w, i, i);
    struct answer got[TRACKED] = {0};
    w.cfg.pages = 14;
    run_among_others(&w, got);
    for (uint64_t i = 0; i < 8; i++)
        same(&got[i], &want[i], 0);
    close_world(&w);
}

static void check_threads(bool bf16) {
    struct answer want[TRACKED] = {0};
    for (int threads = 1; threads <= 3; threads++) {
        struct world w = open_world_of("cpu", threads, false, bf16);
        struct answer got[TRACKED] = {0};
        run_among_others(&w, got);
        for (uint64_t i = 0; i < 8; i++) {
            if (threads > 1) same(&got[i], &want[i], 0);
            want[i] = got[i];
        }
        close_world(&w);
    }
}

TEST(engine_same_bits_with_any_number_of_threads) {
    check_threads(false);
    check_threads(true);
}

TEST(engine_group_shares_its_prompt) {
    struct world w = open_world();
    struct answer want[8];
    struct engine_stats stats;
    int32_t ids[64];
    for (uint64_t which = 0; which < 6; which++) {
        struct answer got[TRACKED] = {0};
        int32_t n = make_prompt(which, ids);
        for (uint64_t i = 0; i < 8; i++)
            want[i] = alone(&w, i, which);
        start(&w);
        for (uint64_t i = 0; i < 8; i++)
            add(&w, i, which, NULL, 0);
        finish(&w, got);
        engine_stats(w.engine, &stats);
        CHECK_INT(stats.prefill_tokens, n);
        CHECK_INT(stats.cached_tokens, 7 * n);
        for (uint64_t i = 0; i < 8; i++)
            same(&got[i], &want[i], 0);
        engine_close(&w.engine);
    }
    close_world(&w);
}

TEST(engine_prefix_cache_across_requests) {
    struct world w = open_world();
    struct answer a = alone(&w, 0, 0), b = alone(&w, 1, 1), got[TRACKED] = {0};
    struct engine_stats stats;
    start(&w);
    add(&w, 0, 0, NULL, 0);
    finish(&w, got);
    add(&w, 1, 1, NULL, 0); /* begins with the same 20 tokens: two pages of 8 */
    finish(&w, got);
    same(&got[0], &a, 0);
    same(&got[1], &b, 0);
    engine_stats(w.engine, &stats);
    CHECK_INT(stats.cached_tokens, 16);
    close_world(&w);
}

TEST(engine_resumes_from_any_cut) {
    struct world w = open_world();
    for (uint64_t which = 3; which < 6; which++) {
        struct answer want = alone(&w, which, which);
        for (int32_t cut = 1; cut < NEW; cut++) {
            struct answer got[TRACKED] = {0};
            start(&w);
            if (cut % 2) add(&w, FIRST_OTHER, 200, NULL, 0);
            got[which] = want;
            got[which].n = cut;
            got[which].finish = ENGINE_RUNNING;
            memset(got[which].tokens + cut, 0, sizeof(int32_t) * (size_t)(NEW - cut));
            add(&w, which, which, &want, cut);
            finish(&w, got);
            same(&got[which], &want, cut);
            engine_close(&w.engine);
        }
    }
    close_world(&w);
}

/* Scores what was generated, through both ways. */
static void check_trainers_bits(bool bf16) {
    struct world w = open_world_of("cpu", bf16 ? 2 : 1, bf16, bf16);
    enum { N = 12 };
    struct answer got[TRACKED] = {0};
    struct score_item items[N];
    start(&w);
    for (uint64_t i = 0; i < N; i++)
        if (i % 3 != 2) add(&w, i, i, NULL, 0); /* those at temperature 1 */
    finish(&w, got);
    for (uint64_t i = 0; i < N; i++) {
        items[i] = (struct score_item){.ids = mem_array(CONTEXT, 4),
                                       .logprobs = mem_array(NEW, sizeof(float)),
                                       .n_response = got[i].n};
        items[i].n_prompt = make_prompt(i, items[i].ids);
        memcpy(items[i].ids + items[i].n_prompt, got[i].tokens, sizeof got[i].tokens);
    }
    static const int32_t chunks[] = {1, 3, 7, 64, 100000}, batches[] = {1, 5, 64};
    for (size_t c = 0; c < 5; c++)
        for (size_t b = 0; b < 3; b++)
            for (int way = 0; way < 2; way++) {
                struct score_config cfg = {.backend = w.backend,
                                           .weights = w.weights,
                                           .batch = batches[b],
                                           .chunk = chunks[c],
                                           .page = c % 2 ? 16 : 5,
                                           .temperature = 1};
                CHECK_OK((way ? score_rollout : score_trainer)(&cfg, items, N));
                for (uint64_t i = 0; i < N; i++) {
                    CHECK(memcmp(items[i].logprobs, got[i].logprob,
                                 sizeof(float) * (size_t)got[i].n) == 0);
                    memset(items[i].logprobs, 0, NEW * sizeof(float));
                }
            }
    for (uint64_t i = 0; i < N; i++) {
        mem_free(items[i].ids);
        mem_free(items[i].logprobs);
    }
    close_world(&w);
}

TEST(engine_logprobs_are_the_trainers_bits) {
    check_trainers_bits(false);
}

TEST(engine_logprobs_are_the_trainers_bits_in_bf16) {
    check_trainers_bits(true);
}

TEST(engine_greedy_takes_the_most_likely) {
    struct world w = open_world();
    int32_t ids[64];
    struct answer got[TRACKED] = {0};
    start(&w);
    for (uint64_t id = 0; id < 3; id++) {
        struct engine_request r = {.id = id,
                                   .prompt = ids,
                                   .n_prompt = make_prompt(4, ids),
                                   .max_new_tokens = NEW,
                                   .temperature = id == 2 ? 1 : 0,
                                   .top_k = id == 2 ? 1 : 0,
                                   .top_p = 1};
        CHECK_OK(engine_add(w.engine, &r));
    }
    finish(&w, got);
    for (int32_t i = 0; i < NEW; i++) {
        CHECK_INT(got[0].tokens[i], got[1].tokens[i]);
        CHECK_INT(got[0].tokens[i], got[2].tokens[i]);
        CHECK(memcmp(&got[0].logprob[i], &got[2].logprob[i], sizeof(float)) == 0);
        CHECK(got[0].kept[i] == 1 && got[2].kept[i] < 1);
        CHECK_NEAR(got[2].kept[i], exp((double)got[2].logprob[i]), 1e-5);
    }
    close_world(&w);
}

TEST(engine_swap_keeps_running_ones_and_forgets_the_cache) {
    struct world w = open_world();
    struct params *other = tiny_params(w.backend, &w.shape, 12);
    struct answer before = alone(&w, 0, 0), got[TRACKED] = {0}, fresh;
    struct params *first = w.weights;
    w.weights = other;
    fresh = alone(&w, 1, 0);
    w.weights = first;
    start(&w);
    add(&w, 0, 0, NULL, 0);
    while (got[0].n < 7)
        step(&w, got);
    CHECK_OK(engine_swap(w.engine, other, 4));
    add(&w, 1, 0, NULL, 0);
    finish(&w, got);
    for (int32_t i = 0; i < NEW; i++) {
        CHECK_INT(got[0].version[i], i < 7 ? 3 : 4);
        CHECK_INT(got[1].version[i], 4);
        if (i < 7) CHECK_INT(got[0].tokens[i], before.tokens[i]);
    }
    CHECK(memcmp(got[0].logprob + 7, before.logprob + 7, sizeof(float)) != 0);
    same(&got[1], &fresh, 0);                  /* nothing of version 3 was reused */
    CHECK_OK(engine_swap(w.engine, first, 4)); /* even under a number used before */
    memset(got, 0, sizeof got);
    add(&w, 0, 0, NULL, 0);
    finish(&w, got);
    same(&got[0], &before, 0);
    params_close(&other);
    close_world(&w);
}

/* Weights prepared a few rows at a time between steps: the running version is not touched, and the
 * change gives what a change at once would have given. */
TEST(engine_prepare_beside_the_weights_in_use) {
    struct world w = open_world();
    struct answer got[TRACKED] = {0}, at_once[TRACKED] = {0};
    bool done = false;
    int32_t changed = 0;
    params_close(&w.weights);
    w.shape.ffn = 200; /* several times the rows that are packed at least */
    w.shape.vocab = 150;
    w.weights = tiny_params(w.backend, &w.shape, 11);
    struct params *other = tiny_params(w.backend, &w.shape, 12);
    w.cfg.shape = w.shape;
    w.cfg.spare = true;
    for (int pass = 0; pass < 2; pass++) {
        struct answer *to = pass ? at_once : got;
        start(&w);
        add(&w, 0, 0, NULL, 0);
        step(&w, to);
        for (int32_t k = 0; pass == 0 && !done; k++) {
            CHECK_OK(engine_prepare(w.engine, other, k == 0, 1, &done));
            if (k % 4 == 3) step(&w, to);
            changed = to[0].n;
        }
        while (to[0].n < changed)
            step(&w, to);
        CHECK_OK(engine_swap(w.engine, other, 4));
        finish(&w, to);
        engine_close(&w.engine);
    }
    CHECK(changed > 2 && changed < NEW);
    CHECK_INT(got[0].version[changed - 1], 3);
    CHECK_INT(got[0].version[changed], 4);
    same(&got[0], &at_once[0], 0);
    params_close(&other);
    close_world(&w);
}

TEST(engine_survives_weights_that_are_not_numbers) {
    struct world w = open_world();
    struct answer want = alone(&w, 0, 0), got[TRACKED] = {0};
    struct params *bad = tiny_params(w.backend, &w.shape, 11);
    size_t n = (size_t)params_slab_elements(&w.shape);
    float *host = mem_array(n, sizeof *host);
    const struct engine_token *events;
    int32_t n_events;
    CHECK_OK(params_get(bad, host, n * sizeof *host));
    for (size_t i = 0; i < n; i++)
        host[i] = NAN;
    CHECK_OK(params_put(bad, host, n * sizeof *host));
    start(&w);
    add(&w, 0, 0, NULL, 0);
    while (got[0].n < 5)
        step(&w, got);
    CHECK_OK(engine_swap(w.engine, bad, 4));
    CHECK_ERR(engine_step(w.engine, &events, &n_events), ERR_CORRUPT, "finite");
    CHECK_OK(engine_swap(w.engine, w.weights, 5));
    finish(&w, got);
    same(&got[0], &want, 0);
    mem_free(host);
    params_close(&bad);
    close_world(&w);
}

TEST(engine_abort_and_full_list) {
    struct world w = open_world();
    struct answer want = alone(&w, 2, 2), got[TRACKED] = {0};
    struct engine_stats stats;
    int32_t id = 1;
    struct engine_request r = {
        .id = 99, .prompt = &id, .n_prompt = 1, .max_new_tokens = 1, .top_p = 1};
    w.cfg.seqs_max = 2;
    w.cfg.waiting_max = 5;
    start(&w);
    for (uint64_t i = 0; i < 5; i++)
        add(&w, i, i, NULL, 0);
    CHECK_ERR(engine_add(w.engine, &r), ERR_AGAIN, "5");
    step(&w, got);
    step(&w, got);
    engine_abort(w.engine, 0); /* running */
    engine_abort(w.engine, 4); /* waiting */
    engine_abort(w.engine, 4); /* unknown */
    memset(got, 0, sizeof got);
    for (uint64_t i = 0; i < TRACKED; i++)
        got[i].n = 0;
    CHECK_OK(engine_add(w.engine, &r));
    r.id = 3;
    CHECK_ERR(engine_add(w.engine, &r), ERR_CONFIG, "already");
    const struct engine_token *events;
    int32_t n;
    while (!engine_idle(w.engine)) {
        CHECK_OK(engine_step(w.engine, &events, &n));
        for (int32_t i = 0; i < n; i++) {
            CHECK(events[i].id != 0 && events[i].id != 4);
            if (events[i].id == 2) take(got, &events[i]);
        }
    }
    same(&got[2], &want, 0);
    engine_stats(w.engine, &stats);
    CHECK_INT(stats.running + stats.waiting, 0);
    CHECK_INT(stats.pages_used, 0);
    CHECK(engine_bytes(&w.cfg) > 0);
    close_world(&w);
}

TEST(engine_refuses_bad_configurations) {
    struct world w = open_world();
    struct engine_config good = w.cfg, c;
#define REFUSED(field, value, part)                                                                \
    c = good;                                                                                      \
    c.field = value;                                                                               \
    CHECK_INT(engine_bytes(&c), 0);                                                                \
    CHECK_ERR(engine_open(&w.engine, &c), ERR_CONFIG, part)
    REFUSED(seqs_max, 0, "seqs_max");
    REFUSED(context, 161, "context is 161, allowed are 2 to 160");
    REFUSED(chunk_tokens, 0, "chunk_tokens");
    REFUSED(page, 0, "page");
    REFUSED(pages, 11, "11 pages");
    REFUSED(pages, INT64_MAX / 8, "pages");
    REFUSED(waiting_max, 0, "waiting_max");
#undef REFUSED
    CHECK(!w.engine);
    CHECK_OK(engine_open(&w.engine, &good));
    const struct engine_token *events;
    int32_t n;
    CHECK_ERR(engine_step(w.engine, &events, &n), ERR_CONFIG, "weights");
    struct shape wide = w.shape;
    wide.ffn *= 2;
    struct params *p = tiny_params(w.backend, &wide, 1);
    CHECK(engine_swap(w.engine, p, 1) < 0);
    params_close(&p);
    CHECK_ERR(engine_swap(w.engine, w.weights, -1), ERR_CONFIG, "version");
    close_world(&w);
}
