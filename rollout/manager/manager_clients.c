/* manager_clients.c - who is there. A client is known by its name; its routing id on the socket and
 * its incarnation may change when it comes back. It is alive while it is heard of.
 *
 * A client that was silent for too long loses its leases. It may still be running, though: it was
 * stopped, or a network was. Then it must not ask for work as if nothing had happened, because what
 * it believes to hold may be held by somebody else. So each client is told an incarnation of the
 * manager of its own (the session), and losing the client changes it: the next answer makes it say
 * hello again, list what it has, and be told what to forget. */
#include "base/log.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"
#include "rollout/manager/manager_impl.h"

#include <inttypes.h>
#include <string.h>

struct manager_client *manager_clients_find(struct manager *m, const struct net_id *id) {
    for (size_t i = 0; i < m->n_clients; i++) {
        struct manager_client *c = &m->client[i];
        if (c->used && c->id.n == id->n && memcmp(c->id.bytes, id->bytes, id->n) == 0) return c;
    }
    return NULL;
}

static struct manager_client *find_name(struct manager *m, const char *name) {
    for (size_t i = 0; i < m->n_clients; i++)
        if (m->client[i].used && strcmp(m->client[i].name, name) == 0) return &m->client[i];
    return NULL;
}

/* A slot for a new name: an unused one, or the one of the client that is dead for longest. A dead
 * client holds no lease, so its slot can be anybody's. */
static struct manager_client *new_slot(struct manager *m) {
    struct manager_client *best = NULL;
    if (m->n_clients < MANAGER_CLIENTS_MAX) return &m->client[m->n_clients++];
    for (size_t i = 0; i < m->n_clients; i++) {
        struct manager_client *c = &m->client[i];
        if (!c->alive && (!best || c->heard_us < best->heard_us)) best = c;
    }
    return best;
}

static void send_ack(struct manager *m, const struct net_id *to, uint64_t session) {
    struct groups_counts n = groups_counts(m->groups);
    Weir__HeartbeatAck a = WEIR__HEARTBEAT_ACK__INIT;
    a.incarnation = session;
    a.step = n.done;
    a.done = n.done >= m->recipe->trainer.steps;
    err_ignore(manager_send(m, to, WIRE_HEARTBEAT_ACK, &a, NULL, 0),
               "the client beats again, or is dead");
}

struct manager_client *manager_clients_known(struct manager *m, const struct net_id *from) {
    struct manager_client *c = manager_clients_find(m, from);
    if (c && c->alive) {
        c->heard_us = m->now_us;
        return c;
    }
    send_ack(m, from, c ? c->session : m->incarnation);
    return NULL;
}

void manager_clients_lose(struct manager *m, struct manager_client *c, const char *why) {
    if (!c->alive) return;
    c->alive = false;
    c->credit = 0;
    c->session = m->incarnation + ++m->sessions;
    uint32_t leases = 0;
    if (c->role == MANAGER_ROLLOUT) leases = groups_release(m->groups, (int32_t)(c - m->client));
    if (c->role == MANAGER_REWARD) manager_scores_lost(m);
    m->work_changed = true;
    if (why)
        LOG_LIMITED(WARN, MANAGER, "lost %s: %s; %" PRIu32 " trajectories go to others", c->name,
                    why, leases);
}

/* After the last step the clients are told to end: their silence is no news then. */
void manager_clients_tick(struct manager *m) {
    bool over = groups_counts(m->groups).done >= m->recipe->trainer.steps;
    for (size_t i = 0; i < m->n_clients; i++) {
        struct manager_client *c = &m->client[i];
        bool watched = c->role == MANAGER_ROLLOUT || c->role == MANAGER_REWARD;
        if (c->alive && watched && m->now_us > c->heard_us + m->silent_us)
            manager_clients_lose(m, c, over ? NULL : "silent for too long");
    }
}

struct manager_client *manager_clients_reward(struct manager *m) {
    for (size_t i = 0; i < m->n_clients; i++)
        if (m->client[i].alive && !m->client[i].banned && m->client[i].role == MANAGER_REWARD)
            return &m->client[i];
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

/* What it may keep: unfinished, nobody else's, and continued by nobody else since. */
static int32_t adopt(struct manager *m, struct manager_client *c, uint64_t id, int32_t has) {
    const struct groups_traj *t = groups_traj(m->groups, id);
    if (!t || has < t->received) return -1;
    if (t->received > 0 && manager_prompts_tokens(m, id)->writer != c->writer) return -1;
    return groups_adopt(m->groups, (int32_t)(c - m->client), id);
}

static int send_welcome(struct manager *m, struct manager_client *c, const struct wire_msg *msg) {
    const Weir__Hello *h = msg->body;
    const uint64_t *ids = msg->frame[0].data;
    const int32_t *has = msg->frame[1].data;
    int32_t *keep = mem_array(h->n_running, sizeof *keep);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->n_running; i++) {
        keep[i] = c->role == MANAGER_ROLLOUT && !c->banned ? adopt(m, c, ids[i], has[i]) : -1;
        kept += keep[i] >= 0;
    }
    struct groups_counts n = groups_counts(m->groups);
    Weir__Welcome w = WEIR__WELCOME__INIT;
    w.incarnation = c->session;
    w.seed = m->recipe->seed;
    w.n_running = h->n_running;
    w.step = n.done;
    w.done = n.done >= m->recipe->trainer.steps;
    struct wire_frame frames[2] = {msg->frame[0], {keep, h->n_running * sizeof *keep}};
    int rc = manager_send(m, &c->id, WIRE_WELCOME, &w, frames, 2);
    mem_free(keep);
    LOG_LIMITED(INFO, MANAGER,
                "hello %s service=%s pid=%" PRId64 " version=%" PRId64 " running=%" PRIu32
                " kept=%" PRIu32,
                c->name, c->service, h->pid, h->version, h->n_running, kept);
    if (rc != ERR_AGAIN) return rc;
    manager_clients_lose(m, c, "it does not read");
    return 0;
}

/* A run has one trainer, whose name is its service's: what it says of weights is the truth here, so
 * nobody else may say it beside it. */
static enum manager_role role_of(const char *service, const char *name) {
    if (strcmp(service, "rollout") == 0) return MANAGER_ROLLOUT;
    if (strcmp(service, "reward") == 0) return MANAGER_REWARD;
    if (strcmp(service, "trainer") == 0 && strcmp(name, service) == 0) return MANAGER_TRAINER;
    return strcmp(service, "eval") == 0 ? MANAGER_EVALUATOR : MANAGER_OTHER;
}

int manager_clients_hello(struct manager *m, const struct net_id *from,
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
        return 0;
    }
    /* Whatever it held under its name before counts only as far as it declares it now. */
    if (c->alive) manager_clients_lose(m, c, NULL);
    bool same_name = c->used && strcmp(c->name, h->name) == 0;
    uint32_t offences = same_name ? c->offences : 0;
    uint64_t session = c->used ? c->session : m->incarnation + ++m->sessions;
    *c = (struct manager_client){.used = true,
                                 .alive = true,
                                 .role = role_of(h->service, h->name),
                                 .id = *from,
                                 .incarnation = h->incarnation,
                                 .writer = manager_prompts_writer(h->name),
                                 .heard_us = m->now_us,
                                 .session = session,
                                 .version = h->version,
                                 .offences = offences,
                                 .banned = offences >= MANAGER_OFFENCES_MAX};
    memcpy(c->name, h->name, strlen(h->name) + 1); /* at most 64 bytes: checked */
    memcpy(c->service, h->service, strlen(h->service) + 1);
    manager_progress(m);
    return send_welcome(m, c, msg);
}
