-- Everything that a PostgreSQL database may hold, from 13 to 18, as psql runs it on an empty server whose /srv/fast is empty.
\set ON_ERROR_STOP on
\encoding UTF8
SET client_min_messages = error;

CREATE ROLE keeper CREATEDB;
CREATE ROLE "Reader ""2""; $(x)" LOGIN PASSWORD 'it''s "secret"' VALID UNTIL '2099-01-01';
CREATE ROLE clerk;
GRANT keeper TO clerk WITH ADMIN OPTION;
ALTER ROLE keeper SET search_path TO app, geo;
COMMENT ON ROLE clerk IS E'a\n''clerk''; \\ ';
CREATE TABLESPACE fast OWNER keeper LOCATION '/srv/fast';
ALTER TABLESPACE fast SET (random_page_cost = 1.1);
GRANT CREATE ON TABLESPACE fast TO clerk;

CREATE DATABASE "sink ""q"" 'a' $(x); --" OWNER keeper TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'en_US.utf8'
    CONNECTION LIMIT 40;
COMMENT ON DATABASE "sink ""q"" 'a' $(x); --" IS E'DATABASE "x"; \\connect y\n--';
ALTER DATABASE "sink ""q"" 'a' $(x); --" SET search_path TO app, "odd schema", public;
ALTER DATABASE "sink ""q"" 'a' $(x); --" SET default_text_search_config TO 'app.plain';
ALTER DATABASE "sink ""q"" 'a' $(x); --" SET "app.anything" TO E'it''s\n\\ ';
ALTER ROLE clerk IN DATABASE "sink ""q"" 'a' $(x); --" SET work_mem TO '7MB';
REVOKE ALL ON DATABASE "sink ""q"" 'a' $(x); --" FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE "sink ""q"" 'a' $(x); --" TO clerk WITH GRANT OPTION;
\connect "sink ""q"" 'a' $(x); --"
SET client_min_messages = error;
SELECT current_setting('server_version_num')::int >= 140000 AS is_14, current_setting('server_version_num')::int >= 150000 AS is_15,
    current_setting('server_version_num')::int >= 160000 AS is_16, current_setting('server_version_num')::int >= 170000 AS is_17,
    current_setting('server_version_num')::int >= 180000 AS is_18 \gset

-- Schemas and extensions
CREATE SCHEMA app AUTHORIZATION keeper;
CREATE SCHEMA "odd schema" AUTHORIZATION clerk;
CREATE SCHEMA geo;
CREATE SCHEMA "select; drop table ""x""; --";
COMMENT ON SCHEMA app IS 'what it''s for; \ "app"';
GRANT USAGE, CREATE ON SCHEMA app TO "Reader ""2""; $(x)";
CREATE EXTENSION cube SCHEMA geo;
CREATE EXTENSION earthdistance SCHEMA geo;
CREATE EXTENSION hstore SCHEMA "odd schema";
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE EXTENSION btree_gist;
CREATE EXTENSION unaccent;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION file_fdw;
COMMENT ON EXTENSION hstore IS 'ours';
SET search_path TO app, "odd schema", geo, public;

