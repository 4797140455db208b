/* tokenizer_steps.c - normalizer, pre_tokenizer and decoder of tokenizer.json. All three are one
 * component or a Sequence of them, nested at will; here they become flat lists of steps. `where`
 * is the file and the field, extended on the way down, for error texts.
 *
 * What is not known is refused by name: a component that was skipped would give token ids that are
 * nearly right, and a policy trained on them would be nearly right too, with nothing to show why.
 */
#include "actor/text/tokenizer_json.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

enum { STEPS_MAX = 256, TEXT_MAX = 65536 };

/* ByteLevel's own expression (GPT-2). */
static const char gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef int read_step(void *out, const struct json *v, const char *type, const char *where);

/* v, or each element of v[list] if v is a Sequence. */
static int each(void *out, const struct json *v, const char *list, read_step *read,
                const char *where) {
    const char *type;
    if (!json_is(v, JSON_OBJECT))
        return FAIL(ERR_CORRUPT, "%s must be an object, it is %s", where,
                    json_type_name(json_type(v)));
    TRY(json_read_str(&type, v, "type", where));
    if (strcmp(type, "Sequence") != 0) return read(out, v, type, where);
    const struct json *items = json_get(v, list);
    if (!json_is(items, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: %s must be an array", where, list);
    int i = 0, rc = 0;
    for (const struct json *e = json_first(items); e && rc == 0; e = json_next(e)) {
        char *path = mem_printf("%s.%s[%d]", where, list, i++);
        rc = each(out, e, list, read, path);
        mem_free(path);
    }
    return rc;
}

/* The list is a fixed array: a Sequence of Sequences cannot grow it. */
static int check_room(size_t n, const char *where) {
    return n < STEPS_MAX ? 0 : FAIL(ERR_CORRUPT, "%s: more than %d steps", where, STEPS_MAX);
}

static int read_step_text(char **out, size_t *len, const struct json *v, const char *key,
                          const char *where) {
    const char *s;
    TRY(json_read_str(&s, v, key, where));
    size_t n = json_len(json_get(v, key));
    if (n > TEXT_MAX)
        return FAIL(ERR_CORRUPT, "%s: %s has %zu bytes, the limit is %d", where, key, n, TEXT_MAX);
    *out = mem_strndup(s, n);
    *len = n;
    return 0;
}

/* A string of exactly one character. */
static int read_char(char **out, size_t *len, const struct json *v, const char *key,
                     const char *where) {
    const char *s;
    uint32_t cp;
    TRY(json_read_str(&s, v, key, where));
    size_t n = json_len(json_get(v, key));
    if (n == 0 || utf8_decode(s, n, &cp) != (int)n)
        return FAIL(ERR_CORRUPT, "%s: %s must be one character, it is \"%s\"", where, key, s);
    *out = mem_strndup(s, n);
    *len = n;
    return 0;
}

/* {"String": ...} or {"Regex": ...} */
static int read_pattern(struct tokenizer_regex **out, const struct json *v, const char *where) {
    const struct json *pattern = json_get(v, "pattern");
    const struct json *s = json_get(pattern, "String"), *re = json_get(pattern, "Regex");
    char *path = mem_printf("%s.pattern", where);
    int rc;
    if (json_str(s))
        rc = tokenizer_regex_open_literal(out, json_str(s), json_len(s), path);
    else if (json_str(re))
        rc = tokenizer_regex_open(out, json_str(re), json_len(re), path);
    else
        rc = FAIL(ERR_CORRUPT, "%s must be {\"String\": text} or {\"Regex\": text}", path);
    mem_free(path);
    return rc;
}

static int norm_step(void *ctx, const struct json *v, const char *type, const char *where) {
    static const char *const plain[] = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase"};
    static const enum tokenizer_norm_kind kinds[] = {TOKENIZER_NORM_NFC, TOKENIZER_NORM_NFD,
                                                     TOKENIZER_NORM_NFKC, TOKENIZER_NORM_NFKD,
                                                     TOKENIZER_NORM_LOWERCASE};
    struct tokenizer_norm *out = ctx;
    TRY(check_room(out->n, where));
    mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v);
    struct tokenizer_norm_step *st = &out->v[out->n];
    *st = (struct tokenizer_norm_step){0};
    out->n++; /* closed with the rest whatever happens below */
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strcmp(type, plain[i]) == 0) {
            st->kind = kinds[i];
            return 0;
        }
    if (strcmp(type, "ByteLevel") == 0) {
        st->kind = TOKENIZER_NORM_BYTE_LEVEL;
        return 0;
    }
    if (strcmp(type, "Strip") == 0) {
        st->kind = TOKENIZER_NORM_STRIP;
        TRY(json_read_bool(&st->left, v, "strip_left", where));
        return json_read_bool(&st->right, v, "strip_right", where);
    }
    if (strcmp(type, "Prepend") == 0) {
        st->kind = TOKENIZER_NORM_PREPEND;
        return read_step_text(&st->text, &st->text_len, v, "prepend", where);
    }
    if (strcmp(type, "Replace") == 0) {
        st->kind = TOKENIZER_NORM_REPLACE;
        TRY(read_pattern(&st->pattern, v, where));
        return read_step_text(&st->text, &st->text_len, v, "content", where);
    }
    return FAIL(ERR_UNSUP, "%s: the normalizer \"%s\" is not supported", where, type);
}

