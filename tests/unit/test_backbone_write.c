/* model/backbone_write: what is written reads back, as a backbone and as a network. */
#include "model/backbone_write.h"

#include "model/backbone.h"
#include "model/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MANY = 10003, CHANNELS = 8 };

static char names[MANY][12];
static const char *ids[MANY];
static char path[64];

static int begin(void **state)
{
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(names[i], sizeof names[i], "id %d", i);
		ids[i] = names[i];
	}
	(void)snprintf(path, sizeof path, "/tmp/peterd-test-%ld.safetensors", (long)getpid());
	return 0;
}

static int end(void **state)
{
	return unlink(path);
}

static struct network *random_network(uint32_t items, bool causal)
{
	struct error err;
	struct network *net = NULL;
	struct random_stream random = random_from(3, 0);
	const struct network_shape shape = { .channels = CHANNELS,
					     .kernel_size = 3,
					     .blocks = 3,
					     .dilations = { 1, 2, 4 },
					     .items = items + BACKBONE_FIRST_ITEM,
					     .window = causal ? 0 : 30,
					     .eps = 1e-8F,
					     .causal = causal,
					     .output = true };
	if (network_new(&shape, &net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	network_randomise(net, &random);
	return net;
}

static void write_network(const struct network *net, bool task)
{
	struct error err;
	if (backbone_write(path, net, ids, task, &err) != STATUS_OK)
		fail_msg("%s", err.text);
}

static void expect_metadata(const char *key, const char *value)
{
	struct error err;
	struct safetensors *st = NULL;
	assert_int_equal(safetensors_open(path, &st, &err), STATUS_OK);
	if (value)
		assert_string_equal(safetensors_metadata(st, key), value);
	else
		assert_null(safetensors_metadata(st, key));
	safetensors_close(st);
}

static void weights_come_back(void **state)
{
	for (int causal = 0; causal < 2; causal++) {
		struct error err;
		struct network *net = random_network(20, causal);
		struct network *back = NULL;
		write_network(net, !causal);
		if (network_load(path, &back, &err) != STATUS_OK)
			fail_msg("%s", err.text);
		assert_memory_equal(back->weights, net->weights, net->table.floats * sizeof(float));
		assert_int_equal(back->shape.window, causal ? 0 : 30);
		assert_int_equal(back->shape.causal, causal);
		assert_true(back->shape.output && back->shape.eps == 1e-8F);
		expect_metadata("next_item", causal ? "last" : "tcl");
		expect_metadata("dilations", "1,2,4");
		expect_metadata("layer_norm_eps", "1e-08");
		expect_metadata("window", causal ? NULL : "30");
		network_free(back);
		network_free(net);
	}
}

static void vocabulary_in_both_forms(void **state)
{
	static const uint32_t sizes[] = { 20, MANY };
	for (size_t i = 0; i < 2; i++) {
		struct error err;
		struct backbone *b = NULL;
		struct network *net = random_network(sizes[i], true);
		write_network(net, false);
		if (backbone_load(path, &b, &err) != STATUS_OK)
			fail_msg("%s", err.text);
		assert_int_equal(backbone_items(b), sizes[i] + BACKBONE_FIRST_ITEM);
		for (uint32_t item = 0; item < sizes[i]; item += 7)
			assert_int_equal(backbone_item(b, hash_item(ids[item], strlen(ids[item]))),
					 item + BACKBONE_FIRST_ITEM);
		if (i > 0)
			expect_metadata("vocabulary", NULL);
		backbone_free(b);
		network_free(net);
	}
}

static void what_is_not_finite_is_not_written(void **state)
{
	struct error err = { 0 };
	struct network *net = random_network(20, true);
	const struct parameter *p = parameters_find(&net->table, "blocks.1.norm2.bias");
	write_network(net, false);
	net->weights[p->offset + 1] = (float)NAN;
	assert_int_equal(backbone_write(path, net, ids, false, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "blocks.1.norm2.bias: holds a value that is not finite"));
	assert_int_equal(access(path, F_OK), 0); /* the older file stays */
	net->weights[p->offset + 1] = 0;
	assert_int_equal(backbone_write("/nowhere/b.safetensors", net, ids, false, &err), STATUS_IO);
	network_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weights_come_back),
		cmocka_unit_test(vocabulary_in_both_forms),
		cmocka_unit_test(what_is_not_finite_is_not_written),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
