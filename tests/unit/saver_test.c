/* saver_test.c - checkpoints written beside the training: they hold what was copied, whatever the
 * steps since have done; a failure is told and leaves the one before; so does a death. */
#include "trainer/checkpoint/saver.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"
#include "tests/unit/trainer_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const aligned[] = {"trainer.alignment.mode=on", "trainer.alignment.c_high=0.9",
                                      "trainer.alignment.previous=bf16", NULL};

static struct hash steps_to(struct step *s, int64_t to) {
    struct step_report r = {0};
    while (step_version(s) < to) {
        struct batch *b = trainer_fixture_batch(40 + (uint64_t)step_version(s), 3, step_version(s));
        CHECK_OK(step_run(s, b, &r));
        batch_close(&b);
    }
    return r.weights_hash;
}

static void begin(struct saver *v, struct step *s) {
    struct ckpt c;
    CHECK_OK(step_checkpoint(s, &c));
    CHECK_OK(saver_begin(v, &c));
}

static int64_t wait_saved(struct saver *v) {
    int64_t saved = -1;
    CHECK_OK(saver_wait(v, &saved));
    return saved;
}

TEST(saver_writes_what_was_copied) {
    char *dir = file_join(test_dir(), "c");
    struct step *a = trainer_fixture_open(aligned), *b = trainer_fixture_open(aligned);
    struct saver *v = NULL;
    int64_t saved = -1;
    CHECK_OK(saver_open(&v, dir, 2));
    CHECK_OK(saver_turn(v, &saved));
    CHECK_INT(saved, -1); /* nothing was begun */
    steps_to(a, 2);
    begin(v, a);
    struct hash after = steps_to(a, 5); /* over all that was copied */
    CHECK_INT(wait_saved(v), 2);
    CHECK_INT(wait_saved(v), -1); /* told once */
    CHECK_OK(step_load(b, dir, -1));
    CHECK_INT(step_version(b), 2);
    CHECK(hash_equal(steps_to(b, 5), after));
    begin(v, a);
    while (saved < 0) { /* told by turn as well */
        CHECK_OK(saver_turn(v, &saved));
        clock_sleep_us(1000);
    }
    CHECK_INT(saved, 5);
    steps_to(a, 6);
    begin(v, a);
    saver_close(&v); /* finishes it, and the older one goes */
    CHECK_OK(step_load(b, dir, -1));
    CHECK_INT(step_version(b), 6);
    CHECK_ERR(step_load(b, dir, 2), ERR_NOTFOUND, "step-2");
    step_close(&a);
    step_close(&b);
    mem_free(dir);
}

TEST(saver_full_disk_is_told_and_keeps_the_old) {
    char *dir = file_join(test_dir(), "c");
    struct rlimit full = {1500, RLIM_INFINITY}, room = {RLIM_INFINITY, RLIM_INFINITY};
    struct step *s = trainer_fixture_open(aligned);
    struct saver *v = NULL;
    int64_t saved = -1;
    CHECK_OK(saver_open(&v, dir, 1));
    steps_to(s, 1);
    begin(v, s);
    CHECK_INT(wait_saved(v), 1);
    steps_to(s, 2);
    CHECK(setrlimit(RLIMIT_FSIZE, &full) == 0);
    begin(v, s);
    CHECK_ERR(saver_wait(v, &saved), ERR_IO, "checkpoint of version 2 not written: cannot write");
    CHECK(setrlimit(RLIMIT_FSIZE, &room) == 0);
    CHECK_INT(saved, -1);
    CHECK_OK(step_load(s, dir, -1));
    CHECK_INT(step_version(s), 1);
    begin(v, s); /* with room again it goes on */
    CHECK_INT(wait_saved(v), 1);
    saver_close(&v);
    step_close(&s);
    mem_free(dir);
}

/* A process that is killed at some moment of a save: the one before, or this one, never a torn one.
 */
TEST(saver_killed_while_writing) {
    char *dir = file_join(test_dir(), "c");
    struct step *s = trainer_fixture_open(aligned);
    steps_to(s, 1);
    CHECK_OK(step_save(s, dir, 9));
    for (uint64_t i = 0; i < 8; i++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            struct step *mine = trainer_fixture_open(aligned);
            struct saver *v = NULL;
            steps_to(mine, 2);
            CHECK_OK(saver_open(&v, dir, 9));
            begin(v, mine);
            clock_sleep_us(i * 300);
            raise(SIGKILL);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK_OK(step_load(s, dir, -1));
        CHECK(step_version(s) == 1 || step_version(s) == 2);
    }
    step_close(&s);
    mem_free(dir);
}
