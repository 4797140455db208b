/* mathreader_atom.c - what stands between the signs of a sum: numbers, names, functions, brackets,
 * matrices. Where a construct has no exact meaning here (an integral, a vector's arrow, f(2)), it
 * becomes a name of its own or an unknown function of its arguments, equal only to the same.
 *
 * Is f(2) an application, and x(x+1) a product? By the letter: f, g, F, G, \phi, \psi, \Gamma,
 * \zeta and whatever has a prime are functions; another capital, h, p or q is one where the
 * brackets hold a single letter or number, or several things: P(A), h(2), C(5,2), but P(1+r). All
 * other letters are factors. */
#include "base/words.h"
#include "reward/math/mathfunc.h"
#include "reward/math/mathreader.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { EXPONENT_DIGITS = 3, SUM_TERMS = 200, DETERMINANT_MAX = 5, NAME_BYTES = 64 };

typedef const struct mathparse_node *node;
typedef const struct algebra_value *value;

static value atom_value(struct mathreader *r) {
    return mathreader_value_of(mathreader_atom(r));
}

/* ---- numbers ---- */

/* The value of a NUMBER token with its exponent; exponents beyond three digits never fit. */
static bool number_value(struct rational *out, const struct mathlex_token *t) {
    char text[MATHLEX_BYTES + 1];
    struct rational scale = rational_int(10);
    if (t->n > MATHLEX_BYTES) return false;
    memcpy(text, t->s, t->n);
    text[t->n] = 0;
    size_t n = rational_read(out, text, t->commas);
    if (n == 0) return false;
    if (text[n] == '.' && text[n + 1] == 0) n++; /* 0.\overline{3} */
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

static bool is_dots(const struct mathlex_token *t) {
    return t->kind == MATHLEX_SYMBOL && t->n >= 4 && memcmp(t->s + t->n - 4, "dots", 4) == 0;
}

/* *x, of places decimals, continued by the cycle for ever: adds cycle / (10^places (10^n - 1)). */
static bool add_cycle(struct rational *x, size_t places, const char *cycle, size_t n) {
    char text[32];
    struct rational c, scale = rational_int(10), nines = rational_int(10), one = rational_int(-1);
    if (n == 0 || n >= sizeof text) return false;
    memcpy(text, cycle, n);
    text[n] = 0;
    return rational_read(&c, text, false) == n && rational_pow(&nines, &nines, (int64_t)n) &&
           rational_add(&nines, &nines, &one) && rational_pow(&scale, &scale, (int64_t)places) &&
           rational_mul(&scale, &scale, &nines) && rational_div(&c, &c, &scale) &&
           rational_add(x, x, &c);
}

static size_t decimals(const struct mathlex_token *t) {
    const char *point = memchr(t->s, '.', t->n);
    return point ? t->n - (size_t)(point - t->s) - 1 : 0;
}

/* Behind 0.1: \overline{6}, \bar 6, \dot{6}, \dot{1}2\dot{3}. 0: there is no mark; -1: unreadable.
 */
static int read_cycle(struct mathreader *r, struct rational *x, const struct mathlex_token *t) {
    char cycle[32];
    size_t n = 0, dotted = 0;
    bool dot = mathreader_is_name(r->at, "dot");
    if (!memchr(t->s, '.', t->n) || r->at->kind != MATHLEX_SYMBOL) return 0;
    if (!dot && !mathreader_is_name(r->at, "overline") && !mathreader_is_name(r->at, "bar"))
        return 0;
    for (;;) {
        bool mark = r->at->kind == MATHLEX_SYMBOL;
        if (mark) {
            if (++dotted > (dot ? 2u : 1u)) return -1;
            r->at++;
        }
        bool brace = mathreader_accept(r, '{');
        if (!is_integer(r->at) || n + r->at->n >= sizeof cycle) return -1;
        memcpy(cycle + n, r->at->s, r->at->n);
        n += r->at++->n;
        if (brace && !mathreader_accept(r, '}')) return -1;
        bool more = dot && dotted == 1 &&
                    (is_integer(r->at) ||
                     (r->at->kind == MATHLEX_SYMBOL && mathreader_is_name(r->at, "dot")));
        if (!more) break;
    }
    return add_cycle(x, decimals(t), cycle, n) ? 1 : -1;
}

/* Behind 0.333: dots continue a cycle that was written three times (a digit) or twice. Other dots
 * only say that there is more. */
static bool continue_dots(struct rational *x, const struct mathlex_token *t) {
    size_t places = decimals(t);
    const char *end = t->s + t->n;
    for (size_t n = 1; n <= 12; n++) {
        size_t times = n == 1 ? 3 : 2, same = 0;
        while (same + n < places && end[-1 - (int)same] == end[-1 - (int)(same + n)])
            same++;
        if (places >= times * n && same >= (times - 1) * n) return add_cycle(x, places, end - n, n);
    }
    return true;
}

/* A number, or a mixed one: 1 1/2, 1\frac{1}{2}. */
static value read_number_atom(struct mathreader *r) {
    struct rational x, a, b, part;
    const struct mathlex_token *t = r->at;
    if (!number_value(&x, t)) return NULL;
    r->at++;
    int cycle = read_cycle(r, &x, t);
    if (cycle < 0) return NULL;
    if (cycle == 0 && decimals(t) > 0 && is_dots(r->at)) {
        r->at++;
        if (!continue_dots(&x, t)) return NULL;
    }
    if (!is_integer(t)) return algebra_number(r->g, &x);
    if (r->at->space && is_integer(&t[1]) && t[2].kind == MATHLEX_PUNCT && t[2].punct == '/' &&
        is_integer(&t[3])) {
        if (!number_value(&a, &t[1]) || !number_value(&b, &t[3]) || !rational_div(&a, &a, &b) ||
            !rational_add(&x, &x, &a))
            return NULL;
        r->at += 3;
        return algebra_number(r->g, &x);
    }
    if (mathreader_is_command(r, "frac")) {
        const struct mathlex_token *f_start = r->at;
        value v = algebra_number(r->g, &x), f = atom_value(r);
        bool mixed = f && algebra_is_rational(&part, f);
        for (const struct mathlex_token *s = f_start + 1; s < r->at; s++) /* not 3\frac{2}{10^6} */
            mixed = mixed && (s->kind == MATHLEX_NUMBER || s->punct == '{' || s->punct == '}');
        return mixed ? algebra_add(r->g, v, f) : algebra_mul(r->g, v, f);
    }
    return algebra_number(r->g, &x);
}

value mathreader_argument(struct mathreader *r, bool by_digit) {
    if (r->at->kind == MATHLEX_NUMBER && by_digit && r->at->n > 1) {
        if (!isdigit((unsigned char)*r->at->s)) return NULL;
        int64_t digit = *r->at->s - '0';
        r->at->s++;
        r->at->n--;
        return algebra_int(r->g, digit);
    }
    if (r->at->kind == MATHLEX_NUMBER) {
        struct rational x;
        if (!number_value(&x, r->at)) return NULL;
        r->at++;
        return algebra_number(r->g, &x);
    }
    return atom_value(r);
}

value mathreader_exponent(struct mathreader *r) {
    bool negative = mathreader_accept(r, '-');
    value e = mathreader_argument(r, false);
    return negative ? algebra_neg(r->g, e) : e;
}

/* ---- fractions, roots ---- */

/* The token behind the group or token at t; NULL if a brace is not closed. */
static const struct mathlex_token *behind(const struct mathlex_token *t) {
    int depth = 0;
    for (; t->kind != MATHLEX_END; t++) {
        if (t->kind == MATHLEX_PUNCT) depth += (t->punct == '{') - (t->punct == '}');
        if (depth == 0) return t + 1;
    }
    return NULL;
}

/* d, dy, d^2 y, \partial f: what a derivative has above and below. */
static bool is_differential(const struct mathlex_token *t) {
    if (t->kind == MATHLEX_PUNCT && t->punct == '{') t++;
    return t->kind == MATHLEX_SYMBOL &&
           (mathreader_is_name(t, "d") || mathreader_is_name(t, "partial"));
}

/* Behind \frac: two arguments, each a group or one token. dy/dx is a name, not y/x. */
static value read_fraction(struct mathreader *r) {
    const struct mathlex_token *start = r->at, *below = behind(start), *end;
    if (below && is_differential(start) && is_differential(below) && (end = behind(below)) &&
        end - below >= 3) {
        r->at += end - start;
        return mathreader_opaque(r, "derivative", start, end);
    }
    value a = mathreader_argument(r, true);
    value b = a ? mathreader_argument(r, true) : NULL;
    return mathreader_is_finite(r, a) && mathreader_is_finite(r, b) ? algebra_div(r->g, a, b)
                                                                    : NULL;
}

/* Behind \sqrt: an optional degree in [], the argument. */
static value read_root(struct mathreader *r) {
    value degree = algebra_int(r->g, 2);
    if (mathreader_accept(r, '[')) {
        degree = mathreader_value_of(mathreader_sum(r));
        if (!mathreader_accept(r, ']')) return NULL;
    }
    value x = mathreader_argument(r, true);
    return algebra_pow(r->g, x, algebra_div(r->g, algebra_int(r->g, 1), degree));
}

/* ---- functions ---- */

/* Whether an argument without brackets goes on: \sin 2x, \ln\frac{1}{2}, \cos 2(x+1). */
static bool argument_goes_on(const struct mathreader *r, bool number) {
    if (r->at->kind == MATHLEX_SYMBOL) return !is_dots(r->at);
    if (r->at->kind == MATHLEX_COMMAND)
        return mathreader_is_name(r->at, "sqrt") || mathreader_is_name(r->at, "frac");
    return number && mathreader_is(r, '(');
}

static value bare_argument(struct mathreader *r) {
    bool number = r->at->kind == MATHLEX_NUMBER, minus = mathreader_accept(r, '-');
    value x = mathreader_value_of(mathreader_power(r));
    while (x && argument_goes_on(r, number)) {
        number = false;
        x = algebra_mul(r->g, x, mathreader_value_of(mathreader_power(r)));
    }
    return minus ? algebra_neg(r->g, x) : x;
}

/* The arguments behind a function's name, also as a set; how many, 0 if they cannot be read. */
static size_t read_arguments(struct mathreader *r, value *arg, size_t max) {
    static const char brackets[][3] = {"()", "{}", "[]", {MATHLEX_SET_OPEN, MATHLEX_SET_CLOSE, 0}};
    for (size_t k = 0; k < sizeof brackets / sizeof brackets[0]; k++) {
        if (!mathreader_accept(r, brackets[k][0])) continue;
        struct mathparse_node *list = mathreader_new(r, MATHPARSE_LIST);
        if (!mathreader_items(r, list, brackets[k] + 1)) return 0;
        node n = list->n == 1 && list->item[0]->kind == MATHPARSE_SET ? list->item[0] : list;
        for (size_t i = 0; i < n->n && i < max; i++)
            if (!(arg[i] = mathreader_value_of(n->item[i]))) return 0;
        return n->n <= max ? n->n : 0;
    }
    return (arg[0] = bare_argument(r)) ? 1 : 0;
}

/* "arcsin" for "sin"; NULL if the function has no inverse of its own name. */
static const char *inverse_name(const char *name) {
    static const char *const pair[][2] = {
        {"sin", "arcsin"},  {"cos", "arccos"},  {"tan", "arctan"},
        {"cot", "arccot"},  {"sec", "arcsec"},  {"csc", "arccsc"},
        {"sinh", "arsinh"}, {"cosh", "arcosh"}, {"tanh", "artanh"},
    };
    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++)
        if (strcmp(pair[i][0], name) == 0) return pair[i][1];
    return NULL;
}

