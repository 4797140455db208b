/* sim_net.c - see sim_net.h. */
#include "tests/sim/sim_net.h"

#include "base/mem.h"
#include "base/rng.h"

#include <string.h>

enum { LINKS_MAX = 512, QUEUE_MAX = 256 };

struct letter {
    struct net_msg *msg;
    uint64_t at_us; /* it arrives */
};

struct queue_of { /* in order: nothing overtakes */
    struct letter *letter;
    size_t n, cap;
    uint64_t last_us;
};

struct link { /* of one peer; a peer that died keeps what is still under way from it */
    char name[NET_ID_MAX + 1];
    bool open;
    struct queue_of up, down;
};

struct sim_net {
    uint64_t now_us, key, draws;
    uint64_t slow_us; /* of a usual message: at most */
    bool served;
    struct link link[LINKS_MAX];
    size_t n;
};

struct sock { /* link NULL: the server's */
    struct sim_net *net;
    struct link *link;
};

uint64_t sim_net_below(struct sim_net *n, uint64_t limit) {
    return rng_below(n->key, 11, n->draws++, limit);
}

bool sim_net_chance(struct sim_net *n, uint64_t one_in) {
    return sim_net_below(n, one_in) == 0;
}

/* Most messages take what the world's wire takes; one in a hundred meets a busy machine. */
static uint64_t delay(struct sim_net *n) {
    uint64_t us = 20 + sim_net_below(n, n->slow_us);
    if (sim_net_chance(n, 100)) us += sim_net_below(n, 300000);
    return us;
}

static void queue_add(struct sim_net *n, struct queue_of *q, const struct net_part *parts,
                      size_t n_parts) {
    uint64_t at_us = n->now_us + delay(n);
    if (at_us < q->last_us) at_us = q->last_us;
    q->last_us = at_us;
    mem_grow(&q->letter, &q->cap, q->n + 1, sizeof *q->letter);
    q->letter[q->n++] = (struct letter){net_msg_new(parts, n_parts), at_us};
}

static struct net_msg *queue_take(struct queue_of *q) {
    struct net_msg *m = q->letter[0].msg;
    memmove(q->letter, q->letter + 1, --q->n * sizeof *q->letter);
    return m;
}

/* Loses what is first in the queue, or what is last: some of it, by chance. */
static void queue_lose(struct sim_net *n, struct queue_of *q, bool first) {
    size_t lost = sim_net_below(n, q->n + 1);
    for (size_t i = 0; i < lost; i++)
        net_msg_free(&q->letter[first ? i : q->n - 1 - i].msg);
    if (first) memmove(q->letter, q->letter + lost, (q->n - lost) * sizeof *q->letter);
    q->n -= lost;
}

static void queue_close(struct queue_of *q) {
    for (size_t i = 0; i < q->n; i++)
        net_msg_free(&q->letter[i].msg);
    mem_free(q->letter);
    *q = (struct queue_of){.n = 0};
}

static struct link *find_open(struct sim_net *n, const void *name, size_t bytes) {
    for (size_t i = 0; i < n->n; i++) {
        struct link *l = &n->link[i];
        if (l->open && strlen(l->name) == bytes && memcmp(l->name, name, bytes) == 0) return l;
    }
    return NULL;
}

/* --- the functions of net.h ---------------------------------------------------------------- */

static struct sock *new_sock(struct sim_net *n, struct link *l) {
    struct sock *s = mem_zalloc(sizeof *s);
    *s = (struct sock){n, l};
    return s;
}

static void *sim_serve(void *world, const char *endpoint) {
    struct sim_net *n = world;
    (void)endpoint;
    ASSERT(!n->served);
    n->served = true;
    return new_sock(n, NULL);
}

/* A place for a new peer: of one that died, when nothing is under way from it any more. */
static struct link *new_link(struct sim_net *n) {
    for (size_t i = 0; i < n->n; i++) {
        struct link *l = &n->link[i];
        if (l->open || l->up.n > 0) continue;
        queue_close(&l->up);
        return l;
    }
    ASSERT(n->n < LINKS_MAX);
    return &n->link[n->n++];
}

/* A process of the same name may have died just now: what it said arrives before. */
static void *sim_connect(void *world, const char *endpoint, const char *name) {
    struct sim_net *n = world;
    (void)endpoint;
    ASSERT(strlen(name) <= NET_ID_MAX && !find_open(n, name, strlen(name)));
    struct link *l = new_link(n);
    *l = (struct link){.open = true};
    memcpy(l->name, name, strlen(name) + 1);
    for (struct link *old = n->link; old < n->link + n->n; old++)
        if (old != l && strcmp(old->name, name) == 0 && old->up.last_us > l->up.last_us)
            l->up.last_us = old->up.last_us;
    return new_sock(n, l);
}

