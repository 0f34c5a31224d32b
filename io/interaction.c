#include "io/interaction.h"

#include "io/avro_plan.h"
#include "io/framing.h"
#include "io/judgement.h"
#include "io/record.h"
#include "io/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USER_ID, ITEM_ID, EVENT_TYPE, TIMESTAMP, FIELD_COUNT };
enum { DIGITS_BYTES = sizeof((struct interaction *)0)->user_digits };

#define RECORD_TIME "$record"
#define DEFAULT_EVENT_TYPE "event_type"

struct interaction_decoder {
	struct avro_plan *plan;
	char names[FIELD_COUNT][128]; /* "user_id", or "user_id (actor.uid)" where that is its path */
	bool record_time;             /* the timestamp is Kafka's */
};

static const char *const field_names[FIELD_COUNT] = { "user_id", "item_id", "event_type", "timestamp" };
static const size_t id_max_bytes[] = { [USER_ID] = USER_ID_MAX_BYTES, [ITEM_ID] = ITEM_ID_MAX_BYTES };

static void name_fields(struct interaction_decoder *d, const char *const paths[FIELD_COUNT])
{
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		if (strcmp(field_names[i], paths[i]) == 0)
			(void)snprintf(d->names[i], sizeof d->names[i], "%s", field_names[i]);
		else
			(void)snprintf(d->names[i], sizeof d->names[i], "%s (%.96s)", field_names[i], paths[i]);
	}
}

static enum status compile(struct interaction_decoder *d, const char *schema_text, const char *const paths[FIELD_COUNT],
			   struct error *err)
{
	const unsigned text = PLAN_ACCEPTS_TEXT | PLAN_ACCEPTS_WHOLE;
	const struct plan_field fields[FIELD_COUNT] = {
		[USER_ID] = { "interactions.fields.user_id", paths[USER_ID], text, false },
		[ITEM_ID] = { "interactions.fields.item_id", paths[ITEM_ID], text, false },
		[EVENT_TYPE] = { "interactions.fields.event_type", paths[EVENT_TYPE], text,
				 strcmp(paths[EVENT_TYPE], DEFAULT_EVENT_TYPE) == 0 },
		[TIMESTAMP] = { "interactions.fields.timestamp", paths[TIMESTAMP], PLAN_ACCEPTS_TIME, false },
	};
	return avro_plan_new(schema_text, fields, d->record_time ? TIMESTAMP : FIELD_COUNT, &d->plan, err);
}

enum status interaction_decoder_new(const char *schema_text, const struct interaction_fields *fields,
				    struct interaction_decoder **ret, struct error *err)
{
	const char *const paths[FIELD_COUNT] = { fields->user_id, fields->item_id, fields->event_type,
						 fields->timestamp };
	struct interaction_decoder *d = calloc(1, sizeof *d);
	if (!d)
		return error_set_memory(err);
	d->record_time = strcmp(fields->timestamp, RECORD_TIME) == 0;
	name_fields(d, paths);
	enum status status = compile(d, schema_text ? schema_text : schema_json("Interaction"), paths, err);
	if (status != STATUS_OK) {
		interaction_decoder_free(d);
		return status;
	}
	*ret = d;
	return STATUS_OK;
}

void interaction_decoder_free(struct interaction_decoder *d)
{
	if (!d)
		return;
	avro_plan_free(d->plan);
	free(d);
}

static struct slice decimal(int64_t value, char digits[DIGITS_BYTES])
{
	uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
	size_t at = DIGITS_BYTES;
	do {
		digits[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest != 0);
	if (value < 0)
		digits[--at] = '-';
	return (struct slice){ (const uint8_t *)digits + at, DIGITS_BYTES - at };
}

/* Refused branches, then missing fields: of all fields before anything else is judged. */
static enum reason judge_presence(const struct interaction_decoder *d, const struct plan_value values[],
				  struct error *err)
{
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		if (values[i].kind != PLAN_REFUSED)
			continue;
		(void)error_set(err, STATUS_DATA, "%s: the record's branch is of type %s, which is not accepted here",
				d->names[i], values[i].refused);
		return REASON_SCHEMA;
	}
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		bool empty = i < EVENT_TYPE && values[i].kind == PLAN_TEXT && values[i].text.length == 0;
		if (i == EVENT_TYPE || (values[i].kind != PLAN_MISSING && !empty))
			continue;
		(void)error_set(err, STATUS_DATA, "%s is %s", d->names[i], empty ? "empty" : "null");
		return REASON_MISSING_FIELD;
	}
	return REASON_NONE;
}

static enum reason judge_texts(const struct interaction_decoder *d, const struct plan_value values[], struct error *err)
{
	for (size_t i = USER_ID; i <= ITEM_ID; i++) {
		if (values[i].kind != PLAN_TEXT || values[i].text.length <= id_max_bytes[i])
			continue;
		(void)error_set(err, STATUS_DATA, "%s has %zu bytes, more than %zu", d->names[i], values[i].text.length,
				id_max_bytes[i]);
		return REASON_OVERSIZE;
	}
	for (size_t i = USER_ID; i <= EVENT_TYPE; i++) {
		if (values[i].kind != PLAN_TEXT || judge_is_text(values[i].text, i != EVENT_TYPE))
			continue;
		(void)error_set(err, STATUS_DATA, "%s is not UTF-8%s", d->names[i],
				i == EVENT_TYPE ? "" : " without NUL");
		return REASON_UNDECODABLE;
	}
	return REASON_NONE;
}

