/* json.c - see json.h. Recursive descent with a depth limit; nodes and decoded strings are
 * bump-allocated, so a 6 MB tokenizer.json costs one pass and no frees.
 *
 * Members stay a list in the order of the file: objects are small or walked once from start to end
 * (a vocabulary), and an index would cost more than it saves. Numbers are kept as they are written,
 * since a reference answer is a text, and whole ones as an integer beside it, so that ids and seeds
 * beyond 2^53 are exact or refused, never rounded. */
#include "base/json.h"

#include "base/arena.h"
#include "base/file.h"
#include "base/filetype.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const long long INT_EXACT = 1LL << 62;

enum { JSON_DEPTH_MAX = 64, FEW = 16 }; /* FEW: members compared each with each */

struct json {
    const struct json *next;
    const char *key;
    size_t key_len;
    union {
        const struct json *child;
        const char *str; /* also of a number */
        bool truth;
    } u;
    size_t len; /* members, elements or bytes of a string */
    int64_t i;
    enum json_type type;
    bool is_int;
};

struct json_doc {
    struct arena *arena;
    const struct json *root;
};

struct parser {
    const char *text, *p, *end, *name;
    struct arena *arena;
    int depth;
    unsigned options;
};

static int parse_value(struct parser *ps, struct json *v);

/* Counts lines only when there is an error to report. */
static int fail(const struct parser *ps, const char *what) {
    size_t line = 1, column = 1;
    for (const char *q = ps->text; q < ps->p; q++) {
        column = *q == '\n' ? 1 : column + 1;
        line += *q == '\n';
    }
    if (ps->options & JSON_ROW)
        return FAIL(ERR_CORRUPT, "%s column %zu: %s", ps->name, column, what);
    return FAIL(ERR_CORRUPT, "%s: line %zu column %zu: %s", ps->name, line, column, what);
}

static void skip_space(struct parser *ps) {
    while (ps->p < ps->end && (*ps->p == ' ' || *ps->p == '\n' || *ps->p == '\t' || *ps->p == '\r'))
        ps->p++;
}

static bool take_char(struct parser *ps, char c) {
    if (ps->p >= ps->end || *ps->p != c) return false;
    ps->p++;
    return true;
}

static bool hex4(struct parser *ps, uint32_t *out) {
    uint32_t v = 0;
    if (ps->end - ps->p < 4) return false;
    for (int i = 0; i < 4; i++) {
        char c = *ps->p++;
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            d = (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            d = (uint32_t)(c - 'A' + 10);
        else
            return false;
        v = v << 4 | d;
    }
    *out = v;
    return true;
}

/* After "\u": one code point, joining surrogate pairs. A lone surrogate is an error. */
static int unicode_escape(struct parser *ps, char *out, size_t *n) {
    uint32_t cp, low;
    if (!hex4(ps, &cp)) return fail(ps, "bad \\u escape");
    if (cp >= 0xD800 && cp <= 0xDBFF) {
        if (!take_char(ps, '\\') || !take_char(ps, 'u') || !hex4(ps, &low) || low < 0xDC00 ||
            low > 0xDFFF)
            return fail(ps, "high surrogate without its low half");
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
    }
    if (cp == 0 && !(ps->options & JSON_NUL))
        return fail(ps, "\\u0000 (a NUL) in a text: C strings end there, so it would be cut");
    int len = utf8_encode(cp, out + *n);
    if (len == 0) return fail(ps, "lone low surrogate");
    *n += (size_t)len;
    return 0;
}

static int read_escape(struct parser *ps, char *out, size_t *n) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (ps->p >= ps->end) return fail(ps, "unterminated string");
    char c = *ps->p++;
    if (c == 'u') return unicode_escape(ps, out, n);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at) return fail(ps, "unknown escape");
    out[(*n)++] = to[at - from];
    return 0;
}

