/* tensor.h - what the ops of backend.h work on: typed views of memory, and the parameters of
 * attention and AdamW. */
#ifndef KERNELS_TENSOR_H
#define KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KERN_RANK_MAX = 4 };

enum kern_dtype { KERN_F32, KERN_BF16, KERN_I32 };

struct kern_tensor { /* a view; owns nothing */
    void *data;      /* memory of the backend that the op runs on */
    size_t bytes;    /* size of the memory behind data, >= elements * dtype size */
    enum kern_dtype dtype;
    int32_t rank;
    int64_t dim[KERN_RANK_MAX];
};

typedef const struct kern_tensor *kern_arg; /* borrowed for a call */

/* Which keys each row of the batch attends to. Rows come in n_seqs runs; row r of sequence s is
 * q_start[s] <= r < q_start[s+1] and stands at position kv_len[s] - q_start[s+1] + r of it (causal,
 * bottom-right), so it sees keys 0..position, from position - window + 1 on if window > 0. Key j of
 * sequence s lies in the pools at [pages[s, j / page], j % page]. */
struct kern_attn {
    struct kern_tensor q_start; /* i32 [n_seqs + 1] */
    struct kern_tensor kv_len;  /* i32 [n_seqs] */
    struct kern_tensor pages;   /* i32 [n_seqs, pages_max] */
    int32_t n_seqs, page;       /* page: keys per page */
    int32_t q_max, kv_max;      /* largest run and largest kv_len, known on the host */
    int32_t window;             /* 0: none */
    float scale;                /* usually 1/sqrt(D) */
};

struct kern_adamw { /* one AdamW step (Loshchilov & Hutter 2019), bias-corrected, decoupled decay */
    float lr, beta1, beta2, eps, weight_decay;
    int64_t step;     /* 1 for the first */
    float grad_scale; /* the gradient is multiplied by this first (clipping) */
    /* Alignment control in the same pass: along_scale * along, f32 or bf16, is added to the
     * gradient before all else, and keep, bf16, takes the raw gradient. data NULL: not wanted.
     * along may be m or keep. */
    struct kern_tensor along, keep;
    float along_scale;
    /* What the step does to the policy, in the same pass; data NULL: not wanted. rounded, bf16,
     * takes the new weights rounded. changed, i32, is a bitmap (bit b is bit b % 32 of word b /
     * 32): bit changed_at + i is set if element i's bits differ from before, rounded to bf16 on
     * both sides where rounded is given. changed_at is a multiple of 16; the call's bits end at the
     * next multiple of 16 after its last, those beyond n are 0 and no others are touched.
     * changed_or: bits that were set stay set. */
    struct kern_tensor rounded, changed;
    int64_t changed_at;
    bool changed_or;
};

size_t kern_dtype_bytes(enum kern_dtype t);
const char *kern_dtype_name(enum kern_dtype t);
int64_t kern_elements(const struct kern_tensor *t);
struct kern_tensor kern_view1(void *data, enum kern_dtype t, int64_t a);
struct kern_tensor kern_view2(void *data, enum kern_dtype t, int64_t a, int64_t b);
struct kern_tensor kern_view3(void *data, enum kern_dtype t, int64_t a, int64_t b, int64_t c);
struct kern_tensor kern_view4(void *data, enum kern_dtype t, int64_t a, int64_t b, int64_t c,
                              int64_t d);

#endif
