/* filetype_test.c - files that are not what their reader wanted are named, with what to do; every
 * reader asks. What a reader accepts, or a damaged file of the wanted kind, keeps its own words. */
#include "actor/safetensors.h"
#include "actor/shape.h"
#include "actor/text/chat.h"
#include "actor/text/dataset.h"
#include "actor/text/tokenizer.h"
#include "base/file.h"
#include "base/filetype.h"
#include "base/json.h"
#include "base/mem.h"
#include "proto/recipe/recipe.h"
#include "tests/test.h"
#include "trainer/batch/batch.h"

#include <unistd.h>

/* Two names of one thing: any reader that gets these bytes says them. */
static const struct {
    const char *bytes;
    size_t n;
    const char *what;
} kinds[] = {
#define BYTES(text, what)                                                                          \
    { text, sizeof(text) - 1, what }
    BYTES("\x1F\x8B\x08\0\0\0\0\0\0\x03", "is gzip-compressed"),
    BYTES("\x28\xB5\x2F\xFD\x04\0\x11\0", "is zstd-compressed"),
    BYTES("\xFD"
          "7zXZ\0\0\x04",
          "is xz-compressed"),
    BYTES("PK\x03\x04\x14\0\0\0\x08\0", "is a zip archive"),
    BYTES("PAR1\x15\x04\x15\x10\x15\x14\x4C\x15", "is Parquet"),
    BYTES("ARROW1\0\0\xFF\xFF\xFF\xFF", "is an Arrow file"),
    BYTES("\xFF\xFF\xFF\xFF\x80\x02\0\0\x10\0\0\0", "is an Arrow stream"),
    BYTES("\x80\x02\x8A\x0Al\xFC\x9C\x46\xF9\x20", "is a Python pickle"),
    BYTES("\x80\x04\x95\x10\0\0\0\0\0\0\0", "is a Python pickle"),
    BYTES("GGUF\x03\0\0\0\x23\x01\0\0", "is a GGUF model"),
    BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
          "is a Git LFS pointer"),
    BYTES("\n <!DOCTYPE html>\n<html lang=\"en\"><head>", "is an HTML page"),
    BYTES("<HTML><body>Not found</body>", "is an HTML page"),
    BYTES("\xEF\xBB\xBF<html>", "is an HTML page"),
};

static char *write_file(const char *name, const void *bytes, size_t n) {
    char *path = file_join(test_dir(), name);
    CHECK_OK(file_write_atomic(path, bytes, n));
    return path;
}

static int open_rows(const char *path) {
    struct dataset *d;
    struct dataset_config cfg = {.path = path, .prompt = "prompt", .answer = "answer"};
    int rc = dataset_open(&d, &cfg);
    if (rc == 0) dataset_close(&d);
    return rc;
}

TEST(every_reader_names_other_files) {
    struct json_doc *doc;
    struct safetensors *f;
    struct tokenizer *t;
    struct recipe *r;
    struct shape s;
    struct batch *b;
    enum chat_format chat;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char *path = write_file("file", kinds[i].bytes, kinds[i].n);
        CHECK_ERR(open_rows(path), ERR_CORRUPT, kinds[i].what);
        CHECK(strncmp(err_text(), path, strlen(path)) == 0);
        CHECK_ERR(json_parse_file(&doc, path, 1 << 20), ERR_CORRUPT, kinds[i].what);
        CHECK_ERR(recipe_load(&r, path, NULL, 0), ERR_CORRUPT, kinds[i].what);
        CHECK_ERR(safetensors_open(&f, path), ERR_CORRUPT, kinds[i].what);
        CHECK_ERR(batch_read(&b, path, 10, 10), ERR_CORRUPT, kinds[i].what);
        mem_free(path);
        char *files[] = {write_file("config.json", kinds[i].bytes, kinds[i].n),
                         write_file("tokenizer.json", kinds[i].bytes, kinds[i].n),
                         write_file("chat_template.jinja", kinds[i].bytes, kinds[i].n)};
        CHECK_ERR(shape_read(&s, test_dir()), ERR_CORRUPT, kinds[i].what);
        CHECK_ERR(tokenizer_open(&t, test_dir()), ERR_CORRUPT, kinds[i].what);
        CHECK_ERR(chat_choose(&chat, "auto", test_dir()), ERR_CORRUPT, kinds[i].what);
        for (size_t k = 0; k < 3; k++) {
            unlink(files[k]);
            mem_free(files[k]);
        }
    }
}

/* What Excel and Notepad write. */
TEST(byte_order_marks) {
    static const char row[] = "\xEF\xBB\xBF{\"prompt\": \"1+1=\", \"answer\": \"2\"}\n";
    static const char utf16[] = "\xFF\xFE{\0\"\0p\0r\0o\0m\0p\0t\0\"\0:\0";
    static const char yaml[] = "\xEF\xBB\xBFmodel: {path: recipes/tiny}\n";
    struct json_doc *doc;
    struct recipe *r;
    char *path = write_file("rows", row, sizeof row - 1);
    CHECK_OK(open_rows(path));
    CHECK_OK(json_parse_file(&doc, path, 1 << 20));
    json_close(&doc);
    mem_free(path);
    path = write_file("rows", utf16, sizeof utf16 - 1);
    CHECK_ERR(open_rows(path), ERR_CORRUPT, "is UTF-16 text; wanted is JSON Lines");
    mem_free(path);
    path = write_file("rows", utf16 + 2, sizeof utf16 - 3); /* without its mark */
    CHECK_ERR(open_rows(path), ERR_CORRUPT, "is UTF-16 text");
    mem_free(path);
    path = write_file("r.yaml", yaml, sizeof yaml - 1);
    CHECK_OK(recipe_load(&r, path, NULL, 0));
    recipe_close(&r);
    mem_free(path);
}

