/* update_test.c - the optimizer on gradients made by hand: what alignment control leaves of them is
 * read off the first moment (beta1 = 0 makes it the gradient that was used, times the clip). */
#include "trainer/optim/update.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"
#include "tests/unit/trainer_fixture.h"

#include <stdio.h>
#include <string.h>

struct rig {
    struct step *step; /* only for its backend and shape */
    struct update *u;
    struct params *w;
    struct kern_stream *stream;
    const struct kern_backend *backend;
    size_t n;
};

static struct rig open_rig(const char *const *sets) {
    struct rig g = {.step = trainer_fixture_open(NULL)};
    struct recipe *r = trainer_fixture_recipe(sets);
    const struct shape *shape = params_shape(step_weights(g.step));
    g.backend = params_backend(step_weights(g.step));
    g.n = (size_t)params_slab_elements(shape);
    CHECK_OK(update_open(&g.u, g.backend, shape, r, NULL));
    CHECK_OK(params_open(&g.w, g.backend, shape));
    CHECK_OK(params_init(g.w, 7));
    CHECK_OK(kern_stream_open(g.backend, &g.stream, 0));
    recipe_close(&r);
    return g;
}

static void close_rig(struct rig *g) {
    kern_stream_close(g->backend, g->stream);
    update_close(&g->u);
    params_close(&g->w);
    step_close(&g->step);
}

static float *read(const struct rig *g, const struct params *p) {
    float *x = mem_array(g->n, sizeof *x);
    CHECK_OK(params_get(p, x, g->n * sizeof *x));
    return x;
}

static float *read_slab(const struct rig *g, int i) {
    float *x = mem_array(g->n, sizeof *x);
    struct update_slab slab = update_slab(g->u, i);
    CHECK_INT(slab.n, g->n);
    CHECK_OK(update_get(g->u, i, x, 0, g->n * slab.size));
    return x;
}

/* Random, zero in the gaps of the table. */
static float *gradient(const struct rig *g, uint64_t seed) {
    float *x = mem_array(g->n, sizeof *x);
    uint64_t key = rng_key(seed, RNG_TEST);
    for (size_t i = 0; i < params_count(g->w); i++) {
        const struct params_entry *e = params_entry(g->w, i);
        for (int64_t k = e->offset; k < e->offset + e->n; k++)
            x[k] = (float)rng_normal(key, 0, (uint64_t)k);
    }
    return x;
}

static double dot(const struct rig *g, const float *a, const float *b) {
    double s = 0;
    for (size_t i = 0; i < g->n; i++)
        s += (double)a[i] * (double)b[i];
    return s;
}

static double cosine(const struct rig *g, const float *a, const float *b) {
    return dot(g, a, b) / sqrt(dot(g, a, a) * dot(g, b, b));
}

/* a + x * b in place of b's copy: a gradient that leans towards b. */
static float *lean(const struct rig *g, uint64_t seed, const float *b, float x) {
    float *a = gradient(g, seed);
    for (size_t i = 0; i < g->n; i++)
        a[i] += x * b[i];
    return a;
}

static const struct update_turn controlled_turn = {.control = true, .lr_factor = 1};

static struct update_report apply(struct rig *g, const float *grad) {
    struct update_report r;
    struct params *into;
    CHECK_OK(update_begin(g->u, &into));
    CHECK_OK(params_put(into, grad, g->n * sizeof *grad));
    CHECK_OK(update_apply(g->u, g->stream, g->w, &controlled_turn, &r));
    return r;
}

static const char *const controlled[] = {
    "trainer.alignment.mode=on",     "trainer.alignment.c_low=0.1",
    "trainer.alignment.c_high=0.8",  "trainer.optimizer.betas=[0, 0.9]",
    "trainer.optimizer.clip_norm=0", NULL};

