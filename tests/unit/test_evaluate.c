/* `peterctl evaluate` from files to JSON, against plain computations on the same small backbone. */
#include "tools/ctl.h"

#include "io/audience.h"
#include "model/backbone.h"
#include "model/backbone_write.h"
#include "model/patch.h"
#include "network_fixture.h"
#include "text_file.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>

enum { CHANNELS = 8, ITEMS = 30, USERS = 24, LONGEST = 20, CLASSES = 3 };

static const char *const ids[ITEMS] = { "i0",  "i1",  "i2",  "i3",  "i4",  "i5",  "i6",  "i7",  "i8",  "i9",
					"i10", "i11", "i12", "i13", "i14", "i15", "i16", "i17", "i18", "i19",
					"i20", "i21", "i22", "i23", "i24", "i25", "i26", "i27", "i28", "i29" };

/* The world: a network with its file, users with their events (user u has (7 u) % LONGEST + 1 of them, event i at time
 * 100 i + u), and the files that say so. */
static struct network *net;
static char backbone_path[256], events_path[256];
static char hash[HASH_HEX_LENGTH + 1];
static uint32_t events[USERS][LONGEST];

static size_t length_of(size_t user)
{
	return 7 * user % LONGEST + 1;
}

static const char *id_of(uint32_t item)
{
	return item >= BACKBONE_FIRST_ITEM ? ids[item - BACKBONE_FIRST_ITEM] : "unknown";
}

static void write_events(void)
{
	struct buffer text = { 0 };
	char line[128];
	buffer_append(&text, "user_id,item_id,timestamp\n", 26);
	for (size_t i = LONGEST; i-- > 0;) { /* the newest first: it is the times that count */
		for (size_t user = 0; user < USERS; user++) {
			if (i >= length_of(user))
				continue;
			int n = snprintf(line, sizeof line, "u%zu,%s,%zu\n", user, id_of(events[user][i]),
					 100 * i + user);
			buffer_append(&text, line, (size_t)n);
		}
	}
	assert_false(text.failed);
	text_file_make(".csv", text.data, text.length, events_path);
	buffer_free(&text);
}

static int set_up(void **state)
{
	struct error err;
	struct backbone *backbone = NULL;
	struct random_stream random = random_from(1, 2);
	const struct network_shape shape = { .channels = CHANNELS,
					     .kernel_size = 2,
					     .blocks = 2,
					     .dilations = { 1, 2 },
					     .items = ITEMS + BACKBONE_FIRST_ITEM,
					     .eps = 1e-8F,
					     .causal = true,
					     .output = true };
	net = fixture_network(&shape, 3);
	for (size_t user = 0; user < USERS; user++) {
		for (size_t i = 0; i < LONGEST; i++)
			events[user][i] = BACKBONE_OOV + random_below(&random, ITEMS + 1);
	}
	events[5][length_of(5) - 1] = BACKBONE_OOV; /* a target that the backbone does not know */
	text_file_make(".safetensors", "", 0, backbone_path);
	if (backbone_write(backbone_path, net, ids, false, &err) || backbone_load(backbone_path, &backbone, &err))
		fail_msg("%s", err.text);
	(void)snprintf(hash, sizeof hash, "%s", backbone_hash(backbone));
	backbone_free(backbone);
	write_events();
	return 0;
}

static int tear_down(void **state)
{
	network_free(net);
	return unlink(backbone_path) | unlink(events_path);
}

