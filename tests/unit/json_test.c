/* json_test.c - base/json: what RFC 8259 allows is read, everything else refused with its place. */
#include "base/buf.h"
#include "base/json.h"
#include "tests/test.h"

static struct json_doc *parse(const char *text) {
    struct json_doc *doc;
    CHECK_OK(json_parse(&doc, text, strlen(text), "T"));
    return doc;
}

TEST(values) {
    struct json_doc *doc =
        parse(" {\"a\": [1, -2.5e1, true, false, null, \"x\"], \"b\": {}, \"z\": 0}");
    const struct json *root = json_root(doc), *a = json_get(root, "a");
    int64_t i = 0;
    CHECK_INT(json_len(root), 3);
    CHECK_INT(json_len(a), 6);
    const struct json *e = json_first(a);
    CHECK(json_int(e, &i) && i == 1);
    e = json_next(e);
    CHECK(!json_int(e, &i) && json_num(e, 0) == -25);
    e = json_next(e);
    CHECK(json_bool(e, false));
    e = json_next(e);
    CHECK(!json_bool(e, true));
    e = json_next(e);
    CHECK_INT(json_type(e), JSON_NULL);
    CHECK_STR(json_str(json_next(e)), "x");
    CHECK(!json_next(json_next(e)));
    CHECK(json_is(json_get(root, "b"), JSON_OBJECT) && !json_first(json_get(root, "b")));
    CHECK(!json_get(root, "c") && !json_get(a, "a") && !json_get(NULL, "a"));
    json_close(&doc);
    CHECK(!doc);
}

TEST(strings) {
    static const char text[] = "\"q\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\\u0000z\"";
    struct json_doc *doc;
    CHECK_OK(json_parse_as(&doc, text, sizeof text - 1, "T", JSON_NUL));
    static const char want[] = "q\"\\/\b\f\n\r\t\xC3\xA9\xF0\x9F\x98\x80\0z";
    CHECK_INT(json_len(json_root(doc)), sizeof want - 1);
    CHECK(memcmp(json_str(json_root(doc)), want, sizeof want) == 0);
    json_close(&doc);
}

TEST(whole_numbers_are_exact) {
    struct json_doc *doc = parse("[9007199254740993, -0, 3.0, 1e2, 4611686018427387904]");
    int64_t i;
    const struct json *e = json_first(json_root(doc));
    CHECK(json_int(e, &i) && i == 9007199254740993);
    e = json_next(e);
    CHECK(json_int(e, &i) && i == 0);
    e = json_next(e);
    CHECK(!json_int(e, &i));
    e = json_next(e);
    CHECK(!json_int(e, &i) && json_num(e, 0) == 100);
    CHECK(!json_int(json_next(e), &i)); /* beyond 2^62: a double */
    json_close(&doc);
}

/* Readers of equal keys, of NULs and of large numbers differ; a row of data keeps what is written.
 */
TEST(nothing_is_chosen_or_cut) {
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"{\"a\": 1,\n \"b\": [{}], \"a\" : 2}",
         "T: line 2 column 13: the key \"a\" is there twice"},
        {"[{\"x\": {\"k\": 1, \"\\u006b\": 1}}]", "the key \"k\" is there twice"},
        {"{\"\": 1, \"\": 1}", "the key \"\" is there twice"},
        {"\"a\\u0000b\"", "T: line 1 column 9: \\u0000 (a NUL) in a text"},
        {"{\"a\\u0000\": 1}", "(a NUL) in a text"},
        {"-1e400", "number out of range"},
        {"{'a': 1}", "column 2: expected a string in double quotes"},
        {"- a", "column 1: expected a value"},
    };
    struct json_doc *doc;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_ERR(json_parse(&doc, bad[i].text, strlen(bad[i].text), "T"), ERR_CORRUPT,
                  bad[i].error);
    static const char *const numbers[] = {
        "12345678901234567890",
        "1e400",
        "-0",
        "0.10",
        "1E+2",
        "2.0",
        "0.1000000000000000055",
        "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        CHECK_OK(json_parse_as(&doc, numbers[i], strlen(numbers[i]), "T", JSON_ROW));
        CHECK_STR(json_number(json_root(doc)), numbers[i]);
        json_close(&doc);
    }
    CHECK_ERR(json_parse_as(&doc, "[1 2]", 5, "T line 7", JSON_ROW), ERR_CORRUPT,
              "T line 7 column 4: expected");
}

