/* gsm8k.h - the number after the last ####, as GSM8K writes it. */
#ifndef REWARD_VERIFY_GSM8K_H
#define REWARD_VERIFY_GSM8K_H

#include "reward/verify/verify_type.h"

extern const struct verify_type gsm8k_type;

#endif
