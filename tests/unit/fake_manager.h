/* fake_manager.h - the manager's end of the protocol inside a test, and services as child
 * processes.
 */
#ifndef TESTS_FAKE_MANAGER_H
#define TESTS_FAKE_MANAGER_H

#include "proto/control.pb-c.h"
#include "proto/link.h"

#include <stdbool.h>
#include <sys/types.h>

struct fake_manager {
    struct net *net;
    struct net_sock *sock;
    uint64_t incarnation;
    int64_t step;
    bool done;
};

/* Writes test_dir()/recipe.yaml: the tiny model with random weights; settings: more YAML lines. */
void fake_manager_recipe(const char *rollout, const char *trainer, const char *more);
void fake_manager_open(struct fake_manager *f, uint64_t incarnation);
void fake_manager_close(struct fake_manager *f);
/* The next message that is not a heartbeat (those are answered), waiting at most wait_ms. */
bool fake_manager_next(struct fake_manager *f, int wait_ms, struct link_msg *m,
                       struct net_id *from);
/* Waits for a message of this type; others are dropped. Fails the test after 30 s. */
void fake_manager_want(struct fake_manager *f, enum wire_type type, struct link_msg *m,
                       struct net_id *from);
/* false: the peer is gone, or its queue is full. */
bool fake_manager_send(struct fake_manager *f, const struct net_id *to, enum wire_type type,
                       const void *body, const struct wire_frame *frames, size_t n);
/* Welcomes a Hello; keep: the answer for each of its trajectories (NULL: -1 for all). */
void fake_manager_welcome(struct fake_manager *f, const struct net_id *to,
                          const struct link_msg *hello, const int32_t *keep);

typedef int fake_manager_service(const char *run_dir, const char *name);
pid_t fake_manager_start(fake_manager_service *service, const char *name);
int fake_manager_wait(pid_t pid); /* its exit status; -signal */
/* Says that the run is complete, and goes on answering until the service has ended. */
int fake_manager_finish(struct fake_manager *f, pid_t pid);

#endif
