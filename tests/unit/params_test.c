/* params_test.c - the table, folders in and out (one file and shards, F32 and BF16), and what is
 * wrong with a folder said by name. */
#include "actor/params.h"

#include "actor/safetensors.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/golden/rig.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const models[] = {"llama-gqa",      "llama-llama3", "llama-yarn",
                                     "mistral-window", "qwen2-tied",   "qwen3-norm"};
enum { MODELS = sizeof models / sizeof models[0] };

static const struct kern_backend *ref(void) {
    const struct kern_backend *b;
    CHECK_OK(kern_open(&b, "ref", 1));
    return b;
}

static struct params *opened(const struct shape *s) {
    struct params *p;
    CHECK_OK(params_open(&p, ref(), s));
    return p;
}

static struct params *loaded(const char *dir) {
    struct shape s;
    CHECK_OK(shape_read(&s, dir));
    struct params *p = opened(&s);
    CHECK_OK(params_load(p, dir));
    return p;
}

static struct hash hash_of(const struct params *p) {
    struct hash h;
    CHECK_OK(params_hash(&h, p));
    return h;
}

static const struct shape small = {.family = SHAPE_QWEN3,
                                   .d = 8,
                                   .layers = 3,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .head_width = 6,
                                   .ffn = 10,
                                   .vocab = 11,
                                   .context = 32,
                                   .norm_eps = 1e-6f,
                                   .rope_theta = 10000,
                                   .rope_attn = 1,
                                   .bos = -1,
                                   .qk_norm = true};

TEST(params_table_covers_the_shape) {
    for (int m = 0; m < MODELS; m++) {
        struct params *p = loaded(rig_model(models[m]));
        int64_t n = 0, end = 0;
        for (size_t i = 0; i < params_count(p); i++) {
            const struct params_entry *e = params_entry(p, i);
            CHECK_INT(e->n, e->rows * e->cols);
            CHECK(e->offset >= end && e->offset % 16 == 0);
            CHECK(params_find(p, e->name) == e);
            CHECK_INT(params_view(p, e).rank, e->is_matrix ? 2 : 1);
            end = e->offset + e->n;
            n += e->n;
        }
        CHECK_INT(n, shape_params(params_shape(p)));
        CHECK(end <= params_slab_elements(params_shape(p)));
        CHECK_INT(params_slab(p).dim[0], params_slab_elements(params_shape(p)));
        CHECK(!params_find(p, "model.layers.2.mlp.up_proj.weight"));
        params_close(&p);
    }
}

/* Saved and loaded again: the same bits, whole or in shards. WEIR_EXPORT=DIR keeps the folders for
 * make_models.py check. */
TEST(params_round_trip) {
    const char *keep = getenv("WEIR_EXPORT");
    for (int m = 0; m < MODELS; m++) {
        struct params *a = loaded(rig_model(models[m]));
        char *dir = file_join(keep ? keep : test_dir(), models[m]);
        char *index = file_join(dir, "model.safetensors.index.json");
        char *single = file_join(dir, "model.safetensors");
        CHECK_OK(file_mkdirs(dir));
        CHECK_OK(shape_write(params_shape(a), dir, "float32"));
        size_t shard_bytes[] = {20000, 0, 1, m % 2 ? 20000 : 0};
        for (int i = 0; i < 4; i++) { /* an older form beside the new one must not win */
            CHECK_OK(params_save(a, dir, KERN_F32, shard_bytes[i]));
            CHECK_INT(file_exists(single), shard_bytes[i] == 0);
            CHECK_INT(file_exists(index), shard_bytes[i] != 0);
            struct params *b = loaded(dir);
            CHECK(hash_equal(hash_of(a), hash_of(b)));
            params_close(&b);
        }
        mem_free(dir);
        mem_free(index);
        mem_free(single);
        params_close(&a);
    }
}

/* A model stored as BF16 survives BF16 unchanged. */
TEST(params_round_trip_bf16) {
    struct params *a = loaded(rig_model("llama-llama3"));
    CHECK_OK(shape_write(params_shape(a), test_dir(), "bfloat16"));
    CHECK_OK(params_save(a, test_dir(), KERN_BF16, 0));
    struct params *b = loaded(test_dir());
    CHECK(hash_equal(hash_of(a), hash_of(b)));
    CHECK_ERR(params_save(a, test_dir(), KERN_I32, 0), ERR_CONFIG, "i32");
    params_close(&a);
    params_close(&b);
}

