/* file.h - whole files: read, map, replace atomically. Every failure names the path and the
 * system's reason. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file_map {
    const unsigned char *data; /* read-only, private; NULL when bytes is 0 */
    size_t bytes;
};

/* Reads a whole file and appends a NUL that is not counted. ERR_NOTFOUND, ERR_IO; ERR_CORRUPT above
 * max_bytes. *out is freed with mem_free. */
MUST_CHECK int file_read(char **out, size_t *bytes, const char *path, size_t max_bytes);
MUST_CHECK int file_map_open(struct file_map *out, const char *path);
void file_map_close(struct file_map *m);

/* Writes path.tmp, fsyncs, renames over path, fsyncs the directory: a reader sees the old or the
 * new file. */
MUST_CHECK int file_write_atomic(const char *path, const void *data, size_t bytes);

/* The same in pieces, for files too large to hold in memory. After commit (whatever it returns) or
 * abort the writer is closed; aborting a closed writer does nothing. */
struct file_writer {
    char *path, *tmp; /* NULL once closed */
    int fd;
};
MUST_CHECK int file_writer_open(struct file_writer *out, const char *path);
MUST_CHECK int file_writer_add(struct file_writer *w, const void *data, size_t bytes);
MUST_CHECK int file_writer_commit(struct file_writer *w);
void file_writer_abort(struct file_writer *w);

/* write(2) until all is written; name is for the error text. */
MUST_CHECK int file_write_all(int fd, const void *data, size_t bytes, const char *name);
MUST_CHECK int file_sync_dir(const char *dir);
MUST_CHECK int file_mkdirs(const char *dir); /* like mkdir -p, mode 0777 & ~umask */
MUST_CHECK int
file_remove_tree(const char *dir); /* rm -rf; absent is success; never follows links */
bool file_exists(const char *path);
bool file_is_dir(const char *path);
char *file_join(const char *dir, const char *name); /* "dir/name", freed with mem_free */
char *file_full(const char *path); /* made absolute, whether it is there or not; mem_free */

#endif
