/* manager_trainer.h - the batch that the trainer asks for: batches out, steps done in. */
#ifndef ROLLOUT_MANAGER_MANAGER_TRAINER_H
#define ROLLOUT_MANAGER_MANAGER_TRAINER_H

#include "rollout/manager/manager_state.h"

void manager_trainer_open(struct manager *m);
void manager_trainer_close(struct manager *m);

MUST_CHECK int manager_trainer_ask(struct manager *m, const struct net_id *from,
                                   const struct wire_msg *msg);
MUST_CHECK int manager_trainer_answer(struct manager *m); /* the kept request, when it can be */
MUST_CHECK int manager_trainer_done(struct manager *m, const struct net_id *from,
                                    const struct wire_msg *msg);
MUST_CHECK int manager_trainer_eval(struct manager *m, const struct net_id *from,
                                    const struct wire_msg *msg);
/* Whether a request is kept; the step that was asked for last, and since when. */
bool manager_trainer_waits(const struct manager *m, int64_t *step, uint64_t *since_us);

#endif
