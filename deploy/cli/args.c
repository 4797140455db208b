/* args.c - see args.h. A table for each verb rather than getopt: the help is printed from what is
 * parsed, every error names the option, the value and what is allowed, and a mistyped name gets the
 * nearest one. Options may stand anywhere; "--" ends them, for a prompt that begins with dashes. */
#include "deploy/cli/args.h"

#include "base/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum args_style help_style = ARGS_TEXT;

void args_style(enum args_style style) {
    help_style = style;
}

static void print_help_text(const struct args_verb *verb) {
    printf("usage: %s\n\n%s\n", verb->usage, verb->about);
    for (size_t i = 0; i < verb->n; i++) {
        const struct args_option *o = &verb->options[i];
        char left[64];
        snprintf(left, sizeof left, "--%s %s", o->name, o->value ? o->value : "");
        printf("%s  %-24s %s\n", i == 0 ? "\n" : "", left, o->meaning);
    }
}

/* Text that roff shows as it stands: a line may not begin with a control character. */
static void print_roff_text(const char *s) {
    bool first = true;
    for (; *s; s++) {
        if (first && (*s == '.' || *s == '\'')) printf("\\&");
        first = *s == '\n';
        if (*s == '\\')
            printf("\\e");
        else if (*s == '-')
            printf("\\-");
        else
            putchar(*s);
    }
}

/* Lines of the text are the author's: a list of verbs stays one. */
static void print_help_roff(const struct args_verb *verb) {
    printf(".SH SYNOPSIS\n.nf\n");
    print_roff_text(verb->usage);
    printf("\n.fi\n.SH DESCRIPTION\n.nf\n");
    print_roff_text(verb->about);
    printf("\n.fi\n.SH OPTIONS\n");
    for (size_t i = 0; i < verb->n; i++) {
        const struct args_option *o = &verb->options[i];
        printf(".TP\n\\fB\\-\\-");
        print_roff_text(o->name);
        printf("\\fR");
        if (o->value) printf(" \\fI%s\\fR", o->value);
        putchar('\n');
        print_roff_text(o->meaning);
        putchar('\n');
        if (o->min != 0 || o->max != 0) printf("Allowed is %.15g to %.15g.\n", o->min, o->max);
    }
}

static void print_help_bash(const struct args_verb *verb) {
    for (size_t i = 0; i < verb->n; i++)
        printf("--%s ", verb->options[i].name);
    printf("--help");
}

/* 'name[meaning]:VALUE:action', in single quotes. */
static void print_help_zsh(const struct args_verb *verb) {
    for (size_t i = 0; i < verb->n; i++) {
        const struct args_option *o = &verb->options[i];
        printf(" \\\n            '%s--%s[", o->kind == ARGS_LIST ? "*" : "", o->name);
        for (const char *s = o->meaning; *s; s++)
            printf("%s%c", strchr("[]:\\", *s) ? "\\" : "", *s == '\'' ? '"' : *s);
        printf("]%s%s%s'", o->value ? ":" : "", o->value ? o->value : "",
               o->value ? ":_files" : "");
    }
    printf(" \\\n            '--help[says more]' '*:file:_files'");
}

static void print_help(const struct args_verb *verb) {
    switch (help_style) {
    case ARGS_TEXT: print_help_text(verb); break;
    case ARGS_ROFF: print_help_roff(verb); break;
    case ARGS_BASH: print_help_bash(verb); break;
    case ARGS_ZSH: print_help_zsh(verb); break;
    }
}

static int set_number(const struct args_option *o, const char *text, double v, bool whole) {
    if ((o->min != 0 || o->max != 0) && (v < o->min || v > o->max))
        return FAIL(ERR_CONFIG, "--%s %s: allowed is %.15g..%.15g", o->name, text, o->min, o->max);
    if (whole)
        *(int64_t *)o->out = (int64_t)v;
    else
        *(double *)o->out = v;
    return 0;
}

