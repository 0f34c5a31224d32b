/* A backbone and a patch made for it, from their files. Main thread. */
#ifndef TOOLS_PATCHED_H
#define TOOLS_PATCHED_H

#include "base/error.h"
#include "model/patch.h"
#include "tools/trunk_file.h"

struct patched {
	struct trunk_file trunk;
	struct patch *patch;
};

/* A patch that names no backbone passes, with a warning on stderr. Errors: those of trunk_file_load and patch_load. */
enum status patched_load(const char *backbone, const char *patch, struct patched *ret, struct error *err) MUST_CHECK;
void patched_close(struct patched *p); /* a zeroed one is fine */

#endif
