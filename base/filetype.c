/* filetype.c - see filetype.h. A table of first bytes, then the kinds of text that have none. Only
 * failures come here, so nothing that a reader accepts is refused, and a look costs nothing. */
#include "base/filetype.h"

#include "base/file.h"
#include "base/mem.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { LOOKED_AT = 4096, TAR_MAGIC = 257, SAFETENSORS_LENGTH = 8 };

static const char unpack[] = "decompress it first";
static const char columns[] =
    "convert it, for example: python3 -c \"import pandas; pandas.read_parquet('IN')"
    ".to_json('OUT.jsonl', orient='records', lines=True)\"";
static const char arrow[] = "convert it, for example with the datasets library: "
                            "Dataset.from_file('IN').to_json('OUT.jsonl')";
static const char torch[] =
    "Weir reads weights as safetensors: load the model with transformers and "
    "save_pretrained() it, which writes model.safetensors";
static const char utf8[] = "convert it to UTF-8, for example: iconv -f UTF-16 -t UTF-8 IN > OUT";

static const struct magic {
    size_t at, n;
    const char *bytes, *what, *todo;
} magics[] = {
    {0, 4, "\xFF\xFE\0\0", "UTF-32 text", "convert it to UTF-8: iconv -f UTF-32 -t UTF-8 IN > OUT"},
    {0, 4, "\0\0\xFE\xFF", "UTF-32 text", "convert it to UTF-8: iconv -f UTF-32 -t UTF-8 IN > OUT"},
    {0, 2, "\xFF\xFE", "UTF-16 text", utf8},
    {0, 2, "\xFE\xFF", "UTF-16 text", utf8},
    {0, 2, "\x1F\x8B", "gzip-compressed", "decompress it first: gunzip -c IN > OUT"},
    {0, 4, "\x28\xB5\x2F\xFD", "zstd-compressed", "decompress it first: zstd -dc IN > OUT"},
    {0, 6,
     "\xFD"
     "7zXZ\0",
     "xz-compressed", "decompress it first: xz -dc IN > OUT"},
    {0, 3, "BZh", "bzip2-compressed", "decompress it first: bzip2 -dc IN > OUT"},
    {0, 4, "\x04\x22\x4D\x18", "lz4-compressed", "decompress it first: lz4 -dc IN > OUT"},
    {0, 4, "\xFF\x06\0\0", "snappy-compressed", unpack},
    {0, 4, "PK\x03\x04", "a zip archive (torch.save writes .pt and .bin files as such)",
     "unpack it; weights: load the model with transformers and save_pretrained() it, which "
     "writes model.safetensors"},
    {0, 6, "7z\xBC\xAF\x27\x1C", "a 7-Zip archive", "unpack it first"},
    {0, 6, "Rar!\x1A\x07", "a RAR archive", "unpack it first"},
    {TAR_MAGIC, 5, "ustar", "a tar archive", "unpack it first: tar xf IN"},
    {0, 4, "PAR1", "Parquet", columns},
    {0, 6, "ARROW1", "an Arrow file", arrow},
    {0, 4, "FEA1", "a Feather file", arrow},
    {0, 3, "ORC", "an ORC file", "convert it to JSON Lines, for example with pandas.read_orc"},
    {0, 4, "Obj\x01", "an Avro file", "convert it to JSON Lines"},
    {0, 8, "\x89HDF\r\n\x1A\n", "an HDF5 file", "convert it"},
    {0, 6, "\x93NUMPY", "a NumPy array", "convert it"},
    {0, 15, "SQLite format 3", "an SQLite database", "export the table as JSON Lines"},
    {0, 4, "GGUF", "a GGUF model of llama.cpp", "take the model's safetensors folder instead"},
    {0, 2, "\x80\x02", "a Python pickle (.bin, .pt, .pkl)", torch},
    {0, 2, "\x80\x03", "a Python pickle (.bin, .pt, .pkl)", torch},
    {0, 2, "\x80\x04", "a Python pickle (.bin, .pt, .pkl)", torch},
    {0, 2, "\x80\x05", "a Python pickle (.bin, .pt, .pkl)", torch},
    {0, 5, "%PDF-", "a PDF", "give the data itself"},
    {0, 4,
     "\x7F"
     "ELF",
     "an executable", "give the data itself"},
    {0, 42, "version https://git-lfs.github.com/spec/v1",
     "a Git LFS pointer: the file itself was not downloaded",
     "in that repository: git lfs install && git lfs pull"},
};

