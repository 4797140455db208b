/* safetensors_test.c - one file: what is written is read, every element type, and hostile headers:
 * each is refused with the file, the tensor and the limit, and nothing is read outside the file. */
#include "actor/safetensors.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <stdio.h>
#include <sys/stat.h>

/* A file in memory: header text (length added) and n bytes of data. The block is exact, so that the
 * address sanitizer sees a read past its end. */
struct blob {
    unsigned char *p;
    size_t n;
};

static struct blob blob(const char *header, size_t data) {
    size_t h = strlen(header);
    struct blob b = {mem_zalloc(8 + h + data), 8 + h + data};
    for (int i = 0; i < 8; i++)
        b.p[i] = (unsigned char)((uint64_t)h >> 8 * i & 255);
    memcpy(b.p + 8, header, h);
    for (size_t i = 0; i < data; i++)
        b.p[8 + h + i] = (unsigned char)(i * 7 + 1);
    return b;
}

static int open_blob(struct safetensors **f, struct blob b) {
    return safetensors_open_memory(f, b.p, b.n, "model.safetensors");
}

static void refuse(const char *header, size_t data, const char *part) {
    struct blob b = blob(header, data);
    struct safetensors *f = NULL;
    CHECK_ERR(open_blob(&f, b), ERR_CORRUPT, part);
    CHECK_ERR(open_blob(&f, b), ERR_CORRUPT, "model.safetensors");
    CHECK(!f);
    mem_free(b.p);
}

#define TENSOR(name, dtype, shape, from, to)                                                       \
    "\"" name "\": {\"dtype\": \"" dtype "\", \"shape\": [" shape "], \"data_offsets\": [" from    \
    ", " to "]}"

TEST(safetensors_header_length) {
    struct blob b = blob("{}", 0);
    struct safetensors *f;
    for (size_t n = 0; n < b.n; n++)
        CHECK(safetensors_open_memory(&f, b.p, n, "model.safetensors") < 0);
    CHECK_ERR(safetensors_open_memory(&f, b.p, 7, "m"), ERR_CORRUPT, "7 bytes");
    CHECK_OK(open_blob(&f, b));
    CHECK_INT(safetensors_count(f), 0);
    safetensors_close(&f);
    b.p[0] = 3;
    CHECK_ERR(open_blob(&f, b), ERR_CORRUPT, "header length is 3, only 2 bytes follow");
    memset(b.p, 255, 8);
    CHECK_ERR(open_blob(&f, b), ERR_CORRUPT, "18446744073709551615, the limit is 8388608");
    mem_free(b.p);
}

