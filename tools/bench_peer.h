/* A peer that a benchmark takes turns with: a script driven through pipes (tools/bench_peers_train.py). It is told what to
 * run and for how long, runs it, and tells the rate. Main thread; SIGPIPE is ignored. */
#ifndef TOOLS_BENCH_PEER_H
#define TOOLS_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>

struct bench_peer;

enum { BENCH_PEER_MODES = 4 };

/* NULL, and a line on stderr, where there is no script, no interpreter, or no peer installed. */
struct bench_peer *bench_peer_start(const char *python, const char *script, int threads);
void bench_peer_stop(struct bench_peer *p); /* NULL is fine */

const char *bench_peer_name(const struct bench_peer *p);                /* "PyTorch 2.x" */
size_t bench_peer_modes(const struct bench_peer *p);                    /* at most BENCH_PEER_MODES */
const char *bench_peer_mode(const struct bench_peer *p, size_t number); /* "eager" */

/* Rows a second of so many seconds; false, and a line on stderr, where that mode cannot do it. */
bool bench_peer_run(struct bench_peer *p, const char *what, size_t mode, double seconds, double *ret_per_second);

#endif