static const struct {
    const char *begin, *what, *todo;
} markups[] = {
    {"<!doctype html", "an HTML page, not the file (a download that got a web page instead)",
     "download the file itself: on the hub that is the link .../resolve/main/FILE"},
    {"<html", "an HTML page, not the file (a download that got a web page instead)",
     "download the file itself: on the hub that is the link .../resolve/main/FILE"},
    {"<?xml", "XML", "convert it"},
    {"{\\rtf", "a rich text document", "save it as plain text"},
};

static const char *wanted_name(enum filetype wanted) {
    static const char *const names[] = {"JSON", "JSON Lines (one JSON object a line)",
                                        "a YAML recipe", "a chat template", "safetensors"};
    return names[wanted];
}

size_t filetype_bom(const void *data, size_t bytes) {
    return bytes >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

static size_t skip_blank(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && isspace((unsigned char)s[i]))
        i++;
    return i;
}

static int say_type(const char *name, const char *what, enum filetype wanted, const char *todo) {
    return FAIL(ERR_CORRUPT, "%s is %s; wanted is %s: %s", name, what, wanted_name(wanted), todo);
}

/* UTF-16 without a mark: every second of the first bytes is zero. */
static bool is_utf16(const char *s, size_t n) {
    if (n < 8) return false;
    for (size_t odd = 0; odd < 2; odd++) {
        size_t zeros = 0, others = 0;
        for (size_t i = 0; i < 8; i++) {
            zeros += i % 2 == odd && s[i] == '\0';
            others += i % 2 != odd && s[i] > '\0';
        }
        if (zeros == 4 && others == 4) return true;
    }
    return false;
}

/* A mark of four bytes, then the length of the schema: less than 16 MiB. */
static bool is_arrow_stream(const char *s, size_t n) {
    return n >= 8 && memcmp(s, "\xFF\xFF\xFF\xFF", 4) == 0 && s[7] == '\0';
}

static bool is_safetensors(const char *s, size_t n) {
    if (n < SAFETENSORS_LENGTH + 2 || s[SAFETENSORS_LENGTH] != '{') return false;
    return memcmp(s + 4, "\0\0\0", 4) == 0 && s[SAFETENSORS_LENGTH + 1] == '"';
}

/* Text that is no JSON, of words between commas or tabs in its first line. */
static bool is_table(const char *s, size_t n) {
    const char *end = memchr(s, '\n', n);
    size_t line = end ? (size_t)(end - s) : n, marks = 0;
    if (line == 0 || *s == '{' || *s == '[') return false;
    for (size_t i = 0; i < line; i++) {
        if ((unsigned char)s[i] < ' ' && s[i] != '\t' && s[i] != '\r') return false;
        marks += s[i] == ',' || s[i] == '\t' || s[i] == ';';
    }
    return marks > 0;
}

/* Text of a kind that has no magic bytes. s stands behind blanks. */
static int explain_text(int rc, const char *s, size_t n, const char *name, enum filetype wanted) {
    if (n == 0) return rc;
    if (wanted == FILETYPE_YAML && *s == '{') {
        const char *end = memchr(s, '\n', n);
        size_t at = end ? (size_t)(end - s) + 1 : n;
        if (at < n && s[at] == '{')
            return say_type(name, "JSON Lines: data, by its first two lines", wanted,
                            "give the recipe, and the data as its data.train.path");
    }
    if (wanted != FILETYPE_JSONL && wanted != FILETYPE_SAFETENSORS) return rc;
    if (wanted == FILETYPE_SAFETENSORS) {
        if (*s != '{' && *s != '[') return rc;
        return say_type(name, "JSON", wanted, "give the file of weights");
    }
    if (*s == '[')
        return say_type(name, "one JSON array", wanted,
                        "write its elements one a line, for example: jq -c '.[]' IN > OUT.jsonl");
    if (*s == '{' && n > 1 && (s[1] == '\n' || s[1] == '\r'))
        return say_type(name, "JSON over several lines", wanted,
                        "write each object in one line, for example: jq -c . IN > OUT.jsonl");
    if (is_table(s, n))
        return say_type(name, "a table (CSV or TSV), by its first line", wanted,
                        "convert it, for example: python3 -c \"import pandas; pandas.read_csv('IN')"
                        ".to_json('OUT.jsonl', orient='records', lines=True)\"");
    return rc;
}

