#include "base/kv.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/kv_memory.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/shared.h"
#include "tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct kv *open_in(const char *name) {
    struct kv *k;
    char *dir = file_join(test_dir(), name);
    CHECK_OK(kv_open(&k, dir, true));
    mem_free(dir);
    return k;
}

static void put(struct kv *k, const char *key, const char *value, bool sync) {
    struct kv_batch *b = kv_batch_open();
    kv_batch_put(b, key, strlen(key), value, strlen(value));
    CHECK_OK(kv_write(k, b, sync));
    CHECK_INT(kv_batch_count(b), 0);
    kv_batch_close(&b);
}

static void check_get(struct kv *k, const char *key, const char *want) {
    char *value;
    size_t bytes;
    CHECK_OK(kv_get(k, key, strlen(key), &value, &bytes));
    CHECK_INT(bytes, strlen(want));
    CHECK_STR(value, want);
    mem_free(value);
}

TEST(batches_and_gets) {
    struct kv *k = open_in("db");
    struct kv_batch *b = kv_batch_open();
    char *value;
    size_t bytes;
    CHECK_ERR(kv_get(k, "a", 1, &value, &bytes), ERR_NOTFOUND, "db");
    kv_batch_put(b, "a", 1, "1", 1);
    kv_batch_put(b, "empty", 5, NULL, 0);
    kv_batch_put(b, "b", 1, "2", 1);
    kv_batch_delete(b, "b", 1);
    CHECK_INT(kv_batch_count(b), 4);
    CHECK_OK(kv_write(k, b, true));
    kv_batch_close(&b);
    check_get(k, "a", "1");
    check_get(k, "empty", "");
    CHECK_INT(kv_get(k, "b", 1, &value, &bytes), ERR_NOTFOUND);
    kv_close(&k);
    k = open_in("db");
    check_get(k, "a", "1");
    kv_close(&k);
}

static void check_iter(struct kv *k, const char *prefix, const char *from, const char *want) {
    struct kv_iter *it;
    const char *key, *value;
    size_t n_key, bytes, at = 0;
    char got[64] = "";
    int rc;
    CHECK_OK(kv_iter_open(&it, k, prefix, strlen(prefix), from, from ? strlen(from) : 0));
    while ((rc = kv_iter_next(it, &key, &n_key, &value, &bytes)) == 1)
        at += (size_t)snprintf(got + at, sizeof got - at, "%.*s=%.*s ", (int)n_key, key, (int)bytes,
                               value);
    CHECK_OK(rc);
    CHECK_STR(got, want);
    CHECK_OK(kv_iter_next(it, &key, &n_key, &value, &bytes)); /* the end stays the end */
    kv_iter_close(&it);
}

TEST(iterators_keep_to_their_prefix) {
    struct kv *k = open_in("db");
    put(k, "a", "0", false);
    put(k, "b2", "2", false);
    put(k, "b1", "1", false);
    put(k, "b\xff\xff", "3", false);
    put(k, "c", "4", false);
    put(k, "\xff\xff", "5", false);
    check_iter(k, "b", NULL, "b1=1 b2=2 b\xff\xff=3 ");
    check_iter(k, "b", "b2", "b2=2 b\xff\xff=3 ");
    check_iter(k, "b\xff", NULL, "b\xff\xff=3 ");
    check_iter(k, "d", NULL, "");
    check_iter(k, "\xff", NULL, "\xff\xff=5 ");
    check_iter(k, "", "c", "c=4 \xff\xff=5 ");
    kv_close(&k);
}

TEST(missing_locked_and_misplaced) {
    struct kv *k, *other;
    char *dir = file_join(test_dir(), "none");
    CHECK_ERR(kv_open(&k, dir, false), ERR_NOTFOUND, "none");
    CHECK_ERR(kv_open_readonly(&k, dir), ERR_NOTFOUND, "none");
    CHECK(!file_exists(dir));
    CHECK_OK(kv_open(&k, dir, true));
    CHECK_ERR(kv_open(&other, dir, true), ERR_IO, "another process has it open");
    kv_close(&k);
    mem_free(dir);
    CHECK_OK(file_write_atomic(dir = file_join(test_dir(), "file"), "x", 1));
    CHECK(kv_open(&k, dir, true) < 0);
    mem_free(dir);
}

