/* What the tests of interactions share: bytes, decoders, and their judgement. */
#ifndef TESTS_UNIT_INTERACTION_FIXTURE_H
#define TESTS_UNIT_INTERACTION_FIXTURE_H

#include "io/interaction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW_MS INT64_C(1700000000000)
#define DAY_MS INT64_C(86400000)

static inline struct slice text(const char *s)
{
	return (struct slice){ (const uint8_t *)s, strlen(s) };
}

static inline void put_text(struct buffer *b, const char *s)
{
	buffer_append_varint(b, (int64_t)strlen(s));
	buffer_append(b, s, strlen(s));
}

static inline struct slice bytes(const struct buffer *b)
{
	return (struct slice){ b->data, b->length };
}

static inline void assert_slice(struct slice found, const char *expected)
{
	assert_int_equal(found.length, strlen(expected));
	assert_memory_equal(found.data, expected, found.length);
}

static const struct interaction_fields own_fields = { "user_id", "item_id", "timestamp", "event_type" };
static const struct interaction_fields short_fields = { "u", "i", "t", "event_type" };

static inline struct interaction_decoder *decoder(const char *schema, const struct interaction_fields *fields)
{
	struct interaction_decoder *d = NULL;
	struct error err;
	if (interaction_decoder_new(schema, fields, &d, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	return d;
}

static inline void refused(const char *schema, const struct interaction_fields *fields, const char *part)
{
	struct interaction_decoder *d = NULL;
	struct error err;
	assert_int_equal(interaction_decoder_new(schema, fields, &d, &err), STATUS_CONFIG);
	assert_null(d);
	if (!strstr(err.text, part))
		fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

/* Judges `value` in memory of just its size. */
static inline enum reason judge(const struct interaction_decoder *d, struct slice value, struct interaction *ret,
				struct error *err)
{
	uint8_t *copy = malloc(value.length + 1);
	struct interaction i;
	memcpy(copy + 1, value.data, value.length);
	err->text[0] = '\0';
	enum reason reason =
		interaction_decode(d, (struct slice){ copy + 1, value.length }, NOW_MS, ret ? ret : &i, err);
	assert_int_equal(reason == REASON_NONE, err->text[0] == '\0');
	free(copy);
	return reason;
}

static inline void assert_judged(const struct interaction_decoder *d, struct slice value, enum reason reason,
				 const char *part)
{
	struct error err;
	enum reason found = judge(d, value, NULL, &err);
	if (found != reason || !strstr(err.text, part))
		fail_msg("%s: \"%s\" and not %s: \"%s\"", reason_name(found), err.text, reason_name(reason), part);
}

static inline void own(struct buffer *b, struct slice user, struct slice item, int64_t time_ms)
{
	struct interaction i = { .user_id = user, .item_id = item, .timestamp_ms = time_ms };
	buffer_clear(b);
	interaction_encode(&i, b);
}

#endif
