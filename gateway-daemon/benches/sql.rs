//! How long it takes to read SQL: what pgbench sends, what psql's `\d` sends, and a join of about 1 KiB.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway_daemon::domain::catalogue::{Catalogue, Column, Relation, RelationKind};
use gateway_daemon::domain::statement::RelationName;
use gateway_daemon::sql::postgres::{Shape, offline_catalogue, read};

const TABLES: &[(&str, &[&str])] = &[
    ("pgbench_accounts", &["aid", "bid", "abalance", "filler"]),
    ("pgbench_history", &["tid", "bid", "aid", "delta", "mtime", "filler"]),
    ("customers", &["id", "name", "email", "ssn", "created"]),
    ("orders", &["id", "customer_id", "total", "status", "note", "placed_at"]),
    ("lines", &["order_id", "product_id", "quantity", "price"]),
    ("products", &["id", "name", "category"]),
];

const DESCRIBE: &str = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
    (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d \
    WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull, \
    (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t WHERE c.oid = a.attcollation \
    AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation, a.attidentity, a.attgenerated \
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16386' AND a.attnum > 0 AND NOT a.attisdropped \
    ORDER BY a.attnum;";

const JOIN: &str = "WITH recent AS (SELECT o.id, o.customer_id, o.total, o.placed_at FROM orders o \
    WHERE o.placed_at > now() - interval '30 days' AND o.status IN ('paid', 'shipped', 'delivered')), \
    per_customer AS (SELECT r.customer_id, count(*) AS orders, sum(r.total) AS spent, max(r.placed_at) AS last_order \
    FROM recent r GROUP BY r.customer_id HAVING sum(r.total) > 100) \
    SELECT c.id, c.name, p.orders, p.spent, p.last_order, \
    (SELECT string_agg(DISTINCT pr.category, ', ' ORDER BY pr.category) FROM lines l \
    JOIN products pr ON pr.id = l.product_id WHERE l.order_id IN (SELECT r.id FROM recent r \
    WHERE r.customer_id = c.id)) AS categories, \
    CASE WHEN p.spent > 1000 THEN 'gold' WHEN p.spent > 500 THEN 'silver' ELSE 'bronze' END AS tier \
    FROM customers c JOIN per_customer p ON p.customer_id = c.id LEFT JOIN LATERAL (SELECT o.note FROM orders o \
    WHERE o.customer_id = c.id AND o.note IS NOT NULL ORDER BY o.placed_at DESC LIMIT 1) n ON true \
    WHERE c.created < $1 AND (c.name ILIKE $2 OR n.note ILIKE $2) ORDER BY p.spent DESC, c.name LIMIT 50 OFFSET 100";

fn catalogue() -> Catalogue {
    let mut catalogue = offline_catalogue();
    for (oid, (name, columns)) in (90_000..).zip(TABLES) {
        let columns = (1..)
            .zip(*columns)
            .map(|(number, name)| Column {
                name: (*name).to_owned(),
                number,
                type_oid: 25,
                modifier: -1,
                collation: 100,
                origins: std::collections::BTreeSet::new(),
                is_computed: false,
            })
            .collect();
        let name = RelationName { schema: "public".to_owned(), name: (*name).to_owned() };
        catalogue.insert(Relation { oid, name, kind: RelationKind::Table, columns });
    }
    catalogue
}

fn benches(criterion: &mut Criterion) {
    let catalogue = catalogue();
    let mut group = criterion.benchmark_group("sql");
    for (name, text) in [
        ("begin", "BEGIN;"),
        ("pgbench select", "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;"),
        ("pgbench update", "UPDATE pgbench_accounts SET abalance = abalance + 1234 WHERE aid = 12345;"),
        (
            "pgbench insert",
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 12345, 1234, CURRENT_TIMESTAMP);",
        ),
        ("psql describe", DESCRIBE),
        ("join of 1 KiB", JOIN),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| read(black_box(text), &catalogue)));
    }
    group.finish();
    // What it costs to find a text that differs from one before in its numbers only.
    let text = "UPDATE pgbench_accounts SET abalance = abalance + 1234 WHERE aid = 12345;";
    criterion.bench_function("shape of pgbench update", |bencher| {
        bencher.iter(|| Shape::of(black_box(text)).key(&[]));
    });
}

criterion_group!(sql, benches);
criterion_main!(sql);
