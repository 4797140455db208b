/* export.c - see export.h. The tokenizer's files are copied byte for byte: Weir reads only some of
 * them, but whoever opens the folder later may need the others. */
#include "trainer/checkpoint/export.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <string.h>

static const char *const export_copied[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
};

static bool of_a_model(const char *name) {
    static const char *const ends[] = {".safetensors", ".bin", ".index.json", ".gguf", ".pt"};
    size_t n = strlen(name);
    if (strcmp(name, "config.json") == 0 || strcmp(name, "generation_config.json") == 0)
        return true;
    for (size_t i = 0; i < sizeof export_copied / sizeof export_copied[0]; i++)
        if (strcmp(name, export_copied[i]) == 0) return true;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

int export_prepare(const char *dir, bool overwrite) {
    int rc = 0;
    TRY(file_mkdirs(dir));
    DIR *d = overwrite ? NULL : opendir(dir);
    for (struct dirent *e; d && rc == 0 && (e = readdir(d));)
        if (of_a_model(e->d_name))
            rc = FAIL(ERR_CONFIG,
                      "%s holds a model already (%s): give another folder, or --overwrite", dir,
                      e->d_name);
    if (d) closedir(d);
    return rc;
}

static int copy_if_there(const char *from, const char *to, const char *name) {
    char *src = file_join(from, name), *dst = file_join(to, name);
    struct file_map m = {0};
    int rc = 0;
    if (!file_exists(src)) goto out;
    TRY_OUT(file_map_open(&m, src));
    TRY_OUT(file_write_atomic(dst, m.data, m.bytes));
out:
    file_map_close(&m);
    mem_free(src);
    mem_free(dst);
    return rc;
}

int export_hf(const struct params *weights, const char *model_dir, const char *dir,
              enum kern_dtype dtype, size_t shard_bytes) {
    TRY(file_mkdirs(dir));
    for (size_t i = 0; i < sizeof export_copied / sizeof export_copied[0]; i++)
        TRY(copy_if_there(model_dir, dir, export_copied[i]));
    TRY(shape_write(params_shape(weights), dir, dtype == KERN_BF16 ? "bfloat16" : "float32"));
    return params_save(weights, dir, dtype, shard_bytes);
}
