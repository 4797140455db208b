/* json_write_test.c - base/json_write: the text of each style, what base/json reads back unchanged,
 * and misuse that ends the program. */
#include "base/json.h"
#include "base/json_write.h"
#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_sample(struct json_write *w) {
    static const int32_t ids[] = {0, -1, INT32_MAX};
    static const float logprobs[] = {0.5f, -1};
    json_write_object(w, NULL);
    json_write_int(w, "a", INT64_MIN);
    json_write_uint(w, "b", UINT64_MAX);
    json_write_ids(w, "ids", ids, 3);
    json_write_f32s(w, "lp", logprobs, 2);
    json_write_array(w, "list");
    json_write_object(w, NULL);
    json_write_end(w);
    json_write_array(w, NULL);
    json_write_end(w);
    json_write_null(w, NULL);
    json_write_end(w);
    json_write_object(w, "in");
    json_write_bool(w, "yes", true);
    json_write_bool(w, "no", false);
    json_write_fixed(w, "f", 1.25, 1);
    json_write_end(w);
    json_write_end(w);
    json_write_newline(w);
}

TEST(json_write_styles) {
    static const char *const want[] = {
        "{\"a\":-9223372036854775808,\"b\":18446744073709551615,\"ids\":[0,-1,2147483647],"
        "\"lp\":[0.5,-1],\"list\":[{},[],null],\"in\":{\"yes\":true,\"no\":false,\"f\":1.2}}\n",
        "{\"a\": -9223372036854775808, \"b\": 18446744073709551615, \"ids\": [0, -1, 2147483647], "
        "\"lp\": [0.5, -1], \"list\": [{}, [], null], "
        "\"in\": {\"yes\": true, \"no\": false, \"f\": 1.2}}\n",
        "{\n  \"a\": -9223372036854775808,\n  \"b\": 18446744073709551615,\n"
        "  \"ids\": [0, -1, 2147483647],\n  \"lp\": [0.5, -1],\n  \"list\": [{}, [], null],\n"
        "  \"in\": {\n    \"yes\": true,\n    \"no\": false,\n    \"f\": 1.2\n  }\n}\n"};
    for (int style = 0; style < 3; style++) {
        struct buf b = {0};
        struct json_write w = json_write_to(&b, (enum json_style)style);
        write_sample(&w);
        CHECK_STR(b.data, want[style]);
        buf_close(&b);
    }
}

TEST(json_write_strings_are_quoted) {
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_LINE);
    struct json_doc *doc;
    static const char raw[] = "a\"\\\n\r\t\x01\x7F\xC3\xA9\0\xFF\xE2\x82z";
    json_write_text(&w, NULL, raw, sizeof raw - 1);
    CHECK_STR(b.data, "\"a\\\"\\\\\\n\\r\\t\\u0001\x7F\xC3\xA9\\u0000"
                      "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz\"");
    CHECK_ERR(json_parse(&doc, b.data, b.len, "T"), ERR_CORRUPT, "NUL"); /* JSON, but no C string */
    buf_reset(&b);
    w = json_write_to(&b, JSON_LINE);
    json_write_object(&w, NULL);
    json_write_str(&w, raw, raw);
    json_write_str(&w, "none", NULL);
    json_write_end(&w);
    CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
    CHECK_STR(json_str(json_get(json_root(doc), raw)), raw);
    CHECK_STR(json_str(json_get(json_root(doc), "none")), "");
    json_close(&doc);
    buf_close(&b);
}

/* Written and read, a double and a float are the same bits, the sign of a zero too. */
TEST(json_write_numbers_read_back) {
    static const double values[] = {0,     -0.0,   1,       0.1,          1.0 / 3,
                                    1e300, 5e-324, DBL_MAX, 123456789.125};
    static const float floats[] = {0.1f, 1.0f / 3, FLT_MAX, FLT_MIN, 16777217.0f, -2.5e-41f};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct buf b = {0};
        struct json_write w = json_write_to(&b, JSON_LINE);
        struct json_doc *doc;
        json_write_num(&w, NULL, values[i]);
        CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
        double got = json_num(json_root(doc), 7);
        CHECK(memcmp(&got, &values[i], sizeof got) == 0);
        json_close(&doc);
        buf_close(&b);
    }
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        struct buf b = {0};
        struct json_write w = json_write_to(&b, JSON_LINE);
        struct json_doc *doc;
        json_write_f32(&w, NULL, floats[i]);
        CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
        CHECK((float)json_num(json_root(doc), 7) == floats[i]);
        json_close(&doc);
        buf_close(&b);
    }
}

TEST(json_write_no_number_is_null) {
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_COMPACT);
    json_write_array(&w, NULL);
    json_write_num(&w, NULL, (double)INFINITY);
    json_write_f32(&w, NULL, NAN);
    json_write_fixed(&w, NULL, (double)-INFINITY, 2);
    json_write_end(&w);
    CHECK_STR(b.data, "[null,null,null]");
    buf_close(&b);
}

TEST(json_write_copies_what_was_parsed) {
    static const char text[] = "{\"a\":[1,2.5,null,{\"b\":\"x\\u00e9\"}],\"c\":true,\"d\":-0.0}";
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_COMPACT);
    struct json_doc *doc;
    CHECK_OK(json_parse(&doc, text, strlen(text), "T"));
    json_write_object(&w, NULL);
    json_write_int(&w, "first", 1);
    json_write_members(&w, json_root(doc));
    json_write_raw(&w, "raw", "[0]", 3);
    json_write_end(&w);
    CHECK_STR(b.data, "{\"first\":1,\"a\":[1,2.5,null,{\"b\":\"x\xC3\xA9\"}],\"c\":true,"
                      "\"d\":-0.0,\"raw\":[0]}");
    json_close(&doc);
    buf_close(&b);
}

static void member_without_key(struct json_write *w) {
    json_write_object(w, NULL);
    json_write_int(w, NULL, 1);
}

static void element_with_key(struct json_write *w) {
    json_write_array(w, NULL);
    json_write_int(w, "a", 1);
}

static void two_values(struct json_write *w) {
    json_write_int(w, NULL, 1);
    json_write_int(w, NULL, 2);
}

static void end_too_many(struct json_write *w) {
    json_write_object(w, NULL);
    json_write_end(w);
    json_write_end(w);
}

static void line_of_a_part(struct json_write *w) {
    json_write_object(w, NULL);
    json_write_newline(w);
}

static void too_deep(struct json_write *w) {
    for (int i = 0; i <= JSON_WRITE_DEPTH; i++)
        json_write_array(w, NULL);
}

TEST(json_write_misuse_ends_the_program) {
    void (*const wrong[])(struct json_write *) = {member_without_key, element_with_key, two_values,
                                                  end_too_many,       line_of_a_part,   too_deep};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct buf b = {0};
            struct json_write w = json_write_to(&b, JSON_LINE);
            signal(SIGABRT, SIG_DFL);
            if (!freopen("/dev/null", "w", stderr)) _exit(1);
            wrong[i](&w);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}
