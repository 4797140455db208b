/* mathtruth_test.c - random answers whose truth is known. Expressions are random trees, rewritten
 * by rules that keep the meaning, or changed in one place and then evaluated to see whether that
 * changed the meaning. Sets of reals are random, written as intervals or as conditions, and known
 * by the points of a grid that they hold. What is not equal must never be paid. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/rng.h"
#include "reward/verify/verify.h"
#include "tests/test.h"

#include <complex.h>

static uint64_t counter;

/* The next random number below n. */
static uint32_t pick(uint32_t n) {
    return (uint32_t)rng_below(rng_key(test_seed(), RNG_TEST), 7, counter++, n);
}

/* ---- expressions ---- */

enum op { NUMBER, VARIABLE, ADD, SUB, MUL, DIV, NEG, POWER, ROOT, SIN, COS, OPS };

struct tree {
    enum op op;
    int n; /* the number, the variable, the exponent */
    const struct tree *a, *b;
};

static struct arena *trees;

static const struct tree *make(enum op op, int n, const struct tree *a, const struct tree *b) {
    struct tree *t = arena_alloc(trees, sizeof *t);
    *t = (struct tree){op, n, a, b};
    return t;
}

static const struct tree *grow(int depth) {
    uint32_t kind = depth == 0 ? pick(2) : pick(OPS);
    if (kind == NUMBER) return make(NUMBER, 1 + (int)pick(9), NULL, NULL);
    if (kind == VARIABLE) return make(VARIABLE, (int)pick(3), NULL, NULL);
    const struct tree *a = grow(depth - 1);
    if (kind == POWER) return make(POWER, 2 + (int)pick(2), a, NULL);
    bool two = kind == ADD || kind == SUB || kind == MUL || kind == DIV;
    return make((enum op)kind, 0, a, two ? grow(depth - 1) : NULL);
}

/* The root of a negative number has a positive imaginary part, whatever sign its zero has. */
static double complex root(double complex a) {
    return csqrt(cimag(a) == 0 ? creal(a) : a);
}

static double complex value(const struct tree *t, const double x[3]) {
    double complex a = t->a ? value(t->a, x) : 0, b = t->b ? value(t->b, x) : 0;
    switch (t->op) {
    case NUMBER: return t->n;
    case VARIABLE: return x[t->n];
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    case DIV: return a / b;
    case NEG: return -a;
    case POWER: return t->n == 2 ? a * a : a * a * a;
    case ROOT: return root(a);
    case SIN: return csin(a);
    default: return ccos(a);
    }
}

/* Written with random notation. Everything that is not an atom is in brackets where it is used. */
static void write_tree(struct buf *out, const struct tree *t);

static void write_part(struct buf *out, const struct tree *t) {
    bool atom = t->op == NUMBER || t->op == VARIABLE;
    if (!atom) buf_str(out, pick(2) ? "\\left(" : "(");
    write_tree(out, t);
    if (!atom) buf_str(out, ")");
}

static void write_two(struct buf *out, const struct tree *t, const char *sign) {
    write_part(out, t->a);
    buf_str(out, sign);
    write_part(out, t->b);
}

static void write_tree(struct buf *out, const struct tree *t) {
    static const char *const product[] = {"\\cdot ", "*", " \\times "};
    switch (t->op) {
    case NUMBER: buf_printf(out, "%d", t->n); return;
    case VARIABLE: buf_printf(out, "%c", "xyz"[t->n]); return;
    case ADD: write_two(out, t, pick(2) ? "+" : " + "); return;
    case SUB: write_two(out, t, "-"); return;
    case MUL: write_two(out, t, product[pick(3)]); return;
    case DIV:
        if (pick(2)) {
            write_two(out, t, "/");
            return;
        }
        buf_str(out, pick(2) ? "\\frac{" : "\\dfrac{");
        write_tree(out, t->a);
        buf_str(out, "}{");
        write_tree(out, t->b);
        buf_str(out, "}");
        return;
    case NEG:
        buf_str(out, "-");
        write_part(out, t->a);
        return;
    case POWER:
        write_part(out, t->a);
        buf_printf(out, pick(2) ? "^%d" : "^{%d}", t->n);
        return;
    default:
        buf_str(out, t->op == ROOT ? "\\sqrt{" : t->op == SIN ? "\\sin{(" : "\\cos{(");
        write_tree(out, t->a);
        buf_str(out, t->op == ROOT ? "}" : ")}");
    }
}

