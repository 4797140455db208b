/* algebra.c - one normal form instead of a rule system. A value is num/den, both polynomials: terms
 * sorted by their atoms, like terms merged, no zero coefficient. Equality is then a comparison of
 * arrays (after cross-multiplication if a denominator is a sum).
 *
 * Radicals are atoms "prime p" with a fractional exponent in [0, 1): 12^(1/2) becomes 2 * 3^(1/2),
 * and products of such powers of different primes are linearly independent over the rationals, so
 * the normal form of a sum of radicals is unique. The imaginary unit's exponent is kept below 2.
 * What has no such form (sin x, 2^x, the root of a sum) is an opaque atom that knows its arguments.
 *
 * Hostile input is bounded by counts, not by time: terms of a polynomial, atoms of a comparison,
 * and a budget of term operations. */
#include "reward/math/algebra.h"

#include "base/err.h"
#include "reward/math/algebra_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    POWER_MAX = 32,        /* of a sum */
    EXPONENT_MAX = 100000, /* numerator and denominator of an atom's exponent */
    BUDGET = 50000,        /* term operations of a comparison */
    EVALUATIONS = 200000,  /* factors evaluated by numbers in a comparison */
    TRIAL_MAX = 100000     /* largest trial divisor */
};

struct algebra *algebra_init(struct arena *arena) {
    struct algebra *g = arena_alloc(arena, sizeof *g);
    g->arena = arena;
    g->n_atoms = 0;
    g->budget = BUDGET;
    g->evaluations = EVALUATIONS;
    return g;
}

bool algebra_spend(struct algebra *g, int64_t work) {
    g->budget -= work;
    return g->budget >= 0;
}

/* ---- terms ---- */

int64_t algebra_gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a < 0 ? -a : a;
}

static int64_t floor_div(int64_t a, int64_t b) { /* b > 0 */
    return a / b - (a % b < 0);
}

/* Sets f's exponent to num/den and moves to the coefficient what the atom's kind allows: whole
 * powers of a prime, even powers of i. */
static bool set_exponent(const struct algebra *g, struct rational *c, struct factor *f, int64_t num,
                         int64_t den) {
    const struct atom *a = &g->atom[f->atom];
    int64_t d = algebra_gcd(num, den);
    struct rational x;
    num /= d;
    den /= d;
    if (num > EXPONENT_MAX || num < -EXPONENT_MAX || den > EXPONENT_MAX) return false;
    if (a->kind == ATOM_PRIME) {
        int64_t whole = floor_div(num, den);
        if (a->prime > INT64_MAX) return false;
        x = rational_int((int64_t)a->prime);
        if (whole && (!rational_pow(&x, &x, whole) || !rational_mul(c, c, &x))) return false;
        num -= whole * den;
    } else if (a->kind == ATOM_I && den == 1) {
        int64_t turns = num - 4 * floor_div(num, 4);
        if (turns >= 2) rational_negate(c);
        num = turns % 2;
    }
    f->num = (int32_t)num;
    f->den = (int32_t)den;
    return true;
}

/* Any total order will do, as long as like terms compare equal. */
static int compare_factors(const struct term *a, const struct term *b) {
    for (int32_t i = 0; i < a->n && i < b->n; i++) {
        const struct factor *x = &a->f[i], *y = &b->f[i];
        if (x->atom != y->atom) return x->atom < y->atom ? -1 : 1;
        if (x->num != y->num) return x->num < y->num ? -1 : 1;
        if (x->den != y->den) return x->den < y->den ? -1 : 1;
    }
    return (a->n > b->n) - (a->n < b->n);
}

static int by_factors(const void *a, const void *b) {
    return compare_factors(a, b);
}

/* Factors are sorted by atom, so this is a merge. */
static bool term_mul(struct algebra *g, struct term *out, const struct term *a,
                     const struct term *b) {
    struct term r = {.n = 0};
    int32_t i = 0, j = 0;
    if (--g->budget < 0 || !rational_mul(&r.c, &a->c, &b->c)) return false;
    while (i < a->n || j < b->n) {
        bool left = j >= b->n || (i < a->n && a->f[i].atom <= b->f[j].atom);
        bool right = i >= a->n || (j < b->n && b->f[j].atom <= a->f[i].atom);
        struct factor f = left ? a->f[i] : b->f[j];
        int64_t num = f.num, den = f.den;
        if (left && right) {
            num = num * b->f[j].den + (int64_t)b->f[j].num * den;
            den *= b->f[j].den;
        }
        i += left;
        j += right;
        if (num == 0) continue;
        if (!set_exponent(g, &r.c, &f, num, den)) return false;
        if (f.num == 0) continue;
        if (r.n == FACTORS_MAX) return false;
        r.f[r.n++] = f;
    }
    *out = r;
    return true;
}

