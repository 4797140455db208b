/* sim_token.h - what the model of an engine generates, for whoever checks it. */
#ifndef TESTS_SIM_SIM_TOKEN_H
#define TESTS_SIM_SIM_TOKEN_H

#include <stdint.h>

int32_t sim_token(uint64_t id, int32_t position, int64_t version);
float sim_logprob(int32_t token, int64_t version);

#endif
