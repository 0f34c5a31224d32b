/* The proof of a task's lineage: its patches made again from the examples and what the patches topic says of cuts, steps and
 * decisions, and held against the bytes that it has. Main thread. */
#ifndef TOOLS_PATCH_REPLAY_H
#define TOOLS_PATCH_REPLAY_H

#include "base/error.h"
#include "base/hash.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdint.h>

struct patch_replay {
	char definition[HASH_HEX_LENGTH + 1];
	char backbone[HASH_HEX_LENGTH + 1];
	bool from_checkpoint; /* the lineage's beginning is no longer on the topic, or no longer its examples */
	uint64_t records;     /* done again */
	uint64_t cuts;
	uint64_t examples;
	uint64_t labels;   /* trained, says the last record */
	uint64_t versions; /* that went live and came out with the same hash */
	uint64_t slots;    /* versions whose bytes the topic still has: the same to the byte */
	uint64_t newest;   /* version that is live */
};

/* Errors: STATUS_NO_INPUT (no record of the task), STATUS_DATA (what comes out differs, records leave examples out or take them
 * twice, another definition or backbone is in force, examples are gone, bytes are damaged or missing that the topic has to have),
 * those of reading the topics and of loading the backbone. */
enum status patch_replay_run(const struct config *config, const char *task, int timeout_ms, struct patch_replay *ret,
			     struct error *err) MUST_CHECK;

enum status ctl_patch_verify(int argc, char **argv,
			     struct error *err) MUST_CHECK; /* the command; argv[0] is its name */

#endif