static bool is_minus_one(value x) {
    struct rational r, want = rational_int(-1);
    return x && algebra_is_rational(&r, x) && rational_equal(&r, &want);
}

/* sin x, \sin^2(x), \sin^{-1} x, \log_2 8, \gcd(4, 6). */
static value read_function(struct mathreader *r) {
    static const char *const angles[] = {"sin", "cos", "tan", "cot", "sec", "csc", "cosec", NULL};
    char text[16];
    const char *name = text;
    value sub = NULL, power = NULL, arg[16];
    const struct mathlex_token *t = r->at++;
    if (t->n >= sizeof text) return NULL;
    memcpy(text, t->s, t->n);
    text[t->n] = 0;
    for (int i = 0; i < 2; i++) {
        if (mathreader_accept(r, '_') && !(sub = mathreader_argument(r, true))) return NULL;
        if (mathreader_accept(r, '^') && !(power = mathreader_exponent(r))) return NULL;
    }
    if (is_minus_one(power) && inverse_name(name)) {
        name = inverse_name(name);
        power = NULL;
    }
    bool angle = words_have_text(angles, name);
    r->angle += angle;
    size_t n = read_arguments(r, arg, sizeof arg / sizeof arg[0]);
    r->angle -= angle;
    if (n == 0) return NULL;
    value x = mathfunc_apply(r->g, name, arg, n, sub);
    return power ? algebra_pow(r->g, x, power) : x;
}

