-- SPDX-License-Identifier: MIT
-- What lets a database send messages: the schema realtime, as every Supabase database has it. What is there already is left
-- as it is. Who inserts a row into realtime.messages sends it; the devserver reads the log.

set client_min_messages to warning;
select pg_advisory_xact_lock(hashtext('rtbridge_devserver'));

create schema if not exists realtime;

do $$
begin
	if to_regclass('realtime.messages') is null then
		create table realtime.messages (
			id uuid not null default gen_random_uuid(),
			topic text not null,
			extension text not null,
			payload jsonb,
			binary_payload bytea,
			event text,
			private boolean default false,
			updated_at timestamp not null default (now() at time zone 'utc'),
			inserted_at timestamp not null default (now() at time zone 'utc'),
			primary key (id, inserted_at),
			constraint messages_payload_exclusive check (payload is null or binary_payload is null)
		);
		create index on realtime.messages (inserted_at desc, topic) where extension = 'broadcast' and private;
		alter table realtime.messages enable row level security;
		grant usage on schema realtime to anon, authenticated, service_role;
		grant select, insert, update on realtime.messages to anon, authenticated, service_role;
	end if;
	if to_regprocedure('realtime.topic()') is null then
		create function realtime.topic() returns text language sql stable as
			$f$ select nullif(current_setting('realtime.topic', true), '') $f$;
	end if;
	if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
		create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
		returns void language plpgsql as $f$
		declare
			message uuid := gen_random_uuid();
		begin
			perform set_config('realtime.topic', topic, true);
			insert into realtime.messages (id, extension, event, topic, private, payload)
			values (message, 'broadcast', event, topic, private,
				case when payload ? 'id' then payload else jsonb_set(payload, '{id}', to_jsonb(message)) end);
		exception when others then
			raise warning 'WarnSendingBroadcastMessage: %', sqlerrm; -- who sends is not to fail over it
		end
		$f$;
	end if;
	if to_regprocedure('realtime.send_binary(bytea, text, text, boolean)') is null then
		create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
		returns void language plpgsql as $f$
		begin
			perform set_config('realtime.topic', topic, true);
			insert into realtime.messages (extension, event, topic, private, binary_payload)
			values ('broadcast', event, topic, private, payload);
		exception when others then
			raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
		end
		$f$;
	end if;
	if to_regprocedure('realtime.broadcast_changes(text, text, text, text, text, record, record, text)') is null then
		create function realtime.broadcast_changes(topic_name text, event_name text, operation text, table_name text,
			table_schema text, new record, old record, level text default 'ROW')
		returns void language plpgsql as $f$
		begin
			if level = 'STATEMENT' then
				raise exception 'function can only be triggered for each row, not for each statement';
			end if;
			if operation not in ('INSERT', 'UPDATE', 'DELETE') then
				raise exception 'Unexpected operation type: %', operation;
			end if;
			perform realtime.send(jsonb_build_object('old_record', old, 'record', new, 'operation', operation,
				'table', table_name, 'schema', table_schema), event_name, topic_name);
		exception when others then
			raise exception 'Failed to process the row: %', sqlerrm;
		end
		$f$;
	end if;
end
$$;

-- The newest stored messages of a private channel as a JSON array, the oldest first.
create or replace function rtbridge_devserver.replay(name text, since_ms bigint, most int)
returns text language sql stable as $$
	select coalesce(json_agg(json_build_object('id', r.id, 'event', r.event, 'payload', r.payload,
			'base64', translate(encode(r.binary_payload, 'base64'), e'\n', ''))
		order by r.inserted_at, r.place)::text, '[]')
	from (select m.*, m.ctid as place
		from realtime.messages m
		where m.topic = name and m.private and m.extension = 'broadcast'
			and m.inserted_at >= to_timestamp(since_ms / 1000.0) at time zone 'utc'
			and m.inserted_at < now() at time zone 'utc' + interval '1 minute'
		order by m.inserted_at desc, m.ctid desc
		limit most) r
$$;
