/* shape_test.c - config.json: every family and spelling, refusals by name, the rope tables against
 * transformers (tests/golden/make_models.py), and writing. */
#include "actor/shape.h"

#include "actor/safetensors.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <stdio.h>

#define SIZES                                                                                      \
    "\"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 4, "                   \
    "\"num_attention_heads\": 8, \"vocab_size\": 100, \"max_position_embeddings\": 256"
#define CONFIG(type, more) "{\"model_type\": \"" type "\", " SIZES more "}"

static int parse(struct shape *s, const char *config) {
    return shape_parse(s, config, strlen(config), "config.json", NULL, 0);
}

static struct shape parsed(const char *config) {
    struct shape s;
    CHECK_OK(parse(&s, config));
    return s;
}

/* Parsing fails with this code and both parts in the text. */
static void refuse(const char *config, int code, const char *field, const char *value) {
    struct shape s = {.d = 7};
    CHECK_ERR(parse(&s, config), code, field);
    CHECK_ERR(parse(&s, config), code, value);
    CHECK_ERR(parse(&s, config), code, "config.json");
    CHECK_INT(s.d, 7); /* untouched */
}

TEST(shape_defaults_are_those_of_transformers) {
    struct shape s = parsed(CONFIG("llama", ""));
    CHECK_INT(s.kv_heads, 8);
    CHECK_INT(s.head_width, 8);
    CHECK(!s.tied_head && !s.qkv_bias && !s.out_bias && !s.mlp_bias && !s.qk_norm && !s.window);
    CHECK_NEAR(s.norm_eps, 1e-6, 1e-13);
    CHECK_NEAR(s.rope_theta, 10000, 0);
    CHECK_INT(s.bos, 1);
    CHECK_INT(s.n_eos, 1);
    CHECK_INT(s.eos[0], 2);
    s = parsed(CONFIG("qwen2", ", \"num_key_value_heads\": 2"));
    CHECK(s.qkv_bias && !s.out_bias && !s.window);
    CHECK_INT(s.bos, -1);
    CHECK_INT(s.n_eos, 0);
    s = parsed(CONFIG("qwen3", ", \"num_key_value_heads\": 2"));
    CHECK(s.qk_norm && !s.qkv_bias);
    CHECK_INT(s.head_width, 128);
    s = parsed(CONFIG("qwen3", ", \"num_key_value_heads\": null, \"head_dim\": null"));
    CHECK_INT(s.kv_heads, 8);
    CHECK_INT(s.head_width, 8);
    s = parsed(CONFIG("mistral", ""));
    CHECK_INT(s.window, 4096);
    s = parsed(CONFIG("mistral", ", \"sliding_window\": null"));
    CHECK_INT(s.window, 0);
    s = parsed(CONFIG("llama", ", \"attention_bias\": true, \"mlp_bias\": true"));
    CHECK(s.qkv_bias && s.out_bias && s.mlp_bias);
}

TEST(shape_sliding_window_of_qwen) {
    struct shape s = parsed(CONFIG("qwen2", ", \"num_key_value_heads\": 2, \"sliding_window\": 32, "
                                            "\"use_sliding_window\": false"));
    CHECK_INT(shape_window(&s, 3), 0);
    s = parsed(CONFIG("qwen2", ", \"num_key_value_heads\": 2, \"sliding_window\": 32, "
                               "\"use_sliding_window\": true, \"max_window_layers\": 3"));
    CHECK_INT(shape_window(&s, 2), 0);
    CHECK_INT(shape_window(&s, 3), 32);
    s = parsed(CONFIG("qwen3", ", \"num_key_value_heads\": 2, \"sliding_window\": 32, "
                               "\"use_sliding_window\": true, \"layer_types\": [\"full_attention\","
                               "\"sliding_attention\", \"sliding_attention\", "
                               "\"sliding_attention\"]"));
    CHECK_INT(shape_window(&s, 0), 0);
    CHECK_INT(shape_window(&s, 1), 32);
    refuse(CONFIG("qwen3", ", \"num_key_value_heads\": 2, \"sliding_window\": 32, "
                           "\"use_sliding_window\": true, \"layer_types\": [\"sliding_attention\","
                           "\"full_attention\", \"sliding_attention\", \"sliding_attention\"]"),
           ERR_UNSUP, "layer_types[1]", "full_attention");
    refuse(CONFIG("llama", ", \"layer_types\": [\"full_attention\"]"), ERR_CORRUPT, "layer_types",
           "4");
    refuse(CONFIG("llama", ", \"layer_types\": [\"full_attention\", \"linear_attention\","
                           "\"full_attention\", \"full_attention\"]"),
           ERR_UNSUP, "layer_types[1]", "linear_attention");
    refuse(CONFIG("qwen3", ", \"num_key_value_heads\": 2, "
                           "\"layer_types\": [\"full_attention\", \"sliding_attention\","
                           "\"sliding_attention\", \"sliding_attention\"]"),
           ERR_UNSUP, "layer_types[1]", "no sliding_window");
}

