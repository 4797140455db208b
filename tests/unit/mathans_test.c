/* mathans_test.c - final answers as models and data sets write them: pairs that are equal, pairs
 * that are not, references that cannot judge, and where in a response the answer is looked for.
 * Random numbers are written in many ways and must stay themselves. */
#include "base/mem.h"
#include "base/rng.h"
#include "reward/verify/verify.h"
#include "tests/test.h"

#include <inttypes.h>
#include <stdio.h>

static struct verify *open_math(void) {
    struct verify *v = NULL;
    CHECK_OK(verify_open(&v, &(struct verify_spec){.type = "math", .weight = 1}, 1));
    return v;
}

/* 1, 0, or the ERR_*; why: the reason */
static int judge(const struct verify *v, const char *response, const char *answer, char *why) {
    struct verify_result r;
    verify_run(v, &(struct verify_input){.response = response, .answer = answer}, &r);
    if (why) memcpy(why, r.reason, sizeof r.reason);
    return r.error ? r.error : (int)r.total;
}

/* Both in a box, and judged in both directions. */
static void expect(const struct verify *v, const char *a, const char *b, int wanted) {
    char text[4000], why[VERIFY_REASON];
    for (int turn = 0; turn < 2; turn++) {
        snprintf(text, sizeof text, "so we get $\\boxed{%s}$.", a);
        int got = judge(v, text, b, why);
        if (got != wanted)
            test_fail(__FILE__, __LINE__, "\"%s\" / \"%s\": %d, wanted %d: %s", a, b, got, wanted,
                      why);
        const char *t = a;
        a = b;
        b = t;
    }
}

