/* coll_test.c - collectives between forked ranks: sums in rank order, any size, and what happens
 * when a rank is missing, dies or does something else. On the CPU, and in the CUDA sources compiled
 * for the host with a double in NCCL's place (tests/cudasim/nccl/double.cc): the same bits. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/test.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 3, SIZE = 700001 }; /* above two slots, not a multiple of the ranks */

struct rank {
    const struct kern_backend *b;
    struct kern_stream *s;
    struct kern_coll *c;
    int rank;
};

static const char *name(void) { /* unlike that of another run on this machine */
    static char text[64];
    snprintf(text, sizeof text, "test-%d-%llu", (int)getpgrp(), (unsigned long long)test_seed());
    return text;
}

static const char *device = "cpu";

/* A library that is loaded under the name asked for is the one that dlopen returns. */
static void load_double(void) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    CHECK(n > 0);
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    CHECK(slash != NULL);
    snprintf(slash, 32, "/nccl-double.so");
    if (!dlopen(path, RTLD_NOW | RTLD_GLOBAL)) test_skip("nccl-double.so is not there");
}

static void join(struct rank *r, int rank, int n, int deadline_ms) {
    r->rank = rank;
    CHECK_OK(kern_open(&r->b, device, 1));
    CHECK_OK(kern_stream_open(r->b, &r->s, 1 << 16));
    CHECK_OK(kern_coll_open(r->b, &r->c, name(), rank, n, deadline_ms));
}

static void leave(struct rank *r) {
    kern_coll_close(r->b, r->c);
    kern_stream_close(r->b, r->s);
    kern_close(r->b);
}

/* n floats of the device, copied from x (may be NULL). */
static struct kern_tensor on_device(const struct rank *r, const float *x, int64_t n) {
    void *p = NULL;
    CHECK_OK(kern_alloc(r->b, &p, (size_t)n * sizeof *x));
    if (x) CHECK_OK(kern_put(r->b, r->s, p, x, (size_t)n * sizeof *x));
    return kern_view1(p, KERN_F32, n);
}

static void fetch(const struct rank *r, float *x, const struct kern_tensor *t) {
    CHECK_OK(kern_get(r->b, r->s, x, t->data, (size_t)kern_elements(t) * sizeof *x));
}

typedef void rank_fn(int rank);

/* Runs fn as ranks 0..n-1 in processes of their own; all must succeed. */
static void run_ranks(rank_fn *fn, int n) {
    pid_t pid[8];
    (void)name();
    for (int r = 0; r < n; r++) {
        pid[r] = fork();
        CHECK(pid[r] >= 0);
        if (pid[r] == 0) {
            fn(r);
            fflush(NULL);
            _exit(0);
        }
    }
    for (int r = 0; r < n; r++) {
        int status = 0;
        CHECK_INT(waitpid(pid[r], &status, 0), pid[r]);
        if (status != 0) test_fail(__FILE__, __LINE__, "rank %d failed", r);
    }
}

/* On the simulation too. */
static void run_both(rank_fn *fn, int n) {
    run_ranks(fn, n);
    device = "cudasim:0";
    load_double();
    run_ranks(fn, n);
}

static float value(int rank, int64_t i) {
    return (float)rng_normal(rng_key(test_seed(), RNG_TEST), (uint64_t)rank, (uint64_t)i);
}

static float sum(int64_t i) {
    float s = value(0, i);
    for (int r = 1; r < RANKS; r++)
        s += value(r, i);
    return s;
}

