/* coll.cu - collectives between the ranks of one machine, a GPU each, over NCCL.
 *
 * NCCL only moves data. Sums are made here, per element in rank order, each rank for a part of the
 * elements: an all-reduce is pieces sent to their owners, an ordered sum, and the sums sent back,
 * which moves as many bytes as a ring does. So the bits are those of the CPU backend and depend
 * neither on NCCL's version nor on the algorithm or topology that it chooses.
 *
 * NCCL is loaded when the first communicator of several ranks is opened; a single rank needs none.
 * The ranks find each other in the executable's rendezvous.h, whose barrier before each collective
 * names a rank that does not come, or does something else. The communicator does not block: what
 * the library says is polled, and so are the stream and the other processes, with a deadline. A
 * collective has ended when it returns; one that does not end is aborted, and the rank that went
 * away or stopped taking part is named. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/nccl.h"

#include <dlfcn.h>
#include <string.h>

extern "C" {
#include "base/clock.h"
#include "base/log.h"
#include "kernels/rendezvous.h"
}

/* Floats of each rank that are summed at a time; few in tests, so that there are several turns. */
static const int64_t PIECE = CUDA_ON_DEVICE ? 2 << 20 : 1 << 16;
static const int SPINS = 2000, NAP_US = 50;

struct nccl { /* the library, once per process */
    void *so;
#define NCCL_MEMBER(result, name, parameters) result(*p_##name) parameters;
    NCCL_CALLS(NCCL_MEMBER)
#undef NCCL_MEMBER
};
static struct nccl nccl;

struct kern_coll {
    int rank, n_ranks, deadline_ms;
    struct rendezvous *meet; /* null: one rank */
    ncclComm_t comm;         /* null: one rank, or aborted */
    float *stage;            /* [n_ranks][PIECE] */
};

static __global__ void sum_in_rank_order(float *__restrict__ out, const float *__restrict__ parts,
                                         int64_t stride, int ranks, int64_t n) {
    CUDA_EACH(i, n) {
        float sum = parts[i];
        for (int r = 1; r < ranks; r++)
            sum += parts[r * stride + i];
        out[i] = sum;
    }
}

static int load_nccl(void) {
    static const char name[] = "libnccl.so.2";
    struct nccl found = {};
    int version = 0;
    if (nccl.so) return 0;
    found.so = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!found.so) return FAIL(ERR_DEVICE, "coll: ranks on GPUs need NCCL: %s", dlerror());