int tokenizer_steps_norm(struct tokenizer_norm *out, const struct json *v, const char *where) {
    return json_type(v) == JSON_NULL ? 0 : each(out, v, "normalizers", norm_step, where);
}

static struct tokenizer_split_step *new_split(struct tokenizer_split *out,
                                              enum tokenizer_split_kind kind) {
    mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v);
    out->v[out->n] = (struct tokenizer_split_step){.kind = kind};
    return &out->v[out->n++];
}

static int read_behavior(enum tokenizer_split_behavior *out, const struct json *v,
                         const char *where) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name;
    TRY(json_read_str(&name, v, "behavior", where));
    for (int i = 0; i < 5; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum tokenizer_split_behavior)i;
            return 0;
        }
    return FAIL(ERR_CORRUPT, "%s: behavior is \"%s\"", where, name);
}

static int split_byte_level(struct tokenizer_split *out, const struct json *v, const char *where) {
    bool prefix;
    TRY(json_read_bool(&prefix, v, "add_prefix_space", where));
    if (prefix) new_split(out, TOKENIZER_SPLIT_PREFIX_SPACE);
    if (json_bool(json_get(v, "use_regex"), true)) {
        struct tokenizer_split_step *st = new_split(out, TOKENIZER_SPLIT_PATTERN);
        TRY(tokenizer_regex_open(&st->pattern, gpt2, sizeof gpt2 - 1, where));
    }
    new_split(out, TOKENIZER_SPLIT_BYTE_LEVEL);
    return 0;
}

/* Older files say add_prefix_space, newer ones prepend_scheme: both may stand there if they agree.
 */
static int split_metaspace(struct tokenizer_split *out, const struct json *v, const char *where) {
    static const char *const schemes[] = {"always", "first", "never"};
    struct tokenizer_split_step *st = new_split(out, TOKENIZER_SPLIT_METASPACE);
    char *c;
    TRY(read_char(&c, &st->replacement_len, v, "replacement", where));
    memcpy(st->replacement, c, st->replacement_len);
    mem_free(c);
    const struct json *scheme = json_get(v, "prepend_scheme");
    int i = 0;
    if (json_type(scheme) != JSON_NULL)
        while (i < 3 && (!json_str(scheme) || strcmp(json_str(scheme), schemes[i]) != 0))
            i++;
    if (i == 3)
        return FAIL(ERR_CORRUPT, "%s: prepend_scheme must be always, first or never", where);
    st->prepend = (enum tokenizer_split_prepend)i;
    if (!json_bool(json_get(v, "add_prefix_space"), true) &&
        st->prepend != TOKENIZER_SPLIT_PREPEND_NEVER)
        return FAIL(ERR_CORRUPT, "%s: add_prefix_space false contradicts prepend_scheme", where);
    st->split = json_bool(json_get(v, "split"), true);
    return 0;
}

