/* head.c - the head, head_rows rows at a time: logits, log-probs, entropy and their reverse.
 *
 * [tokens, vocab] is the largest tensor of a language model (16k tokens of Qwen: 10 GB), so it
 * never exists. A chunk's logits live just long enough for the log-probs, the loss's derivatives
 * and three products (logits, d hidden, d head); logprob_bwd turns the logits into their own
 * gradient in place. Rows that are not trained cost nothing: only the given rows are gathered. */
#include "actor/actor_impl.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Rows must be rows of the newest forward: hidden states of an older one are gone. */
static int check_rows(const struct actor *a, const int32_t *rows, const int32_t *targets,
                      int64_t n) {
    if (a->n == 0 || a->keys_only)
        return FAIL(ERR_CONFIG, "head: no forward with these weights yet, or one of keys only");
    if (n < 0) return FAIL(ERR_CONFIG, "head: %" PRId64 " rows", n);
    for (int64_t i = 0; i < n; i++) {
        if (rows[i] < 0 || rows[i] >= a->n)
            return FAIL(ERR_CONFIG, "head: rows[%" PRId64 "] is %d, allowed is 0..%d", i, rows[i],
                        a->n - 1);
        if (targets && (targets[i] < 0 || targets[i] >= a->cfg.shape.vocab))
            return FAIL(ERR_CONFIG, "head: targets[%" PRId64 "] is %d, allowed is 0..%d", i,
                        targets[i], a->cfg.shape.vocab - 1);
    }
    return 0;
}

static struct kern_tensor vec(void *p, int32_t first, int64_t n) {
    return kern_view1((float *)p + first, KERN_F32, n);
}

/* The chunk's row numbers (which = 0) or targets (1), uploaded together. */
static struct kern_tensor index_vec(const struct actor *a, int32_t which, int64_t n) {
    int32_t *ids = a->head_ids;
    return kern_view1(ids + (int64_t)which * a->cfg.head_rows, KERN_I32, n);
}

/* logits = hh times the head */
static int head_product(struct actor *a, void *hh, int32_t n) {
    const struct shape *s = &a->cfg.shape;
    const struct actor_weight *w = &a->weights.head;
    struct kern_tensor x = actor_mat(a, hh, n, s->d), logits = actor_f32(a->logits, n, s->vocab);
    return kern_matmul(a->b, a->s, &logits, &x, &w->w, w->has_packed ? &w->packed : NULL, NULL);
}

/* Those of the rows whose numbers stand at `at`. */
static int gathered_logits(struct actor *a, const struct kern_tensor *at, int32_t n) {
    int64_t d = a->cfg.shape.d;
    struct kern_tensor hh = actor_mat(a, a->hh, n, d), hidden = actor_mat(a, a->hidden, a->n, d);
    TRY(kern_gather(a->b, a->s, &hh, &hidden, at));
    return head_product(a, a->hh, n);
}

/* Logits of n <= head_rows rows; targets may be NULL. */
static int chunk_logits(struct actor *a, const int32_t *rows, const int32_t *targets, int32_t n) {
    int32_t hr = a->cfg.head_rows;
    struct kern_tensor at = index_vec(a, 0, n);
    memcpy(a->head_ids_host, rows, (size_t)n * sizeof *rows);
    if (targets) memcpy(a->head_ids_host + hr, targets, (size_t)n * sizeof *targets);
    size_t bytes = (size_t)(targets ? hr + n : n) * sizeof(int32_t);
    TRY(kern_put(a->b, a->s, a->head_ids, a->head_ids_host, bytes));
    return gathered_logits(a, &at, n);
}

static int check_few(const struct actor *a, int32_t n) {
    if (n <= a->cfg.head_rows) return 0;
    return FAIL(ERR_CONFIG, "head: %d rows of logits, the limit (head_rows) is %d", n,
                a->cfg.head_rows);
}

int actor_logits(struct actor *a, const int32_t *rows, int32_t n, struct kern_tensor *logits) {
    TRY(check_rows(a, rows, NULL, n));
    TRY(check_few(a, n));
    TRY(chunk_logits(a, rows, NULL, n));
    *logits = actor_f32(a->logits, n, a->cfg.shape.vocab);
    return 0;
}

