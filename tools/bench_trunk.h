/* `peterctl bench trunk`: events a second that one core takes through the trunk. Main thread. */
#ifndef TOOLS_BENCH_TRUNK_H
#define TOOLS_BENCH_TRUNK_H

#include "base/error.h"

/* argv[0] is "trunk". Prints a row a figure on stdout, then the peers' where they are installed (tools/bench_peers.py).
 * Errors: STATUS_USAGE, STATUS_MEMORY, STATUS_IO. */
enum status bench_trunk(int argc, char **argv, struct error *err) MUST_CHECK;

#endif
