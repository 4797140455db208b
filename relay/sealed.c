/* sealed.c - see sealed.h. F_SEAL_WRITE makes the kernel promise what a protocol could only ask
 * for: after the hash agreed once, the bytes cannot change under a reader, whatever its writer
 * does. A holder's pid and descriptor may have been reused by the time they are opened; then the
 * seals, the size or the hash do not agree and the answer is an error, never other bytes. */
#include "relay/sealed.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEALED_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

int sealed_create(int *fd, void **area, size_t bytes) {
    int f = memfd_create("weir-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (f < 0) return FAIL(ERR_IO, "cannot create shared memory: %s", strerror(errno));
    /* Reserved now: running out later would be a signal in the middle of a copy. */
    int err = posix_fallocate(f, 0, (off_t)bytes);
    if (err != 0) {
        close(f);
        return FAIL(ERR_NOMEM, "cannot reserve %zu bytes of shared memory: %s", bytes,
                    strerror(err));
    }
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    if (p == MAP_FAILED) {
        int rc =
            FAIL(ERR_NOMEM, "cannot map %zu bytes of shared memory: %s", bytes, strerror(errno));
        close(f);
        return rc;
    }
    *fd = f;
    *area = p;
    return 0;
}

int sealed_finish(int fd, void *area, size_t bytes) {
    munmap(area, bytes);
    if (fcntl(fd, F_ADD_SEALS, SEALED_SEALS | F_SEAL_SEAL) != 0)
        return FAIL(ERR_IO, "cannot seal shared memory: %s", strerror(errno));
    return 0;
}

static int check_file(int fd, const char *path, size_t bytes) {
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALED_SEALS) != SEALED_SEALS)
        return FAIL(ERR_CORRUPT, "%s is not sealed shared memory", path);
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != bytes)
        return FAIL(ERR_CORRUPT, "%s has %" PRId64 " bytes, wanted %zu", path, (int64_t)st.st_size,
                    bytes);
    return 0;
}

static int map_checked(const void **data, int fd, const char *path, size_t bytes,
                       struct hash hash) {
    void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return FAIL(ERR_IO, "cannot map %zu bytes of %s: %s", bytes, path, strerror(errno));
    if (!hash_equal(hash_bytes(p, bytes), hash)) {
        munmap(p, bytes);
        return FAIL(ERR_CORRUPT, "%s: hash differs from the one announced", path);
    }
    *data = p;
    return 0;
}

int sealed_open(int *fd, const void **data, int64_t pid, int32_t holder_fd, size_t bytes,
                struct hash hash) {
    int rc = 0;
    const void *p = NULL;
    char *path = mem_printf("/proc/%" PRId64 "/fd/%" PRId32, pid, holder_fd);
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f < 0) {
        int code = errno == ENOENT || errno == ESRCH ? ERR_NOTFOUND : ERR_CORRUPT;
        rc = FAIL(code, "cannot open %s: %s", path, strerror(errno));
        goto out;
    }
    TRY_OUT(check_file(f, path, bytes));
    TRY_OUT(map_checked(&p, f, path, bytes, hash));
    *fd = f;
    *data = p;
    f = -1;
out:
    if (f >= 0) close(f);
    mem_free(path);
    return rc;
}

void sealed_unmap(const void *data, size_t bytes) {
    /* munmap wants a mutable pointer; the pages are read-only. */
    if (data) munmap((void *)(uintptr_t)data, bytes);
}

void sealed_hash_put(uint8_t out[16], struct hash h) {
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(h.hi >> (8 * i));
        out[8 + i] = (uint8_t)(h.lo >> (8 * i));
    }
}

struct hash sealed_hash_get(const uint8_t in[16]) {
    struct hash h = {0};
    for (int i = 0; i < 8; i++) {
        h.hi |= (uint64_t)in[i] << (8 * i);
        h.lo |= (uint64_t)in[8 + i] << (8 * i);
    }
    return h;
}