static value read_binomial(struct mathreader *r) {
    value a[2];
    a[0] = mathreader_argument(r, true);
    a[1] = a[0] ? mathreader_argument(r, true) : NULL;
    return mathfunc_apply(r->g, "binom", a, 2, NULL);
}

/* ---- sums, products, integrals, limits ---- */

/* Behind \sum or \prod: _{k=1}^{n}. *a, *b: the bounds where both are integers. */
static bool read_bounds(struct mathreader *r, const struct mathlex_token **variable, int64_t *a,
                        int64_t *b) {
    struct rational x, y;
    struct mathlex_token *t = r->at;
    if (t[0].punct != '_' || t[1].punct != '{' || t[2].kind != MATHLEX_SYMBOL || t[3].punct != '=')
        return false;
    *variable = &t[2];
    r->at += 4;
    value from = mathreader_value_of(mathreader_sum(r));
    if (!mathreader_accept(r, '}') || !mathreader_accept(r, '^')) return false;
    value to = mathreader_argument(r, false);
    return from && to && algebra_is_rational(&x, from) && algebra_is_rational(&y, to) &&
           rational_to_int(a, &x) && rational_to_int(b, &y) && *a <= *b && *b - *a < SUM_TERMS;
}

/* A finite sum or product is added up by reading its body once for each value of the variable. */
static value add_up_terms(struct mathreader *r, bool product) {
    const struct mathlex_token *variable, *outer = r->bound;
    int64_t a, b, outer_value = r->bound_value;
    value total = algebra_int(r->g, product ? 1 : 0);
    if (outer || !read_bounds(r, &variable, &a, &b)) return NULL;
    struct mathreader_mark start = mathreader_mark(r);
    for (int64_t k = a; k <= b && total; k++) {
        mathreader_rewind(r, &start);
        r->bound = variable;
        r->bound_value = k;
        value x = mathreader_value_of(mathreader_product(r));
        total = product ? algebra_mul(r->g, total, x) : algebra_add(r->g, total, x);
    }
    r->bound = outer;
    r->bound_value = outer_value;
    return total;
}

