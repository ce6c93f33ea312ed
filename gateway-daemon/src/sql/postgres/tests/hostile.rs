//! Nesting and size: an answer or an error, never an overflow; and quickly.

use std::thread;

use super::{check, shop};
use crate::sql::postgres::{MAX_TEXT_BYTES, SqlError, read};

/// The stack of the threads that parse.
const STACK_BYTES: usize = 64 * 1024 * 1024;

fn shapes(levels: usize) -> Vec<(&'static str, String)> {
    let nest = |open: &str, middle: &str, close: &str| {
        format!("SELECT {}{middle}{}", open.repeat(levels), close.repeat(levels))
    };
    vec![
        ("plus", nest("1+", "1", "")),
        ("parentheses", nest("(", "1", ")")),
        ("not", nest("NOT ", "true", "")),
        ("minus", nest("- ", "1", "")),
        ("case", nest("CASE WHEN true THEN ", "1", " END")),
        ("array", nest("ARRAY[", "1", "]")),
        ("subselect", nest("(SELECT ", "1", ")")),
        ("function", nest("abs(", "1", ")")),
        ("row", nest("ROW(", "1", ")")),
        ("cast", nest("", "1", "::int")),
        ("subscript", nest("", "x", "[1]")),
        ("field", nest("", "(x)", ".a")),
        ("concatenation", nest("'a' || ", "'a'", "")),
        ("union", format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(levels))),
        ("and", format!("SELECT 1 WHERE true{}", " AND true".repeat(levels))),
        ("and nested", nest("(true AND ", "true", ")")),
        ("from", format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(levels), ") x".repeat(levels))),
        ("join", format!("SELECT 1 FROM a{}", " JOIN a ON true".repeat(levels))),
        (
            "with",
            format!(
                "{}SELECT 1{}",
                "WITH RECURSIVE t AS (".repeat(levels),
                ") SELECT 1 FROM t".repeat(levels)
            ),
        ),
        ("explain", format!("{}SELECT 1", "EXPLAIN ".repeat(levels))),
        ("statements", "SELECT 1;".repeat(levels)),
        ("list", format!("SELECT 1{}", ",1".repeat(levels))),
        ("comment", format!("{}SELECT 1{}", "/*".repeat(levels), "*/".repeat(levels))),
    ]
}

#[test]
fn any_depth_ends_in_an_answer() {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        let catalogue = shop();
        for levels in [10, 40, 100, 400, 1_000, 5_000, 20_000, 100_000] {
            for (name, text) in shapes(levels) {
                let start = std::time::Instant::now();
                let result = read(&text, &catalogue);
                let took = start.elapsed();
                assert!(took.as_secs() < 20, "{name} × {levels} took {took:?}");
                if text.len() > MAX_TEXT_BYTES {
                    assert!(matches!(result, Err(SqlError::TooLong { .. })), "{name} × {levels}");
                }
            }
        }
    });
    thread.unwrap().join().unwrap();
}

/// A text that is read on the caller's stack needs no more of it than `read` promises.
#[test]
fn short_texts_need_little_stack() {
    let thread = thread::Builder::new().stack_size(32 * 1024 * 1024).spawn(|| {
        let catalogue = shop();
        for levels in 1..2_000 {
            for (_, text) in shapes(levels) {
                if (1_800..=2_048).contains(&text.len()) {
                    let _ = read(&text, &catalogue);
                }
            }
        }
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn work_is_bounded() {
    let catalogue = shop();
    // Every unknown name means every column of every source.
    let wide =
        format!("SELECT {} FROM {}", vec!["x"; 20_000].join(","), vec!["customers a"; 2_000].join(","));
    assert_eq!(read(&wide, &catalogue), Err(SqlError::TooComplex));
}

#[test]
fn honest_sizes_are_read() {
    let catalogue = shop();
    for (name, text) in shapes(20) {
        if name != "explain" && name != "with" && name != "comment" {
            assert!(read(&text, &catalogue).is_ok(), "{name}: {:?}", read(&text, &catalogue));
        }
    }
    let list = format!("SELECT name FROM customers WHERE id IN ({})", vec!["12345"; 10_000].join(","));
    check(&[(&list, "select customers | P customers.name | C customers.id")]);
    let rows = format!("INSERT INTO notes VALUES {}", vec!["(1, 'a note of some length')"; 5_000].join(","));
    check(&[(&rows, "insert notes | W notes.body notes.id")]);
}
