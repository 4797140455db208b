/* shared.h - files that only some machines have (data sets, released models). A test that uses one
 * is skipped where it is absent. */
#ifndef TESTS_SHARED_H
#define TESTS_SHARED_H

/* "DIR/name" with DIR = $WEIR_SHARED or ../shared. The name stays valid until the next call; ends
 * the test as skipped if nothing is there. */
const char *test_shared_path(const char *name);

#endif
