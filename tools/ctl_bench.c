/* peterctl bench: the benchmarks of the README. */
#include "tools/ctl.h"

#include "tools/bench_avro.h"
#include "tools/bench_daemon.h"
#include "tools/bench_learning.h"
#include "tools/bench_train.h"
#include "tools/bench_trunk.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	enum status (*run)(int argc, char **argv, struct error *err);
	const char *text;
} benches[] = {
	{ "trunk", bench_trunk, "events a second a core of the incremental trunk, beside peers where installed" },
	{ "train", bench_train, "training: pre-training, serial and side patches, beside PyTorch where installed" },
	{ "avro", bench_avro, "decoding and encoding of the hot records, beside Avro C" },
	{ "daemon", bench_daemon, "the whole daemon through a real broker: CPU an event, append to update" },
	{ "learning", bench_learning, "the same while it learns: label to the first update that learnt from it" },
};

enum status ctl_bench(int argc, char **argv, struct error *err)
{
	const char *names[CTL_COUNT(benches)];
	for (size_t i = 0; i < CTL_COUNT(benches); i++)
		names[i] = benches[i].name;
	if (argc < 2)
		return error_set(err, STATUS_USAGE,
				 "bench: which one is missing: trunk, train, avro, daemon or learning");
	if (!strcmp(argv[1], "--help")) {
		printf("Usage: peterctl bench BENCH [OPTION]...\n"
		       "       peterctl bench BENCH --help\n\nBenches:\n");
		for (size_t i = 0; i < CTL_COUNT(benches); i++)
			printf("  %-8s %s\n", benches[i].name, benches[i].text);
		return STATUS_OK;
	}
	for (size_t i = 0; i < CTL_COUNT(benches); i++)
		if (!strcmp(argv[1], names[i]))
			return benches[i].run(argc - 1, argv + 1, err);
	const char *nearest = ctl_nearest(argv[1], names, CTL_COUNT(names));
	return error_set(err, STATUS_USAGE, "%s: unknown bench%s%s", argv[1],
			 nearest ? "; did you mean " : "; trunk, train, avro, daemon or learning",
			 nearest ? nearest : "");
}
