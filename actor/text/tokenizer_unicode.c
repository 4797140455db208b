/* tokenizer_unicode.c - membership in the sets of tokenizer_tables.c: binary search over sorted
 * ranges, with ASCII and Latin answered first where that is shorter than the search. */
#include "actor/text/tokenizer_tables.h"

static bool in_ranges(uint32_t cp, const struct tokenizer_tables_range *r, int n) {
    int lo = 0, hi = n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (cp > r[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && cp >= r[lo].first;
}

/* White_Space of Unicode, the same 25 code points since version 6.3. */
bool tokenizer_unicode_is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool tokenizer_unicode_is_word(uint32_t cp) {
    if (cp < 0x80)
        return (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || cp == '_' ||
               (cp >= 'a' && cp <= 'z');
    return in_ranges(cp, tokenizer_tables_word, tokenizer_tables_word_n);
}

bool tokenizer_unicode_is_numeric(uint32_t cp) {
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    return in_ranges(cp, tokenizer_tables_numeric, tokenizer_tables_numeric_n);
}

bool tokenizer_unicode_is_punctuation(uint32_t cp) {
    return in_ranges(cp, tokenizer_tables_punctuation, tokenizer_tables_punctuation_n);
}

bool tokenizer_unicode_is_unnormalized(uint32_t cp) {
    return in_ranges(cp, tokenizer_tables_unnormalized, tokenizer_tables_unnormalized_n);
}

int tokenizer_unicode_lower(uint32_t cp, uint32_t out[2]) {
    const struct tokenizer_tables_lower *t = tokenizer_tables_lower;
    int lo = 0, hi = tokenizer_tables_lower_n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (cp > t[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    out[0] = cp;
    if (lo == tokenizer_tables_lower_n || cp < t[lo].first) return 1;
    if ((cp - t[lo].first) % t[lo].step != 0) return 1;
    out[0] = t[lo].lower + (cp - t[lo].first);
    out[1] = t[lo].second;
    return out[1] ? 2 : 1;
}
