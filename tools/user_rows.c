#include "tools/user_rows.h"

#include "base/atomic_file.h"
#include "model/tuner.h"
#include "tools/ctl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 64 }; /* users of one part */

enum status user_items_make(const struct audience *a, const struct vocabulary *v, struct user_items *ret,
			    struct error *err)
{
	const size_t users = audience_users(a);
	struct user_items u = { calloc(users + 1, sizeof *u.begins), calloc(audience_events(a) + 1, sizeof *u.items) };
	if (!u.begins || !u.items) {
		user_items_free(&u);
		return error_set_memory(err);
	}
	for (size_t user = 0; user < users; user++) {
		size_t length;
		const struct event *events = audience_sequence(a, user, &length);
		for (size_t i = 0; i < length; i++)
			u.items[u.begins[user] + i] = vocabulary_index(v, events[i].item);
		u.begins[user + 1] = u.begins[user] + length;
	}
	*ret = u;
	return STATUS_OK;
}

void user_items_free(struct user_items *u)
{
	free(u->begins);
	free(u->items);
	*u = (struct user_items){ 0 };
}

enum status user_rows_compute(const struct user_rows *r, bool embeddings, float *out, struct error *err)
{
	const size_t users = audience_users(r->audience);
	const size_t once = (size_t)AT_ONCE * r->parallel->parts;
	const size_t width = embeddings ? r->patch->channels : r->patch->classes;
	struct tuner *tuner = NULL;
	struct tuner_example *examples = calloc(once, sizeof *examples);
	enum status status =
		examples ? tuner_new(r->patch, r->net, NULL, r->parallel, once, &tuner, err) : error_set_memory(err);
	struct ctl_progress progress;
	ctl_progress_start(&progress, "users", (int64_t)users);
	for (size_t first = 0; first < users && !status; first += once) {
		const size_t n = users - first < once ? users - first : once;
		const struct tuner_batch batch = { .examples = examples, .count = n };
		for (size_t i = 0; i < n; i++) {
			const size_t *begin = r->items->begins + first + i;
			examples[i] = (struct tuner_example){ .items = r->items->items + begin[0],
							      .length = begin[1] - begin[0] };
		}
		(embeddings ? tuner_embed : tuner_scores)(tuner, &batch, out + first * width);
		ctl_progress_show(&progress, (int64_t)(first + n));
	}
	ctl_progress_end(&progress, (int64_t)users);
	tuner_free(tuner);
	free(examples);
	return status ? status : user_rows_check(out, users, width, err);
}

enum status user_rows_check(const float *values, size_t rows, size_t columns, struct error *err)
{
	for (size_t i = 0; i < rows * columns; i++)
		if (!isfinite(values[i]))
			return error_set(err, STATUS_DATA, "row %zu: a value is not finite: the weights are too large",
					 i / columns + 1);
	return STATUS_OK;
}

enum status user_ids_check(const struct audience *a, struct error *err)
{
	for (size_t user = 0; user < audience_users(a); user++) {
		const struct slice id = audience_user(a, user);
		if (memchr(id.data, '\n', id.length) || memchr(id.data, '\r', id.length))
			return error_set(err, STATUS_DATA, "row %zu: the user_id holds a line break", user + 1);
	}
	return STATUS_OK;
}

enum status user_ids_write(const char *path, const struct audience *a, struct error *err)
{
	struct buffer text = { 0 };
	for (size_t user = 0; user < audience_users(a); user++) {
		struct slice id = audience_user(a, user);
		buffer_append(&text, id.data, id.length);
		buffer_append_byte(&text, '\n');
	}
	const struct atomic_file_part part = { text.data, text.length };
	enum status status = text.failed ? error_set_memory(err) : atomic_file_write(path, &part, 1, err);
	buffer_free(&text);
	return status;
}
