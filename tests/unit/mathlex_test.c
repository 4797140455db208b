/* mathlex_test.c - how an answer may be written: in Unicode, with formatting commands, with units,
 * among words. Tables of pairs that are equal and of pairs that are not, commands and units applied
 * to several values, and random rewritings: what keeps the meaning keeps the verdict, what changes
 * it changes the verdict. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "reward/math/mathfold.h"
#include "reward/math/mathlex.h"
#include "reward/math/mathlooks.h"
#include "reward/math/mathunit.h"
#include "reward/math/mathword.h"
#include "reward/verify/verify.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

static const char *const looks[] = {
    "\\underline{%s}",
    "\\bm{%s}",
    "\\boldsymbol{%s}",
    "\\mathbf{%s}",
    "\\mathsf{%s}",
    "\\mathtt{%s}",
    "\\mathit{%s}",
    "\\pmb{%s}",
    "\\large %s",
    "\\Large{%s}",
    "\\huge %s",
    "\\tiny{%s}",
    "{\\Huge %s}",
    "\\displaystyle %s",
    "{\\displaystyle %s}",
    "\\textstyle %s",
    "\\color{blue}{%s}",
    "{\\color{red} %s}",
    "{\\color{red}{%s}}",
    "\\color{green} %s",
    "\\textcolor{red}{%s}",
    "\\textcolor[rgb]{1,0,0}{%s}",
    "\\colorbox{yellow}{%s}",
    "\\colorbox{yellow}{$%s$}",
    "\\fcolorbox{red}{white}{%s}",
    "\\enspace %s",
    "\\thinspace %s",
    "%s\\quad",
    "\\quad %s\\qquad",
    "\\hspace{1cm} %s",
    "\\hspace*{2em}%s",
    "%s\\hspace{0.3em}",
    "\\phantom{00}%s",
    "\\hphantom{-}%s",
    "\\vphantom{\\frac12}%s",
    "\\strut %s",
    "\\mathstrut %s",
    "%s\\nonumber",
    "%s \\tag{1}",
    "\\label{eq}%s",
    "\\mathop{%s}",
    "\\ensuremath{%s}",
    "{%s}",
    "{{%s}}",
    "\\boxed{%s}",
    "\\fbox{%s}",
    "\\left.%s\\right.",
    "\\!%s",
    "~%s~",
    "$%s$",
    "\\(%s\\)",
    "\\[%s\\]",
    "$$%s$$",
    "\\kern 3pt %s",
    "\\mkern3mu %s",
    "\\mskip 3mu %s",
    "\\smash{%s}",
    "\\scriptstyle %s",
    "\\bf %s",
    "{\\bf %s}",
    "\\rm %s",
    "{\\it %s}",
    "\\normalsize %s",
    "\\begin{aligned} %s \\end{aligned}",
    "\\begin{equation*}%s\\end{equation*}",
    "\\uline{%s}",
    "\\raisebox{2pt}{$%s$}",
    "\\noindent %s",
    "\\mathrm{%s}",
    "\\mathnormal{%s}",
    "\\big( %s \\big)",
    "\\Bigl(%s\\Bigr)",
    "\\left(%s\\right)",
    "\\centering %s",
    "**$%s$**",
    "= %s",
    "\\approx %s",
    "\\therefore %s",
};

static const char *const faces[] = {
    "\\emph{%s}",
    "\\textnormal{%s}",
    "\\text{%s}",
    "\\textbf{%s}",
    "\\textit{%s}",
    "\\texttt{%s}",
    "\\textsf{%s}",
    "\\textsc{%s}",
    "\\textup{%s}",
    "\\mbox{%s}",
    "\\hbox{%s}",
    "\\bm{\\text{%s}}",
    "\\boldsymbol{\\text{%s}}",
    "\\mathbf{\\text{%s}}",
    "\\underline{\\text{%s}}",
    "\\textbf{\\textit{%s}}",
    "\\large\\text{%s}",
    "\\textcolor{red}{\\text{%s}}",
    "{\\text{%s}}",
    "\\color{blue}{\\text{%s}}",
    "\\mathrm{%s}",
    "\\operatorname{%s}",
    "{\\rm %s}",
    "\\text{ %s }",
    "\\text{%s.}",
    "\\mathsf{%s}",
    "\\mathtt{%s}",
    "\\emph{\\textbf{%s}}",
    "\\text{\\emph{%s}}",
    "\\fbox{%s}",
};

static const char *const units[] = {
    "\\text{ cm}",
    "\\mathrm{~cm}",
    "\\,\\mathrm{cm}",
    "\\ \\text{cm}",
    " cm",
    "cm",
    "\\text{ m}",
    "\\mathrm{m}",
    "\\,\\text{m}^2",
    "\\text{ m/s}",
    "\\ \\mathrm{m}/\\mathrm{s}",
    "\\,\\mathrm{m\\,s^{-1}}",
    "\\,\\mathrm{m\\cdot s^{-1}}",
    "\\ \\mathrm{m} \\cdot \\mathrm{s}^{-1}",
    "\\,\\text{m s}^{-2}",
    "\\ \\mathrm{m}/\\mathrm{s}^2",
    "\\mathrm{~m} / \\mathrm{s}^{2}",
    "\\,\\mathrm{kg\\,m^2/s^2}",
    "\\,\\mathrm{kg}\\cdot\\mathrm{m}^2",
    "\\,\\mathrm{N\\cdot m}",
    "\\ \\mathrm{mi} / \\mathrm{hr}",
    " km/h",
    " m/s",
    " m/s^2",
    " km/hr",
    " mi/h",
    " mph",
    " Hz",
    " kHz",
    " kg",
    " kW",
    " kWh",
    " GB",
    " MB/s",
    "\\text{ km/h}",
    "\\text{ miles per hour}",
    " miles per hour",
    " dollars per hour",
    "\\text{ dollars}",
    " dollars",
    " USD",
    "\\text{ USD}",
    " euros",
    " cents",
    "^\\circ",
    "^{\\circ}",
    "^\\circ C",
    "^\\circ\\text{C}",
    "^{\\circ}\\mathrm{F}",
    "\xc2\xb0"
    "C",
    "\xc2\xb0"
    "F",
    " \xc2\xb0"
    "C",
    "\\degree",
    " degrees",
    "\\text{ degrees}",
    " degrees Celsius",
    "\\text{ K}",
    "\\,\\mathrm{K}",
    " years",
    "\\text{ years old}",
    " minutes",
    " hours",
    " seconds",
    " min",
    "\\text{ s}^{-1}",
    "\\,\\mathrm{g/cm^3}",
    "\\ \\mathrm{g}/\\mathrm{cm}^{3}",
    " g/cm^3",
    "\\text{ square units}",
    " square feet",
    "\\text{ sq. ft.}",
    " cubic meters",
    "\\text{ cm}^3",
    "\\mbox{ inches}",
    "\\text{ ft}",
    " ft",
    " in.",
    "\\text{ in}^2",
    " p.m.",
    " a.m.",
    " PM",
    " pm",
    " AM",
    " P.M.",
    "\\text{ p.m.}",
    "\\text{ o'clock}",
    "\\,\\mu\\mathrm{m}",
    "\\,\\mathrm{\\mu m}",
    "\\,\\Omega",
    "\\,\\mathrm{k\\Omega}",
    "\\,\\text{J}",
    "\\text{ J/kg}",
    "\\mathrm{~J} \\mathrm{~K}^{-1} \\mathrm{~mol}^{-1}",
    "\\,\\frac{\\mathrm{m}}{\\mathrm{s}}",
    "\\,\\frac{\\text{miles}}{\\text{hour}}",
    "\\text{ apples}",
    " apples",
    "\\text{ people}",
    " students",
    "\\text{ ways}",
    " units",
    "\\text{ units}^2",
    "{\\rm cm}",
    "\\;{\\rm cm}^2",
    "\\text{ rad}",
    " radians",
    " rad/s",
    "\\text{ rad/s}",
    "\\mathrm{~eV}",
    " eV",
    " atm",
};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

/* 1, 0, or the ERR_* of a response whose box holds `boxed`. */
static int judge(const struct verify *v, const char *boxed, const char *answer) {
    struct verify_result r;
    char text[4000];
    snprintf(text, sizeof text, "so we get $\\boxed{%s}$.", boxed);
    verify_run(v, &(struct verify_input){.response = text, .answer = answer}, &r);
    return r.error ? r.error : (int)r.total;
}

