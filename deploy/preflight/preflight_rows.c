/* preflight_rows.c - see preflight_rows.h. All rows are looked at, also by a run: what the ninth
 * epoch's first batch would stumble over is a mistake of now. It stays cheap because prompts are
 * encoded only where their bytes alone do not settle it, equal references are read once, and large
 * sets are shared among threads, each with a stretch of rows: what is said does not depend on them.
 * Rows of a generated task are alike: the first ones speak for all references. */
#include "deploy/preflight/preflight_rows.h"

#include "actor/text/dataset.h"
#include "base/hash.h"
#include "base/mem.h"
#include "rollout/setup/setup_policy.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum kind {
    TOO_LONG,
    NO_PROMPT,
    NOT_RENDERED, /* roles, their order, special: error */
    NO_REFERENCE,
    BAD_REFERENCE,
    SPECIAL,
    BOS_TWICE,
    ASSISTANT_LAST,
    KINDS,
    REFUSED = SPECIAL /* the kinds before it cannot be used */
};

enum {
    SHOWN = 3,
    TEXT = 120,
    GENERATED = 256,
    SEEN = 1 << 14,
    ROWS_A_THREAD = 4096, /* fewer are not worth one */
    THREADS_MAX = 16
};

struct finding {
    uint64_t n;
    int64_t row[SHOWN]; /* line, or the number of a generated row */
    char text[SHOWN][TEXT];
};

struct look {
    const struct preflight_rows *q;
    struct dataset *data;
    struct finding found[KINDS];
    uint64_t unusable, longest;
    uint64_t *seen;         /* hashes of references that can be read */
    uint64_t first, behind; /* rows to look at */
};

static void note(struct look *l, enum kind k, uint64_t row, const char *text) {
    struct finding *f = &l->found[k];
    if (f->n < SHOWN) {
        int64_t line = dataset_line(l->data, row);
        f->row[f->n] = line ? line : (int64_t)row;
        snprintf(f->text[f->n], TEXT, "%s", text);
    }
    f->n++;
}

/* Whether the reward can read the row's reference. */
static bool check_reference(struct look *l, uint64_t row) {
    const char *answer = dataset_answer(l->data, row);
    uint64_t hash = hash64(answer, strlen(answer), 1) | 1, *seen = &l->seen[hash % SEEN];
    if (!l->q->verify || *seen == hash) return true;
    if (!dataset_line(l->data, row) && row >= GENERATED) return true;
    if (verify_check(l->q->verify, answer) == 0) {
        *seen = hash;
        return true;
    }
    note(l, answer[strspn(answer, " \t\r\n")] ? BAD_REFERENCE : NO_REFERENCE, row, err_text());
    return false;
}

static void special_text(char *out, const struct policy *p, int32_t id) {
    char *text;
    size_t n;
    *out = '\0';
    if (tokenizer_decode(p->tokenizer, &id, 1, false, &text, &n) < 0) return;
    snprintf(out, TEXT, "%s", text);
    mem_free(text);
}

/* err_text() without the file and line in front, which the finding names itself. */
static const char *reason_of(const struct look *l) {
    const char *text = err_text(), *path = l->q->rows->path;
    size_t n = strlen(path);
    if (strncmp(text, path, n) != 0) return text;
    const char *colon = strstr(text + n, ": ");
    return colon ? colon + 2 : text;
}

/* One row may have several findings; it is unusable once, whichever of them makes it so. */
static void look_at(struct look *l, uint64_t row) {
    const struct preflight_rows *q = l->q;
    struct dataset_look a;
    char text[TEXT];
    size_t enough = q->longest > 0 ? (size_t)q->longest : 0;
    bool usable = check_reference(l, row);
    int rc = dataset_look(&a, l->data, row, q->policy->chat, q->policy->tokenizer, enough);
    if (rc < 0) {
        note(l, NOT_RENDERED, row, reason_of(l));
        l->unusable++;
        return;
    }
    if (a.tokens > enough) {
        snprintf(text, sizeof text, "%zu", a.tokens);
        note(l, TOO_LONG, row, text);
        if (a.tokens > l->longest) l->longest = a.tokens;
    }
    if (a.empty) note(l, NO_PROMPT, row, "");
    if (a.tokens > enough || a.empty) usable = false;
    if (a.special >= 0 && q->rows->special == RECIPE_SPECIAL_TOKEN) {
        special_text(text, q->policy, a.special);
        note(l, SPECIAL, row, text);
    }
    if (a.bos_twice) note(l, BOS_TWICE, row, "");
    if (a.ends_as_assistant) note(l, ASSISTANT_LAST, row, "");
    l->unusable += !usable;
}