/* a ^ (num / den); the coefficient must be 1 unless den is 1 */
static bool term_pow(struct algebra *g, struct term *out, const struct term *a, int64_t num,
                     int64_t den) {
    struct term r = {.c = a->c};
    if (--g->budget < 0 || (den == 1 && !rational_pow(&r.c, &a->c, num))) return false;
    for (int32_t i = 0; i < a->n; i++) {
        struct factor f = a->f[i];
        if (!set_exponent(g, &r.c, &f, f.num * num, f.den * den)) return false;
        if (f.num != 0) r.f[r.n++] = f;
    }
    *out = r;
    return true;
}

/* ---- polynomials ---- */

static struct poly poly_one(struct algebra *g) {
    struct poly p = {.n = 1, .t = arena_alloc(g->arena, sizeof *p.t)};
    p.t[0] = (struct term){.c = rational_int(1)};
    return p;
}

static bool poly_is_one(const struct poly *p) {
    struct rational one = rational_int(1);
    return p->n == 1 && p->t[0].n == 0 && rational_equal(&p->t[0].c, &one);
}

/* Sorts, merges like terms, drops zeros; in place. */
static bool poly_normalize(struct poly *p) {
    size_t n = 0;
    if (p->n > 1) qsort(p->t, p->n, sizeof *p->t, by_factors);
    for (size_t i = 0; i < p->n; i++) {
        if (n > 0 && compare_factors(&p->t[n - 1], &p->t[i]) == 0) {
            if (!rational_add(&p->t[n - 1].c, &p->t[n - 1].c, &p->t[i].c)) return false;
        } else {
            if (n > 0 && rational_is_zero(&p->t[n - 1].c)) n--;
            p->t[n++] = p->t[i];
        }
    }
    if (n > 0 && rational_is_zero(&p->t[n - 1].c)) n--;
    p->n = n;
    return n <= TERMS_MAX;
}

/* A result with too many terms is a refusal: false. out may be an operand. */
static bool poly_add(struct algebra *g, struct poly *out, const struct poly *a,
                     const struct poly *b) {
    struct poly r = {.n = a->n + b->n};
    g->budget -= (int64_t)r.n;
    if (g->budget < 0) return false;
    r.t = arena_alloc(g->arena, r.n * sizeof *r.t);
    if (a->n) memcpy(r.t, a->t, a->n * sizeof *r.t);
    if (b->n) memcpy(r.t + a->n, b->t, b->n * sizeof *r.t);
    *out = r;
    return poly_normalize(out);
}

static bool poly_mul(struct algebra *g, struct poly *out, const struct poly *a,
                     const struct poly *b) {
    struct poly r = {.n = a->n * b->n};
    if ((int64_t)r.n > g->budget) return false;
    r.t = arena_alloc(g->arena, r.n * sizeof *r.t);
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < b->n; j++)
            if (!term_mul(g, &r.t[i * b->n + j], &a->t[i], &b->t[j])) return false;
    *out = r;
    return poly_normalize(out);
}

static bool poly_equal(const struct poly *a, const struct poly *b) {
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (compare_factors(&a->t[i], &b->t[i]) != 0 || !rational_equal(&a->t[i].c, &b->t[i].c))
            return false;
    return true;
}

/* ---- values ---- */

/* A denominator of one term moves into the numerator. */
static const struct algebra_value *make(struct algebra *g, struct poly num, struct poly den) {
    struct algebra_value *v = arena_alloc(g->arena, sizeof *v);
    if (den.n == 0) return NULL;
    if (den.n == 1 && !poly_is_one(&den)) {
        struct poly inverse = poly_one(g);
        if (!term_pow(g, &inverse.t[0], &den.t[0], -1, 1) || !poly_mul(g, &num, &num, &inverse))
            return NULL;
        den = poly_one(g);
    }
    if (num.n == 0) den = poly_one(g);
    v->num = num;
    v->den = den;
    return v;
}

static const struct algebra_value *from_term(struct algebra *g, const struct term *t) {
    struct poly p = poly_one(g);
    p.t[0] = *t;
    if (rational_is_zero(&t->c)) p.n = 0;
    return make(g, p, poly_one(g));
}

const struct algebra_value *algebra_number(struct algebra *g, const struct rational *x) {
    return from_term(g, &(struct term){.c = *x});
}

