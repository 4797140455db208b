/* replay_export.h - trajectories of a run's log as JSON lines. */
#ifndef DEPLOY_REPLAY_REPLAY_EXPORT_H
#define DEPLOY_REPLAY_REPLAY_EXPORT_H

#include "deploy/replay/replay_view.h"

/* Appends one trajectory as an object that `weir step` reads, with what else is known of it:
 * prompt, reference and response as text, scores by name and the verifiers' reasons; first
 * "event", if it is not NULL. */
MUST_CHECK int replay_export_line(struct replay_view *v, const struct runlog_traj *t,
                                  const struct runlog_group *g, const char *event, struct buf *out);
/* Every finished trajectory, or (step >= 0) those that the step
 * of that version trained, to stdout. ERR_NOTFOUND
 * when there is no such step. */
MUST_CHECK int replay_export(struct replay_view *v, int64_t step, const char *run);

#endif
