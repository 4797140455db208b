/* spawner.h - the process between a pool and its workers: it forks them, kills them on request and
 * reaps them. Forking from the service itself would be wrong: the service has threads (ZeroMQ's),
 * and a fork of a threaded process may inherit a locked mutex. */
#ifndef REWARD_SPAWNER_H
#define REWARD_SPAWNER_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

enum spawner_op { SPAWNER_SPAWN = 1, SPAWNER_KILL, SPAWNER_SPAWNED, SPAWNER_EXITED };

/* One packet each way. To the keeper: SPAWN, KILL (slot). From it: SPAWNED with the worker's
 * socket, EXITED with the wait status. At most one process per slot. */
struct spawner_message {
    uint32_t op, slot;
    int32_t status;
    int32_t pid;
};

/* The life of a worker with its socket; it must not return. */
typedef void spawner_child(int fd, const void *context);

/* Starts the keeper for up to n_slots workers; *fd: our end, non-blocking. The keeper and its
 * workers end when fd is closed everywhere, or when the calling thread ends. */
MUST_CHECK int spawner_open(int *fd, pid_t *pid, uint32_t n_slots, spawner_child *child,
                            const void *context);
/* Closes *fd (sets it to -1) and waits until the keeper and all workers are gone. */
void spawner_close(int *fd, pid_t pid);
/* ERR_AGAIN: the keeper has not read its last messages yet. ERR_CLOSED: it is gone. */
MUST_CHECK int spawner_send(int fd, enum spawner_op op, uint32_t slot);
/* *worker_fd is -1 unless SPAWNED. ERR_AGAIN: nothing there. ERR_CLOSED: the keeper is gone. */
MUST_CHECK int spawner_receive(struct spawner_message *out, int *worker_fd, int fd);

#endif
