/* cmd_manual.c - `weir manual`: manual pages and shell completion. They come from the tables that
 * parse the options: each verb is asked for its --help in another style (args_style), so a page
 * cannot know an option that the verb has not. `make install` calls this. */
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int print_options(const struct verb *v, enum args_style style) {
    char *argv[] = {(char[]){"verb"}, (char[]){"--help"}, NULL};
    args_style(style);
    return v->run(2, argv);
}

static int print_page(const struct verb *v) {
    printf(".TH WEIR\\-%s 1 \"\" \"weir %s\" \"Weir\"\n.SH NAME\nweir\\-%s \\- %s\n", v->name,
           WEIR_VERSION, v->name, v->about);
    TRY(print_options(v, ARGS_ROFF));
    printf(
        ".SH EXIT STATUS\n0, or a code of docs/exit\\-codes.md.\n.SH SEE ALSO\n\\fBweir\\fR(1)\n");
    return 0;
}

static void print_overview(void) {
    printf(".TH WEIR 1 \"\" \"weir %s\" \"Weir\"\n.SH NAME\nweir \\- reinforcement learning of "
           "language models\n.SH SYNOPSIS\n\\fBweir\\fR \\fIVERB\\fR [options]\n.SH VERBS\n",
           WEIR_VERSION);
    for (const struct verb *v = verbs; v->name; v++)
        if (v->about) printf(".TP\n\\fBweir\\-%s\\fR(1)\n%s\n", v->name, v->about);
    printf(".SH ENVIRONMENT\n.TP\n\\fBWEIR_LOG\\fR\nerror, warn, info or debug: what is said on "
           "standard error, also by the services of a run (in RUN/weir.log)\n.SH FILES\n.TP\n"
           "RUN/crash\\-SERVICE\\-PID.txt\nwhat a service said that died by a fault of its own\n");
}

static int print_completion_bash(void) {
    printf("# bash completion of weir\n_weir() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n        words=\"");
    for (const struct verb *v = verbs; v->name; v++)
        if (v->about) printf("%s ", v->name);
    printf("--help --version\"\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (const struct verb *v = verbs; v->name; v++) {
        if (!v->about) continue;
        printf("        %s) words=\"", v->name);
        TRY(print_options(v, ARGS_BASH));
        printf("\" ;;\n");
    }
    printf("        esac\n    fi\n    if [ \"$COMP_CWORD\" = 1 ] || [[ $cur == -* ]]; then\n"
           "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n    else\n"
           "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n    fi\n}\n"
           "complete -o filenames -F _weir weir\n");
    return 0;
}

static int print_completion_zsh(void) {
    printf("#compdef weir\nlocal -a verbs=(\n");
    for (const struct verb *v = verbs; v->name; v++)
        if (v->about) printf("    '%s:%s'\n", v->name, v->about);
    printf(
        ")\nif ((CURRENT == 2)); then\n    _describe verb verbs\nelse\n    local verb=$words[2]\n"
        "    shift words\n    ((CURRENT--))\n    case $verb in\n");
    for (const struct verb *v = verbs; v->name; v++) {
        if (!v->about) continue;
        printf("    %s)\n        _arguments", v->name);
        TRY(print_options(v, ARGS_ZSH));
        printf("\n        ;;\n");
    }
    printf("    esac\nfi\n");
    return 0;
}

int cmd_manual(int argc, char **argv) {
    const char *shell = NULL, *word = NULL;
    bool list = false;
    int n = 0;
    struct args_option options[] = {
        {"completion", ARGS_STR, &shell, "SHELL", "print the completion of bash or zsh", 0, 0},
        {"list", ARGS_FLAG, &list, NULL, "print the verbs that have a page", 0, 0},
    };
    struct args_verb verb = {"weir manual [VERB]",
                             "Prints the manual page of a verb, or of weir, in roff:\n"
                             "weir manual run | man -l -",
                             options,
                             2,
                             0,
                             1};
    int rc = args_parse(&verb, argc, argv, &word, &n);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (shell && strcmp(shell, "bash") == 0) return print_completion_bash();
    if (shell && strcmp(shell, "zsh") == 0) return print_completion_zsh();
    if (shell) return FAIL(ERR_CONFIG, "--completion %s: known are bash and zsh", shell);
    for (const struct verb *v = verbs; list && v->name; v++)
        if (v->about) printf("%s\n", v->name);
    if (list) return 0;
    const struct verb *v = n > 0 ? verbs_find(word) : NULL;
    if (n > 0 && (!v || !v->about))
        return FAIL(ERR_CONFIG, "\"%s\" is no verb with a page; weir manual --list", word);
    if (v) return print_page(v);
    print_overview();
    return 0;
}
