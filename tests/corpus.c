/* corpus.c - see corpus.h. Each input is an exact copy on the heap, so that the address sanitizer
 * sees a read past the end. */
#include "tests/corpus.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

#include <dirent.h>

enum { CORPUS_PREFIX_MAX = 4096 };

static void run_exact(corpus_fn *target, const uint8_t *data, size_t n) {
    uint8_t *copy = mem_alloc(n);
    memcpy(copy, data, n);
    target(copy, n);
    mem_free(copy);
}

static void damage(corpus_fn *target, const uint8_t *data, size_t n, uint64_t which,
                   uint64_t rounds) {
    uint8_t *copy = mem_alloc(n);
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (uint64_t round = 0; n > 0 && round < rounds; round++) {
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

void corpus_run(corpus_fn *target, const char *dir, uint64_t rounds) {
    DIR *d = opendir(dir);
    uint64_t files = 0;
    CHECK(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *path = file_join(dir, e->d_name), *data;
        size_t n;
        CHECK_OK(file_read(&data, &n, path, 1 << 20));
        run_exact(target, (const uint8_t *)data, n);
        for (size_t k = 0; k < n && n < CORPUS_PREFIX_MAX; k++)
            run_exact(target, (const uint8_t *)data, k);
        damage(target, (const uint8_t *)data, n, files++, rounds);
        mem_free(data);
        mem_free(path);
    }
    closedir(d);
    CHECK(files > 0);
}