static struct verify *open_math(void) {
    struct verify *v = NULL;
    CHECK_OK(verify_open(&v, &(struct verify_spec){.type = "math", .weight = 1}, 1));
    return v;
}

static void expect(const struct verify *v, const char *boxed, const char *answer, int wanted) {
    int got = judge(v, boxed, answer);
    if (got != wanted)
        test_fail(__FILE__, __LINE__, "\"%s\" for \"%s\": %d, wanted %d", boxed, answer, got,
                  wanted);
}

/* Each line of a table: its sign, an answer, another one. Equal ones are in both directions, and of
 * different ones each may be a reference that cannot be read. */
static void check_table(const char *path) {
    struct verify *v = open_math();
    char *text = NULL, *line;
    size_t size, rows = 0;
    CHECK_OK(file_read(&text, &size, path, 1 << 20));
    for (char *at = text; (line = strsep(&at, "\n")) != NULL;) {
        char *sign = strsep(&line, "\t"), *a = strsep(&line, "\t"), *b = line;
        if (*sign == '#' || !b) continue;
        rows++;
        if (*sign == '=') {
            expect(v, a, b, 1);
            expect(v, b, a, 1);
        } else if (judge(v, a, b) == 1 || judge(v, b, a) == 1) {
            test_fail(__FILE__, __LINE__, "\"%s\" is \"%s\"", a, b);
        }
    }
    CHECK(rows > 50);
    mem_free(text);
    verify_close(&v);
}

