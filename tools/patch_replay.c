#include "tools/patch_replay.h"

#include "base/clock.h"
#include "daemon/decision.h"
#include "daemon/example_input.h"
#include "daemon/learner_setup.h"
#include "daemon/task_fit.h"
#include "io/patch_topic.h"
#include "io/task_record.h"
#include "io/task_topic.h"
#include "tools/ctl.h"
#include "tools/scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SETTLE_US = 2000000 };

struct replay {
	const struct config *config;
	const char *name;
	int timeout_ms;
	struct backbone *backbone;
	struct network *net;
	struct patch_topic *patches;
	const struct patch_entry *entry;
	const struct patch_record *newest;
	struct served_task *task;
	struct learner_setup setup;
	struct learner *learner;
	struct example_input *input;
	struct scan *scan; /* of the examples */
	uint64_t begins;   /* offset from which on the partition still has them */
	int64_t start;     /* of the first one that counts */
	int64_t stop;      /* behind the last one that a record names */
	bool ended;
	struct taken_example *waiting; /* [count] from `first` on: read and in no cut yet */
	size_t first, count, capacity;
	struct learner_example *cut; /* scratch, [cut_capacity] */
	size_t cut_capacity;
	struct patch_replay result;
};

/* ---- what it is about ---- */

static enum status copy_task(const struct config_task *from, struct config_task *ret, struct error *err)
{
	struct buffer bytes = { 0 };
	const struct slice key = { (const uint8_t *)from->name, strlen(from->name) };
	task_record_encode(from, &bytes);
	enum status status = bytes.failed
				     ? error_set_memory(err)
				     : task_record_decode(key, (struct slice){ bytes.data, bytes.length }, ret, err);
	buffer_free(&bytes);
	return status;
}

/* The definition in force: of the tasks topic, or else of the configuration. */
static enum status find_task(struct replay *r, struct config_task *ret, struct error *err)
{
	struct task_topic *topic = NULL;
	const struct task_fit fit = { r->backbone, r->config->sequences_keep };
	const struct task_judge judge = task_fit_judge(&fit);
	const struct slice key = { (const uint8_t *)r->name, strlen(r->name) };
	enum status status = task_topic_open(r->config, &judge, r->timeout_ms, &topic, err);
	if (!status)
		status = task_topic_catch_up(topic, r->timeout_ms, err);
	const struct task_entry *entry = status ? NULL : task_table_find(task_topic_table(topic), key);
	const struct config_task *task = entry && entry->defined ? &entry->task : NULL;
	for (size_t i = 0; !status && !entry && i < r->config->tasks_count; i++)
		if (!strcmp(r->config->tasks[i].name, r->name))
			task = &r->config->tasks[i];
	if (!status)
		status = task ? copy_task(task, ret, err)
			      : error_set(err, STATUS_DATA, "task %s: there is no definition of it", r->name);
	task_topic_close(topic);
	return status;
}

static enum status set_up(struct replay *r, struct error *err)
{
	struct config_task task = { 0 };
	enum status status = backbone_load(r->config->backbone, &r->backbone, err);
	if (!status)
		status = network_load(r->config->backbone, &r->net, err);
	if (!status)
		status = find_task(r, &task, err);
	if (!status)
		status = served_task_new(&task, backbone_blocks(r->backbone), &r->task, err);
	config_task_clear(&task);
	if (status)
		return status;
	if (strcmp(r->task->hash, r->newest->definition))
		return error_set(err, STATUS_DATA, "task %s: the newest record is of another definition, %s", r->name,
				 r->newest->definition);
	if (strcmp(backbone_hash(r->backbone), r->newest->backbone))
		return error_set(err, STATUS_DATA, "task %s: the newest record is of another backbone, %s", r->name,
				 r->newest->backbone);
	memcpy(r->result.definition, r->newest->definition, sizeof r->result.definition);
	memcpy(r->result.backbone, r->newest->backbone, sizeof r->result.backbone);
	r->setup = learner_setup(r->task, r->config, r->backbone, r->net);
	return example_input_new(r->backbone, &r->input, err);
}

