/* shard_test.c - the optimizer on parts of the slab: ranks are processes, what they hold together
 * is what one rank holds alone. */
#include "trainer/ranks/shard.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"
#include "tests/unit/trainer_fixture.h"
#include "trainer/optim/update.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STEPS = 7, RANKS_MOST = 4 };

TEST(shard_parts_cover_the_slab) {
    static const int64_t sizes[] = {0, 16, 48, 160, 1600, 12000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int n = 1; n <= 9; n++) {
            int64_t at = 0;
            for (int r = 0; r < n; r++) {
                struct shard_ranks ranks = {.rank = r, .n = n};
                int64_t own = shard_elements(&ranks, sizes[i]);
                CHECK(own >= 0 && at % 16 == 0);
                at += own;
            }
            CHECK_INT(at, sizes[i]);
        }
    struct shard s;
    const struct shard_ranks lonely = {.rank = 0, .n = 2}, outside = {.rank = 2, .n = 2};
    CHECK_ERR(shard_open(&s, NULL, &lonely, 64), ERR_CONFIG, "rank 0 of 2");
    CHECK_ERR(shard_open(&s, NULL, &outside, 64), ERR_CONFIG, "rank 2 of 2");
}

struct outcome { /* of one rank, in memory shared with the test */
    struct update_report report[STEPS];
    float *weights; /* [n] */
    float *m;       /* [n], its part only */
};

struct setup {
    const char *previous;
    int n_ranks;
    size_t n;
};

/* Rank's share of step i's gradient: multiples of 2^-10, so that their sum is exact. Steps lean
 * towards the one before so that every action happens. */
static void fill(const struct params *w, float *g, int i, int rank, int n_ranks) {
    static const double leans[STEPS] = {0, -0.2, 0.3, 4, 4, 4, 0};
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    double keep[STEPS]; /* weight of step j's own noise in step i's gradient */
    keep[i] = 1;
    for (int j = i; j-- > 0;)
        keep[j] = keep[j + 1] * leans[j + 1];
    for (size_t e = 0; e < params_count(w); e++) {
        const struct params_entry *t = params_entry(w, e);
        for (int64_t k = t->offset; k < t->offset + t->n; k++) {
            double x = 0;
            for (int j = 0; j <= i; j++)
                x += keep[j] * rng_normal(key, (uint64_t)j, (uint64_t)k);
            double whole = rint(x * 1024), mine = rint(whole / n_ranks);
            if (rank == 0) mine = whole - (n_ranks - 1) * mine;
            g[k] = (float)(mine / 1024);
        }
    }
}

/* Ranks gathered the rounded weights alone; the f32 ones, gathered now, give the same. */
static void check_rounded(struct update *u, struct kern_stream *s, struct params *w,
                          const struct params *rounded, size_t n) {
    uint16_t *have = mem_array(n, sizeof *have), *want = mem_array(n, sizeof *want);
    struct params *cast;
    CHECK_OK(update_gather_weights(u, s, w));
    CHECK_OK(params_open(&cast, params_backend(w), params_shape(rounded)));
    CHECK_OK(params_cast(cast, w, s));
    CHECK_OK(params_get(rounded, have, n * sizeof *have));
    CHECK_OK(params_get(cast, want, n * sizeof *want));
    CHECK(memcmp(have, want, n * sizeof *have) == 0);
    params_close(&cast);
    mem_free(have);
    mem_free(want);
}

static void run_rank(const struct setup *x, int rank, struct outcome *out) {
    char previous[64], name[64];
    snprintf(previous, sizeof previous, "trainer.alignment.previous=%s", x->previous);
    snprintf(name, sizeof name, "shard-%d-%s-%d", (int)getpgrp(), x->previous, x->n_ranks);
    const char *sets[] = {"trainer.alignment.mode=on", "trainer.alignment.c_high=0.8", previous,
                          "model.dtype=bf16", NULL};
    struct recipe *r = trainer_fixture_recipe(sets);
    struct step *step = trainer_fixture_open(NULL);
    const struct shape *shape = params_shape(step_weights(step));
    const struct kern_backend *b = params_backend(step_weights(step));
    struct shard_ranks ranks = {.rank = rank, .n = x->n_ranks};
    struct update *u;
    struct params *w, *into;
    struct kern_stream *s;
    struct update_turn turn = {.control = true, .lr_factor = 1};
    struct shape rounded = *shape;
    float *g = mem_array(x->n, sizeof *g);
    rounded.bf16 = true;
    CHECK_OK(kern_stream_open(b, &s, 0));
    if (x->n_ranks > 1) CHECK_OK(kern_coll_open(b, &ranks.coll, name, rank, x->n_ranks, 20000));
    CHECK_OK(params_open(&w, b, shape));
    CHECK_OK(params_init(w, 7));
    CHECK_OK(params_open(&turn.rounded, b, &rounded));
    CHECK_OK(params_cast(turn.rounded, w, s));
    CHECK_OK(update_open(&u, b, shape, r, &ranks));
    for (int i = 0; i < STEPS; i++) {
        memset(g, 0, x->n * sizeof *g);
        fill(w, g, i, rank, x->n_ranks);
        CHECK_OK(update_begin(u, &into));
        CHECK_OK(params_put(into, g, x->n * sizeof *g));
        CHECK_OK(update_apply(u, s, w, &turn, &out->report[i]));
    }
    check_rounded(u, s, w, turn.rounded, x->n);
    struct update_slab slab = update_slab(u, 0);
    CHECK_OK(params_get(w, out->weights, x->n * sizeof *g));
    CHECK_OK(update_get(u, 0, out->m + slab.offset, 0, (size_t)slab.n * sizeof *g));
    mem_free(g);
    update_close(&u);
    params_close(&w);
    params_close(&turn.rounded);
    if (ranks.coll) kern_coll_close(b, ranks.coll);
    kern_stream_close(b, s);
    step_close(&step);
    recipe_close(&r);
}

