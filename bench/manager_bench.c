/* manager_bench.c - trajectories per second through the manager, its log and the reward service,
 * against RocksDB alone.
 *
 * Manager and reward service are the real processes. Rollout and trainer are played here and cost
 * next to nothing: every piece of work is answered at once by a whole trajectory, every batch at
 * once by a report. Then what the run left in its log is written to an empty RocksDB from memory:
 * the same keys and values, trajectories and scores in batches of 128, and per step the two synced
 * writes that exactly-once needs. The second line has the scores from here too, at once: manager
 * and log alone. --quick: the first line only. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/kv.h"
#include "base/mem.h"
#include "bench/child.h"
#include "proto/control.pb-c.h"
#include "proto/link.h"
#include "proto/reward.pb-c.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "rollout/engine/engine.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SIZE = 8,
    TOKENS = 64, /* 16 bytes each: a trajectory is 1 KB */
    SEATS = 1024,
    PAIRS = 7,
    BATCH = 128,
    SYNCED_PUTS = 256,
    HELLO_US = 100000,
    BEAT_US = 100000,
    STUCK_US = 30 * 1000 * 1000
};

enum scores { NO_SCORES, INSTANT_SCORES, SERVICE_SCORES };

static const struct config {
    const char *name;
    enum scores scores;
    int64_t steps, groups, eta; /* without scores nothing is trained: all groups fit in the pool */
} configs[] = {
    {"store", NO_SCORES, 4, 1024, 3},
    {"instant", INSTANT_SCORES, 64, 32, 4},
    {"service", SERVICE_SCORES, 32, 32, 4},
};

struct peer {
    struct net_sock *sock;
    const char *service;
    uint64_t hello_us, beat_us;
    bool welcome, asked;
    uint32_t running; /* seats taken until the manager has stored them */
    int64_t version;
};

struct world {
    const char *dir;
    struct net *net;
    struct peer rollout, trainer, reward;
    const struct config *cfg;
    bool finished;
    int64_t step, published;
    uint64_t start_us, end_us, trajectories, acked;
    int32_t *ids;
    float *logprob;
    int64_t *version;
};

static void say(struct peer *p, enum wire_type type, const void *body, const struct wire_frame *f,
                size_t n) {
    bench_must(link_send(p->sock, NULL, type, body, f, n, 0), wire_type_name(type));
}

static void open_peer(struct world *w, struct peer *p, const char *service) {
    char *endpoint = NULL;
    *p = (struct peer){.service = service};
    bench_must(net_endpoint(&endpoint, w->net, w->dir, "manager"), "endpoint");
    bench_must(net_connect(&p->sock, w->net, endpoint, service, 300 << 20), "connect");
    mem_free(endpoint);
}

/* Hello until welcome, then heartbeats. */
static void keep_alive(struct peer *p, uint64_t now_us) {
    if (!p->welcome && now_us >= p->hello_us + HELLO_US) {
        Weir__Hello h = WEIR__HELLO__INIT;
        h.service = h.name = (char *)(uintptr_t)p->service;
        h.incarnation = 1;
        h.pid = getpid();
        struct wire_frame f[2] = {{NULL, 0}, {NULL, 0}};
        say(p, WIRE_HELLO, &h, f, 2);
        p->hello_us = now_us;
    }
    if (p->welcome && now_us >= p->beat_us + BEAT_US) {
        Weir__Heartbeat b = WEIR__HEARTBEAT__INIT;
        b.incarnation = 1;
        b.version = p->version;
        say(p, WIRE_HEARTBEAT, &b, NULL, 0);
        p->beat_us = now_us;
    }
}

/* --- the rollout ------------------------------------------------------------------------------ */

static void ask_work(struct peer *p) {
    if (p->asked || p->running >= SEATS) return;
    Weir__WorkRequest q = WEIR__WORK_REQUEST__INIT;
    q.trajectories = SEATS - p->running;
    q.version = p->version;
    say(p, WIRE_WORK_REQUEST, &q, NULL, 0);
    p->asked = true;
}