const struct algebra_value *algebra_int(struct algebra *g, int64_t x) {
    struct rational r = rational_int(x);
    return algebra_number(g, &r);
}

/* Its index, or -1 when there are too many. */
static int32_t add_atom(struct algebra *g, struct atom a) {
    if (g->n_atoms == ATOMS_MAX) return -1;
    g->atom[g->n_atoms] = a;
    return g->n_atoms++;
}

static const struct algebra_value *from_atom(struct algebra *g, int32_t atom) {
    struct term t = {.c = rational_int(1), .n = 1, .f = {{atom, 1, 1}}};
    return atom < 0 ? NULL : from_term(g, &t);
}

const struct algebra_value *algebra_symbol(struct algebra *g, const char *name, size_t n) {
    enum atom_kind kind = n == 1 && *name == 'i' ? ATOM_I : ATOM_SYMBOL;
    for (int32_t i = 0; i < g->n_atoms; i++) {
        const struct atom *a = &g->atom[i];
        if (a->kind == kind && a->name_bytes == n && memcmp(a->name, name, n) == 0)
            return from_atom(g, i);
    }
    const char *copy = arena_strndup(g->arena, name, n);
    return from_atom(g, add_atom(g, (struct atom){.kind = kind, .name = copy, .name_bytes = n}));
}

const struct algebra_value *algebra_func(struct algebra *g, const char *name,
                                         const struct algebra_value *a,
                                         const struct algebra_value *b) {
    if (!a) return NULL;
    for (int32_t i = 0; i < g->n_atoms; i++) {
        const struct atom *f = &g->atom[i];
        if (f->kind != ATOM_FUNC || strcmp(f->name, name) != 0 || !f->b != !b) continue;
        if (algebra_equal(g, f->a, a) == 1 && (!b || algebra_equal(g, f->b, b) == 1))
            return from_atom(g, i);
    }
    const char *copy = arena_strndup(g->arena, name, strlen(name));
    return from_atom(g,
                     add_atom(g, (struct atom){.kind = ATOM_FUNC, .name = copy, .a = a, .b = b}));
}

const struct algebra_value *algebra_add(struct algebra *g, const struct algebra_value *a,
                                        const struct algebra_value *b) {
    struct poly x, y, den;
    if (!a || !b) return NULL;
    if (poly_equal(&a->den, &b->den)) {
        if (!poly_add(g, &x, &a->num, &b->num)) return NULL;
        return make(g, x, a->den);
    }
    if (!poly_mul(g, &x, &a->num, &b->den) || !poly_mul(g, &y, &b->num, &a->den) ||
        !poly_mul(g, &den, &a->den, &b->den) || !poly_add(g, &x, &x, &y))
        return NULL;
    return make(g, x, den);
}

const struct algebra_value *algebra_mul(struct algebra *g, const struct algebra_value *a,
                                        const struct algebra_value *b) {
    struct poly num, den;
    if (!a || !b || !poly_mul(g, &num, &a->num, &b->num) || !poly_mul(g, &den, &a->den, &b->den))
        return NULL;
    return make(g, num, den);
}

const struct algebra_value *algebra_div(struct algebra *g, const struct algebra_value *a,
                                        const struct algebra_value *b) {
    struct poly num, den;
    if (!a || !b || !poly_mul(g, &num, &a->num, &b->den) || !poly_mul(g, &den, &a->den, &b->num))
        return NULL;
    return make(g, num, den);
}

const struct algebra_value *algebra_neg(struct algebra *g, const struct algebra_value *a) {
    return algebra_mul(g, a, algebra_int(g, -1));
}

/* ---- powers ---- */

/* Index of the atom for p, -1 when there are too many atoms. */
static int32_t prime_atom(struct algebra *g, uint64_t p) {
    for (int32_t i = 0; i < g->n_atoms; i++)
        if (g->atom[i].kind == ATOM_PRIME && g->atom[i].prime == p) return i;
    return add_atom(g, (struct atom){.kind = ATOM_PRIME, .prime = p});
}

/* t *= (p ^ count) ^ (num / den) */
static bool mul_root(struct algebra *g, struct term *t, uint64_t p, int64_t count, int64_t num,
                     int64_t den) {
    struct term root = {.c = rational_int(1), .n = 1};
    root.f[0].atom = prime_atom(g, p);
    if (root.f[0].atom < 0 || !set_exponent(g, &root.c, &root.f[0], count * num, den)) return false;
    if (root.f[0].num == 0) root.n = 0;
    return term_mul(g, t, t, &root);
}

