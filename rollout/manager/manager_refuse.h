/* manager_refuse.h - what peers may not say, and what becomes of those who do. */
#ifndef ROLLOUT_MANAGER_MANAGER_REFUSE_H
#define ROLLOUT_MANAGER_MANAGER_REFUSE_H

#include "rollout/manager/manager_clients.h"

struct manager_span { /* the part of a Tokens message that is about one trajectory */
    uint64_t id;
    uint32_t offset, n, finish;
    const int32_t *response;
    const float *logprob;
    const int64_t *version;
};

/* Reads from the model's folder what the trainer will take. */
MUST_CHECK int manager_refuse_open(struct manager *m);
void manager_refuse_close(struct manager *m);
/* ERR_CORRUPT: these tokens of a trajectory that the client has must not be stored; names them. */
MUST_CHECK int manager_refuse_span(struct manager *m, const struct manager_client *c,
                                   const struct manager_span *s);
/* The client broke a rule: it is named in the log, and banned for the last of many times. */
void manager_refuse(struct manager *m, struct manager_client *c, const char *what, const char *why);
/* At once: it cannot be right any more. */
void manager_refuse_ban(struct manager *m, struct manager_client *c, const char *what,
                        const char *why, int code);
/* Of a message that its validator refused. */
void manager_refuse_message(struct manager *m, const struct net_id *from, const char *why);
/* ERR_CORRUPT: without those that are banned the run cannot go on. */
MUST_CHECK int manager_refuse_tick(struct manager *m);

#endif
