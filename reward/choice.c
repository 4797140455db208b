/* choice.c - a letter from A to J. The places where an answer may stand are tried from the most
 * deliberate to the least: the last box, the line behind ####, the words "answer is", and at last
 * the last letter that stands by itself. In an announced answer the letter must be the only one: "A
 * or B" is no choice. By itself means: in capitals, not part of a word; a lone "A" or "I" at the
 * head of a sentence is an English word and does not count there. */
#include "reward/choice.h"

#include "reward/finalans.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { SHORT_BYTES = 4 }; /* a response that can hold nothing but the letter: "(b)." */

static bool is_letter(char c, bool any_case) {
    return (c >= 'A' && c <= 'J') || (any_case && c >= 'a' && c <= 'j');
}

static bool in_word(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '\'' || (unsigned char)c >= 0x80;
}

/* Whether s[i] stands by itself in s[0..n). */
static bool stands_alone(const char *s, size_t n, size_t i) {
    return (i == 0 || !in_word(s[i - 1])) && (i + 1 >= n || !in_word(s[i + 1]));
}

/* A word of a sentence: "A dog", "I think". A bracket, full stop or colon behind it says otherwise.
 */
static bool is_english(const char *s, size_t n, size_t i) {
    return (s[i] == 'A' || s[i] == 'I') && i + 2 < n && s[i + 1] == ' ' &&
           islower((unsigned char)s[i + 2]);
}

enum found { FOUND_NONE = 0, FOUND_SEVERAL = 1 }; /* or the letter itself */

/* The only letter of an announced answer, \text{} and the like aside: "(B)", "B. because", "**b**".
 */
static int only_letter(struct finalans a) {
    int found = FOUND_NONE;
    a = finalans_strip(a);
    for (size_t i = 0; i < a.n; i++) {
        if (a.s[i] == '\\') { /* a command's name */
            while (i + 1 < a.n && isalpha((unsigned char)a.s[i + 1]))
                i++;
            continue;
        }
        bool first = found == FOUND_NONE;
        bool lower_ok = a.n <= 2 || (i > 0 && a.s[i - 1] == '(') ||
                        (i > 0 && a.s[i - 1] == '{' && i + 1 < a.n && a.s[i + 1] == '}');
        if (!is_letter(a.s[i], lower_ok) || !stands_alone(a.s, a.n, i)) continue;
        if (!first && is_english(a.s, a.n, i)) continue;
        int letter = toupper((unsigned char)a.s[i]);
        if (!first && letter != found) return FOUND_SEVERAL;
        found = letter;
    }
    return found;
}

static int last_letter(const char *s) {
    int found = FOUND_NONE;
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (is_letter(s[i], false) && stands_alone(s, n, i) && !is_english(s, n, i)) found = s[i];
    return found;
}

static int find(const char *text) {
    struct finalans a = finalans_boxed(text);
    if (!a.s) a = finalans_marked(text);
    if (!a.s) a = finalans_stated(text);
    if (!a.s && strlen(text) <= SHORT_BYTES) a = (struct finalans){text, strlen(text)};
    int found = a.s ? only_letter(a) : FOUND_NONE;
    return found == FOUND_NONE ? last_letter(text) : found;
}

static int run(const void *state, const struct verify_input *in, double *value, char *reason) {
    (void)state;
    struct finalans a = finalans_boxed(in->answer);
    if (!a.s) a = finalans_marked(in->answer);
    if (!a.s) a = (struct finalans){in->answer, strlen(in->answer)};
    int want = only_letter(a), got = find(in->response);
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
    .run = run,
};