TEST(texts_that_are_no_json_lines) {
    static const char *const texts[][2] = {
        {"question,answer\n1+1,2\n", "is a table (CSV or TSV)"},
        {"\xEF\xBB\xBFquestion;answer\n1+1;2\n", "is a table (CSV or TSV)"},
        {"question\tanswer\r\n1+1\t2\r\n", "is a table (CSV or TSV)"},
        {"[\n{\"prompt\": \"1\"},\n", "is one JSON array"},
        {"[{\"prompt\": \"1\", \"answer\": \"2\"}]\n", "is one JSON array"},
        {"{\n  \"prompt\": \"1\"\n}\n", "is JSON over several lines"},
        {"once upon a time\n", "line 1 column 1: expected a value"},
        {"{\"prompt\": \"1\", \"answer\": 2}\nx\n", "line 2 column 1: expected a value"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char *path = write_file("rows", texts[i][0], strlen(texts[i][0]));
        CHECK_ERR(open_rows(path), ERR_CORRUPT, texts[i][1]);
        mem_free(path);
    }
}

/* Data where a recipe is wanted; files that are too large for what they should be. */
TEST(recipes_that_are_none) {
    static const char rows[] = "{\"prompt\": \"1\"}\n{\"prompt\": \"2\"}\n";
    struct recipe *r;
    struct json_doc *doc;
    size_t n = (1 << 20) + 1;
    char *large = mem_array(n, 1), *path = write_file("r.yaml", rows, sizeof rows - 1);
    CHECK_ERR(recipe_load(&r, path, NULL, 0), ERR_CORRUPT, "is JSON Lines: data");
    mem_free(path);
    memcpy(large, "PAR1", 4);
    path = write_file("large", large, n);
    CHECK_ERR(recipe_load(&r, path, NULL, 0), ERR_CORRUPT, "is Parquet; wanted is a YAML recipe");
    CHECK_ERR(json_parse_file(&doc, path, 1000), ERR_CORRUPT, "is Parquet; wanted is JSON");
    mem_free(path);
    memset(large, ' ', n);
    path = write_file("large", large, n);
    CHECK_ERR(recipe_load(&r, path, NULL, 0), ERR_CORRUPT, "more than the limit of 1048576");
    mem_free(path);
    mem_free(large);
}

/* A header of 0x8b1f bytes begins like gzip; what is wrong with the file is something else. */
TEST(damaged_files_keep_their_own_error) {
    static const char header[] = "\x1F\x8B\0\0\0\0\0\0{\"a\": {}}";
    struct safetensors *f;
    char *path = write_file("w", header, sizeof header - 1);
    CHECK_ERR(safetensors_open(&f, path), ERR_CORRUPT, "header length is 35615, only");
    mem_free(path);
    path = write_file("w", "{\"a\": 1}", 8);
    CHECK_ERR(safetensors_open(&f, path), ERR_CORRUPT, "is JSON; wanted is safetensors");
    mem_free(path);
    CHECK_ERR(open_rows("/nowhere/rows.jsonl"), ERR_NOTFOUND, "cannot open");
}

TEST(ids_of_the_hub_are_no_paths) {
    struct shape s;
    CHECK_ERR(shape_read(&s, "Qwen/Qwen3-0.6B"), ERR_NOTFOUND,
              "hf download Qwen/Qwen3-0.6B --local-dir Qwen3-0.6B");
    CHECK_ERR(shape_read(&s, "hf://Qwen/Qwen3-0.6B"), ERR_CONFIG, "is a URL");
    CHECK_ERR(shape_read(&s, "./Qwen/Qwen3-0.6B"), ERR_NOTFOUND, "cannot open");
    CHECK_ERR(open_rows("openai/gsm8k"), ERR_NOTFOUND,
              "hf download --repo-type dataset openai/gsm8k");
    CHECK_ERR(open_rows(test_dir()), ERR_CONFIG, "is a folder; give the JSONL file in it");
    char *path = write_file("model.gguf", "GGUF", 4);
    CHECK_ERR(shape_read(&s, path), ERR_CONFIG, "is a file; give the folder of a model");
    mem_free(path);
    struct tokenizer *t;
    CHECK_ERR(tokenizer_open(&t, test_dir()), ERR_NOTFOUND, "cannot open");
    path = write_file("tokenizer.model", "", 0);
    CHECK_ERR(tokenizer_open(&t, test_dir()), ERR_NOTFOUND,
              "no tokenizer.json, but tokenizer.model");
    mem_free(path);
    path = write_file("adapter_config.json", "{}", 2);
    CHECK_ERR(shape_read(&s, test_dir()), ERR_NOTFOUND, "a LoRA adapter");
    mem_free(path);
}
