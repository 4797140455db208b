/* start_brief.c - the start text of a run, for a screen of 80 columns and 24 lines. */
#include "base/mem.h"
#include "deploy/preflight/start_report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { COLUMNS = 80, INDENT = 11, WARNING_LINES = 8 };

/* Words of text, as many a line as fit behind the label's column; a word longer than that has a
 * line of its own. Returns the lines. */
static int wrap(struct buf *out, const char *label, const char *text) {
    size_t column = INDENT;
    int lines = 1;
    buf_printf(out, "%-*s", INDENT, label);
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, " \n");
        if (column > INDENT && column + 1 + n > COLUMNS - 1) {
            buf_printf(out, "\n%*s", INDENT, "");
            column = INDENT;
            lines++;
        }
        if (column > INDENT) {
            buf_str(out, " ");
            column++;
        }
        buf_add(out, at, n);
        column += n;
        at += n + strspn(at + n, " \n");
    }
    buf_str(out, "\n");
    return lines;
}

/* Each whole or not at all: half a warning is none. */
static void add_warnings(struct buf *out, const struct recipe *r, const struct start_report_plan *p,
                         const struct buf *notes) {
    struct buf all = {0};
    int lines = 0, left_out = 0;
    start_report_warnings(&all, r, p, notes);
    for (char *at = all.data, *end; at && *at; at = end + 1) {
        struct buf one = {0};
        end = strchr(at, '\n');
        *end = '\0';
        char *colon = strstr(at, ": ");
        char label[INDENT] = "";
        if (colon && (size_t)(colon - at) < sizeof label - 1)
            memcpy(label, at, (size_t)(colon - at));
        int n = wrap(&one, label, label[0] ? colon + 2 : at);
        if (lines + n <= WARNING_LINES) {
            buf_add(out, one.data, one.len);
            lines += n;
        } else {
            left_out++;
        }
        buf_close(&one);
    }
    if (left_out > 0) buf_printf(out, "%-*s%d more: see below\n", INDENT, "warning", left_out);
    buf_close(&all);
}

static void add_staleness(struct buf *out, const struct recipe *r) {
    if (r->trainer.staleness.max == 0)
        wrap(out, "staleness", "0: synchronous and deterministic");
    else
        buf_printf(out, "%-*sat most %" PRId64 " versions (optimizer steps); late: %s\n", INDENT,
                   "staleness", r->trainer.staleness.max,
                   r->trainer.staleness.late == RECIPE_LATE_WAIT ? "wait" : "drop");
}

static void add_learning(struct buf *out, const struct recipe *r) {
    buf_printf(out, "%-*s%s, %s, %s; learning rate %g\n", INDENT, "learning",
               recipe_word(r, "trainer.algorithm.advantage"),
               recipe_word(r, "trainer.algorithm.loss"),
               recipe_word(r, "trainer.algorithm.aggregation"), r->trainer.optimizer.lr);
}

static void add_memory(struct buf *out, const struct recipe *r, const struct start_report_plan *p) {
    struct buf text = {0};
    start_report_size(&text, p->total);
    buf_printf(&text, " in all: %" PRId64 " x rollout ", r->rollout.workers);
    start_report_size(&text, p->rollout);
    buf_str(&text, ", trainer ");
    start_report_size(&text, p->trainer);
    if (r->trainer.ranks > 1) buf_printf(&text, " in %" PRId64 " ranks", r->trainer.ranks);
    buf_str(&text, ", relay ");
    start_report_size(&text, p->relay);
    wrap(out, "memory", text.data);
    buf_close(&text);
}

void start_brief(struct buf *out, const struct recipe *r, const struct shape *s,
                 const struct start_report_plan *p, const struct buf *notes, const char *run_dir) {
    int64_t B = r->trainer.batch.groups, G = r->rollout.group_size;
    buf_printf(out, "%.40s: %s, %" PRId64 " parameters, %d layers, context %d\n", r->name,
               shape_family_name(s->family), p->parameters, s->layers, s->context);
    buf_printf(out,
               "%-*s%" PRId64 " groups x %" PRId64 " = %" PRId64 " trajectories per step; %" PRId64
               " steps\n",
               INDENT, "batch", B, G, B * G, r->trainer.steps);
    buf_printf(out,
               "%-*s%" PRId64 " processes, %" PRId64 " trajectories at a time, %" PRId64
               " new tokens each\n",
               INDENT, "rollout", r->rollout.workers, r->rollout.concurrency,
               r->rollout.max_new_tokens);
    add_staleness(out, r);
    add_learning(out, r);
    add_memory(out, r, p);
    add_warnings(out, r, p, notes);
    if (!run_dir) return;
    struct buf command = {0};
    char *recipe = mem_printf("%s/recipe.yaml", run_dir);
    buf_shell(&command, program_invocation_name);
    buf_str(&command, " plan ");
    buf_shell(&command, recipe);
    wrap(out, "details", command.data);
    buf_close(&command);
    mem_free(recipe);
    char *text = mem_printf("%s: metrics.jsonl, weir.log, checkpoints; at the end hf", run_dir);
    wrap(out, "writes", text);
    mem_free(text);
}