/* Runs the command on a backbone with these words; its output goes to `out`. */
static enum status run_with(const char *backbone, const char *const words[], char out[4096], struct error *err)
{
	static char copies[24][256];
	char *argv[25] = { copies[0], copies[1], copies[2], NULL };
	int argc = 3;
	char path[256];
	(void)snprintf(copies[0], sizeof copies[0], "evaluate");
	(void)snprintf(copies[1], sizeof copies[1], "--backbone");
	(void)snprintf(copies[2], sizeof copies[2], "%s", backbone);
	for (size_t i = 0; words[i]; i++, argc++) {
		(void)snprintf(copies[argc], sizeof copies[argc], "%s", words[i]);
		argv[argc] = copies[argc];
	}
	argv[argc] = NULL;
	text_file_make(".json", "", 0, path);
	(void)fflush(stdout);
	int kept = dup(STDOUT_FILENO), file = open(path, O_RDWR);
	assert_true(kept >= 0 && file >= 0 && dup2(file, STDOUT_FILENO) >= 0);
	enum status status = ctl_evaluate(argc, argv, err);
	(void)fflush(stdout);
	assert_true(dup2(kept, STDOUT_FILENO) >= 0);
	ssize_t n = pread(file, out, 4095, 0);
	assert_true(n >= 0);
	out[n] = '\0';
	(void)close(kept);
	(void)close(file);
	(void)unlink(path);
	return status;
}

static enum status run(const char *const words[], char out[4096], struct error *err)
{
	return run_with(backbone_path, words, out, err);
}

