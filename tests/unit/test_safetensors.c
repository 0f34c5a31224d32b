#include "model/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file's bytes: length, header, `data` bytes that count up. Returns the length. */
static size_t make(uint8_t *out, const char *header, size_t data)
{
	uint64_t n = strlen(header);
	memcpy(out, &n, 8);
	memcpy(out + 8, header, n);
	for (size_t i = 0; i < data; i++)
		out[8 + n + i] = (uint8_t)i;
	return 8 + n + data;
}

static void expect_refused(const char *header, size_t data, const char *why)
{
	uint8_t bytes[4096];
	struct error err = { 0 };
	struct safetensors *st = NULL;
	enum status status = safetensors_open_memory("f.st", bytes, make(bytes, header, data), &st, &err);
	if (status != STATUS_DATA || strstr(err.text, why) == NULL || strncmp(err.text, "f.st: ", 6) != 0)
		fail_msg("%s: status %d, '%s', expected '%s'", header, status, err.text, why);
	assert_null(st);
}

static struct safetensors *open_good(const char *header, size_t data)
{
	uint8_t bytes[4096];
	struct error err = { 0 };
	struct safetensors *st = NULL;
	if (safetensors_open_memory("f.st", bytes, make(bytes, header, data), &st, &err) != STATUS_OK)
		fail_msg("%s: %s", header, err.text);
	return st;
}

static void test_good_file(void **unused)
{
	struct error err;
	struct safetensors *st = open_good("{\"__metadata__\":{\"b\":\"1\",\"a\":\"\"},"
					   "\"y\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]},"
					   "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[8,8]},"
					   "\"x\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}   ",
					   11);
	const uint64_t shape[] = { 2, 2 };
	const struct safetensors_tensor *t = NULL;
	assert_int_equal(safetensors_count(st), 3);
	assert_string_equal(safetensors_at(st, 0)->name, "x");
	assert_string_equal(safetensors_at(st, 1)->name, "empty");
	assert_string_equal(safetensors_at(st, 2)->name, "y");
	assert_int_equal(safetensors_metadata_count(st), 2);
	assert_string_equal(safetensors_metadata_at(st, 0).key, "b");
	assert_string_equal(safetensors_metadata_at(st, 1).value, "");
	assert_string_equal(safetensors_metadata(st, "b"), "1");
	assert_null(safetensors_metadata(st, "c"));
	assert_null(safetensors_find(st, "z"));
	assert_int_equal(safetensors_expect(st, "x", 2, shape, &t, &err), STATUS_OK);
	assert_int_equal(((const uint8_t *)t->data)[7], 7);
	assert_int_equal(safetensors_expect(st, "x", 1, shape, &t, &err), STATUS_DATA);
	assert_string_equal(err.text, "x: shape [2, 2], expected [2]");
	assert_int_equal(safetensors_expect(st, "z", 1, shape, &t, &err), STATUS_DATA);
	assert_string_equal(err.text, "z: no such tensor");
	safetensors_close(st);
	safetensors_close(open_good("{}", 0));
	safetensors_close(NULL);
}

