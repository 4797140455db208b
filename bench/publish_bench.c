/* publish_bench.c - a version's way from the trainer's memory to two readers, against one memcpy.
 *
 * The relay is the real service; the readers are processes that do what a rollout's loop does until
 * it has the version mapped and verified, and tell when (one monotonic clock serves all processes).
 * Counted from before the memfd is made to the moment when the slower reader has it: copy, hash,
 * seal, offer, the relay's check, the readers' question (they ask every 10 ms) and their own check.
 * The swap stall is what a reader spends in pull_map, when it does nothing else. memcpy goes to
 * memory that is there already; to fresh pages, as a version needs them, it is shown beside. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/net.h"
#include "bench/child.h"
#include "relay/pull.h"
#include "relay/push.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READERS = 2, PAIRS_MAX = 16, WAIT_US = 1000 };

static const struct setting {
    const char *name;
    size_t bytes;
    int pairs;
} settings[] = {{"1 MB", 1 << 20, 15}, {"40 MB", 40 << 20, 9}, {"438 MB", (size_t)438 << 20, 5}};

struct said { /* by a reader through its pipe */
    int64_t version;
    uint64_t ready_us, stall_us;
};

struct side {
    struct net *net;
    char *endpoint;
};

static void side_open(struct side *s, const char *dir) {
    bench_must(net_open(&s->net), "net");
    bench_must(net_endpoint(&s->endpoint, s->net, dir, "relay"), "endpoint");
}

static void wait_turn(const struct side *s) {
    bool stop = false;
    bench_must(net_wait(s->net, WAIT_US, NULL, 0, &stop), "wait");
    if (stop) _exit(0);
}

static _Noreturn void read_versions(const char *dir, int number, size_t bytes, int out) {
    struct side s = {0};
    struct pull *p = NULL;
    struct pull_version held = {.version = -1}, v = {.version = -1};
    char name[32];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    side_open(&s, dir);
    snprintf(name, sizeof name, "reader-%d", number);
    bench_must(pull_open(&p, s.net, s.endpoint, name), "pull");
    for (;; wait_turn(&s)) {
        bench_must(pull_tick(p, clock_us()), "pull");
        if (pull_newest(p) <= held.version) continue;
        uint64_t start = clock_us();
        int rc = pull_map(p, -1, bytes, &v);
        if (rc == ERR_AGAIN || rc == ERR_NOTFOUND) continue;
        bench_must(rc, "map");
        struct said x = {v.version, clock_us(), clock_us() - start};
        pull_release(p, &held);
        held = v;
        if (write(out, &x, sizeof x) != sizeof x) _exit(74);
    }
}

struct rig {
    struct side side;
    struct push *push;
    int64_t version;
    size_t bytes;
    char *weights, *copy;
    int from[READERS];
    double stall_us;
};

static void publish_once(struct rig *r) {
    void *area = NULL;
    bench_must(push_begin(r->push, r->bytes, &area), "begin");
    r->weights[0]++;
    struct hash hash = hash_slab(area, r->weights, r->bytes, 0);
    bench_must(push_publish(r->push, ++r->version, hash), "publish");
}

/* Microseconds from the start of publishing to the slower reader; *offered_us: the trainer's part.
 */
static double usable_us(struct rig *r, double *offered_us) {
    uint64_t start = clock_us(), ready = start;
    publish_once(r);
    *offered_us = (double)(clock_us() - start);
    while (push_taken(r->push) < r->version) {
        bench_must(push_tick(r->push, clock_us()), "push");
        wait_turn(&r->side);
    }
    for (int i = 0; i < READERS; i++) {
        struct said x = {.version = -1};
        while (x.version < r->version)
            if (read(r->from[i], &x, sizeof x) != sizeof x)
                bench_must(FAIL(ERR_IO, "a reader ended"), "reader");
        if (x.ready_us > ready) ready = x.ready_us;
        if ((double)x.stall_us > r->stall_us) r->stall_us = (double)x.stall_us;
    }
    return (double)(ready - start);
}

