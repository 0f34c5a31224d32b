/* Lineages: opening, examples, cuts and decisions. */
#include "daemon/lineage.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/decision.h"
#include "daemon/lineage_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	SIDE_CUT = 1024,  /* fresh examples of one, which take some 10 ms */
	INSIDE_CUT = 64,  /* likewise of patches that need the trunk: 50 to 800 ms */
	FULL_CUTS = 8,    /* that wait, before no more are taken */
	BEHIND_CUTS = 2,  /* more wait: it is behind, */
	BEHIND_AGES = 60, /* and for so many times max_age_ms, before training is cut short */
	PATCH_BYTES_PER_US = 10,
	DECISIONS = 8,       /* in a row after one cut */
	CUTS_AT_MOST = 1000, /* of one record */
	CHECKPOINT_US = 60000000,
};

static size_t cut_size(const struct lineage *l)
{
	return l->setup.lineage.net ? INSIDE_CUT : SIDE_CUT;
}

/* ---- examples ---- */

static struct taken_example *waiting(const struct lineage *l, size_t i)
{
	return &l->waiting[l->waiting_first + i];
}

void lineage_drop_waiting(struct lineage *l, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(waiting(l, i)->memory);
	l->waiting_first += n;
	l->waiting_count -= n;
}

static enum status make_room(struct lineage *l, struct error *err)
{
	if (l->waiting_first > 0 && l->waiting_first + l->waiting_count == l->waiting_capacity) {
		memmove(l->waiting, l->waiting + l->waiting_first, l->waiting_count * sizeof *l->waiting);
		l->waiting_first = 0;
	}
	if (l->waiting_count < l->waiting_capacity - l->waiting_first)
		return STATUS_OK;
	const size_t capacity = l->waiting_capacity ? 2 * l->waiting_capacity : 64;
	struct taken_example *larger = reallocarray(l->waiting, capacity, sizeof *larger);
	if (!larger)
		return error_set_memory(err);
	l->waiting = larger;
	l->waiting_capacity = capacity;
	return STATUS_OK;
}

/* Examples before next_offset are in the learner already, or in its reservoir. */
static void refill(struct lineage *l, const struct taken_example *taken)
{
	if (!l->filled && !taken->rollback && taken->example.kind == LEARNER_LABEL)
		learner_refill(l->learner, &taken->example);
	free(taken->memory);
}

/* Nothing that the reservoir waits for can still come. */
static void end_refill(struct lineage *l)
{
	uint64_t wanted;
	if (!l->filled && learner_wants(l->learner, &wanted)) {
		log_warning(
			"task %s: examples that were to be trained on again are no longer there, from offset %llu on",
			l->setup.lineage.task, (unsigned long long)wanted);
		learner_give_up(l->learner);
	}
	l->filled = true;
}

enum status lineage_take(struct lineage *l, int64_t offset, const struct example *example, struct error *err)
{
	struct taken_example taken;
	if (offset < l->read_offset || (l->filled && offset < l->next_offset) ||
	    !example_input_fits(l->task, &l->setup, example) ||
	    (example->kind == EXAMPLE_ROLLBACK && example->timestamp_ms < l->created_ms))
		return STATUS_OK;
	if (make_room(l, err) != STATUS_OK)
		return err->status;
	enum status status =
		example_input_take(l->ctx->input, l->task, &l->setup, example, (uint64_t)offset, &taken, err);
	if (status == STATUS_DATA) {
		log_warning("task %s: example at offset %lld: %s: passed over", l->setup.lineage.task,
			    (long long)offset, err->text);
		return STATUS_OK;
	}
	if (status != STATUS_OK)
		return status;
	l->read_offset = offset + 1;
	if (offset < l->next_offset) {
		refill(l, &taken);
		return STATUS_OK;
	}
	end_refill(l);
	l->waiting[l->waiting_first + l->waiting_count++] = taken;
	return STATUS_OK;
}

bool lineage_is_full(const struct lineage *l)
{
	return l->waiting_count >= FULL_CUTS * cut_size(l);
}

bool lineage_busy(const struct lineage *l)
{
	return l->waiting_count >= cut_size(l);
}

/* ---- records ---- */

