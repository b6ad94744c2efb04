/* SPDX-License-Identifier: MIT */
#include "wire/wire_tls.h"

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool host_is_address(const char *host)
{
	unsigned char raw[16];

	return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

bool wire_tls_pin_name(void *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	size_t len = strlen(host);

	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0)
		return false;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (host_is_address(host)) {
		/* No SNI: it carries names only. */
		return X509_VERIFY_PARAM_set1_host(param, NULL, 0) == 1 &&
		       X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 &&
		       SSL_set_tlsext_host_name(ssl, NULL) == 1;
	}
	return X509_VERIFY_PARAM_set1_host(param, host, len) == 1 &&
	       SSL_set_tlsext_host_name(ssl, host) == 1;
}

static void time_text(const ASN1_TIME *t, char *text, size_t size)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(t, &tm) != 1 || strftime(text, size, "%Y-%m-%d", &tm) == 0)
		snprintf(text, size, "?");
}

void wire_tls_verify_text(void *store_ctx, char *text, size_t size)
{
	X509 *cert = X509_STORE_CTX_get_current_cert(store_ctx);
	const char *why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(store_ctx));
	char name[96] = "?", from[16] = "?", to[16] = "?";

	if (!cert) {
		snprintf(text, size, "%s", why);
		return;
	}
	X509_NAME_oneline(X509_get_subject_name(cert), name, (int)sizeof(name));
	time_text(X509_get0_notBefore(cert), from, sizeof(from));
	time_text(X509_get0_notAfter(cert), to, sizeof(to));
	snprintf(text, size, "%s (certificate %s, valid %s to %s)", why, name, from, to);
}

static void on_info(const SSL *ssl, int where, int ret)
{
	const struct wire_tls_hook *hook = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	char text[96];

	if (!hook)
		return;
	if (where & SSL_CB_ALERT) {
		snprintf(text, sizeof(text), "%s TLS alert: %s",
			 where & SSL_CB_READ ? "the server sent a" : "we sent a",
			 SSL_alert_desc_string_long(ret));
		hook->alert(hook->ctx, SSL_get_fd(ssl), text);
	} else if (where & SSL_CB_HANDSHAKE_START) {
		/* Const only because most info callbacks do not change anything. */
		hook->handshake(hook->ctx, (void *)(uintptr_t)ssl, SSL_get_fd(ssl));
	}
}

void wire_tls_setup(void *ssl_ctx, const struct wire_tls_hook *hook)
{
	SSL_CTX_set_min_proto_version(ssl_ctx, TLS1_2_VERSION);
	SSL_CTX_set_app_data(ssl_ctx, (void *)(uintptr_t)hook);
	SSL_CTX_set_info_callback(ssl_ctx, on_info);
}

bool wire_tls_peer_ended(void *ssl)
{
	return ssl && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}
