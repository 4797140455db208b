/* record_test.c - recordings, transfers of pinned memory, and what a recording refuses. */
#include "tests/op/op.h"

#include <string.h>

enum { N = 40 };

struct bed {
    const struct kern_backend *b;
    struct kern_stream *s;
    float *in, *out; /* pinned [N] */
    void *x, *y;     /* on the device [N] */
};

static struct bed open_bed(const char *device) {
    struct bed t = {.b = op_device(device, 1)};
    void *in, *out;
    CHECK_OK(kern_stream_open(t.b, &t.s, 4096));
    CHECK_OK(kern_alloc_host(t.b, &in, N * sizeof(float)));
    CHECK_OK(kern_alloc_host(t.b, &out, N * sizeof(float)));
    CHECK_OK(kern_alloc(t.b, &t.x, N * sizeof(float)));
    CHECK_OK(kern_alloc(t.b, &t.y, N * sizeof(float)));
    t.in = in;
    t.out = out;
    return t;
}

static void close_bed(struct bed *t) {
    kern_stream_close(t->b, t->s);
    kern_release_host(t->b, t->in);
    kern_release_host(t->b, t->out);
    kern_release(t->b, t->x);
    kern_release(t->b, t->y);
    kern_close(t->b);
}

static void fill(struct bed *t, float from) {
    for (int i = 0; i < N; i++)
        t->in[i] = from + (float)i;
}

/* out = 3 in, by two additions; all that it names is gone when it returns. */
static int issue(struct bed *t) {
    struct kern_tensor x = kern_view2(t->x, KERN_F32, 5, N / 5), y = x;
    y.data = t->y;
    TRY(kern_put(t->b, t->s, t->x, t->in, N * sizeof(float)));
    TRY(kern_zero(t->b, t->s, t->y, N * sizeof(float)));
    TRY(kern_copy(t->b, t->s, t->y, t->x, N * sizeof(float)));
    TRY(kern_add(t->b, t->s, &y, &y, &x));
    TRY(kern_add(t->b, t->s, &y, &x, &y));
    memset(&x, 0xff, sizeof x);
    memset(&y, 0xff, sizeof y);
    return kern_get(t->b, t->s, t->out, t->y, N * sizeof(float));
}

static void check_out(const struct bed *t, float from) {
    for (int i = 0; i < N; i++)
        CHECK(t->out[i] == 3 * (from + (float)i));
}

static void replays(const char *device) {
    struct bed t = open_bed(device);
    struct kern_graph *g = NULL;
    bool simulated = strncmp(device, "cudasim", 7) == 0;
    CHECK(kern_records(t.b));
    fill(&t, 1);
    CHECK_OK(issue(&t));
    if (simulated) CHECK(t.out[0] == 0); /* as late as it may be */
    CHECK_OK(kern_sync(t.b, t.s));
    check_out(&t, 1);
    CHECK_OK(kern_record_begin(t.b, t.s));
    CHECK_OK(issue(&t));
    CHECK_OK(kern_record_end(t.b, t.s, &g));
    fill(&t, 2);
    CHECK_OK(kern_sync(t.b, t.s));
    check_out(&t, 1); /* recorded, not done */
    for (int k = 0; k < 3; k++) {
        fill(&t, (float)(10 * k));
        CHECK_OK(kern_replay(t.b, t.s, g));
        CHECK_OK(kern_sync(t.b, t.s));
        check_out(&t, (float)(10 * k));
    }
    kern_graph_close(t.b, g);
    close_bed(&t);
}

/* Each of these ends the recording with its name; the stream goes on. */
static void refusals(const char *device) {
    struct bed t = open_bed(device);
    struct kern_graph *g = NULL;
    float pageable[N] = {0};
    void *p;
    CHECK_ERR(kern_record_end(t.b, t.s, &g), ERR_CONFIG, "without record_begin");
    CHECK_OK(kern_record_begin(t.b, t.s));
    CHECK_ERR(kern_sync(t.b, t.s), ERR_CONFIG, "sync cannot be recorded");
    CHECK_OK(issue(&t));
    CHECK_ERR(kern_record_end(t.b, t.s, &g), ERR_CONFIG, "sync broke the recording");
    CHECK_OK(kern_record_begin(t.b, t.s));
    CHECK_ERR(kern_put(t.b, t.s, t.x, pageable, sizeof pageable), ERR_CONFIG, "pageable");
    CHECK_ERR(kern_record_end(t.b, t.s, &g), ERR_CONFIG, "put of pageable memory");
    CHECK_OK(kern_record_begin(t.b, t.s));
    CHECK_ERR(kern_get(t.b, t.s, pageable, t.x, sizeof pageable), ERR_CONFIG, "pageable");
    CHECK_ERR(kern_record_begin(t.b, t.s), ERR_CONFIG, "record_begin");
    CHECK_ERR(kern_record_end(t.b, t.s, &g), ERR_CONFIG, "record_begin broke the recording");
    CHECK_OK(kern_record_begin(t.b, t.s));
    CHECK_ERR(kern_alloc(t.b, &p, 64), ERR_DEVICE, "capturing");
    CHECK_ERR(kern_record_end(t.b, t.s, &g), ERR_DEVICE, "recording");
    CHECK_ERR(kern_replay(t.b, t.s, NULL), ERR_CONFIG, "no graph");
    CHECK(!g);
    fill(&t, 4);
    CHECK_OK(issue(&t));
    CHECK_OK(kern_sync(t.b, t.s));
    check_out(&t, 4);
    close_bed(&t);
}

TEST(op_cuda_records) {
    replays("cuda:0");
    refusals("cuda:0");
}

TEST(op_cudasim_records) {
    replays("cudasim:0");
    refusals("cudasim:0");
    replays("cudasim:1");
}

TEST(op_cudasim_pageable_memory_is_waited_for) {
    struct bed t = open_bed("cudasim:0");
    float pageable[N] = {0}, back[N] = {0};
    fill(&t, 1);
    CHECK_OK(issue(&t)); /* under way when the next ones come */
    pageable[7] = 5;
    CHECK_OK(kern_put(t.b, t.s, t.x, pageable, sizeof pageable));
    memset(pageable, 0, sizeof pageable);
    CHECK_OK(kern_get(t.b, t.s, back, t.x, sizeof back));
    CHECK(back[7] == 5 && back[8] == 0);
    check_out(&t, 1);
    close_bed(&t);
}

TEST(op_device_memory_left) {
    struct bed t = open_bed("cudasim:0");
    size_t left, total, less;
    void *p;
    CHECK(kern_has_memory(t.b));
    CHECK_OK(kern_memory(t.b, &left, &total));
    CHECK_OK(kern_alloc(t.b, &p, 1 << 20));
    CHECK_OK(kern_memory(t.b, &less, &total));
    CHECK(left <= total && less <= left);
    kern_release(t.b, p);
    close_bed(&t);
}

TEST(op_host_backends_do_not_record) {
    static const char *const devices[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        struct bed t = open_bed(devices[i]);
        struct kern_graph *g = NULL;
        size_t left, total;
        fill(&t, 3);
        CHECK_OK(issue(&t));
        check_out(&t, 3);
        CHECK(!kern_records(t.b) && !kern_has_memory(t.b));
        CHECK_ERR(kern_record_begin(t.b, t.s), ERR_UNSUP, "no record_begin");
        CHECK_ERR(kern_record_end(t.b, t.s, &g), ERR_UNSUP, "no record_end");
        CHECK_ERR(kern_memory(t.b, &left, &total), ERR_UNSUP, "no memory");
        close_bed(&t);
    }
}