static const char *const equal[][2] = {
    /* integers, decimals, thousands */
    {"5", "5"},
    {"5", "5.0"},
    {"5.", "5"},
    {"05", "5"},
    {"+5", "5"},
    {"-5", "-5.00"},
    {"\xe2\x88\x92"
     "5",
     "-5"},
    {"1,234", "1234"},
    {"1,234,567.5", "1234567.5"},
    {"1{,}234", "1234"},
    {"1\\,234\\,567", "1234567"},
    {"1,\\!234", "1234"},
    {".5", "0.5"},
    {"-.5", "-0.5"},
    {"$5$", "5"},
    {"\\$5", "5"},
    {"\\$1,234.50", "1234.5"},
    {"\\(5\\)", "5"},
    /* fractions */
    {"\\frac{1}{2}", "0.5"},
    {"\\frac12", "1/2"},
    {"\\dfrac{1}{2}", "\\tfrac{2}{4}"},
    {"\\frac1{2}", ".5"},
    {"\\frac{-1}{2}", "-\\frac{1}{2}"},
    {"-1/2", "\\frac{1}{-2}"},
    {"1\\frac{1}{2}", "3/2"},
    {"1 1/2", "1.5"},
    {"-2\\frac{1}{4}", "-2.25"},
    {"\\frac{\\frac{1}{2}}{3}", "1/6"},
    {"\xc2\xbd", "0.5"},
    {"\\frac{22}{7}", "22/7"},
    {"3\\frac{\\pi}{2}", "\\frac{3\\pi}{2}"},
    /* percent, degrees, units, money */
    {"50\\%", "50%"},
    {"50\\%", "50"},
    {"50\\%", "0.5"},
    {"90^\\circ", "90"},
    {"90^{\\circ}", "90"},
    {"90\xc2\xb0", "90"},
    {"90\\text{ degrees}", "90"},
    {"5\\text{ cm}", "5"},
    {"5 cm", "5"},
    {"5\\text{ cm}^2", "5"},
    {"5 \\mathrm{~cm}^{2}", "5"},
    {"12\\mbox{ inches}", "12"},
    {"5 apples", "5"},
    {"18 dollars", "18"},
    {"5 \\text{ m/s}", "5"},
    {"\\text{5 apples}", "5"},
    {"10 square units", "10"},
    /* scientific notation, powers */
    {"1.5\\times 10^{3}", "1500"},
    {"1.5e3", "1500"},
    {"1.5E-3", "0.0015"},
    {"1.5 \xc3\x97 10^3", "1500"},
    {"2^{10}", "1024"},
    {"2^10", "1024"},
    {"2**10", "1024"},
    {"2^{-1}", "0.5"},
    {"2^-1", "0.5"},
    {"10^{20}", "100000000000000000000"},
    {"\\frac{1}{10^{30}}", "10^{-30}"},
    {"x^{2}", "x^2"},
    {"x\xc2\xb2", "x^2"},
    {"3^{1/2}", "\\sqrt3"},
    /* radicals, pi, i */
    {"\\sqrt{2}", "\\sqrt2"},
    {"\\sqrt{8}", "2\\sqrt{2}"},
    {"\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"},
    {"\\sqrt{4}", "2"},
    {"\\sqrt{\\frac{1}{4}}", "1/2"},
    {"\\sqrt[3]{-8}", "-2"},
    {"\\sqrt[3]{16}", "2\\sqrt[3]{2}"},
    {"\\sqrt{2}\\sqrt{3}", "\\sqrt{6}"},
    {"\\sqrt{12}+\\sqrt{3}", "3\\sqrt{3}"},
    {"\\frac{1}{1+\\sqrt{2}}", "\\sqrt{2}-1"},
    {"\\sqrt{-4}", "2i"},
    {"i^2", "-1"},
    {"(1+i)^2", "2i"},
    {"\\frac{1}{i}", "-i"},
    {"2\\pi", "\\pi \\cdot 2"},
    {"2pi", "2\\pi"},
    {"2\xcf\x80", "2\\pi"},
    {"\\frac{\\pi}{3}", "\\pi/3"},
    {"sqrt(2)/2", "\\frac{\\sqrt{2}}{2}"},
    {"\xe2\x88\x9a"
     "2",
     "\\sqrt{2}"},
    {"\\sqrt[4]{4}", "\\sqrt{2}"},
    /* algebra */
    {"2x+1", "1+2x"},
    {"x(x+1)", "x^2+x"},
    {"(x+1)^2", "x^2+2x+1"},
    {"\\frac{x^2-1}{x-1}", "x+1"},
    {"ab", "ba"},
    {"2\\cdot x", "2x"},
    {"\\left(x+1\\right)", "x+1"},
    {"-(x-1)", "1-x"},
    {"\\frac{x}{2}+\\frac{x}{3}", "\\frac{5x}{6}"},
    {"x_1+x_{2}", "x_{2}+x_1"},
    {"\\sin x+1", "1+\\sin(x)"},
    {"e^{2x}", "e^{x+x}"},
    {"2^{n+1}", "2^{1+n}"},
    {"\\log_2 x", "\\log_{2}(x)"},
    {"|x|", "\\lvert x\\rvert"},
    {"|-3|", "3"},
    {"n!", "n!"},
    {"\\alpha+\\beta", "\\beta+\\alpha"},
    {"\\binom{n}{2}", "\\binom n2"},
    {"x**2", "x^2"},
    /* names and relations */
    {"x=5", "5"},
    {"x = 5", "x=5.0"},
    {"f(x)=2x", "2x"},
    {"y=2x+1", "y=1+2x"},
    {"x_1=3", "3"},
    {"x>5", "5<x"},
    {"x \\ge 5", "x>=5"},
    {"1<x\\leq 3", "3\\geq x>1"},
    {"x=y", "y=x"},
    {"x\\in[1,2]", "[1,2]"},
    {"3:4", "3:4"},
    {"x\\ne 2", "x\\neq 2"},
    /* structures */
    {"(1,2)", "(1, 2)"},
    {"\\left(1,\\frac{1}{2}\\right)", "(1,0.5)"},
    {"[0,1)", "[0, 1.0)"},
    {"(-\\infty,3]", "(-\xe2\x88\x9e, 3]"},
    {"\\{1,2,3\\}", "\\{3, 2, 1\\}"},
    {"\\{1,2,2\\}", "\\{1,2\\}"},
    {"1, 2", "2,1"},
    {"1,2,3", "3, 2, 1"},
    {"1 and 2", "1,2"},
    {"1 \\text{ or } 2", "2, 1"},
    {"x=1,x=2", "1, 2"},
    {"\\pm 2", "2,-2"},
    {"1\\pm\\sqrt{2}", "1-\\sqrt2, 1+\\sqrt2"},
    {"(0,1)\\cup(2,3)", "(2,3) \\cup (0,1)"},
    {"\\emptyset", "\\{\\}"},
    {"((1,2),3)", "((1, 2), 3)"},
    {"(1,234)", "(1, 234)"},
    {"\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
     "\\begin{pmatrix} 1 & 2 \\\\ 3 & \\frac{8}{2} \\end{pmatrix}"},
    {"\\begin{bmatrix}1\\\\2\\\\\\end{bmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"},
    /* words */
    {"\\text{Evelyn}", "Evelyn"},
    {"evelyn", "\\text{Evelyn}"},
    {"yes", "\\text{Yes}"},
    {"\\textbf{(B)}", "(B)"},
    {"B", "(B)"},
    {"\\text{Sunday}", "Sunday."},
    {"\\text{east}", "\\mathrm{East}"},
};

