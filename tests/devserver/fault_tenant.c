/* SPDX-License-Identifier: MIT */
/* Orders about what belongs to the project: its policies, and what its operator does. */
#include "fault_int.h"

bool ds_core_policies(struct ds_core *c, struct ds_str text, char *ret_error, size_t error_size)
{
	struct ds_policies *p = NULL;

	if (text.p) {
		p = ds_policies_new(text, ret_error, error_size);
		if (!p)
			return false;
	}
	ds_policies_free(c->policies);
	c->policies = p;
	return true;
}

bool ds_core_reload(struct ds_core *c, char *ret_error, size_t error_size)
{
	struct ds_buf text = { 0 };
	bool ok = c->ops.read_file(c->conf.policies, &text, ret_error, error_size) &&
		  ds_core_policies(c, (struct ds_str){ text.len ? text.data : "", text.len },
				   ret_error, error_size);

	ds_buf_done(&text);
	return ok;
}

/* "text": the rules, or null for none; "reload": those of the file. */
bool ds_op_policies(struct ds_order *o)
{
	json_t *text = json_object_get(o->json, "text");
	struct ds_str rules = { json_string_value(text), json_string_length(text) };
	char why[160] = "";
	bool ok;

	if (json_is_true(json_object_get(o->json, "reload"))) {
		if (!o->c->conf.policies)
			return ds_order_fail(o, "no file was named", "--policies");
		ok = ds_core_reload(o->c, why, sizeof(why));
	} else if (json_is_string(text) || json_is_null(text)) {
		ok = ds_core_policies(o->c, rules, why, sizeof(why));
	} else {
		return ds_order_fail(o, "policies needs a string, null, or \"reload\": true",
				     "text");
	}
	return ok || ds_order_fail(o, "policies", why);
}

/* As an operator's disconnect, and a change of the project's settings, do it. */
bool ds_op_disconnect(struct ds_order *o)
{
	struct ds_socket *s;
	struct ds_channel *ch;

	TAILQ_FOREACH(s, &o->c->sockets, link) {
		if (!ds_order_chosen(o, s))
			continue;
		TAILQ_FOREACH(ch, &s->channels, in_socket) {
			struct ds_buf b = { 0 };

			ds_phx_push(&b, s->vsn, DS_NULL, DS_NULL, ch->topic_json, "system",
				    DS_STR("{\"message\":\"Server requested disconnect\","
					   "\"status\":\"ok\",\"extension\":\"system\"}"));
			ds_socket_send(o->c, s, false, ds_buf_view(&b));
			ds_buf_done(&b);
		}
		ds_socket_close(o->c, s, 1012);
	}
	return true;
}
