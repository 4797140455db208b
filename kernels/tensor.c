/* tensor.c - types and views, see tensor.h. */
#include "kernels/tensor.h"

size_t kern_dtype_bytes(enum kern_dtype t) {
    switch (t) {
    case KERN_F32: return 4;
    case KERN_BF16: return 2;
    case KERN_I32: return 4;
    }
    return 0;
}

const char *kern_dtype_name(enum kern_dtype t) {
    switch (t) {
    case KERN_F32: return "f32";
    case KERN_BF16: return "bf16";
    case KERN_I32: return "i32";
    }
    return "unknown";
}

int64_t kern_elements(const struct kern_tensor *t) {
    int64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

static struct kern_tensor view(void *data, enum kern_dtype t, int32_t rank, const int64_t dim[4]) {
    struct kern_tensor v = {.data = data, .dtype = t, .rank = rank};
    for (int32_t i = 0; i < rank; i++)
        v.dim[i] = dim[i];
    v.bytes = (size_t)kern_elements(&v) * kern_dtype_bytes(t);
    return v;
}

struct kern_tensor kern_view1(void *data, enum kern_dtype t, int64_t a) {
    return view(data, t, 1, (const int64_t[4]){a});
}

struct kern_tensor kern_view2(void *data, enum kern_dtype t, int64_t a, int64_t b) {
    return view(data, t, 2, (const int64_t[4]){a, b});
}

struct kern_tensor kern_view3(void *data, enum kern_dtype t, int64_t a, int64_t b, int64_t c) {
    return view(data, t, 3, (const int64_t[4]){a, b, c});
}

struct kern_tensor kern_view4(void *data, enum kern_dtype t, int64_t a, int64_t b, int64_t c,
                              int64_t d) {
    return view(data, t, 4, (const int64_t[4]){a, b, c, d});
}
