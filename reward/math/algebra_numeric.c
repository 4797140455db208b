/* algebra_numeric.c - what the normal form does not know: identities of functions, nested roots,
 * powers with sums in the exponent. Values are computed in complex doubles together with a bound of
 * their rounding error (running error analysis), at points that are the same in every process.
 *
 * Two different values of the size of answers do not agree to twelve digits by chance, unless
 * rounding hid the difference: e^{-100}+1 is 1 in doubles. So a point counts only if every term and
 * every function value on the way has a size that rounding cannot swallow, and decimals longer than
 * a machine word's half do not take part at all. */
#include "reward/math/algebra.h"

#include "base/rng.h"
#include "reward/math/algebra_impl.h"

#include <complex.h>
#include <math.h>
#include <string.h>

enum { POINTS = 16, POINTS_NEEDED = 6 };

#define SMALLEST 1e-7 /* of a term or a function's value that is not zero */
#define LARGEST 1e6
#define NARROW 1e-11 /* the largest error, relative to the value or to 1 */
#define ROUNDING 0x1p-52

struct approx {
    double complex v;
    double e; /* |true value - v| <= e */
};

struct point {
    struct algebra *g;
    uint64_t key, number;
    bool known[ATOMS_MAX];
    struct approx atom[ATOMS_MAX];
};

static bool at_value(struct approx *out, struct point *p, const struct algebra_value *a);

/* ---- arithmetic with error bounds ---- */

static bool is_fine(const struct approx *x) {
    double size = cabs(x->v);
    return isfinite(size) && (size <= x->e || size >= SMALLEST) && size <= LARGEST &&
           x->e <= NARROW * fmax(size, 1);
}

static struct approx mul(struct approx a, struct approx b) {
    struct approx r = {.v = a.v * b.v};
    r.e = cabs(a.v) * b.e + cabs(b.v) * a.e + a.e * b.e + 4 * ROUNDING * cabs(r.v);
    return r;
}

static bool divide_complex(struct approx *out, struct approx a, struct approx b) {
    double size = cabs(b.v);
    if (size <= 2 * b.e) return false;
    out->v = a.v / b.v;
    out->e = (a.e + cabs(out->v) * b.e) / (size - b.e) + 8 * ROUNDING * cabs(out->v);
    return true;
}

static bool is_real(struct approx x) {
    return fabs(cimag(x.v)) <= x.e;
}

/* a ^ b. Zero has only powers that are known without it. */
static bool power(struct approx *out, struct approx a, struct approx b) {
    double size = cabs(a.v);
    if (size <= 2 * a.e) return false;
    double complex log_a = is_real(a) ? clog(creal(a.v)) : clog(a.v);
    out->v = cexp(b.v * log_a);
    out->e = cabs(out->v) * (cabs(b.v) * a.e / (size - a.e) + cabs(log_a) * b.e +
                             16 * ROUNDING * (1 + cabs(b.v * log_a)));
    return true;
}

/* atom ^ (num / den): odd roots of negative numbers are real, as in the normal form. */
static bool rational_power(struct approx *out, struct approx a, int32_t num, int32_t den) {
    struct approx e = {(double)num / den, 0};
    if (den > 1) e.e = ROUNDING * cabs(e.v);
    if (cabs(a.v) <= a.e) { /* zero */
        *out = (struct approx){0, 0};
        return num > 0;
    }
    bool mirrored = den % 2 == 1 && is_real(a) && creal(a.v) < 0;
    if (mirrored) a.v = -creal(a.v);
    if (!power(out, a, e)) return false;
    if (mirrored && num % 2) out->v = -out->v;
    return true;
}

/* ---- functions ---- */

static double complex reciprocal(double complex x) {
    return 1 / x;
}
static double complex f_ln(double complex x) {
    return clog(x);
}
static double complex f_cot(double complex x) {
    return reciprocal(ctan(x));
}
static double complex f_sec(double complex x) {
    return reciprocal(ccos(x));
}
static double complex f_csc(double complex x) {
    return reciprocal(csin(x));
}
static double complex f_arccot(double complex x) { /* the continuous one, in (0, pi) */
    return acos(-1) / 2 - catan(x);
}
static double complex f_arcsec(double complex x) {
    return cacos(reciprocal(x));
}
static double complex f_arccsc(double complex x) {
    return casin(reciprocal(x));
}
static double complex f_coth(double complex x) {
    return reciprocal(ctanh(x));
}
static double complex f_sech(double complex x) {
    return reciprocal(ccosh(x));
}
static double complex f_csch(double complex x) {
    return reciprocal(csinh(x));
}
static double complex f_abs(double complex x) {
    return cabs(x);
}
static double complex f_re(double complex x) {
    return creal(x);
}
static double complex f_im(double complex x) {
    return cimag(x);
}
static double complex f_factorial(double complex x) {
    return creal(x) > -1 ? tgamma(creal(x) + 1) : NAN;
}