static void answer_work(struct world *w, struct peer *p, const Weir__Work *k) {
    static Weir__TokensItem items[SEATS], *list[SEATS];
    Weir__Tokens t = WEIR__TOKENS__INIT;
    size_t n = k->n_items * TOKENS;
    p->asked = false;
    if (k->n_items == 0) p->version = w->published;
    if (w->start_us == 0 && k->n_items > 0) w->start_us = clock_us();
    if (k->n_items > SEATS) bench_must(FAIL(ERR_CORRUPT, "more work than asked for"), "work");
    for (size_t i = 0; i < k->n_items; i++) {
        items[i] = (Weir__TokensItem)WEIR__TOKENS_ITEM__INIT;
        items[i].trajectory = k->items[i]->trajectory;
        items[i].n = TOKENS;
        items[i].finish = ENGINE_LENGTH;
        list[i] = &items[i];
        for (int j = 0; j < TOKENS; j++)
            w->version[i * TOKENS + (size_t)j] = p->version;
    }
    Weir__TokensWeights weights = WEIR__TOKENS_WEIGHTS__INIT, *said = &weights;
    uint64_t hash[2] = {1, (uint64_t)p->version + 1};
    weights.version = p->version;
    weights.hash = (ProtobufCBinaryData){16, (uint8_t *)hash};
    t.n_items = k->n_items;
    t.items = list;
    t.n_weights = p->version >= 0;
    t.weights = &said;
    struct wire_frame f[3] = {{w->ids, n * sizeof *w->ids},
                              {w->logprob, n * sizeof *w->logprob},
                              {w->version, n * sizeof *w->version}};
    if (n > 0) say(p, WIRE_TOKENS, &t, f, 3);
    p->running += (uint32_t)k->n_items;
}

static void turn_rollout(struct world *w, struct peer *p) {
    struct link_msg m;
    while (link_recv(p->sock, &m, NULL) == 0) {
        if (m.wire.type == WIRE_WELCOME) p->welcome = true;
        if (m.wire.type == WIRE_WORK) answer_work(w, p, m.wire.body);
        if (m.wire.type == WIRE_TOKENS_ACK) {
            size_t n = ((const Weir__TokensAck *)m.wire.body)->n_items;
            p->running -= (uint32_t)n;
            w->acked += n;
        }
        link_free(&m);
    }
    keep_alive(p, clock_us());
    uint64_t all = (uint64_t)(w->cfg->steps * w->cfg->groups * SIZE);
    if (w->cfg->scores == NO_SCORES && w->acked == all) {
        w->finished = true;
        w->trajectories = all;
        return;
    }
    if (p->running == 0) p->version = w->published;
    if (p->welcome) ask_work(p);
}

/* --- reward service and trainer --------------------------------------------------------------- */

static void answer_request(struct peer *p, const Weir__ScoreRequest *q) {
    static Weir__ScoreRecord record[SEATS], *list[SEATS];
    Weir__ScoreReply r = WEIR__SCORE_REPLY__INIT;
    Weir__Score exact = WEIR__SCORE__INIT, *scores = &exact;
    exact.name = (char *)(uintptr_t) "exact";
    if (q->n_items > SEATS) bench_must(FAIL(ERR_CORRUPT, "too many to score"), "scores");
    for (size_t i = 0; i < q->n_items; i++) {
        record[i] = (Weir__ScoreRecord)WEIR__SCORE_RECORD__INIT;
        record[i].trajectory = q->items[i]->trajectory;
        record[i].n_scores = 1;
        record[i].scores = &scores;
        list[i] = &record[i];
    }
    r.n_items = q->n_items;
    r.items = list;
    say(p, WIRE_SCORE_REPLY, &r, NULL, 0);
}

static void turn_reward(struct peer *p) {
    struct link_msg m;
    while (link_recv(p->sock, &m, NULL) == 0) {
        if (m.wire.type == WIRE_WELCOME) p->welcome = true;
        if (m.wire.type == WIRE_SCORE_REQUEST) answer_request(p, m.wire.body);
        link_free(&m);
    }
    keep_alive(p, clock_us());
}

static void report(struct world *w, const Weir__Batch *b) {
    static const char json[] = "{\"step\": 0, \"actor/loss\": 0.125, \"actor/grad_norm\": 1.5}";
    Weir__StepDone d = WEIR__STEP_DONE__INIT;
    uint64_t before[2] = {1, (uint64_t)b->step + 1}, after[2] = {1, (uint64_t)b->step + 2};
    w->trajectories += b->n_items;
    d.step = b->step;
    d.hash_before = (ProtobufCBinaryData){16, (uint8_t *)before};
    d.hash_after = (ProtobufCBinaryData){16, (uint8_t *)after};
    struct wire_frame f = {json, sizeof json - 1};
    say(&w->trainer, WIRE_STEP_DONE, &d, &f, 1);
    w->published = b->step + 1;
}

