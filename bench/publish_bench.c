/* publish_bench.c - a version's way from the trainer's memory to two readers, against one memcpy.
 *
 * The relay is the real service; the readers are processes with a rollout's engine and its change
 * of weights (swap.c), and tell when they got how far (one monotonic clock serves all processes).
 * usable: from before the copy to the moment when the slower reader has the version mapped, which
 * the relay verified: copy, hash, offer, the relay's check, its message. changed: until the slower
 * one has it copied out, verified again, packed and in use, in slices as a busy engine gives, one
 * after another. The swap stall is the longest of those slices, the change included: what an engine
 * waits between two steps; stall_cpu without the time that the machine gave to others. The first
 * versions, which need fresh memory, are not counted. memcpy goes to memory that is there already;
 * to fresh pages it is shown beside. */
#include "bench/bench.h"
#include "bench/dims.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/net.h"
#include "bench/child.h"
#include "relay/pull.h"
#include "relay/push.h"
#include "rollout/swap.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { READERS = 2, PAIRS_MAX = 16, WAIT_US = 1000, WARM = 3 };

static const struct setting {
    const char *name;
    int32_t d, layers, heads, kv_heads, head_width, ffn, vocab;
    int pairs;
} settings[] = {{"1 MB", 64, 5, 8, 4, 8, 172, 512, 15},
                {"40 MB", 288, 6, 6, 6, 48, 768, 12288, 9},
                {"438 MB", 768, 12, 12, 12, 64, 2048, 32000, 5}};

struct said { /* by a reader through its pipe */
    int64_t version;
    uint64_t ready_us, changed_us, stall_us, stall_cpu_us;
};

static struct shape shape_of(const struct setting *k) {
    return (struct shape)DIMS_LLAMA(k->d, k->layers, k->heads, k->kv_heads, k->head_width, k->ffn,
                                    k->vocab, 64);
}

struct side {
    struct env env;
    char *endpoint;
};

static void side_open(struct side *s, const char *dir) {
    bench_must(env_open(&s->env), "net");
    bench_must(net_endpoint(&s->endpoint, s->env.net, dir, "relay"), "endpoint");
}

static void wait_turn(const struct side *s) {
    bool stop = false;
    bench_must(net_wait(s->env.net, WAIT_US, NULL, 0, &stop), "wait");
    if (stop) _exit(0);
}

struct reader {
    struct side side;
    struct pull *pull, *swap_pull; /* the first only to see when a version can be mapped */
    const struct kern_backend *backend;
    struct engine *engine;
    struct swap *swap;
    size_t bytes;
};

static struct pull *pull_named(struct side *s, const char *kind, int number) {
    struct pull *p;
    char name[32];
    snprintf(name, sizeof name, "%s-%d", kind, number);
    bench_must(pull_open(&p, s->env.net, s->endpoint, name), "pull");
    return p;
}

static void reader_open(struct reader *r, const char *dir, int number, const struct setting *k) {
    struct shape shape = shape_of(k);
    side_open(&r->side, dir);
    r->bytes = (size_t)params_slab_elements(&shape) * sizeof(float);
    r->pull = pull_named(&r->side, "reader", number);
    r->swap_pull = pull_named(&r->side, "swap", number);
    bench_must(kern_open(&r->backend, "cpu", 1), "backend");
    struct engine_config cfg = {.backend = r->backend,
                                .shape = shape,
                                .seqs_max = 1,
                                .context = 64,
                                .chunk_tokens = 8,
                                .page = 16,
                                .waiting_max = 1,
                                .spare = true};
    bench_must(engine_open(&r->engine, &cfg), "engine");
    struct swap_config swap = {r->swap_pull, r->engine, r->backend, shape, &r->side.env};
    bench_must(swap_open(&r->swap, &swap), "swap");
}

