/* A trunk whose weights were trained further, as a backbone's file. Main thread. */
#ifndef TOOLS_FINETUNE_TRUNK_H
#define TOOLS_FINETUNE_TRUNK_H

#include "base/error.h"
#include "base/hash.h"
#include "model/network.h"

/* Writes the file `from` with the network's weights in place of its own, to `to`: vocabulary and metadata stay, and metadata
 * `parent` names the hash of `from`. ret_hash: of the new file. Errors: those of safetensors_open and safetensors_write. */
enum status finetune_trunk_write(const char *from, const struct network *net, const char *to,
				 char ret_hash[HASH_HEX_LENGTH + 1], struct error *err) MUST_CHECK;

#endif
