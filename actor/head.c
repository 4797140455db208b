/* head.c - the head, head_rows rows at a time: logits, log-probs, entropy and their backward pass.
 *
 * [tokens, vocab] is the largest tensor of a language model (16k tokens of Qwen: 10 GB), so it
 * never exists. A chunk's logits live just long enough for the log-probs, the loss's derivatives
 * and three products (logits, d hidden, d head); logprob_bwd turns the logits into their own
 * gradient in place. Rows that are not trained cost nothing: only the given rows are gathered. */
#include "actor/head.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { HEAD_ROWS = 64 };

/* --- open and close ------------------------------------------------------------------------- */

int32_t head_rows(const struct actor_config *cfg) {
    return cfg->head_rows ? cfg->head_rows : HEAD_ROWS;
}

void head_carve(struct actor_head *h, struct actor_carve *c, const struct actor_config *cfg) {
    int64_t hr = head_rows(cfg), d = cfg->shape.d, v = cfg->shape.vocab;
    bool bf16 = cfg->train && cfg->shape.bf16;
    h->hh = actor_carve(c, hr, d);
    h->logits = actor_carve_f32(c, hr, v);
    h->ids = actor_carve_f32(c, 2, hr);
    h->lp = actor_carve_f32(c, hr, 1);
    h->ent = actor_carve_f32(c, hr, 1);
    h->lse = actor_carve_f32(c, hr, 1);
    h->temp = actor_carve_f32(c, hr, 1);
    h->val = actor_carve_f32(c, hr, 1);
    if (cfg->train) h->ghh = actor_carve(c, hr, d);
    if (cfg->train) h->gout = actor_carve_f32(c, 3, hr);
    if (bf16) h->bf16_glogits = actor_carve(c, hr, v);
    if (bf16) h->bf16_gval = actor_carve(c, hr, 1);
}

void head_open(struct actor_head *h, const struct actor_pass *pass,
               const struct actor_weights *weights, const struct actor_weights *grads, void *hidden,
               void *gh) {
    size_t hr = (size_t)head_rows(pass->cfg);
    h->pass = pass;
    h->cfg = pass->cfg;
    h->b = pass->b;
    h->s = pass->s;
    h->weights = weights;
    h->grads = grads;
    h->hidden = hidden;
    h->gh = gh;
    h->rows_max = (int32_t)hr;
    h->ids_host = mem_array(2 * hr, sizeof *h->ids_host);
    h->host = mem_array(6 * hr, sizeof *h->host);
    h->mark = mem_array((size_t)pass->cfg->rows_max, sizeof *h->mark);
}

void head_close(struct actor_head *h) {
    mem_free(h->ids_host);
    mem_free(h->host);
    mem_free(h->mark);
}

/* --- logits and log-probs ------------------------------------------------------------------- */

/* Rows must be rows of the newest forward: hidden states of an older one are gone. */
static int check_rows(const struct actor_head *h, const int32_t *rows, const int32_t *targets,
                      int64_t n) {
    if (h->pass->n == 0 || h->pass->keys_only)
        return FAIL(ERR_CONFIG, "head: no forward with these weights yet, or one of keys only");
    if (n < 0) return FAIL(ERR_CONFIG, "head: %" PRId64 " rows", n);
    for (int64_t i = 0; i < n; i++) {
        if (rows[i] < 0 || rows[i] >= h->pass->n)
            return FAIL(ERR_CONFIG, "head: rows[%" PRId64 "] is %d, allowed is 0..%d", i, rows[i],
                        h->pass->n - 1);
        if (targets && (targets[i] < 0 || targets[i] >= h->cfg->shape.vocab))
            return FAIL(ERR_CONFIG, "head: targets[%" PRId64 "] is %d, allowed is 0..%d", i,
                        targets[i], h->cfg->shape.vocab - 1);
    }
    return 0;
}