/* At the opening quote. The decoded form is never longer than the written one. */
static int parse_string(struct parser *ps, const char **str, size_t *len) {
    if (!take_char(ps, '"'))
        return fail(ps, ps->p < ps->end && *ps->p == '\''
                            ? "expected a string in double quotes (is this Python's repr?)"
                            : "expected a string");
    const char *close = ps->p;
    while (close < ps->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= ps->end) return fail(ps, "unterminated string");
    char *out = arena_alloc(ps->arena, (size_t)(close - ps->p) + 1);
    size_t n = 0;
    while (*ps->p != '"') {
        unsigned char c = (unsigned char)*ps->p;
        uint32_t cp;
        if (c == '\\') {
            ps->p++;
            TRY(read_escape(ps, out, &n));
            continue;
        }
        if (c < 0x20) return fail(ps, "control character in a string");
        int bytes = utf8_decode(ps->p, (size_t)(ps->end - ps->p), &cp);
        if (bytes <= 0) return fail(ps, "invalid UTF-8");
        memcpy(out + n, ps->p, (size_t)bytes);
        n += (size_t)bytes;
        ps->p += bytes;
    }
    ps->p++;
    out[n] = '\0';
    *str = out;
    *len = n;
    return 0;
}

static void digits(struct parser *ps) {
    while (ps->p < ps->end && *ps->p >= '0' && *ps->p <= '9')
        ps->p++;
}

/* By the grammar of RFC 8259 and nothing else: strtod alone would also take hex, "inf" and a
 * leading plus. */
static int parse_number(struct parser *ps, struct json *v) {
    const char *start = ps->p;
    take_char(ps, '-');
    const char *first = ps->p;
    digits(ps);
    if (ps->p == first) {
        ps->p = start;
        return fail(ps, "expected a value");
    }
    if ((*first == '0' && ps->p - first > 1)) return fail(ps, "bad number");
    bool whole = true;
    if (take_char(ps, '.')) {
        const char *f = ps->p;
        digits(ps);
        if (ps->p == f) return fail(ps, "bad number");
        whole = false;
    }
    if (take_char(ps, 'e') || take_char(ps, 'E')) {
        if (!take_char(ps, '-')) take_char(ps, '+');
        const char *e = ps->p;
        digits(ps);
        if (ps->p == e) return fail(ps, "bad number");
        whole = false;
    }
    size_t n = (size_t)(ps->p - start);
    const char *text = arena_strndup(ps->arena, start, n);
    v->type = JSON_NUMBER;
    v->u.str = text;
    errno = 0;
    long long i = whole ? strtoll(text, NULL, 10) : 0;
    if (whole && errno == 0 && i > -INT_EXACT && i < INT_EXACT) {
        v->i = i;
        v->is_int = true;
    } else if (!(ps->options & JSON_ROW) && !isfinite(strtod(text, NULL))) {
        return fail(ps, "number out of range");
    }
    return 0;
}

static bool same_key(const struct json *a, const struct json *b) {
    return a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0;
}

/* The first of list whose key stands there before, NULL if none does. Small objects are compared
 * each with each; larger ones (a vocabulary has 150,000 keys) through a table of hashes. */
static const struct json *find_twice(const struct json *list, size_t n) {
    const struct json *found = NULL, **table;
    size_t size = 4;
    if (n <= FEW) {
        for (const struct json *m = list; m; m = m->next)
            for (const struct json *k = list; k != m; k = k->next)
                if (same_key(k, m)) return m;
        return NULL;
    }
    while (size < 2 * n)
        size *= 2;
    table = mem_zalloc(size * sizeof *table);
    for (const struct json *m = list; m && !found; m = m->next) {
        size_t at = (size_t)hash64(m->key, m->key_len, 0) & (size - 1);
        while (table[at] && !same_key(table[at], m))
            at = (at + 1) & (size - 1);
        if (table[at]) found = m;
        table[at] = m;
    }
    mem_free(table);
    return found;
}

/* Readers of JSON take the first, the last or any of two equal keys: none of them silently. The
 * members are read once more from start, so that the error names the place of the second. */
static int refuse_key_twice(struct parser *ps, const struct json *object, const char *start) {
    const struct json *twice = find_twice(object->u.child, object->len);
    if (!twice) return 0;
    ps->p = start;
    for (const struct json *m = object->u.child;; m = m->next) {
        struct json again = {0};
        skip_space(ps);
        if (m == twice) break;
        TRY(parse_string(ps, &again.key, &again.key_len));
        skip_space(ps);
        take_char(ps, ':');
        TRY(parse_value(ps, &again));
        skip_space(ps);
        take_char(ps, ',');
    }
    char *what = mem_printf("the key \"%.96s\" is there twice", twice->key);
    int rc = fail(ps, what);
    mem_free(what);
    return rc;
}

