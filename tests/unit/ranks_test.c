/* ranks_test.c - a trainer of several processes: the same numbers as one, the same bits every time,
 * checkpoints that any number of ranks loads, and an end for all when one ends. */
#include "trainer/ranks/ranks.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"
#include "tests/unit/trainer_fixture.h"
#include "trainer/batch/batch.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STEPS = 3, SETS_MAX = 12 };

struct outcome {
    struct step_report report[STEPS];
    float *weights, *moment; /* [n]: after the last step; AdamW's first moment after the first */
    size_t n;
};

struct setup {
    const char *const *sets;
    uint32_t groups;
    uint64_t seed;
    const char *dir; /* checkpoints go there */
};

static struct step *open_step(const char *const *sets, int ranks) {
    char count[32];
    const char *all[SETS_MAX + 1] = {count};
    size_t n = 1;
    snprintf(count, sizeof count, "trainer.ranks=%d", ranks);
    for (; sets && sets[n - 1]; n++) {
        CHECK(n < SETS_MAX);
        all[n] = sets[n - 1];
    }
    return trainer_fixture_open(all);
}

/* Trajectories of different ages and, every third one, cut at the limit. */
static struct batch *batch_of(const struct setup *x, int64_t version) {
    struct batch *b = trainer_fixture_batch(x->seed + (uint64_t)version, x->groups, version);
    for (uint32_t i = 0; i < b->n; i++) {
        b->traj[i].truncated = i % 3 == 0;
        for (int32_t k = 0; k < b->traj[i].n_response && i % 2; k++)
            b->traj[i].version[k] -= k % 3;
    }
    return b;
}

static float *read_moment(const char *dir, int64_t version, size_t n) {
    char *path = mem_printf("%s/step-%d/adam_m.bin", dir, (int)version), *data;
    size_t bytes;
    CHECK_OK(file_read(&data, &bytes, path, (size_t)1 << 30));
    CHECK_INT(bytes, n * sizeof(float));
    mem_free(path);
    return (float *)(void *)data;
}

static struct outcome run(const struct setup *x, int ranks) {
    struct outcome out = {0};
    struct step *s = open_step(x->sets, ranks);
    step_set_version(s, 4);
    out.n = (size_t)params_slab_elements(params_shape(step_weights(s)));
    for (int i = 0; i < STEPS; i++) {
        struct batch *b = batch_of(x, step_version(s));
        int64_t before = step_version(s);
        CHECK_OK(step_run(s, b, &out.report[i]));
        batch_close(&b);
        if (step_version(s) == before) step_advance(s);
        if (i > 0) continue;
        CHECK_OK(step_save(s, x->dir, 1));
        out.moment = read_moment(x->dir, step_version(s), out.n);
    }
    CHECK_OK(step_gather_weights(s));
    out.weights = mem_array(out.n, sizeof *out.weights);
    CHECK_OK(params_get(step_weights(s), out.weights, out.n * sizeof *out.weights));
    step_close(&s);
    return out;
}

static void drop(struct outcome *o) {
    mem_free(o->weights);
    mem_free(o->moment);
}

/* |a - b| / |b| */
static double distance(const float *a, const float *b, size_t n) {
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        off += pow((double)a[i] - (double)b[i], 2);
        all += pow((double)b[i], 2);
    }
    return sqrt(off / all);
}