/* A value head is one entry behind the policy: hash, published bytes and model.safetensors are
 * those of the policy alone, and the head comes back from a file of its own. */
TEST(params_value_head_is_beside_the_policy) {
    struct shape shape = small;
    shape.value_head = true;
    struct params *plain = opened(&small), *a = opened(&shape);
    size_t n = (size_t)params_slab_elements(&small), all = (size_t)params_slab_elements(&shape);
    float *x = mem_array(all, sizeof *x), *y = mem_array(all, sizeof *y);
    CHECK_INT(params_policy_elements(&shape), n);
    CHECK(all > n && !shape_equal(&shape, &small));
    CHECK_OK(params_init(plain, 7));
    CHECK_OK(params_init(a, 7));
    CHECK(hash_equal(hash_of(plain), hash_of(a)));
    CHECK_OK(params_get(a, x, all * sizeof *x));
    const struct params_entry *e = params_find(a, "value_head.weight");
    CHECK_INT(e->offset, n);
    for (int64_t i = 0; i < e->n; i++) {
        CHECK(x[e->offset + i] == 0);
        x[e->offset + i] = (float)(i + 1);
    }
    CHECK_OK(params_put(a, x, all * sizeof *x));
    CHECK(hash_equal(hash_of(plain), hash_of(a)));
    CHECK_OK(params_get(a, y, n * sizeof *y));
    CHECK(memcmp(x, y, n * sizeof *x) == 0);
    CHECK_OK(shape_write(&shape, test_dir(), "float32"));
    for (size_t shard = 0; shard < 30000; shard += 20000) {
        CHECK_OK(params_save(a, test_dir(), KERN_F32, shard));
        CHECK_OK(params_load(plain, test_dir())); /* without the critic */
        struct params *b = opened(&shape);
        CHECK_OK(params_load(b, test_dir()));
        CHECK_OK(params_get(b, y, all * sizeof *y));
        CHECK(memcmp(x, y, all * sizeof *x) == 0);
        params_close(&b);
    }
    char *file = file_join(test_dir(), "value_head.safetensors");
    CHECK_OK(file_remove_tree(file));
    CHECK_OK(params_load(a, test_dir())); /* a fresh critic is zero */
    CHECK_OK(params_get(a, y, all * sizeof *y));
    CHECK(memcmp(x, y, n * sizeof *x) == 0 && y[e->offset] == 0);
    mem_free(file);
    mem_free(x);
    mem_free(y);
    params_close(&a);
    params_close(&plain);
}

TEST(params_init_is_a_function_of_the_seed) {
    struct params *a = opened(&small), *b = opened(&small);
    size_t n = (size_t)params_slab_elements(&small);
    float *x = mem_array(n, sizeof *x);
    CHECK_OK(params_init(a, 7));
    CHECK_OK(params_init(b, 7));
    CHECK(hash_equal(hash_of(a), hash_of(b)));
    CHECK_OK(params_init(b, 8));
    CHECK(!hash_equal(hash_of(a), hash_of(b)));
    CHECK_OK(params_get(a, x, n * sizeof *x));
    const struct params_entry *e = params_find(a, "model.layers.1.self_attn.k_norm.weight");
    for (int64_t i = 0; i < e->n; i++)
        CHECK(x[e->offset + i] == 1.0f);
    double sum = 0;
    e = params_find(a, "lm_head.weight");
    for (int64_t i = 0; i < e->n; i++)
        sum += (double)x[e->offset + i] * (double)x[e->offset + i];
    CHECK_NEAR(sqrt(sum / (double)e->n), 0.02, 0.006); /* 88 draws */
    CHECK_ERR(params_put(a, x, n), ERR_CONFIG, "bytes");
    CHECK_OK(params_zero(a));
    CHECK_OK(params_put(a, x, n * sizeof *x));
    CHECK_OK(params_init(b, 7));
    CHECK(hash_equal(hash_of(a), hash_of(b)));
    mem_free(x);
    params_close(&a);
    params_close(&b);
}

