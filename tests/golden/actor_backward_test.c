/* actor_backward_test.c - every gradient against torch.autograd in float64 (make_models.py), for
 * several ways to cut the same loss into batches. */
#include "base/mem.h"
#include "tests/golden/rig.h"
#include "tests/shared.h"
#include "tests/test.h"

#include <stdio.h>

/* Of the largest element of the tensor's gradient. A weight's gradient is a sum over 84 rows of
 * products of two numbers that each carry the roundings of a forward and a reverse (relative 1e-7
 * to 1e-6); cancellation makes small elements relatively worse, so the scale is the tensor's
 * maximum. Seen are up to 1e-6; a missing term or a wrong sign is above 1e-2. */
#define GRAD_TOLERANCE 5e-6
/* In bf16 each of those roundings is up to 2^-8; seen are up to 5e-2. */
#define GRAD_TOLERANCE_BF16 0.1

static const char *const models[] = {"llama-gqa",      "llama-llama3", "llama-yarn",
                                     "mistral-window", "qwen2-tied",   "qwen3-norm"};
enum { MODELS = sizeof models / sizeof models[0], SEQS = 3 };

struct loss {
    const float *a, *b; /* of the rows of this call */
};

static int weighted(void *ctx, int64_t first, const struct loss_rows *rows) {
    const struct loss *l = ctx;
    CHECK(!rows->value && !rows->g_value);
    for (int64_t i = 0; i < rows->n; i++) {
        CHECK(isfinite(rows->logprob[i]) && rows->entropy[i] >= 0);
        rows->g_logprob[i] = l->a[first + i];
        rows->g_entropy[i] = l->b[first + i];
    }
    return 0;
}

struct golden {
    struct safetensors *f;
    int32_t *ids, *lengths, *rows, *targets;
    float *a, *b;
    int64_t n_rows;
};

static void golden_open(struct golden *g, const char *name) {
    int64_t n_seqs;
    g->f = rig_golden(name);
    g->ids = rig_i32(g->f, "ids", NULL);
    g->lengths = rig_i32(g->f, "lengths", &n_seqs);
    CHECK_INT(n_seqs, SEQS);
    g->rows = rig_i32(g->f, "rows", &g->n_rows);
    g->targets = rig_i32(g->f, "targets", NULL);
    g->a = rig_f32(g->f, "a", NULL);
    g->b = rig_f32(g->f, "b", NULL);
}

static void golden_close(struct golden *g) {
    safetensors_close(&g->f);
    mem_free(g->ids);
    mem_free(g->lengths);
    mem_free(g->rows);
    mem_free(g->targets);
    mem_free(g->a);
    mem_free(g->b);
}

/* One microbatch of the golden sequences order[0..n-1]. */
static void microbatch(struct rig *r, const struct golden *g, const int32_t *order, int32_t n) {
    int32_t rows[RIG_ROWS], targets[RIG_ROWS];
    float a[RIG_ROWS], b[RIG_ROWS];
    int64_t picked = 0;
    rig_start(r);
    for (int32_t i = 0; i < n; i++) {
        int32_t s = order[i], at = 0, here = r->n;
        for (int32_t before = 0; before < s; before++)
            at += g->lengths[before];
        r->done[s] = 0;
        rig_add(r, s, g->ids + at, g->lengths[s]);
        for (int64_t k = 0; k < g->n_rows; k++) {
            if (g->rows[k] < at || g->rows[k] >= at + g->lengths[s]) continue;
            rows[picked] = g->rows[k] - at + here;
            targets[picked] = g->targets[k];
            a[picked] = g->a[k];
            b[picked++] = g->b[k];
        }
    }
    struct actor_batch batch = rig_batch(r);
    struct loss l = {a, b};
    CHECK_OK(actor_forward(r->actor, &batch));
    CHECK_OK(
        actor_backward(r->actor, &batch, rows, targets, picked, 1.25f, weighted, &l, r->grads));
}

