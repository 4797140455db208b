/* mathsame.c - comparison of structures. Values are compared by algebra_same, sets of reals by
 * their pieces (realset), equations by being multiples of each other; the rest item by item. */
#include "reward/math/mathsame.h"

#include "reward/math/mathlex.h"
#include "reward/math/realset.h"

#include <math.h>
#include <string.h>

typedef const struct mathparse_node *node;

#define NEAR 0.05 /* how far a value may be from what is written behind \approx */

static int same(struct algebra *g, node want, node got);

/* ---- values, items ---- */

/* 50% is 50%, 50 or 0.5 where the other side has no percent sign. */
static int same_value(struct algebra *g, node a, node b) {
    int s = algebra_same(g, a->value, b->value);
    if (a->noon && b->noon && a->noon != b->noon) return 0;
    if (s == 1 || a->percent == b->percent) return s;
    node percent = a->percent ? a : b, plain = a->percent ? b : a;
    return algebra_same(g, algebra_div(g, percent->value, algebra_int(g, 100)), plain->value);
}

static int same_in_order(struct algebra *g, node want, node got) {
    if (want->n != got->n) return 0;
    for (size_t i = 0; i < want->n; i++) {
        int s = same(g, want->item[i], got->item[i]);
        if (s != 1) return s;
    }
    return 1;
}

/* Each item of a is one of b's; a is the wanted side or the other. */
static int within_tolerance(struct algebra *g, node a, node b, bool a_wanted) {
    for (size_t i = 0; i < a->n; i++) {
        int found = 0;
        for (size_t j = 0; j < b->n && found == 0; j++)
            found = a_wanted ? same(g, a->item[i], b->item[j]) : same(g, b->item[j], a->item[i]);
        if (found != 1) return found;
    }
    return 1;
}

static int same_any_order(struct algebra *g, node want, node got) {
    int s = within_tolerance(g, want, got, true);
    return s == 1 ? within_tolerance(g, got, want, false) : s;
}

/* ---- equations and chains ---- */

static bool is_equation_node(node n) {
    if (n->kind != MATHPARSE_RELATION) return false;
    for (size_t i = 0; i + 1 < n->n; i++)
        if (n->op[i] != '=' && n->op[i] != MATHLEX_APPROX) return false;
    return true;
}

/* A value without variables, written in numbers. */
static bool is_constant(const struct algebra *g, node n) {
    return n->kind == MATHPARSE_VALUE && algebra_is_constant(g, n->value);
}

/* Whether the constants of a chain agree: 2+3 = 5 does, 2+3 = 6 does not; what is behind \approx
 * must be near. */
static bool is_consistent(struct algebra *g, node n) {
    node last = NULL;
    bool approx = false;
    for (size_t i = 0; i < n->n; i++) {
        approx = approx || (i > 0 && n->op[i - 1] == MATHLEX_APPROX);
        if (!is_constant(g, n->item[i])) continue;
        if (last && !approx && same_value(g, last, n->item[i]) != 1) return false;
        double a, b;
        if (last && approx && algebra_real(&a, g, last->value) &&
            algebra_real(&b, g, n->item[i]->value) && fabs(a - b) > NEAR * fmax(fabs(a), fabs(b)))
            return false;
        last = n->item[i];
        approx = false;
    }
    return true;
}

/* What an equation says its left side is: the last item, and the last one before \approx; the first
 * where the last is only a name (5 = x). How many: 0 if it contradicts itself. */
static size_t values_of(struct algebra *g, node n, node out[2]) {
    size_t k = 0, exact = n->n - 1;
    if (!is_consistent(g, n)) return 0;
    for (size_t i = n->n - 1; i > 0; i--)
        if (n->op[i - 1] == MATHLEX_APPROX) exact = i - 1;
    if (n->named_last && !n->named && exact == n->n - 1) {
        out[k++] = n->item[n->n - 2];
        return k;
    }
    out[k++] = n->item[n->n - 1];
    if (exact > 0 || (exact + 1 < n->n && (!n->named || is_constant(g, n->item[0]))))
        out[k++] = n->item[exact];
    return k;
}

/* 2x - y + 3 = 0 says no value: it is a curve. x + y = 0 says that of x + y. */
static bool is_implicit(struct algebra *g, node n) {
    struct rational zero;
    node last = n->item[n->n - 1];
    return n->n == 2 && last->kind == MATHPARSE_VALUE && algebra_is_rational(&zero, last->value) &&
           rational_is_zero(&zero) && !n->named && !n->names && !is_constant(g, n->item[0]);
}

