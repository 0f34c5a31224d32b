/* The hashes that formats and records rest on. Any thread. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_HEX_LENGTH 64 /* characters of a SHA-256 in hex, without the NUL */

/* XXH3-64, seed 0, of an item id's UTF-8 bytes: what sequences keep of an item. Part of the changelog's format. */
uint64_t hash_item(const void *id, size_t length);

/* XXH3-64's low half over any bytes: the checksum at the end of our records. Part of the formats. */
uint32_t hash_checksum(const void *bytes, size_t length);

/* SHA-256 in lower-case hex with a NUL, as sha256sum(1) prints. */
void hash_sha256_hex(const void *bytes, size_t length, char ret[HASH_HEX_LENGTH + 1]);

#endif
