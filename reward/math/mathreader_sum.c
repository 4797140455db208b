/* mathreader_sum.c - recursive descent over the tokens of mathlex, building values while it reads:
 *
 *     list     = relation {("," | ";" | "and" | "or") relation}
 *     relation = ["=" | "\approx"] union {("=" | "<" | "\in" ...) union}
 *     union    = sum {("\cup" | "\cap" | "\setminus") sum}
 *     sum      = ["+" | "-"] product ["mod" product] {("+" | "-" | "\pm" | "\mp") product}
 *     product  = power {["*" | "/"] power}             a number follows only a bracket: "2 3"
 *     power    = atom {"^" argument | "!" | "%" | "_" argument | degrees}
 *     atom     = number [fraction] | name | function | "(" list ")" | "{" list "}" | ...
 *
 * Atoms are in mathreader_atom.c. Tuples and matrices are added and multiplied by numbers item by
 * item; what arithmetic does not apply to (a set, infinity) must stand alone. */
#include "reward/math/mathfunc.h"
#include "reward/math/mathreader.h"

#include <string.h>

typedef const struct mathparse_node *node;
typedef const struct algebra_value *value;

/* ---- arithmetic on values, tuples and matrices ---- */

static bool is_vector(node n) {
    return n && (n->kind == MATHPARSE_MATRIX ||
                 (n->kind == MATHPARSE_TUPLE && n->open == '(' && n->close == ')'));
}

static node multiply_nodes(struct mathreader *r, node a, node b);
static node add_nodes(struct mathreader *r, node a, node b);

/* Rows by columns. */
static node multiply_matrices(struct mathreader *r, node a, node b) {
    size_t cols = b->cols, inner = a->cols;
    if (inner == 0 || cols == 0 || b->n / cols != inner || a->open || b->open) return NULL;
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_MATRIX);
    n->cols = cols;
    for (size_t i = 0; i < a->n / inner; i++)
        for (size_t j = 0; j < cols; j++) {
            node sum = mathreader_value(r, algebra_int(r->g, 0));
            for (size_t k = 0; k < inner && sum; k++) {
                node x = multiply_nodes(r, a->item[i * inner + k], b->item[k * cols + j]);
                sum = x ? add_nodes(r, sum, x) : NULL;
            }
            if (!mathreader_add(r, n, sum)) return NULL;
        }
    return n;
}

static node multiply_nodes(struct mathreader *r, node a, node b) {
    value x = mathreader_value_of(a), y = mathreader_value_of(b);
    if (a && b && a->kind == MATHPARSE_MATRIX && b->kind == MATHPARSE_MATRIX)
        return multiply_matrices(r, a, b);
    if (x && y)
        return mathreader_is_finite(r, x) && mathreader_is_finite(r, y)
                   ? mathreader_value(r, algebra_mul(r->g, x, y))
                   : NULL;
    node vector = x ? b : a, scale = x ? a : b;
    if (!is_vector(vector) || !mathreader_value_of(scale)) return NULL;
    struct mathparse_node *n = mathreader_new(r, vector->kind);
    *n = *vector;
    n->n = 0;
    for (size_t i = 0; i < vector->n; i++)
        if (!mathreader_add(r, n, multiply_nodes(r, scale, vector->item[i]))) return NULL;
    return n;
}

static node divide_nodes(struct mathreader *r, node a, node b) {
    value y = mathreader_value_of(b);
    if (!y || !mathreader_is_finite(r, y) || !mathreader_is_finite(r, mathreader_value_of(a)))
        return NULL;
    return multiply_nodes(r, a, mathreader_value(r, algebra_div(r->g, algebra_int(r->g, 1), y)));
}

static node negate(struct mathreader *r, node a) {
    value x = mathreader_value_of(a);
    if (x) return mathreader_value(r, algebra_neg(r->g, x));
    return multiply_nodes(r, mathreader_value(r, algebra_int(r->g, -1)), a);
}