#define NCCL_FIND(result, symbol, parameters)                                                      \
    found.p_##symbol = reinterpret_cast<result(*) parameters>(dlsym(found.so, #symbol));           \
    if (!found.p_##symbol)                                                                         \
        return FAIL(ERR_DEVICE, "coll: %s has no %s, 2.14 or newer is wanted", name, #symbol);
    NCCL_CALLS(NCCL_FIND)
#undef NCCL_FIND
    nccl = found;
    nccl.p_ncclGetVersion(&version);
    LOG(INFO, KERN, "nccl=%s version=%d sums=own", name, version);
    return 0;
}

/* --- waiting -------------------------------------------------------------------------------- */

/* Ends the library's part, also what it has running on streams. */
static void break_off(struct kern_coll *c) {
    if (c->comm) nccl.p_ncclCommAbort(c->comm);
    c->comm = nullptr;
    rendezvous_break(c->meet);
}

static int late(struct kern_coll *c, const char *op) {
    int silent = rendezvous_silent(c->meet);
    break_off(c);
    if (silent >= 0)
        return FAIL(ERR_TIMEOUT,
                    "coll: %s: rank %d of %d takes no part any more (rank %d waited %d ms)", op,
                    silent, c->n_ranks, c->rank, c->deadline_ms);
    return FAIL(ERR_TIMEOUT, "coll: %s: all %d ranks take part, but it did not end within %d ms",
                op, c->n_ranks, c->deadline_ms);
}

static int nccl_refused(struct kern_coll *c, const char *op, ncclResult_t rc) {
    const char *more = nccl.p_ncclGetLastError(c->comm);
    int failure = FAIL(ERR_DEVICE, "coll: %s: rank %d of %d: NCCL: %s%s%s", op, c->rank, c->n_ranks,
                       nccl.p_ncclGetErrorString(rc), more && *more ? ": " : "", more ? more : "");
    break_off(c);
    return failure;
}

struct patience {
    uint64_t deadline;
    int spins;
};

static struct patience patience_of(const struct kern_coll *c) {
    struct patience p = {clock_us() + (uint64_t)c->deadline_ms * 1000, 0};
    return p;
}

/* A short while more, unless another rank went away or the time is over. */
static int wait_more(struct kern_coll *c, struct patience *p, const char *op) {
    rendezvous_beat(c->meet);
    if (p->spins++ < SPINS) return 0;
    int rc = rendezvous_check(c->meet);
    if (rc < 0) break_off(c);
    clock_sleep_us(NAP_US);
    return rc < 0 ? rc : clock_us() < p->deadline ? 0 : late(c, op);
}

static ncclResult_t state_of(struct kern_coll *c) {
    ncclResult_t state = ncclSuccess, rc = nccl.p_ncclCommGetAsyncError(c->comm, &state);
    return rc == ncclSuccess ? state : rc;
}

/* Until the library has taken what it was asked for, with the first answer rc. */
static int coll_settle(struct kern_coll *c, const char *op, ncclResult_t rc) {
    struct patience p = patience_of(c);
    while (rc == ncclInProgress) {
        TRY(wait_more(c, &p, op));
        rc = state_of(c);
    }
    return rc == ncclSuccess ? 0 : nccl_refused(c, op, rc);
}

/* Until everything on the stream is done. */
static int coll_finish(struct kern_coll *c, ops_s s, const char *op) {
    struct patience p = patience_of(c);
    for (;;) {
        cudaError_t e = cudaStreamQuery(s->on);
        if (e == cudaSuccess) break;
        if (e != cudaErrorNotReady) {
            break_off(c);
            return cuda_fail(e, op, __FILE__, __LINE__);
        }
        ncclResult_t rc = state_of(c);
        if (rc != ncclSuccess && rc != ncclInProgress) return nccl_refused(c, op, rc);
        TRY(wait_more(c, &p, op));
    }
    rendezvous_done(c->meet);
    return 0;
}

/* --- opening -------------------------------------------------------------------------------- */

static int join_ranks(struct kern_coll *c) {
    struct ncclUniqueId *shared = static_cast<struct ncclUniqueId *>(rendezvous_memory(c->meet)),
                        id;
    struct nccl_config config = {sizeof config, NCCL_MAGIC, NCCL_VERSION_OF_CONFIG, 0};
    if (c->rank == 0) {
        ncclResult_t rc = nccl.p_ncclGetUniqueId(shared);
        if (rc != ncclSuccess) return nccl_refused(c, "coll_open", rc);
    }
    TRY(rendezvous_barrier(c->meet));
    memcpy(&id, shared, sizeof id);
    ncclResult_t rc = nccl.p_ncclCommInitRankConfig(&c->comm, c->n_ranks, id, c->rank, &config);
    TRY(coll_settle(c, "coll_open", rc));
    rendezvous_done(c->meet);
    return 0;
}

int cuda_coll_open(struct kern_coll **out, const char *name, int rank, int n_ranks,
                   int deadline_ms) {
    struct kern_coll *c = new kern_coll();
    c->rank = rank;
    c->n_ranks = n_ranks;
    c->deadline_ms = deadline_ms;
    int rc = n_ranks == 1 ? 0 : load_nccl();
    if (rc == 0 && n_ranks > 1) rc = cuda_use_device();
    if (rc == 0 && n_ranks > 1)
        rc = rendezvous_open(&c->meet, name, rank, n_ranks, deadline_ms,
                             sizeof(struct ncclUniqueId));
    if (rc == 0 && n_ranks > 1) {
        size_t bytes = (size_t)n_ranks * PIECE * sizeof(float);
        cudaError_t e = cudaMalloc(reinterpret_cast<void **>(&c->stage), bytes);
        rc = e == cudaSuccess ? join_ranks(c) : cuda_fail(e, "coll_open", __FILE__, __LINE__);
    }
    if (rc < 0) {
        cuda_coll_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void cuda_coll_close(struct kern_coll *c) {
    if (c->comm && coll_settle(c, "coll_close", nccl.p_ncclCommFinalize(c->comm)) == 0)
        nccl.p_ncclCommDestroy(c->comm);
    if (c->stage) cudaFree(c->stage);
    rendezvous_close(&c->meet);
    delete c;
}

/* --- the collectives ------------------------------------------------------------------------ */

static int coll_copy(ops_s s, float *to, const float *from, int64_t n) {
    if (to == from || n == 0) return 0;
    CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)n * sizeof *to, cudaMemcpyDeviceToDevice, s->on));
    return 0;
}

