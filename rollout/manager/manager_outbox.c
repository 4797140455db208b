/* manager_outbox.c - nothing that the manager says leaves before what it follows from is in the
 * log. The log is written by a thread (runlog.h); the manager goes on meanwhile, and what it has to
 * say waits here with the number of the event that holds the newest record before it. So the order
 * of every effect is as if each write were waited for, for all messages alike: tokens are stored
 * when they are acknowledged, a group has its record before a rollout hears of it, a batch is on
 * disk before the trainer sees it (I3), and after a crash no peer knows more than the log.
 *
 * Messages leave in the order in which they were made, so that a welcome never overtakes what was
 * due before it. When nothing waits and everything is written they do not come here at all. What a
 * turn of the loop adds is bounded by what it reads; above OUTBOX_BYTES the next turn waits for the
 * log before it reads on (I9). */
#include "rollout/manager/manager_outbox.h"

#include "base/mem.h"
#include "rollout/manager/manager_metrics_file.h"

#include <string.h>

enum { OUTBOX_BYTES = 32 << 20 };

struct letter { /* what is said once an event is in the log */
    struct net_id to;
    enum wire_type type;
    uint64_t event;
    size_t n, payload; /* parts; 0: not a message but a line of metrics */
    size_t bytes[2 + WIRE_FRAMES_MAX];
    char *data;
};

struct manager_outbox {
    struct letter *letter;
    size_t n, cap, cost;
    uint64_t written;    /* the newest event known to be in the log */
    struct net_id *deaf; /* peers that did not read what they need */
    size_t n_deaf, deaf_cap;
};

void manager_outbox_open(struct manager *m) {
    m->outbox = mem_zalloc(sizeof *m->outbox);
}

void manager_outbox_close(struct manager *m) {
    struct manager_outbox *o = m->outbox;
    if (!o) return;
    for (size_t i = 0; i < o->n; i++)
        mem_free(o->letter[i].data);
    mem_free(o->letter);
    mem_free(o->deaf);
    mem_free(o);
}

static size_t cost_of(const struct letter *l) {
    return sizeof *l + l->bytes[0] + l->bytes[1] + l->payload;
}

static struct letter *add(struct manager_outbox *o, const struct letter *l) {
    mem_grow(&o->letter, &o->cap, o->n + 1, sizeof *o->letter);
    o->letter[o->n] = *l;
    o->cost += cost_of(l);
    return &o->letter[o->n++];
}

bool manager_outbox_direct(const struct manager *m) {
    return m->outbox->n == 0 && m->outbox->written >= runlog_event(m->log);
}

static int add_message(struct manager *m, const struct net_id *to, enum wire_type type,
                       const void *body, const struct wire_frame *frames, size_t n) {
    struct buf b = {0};
    struct letter l = {.to = *to, .type = type, .event = runlog_event(m->log)};
    int rc = wire_pack(&b, type, body, frames, n, 0);
    if (rc < 0) {
        buf_close(&b);
        return rc;
    }
    l.bytes[0] = WIRE_HEADER;
    l.bytes[1] = b.len - WIRE_HEADER;
    l.n = 2 + n;
    for (size_t i = 0; i < n; i++) {
        buf_add(&b, frames[i].data, frames[i].bytes);
        l.bytes[2 + i] = frames[i].bytes;
        l.payload += frames[i].bytes;
    }
    l.data = b.data;
    add(m->outbox, &l);
    return 0;
}

int manager_outbox_send_now(struct manager *m, const struct net_id *to, enum wire_type type,
                            const void *body, const struct wire_frame *frames, size_t n) {
    if (!manager_outbox_direct(m)) return add_message(m, to, type, body, frames, n);
    return link_send(m->sock, to, type, body, frames, n, 0);
}

int manager_outbox_say(struct manager *m, const struct net_id *to, enum wire_type type,
                       const void *body, const struct wire_frame *frames, size_t n) {
    int rc = manager_outbox_send_now(m, to, type, body, frames, n);
    return rc == ERR_AGAIN ? 0 : rc;
}

void manager_outbox_line(struct manager *m, struct buf *line) {
    struct letter l = {.event = runlog_event(m->log), .data = line->data};
    l.bytes[0] = line->len;
    add(m->outbox, &l);
    *line = (struct buf){0};
}

/* Whose silence costs others something is lost when it does not read; anybody else asks again. */
static bool is_needed(enum wire_type type) {
    return type == WIRE_WORK || type == WIRE_TOKENS_ACK || type == WIRE_WELCOME ||
           type == WIRE_SCORE_REQUEST;
}

static int post(struct manager *m, const struct letter *l) {
    struct net_part part[2 + WIRE_FRAMES_MAX];
    const char *at = l->data;
    if (l->n == 0) return manager_metrics_file_append(m, l->data, l->bytes[0]);
    for (size_t i = 0; i < l->n; i++) {
        part[i] = (struct net_part){at, l->bytes[i]};
        at += l->bytes[i];
    }
    int rc = net_send(m->sock, &l->to, part, l->n);
    if (rc != ERR_AGAIN) return rc;
    if (is_needed(l->type)) {
        struct manager_outbox *o = m->outbox;
        mem_grow(&o->deaf, &o->deaf_cap, o->n_deaf + 1, sizeof *o->deaf);
        o->deaf[o->n_deaf++] = l->to;
    }
    return 0;
}

bool manager_outbox_deaf(struct manager *m, struct net_id *id) {
    if (m->outbox->n_deaf == 0) return false;
    *id = m->outbox->deaf[--m->outbox->n_deaf];
    return true;
}

int manager_outbox_send(struct manager *m) {
    struct manager_outbox *o = m->outbox;
    size_t k = 0;
    int rc = 0;
    if (o->cost > OUTBOX_BYTES) TRY(runlog_wait(m->log));
    TRY(runlog_written(m->log, &o->written));
    for (; k < o->n && o->letter[k].event <= o->written && rc == 0; k++) {
        rc = post(m, &o->letter[k]);
        o->cost -= cost_of(&o->letter[k]);
        mem_free(o->letter[k].data);
    }
    o->n -= k;
    if (k > 0 && o->n > 0) memmove(o->letter, o->letter + k, o->n * sizeof *o->letter);
    return rc;
}

int manager_outbox_send_all(struct manager *m) {
    TRY(runlog_commit(m->log, false));
    TRY(runlog_wait(m->log));
    return manager_outbox_send(m);
}