TEST(update_scales_to_c_low) {
    struct rig g = open_rig(controlled);
    float *p = gradient(&g, test_seed());
    CHECK_INT(apply(&g, p).action, ALIGN_INVALID);
    for (uint64_t k = 1; k < 4; k++) {
        float *q = lean(&g, test_seed() + k, p, 0.3F);
        struct update_report r = apply(&g, q);
        float *used = read_slab(&g, 0);
        CHECK_INT(r.action, ALIGN_SCALE);
        CHECK(r.applied);
        CHECK_NEAR(r.cosine, cosine(&g, q, p), 1e-6);
        CHECK_NEAR(cosine(&g, used, p), 0.1, 1e-6);
        CHECK_NEAR(r.grad_norm, sqrt(dot(&g, q, q)), 1e-4);
        mem_free(used);
        mem_free(p);
        p = q; /* the raw gradient is the next previous one */
    }
    mem_free(p);
    close_rig(&g);
}

TEST(update_below_c_low_is_untouched) {
    struct rig g = open_rig(controlled);
    float *p = gradient(&g, test_seed()), *q = lean(&g, test_seed() + 1, p, -0.5F);
    apply(&g, p);
    CHECK_INT(apply(&g, q).action, ALIGN_PASS);
    float *used = read_slab(&g, 0);
    CHECK(memcmp(used, q, g.n * sizeof *q) == 0);
    mem_free(used);
    mem_free(p);
    mem_free(q);
    close_rig(&g);
}

TEST(update_skip_touches_nothing) {
    struct rig g = open_rig(controlled);
    float *p = gradient(&g, test_seed()), *q = lean(&g, test_seed() + 1, p, 4);
    apply(&g, p);
    float *w = read(&g, g.w), *m = read_slab(&g, 0), *v = read_slab(&g, 1);
    for (int skips = 1; skips <= 2; skips++) {
        struct update_report r = apply(&g, q);
        CHECK_INT(r.action, ALIGN_SKIP);
        CHECK(!r.applied);
        CHECK_INT(update_state(g.u).steps, 1);
        CHECK_INT(update_state(g.u).skips, skips);
        float *w2 = read(&g, g.w), *m2 = read_slab(&g, 0);
        float *v2 = read_slab(&g, 1), *p2 = read_slab(&g, 2);
        CHECK(memcmp(w, w2, g.n * sizeof *w) == 0 && memcmp(m, m2, g.n * sizeof *m) == 0);
        CHECK(memcmp(v, v2, g.n * sizeof *v) == 0 && memcmp(q, p2, g.n * sizeof *q) == 0);
        mem_free(w2);
        mem_free(m2);
        mem_free(v2);
        mem_free(p2);
        float *next = lean(&g, test_seed() + 1 + (uint64_t)skips, q, 4);
        mem_free(p);
        p = q;
        q = next;
    }
    struct update_report r = apply(&g, q); /* the third: only the orthogonal part */
    CHECK(r.applied && r.action == ALIGN_SCALE);
    float *used = read_slab(&g, 0);
    CHECK_NEAR(cosine(&g, used, p), 0, 1e-5);
    CHECK_INT(update_state(g.u).steps, 2);
    CHECK_INT(update_state(g.u).skips, 0);
    mem_free(used);
    mem_free(w);
    mem_free(m);
    mem_free(v);
    mem_free(p);
    mem_free(q);
    close_rig(&g);
}

/* The norm after projection is known without a second pass: the clip makes it clip_norm. */
TEST(update_clips_what_is_left) {
    const char *const sets[] = {
        "trainer.alignment.mode=on",       "trainer.alignment.c_low=0.1",
        "trainer.alignment.c_high=0.9",    "trainer.optimizer.betas=[0, 0.9]",
        "trainer.optimizer.clip_norm=0.5", NULL};
    struct rig g = open_rig(sets);
    float *p = gradient(&g, test_seed()), *q = lean(&g, test_seed() + 1, p, 1);
    apply(&g, p);
    float *used = read_slab(&g, 0);
    CHECK_NEAR(sqrt(dot(&g, used, used)), 0.5, 1e-5);
    mem_free(used);
    CHECK_INT(apply(&g, q).action, ALIGN_SCALE);
    used = read_slab(&g, 0);
    CHECK_NEAR(sqrt(dot(&g, used, used)), 0.5, 1e-5);
    mem_free(used);
    mem_free(p);
    mem_free(q);
    close_rig(&g);
}

