/* nearest.c - edit distance (Levenshtein) with two rows on the stack. Words are settings' names: a
 * few dozen bytes, a few hundred of them, looked up once before a program ends with an error. So
 * the plain quadratic table is enough, and long input is cut instead of allocated for. */
#include "base/nearest.h"

#include <ctype.h>
#include <string.h>

enum { NEAREST_LEN = 63 };

static int lower_case(char c) {
    return tolower((unsigned char)c);
}

static size_t distance(const char *a, const char *b) {
    size_t n = strnlen(a, NEAREST_LEN), m = strnlen(b, NEAREST_LEN);
    size_t row[NEAREST_LEN + 1];
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0]; /* cell (i-1, j-1) */
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (lower_case(a[i - 1]) != lower_case(b[j - 1]));
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *nearest_word(const char *word, const char *const *list, size_t n) {
    const char *best = NULL;
    size_t least = 0;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, list[i]);
        if (best && d >= least) continue;
        best = list[i];
        least = d;
    }
    return best;
}
