/* hash_leaves_test.c - a slab's leaves as a backend computes them where the slab lies, against
 * base/hash.h, which is xxhash. */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/op/op.h"
#include "tests/shared.h"

#include <string.h>

enum { MOST = 3 * HASH_BLOCK };

static void check(const struct kern_backend *b, struct kern_stream *s, const char *device,
                  const uint8_t *host, const char *there, size_t offset, size_t bytes) {
    struct hash want[4], got[4];
    memset(got, 0xee, sizeof got);
    hash_leaves(want, NULL, host + offset, bytes, 0, hash_blocks(bytes));
    CHECK_OK(kern_hash_leaves(b, s, got, there + offset, bytes));
    for (size_t i = 0; i < hash_blocks(bytes); i++)
        if (!hash_equal(want[i], got[i]))
            test_fail(__FILE__, __LINE__, "%s: leaf %zu of %zu bytes at %zu differs", device, i,
                      bytes, offset);
}

/* Every way in which the last stripe, the last kilobyte and the last block can end. */
static void all_lengths(const char *device) {
    const struct kern_backend *b = op_device(device, 2);
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    uint8_t *host = mem_alloc(MOST);
    struct kern_stream *s;
    void *there;
    for (size_t i = 0; i < MOST; i++)
        host[i] = (uint8_t)rng_below(key, 0, i, 256);
    CHECK_OK(kern_stream_open(b, &s, 4096));
    CHECK_OK(kern_alloc(b, &there, MOST));
    CHECK_OK(kern_put(b, s, there, host, MOST));
    for (size_t bytes = 0; bytes < 2300; bytes += bytes < 300 ? 1 : 13)
        check(b, s, device, host, there, 0, bytes);
    static const size_t edges[] = {HASH_BLOCK, 2 * HASH_BLOCK, MOST};
    for (size_t e = 0; e < sizeof edges / sizeof edges[0]; e++) {
        check(b, s, device, host, there, 0, edges[e]);
        check(b, s, device, host, there, 0, edges[e] - 1);
        check(b, s, device, host, there, 0, edges[e] - 1024);
        if (edges[e] == MOST) break;
        check(b, s, device, host, there, 0, edges[e] + 1);
        check(b, s, device, host, there, 0, edges[e] + 239);
        check(b, s, device, host, there, 0, edges[e] + 5000);
        check(b, s, device, host, there, 3, edges[e] + 5000); /* off its alignment */
        check(b, s, device, host, there, 16, edges[e] + 32);
    }
    kern_release(b, there);
    kern_stream_close(b, s);
    kern_close(b);
    mem_free(host);
}

TEST(hash_leaves_cpu) {
    all_lengths("cpu");
}

TEST_TIMEOUT(hash_leaves_cudasim, 120) {
    all_lengths("cudasim:0");
    all_lengths("cudasim:1");
}

TEST_TIMEOUT(hash_cuda_leaves, 120) {
    all_lengths(test_device());
}

TEST(hash_leaves_refuses) {
    const struct kern_backend *b = op_device("cudasim:0", 1);
    struct kern_stream *s;
    struct hash leaf[2];
    void *there;
    CHECK_OK(kern_stream_open(b, &s, 16));
    CHECK_OK(kern_alloc(b, &there, 2 * HASH_BLOCK));
    CHECK_ERR(kern_hash_leaves(b, s, NULL, there, 100), ERR_CONFIG, "argument is missing");
    CHECK_ERR(kern_hash_leaves(b, s, leaf, NULL, 100), ERR_CONFIG, "argument is missing");
    CHECK_ERR(kern_hash_leaves(b, s, leaf, there, 2 * HASH_BLOCK), ERR_CONFIG, "scratch");
    CHECK_OK(kern_hash_leaves(b, s, leaf, there, 0));
    kern_release(b, there);
    kern_stream_close(b, s);
    kern_close(b);
}
