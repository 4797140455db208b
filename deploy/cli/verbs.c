/* verbs.c - see verbs.h. */
#include "deploy/cli/verbs.h"

#include <string.h>

const struct verb verbs[] = {
    {"bench", cmd_bench, "decode and training speed of a model on this machine"},
    {"chat", cmd_chat, "a conversation with a model"},
    {"doctor", cmd_doctor, "what this machine has, and what to fix"},
    {"eval", cmd_eval, "accuracy of a model on held-out prompts"},
    {"generate", cmd_generate, "the completion of a prompt"},
    {"metrics", cmd_metrics, "what the numbers of a run mean"},
    {"manual", cmd_manual, "manual pages and shell completion, from the options themselves"},
    {"plan", cmd_plan, "batch arithmetic and memory of a recipe, before the start"},
    {"replay", cmd_replay, "browse, export and re-execute a run from its log"},
    {"run", cmd_run, "starts a run of a recipe on this machine, or continues one"},
    {"score", cmd_score, "log-probs of given responses"},
    {"sft", cmd_sft, "supervised fine-tuning on answers"},
    {"step", cmd_step, "one optimizer step per file of trajectories"},
    {"tokenize", cmd_tokenize, "text to token ids and back, by JSON lines"},
    {"version", cmd_version, "what this binary is"},
    {"evaluator", cmd_evaluator, NULL},
    {"manager", cmd_manager, NULL},
    {"relay", cmd_relay, NULL},
    {"reward", cmd_reward, NULL},
    {"rollout", cmd_rollout, NULL},
    {"trainer", cmd_trainer, NULL},
    {"trainer-rank", cmd_trainer_rank, NULL},
    {NULL, NULL, NULL},
};

const struct verb *verbs_find(const char *name) {
    for (const struct verb *v = verbs; v->name; v++)
        if (strcmp(v->name, name) == 0) return v;
    return NULL;
}
