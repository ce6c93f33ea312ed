//! What ordinary clients send on their own must be readable and free of anything opaque.

use std::fmt::Write as _;

use super::{offline_catalogue, read};

/// Every query of `text`, set apart by lines of `--;;`, must be read against an empty database without a doubt.
fn transparent(text: &str) {
    let catalogue = offline_catalogue();
    let mut wrong = String::new();
    for query in text.split("\n--;;\n") {
        match read(query, &catalogue) {
            Ok(statements) => {
                for statement in statements.iter().filter(|statement| !statement.opaque.is_empty()) {
                    writeln!(wrong, "{:?}\n{query}\n", statement.opaque).unwrap();
                }
            }
            Err(error) => writeln!(wrong, "{}: {error}\n{query}\n", error.rule()).unwrap(),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Recorded from psql 15 with a list of half-typed statements.
#[test]
fn tab_completion_is_transparent() {
    transparent(include_str!("psql15_completion.sql"));
}

#[test]
fn pgbench_is_transparent() {
    transparent(
        "BEGIN;\n--;;\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 2;\n--;;\n\
         SELECT abalance FROM pgbench_accounts WHERE aid = 1;\n--;;\n\
         INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);\n--;;\n\
         select o.n, p.partstrat, pg_catalog.count(i.inhparent) from pg_catalog.pg_class as c \
         join pg_catalog.pg_namespace as n on (n.oid = c.relnamespace) \
         cross join lateral (select pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname)) as o(n) \
         left join pg_catalog.pg_partitioned_table as p on (p.partrelid = c.oid) \
         left join pg_catalog.pg_inherits as i on (c.oid = i.inhparent) \
         where c.relname = 'pgbench_accounts' and o.n is not null group by 1, 2 order by 1 asc limit 1\n--;;\n\
         vacuum pgbench_branches\n--;;\ntruncate pgbench_history\n--;;\n\
         copy pgbench_accounts from stdin with (freeze on)",
    );
}
