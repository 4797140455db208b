/* read.c - the rate at which this machine reads memory: the limit of whatever needs every weight
 * once.
 *
 * The memory must be much larger than the caches, which may be a hundred megabytes, or it is they
 * that are measured; and each thread reads a part of its own from end to end, which is what
 * processors fetch ahead best. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/err.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { THREADS_MAX = 64, WORDS = 8 };

/* 16 bytes, which any x86-64 or ARM processor reads at once. */
typedef uint32_t word __attribute__((vector_size(16)));

struct part {
    const word *from;
    size_t n;
    word sum; /* keeps the reading from being left out */
};

static void *read_part(void *ctx) {
    struct part *p = ctx;
    word s[WORDS] = {{0}};
    for (size_t i = 0; i + WORDS <= p->n; i += WORDS)
#pragma GCC unroll 8
        for (size_t k = 0; k < WORDS; k++)
            s[k] += p->from[i + k];
    p->sum = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    return NULL;
}

int bench_threads(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : (int)n;
}

double bench_read_gb_s(const void *memory, size_t bytes, int threads) {
    struct part part[THREADS_MAX];
    pthread_t thread[THREADS_MAX];
    const size_t n = bytes / sizeof(word) / (size_t)threads;
    uint64_t start = clock_us();
    for (int i = 0; i < threads; i++) {
        part[i] = (struct part){.from = (const word *)memory + (size_t)i * n, .n = n};
        if (i == 0) continue;
        int rc = pthread_create(&thread[i], NULL, read_part, &part[i]);
        bench_must(rc ? FAIL(ERR_NOMEM, "%s", strerror(rc)) : 0, "thread");
    }
    read_part(&part[0]);
    for (int i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    return (double)bytes / (double)(clock_us() - start) / 1e3;
}
