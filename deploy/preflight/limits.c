/* limits.c - see limits.h. Libraries end the process where a descriptor or a thread's stack cannot
 * be had, minutes into a run perhaps; here it is one line before the start. What a plan cannot know
 * (libraries, stacks, buffers) is counted as measured, rounded up. */
#include "deploy/preflight/limits.h"

#include "base/file.h"
#include "base/mem.h"
#include "kernels/kernels.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

enum { FILES_BASE = 192 /* tables of the log, mostly */, FILES_PER_ROLLOUT = 2, PATH_BYTES = 4096 };

#define MIB ((size_t)1 << 20)
#define ADDRESS_MANAGER (384 * MIB) /* the log's buffers and the stacks of its threads */
#define ADDRESS_BASE (320 * MIB)    /* of another service, beside what the plan has */
#define MEMORY_BASE (32 * MIB)      /* resident, of each service, beside what the plan has */

/* Sockets are descriptors of the manager and the relay, one or two for each rollout. */
static int check_files(const struct recipe *r) {
    struct rlimit files;
    rlim_t need = FILES_BASE + FILES_PER_ROLLOUT * (rlim_t)r->rollout.workers;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= need) return 0;
    rlim_t was = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    if (files.rlim_max >= need && setrlimit(RLIMIT_NOFILE, &files) == 0) return 0;
    return FAIL(ERR_NOMEM,
                "the limit of open files is %" PRIu64 ", a run with %" PRId64
                " rollouts needs %" PRIu64 ": ulimit -n %" PRIu64,
                (uint64_t)was, r->rollout.workers, (uint64_t)need, (uint64_t)need * 4);
}

static size_t largest(size_t a, size_t b) {
    return a > b ? a : b;
}

static int check_address_space(const struct start_report_plan *p, size_t rollout, size_t trainer) {
    struct rlimit space;
    size_t part = largest(rollout, trainer) + p->relay;
    size_t need = largest(ADDRESS_MANAGER, ADDRESS_BASE + part);
    if (getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur >= need) return 0;
    return FAIL(ERR_NOMEM,
                "the limit of address space is %" PRIu64
                " MiB, a service of this run needs up to %zu MiB: ulimit -v unlimited",
                (uint64_t)space.rlim_cur / MIB, need / MIB);
}

/* The number in a file of a control group; SIZE_MAX: no limit, or no such file. */
static size_t read_limit(const char *dir, const char *name) {
    char *path = file_join(dir, name), line[64] = "";
    size_t limit = SIZE_MAX;
    FILE *f = fopen(path, "re");
    if (f && fgets(line, sizeof line, f) && *line >= '0' && *line <= '9')
        limit = (size_t)strtoull(line, NULL, 10);
    if (f) fclose(f);
    mem_free(path);
    return limit;
}

/* The least of a group's and its parents' limits. */
static size_t group_limit(const char *root, char *group, const char *name) {
    size_t least = SIZE_MAX;
    for (;;) {
        char *dir = mem_printf("%s%s", root, group);
        size_t limit = read_limit(dir, name);
        mem_free(dir);
        if (limit < least) least = limit;
        char *slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

/* A line of /proc/self/cgroup: "0::/a/b" (version 2) or "4:memory:/a/b". */
static size_t memory_limit(void) {
    size_t least = SIZE_MAX;
    char line[PATH_BYTES];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *kind = strchr(line, ':'), *group = kind ? strchr(kind + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        size_t limit = SIZE_MAX;
        if (kind[1] == '\0')
            limit = group_limit("/sys/fs/cgroup", group, "memory.max");
        else if (strstr(kind, "memory"))
            limit = group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
        if (limit < least) least = limit;
    }
    if (f) fclose(f);
    return least;
}

static int check_memory(const struct recipe *r, const struct start_report_plan *p, size_t rollout,
                        size_t trainer) {
    struct sysinfo machine;
    size_t n = (size_t)r->rollout.workers, group = memory_limit();
    size_t services = n + 4 + (r->data.n_eval > 0);
    size_t need = n * rollout + trainer + p->relay + services * MEMORY_BASE;
    size_t have = sysinfo(&machine) == 0 ? (size_t)machine.totalram * machine.mem_unit : SIZE_MAX;
    bool grouped = group < have;
    if (grouped) have = group;
    if (need <= have) return 0;
    return FAIL(
        ERR_NOMEM,
        "%s %zu MiB of memory, this run needs %zu MiB (trainer %zu, each of %zu "
        "rollouts %zu, versions of weights %zu): give it more, or use fewer rollouts, a smaller "
        "rollout.kv_memory or trainer.batch.tokens",
        grouped ? "the control group allows" : "this machine has", have / MIB, need / MIB,
        trainer / MIB, n, rollout / MIB, p->relay / MIB);
}

int limits_check(const struct recipe *r, const struct start_report_plan *p) {
    size_t rollout = kern_device_on_host(r->rollout.device) ? p->rollout : 0;
    size_t trainer = kern_device_on_host(r->trainer.device) ? p->trainer : 0;
    TRY(check_files(r));
    TRY(check_address_space(p, rollout, trainer));
    return check_memory(r, p, rollout, trainer);
}
