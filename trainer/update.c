/* update.c - see update.h.
 *
 * The previous gradient costs no copy: gradient and previous gradient are two slabs that change
 * roles. A scaled gradient g + beta p is formed in p's slab, which is not needed afterwards, so the
 * raw g stays whole to become the next p. All decisions come from three scalars of one fused pass
 * (align.h), so clipping needs no second reduction.
 *
 * AdamW runs over runs of neighbouring entries with the same decay instead of entry by entry: the
 * alignment gaps between entries are zero in every slab and stay zero. */
#include "trainer/update.h"

#include "base/mem.h"
#include "trainer/lr.h"

#include <inttypes.h>
#include <math.h>

enum { UPDATE_NOT_FINITE_MAX = 2 };
static const double update_clip_eps = 1e-6;

struct run { /* elements of the slab that share the decay */
    int64_t offset, n;
    bool decay;
};

struct update {
    const struct kern_backend *backend;
    struct params *grad, *previous, *m, *v;
    struct run *runs;
    size_t n_runs;
    struct update_state state;
    struct align_config align;
    struct lr_config lr;
    struct kern_adamw adamw; /* without lr, step and grad_scale */
    double clip_norm;
};

static void find_runs(struct update *u) {
    size_t n = params_count(u->grad);
    u->runs = mem_array(n, sizeof *u->runs);
    for (size_t i = 0; i < n; i++) {
        const struct params_entry *e = params_entry(u->grad, i);
        struct run *last = u->n_runs ? &u->runs[u->n_runs - 1] : NULL;
        if (!last || last->decay != e->is_matrix || e->offset < last->offset + last->n) {
            last = &u->runs[u->n_runs++];
            *last = (struct run){.offset = e->offset, .decay = e->is_matrix};
        }
        last->n = e->offset + e->n - last->offset;
    }
}

int update_open(struct update **out, const struct kern_backend *b, const struct shape *s,
                const struct recipe *r) {
    struct update *u = mem_zalloc(sizeof *u);
    int rc;
    u->backend = b;
    u->align = (struct align_config){.on = r->trainer.alignment.mode == RECIPE_ALIGN_ON,
                                     .c_low = r->trainer.alignment.c_low,
                                     .c_high = r->trainer.alignment.c_high};
    u->lr = (struct lr_config){.lr = r->trainer.optimizer.lr,
                               .min_lr = r->trainer.optimizer.min_lr,
                               .warmup = r->trainer.optimizer.warmup,
                               .steps = r->trainer.steps,
                               .cosine = r->trainer.optimizer.schedule == RECIPE_COSINE};
    u->adamw = (struct kern_adamw){.beta1 = (float)r->trainer.optimizer.beta1,
                                   .beta2 = (float)r->trainer.optimizer.beta2,
                                   .eps = (float)r->trainer.optimizer.eps};
    u->adamw.weight_decay = (float)r->trainer.optimizer.weight_decay;
    u->clip_norm = r->trainer.optimizer.clip_norm;
    TRY_OUT(params_open(&u->grad, b, s));
    TRY_OUT(params_open(&u->previous, b, s));
    TRY_OUT(params_open(&u->m, b, s));
    TRY_OUT(params_open(&u->v, b, s));
    find_runs(u);
    *out = u;
    u = NULL;
out:
    update_close(&u);
    return rc;
}

void update_close(struct update **u) {
    if (!*u) return;
    params_close(&(*u)->grad);
    params_close(&(*u)->previous);
    params_close(&(*u)->m);
    params_close(&(*u)->v);
    mem_free((*u)->runs);
    mem_free(*u);
    *u = NULL;
}

size_t update_bytes(const struct shape *s) {
    return 4 * (size_t)params_slab_elements(s) * sizeof(float);
}

int update_begin(struct update *u, struct params **grads) {
    TRY(params_zero(u->grad));
    *grads = u->grad;
    return 0;
}

static void swap_gradients(struct update *u) {
    struct params *p = u->previous;
    u->previous = u->grad;
    u->grad = p;
}

static struct kern_tensor part(struct params *p, const struct run *r) {
    return kern_view1((float *)params_slab(p).data + r->offset, KERN_F32, r->n);
}

static int adamw(struct update *u, struct kern_stream *s, struct params *weights,
                 struct params *grad, double lr, double scale) {
    for (size_t i = 0; i < u->n_runs; i++) {
        const struct run *r = &u->runs[i];
        struct kern_adamw p = u->adamw;
        struct kern_tensor w = part(weights, r), g = part(grad, r);
        struct kern_tensor m = part(u->m, r), v = part(u->v, r);
        p.lr = (float)lr;
        p.step = u->state.steps + 1;
        p.grad_scale = (float)scale;
        if (!r->decay) p.weight_decay = 0;
        TRY(kern_adamw(u->backend, s, &w, &m, &v, &g, &p));
    }
    return 0;
}

/* Nothing of the gradient is kept, not even for the next cosine. */
static int refuse_not_finite(struct update *u) {
    u->state.have_previous = false;
    if (u->state.not_finite++ < UPDATE_NOT_FINITE_MAX) return 0;
    return FAIL(ERR_CORRUPT,
                "the gradient was not finite in %" PRId64
                " steps in a row: weights, log-probs or rewards are damaged, or "
                "trainer.optimizer.lr is far too high",
                u->state.not_finite);
}

int update_apply(struct update *u, struct kern_stream *s, struct params *weights, bool control,
                 struct update_report *out) {
    double sums[3];
    struct kern_tensor g = params_slab(u->grad), p = params_slab(u->previous);
    bool have = u->state.have_previous;
    TRY(kern_dot(u->backend, s, sums, &g, have ? &p : NULL));
    struct align_config cfg = u->align;
    cfg.on = cfg.on && control;
    struct align_decision d = align_decide(&cfg, sums[0], sums[1], sums[2], have, u->state.skips);
    *out = (struct update_report){.grad_norm = sqrt(sums[1]),
                                  .cosine = d.cosine,
                                  .lr = lr_at(&u->lr, u->state.steps),
                                  .action = d.action};
    if (!isfinite(sums[1])) return refuse_not_finite(u);
    u->state.not_finite = 0;
    u->state.have_previous = true;
    if (d.action == ALIGN_SKIP) {
        u->state.skips++;
        swap_gradients(u);
        return 0;
    }
    struct params *used = u->grad;
    if (d.action == ALIGN_SCALE) {
        TRY(kern_axpby(u->backend, s, &p, 1, &g, (float)d.parallel));
        used = u->previous;
    }
    double scale = 1;
    if (u->clip_norm > 0) scale = fmin(1, u->clip_norm / (sqrt(d.square) + update_clip_eps));
    TRY(adamw(u, s, weights, used, out->lr, scale));
    u->state.steps++;
    u->state.skips = 0;
    swap_gradients(u);
    out->applied = true;
    return 0;
}

struct update_state update_state(const struct update *u) {
    return u->state;
}

struct params *update_slab(const struct update *u, int i) {
    struct params *const slabs[UPDATE_SLABS] = {u->m, u->v, u->previous};
    ASSERT(i >= 0 && i < UPDATE_SLABS);
    return slabs[i];
}

const char *update_slab_name(int i) {
    static const char *const names[UPDATE_SLABS] = {"adam_m", "adam_v", "previous_gradient"};
    ASSERT(i >= 0 && i < UPDATE_SLABS);
    return names[i];
}

void update_restore(struct update *u, const struct update_state *state) {
    u->state = *state;
}
