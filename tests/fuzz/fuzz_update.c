/* UserUpdate records: what decodes is written again and decodes to the same. */
#include "io/update.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct buffer floats;
	static struct buffer again;
	static struct update_scores scores;
	static struct update_scores copies;
	struct update u;
	struct update v;
	struct error err;
	buffer_clear(&floats);
	buffer_clear(&again);
	if (update_decode((struct slice){ data, size }, &floats, &u, &err) != STATUS_OK)
		return 0;
	if (update_decode_scores(&u, &scores, &err) != STATUS_OK)
		abort();
	u.scores = scores.items;
	u.scores_count = scores.count;
	update_encode(&u, &again);
	struct buffer copy = { 0 };
	if (update_decode((struct slice){ again.data, again.length }, &copy, &v, &err) != STATUS_OK || v.dim != u.dim ||
	    v.offset != u.offset || v.partition != u.partition || v.user_id.length != u.user_id.length ||
	    memcmp(v.user_id.data, u.user_id.data, u.user_id.length) != 0 ||
	    (u.dim > 0 && memcmp(v.embedding, u.embedding, u.dim * sizeof(float)) != 0))
		abort();
	if (update_decode_scores(&v, &copies, &err) != STATUS_OK || copies.count != scores.count ||
	    copies.labels.length != scores.labels.length || copies.values.length != scores.values.length ||
	    (copies.values.length && memcmp(copies.values.data, scores.values.data, copies.values.length) != 0))
		abort();
	buffer_free(&copy);
	return 0;
}
