/* clock.h - time. Monotonic for durations and deadlines, wall for records that people read. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_us(void); /* monotonic microseconds; the same clock in every process of a machine */
uint64_t clock_wall_us(void); /* microseconds since 1970 UTC */
uint64_t clock_cpu_us(void);  /* processor time of this process, all threads */
void clock_sleep_us(uint64_t us);

#endif
