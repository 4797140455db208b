/* isa.h - the kernels of one instruction set, and the arguments of each. Private to kernels/cpu.
 *
 * Numbers that are f32 or bf16, as the table that the kernel stands in says, are pointed to by
 * void; float is f32 in both.
 *
 * A kernel computes items begin..end-1 of its op on the calling thread. Items write disjoint
 * outputs, and an item's bits depend on the arguments only, so the drivers may cut the range
 * anywhere. */
#ifndef KERNELS_CPU_ISA_H
#define KERNELS_CPU_ISA_H

#include "kernels/backend.h"

typedef void cpu_kernel(const void *args, int64_t begin, int64_t end, void *scratch);

enum {
    GEMM_PANEL = 32,          /* columns of a panel of B */
    GEMM_KC = 384,            /* most depth of a block: a panel of it is 48 KiB */
    GEMM_NC = 24,             /* panels packed at a time (1.1 MiB) */
    GEMM_AC = 512,            /* most depth of a block of A where B is packed already */
    GEMM_TILE = 14,           /* rows of the highest tile, AVX-512's */
    GEMM_MC = 12 * GEMM_TILE, /* rows of A packed at a time */
    ROWS_SUM = 64,            /* rows of a partial sum of a column */
    ATTN_WIDTH = 256,         /* largest head width */
    ATTN_ROWS = 4,            /* query rows of a tile */
    ATTN_NARROW = 16,         /* up to this head width rows may lie in lanes, 16 in a tile */
    ATTN_LANES = 16,
    ATTN_KEYS = 64,    /* keys of a block */
    HEAD_BLOCK = 1024, /* words of the vocabulary summed in float before they join a double */
    DOT_SEGMENTS = 128 /* partial sums of a scalar product */
};

/* C[M,N] = (accumulate: C +) A[M,K] B[K,N] (+ bias[N]); A[m,k] at a + m*rs + k*cs, rs or cs is 1.
 * One call does panels panel0..panel1-1 of B (32 columns each) in depth k0..k1-1. Items: (m block,
 * n block) pairs, n fastest; of packing B: panels; of packing A: tiles. */
struct gemm_args {
    const void *a;
    int64_t rs, cs;
    const void *b;
    enum { GEMM_PACKED, GEMM_NK, GEMM_KN } layout; /* panels; [N,K]; [K,N] */
    int64_t ldb;
    float *c;
    int64_t ldc, m, n, k;
    const float *bias;
    bool accumulate, by_parts; /* by_parts: with accumulate; C gets the sum of each block */

    int64_t panel0, panel1, k0, k1;
    void *panels;       /* panel0, from k0 on */
    int64_t panel_size; /* numbers from one to the next */
    float *tiles;  /* all of A, packed, if the item has all rows; NULL: each item packs its own */
    int64_t depth; /* of a tile */
    int64_t m_block, n_block, n_blocks; /* rows and panels of an item; items along n */
};

struct colsum_args { /* out[c] += sum over rows; items: 16 columns */
    float *out;
    const void *g;
    int64_t rows, n;
};

struct norm_args { /* items: rows; of the weight gradient: 16 columns */
    void *out, *gx;
    float *gw, *r;
    const void *x, *w, *gout;
    void *sum; /* with the residual: x + add */
    const void *add;
    int64_t rows, d;
    float eps;
    bool accumulate;
};

struct flat_args { /* items: elements */
    void *out, *out2;
    const void *a, *b, *c;
    const uint16_t *b16; /* dot: b as bf16 */
    float alpha, beta;
    double *partial; /* dot: 3 per segment; items: segments */
    int64_t n, segment;
};

struct cast_args { /* items: elements */
    const void *src;
    void *dst;
    bool to_bf16;
};

struct rows_args { /* items: rows; of adding into rows: 16 columns */
    void *table;
    const void *x;
    const int32_t *ids;
    int64_t rows, d;
};

struct adam_args { /* items: elements */
    float *w, *m, *v;
    const float *g;
    const float *along; /* or along16, or neither */
    const uint16_t *along16;
    uint16_t *keep, *rounded;
    uint16_t *changed; /* NULL, or 16 elements a piece */
    bool changed_or;
    float along_scale;
    float beta1, beta2, rest1, rest2, step, root, eps, decay, grad_scale;
};

struct rope_args { /* items: rows */
    void *x;
    const void *from, *w; /* norm_rope: from is normalised by w (NULL: not) into x first */
    float eps;
    const int32_t *pos;
    const float *cos, *sin;
    int64_t heads, width;
    bool inverse;
};

struct attn_args {
    void *out;
    float *lse;
    const void *q, *k, *v;
    int64_t heads, kv_heads, width, page, pages_max;
    const int32_t *start, *len, *pages;
    int32_t n_seqs, window;
    float scale;
    int64_t tile, tiles_per_seq; /* rows of a tile; forward items: (sequence, tile, key head), key
                                  * head fastest */
    void *gq;                    /* reverse items: key heads */
    float *gk, *gv;
    const void *gout;
};

struct head_args { /* items: rows */
    float *logprob, *entropy, *lse, *kept;
    float *logits; /* written by the reverse only */
    const int32_t *target, *top_k;
    const float *inv_temp, *temperature, *top_p, *uniform, *g_logprob, *g_entropy;
    int32_t *token;
    int64_t v;
};

struct cpu_isa {
    const char *name;
    int tile_rows; /* of a tile of A at most */
    cpu_kernel *gemm, *pack, *pack_tiles, *colsum;
    cpu_kernel *rmsnorm, *rmsnorm_bwd, *rmsnorm_gw, *add_rmsnorm, *norm_rope, *rope;
    cpu_kernel *swiglu, *swiglu_bwd, *add, *add_rows, *add_cols;
    cpu_kernel *attention, *attention_bwd;
    /* in the table of f32 only */
    cpu_kernel *axpby, *dot, *adamw, *cast, *logprob, *logprob_bwd, *sample;
};

/* The tables of the templates compiled into a file: for bf16_*.c, and with the rest for isa_*.c. */
#define ISA_REALS(isa)                                                                             \
    .name = #isa, .tile_rows = GEMM_ROWS, .gemm = k_gemm, .pack = k_pack,                          \
    .pack_tiles = k_pack_tiles, .colsum = k_colsum, .rmsnorm = k_rmsnorm,                          \
    .rmsnorm_bwd = k_rmsnorm_bwd, .rmsnorm_gw = k_rmsnorm_gw, .add_rmsnorm = k_add_rmsnorm,        \
    .norm_rope = k_norm_rope, .rope = k_rope, .swiglu = k_swiglu, .swiglu_bwd = k_swiglu_bwd,      \
    .add = k_add, .add_rows = k_add_rows, .add_cols = k_add_cols, .attention = k_attention,        \
    .attention_bwd = k_attention_bwd
#define ISA_TABLE(isa)                                                                             \
    {                                                                                              \
        ISA_REALS(isa), .axpby = k_axpby, .dot = k_dot, .adamw = k_adamw, .cast = k_cast,          \
                        .logprob = k_logprob, .logprob_bwd = k_logprob_bwd, .sample = k_sample     \
    }

extern const struct cpu_isa cpu_isa_avx512, cpu_isa_avx2, cpu_isa_scalar;
extern const struct cpu_isa cpu_bf16_avx512, cpu_bf16_avx2, cpu_bf16_scalar; /* bf16 */

#endif
