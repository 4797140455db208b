/* mathans.c - three steps: find the final answer in both texts (answer), read both as structures
 * of exact values (mathparse), compare the structures. Text that is equal after dropping LaTeX's
 * spacing is equal without being read.
 *
 * Who is blamed when something cannot be read decides the score. A response that cannot be read is
 * wrong: 0. A reference that cannot be read, and is not the same text as the response, cannot
 * judge: ERR_UNSUP, so that a row of data never silently scores zero for everyone.
 *
 * "1,234" may be a number or a list; both readings are tried, each for both sides alike. */
#include "reward/mathans.h"

#include "base/buf.h"
#include "reward/answer.h"
#include "reward/mathlex.h"
#include "reward/mathparse.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef const struct mathparse_node *node;

/* ---- comparing structures: 1 equal, 0 not, -1 too large to tell ---- */

static int same(struct algebra *g, node a, node b);

static int same_in_order(struct algebra *g, node a, node b) {
    if (a->n != b->n) return 0;
    for (size_t i = 0; i < a->n; i++) {
        int s = same(g, a->item[i], b->item[i]);
        if (s != 1) return s;
    }
    return 1;
}

/* Each item of a is one of b's. */
static int within(struct algebra *g, node a, node b) {
    for (size_t i = 0; i < a->n; i++) {
        int found = 0;
        for (size_t j = 0; j < b->n && found == 0; j++)
            found = same(g, a->item[i], b->item[j]);
        if (found != 1) return found;
    }
    return 1;
}

static int same_any_order(struct algebra *g, node a, node b) {
    int s = within(g, a, b);
    return s == 1 ? within(g, b, a) : s;
}

/* 50% is 50%, 50 or 0.5 where the other side has no percent sign. */
static int same_value(struct algebra *g, node a, node b) {
    int s = algebra_equal(g, a->value, b->value);
    if (s != 0 || a->percent == b->percent) return s;
    node percent = a->percent ? a : b, plain = a->percent ? b : a;
    return algebra_equal(g, algebra_div(g, percent->value, algebra_int(g, 100)), plain->value);
}

static char mirrored(char op) {
    switch (op) {
    case '<': return '>';
    case '>': return '<';
    case MATHLEX_LE: return MATHLEX_GE;
    case MATHLEX_GE: return MATHLEX_LE;
    default: return op;
    }
}

/* Also read from the right: 5 > x is x < 5. A ratio has a direction. */
static int same_relation(struct algebra *g, node a, node b) {
    int forward = 1, backward = 1;
    if (a->n != b->n) return 0;
    for (size_t i = 0; i + 1 < a->n; i++) {
        char back = mirrored(b->op[b->n - 2 - i]);
        if (a->op[i] != b->op[i]) forward = 0;
        if (a->op[i] != back || back == ':') backward = 0;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (forward == 1) forward = same(g, a->item[i], b->item[i]);
        if (backward == 1) backward = same(g, a->item[i], b->item[b->n - 1 - i]);
    }
    return forward == 1 || backward == 1 ? 1 : forward < 0 || backward < 0 ? -1 : 0;
}

/* What stands behind "x =", unless the other side names something too. */
static node without_name(node a, node other) {
    bool strip = a->kind == MATHPARSE_RELATION && a->named && a->n == 2 && a->op[0] == '=' &&
                 other->kind != MATHPARSE_RELATION;
    return strip ? a->item[1] : a;
}

static bool is_unordered(node a) {
    return a->kind == MATHPARSE_LIST || a->kind == MATHPARSE_SET;
}

static int same(struct algebra *g, node a, node b) {
    node x = without_name(a, b), y = without_name(b, a);
    if (is_unordered(x) && is_unordered(y)) return same_any_order(g, x, y);
    if (x->kind != y->kind) return 0;
    switch (x->kind) {
    case MATHPARSE_VALUE: return same_value(g, x, y);
    case MATHPARSE_TUPLE:
        return x->open == y->open && x->close == y->close ? same_in_order(g, x, y) : 0;
    case MATHPARSE_MATRIX: return x->cols == y->cols ? same_in_order(g, x, y) : 0;
    case MATHPARSE_UNION: return same_any_order(g, x, y);
    case MATHPARSE_RELATION: return same_relation(g, x, y);
    default: return 0;
    }
}

