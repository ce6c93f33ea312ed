//! What is not masked is what the database says: every column of a result that is made of no masked one is held against
//! the same statement past nodegate, in text and binary. What is made of a masked one cannot be taken for data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write as _;

use nodegate_tests::{
    postgres::{self, Postgres},
    stage::Stage,
    wire::{Client, Reply},
};

const MORE: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TYPE place AS (street text, number int);
    ALTER TABLE customers ADD prefs jsonb NOT NULL DEFAULT '{\"lang\": \"de\"}', ADD moods mood[] DEFAULT '{ok,happy}',
        ADD tags text[] DEFAULT '{a,\"b c\"}', ADD home place DEFAULT ('Main', 3), ADD city text DEFAULT 'Oslo';
    ALTER TABLE orders ADD total float8 DEFAULT 45;
    CREATE TABLE customers_vip (tier text DEFAULT 'gold') INHERITS (customers);
    CREATE TABLE logins (id int PRIMARY KEY, email text);
    CREATE VIEW customer_overview AS SELECT c.id, c.name, c.email, upper(c.email) AS loud, count(o.id) AS orders
        FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id;
    CREATE TABLE letters (id int PRIMARY KEY, body text, email text) PARTITION BY RANGE (id);
    CREATE TABLE letters_1 PARTITION OF letters FOR VALUES FROM (0) TO (1000);
    INSERT INTO letters SELECT i, 'letter ' || i, 'x' || i || '@example.com' FROM generate_series(1, 9) i;
    INSERT INTO customers_vip (id, name, email) VALUES (1001, 'Vera Vip', 'vera.vip@example.com'), (1002, 'Nobody', NULL);
    ANALYZE;
";

fn stage() -> Stage {
    let server = Postgres::start();
    server.script(&format!("SET ROLE {}; {MORE}", postgres::ROLE));
    Stage::around(server, |settings| {
        let tags = &mut settings.targets[0].tags;
        tags.push(("public.letters.email".to_owned(), vec!["pii".to_owned()]));
        settings.policy.push_str(
            r#"@id("maintenance") permit (principal in Group::"agents", action == Action::"sql:maintenance", resource);"#,
        );
    })
}

