/* cmd_tokenize.c - `weir tokenize`: text to ids and back, one JSON value per line. Each answer is
 * flushed, so that another program can hold a conversation over two pipes. The first bad line ends
 * the run: what was answered before it stands, and the error names it. */
#include "actor/text/tokenizer.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/lines.h"
#include "base/mem.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"

#include <inttypes.h>
#include <stdio.h>

static const size_t LINE_MAX_BYTES = (size_t)256 << 20;

static int encode(const struct tokenizer *t, const struct json *v, bool special, struct buf *out) {
    int32_t *ids;
    size_t n;
    if (!json_str(v))
        return FAIL(ERR_CORRUPT, "must be a JSON string, it is %s", json_type_name(json_type(v)));
    TRY(tokenizer_encode(t, json_str(v), json_len(v), special, &ids, &n));
    struct json_write w = json_write_to(out, JSON_LINE);
    json_write_ids(&w, NULL, ids, n);
    mem_free(ids);
    return 0;
}

static int read_ids(const struct json *v, int32_t *ids) {
    size_t i = 0;
    for (const struct json *e = json_first(v); e; e = json_next(e), i++) {
        int64_t id;
        if (!json_int(e, &id) || id < 0 || id > INT32_MAX)
            return FAIL(ERR_CORRUPT, "element %zu is no token id", i);
        ids[i] = (int32_t)id;
    }
    return 0;
}

static int decode(const struct tokenizer *t, const struct json *v, bool skip, struct buf *out) {
    char *text;
    size_t n;
    if (!json_is(v, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "must be an array of ids, it is %s", json_type_name(json_type(v)));
    int32_t *ids = mem_array(json_len(v) + 1, sizeof *ids);
    int rc = read_ids(v, ids);
    for (size_t i = 0; rc == 0 && i < json_len(v); i++)
        if (ids[i] >= tokenizer_size(t))
            rc = FAIL(ERR_CONFIG, "token id %d, allowed is 0..%d", ids[i], tokenizer_size(t) - 1);
    if (rc == 0) rc = tokenizer_decode(t, ids, json_len(v), skip, &text, &n);
    mem_free(ids);
    if (rc < 0) return rc;
    struct json_write w = json_write_to(out, JSON_LINE);
    json_write_text(&w, NULL, text, n);
    mem_free(text);
    return 0;
}

struct mode {
    bool decode, special, skip_special;
};

static int answer(const struct tokenizer *t, const char *text, size_t n, struct mode mode,
                  struct buf *out) {
    struct json_doc *doc;
    TRY(json_parse_as(&doc, text, n, "JSON", JSON_NUL));
    int rc = mode.decode ? decode(t, json_root(doc), mode.skip_special, out)
                         : encode(t, json_root(doc), mode.special, out);
    json_close(&doc);
    return rc;
}

static int answer_all(const struct tokenizer *t, struct lines *in, struct mode mode) {
    struct buf out = {0};
    int rc = 0;
    for (;;) {
        const char *text;
        size_t n;
        TRY_OUT(lines_next(in, &text, &n));
        if (!text) break;
        buf_reset(&out);
        rc = answer(t, text, n, mode, &out);
        if (rc < 0) {
            err_wrap(rc, "stdin line %" PRId64, lines_number(in));
            goto out;
        }
        buf_add(&out, "\n", 1);
        if (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0) {
            rc = FAIL(ERR_IO, "standard output: cannot write");
            goto out;
        }
    }
out:
    buf_close(&out);
    return rc;
}

int cmd_tokenize(int argc, char **argv) {
    const char *model = NULL;
    struct mode mode = {0};
    struct args_option options[] = {
        {"model", ARGS_STR, &model, "DIR", "folder with tokenizer.json", 0, 0},
        {"decode", ARGS_FLAG, &mode.decode, NULL, "ids to text", 0, 0},
        {"special", ARGS_FLAG, &mode.special, NULL,
         "encoding: add the special tokens of the post-processor", 0, 0},
        {"skip-special", ARGS_FLAG, &mode.skip_special, NULL, "decoding: leave special tokens out",
         0, 0},
    };
    struct args_verb verb = {
        "weir tokenize --model DIR [--decode] [--special] [--skip-special] < LINES",
        "Reads one JSON string per line and writes one JSON array of token ids per line; with\n"
        "--decode the other way round, which gives back what was encoded, special tokens "
        "included.\n"
        "A line has at most 256 MiB.",
        options,
        4,
        0,
        0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (!model) return FAIL(ERR_CONFIG, "--model DIR is missing");
    struct tokenizer *t = NULL;
    struct lines *in = NULL;
    TRY_OUT(tokenizer_open(&t, model));
    TRY_OUT(lines_open(&in, NULL, LINE_MAX_BYTES));
    TRY_OUT(answer_all(t, in, mode));
out:
    lines_close(&in);
    tokenizer_close(&t);
    return rc;
}
