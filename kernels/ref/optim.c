/* optim.c - ops over whole parameter slabs: AdamW, scalar products, scaled sums, dtype casts. Each
 * element in double from float inputs, rounded once: what another backend's float arithmetic is
 * judged against. The decay is decoupled (it sees the weight before the step, not the moments);
 * which weights decay is the caller's business, by calling once for each run of them. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* The bits of f32 x, or, rounded, of its bf16. */
static uint32_t stored_bits(float x, bool rounded) {
    uint32_t u = 0;
    if (rounded) return host_to_bf16(x);
    memcpy(&u, &x, sizeof u);
    return u;
}

/* Elements [first, first + n) of a call, n <= 16: its bits as one half of a word. */
static void note_changed(const struct kern_adamw *p, int64_t first, uint32_t bits) {
    uint32_t *word = (uint32_t *)p->changed.data + (p->changed_at + first) / 32;
    const int shift = (int)((p->changed_at + first) % 32);
    if (!p->changed_or) *word &= ~(0xffffu << shift);
    *word |= bits << shift;
}

int ref_adamw(ops_s s, kern_arg w, kern_arg m, kern_arg v, kern_arg g, const struct kern_adamw *p) {
    (void)s;
    double b1 = (double)p->beta1, b2 = (double)p->beta2;
    double c1 = 1 - pow(b1, (double)p->step), c2 = 1 - pow(b2, (double)p->step);
    const bool rounded = p->rounded.data != NULL;
    uint32_t bits = 0;
    for (int64_t i = 0, n = kern_elements(w); i < n; i++) {
        double gi = host_f32(g)[i], wi = host_f32(w)[i];
        if (p->along.data) gi += (double)p->along_scale * host_load(&p->along, i);
        if (p->keep.data) host_store(&p->keep, i, (double)host_f32(g)[i]);
        gi *= (double)p->grad_scale;
        double mi = b1 * (double)host_f32(m)[i] + (1 - b1) * gi;
        double vi = b2 * (double)host_f32(v)[i] + (1 - b2) * gi * gi;
        double step = mi / c1 / (sqrt(vi / c2) + (double)p->eps);
        host_f32(m)[i] = (float)mi;
        host_f32(v)[i] = (float)vi;
        const float was = host_f32(w)[i];
        host_f32(w)[i] = (float)(wi - (double)p->lr * (step + (double)p->weight_decay * wi));
        if (rounded) host_store(&p->rounded, i, (double)host_f32(w)[i]);
        bits |= (uint32_t)(stored_bits(was, rounded) != stored_bits(host_f32(w)[i], rounded))
                << i % 16;
        if (p->changed.data && (i % 16 == 15 || i == n - 1)) note_changed(p, i - i % 16, bits);
        if (i % 16 == 15) bits = 0;
    }
    return 0;
}

int ref_count_bits(ops_s s, int64_t *out, kern_arg words) {
    (void)s;
    int64_t sum = 0;
    for (int64_t i = 0, n = kern_elements(words); i < n; i++)
        sum += __builtin_popcount((unsigned)host_i32(words)[i]);
    *out = sum;
    return 0;
}

int ref_dot(ops_s s, double out[3], kern_arg x, kern_arg y) {
    (void)s;
    double xy = 0, xx = 0, yy = 0;
    for (int64_t i = 0, n = kern_elements(x); i < n; i++) {
        double a = host_f32(x)[i], b = y ? host_load(y, i) : 0;
        xy += a * b;
        xx += a * a;
        yy += b * b;
    }
    out[0] = xy;
    out[1] = xx;
    out[2] = yy;
    return 0;
}

int ref_axpby(ops_s s, kern_arg y, float alpha, kern_arg x, float beta) {
    (void)s;
    for (int64_t i = 0, n = kern_elements(y); i < n; i++)
        host_f32(y)[i] =
            (float)((double)alpha * (double)host_f32(x)[i] + (double)beta * (double)host_f32(y)[i]);
    return 0;
}

int ref_cast(ops_s s, kern_arg dst, kern_arg src) {
    (void)s;
    const int64_t n = kern_elements(src);
    if (dst->dtype == src->dtype) {
        memmove(dst->data, src->data, (size_t)n * kern_dtype_bytes(src->dtype));
        return 0;
    }
    for (int64_t i = 0; i < n; i++)
        host_store(dst, i, host_load(src, i));
    return 0;
}
