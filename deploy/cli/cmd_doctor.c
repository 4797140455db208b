/* cmd_doctor.c - `weir doctor`: what this machine has that Weir uses, and what to fix. Each check
 * is one line: ok, note (works, with less) or fix (a run would fail). Exit status 0 unless there is
 * something to fix. */
#include "base/buf.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/net.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct doctor {
    bool json;
    int lines, to_fix;
};

static void say(struct doctor *d, const char *state, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void say(struct doctor *d, const char *state, const char *what, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    d->to_fix += strcmp(state, "fix") == 0;
    if (d->json) {
        struct buf line = {0};
        struct json_write w = json_write_to(&line, JSON_LINE);
        json_write_object(&w, NULL);
        json_write_str(&w, "check", what);
        json_write_str(&w, "state", state);
        json_write_str(&w, "text", text);
        json_write_end(&w);
        printf("%s\n", line.data);
        buf_close(&line);
    } else {
        printf("%-4s  %-14s %s\n", state, what, text);
    }
    d->lines++;
}

static void check_cpu(struct doctor *d) {
    const char *best = "none: the scalar path is used, slowly";
    const char *state = "note";
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
        best = "AVX-512", state = "ok";
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        best = "AVX2 and FMA", state = "ok";
    say(d, state, "cpu", "%ld cores, vector instructions: %s", sysconf(_SC_NPROCESSORS_ONLN), best);
}

static void check_memory(struct doctor *d) {
    double total = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double free_bytes = (double)sysconf(_SC_AVPHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    say(d, "ok", "memory", "%.1f GiB, %.1f GiB unused", total / 0x1p30, free_bytes / 0x1p30);
}

static void check_backend(struct doctor *d, const char *device) {
    const struct kern_backend *b;
    int rc = kern_open(&b, device, 1);
    if (rc == 0) {
        say(d, "ok", device, "backend %s opens", b->name);
        kern_close(b);
    } else {
        say(d, kern_device_on_host(device) ? "fix" : "note", device, "%s", err_text());
    }
}

/* Weights travel in sealed memfds that other processes open through /proc. */
static void check_shared_memory(struct doctor *d) {
    char path[64];
    int fd = memfd_create("weir-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING), again;
    if (fd < 0 || ftruncate(fd, 4096) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
        say(d, "fix", "shared memory", "sealed memfd: %s; a kernel of 3.17 or newer is needed",
            strerror(errno));
        if (fd >= 0) close(fd);
        return;
    }
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), fd);
    again = open(path, O_RDONLY | O_CLOEXEC);
    if (again < 0)
        say(d, "fix", "shared memory", "%s: %s; /proc must be mounted and readable", path,
            strerror(errno));
    else
        say(d, "ok", "shared memory", "sealed memfds can be handed over");
    if (again >= 0) close(again);
    close(fd);
}

/* Each service holds log files of the store, sockets and a memfd for each version. */
static void check_limits(struct doctor *d) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    bool few = files.rlim_cur < 1024;
    say(d, few ? "fix" : "ok", "open files", "limit %" PRIu64 "%s", (uint64_t)files.rlim_cur,
        few ? "; raise it to 1024 or more: ulimit -n 4096" : "");
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    if (core.rlim_cur == 0)
        say(d, "note", "core dumps", "off; ulimit -c unlimited keeps the state of a crash");
}

static void check_disk(struct doctor *d) {
    struct statvfs vfs;
    if (statvfs(".", &vfs) != 0) {
        say(d, "fix", "disk", "current directory: %s", strerror(errno));
        return;
    }
    double free_bytes = (double)vfs.f_bavail * (double)vfs.f_frsize;
    say(d, free_bytes < 0x1p30 ? "note" : "ok", "disk",
        "%.1f GiB free here; runs/ holds log and checkpoints", free_bytes / 0x1p30);
}

/* Where a run's sockets would fail, said before one is started: no /tmp, a path that is too long, a
 * sandbox without unix sockets. */
static void check_sockets(struct doctor *d) {
    char dir[] = "/tmp/weir-doctor-XXXXXX", *endpoint = NULL;
    struct net *net = NULL;
    struct net_sock *server = NULL;
    int rc = mkdtemp(dir) ? net_open(&net)
                          : FAIL(ERR_IO, "cannot create a directory in /tmp: %s", strerror(errno));
    if (rc == 0) rc = net_endpoint(&endpoint, net, dir, "doctor");
    if (rc == 0) rc = net_serve(&server, net, endpoint, 1 << 20);
    if (rc == 0)
        say(d, "ok", "sockets", "local sockets can be bound");
    else
        say(d, "fix", "sockets", "%s", err_text());
    net_sock_close(&server);
    net_close(&net);
    mem_free(endpoint);
    err_ignore(file_remove_tree(dir), "nothing depends on it");
}

int cmd_doctor(int argc, char **argv) {
    struct doctor d = {0};
    struct args_option options[] = {
        {"json", ARGS_FLAG, &d.json, NULL, "one JSON object per check", 0, 0}};
    struct args_verb verb = {
        "weir doctor [--json]", "Says what this machine has and what to fix.", options, 1, 0, 0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    check_cpu(&d);
    check_memory(&d);
    check_backend(&d, "ref");
    check_backend(&d, "cpu");
    check_backend(&d, "cuda:0");
    check_shared_memory(&d);
    check_sockets(&d);
    check_limits(&d);
    check_disk(&d);
    return d.to_fix ? FAIL(ERR_DEVICE, "%d of %d checks need fixing", d.to_fix, d.lines) : 0;
}
