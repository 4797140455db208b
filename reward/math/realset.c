/* realset.c - pieces are ordered by their ends as doubles and compared exactly. Everything is built
 * from three operations: one piece, union, complement. An interval between variables is kept only
 * when it stands alone. */
#include "reward/math/realset.h"

#include "reward/math/mathlex.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef const struct mathparse_node *node;

static const struct realset_end below_all = {.at = -INFINITY}, above_all = {.at = INFINITY};

/* ---- operations ---- */

static bool is_symbolic(const struct realset *a) {
    for (size_t i = 0; i < a->n; i++)
        if (isnan(a->piece[i].low.at) || isnan(a->piece[i].high.at)) return true;
    return false;
}

static void set_all(struct realset *out) {
    *out = (struct realset){.n = 1};
    out->piece[0].low = below_all;
    out->piece[0].high = above_all;
}

/* The ends of different computations may differ in their last bits. */
static int compare_ends(double a, double b) {
    bool near = isfinite(a) && isfinite(b) && fabs(a - b) <= 1e-12 * fmax(fabs(a), fabs(b));
    return a == b || near ? 0 : a < b ? -1 : 1;
}

/* Whether a piece that ends at high and one that starts at low leave nothing between them. */
static bool touches(const struct realset_end *high, const struct realset_end *low) {
    int order = compare_ends(low->at, high->at);
    return order < 0 || (order == 0 && (low->closed || high->closed));
}

static bool unite(struct realset *out, const struct realset *a, const struct realset *b) {
    struct realset r = {.variable = a->variable ? a->variable : b->variable};
    size_t i = 0, j = 0;
    if (a->n == 0 || b->n == 0) { /* keeps an interval between variables */
        const char *variable = r.variable;
        *out = a->n == 0 ? *b : *a;
        out->variable = variable;
        return true;
    }
    if (is_symbolic(a) || is_symbolic(b)) return false;
    while (i < a->n || j < b->n) {
        bool left = j >= b->n || (i < a->n && a->piece[i].low.at <= b->piece[j].low.at);
        const struct realset_end low = left ? a->piece[i].low : b->piece[j].low;
        const struct realset_end high = left ? a->piece[i++].high : b->piece[j++].high;
        struct realset_end *last = r.n > 0 ? &r.piece[r.n - 1].high : NULL;
        if (last && touches(last, &low)) {
            if (compare_ends(low.at, r.piece[r.n - 1].low.at) == 0 && low.closed)
                r.piece[r.n - 1].low.closed = true;
            int order = compare_ends(high.at, last->at);
            if (order > 0) *last = high;
            if (order == 0) last->closed = last->closed || high.closed;
            continue;
        }
        if (r.n == REALSET_PIECES) return false;
        r.piece[r.n].low = low;
        r.piece[r.n++].high = high;
    }
    *out = r;
    return true;
}

/* The gaps between the pieces, which are in order; an end that belongs to a piece does not belong
 * to the gap. Infinity belongs to neither. */
static bool complement(struct realset *out, const struct realset *a) {
    struct realset r = {.variable = a->variable};
    struct realset_end low = below_all;
    if (is_symbolic(a)) return false;
    for (size_t i = 0; i <= a->n; i++) {
        struct realset_end high = i < a->n ? a->piece[i].low : above_all;
        if (i < a->n && isfinite(high.at)) high.closed = !high.closed;
        if (compare_ends(low.at, high.at) < 0 || (low.closed && high.closed && low.at == high.at)) {
            if (r.n == REALSET_PIECES) return false;
            r.piece[r.n].low = low;
            r.piece[r.n++].high = high;
        }
        if (i < a->n) {
            low = a->piece[i].high;
            low.closed = isfinite(low.at) && !low.closed;
        }
    }
    *out = r;
    return true;
}

static bool intersect(struct realset *out, const struct realset *a, const struct realset *b) {
    struct realset x, y;
    return complement(&x, a) && complement(&y, b) && unite(&x, &x, &y) && complement(out, &x);
}

/* ---- reading ---- */

static bool is_infinity(struct algebra *g, const struct algebra_value *v, double *sign) {
    const char *name = algebra_symbol_name(g, v);
    *sign = INFINITY;
    if (name) return strcmp(name, "infty") == 0;
    const struct algebra_value *opposite = algebra_neg(g, v);
    name = opposite ? algebra_symbol_name(g, opposite) : NULL;
    *sign = -INFINITY;
    return name && strcmp(name, "infty") == 0;
}

