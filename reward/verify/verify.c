/* verify.c - the table of verifier types, and what they have in common: parameters are checked
 * against the type, the answer's presence before a run, scores are weighted and summed after it.
 * The types stay small because of that: each sees valid parameters and texts that are not NULL.
 *
 * A score is a training signal, so the difference between "wrong" and "could not be judged" is kept
 * to the end: the first error of a set makes the whole result an error. A partial sum would be a
 * reward on another scale. */
#include "reward/verify/verify.h"

#include "base/mem.h"
#include "base/nearest.h"
#include "base/utf8.h"
#include "reward/verify/reasoning.h"
#include "reward/verify/verify_type.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TYPES_MAX = 32 };

#define ADDRESS(type) &type,
static const struct verify_type *types[TYPES_MAX] = {VERIFY_TYPES(ADDRESS)};
#define ONE(type) +1
static size_t n_types = VERIFY_TYPES(ONE);

struct entry {
    const struct verify_type *type;
    char name[VERIFY_NAME];
    double weight;
    bool sees_all; /* the reasoning too */
    char *after;   /* as in the spec, or NULL */
    void *state;
};

struct verify {
    size_t n;
    struct entry entry[VERIFY_MAX];
};

void verify_register(const struct verify_type *type) {
    ASSERT(n_types < TYPES_MAX);
    types[n_types++] = type;
}

const char *verify_types(size_t i, const char **doc) {
    if (i >= n_types) return NULL;
    if (doc) *doc = types[i]->doc;
    return types[i]->name;
}

bool verify_is_graded(const char *type) {
    for (size_t t = 0; t < n_types; t++)
        if (strcmp(types[t]->name, type) == 0) return types[t]->graded;
    return true;
}

/* i: place in the reward list, for the error text. */
static int find_type(const struct verify_type **out, const char *name, size_t i) {
    const char *names[TYPES_MAX];
    if (!name || !*name) return FAIL(ERR_CONFIG, "reward[%zu]: type is missing", i);
    for (size_t t = 0; t < n_types; t++) {
        names[t] = types[t]->name;
        if (strcmp(names[t], name) != 0) continue;
        *out = types[t];
        return 0;
    }
    return FAIL(ERR_CONFIG, "reward[%zu]: unknown type \"%.40s\"; the nearest known one is \"%s\"",
                i, name, nearest_word(name, names, n_types));
}

/* The keys that not every type reads. */
static const struct verify_key {
    unsigned bit;
    const char *name;
} keys[] = {{VERIFY_USES_PATTERN, "pattern"},   {VERIFY_USES_AFTER, "after"},
            {VERIFY_USES_FLEXIBLE, "flexible"}, {VERIFY_USES_CASE, "ignore_case"},
            {VERIFY_USES_WORD, "whole_word"},   {VERIFY_USES_TOKENS, "min_tokens"},
            {VERIFY_USES_TOKENS, "max_tokens"}, {VERIFY_USES_TOKENS, "buffer_tokens"},
            {VERIFY_USES_TOKENS, "penalty"}};
enum { N_KEYS = sizeof keys / sizeof keys[0] };

void verify_document(struct buf *out) {
    for (size_t t = 0; t < n_types; t++) {
        const char *before = "";
        buf_printf(out, "| `%s` | ", types[t]->name);
        for (size_t k = 0; k < N_KEYS; k++) {
            if (!(types[t]->uses & keys[k].bit)) continue;
            buf_printf(out, "%s`%s`", before, keys[k].name);
            before = ", ";
        }
        buf_printf(out, " | %s |\n", types[t]->doc);
    }
}