static bool same_lineage(const struct replay *r, const struct patch_record *record)
{
	return !strcmp(record->definition, r->newest->definition) && !strcmp(record->backbone, r->newest->backbone);
}

/* ---- examples ---- */

static enum status push(struct replay *r, const struct taken_example *taken, struct error *err)
{
	if (r->first > 0 && r->first + r->count == r->capacity) {
		memmove(r->waiting, r->waiting + r->first, r->count * sizeof *r->waiting);
		r->first = 0;
	}
	if (r->count == r->capacity) {
		const size_t capacity = r->capacity ? 2 * r->capacity : 256;
		struct taken_example *larger = reallocarray(r->waiting, capacity, sizeof *larger);
		if (!larger)
			return error_set_memory(err);
		r->waiting = larger;
		r->capacity = capacity;
	}
	r->waiting[r->first + r->count++] = *taken;
	return STATUS_OK;
}

static void drop(struct replay *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(r->waiting[r->first + i].memory);
	r->first += n;
	r->count -= n;
}

static enum status take_message(struct replay *r, const rd_kafka_message_t *message, struct error *err)
{
	struct example example;
	struct taken_example taken;
	if (message->partition != r->newest->examples.partition || message->offset < r->start ||
	    message->offset >= r->stop || message->key_len != strlen(r->name) ||
	    memcmp(message->key, r->name, message->key_len))
		return STATUS_OK;
	enum status status = example_decode((struct slice){ message->payload, message->len }, &example, err);
	if (!status && (example.kind == EXAMPLE_ROLLBACK || !example_input_fits(r->task, &r->setup, &example)))
		return STATUS_OK; /* a request is a decision of the records */
	if (!status)
		status = example_input_take(r->input, r->task, &r->setup, &example, (uint64_t)message->offset, &taken,
					    err);
	if (status == STATUS_DATA) /* the learner passed it over too */
		return STATUS_OK;
	if (status)
		return status;
	status = push(r, &taken, err);
	if (status)
		free(taken.memory);
	return status;
}

/* Reads on until so many examples wait, or there are no more. */
static enum status read_examples(struct replay *r, size_t wanted, struct error *err)
{
	int64_t deadline_us = clock_monotonic_us() + (int64_t)r->timeout_ms * 1000;
	while (r->count < wanted && !r->ended) {
		rd_kafka_message_t *message;
		enum status status = scan_next(r->scan, 100, &message, err);
		if (status)
			return status;
		if (message) {
			status = take_message(r, message, err);
			rd_kafka_message_destroy(message);
			deadline_us = clock_monotonic_us() + (int64_t)r->timeout_ms * 1000;
		} else if (scan_ended(r->scan)) {
			r->ended = true;
		} else if (ctl_stopping() || clock_monotonic_us() > deadline_us) {
			return error_set(err, STATUS_UNAVAILABLE, "topic %s: not read to its end",
					 r->config->examples_topic);
		}
		if (status)
			return status;
	}
	return STATUS_OK;
}

/* ---- doing again ---- */

static enum status differs(const struct replay *r, const struct patch_record *record, const char *what,
			   struct error *err)
{
	return error_set(err, STATUS_DATA, "task %s: record %" PRIu64 ", version %" PRIu64 ": %s", r->name,
			 record->number, record->version, what);
}

static enum status do_cut(struct replay *r, const struct patch_record *record, const struct patch_cut *cut,
			  struct error *err)
{
	struct learner_report report;
	const size_t count = (size_t)cut->count;
	enum status status = read_examples(r, count, err);
	if (status)
		return status;
	if (r->count < count || count == 0 || r->waiting[r->first].example.offset != cut->offset)
		return differs(r, record, "a cut's examples are not there", err);
	if (count > r->cut_capacity) {
		struct learner_example *larger = reallocarray(r->cut, count, sizeof *larger);
		if (!larger)
			return error_set_memory(err);
		r->cut = larger;
		r->cut_capacity = count;
	}
	for (size_t i = 0; i < count; i++)
		r->cut[i] = r->waiting[r->first + i].example;
	if (r->cut[count - 1].offset >= (uint64_t)record->examples.next)
		return differs(r, record, "a cut ends behind the record's examples", err);
	const struct learner_cut again = { r->cut, count, cut->steps };
	status = learner_consume(r->learner, &again, &report, err);
	drop(r, count);
	r->result.cuts++;
	r->result.examples += count;
	return status;
}

