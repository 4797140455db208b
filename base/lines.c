/* lines.c - bounded lines from a descriptor.
 *
 * stdio's readers either cut a long line or grow without a limit; this one does neither. It reads
 * with read(2), so that a line typed at a terminal or written to a pipe arrives at once, and moves
 * an unfinished line to the front of the buffer only when more has to be read. */
#include "base/lines.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 16 };

struct lines {
    int fd;
    char *name, *data;
    size_t max, cap, from, to; /* data[from .. to-1] was read and not given */
    size_t searched;           /* data[from .. searched-1] holds no line end */
    int64_t number;
    bool ended;
};

int lines_open(struct lines **out, const char *path, size_t line_bytes_max) {
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (fd < 0) {
        int error = errno;
        char *full = file_full(path);
        int rc = FAIL(error == ENOENT ? ERR_NOTFOUND : ERR_IO, "cannot open %s: %s", full,
                      strerror(error));
        mem_free(full);
        return rc;
    }
    struct lines *l = mem_zalloc(sizeof *l);
    l->fd = fd;
    l->name = mem_strdup(path ? path : "standard input");
    l->max = line_bytes_max;
    *out = l;
    return 0;
}

void lines_close(struct lines **l) {
    if (!*l) return;
    if ((*l)->fd != STDIN_FILENO) close((*l)->fd);
    mem_free((*l)->name);
    mem_free((*l)->data);
    mem_free(*l);
    *l = NULL;
}

const char *lines_name(const struct lines *l) {
    return l->name;
}

int64_t lines_number(const struct lines *l) {
    return l->number;
}

static int read_more(struct lines *l) {
    if (l->from > 0) {
        memmove(l->data, l->data + l->from, l->to - l->from);
        l->to -= l->from;
        l->searched -= l->from;
        l->from = 0;
    }
    mem_grow(&l->data, &l->cap, l->to + READ_BYTES + 1, 1);
    ssize_t n;
    do
        n = read(l->fd, l->data + l->to, READ_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0) return FAIL(ERR_IO, "%s: %s", l->name, strerror(errno));
    l->ended = n == 0;
    l->to += (size_t)n;
    return 0;
}

static void give_line(struct lines *l, size_t end, size_t next, const char **text, size_t *bytes) {
    if (end > l->from && l->data[end - 1] == '\r') end--;
    l->data[end] = '\0';
    *text = l->data + l->from;
    *bytes = end - l->from;
    l->from = l->searched = next;
    l->number++;
}

/* A line is searched once however often more data had to be read for it (`searched`). */
int lines_next(struct lines *l, const char **text, size_t *bytes) {
    for (;;) {
        size_t unseen = l->to - l->searched;
        char *end = unseen > 0 ? memchr(l->data + l->searched, '\n', unseen) : NULL;
        size_t so_far = (end ? (size_t)(end - l->data) : l->to) - l->from;
        if (so_far > l->max)
            return FAIL(ERR_CORRUPT, "%s line %" PRId64 ": longer than %zu bytes", l->name,
                        l->number + 1, l->max);
        if (end) {
            give_line(l, (size_t)(end - l->data), (size_t)(end - l->data) + 1, text, bytes);
            return 0;
        }
        l->searched = l->to;
        if (l->ended) break;
        TRY(read_more(l));
    }
    if (l->from < l->to) {
        give_line(l, l->to, l->to, text, bytes);
        return 0;
    }
    *text = NULL;
    *bytes = 0;
    return 0;
}