#define ONE(dtype, shape, offsets) "{\"x\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void test_malformed(void **unused)
{
	expect_refused("", 0, "no JSON object");
	expect_refused("[]", 0, "no JSON object");
	expect_refused(" {}", 0, "no JSON object");
	expect_refused("{\"x\":", 0, "header, byte");
	expect_refused("{}{}", 0, "header, byte");
	expect_refused("{\"x\":1,\"x\":1}", 0, "duplicate");
	expect_refused("{\"\xff\":1}", 0, "header, byte");
	expect_refused("{\"x\":1}", 0, "x: no object");
	expect_refused("{}", 1, "1 bytes after the last tensor");
	expect_refused("{\"__metadata__\":[]}", 0, "__metadata__ is no object");
	expect_refused("{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: k is no string");
	expect_refused("{\"x\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, "x: dtype is missing");
	expect_refused(ONE("F33", "[1]", "[0,4]"), 4, "x: dtype 'F33' is not known");
	expect_refused(ONE("F32", "1", "[0,4]"), 4, "x: shape is missing");
	expect_refused(ONE("F32", "[-1]", "[0,4]"), 4, "x: shape: dimension 0");
	expect_refused(ONE("F32", "[1,1.5]", "[0,4]"), 4, "x: shape: dimension 1");
	expect_refused(ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "x: shape has more than 8");
	expect_refused(ONE("F32", "[4611686018427387905,4]", "[0,16]"), 16, "x: shape overflows");
	expect_refused(ONE("F32", "[1]", "[0]"), 4, "x: data_offsets is missing");
	expect_refused(ONE("F32", "[1]", "[0,4,8]"), 4, "x: data_offsets is missing");
	expect_refused(ONE("F32", "[1]", "[-4,0]"), 4, "x: data_offsets [-4, 0] is outside");
	expect_refused(ONE("F32", "[1]", "[4,0]"), 4, "x: data_offsets [4, 0] is outside");
	expect_refused(ONE("F32", "[1]", "[0,8]"), 4, "x: data_offsets [0, 8] is outside the 4 bytes");
	expect_refused(ONE("F32", "[2]", "[0,4]"), 4, "x: data_offsets span 4 bytes, the shape asks for 8");
	expect_refused(ONE("F32", "[1]", "[4,8]"), 8, "x: data_offsets leave a hole");
	expect_refused(ONE("F32", "[1]", "[0,99999999999999999999]"), 8, "header, byte");
	expect_refused("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
		       "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
		       6, "y: data_offsets overlap");
	expect_refused("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
		       "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
		       4, "y: data_offsets overlap");
}

static void test_cut_and_oversize_headers(void **unused)
{
	const uint64_t lengths[] = { 3, 100000000, 100000001, UINT64_MAX };
	uint8_t bytes[16] = { 0 };
	struct error err;
	struct safetensors *st = NULL;
	for (size_t n = 0; n < 8; n++)
		assert_int_equal(safetensors_open_memory("f", bytes, n, &st, &err), STATUS_DATA);
	for (size_t i = 0; i < 4; i++) {
		memcpy(bytes, &lengths[i], 8);
		memcpy(bytes + 8, "{}", 2);
		assert_int_equal(safetensors_open_memory("f", bytes, 10, &st, &err), STATUS_DATA);
	}
}

static void test_small_floats(void **unused)
{
	struct error err;
	const uint16_t half[] = { 0x3c00, 0xc000, 0x0001, 0x8001, 0x03ff, 0x7bff, 0x0000, 0x3555 };
	const float half_values[] = { 1, -2, 0x1p-24F, -0x1p-24F, 0x1.ff8p-15F, 65504, 0, 0x1.554p-2F };
	const uint16_t brain[] = { 0x3f80, 0xc000, 0x0001, 0x7f7f };
	const float brain_values[] = { 1, -2, 0x1p-133F, 0x1.fep127F };
	float out[8];
	struct safetensors_tensor t = { .name = "t", .type = SAFETENSORS_F16, .data = half, .bytes = sizeof half };
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_OK);
	safetensors_copy_floats(&t, 0, 8, out);
	assert_memory_equal(out, half_values, sizeof half_values);
	safetensors_copy_floats(&t, 7, 1, out);
	assert_memory_equal(out, &half_values[7], sizeof out[0]);
	t = (struct safetensors_tensor){ .name = "t", .type = SAFETENSORS_BF16, .data = brain, .bytes = sizeof brain };
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_OK);
	safetensors_copy_floats(&t, 0, 4, out);
	assert_memory_equal(out, brain_values, sizeof brain_values);
}

static void test_non_finite(void **unused)
{
	struct error err;
	const uint16_t half[] = { 0, 0x7c00 };
	const uint16_t brain[] = { 0, 0, 0xff81 };
	static float single[3000];
	struct safetensors_tensor t = { .name = "t", .type = SAFETENSORS_F16, .data = half, .bytes = sizeof half };
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_DATA);
	assert_string_equal(err.text, "t: value 1 is not finite");
	t = (struct safetensors_tensor){ .name = "t", .type = SAFETENSORS_BF16, .data = brain, .bytes = sizeof brain };
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_DATA);
	assert_string_equal(err.text, "t: value 2 is not finite");
	t = (struct safetensors_tensor){ .name = "t", .type = SAFETENSORS_F32, .data = single, .bytes = sizeof single };
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_OK);
	single[2999] = -INFINITY;
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_DATA);
	assert_string_equal(err.text, "t: value 2999 is not finite");
	single[7] = NAN;
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_DATA);
	assert_string_equal(err.text, "t: value 7 is not finite");
	t.type = SAFETENSORS_I32;
	assert_int_equal(safetensors_check_floats(&t, &err), STATUS_DATA);
	assert_string_equal(err.text, "t: dtype I32, expected F32, F16 or BF16");
}