static void compare(const struct rig *r, const struct golden *g, const char *name,
                    const char *way) {
    size_t elements = (size_t)params_slab_elements(&r->shape);
    float *have = mem_array(elements, sizeof *have);
    double worst = 0, tolerance = r->shape.bf16 ? GRAD_TOLERANCE_BF16 : GRAD_TOLERANCE;
    CHECK_OK(params_get(r->grads, have, elements * sizeof *have));
    for (size_t i = 0; i < params_count(r->grads); i++) {
        const struct params_entry *e = params_entry(r->grads, i);
        char key[128];
        int64_t n;
        double scale = 0, off = 0;
        snprintf(key, sizeof key, "grad.%s", e->name);
        float *want = rig_f32(g->f, key, &n);
        CHECK_INT(n, e->n);
        for (int64_t j = 0; j < n; j++) {
            scale = fmax(scale, fabs((double)want[j]));
            off = fmax(off, fabs((double)want[j] - (double)have[e->offset + j]));
        }
        /* k_proj.bias shifts all scores of a query alike: its gradient is zero but for rounding */
        scale = fmax(scale, 1e-2);
        if (!(off <= tolerance * scale))
            test_fail(__FILE__, __LINE__, "%s, %s on %s: %s is off by %g of %g", name, way,
                      r->b->name, e->name, off, scale);
        worst = fmax(worst, off / scale);
        mem_free(want);
    }
    mem_free(have);
}

static const struct way {
    const char *name;
    int32_t page, head_rows;
    bool recompute, apart, reversed;
} ways[] = {
    {"one batch", 4, 16, false, false, false},
    {"recompute", 4, 16, true, false, false},
    {"a microbatch each", 8, 64, false, true, false},
    {"reversed, odd chunks", 3, 5, true, false, true},
};

static void run(const char *backend, const char *name, const struct way *w, struct hash *bits) {
    static const int32_t forth[] = {0, 1, 2}, back[] = {2, 1, 0};
    const int32_t *order = w->reversed ? back : forth;
    struct golden g;
    struct rig r;
    golden_open(&g, name);
    rig_open(&r, &(struct rig_config){.backend = backend,
                                      .dir = rig_model(name),
                                      .page = w->page,
                                      .head_rows = w->head_rows,
                                      .train = true,
                                      .recompute = w->recompute ? RIG_ROWS : 0,
                                      .pack = w->recompute});
    for (int32_t i = 0; i < (w->apart ? SEQS : 1); i++)
        microbatch(&r, &g, order + i, w->apart ? 1 : SEQS);
    compare(&r, &g, name, w->name);
    CHECK_OK(params_hash(bits, r.grads));
    rig_close(&r);
    golden_close(&g);
}

static void check_gradients(const char *backend) {
    struct hash bits[sizeof ways / sizeof ways[0]];
    for (int m = 0; m < MODELS; m++) {
        for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++)
            run(backend, models[m], &ways[w], &bits[w]);
        CHECK(hash_equal(bits[0], bits[1])); /* recomputing changes no bit */
    }
}

TEST(actor_gradients_equal_autograd_ref) {
    check_gradients("ref");
}

TEST(actor_gradients_equal_autograd_cpu) {
    check_gradients("cpu");
}

TEST_TIMEOUT(actor_gradients_bf16_near_autograd, 120) {
    struct hash bits;
    check_gradients("cpu bf16");
    for (int m = 0; m < MODELS; m++)
        run("ref bf16", models[m], &ways[3], &bits);
    run("cudasim:2 bf16", "qwen3-norm", &ways[2], &bits);
}

TEST_TIMEOUT(actor_gradients_equal_autograd_cudasim, 120) {
    struct hash bits;
    run("cudasim:2", "qwen3-norm", &ways[2], &bits);
}

TEST_TIMEOUT(actor_cuda_gradients_equal_autograd, 300) {
    struct hash bits;
    if (test_device_is_slow())
        run(test_device(), "qwen3-norm", &ways[2], &bits);
    else
        check_gradients(test_device());
}

/* A second reverse of the same batch doubles the gradient: grads accumulate, also the embedding. */
TEST(actor_gradients_accumulate) {
    static const int32_t order[] = {0, 1, 2};
    struct golden g;
    struct rig r;
    golden_open(&g, "qwen2-tied");
    rig_open(&r,
             &(struct rig_config){.backend = "ref", .dir = rig_model("qwen2-tied"), .train = true});
    size_t n = (size_t)params_slab_elements(&r.shape);
    float *once = mem_array(n, sizeof *once), *twice = mem_array(n, sizeof *twice);
    microbatch(&r, &g, order, SEQS);
    CHECK_OK(params_get(r.grads, once, n * sizeof *once));
    microbatch(&r, &g, order, SEQS);
    CHECK_OK(params_get(r.grads, twice, n * sizeof *twice));
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(twice[i], 2 * once[i], 1e-6 + 1e-5 * fabs((double)once[i]));
    mem_free(once);
    mem_free(twice);
    rig_close(&r);
    golden_close(&g);
}