TEST(safetensors_refuses_bad_headers) {
    refuse("[]", 0, "must be an object");
    refuse("{\"a\":", 0, "line 1");
    refuse("{\"a\": 3}", 0, "tensor a must be an object");
    refuse("{" TENSOR("a", "F33", "1", "0", "4") "}", 4, "tensor a: unknown dtype \"F33\"");
    refuse("{\"a\": {\"shape\": [1], \"data_offsets\": [0, 4]}}", 4, "unknown dtype");
    refuse("{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", 4, "shape must be an array");
    refuse("{" TENSOR("a", "F32", "-1", "0", "4") "}", 4, "shape[0] is not a size");
    refuse("{" TENSOR("a", "F32", "1.0", "0", "4") "}", 4, "shape[0] is not a size");
    refuse("{" TENSOR("a", "F32", "1,1,1,1,1,1,1,1,1", "0", "4") "}", 4, "at most 8 sizes");
    refuse("{" TENSOR("a", "F32", "4294967296,4294967296", "0", "4") "}", 4, "2^59");
    refuse("{" TENSOR("a", "F32", "1152921504606846976,4", "0", "4") "}", 4, "2^59");
    refuse("{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4, "data_offsets");
    refuse("{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0]}}", 4,
           "data_offsets");
    refuse("{" TENSOR("a", "F32", "1", "-4", "0") "}", 4, "[-4, 0] leave the file's 4 bytes");
    refuse("{" TENSOR("a", "F32", "1", "4", "0") "}", 4, "[4, 0] leave");
    refuse("{" TENSOR("a", "F32", "2", "0", "8") "}", 4, "[0, 8] leave the file's 4 bytes");
    refuse("{" TENSOR("a", "F32", "1", "0", "9223372036854775807") "}", 4, "data_offsets");
    refuse("{" TENSOR("a", "F32", "2", "0", "4") "}", 4, "has 4 bytes, its shape and dtype need 8");
    refuse("{" TENSOR("a", "F32", "1", "0", "4") ", " TENSOR("a", "F32", "1", "4", "8") "}", 8,
           "column 63: the key \"a\" is there twice");
    refuse("{" TENSOR("a\\u0000b", "F32", "1", "0", "4") "}", 4, "\\u0000 (a NUL)");
}

TEST(safetensors_refuses_overlaps_and_holes) {
    refuse("{" TENSOR("a", "F32", "2", "0", "8") ", " TENSOR("b", "F32", "1", "4", "8") "}", 8,
           "tensors a and b overlap");
    refuse("{" TENSOR("a", "F32", "1", "4", "8") "}", 8, "4 bytes before tensor a belong to none");
    refuse("{" TENSOR("a", "F32", "1", "0", "4") "}", 8, "the last 4 bytes belong to no tensor");
    struct blob b = blob("{" TENSOR("b", "F16", "2", "4",
                                    "8") ", \"__metadata__\": {\"x\": \"y\"}"
                                         ", " TENSOR("e", "F32", "0,7", "4",
                                                     "4") ", " TENSOR("a", "F32", "", "0", "4") "}",
                         8);
    struct safetensors *f;
    CHECK_OK(open_blob(&f, b)); /* any order, a scalar, an empty one, metadata */
    CHECK_INT(safetensors_count(f), 3);
    CHECK_STR(safetensors_at(f, 0)->name, "a");
    CHECK_INT(safetensors_find(f, "a")->n, 1);
    CHECK_INT(safetensors_find(f, "e")->n, 0);
    CHECK(!safetensors_find(f, "__metadata__"));
    safetensors_close(&f);
    mem_free(b.p);
}

static float bits_to_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* All 65536 halves: exact values, signs, denormals, infinities; NaN stays NaN. */
TEST(safetensors_every_half) {
    struct blob b = blob("{" TENSOR("h", "F16", "65536", "0", "131072") ", " TENSOR(
                             "b", "BF16", "65536", "131072", "262144") "}",
                         262144);
    unsigned char *data = b.p + b.n - 262144;
    for (int i = 0; i < 131072; i++) {
        data[2 * i] = (unsigned char)(i & 255);
        data[2 * i + 1] = (unsigned char)(i >> 8 & 255);
    }
    struct safetensors *f;
    float *x = mem_array(65536, sizeof *x);
    CHECK_OK(open_blob(&f, b));
    CHECK_OK(safetensors_read_f32(f, safetensors_find(f, "h"), 0, 65536, x));
    for (int i = 0; i < 65536; i++) {
        int e = i >> 10 & 31, m = i & 1023;
        double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        if (e == 31) v = m ? NAN : INFINITY;
        CHECK(isnan(v) ? isnan(x[i]) : x[i] == (float)(i >> 15 ? -v : v));
        CHECK(!signbit(x[i]) == !(i >> 15));
    }
    CHECK_OK(safetensors_read_f32(f, safetensors_find(f, "b"), 0, 65536, x));
    for (int i = 0; i < 65536; i++)
        CHECK(memcmp(&x[i], &(float){bits_to_float((uint32_t)i << 16)}, 4) == 0);
    safetensors_close(&f);
    mem_free(x);
    mem_free(b.p);
}

static const uint32_t written[] = {0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001,
                                   0x7F800000, 0x7FFFFFFF, 0x7F800001, 0xFF800000,
                                   0x80000000, 0x7F7FFFFF, 0x00000001, 0x3F7FFFFF};
enum { WRITTEN = sizeof written / sizeof written[0] };

static int fill(void *ctx, size_t i, int64_t first, int64_t n, float *out) {
    (void)ctx, (void)i;
    memcpy(out, written + first, (size_t)n * sizeof *out);
    return 0;
}

/* Round to nearest even; what is above the largest bf16 becomes infinite; NaN never does. */
/* A pipe in the place of a file must not hold the reader up until somebody writes to it. */
TEST_TIMEOUT(safetensors_waits_for_no_pipe, 10) {
    struct safetensors *f;
    char *path = file_join(test_dir(), "pipe.safetensors");
    CHECK_INT(mkfifo(path, 0600), 0);
    CHECK_ERR(safetensors_open(&f, path), ERR_IO, "not a regular file");
    mem_free(path);
}

TEST(safetensors_rounds_to_bf16) {
    static const uint32_t want[] = {0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x7FFF,
                                    0x7FC0, 0xFF80, 0x8000, 0x7F80, 0x0000, 0x3F80};
    struct safetensors_item item = {"w", 1, {WRITTEN}};
    struct safetensors *f;
    float x[WRITTEN];
    char *path = file_join(test_dir(), "x.safetensors");
    CHECK_OK(safetensors_write(path, &item, 1, true, fill, NULL));
    CHECK_OK(safetensors_open(&f, path));
    CHECK_OK(safetensors_read_f32(f, safetensors_at(f, 0), 0, WRITTEN, x));
    for (int i = 0; i < WRITTEN; i++)
        if (memcmp(&x[i], &(float){bits_to_float(want[i] << 16)}, 4) != 0)
            test_fail(__FILE__, __LINE__, "%08x became %g", written[i], (double)x[i]);
    safetensors_close(&f);
    CHECK_OK(safetensors_write(path, &item, 1, false, fill, NULL));
    CHECK_OK(safetensors_open(&f, path));
    CHECK_OK(safetensors_read_f32(f, safetensors_at(f, 0), 0, WRITTEN, x));
    CHECK(memcmp(x, written, sizeof written) == 0);
    CHECK_INT((uintptr_t)safetensors_at(f, 0)->data % 64, 0);
    safetensors_close(&f);
    mem_free(path);
}

static int fail_fill(void *ctx, size_t i, int64_t first, int64_t n, float *out) {
    (void)ctx, (void)i, (void)first, (void)n, (void)out;
    return FAIL(ERR_DEVICE, "gone");
}

TEST(safetensors_failed_write_leaves_nothing) {
    struct safetensors_item item = {"w", 1, {3}};
    char *path = file_join(test_dir(), "x.safetensors"), *tmp = mem_printf("%s.tmp", path);
    CHECK_ERR(safetensors_write(path, &item, 1, false, fail_fill, NULL), ERR_DEVICE, "gone");
    CHECK(!file_exists(path) && !file_exists(tmp));
    mem_free(path);
    mem_free(tmp);
}

TEST(safetensors_other_types_are_not_weights) {
    struct blob b = blob("{" TENSOR("i", "I64", "1", "0", "8") "}", 8);
    struct safetensors *f;
    float x;
    CHECK_OK(open_blob(&f, b));
    CHECK_ERR(safetensors_read_f32(f, safetensors_at(f, 0), 0, 1, &x), ERR_UNSUP,
              "tensor i: dtype is I64");
    safetensors_close(&f);
    mem_free(b.p);
}
