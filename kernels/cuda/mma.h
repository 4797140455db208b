/* mma.h - a warp's bf16 matrix product and the loads that feed it: mma.sync m16n8k16, ldmatrix,
 * cp.async. The same instructions from sm_80 on; on the host tests/cudasim/sim_mma.h has the same
 * names in plain C++, register for register, so that the op suite runs the index arithmetic.
 *
 * Registers of a lane (g = lane / 4, t = lane % 4), two bf16 a word, lower index in the lower half:
 *   A [16 x 16]  a0: (g, 2t) a1: (g+8, 2t) a2: (g, 2t+8) a3: (g+8, 2t+8)
 *   B [16 x 8]   b0: (2t, g) b1: (2t+8, g)
 *   C [16 x 8]   c0, c1: (g, 2t), (g, 2t+1)  c2, c3: (g+8, 2t), (g+8, 2t+1)      f32
 * So C of two neighbouring products, rounded, is A of a product that sums over their columns.
 *
 * A row of C depends on its own row of A, on B and on C's row before, not on where in the tile it
 * stands or on what else the tile holds: that, and adding zero products changing nothing, is what
 * batch invariance (I6) asks of the instruction. */
#ifndef KERNELS_CUDA_MMA_H
#define KERNELS_CUDA_MMA_H

#include "kernels/cuda/cuda.h"

static const uint32_t MMA_ONES = 0x3f803f80u; /* two bf16 ones */

#if CUDA_ON_DEVICE
#define MMA_UNROLL _Pragma("unroll") /* of a loop over an array that must end up in registers */

/* c += a b */
static __device__ __forceinline__ void mma_m16n8k16(float c[4], const uint32_t a[4], uint32_t b0,
                                                    uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ uint32_t mma_address(const void *shared) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

/* Four 8 x 8 matrices: lane 8i + j gives the address of row j of matrix i (16 bytes in shared
 * memory); r[i] is then the pair (g, 2t), or (2t, g) when transposed. */
template <bool TRANS>
static __device__ __forceinline__ void mma_load(uint32_t r[4], const bf16 *row) {
    if (TRANS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(mma_address(row))
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(mma_address(row))
                     : "memory");
}

/* Two floats rounded to bf16 in one word. */
static __device__ __forceinline__ uint32_t mma_pack(float low, float high) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

/* 16 or 4 bytes to shared memory behind the thread's back, zeros if not there (src is then not
 * read). */
static __device__ __forceinline__ void mma_copy(void *shared, const void *src, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(mma_address(shared)),
                 "l"(src), "r"(there ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void mma_copy_float(float *shared, const float *src, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(mma_address(shared)),
                 "l"(src), "r"(there ? 4 : 0)
                 : "memory");
}
static __device__ __forceinline__ void mma_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most LEFT of the thread's committed groups are on their way. */
template <int LEFT> static __device__ __forceinline__ void mma_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

/* 2^x to 2 units in the last place, 2^-inf = 0, denormals to zero; exactly 1 at 0. */
static __device__ __forceinline__ float mma_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 4 and 16 bytes at once. */
static __device__ __forceinline__ void mma_put(bf16 *p, uint32_t pair) {
    *reinterpret_cast<uint32_t *>(p) = pair;
}
static __device__ __forceinline__ void mma_move(bf16 *dst, const bf16 *src) {
    *reinterpret_cast<uint4 *>(dst) = *reinterpret_cast<const uint4 *>(src);
}

#else
#define MMA_UNROLL
#include <sim_mma.h>
#endif

#define MMA_FOR(i, n)                                                                              \
    MMA_UNROLL                                                                                     \
    for (int i = 0; i < (n); i++)

/* --- tiles in shared memory: rows of WIDTH bf16, 16-byte pieces swizzled by row ------------- */

/* Piece p of row r lies at p ^ (r % 8), so the eight rows that an ldmatrix reads at one p lie in
 * eight different banks. */

template <int WIDTH> static __device__ __forceinline__ bf16 *mma_piece(bf16 *tile, int r, int p) {
    return tile + r * WIDTH + (p ^ (r & 7)) * 8;
}

/* Rows r..r+15, pieces p, p+1: A as it lies, or (transposed) B of the columns 8p (words 0, 1) and
 * 8p + 8 (words 2, 3), summing over the rows. r is a multiple of 8 and p even, so that the lane's
 * part of the swizzle does not depend on them: a loop over constants p, r costs no arithmetic. */
template <int WIDTH, bool TRANS>
static __device__ __forceinline__ void mma_rows(uint32_t f[4], bf16 *tile, int r, int p) {
    int lane = (int)threadIdx.x % CUDA_WARP, mine = (lane / 16) ^ (lane & 7);
    mma_load<TRANS>(f, tile + (lane % 16) * WIDTH + (p ^ mine) * 8 + r * WIDTH);
}

/* The same as B whose columns are the rows: r..r+7 (words 0, 1), r+8..r+15 (words 2, 3), summing
 * over pieces p, p+1. */
template <int WIDTH>
static __device__ __forceinline__ void mma_columns(uint32_t f[4], bf16 *tile, int r, int p) {
    int lane = (int)threadIdx.x % CUDA_WARP, mine = (lane / 8 % 2) ^ (lane & 7);
    mma_load<false>(f, tile + (lane / 16 * 8 + lane % 8) * WIDTH + (p ^ mine) * 8 + r * WIDTH);
}

#endif