static _Noreturn void read_versions(const char *dir, int number, const struct setting *k, int out) {
    struct reader r = {0};
    struct pull_version v = {.version = -1};
    struct said x = {.version = -1};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (reader_open(&r, dir, number, k);;) {
        if (!swap_working(r.swap)) wait_turn(&r.side);
        bench_must(pull_tick(r.pull, clock_us()), "pull");
        if (pull_newest(r.pull) > x.version) {
            int rc = pull_map(r.pull, -1, r.bytes, &v);
            if (rc == ERR_AGAIN || rc == ERR_NOTFOUND) continue;
            bench_must(rc, "map");
            x = (struct said){.version = v.version, .ready_us = clock_us()};
            pull_release(r.pull, &v);
        }
        uint64_t cpu = bench_cpu_us();
        bench_must(swap_turn(r.swap, clock_us(), swap_budget(0), true), "swap");
        cpu = bench_cpu_us() - cpu;
        if (cpu > x.stall_cpu_us) x.stall_cpu_us = cpu;
        if (x.version < 0 || x.changed_us || swap_version(r.swap) < x.version) continue;
        x.changed_us = clock_us();
        x.stall_us = swap_stats(r.swap).longest_us;
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
    double stall_us, stall_cpu_us, changed_us; /* of the version published last */
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
    uint64_t start = clock_us(), ready = start, changed = start;
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
        if (x.changed_us > changed) changed = x.changed_us;
        if ((double)x.stall_cpu_us > r->stall_cpu_us) r->stall_cpu_us = (double)x.stall_cpu_us;
        if ((double)x.stall_us > r->stall_us) r->stall_us = (double)x.stall_us;
    }
    r->changed_us = (double)(changed - start);
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
    double changed[PAIRS_MAX], cpu[PAIRS_MAX];
    for (int i = 0; i < WARM; i++)
        usable_us(r, &offered[0]);
    memcpy_us(r, false);
    for (int i = 0; i < k->pairs; i++) {
        r->stall_us = r->stall_cpu_us = 0;
        own[i] = usable_us(r, &offered[i]);
        stall[i] = r->stall_us;
        changed[i] = r->changed_us;
        cpu[i] = r->stall_cpu_us;
        copy[i] = memcpy_us(r, false);
        fresh[i] = memcpy_us(r, true);
    }
    struct bench_pair p = bench_summary(copy, own, k->pairs); /* times the memcpy, aim 1.2 */
    double stall_us = bench_median(stall, k->pairs);
    printf("{\"bench\": \"publish\", \"bytes\": %zu, \"readers\": %d, \"against\": \"memcpy\", "
           "\"times_memcpy\": %.2f, \"min\": %.2f, \"max\": %.2f, \"n\": %d, \"usable_ms\": %.2f, "
           "\"trainer_ms\": %.2f, \"memcpy_ms\": %.2f, \"memcpy_fresh_pages_ms\": %.2f, "
           "\"changed_ms\": %.2f, \"swap_stall_ms\": %.2f, \"swap_stall_max_ms\": %.2f, "
           "\"swap_stall_cpu_ms\": %.2f}\n",
           r->bytes, READERS, p.ratio, p.ratio_min, p.ratio_max, p.n, p.b_us / 1e3,
           bench_median(offered, k->pairs) / 1e3, p.a_us / 1e3, bench_median(fresh, k->pairs) / 1e3,
           bench_median(changed, k->pairs) / 1e3, stall_us / 1e3, stall[k->pairs - 1] / 1e3,
           bench_median(cpu, k->pairs) / 1e3);
    fflush(stdout);
}

static void run_setting(const struct setting *k, const char *dir) {
    struct shape shape = shape_of(k);
    struct rig r = {.bytes = (size_t)params_slab_elements(&shape) * sizeof(float), .version = -1};
    pid_t reader[READERS];
    const char *argv[] = {bench_weir, "relay", "--run", dir, NULL};
    struct child relay = child_start(argv, 0);
    for (int i = 0; i < READERS; i++) {
        int fds[2];
        if (pipe(fds) != 0) bench_must(FAIL(ERR_IO, "no pipe"), "reader");
        reader[i] = fork();
        if (reader[i] == 0) read_versions(dir, i, k, fds[1]);
        close(fds[1]);
        r.from[i] = fds[0];
    }
    r.weights = mem_alloc(r.bytes);
    r.copy = mem_alloc(r.bytes);
    for (size_t i = 0; i < r.bytes; i++)
        r.weights[i] = (char)(i * 2654435761U >> 13);
    side_open(&r.side, dir);
    bench_must(push_open(&r.push, r.side.env.net, r.side.endpoint, "trainer"), "push");
    measure(&r, k);
    push_close(&r.push);
    env_close(&r.side.env);
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
