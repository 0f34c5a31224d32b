#include "daemon/served_patch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum status served_patch_new(struct patch *patch, uint64_t version, struct served_patch **ret, struct error *err)
{
	struct served_patch *p = calloc(1, sizeof *p);
	if (!p) {
		patch_free(patch);
		return error_set_memory(err);
	}
	p->holders = 1;
	p->patch = patch;
	p->version = version;
	memcpy(p->hash, patch->hash, sizeof p->hash);
	*ret = p;
	return STATUS_OK;
}

struct served_patch *served_patch_hold(struct served_patch *p)
{
	if (p)
		atomic_fetch_add(&p->holders, 1);
	return p;
}

void served_patch_release(struct served_patch *p)
{
	if (!p || atomic_fetch_sub(&p->holders, 1) > 1)
		return;
	patch_free(p->patch);
	free(p);
}
