/* coll_shm.c - collectives between the ranks of one machine, through shared memory (rendezvous.h).
 *
 * Each rank has a slot; a collective of any size goes through the slots piece by piece, with a
 * barrier after the slots are written and one after they were read. Sums are taken per element in
 * rank order, each rank for a part of the elements, so that all ranks get the same bits. */
#include "base/mem.h"
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"
#include "kernels/rendezvous.h"

#include <string.h>

enum { SLOT = 256 << 10 }; /* floats: 1 MiB per rank */

struct kern_coll {
    int rank, n_ranks;
    struct rendezvous *meet; /* NULL: one rank */
    float *slots, *result;   /* [n_ranks][SLOT], [SLOT] */
};

static float *slot_of(struct kern_coll *c, int rank) {
    return c->slots + (int64_t)rank * SLOT;
}

/* out[i] = sum over ranks of slot[rank][at + i], rank 0 first. */
static void sum_slots(struct kern_coll *c, float *out, int64_t at, int64_t n) {
    memcpy(out, slot_of(c, 0) + at, (size_t)n * sizeof *out);
    for (int r = 1; r < c->n_ranks; r++) {
        struct flat_args add = {.out = out, .a = out, .b = slot_of(c, r) + at};
        cpu_isa()->add(&add, 0, n, NULL);
    }
}

int cpu_coll_open(struct kern_coll **out, const char *name, int rank, int n_ranks,
                  int deadline_ms) {
    struct kern_coll *c = mem_zalloc(sizeof *c);
    size_t bytes = ((size_t)n_ranks + 1) * SLOT * sizeof(float);
    c->rank = rank;
    c->n_ranks = n_ranks;
    int rc = n_ranks == 1 ? 0 : rendezvous_open(&c->meet, name, rank, n_ranks, deadline_ms, bytes);
    if (rc < 0) {
        cpu_coll_close(c);
        return rc;
    }
    if (c->meet) c->slots = rendezvous_memory(c->meet);
    if (c->meet) c->result = slot_of(c, n_ranks);
    *out = c;
    return 0;
}

void cpu_coll_close(struct kern_coll *c) {
    rendezvous_close(&c->meet);
    mem_free(c);
}

/* --- the collectives ------------------------------------------------------------------------ */

int cpu_coll_barrier(struct kern_coll *c) {
    return c->n_ranks == 1 ? 0 : rendezvous_begin(c->meet, RENDEZVOUS_BARRIER, 0);
}

int cpu_coll_all_reduce(struct kern_coll *c, ops_s s, kern_arg x) {
    const int64_t n = kern_elements(x);
    (void)s;
    if (c->n_ranks == 1) return 0;
    TRY(rendezvous_begin(c->meet, RENDEZVOUS_ALL_REDUCE, n));
    for (int64_t i = 0; i < n; i += SLOT) {
        const int64_t m = n - i < SLOT ? n - i : SLOT;
        const int64_t from = m * c->rank / c->n_ranks, to = m * (c->rank + 1) / c->n_ranks;
        memcpy(slot_of(c, c->rank), host_f32(x) + i, (size_t)m * sizeof(float));
        TRY(rendezvous_barrier(c->meet));
        sum_slots(c, c->result + from, from, to - from);
        TRY(rendezvous_barrier(c->meet));
        memcpy(host_f32(x) + i, c->result, (size_t)m * sizeof(float));
    }
    return 0;
}

/* x holds one shard of n elements per rank. */
static int check_shards(const struct kern_coll *c, const char *op, kern_arg x, int64_t n) {
    if (kern_elements(x) == n * c->n_ranks) return 0;
    return FAIL(ERR_CONFIG, "%s: %lld elements, wanted %d shards of %lld", op,
                (long long)kern_elements(x), c->n_ranks, (long long)n);
}

int cpu_coll_reduce_scatter(struct kern_coll *c, ops_s s, kern_arg shard, kern_arg x) {
    const int64_t n = kern_elements(shard), piece = SLOT / c->n_ranks;
    (void)s;
    TRY(check_shards(c, "coll_reduce_scatter", x, n));
    if (c->n_ranks == 1) {
        memmove(shard->data, x->data, (size_t)n * sizeof(float));
        return 0;
    }
    TRY(rendezvous_begin(c->meet, RENDEZVOUS_REDUCE_SCATTER, n));
    for (int64_t i = 0; i < n; i += piece) {
        const int64_t m = n - i < piece ? n - i : piece;
        for (int r = 0; r < c->n_ranks; r++)
            memcpy(slot_of(c, c->rank) + r * piece, host_f32(x) + r * n + i,
                   (size_t)m * sizeof(float));
        TRY(rendezvous_barrier(c->meet));
        sum_slots(c, host_f32(shard) + i, c->rank * piece, m);
        TRY(rendezvous_barrier(c->meet));
    }
    return 0;
}

int cpu_coll_all_gather(struct kern_coll *c, ops_s s, kern_arg x, kern_arg shard) {
    const int64_t n = kern_elements(shard);
    (void)s;
    TRY(check_shards(c, "coll_all_gather", x, n));
    if (c->n_ranks == 1) {
        memmove(x->data, shard->data, (size_t)n * sizeof(float));
        return 0;
    }
    TRY(rendezvous_begin(c->meet, RENDEZVOUS_ALL_GATHER, n));
    for (int64_t i = 0; i < n; i += SLOT) {
        const int64_t m = n - i < SLOT ? n - i : SLOT;
        memcpy(slot_of(c, c->rank), host_f32(shard) + i, (size_t)m * sizeof(float));
        TRY(rendezvous_barrier(c->meet));
        for (int r = 0; r < c->n_ranks; r++)
            memcpy(host_f32(x) + r * n + i, slot_of(c, r), (size_t)m * sizeof(float));
        TRY(rendezvous_barrier(c->meet));
    }
    return 0;
}

int cpu_coll_broadcast(struct kern_coll *c, ops_s s, kern_arg x, int root) {
    const int64_t n = kern_elements(x);
    (void)s;
    if (root < 0 || root >= c->n_ranks)
        return FAIL(ERR_CONFIG, "coll_broadcast: root %d of %d ranks", root, c->n_ranks);
    if (c->n_ranks == 1) return 0;
    TRY(rendezvous_begin(c->meet, RENDEZVOUS_BROADCAST, n * RENDEZVOUS_RANKS_MAX + root));
    for (int64_t i = 0; i < n; i += SLOT) {
        const int64_t m = n - i < SLOT ? n - i : SLOT;
        if (c->rank == root) memcpy(c->result, host_f32(x) + i, (size_t)m * sizeof(float));
        TRY(rendezvous_barrier(c->meet));
        if (c->rank != root) memcpy(host_f32(x) + i, c->result, (size_t)m * sizeof(float));
        TRY(rendezvous_barrier(c->meet));
    }
    return 0;
}
