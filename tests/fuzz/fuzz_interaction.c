/* Interactions: a schema that the input picks or holds, and a datum. The first byte n below SCHEMAS picks one of ours; else
 * the input up to its first NUL is the schema, judged by Avro C too. */
#include "io/interaction.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *const schemas[] = {
	NULL,
	"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"user_id\",\"type\":[\"null\",\"long\",\"string\","
	"\"boolean\"]},"
	"{\"name\":\"item_id\",\"type\":{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\"]}},"
	"{\"name\":\"timestamp\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}}]}",
	"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"user_id\",\"type\":\"int\"},"
	"{\"name\":\"m\",\"type\":{\"type\":\"map\",\"values\":[\"null\",\"R\",{\"type\":\"array\",\"items\":\"R\"}]}},"
	"{\"name\":\"item_id\",\"type\":\"string\"},{\"name\":\"timestamp\",\"type\":[\"int\",\"double\",\"null\"]}]}",
	"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"user_id\",\"type\":\"string\"},"
	"{\"name\":\"z\",\"type\":{\"type\":\"array\",\"items\":\"null\"}},"
	"{\"name\":\"f\",\"type\":{\"type\":\"array\",\"items\":\"float\"}},"
	"{\"name\":\"n\",\"type\":{\"type\":\"record\",\"name\":\"N\",\"fields\":[{\"name\":\"v\",\"type\":\"boolean\"}"
	","
	"{\"name\":\"next\",\"type\":[\"null\",\"N\"]},{\"name\":\"all\",\"type\":{\"type\":\"array\",\"items\":\"N\"}}"
	"]}},"
	"{\"name\":\"item_id\",\"type\":\"string\"},{\"name\":\"timestamp\",\"type\":\"long\"}]}",
};
enum { SCHEMAS = sizeof schemas / sizeof schemas[0] };

static void check(const struct interaction_decoder *d, struct slice value)
{
	struct interaction i;
	struct error err;
	if (interaction_decode(d, value, INT64_C(1700000000000), &i, &err) != REASON_NONE)
		return;
	if (i.user_id.length == 0 || i.user_id.length > 256 || i.item_id.length == 0 || i.item_id.length > 1024 ||
	    memchr(i.user_id.data, 0, i.user_id.length) || memchr(i.item_id.data, 0, i.item_id.length) ||
	    i.timestamp_ms < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct interaction_fields fields = { "user_id", "item_id", "timestamp", "event_type" };
	static struct interaction_decoder *ready[SCHEMAS];
	struct interaction_decoder *d = NULL;
	struct error err;
	if (size == 0)
		return 0;
	size_t pick = data[0];
	if (pick < SCHEMAS) {
		if (!ready[pick] && interaction_decoder_new(schemas[pick], &fields, &ready[pick], &err) != STATUS_OK)
			abort();
		check(ready[pick], (struct slice){ data + 1, size - 1 });
		return 0;
	}
	const uint8_t *end = memchr(data, 0, size);
	if (!end)
		return 0;
	if (interaction_decoder_new((const char *)data, &fields, &d, &err) == STATUS_OK)
		check(d, (struct slice){ end + 1, size - (size_t)(end + 1 - data) });
	interaction_decoder_free(d);
	return 0;
}