static node add_nodes(struct mathreader *r, node a, node b) {
    value x = mathreader_value_of(a), y = mathreader_value_of(b);
    if (x && y)
        return mathreader_is_finite(r, x) && mathreader_is_finite(r, y)
                   ? mathreader_value(r, algebra_add(r->g, x, y))
                   : NULL;
    if (!is_vector(a) || !is_vector(b) || a->kind != b->kind || a->n != b->n || a->cols != b->cols)
        return NULL;
    struct mathparse_node *n = mathreader_new(r, a->kind);
    *n = *a;
    n->n = 0;
    for (size_t i = 0; i < a->n; i++)
        if (!mathreader_add(r, n, add_nodes(r, a->item[i], b->item[i]))) return NULL;
    return n;
}

/* Z^+, x^*, A^T is no power: a sign alone is part of the name. '\0' if there is none at ^. */
static char read_mark(struct mathreader *r) {
    struct mathlex_token *t = r->at + 1;
    bool brace = t->kind == MATHLEX_PUNCT && t->punct == '{';
    if (brace) t++;
    if (t->kind != MATHLEX_PUNCT || !t->punct || !strchr("+-*", t->punct)) return 0;
    bool ends = brace ? t[1].kind == MATHLEX_PUNCT && t[1].punct == '}'
                      : t->punct != '-' || t[1].kind == MATHLEX_END;
    if (!ends) return 0;
    r->at = t + (brace ? 2 : 1);
    return t->punct;
}

/* A degree sign is a factor in an argument of a trigonometric function, elsewhere a unit. */
static value read_degree(struct mathreader *r, value v) {
    if (r->angle == 0) return v;
    value pi = algebra_symbol(r->g, "pi", 2);
    return algebra_mul(r->g, v, algebra_div(r->g, pi, algebra_int(r->g, 180)));
}

node mathreader_power(struct mathreader *r) {
    const struct mathlex_token *start = r->at;
    node n = mathreader_atom(r);
    value v = mathreader_value_of(n);
    if (n && n->kind == MATHPARSE_MATRIX && mathreader_is(r, '^')) /* an inverse, a power */
        v = mathreader_opaque(r, "matrix", start, r->at);
    while (v) {
        char mark = mathreader_is(r, '^') ? read_mark(r) : 0;
        if (mark) {
            v = algebra_func(r->g, (char[]){'^', mark, 0}, v, NULL);
        } else if (mathreader_accept(r, '^')) {
            v = mathreader_is_finite(r, v) ? algebra_pow(r->g, v, mathreader_exponent(r)) : NULL;
        } else if (mathreader_accept(r, '_')) {
            v = algebra_func(r->g, "base", v, mathreader_argument(r, false));
        } else if (mathreader_accept(r, '!')) {
            const char *name = mathreader_accept(r, '!') ? "!!" : "!";
            v = mathfunc_apply(r->g, name, &v, 1, NULL);
        } else if (mathreader_accept(r, '%')) {
            r->percent = true;
        } else if (mathreader_is(r, MATHLEX_AM) || mathreader_is(r, MATHLEX_PM)) {
            r->noon = r->at++->punct;
        } else if (mathreader_accept(r, MATHLEX_DEGREE)) {
            v = read_degree(r, v);
        } else {
            return n->kind == MATHPARSE_VALUE && v == n->value ? n : mathreader_value(r, v);
        }
    }
    return n && n->kind != MATHPARSE_VALUE && !mathreader_value_of(n) ? n : NULL;
}

static bool is_mod(const struct mathreader *r) {
    return mathreader_is_command(r, "mod") || mathreader_is_command(r, "bmod");
}

/* Whether a factor follows without a sign. A number follows only a bracket, dots, or a letter if it
 * is a power (n 2^n): "2 3" is not 6. A bar does not while one is open, or where it ends the head
 * of a set. */
