/* update.c - see update.h.
 *
 * The previous gradient costs no copy: gradient and previous gradient are two slabs that change
 * roles. A scaled gradient g + beta p is formed in p's slab, which is not needed afterwards, so the
 * raw g stays whole to become the next p. Where p is kept in another form (align_previous.h) this
 * goes piece by piece: p is loaded, the raw g kept in its place, the sum formed in the loaded piece
 * and given to AdamW while it is in the cache. All decisions come from three scalars of one pass
 * (align.h), so clipping needs no second reduction, and ranks exchange nothing but these.
 *
 * AdamW runs over runs of neighbouring entries with the same decay instead of entry by entry: the
 * alignment gaps between entries are zero in every slab and stay zero. */
#include "trainer/optim/update.h"

#include "base/log.h"
#include "base/mem.h"
#include "trainer/optim/align_previous.h"
#include "trainer/optim/lr.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { UPDATE_NOT_FINITE_MAX = 2 };
static const double update_clip_eps = 1e-6;

/* Elements of the slab that share the decay. */
struct run {
    int64_t offset, n;
    bool decay, critic;
};

struct update {
    const struct kern_backend *backend;
    struct kern_stream *copies; /* of checkpoints */
    struct shard shard;
    struct params *grad; /* what the passes add to; with one rank also the reduced gradient */
    struct params *last; /* one rank, fp32: the previous gradient */
    void *own;           /* several ranks: reduced gradient, this shard's */
    void *own_last;      /* several ranks, fp32: previous gradient, this shard's */
    struct align_previous previous;
    void *m, *v;   /* this shard's */
    void *changed; /* bitmap of this shard; NULL: the policy is f32 */
    double values; /* of all entries, without the gaps between them */
    struct run *runs;
    double critic_factor; /* of the value head's learning rate */
    size_t n_runs;
    struct update_state state;
    enum recipe_alignment mode;
    int64_t samples_wanted;
    bool lr_loop;
    struct lr_config lr;
    struct kern_adamw adamw; /* without lr, step and grad_scale */
    double clip_norm;
};

/* --- opening ------------------------------------------------------------------------------- */

static void find_runs(struct update *u) {
    size_t n = params_count(u->grad);
    u->runs = mem_array(n, sizeof *u->runs);
    for (size_t i = 0; i < n; i++) {
        const struct params_entry *e = params_entry(u->grad, i);
        struct run *last = u->n_runs ? &u->runs[u->n_runs - 1] : NULL;
        bool critic = strcmp(e->name, "value_head.weight") == 0;
        u->values += (double)e->n;
        if (!last || last->decay != e->is_matrix || critic || e->offset < last->offset + last->n) {
            last = &u->runs[u->n_runs++];
            *last = (struct run){.offset = e->offset, .decay = e->is_matrix, .critic = critic};
        }
        last->n = e->offset + e->n - last->offset;
    }
}

/* Thresholds that calibration will find are NAN until then. */
static void read_recipe(struct update *u, const struct recipe *r) {
    u->mode = r->trainer.alignment.mode;
    u->samples_wanted = r->trainer.alignment.calibrate_steps;
    u->lr_loop = r->trainer.alignment.lr_loop;
    bool unknown = u->mode != RECIPE_ALIGN_ON;
    u->state.c_low = unknown ? (double)NAN : r->trainer.alignment.c_low;
    u->state.c_high = unknown ? (double)NAN : r->trainer.alignment.c_high;
    double own = r->trainer.algorithm.critic.lr, base = r->trainer.optimizer.lr;
    u->critic_factor = own > 0 && base > 0 ? own / base : 1;
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
}

static bool keeps_slab(const struct recipe *r) {
    return r->trainer.alignment.previous == RECIPE_PREVIOUS_FP32;
}

static bool notes_changes(const struct recipe *r) {
    return r->model.dtype == RECIPE_DTYPE_BF16;
}

static int64_t changed_words(int64_t n) {
    return (n + 31) / 32;
}

