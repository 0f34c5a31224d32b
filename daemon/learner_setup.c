#include "daemon/learner_setup.h"

#include "base/hash.h"

#include <string.h>

static uint64_t seed_of(const struct served_task *task, const struct backbone *backbone)
{
	char both[2 * HASH_HEX_LENGTH];
	memcpy(both, task->hash, HASH_HEX_LENGTH);
	memcpy(both + HASH_HEX_LENGTH, backbone_hash(backbone), HASH_HEX_LENGTH);
	return hash_item(both, sizeof both);
}

static struct learner_options options_of(const struct served_task *task, const struct config *config)
{
	const struct config_task *d = &task->definition;
	const bool given = d->labels.count > 0;
	struct learner_options o =
		learner_defaults(task->spec.type, task->spec.insertion, config_task_max_age_ms(config, d));
	if (given)
		o.loss = tuner_default_loss(task->spec.type, (uint32_t)d->labels.count);
	if (d->loss)
		(void)tuner_loss_parse(d->loss, &o.loss); /* one of task.def's */
	if (d->negatives > 0)
		o.negatives = (uint32_t)d->negatives;
	o.rate = (float)d->rate;
	o.replay = (uint32_t)d->replay;
	o.grows = o.grows && !given;
	o.min_labels = (uint64_t)config_task_min_labels(config, d);
	return o;
}

struct learner_setup learner_setup(const struct served_task *task, const struct config *config,
				   const struct backbone *backbone, const struct network *net)
{
	struct learner_setup s = { .options = options_of(task, config), .net = net };
	s.options.seed = seed_of(task, backbone);
	s.lineage = (struct learner_lineage){
		.task = task->definition.name,
		.spec = task->spec,
		.labels = (const char *const *)task->definition.labels.items,
		.classes = (uint32_t)task->definition.labels.count,
		.backbone = backbone_hash(backbone),
		.shape = &net->shape,
		.net = task->spec.insertion == PATCH_SIDE ? NULL : net,
	};
	if (task->spec.type == PATCH_REGRESSION) {
		s.lineage.labels = NULL;
		s.lineage.classes = 1;
	}
	return s;
}

enum status learner_setup_identity(const struct learner_setup *setup, struct patch **ret, struct error *err)
{
	struct buffer bytes = { 0 };
	struct learner *learner = NULL;
	bool unnamed;
	enum status status = learner_new(&setup->options, &setup->lineage, 0, &learner, err);
	if (status == STATUS_OK)
		status = patch_encode(learner_live(learner), &bytes, err);
	if (status == STATUS_OK)
		status = patch_load_memory("identity patch", bytes.data, bytes.length, setup->net,
					   setup->lineage.backbone, ret, &unnamed, err);
	learner_free(learner);
	buffer_free(&bytes);
	return status;
}