static bool starts_factor(const struct mathreader *r) {
    if (r->at->kind == MATHLEX_NUMBER) {
        const struct mathlex_token *last = r->at - 1;
        return (last->kind == MATHLEX_PUNCT && last->punct && strchr(")}]!", last->punct)) ||
               (last->kind == MATHLEX_SYMBOL && last->n >= 4 &&
                memcmp(last->s + last->n - 4, "dots", 4) == 0) ||
               (last->kind == MATHLEX_SYMBOL && r->at->space && r->at[1].kind == MATHLEX_PUNCT &&
                r->at[1].punct == '^');
    }
    if (is_mod(r) || mathreader_is_command(r, "pmod")) return false;
    return r->at->kind == MATHLEX_SYMBOL || r->at->kind == MATHLEX_COMMAND ||
           mathreader_is(r, '(') || mathreader_is(r, '[') || mathreader_is(r, '{') ||
           mathreader_is(r, MATHLEX_FLOOR_OPEN) || mathreader_is(r, MATHLEX_CEIL_OPEN) ||
           mathreader_is(r, MATHLEX_BEGIN) || (mathreader_is(r, '|') && r->bars == 0 && !r->no_bar);
}

/* "(mod 3)", behind a congruence. */
static bool is_modulus(const struct mathreader *r) {
    return mathreader_is(r, '(') && r->at[1].kind == MATHLEX_COMMAND &&
           (mathreader_is_name(&r->at[1], "mod") || mathreader_is_name(&r->at[1], "bmod"));
}

/* Interval notation begins like a factor: 1, [2, 3] does not follow without a sign. */
static bool is_interval(node n) {
    return n && n->kind == MATHPARSE_TUPLE && (n->open == '[' || n->close == ']') && n->n > 1;
}

/* Behind * or /: a factor may have a sign, 2 \cdot -3. */
static node read_signed(struct mathreader *r) {
    bool minus = mathreader_accept(r, '-');
    node n = mathreader_power(r);
    return n && minus ? negate(r, n) : n;
}

node mathreader_product(struct mathreader *r) {
    node n = mathreader_power(r);
    while (n) {
        if (mathreader_accept(r, '*')) {
            n = multiply_nodes(r, n, read_signed(r));
        } else if (mathreader_accept(r, '/')) {
            n = divide_nodes(r, n, read_signed(r));
        } else if (starts_factor(r) && !is_modulus(r)) {
            node factor = mathreader_power(r);
            n = is_interval(factor) ? NULL : multiply_nodes(r, n, factor);
        } else {
            break;
        }
    }
    return n;
}

/* ---- sums ---- */

enum sign { SIGN_NONE, SIGN_PLUS, SIGN_MINUS };

static enum sign read_sign(struct mathreader *r) {
    if (mathreader_accept(r, '+')) return SIGN_PLUS;
    if (mathreader_accept(r, '-')) return SIGN_MINUS;
    bool minus_first = r->minus_first;
    if (mathreader_accept(r, MATHLEX_MINUS_PLUS))
        minus_first = !minus_first;
    else if (!mathreader_accept(r, MATHLEX_PLUS_MINUS))
        return SIGN_NONE;
    r->plus_minus = true;
    return minus_first ? SIGN_MINUS : SIGN_PLUS;
}

static node pair(struct mathreader *r, char op, node a, node b) {
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_PAIR);
    n->op[0] = op;
    return mathreader_add(r, n, a) && mathreader_add(r, n, b) ? n : NULL;
}

/* Behind a product: mod 5. */
static node read_mod(struct mathreader *r, node n) {
    while (n && is_mod(r)) {
        r->at++;
        value x = mathreader_value_of(n), y = mathreader_value_of(mathreader_product(r));
        n = x && y ? mathreader_value(r, mathfunc_mod(r->g, x, y)) : NULL;
    }
    return n;
}

static node read_sum(struct mathreader *r) {
    enum sign sign = read_sign(r);
    node n = mathreader_product(r);
    if (sign == SIGN_MINUS && n) n = negate(r, n);
    n = read_mod(r, n); /* -1 mod 5 is 4 */
    if (sign == SIGN_PLUS && !mathreader_value_of(n) && !is_vector(n)) return NULL;
    while (n && (sign = read_sign(r)) != SIGN_NONE) {
        node x = read_mod(r, mathreader_product(r));
        if (x && x->kind == MATHPARSE_SET && sign == SIGN_MINUS)
            n = pair(r, MATHLEX_WITHOUT, n, x); /* R - {0} */
        else
            n = add_nodes(r, n, x && sign == SIGN_MINUS ? negate(r, x) : x);
    }
    return n;
}

