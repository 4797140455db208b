/* group_state.c - see group_state.h. The names are stored in logs. */
#include "rollout/log/group_state.h"

#include <string.h>

static const char *const reason_names[GROUPS_REASONS] = {
    "", "stale", "reward", "prompt", "aborted", "zero", "weights", "manual", "lost"};

const char *group_reason_name(enum groups_reason r) {
    return reason_names[r];
}

enum groups_reason groups_reason_from(const char *name) {
    for (int i = 1; i < GROUPS_REASONS; i++)
        if (strcmp(name, reason_names[i]) == 0) return (enum groups_reason)i;
    return GROUPS_KEPT;
}