/* t *= x ^ (num / den) for x > 0, by factoring x */
static bool mul_integer_root(struct algebra *g, struct term *t, int64_t x, int64_t num,
                             int64_t den) {
    uint64_t rest = (uint64_t)x;
    g->budget -= 1000; /* about what the trial divisions cost */
    if (g->budget < 0) return false;
    for (uint64_t d = 2; d <= TRIAL_MAX && d * d <= rest; d++) {
        int64_t count = 0;
        for (; rest % d == 0; rest /= d)
            count++;
        if (count && !mul_root(g, t, d, count, num, den)) return false;
    }
    if (rest > (uint64_t)TRIAL_MAX * TRIAL_MAX) return false; /* may not be a prime */
    return rest == 1 || mul_root(g, t, rest, 1, num, den);
}

/* Numerator and denominator of x as positive integers that fit, and its sign. */
static bool split_fraction(const struct rational *x, int64_t *num, int64_t *den, bool *negative) {
    struct rational n = *x, d = *x;
    n.negative = false;
    n.den = rational_int(1).num;
    d.negative = false;
    d.num = x->den;
    d.den = n.den;
    *negative = x->negative;
    return rational_to_int(num, &n) && rational_to_int(den, &d);
}

/* (c * atoms) ^ (num / den) with den > 1; false where it has no simple form */
static bool term_root(struct algebra *g, struct term *out, const struct term *a, int64_t num,
                      int64_t den) {
    struct term atoms = *a, r = {.c = rational_int(1)};
    int64_t n, d;
    bool negative;
    for (int32_t i = 0; i < a->n; i++) {
        enum atom_kind kind = g->atom[a->f[i].atom].kind;
        bool even = a->f[i].num % 2 == 0 && den % 2 == 0; /* would be an absolute value */
        if (kind == ATOM_I || (kind != ATOM_PRIME && even)) return false;
    }
    if (!split_fraction(&a->c, &n, &d, &negative)) return false;
    if (!mul_integer_root(g, &r, n, num, den) || !mul_integer_root(g, &r, d, -num, den))
        return false;
    /* The root of -x is not i times that of x where x is negative itself. */
    for (int32_t i = 0; i < a->n && negative && den % 2 == 0; i++)
        if (g->atom[a->f[i].atom].kind != ATOM_PRIME) return false;
    if (negative && den == 2) {
        const struct algebra_value *i = algebra_symbol(g, "i", 1);
        struct term unit;
        if (!i || !term_pow(g, &unit, &i->num.t[0], num, 1) || !term_mul(g, &r, &r, &unit))
            return false;
    } else if (negative) {
        if (den % 2 == 0) return false;
        if (num % 2) rational_negate(&r.c);
    }
    atoms.c = rational_int(1);
    return term_pow(g, &atoms, &atoms, num, den) && term_mul(g, out, &r, &atoms);
}

/* A single term takes any exponent that fits; a sum only small ones, by repeated products. */
static const struct algebra_value *whole_power(struct algebra *g, const struct algebra_value *a,
                                               int64_t n) {
    const struct algebra_value *r = algebra_int(g, 1);
    struct term t;
    if (a->num.n == 0) return n > 0 ? a : NULL;
    if (a->num.n == 1 && poly_is_one(&a->den))
        return term_pow(g, &t, &a->num.t[0], n, 1) ? from_term(g, &t) : NULL;
    if (n > POWER_MAX || n < -POWER_MAX) return NULL;
    for (int64_t i = 0; i < (n < 0 ? -n : n) && r; i++)
        r = n < 0 ? algebra_div(g, r, a) : algebra_mul(g, r, a);
    return r;
}

/* Exact where the result is a value of this form: whole powers, and roots of a single term. 0 to
 * the power 0 or below has no value; what cannot be computed stays a function equal to itself. */
const struct algebra_value *algebra_pow(struct algebra *g, const struct algebra_value *base,
                                        const struct algebra_value *exponent) {
    struct rational e;
    int64_t num, den;
    bool negative;
    struct term t;
    if (!base || !exponent) return NULL;
    if (!algebra_is_rational(&e, exponent)) return algebra_func(g, "^", base, exponent);
    if (rational_is_zero(&e)) return base->num.n == 0 ? NULL : algebra_int(g, 1);
    if (base->num.n == 0) return e.negative ? NULL : base;
    bool fits =
        split_fraction(&e, &num, &den, &negative) && num <= EXPONENT_MAX && den <= EXPONENT_MAX;
    if (!fits) return algebra_func(g, "^", base, exponent);
    if (negative) num = -num;
    if (den == 1) {
        const struct algebra_value *v = whole_power(g, base, num);
        return v ? v : algebra_func(g, "^", base, exponent);
    }
    if (base->num.n == 1 && poly_is_one(&base->den) && term_root(g, &t, &base->num.t[0], num, den))
        return from_term(g, &t);
    return algebra_func(g, "^", base, exponent);
}