/* Every nesting passes through here or mathreader_atom, so both count the depth. */
node mathreader_sum(struct mathreader *r) {
    if (r->depth >= MATHREADER_DEPTH) return NULL;
    r->depth++;
    node n = read_sum(r);
    r->depth--;
    return n;
}

/* ---- structure ---- */

static node read_union(struct mathreader *r) {
    node n = mathreader_sum(r);
    while (n) {
        if (mathreader_is(r, MATHLEX_UNION) && !r->ordered) {
            struct mathparse_node *u = mathreader_new(r, MATHPARSE_UNION);
            if (!mathreader_add(r, u, n)) return NULL;
            while (mathreader_accept(r, MATHLEX_UNION))
                if (!mathreader_add(r, u, mathreader_sum(r))) return NULL;
            n = u;
        } else if (mathreader_is(r, MATHLEX_INTERSECT) || mathreader_is(r, MATHLEX_WITHOUT)) {
            char op = r->at++->punct;
            n = pair(r, op, n, mathreader_sum(r));
        } else {
            break;
        }
    }
    return n;
}

/* With the signs that were written in it. */
static node read_side(struct mathreader *r) {
    r->percent = false;
    r->noon = 0;
    node side = read_union(r);
    if (!side || !(r->percent || r->noon) || side->kind != MATHPARSE_VALUE) return side;
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_VALUE);
    *n = *side;
    n->percent = r->percent;
    n->noon = r->noon;
    return n;
}

/* Whether from..to names one thing: x, x_1, f(x), f'(x), |AB|, \angle ABC, dy/dx, (x, y). Several
 * small letters side by side are a product. */
static bool is_named(const struct mathlex_token *from, const struct mathlex_token *to) {
    static const char *const over[] = {"overline", "vec", "angle", "triangle", "partial"};
    size_t symbols = 0, small = 0;
    bool marked = false, derivative = false;
    for (const struct mathlex_token *t = from; t < to; t++) {
        if (t->kind == MATHLEX_SYMBOL) {
            bool subscript = t > from && t[-1].kind == MATHLEX_PUNCT && strchr("_{", t[-1].punct);
            symbols++;
            small += t->n == 1 && *t->s >= 'a' && *t->s <= 'z' && !subscript;
            for (size_t i = 0; i < sizeof over / sizeof over[0]; i++)
                marked = marked || mathreader_is_name(t, over[i]);
            continue;
        }
        if (t == from && t->kind == MATHLEX_COMMAND && mathreader_is_name(t, "frac")) {
            derivative = mathreader_is_name(&t[2], "d") || mathreader_is_name(&t[2], "partial");
            if (!derivative) return false;
            continue;
        }
        if (t->kind == MATHLEX_PUNCT && t->punct == '^') { /* f^{-1}, f^{(3)}; not x^2 */
            const struct mathlex_token *e = t[1].punct == '{' ? &t[2] : &t[1];
            if (!derivative && e->punct != '-' && e->punct != '(') return false;
            if (e->punct == '-') t = e;
            continue;
        }
        bool number = t->kind == MATHLEX_NUMBER && symbols > 0 && t[-1].kind == MATHLEX_PUNCT &&
                      strchr("_({^-", t[-1].punct);
        if (!number && !(t->kind == MATHLEX_PUNCT && strchr("()_{},'|", t->punct))) return false;
        marked = marked || (t->kind == MATHLEX_PUNCT && strchr("(|'", t->punct));
    }
    if (derivative) return symbols >= 3;
    return symbols > 0 && (small <= 1 || marked);
}

static bool is_sum_of_letters(const struct mathlex_token *from, const struct mathlex_token *to) {
    for (; from < to; from++)
        if (from->kind != MATHLEX_SYMBOL && !(from->kind == MATHLEX_PUNCT && from->punct == '+'))
            return false;
    return true;
}