/* Numbers that are functions of log-probs alone: to the bit, where the weights are the same. */
static void check_same_reports(const struct step_report *a, const struct step_report *b) {
    const double x[] = {a->loss,        a->pg_loss,    a->kl_loss,     a->kl,
                        a->entropy,     a->ess,        a->tis_mean,    a->tis_capped,
                        a->ratio_mean,  a->ratio_max,  a->mismatch_kl, a->mask_fraction,
                        a->reward_mean, a->value_loss, a->value_mean,  a->explained_variance,
                        a->lr_scale,    a->lr};
    const double y[] = {b->loss,        b->pg_loss,    b->kl_loss,     b->kl,
                        b->entropy,     b->ess,        b->tis_mean,    b->tis_capped,
                        b->ratio_mean,  b->ratio_max,  b->mismatch_kl, b->mask_fraction,
                        b->reward_mean, b->value_loss, b->value_mean,  b->explained_variance,
                        b->lr_scale,    b->lr};
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        if (x[i] != y[i] && !(isnan(x[i]) && isnan(y[i])))
            test_fail(__FILE__, __LINE__, "number %zu: %.17g and %.17g", i, x[i], y[i]);
    CHECK_INT(a->trained_tokens, b->trained_tokens);
    CHECK_INT(a->zero_groups, b->zero_groups);
}

static void check_close(const struct outcome *a, const struct outcome *one) {
    for (int i = 0; i < STEPS; i++) {
        const struct step_report *x = &a->report[i], *y = &one->report[i];
        CHECK_NEAR(x->grad_norm, y->grad_norm, 1e-6 * y->grad_norm);
        CHECK_NEAR(x->loss, y->loss, 1e-6 * (1 + fabs(y->loss)));
        CHECK_STR(x->gac_action, y->gac_action);
        if (i > 0) CHECK_NEAR(x->gac_cosine, y->gac_cosine, 1e-5);
    }
    if (one->report[0].optimizer_steps == 1) check_same_reports(&a->report[0], &one->report[0]);
    CHECK_NEAR(distance(a->moment, one->moment, one->n), 0, 1e-6);
    CHECK_NEAR(distance(a->weights, one->weights, one->n), 0, 1e-6);
}

static void check_bits(const struct outcome *a, const struct outcome *b) {
    CHECK(memcmp(a->weights, b->weights, a->n * sizeof *a->weights) == 0);
    CHECK(memcmp(a->moment, b->moment, a->n * sizeof *a->moment) == 0);
    CHECK(hash_equal(a->report[STEPS - 1].weights_hash, b->report[STEPS - 1].weights_hash));
    CHECK(a->report[STEPS - 1].grad_norm == b->report[STEPS - 1].grad_norm);
}

/* 1, 2 and 4 ranks; 2 ranks twice. */
static void compare(uint32_t groups, uint64_t seed, const char *const *sets) {
    struct setup x = {sets, groups, seed, test_dir()};
    struct outcome one = run(&x, 1), two = run(&x, 2), again = run(&x, 2), four = run(&x, 4);
    check_close(&two, &one);
    check_close(&four, &one);
    check_bits(&two, &again);
    drop(&one);
    drop(&two);
    drop(&again);
    drop(&four);
}

#define SAME(name, groups, seed, ...)                                                              \
    TEST(ranks_##name) {                                                                           \
        static const char *const sets[] = {__VA_ARGS__, NULL};                                     \
        compare(groups, seed, sets);                                                               \
    }

SAME(grpo, 5, 1, "trainer.algorithm.advantage=grpo")
SAME(more_than_groups, 3, 2, "trainer.algorithm.aggregation=sequence-mean")
SAME(one_group, 1, 3, "trainer.algorithm.aggregation=constant")
SAME(minibatches, 5, 4, "trainer.batch.minibatches=3", "trainer.algorithm.loss=gspo")
SAME(critic, 5, 5, "trainer.algorithm.advantage=gae", "trainer.algorithm.lambda=0.9",
     "trainer.algorithm.gamma=0.98")
SAME(truncated_importance, 5, 6, "trainer.algorithm.denominator=recomputed",
     "trainer.algorithm.correction.tis=token", "trainer.algorithm.correction.cap=1.1")
SAME(m2po, 5, 7, "trainer.algorithm.correction.mask=m2po", "trainer.algorithm.correction.m2=0.05")
SAME(vcpo, 5, 8, "trainer.algorithm.ess_lr=true", "trainer.algorithm.optimal_baseline=true",
     "trainer.algorithm.correction.tis=sequence", "trainer.algorithm.denominator=recomputed")