/* Large objects are looked through by hash. */
TEST(equal_keys_of_large_objects) {
    for (int twice = 0; twice < 2; twice++) {
        struct buf b = {0};
        struct json_doc *doc;
        buf_str(&b, "{");
        for (int i = 0; i < 5000; i++)
            buf_printf(&b, "\"key-%d\": {\"n\": %d},\n", i, i);
        buf_printf(&b, "\"key-%d\": 1}", twice ? 1234 : 5000);
        if (twice)
            CHECK_ERR(json_parse(&doc, b.data, b.len, "T"), ERR_CORRUPT,
                      "T: line 5001 column 1: the key \"key-1234\" is there twice");
        else
            CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
        if (!twice) json_close(&doc);
        buf_close(&b);
    }
}

TEST(refused) {
    static const char *const bad[] = {"",
                                      "{",
                                      "[1,]",
                                      "{\"a\" 1}",
                                      "{a: 1}",
                                      "01",
                                      "1.",
                                      ".5",
                                      "-",
                                      "1e",
                                      "+1",
                                      "NaN",
                                      "tru",
                                      "nulls",
                                      "\"a",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\n\"",
                                      "1 2",
                                      "[1 2]",
                                      "1e999",
                                      "\"\xC0\x80\"",
                                      "\"\xED\xA0\x80\"",
                                      "\"\xF5\x80\x80\x80\"",
                                      "{\"a\":1,}",
                                      "\"\\"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json_doc *doc;
        CHECK_ERR(json_parse(&doc, bad[i], strlen(bad[i]), "T"), ERR_CORRUPT, "T: line ");
    }
    struct json_doc *doc;
    CHECK_ERR(json_parse(&doc, "{\n \"a\": x}", 10, "T"), ERR_CORRUPT, "line 2 column 7");
}

TEST(depth_is_limited) {
    struct buf b = {0};
    struct json_doc *doc;
    for (int i = 0; i < 64; i++)
        buf_str(&b, "[");
    for (int i = 0; i < 64; i++)
        buf_str(&b, "]");
    CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
    json_close(&doc);
    buf_reset(&b);
    for (int i = 0; i < 100000; i++)
        buf_str(&b, "[");
    CHECK_ERR(json_parse(&doc, b.data, b.len, "T"), ERR_CORRUPT, "64 levels");
    buf_close(&b);
}

TEST(typed_reads) {
    struct json_doc *doc = parse("{\"n\": 5, \"x\": 1.5, \"s\": \"t\", \"b\": true, \"z\": null}");
    const struct json *r = json_root(doc);
    int64_t i = 9;
    double x;
    bool b;
    const char *s;
    CHECK_OK(json_read_int(&i, r, "n", 0, 5, "T"));
    CHECK_INT(i, 5);
    CHECK_ERR(json_read_int(&i, r, "n", 6, 9, "T"), ERR_CORRUPT, "n is 5, allowed is 6..9");
    CHECK_ERR(json_read_int(&i, r, "x", 0, 5, "T"), ERR_CORRUPT, "whole number");
    CHECK_ERR(json_read_int(&i, r, "z", 0, 5, "T"), ERR_NOTFOUND, "T: z is missing");
    CHECK_ERR(json_read_int(&i, r, "s", 0, 5, "T"), ERR_CORRUPT, "it is a string");
    CHECK_INT(i, 5);
    CHECK_OK(json_read_num(&x, r, "x", 0, 2, "T"));
    CHECK_ERR(json_read_num(&x, r, "x", 2, 3, "T"), ERR_CORRUPT, "allowed is 2..3");
    CHECK_OK(json_read_str(&s, r, "s", "T"));
    CHECK_OK(json_read_bool(&b, r, "b", "T"));
    CHECK_ERR(json_read_bool(&b, r, "n", "T"), ERR_CORRUPT, "a boolean");
    json_close(&doc);
}
