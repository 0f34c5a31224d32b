#include "base/hash.h"

#include <openssl/sha.h>
#include <xxhash.h>

uint64_t hash_item(const void *id, size_t length)
{
	return XXH3_64bits(id, length);
}

uint32_t hash_checksum(const void *bytes, size_t length)
{
	return (uint32_t)XXH3_64bits(bytes, length);
}

void hash_sha256_hex(const void *bytes, size_t length, char ret[HASH_HEX_LENGTH + 1])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char sum[SHA256_DIGEST_LENGTH];
	SHA256(bytes, length, sum);
	for (size_t i = 0; i < sizeof sum; i++) {
		ret[2 * i] = digits[sum[i] >> 4];
		ret[2 * i + 1] = digits[sum[i] & 15];
	}
	ret[HASH_HEX_LENGTH] = '\0';
}
