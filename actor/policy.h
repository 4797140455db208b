/* policy.h - what a process needs to use a Hugging Face folder as a policy, except the weights:
 * shape, tokenizer, chat format and the tokens that end a response, checked against each other. */
#ifndef ACTOR_POLICY_H
#define ACTOR_POLICY_H

#include "actor/params.h"
#include "actor/shape.h"
#include "actor/text/chat.h"
#include "actor/text/tokenizer.h"
#include "base/err.h"

enum { POLICY_STOPS_MAX = SHAPE_EOS_MAX + 2 };

struct policy {
    struct shape shape;
    struct tokenizer *tokenizer;
    enum chat_format chat;
    int32_t stop_ids[POLICY_STOPS_MAX],
        n_stop_ids; /* eos tokens, and the chat format's end of turn */
};

/* chat: a format's name or "auto". ERR_MISMATCH when the tokenizer has more ids than the model has
 * embeddings, or lacks a token that the format is made of. */
MUST_CHECK int policy_open(struct policy *out, const char *dir, const char *chat);
void policy_close(struct policy *p);
bool policy_stops(const struct policy *p, int32_t id); /* id ends a response */

#endif
