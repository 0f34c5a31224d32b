#include "io/framing.h"

bool framing_parse(struct slice value, uint32_t *ret_schema_id, struct slice *ret_body)
{
	if (value.length < FRAMING_HEADER_BYTES || value.data[0] != 0)
		return false;
	*ret_schema_id = (uint32_t)value.data[1] << 24 | (uint32_t)value.data[2] << 16 | (uint32_t)value.data[3] << 8 |
			 value.data[4];
	*ret_body = (struct slice){ value.data + FRAMING_HEADER_BYTES, value.length - FRAMING_HEADER_BYTES };
	return true;
}

void framing_append(uint32_t schema_id, struct buffer *out)
{
	const uint8_t header[FRAMING_HEADER_BYTES] = { 0, (uint8_t)(schema_id >> 24), (uint8_t)(schema_id >> 16),
						       (uint8_t)(schema_id >> 8), (uint8_t)schema_id };
	buffer_append(out, header, sizeof header);
}