/* The end of what an integral or a limit reaches over: its differential, or a sign or bracket that
 * does not belong to it. */
static struct mathlex_token *reach(struct mathlex_token *t, bool integral) {
    int depth = 0;
    for (; t->kind != MATHLEX_END; t++) {
        if (t->kind == MATHLEX_SYMBOL && integral && depth == 0 && mathreader_is_name(t, "d") &&
            t[1].kind == MATHLEX_SYMBOL)
            return t + 2;
        if (t->kind != MATHLEX_PUNCT) continue;
        if (strchr("([{", t->punct)) depth++;
        if (strchr(")]}", t->punct) && --depth < 0) return t;
        if (depth == 0 && strchr(",;=<>", t->punct)) return t;
        if (depth == 0 && !integral && strchr("+-", t->punct) && t[-1].kind != MATHLEX_COMMAND)
            return t;
    }
    return t;
}

/* What cannot be added up is a function of its body, with its bounds as they are written. */
static value read_large(struct mathreader *r) {
    struct mathlex_token *start = r->at++;
    bool product = mathreader_is_name(start, "prod");
    if (product || mathreader_is_name(start, "sum")) {
        struct mathreader_mark mark = mathreader_mark(r);
        value v = add_up_terms(r, product);
        if (v) return v;
        mathreader_rewind(r, &mark);
    }
    const struct mathlex_token *end = start + 1;
    while (end && end->kind == MATHLEX_PUNCT && (end->punct == '_' || end->punct == '^'))
        end = behind(end + 1);
    if (!end) return NULL;
    struct mathreader_mark mark = mathreader_mark(r);
    r->at += end - r->at;
    value body = mathreader_value_of(mathreader_product(r));
    if (body) return algebra_func(r->g, "large", body, mathreader_opaque(r, "", start, end));
    mathreader_rewind(r, &mark);
    r->at = reach(start + 1, mathreader_is_name(start, "int"));
    return mathreader_opaque(r, "large", start, r->at);
}

