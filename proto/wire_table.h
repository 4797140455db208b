/* wire_table.h - the types of messages with their limits, and what a frame is. Below both wire.h,
 * which moves messages, and check.h, which says what may be in them. */
#ifndef PROTO_WIRE_TABLE_H
#define PROTO_WIRE_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_FRAMES_MAX = 4,
    WIRE_FORMAT = 1,
    WIRE_HEADER = 32,
    WIRE_BYTES_MAX = (1 << 30) + (17 << 20) /* header, body and payload of the largest type */
};

/* X(NAME, protobuf-c prefix, struct, body limit, payload limit, frames). A message has all frames
 * of its type (empty ones have 0 bytes) or, when all are empty, none. */
#define WIRE_TABLE(X)                                                                              \
    X(HELLO, hello, Hello, 4096, 1 << 20, 2)                                                       \
    X(WELCOME, welcome, Welcome, 4096, 1 << 20, 2)                                                 \
    X(HEARTBEAT, heartbeat, Heartbeat, 4096, 0, 0)                                                 \
    X(HEARTBEAT_ACK, heartbeat_ack, HeartbeatAck, 4096, 0, 0)                                      \
    X(STATUS_REQUEST, status_request, StatusRequest, 4096, 0, 0)                                   \
    X(STATUS, status, Status, 1 << 20, 0, 0)                                                       \
    X(WORK_REQUEST, work_request, WorkRequest, 4096, 0, 0)                                         \
    X(WORK, work, Work, 4 << 20, 256 << 20, 4)                                                     \
    X(TOKENS, tokens, Tokens, 4 << 20, 256 << 20, 3)                                               \
    X(TOKENS_ACK, tokens_ack, TokensAck, 4 << 20, 0, 0)                                            \
    X(SCORE_REQUEST, score_request, ScoreRequest, 1 << 20, 48 << 20, 1)                            \
    X(SCORE_REPLY, score_reply, ScoreReply, 16 << 20, 0, 0)                                        \
    X(BATCH_REQUEST, batch_request, BatchRequest, 4096, 0, 0)                                      \
    X(BATCH, batch, Batch, 16 << 20, 1 << 30, 4)                                                   \
    X(STEP_DONE, step_done, StepDone, 4096, 1 << 20, 1)                                            \
    X(STEP_ACK, step_ack, StepAck, 4096, 0, 0)                                                     \
    X(EVAL_DONE, eval_done, EvalDone, 4096, 1 << 20, 1)                                            \
    X(OFFER, offer, Offer, 4096, 0, 0)                                                             \
    X(OFFERED, offered, Offered, 4096, 0, 0)                                                       \
    X(PULL, pull, Pull, 4096, 0, 0)                                                                \
    X(VERSION, version, Version, 4096, 0, 0)                                                       \
    X(GROUP_RECORD, group_record, GroupRecord, 16 << 20, 0, 0)                                     \
    X(TRAJECTORY_RECORD, trajectory_record, TrajectoryRecord, 4096, 256 << 20, 4)                  \
    X(BATCH_RECORD, batch_record, BatchRecord, 4096, 16 << 20, 1)                                  \
    X(SCORE_RECORD, score_record, ScoreRecord, 16 << 10, 0, 0)                                     \
    X(WEIGHTS_RECORD, weights_record, WeightsRecord, 4096, 0, 0)

enum wire_type {
    WIRE_NONE = 0,
#define WIRE_ENUM(name, lower, type, body, payload, frames) WIRE_##name,
    WIRE_TABLE(WIRE_ENUM)
#undef WIRE_ENUM
        WIRE_TYPES
};

struct wire_frame { /* data of a received frame is aligned to 8 bytes */
    const void *data;
    size_t bytes;
};

#endif
