/* peterctl inspect: what is in a model file, or in a state directory. */
#include "tools/ctl.h"

#include "base/hash.h"
#include "io/store_summary.h"
#include "model/backbone.h"
#include "model/safetensors.h"
#include "tools/inspect_patch.h"

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

/* What the metadata of a backbone that loads come to. */
struct shape {
	const char *kernel_size;
	const char *dilations;
	const char *next_item;
	long long receptive_field; /* R, positions: 1 + the sum over the convolutions of (k - 1) x dilation */
};

static struct shape read_shape(const struct safetensors *st)
{
	struct shape shape = { .kernel_size = safetensors_metadata(st, "kernel_size"),
			       .dilations = safetensors_metadata(st, "dilations"),
			       .next_item = safetensors_metadata(st, "next_item"),
			       .receptive_field = 1 };
	if (!shape.next_item)
		shape.next_item = "last";
	long long taps = shape.kernel_size ? strtoll(shape.kernel_size, NULL, 10) : 0;
	const char *at = shape.dilations;
	for (char *end; at && *at; at = *end == ',' ? end + 1 : "") /* a block has two: of dilation d and 2 d */
		shape.receptive_field += (taps - 1) * 3 * strtoll(at, &end, 10);
	return shape;
}

static json_t *dilations_json(const char *text)
{
	json_t *array = json_array();
	for (char *end; text && *text; text = *end == ',' ? end + 1 : "")
		(void)json_array_append_new(array, json_integer(strtoll(text, &end, 10)));
	return array;
}

static json_t *backbone_json(const struct safetensors *st, const struct backbone *b)
{
	struct shape shape = read_shape(st);
	json_t *object = json_object();
	(void)json_object_set_new(object, "arch", json_string(backbone_arch(b)));
	(void)json_object_set_new(object, "causal", json_boolean(backbone_causal(b)));
	(void)json_object_set_new(object, "channels", json_integer(backbone_dim(b)));
	if (shape.kernel_size && shape.dilations) {
		(void)json_object_set_new(object, "kernel_size", json_integer(strtoll(shape.kernel_size, NULL, 10)));
		(void)json_object_set_new(object, "dilations", dilations_json(shape.dilations));
		(void)json_object_set_new(object, "receptive_field", json_integer(shape.receptive_field));
	}
	(void)json_object_set_new(object, "window", json_integer(backbone_window(b)));
	(void)json_object_set_new(object, "vocabulary", json_integer(backbone_items(b) - BACKBONE_FIRST_ITEM));
	(void)json_object_set_new(object, "next_item", json_string(shape.next_item));
	(void)json_object_set_new(object, "state_bytes", json_integer((json_int_t)backbone_state_bytes(b)));
	(void)json_object_set_new(object, "sha256", json_string(backbone_hash(b)));
	return object;
}

static void print_backbone(const struct safetensors *st, const struct backbone *b)
{
	struct shape shape = read_shape(st);
	printf("\nbackbone\n  %s, %s, %u channels", backbone_arch(b), backbone_causal(b) ? "causal" : "not causal",
	       backbone_dim(b));
	if (shape.kernel_size && shape.dilations)
		printf(", kernels of %s, dilations %s, receptive field %lld", shape.kernel_size, shape.dilations,
		       shape.receptive_field);
	printf("\n  window %u, vocabulary of %u, next item from %s, %zu bytes of state a user\n", backbone_window(b),
	       backbone_items(b) - BACKBONE_FIRST_ITEM, shape.next_item, backbone_state_bytes(b));
}

/* b, p->patch: NULL where it is no such thing, or none that loads. */
static enum status print_json(const struct safetensors *st, const struct backbone *b, const struct inspect_patch *p,
			      struct error *err)
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
	if (b)
		(void)json_object_set_new(object, "backbone", backbone_json(st, b));
	if (p->patch)
		(void)json_object_set_new(object, "patch", inspect_patch_json(p));
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

/* A backbone or patch is also loaded, so that what the daemon would refuse is said here. */
static enum status inspect_file(const char *path, const char *backbone, bool json, struct error *err)
{
	struct safetensors *st;
	struct backbone *b = NULL;
	struct inspect_patch p = { 0 };
	struct error fault;
	enum status loaded = STATUS_OK;
	enum status status = safetensors_open(path, &st, err);
	if (status)
		return status;
	const char *format = safetensors_metadata(st, "format");
	if (format && !strcmp(format, "peterd.backbone.v1"))
		loaded = backbone_load(path, &b, &fault);
	else if (format && !strcmp(format, "peterd.patch.v1"))
		loaded = inspect_patch_load(st, backbone, &p, &fault);
	if (json)
		status = print_json(st, b, &p, err);
	else
		print_text(st);
	if (b && !json)
		print_backbone(st, b);
	if (p.patch && !json)
		inspect_patch_print(&p);
	inspect_patch_close(&p);
	backbone_free(b);
	safetensors_close(st);
	if (!status && loaded) {
		*err = fault;
		status = loaded;
	}
	return status;
}

static json_t *shard_json(const struct store_summary_shard *s)
{
	json_t *object =
		json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "partition", (int)s->partition, "users",
			  (json_int_t)s->users, "events", (json_int_t)s->events, "owed", (json_int_t)s->owed, "labels",
			  (json_int_t)s->labels, "damaged", (json_int_t)s->damaged, "bytes", (json_int_t)s->bytes);
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
	printf("%s\n  %s\n\n%9s %10s %12s %7s %7s %8s %14s %14s %12s\n", path,
	       summary->identity ? summary->identity : "of nobody", "partition", "users", "events", "owed", "labels",
	       "damaged", "interactions", "changelog", "bytes");
	for (size_t i = 0; i < summary->count; i++) {
		const struct store_summary_shard *s = &summary->shards[i];
		printf("%9d %10lld %12lld %7lld %7lld %8lld ", s->partition, (long long)s->users, (long long)s->events,
		       (long long)s->owed, (long long)s->labels, (long long)s->damaged);
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
	const char *backbone = NULL;
	const struct ctl_option options[] = {
		{ "backbone", CTL_TEXT, false, &backbone, "FILE", "of a patch: the backbone to check it against", 0,
		  0 },
		{ "json", CTL_FLAG, false, &json, NULL, "one JSON object", 0, 0 },
	};
	const struct ctl_usage usage = {
		"inspect",
		"FILE",
		"What is in a backbone or patch file: metadata, tensors, shapes, checksums, ranges; "
		"it is also\n"
		"checked as the daemon would check it, and summed up. For a daemon's state_dir: "
		"its shards and where\nthey stand.\n",
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
	return inspect_file(argv[operands], backbone, json, err);
}
