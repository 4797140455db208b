/* rig.c - see rig.h. Page i of sequence s is chosen by a fixed permutation, so that neighbouring
 * pages of a sequence never lie side by side in the pool: a kernel that forgets the page table
 * fails at once. */
#include "tests/golden/rig.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

#include <stdio.h>

void rig_open(struct rig *r, const struct rig_config *cfg) {
    *r = (struct rig){.page = cfg->page ? cfg->page : 4};
    char device[32];
    const char *bf16 = strstr(cfg->backend, " bf16");
    snprintf(device, sizeof device, "%.*s", (int)strcspn(cfg->backend, " "), cfg->backend);
    int rc = kern_open(&r->b, device, 2);
    if (rc == ERR_DEVICE) test_skip(err_text());
    CHECK_OK(rc);
    CHECK_OK(shape_read(&r->shape, cfg->dir));
    struct shape sums = r->shape; /* gradients are f32 */
    r->shape.bf16 = bf16 != NULL;
    CHECK_OK(params_open(&r->weights, r->b, &r->shape));
    CHECK_OK(params_load(r->weights, cfg->dir));
    int32_t context = r->shape.context < RIG_ROWS ? r->shape.context : RIG_ROWS;
    r->pages_max = (context + r->page - 1) / r->page;
    int32_t n_pages = RIG_SEQS * r->pages_max;
    r->pages = mem_array((size_t)n_pages, sizeof *r->pages);
    rng_permutation(rng_key(1, RNG_TEST), 0, (uint32_t *)r->pages, (uint32_t)n_pages);
    struct actor_config ac = {.backend = r->b,
                              .shape = r->shape,
                              .rows_max = RIG_ROWS,
                              .seqs_max = RIG_SEQS,
                              .context = context,
                              .pages = n_pages,
                              .page = r->page,
                              .head_rows = cfg->head_rows ? cfg->head_rows : 16,
                              .train = cfg->train,
                              .recompute = cfg->recompute < r->shape.layers ? cfg->recompute
                                                                            : r->shape.layers,
                              .offload_inputs = cfg->offload_inputs,
                              .pack = cfg->pack};
    CHECK_OK(actor_open(&r->actor, &ac));
    CHECK_OK(actor_use(r->actor, r->weights));
    if (cfg->train) CHECK_OK(params_open(&r->grads, r->b, &sums));
}

void rig_close(struct rig *r) {
    actor_close(&r->actor);
    params_close(&r->weights);
    params_close(&r->grads);
    kern_close(r->b);
    mem_free(r->pages);
}

void rig_start(struct rig *r) {
    r->n = r->n_seqs = 0;
}

void rig_add(struct rig *r, int32_t seq, const int32_t *ids, int32_t n) {
    int32_t s = r->n_seqs++;
    const int32_t *pages = r->pages + seq * r->pages_max;
    ASSERT(s < RIG_SEQS && r->n + n <= RIG_ROWS);
    r->seq[s] = seq;
    for (int32_t i = 0; i < n; i++, r->n++) {
        int32_t key = r->done[seq]++;
        r->ids[r->n] = ids[i];
        r->pos[r->n] = key;
        r->slot[r->n] = pages[key / r->page] * r->page + key % r->page;
    }
    r->q_start[s + 1] = r->n;
    r->kv_len[s] = r->done[seq];
}

struct actor_batch rig_batch(const struct rig *r) {
    static int32_t table[RIG_SEQS * RIG_ROWS];
    for (int32_t s = 0; s < r->n_seqs; s++)
        memcpy(table + s * r->pages_max, r->pages + r->seq[s] * r->pages_max,
               (size_t)r->pages_max * sizeof *table);
    return (struct actor_batch){.n_rows = r->n,
                                .n_seqs = r->n_seqs,
                                .pages_max = r->pages_max,
                                .ids = r->ids,
                                .pos = r->pos,
                                .slot = r->slot,
                                .q_start = r->q_start,
                                .kv_len = r->kv_len,
                                .pages = table};
}

void rig_forward(struct rig *r, float *logits) {
    struct actor_batch batch = rig_batch(r);
    int32_t rows[RIG_ROWS], step = actor_config(r->actor)->head_rows, v = r->shape.vocab;
    CHECK_OK(actor_forward(r->actor, &batch));
    for (int32_t i = 0; i < r->n; i++)
        rows[i] = i;
    for (int32_t i = 0; logits && i < r->n; i += step) {
        struct kern_tensor t;
        int32_t some = r->n - i < step ? r->n - i : step;
        CHECK_OK(actor_logits(r->actor, rows + i, some, &t));
        CHECK_OK(kern_get(r->b, actor_stream(r->actor), logits + (int64_t)i * v, t.data,
                          (size_t)some * (size_t)v * sizeof(float)));
    }
}

const char *rig_model(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "tests/golden/models/%s", name);
    return path;
}

struct safetensors *rig_golden(const char *name) {
    struct safetensors *f;
    char path[192];
    snprintf(path, sizeof path, "%s/golden.safetensors", rig_model(name));
    CHECK_OK(safetensors_open(&f, path));
    return f;
}

static const struct safetensors_tensor *find(const struct safetensors *f, const char *name) {
    const struct safetensors_tensor *t = safetensors_find(f, name);
    if (!t) test_fail(__FILE__, __LINE__, "%s lacks %s", safetensors_name(f), name);
    return t;
}

float *rig_f32(const struct safetensors *f, const char *name, int64_t *n) {
    const struct safetensors_tensor *t = find(f, name);
    float *x = mem_array((size_t)t->n, sizeof *x);
    CHECK_OK(safetensors_read_f32(f, t, 0, t->n, x));
    if (n) *n = t->n;
    return x;
}

int32_t *rig_i32(const struct safetensors *f, const char *name, int64_t *n) {
    const struct safetensors_tensor *t = find(f, name);
    int32_t *x = mem_array((size_t)t->n, sizeof *x);
    CHECK(t->dtype == SAFETENSORS_I32);
    memcpy(x, t->data, t->bytes);
    if (n) *n = t->n;
    return x;
}
