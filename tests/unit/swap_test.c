/* swap_test.c - a version on its way into a running engine, with a relay that the test plays: so it
 * can announce what is not so. */
#include "rollout/swap.h"

#include "base/clock.h"
#include "base/mem.h"
#include "proto/link.h"
#include "proto/weights.pb-c.h"
#include "rollout/pull_device.h"
#include "tests/shared.h"
#include "tests/test.h"
#include "tests/tiny.h"
#include "trainer/publish_device.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONTEXT = 400, NEW = 380, TOKENS = 1 << 14 };

struct scene {
    struct env env;
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
    int64_t version[TOKENS];
    bool generates; /* a sequence that ends is followed by the next one */
};

static struct scene *open_scene(const char *device) {
    struct scene *s = mem_zalloc(sizeof *s);
    char *e;
    s->newest = -1;
    s->shape = tiny_shape(false);
    CHECK_OK(kern_open(&s->backend, device, 1));
    CHECK_OK(env_open(&s->env));
    CHECK_OK(net_endpoint(&e, s->env.net, test_dir(), "relay"));
    CHECK_OK(net_serve(&s->relay, s->env.net, e, 1 << 16));
    CHECK_OK(pull_open(&s->pull, s->env.net, e, "reader"));
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
    struct swap_config swap = {s->pull, s->engine, s->backend, s->shape, &s->env};
    CHECK_OK(swap_open(&s->swap, &swap));
    return s;
}