/* ---- names ---- */

static bool is_function_letter(const struct mathlex_token *t) {
    static const char *const always[] = {"f",      "g",     "F",    "G",   "phi", "varphi", "psi",
                                         "varpsi", "Gamma", "zeta", "Phi", "Psi", NULL};
    for (size_t i = 0; always[i]; i++)
        if (mathreader_is_name(t, always[i])) return true;
    return false;
}

/* Whether brackets at t hold one letter or number, or several things. */
static bool holds_argument(const struct mathlex_token *t) {
    int depth = 1;
    if (t[1].kind != MATHLEX_PUNCT && t[2].kind == MATHLEX_PUNCT && t[2].punct == ')') return true;
    for (t++; t->kind != MATHLEX_END && depth > 0; t++) {
        if (t->kind != MATHLEX_PUNCT) continue;
        depth += (t->punct == '(' || t->punct == '{') - (t->punct == ')' || t->punct == '}');
        if (depth == 1 && t->punct &&
            strchr(",|;=<>ULGNXS", t->punct)) /* P(A|B), P(X < 2), P(A \cup B) */
            return true;
    }
    return false;
}

/* f(2), P(A|B): a function of values, or of whatever the brackets say. */
static value read_application(struct mathreader *r, const char *name) {
    struct mathreader_mark mark = mathreader_mark(r);
    const struct mathlex_token *start = r->at++;
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_LIST);
    bool fine = mathreader_items(r, n, ")");
    value arg = fine ? mathreader_value_of(n->item[n->n - 1]) : NULL;
    for (size_t i = fine ? n->n - 1 : 0; i-- > 0 && arg;) {
        value x = mathreader_value_of(n->item[i]);
        arg = x ? algebra_func(r->g, ",", x, arg) : NULL;
    }
    if (!arg) {
        int depth = 0;
        mathreader_rewind(r, &mark);
        for (; r->at->kind != MATHLEX_END; r->at++) {
            if (mathreader_is(r, '(')) depth++;
            if (mathreader_is(r, ')') && --depth == 0) break;
        }
        if (!mathreader_accept(r, ')')) return NULL;
        arg = mathreader_opaque(r, "argument", start, r->at);
    }
    return algebra_func(r->g, name, arg, NULL);
}

/* Adds the subscript behind _ to a name. */
static bool read_subscript(struct mathreader *r, char *name, size_t *n) {
    bool open = true;
    name[(*n)++] = '_';
    for (bool braces = mathreader_accept(r, '{'); open; r->at++) {
        open = braces && !mathreader_is(r, '}');
        if (braces && !open) continue;
        if (r->at->kind == MATHLEX_END || *n + r->at->n + 2 >= NAME_BYTES) return false;
        memcpy(name + *n, r->at->s, r->at->n);
        *n += r->at->n;
    }
    return true;
}

/* f^{-1}(x), f^{(3)}(x): the exponent belongs to the name where an application follows. */
static bool read_order(struct mathreader *r, char *name, size_t *n) {
    const struct mathlex_token *end = behind(r->at + 1);
    if (r->at[1].kind == MATHLEX_PUNCT && r->at[1].punct == '-') end = behind(r->at + 2);
    if (!end || end->kind != MATHLEX_PUNCT || end->punct != '(') return true;
    for (; r->at < end; r->at++) {
        bool brace = mathreader_is(r, '{') || mathreader_is(r, '}');
        if (brace) continue;
        if (*n + r->at->n + 2 >= NAME_BYTES) return false;
        memcpy(name + *n, r->at->s, r->at->n);
        *n += r->at->n;
    }
    return true;
}

