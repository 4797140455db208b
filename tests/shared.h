/* shared.h - what only some machines have: files (data sets, released models), a GPU, the right to
 * mount a small disk. A test that uses one is skipped where it is absent. */
#ifndef TESTS_SHARED_H
#define TESTS_SHARED_H

#include <stdbool.h>

/* "DIR/name" with DIR = $WEIR_SHARED or ../shared. The name stays valid until the next call; ends
 * the test as skipped if nothing is there. */
const char *test_shared_path(const char *name);

/* The device of the tests with "_cuda_" in their names: $WEIR_DEVICE, or cuda:0 (tests/gpu.sh). */
const char *test_device(void);
bool test_device_is_slow(void); /* a simulated one: a few cases stand for the others */

/* Runs body in a child on a file system of its own, in memory, of `size` ("6m"): dir is its root.
 * A failure in body still unmounts. */
void test_on_small_disk(const char *size, void (*body)(const char *dir));

#endif
