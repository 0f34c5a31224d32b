/* Every allocation of a network, of a pass and of parameters on their way to a file may fail: each failure says so, and
 * nothing leaks (the sanitizers watch). */
#include "model/network.h"
#include "model/random_backbone.h"
#include "oom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/peterd-test-XXXXXX";
static const struct random_backbone shape = { 8, 3, "1,4", true, 0, 1 };
static const char *const items[] = { "a", "b" };

static struct network *loaded(void)
{
	struct error err = { 0 };
	struct network *net = NULL;
	assert_int_equal(network_load(path, &net, &err), STATUS_OK);
	return net;
}

static void test_load(void **unused)
{
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct network *net = NULL;
		oom_fail_at(n);
		enum status status = network_load(path, &net, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 12);
			network_free(net);
			return;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_non_null(strstr(err.text, "out of memory"));
		assert_null(net);
	}
}

static void test_pass(void **unused)
{
	struct network *net = loaded();
	for (size_t n = 1;; n++) {
		struct error err = { 0 };
		struct network_pass *pass = NULL;
		oom_fail_at(n);
		enum status status = network_pass_new(net, 4, 100, 10, NETWORK_KEEP_ALL, &pass, &err);
		bool failed = oom_failed();
		oom_reset();
		if (!failed) {
			assert_int_equal(status, STATUS_OK);
			assert_true(n > 3);
			network_pass_free(pass);
			break;
		}
		assert_int_equal(status, STATUS_MEMORY);
		assert_null(pass);
	}
	network_free(net);
}

/* Steps allocate nothing. */
static void test_steps(void **unused)
{
	struct error err = { 0 };
	struct network *net = loaded();
	struct network_pass *pass = NULL;
	const size_t offsets[] = { 0, 3, 3, 5 };
	const uint32_t rows[] = { 3, 4, 2, 3, 3 };
	const struct network_batch batch = { 3, offsets, rows, NULL, true, 0 };
	float *gradients = parameters_block_new(&net->table);
	const float d[5 * 8] = { 1 };
	assert_int_equal(network_pass_new(net, 0, 8, 3, NETWORK_KEEP_ALL, &pass, &err), STATUS_OK);
	oom_fail_from(1);
	network_forward(net, NULL, pass, &batch);
	network_backward(net, NULL, pass, &batch, d, d, gradients, NULL);
	assert_int_equal(oom_count(), 0);
	oom_reset();
	free(gradients);
	network_pass_free(pass);
	network_free(net);
}

static void test_tensors(void **unused)
{
	struct error err = { 0 };
	struct network *net = loaded();
	struct safetensors_tensor tensors[32];
	float *scratch = NULL;
	assert_in_range(net->table.count, 1, 32);
	oom_fail_at(1);
	assert_int_equal(parameters_tensors(&net->table, net->weights, tensors, &scratch, &err), STATUS_MEMORY);
	oom_reset();
	assert_null(scratch);
	network_free(net);
}

static int make_file(void **unused)
{
	struct error err;
	int fd = mkstemp(path);
	if (fd < 0 || close(fd) != 0)
		return -1;
	return random_backbone_write(path, &shape, items, 2, &err) == STATUS_OK ? 0 : -1;
}

static int remove_file(void **unused)
{
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_pass),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_tensors),
	};
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
