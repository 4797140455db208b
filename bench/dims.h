/* dims.h - the shape of a Llama with a tied head by its sizes: initializer of a struct shape. */
#ifndef BENCH_DIMS_H
#define BENCH_DIMS_H

#include "actor/shape.h"

#define DIMS_LLAMA(D, LAYERS, HEADS, KV_HEADS, WIDTH, FFN, VOCAB, CONTEXT)                         \
    {                                                                                              \
        .family = SHAPE_LLAMA, .d = (D), .layers = (LAYERS), .heads = (HEADS),                     \
        .kv_heads = (KV_HEADS), .head_width = (WIDTH), .ffn = (FFN), .vocab = (VOCAB),             \
        .context = (CONTEXT), .norm_eps = 1e-5F, .rope_theta = 10000, .rope_factor = 1,            \
        .rope_attn = 1, .tied_head = true, .bos = -1                                               \
    }

#endif