/* --- folders that are wrong ----------------------------------------------------------------- */

struct made { /* a model.safetensors of one value with one thing changed */
    const char *drop, *add, *reshape;
    bool other; /* what is added has other values */
};

struct fills {
    const struct made *m;
    const struct safetensors_item *items;
};

static int fill(void *ctx, size_t i, int64_t first, int64_t n, float *out) {
    const struct fills *f = ctx;
    bool other = f->m->other && strcmp(f->items[i].name, f->m->add) == 0;
    for (int64_t j = 0; j < n; j++) /* any value is allowed in weights */
        out[j] = other && first + j == 7 ? 0.5f : NAN;
    return 0;
}

static int load_made(const struct shape *s, const struct made *m) {
    struct params *p = opened(s);
    struct safetensors_item *items = mem_array(params_count(p) + 1, sizeof *items);
    char *path = file_join(test_dir(), "model.safetensors");
    size_t n = 0;
    for (size_t i = 0; i < params_count(p); i++) {
        const struct params_entry *e = params_entry(p, i);
        if (m->drop && strcmp(e->name, m->drop) == 0) continue;
        items[n] = (struct safetensors_item){e->name, e->is_matrix ? 2 : 1, {e->rows, e->cols}};
        if (!e->is_matrix) items[n].dim[0] = e->cols;
        if (m->reshape && strcmp(e->name, m->reshape) == 0) items[n].dim[0]++;
        n++;
    }
    if (m->add) items[n++] = (struct safetensors_item){m->add, 2, {s->vocab, s->d}};
    CHECK_OK(safetensors_write(path, items, n, false, fill, &(struct fills){m, items}));
    int rc = params_load(p, test_dir());
    CHECK_INT(params_check(s, test_dir()), rc); /* the same without the weights */
    params_close(&p);
    mem_free(path);
    mem_free(items);
    return rc;
}

TEST(params_missing_unknown_and_misshapen_tensors) {
    struct shape tied = small;
    tied.tied_head = true;
    CHECK_OK(load_made(&small, &(struct made){0}));
    CHECK_ERR(load_made(&small, &(struct made){.drop = "model.norm.weight"}), ERR_NOTFOUND,
              "tensor model.norm.weight is missing (1 of 36 are)");
    CHECK_ERR(load_made(&small, &(struct made){.drop = "lm_head.weight"}), ERR_NOTFOUND,
              "lm_head.weight");
    CHECK_ERR(load_made(&small, &(struct made){.add = "model.layers.9.x"}), ERR_MISMATCH,
              "tensor model.layers.9.x is not part of the network");
    CHECK_ERR(load_made(&small, &(struct made){.reshape = "model.embed_tokens.weight"}),
              ERR_MISMATCH,
              "tensor model.embed_tokens.weight has shape [12, 8], config.json needs [11, 8]");
    CHECK_ERR(load_made(&small, &(struct made){.reshape = "model.norm.weight"}), ERR_MISMATCH,
              "has shape [9], config.json needs [8]");
    CHECK_OK(load_made(&tied, &(struct made){.add = "lm_head.weight"}));
    CHECK_ERR(load_made(&tied, &(struct made){.add = "lm_head.weight", .other = true}),
              ERR_MISMATCH,
              "says tie_word_embeddings: true, but the lm_head.weight that is stored");
    CHECK_OK(load_made(&small, &(struct made){.add = "model.layers.0.rotary_emb.inv_freq"}));
}

static int copy_from(void *ctx, size_t i, int64_t first, int64_t n, float *out) {
    (void)i;
    memcpy(out, (const float *)ctx + first, (size_t)n * sizeof *out);
    return 0;
}

