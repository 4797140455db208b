/* cmd_version.c - `weir version`: what this binary is. */
#include "base/json_write.h"
#include "deploy/cli/args.h"
#include "deploy/cli/verbs.h"
#include "kernels/kernels.h"

#include <stdbool.h>
#include <stdio.h>

int cmd_version(int argc, char **argv) {
    bool json = false;
    struct args_option options[] = {{"json", ARGS_FLAG, &json, NULL, "one JSON object", 0, 0}};
    struct args_verb verb = {
        "weir version [--json]", "Prints the version and the backend ABI.", options, 1, 0, 0};
    int rc = args_parse(&verb, argc, argv, NULL, NULL);
    if (rc != 0) return rc < 0 ? rc : 0;
    if (!json) {
        printf("weir %s (kernel ABI %d)\n", WEIR_VERSION, KERN_ABI);
        return 0;
    }
    struct buf line = {0};
    struct json_write w = json_write_to(&line, JSON_LINE);
    json_write_object(&w, NULL);
    json_write_str(&w, "version", WEIR_VERSION);
    json_write_int(&w, "kern_abi", KERN_ABI);
    json_write_end(&w);
    printf("%s\n", line.data);
    buf_close(&line);
    return 0;
}
