/* manager_test.c - the manager as a real process, against rollouts, a reward service and a trainer
 * played by the test: they are slow, repeat themselves, die and come back, and so does the manager
 * (kill -9 at any moment). The trainer checks what it gets: I2, I3, and that a batch asked for
 * again is the same batch. */
#include "rollout/manager/manager.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "proto/control.pb-c.h"
#include "proto/link.h"
#include "proto/metrics/metrics.h"
#include "proto/reward.pb-c.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "rollout/engine/engine.h"
#include "rollout/log/runlog.h"
#include "tests/test.h"
#include "tests/unit/manager_world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t below(struct world *w, uint64_t n) {
    return rng_below(rng_key(w->seed, RNG_TEST), 5, w->draws++, n);
}

/* --- the manager's process ------------------------------------------------------------------ */

/* Starts and kills managers on command, from a process that never had threads. */
static _Noreturn void keep(struct world *w) {
    pid_t pid = 0;
    char c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(w->to[0], &c, 1) == 1 && c != 'Q') {
        int status = 0;
        if (c == 'S' && (pid = fork()) == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            char *path = file_join(w->dir, "stderr");
            int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
            mem_free(path);
            CHECK(fd >= 0 && dup2(fd, 2) == 2);
            close(fd);
            log_open(LOG_INFO, "manager");
            int rc = manager_service(w->dir);
            if (rc < 0) log_write(LOG_ERROR, LOG_MANAGER, "manager ended: %s", err_text());
            fflush(NULL);
            exit(err_exit_code(rc));
        }
        if (c == 'K') kill(pid, SIGKILL);
        if (c == 'T') kill(pid, SIGTERM);
        if (c != 'S') waitpid(pid, &status, 0);
        unsigned char code = WIFEXITED(status) ? (unsigned char)WEXITSTATUS(status) : 255;
        if (write(w->from[1], &code, 1) != 1) break;
    }
    _exit(0);
}

/* 'S' start, 'K' kill -9, 'T' SIGTERM, 'W' wait: the exit status of what ended. */
static int command(struct world *w, char c) {
    unsigned char code = 0;
    CHECK(write(w->to[1], &c, 1) == 1);
    CHECK(read(w->from[0], &code, 1) == 1);
    return code;
}

static bool stderr_has(const struct world *w, const char *part) {
    char *path = file_join(w->dir, "stderr"), *text = NULL;
    size_t bytes = 0;
    bool has = file_exists(path) && file_read(&text, &bytes, path, 1 << 24) == 0;
    has = has && strstr(text, part);
    mem_free(text);
    mem_free(path);
    return has;
}

static void write_recipe(const struct world *w, const char *more) {
    char *path = file_join(w->dir, "recipe.yaml");
    char *text =
        mem_printf("name: test\n"
                   "model: {path: recipes/tiny, chat: plain}\n"
                   "data: {train: {path: 'builtin:addition', limit: 40}}\n"
                   "rollout: {group_size: %d, max_new_tokens: %d, max_prompt_tokens: 16, "
                   "concurrency: 20, heartbeat_ms: 100}\n"
                   "reward: [{type: exact}]\n"
                   "trainer: {steps: %d, batch: {groups: %d}, staleness: {max: %d%s}}\n",
                   (int)w->size, MAX_NEW, (int)w->steps, (int)w->groups, (int)w->eta, more);
    CHECK_OK(file_write_atomic(path, text, strlen(text)));
    mem_free(text);
    mem_free(path);
}

static void open_peer(struct world *w, struct peer *p, const char *service, const char *name) {
    char *endpoint = NULL;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->service = service;
    p->incarnation = 1 + below(w, 1u << 30);
    p->version = -1;
    CHECK_OK(net_endpoint(&endpoint, w->net, w->dir, "manager"));
    CHECK_OK(net_connect(&p->sock, w->net, endpoint, name, 300 << 20));
    mem_free(endpoint);
}

static struct world *open_world(int64_t steps, int64_t groups, int64_t size, int64_t eta,
                                const char *more) {
    struct world *w = mem_zalloc(sizeof *w);
    w->dir = mem_strdup(test_dir());
    w->seed = test_seed();
    w->steps = steps;
    w->groups = groups;
    w->size = size;
    w->eta = eta;
    write_recipe(w, more);
    CHECK(pipe(w->to) == 0 && pipe(w->from) == 0);
    w->keeper = fork();
    if (w->keeper == 0) keep(w);
    CHECK_OK(net_open(&w->net));
    for (int i = 0; i < ROLLOUTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "rollout-%d", i);
        open_peer(w, &w->rollout[i], "rollout", name);
    }
    open_peer(w, &w->reward, "reward", "reward");
    open_peer(w, &w->trainer, "trainer", "trainer");
    return w;
}