static enum status decide(struct replay *r, const struct patch_record *record, struct error *err)
{
	const struct learner_decision decision = decision_recorded(record);
	if (record->decision == PATCH_CREATED || record->decision == PATCH_CHECKPOINT)
		return STATUS_OK;
	if (!record->has_gate)
		return differs(r, record, "a decision without its numbers", err);
	return learner_apply(r->learner, &decision, err);
}

/* The live patch's bytes against the record's hash, and against the slot where they still stand. */
static enum status compare_bytes(struct replay *r, const struct patch_record *record, struct error *err)
{
	struct buffer made = { 0 }, there = { 0 };
	char hash[HASH_HEX_LENGTH + 1] = "";
	const struct patch_slot *slot = patch_entry_version(r->entry, record->patch);
	enum status status = patch_encode(learner_live(r->learner), &made, err);
	if (!status)
		hash_sha256_hex(made.data, made.length, hash);
	if (!status && strcmp(hash, record->patch))
		status = differs(r, record, "other bytes come out", err);
	if (!status && slot)
		status = patch_entry_bytes(r->entry, slot, &there, err);
	if (!status && slot && (made.length != there.length || memcmp(made.data, there.data, made.length) != 0))
		status = differs(r, record, "other bytes stand in the slot", err);
	r->result.slots += !status && slot;
	r->result.versions += !status;
	if (!status)
		learner_name_live(r->learner, hash);
	buffer_free(&made);
	buffer_free(&there);
	return status;
}

static enum status compare(struct replay *r, const struct patch_record *record, struct error *err)
{
	const struct learner_counts *counts = learner_counts(r->learner);
	const bool fresh = record->decision == PATCH_CREATED || record->decision == PATCH_PROMOTED;
	if (learner_live(r->learner)->version != record->version)
		return differs(r, record, "another version is live", err);
	if (counts->labels != record->labels_trained || counts->dropped != record->labels_dropped)
		return differs(r, record, "another number of labels was trained on or dropped", err);
	if (fresh)
		return compare_bytes(r, record, err);
	if (strcmp(learner_live(r->learner)->hash, record->patch))
		return differs(r, record, "another patch is live", err);
	return STATUS_OK;
}

static enum status do_record(struct replay *r, const struct patch_record *record, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < record->cut_count && !status; i++)
		status = do_cut(r, record, &record->cuts[i], err);
	/* Whatever the record says is consumed has been: nothing of it may wait. */
	if (!status)
		status = read_examples(r, 1, err);
	if (!status && r->count > 0 && r->waiting[r->first].example.offset < (uint64_t)record->examples.next)
		status = differs(r, record, "an example is in no cut", err);
	if (!status)
		status = decide(r, record, err);
	if (!status)
		status = compare(r, record, err);
	r->result.records += !status;
	return status;
}

/* ---- where to begin ---- */

/* Whether the examples of the records from that index on are all there still, as far as offsets tell. */
static bool has_examples(const struct replay *r, size_t from)
{
	for (size_t i = from; i < r->entry->decision_count; i++)
		if (r->entry->decisions[i]->cut_count > 0)
			return r->entry->decisions[i]->cuts[0].offset >= r->begins;
	return true;
}

/* The index behind the record of a checkpoint; 0: it is not there, or a slot has no checkpoint of this lineage. */
static size_t behind_checkpoint(const struct replay *r, const struct patch_slot *slot)
{
	if (slot->state != PATCH_SLOT_WHOLE || !same_lineage(r, &slot->record))
		return 0;
	for (size_t i = 0; i < r->entry->decision_count; i++)
		if (r->entry->decisions[i]->number == slot->record.number)
			return i + 1;
	return 0;
}

