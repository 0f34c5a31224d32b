#include "io/record.h"

#include "base/hash.h"
#include "io/bytes.h"

#include <string.h>

enum { VERSION = 1, CHECKSUM_BYTES = 4, OFFSET_BYTES = 8 };

static const uint8_t position_key[] = { 0, 'p', 'o', 's', 'i', 't', 'i', 'o', 'n' };
static const uint8_t owed_prefix[] = { 0, 'o', 'w', 'e', 'd', 0 };
static const uint8_t label_prefix[] = { 0, 'l', 'a', 'b', 'e', 'l', 0 };

static bool is_user_id(struct slice id)
{
	return id.length > 0 && id.length <= USER_ID_MAX_BYTES && !memchr(id.data, 0, id.length);
}

enum record_kind record_key_parse(struct slice key, struct slice *ret_user_id)
{
	if (!key.data || key.length == 0)
		return RECORD_UNKNOWN;
	if (key.data[0] != 0) {
		if (!is_user_id(key))
			return RECORD_UNKNOWN;
		*ret_user_id = key;
		return RECORD_USER;
	}
	if (key.length == sizeof position_key && memcmp(key.data, position_key, sizeof position_key) == 0)
		return RECORD_POSITION;
	if (key.length == sizeof label_prefix + OFFSET_BYTES &&
	    memcmp(key.data, label_prefix, sizeof label_prefix) == 0)
		return RECORD_LABEL;
	if (key.length <= sizeof owed_prefix || memcmp(key.data, owed_prefix, sizeof owed_prefix) != 0)
		return RECORD_UNKNOWN;
	struct slice id = { key.data + sizeof owed_prefix, key.length - sizeof owed_prefix };
	if (!is_user_id(id))
		return RECORD_UNKNOWN;
	*ret_user_id = id;
	return RECORD_OWED;
}

void record_key_position(struct buffer *out)
{
	buffer_append(out, position_key, sizeof position_key);
}

void record_key_owed(struct slice user_id, struct buffer *out)
{
	buffer_append(out, owed_prefix, sizeof owed_prefix);
	buffer_append(out, user_id.data, user_id.length);
}

void record_key_label(int64_t offset, struct buffer *out)
{
	buffer_append(out, label_prefix, sizeof label_prefix);
	for (int shift = 56; shift >= 0; shift -= 8)
		buffer_append_byte(out, (uint8_t)((uint64_t)offset >> shift));
}

/* Ends the record that began at `start` of the buffer. */
static void seal(struct buffer *out, size_t start)
{
	if (out->failed)
		return;
	uint32_t sum = hash_checksum(out->data + start, out->length - start);
	uint8_t bytes[CHECKSUM_BYTES] = { (uint8_t)sum, (uint8_t)(sum >> 8), (uint8_t)(sum >> 16),
					  (uint8_t)(sum >> 24) };
	buffer_append(out, bytes, sizeof bytes);
}

/* Checks checksum and version; the body lies between *at and *end. */
static enum status unseal(struct slice value, const uint8_t **at, const uint8_t **end, struct error *err)
{
	if (!value.data || value.length < 1 + CHECKSUM_BYTES)
		return error_set(err, STATUS_DATA, "record of %zu bytes is cut", value.data ? value.length : 0);
	size_t length = value.length - CHECKSUM_BYTES;
	const uint8_t *sum = value.data + length;
	uint32_t stored = (uint32_t)sum[0] | (uint32_t)sum[1] << 8 | (uint32_t)sum[2] << 16 | (uint32_t)sum[3] << 24;
	if (stored != hash_checksum(value.data, length))
		return error_set(err, STATUS_DATA, "record's checksum does not match");
	if (value.data[0] != VERSION)
		return error_set(err, STATUS_DATA, "record of version %u, expected %d", value.data[0], VERSION);
	*at = value.data + 1;
	*end = value.data + length;
	return STATUS_OK;
}

void record_user_encode(const struct sequence *s, int64_t newest_offset, struct buffer *out)
{
	size_t start = out->length;
	buffer_append_byte(out, VERSION);
	buffer_append_varint(out, newest_offset);
	sequence_encode(s, out);
	seal(out, start);
}

enum status record_user_decode(struct slice value, struct sequence *s, int64_t *ret_newest_offset, struct error *err)
{
	const uint8_t *at;
	const uint8_t *end;
	int64_t offset;
	enum status status = unseal(value, &at, &end, err);
	if (status != STATUS_OK)
		return status;
	if (!varint_read(&at, end, &offset) || offset < 0)
		return error_set(err, STATUS_DATA, "record has a bad offset");
	status = sequence_decode(s, &at, end, err);
	if (status != STATUS_OK)
		return status;
	if (at != end)
		return error_set(err, STATUS_DATA, "record has %zu bytes left over", (size_t)(end - at));
	*ret_newest_offset = offset;
	return STATUS_OK;
}

void record_position_encode(const struct position *p, struct buffer *out)
{
	size_t start = out->length;
	buffer_append_byte(out, VERSION);
	buffer_append_varint(out, p->interactions);
	buffer_append_varint(out, p->labels);
	buffer_append_varint(out, p->stream_time_ms);
	buffer_append_varint(out, p->changelog);
	seal(out, start);
}

enum status record_position_decode(struct slice value, struct position *ret, struct error *err)
{
	const uint8_t *at;
	const uint8_t *end;
	struct position p;
	enum status status = unseal(value, &at, &end, err);
	if (status != STATUS_OK)
		return status;
	if (!varint_read(&at, end, &p.interactions) || !varint_read(&at, end, &p.labels) ||
	    !varint_read(&at, end, &p.stream_time_ms) || !varint_read(&at, end, &p.changelog) || at != end)
		return error_set(err, STATUS_DATA, "position record is cut or has bytes left over");
	if (p.interactions < -1 || p.labels < -1 || p.stream_time_ms < -1 || p.changelog < -1)
		return error_set(err, STATUS_DATA, "position record holds an offset below -1");
	*ret = p;
	return STATUS_OK;
}

void record_label_encode(const struct record_label *label, struct buffer *out)
{
	size_t start = out->length;
	buffer_append_byte(out, VERSION);
	buffer_append_varint(out, label->offset);
	buffer_append_varint(out, label->until_ms);
	buffer_append_varint(out, label->deadline_ms);
	buffer_append_varint(out, label->appended_ms);
	bytes_append_nullable(out, label->key);
	bytes_append_nullable(out, label->value);
	bytes_append_nullable(out, label->headers);
	seal(out, start);
}

enum status record_label_decode(struct slice value, struct record_label *ret, struct error *err)
{
	const uint8_t *at;
	const uint8_t *end;
	struct record_label label;
	enum status status = unseal(value, &at, &end, err);
	if (status != STATUS_OK)
		return status;
	if (!varint_read(&at, end, &label.offset) || !varint_read(&at, end, &label.until_ms) ||
	    !varint_read(&at, end, &label.deadline_ms) || !varint_read(&at, end, &label.appended_ms) ||
	    !bytes_read_nullable(&at, end, &label.key) || !bytes_read_nullable(&at, end, &label.value) ||
	    !bytes_read_nullable(&at, end, &label.headers) || at != end || label.offset < 0)
		return error_set(err, STATUS_DATA, "label record is cut or has bytes left over");
	*ret = label;
	return STATUS_OK;
}