/* Rows of the model's width and type; rows of floats. */
static struct kern_tensor rows_of(const struct actor_head *h, void *x, int64_t n) {
    return kern_view2(x, actor_type(h->cfg), n, h->cfg->shape.d);
}
static struct kern_tensor f32_of(void *x, int64_t rows, int64_t cols) {
    return kern_view2(x, KERN_F32, rows, cols);
}

static struct kern_tensor vec(void *p, int32_t first, int64_t n) {
    return kern_view1((float *)p + first, KERN_F32, n);
}

/* The chunk's row numbers (which = 0) or targets (1), uploaded together. */
static struct kern_tensor index_vec(const struct actor_head *h, int32_t which, int64_t n) {
    int32_t *ids = h->ids;
    return kern_view1(ids + (int64_t)which * h->rows_max, KERN_I32, n);
}

/* logits = hh times the head */
static int head_product(struct actor_head *h, void *hh, int32_t n) {
    const struct shape *s = &h->cfg->shape;
    const struct block_weight *w = actor_weights_head(h->weights);
    struct kern_tensor x = rows_of(h, hh, n), logits = f32_of(h->logits, n, s->vocab);
    return kern_matmul(h->b, h->s, &logits, &x, &w->w, w->has_packed ? &w->packed : NULL, NULL);
}

/* Those of the rows whose numbers stand at `at`. */
static int gathered_logits(struct actor_head *h, const struct kern_tensor *at, int32_t n) {
    struct kern_tensor hh = rows_of(h, h->hh, n), hidden = rows_of(h, h->hidden, h->pass->n);
    TRY(kern_gather(h->b, h->s, &hh, &hidden, at));
    return head_product(h, h->hh, n);
}

/* Logits of n rows, which fit into a chunk; targets may be NULL. */
static int chunk_logits(struct actor_head *h, const int32_t *rows, const int32_t *targets,
                        int32_t n) {
    int32_t hr = h->rows_max;
    struct kern_tensor at = index_vec(h, 0, n);
    memcpy(h->ids_host, rows, (size_t)n * sizeof *rows);
    if (targets) memcpy(h->ids_host + hr, targets, (size_t)n * sizeof *targets);
    size_t bytes = (size_t)(targets ? hr + n : n) * sizeof(int32_t);
    TRY(kern_put(h->b, h->s, h->ids, h->ids_host, bytes));
    return gathered_logits(h, &at, n);
}

static int check_few(const struct actor_head *h, int32_t n) {
    if (n <= h->rows_max) return 0;
    return FAIL(ERR_CONFIG, "head: %d rows of logits, the limit (head_rows) is %d", n, h->rows_max);
}

int head_logits(struct actor_head *h, const int32_t *rows, int32_t n, struct kern_tensor *logits) {
    TRY(check_rows(h, rows, NULL, n));
    TRY(check_few(h, n));
    TRY(chunk_logits(h, rows, NULL, n));
    *logits = f32_of(h->logits, n, h->cfg->shape.vocab);
    return 0;
}

int head_logits_at(struct actor_head *h, const int32_t *rows, void *at, int32_t n,
                   struct kern_tensor *logits) {
    struct kern_tensor view = kern_view1(at, KERN_I32, n);
    size_t row = (size_t)h->cfg->shape.d * actor_size(h->cfg);
    int32_t last = rows[0] + n - 1;
    TRY(check_few(h, n));
    TRY(check_rows(h, rows, NULL, at ? n : 1));
    TRY(check_rows(h, &last, NULL, at ? 0 : 1));
    if (at)
        TRY(gathered_logits(h, &view, n));
    else
        TRY(head_product(h, (char *)h->hidden + (size_t)rows[0] * row, n));
    *logits = f32_of(h->logits, n, h->cfg->shape.vocab);
    return 0;
}

