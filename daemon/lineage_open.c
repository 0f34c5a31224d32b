/* Opening a lineage from what the patches topic has of its task, and doing again what is recorded since its checkpoint. */
#include "daemon/lineage_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/decision.h"

#include <stdlib.h>
#include <string.h>

enum { REPEAT_US = 300000 }; /* of one call, and the cut that was begun: the lane may have been told to stop */

static bool is_ours(const struct lineage *l, const struct patch_record *r)
{
	return strcmp(r->definition, l->task->hash) == 0 && strcmp(r->backbone, l->setup.lineage.backbone) == 0;
}

void lineage_forget_repeats(struct lineage *l)
{
	for (size_t i = 0; i < l->repeat_count; i++)
		patch_record_clear(&l->repeats[i]);
	free(l->repeats);
	l->repeats = NULL;
	l->repeat_count = l->repeat_at = l->cut_at = 0;
}

static enum status copy_record(const struct patch_record *record, struct patch_record *ret, struct error *err)
{
	struct buffer bytes = { 0 };
	patch_record_encode(record, &bytes);
	enum status status = bytes.failed ? error_set_memory(err)
					  : patch_record_decode((struct slice){ bytes.data, bytes.length }, ret, err);
	buffer_free(&bytes);
	return status;
}

/* The records behind `base`, to be repeated; STATUS_DATA where one is missing between. */
static enum status copy_repeats(struct lineage *l, const struct patch_entry *entry, const struct patch_record *base,
				struct error *err)
{
	uint64_t number = base->number;
	int64_t next = base->examples.next;
	l->repeats = calloc(entry->decision_count + 1, sizeof *l->repeats);
	if (!l->repeats)
		return error_set_memory(err);
	for (size_t i = 0; i < entry->decision_count; i++) {
		const struct patch_record *r = entry->decisions[i];
		if (r->number <= base->number)
			continue;
		if (r->number != number + 1 || r->examples.first != next || !is_ours(l, r))
			return error_set(err, STATUS_DATA, "the record behind number %llu is missing",
					 (unsigned long long)number);
		enum status status = copy_record(r, &l->repeats[l->repeat_count], err);
		if (status != STATUS_OK)
			return status;
		l->repeat_count++;
		number = r->number;
		next = r->examples.next;
	}
	return STATUS_OK;
}

/* Examples from the base on are trained on; those that its reservoir names are read before. */
static void begin_reading(struct lineage *l, const struct patch_record *base)
{
	uint64_t wanted;
	l->next_offset = l->read_offset = base->examples.next;
	l->filled = !learner_wants(l->learner, &wanted);
	if (!l->filled && (int64_t)wanted < l->read_offset)
		l->read_offset = (int64_t)wanted;
	l->record.examples.partition = l->partition;
	l->record.examples.first = l->record.examples.next =
		l->repeat_count > 0 ? l->repeats[l->repeat_count - 1].examples.next : base->examples.next;
	l->checkpoint_labels = base->labels_trained;
}

/* The learner as its newest checkpoint has it, which is *ret_base. */
static enum status restore(struct lineage *l, const struct patch_entry *entry, const struct patch_record **ret_base,
			   struct error *err)
{
	const struct patch_slot *slot = patch_entry_checkpoint(entry);
	struct buffer bytes = { 0 };
	if (!slot || !is_ours(l, &slot->record))
		return error_set(err, STATUS_DATA, "it has no checkpoint");
	enum status status = patch_entry_bytes(entry, slot, &bytes, err);
	if (status == STATUS_OK)
		status = learner_restore(&l->setup.options, &l->setup.lineage, bytes.data, bytes.length, &l->learner,
					 err);
	buffer_free(&bytes);
	if (status == STATUS_OK)
		*ret_base = &slot->record;
	return status;
}

/* The learner as it was created. */
static enum status recreate(struct lineage *l, const struct patch_entry *entry, const struct patch_record **ret_base,
			    struct error *err)
{
	const struct patch_record *created = NULL;
	struct buffer bytes = { 0 };
	for (size_t i = 0; i < entry->decision_count; i++)
		if (entry->decisions[i]->decision == PATCH_CREATED)
			created = entry->decisions[i];
	if (!created || !is_ours(l, created))
		return error_set(err, STATUS_DATA, "the record of its creation is gone");
	enum status status = learner_new(&l->setup.options, &l->setup.lineage, created->timestamp_ms, &l->learner, err);
	if (status == STATUS_OK)
		status = lineage_name_live(l, &bytes, err);
	buffer_free(&bytes);
	if (status == STATUS_OK)
		*ret_base = created;
	return status;
}

/* The lineage goes on from what is older, but whoever keeps the topic should know. */
static void note_damage(const struct lineage *l, const struct patch_entry *entry)
{
	for (uint32_t i = PATCH_VERSION_SLOTS; i < PATCH_SLOTS; i++)
		if (entry->slots[i].state == PATCH_SLOT_BROKEN)
			log_warning("task %s: a checkpoint on topic %s is damaged: slot %u: %s", l->setup.lineage.task,
				    l->ctx->config->patches_topic, i, entry->slots[i].reason);
}

static enum status resume(struct lineage *l, const struct patch_entry *entry, struct error *err)
{
	const struct patch_record *base = NULL;
	note_damage(l, entry);
	enum status status = restore(l, entry, &base, err);
	if (status == STATUS_DATA)
		status = recreate(l, entry, &base, err);
	if (status == STATUS_OK && base->examples.partition != l->partition)
		status = error_set(err, STATUS_DATA, "its examples are in partition %d, now it is partition %d",
				   base->examples.partition, l->partition);
	if (status == STATUS_OK && base->examples.next > l->high)
		status = error_set(err, STATUS_DATA, "its examples are gone");
	if (status == STATUS_OK)
		status = copy_repeats(l, entry, base, err);
	if (status == STATUS_OK)
		begin_reading(l, base);
	return status;
}

