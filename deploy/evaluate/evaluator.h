/* evaluator.h - the evaluation service of a run: evaluates version 0, then the newest version every
 * eval.every steps, and the last one, with an engine of its own at low priority, outside the path
 * of training. */
#ifndef DEPLOY_EVALUATE_EVALUATOR_H
#define DEPLOY_EVALUATE_EVALUATOR_H

#include "base/err.h"

/* Returns 0 once the run is complete and its last version was evaluated and stored;
 * ERR_STOPPED when a stop signal came before. */
MUST_CHECK int evaluator_service(const char *run_dir, const char *name);

#endif