/// Statements, and the columns of each that show something masked, by their place: `m` where the mask itself is seen, `t`
/// for a concealed text, `n` for any other concealed value, `.` for what is as the database says.
const STATEMENTS: &[(&str, &str)] = &[
    // The table of the report.
    (
        "SELECT c.id, c.email, count(o.id) AS n, sum(o.total) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id WHERE c.id = 1 GROUP BY c.id",
        ".m..",
    ),
    ("SELECT id, email, count(*) OVER () AS full_count FROM customers LIMIT 1", ".m."),
    (
        "SELECT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id) AS has_orders, c.email FROM customers c WHERE id = 1",
        ".m",
    ),
    ("SELECT id, email, now() > created_at AS past FROM customers WHERE id = 1", ".m."),
    ("SELECT row_number() OVER (ORDER BY id) AS rn, id, email FROM customers LIMIT 2", "..m"),
    ("SELECT 'customer' AS kind, id, email FROM customers WHERE id = 1", "..m"),
    ("SELECT id, email, moods::text[] FROM customers WHERE id = 1", ".m."),
    ("SELECT id, email, prefs ->> 'lang' FROM customers WHERE id = 1", ".m."),
    ("SELECT 1, name, upper(email) FROM customers WHERE id = 1", "..t"),
    (
        "INSERT INTO customers (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *, (xmax = 0) AS inserted",
        "..mmm........",
    ),
    // Counting, also over a table with children.
    ("SELECT count(email), count(*) FILTER (WHERE city = 'Oslo') FROM customers", ".."),
    ("SELECT count(email), count(*) FROM ONLY customers", ".."),
    ("SELECT email IS NULL, email IS NOT NULL, id FROM customers ORDER BY id LIMIT 25", "..."),
    ("SELECT count(email) FROM letters", "."),
    ("SELECT sum((email IS NULL)::int), max(id), max(email) FROM customers", "..t"),
    // Expressions beside and over a masked column.
    (
        "SELECT length(email), upper(email), email || '!', 7, true, now() IS NULL, 3.5, '{}'::json, NULL FROM customers WHERE id = 1",
        "ntt......",
    ),
    (
        "SELECT max(email), array_agg(id), min(email), min(created_at), string_agg(name, ',' ORDER BY id) FROM customers",
        "t.t..",
    ),
    (
        "SELECT ROW(id, email), ROW(id, name), to_jsonb(o) FROM customers c, LATERAL (SELECT 1 AS one) o WHERE id = 1",
        "n..",
    ),
    ("SELECT c, 1 FROM customers c WHERE id = 1", "n."),
    ("SELECT o, 1 FROM orders o, customers c WHERE o.customer_id = c.id AND c.id = 18 ORDER BY o.id", ".."),
    ("SELECT (c).id, (c).email, (c).id + 1 FROM customers c WHERE id = 1", ".m."),
    ("SELECT (c).* FROM customers c WHERE id = 1", "..mmm......."),
    ("SELECT (home).street, (home).number, email FROM customers WHERE id = 1", "..m"),
    ("SELECT (home).*, email FROM customers WHERE id = 1", "..m"),
    ("SELECT coalesce(email, name), coalesce(name, 'x'), nullif(1, 2) FROM customers WHERE id = 1", "t.."),
    ("SELECT ctid, tableoid::regclass, xmin, email FROM customers WHERE id IN (1, 1001) ORDER BY id", "...m"),
    ("SELECT greatest(1, 2), least(name, 'b'), email FROM customers WHERE id = 1", "..m"),
    (
        "SELECT CASE WHEN id > 1 THEN 'big' ELSE 'small' END, CASE id WHEN 1 THEN email ELSE 'x' END FROM customers WHERE id < 3 ORDER BY id",
        ".t",
    ),
    (
        "SELECT id, (SELECT count(*) FROM orders o WHERE o.customer_id = c.id), (SELECT email FROM customers d WHERE d.id = c.id) FROM customers c WHERE id = 1",
        "..t",
    ),
    (
        "SELECT ARRAY(SELECT id FROM orders ORDER BY id LIMIT 3), (SELECT upper(email) FROM customers WHERE id = 1)",
        ".t",
    ),
    (
        "SELECT $$a$$, E'\\n', U&'\\0041', B'101', X'1F', 1e3, -5, date '2020-01-01', interval '1 day', email FROM customers WHERE id = 1",
        ".........m",
    ),
    // Aggregates and windows.
    (
        "SELECT city, count(*), count(email), avg(id)::float8, bool_and(id > 0), max(email) FROM customers GROUP BY city",
        ".....t",
    ),
    ("SELECT city, count(*) FROM customers GROUP BY ROLLUP (city) ORDER BY 1", ".."),
    ("SELECT GROUPING(city), city, min(email) FROM customers GROUP BY ROLLUP (city) ORDER BY 1", "..t"),
    (
        "SELECT id, rank() OVER w, ntile(4) OVER w, lag(name) OVER w, lag(email) OVER w, sum(id) OVER w FROM customers WINDOW w AS (ORDER BY id) LIMIT 5",
        "....t.",
    ),
    (
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id), mode() WITHIN GROUP (ORDER BY name), max(email) FROM customers",
        "..t",
    ),
    ("SELECT DISTINCT ON (city) city, id, email FROM customers ORDER BY city, id", "..m"),
    ("SELECT count(DISTINCT name), count(email) FROM customers HAVING count(*) > 1", ".."),
    // Subqueries, CTEs, set operations, VALUES.
    (
        "SELECT s.kind, s.n, s.mail FROM (SELECT 'x' AS kind, count(*) OVER () AS n, email AS mail FROM customers) s LIMIT 2",
        "..m",
    ),
    ("SELECT s.x, s.y FROM (SELECT upper(email), 1 FROM customers WHERE id = 1) s (x, y)", "t."),
    (
        "SELECT * FROM (SELECT id, upper(email) AS u, 5 AS five FROM customers WHERE id < 3) s ORDER BY id",
        ".t.",
    ),
    (
        "WITH c AS (SELECT id, email, 1 AS one FROM customers WHERE id < 3) SELECT one, id, email, one + id FROM c ORDER BY id",
        "..m.",
    ),
    (
        "WITH c AS MATERIALIZED (SELECT count(*) AS n, max(email) AS m FROM customers) SELECT n, m, n * 2 FROM c",
        ".t.",
    ),
    (
        "WITH RECURSIVE r (n, mail) AS (SELECT 1, email FROM customers WHERE id = 1 UNION ALL SELECT n + 1, mail FROM r WHERE n < 3) SELECT n, mail, n * n FROM r",
        ".t.",
    ),
    (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT r.n, c.email FROM r, customers c WHERE c.id = r.n ORDER BY n",
        ".m",
    ),
    ("SELECT 'a', 1 UNION ALL SELECT email, 2 FROM customers WHERE id = 1", "t."),
    ("SELECT id, name FROM customers WHERE id < 3 UNION SELECT 99, 'x' ORDER BY 1", ".."),
    (
        "(SELECT id, 'c', email FROM customers WHERE id = 1) UNION ALL (SELECT id, 'l', email FROM letters WHERE id = 1)",
        "..t",
    ),
    ("VALUES (1, 'a'), (2, 'b')", ".."),
    (
        "SELECT v.a, v.b, c.email FROM (VALUES (1, 'one'), (2, 'two')) v (a, b) JOIN customers c ON c.id = v.a ORDER BY 1",
        "..m",
    ),
    (
        "SELECT t.*, c.email FROM customers c, LATERAL (SELECT count(*) AS n, max(o.id) AS last FROM orders o WHERE o.customer_id = c.id) t WHERE c.id < 3 ORDER BY c.id",
        "..m",
    ),
    ("TABLE letters", "..m"),
    // Joins, and functions in FROM.
    ("SELECT * FROM letters a JOIN letters b USING (id) WHERE id = 1", "..m.m"),
    ("SELECT * FROM letters NATURAL JOIN (SELECT 1 AS id, 'x' AS extra) s", "..m."),
    ("SELECT *, upper(email) FROM letters, generate_series(1, 2) g WHERE id = 1", "..m.t"),
    ("SELECT g, id, email FROM generate_series(1, 2) g JOIN letters ON id = g ORDER BY 1", "..m"),
    ("SELECT * FROM unnest('{1,2}'::int[]) u (id) JOIN letters USING (id) ORDER BY 1", "..m"),
    (
        "SELECT u.*, l.email FROM unnest('{5,6}'::int[]) WITH ORDINALITY u (v, n) JOIN letters l ON l.id = u.n ORDER BY 1",
        "..m",
    ),
    ("SELECT key, value, email FROM letters, jsonb_each_text('{\"a\": 1}') WHERE id = 1", "..m"),
    (
        "SELECT r.*, email FROM letters, json_to_record('{\"a\": 1, \"b\": \"x\"}') AS r (a int, b text) WHERE id = 1",
        "..m",
    ),
    ("SELECT *, 1 FROM json_each('{\"a\": 1}') e, letters WHERE id = 1", "....m."),
    (
        "SELECT x.*, email FROM letters, xmltable('/a' PASSING '<a>1</a>' COLUMNS v int PATH '.', w text PATH '.') x WHERE id = 1",
        "..m",
    ),
    // Views, partitions, children.
    ("SELECT * FROM customer_overview WHERE id < 3 ORDER BY id", "..mt."),
    ("SELECT orders, orders + 1, loud || '', 'x' FROM customer_overview WHERE id = 18", "..t."),
    ("SELECT address, id, 1 FROM contacts WHERE id = 1", "m.."),
    ("SELECT tableoid::regclass, id, email, 1 FROM letters_1 WHERE id = 1", "..m."),
    ("SELECT tier, name, email, 'v' FROM customers_vip WHERE id = 1001", "..m."),
    // What changes rows.
    (
        "INSERT INTO customers (id, name, email) VALUES (5000, 'N', 'n@example.com') RETURNING id, name, email, xmax = 0, id + 1, upper(email)",
        "..m..t",
    ),
    (
        "UPDATE customers SET notes = 'n' WHERE id = 1 RETURNING id, notes, now() IS NOT NULL, length(email)",
        "...n",
    ),
    (
        "UPDATE orders SET status = 'x' FROM customers c WHERE c.id = orders.customer_id AND orders.id = 1 RETURNING orders.id, status, c.email, 1",
        "..m.",
    ),
    ("DELETE FROM letters WHERE id = 1 RETURNING *, 1", "..m."),
    (
        "WITH d AS (DELETE FROM letters WHERE id = 2 RETURNING id, email, 1 AS one) SELECT one, email, count(*) OVER () FROM d",
        ".m.",
    ),
    // Django: exists(), Case(When), annotate(), values(), a subquery's count.
    (
        "SELECT \"customers\".\"id\", \"customers\".\"email\", EXISTS(SELECT 1 AS \"a\" FROM \"orders\" U0 WHERE U0.\"customer_id\" = (\"customers\".\"id\") LIMIT 1) AS \"h\" FROM \"customers\" WHERE \"customers\".\"id\" = 18 LIMIT 21",
        ".m.",
    ),
    (
        "SELECT \"customers\".\"id\", \"customers\".\"email\", CASE WHEN (\"customers\".\"id\" > 1) THEN 'big' ELSE NULL END AS \"k\" FROM \"customers\" ORDER BY \"customers\".\"id\" LIMIT 2",
        ".m.",
    ),
    ("SELECT 1 AS \"a\" FROM \"customers\" WHERE \"customers\".\"id\" = 1 LIMIT 1", "."),
    (
        "SELECT COUNT(*) FROM (SELECT \"customers\".\"id\" AS \"col1\", \"customers\".\"email\" AS \"col2\" FROM \"customers\" LIMIT 10) subquery",
        ".",
    ),
    (
        "SELECT \"customers\".\"id\", COUNT(\"orders\".\"id\") AS \"n\", \"customers\".\"email\" FROM \"customers\" LEFT OUTER JOIN \"orders\" ON (\"customers\".\"id\" = \"orders\".\"customer_id\") WHERE \"customers\".\"id\" < 4 GROUP BY \"customers\".\"id\" ORDER BY 1",
        "..m",
    ),
    (
        "SELECT (\"customers\".\"created_at\" AT TIME ZONE 'UTC')::date AS \"d\", DATE_TRUNC('month', \"customers\".\"created_at\"), \"customers\".\"email\" FROM \"customers\" WHERE id = 1",
        "..m",
    ),
    // Rails: exists?, count, eager_load, pluck with SQL, upsert_all.
    ("SELECT 1 AS one FROM \"customers\" WHERE \"customers\".\"name\" = 'Grace Hopper' LIMIT 1", "."),
    (
        "SELECT \"customers\".\"id\" AS t0_r0, \"customers\".\"email\" AS t0_r1, \"orders\".\"id\" AS t1_r0, \"orders\".\"status\" AS t1_r1 FROM \"customers\" LEFT OUTER JOIN \"orders\" ON \"orders\".\"customer_id\" = \"customers\".\"id\" WHERE \"customers\".\"id\" = 18 ORDER BY 3",
        ".m..",
    ),
    (
        "SELECT COUNT(*) AS count_all, \"orders\".\"status\" AS orders_status FROM \"orders\" GROUP BY \"orders\".\"status\" ORDER BY 2",
        "..",
    ),
    (
        "INSERT INTO \"customers\" (\"id\", \"name\") VALUES (1, 'u'), (7000, 'v') ON CONFLICT (\"id\") DO UPDATE SET \"name\" = EXCLUDED.\"name\" RETURNING \"id\", \"email\", (xmax = 0) AS inserted",
        ".m.",
    ),
    // Prisma: enum arrays as text, counts of relations; Sequelize: findAndCountAll; TypeORM; Hibernate; SQLAlchemy.
    (
        "SELECT \"public\".\"customers\".\"id\", \"public\".\"customers\".\"email\", \"public\".\"customers\".\"moods\"::text[], \"public\".\"customers\".\"tags\" FROM \"public\".\"customers\" WHERE 1=1 ORDER BY id LIMIT 1 OFFSET 0",
        ".m..",
    ),
    (
        "SELECT \"public\".\"customers\".\"id\", \"public\".\"customers\".\"email\", COALESCE(\"aggr_selection_0_orders\".\"_aggr_count_orders\", 0) AS \"_aggr_count_orders\" FROM \"public\".\"customers\" LEFT JOIN (SELECT \"public\".\"orders\".\"customer_id\", COUNT(*) AS \"_aggr_count_orders\" FROM \"public\".\"orders\" WHERE 1=1 GROUP BY \"public\".\"orders\".\"customer_id\") AS \"aggr_selection_0_orders\" ON (\"public\".\"customers\".\"id\" = \"aggr_selection_0_orders\".\"customer_id\") WHERE \"public\".\"customers\".\"id\" = 18",
        ".m.",
    ),
    (
        "SELECT \"t1\".\"id\", \"t1\".\"email\", \"_orders\".\"__prisma_data__\" AS \"orders\" FROM \"public\".\"customers\" AS \"t1\" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG(\"__prisma_data__\"), '[]') AS \"__prisma_data__\" FROM (SELECT JSONB_BUILD_OBJECT('id', \"t2\".\"id\", 'status', \"t2\".\"status\") AS \"__prisma_data__\" FROM \"public\".\"orders\" AS \"t2\" WHERE \"t1\".\"id\" = \"t2\".\"customer_id\" ORDER BY t2.id) AS \"t4\") AS \"_orders\" ON TRUE WHERE t1.id = 18",
        ".m.",
    ),
    ("SELECT count(*) AS \"count\" FROM \"customers\" AS \"Customer\"", "."),
    (
        "SELECT \"Customer\".\"id\" AS \"Customer_id\", \"Customer\".\"email\" AS \"Customer_email\", (SELECT COUNT(\"o\".\"id\") FROM \"orders\" \"o\" WHERE \"o\".\"customer_id\" = \"Customer\".\"id\") AS \"n\" FROM \"customers\" \"Customer\" WHERE id = 18",
        ".m.",
    ),
    (
        "select c1_0.id, c1_0.email, c1_0.name, (select count(o1_0.id) from orders o1_0 where o1_0.customer_id = c1_0.id) from customers c1_0 where c1_0.id = 18",
        ".m..",
    ),
    (
        "SELECT anon_1.id AS anon_1_id, anon_1.email AS anon_1_email, orders_1.id AS orders_1_id, anon_1.anon_2 FROM (SELECT customers.id AS id, customers.email AS email, 1 + 1 AS anon_2 FROM customers WHERE id = 18 LIMIT 1) AS anon_1 LEFT OUTER JOIN orders AS orders_1 ON anon_1.id = orders_1.customer_id ORDER BY 3",
        ".m..",
    ),
    // PostgREST and Hasura.
    (
        "WITH pgrst_source AS (SELECT \"public\".\"orders\".\"id\", \"public\".\"orders\".\"status\" FROM \"public\".\"orders\" WHERE id < 3) SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body FROM (SELECT * FROM pgrst_source ORDER BY id) _postgrest_t",
        "...",
    ),
    (
        "SELECT null::bigint, pg_catalog.count(t) AS page_total, max(email) AS body FROM (SELECT id, email FROM customers WHERE id < 3) t",
        "..t",
    ),
    // Metabase, Superset, Grafana.
    (
        "SELECT \"source\".\"city\" AS \"city\", COUNT(*) AS \"count\", MAX(\"source\".\"email\") AS \"max\" FROM (SELECT \"public\".\"customers\".\"city\" AS \"city\", \"public\".\"customers\".\"email\" AS \"email\" FROM \"public\".\"customers\") AS \"source\" GROUP BY \"source\".\"city\" ORDER BY \"source\".\"city\" ASC LIMIT 1000",
        "..t",
    ),
    (
        "SELECT SUBSTRING(\"public\".\"customers\".\"email\", 1, 1234) AS \"substring1\", \"public\".\"customers\".\"name\" FROM \"public\".\"customers\" WHERE id = 1 LIMIT 10000",
        "t.",
    ),
    (
        "SELECT DATE_TRUNC('day', created_at) AS __timestamp, COUNT(*) AS count FROM public.customers GROUP BY DATE_TRUNC('day', created_at) ORDER BY 1 LIMIT 5",
        "..",
    ),
    (
        "SELECT floor(extract(epoch FROM created_at) / 86400) * 86400 AS \"time\", count(id) AS \"customers\", count(email) FROM customers WHERE created_at BETWEEN '2026-01-01T00:00:00Z' AND '2026-01-03T00:00:00Z' GROUP BY 1 ORDER BY 1",
        "...",
    ),
    ("SELECT email AS __text, id AS __value FROM customers ORDER BY id LIMIT 3", "m."),
];

