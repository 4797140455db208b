/* client.c - see client.h. Every service has the same three worries: is the manager there, is it
 * still the one that knows me, does it know that I am alive. The answers are two numbers: the
 * incarnation that came with Welcome, and the time of the oldest heartbeat without an answer. A
 * manager that came back says another incarnation in its answer, or says nothing; either way the
 * hello is said again, as often as it takes. */
#include "proto/client.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"

#include <unistd.h>

enum {
    CLIENT_HELLO_US = 500 * 1000, /* a hello without a Welcome is said again */
    CLIENT_SILENT_BEATS = 4,      /* so many heartbeats without an answer: hello again */
    CLIENT_SILENT_MIN_US = 2000000
};

struct client {
    struct net_sock *sock;
    char *service, *name;
    uint64_t heartbeat_us, incarnation;
    uint64_t manager; /* its incarnation; meaningless unless welcome */
    bool welcome, done;
    int64_t step;
    uint64_t hello_us;  /* when hello was said last, 0: never or due at once */
    uint64_t beat_us;   /* when the last heartbeat left */
    uint64_t silent_us; /* when the oldest heartbeat without an answer left, 0: none */
};

uint64_t client_incarnation(void) {
    uint64_t facts[3] = {clock_wall_us(), clock_us(), (uint64_t)getpid()};
    uint64_t h = hash64(facts, sizeof facts, 0);
    return h ? h : 1;
}

int client_open(struct client **out, struct net *net, const struct client_config *cfg) {
    int rc = 0;
    char *endpoint = NULL;
    struct client *c = mem_zalloc(sizeof *c);
    TRY_OUT(net_endpoint(&endpoint, net, cfg->run_dir, "manager"));
    TRY_OUT(net_connect(&c->sock, net, endpoint, cfg->name, cfg->msg_bytes_max));
    c->service = mem_strdup(cfg->service);
    c->name = mem_strdup(cfg->name);
    c->heartbeat_us = cfg->heartbeat_us;
    c->incarnation = client_incarnation();
    *out = c;
    c = NULL;
out:
    mem_free(c);
    mem_free(endpoint);
    return rc;
}

void client_close(struct client **c) {
    if (!*c) return;
    net_sock_close(&(*c)->sock);
    mem_free((*c)->service);
    mem_free((*c)->name);
    mem_free(*c);
    *c = NULL;
}

static bool is_silent(const struct client *c, uint64_t now_us) {
    uint64_t limit = c->heartbeat_us * CLIENT_SILENT_BEATS;
    if (limit < CLIENT_SILENT_MIN_US) limit = CLIENT_SILENT_MIN_US;
    return c->silent_us != 0 && now_us > c->silent_us + limit;
}

bool client_hello_due(const struct client *c, uint64_t now_us) {
    if (c->welcome && !is_silent(c, now_us)) return false;
    return c->hello_us == 0 || now_us >= c->hello_us + CLIENT_HELLO_US;
}

int client_hello(struct client *c, uint64_t now_us, int64_t version, const uint64_t *ids,
                 const int32_t *received, uint32_t n) {
    Weir__Hello h = WEIR__HELLO__INIT;
    struct wire_frame frames[2] = {{ids, n * sizeof *ids}, {received, n * sizeof *received}};
    h.service = c->service;
    h.name = c->name;
    h.incarnation = c->incarnation;
    h.pid = getpid();
    h.version = version;
    h.n_running = n;
    c->welcome = false;
    c->silent_us = 0;
    c->hello_us = now_us;
    int rc = link_send(c->sock, NULL, WIRE_HELLO, &h, frames, 2, 0);
    return rc == ERR_AGAIN ? 0 : rc; /* nobody reads: said again later */
}

bool client_beat_due(const struct client *c, uint64_t now_us) {
    return c->welcome && now_us >= c->beat_us + c->heartbeat_us;
}

int client_beat(struct client *c, uint64_t now_us, Weir__Heartbeat *beat) {
    beat->incarnation = c->incarnation;
    c->beat_us = now_us;
    crash_note(CRASH_VERSION, beat->version);
    if (c->silent_us == 0) c->silent_us = now_us;
    int rc = link_send(c->sock, NULL, WIRE_HEARTBEAT, beat, NULL, 0, 0);
    return rc == ERR_AGAIN ? 0 : rc;
}

/* Answers that were under way before the Welcome say nothing about who welcomed us. */
static void take_heartbeat_ack(struct client *c, const Weir__HeartbeatAck *a) {
    c->silent_us = 0;
    if (!c->welcome) return;
    if (a->incarnation != c->manager) {
        c->welcome = false;
        c->hello_us = 0;
        return;
    }
    c->step = a->step;
    c->done = a->done;
    crash_note(CRASH_STEP, c->step);
}

static void take_welcome(struct client *c, const Weir__Welcome *w, uint64_t now_us) {
    c->manager = w->incarnation;
    c->welcome = true;
    c->step = w->step;
    c->done = w->done;
    crash_note(CRASH_STEP, c->step);
    c->silent_us = 0;
    c->beat_us = now_us;
}

int client_recv(struct client *c, uint64_t now_us, struct link_msg *out) {
    for (;;) {
        struct link_msg m;
        int rc = link_recv(c->sock, &m, NULL);
        if (rc == ERR_CORRUPT) {
            LOG_LIMITED(WARN, NET, "dropped a message of the manager: %s", err_text());
            continue;
        }
        TRY(rc);
        if (m.wire.type == WIRE_HEARTBEAT_ACK) {
            take_heartbeat_ack(c, m.wire.body);
            link_free(&m);
            continue;
        }
        if (m.wire.type == WIRE_WELCOME) take_welcome(c, m.wire.body, now_us);
        *out = m;
        return 0;
    }
}

int client_send(struct client *c, enum wire_type type, const void *body,
                const struct wire_frame *frames, size_t n_frames) {
    return link_send(c->sock, NULL, type, body, frames, n_frames, 0);
}

bool client_welcome(const struct client *c) {
    return c->welcome;
}

bool client_done(const struct client *c) {
    return c->done;
}

int64_t client_step(const struct client *c) {
    return c->step;
}
