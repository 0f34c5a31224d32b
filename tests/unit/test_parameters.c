/* model/parameters: the table, its block, and the way to a file and back. */
#include "model/parameters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUT = 3, IN = 5, TAPS = 4 };

struct fixture {
	struct parameters table;
	size_t vector, convolution, matrix; /* offsets */
	float *block;
};

static void open_fixture(struct fixture *f)
{
	struct error err;
	const uint64_t convolution[] = { OUT, IN, TAPS };
	const uint64_t matrix[] = { 2, 17 };
	const uint64_t vector[] = { 3 };
	memset(f, 0, sizeof *f);
	if (parameters_add(&f->table, "a.vector", 1, vector, false, &f->vector, &err) != STATUS_OK ||
	    parameters_add(&f->table, "a.convolution", 3, convolution, true, &f->convolution, &err) != STATUS_OK ||
	    parameters_add(&f->table, "a.matrix", 2, matrix, false, &f->matrix, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	f->block = parameters_block_new(&f->table);
	assert_non_null(f->block);
}

static void close_fixture(struct fixture *f)
{
	parameters_free(&f->table);
	free(f->block);
}

static void test_table(void **unused)
{
	struct fixture f;
	open_fixture(&f);
	assert_int_equal(f.table.count, 3);
	assert_int_equal(f.table.floats, 16 + 64 + 48);
	assert_int_equal(f.vector, 0);
	assert_int_equal(f.convolution, 16);
	assert_int_equal(f.matrix, 80);
	assert_int_equal((uintptr_t)f.block % 64, 0);
	for (size_t i = 0; i < f.table.floats; i++)
		assert_true(f.block[i] == 0.0F);
	assert_ptr_equal(parameters_find(&f.table, "a.matrix"), &f.table.list[2]);
	assert_null(parameters_find(&f.table, "a.matri"));
	assert_int_equal(parameters_trained(&f.table), 3 + 60 + 34);
	f.table.list[1].trained = false;
	assert_int_equal(parameters_trained(&f.table), 3 + 34);
	close_fixture(&f);
	assert_int_equal(f.table.count, 0);
}

static void test_many(void **unused)
{
	struct error err;
	struct parameters table = { 0 };
	const uint64_t shape[] = { 1 };
	size_t offset = 0;
	for (size_t i = 0; i < 1000; i++) {
		char name[16];
		(void)snprintf(name, sizeof name, "t%zu", i);
		if (parameters_add(&table, name, 1, shape, false, &offset, &err) != STATUS_OK)
			fail_msg("%s", err.text);
		assert_int_equal(offset, 16 * i);
	}
	assert_string_equal(parameters_find(&table, "t999")->name, "t999");
	parameters_free(&table);
}

/* Writes the fixture's tensors, the first `count` of them. */
static void write_file(const struct fixture *f, size_t count, char path[])
{
	struct error err;
	struct safetensors_tensor tensors[3];
	float *scratch = NULL;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
	if (parameters_tensors(&f->table, f->block, tensors, &scratch, &err) != STATUS_OK ||
	    safetensors_write(path, tensors, count, NULL, 0, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	free(scratch);
}

static struct safetensors *open_file(const char *path)
{
	struct error err;
	struct safetensors *st = NULL;
	if (safetensors_open(path, &st, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	(void)unlink(path);
	return st;
}

static void test_file(void **unused)
{
	struct error err;
	struct fixture f;
	char path[] = "/tmp/peterd-test-XXXXXX";
	float values[OUT * IN * TAPS];
	const uint64_t shape[] = { OUT, IN, TAPS };
	open_fixture(&f);
	for (size_t i = 0; i < f.table.count; i++) {
		for (size_t k = 0; k < f.table.list[i].count; k++)
			f.block[f.table.list[i].offset + k] = (float)(100 * i + k);
	}
	write_file(&f, 3, path);
	struct safetensors *st = open_file(path);
	if (safetensors_read_floats(st, "a.convolution", 3, shape, values, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t o = 0; o < OUT; o++) {
		for (size_t i = 0; i < IN; i++) {
			for (size_t t = 0; t < TAPS; t++)
				assert_true(values[(o * IN + i) * TAPS + t] ==
					    f.block[f.convolution + (o * TAPS + t) * IN + i]);
		}
	}
	float *again = parameters_block_new(&f.table);
	if (parameters_load(&f.table, st, again, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	assert_memory_equal(again, f.block, f.table.floats * sizeof *again);
	free(again);
	safetensors_close(st);
	close_fixture(&f);
}

static void check_refused(struct fixture *f, size_t count, const char *text)
{
	struct error err;
	char path[] = "/tmp/peterd-test-XXXXXX";
	write_file(f, count, path);
	struct safetensors *st = open_file(path);
	struct fixture other;
	open_fixture(&other);
	assert_int_equal(parameters_load(&other.table, st, other.block, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, text));
	close_fixture(&other);
	safetensors_close(st);
}

static void test_bad_files(void **unused)
{
	struct fixture f;
	open_fixture(&f);
	check_refused(&f, 2, "a.matrix: no such tensor");
	f.block[f.convolution + 7] = NAN;
	check_refused(&f, 3, "a.convolution: value ");
	f.block[f.convolution + 7] = 0;
	f.block[f.vector] = INFINITY;
	check_refused(&f, 3, "a.vector: value 0 is not finite");
	f.block[f.vector] = 0;
	f.table.list[1].shape[1] = TAPS;
	f.table.list[1].shape[2] = IN;
	check_refused(&f, 3, "a.convolution: shape [3, 4, 5], expected [3, 5, 4]");
	close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_bad_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
