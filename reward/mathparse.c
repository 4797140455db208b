/* mathparse.c - recursive descent over the tokens of mathlex, building values while it reads:
 *
 *     list     = relation {("," | ";") relation}
 *     relation = union {("=" | "<" | ...) union}
 *     union    = sum {"\cup" sum}
 *     sum      = ["+" | "-"] product {("+" | "-" | "\pm") product}
 *     product  = power {["*" | "/"] power}           a number never follows without a sign: "2 3"
 *     power    = atom {"^" argument | "!" | "%" | "_" argument}
 *     atom     = number [fraction] | symbol | command ... | "(" list ")" | "{" list "}" | ...
 *
 * What arithmetic does not apply to (a tuple, a set) must stand alone. A +- makes two readings, one
 * per sign, joined to a list. Any failure makes the whole text unreadable: a half-read answer must
 * never be compared. */
#include "reward/mathparse.h"

#include "reward/mathlex.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 60, EXPONENT_DIGITS = 3 };

struct parser {
    struct algebra *g;
    struct arena *arena;
    struct mathlex_token *at;
    int depth, bars;
    bool plus_minus, minus_first, percent;
};

typedef const struct mathparse_node *node;
typedef const struct algebra_value *value;

static node read_sum(struct parser *p);
static value read_atom_value(struct parser *p);

/* Whether the next token is this sign. */
static bool is(const struct parser *p, char punct) {
    return p->at->kind == MATHLEX_PUNCT && p->at->punct == punct;
}

/* Reads the next token if it is this sign. */
static bool accept(struct parser *p, char punct) {
    if (!is(p, punct)) return false;
    p->at++;
    return true;
}

static bool is_name(const struct mathlex_token *t, const char *name) {
    return strlen(name) == t->n && memcmp(t->s, name, t->n) == 0;
}

static bool is_command(const struct parser *p, const char *name) {
    return p->at->kind == MATHLEX_COMMAND && is_name(p->at, name);
}

static struct mathparse_node *new_node(struct parser *p, enum mathparse_kind kind) {
    struct mathparse_node *n = arena_alloc(p->arena, sizeof *n);
    *n = (struct mathparse_node){.kind = kind};
    return n;
}

static node value_node(struct parser *p, value v) {
    if (!v) return NULL;
    struct mathparse_node *n = new_node(p, MATHPARSE_VALUE);
    n->value = v;
    return n;
}

/* NULL for what arithmetic does not apply to. */
static value value_of(node n) {
    return n && n->kind == MATHPARSE_VALUE ? n->value : NULL;
}

static bool add_item(struct parser *p, struct mathparse_node *n, node item) {
    if (!item || n->n == MATHPARSE_ITEMS) return false;
    if (n->n == 0) n->item = arena_alloc(p->arena, MATHPARSE_ITEMS * sizeof *n->item);
    n->item[n->n++] = item;
    return true;
}

/* ---- atoms ---- */

/* The value of a NUMBER token with its exponent; exponents beyond three digits never fit. */
static bool number_value(struct rational *out, const struct mathlex_token *t) {
    char text[MATHLEX_BYTES + 1];
    struct rational scale = rational_int(10);
    if (t->n > MATHLEX_BYTES) return false;
    memcpy(text, t->s, t->n);
    text[t->n] = 0;
    size_t n = rational_read(out, text, t->commas);
    if (n == 0) return false;
    if (text[n] == 0) return true;
    if (strlen(text + n) > 2 + EXPONENT_DIGITS) return false;
    return rational_pow(&scale, &scale, strtol(text + n + 1, NULL, 10)) &&
           rational_mul(out, out, &scale);
}

static bool is_integer(const struct mathlex_token *t) {
    for (size_t i = 0; i < t->n; i++)
        if (!isdigit((unsigned char)t->s[i])) return false;
    return t->kind == MATHLEX_NUMBER;
}

/* A number, or a mixed one: 1 1/2, 1\frac{1}{2}. */
static value read_number(struct parser *p) {
    struct rational x, a, b, part;
    const struct mathlex_token *t = p->at;
    if (!number_value(&x, t)) return NULL;
    p->at++;
    if (!is_integer(t)) return algebra_number(p->g, &x);
    if (p->at->space && is_integer(&t[1]) && t[2].kind == MATHLEX_PUNCT && t[2].punct == '/' &&
        is_integer(&t[3])) {
        if (!number_value(&a, &t[1]) || !number_value(&b, &t[3]) || !rational_div(&a, &a, &b) ||
            !rational_add(&x, &x, &a))
            return NULL;
        p->at += 3;
        return algebra_number(p->g, &x);
    }
    if (is_command(p, "frac")) {
        value v = algebra_number(p->g, &x), f = read_atom_value(p);
        bool mixed = f && algebra_is_rational(&part, f);
        return mixed ? algebra_add(p->g, v, f) : algebra_mul(p->g, v, f);
    }
    return algebra_number(p->g, &x);
}

