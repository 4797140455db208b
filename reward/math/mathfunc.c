/* mathfunc.c - a table of functions. Logarithms become sums of logarithms of primes, which are
 * independent over the rationals, so that \ln 8 is 3\ln 2 and \log_4 8 is 3/2 by the normal form;
 * the other functions are computed where their arguments are rational. */
#include "reward/math/mathfunc.h"

#include <math.h>
#include <string.h>

enum {
    FACTORIAL_MAX = 170, /* the last one that fits a rational */
    FACTORIAL_BLOCK = 50,
    FACTORIAL_LARGE = 1000000,
    FALLING_MAX = 8,  /* factors of a binomial with a variable above */
    TRIAL_MAX = 20000 /* largest trial divisor of a logarithm's argument */
};

typedef const struct algebra_value *value;

static bool to_int(int64_t *out, value x) {
    struct rational r;
    return algebra_is_rational(&r, x) && rational_to_int(out, &r);
}

/* n (n - step) (n - 2 step) ... A large factorial is a multiple of one that is not computed, so
 * that neighbours (2025!/2024!) have it in common. */
static value factorial(struct algebra *g, const char *name, value x) {
    int64_t n, step = (int64_t)strlen(name), last = 1;
    if (!to_int(&n, x) || n < 0 || n > FACTORIAL_LARGE) return algebra_func(g, name, x, NULL);
    if (n > FACTORIAL_MAX) last = n - n % FACTORIAL_BLOCK;
    if (last > 1 && step > 1) return algebra_func(g, name, x, NULL);
    struct rational r = rational_int(1);
    if (!algebra_spend(g, n - last)) return NULL;
    for (; n > last; n -= step) {
        struct rational f = rational_int(n);
        if (!rational_mul(&r, &r, &f)) return algebra_func(g, name, x, NULL);
    }
    value v = algebra_number(g, &r);
    if (last == 1) return v;
    return algebra_mul(g, v, algebra_func(g, name, algebra_int(g, last), NULL));
}

/* n (n - 1) ... (n - k + 1) / k! where that is short: two integers, or a small one below. */
static value binomial(struct algebra *g, value top, value bottom) {
    int64_t n = 0, k;
    value r = algebra_int(g, 1);
    if (!top || !bottom) return NULL;
    bool number = to_int(&n, top), fits = to_int(&k, bottom) && k >= 0;
    if (fits && number && n >= 0) {
        if (k > n) return algebra_int(g, 0);
        if (k > n - k) k = n - k;
    }
    if (!fits || k > (number ? FACTORIAL_MAX : FALLING_MAX))
        return algebra_func(g, "binom", top, bottom);
    if (!algebra_spend(g, 10 * k)) return NULL;
    for (int64_t i = 0; i < k; i++) {
        value factor = algebra_add(g, top, algebra_int(g, -i));
        r = algebra_div(g, algebra_mul(g, r, factor), algebra_int(g, i + 1));
    }
    return r ? r : algebra_func(g, "binom", top, bottom);
}

/* ---- logarithms ---- */

/* *sum += weight * ln(x) by factoring x; false if a factor is too large to be known as prime. */
static bool add_ln(struct algebra *g, value *sum, const struct rational *x, int64_t weight) {
    int64_t rest;
    if (!rational_to_int(&rest, x) || rest <= 0 || !algebra_spend(g, 200)) return false;
    for (int64_t d = 2; rest > 1; d++) {
        int64_t prime = d * d > rest ? rest : d, count = 0;
        if (d > TRIAL_MAX && prime == d) return false;
        for (; rest % prime == 0; rest /= prime)
            count++;
        if (count == 0) continue;
        value ln = algebra_func(g, "ln", algebra_int(g, prime), NULL);
        *sum = algebra_add(g, *sum, algebra_mul(g, algebra_int(g, weight * count), ln));
    }
    return true;
}