/* The op takes a temperature per row; here one serves all, so it is uploaded when it changes. */
static int set_temperature(struct actor_head *h, float inv_temp) {
    int32_t hr = h->rows_max;
    if (!isfinite(inv_temp) || inv_temp <= 0)
        return FAIL(ERR_CONFIG, "head: inv_temp is %g, must be finite and above 0",
                    (double)inv_temp);
    if (inv_temp == h->temp_now) return 0;
    for (int32_t i = 0; i < hr; i++)
        h->host[i] = inv_temp;
    h->temp_now = 0;
    TRY(kern_put(h->b, h->s, h->temp, h->host, (size_t)hr * sizeof(float)));
    TRY(kern_sync(h->b, h->s)); /* host is used again at once */
    h->temp_now = inv_temp;
    return 0;
}

/* Log-probs of one chunk, left on the device and copied to host; entropy NULL: not wanted. */
static int chunk_logprobs(struct actor_head *h, const int32_t *rows, const int32_t *targets,
                          int32_t n, float *logprob, float *entropy) {
    struct kern_tensor logits = f32_of(h->logits, n, h->cfg->shape.vocab);
    struct kern_tensor lp = vec(h->lp, 0, n), ent = vec(h->ent, 0, n), lse = vec(h->lse, 0, n);
    struct kern_tensor temp = vec(h->temp, 0, n), target = index_vec(h, 1, n);
    TRY(chunk_logits(h, rows, targets, n));
    TRY(kern_logprob(h->b, h->s, &lp, entropy ? &ent : NULL, &lse, &logits, &target, &temp));
    TRY(kern_get(h->b, h->s, logprob, h->lp, (size_t)n * sizeof(float)));
    if (!entropy) return 0;
    return kern_get(h->b, h->s, entropy, h->ent, (size_t)n * sizeof(float));
}

/* Values of the chunk whose hidden rows chunk_logits or head_values gathered. */
static int chunk_values(struct actor_head *h, int32_t n, float *value) {
    struct kern_tensor hh = rows_of(h, h->hh, n), v = f32_of(h->val, n, 1);
    TRY(kern_matmul(h->b, h->s, &v, &hh, &h->weights->value, NULL, NULL));
    return kern_get(h->b, h->s, value, h->val, (size_t)n * sizeof(float));
}

static int32_t chunk_size(const struct actor_head *h, int64_t left) {
    return left < h->rows_max ? (int32_t)left : h->rows_max;
}

int head_logprobs(struct actor_head *h, const int32_t *rows, const int32_t *targets, int64_t n,
                  float inv_temp, float *logprob, float *entropy) {
    TRY(check_rows(h, rows, targets, n));
    TRY(set_temperature(h, inv_temp));
    for (int64_t i = 0; i < n;) {
        int32_t some = chunk_size(h, n - i);
        TRY(chunk_logprobs(h, rows + i, targets + i, some, logprob + i,
                           entropy ? entropy + i : NULL));
        i += some;
    }
    return 0;
}

int head_values(struct actor_head *h, const int32_t *rows, int64_t n, float *value) {
    const struct shape *s = &h->cfg->shape;
    TRY(check_rows(h, rows, NULL, n));
    if (!s->value_head) return FAIL(ERR_CONFIG, "head: this network has no value head");
    for (int64_t i = 0; i < n;) {
        int32_t some = chunk_size(h, n - i);
        struct kern_tensor hh = rows_of(h, h->hh, some), at = index_vec(h, 0, some);
        struct kern_tensor hidden = rows_of(h, h->hidden, h->pass->n);
        size_t bytes = (size_t)some * sizeof *rows;
        memcpy(h->ids_host, rows + i, bytes);
        TRY(kern_put(h->b, h->s, h->ids, h->ids_host, bytes));
        TRY(kern_gather(h->b, h->s, &hh, &hidden, &at));
        TRY(chunk_values(h, some, value + i));
        i += some;
    }
    return 0;
}

/* --- backward ------------------------------------------------------------------------------- */

/* scatter_add wants distinct rows: two gradients of one row would race on a device. */
static int check_distinct(struct actor_head *h, const int32_t *rows, int64_t n) {
    memset(h->mark, 0, (size_t)h->pass->n);
    for (int64_t i = 0; i < n; i++) {
        if (h->mark[rows[i]])
            return FAIL(ERR_CONFIG, "head: rows[%" PRId64 "] = %d is there twice", i, rows[i]);
        h->mark[rows[i]] = 1;
    }
    return 0;
}