static int coll_begin(struct kern_coll *c, enum rendezvous_op op, int64_t n) {
    TRY(cuda_use_device());
    return rendezvous_begin(c->meet, op, n);
}

struct span { /* elements [from, from + n) */
    int64_t from, n;
};

/* What rank r owns of m elements. */
static struct span rank_span(const struct kern_coll *c, int r, int64_t m) {
    int64_t from = m * r / c->n_ranks;
    struct span s = {from, m * (r + 1) / c->n_ranks - from};
    return s;
}

/* One group of transfers: rank r gets out[r], and in[r] receives what it sends. Own spans are not
 * moved; an empty span is not sent. */
struct rank_comm {
    const float *out[RENDEZVOUS_RANKS_MAX];
    float *in[RENDEZVOUS_RANKS_MAX];
    int64_t n_out[RENDEZVOUS_RANKS_MAX], n_in[RENDEZVOUS_RANKS_MAX];
};

static int run_exchange(struct kern_coll *c, ops_s s, const struct rank_comm *x, const char *op) {
    ncclResult_t rc = nccl.p_ncclGroupStart();
    for (int r = 0; r < c->n_ranks && rc == ncclSuccess; r++) {
        if (r == c->rank) continue;
        if (x->n_out[r])
            rc = nccl.p_ncclSend(x->out[r], (size_t)x->n_out[r], ncclFloat32, r, c->comm, s->on);
        if (rc == ncclSuccess && x->n_in[r])
            rc = nccl.p_ncclRecv(x->in[r], (size_t)x->n_in[r], ncclFloat32, r, c->comm, s->on);
    }
    ncclResult_t end = nccl.p_ncclGroupEnd();
    return coll_settle(c, op, rc == ncclSuccess || rc == ncclInProgress ? end : rc);
}

/* out[i] = sum over ranks of their x[mine + i]; rank r gets x + at[r] of n[r] elements from here.
 */
static int sum_pieces(struct kern_coll *c, ops_s s, float *out, const float *x,
                      const struct span *of, const char *op) {
    struct rank_comm e = {};
    const struct span *own = &of[c->rank];
    for (int r = 0; r < c->n_ranks; r++) {
        e.out[r] = x + of[r].from;
        e.n_out[r] = of[r].n;
        e.in[r] = c->stage + r * PIECE;
        e.n_in[r] = own->n;
    }
    TRY(coll_copy(s, c->stage + c->rank * PIECE, x + own->from, own->n));
    TRY(run_exchange(c, s, &e, op));
    if (own->n)
        CUDA_LAUNCH(sum_in_rank_order, cuda_blocks(own->n), CUDA_BLOCK, 0, s, out, c->stage, PIECE,
                    c->n_ranks, own->n);
    return 0;
}

