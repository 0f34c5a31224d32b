/* `peterctl bench avro`: what a record costs on the way in and out. Main thread. */
#ifndef TOOLS_BENCH_AVRO_H
#define TOOLS_BENCH_AVRO_H

#include "base/error.h"

/* argv[0] is "avro". Prints a row a figure on stdout, Avro C's generic reader and writer beside ours, in one run over the
 * same bytes. Errors: STATUS_USAGE, STATUS_MEMORY, STATUS_BUG (Avro C and ours differ). */
enum status bench_avro(int argc, char **argv, struct error *err) MUST_CHECK;

#endif
