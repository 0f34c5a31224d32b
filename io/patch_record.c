#include "io/patch_record.h"

#include "io/avro_cursor.h"
#include "io/bytes.h"

#include <stdlib.h>
#include <string.h>
#include <unistr.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "doubles go out as they lie in memory");
_Static_assert(sizeof(double) == 8, "Avro's double");

enum { BRANCH_NULL, BRANCH_VALUE, BRANCHES };

static const char *const decisions[PATCH_DECISION_KINDS] = {
	[PATCH_CREATED] = "created",         [PATCH_PROMOTED] = "promoted",     [PATCH_REJECTED] = "rejected",
	[PATCH_ROLLED_BACK] = "rolled_back", [PATCH_CHECKPOINT] = "checkpoint",
};

static const char *const reasons[PATCH_REASONS] = {
	[PATCH_BETTER] = "better", [PATCH_NOT_WORSE] = "not_worse", [PATCH_WORSE] = "worse", [PATCH_BROKEN] = "broken",
	[PATCH_DRIFT] = "drift",   [PATCH_POISON] = "poison",       [PATCH_ASKED] = "asked",
};

const char *patch_decision_name(enum patch_decision decision)
{
	return decisions[decision];
}

const char *patch_reason_name(enum patch_reason reason)
{
	return reasons[reason];
}

/* ---- the fields, in the schema's order ---- */

enum kind { NAME, NUMBER, TIME, HASH, HASH_OR_NONE, DECISION, METRICS, EXAMPLES, CUTS, GATE, WEIGHTS };

static const struct field {
	const char *name;
	enum kind kind;
	size_t offset; /* NUMBER, TIME, HASH and HASH_OR_NONE */
} fields[] = {
#define FIELD(name_, kind_)                                                                                            \
	{                                                                                                              \
#name_, kind_, offsetof(struct patch_record, name_)                                                    \
	}
	FIELD(task, NAME),
	FIELD(number, NUMBER),
	FIELD(version, NUMBER),
	FIELD(patch, HASH),
	FIELD(parent, HASH_OR_NONE),
	FIELD(predecessor, HASH_OR_NONE),
	FIELD(backbone, HASH),
	FIELD(definition, HASH),
	FIELD(decision, DECISION),
	FIELD(labels_trained, NUMBER),
	FIELD(labels_dropped, NUMBER),
	FIELD(metrics, METRICS),
	{ "timestamp", TIME, offsetof(struct patch_record, timestamp_ms) },
	FIELD(examples, EXAMPLES),
	FIELD(cuts, CUTS),
	FIELD(gate, GATE),
	FIELD(weights, WEIGHTS),
#undef FIELD
};

/* ---- encode ---- */

static void put_number(struct buffer *out, uint64_t number)
{
	buffer_append_varint(out, (int64_t)number);
}

static void put_metrics(struct buffer *out, const struct patch_record *r)
{
	if (r->metric_count)
		put_number(out, r->metric_count);
	for (size_t i = 0; i < r->metric_count; i++) {
		bytes_append_string(out, r->metrics[i].name);
		buffer_append(out, &r->metrics[i].value, sizeof(double));
	}
	buffer_append_byte(out, 0);
}

static void put_cuts(struct buffer *out, const struct patch_record *r, bool manifest)
{
	const size_t count = manifest ? 0 : r->cut_count;
	if (count)
		put_number(out, count);
	for (size_t i = 0; i < count; i++) {
		put_number(out, r->cuts[i].offset);
		put_number(out, r->cuts[i].count);
		put_number(out, r->cuts[i].steps);
	}
	buffer_append_byte(out, 0);
}

static void put_gate(struct buffer *out, const struct patch_record *r)
{
	const struct patch_gate *g = &r->gate;
	buffer_append_varint(out, r->has_gate ? BRANCH_VALUE : BRANCH_NULL);
	if (!r->has_gate)
		return;
	const double evidence[] = { g->gain, g->width, g->over, g->over_log, g->level };
	bytes_append_string(out, reasons[g->reason]);
	put_number(out, g->parent);
	buffer_append_byte(out, g->anew);
	put_number(out, g->onset);
	put_number(out, g->until);
	put_number(out, g->count);
	buffer_append(out, evidence, sizeof evidence);
}

static void put_weights(struct buffer *out, const struct patch_record *r)
{
	const struct patch_weights *w = &r->weights;
	buffer_append_varint(out, r->has_weights ? BRANCH_VALUE : BRANCH_NULL);
	if (!r->has_weights)
		return;
	put_number(out, w->slot);
	put_number(out, w->chunks);
	put_number(out, w->bytes);
	bytes_append_string(out, w->sha256);
}