/* The writer before is told to end and needs a moment: the next one waits for it. */
TEST(waits_for_the_writer_before) {
    int fds[2];
    char byte = 0;
    CHECK(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct kv *k = open_in("held");
        CHECK(write(fds[1], &byte, 1) == 1);
        clock_sleep_us(300 * 1000);
        kv_close(&k);
        _exit(0);
    }
    CHECK(read(fds[0], &byte, 1) == 1);
    struct kv *k = open_in("held");
    kv_close(&k);
    CHECK(waitpid(pid, NULL, 0) == pid);
    close(fds[0]);
    close(fds[1]);
}

static int info_logs(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    CHECK(d != NULL);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        n += strncmp(e->d_name, "LOG", 3) == 0;
    closedir(d);
    return n;
}

TEST(reader_beside_a_live_writer) {
    struct kv *k = open_in("db"), *r;
    char *dir = file_join(test_dir(), "db"), *value, key[16];
    size_t bytes;
    char *big = mem_zalloc(1 << 20);
    struct kv_batch *b = kv_batch_open();
    put(k, "before", "1", false);
    CHECK_OK(kv_open_readonly(&r, dir));
    check_get(r, "before", "1");
    put(k, "after", "2", false);
    CHECK_INT(kv_get(r, "after", 5, &value, &bytes), ERR_NOTFOUND); /* a snapshot */
    kv_batch_put(b, "x", 1, "x", 1);
    CHECK(kv_write(r, b, false) < 0);
    /* Many memtables: files are flushed, compacted and deleted under the reader. */
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "big%03d", i % 10);
        kv_batch_put(b, key, strlen(key), big, 1 << 20);
        CHECK_OK(kv_write(k, b, false));
        if (i % 20 == 0) {
            struct kv *again;
            CHECK_OK(kv_open_readonly(&again, dir));
            check_get(again, "after", "2");
            kv_close(&again);
        }
    }
    check_get(r, "before", "1");
    CHECK_INT(info_logs(dir), 1); /* readers leave no log of their own */
    kv_batch_close(&b);
    mem_free(big);
    kv_close(&r);
    kv_close(&k);
    mem_free(dir);
}

/* Writes numbered batches of two keys, reports each stored number on the pipe, until killed. */
static void write_until_killed(int fd) {
    struct kv *k = open_in("db");
    struct kv_batch *b = kv_batch_open();
    char value[3000], *old;
    uint32_t i = 0;
    size_t bytes;
    memset(value, 'v', sizeof value);
    if (kv_get(k, "n", 1, &old, &bytes) == 0) {
        memcpy(&i, old, sizeof i);
        i++;
        mem_free(old);
    }
    for (;; i++) {
        char key[16];
        int n = snprintf(key, sizeof key, "k%08u", i);
        kv_batch_put(b, key, (size_t)n, value, sizeof value);
        kv_batch_put(b, "n", 1, &i, sizeof i);
        CHECK_OK(kv_write(k, b, i % 8 == 0));
        if (write(fd, &i, sizeof i) != (ssize_t)sizeof i) _exit(1);
    }
}

