#include "tools/pretrain_data.h"

#include "base/random.h"
#include "io/audience.h"
#include "model/backbone.h"
#include "tools/ctl.h"

#include <stdlib.h>

enum { RARE = 5, VALIDATION_STREAM = 1 };

struct reading {
	struct catalogue *catalogue;
	struct ctl_progress progress;
	int64_t rows;
};

static enum status read_row(void *arg, const struct events_file *file, const struct events_row *row, struct error *err)
{
	struct reading *r = arg;
	if ((++r->rows & 4095) == 0) {
		r->progress.share = events_file_share(file);
		ctl_progress_show(&r->progress, r->rows);
	}
	return catalogue_add(r->catalogue, row->item_id, err);
}

static enum status read_file(const char *path, struct catalogue *catalogue, struct audience **ret, struct error *err)
{
	struct reading r = { .catalogue = catalogue };
	const struct audience_observer observer = { read_row, &r };
	ctl_progress_start(&r.progress, "reading events", 0);
	enum status status = audience_load_observed(path, &observer, ret, err);
	ctl_progress_end(&r.progress, r.rows);
	return status;
}

static enum status fill_sequences(const struct audience *a, const struct catalogue *catalogue,
				  struct pretrainer_sequences *s, struct error *err)
{
	size_t users = audience_users(a);
	size_t *offsets = calloc(users + 1, sizeof *offsets);
	uint32_t *items = calloc(audience_events(a) + 1, sizeof *items);
	s->users = users;
	s->offsets = offsets;
	s->items = items;
	if (!offsets || !items)
		return error_set_memory(err);
	for (size_t user = 0; user < users; user++) {
		size_t length;
		const struct event *events = audience_sequence(a, user, &length);
		offsets[user + 1] = offsets[user] + length;
		for (size_t i = 0; i < length; i++) {
			uint32_t number = catalogue_find(catalogue, events[i].item);
			items[offsets[user] + i] =
				number == CATALOGUE_ABSENT ? BACKBONE_OOV : BACKBONE_FIRST_ITEM + number;
		}
	}
	return STATUS_OK;
}

/* The users whose last event can be asked for; returns how many. */
static size_t eligible(const struct pretrainer_sequences *s, uint32_t *users)
{
	size_t count = 0;
	for (size_t user = 0; user < s->users; user++) {
		size_t end = s->offsets[user + 1];
		if (end - s->offsets[user] >= 3 && s->items[end - 1] >= BACKBONE_FIRST_ITEM)
			users[count++] = (uint32_t)user;
	}
	return count;
}

static enum status choose_cases(struct pretrain_data *data, size_t most, uint64_t seed, struct error *err)
{
	const struct pretrainer_sequences *s = &data->sequences;
	struct random_stream random = random_from(seed, VALIDATION_STREAM);
	uint32_t *users = calloc(s->users + 1, sizeof *users);
	size_t count = users ? eligible(s, users) : 0;
	size_t chosen = count < most ? count : most;
	data->cases = calloc(chosen + 1, sizeof *data->cases);
	if (!users || !data->cases) {
		free(users);
		return error_set_memory(err);
	}
	random_shuffle(&random, users, count);
	for (size_t i = 0; i < chosen; i++) {
		size_t begin = s->offsets[users[i]];
		size_t last = s->offsets[users[i] + 1] - 1;
		data->cases[i] = (struct next_item_case){ s->items + begin, last - begin, s->items[last] };
	}
	data->case_count = chosen;
	free(users);
	return STATUS_OK;
}

static enum status load(const char *path, uint64_t least, struct pretrain_data *data, struct error *err)
{
	struct audience *audience = NULL;
	enum status status = catalogue_new(&data->catalogue, err);
	if (!status)
		status = read_file(path, data->catalogue, &audience, err);
	if (!status && audience_events(audience) == 0)
		status = error_set(err, STATUS_DATA, "%s: no events", path);
	if (!status && audience_users(audience) > UINT32_MAX)
		status = error_set(err, STATUS_DATA, "%s: more than %u users", path, UINT32_MAX);
	if (!status) {
		catalogue_rank(data->catalogue, least);
		for (uint32_t i = catalogue_size(data->catalogue);
		     i > 0 && catalogue_count(data->catalogue, i - 1) < RARE; i--)
			data->rare++;
		status = fill_sequences(audience, data->catalogue, &data->sequences, err);
	}
	audience_free(audience);
	return status;
}

enum status pretrain_data_load(const char *path, uint64_t least, size_t validation, uint64_t seed,
			       struct pretrain_data *ret, struct error *err)
{
	struct pretrain_data data = { .sequences = { .hold_out = validation > 0 } };
	enum status status = load(path, least, &data, err);
	if (!status)
		status = choose_cases(&data, validation, seed, err);
	if (status)
		pretrain_data_free(&data);
	else
		*ret = data;
	return status;
}

void pretrain_data_free(struct pretrain_data *data)
{
	catalogue_free(data->catalogue);
	free((void *)(uintptr_t)data->sequences.offsets);
	free((void *)(uintptr_t)data->sequences.items);
	free(data->cases);
	*data = (struct pretrain_data){ 0 };
}