static enum status start(struct lineage *l, const struct patch_entry *entry, struct error *err)
{
	const struct patch_record *newest = entry ? patch_entry_newest(entry) : NULL;
	patch_plan_begin(entry, &l->plan);
	l->checkpoint_us = clock_monotonic_us();
	if (!newest || !is_ours(l, newest))
		return lineage_begin_anew(l, err);
	enum status status = resume(l, entry, err);
	if (status != STATUS_DATA)
		return status;
	log_error("task %s: its learner cannot go on from topic %s: %s: it begins anew", l->setup.lineage.task,
		  l->ctx->config->patches_topic, err->text);
	return lineage_begin_anew(l, err);
}

void lineage_set_task(struct lineage *l, struct served_task *task)
{
	struct served_task *old = l->task;
	l->task = served_task_hold(task);
	l->setup = learner_setup(task, l->ctx->config, l->ctx->backbone, l->ctx->net);
	if (l->learner)
		learner_set_cadence(l->learner, &l->setup.options);
	served_task_release(old);
}

enum status lineage_open(const struct lineage_context *ctx, struct served_task *task, const struct patch_entry *entry,
			 int32_t partition, int64_t low, int64_t high, struct lineage **ret, struct error *err)
{
	struct lineage *l = calloc(1, sizeof *l);
	if (!l)
		return error_set_memory(err);
	l->ctx = ctx;
	l->partition = partition;
	lineage_set_task(l, task);
	l->low = low;
	l->high = high;
	l->rewind = true;
	enum status status = start(l, entry, err);
	if (status == STATUS_DATA || status == STATUS_BUG) {
		log_error("task %s: it is not learnt: %s", l->setup.lineage.task, err->text);
		l->failed = true;
	} else if (status != STATUS_OK) {
		lineage_close(l);
		return status;
	}
	*ret = l;
	return STATUS_OK;
}

void lineage_close(struct lineage *l)
{
	if (!l)
		return;
	lineage_drop_waiting(l, l->waiting_count);
	lineage_forget_repeats(l);
	lineage_forget_writes(l);
	patch_record_clear(&l->record);
	learner_free(l->learner);
	served_task_release(l->task);
	free(l->waiting);
	free(l->cut);
	free(l->writes);
	free(l);
}

/* ---- doing again ---- */

/* Where examples are gone that a recorded cut needs, the lineage cannot be what it was. */
static enum status give_up(struct lineage *l, struct error *err)
{
	log_error("task %s: examples from offset %lld on, which it was trained on, are no longer there: it begins anew",
		  l->setup.lineage.task, (long long)l->next_offset);
	return lineage_begin_anew(l, err);
}

/* Whether the recorded cut is all there; false and *ret_gone: it never will be. */
static bool has_cut(const struct lineage *l, const struct patch_cut *cut, int64_t next, int64_t position,
		    bool *ret_gone)
{
	const struct taken_example *first = l->waiting_count > 0 ? &l->waiting[l->waiting_first] : NULL;
	*ret_gone =
		(first && first->example.offset != cut->offset) || (l->waiting_count < cut->count && position >= next);
	return !*ret_gone && l->waiting_count >= cut->count;
}

static enum status repeat_decision(struct lineage *l, const struct patch_record *r, struct error *err)
{
	const struct learner_decision d = decision_recorded(r);
	struct buffer bytes = { 0 };
	enum status status = learner_apply(l->learner, &d, err);
	if (status == STATUS_OK && d.verdict == LEARNER_PROMOTED)
		status = lineage_name_live(l, &bytes, err);
	buffer_free(&bytes);
	const char *hash = learner_live(l->learner)->hash;
	if (status == STATUS_OK && strcmp(hash, r->patch) != 0) {
		if (!l->differs)
			log_warning(
				"task %s: version %llu, done again, is %.12s, not %.12s, and so may be those after it: "
				"another kind of processor, or of peterd?",
				l->setup.lineage.task, (unsigned long long)r->version, hash, r->patch);
		l->differs = true;
		learner_name_live(l->learner, r->patch);
	}
	return status;
}

/* Requests among the examples that a record names became decisions. */
static void drop_requests(struct lineage *l, int64_t next)
{
	while (l->waiting_count > 0 && l->waiting[l->waiting_first].rollback &&
	       (int64_t)l->waiting[l->waiting_first].example.offset < next)
		lineage_drop_waiting(l, 1);
}

enum status lineage_repeat(struct lineage *l, int64_t position, struct error *err)
{
	const int64_t until_us = clock_monotonic_us() + REPEAT_US;
	for (; l->repeat_at < l->repeat_count; l->repeat_at++, l->cut_at = 0) {
		const struct patch_record *r = &l->repeats[l->repeat_at];
		enum status status = STATUS_OK;
		for (; l->cut_at < r->cut_count && status == STATUS_OK; l->cut_at++) {
			bool gone;
			if (clock_monotonic_us() > until_us)
				return STATUS_OK;
			drop_requests(l, r->examples.next);
			if (has_cut(l, &r->cuts[l->cut_at], r->examples.next, position, &gone))
				status = lineage_consume_again(l, &r->cuts[l->cut_at], err);
			else
				return gone ? give_up(l, err) : STATUS_OK;
		}
		drop_requests(l, r->examples.next);
		if (status == STATUS_OK && r->has_gate)
			status = repeat_decision(l, r, err);
		if (status != STATUS_OK)
			return status;
	}
	const int64_t next = l->repeats[l->repeat_count - 1].examples.next;
	if (l->next_offset < next)
		l->next_offset = next;
	lineage_forget_repeats(l);
	return STATUS_OK;
}
