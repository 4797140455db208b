/* file.c - see file.h. A file that somebody else may read is never written in place: temporary
 * name, fsync, rename, fsync of the directory. After a power cut there is the old file or the new
 * one; the last fsync is what makes the rename itself survive. The temporary lies beside the file,
 * because a rename works within one file system only, and under a fixed name, so that a crash
 * leaves at most one, which the next write replaces.
 *
 * Whole reads have a limit, as the size comes from outside (I9, I10); larger inputs are mapped. */
#include "base/file.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char *file_full(const char *path) {
    char cwd[PATH_MAX];
    if (*path == '/' || !*path || !getcwd(cwd, sizeof cwd)) return mem_strdup(path);
    return file_join(cwd, path);
}

/* A file that is not there is named by the path that was tried, whatever it is relative to. */
static int fail_errno(const char *verb, const char *path) {
    int error = errno, code = error == ENOENT ? ERR_NOTFOUND : ERR_IO;
    char *full = code == ERR_NOTFOUND ? file_full(path) : mem_strdup(path);
    int rc = FAIL(code, "cannot %s %s: %s", verb, full, strerror(error));
    mem_free(full);
    return rc;
}

/* Opens for reading and gives the size; refuses what is not a regular file, and does not wait for
 * the writer of a pipe to find out. */
static int open_regular(int *fd, size_t *bytes, const char *path) {
    struct stat st;
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f < 0) return fail_errno("open", path);
    if (fstat(f, &st) != 0) {
        int rc = fail_errno("stat", path);
        close(f);
        return rc;
    }
    if (!S_ISREG(st.st_mode)) {
        close(f);
        return FAIL(ERR_IO, "%s is not a regular file", path);
    }
    *fd = f;
    *bytes = (size_t)st.st_size;
    return 0;
}

/* The NUL behind the data is not counted in *bytes, so that texts are strings without a copy. A
 * file that shrinks while it is read gives what is left of it. */
int file_read(char **out, size_t *bytes, const char *path, size_t max_bytes) {
    int fd;
    size_t size, got = 0;
    TRY(open_regular(&fd, &size, path));
    if (size > max_bytes) {
        close(fd);
        return FAIL(ERR_CORRUPT, "%s has %zu bytes, more than the limit of %zu", path, size,
                    max_bytes);
    }
    char *data = mem_alloc(size + 1);
    while (got < size) {
        ssize_t n = read(fd, data + got, size - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int rc = fail_errno("read", path);
            close(fd);
            mem_free(data);
            return rc;
        }
        if (n == 0) break;
        got += (size_t)n;
    }
    close(fd);
    data[got] = '\0';
    *out = data;
    *bytes = got;
    return 0;
}

int file_map_open(struct file_map *out, const char *path) {
    int fd;
    size_t size;
    TRY(open_regular(&fd, &size, path));
    void *p = NULL;
    if (size > 0) {
        p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            int rc = fail_errno("map", path);
            close(fd);
            return rc;
        }
    }
    close(fd);
    *out = (struct file_map){.data = p, .bytes = size};
    return 0;
}

void file_map_close(struct file_map *m) {
    if (m->data) munmap((void *)(uintptr_t)m->data, m->bytes);
    *m = (struct file_map){0};
}

int file_write_all(int fd, const void *data, size_t bytes, const char *name) {
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno("write", name);
        p += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int file_sync_dir(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno("open directory", dir);
    int rc = fsync(fd) == 0 ? 0 : fail_errno("sync directory", dir);
    close(fd);
    return rc;
}

static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return mem_strdup(".");
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

int file_writer_open(struct file_writer *out, const char *path) {
    char *tmp = mem_printf("%s.tmp", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        int rc = fail_errno("create", tmp);
        mem_free(tmp);
        return rc;
    }
    *out = (struct file_writer){.fd = fd, .path = mem_strdup(path), .tmp = tmp};
    return 0;
}

int file_writer_add(struct file_writer *w, const void *data, size_t bytes) {
    return file_write_all(w->fd, data, bytes, w->tmp);
}

static void writer_close(struct file_writer *w) {
    mem_free(w->path);
    mem_free(w->tmp);
    *w = (struct file_writer){.fd = -1};
}

int file_writer_commit(struct file_writer *w) {
    char *dir = parent_of(w->path);
    int rc = fsync(w->fd) == 0 ? 0 : fail_errno("sync", w->tmp);
    if (close(w->fd) != 0 && rc == 0) rc = fail_errno("close", w->tmp);
    if (rc == 0 && rename(w->tmp, w->path) != 0) rc = fail_errno("rename to", w->path);
    if (rc == 0) rc = file_sync_dir(dir);
    if (rc < 0) unlink(w->tmp);
    writer_close(w);
    mem_free(dir);
    return rc;
}

void file_writer_abort(struct file_writer *w) {
    if (!w->path) return;
    close(w->fd);
    unlink(w->tmp);
    writer_close(w);
}

int file_write_atomic(const char *path, const void *data, size_t bytes) {
    struct file_writer w;
    TRY(file_writer_open(&w, path));
    int rc = file_writer_add(&w, data, bytes);
    if (rc == 0) return file_writer_commit(&w);
    file_writer_abort(&w);
    return rc;
}

/* Like mkdir -p: two processes may do it at once. */
int file_mkdirs(const char *dir) {
    char *copy = mem_strdup(dir);
    int rc = 0;
    for (char *p = copy + 1; rc == 0; p++) {
        if (*p != '/' && *p != '\0') continue;
        char saved = *p;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) rc = fail_errno("create directory", copy);
        *p = saved;
        if (saved == '\0') break;
    }
    mem_free(copy);
    if (rc == 0 && !file_is_dir(dir)) rc = FAIL(ERR_IO, "%s exists and is not a directory", dir);
    return rc;
}

/* Walks by descriptor and never follows a link, so that a link in RUN that points elsewhere costs
 * the link and not what it points to. */
static int remove_at(int parent, const char *name, const char *shown) {
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return fail_errno("remove", shown);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return fail_errno("open directory", shown);
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return fail_errno("read directory", shown);
    }
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        rc = remove_at(dirfd(d), e->d_name, e->d_name);
    }
    closedir(d);
    if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0) rc = fail_errno("remove", shown);
    return rc;
}

int file_remove_tree(const char *dir) {
    return remove_at(AT_FDCWD, dir, dir);
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool file_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *file_join(const char *dir, const char *name) {
    return mem_printf("%s/%s", dir, name);
}