static void close_world(struct world *w) {
    CHECK(write(w->to[1], "Q", 1) == 1);
    waitpid(w->keeper, NULL, 0);
    for (int i = 0; i < 2; i++) {
        close(w->to[i]);
        close(w->from[i]);
    }
    net_close(&w->net);
    mem_free(w->dir);
    mem_free(w);
}

static void send_msg(struct peer *p, enum wire_type type, const void *body,
                     const struct wire_frame *frames, size_t n) {
    int rc = link_send(p->sock, NULL, type, body, frames, n, 0);
    if (rc != ERR_AGAIN) CHECK_OK(rc); /* full while nobody serves: said again later */
}

static void hello(struct peer *p) {
    uint64_t ids[SEATS], now = clock_us();
    int32_t received[SEATS];
    if (now < p->hello_us + AGAIN_US) return;
    p->hello_us = now;
    for (int32_t i = 0; i < p->n; i++) {
        ids[i] = p->seq[i].id;
        received[i] = p->seq[i].n;
    }
    Weir__Hello h = WEIR__HELLO__INIT;
    h.service = (char *)p->service;
    h.name = p->name;
    h.incarnation = p->incarnation;
    h.pid = getpid();
    h.version = p->version;
    h.n_running = (uint32_t)p->n;
    struct wire_frame f[2] = {{ids, (size_t)p->n * sizeof ids[0]},
                              {received, (size_t)p->n * sizeof received[0]}};
    send_msg(p, WIRE_HELLO, &h, f, 2);
}

static void beat(struct peer *p) {
    uint64_t now = clock_us();
    if (now < p->beat_us + 30000) return;
    p->beat_us = now;
    Weir__Heartbeat h = WEIR__HEARTBEAT__INIT;
    h.incarnation = p->incarnation;
    h.version = p->version;
    h.running = p->n;
    h.busy = 0.5;
    send_msg(p, WIRE_HEARTBEAT, &h, NULL, 0);
}

/* --- a rollout ------------------------------------------------------------------------------- */

static int32_t token(uint64_t id, int32_t at) {
    return (int32_t)((id * 31 + (uint64_t)at * 7) % 90) + 5;
}

static int32_t length(uint64_t id) {
    return 1 + (int32_t)(id * 2654435761u % MAX_NEW);
}

static void forget(struct peer *p, uint64_t id) {
    for (int32_t i = 0; i < p->n; i++)
        if (p->seq[i].id == id) p->seq[i--] = p->seq[--p->n];
}

static struct seq *seq_of(struct peer *p, uint64_t id) {
    for (int32_t i = 0; i < p->n; i++)
        if (p->seq[i].id == id) return &p->seq[i];
    return NULL;
}

static void take_work(struct world *w, struct peer *p, const struct wire_msg *msg) {
    const Weir__Work *k = msg->body;
    const int32_t *prompt = msg->frame[0].data, *resume = msg->frame[1].data;
    const int64_t *version = msg->frame[3].data;
    p->asked = false;
    if (k->n_items == 0 && k->min_version > p->version && p->n == 0) p->version = w->published;
    for (size_t i = 0; i < k->n_items; i++) {
        const Weir__WorkItem *x = k->items[i];
        CHECK(p->n < SEATS && !seq_of(p, x->trajectory));
        CHECK(x->n_prompt >= 1 && prompt[0] >= 0 && x->max_new_tokens == MAX_NEW);
        struct seq *s = &p->seq[p->n++];
        *s = (struct seq){.id = x->trajectory, .n = (int32_t)x->n_resume};
        s->acked = s->n;
        for (int32_t j = 0; j < s->n; j++) {
            CHECK_INT(resume[j], token(s->id, j));
            s->version[j] = version[j];
        }
        resume += s->n;
        version += s->n;
        if (i + 1 == k->n_items || k->items[i + 1]->group != x->group) prompt += x->n_prompt;
    }
    CHECK((const char *)prompt == (const char *)msg->frame[0].data + msg->frame[0].bytes);
}

