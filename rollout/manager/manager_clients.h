/* manager_clients.h - who is there, by name: said hello, beats, is alive or lost, is banned. */
#ifndef ROLLOUT_MANAGER_MANAGER_CLIENTS_H
#define ROLLOUT_MANAGER_MANAGER_CLIENTS_H

#include "rollout/manager/manager_state.h"

enum {
    MANAGER_CLIENTS_MAX = 1100 /* known at a time: all rollouts and a few others */
};

enum manager_role {
    MANAGER_NOBODY,
    MANAGER_ROLLOUT,
    MANAGER_REWARD,
    MANAGER_TRAINER,
    MANAGER_EVALUATOR,
    MANAGER_OTHER
};

struct manager_client {
    bool used, alive; /* alive: said hello and was heard of since */
    enum manager_role role;
    char name[RUNLOG_NAME_MAX + 1], service[RUNLOG_NAME_MAX + 1];
    struct net_id id;
    uint64_t incarnation, heard_us;
    uint64_t writer;  /* hash of the name */
    uint64_t session; /* our incarnation as told to it: a new one makes it say hello again */
    int64_t version, running, kv_used, kv_total, tokens;
    double busy, tokens_per_s;
    uint64_t beat_us;       /* of the newest heartbeat */
    uint32_t credit;        /* places of a work request that is kept, 0: none */
    uint32_t places;        /* that the client has in all, 0: it did not say */
    int64_t credit_version; /* weights it named; checked, unlike a heartbeat's */
    uint64_t credit_us;
    uint32_t offences; /* what it sent that broke a rule, since it is known by name */
    bool banned;       /* too many: nothing of it is taken, and it gets nothing */
};

void manager_clients_open(struct manager *m);
void manager_clients_close(struct manager *m);

/* The client that says hello, with nothing that it had before; NULL: refused. Its welcome is the
 * caller's (manager_rollouts_welcome). */
struct manager_client *manager_clients_hello(struct manager *m, const struct net_id *from,
                                             const struct wire_msg *msg);
void manager_clients_heartbeat(struct manager *m, const struct net_id *from,
                               const struct wire_msg *msg);
struct manager_client *manager_clients_find(struct manager *m, const struct net_id *id);
/* NULL and an answer that makes it say hello: unknown, or thought dead. */
struct manager_client *manager_clients_known(struct manager *m, const struct net_id *from);
/* All slots ever used, 0 ..; NULL past the end. */
struct manager_client *manager_clients_at(const struct manager *m, size_t i);
/* The client's number in groups.h. */
int32_t manager_clients_number(const struct manager *m, const struct manager_client *c);
/* Its leases go to others. why is for the log; with NULL nothing is said. */
void manager_clients_lose(struct manager *m, struct manager_client *c, const char *why);
/* Sends to a client for whom silence would be a loss: if it does not read, it is lost. */
MUST_CHECK int manager_clients_send(struct manager *m, struct manager_client *c,
                                    enum wire_type type, const void *body,
                                    const struct wire_frame *frames, size_t n);
/* loses those who did not read the outbox's letters */
void manager_clients_deaf(struct manager *m);
void manager_clients_tick(struct manager *m); /* loses those who are silent for too long */
struct manager_client *manager_clients_reward(struct manager *m); /* NULL: none alive */
uint64_t manager_clients_writer(const char *name); /* a name's number in manager_tokens.writer */
const char *manager_clients_name(const struct manager *m, uint64_t writer); /* "": not known now */

#endif