TEST(shape_heads_fit_the_width) {
    refuse("{\"model_type\": \"llama\", \"hidden_size\": 60, \"intermediate_size\": 96, "
           "\"num_hidden_layers\": 4, \"num_attention_heads\": 8, \"vocab_size\": 100, "
           "\"max_position_embeddings\": 256}",
           ERR_CORRUPT, "hidden_size is 60", "num_attention_heads 8");
    refuse("{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 96, "
           "\"num_hidden_layers\": 4, \"num_attention_heads\": 1024, \"head_dim\": 512, "
           "\"vocab_size\": 100, \"max_position_embeddings\": 256}",
           ERR_CORRUPT, "num_attention_heads * head_dim", "262144");
}

TEST(shape_refuses_by_name) {
    refuse(CONFIG("gpt2", ""), ERR_UNSUP, "model_type", "gpt2");
    refuse(CONFIG("gpt2", ""), ERR_UNSUP, "qwen3", "mistral");
    refuse("{" SIZES "}", ERR_NOTFOUND, "model_type", "missing");
    refuse("[]", ERR_CORRUPT, "object", "array");
    refuse("{", ERR_CORRUPT, "line 1", "expected a string");
    refuse(CONFIG("llama", ", \"hidden_act\": \"gelu\""), ERR_UNSUP, "hidden_act", "gelu");
    refuse(CONFIG("llama", ", \"num_local_experts\": 8"), ERR_UNSUP, "num_local_experts", "8");
    refuse(CONFIG("llama", ", \"quantization_config\": {\"bits\": 4}"), ERR_UNSUP,
           "quantization_config", "object");
    refuse(CONFIG("llama", ", \"partial_rotary_factor\": 0.5"), ERR_UNSUP, "partial_rotary_factor",
           "0.5");
    refuse(CONFIG("llama", ", \"architectures\": [\"LlamaForSequenceClassification\"]"), ERR_UNSUP,
           "architectures", "LlamaForSequenceClassification");
    refuse(CONFIG("llama", ", \"num_key_value_heads\": 3"), ERR_CORRUPT, "num_key_value_heads",
           "3");
    refuse(CONFIG("llama", ", \"head_dim\": 7"), ERR_UNSUP, "head_dim", "7");
    refuse(CONFIG("llama", ", \"head_dim\": 100000"), ERR_CORRUPT, "head_dim", "512");
    refuse(CONFIG("llama", ", \"eos_token_id\": 100"), ERR_CORRUPT, "eos_token_id", "99");
    refuse(CONFIG("llama", ", \"eos_token_id\": [1,2,3,4,5,6,7,8,9]"), ERR_CORRUPT, "eos_token_id",
           "8");
    refuse(CONFIG("llama", ", \"bos_token_id\": -2"), ERR_CORRUPT, "bos_token_id", "-2");
    refuse(CONFIG("llama", ", \"rms_norm_eps\": \"x\""), ERR_CORRUPT, "rms_norm_eps", "string");
    refuse("{\"model_type\": \"llama\", \"hidden_size\": 1e9}", ERR_CORRUPT, "hidden_size",
           "whole");
    refuse("{\"model_type\": \"llama\", \"hidden_size\": 99999999999}", ERR_CORRUPT, "hidden_size",
           "99999999999");
    refuse("{\"model_type\": \"llama\", \"hidden_size\": 0}", ERR_CORRUPT, "hidden_size", "0");
    refuse("{\"model_type\": \"llama\"}", ERR_NOTFOUND, "hidden_size", "missing");
}

