/* pattern.c - regex and format share one engine, PCRE2 in its interpreter: the match limit then
 * counts the same steps on every machine, so a pattern that explodes fails the same way everywhere
 * (the just-in-time compiler counts differently). A limit that is hit is ERR_TIMEOUT, never "no
 * match": a runaway pattern must not look like a wrong answer.
 *
 * The searched text may hold invalid UTF-8; such bytes match nothing. Match data lives for one run,
 * because several threads may share the compiled pattern. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "reward/verify/verify_type.h"

#include "base/mem.h"
#include "base/textfold.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>

enum {
    MATCH_LIMIT = 1000000, /* steps; about 20-100 ms */
    DEPTH_LIMIT = 100000,  /* nested backtracking points */
    HEAP_LIMIT = 32 * 1024 /* KiB */
};

struct state {
    pcre2_code *code;
    pcre2_match_context *limits;
    uint32_t group; /* number of the group called answer, 0: none */
    bool ignore_case;
};

static void *pattern_alloc(PCRE2_SIZE n, void *unused) {
    (void)unused;
    return mem_alloc(n);
}

static void pattern_free(void *p, void *unused) {
    (void)unused;
    mem_free(p);
}

static void close_state(void *state) {
    struct state *s = state;
    pcre2_match_context_free(s->limits);
    pcre2_code_free(s->code);
    mem_free(s);
}

/* The limits hold for each match: a pattern such as (a+)+$ ends with an error, in the same number
 * of steps on every machine, instead of holding up the worker. */
static int compile_pcre(struct state *s, const char *pattern) {
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C;
    pcre2_general_context *general =
        pcre2_general_context_create(pattern_alloc, pattern_free, NULL);
    pcre2_compile_context *context = pcre2_compile_context_create(general);
    int code = 0;
    PCRE2_SIZE at = 0;
    if (s->ignore_case) options |= PCRE2_CASELESS;
    s->code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, context);
    s->limits = pcre2_match_context_create(general);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (!s->code) {
        unsigned char text[128];
        pcre2_get_error_message(code, text, sizeof text);
        return FAIL(ERR_CONFIG, "pattern \"%.80s\" does not compile: %s at byte %zu", pattern,
                    (const char *)text, (size_t)at);
    }
    pcre2_set_match_limit(s->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(s->limits, DEPTH_LIMIT);
    pcre2_set_heap_limit(s->limits, HEAP_LIMIT);
    return 0;
}

static int open_pattern(void **state, const struct verify_spec *spec, bool captures) {
    int rc = 0;
    struct state *s = mem_zalloc(sizeof *s);
    s->ignore_case = spec->ignore_case;
    TRY_OUT(compile_pcre(s, spec->pattern));
    int group = pcre2_substring_number_from_name(s->code, (PCRE2_SPTR) "answer");
    if (group == PCRE2_ERROR_NOUNIQUESUBSTRING)
        TRY_OUT(FAIL(ERR_CONFIG, "pattern has more than one group called answer"));
    if (captures && group > 0) s->group = (uint32_t)group;
    *state = s;
    s = NULL;
out:
    if (s) close_state(s);
    return rc;
}

static int open_regex(void **state, const struct verify_spec *spec) {
    return open_pattern(state, spec, true);
}

static int open_format(void **state, const struct verify_spec *spec) {
    return open_pattern(state, spec, false);
}

static int match_error(int code) {
    unsigned char text[128];
    if (code == PCRE2_ERROR_MATCHLIMIT)
        return FAIL(ERR_TIMEOUT, "the pattern took more than %d steps on this response",
                    MATCH_LIMIT);
    if (code == PCRE2_ERROR_DEPTHLIMIT)
        return FAIL(ERR_TIMEOUT, "the pattern nested deeper than %d on this response", DEPTH_LIMIT);
    if (code == PCRE2_ERROR_HEAPLIMIT || code == PCRE2_ERROR_NOMEMORY)
        return FAIL(ERR_NOMEM, "the pattern took more than %d KiB on this response", HEAP_LIMIT);
    pcre2_get_error_message(code, text, sizeof text);
    return FAIL(ERR_CORRUPT, "the match failed: %s", (const char *)text);
}

/* Whether s[0..n) is the answer, both folded. */
static int compare_group(const struct state *s, const char *found, size_t n, const char *answer,
                         double *value) {
    size_t m;
    char *want = textfold(answer, strlen(answer), s->ignore_case, &m);
    if (m == 0) {
        mem_free(want);
        return FAIL(ERR_CORRUPT, "the reference answer is blank");
    }
    char *got = textfold(found, n, s->ignore_case, NULL);
    *value = strcmp(got, want) == 0 ? 1 : 0;
    mem_free(got);
    mem_free(want);
    return 0;
}

/* A group that took no part in the match, or ends before it begins (\K), is no answer. */
static int run_regex(const void *state, const struct verify_input *in, double *value,
                     char *reason) {
    const struct state *s = state;
    int rc = 0;
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(s->code, NULL);
    int code =
        pcre2_match(s->code, (PCRE2_SPTR)in->response, strlen(in->response), 0, 0, data, s->limits);
    if (code < 0 && code != PCRE2_ERROR_NOMATCH) TRY_OUT(match_error(code));
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(data) + 2 * (size_t)s->group;
    bool matched = code > 0;
    if (matched && (range[0] == PCRE2_UNSET || range[1] < range[0])) matched = s->group == 0;
    if (!matched) {
        *value = 0;
        snprintf(reason, VERIFY_REASON, "no match");
    } else if (s->group == 0) {
        *value = 1;
    } else {
        TRY_OUT(compare_group(s, in->response + range[0], range[1] - range[0], in->answer, value));
    }
out:
    pcre2_match_data_free(data);
    return rc;
}

/* Only a pattern that captures an answer looks at the reference. */
static int check_regex(const void *state, const char *answer) {
    const struct state *s = state;
    double value;
    return s->group == 0 ? 0 : compare_group(s, "", 0, answer, &value);
}

const struct verify_type pattern_regex_type = {
    .name = "regex",
    .doc = "pattern matches; if it has a group (?<answer>...), what that matched is the answer",
    .uses = VERIFY_USES_PATTERN | VERIFY_USES_CASE | VERIFY_USES_AFTER,
    .open = open_regex,
    .close = close_state,
    .run = run_regex,
    .check = check_regex,
};

const struct verify_type pattern_format_type = {
    .name = "format",
    .doc = "pattern matches somewhere in the response; the answer is not looked at",
    .uses = VERIFY_USES_PATTERN | VERIFY_USES_CASE,
    .open = open_format,
    .close = close_state,
    .run = run_regex,
};