/* x, x_1, x_{max}, x': all of it is the name. */
static value read_symbol(struct mathreader *r) {
    char name[NAME_BYTES];
    const struct mathlex_token *t = r->at++;
    size_t n = t->n;
    bool prime = false;
    if (is_dots(t)) return algebra_symbol(r->g, "dots", 4);
    if (r->bound && r->bound->n == t->n && memcmp(r->bound->s, t->s, n) == 0)
        return algebra_int(r->g, r->bound_value);
    if (n + 4 >= sizeof name) return NULL;
    memcpy(name, t->s, n);
    if (mathreader_accept(r, '_') && !read_subscript(r, name, &n)) return NULL;
    while (mathreader_accept(r, '\'') && n + 2 < sizeof name) {
        name[n++] = '\'';
        prime = true;
    }
    bool always = prime || is_function_letter(t);
    if (always && mathreader_is(r, '^') && !read_order(r, name, &n)) return NULL;
    name[n] = 0;
    bool perhaps = (t->n == 1 && isupper((unsigned char)*t->s)) || mathreader_is_name(t, "h") ||
                   mathreader_is_name(t, "p") || mathreader_is_name(t, "q");
    if (mathreader_is(r, '(') && (always || (perhaps && holds_argument(r->at))))
        return read_application(r, name);
    if (strcmp(name, "infty") == 0) r->infinite = true;
    return algebra_symbol(r->g, name, n);
}

/* \vec{a}, \overline{AB}, \mathbb{R}: another thing than a, AB and R. */
static value read_decorated(struct mathreader *r) {
    const struct mathlex_token *t = r->at++;
    const struct mathlex_token *start = r->at, *end = behind(start);
    if (!end || start->kind == MATHLEX_END) return NULL;
    r->at += end - start;
    char name[NAME_BYTES];
    if (t->n >= sizeof name) return NULL;
    memcpy(name, t->s, t->n);
    name[t->n] = 0;
    return mathreader_opaque(r, name, start, end);
}

/* \angle ABC, \triangle ABC: the order of the letters matters. */
static value read_figure(struct mathreader *r) {
    const struct mathlex_token *start = r->at++;
    while (r->at->kind == MATHLEX_SYMBOL && r->at->n == 1)
        r->at++;
    return mathreader_opaque(r, "figure", start, r->at);
}

static value read_name(struct mathreader *r) {
    static const char *const decorations[] = {
        "vec",      "overline",  "bar",    "hat",       "tilde",          "widehat", "widetilde",
        "overarc",  "underline", "dot",    "ddot",      "overrightarrow", "mathbb",  "Bbb",
        "mathfrak", "mathscr",   "mathsf", "overbrace", "overparen",      NULL};
    static const char *const figures[] = {"angle",  "triangle", "measuredangle",
                                          "square", "odot",     NULL};
    for (size_t i = 0; decorations[i]; i++)
        if (mathreader_is_name(r->at, decorations[i])) return read_decorated(r);
    for (size_t i = 0; figures[i]; i++)
        if (mathreader_is_name(r->at, figures[i])) return read_figure(r);
    return read_symbol(r);
}

/* ---- brackets ---- */

/* By the first row, of at most five. */
static value determinant(struct mathreader *r, node n) {
    value sum = algebra_int(r->g, 0);
    size_t k = n->cols;
    if (k * k != n->n || k > DETERMINANT_MAX) return NULL;
    if (k == 1) return mathreader_value_of(n->item[0]);
    for (size_t c = 0; c < k; c++) {
        struct mathparse_node *minor = mathreader_new(r, MATHPARSE_MATRIX);
        minor->cols = k - 1;
        for (size_t i = k; i < n->n; i++)
            if (i % k != c && !mathreader_add(r, minor, n->item[i])) return NULL;
        value x = mathreader_value_of(n->item[c]);
        x = x ? algebra_mul(r->g, x, determinant(r, minor)) : NULL;
        sum = algebra_add(r->g, sum, c % 2 ? algebra_neg(r->g, x) : x);
    }
    return sum;
}

/* Behind the first bar of |x|. Bars inside bars are ambiguous and refused. */
static value read_bars(struct mathreader *r) {
    bool no_bar = r->no_bar;
    if (r->bars > 0) return NULL;
    r->bars++;
    r->no_bar = false;
    node n = mathreader_sum(r);
    value x = mathreader_value_of(n);
    r->no_bar = no_bar;
    r->bars--;
    if (!n || !mathreader_accept(r, '|')) return NULL;
    if (n->kind == MATHPARSE_MATRIX) return determinant(r, n);
    return mathfunc_apply(r->g, "abs", &x, 1, NULL);
}

