/* verify_fuzz.c - response and reference answer as arbitrary bytes into every verifier. Beyond not
 * crashing: a result is well formed, and an answer that is put into a box is never scored 0 against
 * itself. */
#include "base/mem.h"
#include "base/utf8.h"
#include "reward/verify/verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct verify_spec specs[] = {
    {.type = "math", .weight = 1},
    {.type = "gsm8k", .weight = 1},
    {.type = "gsm8k", .weight = 1, .flexible = true},
    {.type = "choice", .weight = 1},
    {.type = "math", .weight = 1, .after = "final"},
    {.type = "exact", .weight = 1},
    {.type = "exact", .weight = 1, .ignore_case = true},
    {.type = "contains", .weight = 1, .ignore_case = true, .whole_word = true},
    {.type = "regex", .weight = 1, .pattern = "(a|b|ab)*(?<answer>\\w+)$"},
    {.type = "format", .weight = 1, .pattern = "<t>(.*?)</t>\\s*\\S"},
    {.type = "length", .weight = 1, .buffer_tokens = 4, .min_tokens = 2},
};
enum { N = sizeof specs / sizeof specs[0] };

static void check(const struct verify_result *r) {
    ASSERT(r->error <= 0 && r->n_scores == (r->error ? 0 : 1) && isfinite(r->total));
    ASSERT(strnlen(r->reason, VERIFY_REASON) < VERIFY_REASON);
    ASSERT(utf8_valid_prefix(r->reason, strlen(r->reason)) == strlen(r->reason));
}

/* An answer that cannot be mistaken for a box, a mark or the end of reasoning of its own. */
static bool is_plain(const char *s) {
    return strpbrk(s, "{}#\\<[") == NULL && strlen(s) < 2000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct verify *v[N];
    struct verify_result r;
    for (size_t i = 0; i < N && !v[i]; i++)
        if (verify_open(&v[i], &specs[i], 1) < 0) return 0;
    char *response = mem_strndup((const char *)data, n);
    size_t used = strlen(response);
    const char *rest = used < n ? (const char *)data + used + 1 : "";
    char *answer = mem_strndup(rest, used < n ? n - used - 1 : 0);
    struct verify_input in = {.response = response, .answer = answer, .n_tokens = (int32_t)n};
    in.max_tokens = (int32_t)used + 4;
    for (size_t i = 0; i < N; i++) {
        verify_run(v[i], &in, &r);
        check(&r);
    }
    if (is_plain(answer)) {
        char *boxed = mem_printf("\\boxed{%s}", answer);
        in.response = boxed;
        verify_run(v[0], &in, &r);
        ASSERT(r.error || r.total > 0);
        mem_free(boxed);
    }
    mem_free(response);
    mem_free(answer);
    return 0;
}
