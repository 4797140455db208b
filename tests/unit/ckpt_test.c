/* ckpt_test.c - checkpoints: resuming equals never having stopped, and whatever a crash, a full
 * disk or a bad disk leaves behind is recognised. */
#include "trainer/checkpoint/ckpt.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"
#include "tests/unit/trainer_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const aligned[] = {"trainer.alignment.mode=on", "trainer.alignment.c_high=0.9",
                                      "trainer.optimizer.warmup=5", NULL};

/* Steps from the current version to `to`. */
static struct step_report steps_to(struct step *s, int64_t to) {
    struct step_report r = {0};
    while (step_version(s) < to) {
        struct batch *b = trainer_fixture_batch(40 + (uint64_t)step_version(s), 3, step_version(s));
        CHECK_OK(step_run(s, b, &r));
        batch_close(&b);
    }
    return r;
}

static char *sub(const char *name) {
    return file_join(test_dir(), name);
}

/* Checkpoints of versions 1 .. n in DIR. */
static void save_versions(const char *dir, int64_t n) {
    struct step *s = trainer_fixture_open(aligned);
    for (int64_t v = 1; v <= n; v++) {
        steps_to(s, v);
        CHECK_OK(step_save(s, dir, 100));
    }
    step_close(&s);
}

static int64_t loaded_version(const char *dir) {
    struct step *s = trainer_fixture_open(aligned);
    CHECK_OK(step_load(s, dir, -1));
    int64_t v = step_version(s);
    step_close(&s);
    return v;
}

static void resume_equals(const char *const *sets) {
    char *dir = sub("c");
    CHECK_OK(file_remove_tree(dir));
    struct step *a = trainer_fixture_open(sets), *b = trainer_fixture_open(sets);
    steps_to(a, 3);
    CHECK_OK(step_save(a, dir, 2));
    struct step_report ra = steps_to(a, 6);
    CHECK_OK(step_load(b, dir, -1));
    CHECK_INT(step_version(b), 3);
    struct step_report rb = steps_to(b, 6);
    CHECK(hash_equal(ra.weights_hash, rb.weights_hash));
    CHECK(ra.gac_cosine == rb.gac_cosine && ra.lr == rb.lr);
    step_close(&a);
    step_close(&b);
    mem_free(dir);
}

TEST(ckpt_resume_equals_uninterrupted) {
    resume_equals(aligned);
}

/* Whatever the reference of alignment control is, and in the middle of calibration. */
TEST(ckpt_resume_restores_the_reference) {
    static const char *const kinds[] = {
        "trainer.alignment.previous=fp32", "trainer.alignment.previous=bf16",
        "trainer.alignment.previous=host", "trainer.alignment.previous=momentum"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const char *sets[] = {"trainer.alignment.mode=on", "trainer.alignment.c_low=0",
                              "trainer.alignment.c_high=0.9", kinds[i], NULL};
        resume_equals(sets);
    }
}

/* Calibration goes on where it was and ends with the same thresholds; after its end it does not
 * start over. */
TEST(ckpt_resume_does_not_calibrate_again) {
    static const char *const sets[] = {"trainer.alignment.mode=calibrate",
                                       "trainer.alignment.calibrate_steps=8",
                                       "trainer.alignment.lr_loop=true", NULL};
    char *dir = sub("c");
    struct step *a = trainer_fixture_open(sets);
    struct step_report r[12];
    for (int64_t v = 1; v <= 12; v++) {
        r[v - 1] = steps_to(a, v);
        CHECK_OK(step_save(a, dir, 100));
    }
    CHECK_STR(r[8].gac_action, "calibrate");
    CHECK(isnan(r[8].gac_c_low) && r[9].gac_c_low >= 0);
    for (int64_t from = 4; from <= 10; from += 6) {
        struct step *b = trainer_fixture_open(sets);
        CHECK_OK(step_load(b, dir, from));
        struct step_report got = steps_to(b, 12);
        CHECK(hash_equal(got.weights_hash, r[11].weights_hash));
        CHECK(got.gac_c_low == r[11].gac_c_low && got.gac_c_high == r[11].gac_c_high);
        CHECK_STR(got.gac_action, r[11].gac_action);
        step_close(&b);
    }
    step_close(&a);
    mem_free(dir);
}

