/* main.c - `weir VERB ...`: finds the verb, runs it, prints the one line of an error. The only file
 * that reads the environment: WEIR_LOG (error, warn, info, debug). */
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/nearest.h"
#include "deploy/cli/verbs.h"
#include "deploy/supervise/process_end.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct verb {
    const char *name;
    verb_fn *run;
    const char *about; /* NULL: a service, not listed */
} verbs[] = {
    {"bench", cmd_bench, "decode and training speed of a model on this machine"},
    {"chat", cmd_chat, "a conversation with a model"},
    {"doctor", cmd_doctor, "what this machine has, and what to fix"},
    {"eval", cmd_eval, "accuracy of a model on held-out prompts"},
    {"generate", cmd_generate, "the completion of a prompt"},
    {"metrics", cmd_metrics, "what the numbers of a run mean"},
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
};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void usage(FILE *out) {
    fprintf(out, "usage: weir VERB [options]; `weir VERB --help` says more\n\n");
    for (size_t i = 0; i < N_VERBS; i++)
        if (verbs[i].about) fprintf(out, "  %-10s %s\n", verbs[i].name, verbs[i].about);
}

/* The whole list besides the nearest: a peer's word ("train", "serve") is near nothing. */
static int unknown_verb(const char *word) {
    const char *names[N_VERBS];
    size_t n = 0;
    struct buf known = {0};
    for (size_t i = 0; i < N_VERBS; i++) {
        if (!verbs[i].about) continue;
        buf_printf(&known, "%s%s", n ? ", " : "", verbs[i].name);
        names[n++] = verbs[i].name;
    }
    int rc = FAIL(ERR_CONFIG, "unknown verb \"%s\"; the nearest is %s; known are: %s", word,
                  nearest_word(word, names, n), known.data);
    buf_close(&known);
    return rc;
}

/* What was printed and did not arrive is a failure of its own, unless there is another. */
static int flush_stdout(int rc) {
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (rc < 0 || !lost) return rc;
    return FAIL(ERR_IO, "standard output: %s", errno ? strerror(errno) : "not all was written");
}

int main(int argc, char **argv) {
    const char *level = getenv("WEIR_LOG");
    if (argc < 2) {
        usage(stderr);
        return err_exit_code(ERR_CONFIG);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    const struct verb *verb = NULL;
    for (size_t i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0) verb = &verbs[i];
    bool service = verb && !verb->about;
    int parsed = level ? log_level_from_name(level) : -1;
    log_open(parsed >= 0 ? (enum log_level)parsed : service ? LOG_INFO : LOG_WARN, "weir");
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error with its name, not a death */
    int rc = verb ? verb->run(argc - 1, argv + 1) : unknown_verb(name);
    rc = flush_stdout(rc);
    if (service && rc == ERR_STOPPED)
        LOG(INFO, DEPLOY, "%s", err_text());
    else if (rc < 0 && err_text()[0])
        fprintf(stderr, "weir%s%s: %s\n", verb ? " " : "", verb ? verb->name : "", err_text());
    log_close();
    return process_end_code(rc, service);
}
