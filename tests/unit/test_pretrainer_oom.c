/* Pre-training without memory: every allocation fails once; nothing leaks, nothing crashes, and steps need none. */
#include "model/pretrainer.h"

#include "io/catalogue.h"
#include "model/backbone.h"
#include "model/backbone_write.h"
#include "model/next_item.h"
#include "oom.h"
#include "tools/pretrain_data.h"
#include "tools/threads.h"
#include "text_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const size_t offsets[] = { 0, 6, 12 };
static const uint32_t items[] = { 3, 4, 5, 6, 3, 4, 4, 5, 6, 3, 4, 5 };
static const struct pretrainer_sequences sequences = { 2, offsets, items, true };
static const struct next_item_case cases[] = { { items, 5, 4 }, { items + 6, 5, 5 } };
static const char *const ids[] = { "a", "b", "c", "d" };
static const struct pretrainer_options options = {
	.batch = 2, .window = 3, .dropout = 0.1F, .average = 0.9F, .optimizer = { .rate = 0.01F, .epsilon = 1e-8F }
};
static const struct network_shape shape = { .channels = 4,
					    .kernel_size = 3,
					    .blocks = 1,
					    .dilations = { 1 },
					    .items = 7,
					    .eps = 1e-8F,
					    .causal = true,
					    .output = true };

static struct network *new_network(void)
{
	struct error err;
	struct network *net = NULL;
	struct random_stream random = random_from(1, 0);
	assert_int_equal(network_new(&shape, &net, &err), STATUS_OK);
	network_randomise(net, &random);
	return net;
}

static void a_run(void **state)
{
	char path[256];
	text_file_make(".run", "", 0, path);
	for (size_t n = 1;; n++) {
		struct error err;
		struct pretrainer *p = NULL;
		struct next_item_result result;
		bool ended = false;
		struct network *net = new_network();
		oom_fail_at(n);
		enum status status = pretrainer_new(&options, net, &sequences, &parallel_none, &p, &err);
		size_t allocations = oom_count();
		for (int i = 0; !status && i < 5; i++)
			status = pretrainer_step(p, &ended, &err);
		if (!status)
			assert_int_equal(oom_count(), allocations);
		if (!status)
			status = next_item_rank(pretrainer_network(p), &parallel_none, cases, 2, 3, &result, &err);
		if (!status)
			status = pretrainer_save(p, path, &err);
		if (!status)
			status = pretrainer_load(p, path, &err);
		if (!status)
			status = backbone_write(path, net, ids, false, &err);
		bool failed = oom_failed();
		oom_reset();
		pretrainer_free(p);
		network_free(net);
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		if (!failed)
			break;
	}
	(void)unlink(path);
}

static void its_data(void **state)
{
	static const char text[] = "user_id,item_id\nu,a\nu,b\nv,a\nu,c\nv,b\nv,d\n";
	char path[256];
	text_file_make(".csv", text, sizeof text - 1, path);
	for (size_t n = 1;; n++) {
		struct error err;
		struct pretrain_data data = { 0 };
		oom_fail_at(n);
		enum status status = pretrain_data_load(path, 1, 10, 1, &data, &err);
		bool failed = oom_failed();
		oom_reset();
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		if (!failed) {
			assert_int_equal(data.case_count, 2);
			assert_int_equal(data.cases[0].events, 2);
			assert_int_equal(catalogue_size(data.catalogue), 4);
			assert_int_equal(data.rare, 4);
		}
		pretrain_data_free(&data);
		if (!failed)
			break;
	}
	(void)unlink(path);
}

static void a_pool(void **state)
{
	for (size_t n = 1;; n++) {
		struct error err;
		struct threads *threads = NULL;
		oom_fail_at(n);
		enum status status = threads_new(2, &threads, &err);
		bool failed = oom_failed();
		oom_reset();
		threads_free(threads);
		assert_int_equal(status, failed ? STATUS_MEMORY : STATUS_OK);
		if (!failed)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run),
		cmocka_unit_test(its_data),
		cmocka_unit_test(a_pool),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