int filetype_explain(int rc, const void *data, size_t bytes, const char *name,
                     enum filetype wanted) {
    const char *s = data;
    if (rc >= 0 || bytes == 0) return rc;
    if (wanted == FILETYPE_SAFETENSORS && is_safetensors(s, bytes)) return rc; /* a damaged one */
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        const struct magic *m = &magics[i];
        if (m->at + m->n <= bytes && memcmp(s + m->at, m->bytes, m->n) == 0)
            return say_type(name, m->what, wanted, m->todo);
    }
    if (is_arrow_stream(s, bytes)) return say_type(name, "an Arrow stream", wanted, arrow);
    if (is_utf16(s, bytes)) return say_type(name, "UTF-16 text", wanted, utf8);
    if (wanted != FILETYPE_SAFETENSORS && is_safetensors(s, bytes))
        return say_type(name, "a file of weights (safetensors)", wanted, "give the right file");
    size_t n = bytes < LOOKED_AT ? bytes : LOOKED_AT, bom = filetype_bom(s, n);
    size_t at = bom + skip_blank(s + bom, n - bom);
    for (size_t i = 0; i < sizeof markups / sizeof markups[0]; i++) {
        size_t len = strlen(markups[i].begin);
        if (n - at >= len && strncasecmp(s + at, markups[i].begin, len) == 0)
            return say_type(name, markups[i].what, wanted, markups[i].todo);
    }
    return explain_text(rc, s + at, n - at, name, wanted);
}

int filetype_explain_file(int rc, const char *path, enum filetype wanted) {
    struct file_map map;
    if (rc != ERR_CORRUPT) return rc;
    char *said = mem_strdup(err_text());
    if (file_map_open(&map, path) == 0) {
        rc = filetype_explain(FAIL(rc, "%s", said), map.data, map.bytes, path, wanted);
        file_map_close(&map);
    }
    mem_free(said);
    return rc;
}

/* OWNER/NAME as the hub writes it, and not the beginning of a path. */
static bool is_hub_id(const char *s) {
    const char *slash = strchr(s, '/');
    if (!slash || slash == s || !slash[1] || strchr(slash + 1, '/') || *s == '.' || *s == '~')
        return false;
    if (strstr(slash, ".json")) return false;
    for (const char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("/._-", *p)) return false;
    return true;
}

int filetype_explain_path(int rc, const char *path, bool model) {
    const char *kind = model ? "" : "--repo-type dataset ", *rest = strstr(path, "://");
    if (rc >= 0) return rc;
    if (file_exists(path)) {
        if (file_is_dir(path) == model) return rc;
        return FAIL(ERR_CONFIG,
                    model ? "%s is a file; give the folder of a model: config.json, "
                            "tokenizer.json and safetensors"
                          : "%s is a folder; give the JSONL file in it",
                    path);
    }
    if (rest)
        return FAIL(ERR_CONFIG,
                    "%s is a URL; Weir reads local files and downloads nothing: download it first "
                    "and give the %s's path",
                    path, model ? "folder" : "file");
    if (!is_hub_id(path)) return rc;
    char *parent = mem_strndup(path, (size_t)(strchr(path, '/') - path));
    bool folder = file_is_dir(parent);
    mem_free(parent);
    if (folder) return rc; /* a name mistyped in a folder that is there */
    char *tried = file_full(path);
    rc = FAIL(ERR_NOTFOUND,
              "%s is no %s here: %s is not there. If it is on the Hugging Face hub: Weir downloads "
              "nothing; run "
              "`hf download %s%s --local-dir %s` and give %s%s",
              path, model ? "folder" : "file", tried, kind, path, strchr(path, '/') + 1,
              strchr(path, '/') + 1, model ? "" : "/FILE.jsonl");
    mem_free(tried);
    return rc;
}
