/* choice.c - a letter from A to J. The places where an answer may stand are tried from the most
 * deliberate to the least: the last box, the line behind ####, a statement ("the answer is"), and
 * at last the last sentence that chooses a letter.
 *
 * A letter is one that stands by itself, in capitals or in brackets. Among words it counts only
 * where words of choosing, or nothing, stand before it: "vitamin D" names no choice, "A dog" is
 * English. A letter that is denied ("B, not A", "A is wrong") is not chosen, and several that are
 * joined ("both A and B") are no choice. */
#include "reward/verify/verify_type.h"

#include "base/mem.h"
#include "base/textfold.h"
#include "reward/verify/answer.h"
#include "reward/verify/statement.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { SHORT_BYTES = 4 }; /* a response that can hold nothing but the letter: "(b)." */

enum found { FOUND_NONE = 0, FOUND_SEVERAL = 1 }; /* or the letter itself */

static bool is_choice_letter(char c, bool any_case) {
    return (c >= 'A' && c <= 'J') || (any_case && c >= 'a' && c <= 'j');
}

/* ---- in a box, behind a mark, in a reference ---- */

/* ASCII only: in scripts without spaces a letter has no space beside it. */
static bool in_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* Whether the character at s, whose neighbour on the far side is beyond, is part of a word: an
 * apostrophe is between letters ("I'm"), else it is a quotation mark. */
static bool joins(char c, char beyond) {
    return in_word(c) || (c == '\'' && in_word(beyond));
}

/* Whether s[i] stands by itself in s[0..n). */
static bool stands_alone(const char *s, size_t n, size_t i) {
    return (i == 0 || !joins(s[i - 1], i > 1 ? s[i - 2] : 0)) &&
           (i + 1 >= n || !joins(s[i + 1], i + 2 < n ? s[i + 2] : 0));
}

/* A word of a sentence: "A dog", "I think". A bracket, full stop or colon behind it says otherwise.
 */
static bool is_english(const char *s, size_t n, size_t i) {
    return (s[i] == 'A' || s[i] == 'I') && i + 2 < n && s[i + 1] == ' ' &&
           islower((unsigned char)s[i + 2]);
}

/* The only letter of an announced answer, \text{} and the like aside: "(B)", "B. because", "**b**".
 */
static int only_letter(struct formula_span a) {
    int found = FOUND_NONE;
    a = formula_strip(a);
    for (size_t i = 0; i < a.n; i++) {
        if (a.s[i] == '\\') { /* a command's name */
            while (i + 1 < a.n && isalpha((unsigned char)a.s[i + 1]))
                i++;
            continue;
        }
        bool first = found == FOUND_NONE;
        bool lower_ok = a.n <= 2 || (i > 0 && a.s[i - 1] == '(') ||
                        (i > 0 && a.s[i - 1] == '{' && i + 1 < a.n && a.s[i + 1] == '}');
        if (!is_choice_letter(a.s[i], lower_ok) || !stands_alone(a.s, a.n, i)) continue;
        if (!first && is_english(a.s, a.n, i)) continue;
        int letter = toupper((unsigned char)a.s[i]);
        if (!first && letter != found) return FOUND_SEVERAL;
        found = letter;
    }
    return found;
}

/* Whether the line behind a mark is a heading: "#### A note", "#### Step B". */
static bool is_heading_line(const char *s, size_t n) {
    static const char *const leading[] = {"answer", "final",   "the",    "option",
                                          "choice", "correct", "letter", "text"};
    size_t i = 0, m = 0;
    while (i < n && !isalpha((unsigned char)s[i]))
        i++;
    while (i + m < n && isalpha((unsigned char)s[i + m]))
        m++;
    if (m <= 1) return is_english(s, n, i);
    for (size_t k = 0; k < sizeof leading / sizeof leading[0]; k++)
        if (strlen(leading[k]) == m && strncasecmp(s + i, leading[k], m) == 0) return false;
    return s[i - (i > 0)] != '\\'; /* \textbf{B} */
}

/* The letter of the last line behind #### that holds one and is no heading. */
static int marked_letter(const char *text) {
    int found = FOUND_NONE;
    for (const char *s = answer_end(text); (s = strstr(s, "####")) != NULL;) {
        enum { LINE_BYTES = 512 }; /* a longer line is read as far as that */
        s += strspn(s, "#");
        size_t n = strnlen(s, LINE_BYTES);
        const char *end = memchr(s, '\n', n);
        if (end) n = (size_t)(end - s);
        int f = is_heading_line(s, n) ? FOUND_NONE : only_letter((struct formula_span){s, n});
        if (f != FOUND_NONE) found = f;
    }
    return found;
}