-- Types
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'happy');
ALTER TYPE mood ADD VALUE 'meh' AFTER 'sad';
CREATE TYPE address AS (street text, "No." int, tags text[]);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE FUNCTION norm(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(trim(t))';
CREATE FUNCTION slug(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT replace(norm(t), '' '', ''-'')';
-- From 17 on, indexes and materialized views are made without a search path by everybody.
CREATE FUNCTION qualified(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT replace(app.norm(t), '' '', ''-'')';
\if :is_17
    \set key qualified
\else
    \set key slug
\endif
CREATE DOMAIN slugged AS text COLLATE "C" DEFAULT 'a' CONSTRAINT is_slug CHECK (slug(VALUE) = VALUE);
CREATE DOMAIN short_slug AS slugged NOT NULL CHECK (length(VALUE) < 20);
CREATE DOMAIN matrix AS int[] CHECK (array_ndims(VALUE) = 2);
CREATE TYPE "odd schema"."Type ""q""" AS ENUM ();
COMMENT ON TYPE mood IS 'moods';
GRANT USAGE ON TYPE mood TO clerk;
REVOKE USAGE ON DOMAIN slugged FROM PUBLIC;

-- Collations, conversions, text search
CREATE COLLATION phonebook (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE CONVERSION own_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY app.unaccented (TEMPLATE = unaccent, RULES = 'unaccent');
CREATE TEXT SEARCH DICTIONARY app.stemmer (TEMPLATE = snowball, LANGUAGE = german, STOPWORDS = german);
CREATE TEXT SEARCH CONFIGURATION app.plain (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION app.plain ALTER MAPPING FOR word WITH app.unaccented, app.stemmer;
COMMENT ON TEXT SEARCH CONFIGURATION app.plain IS 'plain';

-- Functions, aggregates, operators, casts
CREATE FUNCTION "odd schema"."f $(x); ""q"""(a int DEFAULT 7, VARIADIC rest text[] DEFAULT ARRAY['it''s'], OUT b text, OUT "C d" int)
    LANGUAGE plpgsql STRICT LEAKPROOF SECURITY DEFINER PARALLEL SAFE COST 7 SET search_path FROM CURRENT SET "app.y" TO 'a, "b"'
    AS $fn$
/*
\connect nowhere
*/
BEGIN
    -- SELECT pg_catalog.set_config('search_path', '', false);
    b := E'\'$$;' || $$ $q$ $$; "C d" := a;
END $fn$;
CREATE FUNCTION rows_of(n int) RETURNS TABLE (i int, t text) LANGUAGE sql ROWS 7 STABLE AS 'SELECT i, norm(i::text) FROM generate_series(1, n) i';
CREATE FUNCTION any_of(a anyelement, b anyarray) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT coalesce(a, b[1])';
CREATE PROCEDURE book(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; END';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE AGGREGATE longest(text) (SFUNC = text_larger, STYPE = text, INITCOND = '', SORTOP = >);
CREATE AGGREGATE middle(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION same(a address, b address) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT (a).street = (b).street';
CREATE OPERATOR === (LEFTARG = address, RIGHTARG = address, FUNCTION = same, COMMUTATOR = ===, NEGATOR = !==, RESTRICT = eqsel);
CREATE OPERATOR FAMILY turned USING btree;
CREATE OPERATOR CLASS turned_text FOR TYPE text USING btree FAMILY turned AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 bttextcmp(text, text);
CREATE FUNCTION as_address(text) RETURNS address LANGUAGE sql IMMUTABLE AS $$SELECT ROW($1, 1, NULL)::app.address$$;
CREATE CAST (text AS address) WITH FUNCTION as_address(text) AS ASSIGNMENT;
CREATE CAST (mood AS text) WITH INOUT AS IMPLICIT;
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;
COMMENT ON FUNCTION norm(text) IS 'norm; it''s';
COMMENT ON AGGREGATE longest(text) IS 'longest';
COMMENT ON OPERATOR ===(address, address) IS 'same';
REVOKE ALL ON FUNCTION slug(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slug(text) TO clerk, keeper WITH GRANT OPTION;
GRANT EXECUTE ON PROCEDURE book(int) TO "Reader ""2""; $(x)";
\if :is_14
CREATE FUNCTION standard(a int) RETURNS int IMMUTABLE BEGIN ATOMIC SELECT a + length(slug('x y')); END;
\endif

-- Tables, constraints, columns
CREATE TABLE places (id bigint GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3 CACHE 5) PRIMARY KEY, lat float8, lon float8,
    "at" geo.earth GENERATED ALWAYS AS (geo.ll_to_earth(lat, lon)) STORED);
CREATE INDEX ON places USING gist ("at");
INSERT INTO places (lat, lon) SELECT n, n / 7.0 FROM generate_series(1, 20) n;
CREATE TABLE pages (id serial, title text COLLATE phonebook CHECK (slug(title) <> ''), body text, slug short_slug DEFAULT 'b',
    words tsvector GENERATED ALWAYS AS (to_tsvector('app.plain', coalesce(body, ''))) STORED, gone int, feeling mood DEFAULT 'meh',
    home address DEFAULT ROW('a', 2, NULL), CONSTRAINT "pages; pk" PRIMARY KEY (id) WITH (fillfactor = 70) USING INDEX TABLESPACE fast);
ALTER TABLE pages DROP COLUMN gone;
ALTER TABLE pages ALTER title SET STATISTICS 77, ALTER body SET STORAGE EXTERNAL, ALTER title SET (n_distinct = -0.5);
ALTER TABLE pages SET (fillfactor = 80, autovacuum_enabled = off, toast.autovacuum_enabled = off);
ALTER TABLE pages OWNER TO keeper;
INSERT INTO pages (title, body, slug, feeling, home) VALUES ('Hello World', 'Die Häuser', 'x-y', 'it''s "ok"', ROW('it''s, "x"', NULL, '{a,"b c",NULL}')),
    (E'\\.', E'tab\t, line\n, return\r, \\N \\. \\\\ \b\f\v end', 'z', NULL, NULL), ('😀 ẞ', '', 'q', 'happy', ('', 0, '{}'));
CREATE INDEX pages_slug ON pages (:key(title) text_pattern_ops DESC NULLS LAST) INCLUDE (id) WHERE norm(title) <> '';
CREATE INDEX ON pages USING gin (words) WITH (fastupdate = off);
CREATE INDEX ON pages USING gin (title public.gin_trgm_ops);
CREATE INDEX turned ON pages (title turned_text) TABLESPACE fast;
CREATE UNIQUE INDEX ON pages (lower(title) COLLATE "C");
ALTER INDEX pages_slug ALTER COLUMN 1 SET STATISTICS 55;
COMMENT ON INDEX pages_slug IS 'slugs';
COMMENT ON COLUMN pages.title IS E'the "title";\n--';
COMMENT ON CONSTRAINT "pages; pk" ON pages IS 'key';
CREATE STATISTICS app.together (ndistinct, dependencies, mcv) ON title, feeling FROM pages;
ALTER STATISTICS app.together SET STATISTICS 33;
\if :is_14
CREATE STATISTICS app.expressions ON (:key(title)), (length(body)) FROM pages;
\endif
CREATE TABLE bookings (room int, during tstzrange, note text DEFAULT E'a;\n''b''', EXCLUDE USING gist (room WITH =, during WITH &&) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO bookings VALUES (1, '[2026-01-01,2026-01-02)'), (1, '[2026-01-02,infinity)'), (2, 'empty');
CREATE TABLE "odd schema"."t $(x); ""q"" 'a'" ("Col ""1""" int PRIMARY KEY, "select" text, " " int, "a	b" int);
INSERT INTO "odd schema"."t $(x); ""q"" 'a'" VALUES (1, $$'; DROP TABLE "x"; --$$, NULL, 2);
CREATE TABLE app."été 表" ("naïve 列" text);
INSERT INTO app."été 表" VALUES ('ü');
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE UNLOGGED TABLE passing (a int);
INSERT INTO passing VALUES (1);
CREATE TABLE typed OF address (PRIMARY KEY ("No."), street WITH OPTIONS DEFAULT 'x');
CREATE TABLE otherwise (a int) USING heap_too TABLESPACE fast;
CREATE TABLE parents (id int PRIMARY KEY, name text, up int REFERENCES parents DEFERRABLE, CHECK (id > 0) NO INHERIT);
CREATE TABLE elders (since date);
CREATE TABLE children (age int, name text DEFAULT 'kid' NOT NULL) INHERITS (parents, elders);
INSERT INTO parents VALUES (1, 'a', 2), (2, 'b', 1);
INSERT INTO children VALUES (3, 'c', 1, '2020-02-02', 5);
CREATE TABLE links (a int, b int, FOREIGN KEY (a) REFERENCES parents ON DELETE CASCADE ON UPDATE SET NULL,
    FOREIGN KEY (b) REFERENCES parents (id) MATCH FULL DEFERRABLE INITIALLY DEFERRED);
INSERT INTO links VALUES (1, 2);
INSERT INTO links VALUES (NULL, 2);
ALTER TABLE links ADD CONSTRAINT later CHECK (a < 0) NOT VALID;
ALTER TABLE links ADD CONSTRAINT later_too FOREIGN KEY (b) REFERENCES parents NOT VALID;
ALTER TABLE links REPLICA IDENTITY FULL;
CREATE TABLE keyed (a int NOT NULL UNIQUE, b int);
ALTER TABLE keyed REPLICA IDENTITY USING INDEX keyed_a_key;
CREATE INDEX clustered ON keyed (b);
ALTER TABLE keyed CLUSTER ON clustered;
\if :is_14
CREATE TABLE squeezed (a text COMPRESSION pglz);
\endif
\if :is_15
CREATE TABLE nulls (a int UNIQUE NULLS NOT DISTINCT, b int, c int, UNIQUE (b, c),
    FOREIGN KEY (b, c) REFERENCES nulls (b, c) ON DELETE SET NULL (c));
\endif
\if :is_18
CREATE TABLE virtual (a int CONSTRAINT a_is_there NOT NULL NO INHERIT, b text GENERATED ALWAYS AS (lower('X' || a::text)) VIRTUAL,
    period daterange, CONSTRAINT in_time UNIQUE (a, period WITHOUT OVERLAPS));
\endif

-- Values
CREATE TABLE extremes (id int PRIMARY KEY, f4 float4, f8 float8, n numeric, m money, b bit(5), vb bit varying, j json, jb jsonb, x xml,
    ba bytea, u uuid, i inet, c cidr, ma macaddr, m8 macaddr8, ts timestamp, tz timestamptz, d date, t timetz, iv interval,
    tsq tsquery, r int4range, s span, a int[], aa text[], p point, po polygon, ci circle, l pg_lsn, ch "char", na name, o oid,
    rc regclass, h "odd schema".hstore, cu cube, mx matrix, bl boolean, caseless text COLLATE caseless);
INSERT INTO extremes (id, f4, f8, n, m, b, vb, j, jb, x, ba) VALUES
    (1, 'NaN', 'Infinity', 'NaN', '-92233720368547758.08', B'10101', B'', '{"a":1, "a": 2 }', '{"a":1,"b":[null,1e400]}', '<a b="c">&amp;</a>', '\x00ff5c27'),
    (2, '-0', '-0', 1e-100, '0.01', B'00000', B'1', 'null', '"\u00e9"', 'plain', ''),
    (3, 3.4028235e38, 1.7976931348623157e308, 1e1000, NULL, NULL, NULL, '[]', '{}', '', E'\\\\'),
    (4, 1e-45, 5e-324, 0.1000, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (5, 16777215, 0.1, -0.0, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO extremes (id, u, i, c, ma, m8, ts, tz, d, t, iv, tsq, r, s, a, aa, p, po, ci, l, ch, na, o, rc, h, cu, mx, bl, caseless) VALUES
    (6, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1/64', '10/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', 'infinity', '-infinity',
     '4713-01-01 BC', '24:00:00-15:59', '-1 year 2 mons -3 days 04:05:06.7', '''it''''s'' & !b:*A', '[3,)', 'empty', '[-2:0]={1,NULL,3}',
     '{"",NULL,"NULL","a\"b\\c"}', '(1e300,-0)', '((0,0),(1,1),(1,0))', '<(0,0),1>', 'FF/FF', 'x', 'it''s', 4294967295, 'app.pages',
     'a=>NULL,"b c"=>"d\"e"', '(1,2),(3,4)', '{{1,2},{3,4}}', true, 'Straße');
\if :is_14
INSERT INTO extremes (id, n) VALUES (7, '-Infinity');
\endif

-- Partitions
CREATE TABLE measures (day date NOT NULL, kind text, value int, PRIMARY KEY (day, kind)) PARTITION BY RANGE (day);
CREATE TABLE measures_old PARTITION OF measures FOR VALUES FROM (MINVALUE) TO ('2025-01-01') TABLESPACE fast;
CREATE TABLE measures_2025 (value int, extra int, kind text NOT NULL, day date NOT NULL);
ALTER TABLE measures_2025 DROP COLUMN extra;
ALTER TABLE measures ATTACH PARTITION measures_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measures_rest PARTITION OF measures DEFAULT PARTITION BY LIST (kind);
CREATE TABLE measures_rest_a PARTITION OF measures_rest FOR VALUES IN ('a', 'it''s');
CREATE TABLE measures_rest_rest PARTITION OF measures_rest DEFAULT;
INSERT INTO measures SELECT date '2024-06-01' + n * 30, CASE n % 3 WHEN 0 THEN 'a' ELSE 'b' END, n FROM generate_series(1, 40) n;
CREATE INDEX measured ON ONLY measures (value);
CREATE INDEX measured_2025 ON measures_2025 (value);
ALTER INDEX measured ATTACH PARTITION measured_2025;
CREATE TABLE hashed (k int, v text) PARTITION BY HASH (k);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT n, 'x' FROM generate_series(1, 9) n;

-- Views, rules, triggers
CREATE VIEW titles WITH (security_barrier) AS SELECT id, title, title OPERATOR(public.%) 'Hello' AS alike FROM pages WHERE slug(title) <> 'x' WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW ups (id, depth) AS SELECT id, 1 FROM parents UNION ALL SELECT p.id, depth + 1 FROM parents p JOIN ups ON p.up = ups.id WHERE depth < 3;
CREATE VIEW grouped AS SELECT id, title, count(*) FROM pages GROUP BY id;
CREATE MATERIALIZED VIEW slugs TABLESPACE fast AS SELECT :key(title) AS slug, id FROM pages;
CREATE UNIQUE INDEX ON slugs (id);
CREATE MATERIALIZED VIEW slugs_of_slugs AS SELECT :key(slug) FROM slugs;
CREATE MATERIALIZED VIEW unfilled AS SELECT slug(title) AS slug FROM pages WITH NO DATA;
CREATE RULE also AS ON INSERT TO keyed WHERE NEW.b > 5 DO ALSO INSERT INTO links (b) VALUES (NULL);
CREATE RULE instead AS ON DELETE TO titles DO INSTEAD NOTHING;
ALTER TABLE keyed DISABLE RULE also;
CREATE TRIGGER before BEFORE UPDATE OF title ON pages FOR EACH ROW WHEN (norm(OLD.title) IS DISTINCT FROM NEW.title) EXECUTE FUNCTION touch('it''s', '\');
CREATE TRIGGER disabled AFTER INSERT ON pages FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER always AFTER INSERT ON pages FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER replica AFTER INSERT ON pages REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION touch();
CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON pages DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER instead INSTEAD OF UPDATE ON titles FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER everywhere AFTER INSERT ON measures FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE measures_old DISABLE TRIGGER everywhere;
ALTER TABLE pages DISABLE TRIGGER disabled, ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica;
COMMENT ON VIEW titles IS 'titles';
COMMENT ON TRIGGER before ON pages IS 'before';
\if :is_15
CREATE VIEW invoked WITH (security_invoker) AS SELECT * FROM pages;
\endif

-- Row security
ALTER TABLE pages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "own; pages" ON pages FOR SELECT TO clerk, "Reader ""2""; $(x)" USING (slug(title) <> current_user);
CREATE POLICY strict ON pages AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (norm(title) = title);
ALTER TABLE keyed ENABLE ROW LEVEL SECURITY;
COMMENT ON POLICY strict ON pages IS 'strict';

-- Sequences, large objects
CREATE SEQUENCE down INCREMENT -2 MINVALUE -100 MAXVALUE 10 START 10 CYCLE;
SELECT setval('down', -3, false), setval('pages_id_seq', 4000), setval('places_id_seq', 100, true) \g /dev/null
CREATE SEQUENCE small AS smallint OWNED BY keyed.b;
CREATE UNLOGGED TABLE counted (id smallint GENERATED BY DEFAULT AS IDENTITY, a int);
GRANT USAGE ON SEQUENCE down TO clerk;
SELECT lo_from_bytea(4000, '\xdeadbeef00'), lo_from_bytea(4001, ''), lo_from_bytea(4002, decode(repeat('ab', 300000), 'hex')) \g /dev/null
ALTER LARGE OBJECT 4000 OWNER TO clerk;
GRANT SELECT ON LARGE OBJECT 4002 TO "Reader ""2""; $(x)";
COMMENT ON LARGE OBJECT 4001 IS 'empty; it''s';

-- Foreign data, publications
CREATE FOREIGN DATA WRAPPER bare;
CREATE SERVER far TYPE 't' VERSION '1' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.example', dbname 'it''s', port '1');
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE USER MAPPING FOR clerk SERVER far OPTIONS ("user" 'x', password 's3cret''"');
CREATE USER MAPPING FOR PUBLIC SERVER far;
CREATE FOREIGN TABLE far_away (a int OPTIONS (column_name 'b') NOT NULL, b mood, CHECK (a > 0)) SERVER far OPTIONS (schema_name 's', table_name 't"');
CREATE FOREIGN TABLE passwd (line text) SERVER files OPTIONS (filename '/etc/hostname');
GRANT USAGE ON FOREIGN SERVER far TO clerk;
GRANT SELECT ON far_away TO clerk;
CREATE PUBLICATION a_few FOR TABLE pages, ONLY parents WITH (publish = 'insert, update');
CREATE PUBLICATION "every; thing" FOR ALL TABLES WITH (publish_via_partition_root);
\if :is_15
CREATE PUBLICATION chosen FOR TABLE keyed (a) WHERE (a > 5);
CREATE PUBLICATION schemas FOR TABLES IN SCHEMA "odd schema";
\endif
\if :is_16
CREATE COLLATION ruled (provider = icu, locale = 'und', rules = '&a < g');
\endif
\if :is_17
CREATE COLLATION built_in (provider = builtin, locale = 'C.UTF-8');
\endif

-- Grants
GRANT SELECT (title), UPDATE (title, body) ON pages TO "Reader ""2""; $(x)";
GRANT SELECT ON extremes TO clerk WITH GRANT OPTION;
SET ROLE clerk;
GRANT SELECT ON app.extremes TO "Reader ""2""; $(x)";
RESET ROLE;
GRANT ALL ON places TO PUBLIC;
REVOKE ALL ON places FROM postgres;
ALTER DEFAULT PRIVILEGES FOR ROLE keeper GRANT SELECT ON TABLES TO clerk;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA app GRANT EXECUTE ON FUNCTIONS TO clerk WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE keeper REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO clerk;
GRANT SELECT ON pg_catalog.pg_authid TO clerk;
GRANT SELECT (subname) ON pg_catalog.pg_subscription TO "Reader ""2""; $(x)";

-- Last: it would watch the rest
CREATE EVENT TRIGGER watching ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION app.log_ddl();
CREATE EVENT TRIGGER off ON sql_drop EXECUTE FUNCTION app.log_ddl();
ALTER EVENT TRIGGER off DISABLE;
ALTER EVENT TRIGGER watching ENABLE ALWAYS;
ANALYZE;

-- Other encodings
CREATE DATABASE latin OWNER keeper TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
\connect latin
\encoding UTF8
SET client_min_messages = error;
CREATE SCHEMA "grün";
CREATE TABLE "grün"."größe" ("maß" text);
INSERT INTO "grün"."größe" VALUES ('straße'), (chr(255) || chr(160));
COMMENT ON TABLE "grün"."größe" IS 'ä''ö';
CREATE FUNCTION "grün"."kürzen"(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT replace(t, ''ß'', ''ss'')';
CREATE INDEX ON "grün"."größe" ("grün"."kürzen"("maß"));

CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
\connect raw
\encoding SQL_ASCII
DO $$BEGIN EXECUTE format('CREATE TABLE %I (%I text)', E'gr\xfc\xdfe', E'\xff'); END$$;
DO $$BEGIN EXECUTE format('CREATE TABLE %I (a text)', E'gr\xfd\xdfe'); END$$;
DO $$BEGIN EXECUTE format('INSERT INTO %I VALUES (%L)', E'gr\xfc\xdfe', E'\xff\xfe stra\xdfe \x80'); END$$;
DO $$BEGIN EXECUTE format('COMMENT ON TABLE %I IS %L', E'gr\xfc\xdfe', E'\xe4'); END$$;
CREATE TABLE plain (a text);
INSERT INTO plain VALUES (E'\xff'), ('grün');
