/* safetensors_fuzz.c - any bytes as a .safetensors file. What is accepted must be readable whole:
 * every element of every tensor, so that the address sanitizer judges the offsets. */
#include "actor/safetensors.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_whole(const struct safetensors *f, const struct safetensors_tensor *t) {
    float piece[64], sum = 0;
    unsigned char bytes = 0;
    for (size_t i = 0; i < t->bytes; i++)
        bytes ^= t->data[i];
    ASSERT(t->n >= 0 && (bytes == 0 || t->bytes > 0));
    for (int64_t i = 0; i < t->n; i += 64) {
        int64_t some = t->n - i < 64 ? t->n - i : 64;
        if (safetensors_read_f32(f, t, i, some, piece) < 0) break;
        sum += piece[some - 1];
    }
    ASSERT(sum == sum || sum != sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct safetensors *f;
    size_t bytes = 0;
    if (safetensors_open_memory(&f, data, n, "fuzz") < 0) return 0;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const struct safetensors_tensor *t = safetensors_at(f, i);
        ASSERT(safetensors_find(f, t->name) == t);
        read_whole(f, t);
        bytes += t->bytes;
    }
    ASSERT(bytes <= n);
    safetensors_close(&f);
    return 0;
}
