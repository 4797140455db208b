/* tokenizer_regex.h - the regular expressions of tokenizer.json. The reference matches them with
 * Oniguruma; here they are translated to PCRE2, so that each construct keeps its Oniguruma meaning,
 * and a construct whose meaning cannot be kept is ERR_UNSUP. */
#ifndef ACTOR_TEXT_TOKENIZER_REGEX_H
#define ACTOR_TEXT_TOKENIZER_REGEX_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct tokenizer_regex;      /* compiled; read-only, shared by threads */
struct tokenizer_regex_scan; /* workspace of one matching thread */

/* A text cut into matches (hit) and the gaps between them, in order, without holes. Matches may be
 * empty. */
struct tokenizer_cut {
    size_t start, end;
    bool hit;
};
struct tokenizer_cuts {
    struct tokenizer_cut *v;
    size_t n, cap;
};
void tokenizer_regex_cuts_add(struct tokenizer_cuts *c, size_t start, size_t end, bool hit);

/* where names file and field in errors. ERR_CORRUPT: no such expression; ERR_UNSUP: a construct
 * that is not translated. */
MUST_CHECK int tokenizer_regex_open(struct tokenizer_regex **out, const char *pattern, size_t n,
                                    const char *where);
/* Matches exactly this text. */
MUST_CHECK int tokenizer_regex_open_literal(struct tokenizer_regex **out, const char *text,
                                            size_t n, const char *where);
void tokenizer_regex_close(struct tokenizer_regex **re);

/* Appends to out the PCRE2 form of an Oniguruma pattern. In tokenizer_onig.c. */
MUST_CHECK int tokenizer_onig_translate(struct buf *out, const char *pattern, size_t n,
                                        const char *where);

struct tokenizer_regex_scan *tokenizer_regex_scan_open(void);
void tokenizer_regex_scan_close(struct tokenizer_regex_scan **scan);

/* Replaces *out by the cuts of s[0..n), valid UTF-8. ERR_CORRUPT if the expression needs more than
 * the match limit on this text. */
MUST_CHECK int tokenizer_regex_cut(const struct tokenizer_regex *re,
                                   struct tokenizer_regex_scan *scan, const char *s, size_t n,
                                   struct tokenizer_cuts *out);

#endif
