/* lines_test.c - every way a line can end, and one that is too long. */
#include "base/lines.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

static struct lines *open_text(const char *text, size_t n, size_t max) {
    struct lines *l;
    char *path = file_join(test_dir(), "lines");
    CHECK_OK(file_write_atomic(path, text, n));
    CHECK_OK(lines_open(&l, path, max));
    mem_free(path);
    return l;
}

TEST(lines_ends_of_lines) {
    static const char text[] = "one\n\ntwo\r\n\0x\nlast";
    static const char *const want[] = {"one", "", "two", "", "last"};
    static const size_t bytes[] = {3, 0, 3, 2, 4};
    struct lines *l = open_text(text, sizeof text - 1, 4);
    const char *line;
    size_t n;
    for (int i = 0; i < 5; i++) {
        CHECK_OK(lines_next(l, &line, &n));
        CHECK_STR(line, want[i]);
        CHECK_INT(n, bytes[i]);
        CHECK_INT(lines_number(l), i + 1);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_OK(lines_next(l, &line, &n));
        CHECK(!line);
    }
    lines_close(&l);
}

TEST(lines_longer_than_one_read) {
    enum { N = 300000 };
    char *text = mem_alloc(2 * N);
    memset(text, 'a', 2 * N);
    text[N] = '\n';
    struct lines *l = open_text(text, 2 * N, N);
    const char *line;
    size_t n;
    CHECK_OK(lines_next(l, &line, &n));
    CHECK_INT(n, N);
    CHECK_OK(lines_next(l, &line, &n));
    CHECK_INT(n, N - 1);
    lines_close(&l);
    l = open_text(text, 2 * N, N - 1);
    CHECK_ERR(lines_next(l, &line, &n), ERR_CORRUPT, "line 1: longer than 299999 bytes");
    lines_close(&l);
    mem_free(text);
    CHECK_ERR(lines_open(&l, "/nowhere/at/all", 1), ERR_NOTFOUND, "/nowhere/at/all");
}