TEST(ckpt_of_another_reference_is_refused) {
    static const char *const half[] = {"trainer.alignment.previous=bf16", NULL};
    char *dir = sub("c");
    save_versions(dir, 1);
    struct step *s = trainer_fixture_open(half);
    CHECK_ERR(step_load(s, dir, -1), ERR_MISMATCH, "trainer.alignment.previous");
    step_close(&s);
    mem_free(dir);
}

TEST(ckpt_is_a_hugging_face_folder) {
    char *dir = sub("c"), *one = sub("c/step-2");
    save_versions(dir, 2);
    struct recipe *r = trainer_fixture_recipe(NULL);
    struct step *a = trainer_fixture_open(aligned), *b = NULL;
    steps_to(a, 2);
    CHECK_OK(step_open(&b, r, one));
    CHECK(hash_equal(trainer_fixture_hash(a), trainer_fixture_hash(b)));
    recipe_close(&r);
    step_close(&a);
    step_close(&b);
    mem_free(dir);
    mem_free(one);
}

TEST(ckpt_keeps_the_newest) {
    char *dir = sub("c"), *rubbish = sub("c/.tmp-step-9"), *one = sub("c/step-1");
    struct step *s = trainer_fixture_open(aligned);
    CHECK_ERR(step_load(s, dir, -1), ERR_NOTFOUND, "holds no checkpoint");
    for (int64_t v = 1; v <= 4; v++) {
        steps_to(s, v);
        CHECK_OK(file_mkdirs(rubbish)); /* of a crash */
        CHECK_OK(step_save(s, dir, 2));
        CHECK(!file_exists(rubbish));
    }
    CHECK_OK(step_save(s, dir, 2)); /* the same one again */
    CHECK(!file_exists(one));
    CHECK_INT(loaded_version(dir), 4);
    CHECK_OK(step_load(s, dir, 3));
    CHECK_INT(step_version(s), 3);
    CHECK_ERR(step_load(s, dir, 1), ERR_NOTFOUND, "step-1");
    CHECK_INT(step_version(s), 3);
    step_close(&s);
    mem_free(dir);
    mem_free(rubbish);
    mem_free(one);
}

static void damage(const char *path, const char *name, int how) {
    char *text, *full = file_join(path, name);
    size_t n;
    CHECK_OK(file_read(&text, &n, full, 1 << 24));
    if (how == 0) {
        text[n / 2] ^= 1;
        CHECK_OK(file_write_atomic(full, text, n));
    } else if (how == 1) {
        CHECK_OK(file_write_atomic(full, text, n - 1));
    } else {
        CHECK(unlink(full) == 0);
    }
    mem_free(text);
    mem_free(full);
}

/* A flipped bit, a cut and a missing file, for each file of the newest checkpoint: the one before
 * is used. */
TEST(ckpt_damage_falls_back) {
    char *dir = sub("c"), *newest = sub("c/step-2");
    char names[32][256];
    int n = 0;
    save_versions(dir, 1);
    struct step *s = trainer_fixture_open(aligned), *reader = trainer_fixture_open(aligned);
    steps_to(s, 2);
    CHECK_OK(step_save(s, dir, 9));
    DIR *d = opendir(newest);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') snprintf(names[n++], sizeof names[0], "%s", e->d_name);
    closedir(d);
    CHECK(n >= 7);
    for (int i = 0; i < n; i++)
        for (int how = 0; how < 3; how++) {
            CHECK_OK(step_save(s, dir, 9));
            damage(newest, names[i], how);
            CHECK_OK(step_load(reader, dir, -1));
            CHECK_INT(step_version(reader), 1);
            int rc = step_load(reader, dir, 2);
            CHECK(rc == ERR_CORRUPT || rc == ERR_NOTFOUND);
        }
    step_close(&s);
    step_close(&reader);
    mem_free(dir);
    mem_free(newest);
}

