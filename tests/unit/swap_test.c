/* swap_test.c - a version on its way into a running engine, with a relay that the test plays: so it
 * can announce what is not so. */
#include "rollout/swap.h"

#include "base/clock.h"
#include "base/mem.h"
#include "proto/link.h"
#include "proto/weights.pb-c.h"
#include "tests/test.h"
#include "tests/tiny.h"

#include <unistd.h>

enum { CONTEXT = 400, NEW = 380 };

struct scene {
    struct net *net;
    struct net_sock *relay;
    struct pull *pull;
    const struct kern_backend *backend;
    struct shape shape;
    struct params *w[3]; /* of versions 0, 1, 2 */
    struct sealed file[3];
    struct hash hash[3];
    int64_t newest; /* what the relay says */
    struct engine *engine;
    struct swap *swap;
    int32_t n; /* tokens so far */
    int64_t version[NEW];
};

static struct scene *open_scene(void) {
    struct scene *s = mem_zalloc(sizeof *s);
    char *e;
    s->newest = -1;
    s->shape = tiny_shape(false);
    CHECK_OK(kern_open(&s->backend, "cpu", 1));
    CHECK_OK(net_open(&s->net));
    CHECK_OK(net_endpoint(&e, s->net, test_dir(), "relay"));
    CHECK_OK(net_serve(&s->relay, s->net, e, 1 << 16));
    CHECK_OK(pull_open(&s->pull, s->net, e, "reader"));
    mem_free(e);
    for (int v = 0; v < 3; v++) {
        s->w[v] = tiny_params(s->backend, &s->shape, (uint64_t)v + 7);
        CHECK_OK(sealed_create(&s->file[v], params_slab(s->w[v]).bytes));
        CHECK_OK(params_get_hashed(&s->hash[v], s->w[v], NULL, sealed_area(&s->file[v]),
                                   s->file[v].bytes));
    }
    struct engine_config cfg = {.backend = s->backend,
                                .shape = s->shape,
                                .seqs_max = 2,
                                .context = CONTEXT < s->shape.context ? CONTEXT : s->shape.context,
                                .chunk_tokens = 32,
                                .page = 8,
                                .waiting_max = 8,
                                .spare = true};
    CHECK_OK(engine_open(&s->engine, &cfg));
    struct swap_config swap = {s->pull, s->engine, s->backend, s->shape};
    CHECK_OK(swap_open(&s->swap, &swap));
    return s;
}

static void close_scene(struct scene *s) {
    swap_close(&s->swap);
    engine_close(&s->engine);
    pull_close(&s->pull);
    net_close(&s->net);
    for (int v = 0; v < 3; v++) {
        sealed_close(&s->file[v]);
        params_close(&s->w[v]);
    }
    kern_close(s->backend);
    mem_free(s);
}

static void say(struct scene *s, const struct net_id *to, uint64_t trace) {
    Weir__Version a = WEIR__VERSION__INIT;
    uint8_t hash[16];
    a.version = s->newest;
    a.fd = -1;
    if (s->newest >= 0) {
        sealed_hash_put(hash, s->hash[s->newest]);
        a.hash = (ProtobufCBinaryData){sizeof hash, hash};
        a.pid = getpid();
        a.fd = s->file[s->newest].fd;
        a.bytes = s->file[s->newest].bytes;
    }
    CHECK_OK(link_send(s->relay, to, WIRE_VERSION, &a, NULL, 0, trace));
}

/* The relay hears of a version; the reader is told when it asks. */
static void announce(struct scene *s, int64_t v) {
    CHECK_OK(sealed_finish(&s->file[v], v, s->hash[v]));
    s->newest = v;
    struct net_id to = {.n = 6};
    memcpy(to.bytes, "reader", 6);
    if (swap_version(s->swap) >= 0) say(s, &to, 0); /* ... or without being asked */
}

/* One turn of a rollout's loop. */
static void turn(struct scene *s, bool may) {
    struct link_msg m;
    struct net_id from;
    bool stop = false;
    CHECK_OK(net_wait(s->net, engine_idle(s->engine) ? 1000 : 0, NULL, 0, &stop));
    if (link_recv(s->relay, &m, &from) == 0) {
        say(s, &from, m.wire.trace);
        link_free(&m);
    }
    CHECK_OK(swap_turn(s->swap, clock_us(), 0, may));
    if (engine_idle(s->engine)) return;
    const struct engine_token *events;
    int32_t n;
    CHECK_OK(engine_step(s->engine, &events, &n));
    for (int32_t i = 0; i < n && s->n < NEW; i++)
        s->version[s->n++] = events[i].version;
}

static void until(struct scene *s, int64_t version) {
    for (int i = 0; i < 4000 && swap_version(s->swap) != version; i++)
        turn(s, true);
    CHECK_INT(swap_version(s->swap), version);
}

static void generate(struct scene *s) {
    static const int32_t prompt[] = {1, 2, 3};
    struct engine_request r = {.id = 1,
                               .prompt = prompt,
                               .n_prompt = 3,
                               .max_new_tokens =
                                   s->shape.context - 8 < NEW ? s->shape.context - 8 : NEW,
                               .temperature = 1,
                               .top_p = 1};
    CHECK_OK(engine_add(s->engine, &r));
}

TEST(swap_takes_versions_between_steps) {
    struct scene *s = open_scene();
    for (int i = 0; i < 20; i++)
        turn(s, true);
    CHECK_INT(swap_version(s->swap), -1); /* there is none yet */
    announce(s, 0);
    until(s, 0);
    CHECK(sealed_reuse(&s->file[0])); /* it was let go */
    generate(s);
    announce(s, 1);
    for (int i = 0; i < 100; i++)
        turn(s, false); /* ready, but something runs that must not change */
    CHECK_INT(swap_version(s->swap), 0);
    CHECK(!swap_working(s->swap));
    announce(s, 2); /* gives way to the newer one */
    int32_t before = s->n;
    until(s, 2);
    CHECK(before > 2 && s->version[before - 1] == 0);
    turn(s, true);
    CHECK_INT(s->version[s->n - 1], 2);
    CHECK(swap_stats(s->swap).slices >= 1);
    close_scene(s);
}

TEST(swap_refuses_bytes_that_are_not_as_announced) {
    struct scene *s = open_scene();
    announce(s, 0);
    until(s, 0);
    generate(s);
    ((float *)sealed_area(&s->file[1]))[5] += 1; /* whatever the relay believed */
    announce(s, 1);
    for (int i = 0; i < 200; i++)
        turn(s, true);
    CHECK_INT(swap_version(s->swap), 0);
    CHECK(s->n > 10 && s->version[s->n - 1] == 0);
    announce(s, 2);
    until(s, 2);
    close_scene(s);
}
