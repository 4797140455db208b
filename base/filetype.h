/* filetype.h - what a file is when it is not what its reader wanted. A reader that fails asks here,
 * so that the error says "Parquet" and what to do about it, not where its bytes stop being JSON. */
#ifndef BASE_FILETYPE_H
#define BASE_FILETYPE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum filetype {
    FILETYPE_JSON,
    FILETYPE_JSONL,
    FILETYPE_YAML,
    FILETYPE_JINJA,
    FILETYPE_SAFETENSORS
};

/* Bytes of the UTF-8 byte order mark that a text begins with: 3 or 0. Readers of text skip it. */
size_t filetype_bom(const void *data, size_t bytes);

/* rc, a reader's failure on `name`, whose whole content (or at least its beginning) is data. Where
 * the first bytes are those of another kind of file than `wanted`, its text is replaced by what the
 * file is and how to make one of the wanted kind. 0 stays 0. */
MUST_CHECK int filetype_explain(int rc, const void *data, size_t bytes, const char *name,
                                enum filetype wanted);

/* The same for a reader that did not come so far as to have the content, such as of a file above
 * its limit. */
MUST_CHECK int filetype_explain_file(int rc, const char *path, enum filetype wanted);

/* rc, a failure to open something at path, which is meant to be a model folder (or a data set):
 * where path is written like the id of a repository of the Hugging Face hub or like a URL, the text
 * says that nothing is downloaded and how to do it; and where it is a file instead of a folder (or
 * the reverse), it says so. */
MUST_CHECK int filetype_explain_path(int rc, const char *path, bool model);

#endif