static const char *const different[][2] = {
    {"5", "6"},
    {"5", "-5"},
    {"0.333", "1/3"},
    {"0.33333333333333333333", "\\frac13"},
    {"3.14", "\\pi"},
    {"3.14159", "\\frac{22}{7}"},
    {"1.41421356", "\\sqrt2"},
    {"50", "0.5"},
    {"50\\%", "5"},
    {"1,234", "1.234"},

    {"1/2", "2/1"},
    {"2\\frac{1}{2}", "1"},
    {"x+1", "x-1"},
    {"x^2", "x^3"},
    {"x^2", "2x"},
    {"(x+1)^2", "x^2+1"},
    {"ab", "a+b"},
    {"ab", "a-b"},
    {"AB", "ab"},
    {"abc", "a+bc"},
    {"no", "yes"},
    {"X", "x"},
    {"\\sqrt{2}", "\\sqrt{3}"},
    {"\\sqrt{2}", "-\\sqrt{2}"},
    {"\\sqrt{x^2}", "-x"},
    {"i", "-i"},
    {"\\sin x", "\\cos x"},
    {"\\sin x", "\\sin y"},
    {"2^n", "n^2"},
    {"\\log_2 x", "\\log_3 x"},
    {"(1,2)", "(2,1)"},
    {"(1,2)", "[1,2]"},
    {"(1,2)", "(1,2]"},
    {"(1,2)", "(1,2,3)"},
    {"\\{1,2\\}", "\\{1,3\\}"},
    {"\\{1,2\\}", "\\{1,2,3\\}"},
    {"1,2", "1,3"},
    {"1,2", "1"},
    {"(1,2)", "3"},
    {"x>5", "x\\ge5"},
    {"x>5", "x<5"},
    {"x=5", "y=5"},
    {"x=5", "x=6"},
    {"3:4", "4:3"},
    {"3:4", "3/4"},
    {"\\pm 2", "2"},
    {"(0,1)\\cup(2,3)", "(0,1)"},
    {"\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1&2\\end{pmatrix}"},
    {"\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}2\\\\1\\end{pmatrix}"},
    {"\\text{Evelyn}", "\\text{Bob}"},
    {"\\text{north}", "\\text{south}"},
    {"(A)", "(B)"},
    {"1000000000000000000000000000001", "1000000000000000000000000000000"},
    {"1.0000000000000000000000000000001", "1"},
    {"10^{20}+1", "10^{20}"},
    {"5x", "5"},
    {"2\\pi", "\\pi"},
    {"e", "2.71828"},
    {"1e3", "1e4"},
    {"\\infty", "-\\infty"},
    {"n!", "n"},
};

