/* verify_types.h - every type of verifier, one line each, in the order of docs/rewards.md. A new
 * one is a file that defines `const struct verify_type verify_NAME` and its line here. */
#ifndef REWARD_VERIFY_VERIFY_TYPES_H
#define REWARD_VERIFY_VERIFY_TYPES_H

#include "reward/verify/verify_type.h"

#define VERIFY_TYPES(X)                                                                            \
    X(verify_math)                                                                                 \
    X(verify_gsm8k)                                                                                \
    X(verify_choice)                                                                               \
    X(verify_exact)                                                                                \
    X(verify_contains)                                                                             \
    X(verify_regex)                                                                                \
    X(verify_format)                                                                               \
    X(verify_length)                                                                               \
    X(verify_finished)

#define VERIFY_DECLARE(type) extern const struct verify_type type;
VERIFY_TYPES(VERIFY_DECLARE)
#undef VERIFY_DECLARE

#endif
