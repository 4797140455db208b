/* buf_test.c - base/buf: growth, words of a shell. */
#include "base/buf.h"
#include "tests/test.h"

#include <stdio.h>

TEST(grows_and_resets) {
    struct buf b = {0};
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "%d,", i % 10);
    CHECK_INT(b.len, 20000);
    CHECK_INT(b.data[b.len], 0);
    char *before = b.data;
    buf_reset(&b);
    CHECK_STR(b.data, "");
    buf_add(&b, "a\0b", 3);
    CHECK(b.data == before && b.len == 3);
    buf_close(&b);
    CHECK(!b.data && b.len == 0 && b.cap == 0);
}

/* What a shell makes of it is the word itself. */
TEST(buf_shell_is_one_word) {
    static const char *const words[] = {"",
                                        "plain/path-1.x",
                                        "two words",
                                        "it's",
                                        "$HOME `id` \"q\" \\",
                                        "a\nb",
                                        "*",
                                        "~",
                                        "#x",
                                        "''",
                                        "-n",
                                        "caf\xc3\xa9",
                                        "a;b|c&d>e<f(g)",
                                        "!x"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct buf line = {0};
        char said[64] = {0};
        buf_str(&line, "printf %s ");
        buf_shell(&line, words[i]);
        FILE *p = popen(line.data, "r");
        CHECK(p != NULL);
        size_t n = fread(said, 1, sizeof said - 1, p);
        said[n] = '\0';
        CHECK_INT(pclose(p), 0);
        CHECK_STR(said, words[i]);
        buf_close(&line);
    }
}