/* Refuses what the type would silently ignore. */
static int check_unused(const struct verify_type *t, const struct verify_spec *s, size_t i) {
    const bool given[N_KEYS] = {s->pattern && *s->pattern,
                                s->after != NULL,
                                s->flexible,
                                s->ignore_case,
                                s->whole_word,
                                s->min_tokens != 0,
                                s->max_tokens != 0,
                                s->buffer_tokens != 0,
                                !(s->penalty >= 0 && s->penalty <= 0) &&
                                    !(s->penalty >= 1 && s->penalty <= 1)};
    for (size_t k = 0; k < N_KEYS; k++)
        if (given[k] && !(t->uses & keys[k].bit))
            return FAIL(ERR_CONFIG, "reward[%zu]: type %s has no setting %s", i, t->name,
                        keys[k].name);
    if ((t->uses & VERIFY_USES_PATTERN) && !given[0])
        return FAIL(ERR_CONFIG, "reward[%zu]: type %s needs a pattern", i, t->name);
    return 0;
}

/* Names become keys of logs and metrics, so their letters are restricted and no two are alike. */
static int set_name(struct verify *v, struct entry *e, const char *name, size_t i) {
    size_t n = strlen(name);
    if (n == 0 || n >= VERIFY_NAME)
        return FAIL(ERR_CONFIG, "reward[%zu]: name has %zu bytes, allowed 1 to %d", i, n,
                    VERIFY_NAME - 1);
    if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != n)
        return FAIL(ERR_CONFIG, "reward[%zu]: name \"%s\" may hold letters, digits, _ . - only", i,
                    name);
    for (size_t k = 0; k < v->n; k++)
        if (strcmp(v->entry[k].name, name) == 0)
            return FAIL(ERR_CONFIG, "reward[%zu] and reward[%zu] are both called %s; set name", k,
                        i, name);
    memcpy(e->name, name, n + 1);
    return 0;
}

/* What of a response the entry sees. A pattern that speaks of the closing mark was written for the
 * whole response: cut, it could never match. */
static int set_after(struct entry *e, const struct verify_spec *s, size_t i) {
    size_t n = s->after ? strlen(s->after) : 0;
    if (n >= REASONING_MARK)
        return FAIL(ERR_CONFIG, "reward[%zu]: after has %zu bytes, allowed up to %d", i, n,
                    REASONING_MARK - 1);
    e->sees_all = !(e->type->uses & VERIFY_USES_AFTER) ||
                  (s->pattern && reasoning_is_named(s->pattern, s->after));
    e->after = s->after ? mem_strndup(s->after, n) : NULL;
    return 0;
}

static void close_entry(struct entry *e) {
    if (e->state && e->type->close) e->type->close(e->state);
    mem_free(e->after);
}

/* v->n grows last: a failed entry is never closed. */
static int add_verifier(struct verify *v, const struct verify_spec *s, size_t i) {
    struct entry *e = &v->entry[v->n];
    TRY(find_type(&e->type, s->type, i));
    TRY(check_unused(e->type, s, i));
    TRY(set_name(v, e, s->name ? s->name : s->type, i));
    if (!isfinite(s->weight))
        return FAIL(ERR_CONFIG, "reward[%zu]: weight must be a finite number", i);
    e->weight = s->weight;
    if (e->type->open) TRY(err_wrap(e->type->open(&e->state, s), "reward[%zu] (%s)", i, s->type));
    v->n++;
    TRY(set_after(e, s, i));
    return 0;
}

int verify_open(struct verify **out, const struct verify_spec *specs, size_t n) {
    int rc = 0;
    struct verify *v = mem_zalloc(sizeof *v);
    if (n == 0 || n > VERIFY_MAX)
        TRY_OUT(FAIL(ERR_CONFIG, "reward: %zu entries, allowed 1 to %d", n, VERIFY_MAX));
    for (size_t i = 0; i < n; i++)
        TRY_OUT(add_verifier(v, &specs[i], i));
    *out = v;
    v = NULL;
out:
    verify_close(&v);
    return rc;
}

void verify_close(struct verify **v) {
    if (!*v) return;
    for (size_t i = 0; i < (*v)->n; i++)
        close_entry(&(*v)->entry[i]);
    mem_free(*v);
    *v = NULL;
}

