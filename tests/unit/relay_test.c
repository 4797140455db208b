#include "relay/relay.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/net.h"
#include "base/rng.h"
#include "relay/pull.h"
#include "relay/push.h"
#include "relay/sealed.h"
#include "relay/store.h"
#include "tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 100000, BYTES = N * 8 };

static void fill(void *area, int64_t version) {
    uint64_t *x = area;
    for (uint64_t i = 0; i < N; i++)
        x[i] = (uint64_t)version * 1000003 + i;
}

static void check_content(const struct pull_version *v) {
    const uint64_t *x = v->data;
    CHECK_INT(v->bytes, BYTES);
    for (uint64_t i = 0; i < N; i++)
        CHECK_INT(x[i], (uint64_t)v->version * 1000003 + i);
}

static int open_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    CHECK(d != NULL);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static struct hash hash_of(const void *area) {
    return hash_slab(NULL, area, BYTES, 0);
}

/* A version in this process; *s is the caller's. */
static struct hash make(struct sealed *s, int64_t version) {
    CHECK_OK(sealed_create(s, BYTES));
    fill(sealed_area(s), version);
    struct hash h = hash_of(sealed_area(s));
    CHECK_OK(sealed_finish(s, version, h));
    return h;
}

TEST(store_takes_only_what_is_as_announced) {
    struct store *s = store_open();
    struct sealed at, torn;
    int before = open_fds();
    struct hash h = make(&at, 1), wrong = {h.hi, h.lo + 1};
    int fd = at.fd;
    CHECK_ERR(store_offer(s, 1, wrong, BYTES, getpid(), fd), ERR_NOTFOUND, "does not hold");
    CHECK_ERR(store_offer(s, 2, h, BYTES, getpid(), fd), ERR_NOTFOUND, "does not hold");
    CHECK_ERR(store_offer(s, 1, h, BYTES - 8, getpid(), fd), ERR_CORRUPT, "bytes, wanted");
    CHECK_ERR(store_offer(s, 1, h, BYTES, getpid(), fd + 50), ERR_NOTFOUND, "cannot open");
    CHECK_ERR(store_offer(s, 1, h, BYTES, 0x3ffffff, fd), ERR_NOTFOUND, "cannot open");
    int null = open("/dev/null", O_RDONLY);
    CHECK_ERR(store_offer(s, 1, h, BYTES, getpid(), null), ERR_CORRUPT, "not sealed");
    CHECK_OK(sealed_create(&torn, BYTES)); /* a writer in the middle of its work */
    fill(sealed_area(&torn), 1);
    CHECK_ERR(store_offer(s, 1, h, BYTES, getpid(), torn.fd), ERR_NOTFOUND, "being filled");
    CHECK_OK(sealed_finish(&torn, 1, wrong)); /* its bytes are not what it says */
    CHECK_ERR(store_offer(s, 1, wrong, BYTES, getpid(), torn.fd), ERR_CORRUPT, "hash differs");
    CHECK(store_find(s, -1) == NULL);
    CHECK_OK(store_offer(s, 1, h, BYTES, getpid(), fd));
    CHECK_OK(store_offer(s, 1, h, BYTES, getpid(), fd + 50)); /* already held: not opened */
    CHECK_ERR(store_offer(s, 1, wrong, BYTES, getpid(), fd), ERR_MISMATCH, "held with hash");
    CHECK_INT(store_find(s, -1)->version, 1);
    sealed_close(&at);
    sealed_close(&torn);
    close(null);
    store_close(&s);
    CHECK_INT(open_fds(), before);
}

/* One writer, many readers: the file is written again only when the last of them has let go. */
TEST(sealed_file_is_used_again_when_nobody_reads_it) {
    struct sealed w, a, b;
    struct hash h = make(&w, 7), h2;
    CHECK_OK(sealed_open(&a, getpid(), w.fd, 7, BYTES, h));
    CHECK_OK(sealed_open(&b, getpid(), w.fd, 7, BYTES, h));
    CHECK(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, w.fd, 0) == MAP_FAILED);
    CHECK(pwrite(w.fd, "x", 1, 0) < 0 && ftruncate(w.fd, 1) < 0);
    CHECK(!sealed_reuse(&w));
    sealed_close(&a);
    CHECK(!sealed_reuse(&w));
    CHECK_OK(sealed_verify(&b, h));
    sealed_close(&b);
    CHECK(sealed_reuse(&w));
    CHECK_ERR(sealed_open(&a, getpid(), w.fd, 7, BYTES, h), ERR_NOTFOUND, "being filled");
    fill(sealed_area(&w), 8);
    h2 = hash_of(sealed_area(&w));
    CHECK_OK(sealed_finish(&w, 8, h2));
    CHECK_ERR(sealed_open(&a, getpid(), w.fd, 7, BYTES, h), ERR_NOTFOUND, "does not hold");
    CHECK_OK(sealed_open(&a, getpid(), w.fd, 8, BYTES, h2));
    CHECK_OK(sealed_verify(&a, h2));
    sealed_close(&a);
    sealed_close(&w);
}

