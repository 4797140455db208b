/* coll.c - collectives of the reference backend: one rank, which is a copy or nothing. It lets
 * single-process training use the same code path everywhere; several ranks need the cpu backend. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include "base/mem.h"

#include <string.h>

struct kern_coll {
    int n_ranks;
};

int ref_coll_open(struct kern_coll **out, const char *name, int rank, int n_ranks,
                  int deadline_ms) {
    (void)name;
    (void)deadline_ms;
    if (n_ranks != 1 || rank != 0)
        return FAIL(ERR_UNSUP, "ref has collectives of 1 rank, not %d: use device cpu", n_ranks);
    *out = mem_zalloc(sizeof **out);
    (*out)->n_ranks = n_ranks;
    return 0;
}

void ref_coll_close(struct kern_coll *c) {
    mem_free(c);
}

int ref_coll_all_reduce(struct kern_coll *c, ops_s s, kern_arg x) {
    (void)c;
    (void)s;
    (void)x;
    return 0;
}

static int copy_one_rank(const char *op, kern_arg dst, kern_arg src) {
    if (kern_elements(dst) != kern_elements(src))
        return FAIL(ERR_CONFIG, "%s: %lld elements, wanted %lld", op, (long long)kern_elements(dst),
                    (long long)kern_elements(src));
    memmove(dst->data, src->data, (size_t)kern_elements(src) * sizeof(float));
    return 0;
}

int ref_coll_reduce_scatter(struct kern_coll *c, ops_s s, kern_arg shard, kern_arg x) {
    (void)c;
    (void)s;
    return copy_one_rank("coll_reduce_scatter", shard, x);
}

int ref_coll_all_gather(struct kern_coll *c, ops_s s, kern_arg x, kern_arg shard) {
    (void)c;
    (void)s;
    return copy_one_rank("coll_all_gather", x, shard);
}

int ref_coll_broadcast(struct kern_coll *c, ops_s s, kern_arg x, int root) {
    (void)c;
    (void)s;
    (void)x;
    return root == 0 ? 0 : FAIL(ERR_CONFIG, "coll_broadcast: root %d of 1 rank", root);
}

int ref_coll_barrier(struct kern_coll *c) {
    (void)c;
    return 0;
}
