/* sim_net.h - the world of a simulation: one virtual clock, one source of chance, and messages
 * between a server and its peers that take their time. What a connection keeps is what ZeroMQ
 * keeps: order within a connection, none between connections; what was under way when an end died
 * is lost in part; a peer that nobody serves queues. The same seed gives the same world. */
#ifndef TESTS_SIM_SIM_NET_H
#define TESTS_SIM_SIM_NET_H

#include "base/env.h"

struct sim_net;

struct sim_net *sim_net_open(uint64_t seed);
void sim_net_close(struct sim_net **n); /* after the envs of it */
/* Of one process: closing env.net closes its sockets, as its death does. */
struct env sim_net_env(struct sim_net *n);

uint64_t sim_net_now(const struct sim_net *n);
void sim_net_set_now(struct sim_net *n, uint64_t now_us);
uint64_t sim_net_below(struct sim_net *n, uint64_t limit); /* by chance, 0 .. limit - 1 */
bool sim_net_chance(struct sim_net *n, uint64_t one_in);
/* When the next message arrives at the server or the peer (NULL: the server); UINT64_MAX: none is
 * under way. */
uint64_t sim_net_arrival(const struct sim_net *n, const char *peer);

#endif