static value ln_of_rational(struct algebra *g, const struct rational *x) {
    struct rational num = *x, den = rational_int(1);
    value sum = algebra_int(g, 0);
    num.den = den.num;
    den.num = x->den;
    return add_ln(g, &sum, &num, 1) && add_ln(g, &sum, &den, -1) ? sum : NULL;
}

static value ln(struct algebra *g, value x) {
    struct rational r;
    value base, exponent, known = NULL;
    if (!x) return NULL;
    if (algebra_is_rational(&r, x)) known = ln_of_rational(g, &r);
    /* a ^ b with a > 0 known, whatever b: roots of primes, powers of e */
    if (!known && algebra_is_power(g, x, &base, &exponent)) {
        const char *name = algebra_symbol_name(g, base);
        if (name && strcmp(name, "e") == 0) known = exponent;
        if (algebra_is_rational(&r, base) && !r.negative && (known = ln_of_rational(g, &r)))
            known = algebra_mul(g, known, exponent);
    }
    return known ? known : algebra_func(g, "ln", x, NULL);
}

static value logarithm(struct algebra *g, value x, value base) {
    struct rational r, one = rational_int(1);
    if (base && algebra_is_rational(&r, base) && rational_equal(&r, &one)) return NULL;
    return algebra_div(g, ln(g, x), base ? ln(g, base) : ln(g, algebra_int(g, 10)));
}

/* ---- whole numbers, size ---- */

/* gcd, lcm, max or min of two; NULL where it is not known. */
static value of_two(struct algebra *g, const char *name, value a, value b) {
    int64_t x, y;
    struct rational r, s;
    if (*name == 'm') {
        double p, q;
        bool less;
        if (algebra_is_rational(&r, a) && algebra_is_rational(&s, b))
            less = rational_less(&r, &s);
        else if (algebra_real(&p, g, a) && algebra_real(&q, g, b) && fabs(p - q) > 1e-9)
            less = p < q;
        else
            return NULL;
        return less == (name[1] == 'a') ? b : a;
    }
    if (!to_int(&x, a) || !to_int(&y, b)) return NULL;
    int64_t d = algebra_gcd(x, y);
    if (*name == 'g') return algebra_int(g, d);
    return d == 0 ? algebra_int(g, 0) : algebra_mul(g, algebra_int(g, x / d), b);
}

static value of_many(struct algebra *g, const char *name, const value *arg, size_t n) {
    value known = arg[0], opaque = arg[n - 1];
    for (size_t i = 1; i < n && known; i++)
        known = of_two(g, name, known, arg[i]);
    if (known) return known;
    for (size_t i = n - 1; i-- > 0;)
        opaque = algebra_func(g, i == 0 ? name : ",", arg[i], opaque);
    return opaque;
}

/* floor or ceil: exact for rationals; for other constants where no rounding can matter. */
static value whole_part(struct algebra *g, const char *name, value x) {
    struct rational r;
    double d;
    bool up = *name == 'c';
    if (!x) return NULL;
    if (algebra_is_rational(&r, x)) {
        if (up) rational_negate(&r);
        if (!rational_floor(&r, &r)) return NULL;
        if (up) rational_negate(&r);
        return algebra_number(g, &r);
    }
    if (algebra_real(&d, g, x) && fabs(d - round(d)) > 1e-6)
        return algebra_int(g, (int64_t)(up ? ceil(d) : floor(d)));
    return algebra_func(g, name, x, NULL);
}

static value absolute_value(struct algebra *g, value x) {
    struct rational r;
    double d;
    if (!x) return NULL;
    if (algebra_is_rational(&r, x)) {
        r.negative = false;
        return algebra_number(g, &r);
    }
    if (algebra_real(&d, g, x) && fabs(d) > 1e-9) return d < 0 ? algebra_neg(g, x) : x;
    x = algebra_is_negative(x) ? algebra_neg(g, x) : x;
    return algebra_func(g, "abs", x, NULL);
}

