/* team.h - the threads of the cpu backend: a fixed team that runs the items of one job at a time.
 * Private to kernels/cpu. */
#ifndef KERNELS_CPU_TEAM_H
#define KERNELS_CPU_TEAM_H

#include "base/err.h"

#include <stdint.h>

/* Runs item i of the job as member `member` (0 is the caller). Items are independent. */
typedef void cpu_team_fn(void *ctx, int64_t item, int member);

MUST_CHECK int cpu_team_open(int threads); /* 0: one per core this process may use */
void cpu_team_close(void);
int cpu_team_size(void); /* members, the caller included; 1 when closed */
/* Calls fn for items 0..n-1, each once, in any order and on any member; done on return. Runs all of
 * them on the caller when the team has one member, is busy with another thread's job, or was opened
 * before a fork. */
void cpu_team_run(cpu_team_fn *fn, void *ctx, int64_t n);

#endif
