/* double.cc - stands in for NCCL in tests: the calls of kernels/cuda/nccl.h between processes
 * of one machine, over host memory.
 *
 * A message goes through a mailbox in a memfd, piece by piece, and only while the caller polls: so
 * every call answers "in progress" at first, as a communicator that does not block may. Where a
 * test asks for it, a transfer that does not move for PATIENCE_US counts as handed to the device,
 * as NCCL would do at once, and the stream stays busy until the communicator is aborted. */
#include "kernels/cuda/nccl.h"

#include <atomic>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RANKS = 8, BOX = 64 << 10, ITEMS = 256, PATIENCE_US = 100000 };

struct box { /* from one rank to another */
    std::atomic<unsigned> full;
    size_t bytes;
    char data[BOX];
};

struct common {
    std::atomic<int> joined;
    struct box box[RANKS][RANKS];
};

struct item { /* a message on its way */
    char *memory;
    size_t bytes;
    int peer;
    bool sends;
};

struct ncclComm {
    int rank, n_ranks, n_items, polls;
    struct common *common;
    struct item item[ITEMS];
    cudaStream_t on;
    int64_t moved_at;
};

static thread_local ncclComm_t grouped;
static thread_local int depth;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* One piece of the first message in this direction; false: the other side is not ready. */
static bool move(ncclComm_t c, struct item *i) {
    struct box *b =
        i->sends ? &c->common->box[c->rank][i->peer] : &c->common->box[i->peer][c->rank];
    size_t n = i->bytes < BOX ? i->bytes : (size_t)BOX;
    if (b->full.load() != (i->sends ? 0u : 1u)) return false;
    if (i->sends) {
        memcpy(b->data, i->memory, n);
        b->bytes = n;
    } else {
        if (b->bytes != n) abort(); /* the two sides disagree about the message */
        memcpy(i->memory, b->data, n);
    }
    b->full.store(i->sends ? 1 : 0);
    i->memory += n;
    i->bytes -= n;
    return true;
}

/* Messages between two ranks keep their order. */
static void progress(ncclComm_t c) {
    bool busy[2][RANKS] = {};
    int left = 0;
    for (int k = 0; k < c->n_items; k++) {
        struct item *i = &c->item[k];
        if (!busy[i->sends][i->peer] && move(c, i)) c->moved_at = now_us();
        if (i->bytes == 0) continue;
        busy[i->sends][i->peer] = true;
        c->item[left++] = *i;
    }
    c->n_items = left;
}

static ncclResult_t add(ncclComm_t c, const void *memory, size_t n, int peer, bool sends,
                        cudaStream_t on) {
    if (c->n_items == ITEMS || peer < 0 || peer >= c->n_ranks) return ncclSystemError;
    if (n == 0 || peer == c->rank) return ncclSuccess;
    c->item[c->n_items++] = {static_cast<char *>(const_cast<void *>(memory)), n * sizeof(float),
                             peer, sends};
    c->on = on;
    grouped = c;
    return ncclSuccess;
}

static ncclResult_t start(ncclComm_t c) {
    c->moved_at = now_us();
    return c->n_items ? ncclInProgress : ncclSuccess;
}

extern "C" {

/* Set by tests. */
bool nccl_double_refuses, nccl_double_dies, nccl_double_hangs, nccl_double_hands_over;

ncclResult_t ncclGetVersion(int *version) {
    *version = 21400;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(struct ncclUniqueId *id) {
    if (nccl_double_refuses) return ncclSystemError;
    int fd = memfd_create("nccl-double", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof(struct common)) < 0) return ncclSystemError;
    snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", (int)getpid(), fd);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n_ranks, struct ncclUniqueId id, int rank,
                                    struct nccl_config *config) {
    if (n_ranks > RANKS || config->magic != NCCL_MAGIC || config->blocking) return ncclSystemError;
    int fd = open(id.internal, O_RDWR | O_CLOEXEC);
    if (fd < 0) return ncclSystemError;
    void *p = mmap(nullptr, sizeof(struct common), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return ncclSystemError;
    *comm = new ncclComm();
    (*comm)->rank = rank;
    (*comm)->n_ranks = n_ranks;
    (*comm)->common = static_cast<struct common *>(p);
    (*comm)->common->joined++;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state) {
    *state = ncclInProgress;
    if (c->common->joined.load() < c->n_ranks) return ncclSuccess;
    progress(c);
    if (c->n_items == 0) *state = ncclSuccess;
    if (c->n_items == 0 || !nccl_double_hands_over || now_us() - c->moved_at < PATIENCE_US)
        return ncclSuccess;
    c->on->busy = true;
    *state = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t) {
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t c) {
    munmap(c->common, sizeof(struct common));
    delete c;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t c) {
    if (c->on) c->on->busy = false;
    return ncclCommDestroy(c);
}

const char *ncclGetErrorString(ncclResult_t) {
    return "double: refused";
}

const char *ncclGetLastError(ncclComm_t) {
    return "";
}

ncclResult_t ncclGroupStart(void) {
    if (depth++ == 0) grouped = nullptr;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    if (depth == 0) return ncclSystemError;
    return --depth == 0 && grouped ? start(grouped) : ncclSuccess;
}

ncclResult_t ncclSend(const void *from, size_t n, ncclDataType_t, int peer, ncclComm_t c,
                      cudaStream_t on) {
    if (nccl_double_hangs) sleep(4);
    if (nccl_double_hangs || nccl_double_dies) _exit(0);
    return add(c, from, n, peer, true, on);
}

ncclResult_t ncclRecv(void *to, size_t n, ncclDataType_t, int peer, ncclComm_t c, cudaStream_t on) {
    return add(c, to, n, peer, false, on);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t n, ncclDataType_t, ncclComm_t c,
                           cudaStream_t on) {
    char *all = static_cast<char *>(to);
    size_t bytes = n * sizeof(float);
    memmove(all + (size_t)c->rank * bytes, from, bytes);
    for (int r = 0; r < c->n_ranks; r++) {
        add(c, from, n, r, true, on);
        add(c, all + (size_t)r * bytes, n, r, false, on);
    }
    return start(c);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t n, ncclDataType_t, int root,
                           ncclComm_t c, cudaStream_t on) {
    for (int r = 0; r < c->n_ranks && c->rank == root; r++)
        add(c, from, n, r, true, on);
    if (c->rank != root) add(c, to, n, root, false, on);
    return start(c);
}
}
