/* cmd_metrics.c - `weir metrics`: the table of metrics, for people, programs and the page in docs.
 */
#include "base/err.h"
#include "base/nearest.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "proto/metrics/metrics.h"

#include <stdio.h>
#include <string.h>

static void print_row(enum metric id) {
    const struct metrics_row *r = metrics_row(id);
    printf("%s%s%s%s\n    %s\n", r->name, *r->unit ? " [" : "", r->unit, *r->unit ? "]" : "",
           r->meaning);
}

static int unknown(const char *word) {
    const char *names[METRICS_N];
    for (size_t i = 0; i < METRICS_N; i++)
        names[i] = metrics_name((enum metric)i);
    return FAIL(ERR_NOTFOUND, "there is no metric %s; the nearest one is %s", word,
                nearest_word(word, names, METRICS_N));
}

/* A part of a name, such as "queue" or "reward/", stands for all that have it. */
static int print_named(const char *word) {
    bool any = false;
    enum metric exact = metrics_find(word);
    if (exact != METRICS_N) {
        print_row(exact);
        return 0;
    }
    for (size_t i = 0; i < METRICS_N; i++) {
        if (!strstr(metrics_name((enum metric)i), word)) continue;
        print_row((enum metric)i);
        any = true;
    }
    return any ? 0 : unknown(word);
}

int cmd_metrics(int argc, char **argv) {
    bool json = false, document = false;
    const char *words[METRICS_N];
    int n_words = 0;
    struct buf text = {0};
    struct args_option options[] = {
        {"json", ARGS_FLAG, &json, NULL, "the table, one JSON object per metric", 0, 0},
        {"document", ARGS_FLAG, &document, NULL, "prints docs/metrics.md", 0, 0},
    };
    struct args_verb verb = {"weir metrics [NAME]... [--json | --document]",
                             "What a number of metrics.jsonl or of the status means: its unit and "
                             "what it counts. A part of a\n"
                             "name stands for all that have it; without a name all are listed.",
                             options,
                             sizeof options / sizeof options[0],
                             0,
                             METRICS_N};
    int rc = args_parse(&verb, argc, argv, words, &n_words);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (json) metrics_list(&text);
    if (document) metrics_document(&text);
    if (text.len > 0) printf("%s", text.data);
    buf_close(&text);
    if (json || document) return 0;
    for (size_t i = 0; n_words == 0 && i < METRICS_N; i++)
        print_row((enum metric)i);
    for (int i = 0; i < n_words; i++)
        TRY(print_named(words[i]));
    return 0;
}
