/* peterctl bench learning: from a label to the first update that learnt from it, and what learning costs serving. */
#ifndef TOOLS_BENCH_LEARNING_H
#define TOOLS_BENCH_LEARNING_H

#include "base/error.h"

enum status bench_learning(int argc, char **argv, struct error *err) MUST_CHECK;

#endif
