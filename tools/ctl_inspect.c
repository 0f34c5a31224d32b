/* peterctl inspect: what is in a model file, or in a state directory. */
#include "tools/ctl.h"

#include "base/hash.h"
#include "io/store_summary.h"
#include "model/backbone.h"
#include "model/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct range {
	bool floats; /* a floating type that we read */
	bool finite;
	float low;
	float high;
};

static struct range tensor_range(const struct safetensors_tensor *t)
{
	enum { CHUNK = 4096 };
	float values[CHUNK];
	struct error ignored;
	struct range range = { .floats = t->type == SAFETENSORS_F32 || t->type == SAFETENSORS_F16 ||
					 t->type == SAFETENSORS_BF16 };
	size_t count = t->bytes / safetensors_type_bytes(t->type);
	range.finite = range.floats && count && safetensors_check_floats(t, &ignored) == STATUS_OK;
	for (size_t first = 0; range.finite && first < count; first += CHUNK) {
		size_t n = count - first < CHUNK ? count - first : CHUNK;
		safetensors_copy_floats(t, first, n, values);
		for (size_t i = 0; i < n; i++) {
			range.low = (first + i == 0 || values[i] < range.low) ? values[i] : range.low;
			range.high = (first + i == 0 || values[i] > range.high) ? values[i] : range.high;
		}
	}
	return range;
}

static json_t *tensor_json(const struct safetensors_tensor *t)
{
	char checksum[HASH_HEX_LENGTH + 1];
	struct range range = tensor_range(t);
	json_t *object = json_object();
	json_t *shape = json_array();
	hash_sha256_hex(t->data, t->bytes, checksum);
	for (unsigned i = 0; i < t->rank; i++)
		(void)json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
	(void)json_object_set_new(object, "name", json_string(t->name));
	(void)json_object_set_new(object, "dtype", json_string(safetensors_type_name(t->type)));
	(void)json_object_set_new(object, "shape", shape);
	(void)json_object_set_new(object, "bytes", json_integer((json_int_t)t->bytes));
	(void)json_object_set_new(object, "sha256", json_string(checksum));
	if (range.floats && t->bytes)
		(void)json_object_set_new(object, "finite", json_boolean(range.finite));
	if (range.finite) {
		(void)json_object_set_new(object, "min", json_real((double)range.low));
		(void)json_object_set_new(object, "max", json_real((double)range.high));
	}
	return object;
}

static enum status print_json(const struct safetensors *st, struct error *err)
{
	json_t *object = json_object();
	json_t *metadata = json_object();
	json_t *tensors = json_array();
	for (size_t i = 0; i < safetensors_metadata_count(st); i++) {
		struct safetensors_string entry = safetensors_metadata_at(st, i);
		(void)json_object_set_new(metadata, entry.key, json_string(entry.value));
	}
	for (size_t i = 0; i < safetensors_count(st); i++)
		(void)json_array_append_new(tensors, tensor_json(safetensors_at(st, i)));
	(void)json_object_set_new(object, "path", json_string(safetensors_path(st)));
	(void)json_object_set_new(object, "bytes", json_integer((json_int_t)safetensors_bytes(st)));
	(void)json_object_set_new(object, "sha256", json_string(safetensors_hash(st)));
	(void)json_object_set_new(object, "metadata", metadata);
	(void)json_object_set_new(object, "tensors", tensors);
	int failed = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	json_decref(object);
	return failed || putchar('\n') == EOF ? error_set_errno(err, "standard output") : STATUS_OK;
}

static void print_tensor(const struct safetensors_tensor *t)
{
	char checksum[HASH_HEX_LENGTH + 1];
	char shape[256] = "[";
	size_t used = 1;
	struct range range = tensor_range(t);
	hash_sha256_hex(t->data, t->bytes, checksum);
	for (unsigned i = 0; i < t->rank && used < sizeof shape - 2; i++)
		used += (size_t)snprintf(shape + used, sizeof shape - used, "%s%llu", i ? ", " : "",
					 (unsigned long long)t->shape[i]);
	(void)snprintf(shape + used, sizeof shape - used, "]");
	printf("  %-28s %-5s %-18s %.16s", t->name, safetensors_type_name(t->type), shape, checksum);
	if (range.finite)
		printf("  %+.4g to %+.4g", (double)range.low, (double)range.high);
	else if (range.floats && t->bytes)
		printf("  NOT FINITE");
	printf("\n");
}

static void print_text(const struct safetensors *st)
{
	enum { SHOWN = 100 };
	printf("%s\n  %zu bytes, sha256 %s\n\nmetadata\n", safetensors_path(st), safetensors_bytes(st),
	       safetensors_hash(st));
	for (size_t i = 0; i < safetensors_metadata_count(st); i++) {
		struct safetensors_string entry = safetensors_metadata_at(st, i);
		size_t length = strlen(entry.value);
		printf("  %-16s %.*s", entry.key, SHOWN, entry.value);
		if (length > SHOWN)
			printf("... (%zu bytes)", length);
		printf("\n");
	}
	printf("\ntensors: name, type, shape, sha256 of the bytes (first 16 digits), range\n");
	for (size_t i = 0; i < safetensors_count(st); i++)
		print_tensor(safetensors_at(st, i));
}