TEST(update_not_finite_is_never_used) {
    struct rig g = open_rig(NULL);
    struct update_report r;
    struct params *into;
    float *p = gradient(&g, test_seed());
    apply(&g, p);
    float *w = read(&g, g.w);
    p[5] = NAN;
    for (int k = 0; k < 2; k++) {
        r = apply(&g, p);
        CHECK(!r.applied && isnan(r.cosine));
    }
    CHECK_OK(update_begin(g.u, &into));
    CHECK_OK(params_put(into, p, g.n * sizeof *p));
    CHECK_ERR(update_apply(g.u, g.stream, g.w, &controlled_turn, &r), ERR_CORRUPT,
              "not finite in 3 steps");
    float *w2 = read(&g, g.w);
    CHECK(memcmp(w, w2, g.n * sizeof *w) == 0);
    p[5] = 0;
    r = apply(&g, p);
    CHECK(r.applied && isnan(r.cosine)); /* no previous gradient to compare with */
    mem_free(p);
    mem_free(w);
    mem_free(w2);
    close_rig(&g);
}

TEST(update_decays_matrices_only) {
    struct rig g = open_rig(NULL); /* lr 1e-3, decay 0.1 */
    float *zero = mem_array(g.n, sizeof *zero), *w = read(&g, g.w);
    CHECK(apply(&g, zero).applied);
    float *w2 = read(&g, g.w);
    for (size_t i = 0; i < params_count(g.w); i++) {
        const struct params_entry *e = params_entry(g.w, i);
        for (int64_t k = e->offset; k < e->offset + e->n; k++)
            CHECK_NEAR(w2[k], (double)w[k] * (e->is_matrix ? 1 - 1e-4 : 1), 1e-7);
    }
    mem_free(zero);
    mem_free(w);
    mem_free(w2);
    close_rig(&g);
}

/* --- where the previous gradient is kept --------------------------------------------------- */

static void previous_sets(const char **sets, char *text, size_t bytes, const char *kind) {
    size_t n = 0;
    for (; controlled[n]; n++)
        sets[n] = controlled[n];
    snprintf(text, bytes, "trainer.alignment.previous=%s", kind);
    sets[n] = text;
    sets[n + 1] = NULL;
}

static struct rig open_kind(const char *kind) {
    const char *sets[16];
    char text[64];
    previous_sets(sets, text, sizeof text, kind);
    return open_rig(sets);
}

/* A gradient of every action in turn: first, pass, scale, skip, skip, removal, pass. */
enum { TURNS = 7 };
static float *turn(const struct rig *g, int i, const float *last) {
    static const float leans[TURNS] = {0, -0.2F, 0.3F, 4, 4, 4, 0};
    return i == 0 ? gradient(g, test_seed()) : lean(g, test_seed() + (uint64_t)i, last, leans[i]);
}

TEST(update_host_equals_fp32) {
    struct rig a = open_kind("fp32"), b = open_kind("host");
    float *last = NULL;
    for (int i = 0; i < TURNS; i++) {
        float *g = turn(&a, i, last);
        struct update_report ra = apply(&a, g), rb = apply(&b, g);
        CHECK_INT(ra.action, rb.action);
        CHECK(i == 0 || ra.cosine == rb.cosine);
        mem_free(last);
        last = g;
        float *wa = read(&a, a.w), *wb = read(&b, b.w);
        float *pa = read_slab(&a, 2), *pb = read_slab(&b, 2);
        CHECK(memcmp(wa, wb, a.n * sizeof *wa) == 0);
        CHECK(memcmp(pa, pb, a.n * sizeof *pa) == 0 && memcmp(pa, g, a.n * sizeof *g) == 0);
        mem_free(wa);
        mem_free(wb);
        mem_free(pa);
        mem_free(pb);
    }
    CHECK_INT(update_state(a.u).steps, TURNS - 2);
    mem_free(last);
    close_rig(&a);
    close_rig(&b);
}