static void put(struct buffer *out, const struct patch_record *r, const struct field *f, bool manifest)
{
	const void *at = (const char *)r + f->offset;
	switch (f->kind) {
	case NAME:
	case HASH:
	case HASH_OR_NONE:
		bytes_append_string(out, at);
		break;
	case NUMBER:
		put_number(out, *(const uint64_t *)at);
		break;
	case TIME:
		buffer_append_varint(out, *(const int64_t *)at);
		break;
	case DECISION:
		bytes_append_string(out, decisions[r->decision]);
		break;
	case METRICS:
		put_metrics(out, r);
		break;
	case EXAMPLES:
		buffer_append_varint(out, r->examples.partition);
		buffer_append_varint(out, r->examples.first);
		buffer_append_varint(out, r->examples.next);
		break;
	case CUTS:
		put_cuts(out, r, manifest);
		break;
	case GATE:
		put_gate(out, r);
		break;
	case WEIGHTS:
		put_weights(out, r);
		break;
	}
}

static void encode(const struct patch_record *record, struct buffer *out, bool manifest)
{
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		put(out, record, &fields[i], manifest);
}

void patch_record_encode(const struct patch_record *record, struct buffer *out)
{
	encode(record, out, false);
}

void patch_record_encode_manifest(const struct patch_record *record, struct buffer *out)
{
	encode(record, out, true);
}

/* ---- decode ---- */

enum outcome { FINE, DAMAGED, SENSELESS, NO_MEMORY };

static bool take_number(struct avro_cursor *c, uint64_t *ret)
{
	int64_t number;
	if (!avro_cursor_long(c, &number) || number < 0)
		return false;
	*ret = (uint64_t)number;
	return true;
}

static enum outcome take_name(struct avro_cursor *c, char ret[PATCH_NAME_AT_MOST + 1])
{
	struct slice text;
	if (!avro_cursor_text(c, &text))
		return DAMAGED;
	if (!patch_key_is_task(text))
		return SENSELESS;
	memcpy(ret, text.data, text.length);
	ret[text.length] = '\0';
	return FINE;
}

static enum outcome take_hash(struct avro_cursor *c, bool optional, char ret[HASH_HEX_LENGTH + 1])
{
	struct slice text;
	if (!avro_cursor_text(c, &text))
		return DAMAGED;
	if (text.length != HASH_HEX_LENGTH && (text.length || !optional))
		return SENSELESS;
	for (size_t i = 0; i < text.length; i++)
		if (!(text.data[i] >= '0' && text.data[i] <= '9') && !(text.data[i] >= 'a' && text.data[i] <= 'f'))
			return SENSELESS;
	memcpy(ret, text.data, text.length);
	ret[text.length] = '\0';
	return FINE;
}

static enum outcome take_word(struct avro_cursor *c, const char *const words[], int count, int *ret)
{
	struct slice text;
	if (!avro_cursor_text(c, &text))
		return DAMAGED;
	for (*ret = 0; *ret < count; ++*ret)
		if (text.length == strlen(words[*ret]) && !memcmp(text.data, words[*ret], text.length))
			return FINE;
	return SENSELESS;
}

static enum outcome take_metric(struct avro_cursor *c, struct patch_metric *ret)
{
	struct slice name;
	if (!avro_cursor_text(c, &name) || !avro_cursor_copy(c, &ret->value, sizeof(double)))
		return DAMAGED;
	if (memchr(name.data, 0, name.length) || u8_check(name.data, name.length))
		return SENSELESS;
	ret->name = strndup((const char *)name.data, name.length);
	return ret->name ? FINE : NO_MEMORY;
}

/* Room for a block's items, which take `least` bytes each at least: memory stays in proportion to the value. */
static enum outcome grow(struct avro_cursor *c, void **items, size_t have, int64_t more, size_t size, size_t least)
{
	if ((uint64_t)more > avro_cursor_left(c) / least)
		return DAMAGED;
	void *grown = reallocarray(*items, have + (size_t)more, size);
	if (!grown)
		return NO_MEMORY;
	*items = grown;
	return FINE;
}

static enum outcome take_metrics(struct avro_cursor *c, struct patch_record *r)
{
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return FINE;
		void *items = r->metrics;
		enum outcome outcome = grow(c, &items, r->metric_count, count, sizeof *r->metrics, 1 + sizeof(double));
		r->metrics = items;
		for (; count > 0 && outcome == FINE; count--) {
			outcome = take_metric(c, &r->metrics[r->metric_count]);
			r->metric_count += outcome == FINE;
		}
		if (outcome != FINE)
			return outcome;
	}
	return DAMAGED;
}

static enum outcome take_cuts(struct avro_cursor *c, struct patch_record *r)
{
	int64_t count;
	while (avro_cursor_block(c, &count)) {
		if (count == 0)
			return FINE;
		void *items = r->cuts;
		const enum outcome outcome = grow(c, &items, r->cut_count, count, sizeof *r->cuts, 3);
		r->cuts = items;
		if (outcome != FINE)
			return outcome;
		for (; count > 0; count--) {
			struct patch_cut *cut = &r->cuts[r->cut_count];
			if (!take_number(c, &cut->offset) || !take_number(c, &cut->count) ||
			    !take_number(c, &cut->steps))
				return DAMAGED;
			r->cut_count++;
		}
	}
	return DAMAGED;
}

static enum outcome take_examples(struct avro_cursor *c, struct patch_record *r)
{
	int64_t partition;
	if (!avro_cursor_int(c, &partition) || !avro_cursor_long(c, &r->examples.first) ||
	    !avro_cursor_long(c, &r->examples.next))
		return DAMAGED;
	r->examples.partition = (int32_t)partition;
	return partition < 0 || r->examples.first < 0 || r->examples.next < r->examples.first ? SENSELESS : FINE;
}