/* The kernel drops the lock of a reader that dies, and of a writer. */
TEST(sealed_file_of_a_dead_reader_or_writer_is_free) {
    struct sealed w, r;
    struct hash h = make(&w, 7);
    int fds[2];
    char x;
    CHECK(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_OK(sealed_open(&r, getppid(), w.fd, 7, BYTES, h));
        CHECK(write(fds[1], "x", 1) == 1);
        pause();
    }
    CHECK(read(fds[0], &x, 1) == 1);
    CHECK(!sealed_reuse(&w));
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    CHECK(sealed_reuse(&w)); /* ... and here the writer dies: */
    char *path = mem_printf("/proc/self/fd/%d", w.fd);
    int other = open(path, O_RDONLY | O_CLOEXEC);
    mem_free(path);
    sealed_close(&w);
    CHECK_ERR(sealed_open(&r, getpid(), other, 7, BYTES, h), ERR_NOTFOUND, "does not hold");
    close(other);
    close(fds[0]);
    close(fds[1]);
}

static void offer_next(struct store *s, int64_t version) {
    struct sealed at;
    struct hash h = make(&at, version);
    CHECK_OK(store_offer(s, version, h, BYTES, getpid(), at.fd));
    store_tidy(s);
    sealed_close(&at);
}

TEST(store_keeps_the_newest_two_and_what_readers_hold) {
    struct store *s = store_open();
    uint64_t now = 1000;
    for (int64_t v = 0; v < 5; v++) {
        offer_next(s, v);
        if (v == 1) store_reader(s, "slow", 1, now);
    }
    CHECK_INT(store_count(s), 3); /* 1, 3, 4 */
    CHECK(store_find(s, 1) != NULL && store_find(s, 2) == NULL && store_find(s, 0) == NULL);
    CHECK_INT(store_find(s, -1)->version, 4);
    offer_next(s, 2); /* a trainer that came back repeats old versions: not needed any more */
    CHECK(store_find(s, 2) == NULL);
    CHECK_INT(store_find(s, -1)->version, 4);
    store_reader(s, "other", 4, now + STORE_READER_US + 1); /* "slow" is dead by now */
    CHECK(store_find(s, 1) == NULL);
    CHECK_INT(store_count(s), 2);
    for (int64_t v = 5; v < 30; v++) { /* many readers, each holding another version */
        char name[16];
        snprintf(name, sizeof name, "r%d", (int)v);
        offer_next(s, v);
        store_reader(s, name, v, now + STORE_READER_US + 2);
    }
    CHECK_INT(store_count(s), STORE_MAX);
    CHECK_INT(store_find(s, -1)->version, 29);
    store_close(&s);
}

static pid_t start_relay(void) {
    pid_t pid = fork();
    if (pid == 0) exit(err_exit_code(relay_service(test_dir())));
    return pid;
}

static void kill_relay(pid_t pid, int signal) {
    int status;
    kill(pid, signal);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (signal == SIGTERM) CHECK_INT(WEXITSTATUS(status), err_exit_code(ERR_STOPPED));
}

struct side { /* this process: a trainer's and a reader's side */
    struct net *net;
    struct push *push;
    struct pull *pull;
};

static struct side side_open(const char *reader) {
    struct side s;
    char *e;
    CHECK_OK(net_open(&s.net));
    CHECK_OK(net_endpoint(&e, s.net, test_dir(), "relay"));
    CHECK_OK(push_open(&s.push, s.net, e, "trainer"));
    CHECK_OK(pull_open(&s.pull, s.net, e, reader));
    mem_free(e);
    return s;
}

static void side_close(struct side *s) {
    push_close(&s->push);
    pull_close(&s->pull);
    net_close(&s->net);
}

static void turn(struct side *s) {
    bool stop = false;
    CHECK_OK(net_wait(s->net, 5000, NULL, 0, &stop));
    CHECK_OK(push_tick(s->push, clock_us()));
    CHECK_OK(pull_tick(s->pull, clock_us()));
}

static void publish(struct side *s, int64_t version) {
    void *area;
    CHECK_OK(push_begin(s->push, BYTES, &area));
    fill(area, version);
    CHECK_OK(push_publish(s->push, version, hash_of(area)));
}

static void until_newest(struct side *s, int64_t version) {
    for (int i = 0; i < 4000 && pull_newest(s->pull) != version; i++)
        turn(s);
    CHECK_INT(pull_newest(s->pull), version);
}