static void turn_trainer(struct world *w, struct peer *p) {
    struct link_msg m;
    while (link_recv(p->sock, &m, NULL) == 0) {
        const Weir__Batch *b = m.wire.body;
        if (m.wire.type == WIRE_WELCOME) p->welcome = true;
        if (m.wire.type == WIRE_BATCH && !b->done) report(w, b);
        if (m.wire.type == WIRE_STEP_ACK) {
            w->step++;
            p->asked = false;
            w->finished = w->step == w->cfg->steps;
        }
        link_free(&m);
    }
    keep_alive(p, clock_us());
    if (!p->welcome || p->asked || w->finished || w->cfg->scores == NO_SCORES) return;
    Weir__BatchRequest q = WEIR__BATCH_REQUEST__INIT;
    q.step = w->step;
    say(p, WIRE_BATCH_REQUEST, &q, NULL, 0);
    p->asked = true;
}

/* --- a run ---------------------------------------------------------------------------------- */

static void write_recipe(const char *dir, const struct config *cfg) {
    char *path = file_join(dir, "recipe.yaml"), *ipc = file_join(dir, "ipc");
    char *text =
        mem_printf("name: bench\n"
                   "model: {path: recipes/tiny, chat: plain, weights: random}\n"
                   "data: {train: {path: 'builtin:addition', limit: 2000}}\n"
                   "rollout: {group_size: %d, max_new_tokens: %d, max_prompt_tokens: 16, "
                   "concurrency: %d}\n"
                   "reward: [{type: exact}]\n"
                   "trainer: {steps: %d, batch: {groups: %d, tokens: %d}, staleness: {max: %d}}\n",
                   SIZE, TOKENS, SEATS, (int)cfg->steps, (int)cfg->groups,
                   (int)cfg->groups * SIZE * (TOKENS + 16), (int)cfg->eta);
    bench_must(file_mkdirs(ipc), "ipc");
    bench_must(file_write_atomic(path, text, strlen(text)), "recipe");
    mem_free(text);
    mem_free(ipc);
    mem_free(path);
}

static double run_us(struct world *w) {
    const char *manager[] = {bench_weir, "manager", "--run", w->dir, NULL};
    const char *reward[] = {bench_weir, "reward", "--run", w->dir, NULL};
    struct child children[2] = {child_start(manager, 0)};
    if (w->cfg->scores == SERVICE_SCORES) children[1] = child_start(reward, 0);
    bench_must(net_open(&w->net), "net");
    open_peer(w, &w->rollout, "rollout");
    open_peer(w, &w->trainer, "trainer");
    if (w->cfg->scores == INSTANT_SCORES) open_peer(w, &w->reward, "reward");
    uint64_t start = clock_us();
    while (!w->finished) {
        bool stop = false;
        bench_must(net_wait(w->net, 10000, NULL, 0, &stop), "wait");
        turn_rollout(w, &w->rollout);
        turn_trainer(w, &w->trainer);
        if (w->cfg->scores == INSTANT_SCORES) turn_reward(&w->reward);
        if (stop || clock_us() > start + STUCK_US)
            bench_must(FAIL(ERR_TIMEOUT, "no end after %d steps", (int)w->step), "run");
    }
    w->end_us = clock_us();
    net_close(&w->net);
    for (int i = 0; i < 2; i++)
        if (children[i].pid) child_end(&children[i], SIGTERM, NULL);
    return (double)(w->end_us - w->start_us);
}

/* --- RocksDB alone -------------------------------------------------------------------------- */

struct record {
    char *key, *value;
    size_t n_key, bytes;
};

struct records {
    struct record *r;
    size_t n, cap, bytes;
};

static void load(struct records *out, struct kv *k, char prefix) {
    struct kv_iter *it = NULL;
    const char *key, *value;
    size_t n_key, bytes;
    int rc;
    bench_must(kv_iter_open(&it, k, &prefix, 1, NULL, 0), "log");
    while ((rc = kv_iter_next(it, &key, &n_key, &value, &bytes)) == 1) {
        if (out->n == out->cap) {
            out->cap = out->cap ? 2 * out->cap : 1024;
            out->r = mem_realloc(out->r, out->cap * sizeof *out->r);
        }
        struct record *r = &out->r[out->n++];
        *r = (struct record){mem_alloc(n_key), mem_alloc(bytes ? bytes : 1), n_key, bytes};
        memcpy(r->key, key, n_key);
        memcpy(r->value, value, bytes);
        out->bytes += n_key + bytes;
    }
    bench_must(rc, "log");
    kv_iter_close(&it);
}

static void forget(struct records *r) {
    for (size_t i = 0; i < r->n; i++) {
        mem_free(r->r[i].key);
        mem_free(r->r[i].value);
    }
    mem_free(r->r);
    *r = (struct records){0};
}

static void put(struct kv_batch *b, const struct record *r) {
    kv_batch_put(b, r->key, r->n_key, r->value, r->bytes);
}

