/* wire_table.h - the types of messages with their limits, and what a frame is. Below both wire.h,
 * which moves messages, and check.h, which says what may be in them. */
#ifndef PROTO_WIRE_TABLE_H
#define PROTO_WIRE_TABLE_H

#include "proto/trajectory.h"

#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_FRAMES_MAX = 8,
    WIRE_FORMAT = 2,
    WIRE_HEADER = 32,
    WIRE_BYTES_MAX = (1 << 30) + (33 << 20) /* header, body and payload of the largest type */
};

/* Frames by name: wire_msg.frame[FRAME_IDS]. The last name of a list is how many there are. */
enum { FRAME_IDS, FRAME_RECEIVED, FRAMES_HELLO }; /* Hello, Welcome */
enum { FRAME_TEXT, FRAMES_TEXT };                 /* ScoreRequest, StepDone, EvalDone */
enum { FRAME_MEMBERS, FRAMES_BATCH_RECORD };
enum { /* all messages and records of trajectories: trajectory_wire.h */
       FRAME_PROMPT,
       FRAME_TURN,
       FRAME_COLUMN, /* the first of TRAJECTORY_COLUMNS */
       FRAMES_TRAJECTORY = FRAME_COLUMN + TRAJECTORY_COLUMNS
};

/* X(NAME, protobuf-c prefix, struct, body limit, payload limit, frames). Frames at
 * the end that are empty may be left out. */
#define WIRE_TABLE(X)                                                                              \
    X(HELLO, hello, Hello, 4096, 1 << 20, FRAMES_HELLO)                                            \
    X(WELCOME, welcome, Welcome, 4096, 1 << 20, FRAMES_HELLO)                                      \
    X(HEARTBEAT, heartbeat, Heartbeat, 4096, 0, 0)                                                 \
    X(HEARTBEAT_ACK, heartbeat_ack, HeartbeatAck, 4096, 0, 0)                                      \
    X(STATUS_REQUEST, status_request, StatusRequest, 4096, 0, 0)                                   \
    X(STATUS, status, Status, 1 << 20, 0, 0)                                                       \
    X(WORK_REQUEST, work_request, WorkRequest, 4096, 0, 0)                                         \
    X(WORK, work, Work, 4 << 20, 256 << 20, FRAMES_TRAJECTORY)                                     \
    X(TOKENS, tokens, Tokens, 4 << 20, 256 << 20, FRAMES_TRAJECTORY)                               \
    X(TOKENS_ACK, tokens_ack, TokensAck, 4 << 20, 0, 0)                                            \
    X(SCORE_REQUEST, score_request, ScoreRequest, 1 << 20, 48 << 20, FRAMES_TEXT)                  \
    X(SCORE_REPLY, score_reply, ScoreReply, 16 << 20, 0, 0)                                        \
    X(BATCH_REQUEST, batch_request, BatchRequest, 4096, 0, 0)                                      \
    X(BATCH, batch, Batch, 32 << 20, 1 << 30, FRAMES_TRAJECTORY)                                   \
    X(STEP_DONE, step_done, StepDone, 4096, 1 << 20, FRAMES_TEXT)                                  \
    X(STEP_ACK, step_ack, StepAck, 4096, 0, 0)                                                     \
    X(EVAL_DONE, eval_done, EvalDone, 4096, 1 << 20, FRAMES_TEXT)                                  \
    X(OFFER, offer, Offer, 4096, 0, 0)                                                             \
    X(OFFERED, offered, Offered, 4096, 0, 0)                                                       \
    X(PULL, pull, Pull, 4096, 0, 0)                                                                \
    X(VERSION, version, Version, 4096, 0, 0)                                                       \
    X(GROUP_RECORD, group_record, GroupRecord, 16 << 20, 0, 0)                                     \
    X(TRAJECTORY_RECORD, trajectory, Trajectory, 4096, 256 << 20, FRAMES_TRAJECTORY)               \
    X(BATCH_RECORD, batch_record, BatchRecord, 4096, 16 << 20, FRAMES_BATCH_RECORD)                \
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