static value read_rounded(struct mathreader *r, const char *name, char close) {
    r->at++;
    value x = mathreader_value_of(mathreader_sum(r));
    return x && mathreader_accept(r, close) ? mathfunc_apply(r->g, name, &x, 1, NULL) : NULL;
}

/* Whether a bar or colon stands in the braces whose first token is t, outside inner brackets. */
static bool has_bar(const struct mathlex_token *t) {
    int depth = 0;
    for (; t->kind != MATHLEX_END && depth >= 0; t++) {
        if (t->kind != MATHLEX_PUNCT) continue;
        if (depth == 0 && (t->punct == '|' || t->punct == ':')) return true;
        depth += strchr("([{S", t->punct) ? 1 : strchr(")]}T", t->punct) ? -1 : 0;
    }
    return false;
}

/* { x | condition } or { x : condition } behind its brace; NULL with nothing read if it is none. */
static node read_set_builder(struct mathreader *r, const char *closing) {
    if (!has_bar(r->at)) return NULL;
    struct mathreader_mark start = mathreader_mark(r);
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_BUILDER);
    bool no_bar = r->no_bar;
    int bars = r->bars;
    r->no_bar = true;
    r->bars = 0;
    node head = mathreader_relation(r);
    r->no_bar = no_bar;
    r->bars = bars;
    bool fine = head && (mathreader_accept(r, '|') || mathreader_accept(r, ':')) &&
                mathreader_add(r, n, head) && mathreader_items(r, n, closing);
    if (fine) return n;
    mathreader_rewind(r, &start);
    return NULL;
}

/* (1 2 3): numbers without a sign between them are a cycle of a permutation. */
static value read_permutation(struct mathreader *r) {
    struct mathlex_token *t = r->at + 1;
    while (is_integer(t))
        t++;
    if (t - r->at < 3 || t->kind != MATHLEX_PUNCT || t->punct != ')') return NULL;
    const struct mathlex_token *start = r->at;
    r->at = t + 1;
    return mathreader_opaque(r, "cycle", start, r->at);
}

static node read_matrix(struct mathreader *r);

/* An array behind a brace that nothing closes (\left\{ ... \right.) is cases. */
static node read_cases(struct mathreader *r) {
    r->at++;
    node array = read_matrix(r);
    if (!array) return NULL;
    (void)mathreader_accept(r, MATHLEX_SET_CLOSE);
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_MATRIX);
    *n = *array;
    n->open = 'c';
    return n;
}

/* Brackets that group one value are that value; others are a tuple, an interval or a set. */
static node read_brackets(struct mathreader *r) {
    static const char close_set[2] = {MATHLEX_SET_CLOSE, 0};
    if (mathreader_is(r, '(')) {
        value cycle = read_permutation(r);
        if (cycle) return mathreader_value(r, cycle);
    }
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_TUPLE);
    n->open = r->at++->punct;
    const char *closing = n->open == '{' ? "}" : n->open == MATHLEX_SET_OPEN ? close_set : ")]";
    if (n->open == MATHLEX_SET_OPEN && mathreader_is(r, MATHLEX_BEGIN)) return read_cases(r);
    if (n->open == MATHLEX_SET_OPEN || n->open == '{') {
        n->kind = MATHPARSE_SET;
        if (n->open == MATHLEX_SET_OPEN && mathreader_accept(r, MATHLEX_SET_CLOSE)) return n;
        node builder = read_set_builder(r, closing);
        if (builder) return builder;
    }
    bool no_bar = r->no_bar;
    r->no_bar = false;
    bool fine = mathreader_items(r, n, closing);
    r->no_bar = no_bar;
    if (!fine) return NULL;
    bool grouping = n->open == '{' || (n->open == '(' && n->close == ')');
    bool matrix = n->n == 1 && n->item[0]->kind == MATHPARSE_MATRIX; /* [array] */
    return (grouping && n->n == 1) || matrix ? n->item[0] : n;
}