SAME(reference, 5, 9, "trainer.algorithm.kl.coef=0.1", "trainer.algorithm.entropy=0.01",
     "trainer.algorithm.overlong=mask")
SAME(reference_in_reward, 5, 10, "trainer.algorithm.kl.coef=0.1",
     "trainer.algorithm.kl.place=reward", "trainer.algorithm.advantage=reinforce++")
SAME(decoupled, 5, 11, "trainer.algorithm.loss=decoupled", "trainer.batch.minibatches=2")
SAME(alignment, 5, 12, "trainer.alignment.mode=on", "trainer.alignment.c_low=0",
     "trainer.alignment.c_high=0.9", "trainer.alignment.previous=bf16")
SAME(prefixes, 6, 13, "trainer.prefix=schedule", "trainer.prefix_cost=[0, 1]")

/* --- checkpoints ---------------------------------------------------------------------------- */

static const char *const kinds[] = {
    "trainer.alignment.previous=fp32", "trainer.alignment.previous=bf16",
    "trainer.alignment.previous=host", "trainer.alignment.previous=momentum", "model.dtype=bf16"};

/* Saved by `from` ranks, continued by others: as near to each other as any two counts are, the
 * same bits where the count is the same, and the files are the whole slabs in every case. */
static void across(const char *kind, int from) {
    const char *const sets[] = {"trainer.alignment.mode=on", "trainer.alignment.c_low=0",
                                "trainer.alignment.c_high=0.9", kind, NULL};
    struct setup x = {sets, 5, 30, test_dir()};
    struct step_report want = {0}, got;
    struct step *s = open_step(sets, from);
    struct batch *b = batch_of(&x, 4);
    float *moment[2];
    size_t n = (size_t)params_slab_elements(params_shape(step_weights(s)));
    step_set_version(s, 4);
    CHECK_OK(step_run(s, b, &want));
    CHECK_OK(step_save(s, x.dir, 1));
    moment[0] = read_moment(x.dir, 5, n);
    CHECK_OK(step_run(s, b, &want));
    CHECK(isfinite(want.gac_cosine) && want.gac_cosine > 0.5); /* the previous gradient is there */
    step_close(&s);
    for (int ranks = 1; ranks <= 4; ranks *= 2) {
        s = open_step(sets, ranks);
        CHECK_OK(step_load(s, x.dir, -1));
        CHECK_INT(step_version(s), 5);
        CHECK_OK(step_save(s, x.dir, 1));
        moment[1] = read_moment(x.dir, 5, n);
        CHECK(memcmp(moment[0], moment[1], n * sizeof(float)) == 0);
        mem_free(moment[1]);
        CHECK_OK(step_run(s, b, &got));
        CHECK_NEAR(got.gac_cosine, want.gac_cosine, 1e-6);
        CHECK_STR(got.gac_action, want.gac_action);
        CHECK_NEAR(got.grad_norm, want.grad_norm, 1e-6 * want.grad_norm);
        if (ranks == from) {
            CHECK(hash_equal(got.weights_hash, want.weights_hash));
            CHECK(got.gac_cosine == want.gac_cosine);
        }
        step_close(&s);
    }
    batch_close(&b);
    mem_free(moment[0]);
}

TEST_TIMEOUT(ranks_checkpoints_fit_any_count, 180) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        across(kinds[i], 1 << i % 3);
}

/* A save that fails between two pieces, or before the first, leaves the ranks as they were. */
TEST(ranks_go_on_after_a_failed_save) {
    struct setup x = {NULL, 3, 31, test_dir()};
    char *file = file_join(test_dir(), "file");
    struct step *s = open_step(NULL, 2);
    struct batch *b = batch_of(&x, 4);
    struct step_report r;
    struct rlimit old, small = {.rlim_cur = 4096, .rlim_max = 4096};
    step_set_version(s, 4);
    CHECK_OK(file_write_atomic(file, "x", 1));
    CHECK(step_save(s, file, 1) == ERR_IO); /* not a folder */
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small.rlim_max = old.rlim_max;
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &small) == 0);
    CHECK_ERR(step_save(s, x.dir, 1), ERR_IO, "version 4 not written");
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK_OK(step_run(s, b, &r));
    CHECK_OK(step_save(s, x.dir, 1));
    batch_close(&b);
    step_close(&s);
    mem_free(file);
}

