/* length.h - length shaping: soft punishment of overlong (and too short) responses, and whether
 * the response came to its end. */
#ifndef REWARD_VERIFY_LENGTH_H
#define REWARD_VERIFY_LENGTH_H

#include "reward/verify/verify_type.h"

extern const struct verify_type length_type;
extern const struct verify_type length_finished_type;

#endif