static float *widened(const struct rig *g) { /* the kept bf16 gradient */
    uint16_t *bits = mem_array(g->n, sizeof *bits);
    float *x = mem_array(g->n, sizeof *x);
    CHECK_INT(update_slab(g->u, 2).size, 2);
    CHECK_OK(update_get(g->u, 2, bits, 0, g->n * sizeof *bits));
    for (size_t i = 0; i < g->n; i++) {
        uint32_t u = (uint32_t)bits[i] << 16;
        memcpy(&x[i], &u, sizeof u);
    }
    mem_free(bits);
    return x;
}

TEST(update_bf16_leaves_c_low_of_what_it_kept) {
    struct rig g = open_kind("bf16");
    float *p = gradient(&g, test_seed());
    apply(&g, p);
    for (uint64_t k = 1; k < 4; k++) {
        float *kept = widened(&g), *q = lean(&g, test_seed() + k, p, 0.3F);
        for (size_t i = 0; i < g.n; i++)
            CHECK(fabsf(kept[i] - p[i]) <= fabsf(p[i]) / 256);
        struct update_report r = apply(&g, q);
        CHECK_INT(r.action, ALIGN_SCALE);
        CHECK_NEAR(r.cosine, cosine(&g, q, kept), 1e-6);
        float *used = read_slab(&g, 0);
        CHECK_NEAR(cosine(&g, used, kept), 0.1, 1e-6);
        mem_free(used);
        mem_free(kept);
        mem_free(p);
        p = q;
    }
    mem_free(p);
    close_rig(&g);
}

TEST(update_bf16_skip_keeps_the_newest) {
    struct rig g = open_kind("bf16");
    float *p = gradient(&g, test_seed()), *q = lean(&g, test_seed() + 1, p, 4);
    apply(&g, p);
    float *w = read(&g, g.w), *m = read_slab(&g, 0);
    CHECK_INT(apply(&g, q).action, ALIGN_SKIP);
    float *kept = widened(&g), *w2 = read(&g, g.w), *m2 = read_slab(&g, 0);
    CHECK_NEAR(cosine(&g, kept, q), 1, 1e-5);
    CHECK(memcmp(w, w2, g.n * sizeof *w) == 0 && memcmp(m, m2, g.n * sizeof *m) == 0);
    mem_free(kept);
    mem_free(w2);
    mem_free(m2);
    mem_free(w);
    mem_free(m);
    mem_free(p);
    mem_free(q);
    close_rig(&g);
}

/* The reference is the first moment as it was before the step. */
TEST(update_momentum_leaves_c_low_of_the_moment) {
    struct rig g = open_kind("momentum");
    CHECK_INT(update_slabs(g.u), 2);
    float *p = gradient(&g, test_seed());
    CHECK_INT(apply(&g, p).action, ALIGN_INVALID);
    for (uint64_t k = 1; k < 4; k++) {
        float *m = read_slab(&g, 0), *q = lean(&g, test_seed() + k, m, 0.3F);
        struct update_report r = apply(&g, q);
        float *used = read_slab(&g, 0);
        CHECK_INT(r.action, ALIGN_SCALE);
        CHECK_NEAR(r.cosine, cosine(&g, q, m), 1e-6);
        CHECK_NEAR(cosine(&g, used, m), 0.1, 1e-6);
        mem_free(used);
        mem_free(m);
        mem_free(q);
    }
    mem_free(p);
    close_rig(&g);
}

TEST(update_bytes_count_the_previous_gradient) {
    struct rig g = open_rig(NULL);
    const struct shape *shape = params_shape(g.w);
    size_t n = g.n * sizeof(float), bytes[4];
    static const char *const kinds[] = {"fp32", "bf16", "host", "momentum"};
    for (int i = 0; i < 4; i++) {
        const char *sets[16];
        char text[64];
        previous_sets(sets, text, sizeof text, kinds[i]);
        struct recipe *r = trainer_fixture_recipe(sets);
        bytes[i] = update_bytes(shape, r, NULL);
        const struct shard_ranks half = {.rank = 0, .n = 2};
        CHECK(update_bytes(shape, r, &half) < bytes[i] + n / 2);
        recipe_close(&r);
    }
    CHECK_INT(bytes[0], 4 * n);
    CHECK_INT(bytes[3], 3 * n);
    CHECK_INT(bytes[1], 3 * n + n / 2);
    CHECK(bytes[2] > 4 * n); /* and a piece of backend memory */
    close_rig(&g);
}

