-- SPDX-License-Identifier: MIT
-- What the devserver puts into the database at its start. Can be run again and again.
--
-- Which subscription may see which row is decided here, in batches and with PostgreSQL's own casts,
-- operators, privileges and policies. Subscriptions live in a temporary table of the devserver's
-- session, so that several devservers can share a database.

set client_min_messages to warning;
select pg_advisory_xact_lock(hashtext('rtbridge_devserver'));

-- What every Supabase database has. Roles belong to the whole cluster: another database's devserver
-- may be making them just now.
do $$
declare
	wanted text;
begin
	foreach wanted in array array['anon', 'authenticated', 'service_role'] loop
		begin
			if not exists (select from pg_roles where rolname = wanted) then
				execute format('create role %I nologin noinherit %s', wanted,
					case wanted when 'service_role' then 'bypassrls' else '' end);
			end if;
		exception when duplicate_object or unique_violation then
			null;
		end;
	end loop;
	if to_regnamespace('auth') is null then
		create schema auth;
		grant usage on schema auth to anon, authenticated, service_role;
		grant usage on schema public to anon, authenticated, service_role;
		grant all on all tables in schema public to anon, authenticated, service_role;
		grant all on all sequences in schema public to anon, authenticated, service_role;
		alter default privileges in schema public
			grant all on tables to anon, authenticated, service_role;
		alter default privileges in schema public
			grant all on sequences to anon, authenticated, service_role;
	end if;
	if to_regprocedure('auth.jwt()') is null then
		create function auth.jwt() returns jsonb language sql stable as
			$f$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $f$;
	end if;
	if to_regprocedure('auth.uid()') is null then
		create function auth.uid() returns uuid language sql stable as
			$f$ select nullif(auth.jwt() ->> 'sub', '')::uuid $f$;
	end if;
	if to_regprocedure('auth.role()') is null then
		create function auth.role() returns text language sql stable as
			$f$ select auth.jwt() ->> 'role' $f$;
	end if;
	if not exists (select from pg_publication where pubname = 'supabase_realtime') then
		create publication supabase_realtime;
	end if;
end
$$;

create schema if not exists rtbridge_devserver;

-- Once in each session.
create or replace function rtbridge_devserver.begin_session() returns void language plpgsql as $$
begin
	create temp table if not exists subscription (
		number bigint primary key,
		owner bigint not null, -- number of the first binding of the same channel
		role text not null,
		claims text not null,
		event text not null,
		schema_like text not null,
		table_like text not null,
		filters jsonb not null, -- [[column, operator, value, negate], ...]
		selected text[]
	);
	create index if not exists subscription_owner on pg_temp.subscription (owner);
end
$$;

create or replace function rtbridge_devserver.pattern(name text) returns text language sql immutable as $$
	select case name when '*' then '%' else name end
$$;

-- A column's value out of a row as wal2json has it, in its own type. The type goes without its
-- length, as on the real server: of a char(4) only one character is left.
create or replace function rtbridge_devserver.value(row_name text, col pg_attribute) returns text
language sql stable as $$
	select format(case when col.atttypid = 'bytea'::regtype then 'decode(%s->>%L, ''hex'')'
			else '(%s->>%L)::%s' end,
		row_name, col.attname, format_type(col.atttypid, null))
$$;

-- An SQL expression for one filter, which is never null.
create or replace function rtbridge_devserver.condition(row_name text, col pg_attribute, filter jsonb)
returns text language plpgsql stable as $$
declare
	has constant text := rtbridge_devserver.value(row_name, col);
	kind constant text := format_type(col.atttypid, null);
	op constant text := filter ->> 1;
	wanted constant text := filter ->> 2;
	sign constant text := case op when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<'
		when 'lte' then '<=' when 'gt' then '>' when 'gte' then '>='
		when 'isdistinct' then 'is distinct from' when 'like' then '~~' when 'ilike' then '~~*'
		when 'match' then '~' when 'imatch' then '~*' end;
	e text;