/* ---- among words ---- */

/* The letter that the token is, 0 if it is none. */
static int letter_of(const struct prose *p, size_t t) {
    const struct prose_token *w = &p->token[t];
    bool bracketed = t > 0 && prose_is_punct(w - 1, "([") && prose_is_punct(w + 1, ")]");
    if (w->kind == PROSE_FORMULA) {
        for (size_t i = 0; i < w->n; i++)
            if (isdigit((unsigned char)w->s[i]) || formula_is_in(w->s[i], "=<>+^,")) return 0;
        int only = only_letter((struct formula_span){w->s, w->n});
        return only == FOUND_SEVERAL ? 0 : only;
    }
    if (w->kind != PROSE_WORD || w->n != 1 || !is_choice_letter(*w->s, bracketed)) return 0;
    bool before =
        t > 0 && w->s == w[-1].s + w[-1].n && joins(w->s[-1], w[-1].n > 1 || t > 1 ? w->s[-2] : 0);
    bool touched = before || joins(w->s[1], w->s[1] ? w->s[2] : 0);
    return touched ? 0 : toupper((unsigned char)*w->s);
}

/* "A dog", "I think": what follows is no word that follows a letter. */
static bool begins_sentence(const struct prose *p, size_t t) {
    static const char *const following[] = {"is",   "are",  "was", "because", "since", "as",
                                            "and",  "or",   "but", "not",     "for",   "would",
                                            "must", "with", "too", "here",    "seems", NULL};
    const struct prose_token *w = &p->token[t];
    if (w->kind != PROSE_WORD || (*w->s != 'A' && *w->s != 'I')) return false;
    if (w[1].kind != PROSE_WORD || !islower((unsigned char)*w[1].s)) return false;
    return !prose_is_one_of(w + 1, following) || (*w->s == 'I' && prose_is(w + 1, "would"));
}

/* "A is wrong", "C too is not possible" */
static bool is_refuted(const struct prose *p, size_t t) {
    static const char *const verbs[] = {"is", "are", "was", "would", "be", "can", "cannot", NULL};
    static const char *const words[] = {"wrong", "false",      "incorrect",  "not",   "out",
                                        "never", "impossible", "invalid",    "isn't", "cannot",
                                        "can't", "isnt",       "eliminated", NULL};
    const struct prose_token *w = &p->token[t + 1];
    if (prose_is_punct(w, ")]")) w++;
    if (w->kind == PROSE_WORD && (memmem(w->s, w->n, "\xe4\xb8\x8d", 3) ||
                                  memmem(w->s, w->n, "\xe9\x94\x99", 3))) /* no, wrong */
        return letter_of(p, (size_t)(w + 1 - p->token)) == 0; /* else it is the next one's */
    while (prose_is_one_of(w, verbs) && !prose_is_one_of(w, words))
        w++;
    return prose_is_one_of(w, words) && !prose_is_punct(w - 1, ",");
}

/* Whether the letter at t is chosen and not only part of a name or sentence. */
static bool is_chosen(const struct prose *p, size_t t) {
    static const char *const leading[] = {
        "answer", "option", "options", "choice",    "choose",      "chose",      "choosing",
        "pick",   "picked", "picking", "select",    "selected",    "selecting",  "selection",
        "is",     "be",     "are",     "was",       "with",        "letter",     "say",
        "it's",   "its",    "thus",    "therefore", "hence",       "so",         "and",
        "or",     "but",    "both",    "either",    "correct",     "then",       "to",
        "prefer", "take",   "go",      "statement", "alternative", "definitely", "probably",
        "only",   "just",   "clearly", "namely",    "equals",      "es",         "ist",
        "est",    "maybe",  NULL};
    const struct prose_token *w = &p->token[t];
    if (statement_denied(p, t) || is_refuted(p, t)) return false;
    if (t > 0 && (prose_is(w - 1, "the") || prose_is(w - 1, "a"))) return false;
    bool bracketed = prose_is_punct(w + 1, ")]");
    if (w->strong || bracketed || w->kind == PROSE_FORMULA) return true;
    if (begins_sentence(p, t)) return false;
    if (t == 0 || w[-1].kind != PROSE_WORD) return true;
    return (unsigned char)*w[-1].s >= 0x80 || prose_is_one_of(w - 1, leading);
}

