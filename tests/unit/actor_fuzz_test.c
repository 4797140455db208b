/* actor_fuzz_test.c - the fuzzers of actor/ as unit tests: their corpus, every prefix of each file,
 * and some thousand seeded damages of each. */
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

#include <dirent.h>

#define LLVMFuzzerTestOneInput safetensors_one_input
#include "tests/fuzz/safetensors_fuzz.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput shape_one_input
#include "tests/fuzz/shape_fuzz.c"
#undef LLVMFuzzerTestOneInput

typedef int target_fn(const uint8_t *data, size_t n);

/* Runs the target on an exact copy, so that a read past the end is seen. */
static void run_exact(target_fn *target, const uint8_t *data, size_t n) {
    uint8_t *copy = mem_alloc(n);
    memcpy(copy, data, n);
    target(copy, n);
    mem_free(copy);
}

static void damage(target_fn *target, const uint8_t *data, size_t n, uint64_t which) {
    uint8_t *copy = mem_alloc(n);
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (uint64_t round = 0; n > 0 && round < 500; round++) {
        memcpy(copy, data, n);
        for (uint64_t k = 0; k <= round % 4; k++) {
            uint32_t r[4];
            rng_block(key, which, round * 4 + k, r);
            uint8_t flipped = (uint8_t)(copy[r[0] % n] ^ 1u << r[3] % 8), any = r[2] & 255;
            copy[r[0] % n] = r[1] % 3 == 0 ? flipped : any;
        }
        target(copy, n);
    }
    mem_free(copy);
}

static void run_corpus(target_fn *target, const char *dir) {
    DIR *d = opendir(dir);
    uint64_t files = 0;
    CHECK(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *path = file_join(dir, e->d_name), *data;
        size_t n;
        CHECK_OK(file_read(&data, &n, path, 1 << 20));
        for (size_t k = 0; k <= n && n < 4096; k++)
            run_exact(target, (const uint8_t *)data, k);
        damage(target, (const uint8_t *)data, n, files++);
        mem_free(data);
        mem_free(path);
    }
    closedir(d);
    CHECK(files > 0);
}

TEST(safetensors_fuzz_corpus) {
    run_corpus(safetensors_one_input, "tests/fuzz/corpus/safetensors");
}

TEST(shape_fuzz_corpus) {
    run_corpus(shape_one_input, "tests/fuzz/corpus/shape");
}
