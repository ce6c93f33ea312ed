-- Every kind of relation and type that a secret can be in. Nothing here is secret but the values of tagged columns.
CREATE TYPE mood AS ENUM ('calm', 'glad', 'grim');
CREATE TYPE place AS (street text, number integer);
CREATE DOMAIN nickname AS text CHECK (length(VALUE) > 2);
-- What has one length comes first, and `pad` makes all rows equally long: how a table is laid out is no secret.
-- Each page has room for what is written and rolled back.
CREATE TABLE people (
    id      integer PRIMARY KEY,
    amount  integer NOT NULL,
    pin     integer,
    born    date,
    score   float8,
    seen    timestamptz NOT NULL DEFAULT '2026-01-01',
    mood    mood,
    uid     uuid,
    flag    boolean,
    label   text NOT NULL,
    kind    text NOT NULL,
    secret  text NOT NULL,
    email   text UNIQUE,
    card    text,
    ref     text,
    salary  numeric(14, 2) CHECK (salary > 0),
    tags    text[],
    doc     jsonb,
    raw     json,
    home    place,
    code    char(24),
    bin     bytea,
    span    int4range,
    nick    nickname,
    loud    text GENERATED ALWAYS AS (upper(secret)) STORED,
    pad     text
) WITH (fillfactor = 20);
CREATE TABLE staff (badge text, grade integer) INHERITS (people) WITH (fillfactor = 20);
CREATE TABLE events (
    id      integer NOT NULL,
    person  integer NOT NULL,
    region  text NOT NULL,
    payload text,
    PRIMARY KEY (id, region)
) PARTITION BY LIST (region);
CREATE TABLE events_north PARTITION OF events FOR VALUES IN ('north');
CREATE TABLE events_south PARTITION OF events FOR VALUES IN ('south');
CREATE TABLE letters (id integer PRIMARY KEY, person integer, subject text, body text);
CREATE TABLE notes (id integer PRIMARY KEY, person integer REFERENCES people (id), body text, amount integer);
CREATE DOMAIN vault_check AS text CHECK (VALUE NOT LIKE 'q%');
CREATE TABLE remarks (id integer PRIMARY KEY, remark text, papers jsonb) WITH (fillfactor = 20);
CREATE TABLE sink (id integer, body text, amount bigint);
CREATE VIEW folk AS SELECT id, label, secret AS hint, email AS address, salary, doc FROM people;
CREATE VIEW folk_nested AS SELECT id, hint AS deeper, address, label FROM folk WHERE id > 2;
CREATE VIEW folk_made AS SELECT id, upper(secret) || '!' AS shout, label || kind AS plain, salary * 2 AS twice FROM people;
CREATE VIEW folk_joined AS SELECT * FROM notes AS n JOIN folk USING (id);
CREATE VIEW folk_union AS SELECT id, label AS what FROM people UNION ALL SELECT id, secret FROM people;
CREATE VIEW folk_count AS SELECT kind, count(*) AS many, sum(amount) AS total FROM people GROUP BY kind;
CREATE VIEW folk_row AS SELECT id, p AS whole FROM people AS p;
CREATE FUNCTION secret_of(who integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT secret FROM people WHERE id = who';
CREATE FUNCTION label_of(who integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT label FROM people WHERE id = who';
CREATE FUNCTION secret_by_hand(who integer) RETURNS text LANGUAGE plpgsql STABLE
    AS 'BEGIN RETURN (SELECT secret FROM people WHERE id = who); END';
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN RAISE NOTICE ''% is now %'', OLD.secret, NEW.salary; RETURN NEW; END';
CREATE FUNCTION vault_row(n integer, secret text, email text, card text, ref text, pin integer, salary numeric, born date,
    tags text[], doc jsonb, raw json, street text, mood mood, uid uuid, code text, bin text, score float8, low integer,
    nick text, flag boolean, badge text, payload text, letter text, pad text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Every seventh value is missing, in both.
    INSERT INTO people VALUES (n, n * 10, CASE WHEN n % 7 <> 4 THEN pin END, born, score, DEFAULT, mood, uid, flag,
        'person ' || n, (ARRAY['a', 'b', 'c'])[n % 3 + 1], secret, CASE WHEN n % 7 <> 3 THEN email END, card, ref, salary,
        tags, doc, raw, ROW(street, pin)::place, code, bin::bytea, int4range(low, low + 5), nick, DEFAULT, pad);
    INSERT INTO staff VALUES (n + 1000, n, pin, born, score, DEFAULT, mood, uid, flag, 'staff ' || n, 'd', secret,
        's' || email, card, ref, salary, tags, doc, raw, ROW(street, pin)::place, code, bin::bytea,
        int4range(low, low + 5), nick, DEFAULT, pad, badge, n % 5);
    INSERT INTO events VALUES (n, n, (ARRAY['north', 'south'])[n % 2 + 1], payload);
    INSERT INTO letters VALUES (n, n, 'about ' || n, letter);
    INSERT INTO notes VALUES (n, n, 'note ' || n, n * 3);
END $$;
-- rows
CREATE MATERIALIZED VIEW folk_kept AS SELECT id, secret AS kept, label FROM people;
CREATE INDEX people_secret ON people (secret);
CREATE INDEX people_kind ON people (kind);
CREATE STATISTICS people_dependence ON kind, secret FROM people;
CREATE TRIGGER people_tell AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION tell();
CREATE SEQUENCE counter;
-- A second schema with relations of the same names: what is secret in the one is open in the other, and the other way round.
RESET ROLE;
CREATE SCHEMA other AUTHORIZATION app_agent;
SET ROLE app_agent;
CREATE TABLE other.people AS SELECT id, amount, id AS pin, date '1990-01-01' + id AS born, id::float8 AS score, seen,
    'calm'::mood AS mood, '00000000-0000-0000-0000-000000000000'::uuid AS uid, id % 2 = 0 AS flag, label, kind,
    'open ' || id AS secret, 'a' || id || '@example.com' AS email, 'card ' || id AS card, 'ref ' || id AS ref,
    id::numeric(14, 2) AS salary, ARRAY['a', 'b'] AS tags, '{"k": "open"}'::jsonb AS doc, '{"r": "open"}'::json AS raw,
    ROW('street', id)::place AS home, 'code'::char(24) AS code, '\x00'::bytea AS bin, int4range(id, id + 5) AS span,
    'nick'::nickname AS nick, 'OPEN' AS loud, '' AS pad FROM ONLY people;
CREATE TABLE other.notes AS SELECT n.id, n.person, p.secret AS body, n.amount FROM notes AS n JOIN ONLY people AS p USING (id);
CREATE VIEW other.letters AS SELECT id, person, subject, 'open' AS body FROM letters;
CREATE VIEW other.events AS SELECT id, id AS person, 'north' AS region, secret AS payload FROM ONLY people;
CREATE VIEW other.folk AS SELECT id, label, 'open' AS hint, email AS address, salary, doc FROM other.people;
CREATE FUNCTION other.md5(integer) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
ANALYZE;