TEST(shape_refuses_ropes_by_name) {
    refuse(CONFIG("llama", ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}"), ERR_UNSUP,
           "rope_scaling", "dynamic");
    refuse(CONFIG("llama", ", \"rope_scaling\": {\"rope_type\": \"longrope\"}"), ERR_UNSUP,
           "rope_type", "llama3");
    refuse(CONFIG("llama", ", \"rope_scaling\": {\"type\": \"linear\"}"), ERR_NOTFOUND, "factor",
           "missing");
    refuse(CONFIG("llama", ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}"),
           ERR_CORRUPT, "factor", "0");
    refuse(CONFIG("llama", ", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, "
                           "\"low_freq_factor\": 4, \"high_freq_factor\": 4}"),
           ERR_CORRUPT, "high_freq_factor", "4");
    refuse(CONFIG("llama", ", \"rope_theta\": 1"), ERR_CORRUPT, "rope_theta", "1");
    refuse(CONFIG("llama", ", \"rope_parameters\": 3"), ERR_CORRUPT, "rope_parameters", "object");
    refuse(CONFIG("llama", ", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 5}}"),
           ERR_UNSUP, "rope_parameters", "layer type");
}

/* Every prefix of a valid file is an error and nothing worse. */
TEST(shape_truncated) {
    static const char whole[] =
        CONFIG("qwen2", ", \"num_key_value_heads\": 2, \"rope_scaling\": {\"type\": \"yarn\", "
                        "\"factor\": 4.0}, \"eos_token_id\": [1, 2]");
    struct shape s;
    for (size_t n = 0; n + 1 < sizeof whole - 1; n++)
        CHECK(shape_parse(&s, whole, n, "x", NULL, 0) < 0);
    CHECK_OK(shape_parse(&s, whole, sizeof whole - 1, "x", NULL, 0));
}

TEST(shape_eos_of_generation_config_wins) {
    static const char config[] = CONFIG("llama", ", \"eos_token_id\": 2");
    static const char generation[] = "{\"eos_token_id\": [5, 6, 7], \"bos_token_id\": 3}";
    struct shape s;
    CHECK_OK(shape_parse(&s, config, sizeof config - 1, "c", generation, sizeof generation - 1));
    CHECK_INT(s.n_eos, 3);
    CHECK_INT(s.eos[2], 7);
    CHECK_INT(s.bos, 1);
    static const char bad[] = "{\"eos_token_id\": [5, 600]}";
    CHECK_ERR(shape_parse(&s, config, sizeof config - 1, "c", bad, sizeof bad - 1), ERR_CORRUPT,
              "generation_config.json: eos_token_id is 600");
    CHECK_ERR(shape_parse(&s, config, sizeof config - 1, "c", "[]", 2), ERR_CORRUPT,
              "generation_config.json: must be an object");
}

static void round_trip(const char *config) {
    struct shape a = parsed(config), b;
    float cos[2][512], sin[2][512];
    CHECK_OK(shape_write(&a, test_dir(), "float32"));
    CHECK_OK(shape_read(&b, test_dir()));
    CHECK(shape_equal(&a, &b));
    CHECK_INT(a.family, b.family);
    CHECK_INT(a.context, b.context);
    CHECK(a.norm_eps == b.norm_eps && a.rope_theta == b.rope_theta);
    CHECK(a.bos == b.bos && a.n_eos == b.n_eos && memcmp(a.eos, b.eos, sizeof a.eos) == 0);
    for (int32_t l = 0; l < a.layers; l++)
        CHECK_INT(shape_window(&a, l), shape_window(&b, l));
    int32_t n = 512 / (a.head_width / 2);
    shape_rope_tables(&a, n, cos[0], sin[0]);
    shape_rope_tables(&b, n, cos[1], sin[1]);
    size_t bytes = (size_t)(n * (a.head_width / 2)) * sizeof(float);
    CHECK(memcmp(cos[0], cos[1], bytes) == 0 && memcmp(sin[0], sin[1], bytes) == 0);
}