static void take_welcome(struct peer *p, const struct wire_msg *msg) {
    const Weir__Welcome *k = msg->body;
    const uint64_t *ids = msg->frame[0].data;
    const int32_t *has = msg->frame[1].data;
    p->session = k->incarnation;
    p->welcome = true;
    p->asked = false;
    for (uint32_t i = 0; i < k->n_running; i++) {
        struct seq *s = seq_of(p, ids[i]);
        if (s && has[i] >= 0) s->acked = has[i];
        if (has[i] < 0) forget(p, ids[i]);
    }
}

static void take_acks(struct peer *p, const Weir__TokensAck *a) {
    for (size_t i = 0; i < a->n_items; i++) {
        struct seq *s = seq_of(p, a->items[i]->trajectory);
        if (!s) continue;
        if (a->items[i]->received < 0 || a->items[i]->received == length(s->id)) {
            forget(p, s->id);
            continue;
        }
        CHECK(a->items[i]->received <= s->n);
        if (a->items[i]->received > s->acked) s->acked = a->items[i]->received;
    }
}

/* The content of a version, as trainer and rollouts have it. */
static struct hash content(const struct world *w, int64_t version) {
    return version == 0 ? (struct hash){1, 0} : w->after[version - 1];
}

/* A rollout says what the versions are that it may have tokens of. */
static void add_weights(const struct world *w, Weir__Tokens *t, int64_t newest) {
    static Weir__TokensWeights weights[STEPS_MAX], *list[STEPS_MAX];
    static struct hash hash[STEPS_MAX];
    for (int64_t v = 0; v <= newest && v < STEPS_MAX; v++) {
        hash[v] = content(w, v);
        weights[v] = (Weir__TokensWeights)WEIR__TOKENS_WEIGHTS__INIT;
        weights[v].version = v;
        weights[v].hash = (ProtobufCBinaryData){16, (uint8_t *)&hash[v]};
        list[t->n_weights++] = &weights[v];
    }
    t->weights = list;
}

/* All that was not acknowledged, often more than once. */
static void stream(const struct world *w, struct peer *p) {
    Weir__TokensItem items[SEATS], *list[SEATS];
    int32_t ids[SEATS * MAX_NEW];
    float logprob[SEATS * MAX_NEW];
    int64_t version[SEATS * MAX_NEW];
    Weir__Tokens t = WEIR__TOKENS__INIT;
    size_t n = 0;
    for (int32_t i = 0; i < p->n; i++) {
        struct seq *s = &p->seq[i];
        if (s->n == s->acked) continue;
        Weir__TokensItem *x = list[t.n_items] = &items[t.n_items];
        *x = (Weir__TokensItem)WEIR__TOKENS_ITEM__INIT;
        x->trajectory = s->id;
        x->offset = (uint32_t)s->acked;
        x->n = (uint32_t)(s->n - s->acked);
        if (s->n == length(s->id)) x->finish = s->n == MAX_NEW ? ENGINE_LENGTH : ENGINE_STOP;
        for (int32_t j = s->acked; j < s->n; j++, n++) {
            ids[n] = token(s->id, j);
            logprob[n] = -0.25F * (float)j;
            version[n] = s->version[j];
        }
        t.n_items++;
    }
    if (t.n_items == 0) return;
    t.items = list;
    add_weights(w, &t, p->version);
    struct wire_frame f[3] = {
        {ids, n * sizeof *ids}, {logprob, n * sizeof *logprob}, {version, n * sizeof *version}};
    send_msg(p, WIRE_TOKENS, &t, f, 3);
}

static void ask_work(struct peer *p) {
    uint64_t now = clock_us();
    if (p->n == SEATS || (p->asked && now < p->asked_us + AGAIN_US)) return;
    p->asked = true;
    p->asked_us = now;
    Weir__WorkRequest q = WEIR__WORK_REQUEST__INIT;
    q.trajectories = (uint32_t)(SEATS - p->n);
    q.version = p->version;
    q.places = SEATS;
    send_msg(p, WIRE_WORK_REQUEST, &q, NULL, 0);
}

static void take_beat(struct peer *p, const Weir__HeartbeatAck *a) {
    if (a->incarnation == p->session) return;
    p->welcome = false; /* another manager, or one that thought us dead */
    hello(p);
}