static bool read_end(struct realset_end *out, struct algebra *g, node n, bool closed) {
    double sign;
    if (n->kind != MATHPARSE_VALUE) return false;
    if (is_infinity(g, n->value, &sign)) {
        *out = (struct realset_end){.at = sign};
        return true;
    }
    *out = (struct realset_end){.value = n->value, .at = NAN, .closed = closed};
    (void)algebra_real(&out->at, g, n->value);
    return true;
}

/* One piece; false for what is empty or the wrong way round, which is no interval. */
static bool set_piece(struct realset *out, struct realset_end low, struct realset_end high) {
    *out = (struct realset){.n = 1};
    out->piece[0].low = low;
    out->piece[0].high = high;
    if (isnan(low.at) || isnan(high.at)) return low.at != INFINITY && high.at != -INFINITY;
    int order = compare_ends(low.at, high.at);
    return order < 0 || (order == 0 && low.closed && high.closed);
}

/* x op c: everything on one side of c. */
static bool set_side(struct realset *out, char op, struct realset_end c) {
    c.closed = op == MATHLEX_LE || op == MATHLEX_GE || op == '=' || op == MATHLEX_NE;
    if (isinf(c.at)) return false;
    if (op == '<' || op == MATHLEX_LE) return set_piece(out, below_all, c);
    if (op == '>' || op == MATHLEX_GE) return set_piece(out, c, above_all);
    if (!set_piece(out, c, c)) return false;
    return op == '=' || (op == MATHLEX_NE && complement(out, out));
}

static const char *variable_of(const struct algebra *g, node n) {
    const char *name = n->kind == MATHPARSE_VALUE ? algebra_symbol_name(g, n->value) : NULL;
    return name && strcmp(name, "infty") != 0 && strcmp(name, "pi") != 0 ? name : NULL;
}

/* \mathbb{R}; a plain R where something is in it. */
static bool is_reals(const struct algebra *g, node n, bool plain) {
    const char *name = variable_of(g, n);
    return name && (strcmp(name, "mathbb R") == 0 || strcmp(name, "Bbb R") == 0 ||
                    (plain && strcmp(name, "R") == 0));
}

/* x > 2, 2 < x, 1 < x <= 2, x \in S */
static bool read_relation(struct realset *out, struct algebra *g, node n) {
    struct realset_end a, b;
    size_t at = n->n == 2 && variable_of(g, n->item[0]) ? 0 : 1;
    const char *variable = variable_of(g, n->item[at]);
    if (!variable || n->n > 3) return false;
    if (n->op[0] == MATHLEX_IN) {
        if (n->n != 2 || at != 0) return false;
        if (is_reals(g, n->item[1], true))
            set_all(out);
        else if (!realset_read(out, g, n->item[1]))
            return false;
    } else if (n->n == 2) {
        char op = at == 0 ? n->op[0] : mathlex_mirrored(n->op[0]);
        if (!read_end(&a, g, n->item[1 - at], false) || !set_side(out, op, a)) return false;
    } else {
        char left = n->op[0], right = n->op[1];
        bool up = (left == '<' || left == MATHLEX_LE) && (right == '<' || right == MATHLEX_LE);
        bool down = (left == '>' || left == MATHLEX_GE) && (right == '>' || right == MATHLEX_GE);
        if (at != 1 || (!up && !down)) return false;
        if (!read_end(&a, g, n->item[0], left == MATHLEX_LE || left == MATHLEX_GE) ||
            !read_end(&b, g, n->item[2], right == MATHLEX_LE || right == MATHLEX_GE) ||
            !set_piece(out, up ? a : b, up ? b : a))
            return false;
    }
    out->variable = strcmp(variable, MATHPARSE_ASKED) == 0 ? NULL : variable;
    return true;
}

/* Conditions from item[first] on. "or" unites; "and" intersects; a comma intersects where that
 * leaves something (x > 0, x \ne 1) and unites where it does not (x < 1, x > 2). A value behind
 * x \ne 1 is another one that x is not. */