/* Maps a version (or learns that it is not there), asking until there is an answer. */
static int map_soon(struct side *s, int64_t version, struct pull_version *v) {
    for (int i = 0; i < 4000; i++) {
        int rc = pull_map(s->pull, version, BYTES, v);
        if (rc != ERR_AGAIN) return rc;
        turn(s);
    }
    test_fail(__FILE__, __LINE__, "the relay did not answer");
}

TEST(published_versions_are_read_whole_and_read_only) {
    pid_t relay = start_relay();
    struct side s = side_open("rollout-1");
    struct pull_version v, old;
    CHECK_ERR(map_soon(&s, -1, &v), ERR_NOTFOUND, "no version was published yet");
    publish(&s, 0);
    until_newest(&s, 0);
    CHECK_OK(map_soon(&s, -1, &old));
    check_content(&old);
    CHECK(mprotect((void *)(uintptr_t)old.data, BYTES, PROT_READ | PROT_WRITE) != 0);
    CHECK_ERR(map_soon(&s, 0, &v) == 0 ? pull_map(s.pull, 0, BYTES + 1, &old) : 0, ERR_MISMATCH,
              "this model has");
    pull_release(s.pull, &v);
    publish(&s, 1);
    publish(&s, 2);
    until_newest(&s, 2);
    CHECK_OK(map_soon(&s, 1, &v)); /* exactly this one */
    CHECK_INT(v.version, 1);
    check_content(&v);
    check_content(&old);
    pull_release(s.pull, &v);
    pull_release(s.pull, &old);
    CHECK_ERR(map_soon(&s, 77, &v), ERR_NOTFOUND, "version 77 is not kept");
    CHECK_INT(push_taken(s.push), 2);
    side_close(&s);
    kill_relay(relay, SIGTERM);
}

TEST(slow_reader_keeps_its_version_while_others_are_published) {
    pid_t relay = start_relay();
    struct side s = side_open("rollout-1");
    struct pull_version v, again;
    publish(&s, 0);
    until_newest(&s, 0);
    CHECK_OK(map_soon(&s, -1, &v));
    CHECK(map_soon(&s, 77, &again) == ERR_NOTFOUND); /* answered: the relay knows what is held */
    for (int64_t i = 1; i < 10; i++) {
        publish(&s, i);
        until_newest(&s, i);
    }
    check_content(&v);
    CHECK_OK(map_soon(&s, 0, &again)); /* and the relay still has it */
    check_content(&again);
    CHECK(map_soon(&s, 5, &again) == ERR_NOTFOUND);
    pull_release(s.pull, &again);
    pull_release(s.pull, &v);
    side_close(&s);
    kill_relay(relay, SIGTERM);
}

TEST(relay_killed_at_every_stage) {
    struct side s = side_open("rollout-1");
    struct pull_version v, old;
    publish(&s, 0); /* before there is a relay */
    for (int i = 0; i < 20; i++)
        turn(&s);
    pid_t relay = start_relay();
    until_newest(&s, 0);
    CHECK_OK(map_soon(&s, -1, &old));
    kill_relay(relay, SIGKILL); /* while its version is mapped */
    check_content(&old);
    CHECK(pull_map(s.pull, -1, BYTES, &v) == ERR_AGAIN); /* its place is gone */
    publish(&s, 1);                                      /* while there is none */
    relay = start_relay();
    until_newest(&s, 1);
    CHECK_OK(map_soon(&s, 1, &v));
    check_content(&v);
    pull_release(s.pull, &v);
    CHECK_OK(map_soon(&s, 0, &v)); /* the one before was offered again too */
    check_content(&v);
    pull_release(s.pull, &v);
    for (int64_t i = 2; i < 8; i++) { /* at any moment after an offer */
        publish(&s, i);
        for (int64_t k = 0; k < i % 4; k++)
            turn(&s);
        kill_relay(relay, SIGKILL);
        relay = start_relay();
    }
    until_newest(&s, 7);
    CHECK_OK(map_soon(&s, -1, &v));
    check_content(&v);
    check_content(&old);
    pull_release(s.pull, &v);
    pull_release(s.pull, &old);
    side_close(&s);
    kill_relay(relay, SIGTERM);
}

/* A trainer process that publishes `last - first + 1` versions, then fills half of the next one. */
static pid_t start_trainer(int64_t first, int64_t last, int fd) {
    pid_t pid = fork();
    if (pid != 0) return pid;
    struct side s = side_open("rollout-2");
    void *area;
    for (int64_t v = first; v <= last; v++) {
        publish(&s, v);
        while (push_taken(s.push) < v)
            turn(&s);
    }
    CHECK_OK(push_begin(s.push, BYTES, &area));
    memset(area, 7, BYTES / 2);
    CHECK(write(fd, "x", 1) == 1);
    for (;;)
        turn(&s);
}

