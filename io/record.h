/* Records of the changelog topic and of the local store: one user's state, what is owed, and one shard's position.
 *
 * Keys on the changelog: the raw user_id for a user's state; "\0position" for the shard's position; "\0owed\0" and
 * the user_id for an update that min_interval_ms holds back (ids never hold a NUL); "\0label\0" and its offset (8 bytes,
 * the highest first) for a label that waits for its user's first event. A null value forgets the key.
 *
 *     user      u8 version (1) | varint offset of the newest interaction reflected | sequence | u32 checksum
 *     position  u8 version (1) | varint next interactions offset | varint next labels offset, -1 none |
 *               varint stream time, ms | varint next changelog offset, -1 unknown (the store's copy only) | u32 checksum
 *     label     u8 version (1) | varint offset | varint until, ms | varint deadline, ms | varint Kafka's timestamp, ms, -1 none |
 *               varint length and bytes of key, value and headers, -1 for a key or value that is null | u32 checksum
 *
 * User records are a function of the input alone: the same topic gives the same bytes. Pure; any thread. */
#ifndef IO_RECORD_H
#define IO_RECORD_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/sequence.h"

#define USER_ID_MAX_BYTES 256
#define ITEM_ID_MAX_BYTES 1024

struct position {
	int64_t interactions; /* next offset to read; every earlier one is reflected; -1: unknown (the store's copy) */
	int64_t labels;       /* likewise; -1: none read yet */
	int64_t stream_time_ms; /* highest event timestamp seen; -1: none */
	int64_t changelog;      /* next changelog offset after this position's record; -1: unknown */
};

struct record_label {        /* a label that waits for its user's first event, as it came */
	int64_t offset;      /* on the labels' partition */
	int64_t until_ms;    /* stream time that ends the wait, */
	int64_t deadline_ms; /* and wall time, where the interactions are at their end */
	int64_t appended_ms; /* Kafka's timestamp, -1: none */
	struct slice key, value;
	struct slice headers; /* as io/deadletter.h puts them down */
};

enum record_kind { RECORD_USER, RECORD_POSITION, RECORD_OWED, RECORD_LABEL, RECORD_UNKNOWN };

/* What a changelog key names; *ret_user_id is the user id inside `key` (RECORD_USER and RECORD_OWED), borrowed. */
enum record_kind record_key_parse(struct slice key, struct slice *ret_user_id);
void record_key_position(struct buffer *out);
void record_key_owed(struct slice user_id, struct buffer *out);
void record_key_label(int64_t offset, struct buffer *out);

void record_user_encode(const struct sequence *s, int64_t newest_offset, struct buffer *out); /* appends */
enum status record_user_decode(struct slice value, struct sequence *s, int64_t *ret_newest_offset,
			       struct error *err) MUST_CHECK; /* STATUS_DATA where damaged, STATUS_MEMORY */

void record_position_encode(const struct position *p, struct buffer *out); /* appends */
enum status record_position_decode(struct slice value, struct position *ret, struct error *err) MUST_CHECK;

void record_label_encode(const struct record_label *label, struct buffer *out); /* appends */
/* Slices borrow from `value`. */
enum status record_label_decode(struct slice value, struct record_label *ret, struct error *err) MUST_CHECK;

#endif
