//! Computing on masked values: what cannot fail is concealed, everything else is refused before it is run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{stage::Stage, wire::Client};

/// Agents may do everything but run what cannot be read; some columns are masked.
const POLICY: &str = r#"
@id("all") permit (principal, action, resource);
@id("nothing-opaque") forbid (principal, action == Action::"sql:call", resource);
@id("personal") @mask("redact")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
@id("hidden") @mask("null")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("hidden") };
"#;

const SCHEMA: &str = "
SET ROLE app_agent;
CREATE SCHEMA other;
CREATE DOMAIN other.text AS pg_catalog.text CHECK (value NOT LIKE 'g%');
CREATE DOMAIN address AS pg_catalog.text CHECK (value ~ '@');
CREATE TYPE home AS (street pg_catalog.text, number int);
CREATE TABLE people (id int PRIMARY KEY, name pg_catalog.text, active bool, email pg_catalog.text, pin pg_catalog.text,
  short varchar(20), salary int, wage numeric(10, 2), score numeric, born date, doc xml, phones pg_catalog.text[],
  mail address, data jsonb, raw json, home home, size float8, big int8);
INSERT INTO people VALUES (1, 'Ada', true, 'ada@example.com', '1234', 'ada', 5, 5.5, 5.5, '2000-01-01', '<a>1</a>',
  '{1,2}', 'ada@example.com', '{\"k\": 1}', '{\"k\": 1}', '(Main,5)', 1.5, 7),
  (2, 'Grace', false, 'grace@example.com', NULL, 'grace', 6, 6.5, 6.5, '2001-01-01', '<a>2</a>',
  '{1}', 'grace@example.com', '{\"k\": 2}', '{\"k\": 2}', '(Side,6)', 2.5, 8);
CREATE TABLE jars (id int, blob pg_catalog.text);
CREATE FUNCTION steal(people) RETURNS pg_catalog.text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).email';
";

fn stage() -> Stage {
    let postgres = nodegate_tests::postgres::Postgres::start();
    postgres.script(SCHEMA);
    Stage::around(postgres, |settings| {
        POLICY.clone_into(&mut settings.policy);
        let masked = [
            "email", "short", "salary", "wage", "score", "born", "doc", "phones", "mail", "data", "raw",
            "home", "size", "big",
        ];
        let tag = |column: &str, tag: &str| (format!("public.people.{column}"), vec![tag.to_owned()]);
        settings.targets[0].tags = masked.iter().map(|column| tag(column, "pii")).collect();
        settings.targets[0].tags.push(tag("pin", "hidden"));
    })
}

/// Expects the refusal, naming the column and the way out, and that nothing was run.
fn refused(client: &mut Client, sql: &str, column: &str) {
    let reply = client.query(sql);
    assert!(!reply.errors.is_empty(), "{sql} was answered: {:?}", reply.rows);
    let (error, text) = (reply.error(), reply.error().text());
    assert_eq!(error.code(), "42501", "{sql}: {text}");
    assert!(text.contains(&format!("people.{column} is masked")), "{sql}: {text}");
    assert!(text.contains("Select the column itself"), "{sql}: {text}");
}

