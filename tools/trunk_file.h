/* A backbone's file as the offline commands need it: weights to run, a vocabulary to look items up in, its hash. */
#ifndef TOOLS_TRUNK_FILE_H
#define TOOLS_TRUNK_FILE_H

#include "base/error.h"
#include "base/hash.h"
#include "model/network.h"
#include "model/vocabulary.h"

#include <stdbool.h>

struct trunk_file {
	struct network *net;
	struct vocabulary *vocabulary;
	char hash[HASH_HEX_LENGTH + 1]; /* of the file */
	bool task;                      /* next items are ranked from the task token's state, otherwise the newest's */
};

/* Errors: those of network_load; STATUS_DATA where the file changed in between. */
enum status trunk_file_load(const char *path, struct trunk_file *ret, struct error *err) MUST_CHECK;
void trunk_file_close(struct trunk_file *t); /* a zeroed one is fine */

#endif