static int set_value(const struct args_option *o, const char *text) {
    char *end;
    errno = 0;
    switch (o->kind) {
    case ARGS_FLAG: *(bool *)o->out = true; return 0;
    case ARGS_STR: *(const char **)o->out = text; return 0;
    case ARGS_COUNT:
    case ARGS_INT: {
        long long v = strtoll(text, &end, 0);
        if (end == text || *end || errno || v > 1ll << 53 || v < -(1ll << 53))
            return FAIL(ERR_CONFIG, "--%s %s: must be a whole number", o->name, text);
        return set_number(o, text, (double)v, true);
    }
    case ARGS_NUM: {
        double v = strtod(text, &end);
        if (end == text || *end || errno || v != v)
            return FAIL(ERR_CONFIG, "--%s %s: must be a number", o->name, text);
        return set_number(o, text, v, false);
    }
    case ARGS_LIST: {
        struct args_list *list = o->out;
        if (list->n == ARGS_LIST_MAX)
            return FAIL(ERR_CONFIG, "--%s is given more than %d times", o->name, ARGS_LIST_MAX);
        list->at[list->n++] = text;
        return 0;
    }
    }
    return FAIL(ERR_CONFIG, "--%s: unknown kind of option", o->name);
}

static int unknown_option(const struct args_verb *verb, const char *word) {
    const char *known[64], *bare = word + strspn(word, "-");
    size_t n = verb->n < 64 ? verb->n : 64;
    for (size_t i = 0; i < n; i++)
        known[i] = verb->options[i].name;
    if (n == 0) return FAIL(ERR_CONFIG, "unknown option %s; usage: %s", word, verb->usage);
    return FAIL(ERR_CONFIG, "unknown option %s; the nearest known one is --%s", word,
                nearest_word(bare, known, n));
}

/* The option that argv[*i] names; *i moves to its value. */
static int read_option(const struct args_verb *verb, int argc, char **argv, int *i) {
    const char *word = argv[*i], *eq = strchr(word, '=');
    size_t len = eq ? (size_t)(eq - word) - 2 : strlen(word) - 2;
    for (size_t k = 0; k < verb->n; k++) {
        const struct args_option *o = &verb->options[k];
        if (strlen(o->name) != len || strncmp(o->name, word + 2, len) != 0) continue;
        if (o->kind == ARGS_FLAG)
            return eq ? FAIL(ERR_CONFIG, "--%s takes no value", o->name) : set_value(o, NULL);
        if (eq) return set_value(o, eq + 1);
        if (o->kind == ARGS_COUNT && (*i + 1 >= argc || !isdigit((unsigned char)argv[*i + 1][0])))
            return set_value(o, "1");
        if (*i + 1 >= argc) return FAIL(ERR_CONFIG, "--%s needs a value: %s", o->name, o->value);
        return set_value(o, argv[++*i]);
    }
    return unknown_option(verb, word);
}

/* KEY=VALUE alone is how other systems take settings. */
static int unexpected_word(const struct args_verb *verb, const char *word) {
    for (size_t i = 0; i < verb->n && strchr(word, '='); i++)
        if (strcmp(verb->options[i].name, "set") == 0)
            return FAIL(ERR_CONFIG, "unexpected word \"%s\"; a setting goes as --set %s", word,
                        word);
    return FAIL(ERR_CONFIG, "unexpected word \"%s\"; usage: %s", word, verb->usage);
}

int args_parse(const struct args_verb *verb, int argc, char **argv, const char **positional,
               int *n_positional) {
    int n = 0;
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            print_help(verb);
            return ARGS_HELP;
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            TRY(read_option(verb, argc, argv, &i));
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            return unknown_option(verb, argv[i]);
        } else {
            if (n >= verb->positional_max) return unexpected_word(verb, argv[i]);
            positional[n++] = argv[i];
        }
    }
    if (n < verb->positional_min) return FAIL(ERR_CONFIG, "usage: %s", verb->usage);
    if (n_positional) *n_positional = n;
    return 0;
}