TEST(mathlex_unicode) {
    check_table("tests/golden/answers/unicode.tsv");
}
TEST(mathlex_looks) {
    check_table("tests/golden/answers/looks.tsv");
}
TEST(mathlex_units) {
    check_table("tests/golden/answers/units.tsv");
}
TEST(mathlex_words) {
    check_table("tests/golden/answers/words.tsv");
}

/* `form` with its one %s replaced. */
static const char *fill(char out[500], const char *form, const char *value) {
    const char *at = strstr(form, "%s");
    struct buf b = {0};
    buf_add(&b, form, (size_t)(at - form));
    buf_str(&b, value);
    buf_str(&b, at + 2);
    CHECK(b.len < 500);
    memcpy(out, b.data, b.len + 1);
    buf_close(&b);
    return out;
}

TEST(mathlex_commands_keep_values) {
    static const char *const values[] = {"5", "\\frac{1}{2}", "x^2+1", "-3", "\\sqrt{2}"};
    static const char *const words[] = {"Evelyn", "5", "B"};
    struct verify *v = open_math();
    char text[500];
    for (size_t i = 0; i < COUNT(looks); i++)
        for (size_t k = 0; k < COUNT(values); k++) {
            expect(v, fill(text, looks[i], values[k]), values[k], 1);
            expect(v, text, values[(k + 1) % COUNT(values)], 0);
        }
    for (size_t i = 0; i < COUNT(faces); i++)
        for (size_t k = 0; k < COUNT(words); k++) {
            expect(v, fill(text, faces[i], words[k]), words[k], 1);
            expect(v, text, words[(k + 1) % COUNT(words)], 0);
        }
    for (size_t i = 0; i < COUNT(units); i++) {
        snprintf(text, sizeof text, "5%s", units[i]);
        expect(v, text, "5", 1);
        expect(v, text, "6", 0);
        expect(v, text, "-5", 0);
        expect(v, "5", text, 1);
    }
    verify_close(&v);
}

/* ---- random rewritings ---- */

