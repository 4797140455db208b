/* pattern.h - types regex and format: PCRE2 patterns under match and memory limits. */
#ifndef REWARD_VERIFY_PATTERN_H
#define REWARD_VERIFY_PATTERN_H

#include "reward/verify/verify_type.h"

extern const struct verify_type pattern_regex_type;
extern const struct verify_type pattern_format_type;

#endif