/* --- what is said ---------------------------------------------------------------------------- */

static void list_rows(struct buf *out, const struct look *l, const struct finding *f, bool texts) {
    uint64_t n = f->n < SHOWN ? f->n : SHOWN;
    bool lines = dataset_line(l->data, 0) > 0;
    buf_printf(out, "%s%s ", lines ? "line" : "row", n > 1 ? "s" : "");
    for (uint64_t i = 0; i < n; i++) {
        buf_printf(out, "%s%" PRId64, i ? ", " : "", f->row[i]);
        if (texts && *f->text[i]) buf_printf(out, " (%s)", f->text[i]);
    }
    if (f->n > n) buf_str(out, ", ...");
}

static void say_count(struct buf *out, const struct look *l, const struct finding *f) {
    buf_printf(out, "%" PRIu64 " of %" PRIu64 " row%s ", f->n, dataset_rows(l->data),
               dataset_rows(l->data) == 1 ? "" : "s");
}

/* "1 of 49 rows is longer than rollout.max_prompt_tokens 64: line 41 (90 tokens)" */
static void say_refused(struct buf *out, const struct look *l, enum kind k) {
    const struct finding *f = &l->found[k];
    bool one = f->n == 1;
    say_count(out, l, f);
    switch (k) {
    case TOO_LONG:
        buf_printf(out, "%s longer than %s %" PRId64 ": ", one ? "is" : "are", l->q->limit,
                   l->q->longest);
        list_rows(out, l, f, false);
        buf_printf(out, one ? " has %s tokens" : ", the first has %s tokens", f->text[0]);
        if (!one) buf_printf(out, ", the longest %" PRIu64, l->longest);
        return;
    case NO_PROMPT: buf_printf(out, "%s no text: ", one ? "has" : "have"); break;
    case NOT_RENDERED:
        buf_printf(
            out, "cannot be made a prompt in the chat format %s: ", chat_name(l->q->policy->chat));
        break;
    case NO_REFERENCE:
        buf_printf(out, "%s no reference answer, which the reward needs: ", one ? "has" : "have");
        break;
    case BAD_REFERENCE:
        buf_printf(out,
                   "%s a reference answer that the reward cannot read: ", one ? "has" : "have");
        break;
    default: break;
    }
    list_rows(out, l, f, k == NOT_RENDERED || k == BAD_REFERENCE);
}

static void say_remedy(struct buf *out, const struct look *l) {
    const struct finding *f = &l->found[TOO_LONG];
    if (f->n > 0 && (int64_t)l->longest <= l->q->room)
        buf_printf(out, "; %s: %" PRIu64 " takes all of them", l->q->limit, l->longest);
    else if (f->n > 0 && l->q->room > l->q->longest)
        buf_printf(out, "; the model's context leaves room for %s: %" PRId64, l->q->limit,
                   l->q->room);
    buf_printf(out, "; mend them, or leave them out: %s.bad_rows: skip", l->q->section);
}

static void say_warning(struct buf *out, const struct look *l, enum kind k) {
    const struct finding *f = &l->found[k];
    bool one = f->n == 1;
    if (f->n == 0) return;
    buf_printf(out, "warning: %s: ", l->q->section);
    say_count(out, l, f);
    switch (k) {
    case SPECIAL:
        buf_printf(out,
                   "%s special tokens in the text, which become those tokens (%s.special: text or "
                   "error): ",
                   one ? "spells" : "spell", l->q->section);
        break;
    case BOS_TWICE:
        buf_printf(out, "%s with the token that begins every prompt, so it is there twice: ",
                   one ? "begins" : "begin");
        break;
    default:
        buf_printf(out, "%s with a message of the assistant: the answer is in the prompt: ",
                   one ? "ends" : "end");
    }
    list_rows(out, l, f, k == SPECIAL);
    buf_str(out, "\n");
}