static enum status note_cut(struct lineage *l, int64_t offset, size_t count, uint64_t steps, struct error *err)
{
	struct patch_record *r = &l->record;
	struct patch_cut *larger = reallocarray(r->cuts, r->cut_count + 1, sizeof *larger);
	if (!larger)
		return error_set_memory(err);
	r->cuts = larger;
	r->cuts[r->cut_count++] = (struct patch_cut){ (uint64_t)offset, count, steps };
	l->dirty = true;
	return STATUS_OK;
}

/* The open record is complete; with bytes where they are given, which it takes. The next one begins behind it. */
static enum status close_record(struct lineage *l, enum patch_decision decision, struct buffer *bytes, int64_t time_ms,
				struct error *err)
{
	if (l->write_count == l->write_capacity) {
		const size_t capacity = l->write_capacity + 8;
		struct lineage_write *larger = reallocarray(l->writes, capacity, sizeof *larger);
		if (!larger)
			return error_set_memory(err);
		l->writes = larger;
		l->write_capacity = capacity;
	}
	l->record.decision = decision;
	enum status status = lineage_describe(l, &l->record, time_ms, err);
	if (status != STATUS_OK)
		return status;
	struct lineage_write *w = &l->writes[l->write_count++];
	*w = (struct lineage_write){ .record = l->record };
	if (bytes) {
		w->bytes = *bytes;
		*bytes = (struct buffer){ 0 };
	}
	const int64_t next = l->record.examples.next;
	l->record = (struct patch_record){ .examples = { l->partition, next, next } };
	l->dirty = false;
	return STATUS_OK;
}

/* A version that has just gone live: gives it its name, and its bytes to `out`. */
enum status lineage_name_live(struct lineage *l, struct buffer *out, struct error *err)
{
	char hash[HASH_HEX_LENGTH + 1];
	enum status status = patch_encode(learner_live(l->learner), out, err);
	if (status != STATUS_OK)
		return status;
	hash_sha256_hex(out->data, out->length, hash);
	learner_name_live(l->learner, hash);
	return STATUS_OK;
}

/* ---- a lineage that is new ---- */

enum status lineage_begin_anew(struct lineage *l, struct error *err)
{
	struct buffer bytes = { 0 };
	const int64_t now_ms = clock_wall_ms();
	l->created_ms = now_ms;
	learner_free(l->learner);
	l->learner = NULL;
	enum status status = learner_new(&l->setup.options, &l->setup.lineage, now_ms, &l->learner, err);
	if (status != STATUS_OK)
		return status;
	lineage_drop_waiting(l, l->waiting_count);
	lineage_forget_repeats(l);
	l->read_offset = l->next_offset = l->low;
	l->filled = l->rewind = true;
	patch_record_clear(&l->record);
	l->record.examples.partition = l->partition;
	l->record.examples.first = l->record.examples.next = l->low;
	status = lineage_name_live(l, &bytes, err);
	if (status == STATUS_OK)
		status = close_record(l, PATCH_CREATED, &bytes, now_ms, err);
	buffer_free(&bytes);
	return status;
}

/* ---- work ---- */

static enum status consume(struct lineage *l, size_t count, uint64_t steps, struct learner_report *ret,
			   struct error *err)
{
	if (count > l->cut_capacity) {
		struct learner_example *larger = reallocarray(l->cut, count, sizeof *larger);
		if (!larger)
			return error_set_memory(err);
		l->cut = larger;
		l->cut_capacity = count;
	}
	for (size_t i = 0; i < count; i++)
		l->cut[i] = waiting(l, i)->example;
	const struct learner_cut cut = { l->cut, count, steps };
	enum status status = learner_consume(l->learner, &cut, ret, err);
	if (status == STATUS_OK) {
		l->next_offset = (int64_t)l->cut[count - 1].offset + 1;
		lineage_drop_waiting(l, count);
	}
	return status;
}

static void count_decision(struct lineage *l, enum learner_verdict verdict)
{
	l->counts.promoted += verdict == LEARNER_PROMOTED;
	l->counts.rejected += verdict == LEARNER_REJECTED;
	l->counts.rolled_back += verdict == LEARNER_ROLLED_BACK;
}

