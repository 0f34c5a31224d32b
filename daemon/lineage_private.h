/* What the files of a lineage share: lineage.c (examples, cuts, decisions, writing), lineage_open.c (opening from the topic,
 * doing again what is recorded), lineage_record.c (what its records say). Nobody else includes it. */
#ifndef DAEMON_LINEAGE_PRIVATE_H
#define DAEMON_LINEAGE_PRIVATE_H

#include "daemon/lineage.h"

/* lineage.c */
enum status lineage_begin_anew(struct lineage *l, struct error *err) MUST_CHECK; /* with version 1 */
enum status lineage_consume_again(struct lineage *l, const struct patch_cut *cut, struct error *err) MUST_CHECK;
enum status lineage_name_live(struct lineage *l, struct buffer *out, struct error *err) MUST_CHECK;
void lineage_drop_waiting(struct lineage *l, size_t n);
void lineage_forget_writes(struct lineage *l);

/* lineage_open.c */
void lineage_forget_repeats(struct lineage *l);

/* Repeats what it has the examples for, or the next of it; where some that are needed are not there any more, begins the lineage anew. */
enum status lineage_repeat(struct lineage *l, int64_t position, struct error *err) MUST_CHECK;

/* lineage_record.c */
enum status lineage_describe(const struct lineage *l, struct patch_record *record, int64_t time_ms,
			     struct error *err) MUST_CHECK;

#endif