/* One cell of a matrix; an empty one, and words only, are a name. */
static node read_cell(struct mathreader *r) {
    if (mathreader_is(r, '&') || mathreader_is(r, MATHLEX_ROW) || mathreader_is(r, MATHLEX_FINISH))
        return mathreader_value(r, algebra_symbol(r->g, "", 0));
    node n = mathreader_relation(r);
    while (mathreader_accept(r, ',') || mathreader_accept(r, ';')) /* "x^2, & x > 0" */
        if (!mathreader_is(r, '&') && !mathreader_is(r, MATHLEX_ROW) &&
            !mathreader_is(r, MATHLEX_FINISH)) {
            struct mathparse_node *list = mathreader_new(r, MATHPARSE_LIST);
            if (!mathreader_add(r, list, n) || !mathreader_add(r, list, mathreader_relation(r)))
                return NULL;
            n = list;
        }
    return n;
}

/* Behind \begin{...}: matrices, arrays and cases: rows of equal length. */
static node read_matrix(struct mathreader *r) {
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_MATRIX);
    const struct mathlex_token *t = r->at++;
    size_t cols = 0;
    bool cases = mathreader_is_name(t, "cases") || mathreader_is_name(t, "aligned");
    if (mathreader_is_name(t, "array") && mathreader_is(r, '{'))
        while (r->at->kind != MATHLEX_END && !mathreader_accept(r, '}'))
            r->at++;
    else if (!cases && (t->n < 6 || memcmp(t->s + t->n - 6, "matrix", 6) != 0))
        return NULL;
    if (cases || mathreader_is_name(t, "vmatrix")) n->open = *t->s;
    do {
        if (!mathreader_add(r, n, read_cell(r))) return NULL;
        cols++;
        if (mathreader_accept(r, '&')) continue;
        if (n->cols == 0) n->cols = cols;
        if (cols != n->cols) return NULL;
        cols = 0;
        if (!mathreader_accept(r, MATHLEX_ROW) && !mathreader_is(r, MATHLEX_FINISH)) return NULL;
    } while (!mathreader_is(r, MATHLEX_FINISH));
    r->at++;
    if (cols == 0 && n->open == 'v') return mathreader_value(r, determinant(r, n));
    return cols == 0 ? n : NULL;
}

static node read_command_atom(struct mathreader *r) {
    if (mathreader_is_command(r, "frac")) return r->at++, mathreader_value(r, read_fraction(r));
    if (mathreader_is_command(r, "sqrt")) return r->at++, mathreader_value(r, read_root(r));
    if (mathreader_is_command(r, "binom") || mathreader_is_command(r, "dbinom") ||
        mathreader_is_command(r, "tbinom"))
        return r->at++, mathreader_value(r, read_binomial(r));
    if (mathreader_is_command(r, "sum") || mathreader_is_command(r, "prod") ||
        mathreader_is_command(r, "int") || mathreader_is_command(r, "lim"))
        return mathreader_value(r, read_large(r));
    return mathreader_value(r, read_function(r));
}

static node read_atom(struct mathreader *r) {
    if (r->at->kind == MATHLEX_NUMBER) return mathreader_value(r, read_number_atom(r));
    if (r->at->kind == MATHLEX_SYMBOL) return mathreader_value(r, read_name(r));
    if (r->at->kind == MATHLEX_COMMAND) return read_command_atom(r);
    if (r->at->kind != MATHLEX_PUNCT) return NULL;
    switch (r->at->punct) {
    case '(':
    case '[':
    case '{':
    case MATHLEX_SET_OPEN: return read_brackets(r);
    case MATHLEX_BEGIN: return read_matrix(r);
    case MATHLEX_EMPTY: return r->at++, mathreader_new(r, MATHPARSE_SET);
    case MATHLEX_FLOOR_OPEN:
        return mathreader_value(r, read_rounded(r, "floor", MATHLEX_FLOOR_CLOSE));
    case MATHLEX_CEIL_OPEN: return mathreader_value(r, read_rounded(r, "ceil", MATHLEX_CEIL_CLOSE));
    case MATHLEX_UNION: /* \bigcup_{k} */
        return r->at[1].punct == '_' ? mathreader_value(r, read_large(r)) : NULL;
    case MATHLEX_NORM: return mathreader_value(r, read_rounded(r, "norm", MATHLEX_NORM));
    case '|': return r->at++, mathreader_value(r, read_bars(r));
    default: return NULL;
    }
}

node mathreader_atom(struct mathreader *r) {
    if (r->depth >= MATHREADER_DEPTH || --r->steps < 0) return NULL;
    r->depth++;
    node n = read_atom(r);
    r->depth--;
    return n;
}
