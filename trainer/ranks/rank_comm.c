/* rank_comm.c - see rank_comm.h. An all-reduce would be shorter to write (everybody's zeros and one
 * value), but it is arithmetic: it loses the sign of a zero, changes a NaN and rounds what is not
 * f32. Gathering keeps the bits, whatever they mean, and moves no more: each rank sends what it
 * has. */
#include "trainer/ranks/rank_comm.h"

#include "base/mem.h"

#include <string.h>

enum { PIECE = 1 << 20, WORD = sizeof(float) };

size_t rank_comm_bytes(int n_ranks) {
    return n_ranks > 1 ? (size_t)(n_ranks + 1) * PIECE : 0;
}

int rank_comm_open(struct rank_comm *out, const struct kern_backend *b,
                   const struct shard_ranks *ranks) {
    struct rank_comm x = {.backend = b, .ranks = *ranks};
    ASSERT(ranks->n > 1 && ranks->rank >= 0 && ranks->rank < ranks->n);
    int rc;
    TRY_OUT(kern_stream_open(b, &x.stream, 0));
    TRY_OUT(kern_alloc(b, &x.own, PIECE));
    TRY_OUT(kern_alloc(b, &x.all, (size_t)ranks->n * PIECE));
    *out = x;
    x = (struct rank_comm){0};
out:
    rank_comm_close(&x);
    return rc;
}

void rank_comm_close(struct rank_comm *x) {
    if (!x->backend) return;
    kern_release(x->backend, x->own);
    kern_release(x->backend, x->all);
    kern_stream_close(x->backend, x->stream);
    *x = (struct rank_comm){0};
}

static struct kern_tensor words_view(void *data, size_t bytes, int n) {
    return kern_view1(data, KERN_F32, (int64_t)((bytes + WORD - 1) / WORD) * n);
}

static size_t piece_at(size_t bytes, size_t at) {
    return bytes - at < PIECE ? bytes - at : PIECE;
}

int rank_comm_all_gather(const struct rank_comm *x, void *all, const void *own, size_t bytes) {
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = piece_at(bytes, at);
        struct kern_tensor mine = words_view(x->own, n, 1),
                           every = words_view(x->all, n, x->ranks.n);
        size_t stride = (size_t)kern_elements(&mine) * WORD;
        TRY(kern_put(x->backend, x->stream, x->own, (const char *)own + at, n));
        TRY(kern_coll_all_gather(x->backend, x->ranks.coll, x->stream, &every, &mine));
        for (int r = 0; r < x->ranks.n; r++)
            TRY(kern_get(x->backend, x->stream, (char *)all + (size_t)r * bytes + at,
                         (const char *)x->all + (size_t)r * stride, n));
    }
    return 0;
}

int rank_comm_broadcast(const struct rank_comm *x, void *data, size_t bytes, int root) {
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = piece_at(bytes, at);
        struct kern_tensor piece = words_view(x->own, n, 1);
        char *host = (char *)data + at;
        if (x->ranks.rank == root) TRY(kern_put(x->backend, x->stream, x->own, host, n));
        TRY(kern_coll_broadcast(x->backend, x->ranks.coll, x->stream, &piece, root));
        if (x->ranks.rank != root) TRY(kern_get(x->backend, x->stream, host, x->own, n));
    }
    return 0;
}

int rank_comm_sum(const struct rank_comm *x, double *v, size_t n) {
    double *all = mem_array(n * (size_t)x->ranks.n, sizeof *all);
    int rc = rank_comm_all_gather(x, all, v, n * sizeof *v);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        v[i] = 0;
        for (int r = 0; r < x->ranks.n; r++)
            v[i] += all[(size_t)r * n + i];
    }
    mem_free(all);
    return rc;
}

int rank_comm_check_equal(const struct rank_comm *x, struct hash h, const char *what) {
    struct hash *all = mem_array((size_t)x->ranks.n, sizeof *all);
    int rc = rank_comm_all_gather(x, all, &h, sizeof h);
    for (int r = 1; rc == 0 && r < x->ranks.n; r++)
        if (!hash_equal(all[0], all[r]))
            rc = FAIL(ERR_MISMATCH, "%s: rank %d of the trainer has others than rank 0", what, r);
    mem_free(all);
    return rc;
}