/* --- calibration --------------------------------------------------------------------------- */

static const char *const calibrating[] = {
    "trainer.alignment.mode=calibrate", "trainer.alignment.calibrate_steps=8",
    "trainer.optimizer.betas=[0, 0.9]", "trainer.optimizer.clip_norm=0", NULL};

/* Eight measured steps, the last of which leans most; then the thresholds hold. */
TEST(update_calibrates_then_controls) {
    struct rig g = open_rig(calibrating), again = open_rig(calibrating);
    float *last = gradient(&g, test_seed());
    double cosines[8], low, high;
    CHECK_INT(apply(&g, last).action, ALIGN_INVALID);
    CHECK(isnan(update_state(g.u).c_low));
    for (uint64_t k = 0; k < 8; k++) {
        float *q = lean(&g, test_seed() + 1 + k, last, 0.05F * (float)k);
        struct update_report r = apply(&g, q);
        CHECK_INT(r.action, ALIGN_CALIBRATE);
        CHECK(r.applied && r.removed == 0 && isnan(r.c_low));
        CHECK_INT(update_state(g.u).samples, k + 1);
        float *used = read_slab(&g, 0);
        CHECK(memcmp(used, q, g.n * sizeof *q) == 0); /* measured only */
        cosines[k] = r.cosine;
        mem_free(used);
        mem_free(last);
        last = q;
    }
    align_thresholds(&low, &high, cosines, 8);
    CHECK(update_state(g.u).c_low == low && update_state(g.u).c_high == high);
    float *q = lean(&g, test_seed() + 99, last, 0.6F);
    struct update_state st = update_state(g.u);
    update_restore(again.u, &st); /* resumed: does not start over */
    CHECK_OK(update_put(again.u, 2, last, 0, g.n * sizeof *last));
    struct update_report r = apply(&g, q), ra = apply(&again, q);
    CHECK(r.action == ALIGN_SKIP || r.action == ALIGN_SCALE);
    CHECK_INT(ra.action, r.action);
    CHECK(ra.cosine == r.cosine && ra.removed == r.removed && ra.c_low == low);
    mem_free(q);
    mem_free(last);
    close_rig(&g);
    close_rig(&again);
}

/* Steps that control must not touch (supervised ones) are no samples. */
TEST(update_calibrates_on_controlled_steps_only) {
    struct rig g = open_rig(calibrating);
    struct update_report r;
    struct params *into;
    for (int i = 0; i < 3; i++) {
        float *q = gradient(&g, test_seed() + (uint64_t)i);
        CHECK_OK(update_begin(g.u, &into));
        CHECK_OK(params_put(into, q, g.n * sizeof *q));
        const struct update_turn supervised = {.lr_factor = 1};
        CHECK_OK(update_apply(g.u, g.stream, g.w, &supervised, &r));
        CHECK(r.action == (i ? ALIGN_OFF : ALIGN_INVALID));
        mem_free(q);
    }
    CHECK_INT(update_state(g.u).samples, 0);
    close_rig(&g);
}

/* With staleness the rate is divided by 1 + staleness * mean cosine, in the report and in the
 * weights; supervised steps and fresh data keep the schedule's. */
