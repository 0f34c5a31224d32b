#include "io/label.h"

#include <string.h>

static void append_string(struct slice text, struct buffer *out)
{
	buffer_append_varint(out, (int64_t)text.length);
	buffer_append(out, text.data, text.length);
}

/* Little-endian, as Avro's float and double; the io floor refuses other machines (io/npy.c). */
void label_encode(const struct label *l, struct buffer *out)
{
	append_string(l->task, out);
	append_string(l->user_id, out);
	buffer_append_varint(out, l->timestamp_ms);
	buffer_append_varint(out, l->text.data ? 0 : 1);
	if (l->text.data)
		append_string(l->text, out);
	else
		buffer_append(out, &l->number, sizeof l->number);
	buffer_append(out, &l->weight, sizeof l->weight);
}
