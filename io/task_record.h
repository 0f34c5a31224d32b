/* Records of the tasks topic: a definition as a plain datum of the shipped schema Task (contract, "Topics"). Pure; any thread. */
#ifndef IO_TASK_RECORD_H
#define IO_TASK_RECORD_H

#include "base/buffer.h"
#include "config/task.h"

/* Appends a checked definition, its defaults written out: those of a later version do not change it. */
void task_record_encode(const struct config_task *task, struct buffer *out);

/* Decodes, checks and completes a definition that stands under `key`; config_task_clear is the caller's. Errors: STATUS_DATA with
 * the reason ("type: must be ..."), STATUS_MEMORY. */
enum status task_record_decode(struct slice key, struct slice value, struct config_task *ret,
			       struct error *err) MUST_CHECK;

#endif