TEST(mathans_equal_pairs) {
    struct verify *v = open_math();
    for (size_t i = 0; i < sizeof equal / sizeof equal[0]; i++)
        expect(v, equal[i][0], equal[i][1], 1);
    verify_close(&v);
}

TEST(mathans_different_pairs) {
    struct verify *v = open_math();
    for (size_t i = 0; i < sizeof different / sizeof different[0]; i++)
        expect(v, different[i][0], different[i][1], 0);
    verify_close(&v);
}

TEST(mathans_finds_the_answer) {
    static const struct {
        const char *response, *answer;
        int wanted;
    } c[] = {
        {"\\boxed{1} no, \\boxed{2}", "2", 1},
        {"\\boxed{1} no, \\boxed{2}", "1", 0},
        {"\\boxed{\\frac{1}{2}}", "1/2", 1},
        {"\\boxed{\\boxed{7}}", "7", 1},
        {"\\boxed {7}", "7", 1},
        {"\\fbox{7}", "7", 1},
        {"\\boxed{7} and then \\boxed{8", "7", 1}, /* truncated */
        {"\\boxed{7 + \\boxed{8}", "8", 1},
        {"\\boxed{\\{1,2\\}}", "\\{2,1\\}", 1},
        {"\\boxed{x = 7}", "7", 1},
        {"\\boxed{}", "7", 0},
        {"work\n#### 7", "7", 1},
        {"The answer is 7.", "7", 1},
        {"The answer is: 7", "7", 1},
        {"Answer: $\\frac{1}{2}$, as wanted 9.", "1/2", 1},
        {"**Final Answer**: 7", "7", 1},
        {"the answer is $x=7$ since 3+4.", "7", 1},
        {"The answer is 1. Wait. The answer is 2.", "2", 1},
        {"The answer is 3.5.", "7/2", 1},
        {"answer is \\(12\\)", "12", 1},
        {"we get 3, then 1,250", "1250", 1},
        {"so it is -4", "-4", 1},
        {"so it is -$4", "-4", 1},
        {"7-4", "3", 1},
        {"7-4", "4", 0}, /* digits are not taken out of a formula */
        {"which is 3/4.", "0.75", 1},
        {"about 12%", "12\\%", 1},
        {"no idea", "7", 0},
        {"", "7", 0},
        {"\\boxed{7}", "We find $\\boxed{7}$.", 1}, /* a whole solution as reference */
        {"\\boxed{7}", "3+4 = <<3+4=7>>7\n#### 7", 1},
        {"\\boxed{((((}", "7", 0},
        {"\\boxed{\\frac{1}{0}}", "7", 0},
        {"\\boxed{5 5}", "5", 0},
        {"\\boxed{5 or 6}", "5", 0},
    };
    struct verify *v = open_math();
    char why[VERIFY_REASON];
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        int got = judge(v, c[i].response, c[i].answer, why);
        if (got != c[i].wanted)
            test_fail(__FILE__, __LINE__, "\"%s\" / \"%s\": %d: %s", c[i].response, c[i].answer,
                      got, why);
    }
    verify_close(&v);
}

TEST(mathans_unreadable_reference_is_an_error) {
    static const char *const bad[] = {"\\frac{1}{0}", "((", "5 5 5",   "\\frac{1}",
                                      "@#1",          "x^", "\\sqrt[", "1+"};
    struct verify *v = open_math();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (judge(v, "\\boxed{5}", bad[i], NULL) != ERR_UNSUP)
            test_fail(__FILE__, __LINE__, "reference \"%s\" was accepted", bad[i]);
        if (judge(v, bad[i], bad[i], NULL) == 0) /* no zero even then */
            test_fail(__FILE__, __LINE__, "reference \"%s\" scored zero", bad[i]);
    }
    CHECK_INT(judge(v, "\\boxed{5}", "", NULL), ERR_CORRUPT);
    CHECK_INT(judge(v, "\\boxed{5}", " $ $ ", NULL), ERR_CORRUPT);
    CHECK_INT(judge(v, "\\boxed{5 5 5}", "5 5 5", NULL), 1); /* the same text */
    verify_close(&v);
}

