/* rope.c - rotary position embedding (Su et al. 2021) in the half-split pairing of Hugging Face's
 * Llama: element j of a head pairs with j + D/2. The reverse of a rotation is the rotation by the
 * negative angle, so one op serves both. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

int ref_rope(ops_s s, kern_arg x, kern_arg pos, kern_arg cos, kern_arg sin, bool inverse) {
    (void)s;
    const int64_t heads = x->dim[1], width = x->dim[2], half = width / 2;
    TRY(host_check_index("rope", "pos", pos, cos->dim[0]));
    for (int64_t i = 0; i < x->dim[0]; i++) {
        const float *c = host_f32(cos) + host_i32(pos)[i] * half;
        const float *sn = host_f32(sin) + host_i32(pos)[i] * half;
        for (int64_t h = 0; h < heads; h++) {
            for (int64_t j = 0; j < half; j++) {
                const int64_t at = (i * heads + h) * width + j;
                double a = host_load(x, at), b = host_load(x, at + half), cj = c[j];
                double sj = inverse ? -(double)sn[j] : (double)sn[j];
                host_store(x, at, a * cj - b * sj);
                host_store(x, at + half, b * cj + a * sj);
            }
        }
    }
    return 0;
}
