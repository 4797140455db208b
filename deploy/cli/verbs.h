/* verbs.h - the verbs of the command line. Each gets argv from its own name on and returns 0 or a
 * negative ERR_*; deploy/cli/main.c prints the one error line and turns the code into the exit
 * status.
 */
#ifndef DEPLOY_CLI_VERBS_H
#define DEPLOY_CLI_VERBS_H

#define WEIR_VERSION "0.1.0"

typedef int verb_fn(int argc, char **argv);

verb_fn cmd_bench;
verb_fn cmd_chat;
verb_fn cmd_doctor;
verb_fn cmd_eval;
verb_fn cmd_generate;
verb_fn cmd_manual;
verb_fn cmd_metrics;
verb_fn cmd_plan;
verb_fn cmd_replay;
verb_fn cmd_run;
verb_fn cmd_score;
verb_fn cmd_sft;
verb_fn cmd_step;
verb_fn cmd_tokenize;
verb_fn cmd_version;

/* The services of a run, started by the supervisor. */
verb_fn cmd_evaluator;
verb_fn cmd_manager;
verb_fn cmd_relay;
verb_fn cmd_reward;
verb_fn cmd_rollout;
verb_fn cmd_trainer;
verb_fn cmd_trainer_rank;

struct verb {
    const char *name;
    verb_fn *run;
    const char *about; /* NULL: a service, not listed */
};
extern const struct verb verbs[];                /* a row without a name ends it */
const struct verb *verbs_find(const char *name); /* NULL: there is none */

#endif
