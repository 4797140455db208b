/* push.c - see push.h. The trainer must never wait for anybody: publishing is a copy into shared
 * memory, a seal and one small message. Whether the relay got it is found out later, in push_tick:
 * an offer is repeated until it is answered, and the newest one is repeated for ever at a slow
 * pace, which is how a new incarnation of the relay is noticed and gets the versions again. */
#include "relay/push.h"

#include "base/log.h"
#include "base/mem.h"
#include "proto/link.h"
#include "proto/weights.pb-c.h"
#include "relay/sealed.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum {
    PUSH_KEPT = 2,
    PUSH_MSG_BYTES = 1 << 16,
    PUSH_REPEAT_US = 200 * 1000, /* an offer without an answer is made again */
    PUSH_CHECK_US = 500 * 1000   /* the newest one is offered again to see who answers */
};

struct kept {
    int64_t version;
    struct hash hash;
    size_t bytes;
    int fd;
    bool taken;
    uint64_t offered_us; /* 0: not yet */
};

struct push {
    struct net_sock *sock;
    struct kept kept[PUSH_KEPT]; /* ascending */
    size_t n;
    int fd; /* of the area being filled, -1 */
    void *area;
    size_t bytes;
    uint64_t relay; /* its incarnation, 0: never heard */
    uint64_t now_us;
};

int push_open(struct push **out, struct net *net, const char *relay_endpoint, const char *name) {
    struct push *p = mem_zalloc(sizeof *p);
    p->fd = -1;
    int rc = net_connect(&p->sock, net, relay_endpoint, name, PUSH_MSG_BYTES);
    if (rc < 0) {
        mem_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void push_close(struct push **p) {
    struct push *s = *p;
    if (!s) return;
    net_sock_close(&s->sock);
    if (s->fd >= 0) {
        sealed_unmap(s->area, s->bytes);
        close(s->fd);
    }
    for (size_t i = 0; i < s->n; i++)
        close(s->kept[i].fd);
    mem_free(s);
    *p = NULL;
}

int push_begin(struct push *p, size_t bytes, void **area) {
    ASSERT(p->fd < 0);
    TRY(sealed_create(&p->fd, &p->area, bytes));
    p->bytes = bytes;
    *area = p->area;
    return 0;
}

static int offer(struct push *p, struct kept *k) {
    Weir__Offer o = WEIR__OFFER__INIT;
    uint8_t hash[16];
    sealed_hash_put(hash, k->hash);
    o.version = k->version;
    o.hash = (ProtobufCBinaryData){sizeof hash, hash};
    o.bytes = k->bytes;
    o.pid = getpid();
    o.fd = k->fd;
    int rc = link_send(p->sock, NULL, WIRE_OFFER, &o, NULL, 0, 0);
    if (rc == ERR_AGAIN) return 0; /* nobody reads: push_tick tries again */
    TRY(rc);
    k->offered_us = p->now_us;
    return 0;
}

int push_publish(struct push *p, int64_t version, const struct hash *hash) {
    ASSERT(p->fd >= 0);
    ASSERT(p->n == 0 || version > p->kept[p->n - 1].version);
    struct kept k = {.version = version, .bytes = p->bytes, .fd = p->fd};
    k.hash = hash ? *hash : hash_bytes(p->area, p->bytes);
    p->fd = -1;
    int rc = sealed_finish(k.fd, p->area, p->bytes);
    if (rc < 0) {
        close(k.fd);
        return rc;
    }
    if (p->n == PUSH_KEPT) {
        close(p->kept[0].fd);
        memmove(&p->kept[0], &p->kept[1], (PUSH_KEPT - 1) * sizeof k);
        p->n--;
    }
    p->kept[p->n++] = k;
    return offer(p, &p->kept[p->n - 1]);
}

/* The relay refused: its words are logged; a version with two contents is final. */
static int refused(const Weir__Offered *a) {
    if (a->error == ERR_MISMATCH) return FAIL(ERR_MISMATCH, "relay: %s", a->reason);
    LOG(WARN, RELAY, "the relay refused version=%" PRId64 ": %s", a->version, a->reason);
    return 0;
}

static int on_offered(struct push *p, const Weir__Offered *a) {
    if (a->incarnation != p->relay) {
        for (size_t i = 0; i < p->n; i++) { /* a new relay holds nothing */
            p->kept[i].taken = false;
            p->kept[i].offered_us = 0;
        }
        p->relay = a->incarnation;
    }
    for (size_t i = 0; i < p->n; i++)
        if (p->kept[i].version == a->version) {
            if (a->error < 0) return refused(a);
            p->kept[i].taken = true;
            p->kept[i].offered_us = p->now_us;
        }
    return 0;
}

static int read_answers(struct push *p) {
    for (;;) {
        struct link_msg m;
        int rc = link_recv(p->sock, &m, NULL);
        if (rc == ERR_AGAIN) return 0;
        if (rc == ERR_CORRUPT) {
            LOG(WARN, RELAY, "dropped a message of the relay: %s", err_text());
            continue;
        }
        TRY(rc);
        if (m.wire.type == WIRE_OFFERED) rc = on_offered(p, m.wire.body);
        link_free(&m);
        TRY(rc);
    }
}

int push_tick(struct push *p, uint64_t now_us) {
    p->now_us = now_us;
    TRY(read_answers(p));
    for (size_t i = 0; i < p->n; i++) {
        struct kept *k = &p->kept[i];
        bool newest = i + 1 == p->n;
        uint64_t wait = k->taken ? PUSH_CHECK_US : PUSH_REPEAT_US;
        if (k->taken && !newest) continue;
        if (k->offered_us == 0 || now_us >= k->offered_us + wait) TRY(offer(p, k));
    }
    return 0;
}

int64_t push_taken(const struct push *p) {
    for (size_t i = p->n; i-- > 0;)
        if (p->kept[i].taken) return p->kept[i].version;
    return -1;
}
