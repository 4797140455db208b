/* length.h - length shaping: soft punishment of overlong (and too short) responses. */
#ifndef REWARD_LENGTH_H
#define REWARD_LENGTH_H

#include "reward/verify_type.h"

extern const struct verify_type length_type;

#endif
