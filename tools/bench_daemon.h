/* `peterctl bench daemon`: what an event costs the whole daemon through a real broker, and how long it takes. Main thread. */
#ifndef TOOLS_BENCH_DAEMON_H
#define TOOLS_BENCH_DAEMON_H

#include "base/error.h"

/* argv[0] is "daemon". Prints two rows on stdout. Errors: STATUS_USAGE, STATUS_UNAVAILABLE, STATUS_BUG (peterd ended). */
enum status bench_daemon(int argc, char **argv, struct error *err) MUST_CHECK;

#endif
