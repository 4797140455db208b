/* kernels.h - what computes: opening a backend (backend.h) and the checked calls of its ops
 * (call.h). The only header of this folder that others include. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "kernels/backend.h"
#include "kernels/call.h"

/* device: "ref", "cpu", "cuda:N" or "auto" (cuda:0 if the plugin loads, else cpu). threads: 0 = all
 * cores. The table is valid until kern_close. ERR_DEVICE with the loader's or driver's message when
 * cuda cannot be had. */
MUST_CHECK int kern_open(const struct kern_backend **out, const char *device, int threads);
void kern_close(const struct kern_backend *b);
/* Whether that name is of a backend with on_host, without opening it; false for "auto". */
bool kern_device_on_host(const char *device);

#endif
