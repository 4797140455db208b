/* manager_clients.c - who is there. A client is known by its name; its routing id on the socket and
 * its incarnation may change when it comes back. It is alive while it is heard of.
 *
 * A client that was silent for too long loses its leases. It may still be running, though: it was
 * stopped, or a network was. Then it must not ask for work as if nothing had happened, because what
 * it believes to hold may be held by somebody else. So each client is told an incarnation of the
 * manager of its own (the session), and losing the client changes it: the next answer makes it say
 * hello again, list what it has, and be told what to forget. */
#include "rollout/manager/manager_clients.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"
#include "rollout/manager/manager_outbox.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { SILENT_BEATS = 5 /* missed heartbeats until a client is dead */ };

struct manager_clients {
    struct manager_client *client; /* [MANAGER_CLIENTS_MAX] */
    size_t n;                      /* slots ever used */
    uint64_t incarnation, silent_us;
    uint32_t sessions;
};

void manager_clients_open(struct manager *m) {
    struct manager_clients *k = m->clients = mem_zalloc(sizeof *k);
    uint64_t start[2] = {clock_wall_us(), (uint64_t)getpid()};
    k->client = mem_array(MANAGER_CLIENTS_MAX, sizeof *k->client);
    /* Leaves room below for sessions, which count up from it. */
    k->incarnation = hash64(start, sizeof start, 0) >> 16 << 16;
    k->silent_us = (uint64_t)m->recipe->rollout.heartbeat_ms * 1000 * SILENT_BEATS;
}

void manager_clients_close(struct manager *m) {
    if (!m->clients) return;
    mem_free(m->clients->client);
    mem_free(m->clients);
}

static uint64_t new_session(struct manager *m) {
    return m->clients->incarnation + ++m->clients->sessions;
}

struct manager_client *manager_clients_at(const struct manager *m, size_t i) {
    return i < m->clients->n ? &m->clients->client[i] : NULL;
}

int32_t manager_clients_number(const struct manager *m, const struct manager_client *c) {
    return (int32_t)(c - m->clients->client);
}

uint64_t manager_clients_writer(const char *name) {
    return hash64(name, strlen(name), 0);
}

const char *manager_clients_name(const struct manager *m, uint64_t writer) {
    const struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        if (c->used && c->writer == writer) return c->name;
    return "";
}

struct manager_client *manager_clients_find(struct manager *m, const struct net_id *id) {
    struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++) {
        if (c->used && c->id.n == id->n && memcmp(c->id.bytes, id->bytes, id->n) == 0) return c;
    }
    return NULL;
}

static struct manager_client *find_name(struct manager *m, const char *name) {
    struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        if (c->used && strcmp(c->name, name) == 0) return c;
    return NULL;
}

/* A slot for a new name: an unused one, or the one of the client that is dead for longest. A dead
 * client holds no lease, so its slot can be anybody's. */
static struct manager_client *new_slot(struct manager *m) {
    struct manager_client *best = NULL, *c;
    if (m->clients->n < MANAGER_CLIENTS_MAX) return &m->clients->client[m->clients->n++];
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        if (!c->alive && (!best || c->heard_us < best->heard_us)) best = c;
    return best;
}

static void send_ack(struct manager *m, const struct net_id *to, uint64_t session) {
    struct groups_counts n = groups_counts(m->groups);
    Weir__HeartbeatAck a = WEIR__HEARTBEAT_ACK__INIT;
    a.incarnation = session;
    a.step = n.done;
    crash_note(CRASH_STEP, n.done);
    a.done = n.done >= m->recipe->trainer.steps;
    err_ignore(manager_outbox_say(m, to, WIRE_HEARTBEAT_ACK, &a, NULL, 0),
               "the client beats again, or is dead");
}

struct manager_client *manager_clients_known(struct manager *m, const struct net_id *from) {
    struct manager_client *c = manager_clients_find(m, from);
    if (c && c->alive) {
        c->heard_us = m->now_us;
        return c;
    }
    send_ack(m, from, c ? c->session : m->clients->incarnation);
    return NULL;
}

void manager_clients_lose(struct manager *m, struct manager_client *c, const char *why) {
    if (!c->alive) return;
    c->alive = false;
    c->credit = 0;
    c->session = new_session(m);
    uint32_t leases = 0;
    if (c->role == MANAGER_ROLLOUT)
        leases = groups_release(m->groups, manager_clients_number(m, c));
    m->work_changed = true;
    if (why)
        LOG_LIMITED(WARN, MANAGER, "lost %s: %s; %" PRIu32 " trajectories go to others", c->name,
                    why, leases);
}

