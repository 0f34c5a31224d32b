#include "config/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool parse_port(const char *text, in_port_t *ret)
{
	unsigned port = 0;
	size_t n = 0;
	for (; text[n] >= '0' && text[n] <= '9' && n < 5; n++)
		port = port * 10 + (unsigned)(text[n] - '0');
	if (n == 0 || text[n] || port > 65535)
		return false;
	*ret = htons((in_port_t)port);
	return true;
}

static bool parse_v6(const char *host, in_port_t port, struct sockaddr_storage *ret, socklen_t *ret_length)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = port };
	if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
		return false;
	memset(ret, 0, sizeof *ret);
	memcpy(ret, &v6, sizeof v6);
	*ret_length = sizeof v6;
	return true;
}

static bool parse_v4(const char *host, in_port_t port, struct sockaddr_storage *ret, socklen_t *ret_length)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = port };
	if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &v4.sin_addr) != 1)
		return false;
	memset(ret, 0, sizeof *ret);
	memcpy(ret, &v4, sizeof v4);
	*ret_length = sizeof v4;
	return true;
}

enum status listen_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_length, struct error *err)
{
	char host[INET6_ADDRSTRLEN + 2];
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	in_port_t port;
	if (!colon || length >= sizeof host)
		return error_set(err, STATUS_CONFIG, "must be address:port or [address]:port");
	if (!parse_port(colon + 1, &port))
		return error_set(err, STATUS_CONFIG, "the port must be from 0 to 65535");
	memcpy(host, text, length);
	host[length] = '\0';
	bool bracketed = length > 2 && host[0] == '[' && host[length - 1] == ']';
	if (bracketed)
		host[length - 1] = '\0';
	if (bracketed ? !parse_v6(host + 1, port, ret, ret_length) : !parse_v4(host, port, ret, ret_length))
		return error_set(err, STATUS_CONFIG,
				 "must be address:port with a numeric address (IPv6 in brackets) or localhost");
	return STATUS_OK;
}
