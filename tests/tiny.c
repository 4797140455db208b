/* tiny.c - see tiny.h. params_init's weights are so small that every distribution would be nearly
 * uniform and hide a wrong key; scaling the matrices makes attention and head matter. */
#include "tests/tiny.h"

#include "base/mem.h"
#include "tests/test.h"

struct shape tiny_shape(bool qwen) {
    struct shape s;
    memset(&s, 0, sizeof s);
    s.family = qwen ? SHAPE_QWEN3 : SHAPE_LLAMA;
    s.d = 32;
    s.layers = 2;
    s.heads = 4;
    s.kv_heads = 2;
    s.head_width = 8;
    s.ffn = 56;
    s.vocab = 61;
    s.context = 160;
    s.norm_eps = 1e-5F;
    s.rope_theta = 10000;
    s.rope = SHAPE_ROPE_PLAIN;
    s.rope_factor = 1;
    s.rope_attn = 1;
    s.tied_head = !qwen;
    s.qkv_bias = s.qk_norm = qwen;
    s.bos = -1;
    return s;
}

/* In bf16: those of f32, rounded. */
static struct params *bf16_params(const struct kern_backend *b, const struct shape *s,
                                  uint64_t seed) {
    struct shape whole = *s;
    whole.bf16 = false;
    struct params *p, *from = tiny_params(b, &whole, seed);
    struct kern_stream *stream;
    CHECK_OK(kern_stream_open(b, &stream, 64));
    CHECK_OK(params_open(&p, b, s));
    CHECK_OK(params_cast(p, from, stream));
    CHECK_OK(kern_sync(b, stream));
    kern_stream_close(b, stream);
    params_close(&from);
    return p;
}

struct params *tiny_params(const struct kern_backend *b, const struct shape *s, uint64_t seed) {
    struct params *p;
    if (s->bf16) return bf16_params(b, s, seed);
    CHECK_OK(params_open(&p, b, s));
    CHECK_OK(params_init(p, seed));
    size_t n = (size_t)params_slab_elements(s);
    float *host = mem_array(n, sizeof *host);
    CHECK_OK(params_get(p, host, n * sizeof *host));
    for (size_t i = 0; i < params_count(p); i++) {
        const struct params_entry *e = params_entry(p, i);
        for (int64_t k = 0; e->is_matrix && k < e->n; k++)
            host[e->offset + k] *= 12;
    }
    CHECK_OK(params_put(p, host, n * sizeof *host));
    mem_free(host);
    return p;
}
