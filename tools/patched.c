#include "tools/patched.h"

#include <stdio.h>

enum status patched_load(const char *backbone, const char *patch, struct patched *ret, struct error *err)
{
	struct patched p = { 0 };
	bool unnamed = false;
	enum status status = trunk_file_load(backbone, &p.trunk, err);
	if (!status)
		status = patch_load(patch, p.trunk.net, p.trunk.hash, &p.patch, &unnamed, err);
	if (status) {
		patched_close(&p);
		return status;
	}
	if (unnamed)
		(void)fprintf(stderr, "peterctl: %s: does not say which backbone it belongs to\n", patch);
	*ret = p;
	return STATUS_OK;
}

void patched_close(struct patched *p)
{
	patch_free(p->patch);
	trunk_file_close(&p->trunk);
	*p = (struct patched){ 0 };
}