/* The argument of a command: a group, or one token; of a number only one digit if by_digit. */
static value read_argument(struct parser *p, bool by_digit) {
    if (p->at->kind == MATHLEX_NUMBER && by_digit && p->at->n > 1) {
        if (!isdigit((unsigned char)*p->at->s)) return NULL;
        int64_t digit = *p->at->s - '0';
        p->at->s++;
        p->at->n--;
        return algebra_int(p->g, digit);
    }
    if (p->at->kind == MATHLEX_NUMBER) {
        struct rational x;
        if (!number_value(&x, p->at)) return NULL;
        p->at++;
        return algebra_number(p->g, &x);
    }
    return read_atom_value(p);
}

/* Behind \frac: two arguments, each a group or one token. */
static value read_fraction(struct parser *p) {
    value a = read_argument(p, true);
    return a ? algebra_div(p->g, a, read_argument(p, true)) : NULL;
}

/* Behind \sqrt: an optional degree in [], the argument. */
static value read_root(struct parser *p) {
    value degree = algebra_int(p->g, 2);
    if (accept(p, '[')) {
        degree = value_of(read_sum(p));
        if (!accept(p, ']')) return NULL;
    }
    value x = read_argument(p, true);
    return algebra_pow(p->g, x, algebra_div(p->g, algebra_int(p->g, 1), degree));
}

static value read_exponent(struct parser *p) {
    bool negative = accept(p, '-');
    value e = read_argument(p, false);
    return negative ? algebra_neg(p->g, e) : e;
}

/* sin x, \sin^2(x), \log_2 8; an argument without brackets is numbers and symbols only. */
static value read_function(struct parser *p) {
    char name[16];
    value sub = NULL, power = NULL, x;
    const struct mathlex_token *t = p->at++;
    if (t->n >= sizeof name) return NULL;
    memcpy(name, t->s, t->n);
    name[t->n] = 0;
    for (int i = 0; i < 2; i++) {
        if (accept(p, '_') && !(sub = read_argument(p, true))) return NULL;
        if (accept(p, '^') && !(power = read_exponent(p))) return NULL;
    }
    if (is(p, '(') || is(p, '{')) {
        x = read_atom_value(p);
    } else {
        x = read_argument(p, false);
        while (x && p->at->kind == MATHLEX_SYMBOL)
            x = algebra_mul(p->g, x, read_argument(p, false));
    }
    if (strcmp(name, "exp") == 0)
        x = algebra_pow(p->g, algebra_symbol(p->g, "e", 1), x);
    else
        x = algebra_func(p->g, name, x, sub);
    return power ? algebra_pow(p->g, x, power) : x;
}

static value read_binomial(struct parser *p) {
    value n = read_argument(p, true);
    return n ? algebra_func(p->g, "binom", n, read_argument(p, true)) : NULL;
}

/* x, x_1, x_{max}: the subscript belongs to the name. */
static value read_symbol(struct parser *p) {
    char name[64];
    size_t n = 0;
    const struct mathlex_token *t = p->at++;
    bool open = true;
    if (t->n >= sizeof name) return NULL;
    memcpy(name, t->s, n = t->n);
    if (!accept(p, '_')) return algebra_symbol(p->g, name, n);
    name[n++] = '_';
    for (bool braces = accept(p, '{'); open; p->at++) {
        open = braces && !is(p, '}');
        if (braces && !open) continue;
        if (p->at->kind == MATHLEX_END || n + p->at->n >= sizeof name) return NULL;
        memcpy(name + n, p->at->s, p->at->n);
        n += p->at->n;
    }
    return algebra_symbol(p->g, name, n);
}

/* Behind the first bar of |x|. Bars inside bars are ambiguous and refused. */
static value read_bars(struct parser *p) {
    struct rational r;
    if (p->bars > 0) return NULL;
    p->bars++;
    value x = value_of(read_sum(p));
    p->bars--;
    if (!x || !accept(p, '|')) return NULL;
    if (!algebra_is_rational(&r, x)) return algebra_func(p->g, "abs", x, NULL);
    r.negative = false;
    return algebra_number(p->g, &r);
}

/* Items up to one of the closing signs, which is read; *close says which. */
static bool read_items(struct parser *p, struct mathparse_node *n, const char *closing) {
    int bars = p->bars;
    p->bars = 0;
    do
        if (!add_item(p, n, read_sum(p))) return false;
    while (accept(p, ',') || accept(p, ';'));
    p->bars = bars;
    if (p->at->kind != MATHLEX_PUNCT || !strchr(closing, p->at->punct)) return false;
    n->close = p->at++->punct;
    return true;
}

