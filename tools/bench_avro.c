#include "tools/bench_avro.h"

#include "base/clock.h"
#include "io/interaction.h"
#include "io/schema.h"
#include "io/update.h"
#include "tools/ctl.h"

#include <avro.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, RECORDS = 1024, DIM = 64 };

/* One kind of record, with `RECORDS` of them as bytes; and Avro C's value of its schema. */
struct records {
	struct buffer bytes;
	size_t starts[RECORDS + 1];
	avro_schema_t schema;
	avro_value_iface_t *class;
	avro_value_t value;
};

struct bench {
	int64_t round_ms;
	bool json;
	struct records interactions;
	struct records updates;
	struct interaction_decoder *decoder;
	struct buffer floats;
	struct buffer out;
	char written[4096]; /* by Avro C */
	avro_reader_t reader;
	avro_writer_t writer;
};

/* Works on record i; false where that failed. */
typedef bool measured(struct bench *b, size_t i);

static struct slice record(const struct records *r, size_t i)
{
	return (struct slice){ r->bytes.data + r->starts[i], r->starts[i + 1] - r->starts[i] };
}

static bool decode_interaction(struct bench *b, size_t i)
{
	struct interaction event;
	struct error err;
	return interaction_decode(b->decoder, record(&b->interactions, i), INT64_C(1700000000000), &event, &err) ==
	       REASON_NONE;
}

static bool encode_interaction(struct bench *b, size_t i)
{
	const struct interaction event = {
		.user_id = { (const uint8_t *)"user-0000000", 12 },
		.item_id = { (const uint8_t *)"item-000000", 11 },
		.event_type = { (const uint8_t *)"view", 4 },
		.timestamp_ms = INT64_C(1700000000000) - (int64_t)i,
	};
	buffer_clear(&b->out);
	interaction_encode(&event, &b->out);
	return !b->out.failed;
}

static bool decode_update(struct bench *b, size_t i)
{
	struct update update;
	struct error err;
	buffer_clear(&b->floats);
	return update_decode(record(&b->updates, i), &b->floats, &update, &err) == STATUS_OK;
}

