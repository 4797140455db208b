/* nccl.h - the part of NCCL's public interface that coll.cu calls, declared here so that neither
 * its header nor the library is needed to build. The layout of the configuration is that of version
 * 2.14, the first with communicators that do not block; later ones accept it by its version. */
#ifndef KERNELS_CUDA_NCCL_H
#define KERNELS_CUDA_NCCL_H

#include <cuda_runtime.h>

typedef struct ncclComm *ncclComm_t;

struct ncclUniqueId {
    char internal[128];
};

enum ncclResult_t { ncclSuccess = 0, ncclSystemError = 2, ncclRemoteError = 6, ncclInProgress = 7 };
enum ncclDataType_t { ncclFloat32 = 7 };

struct nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking;
};
static const unsigned NCCL_MAGIC = 0xcafebeef, NCCL_VERSION_OF_CONFIG = 21400;

/* X(result, name, parameters) */
#define NCCL_CALLS(X)                                                                              \
    X(ncclResult_t, ncclGetVersion, (int *version))                                                \
    X(ncclResult_t, ncclGetUniqueId, (struct ncclUniqueId * id))                                   \
    X(ncclResult_t, ncclCommInitRankConfig,                                                        \
      (ncclComm_t * comm, int n_ranks, struct ncclUniqueId id, int rank,                           \
       struct nccl_config *config))                                                                \
    X(ncclResult_t, ncclCommFinalize, (ncclComm_t comm))                                           \
    X(ncclResult_t, ncclCommDestroy, (ncclComm_t comm))                                            \
    X(ncclResult_t, ncclCommAbort, (ncclComm_t comm))                                              \
    X(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t * state))                \
    X(const char *, ncclGetErrorString, (ncclResult_t rc))                                         \
    X(const char *, ncclGetLastError, (ncclComm_t comm))                                           \
    X(ncclResult_t, ncclGroupStart, (void))                                                        \
    X(ncclResult_t, ncclGroupEnd, (void))                                                          \
    X(ncclResult_t, ncclSend,                                                                      \
      (const void *from, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,                 \
       cudaStream_t on))                                                                           \
    X(ncclResult_t, ncclRecv,                                                                      \
      (void *to, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t on))       \
    X(ncclResult_t, ncclAllGather,                                                                 \
      (const void *from, void *to, size_t n, ncclDataType_t type, ncclComm_t comm,                 \
       cudaStream_t on))                                                                           \
    X(ncclResult_t, ncclBroadcast,                                                                 \
      (const void *from, void *to, size_t n, ncclDataType_t type, int root, ncclComm_t comm,       \
       cudaStream_t on))

#endif
