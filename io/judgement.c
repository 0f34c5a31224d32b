#include "io/judgement.h"

#include "base/clock.h"

#include <inttypes.h>
#include <string.h>
#include <unistr.h>

#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)

/* ASCII, the common case, goes by eight bytes. */
bool judge_is_text(struct slice s, bool no_nul)
{
	const uint64_t high = UINT64_C(0x8080808080808080);
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t odd = 0;
	size_t i = 0;
	for (; i + 8 <= s.length; i += 8) {
		uint64_t word;
		memcpy(&word, s.data + i, 8);
		odd |= word | (word - ones); /* the borrow of a NUL, or of the byte above one, sets a high bit */
	}
	for (; i < s.length; i++)
		odd |= s.data[i] | ((uint64_t)s.data[i] - 1);
	if (!(odd & high))
		return true;
	return !u8_check(s.data, s.length) && !(no_nul && memchr(s.data, 0, s.length));
}

enum reason judge_id(const char *name, struct slice id, size_t max_bytes, struct error *err)
{
	if (!id.data || id.length == 0) {
		(void)error_set(err, STATUS_DATA, "%s is %s", name, id.data ? "empty" : "null");
		return REASON_MISSING_FIELD;
	}
	if (id.length > max_bytes) {
		(void)error_set(err, STATUS_DATA, "%s has %zu bytes, more than %zu", name, id.length, max_bytes);
		return REASON_OVERSIZE;
	}
	if (judge_is_text(id, true))
		return REASON_NONE;
	(void)error_set(err, STATUS_DATA, "%s is not UTF-8 without NUL", name);
	return REASON_UNDECODABLE;
}

enum reason judge_time(const char *name, int64_t time_ms, int64_t record_time_ms, struct error *err)
{
	if (time_ms < 0) {
		(void)error_set(err, STATUS_DATA, "before 1970: %s is %" PRId64 " ms", name, time_ms);
		return REASON_TIMESTAMP;
	}
	bool known = record_time_ms >= 0;
	int64_t now_ms = known ? record_time_ms : clock_wall_ms();
	if (time_ms - now_ms <= DAY_MS)
		return REASON_NONE;
	(void)error_set(err, STATUS_DATA, "more than a day after %s, %" PRId64 " ms: %s is %" PRId64 " ms",
			known ? "Kafka's record timestamp" : "the wall clock", now_ms, name, time_ms);
	return REASON_TIMESTAMP;
}
