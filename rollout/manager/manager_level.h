/* manager_level.h - how far rollouts run ahead: what level.h decides by, and its decision. */
#ifndef ROLLOUT_MANAGER_MANAGER_LEVEL_H
#define ROLLOUT_MANAGER_MANAGER_LEVEL_H

#include "base/json.h"
#include "rollout/manager/level.h"
#include "rollout/manager/manager_state.h"

struct manager_level_view {
    struct level now;
    double held; /* between the newest batch and the one before: level_batch */
};

void manager_level_open(struct manager *m);
void manager_level_close(struct manager *m);
void manager_level_restore(struct manager *m, int64_t groups); /* of the newest batch record */
/* the trainer wants a batch that it had not asked for */
void manager_level_asked(struct manager *m);
void manager_level_formed(struct manager *m);
/* The metrics of a step are known. */
void manager_level_step(struct manager *m, const struct json *line);
struct manager_level_view manager_level_view(const struct manager *m);

#endif
