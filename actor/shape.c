/* shape.c - see shape.h. A config.json is read the way transformers reads it: the same defaults for
 * absent fields, both spellings of the rope settings, null meaning "none". Whatever would change
 * the network in a way that the actor does not compute is refused here by name, because a model
 * that loads and computes something else is the worst outcome.
 *
 * The rope tables repeat transformers' arithmetic including where it rounds to single precision
 * (inverse frequencies and angles): at position 30000 a double-precision angle differs from the one
 * the model was trained with by 1e-3, which is visible in the log-probs. */
#include "actor/shape.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/filetype.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above any released model, and low enough that no product of two or three of them leaves
 * int64: what passes here can be multiplied without another check. */
enum {
    CONFIG_BYTES_MAX = 1 << 20,
    LAYERS_MAX = 1024,
    HEADS_MAX = 4096,
    WIDTH_MAX = 1 << 18,
    FFN_MAX = 1 << 21,
    VOCAB_MAX = 1 << 24,
    CONTEXT_MAX = 1 << 26
};

/* transformers' defaults for fields that a config.json leaves out. 0: derived, -1: none. */
static const struct family {
    const char *name, *architecture;
    int32_t kv_heads, head_width, bos, eos, window;
} families[] = {
    [SHAPE_LLAMA] = {"llama", "LlamaForCausalLM", 0, 0, 1, 2, 0},
    [SHAPE_MISTRAL] = {"mistral", "MistralForCausalLM", 8, 0, 1, 2, 4096},
    [SHAPE_QWEN2] = {"qwen2", "Qwen2ForCausalLM", 32, 0, -1, -1, 4096},
    [SHAPE_QWEN3] = {"qwen3", "Qwen3ForCausalLM", 32, 128, -1, -1, 4096},
};
enum { FAMILIES = sizeof families / sizeof families[0] };

static const char *const rope_names[] = {
    [SHAPE_ROPE_PLAIN] = "default",
    [SHAPE_ROPE_LINEAR] = "linear",
    [SHAPE_ROPE_LLAMA3] = "llama3",
    [SHAPE_ROPE_YARN] = "yarn",
};
enum { ROPES = sizeof rope_names / sizeof rope_names[0] };

struct source { /* what is being read, and its name for error texts */
    const struct json *root;
    const char *name;
};

const char *shape_family_name(enum shape_family f) {
    return families[f].name;
}

/* A field set to null means the same as an absent one, except where a default would apply: null
 * then says "none" (head_dim, sliding_window, the special tokens). */
static bool given(const struct json *v) {
    return v && json_type(v) != JSON_NULL;
}

/* A whole number in [min, max]; an absent field is an error that names it. */
static int need_int(int32_t *out, const struct source *in, const char *key, int64_t min,
                    int64_t max) {
    int64_t v;
    TRY(json_read_int(&v, in->root, key, min, max, in->name));
    *out = (int32_t)v;
    return 0;
}

/* Like need_int, but leaves *out alone when the field is absent or null. */
static int maybe_int(int32_t *out, const struct source *in, const char *key, int64_t min,
                     int64_t max) {
    return given(json_get(in->root, key)) ? need_int(out, in, key, min, max) : 0;
}

static int maybe_num(double *out, const struct source *in, const char *key, double min,
                     double max) {
    if (!given(json_get(in->root, key))) return 0;
    return json_read_num(out, in->root, key, min, max, in->name);
}

static int maybe_bool(bool *out, const struct source *in, const char *key) {
    if (!given(json_get(in->root, key))) return 0;
    return json_read_bool(out, in->root, key, in->name);
}

/* The family decides the defaults and which fields exist, so it is read first. */
static int read_family(struct shape *s, const struct source *in) {
    const char *type;
    TRY(json_read_str(&type, in->root, "model_type", in->name));
    for (int f = 0; f < FAMILIES; f++)
        if (strcmp(type, families[f].name) == 0) {
            s->family = (enum shape_family)f;
            return 0;
        }
    return FAIL(ERR_UNSUP,
                "%s: model_type is \"%.64s\", known are \"llama\", \"mistral\", \"qwen2\", "
                "\"qwen3\"",
                in->name, type);
}

