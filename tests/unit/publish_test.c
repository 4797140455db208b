#include "trainer/publish.h"

#include "base/mem.h"
#include "base/net.h"
#include "proto/link.h"
#include "proto/weights.pb-c.h"
#include "relay/sealed.h"
#include "tests/test.h"
#include "tests/tiny.h"

#include <poll.h>
#include <semaphore.h>
#include <unistd.h>

/* A device whose copies to the host wait for the test, and may fail. */
static sem_t begun, go;
static bool gated, broken;
static struct kern_backend device;
static const struct kern_backend *cpu;
static int n_after;

static int device_get(struct kern_stream *s, void *to, const void *from, size_t bytes) {
    if (gated) {
        sem_post(&begun);
        sem_wait(&go);
    }
    if (broken) return FAIL(ERR_DEVICE, "the cable is loose");
    return cpu->get(s, to, from, bytes);
}

static int device_after(struct kern_stream *s, struct kern_stream *other) {
    CHECK(s != other);
    n_after++;
    return 0;
}

struct scene {
    struct net *net;
    struct net_sock *relay;
    struct push *push;
    struct publish *publish;
    struct params *w;
    struct kern_stream *stream;
    struct hash hash;
};

static void set_up(struct scene *s) {
    char *e;
    struct shape shape = tiny_shape(false);
    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
    gated = broken = false;
    CHECK_OK(kern_open(&cpu, "cpu", 1));
    device = *cpu;
    device.on_host = false;
    device.get = device_get;
    device.after = device_after;
    CHECK_OK(net_open(&s->net));
    CHECK_OK(net_endpoint(&e, s->net, test_dir(), "relay"));
    CHECK_OK(net_serve(&s->relay, s->net, e, 1 << 16));
    CHECK_OK(push_open(&s->push, s->net, e, "trainer"));
    mem_free(e);
    CHECK_OK(publish_open(&s->publish, &device, s->push, NULL));
    s->w = tiny_params(&device, &shape, 7);
    CHECK_OK(params_hash(&s->hash, s->w));
    CHECK_OK(kern_stream_open(&device, &s->stream, 0));
}

static void tear_down(struct scene *s) {
    publish_close(&s->publish);
    push_close(&s->push);
    net_close(&s->net);
    params_close(&s->w);
    kern_stream_close(&device, s->stream);
    kern_close(cpu);
    sem_destroy(&begun);
    sem_destroy(&go);
}

/* The version that the relay is offered within wait_ms, -1: none. */
static int64_t offered(struct scene *s, int wait_ms) {
    for (int i = 0; i <= wait_ms; i++) {
        struct link_msg m;
        struct net_id from;
        bool stop = false;
        int rc = link_recv(s->relay, &m, &from);
        if (rc == 0) {
            const Weir__Offer *o = m.wire.body;
            CHECK_INT(m.wire.type, WIRE_OFFER);
            CHECK(hash_equal(sealed_hash_get(o->hash.data), s->hash));
            struct sealed f;
            CHECK_OK(sealed_open(&f, o->pid, o->fd, o->version, (size_t)o->bytes, s->hash));
            CHECK_OK(sealed_verify(&f, s->hash));
            sealed_close(&f);
            int64_t version = o->version;
            link_free(&m);
            return version;
        }
        CHECK_INT(rc, ERR_AGAIN);
        if (i < wait_ms) CHECK_OK(net_wait(s->net, 1000, NULL, 0, &stop));
    }
    return -1;
}

static bool readable(const struct scene *s, int wait_ms) {
    struct pollfd p = {.fd = publish_fd(s->publish), .events = POLLIN};
    return poll(&p, 1, wait_ms) == 1;
}

static void begin(struct scene *s, int64_t version) {
    CHECK_OK(publish_begin(s->publish, s->w, version, s->hash, s->stream));
}

/* The copy goes on beside the caller; only a turn after it offers the version. */
TEST(publish_does_not_hold_up_the_step) {
    struct scene s;
    set_up(&s);
    CHECK_OK(publish_wait(s.publish)); /* nothing is on its way */
    gated = true;
    begin(&s, 3);
    CHECK_INT(n_after, 1);
    sem_wait(&begun); /* in the middle of the copy */
    CHECK_OK(publish_turn(s.publish));
    CHECK(!readable(&s, 0));
    CHECK_INT(offered(&s, 0), -1);
    gated = false;
    sem_post(&go);
    CHECK(readable(&s, 20000));
    CHECK_INT(offered(&s, 0), -1);
    CHECK_OK(publish_turn(s.publish));
    CHECK(!readable(&s, 0));
    CHECK_INT(offered(&s, 20000), 3);
    CHECK(publish_times(s.publish).took > 0);
    CHECK(publish_times(s.publish).waited == 0);
    gated = true;
    begin(&s, 4);
    sem_wait(&begun);
    gated = false;
    sem_post(&go);
    begin(&s, 5); /* waits for the one before */
    CHECK_OK(publish_wait(s.publish));
    CHECK_INT(offered(&s, 20000), 4);
    CHECK_INT(offered(&s, 20000), 5);
    tear_down(&s);
}

TEST(publish_errors_reach_the_step) {
    struct scene s;
    set_up(&s);
    broken = true;
    begin(&s, 3);
    CHECK_ERR(publish_wait(s.publish), ERR_DEVICE, "version 3: the cable is loose");
    CHECK_OK(publish_wait(s.publish)); /* said once */
    broken = false;
    gated = true;
    begin(&s, 3);
    sem_wait(&begun);
    struct kern_tensor w = params_slab(s.w); /* an update that did not wait */
    ((float *)w.data)[5] += 1;
    gated = false;
    sem_post(&go);
    CHECK(readable(&s, 20000));
    CHECK_ERR(publish_turn(s.publish), ERR_MISMATCH, "version 3: the weights have hash");
    CHECK_INT(offered(&s, 0), -1);
    tear_down(&s);
}

/* Closed in the middle of a copy: its end is waited for, nothing is offered. */
TEST(publish_closed_on_the_way) {
    struct scene s;
    set_up(&s);
    begin(&s, 3);
    publish_close(&s.publish);
    CHECK_INT(offered(&s, 0), -1);
    tear_down(&s);
}
