/* shape.h - config.json of a Hugging Face folder -> the validated shape of a policy network.
 * MODEL.md defines the network that a shape describes. */
#ifndef ACTOR_SHAPE_H
#define ACTOR_SHAPE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHAPE_EOS_MAX = 8, SHAPE_ROPE_FREQS_MAX = 256 };

enum shape_family { SHAPE_LLAMA, SHAPE_MISTRAL, SHAPE_QWEN2, SHAPE_QWEN3 };
enum shape_rope { SHAPE_ROPE_PLAIN, SHAPE_ROPE_LINEAR, SHAPE_ROPE_LLAMA3, SHAPE_ROPE_YARN };

struct shape {
    enum shape_family family;
    int32_t d, layers, heads, kv_heads, head_width, ffn, vocab; /* model width, ..., vocabulary */
    int32_t context;                                            /* max_position_embeddings */
    int32_t window;       /* sliding window of the attention, 0: none */
    int32_t window_layer; /* the first layer that has the window (Qwen's max_window_layers) */
    float norm_eps;
    double rope_theta;
    enum shape_rope rope;
    /* Of the scaling; what it does not use is 0. rope_attn multiplies cos and sin (YaRN's attention
     * factor, 1 otherwise). */
    double rope_factor, rope_low, rope_high, rope_beta_fast, rope_beta_slow, rope_attn;
    bool rope_truncate;   /* YaRN: whole dimensions bound the ramp (transformers' default) */
    int32_t rope_context; /* original_max_position_embeddings */
    bool qkv_bias, out_bias, mlp_bias, qk_norm, tied_head;
    bool bf16;       /* weights, activations, keys in bf16: the recipe's, not in config.json */
    bool value_head; /* a critic on the last hidden state: the trainer's own, not in config.json */
    int32_t bos, n_eos,
        eos[SHAPE_EOS_MAX]; /* bos -1: none; eos from generation_config.json, else config.json */
};

/* Reads DIR/config.json and, if there, DIR/generation_config.json. Errors name file, field, value
 * and limit; an unknown model_type or rope type lists the known ones. */
MUST_CHECK int shape_read(struct shape *out, const char *dir);
/* The same from memory; name is used in error texts, generation may be NULL. */
MUST_CHECK int shape_parse(struct shape *out, const char *config, size_t n, const char *name,
                           const char *generation, size_t n_generation);
/* Writes both files so that transformers opens the folder. dtype: "float32" or "bfloat16". */
MUST_CHECK int shape_write(const struct shape *s, const char *dir, const char *dtype);
/* cos, sin [n_pos, head_width/2] for positions 0..n_pos-1, scaling applied (YaRN's attention factor
 * included). */
void shape_rope_tables(const struct shape *s, int32_t n_pos, float *cos, float *sin);
int64_t shape_params(const struct shape *s);                    /* number of parameters */
int32_t shape_window(const struct shape *s, int32_t layer);     /* window of that layer, 0: none */
bool shape_equal(const struct shape *a, const struct shape *b); /* same table of parameters */
const char *shape_family_name(enum shape_family f);             /* config.json's model_type */

#endif
