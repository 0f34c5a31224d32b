#include "model/vocabulary.h"

#include "model/backbone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file with this metadata and, unless offsets is NULL, these tensors. */
static struct safetensors *make(const char *vocabulary, const char *bytes, const int64_t *offsets, size_t offset_count)
{
	struct error err;
	struct safetensors *st = NULL;
	char path[] = "/tmp/peterd-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	const struct safetensors_string metadata = { vocabulary == NULL ? "other" : "vocabulary",
						     vocabulary == NULL ? "" : vocabulary };
	const struct safetensors_tensor tensors[] = {
		{ "vocabulary.bytes",
		  SAFETENSORS_U8,
		  1,
		  { bytes == NULL ? 0 : strlen(bytes) },
		  bytes,
		  bytes == NULL ? 0 : strlen(bytes) },
		{ "vocabulary.offsets", SAFETENSORS_I64, 1, { offset_count }, offsets, 8 * offset_count },
	};
	if (safetensors_write(path, tensors,
			      bytes == NULL     ? 0
			      : offsets == NULL ? 1
						: 2,
			      &metadata, 1, &err) != STATUS_OK ||
	    safetensors_open(path, &st, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	(void)unlink(path);
	return st;
}

static struct vocabulary *expect(struct safetensors *st, const char *why)
{
	struct error err = { 0 };
	struct vocabulary *v = NULL;
	enum status status = vocabulary_load(st, &v, &err);
	safetensors_close(st);
	if (why == NULL && status != STATUS_OK)
		fail_msg("%s", err.text);
	if (why != NULL && (status != STATUS_DATA || strstr(err.text, why) == NULL || v != NULL))
		fail_msg("status %d, '%s', expected '%s'", status, err.text, why);
	return v;
}

static uint32_t look_up(const struct vocabulary *v, const char *item)
{
	return vocabulary_index(v, hash_item(item, strlen(item)));
}

static void test_array(void **unused)
{
	struct vocabulary *v = expect(make("[\"b\", \"a\", \"\\u00e4\", 17, -3]", NULL, NULL, 0), NULL);
	assert_int_equal(vocabulary_size(v), 5);
	assert_int_equal(look_up(v, "b"), 3);
	assert_int_equal(look_up(v, "a"), 4);
	assert_int_equal(look_up(v, "\xc3\xa4"), 5);
	assert_int_equal(look_up(v, "17"), 6);
	assert_int_equal(look_up(v, "-3"), 7);
	assert_int_equal(look_up(v, ""), BACKBONE_OOV);
	assert_int_equal(look_up(v, "c"), BACKBONE_OOV);
	vocabulary_free(v);
	v = expect(make("[]", NULL, NULL, 0), NULL);
	assert_int_equal(vocabulary_size(v), 0);
	assert_int_equal(look_up(v, "a"), BACKBONE_OOV);
	vocabulary_free(v);
	vocabulary_free(NULL);
}

static void test_bad_array(void **unused)
{
	(void)expect(make("{}", NULL, NULL, 0), "vocabulary: no JSON array");
	(void)expect(make("[\"a\"", NULL, NULL, 0), "vocabulary: no JSON array: ");
	(void)expect(make("[\"a\", 1.5]", NULL, NULL, 0), "vocabulary: entry 1 is no string");
	(void)expect(make("[\"a\", \"b\", \"a\"]", NULL, NULL, 0), "vocabulary: entries 0 and 2 are equal ('a')");
	(void)expect(make("[\"a\", \"\"]", NULL, NULL, 0), "vocabulary: entry 1 is empty");
	(void)expect(make("[1, \"1\"]", NULL, NULL, 0), "vocabulary: entries 0 and 1 are equal ('1')");
}

static void test_tensors(void **unused)
{
	const int64_t offsets[] = { 0, 3, 6 };
	struct vocabulary *v = expect(make(NULL, "onetwo", offsets, 3), NULL);
	assert_int_equal(vocabulary_size(v), 2);
	assert_int_equal(look_up(v, "one"), 3);
	assert_int_equal(look_up(v, "two"), 4);
	vocabulary_free(v);
}

static void test_bad_tensors(void **unused)
{
	const int64_t late[] = { 1, 6 };
	const int64_t empty[] = { 0, 3, 3, 6 };
	const int64_t back[] = { 0, 4, 3, 6 };
	const int64_t far[] = { 0, 7, 6 };
	const int64_t shorter[] = { 0, 5 };
	const int64_t negative[] = { 0, -1, 6 };
	const int64_t equal[] = { 0, 1, 2, 3 };
	(void)expect(make(NULL, NULL, NULL, 0), "vocabulary: neither");
	(void)expect(make(NULL, "onetwo", NULL, 0), "vocabulary: neither");
	(void)expect(make("[]", "onetwo", late, 2), "vocabulary: both");
	(void)expect(make(NULL, "onetwo", empty, 4), "vocabulary: entry 1 is empty");
	(void)expect(make(NULL, "onetwo", late, 0), "vocabulary.offsets: not I64 with one dimension of at least 1");
	(void)expect(make(NULL, "onetwo", late, 2), "vocabulary.offsets: the first is not 0");
	(void)expect(make(NULL, "onetwo", back, 4), "vocabulary.offsets: value 2 is out of order");
	(void)expect(make(NULL, "onetwo", far, 3), "vocabulary.offsets: value 1 is out of order");
	(void)expect(make(NULL, "onetwo", negative, 3), "vocabulary.offsets: value 1 is out of order");
	(void)expect(make(NULL, "onetwo", shorter, 2), "vocabulary.offsets: the last is not the length");
	(void)expect(make(NULL, "aba", equal, 4), "vocabulary: entries 0 and 2 are equal ('a')");
}

/* Enough items for long probe sequences, and every one is found. */
static void test_many(void **unused)
{
	enum { MANY = 40000 };
	char *bytes = malloc(MANY * 8);
	int64_t *offsets = calloc(MANY + 1, sizeof *offsets);
	for (int i = 0; i < MANY; i++)
		offsets[i + 1] = offsets[i] + snprintf(bytes + offsets[i], 8, "i%d", i);
	struct vocabulary *v = expect(make(NULL, bytes, offsets, MANY + 1), NULL);
	for (int i = 0; i < MANY; i++) {
		char item[16];
		(void)snprintf(item, sizeof item, "i%d", i);
		assert_int_equal(look_up(v, item), i + BACKBONE_FIRST_ITEM);
		(void)snprintf(item, sizeof item, "j%d", i);
		assert_int_equal(look_up(v, item), BACKBONE_OOV);
	}
	vocabulary_free(v);
	free(offsets);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_array),       cmocka_unit_test(test_bad_array), cmocka_unit_test(test_tensors),
		cmocka_unit_test(test_bad_tensors), cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