static const char *const exact[] = {
    "7",      "-12",  "3/4", "2.5", "\\frac{5}{6}", "1250", "2\\sqrt{3}", "\\frac{\\pi}{6}",
    "10^{6}", "0.125"};

/* What does not change a value, in front of it. */
static const char *const before[] = {"x = ",
                                     "\\text{about }",
                                     "\\text{Answer: }",
                                     "\\approx ",
                                     "\\text{The area is }",
                                     "\xe2\x89\x88 ",
                                     "\\$",
                                     "\\quad ",
                                     "\xe2\x80\x8b",
                                     "\\text{a total of }"};
/* What does, in front or behind. */
static const char *const changed[] = {
    "\\text{minus }%s",    "\\text{at least }%s", "\\text{half of }%s",
    "%s\\text{ thousand}", "%s\\text{ or more}",  "\\text{not }%s",
    "\\text{twice }%s",    "%s\\text{ dozen}",    "%s^{\\text{th}}\\text{ power of }2",
    "\\text{up to }%s",    "%s\\text{ plus }1",   "2(%s)"};

static uint32_t draw(uint64_t key, uint64_t i, uint32_t *n, uint32_t below) {
    return (uint32_t)rng_below(key, i, (*n)++, below);
}

/* Digits of another script now and then, and other minus signs. */
static void respell(char out[500], const char *s, uint64_t key, uint64_t i, uint32_t *n) {
    struct buf b = {0};
    bool wide = draw(key, i, n, 4) == 0;
    for (; *s; s++) {
        if (wide && *s >= '0' && *s <= '9') {
            buf_add(&b, "\xef\xbc", 2);
            buf_add(&b, (char[]){(char)(0x90 + *s - '0')}, 1);
        } else if (*s == '-' && draw(key, i, n, 2) == 0) {
            buf_str(&b, "\xe2\x88\x92");
        } else {
            buf_add(&b, s, 1);
        }
    }
    buf_str(&b, "");
    CHECK(b.len < 500);
    memcpy(out, b.data, b.len + 1);
    buf_close(&b);
}

TEST(mathlex_rewritings) {
    struct verify *v = open_math();
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (uint64_t i = 0; i < 1200; i++) {
        char a[500], b[500];
        uint32_t n = 0, which = draw(key, i, &n, COUNT(exact));
        respell(a, exact[which], key, i, &n);
        if (draw(key, i, &n, 2)) {
            snprintf(b, sizeof b, "%s%s", a, units[draw(key, i, &n, COUNT(units))]);
            memcpy(a, b, sizeof a);
        } else if (draw(key, i, &n, 2)) {
            fill(b, looks[draw(key, i, &n, COUNT(looks) - 3)], a); /* the last three announce */
            memcpy(a, b, sizeof a);
        }
        if (draw(key, i, &n, 2)) {
            snprintf(b, sizeof b, "%s%s", before[draw(key, i, &n, COUNT(before))], a);
            memcpy(a, b, sizeof a);
        }
        expect(v, a, exact[which], 1);
        expect(v, a, exact[(which + 1 + draw(key, i, &n, COUNT(exact) - 1)) % COUNT(exact)], 0);
        fill(b, changed[draw(key, i, &n, COUNT(changed))], exact[which]);
        expect(v, b, exact[which], 0);
    }
    verify_close(&v);
}

/* ---- parts ---- */

static void check_fold(const char *text, const char *wanted) {
    struct buf b = {0};
    mathfold(&b, text);
    if (strcmp(b.data, wanted) != 0)
        test_fail(__FILE__, __LINE__, "\"%s\" became \"%s\", wanted \"%s\"", text, b.data, wanted);
    buf_close(&b);
}

