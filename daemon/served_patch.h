/* A live version of a task's patch, as the lanes serve it: immutable, held by whoever uses it. Any thread. */
#ifndef DAEMON_SERVED_PATCH_H
#define DAEMON_SERVED_PATCH_H

#include "base/error.h"
#include "base/hash.h"
#include "model/patch.h"

#include <stdint.h>

struct served_patch {
	_Atomic unsigned holders;
	struct patch *patch; /* nobody changes it */
	char hash[HASH_HEX_LENGTH + 1];
	uint64_t version;
};

/* Held once; takes the patch, also when it fails. Errors: STATUS_MEMORY. */
enum status served_patch_new(struct patch *patch, uint64_t version, struct served_patch **ret,
			     struct error *err) MUST_CHECK;
struct served_patch *served_patch_hold(struct served_patch *p); /* once more; NULL is fine; returns it */
void served_patch_release(struct served_patch *p);              /* NULL is fine */

#endif