static int open_slabs(struct update *u, const struct shape *s, const struct recipe *r) {
    const struct kern_backend *b = u->backend;
    size_t bytes = (size_t)u->shard.n * sizeof(float);
    bool sharded = u->shard.ranks.n > 1;
    TRY(params_open(&u->grad, b, s));
    if (sharded) TRY(kern_alloc(b, &u->own, bytes));
    if (keeps_slab(r) && sharded) TRY(kern_alloc(b, &u->own_last, bytes));
    if (keeps_slab(r) && !sharded) TRY(params_open(&u->last, b, s));
    TRY(kern_alloc(b, &u->m, bytes));
    TRY(kern_alloc(b, &u->v, bytes));
    if (notes_changes(r))
        TRY(kern_alloc(b, &u->changed, (size_t)changed_words(u->shard.n) * sizeof(int32_t)));
    TRY(kern_stream_open(b, &u->copies, 0));
    return align_previous_open(&u->previous, b, r->trainer.alignment.previous, u->shard.n);
}

int update_open(struct update **out, const struct kern_backend *b, const struct shape *s,
                const struct recipe *r, const struct shard_ranks *ranks) {
    struct update *u = mem_zalloc(sizeof *u);
    int rc;
    u->backend = b;
    read_recipe(u, r);
    TRY_OUT(shard_open(&u->shard, b, ranks, params_slab_elements(s)));
    TRY_OUT(open_slabs(u, s, r));
    find_runs(u);
    *out = u;
    u = NULL;
out:
    update_close(&u);
    return rc;
}

void update_close(struct update **u) {
    struct update *p = *u;
    if (!p) return;
    params_close(&p->grad);
    params_close(&p->last);
    kern_release(p->backend, p->own);
    kern_release(p->backend, p->own_last);
    kern_release(p->backend, p->m);
    kern_release(p->backend, p->v);
    kern_release(p->backend, p->changed);
    if (p->copies) kern_stream_close(p->backend, p->copies);
    align_previous_close(&p->previous);
    shard_close(&p->shard);
    mem_free(p->runs);
    mem_free(p);
    *u = NULL;
}

size_t update_bytes(const struct shape *s, const struct recipe *r,
                    const struct shard_ranks *ranks) {
    int64_t whole = params_slab_elements(s), own = shard_elements(ranks, whole);
    int64_t slabs = (ranks && ranks->n > 1) + keeps_slab(r) + 2;
    size_t changed = notes_changes(r) ? (size_t)changed_words(own) * sizeof(int32_t) : 0;
    return (size_t)(whole + slabs * own) * sizeof(float) + changed +
           align_previous_bytes(r->trainer.alignment.previous, own);
}

int update_begin(struct update *u, struct params **grads) {
    TRY(params_zero(u->grad));
    *grads = u->grad;
    return 0;
}

/* --- the gradient and the one before ------------------------------------------------------- */

static bool is_sharded(const struct update *u) {
    return u->shard.ranks.n > 1;
}

static struct kern_tensor f32_view(void *data, int64_t at, int64_t n) {
    return kern_view1((float *)data + at, KERN_F32, n);
}

/* The reduced gradient of this shard. */
static void *shard_gradient(const struct update *u) {
    return is_sharded(u) ? u->own : params_slab(u->grad).data;
}

/* The reference of this shard in backend memory; data NULL: it is in host memory. */
static struct kern_tensor shard_reference(const struct update *u) {
    int64_t n = u->shard.n;
    if (u->previous.kind == RECIPE_PREVIOUS_MOMENTUM) return kern_view1(u->m, KERN_F32, n);
    if (u->previous.kind == RECIPE_PREVIOUS_BF16) return kern_view1(u->previous.kept, KERN_BF16, n);
    if (u->previous.kind == RECIPE_PREVIOUS_HOST) return (struct kern_tensor){0};
    return kern_view1(is_sharded(u) ? u->own_last : params_slab(u->last).data, KERN_F32, n);
}

static bool have_reference(const struct update *u) {
    if (u->previous.kind == RECIPE_PREVIOUS_MOMENTUM) return u->state.steps > 0;
    return u->state.have_previous;
}

static void swap_gradients(struct update *u) {
    struct params *p = u->last;
    void *own = u->own_last;
    if (u->previous.kind != RECIPE_PREVIOUS_FP32) return;
    if (is_sharded(u)) {
        u->own_last = u->own;
        u->own = own;
    } else {
        u->last = u->grad;
        u->grad = p;
    }
}