static double complex f_gamma(double complex x) {
    return creal(x) > 0 ? tgamma(creal(x)) : NAN;
}

static const struct {
    const char *name;
    double complex (*f)(double complex x);
    bool real; /* of real arguments only */
} functions[] = {
    {"sin", csin, false},        {"cos", ccos, false},        {"tan", ctan, false},
    {"cot", f_cot, false},       {"sec", f_sec, false},       {"csc", f_csc, false},
    {"arcsin", casin, false},    {"arccos", cacos, false},    {"arctan", catan, false},
    {"arccot", f_arccot, false}, {"arcsec", f_arcsec, false}, {"arccsc", f_arccsc, false},
    {"sinh", csinh, false},      {"cosh", ccosh, false},      {"tanh", ctanh, false},
    {"coth", f_coth, false},     {"sech", f_sech, false},     {"csch", f_csch, false},
    {"arsinh", casinh, false},   {"arcosh", cacosh, false},   {"artanh", catanh, false},
    {"ln", f_ln, false},         {"abs", f_abs, false},       {"Re", f_re, false},
    {"Im", f_im, false},         {"!", f_factorial, true},    {"Gamma", f_gamma, true},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

bool algebra_function_is_known(const char *name) {
    for (size_t i = 0; i < FUNCTIONS; i++)
        if (strcmp(functions[i].name, name) == 0) return true;
    return strcmp(name, "^") == 0;
}

/* f of x; the error is what f makes of x's, seen by moving the argument. */
static bool apply_function(struct approx *out, double complex (*f)(double complex),
                           struct approx x) {
    double complex y = f(x.v);
    double step = fmax(x.e, 8 * ROUNDING * fmax(cabs(x.v), 1)), moved = 0;
    const double complex way[4] = {step, -step, step * I, -step * I};
    for (int k = 0; k < (is_real(x) ? 2 : 4); k++)
        moved = fmax(moved, cabs(f(x.v + way[k]) - y));
    *out = (struct approx){y, 2 * moved + 8 * ROUNDING * cabs(y)};
    return isfinite(cabs(y)) && isfinite(moved);
}

/* ---- values ---- */

/* What a variable or an unknown function is at this point: of a size near 1, of either sign. */
static struct approx draw_value(const struct point *p, int32_t atom, bool complex_too) {
    double sign = rng_uniform(p->key, p->number, (uint64_t)atom * 4) < 0.4 ? -1 : 1;
    double x = sign * (0.4 + 1.6 * rng_uniform(p->key, p->number, (uint64_t)atom * 4 + 1));
    double y = complex_too ? rng_uniform(p->key, p->number, (uint64_t)atom * 4 + 2) : 0;
    return (struct approx){x + y * I, 0};
}

static bool at_function(struct approx *out, struct point *p, int32_t k) {
    const struct atom *a = &p->g->atom[k];
    struct approx x, y;
    if (!algebra_function_is_known(a->name)) {
        *out = draw_value(p, k, true);
        return true;
    }
    if (!at_value(&x, p, a->a) || (a->b && !at_value(&y, p, a->b))) return false;
    if (is_real(x)) x.v = creal(x.v);
    if (strcmp(a->name, "^") == 0) return a->b && power(out, x, y);
    for (size_t i = 0; i < FUNCTIONS; i++)
        if (strcmp(functions[i].name, a->name) == 0)
            return !a->b && (!functions[i].real || is_real(x)) &&
                   apply_function(out, functions[i].f, x);
    return false;
}

/* An atom has one value at a point, however often it occurs: drawn once, then remembered. */
static bool at_atom(struct approx *out, struct point *p, int32_t k) {
    const struct atom *a = &p->g->atom[k];
    struct approx x = {0};
    if (!p->known[k]) {
        if (a->kind == ATOM_FUNC && !at_function(&x, p, k)) return false;
        if (a->kind == ATOM_I) x.v = I;
        if (a->kind == ATOM_PRIME) x.v = (double)a->prime;
        if (a->kind == ATOM_SYMBOL) {
            if (strcmp(a->name, "infty") == 0) return false;
            x = draw_value(p, k, false);
            if (strcmp(a->name, "pi") == 0) x = (struct approx){acos(-1), 4 * ROUNDING};
            if (strcmp(a->name, "e") == 0) x = (struct approx){exp(1), 4 * ROUNDING};
        }
        if (!is_fine(&x)) return false;
        p->atom[k] = x;
        p->known[k] = true;
    }
    *out = p->atom[k];
    return true;
}

/* A coefficient that a double holds exactly. */
static bool at_rational(struct approx *out, const struct rational *c) {
    if (c->num.n > 1 || c->den.n > 1 || (c->num.n && c->num.w[0] >> 30) || c->den.w[0] >> 30)
        return false;
    double x = (c->num.n ? (double)c->num.w[0] : 0) / (double)c->den.w[0];
    *out = (struct approx){c->negative ? -x : x, c->den.w[0] == 1 ? 0 : ROUNDING * x};
    return true;
}

static bool at_poly(struct approx *out, struct point *p, const struct poly *q) {
    *out = (struct approx){0, 0};
    for (size_t i = 0; i < q->n; i++) {
        struct approx term, f;
        if (!at_rational(&term, &q->t[i].c)) return false;
        for (int32_t k = 0; k < q->t[i].n; k++) {
            const struct factor *x = &q->t[i].f[k];
            if (--p->g->evaluations < 0 || !at_atom(&f, p, x->atom) ||
                !rational_power(&f, f, x->num, x->den))
                return false;
            term = mul(term, f);
            if (!is_fine(&term)) return false;
        }
        out->v += term.v;
        out->e += term.e + 2 * ROUNDING * cabs(out->v);
    }
    return is_fine(out);
}

static bool at_value(struct approx *out, struct point *p, const struct algebra_value *a) {
    struct approx num, den;
    return at_poly(&num, p, &a->num) && at_poly(&den, p, &a->den) &&
           divide_complex(out, num, den) && is_fine(out);
}

static struct point point_at(struct algebra *g, uint64_t number) {
    return (struct point){.g = g, .key = rng_key(0, RNG_CHOOSE), .number = number};
}

int algebra_same(struct algebra *g, const struct algebra_value *a, const struct algebra_value *b) {
    int exact = algebra_equal(g, a, b), agree = 0;
    if (exact == 1 || !a || !b) return exact;
    for (uint64_t k = 0; k < POINTS; k++) {
        struct point p = point_at(g, k);
        struct approx x, y;
        if (!at_value(&x, &p, a) || !at_value(&y, &p, b)) continue;
        if (cabs(x.v - y.v) > x.e + y.e) return 0;
        agree++;
    }
    return agree >= POINTS_NEEDED ? 1 : exact;
}

int algebra_ratio_sign(struct algebra *g, const struct algebra_value *a,
                       const struct algebra_value *b) {
    struct approx first = {0};
    int agree = 0;
    if (!a || !b) return 0;
    for (uint64_t k = 0; k < POINTS; k++) {
        struct point p = point_at(g, k);
        struct approx x, y, r;
        if (!at_value(&x, &p, a) || !at_value(&y, &p, b) || !divide_complex(&r, x, y)) continue;
        if (cabs(r.v) <= 2 * r.e) return 0;
        if (agree++ == 0) first = r;
        if (cabs(r.v - first.v) > r.e + first.e) return 0;
    }
    if (agree < POINTS_NEEDED) return 0;
    return !is_real(first) ? 2 : creal(first.v) > 0 ? 1 : -1;
}

bool algebra_real(double *out, struct algebra *g, const struct algebra_value *a) {
    struct point p = point_at(g, 0);
    struct rational r;
    struct approx x;
    if (!a || !algebra_is_constant(g, a)) return false;
    if (algebra_is_rational(&r, a)) {
        *out = rational_to_double(&r);
        return isfinite(*out);
    }
    if (!at_value(&x, &p, a) || !is_real(x)) return false;
    *out = creal(x.v);
    return true;
}
