/* check.h - one validator per message type: the only place that decides whether a message may reach
 * a handler (I10). Ranges, counts, lengths, order, and that the raw frames have exactly the sizes
 * that the body's counts say. A handler may use every checked field without looking again. */
#ifndef PROTO_CHECK_H
#define PROTO_CHECK_H

#include "base/err.h"
#include "proto/wire_table.h"

enum {
    CHECK_NAME_MAX = 64,        /* bytes of a service's name */
    CHECK_TEXT_MAX = 3000,      /* bytes of a reason */
    CHECK_TOKENS_MAX = 1 << 20, /* tokens of one prompt or response */
    CHECK_ITEMS_MAX = 1 << 16,  /* items of Work, Tokens, TokensAck; trajectories of a Hello */
    CHECK_SCORES_MAX = 4096,    /* items of ScoreRequest and ScoreReply */
    CHECK_BATCH_MAX = 1 << 18,  /* trajectories of a batch */
    CHECK_FINISH_MAX = 3,       /* enum engine_finish */
    CHECK_STATE_MAX = 15        /* enum groups_state */
};

/* body: the protobuf-c struct of the type; frames: as many as the type has. ERR_CORRUPT names
 * field, value and limit. */
MUST_CHECK int check_message(enum wire_type type, const void *body,
                             const struct wire_frame *frames);

#endif