/* Versions go live all the time; one that is taken back is news. */
static void say_rolled_back(const struct lineage *l, const struct learner_decision *d)
{
	log_warning("task %s: version %" PRIu64 " is taken back, version %" PRIu64 " serves again: %s",
		    l->setup.lineage.task, d->parent, d->version,
		    d->reason == LEARNER_ASKED   ? "a person asked for it"
		    : d->reason == LEARNER_DRIFT ? "labels do not follow the events as they did"
						 : "it is worse");
}

/* What was decided and carried out becomes the open record's end. */
static enum status note_decision(struct lineage *l, const struct learner_decision *d, struct error *err)
{
	struct buffer bytes = { 0 };
	enum status status = STATUS_OK;
	l->record.has_gate = true;
	l->record.gate = decision_gate(d);
	count_decision(l, d->verdict);
	if (d->verdict == LEARNER_ROLLED_BACK)
		say_rolled_back(l, d);
	if (d->verdict == LEARNER_PROMOTED) {
		status = lineage_name_live(l, &bytes, err);
		l->quiet_until_us = clock_monotonic_us() + (int64_t)bytes.length / PATCH_BYTES_PER_US;
	}
	if (status == STATUS_OK)
		status = close_record(l, decision_kind(d->verdict), d->verdict == LEARNER_PROMOTED ? &bytes : NULL,
				      d->time_ms, err);
	buffer_free(&bytes);
	return status;
}

/* Versions go out at PATCH_BYTES_PER_US at most, whatever the cadence: every process reads each of them. */
static bool may_decide(const struct lineage *l)
{
	return clock_monotonic_us() >= l->quiet_until_us;
}

static enum status decide(struct lineage *l, struct error *err)
{
	for (int i = 0; i < DECISIONS && may_decide(l); i++) {
		struct learner_decision d;
		enum status status = learner_decide(l->learner, clock_wall_ms(), &d, err);
		if (status != STATUS_OK || d.verdict == LEARNER_NOTHING)
			return status;
		status = note_decision(l, &d, err);
		if (status != STATUS_OK)
			return status;
	}
	return STATUS_OK;
}

/* Since when more examples wait than a cut or two; 0: they do not. */
static void note_backlog(struct lineage *l)
{
	if (l->lagging || l->waiting_count <= BEHIND_CUTS * cut_size(l))
		l->behind_us = 0;
	else if (l->behind_us == 0)
		l->behind_us = clock_monotonic_us();
}

/* As many steps as the learner wants, or one pass where more examples come than it can train on like that, for long. */
static uint64_t steps_allowed(struct lineage *l, size_t count)
{
	const int64_t patience_us = l->setup.options.max_age_ms * 1000 * BEHIND_AGES;
	const size_t batch = l->setup.options.batch;
	note_backlog(l);
	if (l->behind_us == 0 || clock_monotonic_us() - l->behind_us < patience_us)
		return LEARNER_STEPS;
	l->counts.shed += count;
	return (count + batch - 1) / batch;
}

/* The version before the live one serves again, because a person has asked for it. */
static enum status roll_back(struct lineage *l, struct error *err)
{
	const struct patch *back = learner_predecessor(l->learner);
	l->next_offset = (int64_t)waiting(l, 0)->example.offset + 1;
	l->record.examples.next = l->next_offset;
	l->dirty = true;
	lineage_drop_waiting(l, 1);
	if (!back) {
		log_warning("task %s: there is no version to roll back to", l->setup.lineage.task);
		return STATUS_OK;
	}
	const struct learner_decision d = { .verdict = LEARNER_ROLLED_BACK,
					    .reason = LEARNER_ASKED,
					    .time_ms = clock_wall_ms(),
					    .labels = learner_counts(l->learner)->labels,
					    .version = back->version,
					    .parent = learner_live(l->learner)->version,
					    .over = (double)NAN,
					    .over_log = (double)NAN };
	enum status status = learner_apply(l->learner, &d, err);
	return status == STATUS_OK ? note_decision(l, &d, err) : status;
}