/* ---- comparing texts ---- */

/* Bytes of the first of list that s starts with and that does not go on as a longer command. */
static size_t prefix(const char *const *list, const char *s) {
    for (; *list; list++) {
        size_t n = strlen(*list);
        if (strncmp(s, *list, n) != 0) continue;
        if (!isalpha((unsigned char)(*list)[n - 1]) || !isalpha((unsigned char)s[n])) return n;
    }
    return 0;
}

static bool between_digits(const struct buf *out, const char *s) {
    return out->len > 0 && isdigit((unsigned char)out->data[out->len - 1]) &&
           isdigit((unsigned char)s[strspn(s, " \t\r\n")]);
}

/* The text without spacing (except between digits), dollar signs and text commands with their
 * braces; \dfrac as \frac. */
static void normalize(struct buf *out, const char *s) {
    static const char *const spacing[] = {"\\left", "\\right", "\\!", "\\,", "\\;",
                                          "\\ ",    "\\$",     "$",   NULL};
    static const char *const texts[] = {"\\text{",   "\\mathrm{", "\\mbox{",   "\\textbf{",
                                        "\\mathbf{", "\\textrm{", "\\textit{", NULL};
    size_t depth = 0, n;
    uint64_t dropped = 0; /* bit d: the brace opened at depth d was a text command's */
    buf_reset(out);
    while (*s) {
        if ((n = prefix(texts, s)) > 0 && depth < 64) {
            dropped |= (uint64_t)1 << depth++;
        } else if ((n = prefix(spacing, s)) == 0) {
            n = 1;
            if (*s == '{' && depth < 64) dropped &= ~((uint64_t)1 << depth++);
            bool skip = *s == '}' && depth > 0 && (dropped >> --depth & 1);
            if (strncmp(s, "\\dfrac", 6) == 0 || strncmp(s, "\\tfrac", 6) == 0) {
                buf_str(out, "\\frac");
                n = 6;
            } else if (isspace((unsigned char)*s)) {
                if (between_digits(out, s)) buf_str(out, " ");
            } else if (!skip) {
                buf_add(out, s, 1);
            }
        }
        s += n;
    }
    buf_str(out, "");
}

/* Only letters and digits, in lower case. */
static void letters(struct buf *out, const char *s) {
    buf_reset(out);
    for (; *s; s++)
        if (isalnum((unsigned char)*s) || (unsigned char)*s >= 0x80) {
            char c = (char)tolower((unsigned char)*s);
            buf_add(out, &c, 1);
        }
    buf_str(out, "");
}

static const char *text_of(const struct buf *b) {
    return b->data ? b->data : "";
}

/* plain: words may differ in case and punctuation. */
static bool same_text(const char *a, const char *b, bool plain) {
    struct buf x = {0}, y = {0}, p = {0}, q = {0};
    normalize(&x, a);
    normalize(&y, b);
    bool equal = strcmp(text_of(&x), text_of(&y)) == 0 && x.len > 0;
    if (plain && !equal) {
        letters(&p, text_of(&x));
        letters(&q, text_of(&y));
        equal = strcmp(text_of(&p), text_of(&q)) == 0 && p.len > 0;
    }
    buf_close(&x);
    buf_close(&y);
    buf_close(&p);
    buf_close(&q);
    return equal;
}

/* A word of three letters or more, or "no": a product of one-letter variables is rarely that long.
 */
