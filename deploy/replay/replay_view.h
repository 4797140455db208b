/* replay_view.h - a run's log opened for reading: what `weir replay`'s actions and the samples of a
 * running run share. */
#ifndef DEPLOY_REPLAY_REPLAY_VIEW_H
#define DEPLOY_REPLAY_REPLAY_VIEW_H

#include "actor/text/tokenizer.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/recipe/recipe.h"
#include "rollout/log/runlog.h"

#include <stdbool.h>

struct replay_view { /* a zeroed one may be closed */
    struct recipe *recipe;
    struct runlog *log;
    struct tokenizer *tokenizer; /* NULL until asked for */
};

MUST_CHECK int replay_view_open(struct replay_view *out, const char *run);
/* The log of a run to read. A damaged one: the error names the remedy. */
MUST_CHECK int replay_view_log(struct runlog **out, const char *run);
void replay_view_close(struct replay_view *v);

/* The text of tokens, special ones spelled out; it may hold NUL bytes. *text: mem_free. */
MUST_CHECK int replay_view_text(struct replay_view *v, const int32_t *ids, int32_t n, char **text,
                                size_t *bytes);

const char *replay_view_finish(uint32_t finish);
/* What became of a trajectory; s: NULL without a score. */
const char *replay_view_state(const struct runlog_group *g, const struct runlog_score *s,
                              uint64_t id);
/* *out: NULL while there is no score. hold: runlog_free. */
MUST_CHECK int replay_view_score(struct replay_view *v, uint64_t id, struct runlog_record *hold,
                                 const struct runlog_score **out);

/* The content of a version: hash of what the rollouts had, and whether the trainer published it. */
struct replay_content {
    bool known, published, equal;
    struct hash hash;
    char rollout[RUNLOG_NAME_MAX + 1];
};

/* Each version of the response once. */
MUST_CHECK int replay_view_versions(struct replay_view *v, const struct runlog_traj *t, void *ctx,
                                    void (*each)(void *ctx, int64_t version,
                                                 const struct replay_content *c));

#endif