value mathfunc_mod(struct algebra *g, value a, value b) {
    int64_t x, y;
    if (!a || !b) return NULL;
    if (!to_int(&x, a) || !to_int(&y, b) || y <= 0) return algebra_func(g, "mod", a, b);
    return algebra_int(g, (x % y + y) % y);
}

/* Where the slope is infinite, numbers would not tell: arcsin and arccos of 1 and -1. */
static value end_of_arc(struct algebra *g, const char *name, value x) {
    struct rational r;
    int64_t n;
    bool sine = strcmp(name, "arcsin") == 0, cosine = strcmp(name, "arccos") == 0;
    if ((!sine && !cosine) || !algebra_is_rational(&r, x) || !rational_to_int(&n, &r)) return NULL;
    if (n != 1 && n != -1) return NULL;
    value half = algebra_div(g, algebra_symbol(g, "pi", 2), algebra_int(g, 2));
    return algebra_mul(g, half, algebra_int(g, sine ? n : 1 - n));
}

/* f(-x) by f(x) for odd and even functions; NULL for others, and where x is not negative. */
static value odd_or_even(struct algebra *g, const char *name, value x) {
    static const char *const odd[] = {"sin",  "tan",  "cot",  "csc",    "arcsin", "arctan", "sinh",
                                      "tanh", "coth", "csch", "arsinh", "artanh", NULL};
    static const char *const even[] = {"cos", "sec", "cosh", "sech", NULL};
    if (!algebra_is_negative(x)) return NULL;
    for (size_t i = 0; odd[i]; i++)
        if (strcmp(odd[i], name) == 0)
            return algebra_neg(g, algebra_func(g, name, algebra_neg(g, x), NULL));
    for (size_t i = 0; even[i]; i++)
        if (strcmp(even[i], name) == 0) return algebra_func(g, name, algebra_neg(g, x), NULL);
    return NULL;
}

/* The name that other spellings stand for. */
static const char *plain_name(const char *name) {
    static const char *const other[][2] = {
        {"arcsinh", "arsinh"}, {"arccosh", "arcosh"}, {"arctanh", "artanh"}, {"asin", "arcsin"},
        {"acos", "arccos"},    {"atan", "arctan"},    {"cosec", "csc"},      {"lg", "log"},
    };
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        if (strcmp(other[i][0], name) == 0) return other[i][1];
    return name;
}

value mathfunc_apply(struct algebra *g, const char *name, const value *arg, size_t n, value base) {
    static const char *const many[] = {"gcd", "lcm", "max", "min", NULL};
    for (size_t i = 0; i < n; i++)
        if (!arg[i]) return NULL;
    name = plain_name(name);
    for (size_t i = 0; many[i]; i++)
        if (strcmp(name, many[i]) == 0 && !base) return of_many(g, name, arg, n);
    if (strcmp(name, "binom") == 0 && n == 2) return binomial(g, arg[0], arg[1]);
    if (n != 1) return NULL;
    if (strcmp(name, "!") == 0 || strcmp(name, "!!") == 0) return factorial(g, name, arg[0]);
    if (strcmp(name, "log") == 0) return logarithm(g, arg[0], base);
    if (base) return algebra_func(g, name, arg[0], base);
    if (strcmp(name, "ln") == 0) return ln(g, arg[0]);
    if (strcmp(name, "exp") == 0) return algebra_pow(g, algebra_symbol(g, "e", 1), arg[0]);
    if (strcmp(name, "floor") == 0 || strcmp(name, "ceil") == 0) return whole_part(g, name, arg[0]);
    if (strcmp(name, "abs") == 0) return absolute_value(g, arg[0]);
    value end = end_of_arc(g, name, arg[0]);
    if (!end) end = odd_or_even(g, name, arg[0]);
    return end ? end : algebra_func(g, name, arg[0], NULL);
}