/* A rule that keeps the meaning, applied at the top of t; or t where none fits. */
static const struct tree *rule(const struct tree *t) {
    const struct tree *a = t->a, *b = t->b, *two = make(NUMBER, 2, NULL, NULL);
    switch (t->op) {
    case ADD: return pick(2) ? make(ADD, 0, b, a) : make(SUB, 0, a, make(NEG, 0, b, NULL));
    case SUB:
        return pick(2) ? make(ADD, 0, a, make(NEG, 0, b, NULL))
                       : make(NEG, 0, make(SUB, 0, b, a), NULL);
    case MUL:
        if (b->op == ADD && pick(2))
            return make(ADD, 0, make(MUL, 0, a, b->a), make(MUL, 0, a, b->b));
        return make(MUL, 0, b, a);
    case DIV:
        if (pick(2)) return make(DIV, 0, make(MUL, 0, two, a), make(MUL, 0, b, two));
        return make(MUL, 0, a, make(DIV, 0, make(NUMBER, 1, NULL, NULL), b));
    case POWER: return t->n == 2 ? make(MUL, 0, a, a) : make(MUL, 0, a, make(POWER, 2, a, NULL));
    case NUMBER:
        return make(ADD, 0, make(NUMBER, t->n + 3, NULL, NULL),
                    make(NEG, 0, make(NUMBER, 3, NULL, NULL), NULL));
    case SIN: return make(NEG, 0, make(SIN, 0, make(NEG, 0, a, NULL), NULL), NULL);
    case COS: return make(COS, 0, make(NEG, 0, a, NULL), NULL);
    default: return t;
    }
}

static const struct tree *rewrite(const struct tree *t) {
    const struct tree *a = t->a ? rewrite(t->a) : NULL, *b = t->b ? rewrite(t->b) : NULL;
    t = make(t->op, t->n, a, b);
    return pick(3) == 0 ? rule(t) : t;
}

/* One place changed: a leaf, or the operation. */
static const struct tree *change(const struct tree *t) {
    if (t->a && pick(3)) {
        bool left = !t->b || pick(2);
        return make(t->op, t->n, left ? change(t->a) : t->a, left ? t->b : change(t->b));
    }
    switch (t->op) {
    case NUMBER: return make(NUMBER, t->n + 1, NULL, NULL);
    case VARIABLE: return make(VARIABLE, (t->n + 1) % 3, NULL, NULL);
    case ADD: return make(SUB, 0, t->a, t->b);
    case SUB: return make(SUB, 0, t->b, t->a);
    case MUL: return make(DIV, 0, t->a, t->b);
    case DIV: return make(DIV, 0, t->b, t->a);
    case NEG: return t->a;
    case POWER: return make(POWER, 5 - t->n, t->a, NULL);
    case SIN: return make(COS, 0, t->a, NULL);
    case COS: return make(SIN, 0, t->a, NULL);
    default: return make(ADD, 0, t, make(NUMBER, 1, NULL, NULL));
    }
}

enum truth { SAME, OTHER, UNCLEAR };

/* By values at points of both signs. Close to the limits of doubles nothing is claimed. */
static enum truth compare(const struct tree *s, const struct tree *t) {
    int points = 0;
    for (int k = 0; k < 12; k++) {
        double x[3];
        for (int i = 0; i < 3; i++)
            x[i] = (pick(2) ? 1 : -1) * (0.3 + (double)pick(1000) / 500);
        double complex a = value(s, x), b = value(t, x);
        if (!isfinite(cabs(a)) || !isfinite(cabs(b)) || cabs(a) > 1e6) continue;
        double difference = cabs(a - b) / fmax(1, cabs(a));
        if (difference > 1e-6) return OTHER;
        if (difference > 1e-11) return UNCLEAR;
        points++;
    }
    return points >= 6 ? SAME : UNCLEAR;
}

static int judge(const struct verify *v, const char *got, const char *want) {
    struct verify_result r;
    struct buf response = {0};
    buf_printf(&response, "\\boxed{%s}", got);
    verify_run(v, &(struct verify_input){.response = response.data, .answer = want}, &r);
    buf_close(&response);
    return r.error ? r.error : (int)r.total;
}