/* A backbone is also loaded, so that what the daemon would refuse is said here. */
static enum status check_backbone(const char *path, bool json, struct error *err)
{
	struct backbone *b;
	enum status status = backbone_load(path, &b, err);
	if (status)
		return status;
	if (!json)
		printf("\nbackbone %s: %s, d %u, window %u, %u items, %zu bytes of state a user\n", backbone_arch(b),
		       backbone_causal(b) ? "causal" : "not causal", backbone_dim(b), backbone_window(b),
		       backbone_items(b) - BACKBONE_FIRST_ITEM, backbone_state_bytes(b));
	backbone_free(b);
	return STATUS_OK;
}

static enum status inspect_file(const char *path, bool json, struct error *err)
{
	struct safetensors *st;
	enum status status = safetensors_open(path, &st, err);
	if (status)
		return status;
	const char *format = safetensors_metadata(st, "format");
	bool backbone = format && !strcmp(format, "peterd.backbone.v1");
	if (json)
		status = print_json(st, err);
	else
		print_text(st);
	safetensors_close(st);
	return status || !backbone ? status : check_backbone(path, json, err);
}

static json_t *shard_json(const struct store_summary_shard *s)
{
	json_t *object = json_pack("{s:i, s:I, s:I, s:I, s:I, s:I}", "partition", (int)s->partition, "users",
				   (json_int_t)s->users, "events", (json_int_t)s->events, "owed", (json_int_t)s->owed,
				   "damaged", (json_int_t)s->damaged, "bytes", (json_int_t)s->bytes);
	json_t *position = s->has_position ? json_pack("{s:I, s:I, s:I, s:I}", "interactions",
						       (json_int_t)s->position.interactions, "labels",
						       (json_int_t)s->position.labels, "stream_time",
						       (json_int_t)s->position.stream_time_ms, "changelog",
						       (json_int_t)s->position.changelog)
					   : json_null();
	(void)json_object_set_new(object, "position", position);
	return object;
}

static enum status print_state_json(const char *path, const struct store_summary *summary, struct error *err)
{
	json_t *object = json_object();
	json_t *shards = json_array();
	for (size_t i = 0; i < summary->count; i++)
		(void)json_array_append_new(shards, shard_json(&summary->shards[i]));
	(void)json_object_set_new(object, "path", json_string(path));
	(void)json_object_set_new(object, "identity", summary->identity ? json_string(summary->identity) : json_null());
	(void)json_object_set_new(object, "shards", shards);
	int failed = json_dumpf(object, stdout, JSON_INDENT(2));
	json_decref(object);
	return failed || putchar('\n') == EOF ? error_set_errno(err, "standard output") : STATUS_OK;
}

static void print_state(const char *path, const struct store_summary *summary)
{
	printf("%s\n  %s\n\n%9s %10s %12s %7s %8s %14s %14s %12s\n", path,
	       summary->identity ? summary->identity : "of nobody", "partition", "users", "events", "owed", "damaged",
	       "interactions", "changelog", "bytes");
	for (size_t i = 0; i < summary->count; i++) {
		const struct store_summary_shard *s = &summary->shards[i];
		printf("%9d %10lld %12lld %7lld %8lld ", s->partition, (long long)s->users, (long long)s->events,
		       (long long)s->owed, (long long)s->damaged);
		if (s->has_position)
			printf("%14lld %14lld", (long long)s->position.interactions, (long long)s->position.changelog);
		else
			printf("%14s %14s", "-", "-");
		printf(" %12lld\n", (long long)s->bytes);
	}
	printf("\ninteractions, changelog: next offsets that the shard would read\n");
}

static enum status inspect_state(const char *path, bool json, struct error *err)
{
	struct store_summary summary;
	enum status status = store_summary_read(path, &summary, err);
	if (status)
		return status;
	if (json)
		status = print_state_json(path, &summary, err);
	else
		print_state(path, &summary);
	store_summary_free(&summary);
	return status;
}

enum status ctl_inspect(int argc, char **argv, struct error *err)
{
	bool json = false;
	const struct ctl_option options[] = {
		{ "json", CTL_FLAG, false, &json, NULL, "one JSON object", 0, 0 },
	};
	const struct ctl_usage usage = {
		"inspect",
		"FILE",
		"What is in a backbone or patch file: metadata, tensors, shapes, checksums, "
		"ranges; a backbone is also\n"
		"checked as the daemon would check it. For a daemon's state_dir: its shards and where they stand.\n",
		options,
		CTL_COUNT(options),
		1
	};
	int operands;
	bool help;
	struct stat about;
	enum status status = ctl_parse(argc, argv, &usage, &operands, &help, err);
	if (status || help)
		return status;
	if (operands == argc)
		return error_set(err, STATUS_USAGE, "inspect: FILE is missing; see --help");
	if (stat(argv[operands], &about) == 0 && S_ISDIR(about.st_mode))
		return inspect_state(argv[operands], json, err);
	return inspect_file(argv[operands], json, err);
}