begin
	case
	when op = 'in' then
		e := format('%s = any(%L::%s[])', has, wanted, kind);
	when op = 'is' then
		if lower(wanted) not in ('null', 'true', 'false', 'unknown') then
			raise exception 'invalid value for `is` filter: %', wanted;
		end if;
		e := format('%s is %s', has, wanted);
	when op in ('like', 'ilike', 'match', 'imatch') then
		e := format('%s::text %s %L', has, sign, wanted);
	else
		e := format('%s %s %L::%s', has, sign, wanted, kind);
	end case;
	return format('coalesce(%s ? %L and %s (%s), false)', row_name, col.attname,
		case when (filter ->> 3)::boolean then 'not' else '' end, e);
end
$$;

-- Raises what the real server's database would say about a binding, and finds the tables for it.
create or replace function rtbridge_devserver.check_binding(as_role text, binding jsonb) returns bigint
language plpgsql as $$
declare
	target oid;
	col pg_attribute;
	filter jsonb;
	name text;
	n bigint := 0;
	ok boolean;
begin
	for target in
		select format('%I.%I', p.schemaname, p.tablename)::regclass
		from pg_publication_tables p
		where p.pubname = 'supabase_realtime'
			and p.schemaname like rtbridge_devserver.pattern(binding ->> 'schema') escape ''
			and p.tablename like rtbridge_devserver.pattern(binding ->> 'table') escape ''
	loop
		n := n + 1;
		for filter in select jsonb_array_elements(binding -> 'filters') loop
			select a.* into col from pg_attribute a
			where a.attrelid = target and a.attname = filter ->> 0 and a.attnum > 0
				and not a.attisdropped
				and has_column_privilege(as_role::regrole, target, a.attnum, 'SELECT');
			if not found then
				raise exception 'invalid column for filter %', filter ->> 0;
			end if;
			if filter ->> 1 = 'in' and cardinality((filter ->> 2)::text[]) > 100 then
				raise exception 'too many values for `in` filter. Maximum 100';
			end if;
			-- With nothing to compare, its value is still cast, its operator still looked for.
			execute format('select %s from (select jsonb_build_object(%L, null) as r) x',
				rtbridge_devserver.condition('r', col, filter), col.attname) into ok;
			if filter ->> 1 in ('match', 'imatch') then
				ok := '' ~ (filter ->> 2);
			end if;
		end loop;
		for name in select jsonb_array_elements_text(nullif(binding -> 'select', 'null')) loop
			if not exists (select from pg_attribute a
				where a.attrelid = target and a.attname = name and a.attnum > 0
					and not a.attisdropped
					and has_column_privilege(as_role::regrole, target, a.attnum, 'SELECT'))
			then
				raise exception 'invalid column for select %', name;
			end if;
		end loop;
	end loop;
	return n;
end
$$;

-- All bindings of one channel, or none. A failure's DETAIL is the index of the binding.
create or replace function rtbridge_devserver.subscribe(first bigint, as_role text, claims text,
	bindings jsonb) returns void language plpgsql as $$
declare
	binding jsonb;
	i int := 0;
	state text;
	message text;
begin
	delete from pg_temp.subscription s where s.owner = first;
	for binding in select jsonb_array_elements(bindings) loop
		begin
			if rtbridge_devserver.check_binding(as_role, binding) = 0 then
				raise exception using errcode = 'DS404', message = 'no table';
			end if;
		exception when others then
			get stacked diagnostics state = returned_sqlstate, message = message_text;
			raise exception using errcode = state, message = message, detail = i;
		end;
		insert into pg_temp.subscription
		values (first + i, first, as_role, subscribe.claims, binding ->> 'event',
			rtbridge_devserver.pattern(binding ->> 'schema'),
			rtbridge_devserver.pattern(binding ->> 'table'), binding -> 'filters',
			case when binding -> 'select' = 'null' then null
				else array(select jsonb_array_elements_text(binding -> 'select')) end);
		i := i + 1;
	end loop;
end
$$;

create or replace function rtbridge_devserver.unsubscribe(firsts bigint[]) returns void
language plpgsql as $$
begin
	delete from pg_temp.subscription s where s.owner = any(firsts);
end
$$;