/* --- what else a step does ------------------------------------------------------------------- */

TEST(ranks_refuse_a_batch_and_go_on) {
    struct setup x = {NULL, 3, 32, test_dir()};
    struct step *s = open_step(NULL, 3);
    struct batch *b = batch_of(&x, 4);
    struct step_report r;
    struct hash before = trainer_fixture_hash(s);
    CHECK_ERR(step_run(s, b, &r), ERR_MISMATCH, "the weights are version 0");
    step_set_version(s, 99);
    CHECK_ERR(step_run(s, b, &r), ERR_STALE, "staleness.max");
    CHECK(hash_equal(before, trainer_fixture_hash(s)));
    batch_close(&b);
    b = batch_of(&x, 99);
    CHECK_OK(step_run(s, b, &r));
    batch_close(&b);
    step_close(&s);
}

/* What only the recipe's advantage asks for is looked at before anybody starts, too. */
TEST(ranks_refuse_what_the_advantage_lacks) {
    const char *const sets[] = {"trainer.algorithm.advantage=remax", NULL};
    struct setup x = {sets, 3, 36, test_dir()};
    struct step *s = open_step(sets, 2);
    struct batch *b = batch_of(&x, 4);
    struct step_report r;
    step_set_version(s, 4);
    CHECK_ERR(step_run(s, b, &r), ERR_CONFIG, "has no baseline");
    for (uint32_t i = 0; i < b->n; i++)
        b->traj[i].baseline = 0.5F;
    CHECK_OK(step_run(s, b, &r));
    batch_close(&b);
    step_close(&s);
}

TEST(ranks_train_supervised) {
    struct setup x = {NULL, 5, 33, test_dir()};
    struct step_report r[2][2];
    for (int k = 0; k < 2; k++) {
        struct step *s = open_step(NULL, 1 + 2 * k);
        struct batch *b = batch_of(&x, 0);
        for (int i = 0; i < 2; i++)
            CHECK_OK(step_run_sft(s, b, &r[k][i]));
        batch_close(&b);
        step_close(&s);
    }
    CHECK(r[0][0].loss == r[1][0].loss && r[0][0].entropy == r[1][0].entropy);
    CHECK(r[1][1].loss < r[1][0].loss);
    CHECK_NEAR(r[1][1].loss, r[0][1].loss, 1e-6 * r[0][1].loss);
    CHECK_NEAR(r[1][1].grad_norm, r[0][1].grad_norm, 1e-6 * r[0][1].grad_norm);
}

/* --- ends ------------------------------------------------------------------------------------ */

/* Processes that this one started and that are not waited for; returns how many. */
static int children(pid_t *out, int most) {
    char path[64];
    int n = 0, pid;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "r");
    if (!f) test_skip("/proc/.../children is not there");
    while (n < most && fscanf(f, "%d", &pid) == 1)
        out[n++] = (pid_t)pid;
    fclose(f);
    return n;
}

TEST(ranks_end_with_the_step) {
    pid_t pid[4];
    struct step *s = open_step(NULL, 4);
    CHECK_INT(children(pid, 4), 3);
    step_close(&s);
    CHECK_INT(children(pid, 4), 0);
}

/* Whatever the deadline, a rank that is killed is named by the next step, and the others end. */
TEST(ranks_name_the_one_that_was_killed) {
    struct setup x = {NULL, 3, 34, test_dir()};
    pid_t pid[4];
    struct step *s = open_step(NULL, 3);
    struct batch *b = batch_of(&x, 4);
    struct step_report r;
    step_set_version(s, 4);
    CHECK_OK(step_run(s, b, &r));
    CHECK_INT(children(pid, 4), 2);
    CHECK(kill(pid[1], SIGKILL) == 0);
    CHECK_ERR(step_run(s, b, &r), ERR_CLOSED, "rank 2 of 3 of the trainer was killed by signal 9");
    CHECK(step_run(s, b, &r) < 0);
    batch_close(&b);
    step_close(&s);
    CHECK_INT(children(pid, 4), 0);
}

