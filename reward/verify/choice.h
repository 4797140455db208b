/* choice.h - multiple choice: the letter A..J that the response settles on. */
#ifndef REWARD_VERIFY_CHOICE_H
#define REWARD_VERIFY_CHOICE_H

#include "reward/verify/verify_type.h"

extern const struct verify_type choice_type;

#endif