static enum outcome take_gate(struct avro_cursor *c, struct patch_record *r)
{
	struct patch_gate *g = &r->gate;
	int64_t branch;
	int reason;
	if (!avro_cursor_index(c, BRANCHES, &branch))
		return DAMAGED;
	r->has_gate = branch == BRANCH_VALUE;
	if (!r->has_gate)
		return FINE;
	enum outcome outcome = take_word(c, reasons, PATCH_REASONS, &reason);
	if (outcome != FINE)
		return outcome;
	g->reason = (enum patch_reason)reason;
	if (!take_number(c, &g->parent) || !avro_cursor_boolean(c))
		return DAMAGED;
	g->anew = c->at[-1] != 0;
	return take_number(c, &g->onset) && take_number(c, &g->until) && take_number(c, &g->count) &&
			       avro_cursor_copy(c, &g->gain, sizeof(double)) &&
			       avro_cursor_copy(c, &g->width, sizeof(double)) &&
			       avro_cursor_copy(c, &g->over, sizeof(double)) &&
			       avro_cursor_copy(c, &g->over_log, sizeof(double)) &&
			       avro_cursor_copy(c, &g->level, sizeof(double))
		       ? FINE
		       : DAMAGED;
}

static enum outcome take_weights(struct avro_cursor *c, struct patch_record *r)
{
	struct patch_weights *w = &r->weights;
	int64_t branch, slot, chunks;
	if (!avro_cursor_index(c, BRANCHES, &branch))
		return DAMAGED;
	r->has_weights = branch == BRANCH_VALUE;
	if (!r->has_weights)
		return FINE;
	if (!avro_cursor_int(c, &slot) || !avro_cursor_int(c, &chunks) || !take_number(c, &w->bytes))
		return DAMAGED;
	if (slot < 0 || slot >= PATCH_SLOTS || chunks < 1 || chunks > PATCH_CHUNKS_AT_MOST)
		return SENSELESS;
	if (patch_slot_is_checkpoint((uint32_t)slot) != (r->decision == PATCH_CHECKPOINT))
		return SENSELESS;
	w->slot = (uint32_t)slot;
	w->chunks = (uint32_t)chunks;
	const enum outcome outcome = take_hash(c, false, w->sha256);
	if (outcome == FINE && r->decision != PATCH_CHECKPOINT && strcmp(w->sha256, r->patch) != 0)
		return SENSELESS;
	return outcome;
}

static enum outcome take(struct avro_cursor *c, struct patch_record *r, const struct field *f)
{
	void *at = (char *)r + f->offset;
	enum outcome outcome;
	int decision;
	switch (f->kind) {
	case NAME:
		return take_name(c, at);
	case HASH:
	case HASH_OR_NONE:
		return take_hash(c, f->kind == HASH_OR_NONE, at);
	case NUMBER:
		return take_number(c, at) ? FINE : DAMAGED;
	case TIME:
		return avro_cursor_long(c, at) ? FINE : DAMAGED;
	case DECISION:
		outcome = take_word(c, decisions, PATCH_DECISION_KINDS, &decision);
		if (outcome == FINE)
			r->decision = (enum patch_decision)decision;
		return outcome;
	case METRICS:
		return take_metrics(c, r);
	case EXAMPLES:
		return take_examples(c, r);
	case CUTS:
		return take_cuts(c, r);
	case GATE:
		return take_gate(c, r);
	case WEIGHTS:
		return take_weights(c, r);
	}
	return DAMAGED;
}

static enum status take_all(struct slice value, struct patch_record *r, struct error *err)
{
	static const uint8_t nothing;
	struct avro_cursor c = { .at = value.data ? value.data : &nothing };
	c.end = c.at + value.length;
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		switch (take(&c, r, &fields[i])) {
		case FINE:
			break;
		case DAMAGED:
			return error_set(err, STATUS_DATA, "%s: cut or damaged at byte %zu of %zu", fields[i].name,
					 value.length - avro_cursor_left(&c), value.length);
		case SENSELESS:
			return error_set(err, STATUS_DATA, "%s: makes no sense", fields[i].name);
		case NO_MEMORY:
			return error_set_memory(err);
		}
	}
	if (c.at != c.end)
		return error_set(err, STATUS_DATA, "%zu bytes are left over after %zu", avro_cursor_left(&c),
				 value.length - avro_cursor_left(&c));
	return STATUS_OK;
}

enum status patch_record_decode(struct slice value, struct patch_record *ret, struct error *err)
{
	struct patch_record record = { 0 };
	enum status status = take_all(value, &record, err);
	if (status) {
		patch_record_clear(&record);
		return status;
	}
	*ret = record;
	return STATUS_OK;
}

void patch_record_clear(struct patch_record *record)
{
	for (size_t i = 0; i < record->metric_count; i++)
		free(record->metrics[i].name);
	free(record->metrics);
	free(record->cuts);
	memset(record, 0, sizeof *record);
}