/* {<g,p>, |g|^2, |p|^2} over all ranks. */
static int measure_gradient(struct update *u, struct kern_stream *s, double sums[3]) {
    struct kern_tensor g = f32_view(shard_gradient(u), 0, u->shard.n), p = shard_reference(u);
    bool have = have_reference(u);
    if (have && !p.data)
        TRY(align_previous_dot(&u->previous, s, sums, &g));
    else
        TRY(kern_dot(u->backend, s, sums, &g, have ? &p : NULL));
    return shard_sum(&u->shard, s, sums, 3);
}

/* --- taking the step ----------------------------------------------------------------------- */

/* A step that is taken. */
struct take {
    struct kern_stream *stream;
    struct params *weights, *rounded;
    double lr, scale;
    float parallel; /* multiple of the reference to add to the gradient */
    bool project, keep;
    bool more; /* of the version that the update before it began */
};

static struct kern_tensor typed_view(const struct kern_tensor *t, int64_t at, int64_t n) {
    if (!t->data) return *t;
    return kern_view1((char *)t->data + (size_t)at * kern_dtype_bytes(t->dtype), t->dtype, n);
}

struct kern_tensor update_changed(const struct update *u) {
    if (!u->changed) return (struct kern_tensor){0};
    return kern_view1(u->changed, KERN_I32, changed_words(u->shard.n));
}

/* What AdamW does to the policy from element `from` of the shard on: runs, shards and pieces begin
 * at multiples of 16 elements, as entries do, so no two calls share a piece of the bitmap. */
static void take_policy(const struct update *u, const struct take *t, int64_t from, int64_t n,
                        struct kern_adamw *p) {
    if (!t->rounded) return;
    struct kern_tensor rounded = params_slab(t->rounded);
    p->rounded = typed_view(&rounded, u->shard.offset + from, n);
    p->changed = update_changed(u);
    p->changed_at = from;
    p->changed_or = t->more;
}

/* Elements [at, end) of the shard; g, along (data NULL: none) and keep begin at element `at`. */
static int adamw_range(struct update *u, const struct take *t, const struct kern_tensor *g,
                       const struct kern_tensor *along, const struct kern_tensor *keep, int64_t at,
                       int64_t end) {
    int64_t offset = u->shard.offset;
    float *w = params_slab(t->weights).data;
    for (size_t i = 0; i < u->n_runs; i++) {
        const struct run *r = &u->runs[i];
        int64_t from = r->offset - offset, to = from + r->n;
        if (from < at) from = at;
        if (to > end) to = end;
        if (from >= to) continue;
        struct kern_adamw p = u->adamw;
        struct kern_tensor tw = f32_view(w, offset + from, to - from);
        struct kern_tensor tg = typed_view(g, from - at, to - from);
        struct kern_tensor m = f32_view(u->m, from, to - from), v = f32_view(u->v, from, to - from);
        p.lr = (float)(r->critic ? t->lr * u->critic_factor : t->lr);
        p.step = u->state.steps + 1;
        p.grad_scale = (float)t->scale;
        p.along = typed_view(along, from - at, to - from);
        p.along_scale = t->parallel;
        p.keep = typed_view(keep, from - at, to - from);
        take_policy(u, t, from, to - from, &p);
        if (!r->decay) p.weight_decay = 0;
        TRY(kern_adamw(u->backend, t->stream, &tw, &m, &v, &tg, &p));
    }
    return 0;
}

/* The reference lies in backend memory: one pass takes it out, and keeps the raw gradient where
 * that is not done by a change of roles. */
static int take_whole(struct update *u, const struct take *t) {
    struct kern_tensor g = f32_view(shard_gradient(u), 0, u->shard.n), none = {0},
                       p = shard_reference(u);
    bool rounded = p.dtype == KERN_BF16;
    if (t->keep) return rounded ? kern_cast(u->backend, t->stream, &p, &g) : 0;
    return adamw_range(u, t, &g, t->project ? &p : &none, rounded ? &p : &none, 0, u->shard.n);
}