static bool read_conditions(struct realset *out, struct algebra *g, node n, size_t first) {
    struct realset next, both;
    for (size_t i = first; i < n->n; i++) {
        node item = n->item[i], last = i > first ? n->item[i - 1] : NULL;
        struct mathparse_node other;
        node sides[2];
        if (item->kind == MATHPARSE_VALUE && last && n->item[first]->kind == MATHPARSE_RELATION &&
            n->item[first]->n == 2 && n->item[first]->op[0] == MATHLEX_NE) {
            other = *n->item[first];
            sides[0] = n->item[first]->item[0];
            sides[1] = item;
            other.item = sides;
            item = &other;
        }
        if (item->kind != MATHPARSE_RELATION || !realset_read(&next, g, item)) return false;
        if (i == first) {
            *out = next;
            continue;
        }
        if (!next.variable || !out->variable || strcmp(next.variable, out->variable) != 0)
            return false;
        if (n->joint == 'o') {
            if (!unite(out, out, &next)) return false;
            continue;
        }
        if (!intersect(&both, out, &next)) return false;
        if (both.n == 0 && n->joint != 'a' && !unite(&both, out, &next)) return false;
        *out = both;
    }
    return n->n > first;
}

/* { x | conditions }, { x \in R | conditions }: the name of x does not matter. */
static bool read_builder_set(struct realset *out, struct algebra *g, node n) {
    node head = n->item[0];
    struct realset within;
    set_all(&within);
    if (head->kind == MATHPARSE_RELATION) {
        if (!realset_read(&within, g, head)) return false;
        head = head->item[0];
    }
    const char *name = variable_of(g, head);
    if (!name || !read_conditions(out, g, n, 1) || !out->variable ||
        strcmp(name, out->variable) != 0)
        return false;
    if (within.n != 1 || !isinf(within.piece[0].low.at) || !isinf(within.piece[0].high.at))
        if (!intersect(out, out, &within)) return false;
    out->variable = NULL;
    return true;
}

static bool read_pair(struct realset *out, struct algebra *g, node n) {
    struct realset a, b;
    if (!realset_read(&a, g, n->item[0]) || !realset_read(&b, g, n->item[1])) return false;
    if (n->op[0] == MATHLEX_WITHOUT && !complement(&b, &b)) return false;
    return intersect(out, &a, &b);
}

/* A union of sets, or the points of a set. */
static bool read_set_union(struct realset *out, struct algebra *g, node n) {
    struct realset r = {.n = 0}, next;
    for (size_t i = 0; i < n->n; i++) {
        struct realset_end point;
        bool fine = n->kind == MATHPARSE_UNION
                        ? realset_read(&next, g, n->item[i])
                        : read_end(&point, g, n->item[i], true) && isfinite(point.at) &&
                              set_piece(&next, point, point);
        if (!fine || !unite(&r, &r, &next)) return false;
    }
    *out = r;
    return true;
}

static bool read_interval(struct realset *out, struct algebra *g, node n) {
    struct realset_end a, b;
    return n->n == 2 && read_end(&a, g, n->item[0], n->open == '[') &&
           read_end(&b, g, n->item[1], n->close == ']') && set_piece(out, a, b);
}

bool realset_read(struct realset *out, struct algebra *g, node n) {
    *out = (struct realset){.n = 0};
    switch (n->kind) {
    case MATHPARSE_VALUE:
        if (!is_reals(g, n, false)) return false;
        set_all(out);
        return true;
    case MATHPARSE_TUPLE: return read_interval(out, g, n);
    case MATHPARSE_UNION:
    case MATHPARSE_SET: return read_set_union(out, g, n);
    case MATHPARSE_PAIR: return read_pair(out, g, n);
    case MATHPARSE_RELATION: return read_relation(out, g, n);
    case MATHPARSE_LIST: return read_conditions(out, g, n, 0);
    case MATHPARSE_BUILDER: return read_builder_set(out, g, n);
    default: return false;
    }
}

static bool same_end(struct algebra *g, const struct realset_end *a, const struct realset_end *b) {
    if (!a->value || !b->value) return !a->value && !b->value && a->at == b->at;
    return a->closed == b->closed && algebra_same(g, a->value, b->value) == 1;
}

bool realset_equal(struct algebra *g, const struct realset *a, const struct realset *b) {
    if (a->n != b->n) return false;
    if (a->variable && b->variable && strcmp(a->variable, b->variable) != 0) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!same_end(g, &a->piece[i].low, &b->piece[i].low) ||
            !same_end(g, &a->piece[i].high, &b->piece[i].high))
            return false;
    return true;
}
