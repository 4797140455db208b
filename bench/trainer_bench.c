/* trainer_bench.c - two parts of a training step alone: the loss head, and the optimizer.
 *
 * Head: log-probs, entropy and the gradients of head and hidden states, in chunks that never store
 * the logits, against its three matrix products over logits that are stored whole. The actor around
 * it has one layer so narrow that it does not count.
 *
 * Optimizer: the AdamW op against reading, in the same order, all it reads; and a whole update with
 * alignment control in force (norm, cosine, the parallel part taken out, AdamW, the gradient kept)
 * against the AdamW op. The gradient stays the same, so the cosine is 1 and c_high 1 lets it be
 * scaled every time: the dearest way through. One thread, processor time. */
#include "bench/bench.h"
#include "bench/dims.h"

#include "actor/actor.h"
#include "base/mem.h"
#include "trainer/optim/update.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 1024, VOCAB = 32000, WIDTH = 768, HEAD_ROWS = 192, PAIRS = 7 };

static void fill(const struct kern_backend *b, struct kern_stream *s, void *to, int64_t n) {
    float *x = mem_array((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((uint64_t)i * 2654435761U % 1000) / 1e5F - 0.005F;
    bench_must(kern_put(b, s, to, x, (size_t)n * sizeof *x), "put");
    bench_must(kern_sync(b, s), "sync");
    mem_free(x);
}

/* --- head ------------------------------------------------------------------------------------ */

struct head {
    const struct kern_backend *b;
    struct actor *actor;
    struct params *weights, *grads;
    int32_t ids[ROWS], pos[ROWS], slot[ROWS], start[2], len, pages[ROWS / 16];
    int32_t rows[ROWS], targets[ROWS];
    struct kern_stream *s;
    struct kern_tensor x, gx, w, gw, packed, logits;
};

static int derivatives(void *ctx, int64_t first, const struct loss_rows *rows) {
    (void)ctx, (void)first;
    for (int64_t i = 0; i < rows->n; i++) {
        rows->g_logprob[i] = -1.0F / ROWS;
        rows->g_entropy[i] = -1e-3F / ROWS;
    }
    return 0;
}

static void head_once(void *ctx) {
    struct head *h = ctx;
    struct actor_batch batch = {.n_rows = ROWS,
                                .n_seqs = 1,
                                .pages_max = ROWS / 16,
                                .ids = h->ids,
                                .pos = h->pos,
                                .slot = h->slot,
                                .q_start = h->start,
                                .kv_len = &h->len,
                                .pages = h->pages};
    bench_must(actor_forward(h->actor, &batch), "forward");
    bench_must(
        actor_backward(h->actor, &batch, h->rows, h->targets, ROWS, 1, derivatives, NULL, h->grads),
        "backward");
}

static void head_products(void *ctx) {
    struct head *h = ctx;
    bench_must(
        kern_matmul(h->b, h->s, &h->logits, &h->x, &h->w, h->packed.data ? &h->packed : NULL, NULL),
        "matmul");
    bench_must(kern_matmul_dw(h->b, h->s, &h->gw, NULL, &h->logits, &h->x), "matmul_dw");
    bench_must(kern_matmul_dx(h->b, h->s, &h->gx, &h->logits, &h->w, false), "matmul_dx");
}

static struct kern_tensor matrix(struct head *h, int64_t n, int64_t m) {
    void *p = NULL;
    bench_must(kern_alloc(h->b, &p, (size_t)(n * m) * sizeof(float)), "alloc");
    fill(h->b, h->s, p, n * m);
    return kern_view2(p, KERN_F32, n, m);
}

static void open_head(struct head *h) {
    struct shape shape = DIMS_LLAMA(WIDTH, 1, 1, 1, 16, 16, VOCAB, ROWS);
    shape.tied_head = false;
    struct actor_config cfg = {.backend = h->b,
                               .shape = shape,
                               .rows_max = ROWS,
                               .seqs_max = 1,
                               .context = ROWS,
                               .pages = ROWS / 16,
                               .page = 16,
                               .head_rows = HEAD_ROWS,
                               .train = true,
                               .pack = true};
    struct kern_limits l = {.rows = ROWS, .width_max = VOCAB, .heads = 1, .head_width = 16};
    bench_must(kern_stream_open(h->b, &h->s, kern_scratch_bytes(h->b, &l)), "stream");
    bench_must(params_open(&h->weights, h->b, &shape), "weights");
    bench_must(params_open(&h->grads, h->b, &shape), "grads");
    struct kern_tensor slab = params_slab(h->weights);
    fill(h->b, h->s, slab.data, params_slab_elements(&shape));
    bench_must(actor_open(&h->actor, &cfg), "actor");
    bench_must(actor_use(h->actor, h->weights), "use");
    for (int32_t i = 0; i < ROWS; i++) {
        h->rows[i] = h->pos[i] = h->slot[i] = i;
        h->ids[i] = h->targets[i] = i * 31 % VOCAB;
        if (i < ROWS / 16) h->pages[i] = i;
    }
    h->start[1] = h->len = ROWS;
    h->x = matrix(h, ROWS, WIDTH);
    h->gx = matrix(h, ROWS, WIDTH);
    h->w = matrix(h, VOCAB, WIDTH);
    h->gw = matrix(h, VOCAB, WIDTH);
    h->logits = matrix(h, ROWS, VOCAB);
    int64_t packed = (int64_t)(kern_pack_bytes(h->b, KERN_F32, VOCAB, WIDTH) / sizeof(float));
    if (packed == 0) return;
    h->packed = matrix(h, 1, packed);
    bench_must(kern_pack_weight(h->b, h->s, &h->packed, &h->w), "pack");
}

static void close_head(struct head *h) {
    void *const own[] = {h->x.data,  h->gx.data,     h->w.data,
                         h->gw.data, h->logits.data, h->packed.data};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        kern_release(h->b, own[i]);
    actor_close(&h->actor);
    params_close(&h->weights);
    params_close(&h->grads);
    kern_stream_close(h->b, h->s);
}

static void bench_head(const struct kern_backend *b) {
    struct head *h = mem_zalloc(sizeof *h);
    h->b = b;
    open_head(h);
    struct bench_pair p = bench_pairs(head_once, h, head_products, h, PAIRS, 1);
    printf("{\"bench\": \"head\", \"rows\": %d, \"vocab\": %d, \"width\": %d, \"threads\": 1, "
           "\"against\": \"its three matrix products\", \"time_over_products\": %.3f, "
           "\"min\": %.3f, \"max\": %.3f, \"n\": %d, \"own_ms\": %.1f, \"peer_ms\": %.1f, "
           "\"logits_share\": %.3f}\n",
           ROWS, VOCAB, WIDTH, 1 / p.ratio, 1 / p.ratio_max, 1 / p.ratio_min, p.n, p.a_us / 1e3,
           p.b_us / 1e3, HEAD_ROWS / (2.0 * ROWS));
    fflush(stdout);
    close_head(h);
    mem_free(h);
}

/* --- optimizer ------------------------------------------------------------------------------- */

struct optimizer {
    const struct kern_backend *b;
    struct kern_stream *s;
    struct params *weights;
    int64_t n;
    struct kern_tensor m, v, g;
};

static void adamw_with(struct optimizer *o, const struct kern_tensor *rounded,
                       const struct kern_tensor *changed) {
    struct kern_tensor slab = params_slab(o->weights), w = kern_view1(slab.data, KERN_F32, o->n);
    struct kern_adamw p = {.lr = 1e-6F,
                           .beta1 = 0.9F,
                           .beta2 = 0.95F,
                           .eps = 1e-8F,
                           .step = 10,
                           .weight_decay = 0.01F,
                           .grad_scale = 1};
    if (rounded) p.rounded = *rounded;
    if (changed) p.changed = *changed;
    bench_must(kern_adamw(o->b, o->s, &w, &o->m, &o->v, &o->g, &p), "adamw");
}

static void adamw_once(void *ctx) {
    adamw_with(ctx, NULL, NULL);
}

struct policy { /* bf16, beside the optimizer */
    struct optimizer *o;
    struct kern_tensor rounded, changed;
};

/* AdamW that rounds the weights and notes what changed, in its pass. */
static void adamw_policy(void *ctx) {
    struct policy *x = ctx;
    adamw_with(x->o, &x->rounded, &x->changed);
}

/* AdamW, and the rounding in a pass of its own. */
static void adamw_then_cast(void *ctx) {
    struct policy *x = ctx;
    struct kern_tensor slab = params_slab(x->o->weights);
    adamw_once(x->o);
    bench_must(kern_cast(x->o->b, x->o->s, &x->rounded, &slab), "cast");
}

/* What every update does that clips. */
static void clipped_once(void *ctx) {
    struct optimizer *o = ctx;
    double out[3];
    bench_must(kern_dot(o->b, o->s, out, &o->g, NULL), "dot");
    adamw_once(ctx);
}

/* The four arrays that AdamW reads, and no more; it writes three of them as well. */
static void read_once(void *ctx) {
    struct optimizer *o = ctx;
    struct kern_tensor slab = params_slab(o->weights), w = kern_view1(slab.data, KERN_F32, o->n);
    double out[3];
    bench_must(kern_dot(o->b, o->s, out, &w, &o->m), "dot");
    bench_must(kern_dot(o->b, o->s, out, &o->v, &o->g), "dot");
}

static void print_optimizer(const struct optimizer *o, const char *what, const char *against,
                            const struct bench_pair *p) {
    printf("{\"bench\": \"optimizer\", \"what\": \"%s\", \"parameters\": %" PRId64
           ", \"threads\": 1, \"against\": \"%s\", \"ratio\": %.3f, \"min\": %.3f, "
           "\"max\": %.3f, \"n\": %d, \"own_ms\": %.1f, \"peer_ms\": %.1f}\n",
           what, o->n, against, p->ratio, p->ratio_min, p->ratio_max, p->n, p->a_us / 1e3,
           p->b_us / 1e3);
    fflush(stdout);
}

/* Filling the gradient is not timed: the reverse pass does it. */
static void bench_control(struct optimizer *o, const struct shape *shape, const char *previous) {
    char yaml[512];
    struct recipe *r = NULL;
    struct update *u = NULL;
    struct params *grads;
    struct update_turn turn = {.control = true, .lr_factor = 1};
    struct update_report report;
    double own[PAIRS], again[PAIRS], peer[PAIRS], clipped[PAIRS];
    snprintf(yaml, sizeof yaml,
             "model: {weights: random}\n"
             "trainer: {steps: 100, optimizer: {lr: 1e-6, clip_norm: 1},\n"
             "          alignment: {mode: on, c_low: 0.1, c_high: 1, previous: %s}}\n",
             previous);
    bench_must(recipe_parse(&r, yaml, strlen(yaml), "bench", NULL, 0), "recipe");
    bench_must(update_open(&u, o->b, shape, r, NULL), "update");
    for (int i = -1; i < PAIRS; i++) {
        bench_must(update_begin(u, &grads), "begin");
        fill(o->b, o->s, params_slab(grads).data, o->n);
        uint64_t start = bench_now_us();
        bench_must(update_apply(u, o->s, o->weights, &turn, &report), "update");
        double us = (double)(bench_now_us() - start);
        if (i < 0) continue;
        own[i] = again[i] = us;
        peer[i] = bench_time_us(adamw_once, o, 1);
        clipped[i] = bench_time_us(clipped_once, o, 1);
        if (report.action != ALIGN_SCALE)
            bench_must(FAIL(ERR_CONFIG, "%s instead of scale", align_name(report.action)), "run");
    }
    struct bench_pair p = bench_summary(own, peer, PAIRS);
    char what[64];
    snprintf(what, sizeof what, "update with control, previous %s", previous);
    print_optimizer(o, what, "adamw", &p);
    p = bench_summary(again, clipped, PAIRS);
    print_optimizer(o, what, "adamw and the norm for clipping", &p);
    update_close(&u);
    recipe_close(&r);
}

static struct kern_tensor slab_like(struct optimizer *o) {
    void *p = NULL;
    bench_must(kern_alloc(o->b, &p, (size_t)o->n * sizeof(float)), "alloc");
    fill(o->b, o->s, p, o->n);
    return kern_view1(p, KERN_F32, o->n);
}

static void bench_policy(struct optimizer *o) {
    struct policy x = {.o = o};
    void *rounded = NULL, *changed = NULL;
    bench_must(kern_alloc(o->b, &rounded, (size_t)o->n * sizeof(uint16_t)), "alloc");
    bench_must(kern_alloc(o->b, &changed, (size_t)o->n / 8 + sizeof(int32_t)), "alloc");
    x.rounded = kern_view1(rounded, KERN_BF16, o->n);
    x.changed = kern_view1(changed, KERN_I32, o->n / 32 + 1);
    struct bench_pair p = bench_pairs(adamw_policy, &x, adamw_then_cast, &x, PAIRS, 1);
    print_optimizer(o, "adamw, bf16 weights and changed values in its pass",
                    "adamw and a cast, nothing noted", &p);
    kern_release(o->b, rounded);
    kern_release(o->b, changed);
}

static void bench_optimizer(const struct kern_backend *b) {
    static const struct shape shape = DIMS_LLAMA(768, 12, 12, 12, 64, 2048, 32000, 1024);
    struct optimizer o = {.b = b, .n = params_slab_elements(&shape)};
    bench_must(kern_stream_open(b, &o.s, 0), "stream");
    bench_must(params_open(&o.weights, b, &shape), "weights");
    fill(b, o.s, params_slab(o.weights).data, o.n);
    o.m = slab_like(&o);
    o.v = slab_like(&o);
    o.g = slab_like(&o);
    bench_must(kern_axpby(b, o.s, &o.v, 0, &o.v, 0), "zero"); /* no second moment is negative */
    struct bench_pair p = bench_pairs(adamw_once, &o, read_once, &o, PAIRS, 1);
    print_optimizer(&o, "adamw", "reading its four arrays", &p);
    bench_policy(&o);
    bench_control(&o, &shape, "fp32");
    bench_control(&o, &shape, "bf16");
    kern_release(b, o.m.data);
    kern_release(b, o.v.data);
    kern_release(b, o.g.data);
    params_close(&o.weights);
    kern_stream_close(b, o.s);
}

int bench_trainer(void) {
    const struct kern_backend *b = NULL;
    bench_by_cpu = true;
    bench_must(kern_open(&b, "cpu", 1), "cpu");
    bench_head(b);
    bench_optimizer(b);
    kern_close(b);
    return 0;
}
