/* SPDX-License-Identifier: MIT */
#include "wire/wire_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool host_is_address(const char *host)
{
	unsigned char raw[16];

	return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

bool wire_tls_pin_name(void *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	char name[TLSEXT_MAXLEN_host_name + 1];
	size_t len = strlen(host);

	/* The dot of a whole name is for the name service alone: neither has it. */
	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0 || len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (host_is_address(host)) {
		/* No SNI: it carries names only. */
		return X509_VERIFY_PARAM_set1_host(param, NULL, 0) == 1 &&
		       X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 &&
		       SSL_set_tlsext_host_name(ssl, NULL) == 1;
	}
	return X509_VERIFY_PARAM_set1_host(param, name, len) == 1 &&
	       SSL_set_tlsext_host_name(ssl, name) == 1;
}

static void time_text(const ASN1_TIME *t, char *text, size_t size)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(t, &tm) != 1 || strftime(text, size, "%Y-%m-%d", &tm) == 0)
		snprintf(text, size, "?");
}

/* A clock without a battery starts in 1970, where no certificate is valid yet. */
static void clock_text(char *text, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;
	char date[16];

	if (now >= RTB_CLOCK_FLOOR || !gmtime_r(&now, &tm) ||
	    strftime(date, sizeof(date), "%Y-%m-%d", &tm) == 0)
		return;
	snprintf(text, size, "this machine's clock is wrong, it says %s: ", date);
}

void wire_tls_verify_text(void *store_ctx, char *text, size_t size)
{
	X509 *cert = X509_STORE_CTX_get_current_cert(store_ctx);
	int error = X509_STORE_CTX_get_error(store_ctx);
	const char *why = X509_verify_cert_error_string(error);
	char name[64] = "?", from[16] = "?", to[16] = "?", clock[80] = "";

	if (error == X509_V_ERR_CERT_NOT_YET_VALID)
		clock_text(clock, sizeof(clock));

	if (!cert) {
		snprintf(text, size, "%s%s", clock, why);
		return;
	}
	X509_NAME_oneline(X509_get_subject_name(cert), name, (int)sizeof(name));
	time_text(X509_get0_notBefore(cert), from, sizeof(from));
	time_text(X509_get0_notAfter(cert), to, sizeof(to));
	snprintf(text, size, "%s%s (certificate %s, valid %s to %s)", clock, why, name, from, to);
}

/* The verification's own words say more than the alert that follows them. */
static void text_set(struct wire_tls_text *to, const char *text)
{
	if (!to->text[0])
		snprintf(to->text, sizeof(to->text), "%s", text);
}

static void on_info(const SSL *ssl, int where, int ret)
{
	const struct wire_tls_hook *hook = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	struct wire_tls_text *own = SSL_get_app_data(ssl);
	char text[96];

	/* What we complain of when the connection ends in the middle is told by its end. */
	if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT &&
	    (ret & 0xff) == SSL_AD_DECODE_ERROR)
		return;
	if (where & SSL_CB_ALERT) {
		snprintf(text, sizeof(text), "%s TLS alert: %s",
			 where & SSL_CB_READ ? "the server sent a" : "we sent a",
			 SSL_alert_desc_string_long(ret));
		if (own)
			text_set(own, text);
		else if (hook)
			hook->alert(hook->ctx, SSL_get_fd(ssl), (where & SSL_CB_READ) != 0, text);
	} else if (hook && !own && (where & SSL_CB_HANDSHAKE_START)) {
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

bool wire_tls_heard_nothing(void *ssl)
{
	return ssl && BIO_number_read(SSL_get_rbio(ssl)) == 0;
}

bool wire_tls_peer_ended(void *ssl)
{
	return ssl && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

/* Return: what the certificate is worth: it is only looked at, nothing is forgiven. */
static int on_verify(int ok, X509_STORE_CTX *store_ctx)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store_ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct wire_tls_text *own = SSL_get_app_data(ssl);

	if (!ok && !own->text[0])
		wire_tls_verify_text(store_ctx, own->text, sizeof(own->text));
	return ok;
}

void *wire_tls_new(void *ssl_ctx, int fd, const char *host, struct wire_tls_text *text)
{
	static const unsigned char alpn[] = "\x08http/1.1";
	SSL *ssl = SSL_new(ssl_ctx);

	if (!ssl)
		return NULL;
	text->text[0] = '\0';
	SSL_set_app_data(ssl, text);
	SSL_set_verify(ssl, SSL_VERIFY_PEER, on_verify);
	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Answers may hold tokens. */
	SSL_set_options(ssl, SSL_OP_CLEANSE_PLAINTEXT);
	if (SSL_set_fd(ssl, fd) != 1 || SSL_set_alpn_protos(ssl, alpn, sizeof(alpn) - 1) != 0 ||
	    !wire_tls_pin_name(ssl, host)) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_connect_state(ssl);
	return ssl;
}

void *wire_tls_free(void *ssl)
{
	if (ssl) {
		if (SSL_is_init_finished(ssl))
			SSL_shutdown(ssl);
		SSL_free(ssl);
		/* The queue belongs to the thread, and libwebsockets reads it, too. */
		ERR_clear_error();
	}
	return NULL;
}

static int result_of(SSL *ssl, int n, bool *ret_write)
{
	int why = SSL_get_error(ssl, n);

	*ret_write = why == SSL_ERROR_WANT_WRITE;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return -EAGAIN;
	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	ERR_clear_error();
	return -EPROTO;
}

int wire_tls_handshake(void *ssl, bool *ret_write)
{
	int n;

	ERR_clear_error();
	n = SSL_do_handshake(ssl);
	if (n != 1) {
		n = result_of(ssl, n, ret_write);
		return n == 0 ? -EPROTO : n;
	}
	*ret_write = false;
	return SSL_get_verify_result(ssl) == X509_V_OK && SSL_get0_peer_certificate(ssl) ? 0
											 : -EPROTO;
}

ssize_t wire_tls_read(void *ssl, void *data, size_t size, bool *ret_write)
{
	int n;

	ERR_clear_error();
	*ret_write = false;
	n = SSL_read(ssl, data, (int)size);
	return n > 0 ? n : result_of(ssl, n, ret_write);
}

ssize_t wire_tls_write(void *ssl, const void *data, size_t size, bool *ret_write)
{
	int n;

	ERR_clear_error();
	*ret_write = false;
	n = SSL_write(ssl, data, (int)size);
	if (n > 0)
		return n;
	n = result_of(ssl, n, ret_write);
	return n == 0 ? -EPROTO : n;
}