/* ---- questions ---- */

int algebra_equal(struct algebra *g, const struct algebra_value *a, const struct algebra_value *b) {
    struct poly x, y;
    if (!a || !b) return -1;
    if (poly_equal(&a->den, &b->den)) return poly_equal(&a->num, &b->num);
    if (!poly_mul(g, &x, &a->num, &b->den) || !poly_mul(g, &y, &b->num, &a->den)) return -1;
    return poly_equal(&x, &y);
}

bool algebra_is_rational(struct rational *out, const struct algebra_value *a) {
    if (!poly_is_one(&a->den) || a->num.n > 1 || (a->num.n == 1 && a->num.t[0].n > 0)) return false;
    *out = a->num.n == 0 ? rational_int(0) : a->num.t[0].c;
    return true;
}

bool algebra_is_negative(const struct algebra_value *a) {
    return a->num.n > 0 && a->num.t[0].c.negative;
}

const char *algebra_symbol_name(const struct algebra *g, const struct algebra_value *a) {
    struct rational one = rational_int(1);
    if (!poly_is_one(&a->den) || a->num.n != 1 || a->num.t[0].n != 1) return NULL;
    const struct factor *f = &a->num.t[0].f[0];
    bool plain = f->num == 1 && f->den == 1 && rational_equal(&a->num.t[0].c, &one);
    return plain && g->atom[f->atom].kind == ATOM_SYMBOL ? g->atom[f->atom].name : NULL;
}

bool algebra_is_power(struct algebra *g, const struct algebra_value *a,
                      const struct algebra_value **base, const struct algebra_value **exponent) {
    struct rational one = rational_int(1), e;
    if (!poly_is_one(&a->den) || a->num.n != 1 || a->num.t[0].n != 1) return false;
    const struct factor *f = &a->num.t[0].f[0];
    const struct atom *x = &g->atom[f->atom];
    struct rational n = rational_int(f->num), d = rational_int(f->den);
    if (!rational_equal(&a->num.t[0].c, &one) || !rational_div(&e, &n, &d)) return false;
    *base = x->kind == ATOM_PRIME ? algebra_int(g, (int64_t)x->prime) : from_atom(g, f->atom);
    *exponent = algebra_number(g, &e);
    if (x->kind == ATOM_FUNC && strcmp(x->name, "^") == 0) {
        *base = x->a;
        *exponent = algebra_mul(g, *exponent, x->b);
    }
    return *base && *exponent;
}

/* Whether test holds for an atom of a, those of its functions' arguments included. Each atom is
 * looked at once (seen), so hostile nesting costs nothing. */
static bool any_atom(const struct algebra *g, const struct algebra_value *a, uint64_t *seen,
                     bool (*test)(const struct atom *x, const void *state), const void *state) {
    const struct poly *side[2] = {&a->num, &a->den};
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < side[k]->n; i++)
            for (int32_t j = 0; j < side[k]->t[i].n; j++) {
                int32_t atom = side[k]->t[i].f[j].atom;
                const struct atom *x = &g->atom[atom];
                if (*seen >> atom & 1) continue;
                *seen |= (uint64_t)1 << atom;
                if (test(x, state) || (x->a && any_atom(g, x->a, seen, test, state)) ||
                    (x->b && any_atom(g, x->b, seen, test, state)))
                    return true;
            }
    return false;
}

static bool has_name(const struct atom *x, const void *name) {
    return x->kind == ATOM_SYMBOL && strcmp(x->name, name) == 0;
}

bool algebra_mentions(const struct algebra *g, const struct algebra_value *a, const char *name) {
    uint64_t seen = 0;
    return any_atom(g, a, &seen, has_name, name);
}

static bool varies(const struct atom *x, const void *state) {
    (void)state;
    if (x->kind == ATOM_FUNC) return !algebra_function_is_known(x->name);
    return x->kind == ATOM_SYMBOL && strcmp(x->name, "pi") != 0 && strcmp(x->name, "e") != 0;
}

bool algebra_is_constant(const struct algebra *g, const struct algebra_value *a) {
    uint64_t seen = 0;
    return !any_atom(g, a, &seen, varies, NULL);
}
