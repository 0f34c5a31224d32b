#include "tools/local_fit.h"

#include <stdio.h>

enum status local_fit_open(const struct config *config, struct local_fit *ret, struct error *err)
{
	enum status status = backbone_load(config->backbone, &ret->backbone, &ret->why);
	if (status == STATUS_MEMORY)
		return error_set_memory(err);
	if (status)
		return STATUS_OK;
	ret->fit = (struct task_fit){ ret->backbone, config->sequences_keep };
	ret->judge = task_fit_judge(&ret->fit);
	return STATUS_OK;
}

void local_fit_close(struct local_fit *f)
{
	backbone_free(f->backbone);
	*f = (struct local_fit){ 0 };
}

const struct task_judge *local_fit_judge(const struct local_fit *f)
{
	return f->backbone ? &f->judge : NULL;
}

void local_fit_say(const struct local_fit *f)
{
	if (!f->backbone)
		(void)fprintf(stderr, "peterctl: %s; whether a definition fits the backbone is for the daemon to say\n",
			      f->why.text);
}
