/* buf_test.c - base/buf: growth, and JSON writers whose output base/json reads back unchanged. */
#include "base/buf.h"
#include "base/json.h"
#include "tests/test.h"

#include <stdio.h>

#include <float.h>

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

TEST(strings_are_quoted) {
    struct buf b = {0};
    static const char raw[] = "\"\\\n\r\t\x01\x7F\xC3\xA9\0\xFF\xE2\x82z";
    buf_json_str(&b, raw, sizeof raw - 1);
    CHECK_STR(b.data, "\"\\\"\\\\\\n\\r\\t\\u0001\x7F\xC3\xA9\\u0000"
                      "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz\"");
    struct json_doc *doc;
    CHECK_ERR(json_parse(&doc, b.data, b.len, "T"), ERR_CORRUPT, "NUL"); /* JSON, but no C string */
    buf_reset(&b);
    buf_json_str(&b, raw, strlen(raw));
    CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
    json_close(&doc);
    buf_close(&b);
}

TEST(numbers_read_back) {
    static const double values[] = {0,     -0.0,   1,       0.1,          1.0 / 3,
                                    1e300, 5e-324, DBL_MAX, 123456789.125};
    static const float floats[] = {0.1f, 1.0f / 3, FLT_MAX, FLT_MIN, 16777217.0f, -2.5e-41f};
    struct buf b = {0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct json_doc *doc;
        buf_reset(&b);
        buf_json_num(&b, values[i]);
        CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
        CHECK(json_num(json_root(doc), 7) == values[i]);
        json_close(&doc);
    }
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        struct json_doc *doc;
        buf_reset(&b);
        buf_json_f32(&b, floats[i]);
        CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
        CHECK((float)json_num(json_root(doc), 7) == floats[i]);
        json_close(&doc);
    }
    buf_reset(&b);
    buf_json_num(&b, INFINITY);
    buf_json_f32(&b, NAN);
    CHECK_STR(b.data, "nullnull");
    buf_close(&b);
}

TEST(arrays) {
    struct buf b = {0};
    int32_t ids[] = {0, -1, INT32_MAX};
    float x[] = {0.5f, -1};
    buf_json_ids(&b, ids, 3);
    buf_json_f32s(&b, x, 2);
    buf_json_ids(&b, ids, 0);
    CHECK_STR(b.data, "[0, -1, 2147483647][0.5, -1][]");
    buf_close(&b);
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