static char folder[] = "/tmp/peterd-test-XXXXXX";
static char path[64];

static int make_folder(void **unused)
{
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(path, sizeof path, "%s/f.st", folder);
	return 0;
}

static int remove_folder(void **unused)
{
	(void)unlink(path);
	return rmdir(folder); /* fails where a temporary file was left */
}

static void write_example(float first)
{
	struct error err;
	const float x[] = { first, 2, 3 };
	const int64_t ends[] = { 0, 5 };
	const struct safetensors_tensor tensors[] = {
		{ "bytes", SAFETENSORS_U8, 1, { 5 }, "hello", 5 },
		{ "x", SAFETENSORS_F32, 2, { 3, 1 }, x, sizeof x },
		{ "ends", SAFETENSORS_I64, 1, { 2 }, ends, sizeof ends },
		{ "a", SAFETENSORS_F32, 0, { 0 }, x, sizeof x[0] },
	};
	const struct safetensors_string metadata[] = { { "z", "\"quoted\"" }, { "a", "\xc3\xa4" } };
	if (safetensors_write(path, tensors, 4, metadata, 2, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static void test_round_trip(void **unused)
{
	static const char *const order[] = { "ends", "a", "x", "bytes" };
	const uint64_t shape[] = { 3, 1 };
	struct error err;
	struct safetensors *st = NULL;
	char hash[HASH_HEX_LENGTH + 1];
	float x[3];
	struct stat info;
	write_example(1);
	if (safetensors_open(path, &st, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(safetensors_at(st, i)->name, order[i]);
	assert_string_equal(safetensors_metadata_at(st, 0).value, "\"quoted\"");
	assert_string_equal(safetensors_metadata(st, "a"), "\xc3\xa4");
	assert_int_equal(safetensors_read_floats(st, "x", 2, shape, x, &err), STATUS_OK);
	assert_true(x[0] == 1 && x[1] == 2 && x[2] == 3);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_size, safetensors_bytes(st));
	(void)snprintf(hash, sizeof hash, "%s", safetensors_hash(st));

	/* in place, as cp does: what is open stays as it was */
	int fd = open(path, O_WRONLY | O_TRUNC);
	assert_true(write(fd, "garbage", 7) == 7);
	(void)close(fd);
	assert_int_equal(safetensors_read_floats(st, "x", 2, shape, x, &err), STATUS_OK);
	assert_true(x[0] == 1);
	safetensors_close(st);

	write_example(1); /* the same bytes again */
	assert_int_equal(safetensors_open(path, &st, &err), STATUS_OK);
	assert_string_equal(safetensors_hash(st), hash);
	safetensors_close(st);
	write_example(5);
	assert_int_equal(safetensors_open(path, &st, &err), STATUS_OK);
	assert_string_not_equal(safetensors_hash(st), hash);
	safetensors_close(st);
}

static void test_files_that_cannot_be(void **unused)
{
	struct error err;
	struct safetensors *st = NULL;
	const struct safetensors_tensor wrong = { "x", SAFETENSORS_F32, 1, { 3 }, "12345678", 8 };
	const struct safetensors_tensor right = { "x", SAFETENSORS_F32, 1, { 2 }, "12345678", 8 };
	assert_int_equal(safetensors_open("/nonexistent/f", &st, &err), STATUS_NO_INPUT);
	assert_string_equal(err.text, "/nonexistent/f: No such file or directory");
	assert_int_equal(safetensors_open(folder, &st, &err), STATUS_DATA);
	assert_int_equal(safetensors_write(path, &wrong, 1, NULL, 0, &err), STATUS_BUG);
	assert_int_equal(safetensors_write("/nonexistent/f", &right, 1, NULL, 0, &err), STATUS_IO);
	assert_int_equal(safetensors_write(folder, &right, 1, NULL, 0, &err), STATUS_IO); /* rename onto a folder */
	assert_null(st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_file),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_cut_and_oversize_headers),
		cmocka_unit_test(test_small_floats),
		cmocka_unit_test(test_non_finite),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_files_that_cannot_be),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