TEST(mathlex_folds_unicode) {
    check_fold("x\xc2\xb2", "x^{2}");
    check_fold("0.1\xcc\x84"
               "6\xcc\x85",
               "0.\\overline{16}");
    check_fold("0.1\xcc\x87"
               "42857\xcc\x87",
               "0.\\overline{142857}");
    check_fold("\xe2\x99\xa5", "\xe2\x99\xa5");   /* unknown: stays, is not dropped */
    check_fold("caf\x65\xcc\x81", "caf\xc3\xa9"); /* a word, composed */
    check_fold("\xff", "\xef\xbf\xbd");
    check_fold("", "");
}

/* Rewriting what was rewritten changes nothing. */
TEST(mathlex_looks_are_settled) {
    static const char *const texts[] = {
        "{3 \\over 4}", "\\color{red}{5}",  "1\\,000",  "90^\\circ",
        "{\\rm cm}",    "\\left(1\\right)", "{{{",      "\\",
        "\\text{",      "\\hspace",         "\\frac12", "x^{\\prime\\prime}",
        "\\sqrt12"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct buf once = {0}, twice = {0};
        mathlooks(&once, texts[i]);
        mathlooks(&twice, once.data);
        CHECK_STR(once.data, twice.data);
        buf_close(&once);
        buf_close(&twice);
    }
}

static int64_t number_of(const char *a, const char *b, const char *c, size_t *used, int64_t *den) {
    const char *const s[] = {a, b, c};
    struct mathword_part w[3];
    int64_t num = -1;
    size_t n = 0;
    for (; n < 3 && s[n]; n++)
        w[n] = (struct mathword_part){s[n], strlen(s[n])};
    *used = mathword_number(w, n, &num, den);
    return num;
}

TEST(mathlex_numbers_in_words) {
    size_t used;
    int64_t den;
    CHECK_INT(number_of("twenty-one", "apples", NULL, &used, &den), 21);
    CHECK_INT((int)used, 1);
    CHECK_INT(number_of("three", "quarters", NULL, &used, &den), 3);
    CHECK(used == 2 && den == 4);
    CHECK_INT(number_of("two", "hundred", "thousand", &used, &den), 200000);
    CHECK_INT(number_of("hundred", "hundred", "hundred", &used, &den), -1);
    CHECK_INT((int)used, 0);
    number_of("third", NULL, NULL, &used, &den);
    CHECK_INT((int)used, 0); /* a place */
}

TEST(mathlex_knows_units) {
    CHECK(mathunit_is("km", 2, MATHUNIT_GLUED) && mathunit_is("kilometers", 10, MATHUNIT_GLUED));
    CHECK(mathunit_is("mN", 2, MATHUNIT_UPRIGHT) && !mathunit_is("mN", 2, MATHUNIT_GLUED));
    CHECK(mathunit_is("m", 1, MATHUNIT_UPRIGHT) && !mathunit_is("m", 1, MATHUNIT_SPACED));
    CHECK(!mathunit_is("xy", 2, MATHUNIT_UPRIGHT) && !mathunit_is("ab", 2, MATHUNIT_SPACED));
    CHECK(!mathunit_is("", 0, MATHUNIT_UPRIGHT));
}

/* As many tokens, groups and words as an answer can have, and more. */
TEST(mathlex_bounds) {
    static const char *const pieces[] = {
        "a",        "{",        "}",     "5 ",    "word ", "\\text{",     "\\over ",
        "\xc2\xb2", "\\theta ", "^{",    "half ", "m/s ",  "(",           "-",
        "\\frac",   "five ",    "\\rm ", "'",     "1\\,",  "\xe2\x88\x9a"};
    static struct mathlex_token token[MATHLEX_TOKENS + 4];
    for (size_t i = 0; i < COUNT(pieces) * COUNT(pieces); i++) {
        const char *a = pieces[i / COUNT(pieces)], *b = pieces[i % COUNT(pieces)];
        struct arena *arena = arena_open(1 << 16);
        char text[MATHLEX_BYTES + 1] = "";
        size_t n = 0, step = strlen(a) + strlen(b);
        while (n + step <= MATHLEX_BYTES)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", a, b);
        bool words;
        CHECK(mathlex_read(token, &words, text, true, arena) <= MATHLEX_TOKENS);
        arena_close(&arena);
    }
}