TEST(mathans_bounded_work) {
    static const char *const nasty[] = {"(a+b+c+d+f+g+h+j)^{32}",
                                        "2^{2^{2^{2^{2^{2}}}}}",
                                        "10^{99999}",
                                        "\\sqrt{99999999999999997}",
                                        "((a+b)(c+d)(f+g)(h+j)(k+l)(m+n)(o+p))^9",
                                        "\\frac{1}{(a+b)^{20}}+\\frac{1}{(c+d)^{20}}",
                                        "x^{99999999999}",
                                        "9^{9^9}",
                                        "(1+\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7})^{30}"};
    struct verify *v = open_math();
    char text[3000], why[VERIFY_REASON];
    for (size_t i = 0; i < sizeof nasty / sizeof nasty[0]; i++) {
        snprintf(text, sizeof text, "\\boxed{%s}", nasty[i]);
        CHECK_INT(judge(v, text, "7", why), 0);
        CHECK_INT(judge(v, text, nasty[i], why), 1);
        int rc = judge(v, "\\boxed{7}", nasty[i], why);
        CHECK(rc == 0 || rc == ERR_UNSUP);
    }
    static const char *const deep[] = {
        "(", "\\boxed{", "\\frac{", "{",  "|",  "\\sqrt",          "-",
        "[", "\\sin",    "\\text{", "x^", "1,", "\\begin{pmatrix}"};
    for (size_t i = 0; i < sizeof deep / sizeof deep[0]; i++) {
        size_t n = strlen(deep[i]), copies = 200000 / n;
        char *big = mem_alloc(copies * n + 1);
        for (size_t k = 0; k < copies; k++)
            memcpy(big + k * n, deep[i], n);
        big[copies * n] = 0;
        CHECK_INT(judge(v, big, "7", NULL), 0);
        big[1990] = 0;
        snprintf(text, sizeof text, "\\boxed{%s}", big);
        CHECK_INT(judge(v, text, "7", NULL), 0);
        mem_free(big);
    }
    verify_close(&v);
}

/* One rational number written in a random way. */
static void write_number(char *out, size_t size, int64_t num, int64_t den, uint64_t form) {
    const char *sign = num < 0 ? "-" : "";
    int64_t a = num < 0 ? -num : num;
    switch (form) {
    case 0: snprintf(out, size, "%s%" PRId64 "/%" PRId64, sign, a, den); break;
    case 1: snprintf(out, size, "%s\\frac{%" PRId64 "}{%" PRId64 "}", sign, a, den); break;
    case 2: snprintf(out, size, "\\dfrac{%s%" PRId64 "}{%" PRId64 "}", sign, 3 * a, 3 * den); break;
    case 3:
        snprintf(out, size, "%s%" PRId64 "\\frac{%" PRId64 "}{%" PRId64 "}", sign, a / den, a % den,
                 den);
        break;
    case 4:
        snprintf(out, size, "$%s \\frac{%" PRId64 "}{%" PRId64 "}\\text{ km}$", sign, a, den);
        break;
    default: snprintf(out, size, "x=%s%" PRId64 " \\div %" PRId64, sign, a, den); break;
    }
}

TEST(mathans_numbers_stay_themselves) {
    struct verify *v = open_math();
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (uint64_t i = 0; i < 1500; i++) {
        int64_t num = (int64_t)rng_below(key, i, 0, 200001) - 100000;
        int64_t den = (int64_t)rng_below(key, i, 1, 5000) + 1;
        char a[200], b[200];
        write_number(a, sizeof a, num, den, rng_below(key, i, 2, 6));
        write_number(b, sizeof b, num, den, rng_below(key, i, 3, 6));
        expect(v, a, b, 1);
        write_number(b, sizeof b, num + 1, den, rng_below(key, i, 4, 6));
        expect(v, a, b, 0);
        if (num == 0) continue;
        write_number(b, sizeof b, -num, den, rng_below(key, i, 5, 6));
        expect(v, a, b, 0);
    }
    verify_close(&v);
}