/* One side is an equation or a membership, the other is not. */
static int same_as_value(struct algebra *g, node want, node got) {
    bool unpack_want = want->kind == MATHPARSE_RELATION;
    node relation = unpack_want ? want : got, value[2];
    size_t k = 0;
    if (relation->op[0] == MATHLEX_IN && relation->n == 2 && relation->named)
        value[k++] = relation->item[1];
    else if (is_equation_node(relation) &&
             (!unpack_want || relation->named || relation->named_last ||
              is_constant(g, relation->item[0])))
        k = values_of(g, relation, value);
    if (relation == got && is_implicit(g, got)) k = 0;
    int result = 0;
    for (size_t i = 0; i < k && result != 1; i++)
        result = unpack_want ? same(g, value[i], got) : same(g, want, value[i]);
    return result;
}

/* As it is read from the right. What was rounded is equal to what was rounded. */
static char exact_mirrored(char op) {
    return op == MATHLEX_APPROX ? '=' : mathlex_mirrored(op);
}

/* Also read from the right: 5 > x is x < 5. A ratio and a membership have a direction. */
static int same_items(struct algebra *g, node a, node b) {
    int forward = 1, backward = 1;
    if (a->n != b->n) return 0;
    for (size_t i = 0; i + 1 < a->n; i++) {
        char back = exact_mirrored(b->op[b->n - 2 - i]);
        if (exact_mirrored(a->op[i]) != exact_mirrored(b->op[i])) forward = 0;
        if (exact_mirrored(exact_mirrored(a->op[i])) != back || strchr(":IO", back)) backward = 0;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (forward == 1) forward = same(g, a->item[i], b->item[i]);
        if (backward == 1) backward = same(g, a->item[i], b->item[b->n - 1 - i]);
    }
    return forward == 1 || backward == 1 ? 1 : forward < 0 || backward < 0 ? -1 : 0;
}

/* left - right of a relation between two values that holds a variable; or NULL. */
static const struct algebra_value *difference(struct algebra *g, node n) {
    if (n->n != 2 || n->item[0]->kind != MATHPARSE_VALUE || n->item[1]->kind != MATHPARSE_VALUE)
        return NULL;
    const struct algebra_value *d =
        algebra_add(g, n->item[0]->value, algebra_neg(g, n->item[1]->value));
    return d && !algebra_is_constant(g, d) ? d : NULL;
}

/* 2x - y + 3 = 0 and y = 2x + 3; 2x > 4 and x > 2, -x < -2 and x > 2. */
static int same_multiple(struct algebra *g, node a, node b) {
    const struct algebra_value *x = difference(g, a), *y = difference(g, b);
    if (!x || !y || !strchr("=<>LGN", a->op[0])) return 0;
    int sign = algebra_ratio_sign(g, x, y);
    bool either = a->op[0] == '=' || a->op[0] == MATHLEX_NE;
    if (either) return sign != 0 && a->op[0] == b->op[0];
    return (sign == 1 && a->op[0] == b->op[0]) ||
           (sign == -1 && a->op[0] == exact_mirrored(b->op[0]));
}

/* x = 2+3 = 5 is x = 5. */
static node shortened(struct algebra *g, node n, struct mathparse_node *out, node item[2]) {
    if (n->n <= 2 || !is_equation_node(n) || !n->named || !is_consistent(g, n)) return n;
    *out = *n;
    out->n = 2;
    out->item = item;
    item[0] = n->item[0];
    item[1] = n->item[n->n - 1];
    return out;
}

static int same_relation(struct algebra *g, node want, node got) {
    struct mathparse_node x, y;
    node in_x[2], in_y[2];
    want = shortened(g, want, &x, in_x);
    got = shortened(g, got, &y, in_y);
    int s = same_items(g, want, got);
    return s == 1 ? 1 : same_multiple(g, want, got) == 1 ? 1 : s;
}

/* ---- lists ---- */

static bool is_unordered(node n) {
    return n->kind == MATHPARSE_LIST || n->kind == MATHPARSE_SET;
}

/* x = 1, y = 2 with names in alphabetical order, against (1, 2). */
static int same_as_tuple(struct algebra *g, node list, node tuple, bool list_wanted) {
    const char *last = "";
    if (tuple->open != '(' || tuple->close != ')' || list->n != tuple->n) return 0;
    for (size_t i = 0; i < list->n; i++) {
        node n = list->item[i];
        if (!is_equation_node(n) || n->n != 2 || n->item[0]->kind != MATHPARSE_VALUE) return 0;
        const char *name = algebra_symbol_name(g, n->item[0]->value);
        if (!name || strcmp(last, name) >= 0) return 0;
        last = name;
        int s =
            list_wanted ? same(g, n->item[1], tuple->item[i]) : same(g, tuple->item[i], n->item[1]);
        if (s != 1) return s;
    }
    return 1;
}

