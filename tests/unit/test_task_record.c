/* Records of tasks against Avro C with the shipped schema. */
#include "io/task_record.h"

#include "config/config.h"
#include "io/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <avro.h>
#include <cmocka.h>
#include <jansson.h>

static const char whole[] =
	"name: films\ntype: ranking\nlabels: [caf\xc3\xa9, m2]\ninsertion: serial\nblocks: [7, 0]\n"
	"bottleneck: 8\nadapters: 1\nnorms: true\nloss: sampled\nnegatives: 64\nrate: 5e-4\nreplay: 0\n"
	"max_age_ms: 5000\nmin_labels: 10\nwait_ms: 60000\nscores_k: 5\n";

static struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static struct slice bytes(const struct buffer *b)
{
	return (struct slice){ b->data, b->length };
}

static struct config *parse(const char *yaml)
{
	struct config *c = NULL;
	struct error err = { 0 };
	if (config_parse_tasks("t", yaml, strlen(yaml), &c, &err))
		fail_msg("%s", err.text);
	return c;
}

static void encode(const char *yaml, struct buffer *out)
{
	struct config *c = parse(yaml);
	buffer_clear(out);
	task_record_encode(&c->tasks[0], out);
	assert_false(out->failed);
	config_free(c);
}

struct peer { /* Avro C's view of one record */
	avro_value_iface_t *class;
	avro_value_t value;
};

static void peer_open(struct peer *p)
{
	avro_schema_t schema;
	const char *json = schema_json("Task");
	assert_int_equal(avro_schema_from_json_length(json, strlen(json), &schema), 0);
	p->class = avro_generic_class_from_schema(schema);
	assert_int_equal(avro_generic_value_new(p->class, &p->value), 0);
	avro_schema_decref(schema);
}

static void peer_close(struct peer *p)
{
	avro_value_decref(&p->value);
	avro_value_iface_decref(p->class);
}

/* Every byte must be used. */
static void peer_read(struct peer *p, const struct buffer *b)
{
	char rest;
	avro_reader_t reader = avro_reader_memory((const char *)b->data, (int64_t)b->length);
	assert_int_equal(avro_value_read(reader, &p->value), 0);
	assert_int_not_equal(avro_read(reader, &rest, 1), 0);
	avro_reader_free(reader);
}

static void peer_write(struct peer *p, struct buffer *b)
{
	size_t size;
	assert_int_equal(avro_value_sizeof(&p->value, &size), 0);
	buffer_clear(b);
	uint8_t *at = buffer_extend(b, size);
	assert_non_null(at);
	avro_writer_t writer = avro_writer_memory((const char *)at, (int64_t)size);
	assert_int_equal(avro_value_write(writer, &p->value), 0);
	avro_writer_free(writer);
}

static avro_value_t branch(struct peer *p, const char *name, int number)
{
	avro_value_t field, ret;
	int found;
	assert_int_equal(avro_value_get_by_name(&p->value, name, &field, NULL), 0);
	if (avro_value_get_type(&field) != AVRO_UNION)
		return field;
	if (number >= 0)
		assert_int_equal(avro_value_set_branch(&field, number, &ret), 0);
	assert_int_equal(avro_value_get_discriminant(&field, &found), 0);
	assert_int_equal(avro_value_get_current_branch(&field, &ret), 0);
	return ret;
}

static void schema_has_the_keys_in_order(void **state)
{
	json_t *schema = json_loads(schema_json("Task"), 0, NULL);
	const json_t *fields = json_object_get(schema, "fields");
	assert_int_equal(json_array_size(fields), TASK_KEYS);
	for (size_t i = 0; i < TASK_KEYS; i++) {
		const json_t *name = json_object_get(json_array_get(fields, i), "name");
		assert_string_equal(json_string_value(name), task_rows[i].name);
	}
	json_decref(schema);
}

static void avro_reads_what_is_written(void **state)
{
	struct peer p;
	struct buffer out = { 0 };
	const char *got;
	size_t size;
	int64_t number;
	int32_t block;
	double rate;
	int flag;
	avro_value_t item;
	peer_open(&p);
	encode(whole, &out);
	peer_read(&p, &out);
	avro_value_t value = branch(&p, "name", -1);
	assert_int_equal(avro_value_get_string(&value, &got, &size), 0);
	assert_string_equal(got, "films");
	value = branch(&p, "labels", -1);
	assert_int_equal(avro_value_get_size(&value, &size), 0);
	assert_int_equal(size, 2);
	assert_int_equal(avro_value_get_by_index(&value, 0, &item, NULL), 0);
	assert_int_equal(avro_value_get_string(&item, &got, &size), 0);
	assert_string_equal(got, "caf\xc3\xa9");
	value = branch(&p, "blocks", -1);
	assert_int_equal(avro_value_get_by_index(&value, 1, &item, NULL), 0);
	assert_int_equal(avro_value_get_int(&item, &block), 0);
	assert_int_equal(block, 7);
	value = branch(&p, "norms", -1);
	assert_int_equal(avro_value_get_boolean(&value, &flag), 0);
	assert_true(flag);
	value = branch(&p, "mean_window", -1); /* of side patches only */
	assert_int_equal(avro_value_get_type(&value), AVRO_NULL);
	value = branch(&p, "rate", -1);
	assert_int_equal(avro_value_get_double(&value, &rate), 0);
	assert_true(rate > 4.99e-4 && rate < 5.01e-4);
	value = branch(&p, "scores_k", -1);
	assert_int_equal(avro_value_get_long(&value, &number), 0);
	assert_int_equal(number, 5);
	peer_close(&p);
	buffer_free(&out);
}

