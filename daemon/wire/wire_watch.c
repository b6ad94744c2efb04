/* SPDX-License-Identifier: MIT */
#include "wire/wire_watch.h"

#include <errno.h>

#include "wire/wire_conn.h"

void wire_watch_init(struct wire_watch *watch, struct wire_lws *w,
		     void (*ready)(struct wire_watch *watch, bool hung_up))
{
	*watch = (struct wire_watch){ .w = w, .fd = -1, .ready = ready };
}

int wire_watch_start(struct wire_watch *watch, int fd)
{
	struct lws_vhost *vhost = lws_get_vhost_by_name(watch->w->context, "default");
	lws_sock_file_fd_type desc = { .filefd = fd };

	watch->wsi = lws_adopt_descriptor_vhost(vhost, LWS_ADOPT_RAW_FILE_DESC, desc,
						WIRE_WATCH_PROTOCOL, NULL);
	if (!watch->wsi)
		return -ENOMEM; /* never for want of a place: FD_MAX has one for each */
	watch->fd = fd;
	lws_set_opaque_user_data(watch->wsi, watch);
	lws_callback_on_writable(watch->wsi);
	return 0;
}

static void on_writable_timer(lws_sorted_usec_list_t *sul)
{
	struct wire_watch *watch = lws_container_of(sul, struct wire_watch, sul);

	if (watch->wsi)
		lws_callback_on_writable(watch->wsi);
}

void wire_watch_writable(struct wire_watch *watch)
{
	wire_timer(watch->w, &watch->sul, on_writable_timer, 0);
}

void wire_watch_move(struct wire_watch *to, struct wire_watch *from)
{
	to->fd = from->fd;
	to->wsi = from->wsi;
	from->fd = -1;
	from->wsi = NULL;
	lws_sul_cancel(&from->sul);
	if (to->wsi)
		lws_set_opaque_user_data(to->wsi, to);
	wire_watch_writable(to);
}

void wire_watch_stop(struct wire_watch *watch)
{
	if (watch->wsi) {
		lws_set_opaque_user_data(watch->wsi, NULL);
		lws_set_timeout(watch->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
		watch->wsi = NULL;
	}
	watch->fd = -1;
	lws_sul_cancel(&watch->sul);
}

void wire_watch_on_callback(struct wire_watch *watch, enum lws_callback_reasons reason)
{
	switch ((int)reason) {
	case LWS_CALLBACK_RAW_RX_FILE:
	case LWS_CALLBACK_RAW_WRITEABLE_FILE:
		watch->ready(watch, false);
		break;
	case LWS_CALLBACK_RAW_CLOSE_FILE:
		watch->wsi = NULL;
		watch->ready(watch, true);
		break;
	default:
		break;
	}
}