int cuda_coll_all_reduce(struct kern_coll *c, ops_s s, kern_arg x) {
    const int64_t n = kern_elements(x), step = PIECE * c->n_ranks;
    struct span of[RENDEZVOUS_RANKS_MAX];
    struct rank_comm back = {};
    if (c->n_ranks == 1) return 0;
    TRY(coll_begin(c, RENDEZVOUS_ALL_REDUCE, n));
    for (int64_t i = 0; i < n; i += step) {
        float *at = cuda_data<float>(x) + i;
        const int64_t m = n - i < step ? n - i : step;
        for (int r = 0; r < c->n_ranks; r++)
            of[r] = rank_span(c, r, m);
        const struct span *own = &of[c->rank];
        TRY(sum_pieces(c, s, at + own->from, at, of, "all_reduce"));
        for (int r = 0; r < c->n_ranks; r++) {
            back.out[r] = at + own->from;
            back.n_out[r] = own->n;
            back.in[r] = at + of[r].from;
            back.n_in[r] = of[r].n;
        }
        TRY(run_exchange(c, s, &back, "all_reduce"));
    }
    return coll_finish(c, s, "all_reduce");
}

/* x holds one shard of n elements per rank. */
static int nccl_check_shards(const struct kern_coll *c, const char *op, kern_arg x, int64_t n) {
    if (kern_elements(x) == n * c->n_ranks) return 0;
    return FAIL(ERR_CONFIG, "%s: %lld elements, wanted %d shards of %lld", op,
                (long long)kern_elements(x), c->n_ranks, (long long)n);
}

int cuda_coll_reduce_scatter(struct kern_coll *c, ops_s s, kern_arg shard, kern_arg x) {
    const int64_t n = kern_elements(shard);
    struct span of[RENDEZVOUS_RANKS_MAX];
    TRY(nccl_check_shards(c, "coll_reduce_scatter", x, n));
    if (c->n_ranks == 1) return coll_copy(s, cuda_data<float>(shard), cuda_data<float>(x), n);
    TRY(coll_begin(c, RENDEZVOUS_REDUCE_SCATTER, n));
    for (int64_t i = 0; i < n; i += PIECE) {
        for (int r = 0; r < c->n_ranks; r++)
            of[r] = {r * n + i, n - i < PIECE ? n - i : PIECE};
        TRY(sum_pieces(c, s, cuda_data<float>(shard) + i, cuda_data<float>(x), of,
                       "reduce_scatter"));
    }
    return coll_finish(c, s, "reduce_scatter");
}

/* The shard may be this rank's place in x. */
int cuda_coll_all_gather(struct kern_coll *c, ops_s s, kern_arg x, kern_arg shard) {
    const int64_t n = kern_elements(shard);
    TRY(nccl_check_shards(c, "coll_all_gather", x, n));
    if (c->n_ranks == 1) return coll_copy(s, cuda_data<float>(x), cuda_data<float>(shard), n);
    TRY(coll_begin(c, RENDEZVOUS_ALL_GATHER, n));
    ncclResult_t rc =
        nccl.p_ncclAllGather(shard->data, x->data, (size_t)n, ncclFloat32, c->comm, s->on);
    TRY(coll_settle(c, "all_gather", rc));
    return coll_finish(c, s, "all_gather");
}

int cuda_coll_broadcast(struct kern_coll *c, ops_s s, kern_arg x, int root) {
    const int64_t n = kern_elements(x);
    if (root < 0 || root >= c->n_ranks)
        return FAIL(ERR_CONFIG, "coll_broadcast: root %d of %d ranks", root, c->n_ranks);
    if (c->n_ranks == 1) return 0;
    TRY(coll_begin(c, RENDEZVOUS_BROADCAST, n * RENDEZVOUS_RANKS_MAX + root));
    ncclResult_t rc =
        nccl.p_ncclBroadcast(x->data, x->data, (size_t)n, ncclFloat32, root, c->comm, s->on);
    TRY(coll_settle(c, "broadcast", rc));
    return coll_finish(c, s, "broadcast");
}

int cuda_coll_barrier(struct kern_coll *c) {
    return c->n_ranks == 1 ? 0 : coll_begin(c, RENDEZVOUS_BARRIER, 0);
}
