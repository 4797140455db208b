/* gsm8k_test.c - forms of the final number, hedges that must not pay, references that are errors,
 * and every reference answer of the training set against itself and against wrong numbers. */
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "reward/verify/verify.h"
#include "tests/shared.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

static struct verify *open_gsm8k(bool flexible) {
    struct verify *v = NULL;
    CHECK_OK(verify_open(
        &v, &(struct verify_spec){.type = "gsm8k", .weight = 1, .flexible = flexible}, 1));
    return v;
}

/* 1, 0, or the ERR_* */
static int judge(const struct verify *v, const char *response, const char *answer) {
    struct verify_result r;
    verify_run(v, &(struct verify_input){.response = response, .answer = answer}, &r);
    if (r.error) return r.error;
    CHECK(r.total == 0 || r.total == 1);
    return (int)r.total;
}

struct gsm8k_case {
    const char *response, *answer;
    int strict, flexible;
};

static const struct gsm8k_case forms[] = {
    {"#### 18", "18", 1, 1},
    {"reasoning\n#### 18\n", "6*3\n#### 18", 1, 1},
    {"####18", "18", 1, 1},
    {"#### 18.0", "18", 1, 1},
    {"#### 18.", "18", 1, 1},
    {"#### 018", "18", 1, 1},
    {"#### +18", "18", 1, 1},
    {"#### $18", "18", 1, 1},
    {"#### \\$18", "18", 1, 1},
    {"#### $18.00", "18", 1, 1},
    {"#### \xe2\x82\xac"
     "18",
     "18", 1, 1},
    {"#### 18 dollars.", "18", 1, 1},
    {"#### 18%", "18", 1, 1},
    {"#### **18**", "18", 1, 1},
    {"#### \\boxed{18}", "18", 1, 1},
    {"#### $\\boxed{18}$", "18", 1, 1},
    {"#### = 18", "18", 1, 1},
    {"#### 1,234", "1234", 1, 1},
    {"#### 1234", "1,234", 1, 1},
    {"#### 1,234,567.50", "1234567.5", 1, 1},
    {"#### -5", "-5", 1, 1},
    {"#### \xe2\x88\x92"
     "5",
     "-5", 1, 1},
    {"#### -$5", "-5", 1, 1},
    {"#### $-5", "-5", 1, 1},
    {"#### 5", "-5", 0, 0},
    {"#### 0", "-0", 1, 1},
    {"#### 1/2", "0.5", 1, 1},
    {"#### 3/4", "6/8", 1, 1},
    {"#### 1 1/2", "1.5", 1, 1},
    {"#### -1 1/2", "-1.5", 1, 1},
    {"#### .5", "1/2", 1, 1},
    {"#### 0.333", "1/3", 0, 0},
    {"#### 1/0", "1", 0, 0},
    {"#### 17\n#### 18", "18", 1, 1}, /* the last one counts */
    {"#### 18\n#### 17", "18", 0, 0},
    {"#### 18\n#### Note", "18", 1, 1}, /* a mark without number is a heading */
    {"#### Step 1\n6*3=18\n#### 18", "18", 1, 1},
    {"#### 17 or 18", "18", 0, 0}, /* hedges */
    {"#### 18 or 17", "18", 0, 0},
    {"#### 18-20", "18", 0, 0},
    {"#### 18, 19", "18", 0, 0},
    {"#### 1,23", "1", 0, 0},
    {"#### 1.8e1", "18", 0, 0},
    {"#### ", "18", 0, 0},
    {"####", "18", 0, 0},
    {"#### eighteen", "18", 0, 0},
    {"", "18", 0, 0},
    {"### 18", "18", 0, 1},
    {"The answer is 18.", "18", 0, 1},
    {"So 20-2=18 apples", "18", 0, 1},
    {"it is $-18", "-18", 0, 1},
    {"it is -$18", "-18", 0, 1},
    {"(-18)", "-18", 0, 1},
    {"x-18", "18", 0, 1}, /* a minus behind a letter subtracts */
    {"from 5 to 18, in 2 days", "18", 0, 0},
    {"costs $1,200.", "1200", 0, 1},
    {"half: 48/2 = 24.", "24", 0, 1},
};