/* *tail is where the next member goes, so members keep the order of the text. After a failure the
 * arena goes as a whole: nothing is undone here. */
static int parse_container(struct parser *ps, struct json *v, bool object) {
    char closing = object ? '}' : ']';
    const struct json **tail = &v->u.child;
    v->type = object ? JSON_OBJECT : JSON_ARRAY;
    v->u.child = NULL;
    if (++ps->depth > JSON_DEPTH_MAX) return fail(ps, "nested deeper than 64 levels");
    const char *start = ++ps->p;
    skip_space(ps);
    for (bool closed = take_char(ps, closing); !closed;) {
        struct json *m = arena_alloc(ps->arena, sizeof *m);
        *m = (struct json){0};
        if (object) {
            skip_space(ps);
            TRY(parse_string(ps, &m->key, &m->key_len));
            skip_space(ps);
            if (!take_char(ps, ':')) return fail(ps, "expected ':'");
        }
        TRY(parse_value(ps, m));
        *tail = m;
        tail = &m->next;
        v->len++;
        skip_space(ps);
        closed = take_char(ps, closing);
        if (!closed && !take_char(ps, ','))
            return fail(ps, object ? "expected ',' or '}'" : "expected ',' or ']'");
    }
    ps->depth--;
    return object ? refuse_key_twice(ps, v, start) : 0;
}

static bool word(struct parser *ps, const char *w) {
    size_t n = strlen(w);
    if ((size_t)(ps->end - ps->p) < n || memcmp(ps->p, w, n) != 0) return false;
    ps->p += n;
    return true;
}

static int parse_value(struct parser *ps, struct json *v) {
    skip_space(ps);
    if (ps->p >= ps->end) return fail(ps, "unexpected end");
    switch (*ps->p) {
    case '{': return parse_container(ps, v, true);
    case '[': return parse_container(ps, v, false);
    case '"': v->type = JSON_STRING; return parse_string(ps, &v->u.str, &v->len);
    case 't':
    case 'f':
        v->type = JSON_BOOL;
        v->u.truth = *ps->p == 't';
        return word(ps, v->u.truth ? "true" : "false") ? 0 : fail(ps, "unknown word");
    case 'n': v->type = JSON_NULL; return word(ps, "null") ? 0 : fail(ps, "unknown word");
    default: return parse_number(ps, v);
    }
}

int json_parse_as(struct json_doc **out, const char *text, size_t n, const char *name,
                  unsigned options) {
    struct arena *arena = arena_open(n < 4096 ? 4096 : n < (1u << 20) ? n : 1u << 20);
    size_t bom = options & JSON_ROW ? 0 : filetype_bom(text, n);
    struct parser ps = {.text = text,
                        .p = text + bom,
                        .end = text + n,
                        .name = name,
                        .arena = arena,
                        .options = options};
    struct json *root = arena_alloc(arena, sizeof *root);
    *root = (struct json){0};
    int rc = parse_value(&ps, root);
    if (rc == 0) {
        skip_space(&ps);
        if (ps.p != ps.end) rc = fail(&ps, "text after the value");
    }
    if (rc < 0) {
        arena_close(&arena);
        return options & JSON_ROW ? rc : filetype_explain(rc, text, n, name, FILETYPE_JSON);
    }
    struct json_doc *doc = mem_alloc(sizeof *doc);
    *doc = (struct json_doc){.arena = arena, .root = root};
    *out = doc;
    return 0;
}

int json_parse(struct json_doc **out, const char *text, size_t n, const char *name) {
    return json_parse_as(out, text, n, name, 0);
}

int json_parse_file_as(struct json_doc **out, const char *path, size_t max_bytes,
                       unsigned options) {
    char *text;
    size_t n;
    TRY(filetype_explain_file(file_read(&text, &n, path, max_bytes), path, FILETYPE_JSON));
    int rc = json_parse_as(out, text, n, path, options);
    mem_free(text);
    return rc;
}

int json_parse_file(struct json_doc **out, const char *path, size_t max_bytes) {
    return json_parse_file_as(out, path, max_bytes, 0);
}