static void *shared(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static void run_ranks(const struct setup *x, struct outcome *out) {
    pid_t pid[RANKS_MOST];
    fflush(NULL);
    for (int r = 0; r < x->n_ranks; r++) {
        pid[r] = fork();
        CHECK(pid[r] >= 0);
        if (pid[r] == 0) {
            run_rank(x, r, &out[r]);
            fflush(NULL);
            _exit(0);
        }
    }
    for (int r = 0; r < x->n_ranks; r++) {
        int status = 0;
        CHECK_INT(waitpid(pid[r], &status, 0), pid[r]);
        if (status != 0) test_fail(__FILE__, __LINE__, "rank %d failed", r);
    }
}

static void check_same(const struct outcome *a, const struct outcome *b, size_t n) {
    for (int i = 0; i < STEPS; i++) {
        const struct update_report *x = &a->report[i], *y = &b->report[i];
        CHECK_INT(x->action, y->action);
        CHECK(x->applied == y->applied && x->skips == y->skips);
        if (i > 0) CHECK_NEAR(x->cosine, y->cosine, 1e-12);
        CHECK_NEAR(x->grad_norm / y->grad_norm, 1, 1e-12);
        CHECK(x->applied ? x->changed > 0 : x->changed == 0);
        CHECK_NEAR(x->changed, y->changed, 1e-3);
    }
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(a->weights[i], b->weights[i], 1e-6);
}

static void compare(const char *previous) {
    struct step *step = trainer_fixture_open(NULL);
    size_t n = (size_t)params_slab_elements(params_shape(step_weights(step)));
    step_close(&step);
    struct outcome *out = shared(2 * RANKS_MOST * sizeof *out);
    float *memory = shared(4 * RANKS_MOST * n * sizeof *memory);
    for (int i = 0; i < 2 * RANKS_MOST; i++) {
        out[i].weights = memory + 2 * (size_t)i * n;
        out[i].m = out[i].weights + n;
    }
    struct setup x = {previous, 1, n};
    run_ranks(&x, out);
    CHECK_INT(out->report[1].action, ALIGN_PASS);
    CHECK_INT(out->report[2].action, ALIGN_SCALE);
    CHECK_INT(out->report[3].action, strcmp(previous, "momentum") ? ALIGN_SKIP : ALIGN_SCALE);
    for (x.n_ranks = 2; x.n_ranks <= RANKS_MOST; x.n_ranks *= 2) {
        struct outcome *ranks = &out[RANKS_MOST];
        for (int r = 0; r < x.n_ranks; r++)
            memset(ranks[r].m, 0, n * sizeof(float));
        run_ranks(&x, ranks);
        for (int r = 0; r < x.n_ranks; r++) {
            check_same(out, &ranks[r], n);
            CHECK(memcmp(ranks[0].weights, ranks[r].weights, n * sizeof(float)) == 0);
        }
        for (size_t i = 0; i < n; i++) { /* each element of the moment exists once */
            float m = 0;
            for (int r = 0; r < x.n_ranks; r++)
                m += ranks[r].m[i];
            CHECK_NEAR(m, out->m[i], 1e-6);
        }
    }
    munmap(out, 2 * RANKS_MOST * sizeof *out);
    munmap(memory, 4 * RANKS_MOST * n * sizeof *memory);
}

TEST(shard_update_equals_one_rank_fp32) {
    compare("fp32");
}

TEST(shard_update_equals_one_rank_bf16) {
    compare("bf16");
}

TEST(shard_update_equals_one_rank_host) {
    compare("host");
}

TEST(shard_update_equals_one_rank_momentum) {
    compare("momentum");
}