fn binary(reply: &Reply) -> &[Vec<Option<Vec<u8>>>] {
    assert!(reply.errors.is_empty(), "{:?}", reply.errors);
    &reply.rows
}

/// How a value stands to the one that the database has: `.` equal, `t` and `n` concealed, `m` anything else.
fn letter(value: Option<&[u8]>, direct: Option<&[u8]>) -> char {
    match value {
        _ if value == direct => '.',
        None => 'n',
        Some(b"[redacted]") => 't',
        Some(_) => 'm',
    }
}

/// Whether the letters of a column fit what is expected of it.
fn fits(expected: char, rows: &[Vec<Option<Vec<u8>>>], direct: &[Vec<Option<Vec<u8>>>], at: usize) -> bool {
    let mut letters =
        rows.iter().zip(direct).map(|(row, direct)| letter(row[at].as_deref(), direct[at].as_deref()));
    match expected {
        '.' => letters.all(|letter| letter == '.'),
        // The mask leaves NULL as it is.
        'm' => {
            letters.all(|letter| "m.t".contains(letter))
                && rows.iter().zip(direct).any(|(row, direct)| direct[at].is_none() || row[at] != direct[at])
        }
        't' => rows.iter().all(|row| row[at].as_deref() == Some(b"[redacted]")),
        'n' => rows.iter().all(|row| row[at].is_none()),
        _ => false,
    }
}

