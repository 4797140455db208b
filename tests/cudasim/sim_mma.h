/* sim_mma.h - the warp's matrix instructions and asynchronous copies of kernels/cuda/mma.h on the
 * host; see cuda_runtime.h.
 *
 * A warp's instruction is done by the first of its lanes that goes on after all have come, for all
 * of them: nobody runs ahead into memory that another lane has yet to read, as on a GPU. An
 * asynchronous copy leaves NaNs at once and the bytes only at the thread's wait: a wait or a
 * barrier too few shows, whichever side of the copy it lacks on. */
#ifndef CUDASIM_SIM_MMA_H
#define CUDASIM_SIM_MMA_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

struct sim_mma { /* one lane's operands */
    float *c;
    const uint32_t *a;
    uint32_t b[2];
};

static inline float sim_half(uint32_t pair, int high) {
    return __bfloat162float(__nv_bfloat16{(uint16_t)(high ? pair >> 16 : pair)});
}

static inline void sim_mma_all(void *const *lanes) {
    float a[16][16], b[8][16];
    for (int l = 0; l < 32; l++) {
        const struct sim_mma *m = (const struct sim_mma *)lanes[l];
        for (int i = 0; i < 8; i++) /* word i / 2, half i % 2 */
            a[l / 4 + i / 2 % 2 * 8][l % 4 * 2 + i / 4 * 8 + i % 2] = sim_half(m->a[i / 2], i % 2);
        for (int i = 0; i < 4; i++)
            b[l / 4][l % 4 * 2 + i / 2 * 8 + i % 2] = sim_half(m->b[i / 2], i % 2);
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            float *c = ((const struct sim_mma *)lanes[l])->c + i;
            for (int k = 0; k < 16; k++)
                *c += a[l / 4 + i / 2 * 8][k] * b[l % 4 * 2 + i % 2][k];
        }
}

static inline void mma_m16n8k16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    struct sim_mma m = {c, a, {b0, b1}};
    sim_warp_together(&m, sim_mma_all);
}

struct sim_load {
    uint32_t *r;
    const __nv_bfloat16 *row;
    bool trans;
};

static inline void sim_load_all(void *const *lanes) {
    for (int l = 0; l < 32; l++) {
        const struct sim_load *me = (const struct sim_load *)lanes[l];
        for (int i = 0; i < 4; i++) {
            uint32_t pair[2];
            for (int h = 0; h < 2; h++) {
                int row = me->trans ? l % 4 * 2 + h : l / 4, at = me->trans ? l / 4 : l % 4 * 2 + h;
                pair[h] = ((const struct sim_load *)lanes[i * 8 + row])->row[at].bits;
            }
            me->r[i] = pair[0] | pair[1] << 16;
        }
    }
}

template <bool TRANS> static inline void mma_load(uint32_t r[4], const __nv_bfloat16 *row) {
    struct sim_load m = {r, row, TRANS};
    if ((uintptr_t)row % 16) sim_die("ldmatrix: a row that does not start at 16 bytes");
    sim_warp_together(&m, sim_load_all);
}

static inline uint32_t mma_pack(float low, float high) {
    return __float2bfloat16_rn(low).bits | (uint32_t)__float2bfloat16_rn(high).bits << 16;
}

static inline void mma_copy(void *shared, const void *src, bool there) {
    sim_copy_begin(shared, src, 16, there);
}
static inline void mma_copy_float(float *shared, const float *src, bool there) {
    sim_copy_begin(shared, src, sizeof *src, there);
}
static inline void mma_commit(void) {
    sim_copy_commit();
}
template <int LEFT> static inline void mma_wait(void) {
    sim_copy_wait(LEFT);
}
static inline float mma_exp2(float x) {
    return exp2f(x);
}
static inline void mma_put(__nv_bfloat16 *p, uint32_t pair) {
    memcpy(p, &pair, sizeof pair);
}
static inline void mma_move(__nv_bfloat16 *dst, const __nv_bfloat16 *src) {
    if ((uintptr_t)dst % 16 || (uintptr_t)src % 16) sim_die("16 bytes moved off their place");
    memcpy(dst, src, 16);
}

#endif
