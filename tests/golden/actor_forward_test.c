/* actor_forward_test.c - the forward against transformers in float64 (make_models.py), its batch
 * invariance, and a released model's text. */
#include "base/json.h"
#include "base/mem.h"
#include "tests/golden/rig.h"
#include "tests/shared.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

/* Logits are about 5 in size. Our f32 arithmetic differs from float64 by half an ulp (2^-24 * 5
 * = 3e-7) per rounding, and some hundred roundings of random sign lie between ids and logits. Seen
 * are 1e-6 to 7e-6; any wrong formula is off by 1e-2.
 */
#define LOGIT_TOLERANCE 2e-5
/* In bf16 a rounding is off by up to 2^-8 (4e-3) of the number. Of the root mean square of all
 * logits; seen are 0.9 to 1.4 %. */
#define LOGIT_RMS_BF16 0.02

static const char *const models[] = {"llama-gqa",      "llama-llama3", "llama-yarn",
                                     "mistral-window", "qwen2-tied",   "qwen3-norm"};
enum { MODELS = sizeof models / sizeof models[0] };

struct golden {
    struct safetensors *f;
    int32_t *ids, *lengths;
    int64_t n, n_seqs;
};

static void golden_open(struct golden *g, const char *name) {
    g->f = rig_golden(name);
    g->ids = rig_i32(g->f, "ids", &g->n);
    g->lengths = rig_i32(g->f, "lengths", &g->n_seqs);
}

static void golden_close(struct golden *g) {
    safetensors_close(&g->f);
    mem_free(g->ids);
    mem_free(g->lengths);
}

static void check_logits(const char *backend, const char *name, bool pack) {
    struct golden g;
    struct rig r;
    golden_open(&g, name);
    rig_open(&r, &(struct rig_config){.backend = backend, .dir = rig_model(name), .pack = pack});
    float *want = rig_f32(g.f, "logits", NULL);
    float *have = mem_array((size_t)(g.n * r.shape.vocab), sizeof *have);
    int32_t at = 0;
    rig_start(&r);
    for (int32_t s = 0; s < g.n_seqs; at += g.lengths[s++])
        rig_add(&r, s, g.ids + at, g.lengths[s]);
    rig_forward(&r, have);
    double worst = 0, off = 0, all = 0;
    for (int64_t i = 0; i < g.n * r.shape.vocab; i++) {
        double diff = (double)have[i] - (double)want[i];
        worst = fmax(worst, fabs(diff));
        off += diff * diff;
        all += (double)want[i] * (double)want[i];
    }
    if (r.shape.bf16) worst = sqrt(off / all);
    double tolerance = r.shape.bf16 ? LOGIT_RMS_BF16 : LOGIT_TOLERANCE;
    if (!(worst <= tolerance))
        test_fail(__FILE__, __LINE__, "%s on %s: logits differ by %g, tolerance %g", name, backend,
                  worst, tolerance);
    mem_free(want);
    mem_free(have);
    rig_close(&r);
    golden_close(&g);
}

TEST(actor_logits_equal_transformers_ref) {
    for (int m = 0; m < MODELS; m++)
        check_logits("ref", models[m], false);
}

TEST(actor_logits_equal_transformers_cpu) {
    for (int m = 0; m < MODELS; m++) {
        check_logits("cpu", models[m], false);
        check_logits("cpu", models[m], true);
    }
}

/* The CUDA kernels on the host: slow, so two models with all that differs between families. */
TEST_TIMEOUT(actor_logits_equal_transformers_cudasim, 120) {
    check_logits("cudasim:2", "mistral-window", false);
    check_logits("cudasim:2", "qwen3-norm", false);
}

TEST_TIMEOUT(actor_cuda_logits_equal_transformers, 300) {
    for (int m = test_device_is_slow() ? MODELS - 1 : 0; m < MODELS; m++)
        check_logits(test_device(), models[m], false);
}

TEST_TIMEOUT(actor_logits_bf16_near_transformers, 120) {
    for (int m = 0; m < MODELS; m++) {
        check_logits("ref bf16", models[m], false);
        check_logits("cpu bf16", models[m], m % 2 == 0);
    }
    check_logits("cudasim:2 bf16", "qwen3-norm", false);
}