static void turn_rollout(struct world *w, struct peer *p) {
    struct link_msg msg;
    while (link_recv(p->sock, &msg, NULL) == 0) {
        if (msg.wire.type == WIRE_WELCOME) take_welcome(p, &msg.wire);
        if (msg.wire.type == WIRE_HEARTBEAT_ACK) take_beat(p, msg.wire.body);
        if (msg.wire.type == WIRE_TOKENS_ACK) take_acks(p, msg.wire.body);
        if (msg.wire.type == WIRE_WORK && p->welcome && p->asked) take_work(w, p, &msg.wire);
        link_free(&msg);
    }
    beat(p);
    if (!p->welcome) {
        hello(p);
        return;
    }
    if (p->n == 0 && below(w, 4) == 0) p->version = w->published;
    for (int32_t i = 0; i < p->n; i++)
        if (p->seq[i].n < length(p->seq[i].id) && below(w, 2) == 0)
            p->seq[i].version[p->seq[i].n++] = p->version;
    stream(w, p);
    ask_work(p);
    if (w->deaths && below(w, 150) == 0) { /* kill -9 and a new start */
        p->n = 0;
        p->version = -1;
        p->incarnation++;
        p->welcome = false;
        p->hello_us = 0;
    }
}

/* --- the reward service and the trainer ------------------------------------------------------- */

/* Answers some items alone, some twice, and dies now and then with answers unsent. */
static void take_request(struct world *w, struct peer *p, const struct wire_msg *msg) {
    const Weir__ScoreRequest *q = msg->body;
    const char *text = msg->frame[0].data;
    Weir__ScoreRecord item[512], *list[512];
    Weir__ScoreReply r = WEIR__SCORE_REPLY__INIT;
    r.items = list;
    CHECK(q->n_items >= 1 && q->n_items <= 512);
    for (size_t i = 0; i < q->n_items; i++) {
        const Weir__ScoreItem *x = q->items[i];
        CHECK_INT(x->n_tokens, length(x->trajectory));
        CHECK_INT(x->truncated, length(x->trajectory) == MAX_NEW);
        CHECK(x->prompt > 2 && x->answer > 0 && text[0] >= ' ');
        text += (size_t)x->prompt + x->response + x->answer;
        item[i] = (Weir__ScoreRecord)WEIR__SCORE_RECORD__INIT;
        item[i].trajectory = x->trajectory;
        item[i].total = (double)(x->trajectory % 3);
        bool bad = w->hopeless || (w->errors && x->trajectory % 23 == 7);
        item[i].error = bad ? ERR_TIMEOUT : 0;
        item[i].reason = bad ? (char *)"too slow" : (char *)"";
        if (w->deaths && below(w, 40) == 0) { /* kill -9: this answer and others are lost */
            p->incarnation++;
            p->welcome = false;
            p->hello_us = 0;
        }
        list[r.n_items++] = &item[i];
        bool now = i + 1 == q->n_items || below(w, 8) == 0;
        if (now && p->welcome) send_msg(p, WIRE_SCORE_REPLY, &r, NULL, 0);
        if (now && p->welcome && below(w, 10) == 0) send_msg(p, WIRE_SCORE_REPLY, &r, NULL, 0);
        if (now) r.n_items = 0;
    }
    CHECK(text == (const char *)msg->frame[0].data + msg->frame[0].bytes);
}

static void turn_reward(struct world *w, struct peer *p) {
    struct link_msg msg;
    while (link_recv(p->sock, &msg, NULL) == 0) {
        if (msg.wire.type == WIRE_WELCOME) take_welcome(p, &msg.wire);
        if (msg.wire.type == WIRE_HEARTBEAT_ACK) take_beat(p, msg.wire.body);
        if (msg.wire.type == WIRE_SCORE_REQUEST) take_request(w, p, &msg.wire);
        link_free(&msg);
    }
    beat(p);
    if (!p->welcome) hello(p);
}