/* Examples of the next cut: those that wait before the next request, at most cut_size. */
static size_t next_cut(const struct lineage *l)
{
	const size_t most = l->waiting_count < cut_size(l) ? l->waiting_count : cut_size(l);
	size_t count = 0;
	while (count < most && !waiting(l, count)->rollback)
		count++;
	return count;
}

static enum status work_cut(struct lineage *l, struct error *err)
{
	struct learner_report report;
	const size_t count = next_cut(l);
	if (count == 0)
		return roll_back(l, err);
	const int64_t offset = (int64_t)waiting(l, 0)->example.offset;
	enum status status = consume(l, count, steps_allowed(l, count), &report, err);
	if (status != STATUS_OK)
		return status;
	l->counts.labels += report.labels;
	l->counts.dropped += report.dropped;
	l->counts.steps += report.steps;
	l->counts.skipped += report.skipped;
	return note_cut(l, offset, count, report.steps, err);
}

static enum status checkpoint(struct lineage *l, struct error *err)
{
	struct buffer bytes = { 0 };
	const uint64_t labels = learner_counts(l->learner)->labels;
	const int64_t now_us = clock_monotonic_us();
	if (labels == l->checkpoint_labels || now_us - l->checkpoint_us < CHECKPOINT_US)
		return STATUS_OK;
	enum status status = learner_save(l->learner, false, &bytes, err);
	if (status == STATUS_OK)
		status = close_record(l, PATCH_CHECKPOINT, &bytes, clock_wall_ms(), err);
	buffer_free(&bytes);
	l->checkpoint_us = now_us;
	l->checkpoint_labels = labels;
	return status;
}

enum status lineage_work(struct lineage *l, int64_t position, struct error *err)
{
	enum status status = STATUS_OK;
	if (l->repeat_at < l->repeat_count) {
		status = lineage_repeat(l, position, err);
		if (status != STATUS_OK || l->repeat_at < l->repeat_count)
			return status;
	}
	if (position > l->next_offset && l->waiting_count == 0 && position >= l->read_offset)
		end_refill(l);
	if (l->waiting_count > 0)
		status = work_cut(l, err);
	l->record.examples.next = l->waiting_count == 0 && position > l->next_offset ? position : l->next_offset;
	if (status == STATUS_OK)
		status = decide(l, err);
	if (status == STATUS_OK)
		status = checkpoint(l, err);
	if (status == STATUS_OK && l->record.cut_count >= CUTS_AT_MOST)
		status = close_record(l, PATCH_CHECKPOINT, NULL, clock_wall_ms(), err);
	return status;
}

/* Repeats one recorded cut. */
enum status lineage_consume_again(struct lineage *l, const struct patch_cut *cut, struct error *err)
{
	struct learner_report report;
	return consume(l, cut->count, cut->steps, &report, err);
}

/* ---- writing ---- */

void lineage_forget_writes(struct lineage *l)
{
	for (size_t i = 0; i < l->write_count; i++) {
		patch_record_clear(&l->writes[i].record);
		buffer_free(&l->writes[i].bytes);
	}
	l->write_count = 0;
}

bool lineage_has_writes(const struct lineage *l)
{
	return l->write_count > 0 || l->dirty;
}

static enum status write_one(struct lineage *l, struct patch_writer *writer, struct patch_record *record,
			     const struct buffer *bytes, struct error *err)
{
	if (record->number == 0)
		record->number = l->plan.number;
	return patch_writer_write(writer, &l->plan, record, (struct slice){ bytes->data, bytes->length }, err);
}

enum status lineage_write(struct lineage *l, struct patch_writer *writer, struct error *err)
{
	static const struct buffer none;
	enum status status = STATUS_OK;
	for (size_t i = 0; i < l->write_count && status == STATUS_OK; i++)
		status = write_one(l, writer, &l->writes[i].record, &l->writes[i].bytes, err);
	if (status != STATUS_OK)
		return status;
	lineage_forget_writes(l);
	if (!l->dirty)
		return STATUS_OK;
	l->record.decision = PATCH_CHECKPOINT;
	status = lineage_describe(l, &l->record, clock_wall_ms(), err);
	if (status == STATUS_OK)
		status = write_one(l, writer, &l->record, &none, err);
	l->dirty = status != STATUS_OK;
	return status;
}