static float *values(int rank, int64_t n) {
    float *x = mem_array((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = value(rank, i);
    return x;
}

static void all_reduce(int rank) {
    struct rank r = {0};
    float *x = values(rank, SIZE), one = (float)rank;
    join(&r, rank, RANKS, 20000);
    struct kern_tensor t = on_device(&r, x, SIZE), t1 = on_device(&r, &one, 1);
    CHECK_OK(kern_coll_all_reduce(r.b, r.c, r.s, &t));
    CHECK_OK(kern_coll_all_reduce(r.b, r.c, r.s, &t1));
    fetch(&r, x, &t);
    fetch(&r, &one, &t1);
    kern_release(r.b, t.data);
    kern_release(r.b, t1.data);
    CHECK(one == 3);
    for (int64_t i = 0; i < SIZE; i++)
        if (x[i] != sum(i)) test_fail(__FILE__, __LINE__, "element %lld", (long long)i);
    CHECK_OK(kern_coll_barrier(r.b, r.c));
    leave(&r);
    mem_free(x);
}

TEST(coll_all_reduce_sums_in_rank_order) {
    run_both(all_reduce, RANKS);
}

static void scatter_gather(int rank) {
    const int64_t n = 300007;
    struct rank r = {0};
    float *x = values(rank, n * RANKS), *shard = mem_array((size_t)n, sizeof *shard);
    join(&r, rank, RANKS, 20000);
    struct kern_tensor t = on_device(&r, x, n * RANKS), st = on_device(&r, NULL, n);
    CHECK_OK(kern_coll_reduce_scatter(r.b, r.c, r.s, &st, &t));
    fetch(&r, shard, &st);
    for (int64_t i = 0; i < n; i++)
        CHECK(shard[i] == sum(rank * n + i));
    CHECK_OK(kern_coll_all_gather(r.b, r.c, r.s, &t, &st));
    fetch(&r, x, &t);
    for (int64_t i = 0; i < n * RANKS; i++)
        CHECK(x[i] == sum(i));
    x[5] = (float)rank;
    CHECK_OK(kern_put(r.b, r.s, t.data, x, 6 * sizeof *x));
    CHECK_OK(kern_coll_broadcast(r.b, r.c, r.s, &t, 1));
    fetch(&r, x, &t);
    CHECK(x[5] == 1);
    st.dim[0] = 5;
    CHECK_ERR(kern_coll_all_gather(r.b, r.c, r.s, &t, &st), ERR_CONFIG, "shards of 5");
    kern_release(r.b, t.data);
    kern_release(r.b, st.data);
    leave(&r);
    mem_free(x);
    mem_free(shard);
}

TEST(coll_scatter_gather_broadcast) {
    run_both(scatter_gather, RANKS);
}

static void one_dies(int rank) {
    struct rank r = {0};
    join(&r, rank, RANKS, 600000); /* nobody waits for the deadline */
    struct kern_tensor t = on_device(&r, NULL, 4);
    CHECK_OK(kern_coll_barrier(r.b, r.c));
    if (rank == 1) _exit(0);
    CHECK_ERR(kern_coll_all_reduce(r.b, r.c, r.s, &t), ERR_CLOSED, "rank 1 of 3 is dead");
    CHECK_ERR(kern_coll_barrier(r.b, r.c), ERR_CLOSED, "broken");
    kern_release(r.b, t.data);
    leave(&r);
}

TEST(coll_names_the_rank_that_died) {
    run_both(one_dies, RANKS);
}

static void one_leaves(int rank) {
    struct rank r = {0};
    join(&r, rank, RANKS, 600000);
    CHECK_OK(kern_coll_barrier(r.b, r.c)); /* leaving after it is no failure of it */
    if (rank == 1) {
        leave(&r);
        clock_sleep_us(300 * 1000); /* alive, and still it cannot come */
        return;
    }
    CHECK_ERR(kern_coll_barrier(r.b, r.c), ERR_CLOSED, "rank 1 of 3 has left");
    leave(&r);
}

TEST(coll_names_the_rank_that_left) {
    run_ranks(one_leaves, RANKS);
}

static void one_hangs(int rank) {
    struct rank r = {0};
    join(&r, rank, RANKS, 300);
    if (rank == 1)
        clock_sleep_us(1500 * 1000);
    else
        CHECK_ERR(kern_coll_barrier(r.b, r.c), ERR_TIMEOUT, "rank 1 of 3 did not arrive");
    leave(&r);
}

TEST(coll_names_the_rank_that_hangs) {
    run_ranks(one_hangs, RANKS);
}

static void disagree(int rank) {
    struct rank r = {0};
    join(&r, rank, 2, 2000);
    struct kern_tensor t = on_device(&r, NULL, rank == 1 ? 8 : 4);
    CHECK_ERR(kern_coll_all_reduce(r.b, r.c, r.s, &t), ERR_MISMATCH, "all_reduce of 8");
    kern_release(r.b, t.data);
    leave(&r);
}

TEST(coll_ranks_that_disagree_are_told) {
    run_both(disagree, 2);
}

TEST(coll_missing_ranks_are_named) {
    const struct kern_backend *b = NULL;
    struct kern_coll *c = NULL;
    CHECK_OK(kern_open(&b, "cpu", 1));
    CHECK_ERR(kern_coll_open(b, &c, name(), 0, 3, 60), ERR_TIMEOUT, "rank 1 of 3 did not join");
    CHECK_ERR(kern_coll_open(b, &c, name(), 2, 3, 60), ERR_TIMEOUT, "rank 0 of 3");
    CHECK_ERR(kern_coll_open(b, &c, name(), 3, 3, 60), ERR_CONFIG, "rank 3 of 3");
    CHECK(c == NULL);
    kern_close(b);
}

static void copies_alone(const char *of) {
    struct rank r = {0};
    float x[4] = {1, 2, 3, 4}, y[4] = {0};
    device = of;
    join(&r, 0, 1, 100);
    struct kern_tensor tx = on_device(&r, x, 4), ty = on_device(&r, y, 4);
    CHECK_OK(kern_coll_all_reduce(r.b, r.c, r.s, &tx));
    CHECK_OK(kern_coll_reduce_scatter(r.b, r.c, r.s, &ty, &tx));
    CHECK_OK(kern_coll_broadcast(r.b, r.c, r.s, &ty, 0));
    CHECK_OK(kern_coll_barrier(r.b, r.c));
    fetch(&r, y, &ty);
    CHECK(memcmp(x, y, sizeof x) == 0);
    kern_release(r.b, tx.data);
    kern_release(r.b, ty.data);
    leave(&r);
}

TEST(coll_of_one_rank_is_a_copy) {
    copies_alone("ref");
    copies_alone("cpu");
}

TEST(coll_nccl_of_one_rank_is_a_copy) {
    load_double();
    copies_alone("cudasim:0");
}

/* Rank 1 ends or hangs inside a collective that all have agreed on: the transfers do not end. */
static void one_ends_inside(int rank) {
    struct rank r = {0};
    join(&r, rank, RANKS, 600000);
    struct kern_tensor t = on_device(&r, NULL, SIZE);
    if (rank == 1) *(bool *)dlsym(RTLD_DEFAULT, "nccl_double_dies") = true;
    CHECK_ERR(kern_coll_all_reduce(r.b, r.c, r.s, &t), ERR_CLOSED, "rank 1 of 3 is dead");
    CHECK_ERR(kern_coll_barrier(r.b, r.c), ERR_CLOSED, "broken");
    kern_release(r.b, t.data);
    leave(&r);
}

static void one_hangs_inside(int rank) {
    struct rank r = {0};
    join(&r, rank, RANKS, 1000);
    struct kern_tensor t = on_device(&r, NULL, SIZE);
    const char *fault = rank == 1 ? "nccl_double_hangs" : "nccl_double_hands_over";
    *(bool *)dlsym(RTLD_DEFAULT, fault) = true;
    CHECK_ERR(kern_coll_all_reduce(r.b, r.c, r.s, &t), ERR_TIMEOUT,
              "all_reduce: rank 1 of 3 takes no part any more");
    kern_release(r.b, t.data);
    leave(&r);
}

TEST(coll_nccl_names_the_rank_that_stalls) {
    device = "cudasim:0";
    load_double();
    run_ranks(one_ends_inside, RANKS);
    run_ranks(one_hangs_inside, RANKS);
}

static void no_unique_id(int rank) {
    const struct kern_backend *b = NULL;
    struct kern_coll *c = NULL;
    *(bool *)dlsym(RTLD_DEFAULT, "nccl_double_refuses") = true;
    CHECK_OK(kern_open(&b, device, 1));
    if (rank == 0)
        CHECK_ERR(kern_coll_open(b, &c, name(), 0, 2, 20000), ERR_DEVICE,
                  "rank 0 of 2: NCCL: double: refused");
    else
        CHECK_ERR(kern_coll_open(b, &c, name(), 1, 2, 20000), ERR_CLOSED, "rank 0 of 2 has left");
    kern_close(b);
}

TEST(coll_nccl_says_what_was_refused) {
    device = "cudasim:0";
    load_double();
    run_ranks(no_unique_id, 2);
}

/* No file can be opened, so no library can be loaded. */
TEST(coll_nccl_absent_is_one_clear_error) {
    const struct kern_backend *b = NULL;
    struct kern_coll *c = NULL;
    int rc = kern_open(&b, "cudasim:0", 1);
    if (rc == ERR_DEVICE) test_skip(err_text());
    CHECK_OK(rc);
    struct rlimit before, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_ERR(kern_coll_open(b, &c, name(), 0, 2, 300), ERR_DEVICE,
              "coll: ranks on GPUs need NCCL: libnccl.so.2: cannot open shared object file");
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0); /* the leak check at the end opens files */
    CHECK_OK(kern_coll_open(b, &c, name(), 0, 1, 300));
    kern_coll_close(b, c);
    kern_close(b);
}
