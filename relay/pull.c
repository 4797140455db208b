/* pull.c - see pull.h. One question is outstanding at a time; its number travels as the message's
 * trace and comes back with the answer, so a late answer to an older question is not mistaken for
 * the current one's. A new version is told without a question, as number 0; questions are what is
 * left for a message that was lost and a relay that is new. What an answer says is a place, not a
 * promise: the relay may be gone when the reader gets there. Only sealed_open decides whether there
 * is a version (I4). */
#include "relay/pull.h"

#include "base/log.h"
#include "base/mem.h"
#include "proto/link.h"
#include "proto/weights.pb-c.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

enum {
    PULL_MSG_BYTES = 1 << 16,
    PULL_EVERY_US = 200 * 1000,  /* between an answer and the next question */
    PULL_REPEAT_US = 200 * 1000, /* a question without an answer is asked again */
    PULL_MAPPED_MAX = 4
};

struct place { /* where a version was said to be; version -1: nowhere */
    int64_t version;
    struct hash hash;
    size_t bytes;
    int64_t pid;
    int32_t fd;
};

struct pull {
    struct net_sock *sock;
    char *name;
    uint64_t trace, asked_us, answered_us;
    bool waiting;  /* for the answer to question `trace` */
    int64_t told;  /* what the last question said is held */
    int64_t asked; /* what it was about: -1 the newest */
    struct place newest;
    bool heard;      /* the newest is known, be it "nothing" */
    int64_t want;    /* an exact version that the caller asked for, -1 */
    bool want_known; /* ... and `exact` is the answer */
    struct place exact;
    int64_t mapped[PULL_MAPPED_MAX];
    size_t n_mapped;
};

int pull_open(struct pull **out, struct net *net, const char *relay_endpoint, const char *name) {
    struct pull *p = mem_zalloc(sizeof *p);
    p->newest.version = p->want = p->told = -1;
    int rc = net_connect(&p->sock, net, relay_endpoint, name, PULL_MSG_BYTES);
    if (rc < 0) {
        mem_free(p);
        return rc;
    }
    p->name = mem_strdup(name);
    *out = p;
    return 0;
}

void pull_close(struct pull **p) {
    if (!*p) return;
    net_sock_close(&(*p)->sock);
    mem_free((*p)->name);
    mem_free(*p);
    *p = NULL;
}

static int64_t newest_mapped(const struct pull *p) {
    int64_t v = -1;
    for (size_t i = 0; i < p->n_mapped; i++)
        if (p->mapped[i] > v) v = p->mapped[i];
    return v;
}

static int ask(struct pull *p, uint64_t now_us) {
    Weir__Pull m = WEIR__PULL__INIT;
    m.version = p->want >= 0 && !p->want_known ? p->want : -1;
    m.held = newest_mapped(p);
    m.name = p->name;
    int rc = link_send(p->sock, NULL, WIRE_PULL, &m, NULL, 0, p->trace + 1);
    if (rc == ERR_AGAIN) return 0;
    TRY(rc);
    p->trace++;
    p->asked = m.version;
    p->told = m.held;
    p->asked_us = now_us;
    p->waiting = true;
    return 0;
}

static void on_version(struct pull *p, const struct link_msg *m, uint64_t now_us) {
    const Weir__Version *v = m->wire.body;
    bool asked = m->wire.trace != 0;
    if (asked && (!p->waiting || m->wire.trace != p->trace)) return;
    struct place at = {
        .version = v->version, .bytes = (size_t)v->bytes, .pid = v->pid, .fd = v->fd};
    if (v->version >= 0) at.hash = hash_get(v->hash.data);
    if (asked) {
        p->waiting = false;
        p->answered_us = now_us;
    }
    if (!asked || p->asked < 0) {
        p->newest = at;
        p->heard = true;
    } else if (p->asked == p->want) {
        p->exact = at;
        p->want_known = true;
    }
}

int pull_tick(struct pull *p, uint64_t now_us) {
    for (;;) {
        struct link_msg m;
        int rc = link_recv(p->sock, &m, NULL);
        if (rc == ERR_AGAIN) break;
        if (rc == ERR_CORRUPT) {
            LOG_LIMITED(WARN, RELAY, "dropped a message of the relay: %s", err_text());
            continue;
        }
        TRY(rc);
        if (m.wire.type == WIRE_VERSION) on_version(p, &m, now_us);
        link_free(&m);
    }
    bool urgent = p->want >= 0 && !p->want_known;
    uint64_t due = p->told != newest_mapped(p) ? 0 /* or the relay may let go what is read here */
                   : p->waiting                ? p->asked_us + PULL_REPEAT_US
                   : urgent                    ? 0
                                               : p->answered_us + PULL_EVERY_US;
    return now_us >= due ? ask(p, now_us) : 0;
}

int64_t pull_newest(const struct pull *p) {
    return p->newest.version;
}

/* Decides which place to try; ERR_AGAIN when the relay must be asked first. */
static int choose(struct pull *p, int64_t version, struct place *at) {
    if (!p->heard) return ERR_AGAIN;
    if (version < 0 || version == p->newest.version) {
        *at = p->newest;
        return at->version < 0 ? FAIL(ERR_NOTFOUND, "no version was published yet") : 0;
    }
    if (p->want != version) {
        p->want = version;
        p->want_known = false;
    }
    if (!p->want_known) return ERR_AGAIN;
    p->want = -1; /* the answer is used once */
    *at = p->exact;
    return at->version < 0 ? FAIL(ERR_NOTFOUND, "version %" PRId64 " is not kept", version) : 0;
}

int pull_map(struct pull *p, int64_t version, size_t expect_bytes, struct pull_version *out) {
    struct place at;
    struct sealed file;
    ASSERT(p->n_mapped < PULL_MAPPED_MAX);
    TRY(choose(p, version, &at));
    if (at.bytes != expect_bytes)
        return FAIL(ERR_MISMATCH, "version %" PRId64 " has %zu bytes, this model has %zu",
                    at.version, at.bytes, expect_bytes);
    int rc = sealed_open(&file, at.pid, at.fd, at.version, at.bytes, at.hash);
    if (rc == ERR_NOTFOUND) { /* the relay died or let it go since it answered */
        p->heard = false;
        p->answered_us = 0;
        return ERR_AGAIN;
    }
    TRY(rc);
    p->mapped[p->n_mapped++] = at.version;
    *out = (struct pull_version){at.version, at.hash, sealed_area(&file), at.bytes, file};
    return 0;
}

void pull_release(struct pull *p, struct pull_version *v) {
    if (!v->data) return;
    sealed_close(&v->file);
    for (size_t i = 0; i < p->n_mapped; i++)
        if (p->mapped[i] == v->version) {
            p->mapped[i] = p->mapped[--p->n_mapped];
            break;
        }
    *v = (struct pull_version){.version = -1, .file = {.fd = -1}};
}