/* A process that is killed hangs up before its parent can wait for it: the time in between, made
 * long. The rank is frozen, so that it does not end by itself when its socket is closed. */
TEST(ranks_name_the_one_that_is_dying) {
    struct setup x = {NULL, 3, 34, test_dir()};
    pid_t pid[4];
    struct step *s = open_step(NULL, 3);
    struct batch *b = batch_of(&x, 4);
    struct step_report r;
    step_set_version(s, 4);
    CHECK_OK(step_run(s, b, &r));
    CHECK_INT(children(pid, 4), 2);
    CHECK(kill(pid[1], SIGSTOP) == 0);
    int process = (int)syscall(SYS_pidfd_open, pid[1], 0);
    int fd = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, RANKS_FD, 0);
    if (fd < 0) test_skip("another process's descriptors cannot be had here");
    CHECK(shutdown(fd, SHUT_RDWR) == 0);
    pid_t killer = fork();
    if (killer == 0) {
        clock_sleep_us(200 * 1000);
        _exit(kill(pid[1], SIGKILL) != 0);
    }
    CHECK_ERR(step_run(s, b, &r), ERR_CLOSED, "rank 2 of 3 of the trainer was killed by signal 9");
    CHECK(waitpid(killer, NULL, 0) == killer);
    close(fd);
    close(process);
    batch_close(&b);
    step_close(&s);
}

TEST(ranks_name_the_one_that_hangs) {
    const char *const sets[] = {"trainer.rank_timeout_ms=300", NULL};
    struct setup x = {sets, 3, 35, test_dir()};
    pid_t pid[4];
    struct step *s = open_step(sets, 2);
    struct batch *b = batch_of(&x, 4);
    struct step_report r;
    step_set_version(s, 4);
    CHECK_INT(children(pid, 4), 1);
    CHECK(kill(pid[0], SIGSTOP) == 0);
    CHECK_ERR(step_run(s, b, &r), ERR_TIMEOUT, "rank 1 of 2 did not arrive");
    CHECK(kill(pid[0], SIGCONT) == 0);
    batch_close(&b);
    step_close(&s);
    CHECK_INT(children(pid, 4), 0);
}

/* Rank 0 is killed, and cannot end the others any more. */
TEST(ranks_die_with_rank_0) {
    int at[2];
    pid_t of[4];
    CHECK(pipe(at) == 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct step *s = open_step(NULL, 3);
        CHECK_INT(children(of, 4), 2);
        CHECK(s && write(at[1], of, 2 * sizeof *of) == 2 * (ssize_t)sizeof *of);
        for (;;)
            pause();
    }
    CHECK(read(at[0], of, 2 * sizeof *of) == 2 * (ssize_t)sizeof *of);
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < 2; i++) /* orphans are this process's; the time limit ends a wait */
        CHECK_INT(waitpid(of[i], NULL, 0), of[i]);
}

/* What makes a rank fail reaches the caller in its own words. */
TEST(ranks_say_why_one_could_not_start) {
    const char *const bad[] = {"trainer.algorithm.kl.coef=0.1",
                               "trainer.algorithm.kl.reference=/nowhere", NULL};
    char count[] = "trainer.ranks=2";
    const char *const all[] = {count, bad[0], bad[1], NULL};
    struct recipe *r = trainer_fixture_recipe(all);
    struct step *s = NULL;
    pid_t pid[4];
    CHECK_ERR(step_open(&s, r, trainer_fixture_model()), ERR_NOTFOUND, "/nowhere");
    CHECK(s == NULL);
    CHECK_INT(children(pid, 4), 0);
    recipe_close(&r);
}