/* (x, y) = (1, 2) against x = 1, y = 2. */
static int same_as_equations(struct algebra *g, node relation, node list, bool list_wanted) {
    if (!is_equation_node(relation) || relation->n != 2) return 0;
    node names = relation->item[0], values = relation->item[1];
    if (names->kind != MATHPARSE_TUPLE || values->kind != MATHPARSE_TUPLE ||
        names->n != values->n || names->n != list->n)
        return 0;
    for (size_t i = 0; i < names->n; i++) {
        struct mathparse_node one = {.kind = MATHPARSE_RELATION, .n = 2, .op = "="};
        one.item = (node[]){names->item[i], values->item[i]};
        int found = 0;
        for (size_t j = 0; j < list->n && found != 1; j++)
            if (list->item[j]->kind == MATHPARSE_RELATION)
                found = list_wanted ? same(g, list->item[j], &one) : same(g, &one, list->item[j]);
        if (found != 1) return found;
    }
    return 1;
}

/* ---- all kinds ---- */

/* Whether n may be a set of reals that another notation writes differently. */
static bool may_be_set(node n) {
    return n->kind != MATHPARSE_RELATION || !is_equation_node(n);
}

static bool same_set(struct algebra *g, node want, node got) {
    struct realset a, b;
    bool tuples = want->kind == MATHPARSE_TUPLE && got->kind == MATHPARSE_TUPLE;
    return !tuples && may_be_set(want) && may_be_set(got) && realset_read(&a, g, want) &&
           realset_read(&b, g, got) && realset_equal(g, &a, &b);
}

static int same_kind(struct algebra *g, node want, node got) {
    switch (want->kind) {
    case MATHPARSE_VALUE: return same_value(g, want, got);
    case MATHPARSE_TUPLE:
        return want->open == got->open && want->close == got->close ? same_in_order(g, want, got)
                                                                    : 0;
    case MATHPARSE_MATRIX:
        return want->cols == got->cols && want->open == got->open ? same_in_order(g, want, got) : 0;
    case MATHPARSE_UNION: return same_any_order(g, want, got);
    case MATHPARSE_PAIR: return want->op[0] == got->op[0] ? same_in_order(g, want, got) : 0;
    case MATHPARSE_BUILDER: return same_in_order(g, want, got);
    case MATHPARSE_RELATION: return same_relation(g, want, got);
    default: return 0;
    }
}

/* "\frac{72}{6} or 12": a list that says one value several times is that value. */
static int same_as_each(struct algebra *g, node list, node one, bool list_wanted) {
    for (size_t i = 0; i < list->n; i++) {
        if (list->item[i]->kind != MATHPARSE_VALUE) return 0; /* a = 5, b = 5 */
        int s = list_wanted ? same(g, list->item[i], one) : same(g, one, list->item[i]);
        if (s != 1) return s;
    }
    return list->n > 0;
}

static int same_shapes(struct algebra *g, node want, node got) {
    if (want->kind == MATHPARSE_LIST && got->kind == MATHPARSE_VALUE)
        return same_as_each(g, want, got, true);
    if (got->kind == MATHPARSE_LIST && want->kind == MATHPARSE_VALUE)
        return same_as_each(g, got, want, false);
    bool relation = want->kind == MATHPARSE_RELATION, other = got->kind == MATHPARSE_RELATION;
    if (is_unordered(want) && is_unordered(got)) return same_any_order(g, want, got);
    if (want->kind == MATHPARSE_LIST && got->kind == MATHPARSE_TUPLE)
        return same_as_tuple(g, want, got, true);
    if (got->kind == MATHPARSE_LIST && want->kind == MATHPARSE_TUPLE)
        return same_as_tuple(g, got, want, false);
    if (relation && got->kind == MATHPARSE_LIST && same_as_equations(g, want, got, false) == 1)
        return 1;
    if (other && want->kind == MATHPARSE_LIST && same_as_equations(g, got, want, true) == 1)
        return 1;
    if (relation != other) return same_as_value(g, want, got);
    return want->kind == got->kind ? same_kind(g, want, got) : 0;
}

static int same(struct algebra *g, node want, node got) {
    int s = same_shapes(g, want, got);
    return s != 1 && same_set(g, want, got) ? 1 : s;
}

int mathsame(struct algebra *g, node want, node got) {
    return same(g, want, got);
}
