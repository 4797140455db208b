/* tokenizer_regex.c - see tokenizer_regex.h. The only file that includes pcre2.h.
 *
 * Patterns come from a file that may be hostile, so a match has limits on steps and memory; running
 * into one is an error that names the field, never a wrong split. The compiled form uses the JIT
 * where the library has it; a match that exhausts the JIT's stack is repeated by the interpreter,
 * whose memory is bounded by HEAP_KIB. A literal text needs no engine at all: memmem finds it. */
#include "actor/text/tokenizer_regex.h"

#include "base/buf.h"
#include "base/mem.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

enum {
    MATCH_STEPS = 10000000, /* the reference's own limit on retries in one match */
    HEAP_KIB = 256 * 1024,
    JIT_STACK_MIN = 32 * 1024,
    JIT_STACK_MAX = 8 * 1024 * 1024,
    PATTERN_MAX = 64 * 1024, /* bytes of a pattern in tokenizer.json */
};

struct tokenizer_regex {
    pcre2_code *code; /* NULL for a literal */
    char *literal;
    size_t literal_len;
    char *where;
};

struct tokenizer_regex_scan {
    pcre2_general_context *general;
    pcre2_match_context *context;
    pcre2_match_data *data;
    pcre2_jit_stack *stack;
};

static void *lib_alloc(size_t bytes, void *unused) {
    (void)unused;
    return mem_alloc(bytes);
}

static void lib_free(void *p, void *unused) {
    (void)unused;
    mem_free(p);
}

void tokenizer_regex_cuts_add(struct tokenizer_cuts *c, size_t start, size_t end, bool hit) {
    mem_grow(&c->v, &c->cap, c->n + 1, sizeof *c->v);
    c->v[c->n++] = (struct tokenizer_cut){start, end, hit};
}

static int compile_pattern(pcre2_code **out, const char *pattern, size_t n, const char *where) {
    pcre2_general_context *general = pcre2_general_context_create(lib_alloc, lib_free, NULL);
    pcre2_compile_context *context = pcre2_compile_context_create(general);
    ASSERT(general && context);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    size_t offset;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, n, options, &code, &offset, context);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (!re) {
        char text[160];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        return FAIL(ERR_CORRUPT, "%s: bad regular expression: %s", where, text);
    }
    /* Without a JIT (not built in, or no executable memory) the interpreter gives the same result.
     */
    if (pcre2_jit_compile(re, PCRE2_JIT_COMPLETE) < 0) { /* nothing to undo */
    }
    *out = re;
    return 0;
}

int tokenizer_regex_open(struct tokenizer_regex **out, const char *pattern, size_t n,
                         const char *where) {
    struct buf b = {0};
    pcre2_code *code = NULL;
    if (n > PATTERN_MAX)
        return FAIL(ERR_CORRUPT, "%s: regular expression of %zu bytes, the limit is %d", where, n,
                    PATTERN_MAX);
    int rc = tokenizer_onig_translate(&b, pattern, n, where);
    if (rc == 0) rc = compile_pattern(&code, b.data ? b.data : "", b.len, where);
    buf_close(&b);
    if (rc < 0) return rc;
    struct tokenizer_regex *re = mem_zalloc(sizeof *re);
    re->code = code;
    re->where = mem_strdup(where);
    *out = re;
    return 0;
}

int tokenizer_regex_open_literal(struct tokenizer_regex **out, const char *text, size_t n,
                                 const char *where) {
    if (n == 0) return FAIL(ERR_UNSUP, "%s: an empty pattern is not supported", where);
    struct tokenizer_regex *re = mem_zalloc(sizeof *re);
    re->literal = mem_strndup(text, n);
    re->literal_len = n;
    re->where = mem_strdup(where);
    *out = re;
    return 0;
}

void tokenizer_regex_close(struct tokenizer_regex **re) {
    if (!*re) return;
    pcre2_code_free((*re)->code);
    mem_free((*re)->literal);
    mem_free((*re)->where);
    mem_free(*re);
    *re = NULL;
}