/* Everything acknowledged is there, batches are whole, and there is no gap. */
static void check_after_kill(uint32_t last) {
    struct kv *k = open_in("db");
    struct kv_iter *it;
    char *stored;
    const char *key, *value;
    size_t n_key, bytes;
    uint32_t n, count = 0;
    int rc;
    CHECK_OK(kv_get(k, "n", 1, &stored, &bytes));
    CHECK_INT(bytes, sizeof n);
    memcpy(&n, stored, sizeof n);
    mem_free(stored);
    CHECK(n >= last);
    CHECK_OK(kv_iter_open(&it, k, "k", 1, NULL, 0));
    while ((rc = kv_iter_next(it, &key, &n_key, &value, &bytes)) == 1) {
        CHECK_INT(bytes, 3000);
        count++;
    }
    CHECK_OK(rc);
    CHECK_INT(count, n + 1);
    kv_iter_close(&it);
    kv_close(&k);
}

TEST(reopens_after_kill_in_the_middle_of_writes) {
    for (uint64_t round = 0; round < 5; round++) {
        int fds[2];
        CHECK(pipe(fds) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(fds[0]);
            write_until_killed(fds[1]);
        }
        close(fds[1]);
        uint32_t last = 0, got;
        uint64_t want = 50 + rng_below(rng_key(test_seed(), RNG_TEST), 0, round, 2000);
        for (uint64_t i = 0; i < want; i++)
            CHECK(read(fds[0], &last, sizeof last) == (ssize_t)sizeof last);
        kill(pid, SIGKILL);
        while (read(fds[0], &got, sizeof got) == (ssize_t)sizeof got)
            last = got;
        close(fds[0]);
        CHECK(waitpid(pid, NULL, 0) == pid);
        /* In a process of its own: the library's threads do not survive the next fork. */
        pid = fork();
        if (pid == 0) {
            check_after_kill(last);
            exit(0);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_INT(status, 0);
    }
}

/* Finds the write-ahead log file of the database. */
static char *wal_of(const char *dir) {
    char *found = NULL;
    DIR *d = opendir(dir);
    CHECK(d != NULL);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        size_t n = strlen(e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".log") == 0) {
            mem_free(found);
            found = file_join(dir, e->d_name);
        }
    }
    closedir(d);
    CHECK(found != NULL);
    return found;
}

TEST(damage_in_the_middle_of_the_log_is_refused) {
    pid_t pid = fork();
    if (pid == 0) {
        struct kv *k = open_in("db");
        for (int i = 0; i < 100; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", i);
            put(k, key, "some value that is long enough to be hit", true);
        }
        raise(SIGKILL);
    }
    CHECK(waitpid(pid, NULL, 0) == pid);
    char *dir = file_join(test_dir(), "db"), *wal = wal_of(dir);
    int fd = open(wal, O_RDWR);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, "\x5a\x5a", 2, 1000) == 2);
    close(fd);
    struct kv *k;
    CHECK_ERR(kv_open(&k, dir, false), ERR_CORRUPT, "db");
    mem_free(wal);
    mem_free(dir);
}

/* Writes until it fails; the error names the directory and the batch is kept. */
static void fill(const char *dir, int *written) {
    struct kv *k;
    CHECK_OK(kv_open(&k, dir, true));
    struct kv_batch *b = kv_batch_open();
    char *value = mem_zalloc(100000);
    int rc = 0;
    for (int i = 0; i < 1000 && rc == 0; i++) {
        char key[16];
        int n = snprintf(key, sizeof key, "%08d", i);
        kv_batch_put(b, key, (size_t)n, value, 100000);
        rc = kv_write(k, b, true);
        if (rc == 0) *written = i + 1;
    }
    CHECK_INT(rc, ERR_IO);
    if (!strstr(err_text(), dir)) test_fail(__FILE__, __LINE__, "%s lacks %s", err_text(), dir);
    CHECK_INT(kv_batch_count(b), 1);
    kv_batch_close(&b);
    mem_free(value);
    kv_close(&k);
}

/* With room again the database opens and has all that was acknowledged. */
static void check_filled(const char *db, int written) {
    struct kv *k;
    struct kv_iter *it;
    const char *key, *value;
    size_t n_key, bytes;
    int n = 0;
    CHECK_OK(kv_open(&k, db, false));
    CHECK_OK(kv_iter_open(&it, k, "", 0, NULL, 0));
    while (kv_iter_next(it, &key, &n_key, &value, &bytes) == 1)
        n++;
    CHECK(n >= written);
    kv_iter_close(&it);
    put(k, "more", "1", true);
    kv_close(&k);
}

