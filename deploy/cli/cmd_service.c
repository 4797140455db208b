/* cmd_service.c - `weir manager|relay|reward|rollout|trainer|evaluator --run RUN [--name NAME]`:
 * one service of a run. The supervisor starts them; by hand they serve to debug one service under
 * gdb or valgrind while the others run. */
#include "base/crash.h"
#include "base/log.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "deploy/evaluate/evaluator.h"
#include "relay/relay.h"
#include "reward/reward.h"
#include "rollout/manager/manager.h"
#include "rollout/rollout.h"
#include "trainer/learn/step.h"
#include "trainer/ranks/ranks.h"
#include "trainer/trainer.h"

static int parse_service(int argc, char **argv, const char **run, const char **name) {
    *run = NULL;
    *name = argv[0];
    struct args_option options[] = {
        {"run", ARGS_STR, run, "RUN", "directory of the run", 0, 0},
        {"name", ARGS_STR, name, "NAME",
         "of this process among the run's services; default: the verb", 0, 0},
    };
    struct args_verb verb = {"weir SERVICE --run RUN [--name NAME]",
                             "Runs one service of a run in this process.",
                             options,
                             2,
                             0,
                             0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc;
    if (!*run) return FAIL(ERR_CONFIG, "--run RUN is missing");
    log_rename(*name);
    crash_file(*run, *name);
    return 0;
}

#define SERVICE(verb, call)                                                                        \
    int cmd_##verb(int argc, char **argv) {                                                        \
        const char *run, *name;                                                                    \
        int rc = parse_service(argc, argv, &run, &name);                                           \
        if (rc != 0) return rc < 0 ? rc : 0;                                                       \
        return call;                                                                               \
    }

SERVICE(manager, manager_service(run))
SERVICE(relay, relay_service(run))
SERVICE(reward, reward_service(run, name))
SERVICE(rollout, rollout_service(run, name))
SERVICE(trainer, trainer_service(run))
SERVICE(evaluator, evaluator_service(run, name))

/* Started by rank 0 of a trainer (trainer/ranks/ranks.c), never by hand. What it would log, rank 0
 * logs; why it ends, rank 0 is told. */
int cmd_trainer_rank(int argc, char **argv) {
    int64_t rank = 0;
    struct args_option options[] = {
        {"rank", ARGS_INT, &rank, "N", "its number, for the eye", 0, 1e6},
    };
    struct args_verb verb = {"weir trainer-rank --rank N",
                             "One rank of a trainer that has several; started by rank 0.",
                             options,
                             1,
                             0,
                             0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    log_open(LOG_ERROR, argv[0]);
    return step_serve(RANKS_FD);
}
