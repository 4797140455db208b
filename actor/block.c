/* block.c - which blocks a layer has, and the products and norms that blocks share. */
#include "actor/block.h"

const struct block_kind *const *block_layer(const struct shape *s, int *n) {
    static const struct block_kind *const dense[] = {&block_attention, &block_dense};
    (void)s; /* every family has the same */
    *n = sizeof dense / sizeof dense[0];
    return dense;
}

int32_t block_layer_tensors(const struct shape *s) {
    int n;
    const struct block_kind *const *kind = block_layer(s, &n);
    int32_t tensors = 0;
    for (int j = 0; j < n; j++)
        tensors += kind[j]->n_tensors;
    return tensors;
}

int block_linear(struct actor_pass *p, const struct block *b, int w, int bias, void *y, void *x) {
    const struct block_weight *m = &b->w[w];
    struct kern_tensor ty = actor_pass_rows(p, y, m->w.dim[0]),
                       tx = actor_pass_rows(p, x, m->w.dim[1]);
    return kern_matmul(p->b, p->s, &ty, &tx, &m->w, m->has_packed ? &m->packed : NULL,
                       b->w[bias].has ? &b->w[bias].w : NULL);
}

int block_linear_bwd(struct actor_pass *p, const struct block *b, int w, int bias, void *gx,
                     void *gy, void *x, bool accumulate) {
    const struct kern_tensor *m = &b->w[w].w;
    struct kern_tensor ty = actor_pass_rows(p, gy, m->dim[0]);
    struct kern_tensor tx = actor_pass_rows(p, x, m->dim[1]);
    struct kern_tensor tgx = actor_pass_rows(p, gx, m->dim[1]);
    TRY(kern_matmul_dw(p->b, p->s, &b->g[w].w, b->g[bias].has ? &b->g[bias].w : NULL, &ty, &tx));
    return kern_matmul_dx(p->b, p->s, &tgx, &ty, m, accumulate);
}

int block_norm_bwd(struct actor_pass *p, const struct kern_tensor *w, const struct kern_tensor *gw,
                   void *gx, void *gout, void *x, int64_t rows, bool accumulate) {
    enum kern_dtype t = actor_type(p->cfg);
    struct kern_tensor tgx = kern_view2(gx, t, rows, w->dim[0]);
    struct kern_tensor tg = kern_view2(gout, t, rows, w->dim[0]);
    struct kern_tensor tx = kern_view2(x, t, rows, w->dim[0]);
    return kern_rmsnorm_bwd(p->b, p->s, &tgx, gw, &tg, &tx, w, p->cfg->shape.norm_eps, accumulate);
}