/* The head in a shard of its own, and of another type than the embedding. */
TEST(params_tied_head_in_another_shard) {
    struct shape tied = small;
    tied.tied_head = true;
    struct params *p = opened(&tied);
    struct safetensors_item head = {"lm_head.weight", 2, {tied.vocab, tied.d}};
    char *shard = file_join(test_dir(), "head.safetensors");
    char *index = file_join(test_dir(), "model.safetensors.index.json");
    CHECK_OK(params_init(p, 3));
    CHECK_OK(params_save(p, test_dir(), KERN_BF16, 1));
    CHECK_OK(params_load(p, test_dir())); /* as rounded */
    for (int twice = 0; twice < 2; twice++) {
        char *text;
        size_t n;
        CHECK_OK(file_read(&text, &n, index, 1 << 20));
        if (!twice) {
            int at = (int)(strstr(text, "\"model.") - text);
            char *more =
                mem_printf("%.*s\"lm_head.weight\": \"head.safetensors\", %s", at, text, text + at);
            CHECK_OK(file_write_atomic(index, more, strlen(more)));
            mem_free(more);
        }
        float *x = mem_array((size_t)params_slab_elements(&tied), sizeof *x);
        CHECK_OK(params_get(p, x, (size_t)params_slab_elements(&tied) * sizeof *x));
        if (twice) x[11] += 1;
        CHECK_OK(safetensors_write(shard, &head, 1, false, copy_from, x));
        if (twice)
            CHECK_ERR(params_load(p, test_dir()), ERR_MISMATCH,
                      "head.safetensors: config.json says");
        else
            CHECK_OK(params_load(p, test_dir()));
        mem_free(text);
        mem_free(x);
    }
    mem_free(shard);
    mem_free(index);
    params_close(&p);
}

static void write_text(const char *name, const char *text) {
    char *path = file_join(test_dir(), name);
    CHECK_OK(file_write_atomic(path, text, strlen(text)));
    mem_free(path);
}

TEST(params_bad_index) {
    static const char index[] = "model.safetensors.index.json";
    struct params *p = opened(&small);
    CHECK_ERR(params_load(p, test_dir()), ERR_NOTFOUND, "model.safetensors");
    write_text(index, "{\"weight_map\": {\"a\": \"../../secret.safetensors\"}}");
    CHECK_ERR(params_load(p, test_dir()), ERR_CORRUPT, "weight_map.a is \"../../secret");
    write_text(index, "{\"weight_map\": {\"a\": \"/etc/x.safetensors\"}}");
    CHECK_ERR(params_load(p, test_dir()), ERR_CORRUPT, "weight_map.a is \"/etc");
    write_text(index, "{\"weight_map\": {\"a\": 3}}");
    CHECK_ERR(params_load(p, test_dir()), ERR_CORRUPT, "weight_map.a");
    write_text(index, "{\"weight_map\": []}");
    CHECK_ERR(params_load(p, test_dir()), ERR_CORRUPT, "weight_map must be an object");
    write_text(index, "{}");
    CHECK_ERR(params_load(p, test_dir()), ERR_CORRUPT, "weight_map must be an object");
    write_text(index, "{\"weight_map\": {\"a\": \"model-1.safetensors\"}}");
    CHECK_ERR(params_load(p, test_dir()), ERR_NOTFOUND, "model-1.safetensors");
    params_close(&p);
}

/* A shard that is gone, one that is cut short, and one that repeats another's tensors. */
TEST(params_bad_shards) {
    struct params *p = opened(&small);
    CHECK_OK(params_save(p, test_dir(), KERN_F32, 3000));
    CHECK_OK(params_load(p, test_dir()));
    char *first = file_join(test_dir(), "model-00001-of-00004.safetensors"), *text;
    char *second = file_join(test_dir(), "model-00002-of-00004.safetensors");
    size_t n;
    CHECK_OK(file_read(&text, &n, first, 1 << 20));
    CHECK_OK(file_write_atomic(second, text, n));
    CHECK_ERR(params_load(p, test_dir()), ERR_CORRUPT, "already in another shard");
    CHECK_OK(file_write_atomic(second, text, n - 1));
    CHECK_ERR(params_load(p, test_dir()), ERR_CORRUPT, "model-00002-of-00004.safetensors: tensor");
    CHECK_OK(file_remove_tree(second));
    CHECK_ERR(params_load(p, test_dir()), ERR_NOTFOUND, "model-00002-of-00004.safetensors");
    mem_free(text);
    mem_free(first);
    mem_free(second);
    params_close(&p);
}