int actor_logits_at(struct actor *a, const int32_t *rows, void *at, int32_t n,
                    struct kern_tensor *logits) {
    struct kern_tensor view = kern_view1(at, KERN_I32, n);
    int32_t last = rows[0] + n - 1;
    TRY(check_few(a, n));
    TRY(check_rows(a, rows, NULL, at ? n : 1));
    TRY(check_rows(a, &last, NULL, at ? 0 : 1));
    if (at)
        TRY(gathered_logits(a, &view, n));
    else
        TRY(head_product(a, actor_row(a, a->hidden, rows[0], a->cfg.shape.d), n));
    *logits = actor_f32(a->logits, n, a->cfg.shape.vocab);
    return 0;
}

/* The op takes a temperature per row; here one serves all, so it is uploaded when it changes. */
static int set_temperature(struct actor *a, float inv_temp) {
    int32_t hr = a->cfg.head_rows;
    if (!isfinite(inv_temp) || inv_temp <= 0)
        return FAIL(ERR_CONFIG, "head: inv_temp is %g, must be finite and above 0",
                    (double)inv_temp);
    if (inv_temp == a->temp_now) return 0;
    for (int32_t i = 0; i < hr; i++)
        a->head_host[i] = inv_temp;
    a->temp_now = 0;
    TRY(kern_put(a->b, a->s, a->temp, a->head_host, (size_t)hr * sizeof(float)));
    TRY(kern_sync(a->b, a->s)); /* head_host is used again at once */
    a->temp_now = inv_temp;
    return 0;
}

/* Log-probs of one chunk, left on the device and copied to host; entropy NULL: not wanted. */
static int chunk_logprobs(struct actor *a, const int32_t *rows, const int32_t *targets, int32_t n,
                          float *logprob, float *entropy) {
    struct kern_tensor logits = actor_f32(a->logits, n, a->cfg.shape.vocab);
    struct kern_tensor lp = vec(a->lp, 0, n), ent = vec(a->ent, 0, n), lse = vec(a->head_lse, 0, n);
    struct kern_tensor temp = vec(a->temp, 0, n), target = index_vec(a, 1, n);
    TRY(chunk_logits(a, rows, targets, n));
    TRY(kern_logprob(a->b, a->s, &lp, entropy ? &ent : NULL, &lse, &logits, &target, &temp));
    TRY(kern_get(a->b, a->s, logprob, a->lp, (size_t)n * sizeof(float)));
    if (!entropy) return 0;
    return kern_get(a->b, a->s, entropy, a->ent, (size_t)n * sizeof(float));
}

/* Values of the chunk whose hidden rows chunk_logits or actor_values gathered. */
static int chunk_values(struct actor *a, int32_t n, float *value) {
    struct kern_tensor hh = actor_mat(a, a->hh, n, a->cfg.shape.d), v = actor_f32(a->val, n, 1);
    TRY(kern_matmul(a->b, a->s, &v, &hh, &a->weights.value, NULL, NULL));
    return kern_get(a->b, a->s, value, a->val, (size_t)n * sizeof(float));
}

static int32_t chunk_size(const struct actor *a, int64_t left) {
    return left < a->cfg.head_rows ? (int32_t)left : a->cfg.head_rows;
}

int actor_logprobs(struct actor *a, const int32_t *rows, const int32_t *targets, int64_t n,
                   float inv_temp, float *logprob, float *entropy) {
    TRY(check_rows(a, rows, targets, n));
    TRY(set_temperature(a, inv_temp));
    for (int64_t i = 0; i < n;) {
        int32_t some = chunk_size(a, n - i);
        TRY(chunk_logprobs(a, rows + i, targets + i, some, logprob + i,
                           entropy ? entropy + i : NULL));
        i += some;
    }
    return 0;
}

int actor_values(struct actor *a, const int32_t *rows, int64_t n, float *value) {
    const struct shape *s = &a->cfg.shape;
    TRY(check_rows(a, rows, NULL, n));
    if (!s->value_head) return FAIL(ERR_CONFIG, "head: this network has no value head");
    for (int64_t i = 0; i < n;) {
        int32_t some = chunk_size(a, n - i);
        struct kern_tensor hh = actor_mat(a, a->hh, some, s->d), at = index_vec(a, 0, some);
        struct kern_tensor hidden = actor_mat(a, a->hidden, a->n, s->d);
        size_t bytes = (size_t)some * sizeof *rows;
        memcpy(a->head_ids_host, rows + i, bytes);
        TRY(kern_put(a->b, a->s, a->head_ids, a->head_ids_host, bytes));
        TRY(kern_gather(a->b, a->s, &hh, &hidden, &at));
        TRY(chunk_values(a, some, value + i));
        i += some;
    }
    return 0;
}