static enum reason judge(const struct interaction_decoder *d, const struct plan_value values[], int64_t record_time_ms,
			 struct error *err)
{
	enum reason reason = judge_presence(d, values, err);
	if (reason == REASON_NONE)
		reason = judge_texts(d, values, err);
	if (reason == REASON_NONE)
		reason = judge_time(d->names[TIMESTAMP], values[TIMESTAMP].whole, record_time_ms, err);
	return reason;
}

static struct slice text_of(const struct plan_value *value, char digits[DIGITS_BYTES])
{
	if (value->kind == PLAN_WHOLE)
		return decimal(value->whole, digits);
	return value->kind == PLAN_TEXT ? value->text : (struct slice){ NULL, 0 };
}

static enum reason decode_datum(const struct interaction_decoder *d, struct slice datum, int64_t record_time_ms,
				struct interaction *ret, struct error *err)
{
	struct plan_value values[FIELD_COUNT];
	if (datum.length == 0) {
		(void)error_set(err, STATUS_DATA, "the value is empty");
		return REASON_UNDECODABLE;
	}
	if (!avro_plan_run(d->plan, datum, values, err))
		return REASON_UNDECODABLE;
	if (d->record_time) {
		values[TIMESTAMP].kind = record_time_ms < 0 ? PLAN_MISSING : PLAN_WHOLE;
		values[TIMESTAMP].whole = record_time_ms;
	}
	enum reason reason = judge(d, values, record_time_ms, err);
	if (reason != REASON_NONE)
		return reason;
	ret->user_id = text_of(&values[USER_ID], ret->user_digits);
	ret->item_id = text_of(&values[ITEM_ID], ret->item_digits);
	ret->event_type = text_of(&values[EVENT_TYPE], ret->type_digits);
	ret->timestamp_ms = values[TIMESTAMP].whole;
	return REASON_NONE;
}

enum reason interaction_decode(const struct interaction_decoder *d, struct slice value, int64_t record_time_ms,
			       struct interaction *ret, struct error *err)
{
	struct plan_value values[FIELD_COUNT];
	struct error other;
	struct slice body;
	uint32_t schema_id;
	enum reason reason = decode_datum(d, value, record_time_ms, ret, err);
	if (reason != REASON_UNDECODABLE || !framing_parse(value, &schema_id, &body) ||
	    avro_plan_run(d->plan, value, values, &other) || !avro_plan_run(d->plan, body, values, &other))
		return reason;
	(void)error_set(err, STATUS_DATA, "framed with schema id %" PRIu32 ", but schema_registry.url is empty",
			schema_id);
	return REASON_SCHEMA;
}

enum status interaction_decode_framed(const struct interaction_resolver *resolver, struct slice value,
				      int64_t record_time_ms, struct interaction *ret, enum reason *ret_reason,
				      struct error *err)
{
	const struct interaction_decoder *d;
	struct slice body;
	uint32_t schema_id;
	if (!framing_parse(value, &schema_id, &body)) {
		(void)error_set(err, STATUS_DATA, "the value has no schema id in front: %zu bytes, the first is %d",
				value.length, value.length > 0 ? value.data[0] : -1);
		*ret_reason = REASON_UNDECODABLE;
		return STATUS_OK;
	}
	enum status status = resolver->resolve(resolver->arg, schema_id, &d, err);
	if (status == STATUS_DATA || status == STATUS_CONFIG) {
		(void)error_prefix(err, "schema id %" PRIu32, schema_id);
		*ret_reason = REASON_SCHEMA;
		return STATUS_OK;
	}
	if (status == STATUS_OK)
		*ret_reason = decode_datum(d, body, record_time_ms, ret, err);
	return status;
}

void interaction_encode(const struct interaction *i, struct buffer *out)
{
	buffer_append_varint(out, (int64_t)i->user_id.length);
	buffer_append(out, i->user_id.data, i->user_id.length);
	buffer_append_varint(out, (int64_t)i->item_id.length);
	buffer_append(out, i->item_id.data, i->item_id.length);
	buffer_append_varint(out, i->timestamp_ms);
	buffer_append_varint(out, i->event_type.data ? 1 : 0);
	if (!i->event_type.data)
		return;
	buffer_append_varint(out, (int64_t)i->event_type.length);
	buffer_append(out, i->event_type.data, i->event_type.length);
}

static enum reason refuse_id(struct error *err, enum reason reason, const char *why)
{
	(void)error_set(err, STATUS_DATA, "key: %s", why);
	return reason;
}

enum reason interaction_check_user_id(struct slice id, struct error *err)
{
	if (!id.data || id.length == 0)
		return refuse_id(err, REASON_MISSING_FIELD, "a tombstone needs the user_id as its key");
	if (id.length > USER_ID_MAX_BYTES)
		return refuse_id(err, REASON_OVERSIZE, "longer than a user_id may be");
	return judge_is_text(id, true) ? REASON_NONE : refuse_id(err, REASON_UNDECODABLE, "not UTF-8, or with a NUL");
}