static int refuse_row(const struct look *l, const struct buf *what) {
    bool setting = l->found[TOO_LONG].n == l->unusable;
    return FAIL(setting ? ERR_CONFIG : ERR_CORRUPT, "%s (%s): %s", l->q->section, l->q->rows->path,
                what->data);
}

/* Unusable rows are an error, or a warning where the recipe skips them and enough are left for a
 * batch; what a run can live with is a warning of its own. */
static int judge_bad_row(struct buf *notes, const struct look *l) {
    struct buf what = {0};
    uint64_t rows = dataset_rows(l->data), usable = rows - l->unusable;
    int rc = 0;
    for (enum kind k = 0; k < REFUSED; k++) {
        if (l->found[k].n == 0) continue;
        if (what.len) buf_str(&what, "; ");
        say_refused(&what, l, k);
    }
    if (l->unusable > 0 && l->q->rows->bad_rows == RECIPE_BAD_ROWS_ERROR) {
        say_remedy(&what, l);
        rc = refuse_row(l, &what);
    } else if (usable == 0) {
        rc = refuse_row(l, &what);
    } else if ((int64_t)usable < l->q->at_least) {
        rc = FAIL(ERR_CONFIG,
                  "%s (%s): %" PRIu64 " row%s%s, trainer.batch.groups is %" PRId64
                  ": a batch takes a row once, so it needs at least as many rows as groups",
                  l->q->section, l->q->rows->path, usable, usable == 1 ? "" : "s",
                  l->unusable ? " that can be used" : "", l->q->at_least);
    } else if (l->unusable > 0) {
        buf_printf(notes, "warning: %s: left out when drawn (bad_rows: skip): %s\n", l->q->section,
                   what.data);
    }
    for (enum kind k = REFUSED; rc == 0 && k < KINDS; k++)
        say_warning(notes, l, k);
    buf_close(&what);
    return rc;
}

static void *look_at_rows(void *arg) {
    struct look *l = arg;
    l->seen = mem_array(SEEN, sizeof *l->seen);
    for (uint64_t i = l->first; i < l->behind; i++)
        look_at(l, i);
    mem_free(l->seen);
    return NULL;
}

/* Findings of later rows behind those of earlier ones. */
static void merge(struct look *into, const struct look *from) {
    for (int k = 0; k < KINDS; k++) {
        struct finding *a = &into->found[k];
        const struct finding *b = &from->found[k];
        for (uint64_t i = 0; i < b->n && i < SHOWN && a->n + i < SHOWN; i++) {
            a->row[a->n + i] = b->row[i];
            memcpy(a->text[a->n + i], b->text[i], TEXT);
        }
        a->n += b->n;
    }
    into->unusable += from->unusable;
    if (from->longest > into->longest) into->longest = from->longest;
}

/* A thread that cannot be started does its rows here. */
static void look_at_all(struct look *all) {
    uint64_t rows = dataset_rows(all->data), n = rows / ROWS_A_THREAD;
    uint64_t cores = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (n > cores) n = cores;
    if (n > THREADS_MAX) n = THREADS_MAX;
    if (n == 0) n = 1;
    struct look *l = mem_array(n, sizeof *l);
    pthread_t *thread = mem_array(n, sizeof *thread);
    bool *started = mem_array(n, sizeof *started);
    for (uint64_t t = 0; t < n; t++) {
        l[t] = (struct look){.q = all->q, .data = all->data};
        l[t].first = rows * t / n;
        l[t].behind = rows * (t + 1) / n;
        started[t] = t + 1 < n && pthread_create(&thread[t], NULL, look_at_rows, &l[t]) == 0;
        if (!started[t]) look_at_rows(&l[t]);
    }
    for (uint64_t t = 0; t < n; t++) {
        if (started[t]) pthread_join(thread[t], NULL);
        merge(all, &l[t]);
    }
    mem_free(l);
    mem_free(thread);
    mem_free(started);
}

int preflight_rows(struct buf *notes, struct preflight_rows *q) {
    struct look l = {.q = q};
    TRY(setup_dataset(&l.data, q->rows, q->section, q->seed));
    q->n = dataset_rows(l.data);
    look_at_all(&l);
    int rc = judge_bad_row(notes, &l);
    dataset_close(&l.data);
    return rc;
}
