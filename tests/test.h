/* test.h - the test framework. TEST(name) { ... } registers a test; each runs in a process of its
 * own with a timeout, so a crash or a hang is one failed test. A failed CHECK prints both sides and
 * ends the test. Randomness comes from test_seed(), 1 unless --seed gives another, which is
 * printed. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include "base/err.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef void test_fn(void);
void test_register(const char *file, const char *name, test_fn *fn, int timeout_s);
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *why); /* ends the test as skipped */
uint64_t test_seed(void);
/* A fresh directory for this test, removed afterwards by the framework. */
const char *test_dir(void);

#define TEST_TIMEOUT(name, seconds)                                                                \
    static void test_##name(void);                                                                 \
    __attribute__((constructor)) static void register_##name(void) {                               \
        test_register(__FILE__, #name, test_##name, seconds);                                      \
    }                                                                                              \
    static void test_##name(void)
#define TEST(name) TEST_TIMEOUT(name, 60)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) test_fail(__FILE__, __LINE__, "%s", #cond);                                   \
    } while (0)
#define CHECK_OK(expr)                                                                             \
    do {                                                                                           \
        int rc_ = (expr);                                                                          \
        if (rc_ < 0)                                                                               \
            test_fail(__FILE__, __LINE__, "%s = %s: %s", #expr, err_name(rc_), err_text());        \
    } while (0)
/* expr fails with code and its text holds part. */
#define CHECK_ERR(expr, code, part)                                                                \
    do {                                                                                           \
        int rc_ = (expr);                                                                          \
        if (rc_ != (code))                                                                         \
            test_fail(__FILE__, __LINE__, "%s = %s (%s), wanted %s", #expr, err_name(rc_),         \
                      rc_ < 0 ? err_text() : "", err_name(code));                                  \
        if (!strstr(err_text(), part))                                                             \
            test_fail(__FILE__, __LINE__, "error text \"%s\" lacks \"%s\"", err_text(), part);     \
    } while (0)
#define CHECK_INT(a, b)                                                                            \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        if (a_ != b_) test_fail(__FILE__, __LINE__, "%s = %lld, %s = %lld", #a, a_, #b, b_);       \
    } while (0)
#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        if (strcmp(a_, b_) != 0)                                                                   \
            test_fail(__FILE__, __LINE__, "%s = \"%s\", wanted \"%s\"", #a, a_, b_);               \
    } while (0)
#define CHECK_NEAR(a, b, tol)                                                                      \
    do {                                                                                           \
        double a_ = (double)(a), b_ = (double)(b);                                                 \
        if (!(fabs(a_ - b_) <= (tol)))                                                             \
            test_fail(__FILE__, __LINE__, "%s = %.9g, %s = %.9g, tolerance %g", #a, a_, #b, b_,    \
                      (double)(tol));                                                              \
    } while (0)

#endif