/* What products take: f32 as it is, or rounded into the given bf16 memory. */
static int for_products(struct actor_head *h, struct kern_tensor *t, void *bf16) {
    struct kern_tensor f32 = *t;
    if (!h->cfg->shape.bf16) return 0;
    *t = kern_view2(bf16, KERN_BF16, t->dim[0], t->dim[1]);
    return kern_cast(h->b, h->s, t, &f32);
}

/* d loss / d logits of the chunk -> gradient of the head, and of the hidden rows into gh. */
static int chunk_backward(struct actor_head *h, int32_t n) {
    const struct shape *s = &h->cfg->shape;
    int32_t hr = h->rows_max;
    struct kern_tensor logits = f32_of(h->logits, n, s->vocab), hh = rows_of(h, h->hh, n);
    struct kern_tensor ghh = rows_of(h, h->ghh, n), gh = rows_of(h, h->gh, h->pass->n);
    struct kern_tensor glp = vec(h->gout, 0, n), gent = vec(h->gout, hr, n);
    struct kern_tensor ent = vec(h->ent, 0, n), lse = vec(h->lse, 0, n);
    struct kern_tensor temp = vec(h->temp, 0, n), target = index_vec(h, 1, n);
    struct kern_tensor rows = index_vec(h, 0, n);
    TRY(kern_put(h->b, h->s, h->gout, h->host + 3 * (int64_t)hr,
                 (size_t)(2 * hr + n) * sizeof(float)));
    TRY(kern_logprob_bwd(h->b, h->s, &logits, &glp, &gent, &ent, &lse, &target, &temp));
    TRY(for_products(h, &logits, h->bf16_glogits));
    TRY(kern_matmul_dw(h->b, h->s, &actor_weights_head(h->grads)->w, NULL, &logits, &hh));
    TRY(kern_matmul_dx(h->b, h->s, &ghh, &logits, &actor_weights_head(h->weights)->w, false));
    if (s->value_head) {
        struct kern_tensor gval = f32_of((float *)h->gout + 2 * (int64_t)hr, n, 1);
        TRY(for_products(h, &gval, h->bf16_gval));
        TRY(kern_matmul_dw(h->b, h->s, &h->grads->value, NULL, &gval, &hh));
        TRY(kern_matmul_dx(h->b, h->s, &ghh, &gval, &h->weights->value, true));
    }
    return kern_scatter_add(h->b, h->s, &gh, &ghh, &rows);
}

/* gh starts at zero: rows without a target have no gradient from the head but still get one through
 * the attention of later rows. */
int head_backward(struct actor_head *h, const int32_t *rows, const int32_t *targets, int64_t n,
                  float inv_temp, actor_loss_fn *loss, void *ctx) {
    int64_t hr = h->rows_max;
    bool critic = h->cfg->shape.value_head;
    float *lp = h->host, *ent = lp + hr, *val = critic ? ent + hr : NULL;
    float *glp = lp + 3 * hr, *gent = glp + hr, *gval = critic ? gent + hr : NULL;
    struct loss_rows chunk = {0, lp, ent, val, glp, gent, gval};
    TRY(check_rows(h, rows, targets, n));
    TRY(check_distinct(h, rows, n));
    TRY(set_temperature(h, inv_temp));
    TRY(kern_zero(h->b, h->s, h->gh,
                  (size_t)h->pass->n * (size_t)h->cfg->shape.d * actor_size(h->cfg)));
    for (int64_t i = 0; i < n;) {
        int32_t some = chunk_size(h, n - i);
        TRY(chunk_logprobs(h, rows + i, targets + i, some, lp, ent));
        if (critic) TRY(chunk_values(h, some, val));
        chunk.n = some;
        TRY(loss(ctx, i, &chunk));
        TRY(chunk_backward(h, some));
        i += some;
    }
    return 0;
}
