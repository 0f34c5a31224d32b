/* model/pretrainer: what is learnt, from what, and that a run is its seed's to the bit, interrupted or not. */
#include "model/pretrainer_private.h"

#include "model/backbone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Users walk around a circle of items from a random start: the next item, and what is behind a blank, are certain. */
enum { ITEMS = 12, USERS = 40, LONGEST = 60 };

struct world {
	size_t offsets[USERS + 1];
	uint32_t items[USERS * LONGEST];
	struct pretrainer_sequences sequences;
};

static void make_world(struct world *w, bool hold_out)
{
	struct random_stream random = random_from(2, 0);
	w->offsets[0] = 0;
	for (size_t user = 0; user < USERS; user++) {
		uint32_t item = random_below(&random, ITEMS);
		size_t events = user < 4 ? user : 3 + random_below(&random, LONGEST - 2);
		for (size_t i = 0; i < events; i++)
			w->items[w->offsets[user] + i] = BACKBONE_FIRST_ITEM + (item + (uint32_t)i * 5) % ITEMS;
		w->offsets[user + 1] = w->offsets[user] + events;
	}
	w->sequences = (struct pretrainer_sequences){ USERS, w->offsets, w->items, hold_out };
}

static struct pretrainer_options usual_options(void)
{
	return (struct pretrainer_options){
		.seed = 1,
		.batch = 8,
		.window = 16,
		.dropout = 0.1F,
		.task_weight = 0.5F,
		.unknown = 0.02F,
		.blanks = 0.3F,
		.loss = PRETRAINER_FULL,
		.sampled = 8,
		.average = 0.9F,
		.optimizer = { .rate = 0.01F, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8F, .clip = 5, .warm_up = 5 }
	};
}