int manager_clients_send(struct manager *m, struct manager_client *c, enum wire_type type,
                         const void *body, const struct wire_frame *frames, size_t n) {
    int rc = manager_outbox_send_now(m, &c->id, type, body, frames, n);
    if (rc != ERR_AGAIN) return rc;
    manager_clients_lose(m, c, "it does not read");
    return 0;
}

void manager_clients_deaf(struct manager *m) {
    struct net_id id;
    while (manager_outbox_deaf(m, &id)) {
        struct manager_client *c = manager_clients_find(m, &id);
        if (c) manager_clients_lose(m, c, "it does not read");
    }
}

/* After the last step the clients are told to end: their silence is no news then. */
void manager_clients_tick(struct manager *m) {
    bool over = groups_counts(m->groups).done >= m->recipe->trainer.steps;
    struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++) {
        bool watched = c->role == MANAGER_ROLLOUT || c->role == MANAGER_REWARD;
        if (c->alive && watched && m->now_us > c->heard_us + m->clients->silent_us)
            manager_clients_lose(m, c, over ? NULL : "silent for too long");
    }
}

struct manager_client *manager_clients_reward(struct manager *m) {
    struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        if (c->alive && !c->banned && c->role == MANAGER_REWARD) return c;
    return NULL;
}

void manager_clients_heartbeat(struct manager *m, const struct net_id *from,
                               const struct wire_msg *msg) {
    const Weir__Heartbeat *h = msg->body;
    struct manager_client *c = manager_clients_known(m, from);
    if (!c) return;
    if (c->incarnation != h->incarnation) { /* restarted behind our back */
        manager_clients_lose(m, c, "it restarted");
        send_ack(m, from, c->session);
        return;
    }
    if (c->beat_us > 0 && m->now_us > c->beat_us && h->tokens >= c->tokens) {
        double rate = (double)(h->tokens - c->tokens) * 1e6 / (double)(m->now_us - c->beat_us);
        c->tokens_per_s = c->tokens_per_s > 0 ? 0.7 * c->tokens_per_s + 0.3 * rate : rate;
    }
    c->beat_us = m->now_us;
    c->version = h->version;
    c->running = h->running;
    c->kv_used = h->kv_used;
    c->kv_total = h->kv_total;
    c->tokens = h->tokens;
    c->busy = h->busy;
    send_ack(m, from, c->session);
}

/* A run has one trainer, whose name is its service's: what it says of weights is the truth here, so
 * nobody else may say it beside it. */
static enum manager_role role_of(const char *service, const char *name) {
    if (strcmp(service, "rollout") == 0) return MANAGER_ROLLOUT;
    if (strcmp(service, "reward") == 0) return MANAGER_REWARD;
    if (strcmp(service, "trainer") == 0 && strcmp(name, service) == 0) return MANAGER_TRAINER;
    return strcmp(service, "eval") == 0 ? MANAGER_EVALUATOR : MANAGER_OTHER;
}

struct manager_client *manager_clients_hello(struct manager *m, const struct net_id *from,
                                             const struct wire_msg *msg) {
    const Weir__Hello *h = msg->body;
    struct manager_client *c = find_name(m, h->name), *same_id = manager_clients_find(m, from);
    if (same_id && same_id != c) { /* the socket speaks for another name now */
        manager_clients_lose(m, same_id, "its socket has another name");
        same_id->id.n = 0;
    }
    if (!c) c = new_slot(m);
    if (!c) {
        manager_warn(m, from, "hello refused", "too many clients");
        return NULL;
    }
    /* Whatever it held under its name before counts only as far as it declares it now. */
    if (c->alive) manager_clients_lose(m, c, NULL);
    bool same_name = c->used && strcmp(c->name, h->name) == 0;
    uint32_t offences = same_name ? c->offences : 0;
    bool banned = same_name && c->banned;
    uint64_t session = c->used ? c->session : new_session(m);
    *c = (struct manager_client){.used = true,
                                 .alive = true,
                                 .role = role_of(h->service, h->name),
                                 .id = *from,
                                 .incarnation = h->incarnation,
                                 .writer = manager_clients_writer(h->name),
                                 .heard_us = m->now_us,
                                 .session = session,
                                 .version = h->version,
                                 .offences = offences,
                                 .banned = banned};
    memcpy(c->name, h->name, strlen(h->name) + 1); /* at most 64 bytes: checked */
    memcpy(c->service, h->service, strlen(h->service) + 1);
    manager_progress(m);
    return c;
}
