/* Labels joined with a user's past: what an example holds, and what becomes a dead letter. */
#include "daemon/join.h"

#include "io/example.h"
#include "io/label.h"
#include "shard_fixture.h"

static const char tasks_yaml[] = "tasks:\n"
				 "- {name: gender, type: classification, labels: [M, F]}\n"
				 "- {name: age, type: regression}\n"
				 "- {name: birth, type: ranking, wait_ms: 1000}\n"
				 "- {name: films, type: ranking, insertion: serial}\n";

/* Messages of these tests have none. */
rd_kafka_resp_err_t rd_kafka_message_headers(const rd_kafka_message_t *message, rd_kafka_headers_t **ret)
{
	return RD_KAFKA_RESP_ERR__NOENT;
}

static int begin(void **state)
{
	struct config *c;
	if (fx_begin(state) != 0 ||
	    config_parse_tasks("t", tasks_yaml, sizeof tasks_yaml - 1, &c, &fx.err) != STATUS_OK)
		return -1;
	enum status status = task_set_of(c->tasks, c->tasks_count, 1, &fx.ctx.tasks, &fx.err);
	config_free(c);
	return status == STATUS_OK ? 0 : -1;
}

static int end(void **state)
{
	batch_clear(&fx.batch);
	task_set_release(fx.ctx.tasks);
	return fx_end(state);
}