static struct network *new_network(bool causal)
{
	struct error err;
	struct network *net = NULL;
	struct random_stream random = random_from(7, 0);
	const struct network_shape shape = { .channels = 16,
					     .kernel_size = 3,
					     .blocks = 2,
					     .dilations = { 1, 2 },
					     .items = ITEMS + BACKBONE_FIRST_ITEM,
					     .window = causal ? 0 : 16,
					     .eps = 1e-8F,
					     .causal = causal,
					     .output = true };
	if (network_new(&shape, &net, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	network_randomise(net, &random);
	return net;
}

static struct pretrainer *start(const struct pretrainer_options *options, struct network *net, const struct world *w,
				const struct parallel *parallel)
{
	struct error err;
	struct pretrainer *p = NULL;
	if (pretrainer_new(options, net, &w->sequences, parallel, &p, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return p;
}

static bool step(struct pretrainer *p)
{
	struct error err;
	bool ended = false;
	if (pretrainer_step(p, &ended, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return ended;
}

/* Epochs until `epochs` are finished. */
static void go(struct pretrainer *p, uint64_t epochs)
{
	while (pretrainer_epochs(p) < epochs)
		if (step(p))
			(void)pretrainer_judge(p, (double)(pretrainer_epochs(p) * 7 % 5), false);
}

static void run_forwards(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job)
{
	for (uint32_t i = 0; i < parts; i++)
		part(job, i);
}

static void run_backwards(void *arg, uint32_t parts, void (*part)(void *job, uint32_t number), void *job)
{
	for (uint32_t i = parts; i-- > 0;)
		part(job, i);
}

static void learns_what_is_certain(struct pretrainer_options options, bool causal, double least_loss)
{
	static struct world w;
	make_world(&w, false);
	struct network *net = new_network(causal);
	struct pretrainer *p = start(&options, net, &w, &parallel_none);
	go(p, 1);
	const struct pretrainer_sums first = *pretrainer_sums(p);
	go(p, 25);
	const struct pretrainer_sums *last = pretrainer_sums(p);
	assert_true(first.loss / first.targets > 1.5);
	assert_true(last->loss / last->targets < least_loss); /* chance is 2.5 */
	assert_true(last->task_loss / last->tasks < least_loss);
	assert_true(last->tasks > 0 && last->skipped == 0);
	pretrainer_free(p);
	network_free(net);
}

static void full_softmax_learns(void **state)
{
	learns_what_is_certain(usual_options(), true, 0.5);
}

static void sampled_softmax_learns(void **state)
{
	struct pretrainer_options options = usual_options();
	options.loss = PRETRAINER_LOG_UNIFORM;
	learns_what_is_certain(options, true, 0.5);
	options.loss = PRETRAINER_UNIFORM;
	learns_what_is_certain(options, true, 0.5);
}

static void tied_tables_stay_equal(void **state)
{
	static struct world w;
	struct pretrainer_options options = usual_options();
	options.tied = true;
	options.optimizer.decay = 0.01F;
	learns_what_is_certain(options, true, 0.5);
	make_world(&w, false);
	struct network *net = new_network(true);
	struct pretrainer *p = start(&options, net, &w, &parallel_none);
	go(p, 2);
	assert_memory_equal(net->weights + p->output_weight, net->weights + p->embedding,
			    (size_t)net->shape.items * net->shape.channels * sizeof(float));
	pretrainer_free(p);
	network_free(net);
}

static void gaps_are_filled(void **state)
{
	struct pretrainer_options options = usual_options();
	options.task_weight = 1;
	learns_what_is_certain(options, false, 0.8);
}

/* What a run yields and where it stands, for comparison to the bit. */
static void expect_equal(const struct pretrainer *a, const struct pretrainer *b)
{
	size_t bytes = a->net->table.floats * sizeof(float);
	assert_memory_equal(a->net->weights, b->net->weights, bytes);
	assert_memory_equal(pretrainer_network(a)->weights, pretrainer_network(b)->weights, bytes);
	assert_memory_equal(a->best_weights, b->best_weights, bytes);
	assert_memory_equal(a->optimizer.square, b->optimizer.square, bytes);
	assert_memory_equal(&a->sums, &b->sums, sizeof a->sums);
	assert_true(a->best.epoch == b->best.epoch && a->best.value == b->best.value);
}

static void a_run_is_its_seeds(void **state)
{
	static struct world w;
	const struct parallel orders[] = { { 3, run_forwards, NULL }, { 3, run_backwards, NULL } };
	struct pretrainer_options options = usual_options();
	struct network *nets[3];
	struct pretrainer *runs[3];
	make_world(&w, true);
	for (size_t i = 0; i < 3; i++) {
		options.seed = i < 2 ? 1 : 2;
		nets[i] = new_network(true);
		runs[i] = start(&options, nets[i], &w, &orders[i % 2]);
		go(runs[i], 2);
	}
	expect_equal(runs[0], runs[1]);
	assert_memory_not_equal(nets[0]->weights, nets[2]->weights, nets[0]->table.floats * sizeof(float));
	for (size_t i = 0; i < 3; i++) {
		pretrainer_free(runs[i]);
		network_free(nets[i]);
	}
}

/* Parts change the order of additions and nothing else, where nothing random belongs to a part. */
static void parts_add_up(void **state)
{
	static struct world w;
	struct pretrainer_options options = usual_options();
	options.dropout = 0;
	make_world(&w, true);
	for (int causal = 0; causal < 2; causal++) {
		struct network *one = new_network(causal);
		struct network *many = new_network(causal);
		const struct parallel eleven = { 11, run_forwards, NULL }; /* more than windows in a step */
		struct pretrainer *a = start(&options, one, &w, &parallel_none);
		struct pretrainer *b = start(&options, many, &w, &eleven);
		for (int i = 0; i < 3; i++) {
			(void)step(a);
			(void)step(b);
		}
		for (size_t i = 0; i < one->table.floats; i++)
			assert_true(fabsf(one->weights[i] - many->weights[i]) < 1e-3F);
		pretrainer_free(a);
		pretrainer_free(b);
		network_free(one);
		network_free(many);
	}
}

static void temporary_path(char path[64])
{
	(void)snprintf(path, 64, "/tmp/peterd-test-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)close(fd);
}

/* Stopped after `steps`, gone on from the file by a fresh pretrainer, against a run that never stopped. */
static void resumes_after(int steps, struct pretrainer_options options, bool causal)
{
	static struct world w;
	char path[64];
	struct error err;
	const struct parallel parallel = { 2, run_forwards, NULL };
	struct network *straight = new_network(causal);
	struct network *stopped = new_network(causal);
	struct network *other = new_network(causal);
	make_world(&w, true);
	temporary_path(path);
	struct pretrainer *a = start(&options, straight, &w, &parallel);
	struct pretrainer *b = start(&options, stopped, &w, &parallel);
	for (int i = 0; i < steps; i++)
		if (step(b))
			(void)pretrainer_judge(b, (double)(pretrainer_epochs(b) * 7 % 5), false);
	assert_int_equal(pretrainer_save(b, path, &err), STATUS_OK);
	pretrainer_free(b);
	b = start(&options, other, &w, &parallel);
	if (pretrainer_load(b, path, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	go(a, 3);
	go(b, 3);
	expect_equal(a, b);
	pretrainer_free(a);
	pretrainer_free(b);
	network_free(straight);
	network_free(stopped);
	network_free(other);
	(void)unlink(path);
}

static void a_run_that_was_stopped_goes_on(void **state)
{
	struct pretrainer_options options = usual_options();
	static struct world w;
	make_world(&w, true);
	struct network *net = new_network(true);
	struct pretrainer *p = start(&options, net, &w, &parallel_none);
	int epoch = (int)pretrainer_epoch_steps(p);
	pretrainer_free(p);
	network_free(net);
	resumes_after(0, options, true);
	resumes_after(epoch, options, true);
	resumes_after(epoch + 3, options, true);
	resumes_after(epoch + 3, options, false);
	options.average = 0;
	options.cosine_epochs = 3;
	options.loss = PRETRAINER_LOG_UNIFORM;
	resumes_after(2, options, true);
}

static void expect_refused(const struct pretrainer_options *options, const struct world *w,
			   const struct parallel *parallel, const char *path, const char *text)
{
	struct error err = { 0 };
	struct network *net = new_network(true);
	struct pretrainer *p = start(options, net, w, parallel);
	assert_int_equal(pretrainer_load(p, path, &err), STATUS_DATA);
	if (!strstr(err.text, text) || !strstr(err.text, path))
		fail_msg("%s", err.text);
	pretrainer_free(p);
	network_free(net);
}

static void other_runs_are_refused(void **state)
{
	static struct world w;
	char path[64];
	struct error err;
	uint32_t parts = 0;
	const struct parallel two = { 2, run_forwards, NULL };
	struct pretrainer_options options = usual_options();
	struct network *net = new_network(true);
	make_world(&w, true);
	temporary_path(path);
	struct pretrainer *p = start(&options, net, &w, &two);
	go(p, 1);
	assert_int_equal(pretrainer_save(p, path, &err), STATUS_OK);
	assert_int_equal(pretrainer_saved_parts(path, &parts, &err), STATUS_OK);
	assert_int_equal(parts, 2);
	pretrainer_free(p);
	network_free(net);
	expect_refused(&options, &w, &parallel_none, path, "made with parts 2, and this run has 1");
	options.seed = 5;
	expect_refused(&options, &w, &two, path, "made with --seed 1, and this run has 5");
	options.seed = 1;
	w.items[w.offsets[7]]++;
	expect_refused(&options, &w, &two, path, "made with events ");
	w.items[w.offsets[7]]--;
	assert_int_equal(truncate(path, 3000), 0);
	expect_refused(&options, &w, &two, path, "");
	assert_int_equal(pretrainer_saved_parts(path, &parts, &err), STATUS_DATA);
	assert_int_equal(pretrainer_saved_parts("/nowhere/c", &parts, &err), STATUS_NO_INPUT);
	(void)unlink(path);
}

/* Every event that another one precedes is a target once an epoch, unless it is held out; windows differ by epoch. */
static void every_event_is_a_target_once(void **state)
{
	static struct world w;
	static uint32_t targets[USERS * LONGEST];
	struct error err;
	struct pretrainer_options options = usual_options();
	make_world(&w, true);
	struct network *net = new_network(true);
	struct pretrainer *p = start(&options, net, &w, &parallel_none);
	size_t ends = 0;
	for (p->epoch = 0; p->epoch < 3; p->epoch++) {
		size_t sum = 0;
		memset(targets, 0, sizeof targets);
		assert_int_equal(pretrainer_cut(p, &err), STATUS_OK);
		for (size_t i = 0; i < p->windows.count; i++) {
			struct pretrainer_window window = p->windows.list[p->windows.order[i]];
			assert_in_range(window.events, 1, options.window);
			for (size_t event = 0; event < window.events; event++)
				targets[window.begin + event + 1]++;
			sum += (i + 1) * (window.begin + window.events);
		}
		assert_true(sum != ends);
		ends = sum;
		for (size_t user = 0; user < USERS; user++) {
			size_t length = w.offsets[user + 1] - w.offsets[user];
			for (size_t i = 0; i < length; i++)
				assert_int_equal(targets[w.offsets[user] + i],
						 i > 0 && !(length >= 3 && i + 1 == length));
		}
	}
	pretrainer_free(p);
	network_free(net);
}

/* Rows of unknown items get no gradient as classes to be named: nothing pulls them up. */
static void unknown_items_are_no_targets(void **state)
{
	static struct world w;
	struct pretrainer_options options = usual_options();
	make_world(&w, false);
	size_t named = 0;
	for (size_t i = 0; i < w.offsets[USERS]; i += 3)
		w.items[i] = BACKBONE_OOV;
	for (size_t user = 0; user < USERS; user++)
		for (size_t i = w.offsets[user] + 1; i < w.offsets[user + 1]; i++)
			named += w.items[i] != BACKBONE_OOV;
	struct network *net = new_network(true);
	struct pretrainer *p = start(&options, net, &w, &parallel_none);
	go(p, 1);
	assert_true(pretrainer_sums(p)->targets == (double)named);
	pretrainer_free(p);
	network_free(net);
}

static void nothing_to_learn_from(void **state)
{
	static const size_t offsets[] = { 0, 1, 1, 2 };
	static const uint32_t items[] = { 3, 4 };
	const struct pretrainer_sequences singles = { 3, offsets, items, true };
	const struct pretrainer_sequences nobody = { 0, offsets, items, true };
	struct pretrainer_options options = usual_options();
	struct pretrainer *p = NULL;
	struct error err;
	struct network *net = new_network(true);
	assert_int_equal(pretrainer_new(&options, net, &singles, &parallel_none, &p, &err), STATUS_DATA);
	assert_string_equal(err.text, "no user has two events to learn from");
	assert_int_equal(pretrainer_new(&options, net, &nobody, &parallel_none, &p, &err), STATUS_DATA);
	assert_null(p);
	network_free(net);
}

static void never_finite(uint32_t batch, const char *says)
{
	static struct world w;
	struct error err = { 0 };
	struct pretrainer_options options = usual_options();
	bool ended;
	int good = 0;
	options.batch = batch;
	make_world(&w, false);
	struct network *net = new_network(true);
	struct pretrainer *p = start(&options, net, &w, &parallel_none);
	net->weights[p->output_bias + 4] = (float)NAN;
	while (pretrainer_step(p, &ended, &err) == STATUS_OK)
		assert_true(++good < 100);
	assert_int_equal(err.status, STATUS_DATA);
	assert_non_null(strstr(err.text, says));
	assert_true(p->optimizer.step == 0);
	pretrainer_free(p);
	network_free(net);
}

static void gradients_that_are_not_finite(void **state)
{
	never_finite(1, "20 steps in a row had gradients that are not finite");
	never_finite(64, "epoch 1: no step had a finite gradient"); /* of fewer steps */
}

static void the_best_is_kept(void **state)
{
	static struct world w;
	struct pretrainer_options options = usual_options();
	make_world(&w, false);
	struct network *net = new_network(true);
	struct pretrainer *p = start(&options, net, &w, &parallel_none);
	size_t bytes = net->table.floats * sizeof(float);
	float *kept = malloc(bytes);
	assert_non_null(kept);
	go(p, 0);
	while (!step(p))
		continue;
	assert_true(pretrainer_judge(p, 0.5, true));
	memcpy(kept, pretrainer_network(p)->weights, bytes);
	while (!step(p))
		continue;
	assert_false(pretrainer_judge(p, 0.4, false));
	assert_memory_not_equal(pretrainer_network(p)->weights, kept, bytes);
	assert_true(pretrainer_best(p)->epoch == 1 && pretrainer_best(p)->task && pretrainer_best(p)->value == 0.5);
	pretrainer_restore_best(p);
	assert_memory_equal(pretrainer_network(p)->weights, kept, bytes);
	free(kept);
	pretrainer_free(p);
	network_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_softmax_learns),
		cmocka_unit_test(sampled_softmax_learns),
		cmocka_unit_test(tied_tables_stay_equal),
		cmocka_unit_test(gaps_are_filled),
		cmocka_unit_test(a_run_is_its_seeds),
		cmocka_unit_test(parts_add_up),
		cmocka_unit_test(a_run_that_was_stopped_goes_on),
		cmocka_unit_test(other_runs_are_refused),
		cmocka_unit_test(every_event_is_a_target_once),
		cmocka_unit_test(unknown_items_are_no_targets),
		cmocka_unit_test(nothing_to_learn_from),
		cmocka_unit_test(gradients_that_are_not_finite),
		cmocka_unit_test(the_best_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