static void sim_close(void *sock) {
    struct sock *s = sock;
    struct sim_net *n = s->net;
    if (s->link) { /* what it had not sent yet is lost, what was for it too */
        queue_lose(n, &s->link->up, false);
        queue_close(&s->link->down);
        s->link->open = false;
    }
    for (size_t i = 0; !s->link && i < n->n; i++) { /* what the server had received is lost */
        queue_lose(n, &n->link[i].up, true);
        queue_lose(n, &n->link[i].down, false);
    }
    if (!s->link) n->served = false;
    mem_free(s);
}

static int sim_send(void *sock, const struct net_id *to, const struct net_part *parts, size_t k) {
    struct sock *s = sock;
    struct link *l = to ? find_open(s->net, to->bytes, to->n) : s->link;
    if (!l) return FAIL(ERR_AGAIN, "the peer is not connected");
    struct queue_of *q = to ? &l->down : &l->up;
    if (q->n >= QUEUE_MAX) return FAIL(ERR_AGAIN, "send queue of %d is full", QUEUE_MAX);
    queue_add(s->net, q, parts, k);
    return 0;
}

/* The link whose first message to the server arrives first. */
static struct link *first_up(const struct sim_net *n) {
    const struct link *best = NULL;
    for (size_t i = 0; i < n->n; i++) {
        const struct link *l = &n->link[i];
        if (l->up.n > 0 && (!best || l->up.letter[0].at_us < best->up.letter[0].at_us)) best = l;
    }
    return best ? (struct link *)(uintptr_t)best : NULL;
}

static int sim_recv(void *sock, struct net_msg **out, struct net_id *from) {
    struct sock *s = sock;
    struct link *l = s->link ? s->link : first_up(s->net);
    struct queue_of *q = !l ? NULL : s->link ? &l->down : &l->up;
    if (!q || q->n == 0 || q->letter[0].at_us > s->net->now_us) return ERR_AGAIN;
    *out = queue_take(q);
    if (!from) return 0;
    *from = (struct net_id){.n = (uint8_t)strlen(l->name)};
    memcpy(from->bytes, l->name, from->n);
    return 0;
}

static const struct net_ops ops = {sim_serve, sim_connect, sim_close, sim_send, sim_recv};

/* --- the world ----------------------------------------------------------------------------- */

struct sim_net *sim_net_open(uint64_t seed) {
    static const uint64_t slow[] = {100, 1000, 10000, 60000};
    struct sim_net *n = mem_zalloc(sizeof *n);
    n->now_us = 1000000;
    n->key = rng_key(seed, RNG_TEST);
    n->slow_us = slow[sim_net_below(n, sizeof slow / sizeof slow[0])];
    return n;
}

void sim_net_close(struct sim_net **n) {
    for (size_t i = 0; i < (*n)->n; i++) {
        queue_close(&(*n)->link[i].up);
        queue_close(&(*n)->link[i].down);
    }
    mem_free(*n);
    *n = NULL;
}

uint64_t sim_net_now(const struct sim_net *n) {
    return n->now_us;
}

void sim_net_set_now(struct sim_net *n, uint64_t now_us) {
    ASSERT(now_us >= n->now_us);
    n->now_us = now_us;
}

static uint64_t now_of(void *world) {
    return ((struct sim_net *)world)->now_us;
}

static uint64_t wall_of(void *world) {
    return UINT64_C(1700000000000000) + now_of(world);
}

static uint64_t unique_of(void *world) {
    struct sim_net *n = world;
    return 1 + sim_net_below(n, UINT64_MAX - 1);
}

struct env sim_net_env(struct sim_net *n) {
    return (struct env){net_open_simulated(&ops, n), n, now_of, wall_of, unique_of};
}

uint64_t sim_net_arrival(const struct sim_net *n, const char *peer) {
    if (!peer) {
        const struct link *l = n->served ? first_up(n) : NULL;
        return l ? l->up.letter[0].at_us : UINT64_MAX;
    }
    for (size_t i = n->n; i-- > 0;)
        if (n->link[i].open && strcmp(n->link[i].name, peer) == 0)
            return n->link[i].down.n > 0 ? n->link[i].down.letter[0].at_us : UINT64_MAX;
    return UINT64_MAX;
}