/* One pre-tokenizer of the file. A kind that is not known is refused: it would change the ids. */
static int split_step(void *ctx, const struct json *v, const char *type, const char *where) {
    struct tokenizer_split *out = ctx;
    struct tokenizer_split_step *st;
    TRY(check_room(out->n, where));
    if (strcmp(type, "ByteLevel") == 0) return split_byte_level(out, v, where);
    if (strcmp(type, "Metaspace") == 0) return split_metaspace(out, v, where);
    if (strcmp(type, "Split") == 0) {
        st = new_split(out, TOKENIZER_SPLIT_PATTERN);
        TRY(read_pattern(&st->pattern, v, where));
        TRY(read_behavior(&st->behavior, v, where));
        return json_read_bool(&st->invert, v, "invert", where);
    }
    if (strcmp(type, "Digits") == 0) {
        bool single;
        TRY(json_read_bool(&single, v, "individual_digits", where));
        st = new_split(out, TOKENIZER_SPLIT_DIGITS);
        st->behavior = single ? TOKENIZER_SPLIT_ISOLATED : TOKENIZER_SPLIT_CONTIGUOUS;
        return 0;
    }
    if (strcmp(type, "Punctuation") == 0) {
        st = new_split(out, TOKENIZER_SPLIT_PUNCTUATION);
        return json_get(v, "behavior") ? read_behavior(&st->behavior, v, where) : 0;
    }
    if (strcmp(type, "Whitespace") == 0) {
        new_split(out, TOKENIZER_SPLIT_WHITESPACE);
        return 0;
    }
    bool bert = strcmp(type, "BertPreTokenizer") == 0;
    if (bert || strcmp(type, "WhitespaceSplit") == 0) {
        new_split(out, TOKENIZER_SPLIT_WHITESPACE_SPLIT);
        if (bert) new_split(out, TOKENIZER_SPLIT_PUNCTUATION);
        return 0;
    }
    return FAIL(ERR_UNSUP, "%s: the pre-tokenizer \"%s\" is not supported", where, type);
}

int tokenizer_steps_split(struct tokenizer_split *out, const struct json *v, const char *where) {
    return json_type(v) == JSON_NULL ? 0 : each(out, v, "pretokenizers", split_step, where);
}

static int decode_strip(struct tokenizer_decode_step *st, const struct json *v, const char *where) {
    int64_t start, stop;
    TRY(read_char(&st->text, &st->text_len, v, "content", where));
    TRY(json_read_int(&start, v, "start", 0, TEXT_MAX, where));
    TRY(json_read_int(&stop, v, "stop", 0, TEXT_MAX, where));
    st->start = (size_t)start;
    st->stop = (size_t)stop;
    return 0;
}

static int decode_metaspace(struct tokenizer_decode_step *st, const struct json *v,
                            const char *where) {
    TRY(read_char(&st->text, &st->text_len, v, "replacement", where));
    const char *scheme = json_str(json_get(v, "prepend_scheme"));
    st->prepended = json_bool(json_get(v, "add_prefix_space"), true) &&
                    !(scheme && strcmp(scheme, "never") == 0);
    return 0;
}

static int decode_suffix(struct tokenizer_decode_step *st, const struct json *v,
                         const char *where) {
    const char *suffix;
    TRY(json_read_str(&suffix, v, "suffix", where));
    return tokenizer_regex_open_literal(&st->pattern, suffix, json_len(json_get(v, "suffix")),
                                        where);
}

/* One decoder of the file; as for split_step. */
static int decode_step(void *ctx, const struct json *v, const char *type, const char *where) {
    static const struct {
        const char *name;
        enum tokenizer_decode_kind kind;
    } kinds[] = {{"ByteLevel", TOKENIZER_DECODE_BYTE_LEVEL},
                 {"ByteFallback", TOKENIZER_DECODE_BYTE_FALLBACK},
                 {"Fuse", TOKENIZER_DECODE_FUSE},
                 {"Strip", TOKENIZER_DECODE_STRIP},
                 {"Replace", TOKENIZER_DECODE_REPLACE},
                 {"Metaspace", TOKENIZER_DECODE_METASPACE},
                 {"BPEDecoder", TOKENIZER_DECODE_SUFFIX}};
    struct tokenizer_decode *out = ctx;
    size_t k = 0, n = sizeof kinds / sizeof kinds[0];
    TRY(check_room(out->n, where));
    while (k < n && strcmp(type, kinds[k].name) != 0)
        k++;
    if (k == n) return FAIL(ERR_UNSUP, "%s: the decoder \"%s\" is not supported", where, type);
    mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v);
    struct tokenizer_decode_step *st = &out->v[out->n++];
    *st = (struct tokenizer_decode_step){.kind = kinds[k].kind};
    switch (st->kind) {
    case TOKENIZER_DECODE_STRIP: return decode_strip(st, v, where);
    case TOKENIZER_DECODE_METASPACE: return decode_metaspace(st, v, where);
    case TOKENIZER_DECODE_SUFFIX: return decode_suffix(st, v, where);
    case TOKENIZER_DECODE_REPLACE:
        TRY(read_pattern(&st->pattern, v, where));
        return read_step_text(&st->text, &st->text_len, v, "content", where);
    default: return 0;
    }
}

int tokenizer_steps_decode(struct tokenizer_decode *out, const struct json *v, const char *where) {
    if (json_type(v) != JSON_NULL) return each(out, v, "decoders", decode_step, where);
    mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v);
    out->v[out->n++] = (struct tokenizer_decode_step){.kind = TOKENIZER_DECODE_SPACES};
    return 0;
}
