/* verify_type.h - what one type of verifier is made of, and the list of all types. A new type is a
 * file that defines one `const struct verify_type`, and its name in VERIFY_TYPES below
 * (docs/howto/a-verifier.md). */
#ifndef REWARD_VERIFY_VERIFY_TYPE_H
#define REWARD_VERIFY_VERIFY_TYPE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VERIFY_MAX = 16,          /* verifiers in one set */
    VERIFY_NAME = 32,         /* bytes of a score's name, with the NUL */
    VERIFY_REASON = 200,      /* bytes of a reason, with the NUL */
    VERIFY_TEXT_MAX = 1 << 24 /* bytes of prompt, response or answer */
};

/* One entry of the recipe's reward list. A parameter that the type does not use must be 0/NULL. */
struct verify_spec {
    const char *type; /* the name of one of VERIFY_TYPES */
    const char *name; /* name of the score; NULL: the type. Names of a set differ */
    double weight;
    const char *pattern; /* regex, format: PCRE2, UTF-8 */
    const char *after;   /* a closing mark of reasoning beside </think>; "": no marks; NULL: none */
    bool flexible;       /* gsm8k: without ####, the last number */
    bool ignore_case;    /* exact, contains, regex, format */
    bool whole_word;     /* contains */
    int64_t min_tokens, max_tokens, buffer_tokens; /* length; max_tokens 0: the input's */
    double penalty;                                /* length; 0 is read as 1 */
};

/* Texts are NUL-terminated; a NULL text is read as "". Invalid UTF-8 is allowed. */
struct verify_input {
    const char *prompt, *response, *answer;
    int32_t n_tokens;   /* tokens of the response */
    int32_t max_tokens; /* most tokens a response may have; 0: unknown */
    bool truncated;     /* the response ended there, not by itself */
};

/* Parameters of struct verify_spec that a type uses. */
enum {
    VERIFY_USES_PATTERN = 1,
    VERIFY_USES_FLEXIBLE = 2,
    VERIFY_USES_CASE = 4,
    VERIFY_USES_WORD = 8,
    VERIFY_USES_TOKENS = 16, /* min_tokens, max_tokens, buffer_tokens, penalty */
    VERIFY_USES_AFTER = 32   /* after: the type judges the answer and sees no reasoning */
};

struct verify_type {
    const char *name, *doc;
    unsigned uses;
    bool needs_answer; /* an empty answer is ERR_CORRUPT before run is called */
    bool graded;       /* gives other scores than 0 and 1, so nobody knows which one is right */
    /* Checks and compiles the parameters; *state is passed to run and close. NULL: no state. */
    int (*open)(void **state, const struct verify_spec *spec);
    void (*close)(void *state);
    /* 0 and *value, or ERR_* with a text. reason (VERIFY_REASON bytes, "" before) may be filled
     * with why the value is what it is. Texts of in are never NULL; the response of a type that
     * uses `after` is what follows the reasoning. */
    int (*run)(const void *state, const struct verify_input *in, double *value, char *reason);
    /* 0 if a reference can be read, else what run fails with. NULL: run fails whatever the response
     * says, and may be asked with an empty one. */
    int (*check)(const void *state, const char *answer);
};

#define VERIFY_TYPES(X)                                                                            \
    X(mathans_type)                                                                                \
    X(gsm8k_type)                                                                                  \
    X(choice_type)                                                                                 \
    X(text_match_exact_type)                                                                       \
    X(text_match_contains_type)                                                                    \
    X(pattern_regex_type)                                                                          \
    X(pattern_format_type)                                                                         \
    X(length_type)                                                                                 \
    X(length_finished_type)
#define VERIFY_TYPE_DECLARE(type) extern const struct verify_type type;
VERIFY_TYPES(VERIFY_TYPE_DECLARE)

#endif