/* It is in host memory: the raw gradient takes its place piece by piece. */
static int take_pieces(struct update *u, const struct take *t) {
    int64_t n = u->shard.n, step = align_previous_piece(&u->previous);
    for (int64_t at = 0; at < n; at += step) {
        int64_t end = at + step < n ? at + step : n;
        struct kern_tensor g = f32_view(shard_gradient(u), at, end - at), p = {0}, none = {0};
        if (t->project) TRY(align_previous_load(&u->previous, t->stream, &p, at, end - at));
        TRY(align_previous_keep(&u->previous, t->stream, &g, at));
        if (!t->keep) TRY(adamw_range(u, t, &g, &p, &none, at, end));
    }
    return 0;
}

static bool in_pieces(const struct update *u) {
    return u->previous.kind == RECIPE_PREVIOUS_HOST;
}

static int take_and_gather(struct update *u, const struct take *t) {
    TRY(in_pieces(u) ? take_pieces(u, t) : take_whole(u, t));
    struct kern_tensor w = params_slab(t->rounded ? t->rounded : t->weights);
    return shard_all_gather(&u->shard, t->stream, &w);
}

int update_gather_weights(struct update *u, struct kern_stream *s, struct params *weights) {
    struct kern_tensor w = params_slab(weights);
    return shard_all_gather(&u->shard, s, &w);
}

/* Counted in the bitmap, which is 1/32 of the policy: no pass over the weights. */
static int count_changed(struct update *u, struct kern_stream *s, const struct update_turn *turn,
                         struct update_report *out) {
    struct kern_tensor bits = update_changed(u);
    int64_t n;
    if (!turn->rounded) return 0;
    if (!out->applied && !turn->more) TRY(kern_zero(u->backend, s, bits.data, bits.bytes));
    TRY(kern_count_bits(u->backend, s, &n, &bits));
    out->changed = (double)n;
    TRY(shard_sum(&u->shard, s, &out->changed, 1));
    out->changed /= u->values;
    return 0;
}

