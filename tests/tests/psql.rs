//! That psql stays psql: its meta-commands, its completion and its \copy, unmodified and captured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, process::Command, time::Duration};

use nodegate_tests::{
    postgres,
    programs::said,
    stage::{Stage, psql_words},
};

#[test]
fn meta_commands_show_what_they_show_without_nodegate() {
    let stage = Stage::new();
    for command in [
        "\\d",
        "\\dt",
        "\\dt+",
        "\\l",
        "\\d customers",
        "\\d+ orders",
        "\\d contacts",
        "\\dv",
        "\\di",
        "\\dn",
        "\\du",
        "\\ds",
        "\\dp",
        "\\df",
        "\\dT",
        "\\encoding",
    ] {
        let script = format!("{command}\n");
        let captured = stage.psql_script(&[], &script);
        let direct = stage.direct(postgres::PASSWORD, &[], &script);
        assert_eq!(captured.err, "", "{command}");
        assert_eq!(captured.ok(), direct.ok(), "{command}");
        assert!(!captured.out.trim().is_empty(), "{command} shows something");
    }
}

#[test]
fn tab_completion_finds_tables_and_columns() {
    let stage = Stage::new();
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    run.args(psql_words(&stage.postgres, &["-At", "-P", "pager=off"]));
    let words = std::iter::once(run.get_program()).chain(run.get_args());
    let line = words.fold(String::new(), |line, word| line + "'" + &word.to_string_lossy() + "' ");
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "dumb").env("PGPASSWORD", "wrong");
    // Completion offers one name only where one fits: `custom…` and the one product column that starts with `st`.
    let typed = "SELECT count(*) + 4000 FROM custom\t;\nSELECT max(s\t) + 5000 FROM produ\t;\n\\q\n";
    let seen = said(&mut terminal, typed, Duration::from_secs(30));
    assert!(seen.out.contains("4300"), "{}", seen.out);
}

#[test]
fn copy_from_a_file_brings_its_rows_in() {
    let stage = Stage::new();
    let file = stage.daemon.folder().join("products.csv");
    fs::write(&file, "Lantern,12.50,7\nTent,99.00,2\n").unwrap();
    let script = format!("\\copy products (name, price, stock) from '{}' csv\n", file.display());
    let copied = stage.psql_script(&[], &script);
    assert_eq!(copied.ok().trim(), "COPY 2", "{}", copied.err);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM products WHERE name IN ('Lantern', 'Tent')"), "2");
}

#[test]
fn copy_of_a_table_without_masked_columns_is_passed_on() {
    let stage = Stage::new();
    let copied =
        stage.psql_script(&["-At"], "COPY (SELECT id FROM products ORDER BY id LIMIT 2) TO STDOUT;\n");
    assert_eq!(copied.ok(), "1\n2\n", "{}", copied.err);
}

#[test]
fn harmless_text_that_looks_forbidden_is_passed_on() {
    let stage = Stage::new();
    for (sql, answer) in [
        ("SELECT 'DROP TABLE customers' AS email", "DROP TABLE customers\n"),
        ("SELECT $$a; DROP TABLE customers$$", "a; DROP TABLE customers\n"),
        ("SELECT 1 /* ; DROP TABLE customers */ -- ; DROP", "1\n"),
        ("WITH email AS (SELECT 7 AS email) SELECT email FROM email", "7\n"),
        ("SELECT count(*) AS email FROM orders WHERE status = 'delete from'", "0\n"),
    ] {
        assert_eq!(stage.psql(sql).ok(), answer, "{sql}");
    }
    stage.psql("EXPLAIN SELECT * FROM orders").ok();
}