TEST(mathtruth_expressions) {
    struct verify *v = NULL;
    int rewritten = 0, missed = 0, changed = 0;
    CHECK_OK(verify_open(&v, &(struct verify_spec){.type = "math", .weight = 1}, 1));
    for (int i = 0; i < 3000; i++) {
        trees = arena_open(1 << 14);
        const struct tree *t = grow(1 + (int)pick(3)), *other = i % 2 ? rewrite(t) : change(t);
        enum truth truth = compare(t, other);
        struct buf a = {0}, b = {0};
        write_tree(&a, t);
        write_tree(&b, other);
        int got = judge(v, b.data, a.data);
        if (truth == OTHER && got == 1)
            test_fail(__FILE__, __LINE__, "%s is paid for %s", b.data, a.data);
        changed += truth == OTHER;
        rewritten += truth == SAME;
        missed += truth == SAME && got == 0;
        buf_close(&a);
        buf_close(&b);
        arena_close(&trees);
    }
    verify_close(&v);
    CHECK(rewritten > 1000 && changed > 1000);
    if (missed * 200 > rewritten)
        test_fail(__FILE__, __LINE__, "%d of %d rewritten answers are not paid", missed, rewritten);
}

/* ---- sets of reals ---- */

enum { ENDS = 6, CELLS = 2 * ENDS + 1 }; /* below 0, 0, between 0 and 1, 1, ... */

/* Runs of cells as intervals: cell 2k+1 is the number k, cell 2k what is between. */
static void write_set(struct buf *out, const bool *cell, bool conditions) {
    bool first = true;
    for (int i = 0; i < CELLS; i++) {
        if (!cell[i]) continue;
        int from = i;
        while (i + 1 < CELLS && cell[i + 1])
            i++;
        int low = from / 2, high = i / 2;
        bool closed_low = from % 2 == 1, closed_high = i % 2 == 1;
        if (from > 0 && !closed_low) low = from / 2 - 1;
        if (!first) buf_str(out, conditions ? " \\text{ or } " : " \\cup ");
        first = false;
        if (conditions) {
            if (from > 0 && i < CELLS - 1 && low == high)
                buf_printf(out, "x = %d", low);
            else if (from == 0)
                buf_printf(out, closed_high ? "x \\le %d" : "%d > x", high);
            else if (i == CELLS - 1)
                buf_printf(out, closed_low ? "x \\ge %d" : "%d < x", low);
            else
                buf_printf(out, "%d %s x %s %d", low, closed_low ? "\\leq" : "<",
                           closed_high ? "\\leq" : "<", high);
            continue;
        }
        if (from > 0 && i < CELLS - 1 && low == high) {
            buf_printf(out, "\\{%d\\}", low);
            continue;
        }
        buf_str(out, closed_low ? "[" : "(");
        if (from == 0) buf_str(out, "-\\infty");
        if (from > 0) buf_printf(out, "%d", low);
        buf_str(out, ", ");
        if (i == CELLS - 1) buf_str(out, "\\infty");
        if (i < CELLS - 1) buf_printf(out, "%d", high);
        buf_str(out, closed_high ? "]" : ")");
    }
}

TEST(mathtruth_sets) {
    struct verify *v = NULL;
    CHECK_OK(verify_open(&v, &(struct verify_spec){.type = "math", .weight = 1}, 1));
    for (int i = 0; i < 1500; i++) {
        bool a[CELLS], b[CELLS], same = true;
        int held = 0;
        for (int k = 0; k < CELLS; k++) {
            a[k] = k > 0 && pick(3) ? a[k - 1] : pick(2);
            held += a[k];
            b[k] = a[k];
        }
        if (held < 2 || held == CELLS) continue; /* a lone point is an equation or a set */
        if (i % 2) {
            int k = (int)pick(CELLS);
            b[k] = !b[k];
            same = false;
            held += b[k] ? 1 : -1;
            if (held < 2 || held == CELLS) continue;
        }
        struct buf x = {0}, y = {0};
        write_set(&x, a, pick(2));
        write_set(&y, b, pick(2));
        int got = judge(v, y.data, x.data);
        if (got != same) test_fail(__FILE__, __LINE__, "%s for %s: %d", y.data, x.data, got);
        buf_close(&x);
        buf_close(&y);
    }
    verify_close(&v);
}