static void close_scene(struct scene *s) {
    swap_close(&s->swap);
    engine_close(&s->engine);
    pull_close(&s->pull);
    env_close(&s->env);
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
        hash_put(hash, s->hash[s->newest]);
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

/* One turn of a rollout's loop. */
static void turn(struct scene *s, bool may) {
    struct link_msg m;
    struct net_id from;
    bool stop = false;
    CHECK_OK(net_wait(s->env.net, engine_idle(s->engine) ? 1000 : 0, NULL, 0, &stop));
    if (link_recv(s->relay, &m, &from) == 0) {
        say(s, &from, m.wire.trace);
        link_free(&m);
    }
    CHECK_OK(swap_turn(s->swap, clock_us(), 0, may));
    if (engine_idle(s->engine) && s->generates) generate(s);
    if (engine_idle(s->engine)) return;
    const struct engine_token *events;
    int32_t n;
    CHECK_OK(engine_step(s->engine, &events, &n));
    for (int32_t i = 0; i < n && s->n < TOKENS; i++)
        s->version[s->n++] = events[i].version;
}

static void until(struct scene *s, int64_t version) {
    for (int i = 0; i < 4000 && swap_version(s->swap) != version; i++)
        turn(s, true);
    CHECK_INT(swap_version(s->swap), version);
}

TEST(swap_takes_versions_between_steps) {
    struct scene *s = open_scene("cpu");
    for (int i = 0; i < 20; i++)
        turn(s, true);
    CHECK_INT(swap_version(s->swap), -1); /* there is none yet */
    announce(s, 0);
    until(s, 0);
    CHECK(sealed_reuse(&s->file[0])); /* it was let go */
    generate(s);
    s->generates = true;
    announce(s, 1);
    for (int i = 0; i < 4000 && (i < 100 || swap_working(s->swap)); i++)
        turn(s, false); /* ready, but something runs that must not change */
    CHECK_INT(swap_version(s->swap), 0);
    CHECK(!swap_working(s->swap));
    announce(s, 2); /* gives way to the newer one, once that has been heard of */
    for (int i = 0; i < 4000 && pull_newest(s->pull) < 2; i++)
        turn(s, false);
    int32_t before = s->n;
    until(s, 2);
    CHECK(before > 2 && s->version[before - 1] == 0);
    turn(s, true);
    CHECK_INT(s->version[s->n - 1], 2);
    CHECK(swap_stats(s->swap).slices >= 1);
    close_scene(s);
}

TEST(swap_refuses_bytes_that_are_not_as_announced) {
    struct scene *s = open_scene("cpu");
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

/* --- on the trainer's device ---------------------------------------------------------------- */

/* A trainer in a process of its own does as it is told: a version into its device memory, or damage
 * to the one that is there. */
struct order {
    char what; /* 'h' hand over, 'd' damage */
    int64_t version;
};

struct answer {
    bool ok; /* h: a slab was free */
    struct sealed_note note;
};

static pid_t trainer_pid;
static int trainer_fd;

static int hand_over(struct publish_device *h, const struct kern_backend *b, int64_t version,
                     struct answer *out, void **slab) {
    struct shape shape = tiny_shape(false);
    struct kern_stream *s;
    struct hash hash;
    void *at = publish_device_begin(h);
    if (!at) return 0;
    struct params *w = tiny_params(b, &shape, (uint64_t)version + 7);
    TRY(kern_stream_open(b, &s, 0));
    TRY(kern_copy(b, s, at, params_slab(w).data, params_slab(w).bytes));
    TRY(kern_sync(b, s));
    TRY(params_hash(&hash, w));
    TRY(publish_device_finish(h, version, hash, &out->note));
    kern_stream_close(b, s);
    params_close(&w);
    *slab = at;
    out->ok = true;
    return 0;
}

static int damage(const struct kern_backend *b, char *slab) {
    struct kern_stream *s;
    const char byte = 0x55;
    TRY(kern_stream_open(b, &s, 0));
    TRY(kern_put(b, s, slab + 1001, &byte, 1));
    kern_stream_close(b, s);
    return 0;
}

static int trainer_main(int fd, const char *device) {
    const struct kern_backend *b;
    struct shape shape = tiny_shape(false);
    struct publish_device *h;
    struct order o;
    void *slab = NULL;
    TRY(kern_open(&b, device, 1));
    int rc = publish_device_open(&h, b, params_policy_bytes(&shape));
    struct answer hello = {.ok = rc == 0};
    while (write(fd, &hello, sizeof hello) == sizeof hello && rc == 0 &&
           read(fd, &o, sizeof o) == sizeof o) {
        hello = (struct answer){0};
        rc = o.what == 'h' ? hand_over(h, b, o.version, &hello, &slab) : damage(b, slab);
    }
    return 0;
}

static struct answer trainer_says(void) {
    struct answer a;
    CHECK_INT(read(trainer_fd, &a, sizeof a), sizeof a);
    return a;
}

static struct answer trainer_does(char what, int64_t version) {
    struct order o = {.what = what, .version = version};
    CHECK_INT(write(trainer_fd, &o, sizeof o), sizeof o);
    return trainer_says();
}

/* Before this process opens the device. */
static void start_trainer(const char *device) {
    int fds[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    trainer_pid = fork();
    CHECK(trainer_pid >= 0);
    if (trainer_pid == 0) {
        close(fds[0]);
        _exit(trainer_main(fds[1], device));
    }
    close(fds[1]);
    trainer_fd = fds[0];
    struct answer a = {0};
    if (read(trainer_fd, &a, sizeof a) != sizeof a) test_skip("no such device");
    if (!a.ok) test_skip("memory of this device cannot be shared");
}

static void end_trainer(void) {
    close(trainer_fd);
    CHECK_INT(waitpid(trainer_pid, NULL, 0), trainer_pid);
}

static void announce_nearby(struct scene *s, int64_t v, const struct sealed_note *note) {
    sealed_set_note(&s->file[v], note);
    announce(s, v);
}

static void check_taken(struct scene *s, int64_t v, bool nearby) {
    until(s, v);
    CHECK(hash_equal(swap_hash(s->swap), s->hash[v]));
    CHECK_INT(swap_stats(s->swap).nearby, nearby);
}

static void copies_within(const char *device) {
    start_trainer(device);
    struct scene *s = open_scene(device);
    for (int v = 0; v < 3; v++) { /* two slabs */
        struct answer a = trainer_does('h', v);
        CHECK(a.ok);
        announce_nearby(s, v, &a.note);
        check_taken(s, v, true);
        CHECK(sealed_reuse(&s->file[v])); /* let go in both places */
    }
    end_trainer();
    close_scene(s);
}

TEST_TIMEOUT(swap_copies_within_the_device, 120) {
    copies_within("cudasim:2");
}

TEST_TIMEOUT(swap_cuda_copies_within_the_device, 120) {
    copies_within(test_device());
}

/* Damaged, taken by another version, on a device that is elsewhere, of a trainer that is gone: each
 * time the version comes through host memory. */
TEST_TIMEOUT(swap_copies_through_the_host_what_is_not_right_on_the_device, 120) {
    start_trainer("cudasim:2");
    struct scene *s = open_scene("cudasim:2");
    struct answer a = trainer_does('h', 0);
    CHECK(a.ok);
    trainer_does('d', 0);
    announce_nearby(s, 0, &a.note);
    check_taken(s, 0, false);
    a = trainer_does('h', 1);
    CHECK(a.ok && trainer_does('h', 2).ok && trainer_does('h', 2).ok);
    announce_nearby(s, 1, &a.note); /* its slab has version 2 by now */
    check_taken(s, 1, false);
    a = trainer_does('h', 2);
    end_trainer();
    CHECK(a.ok);
    announce_nearby(s, 2, &a.note);
    check_taken(s, 2, false);
    close_scene(s);
}

TEST_TIMEOUT(swap_knows_its_own_device, 120) {
    start_trainer("cudasim:0");
    struct scene *s = open_scene("cudasim:2");
    struct answer a = trainer_does('h', 0);
    CHECK(a.ok);
    announce_nearby(s, 0, &a.note);
    check_taken(s, 0, false);
    end_trainer();
    close_scene(s);
}

/* A driver does not open memory of the same process. */
TEST_TIMEOUT(swap_goes_on_when_the_driver_refuses, 120) {
    struct scene *s = open_scene("cudasim:2");
    struct publish_device *h;
    struct sealed_note note;
    if (publish_device_open(&h, s->backend, params_slab(s->w[0]).bytes) < 0)
        test_skip("memory of this device cannot be shared");
    for (int v = 0; v < 2; v++) {
        CHECK(publish_device_begin(h) != NULL);
        CHECK_OK(publish_device_finish(h, v, s->hash[v], &note));
        announce_nearby(s, v, &note);
        check_taken(s, v, false);
    }
    publish_device_close(&h);
    close_scene(s);
}

/* A slab that is read is left alone, until its reader lets go or dies. */
TEST_TIMEOUT(swap_reader_keeps_a_slab, 120) {
    start_trainer("cudasim:2");
    struct scene *s = open_scene("cudasim:2");
    struct answer a = trainer_does('h', 0);
    CHECK(a.ok && trainer_does('h', 1).ok);
    sealed_set_note(&s->file[0], &a.note);
    CHECK_OK(sealed_finish(&s->file[0], 0, s->hash[0]));
    struct pull_version v = {
        .version = 0, .hash = s->hash[0], .bytes = s->file[0].bytes, .file = s->file[0]};
    struct pull_device n;
    CHECK_OK(pull_device_open(&n, s->backend, &v));
    CHECK(!trainer_does('h', 2).ok);
    pull_device_close(&n, s->backend);
    CHECK(trainer_does('h', 2).ok);
    CHECK_ERR(pull_device_open(&n, s->backend, &v), ERR_NOTFOUND, "does not hold version 0");
    end_trainer();
    close_scene(s);
}