static void expect_same(const char *yaml)
{
	struct buffer out = { 0 };
	struct config_task task;
	struct error err = { 0 };
	char *before, *after;
	struct config *c = parse(yaml);
	task_record_encode(&c->tasks[0], &out);
	if (task_record_decode(text(c->tasks[0].name), bytes(&out), &task, &err))
		fail_msg("%s", err.text);
	assert_int_equal(config_task_canonical(&c->tasks[0], &before, &err), STATUS_OK);
	assert_int_equal(config_task_canonical(&task, &after, &err), STATUS_OK);
	assert_string_equal(before, after);
	assert_int_equal(task.max_age_ms, c->tasks[0].max_age_ms);
	assert_int_equal(task.min_labels, c->tasks[0].min_labels);
	assert_int_equal(task.wait_ms, c->tasks[0].wait_ms);
	struct buffer again = { 0 };
	task_record_encode(&task, &again);
	assert_int_equal(again.length, out.length);
	assert_memory_equal(again.data, out.data, out.length);
	free(before);
	free(after);
	config_task_clear(&task);
	config_free(c);
	buffer_free(&out);
	buffer_free(&again);
}

static void definitions_come_back(void **state)
{
	expect_same(whole);
	expect_same("name: a\ntype: classification\n");
	expect_same("name: a\ntype: classification\nlabels: [F, M]\nblocks: []\nmean_window: 3\n");
	expect_same("name: a\ntype: regression\ninsertion: parallel\n");
	expect_same("name: a\ntype: ranking\n");
}

/* As other people's producers write them: null where they say nothing. */
static void nulls_have_their_defaults(void **state)
{
	struct peer p;
	struct buffer out = { 0 };
	struct config_task task;
	struct error err = { 0 };
	peer_open(&p);
	avro_value_t value = branch(&p, "name", -1);
	assert_int_equal(avro_value_set_string(&value, "gender"), 0);
	value = branch(&p, "type", -1);
	assert_int_equal(avro_value_set_string(&value, "classification"), 0);
	for (size_t i = 2; i < TASK_KEYS; i++) {
		value = branch(&p, task_rows[i].name, 0);
		assert_int_equal(avro_value_set_null(&value), 0);
	}
	peer_write(&p, &out);
	if (task_record_decode(text("gender"), bytes(&out), &task, &err))
		fail_msg("%s", err.text);
	assert_string_equal(task.insertion, "side");
	assert_int_equal(task.bottleneck, 16);
	assert_int_equal(task.labels.count, 0);
	config_task_clear(&task);

	value = branch(&p, "bottleneck", 1);
	assert_int_equal(avro_value_set_long(&value, 0), 0);
	peer_write(&p, &out);
	assert_int_equal(task_record_decode(text("gender"), bytes(&out), &task, &err), STATUS_DATA);
	assert_string_equal(err.text, "bottleneck: must be from 1 to 65536 units, found 0");
	value = branch(&p, "bottleneck", 1);
	assert_int_equal(avro_value_set_long(&value, 4), 0);
	value = branch(&p, "type", -1);
	assert_int_equal(avro_value_set_string(&value, "clustering"), 0);
	peer_write(&p, &out);
	assert_int_equal(task_record_decode(text("gender"), bytes(&out), &task, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "type: must be classification, ranking or regression, found clustering"));
	peer_close(&p);
	buffer_free(&out);
}

static void damage_is_refused(void **state)
{
	struct buffer out = { 0 };
	struct config_task task;
	struct error err = { 0 };
	encode(whole, &out);
	for (size_t length = 0; length < out.length; length++) {
		struct slice cut = { out.data, length };
		assert_int_equal(task_record_decode(text("films"), cut, &task, &err), STATUS_DATA);
	}
	assert_int_equal(task_record_decode(text("film"), bytes(&out), &task, &err), STATUS_DATA);
	assert_string_equal(err.text, "name: films is not the record's key");
	assert_int_equal(task_record_decode((struct slice){ NULL, 0 }, bytes(&out), &task, &err), STATUS_DATA);
	buffer_append_byte(&out, 0);
	assert_int_equal(task_record_decode(text("films"), bytes(&out), &task, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "1 bytes are left over"));
	out.length--;
	out.data[1] = 0xff;
	assert_int_equal(task_record_decode(text("films"), bytes(&out), &task, &err), STATUS_DATA);
	assert_string_equal(err.text, "name: not UTF-8, or holds a NUL");
	buffer_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(schema_has_the_keys_in_order),
		cmocka_unit_test(avro_reads_what_is_written),
		cmocka_unit_test(definitions_come_back),
		cmocka_unit_test(nulls_have_their_defaults),
		cmocka_unit_test(damage_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
