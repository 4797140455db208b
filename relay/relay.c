/* relay.c - see relay.h. The service is a loop around the store: offers come from the trainer,
 * pulls from readers, each is answered at once. A new version is told to all living readers without
 * being asked; they ask now and then all the same, which also shows that they live.
 *
 * Deployment: the relay keeps nothing on disk and has no identity besides its incarnation. After a
 * crash a new one starts empty and the trainer offers its newest versions again as soon as it sees
 * another incarnation; readers go on with what they have mapped. So any exit may be restarted,
 * except ERR_CONFIG, ERR_CORRUPT, ERR_MISMATCH and ERR_IO, which a restart would not cure. */
#include "relay/relay.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/client.h"
#include "proto/link.h"
#include "proto/weights.pb-c.h"
#include "relay/sealed.h"
#include "relay/store.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { RELAY_MSG_BYTES = 1 << 16, RELAY_IDLE_US = 1000 * 1000 };

struct relay {
    struct net *net;
    struct net_sock *sock;
    struct store *store;
    uint64_t incarnation;
};

/* A peer that went away or does not read gets no answer; it will ask again. */
static int answer(struct relay *r, const struct net_id *to, enum wire_type type, const void *body,
                  uint64_t trace) {
    int rc = link_send(r->sock, to, type, body, NULL, 0, trace);
    return rc == ERR_AGAIN ? 0 : rc;
}

static int tell(struct relay *r, const struct net_id *to, const struct store_version *v,
                uint64_t trace) {
    Weir__Version a = WEIR__VERSION__INIT;
    uint8_t hash[16];
    a.version = -1;
    a.fd = -1;
    a.pid = getpid();
    a.incarnation = r->incarnation;
    if (v) {
        hash_put(hash, v->hash);
        a.version = v->version;
        a.hash = (ProtobufCBinaryData){sizeof hash, hash};
        a.bytes = v->file.bytes;
        a.fd = v->file.fd;
    }
    return answer(r, to, WIRE_VERSION, &a, trace);
}

/* A reader's name is its socket's; one that is not there is passed over. */
static int tell_all(struct relay *r) {
    const char *name;
    for (size_t at = 0; (name = store_next_reader(r->store, &at));) {
        struct net_id to = {.n = (uint8_t)strlen(name)};
        memcpy(to.bytes, name, to.n);
        TRY(tell(r, &to, store_find(r->store, -1), 0));
    }
    return 0;
}

static int on_offer(struct relay *r, const struct net_id *from, const struct link_msg *m) {
    const Weir__Offer *o = m->wire.body;
    Weir__Offered a = WEIR__OFFERED__INIT;
    const struct store_version *newest = store_find(r->store, -1);
    bool known = store_find(r->store, o->version) != NULL;
    bool news = !newest || o->version > newest->version;
    uint64_t start = clock_us();
    int rc =
        store_offer(r->store, o->version, hash_get(o->hash.data), (size_t)o->bytes, o->pid, o->fd);
    if (rc == 0 && news) TRY(tell_all(r));
    if (rc == ERR_NOTFOUND)
        LOG_LIMITED(INFO, RELAY, "version=%" PRId64 " came and went: %s", o->version, err_text());
    else if (rc < 0)
        LOG_LIMITED(WARN, RELAY, "refused version=%" PRId64 ": %s", o->version, err_text());
    else if (!known)
        LOG(INFO, RELAY, "version=%" PRId64 " bytes=%" PRIu64 " verified_ms=%" PRIu64, o->version,
            o->bytes, (clock_us() - start) / 1000);
    char *reason = mem_strdup(rc < 0 ? err_text() : "");
    a.version = o->version;
    a.error = rc;
    a.reason = reason;
    a.incarnation = r->incarnation;
    rc = answer(r, from, WIRE_OFFERED, &a, m->wire.trace);
    mem_free(reason);
    store_tidy(r->store);
    return rc;
}

static int on_pull(struct relay *r, const struct net_id *from, const struct link_msg *m) {
    const Weir__Pull *p = m->wire.body;
    store_reader(r->store, p->name, p->held, clock_us());
    return tell(r, from, store_find(r->store, p->version), m->wire.trace);
}

/* Reads until nothing is there. A malformed message is logged and dropped: its sender asks again.
 */
static int drain(struct relay *r) {
    for (;;) {
        struct link_msg m;
        struct net_id from;
        int rc = link_recv(r->sock, &m, &from);
        if (rc == ERR_AGAIN) return 0;
        if (rc == ERR_CORRUPT) {
            LOG_LIMITED(WARN, RELAY, "dropped a message: %s", err_text());
            continue;
        }
        TRY(rc);
        if (m.wire.type == WIRE_OFFER)
            rc = on_offer(r, &from, &m);
        else if (m.wire.type == WIRE_PULL)
            rc = on_pull(r, &from, &m);
        else
            LOG_LIMITED(WARN, RELAY, "dropped a message of type %s", wire_type_name(m.wire.type));
        link_free(&m);
        TRY(rc);
    }
}

static int serve(struct relay *r, const char *run_dir) {
    int rc = 0;
    bool stop = false;
    char *endpoint = NULL;
    TRY_OUT(net_open(&r->net));
    TRY_OUT(net_endpoint(&endpoint, r->net, run_dir, "relay"));
    TRY_OUT(net_serve(&r->sock, r->net, endpoint, RELAY_MSG_BYTES));
    while (!stop) {
        TRY_OUT(net_wait(r->net, RELAY_IDLE_US, NULL, 0, &stop));
        TRY_OUT(drain(r));
    }
    rc = net_stopped();
out:
    mem_free(endpoint);
    return rc;
}

int relay_service(const char *run_dir) {
    struct relay r = {.store = store_open(), .incarnation = client_incarnation()};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int rc = serve(&r, run_dir);
    if (rc < 0 && rc != ERR_STOPPED)
        LOG(ERROR, RELAY, "relay ends: %s (%s)", err_text(), err_name(rc));
    store_close(&r.store);
    net_close(&r.net);
    return rc;
}