TEST(update_lr_follows_staleness_and_cosine) {
    const char *const sets[] = {"trainer.alignment.lr_loop=true", "trainer.optimizer.lr=1e-3",
                                NULL};
    static const struct update_turn stale = {.control = true, .staleness = 8, .lr_factor = 0.5},
                                    supervised = {.staleness = 8, .lr_factor = 1};
    struct rig g = open_rig(sets);
    struct update_report r;
    struct params *into;
    float *p = gradient(&g, test_seed()), *q = lean(&g, test_seed() + 1, p, 1);
    CHECK_NEAR(apply(&g, p).lr, 1e-3, 1e-15);
    CHECK_OK(update_begin(g.u, &into));
    CHECK_OK(params_put(into, q, g.n * sizeof *q));
    CHECK_OK(update_apply(g.u, g.stream, g.w, &stale, &r));
    CHECK_NEAR(r.lr_factor, 1 / (1 + 8 * cosine(&g, q, p)), 1e-6);
    CHECK_NEAR(r.lr, 0.5e-3 * r.lr_factor, 1e-12);
    CHECK_OK(update_begin(g.u, &into));
    CHECK_OK(params_put(into, q, g.n * sizeof *q));
    CHECK_OK(update_apply(g.u, g.stream, g.w, &supervised, &r));
    CHECK(r.lr_factor == 1 && r.lr == 1e-3);
    mem_free(p);
    mem_free(q);
    close_rig(&g);
}

static void check_changed(const struct rig *g, const uint16_t *was, const uint16_t *now,
                          double share) {
    struct kern_tensor map = update_changed(g->u);
    CHECK_INT(map.dim[0], (g->n + 31) / 32);
    uint32_t *bits = mem_alloc(map.bytes);
    double n = 0, values = 0;
    CHECK_OK(kern_get(g->backend, g->stream, bits, map.data, map.bytes));
    for (size_t i = 0; i < g->n; i++) {
        bool changed = bits[i / 32] >> i % 32 & 1;
        CHECK_INT(changed, was[i] != now[i]);
        n += changed;
    }
    for (size_t i = 0; i < params_count(g->w); i++)
        values += (double)params_entry(g->w, i)->n;
    CHECK_NEAR(share, n / values, 1e-12);
    mem_free(bits);
}

/* What the optimizer's pass rounds is what a cast of its weights gives, and its map is what
 * comparing two versions gives: in whole slabs and in pieces, over several updates of one version,
 * and when nothing is applied. */
static void rounds_and_notes(const char *previous) {
    const char *sets[] = {"model.dtype=bf16", previous, "trainer.optimizer.lr=1e-5", NULL};
    struct rig g = open_rig(sets);
    struct shape shape = *params_shape(g.w);
    struct params *rounded, *cast, *into;
    struct update_report r;
    uint16_t *was = mem_array(g.n, 2), *now = mem_array(g.n, 2), *want = mem_array(g.n, 2);
    shape.bf16 = true;
    CHECK_OK(params_open(&rounded, g.backend, &shape));
    CHECK_OK(params_open(&cast, g.backend, &shape));
    CHECK_OK(params_cast(rounded, g.w, g.stream));
    for (uint64_t k = 0; k < 4; k++) { /* one update, one more of its version, one, one refused */
        struct update_turn turn = {.lr_factor = 1, .rounded = rounded, .more = k == 1};
        float *x = gradient(&g, test_seed() + k);
        if (k == 3) x[0] = NAN;
        if (k != 1) CHECK_OK(params_get(rounded, was, g.n * 2));
        CHECK_OK(update_begin(g.u, &into));
        CHECK_OK(params_put(into, x, g.n * sizeof *x));
        CHECK_OK(update_apply(g.u, g.stream, g.w, &turn, &r));
        CHECK(r.applied == (k < 3));
        CHECK_OK(params_cast(cast, g.w, g.stream));
        CHECK_OK(params_get(rounded, now, g.n * 2));
        CHECK_OK(params_get(cast, want, g.n * 2));
        CHECK(memcmp(now, want, g.n * 2) == 0);
        CHECK(k == 3 ? r.changed == 0 : r.changed > 0 && r.changed < 0.9);
        if (k != 1) check_changed(&g, was, now, r.changed);
        mem_free(x);
    }
    mem_free(was);
    mem_free(now);
    mem_free(want);
    params_close(&rounded);
    params_close(&cast);
    close_rig(&g);
}

TEST(update_rounds_and_notes_in_its_pass) {
    rounds_and_notes("trainer.alignment.previous=fp32");
    rounds_and_notes("trainer.alignment.previous=bf16");
    rounds_and_notes("trainer.alignment.previous=host");
}
