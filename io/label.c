#include "io/label.h"

#include "io/avro_cursor.h"
#include "io/framing.h"
#include "io/judgement.h"
#include "io/record.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers go in and out as they lie in memory");

enum { BRANCH_TEXT, BRANCH_NUMBER, BRANCHES };

void label_encode(const struct label *l, struct buffer *out)
{
	buffer_append_text(out, l->task);
	buffer_append_text(out, l->user_id);
	buffer_append_varint(out, l->timestamp_ms);
	buffer_append_varint(out, l->text.data ? BRANCH_TEXT : BRANCH_NUMBER);
	if (l->text.data)
		buffer_append_text(out, l->text);
	else
		buffer_append(out, &l->number, sizeof l->number);
	buffer_append(out, &l->weight, sizeof l->weight);
}

static bool walk(struct avro_cursor *c, struct label *l)
{
	int64_t branch;
	if (!avro_cursor_text(c, &l->task) || !avro_cursor_text(c, &l->user_id) ||
	    !avro_cursor_long(c, &l->timestamp_ms) || !avro_cursor_index(c, BRANCHES, &branch))
		return false;
	bool label = branch == BRANCH_TEXT ? avro_cursor_text(c, &l->text)
					   : avro_cursor_copy(c, &l->number, sizeof l->number);
	return label && avro_cursor_copy(c, &l->weight, sizeof l->weight) && c->at == c->end;
}

static bool parse(struct slice value, struct label *ret)
{
	struct avro_cursor c = { value.data, value.data + value.length };
	*ret = (struct label){ 0 };
	return value.length > 0 && walk(&c, ret);
}

/* What is no datum of ours, but would be one without Confluent's header, was sent with a schema registry in mind. */
static enum reason refuse_bytes(struct slice value, struct error *err)
{
	struct label inside;
	struct slice body;
	uint32_t schema_id;
	if (value.length > 0 && framing_parse(value, &schema_id, &body) && parse(body, &inside)) {
		(void)error_set(err, STATUS_DATA, "framed with schema id %" PRIu32 ", but schema_registry.url is empty",
				schema_id);
		return REASON_SCHEMA;
	}
	(void)error_set(err, STATUS_DATA, value.length == 0 ? "the value is empty" : "no datum of the schema Label");
	return REASON_UNDECODABLE;
}

static enum reason judge_numbers(const struct label *l, struct error *err)
{
	if (!l->text.data && !isfinite(l->number)) {
		(void)error_set(err, STATUS_DATA, "label is not a finite number");
		return REASON_VALUE;
	}
	if (isfinite(l->weight) && l->weight >= 0)
		return REASON_NONE;
	(void)error_set(err, STATUS_DATA, "weight %g is negative or not finite", (double)l->weight);
	return REASON_VALUE;
}

static enum reason judge(const struct label *l, int64_t record_time_ms, struct error *err)
{
	enum reason reason = judge_id("task", l->task, TASK_NAME_MAX_BYTES, err);
	if (reason == REASON_NONE)
		reason = judge_id("user_id", l->user_id, USER_ID_MAX_BYTES, err);
	if (reason == REASON_NONE && l->text.data)
		reason = judge_id("label", l->text, ITEM_ID_MAX_BYTES, err);
	if (reason == REASON_NONE)
		reason = judge_time("timestamp", l->timestamp_ms, record_time_ms, err);
	return reason == REASON_NONE ? judge_numbers(l, err) : reason;
}

enum reason label_decode(struct slice value, int64_t record_time_ms, struct label *ret, struct error *err)
{
	struct label l;
	if (!parse(value, &l))
		return refuse_bytes(value, err);
	enum reason reason = judge(&l, record_time_ms, err);
	if (reason == REASON_NONE)
		*ret = l;
	return reason;
}