static void fill_and_enlarge(const char *dir) {
    char *db = file_join(dir, "log");
    int written = 0;
    fill(db, &written);
    CHECK(strstr(err_text(), "No space left") != NULL);
    CHECK(written > 10);
    CHECK(mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=64m") == 0);
    check_filled(db, written);
    mem_free(db);
}

TEST(full_disk_is_a_clear_error) {
    test_on_small_disk("6m", fill_and_enlarge);
}

TEST(file_size_limit_is_a_clear_error) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {2 << 20, 2 << 20};
    int written = 0;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    char *dir = file_join(test_dir(), "log");
    fill(dir, &written);
    CHECK(written > 5);
    mem_free(dir);
}

/* All pairs with a prefix, from a key on, as text. */
static void dump(struct kv *k, const char *prefix, const char *from, struct buf *out) {
    struct kv_iter *it = NULL;
    const char *key, *value;
    size_t n_key, bytes;
    int rc;
    CHECK_OK(kv_iter_open(&it, k, prefix, strlen(prefix), from, from ? strlen(from) : 0));
    while ((rc = kv_iter_next(it, &key, &n_key, &value, &bytes)) > 0)
        buf_printf(out, "%.*s=%.*s;", (int)n_key, key, (int)bytes, value);
    CHECK_OK(rc);
    buf_str(out, "|");
    kv_iter_close(&it);
}

/* What is read of it, by key and by prefix; then the handles are closed. */
static void read_all(struct kv **k, struct buf *out) {
    static const char *const prefix[] = {"", "a", "ab", "b"}, *const from[] = {NULL, "ac", "abb"};
    char key[3] = "aa", *value;
    size_t bytes = 0;
    for (int i = 0; i < 4; i++)
        dump(*k, prefix[i], i < 3 ? from[i] : NULL, out);
    for (int i = 0; i < 9; i++) {
        key[0] = (char)('a' + i / 3);
        key[1] = (char)('a' + i % 3);
        int rc = kv_get(*k, key, 2, &value, &bytes);
        buf_printf(out, "%s:%s,", key, rc == 0 ? value : err_name(rc));
        if (rc == 0) mem_free(value);
    }
    kv_close(k);
}

TEST(kv_in_memory_is_as_on_disk) {
    struct kv_memory *memory = kv_memory_open();
    struct kv_batch *b = kv_batch_open();
    uint64_t key_of = rng_key(test_seed(), RNG_TEST), draws = 0;
    for (int round = 0; round < 8; round++) {
        struct kv *k[2] = {NULL, kv_open_memory(memory, "memory")};
        struct buf text[2] = {{0}, {0}};
        CHECK_OK(kv_open(&k[0], test_dir(), true));
        uint64_t first = draws;
        for (int which = 0; which < 2; which++) {
            draws = first; /* the same for both */
            for (int i = 0; i < 12; i++) {
                uint64_t x = rng_below(key_of, 1, draws++, 9 * 4);
                char key[3] = {(char)('a' + x % 9 / 3), (char)('a' + x % 3), 0};
                struct kv_part parts[2] = {{key, 1}, {"xyz", x / 9}};
                if (x / 9 == 3)
                    kv_batch_delete(b, key, 2);
                else
                    kv_batch_put_parts(b, key, 2, parts, 2);
            }
            CHECK_OK(kv_write(k[which], b, false));
            CHECK_INT(kv_batch_count(b), 0);
            read_all(&k[which], &text[which]);
        }
        CHECK_STR(text[0].data, text[1].data);
        buf_close(&text[0]);
        buf_close(&text[1]);
    }
    kv_batch_close(&b);
    kv_memory_close(&memory);
}
