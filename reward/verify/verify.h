/* verify.h - one interface for every verifier: (prompt, response, reference answer) -> score. A set
 * of verifiers is compiled once from the recipe's reward list and then run on any number of
 * responses. A run is a pure function of its input; it never crashes and never turns a failure into
 * a zero: a reference answer that cannot be read, a pattern that hits its limit and the like are
 * typed errors. Rules of each type: docs/rewards.md. */
#ifndef REWARD_VERIFY_VERIFY_H
#define REWARD_VERIFY_VERIFY_H

#include "base/buf.h"
#include "reward/verify/verify_type.h"

struct verify_score {
    char name[VERIFY_NAME];
    double value; /* before the weight */
};

struct verify_result {
    double total; /* sum of weight * value; 0 and without meaning if error is set */
    int32_t n_scores;
    int32_t error; /* 0, or the ERR_* of the first verifier that failed */
    struct verify_score scores[VERIFY_MAX];
    char reason[VERIFY_REASON]; /* why, for people: "gsm8k: 17 is not 18"; valid UTF-8 */
};

struct verify;

/* ERR_CONFIG naming the entry, the setting and what is allowed: unknown type (with the nearest
 * known one), a parameter that the type does not have, a pattern that does not compile, an empty
 * set. *out: verify_close. specs may go away afterwards. */
MUST_CHECK int verify_open(struct verify **out, const struct verify_spec *specs, size_t n);
void verify_close(struct verify **v); /* accepts NULL inside */
/* Fills *out whatever happens. v is not changed: several threads may run it at once. */
void verify_run(const struct verify *v, const struct verify_input *in, struct verify_result *out);

/* Whether each verifier that needs a reference can read this one: fails as verify_run would for any
 * response, with the verifier's name in front. */
MUST_CHECK int verify_check(const struct verify *v, const char *answer);

/* Adds a type, for tests. Before the first verify_open; at most 23. */
void verify_register(const struct verify_type *type);

/* Appends a row of Markdown for each type: its name, the keys that it reads, what it scores. */
void verify_document(struct buf *out);
/* The i-th known type, NULL after the last; *doc (if not NULL): one line about it. */
const char *verify_types(size_t i, const char **doc);
/* False if the type's scores are 1 (right) and 0 (wrong) only. An unknown type is graded. */
bool verify_is_graded(const char *type);

#endif
