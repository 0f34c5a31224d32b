#include "daemon/health.h"

#include "base/plural.h"
#include "daemon/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct lane_health {
	uint64_t ticks;     /* as last seen */
	int64_t ticked_ms;  /* when they last grew */
	uint64_t fed_ticks; /* what the watchdog was last fed with */
	bool ended;
};

struct health {
	struct status_board *board;
	int64_t stall_ms;
	size_t count; /* of lanes */
	bool started;
	char waiting[256];
	char noted[HEALTH_PARTS][256];
	struct lane_status *status; /* [count], the shards are ours */
	struct lane_health lanes[];
};

enum status health_new(struct status_board *board, int64_t stall_ms, struct health **ret, struct error *err)
{
	size_t count = (size_t)status_board_lanes(board);
	struct health *h = calloc(1, sizeof *h + count * sizeof h->lanes[0]);
	if (!h)
		return error_set_memory(err);
	h->status = calloc(count ? count : 1, sizeof *h->status);
	if (!h->status) {
		free(h);
		return error_set_memory(err);
	}
	h->board = board;
	h->stall_ms = stall_ms;
	h->count = count;
	*ret = h;
	return STATUS_OK;
}

void health_free(struct health *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->count; i++)
		lane_status_clear(&h->status[i]);
	free(h->status);
	free(h);
}

void health_wait(struct health *h, const char *waiting)
{
	(void)snprintf(h->waiting, sizeof h->waiting, "%s", waiting);
}

void health_note(struct health *h, enum health_part part, const char *why)
{
	(void)snprintf(h->noted[part], sizeof h->noted[part], "%s", why);
}

void health_start(struct health *h, int64_t now_ms)
{
	h->started = true;
	for (size_t i = 0; i < h->count; i++)
		h->lanes[i].ticked_ms = now_ms;
}

enum status health_update(struct health *h, int64_t now_ms, struct error *err)
{
	for (size_t i = 0; i < h->count; i++) {
		struct lane_status status;
		enum status s = status_board_read(h->board, (int)i, &status, err);
		if (s)
			return s;
		lane_status_clear(&h->status[i]);
		h->status[i] = status;
		if (status.ticks != h->lanes[i].ticks) {
			h->lanes[i].ticks = status.ticks;
			h->lanes[i].ticked_ms = now_ms;
		}
	}
	return STATUS_OK;
}

static void explain_shard(const struct lane_status *lane, const struct shard_status *shard, struct buffer *reasons)
{
	metrics_printf(reasons, "lane %d: partition %" PRId32 ": ", lane->lane, shard->partition);
	if (shard->phase == SHARD_FAILED)
		metrics_printf(reasons, "stopped");
	else if (shard->restore_lag >= 0)
		metrics_printf(reasons, "restoring, %" PRId64 " record%s to go", shard->restore_lag,
			       plural(shard->restore_lag));
	else
		metrics_printf(reasons, "restoring, %" PRId64 " record%s read", shard->restore_records,
			       plural(shard->restore_records));
	metrics_printf(reasons, "%s%s\n", *shard->reason ? ": " : "", shard->reason);
}

/* The lane says whether it is ready; its shards say why not. */
static bool lane_ready(const struct lane_status *lane, struct buffer *reasons)
{
	size_t before = reasons->length;
	bool ready = lane->ready && lane->assigned_once;
	if (*lane->reason)
		metrics_printf(reasons, "lane %d: %s\n", lane->lane, lane->reason);
	for (size_t i = 0; i < lane->count; i++) {
		const struct shard_status *shard = &lane->shards[i];
		if (shard->phase != SHARD_RESTORING && shard->phase != SHARD_FAILED)
			continue;
		ready = false;
		explain_shard(lane, shard, reasons);
	}
	if (!ready && reasons->length == before)
		metrics_printf(reasons, "lane %d: %s\n", lane->lane,
			       lane->assigned_once ? "not ready" : "waiting for the first assignment");
	return ready;
}

bool health_ready(const struct health *h, struct buffer *reasons)
{
	bool ready = h->started;
	if (!h->started)
		metrics_printf(reasons, "%s\n", *h->waiting ? h->waiting : "starting");
	for (size_t i = 0; h->started && i < HEALTH_PARTS; i++) {
		if (!*h->noted[i])
			continue;
		metrics_printf(reasons, "%s\n", h->noted[i]);
		ready = false;
	}
	for (size_t i = 0; h->started && i < h->count; i++)
		if (!lane_ready(&h->status[i], reasons))
			ready = false;
	return ready;
}

bool health_alive(const struct health *h, int64_t now_ms, struct buffer *reasons)
{
	bool alive = true;
	for (size_t i = 0; h->started && i < h->count; i++) {
		const struct lane_health *lane = &h->lanes[i];
		int64_t still_ms = now_ms - lane->ticked_ms;
		if (lane->ended || still_ms < h->stall_ms)
			continue;
		alive = false;
		metrics_printf(reasons, "lane %zu: no progress for %" PRId64 " s\n", i, still_ms / 1000);
	}
	return alive;
}

bool health_settled(const struct health *h)
{
	for (size_t i = 0; i < h->count; i++) {
		const struct lane_status *lane = &h->status[i];
		bool failed = false;
		for (size_t j = 0; j < lane->count; j++) {
			if (lane->shards[j].phase == SHARD_RESTORING)
				return false;
			failed = failed || lane->shards[j].phase == SHARD_FAILED;
		}
		if (!lane->assigned_once || (!lane->ready && !failed))
			return false;
	}
	return h->started;
}

bool health_progressed(struct health *h)
{
	for (size_t i = 0; h->started && i < h->count; i++)
		if (!h->lanes[i].ended && h->lanes[i].ticks == h->lanes[i].fed_ticks)
			return false;
	for (size_t i = 0; i < h->count; i++)
		h->lanes[i].fed_ticks = h->lanes[i].ticks;
	return true;
}

void health_lane_ended(struct health *h, int lane)
{
	h->lanes[lane].ended = true;
}

const struct lane_status *health_lanes(const struct health *h, size_t *ret_count)
{
	*ret_count = h->count;
	return h->status;
}
