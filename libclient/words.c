/* SPDX-License-Identifier: MIT */
/* Words for errors and outcomes. */
#include <string.h>

#include "libclient/client.h"

const char *rtb_version(void)
{
	return RTB_VERSION;
}

static const char *own_error(int error)
{
	switch (error) {
	case RTB_E_DETACHED:
		return "not attached to the daemon";
	case RTB_E_BUSY:
		return "the client's send queue is full";
	case RTB_E_PROTOCOL:
		return "the daemon sent something that is not its protocol";
	case RTB_E_REFUSED:
		return "the daemon refused the request";
	case RTB_E_TIMEOUT:
		return "not done in time";
	case RTB_E_TOPIC:
		return "bad topic (1 to 240 bytes of UTF-8 without control characters, not "
		       "starting with \"rtbridge:\")";
	case RTB_E_EVENT:
		return "bad event (1 to 255 bytes of UTF-8 without control characters)";
	case RTB_E_PAYLOAD:
		return "bad payload";
	case RTB_E_TOO_BIG:
		return "larger than the daemon takes";
	case RTB_E_FAILED:
		return "the daemon refused this client for good";
	case RTB_E_KEY:
		return "bad presence key (1 to 255 bytes of UTF-8 without control characters, not "
		       "starting with \"rtbridge:\")";
	case RTB_E_BINDING:
		return "bad binding (a schema or a table, event INSERT, UPDATE, DELETE or *, names "
		       "up "
		       "to 255 bytes, at most 100 columns, 8 KiB in all; UTF-8 without control "
		       "characters)";
	case RTB_E_TYPE:
		return "the column's value is of another type, or does not fit";
	case RTB_E_TOKEN:
		return "the token has not the form of one, has expired, or the server refused it";
	case RTB_E_FORBIDDEN:
		return "the daemon's access rules do not allow it to this user";
	case RTB_E_NOT_DAEMON:
		return "the socket belongs to a user that is not trusted";
	default:
		return "unknown error";
	}
}

const char *rtb_strerror(int error)
{
	const char *words;

	if (error >= 0)
		return "success";
	if (error <= RTB_E_DETACHED)
		return own_error(error);
	/* Unlike strerror() this one is static and does not depend on the locale. */
	words = strerrordesc_np(-error);
	return words ? words : "unknown error";
}

static const char *const outcome_names[] = {
	[RTB_ACKED] = "acked",
	[RTB_SENT] = "sent",
	[RTB_DENIED] = "denied",
	[RTB_UNKNOWN] = "unknown",
	[RTB_TOO_BIG] = "too_big",
	[RTB_RATE_LIMITED] = "rate_limited",
	[RTB_BUSY] = "busy",
	[RTB_EXPIRED] = "expired",
	[RTB_NOT_JOINED] = "not_joined",
	[RTB_UNSUPPORTED] = "unsupported",
	[RTB_INVALID] = "invalid",
	[RTB_TOO_MANY] = "too_many",
	[RTB_BAD_PAYLOAD] = "bad_payload",
	[RTB_PENDING] = "pending",
	[RTB_OTHER] = "other",
};

const char *rtb_outcome_name(enum rtb_outcome outcome)
{
	if ((unsigned)outcome >= sizeof(outcome_names) / sizeof(*outcome_names))
		return "other";
	return outcome_names[outcome];
}

const char *rtbc_via_name(enum rtb_via via)
{
	static const char *const names[] = {
		[RTB_VIA_AUTO] = "auto",
		[RTB_VIA_WS] = "ws",
		[RTB_VIA_HTTP] = "http",
	};

	return names[via];
}