/* A learner as it was, but for what is in its reservoir; *ret_whole: that can be read again. */
static enum status restore(struct replay *r, const struct patch_slot *slot, bool *ret_whole, struct error *err)
{
	struct buffer bytes = { 0 };
	uint64_t wanted;
	enum status status = patch_entry_bytes(r->entry, slot, &bytes, err);
	learner_free(r->learner);
	r->learner = NULL;
	if (!status)
		status = learner_restore(&r->setup.options, &r->setup.lineage, bytes.data, bytes.length, &r->learner,
					 err);
	buffer_free(&bytes);
	*ret_whole = !status && (!learner_wants(r->learner, &wanted) || wanted >= r->begins);
	return status;
}

static enum status refill(struct replay *r, const struct patch_slot *slot, struct error *err)
{
	uint64_t wanted;
	enum status status;
	while (!(status = read_examples(r, 1, err)) && r->count > 0 &&
	       r->waiting[r->first].example.offset < (uint64_t)slot->record.examples.next) {
		if (r->waiting[r->first].example.kind == LEARNER_LABEL)
			learner_refill(r->learner, &r->waiting[r->first].example);
		drop(r, 1);
	}
	if (!status && learner_wants(r->learner, &wanted))
		status = error_set(err, STATUS_DATA,
				   "task %s: the example at offset %" PRIu64
				   ", which was trained on again, is not there any more",
				   r->name, wanted);
	return status;
}

/* The oldest checkpoint behind the record of that number whose own examples are there, NULL: there is none; *ret_at as above. */
static const struct patch_slot *next_checkpoint(const struct replay *r, uint64_t number, size_t *ret_at)
{
	const struct patch_slot *oldest = NULL;
	for (uint32_t s = PATCH_VERSION_SLOTS; s < PATCH_SLOTS; s++) {
		const struct patch_slot *slot = &r->entry->slots[s];
		const size_t at = behind_checkpoint(r, slot);
		if (at && slot->record.number > number && has_examples(r, at) &&
		    (!oldest || slot->record.number < oldest->record.number)) {
			oldest = slot;
			*ret_at = at;
		}
	}
	return oldest;
}

/* From the older of the checkpoints, or from the newer where examples are gone that the older one trained on again. */
static enum status begin_at_checkpoint(struct replay *r, uint64_t created, size_t *ret, struct error *err)
{
	const struct patch_slot *slot = NULL;
	bool whole = false;
	enum status status = STATUS_OK;
	r->result.from_checkpoint = true;
	while (!status && !whole && (slot = next_checkpoint(r, slot ? slot->record.number : created, ret)))
		status = restore(r, slot, &whole, err);
	if (status)
		return status;
	return slot ? refill(r, slot, err)
		    : error_set(err, STATUS_DATA,
				"task %s: neither its beginning nor a checkpoint is there any more with all of its "
				"examples: those of topic %s begin at offset %" PRIu64,
				r->name, r->config->examples_topic, r->begins);
}

/* The index of the record that is done first: that of the lineage's creation, or the one behind a checkpoint. */
static enum status begin(struct replay *r, size_t *ret, struct error *err)
{
	struct patch_record **records = r->entry->decisions;
	for (size_t i = r->entry->decision_count; i-- > 0 && same_lineage(r, records[i]);) {
		if (records[i]->decision != PATCH_CREATED)
			continue;
		if (!has_examples(r, i))
			return begin_at_checkpoint(r, records[i]->number, ret, err);
		*ret = i;
		r->start = records[i]->examples.first;
		return learner_new(&r->setup.options, &r->setup.lineage, records[i]->timestamp_ms, &r->learner, err);
	}
	return begin_at_checkpoint(r, 0, ret, err);
}