/* Behind a congruence: (mod 3), \pmod 3, mod 3. The side with its modulus; congruent numbers
 * become the same. */
static node read_modulus(struct mathreader *r, node side) {
    bool bracket = is_modulus(r), command = mathreader_is_command(r, "pmod");
    if (!bracket && !command) return side;
    r->at += bracket ? 2 : 1;
    value m = bracket ? mathreader_value_of(mathreader_sum(r)) : mathreader_argument(r, false);
    value x = mathreader_value_of(side);
    if (!m || !x || (bracket && !mathreader_accept(r, ')'))) return NULL;
    x = mathfunc_mod(r->g, x, m);
    return x ? mathreader_value(r, algebra_func(r->g, "modulo", x, m)) : NULL;
}

static bool is_order(const struct mathlex_token *t) {
    return t->kind == MATHLEX_PUNCT &&
           (t->punct == '<' || t->punct == '>' || t->punct == MATHLEX_LE || t->punct == MATHLEX_GE);
}

node mathreader_relation(struct mathreader *r) {
    static const char ops[] = {'=',           '<',        '>',        MATHLEX_APPROX,
                               MATHLEX_LE,    MATHLEX_GE, MATHLEX_NE, MATHLEX_IN,
                               MATHLEX_EQUIV, MATHLEX_TO, 0};
    if (!mathreader_accept(r, '=')) (void)mathreader_accept(r, MATHLEX_APPROX);
    const struct mathlex_token *start = r->at;
    bool bare = is_order(r->at); /* ">= 5" alone: of whatever is asked for */
    node first = bare ? mathreader_value(r, algebra_symbol(r->g, MATHPARSE_ASKED, 1))
                      : read_modulus(r, read_side(r));
    if (!first) return NULL;
    bool ratio = mathreader_is(r, ':') && !r->no_bar;
    if (r->at->kind != MATHLEX_PUNCT || (!strchr(ops, r->at->punct) && !ratio)) return first;
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_RELATION);
    n->named = is_named(start, r->at);
    n->names = is_sum_of_letters(start, r->at);
    if (!mathreader_add(r, n, first)) return NULL;
    while (r->at->kind == MATHLEX_PUNCT &&
           (strchr(ops, r->at->punct) || (r->at->punct == ':' && !r->no_bar))) {
        if (n->n > MATHPARSE_OPS) return NULL;
        n->op[n->n - 1] = r->at++->punct;
        start = r->at;
        bool ordered = r->ordered;
        r->ordered = is_order(r->at - 1);
        node side = read_modulus(r, read_side(r));
        r->ordered = ordered;
        if (!mathreader_add(r, n, side)) return NULL;
        n->named_last = is_named(start, r->at);
    }
    return n;
}

bool mathreader_separator(struct mathreader *r, struct mathparse_node *n) {
    if (n->n > 0 && n->item[n->n - 1]->kind == MATHPARSE_RELATION &&
        mathreader_accept(r, MATHLEX_UNION)) {
        n->joint = 'o';
        return true;
    }
    bool any = mathreader_accept(r, ',') || mathreader_accept(r, ';');
    const struct mathlex_token *t = r->at;
    if (any && mathreader_is(r, ',') && strchr("ao", *t->s)) r->at++;
    if (any && strchr("ao", *r->at[-1].s)) n->joint = *r->at[-1].s;
    return any;
}

bool mathreader_items(struct mathreader *r, struct mathparse_node *n, const char *closing) {
    int bars = r->bars;
    bool ordered = r->ordered;
    r->bars = 0;
    r->ordered = false;
    do
        if (!mathreader_add(r, n, mathreader_relation(r))) return false;
    while (mathreader_separator(r, n));
    r->bars = bars;
    r->ordered = ordered;
    if (r->at->kind != MATHLEX_PUNCT || !strchr(closing, r->at->punct)) return false;
    n->close = r->at++->punct;
    return true;
}