static json_t *run_json(const char *const words[])
{
	struct error err = { 0 };
	char out[4096];
	if (run(words, out, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	json_t *object = json_loads(out, 0, NULL);
	if (!object)
		fail_msg("no JSON: %s", out);
	return object;
}

static double number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (!json_is_number(value))
		fail_msg("no number %s", key);
	return json_number_value(value);
}

static void assert_number(const json_t *object, const char *key, double wanted)
{
	double got = number(object, key);
	if (!(fabs(got - wanted) <= 2e-5 * (1 + fabs(wanted))))
		fail_msg("%s: %.9g, expected %.9g", key, got, wanted);
}

/* The states of a user's first events: the newest one's or the task token's, through adapters or not. */
static void state_of(const struct network_patch *patch, size_t user, size_t count, bool task, float out[CHANNELS])
{
	struct error err;
	struct network_pass *pass = NULL;
	const size_t offsets[] = { 0, count };
	const struct network_batch batch = { .sequences = 1, .offsets = offsets, .items = events[user], .every = true };
	assert_int_equal(network_pass_new(net, 8, LONGEST + 2, 1, NETWORK_KEEP_NOTHING, &pass, &err), STATUS_OK);
	network_forward(net, patch, pass, &batch);
	memcpy(out, task ? network_pass_task(pass) : network_pass_every(pass) + (count - 1) * CHANNELS,
	       CHANNELS * sizeof *out);
	network_pass_free(pass);
}

static void scores_of(const float *weight, const float *bias, uint32_t classes, const float *state, double *out)
{
	for (uint32_t i = 0; i < classes; i++) {
		out[i] = (double)bias[i];
		for (size_t c = 0; c < CHANNELS; c++)
			out[i] += (double)weight[i * CHANNELS + c] * (double)state[c];
	}
}

struct expected {
	double users, unknown, mrr, mrr_square, hr, ndcg, ndcg_square, log_loss;
};

/* Leave-last-out, one user after the other. */
static struct expected next_items(uint32_t k, bool task, bool seen)
{
	const float *weight = net->weights + parameters_find(&net->table, "output.weight")->offset;
	const float *bias = net->weights + parameters_find(&net->table, "output.bias")->offset;
	struct expected e = { 0 };
	for (size_t user = 0; user < USERS; user++) {
		double scores[ITEMS + BACKBONE_FIRST_ITEM], sum = 0, rank = 0;
		float state[CHANNELS];
		const size_t history = length_of(user) - 1;
		const uint32_t target = events[user][history];
		if (history == 0)
			continue;
		e.users++;
		if (target < BACKBONE_FIRST_ITEM) {
			e.unknown++;
			continue;
		}
		state_of(NULL, user, history, task, state);
		scores_of(weight, bias, net->shape.items, state, scores);
		for (uint32_t i = BACKBONE_FIRST_ITEM; i < net->shape.items; i++)
			sum += exp(scores[i]);
		e.log_loss += log(sum) - scores[target];
		for (size_t i = 0; i < history && !seen; i++)
			if (events[user][i] != target)
				scores[events[user][i]] = -INFINITY;
		for (uint32_t i = BACKBONE_FIRST_ITEM; i < net->shape.items; i++)
			rank += scores[i] > scores[target];
		if (rank < k) {
			e.hr++;
			e.mrr += 1 / (rank + 1);
			e.mrr_square += pow(rank + 1, -2);
			e.ndcg += 1 / log2(rank + 2);
			e.ndcg_square += pow(log2(rank + 2), -2);
		}
	}
	return e;
}

/* A mean over the users, and its standard error. */
static void assert_mean(const json_t *object, const char *name, uint32_t k, double users, double sum, double squares)
{
	char key[32];
	(void)snprintf(key, sizeof key, "%s@%u", name, k);
	assert_number(object, key, sum / users);
	(void)snprintf(key, sizeof key, "%s@%u_error", name, k);
	assert_number(object, key, sqrt((squares - sum * sum / users) / (users - 1) / users));
}

static void assert_next_items(json_t *object, uint32_t k, bool task, bool seen)
{
	const struct expected e = next_items(k, task, seen);
	assert_true(e.hr > 0 && e.hr < e.users);
	assert_number(object, "users", e.users);
	assert_number(object, "unknown_targets", e.unknown);
	assert_mean(object, "mrr", k, e.users, e.mrr, e.mrr_square);
	assert_mean(object, "hr", k, e.users, e.hr, e.hr);
	assert_mean(object, "ndcg", k, e.users, e.ndcg, e.ndcg_square);
	assert_number(object, "log_loss", e.log_loss / (e.users - e.unknown));
	assert_string_equal(json_string_value(json_object_get(object, "from")), task ? "tcl" : "last");
	json_decref(object);
}

static void leave_last_out(void **state)
{
	const char *const plain[] = { "--events", events_path, "--json", NULL };
	const char *const lists[] = { "--events", events_path, "--json", "--k", "3,5", "--threads", "3", NULL };
	const char *const task[] = { "--events", events_path, "--json", "--from", "tcl", NULL };
	const char *const seen[] = { "--events", events_path, "--json", "--seen", "include", NULL };
	json_t *object = run_json(plain);
	assert_string_equal(json_string_value(json_object_get(object, "backbone")), hash);
	assert_next_items(object, 10, false, false);
	assert_next_items(run_json(lists), 3, false, false);
	assert_next_items(run_json(lists), 5, false, false);
	assert_next_items(run_json(task), 10, true, false);
	assert_next_items(run_json(seen), 10, false, true);
}

static void drawn_negatives(void **state)
{
	const char *const all[] = { "--events", events_path, "--json", "--negatives", "29", NULL };
	const char *const few[] = { "--events", events_path, "--json", "--negatives", "4", "--seed", "5", NULL };
	const char *const other[] = { "--events", events_path, "--json", "--negatives", "4", "--seed", "6", NULL };
	assert_next_items(run_json(all), 10, false, false); /* as many as there are */
	json_t *one = run_json(few), *same = run_json(few), *another = run_json(other);
	assert_number(one, "hr@10", 1 - 1 / number(one, "users")); /* of five, all but the unknown target are found */
	assert_true(json_equal(one, same));
	assert_true(number(one, "mrr@10") != number(another, "mrr@10"));
	json_decref(one);
	json_decref(same);
	json_decref(another);
}

static void some_of_the_users(void **state)
{
	const char *const some[] = { "--events", events_path, "--json", "--users", "9", "--seed", "1", NULL };
	const char *const others[] = { "--events", events_path, "--json", "--users", "9", "--seed", "2", NULL };
	const char *const all[] = { "--events", events_path, "--json", "--users", "1000", NULL };
	json_t *one = run_json(some), *other = run_json(others);
	assert_number(one, "users", 9);
	assert_number(one, "users_in_file", USERS);
	assert_true(number(one, "log_loss") != number(other, "log_loss"));
	json_decref(one);
	json_decref(other);
	assert_next_items(run_json(all), 10, false, false);
}

/* The same cases as lines, with every separator. */
static void published_splits(void **state)
{
	struct buffer sequences = { 0 }, targets = { 0 };
	char sequences_path[256], targets_path[256];
	for (size_t user = 0; user < USERS; user++) {
		const size_t history = length_of(user) - 1;
		for (size_t i = 0; i < history; i++) {
			buffer_append(&sequences, id_of(events[user][i]), strlen(id_of(events[user][i])));
			buffer_append_byte(&sequences, (uint8_t)(i + 1 == history ? '\n' : " ,\t"[user % 3]));
		}
		if (history == 0)
			continue;
		buffer_append(&targets, id_of(events[user][history]), strlen(id_of(events[user][history])));
		buffer_append(&targets, "\r\n", 2);
	}
	text_file_make(".txt", sequences.data, sequences.length, sequences_path);
	text_file_make(".txt", targets.data, targets.length - 2, targets_path); /* no line feed at the end */
	const char *const words[] = { "--sequences", sequences_path, "--targets", targets_path, "--json", NULL };
	assert_next_items(run_json(words), 10, false, false);
	buffer_free(&sequences);
	buffer_free(&targets);
	(void)unlink(sequences_path);
	(void)unlink(targets_path);
}

/* A patch with random adapters and head, its file, and labels: of user u at the time of event u % 4. */
struct task {
	struct patch *patch;
	char patch_path[256], labels_path[256];
	double scores[USERS][ITEMS];
	size_t counted[USERS]; /* events before the label; 0: no example */
};

static struct task make_task(enum patch_type type, const char *const labels[], uint32_t classes)
{
	struct task t = { 0 };
	struct error err;
	struct random_stream random = random_from(8, type);
	const struct patch_spec spec = { .type = type,
					 .insertion = PATCH_SERIAL,
					 .bottleneck = 4,
					 .blocks = { true, true },
					 .first = true,
					 .second = true };
	if (patch_new(&spec, net, "t", labels, classes, &random, &t.patch, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < t.patch->table.count; i++)
		for (size_t k = 0; k < t.patch->table.list[i].count; k++)
			t.patch->weights[t.patch->table.list[i].offset + k] = 0.4F * random_normal(&random);
	(void)snprintf(t.patch->backbone, sizeof t.patch->backbone, "%s", hash);
	text_file_make(".safetensors", "", 0, t.patch_path);
	if (patch_save(t.patch, t.patch_path, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	for (size_t user = 0; user < USERS; user++) {
		float state[CHANNELS];
		t.counted[user] = user % 4 < length_of(user) ? user % 4 : length_of(user);
		state_of(&t.patch->adapters, user, t.counted[user], true, state);
		scores_of(t.patch->weights + t.patch->head_weight, t.patch->weights + t.patch->head_bias, classes,
			  state, t.scores[user]);
	}
	return t;
}

/* label(user) is what the file says; users without events before their label are no examples. */
static json_t *run_task(struct task *t, const char *(*label)(size_t user), const char *more, const char *value)
{
	struct buffer text = { 0 };
	char line[128];
	buffer_append(&text, "task,user_id,label,timestamp\nother,u1,x,5\nt,nobody,", 51);
	buffer_append(&text, label(0), strlen(label(0)));
	buffer_append(&text, ",5\n", 3);
	for (size_t user = 0; user < USERS; user++) {
		int n = snprintf(line, sizeof line, "t,u%zu,%s,%zu\n", user, label(user), 100 * (user % 4) + user);
		buffer_append(&text, line, (size_t)n);
	}
	text_file_make(".csv", text.data, text.length, t->labels_path);
	const char *const words[] = { "--events",     events_path, "--patch", t->patch_path, "--labels",
				      t->labels_path, "--json",    more,      value,         NULL };
	json_t *object = run_json(words);
	buffer_free(&text);
	assert_string_equal(json_string_value(json_object_get(object, "task")), "t");
	assert_number(object, "unknown_users", 1);
	assert_number(object, "without_events", USERS / 4);
	assert_number(object, "examples", USERS - USERS / 4);
	return object;
}

static void close_task(struct task *t)
{
	patch_free(t->patch);
	(void)unlink(t->patch_path);
	(void)unlink(t->labels_path);
}

static const char *const classes[CLASSES] = { "x", "y", "z" };

static const char *class_of(size_t user)
{
	return classes[user * user % 7 % CLASSES];
}

/* The chance that one of class c scores above one of another, over all pairs. */
static double area_of(const struct task *t, double p[USERS][CLASSES], uint32_t c)
{
	double sum = 0, pairs = 0;
	for (size_t a = 0; a < USERS; a++) {
		for (size_t b = 0; b < USERS; b++) {
			if (!t->counted[a] || !t->counted[b] || class_of(a) != classes[c] || class_of(b) == classes[c])
				continue;
			pairs++;
			sum += p[a][c] > p[b][c] ? 1 : p[a][c] == p[b][c] ? 0.5 : 0;
		}
	}
	return sum / pairs;
}

static void classification(void **state)
{
	struct task t = make_task(PATCH_CLASSIFICATION, classes, CLASSES);
	json_t *object = run_task(&t, class_of, NULL, NULL);
	double right = 0, loss = 0, count = 0, p[USERS][CLASSES];
	for (size_t user = 0; user < USERS; user++) {
		double sum = 0, own = 0, best = 0;
		for (uint32_t c = 0; c < CLASSES; c++)
			sum += exp(t.scores[user][c]);
		for (uint32_t c = 0; c < CLASSES; c++) {
			p[user][c] = exp(t.scores[user][c]) / sum;
			best = fmax(best, p[user][c]);
			own = class_of(user) == classes[c] ? p[user][c] : own;
		}
		if (!t.counted[user])
			continue;
		count++;
		right += own == best;
		loss -= log(own);
	}
	assert_true(right > 0 && right < count);
	assert_number(object, "accuracy", right / count);
	assert_number(object, "log_loss", loss / count);
	assert_number(object, "auc", (area_of(&t, p, 0) + area_of(&t, p, 1) + area_of(&t, p, 2)) / 3);
	json_decref(object);
	close_task(&t);
}

static const char *value_of(size_t user)
{
	static const char *const values[] = { "0.5", "-2", "3e-1" };
	return values[user % 3];
}

static void regression(void **state)
{
	struct task t = make_task(PATCH_REGRESSION, NULL, 1);
	json_t *object = run_task(&t, value_of, NULL, NULL);
	double absolute = 0, square = 0, count = 0;
	for (size_t user = 0; user < USERS; user++) {
		const double error = t.scores[user][0] - strtod(value_of(user), NULL);
		if (!t.counted[user])
			continue;
		count++;
		absolute += fabs(error);
		square += error * error;
	}
	assert_number(object, "mae", absolute / count);
	assert_number(object, "rmse", sqrt(square / count));
	json_decref(object);
	close_task(&t);
}

static const char *target_of(size_t user)
{
	return user == 6 ? "no target" : ids[user * 5 % 20];
}

/* Targets are items 0 .. 19: those that a user has had by then are left out, but for the target itself. */
static void ranking_tasks(void **state)
{
	struct task t = make_task(PATCH_RANKING, ids, 20);
	for (int seen = 0; seen < 2; seen++) {
		json_t *object = run_task(&t, target_of, "--seen", seen ? "include" : "exclude");
		double reciprocal = 0, count = 0;
		for (size_t user = 0; user < USERS; user++) {
			const size_t target = user * 5 % 20;
			double scores[ITEMS], rank = 0;
			memcpy(scores, t.scores[user], sizeof scores);
			for (size_t i = 0; i < t.counted[user] && !seen; i++) {
				const size_t item = (size_t)events[user][i] - BACKBONE_FIRST_ITEM;
				if (events[user][i] >= BACKBONE_FIRST_ITEM && item < 20 && item != target)
					scores[item] = -INFINITY;
			}
			for (size_t i = 0; i < 20; i++)
				rank += scores[i] > scores[target];
			if (!t.counted[user])
				continue;
			count++;
			reciprocal += user != 6 && rank < 10 ? 1 / (rank + 1) : 0;
		}
		assert_number(object, "unknown_targets", 1);
		assert_number(object, "targets", 20);
		assert_number(object, "mrr@10", reciprocal / count);
		json_decref(object);
		(void)unlink(t.labels_path);
	}
	close_task(&t);
}

static void faults(void **state)
{
	char labels[256], lines[256];
	struct task t = make_task(PATCH_CLASSIFICATION, classes, CLASSES);
	text_file_make(".csv", "task,user_id,label\nt,u3,x\nt,u4,w\n", 33, labels);
	text_file_make(".txt", "i1 i2\n", 6, lines);
	const struct {
		const char *words[8];
		enum status status;
		const char *says;
	} cases[] = {
		{ { "--events", events_path, "--k", "0" }, STATUS_USAGE, "--k: 0 is not a comma list" },
		{ { "--events", events_path, "--k", "1,2,3,4,5,6,7,8,9" }, STATUS_USAGE, "of up to 8 numbers" },
		{ { "--events", events_path, "--seen", "maybe" }, STATUS_USAGE, "--seen: maybe is neither" },
		{ { "--events", events_path, "--from", "here" }, STATUS_USAGE, "--from: here is neither" },
		{ { "--events", events_path, "--task", "t" }, STATUS_USAGE, "--task: not without --patch" },
		{ { "--json" }, STATUS_USAGE, "--events is missing" },
		{ { "--sequences", lines }, STATUS_USAGE, "--targets is missing" },
		{ { "--targets", lines }, STATUS_USAGE, "--sequences is missing" },
		{ { "--sequences", lines, "--targets", lines }, STATUS_DATA, "line 1: expected one item" },
		{ { "--sequences", lines, "--targets", "/dev/null" }, STATUS_DATA, "/dev/null: ends after line 0" },
		{ { "--sequences", "/nowhere", "--targets", lines }, STATUS_NO_INPUT, "/nowhere" },
		{ { "--events", labels }, STATUS_DATA, "no column item_id" },
		{ { "--patch", t.patch_path, "--events", events_path }, STATUS_USAGE, "--labels is missing" },
		{ { "--patch", t.patch_path, "--events", events_path, "--labels", labels },
		  STATUS_DATA,
		  "line 3: label w is none of" },
		{ { "--patch", t.patch_path, "--events", events_path, "--labels", labels, "--task", "none" },
		  STATUS_DATA,
		  "no row is of task none" },
		{ { "--events", events_path, "--negatives", "1000" }, STATUS_USAGE, "--negatives: 1000, and " },
		{ { "--patch", t.patch_path, "--events", events_path, "--labels", labels, "--task", "" },
		  STATUS_USAGE,
		  "--task:  is not 1 to 100" },
		{ { "--patch", backbone_path, "--events", events_path, "--labels", labels }, STATUS_DATA, "format" },
	};
	for (size_t i = 0; i < CTL_COUNT(cases); i++) {
		struct error err = { 0 };
		char out[4096];
		const char *words[9] = { NULL };
		memcpy(words, cases[i].words, sizeof cases[i].words);
		assert_int_equal(run(words, out, &err), cases[i].status);
		if (!strstr(err.text, cases[i].says))
			fail_msg("%s, expected %s", err.text, cases[i].says);
		assert_string_equal(out, "");
	}
	(void)unlink(labels);
	(void)unlink(lines);
	close_task(&t);
}

/* A ranking task whose labels are none of its targets, or fewer than are to be drawn. */
static void no_targets(void **state)
{
	static const char *const two[] = { "film a", "film b" };
	struct task t = make_task(PATCH_RANKING, two, 2);
	struct error err = { 0 };
	char out[4096], labels[256], known[256];
	text_file_make(".csv", "user_id,label\nu3,x\nu4,w\n", 24, labels);
	text_file_make(".csv", "user_id,label\nu3,film a\n", 24, known);
	const char *const words[] = { "--patch", t.patch_path, "--events", events_path, "--labels", labels, NULL };
	assert_int_equal(run(words, out, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "no label is one of the 2 targets of "));
	const char *const drawn[] = { "--patch", t.patch_path,  "--events", events_path, "--labels",
				      known,     "--negatives", "2",        NULL };
	assert_int_equal(run(drawn, out, &err), STATUS_USAGE);
	assert_non_null(strstr(err.text, "--negatives: 2, and "));
	(void)unlink(labels);
	(void)unlink(known);
	close_task(&t);
}

/* Weights that are finite, and whose scores are not. */
static void huge_weights(void **state)
{
	struct task t = make_task(PATCH_CLASSIFICATION, classes, CLASSES);
	struct error err = { 0 };
	char out[4096], path[256], labels[256];
	for (size_t i = 0; i < t.patch->table.floats; i++)
		t.patch->weights[i] = 3e38F;
	assert_int_equal(patch_save(t.patch, t.patch_path, &err), STATUS_OK);
	text_file_make(".csv", "user_id,label\nu3,x\n", 19, labels);
	const char *const words[] = { "--patch", t.patch_path, "--events", events_path, "--labels", labels, NULL };
	assert_int_equal(run(words, out, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, ": scores: row 1: a value is not finite"));
	assert_non_null(strstr(err.text, t.patch_path));
	struct network *huge = fixture_network(&net->shape, 3);
	const struct parameter *weight = parameters_find(&huge->table, "output.weight");
	for (size_t i = 0; i < weight->count; i++)
		huge->weights[weight->offset + i] = 3e38F;
	text_file_make(".safetensors", "", 0, path);
	assert_int_equal(backbone_write(path, huge, ids, false, &err), STATUS_OK);
	const char *const plain[] = { "--events", events_path, NULL };
	assert_int_equal(run_with(path, plain, out, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "a score is not finite"));
	assert_non_null(strstr(err.text, path));
	network_free(huge);
	(void)unlink(path);
	(void)unlink(labels);
	close_task(&t);
}

/* A network like ours, as a file of its own. */
static void write_like(bool causal, bool output, bool task, char path[256])
{
	struct error err;
	struct network_shape shape = net->shape;
	shape.causal = causal;
	shape.window = causal ? 0 : 10;
	shape.output = output;
	struct network *other = fixture_network(&shape, 3); /* the same weights */
	text_file_make(".safetensors", "", 0, path);
	if (backbone_write(path, other, ids, task, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	network_free(other);
}

/* What the file says decides from which state, and what can be done at all. */
static void other_backbones(void **state)
{
	const char *const words[] = { "--events", events_path, "--json", NULL };
	const char *const last[] = { "--events", events_path, "--from", "last", NULL };
	struct error err = { 0 };
	char out[4096], path[256];
	write_like(true, true, true, path);
	assert_int_equal(run_with(path, words, out, &err), STATUS_OK);
	assert_next_items(json_loads(out, 0, NULL), 10, true, false);
	(void)unlink(path);
	write_like(false, true, false, path);
	assert_int_equal(run_with(path, words, out, &err), STATUS_OK);
	assert_non_null(strstr(out, "\"from\":\"tcl\""));
	assert_int_equal(run_with(path, last, out, &err), STATUS_USAGE);
	assert_non_null(strstr(err.text, "is not causal"));
	(void)unlink(path);
	write_like(true, false, false, path);
	assert_int_equal(run_with(path, words, out, &err), STATUS_DATA);
	assert_non_null(strstr(err.text, "has no output layer"));
	(void)unlink(path);
}

static void for_people(void **state)
{
	const char *const words[] = { "--events", events_path, NULL };
	struct error err;
	char out[4096];
	assert_int_equal(run(words, out, &err), STATUS_OK);
	assert_true(strstr(out, "\nNDCG@10 ") && strstr(out, " +- ") && !strstr(out, "ndcg@10"));
	assert_non_null(strstr(out, "\nranked among       all items\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leave_last_out),    cmocka_unit_test(drawn_negatives),
		cmocka_unit_test(some_of_the_users), cmocka_unit_test(published_splits),
		cmocka_unit_test(classification),    cmocka_unit_test(regression),
		cmocka_unit_test(ranking_tasks),     cmocka_unit_test(faults),
		cmocka_unit_test(no_targets),        cmocka_unit_test(huge_weights),
		cmocka_unit_test(other_backbones),   cmocka_unit_test(for_people),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
