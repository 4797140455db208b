/* load_test.c - choosing a backend, and the checked calls' answers to wrong arguments. */
#include "kernels/kernels.h"
#include "tests/test.h"

#include <stdlib.h>

TEST(load_open_is_counted) {
    const struct kern_backend *a = NULL, *b = NULL;
    CHECK_OK(kern_open(&a, "cpu", 1));
    CHECK_OK(kern_open(&b, "cpu", 1));
    CHECK(a == b);
    kern_close(b);
    struct kern_stream *s = NULL;
    CHECK_OK(kern_stream_open(a, &s, 1 << 20));
    void *p = NULL;
    CHECK_OK(kern_alloc(a, &p, 1 << 20));
    CHECK_OK(kern_zero(a, s, p, 1 << 20));
    CHECK_INT((uintptr_t)p % 64, 0);
    kern_release(a, p);
    kern_stream_close(a, s);
    kern_close(a);
}

TEST(load_names_what_is_wrong) {
    const struct kern_backend *b = NULL;
    CHECK_ERR(kern_open(&b, "gpu", 0), ERR_CONFIG, "cuda:N");
    CHECK_ERR(kern_open(&b, "cuda:x", 0), ERR_CONFIG, "cuda:x");
    CHECK_ERR(kern_open(&b, "cpu", -1), ERR_CONFIG, "threads");
    CHECK_ERR(kern_open(&b, "cpu:0", 0), ERR_CONFIG, "cpu:0");
    CHECK_ERR(kern_open(&b, "cuda", 0), ERR_CONFIG, "device \"cuda\"");
    CHECK(b == NULL);
}

TEST(load_knows_which_devices_are_the_host) {
    const struct kern_backend *b = NULL;
    static const char *const host[] = {"ref", "cpu"}, *const other[] = {"cuda:0", "cudasim:1",
                                                                        "auto", "cpu:0", ""};
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++) {
        CHECK(kern_device_on_host(host[i]));
        CHECK_OK(kern_open(&b, host[i], 1));
        CHECK(b->on_host && !b->numbered && !kern_has_memory(b));
        kern_close(b);
    }
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        CHECK(!kern_device_on_host(other[i]));
}

TEST(call_rejects_wrong_arguments) {
    const struct kern_backend *b = NULL;
    CHECK_OK(kern_open(&b, "ref", 0));
    struct kern_stream *s = NULL;
    CHECK_OK(kern_stream_open(b, &s, 4096));
    float buf[64] = {0};
    struct kern_tensor x = kern_view2(buf, KERN_F32, 2, 3), y = kern_view2(buf + 8, KERN_F32, 2, 4);
    struct kern_tensor w = kern_view2(buf + 16, KERN_F32, 4, 3), v = w;
    CHECK_OK(kern_matmul(b, s, &y, &x, &w, NULL, NULL));
    v.dim[1] = 2;
    CHECK_ERR(kern_matmul(b, s, &y, &x, &v, NULL, NULL), ERR_CONFIG,
              "matmul: w is f32 [4, 2], wanted f32 [4, 3]");
    v = w;
    v.bytes = 4;
    CHECK_ERR(kern_matmul(b, s, &y, &x, &v, NULL, NULL), ERR_CONFIG, "needs 48 bytes");
    v = w;
    v.dim[0] = INT64_MAX;
    CHECK_ERR(kern_matmul(b, s, &y, &x, &v, NULL, NULL), ERR_CONFIG, "overflow");
    v = w;
    v.dtype = KERN_I32;
    CHECK_ERR(kern_matmul(b, s, &y, &x, &v, NULL, NULL), ERR_CONFIG, "w is i32");
    v = w;
    v.rank = 9;
    CHECK_ERR(kern_matmul(b, s, &y, &x, &v, NULL, NULL), ERR_CONFIG, "rank 9");
    CHECK_ERR(kern_matmul(b, s, &y, &x, NULL, NULL, NULL), ERR_CONFIG, "w is missing");
    v = kern_view2(buf + 16, KERN_F32, 2, 2);
    CHECK_ERR(kern_add(b, s, &x, &x, &v), ERR_CONFIG, "add: y is f32 [2, 2], wanted f32 [2, 3]");
    CHECK_ERR(kern_swiglu(b, s, &x, &v, &x), ERR_CONFIG, "swiglu: gate is f32 [2, 2]");
    CHECK_ERR(kern_dot(b, s, (double[3]){0}, &x, &v), ERR_CONFIG, "dot: y has 4 elements");
    struct kern_backend lacks = *b;
    lacks.matmul = NULL;
    CHECK_ERR(kern_matmul(&lacks, s, &y, &x, &w, NULL, NULL), ERR_UNSUP, "ref has no matmul");
    int32_t ids[2] = {0, 4};
    struct kern_tensor i = kern_view1(ids, KERN_I32, 2), out = kern_view2(buf + 32, KERN_F32, 2, 3);
    CHECK_ERR(kern_embed(b, s, &out, &w, &i), ERR_CONFIG, "ids[1] = 4, wanted 0..3");
    kern_stream_close(b, s);
    kern_close(b);
}