static double memcpy_us(struct rig *r, bool fresh) {
    uint64_t start = clock_us();
    char *to = r->copy;
    if (fresh)
        to = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (to == MAP_FAILED) bench_must(FAIL(ERR_NOMEM, "no memory"), "memcpy");
    memcpy(to, r->weights, r->bytes);
    double us = (double)(clock_us() - start);
    if (to[r->bytes / 2] != r->weights[r->bytes / 2]) us = -1; /* keeps the copy in the program */
    if (fresh) munmap(to, r->bytes);
    return us;
}

static void measure(struct rig *r, const struct setting *k) {
    double own[PAIRS_MAX], copy[PAIRS_MAX], fresh[PAIRS_MAX], offered[PAIRS_MAX], stall[PAIRS_MAX];
    usable_us(r, &offered[0]);
    memcpy_us(r, false);
    for (int i = 0; i < k->pairs; i++) {
        r->stall_us = 0;
        own[i] = usable_us(r, &offered[i]);
        stall[i] = r->stall_us;
        copy[i] = memcpy_us(r, false);
        fresh[i] = memcpy_us(r, true);
    }
    struct bench_pair p = bench_summary(copy, own, k->pairs); /* times the memcpy, aim 1.2 */
    double stall_us = bench_median(stall, k->pairs);
    printf("{\"bench\": \"publish\", \"bytes\": %zu, \"readers\": %d, \"against\": \"memcpy\", "
           "\"times_memcpy\": %.2f, \"min\": %.2f, \"max\": %.2f, \"n\": %d, \"usable_ms\": %.2f, "
           "\"trainer_ms\": %.2f, \"memcpy_ms\": %.2f, \"memcpy_fresh_pages_ms\": %.2f, "
           "\"swap_stall_ms\": %.2f, \"swap_stall_max_ms\": %.2f}\n",
           r->bytes, READERS, p.ratio, p.ratio_min, p.ratio_max, p.n, p.b_us / 1e3,
           bench_median(offered, k->pairs) / 1e3, p.a_us / 1e3, bench_median(fresh, k->pairs) / 1e3,
           stall_us / 1e3, stall[k->pairs - 1] / 1e3);
    fflush(stdout);
}

static void run_setting(const struct setting *k, const char *dir) {
    struct rig r = {.bytes = k->bytes, .version = -1};
    pid_t reader[READERS];
    const char *argv[] = {bench_weir, "relay", "--run", dir, NULL};
    struct child relay = child_start(argv, 0);
    for (int i = 0; i < READERS; i++) {
        int fds[2];
        if (pipe(fds) != 0) bench_must(FAIL(ERR_IO, "no pipe"), "reader");
        reader[i] = fork();
        if (reader[i] == 0) read_versions(dir, i, k->bytes, fds[1]);
        close(fds[1]);
        r.from[i] = fds[0];
    }
    r.weights = mem_alloc(k->bytes);
    r.copy = mem_alloc(k->bytes);
    for (size_t i = 0; i < k->bytes; i++)
        r.weights[i] = (char)(i * 2654435761U >> 13);
    side_open(&r.side, dir);
    bench_must(push_open(&r.push, r.side.net, r.side.endpoint, "trainer"), "push");
    measure(&r, k);
    push_close(&r.push);
    net_close(&r.side.net);
    mem_free(r.side.endpoint);
    mem_free(r.weights);
    mem_free(r.copy);
    for (int i = 0; i < READERS; i++) {
        kill(reader[i], SIGKILL);
        waitpid(reader[i], NULL, 0);
        close(r.from[i]);
    }
    child_end(&relay, SIGTERM, NULL);
}

int bench_publish(void) {
    char dir[] = "/tmp/weir-bench-XXXXXX";
    if (!mkdtemp(dir)) return fprintf(stderr, "weir-bench: no directory in /tmp\n"), 73;
    char *ipc = file_join(dir, "ipc");
    bench_must(file_mkdirs(ipc), "ipc");
    mem_free(ipc);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        run_setting(&settings[i], dir);
    bench_must(file_remove_tree(dir), "remove");
    return 0;
}
