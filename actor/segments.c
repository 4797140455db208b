/* segments.c - the stack of prefix segments, see segments.h.
 *
 * A shared level of many sequences is computed once, and its backward pass is done once, after all
 * that read its keys: its activations have to outlive their passes. Segments and the newest batch
 * share one set of activation arrays: a segment keeps the rows it was computed in and the next
 * forward begins behind them (base), so that a segment costs no copy and the memory plan is one
 * number of rows. With offload_segments the rows are copied to the host and given back instead; the
 * backward pass of a segment brings them back to the rows that are free by then.
 *
 * Keys and values stay in the pool either way: that is what the passes in between read. */
#include "actor/segments.h"

#include "base/mem.h"

/* Of one row, all layers. */
static size_t kept_bytes(const struct actor_config *cfg) {
    void *p[LAYER_KEPT_MAX];
    size_t row[LAYER_KEPT_MAX], bytes = 0;
    for (int32_t l = 0; l < cfg->shape.layers; l++) {
        int n = actor_layers_kept(NULL, cfg, l, p, row);
        for (int i = 0; i < n; i++)
            bytes += row[i];
    }
    return bytes;
}

size_t segments_bytes(const struct actor_config *cfg) {
    return cfg->offload_segments ? (size_t)cfg->segment_keys * kept_bytes(cfg) : 0;
}

int segments_open(struct actor_segments *s, struct actor_pass *pass, struct actor_layers *layers) {
    void *host = NULL;
    size_t bytes = segments_bytes(pass->cfg);
    s->pass = pass;
    s->layers = layers;
    if (bytes > 0) TRY(err_wrap(kern_alloc_host(pass->b, &host, bytes), "segments"));
    s->host = host;
    return 0;
}

void segments_close(struct actor_segments *s) {
    if (s->pass) kern_release_host(s->pass->b, s->host);
    mem_free(s->at);
}

static void segments_check(const struct actor_segments *s) {
    int32_t key = 0;
    for (int32_t i = 0; i < s->n; i++) {
        ASSERT(s->at[i].key == key && s->at[i].rows > 0);
        key += s->at[i].rows;
    }
    ASSERT(s->pass->keys == key);
    actor_pass_check(s->pass);
}

/* The rows of the newest pass, to the host (save) or back; inputs that wait there are only moved
 * aside. */
static int move_segment(struct actor_segments *s, const struct segment *of, bool save) {
    const struct actor_pass *p = s->pass;
    char *host = s->host + (size_t)of->key * kept_bytes(p->cfg);
    for (int32_t l = 0; l < p->cfg->shape.layers; l++) {
        void *at[LAYER_KEPT_MAX];
        size_t row[LAYER_KEPT_MAX];
        int n = actor_layers_kept(s->layers, p->cfg, l, at, row);
        for (int i = 0; i < n; i++) {
            size_t bytes = (size_t)of->rows * row[i];
            bool waits = i == 0 && inputs_wait(p->cfg) && actor_recomputes(p->cfg, l);
            if (waits)
                TRY(inputs_exchange(s->layers->inputs, l, host, bytes, save));
            else if (save)
                TRY(kern_get(p->b, p->s, host, at[i], bytes));
            else
                TRY(kern_put(p->b, p->s, at[i], host, bytes));
            host += bytes;
        }
    }
    return 0;
}

/* Moves the end of the stack: the newest pass's rows and keys come behind it. */
static void set_end(struct actor_segments *s, int32_t key) {
    s->pass->keys = key;
    s->pass->base = s->pass->cfg->offload_segments ? 0 : key;
}

static int check_push(const struct actor_pass *p) {
    int32_t left = p->cfg->segment_keys - p->keys;
    if (!p->whole)
        return FAIL(ERR_CONFIG, "push: no training forward, or its activations are used up");
    if (p->n_seqs != 1 || p->slot0 != p->keys)
        return FAIL(ERR_CONFIG,
                    "push: a segment is one sequence in the slots from %d on, not %d in"
                    " those from %d on",
                    p->keys, p->n_seqs, p->slot0);
    if (p->n % p->cfg->page || p->n > left)
        return FAIL(ERR_CONFIG, "push: %d rows, allowed are multiples of %d up to %d", p->n,
                    p->cfg->page, left);
    return 0;
}

int segments_push(struct actor_segments *s) {
    struct actor_pass *p = s->pass;
    TRY(check_push(p));
    struct segment of = {.rows = p->n, .key = p->keys, .keys_only = p->keys_only};
    TRY(actor_layers_zero_segment(s->layers, of.key, of.rows));
    if (p->cfg->offload_segments) TRY(move_segment(s, &of, true));
    mem_grow(&s->at, &s->cap, (size_t)s->n + 1, sizeof *s->at);
    s->at[s->n++] = of;
    actor_pass_reset(p);
    set_end(s, of.key + of.rows);
    segments_check(s);
    return 0;
}

static int check_pop(const struct segment *of, const struct actor_batch *b, int64_t n) {
    if (b->n_rows != of->rows || b->n_seqs != 1 || b->slot[0] != of->key ||
        b->keys_only != of->keys_only)
        return FAIL(ERR_CONFIG,
                    "pop: another batch than the newest segment's, of %d rows from %d on", of->rows,
                    of->key);
    if (n > 0 && of->keys_only) return FAIL(ERR_CONFIG, "pop: a segment of keys only has no head");
    return 0;
}

int segments_pop(struct actor_segments *s, const struct actor_batch *b, int64_t n) {
    if (s->n == 0) return FAIL(ERR_CONFIG, "pop: there is no segment");
    const struct segment of = s->at[s->n - 1];
    TRY(check_pop(&of, b, n));
    s->n--;
    actor_pass_reset(s->pass);
    set_end(s, of.key);
    segments_check(s);
    TRY(actor_pass_load(s->pass, b));
    inputs_forget(s->layers->inputs);
    if (s->pass->cfg->offload_segments) TRY(move_segment(s, &of, false));
    if (!of.keys_only) TRY(actor_layers_last_norm(s->layers));
    s->pass->is_segment = true;
    return 0;
}

void segments_reset(struct actor_segments *s) {
    s->n = 0;
    actor_pass_reset(s->pass);
    set_end(s, 0);
}