/* One record of the list after the other, each on disk before the next: us per record. */
static double synced_us(struct kv *k, struct kv_batch *b, const struct records *r) {
    size_t n = r->n < SYNCED_PUTS ? r->n : SYNCED_PUTS;
    uint64_t start = clock_us();
    for (size_t i = 0; i < n; i++) {
        put(b, &r->r[i]);
        bench_must(kv_write(k, b, true), "write");
    }
    return (double)(clock_us() - start) / (double)n;
}

/* The run's records to an empty store; *put_us: one put with a sync of its own. */
static double bare_us(const char *dir, size_t *bytes, double *put_us) {
    struct records plain = {0}, synced = {0};
    struct kv *k = NULL;
    char *log = file_join(dir, "log"), *bare = file_join(dir, "bare");
    bench_must(kv_open_readonly(&k, log), "log");
    for (const char *p = "TGS"; *p; p++)
        load(&plain, k, *p);
    load(&synced, k, 'B');
    load(&synced, k, 'R');
    kv_close(&k);
    bench_must(kv_open(&k, bare, true), "store");
    struct kv_batch *b = kv_batch_open();
    uint64_t start = clock_us();
    for (size_t i = 0; i < plain.n; i++) {
        put(b, &plain.r[i]);
        if (kv_batch_count(b) == BATCH) bench_must(kv_write(k, b, false), "write");
    }
    bench_must(kv_write(k, b, false), "write");
    for (size_t i = 0; i < synced.n; i++) {
        put(b, &synced.r[i]);
        bench_must(kv_write(k, b, true), "write");
    }
    double us = (double)(clock_us() - start);
    *put_us = synced_us(k, b, &plain);
    *bytes = plain.bytes + synced.bytes;
    kv_batch_close(&b);
    kv_close(&k);
    forget(&plain);
    forget(&synced);
    mem_free(bare);
    mem_free(log);
    return us;
}

static void measure(const struct config *cfg, const struct world *buffers) {
    double own[PAIRS], bare[PAIRS], each[PAIRS];
    uint64_t n = 0;
    size_t bytes = 0;
    for (int i = 0; i < PAIRS; i++) {
        char dir[] = "/tmp/weir-bench-XXXXXX";
        if (!mkdtemp(dir)) bench_must(FAIL(ERR_IO, "no directory in /tmp"), "run");
        struct world w = *buffers;
        w.dir = dir;
        w.cfg = cfg;
        write_recipe(dir, cfg);
        own[i] = run_us(&w);
        bare[i] = bare_us(dir, &bytes, &each[i]);
        n = w.trajectories;
        each[i] *= (double)n;
        bench_must(file_remove_tree(dir), "remove");
    }
    double again[PAIRS];
    memcpy(again, own, sizeof own);
    struct bench_pair p = bench_summary(own, bare, PAIRS), d = bench_summary(again, each, PAIRS);
    printf("{\"bench\": \"manager\", \"case\": \"%s\", \"trajectories\": %d, \"tokens\": %d, "
           "\"against\": \"rocksdb\", \"ratio\": %.3f, \"min\": %.3f, \"max\": %.3f, \"n\": %d, "
           "\"trajectories_per_s\": %.0f, \"peer_per_s\": %.0f, \"log_bytes\": %zu",
           cfg->name, (int)n, TOKENS, p.ratio, p.ratio_min, p.ratio_max, p.n,
           (double)n / p.a_us * 1e6, (double)n / p.b_us * 1e6, bytes);
    if (cfg->scores != NO_SCORES)
        printf(", \"against_synced_puts\": %.2f, \"synced_min\": %.2f, \"synced_max\": %.2f, "
               "\"synced_puts_per_s\": %.0f",
               d.ratio, d.ratio_min, d.ratio_max, (double)n / d.b_us * 1e6);
    printf("}\n");
    fflush(stdout);
}

int bench_manager(void) {
    struct world w = {0};
    size_t n = (size_t)SEATS * TOKENS;
    w.ids = mem_array(n, sizeof *w.ids);
    w.logprob = mem_array(n, sizeof *w.logprob);
    w.version = mem_array(n, sizeof *w.version);
    for (size_t i = 0; i < n; i++) {
        w.ids[i] = (int32_t)(i * 7 % 90) + 5;
        w.logprob[i] = -0.25F;
    }
    for (size_t i = 0; i < (bench_quick ? 1 : sizeof configs / sizeof configs[0]); i++)
        measure(&configs[i], &w);
    mem_free(w.ids);
    mem_free(w.logprob);
    mem_free(w.version);
    return 0;
}