static bool encode_update(struct bench *b, size_t i)
{
	static const float embedding[DIM] = { 0.5f, -0.25f };
	const struct update update = {
		.user_id = { (const uint8_t *)"user-0000000", 12 },
		.event_time_ms = INT64_C(1700000000000),
		.sequence_length = 256,
		.offset = (int64_t)i,
		.backbone = { (const uint8_t *)"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 64 },
		.embedding = embedding,
		.dim = DIM,
	};
	buffer_clear(&b->out);
	update_encode(&update, &b->out);
	return !b->out.failed;
}

static bool peer_decode(struct bench *b, struct records *r, size_t i)
{
	struct slice bytes = record(r, i);
	avro_reader_memory_set_source(b->reader, (const char *)bytes.data, (int64_t)bytes.length);
	return avro_value_reset(&r->value) == 0 && avro_value_read(b->reader, &r->value) == 0;
}

/* What was decoded last is written: the same record every time. */
static bool peer_encode(struct bench *b, struct records *r)
{
	avro_writer_reset(b->writer);
	return avro_value_write(b->writer, &r->value) == 0;
}

static bool peer_decode_interaction(struct bench *b, size_t i)
{
	return peer_decode(b, &b->interactions, i);
}

static bool peer_encode_interaction(struct bench *b, size_t i)
{
	(void)i;
	return peer_encode(b, &b->interactions);
}

static bool peer_decode_update(struct bench *b, size_t i)
{
	return peer_decode(b, &b->updates, i);
}

static bool peer_encode_update(struct bench *b, size_t i)
{
	(void)i;
	return peer_encode(b, &b->updates);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The median of the rounds in ns of this thread's processor time: other programs share the machine. */
static enum status measure(struct bench *b, const char *who, const char *what, measured *run, struct error *err)
{
	double rounds[ROUNDS];
	for (size_t round = 0; round < ROUNDS; round++) {
		int64_t start_us = clock_thread_cpu_us();
		int64_t took_us = 0;
		size_t done = 0;
		while (took_us < b->round_ms * 1000) {
			for (size_t i = 0; i < RECORDS; i++, done++) {
				if (!run(b, i))
					return error_set(err, STATUS_BUG, "bench avro: %s, %s failed", who, what);
			}
			took_us = clock_thread_cpu_us() - start_us;
		}
		rounds[round] = (double)took_us * 1000 / (double)done;
	}
	qsort(rounds, ROUNDS, sizeof rounds[0], compare);
	if (b->json)
		printf("{\"bench\": \"avro\", \"who\": \"%s\", \"what\": \"%s\", \"ns\": %.1f}\n", who, what,
		       rounds[ROUNDS / 2]);
	else
		printf("%-7s %-20s %8.1f ns\n", who, what, rounds[ROUNDS / 2]);
	(void)fflush(stdout);
	return STATUS_OK;
}

static enum status records_open(struct bench *b, struct records *r, const char *schema, measured *encode,
				struct error *err)
{
	const char *json = schema_json(schema);
	for (size_t i = 0; i < RECORDS; i++) {
		if (!encode(b, i))
			return error_set_memory(err);
		buffer_append(&r->bytes, b->out.data, b->out.length);
		r->starts[i + 1] = r->bytes.length;
	}
	if (r->bytes.failed || avro_schema_from_json_length(json, strlen(json), &r->schema) != 0)
		return error_set_memory(err);
	r->class = avro_generic_class_from_schema(r->schema);
	if (!r->class || avro_generic_value_new(r->class, &r->value) != 0)
		return error_set_memory(err);
	return STATUS_OK;
}

static void records_close(struct records *r)
{
	buffer_free(&r->bytes);
	if (r->value.self)
		avro_value_decref(&r->value);
	if (r->class)
		avro_value_iface_decref(r->class);
	if (r->schema)
		avro_schema_decref(r->schema);
}

/* Avro C reads our last record and writes the same bytes: the two do the same work. */
static enum status agree(struct bench *b, struct records *r, struct error *err)
{
	struct slice ours = record(r, RECORDS - 1);
	if (peer_decode(b, r, RECORDS - 1) && peer_encode(b, r) &&
	    avro_writer_tell(b->writer) == (int64_t)ours.length && memcmp(b->written, ours.data, ours.length) == 0)
		return STATUS_OK;
	return error_set(err, STATUS_BUG, "bench avro: Avro C and ours differ");
}

static enum status open_bench(struct bench *b, struct error *err)
{
	static const struct interaction_fields fields = { "user_id", "item_id", "timestamp", "event_type" };
	b->reader = avro_reader_memory(NULL, 0);
	b->writer = avro_writer_memory(b->written, sizeof b->written);
	if (!b->reader || !b->writer)
		return error_set_memory(err);
	enum status status = interaction_decoder_new(NULL, &fields, &b->decoder, err);
	if (status == STATUS_OK)
		status = records_open(b, &b->interactions, "Interaction", encode_interaction, err);
	if (status == STATUS_OK)
		status = records_open(b, &b->updates, "UserUpdate", encode_update, err);
	if (status == STATUS_OK)
		status = agree(b, &b->interactions, err);
	if (status == STATUS_OK)
		status = agree(b, &b->updates, err);
	return status;
}

static void close_bench(struct bench *b)
{
	records_close(&b->interactions);
	records_close(&b->updates);
	interaction_decoder_free(b->decoder);
	buffer_free(&b->floats);
	buffer_free(&b->out);
	if (b->reader)
		avro_reader_free(b->reader);
	if (b->writer)
		avro_writer_free(b->writer);
	free(b);
}

static enum status measure_all(struct bench *b, struct error *err)
{
	static const struct {
		const char *what;
		measured *ours;
		measured *peers;
	} rows[] = {
		{ "decode interaction", decode_interaction, peer_decode_interaction },
		{ "encode interaction", encode_interaction, peer_encode_interaction },
		{ "decode update d 64", decode_update, peer_decode_update },
		{ "encode update d 64", encode_update, peer_encode_update },
	};
	enum status status = STATUS_OK;
	for (size_t i = 0; status == STATUS_OK && i < CTL_COUNT(rows); i++) {
		status = measure(b, "peterd", rows[i].what, rows[i].ours, err);
		if (status == STATUS_OK)
			status = measure(b, "Avro C", rows[i].what, rows[i].peers, err);
	}
	return status;
}

enum status bench_avro(int argc, char **argv, struct error *err)
{
	struct bench *b = calloc(1, sizeof *b);
	if (!b)
		return error_set_memory(err);
	b->round_ms = 200;
	const struct ctl_option options[] = {
		{ "round-ms", CTL_WHOLE, false, &b->round_ms, "N", "length of one of five rounds [200]", 1, 3600000 },
		{ "json", CTL_FLAG, false, &b->json, NULL, "one object a line", 0, 0 },
	};
	const struct ctl_usage usage = {
		.name = "bench avro",
		.operands = "",
		.description = "Nanoseconds of one core to decode and encode a record, Avro C's generic ones beside.\n",
		.options = options,
		.count = CTL_COUNT(options),
	};
	int operands = 0;
	bool help = false;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status == STATUS_OK && !help)
		status = open_bench(b, err);
	if (status == STATUS_OK && !help)
		status = measure_all(b, err);
	close_bench(b);
	return status;
}