static void join_raw(int64_t offset, struct slice value)
{
	static rd_kafka_message_t messages[64];
	rd_kafka_message_t *message = &messages[fx.events % 64];
	int *event = &fx.destroys[fx.events++];
	*message = (rd_kafka_message_t){ .partition = SHARD_FIXTURE_PARTITION,
					 .offset = offset,
					 .payload = (void *)(uintptr_t)value.data,
					 .len = value.length };
	if (join_label(fx.shard, &fx.ctx, &fx.batch, (rd_kafka_event_t *)(void *)event, message, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
}

/* label NULL: `number`. */
static void join(const char *task, const char *user, int64_t time_ms, const char *label, double number)
{
	static int64_t offset;
	struct buffer value = { 0 };
	const struct label l = { .task = fx_text(task),
				 .user_id = fx_text(user),
				 .timestamp_ms = time_ms,
				 .text = label ? fx_text(label) : (struct slice){ NULL, 0 },
				 .number = number,
				 .weight = 0.5F };
	label_encode(&l, &value);
	join_raw(++offset, (struct slice){ value.data, value.length });
	assert_int_equal(fx.shard->position.labels, offset + 1);
	buffer_free(&value);
}

/* The newest example, as the learner will read it but for its states. */
static struct example last_example(struct buffer *bytes)
{
	struct example e;
	assert_true(fx.batch.examples_count > 0);
	const struct batch_example *at = &fx.batch.examples[fx.batch.examples_count - 1];
	buffer_clear(bytes);
	buffer_append(bytes, fx.batch.example_bytes.data + at->begin, at->end - at->begin);
	example_encode_states((struct slice){ NULL, 0 }, bytes);
	if (example_decode((struct slice){ bytes->data, bytes->length }, &e, &fx.err) != STATUS_OK)
		fail_msg("%s", fx.err.text);
	assert_int_equal(e.events.length, at->events_end - at->events_begin);
	return e;
}

static void assert_text(struct slice got, const char *expected)
{
	assert_int_equal(got.length, strlen(expected));
	assert_memory_equal(got.data, expected, got.length);
}

/* The newest example's events, as times. */
static void assert_past(const int64_t times[], uint32_t count)
{
	struct buffer bytes = { 0 };
	struct sequence past = { 0 };
	const struct example e = last_example(&bytes);
	const uint8_t *at = e.events.data;
	assert_int_equal(sequence_decode(&past, &at, e.events.data + e.events.length, &fx.err), STATUS_OK);
	assert_int_equal(past.length, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(past.events[i].time_ms, times[i]);
	sequence_free(&past);
	buffer_free(&bytes);
}

static void assert_rejected(enum reason reason, const char *detail)
{
	assert_true(fx.batch.rejected_count > 0);
	const struct batch_rejected *last = &fx.batch.rejected[fx.batch.rejected_count - 1];
	assert_int_equal(last->reason, reason);
	assert_string_equal(last->detail, detail);
}

static void an_example_says_whose_it_is(void **state)
{
	struct buffer bytes = { 0 };
	fx_apply("u", "a", 100);
	join("gender", "u", 200, "F", 0);
	struct example e = last_example(&bytes);
	assert_text(e.task, "gender");
	assert_text(e.definition, task_set_find(fx.ctx.tasks, fx_text("gender"))->hash);
	assert_text(e.backbone, backbone_hash(fx.backbone));
	assert_text(e.user_id, "u");
	assert_text(e.text, "F");
	assert_int_equal(e.timestamp_ms, 200);
	assert_int_equal(e.partition, SHARD_FIXTURE_PARTITION);
	assert_int_equal(e.offset + 1, fx.shard->position.labels);
	assert_int_equal(e.kind, EXAMPLE_TEXT);
	assert_true(e.weight == 0.5F);
	join("age", "u", 200, NULL, 31.5);
	e = last_example(&bytes);
	assert_int_equal(e.kind, EXAMPLE_NUMBER);
	assert_true(e.number == 31.5);
	assert_int_equal(fx.batch.labels, 2);
	assert_int_equal(fx.batch.examples_count, 2);
	buffer_free(&bytes);
}

static void only_older_events_are_in_it(void **state)
{
	static const int64_t all[] = { 100, 200, 300 };
	fx_apply("u", "a", 100);
	fx_apply("u", "b", 200);
	fx_apply("u", "c", 300);
	join("gender", "u", 301, "F", 0);
	assert_past(all, 3);
	join("gender", "u", 300, "F", 0); /* not the event of the same moment */
	assert_past(all, 2);
	join("gender", "u", 150, "F", 0);
	assert_past(all, 1);
}

static void later_events_change_nothing_in_it(void **state)
{
	static const int64_t all[] = { 100 };
	fx_apply("u", "a", 100);
	join("gender", "u", 200, "F", 0);
	fx_apply("u", "b", 120);
	fx_apply("u", "b", 130);
	assert_past(all, 1);
}

/* Of four kept events the window reads three: more than one newer event, and what the label's moment saw is lost. */
static void a_label_may_come_too_late(void **state)
{
	for (int64_t time_ms = 100; time_ms <= 500; time_ms += 100)
		fx_apply("u", "a", time_ms);
	join("gender", "u", 500, "F", 0);
	assert_int_equal(fx.batch.examples_count, 1);
	join("gender", "u", 400, "F", 0);
	assert_int_equal(fx.batch.examples_count, 1);
	assert_rejected(REASON_LATE, "only 2 of the user's 4 kept events are older than the label");
}

static void an_unknown_user_task_or_label_is_a_dead_letter(void **state)
{
	join("gender", "nobody", 100, "F", 0);
	assert_rejected(REASON_UNKNOWN_USER, "the user has no event before the label");
	fx_apply("u", "a", 100);
	join("gender", "u", 100, "F", 0);
	assert_rejected(REASON_UNKNOWN_USER, "the user has no event before the label");
	join("sign", "u", 200, "F", 0);
	assert_rejected(REASON_UNKNOWN_TASK, "there is no task sign");
	join("gender", "u", 200, "X", 0);
	assert_rejected(REASON_UNKNOWN_LABEL, "the task does not have the label X");
	join("gender", "u", 200, NULL, 1);
	assert_rejected(REASON_SCHEMA, "label is a number, which a task of type classification does not take");
	join("age", "u", 200, "31", 0);
	assert_rejected(REASON_SCHEMA, "label is a string, which a task of type regression does not take");
	join_raw(90, fx_text("no label"));
	assert_rejected(REASON_UNDECODABLE, "no datum of the schema Label");
	assert_int_equal(fx.shard->position.labels, 91);
	assert_int_equal(fx.batch.examples_count, 0);
	join("films", "u", 200, "a film that nobody has named", 0); /* its vocabulary grows */
	assert_int_equal(fx.batch.examples_count, 1);
}

static void every_task_hears_who_is_forgotten(void **state)
{
	struct buffer bytes = { 0 };
	fx_apply("u", "a", 100);
	fx_tombstone("u");
	assert_int_equal(fx.batch.examples_count, 4);
	const struct example e = last_example(&bytes);
	assert_int_equal(e.kind, EXAMPLE_FORGET);
	assert_text(e.task, "gender"); /* in the order of names */
	assert_text(e.user_id, "u");
	assert_int_equal(e.offset, 1);
	assert_int_equal(e.events.length, 0);
	join("gender", "u", 200, "F", 0);
	assert_rejected(REASON_UNKNOWN_USER, "the user has no event before the label");
	buffer_free(&bytes);
}

/* ---- labels that wait ---- */

/* What the changelog hears of the newest change. */
static struct slice last_wait(void)
{
	assert_true(fx.batch.waits_count > 0);
	const struct batch_wait *w = &fx.batch.waits[fx.batch.waits_count - 1];
	assert_ptr_equal(w->shard, fx.shard);
	return (struct slice){ fx.batch.wait_bytes.data + w->begin, w->end - w->begin };
}

static void assert_waiting(size_t labels, size_t changes)
{
	assert_int_equal(fx.shard->waiting.count, labels);
	assert_int_equal(fx.batch.waits_count, changes);
}

static void a_label_waits_for_an_event_that_comes_late(void **state)
{
	static const int64_t past[] = { 400 };
	struct buffer bytes = { 0 };
	join("birth", "u", 500, "x", 0);
	join("birth", "u", 300, "y", 0);
	assert_waiting(2, 2);
	assert_true(last_wait().length > 0);
	fx_apply("v", "a", 1200);
	fx_apply("u", "a", 600);
	fx_apply("u", "a", 500); /* not before it */
	assert_waiting(2, 2);
	assert_int_equal(fx.batch.examples_count, 0);
	fx_apply("u", "b", 400);
	assert_past(past, 1);
	const struct example e = last_example(&bytes);
	assert_text(e.task, "birth");
	assert_text(e.text, "x");
	assert_int_equal(e.timestamp_ms, 500);
	assert_int_equal(e.offset + 2, fx.shard->position.labels);
	assert_true(e.weight == 0.5F);
	assert_waiting(1, 3);
	assert_int_equal(last_wait().length, 0);
	assert_int_equal(fx.batch.waits[2].offset, e.offset);
	fx_apply("u", "b", 450);
	assert_int_equal(fx.batch.examples_count, 1);
	fx_apply("v", "b", 1300);
	assert_int_equal(fx.batch.rejected_count, 0);
	fx_apply("v", "b", 1301);
	assert_rejected(REASON_UNKNOWN_USER, "the user has no event before the label, which has waited for one");
	assert_waiting(0, 4);
	assert_int_equal(fx.batch.examples_count, 1);
	buffer_free(&bytes);
}

static void what_waited_too_long_is_a_dead_letter_as_it_came(void **state)
{
	join("birth", "u", 500, "x", 0);
	const int64_t offset = fx.shard->position.labels - 1;
	fx_apply("v", "a", 1501);
	assert_int_equal(fx.batch.rejected_count, 1);
	const struct batch_rejected *r = &fx.batch.rejected[0];
	struct label label;
	assert_int_equal(r->reason, REASON_UNKNOWN_USER);
	assert_null(r->event);
	assert_int_equal(r->partition, SHARD_FIXTURE_PARTITION);
	assert_int_equal(r->kept->record.offset, offset);
	assert_int_equal(r->kept->record.appended_ms, fx.record_ms);
	assert_int_equal(label_decode(r->kept->record.value, fx.record_ms, &label, &fx.err), REASON_NONE);
	assert_text(label.user_id, "u");
	assert_int_equal(label.timestamp_ms, 500);
	join("birth", "w", 501, "x", 0); /* still within its time */
	join("birth", "w", 500, "x", 0); /* that time has passed already */
	assert_rejected(REASON_UNKNOWN_USER, "the user has no event before the label");
	assert_int_equal(fx.shard->waiting.count, 1);
}

static void at_the_end_of_interactions_the_wall_clock_ends_a_wait(void **state)
{
	join("birth", "u", 500, "x", 0);
	assert_int_equal(join_over(fx.shard, &fx.batch, true, &fx.err), STATUS_OK);
	assert_waiting(1, 1);
	fx.shard->waiting.first->record.deadline_ms = fx.shard->waiting.least_deadline_ms = 1;
	assert_int_equal(join_over(fx.shard, &fx.batch, false, &fx.err), STATUS_OK);
	assert_waiting(1, 1);
	assert_int_equal(join_over(fx.shard, &fx.batch, true, &fx.err), STATUS_OK);
	assert_waiting(0, 2);
	assert_int_equal(fx.batch.rejected_count, 1);
}

static void what_waits_for_the_forgotten_waits_no_more(void **state)
{
	join("birth", "u", 500, "x", 0);
	join("birth", "v", 500, "x", 0);
	join("birth", "u", 600, "x", 0);
	fx_tombstone("u");
	assert_int_equal(fx.batch.rejected_count, 2);
	assert_rejected(REASON_UNKNOWN_USER, "the user was forgotten while the label waited for an event");
	assert_waiting(1, 5);
	fx_apply("v", "a", 400);
	assert_waiting(0, 6);
}

/* Of a task that is gone when the event comes, or a sequence that has lost what the label saw. */
static void what_waited_is_judged_again(void **state)
{
	join("birth", "u", 500, "x", 0);
	for (int64_t time_ms = 600; time_ms <= 900; time_ms += 100)
		fx_apply("u", "a", time_ms);
	fx_apply("u", "a", 400); /* older than everything that is kept */
	assert_waiting(1, 1);
	const size_t count = fx.ctx.tasks->count;
	join("birth", "v", 500, "x", 0);
	fx.ctx.tasks->count = 1; /* age alone */
	fx_apply("v", "a", 400);
	fx.ctx.tasks->count = count;
	assert_rejected(REASON_UNKNOWN_TASK, "there is no task birth");
	assert_waiting(1, 3);
}

static void so_many_wait_and_no_more(void **state)
{
	char text[1001] = "";
	char user[16];
	int joined = 0;
	memset(text, 'x', sizeof text - 1);
	while (fx.batch.rejected_count == 0 && joined < 4000) {
		(void)snprintf(user, sizeof user, "u%d", joined++);
		join("birth", user, 500, text, 0);
	}
	assert_in_range(fx.shard->waiting.bytes, WAITING_BYTES / 2, WAITING_BYTES);
	assert_int_equal(fx.shard->waiting.count, joined - 1);
	assert_rejected(REASON_UNKNOWN_USER, "the user has no event before the label, and too many labels wait");
	assert_null(waiting_of(&fx.shard->waiting, fx_text("u0")));
	assert_non_null(waiting_of(&fx.shard->waiting, fx_text("u1")));
}

/* What a restart reads back is what waited. */
static void what_waits_comes_back(void **state)
{
	struct waiting back = { 0 };
	join("birth", "u", 500, "x", 0);
	join("birth", "v", 400, "y", 0);
	join("birth", "u", 300, "z", 0);
	for (size_t i = 0; i < 3; i++) {
		const struct batch_wait *w = &fx.batch.waits[i];
		const struct slice record = { fx.batch.wait_bytes.data + w->begin, w->end - w->begin };
		assert_int_equal(waiting_add(&back, record, &fx.err), STATUS_OK);
	}
	assert_int_equal(waiting_add(&back, fx_text("damaged"), &fx.err), STATUS_DATA);
	assert_int_equal(back.count, 3);
	const struct waiting_label *u = waiting_of(&back, fx_text("u"));
	assert_int_equal(u->label.timestamp_ms, 500);
	assert_int_equal(u->next_of_user->label.timestamp_ms, 300);
	assert_null(waiting_over(&back, 1300, false, 0));
	struct waiting_label *over = waiting_over(&back, 1301, false, 0);
	assert_ptr_equal(over, u->next_of_user);
	waiting_take(&back, over);
	free(over);
	assert_null(u->next_of_user);
	assert_null(waiting_over(&back, 1301, false, 0));
	assert_non_null(waiting_over(&back, 1401, false, 0));
	waiting_clear(&back);
	assert_int_equal(back.count, 0);
}

static void a_label_tells_its_time(void **state)
{
	struct buffer value = { 0 };
	struct label l = { .task = fx_text("t"), .user_id = fx_text("u"), .timestamp_ms = 42, .text = fx_text("x") };
	label_encode(&l, &value);
	rd_kafka_message_t message = { .payload = value.data, .len = value.length };
	assert_int_equal(join_label_time(&message), 42);
	message.len--;
	assert_true(join_label_time(&message) == INBOX_NO_TIME);
	buffer_free(&value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_example_says_whose_it_is, begin, end),
		cmocka_unit_test_setup_teardown(only_older_events_are_in_it, begin, end),
		cmocka_unit_test_setup_teardown(later_events_change_nothing_in_it, begin, end),
		cmocka_unit_test_setup_teardown(a_label_may_come_too_late, begin, end),
		cmocka_unit_test_setup_teardown(an_unknown_user_task_or_label_is_a_dead_letter, begin, end),
		cmocka_unit_test_setup_teardown(every_task_hears_who_is_forgotten, begin, end),
		cmocka_unit_test_setup_teardown(a_label_waits_for_an_event_that_comes_late, begin, end),
		cmocka_unit_test_setup_teardown(what_waited_too_long_is_a_dead_letter_as_it_came, begin, end),
		cmocka_unit_test_setup_teardown(at_the_end_of_interactions_the_wall_clock_ends_a_wait, begin, end),
		cmocka_unit_test_setup_teardown(what_waits_for_the_forgotten_waits_no_more, begin, end),
		cmocka_unit_test_setup_teardown(what_waited_is_judged_again, begin, end),
		cmocka_unit_test_setup_teardown(so_many_wait_and_no_more, begin, end),
		cmocka_unit_test_setup_teardown(what_waits_comes_back, begin, end),
		cmocka_unit_test_setup_teardown(a_label_tells_its_time, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
