/* sim_model.c - the models of the reward service and of the trainer. The trainer checks what it
 * gets: I1 (tokens and log-probs are those of their versions), I2, I3, and that a batch is the same
 * one when it is asked for again. */
#include "tests/sim/sim_model.h"

#include "base/mem.h"
#include "proto/client.h"
#include "proto/control.pb-c.h"
#include "proto/reward.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory_wire.h"
#include "tests/sim/sim_token.h"
#include "tests/test.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { BEAT_US = 100000, AGAIN_US = 1000000, SCORES_MAX = 1024 };

struct score {
    uint64_t id, at_us;
};

struct sim_peer {
    struct sim_facts *facts;
    const struct env *env;
    struct client *client;
    bool trainer;
    /* the reward service */
    struct score score[SCORES_MAX];
    size_t n_scores;
    /* the trainer */
    int64_t *checkpoint, version;
    uint64_t said_us, busy_until_us; /* said_us: the request or report that waits for an answer */
    enum { ASKS, TRAINS, REPORTS } state;
    struct hash after;
};

void sim_wrong(struct sim_facts *f, const char *fmt, ...) {
    va_list ap;
    if (f->wrong) return;
    va_start(ap, fmt);
    vsnprintf(f->words, sizeof f->words, fmt, ap);
    va_end(ap);
    f->wrong = f->words;
}

static struct sim_peer *open_peer(struct sim_facts *f, const struct env *env, const char *name) {
    struct sim_peer *p = mem_zalloc(sizeof *p);
    struct client_config cfg = {.run_dir = f->dir,
                                .service = name,
                                .name = name,
                                .heartbeat_us = BEAT_US,
                                .msg_bytes_max = 1 << 24};
    p->facts = f;
    p->env = env;
    CHECK_OK(client_open(&p->client, env, &cfg));
    return p;
}

void sim_peer_close(struct sim_peer **p) {
    if (!*p) return;
    client_close(&(*p)->client);
    mem_free(*p);
    *p = NULL;
}

static void speak(struct sim_peer *p, uint64_t now_us) {
    Weir__Heartbeat beat = WEIR__HEARTBEAT__INIT;
    if (client_hello_due(p->client, now_us))
        CHECK_OK(client_hello(p->client, now_us, p->version, NULL, NULL, 0));
    if (client_beat_due(p->client, now_us)) CHECK_OK(client_beat(p->client, now_us, &beat));
}

static bool say(struct sim_peer *p, enum wire_type type, const void *body,
                const struct wire_frame *frames, size_t n) {
    int rc = client_send(p->client, type, body, frames, n);
    if (rc != ERR_AGAIN) CHECK_OK(rc);
    return rc == 0;
}

/* --- the reward service -------------------------------------------------------------------- */

struct sim_peer *sim_reward_open(struct sim_facts *f, const struct env *env) {
    return open_peer(f, env, "reward");
}

static void take_request(struct sim_peer *p, const Weir__ScoreRequest *q, uint64_t now_us) {
    for (size_t i = 0; i < q->n_items && p->n_scores < SCORES_MAX; i++)
        p->score[p->n_scores++] = (struct score){
            q->items[i]->trajectory, now_us + 500 + sim_net_below(p->facts->net, 30000)};
}

/* One in 150 trajectories fails, whoever scores it; one in 80 is refused for now. */
static bool send_score(struct sim_peer *p, uint64_t id) {
    Weir__ScoreRecord r = WEIR__SCORE_RECORD__INIT, *list[1] = {&r};
    Weir__ScoreReply m = WEIR__SCORE_REPLY__INIT;
    static char why[] = "by the simulation";
    uint64_t h = hash64(&id, sizeof id, 3);
    r.trajectory = id;
    if (h % 150 == 0) r.error = ERR_TIMEOUT;
    if (sim_net_chance(p->facts->net, 80)) r.error = ERR_AGAIN;
    if (r.error) r.reason = why;
    r.total = r.error ? 0 : (double)(h % 3) / 2;
    m.n_items = 1;
    m.items = list;
    return say(p, WIRE_SCORE_REPLY, &m, NULL, 0);
}

static void send_scores(struct sim_peer *p, uint64_t now_us) {
    for (size_t i = 0; i < p->n_scores; i++) {
        if (p->score[i].at_us > now_us || !send_score(p, p->score[i].id)) continue;
        p->score[i--] = p->score[--p->n_scores];
    }
}

/* --- the trainer --------------------------------------------------------------------------- */

static void publish(struct sim_peer *p, int64_t version, struct hash h) {
    struct sim_facts *f = p->facts;
    if (version <= f->published) {
        if (!hash_equal(f->weights[version], h))
            sim_wrong(f, "version %" PRId64 " was made again with another content", version);
        return;
    }
    f->published = version;
    f->published_us[version] = env_now_us(p->env);
    f->weights[version] = h;
}

struct sim_peer *sim_trainer_open(struct sim_facts *f, const struct env *env, int64_t *checkpoint) {
    struct sim_peer *p = open_peer(f, env, "trainer");
    p->trainer = true;
    p->checkpoint = checkpoint;
    p->version = *checkpoint;
    publish(p, p->version, p->version == 0 ? (struct hash){7, 7} : f->weights[p->version]);
    return p;
}