static void check_batch(struct world *w, const struct wire_msg *msg) {
    const Weir__Batch *b = msg->body;
    const int32_t *ids = msg->frame[0].data;
    const float *logprob = msg->frame[1].data;
    const uint8_t *mask = msg->frame[2].data;
    const int64_t *version = msg->frame[3].data;
    CHECK_INT(b->n_items, w->groups * w->size);
    uint64_t digest = (uint64_t)b->step;
    for (size_t i = 0; i < b->n_items; i++) {
        const Weir__BatchItem *x = b->items[i];
        CHECK(x->trajectory < IDS && x->group == x->trajectory / (uint64_t)w->size);
        uint64_t *t = &w->trained[x->trajectory];
        CHECK(*t == 0 || *t == (uint64_t)b->step + 1); /* I3 */
        *t = (uint64_t)b->step + 1;
        CHECK_INT(x->n_response, length(x->trajectory));
        CHECK(x->reward == (float)(x->trajectory % 3));
        ids += x->n_prompt;
        for (int32_t j = 0; j < (int32_t)x->n_response; j++) {
            CHECK_INT(ids[j], token(x->trajectory, j));
            CHECK(logprob[j] == -0.25F * (float)j && mask[j] == 1);
            CHECK(version[j] <= b->step && b->step - version[j] <= w->eta); /* I2 */
            digest = hash64(&version[j], sizeof *version, digest);
        }
        ids += x->n_response;
        logprob += x->n_response;
        mask += x->n_response;
        version += x->n_response;
        digest = hash64(&x->trajectory, sizeof x->trajectory, digest);
        if (w->eta == 0 && !w->errors && !w->drop)
            CHECK_INT(x->trajectory, b->step * (int64_t)b->n_items + (int64_t)i);
    }
    w->sent = (struct hash){digest, 1};
    if (b->expect_hash.len > 0) CHECK(memcmp(b->expect_hash.data, &w->sent, 16) == 0);
    if (!hash_is_zero(w->after[b->step])) CHECK(hash_equal(w->after[b->step], w->sent));
    w->after[b->step] = w->sent;
}

static void send_done(struct world *w, struct peer *p) {
    char *report = mem_printf("{\"step\": %d,\n \"reward/mean\": 0.5, \"list\": [1, 2.5, null]}",
                              (int)w->step);
    Weir__StepDone d = WEIR__STEP_DONE__INIT;
    struct hash before = content(w, w->step);
    d.step = w->step;
    d.hash_before = (ProtobufCBinaryData){16, (uint8_t *)&before};
    d.hash_after = (ProtobufCBinaryData){16, (uint8_t *)&w->sent};
    struct wire_frame f = {report, strlen(report)};
    send_msg(p, WIRE_STEP_DONE, &d, &f, 1);
    mem_free(report);
    w->done_sent = true;
    p->asked_us = clock_us();
}

static void take_ack(struct world *w, int64_t step) {
    if (!w->done_sent || step != w->step) return;
    w->step++;
    w->done_sent = false;
    w->asked_step = -1;
    if (w->deaths && below(w, 6) == 0) /* the trainer dies and goes back to a checkpoint */
        w->step -= (int64_t)below(w, (uint64_t)(w->step < 3 ? w->step : 3) + 1);
}

static void turn_trainer(struct world *w, struct peer *p) {
    struct link_msg msg;
    while (link_recv(p->sock, &msg, NULL) == 0) {
        if (msg.wire.type == WIRE_BATCH) {
            const Weir__Batch *b = msg.wire.body;
            if (b->done) w->finished = b->step >= w->steps;
            if (!b->done && b->step == w->step && !w->done_sent) {
                check_batch(w, &msg.wire);
                if (w->published < w->step + 1) w->published = w->step + 1;
                send_done(w, p);
            }
        }
        if (msg.wire.type == WIRE_STEP_ACK)
            take_ack(w, ((const Weir__StepAck *)msg.wire.body)->step);
        if (msg.wire.type == WIRE_WELCOME) take_welcome(p, &msg.wire);
        if (msg.wire.type == WIRE_HEARTBEAT_ACK) take_beat(p, msg.wire.body);
        link_free(&msg);
    }
    uint64_t now = clock_us();
    beat(p);
    if (!p->welcome) {
        hello(p);
        return;
    }
    if (w->done_sent) {
        if (now > p->asked_us + AGAIN_US) send_done(w, p);
        return;
    }
    if (w->asked_step == w->step && now < p->asked_us + AGAIN_US) return;
    w->asked_step = w->step;
    p->asked_us = now;
    Weir__BatchRequest q = WEIR__BATCH_REQUEST__INIT;
    q.step = w->step;
    send_msg(p, WIRE_BATCH_REQUEST, &q, NULL, 0);
}

static void turn(struct world *w) {
    bool stop = false;
    CHECK_OK(net_wait(w->net, 1000, NULL, 0, &stop));
    for (int i = 0; i < ROLLOUTS; i++)
        turn_rollout(w, &w->rollout[i]);
    turn_reward(w, &w->reward);
    turn_trainer(w, &w->trainer);
}

/* --- what is left on disk --------------------------------------------------------------------- */

