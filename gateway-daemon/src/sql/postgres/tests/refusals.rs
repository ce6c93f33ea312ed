use super::check;

#[test]
fn secrets_are_refused_by_every_name() {
    for text in [
        "SELECT * FROM pg_authid",
        "SELECT rolpassword FROM pg_catalog.pg_authid",
        "SELECT 1 FROM pg_shadow",
        "SELECT * FROM customers WHERE name IN (SELECT passwd FROM pg_shadow)",
        "WITH x AS (SELECT * FROM pg_stats) SELECT 1",
        "COPY pg_statistic TO STDOUT",
        "EXPLAIN SELECT * FROM pg_stat_activity",
        "SELECT * FROM information_schema.user_mapping_options",
        "SELECT * FROM ext.pg_stat_statements",
        "SELECT * FROM pg_toast.pg_toast_16384",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_catalog.pg_read_binary_file('x')",
        "SELECT * FROM pg_ls_dir('/')",
        "SELECT * FROM pg_stat_get_activity(NULL)",
        "SELECT pg_stat_get_backend_activity(1)",
        "CREATE VIEW v AS SELECT * FROM pg_user_mapping",
        "ALTER ROLE app_agent PASSWORD 'x'",
        "SHOW ssl_passphrase_command",
        "SELECT current_setting('primary_conninfo')",
        "TABLE pg_subscription",
        "SELECT subconninfo FROM pg_subscription",
        "SELECT 1 FROM pg_subscription WHERE subconninfo LIKE 'a%'",
        "SELECT s FROM pg_subscription AS s",
        "SELECT x FROM (SELECT subconninfo AS x FROM pg_subscription) AS s",
        "PREPARE p AS SELECT subconninfo FROM pg_subscription",
        "COPY pg_subscription TO STDOUT",
    ] {
        check(&[(text, "builtin/system-secrets: …")]);
    }
}

#[test]
fn session_state_is_refused_by_every_route() {
    for text in [
        "SET search_path = pg_catalog, public",
        "SET search_path = PG_TEMP, public",
        "SET search_path FROM CURRENT",
        "SELECT set_config('role', 'postgres', false) FROM notes",
        "SET transform_null_equals = on",
        "SET standard_conforming_strings = off",
        "SET backslash_quote = on",
        "SET client_encoding = 'SJIS'",
        "SET NAMES 'latin1'",
        "SELECT pg_catalog.set_config('search_path', 'x, PG_catalog', false)",
        "SELECT pg_catalog.set_config('search_path', 'x y', false)",
        "SELECT pg_catalog.set_config('search_path', '', false) FROM notes",
        "SELECT pg_catalog.set_config('search_path', '', false), 1",
        "SELECT set_config('search_path', '', false) LIMIT 1",
        "SELECT set_config('search_path', '', false) OVER ()",
        "SELECT set_config('search_path', '', false) UNION SELECT 'x'",
        "PREPARE p AS SELECT set_config('search_path', '', false)",
        "EXPLAIN ANALYZE SELECT set_config('search_path', '', false)",
        "SELECT set_config(name, '', false) FROM pg_settings WHERE name = 'search_path'",
        "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name > 'work_mem'",
        "SELECT set_config(name, 'x', false) FROM pg_settings s (s) WHERE name = 'work_mem'",
        "SELECT set_config(name, 'x', false) FROM notes WHERE name = 'work_mem'",
        "WITH pg_settings (name) AS (VALUES ('role')) SELECT set_config(name, 'x', false) FROM pg_settings \
         WHERE name = 'work_mem'",
        "SELECT set_config('sea' || 'rch_path', 'x', false)",
        "SELECT set_config(name, setting, false) FROM pg_settings",
        "EXPLAIN ANALYZE SELECT set_config('role', 'x', true)",
    ] {
        check(&[(text, "builtin/session-state: …")]);
    }
}

#[test]
fn what_the_grammar_does_not_take_is_unreadable() {
    check(&[
        (
            "SELEC 1",
            "builtin/unreadable-sql: nodegate could not read this SQL with PostgreSQL's own grammar…",
        ),
        ("SELECT 1; SELEC", "builtin/unreadable-sql: …"),
        ("SELECT 'open", "builtin/unreadable-sql: …"),
        ("SELECT 1\0; DROP TABLE x", "builtin/unreadable-sql: this SQL text holds a NUL byte"),
    ]);
}

#[test]
fn hidden_statements_are_found() {
    check(&[
        ("SELECT 'a;b'; /* ; */ DELETE FROM notes -- x", "select - ; delete notes | unlimited"),
        ("SELECT $a$ ; DROP TABLE x; $b$ $a$", "select -"),
        ("SELECT E'\\'; DROP TABLE customers; --'", "select -"),
        ("SELECT '\\'; DROP TABLE customers; --'", "select - ; drop customers"),
        ("/* /* */ DROP TABLE customers; */ SELECT 1", "select -"),
        ("EXPLAIN ANALYZE VERBOSE INSERT INTO notes DEFAULT VALUES", "insert notes, explain -"),
        ("SELECT * FROM (WITH d AS (SELECT 1) SELECT * FROM d) x", "select -"),
        (
            "CREATE TABLE t AS WITH d AS (DELETE FROM notes RETURNING *) SELECT * FROM d",
            "select -, delete notes, create t | M notes.body notes.id | unlimited",
        ),
    ]);
}
