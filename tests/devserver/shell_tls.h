/* SPDX-License-Identifier: MIT */
#pragma once

/** ds_shell_tls_old() - from now on nothing newer than TLS 1.1; @ssl_ctx: OpenSSL's SSL_CTX */
void ds_shell_tls_old(void *ssl_ctx);