/* A field that changes the network unless it is absent, null, false, 0 or empty. */
static int refuse_field(const struct source *in, const char *key) {
    const struct json *v = json_get(in->root, key);
    switch (json_type(v)) {
    case JSON_NULL: return 0;
    case JSON_BOOL:
        if (!json_bool(v, false)) return 0;
        return FAIL(ERR_UNSUP, "%s: %s is true, which is not supported", in->name, key);
    case JSON_NUMBER:
        if (json_num(v, 0) == 0) return 0;
        return FAIL(ERR_UNSUP, "%s: %s is %g, which is not supported", in->name, key,
                    json_num(v, 0));
    case JSON_STRING:
        return FAIL(ERR_UNSUP, "%s: %s is \"%.64s\", which is not supported", in->name, key,
                    json_str(v));
    default:
        if (json_len(v) == 0) return 0;
        return FAIL(ERR_UNSUP, "%s: %s is %s, which is not supported", in->name, key,
                    json_type_name(json_type(v)));
    }
}

/* Fields that transformers honours in some model of these types and that change the result. A class
 * other than the causal language model has another head (a reward model's score) or none. */
static int refuse_unsupported(const struct source *in, const struct shape *s) {
    static const char *const keys[] = {
        "quantization_config",     "num_local_experts",     "num_experts",
        "n_routed_experts",        "num_experts_per_tok",   "attn_logit_softcapping",
        "final_logit_softcapping", "query_pre_attn_scalar", "no_rope_layers",
        "embedding_multiplier",    "residual_multiplier",   "attention_multiplier",
        "logits_scaling",          "rope_interleaved",      "is_encoder_decoder",
        "add_cross_attention"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        TRY(refuse_field(in, keys[i]));
    const char *act = "silu";
    if (given(json_get(in->root, "hidden_act")))
        TRY(json_read_str(&act, in->root, "hidden_act", in->name));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return FAIL(ERR_UNSUP, "%s: hidden_act is \"%.64s\", supported is \"silu\"", in->name, act);
    const struct json *archs = json_get(in->root, "architectures");
    const char *arch = json_str(json_first(archs));
    if (arch && strcmp(arch, families[s->family].architecture) != 0)
        return FAIL(ERR_UNSUP, "%s: architectures is \"%.64s\", supported is \"%s\"", in->name,
                    arch, families[s->family].architecture);
    return 0;
}

/* Head counts and width. Qwen3 has a fixed head width that need not be d / heads, so the attention
 * may be wider or narrower than the residual stream. */
static int read_heads(struct shape *s, const struct source *in) {
    const struct family *f = &families[s->family];
    const struct json *kv = json_get(in->root, "num_key_value_heads");
    TRY(need_int(&s->heads, in, "num_attention_heads", 1, HEADS_MAX));
    s->kv_heads = kv || f->kv_heads == 0 ? s->heads : f->kv_heads;
    TRY(maybe_int(&s->kv_heads, in, "num_key_value_heads", 1, HEADS_MAX));
    if (s->heads % s->kv_heads != 0)
        return FAIL(ERR_CORRUPT,
                    "%s: num_attention_heads is %d, not a multiple of num_key_value_heads %d",
                    in->name, s->heads, s->kv_heads);
    s->head_width = json_get(in->root, "head_dim") ? 0 : f->head_width;
    TRY(maybe_int(&s->head_width, in, "head_dim", 2, 2 * SHAPE_ROPE_FREQS_MAX));
    if (s->head_width == 0) {
        if (s->d % s->heads != 0)
            return FAIL(ERR_CORRUPT,
                        "%s: hidden_size is %d, not a multiple of num_attention_heads %d", in->name,
                        s->d, s->heads);
        s->head_width = s->d / s->heads;
    }
    if (s->head_width % 2 != 0 || s->head_width > 2 * SHAPE_ROPE_FREQS_MAX)
        return FAIL(ERR_UNSUP, "%s: head_dim is %d, supported are even numbers up to %d", in->name,
                    s->head_width, 2 * SHAPE_ROPE_FREQS_MAX);
    if ((int64_t)s->heads * s->head_width > WIDTH_MAX)
        return FAIL(ERR_CORRUPT, "%s: num_attention_heads * head_dim is %d * %d, more than %d",
                    in->name, s->heads, s->head_width, WIDTH_MAX);
    return 0;
}

/* Widths, depth and the optional parts. Llama's attention_bias puts a bias on all four projections,
 * Qwen2 always has one on q, k and v and never on o. */
static int read_sizes(struct shape *s, const struct source *in) {
    double eps = 1e-6;
    TRY(need_int(&s->d, in, "hidden_size", 1, WIDTH_MAX));
    TRY(need_int(&s->layers, in, "num_hidden_layers", 1, LAYERS_MAX));
    TRY(need_int(&s->ffn, in, "intermediate_size", 1, FFN_MAX));
    TRY(need_int(&s->vocab, in, "vocab_size", 1, VOCAB_MAX));
    TRY(need_int(&s->context, in, "max_position_embeddings", 1, CONTEXT_MAX));
    TRY(read_heads(s, in));
    TRY(maybe_num(&eps, in, "rms_norm_eps", 0, 1));
    s->norm_eps = (float)eps;
    TRY(maybe_bool(&s->tied_head, in, "tie_word_embeddings"));
    bool bias = false;
    if (s->family == SHAPE_LLAMA || s->family == SHAPE_QWEN3)
        TRY(maybe_bool(&bias, in, "attention_bias"));
    s->qkv_bias = bias || s->family == SHAPE_QWEN2;
    s->out_bias = bias;
    if (s->family == SHAPE_LLAMA) TRY(maybe_bool(&s->mlp_bias, in, "mlp_bias"));
    s->qk_norm = s->family == SHAPE_QWEN3;
    return 0;
}

/* layer_types must say "full" for the first layers and "sliding" for the rest; *first is where the
 * rest begins. */
static int read_layer_types(int32_t *first, const struct shape *s, const struct source *in) {
    const struct json *types = json_get(in->root, "layer_types");
    int32_t i = 0, n_full = 0;
    if (json_type(types) != JSON_ARRAY || json_len(types) != (size_t)s->layers)
        return FAIL(ERR_CORRUPT, "%s: layer_types must be an array of num_hidden_layers (%d) names",
                    in->name, s->layers);
    for (const struct json *t = json_first(types); t; t = json_next(t), i++) {
        const char *name = json_str(t);
        bool full = name && strcmp(name, "full_attention") == 0;
        if (!full && (!name || strcmp(name, "sliding_attention") != 0))
            return FAIL(ERR_UNSUP,
                        "%s: layer_types[%d] is \"%.64s\", supported are \"full_attention\", "
                        "\"sliding_attention\"",
                        in->name, i, name ? name : "?");
        if (full && n_full < i)
            return FAIL(ERR_UNSUP,
                        "%s: layer_types[%d] is \"full_attention\" after a sliding layer, which is "
                        "not supported",
                        in->name, i);
        n_full += full;
    }
    *first = n_full;
    return 0;
}

/* Mistral slides in every layer if sliding_window is set; Qwen only if use_sliding_window says so,
 * from layer max_window_layers on. Llama never does. */
static int read_window(struct shape *s, const struct source *in) {
    bool types = given(json_get(in->root, "layer_types")), use = s->family == SHAPE_MISTRAL;
    bool qwen = s->family == SHAPE_QWEN2 || s->family == SHAPE_QWEN3;
    int32_t first = qwen ? 28 : 0, window = 0;
    if (qwen) {
        TRY(maybe_bool(&use, in, "use_sliding_window"));
        TRY(maybe_int(&first, in, "max_window_layers", 0, INT32_MAX));
    }
    if (use) {
        if (!json_get(in->root, "sliding_window")) window = families[s->family].window;
        TRY(maybe_int(&window, in, "sliding_window", 1, INT32_MAX));
    }
    if (types) TRY(read_layer_types(&first, s, in));
    if (types && first < s->layers && window == 0)
        return FAIL(ERR_UNSUP,
                    "%s: layer_types[%d] is \"sliding_attention\" but no sliding_window is in use",
                    in->name, first);
    if (window > 0 && first < s->layers) {
        s->window = window;
        s->window_layer = first;
    }
    return 0;
}

/* --- rope ----------------------------------------------------------------------------------- */

/* The paper's correction of the softmax temperature, expressed as a factor on queries and keys. */
static double yarn_mscale(double factor, double mscale) {
    return factor <= 1 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* Zero or absent betas mean the defaults 32 and 1, as in transformers (`or 32`). The attention
 * factor is resolved here, so that a written config carries the number itself. */
static int read_yarn(struct shape *s, const struct source *rope) {
    double attn = -1, mscale = 0, mscale_all = 0;
    TRY(maybe_num(&attn, rope, "attention_factor", 0, 1e6));
    TRY(maybe_num(&mscale, rope, "mscale", 0, 1e6));
    TRY(maybe_num(&mscale_all, rope, "mscale_all_dim", 0, 1e6));
    TRY(maybe_num(&s->rope_beta_fast, rope, "beta_fast", 0, 1e6));
    TRY(maybe_num(&s->rope_beta_slow, rope, "beta_slow", 0, 1e6));
    if (s->rope_beta_fast == 0) s->rope_beta_fast = 32;
    if (s->rope_beta_slow == 0) s->rope_beta_slow = 1;
    s->rope_truncate = true;
    TRY(maybe_bool(&s->rope_truncate, rope, "truncate"));
    if (s->rope_factor == 0) s->rope_factor = (double)s->context / s->rope_context;
    if (attn >= 0)
        s->rope_attn = attn;
    else if (mscale != 0 && mscale_all != 0)
        s->rope_attn =
            yarn_mscale(s->rope_factor, mscale) / yarn_mscale(s->rope_factor, mscale_all);
    else
        s->rope_attn = yarn_mscale(s->rope_factor, 1);
    return 0;
}

/* Equal bounds would divide by zero in the blend between them. */
static int read_llama3(struct shape *s, const struct source *rope) {
    TRY(json_read_num(&s->rope_low, rope->root, "low_freq_factor", 1e-6, 1e6, rope->name));
    TRY(json_read_num(&s->rope_high, rope->root, "high_freq_factor", 1e-6, 1e6, rope->name));
    if (s->rope_high <= s->rope_low)
        return FAIL(ERR_CORRUPT, "%s: high_freq_factor is %g, must be above low_freq_factor %g",
                    rope->name, s->rope_high, s->rope_low);
    return 0;
}

/* Newer files say rope_type, older ones type; rope_type wins if both are there. */
static int read_rope_type(struct shape *s, const struct source *rope) {
    const char *type = "default";
    const char *key = given(json_get(rope->root, "rope_type")) ? "rope_type" : "type";
    if (given(json_get(rope->root, key))) TRY(json_read_str(&type, rope->root, key, rope->name));
    for (int r = 0; r < ROPES; r++)
        if (strcmp(type, rope_names[r]) == 0) {
            s->rope = (enum shape_rope)r;
            return 0;
        }
    return FAIL(ERR_UNSUP,
                "%s: %s is \"%.64s\", known are \"default\", \"linear\", \"llama3\", \"yarn\"",
                rope->name, key, type);
}

static int refuse_partial(const struct source *in) {
    double partial = 1;
    TRY(maybe_num(&partial, in, "partial_rotary_factor", -1e9, 1e9));
    if (partial != 1)
        return FAIL(ERR_UNSUP, "%s: partial_rotary_factor is %g, supported is 1", in->name,
                    partial);
    return 0;
}

/* rope is the object of rope_scaling or rope_parameters, or an absent one. */
static int read_rope_object(struct shape *s, const struct source *in, const struct source *rope) {
    s->rope_theta = 10000;
    TRY(maybe_num(&s->rope_theta, in, "rope_theta", 1.001, 1e15));
    TRY(maybe_num(&s->rope_theta, rope, "rope_theta", 1.001, 1e15));
    TRY(refuse_partial(in));
    TRY(refuse_partial(rope));
    TRY(read_rope_type(s, rope));
    s->rope_attn = 1;
    if (s->rope == SHAPE_ROPE_PLAIN) return 0;
    s->rope_context = s->context;
    TRY(maybe_int(&s->rope_context, rope, "original_max_position_embeddings", 1, CONTEXT_MAX));
    TRY(maybe_int(&s->rope_context, in, "original_max_position_embeddings", 1, CONTEXT_MAX));
    if (s->rope == SHAPE_ROPE_YARN && !given(json_get(rope->root, "factor")))
        return read_yarn(s, rope);
    TRY(json_read_num(&s->rope_factor, rope->root, "factor", 1e-3, 1e6, rope->name));
    if (s->rope == SHAPE_ROPE_YARN) return read_yarn(s, rope);
    return s->rope == SHAPE_ROPE_LLAMA3 ? read_llama3(s, rope) : 0;
}

/* transformers 4 wrote rope_theta and rope_scaling, transformers 5 writes rope_parameters with both
 * inside. A non-empty rope_scaling wins, as it does there. */
static int read_rope(struct shape *s, const struct source *in) {
    const char *key = "rope_scaling";
    if (json_len(json_get(in->root, key)) == 0) key = "rope_parameters";
    const struct json *object = json_get(in->root, key);
    if (given(object) && json_type(object) != JSON_OBJECT)
        return FAIL(ERR_CORRUPT, "%s: %s must be an object, it is %s", in->name, key,
                    json_type_name(json_type(object)));
    if (given(json_get(object, "full_attention")) || given(json_get(object, "sliding_attention")))
        return FAIL(ERR_UNSUP, "%s: %s per layer type is not supported", in->name, key);
    char *name = mem_printf("%s: %s", in->name, key);
    int rc = read_rope_object(s, in, &(struct source){object, name});
    mem_free(name);
    return rc;
}

/* --- special tokens ------------------------------------------------------------------------- */

static int read_one_eos(struct shape *s, const struct json *v, const char *name) {
    int64_t id;
    if (!json_int(v, &id) || id < 0 || id >= s->vocab)
        return FAIL(ERR_CORRUPT, "%s: eos_token_id is %g, allowed are whole numbers 0..%d", name,
                    json_num(v, NAN), s->vocab - 1);
    if (s->n_eos == SHAPE_EOS_MAX)
        return FAIL(ERR_CORRUPT, "%s: eos_token_id has more than %d ids", name, SHAPE_EOS_MAX);
    s->eos[s->n_eos++] = (int32_t)id;
    return 0;
}

/* Replaces what was there: generation_config.json is read last and its list is the longer one. */
static int read_eos(struct shape *s, const struct source *in) {
    const struct json *v = json_get(in->root, "eos_token_id");
    if (!given(v)) return 0;
    s->n_eos = 0;
    if (json_type(v) != JSON_ARRAY) return read_one_eos(s, v, in->name);
    for (const struct json *e = json_first(v); e; e = json_next(e))
        TRY(read_one_eos(s, e, in->name));
    return 0;
}

/* An id outside the vocabulary would be a stop token that never comes: an error, not a warning. */
static int read_tokens(struct shape *s, const struct source *in) {
    const struct family *f = &families[s->family];
    s->bos = -1;
    if (!json_get(in->root, "bos_token_id") && f->bos < s->vocab) s->bos = f->bos;
    TRY(maybe_int(&s->bos, in, "bos_token_id", 0, s->vocab - 1));
    if (!json_get(in->root, "eos_token_id") && f->eos >= 0 && f->eos < s->vocab)
        s->eos[s->n_eos++] = f->eos;
    return read_eos(s, in);
}

static int check_object(const struct source *in) {
    if (json_type(in->root) == JSON_OBJECT) return 0;
    return FAIL(ERR_CORRUPT, "%s: must be an object, it is %s", in->name,
                json_type_name(json_type(in->root)));
}

static int parse_config(struct shape *s, const char *text, size_t n, const char *name) {
    struct json_doc *doc = NULL;
    int rc;
    TRY_OUT(json_parse(&doc, text, n, name));
    struct source in = {json_root(doc), name};
    TRY_OUT(check_object(&in));
    TRY_OUT(read_family(s, &in));
    TRY_OUT(refuse_unsupported(&in, s));
    TRY_OUT(read_sizes(s, &in));
    TRY_OUT(read_window(s, &in));
    TRY_OUT(read_rope(s, &in));
    TRY_OUT(read_tokens(s, &in));
out:
    json_close(&doc);
    return rc;
}

static int parse_generation(struct shape *s, const char *text, size_t n, const char *name) {
    struct json_doc *doc = NULL;
    int rc;
    TRY_OUT(json_parse(&doc, text, n, name));
    struct source in = {json_root(doc), name};
    TRY_OUT(check_object(&in));
    if (s->bos < 0) TRY_OUT(maybe_int(&s->bos, &in, "bos_token_id", 0, s->vocab - 1));
    TRY_OUT(read_eos(s, &in));
out:
    json_close(&doc);
    return rc;
}

static int parse_both(struct shape *out, const char *config, size_t n, const char *name,
                      const char *generation, size_t n_generation, const char *generation_name) {
    struct shape s = {0};
    TRY(parse_config(&s, config, n, name));
    if (generation) TRY(parse_generation(&s, generation, n_generation, generation_name));
    *out = s;
    return 0;
}

int shape_parse(struct shape *out, const char *config, size_t n, const char *name,
                const char *generation, size_t n_generation) {
    return parse_both(out, config, n, name, generation, n_generation, "generation_config.json");
}

/* What a folder without config.json may be, by a file in it. */
static int explain_folder(int rc, const char *dir) {
    static const struct {
        const char *file, *what;
    } known[] = {
        {"adapter_config.json", "a LoRA adapter: merge it into its base model first (peft: "
                                "merge_and_unload, then save_pretrained)"},
        {"params.json", "a model in its maker's own format: take the Hugging Face one"},
        {"model_index.json", "a pipeline: give the folder of its language model"},
        {"recipe.yaml", "a run of Weir: its model is in the folder hf inside"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char *path = file_join(dir, known[i].file);
        bool there = file_exists(path);
        mem_free(path);
        if (there)
            return FAIL(rc, "%s has no config.json; by its %s it is %s", dir, known[i].file,
                        known[i].what);
    }
    return rc;
}

int shape_read(struct shape *out, const char *dir) {
    char *config = file_join(dir, "config.json"), *text = NULL;
    char *generation = file_join(dir, "generation_config.json"), *text2 = NULL;
    size_t n = 0, n2 = 0;
    int rc;
    rc = file_read(&text, &n, config, CONFIG_BYTES_MAX);
    if (rc < 0) rc = explain_folder(filetype_explain_path(rc, dir, true), dir);
    TRY_OUT(rc);
    if (file_exists(generation)) TRY_OUT(file_read(&text2, &n2, generation, CONFIG_BYTES_MAX));
    TRY_OUT(parse_both(out, text, n, config, text2, n2, generation));
out:
    mem_free(config);
    mem_free(generation);
    mem_free(text);
    mem_free(text2);
    return rc;
}

/* --- writing -------------------------------------------------------------------------------- */

/* The shortest decimal that reads back as the same float: 1e-05 rather than 9.99999975e-06. */
static void write_float(struct json_write *w, const char *key, float x) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    json_write_raw(w, key, text, strlen(text));
}

/* transformers wants some fields to be floats, so a whole number gets its ".0". */
static void write_double(struct json_write *w, const char *key, double x) {
    json_write_num(w, key, x);
    const char *number = strrchr(w->out->data, ' ');
    if (!strpbrk(number, ".en")) buf_str(w->out, ".0");
}

static void write_tokens(struct json_write *w, const struct shape *s) {
    if (s->bos >= 0)
        json_write_int(w, "bos_token_id", s->bos);
    else
        json_write_null(w, "bos_token_id");
    if (s->n_eos == 0)
        json_write_null(w, "eos_token_id");
    else if (s->n_eos == 1)
        json_write_int(w, "eos_token_id", s->eos[0]);
    else
        json_write_ids(w, "eos_token_id", s->eos, (size_t)s->n_eos);
}

/* The older spelling: transformers 4 and 5, vLLM and llama.cpp all read it. */
static void write_rope(struct json_write *w, const struct shape *s) {
    write_double(w, "rope_theta", s->rope_theta);
    if (s->rope == SHAPE_ROPE_PLAIN) {
        json_write_null(w, "rope_scaling");
        return;
    }
    json_write_object(w, "rope_scaling");
    json_write_str(w, "rope_type", rope_names[s->rope]);
    write_double(w, "factor", s->rope_factor);
    if (s->rope != SHAPE_ROPE_LINEAR)
        json_write_int(w, "original_max_position_embeddings", s->rope_context);
    if (s->rope == SHAPE_ROPE_LLAMA3) {
        write_double(w, "low_freq_factor", s->rope_low);
        write_double(w, "high_freq_factor", s->rope_high);
    } else if (s->rope == SHAPE_ROPE_YARN) {
        write_double(w, "attention_factor", s->rope_attn);
        write_double(w, "beta_fast", s->rope_beta_fast);
        write_double(w, "beta_slow", s->rope_beta_slow);
        json_write_bool(w, "truncate", s->rope_truncate);
    }
    json_write_end(w);
}

/* The fields that only some families have. */
static void write_family(struct json_write *w, const struct shape *s) {
    if (s->family == SHAPE_LLAMA || s->family == SHAPE_QWEN3)
        json_write_bool(w, "attention_bias", s->out_bias);
    if (s->family == SHAPE_LLAMA) json_write_bool(w, "mlp_bias", s->mlp_bias);
    if (s->family == SHAPE_QWEN2 || s->family == SHAPE_QWEN3) {
        json_write_bool(w, "use_sliding_window", s->window);
        json_write_int(w, "max_window_layers", s->window ? s->window_layer : s->layers);
    }
    if (s->family == SHAPE_LLAMA) return;
    if (s->window)
        json_write_int(w, "sliding_window", s->window);
    else
        json_write_null(w, "sliding_window");
}

static void write_config(struct buf *out, const struct shape *s, const char *dtype) {
    const struct family *f = &families[s->family];
    struct json_write w = json_write_to(out, JSON_PRETTY);
    json_write_object(&w, NULL);
    json_write_array(&w, "architectures");
    json_write_str(&w, NULL, f->architecture);
    json_write_end(&w);
    json_write_str(&w, "model_type", f->name);
    json_write_int(&w, "hidden_size", s->d);
    json_write_int(&w, "intermediate_size", s->ffn);
    json_write_int(&w, "num_hidden_layers", s->layers);
    json_write_int(&w, "num_attention_heads", s->heads);
    json_write_int(&w, "num_key_value_heads", s->kv_heads);
    json_write_int(&w, "head_dim", s->head_width);
    json_write_int(&w, "vocab_size", s->vocab);
    json_write_int(&w, "max_position_embeddings", s->context);
    json_write_str(&w, "hidden_act", "silu");
    write_float(&w, "rms_norm_eps", s->norm_eps);
    json_write_bool(&w, "tie_word_embeddings", s->tied_head);
    write_rope(&w, s);
    write_family(&w, s);
    write_tokens(&w, s);
    json_write_str(&w, "torch_dtype", dtype);
    json_write_end(&w);
    json_write_newline(&w);
}

int shape_write(const struct shape *s, const char *dir, const char *dtype) {
    bool attention_bias = s->family == SHAPE_LLAMA || s->family == SHAPE_QWEN3;
    if (s->qkv_bias != (s->family == SHAPE_QWEN2 || s->out_bias) ||
        (s->out_bias && !attention_bias) || (s->mlp_bias && s->family != SHAPE_LLAMA) ||
        s->qk_norm != (s->family == SHAPE_QWEN3) || (s->window && s->family == SHAPE_LLAMA) ||
        (s->window_layer && s->family == SHAPE_MISTRAL))
        return FAIL(ERR_UNSUP,
                    "%s: model_type \"%s\" cannot express this shape's biases, norms or "
                    "window",
                    dir, families[s->family].name);
    struct buf b = {0};
    char *config = file_join(dir, "config.json");
    char *generation = file_join(dir, "generation_config.json");
    int rc;
    write_config(&b, s, dtype);
    TRY_OUT(file_write_atomic(config, b.data, b.len));
    buf_reset(&b);
    struct json_write w = json_write_to(&b, JSON_PRETTY);
    json_write_object(&w, NULL);
    write_tokens(&w, s);
    json_write_end(&w);
    json_write_newline(&w);
    TRY_OUT(file_write_atomic(generation, b.data, b.len));
out:
    mem_free(config);
    mem_free(generation);
    buf_close(&b);
    return rc;
}

/* --- what follows from a shape -------------------------------------------------------------- */

/* Llama 3.1: low frequencies are divided by the factor, high ones stay, between them a blend. */
static float llama3_freq(const struct shape *s, float freq) {
    const double two_pi = 6.283185307179586;
    float wave = (float)two_pi / freq, low = (float)(s->rope_context / s->rope_low);
    float high = (float)(s->rope_context / s->rope_high);
    if (wave > low) return freq / (float)s->rope_factor;
    if (wave < high) return freq;
    float smooth =
        ((float)s->rope_context / wave - (float)s->rope_low) / (float)(s->rope_high - s->rope_low);
    return (1 - smooth) * freq / (float)s->rope_factor + smooth * freq;
}

/* The (fractional) dimension whose wave turns n times within the original context. */
static double yarn_dim(const struct shape *s, double turns) {
    const double two_pi = 6.283185307179586;
    return s->head_width * log(s->rope_context / (turns * two_pi)) / (2 * log(s->rope_theta));
}

/* YaRN (Peng et al. 2023): dimensions that turn often keep their frequency, those that turn less
 * than once are interpolated, between them a linear ramp. */
static float yarn_freq(const struct shape *s, int32_t j, float period) {
    double low = yarn_dim(s, s->rope_beta_fast), high = yarn_dim(s, s->rope_beta_slow);
    if (s->rope_truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, s->head_width - 1);
    if (low == high) high += 0.001;
    float ramp = ((float)j - (float)low) / (float)(high - low);
    float keep = 1 - fminf(fmaxf(ramp, 0), 1);
    return 1.0f / ((float)s->rope_factor * period) * (1 - keep) + 1.0f / period * keep;
}

void shape_rope_tables(const struct shape *s, int32_t n_pos, float *cos_out, float *sin_out) {
    int32_t half = s->head_width / 2;
    for (int32_t j = 0; j < half; j++) {
        float exponent = (float)(2 * j) / (float)s->head_width;
        float period = (float)pow(s->rope_theta, (double)exponent), freq = 1.0f / period;
        if (s->rope == SHAPE_ROPE_LINEAR) freq /= (float)s->rope_factor;
        if (s->rope == SHAPE_ROPE_LLAMA3) freq = llama3_freq(s, freq);
        if (s->rope == SHAPE_ROPE_YARN) freq = yarn_freq(s, j, period);
        for (int32_t p = 0; p < n_pos; p++) {
            float angle = (float)p * freq;
            cos_out[(int64_t)p * half + j] = (float)(cos((double)angle) * s->rope_attn);
            sin_out[(int64_t)p * half + j] = (float)(sin((double)angle) * s->rope_attn);
        }
    }
}

int64_t shape_params(const struct shape *s) {
    int64_t d = s->d, q = (int64_t)s->heads * s->head_width;
    int64_t kv = (int64_t)s->kv_heads * s->head_width, f = s->ffn;
    int64_t layer = d * q + 2 * d * kv + q * d + 3 * d * f + 2 * d;
    if (s->qkv_bias) layer += q + 2 * kv;
    if (s->out_bias) layer += d;
    if (s->mlp_bias) layer += 2 * f + d;
    if (s->qk_norm) layer += 2 * s->head_width;
    return (s->tied_head ? 1 : 2) * d * s->vocab + s->layers * layer + d;
}

int32_t shape_window(const struct shape *s, int32_t layer) {
    return layer >= s->window_layer ? s->window : 0;
}

bool shape_equal(const struct shape *a, const struct shape *b) {
    return a->d == b->d && a->layers == b->layers && a->heads == b->heads &&
           a->kv_heads == b->kv_heads && a->head_width == b->head_width && a->ffn == b->ffn &&
           a->vocab == b->vocab && a->qkv_bias == b->qkv_bias && a->out_bias == b->out_bias &&
           a->mlp_bias == b->mlp_bias && a->qk_norm == b->qk_norm && a->tied_head == b->tied_head &&
           a->value_head == b->value_head;
}