/* Log-probs and entropies in chunks of head_rows, and of rows in any order. */
static void check_logprobs(const char *backend, const char *name) {
    struct golden g;
    struct rig r;
    int64_t n;
    int32_t at = 0;
    golden_open(&g, name);
    rig_open(&r, &(struct rig_config){.backend = backend, .dir = rig_model(name), .head_rows = 7});
    int32_t *rows = rig_i32(g.f, "rows", &n), *targets = rig_i32(g.f, "targets", NULL);
    float *want_lp = rig_f32(g.f, "logprob", NULL), *want_ent = rig_f32(g.f, "entropy", NULL);
    float *lp = mem_array((size_t)n, sizeof *lp), *ent = mem_array((size_t)n, sizeof *ent);
    rig_start(&r);
    for (int32_t s = 0; s < g.n_seqs; at += g.lengths[s++])
        rig_add(&r, s, g.ids + at, g.lengths[s]);
    rig_forward(&r, NULL);
    CHECK_OK(actor_logprobs(r.actor, rows, targets, n, 1.25f, lp, ent));
    for (int64_t i = 0; i < n; i++) {
        CHECK_NEAR(lp[i], want_lp[i], LOGIT_TOLERANCE);
        CHECK_NEAR(ent[i], want_ent[i], LOGIT_TOLERANCE);
    }
    CHECK_OK(actor_logprobs(r.actor, rows + 5, targets + 5, 1, 1.25f, ent, NULL));
    CHECK(memcmp(ent, lp + 5, sizeof *lp) == 0); /* alone: the same bits */
    mem_free(rows);
    mem_free(targets);
    mem_free(want_lp);
    mem_free(want_ent);
    mem_free(lp);
    mem_free(ent);
    rig_close(&r);
    golden_close(&g);
}

TEST(actor_logprobs_equal_transformers) {
    for (int m = 0; m < MODELS; m++) {
        check_logprobs("ref", models[m]);
        check_logprobs("cpu", models[m]);
    }
}

TEST_TIMEOUT(actor_cuda_logprobs_equal_transformers, 300) {
    for (int m = test_device_is_slow() ? MODELS - 1 : 0; m < MODELS; m++)
        check_logprobs(test_device(), models[m]);
}

/* --- I6 ------------------------------------------------------------------------------------- */

struct way {
    int32_t page, chunk, head_rows; /* chunk: rows prefilled at a time, 0: all at once */
    bool company, train, recompute, pack;
};

/* Logits of sequence 0 of the golden ids, computed in that way; company: rows of other sequences in
 * front and behind. */
static void run(const char *backend, const char *name, const struct golden *g, const struct way *w,
                float *out) {
    struct rig r;
    rig_open(&r, &(struct rig_config){.backend = backend,
                                      .dir = rig_model(name),
                                      .page = w->page,
                                      .head_rows = w->head_rows,
                                      .train = w->train,
                                      .recompute = w->recompute ? RIG_ROWS : 0,
                                      .pack = w->pack});
    int32_t n = g->lengths[0], v = r.shape.vocab;
    float *all = mem_array((size_t)(RIG_ROWS * v), sizeof *all);
    for (int32_t at = 0; at < n;) {
        int32_t some = w->chunk && n - at > w->chunk ? w->chunk : n - at;
        int32_t before = w->company ? 2 : 0;
        rig_start(&r);
        if (w->company) {
            if (r.done[3] == 100) r.done[3] = 0; /* a fresh one in its pages */
            rig_add(&r, 3, g->ids, 2);
        }
        rig_add(&r, 0, g->ids + at, some);
        if (w->company) rig_add(&r, 1, g->ids + n, 1);
        rig_forward(&r, all);
        memcpy(out + (int64_t)at * v, all + (int64_t)before * v, (size_t)(some * v) * sizeof *out);
        at += some;
    }
    mem_free(all);
    rig_close(&r);
}

/* Rollout and trainer are ways among others: decoding one row at a time with packed weights, and a
 * training batch. */