/* Records follow each other without a gap, and so do their examples. */
static enum status check_order(const struct replay *r, size_t i, struct error *err)
{
	const struct patch_record *record = r->entry->decisions[i];
	const struct patch_record *before = i > 0 ? r->entry->decisions[i - 1] : NULL;
	if (record->decision == PATCH_CREATED || !before)
		return STATUS_OK;
	if (record->number != before->number + 1)
		return differs(r, record, "the record before it is missing", err);
	if (record->examples.first != before->examples.next || record->examples.partition != before->examples.partition)
		return differs(r, record, "its examples do not begin where those before it ended", err);
	if (record->labels_trained < before->labels_trained)
		return differs(r, record, "labels_trained falls", err);
	return STATUS_OK;
}

/* Bytes that are not what their manifest says. What was read may end within a transaction: the rest of it is waited for. */
static enum status check_slots(struct replay *r, struct error *err)
{
	const int64_t deadline_us = clock_monotonic_us() + SETTLE_US;
	for (;;) {
		const struct patch_slot *broken = NULL;
		struct patch_change ignored;
		bool got;
		for (uint32_t s = 0; s < PATCH_SLOTS; s++)
			if (r->entry->slots[s].state == PATCH_SLOT_BROKEN)
				broken = &r->entry->slots[s];
		if (!broken)
			return STATUS_OK;
		if (clock_monotonic_us() > deadline_us)
			return error_set(err, STATUS_DATA, "task %s: slot %d is not whole: %s", r->name,
					 (int)(broken - r->entry->slots), broken->reason);
		enum status status = patch_topic_poll(r->patches, 50, &got, &ignored, err);
		if (status)
			return status;
	}
}

static enum status find_entry(struct replay *r, struct error *err)
{
	enum status status = patch_topic_open(r->config, true, r->timeout_ms, &r->patches, err);
	if (!status)
		status = patch_topic_catch_up(r->patches, r->timeout_ms, err);
	if (status)
		return status;
	r->entry = patch_table_find(patch_topic_table(r->patches), r->name);
	if (r->entry && check_slots(r, err))
		return err->status;
	r->newest = r->entry ? patch_entry_newest(r->entry) : NULL;
	if (!r->newest)
		return error_set(err, STATUS_NO_INPUT, "topic %s: nothing of task %s", r->config->patches_topic,
				 r->name);
	if (!patch_entry_live(r->entry) || (*r->newest->predecessor && !patch_entry_predecessor(r->entry)))
		return error_set(err, STATUS_DATA, "topic %s: the bytes of task %s's %s are not there",
				 r->config->patches_topic, r->name,
				 patch_entry_live(r->entry) ? "predecessor" : "live version");
	r->stop = r->newest->examples.next;
	r->result.labels = r->newest->labels_trained;
	r->result.newest = r->newest->version;
	return STATUS_OK;
}

static enum status run(struct replay *r, struct error *err)
{
	size_t at = 0;
	enum status status = find_entry(r, err);
	if (!status)
		status = set_up(r, err);
	if (!status)
		status = scan_open(r->config, r->config->examples_topic, SCAN_BEGINNING, true, &r->scan, err);
	const int32_t partition = status ? 0 : r->newest->examples.partition;
	if (!status && (partition < 0 || partition >= scan_partitions(r->scan)))
		status = error_set(err, STATUS_DATA, "topic %s: there is no partition %d, of which the records tell",
				   r->config->examples_topic, partition);
	if (!status) {
		r->begins = (uint64_t)scan_start(r->scan, partition);
		status = begin(r, &at, err);
	}
	for (; !status && at < r->entry->decision_count; at++) {
		status = check_order(r, at, err);
		if (!status)
			status = do_record(r, r->entry->decisions[at], err);
	}
	return status;
}

enum status patch_replay_run(const struct config *config, const char *task, int timeout_ms, struct patch_replay *ret,
			     struct error *err)
{
	struct replay r = { .config = config, .name = task, .timeout_ms = timeout_ms };
	enum status status = run(&r, err);
	drop(&r, r.count);
	free(r.waiting);
	free(r.cut);
	scan_close(r.scan);
	learner_free(r.learner);
	example_input_free(r.input);
	served_task_release(r.task);
	network_free(r.net);
	backbone_free(r.backbone);
	patch_topic_close(r.patches);
	if (!status)
		*ret = r.result;
	return status;
}