static int skip_step(struct update *u, struct kern_stream *s) {
    struct take t = {.stream = s, .keep = true};
    u->state.skips++;
    TRY(in_pieces(u) ? take_pieces(u, &t) : take_whole(u, &t));
    swap_gradients(u);
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

/* --- deciding ------------------------------------------------------------------------------ */

static bool calibrates(const struct update *u) {
    return u->mode == RECIPE_ALIGN_CALIBRATE && u->state.samples < u->samples_wanted;
}

static void set_thresholds(struct update *u) {
    struct update_state *st = &u->state;
    double sorted[UPDATE_SAMPLES_MAX];
    for (int64_t i = 0; i < st->samples; i++)
        sorted[i] = st->sample[i];
    align_thresholds(&st->c_low, &st->c_high, sorted, st->samples);
    LOG(INFO, TRAINER, "alignment calibrated on %" PRId64 " steps: c_low=%.4f c_high=%.4f",
        st->samples, st->c_low, st->c_high);
}

static void add_sample(struct update *u, double cosine) {
    u->state.sample[u->state.samples++] = cosine;
    if (!calibrates(u)) set_thresholds(u);
}

/* The thresholds of a report are those that the step was decided by. */
static struct align_decision decide_action(struct update *u, const double sums[3], bool control) {
    bool calibrating = control && calibrates(u);
    struct align_config cfg = {.on = control && u->mode != RECIPE_ALIGN_OFF && !calibrating,
                               .c_low = u->state.c_low,
                               .c_high = u->state.c_high};
    struct align_decision d =
        align_decide(&cfg, sums[0], sums[1], sums[2], have_reference(u), u->state.skips);
    if (calibrating && d.action == ALIGN_OFF) d.action = ALIGN_CALIBRATE;
    return d;
}

/* The cosine of this step counts already: the next gradient is of the same data. */
static double follow_cosine(struct update *u, const struct update_turn *turn, double cosine) {
    align_mean_add(&u->state.mean, cosine);
    if (!u->lr_loop || !turn->control) return 1;
    return align_lr_factor(turn->staleness, align_mean(&u->state.mean));
}

/* The order matters: reduce, measure, decide, then one pass of AdamW; what the report says of the
 * thresholds is from before calibration moves them. */
static int decide_and_take(struct update *u, struct kern_stream *s, struct params *weights,
                           const struct update_turn *turn, struct update_report *out) {
    double sums[3];
    struct kern_tensor whole = params_slab(u->grad);
    if (is_sharded(u)) TRY(shard_reduce_scatter(&u->shard, s, u->own, &whole));
    TRY(measure_gradient(u, s, sums));
    struct align_decision d = decide_action(u, sums, turn->control);
    double factor = follow_cosine(u, turn, d.cosine);
    *out = (struct update_report){.grad_norm = sqrt(sums[1]),
                                  .cosine = d.cosine,
                                  .removed = d.removed,
                                  .lr = lr_at(&u->lr, u->state.steps) * turn->lr_factor * factor,
                                  .lr_factor = factor,
                                  .c_low = u->state.c_low,
                                  .c_high = u->state.c_high,
                                  .action = d.action,
                                  .changed = (double)NAN};
    if (!isfinite(sums[1])) return refuse_not_finite(u);
    u->state.not_finite = 0;
    if (d.action == ALIGN_CALIBRATE) add_sample(u, d.cosine);
    if (d.action == ALIGN_SKIP) {
        TRY(skip_step(u, s));
        out->skips = u->state.skips;
        return 0;
    }
    struct take t = {.stream = s, .weights = weights, .lr = out->lr, .scale = 1};
    if (u->clip_norm > 0) t.scale = fmin(1, u->clip_norm / (sqrt(d.square) + update_clip_eps));
    t.rounded = turn->rounded;
    t.more = turn->more;
    t.project = d.action == ALIGN_SCALE;
    t.parallel = (float)d.parallel;
    TRY(take_and_gather(u, &t));
    u->state.have_previous = true;
    u->state.steps++;
    u->state.skips = 0;
    swap_gradients(u);
    out->applied = true;
    return 0;
}

int update_apply(struct update *u, struct kern_stream *s, struct params *weights,
                 const struct update_turn *turn, struct update_report *out) {
    ASSERT(!turn->rounded || u->changed);
    TRY(decide_and_take(u, s, weights, turn, out));
    return count_changed(u, s, turn, out);
}

/* --- checkpoints --------------------------------------------------------------------------- */

struct update_state update_state(const struct update *u) {
    return u->state;
}

/* Thresholds that calibration found come from the checkpoint, others from the recipe, which may
 * have been changed on purpose. */
void update_restore(struct update *u, const struct update_state *state) {
    double c_low = u->state.c_low, c_high = u->state.c_high;
    u->state = *state;
    if (u->mode == RECIPE_ALIGN_CALIBRATE) {
        if (!calibrates(u) && !isfinite(state->c_low)) set_thresholds(u);
        return;
    }
    u->state.c_low = c_low;
    u->state.c_high = c_high;
}

int update_slabs(const struct update *u) {
    return u->previous.kind == RECIPE_PREVIOUS_MOMENTUM ? 2 : 3;
}

struct update_slab update_slab(const struct update *u, int i) {
    static const char *const names[UPDATE_SLABS_MAX] = {"adam_m", "adam_v", "previous_gradient"};
    ASSERT(i >= 0 && i < update_slabs(u));
    return (struct update_slab){.name = names[i],
                                .offset = u->shard.offset,
                                .n = u->shard.n,
                                .size = i < 2 ? sizeof(float) : align_previous_size(&u->previous)};
}

/* NULL: align_previous.c has it. */
static char *memory_of(const struct update *u, int i) {
    ASSERT(i >= 0 && i < update_slabs(u));
    return i == 0 ? u->m : i == 1 ? u->v : shard_reference(u).data;
}

int update_get(const struct update *u, int i, void *out, size_t at, size_t bytes) {
    const char *from = memory_of(u, i);
    if (from) return kern_get(u->backend, u->copies, out, from + at, bytes);
    align_previous_get(&u->previous, out, at, bytes);
    return 0;
}

int update_put(struct update *u, int i, const void *from, size_t at, size_t bytes) {
    char *to = memory_of(u, i);
    if (to) return kern_put(u->backend, u->copies, to + at, from, bytes);
    align_previous_put(&u->previous, from, at, bytes);
    return 0;
}