/* The letter at t, FOUND_SEVERAL if another one is joined to it. *end: behind all of them. */
static int joined_letters(const struct prose *p, size_t t, size_t *end) {
    int first = letter_of(p, t), found = first;
    for (;;) {
        while (prose_is_punct(&p->token[t + 1], ")]"))
            t++;
        size_t i = t + 1;
        if (prose_is_punct(&p->token[i], ",/&+")) i++;
        if (prose_is(&p->token[i], "and") || prose_is(&p->token[i], "or")) i++;
        if (prose_is_punct(&p->token[i], "([")) i++;
        *end = t + 1;
        if (i == t + 1 || i >= p->n) return found;
        int next = letter_of(p, i);
        if (next == 0 || !is_chosen(p, i)) return found;
        if (next != first) found = FOUND_SEVERAL;
        t = i;
    }
}

/* What the tokens [from, to) choose: the first letter, or the last. */
static int chosen(const struct prose *p, size_t from, size_t to, bool last) {
    int found = FOUND_NONE;
    for (size_t t = from, end = t + 1; t < to; t = end) {
        end = t + 1;
        bool reason = prose_is(&p->token[t], "because") || prose_is(&p->token[t], "since");
        if (reason && found != FOUND_NONE) return found;
        if (letter_of(p, t) == 0 || !is_chosen(p, t)) continue;
        found = joined_letters(p, t, &end);
        if (!last) return found;
    }
    return found;
}

static bool ends_choice_sentence(const struct prose *p, size_t t) {
    const struct prose_token *w = &p->token[t];
    if (w->kind == PROSE_LINE) return true;
    bool label = t > 0 && letter_of(p, t - 1) != 0 && w->punct == '.'; /* "B. Paris" */
    return prose_is_punct(w, ".?!") && !label;
}

static int stated_letter(const struct prose *p) {
    size_t t = statement_begin(p), to = t;
    if (t >= p->n) return FOUND_NONE;
    const struct prose_token *w = &p->token[t];
    if (w->kind == PROSE_WORD && w->n == 1 && is_choice_letter(*w->s, true) &&
        w[1].kind != PROSE_WORD)
        return toupper((unsigned char)*w->s); /* "answer: b" */
    while (to < p->n && !ends_choice_sentence(p, to))
        to++;
    return chosen(p, t, to, false);
}

/* The last sentence that chooses; questions do not. */
static int last_letter(const struct prose *p) {
    for (size_t to = p->n; to > 0;) {
        size_t from = to;
        while (from > 0 && !ends_choice_sentence(p, from - 1))
            from--;
        int found = prose_is_punct(&p->token[to], "?") ? FOUND_NONE : chosen(p, from, to, true);
        if (found != FOUND_NONE) return found;
        to = from > 0 ? from - 1 : 0;
    }
    return FOUND_NONE;
}

static int find_letter(struct arena *arena, const char *response) {
    struct prose p;
    const char *text = answer_element(arena, response);
    struct formula_span a = answer_boxed(text);
    if (!a.s) a = answer_boxed(response);
    int found = a.s ? only_letter(a) : marked_letter(text);
    if (found == FOUND_NONE && strlen(text) <= SHORT_BYTES)
        found = only_letter((struct formula_span){text, strlen(text)});
    if (found != FOUND_NONE) return found;
    prose_read(&p, arena, text);
    found = stated_letter(&p);
    return found == FOUND_NONE ? last_letter(&p) : found;
}

static int read_reference(const char *answer) {
    struct formula_span a = answer_boxed(answer);
    int found = a.s ? only_letter(a) : marked_letter(answer);
    return found == FOUND_NONE ? only_letter((struct formula_span){answer, strlen(answer)}) : found;
}

/* A reference is judged before the response, so that a bad one is an error whatever was answered.
 */
static int run_choice(const void *state, const struct verify_input *in, double *value,
                      char *reason) {
    (void)state;
    struct arena *arena = arena_open(1 << 14);
    char *response = textfold_compatible(in->response), *answer = textfold_compatible(in->answer);
    int want = read_reference(answer), got = find_letter(arena, response);
    mem_free(response);
    mem_free(answer);
    arena_close(&arena);
    if (want == FOUND_NONE || want == FOUND_SEVERAL)
        return FAIL(ERR_CORRUPT, "the reference answer \"%.60s\" does not hold one letter A..J",
                    in->answer);
    *value = got == want ? 1 : 0;
    if (got == FOUND_NONE)
        snprintf(reason, VERIFY_REASON, "no letter found");
    else if (got == FOUND_SEVERAL)
        snprintf(reason, VERIFY_REASON, "several letters");
    else
        snprintf(reason, VERIFY_REASON, "%c, wanted %c", got, want);
    return 0;
}

const struct verify_type choice_type = {
    .name = "choice",
    .doc = "the letter A..J that the response settles on is the answer's",
    .uses = VERIFY_USES_AFTER,
    .needs_answer = true,
    .run = run_choice,
};
