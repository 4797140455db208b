/* mathans.h - type math: final answers of mathematics, compared exactly. */
#ifndef REWARD_VERIFY_MATHANS_H
#define REWARD_VERIFY_MATHANS_H

#include "reward/verify/verify_type.h"

extern const struct verify_type mathans_type;

#endif