struct tokenizer_regex_scan *tokenizer_regex_scan_open(void) {
    return mem_zalloc(sizeof(struct tokenizer_regex_scan));
}

void tokenizer_regex_scan_close(struct tokenizer_regex_scan **scan) {
    if (!*scan) return;
    pcre2_match_data_free((*scan)->data);
    pcre2_match_context_free((*scan)->context);
    pcre2_jit_stack_free((*scan)->stack);
    pcre2_general_context_free((*scan)->general);
    mem_free(*scan);
    *scan = NULL;
}

/* On first use: many texts never need the engine. */
static void prepare_pattern(struct tokenizer_regex_scan *scan) {
    if (scan->general) return;
    scan->general = pcre2_general_context_create(lib_alloc, lib_free, NULL);
    scan->context = pcre2_match_context_create(scan->general);
    scan->data = pcre2_match_data_create(1, scan->general);
    ASSERT(scan->context && scan->data);
    scan->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, scan->general);
    pcre2_set_match_limit(scan->context, MATCH_STEPS);
    pcre2_set_heap_limit(scan->context, HEAP_KIB);
    if (scan->stack) pcre2_jit_stack_assign(scan->context, NULL, scan->stack);
}

/* 1: found, at *start..*end. 0: no match at or after from. */
static int search(const struct tokenizer_regex *re, struct tokenizer_regex_scan *scan,
                  const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    PCRE2_SPTR subject = (PCRE2_SPTR)s;
    int got =
        pcre2_match(re->code, subject, n, from, PCRE2_NO_UTF_CHECK, scan->data, scan->context);
    if (got == PCRE2_ERROR_JIT_STACKLIMIT)
        got = pcre2_match(re->code, subject, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scan->data,
                          scan->context);
    if (got == PCRE2_ERROR_NOMATCH) return 0;
    if (got < 0) {
        char text[160];
        pcre2_get_error_message(got, (PCRE2_UCHAR *)text, sizeof text);
        return FAIL(ERR_CORRUPT, "%s: the regular expression gives up on a text of %zu bytes: %s",
                    re->where, n, text);
    }
    const size_t *at = pcre2_get_ovector_pointer(scan->data);
    *start = at[0];
    *end = at[1];
    return 1;
}

static size_t char_bytes(const char *s) {
    unsigned char c = (unsigned char)*s;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

static void cut_literal(const struct tokenizer_regex *re, const char *s, size_t n,
                        struct tokenizer_cuts *out) {
    size_t prev = 0;
    const char *hit;
    while (prev < n && (hit = memmem(s + prev, n - prev, re->literal, re->literal_len))) {
        size_t at = (size_t)(hit - s);
        if (at != prev) tokenizer_regex_cuts_add(out, prev, at, false);
        prev = at + re->literal_len;
        tokenizer_regex_cuts_add(out, at, prev, true);
    }
    if (prev != n) tokenizer_regex_cuts_add(out, prev, n, false);
}

/* As the reference iterates: an empty match right after the last match does not count, the search
 * then goes on one character later. */
int tokenizer_regex_cut(const struct tokenizer_regex *re, struct tokenizer_regex_scan *scan,
                        const char *s, size_t n, struct tokenizer_cuts *out) {
    out->n = 0;
    if (n == 0) {
        tokenizer_regex_cuts_add(out, 0, 0, false);
        return 0;
    }
    if (re->literal) {
        cut_literal(re, s, n, out);
        return 0;
    }
    prepare_pattern(scan);
    size_t from = 0, prev = 0, start = 0, end = 0;
    bool any = false;
    while (from <= n) {
        int got = search(re, scan, s, n, from, &start, &end);
        if (got < 0) return got;
        if (got == 0) break;
        if (start == end && any && end == prev) {
            from += from < n ? char_bytes(s + from) : 1;
            continue;
        }
        if (start != prev) tokenizer_regex_cuts_add(out, prev, start, false);
        tokenizer_regex_cuts_add(out, start, end, true);
        prev = from = end;
        any = true;
    }
    if (prev != n) tokenizer_regex_cuts_add(out, prev, n, false);
    return 0;
}
