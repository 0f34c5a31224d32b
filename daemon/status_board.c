#include "daemon/status_board.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct slot {
	struct lane_status status; /* its shards are the board's memory */
	size_t capacity;           /* shards allocated */
};

struct status_board {
	pthread_mutex_t mutex; /* guards every slot */
	int lanes;
	struct slot slots[];
};

enum status status_board_new(int lanes, struct status_board **ret, struct error *err)
{
	assert(lanes >= 0);
	struct status_board *board = calloc(1, sizeof *board + (size_t)lanes * sizeof board->slots[0]);
	if (!board)
		return error_set_memory(err);
	if (pthread_mutex_init(&board->mutex, NULL)) {
		free(board);
		return error_set_memory(err);
	}
	board->lanes = lanes;
	for (int i = 0; i < lanes; i++) {
		struct lane_status *s = &board->slots[i].status;
		s->lane = i;
		(void)snprintf(s->reason, sizeof s->reason, "starting");
	}
	*ret = board;
	return STATUS_OK;
}

void status_board_free(struct status_board *board)
{
	if (!board)
		return;
	for (int i = 0; i < board->lanes; i++)
		free(board->slots[i].status.shards);
	(void)pthread_mutex_destroy(&board->mutex);
	free(board);
}

int status_board_lanes(const struct status_board *board)
{
	return board->lanes;
}

static void slot_store(struct slot *slot, const struct lane_status *status)
{
	struct shard_status *shards = slot->status.shards;
	bool short_of_memory = false;
	if (status->count > slot->capacity) {
		struct shard_status *grown = realloc(shards, status->count * sizeof *shards);
		short_of_memory = !grown;
		if (grown) {
			shards = grown;
			slot->capacity = status->count;
		}
	}
	slot->status = *status;
	slot->status.shards = shards;
	if (short_of_memory) {
		slot->status.count = 0;
		slot->status.ready = false;
		(void)snprintf(slot->status.reason, sizeof slot->status.reason, "out of memory");
	} else if (status->count) {
		memcpy(shards, status->shards, status->count * sizeof *shards);
	}
}

void status_board_publish(struct status_board *board, int lane, const struct lane_status *status)
{
	assert(lane >= 0 && lane < board->lanes);
	(void)pthread_mutex_lock(&board->mutex);
	slot_store(&board->slots[lane], status);
	board->slots[lane].status.lane = lane;
	(void)pthread_mutex_unlock(&board->mutex);
}

enum status status_board_read(struct status_board *board, int lane, struct lane_status *ret, struct error *err)
{
	assert(lane >= 0 && lane < board->lanes);
	struct shard_status *shards = NULL;
	(void)pthread_mutex_lock(&board->mutex);
	const struct lane_status *from = &board->slots[lane].status;
	struct lane_status copy = *from;
	if (from->count) {
		shards = malloc(from->count * sizeof *shards);
		if (shards)
			memcpy(shards, from->shards, from->count * sizeof *shards);
	}
	(void)pthread_mutex_unlock(&board->mutex);
	if (copy.count && !shards)
		return error_set_memory(err);
	copy.shards = shards;
	*ret = copy;
	return STATUS_OK;
}

void lane_status_clear(struct lane_status *status)
{
	free(status->shards);
	memset(status, 0, sizeof *status);
}