/* Brackets that group one value are that value; others are a tuple, an interval or a set. */
static node read_brackets(struct parser *p) {
    struct mathparse_node *n = new_node(p, MATHPARSE_TUPLE);
    n->open = p->at++->punct;
    if (n->open == MATHLEX_SET_OPEN || n->open == '{') n->kind = MATHPARSE_SET;
    if (n->open == MATHLEX_SET_OPEN && accept(p, MATHLEX_SET_CLOSE)) return n;
    const char close_set[2] = {MATHLEX_SET_CLOSE, 0};
    if (!read_items(p, n, n->open == '{' ? "}" : n->open == MATHLEX_SET_OPEN ? close_set : ")]"))
        return NULL;
    bool grouping = n->open == '{' || (n->open == '(' && n->close == ')');
    return grouping && n->n == 1 ? n->item[0] : n;
}

/* Behind \begin{...}: rows of equal length. Only matrices and arrays; cases are refused. */
static node read_matrix(struct parser *p) {
    struct mathparse_node *n = new_node(p, MATHPARSE_MATRIX);
    const struct mathlex_token *t = p->at++;
    size_t cols = 0;
    if (is_name(t, "array") && is(p, '{'))
        while (p->at->kind != MATHLEX_END && !accept(p, '}'))
            p->at++;
    else if (t->n < 6 || memcmp(t->s + t->n - 6, "matrix", 6) != 0)
        return NULL;
    do {
        if (!add_item(p, n, read_sum(p))) return NULL;
        cols++;
        if (accept(p, '&')) continue;
        if (n->cols == 0) n->cols = cols;
        if (cols != n->cols) return NULL;
        cols = 0;
        if (!accept(p, MATHLEX_ROW) && !is(p, MATHLEX_FINISH)) return NULL;
    } while (!is(p, MATHLEX_FINISH));
    p->at++;
    return cols == 0 ? n : NULL;
}

static node read_atom_inner(struct parser *p) {
    if (p->at->kind == MATHLEX_NUMBER) return value_node(p, read_number(p));
    if (p->at->kind == MATHLEX_SYMBOL) return value_node(p, read_symbol(p));
    if (p->at->kind == MATHLEX_COMMAND) {
        if (is_command(p, "frac")) return p->at++, value_node(p, read_fraction(p));
        if (is_command(p, "sqrt")) return p->at++, value_node(p, read_root(p));
        if (is_command(p, "binom")) return p->at++, value_node(p, read_binomial(p));
        return value_node(p, read_function(p));
    }
    if (is(p, '(') || is(p, '[') || is(p, '{') || is(p, MATHLEX_SET_OPEN)) return read_brackets(p);
    if (is(p, MATHLEX_BEGIN)) return read_matrix(p);
    if (accept(p, MATHLEX_EMPTY)) return new_node(p, MATHPARSE_SET);
    if (accept(p, '|')) return value_node(p, read_bars(p));
    return NULL;
}

static node read_atom(struct parser *p) {
    if (p->depth >= DEPTH_MAX) return NULL;
    p->depth++;
    node n = read_atom_inner(p);
    p->depth--;
    return n;
}

static value read_atom_value(struct parser *p) {
    return value_of(read_atom(p));
}

/* ---- arithmetic ---- */

static node read_power(struct parser *p) {
    node n = read_atom(p);
    value v = value_of(n);
    while (v) {
        if (accept(p, '^'))
            v = algebra_pow(p->g, v, read_exponent(p));
        else if (accept(p, '_'))
            v = algebra_func(p->g, "base", v, read_argument(p, false));
        else if (accept(p, '!'))
            v = algebra_func(p->g, "!", v, NULL);
        else if (accept(p, '%'))
            p->percent = true;
        else
            return v == n->value ? n : value_node(p, v);
    }
    return n && n->kind != MATHPARSE_VALUE ? n : NULL;
}

/* Whether a factor follows without a sign. A number does not: "2 3" is not 6. A bar does not while
 * one is open: it closes. */
static bool starts_factor(const struct parser *p) {
    return p->at->kind == MATHLEX_SYMBOL || p->at->kind == MATHLEX_COMMAND || is(p, '(') ||
           is(p, '{') || (is(p, '|') && p->bars == 0);
}

static node read_product(struct parser *p) {
    node n = read_power(p);
    value v = value_of(n);
    while (v) {
        if (accept(p, '*'))
            v = algebra_mul(p->g, v, value_of(read_power(p)));
        else if (accept(p, '/'))
            v = algebra_div(p->g, v, value_of(read_power(p)));
        else if (starts_factor(p))
            v = algebra_mul(p->g, v, value_of(read_power(p)));
        else
            return v == n->value ? n : value_node(p, v);
    }
    return n && n->kind != MATHPARSE_VALUE ? n : NULL;
}