TEST(trainer_killed_while_it_fills_the_next_version) {
    int fds[2];
    char x;
    CHECK(pipe(fds) == 0);
    pid_t relay = start_relay();
    pid_t trainer = start_trainer(0, 1, fds[1]);
    CHECK(read(fds[0], &x, 1) == 1);
    struct side s = side_open("rollout-1"); /* only reads */
    struct pull_version v;
    until_newest(&s, 1);
    kill_relay(trainer, SIGKILL);
    for (int i = 0; i < 20; i++)
        turn(&s);
    CHECK_INT(pull_newest(s.pull), 1); /* nothing of the torn one */
    CHECK_OK(map_soon(&s, 0, &v));
    check_content(&v);
    pull_release(s.pull, &v);
    trainer = start_trainer(0, 3, fds[1]); /* comes back at an older version, same content */
    CHECK(read(fds[0], &x, 1) == 1);
    until_newest(&s, 3);
    kill_relay(trainer, SIGKILL);
    CHECK_OK(map_soon(&s, -1, &v));
    check_content(&v);
    pull_release(s.pull, &v);
    side_close(&s);
    kill_relay(relay, SIGTERM);
    close(fds[0]);
    close(fds[1]);
}

/* The same version with another content is refused, and the trainer hears it. */
TEST(a_version_has_one_content) {
    pid_t relay = start_relay();
    struct side s = side_open("rollout-1");
    void *area;
    int rc = 0;
    publish(&s, 4);
    until_newest(&s, 4);
    push_close(&s.push);
    side_close(&s);
    s = side_open("rollout-1");
    CHECK_OK(push_begin(s.push, BYTES, &area));
    fill(area, 5);
    CHECK_OK(push_publish(s.push, 4, hash_of(area)));
    for (int i = 0; i < 4000 && rc == 0; i++) {
        bool stop = false;
        CHECK_OK(net_wait(s.net, 5000, NULL, 0, &stop));
        rc = push_tick(s.push, clock_us());
    }
    CHECK_ERR(rc, ERR_MISMATCH, "version 4 is held with hash");
    side_close(&s);
    kill_relay(relay, SIGTERM);
}

/* Whatever dies whenever: a reader that maps sees the right bytes, and the newest gets through. */
TEST(random_kills) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    struct side s = side_open("rollout-1");
    pid_t relay = start_relay();
    for (int64_t i = 0; i < 40; i++) {
        struct pull_version v;
        publish(&s, i);
        uint64_t turns = rng_below(key, (uint64_t)i, 0, 6);
        for (uint64_t t = 0; t < turns; t++)
            turn(&s);
        if (pull_newest(s.pull) >= 0 && pull_map(s.pull, -1, BYTES, &v) == 0) {
            if (rng_below(key, (uint64_t)i, 1, 2)) {
                kill_relay(relay, SIGKILL);
                relay = start_relay();
            }
            check_content(&v);
            pull_release(s.pull, &v);
        }
    }
    until_newest(&s, 39);
    side_close(&s);
    kill_relay(relay, SIGTERM);
}

/* A peer that sends what is no message, again and again, does not fill the log, and others are
 * served meanwhile. */
TEST(junk_does_not_flood_the_log) {
    char *path = file_join(test_dir(), "stderr"), *endpoint = NULL, *text = NULL;
    size_t bytes = 0, lines = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), keep = dup(2);
    CHECK(fd >= 0 && keep >= 0 && dup2(fd, 2) == 2);
    pid_t relay = start_relay();
    CHECK(dup2(keep, 2) == 2);
    struct side s = side_open("rollout-1");
    struct net_sock *peer = NULL;
    struct net_part junk = {"junk", 4};
    CHECK_OK(net_endpoint(&endpoint, s.net, test_dir(), "relay"));
    CHECK_OK(net_connect(&peer, s.net, endpoint, "evil", 1 << 16));
    for (int i = 0; i < 3000;) {
        int rc = net_send(peer, NULL, &junk, 1);
        if (rc == ERR_AGAIN)
            turn(&s);
        else
            CHECK_OK(rc);
        i += rc == 0;
    }
    publish(&s, 0);
    until_newest(&s, 0);
    side_close(&s);
    kill_relay(relay, SIGTERM);
    CHECK_OK(file_read(&text, &bytes, path, 1 << 24));
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    CHECK(strstr(text, "dropped a message") != NULL);
    CHECK(lines < 30);
    mem_free(text);
    mem_free(endpoint);
    mem_free(path);
    close(fd);
    close(keep);
}