static void check_metrics(const struct world *w) {
    char *path = file_join(w->dir, "metrics.jsonl"), *text = NULL;
    size_t bytes = 0;
    CHECK_OK(file_read(&text, &bytes, path, 1 << 20));
    int64_t step = 0, value = -1;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, step++) {
        struct json_doc *doc = NULL;
        CHECK_OK(json_parse(&doc, line, (size_t)(end - line), "metrics.jsonl"));
        const struct json *o = json_root(doc);
        CHECK(json_int(json_get(o, "step"), &value) && value == step + 1);
        CHECK(json_num(json_get(o, "reward/mean"), -1) == 0.5);
        CHECK_INT(json_len(json_get(o, "list")), 3);
        CHECK(json_num(json_get(o, "off_policy/max"), 99) <= (double)w->eta);
        CHECK(json_get(o, "off_policy/predicted") && json_get(o, "off_policy/histogram"));
        CHECK(json_num(json_get(o, "reward/zero_groups"), -1) >= 0);
        json_close(&doc);
    }
    CHECK_INT(step, w->steps);
    mem_free(text);
    mem_free(path);
}

/* Every version that was generated by has its content in the log, the published one (I1). */
static void check_weights(const struct world *w, struct runlog *l) {
    struct runlog_record r = {0}, t = {0};
    for (uint64_t id = 0; id < IDS; id++) {
        if (w->trained[id] == 0) continue;
        CHECK_OK(runlog_get(l, RUNLOG_TRAJ, id, &t));
        CHECK_OK(runlog_get(l, RUNLOG_WEIGHTS, (uint64_t)t.u.traj.version[0], &r));
        CHECK(hash_equal(r.u.weights.hash, content(w, t.u.traj.version[0])));
        runlog_free(&r);
        runlog_free(&t);
    }
}

static void check_log(const struct world *w) {
    char *dir = file_join(w->dir, "log");
    struct runlog *l = NULL;
    struct runlog_scan *s = NULL;
    const struct runlog_record *r = NULL;
    int64_t n = 0, trained = 0;
    CHECK_OK(runlog_open_readonly(&l, dir));
    CHECK_OK(runlog_scan_open(&s, l, RUNLOG_BATCH, 0));
    while (runlog_scan_next(s, &r) == 1) {
        CHECK(r->u.batch.step == n && r->u.batch.done && r->u.batch.staleness_max <= w->eta);
        CHECK(hash_equal(r->u.batch.after, w->after[n++]));
        for (uint32_t i = 0; i < r->u.batch.n; i++)
            CHECK_INT(w->trained[r->u.batch.ids[i]], n);
    }
    CHECK_INT(n, w->steps);
    runlog_scan_close(&s);
    CHECK_OK(runlog_scan_open(&s, l, RUNLOG_GROUP, 0));
    while (runlog_scan_next(s, &r) == 1) {
        bool is = w->trained[r->u.group.id * (uint64_t)w->size] > 0;
        CHECK_INT(r->u.group.state, is ? GROUPS_TRAINED : GROUPS_REJECTED);
        CHECK(is || (w->errors && r->u.group.reason == GROUPS_REWARD) ||
              (w->drop && r->u.group.reason == GROUPS_STALE));
        trained += is;
    }
    CHECK_INT(trained, w->steps * w->groups);
    runlog_scan_close(&s);
    check_weights(w, l);
    runlog_close(&l);
    mem_free(dir);
}

static void run_to_end(struct world *w) {
    while (!w->finished)
        turn(w);
    CHECK_INT(command(w, 'T'), err_exit_code(ERR_STOPPED));
    check_metrics(w);
    check_log(w);
    close_world(w);
}

TEST(manager_runs_to_the_end) {
    struct world *w = open_world(6, 2, 3, 2, "");
    CHECK_INT(command(w, 'S'), 0);
    run_to_end(w);
}

TEST(manager_on_policy_is_in_order) {
    struct world *w = open_world(6, 3, 2, 0, "");
    CHECK_INT(command(w, 'S'), 0);
    run_to_end(w);
}

TEST(manager_rejects_reward_errors) {
    struct world *w = open_world(6, 2, 2, 1, "");
    w->errors = true;
    CHECK_INT(command(w, 'S'), 0);
    run_to_end(w);
}

/* No reward at all: the run ends and says which verifier it was. */
TEST(manager_gives_up_when_every_reward_fails) {
    struct world *w = open_world(6, 2, 2, 1, "");
    w->hopeless = true;
    CHECK_INT(command(w, 'S'), 0);
    for (int i = 0; i < 5000 && !stderr_has(w, "manager ended"); i++)
        turn(w);
    CHECK_INT(command(w, 'W'), err_exit_code(ERR_CONFIG));
    CHECK(stderr_has(w, "32 groups in a row were rejected and none finished"));
    CHECK(stderr_has(w, "reward error TIMEOUT: too slow"));
    close_world(w);
}