enum sign { SIGN_NONE, SIGN_PLUS, SIGN_MINUS };

static enum sign read_sign(struct parser *p) {
    if (accept(p, '+')) return SIGN_PLUS;
    if (accept(p, '-')) return SIGN_MINUS;
    if (!accept(p, MATHLEX_PLUS_MINUS)) return SIGN_NONE;
    p->plus_minus = true;
    return p->minus_first ? SIGN_MINUS : SIGN_PLUS;
}

static node read_sum_inner(struct parser *p) {
    enum sign sign = read_sign(p);
    node n = read_product(p);
    value v = value_of(n);
    if (!v) return sign == SIGN_NONE ? n : NULL;
    if (sign == SIGN_MINUS) v = algebra_neg(p->g, v);
    while ((sign = read_sign(p)) != SIGN_NONE) {
        value x = value_of(read_product(p));
        v = algebra_add(p->g, v, sign == SIGN_MINUS ? algebra_neg(p->g, x) : x);
    }
    return v == n->value ? n : value_node(p, v);
}

/* Every nesting passes through here or read_atom, so both count the depth. */
static node read_sum(struct parser *p) {
    if (p->depth >= DEPTH_MAX) return NULL;
    p->depth++;
    node n = read_sum_inner(p);
    p->depth--;
    return n;
}

/* ---- structure ---- */

static node read_union(struct parser *p) {
    node first = read_sum(p);
    if (!first || !is(p, MATHLEX_UNION)) return first;
    struct mathparse_node *n = new_node(p, MATHPARSE_UNION);
    if (!add_item(p, n, first)) return NULL;
    while (accept(p, MATHLEX_UNION))
        if (!add_item(p, n, read_sum(p))) return NULL;
    return n;
}

/* Whether from..to is a name such as x, x_1 or f(x). */
static bool is_named(const struct mathlex_token *from, const struct mathlex_token *to) {
    bool symbol = false;
    for (; from < to; from++) {
        symbol = symbol || from->kind == MATHLEX_SYMBOL;
        bool subscript = from->kind == MATHLEX_NUMBER && symbol && from[-1].punct == '_';
        if (from->kind != MATHLEX_SYMBOL && !subscript &&
            !(from->kind == MATHLEX_PUNCT && strchr("()_{}", from->punct)))
            return false;
    }
    return symbol;
}

static node read_relation(struct parser *p) {
    static const char ops[] = {'=', '<', '>', ':', MATHLEX_LE, MATHLEX_GE, MATHLEX_NE, 0};
    const struct mathlex_token *start = p->at;
    p->percent = false;
    node first = read_union(p);
    if (!first) return NULL;
    if (accept(p, MATHLEX_IN)) return read_union(p); /* x \in S says S */
    if (p->percent && first->kind == MATHPARSE_VALUE) {
        struct mathparse_node *n = new_node(p, MATHPARSE_VALUE);
        *n = *first;
        n->percent = true;
        first = n;
    }
    if (p->at->kind != MATHLEX_PUNCT || !strchr(ops, p->at->punct)) return first;
    struct mathparse_node *n = new_node(p, MATHPARSE_RELATION);
    n->named = is_named(start, p->at);
    if (!add_item(p, n, first)) return NULL;
    while (p->at->kind == MATHLEX_PUNCT && strchr(ops, p->at->punct)) {
        if (n->n > MATHPARSE_OPS) return NULL;
        n->op[n->n - 1] = p->at++->punct;
        if (!add_item(p, n, read_union(p))) return NULL;
    }
    return n;
}

/* The whole text: what is left over makes it unreadable. */
static node read_list(struct parser *p, struct mathparse_node *list) {
    do
        if (!add_item(p, list, read_relation(p))) return NULL;
    while (accept(p, ',') || accept(p, ';'));
    return p->at->kind == MATHLEX_END ? list : NULL;
}

const struct mathparse_node *mathparse_read(struct algebra *g, struct arena *arena,
                                            const char *text, bool commas) {
    struct mathlex_token token[MATHLEX_TOKENS + 4];
    struct parser p = {.g = g, .arena = arena};
    struct mathparse_node *list = new_node(&p, MATHPARSE_LIST);
    memset(&token[MATHLEX_TOKENS], 0, 4 * sizeof token[0]);
    for (int pass = 0; pass < 2; pass++) {
        bool words;
        if (mathlex_read(token, &words, text, commas, arena) == 0) return NULL;
        if (words) return new_node(&p, MATHPARSE_TEXT);
        p.at = token;
        p.minus_first = pass == 1;
        if (!read_list(&p, list)) return NULL;
        if (!p.plus_minus) break;
    }
    return list->n == 1 ? list->item[0] : list;
}