TEST(ckpt_none_whole_is_an_error) {
    char *dir = sub("c"), *one = sub("c/step-1");
    save_versions(dir, 1);
    damage(one, "adam_v.bin", 0);
    struct step *s = trainer_fixture_open(aligned);
    struct hash before = trainer_fixture_hash(s);
    CHECK_ERR(step_load(s, dir, -1), ERR_CORRUPT, "none of the 1 checkpoints");
    CHECK(hash_equal(before, trainer_fixture_hash(s)));
    CHECK_INT(step_version(s), 0);
    step_close(&s);
    mem_free(dir);
    mem_free(one);
}

static void limit_file_size(rlim_t bytes) {
    struct rlimit l = {bytes, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &l) == 0);
}

static const rlim_t stages[] = {0, 40, 300, 600, 1500, 8000, 11000, 11900};

/* A process that dies in the middle of a file, at each stage of a save. */
TEST(ckpt_killed_while_saving) {
    char *dir = sub("c");
    save_versions(dir, 1);
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            struct step *s = trainer_fixture_open(aligned);
            steps_to(s, 2);
            limit_file_size(stages[i]); /* SIGXFSZ */
            _exit(step_save(s, dir, 9) == 0 ? 0 : 1);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
        CHECK_INT(loaded_version(dir), 1);
    }
    struct step *s = trainer_fixture_open(aligned);
    steps_to(s, 2);
    CHECK_OK(step_save(s, dir, 9)); /* over what was left */
    CHECK_INT(loaded_version(dir), 2);
    step_close(&s);
    mem_free(dir);
}

TEST(ckpt_full_disk_is_an_error_and_keeps_the_old) {
    char *dir = sub("c");
    save_versions(dir, 1);
    struct step *s = trainer_fixture_open(aligned);
    steps_to(s, 2);
    signal(SIGXFSZ, SIG_IGN); /* then write(2) fails, as on a full disk */
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        limit_file_size(stages[i]);
        int rc = step_save(s, dir, 1);
        limit_file_size(RLIM_INFINITY);
        CHECK_INT(rc, ERR_IO);
        CHECK(strstr(err_text(), "checkpoint of version 2 not written: cannot write"));
        CHECK_INT(loaded_version(dir), 1);
        DIR *d = opendir(dir);
        for (struct dirent *e; (e = readdir(d));)
            CHECK(strncmp(e->d_name, ".tmp", 4) != 0);
        closedir(d);
    }
    CHECK_OK(step_save(s, dir, 1));
    CHECK_INT(loaded_version(dir), 2);
    step_close(&s);
    mem_free(dir);
}

TEST(ckpt_of_another_model_is_refused) {
    char *dir = sub("c"), *one = sub("c/step-1");
    save_versions(dir, 1);
    struct recipe *r = trainer_fixture_recipe(NULL);
    struct step *s = NULL;
    char *config, *path = file_join(one, "config.json"), *other = sub("m");
    size_t n;
    CHECK_OK(file_read(&config, &n, path, 1 << 20));
    char *layers = strstr(config, "\"num_hidden_layers\"");
    CHECK(layers);
    char *two = strchr(layers, '2');
    CHECK(two);
    *two = '1';
    CHECK_OK(file_mkdirs(other));
    char *copy = file_join(other, "config.json");
    CHECK_OK(file_write_atomic(copy, config, n));
    r->model.weights = RECIPE_WEIGHTS_RANDOM;
    CHECK_OK(step_open(&s, r, other));
    CHECK(step_load(s, dir, -1) < 0);
    CHECK_INT(step_version(s), 0);
    recipe_close(&r);
    step_close(&s);
    mem_free(dir);
    mem_free(one);
    mem_free(config);
    mem_free(path);
    mem_free(other);
    mem_free(copy);
}
