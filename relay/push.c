/* push.c - see push.h. The trainer must never wait for anybody: publishing is a copy into shared
 * memory and one small message. Whether the relay got it is found out later, in push_tick: an offer
 * is repeated until it is answered, and the newest one is repeated for ever at a slow pace, which
 * is how a new incarnation of the relay is noticed and gets the versions again.
 *
 * Files are taken round and round: two versions kept, one being filled, and one more when a reader
 * is slow. A file that somebody still reads is passed over; files that are idle beyond one spare
 * are given back, so a reader that hung for a while costs memory only so long. */
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
    PUSH_FILES_MAX = 64, /* more being read at once: something hangs */
    PUSH_MSG_BYTES = 1 << 16,
    PUSH_REPEAT_US = 200 * 1000, /* an offer without an answer is made again */
    PUSH_CHECK_US = 500 * 1000   /* the newest one is offered again to see who answers */
};

struct file {
    struct sealed s;
    bool kept;
};

struct kept {
    int64_t version;
    struct hash hash;
    struct file *file;
    bool taken;
    uint64_t offered_us; /* 0: not yet */
};

struct push {
    struct net_sock *sock;
    struct kept kept[PUSH_KEPT]; /* ascending */
    size_t n;
    struct file *file[PUSH_FILES_MAX];
    size_t n_files;
    struct file *filling; /* NULL: none */
    uint64_t relay;       /* its incarnation, 0: never heard */
    uint64_t now_us;
};

int push_open(struct push **out, struct net *net, const char *relay_endpoint, const char *name) {
    struct push *p = mem_zalloc(sizeof *p);
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
    for (size_t i = 0; i < s->n_files; i++) {
        sealed_close(&s->file[i]->s);
        mem_free(s->file[i]);
    }
    mem_free(s);
    *p = NULL;
}

/* --- files --------------------------------------------------------------------------------- */

static int add_file(struct push *p, size_t bytes, struct file **out) {
    if (p->n_files == PUSH_FILES_MAX)
        return FAIL(ERR_NOMEM, "%d versions of the weights are still being read", PUSH_FILES_MAX);
    struct file *f = mem_zalloc(sizeof *f);
    int rc = sealed_create(&f->s, bytes);
    if (rc < 0) {
        mem_free(f);
        return rc;
    }
    *out = p->file[p->n_files++] = f;
    return 0;
}

static void remove_file(struct push *p, size_t i) {
    sealed_close(&p->file[i]->s);
    mem_free(p->file[i]);
    p->file[i] = p->file[--p->n_files];
}

/* Takes the first idle file of that size, locked for writing; leaves one more and frees the others.
 */
static struct file *take_idle(struct push *p, size_t bytes) {
    struct file *mine = NULL;
    bool spare = false;
    for (size_t i = 0; i < p->n_files;) {
        struct file *f = p->file[i];
        if (f->kept || !sealed_reuse(&f->s)) {
            i++;
        } else if (f->s.bytes == bytes && !mine) {
            mine = f;
            i++;
        } else if (f->s.bytes == bytes && !spare) {
            spare = true; /* stays locked: it holds nothing that anyone could want */
            i++;
        } else {
            remove_file(p, i);
        }
    }
    return mine;
}

int push_reserve(struct push *p, size_t bytes) {
    struct file *f;
    while (p->n_files < PUSH_KEPT + 1)
        TRY(add_file(p, bytes, &f));
    return 0;
}

int push_begin(struct push *p, size_t bytes, void **area) {
    if (p->filling && p->filling->s.bytes != bytes) p->filling = NULL;
    if (!p->filling) p->filling = take_idle(p, bytes);
    if (!p->filling) TRY(add_file(p, bytes, &p->filling));
    *area = sealed_area(&p->filling->s);
    return 0;
}

void push_note(struct push *p, const struct sealed_note *note) {
    ASSERT(p->filling);
    sealed_set_note(&p->filling->s, note);
}

/* --- offers -------------------------------------------------------------------------------- */

static int offer(struct push *p, struct kept *k) {
    Weir__Offer o = WEIR__OFFER__INIT;
    uint8_t hash[16];
    hash_put(hash, k->hash);
    o.version = k->version;
    o.hash = (ProtobufCBinaryData){sizeof hash, hash};
    o.bytes = k->file->s.bytes;
    o.pid = getpid();
    o.fd = k->file->s.fd;
    int rc = link_send(p->sock, NULL, WIRE_OFFER, &o, NULL, 0, 0);
    if (rc == ERR_AGAIN) return 0; /* nobody reads: push_tick tries again */
    TRY(rc);
    k->offered_us = p->now_us;
    return 0;
}

int push_publish(struct push *p, int64_t version, struct hash hash) {
    ASSERT(p->filling);
    ASSERT(p->n == 0 || version > p->kept[p->n - 1].version);
    struct kept k = {.version = version, .hash = hash, .file = p->filling};
    p->filling = NULL;
    TRY(sealed_finish(&k.file->s, version, hash));
    k.file->kept = true;
    if (p->n == PUSH_KEPT) {
        p->kept[0].file->kept = false;
        memmove(&p->kept[0], &p->kept[1], (PUSH_KEPT - 1) * sizeof k);
        p->n--;
    }
    p->kept[p->n++] = k;
    return offer(p, &p->kept[p->n - 1]);
}

/* The relay refused: its words are logged; a version with two contents is final. What it came too
 * late for is no longer kept here, or offered again. */
static int refused(const Weir__Offered *a) {
    if (a->error == ERR_MISMATCH) return FAIL(ERR_MISMATCH, "relay: %s", a->reason);
    if (a->error != ERR_NOTFOUND)
        LOG_LIMITED(WARN, RELAY, "the relay refused version=%" PRId64 ": %s", a->version,
                    a->reason);
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
            LOG_LIMITED(WARN, RELAY, "dropped a message of the relay: %s", err_text());
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
