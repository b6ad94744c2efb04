/* SPDX-License-Identifier: MIT */
/* Which versions of TLS the devserver speaks. Only what libwebsockets does not do itself. */
#include "shell_tls.h"

#include <openssl/ssl.h>

void ds_shell_tls_old(void *ssl_ctx)
{
	SSL_CTX *ctx = ssl_ctx;

	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	/* Their signatures are of MD5 and SHA-1, which no higher level lets pass. */
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_cipher_list(ctx, "ALL");
}