/// Each of these tells something of a value by whether it fails; the comment says how.
#[test]
fn an_operation_that_fails_for_some_value_is_refused_and_not_run() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (sql, column) in [
        // A pattern is found to be wrong only where what stands before matches.
        ("SELECT email LIKE 'a\\' FROM people WHERE id = 1", "email"),
        ("SELECT email NOT LIKE 'a\\' FROM people WHERE id = 1", "email"),
        ("SELECT email ILIKE 'a\\' FROM people WHERE id = 1", "email"),
        ("SELECT email SIMILAR TO 'a%' FROM people WHERE id = 1", "email"),
        ("SELECT email ~ 'a' FROM people WHERE id = 1", "email"),
        ("SELECT email LIKE ANY (ARRAY['a\\']) FROM people WHERE id = 1", "email"),
        ("SELECT email ^@ 'a' FROM people WHERE id = 1", "email"),
        ("SELECT 'x' LIKE email FROM people WHERE id = 1", "email"),
        // Length and place.
        ("SELECT overlay('x' PLACING email FROM 2147483614) IS NULL FROM people WHERE id = 1", "email"),
        ("SELECT substr('abc', length(email) - 20) FROM people", "email"),
        ("SELECT substring(email, 1, length(email) - 20) FROM people", "email"),
        ("SELECT substring(email from 2 for -1) FROM people", "email"),
        ("SELECT split_part(email, '@', 0) FROM people", "email"),
        ("SELECT repeat('x', length(email)) FROM people", "email"),
        ("SELECT lpad('x', length(email)) FROM people", "email"),
        // Size.
        (
            "SELECT length(replace(left(email, 1), 'a', repeat('x', 600000000)) || repeat('x', 600000000)) FROM people",
            "email",
        ),
        ("SELECT email || repeat('x', 1073741800) FROM people WHERE id = 1", "email"),
        ("SELECT concat(email, j.blob) FROM people, jars AS j", "email"),
        ("SELECT email || j.blob FROM people, jars AS j", "email"),
        ("SELECT json_build_object('a', email, 'b', j.blob) FROM people, jars AS j", "email"),
        ("SELECT email || (SELECT blob FROM jars) FROM people", "email"),
        ("SELECT string_agg(email, ',') FROM people, generate_series(1, 100000000)", "email"),
        ("SELECT json_agg(email) FROM people, generate_series(1, 100000000)", "email"),
        ("SELECT array_agg(email) FROM people", "email"),
        ("SELECT ARRAY(SELECT email FROM people, generate_series(1, 100000000))", "email"),
        ("SELECT replace(email, 'a', 'bbbbbbbbbb') FROM people", "email"),
        ("SELECT translate(email, 'a', 'b') FROM people", "email"),
        ("SELECT to_json(to_json(to_json(email)::text)::text) FROM people", "email"),
        (
            "WITH RECURSIVE t AS (SELECT email AS e, 1 AS n FROM people UNION ALL SELECT e || e, n + 1 FROM t WHERE n < 40) SELECT e FROM t",
            "email",
        ),
        (
            "SELECT e || e || e || e || e || e || e || e FROM (SELECT a || a || a || a || a || a || a || a AS e FROM \
             (SELECT email || email || email || email AS a FROM people) s) s",
            "email",
        ),
        // Types, and what bears their names.
        ("SELECT email::other.text IS NULL FROM people WHERE id = 1", "email"),
        ("SELECT email::address FROM people", "email"),
        ("SELECT email::int FROM people", "email"),
        ("SELECT (email).int4 FROM people", "email"),
        ("SELECT int4(salary::text) FROM people", "salary"),
        ("SELECT salary::int2 FROM people", "salary"),
        ("SELECT salary::bool FROM people", "salary"),
        ("SELECT wage::numeric(3, 1) FROM people", "wage"),
        ("SELECT score::float4 FROM people", "score"),
        ("SELECT big::int4 FROM people", "big"),
        ("SELECT born::timestamp FROM people", "born"),
        ("SELECT raw::jsonb FROM people", "raw"),
        ("SELECT data::int FROM people", "data"),
        ("SELECT born FROM people UNION ALL SELECT now()", "born"),
        ("SELECT score FROM people UNION ALL SELECT 1::float4", "score"),
        ("SELECT coalesce(score, 1::float4) FROM people", "score"),
        ("SELECT CASE WHEN id = 1 THEN score ELSE 1::float8 END FROM people", "score"),
        ("SELECT mail || 'x' FROM people", "mail"),
        ("SELECT upper(mail) FROM people", "mail"),
        // Arithmetic and aggregates that overflow.
        ("SELECT salary + 2147483640 FROM people", "salary"),
        ("SELECT -salary FROM people", "salary"),
        ("SELECT 1 / (salary - 5) FROM people", "salary"),
        ("SELECT size * 1e308 FROM people", "size"),
        ("SELECT sum(size) FROM people", "size"),
        ("SELECT sum(score) FROM people", "score"),
        ("SELECT born + 1 FROM people", "born"),
        ("SELECT date_trunc('day', born) FROM people", "born"),
        ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY salary) FROM people", "salary"),
        // Documents, arrays and rows.
        ("SELECT xmlserialize(DOCUMENT doc AS text) IS NULL FROM people WHERE id = 1", "doc"),
        ("SELECT xpath('/a', doc) FROM people", "doc"),
        ("SELECT raw ->> 'k' FROM people", "raw"),
        ("SELECT to_jsonb(raw) FROM people", "raw"),
        ("SELECT email IS JSON FROM people", "email"),
        ("SELECT JSON_VALUE(data, '$.k' RETURNING int ERROR ON ERROR) FROM people", "data"),
        ("SELECT data @@ '$.k > 1' FROM people", "data"),
        ("SELECT jsonb_object_agg(email, 1) FROM people", "email"),
        ("SELECT json_build_object(email, 1) FROM people", "email"),
        (
            "SELECT array_agg(phones) IS NULL FROM (SELECT phones FROM people WHERE id = 1 UNION ALL SELECT '{a}') s",
            "phones",
        ),
        ("SELECT phones || '{{a}}' FROM people", "phones"),
        ("SELECT ARRAY[phones, '{a}'] FROM people", "phones"),
        ("SELECT home = ROW('a', 1) FROM people", "home"),
        ("SELECT home::text::home FROM people", "home"),
        // What decides over something else.
        ("SELECT CASE WHEN email LIKE 'a%' THEN 1 / 0 END FROM people", "email"),
        ("SELECT CASE WHEN left(email, 1) = 'a' THEN 'x' END FROM people", "email"),
        ("SELECT CASE email WHEN 'a' THEN 1 END FROM people", "email"),
        ("SELECT left(email, 1) = 'a' AND 1 / 0 = 1 FROM people", "email"),
        ("SELECT coalesce(nullif(left(email, 1), 'a'), (1 / 0)::text) FROM people", "email"),
        ("SELECT left(email, 1) IN (SELECT blob FROM jars) FROM people", "email"),
        // Constants that fail for every value but NULL, where NULL is hidden.
        ("SELECT substring(pin, 1, -1) FROM people", "pin"),
        ("SELECT nth_value(pin, 0) OVER () FROM people", "pin"),
        ("SELECT pin COLLATE \"C\" FROM people", "pin"),
        ("SELECT convert_to(pin, 'LATIN1') FROM people", "pin"),
    ] {
        refused(&mut client, sql, column);
    }
    // Whether there is a value is no secret, but under `null`.
    let reply = client.query("SELECT coalesce(pin, (1 / 0)::text) FROM people");
    assert!(reply.error().text().contains("people.pin is masked"), "{}", reply.error().text());
    // A parameter may be anything.
    let reply = client.extended("SELECT email || $1 FROM people", &["x"], 0);
    assert_eq!(reply.error().code(), "42501");
    // A user's function by the name of a field.
    for sql in ["SELECT p.steal FROM people AS p", "SELECT (p).steal FROM people AS p"] {
        assert_eq!(client.query(sql).error().code(), "42501", "{sql}");
    }
    // A type that is made on the way.
    assert!(client.query("SELECT email::text FROM people").errors.is_empty());
    assert!(
        client
            .query("CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (value NOT LIKE 'a%')")
            .errors
            .is_empty()
    );
    refused(&mut client, "SELECT email::text FROM people", "email");
    assert!(client.query("SELECT email::pg_catalog.text FROM people").errors.is_empty());
}