TEST(manager_drops_late_groups) {
    struct world *w = open_world(8, 1, 2, 1, ", late: drop");
    w->drop = true;
    CHECK_INT(command(w, 'S'), 0);
    run_to_end(w);
}

/* Everything here is well formed or plain garbage, and all of it is wrong. */
static void attack(struct world *w, struct peer *p, int i) {
    Weir__WorkRequest q = WEIR__WORK_REQUEST__INIT;
    Weir__BatchRequest b = WEIR__BATCH_REQUEST__INIT;
    Weir__StepDone d = WEIR__STEP_DONE__INIT;
    Weir__ScoreReply s = WEIR__SCORE_REPLY__INIT;
    Weir__ScoreRecord score = WEIR__SCORE_RECORD__INIT, *scores = &score;
    Weir__EvalDone e = WEIR__EVAL_DONE__INIT;
    Weir__Heartbeat h = WEIR__HEARTBEAT__INIT;
    uint8_t zero[16] = {0};
    struct wire_frame text = {"[1", 2};
    struct net_part junk[3] = {{"WEIRjunkjunkjunkjunkjunkjunkjunkjunk", 32}, {"x", 1}, {"", 0}};
    q.version = INT64_MAX;
    q.trajectories = 60000;
    b.step = INT64_MAX;
    d.step = INT64_MAX - 1;
    d.hash_before = d.hash_after = (ProtobufCBinaryData){16, zero};
    score.trajectory = below(w, 12);
    s.n_items = 1;
    s.items = &scores;
    h.incarnation = p->incarnation;
    h.version = INT64_MAX;
    p->n = 0; /* streams for trajectories of others */
    for (uint64_t k = 0; k < 4; k++)
        p->seq[p->n++] = (struct seq){.id = below(w, 1u << (1 + k * 8)), .n = 1, .acked = 0};
    switch (i % 40 == 39 ? 7 : i % 7) {
    case 0: hello(p); break;
    case 1: send_msg(p, WIRE_WORK_REQUEST, &q, NULL, 0); break;
    case 2: stream(w, p); break;
    case 3: send_msg(p, WIRE_STEP_DONE, &d, &text, 1); break;
    case 4: send_msg(p, WIRE_SCORE_REPLY, &s, NULL, 0); break;
    case 5: send_msg(p, WIRE_EVAL_DONE, &e, &text, 1); break;
    case 6: send_msg(p, WIRE_HEARTBEAT, &h, NULL, 0); break;
    case 7: send_msg(p, WIRE_BATCH_REQUEST, &b, NULL, 0); break;
    }
    err_ignore(net_send(p->sock, NULL, junk, 1 + below(w, 3)), "garbage");
    struct link_msg msg;
    while (link_recv(p->sock, &msg, NULL) == 0)
        link_free(&msg);
}

/* Reports of steps, and what their weights are, from somebody who calls himself a trainer. */
static void pretend(struct peer *p, int i) {
    Weir__BatchRequest b = WEIR__BATCH_REQUEST__INIT;
    Weir__StepDone d = WEIR__STEP_DONE__INIT;
    uint8_t zero[16] = {0};
    struct wire_frame text = {"{}", 2};
    d.step = b.step = i % 6;
    d.hash_before = d.hash_after = b.hash = (ProtobufCBinaryData){16, zero};
    if (i % 8 == 0) hello(p);
    send_msg(p, WIRE_STEP_DONE, &d, &text, 1);
    send_msg(p, WIRE_BATCH_REQUEST, &b, NULL, 0);
    struct link_msg msg;
    while (link_recv(p->sock, &msg, NULL) == 0)
        link_free(&msg);
}

TEST(manager_outlives_hostile_peers) {
    struct world *w = open_world(6, 2, 3, 2, "");
    struct peer evil = {.n = 0}, liar = {.n = 0};
    open_peer(w, &evil, "rollout", "evil");
    open_peer(w, &liar, "trainer", "liar");
    CHECK_INT(command(w, 'S'), 0);
    for (int i = 0; !w->finished; i++) {
        attack(w, &evil, i);
        pretend(&liar, i);
        turn(w);
    }
    run_to_end(w);
}