static void check_invariance(const char *backend, const char *name) {
    static const struct way ways[] = {
        {.page = 4, .chunk = 1, .pack = true},
        {.page = 4, .chunk = 3},
        {.page = 4, .chunk = 7, .head_rows = 1},
        {.page = 4, .company = true},
        {.page = 4, .chunk = 3, .company = true, .pack = true},
        {.page = 1},
        {.page = 16, .train = true, .head_rows = 64},
        {.page = 5, .chunk = 7, .company = true},
        {.page = 128, .chunk = 1, .company = true},
        {.page = 64, .chunk = 31, .train = true, .recompute = true, .pack = true},
    };
    struct golden g;
    struct shape s;
    golden_open(&g, name);
    CHECK_OK(shape_read(&s, rig_model(name)));
    size_t n = (size_t)(g.lengths[0] * s.vocab);
    float *alone = mem_array(n, sizeof *alone), *other = mem_array(n, sizeof *other);
    run(backend, name, &g, &(struct way){.page = 4}, alone);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        memset(other, 0, n * sizeof *other);
        run(backend, name, &g, &ways[i], other);
        if (memcmp(alone, other, n * sizeof *other) != 0)
            test_fail(__FILE__, __LINE__, "%s on %s: other bits in way %zu", name, backend, i);
    }
    mem_free(alone);
    mem_free(other);
    golden_close(&g);
}

TEST(actor_rows_are_batch_invariant_ref) {
    for (int m = 0; m < MODELS; m++)
        check_invariance("ref", models[m]);
}

TEST_TIMEOUT(actor_cuda_rows_are_batch_invariant, 300) {
    if (test_device_is_slow()) test_skip("minutes on a simulated device");
    for (int m = 0; m < MODELS; m++)
        check_invariance(test_device(), models[m]);
}

TEST(actor_rows_are_batch_invariant_cpu) {
    for (int m = 0; m < MODELS; m++)
        check_invariance("cpu", models[m]);
}

TEST(actor_rows_are_batch_invariant_bf16) {
    check_invariance("ref bf16", "qwen3-norm");
    check_invariance("cpu bf16", "qwen3-norm");
    check_invariance("cpu bf16", "mistral-window");
}

/* --- a released model ----------------------------------------------------------------------- */

/* The text of an id by the vocabulary of tokenizer.json: the metaspace becomes a space. */
static void append_piece(char *text, size_t n, const struct json *vocab, int32_t id) {
    for (const struct json *v = json_first(vocab); v; v = json_next(v)) {
        int64_t i;
        if (!json_int(v, &i) || i != id) continue;
        for (const char *p = json_key(v, NULL); *p && strlen(text) + 1 < n;) {
            bool space = strncmp(p, "\xe2\x96\x81", 3) == 0;
            size_t len = strlen(text);
            text[len] = space ? ' ' : *p;
            text[len + 1] = '\0';
            p += space ? 3 : 1;
        }
        return;
    }
}

static void check_story(const char *backend) {
    const char *dir = test_shared_path("models/stories260k");
    static const char want[] = ", there was a little girl named Lily. She loved to play outside in "
                               "the park. One day, she saw a big, red ball.";
    int32_t ids[] = {1, 403, 407, 261, 378}, next = 0; /* Once upon a time */
    struct rig r;
    struct json_doc *doc;
    char text[512] = "", path[256];
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    CHECK_OK(json_parse_file(&doc, path, 1 << 24));
    const struct json *vocab = json_get(json_get(json_root(doc), "model"), "vocab");
    rig_open(&r, &(struct rig_config){.backend = backend, .dir = dir, .pack = true});
    float *logits = mem_array((size_t)(RIG_ROWS * r.shape.vocab), sizeof *logits);
    rig_start(&r);
    rig_add(&r, 0, ids, 5);
    while (strlen(text) < sizeof want - 1 && r.done[0] < 120) {
        rig_forward(&r, logits);
        const float *last = logits + (int64_t)(r.n - 1) * r.shape.vocab;
        next = 0;
        for (int32_t i = 1; i < r.shape.vocab; i++)
            if (last[i] > last[next]) next = i;
        append_piece(text, sizeof text, vocab, next);
        rig_start(&r);
        rig_add(&r, 0, &next, 1);
    }
    CHECK_STR(text, want);
    mem_free(logits);
    rig_close(&r);
    json_close(&doc);
}

TEST(actor_stories260k_greedy_ref) {
    check_story("ref");
}

TEST(actor_cuda_stories260k_greedy) {
    if (test_device_is_slow()) test_skip("minutes on a simulated device");
    check_story(test_device());
}

TEST(actor_stories260k_greedy_cpu) {
    check_story("cpu");
}