void json_close(struct json_doc **doc) {
    if (!*doc) return;
    arena_close(&(*doc)->arena);
    mem_free(*doc);
    *doc = NULL;
}

const struct json *json_root(const struct json_doc *doc) {
    return doc->root;
}

enum json_type json_type(const struct json *v) {
    return v ? v->type : JSON_NULL;
}

const char *json_type_name(enum json_type t) {
    static const char *const names[] = {"null",     "a boolean", "a number",
                                        "a string", "an array",  "an object"};
    return names[t];
}

bool json_is(const struct json *v, enum json_type t) {
    return v && v->type == t;
}

size_t json_len(const struct json *v) {
    return v ? v->len : 0;
}

const struct json *json_get(const struct json *object, const char *key) {
    if (!json_is(object, JSON_OBJECT)) return NULL;
    size_t n = strlen(key);
    for (const struct json *m = object->u.child; m; m = m->next)
        if (m->key_len == n && memcmp(m->key, key, n) == 0) return m;
    return NULL;
}

const struct json *json_first(const struct json *container) {
    if (!json_is(container, JSON_OBJECT) && !json_is(container, JSON_ARRAY)) return NULL;
    return container->u.child;
}

const struct json *json_next(const struct json *member) {
    return member ? member->next : NULL;
}

const char *json_key(const struct json *member, size_t *n) {
    if (n) *n = member->key_len;
    return member->key;
}

const char *json_str(const struct json *v) {
    return json_is(v, JSON_STRING) ? v->u.str : NULL;
}

bool json_bool(const struct json *v, bool otherwise) {
    return json_is(v, JSON_BOOL) ? v->u.truth : otherwise;
}

const char *json_number(const struct json *v) {
    return json_is(v, JSON_NUMBER) ? v->u.str : NULL;
}

double json_num(const struct json *v, double otherwise) {
    return json_is(v, JSON_NUMBER) ? strtod(v->u.str, NULL) : otherwise;
}

bool json_int(const struct json *v, int64_t *out) {
    if (!json_is(v, JSON_NUMBER) || !v->is_int) return false;
    *out = v->i;
    return true;
}

/* The member, or ERR_NOTFOUND / ERR_CORRUPT. */
static int typed(const struct json **out, const struct json *object, const char *key,
                 enum json_type t, const char *name) {
    const struct json *v = json_get(object, key);
    if (json_type(v) == JSON_NULL) return FAIL(ERR_NOTFOUND, "%s: %s is missing", name, key);
    if (v->type != t)
        return FAIL(ERR_CORRUPT, "%s: %s must be %s, it is %s", name, key, json_type_name(t),
                    json_type_name(v->type));
    *out = v;
    return 0;
}

int json_read_int(int64_t *out, const struct json *object, const char *key, int64_t min,
                  int64_t max, const char *name) {
    const struct json *v;
    TRY(typed(&v, object, key, JSON_NUMBER, name));
    if (!v->is_int)
        return FAIL(ERR_CORRUPT, "%s: %s must be a whole number, it is %s", name, key, v->u.str);
    if (v->i < min || v->i > max)
        return FAIL(ERR_CORRUPT, "%s: %s is %" PRId64 ", allowed is %" PRId64 "..%" PRId64, name,
                    key, v->i, min, max);
    *out = v->i;
    return 0;
}

int json_read_num(double *out, const struct json *object, const char *key, double min, double max,
                  const char *name) {
    const struct json *v;
    TRY(typed(&v, object, key, JSON_NUMBER, name));
    double x = json_num(v, 0);
    if (x < min || x > max)
        return FAIL(ERR_CORRUPT, "%s: %s is %s, allowed is %g..%g", name, key, v->u.str, min, max);
    *out = x;
    return 0;
}

int json_read_str(const char **out, const struct json *object, const char *key, const char *name) {
    const struct json *v;
    TRY(typed(&v, object, key, JSON_STRING, name));
    *out = v->u.str;
    return 0;
}

int json_read_bool(bool *out, const struct json *object, const char *key, const char *name) {
    const struct json *v;
    TRY(typed(&v, object, key, JSON_BOOL, name));
    *out = v->u.truth;
    return 0;
}