/* Every row of the table that the status writes is in it, by its name or the last word of it. */
static void check_status_rows(const char *status) {
    for (size_t i = 0; i < METRICS_N; i++) {
        const struct metrics_row *r = metrics_row((enum metric)i);
        const char *last = strrchr(r->name, '/'), *word = last ? last + 1 : r->name;
        char *key = mem_printf("%s\":", i == METRIC_REJECTED_REASON ? "stale" : word);
        if (r->who & METRICS_STATUS && !strstr(status, key))
            test_fail(__FILE__, __LINE__, "the status has no %s", r->name);
        mem_free(key);
    }
}

static bool take_status(const struct wire_msg *msg) {
    struct json_doc *doc = NULL;
    const char *text = ((const Weir__Status *)msg->body)->json;
    CHECK_OK(json_parse(&doc, text, strlen(text), "status"));
    const struct json *o = json_root(doc);
    CHECK(json_num(json_get(o, "step"), -1) == 0 && json_num(json_get(o, "steps"), -1) == 2);
    CHECK(json_len(json_get(o, "waiting_for")) > 0);
    CHECK(json_get(o, "staleness") && json_get(o, "clients"));
    check_status_rows(text);
    json_close(&doc);
    return true;
}

static void send_eval(struct peer *p) {
    static const char report[] = "{\"eval/version\": 0,\n \"eval/accuracy\": 0.25}";
    struct wire_frame f = {report, sizeof report - 1};
    Weir__EvalDone e = WEIR__EVAL_DONE__INIT;
    send_msg(p, WIRE_EVAL_DONE, &e, &f, 1);
}

/* Evaluations are for those who said hello, the status is for everybody. */
TEST(manager_status_and_evaluations) {
    struct world *w = open_world(2, 1, 2, 1, "");
    struct peer p = {.n = 0};
    struct link_msg msg;
    int acks = 0, welcomes = 0;
    bool status = false;
    open_peer(w, &p, "eval", "eval");
    CHECK_INT(command(w, 'S'), 0);
    send_eval(&p);
    hello(&p);
    for (int i = 0; i < 2; i++) /* the second one changes nothing */
        send_eval(&p);
    Weir__StatusRequest q = WEIR__STATUS_REQUEST__INIT;
    send_msg(&p, WIRE_STATUS_REQUEST, &q, NULL, 0);
    while (!status) {
        bool stop = false;
        CHECK_OK(net_wait(w->net, 10000, NULL, 0, &stop));
        while (link_recv(p.sock, &msg, NULL) == 0) {
            welcomes += msg.wire.type == WIRE_WELCOME;
            acks += msg.wire.type == WIRE_STEP_ACK;
            if (msg.wire.type == WIRE_STATUS) status = take_status(&msg.wire);
            link_free(&msg);
        }
    }
    CHECK(welcomes == 1 && acks == 2);
    CHECK(stderr_has(w, "peer=eval EvalDone: refused: it has not said hello"));
    command(w, 'K');
    CHECK_INT(command(w, 'S'), 0); /* the file is written anew */
    while (!w->finished)
        turn(w);
    CHECK_INT(command(w, 'T'), err_exit_code(ERR_STOPPED));
    char *path = file_join(w->dir, "metrics.jsonl"), *text = NULL;
    size_t bytes = 0;
    CHECK_OK(file_read(&text, &bytes, path, 1 << 20));
    CHECK(strncmp(text, "{\"eval/version\"", 15) == 0);
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    CHECK_INT(lines, 3);
    mem_free(text);
    mem_free(path);
    close_world(w);
}

/* Another recipe, or another data set, is not this run. */
static void kill_often(struct world *w) {
    w->deaths = true;
    CHECK_INT(command(w, 'S'), 0);
    for (int kills = 0; !w->finished && kills < 10; kills++) {
        for (uint64_t i = 20 + below(w, 200); i > 0 && !w->finished; i--)
            turn(w);
        if (w->finished) break;
        command(w, 'K');
        for (uint64_t i = below(w, 20); i > 0; i--)
            turn(w);
        CHECK_INT(command(w, 'S'), 0);
    }
    run_to_end(w);
}

TEST_TIMEOUT(manager_survives_kill_9, 120) {
    struct world *w = open_world(24, 2, 2, 2, "");
    w->errors = true;
    kill_often(w);
}

TEST_TIMEOUT(manager_survives_kill_9_on_policy, 120) {
    kill_often(open_world(24, 2, 2, 0, ""));
}
