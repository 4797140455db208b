/* trajectory.h - one trajectory, as every service, message and record means it: a prompt, what
 * followed it, and for each token of that what is known of it, in named columns.
 *
 * The response is everything after the prompt. With turns it is a conversation: tokens that the
 * policy sampled and tokens that a tool or a user put in between, which are not trained. A part of
 * a response is a trajectory too: `offset` says where its first token stands, and turns count from
 * the beginning of the response, so parts can be cut and joined without changing them. A branch is
 * a trajectory of its own id in the same group, whose prompt holds what it shares.
 *
 * A new column is one line of the table below: wire, log and batches then carry it. */
#ifndef PROTO_TRAJECTORY_H
#define PROTO_TRAJECTORY_H

#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(NAME, field, element type, required, byte, words): a column has one element for each token of
 * the response. One that is not required may be absent, which means that every byte of it is
 * `byte`: 1 for the mask, all of it is trained. */
#define TRAJECTORY_TABLE(X)                                                                        \
    X(RESPONSE, response, int32_t, true, 0, "token ids")                                           \
    X(LOGPROB, logprob, float, true, 0, "log-probs")                                               \
    X(VERSION, version, int64_t, true, 0, "versions")                                              \
    X(MASK, mask, uint8_t, false, 1, "mask")

enum trajectory_column {
#define TRAJECTORY_ENUM(NAME, field, type, required, byte, words) TRAJECTORY_##NAME,
    TRAJECTORY_TABLE(TRAJECTORY_ENUM)
#undef TRAJECTORY_ENUM
        TRAJECTORY_COLUMNS
};

enum trajectory_finish {                     /* what ended the response */
                         TRAJECTORY_RUNNING, /* nothing did: it is a part */
                         TRAJECTORY_STOP,
                         TRAJECTORY_LENGTH,
                         TRAJECTORY_ABORTED,
                         TRAJECTORY_FINISHES
};

enum trajectory_role {
    TRAJECTORY_ASSISTANT,
    TRAJECTORY_USER,
    TRAJECTORY_TOOL,
    TRAJECTORY_SYSTEM,
    TRAJECTORY_ROLES
};

struct trajectory_turn { /* 8 bytes, as they lie in messages and records */
    int32_t start;       /* its first token in the response; it ends where the next one starts */
    uint8_t role;        /* enum trajectory_role */
    uint8_t trained;     /* 0: none of its tokens is, 1: those of the mask */
    uint8_t zero[2];
};

struct trajectory {
    uint64_t id, group;
    int32_t n_prompt, n_response; /* tokens here */
    int32_t offset;               /* of the first of them in the whole response */
    int32_t n_turns;              /* that start here; what is before the first one is trained */
    enum trajectory_finish finish;
    int64_t step;               /* steps done when it was finished */
    uint64_t started, finished; /* wall clock, us; 0: not known */
    const char *rollout;        /* that finished (or wrote) it; NULL or "": not known */
    int32_t max_new_tokens;     /* what the response may have in all; 0: not said */
    bool greedy;                /* always the most probable token, whatever the recipe says */
    float reward;
    float baseline; /* score of the prompt's greedy response (remax); NAN: there is none */
    const int32_t *prompt;
    const struct trajectory_turn *turn;
    union {
        const void *column[TRAJECTORY_COLUMNS]; /* NULL: absent, or there is no token */
        struct {
#define TRAJECTORY_FIELD(NAME, field, type, required, byte, words) const type *field;
            TRAJECTORY_TABLE(TRAJECTORY_FIELD)
#undef TRAJECTORY_FIELD
        };
    };
    /* Of one that was appended to: what it owns, columns and turns. Zero of any other, which only
     * borrows what it points to. */
    void *memory;
    struct trajectory_turn *turns;
    size_t cap, turns_cap;
};

size_t trajectory_column_bytes(enum trajectory_column c); /* of an element */
bool trajectory_column_required(enum trajectory_column c);
const char *trajectory_finish_name(enum trajectory_finish f); /* "stop", "length", ... */
const char *trajectory_role_name(enum trajectory_role r);     /* "assistant", "user", ... */

/* ERR_CORRUPT names what cannot be: counts below 0, a required column that is missing, turns that
 * are out of order or outside of the tokens. Values of tokens, log-probs and versions are the
 * business of who knows the model. */
MUST_CHECK int trajectory_check(const struct trajectory *t);
/* Whether a token is trained: its turn is, and the mask does not say no. k counts from the
 * beginning of the whole response, and must be one of those here. */
bool trajectory_trains(const struct trajectory *t, int32_t k);
int64_t trajectory_oldest(const struct trajectory *t); /* least version here; INT64_MAX: no token */
/* The first token, counted from the beginning of the response, that both parts have and that is not
 * the same in both, its columns included; -1: none. */
int32_t trajectory_differs(const struct trajectory *a, const struct trajectory *b);
/* Everything that is trained or shown is the same, wherever it lies. */
bool trajectory_equal(const struct trajectory *a, const struct trajectory *b);
/* Tokens from..to-1 of those that are here, borrowed from t; without the prompt unless from is the
 * beginning of the response. */
struct trajectory trajectory_slice(const struct trajectory *t, int32_t from, int32_t to);
/* A copy whose arrays are all in the arena. */
struct trajectory trajectory_copy(struct arena *a, const struct trajectory *t);
/* Adds the tokens and turns of a part that begins where t ends; all else of t stays. t owns its
 * columns from then on: trajectory_free. Columns that only one of them has are filled with what
 * their absence means. */
void trajectory_append(struct trajectory *t, const struct trajectory *part);
size_t trajectory_owned(const struct trajectory *t); /* bytes */
void trajectory_free(struct trajectory *t);          /* what it owns; no token is left */

#endif