/// What reports, views of applications and object mappers select; the values are concealed, the statement is answered.
#[test]
fn what_honest_clients_compute_is_answered_and_concealed() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "SELECT upper(email), lower(email), initcap(email), trim(email), btrim(email, ' ') FROM people",
        "SELECT coalesce(email, ''), nullif(trim(email), ''), greatest(email, 'm') FROM people",
        "SELECT name || ' <' || email || '>' FROM people",
        "SELECT concat(name, ' <', email, '>'), concat_ws(', ', name, email, id) FROM people",
        "SELECT row_to_json(c) FROM (SELECT id, name, email FROM people) AS c",
        "SELECT to_json(email), to_jsonb(salary), json_build_object('id', id, 'email', email) FROM people",
        "SELECT CASE WHEN active THEN email END FROM people",
        "SELECT CASE WHEN active THEN email ELSE 'none' END, CASE WHEN email IS NULL THEN 'no' ELSE 'yes' END FROM people",
        "SELECT email::text, email::varchar, email::varchar(3), salary::text, born::text, salary::bigint FROM people",
        "SELECT left(email, 3), right(email, 3), substring(email, 1, 3), substring(email from 2), length(email) FROM people",
        "SELECT max(email), min(born), sum(salary), avg(salary), sum(wage), sum(big) FROM people",
        "SELECT lag(email) OVER (ORDER BY id), first_value(email) OVER (ORDER BY id) FROM people",
        "SELECT email = 'a@b', email <> '', email IN ('a', 'b'), salary BETWEEN 1 AND 10 FROM people",
        "SELECT data -> 'k', data ->> 'k', phones[1], (home).street FROM people",
        "SELECT upper(e) FROM (SELECT email AS e FROM people WHERE id = 1) AS s",
        "WITH c AS (SELECT id, email FROM people) SELECT c.id, lower(c.email) FROM c",
        "SELECT id, (SELECT upper(email) FROM people AS b WHERE b.id = people.id) FROM people",
    ] {
        for format in [0, 1] {
            let reply = client.extended(sql, &[], format);
            assert!(reply.errors.is_empty(), "{sql}: {:?}", reply.errors);
            let seen = reply.texts();
            assert!(!seen.is_empty() && !format!("{seen:?}").contains("@example"), "{sql}: {seen:?}");
        }
    }
    assert_eq!(client.extended("SELECT coalesce(email, $1) FROM people", &["x"], 0).texts().len(), 2);
    assert_eq!(client.query("SELECT count(email), count(*) FROM people").texts(), [["2", "2"]]);
    let found = client.query("SELECT id FROM people WHERE name LIKE 'G%' AND email IS NOT NULL");
    assert_eq!(found.texts(), [["2"]]);
    // What is not masked may fail as it likes.
    assert_eq!(
        client
            .query("SELECT upper(name) || repeat('!', 2), 10 / id FROM people WHERE name LIKE 'A%'")
            .texts(),
        [["ADA!!", "10"]]
    );
}
