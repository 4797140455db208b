/* cuda_runtime.h - CUDA's language and runtime on the host, for tests: found instead of the
 * toolkit's header of this name when the kernels are compiled by a C++ compiler.
 *
 * A launch runs its blocks one after another; the threads of a block are fibers that run until they
 * meet a barrier (__syncthreads, a warp's shuffle, vote or __syncwarp). So the kernels' own logic
 * runs, index by index, under the address and undefined-behaviour sanitizers. Threads run in
 * ascending order, or descending on device 1: where the two differ in bits a barrier is missing. On
 * device 2 the host cannot reach device memory (arena.h). What cannot be shown here: speed, memory
 * models, and anything of a real chip's libraries. */
#ifndef CUDASIM_CUDA_RUNTIME_H
#define CUDASIM_CUDA_RUNTIME_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#include "sim_math.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {
    }
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

/* --- the running thread -------------------------------------------------------------------- */

struct sim_thread { /* what a thread sees of itself */
    dim3 thread, block, block_dim, grid_dim;
};
extern thread_local struct sim_thread *sim_self;
#define threadIdx (sim_self->thread)
#define blockIdx (sim_self->block)
#define blockDim (sim_self->block_dim)
#define gridDim (sim_self->grid_dim)
static const int warpSize = 32;

typedef void sim_body(void *ctx);
void sim_run(dim3 grid, dim3 block, size_t shared_bytes, sim_body *body, void *ctx);
void sim_descend(bool on); /* threads in descending order, in launches of this host thread */
void *sim_shared(void);    /* dynamic shared memory of the block */
void sim_block_barrier(void);
void sim_warp_barrier(unsigned mask);
uint64_t *sim_warp_slots(void); /* 32 words that the lanes of a warp share */
[[noreturn]] void sim_die(const char *what);
/* A whole warp's instruction: when all 32 lanes have come, fn gets what each gave. */
void sim_warp_together(void *mine, void (*fn)(void *const *lanes));
/* Asynchronous copies of 4 or 16 bytes (zeros if not there), in the thread's groups. */
void sim_copy_begin(void *dst, const void *src, unsigned bytes, bool there);
void sim_copy_commit(void);
void sim_copy_wait(unsigned groups_left);

/* Work of a stream: kept if it is recorded, done later if something of the stream is to be done
 * later, else done now. */
struct sim_stream;
void sim_submit(struct sim_stream *on, std::function<void()> work);

/* The arguments are copied as the kernel's parameters: those of a recording outlive the call. */
template <typename... P, typename... A>
static void sim_launch(struct sim_stream *on, dim3 grid, dim3 block, size_t shared_bytes,
                       void (*kernel)(P...), A... arguments) {
    std::tuple<P...> kept(static_cast<P>(arguments)...);
    sim_submit(on, [=] {
        auto body = [&] { std::apply(kernel, kept); };
        sim_run(
            grid, block, shared_bytes, [](void *ctx) { (*(decltype(body) *)ctx)(); }, &body);
    });
}

static inline void __syncthreads(void) {
    sim_block_barrier();
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
    sim_warp_barrier(mask);
}
static inline unsigned sim_lane(void) {
    unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    return t % 32;
}

/* Every lane of the mask gives a value, then reads the one of lane `from`; a lane that is not there
 * gives the reader its own value back. */
template <typename T> static inline T sim_exchange(unsigned mask, T v, unsigned from) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a lane's word");
    uint64_t word = 0, *slots = sim_warp_slots();
    memcpy(&word, &v, sizeof v);
    slots[sim_lane()] = word;
    sim_warp_barrier(mask);
    if (from < 32 && (mask >> from & 1)) memcpy(&v, &slots[from], sizeof v);
    sim_warp_barrier(mask);
    return v;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    unsigned lane = sim_lane();
    return sim_exchange(mask, v, lane / width * width + (unsigned)from % width);
}
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T v, int other, int width = 32) {
    unsigned lane = sim_lane(), from = lane ^ (unsigned)other;
    return sim_exchange(mask, v, from / width == lane / width ? from : lane);
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    unsigned lane = sim_lane(), from = lane + by;
    return sim_exchange(mask, v, from / width == lane / width ? from : lane);
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    unsigned lane = sim_lane();
    return sim_exchange(mask, v, lane % width >= by ? lane - by : lane);
}
static inline unsigned __ballot_sync(unsigned mask, int vote) {
    unsigned all = 0;
    uint64_t *slots = sim_warp_slots();
    slots[sim_lane()] = vote != 0;
    sim_warp_barrier(mask);
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1 && slots[i]) all |= 1u << i;
    sim_warp_barrier(mask);
    return all;
}
static inline int __any_sync(unsigned mask, int vote) {
    return __ballot_sync(mask, vote) != 0;
}
static inline int __all_sync(unsigned mask, int vote) {
    return __ballot_sync(mask, vote) == mask;
}

/* Blocks and threads take turns, so a plain read and write is atomic here. */
template <typename T> static inline T atomicAdd(T *p, T v) {
    T was = *p;
    *p = was + v;
    return was;
}
template <typename T> static inline T atomicMax(T *p, T v) {
    T was = *p;
    *p = was > v ? was : v;
    return was;
}
static inline unsigned atomicInc(unsigned *p, unsigned limit) {
    unsigned was = *p;
    *p = was >= limit ? 0 : was + 1;
    return was;
}
static inline void __threadfence(void) {
}

#include "sim_runtime.h"

#endif
