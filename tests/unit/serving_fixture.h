/* A backbone in both its forms, tasks, and versions of their patches with random weights. */
#ifndef TESTS_UNIT_SERVING_FIXTURE_H
#define TESTS_UNIT_SERVING_FIXTURE_H

#include "config/config.h"
#include "daemon/task_set.h"
#include "io/patch_plan.h"
#include "model_fixture.h"
#include "patch_record_fixture.h"

#include <string.h>

struct serving {
	struct backbone *backbone;
	struct network *net;
	struct config *config; /* of the first tasks */
	struct task_set *tasks;
	struct patch_table *table; /* what the topic would say */
	struct patch_plan plans[8];
	int64_t offset;
};

static inline void serving_load(struct serving *s, bool causal)
{
	struct error err;
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	fixture_write(path, &(struct random_backbone){ 8, 2, "1,2", causal, causal ? 0 : 9, 1 });
	if (network_load_beside(path, &s->backbone, &s->net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	(void)unlink(path);
}

/* The tasks of these lines of YAML, a `- {...}` each, in force. */
static inline void serving_tasks(struct serving *s, const char *lines)
{
	char yaml[4096];
	struct error err;
	struct config *config = NULL;
	task_set_release(s->tasks);
	int length = snprintf(yaml, sizeof yaml, "backbone: b\nstate_dir: s\nkafka: {bootstrap.servers: h}\n%s%s",
			      *lines ? "tasks:\n" : "", lines);
	if (config_parse("test.yaml", yaml, (size_t)length, &config, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	if (task_set_of(config->tasks, config->tasks_count, backbone_blocks(s->backbone), &s->tasks, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	if (s->config)
		config_free(config);
	else
		s->config = config;
}

static inline void serving_open(struct serving *s, bool causal, const char *lines)
{
	struct error err;
	*s = (struct serving){ 0 };
	serving_load(s, causal);
	serving_tasks(s, lines);
	assert_int_equal(patch_table_new(false, &s->table, &err), STATUS_OK);
	for (size_t i = 0; i < sizeof s->plans / sizeof *s->plans; i++)
		patch_plan_begin(NULL, &s->plans[i]);
}

static inline void serving_close(struct serving *s)
{
	patch_table_free(s->table);
	task_set_release(s->tasks);
	config_free(s->config);
	network_free(s->net);
	backbone_free(s->backbone);
}

static inline const struct served_task *serving_task(const struct serving *s, const char *name)
{
	const struct served_task *task = task_set_find(s->tasks, slice_of(name));
	assert_non_null(task);
	return task;
}

/* A version of the task's shape with normal weights; `labels` NULL: the definition's. */
static inline struct patch *serving_patch(const struct serving *s, const struct served_task *task, uint64_t seed,
					  const char *const labels[], uint32_t classes)
{
	struct random_stream random = random_from(seed, 77);
	struct patch *p = NULL;
	struct error err;
	if (!labels && task->spec.type != PATCH_REGRESSION) {
		labels = (const char *const *)task->definition.labels.items;
		classes = (uint32_t)task->definition.labels.count;
	}
	if (task->spec.type == PATCH_REGRESSION)
		classes = 1;
	if (patch_new(&task->spec, s->net, task->definition.name, labels, classes, &random, &p, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < p->table.count; i++)
		for (size_t k = 0; k < p->table.list[i].count; k++)
			p->weights[p->table.list[i].offset + k] += 0.3F * random_normal(&random);
	memcpy(p->backbone, backbone_hash(s->backbone), sizeof p->backbone);
	p->version = seed;
	return p;
}

static inline void serving_encode(const struct patch *p, struct buffer *out)
{
	struct error err;
	buffer_clear(out);
	assert_int_equal(patch_encode(p, out, &err), STATUS_OK);
}

/* The same, as it comes back from its bytes. */
static inline struct served_patch *serving_version(const struct serving *s, struct patch *p, uint64_t version)
{
	struct buffer bytes = { 0 };
	struct served_patch *served = NULL;
	struct patch *loaded = NULL;
	struct error err;
	bool unnamed;
	serving_encode(p, &bytes);
	if (patch_load_memory("version", bytes.data, bytes.length, s->net, backbone_hash(s->backbone), &loaded,
			      &unnamed, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_int_equal(served_patch_new(loaded, version, &served, &err), STATUS_OK);
	buffer_free(&bytes);
	patch_free(p);
	return served;
}

/* What a decision of the task's lineage says, with the hash of `bytes` (NULL: that of the plan's live version). */
static inline struct patch_record serving_record(const struct serving *s, const struct patch_plan *plan,
						 const struct served_task *task, enum patch_decision decision,
						 uint64_t version, const struct buffer *bytes)
{
	struct patch_record r = record_of(task->definition.name, plan->number, decision, NULL);
	memcpy(r.definition, task->hash, sizeof r.definition);
	memcpy(r.backbone, backbone_hash(s->backbone), sizeof r.backbone);
	memcpy(r.predecessor, plan->live, sizeof r.predecessor);
	r.version = version;
	if (bytes)
		hash_sha256_hex(bytes->data, bytes->length, r.patch);
	else
		memcpy(r.patch, plan->live, sizeof r.patch);
	return r;
}

static inline void serving_apply(struct serving *s, const struct patch_key *key, struct slice value)
{
	char text[PATCH_KEY_SIZE];
	struct patch_change change;
	struct error err;
	struct slice bytes = { (const uint8_t *)text, patch_key_format(key, text) };
	assert_int_equal(patch_table_apply(s->table, bytes, value, 0, s->offset++, &change, &err), STATUS_OK);
	assert_null(change.refusal);
}

/* Puts the record into the table, and the bytes where there are any. */
static inline void serving_decide(struct serving *s, struct patch_plan *plan, struct patch_record *r,
				  const struct buffer *bytes)
{
	struct buffer value = { 0 };
	const struct slice task = slice_of(r->task);
	if (bytes) {
		r->has_weights = true;
		r->weights = (struct patch_weights){ patch_plan_slot(plan, r), 1, bytes->length, "" };
		memcpy(r->weights.sha256, r->patch, sizeof r->patch);
		serving_apply(s, &(struct patch_key){ PATCH_KEY_CHUNK, task, r->weights.slot, 0 },
			      slice_of_buffer(bytes));
		patch_record_encode_manifest(r, &value);
		serving_apply(s, &(struct patch_key){ PATCH_KEY_MANIFEST, task, r->weights.slot, 0 },
			      slice_of_buffer(&value));
		buffer_clear(&value);
	}
	patch_record_encode(r, &value);
	serving_apply(s, &(struct patch_key){ PATCH_KEY_DECISION, task, 0, (uint32_t)(r->number % PATCH_DECISIONS) },
		      slice_of_buffer(&value));
	patch_plan_note(plan, r);
	buffer_free(&value);
}

/* A promotion of the task's plan. Takes the patch. */
static inline void serving_promote(struct serving *s, struct patch_plan *plan, const struct served_task *task,
				   struct patch *p, uint64_t version)
{
	struct buffer bytes = { 0 };
	serving_encode(p, &bytes);
	struct patch_record r = serving_record(s, plan, task, PATCH_PROMOTED, version, &bytes);
	serving_decide(s, plan, &r, &bytes);
	patch_free(p);
	buffer_free(&bytes);
}

#endif