/* Appends "name: text" to the reason: printable, valid UTF-8, cut at a character. */
static void add_reason(struct verify_result *out, const char *name, const char *text) {
    char line[VERIFY_NAME + 2 * VERIFY_REASON];
    size_t used = strlen(out->reason), n, step;
    snprintf(line, sizeof line, "%s%s: %s", used ? "; " : "", name, text);
    n = strlen(line);
    for (size_t i = 0; i < n; i += step) {
        uint32_t cp;
        int len = utf8_decode(line + i, n - i, &cp);
        bool plain = len > 0 && cp >= 0x20 && cp != 0x7f;
        step = len > 0 ? (size_t)len : 1;
        if (used + step >= VERIFY_REASON) break;
        if (plain)
            memcpy(out->reason + used, line + i, step);
        else
            out->reason[used] = ' ';
        used += plain ? step : 1;
    }
    out->reason[used] = 0;
}

/* One verifier, with the checks that every type needs. Where the reasoning is not closed the type
 * still runs, on nothing, so that a reference that cannot judge is an error on every response. */
static int run_entry(const struct entry *e, const struct verify_input *in, double *value,
                     char *reason) {
    if (e->type->needs_answer && !*in->answer)
        return FAIL(ERR_CORRUPT, "the row has no reference answer");
    struct verify_input seen = *in;
    const char *end =
        e->sees_all ? in->response : reasoning_end(in->prompt, in->response, e->after);
    seen.response = end ? end : "";
    TRY(e->type->run(e->state, &seen, value, reason));
    if (!end) {
        *value = 0;
        if (reasoning_lacks(in->response, e->after))
            snprintf(reason, VERIFY_REASON, "no answer: \"%.100s\" (after) is not in the response",
                     e->after);
        else
            snprintf(reason, VERIFY_REASON, "no answer: the reasoning is not closed");
    }
    if (!isfinite(*value)) return FAIL(ERR_CORRUPT, "the score is not a finite number");
    return 0;
}

static int check_entry(const struct entry *e, const char *answer) {
    struct verify_input in = {.prompt = "", .response = "", .answer = answer, .max_tokens = 1};
    char reason[VERIFY_REASON] = "";
    double value;
    if (e->type->check) return e->type->check(e->state, answer);
    return e->type->needs_answer ? run_entry(e, &in, &value, reason) : 0;
}

int verify_check(const struct verify *v, const char *answer) {
    for (size_t i = 0; i < v->n; i++)
        TRY(err_wrap(check_entry(&v->entry[i], answer), "%s", v->entry[i].name));
    return 0;
}

static bool too_long(const char *s) {
    return strnlen(s, VERIFY_TEXT_MAX + 1) > VERIFY_TEXT_MAX;
}

/* An error empties the result: scores that were computed before it would be a sum on another scale.
 */
void verify_run(const struct verify *v, const struct verify_input *in, struct verify_result *out) {
    struct verify_input safe = *in;
    if (!safe.prompt) safe.prompt = "";
    if (!safe.response) safe.response = "";
    if (!safe.answer) safe.answer = "";
    memset(out, 0, sizeof *out);
    if (too_long(safe.prompt) || too_long(safe.response) || too_long(safe.answer)) {
        out->error = ERR_CORRUPT;
        snprintf(out->reason, sizeof out->reason, "a text is longer than %d bytes",
                 VERIFY_TEXT_MAX);
        return;
    }
    for (size_t i = 0; i < v->n; i++) {
        const struct entry *e = &v->entry[i];
        struct verify_score *score = &out->scores[i];
        char reason[VERIFY_REASON] = "";
        memcpy(score->name, e->name, sizeof score->name);
        int rc = run_entry(e, &safe, &score->value, reason);
        if (rc < 0) {
            memset(out, 0, sizeof *out);
            out->error = rc;
            add_reason(out, e->name, err_text());
            return;
        }
        if (*reason) add_reason(out, e->name, reason);
        out->total += e->weight * score->value;
        out->n_scores++;
    }
}
