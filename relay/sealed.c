/* sealed.c - see sealed.h. Fresh pages cost several times the copy that fills them, so files are
 * used again, and the kernel's promise has two halves: F_SEAL_FUTURE_WRITE leaves the trainer's own
 * mapping as the only way to write, and flock tells the trainer that nobody reads. A lock belongs
 * to an open file: a reader that is killed has none a moment later, without a timeout or a count
 * that could be wrong.
 *
 * The first page is changed under the exclusive lock only. A reader looks at it when it has its
 * lock: what it says then holds until the lock goes. So a place heard of too late (the file was
 * filled again, the pid or the descriptor belongs to something else) is an error, never other
 * bytes. */
#include "relay/sealed.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SEALED_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE,
    SEALED_PAGE = 4096 /* the first page; the version begins aligned after it */
};

static const uint64_t sealed_magic = 0x77656967687473aaU;

struct first_page {
    uint64_t magic; /* 0: being filled */
    int64_t version;
    uint64_t bytes;
    struct hash hash;
    struct sealed_note note;
};

static size_t file_bytes(size_t bytes) {
    return bytes + SEALED_PAGE;
}

/* --- the writer ---------------------------------------------------------------------------- */

static int map_file(void **out, int fd, size_t bytes, int prot, int flags) {
    void *p = mmap(NULL, file_bytes(bytes), prot, MAP_SHARED | flags, fd, 0);
    if (p == MAP_FAILED)
        return FAIL(ERR_NOMEM, "cannot map %zu bytes of shared memory: %s", bytes, strerror(errno));
    *out = p;
    return 0;
}

int sealed_create(struct sealed *out, size_t bytes) {
    int rc = 0, err;
    struct sealed s = {.fd = memfd_create("weir-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING),
                       .bytes = bytes};
    if (s.fd < 0) return FAIL(ERR_IO, "cannot create shared memory: %s", strerror(errno));
    /* Reserved now: running out later would be a signal in the middle of a copy. */
    if ((err = posix_fallocate(s.fd, 0, (off_t)file_bytes(bytes))) != 0) {
        rc = FAIL(ERR_NOMEM, "cannot reserve %zu bytes of shared memory: %s", bytes, strerror(err));
        goto out;
    }
    TRY_OUT(map_file(&s.map, s.fd, bytes, PROT_READ | PROT_WRITE, MAP_POPULATE));
    if (fcntl(s.fd, F_ADD_SEALS, SEALED_SEALS | F_SEAL_SEAL) != 0) {
        rc = FAIL(ERR_IO, "cannot seal shared memory: %s", strerror(errno));
        goto out;
    }
    bool mine = sealed_reuse(&s);
    ASSERT(mine); /* nobody knows of it yet */
    *out = s;
    s = (struct sealed){.fd = -1};
out:
    sealed_close(&s);
    return rc;
}

bool sealed_reuse(struct sealed *s) {
    if (flock(s->fd, LOCK_EX | LOCK_NB) != 0) return false;
    memset(s->map, 0, sizeof(struct first_page));
    return true;
}

void *sealed_area(const struct sealed *s) {
    return (char *)s->map + SEALED_PAGE;
}

void sealed_set_note(struct sealed *s, const struct sealed_note *note) {
    ((struct first_page *)s->map)->note = *note;
}

struct sealed_note sealed_note(const struct sealed *s) {
    return ((const struct first_page *)s->map)->note;
}

int sealed_finish(struct sealed *s, int64_t version, struct hash hash) {
    struct first_page first = {.magic = sealed_magic,
                               .version = version,
                               .bytes = s->bytes,
                               .hash = hash,
                               .note = sealed_note(s)};
    memcpy(s->map, &first, sizeof first);
    if (flock(s->fd, LOCK_UN) != 0)
        return FAIL(ERR_IO, "cannot unlock shared memory: %s", strerror(errno));
    return 0;
}

/* --- readers ------------------------------------------------------------------------------- */

static int check_file(int fd, const char *path, size_t bytes) {
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALED_SEALS) != SEALED_SEALS)
        return FAIL(ERR_CORRUPT, "%s is not sealed shared memory", path);
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != file_bytes(bytes))
        return FAIL(ERR_CORRUPT, "%s has %" PRId64 " bytes, wanted %zu", path, (int64_t)st.st_size,
                    file_bytes(bytes));
    return 0;
}

static int check_first_page(const struct sealed *s, const char *path, int64_t version,
                            struct hash hash) {
    struct first_page first;
    memcpy(&first, s->map, sizeof first);
    if (first.magic == sealed_magic && first.version == version && first.bytes == s->bytes &&
        hash_equal(first.hash, hash))
        return 0;
    return FAIL(ERR_NOTFOUND, "%s does not hold version %" PRId64 " any more", path, version);
}

static int open_holder(int *out, const char *path) {
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f < 0) {
        int code = errno == ENOENT || errno == ESRCH ? ERR_NOTFOUND : ERR_CORRUPT;
        return FAIL(code, "cannot open %s: %s", path, strerror(errno));
    }
    *out = f;
    return 0;
}

int sealed_open(struct sealed *out, int64_t pid, int32_t holder_fd, int64_t version, size_t bytes,
                struct hash hash) {
    int rc = 0;
    struct sealed s = {.fd = -1, .bytes = bytes};
    char *path = mem_printf("/proc/%" PRId64 "/fd/%" PRId32, pid, holder_fd);
    TRY_OUT(open_holder(&s.fd, path));
    TRY_OUT(check_file(s.fd, path, bytes));
    if (flock(s.fd, LOCK_SH | LOCK_NB) != 0) {
        rc = FAIL(ERR_NOTFOUND, "%s is being filled with another version", path);
        goto out;
    }
    TRY_OUT(map_file(&s.map, s.fd, bytes, PROT_READ, 0));
    TRY_OUT(check_first_page(&s, path, version, hash));
    *out = s;
    s = (struct sealed){.fd = -1};
out:
    sealed_close(&s);
    mem_free(path);
    return rc;
}

int sealed_verify(const struct sealed *s, struct hash hash) {
    if (hash_equal(hash_slab(NULL, sealed_area(s), s->bytes, 0), hash)) return 0;
    return FAIL(ERR_CORRUPT, "shared memory: hash differs from the one announced");
}

/* Clipped to the mapping: what lies behind it is someone else's and would be lost. */
void sealed_passed(const struct sealed *s, size_t at, size_t n) {
    if (at >= s->bytes || at % SEALED_PAGE != 0) return;
    if (n > s->bytes - at) n = s->bytes - at;
    madvise((char *)sealed_area(s) + at, n, MADV_DONTNEED);
}

void sealed_unmap(struct sealed *s) {
    if (s->map) munmap(s->map, file_bytes(s->bytes));
    s->map = NULL;
}

/* Unlocks by name: a child that was forked shares the open file, and closing would not be enough.
 */
void sealed_close(struct sealed *s) {
    sealed_unmap(s);
    if (s->fd >= 0) {
        flock(s->fd, LOCK_UN);
        close(s->fd);
    }
    s->fd = -1;
}