/* I1, I2, I3 of one trajectory. */
static void check_item(struct sim_facts *f, int64_t step, const struct trajectory *t) {
    uint64_t id = t->id;
    if (id >= SIM_IDS_MAX || t->n_response == 0) {
        sim_wrong(f, "step %" PRId64 ": trajectory %" PRIu64 " cannot be", step, id);
        return;
    }
    for (int32_t i = 0; i < t->n_response; i++) {
        int32_t token = t->response[i];
        float logprob = sim_logprob(token, t->version[i]);
        if (token != sim_token(id, i, t->version[i]) ||
            memcmp(&t->logprob[i], &logprob, sizeof logprob) != 0)
            sim_wrong(f, "I1: step %" PRId64 ", token %d of trajectory %" PRIu64, step, (int)i, id);
        if (t->version[i] < step - f->eta || t->version[i] > step)
            sim_wrong(f, "I2: step %" PRId64 " trains a token of version %" PRId64, step,
                      t->version[i]);
    }
    if (f->trained[id] != 0 && f->trained[id] != (uint64_t)step + 1)
        sim_wrong(f, "I3: trajectory %" PRIu64 " in steps %" PRIu64 " and %" PRId64, id,
                  f->trained[id] - 1, step);
    f->trained[id] = (uint64_t)step + 1;
}

/* The weights after a step are a hash of those before and of all that was trained. */
static struct hash train(struct sim_peer *p, const Weir__Batch *b, const struct wire_msg *m) {
    struct sim_facts *f = p->facts;
    struct trajectory_reader in = trajectory_read(m->frame);
    struct hash h = f->weights[b->step];
    if (b->n_items != (size_t)(f->groups * f->size))
        sim_wrong(f, "step %" PRId64 " has %zu trajectories", b->step, b->n_items);
    for (size_t i = 0; i < b->n_items; i++) {
        struct trajectory t = trajectory_next(&in, b->items[i]);
        check_item(f, b->step, &t);
        uint64_t part[3] = {t.id, (uint64_t)t.n_response, (uint64_t)(t.reward * 2)};
        h.hi = hash64(part, sizeof part, h.hi);
        h.lo = hash64(t.prompt, (size_t)t.n_prompt * sizeof *t.prompt, h.lo);
        h.lo = hash64(t.response, (size_t)t.n_response * sizeof *t.response, h.lo);
    }
    return h;
}

static void take_batch(struct sim_peer *p, const struct wire_msg *m, uint64_t now_us) {
    const Weir__Batch *b = m->body;
    if (p->state != ASKS || b->step != p->version) return; /* asked for twice */
    if (b->done) {
        if (b->step != p->facts->steps) sim_wrong(p->facts, "done at step %" PRId64, b->step);
        p->facts->ended = true;
        return;
    }
    p->after = train(p, b, m);
    if (b->expect_hash.len > 0 && !hash_equal(p->after, hash_get(b->expect_hash.data)))
        sim_wrong(p->facts, "I3: step %" PRId64 " is given out again as another batch", b->step);
    p->state = TRAINS;
    p->busy_until_us = now_us + 1000 + sim_net_below(p->facts->net, 60000);
}

static void take_ack(struct sim_peer *p, const Weir__StepAck *a) {
    if (p->state != REPORTS || a->step != p->version) return;
    p->version++;
    p->state = ASKS;
    p->said_us = 0;
    if (p->version > p->facts->done) p->facts->done = p->version;
    if (sim_net_chance(p->facts->net, 2)) *p->checkpoint = p->version;
}

static void ask(struct sim_peer *p) {
    Weir__BatchRequest q = WEIR__BATCH_REQUEST__INIT;
    uint8_t hash[16];
    hash_put(hash, p->facts->weights[p->version]);
    q.step = p->version;
    q.hash = (ProtobufCBinaryData){sizeof hash, hash};
    say(p, WIRE_BATCH_REQUEST, &q, NULL, 0);
}

static void report(struct sim_peer *p) {
    Weir__StepDone d = WEIR__STEP_DONE__INIT;
    uint8_t before[16], after[16];
    struct wire_frame text = {"{\"reward/mean\": 0.5}", 20};
    hash_put(before, p->facts->weights[p->version]);
    hash_put(after, p->after);
    d.step = p->version;
    d.hash_before = (ProtobufCBinaryData){sizeof before, before};
    d.hash_after = (ProtobufCBinaryData){sizeof after, after};
    say(p, WIRE_STEP_DONE, &d, &text, 1);
}

static void work(struct sim_peer *p, uint64_t now_us) {
    if (p->state == TRAINS && now_us >= p->busy_until_us) {
        publish(p, p->version + 1, p->after);
        p->state = REPORTS;
        p->said_us = 0;
    }
    bool due = p->said_us == 0 || now_us >= p->said_us + AGAIN_US;
    if (p->state == TRAINS || !due || !client_welcome(p->client)) return;
    p->said_us = now_us;
    if (p->state == ASKS)
        ask(p);
    else
        report(p);
}

/* --- both ---------------------------------------------------------------------------------- */

static void take_message(struct sim_peer *p, const struct wire_msg *m, uint64_t now_us) {
    if (m->type == WIRE_WELCOME) p->said_us = 0; /* another manager knows nothing of it */
    if (!p->trainer && m->type == WIRE_SCORE_REQUEST) take_request(p, m->body, now_us);
    if (p->trainer && m->type == WIRE_BATCH) take_batch(p, m, now_us);
    if (p->trainer && m->type == WIRE_STEP_ACK) take_ack(p, m->body);
}

void sim_peer_turn(struct sim_peer *p, uint64_t *wait_us) {
    uint64_t now_us = env_now_us(p->env);
    struct link_msg m;
    int rc;
    while ((rc = client_recv(p->client, now_us, &m)) == 0) {
        take_message(p, &m.wire, now_us);
        link_free(&m);
    }
    if (rc != ERR_AGAIN) CHECK_OK(rc);
    speak(p, now_us);
    if (p->trainer)
        work(p, now_us);
    else
        send_scores(p, now_us);
    *wait_us = 5000;
}