/* scatter_add wants distinct rows: two gradients of one row would race on a device. */
static int check_distinct(struct actor *a, const int32_t *rows, int64_t n) {
    memset(a->mark, 0, (size_t)a->n);
    for (int64_t i = 0; i < n; i++) {
        if (a->mark[rows[i]])
            return FAIL(ERR_CONFIG, "head: rows[%" PRId64 "] = %d is there twice", i, rows[i]);
        a->mark[rows[i]] = 1;
    }
    return 0;
}

/* What products take: f32 as it is, or rounded into the given bf16 memory. */
static int for_products(struct actor *a, struct kern_tensor *t, void *half) {
    struct kern_tensor f32 = *t;
    if (!a->cfg.shape.half) return 0;
    *t = kern_view2(half, KERN_BF16, t->dim[0], t->dim[1]);
    return kern_cast(a->b, a->s, t, &f32);
}

/* d loss / d logits of the chunk -> gradient of the head, and of the hidden rows into gh. */
static int chunk_backward(struct actor *a, int32_t n) {
    const struct shape *s = &a->cfg.shape;
    int32_t hr = a->cfg.head_rows;
    struct kern_tensor logits = actor_f32(a->logits, n, s->vocab),
                       hh = actor_mat(a, a->hh, n, s->d);
    struct kern_tensor ghh = actor_mat(a, a->ghh, n, s->d), gh = actor_mat(a, a->gh, a->n, s->d);
    struct kern_tensor glp = vec(a->ghead, 0, n), gent = vec(a->ghead, hr, n);
    struct kern_tensor ent = vec(a->ent, 0, n), lse = vec(a->head_lse, 0, n);
    struct kern_tensor temp = vec(a->temp, 0, n), target = index_vec(a, 1, n);
    struct kern_tensor rows = index_vec(a, 0, n);
    TRY(kern_put(a->b, a->s, a->ghead, a->head_host + 3 * (int64_t)hr,
                 (size_t)(2 * hr + n) * sizeof(float)));
    TRY(kern_logprob_bwd(a->b, a->s, &logits, &glp, &gent, &ent, &lse, &target, &temp));
    TRY(for_products(a, &logits, a->half_glogits));
    TRY(kern_matmul_dw(a->b, a->s, &a->grads.head.w, NULL, &logits, &hh));
    TRY(kern_matmul_dx(a->b, a->s, &ghh, &logits, &a->weights.head.w, false));
    if (s->value_head) {
        struct kern_tensor gval = actor_f32((float *)a->ghead + 2 * (int64_t)hr, n, 1);
        TRY(for_products(a, &gval, a->half_gval));
        TRY(kern_matmul_dw(a->b, a->s, &a->grads.value, NULL, &gval, &hh));
        TRY(kern_matmul_dx(a->b, a->s, &ghh, &gval, &a->weights.value, true));
    }
    return kern_scatter_add(a->b, a->s, &gh, &ghh, &rows);
}

/* gh starts at zero: rows without a target have no gradient from the head but still get one through
 * the attention of later rows. */
int actor_head_backward(struct actor *a, const int32_t *rows, const int32_t *targets, int64_t n,
                        float inv_temp, actor_loss_fn *loss, void *ctx) {
    int64_t hr = a->cfg.head_rows;
    bool critic = a->cfg.shape.value_head;
    float *lp = a->head_host, *ent = lp + hr, *val = critic ? ent + hr : NULL;
    float *glp = lp + 3 * hr, *gent = glp + hr, *gval = critic ? gent + hr : NULL;
    struct loss_rows chunk = {0, lp, ent, val, glp, gent, gval};
    TRY(check_rows(a, rows, targets, n));
    TRY(check_distinct(a, rows, n));
    TRY(set_temperature(a, inv_temp));
    TRY(kern_zero(a->b, a->s, a->gh, (size_t)a->n * (size_t)a->cfg.shape.d * actor_size(&a->cfg)));
    for (int64_t i = 0; i < n;) {
        int32_t some = chunk_size(a, n - i);
        TRY(chunk_logprobs(a, rows + i, targets + i, some, lp, ent));
        if (critic) TRY(chunk_values(a, some, val));
        chunk.n = some;
        TRY(loss(ctx, i, &chunk));
        TRY(chunk_backward(a, some));
        i += some;
    }
    return 0;
}