/// The statement by itself, undone if it changes anything.
fn ask(client: &mut Client, sql: &str, format: i16) -> Reply {
    let is_change = !sql.trim_start_matches('(').to_lowercase().starts_with("select");
    if is_change {
        assert!(client.query("BEGIN").errors.is_empty());
    }
    let reply = client.extended(sql, &[], format);
    if is_change {
        assert!(client.query("ROLLBACK").errors.is_empty());
    }
    reply
}

#[test]
fn every_column_that_is_made_of_no_masked_one_is_what_the_database_says() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let mut direct = stage.direct_client();
    let mut wrong = String::new();
    for (sql, expected) in STATEMENTS {
        for format in [0, 1] {
            let (reply, control) = (ask(&mut client, sql, format), ask(&mut direct, sql, format));
            assert!(control.errors.is_empty(), "{sql}: {:?}", control.errors);
            if !reply.errors.is_empty() {
                writeln!(wrong, "{sql}\n    {:?}", reply.errors[0].text()).unwrap();
                continue;
            }
            let (rows, control) = (binary(&reply), binary(&control));
            assert!(!control.is_empty() && control[0].len() == expected.len(), "{sql}: {control:?}");
            let is_right = rows.len() == control.len()
                && expected.chars().enumerate().all(|(at, letter)| fits(letter, rows, control, at));
            let conceals = expected.contains(['t', 'n']);
            if !is_right || reply.notices.len() != usize::from(conceals) {
                let found: String = rows[0]
                    .iter()
                    .zip(&control[0])
                    .map(|(value, direct)| letter(value.as_deref(), direct.as_deref()))
                    .collect();
                let notices: Vec<String> =
                    reply.notices.iter().map(nodegate_tests::wire::ServerError::text).collect();
                writeln!(
                    wrong,
                    "{sql}\n    expected {expected} found {found} in format {format}, {notices:?}"
                )
                .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What a plan says and no figure of it: figures that tell of values are concealed, everything else is as EXPLAIN wrote it.
#[test]
fn explain_analyze_shows_the_plan_and_conceals_what_tells_of_values() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let sorted = "SELECT email FROM letters_1 ORDER BY body DESC LIMIT 3";
    let text = client.query(&format!("EXPLAIN (ANALYZE, BUFFERS) {sorted}"));
    let lines: Vec<String> = text.texts().into_iter().map(|row| row[0].clone()).collect();
    let all = lines.join("\n");
    assert!(lines[0].starts_with("Limit  (cost=") && lines[0].contains("actual time="), "{all}");
    assert!(all.contains("Sort Key: body DESC") && all.contains("rows=9 loops=1"), "{all}");
    assert!(all.contains("Execution Time: ") && all.contains("Planning Time: "), "{all}");
    assert!(all.contains("Sort Method: [redacted]") && !all.contains("Memory:"), "{all}");
    assert!(all.contains("Buffers: [redacted]") && !all.contains("shared hit"), "{all}");
    assert_eq!(text.notices.len(), 1, "{:?}", text.notices);
    assert!(text.notices[0].message().contains("\"QUERY PLAN\""), "{:?}", text.notices);
    for (format, known, hidden, shown) in [
        ("JSON", "\"Sort Key\": [\"body DESC\"]", "\"Sort Space Used\": null", "\"Actual Rows\": 3"),
        (
            "XML",
            "<Item>body DESC</Item>",
            "<Sort-Space-Used></Sort-Space-Used>",
            "<Actual-Rows>3</Actual-Rows>",
        ),
        ("YAML", "- \"body DESC\"", "Sort Space Used: null", "Actual Rows: 3"),
    ] {
        for wire in [0, 1] {
            let reply = client.extended(&format!("EXPLAIN (ANALYZE, FORMAT {format}) {sorted}"), &[], wire);
            let rows = reply.texts();
            let plan = &rows[0][0];
            assert!(
                rows.len() == 1 && plan.contains(known) && plan.contains(hidden) && plan.contains(shown),
                "{plan}"
            );
            if format == "JSON" {
                let plan: serde_json::Value = serde_json::from_str(plan).expect("a document");
                assert_eq!(plan[0]["Plan"]["Node Type"], "Limit");
            }
        }
    }
    // How often a trigger was called tells whether a key was changed; how much log was written, how far two values agree.
    stage.postgres.script(
        "CREATE UNIQUE INDEX ON logins (email); ALTER TABLE logins ADD FOREIGN KEY (email) REFERENCES customers (email)",
    );
    let sql = "EXPLAIN (ANALYZE, WAL, TIMING OFF) UPDATE customers SET email = 'a@example.com' WHERE id = 1";
    client.query("BEGIN");
    let all = client.query(sql).texts().concat().join("\n");
    client.query("ROLLBACK");
    assert!(
        all.contains("Update on customers") && !all.contains("calls=") && !all.contains("bytes="),
        "{all}"
    );
    // Of what reads nothing masked every figure is shown, and of what is only planned as well.
    for sql in
        ["EXPLAIN ANALYZE SELECT id FROM orders ORDER BY status", "EXPLAIN (ANALYZE, FORMAT JSON) SELECT 1"]
    {
        let reply = client.query(sql);
        let all = reply.texts().concat().join("\n");
        assert!(!all.contains("[redacted]") && !all.contains("null") && reply.notices.is_empty(), "{all}");
    }
    let planned = client.query("EXPLAIN SELECT upper(email) FROM customers").texts().concat().join("\n");
    assert!(planned.contains("Seq Scan on customers customers_1  (cost="), "{planned}");
    // A guard over a subplan would tell by how often that ran.
    let guarded = client.query(
        "EXPLAIN ANALYZE SELECT CASE WHEN email LIKE 'a%' THEN EXISTS (SELECT FROM orders o WHERE o.id > c.id) END FROM customers c",
    );
    assert_eq!(guarded.error().code(), "42501");
}

#[test]
fn one_notice_for_a_statement_names_what_is_concealed_and_by_which_rule() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let reply =
        client.query("SELECT upper(email) AS loud, length(ssn), id FROM customers ORDER BY id LIMIT 5");
    assert_eq!(
        (reply.order.as_str(), reply.rows.len()),
        ("TDNDDDDCZ", 5),
        "behind the first row that it is true of"
    );
    let notice = &reply.notices[0];
    assert_eq!((notice.field('S'), notice.field('V'), notice.code()), ("NOTICE", "NOTICE", "00000"));
    assert_eq!(
        notice.message(),
        "nodegate: concealed in this result: \"loud\", \"length\", computed of public.customers.email, public.customers.ssn"
    );
    assert_eq!(notice.field('D'), "policy: mask-personal-data, mask-secrets");
    for silent in [
        "SELECT upper(email) FROM customers WHERE false",
        "SELECT email, ssn, id FROM customers",
        "SELECT count(*), count(email) FROM customers",
        "INSERT INTO customers (id, name) VALUES (9000, 'x')",
    ] {
        assert!(client.query(silent).notices.is_empty(), "{silent}");
    }
    let several = client.query(
        "SELECT upper(email) FROM customers LIMIT 2; SELECT 1; SELECT lower(ssn) FROM customers LIMIT 2",
    );
    assert_eq!(
        (several.order.as_str(), several.notices.len()),
        ("TDNDCTDCTDNDCZ", 2),
        "one for each statement"
    );
    assert!(several.notices[1].message().contains("public.customers.ssn"), "{:?}", several.notices[1]);
    assert_eq!(
        several.rows[2][0].as_deref(),
        Some(&b"1"[..]),
        "the statement between them shows what it says"
    );
    // A portal that is fetched in pieces is one statement, and a pipeline has one for each of its own.
    client.parse("", "SELECT upper(email) FROM customers LIMIT 5");
    client.bind("", "", &[], 0);
    for _ in 0..3 {
        client.execute("", 2);
    }
    let pieces = client.sync();
    assert_eq!((pieces.order.as_str(), pieces.rows.len()), ("12DNDsDDsDCZ", 5));
    for sql in
        ["SELECT upper(email) FROM customers LIMIT 1", "SELECT 7", "SELECT lower(ssn) FROM customers LIMIT 1"]
    {
        client.parse("", sql);
        client.bind("", "", &[], 1);
        client.execute("", 0);
    }
    let pipeline = client.sync();
    assert_eq!((pipeline.order.as_str(), pipeline.notices.len()), ("12DNC12DC12DNCZ", 2));
    assert_eq!(pipeline.rows[1][0].as_deref(), Some(&[0, 0, 0, 7][..]));
    // EXECUTE, and FETCH of a cursor.
    client.query("PREPARE q AS SELECT id, now() IS NULL, name FROM customers ORDER BY id LIMIT 1");
    assert_eq!(client.query("EXECUTE q").texts(), [["1", "f", "Grace Hopper"]]);
    client.query("BEGIN");
    client.query("DECLARE c CURSOR FOR SELECT id, name, id + 1 FROM customers ORDER BY id");
    assert_eq!(client.query("FETCH 1 FROM c").texts(), [["1", "Grace Hopper", "2"]]);
    client.query("COMMIT");
}

#[test]
fn a_target_can_do_without_notices() {
    let stage = Stage::with(|settings| settings.targets[0].more.push_str("    concealed: silent\n"));
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let reply = client.query("SELECT upper(email) FROM customers LIMIT 2");
    assert_eq!((reply.order.as_str(), reply.texts()), ("TDDCZ", vec![vec!["[redacted]".to_owned()]; 2]));
}

#[test]
fn a_column_that_cannot_be_traced_refuses_the_statement_and_is_named() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    // Two functions of unknown numbers of columns, and a computed masked value between them.
    let sql = "SELECT * FROM json_populate_record(NULL::products, '{\"id\": 1}') a, (SELECT upper(email) AS loud FROM letters LIMIT 1) b, json_populate_record(NULL::products, '{\"id\": 2}') c";
    let reply = client.query(sql);
    let error = reply.error();
    assert_eq!(
        (error.code(), reply.order.as_str(), error.field('D')),
        ("42501", "EZ", "policy: builtin/untraceable-column")
    );
    assert!(
        error.message().contains("\"loud\"") && error.message().contains("public.letters.email"),
        "{error:?}"
    );
    let named = client.query("SELECT a.key, b.loud, c.value FROM json_each('{\"a\": 1}') a, (SELECT upper(email) AS loud FROM letters LIMIT 1) b, jsonb_each('{\"b\": 2}') c");
    assert_eq!(named.texts(), [["a", "[redacted]", "2"]]);
}
