/* log_test.c - a line is one line whatever is in it, and who repeats a cause does not fill the
 * disk.
 */
#include "base/log.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <fcntl.h>
#include <unistd.h>

/* Stderr of this process, from now on, in a file. */
static char *catch_stderr(void) {
    char *path = file_join(test_dir(), "stderr");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && dup2(fd, 2) == 2);
    close(fd);
    return path;
}

static size_t lines_of(const char *path, char **text) {
    size_t bytes, n = 0;
    CHECK_OK(file_read(text, &bytes, path, 1 << 24));
    for (size_t i = 0; i < bytes; i++)
        n += (*text)[i] == '\n';
    return n;
}

TEST(log_line_is_one_line) {
    char *path = catch_stderr(), *text;
    log_open(LOG_INFO, "test");
    LOG(INFO, BASE, "peer=%s", "a\nerror trainer forged\x1b[2J\r");
    CHECK_INT(lines_of(path, &text), 1);
    CHECK(strstr(text, "peer=a error trainer forged [2J ") != NULL);
    mem_free(text);
    mem_free(path);
}

TEST(log_limited_counts_what_it_leaves_out) {
    char *path = catch_stderr(), *text;
    log_open(LOG_INFO, "test");
    for (int i = 0; i < 100000; i++)
        LOG_LIMITED(WARN, RELAY, "dropped message %d", i);
    LOG_LIMITED(WARN, RELAY, "another place");
    log_close();
    size_t n = lines_of(path, &text);
    CHECK(n >= LOG_LIMIT_BURST + 2 && n < 20); /* a slow machine gets some lines more */
    CHECK(strstr(text, "dropped message 0\n") != NULL);
    CHECK(strstr(text, "another place\n") != NULL);
    CHECK(strstr(text, "lines were left out, the first: dropped message ") != NULL);
    log_close();
    mem_free(text);
    CHECK_INT(lines_of(path, &text), n); /* said once */
    mem_free(text);
    mem_free(path);
}

TEST(log_copy_has_what_the_level_hides) {
    char *path = catch_stderr(), *copy = file_join(test_dir(), "copy"), *text;
    int fd = open(copy, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_open(LOG_WARN, "test");
    LOG(INFO, DEPLOY, "hidden");
    log_copy(fd);
    LOG(INFO, DEPLOY, "copied");
    LOG(DEBUG, DEPLOY, "neither");
    log_copy(-1);
    close(fd);
    CHECK_INT(lines_of(path, &text), 0);
    mem_free(text);
    CHECK_INT(lines_of(copy, &text), 1);
    CHECK(strstr(text, "info test deploy copied") != NULL);
    mem_free(text);
    mem_free(copy);
    mem_free(path);
}