TEST(gsm8k_forms) {
    struct verify *strict = open_gsm8k(false), *flexible = open_gsm8k(true);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        int a = judge(strict, forms[i].response, forms[i].answer);
        int b = judge(flexible, forms[i].response, forms[i].answer);
        if (a != forms[i].strict || b != forms[i].flexible)
            test_fail(__FILE__, __LINE__, "\"%s\" / \"%s\": strict %d, flexible %d",
                      forms[i].response, forms[i].answer, a, b);
    }
    verify_close(&strict);
    verify_close(&flexible);
}

TEST(gsm8k_unreadable_reference_is_an_error) {
    static const char *const bad[] = {"",    "eighteen",    "####",      "#### x",  "18 or 19",
                                      "1/0", "#### 18, 19", "none ####", "5\n####", "--5"};
    struct verify *v = open_gsm8k(false);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (judge(v, "#### 18", bad[i]) != ERR_CORRUPT)
            test_fail(__FILE__, __LINE__, "reference \"%s\" was accepted", bad[i]);
    verify_close(&v);
}

TEST(gsm8k_numbers_too_large_are_no_numbers) {
    struct verify *v = open_gsm8k(true);
    char big[2000];
    memset(big, '9', sizeof big - 1);
    big[sizeof big - 1] = 0;
    memcpy(big, "#### ", 5);
    CHECK_INT(judge(v, big, "9"), 0);
    CHECK_INT(judge(v, "#### 9", big), ERR_CORRUPT);
    big[300] = 0; /* 295 digits fit */
    CHECK_INT(judge(v, big, big), 1);
    verify_close(&v);
}

/* Checks one reference: itself right, its neighbours wrong. */
static void check_row(const struct verify *v, const char *answer) {
    const char *mark = strstr(answer, "#### ");
    char plain[64], text[128];
    size_t n = 0;
    CHECK(mark != NULL);
    for (const char *s = mark + 5; *s; s++)
        if (*s != ',') plain[n++] = *s;
    plain[n] = 0;
    CHECK_INT(judge(v, answer, answer), 1);
    long long x = strtoll(plain, NULL, 10);
    const long long wrong[] = {x + 1, x - 1, x * 10, -x};
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "so\n#### %lld", wrong[i]);
        CHECK_INT(judge(v, text, answer), wrong[i] == x);
    }
    snprintf(text, sizeof text, "#### $%lld.0", x);
    CHECK_INT(judge(v, text, answer), 1);
    snprintf(text, sizeof text, "#### %s", plain);
    for (size_t i = 5; text[i] && text[i + 1]; i++) {
        char a = text[i];
        if (a == text[i + 1] || a == '-') continue;
        text[i] = text[i + 1];
        text[i + 1] = a;
        CHECK_INT(judge(v, text, answer), 0);
        text[i + 1] = text[i];
        text[i] = a;
    }
}

TEST(gsm8k_every_reference_of_the_training_set) {
    char *data = NULL;
    size_t bytes, rows = 0;
    struct verify *v = open_gsm8k(false), *math = NULL;
    CHECK_OK(verify_open(&math, &(struct verify_spec){.type = "math", .weight = 1}, 1));
    CHECK_OK(file_read(&data, &bytes, test_shared_path("data/gsm8k/train.jsonl"), 64u << 20));
    for (char *line = data, *end; *line; line = end + 1) {
        struct json_doc *doc = NULL;
        const char *answer = NULL;
        end = strchr(line, '\n');
        CHECK(end != NULL);
        CHECK_OK(json_parse(&doc, line, (size_t)(end - line), "train.jsonl"));
        CHECK_OK(json_read_str(&answer, json_root(doc), "answer", "train.jsonl"));
        check_row(v, answer);
        CHECK_INT(judge(math, answer, answer), 1); /* math reads the same rows */
        CHECK_INT(judge(math, "\\boxed{-7.5}", answer), 0);
        json_close(&doc);
        rows++;
    }
    CHECK_INT(rows, 7473);
    mem_free(data);
    verify_close(&math);
    verify_close(&v);
}