TEST(shape_written_and_read_is_the_same) {
    round_trip(CONFIG("llama", ""));
    round_trip(CONFIG("llama", ", \"attention_bias\": true, \"mlp_bias\": true, \"bos_token_id\": "
                               "null, \"eos_token_id\": null, \"tie_word_embeddings\": true"));
    round_trip(CONFIG("llama", ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}"));
    round_trip(CONFIG("llama", ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
                               "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                               "\"original_max_position_embeddings\": 32}"));
    round_trip(CONFIG("mistral", ", \"sliding_window\": 17, \"rms_norm_eps\": 1e-05"));
    round_trip(CONFIG("qwen2", ", \"num_key_value_heads\": 2, \"sliding_window\": 32, "
                               "\"use_sliding_window\": true, \"max_window_layers\": 3"));
    round_trip(CONFIG("qwen3", ", \"num_key_value_heads\": 2, \"attention_bias\": true, "
                               "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": "
                               "1000000, \"factor\": 4, \"original_max_position_embeddings\": 32, "
                               "\"mscale\": 0.7, \"mscale_all_dim\": 1.1, \"truncate\": false}"));
}

/* Our angle may differ from transformers' by the last bit of the inverse frequency (their float pow
 * is not correctly rounded), which is 2^-23 of the angle. */
static void check_rope(const struct safetensors *f, const char *name) {
    char path[96], key[32];
    struct shape s;
    char *text;
    size_t bytes;
    snprintf(path, sizeof path, "tests/golden/rope/%s.json", name);
    CHECK_OK(file_read(&text, &bytes, path, 1 << 20));
    CHECK_OK(shape_parse(&s, text, bytes, path, NULL, 0));
    const struct safetensors_tensor *t[4];
    static const char *const parts[] = {"cos", "sin", "angle"};
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s.%s", name, parts[i]);
        t[i] = safetensors_find(f, key);
        CHECK(t[i]);
    }
    t[3] = safetensors_find(f, "positions");
    int64_t half = s.head_width / 2, n_pos = t[3]->n, last;
    int32_t pos[64];
    memcpy(pos, t[3]->data, t[3]->bytes);
    last = pos[n_pos - 1] + 1;
    float *cos = mem_array((size_t)(last * half), 4), *sin = mem_array((size_t)(last * half), 4);
    shape_rope_tables(&s, (int32_t)last, cos, sin);
    for (int64_t p = 0; p < n_pos; p++)
        for (int64_t j = 0; j < half; j++) {
            float want[3];
            for (int i = 0; i < 3; i++)
                CHECK_OK(safetensors_read_f32(f, t[i], p * half + j, 1, &want[i]));
            double tolerance = 5e-7 + s.rope_attn * 2.5e-7 * (double)want[2];
            CHECK_NEAR(cos[pos[p] * half + j], want[0], tolerance);
            CHECK_NEAR(sin[pos[p] * half + j], want[1], tolerance);
        }
    mem_free(cos);
    mem_free(sin);
    mem_free(text);
}

TEST(shape_rope_tables_equal_transformers) {
    struct safetensors *f;
    CHECK_OK(safetensors_open(&f, "tests/golden/rope/tables.safetensors"));
    check_rope(f, "plain");
    check_rope(f, "linear");
    check_rope(f, "llama3");
    check_rope(f, "yarn");
    check_rope(f, "yarn-mscale");
    check_rope(f, "yarn-exact");
    safetensors_close(&f);
}

/* Published sizes: Llama-3.2-1B (1.24 B) and Qwen2.5-0.5B (0.49 B), tied heads counted once. */
TEST(shape_counts_parameters) {
    struct shape s = parsed("{\"model_type\": \"llama\", \"hidden_size\": 2048, "
                            "\"intermediate_size\": 8192, \"num_hidden_layers\": 16, "
                            "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, "
                            "\"vocab_size\": 128256, \"max_position_embeddings\": 131072, "
                            "\"tie_word_embeddings\": true}");
    CHECK_INT(shape_params(&s), 1235814400);
    s = parsed("{\"model_type\": \"qwen2\", \"hidden_size\": 896, \"intermediate_size\": 4864, "
               "\"num_hidden_layers\": 24, \"num_attention_heads\": 14, \"num_key_value_heads\": "
               "2, \"vocab_size\": 151936, \"max_position_embeddings\": 32768, "
               "\"tie_word_embeddings\": true}");
    CHECK_INT(shape_params(&s), 494032768);
}
