/* arena.h - the memory of the simulated device: addresses that the host cannot use.
 *
 * Once guarded, it is without any right except while a kernel or a copy runs, so code of Weir that
 * reads or writes device memory by its address dies at that place, as it would with a GPU. Under
 * the address sanitizer the memory is the heap instead: there the ends of each allocation matter
 * more. */
#ifndef CUDASIM_ARENA_H
#define CUDASIM_ARENA_H

#include <stddef.h>

void *arena_take(size_t bytes); /* 256-byte aligned, nullptr: none is left */
void arena_release(void *p);
/* Moves a block into memory that has a descriptor; -1: it cannot. */
int arena_share(void *p, size_t *bytes);
void *arena_map(int fd, size_t bytes); /* such memory of another process; arena_release */
bool arena_has(const void *p);         /* whether it is an address of the device */
size_t arena_used(void);               /* bytes; 0 where it is the heap */
void arena_guard(void);                /* from now on */
/* Around whatever a device does; they nest, and may be called by several threads. */
void arena_enter(void);
void arena_leave(void);

#endif