-- An SQL expression: the row as the client gets it, every column in its own type. Columns that
-- wal2json leaves out (TOAST that has not changed, all but the key of an old row) are left out.
create or replace function rtbridge_devserver.typed_row(row_name text, target oid) returns text
language sql stable as $$
	with col as (
		select a.attname, a.attnum,
			case when a.atttypid = 'bytea'::regtype then format('%s->%L', row_name, a.attname)
				else format('to_jsonb(%s)', rtbridge_devserver.value(row_name, a)) end as e
		from pg_attribute a
		where a.attrelid = target and a.attnum > 0 and not a.attisdropped
	), part as ( -- a call takes at most 100 arguments
		select format('jsonb_build_object(%s)',
			string_agg(format('%L, %s', attname, e), ', ' order by attnum)) as e
		from col group by attnum / 40
	)
	select format('(%s) - array(select k from unnest(%L::text[]) k where not %s ? k)',
		coalesce(string_agg(part.e, ' || '), '''{}''::jsonb'),
		(select array_agg(attname) from col), row_name)
	from part
$$;

-- Of those changes, which rows of a table may each user see? Policies are asked about the rows as
-- they are now, found by their primary key.
create or replace function rtbridge_devserver.visible(s text, t text, pk pg_attribute[],
	as_role text, claims text, ords bigint[], changes json[]) returns bigint[]
language plpgsql as $$
declare
	-- Made before the role is changed, which may not call the functions here.
	sql constant text := format('select array_agg(x.o) from ('
			'select u.o, (select jsonb_object_agg(e->>''name'', e->''value'')'
			' from jsonb_array_elements(u.c::jsonb->''columns'') e) as n'
			' from unnest($1, $2) u(o, c)'
			' where u.c->>''action'' <> ''D'' offset 0) x'
			' where exists (select from %I.%I y where %s)', s, t,
		(select string_agg(format('y.%I = %s', a.attname, rtbridge_devserver.value('x.n', a)),
			' and ') from unnest(pk) a));
	seen bigint[];
begin
	perform set_config('role', as_role, true), set_config('request.jwt.claims', claims, true),
		set_config('request.jwt.claim.sub', coalesce(claims::jsonb ->> 'sub', ''), true),
		set_config('request.jwt.claim.role', as_role, true);
	execute sql into seen using ords, changes;
	perform set_config('role', 'none', true);
	return seen;
exception when others then
	raise warning 'row level security of %.% for %: %', s, t, as_role, sqlerrm;
	return null;
end
$$;

-- The messages of the changes of one table. @ords are their places in the batch.
create or replace function rtbridge_devserver.table_changes(s text, t text, ords bigint[],
	changes json[]) returns table (ord bigint, numbers bigint[], data text)
language plpgsql as $$
declare
	target constant oid := to_regclass(format('%I.%I', s, t));
	rls boolean;
	pk pg_attribute[];
	pk_names text[];
	subs jsonb; -- [{number, event, f, g, v}, ...]: its filters, its user, what its role may see
	conditions text;
	variants jsonb; -- [{v, columns, keys, error}, ...]
	users jsonb; -- [{g, role, claims}, ...]
	u jsonb;
	seen_ords bigint[] := '{}';
	seen_users int[] := '{}';
	seen bigint[];
begin
	if target is null or not exists (select from pg_publication_tables p
		where p.pubname = 'supabase_realtime' and p.schemaname = s and p.tablename = t)
	then
		return;
	end if;
	select c.relrowsecurity into rls from pg_class c where c.oid = target;
	select coalesce(array_agg(a order by a.attnum), '{}'),
		coalesce(array_agg(a.attname::text order by a.attnum), '{}') into pk, pk_names
	from pg_index i join pg_attribute a on a.attrelid = target and a.attnum = any(i.indkey)
	where i.indrelid = target and i.indisprimary;

	with fit as materialized (
		select x.*, dense_rank() over (order by x.filters) as f,
			dense_rank() over (order by x.role, x.claims) as g,
			dense_rank() over (order by x.role, x.selected) as v
		from pg_temp.subscription x
		where s like x.schema_like escape '' and t like x.table_like escape ''
	), conds as (
		select d.f, coalesce((
				select string_agg(coalesce(rtbridge_devserver.condition('f', a, e), 'false'), ' and ')
				from jsonb_array_elements(d.filters) e
				left join pg_attribute a on a.attrelid = target and a.attname = e ->> 0
					and a.attnum > 0 and not a.attisdropped
			), 'true') as cond
		from (select distinct fit.f, fit.filters from fit) d
	), shown as (
		select d.v, d.role,
			coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', ty.typname)
				order by a.attnum) filter (where ok.ok), '[]') as columns,
			case when not bool_and(ok.ok)
				then coalesce(jsonb_agg(a.attname) filter (where ok.ok), '[]') end as keys,
			case when pk_names = '{}' then 'Error 400: Bad Request, no primary key'
				when not bool_and(a.attname <> all(pk_names)
					or has_column_privilege(d.role, target, a.attnum, 'SELECT'))
				then 'Error 401: Unauthorized' end as error
		from (select distinct fit.v, fit.role, fit.selected from fit) d
		cross join pg_attribute a
		join pg_type ty on ty.oid = a.atttypid
		cross join lateral (select has_column_privilege(d.role, target, a.attnum, 'SELECT')
			and (d.selected is null or a.attname = any(d.selected)
				or a.attname = any(pk_names)) as ok) ok
		where a.attrelid = target and a.attnum > 0 and not a.attisdropped
		group by d.v, d.role
	)
	select (select jsonb_agg(jsonb_build_object('number', fit.number, 'event', fit.event,
			'f', fit.f, 'g', fit.g, 'v', fit.v)) from fit),
		(select string_agg(conds.cond, ', ' order by conds.f) from conds),
		(select jsonb_agg(jsonb_build_object('v', shown.v, 'columns', shown.columns::text,
			'keys', shown.keys, 'error', shown.error)) from shown),
		(select jsonb_agg(distinct jsonb_build_object('g', fit.g, 'role', fit.role, 'claims',
			fit.claims)) from fit join shown on shown.v = fit.v and shown.error is null)
	into subs, conditions, variants, users;
	if subs is null then
		return;
	end if;

	if rls then
		for u in select jsonb_array_elements(users) loop
			seen := rtbridge_devserver.visible(s, t, pk, u ->> 'role', u ->> 'claims', ords,
				changes);
			seen_ords := seen_ords || seen;
			seen_users := seen_users
				|| array_fill((u ->> 'g')::int, array[coalesce(cardinality(seen), 0)]);
		end loop;
	end if;

	return query execute format($q$
		with parsed as (
			select x.o, x.c::jsonb as r, octet_length(x.c::text) > 1048576 as big
			from unnest($1, $2) x(o, c)
			offset 0
		), raw as (
			select o, big,
				case r->>'action' when 'I' then 'INSERT' when 'U' then 'UPDATE' else 'DELETE' end act,
				to_char((r->>'timestamp')::timestamptz at time zone 'UTC',
					'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as stamp,
				coalesce((select jsonb_object_agg(e->>'name', e->'value')
					from jsonb_array_elements(r->'columns') e), '{}') as n,
				coalesce((select jsonb_object_agg(e->>'name', e->'value')
					from jsonb_array_elements(r->'identity') e), '{}') as i
			from parsed
			offset 0
		), judged as (
			select o, big, act, stamp, n, i, array[%1$s] as hits
			from raw, lateral (select case act when 'DELETE' then i else n end as f offset 0) f
			offset 0
		), sub as materialized (
			select * from jsonb_to_recordset($3) as (number bigint, event text, f int, g int, v int)
		), variant as materialized (
			select * from jsonb_to_recordset($4) as (v int, columns text, keys jsonb, error text)
		), hit as (
			select j.o, v.v, array_agg(s.number order by s.number) as numbers
			from judged j
			join sub s on s.event = '*' or s.event = j.act
			join variant v on v.v = s.v
			where case when j.act = 'DELETE' then j.hits[s.f]
				when v.error is not null then true
				when $5 then j.hits[s.f] and (j.o, s.g) in
					(select w.o, w.g from unnest($6, $7) w(o, g))
				else j.hits[s.f] end
			group by j.o, v.v
		), typed as materialized (
			select j.o, j.big, j.act, j.stamp,
				case when j.act <> 'DELETE' then %2$s end as new,
				case when j.act <> 'INSERT' then %3$s end as old
			from judged j
			where j.o in (select h.o from hit h)
		)
		select h.o, h.numbers,
			'{"table":' || to_json($8::text) || ',"type":"' || t.act || '"'
			|| case when t.act = 'DELETE' then '' when e.error is not null then ',"record":{}'
				else ',"record":' || rtbridge_devserver.shown(t.new, v.keys, null, t.big) end
			|| case when t.act = 'INSERT' then '' when e.error is not null then ',"old_record":{}'
				else ',"old_record":' || rtbridge_devserver.shown(t.old, v.keys,
					case when $5 and t.act = 'DELETE' then $9 end, t.big) end
			|| ',"columns":' || case when e.error is not null then '[]' else v.columns end
			|| ',"errors":' || case when e.error is not null then jsonb_build_array(e.error)::text
				when t.big then '["Error 413: Payload Too Large"]' else 'null' end
			|| ',"schema":' || to_json($10::text)
			|| ',"commit_timestamp":' || case when e.error is not null then 'null'
				else '"' || t.stamp || '"' end
			|| '}'
		from hit h
		join typed t on t.o = h.o
		join variant v on v.v = h.v
		cross join lateral (select case when t.act <> 'DELETE' then v.error end as error) e
	$q$, conditions, rtbridge_devserver.typed_row('j.n', target),
		rtbridge_devserver.typed_row('j.i', target))
	using ords, changes, subs, variants, rls, seen_ords, seen_users, t, pk_names, s;
end
$$;

-- A row as text, cut down to what may be seen (null: all) and, of a big one, to its small values.
create or replace function rtbridge_devserver.shown(r jsonb, keys jsonb, only_keys text[], big boolean)
returns text language sql immutable as $$
	select case when keys is null and only_keys is null and not big then r::text
		else coalesce((select jsonb_object_agg(e.key, e.value) from jsonb_each(r) e
			where (keys is null or keys ? e.key)
				and (only_keys is null or e.key = any(only_keys))
				and (not big or octet_length(e.value::text) <= 64)), '{}')::text end
$$;

-- A commit is decoded from the log, which may be a moment before others see its rows. A batch that has such rows
-- waits until they can be seen: what policies show is looked up by their keys.
create or replace function rtbridge_devserver.wait_visible(batch json) returns void language plpgsql as $$
declare
	x xid8;
begin
	-- The changes name transactions by their low 32 bits.
	for x in select distinct (((cur.c >> 32) << 32) + d.x
			- case when d.x > (cur.c & 4294967295) then 4294967296 else 0 end)::text::xid8
		from (select (v ->> 'xid')::bigint x from json_array_elements(batch) v) d,
			(select pg_snapshot_xmax(pg_current_snapshot())::text::bigint c) cur
		where d.x is not null
	loop
		while not pg_visible_in_snapshot(x, pg_current_snapshot()) loop
			perform pg_sleep(0.0005);
		end loop;
	end loop;
end
$$;

-- The messages of a batch of changes, an array of what wal2json wrote, in the order of the changes.
create or replace function rtbridge_devserver.changes(batch json)
returns table (ord bigint, numbers bigint[], data text) language plpgsql as $$
declare
	g record;
	i int;
begin
	if not exists (select from pg_temp.subscription) then
		return;
	end if;
	perform rtbridge_devserver.wait_visible(batch);
	for g in
		select e.v ->> 'schema' as s, e.v ->> 'table' as t,
			array_agg(e.n order by e.n) as ords, array_agg(e.v order by e.n) as changes
		from json_array_elements(batch) with ordinality e(v, n)
		group by 1, 2
	loop
		begin
			return query select * from rtbridge_devserver.table_changes(g.s, g.t, g.ords, g.changes);
			continue;
		exception when others then
			if cardinality(g.ords) = 1 then
				raise warning 'a change of %.% is lost: %', g.s, g.t, sqlerrm;
				continue;
			end if;
		end;
		-- One of them does not fit the table as it is by now: the others are not to suffer.
		for i in 1 .. cardinality(g.ords) loop
			begin
				return query select * from rtbridge_devserver.table_changes(g.s, g.t,
					g.ords[i:i], g.changes[i:i]);
			exception when others then
				raise warning 'a change of %.% is lost: %', g.s, g.t, sqlerrm;
			end;
		end loop;
	end loop;
end
$$;
