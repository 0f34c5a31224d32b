/* `peterctl bench train`: pre-training, serial and side patches on synthetic data, PyTorch beside them. Main thread. */
#ifndef TOOLS_BENCH_TRAIN_H
#define TOOLS_BENCH_TRAIN_H

#include "base/error.h"

/* argv[0] is "train". Prints a row a figure on stdout; the peer takes turns with us where it is installed
 * (tools/bench_peers_train.py). Errors: STATUS_USAGE, STATUS_MEMORY, STATUS_IO. */
enum status bench_train(int argc, char **argv, struct error *err) MUST_CHECK;

#endif
