/* lines.h - a file or a pipe, line by line, with a limit on the length of one. */
#ifndef BASE_LINES_H
#define BASE_LINES_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct lines; /* opaque; one thread */

/* path NULL: standard input. name() is the path or "standard input". */
MUST_CHECK int lines_open(struct lines **out, const char *path, size_t line_bytes_max);
void lines_close(struct lines **l);
const char *lines_name(const struct lines *l);

/* The next line without its end (\n or \r\n), NUL-terminated, valid until the next call; *text NULL
 * at the end of the file. A last line without an end counts. ERR_CORRUPT names file, line and limit
 * when a line is too long. Returns what is there as soon as a whole line is. */
MUST_CHECK int lines_next(struct lines *l, const char **text, size_t *bytes);
int64_t lines_number(const struct lines *l); /* of the line given last, from 1 */

#endif
