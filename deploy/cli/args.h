/* args.h - command-line options of the verbs: one table per verb parses, checks ranges and prints
 * --help, the manual page and the completion. Options are --name VALUE or --name=VALUE; "--" ends
 * them. */
#ifndef DEPLOY_CLI_ARGS_H
#define DEPLOY_CLI_ARGS_H

#include "base/err.h"

#include <stddef.h>

enum args_kind {
    ARGS_FLAG,  /* out: bool */
    ARGS_STR,   /* out: const char * (points into argv) */
    ARGS_INT,   /* out: int64_t */
    ARGS_COUNT, /* out: int64_t; without a number behind it: 1 */
    ARGS_NUM,   /* out: double */
    ARGS_LIST   /* out: struct args_list; may be given several times */
};

enum { ARGS_LIST_MAX = 256 };

struct args_list {
    size_t n;
    const char *at[ARGS_LIST_MAX];
};

struct args_option {
    const char *name; /* without "--" */
    enum args_kind kind;
    void *out;         /* holds the default beforehand */
    const char *value; /* its name in --help: "DIR", "N"; NULL for a flag */
    const char *meaning;
    double min, max; /* of numbers; both 0: no limit */
};

struct args_verb {
    const char *usage; /* "weir generate --model DIR --prompt TEXT [options]" */
    const char *about; /* a few lines for --help */
    const struct args_option *options;
    size_t n;
    int positional_min, positional_max;
};

enum { ARGS_HELP = 1 };

/* How --help prints the table: for people, as the body of a manual page (roff), as words of a
 * completion in bash ("--name --name"), as arguments of zsh's _arguments. */
enum args_style { ARGS_TEXT, ARGS_ROFF, ARGS_BASH, ARGS_ZSH };
void args_style(enum args_style style); /* of this process; at first ARGS_TEXT */

/* argv[0] is the verb. positional[0..*n_positional) are the words that are no options. ARGS_HELP:
 * help was printed to stdout, the verb returns 0. ERR_CONFIG names the option, its value, what is
 * allowed, and the nearest known name. */
MUST_CHECK int args_parse(const struct args_verb *verb, int argc, char **argv,
                          const char **positional, int *n_positional);
#endif
