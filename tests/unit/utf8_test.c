/* utf8_test.c - base/utf8: every code point survives, every malformed sequence is refused. */
#include "base/utf8.h"
#include "tests/test.h"

TEST(every_code_point) {
    for (uint32_t cp = 0; cp < 0x110800; cp++) {
        char s[4];
        uint32_t back = 0;
        int n = utf8_encode(cp, s);
        if ((cp >= 0xD800 && cp <= 0xDFFF) || cp > 0x10FFFF) {
            CHECK_INT(n, 0);
            continue;
        }
        CHECK_INT(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        CHECK_INT(utf8_decode(s, (size_t)n, &back), n);
        CHECK_INT(back, cp);
        for (int k = 1; k < n; k++) /* cut short: more bytes could complete it */
            CHECK_INT(utf8_decode(s, (size_t)k, &back), -1);
    }
}

TEST(malformed) {
    static const char *const bad[] = {"\x80",
                                      "\xBF",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xE0\x80\x80",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xED\xBF\xBF",
                                      "\xF0\x80\x80\x80",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "\xC3\x28",
                                      "\xE2\x28\xA1",
                                      "\xE2\x82\x28",
                                      "\xF0\x9F\x98\x28"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint32_t cp = 7;
        CHECK_INT(utf8_decode(bad[i], strlen(bad[i]), &cp), 0);
        CHECK_INT(cp, 7);
    }
}

TEST(valid_prefix) {
    CHECK_INT(utf8_valid_prefix("", 0), 0);
    CHECK_INT(utf8_valid_prefix("a\xC3\xA9z", 4), 4);
    CHECK_INT(utf8_valid_prefix("a\xC3\xA9\xFFz", 5), 3);
    CHECK_INT(utf8_valid_prefix("ab\xE2\x82", 4), 2);
}