static bool is_word(const char *s) {
    struct buf x = {0};
    normalize(&x, s);
    size_t n = 0;
    bool other = false;
    for (size_t i = 0; i < x.len; i++) {
        n += isalpha((unsigned char)x.data[i]) != 0;
        other = other || (!isalpha((unsigned char)x.data[i]) && x.data[i] != '.');
    }
    bool no = n == 2 && strncasecmp(text_of(&x), "no", 2) == 0;
    buf_close(&x);
    return !other && (n >= 3 || no);
}

/* ---- the verdict ---- */

enum verdict { VERDICT_WRONG, VERDICT_RIGHT, VERDICT_UNREADABLE, VERDICT_TEXT };

/* One reading of both. UNREADABLE: the reference; TEXT: the reference is words. */
static enum verdict judge(const char *want, const char *got, bool commas, const char **why) {
    struct arena *arena = arena_open(1 << 16);
    struct algebra *g = algebra_init(arena);
    node a = mathparse_read(g, arena, want, commas);
    enum verdict v = VERDICT_UNREADABLE;
    if (a && a->kind == MATHPARSE_TEXT) {
        v = VERDICT_TEXT;
    } else if (a && same(g, a, a) == 1) {
        node b = mathparse_read(g, arena, got, commas);
        int s = b ? same(g, a, b) : 0;
        v = s == 1 ? VERDICT_RIGHT : VERDICT_WRONG;
        *why = s == 0 ? "is not" : "is too large to compare with";
        if (!b) *why = "cannot be read as an answer like";
    }
    arena_close(&arena);
    return v;
}

static int verdict(const char *want, const char *got, double *value, char *reason) {
    const char *why = "is not";
    enum verdict v = VERDICT_UNREADABLE;
    if (same_text(want, got, is_word(want) && is_word(got))) v = VERDICT_RIGHT;
    for (int commas = 1; commas >= 0 && v != VERDICT_RIGHT && v != VERDICT_TEXT; commas--) {
        enum verdict w = judge(want, got, commas, &why);
        if (w != VERDICT_UNREADABLE) v = w;
    }
    if (v == VERDICT_TEXT) v = same_text(want, got, true) ? VERDICT_RIGHT : VERDICT_WRONG;
    if (v == VERDICT_UNREADABLE)
        return FAIL(ERR_UNSUP, "the reference answer \"%.80s\" cannot be read as mathematics",
                    want);
    *value = v == VERDICT_RIGHT ? 1 : 0;
    if (v == VERDICT_RIGHT) why = "is";
    snprintf(reason, VERIFY_REASON, "\"%.70s\" %s \"%.70s\"", got, why, want);
    return 0;
}

/* A box, a marked line, or the whole text. */
static const char *find_reference(struct arena *arena, const char *answer) {
    struct formula_span a = answer_boxed(answer);
    if (!a.s) a = answer_marked(answer);
    if (!a.s) a = (struct formula_span){answer, strlen(answer)};
    a = answer_strip(a);
    return arena_strndup(arena, a.s, a.n);
}

static int run(const void *state, const struct verify_input *in, double *value, char *reason) {
    int rc = 0;
    struct arena *arena = arena_open(1 << 14);
    const char *want = find_reference(arena, in->answer);
    (void)state;
    if (!*want) TRY_OUT(FAIL(ERR_CORRUPT, "the reference answer is blank"));
    if (strlen(want) > MATHLEX_BYTES)
        TRY_OUT(FAIL(ERR_UNSUP, "the reference answer has %zu bytes, limit %d", strlen(want),
                     MATHLEX_BYTES));
    const char *got = answer_find(arena, in->response);
    if (!got || strlen(got) > MATHLEX_BYTES) got = "";
    TRY_OUT(verdict(want, got, value, reason));
    if (!*got) snprintf(reason, VERIFY_REASON, "no final answer found");
out:
    arena_close(&arena);
    return rc;
}

const struct verify_type mathans_type = {
    .name = "math",
    .doc = "the final answer (boxed, stated or last number) equals the reference, exactly",
    .uses = VERIFY_USES_AFTER,
    .needs_answer = true,
    .run = run,
};
