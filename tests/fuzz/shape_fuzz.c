/* shape_fuzz.c - any bytes as config.json, and after the first 0xFF as generation_config.json. What
 * is accepted must be a shape that the rest can rely on: sizes in their limits, token ids in the
 * vocabulary, finite rope tables. */
#include "actor/shape.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_shape(const struct shape *s) {
    static float cos[4 * SHAPE_ROPE_FREQS_MAX], sin[4 * SHAPE_ROPE_FREQS_MAX];
    int32_t half = s->head_width / 2;
    ASSERT(s->d > 0 && s->layers > 0 && s->ffn > 0 && s->vocab > 0 && s->context > 0);
    ASSERT(s->heads > 0 && s->kv_heads > 0 && s->heads % s->kv_heads == 0);
    ASSERT(half > 0 && half <= SHAPE_ROPE_FREQS_MAX && s->head_width == 2 * half);
    ASSERT(s->bos >= -1 && s->bos < s->vocab && s->n_eos >= 0 && s->n_eos <= SHAPE_EOS_MAX);
    for (int32_t i = 0; i < s->n_eos; i++)
        ASSERT(s->eos[i] >= 0 && s->eos[i] < s->vocab);
    ASSERT(shape_params(s) > 0 && shape_window(s, 0) >= 0);
    shape_rope_tables(s, 4, cos, sin);
    for (int32_t i = 0; i < 4 * half; i++)
        ASSERT(isfinite(cos[i]) && isfinite(sin[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct shape s;
    const uint8_t *cut = n ? memchr(data, 0xFF, n) : NULL;
    size_t first = cut ? (size_t)(cut - data) : n;
    const char *text = n ? (const char *)data : "";
    const char *generation = cut ? (const char *)cut + 1 : NULL;
    if (shape_parse(&s, text, first, "fuzz", generation, cut ? n - first - 1 : 0) == 0)
        check_shape(&s);
    return 0;
}
